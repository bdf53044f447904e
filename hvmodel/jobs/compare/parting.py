"""Two worlds in step: the same operations on both drivers, and in which way a step differs.

What is compared of a step: what its caller was told; which driver calls the core made for that and what each answered; which
hypercalls the driver made. Where the caller was told something else the two go different ways from there on, so the comparison of a
run ends.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby

from hvmodel import operations as ops
from hvmodel.configuration import Configuration
from hvmodel.hypervisor.abi import status_name
from hvmodel.traces.story import Call, Hypercall, Step, errno, telling
from hvmodel.world import Outcome, World

ANSWER, CALLS, HYPERCALLS = "answer", "calls", "hypercalls"
ASPECTS = (ANSWER, CALLS, HYPERCALLS)
"""What can differ, the worst first: what somebody was told, what the core asks the driver, what the driver asks the hypervisor."""


@dataclass(frozen=True, slots=True)
class Kind:
    """One way of differing, without values. ``place`` is the operation or the driver call in which it shows, ``a`` and ``b`` say in
    a few words what each driver does (empty: nothing that the other does not do), ``refused`` where something was refused in that
    operation."""

    aspect: str
    place: str
    a: str
    b: str
    refused: tuple[str, ...] = ()

    @property
    def text(self) -> str:
        """``map: A ok, B -EINVAL``."""
        said = ", ".join(f"{name} {text}" for name, text in (("A", self.a), ("B", self.b)) if text)
        return f"{self.place}: {said or 'A and B go different ways'}{self.needs}"

    @property
    def needs(self) -> str:
        """What has to be refused for it to show, in brackets; empty if nothing."""
        return f" (needs a refused {' and '.join(self.refused)})" if self.refused else ""


def folded(kinds: Iterable[Kind]) -> dict[Kind, Kind]:
    """Each kind -> the one that stands for it: the same with fewer refusals, if there is one."""
    plainest: dict[tuple[str, str, str, str], list[Kind]] = {}
    result: dict[Kind, Kind] = {}
    for kind in sorted(kinds, key=lambda kind: (len(kind.refused), kind.refused)):
        alike = plainest.setdefault((kind.aspect, kind.place, kind.a, kind.b), [])
        known = next((other for other in alike if set(other.refused) <= set(kind.refused)), None)
        if known is None:
            alike.append(kind)
        result[kind] = known or kind
    return result


@dataclass(slots=True)
class Both:
    """One operation on both drivers."""

    a: Step
    b: Step
    kinds: list[Kind] = field(default_factory=list)

    @property
    def applied(self) -> bool:
        """Whether it did anything on either."""
        return self.a.outcome.applied or self.b.outcome.applied

    @property
    def level(self) -> int:
        """The level of caller that it needs."""
        return max(self.a.outcome.level, self.b.outcome.level)

    @property
    def parted(self) -> bool:
        """Whether its caller was told something else."""
        return self.a.answer != self.b.answer


class Names:
    """What each id of a device domain stands for in one world: two drivers give the same domain different ids."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._names = {0: "default", 0xFFFFFFFF: "NULL"}

    def learn(self) -> None:
        """Look at the caller's books once more."""
        for book in self._world.books.of_domain.values():
            if book.hv_id is not None:
                self._names[book.hv_id] = book.name

    def of(self, ident: int) -> str:
        """The domain's name, or its number if the books know none."""
        return self._names.get(ident, hex(ident))


def in_step(a: World, b: World, operations: Sequence[ops.Operation]) -> Iterator[Both]:
    """Apply the operations to two worlds, one after another to both, up to the first of which the caller is told something else."""
    names_a, names_b = Names(a), Names(b)
    for step_a, step_b in zip(telling(a, operations), telling(b, operations), strict=True):
        names_a.learn()
        names_b.learn()
        both = Both(step_a, step_b)
        both.kinds = list(_kinds(both, names_a, names_b))
        yield both
        if both.parted:
            return


def pair(config: Configuration, operations: Sequence[ops.Operation], a: str, b: str) -> Iterator[Both]:
    """:func:`in_step` with two new worlds. Raises KeyError for an unknown driver."""
    return in_step(World(config, a), World(config, b), operations)


# --- in which way they differ -------------------------------------------------------------------------------------------------


def _kinds(both: Both, names_a: Names, names_b: Names) -> Iterator[Kind]:
    a, b = both.a, both.b
    if isinstance(a.operation, ops.Recover):  # what is given back depends on all that was before
        return
    refused = tuple(sorted({fault.site for step in (a, b) for fault in step.outcome.fired}))
    kind = a.operation.kind
    if both.parted:
        told_a, told_b = _told(a.operation, a.outcome), _told(b.operation, b.outcome)
        yield Kind(ANSWER, kind, told_a, told_b if told_a != told_b else "another value", refused)
        return
    mine, theirs = ([call for call in step.calls if call.name not in _NOT_CALLS] for step in (a, b))
    calls = _calls(mine, theirs)
    if calls is not None:
        yield Kind(CALLS, kind, *calls, refused)
        return
    yield from _answers(mine, theirs, refused)
    yield from _hypercalls(both, mine, theirs, names_a, names_b, refused)


_NOT_CALLS = ("iova_to_phys", "init", "rest")
"""What is no call of the core that decides anything: lookups ask no hypervisor, the others are what runs between calls."""


