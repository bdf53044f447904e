"""The figures of a night, from the ledger: sums over its shards, the estimate, the trend, the survival of variants."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields

from hvmodel.jobs.findings import group
from hvmodel.jobs.hunt import Tally
from hvmodel.jobs.nightly import estimate
from hvmodel.jobs.nightly.estimate import Counts, Interval, counts_of
from hvmodel.jobs.nightly.join import WINDOW, Books
from hvmodel.jobs.nightly.ledger import EXCUSED, FIXED, KNOWN, NEW, VOID, WHOLE, Entry, Ledger, NightRecord, met_by, statuses
from hvmodel.jobs.nightly.signature import cause_in
from hvmodel.jobs.survival import Observation


def tally_of(nights: Sequence[NightRecord]) -> Tally:
    """What some shards did, added up. A tally that this version does not understand counts nothing."""
    total = Tally()
    known = {item.name for item in fields(Tally)}
    for night in nights:
        try:
            total.merge(Tally(**{name: value for name, value in night.tally.items() if name in known}))
        except (TypeError, ValueError, AttributeError):
            continue
    return total


@dataclass(frozen=True, slots=True)
class Forecast:
    """What is estimated of one kind of species. ``counts`` are over all nights of the window, ``more`` is how many samples a night
    of the same length adds."""

    counts: Counts
    more: int
    unseen: Interval
    discovery: Interval
    another: Interval


def forecast(incidence: Mapping[str, int], samples: int, more: int) -> Forecast:
    """The estimates for one kind of species."""
    counts = counts_of(incidence, samples)
    return Forecast(counts, more, estimate.unseen(counts), estimate.discovery(counts), estimate.another(counts, more))


def forecasts(books: Books, when: str) -> dict[str, Forecast]:
    """The estimates for causes, findings and abstract states as of the night of a date, from the nights of :data:`WINDOW` dates."""
    ledger = books.ledger
    dates = sorted({night.date for night in ledger.nights.values() if night.date <= when})[-WINDOW:]
    nights = [night for night in ledger.nights.values() if night.date in dates]
    tonight = [night for night in nights if night.date == when]
    met, runs = met_by(ledger, nights)
    causes: dict[str, int] = defaultdict(int)
    states: dict[str, int] = defaultdict(int)
    sampled = 0
    for night in nights:
        for kind, times in night.kinds.items():
            causes[cause_in(kind)] += times
        sampled += night.sampled if night.name in books.states else 0
        for name, times in books.states.get(night.name, {}).items():
            states[name] += times
    more = sum(night.runs for night in tonight)
    return {
        "causes": forecast(causes, runs, more),
        "findings": forecast(met, runs, more),
        "abstract states": forecast(states, sampled, sum(night.sampled for night in tonight)),
    }


@dataclass(frozen=True, slots=True)
class Point:
    """One date in the trend, over all shards. ``seen`` is how many findings were there, ``total`` how many signatures had been met
    by then; ``odd`` says what was wrong with the night, if something was."""

    date: str
    operations: int
    new: int
    seen: int
    fixed: int
    total: int
    odd: str


def trend(books: Books, when: str, what: Mapping[str, Sequence[str]], most: int = 60) -> list[Point]:
    """A point for each of the newest nights up to a date. Earlier nights count what their shards reported; ``what`` are the
    findings of the last one, over all shards."""
    ledger = books.ledger
    dates = sorted({night.date for night in ledger.nights.values() if night.date <= when})[-most:]
    points = []
    for date in dates:
        nights = ledger.of_date(date)
        new, known, excused, fixed = (
            set(what.get(name, ())) if date == when else {key for night in nights for key in getattr(night, name)}
            for name in (NEW, KNOWN, EXCUSED, FIXED)
        )
        total = sum(any(seen <= date for seen in entry.seen) for entry in ledger.entries.values())
        seen = new | known | excused
        points.append(Point(date, sum(n.operations for n in nights), len(new), len(seen), len(fixed - seen), total, _odd(nights)))
    return points


def _odd(nights: Sequence[NightRecord]) -> str:
    if any(night.erred for night in nights):
        return "the harness erred"
    return next((night.ended for night in nights if night.ended != WHOLE), "")


def tonight(books: Books, when: str) -> dict[str, list[str]]:
    """The findings of a night by what they are: ``new``, ``known``, ``excused``, ``fixed``; each list in the order of a report.
    Nothing in a night that is void in all its shards."""
    if is_void(books.ledger.of_date(when)):
        return {}
    lists: dict[str, list[str]] = defaultdict(list)
    for signature, what in statuses(books.ledger, books.excuses, when).items():
        lists[what].append(signature)
    return {what: sorted(names, key=lambda name: rank(books, name)) for what, names in lists.items()}


def is_void(nights: Sequence[NightRecord]) -> bool:
    """Whether there are shards of a night and all of them are void."""
    return bool(nights) and all(night.ended == VOID for night in nights)


def causes(entries: Sequence[Entry]) -> list[list[Entry]]:
    """Findings put together by cause (:func:`hvmodel.jobs.findings.group`), each with the one to show first, the worst cause first.
    What this version cannot read is a cause of its own."""
    named = {id(entry.finding): entry for entry in entries if entry.finding is not None}
    groups = group([entry.finding for entry in entries if entry.finding is not None])
    return [[named[id(finding)] for finding in item.findings] for item in groups] + [[e] for e in entries if e.finding is None]


def rank(books: Books, signature: str) -> tuple[object, ...]:
    """Sorts signatures as a report does: what needs no assumption first, the worst first; unreadable ones last."""
    finding = books.ledger.entries[signature].finding
    return (1, (), signature) if finding is None else (0, finding.rank[:-1], signature)


def trials(ledger: Ledger) -> dict[str, list[Observation]]:
    """All trials of the rota so far, by variant: the operations until it was found, or until the trial gave up."""
    found: dict[str, list[Observation]] = defaultdict(list)
    for night in ledger.nights.values():
        for trial in night.rota:
            try:
                found[str(trial["driver"])].append(Observation(float(trial["operations"]), bool(trial["found"])))
            except (KeyError, TypeError, ValueError):
                continue
    return {name: found[name] for name in sorted(found)}
