"""A ruler as SVG that keeps the size of its letters whatever the width: places along the line are in percent of it."""

from __future__ import annotations

from collections.abc import Iterator
from html import escape
from itertools import groupby

from hvmodel.traces.explain.plain import span
from hvmodel.traces.explain.ruler import HOLE, LIMBO, MAPPED, Piece, Ruler, Scale
from hvmodel.traces.explain.ruler_text import WRONG, address, order, place

COLUMNS = 120
"""Columns of the scale of a drawing."""

LETTERS = {"narrow": 34, "wide": 90}
"""Letters of an address line that fit on a telephone and on a screen or a sheet; the style of the page shows one of the two."""

LANE, ROW = 24, 19
"""Pixels from one lane to the next, and from one line of text to the next."""


def svg(ruler: Ruler, scale: Scale) -> str:
    """The drawing; its style is that of the page."""
    return "".join(_svg(ruler, scale))


def _svg(ruler: Ruler, scale: Scale) -> Iterator[str]:
    labels = {name: _labels(ruler, scale, letters) for name, letters in LETTERS.items()}
    lanes = len(ruler.lanes) * LANE
    marks = lanes + len(ruler.parted) * ROW
    height = marks + 12 + (max((row for some in labels.values() for _, _, row, _ in some), default=0) + 1) * ROW
    yield f'<svg class="ruler" role="img" aria-label="{escape(_words(ruler))}" width="100%" height="{height}">'
    for number, lane in enumerate(ruler.lanes):
        y = number * LANE
        yield f'<text x="-6" y="{y + 14}" text-anchor="end">{escape(lane)}</text>'
        yield f'<line class="hole" x1="0%" x2="100%" y1="{y + 10}" y2="{y + 10}"/>'
        yield from _lane(ruler, scale, number, y)
    for number, (kind, pages) in enumerate(ruler.parted):
        yield from _mark(ruler, scale, kind, pages, lanes + number * ROW)
    for name, some in labels.items():
        yield f'<g class="{name}">'
        for column, text, row, end in some:
            x = _percent(column, scale)
            yield f'<line class="tick" x1="{x}" x2="{x}" y1="{marks}" y2="{marks + 6 + row * ROW}"/>'
            anchor = ' text-anchor="end"' if end else ""
            yield f'<text class="at" x="{x}" y="{marks + 18 + row * ROW}"{anchor}>{escape(text)}</text>'
        yield "</g>"
    yield "</svg>"


def _words(ruler: Ruler) -> str:
    said = [f"{kind}: {span(pages)}" for kind, pages in ruler.parted]
    return f"{ruler.domain}, {', '.join(ruler.lanes)}: {'; '.join(said) or 'all agree'}"


def _percent(column: int, scale: Scale) -> str:
    return f"{100 * min(column, scale.width) / scale.width:.2f}%"


def _lane(ruler: Ruler, scale: Scale, number: int, y: int) -> Iterator[str]:
    wrong = WRONG.get(ruler.lanes[number], ())

    def look(piece: Piece) -> str:
        kind = {HOLE: "", MAPPED: "held", LIMBO: "limbo"}.get(piece.states[number], "several")
        return f"{kind} wrong".strip() if any(one in piece.parted for one in wrong) else kind

    for name, group in groupby(ruler.pieces, look):
        pieces = list(group)
        if not name:
            continue
        first, last = scale.columns_of(pieces[0].start, pieces[0].end)[0], scale.columns_of(pieces[-1].start, pieces[-1].end)[1]
        x, width = _percent(first, scale), _percent(last - first, scale)
        kind = name if name != "wrong" else "missing wrong"
        yield f'<rect class="{kind}" x="{x}" width="{width}" y="{y + 3}" height="14"/>'
        for piece in pieces:
            if piece.begins[number]:
                at = _percent(scale.columns_of(piece.start, piece.end)[0], scale)
                yield f'<line class="cut" x1="{at}" x2="{at}" y1="{y + 3}" y2="{y + 17}"/>'


def _mark(ruler: Ruler, scale: Scale, kind: str, pages: int, y: int) -> Iterator[str]:
    """A line below all that differs in one way, and the word for it on the side where there is more room."""
    first, last = scale.width, 0
    for parted, group in groupby(ruler.pieces, lambda piece: kind in piece.parted):
        pieces = list(group)
        if parted:
            start, end = scale.columns_of(pieces[0].start, pieces[0].end)[0], scale.columns_of(pieces[-1].start, pieces[-1].end)[1]
            first, last = min(first, start), max(last, end)
            yield f'<line class="mark" x1="{_percent(start, scale)}" x2="{_percent(end, scale)}" y1="{y + 2}" y2="{y + 2}"/>'
    left = first <= scale.width - last
    x, anchor = (_percent(first, scale), "start") if left else (_percent(last, scale), "end")
    words = escape(f"{kind}: {span(pages)}")
    yield f'<text class="wrong" x="{x}" y="{y + 16}" text-anchor="{anchor}">{words}</text>'


def _labels(ruler: Ruler, scale: Scale, letters: int) -> list[tuple[int, str, int, bool]]:
    """Column, address, row and whether the text ends at its column, where a line has so many letters."""
    at = dict(zip(scale.edges, scale.columns, strict=True))
    columns = [min(at[edge], scale.width) for edge in ruler.edges]
    coarse = [min(column * letters // scale.width, letters - 1) for column in columns]
    texts = [address(edge) for edge in ruler.edges]
    found = []
    for label in place(list(zip(coarse, texts, strict=True)), order(ruler), letters):
        column = next(columns[i] for i, text in enumerate(texts) if text == label.text)
        found.append((column, label.text, label.row, label.start < label.column))
    return found


__all__ = ["COLUMNS", "svg"]
