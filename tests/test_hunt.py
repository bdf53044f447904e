"""The hunt: what it finds replays by itself, its report says what it documents, and equal seeds do equal things."""

from __future__ import annotations

import itertools
import json
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from toy_drivers import HONEST, Toy

from hvmodel import operations as ops
from hvmodel.callers.levels import BEYOND, CONTRACT, KERNEL, LEVELS
from hvmodel.configuration import Configuration
from hvmodel.drivers import REGISTRY, register
from hvmodel.faults import CALL_SITES, Fault
from hvmodel.gears.minimise import Minimised
from hvmodel.gears.walk import runs, walk
from hvmodel.hypervisor.policies import DEFAULT
from hvmodel.jobs import hunt as hunt_module
from hvmodel.jobs.findings import Finding, group, prune
from hvmodel.jobs.hunt import STEPS, Hunter, Options, Report, Tally, hunt, save, save_json
from hvmodel.jobs.report import print_report
from hvmodel.jobs.rota import Rota
from hvmodel.operations import KINDS
from hvmodel.properties.catalogue import PROPERTIES
from hvmodel.properties.verdicts import Violation
from hvmodel.rules import refusals
from hvmodel.rules.worlds import PROFILE_NAMES
from hvmodel.traces.format import read
from hvmodel.traces.replay import replay_file
from hvmodel.world import run

DRIVER = "posted-v0"
BUDGET = 2.5


@pytest.fixture(scope="module")
def report() -> Report:
    """A small hunt of the posted driver; it runs by the clock, so tests of it ask only what every such hunt must answer."""
    return hunt(Options(driver=DRIVER, budget=BUDGET, jobs=1))


@pytest.fixture(params=HONEST, ids=lambda toy: str(toy.name))
def honest(request: pytest.FixtureRequest) -> Iterator[str]:
    """The name of an honest driver, known while the test runs."""
    toy: type[Toy] = request.param
    register(toy)
    yield toy.name
    del REGISTRY[toy.name]


def searched(options: Options, count: int) -> Hunter:
    """A hunter after ``count`` runs, whatever time they take; everything that it set aside is minimised."""
    hunter = Hunter(options, 0)
    turns = itertools.count()
    hunter.search(lambda: next(turns) >= count)
    return hunter


# --- a hunt and its report --------------------------------------------------------------------------------------------


def test_a_hunt_finds_what_devices_can_still_reach(report: Report) -> None:
    """Protects the purpose: within seconds the worst kind of defect of the posted driver is found, and the table starts with one
    that needs no assumption."""
    assert report.tally.operations > 1000
    assert {finding.severity for finding in report.findings} >= {"isolation"}
    assert report.groups[0].best.severity == "isolation"
    assert report.groups[0].best.assumptions == []


def test_each_finding_is_a_file_that_replays(report: Report, tmp_path: Path) -> None:
    """Protects the exchange of findings: one file each, which alone, in a new world, fails the same property at its last step."""
    from rich.console import Console

    save(report, tmp_path)
    paths = [Path(finding.trace) for finding in report.findings]
    assert sorted(paths) == sorted(tmp_path.iterdir())
    assert len(set(paths)) == len(paths)
    for finding, path in zip(report.findings, paths, strict=True):
        assert path.name.startswith(f"{finding.property_id}-")
        trace = read(path)
        assert (trace.property, trace.driver) == (finding.property_id, DRIVER)
        assert (trace.config, trace.operations) == (finding.config, finding.operations)
        outcomes = run(trace.config, trace.operations, DRIVER)[1]
        shown = [v for v in outcomes[-1].violations if v.property == trace.property]
        assert finding.minimised.violation in shown
        assert LEVELS[max(outcome.level for outcome in outcomes)] == finding.level
        assert trace.finding["summary"] == finding.minimised.violation.detail
        assert trace.origin["gear"] in ("walk", "sweep")
    with (tmp_path / "out").open("w") as file:
        assert replay_file(paths[0], None, False, Console(file=file)) == 1


