"""One night: the order of its work, what happens when a worker or the disk fails, and how it ends."""

from __future__ import annotations

import os
import signal
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from hvmodel.jobs.nightly import crew as crews
from hvmodel.jobs.nightly import gears
from hvmodel.jobs.nightly import plan as plans
from hvmodel.jobs.nightly.crew import Crew, Event, Hand
from hvmodel.jobs.nightly.join import Books
from hvmodel.jobs.nightly.journal import Journal, Record, records
from hvmodel.jobs.nightly.ledger import NightRecord
from hvmodel.jobs.nightly.plan import Plan, Shard, make_plan
from hvmodel.jobs.nightly.portions import Portion
from hvmodel.jobs.nightly.state import (
    BadState,
    forget,
    load,
    locked,
    read_plan,
    save,
    unfinished,
    work_directory,
    write_plan,
)
from hvmodel.jobs.nightly.steps import Setup, rota_tasks
from hvmodel.jobs.nightly.takings import Takings, conclude
from hvmodel.jobs.nightly.worker import Start, rss_peak

NOTHING_NEW, NEW, WRONG_USE, VOID, HARNESS, DISK = 0, 1, 2, 3, 4, 5
"""Exit statuses of a night."""

DEATHS = 3
"""A portion that so many workers died of is set aside."""

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
    shard: Shard = plans.WHOLE
    number: int = 0
    jobs: int = 0
    portion: int = 0
    corpus: Path | None = None


Progress = Callable[[str, Takings, float], None]
"""Told what the night is at, what it has taken in, and how many seconds are left."""


@dataclass(frozen=True, slots=True)
class Night:
    """How a night ended. ``done_before`` says that it was over already; ``unkept`` why the disk did not take all of it."""

    books: Books
    record: NightRecord
    status: int
    done_before: bool = False
    unkept: str = ""
    interrupted: bool = False


def status_of(record: NightRecord, unkept: str = "") -> int:
    """The exit status of a night: a harness that errs comes first, then a disk that keeps nothing, a void night, new findings."""
    if record.different or record.failures:
        return HARNESS
    if unkept:
        return DISK
    if record.ended == "void":
        return VOID
    return NEW if record.new or record.corpus.get("problems") else NOTHING_NEW


def night(options: Options, progress: Progress | None = None, said: Callable[[str], None] = print) -> Night:
    """Do a night, or what is left of it. ``said`` hears what a person should know at once. Raises BadState for a directory that
    cannot be used. An interrupt (SIGTERM is one) ends it with what there is."""
    with locked(options.state):
        books = load(options.state, options.driver)
        books = _close_others(options, books, said)
        plan = make_plan(options.driver, options.date, options.shard, options.number, options.budget, options.portion)
        before = books.ledger.nights.get(plan.name)
        if before is not None and before.over:
            return Night(books, before, status_of(before), done_before=True)
        return _Job(options, plan, books, progress, said).run()


def _close_others(options: Options, books: Books, said: Callable[[str], None]) -> Books:
    """Take what other nights left in their journals into the ledger: they will not be resumed."""
    mine = Plan(options.driver, options.date, options.shard, 0, 0, 1).name
    for plan, directory in unfinished(options.state):
        if plan.name == mine or plan.driver != options.driver:
            continue
        books = closed(books, plan, directory)
        try:
            save(options.state, books)
        except OSError:
            continue
        forget(options.state, plan.name)
        said(f"night {plan.name} was cut short; what it found is in the ledger")
    return books


def closed(books: Books, plan: Plan, directory: Path) -> Books:
    """The books with what a night left in its journals. A night that the ledger has as over stays as it is. Raises OSError."""
    known = books.ledger.nights.get(plan.name)
    if known is not None and known.over:
        return books
    takings = Takings()
    for record in records(directory):
        takings.take(record)
    return conclude(books, plan, takings, "cut short", 0.0, 1)


