"""RangeMap, PageSet and merged against a naive dict {page: (frame, tag)}, and the cost claim: runs count, not pages."""

from __future__ import annotations

import doctest
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

import hvmodel.hypervisor.abi
import hvmodel.ranges
from hvmodel.ranges import PageSet, RangeMap, Run, merged

Naive = dict[int, tuple[int, int]]

SMALL = st.integers(0, 24)
TAG = st.integers(0, 1)
WRITE = st.tuples(SMALL, SMALL, st.one_of(st.none(), st.integers(0, 3)), TAG)
"""(start, end, frame offset or None to clear, tag): few pages and frames, so that runs meet often."""


def runs_of(naive: Naive) -> list[Run]:
    """The naive map as maximal runs."""
    runs: list[Run] = []
    for page in sorted(naive):
        frame, tag = naive[page]
        last = runs[-1] if runs else None
        if last and last.end == page and last.tag == tag and last.frame + page - last.start == frame:
            runs[-1] = last._replace(end=page + 1)
        else:
            runs.append(Run(page, page + 1, frame, tag))
    return runs


def cut(naive: Naive, start: int, end: int) -> Naive:
    return {page: entry for page, entry in naive.items() if start <= page < end}


class AgainstDict(RuleBasedStateMachine):
    """One RangeMap and one dict live through the same writes; every question must get the same answer."""

    def __init__(self) -> None:
        super().__init__()
        self.table = RangeMap()
        self.naive: Naive = {}

    @rule(start=SMALL, end=SMALL, shift=st.integers(0, 3), tag=TAG)
    def set(self, start: int, end: int, shift: int, tag: int) -> None:
        self.table.set(start, end, start + shift, tag)
        self.naive |= {page: (page + shift, tag) for page in range(start, end)}

    @rule(start=SMALL, end=SMALL)
    def clear(self, start: int, end: int) -> None:
        gone = cut(self.naive, start, end)
        assert self.table.clear(start, end) == len(gone)
        for page in gone:
            del self.naive[page]

    @rule(start=SMALL, end=SMALL)
    def ask(self, start: int, end: int) -> None:
        inside = cut(self.naive, start, end)
        assert self.table.slice(start, end) == runs_of(inside)
        whole = [run for run in runs_of(self.naive) if start < end and run.start < end and start < run.end]
        assert self.table.whole(start, end) == whole
        assert self.table.meets(start, end) == bool(inside)
        assert self.table.covered(start, end) == len(inside)

    @rule(page=SMALL)
    def ask_one(self, page: int) -> None:
        entry = self.naive.get(page)
        assert self.table.frame(page) == (None if entry is None else entry[0])
        found = self.table.find(page)
        holds = [run for run in runs_of(self.naive) if run.start <= page < run.end]
        assert ([] if found is None else [found]) == holds

    @rule(start=SMALL, end=SMALL)
    def copy_is_separate(self, start: int, end: int) -> None:
        twin = self.table.copy()
        twin.clear(start, end)
        twin.check()
        assert list(twin) == runs_of({page: entry for page, entry in self.naive.items() if not start <= page < end})

    @invariant()
    def same_runs_and_maximal(self) -> None:
        self.table.check()
        assert list(self.table) == runs_of(self.naive)
        assert (len(self.table), self.table.pages) == (len(runs_of(self.naive)), len(self.naive))


TestAgainstDict = AgainstDict.TestCase
TestAgainstDict.settings = settings(max_examples=200, stateful_step_count=40, deadline=None)


@given(st.lists(WRITE, max_size=25), st.integers(0, 40))
@settings(deadline=None)
def test_page_set_is_a_set(writes: list[tuple[int, int, int | None, int]], count: int) -> None:
    """PageSet answers like a Python set, and take gives the lowest pages and removes exactly those."""
    pages, naive = PageSet(), set[int]()
    for start, end, add, _ in writes:
        if add is None:
            assert pages.discard(start, end) == len(naive & set(range(start, end)))
            naive -= set(range(start, end))
        else:
            pages.add(start, end)
            naive |= set(range(start, end))
        inside = naive & set(range(start, end))
        assert {page for lo, hi in pages.slice(start, end) for page in range(lo, hi)} == inside
        assert (pages.meets(start, end), pages.covered(start, end)) == (bool(inside), len(inside))
        assert (len(pages), bool(pages), start in pages) == (len(naive), bool(naive), start in naive)
    taken = [page for lo, hi in pages.take(count) for page in range(lo, hi)]
    assert taken == sorted(naive)[:count]
    assert {page for lo, hi in pages.ranges() for page in range(lo, hi)} == naive - set(taken)


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(1, 3), st.integers(0, 1)), max_size=12))
@settings(deadline=None)
def test_merged_keeps_pages_and_joins_all_that_continue(steps: list[tuple[int, int, int]]) -> None:
    """The canonical form maps the same pages to the same frames, and splitting the input changes nothing."""
    triples, page = [], 0
    for gap, length, shift in steps:
        triples.append((page + gap, page + gap + length, page + gap + shift))
        page += gap + length
    naive = {p: (frame + p - start, 0) for start, end, frame in triples for p in range(start, end)}
    assert merged(triples) == [(run.start, run.end, run.frame) for run in runs_of(naive)]
    assert merged((p, p + 1, naive[p][0]) for p in sorted(naive)) == merged(triples)


@pytest.mark.parametrize(
    ("runs", "starts", "pages", "says"),
    [
        ([Run(4, 4, 0, 0)], [4], 0, "an empty run"),
        ([Run(0, 4, 0, 0), Run(3, 6, 9, 0)], [0, 3], 7, "runs overlap"),
        ([Run(0, 4, 0, 0), Run(4, 6, 4, 0)], [0, 4], 6, "two runs that should be one"),
        ([Run(0, 4, 0, 0)], [0], 5, "the page count is wrong"),
        ([Run(0, 4, 0, 0)], [1], 4, "the index of starts is stale"),
    ],
)
def test_check_notices(runs: list[Run], starts: list[int], pages: int, says: str) -> None:
    """RangeMap.check can fail: each of its claims."""
    table = RangeMap()
    table._runs, table._starts, table.pages = runs, starts, pages
    with pytest.raises(AssertionError, match=says):
        table.check()


def test_cost_follows_runs_not_pages() -> None:
    """Mapping, unmapping, comparing and copying 2**40 pages is as cheap as one page (bound: a second for thousands)."""
    began = time.perf_counter()
    table, twin, pages = RangeMap(), RangeMap(), PageSet()
    for i in range(2000):
        start = i << 41
        table.set(start, start + (1 << 40), frame=7)
        twin.set(start, start + (1 << 40), frame=7)
        pages.add(start, start + (1 << 40))
        assert table.clear(start + 1, start + (1 << 39)) == (1 << 39) - 1
    assert table.covered(0, 1 << 60) == table.pages == 2000 * ((1 << 39) + 1)
    assert list(table) != list(twin)
    assert merged(run[:3] for run in twin) == [run[:3] for run in twin.copy()]
    assert sum(end - start for start, end in pages.take(3 << 40)) == 3 << 40
    assert time.perf_counter() - began < 1.0


@pytest.mark.parametrize("module", [hvmodel.ranges, hvmodel.hypervisor.abi])
def test_examples_in_the_docstrings_are_true(module: object) -> None:
    """The examples of ranges.py and abi.py run as tests (and there are some)."""
    result = doctest.testmod(module)  # type: ignore[arg-type]
    assert (result.failed, result.attempted > 0) == (0, True)
