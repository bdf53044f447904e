"""Replaying: a verdict has three values, a recording tells where a run parts from it, bisection gets the statuses it wants."""

from __future__ import annotations

import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from catalogue import ENTRIES
from rich.console import Console

from hvmodel import operations as ops
from hvmodel.cli import main
from hvmodel.configuration import Configuration
from hvmodel.drivers import REGISTRY
from hvmodel.drivers.interface import DriverEntry
from hvmodel.drivers.posted_v0 import PostedV0
from hvmodel.faults import Fault
from hvmodel.gears.walk import walk
from hvmodel.kernel.services import Kernel
from hvmodel.traces.format import Trace, from_json, read, to_json, write
from hvmodel.traces.observed import difference, observe
from hvmodel.traces.record import recorded
from hvmodel.traces.replay import bisect_file
from hvmodel.traces.story import tell
from hvmodel.traces.verdict import verdict_of
from hvmodel.world import run

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "hvmodel" / "traces" / "FORMAT.md").read_text(encoding="utf-8")
D20 = ENTRIES["D20"]
STALE = Trace(D20.config, list(D20.operations), "posted-v0", D20.property)

# --- the page of the format -------------------------------------------------------------------------------------------


def test_the_example_of_the_page_is_true() -> None:
    """Protects whoever writes a trace from the page: its example reads, fails as it says and is what recording it gives."""
    example = re.search(r"```json\n(.*?)```", PAGE, re.DOTALL)
    assert example is not None
    trace = from_json(example.group(1))
    assert recorded(trace) == trace
    assert verdict_of(trace).step == trace.finding["step"] == 4


def test_the_page_names_every_operation_and_field() -> None:
    """Protects the page against going stale: each operation with all of its fields, each field of a configuration."""
    rows = [line for line in PAGE.splitlines() if line.startswith("| `")]
    for kind, cls in ops.KINDS.items():
        row = next(row for row in rows if f"`{kind}`" in row.split("|")[1])
        assert set(re.findall(r"`([a-z_]+)`", row.split("|")[2])) == set(ops.field_names(cls)), kind
    for name in Configuration.__dataclass_fields__:
        assert f"`{name}`" in PAGE, name


# --- verdicts ---------------------------------------------------------------------------------------------------------


def test_a_verdict_has_three_values() -> None:
    """Protects against a pass that is none: what was never put to the test is neither good nor bad."""
    assert verdict_of(STALE).state == "fails"
    assert verdict_of(STALE, "repaired").state == "holds"
    nothing = replace(STALE, operations=STALE.operations[1:])
    assert (verdict_of(nothing).state, verdict_of(nothing).reason) == ("undetermined", "no operation did anything")
    refused = ops.Alloc(faults=(Fault("kzalloc", times=None),))
    cut = replace(STALE, operations=[ops.Boot(), refused, *STALE.operations[2:]])
    assert verdict_of(cut, "repaired").state == "undetermined"
    assert "did nothing, and no-stale-mapping was never asked" in verdict_of(cut, "repaired").reason


# --- what was observed ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("key", ENTRIES)
def test_a_recording_replays_as_recorded(key: str) -> None:
    """Protects recordings: a second run is the first one to the last hypercall, after a trip through a file as well."""
    entry = ENTRIES[key]
    trace = recorded(Trace(entry.config, list(entry.operations), "posted-v0", entry.property))
    again = from_json(to_json(trace))
    assert again == trace
    steps, _world = tell(again)
    assert difference(again.observed, steps) is None
    assert trace.finding["step"] == len(entry.operations)


def test_recordings_of_walks_replay() -> None:
    """Protects recordings of long runs with faults, shortages and loops of thousands of hypercalls, which are folded."""
    for profile in ("default", "l1vh", "stress", "variations"):
        done = walk(f"recorded/{profile}", "posted-v0", profile, 2, 80)
        trace = recorded(Trace(done.config, done.operations))
        assert from_json(to_json(trace)) == trace
        assert difference(trace.observed, tell(trace)[0]) is None


def test_each_difference_is_named() -> None:
    """Protects the note of a replay: a change of an answer, a hypercall, a call or a count of steps is found where it is."""
    trace = recorded(STALE)
    steps, _world = tell(trace)
    last = trace.observed[-1]
    call = last.calls[0]
    first = call.hypercalls[0]
    changed = {
        "the answer is": replace(last, answer="-EIO"),
        "unmap_pages answers": replace(last, calls=(replace(call, answer="0x1000"), *last.calls[1:])),
        "unmap_pages makes UNMAP_DEVICE_GPA_PAGES -> SUCCESS, ": replace(
            last,
            calls=(replace(call, hypercalls=(replace(first, status="NO_MEMORY_4PAGES"), *call.hypercalls[1:])), *last.calls[1:]),
        ),
        "no more hypercalls, recorded was": replace(
            last, calls=(replace(call, hypercalls=(*call.hypercalls, replace(first, refused=True))), *last.calls[1:])
        ),
        "a call of unmap_pages, recorded was a call of map_pages": replace(last, calls=(replace(call, name="map_pages"),)),
    }
    for text, wrong in changed.items():
        line = difference([*trace.observed[:-1], wrong], steps)
        assert line is not None
        assert line.startswith(f"step {len(steps)}: ")
        assert text in line
    assert difference([*trace.observed, last], steps) == f"step {len(steps) + 1}: recorded, but not run"
    assert difference(observe(steps), steps) is None
    assert difference([], steps) is None