def test_the_json_has_the_documented_fields(report: Report, tmp_path: Path) -> None:
    """Protects programs that read the report: exactly these fields, with these types, and what they say agrees with the traces."""
    save(report, tmp_path / "out")
    save_json(report, tmp_path / "report.json")
    data = json.loads((tmp_path / "report.json").read_text())
    assert set(data) == {"driver", "seed", "profiles", "operations", "seconds", "never_reached", "lifting", "findings"}
    assert (data["driver"], data["seed"], data["profiles"]) == (DRIVER, 0, list(PROFILE_NAMES))
    assert data["operations"] == report.tally.operations
    assert BUDGET <= data["seconds"] < BUDGET + 30
    assert set(data["never_reached"]) >= {"operations", "properties", "fault sites"}
    assert len(data["findings"]) == len(report.findings) > 0
    types = {
        "property": str, "severity": str, "summary": str, "operations": int, "faults": int, "level": str, "profile": str,
        "assumptions": list, "gear": str, "trace": str, "group": int,
        "defects": list, "caller": str, "needs": str, "means": str, "caller_trace": str,
    }  # fmt: skip
    for finding in data["findings"]:
        assert {name: type(value) for name, value in finding.items()} == types
        assert finding["severity"] == PROPERTIES[finding["property"]].severity
        assert finding["level"] in LEVELS
        trace = read(Path(finding["trace"]))
        assert len(trace.operations) == finding["operations"]
        assert sum(len(operation.faults) for operation in trace.operations) == finding["faults"]
        assert trace.property == finding["property"]


def test_assumptions_are_said_and_come_last(report: Report) -> None:
    """Protects the reader's trust: what needs another answer than today's hypervisor's likely one says so, below what does not."""
    needs = [bool(item.best.assumptions) for item in report.groups]
    assert needs == sorted(needs)
    for finding in report.findings:
        assert bool(finding.assumptions) == (finding.config.policies != DEFAULT)
    ranks = [item.best.rank for item in report.groups]
    assert ranks == sorted(ranks)


def test_groups_are_numbered_as_shown(report: Report) -> None:
    """Protects references such as 'cause 3': a finding's number is its group's place in the table, best finding first."""
    for number, item in enumerate(report.groups, 1):
        assert {finding.group for finding in item.findings} == {number}
        assert item.best.rank == min(finding.rank for finding in item.findings)
        assert item.best.property_id not in item.also
    assert len({finding.key for finding in report.findings}) == len(report.findings)


def test_the_table_shows_every_cause(report: Report, tmp_path: Path) -> None:
    """Protects the table: every cause has a row with its severity and trace, on a narrow console too, and no escape codes."""
    from rich.console import Console

    save(report, tmp_path)
    for width in (60, 80, 120, 140, 300):
        path = tmp_path / f"table{width}"
        with path.open("w", encoding="utf-8") as file:
            print_report(report, Console(file=file, width=width, highlight=False, emoji=False, markup=False))
        text = path.read_text(encoding="utf-8")
        assert "\x1b" not in text
        assert f"{len(report.groups)} rows" in text
        assert all(re.search(rf"{Path(item.best.trace).stem}\b", text) for item in report.groups)


def test_old_traces_are_replaced_and_foreign_files_stay(report: Report, tmp_path: Path) -> None:
    """Protects both from confusion and from loss: traces of an earlier hunt go, what is not a hunt's stays."""
    name = report.findings[0].property_id
    old = [tmp_path / f"{name}-99.json", tmp_path / "no-stale-mapping-07.json"]
    foreign = [tmp_path / text for text in ("notes.txt", "mine.json", f"{name}.json", "notes-01.txt")]
    for path in (*old, *foreign):
        path.write_text("{}")
    (tmp_path / "sub").mkdir()
    save(report, tmp_path)
    assert [path for path in old if path.exists() and path.read_text() == "{}"] == []
    assert [path.read_text() for path in foreign] == ["{}"] * len(foreign)
    first = sorted(tmp_path.iterdir())
    save(report, tmp_path)
    assert sorted(tmp_path.iterdir()) == first


