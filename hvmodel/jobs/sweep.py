"""The sweep as a job: all traces on all cores, what fails minimised and grouped as a hunt's, and what was not put to the test."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import signal
import time
import traceback
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from multiprocessing.connection import wait
from typing import Any

from hvmodel.callers.levels import BEYOND
from hvmodel.drivers import is_native
from hvmodel.gears.sweep import Combination, Count, Played, Subject, Sweep
from hvmodel.gears.walk import settle
from hvmodel.jobs import hunt
from hvmodel.jobs.fatal import ending
from hvmodel.jobs.findings import Finding, Group, group, prune
from hvmodel.jobs.hunt import Hunter, Tally
from hvmodel.jobs.naming import name_findings
from hvmodel.operations import Operation, Recover

GEAR = "sweep"

MOST_DEATHS = 20
"""So many workers may die of a native driver in one sweep."""

SHARE = 0.5
"""At most this share of the time goes into minimising while runs are left."""

STOPPED = 1 << 40
"""What the shared number of the next subject is when workers have to end after their run."""

REST = 20.0
"""Seconds that each process may spend after its last run on hits that resemble nothing found so far."""


@dataclass(slots=True)
class Options:
    """What to sweep. ``budget`` is in seconds (0: until all is done); ``jobs`` processes (0: one per core)."""

    driver: str
    subjects: list[Subject]
    pairs: bool = False
    budget: float = 0.0
    jobs: int = 0


@dataclass(slots=True)
class Row:
    """What came of one subject. ``state`` is "done", "cut short" or "not begun"; ``clean`` whether no property failed in the run
    without refusals; ``idle`` how many of its operations had nothing to act on there; ``unfired`` tells in words what was to be
    refused and was not."""

    subject: Subject
    count: Count = field(default_factory=Count)
    state: str = "not begun"
    clean: bool = True
    idle: int = 0
    unfired: list[str] = field(default_factory=list)

    def note(self, played: Played) -> None:
        """Told of each run; the clean one is the first."""
        if not played.combination.refusals:
            self.clean = not played.found
            self.idle = sum(result is None for result in played.results)

    @property
    def complete(self) -> bool:
        """Whether all of it was done."""
        return self.state == "done"


@dataclass(slots=True)
class Report:
    """What a sweep found: a row a subject, and the findings in groups."""

    options: Options
    rows: list[Row]
    groups: list[Group]
    tally: Tally
    seconds: float = 0.0

    @property
    def count(self) -> Count:
        """All rows together."""
        total = Count()
        for row in self.rows:
            total.add(row.count)
        return total

    @property
    def findings(self) -> list[Finding]:
        """All findings, best first."""
        return [finding for item in self.groups for finding in item.findings]

    @property
    def complete(self) -> bool:
        """Whether every subject was swept to its end."""
        return all(row.complete for row in self.rows)

    def as_json(self) -> dict[str, Any]:
        """The report for other programs."""
        return {
            "driver": self.options.driver,
            "pairs": self.options.pairs,
            "complete": self.complete,
            "seconds": round(self.seconds, 2),
            "total": _numbers(self.count),
            "traces": [
                {
                    "name": row.subject.name,
                    "profile": row.subject.config.profile,
                    "state": row.state,
                    "clean": row.clean,
                    "idle": row.idle,
                    **_numbers(row.count),
                    "not_fired": row.unfired,
                }
                for row in self.rows
            ],
            "findings": [finding.as_json() for finding in self.findings],
        }


def _numbers(count: Count) -> dict[str, int]:
    return {name: getattr(count, name) for name in Count.__dataclass_fields__}


class Sweeper(Hunter):
    """One process's sweep; what fails goes the way of a hunt's hits."""

    def __init__(self, options: Options, job: int) -> None:
        jobs = options.jobs or os.cpu_count() or 1
        super().__init__(hunt.Options(driver=options.driver, jobs=jobs), job)
        self.sweeping = options
        self._spent = 0.0
        self._begun = time.perf_counter()

    def begin(self, subject: Subject, at: Callable[[Combination], None] | None = None) -> tuple[Sweep, Row]:
        """The sweep of one subject, and what will come of it; ``at`` is told of each run before it begins."""
        heard = self.listener(f"{subject.name}/{subject.config.profile}", False, GEAR)
        sweep = Sweep(subject, self.options.driver, heard, self.sweeping.pairs)
        if at is not None:
            sweep.at = at
        return sweep, Row(subject, sweep.count, "cut short", unfired=sweep.unfired)

    def go_on(self, runs: Iterable[Played], row: Row, until: Callable[[], bool]) -> bool:
        """Do some runs of a sweep until ``until`` says stop; returns whether all were done."""
        for played in runs:
            row.note(played)
            self.tally.add(played.run)
            while self._spent < SHARE * (time.perf_counter() - self._begun) and self._minimised():
                pass
            if until():
                return False
        return True

    def rest(self, until: float) -> None:
        """Minimise what waits and resembles nothing that was found, up to a time of the clock."""
        while time.perf_counter() < until and self.fresh and self._minimised():
            pass
        self.tally.skipped += self.waiting

    def _minimised(self) -> bool:
        begun = time.perf_counter()
        some = self.minimise_next()
        self._spent += time.perf_counter() - begun
        return some


def _work(options: Options, job: int, counter: Any, deadline: float, channel: Any, place: Any) -> None:
    """A worker process: one subject after the other until none is left; second refusals wait until all subjects of a profile have
    had their first. ``place`` says what it is about to do, for whoever finds it dead."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    settle()
    parent, native = os.getppid(), is_native(options.driver)
    sweeper = Sweeper(options, job)
    last = 0.0

    def over() -> bool:
        nonlocal last
        now = time.monotonic()
        if now - last >= 0.5:
            last = now
            channel.send(("progress", sweeper.tally.runs, len(sweeper.findings)))
        return now >= deadline or os.getppid() != parent or counter.value >= STOPPED

    def at(index: int, combination: Combination) -> None:
        place.value = pickle.dumps((index, combination)).hex().encode()

    if native:  # what it has found must not die with it
        sweeper.kept = lambda finding: channel.send(("kept", finding, None))
    try:
        mine: list[tuple[int, Sweep, Row]] = []
        while not over():
            with counter.get_lock():
                index, counter.value = counter.value, counter.value + 1
            subject = options.subjects[index] if index < len(options.subjects) else None
            if mine and (subject is None or subject.config.profile != mine[-1][1].subject.config.profile):
                _second_rounds(sweeper, mine, channel, over)
                mine = []
            if subject is None:
                break
            one, row = sweeper.begin(subject, partial(at, index) if native else None)
            if sweeper.go_on(one.first_round(), row, over):
                mine.append((index, one, row))
            channel.send(("row", index, row))
        sweeper.rest(time.perf_counter() + min(REST, options.budget or REST))
        channel.send(("done", sweeper.tally, list(sweeper.findings.values())))
    except BaseException:
        channel.send(("failed", traceback.format_exc(), None))


