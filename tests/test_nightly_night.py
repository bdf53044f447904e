"""Whole nights in small: what is found is new once, and no kill, full disk or restart loses or doubles anything."""

from __future__ import annotations

import json
import multiprocessing
import os
import re
import resource
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
from small_nights import NAME, PORTIONS, RUNS, Honest, Once, Planted, doing, files_of_at_most, interrupt, options, settled, small

from hvmodel.drivers import register
from hvmodel.jobs.nightly import crew, gears, schedule, worker
from hvmodel.jobs.nightly import plan as plans
from hvmodel.jobs.nightly.join import join
from hvmodel.jobs.nightly.ledger import CUT_SHORT, INTERRUPTED, VOID, WHOLE, NightRecord
from hvmodel.jobs.nightly.night import DISK, HARNESS, NEW, NOTHING_NEW, VOID_NIGHT, Night, night
from hvmodel.jobs.nightly.plan import Canary, Shard, make_plan
from hvmodel.jobs.nightly.portions import Done, Portion
from hvmodel.jobs.nightly.state import BadState, load
from hvmodel.jobs.nightly.steps import Setup
from hvmodel.jobs.nightly.worker import Start
from hvmodel.traces.format import read
from hvmodel.traces.verdict import FAILS, verdict_of

FIGURES = ("portions", "operations", "runs", "tally", "kinds", "sampled", "checks", "rota", "canaries", "corpus", "coverage", "new")
"""What of a night's record does not depend on clocks and processes."""


@pytest.fixture(scope="module", autouse=True)
def rested() -> Iterator[None]:
    """Workers start light."""
    with settled():
        yield


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Nights of a second."""
    with small(monkeypatch):
        yield


def figures(record: NightRecord) -> dict[str, Any]:
    """What two nights must have in common if they did the same."""
    data: dict[str, Any] = {name: value for name, value in asdict(record).items() if name in FIGURES}
    for trial in (*data["rota"], *data["canaries"]):
        del trial["seconds"]
    data["tally"]["seconds"] = 0
    return data


def test_a_planted_defect_is_new_once(tmp_path: Path) -> None:
    """Protects the purpose of the job: a defect that comes into a driver is new in the night after, with a trace that shows it,
    known from then on, fixed when it is gone, and the exit status is 1 in that one night only."""
    came = doing(tmp_path, 20)
    assert (came.record.new, came.status, came.record.ended) == ([], NOTHING_NEW, WHOLE)
    register(Planted)
    came = doing(tmp_path, 21)
    (planted,) = came.record.new
    assert planted.startswith("input-page-bounds/map_pages/")
    assert came.status == NEW
    trace = read(tmp_path / "traces" / came.books.ledger.entries[planted].file)
    assert verdict_of(trace, NAME).state == FAILS
    assert len(trace.operations) == 3
    came = doing(tmp_path, 22)
    assert (came.record.new, came.status) == ([], NOTHING_NEW)
    assert came.record.known == [planted]
    register(Honest)
    came = doing(tmp_path, 23)
    assert (came.record.new, came.record.known, came.status) == ([], [], NOTHING_NEW)
    assert came.record.fixed == [planted]
    assert came.books.ledger.entries[planted].seen == ("2026-11-21", "2026-11-22")


# --- nothing is lost, nothing is counted twice --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def peace() -> list[Night]:
    """The night without trouble, once it has been done."""
    return []


@pytest.fixture
def undisturbed(tmp_path: Path, peace: list[Night]) -> Night:
    """The same night without trouble."""
    register(Planted)
    if not peace:
        peace.append(doing(tmp_path / "undisturbed"))
    return peace[0]


def alike(came: Night, wanted: Night) -> None:
    """Both nights found and counted the same."""
    assert figures(came.record) == figures(wanted.record)
    assert came.books.ledger.entries == wanted.books.ledger.entries
    assert came.books.ledger.kinds == wanted.books.ledger.kinds
    assert came.books.states == wanted.books.states
    assert came.record.new
    assert len(came.record.new) == len(wanted.record.new)


def killed(state: Path, day: int = 20, portions: int = 1) -> list[int]:
    """A night in a process of its own that kills itself (SIGKILL) after so many portions; the process ids of its workers."""

    def kill() -> None:
        workers = [process.pid for process in multiprocessing.active_children()]
        (state / "workers").write_text(json.dumps(workers))
        os.kill(os.getpid(), signal.SIGKILL)

    process = multiprocessing.get_context("fork").Process(target=doing, args=(state, day, Once(portions, kill)))
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    workers: list[int] = json.loads((state / "workers").read_text())
    assert workers
    return workers


def is_alive(pid: int) -> bool:
    """Whether a process is there and no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def test_an_interrupted_night_is_resumed(tmp_path: Path, undisturbed: Night) -> None:
    """Protects a night that somebody stops: it says so, what it found so far is in the ledger, and the same command goes on to the
    same result as a night without trouble; when it is over, it is not done again."""
    state = tmp_path / "state"
    came = doing(state, progress=Once(1, interrupt))
    assert came.record.ended == INTERRUPTED
    assert came.record.gears["walk"][0] in (1, 2)
    assert set(load(state, NAME).ledger.entries) <= set(undisturbed.record.new)
    came = doing(state)
    assert (came.record.ended, came.record.sessions) == (WHOLE, 2)
    alike(came, undisturbed)
    assert not (state / "work").exists()
    again = doing(state)
    assert (again.done_before, again.status) == (True, NEW)
    assert again.record == came.record


