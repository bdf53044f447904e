"""One device, one domain, a few pages, mappings of one or two pages, at most one fault a trace: what the caller holds and what the
hypervisor maps. There is no driver in it: each operation does at once what a driver should bring about.

``domains.pml`` is the same model, state for state, for SPIN.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

State = tuple[int, int, int, int, int]
"""The fields of :data:`FIELDS`; held and mapped are pages as bits."""

FIELDS = ("domain", "attached", "held", "mapped", "spent")
ABSENT, LIVE, FREED = range(3)
INITIAL: State = (ABSENT, 0, 0, 0, 0)
PAGES = 3
"""Pages of the scope that is measured: two addresses, one page apart, with mappings of one or two pages."""


def transitions(pages: int, broken: bool = False) -> Callable[[State], list[tuple[str, State]]]:
    """What may come next, as name and state. ``broken``: a refused unmap is answered as if all of it were gone."""
    ranges = [(start, count, (1 << count) - 1 << start) for start in range(pages) for count in (1, 2) if start + count <= pages]

    def follow(state: State) -> list[tuple[str, State]]:
        return list(_follow(state, ranges, broken))

    return follow


def _follow(state: State, ranges: list[tuple[int, int, int]], broken: bool) -> Iterator[tuple[str, State]]:
    domain, attached, held, mapped, spent = state
    if domain == ABSENT:
        yield "alloc", (LIVE, 0, 0, 0, spent)
        if not spent:
            yield "alloc, refused", (ABSENT, 0, 0, 0, 1)
    if domain != LIVE:
        return
    yield "detach" if attached else "attach", (LIVE, 1 - attached, held, mapped, spent)
    if not spent:
        yield "move, refused", (LIVE, attached, held, mapped, 1)
    for start, count, bits in ranges:
        if not held & bits:
            yield "map", (LIVE, attached, held | bits, mapped | bits, spent)
            if not spent:
                for _done in range(count):  # what was mapped before the refusal is taken back
                    yield "map, refused", (LIVE, attached, held, mapped, 1)
        else:
            yield "unmap", (LIVE, attached, held & ~bits, mapped & ~bits, spent)
            if not spent:
                for done in range(count):  # what is gone then, the caller is not told
                    left = mapped & ~(done << start)
                    yield "unmap, refused", (LIVE, attached, held & ~bits if broken else held, left, 1)
    if not attached:
        yield "free", (FREED, 0, 0, 0, spent)
        if not spent:
            yield "free, refused", (FREED, 0, 0, 0, 1)


def holds(state: dict[str, Any]) -> bool:
    """The property: the hypervisor maps nothing that the caller does not hold."""
    return not state["mapped"] & ~state["held"]


def protocol(checker: Any, pages: int, broken: bool = False) -> Any:
    """The model as a ``Protocol`` of the module minicheck."""
    return checker.Protocol(
        name="domains",
        candidate=False,
        fields=FIELDS,
        initial=INITIAL,
        transitions=transitions(pages, broken),
        invariants={"maps nothing that is not held": holds},
    )


__all__ = ["ABSENT", "FIELDS", "FREED", "INITIAL", "LIVE", "PAGES", "State", "holds", "protocol", "transitions"]
