"""Detect: trials repeat, limits hold, what was not found is said, a loss of power against a stored run is seen."""

from __future__ import annotations

import itertools
import json
import os
import re
import signal
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from toy_drivers import ExactToy

from hvmodel import operations as ops
from hvmodel.callers.levels import BEYOND, KERNEL, LEVELS, level_of
from hvmodel.cli import main
from hvmodel.drivers import REGISTRY, DriverEntry
from hvmodel.gears.uniform import uniform
from hvmodel.gears.walk import runs
from hvmodel.jobs import detect as detect_module
from hvmodel.jobs.detect import Detection, Options, detect, matching, schedule
from hvmodel.jobs.detect_file import BadFile, read, save
from hvmodel.jobs.power import Ratio, Row, compare, incomplete, overall, ratios, rows
from hvmodel.jobs.survival import Quantile
from hvmodel.jobs.survival_picture import curves, draw
from hvmodel.jobs.survival_svg import svg
from hvmodel.jobs.trials import GEARS, Limit, Task, Trial, run_trial, seed_of
from hvmodel.properties.catalogue import PROPERTIES
from hvmodel.rules import refusals
from hvmodel.rules.worlds import PROFILE_NAMES
from hvmodel.world import World

ROOT = Path(__file__).parent.parent
CHEAP, PATIENT = "toy+D901", "toy+O902"


class ForgetsLookups(ExactToy):
    """A toy with a defect that any lookup of a mapping shows."""

    name = CHEAP
    summary = "answers every lookup with 0"

    def iova_to_phys(self, iommu_dom: Any, iova: int) -> int:
        return 0


class ForgetsWidePages(ExactToy):
    """A toy with a defect that takes a few hundred operations to see."""

    name = PATIENT
    summary = "answers lookups above 4 GiB with 0"

    def iova_to_phys(self, iommu_dom: Any, iova: int) -> int:
        return 0 if iova >> 32 else super().iova_to_phys(iommu_dom, iova)


@pytest.fixture(autouse=True)
def _variants() -> Iterator[None]:
    """Two variants that are in the registry while a test runs."""
    for cls, defect in ((ForgetsLookups, "D901-lookup"), (ForgetsWidePages, "O902-wide")):
        REGISTRY[cls.name] = DriverEntry(cls.name, cls.summary, cls, defect, "stale state", "for tests")
    yield
    for name in (CHEAP, PATIENT):
        del REGISTRY[name]


def options(**changes: Any) -> Options:
    """Small and without a clock."""
    return replace(Options([CHEAP, PATIENT], ["walk", "uniform"], 4, Limit(operations=300), seed=1, jobs=2), **changes)


def timeless(trials: list[Trial]) -> list[Trial]:
    """Trials without what depends on the machine."""
    return [replace(trial, seconds=0.0) for trial in trials]


def status(arguments: list[str]) -> int:
    """The exit status of a command, run in this process."""
    try:
        return main(arguments)
    except SystemExit as ended:
        return ended.code if isinstance(ended.code, int) else -1


def trial(number: int, operations: int, found: bool = True, driver: str = CHEAP, gear: str = "walk") -> Trial:
    """A trial that was never done."""
    return Trial(driver, gear, number, number, found, operations, operations / 1e4, ("no-stale-mapping",) if found else (), 3)


# --- trials -----------------------------------------------------------------------------------------------------------


def test_trials_repeat_whatever_the_number_of_processes() -> None:
    """Protects comparisons: with a limit of operations the same seed gives the same trials, in one process or in three; another
    seed gives others."""
    once = timeless(detect(options(jobs=1)).trials)
    assert timeless(detect(options(jobs=3)).trials) == once
    assert len(once) == 16
    assert timeless(detect(options(seed=2)).trials) != once


def test_a_seed_is_the_same_everywhere() -> None:
    """Protects stored runs: seeds depend on nothing but what they are made of, and no two trials share one."""
    assert seed_of(0, "repaired+D05", "walk", 0) == 0xFCBF3013C014
    seeds = {seed_of(*key) for key in itertools.product((0, 1), ("a", "b"), GEARS, range(10))}
    assert len(seeds) == 40 * len(GEARS)
    assert max(seeds) < 1 << 53


