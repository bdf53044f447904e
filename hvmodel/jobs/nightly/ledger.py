"""The ledger: every finding by signature, on which nights it was there and from which it was gone; and a record of each night.

What a finding *is* on a date (new, known, excused, fixed) is not stored but follows from these dates and the excuses
(:func:`status`), so that ledgers of several shards can be joined in any order.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields
from functools import cached_property
from typing import Any, TypeVar

from hvmodel.callers.levels import LEVELS
from hvmodel.gears.minimise import Minimised
from hvmodel.jobs.findings import Finding, prune
from hvmodel.jobs.nightly.excuses import Excuse
from hvmodel.properties.catalogue import PROPERTIES
from hvmodel.properties.verdicts import Violation
from hvmodel.traces.format import TraceError, from_json

VERSION = 1

SEEN_KEPT = 40
"""Of each finding the first night and so many of the last ones are remembered."""

NEW, KNOWN, EXCUSED, FIXED = "new", "known", "excused", "fixed"


class BadLedger(ValueError):
    """A ledger that cannot be used; the text says what is wrong and where, in one line."""


@dataclass(frozen=True)
class Entry:
    """A finding. ``trace`` is its best trace as JSON data, ``shape`` the violation's; ``seen`` are the dates of nights that found
    it or whose replay failed, ``fixed`` those whose replay did not fail any more and that did not find it."""

    signature: str
    property_id: str
    call: str
    shape: tuple[Any, ...]
    level: str
    summary: str
    trace: Mapping[str, Any]
    seen: tuple[str, ...] = ()
    fixed: tuple[str, ...] = ()

    @property
    def severity(self) -> str:
        """The property's severity; empty for a property that this version does not have."""
        return PROPERTIES[self.property_id].severity if self.property_id in PROPERTIES else ""

    @property
    def operations(self) -> int:
        """Operations in the trace."""
        return len(self.trace.get("operations", ()))

    @property
    def file(self) -> str:
        """The name of its trace file."""
        return self.signature.replace("/", "-") + ".json"

    @cached_property
    def text(self) -> str:
        """The trace as text."""
        return json.dumps(self.trace, indent=1)

    @cached_property
    def finding(self) -> Finding | None:
        """The finding as the search had it, or None if this version cannot read its trace."""
        try:
            trace = from_json(self.text)
        except TraceError:
            return None
        level = LEVELS.index(self.level) if self.level in LEVELS else len(LEVELS) - 1
        violation = Violation(self.property_id, "", self.summary, self.call, _tuples(self.shape))
        return Finding(Minimised(trace.config, trace.operations, violation, level), trace.driver, "", "")

    def gone(self, when: str) -> bool:
        """Whether it was fixed on a date: the last thing heard of it until then is that it was gone."""
        last = max((date for date in self.fixed if date <= when), default="")
        return last > max((date for date in self.seen if date <= when), default="")


def _tuples(value: Any) -> Any:
    return tuple(_tuples(item) for item in value) if isinstance(value, list | tuple) else value


@dataclass(frozen=True, slots=True)
class NightRecord:
    """What one shard did in one night.

    ``seconds`` are by the clock over all sessions; ``gears`` has for each gear portions, runs, operations and seconds of work;
    ``peaks`` is the peak memory of each process in KiB, the job's own first; ``kinds`` says in how many runs each kind of hit was
    met. ``ended`` is ``whole``, ``void``, ``cut short`` or, if it may be resumed, ``interrupted``.
    """

    date: str
    shard: str
    seed: int = 0
    number: int = 0
    harness: str = ""
    ended: str = "interrupted"
    budget: float = 0.0
    seconds: float = 0.0
    sessions: int = 1
    jobs: int = 1
    operations: int = 0
    runs: int = 0
    gears: dict[str, list[float]] = field(default_factory=dict)
    tally: dict[str, Any] = field(default_factory=dict)
    kinds: dict[str, int] = field(default_factory=dict)
    sampled: int = 0
    peaks: list[int] = field(default_factory=list)
    killed: int = 0
    skipped: int = 0
    failures: list[str] = field(default_factory=list)
    checks: int = 0
    different: list[str] = field(default_factory=list)
    canaries: list[dict[str, Any]] = field(default_factory=list)
    rota: list[dict[str, Any]] = field(default_factory=list)
    corpus: dict[str, Any] = field(default_factory=dict)
    coverage: dict[str, Any] = field(default_factory=dict)
    new: list[str] = field(default_factory=list)
    known: list[str] = field(default_factory=list)
    excused: list[str] = field(default_factory=list)
    fixed: list[str] = field(default_factory=list)
    portions: int = 0

    @property
    def name(self) -> str:
        """The night's name: ``2026-11-24.1of4``."""
        return f"{self.date}.{self.shard.replace('/', 'of')}"

    @property
    def over(self) -> bool:
        """Whether it cannot be resumed."""
        return self.ended in ("whole", "cut short")


