"""A ruler as lines of text: one for each view, carets where they part, the addresses of the cuts below."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from hvmodel.traces.explain.plain import span
from hvmodel.traces.explain.ruler import (
    ELSEWHERE,
    HOLE,
    LIMBO,
    LOST,
    MAPPED,
    MEANINGS,
    NOT_IN_TREE,
    STALE,
    TREE_ELSEWHERE,
    TREE_ONLY,
    Ruler,
    Scale,
)

WRONG = {"hypervisor": (STALE, LOST, ELSEWHERE), "driver": (NOT_IN_TREE, TREE_ONLY, TREE_ELSEWHERE)}
"""Which view is to blame in which way of parting."""

GUTTER = 12
"""Columns for the names of the views."""

LABEL_LINES = 3
"""Lines of addresses under a ruler; what does not fit there is not labelled."""

DENSE = 3
"""Cuts without an address get no tick where more than one column in so many would have one."""


@dataclass(frozen=True, slots=True)
class Glyphs:
    """What a piece looks like by what the view says, and a run that touches the one before where it begins."""

    hole: str
    mapped: str
    limbo: str
    several: str
    begin: str
    tick: str


UNICODE = Glyphs(hole="·", mapped="█", limbo="░", several="▒", begin="▐", tick="│")
ASCII = Glyphs(hole=".", mapped="#", limbo="?", several="%", begin="|", tick="|")


@dataclass(frozen=True, slots=True)
class Line:
    """One line: ``role`` is lane, mark, tick or label; ``hot`` are the columns ``[first, last)`` in which views part."""

    text: str
    role: str
    hot: tuple[tuple[int, int], ...] = ()


def gutter_of(width: int) -> int:
    """How many columns of a width are for the names of the views."""
    return GUTTER if width >= 3 * GUTTER else 2 if width > 3 else 0


def draw(ruler: Ruler, scale: Scale, width: int, glyphs: Glyphs = UNICODE) -> list[Line]:
    """The lines of a ruler, none wider than ``width``; the scale was made for ``width`` less ``gutter_of(width)`` columns."""
    gutter = gutter_of(width)
    lines = []
    for number, name in enumerate(ruler.lanes):
        text = name.ljust(gutter) if gutter == GUTTER else name[:1].ljust(gutter)
        lines.append(Line(text[:gutter] + _lane(ruler, scale, number, glyphs), "lane", _hot(ruler, scale, name, gutter)))
    for kind, pages in ruler.parted:
        lines += _marks(ruler, scale, kind, pages, gutter, width)
    lines += _addresses(ruler, scale, gutter, width, glyphs)
    return lines


def _hot(ruler: Ruler, scale: Scale, lane: str, gutter: int) -> tuple[tuple[int, int], ...]:
    """Where the lane is the one that is not as it should be."""
    found = []
    for piece in ruler.pieces:
        if any(kind in piece.parted for kind in WRONG.get(lane, ())):
            first, last = scale.columns_of(piece.start, piece.end)
            found.append((gutter + first, gutter + last))
    return tuple(found)


def _lane(ruler: Ruler, scale: Scale, number: int, glyphs: Glyphs) -> str:
    cells = [glyphs.hole] * scale.width
    for piece in ruler.pieces:
        first, last = scale.columns_of(piece.start, piece.end)
        state = piece.states[number]
        looks = {HOLE: glyphs.hole, MAPPED: glyphs.mapped, LIMBO: glyphs.limbo}
        cells[first:last] = looks.get(state, glyphs.several) * (last - first)
        if piece.begins[number] and state == MAPPED:
            cells[first] = glyphs.begin
    return "".join(cells)


def _marks(ruler: Ruler, scale: Scale, kind: str, pages: int, gutter: int, width: int) -> Iterator[Line]:
    """Carets below what differs in one way, and the word for it where there is room: behind, in front, or on a line of its own."""
    cells = [" "] * scale.width
    for piece in ruler.pieces:
        if kind in piece.parted:
            first, last = scale.columns_of(piece.start, piece.end)
            cells[first:last] = "^" * (last - first)
    carets = "".join(cells).rstrip()
    short = f"{kind}: {span(pages)}"
    long = f"{short} {MEANINGS[kind]}"
    start = len(carets) - len(carets.lstrip())
    for words in (long, short, kind):
        if gutter + len(carets) + 1 + len(words) <= width:
            yield Line(" " * gutter + f"{carets} {words}", "mark")
            return
        if len(words) < start:
            yield Line(" " * gutter + words.rjust(start - 1) + " " + carets[start:], "mark")
            return
    yield Line(" " * gutter + carets, "mark")
    words = next((words for words in (long, short) if gutter + len(words) <= width), kind)
    yield Line((" " * gutter + words)[:width], "mark")


def _addresses(ruler: Ruler, scale: Scale, gutter: int, width: int, glyphs: Glyphs) -> Iterator[Line]:
    """A tick at each cut of this ruler, and the addresses of as many as find room, those where views part first."""
    if not ruler.pieces:
        return
    at = dict(zip(scale.edges, scale.columns, strict=True))
    last = min(scale.width, width - gutter - 1)  # the last cut lies behind the last column, if there is room
    columns = [min(at[edge], last) for edge in ruler.edges]
    labels = place(
        [(column, address(edge)) for edge, column in zip(ruler.edges, columns, strict=True)], order(ruler), width - gutter
    )
    dense = len(set(columns)) > scale.width // DENSE
    ticks = [" "] * (last + 1)
    for column in (label.column for label in labels) if dense else columns:
        ticks[column] = glyphs.tick
    yield Line(" " * gutter + "".join(ticks).rstrip(), "tick")
    rows: list[list[str]] = []
    for label in labels:
        while len(rows) <= label.row:
            rows.append([" "] * (width - gutter))
        rows[label.row][label.start : label.start + len(label.text)] = label.text
        for row in rows[: label.row]:
            row[label.column] = glyphs.tick
    for row in rows:
        yield Line(" " * gutter + "".join(row).rstrip(), "label")


def order(ruler: Ruler) -> list[int]:
    """The numbers of a ruler's cuts, the ones to label first at the front: where views part, the ends, the others."""
    edges = len(ruler.edges)
    parted = {i for i, piece in enumerate(ruler.pieces) if piece.parted}
    turns = sorted({i for i in parted if i - 1 not in parted} | {i + 1 for i in parted if i + 1 not in parted})
    return list(dict.fromkeys((*turns, *range(edges)[:1], *range(edges)[-1:], *range(edges))))