@pytest.mark.parametrize("gear", GEARS)
def test_a_trial_ends_at_its_finding_or_at_its_limit(gear: str) -> None:
    """Protects the figures: what is found is found at an operation within the limit; what is not found has done the whole limit."""
    for driver, number, limit in itertools.product((CHEAP, PATIENT), range(3), (1, 40, 400)):
        done = run_trial(Task(driver, gear, number, seed_of(7, driver, gear, number)), Limit(operations=limit), minimised=2)
        assert done.operations <= limit
        if done.found:
            assert set(done.properties) <= set(PROPERTIES)
            assert done.properties
            assert (done.minimised is None) == (number >= 2)
            assert 1 <= (done.minimised or 1) <= done.operations
        else:
            assert (done.operations, done.properties, done.minimised) == (limit, (), None)


@pytest.mark.parametrize("gear", GEARS)
def test_a_smaller_limit_cuts_the_same_trial(gear: str) -> None:
    """Protects censoring: what ends early is the same search as what goes on; found within the limit is found."""
    for number in range(3):
        task = Task(CHEAP, gear, number, seed_of(3, CHEAP, gear, number))
        full = run_trial(task, Limit(operations=20_000))
        assert full.found
        assert timeless([run_trial(task, Limit(operations=full.operations))]) == timeless([full])
        if full.operations > 1:
            assert not run_trial(task, Limit(operations=full.operations - 1)).found


def test_a_limit_of_seconds_ends_a_trial() -> None:
    """Protects the nightly job: the clock ends what finds nothing, and such a trial took as long as the limit says."""
    for gear in GEARS:
        done = run_trial(Task("repaired", gear, 0, 1), Limit(seconds=0.2))
        assert (done.found, done.seconds) == (False, 0.2)
        assert done.operations > 50


def test_slow_trials_begin_first() -> None:
    """Protects the end of a long job from one slow trial: what took long before comes first, else slow gears; nothing is lost."""
    every = options(gears=list(GEARS))
    tasks = schedule(every)
    assert [task.gear for task in tasks[:8]] == ["uniform"] * 8
    assert {task.gear for task in tasks[-8:]} == {"walk"}
    earlier = [trial(0, 10, driver=CHEAP), trial(0, 9000, driver=PATIENT)]
    ordered = schedule(options(gears=["walk"]), earlier)
    assert [task.driver for task in ordered] == [PATIENT] * 4 + [CHEAP] * 4
    assert set(ordered) == {task for task in tasks if task.gear == "walk"}
    assert len(set(tasks)) == 8 * len(GEARS)


def test_a_worker_that_fails_is_heard(monkeypatch: pytest.MonkeyPatch) -> None:
    """Protects against a clean report from trials that never ran."""

    def broken(*_arguments: Any) -> Any:
        raise ZeroDivisionError("planted")

    monkeypatch.setattr(detect_module, "run_trial", broken)
    with pytest.raises(RuntimeError, match="ZeroDivisionError: planted"):
        detect(options())


# --- which drivers ----------------------------------------------------------------------------------------------------


def test_patterns_choose_variants_and_names_choose_drivers() -> None:
    """Protects ``--driver``: a pattern means variants only, in the order of their numbers; any driver can be named."""
    everything = matching("*")
    assert {CHEAP, PATIENT} <= set(everything)
    assert not {"posted-v0", "repaired"} & set(everything)
    assert matching("toy+*") == [CHEAP, PATIENT]
    assert matching("*+O9??") == [PATIENT]
    assert matching("posted-v0") == ["posted-v0"]
    assert matching("posted*") == matching("") == matching("toy") == []
    numbers = [int(name[len("repaired+D") :]) for name in matching("repaired+D*")]
    assert numbers == sorted(numbers)


# --- the baseline -----------------------------------------------------------------------------------------------------