def _second_rounds(sweeper: Sweeper, mine: list[tuple[int, Sweep, Row]], channel: Any, over: Callable[[], bool]) -> None:
    """The second rounds of subjects whose first is done."""
    for index, one, row in mine:
        if not sweeper.go_on(one.second_round(), row, over):
            channel.send(("row", index, row))
            return
        row.state = "done"
        channel.send(("row", index, row))


class _Crew:
    """The workers, each with a channel of its own."""

    def __init__(self, options: Options, deadline: float) -> None:
        self.options, self.deadline = options, deadline
        methods = multiprocessing.get_all_start_methods()
        self.context: Any = multiprocessing.get_context("fork" if "fork" in methods else "spawn")
        self.counter = self.context.Value("q", 0)
        self.workers: dict[Any, tuple[int, Any, Any]] = {}
        self.deaths = 0
        self.known: set[tuple[str, str]] = set()
        for job in range(min(options.jobs or os.cpu_count() or 1, max(len(options.subjects), 1))):
            self.start(job)

    def start(self, job: int) -> None:
        """One more worker."""
        mine, theirs = self.context.Pipe(duplex=False)
        place = self.context.Array("c", 1 << 16, lock=False)
        arguments = (self.options, job, self.counter, self.deadline, theirs, place)
        process = self.context.Process(target=_work, args=arguments, daemon=True)
        process.start()
        theirs.close()
        self.workers[mine] = (job, process, place)

    def stop(self) -> None:
        """Let each worker end after its run."""
        self.counter.value = STOPPED

    def bury(self, channel: Any) -> Finding | None:
        """A worker is dead: with a native driver that is a finding, and what it was at is cut short. Raises RuntimeError if it is a
        failure of the harness, or if there is no end of it."""
        job, process, place = self.workers.pop(channel)
        process.join(5)
        self.deaths += 1
        text = place.value.decode()
        if not is_native(self.options.driver) or not text or self.deaths > MOST_DEATHS:
            raise RuntimeError(f"a worker ended with status {process.exitcode}")
        index, combination = pickle.loads(bytes.fromhex(text))
        subject = self.options.subjects[index]
        seed = f"{subject.name}/{subject.config.profile}"
        self.start(job)
        return ending(self.options.driver, subject.config, operations_of(subject, combination), self.known, BEYOND, seed)

    def end(self) -> None:
        """Wait a little for each, then end it."""
        for _job, worker, _place in self.workers.values():
            worker.join(timeout=5)
            if worker.is_alive():
                worker.terminate()


