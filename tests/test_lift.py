"""Lifting: the same failure by somebody with less power."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from catalogue import ENTRIES
from hypothesis import given, settings
from hypothesis import strategies as st
from native_subject import needs_compiler, planted

from hvmodel import operations as ops
from hvmodel.callers.levels import BEYOND, KERNEL
from hvmodel.callers.means import CORE, HOST, NEEDS, USER, means_of
from hvmodel.cli import main
from hvmodel.configuration import DEVICES, Configuration
from hvmodel.faults import Fault
from hvmodel.gears.lift import by_search, by_translation
from hvmodel.gears.lift.translate import STYLES, Style, roomy, translated, translations
from hvmodel.gears.minimise import Target, minimise
from hvmodel.gears.walk import walk
from hvmodel.jobs import hunt as hunt_module
from hvmodel.jobs import lift as lift_module
from hvmodel.jobs.findings import Finding, Group, save_findings, written
from hvmodel.jobs.lift import finding_of, goal_of, lift_findings
from hvmodel.traces.format import Trace, from_json, read, to_json, write
from hvmodel.traces.verdict import verdict_of
from hvmodel.world import run

MIB, RAM = 1 << 20, 0x40000000
ONE = Configuration(devices=DEVICES[:1])
UNMAP, ATTACH = "UNMAP_DEVICE_GPA_PAGES", "ATTACH_DEVICE_DOMAIN"


def finding(name: str, operations: Sequence[ops.Operation], config: Configuration = ONE, driver: str = "posted-v0") -> Finding:
    """What operations show of a property."""
    return finding_of(Trace(config, list(operations), driver, name))


PARTIAL = (
    ops.Boot(),
    ops.Alloc(),
    ops.Map(1, MIB, RAM, 16),
    ops.Unmap(1, MIB, 16, faults=(Fault(UNMAP, 1, 0x71, 4),)),
)
"""An unmap that is refused after a quarter of its pages."""

HALF = ops.VfioUnmap(1, MIB, 16, faults=PARTIAL[-1].faults)
"""The same as user space asks for it."""

DIRECT = (ops.Boot(), ops.VmCreate(1), ops.Alloc(by=1), ops.DriverMap(1, MIB, RAM, pgcount=0, mapped=False))
"""A map without a place to say how much was mapped: no kernel code calls like this."""

LEFT = Configuration(devices=DEVICES[:1], left_domains=(1,))
"""An earlier kernel left a domain with the id that the driver will try first."""

REFUSED_AFTER = ops.Map(1, 0, RAM, 256, faults=(Fault("MAP_DEVICE_GPA_PAGES", 1, 0x71),))

LIFTED: dict[str, tuple[str, Configuration, tuple[ops.Operation, ...]]] = {
    "a partial unmap": ("tree-matches-hypervisor", ONE, PARTIAL),
    "an aperture": ("advertised-is-true", ONE, (ops.Boot(), ops.Claim())),
    "a guest behind the blocking domain": ("blocked-is-blocked", ONE, (ops.Boot(), ops.VmCreate(1), ops.Claim(by=1))),
    "a neighbour that is forgotten": (
        "lookup-matches-caller", ONE, (ops.Boot(), ops.Alloc(), ops.Map(1, MIB, RAM, 1), REFUSED_AFTER)
    ),
    "a node that is left": ("nothing-is-left", ONE, (ops.Boot(), ops.Alloc(), ops.Map(1, MIB, 0, 1), ops.Recover())),
    "an id that is taken": ("allocation-recovers", LEFT, (ops.Boot(), ops.Alloc(), ops.Claim())),
}  # fmt: skip


@pytest.mark.parametrize("name", LIFTED)
def test_translation_finds_the_ioctls(name: str) -> None:
    """Protects the reach of a finding: the requests of the core that a few ioctls make are found without a search, at the kernel
    level, in the same manner and with no more refused."""
    prop, config, operations = LIFTED[name]
    shown = finding(prop, operations, config)
    assert shown.own_means.caller == CORE
    found = by_translation(goal_of(shown), lambda: False)
    assert found is not None
    shown.lifted_to(found)
    assert (shown.means.caller, found.level) == (USER, KERNEL)
    assert shown.means.needs <= shown.own_means.needs
    was, now = shown.minimised.violation, found.violation
    assert (was.property, was.call, was.shape) == (now.property, now.call, now.shape)
    assert {op.kind for op in found.operations} <= ops.IOCTLS | {"boot", "vm-create", "recover"}


def test_what_no_caller_does_is_not_lifted() -> None:
    """Protects against a caller that is made up: a driver call that only a broken caller makes has none, and that is said."""
    shown = finding("no-null-dereference", DIRECT)
    done = lift_findings([Group([shown])], 0.4, 0, 1)
    assert (shown.caller, done.wanted, done.lifted) == (None, 1, 0)
    assert shown.sought is not None
    assert 0 < shown.sought < 20
    assert shown.means == shown.own_means


def test_a_search_finds_what_no_translation_does() -> None:
    """Protects the second way: a failure at a reset by the host that the life of a VMM brings about as well."""
    l1vh = Configuration.of_profile("l1vh", devices=DEVICES[:1])
    reset = ops.Reset(0, 1, faults=(Fault("DETACH_DEVICE", 1, 0x71),))
    shown = finding("no-foreign-attach", (ops.Boot(), ops.VmCreate(1), reset), l1vh)
    assert shown.own_means.caller == HOST
    goal = goal_of(shown)
    assert by_translation(goal, lambda: False) is None
    count = iter(range(1500))
    found = by_search(goal, "0", lambda: next(count, None) is None)
    assert found is not None
    shown.lifted_to(found)
    assert shown.means.caller == USER


def test_the_same_seed_finds_the_same() -> None:
    """Protects repetition: with the same seed and the same number of tries the same trace comes out."""
    goal = goal_of(finding("tree-matches-hypervisor", PARTIAL))

    def found() -> list[ops.Operation]:
        count = iter(range(300))
        small = by_search(goal, "7", lambda: next(count, None) is None)
        assert small is not None
        return small.operations

    assert found() == found()


def test_the_minimiser_keeps_to_the_caller() -> None:
    """Protects a caller trace from becoming requests of the core again, which are fewer: without the restriction the same trace
    gets shorter by an operation that no user can ask for."""
    life = [ops.Boot(), ops.VfioJoin(), *PARTIAL[1:], ops.VfioMap(1, MIB, RAM, 16), HALF]
    shown = finding("tree-matches-hypervisor", PARTIAL)
    goal = goal_of(shown)
    target = Target("tree-matches-hypervisor", "unmap_pages", shown.minimised.violation.shape)
    free = minimise(ONE, life, "posted-v0", target)
    held = minimise(ONE, life, "posted-v0", target, allows=goal.allows(USER))
    assert free is not None
    assert any(op.kind == "unmap" for op in free.operations)
    assert held is None, "it fails first in an operation of the core, which is not allowed"
    own = minimise(ONE, [life[0], life[1], *life[-2:]], "posted-v0", target, allows=goal.allows(USER))
    assert own is not None
    assert [op.kind for op in own.operations] == ["boot", "vfio-join", "vfio-map", "vfio-unmap"]


def test_more_refusals_than_the_finding_has_are_not_allowed() -> None:
    """Protects "in the same manner": a life in which the hypervisor refuses more, or elsewhere, is another finding."""
    goal = goal_of(finding("tree-matches-hypervisor", PARTIAL))
    join = ops.VfioJoin(faults=(Fault(ATTACH, 1, 0x71),))
    target = goal.target
    life = [ops.Boot(), join, ops.VfioJoin(), ops.VfioMap(1, MIB, RAM, 16), HALF]
    assert minimise(ONE, life, "posted-v0", target) is not None
    assert minimise(ONE, life, "posted-v0", target, allows=goal.allows(USER)) is None


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from(STYLES))
def test_every_translation_is_a_trace_of_real_callers(seed: int, style: Style) -> None:
    """Protects the claim of the kernel level: whatever is told, and in whatever style, is a valid trace file in which nothing but
    user space and the host's own work acts, at the kernel level."""
    life = walk(f"lift/{seed}", "repaired", "default", BEYOND, 25)
    start = roomy(life.config)
    told = translated(start, life.operations, style)
    assert from_json(to_json(Trace(start, told, "repaired"))).operations == told
    outcomes = run(start, told, "repaired")[1]
    assert means_of(start, zip(told, outcomes, strict=True)).caller <= HOST
    assert max(outcome.level for outcome in outcomes) == KERNEL