def test_a_killed_night_is_resumed(tmp_path: Path, undisturbed: Night) -> None:
    """Protects a night whose job is killed (SIGKILL) with its work half done: its workers end by themselves, and what is done again
    gives what a night without trouble gives, not more and not less."""
    state = tmp_path / "state"
    workers = killed(state)
    assert not (state / "ledger.json").exists()
    came = doing(state)
    assert (came.record.ended, came.record.sessions) == (WHOLE, 2)
    alike(came, undisturbed)
    until = time.monotonic() + 30
    while any(map(is_alive, workers)) and time.monotonic() < until:
        time.sleep(0.1)
    assert not any(map(is_alive, workers)), "workers outlive their job"


def test_what_a_killed_night_found_is_news_in_the_next_one(tmp_path: Path) -> None:
    """Protects findings of a night that was killed and never resumed: the next night takes them over, and they are new there, not
    silently known."""
    register(Planted)
    killed(tmp_path, 20, portions=PORTIONS)
    said: list[str] = []
    came = night(options(tmp_path, 21), None, said.append)
    assert [record.ended for record in came.books.ledger.nights.values()] == [CUT_SHORT, WHOLE]
    assert [line for line in said if "2026-11-20.1of1 was cut short" in line]
    (planted,) = came.record.new
    assert came.books.ledger.entries[planted].seen == ("2026-11-20", "2026-11-21")
    assert came.status == NEW
    assert not (tmp_path / "work").exists()


def test_a_killed_worker_is_replaced(tmp_path: Path, undisturbed: Night) -> None:
    """Protects a night from the kernel's OOM killer and the like: the portion of a worker that is killed is done by another one,
    and the night comes to what it would have come to."""

    def kill() -> None:
        for process in multiprocessing.active_children():
            os.kill(process.pid or 0, signal.SIGKILL)

    came = doing(tmp_path / "state", progress=Once(1, kill))
    assert came.record.killed == 1
    assert came.record.failures == []
    alike(came, undisturbed)


def with_portion(monkeypatch: pytest.MonkeyPatch, what: Callable[[int, Done], None]) -> None:
    """Do something with each portion of the walk, in the worker."""
    real = gears.GEARS[0]

    def portion(plan: Any, number: int, driver: str, catch: Any, digest: bool) -> Done:
        done = real.portion(plan, number, driver, catch, digest)
        what(number, done)
        return done

    monkeypatch.setattr(gears, "GEARS", (replace(real, portion=portion),))


def test_a_portion_that_kills_is_set_aside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Protects a night from a portion of which every worker dies: after three the night goes on without it and ends as an error of
    the harness that names it."""

    def kill(number: int, done: Done) -> None:
        if number == 1:
            os.kill(os.getpid(), signal.SIGKILL)

    with_portion(monkeypatch, kill)
    came = doing(tmp_path)
    assert (came.record.killed, came.record.failures) == (3, ["walk/1: its worker died 3 times"])
    assert came.record.gears["walk"][0] == PORTIONS
    assert (came.status, came.record.ended) == (HARNESS, WHOLE)


def test_a_portion_that_hangs_is_set_aside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Protects the end of a night from a driver that loops for ever: its worker is killed after a while, and the portion set aside
    like any that kills."""

    def hang(number: int, done: Done) -> None:
        if number == 1:
            time.sleep(3600)

    with_portion(monkeypatch, hang)
    monkeypatch.setattr(crew, "TOO_LONG", 5.0)
    monkeypatch.setattr(schedule, "DEATHS", 1)
    came = doing(tmp_path)
    assert [failure.partition(":")[0] for failure in came.record.failures] == ["walk/1"]
    assert (came.record.killed, came.status) == (1, HARNESS)
    assert came.record.gears["walk"][0] == PORTIONS


