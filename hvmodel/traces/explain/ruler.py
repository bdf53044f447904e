"""The address space of one domain as parallel lines, one for each view, as in the comments of the kernel's VMA tests.

A ruler cuts it where any view turns. A scale gives each cut a column, the same for all views, so that what lies in one column is
one address. It is not to scale: a page among gigabytes is still seen.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby, pairwise
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
    NOT_IN_TREE: "the others have it, the driver's tree does not",
    TREE_ONLY: "the driver's tree has it, the others do not",
    TREE_ELSEWHERE: "the driver's tree has other memory for it",
}
"""The ways in which views part, worst first, and what each means."""

MAX_PIECES = 240
"""Pieces that a ruler keeps; neighbours become one where there are more."""

NEAR = 2
"""So many pieces beside one in which views part stay as they are as long as there is room."""

EMPTY = 24
"""Columns of a scale that has nothing to show."""

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
    """One domain at one moment. ``lanes`` names the views; the pieces have no gaps between them. ``parted`` are the ways in which
    views differ, worst first, each with its pages. ``merged`` is how many pieces there would be if neighbours had not become one
    (0: none did)."""

    domain: str
    lanes: tuple[str, ...]
    pieces: tuple[Piece, ...]
    parted: tuple[tuple[str, int], ...] = ()
    merged: int = 0

    @property
    def edges(self) -> tuple[int, ...]:
        """The cuts, in pages, ascending."""
        return (*(piece.start for piece in self.pieces), self.pieces[-1].end) if self.pieces else ()


def ruler_of(domain: DomainView) -> Ruler:
    """The ruler of a domain, without pieces if nobody has a page. O(runs of all views)."""
    lanes = list(domain.pages)
    views = list(domain.pages.values())
    cuts = sorted({edge for pages in (*views, domain.limbo) for start, end, _frame in pages for edge in (start, end)})
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
    pages: Counter[str] = Counter()
    for piece in pieces:
        pages.update(dict.fromkeys(piece.parted, piece.end - piece.start))
    parted = tuple((kind, pages[kind]) for kind in MEANINGS if kind in pages)
    return fit(Ruler(domain.name, tuple(lanes), tuple(pieces), parted), MAX_PIECES)


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


# --- fewer pieces -------------------------------------------------------------------------------------------------------------


def fit(ruler: Ruler, most: int) -> Ruler:
    """The ruler with at most ``most`` pieces (1 at least): neighbours become one piece that says all that they say, those far from
    where views part first. Which pages are said to differ stays exact as long as there is room."""
    pieces = ruler.pieces
    if len(pieces) <= max(most, 1):
        return ruler
    near = _near(pieces)
    groupings = (
        lambda i: (i, True) if i in near else (0, False),
        lambda i: (pieces[i].parted, bool(pieces[i].parted)),
        lambda i: (0, False),
    )
    for group_of in groupings:
        groups = [[pieces[i] for i in group] for _, group in groupby(range(len(pieces)), group_of)]
        if len(groups) <= max(most, 1):
            break
    merged = tuple(piece for part in _shares(groups, max(most, 1)) for piece in part)
    return replace(ruler, pieces=merged, merged=ruler.merged or len(pieces))


def _near(pieces: Sequence[Piece]) -> set[int]:
    """The numbers of the pieces in which views part and of those beside them."""
    return {i + d for i, piece in enumerate(pieces) if piece.parted for d in range(-NEAR, NEAR + 1)}


def _shares(groups: list[list[Piece]], most: int) -> Iterator[Iterator[Piece]]:
    """Each group in one piece or more, ``most`` at most in all; the long ones get what is over."""
    over, left = most - len(groups), sum(len(group) - 1 for group in groups)
    for group in groups:
        extra = over * (len(group) - 1) // left if left else 0
        over, left = over - extra, left - (len(group) - 1)
        yield _chunks(group, 1 + extra)


def _chunks(pieces: list[Piece], count: int) -> Iterator[Piece]:
    count = min(count, len(pieces))
    for number in range(count):
        part = pieces[number * len(pieces) // count : (number + 1) * len(pieces) // count]
        states = list(part[0].states)
        for piece in part[1:]:
            states = [old | new for old, new in zip(states, piece.states, strict=True)]
        parted = frozenset[str]().union(*(piece.parted for piece in part))
        yield Piece(part[0].start, part[-1].end, tuple(states), part[0].begins, parted)


# --- the scale ----------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Scale:
    """Which column each cut has: ``columns`` in the order of ``edges``, which are pages; no two share one. ``width`` is the number
    of columns, with a margin for what lies before and after."""

    edges: tuple[int, ...]
    columns: tuple[int, ...]
    width: int

    def columns_of(self, start: int, end: int) -> tuple[int, int]:
        """The columns ``[first, last)`` of the pages ``[start, end)``, both of which are cuts."""
        return self.columns[bisect_left(self.edges, start)], self.columns[bisect_left(self.edges, end)]


def scale(edges: Sequence[int], wishes: Sequence[float], width: int) -> Scale:
    """A scale of at most ``width`` columns. ``wishes`` says for each interval between edges how many columns it would like; each
    gets one at least. Raises ValueError if there are more intervals than columns."""
    if not edges:
        return Scale((), (), min(width, EMPTY))
    count = len(edges) - 1
    margin = min(2, max(width - count, 0) // 2)
    left, right = (margin if edges[0] > 0 else 0), (margin if edges[-1] < 1 << 52 else 0)
    if count > width - left - right:
        raise ValueError(f"{count} intervals do not fit into {width} columns")
    columns = [left]
    for one in _shared_out(wishes, width - left - right):
        columns.append(columns[-1] + one)
    return Scale(tuple(edges), tuple(columns), columns[-1] + right)


def _shared_out(wishes: Sequence[float], room: int) -> list[int]:
    """Whole columns, one at least each, as wished if there is room, else in proportion."""
    factor = min(1.0, room / sum(wishes))
    widths = [max(1, int(wish * factor)) for wish in wishes]
    for _ in range(sum(widths) - room):  # the ones of width 1 took more than their share
        widths[widths.index(max(widths))] -= 1
    return widths


def fitted(rulers: Sequence[Ruler], width: int) -> list[tuple[Ruler, Scale]]:
    """Each ruler with no more pieces than ``width`` columns can show, and its scale. Those of one domain share one, so that a
    column is one address through the whole story, if they do not have too many cuts between them."""
    shown = [_fit(ruler, width) for ruler in rulers]
    found: list[Scale | None] = [None] * len(rulers)
    for name in dict.fromkeys(ruler.domain for ruler in rulers):
        numbers = [i for i, ruler in enumerate(shown) if ruler.domain == name]
        edges = {edge for i in numbers for edge in shown[i].edges}
        for group in [numbers] if len(edges) <= min(SHARED_EDGES, width) else [[i] for i in numbers]:
            one = _common([shown[i] for i in group], width)
            for i in group:
                found[i] = one
    return [(ruler, one) for ruler, one in zip(shown, found, strict=True) if one is not None]


def _fit(ruler: Ruler, width: int) -> Ruler:
    """Where pieces have to become one, enough of them do for those in which views part to be wide."""
    return fit(ruler, width // 2 if ruler.parted and len(ruler.pieces) > width else width)


def _common(rulers: Sequence[Ruler], width: int) -> Scale:
    edges = sorted({edge for ruler in rulers for edge in ruler.edges})
    crowded = any(ruler.merged for ruler in rulers)
    wishes = dict.fromkeys(edges[:-1], 0.0)
    for ruler in rulers:
        marked = _near(ruler.pieces)
        for number, piece in enumerate(ruler.pieces):
            for at in range(bisect_left(edges, piece.start), bisect_left(edges, piece.end)):
                wish = 1.0 if crowded and number not in marked else _wish(piece, edges[at + 1] - edges[at])
                wishes[edges[at]] = max(wishes[edges[at]], wish)
    return scale(
        edges,
        [wish or _wish(None, end - start) for (start, end), wish in zip(pairwise(edges), wishes.values(), strict=True)],
        width,
    )


def _wish(piece: Piece | None, pages: int) -> float:
    """Columns that an interval would like: more if anything is mapped there, more if it is larger, but by its logarithm."""
    empty = piece is None or all(state == HOLE for state in piece.states)
    return 6 + 0.5 * log2(pages) if empty else 9 + 1.5 * log2(pages)


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
    "fit",
    "fitted",
    "ruler_of",
    "scale",
]