def test_a_foreign_file_with_a_number_stays(report: Report, tmp_path: Path) -> None:
    """Protects people's own files: a name that ends in a number and starts with no property is not a hunt's."""
    mine = tmp_path / "thesis-2026.json"
    mine.write_text("{}")
    save(report, tmp_path)
    assert mine.exists()


# --- the same again ---------------------------------------------------------------------------------------------------


def test_the_schedule_depends_on_the_seed_only() -> None:
    """Protects repeating a hunt: the runs that a job will do are known from seed and job; jobs and seeds share none; half of the
    runs are under the first profile, and every profile meets every level."""
    def first(seed: int, job: int) -> list[tuple[str, str, int, int]]:
        return list(itertools.islice(runs(seed, job, list(PROFILE_NAMES), [0, 1, 2], STEPS), 600))

    assert first(1, 0) == first(1, 0)
    names = [{entry[0] for entry in first(seed, job)} for seed, job in ((1, 0), (1, 1), (2, 0), (11, 0))]
    assert sum(map(len, names)) == len(set().union(*names))
    counts = Counter(profile for _seed, profile, _level, _steps in first(1, 0))
    assert counts[PROFILE_NAMES[0]] == 300
    assert {(entry[1], entry[2]) for entry in first(1, 0)} == set(itertools.product(PROFILE_NAMES, (0, 1, 2)))


def test_the_same_seed_does_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """Protects repeating a hunt: with one job and the same seed the same operations are done in the same order, however fast the
    machine is; another seed does others."""
    def done(seed: int) -> list[tuple[Configuration, list[ops.Operation]]]:
        heard = []

        def listening(*arguments: Any) -> Any:
            result = walk(*arguments)
            heard.append((result.config, list(result.operations)))
            return result

        turn = Rota.turn

        def turning(*arguments: Any) -> Any:
            played = turn(*arguments)
            if played is not None:
                heard.append((played.run.config, list(played.run.operations)))
            return played

        with monkeypatch.context() as patch:
            patch.setattr(hunt_module, "walk", listening)
            patch.setattr(Rota, "turn", turning)
            hunter = searched(Options(driver=DRIVER, seed=seed, jobs=1), 20)
        assert hunter.tally.runs == len(heard) == 30, "behind every second run of the walk there is one of the sweep"
        assert hunter.tally.operations == sum(len(operations) for _config, operations in heard)
        return heard

    once = done(5)
    assert done(5) == once
    assert once != done(6)


def test_two_processes_find_and_count_together() -> None:
    """Protects the merge: operations of all workers are counted, findings that two workers share are reported once."""
    merged = hunt(Options(driver=DRIVER, budget=60.0, operations=400, jobs=2, profiles=["default"]))
    assert merged.tally.runs >= 2
    assert len({finding.key for finding in merged.findings}) == len(merged.findings) > 0
    jobs = {finding.seed.split("/")[1] for finding in merged.findings}
    assert jobs <= {"0", "1"}


def test_a_worker_that_fails_is_heard(monkeypatch: pytest.MonkeyPatch) -> None:
    """Protects against a clean report from a search that never ran: a worker's exception ends the hunt."""
    def broken(*_arguments: Any) -> Any:
        raise ZeroDivisionError("planted")

    monkeypatch.setattr(hunt_module, "walk", broken)
    with pytest.raises(RuntimeError, match="ZeroDivisionError: planted"):
        hunt(Options(driver=DRIVER, budget=5, jobs=2))


def test_a_hunt_stays_within_its_level() -> None:
    """Protects ``--level kernel``: what is reported is within reach of a caller of that level, after minimising too."""
    for level in (KERNEL, CONTRACT):
        hunter = searched(Options(driver=DRIVER, levels=[level], jobs=1, profiles=["default"]), 60)
        over = [finding for finding in hunter.findings.values() if finding.minimised.level > level]
        assert not over, [(finding.property_id, finding.level, finding.operations) for finding in over[:2]]


