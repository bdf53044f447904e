"""The ledger: every finding by signature, on which nights it was there and from which it was gone; and a record of each night.

What a finding *is* on a date (new, known, excused, fixed) is not stored but follows from these dates and the excuses
(:func:`statuses`), so that ledgers of several shards can be joined in any order. How they are written is in ``ledger_file.py``.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from hvmodel.callers.levels import LEVELS
from hvmodel.gears.minimise import Minimised
from hvmodel.jobs.findings import Finding, cause_of, prune
from hvmodel.jobs.nightly.excuses import Excuse
from hvmodel.jobs.nightly.plan import night_name
from hvmodel.properties.catalogue import PROPERTIES
from hvmodel.properties.verdicts import Violation
from hvmodel.traces.format import TraceError, from_json

SEEN_KEPT = 40
"""Of each finding the first night and so many of the last ones are remembered."""

NEW, KNOWN, EXCUSED, FIXED = "new", "known", "excused", "fixed"
"""What a finding is in a night."""

WHOLE, VOID, INTERRUPTED, CUT_SHORT = "whole", "void", "interrupted", "cut short"
"""How a night ended: by its budget; without proof of anything, because a canary was not found or the time was over before the
search began; by an interrupt, after which it may be resumed; or not at all, so that a later night closed it."""


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
    def means(self) -> str:
        """Who can cause it and what has to fail besides, in words; empty for a trace that does not say."""
        finding = self.trace.get("finding")
        said = finding.get("means") if isinstance(finding, dict) else None
        return said if isinstance(said, str) else ""

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
        """The finding as the search had it, or None if this version does not know its property or cannot read its trace."""
        if self.property_id not in PROPERTIES:
            return None
        try:
            trace = from_json(self.text)
            level = LEVELS.index(self.level) if self.level in LEVELS else len(LEVELS) - 1
            violation = Violation(self.property_id, "", self.summary, self.call, _tuples(self.shape))
            finding = Finding(Minimised(trace.config, trace.operations, violation, level), trace.driver, "", "")
            _ = cause_of(finding), finding.key
        except (TraceError, IndexError):  # another version had other shapes
            return None
        return finding

    @property
    def cause(self) -> tuple[object, ...] | None:
        """What tells causes apart, or None if this version cannot say."""
        return None if self.finding is None else cause_of(self.finding)

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
    met. The lists at the end are signatures; those of ``untested`` have traces that no longer put their property to the test.
    """

    date: str
    shard: str
    seed: int = 0
    number: int = 0
    harness: str = ""
    ended: str = INTERRUPTED
    budget: float = 0.0
    seconds: float = 0.0
    sessions: int = 1
    jobs: int = 1
    portions: int = 0
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
    untested: list[str] = field(default_factory=list)

    @property
    def name(self) -> str:
        """The night's name: ``2026-11-24.1of4``."""
        return night_name(self.date, self.shard)

    @property
    def over(self) -> bool:
        """Whether it cannot be resumed."""
        return self.ended in (WHOLE, CUT_SHORT)

    @property
    def erred(self) -> bool:
        """Whether the harness did: portions that failed or came out different when done again, kept traces that do not do what
        they say."""
        return bool(self.different or self.failures or self.corpus.get("problems"))


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


def status(entry: Entry, when: str, excuse: Excuse | None = None, untold: frozenset[str] = frozenset()) -> str | None:
    """What a finding is in the night of a date, by its own dates; None if that night has heard nothing of it.

    It is *known* if an earlier night told of it, unless it was gone in between or all those nights were under an excuse that does
    not hold any more: then it is *new* again. ``untold`` are dates of nights that found it and told nobody.
    """
    if when not in entry.seen:
        return FIXED if when in entry.fixed else None
    if excuse is not None and excuse.holds(when):
        return EXCUSED
    told = [date for date in entry.seen if date < when and date not in untold and not (excuse is not None and excuse.holds(date))]
    if not told:
        return NEW
    gone = [date for date in entry.fixed if max(told) < date < when and date not in entry.seen]
    return NEW if gone else KNOWN