@dataclass(frozen=True, slots=True)
class Label:
    """A text below the column that it belongs to. ``start`` is its own first column; a line joins the two through the rows
    above."""

    text: str
    column: int
    row: int
    start: int


def place(labels: Sequence[tuple[int, str]], priority: Sequence[int], width: int) -> list[Label]:
    """Labels (column, text) in at most :data:`LABEL_LINES` rows of ``width`` columns, without overlap; what finds no room is
    left out."""
    rows: list[list[bool]] = [[False] * width for _ in range(LABEL_LINES)]
    found: list[Label] = []
    taken: set[int] = set()
    for number in priority:
        column, text = labels[number]
        start = column if column + len(text) <= width else max(column - len(text) + 1, 0)
        end = start + len(text)
        if column in taken or end > width:
            continue
        for depth, row in enumerate(rows):
            if not any(row[max(start - 1, 0) : end + 1]) and not any(above[column] for above in rows[:depth]):
                row[start:end] = [True] * len(text)
                for above in rows[:depth]:
                    above[column] = True
                taken.add(column)
                found.append(Label(text, column, depth, start))
                break
    return found


def address(page: int) -> str:
    """Where a page begins, in bytes."""
    return "2^64" if page == 1 << 52 else hex(page << 12)


__all__ = ["ASCII", "UNICODE", "WRONG", "Glyphs", "Label", "Line", "address", "draw", "gutter_of", "order", "place"]
