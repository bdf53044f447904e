"""Areas of iommufd: how their memory gets into domains and out of them (``drivers/iommu/iommufd/pages.c``, Linux 6.12 to 7.0).

Memory is pinned once, however many domains map it. It is read back from a domain, the storage, when another domain is filled and
when it is unpinned. Everything goes in batches of physically contiguous runs. Pages are numbers of 4 KiB pages; areas that begin or
end inside a page are left out.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from hvmodel.callers.books import DomainBook
from hvmodel.callers.memory import Range
from hvmodel.callers.reading import read_run
from hvmodel.hypervisor.abi import PAGE_SHIFT
from hvmodel.kernel.iommu import GFP_KERNEL, IOMMU_CACHE, IOMMU_MMIO

if TYPE_CHECKING:
    from hvmodel.callers.user import UserSpace

LOST = 64
"""Pages in a row for which a look-up answers 0 that are taken for frame 0 page by page; more of them go as one run."""

BATCH = 5461
"""Runs in a batch: 64 KiB of pairs of a u64 and a u32 (``batch_init``, ``TEMP_MEMORY_LIMIT``)."""

SHORT_BATCH = 21
"""Runs in the batch that is on the stack, for when no memory is to be had (``BATCH_BACKUP_SIZE``)."""


@dataclass(eq=False, slots=True)
class Area:
    """``struct iopt_area`` with its ``iopt_pages``.

    ``runs`` are (first frame, pages), ``by`` is the process whose memory it is, ``stored`` the domain that it is read back from,
    ``small`` and ``short`` are those of ``IoasMap``; a ``revoked`` dma-buf is in no domain.
    """

    start: int
    prot: int
    runs: list[Range]
    by: int
    mmio: bool = False
    small: bool = False
    short: bool = False
    stored: DomainBook | None = None
    revoked: bool = False

    @property
    def end(self) -> int:
        """One past its last page."""
        return self.start + sum(count for _, count in self.runs)

    def part(self, start: int, end: int) -> list[Range]:
        """The runs of a part of it, pages ``[start, end)``."""
        found: list[Range] = []
        at = self.start
        for frame, count in self.runs:
            low, high = max(at, start), min(at + count, end)
            if low < high:
                found.append((frame + low - at, high - low))
            at += count
        return found

    def cut(self, at: int) -> tuple[Area, Area]:
        """``iopt_area_split``: two areas, the second from page ``at`` on."""
        low, high = self.part(self.start, at), self.part(at, self.end)
        first = Area(self.start, self.prot, low, self.by, self.mmio, self.small, self.short, self.stored, self.revoked)
        second = Area(at, self.prot, high, self.by, self.mmio, self.small, self.short, self.stored, self.revoked)
        return first, second


class Areas:
    """Fills and empties; keeps nothing."""

    def __init__(self, user: UserSpace) -> None:
        self.user = user

    def fill_domains(self, area: Area, domains: list[DomainBook]) -> int:
        """``iopt_area_fill_domains``: batch by batch, in each batch domain by domain; 0 or a negative errno.

        On an error the failing domain has undone this batch; those before it are unmapped up to its end, it and those after it up
        to its beginning, the last domain by what it says that it maps, which is unpinned. The kernel unpins this batch before that
        (``pfn_reader_release_pins``), a window of its own which no driver can close; here it is unpinned afterwards.
        """
        if not domains:
            return 0
        at = area.start
        for batch in self._batches(area, area.runs):
            self._pin(area, batch)
            stop = at + sum(count for _, count in batch)
            for index, book in enumerate(domains):
                ret = self._batch_to_domain(area, book, at, batch)
                if ret:
                    self._undo(area, domains, index, at, stop)
                    self._unpin(area, batch)
                    return ret
            at = stop
        area.stored = domains[0]
        return 0

    def _undo(self, area: Area, domains: list[DomainBook], failing: int, begin: int, stop: int) -> None:
        for index, book in enumerate(domains):
            end = stop if index < failing else begin
            if book is not domains[-1]:
                self.unmap_range(book, area.start, end)
            else:
                self._unmap_unpin(area, book, end)

    def fill_domain(self, area: Area, book: DomainBook) -> int:
        """``iopt_area_fill_domain``: into one more domain, from the storage if there is one, else from newly pinned memory."""
        if area.revoked:
            return 0
        runs = area.runs if area.stored is None or area.mmio else self._read(area.stored, area.start, area.end)
        at = area.start
        for batch in self._batches(area, runs):
            if area.stored is None:
                self._pin(area, batch)
            ret = self._batch_to_domain(area, book, at, batch)
            if ret:
                if area.stored is None:
                    self._unpin(area, batch)
                    self._unmap_unpin(area, book, at)
                else:
                    self.unmap_range(book, area.start, at)
                return ret
            at += sum(count for _, count in batch)
        return 0

    def unfill_domains(self, area: Area, domains: list[DomainBook]) -> None:
        """``iopt_area_unfill_domains``: all but the storage at once, the storage by what it says that it maps."""
        stored, area.stored = area.stored, None
        if stored is None or area.revoked:
            return
        for book in domains:
            if book is not stored:
                self.unmap_range(book, area.start, area.end)
        self._unmap_unpin(area, stored, area.end)

    def unfill_domain(self, area: Area, book: DomainBook) -> None:
        """``iopt_area_unfill_domain``, ``iopt_area_unmap_domain``: out of one domain; unpinned if no storage is left."""
        if area.revoked:
            return
        if area.stored is None:
            self._unmap_unpin(area, book, area.end)
        else:
            self.unmap_range(book, area.start, area.end)

    def unmap_range(self, book: DomainBook, start: int, end: int) -> None:
        """``iommu_unmap_nofail``: whatever is answered, iommufd goes on."""
        if start < end:
            self.user.core.iommu_unmap(book, start << PAGE_SHIFT, end - start << PAGE_SHIFT)

    # --- batches ------------------------------------------------------------------------------------------------------------

    def _batches(self, area: Area, runs: list[Range]) -> list[list[Range]]:
        size = SHORT_BATCH if area.short else BATCH
        return [runs[index : index + size] for index in range(0, len(runs), size)]

    def _batch_to_domain(self, area: Area, book: DomainBook, at: int, batch: list[Range]) -> int:
        """``batch_to_domain``: one map a run, or with ``small`` one a page; on an error what it did is unmapped as one range."""
        prot = area.prot | (IOMMU_MMIO if area.mmio else IOMMU_CACHE)
        done = at
        for frame, count in batch:
            for low in range(0, count, 1 if area.small else count):
                pages = 1 if area.small else count
                paddr, size = frame + low << PAGE_SHIFT, pages << PAGE_SHIFT
                ret = self.user.core.iommu_map(book, done << PAGE_SHIFT, paddr, size, prot, GFP_KERNEL)
                if ret:
                    self.unmap_range(book, at, done)
                    return ret
                done += pages
        return 0

    def _unmap_unpin(self, area: Area, book: DomainBook, end: int) -> None:
        """``__iopt_area_unfill_domain``, ``iopt_area_unpin_domain``: from the area's start on, a batch is read back, unmapped as
        one range, and unpinned by the frames that were read. A dma-buf is neither read nor unpinned."""
        if area.mmio:
            self.unmap_range(book, area.start, end)
            return
        at = area.start
        while at < end:
            batch = self._read(book, at, end)[: SHORT_BATCH if area.short else BATCH]
            stop = at + sum(count for _, count in batch)
            self.unmap_range(book, at, stop)
            self._unpin(area, batch)
            at = stop

    def _read(self, book: DomainBook, at: int, end: int) -> list[Range]:
        """``batch_from_domain``: the memory that a domain says it maps. Where it answers 0, that is taken for frame 0."""
        runs: list[Range] = []
        while at < end:
            phys, count = read_run(self.user.core, book, at, end)
            if phys or count == 1:
                runs.append((phys >> PAGE_SHIFT, count))
            else:
                runs += [(0, 1)] * min(count, LOST) + [(0, count - LOST)] * (count > LOST)
            at += count
        return runs

    def _pin(self, area: Area, runs: list[Range]) -> None:
        if not area.mmio:
            for frame, count in runs:
                self.user.memory.pin(frame, frame + count, area.by)

    def _unpin(self, area: Area, runs: list[Range]) -> None:
        if not area.mmio:
            self.user.unpin(runs)


__all__ = ["BATCH", "SHORT_BATCH", "Area", "Areas"]