# --- an honest driver -------------------------------------------------------------------------------------------------


def hunted(driver: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> tuple[int, Path, str]:
    """Status, directory and output of a hunt of two seconds at the level of the kernel's callers."""
    from hvmodel.cli import main

    out = tmp_path / "out"
    options = ["--driver", driver, "--level", "kernel", "--profile", "default", "--budget", "2", "--jobs", "1", "--out", str(out)]
    status = main(["hunt", *options])
    return status, out, capsys.readouterr().out


def test_an_empty_table_is_status_0(
    honest: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Protects the status that scripts act on: where nothing is found (nothing is refused here) it is 0 and no file is written."""
    monkeypatch.setattr(hunt_module, "runs", lambda *arguments: itertools.islice(runs(*arguments), 15))
    monkeypatch.setattr(refusals, "draw", lambda *_arguments: ())
    status, out, printed = hunted(honest, tmp_path, capsys)
    assert (status, list(out.iterdir())) == (0, []), printed
    assert printed.startswith("nothing found in ")
    assert f"(driver {honest})" in printed


def test_an_honest_driver_has_no_findings(honest: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Protects everybody's time: where at most one call is refused, once, a search accuses no driver that is right.

    After several or lasting refusals the books of the toys are not above doubt; those findings are not looked at here.
    """
    _status, out, printed = hunted(honest, tmp_path, capsys)
    for path in out.iterdir():
        faults = [fault for operation in read(path).operations for fault in operation.faults]
        assert len(faults) > 1 or any(fault.times != 1 for fault in faults), printed


# --- findings and groups ----------------------------------------------------------------------------------------------


def finding(
    name: str = "no-stale-mapping",
    *,
    call: str = "unmap_pages",
    shape: tuple[object, ...] = ("a",),
    level: int = KERNEL,
    sites: tuple[str, ...] = (),
    more: int = 0,
    config: Configuration | None = None,
) -> Finding:
    """A finding as the minimiser might give it; ``more`` operations than the shortest."""
    faults = tuple(Fault(site, 1, 0x71) for site in sites)
    operations: list[ops.Operation] = [ops.Boot(), *[ops.Alloc(number) for number in range(1, more + 1)], ops.Unmap(faults=faults)]
    minimised = Minimised(config or Configuration(), operations, Violation(name, "s", "d", call, shape), level)
    return Finding(minimised, DRIVER, "walk", "0/0/0")


ASSUMING = Configuration(policies=replace(DEFAULT, detach_leaves="none"))


@pytest.mark.parametrize(
    ("simple", "covered"),
    [
        (finding(), finding(level=CONTRACT, more=1)),
        (finding(), finding(config=ASSUMING)),
        (finding(sites=("MAP_DEVICE_GPA_PAGES",)), finding(sites=("MAP_DEVICE_GPA_PAGES", "UNMAP_DEVICE_GPA_PAGES"))),
        (finding(), finding(sites=("MAP_DEVICE_GPA_PAGES", "UNMAP_DEVICE_GPA_PAGES"))),
    ],
)
def test_prune_drops_what_a_simpler_finding_covers(simple: Finding, covered: Finding) -> None:
    """Protects the table from one defect in many dresses: a higher level, an assumption or a refusal more tells nothing new."""
    assert prune([simple, covered]) == [simple]
    assert prune([covered, simple]) == [simple]
    assert prune([covered]) == [covered]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (finding(), finding("no-lost-mapping")),
        (finding(), finding(call="map_pages")),
        (finding(), finding(shape=("b",))),
        (finding(level=CONTRACT), finding(sites=("MAP_DEVICE_GPA_PAGES",), config=ASSUMING)),
        (finding(sites=("MAP_DEVICE_GPA_PAGES",)), finding(sites=("UNMAP_DEVICE_GPA_PAGES",))),
        (finding(), finding(sites=("MAP_DEVICE_GPA_PAGES",))),
        (finding(), finding(config=Configuration.of_profile("l1vh"))),
        (finding(level=BEYOND), finding(level=KERNEL, sites=("MAP_DEVICE_GPA_PAGES",))),
    ],
)
def test_prune_keeps_what_differs(one: Finding, other: Finding) -> None:
    """Protects against losing a defect to another: what differs in property, call, manner, place of refusal or hypervisor stays."""
    assert sorted(map(id, prune([one, other]))) == sorted(map(id, (one, other)))


