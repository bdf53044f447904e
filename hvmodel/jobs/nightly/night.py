"""One night: how it begins or is resumed, what happens when a worker or the disk fails, and how it ends."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from math import inf
from pathlib import Path
from types import FrameType

from hvmodel.jobs.nightly.crew import LIFE, Crew, Event
from hvmodel.jobs.nightly.join import Books
from hvmodel.jobs.nightly.journal import Journal, Record, records
from hvmodel.jobs.nightly.ledger import CUT_SHORT, INTERRUPTED, VOID, WHOLE, NightRecord
from hvmodel.jobs.nightly.notes import Notes
from hvmodel.jobs.nightly.plan import ALONE, Plan, Shard, make_plan
from hvmodel.jobs.nightly.portions import Portion
from hvmodel.jobs.nightly.schedule import DEATHS, Schedule
from hvmodel.jobs.nightly.state import BadState, forget, load, locked, plan_in, save, unfinished, work_directory
from hvmodel.jobs.nightly.steps import Setup
from hvmodel.jobs.nightly.takings import Takings, conclude
from hvmodel.jobs.nightly.worker import Start, rss_peak

NOTHING_NEW, NEW, WRONG_USE, VOID_NIGHT, HARNESS, DISK = 0, 1, 2, 3, 4, 5
"""Exit statuses of a night."""

PATIENCE = 30.0
"""Seconds that a worker has to end what it is at when the night is interrupted."""


@dataclass(frozen=True, slots=True)
class Options:
    """What to do. ``budget`` is in seconds, ``jobs`` 0 means one process per core, ``portion`` is the number of runs in a portion
    of work (0: as the budget suggests), ``corpus`` where kept traces are."""

    driver: str
    state: Path
    budget: float
    date: str
    shard: Shard = ALONE
    number: int = 0
    jobs: int = 0
    portion: int = 0
    corpus: Path | None = None


Progress = Callable[[str, Takings, float], None]
"""Told what the night is at, what it has taken in, and how many seconds are left."""

Said = Callable[[str], None]
"""Told in one line what a person should know at once."""


@dataclass(frozen=True, slots=True)
class Night:
    """How a night ended. ``done_before`` says that it was over already; ``problem`` why the disk did not take all of it, and then
    ``unkept`` are what a journal must say so that no finding is lost: the plan, and those findings that are in memory only."""

    books: Books
    record: NightRecord
    done_before: bool = False
    problem: str = ""
    unkept: list[Record] = field(default_factory=list)

    @property
    def status(self) -> int:
        """The exit status."""
        return status_of([self.record], bool(self.record.new), self.problem)


def status_of(nights: Sequence[NightRecord], new: bool, problem: str = "") -> int:
    """The exit status for the shards of a night: a harness that errs comes first, then a disk that keeps nothing, then a night that
    is void in all its shards, then new findings."""
    if any(night.erred for night in nights):
        return HARNESS
    if problem:
        return DISK
    if nights and all(night.ended == VOID for night in nights):
        return VOID_NIGHT
    return NEW if new else NOTHING_NEW


def night(options: Options, progress: Progress | None = None, said: Said = print) -> Night:
    """Do a night, or what is left of it. Raises BadState for a directory that cannot be used. An interrupt (SIGTERM is one) ends it
    with what there is."""
    with locked(options.state):
        books = _close_older(options, load(options.state, options.driver), said)
        plan = make_plan(options.driver, options.date, options.shard, options.number, options.budget, options.portion)
        before = books.ledger.nights.get(plan.name)
        if before is not None and before.over:
            return Night(books, before, done_before=True)
        return _Job(options, plan, books, progress, said).run()


def _close_older(options: Options, books: Books, said: Said) -> Books:
    """Take what nights of earlier dates left in their journals into the ledger: they will not be resumed."""
    for plan, directory in unfinished(options.state):
        if plan.date >= options.date or plan.driver != options.driver:
            continue
        try:
            books = closed(books, plan, directory, CUT_SHORT)
            save(options.state, books)
        except OSError:
            continue  # it is there the next time
        forget(options.state, plan.name)
        said(f"night {plan.name} was cut short; what it found is in the ledger, and is new if this night finds it as well")
    return books


def closed(books: Books, plan: Plan, directory: Path, ended: str) -> Books:
    """The books with what a night left in its journals. A night that the ledger has as over stays as it is. Raises OSError."""
    known = books.ledger.nights.get(plan.name)
    if known is not None and known.over:
        return books
    takings = Takings()
    for record in records(directory):
        takings.take(record)
    return conclude(books, plan, takings, ended)


class _Job:
    """A night under way."""

    def __init__(self, options: Options, plan: Plan, books: Books, progress: Progress | None, said: Said) -> None:
        self.options, self.books, self.progress, self.said = options, books, progress, said
        self.directory = work_directory(options.state, plan.name)
        self.takings = Takings()
        self.plan, trouble = self._resume(plan)
        self.session = 1 + max(self.takings.clock, default=0)
        self.before = self.takings.seconds
        self.started = time.monotonic()
        self._ticked = self._tried = -inf
        self.notes = Notes(Journal(self.directory, self.plan.as_record()), said)
        if trouble is not None:
            self.notes.trouble(f"cannot read {trouble.filename or self.directory}: {trouble.strerror}")
        jobs = options.jobs or os.cpu_count() or 1
        setup = Setup(self.plan, dict(books.ledger.entries), options.corpus)
        start = Start(setup, self.directory, self.session, dict(self.takings.found), frozenset(books.ledger.kinds))
        self.crew = Crew(start, jobs, LIFE)
        self.schedule = Schedule(self.plan, self.takings, options.budget, jobs)

    def _resume(self, plan: Plan) -> tuple[Plan, OSError | None]:
        """Read what earlier sessions of this night wrote down; the plan that they had, and what went wrong with the disk."""
        try:
            begun = plan_in(self.directory)
            for record in records(self.directory):
                self.takings.take(record)
        except OSError as error:
            return plan, error
        if begun is None:
            return plan, None
        if (begun.driver, begun.number) != (plan.driver, plan.number):
            raise BadState(f"night {plan.name} was begun with --seed {begun.number}; resume it with that, or take another --date")
        self.said(f"night {plan.name} goes on: {len(self.takings.done)} portions are done, {self.takings.seconds:.0f} s spent")
        return begun, None

    @property
    def left(self) -> float:
        """Seconds of the budget that are left."""
        return self.options.budget - self.before - (time.monotonic() - self.started)

    def run(self) -> Night:
        """All of it."""
        ended = WHOLE
        with _sigterm_interrupts():
            try:
                self._work()
            except KeyboardInterrupt:
                ended = INTERRUPTED
            finally:
                for event in self.crew.stop(PATIENCE):
                    self._hear(event)
        if ended == WHOLE and (self.takings.void or not self.takings.tally.runs):
            ended = VOID
        self._note({"r": "peak", "process": "", "rss": rss_peak()})
        self._tick(force=True)
        self.books = conclude(self.books, self.plan, self.takings, ended)
        problem = self._save(ended)
        self.notes.journal.close()
        if ended == INTERRUPTED:
            self.said(f"interrupted; the same command resumes the night with {max(self.left, 0):.0f} s left")
        record = self.books.ledger.nights[self.plan.name]
        return Night(self.books, record, problem=problem, unkept=self._unkept() if problem else [])

    def _unkept(self) -> list[Record]:
        findings = {record["signature"]: record for record in self.notes.unkept if record["r"] == "finding"}
        return [self.plan.as_record(), *findings.values()] if findings else []

    def _save(self, ended: str) -> str:
        """Write the ledger, trying again for a while; why it could not be written, or nothing."""
        problem = ""
        for attempt in range(3):
            if attempt:
                time.sleep(1.0)
            try:
                save(self.options.state, self.books)
            except OSError as error:
                problem = f"{error.filename or self.options.state}: {error.strerror}"
                continue
            if ended != INTERRUPTED:
                forget(self.options.state, self.plan.name)
            return ""
        return problem

    # --- the work -----------------------------------------------------------------------------------------------------

    def _work(self) -> None:
        self._fill()
        while self.crew.busy:
            for event in self.crew.events(0.2):
                self._hear(event)
            self._tick()
            self.crew.kill_hanging()
            self._fill()

    def _fill(self) -> None:
        """Hire where a worker is missing, and give those that wait something to do."""
        while self.crew.room > 0:
            self.crew.hire()
        for hand in self.crew.idle():
            checks = self.schedule.checks(self.crew.running)
            if hand.checker:
                if checks:
                    self.crew.give(hand, checks[0])
                else:
                    self.crew.dismiss(hand)  # it makes room
            elif not self.crew.has_checker and self.schedule.worth_a_checker(checks, self.left):
                self.crew.dismiss(hand)  # a checker takes its place
                self.crew.give(self.crew.hire(checker=True), checks[0])
            else:
                portion = self.schedule.next(self.left, self.crew.running)
                if portion is not None:
                    self.crew.give(hand, portion)

    def _hear(self, event: Event) -> None:
        """What a worker says."""
        record = event.record
        if record is None:
            if event.portion is not None:
                self._missed(event.portion)
            return
        if not event.kept:
            self.notes.take_over(record)
        self.takings.take(record)
        if record["r"] == "done":
            self.crew.minimised(record["found"])
        if record["r"] == "failed":
            self.said(f"{record['portion']} failed: {str(record['text']).strip().splitlines()[-1]}")

    def _missed(self, portion: Portion) -> None:
        """A worker died at a portion: somebody else does it, unless it keeps killing."""
        self._note({"r": "killed", "portion": portion.id})
        if not self.schedule.died(portion):
            text = f"its worker died {DEATHS} times"
            self.said(f"{portion.id} is set aside: {text}")
            self._note({"r": "failed", "portion": portion.id, "text": text})

    def _note(self, record: Record) -> None:
        """A record of the job's own: taken in and written down."""
        self.takings.take(record)
        self.notes.write(record)

    def _tick(self, force: bool = False) -> None:
        """Say where the night is; now and then write down how late it is, and try again what the disk did not take."""
        now = time.monotonic()
        if self.progress is not None:
            step = next((portion.step for portion in self.crew.running), "starting")
            self.progress(step, self.takings, max(self.left, 0.0))
        if force or now - self._ticked >= min(10.0, max(0.5, self.options.budget / 200)):
            self._ticked = now
            seconds = round(now - self.started, 2)
            clock = {"r": "clock", "session": self.session, "seconds": seconds}
            clock |= {"budget": self.options.budget, "jobs": self.crew.jobs}
            self.takings.take(clock)
            self.notes.write_if_possible(clock)
        if force or now - self._tried > 5.0:
            self._tried = now
            self.notes.retry()


@contextmanager
def _sigterm_interrupts() -> Iterator[None]:
    """SIGTERM is an interrupt meanwhile; only the main thread can see to that."""

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    previous = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)
