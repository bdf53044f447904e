"""What a night has taken in so far: records of its workers, live or read from journals, each portion counted once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from hvmodel import __version__
from hvmodel.jobs.hunt import Tally
from hvmodel.jobs.nightly import gears
from hvmodel.jobs.nightly import plan as plans
from hvmodel.jobs.nightly.excuses import Excuse
from hvmodel.jobs.nightly.join import Books, join_entries, newest
from hvmodel.jobs.nightly.journal import Record
from hvmodel.jobs.nightly.ledger import EXCUSED, FIXED, KNOWN, NEW, VOID, Entry, Ledger, NightRecord, keep_seen, statuses
from hvmodel.jobs.nightly.ledger_file import FINDING, entry_of
from hvmodel.jobs.nightly.plan import Plan
from hvmodel.jobs.nightly.portions import Done, Portion, done_of


@dataclass(slots=True)
class Sums:
    """What the portions of one step come to. ``seconds`` are of work, in whichever process."""

    portions: int = 0
    runs: int = 0
    operations: int = 0
    seconds: float = 0.0


@dataclass(slots=True)
class Takings:
    """Everything that a night knows about itself.

    ``kinds`` says which signature a kind of hit came down to, ``found`` how often hits of each kind have been minimised, ``met`` in
    how many runs each kind was met; ``digests`` and ``again`` what the portions that are done twice came to, ``killed`` how many
    workers died of a portion, ``clock`` how long each session went on, in seconds.
    """

    done: set[str] = field(default_factory=set)
    entries: dict[str, Entry] = field(default_factory=dict)
    kinds: dict[str, str] = field(default_factory=dict)
    found: dict[str, int] = field(default_factory=dict)
    met: dict[str, int] = field(default_factory=dict)
    states: dict[str, int] = field(default_factory=dict)
    sampled: int = 0
    skipped: int = 0
    tally: Tally = field(default_factory=Tally)
    steps: dict[str, Sums] = field(default_factory=dict)
    digests: dict[int, str] = field(default_factory=dict)
    again: dict[int, str] = field(default_factory=dict)
    data: dict[str, dict[str, Any]] = field(default_factory=dict)
    peaks: dict[str, int] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)
    killed: Counter[str] = field(default_factory=Counter)
    clock: dict[int, float] = field(default_factory=dict)
    budget: float = 0.0
    jobs: int = 1

    def take(self, record: Record) -> None:
        """Take a record in. What makes no sense is skipped, and so is a portion that has been counted."""
        with suppress(KeyError, TypeError, ValueError, AttributeError):
            self._take(record)

    def _take(self, record: Record) -> None:
        what = record["r"]
        if what == "finding":
            self._finding(record)
        elif what == "done":
            self._done(done_of(record), record.get("found", {}))
        elif what == "failed":
            self.failures[str(record["portion"])] = str(record["text"])
        elif what == "killed":
            self.killed[str(record["portion"])] += 1
        elif what == "clock":
            session = int(record["session"])
            self.clock[session] = max(self.clock.get(session, 0.0), float(record["seconds"]))
            self.budget, self.jobs = float(record["budget"]), int(record["jobs"])
        if "rss" in record:
            process = str(record["process"])
            self.peaks[process] = max(self.peaks.get(process, 0), int(record["rss"]))

    def _finding(self, record: Record) -> None:
        entry = entry_of({name: record[name] for name in FINDING})
        self.entries[entry.signature] = join_entries(self.entries.get(entry.signature, entry), entry)
        if record["kind"]:
            kind = str(record["kind"])
            self.kinds[kind] = min(self.kinds.get(kind, entry.signature), entry.signature)

    def _done(self, done: Done, found: Mapping[str, int]) -> None:
        if done.portion in self.done:
            return
        self.done.add(done.portion)
        sums = self.steps.setdefault(done.step, Sums())
        sums.portions += 1
        sums.runs += done.runs
        sums.operations += done.operations
        sums.seconds += done.seconds
        if done.step == "again":
            self.again[done.number] = done.digest
            return
        self.data[done.portion] = done.data
        self.tally.merge(done.tally)
        for mine, theirs in ((self.found, found), (self.met, done.kinds), (self.states, done.states)):
            for name, times in theirs.items():
                mine[name] = mine.get(name, 0) + times
        self.sampled += done.sampled
        self.skipped += done.skipped
        if done.digest:
            self.digests[done.number] = done.digest

    def settled(self, portion: Portion) -> bool:
        """Whether a portion needs no doing any more: it is done, or it failed and is set aside."""
        return portion.id in self.done or portion.id in self.failures

    @property
    def search(self) -> dict[str, Sums]:
        """What the gears did."""
        return {gear.name: self.steps.get(gear.name, Sums()) for gear in gears.GEARS}

    @property
    def seconds(self) -> float:
        """How long the night has gone on, over all its sessions."""
        return sum(self.clock.values())

    @property
    def unchecked(self) -> list[int]:
        """Portions of the walk that are to be done a second time."""
        return sorted(number for number in self.digests if not self.settled(Portion("again", number)))

    @property
    def different(self) -> list[str]:
        """Portions that were done twice and came out different."""
        return [f"walk/{number}" for number in sorted(self.again) if self.again[number] != self.digests.get(number)]

    @property
    def void(self) -> bool:
        """Whether a canary was searched for in vain, or its search failed."""
        birds = [Portion("canary", number) for number in range(len(plans.CANARIES))]
        return any(not self.data.get(bird.id, {}).get("found") for bird in birds if self.settled(bird))

    def of_step(self, step: str) -> list[dict[str, Any]]:
        """What the portions of a step had to say, by number."""
        names = sorted((name for name in self.data if name.startswith(f"{step}/")), key=lambda name: int(name.partition("/")[2]))
        return [self.data[name] for name in names]


def conclude(books: Books, plan: Plan, takings: Takings, ended: str) -> Books:
    """What is known after a night: its findings in the ledger, what does not fail any more marked as gone, and a record of it.

    A void night proves nothing: it leaves a record and changes no finding.
    """
    ledger = books.ledger
    entries, kinds = dict(ledger.entries), dict(ledger.kinds)
    if ended != VOID and not takings.void:
        replayed = takings.data.get("known/0", {})
        failing = {name for name in replayed.get("failing", ()) if name in entries}
        for signature in failing | set(takings.entries):
            both = [table[signature] for table in (entries, takings.entries) if signature in table]
            merged = join_entries(both[0], both[-1])
            entries[signature] = replace(merged, seen=keep_seen((*merged.seen, plan.date)))
        for signature in replayed.get("passing", ()):
            entry = entries.get(signature)
            if entry is not None and plan.date not in entry.seen and not entry.gone(plan.date):
                entries[signature] = replace(entry, fixed=tuple(sorted({*entry.fixed, plan.date})))
        for kind, signature in takings.kinds.items():
            kinds[kind] = min(kinds.get(kind, signature), signature)
    record = _record(plan, takings, ended)
    nights = {**ledger.nights, record.name: record}
    after = Ledger(ledger.driver, entries, kinds, nights)
    nights[record.name] = _with_statuses(record, after, books.excuses)
    states = {**books.states, record.name: dict(sorted(takings.states.items()))}
    return newest(Books(after, states, books.excuses))


def _with_statuses(record: NightRecord, ledger: Ledger, excuses: Mapping[str, Excuse]) -> NightRecord:
    """The record with what each finding is in its night; nothing in a void one."""
    if record.ended == VOID:
        return record
    what = statuses(ledger, excuses, record.date)
    lists = {name: sorted(key for key, value in what.items() if value == name) for name in (NEW, KNOWN, EXCUSED, FIXED)}
    return replace(record, new=lists[NEW], known=lists[KNOWN], excused=lists[EXCUSED], fixed=lists[FIXED])


def _record(plan: Plan, takings: Takings, ended: str) -> NightRecord:
    failures = [f"{portion}: {text.strip().splitlines()[-1][:200]}" for portion, text in sorted(takings.failures.items()) if text]
    replayed = takings.data.get("known/0", {})
    search = {name: sums for name, sums in takings.search.items() if sums.portions}
    return NightRecord(
        date=plan.date,
        shard=str(plan.shard),
        seed=plan.seed,
        number=plan.number,
        harness=__version__,
        ended=ended,
        budget=takings.budget,
        seconds=round(takings.seconds, 1),
        sessions=max(len(takings.clock), 1),
        jobs=takings.jobs,
        operations=takings.tally.operations,
        runs=takings.tally.runs,
        gears={name: [sums.portions, sums.runs, sums.operations, round(sums.seconds, 1)] for name, sums in search.items()},
        tally=asdict(takings.tally),
        kinds=dict(sorted(takings.met.items())),
        sampled=takings.sampled,
        peaks=[takings.peaks[name] for name in sorted(takings.peaks)],
        killed=takings.killed.total(),
        skipped=takings.skipped,
        failures=failures,
        checks=len(takings.again),
        different=takings.different,
        canaries=takings.of_step("canary"),
        rota=takings.of_step("rota"),
        corpus=takings.data.get("corpus/0", {}),
        coverage=takings.data.get("coverage/0", {}),
        untested=sorted(replayed.get("untested", ())),
        portions=len(takings.done),
    )