def operations_of(subject: Subject, combination: Combination) -> list[Operation]:
    """The operations of one run, among them those that the callers would have left out."""
    done = [
        replace(operation, faults=(*operation.faults, *combination.faults(index)))
        for index, operation in enumerate(subject.operations)
    ]
    return [*done, Recover()]


Progress = Callable[[int, int, int, int, float], None]
"""Told of runs, subjects done, subjects, minimised traces, seconds."""


def sweep(options: Options, progress: Progress | None = None) -> Report:
    """Sweep all subjects. An interrupt ends it with what there is; raises RuntimeError if a worker fails."""
    started = time.monotonic()
    crew = _Crew(options, started + options.budget if options.budget else float("inf"))
    rows = [Row(subject) for subject in options.subjects]
    tally, found = Tally(), list[Finding]()
    counts: dict[int, tuple[int, int]] = {}
    try:
        while crew.workers:
            try:
                ready: Sequence[Any] = wait(list(crew.workers), timeout=0.5)
            except KeyboardInterrupt:
                crew.stop()
                continue
            for channel in ready:
                _hear(crew, channel, rows, tally, found, counts)
            if progress is not None:
                done = sum(row.state == "done" for row in rows)
                runs, kept = sum(count[0] for count in counts.values()), sum(count[1] for count in counts.values())
                progress(runs, done, len(rows), kept, time.monotonic() - started)
    finally:
        crew.stop()
        crew.end()
    best: dict[tuple[object, ...], Finding] = {}
    for finding in found:
        known = best.get(finding.key)
        if known is None or finding.rank < known.rank:
            best[finding.key] = finding
    report = Report(options, rows, group(prune(list(best.values()))), tally)
    name_findings(report.groups, options.jobs or os.cpu_count() or 1)
    report.seconds = tally.seconds = time.monotonic() - started
    return report


def _hear(
    crew: _Crew, channel: Any, rows: list[Row], tally: Tally, found: list[Finding], counts: dict[int, tuple[int, int]]
) -> None:
    """One message of a worker, or its end."""
    try:
        kind, first, second = channel.recv()
    except (EOFError, ConnectionError):
        fatal = crew.bury(channel)
        found += [fatal] if fatal is not None else []
        return
    if kind == "failed":
        raise RuntimeError(f"a worker failed, which is a bug in hvmodel\n{first}")
    if kind == "progress":
        counts[crew.workers[channel][0]] = (first, second)
    elif kind == "row":
        rows[first] = second
    elif kind == "kept":
        found.append(first)
    else:
        tally.merge(first)
        found += second
        crew.workers.pop(channel)[1].join(5)


__all__ = ["GEAR", "Options", "Report", "Row", "Sweeper", "operations_of", "sweep"]