def test_refusals_are_carried_to_every_place() -> None:
    """Protects the search for the operation that makes the refused call: a single refusal is tried at every operation and at
    several arrivals, and none is lost or doubled."""
    cases = list(translations(ONE, PARTIAL))
    assert len({case.operations for case in cases}) == len(cases) > 100
    for case in cases:
        assert sum(len(op.faults) for op in case.operations) == 1
    refused = {op.kind for case in cases for op in case.operations if op.faults}
    assert refused >= {"vfio-join", "vfio-unmap", "ioas-unmap", "vfio-leave"}


def test_lifted_traces_are_files_that_replay(tmp_path: Path) -> None:
    """Protects whoever gets a caller trace: it lies beside the finding's, fails the same property when it is replayed, says what it
    takes, and goes when the next hunt begins."""
    shown = finding("tree-matches-hypervisor", PARTIAL)
    lift_findings([Group([shown])], 5, 0, 1)
    save_findings([shown], tmp_path)
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == ["tree-matches-hypervisor-01-caller.json", "tree-matches-hypervisor-01.json"]
    second = read(Path(shown.caller_trace))
    assert second.finding["means"] == f"a VMM user, if the hypervisor refuses {UNMAP}"
    assert second.finding["level"] == "kernel"
    assert verdict_of(second).state == "fails"
    record = shown.as_json()
    assert (record["caller"], record["needs"], record["caller_trace"]) == ("ioctls", NEEDS[shown.means.needs], shown.caller_trace)
    assert sorted(written(tmp_path)) == sorted(tmp_path.iterdir())
    assert "no ioctl for it is known" in read(Path(shown.trace)).finding["means"]


