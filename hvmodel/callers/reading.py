"""How VFIO and iommufd learn from a domain which memory they mapped: ``iommu_iova_to_phys``, page after page.

The kernel asks for every page. Here pages are asked where something can turn: the first ones, the last one, the edges of what the
caller holds, every 1 MiB boundary and the page before it (every larger power of two above 16 MiB); between a page that continues
and one that does not, the place of the break is found by halving. So a break that heals again between two asked pages
goes unseen. Pages are numbers of 4 KiB pages, physical addresses bytes.
"""

from __future__ import annotations

from collections.abc import Iterator

from hvmodel.callers.books import DomainBook
from hvmodel.callers.mapping import Mapping
from hvmodel.hypervisor.abi import PAGE_SHIFT

ALL = 8
"""Up to so many pages each one is asked."""

STEP = 256
MOST_STEPS = 16


def read_run(core: Mapping, book: DomainBook, at: int, end: int) -> tuple[int, int]:
    """The physical address of page ``at`` and how many pages of ``[at, end)`` follow it there: of those that answer 0, how many do.

    As the loops in ``vfio_unmap_unpin`` and ``vfio_iommu_replay`` (``drivers/vfio/vfio_iommu_type1.c``).
    """
    phys = core.iommu_iova_to_phys(book, at << PAGE_SHIFT)

    def continues(page: int) -> bool:
        expected = phys + (page - at << PAGE_SHIFT) if phys else 0
        return core.iommu_iova_to_phys(book, page << PAGE_SHIFT) == expected

    good = at
    for page in _asked(book, at, end):
        if continues(page):
            good = page
            continue
        while page - good > 1:
            middle = (good + page) // 2
            if continues(middle):
                good = middle
            else:
                page = middle
        return phys, page - at
    return phys, end - at


def _asked(book: DomainBook, at: int, end: int) -> Iterator[int]:
    """The pages after ``at`` and before ``end`` that are asked, in order."""
    if end - at <= ALL:
        yield from range(at + 1, end)
        return
    yield at + 1
    yield at + 2
    step = STEP
    while (end - at) // step > MOST_STEPS:
        step *= 2
    page = at + 3
    while page < end:
        run = book.pages.find(page)
        stop = min(run.end if run is not None else page + step, end)
        yield page
        for boundary in range(page + step & -step, stop, step):
            yield boundary - 1
            yield boundary
        if stop - 1 > page:
            yield stop - 1
        page = stop


__all__ = ["read_run"]