def test_the_baseline_is_not_crippled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Protects the ratio from flattery: within 40 runs every kind of operation applies in the uniform gear, and faults fire; and
    it stays within its level, so that it is judged as the walk is."""
    applied: set[str] = set()
    apply, fired = World.apply, 0

    def watched(world: World, operation: ops.Operation) -> Any:
        nonlocal fired
        level = level_of(operation, world.books) if world.booted else KERNEL
        outcome = apply(world, operation)
        if outcome.applied:
            assert level <= limit
            applied.add(operation.kind)
            fired += len(outcome.fired)
        return outcome

    monkeypatch.setattr(World, "apply", watched)
    for seed, profile, limit, steps in itertools.islice(runs(0, 0, list(PROFILE_NAMES), list(range(len(LEVELS))), 200), 40):
        run = uniform(seed, "repaired", profile, limit, steps)
        assert len(run.operations) <= steps + 1
        assert isinstance(run.operations[-1], ops.Recover)
    assert applied == set(ops.KINDS) - ops.IOCTLS
    assert fired > 100


def test_the_baseline_repeats() -> None:
    """Protects stored runs: the same seed gives the same operations."""
    once = uniform("4/0/1", "repaired", "default", BEYOND, 100)
    again = uniform("4/0/1", "repaired", "default", BEYOND, 100)
    assert (once.config, once.operations) == (again.config, again.operations)
    assert uniform("5/0/1", "repaired", "default", BEYOND, 100).operations != once.operations


# --- what the trials say ----------------------------------------------------------------------------------------------


def row(driver: str, gear: str, value: float, exact: bool) -> Row:
    figure = Quantile(value, exact)
    return Row(driver, gear, 10, 10, (figure, figure), (figure, figure), [], Counter())


def test_rows_count_and_censor() -> None:
    """Protects the table: found counts, percentiles that fall among trials that did not find are bounds."""
    trials = [trial(n, 10 * n + 10, found=n < 7) for n in range(10)]
    (only,) = rows(Detection(options(drivers=[CHEAP], gears=["walk"], trials=10), trials))
    assert (only.found, only.trials) == (7, 10)
    assert only.operations == (Quantile(50, True), Quantile(90, False))
    assert only.lengths == [3] * 10
    assert dict(only.properties) == {"no-stale-mapping": 7}
    assert incomplete([only]) == [only]
    assert incomplete([replace(only, found=10)]) == []


@pytest.mark.parametrize(
    ("walked", "base", "relation"),
    [
        ((10, True), (100, True), "="),
        ((10, True), (100, False), ">="),
        ((10, False), (100, True), "<="),
        ((10, False), (100, False), "?"),
    ],
)
def test_ratios_say_what_they_are(walked: tuple[int, bool], base: tuple[int, bool], relation: str) -> None:
    """Protects honesty: a ratio of a bound is a bound, in the right direction."""
    table = [row(CHEAP, "walk", *walked), row(CHEAP, "uniform", *base), row(PATIENT, "walk", 5, True)]
    assert ratios(table) == {CHEAP: Ratio(CHEAP, 10.0, relation)}


def test_the_overall_ratio_is_no_larger_than_what_is_known() -> None:
    """Protects the headline: where the walk has no median the ratio counts as nothing, and lower bounds are counted."""
    found = [Ratio("a", 8, "="), Ratio("b", 100, ">="), Ratio("c", 2, "="), Ratio("d", 50, "?"), Ratio("e", 9, "<=")]
    total = overall(found)
    assert total is not None
    assert (total.value, total.count, total.bounds, total.unknown) == (2, 5, 1, 2)
    assert overall([]) is None


def test_a_loss_is_seen_and_a_gain_is_none() -> None:
    """Protects the gate: one driver found ten times later is a loss on that driver; the same later by a little on many drivers is a
    loss together; equal and sooner is none. A gear or driver that only one run has is not compared."""
    names = [f"v{n}" for n in range(20)]
    then = [trial(n, 100 + 10 * n, driver=name) for name in names for n in range(10)]
    now = [replace(t, operations=t.operations * 10) if t.driver == "v3" else t for t in then]
    assert [(change.driver, change.is_loss) for change in compare(now, then) if change.is_loss] == [("v3", True)]
    little = [replace(t, operations=t.operations + 35) for t in then]
    assert [change.driver for change in compare(little, then) if change.is_loss] == [""]
    assert not [change for change in compare(then, then) if change.is_loss or change.is_gain]
    assert [change.driver for change in compare(then, little) if change.is_gain] == [""]
    assert not [change for change in compare(then, little) if change.is_loss]
    lost = [replace(t, found=False, operations=1000) if t.driver == "v5" else t for t in then]
    assert [change.driver for change in compare(lost, then) if change.is_loss] == ["v5"]
    assert compare([trial(0, 5, gear="uniform")], then) == []


# --- files ------------------------------------------------------------------------------------------------------------


def test_a_stored_run_reads_back(tmp_path: Path) -> None:
    """Protects references: what was measured is what is read, one trial a line, with the settings for a person."""
    detection = detect(options(trials=2))
    save(detection, tmp_path / "run.json")
    assert read(tmp_path / "run.json") == detection.trials
    data = json.loads((tmp_path / "run.json").read_text())
    assert data["hvmodel-detect"] == 1
    assert data["settings"]["limit_operations"] == 300
    assert set(data["trials"][0]) == set(GOOD)
    assert sum('"driver"' in line for line in (tmp_path / "run.json").read_text().splitlines()) == 8


GOOD = {
    "driver": "a", "gear": "walk", "trial": 0, "seed": 1, "found": True, "operations": 3, "seconds": 0.5, "properties": ["x"],
    "minimised": 2,
}  # fmt: skip


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "no JSON, or cut off"),
        ('{"hvmodel-detect": 1, "complete"', "no JSON, or cut off"),
        ("[" * 100_000, "nested too deeply"),
        ("[1]", "not written by 'hvmodel detect --json'"),
        ('{"hvmodel-trace": 1}', "not written by 'hvmodel detect --json'"),
        ('{"hvmodel-detect": 2}', "hvmodel-detect: version 2 is not the one that this harness reads (1)"),
        ('{"hvmodel-detect": 1, "complete": false}', "that run was interrupted"),
        ('{"hvmodel-detect": 1, "complete": true, "trials": []}', "no trials in it"),
        ('{"hvmodel-detect": 1, "complete": true, "trials": [7]}', "trials[0]: must have exactly driver, gear, "),
        *[
            (json.dumps({"hvmodel-detect": 1, "complete": True, "trials": [GOOD, {**GOOD, name: value}]}), f"trials[1]: {name}: ")
            for name, value in (
                ("driver", 5), ("gear", "trot"), ("trial", "0"), ("seed", None), ("found", 1), ("operations", -1),
                ("operations", True), ("operations", 10**30), ("seconds", float("nan")), ("seconds", float("inf")),
                ("properties", [3]), ("properties", "x"), ("minimised", 1.5),
            )
        ],
    ],
)  # fmt: skip
def test_a_bad_file_is_one_line_and_status_2(text: str, why: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Protects the person whose reference is broken: what is wrong with it is said before anything is measured."""
    path = tmp_path / "bad.json"
    path.write_text(text)
    assert status(["detect", "--driver", CHEAP, "--trials", "1", "--operations", "5", "--against", str(path)]) == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert err.startswith(f"hvmodel: {path}: {why}"), err


