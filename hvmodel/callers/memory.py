"""Physical pages as the callers hold them: whose they are, and how often they are pinned.

A page is pinned while somebody maps it for DMA (``pin_user_pages``). When its last pin goes it is the kernel's again, which may
give it to anybody: from then on no device may reach it. Frames are numbers of 4 KiB pages.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from hvmodel.ranges import PageSet, RangeMap

Range = tuple[int, int]


@dataclass(eq=False, slots=True)
class Memory:
    """The pins of one kernel.

    >>> memory = Memory()
    >>> memory.pin(16, 32, by=1); memory.pin(20, 24, by=1)
    >>> memory.unpin(16, 32)
    [(16, 20), (24, 32)]
    >>> memory.unpin(20, 24), memory.owner(20)
    ([(20, 24)], None)
    """

    pins: RangeMap = field(default_factory=RangeMap)
    """Frame -> itself; the tag is how often it is pinned."""
    owners: RangeMap = field(default_factory=RangeMap)
    """Frame -> itself; the tag is the VM whose process has it (0: a host application)."""
    memory: PageSet = field(default_factory=PageSet)
    """Frames that were ever mapped as memory."""
    bars: PageSet = field(default_factory=PageSet)
    """Frames that are no memory but registers of devices: they are never pinned."""
    never_pinned: int = 0
    """Pages that were unpinned though nobody had pinned them: the kernel was told a wrong address."""

    def possible(self, runs: list[Range], mmio: bool) -> bool:
        """Whether runs (first frame, pages) can be memory or, with ``mmio``, registers: not if they were taken for the other."""
        taken = self.memory if mmio else self.bars
        return not any(taken.meets(frame, frame + count) for frame, count in runs)

    def take(self, runs: list[Range], mmio: bool) -> None:
        """Runs are memory or, with ``mmio``, registers, from now on."""
        for frame, count in runs:
            (self.bars if mmio else self.memory).add(frame, frame + count)

    def pin(self, start: int, end: int, by: int) -> None:
        """One pin more for the frames ``[start, end)``; those that nobody had are now of the process ``by``."""
        for low, high, count in list(self._pieces(start, end)):
            if not count:
                self.owners.set(low, high, low, by)
            self.pins.set(low, high, low, count + 1)

    def unpin(self, start: int, end: int) -> list[Range]:
        """One pin less; returns the frames that had their last one, as ranges."""
        gone: list[Range] = []
        for low, high, count in list(self._pieces(start, end)):
            if count > 1:
                self.pins.set(low, high, low, count - 1)
            elif count:
                self.pins.clear(low, high)
                gone.append((low, high))
            else:
                self.never_pinned += high - low
        for low, high in gone:
            self.owners.clear(low, high)
        return gone

    def owner(self, frame: int) -> int | None:
        """The VM whose process has a pinned frame (0: a host application), or None."""
        run = self.owners.find(frame)
        return None if run is None else run.tag

    def _pieces(self, start: int, end: int) -> Iterator[tuple[int, int, int]]:
        """The range cut where the count changes: (first, end, count)."""
        at = start
        for run in self.pins.slice(start, end):
            if run.start > at:
                yield at, run.start, 0
            yield run.start, run.end, run.tag
            at = run.end
        if at < end:
            yield at, end, 0


def pieces(paddr: int, pages: int, piece: int, gap: int) -> list[tuple[int, int]]:
    """Memory as an operation describes it, as maximal runs of consecutive frames: (first frame, pages).

    ``paddr`` is in bytes; ``piece`` and ``gap`` are pages (0: everything in one piece).

    >>> pieces(0x10000, 5, 2, 1)
    [(16, 2), (19, 2), (22, 1)]
    >>> pieces(0x10000, 5, 2, 0), pieces(0x10000, 5, 0, 9)
    ([(16, 5)], [(16, 5)])
    """
    frame = paddr >> 12
    if piece <= 0 or gap <= 0 or piece >= pages:
        return [(frame, pages)]
    return [(frame + number * (piece + gap), min(piece, pages - number * piece)) for number in range(-(-pages // piece))]


__all__ = ["Memory", "Range", "pieces"]
