"""How VFIO and iommufd learn from a domain which memory they mapped: ``iommu_iova_to_phys``, page after page.

The kernel asks for every page. Here pages are asked where something can turn: the first ones, the last one, the edges of what the
caller holds, every 1 MiB boundary and the page before it (every larger power of two where there are many); between a page that
continues and one that does not, the place of the break is found by halving. So a break that heals again between two asked pages
goes unseen. Pages are numbers of 4 KiB pages, physical addresses bytes.
"""

from __future__ import annotations

from hvmodel.callers.books import DomainBook
from hvmodel.callers.mapping import Mapping
from hvmodel.hypervisor.abi import PAGE_SHIFT

ALL = 8
"""Up to so many pages each one is asked."""

STEP = 256
MOST_STEPS = 64
MOST_EDGES = 64


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


def _asked(book: DomainBook, at: int, end: int) -> list[int]:
    """The pages after ``at`` and before ``end`` that are asked, in order."""
    if end - at <= ALL:
        return list(range(at + 1, end))
    pages = {at + 1, at + 2, end - 1}
    for run in book.pages.slice(at, end)[:MOST_EDGES]:
        pages.update((run.start, run.end - 1))
    step = STEP
    while (end - at) // step > MOST_STEPS:
        step *= 2
    for boundary in range(at + step & -step, end, step):
        pages.update((boundary - 1, boundary))
    return sorted(page for page in pages if at < page < end)


__all__ = ["read_run"]