def _told(operation: ops.Operation, outcome: Outcome) -> str:
    """What the caller was told, without values."""
    if not outcome.applied:
        return "does nothing" if outcome.result == 0 else f"the core refuses it ({errno(outcome.result)})"
    if isinstance(operation, ops.Unmap | ops.DriverUnmap):
        asked = operation.pages << 12 if isinstance(operation, ops.Unmap) else operation.pgsize * operation.pgcount
        gone = outcome.result
        if not gone:
            return "nothing is gone"
        return "less is gone" if gone < asked else "all is gone" if gone == asked else "more is gone"
    if isinstance(operation, ops.Lookup):
        return "an address" if outcome.result else "no address"
    return "ok" if outcome.result == 0 else errno(outcome.result)


def _calls(mine: list[Call], theirs: list[Call]) -> tuple[str, str] | None:
    """How the driver calls that the core made differ; None if they are the same."""
    counts = Counter(call.name for call in mine), Counter(call.name for call in theirs)
    if counts[0] != counts[1]:
        return _more("calls", counts[0] - counts[1]), _more("calls", counts[1] - counts[0])
    for call, other in zip(mine, theirs, strict=True):
        if call.name != other.name:
            return f"calls {call.name} first", f"calls {other.name} first"
        if _asked(call) != _asked(other):
            sizes = getattr(call.data, "pgsize", 0), getattr(other.data, "pgsize", 0)
            if sizes[0] != sizes[1]:
                return f"{call.name} with pages of {sizes[0]:#x}", f"with pages of {sizes[1]:#x}"
            return f"{call.name} with these arguments", "with others"
    return None


def _asked(call: Call) -> str:
    """A call's arguments, all blocking domains under one name: whether the driver has one or the core makes it is another kind."""
    return _BLOCKING.sub("blocked", call.arguments)


_BLOCKING = re.compile(r"blocking domain of group \d+")


def _more(verb: str, names: Counter[str]) -> str:
    return f"also {verb} {', '.join(sorted(names))}" if names else ""


def _answers(mine: list[Call], theirs: list[Call], refused: tuple[str, ...]) -> Iterator[Kind]:
    """The first driver call that was answered otherwise, though the caller was told the same."""
    for call, other in zip(mine, theirs, strict=True):
        if call.result != other.result:
            unmap = call.name == "unmap_pages"
            told = ("less", "more") if unmap and (call.result or 0) < (other.result or 0) else ("more", "less")
            mine_said, theirs_said = told if unmap else (errno(call.result or 0), errno(other.result or 0))
            yield Kind(ANSWER, call.name, mine_said, theirs_said, refused)
            return


# --- hypercalls ---------------------------------------------------------------------------------------------------------------


def _hypercalls(
    both: Both, mine: list[Call], theirs: list[Call], names_a: Names, names_b: Names, refused: tuple[str, ...]
) -> Iterator[Kind]:
    """How the hypercalls differ, in the driver calls one by one and in what runs between them. Where something was refused, each
    goes its own way: that is one kind."""
    rows = [(call.name, call.hypercalls, other.hypercalls) for call, other in zip(mine, theirs, strict=True)]
    rows.append((both.a.operation.kind, _between(both.a), _between(both.b)))
    seen = set()
    for name, first, second in rows:
        found = _parted(first, second, names_a, names_b)
        if found is not None:
            kind = Kind(HYPERCALLS, name, "", "", refused) if refused else Kind(HYPERCALLS, name, *found)
            if kind not in seen:
                seen.add(kind)
                yield kind


def _between(step: Step) -> list[Hypercall]:
    """Hypercalls of the driver's own init function, outside of all calls."""
    return [one for call in step.calls if call.name in ("init", "rest") for one in call.hypercalls]


def _parted(mine: list[Hypercall], theirs: list[Hypercall], names_a: Names, names_b: Names) -> tuple[str, str] | None:
    """In which way two rows of hypercalls differ; None if they do not."""
    runs_a, runs_b = _runs(mine), _runs(theirs)
    order_a, order_b = [name for name, _ in runs_a], [name for name, _ in runs_b]
    if order_a != order_b:
        more = Counter(order_a) - Counter(order_b), Counter(order_b) - Counter(order_a)
        if not more[0] and not more[1]:
            return f"makes {', '.join(order_a)}", f"makes {', '.join(order_b)}"
        return _more("makes", more[0]), _more("makes", more[1])
    for (name, count), (_, other) in zip(runs_a, runs_b, strict=True):
        if count != other:
            return (f"makes more {name}", "fewer") if count > other else (f"makes fewer {name}", "more")
    for one, another in zip(mine, theirs, strict=True):
        what = _field(one, another, names_a, names_b)
        if what is not None:
            return f"{one.name} {what[0]}", what[1]
    return None


def _runs(hypercalls: list[Hypercall]) -> list[tuple[str, int]]:
    return [(name, len(list(run))) for name, run in groupby(hypercalls, lambda one: one.name)]


def _field(one: Hypercall, another: Hypercall, names_a: Names, names_b: Names) -> tuple[str, str] | None:
    """The first input or answer in which two hypercalls of one name differ, the domain's id by what it stands for."""
    for (name, value), (_, other) in zip(one.fields, another.fields, strict=True):
        if name == "id":
            mine, theirs = names_a.of(value), names_b.of(other)
            if mine != theirs:
                return f"of {mine}", f"of {theirs}"
        elif value != other:
            return (f"with {name} {value:#x}", f"{other:#x}") if name == "map_flags" else (f"with this {name}", "another")
    if one.reps != another.reps or one.start != another.start:
        less = (one.reps or 0) - one.start < (another.reps or 0) - another.start
        return ("with fewer reps", "more") if less else ("with more reps", "fewer")
    if one.status != another.status:
        return f"answered {status_name(one.status)}", status_name(another.status)
    if one.done != another.done:
        return "with this many done", "another number"
    return None


__all__ = ["ANSWER", "ASPECTS", "CALLS", "HYPERCALLS", "Both", "Kind", "folded", "in_step", "pair"]
