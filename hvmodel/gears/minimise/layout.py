"""Plainer address spaces: all ranges of a trace moved and compressed together, so that what lies where in relation to what stays.

The ranges' ends, sorted, are the points of the layout. A layout is changed by changing the distance between two neighbouring
points; everything beyond moves along.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any

from hvmodel import operations as ops
from hvmodel.gears.minimise.trial import Case, Hit, Trials
from hvmodel.gears.minimise.weight import FIRST, FRAME, SECOND

PAGE = 0x1000
MIB_PAGES = FIRST // PAGE
LADDER = (0, 1, 2, 3, 4, 16, 255, 256, 257, 384, 507, 508, 512, 4096, 65536)
"""Numbers at which something turns: what is tried first in place of a larger number."""


def points(operations: Sequence[ops.Operation]) -> list[int]:
    """The first pages and the end pages of all ranges, sorted."""
    found: set[int] = set()
    for operation in operations:
        iova = getattr(operation, "iova", None)
        if iova is not None:
            found.add(iova >> 12)
            if isinstance(operation, ops.RANGES):
                found.add((iova >> 12) + operation.pages)
            elif isinstance(operation, ops.MapScattered):
                found.add((iova >> 12) + operation.runs * operation.run_pages)
    return sorted(found)


def moved(operations: Sequence[ops.Operation], to: Callable[[int], int]) -> tuple[ops.Operation, ...] | None:
    """The operations with each point where ``to`` puts it; None if a range would vanish or scattered memory would not fit."""
    result = []
    for operation in operations:
        iova = getattr(operation, "iova", None)
        if iova is None:
            result.append(operation)
            continue
        page = iova >> 12
        changes: dict[str, Any] = {"iova": (to(page) << 12) + (iova & 0xFFF)}
        if isinstance(operation, ops.RANGES):
            changes["pages"] = to(page + operation.pages) - to(page)
            if changes["pages"] < 1 <= operation.pages:
                return None
        elif isinstance(operation, ops.MapScattered):
            size = operation.runs * operation.run_pages
            if to(page + size) - to(page) != size:
                return None
        if changes["iova"] < 0 or changes["iova"] >> 64:
            return None
        result.append(operation if changes["iova"] == iova and "pages" not in changes else replace(operation, **changes))
    return tuple(result)


def _at(marks: list[int], gaps: Sequence[int], base: int) -> Callable[[int], int]:
    """The layout that begins at page ``base`` and has these distances between its points."""
    where, at = {}, base
    for mark, gap in zip(marks, (*gaps, 0), strict=True):
        where[mark] = at
        at += gap
    return where.__getitem__


def laid_out(
    operations: Sequence[ops.Operation], marks: list[int], gaps: Sequence[int], base: int
) -> tuple[ops.Operation, ...] | None:
    """The operations with their points ``marks`` at these distances from page ``base`` on; None where :func:`moved` gives None."""
    return moved(operations, _at(marks, gaps, base))


def gaps_of(marks: list[int]) -> list[int]:
    """The distances between neighbouring points."""
    return [after - before for before, after in pairwise(marks)]


def plainest(case: Case) -> Iterator[Case]:
    """Everything at its plainest at once: distances of one page, or only those that are small anyway; usual frames, words."""
    marks = points(case.operations)
    if not marks:
        return
    gaps = gaps_of(marks)
    for smaller in ([1] * len(gaps), [1 if gap < 255 else gap for gap in gaps]):
        operations = laid_out(case.operations, marks, smaller, MIB_PAGES)
        if operations is not None:
            yield Case(case.config, tuple(map(_plain_words, operations)))
            yield Case(case.config, operations)


def _plain_words(operation: ops.Operation) -> ops.Operation:
    if isinstance(operation, ops.Map):
        return replace(operation, paddr=FRAME, prot="rw", gfp="kernel")
    if isinstance(operation, ops.MapScattered | ops.VfioMap | ops.IoasMap | ops.DmaMap):
        return replace(operation, paddr=FRAME)
    return operation


def shifted(case: Case) -> Iterator[Case]:
    """The whole layout at a plainer place."""
    marks = points(case.operations)
    if marks:
        gaps = gaps_of(marks)
        places = [FIRST // PAGE, SECOND // PAGE, 0, MIB_PAGES + marks[0] % MIB_PAGES, MIB_PAGES - gaps[0] if gaps else 0]
        for base in dict.fromkeys(places):
            operations = laid_out(case.operations, marks, gaps, base) if base >= 0 and base != marks[0] else None
            if operations is not None:
                yield Case(case.config, operations)


def smaller_number(trials: Trials, best: Hit, value: int, least: int, make: Callable[[Case, int], Case | None]) -> Hit:
    """The best with a number in it as small as it gets: the numbers of :data:`LADDER` from ``least`` on, then one less, and if that
    fails as well, by halving the distance to the largest number that does not. ``make`` puts a number into the case as it is
    now."""
    start = best.case

    def attempt(number: int) -> Hit | None:
        case = make(start, number)
        return None if case is None else trials.first(best, (case,))

    tried = least - 1
    for number in LADDER:
        if least <= number < value:
            hit = attempt(number)
            if hit is not None:
                best, value = hit, number
                break
            tried = number
    if value - tried <= 1 or trials.left <= 0:
        return best
    hit = attempt(value - 1)
    if hit is None:
        return best
    best, value = hit, value - 1
    while value - tried > 1:
        middle = (tried + value) // 2
        hit = attempt(middle)
        if hit is None:
            tried = middle
        else:
            best, value = hit, middle
    return best


def smaller_gaps(trials: Trials, best: Hit) -> Hit:
    """Each distance between two points as small as it gets, with what is beyond moving along; and in a layout whose place matters
    once more with what is before it moving along, so that its end stays."""
    best = _all_gaps(trials, best, False)
    marks = points(best.case.operations)
    return best if not marks or marks[0] in (MIB_PAGES, 2 * MIB_PAGES, 0) else _all_gaps(trials, best, True)


def _all_gaps(trials: Trials, best: Hit, end_stays: bool) -> Hit:
    for place in range(len(points(best.case.operations)) - 1):
        marks = points(best.case.operations)
        if place >= len(marks) - 1:
            break
        gaps, start = gaps_of(marks), best.case

        def make(
            _case: Case, number: int, marks: list[int] = marks, gaps: list[int] = gaps, start: Case = start, place: int = place
        ) -> Case | None:
            base = marks[0] + (gaps[place] - number if end_stays else 0)
            changed = laid_out(start.operations, marks, [*gaps[:place], number, *gaps[place + 1 :]], base)
            return None if changed is None else Case(start.config, changed)

        best = smaller_number(trials, best, gaps[place], 0, make)
    return best


__all__ = ["LADDER", "gaps_of", "laid_out", "moved", "plainest", "points", "shifted", "smaller_gaps", "smaller_number"]
