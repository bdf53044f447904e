"""How the IOMMU core cuts a range into driver calls: ``drivers/iommu/iommu.c:iommu_pgsize``, as in 6.12 to 7.0."""

from __future__ import annotations


class PgsizeBug(ValueError):
    """The kernel would stop here at a ``BUG_ON``: no supported page size fits. The message names the arguments."""


def iommu_pgsize(pgsize_bitmap: int, iova: int, paddr: int, size: int) -> tuple[int, int]:
    """The page size in bytes and the number of such pages for the next ``map_pages`` or ``unmap_pages`` call.

    ``iova``, ``paddr`` and ``size`` are bytes; ``pgsize_bitmap`` has one bit for each supported page size. ``size``
    and ``pgsize_bitmap`` must fit in a u64; of the addresses only the bits below a page size count, so a wrapped one
    needs no mask. An unmap passes the iova in place of the paddr. Constant time, below one microsecond.

    The page size is the largest that is not above ``size`` and divides both addresses. The count is cut at the next
    boundary of the *immediately* larger supported size if both addresses lie at the same offset in such a page and a
    whole one fits behind the boundary; otherwise it covers all of ``size`` that such pages can.

    Raises PgsizeBug if no page size fits, in particular for a size of 0, with which the core never calls.

    >>> iommu_pgsize(0x101000, 0x101000, 0x40101000, 0x400000)
    (4096, 255)
    """
    merge = iova | paddr
    # merge ^ (merge - 1): every bit up to the lowest of merge, the sizes dividing both addresses. All sizes divide 0.
    fitting = pgsize_bitmap & ((1 << size.bit_length()) - 1) & (merge ^ (merge - 1))
    if not fitting:
        raise PgsizeBug(
            f"iommu_pgsize: no page size of {pgsize_bitmap:#x} fits iova {iova:#x}, paddr {paddr:#x}, size {size:#x}; "
            "the kernel stops here with BUG_ON"
        )
    shift = fitting.bit_length() - 1
    larger = pgsize_bitmap & (-2 << shift)
    if larger:
        larger &= -larger
        if not (iova ^ paddr) & (larger - 1):
            offset = larger - (merge & (larger - 1))
            # The kernel also checks this sum for overflow. It overflows at 2^64 or more only, which no size reaches.
            if offset + larger <= size:
                size = offset
    return 1 << shift, size >> shift
