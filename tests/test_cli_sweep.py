"""``hvmodel sweep``: exit status, what is printed and written, the same on one core and on two, and one line for bad input."""

from __future__ import annotations

import json
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

from hvmodel import operations as ops
from hvmodel.callers.levels import BEYOND, CONTRACT, KERNEL
from hvmodel.cli import main
from hvmodel.configuration import Configuration
from hvmodel.faults import Fault
from hvmodel.gears.sweep import Combination, Count, Refusal, Sweep
from hvmodel.gears.sweep.subjects import of_scenario, shipped
from hvmodel.gears.walk import Run, walk
from hvmodel.jobs import sweep as job
from hvmodel.jobs.rota import EVERY, Rota
from hvmodel.jobs.sweep import Options, operations_of, sweep
from hvmodel.scenarios import SCENARIOS
from hvmodel.traces.format import Trace, read, write
from hvmodel.world import Outcome

GOOD, BAD = "repaired", "repaired+D29"


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Findings go to a directory of the test."""
    monkeypatch.chdir(tmp_path)


def status(*words: str) -> int:
    """The exit status of ``hvmodel sweep``."""
    try:
        return main(["sweep", *words])
    except SystemExit as end:
        return int(end.code or 0)


def report(*words: str) -> Any:
    """The JSON of a sweep with one process."""
    status(*words, "--jobs", "1", "--json", "report.json")
    return json.loads(Path("report.json").read_text())


def test_a_driver_as_it_should_be_passes(capsys: pytest.CaptureFixture[str]) -> None:
    """Protects the pass: status 0, a row for each trace, and the figures that say what the pass is worth."""
    assert status("boot", "vm-life-direct", "--driver", GOOD, "--jobs", "1") == 0
    out = capsys.readouterr().out
    rows = {line.split()[0]: line.split() for line in out.splitlines() if line.startswith(("boot", "vm-life"))}
    assert rows["boot"][1:4] == ["5", "1", "50"]
    assert rows["vm-life-direct"][1:4] == ["5", "13", "64"]
    assert all(row[-2:] == ["0", "0"] for row in rows.values()), "all fired, nothing failed"
    assert "nothing found in" in out
    assert "runs of 10 traces" in out
    assert list(Path("findings/repaired/sweep").iterdir()) == []


def test_what_fails_is_a_finding_that_replays(capsys: pytest.CaptureFixture[str]) -> None:
    """Protects the findings: status 1, grouped and named as a hunt's, each with a minimal trace that fails when it is replayed and
    says where it came from."""
    assert status("map-4k", "--driver", BAD, "--profile", "default", "--jobs", "1", "--json", "report.json") == 1
    out = capsys.readouterr().out
    assert "no-stale-mapping" in out
    assert "known: D29" in out
    assert "if the hypervisor refuses UNMAP_DEVICE_GPA_PAGES" in out
    found = json.loads(Path("report.json").read_text())["findings"]
    assert found
    for finding in found:
        trace = read(Path(finding["trace"]))
        assert trace.origin == {"gear": "sweep", "seed": "map-4k/default"}
        assert trace.driver == BAD
        assert main(["replay", finding["trace"]]) == 1
        assert finding["operations"] == len(trace.operations) <= 5
    capsys.readouterr()
    assert status("map-4k", "--driver", GOOD, "--profile", "default", "--out", "findings/repaired+D29/sweep") == 0
    assert "replacing" in capsys.readouterr().err
    assert list(Path("findings/repaired+D29/sweep").iterdir()) == [], "those of an earlier sweep are replaced"


def test_the_json_says_what_was_done() -> None:
    """Protects programs: the fields, a trace each profile, and totals that are the sums."""
    data = report("boot", "vm-crash-direct", "--driver", GOOD)
    assert set(data) == {"driver", "pairs", "complete", "seconds", "total", "traces", "findings"}
    assert (data["driver"], data["pairs"], data["complete"], data["findings"]) == (GOOD, False, True, [])
    names = list(Count.__dataclass_fields__)
    assert set(data["total"]) == set(names)
    assert {(row["name"], row["profile"]) for row in data["traces"]} == {
        (subject.name, subject.config.profile) for name in ("boot", "vm-crash-direct") for subject in of_scenario(name)
    }
    for name in names:
        assert data["total"][name] == sum(row[name] for row in data["traces"])
    for row in data["traces"]:
        assert (row["state"], row["clean"], row["idle"], row["not_fired"]) == ("done", True, 0, [])
        assert row["fired"] >= row["runs"] - 1


def test_it_is_the_same_on_one_core_and_on_two() -> None:
    """Protects results from the machine: rows and findings do not depend on the number of processes."""

    def told(jobs: int) -> object:
        subjects = [subject for name in ("map-1m", "map-4k", "boot") for subject in of_scenario(name, "default")]
        done = sweep(Options(BAD, subjects, jobs=jobs))
        rows = [(row.subject, row.count, row.state, row.clean, row.unfired) for row in done.rows]
        return rows, {finding.property_id for finding in done.findings}, done.complete

    assert told(1) == told(2)


def test_a_trace_is_swept_too(capsys: pytest.CaptureFixture[str]) -> None:
    """Protects ``sweep TRACE``: the driver is the one that the file names, its refusals are left out and tried at all places, and
    another profile can be put in the place of its own."""
    one = SCENARIOS["map-4k"]
    operations = [*one.operations[:5], ops.Map(1, 0x100000, 0x400000000, 3, faults=(Fault("kzalloc"),)), ops.Recover()]
    write(Trace(one.configuration("strict"), operations, BAD, "no-stale-mapping"), Path("mine.json"))
    data = report("mine.json")
    assert data["driver"] == BAD
    (row,) = data["traces"]
    assert (row["name"], row["profile"], row["operations"]) == ("mine", "strict", 6)
    assert row["sites"] > 10
    assert data["findings"], "the undo of the map is refused"
    assert report("mine.json", "--driver", GOOD, "--profile", "old-root")["traces"][0]["profile"] == "old-root"
    capsys.readouterr()


def test_pairs_are_more(capsys: pytest.CaptureFixture[str]) -> None:
    """Protects ``--pairs``: it is passed on and counted."""
    alone, both = (report("vm-life-direct", "--profile", "l1vh", "--driver", GOOD, *more) for more in ((), ("--pairs",)))
    assert (alone["pairs"], both["pairs"]) == (False, True)
    assert both["total"]["runs"] == alone["total"]["runs"] + both["total"]["pairs"] > alone["total"]["runs"]
    capsys.readouterr()


def test_a_budget_that_is_spent_is_no_pass(capsys: pytest.CaptureFixture[str]) -> None:
    """Protects against a hollow pass: what was cut short or not begun is named, and the last line does not say that nothing was
    found without that."""
    assert status("map-*", "--driver", GOOD, "--jobs", "1", "--budget", "0.2", "--json", "report.json") == 0
    out = capsys.readouterr().out
    assert "nothing found so far, and not all was done" in out
    assert "not swept: " in out
    data = json.loads(Path("report.json").read_text())
    assert not data["complete"]
    assert {row["state"] for row in data["traces"]} >= {"not begun"}


def test_what_did_not_fire_is_named(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Protects against taking "not reached" for "passed": it is printed, counted and in the JSON."""
    monkeypatch.setattr("hvmodel.gears.sweep.answers", lambda arrival: [Fault(arrival.site, arrival.nth + 100, 0x71)])
    data = report("vm-life-direct", "--profile", "l1vh", "--driver", GOOD)
    assert data["total"]["unfired"] == data["total"]["sites"] > 0
    assert len(data["traces"][0]["not_fired"]) == data["total"]["unfired"]
    assert "not fired, so not put to the test: vm-life-direct/l1vh: operation 1: " in capsys.readouterr().out


