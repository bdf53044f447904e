"""The address space of one domain as parallel lines, one for each view, as in the comments of the kernel's VMA tests.

A ruler cuts it where any view turns. A scale gives each cut a column, the same for all views, so that what lies in one column is
one address. It is not to scale: a page among gigabytes is still seen.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import log2

from hvmodel.traces.views import DomainView, Pages

HOLE, MAPPED, LIMBO = 1, 2, 4
"""What a view says of a piece, as bits: a piece that stands for several can be all of it."""

STALE, LOST, ELSEWHERE = "stale", "lost", "elsewhere"
NOT_IN_TREE, TREE_ONLY, TREE_ELSEWHERE = "not in the tree", "in the tree only", "elsewhere in the tree"

MEANINGS = {
    STALE: "still mapped; the caller was told that it is gone",
    LOST: "the caller holds it, the hypervisor does not map it",
    ELSEWHERE: "mapped to other memory than the caller was promised",
    NOT_IN_TREE: "mapped, and the driver's tree does not have it",
    TREE_ONLY: "in the driver's tree, and not mapped",
    TREE_ELSEWHERE: "the driver's tree has other memory for it",
}
"""The ways in which views part, worst first, and what each means."""

MAX_PIECES = 240
"""Pieces of one ruler; neighbours become one where there are more."""

SHARED_EDGES = 40
"""So many cuts can the rulers of one domain have together and still share a scale."""


@dataclass(frozen=True, slots=True)
class Piece:
    """Pages ``[start, end)`` in which no view turns. ``states`` and ``begins`` have an entry for each lane: what the view says, and
    whether a run begins here that touches the one before. ``parted`` are the ways in which the views differ here."""

    start: int
    end: int
    states: tuple[int, ...]
    begins: tuple[bool, ...]
    parted: frozenset[str]


@dataclass(frozen=True, slots=True)
class Ruler:
    """One domain at one moment. ``lanes`` names the views; the pieces have no gaps between them. ``merged`` is how many pieces
    there would be if neighbours had not been made one (0: none were)."""

    domain: str
    lanes: tuple[str, ...]
    pieces: tuple[Piece, ...]
    merged: int = 0

    @property
    def edges(self) -> tuple[int, ...]:
        """The cuts, in pages, ascending."""
        return (*(piece.start for piece in self.pieces), self.pieces[-1].end) if self.pieces else ()

    @property
    def parted(self) -> tuple[str, ...]:
        """The ways in which the views differ somewhere, worst first."""
        found = frozenset[str]().union(*(piece.parted for piece in self.pieces))
        return tuple(kind for kind in MEANINGS if kind in found)

    def pages(self, kind: str) -> int:
        """How many pages lie in pieces that differ in one way."""
        return sum(piece.end - piece.start for piece in self.pieces if kind in piece.parted)


def ruler_of(domain: DomainView) -> Ruler | None:
    """The ruler of a domain; None if nobody has a page. O(runs of all views)."""
    lanes = list(domain.pages)
    views = list(domain.pages.values())
    cuts = sorted({edge for pages in (*views, domain.limbo) for start, end, _frame in pages for edge in (start, end)})
    if not cuts:
        return None
    at = [_frames(pages, cuts) for pages in views]
    limbo = _frames(domain.limbo, cuts)
    pieces = []
    before: tuple[int | None, ...] = (None,) * len(lanes)
    for i, (start, end) in enumerate(pairwise(cuts)):
        frames = [lane[i] for lane in at]
        states = [MAPPED if frame is not None else HOLE for frame in frames]
        if limbo[i] is not None:
            states[0] = LIMBO
        begins = tuple(frame is not None and old is not None and frame != old for frame, old in zip(frames, before, strict=True))
        kind = _parting(dict(zip(lanes, frames, strict=True)), limbo[i])
        pieces.append(Piece(start, end, tuple(states), begins, frozenset({kind} if kind else ())))
        before = tuple(frame + end - start if frame is not None else None for frame in frames)
    merged = len(pieces) if len(pieces) > MAX_PIECES else 0
    return Ruler(domain.name, tuple(lanes), tuple(_merged(pieces) if merged else pieces), merged)


def _frames(pages: Pages, cuts: Sequence[int]) -> list[int | None]:
    """For each piece between cuts the frame of its first page, None in a hole."""
    found: list[int | None] = []
    runs = iter(pages)
    run = next(runs, None)
    for cut in cuts:
        while run is not None and run[1] <= cut:
            run = next(runs, None)
        found.append(run[2] + cut - run[0] if run is not None and run[0] <= cut else None)
    return found


def _parting(frames: dict[str, int | None], limbo: int | None) -> str:
    """How the views differ in a piece; empty if they do not."""
    caller, tree = frames["caller"], frames.get("driver")
    real = frames.get("hypervisor", caller)
    if limbo is not None:
        if "hypervisor" not in frames:
            return ""
        if real is not None and real != limbo:
            return ELSEWHERE
    elif caller != real:
        return STALE if caller is None else LOST if real is None else ELSEWHERE
    if "driver" not in frames or tree == real:
        return ""
    return NOT_IN_TREE if tree is None else TREE_ONLY if real is None else TREE_ELSEWHERE


def _merged(pieces: list[Piece]) -> Iterator[Piece]:
    """At most :data:`MAX_PIECES`, each of which says all that its parts say."""
    step = -(-len(pieces) // MAX_PIECES)
    for at in range(0, len(pieces), step):
        part = pieces[at : at + step]
        states = list(part[0].states)
        for piece in part[1:]:
            states = [old | new for old, new in zip(states, piece.states, strict=True)]
        parted = frozenset[str]().union(*(piece.parted for piece in part))
        yield Piece(part[0].start, part[-1].end, tuple(states), part[0].begins, parted)


# --- the scale ----------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Scale:
    """Which column each cut has. ``edges`` are pages, ``columns`` the column at which each is; with fewer columns than pieces
    some are in one. ``width`` is the number of columns, with a margin for what lies before and after."""

    edges: tuple[int, ...]
    columns: tuple[int, ...]
    width: int

    def columns_of(self, start: int, end: int) -> tuple[int, int]:
        """The columns ``[first, last)`` of the pages ``[start, end)``, which are cuts: one at least."""
        first = self.columns[bisect_left(self.edges, start)]
        return first, max(self.columns[bisect_left(self.edges, end)], first + 1)


def scale(edges: Sequence[int], mapped: Sequence[bool], width: int) -> Scale:
    """A scale of at most ``width`` columns. ``mapped`` says for each interval between edges whether any view has pages there. A
    larger interval gets more columns, but by its logarithm; each gets one as long as there are enough. Raises ValueError for a
    width below 1.
    """
    if width < 1:
        raise ValueError("a scale has one column at least")
    count = len(edges) - 1
    margins = min(2, max(width - count, 0) // 2)
    left, right = (margins if edges[0] > 0 else 0), (margins if edges[-1] < 1 << 52 else 0)
    room = width - left - right
    if count > room:
        return Scale(tuple(edges), tuple(left + i * room // count for i in range(count + 1)), width)
    wanted = [_wish(end - start, full) for (start, end), full in zip(pairwise(edges), mapped, strict=True)]
    widths = _shared_out(wanted, room)
    columns = [left]
    for one in widths:
        columns.append(columns[-1] + one)
    return Scale(tuple(edges), tuple(columns), columns[-1] + right)


def _wish(pages: int, mapped: bool) -> float:
    return 9 + 1.5 * log2(pages) if mapped else 6 + 0.5 * log2(pages)


def _shared_out(wanted: list[float], room: int) -> list[int]:
    """Whole columns, one at least each, as wished if there is room, else in proportion."""
    factor = min(1.0, room / sum(wanted))
    widths = [max(1, int(wish * factor)) for wish in wanted]
    for _ in range(sum(widths) - room):  # the ones of width 1 took more than their share
        widths[widths.index(max(widths))] -= 1
    return widths


def scales(rulers: Sequence[Ruler], width: int) -> list[Scale]:
    """A scale for each ruler. Those of one domain share one, so that a column is one address through the whole story, if they do
    not have too many cuts between them."""
    found: list[Scale | None] = [None] * len(rulers)
    for name in dict.fromkeys(ruler.domain for ruler in rulers):
        numbers = [i for i, ruler in enumerate(rulers) if ruler.domain == name]
        together = [rulers[i] for i in numbers]
        edges = sorted({edge for ruler in together for edge in ruler.edges})
        groups = [numbers] if len(edges) <= min(SHARED_EDGES, width) else [[i] for i in numbers]
        for group in groups:
            one = _common([rulers[i] for i in group], width)
            for i in group:
                found[i] = one
    return [one for one in found if one is not None]


def _common(rulers: Sequence[Ruler], width: int) -> Scale:
    edges = sorted({edge for ruler in rulers for edge in ruler.edges})
    full: set[int] = set()
    for ruler in rulers:
        busy = [(piece.start, piece.end) for piece in ruler.pieces if any(state != HOLE for state in piece.states)]
        spans = iter(busy)
        here = next(spans, None)
        for edge in edges:
            while here is not None and here[1] <= edge:
                here = next(spans, None)
            if here is not None and here[0] <= edge:
                full.add(edge)
    return scale(edges, [edge in full for edge in edges[:-1]], width)


__all__ = [
    "ELSEWHERE",
    "HOLE",
    "LIMBO",
    "LOST",
    "MAPPED",
    "MEANINGS",
    "NOT_IN_TREE",
    "STALE",
    "TREE_ELSEWHERE",
    "TREE_ONLY",
    "Piece",
    "Ruler",
    "Scale",
    "ruler_of",
    "scale",
    "scales",
]
