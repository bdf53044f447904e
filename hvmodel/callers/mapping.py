"""``iommu_map``, ``iommu_unmap``, ``iommu_iova_to_phys`` of the IOMMU core (``drivers/iommu/iommu.c``, 7.0 cycle).

One request becomes several driver calls; the books change at each answer (rows M1 to M10, U1 to U12 of ``README.md``).
Addresses and sizes are in bytes.
"""

from __future__ import annotations

from hvmodel.callers.books import PAGE_END, Books, DomainBook
from hvmodel.callers.pgsize import PgsizeBug, iommu_pgsize
from hvmodel.callers.watch import MapCall, UnmapCall, Watch
from hvmodel.hypervisor.abi import PAGE_SHIFT, U64
from hvmodel.kernel.iommu import EINVAL, GFP_ATOMIC, IommuOps
from hvmodel.kernel.services import Kernel


class Mapping:
    """The mapping half of the core; mixed into ``IommuCore``."""

    kernel: Kernel
    books: Books
    ops: IommuOps | None
    watch: Watch

    def iommu_map(self, book: DomainBook, iova: int, paddr: int, size: int, prot: int, gfp: str) -> int:
        """Map ``size`` bytes; returns 0 or a negative errno. On an error the core unmaps what was done and ignores the answer."""
        bitmap = book.pgsize_bitmap
        smallest = bitmap & -bitmap
        if not bitmap or (iova | paddr | size) & (smallest - 1):
            return -EINVAL
        at, left, done = iova, size, 0
        ret = 0
        book.request_from = book.next_extent
        while left:
            try:
                pgsize, count = iommu_pgsize(bitmap, at, paddr, left)
            except PgsizeBug:
                self.kernel.panic("iommu_pgsize: no page size fits what the driver left to map")
            ret, mapped = self.map_pages(book, at, paddr, pgsize, count, prot, gfp)
            done += mapped
            left -= mapped
            if ret or mapped == 0:
                break
            at = at + mapped & U64
            paddr = paddr + mapped & U64
        if ret:
            self._unmap_loop(book, iova, done)
        start = iova >> PAGE_SHIFT
        end = min(start + (size >> PAGE_SHIFT), PAGE_END)
        if ret == 0 and not left:
            book.requests[start] = end
        self.watch.map_request(book, start, end, ret)
        return ret

    def map_pages(
        self,
        book: DomainBook,
        iova: int,
        paddr: int,
        pgsize: int,
        count: int,
        prot: int,
        gfp: str,
        with_mapped: bool = True,
    ) -> tuple[int, int]:
        """One driver call; returns its errno and the bytes that it says are mapped, cut to what is possible (M4)."""
        assert self.ops is not None
        kernel = self.kernel
        pointer: list[int] | None = [0] if with_mapped else None
        size = pgsize * count & U64
        self.watch.begin_call("map_pages", book, None, size >> PAGE_SHIFT)
        kernel.slab.owner = book
        kernel.gfp_allowed = gfp
        kernel.cpu.atomic_caller = gfp == GFP_ATOMIC
        ret = self.ops.map_pages(book.domain, iova, paddr, pgsize, count, prot, gfp, pointer)
        kernel.gfp_allowed = None
        kernel.cpu.atomic_caller = False
        kernel.slab.owner = None
        told = size if pointer is None and ret == 0 else pointer[0] if pointer is not None else 0
        mapped = min(told, size) & ~0xFFF
        start, frame = iova >> PAGE_SHIFT, paddr >> PAGE_SHIFT
        end = start + (mapped >> PAGE_SHIFT)
        if mapped and end <= PAGE_END:
            if ret == 0:
                book.hold(start, end, frame, prot)
            else:
                book.maybe(start, end, frame, prot)
        self.watch.end_call()
        self.watch.mapped(MapCall(book, iova, paddr, size, pgsize, prot, gfp, ret, pointer[0] if pointer is not None else None))
        return ret, mapped

    def iommu_unmap(self, book: DomainBook, iova: int, size: int) -> int:
        """Unmap ``size`` bytes; returns the bytes that the driver says are gone, which may be more."""
        smallest = book.pgsize_bitmap & -book.pgsize_bitmap
        if not smallest or (iova | size) & (smallest - 1):
            return 0
        start, end = iova >> PAGE_SHIFT, min((iova + size) >> PAGE_SHIFT, PAGE_END)
        legal = book.whole_extents(start, end)
        total = self._unmap_loop(book, iova, size)
        self.watch.unmap_request(book, start, end, total, legal)
        return total

    def _unmap_loop(self, book: DomainBook, iova: int, size: int) -> int:
        """``__iommu_unmap``: asks until the range is gone or the driver answers 0; then what is left is limbo (U3)."""
        bitmap = book.pgsize_bitmap
        at, done = iova, 0
        while done < size:
            try:
                pgsize, count = iommu_pgsize(bitmap, at, at, size - done)
            except PgsizeBug:
                break
            answer = self.unmap_pages(book, at, pgsize, count)
            if answer == 0:
                start, end = at >> PAGE_SHIFT, min((iova + size) >> PAGE_SHIFT, PAGE_END)
                book.limbo(start, end)
                if book.pinned and self.kernel.faults.refusals("UNMAP_DEVICE_GPA_PAGES"):
                    book.forgiven.add(start, end)
                break
            done += answer
            at = at + answer & U64
        return done

    def unmap_pages(self, book: DomainBook, iova: int, pgsize: int, count: int) -> int:
        """One driver call; returns the bytes that it says are gone."""
        assert self.ops is not None
        size = pgsize * count & U64
        start = iova >> PAGE_SHIFT
        end = min(start + (size >> PAGE_SHIFT), PAGE_END)
        extents = book.met_extents(start, end)  # a driver may take all of them: that much work is fair
        self.watch.begin_call("unmap_pages", book, None, max(size >> PAGE_SHIFT, sum(high - low for low, high in extents)))
        self.kernel.cpu.atomic_caller = True  # the DMA API unmaps in any context; there is no gfp to say which
        answer = self.ops.unmap_pages(book.domain, iova, pgsize, count)
        self.kernel.cpu.atomic_caller = False
        gone = min(start + (answer >> PAGE_SHIFT), PAGE_END)
        before = book.pages.covered(start, gone)
        if answer:
            if book.requests:
                for run in book.pages.whole(start, gone):
                    book.requests.pop(run.start, None)
            book.gone(start, gone)
        else:
            book.limbo(start, end)
        self.watch.end_call()
        self.watch.unmapped(UnmapCall(book, iova, size, pgsize, answer, before, extents))
        return answer

    def iommu_iova_to_phys(self, book: DomainBook, iova: int) -> int:
        """Bytes, or 0; the core answers itself for an identity domain."""
        assert self.ops is not None
        if book.kind == "identity":
            return iova
        if book.kind == "blocked":
            return 0
        self.watch.begin_call("iova_to_phys", book, None)
        self.kernel.cpu.atomic_caller = True
        answer = self.ops.iova_to_phys(book.domain, iova)
        self.kernel.cpu.atomic_caller = False
        self.watch.end_call()
        self.watch.looked_up(book, iova, answer)
        return answer
