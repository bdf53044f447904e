"""What a night has taken in so far: records of its workers, live or read from journals, each counted once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from hvmodel import __version__
from hvmodel.jobs.hunt import Tally
from hvmodel.jobs.nightly import gears
from hvmodel.jobs.nightly.excuses import Excuse
from hvmodel.jobs.nightly.join import Books, join_entries, newest
from hvmodel.jobs.nightly.journal import Record
from hvmodel.jobs.nightly.ledger import EXCUSED, FIXED, KNOWN, NEW, Entry, Ledger, NightRecord, keep_seen, statuses
from hvmodel.jobs.nightly.plan import CANARIES, Plan
from hvmodel.jobs.nightly.portions import Done, done_of


@dataclass(slots=True)
class Takings:
    """Everything that a night knows about itself. ``found`` says how often hits of each kind have been minimised, ``digests`` what
    the portions that are done twice came to, ``clock`` how long each session went on."""

    done: set[str] = field(default_factory=set)
    entries: dict[str, Entry] = field(default_factory=dict)
    kinds: dict[str, str] = field(default_factory=dict)
    found: dict[str, int] = field(default_factory=dict)
    met: dict[str, int] = field(default_factory=dict)
    states: dict[str, int] = field(default_factory=dict)
    sampled: int = 0
    skipped: int = 0
    tally: Tally = field(default_factory=Tally)
    gears: dict[str, list[float]] = field(default_factory=dict)
    digests: dict[int, str] = field(default_factory=dict)
    again: dict[int, str] = field(default_factory=dict)
    data: dict[str, dict[str, Any]] = field(default_factory=dict)
    peaks: dict[str, int] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)
    killed: int = 0
    clock: dict[int, float] = field(default_factory=dict)

    def take(self, record: Record) -> Done | None:
        """Take a record in; what came of a portion if it is the first record of it. What makes no sense is skipped."""
        try:
            return self._take(record)
        except (KeyError, TypeError, ValueError, AttributeError):
            return None

    def _take(self, record: Record) -> Done | None:
        what = record["r"]
        if what == "finding":
            self._finding(record)
        elif what == "done":
            return self._done(done_of(record), record.get("found", {}))
        elif what == "failed":
            self.failures[str(record["portion"])] = str(record["text"])
        elif what == "killed":
            self.killed += 1
        elif what == "peak":
            process = str(record["process"])
            self.peaks[process] = max(self.peaks.get(process, 0), int(record["rss"]))
        elif what == "clock":
            session = int(record["session"])
            self.clock[session] = max(self.clock.get(session, 0.0), float(record["seconds"]))
        return None

    def _finding(self, record: Record) -> None:
        values = {name: record[name] for name in ("signature", "property_id", "call", "level", "summary", "trace")}
        entry = Entry(**values, shape=tuple(record["shape"]))
        self.entries[entry.signature] = join_entries(self.entries.get(entry.signature, entry), entry)
        if record["kind"]:
            kind = str(record["kind"])
            self.kinds[kind] = min(self.kinds.get(kind, entry.signature), entry.signature)

    def _done(self, done: Done, found: Mapping[str, int]) -> Done | None:
        if done.portion in self.done:
            return None
        self.done.add(done.portion)
        if done.step == "again":
            self.again[done.number] = done.digest
            return done
        for kind, times in found.items():
            self.found[kind] = self.found.get(kind, 0) + times
        if gears.of_name(done.step) is None:
            self.data[done.portion] = done.data
            return done
        sums = self.gears.setdefault(done.step, [0, 0, 0, 0.0])
        for place, value in enumerate((1, done.runs, done.operations, done.seconds)):
            sums[place] += value
        self.tally.merge(done.tally)
        for mine, theirs in ((self.met, done.kinds), (self.states, done.states)):
            for name, times in theirs.items():
                mine[name] = mine.get(name, 0) + times
        self.sampled += done.sampled
        self.skipped += done.skipped
        if done.digest:
            self.digests[done.number] = done.digest
        return done

    @property
    def seconds(self) -> float:
        """How long the night has gone on, over all its sessions."""
        return sum(self.clock.values())

    @property
    def unchecked(self) -> list[int]:
        """Portions that are to be done a second time."""
        return sorted(number for number in self.digests if number not in self.again and f"again/{number}" not in self.failures)

    @property
    def different(self) -> list[str]:
        """Portions that were done twice and came out different."""
        return [f"walk/{number}" for number in sorted(self.again) if self.again[number] != self.digests.get(number)]

    @property
    def canaries(self) -> list[dict[str, Any]]:
        """The trials of the canaries that are done."""
        return [self.data[f"canary/{number}"] for number in range(len(CANARIES)) if f"canary/{number}" in self.data]

    @property
    def void(self) -> bool:
        """Whether a canary was searched for in vain."""
        return any(not trial.get("found") for trial in self.canaries)

    def of_step(self, step: str) -> list[dict[str, Any]]:
        """What the portions of a step had to say, by number."""
        names = sorted((name for name in self.data if name.startswith(f"{step}/")), key=lambda name: int(name.partition("/")[2]))
        return [self.data[name] for name in names]


def conclude(books: Books, plan: Plan, takings: Takings, ended: str, budget: float, jobs: int) -> Books:
    """What is known after a night: its findings in the ledger, what does not fail any more marked as gone, and a record of it.

    A void night proves nothing: it leaves a record and changes no finding.
    """
    ledger = books.ledger
    entries, kinds = dict(ledger.entries), dict(ledger.kinds)
    if not takings.void:
        replayed = takings.data.get("known/0", {})
        failing = {name for name in replayed.get("failing", ()) if name in entries}
        for signature in sorted(failing | set(takings.entries)):
            entry = entries.get(signature)
            fresh = takings.entries.get(signature)
            merged = join_entries(entry, fresh) if entry and fresh else entry or fresh
            assert merged is not None
            entries[signature] = replace(merged, seen=keep_seen((*merged.seen, plan.date)))
        for signature in replayed.get("passing", ()):
            entry = entries.get(signature)
            if entry is not None and plan.date not in entry.seen and not entry.gone(plan.date):
                entries[signature] = replace(entry, fixed=tuple(sorted({*entry.fixed, plan.date})))
        for kind, signature in takings.kinds.items():
            kinds[kind] = min(kinds.get(kind, signature), signature)
    record = _record(plan, takings, ended, budget, jobs)
    nights = {**ledger.nights, record.name: record}
    after = Ledger(ledger.driver, entries, kinds, nights)
    nights[record.name] = _with_statuses(record, after, books.excuses)
    states = {**books.states, record.name: dict(sorted(takings.states.items()))}
    return Books(after, newest(states), books.excuses)


def _with_statuses(record: NightRecord, ledger: Ledger, excuses: Mapping[str, Excuse]) -> NightRecord:
    """The record with what each finding is in its night; nothing in a void one."""
    if record.ended == "void":
        return record
    what = statuses(ledger, excuses, record.date)
    lists = {name: sorted(key for key, value in what.items() if value == name) for name in (NEW, KNOWN, EXCUSED, FIXED)}
    return replace(record, new=lists[NEW], known=lists[KNOWN], excused=lists[EXCUSED], fixed=lists[FIXED])


def _record(plan: Plan, takings: Takings, ended: str, budget: float, jobs: int) -> NightRecord:
    corpus = takings.data.get("corpus/0", {})
    failures = [f"{portion}: {text.strip().splitlines()[-1][:200]}" for portion, text in sorted(takings.failures.items()) if text]
    return NightRecord(
        date=plan.date,
        shard=str(plan.shard),
        seed=plan.seed,
        number=plan.number,
        harness=__version__,
        ended=ended,
        budget=budget,
        seconds=round(takings.seconds, 1),
        sessions=max(len(takings.clock), 1),
        jobs=jobs,
        operations=takings.tally.operations,
        runs=takings.tally.runs,
        gears={name: [*map(int, sums[:3]), round(sums[3], 1)] for name, sums in sorted(takings.gears.items())},
        tally=asdict(takings.tally),
        kinds=dict(sorted(takings.met.items())),
        sampled=takings.sampled,
        peaks=[takings.peaks[name] for name in sorted(takings.peaks)],
        killed=takings.killed,
        skipped=takings.skipped,
        failures=failures,
        checks=len(takings.again),
        different=takings.different,
        canaries=takings.canaries,
        rota=takings.of_step("rota"),
        corpus=corpus,
        coverage=takings.data.get("coverage/0", {}),
        portions=len(takings.done),
    )