@dataclass(frozen=True, slots=True)
class Ledger:
    """All that is known of one driver. ``kinds`` says which signature a kind of hit came down to."""

    driver: str
    entries: dict[str, Entry] = field(default_factory=dict)
    kinds: dict[str, str] = field(default_factory=dict)
    nights: dict[str, NightRecord] = field(default_factory=dict)

    @property
    def last_date(self) -> str:
        """The date of the newest night; empty without nights."""
        return max((night.date for night in self.nights.values()), default="")

    def of_date(self, when: str) -> list[NightRecord]:
        """The records of all shards of a night."""
        return [self.nights[name] for name in sorted(self.nights) if self.nights[name].date == when]


def keep_seen(dates: Iterable[str]) -> tuple[str, ...]:
    """The first of the dates and the newest ones."""
    ordered = sorted(set(dates))
    return tuple(ordered[:1] + ordered[1:][-SEEN_KEPT:])


# --- what a finding is on a date ----------------------------------------------------------------------------------------------


def status(entry: Entry, when: str, excuse: Excuse | None) -> str | None:
    """What a finding is in the night of a date, by its own dates; None if that night has heard nothing of it.

    It is *known* if an earlier night reported it, unless it was gone in between or all those nights were under an excuse that
    does not hold any more: then it is *new* again.
    """
    if when not in entry.seen:
        return FIXED if when in entry.fixed else None
    if excuse is not None and excuse.holds(when):
        return EXCUSED
    told = [date for date in entry.seen if date < when and not (excuse is not None and excuse.holds(date))]
    if not told:
        return NEW
    gone = [date for date in entry.fixed if max(told) < date < when and date not in entry.seen]
    return NEW if gone else KNOWN


def statuses(ledger: Ledger, excuses: Mapping[str, Excuse], when: str) -> dict[str, str]:
    """What each finding is in the night of a date; findings that it heard nothing of are left out.

    A finding that would be new but says the same as a known or excused one, only with more or with fewer refusals, assumptions or
    at another level (:func:`hvmodel.jobs.findings.prune`), is no new one. Of new ones that say the same the simplest is new.
    """
    found: dict[str, str] = {}
    for signature, entry in ledger.entries.items():
        what = status(entry, when, excuses.get(signature))
        if what is not None:
            found[signature] = what
    old = [entry for entry in ledger.entries.values() if _is_old(entry, when, found.get(entry.signature))]
    fresh = [ledger.entries[signature] for signature, what in found.items() if what == NEW]
    for entry in fresh:
        if any(same_thing(entry, other) for other in old if other.signature != entry.signature):
            found[entry.signature] = KNOWN
    fresh = [entry for entry in fresh if found[entry.signature] == NEW]
    kept = simplest(fresh)
    for entry in fresh:
        if entry.signature not in kept:
            found[entry.signature] = KNOWN
    return found


def _is_old(entry: Entry, when: str, what: str | None) -> bool:
    """Whether an entry was reported before a date and is not gone."""
    return what in (KNOWN, EXCUSED) or (what is None and any(date < when for date in entry.seen) and not entry.gone(when))


def same_thing(first: Entry, second: Entry) -> bool:
    """Whether one of two findings covers the other."""
    if (first.property_id, first.call, first.shape) != (second.property_id, second.call, second.shape):
        return False
    return len(simplest([first, second])) == 1


