"""Findings of both drivers sorted: fixed, broken, in both, and those of which it cannot be said."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Literal

from hvmodel.jobs.compare.judging import State, as_failing
from hvmodel.jobs.compare.subjects import Subject
from hvmodel.jobs.findings import Finding, Group, cause_of, group, prune

Kind = Literal["broken", "open", "fixed", "both"]
"""``broken``: B fails, A does not. ``open``: one fails, and of the other it cannot be said. ``fixed``: A fails, B does not."""

KINDS: tuple[Kind, ...] = ("broken", "open", "fixed", "both")


@dataclass(frozen=True, slots=True)
class Judged:
    """A subject with what it does on both drivers. ``parted``: where their callers are told something else before it fails."""

    subject: Subject
    on_a: State
    on_b: State
    parted: str = ""


@dataclass(slots=True)
class Row:
    """One cause. ``fails_on`` is A, B or both; ``note`` says what has to be known of it: why it holds on the other, in which other
    form it is there, why it cannot be said. ``sources`` are where its traces come from."""

    kind: Kind
    fails_on: str
    findings: list[Finding]
    sources: list[str]
    note: str = ""
    name: str = ""

    @property
    def best(self) -> Finding:
        """The one to show."""
        return self.findings[0]

    @property
    def severity(self) -> str:
        """The severity of its property."""
        return self.best.severity

    @property
    def defects(self) -> tuple[str, ...]:
        """The known defects that it is an instance of."""
        return Group(self.findings).defects

    @property
    def also(self) -> list[str]:
        """Other properties that fail through the same cause."""
        return Group(self.findings).also


@dataclass(slots=True)
class Sorted:
    """All rows, by kind, the worst first; and how many traces fail on neither driver, and of how many of those nothing can be
    said."""

    rows: list[Row] = field(default_factory=list)
    neither: int = 0
    untested: list[str] = field(default_factory=list)

    def of(self, *kinds: str) -> list[Row]:
        """The rows of some kinds."""
        return [row for row in self.rows if row.kind in kinds]


def sort(judged: Sequence[Judged]) -> Sorted:
    """Sort what was judged into rows, one a cause."""
    causes_a, causes_b = _causes(judged, True), _causes(judged, False)
    result = Sorted()
    piles: dict[tuple[Kind, str], list[tuple[Judged, str]]] = {}
    for one in judged:
        a, b = one.on_a, one.on_b
        if "fails" not in (a.state, b.state):
            result.neither += 1
            if "undetermined" in (a.state, b.state):
                why = a.why if a.state == "undetermined" else b.why
                result.untested.append(f"{one.subject.source}: {why}")
            continue
        kind, fails_on, note = _kind(one, causes_a, causes_b)
        piles.setdefault((kind, fails_on), []).append((one, note))
    for (kind, fails_on), pile in piles.items():
        result.rows += _rows(kind, fails_on, pile)
    result.rows.sort(key=lambda row: (KINDS.index(row.kind), row.best.rank))
    numbers: Counter[str] = Counter()
    for row in result.rows:
        numbers[row.kind] += 1
        row.name = f"{row.kind}-{numbers[row.kind]:02d}"
    return result


def _causes(judged: Iterable[Judged], on_a: bool) -> dict[tuple[object, ...], str]:
    """Every cause that fails somewhere on a driver -> the source of the trace that shows it."""
    found: dict[tuple[object, ...], str] = {}
    for one in judged:
        state = one.on_a if on_a else one.on_b
        if state.state == "fails" and state.violation is not None:
            found.setdefault(cause_of(as_failing(one.subject.finding, state.violation)), one.subject.source)
    return found


def _kind(one: Judged, causes_a: dict[tuple[object, ...], str], causes_b: dict[tuple[object, ...], str]) -> tuple[Kind, str, str]:
    """The kind of a subject that fails on at least one driver, on which it fails, and what is to be said of it."""
    a, b = one.on_a, one.on_b
    if a.state == b.state:
        other = next((f"in another form on {name}: {state.why}" for name, state in (("A", a), ("B", b)) if not state.same), "")
        return "both", "both", other
    name, there, failing, causes = ("B", b, "A", causes_b) if a.state == "fails" else ("A", a, "B", causes_a)
    elsewhere = causes.get(cause_of(one.subject.finding))
    if elsewhere is not None:
        return "both", "both", f"in another form on {name} ({elsewhere}); this trace holds there"
    if there.state == "undetermined":
        return "open", failing, f"cannot be said of {name}: {there.why}"
    notes = [f"on {name} {there.why}"] if there.why else []
    return ("fixed" if failing == "A" else "broken"), failing, "; ".join(notes + [one.parted] * bool(one.parted))


def _rows(kind: Kind, fails_on: str, pile: list[tuple[Judged, str]]) -> list[Row]:
    known = {id(one.subject.finding): (one.subject.source, note) for one, note in pile}
    rows = []
    for item in group(prune([one.subject.finding for one, _ in pile])):
        sources = list(dict.fromkeys(known[id(finding)][0] for finding in item.findings))
        row = Row(kind, fails_on, item.findings, sources, known[id(item.best)][1])
        rows.append(row)
    return rows


__all__ = ["KINDS", "Judged", "Kind", "Row", "Sorted", "sort"]