def test_the_verb(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Protects the command line: status 0 with the trace, 1 with a line that it was not found, and what is one's own already is
    given back."""
    path, out = tmp_path / "partial.json", tmp_path / "out.json"
    write(Trace(ONE, list(PARTIAL), "posted-v0", "tree-matches-hypervisor"), path)
    assert main(["lift", str(path), "--budget", "5", "--out", str(out)]) == 0
    said = capsys.readouterr().err
    assert "before: a request to the IOMMU core" in said
    assert f"now: a VMM user, if the hypervisor refuses {UNMAP}, 4 operations" in said
    assert verdict_of(read(out)).state == "fails"
    assert main(["lift", str(out)]) == 0
    assert "nobody has less power" in capsys.readouterr().err
    write(Trace(ONE, list(DIRECT), "posted-v0", "no-null-dereference"), path)
    assert main(["lift", str(path), "--budget", "0.2"]) == 1
    captured = capsys.readouterr()
    assert "no caller found in" in captured.err
    assert captured.out == ""


def test_what_is_wrong_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Protects against tracebacks and silence: a trace that holds, an unknown driver, no file, a place that cannot be written."""
    path = tmp_path / "partial.json"
    write(Trace(ONE, list(PARTIAL), "posted-v0", "tree-matches-hypervisor"), path)
    for arguments, said in (
        (["--driver", "repaired"], "tree-matches-hypervisor holds on repaired, so there is nothing to lift"),
        (["--driver", "nobody"], "nobody"),
        (["--out", str(path / "below")], "cannot write to"),
    ):
        assert main(["lift", str(path), *arguments]) == 2
        err = capsys.readouterr().err.splitlines()
        assert said in err[-1]
    assert main(["lift", str(tmp_path / "none.json")]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1
    with pytest.raises(SystemExit):
        main(["lift", str(path), "--budget", "0"])


@pytest.mark.parametrize("name", ["D01", "D20", "D30"])
def test_known_defects_are_lifted(name: str) -> None:
    """Protects the point of it: the shortest traces of any caller, of defects that matter, are brought to user space."""
    entry = ENTRIES[name]
    shown = finding_of(Trace(entry.config, list(entry.operations), "posted-v0", entry.property))
    assert shown.own_means.caller == CORE
    found = by_translation(goal_of(shown), lambda: False)
    assert found is not None
    assert found.level == KERNEL


@needs_compiler
def test_a_driver_that_ends_its_process_ends_an_attempt(tmp_path: Path) -> None:
    """Protects the hunt from a native driver that dies when it is called as user space calls it: that attempt is over, it is
    counted, and the others are made."""
    code = "{ int getpid(void); int kill(int, int); if (atomic_read(&domain->users)) kill(getpid(), 9); else kfree(domain); }"
    name = planted(tmp_path, "map", code)
    shown = [finding("no-use-after-free", (ops.Boot(), ops.Alloc(), ops.Map(1, MIB, RAM, pages)), driver=name) for pages in (1, 2)]
    done = lift_findings([Group([each]) for each in shown], 1.0, 0, 1)
    assert done.deaths >= 2
    assert done.lifted == 0
    assert all(each.sought is not None for each in shown)


def test_the_best_of_each_cause_comes_first() -> None:
    """Protects the budget: all best findings are translated, then searched for in most of what is left, what no contract allows in
    a smaller share, and the others come last; what is settled is not tried again."""
    core, beyond = finding("tree-matches-hypervisor", PARTIAL), finding("no-null-dereference", DIRECT)
    other = finding("advertised-is-true", (ops.Boot(), ops.Claim()))
    job = lift_module._Job([beyond, core, other], 2, time.monotonic() + 100, 2)
    tasks = list(iter(job.next, None))
    assert [(task.number, task.search) for task in tasks] == [
        (0, False), (1, False), (1, True), (0, True), (2, False), (2, True)
    ]  # fmt: skip
    assert 110 < tasks[2].seconds * 1.2 < 145, "0.7 of 100 seconds of two processes, of which 1 of 1.2 parts"
    assert tasks[3].seconds > tasks[1].seconds
    found = by_translation(goal_of(core), lambda: False)
    job = lift_module._Job([beyond, core, other], 2, time.monotonic() + 100, 2)
    task = job.next()
    assert task is not None
    job.done(lift_module._Task(1, False, 1.0), found, 0.5)
    assert (core.sought, job.lifted, job.attempts) == (0.5, 1, 1)
    assert all(task.number != 1 for task in iter(job.next, None))


def test_a_hunt_looks_for_callers(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Protects the whole way: a hunt says who can cause its rows, before and after; its caller traces are named in the report, fail
    when they are replayed; and without time nothing is looked for."""
    monkeypatch.setattr(hunt_module, "name_findings", lambda *_all: None)
    hunt = ["hunt", "--profile", "default", "--jobs", "1", "--out", str(tmp_path / "out"), "--json", str(tmp_path / "report.json")]
    assert main([*hunt, "--operations", "1", "--lift", "0"]) == 1
    said = capsys.readouterr().out
    assert "by caller: boot" in said
    assert "caller with less power" not in said
    assert json.loads((tmp_path / "report.json").read_text())["lifting"]["seconds"] == 0
    assert main([*hunt, "--operations", "600", "--level", "contract", "--lift", "1"]) == 1
    said = capsys.readouterr().out
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["lifting"]["lifted"] > 0
    assert "take more than ioctls: for " in said
    lifted = [each for each in report["findings"] if each["caller_trace"]]
    assert len(lifted) == report["lifting"]["lifted"]
    for each in lifted:
        trace = read(Path(each["caller_trace"]))
        assert (verdict_of(trace).state, trace.finding["means"]) == ("fails", each["means"])
    assert f"shown by {Path(lifted[0]['caller_trace']).stem}" in " ".join(said.split())


def test_where_an_odd_range_lies_is_not_its_manner() -> None:
    """Protects findings beyond the contract that a kernel reaches in another shape: what is unmapped in part leaves the rest
    mapped, also where it is 6.12's probe that asks for the first page of two."""
    odd = (ops.Boot(), ops.Alloc(), ops.Map(1, MIB, RAM, 3), ops.Unmap(1, MIB - 0x1000, 2))
    shown = finding("no-stale-mapping", odd)
    assert (shown.own_means.word, shown.level) == ("beyond", "beyond")
    found = by_translation(goal_of(shown), lambda: False)
    assert found is not None
    assert found.violation.shape != shown.minimised.violation.shape
    assert found.operations == [ops.Boot(), ops.VfioJoin(probe=True)]
    plain = Target("no-stale-mapping", "unmap_pages", shown.minimised.violation.shape)
    assert by_translation(replace(goal_of(shown), target=plain), lambda: False) is None