def test_a_portion_that_fails_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Protects against a bug of the harness that goes unnoticed: an exception in a portion ends the night with an error that names
    portion and exception; the other portions are done."""

    def fail(number: int, done: Done) -> None:
        if number == 1:
            raise ZeroDivisionError("a bug")

    with_portion(monkeypatch, fail)
    came = doing(tmp_path)
    assert came.record.failures == ["walk/1: ZeroDivisionError: a bug"]
    assert came.record.gears["walk"][0] == PORTIONS
    assert came.status == HARNESS


def test_a_hit_that_cannot_be_minimised_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Protects against a minimiser that fails on one hit: the night says which and of which run, and the portion with its figures
    and its other hits counts all the same."""
    register(Planted)

    def fail(*_: object) -> None:
        raise IndexError("a bug")

    monkeypatch.setattr(worker, "minimise", fail)
    came = doing(tmp_path)
    assert came.status == HARNESS
    assert (came.record.new, came.record.runs) == ([], PORTIONS * RUNS)
    (first, *_rest) = came.record.failures
    assert re.fullmatch(r"walk/\d\+input-page-bounds/\S+: IndexError: a bug \(minimising input-page-bounds/\S+ of run \S+\)", first)


def test_doing_it_twice_tells(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Protects every trace: if a portion that is done a second time comes out different, the night fails and names it."""

    def by_process(number: int, done: Done) -> None:
        done.digest = done.digest and f"{os.getpid()}"

    with_portion(monkeypatch, by_process)
    came = doing(tmp_path)
    assert (came.record.checks, came.record.different, came.status) == (1, ["walk/0"], HARNESS)


def test_a_night_without_its_canary_is_void(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Protects against a night that would find nothing whatever there is: it stops, says so, changes no finding, reports nothing
    fixed, and may be done again on the same date."""
    register(Planted)
    planted = doing(tmp_path, 20).record.new
    before = load(tmp_path, NAME).ledger.entries
    birds = plans.CANARIES
    monkeypatch.setattr(plans, "CANARIES", (*birds, Canary("repaired", 30, "cannot be found")))
    register(Honest)
    came = doing(tmp_path, 21)
    assert (came.record.ended, came.status) == (VOID, VOID_NIGHT)
    assert [trial["found"] for trial in came.record.canaries] == [True, False]
    assert (came.record.operations, came.record.new, came.record.fixed, came.record.rota) == (0, [], [], [])
    assert load(tmp_path, NAME).ledger.entries == before
    monkeypatch.setattr(plans, "CANARIES", birds)
    again = doing(tmp_path, 21)
    assert (again.record.ended, again.record.fixed, again.done_before) == (WHOLE, planted, False)


def test_a_night_that_searched_nothing_is_void(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Protects against silence that looks like success: a night whose time was over before the search began proves nothing."""
    monkeypatch.setattr(schedule.Schedule, "time_for_more", lambda self, left: False)
    came = doing(tmp_path)
    assert (came.record.ended, came.record.runs, came.status) == (VOID, 0, VOID_NIGHT)


def test_a_disk_that_is_full_for_a_while(tmp_path: Path, undisturbed: Night) -> None:
    """Protects a night from a full disk: it goes on in memory, and when there is room again all is written down; in the end nothing
    is missing."""
    state, said = tmp_path / "state", list[str]()
    with files_of_at_most(30):

        def room() -> None:
            limit = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

        came = night(options(state), Once(2, room), said.append)
    assert any("the night goes on in memory" in line for line in said)
    assert (came.problem, came.unkept, came.record.ended) == ("", [], WHOLE)
    alike(came, undisturbed)
    alike(replace(came, books=load(state, NAME)), undisturbed)


def test_a_disk_that_stays_full(tmp_path: Path, undisturbed: Night) -> None:
    """Protects what was found on a disk that takes nothing to the end: the status says so, the old ledger stays, and the findings
    that are in memory only, put back as a journal, are known to the night when it is resumed, even if it finds nothing more."""
    state = tmp_path / "state"
    state.mkdir()
    with files_of_at_most(30):
        came = doing(state)
    assert came.status == DISK
    assert "File too large" in came.problem
    assert not (state / "ledger.json").exists()
    alike(came, undisturbed)
    directory = state / "work" / came.record.name
    (directory / "journal-99999.jsonl").write_text("".join(json.dumps(record) + "\n" for record in came.unkept))
    register(Honest)
    again = doing(state)
    assert (again.status, again.record.new) == (NEW, undisturbed.record.new)


def test_a_night_that_is_begun_keeps_its_plan(tmp_path: Path) -> None:
    """Protects resuming with other options: portions keep their size, so that their numbers mean the same; another --seed is turned
    away in one line instead of being mixed in."""
    doing(tmp_path, progress=Once(1, interrupt))
    with pytest.raises(BadState, match="was begun with --seed 0; resume it with that"):
        doing(tmp_path, number=1)
    came = doing(tmp_path, portion=50)
    assert came.record.runs == PORTIONS * RUNS


# --- shards, workers, gears ---------------------------------------------------------------------------------------------------


def test_shards_are_joined(tmp_path: Path) -> None:
    """Protects a night that several jobs do: each has seeds of its own, and joined in any order they make one night whose figures
    add up and whose findings are new once."""
    register(Planted)
    parts = [doing(tmp_path / str(index), shard=Shard(index, 2)) for index in (1, 2)]
    assert parts[0].record.seed != parts[1].record.seed
    books = [load(tmp_path / str(index), NAME) for index in (1, 2)]
    joined = join(books)
    assert joined == join(books[::-1])
    runs = {record.shard: record.runs for record in joined.ledger.of_date("2026-11-20")}
    assert runs == dict.fromkeys(("1/2", "2/2"), PORTIONS * RUNS)
    assert set(joined.ledger.entries) == {name for part in parts for name in part.record.new}


def test_workers_are_replaced_before_they_grow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Protects the memory of a long night: a worker that has done its share of runs, seconds or memory ends, another one takes its
    place, and the peak of each is in the record."""
    monkeypatch.setattr("hvmodel.jobs.nightly.night.LIFE", crew.Life(runs=5))
    came = doing(tmp_path)
    assert len(came.record.peaks) >= 1 + PORTIONS
    assert all(1 << 10 < peak < 1 << 20 for peak in came.record.peaks)
    assert came.record.killed == 0


def test_a_portion_repeats_in_another_interpreter(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Protects the doublecheck itself: a checker is a new process with another order of hashes that knows the driver, and a portion
    of the walk comes out the same there; another portion does not."""
    monkeypatch.undo()  # the real way of starting it
    register(Honest)
    plan = make_plan(NAME, "2026-11-20", Shard(), 0, 600, 2)
    (wanted, _catch), (other, _) = (gears.timed(gears.GEARS[0], plan, number, NAME, True) for number in (0, 1))
    start = Start(Setup(plan), tmp_path, 1)
    workers = crew.Crew(start, 1, crew.LIFE)
    checker = workers.hire(checker=True)
    assert type(checker.process).__name__ == "SpawnProcess"
    workers.give(checker, Portion("again", 0))
    heard: list[dict[str, Any]] = []
    until = time.monotonic() + 60
    while not heard and time.monotonic() < until:
        heard = [event.record for event in workers.events(1.0) if event.record is not None]
    list(workers.stop(10))
    assert heard[0]["digest"] == wanted.digest != other.digest


def test_the_gears_say_what_they_did(tmp_path: Path) -> None:
    """Protects the figures of both gears: operations, runs and kinds of hit are counted, the first hits of each kind are caught,
    and equal seeds do equal things; abstract states are counted in the sampled runs of the walk."""
    register(Planted)
    plan = make_plan(NAME, "2026-11-20", Shard(), 0, 600, 10)
    walk, caught = gears.timed(gears.Gear("walk", 1, gears.walk_portion, True), plan, 3, NAME, True)
    again, _ = gears.timed(gears.Gear("walk", 1, gears.walk_portion, True), plan, 3, NAME, True)
    assert replace(walk, seconds=0) == replace(again, seconds=0)
    assert walk.runs == 10
    assert walk.kinds
    assert set(walk.kinds) == set(caught.hits)
    assert all(1 <= times <= walk.runs for times in walk.kinds.values())
    assert walk.sampled >= 1
    assert all(1 <= times <= walk.sampled for times in walk.states.values())
    drawn, caught = gears.timed(gears.Gear("hypothesis", 1, gears.hypothesis_portion, False), plan, 0, NAME, False)
    assert drawn.runs == drawn.tally.runs >= 2
    assert drawn.operations > drawn.runs
    assert set(drawn.kinds) == set(caught.hits)