def test_findings_with_one_trace_and_call_are_one_group() -> None:
    """Protects the table: properties that fail in the same call of the same trace are one cause; in another call they are two."""
    together = [finding("no-stale-mapping"), finding("tree-matches-hypervisor")]
    apart = finding("tree-matches-hypervisor", call="map_pages", more=1)
    groups = group([*together, apart])
    assert [len(item.findings) for item in groups] == [2, 1]
    assert groups[0].best.property_id == "no-stale-mapping"
    assert groups[0].also == ["tree-matches-hypervisor"]
    assert [found.group for found in (*together, apart)] == [1, 1, 2]
    assert group([]) == []


def test_the_worst_comes_first() -> None:
    """Protects the reader: no assumption before assumptions, then severity, then the level that more callers have, then length."""
    ordered = [
        finding("no-stale-mapping"),
        finding("no-stale-mapping", shape=("b",), level=CONTRACT),
        finding("no-stale-mapping", shape=("c",), level=CONTRACT, more=2),
        finding("context-is-balanced"),
        finding("no-stale-mapping", shape=("d",), config=ASSUMING),
    ]
    shuffled = ordered[::-1]
    assert sorted(shuffled, key=lambda item: item.rank) == ordered


# --- what was not reached ---------------------------------------------------------------------------------------------


def test_never_names_what_was_not_reached() -> None:
    """Protects against silence that looks like success: what a search never did, judged or passed is named, and nothing else."""
    empty = Tally().never()
    assert empty["operations"] == list(KINDS)
    assert empty["fault sites"] == list(CALL_SITES)
    assert set(empty["properties"]) <= set(PROPERTIES)
    assert "no-stale-mapping" in empty["properties"]
    tally = Tally()
    for number in range(40):
        tally.add(walk(f"never/{number}", DRIVER, "default", KERNEL, STEPS))
    never = tally.never()
    assert {"driver-map", "driver-unmap", "unplug"} <= set(never["operations"]), "they are beyond the kernel's callers"
    assert not {"boot", "alloc", "map", "unmap", "recover"} & set(never["operations"])
    assert "MAP_DEVICE_GPA_PAGES" not in never["fault sites"]
    assert "no-stale-mapping" not in never["properties"]
    tried = Tally(applied={"kexec": [9, 0]})
    assert "kexec" in tried.never()["operations"], "tried is not applied"


def test_tallies_add_up() -> None:
    """Protects the figures of a hunt with several workers: merging two tallies counts what one tally of all runs counts."""
    every, halves = Tally(), [Tally(), Tally()]
    for number in range(10):
        once = walk(f"tally/{number}", DRIVER, "default", BEYOND, 40)
        every.add(once)
        halves[number % 2].add(once)
    halves[0].merge(halves[1])
    assert halves[0] == every


def test_a_search_reaches_everything() -> None:
    """Protects the search itself: within two thousand runs over all profiles and levels every kind of operation applies, every
    site is passed and every property is judged."""
    tally = Tally()
    schedule = runs(0, 0, list(PROFILE_NAMES), list(range(len(LEVELS))), STEPS)
    for seed, profile, level, steps in itertools.islice(schedule, 2000):
        tally.add(walk(seed, DRIVER, profile, level, steps))
        if not any(tally.never().values()):
            return
    raise AssertionError(tally.never())
