"""Which values are worth trying. What decides whether a defect is found is the choice of values, not the number of steps.

Addresses come from what exists (the first page, the last, just before, just after), from where arithmetic turns, and only now and
then from everywhere; counts from where encodings turn.
"""

from __future__ import annotations

from itertools import islice

from hvmodel.callers.books import PAGE_END, DomainBook
from hvmodel.ranges import Run
from hvmodel.rules.chooser import Chooser

MIB = 1 << 20
MIB_PAGES = 256
GIB = 1 << 30

SMALL_COUNTS = (1, 2, 3, 4, 5, 8, 16, 17, 64, 100)
MIDDLE_COUNTS = (127, 128, 129, 255, 256, 257, 384, 385, 506, 507, 508, 511, 512, 513, 768, 1024)
LARGE_COUNTS = (2047, 2048, 4094, 4095, 4096, 4097, 5000, 8192)
HUGE_COUNTS = (65535, 65536, 65537, 66000)
GIANT_COUNTS = ((1 << 20) - 1, 1 << 20, (1 << 20) + 1)
"""Pages of 4 GiB: where sizes in bytes turn."""

EDGES = (
    0,
    0x1000,
    MIB - 0x1000,
    MIB,
    MIB + 0x1000,
    2 * MIB - 0x1000,
    2 * MIB,
    4 * MIB,
    16 * MIB,
    256 * MIB,
    4 * GIB - MIB,
    4 * GIB - 0x1000,
    4 * GIB,
    (1 << 47),
    (1 << 48) - MIB,
    (1 << 48) - 0x1000,
    (1 << 64) - 2 * MIB,
    (1 << 64) - 0x1000,
)

PHYSICAL_BASES = (1 * GIB, 2 * GIB, 5 * GIB, 64 * GIB, 1 << 45)
"""The last one has frame numbers of more than 32 bits."""


def page_count(choose: Chooser, scale: int) -> int:
    """A number of pages; ``scale`` 0 stays small, 1 goes to a few MiB, 2 to tens of MiB, 3 beyond 256 MiB, rarely 4 GiB."""
    roll = choose.below(100)
    if scale == 0 or roll < 45:
        return choose.pick(SMALL_COUNTS)
    if scale == 1 or roll < 85:
        return choose.pick(MIDDLE_COUNTS) if roll < 95 else 1 + choose.below(1200)
    if scale == 2 or roll < 97:
        return choose.pick(LARGE_COUNTS)
    return choose.pick(HUGE_COUNTS if choose.below(8) else GIANT_COUNTS)


def existing_run(choose: Chooser, book: DomainBook) -> Run | None:
    """One of the runs that the caller holds, or None."""
    count = len(book.pages)
    if not count:
        return None
    return next(islice(book.pages, choose.below(min(count, 64)), None))


def fresh_iova(choose: Chooser, book: DomainBook, pages: int) -> int:
    """A page-aligned byte address for a new mapping: next to what exists, at an edge, at a round place."""
    roll = choose.below(10)
    if roll < 4:
        run = existing_run(choose, book)
        if run is not None:
            if roll < 2:
                return (run.end % PAGE_END) << 12
            if run.start >= pages:
                return (run.start - pages) << 12
        return choose.below(8) * MIB
    if roll < 7:
        return choose.below(64) * MIB
    if roll < 9:
        edge = choose.pick(EDGES)
        if edge + (pages << 12) > 1 << 64:
            edge = (1 << 64) - (pages << 12)
        return edge
    return (choose.below(1 << 20) << 12) + (choose.below(4) * 4 * GIB)


def physical(choose: Chooser, iova: int) -> int:
    """A page-aligned physical byte address, congruent to the IOVA modulo 1 MiB in half of the cases."""
    roll = choose.below(16)
    base = choose.pick(PHYSICAL_BASES) + choose.below(32) * 16 * MIB
    if roll < 8:
        return base + iova % MIB
    if roll < 15:
        return base + choose.below(MIB_PAGES) * 0x1000
    return 0


