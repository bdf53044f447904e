"""Joining what several shards know, by rules that do not care for the order (``README.md`` has them as a table)."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field, replace

from hvmodel.callers.levels import LEVELS
from hvmodel.jobs.nightly.excuses import Excuse, longest
from hvmodel.jobs.nightly.ledger import Entry, Ledger, NightRecord, keep_seen

WINDOW = 14
"""Of the nights of so many dates, the newest ones, it is kept which kinds of hit and which abstract states they met, and their
tallies: the estimate draws on them, and they are what is large."""


@dataclass(frozen=True, slots=True)
class Books:
    """All that a state directory knows: the ledger, of each of the newest nights in how many sampled runs each abstract state was
    met, and the excuses."""

    ledger: Ledger
    states: dict[str, dict[str, int]] = field(default_factory=dict)
    excuses: dict[str, Excuse] = field(default_factory=dict)


class OtherDriver(ValueError):
    """Two ledgers of different drivers cannot be joined."""


def join(all_books: Iterable[Books]) -> Books:
    """What all of them know. Commutative, associative, idempotent. Raises OtherDriver; ValueError for nothing."""
    books = list(all_books)
    if not books:
        raise ValueError("nothing to join")
    drivers = sorted({item.ledger.driver for item in books})
    if len(drivers) > 1:
        raise OtherDriver(f"the ledgers are of different drivers: {', '.join(drivers)}")
    entries: dict[str, Entry] = {}
    nights: dict[str, NightRecord] = {}
    kinds: dict[str, str] = {}
    states: dict[str, dict[str, int]] = {}
    for item in books:
        for key, entry in item.ledger.entries.items():
            entries[key] = join_entries(entries.get(key, entry), entry)
        for key, night in item.ledger.nights.items():
            nights[key] = max(nights.get(key, night), night, key=_progress)
        for kind, signature in item.ledger.kinds.items():
            kinds[kind] = min(kinds.get(kind, signature), signature)
        for key, counts in item.states.items():
            states[key] = max(states.get(key, counts), counts, key=_size)
    excuses = longest(excuse for item in books for excuse in item.excuses.values())
    return newest(Books(Ledger(drivers[0], entries, kinds, nights), states, excuses))


def join_entries(first: Entry, second: Entry) -> Entry:
    """Two entries of one signature: all dates of both, and the better trace with what goes with it."""
    best = min(first, second, key=trace_rank)
    return replace(
        best,
        seen=keep_seen((*first.seen, *second.seen)),
        fixed=tuple(sorted({*first.fixed, *second.fixed})),
    )


def trace_rank(entry: Entry) -> tuple[object, ...]:
    """Sorts traces of one signature, the best first: the lowest level, the fewest operations, the shortest text, its letters."""
    level = LEVELS.index(entry.level) if entry.level in LEVELS else len(LEVELS)
    text = json.dumps(entry.trace, sort_keys=True)
    return (level, entry.operations, len(text), text, entry.summary, entry.property_id, entry.call, repr(entry.shape))


def _progress(night: NightRecord) -> tuple[object, ...]:
    """Of two records of one night and shard the one that is over counts, then the one that did more. The last two only make the
    choice the same in any order, whatever has been left out of old records."""
    return (night.over, night.portions, night.operations, _text(_slim(night)), _text(night))


def _text(night: NightRecord) -> str:
    return json.dumps(asdict(night), sort_keys=True)


def _size(counts: dict[str, int]) -> tuple[object, ...]:
    return (sum(counts.values()), json.dumps(counts, sort_keys=True))


def newest(books: Books) -> Books:
    """The books without what is large in nights before the newest :data:`WINDOW` dates."""
    dates = sorted({night.date for night in books.ledger.nights.values()})[-WINDOW:]
    first = dates[0] if dates else ""
    nights = {name: night if night.date >= first else _slim(night) for name, night in books.ledger.nights.items()}
    states = {name: counts for name, counts in books.states.items() if name in nights and nights[name].date >= first}
    return replace(books, ledger=replace(books.ledger, nights=nights), states=states)


def _slim(night: NightRecord) -> NightRecord:
    return replace(night, kinds={}, tally={}, coverage={})
