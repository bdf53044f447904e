"""Page ranges as runs: the cost of every call follows the number of runs it meets, never the number of pages.

A :class:`RangeMap` maps page numbers to frame numbers. Pages that follow each other and map to frames that follow each
other are one :class:`Run`. The hypervisor's device page tables, the caller's books and the sets of deposited frames are
all kept so.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator
from itertools import pairwise
from typing import NamedTuple


class Run(NamedTuple):
    """Pages ``start <= page < end``; page ``start`` maps to frame ``frame``, the next one to ``frame + 1`` and so on.

    ``tag`` is whatever the owner wants to keep per run (permissions, the extent that a page belongs to). Two runs merge
    only if their tags are equal.
    """

    start: int
    end: int
    frame: int
    tag: int


class RangeMap:
    """Disjoint runs in ascending order.

    >>> table = RangeMap()
    >>> table.set(16, 32, frame=1000, tag=3)
    >>> table.set(20, 22, frame=5, tag=3)
    >>> [tuple(run) for run in table]
    [(16, 20, 1000, 3), (20, 22, 5, 3), (22, 32, 1006, 3)]
    >>> table.clear(0, 30)
    14
    >>> table.pages
    2
    """

    __slots__ = ("_runs", "_starts", "pages")

    def __init__(self) -> None:
        self._starts: list[int] = []
        self._runs: list[Run] = []
        self.pages = 0

    def __iter__(self) -> Iterator[Run]:
        return iter(self._runs)

    def __len__(self) -> int:
        return len(self._runs)

    @property
    def end(self) -> int:
        """One past the last mapped page; 0 if nothing is mapped."""
        return self._runs[-1].end if self._runs else 0

    def copy(self) -> RangeMap:
        """A separate map with the same runs: O(runs)."""
        twin = RangeMap()
        twin._starts = self._starts.copy()
        twin._runs = self._runs.copy()
        twin.pages = self.pages
        return twin

    def slice(self, start: int, end: int) -> list[Run]:
        """The runs that meet ``[start, end)``, cut to it: O(log n + runs met)."""
        if start >= end:
            return []
        starts, runs = self._starts, self._runs
        i = bisect_right(starts, start) - 1
        if i < 0 or runs[i].end <= start:
            i += 1
        j = bisect_left(starts, end, i)
        if i >= j:
            return []
        met = runs[i:j]
        first = met[0]
        if first.start < start:
            met[0] = first = Run(start, first.end, first.frame + start - first.start, first.tag)
        last = met[-1]
        if last.end > end:
            met[-1] = Run(last.start, end, last.frame, last.tag)
        return met

    def whole(self, start: int, end: int) -> list[Run]:
        """The runs that meet ``[start, end)``, uncut: O(log n + runs met)."""
        if start >= end:
            return []
        starts, runs = self._starts, self._runs
        i = bisect_right(starts, start) - 1
        if i < 0 or runs[i].end <= start:
            i += 1
        return runs[i : bisect_left(starts, end, i)]

    def find(self, page: int) -> Run | None:
        """The run that holds ``page``, or None: O(log n)."""
        i = bisect_right(self._starts, page) - 1
        if i >= 0:
            run = self._runs[i]
            if page < run.end:
                return run
        return None

    def frame(self, page: int) -> int | None:
        """The frame that ``page`` maps to, or None."""
        run = self.find(page)
        return None if run is None else run.frame + page - run.start

    def meets(self, start: int, end: int) -> bool:
        """Whether any page of ``[start, end)`` is mapped: O(log n)."""
        if start >= end:
            return False
        i = bisect_left(self._starts, end) - 1
        return i >= 0 and self._runs[i].end > start

    def covered(self, start: int, end: int) -> int:
        """How many pages of ``[start, end)`` are mapped: O(log n + runs met)."""
        return sum(run.end - run.start for run in self.slice(start, end))

    def set(self, start: int, end: int, frame: int, tag: int = 0) -> None:
        """Map ``[start, end)`` to ``frame`` onwards; what was there is replaced.

        O(log n + runs replaced), plus one list insert.
        """
        if start >= end:
            return
        starts, runs = self._starts, self._runs
        i = bisect_left(starts, start)
        if (i > 0 and runs[i - 1].end > start) or (i < len(starts) and starts[i] < end):
            self.clear(start, end)
            i = bisect_left(starts, start)
        self.pages += end - start
        if i > 0:
            prev = runs[i - 1]
            if prev.end == start and prev.tag == tag and prev.frame + start - prev.start == frame:
                i -= 1
                start, frame = prev.start, prev.frame
                del starts[i], runs[i]
        if i < len(starts) and starts[i] == end:
            after = runs[i]
            if after.tag == tag and after.frame == frame + end - start:
                end = after.end
                del starts[i], runs[i]
        starts.insert(i, start)
        runs.insert(i, Run(start, end, frame, tag))

    def clear(self, start: int, end: int) -> int:
        """Unmap ``[start, end)``; returns how many pages were mapped. O(log n + runs met)."""
        if start >= end:
            return 0
        starts, runs = self._starts, self._runs
        i = bisect_right(starts, start) - 1
        if i < 0 or runs[i].end <= start:
            i += 1
        j = bisect_left(starts, end, i)
        if i >= j:
            return 0
        first, last = runs[i], runs[j - 1]
        kept: list[Run] = []
        if first.start < start:
            kept.append(Run(first.start, start, first.frame, first.tag))
        if last.end > end:
            kept.append(Run(end, last.end, last.frame + end - last.start, last.tag))
        removed = 0
        for run in runs[i:j]:
            removed += run.end - run.start
        for run in kept:
            removed -= run.end - run.start
        runs[i:j] = kept
        starts[i:j] = [run.start for run in kept]
        self.pages -= removed
        return removed

    def check(self) -> None:
        """Raise AssertionError unless runs are ordered, disjoint, not empty, merged and counted right: O(n)."""
        assert self._starts == [run.start for run in self._runs], "the index of starts is stale"
        assert all(run.start < run.end for run in self._runs), "an empty run"
        for a, b in pairwise(self._runs):
            assert a.end <= b.start, "runs overlap"
            continues = a.end == b.start and a.tag == b.tag and a.frame + a.end - a.start == b.frame
            assert not continues, "two runs that should be one"
        assert self.pages == sum(run.end - run.start for run in self._runs), "the page count is wrong"


class PageSet:
    """A set of page numbers, kept as ranges.

    >>> taken = PageSet()
    >>> taken.add(10, 20); taken.add(20, 30)
    >>> taken.discard(12, 13)
    1
    >>> list(taken.ranges()), len(taken)
    ([(10, 12), (13, 30)], 19)
    """

    __slots__ = ("_map",)

    def __init__(self) -> None:
        self._map = RangeMap()

    def __len__(self) -> int:
        return self._map.pages

    def __bool__(self) -> bool:
        return self._map.pages > 0

    def __contains__(self, page: int) -> bool:
        return self._map.find(page) is not None

    def add(self, start: int, end: int) -> None:
        """Add ``[start, end)``."""
        self._map.set(start, end, start)

    def discard(self, start: int, end: int) -> int:
        """Remove ``[start, end)``; returns how many pages were in the set."""
        return self._map.clear(start, end)

    def meets(self, start: int, end: int) -> bool:
        """Whether any page of ``[start, end)`` is in the set."""
        return self._map.meets(start, end)

    def covered(self, start: int, end: int) -> int:
        """How many pages of ``[start, end)`` are in the set."""
        return self._map.covered(start, end)

    def slice(self, start: int, end: int) -> list[tuple[int, int]]:
        """The ranges that meet ``[start, end)``, cut to it."""
        return [(run.start, run.end) for run in self._map.slice(start, end)]

    def ranges(self) -> Iterator[tuple[int, int]]:
        """All ranges, ascending."""
        for run in self._map:
            yield run.start, run.end

    def take(self, count: int) -> list[tuple[int, int]]:
        """Remove and return up to ``count`` pages, lowest first: O(ranges taken), plus one list deletion each."""
        taken: list[tuple[int, int]] = []
        for start, end in self.ranges():
            if count <= 0:
                break
            end = min(end, start + count)
            taken.append((start, end))
            count -= end - start
        for start, end in taken:
            self.discard(start, end)
        return taken


def merged(runs: Iterable[tuple[int, int, int]]) -> list[tuple[int, int, int]]:
    """``(start, end, frame)`` triples in order, with those that continue each other joined: one form for comparing.

    >>> merged([(0, 2, 7), (2, 5, 9), (6, 7, 0)])
    [(0, 5, 7), (6, 7, 0)]
    """
    result: list[tuple[int, int, int]] = []
    for start, end, frame in runs:
        if result:
            prev_start, prev_end, prev_frame = result[-1]
            if prev_end == start and prev_frame + start - prev_start == frame:
                result[-1] = (prev_start, end, prev_frame)
                continue
        result.append((start, end, frame))
    return result