def simplest(entries: Iterable[Entry]) -> set[str]:
    """The signatures of those that no simpler one of them covers. What this version cannot read covers nothing."""
    readable = {id(entry.finding): entry for entry in entries if entry.finding is not None}
    kept = {readable[id(finding)].signature for finding in prune([e.finding for e in readable.values() if e.finding is not None])}
    return kept | {entry.signature for entry in entries if entry.finding is None}


# --- the file -----------------------------------------------------------------------------------------------------------------


def ledger_text(ledger: Ledger) -> str:
    """The ledger as canonical JSON: equal ledgers give equal bytes. One line for each finding and each night."""
    head = {"hvmodel-ledger": VERSION, "driver": ledger.driver}
    parts = [f'"{name}": {json.dumps(value)}' for name, value in head.items()]
    for name, table in (("findings", ledger.entries), ("nights", ledger.nights), ("kinds", ledger.kinds)):
        lines = [f"  {json.dumps(key)}: {_line(table[key])}" for key in sorted(table)]
        parts.append(f'"{name}": {{\n' + ",\n".join(lines) + "\n}" if lines else f'"{name}": {{}}')
    return "{\n" + ",\n".join(parts) + "\n}\n"


def _line(value: object) -> str:
    if isinstance(value, Entry):
        data: Any = {item.name: getattr(value, item.name) for item in fields(Entry)}
    elif isinstance(value, NightRecord):
        data = asdict(value)
    else:
        data = value
    return json.dumps(data, sort_keys=True)


def read_ledger(text: str, name: str = "ledger.json") -> Ledger:
    """The ledger in a text. Raises BadLedger."""
    try:
        data = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise BadLedger(f"{name}: not JSON ({str(error).splitlines()[0][:80]})") from None
    if not isinstance(data, dict) or data.get("hvmodel-ledger") != VERSION:
        raise BadLedger(f"{name}: no ledger of version {VERSION}")
    if not isinstance(data.get("driver"), str):
        raise BadLedger(f"{name}: driver: must be a name")
    tables = {}
    for table in ("findings", "nights", "kinds"):
        tables[table] = data.get(table, {})
        if not isinstance(tables[table], dict):
            raise BadLedger(f"{name}: {table}: must be an object")
    entries = {key: _entry(value, f"{name}: findings: {key}") for key, value in tables["findings"].items()}
    nights = {key: _fitting(NightRecord, value, f"{name}: nights: {key}") for key, value in tables["nights"].items()}
    if not all(isinstance(value, str) for value in tables["kinds"].values()):
        raise BadLedger(f"{name}: kinds: must be names")
    if any(key != entry.signature for key, entry in entries.items()) or any(key != night.name for key, night in nights.items()):
        raise BadLedger(f"{name}: a name does not fit what it stands for")
    return Ledger(data["driver"], entries, tables["kinds"], nights)


def _entry(value: Any, where: str) -> Entry:
    if isinstance(value, dict):
        value = {**value, **{key: tuple(value[key]) for key in ("shape", "seen", "fixed") if isinstance(value.get(key), list)}}
    entry = _fitting(Entry, value, where)
    if not all(isinstance(item, str) and re.fullmatch(r"\d{4}-\d\d-\d\d", item) for item in (*entry.seen, *entry.fixed)):
        raise BadLedger(f"{where}: seen and fixed must be dates")
    return entry


T = TypeVar("T")

_TYPES: dict[str, Any] = {
    "str": str,
    "int": int,
    "float": (int, float),
    "tuple": tuple,
    "list": list,
    "dict": dict,
    "Mapping": dict,
}


def _fitting(cls: type[T], value: Any, where: str) -> T:
    """A dataclass from JSON data, its fields checked as far as their outer type goes. Raises BadLedger."""
    if not isinstance(value, dict):
        raise BadLedger(f"{where}: must be an object")
    wanted = {item.name: str(item.type).partition("[")[0] for item in fields(cls)}  # type: ignore[arg-type]
    for name, given in value.items():
        if name not in wanted:
            raise BadLedger(f"{where}: unknown field {name!a}")
        if not isinstance(given, _TYPES[wanted[name]]) or isinstance(given, bool):
            raise BadLedger(f"{where}: {name}: must be {wanted[name]}")
    try:
        return cls(**value)
    except TypeError as error:
        raise BadLedger(f"{where}: {str(error).partition('() ')[2] or error}") from None
