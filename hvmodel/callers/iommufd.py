"""iommufd: address spaces (IOAS), page tables (HWPT) and the devices that are attached to them, as ``drivers/iommu/iommufd`` keeps
them (Linux 6.12 to 7.0): ``device.c``, ``hw_pagetable.c``, ``io_pagetable.c``. How an area gets in and out of domains is in
:mod:`hvmodel.callers.areas`.

A process has one iommufd. What is left out: nested page tables, faults, PASIDs, dirty tracking, vIOMMUs, the copy of areas between
address spaces, and failing allocations of iommufd's own. Pages are numbers of 4 KiB pages.
"""

from __future__ import annotations

from bisect import insort
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from hvmodel.callers.areas import Area, Areas
from hvmodel.callers.books import PAGE_END, DomainBook
from hvmodel.callers.core import Refused
from hvmodel.callers.memory import Range
from hvmodel.kernel.iommu import EBUSY, EEXIST, EINVAL, ENOENT, Group

if TYPE_CHECKING:
    from hvmodel.callers.user import UserSpace


@dataclass(eq=False, slots=True)
class Hwpt:
    """``struct iommufd_hwpt_paging``: a domain of an IOAS. ``number`` 0: the kernel made it by itself, and frees it with its last
    device. ``groups`` are attached to it."""

    number: int
    book: DomainBook
    ioas: int
    groups: list[int] = field(default_factory=list)


@dataclass(eq=False, slots=True)
class Ioas:
    """``struct iommufd_ioas`` with its ``io_pagetable``. ``areas`` by address; ``domains`` in the order of their index, the first
    one is storage; ``accesses`` are pages that kernel users have pinned: first page, end, frames."""

    number: int
    by: int
    areas: list[Area] = field(default_factory=list)
    domains: list[DomainBook] = field(default_factory=list)
    hwpts: list[Hwpt] = field(default_factory=list)
    accesses: list[tuple[int, int, list[Range]]] = field(default_factory=list)


