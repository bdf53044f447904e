"""What a night does besides searching: kept traces, known findings, branches; and the abstract states that it counts."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from catalogue import ENTRIES

from hvmodel import operations as ops
from hvmodel.configuration import Configuration
from hvmodel.gears.minimise import Target, minimise
from hvmodel.jobs.findings import Finding
from hvmodel.jobs.nightly import coverage_sample, species, steps
from hvmodel.jobs.nightly.coverage_sample import driver_files, measure
from hvmodel.jobs.nightly.ledger import Entry
from hvmodel.jobs.nightly.ledger_file import FINDING, entry_of
from hvmodel.jobs.nightly.plan import ALONE, make_plan
from hvmodel.jobs.nightly.portions import Portion
from hvmodel.jobs.nightly.steps import Setup
from hvmodel.jobs.nightly.worker import finding_record
from hvmodel.traces.corpus import keep
from hvmodel.world import World

POSTED = "posted-v0"


def plan_for(driver: str) -> Any:
    """A night of a driver."""
    return make_plan(driver, "2026-11-24", ALONE, 0, 300)


def finding(key: str) -> Finding:
    """A finding of the posted driver, from the catalogue."""
    known = ENTRIES[key]
    small = minimise(known.config, list(known.operations), POSTED, Target(known.property), limit=60)
    assert small is not None
    return Finding(small, POSTED, "walk", "1/0/7")


def entry(key: str) -> Entry:
    """The same, as the ledger has it."""
    record = finding_record(finding(key), "", Portion("walk", 0))
    return entry_of({name: record[name] for name in FINDING})


def test_known_findings_are_put_to_the_test() -> None:
    """Protects *fixed* from wishful thinking: a trace that fails as it did is there, one on which the property holds is gone, and
    one that cannot be read, or in which nothing happens any more, says neither."""
    good = entry("D01")
    unreadable = replace(good, signature="a/b/00000001", trace={"hvmodel-trace": 99})
    nothing = {**good.trace, "operations": [{"op": "disown", "group": 0}], "observed": []}
    idle = replace(good, signature="a/b/00000002", trace=nothing)
    other = replace(good, signature="a/b/00000003", shape=("another manner",))
    known = {item.signature: item for item in (good, unreadable, idle, other)}
    data = steps.known(Setup(plan_for(POSTED), known), 0).data
    assert data["failing"] == [good.signature]
    assert data["passing"] == [other.signature], "what fails in another manner is another finding"
    assert data["untested"] == [unreadable.signature, idle.signature]
    assert steps.known(Setup(plan_for("repaired"), {good.signature: good}), 0).data["passing"] == [good.signature]


def test_kept_traces_are_replayed(tmp_path: Path) -> None:
    """Protects the regression corpus: a kept trace that does what it says is counted, one that does not is a line with its name,
    and so is one that cannot be read."""
    setup = Setup(plan_for("repaired"), corpus=tmp_path)
    assert steps.corpus(setup, 0).data == {"traces": 0, "problems": [], "said": "none is kept"}
    assert steps.corpus(replace(setup, corpus=None), 0).data["said"] == "none is kept"
    keep(finding("D01").as_trace(), "input-page", tmp_path, "a story", (POSTED,), ("repaired",))
    assert steps.corpus(setup, 0).data == {"traces": 1, "problems": [], "said": ""}
    about = tmp_path / "input-page" / "finding.toml"
    about.write_text(about.read_text().replace('holds = ["repaired"]', 'holds = ["posted-v0"]'))
    (problem,) = steps.corpus(setup, 0).data["problems"]
    assert problem.startswith("input-page: input-page-bounds fails on posted-v0, expected: holds")
    about.write_text("fails = 3")
    (problem,) = steps.corpus(setup, 0).data["problems"]
    assert "finding.toml" in problem
    assert "\n" not in problem


def test_the_files_of_a_driver() -> None:
    """Protects the figure of branches: counted are the driver's own files and those that it inherits from, not its neighbours."""
    posted, repaired, variant = ([Path(name).name for name in driver_files(name)] for name in (POSTED, "repaired", "repaired+D05"))
    assert posted == ["posted_v0.py"]
    assert {"driver.py", "mappings.py"} <= set(repaired)
    assert set(repaired) < set(variant)
    assert "interface.py" not in {*posted, *repaired, *variant}


def test_branches_are_measured_or_it_is_said_why(monkeypatch: pytest.MonkeyPatch) -> None:
    """Protects a night without coverage.py: a figure is missing and the reason is given; a failure of it is a reason, too."""
    monkeypatch.setattr(coverage_sample, "find_spec", lambda name: None)
    assert measure(plan_for(POSTED)) == {"said": "coverage.py is not installed"}

    def fail(plan: object) -> None:
        raise RuntimeError("two measure at once")

    monkeypatch.setattr(steps, "measure", fail)
    assert steps.coverage(Setup(plan_for(POSTED)), 0).data == {"said": "RuntimeError: two measure at once"}


def test_branches_with_coverage() -> None:
    """Protects the figure itself where coverage.py is there: branches that the runs take are taken, and the others are named."""
    pytest.importorskip("coverage")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(coverage_sample, "SAMPLE", 3)
        data = measure(plan_for(POSTED))
    assert 0 < data["taken"] < data["branches"]
    assert len(data["never"]) == data["branches"] - data["taken"]
    assert all(name.startswith("hvmodel/drivers/posted_v0.py:") for name in data["never"])


def state_after(*operations: ops.Operation) -> str:
    """The abstract state after some operations on the repaired driver."""
    world = World(Configuration(), "repaired")
    for operation in operations:
        world.apply(operation)
    return species.name_of(species.abstract(world))


def test_abstract_states_tell_situations_apart() -> None:
    """Protects the estimate over states: where domains and devices stand makes another state; addresses, sizes, numbers of a kind
    and which domain it is do not."""
    boot, alloc = ops.Boot(), ops.Alloc(1)
    states = [
        state_after(boot),
        state_after(boot, alloc),
        state_after(boot, alloc, ops.Map(1, 0x100000, 0x40000000, 1)),
        state_after(boot, alloc, ops.Attach(1)),
        state_after(boot, alloc, ops.Attach(1), ops.Map(1, 0x100000, 0x40000000, 1)),
    ]
    assert len(set(states)) == len(states)
    assert state_after(boot, alloc, ops.Map(1, 0x200000, 0x50000000, 99)) == states[2]
    assert state_after(boot, alloc, ops.Alloc(2)) == states[1]
    assert state_after(boot, ops.Alloc(2), ops.Attach(2)) == states[3]
    assert state_after(boot, alloc, ops.Map(1, 0x100000, 0x40000000, 1), ops.Unmap(1, 0x100000, 1)) == states[1]
