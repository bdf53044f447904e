"""The DMA API above an IOMMU domain, and interrupt pages (``drivers/iommu/dma-iommu.c``, Linux 7.0).

A driver that forces identity for every device, as all posted revisions of this one do, is never called from here: the kernel's own
drivers then use memory directly. So these requests go through whatever paging domain a device's group is in, as they would if it
were the default one. The kernel chooses the IOVA (``iommu_dma_alloc_iova``), here the operation does. With a flush queue the same
calls are made, only the IOVA is not reused until a timer has run; the memory is its owner's again in either case. Pages are numbers
of 4 KiB pages.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from hvmodel.callers.books import LIMBO, DomainBook
from hvmodel.hypervisor.abi import PAGE_SHIFT
from hvmodel.kernel.iommu import GFP_ATOMIC, GFP_KERNEL, IOMMU_CACHE, IOMMU_MMIO, IOMMU_NOEXEC, IOMMU_WRITE, Device

if TYPE_CHECKING:
    from hvmodel.callers.user import UserSpace


@dataclass(eq=False, slots=True)
class Stream:
    """One streaming mapping: pages from ``start``, memory from ``frame``."""

    book: DomainBook
    start: int
    frame: int
    pages: int


class DmaApi:
    """The streaming maps of all devices, and the windows in which interrupt pages are mapped."""

    def __init__(self, user: UserSpace) -> None:
        self.user = user
        self.streams: dict[tuple[int, int], Stream] = {}
        """By device and first page."""

    def domain(self, device: Device) -> DomainBook | None:
        """The paging domain that a device's group is believed in, or None."""
        book = self.user.core.books.current(device.group) if device.group is not None else None
        return book if book is not None and book.kind in ("device", "direct") else None

    def map(self, device: Device, start: int, frame: int, pages: int, prot: int) -> int | None:
        """``__iommu_dma_map``, in atomic context: 0, a negative errno, or None if the addresses are taken."""
        book = self.domain(device)
        end = start + pages
        if book is None or (device.number, start) in self.streams or not self.user.allowed(book, start, end):
            return None
        if any(not run.tag & LIMBO for run in book.pages.slice(start, end)):
            return None
        self.user.memory.take([(frame, pages)], False)
        self.user.memory.pin(frame, frame + pages, 0)
        size = pages << PAGE_SHIFT
        ret = self.user.core.iommu_map(book, start << PAGE_SHIFT, frame << PAGE_SHIFT, size, prot | IOMMU_CACHE, GFP_ATOMIC)
        if ret:
            self.user.unpin([(frame, pages)])
            return ret
        self.streams[device.number, start] = Stream(book, start, frame, pages)
        return 0

    def unmap(self, device: Device, start: int) -> int | None:
        """``__iommu_dma_unmap``: whatever is answered, the IOVA and the memory are free; None if nothing is mapped there."""
        stream = self.streams.get((device.number, start))
        if stream is None or stream.book is not self.domain(device):
            return None
        del self.streams[device.number, start]
        self.user.core.iommu_unmap(stream.book, start << PAGE_SHIFT, stream.pages << PAGE_SHIFT)
        self.user.unpin([(stream.frame, stream.pages)])
        return 0

    def map_msi(self, device: Device, start: int, frame: int) -> int | None:
        """``iommu_dma_get_msi_page``: one page, under the group's mutex, for ever; None where something is mapped."""
        book = self.domain(device)
        if book is None or book.pages.meets(start, start + 1) or not self.user.allowed(book, start, start + 1):
            return None
        prot = IOMMU_WRITE | IOMMU_NOEXEC | IOMMU_MMIO
        ret = self.user.core.iommu_map(book, start << PAGE_SHIFT, frame << PAGE_SHIFT, 1 << PAGE_SHIFT, prot, GFP_KERNEL)
        if ret == 0:
            self.user.windows.add(start, start + 1)
        return ret


__all__ = ["DmaApi", "Stream"]