class _Job:
    """A night under way."""

    def __init__(self, options: Options, plan: Plan, books: Books, progress: Progress | None, said: Callable[[str], None]) -> None:
        self.options, self.books, self.progress, self.said = options, books, progress, said
        self.directory = work_directory(options.state, plan.name)
        begun = read_plan(self.directory)
        if begun is not None and (begun.driver, begun.number) != (plan.driver, plan.number):
            raise BadState(f"night {plan.name} was begun with --seed {begun.number}; resume it with that, or take another --date")
        self.plan = begun or plan
        self.takings = Takings()
        self.unkept: list[Record] = []
        self.trouble = ""
        self.journal = Journal(self.directory)
        self._resume()
        self.session = 1 + max(self.takings.clock, default=0)
        self.before = self.takings.seconds
        self.started = time.monotonic()
        self.deaths: Counter[str] = Counter()
        self.waiting: list[Portion] = []
        self._rota_seconds = 0.0
        self._ticked = self._tried = 0.0
        self._numbers = {gear.name: 0 for gear in gears.GEARS}
        jobs = options.jobs or os.cpu_count() or 1
        self.crew = Crew(
            Start(self._setup(), self.directory, dict(self.takings.found), frozenset(books.ledger.kinds)), jobs, crews.LIFE
        )

    def _setup(self) -> Setup:
        known = {name: {"call": entry.call, "trace": entry.trace} for name, entry in self.books.ledger.entries.items()}
        return Setup(self.plan, known, self.options.corpus)

    def _resume(self) -> None:
        """Read what earlier sessions of this night wrote down."""
        try:
            for record in records(self.directory):
                self.takings.take(record)
            write_plan(self.options.state, self.plan)
        except OSError as error:
            self._trouble(error)
        if self.takings.done:
            self.said(
                f"night {self.plan.name} goes on: {len(self.takings.done)} portions are done, {self.takings.seconds:.0f} s spent"
            )

    # --- time ---------------------------------------------------------------------------------------------------------

    @property
    def spent(self) -> float:
        """Seconds of the budget that are gone."""
        return self.before + time.monotonic() - self.started

    @property
    def left(self) -> float:
        """Seconds of the budget that are left."""
        return self.options.budget - self.spent

    def _tick(self, force: bool = False) -> None:
        """Now and then: write down how late it is, try again what the disk did not take, say where we are."""
        now = time.monotonic()
        if self.progress is not None:
            self.progress(self._phase(), self.takings, max(self.left, 0.0))
        if not force and now - self._ticked < min(10.0, max(0.5, self.options.budget / 200)):
            return
        self._ticked = now
        self._note({"r": "clock", "session": self.session, "seconds": round(now - self.started, 2)})
        if self.unkept and (force or now - self._tried > 5.0):
            self._tried = now
            self._keep()

    def _phase(self) -> str:
        return next((hand.portion.step for hand in self.crew.hands if hand.portion is not None), "starting")

    # --- the disk -----------------------------------------------------------------------------------------------------

    def _note(self, record: Record) -> None:
        """A record of the job's own: taken in, and written down if the disk lets it."""
        self.takings.take(record)
        try:
            self.journal.append(record)
        except OSError as error:
            self._trouble(error)
            if record["r"] != "clock":
                self.unkept.append(record)

    def _keep(self) -> None:
        """Write down what the disk did not take before."""
        while self.unkept:
            try:
                self.journal.append(self.unkept[0])
            except OSError as error:
                self._trouble(error)
                return
            self.unkept.pop(0)
        self.trouble = ""
        self.said("the disk takes records again; all that was found is written down")

    def _trouble(self, error: OSError) -> None:
        if not self.trouble:
            self.said(f"cannot write to {error.filename or self.options.state}: {error.strerror}; the night goes on in memory")
        self.trouble = error.strerror or str(error)

    # --- the work -----------------------------------------------------------------------------------------------------

    def run(self) -> Night:
        """All of it."""
        ended, interrupted = "whole", False
        previous = signal.signal(signal.SIGTERM, _as_interrupt) if _in_main_thread() else None
        try:
            self._work()
            if self.takings.void:
                ended = "void"
        except KeyboardInterrupt:
            ended, interrupted = "interrupted", True
        finally:
            for event in self.crew.stop(PATIENCE):
                self._hear(event)
            if previous is not None:
                signal.signal(signal.SIGTERM, previous)
        self._note({"r": "peak", "process": "", "rss": rss_peak()})
        self._tick(force=True)
        self.books = conclude(self.books, self.plan, self.takings, ended, self.options.budget, self.crew.jobs)
        unkept = self._save(ended)
        self.journal.close()
        record = self.books.ledger.nights[self.plan.name]
        if interrupted:
            self.said(f"interrupted; the same command resumes the night with {max(self.left, 0):.0f} s left")
        return Night(self.books, record, status_of(record, unkept), unkept=unkept, interrupted=interrupted)

    def _save(self, ended: str) -> str:
        """Write the ledger, trying again for a while; why it could not be written, or nothing."""
        for attempt in range(3):
            try:
                save(self.options.state, self.books)
            except OSError as error:
                problem = f"{error.filename or self.options.state}: {error.strerror}"
                if attempt < 2:
                    time.sleep(1.0)
                continue
            if ended != "interrupted":
                forget(self.options.state, self.plan.name)
            return ""
        return problem

    def _work(self) -> None:
        first = [Portion("corpus", 0), Portion("known", 0)]
        first += [Portion("canary", number) for number in range(len(plans.CANARIES))]
        self._all(first)
        if self.takings.void:
            return
        rota = [Portion("rota", number) for number in range(len(rota_tasks(self.plan)))]
        self._all(rota, plans.ROTA_SHARE * self.options.budget * self.crew.jobs)
        self.waiting = [Portion("coverage", 0)] if "coverage/0" not in self.takings.done else []
        while True:
            self._fill(self._next)
            if not self.crew.busy and not self._may_search() and not self._checks_due(last=True):
                return
            self._listen()

    def _all(self, portions: list[Portion], seconds: float = float("inf")) -> None:
        """Do some portions, in any order, until all are done or they have taken so many seconds of work."""
        taken = 0.0
        self.waiting = [portion for portion in portions if not self._is_settled(portion)]
        while self.waiting or self.crew.busy:
            self._fill(lambda: self.waiting.pop(0) if self.waiting else None)
            for event in self._listen():
                if event.record is not None and event.record["r"] == "done":
                    taken += float(event.record["seconds"])
            if taken > seconds or (self.left <= 0 and seconds != float("inf")):
                self.waiting.clear()

    def _is_settled(self, portion: Portion) -> bool:
        return portion.id in self.takings.done or portion.id in self.takings.failures

    def _fill(self, what: Callable[[], Portion | None]) -> None:
        """Give idle workers something to do, and hire where one is missing."""
        while self.crew.room > 0:
            self.crew.hire()
        for hand in self.crew.idle():
            if hand.checker:
                self._check(hand)
                continue
            if self._checks_due(last=not self._may_search()) and not any(other.checker for other in self.crew.hands):
                self.crew.dismiss(hand)  # a checker takes its place
                self._check(self.crew.hire(checker=True))
                continue
            portion = what()
            if portion is not None:
                self.crew.give(hand, portion)

    def _check(self, hand: Hand) -> None:
        """Let a checker do a portion a second time; one that has nothing to do makes room."""
        due = self._checks_due(last=True)
        if due:
            self.crew.give(hand, Portion("again", due[0]))
        else:
            self.crew.dismiss(hand)

    def _checks_due(self, last: bool) -> list[int]:
        """Portions to be done a second time: all that wait when the night ends or a checker is there, else whole batches."""
        if self.takings.void:
            return []
        at_work = {hand.portion.number for hand in self.crew.hands if hand.portion is not None and hand.portion.step == "again"}
        due = [number for number in self.takings.unchecked if number not in at_work]
        return due if last or len(due) >= plans.CHECKER_BATCH else []

    def _may_search(self) -> bool:
        """Whether there is time for one more portion."""
        if self.waiting:
            return True
        portions = sum(sums[0] for sums in self.takings.gears.values())
        usual = sum(sums[3] for sums in self.takings.gears.values()) / portions if portions else 0.0
        checks = usual * len(self.takings.unchecked) / self.crew.jobs
        return self.left > usual + checks

    def _next(self) -> Portion | None:
        """The next portion of the search: of the gear that has had the least of its share."""
        if self.waiting:
            return self.waiting.pop(0)
        if not self._may_search():
            return None
        running = Counter(hand.portion.step for hand in self.crew.hands if hand.portion is not None)

        def had(gear: gears.Gear) -> float:
            portions, _runs, _operations, seconds = self.takings.gears.get(gear.name, (0, 0, 0, 0.0))
            usual = seconds / portions if portions else 1e-3
            return (seconds + usual * running[gear.name]) / gear.share

        gear = min(gears.GEARS, key=had)
        while True:
            portion = Portion(gear.name, self._numbers[gear.name])
            self._numbers[gear.name] += 1
            if not self._is_settled(portion):
                return portion

    # --- what workers say ---------------------------------------------------------------------------------------------

    def _listen(self) -> list[Event]:
        events = list(self.crew.events(0.2))
        for event in events:
            self._hear(event)
        self._tick()
        return events

    def _hear(self, event: Event) -> None:
        record = event.record
        if record is None:
            if event.portion is not None:
                self._missed(event.portion)
            return
        if not event.kept:
            self.unkept.append(record)
            if not self.trouble:
                self.said(f"a worker cannot write to {self.directory}; the night goes on in memory")
                self.trouble = "a worker cannot write"
        self.takings.take(record)
        if record["r"] == "done":
            self.crew.minimised(record.get("found", {}))
        if "rss" in record:
            self.takings.take({"r": "peak", "process": f"{self.session}/{event.hand.process.pid}", "rss": record["rss"]})
            if record["r"] == "life":
                self._note({"r": "peak", "process": f"{self.session}/{event.hand.process.pid}", "rss": record["rss"]})
        if record["r"] == "failed":
            self.said(f"{record['portion']} failed, which is a bug in hvmodel: {str(record['text']).strip().splitlines()[-1]}")

    def _missed(self, portion: Portion) -> None:
        """A worker died at a portion: somebody else does it, unless it keeps killing."""
        self.deaths[portion.id] += 1
        self._note({"r": "killed", "portion": portion.id})
        if self.deaths[portion.id] >= DEATHS:
            self._note({"r": "failed", "portion": portion.id, "text": f"its worker died {DEATHS} times"})
        elif portion.step != "again":  # what is to be done twice is still on that list
            self.waiting.append(portion)


def _as_interrupt(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _in_main_thread() -> bool:
    import threading

    return threading.current_thread() is threading.main_thread()