def test_replay_says_where_drivers_part(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Protects comparing drivers: on another one the first call that goes another way is named, on its own nothing is."""
    path = tmp_path / "trace.json"
    write(recorded(STALE), path)
    assert main(["replay", str(path)]) == 1
    assert "note:" not in capsys.readouterr().out
    assert main(["replay", str(path), "--driver", "repaired"]) == 0
    assert "note: parts from posted-v0, on which it was recorded; step " in capsys.readouterr().out
    assert read(path).finding["views"][0]["of"] == "domain 1"


# --- bisection --------------------------------------------------------------------------------------------------------


class Broken(PostedV0):
    """A driver in the middle of a change."""

    def hv_iommu_detect(self) -> None:
        raise AttributeError("no such attribute")


def test_bisection_gets_its_statuses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Protects ``git bisect run``: 0 good, 1 bad, and 125 for all that says nothing about the driver, each in one line."""

    def no_load(_kernel: Kernel) -> PostedV0:
        raise ImportError("does not build")

    monkeypatch.setitem(REGISTRY, "broken", DriverEntry("broken", "", Broken))
    monkeypatch.setitem(REGISTRY, "unbuilt", DriverEntry("unbuilt", "", no_load))
    path, bad, idle = tmp_path / "trace.json", tmp_path / "bad.json", tmp_path / "idle.json"
    write(STALE, path)
    bad.write_text("{")
    write(replace(STALE, operations=STALE.operations[1:]), idle)
    console = Console(width=200, highlight=False, markup=False)
    for file, driver, status, text in (
        (path, "posted-v0", 1, "bad: no-stale-mapping fails at step 4: domain 1: 1 page"),
        (path, "repaired", 0, "good: no-stale-mapping holds"),
        (path, "broken", 125, "cannot be tested: AttributeError: no such attribute"),
        (path, "unbuilt", 125, "cannot be tested: ImportError: does not build"),
        (path, "posted-v9", 125, "no driver is called 'posted-v9'"),
        (bad, None, 125, "cannot be tested: "),
        (tmp_path / "none.json", None, 125, "No such file"),
        (idle, None, 125, "cannot be tested: no operation did anything"),
    ):
        with console.capture() as said:
            assert bisect_file(file, driver, console) == status, (file, driver)
        assert said.get().count("\n") == 1
        assert text in said.get()


def test_a_commit_that_does_not_load_is_skipped(tmp_path: Path) -> None:
    """Protects bisection over commits of the harness: where it cannot be imported at all, the status is 125, not Python's 1."""
    package = tmp_path / "hvmodel"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "__main__.py").write_text((ROOT / "hvmodel" / "__main__.py").read_text())
    (package / "cli.py").write_text("syntax error\n")
    done = subprocess.run(
        [sys.executable, "-m", "hvmodel", "replay", "--bisect", "x.json"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 125
    assert done.stderr.startswith("hvmodel: this commit cannot be tested: SyntaxError")
    assert done.stderr.count("\n") == 1


def test_git_bisect_finds_the_commit(tmp_path: Path) -> None:
    """Protects the documented use, whole: of six commits of which one breaks the driver and two cannot be tested, the right one."""
    write(STALE, tmp_path / "trace.json")
    repository = tmp_path / "repository"
    repository.mkdir()

    def git(*words: str) -> str:
        done = subprocess.run(
            ["git", "-c", "user.name=a", "-c", "user.email=a@b", "-c", "init.defaultBranch=main", *words],
            cwd=repository, capture_output=True, text=True, check=True,
        )  # fmt: skip
        return done.stdout

    git("init", "-q")
    for number, driver in enumerate(("repaired", "nonsense", "repaired", "posted-v0", "nonsense", "posted-v0")):
        (repository / "driver").write_text(f"{driver}\n")
        (repository / "number").write_text(f"{number}\n")
        git("add", ".")
        git("commit", "-q", "-m", f"commit {number}")
    git("bisect", "start", "HEAD", "HEAD~5")
    job = f"PYTHONPATH={ROOT} {sys.executable} -m hvmodel replay --bisect {tmp_path}/trace.json --driver $(cat driver)"
    git("bisect", "run", "sh", "-c", job)
    log = git("bisect", "log")
    assert re.search(r"# first bad commit: \[\w+\] commit 3", log), log
    assert "# skip: " in log


def test_nothing_of_a_run_depends_on_being_told() -> None:
    """Protects recordings: listening to a run changes nothing in it."""
    plain = run(STALE.config, STALE.operations, "posted-v0")[1]
    assert [step.outcome for step in tell(STALE)[0]] == plain