def near(choose: Chooser, run: Run) -> int:
    """A page at or next to a run: its first page, its last, just before, just after, inside."""
    roll = choose.below(5)
    if roll == 0:
        return run.start
    if roll == 1:
        return run.end - 1
    if roll == 2:
        return max(run.start - 1, 0)
    if roll == 3:
        return min(run.end, PAGE_END - 1)
    return run.start + choose.below(run.end - run.start)


class Pools:
    """Where the rules get values from. This one draws from the pools above; a gear with a scope puts its own in its place."""

    def page_count(self, choose: Chooser, scale: int) -> int:
        """See :func:`page_count`."""
        return page_count(choose, scale)

    def existing_run(self, choose: Chooser, book: DomainBook) -> Run | None:
        """See :func:`existing_run`."""
        return existing_run(choose, book)

    def fresh_iova(self, choose: Chooser, book: DomainBook, pages: int) -> int:
        """See :func:`fresh_iova`."""
        return fresh_iova(choose, book, pages)

    def free_iova(self, choose: Chooser, book: DomainBook, pages: int) -> int | None:
        """An address where nothing is mapped, if a few tries or the end of what is mapped give one; None if there is none to
        offer, which never comes from this one."""
        for _ in range(3):
            iova = fresh_iova(choose, book, pages)
            if not book.pages.meets(iova >> 12, (iova >> 12) + pages):
                return iova
        end = book.pages.end
        return end << 12 if end + pages <= PAGE_END else iova

    def physical(self, choose: Chooser, iova: int) -> int:
        """See :func:`physical`."""
        return physical(choose, iova)

    def near(self, choose: Chooser, run: Run) -> int:
        """See :func:`near`."""
        return near(choose, run)

    def anywhere(self, choose: Chooser, limit: int) -> int:
        """A page below ``limit``, whatever is there."""
        return choose.below(limit)

    def prot(self, choose: Chooser) -> str:
        """What a mapping permits: mostly both."""
        return choose.pick(("rw", "rw", "rw", "rw", "r", "w"))

    def gfp(self, choose: Chooser) -> str:
        """Whether the caller of a map may sleep: mostly."""
        return "atomic" if choose.below(8) == 7 else "kernel"

    def scatter(self, choose: Chooser, scale: int) -> tuple[int, int]:
        """Of memory in pieces: how many runs, and pages in each."""
        if scale < 2 or choose.below(10):
            return 2 + choose.below(4), choose.pick((1, 1, 2, 3, 16, 100, 256, 256, 257))
        return choose.pick(((16, 256), (17, 256), (20, 256), (256, 16), (300, 17), (256, 256), (257, 256), (64, 100)))

    def gap(self, choose: Chooser, run_pages: int) -> int:
        """Pages between the starts of two physical runs of so many pages each, beyond their length."""
        gap = choose.pick((256, 1, 16, 512))
        return 256 if run_pages % 256 == 0 else gap

    def pieces(self, choose: Chooser, pages: int) -> tuple[int, int]:
        """How a process's memory of so many pages lies: mostly in one piece (0, 0), else in pieces of so many pages with so many
        between them."""
        if pages == 1 or choose.below(10) < 6:
            return 0, 0
        most = 300 if choose.one_in(16) else 17
        piece = max(choose.pick((1, 2, 3, 16, 100, 255, 256, 257)), -(-pages // most))
        return (piece, self.gap(choose, piece)) if piece < pages else (0, 0)

    def round_iova(self, choose: Chooser) -> int:
        """Where the first mapping of an address space may be that is in no domain yet: bytes, at a large page."""
        return choose.below(64) * MIB

    def offset(self, choose: Chooser) -> int:
        """Where in a page a look-up asks, in bytes."""
        return choose.pick((0, 0, 0xFFF, 0x123))


POOLS = Pools()
