"""The rulers of an explanation: what is drawn is what the views say, page by page, at any width."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

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
    fit,
    fitted,
    ruler_of,
    scale,
)
from hvmodel.traces.explain.ruler_svg import COLUMNS, svg
from hvmodel.traces.explain.ruler_text import ASCII, GUTTER, UNICODE, Glyphs, draw, gutter_of
from hvmodel.traces.views import DomainView, Pages

PAGE_END = 1 << 52
FEW = settings(max_examples=50, deadline=None)


@st.composite
def pages(draw_one: st.DrawFn, most: int = 6) -> Pages:
    """Runs as a view has them: ascending, apart, and joined where they continue each other."""
    places = st.one_of(st.integers(0, 40), st.integers(0, PAGE_END - 1), st.integers(PAGE_END - 8, PAGE_END))
    cuts = sorted(draw_one(st.sets(places, max_size=2 * most)))
    runs: list[tuple[int, int, int]] = []
    for start, end in pairwise(cuts):
        if draw_one(st.booleans()):
            frame = draw_one(st.sampled_from((0, start, start + 1, 7)))
            if runs and runs[-1][1] == start and runs[-1][2] + start - runs[-1][0] == frame:
                runs[-1] = (runs[-1][0], end, runs[-1][2])
            else:
                runs.append((start, end, frame))
    return tuple(runs)


def domain(caller: Pages = (), driver: Pages | None = (), hypervisor: Pages | None = (), limbo: Pages = ()) -> DomainView:
    """A domain with these views of its pages."""
    return DomainView("domain 1", 1, "device", 1, caller, limbo, driver, hypervisor, 0, 0)


@st.composite
def domains(draw_one: st.DrawFn) -> DomainView:
    """Any domain; its views often agree, and limbo pages are none that the caller has."""
    caller = draw_one(pages())
    views = [draw_one(st.one_of(st.just(caller), pages())) for _ in range(2)]
    limbo = tuple(run for run in draw_one(pages(2)) if all(run[1] <= start or run[0] >= end for start, end, _ in caller))
    return domain(
        caller, draw_one(st.one_of(st.none(), st.just(views[0]))), draw_one(st.one_of(st.none(), st.just(views[1]))), limbo
    )


def frame_at(runs: Pages, page: int) -> int | None:
    """The frame of a page, or None in a hole."""
    return next((frame + page - start for start, end, frame in runs if start <= page < end), None)


def lanes(ruler: Ruler, one: Scale, width: int, glyphs: Glyphs = UNICODE) -> list[str]:
    """The lanes of a drawing without the names in front."""
    return [line.text[gutter_of(width) :] for line in draw(ruler, one, width, glyphs) if line.role == "lane"]


def probes(view: DomainView) -> list[int]:
    """Pages at which something can be wrong: the first and last of every run, and those beside them."""
    runs = [run for runs in (*view.pages.values(), view.limbo) for run in runs]
    return sorted({page for start, end, _ in runs for page in (start - 1, start, end - 1, end) if 0 <= page < PAGE_END})


# --- what is drawn --------------------------------------------------------------------------------------------------------


@given(domains(), st.integers(40, 150))
@FEW
def test_a_column_says_what_its_pages_are(view: DomainView, width: int) -> None:
    """Protects the picture itself: at each turn of each view, and beside it, the glyph in the page's column is that page's state in
    that view, and the column is the same for all views."""
    ((ruler, one),) = fitted([ruler_of(view)], width - gutter_of(width))
    if not ruler.pieces or ruler.merged:
        return
    drawn = lanes(ruler, one, width)
    assert len({len(lane) for lane in drawn}) == 1
    for page in probes(view):
        if not ruler.edges[0] <= page < ruler.edges[-1]:
            continue
        piece = next(piece for piece in ruler.pieces if piece.start <= page < piece.end)
        first, last = one.columns_of(piece.start, piece.end)
        for name, lane in zip(ruler.lanes, drawn, strict=True):
            wanted = UNICODE.mapped + UNICODE.begin if frame_at(view.pages[name], page) is not None else UNICODE.hole
            if name == "caller" and frame_at(view.limbo, page) is not None:
                wanted = UNICODE.limbo
            assert set(lane[first:last]) <= set(wanted), (page, name, lane)


@given(domains(), st.integers(1, 150))
@FEW
def test_every_mapped_page_is_visible_at_any_width(view: DomainView, width: int) -> None:
    """Protects against a picture in which a mapping is lost because there is no room: no column of a mapped page is drawn as a
    hole."""
    ((ruler, one),) = fitted([ruler_of(view)], max(width - gutter_of(width), 1))
    drawn = lanes(ruler, one, width)
    for name, lane in zip(ruler.lanes, drawn, strict=True):
        for start, end, _ in view.pages[name]:
            for page in (start, end - 1):
                piece = next(piece for piece in ruler.pieces if piece.start <= page < piece.end)
                first, last = one.columns_of(piece.start, piece.end)
                assert UNICODE.hole not in lane[first:last]


@given(st.lists(domains(), min_size=1, max_size=4), st.integers(4, 160), st.sampled_from((UNICODE, ASCII)))
@FEW
def test_nothing_is_wider_than_asked(views: list[DomainView], width: int, glyphs: Glyphs) -> None:
    """Protects the terminal: no line of any drawing is longer than the width; ASCII is ASCII."""
    for ruler, one in fitted([ruler_of(view) for view in views], width - gutter_of(width)):
        for line in draw(ruler, one, width, glyphs):
            assert len(line.text) <= width, line
            assert line.text.isascii() or glyphs is UNICODE


def expected_kind(view: DomainView, page: int) -> str:
    """How the views differ at a page, written down a second time."""
    caller, limbo = frame_at(view.caller, page), frame_at(view.limbo, page)
    if view.hypervisor is None:
        if limbo is not None or view.driver is None:
            return ""
        real = caller
    else:
        real = frame_at(view.hypervisor, page)
        if limbo is not None and real not in (None, limbo):
            return ELSEWHERE
        if limbo is None and caller is None and real is not None:
            return STALE
        if limbo is None and caller is not None and real is None:
            return LOST
        if limbo is None and caller != real:
            return ELSEWHERE
    if view.driver is None or frame_at(view.driver, page) == real:
        return ""
    if real is None:
        return TREE_ONLY
    return NOT_IN_TREE if frame_at(view.driver, page) is None else TREE_ELSEWHERE


@given(domains())
@FEW
def test_what_differs_is_marked_and_nothing_else(view: DomainView) -> None:
    """Protects the marks: a page is under a mark of one kind if and only if the views differ there in that way; and the number of
    pages that a mark names is exact."""
    ruler = ruler_of(view)
    for page in probes(view):
        piece = next((piece for piece in ruler.pieces if piece.start <= page < piece.end), None)
        wanted = expected_kind(view, page)
        assert (piece.parted if piece else frozenset()) == frozenset({wanted} - {""})
    counted = dict.fromkeys(MEANINGS, 0)
    for piece in ruler.pieces:
        if expected_kind(view, piece.start):
            counted[expected_kind(view, piece.start)] += piece.end - piece.start
    assert dict(ruler.parted) == {kind: count for kind, count in counted.items() if count}


@pytest.mark.parametrize(
    ("kind", "view"),
    [
        (STALE, domain(hypervisor=((16, 20, 99),))),
        (LOST, domain(((16, 20, 99),), ((16, 20, 99),))),
        (ELSEWHERE, domain(((16, 20, 99),), ((16, 20, 99),), ((16, 20, 50),))),
        (NOT_IN_TREE, domain(((16, 20, 99),), (), ((16, 20, 99),))),
        (TREE_ONLY, domain((), ((16, 20, 99),), ())),
        (TREE_ELSEWHERE, domain(((16, 20, 99),), ((16, 20, 98),), ((16, 20, 99),))),
    ],
)
def test_each_way_of_parting_has_its_word(kind: str, view: DomainView) -> None:
    """Protects the words under the carets: each way in which views can differ is named, with its pages, and only that one."""
    ((ruler, one),) = fitted([ruler_of(view)], 60)
    marks = [line.text for line in draw(ruler, one, 60 + GUTTER) if line.role == "mark"]
    assert len(marks) == 1
    assert "^^^" in marks[0]
    assert f" {kind}: 4 pages (16 KiB)" in marks[0]


def test_a_stale_page_jumps_to_the_eye() -> None:
    """Protects the look: the picture of the classic finding, letter by letter."""
    before, after = domain(*[((256, 272, 0x40000),)] * 3), domain(hypervisor=((260, 272, 0x40004),))
    (_, _), (ruler, one) = fitted([ruler_of(before), ruler_of(after)], 44)
    assert [line.text for line in draw(ruler, one, 56, ASCII)] == [
        "caller      ..............................",
        "driver      ..............................",
        "hypervisor  ..............##############..",
        "                          ^^^^^^^^^^^^^^ stale",
        "                          |             |",
        "                          0x104000      0x110000",
    ]


def test_rulers_of_one_domain_share_their_columns() -> None:
    """Protects reading downwards: an address has one column in all rulers of a domain, also in one where nothing is left."""
    views = [domain(*[((0, 4, 9),)] * 3), domain(*[((8, 9, 1),)] * 3), domain()]
    scales = [one for _, one in fitted([ruler_of(view) for view in views], 60)]
    assert scales[0] == scales[1] == scales[2]
    assert scales[0].edges == (0, 4, 8, 9)


# --- too many pieces ------------------------------------------------------------------------------------------------------


def many(count: int, missing: int) -> DomainView:
    """``count`` mappings with holes between them; the caller was told that one of them is gone."""
    runs = tuple((4 * i, 4 * i + 1, 7 * i) for i in range(count))
    rest = runs[:missing] + runs[missing + 1 :]
    return domain(rest, rest, runs)


@given(st.integers(0, 999), st.integers(4, 140))
@settings(max_examples=20, deadline=None)
def test_one_stale_page_among_thousands_is_seen(missing: int, width: int) -> None:
    """Protects the folding: where thousands of ranges share the columns, the one page that differs still has its caret, its
    count and a column that holds nothing else that differs."""
    ((ruler, one),) = fitted([ruler_of(many(1000, missing))], width)
    assert ruler.parted == ((STALE, 1),)
    hot = [piece for piece in ruler.pieces if piece.parted]
    assert len(hot) == 1
    if width > 20:
        assert (hot[0].start, hot[0].end) == (4 * missing, 4 * missing + 1)
        first, last = one.columns_of(hot[0].start, hot[0].end)
        assert last - first > 1
        at = ruler.pieces.index(hot[0])
        assert all(piece.end - piece.start <= 3 for piece in ruler.pieces[max(at - 2, 0) : at + 3])


@given(domains(), st.integers(1, 12))
@FEW
def test_fewer_pieces_say_the_same(view: DomainView, most: int) -> None:
    """Protects merging: the pieces have no gaps, cover what they did, and each says all that those in it said."""
    whole = ruler_of(view)
    small = fit(whole, most)
    assert len(small.pieces) <= max(most, 1)
    assert small.parted == whole.parted
    if whole.pieces:
        assert (small.edges[0], small.edges[-1]) == (whole.edges[0], whole.edges[-1])
    assert all(one.end == two.start for one, two in pairwise(small.pieces))
    for piece in small.pieces:
        inside = [other for other in whole.pieces if piece.start <= other.start < piece.end]
        assert piece.parted == frozenset().union(*(other.parted for other in inside))
        for lane in range(len(small.lanes)):
            states = {other.states[lane] for other in inside}
            assert piece.states[lane] == sum(state for state in (HOLE, MAPPED, LIMBO) if state in states)


def test_a_scale_refuses_what_does_not_fit() -> None:
    """Protects against columns that stand for two things unsaid: more intervals than columns is an error, not a picture."""
    assert scale([1, 2, 3], [5.0, 5.0], 2).columns == (0, 1, 2)
    assert scale([0, 1, 2, 3, PAGE_END], [90.0, 1.0, 1.0, 1.0], 6).columns == (0, 3, 4, 5, 6)
    with pytest.raises(ValueError, match="2 intervals do not fit into 1 columns"):
        scale([1, 2, 3], [5.0, 5.0], 1)


# --- SVG ------------------------------------------------------------------------------------------------------------------


@given(domains())
@FEW
def test_a_drawing_is_well_formed_and_inside_its_frame(view: DomainView) -> None:
    """Protects the page: the SVG is XML, its bars lie within the width, and each mapped run has one."""
    ((ruler, one),) = fitted([ruler_of(view)], COLUMNS)
    root = ElementTree.fromstring(svg(ruler, one))
    bars = root.findall("rect")
    for bar in bars:
        x, width = float(bar.attrib["x"].rstrip("%")), float(bar.attrib["width"].rstrip("%"))
        assert 0 <= x < 100
        assert 0 < width <= 100.01 - x
    held = any(state != HOLE for piece in ruler.pieces for state in piece.states)
    assert bool(bars) == (held or bool(ruler.parted))
    assert sum(text.attrib.get("class") == "wrong" for text in root.findall("text")) == len(ruler.parted)


def test_what_is_missing_is_drawn() -> None:
    """Protects the eye in the other direction: where a view lacks what it should have, the page shows an empty frame."""
    ((ruler, one),) = fitted([ruler_of(domain(((16, 20, 99),), ((16, 20, 99),)))], COLUMNS)
    looks = [bar.attrib["class"] for bar in ElementTree.fromstring(svg(ruler, one)).findall("rect")]
    assert looks == ["held", "held", "missing wrong"]