def test_the_list_has_every_scenario(capsys: pytest.CaptureFixture[str]) -> None:
    """Protects finding one: each name with its story, and nothing is swept."""
    assert status("--list") == 0
    out = capsys.readouterr().out
    firsts = {line.split()[0] for line in out.splitlines() if line[:1].strip()}
    assert firsts == {"scenario", *SCENARIOS}
    assert not Path("findings").exists()


BOOTLESS = '{"hvmodel-trace": 2, "driver": "repaired", "configuration": {}, "operations": [{"op": "vm-create", "vm": 1}]}'


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["nothing-like-it"], "no scenario is called 'nothing-like-it', and there is no such file (see hvmodel sweep --list)"),
        (["map-4kk"], "did you mean map-4k"),
        (["map-4k", "--driver", "nobody"], "no driver is called 'nobody'"),
        (["--profile", "mine"], "no profile is called 'mine'"),
        (["map-4k", "--profile", "l1vh"], "map-4k: makes no sense under profile l1vh"),
        (["broken.json"], "broken.json: "),
        (["bootless.json"], "nothing was put to the test"),
        (["one.json", "other.json"], "one.json is of driver repaired, other.json of repaired+D29; --driver chooses one for all"),
        (
            ["left.json", "--profile", "l1vh"],
            "left.json: cannot start under profile l1vh: left_domains: an L1VH has no device domains",
        ),
        (["boot", "--out", "broken.json/x"], "cannot write to broken.json"),
        (["boot", "--json", "broken.json/x"], "cannot write to broken.json"),
        (["boot", "--budget", "no"], "'no' is no number"),
        (["boot", "--jobs", "0"], "0 is not in 1 to 1024"),
    ],
)
def test_bad_input_is_one_line(words: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Protects the person at the keyboard: status 2, what is wrong, no traceback, nothing swept."""
    Path("broken.json").write_text("{")
    Path("bootless.json").write_text(BOOTLESS)
    plain = SCENARIOS["boot"]
    for name, driver in (("one", GOOD), ("other", BAD)):
        write(Trace(plain.configuration("default"), list(plain.operations), driver), Path(f"{name}.json"))
    write(Trace(Configuration(left_domains=(1,)), [ops.Boot()], GOOD), Path("left.json"))
    assert status(*words) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert said in err
    assert len([line for line in err.splitlines() if not line.startswith("sweeping: ")]) == 1


# --- behind the verb ----------------------------------------------------------------------------------------------------


def test_a_worker_that_fails_is_heard(monkeypatch: pytest.MonkeyPatch) -> None:
    """Protects against a clean report of a sweep that never was."""

    def broken(*_arguments: Any) -> Any:
        raise ZeroDivisionError("planted")

    monkeypatch.setattr(job.Sweeper, "begin", broken)
    with pytest.raises(RuntimeError, match="ZeroDivisionError: planted"):
        sweep(Options(GOOD, of_scenario("boot"), jobs=1))


def test_what_a_dead_worker_was_at_can_be_done_again() -> None:
    """Protects findings that end the process: the operations of a combination are those of its run, refusals and recovery too."""
    (one,) = of_scenario("t12-group-of-two", "default")
    fault = Fault("kzalloc")
    again = operations_of(one, Combination((Refusal(0, fault),)))
    assert again[0].faults == (fault,)
    assert [operation.kind for operation in again] == [*(operation.kind for operation in one.operations), "recover"]
    assert [operation.faults for operation in again[1:-1]] == [operation.faults for operation in one.operations[1:]]


def turns(highest: int, profiles: list[str], count: int = 120) -> tuple[list[str], list[Run], list[int]]:
    """What a rota does behind so many walks: the names of what it swept, its runs, and the levels at which somebody was told."""
    names: list[str] = []
    levels: list[int] = []

    def listener(name: str) -> Any:
        names.append(name)

        def heard(_run: Run, outcome: Outcome) -> bool:
            levels.append(outcome.level)
            return False

        return heard

    rota = Rota("7/0/sweep", "posted-v0", profiles, highest, listener)
    walked = walk("rota/1", GOOD, "default", KERNEL, 30)
    done = [rota.turn(walked, f"7/0/{number}") for number in range(count)]
    return names, [played.run for played in done if played is not None], levels


def test_the_rota_takes_turns() -> None:
    """Protects the hunt's time: one run behind so many walks, of scenarios and of what the walk did, the same for the same seed."""
    names, runs, levels = turns(BEYOND, ["default", "l1vh"])
    assert len(runs) == 120 // EVERY
    assert [run.operations for run in runs] == [run.operations for run in turns(BEYOND, ["default", "l1vh"])[1]]
    assert any("/walk 7/0/" in name for name in names)
    assert any(name.split("/")[3] in SCENARIOS for name in names)
    assert {run.config.profile for run in runs} <= {"default", "l1vh"}
    assert levels


def test_the_rota_keeps_to_the_callers_that_are_wanted() -> None:
    """Protects ``hunt --level kernel``: of a scenario that needs a worse caller only the clean run is done, and nothing is told."""
    assert max(turns(KERNEL, ["default"], 200)[2]) == KERNEL
    assert max(turns(CONTRACT, ["default"], 200)[2]) <= CONTRACT


def test_the_scenarios_have_more_places_than_the_kernels_own_test_has_iterations() -> None:
    """Protects the claim: ``tools/testing/selftests/iommu/iommufd_fail_nth.c`` has 8 scenarios of at most 400 iterations. Traces
    times sites are more, answers not counted, and without the scenarios in which something is refused anyhow."""
    sites = 0
    for subject in shipped():
        one = Sweep(subject, GOOD, lambda run, outcome: False)
        assert len(list(islice(one.runs(), 2))), "the clean run, and the first of what is refused in it"
        if not any(operation.faults for operation in subject.operations):
            sites += one.count.sites
    assert sites > 8 * 400