class Iommufd:
    """All address spaces of a kernel, and which groups are bound and attached."""

    def __init__(self, user: UserSpace) -> None:
        self.user = user
        self.areas = Areas(user)
        self.ioases: dict[int, Ioas] = {}
        self.bound: dict[int, int] = {}
        """Group -> the process whose iommufd has its devices."""
        self.attached: dict[int, Hwpt] = {}
        """Group -> what its devices are attached to."""

    # --- devices ------------------------------------------------------------------------------------------------------------

    def find(self, number: int, by: int) -> Ioas:
        """An address space, a new one if there is none of that number, which is kept by :meth:`keep`."""
        return self.ioases.get(number) or Ioas(number, by)

    def keep(self, ioas: Ioas) -> None:
        """An address space is its process's from now on."""
        self.ioases[ioas.number] = ioas
        if ("iommufd", ioas.by) not in self.user.files.get(ioas.by, []):
            self.user.opened(ioas.by, "iommufd", ioas.by)

    def bind(self, group: Group, by: int) -> int:
        """``iommufd_device_bind`` of a group's first device; the others only count."""
        ret = self.user.core.claim(group, by)
        if ret == 0:
            self.bound[group.number] = by
            self.user.hold(group, by, "device")
        return ret

    def attach(self, ioas: Ioas, group: Group, hwpt: Hwpt | None) -> int:
        """``iommufd_device_change_pt``: attach or, if it is attached, replace; to a page table, or to an IOAS, which means any page
        table of the kernel's own that takes the device (-EINVAL: the next one; another error ends the search) or else a new one."""
        if hwpt is not None:
            return self._do_attach(group, hwpt)
        for auto in [hwpt for hwpt in ioas.hwpts if hwpt.number == 0]:
            ret = self._do_attach(group, auto)
            if ret != -EINVAL:
                return ret
        immediate = group.number not in self.attached
        made = self._alloc(ioas, group, 0, immediate)
        if isinstance(made, int):
            return made
        if immediate:
            return 0
        ret = self._do_attach(group, made)
        if ret:
            self._destroy(made)
        return ret

    def _do_attach(self, group: Group, hwpt: Hwpt) -> int:
        """``iommufd_hw_pagetable_attach``, ``iommufd_device_do_replace``."""
        core, old = self.user.core, self.attached.get(group.number)
        if old is hwpt:
            return 0
        areas = self.ioases[hwpt.ioas].areas
        if not all(self.user.allowed(hwpt.book, area.start, area.end) for area in areas):
            return -EINVAL  # iommufd_device_attach_reserved_iova
        ret = core.attach_group(group, hwpt.book) if old is None else core.replace_group(group, hwpt.book)
        if ret:
            return ret
        hwpt.groups.append(group.number)
        self.attached[group.number] = hwpt
        if old is not None:
            self._put(old, group)
        return 0

    def _put(self, hwpt: Hwpt, group: Group) -> None:
        """``iommufd_hw_pagetable_put``."""
        hwpt.groups.remove(group.number)
        if hwpt.number == 0 and not hwpt.groups:
            self._destroy(hwpt)

    def detach(self, group: Group) -> None:
        """``iommufd_device_detach`` of a group's last device: to the blocking domain, then the page table goes if it is the
        kernel's own and nobody else is attached."""
        self.user.core.detach_group(group)
        self._put(self.attached.pop(group.number), group)

    def close(self, group: Group) -> None:
        """The device files are closed: detach if need be, ``iommufd_device_destroy``."""
        by = self.bound.pop(group.number)
        if group.number in self.attached:
            self.detach(group)
        self.user.core.disown(group)
        self.user.let_go(group, by, "device")

    # --- page tables --------------------------------------------------------------------------------------------------------

    def hwpt(self, number: int) -> Hwpt | None:
        """A page table that user space has made."""
        for ioas in self.ioases.values():
            for hwpt in ioas.hwpts:
                if hwpt.number == number:
                    return hwpt
        return None

    def alloc(self, number: int, ioas: Ioas, group: Group) -> int:
        """``iommufd_hwpt_alloc``: nothing is attached, the domain is filled."""
        made = self._alloc(ioas, group, number, False)
        return made if isinstance(made, int) else 0

    def free(self, hwpt: Hwpt) -> None:
        """IOMMU_DESTROY. Raises :class:`Refused` while something is attached."""
        if hwpt.groups:
            raise Refused(-EBUSY)
        self._destroy(hwpt)

    def _alloc(self, ioas: Ioas, group: Group, number: int, immediate: bool) -> Hwpt | int:
        """``iommufd_hwpt_paging_alloc``. ``immediate``: the device is attached to the empty domain, which is filled then."""
        core = self.user.core
        name = f"hwpt {number}" if number else f"IOAS {ioas.number}'s domain"
        book = core.domain_for(group.devices[0], ioas.by, name)
        if isinstance(book, int):
            return book
        hwpt = Hwpt(number, book, ioas.number)
        if immediate:
            ret = self._do_attach(group, hwpt)
            if ret:
                core.free(book)
                return ret
        ret = self._add_domain(ioas, book)
        if ret:
            if immediate:
                core.detach_group(group)
                del self.attached[group.number]
            core.free(book)
            return ret
        ioas.hwpts.append(hwpt)
        return hwpt

    def _destroy(self, hwpt: Hwpt) -> None:
        """``iommufd_hwpt_paging_destroy``."""
        ioas = self.ioases[hwpt.ioas]
        ioas.hwpts.remove(hwpt)
        self._remove_domain(ioas, hwpt.book)
        self.user.core.free(hwpt.book)

    def _add_domain(self, ioas: Ioas, book: DomainBook) -> int:
        """``iopt_table_add_domain``, ``iopt_fill_domain``: every area goes into the domain; on an error those that did come out."""
        if not all(self.user.allowed(book, area.start, area.end) for area in ioas.areas):
            return -EINVAL
        for index, area in enumerate(ioas.areas):
            ret = self.areas.fill_domain(area, book)
            if ret:
                for done in ioas.areas[:index]:
                    if not ioas.domains:
                        done.stored = None
                    self.areas.unfill_domain(done, book)
                return ret
            if area.stored is None:
                area.stored = book
        ioas.domains.append(book)
        return 0

    def _remove_domain(self, ioas: Ioas, book: DomainBook) -> None:
        """``iopt_table_remove_domain``: the last one takes the place of the one that goes; the last domain's pages are unpinned."""
        index = ioas.domains.index(book)
        last = ioas.domains.pop()
        if last is not book:
            ioas.domains[index] = last
        for area in ioas.areas:
            if not ioas.domains:
                area.stored = None
            elif area.stored is book:
                area.stored = ioas.domains[0]
            self.areas.unfill_domain(area, book)

    # --- areas --------------------------------------------------------------------------------------------------------------

    def map(self, ioas: Ioas, area: Area) -> int:
        """``iommufd_ioas_map``: the area goes into every domain. Raises :class:`Refused` for what iommufd itself refuses."""
        if area.end > PAGE_END:
            raise Refused(-EINVAL)
        if any(other.start < area.end and area.start < other.end for other in ioas.areas):
            raise Refused(-EEXIST)
        if not all(self.user.allowed(book, area.start, area.end) for book in ioas.domains):
            raise Refused(-EINVAL)
        self.keep(ioas)
        self.user.memory.take(area.runs, area.mmio)
        ret = self.areas.fill_domains(area, ioas.domains)
        if ret == 0:
            insort(ioas.areas, area, key=lambda other: other.start)
        return ret

    def unmap(self, ioas: Ioas, start: int, end: int) -> int | None:
        """``iommufd_ioas_unmap``, ``iopt_unmap_iova_range``: whole areas, ascending; 0, or None if there is none. An area that was
        mapped page by page is cut first (``iopt_cut_iova``, for VFIO's v1 interface). Raises :class:`Refused` with -ENOENT if the
        first area is cut by the range; one that is met later ends the request."""
        first = next((area for area in ioas.areas if area.start < end and start < area.end), None)
        if first is not None and not first.small and (first.start < start or first.end > end):
            raise Refused(-ENOENT)
        self._cut(ioas, start)
        self._cut(ioas, end)
        found = [area for area in ioas.areas if area.start < end and start < area.end]
        for area in found:
            if area.end > end:
                return -ENOENT
            self.release_accesses(ioas, area.start, area.end)
            self.areas.unfill_domains(area, ioas.domains)
            ioas.areas.remove(area)
        return 0 if found else None

    def _cut(self, ioas: Ioas, at: int) -> None:
        area = next((area for area in ioas.areas if area.small and area.start < at < area.end), None)
        if area is not None:
            index = ioas.areas.index(area)
            ioas.areas[index : index + 1] = area.cut(at)

    def revoke(self, ioas: Ioas, area: Area) -> None:
        """``iopt_revoke_notify``: the dma-buf's exporter takes it back; it is unmapped everywhere and never again by anybody."""
        area.revoked = True
        for book in ioas.domains:
            self.areas.unmap_range(book, area.start, area.end)
        self.user.core.watch.given_back([(frame, frame + count) for frame, count in area.runs], taken=True)

    # --- kernel users -------------------------------------------------------------------------------------------------------

    def pin(self, ioas: Ioas, start: int, end: int) -> int:
        """``iommufd_access_pin_pages``: the frames have one pin more. Raises :class:`Refused` where nothing is mapped."""
        areas = [area for area in ioas.areas if area.start < end and start < area.end]
        if sum(min(area.end, end) - max(area.start, start) for area in areas) != end - start or any(area.mmio for area in areas):
            raise Refused(-ENOENT)
        frames = [run for area in areas for run in area.part(max(area.start, start), min(area.end, end))]
        for frame, count in frames:
            self.user.memory.pin(frame, frame + count, ioas.by)
        ioas.accesses.append((start, end, frames))
        return 0

    def release_accesses(self, ioas: Ioas, start: int, end: int) -> None:
        """``iommufd_access_notify_unmap``: kernel users let go of a range that is about to be unmapped."""
        for access in [access for access in ioas.accesses if access[0] < end and start < access[1]]:
            ioas.accesses.remove(access)
            self.user.unpin(access[2])

    def end(self, by: int) -> None:
        """``iommufd_fops_release``: what is left of a process is destroyed, page tables first."""
        for ioas in [ioas for ioas in self.ioases.values() if ioas.by == by]:
            for hwpt in list(ioas.hwpts):
                self._destroy(hwpt)
            self.release_accesses(ioas, 0, PAGE_END)
            del self.ioases[ioas.number]
        self.user.closed(by, "iommufd", by)


__all__ = ["Area", "Hwpt", "Ioas", "Iommufd"]