def untold(ledger: Ledger) -> dict[str, frozenset[str]]:
    """By signature the dates of nights that told nobody of it: those that were cut short, and no other shard named it."""
    told = {(n.date, name) for n in ledger.nights.values() if n.ended != CUT_SHORT for name in (*n.new, *n.known, *n.excused)}
    found: dict[str, set[str]] = {}
    for night in ledger.nights.values():
        if night.ended == CUT_SHORT:
            for name in night.new:
                if (night.date, name) not in told:
                    found.setdefault(name, set()).add(night.date)
    return {name: frozenset(dates) for name, dates in found.items()}


def statuses(ledger: Ledger, excuses: Mapping[str, Excuse], when: str) -> dict[str, str]:
    """What each finding is in the night of a date; findings that it heard nothing of are left out.

    One defect fails in many forms, each with a signature of its own, and a search meets the rare ones late. So a signature that no
    night has met before is not new but known if it says no more than an old finding does (:func:`covers`), or if its cause
    (:func:`hvmodel.jobs.findings.cause_of`) is known, unless it came :func:`suddenly`.
    """
    found: dict[str, str] = {}
    secret, sudden = untold(ledger), suddenly(ledger, when)
    old: list[Entry] = []
    fresh: list[Entry] = []
    for signature, entry in ledger.entries.items():
        hidden = secret.get(signature, frozenset())
        what = status(entry, when, excuses.get(signature), hidden)
        if what is not None:
            found[signature] = what
        told = any(date < when and date not in hidden for date in entry.seen)
        if told and what in (KNOWN, EXCUSED, None) and not entry.gone(when):
            old.append(entry)
        elif what == NEW and not told:
            fresh.append(entry)
    causes = {entry.cause for entry in old} - {None}
    for entry in fresh:
        alike = entry.cause in causes and entry.signature not in sudden
        if alike or any(covers(other, entry) for other in old):
            found[entry.signature] = KNOWN
    return found


CHANCE = 1e-4
"""How improbable it must be that a finding which was there all the time was never met before."""


def suddenly(ledger: Ledger, when: str) -> set[str]:
    """The signatures that the night of a date met so often that earlier nights would have met them, had the driver been the same.

    If runs are alike, each run that met one falls into this night with a probability that is this night's share of all runs.
    """
    before = [night for night in ledger.nights.values() if night.date < when and night.tally]
    met, runs = met_by(ledger, ledger.of_date(when))
    earlier, past = met_by(ledger, before)
    if not runs or not past:
        return set()
    return {name for name, times in met.items() if name not in earlier and (runs / (runs + past)) ** times < CHANCE}


def met_by(ledger: Ledger, nights: Iterable[NightRecord]) -> tuple[dict[str, int], int]:
    """In how many runs of some nights each signature was met, and how many runs that were. Hits of a kind that was never minimised
    count as a signature of their own."""
    met: dict[str, int] = {}
    runs = 0
    for night in nights:
        runs += night.runs
        for kind, times in night.kinds.items():
            name = ledger.kinds.get(kind, kind)
            met[name] = met.get(name, 0) + times
    return met, runs


def covers(old: Entry, fresh: Entry) -> bool:
    """Whether a finding says no more than an old one: property, call and manner are the same, and it needs no fewer refusals and
    assumptions and no lower level (:func:`hvmodel.jobs.findings.prune`)."""
    if (fresh.property_id, fresh.call, fresh.shape) != (old.property_id, old.call, old.shape):
        return False
    return fresh.signature not in simplest([fresh, old])


def simplest(entries: Sequence[Entry]) -> set[str]:
    """The signatures of those that no simpler one of them covers. What this version cannot read covers nothing."""
    names = {id(entry.finding): entry.signature for entry in entries if entry.finding is not None}
    readable = [entry.finding for entry in entries if entry.finding is not None]
    return {names[id(finding)] for finding in prune(readable)} | {entry.signature for entry in entries if entry.finding is None}