def test_files_that_are_none(tmp_path: Path) -> None:
    """Protects against tracebacks: nothing there, a directory, bytes that are no text."""
    (tmp_path / "bytes").write_bytes(b"\xff\xfe\x00")
    for path in (tmp_path / "none", tmp_path, tmp_path / "bytes"):
        with pytest.raises(BadFile, match=re.escape(str(path))):
            read(path)


# --- pictures ---------------------------------------------------------------------------------------------------------


def made(gears: tuple[str, ...] = GEARS) -> Detection:
    """A run with a curve for each gear: the walk finds everything, the others half and nothing."""
    share = dict.fromkeys(GEARS, 0) | {"walk": 20, "hypothesis": 10}
    trials = [
        trial(n, 3 ** (n // 2) if n < share[gear] else 20_000, n < share[gear], gear=gear)
        for gear, n in itertools.product(gears, range(20))
    ]
    return Detection(options(drivers=[CHEAP], gears=list(gears), trials=20), trials)


@pytest.mark.parametrize("width", [30, 80, 400])
@pytest.mark.parametrize("plain", [False, True])
def test_the_picture_in_characters(width: int, plain: bool) -> None:
    """Protects the reader: it fits, says which gear is which without colour, and its lines begin and end where they should."""
    lines = [line.plain for line in draw(curves(made()), width, plain)]
    plot = lines[1:18]
    assert max(map(len, lines[1:20])) <= width
    assert plot[0].startswith("100 %")
    assert plot[-1].startswith("  0 %")
    walk, hypothesis, baseline = ("#", "=", ".") if plain else ("━", "═", "┄")
    assert {walk, "┓"} & set(plot[0]), "the walk is drawn last and begins at 100 %"
    assert baseline in plot[0], "the baseline found nothing and stays at 100 %"
    assert walk in plot[-1] or "┗" in plot[-1], "the walk found everything and ends at 0 %"
    assert hypothesis in plot[8], "half was found"
    assert not {hypothesis, baseline} & set("".join(plot[9:]).replace("%", ""))
    assert [legend.split()[1] for legend in lines[20:]] == [f"{gear}:" for gear in GEARS]
    if plain:
        assert "".join(lines).isascii()
    assert draw([], width, plain) == []


def test_the_picture_as_svg() -> None:
    """Protects reports that include it: well-formed, self-contained, a line and a name for each gear, light and dark."""
    text = svg(curves(made()), "a < b & c")
    root = ElementTree.fromstring(text)
    words = " ".join("".join(element.itertext()) for element in root.iter("{http://www.w3.org/2000/svg}text"))
    for word in ("Trials that have found nothing yet", "a < b & c", "operations", "share of trials", "100 %", "10,000", *GEARS):
        assert word in words
    paths = [element.get("class", "") for element in root.iter("{http://www.w3.org/2000/svg}path")]
    assert all(paths.count(f"line {gear}") == 2 for gear in GEARS), "a line and its sample"
    assert "prefers-color-scheme: dark" in text
    assert not re.search(r"href|url\(|@import|<script|nan|inf\b", text)
    coordinates = [float(number) for number in re.findall(r'(?:\bx|\by)="([-.\d]+)"', text)]
    assert 0 <= min(coordinates) <= max(coordinates) <= 860
    assert ElementTree.fromstring(svg([], "nothing")) is not None


# --- the command ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--driver", "nobody*"], "hvmodel: no variant fits 'nobody*' and no driver is called so (see 'hvmodel drivers')"),
        (["--trials", "0"], "hvmodel detect: argument --trials: 0 is not in 1 to "),
        (["--trials", "-3"], "hvmodel detect: argument --trials: "),
        (["--limit", "0"], "hvmodel detect: argument --limit: 0 is not in "),
        (["--operations", "0"], "hvmodel detect: argument --operations: 0 is not in 1 to "),
        (["--operations", "5", "--limit", "5"], "hvmodel detect: argument --limit: not allowed with argument --operations"),
        (["--gear", "trot"], "hvmodel detect: argument --gear: invalid choice: 'trot'"),
        (["--jobs", "0"], "hvmodel detect: argument --jobs: 0 is not in 1 to 1024"),
        (["--against", "/nowhere.json"], "hvmodel: /nowhere.json: No such file or directory"),
        (["--json", "/proc/self/x"], "hvmodel: cannot write to /proc/self"),
        (["--svg", "/"], "hvmodel: cannot write to /: Is a directory"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_wrong_use_is_one_line_and_status_2(arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Protects the person who mistypes: one line on stderr, nothing on stdout, nothing is started."""
    assert status(["detect", *arguments]) == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert err.startswith(said), err


SMALL = ["detect", "--driver", "toy+*", "--trials", "5", "--jobs", "2", "--seed", "5"]


def test_a_run_its_files_and_its_comparison(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Protects the main road: measure, store, measure again against the store. Status 0 where all was found and nothing lost, 1
    where something was not found, 1 where the stored run was sooner."""
    stored, picture = tmp_path / "deep" / "run.json", tmp_path / "run.svg"
    assert status([*SMALL, "--gear", "all", "--operations", "20000", "--json", str(stored), "--svg", str(picture)]) == 0
    out, _err = capsys.readouterr()
    assert "\x1b" not in out
    table = [match for line in out.splitlines() if (match := re.match(r"(\S*) +(\w+) +5/5 +[\d,]+ ", line))]
    assert [match.groups() for match in table] == [
        (driver if gear == "walk" else "", gear) for driver in (CHEAP, PATIENT) for gear in GEARS
    ]
    assert "2 drivers, 5 trials each, until the first violation or 20,000 operations, seed 5" in out
    assert "everything was found in all trials" in out
    assert "median of the ratios over the catalogue variants" in out
    assert re.search(r"^properties that no variant shows: .*no-use-after-free", out, re.M)
    ElementTree.parse(picture)

    assert status([*SMALL, "--operations", "20000", "--against", str(stored)]) == 0
    assert f"against {stored}: walk: no loss of power over 2 drivers (p = 0.5)" in capsys.readouterr().out

    assert status([*SMALL, "--operations", "1"]) == 1
    out = capsys.readouterr().out
    assert f"not found in all trials by walk: {CHEAP} 0/5, {PATIENT} 0/5" in out
    assert ">1" in out

    data = json.loads(stored.read_text())
    data["trials"] = [{**record, "operations": 1, "trial": n} for n, record in enumerate(data["trials"] * 3)]
    stored.write_text(json.dumps(data))
    assert status([*SMALL, "--operations", "20000", "--against", str(stored)]) == 1
    assert re.search(r"walk: LOSS of power over 2 drivers \(p = \S+e-\d+\)", capsys.readouterr().out)


REFERENCE = Path(__file__).parent / "detect_reference.json"
"""A run of the walk, small enough for every test run. When power has changed for a reason, this writes it anew:
``hvmodel detect --driver 'repaired+D*' --operations 500 --trials 4 --json tests/detect_reference.json``."""


def measured_again() -> Detection:
    """The same measurement as the reference's, of those of its drivers that still exist."""
    settings = json.loads(REFERENCE.read_text())["settings"]
    drivers = [name for name in dict.fromkeys(trial.driver for trial in read(REFERENCE)) if name in REGISTRY]
    limit = Limit(operations=settings["limit_operations"])
    return detect(Options(drivers, settings["gears"], settings["trials"], limit, settings["seed"], minimised=0))


def test_no_power_is_lost() -> None:
    """Protects what the rules have learnt: the walk finds the catalogue's defects no later than when the reference was measured.

    So few trials see a loss over many defects; one that concerns few needs the nightly job's. One change of the rules in a thousand
    that loses nothing fails here."""
    losses = [change for change in compare(measured_again().trials, read(REFERENCE)) if change.is_loss]
    assert not losses, losses


def test_a_loss_of_power_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """A gate that cannot close is worse than none: a walk that refuses nothing is a loss."""
    monkeypatch.setattr(refusals, "draw", lambda *_arguments: ())
    changes = compare(measured_again().trials, read(REFERENCE))
    assert changes[0].driver == ""
    assert changes[0].is_loss, changes[0]


def test_a_stored_run_of_other_drivers_is_wrong_use(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Protects against a comparison with nothing that looks like a pass."""
    save(Detection(options(drivers=["x"], gears=["walk"], trials=1), [trial(0, 5, driver="x")]), tmp_path / "x.json")
    assert status([*SMALL, "--against", str(tmp_path / "x.json")]) == 2
    assert "nothing to compare with: no trial of walk on 'toy+*'" in capsys.readouterr().err


@pytest.mark.parametrize("whole_group", [True, False])
def test_an_interrupt_reports_what_there_is(whole_group: bool, tmp_path: Path) -> None:
    """Protects an hour of measuring: Ctrl-C, at a terminal or by kill, tells and stores what was done, and that it is not all."""
    command = [sys.executable, "-m", "hvmodel", "detect", "--limit", "30", "--trials", "20", "--json", str(tmp_path / "part.json")]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(
        [*command, "--driver", "repaired+D*"], env=environment, cwd=ROOT, text=True, start_new_session=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    ) as process:  # fmt: skip
        assert process.stderr is not None
        assert process.stderr.readline().startswith("detecting: "), "the first line of progress comes after two seconds"
        if whole_group:
            os.killpg(process.pid, signal.SIGINT)
        else:
            process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=30)
    assert process.returncode == 1, err
    assert "Traceback" not in err
    assert re.search(r"^interrupted: \d+ of [\d,]+ trials were done$", out, re.M)
    with pytest.raises(BadFile, match="interrupted"):
        read(tmp_path / "part.json")
