"""VFIO type1: containers, as ``drivers/vfio/vfio_iommu_type1.c`` and ``container.c`` keep them (Linux 7.0; 6.12 where it differs).

What is left out: mediated devices, vaddr updates, the dirty bitmap (software only, no call of the driver comes of it), memory
limits, and failing allocations of VFIO's own. All domains of a container have one driver, so that each is tried for a new group
(``domain->ops`` is equal). Pages are numbers of 4 KiB pages.
"""

from __future__ import annotations

from bisect import insort
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from hvmodel.callers.books import PAGE_END, DomainBook
from hvmodel.callers.core import Refused
from hvmodel.callers.memory import Range
from hvmodel.callers.reading import read_run
from hvmodel.hypervisor.abi import PAGE_SHIFT
from hvmodel.kernel.iommu import EEXIST, EINVAL, GFP_KERNEL, IOMMU_CACHE, IOMMU_READ, IOMMU_WRITE, Group

if TYPE_CHECKING:
    from hvmodel.callers.user import UserSpace

SYNC_MAX = 512
"""``VFIO_IOMMU_TLB_SYNC_MAX``: pieces that are unmapped before their pages are unpinned."""

PROBE_FRAME = 1 << 33
"""The two pages that 6.12 allocates for its probe (``vfio_test_domain_fgsp``)."""


@dataclass(eq=False, slots=True)
class VfioDma:
    """``struct vfio_dma``: one mapping of the user's. ``pages`` grows while it is mapped; with ``mmio`` they are not pinned."""

    start: int
    pages: int
    prot: int
    mmio: bool


@dataclass(eq=False, slots=True)
class VfioDomain:
    """``struct vfio_domain``. ``fgsp`` (6.12): its driver is taken to unmap large pages whole, so that single pages are asked."""

    book: DomainBook
    groups: list[int]
    fgsp: bool = False


@dataclass(eq=False, slots=True)
class Container:
    """``struct vfio_iommu`` of a process. ``domains`` are newest first, ``dmas`` by address. ``probe``: it behaves as in 6.12."""

    number: int
    by: int
    probe: bool = False
    dmas: list[VfioDma] = field(default_factory=list)
    domains: list[VfioDomain] = field(default_factory=list)


class Type1:
    """All containers of a kernel."""

    def __init__(self, user: UserSpace) -> None:
        self.user = user
        self.containers: dict[int, Container] = {}

    # --- groups -----------------------------------------------------------------------------------------------------------

    def join(self, number: int, group: Group, by: int, probe: bool) -> int:
        """``vfio_container_attach_group``: claim the group, attach it, and give the ownership back if that fails.

        Returns 0 or a negative errno. Raises :class:`Refused` if the group is owned, or the container is another process's.
        """
        container = self.containers.get(number) or Container(number, by, probe)
        if container.by != by:
            raise Refused(-EINVAL)
        core = self.user.core
        ret = core.claim(group, by)
        if ret:
            return ret
        ret = self._attach_group(container, group)
        if ret:
            core.disown(group)
            return ret
        self.containers[number] = container
        self.user.hold(group, by, "group")
        return 0

    def _attach_group(self, container: Container, group: Group) -> int:
        """``vfio_iommu_type1_attach_group``."""
        core = self.user.core
        book = core.domain_for(group.devices[0], container.by, f"container {container.number}'s domain")
        if isinstance(book, int):
            return book
        ret = core.attach_group(group, book)
        if ret == 0 and not all(self.user.allowed(book, dma.start, dma.start + dma.pages) for dma in container.dmas):
            core.detach_group(group)  # vfio_iommu_aper_conflict, vfio_iommu_resv_conflict
            ret = -EINVAL
        if ret:
            core.free(book)
            return ret
        for domain in container.domains:
            core.detach_group(group)
            if core.attach_group(group, domain.book) == 0:
                domain.groups.append(group.number)
                core.free(book)
                return 0
            ret = core.attach_group(group, book)
            if ret:
                core.free(book)
                return ret
        domain = VfioDomain(book, [group.number])
        if container.probe:
            self._test_domain_fgsp(domain)
        ret = self._replay(container, domain)
        if ret:
            core.detach_group(group)
            core.free(book)
            return ret
        container.domains.insert(0, domain)
        return 0

    def _test_domain_fgsp(self, domain: VfioDomain) -> None:
        """``vfio_test_domain_fgsp`` of 6.12: map two pages at the first address that may be used, unmap the first of them."""
        core, memory = self.user.core, self.user.memory
        start = self.user.first_allowed(domain.book)
        if start is None:
            return
        memory.pin(PROBE_FRAME, PROBE_FRAME + 2, 0)
        prot = IOMMU_READ | IOMMU_WRITE | IOMMU_CACHE
        ret = core.iommu_map(domain.book, start << PAGE_SHIFT, PROBE_FRAME << PAGE_SHIFT, 2 << PAGE_SHIFT, prot, GFP_KERNEL)
        if ret == 0:
            if core.iommu_unmap(domain.book, start << PAGE_SHIFT, 1 << PAGE_SHIFT) == 1 << PAGE_SHIFT:
                core.iommu_unmap(domain.book, start + 1 << PAGE_SHIFT, 1 << PAGE_SHIFT)
            else:
                domain.fgsp = True
        domain.book.forgiven.add(start, start + 2)  # it asks for less than it mapped, and frees the memory whatever is answered
        self.user.unpin([(PROBE_FRAME, 2)])

    def _replay(self, container: Container, domain: VfioDomain) -> int:
        """``vfio_iommu_replay``: what the first domain says goes into the new one. On an error every entry is unmapped whole, from
        the failing one backwards, though only a part of that one was mapped."""
        if not container.domains:
            return 0
        core, source, book = self.user.core, container.domains[0].book, domain.book
        for index, dma in enumerate(container.dmas):
            at, end = dma.start, dma.start + dma.pages
            while at < end:
                phys, count = read_run(core, source, at, end)
                if phys:
                    size = count << PAGE_SHIFT
                    ret = core.iommu_map(book, at << PAGE_SHIFT, phys, size, dma.prot | IOMMU_CACHE, GFP_KERNEL)
                    if ret:
                        for undone in reversed(container.dmas[: index + 1]):
                            core.iommu_unmap(book, undone.start << PAGE_SHIFT, undone.pages << PAGE_SHIFT)
                        return ret
                at += count
        return 0

    def leave(self, container: Container, group: Group) -> None:
        """``vfio_group_detach_container``: the group is detached first; then, if it was the last one of its domain, everything is
        unmapped if there is no other domain, and the domain is freed; then the ownership is released."""
        core = self.user.core
        domain = next(domain for domain in container.domains if group.number in domain.groups)
        core.detach_group(group)
        domain.groups.remove(group.number)
        if not domain.groups:
            if len(container.domains) == 1:
                for dma in list(container.dmas):
                    self._remove_dma(container, dma)
            core.free(domain.book)
            container.domains.remove(domain)
        core.disown(group)
        self.user.let_go(group, container.by, "group")
        if not container.domains:
            del self.containers[container.number]

    # --- mappings ---------------------------------------------------------------------------------------------------------

    def map(self, container: Container, start: int, runs: list[tuple[int, int]], prot: int, mmio: bool) -> int:
        """``vfio_dma_do_map`` and ``vfio_pin_map_dma``: each run of consecutive frames is pinned and mapped in every domain.

        Returns 0 or a negative errno. Raises :class:`Refused` for what VFIO itself refuses.
        """
        end = start + sum(count for _, count in runs)
        if not prot or end > PAGE_END:
            raise Refused(-EINVAL)
        if any(dma.start < end and start < dma.start + dma.pages for dma in container.dmas):
            raise Refused(-EEXIST)
        if not all(self.user.allowed(domain.book, start, end) for domain in container.domains):
            raise Refused(-EINVAL)  # vfio_iommu_iova_dma_valid
        self.user.memory.take(runs, mmio)
        dma = VfioDma(start, 0, prot, mmio)
        insort(container.dmas, dma, key=lambda other: other.start)
        for frame, count in runs:
            if not mmio:
                self.user.memory.pin(frame, frame + count, container.by)
            ret = self._map_run(container, dma, frame, count)
            if ret:
                self._unpin(dma, [(frame, count)])
                self._remove_dma(container, dma)
                return ret
            dma.pages += count
        return 0

    def _map_run(self, container: Container, dma: VfioDma, frame: int, count: int) -> int:
        """``vfio_iommu_map``: into every domain, newest first; on an error those before it are unmapped, the last one first."""
        core, iova, size = self.user.core, dma.start + dma.pages << PAGE_SHIFT, count << PAGE_SHIFT
        for index, domain in enumerate(container.domains):
            ret = core.iommu_map(domain.book, iova, frame << PAGE_SHIFT, size, dma.prot | IOMMU_CACHE, GFP_KERNEL)
            if ret:
                for done in reversed(container.domains[:index]):
                    core.iommu_unmap(done.book, iova, size)
                return ret
        return 0

    def unmap(self, container: Container, start: int, end: int) -> int | None:
        """``vfio_dma_do_unmap``, the v2 interface: whole mappings in ``[start, end)``, ascending; 0, or None if there is none.

        Raises :class:`Refused` if the range cuts a mapping.
        """
        found = [dma for dma in container.dmas if dma.start < end and start < dma.start + dma.pages]
        if any(dma.start < start or dma.start + dma.pages > end for dma in found):
            raise Refused(-EINVAL)
        for dma in found:
            self._remove_dma(container, dma)
        return 0 if found else None

    def _remove_dma(self, container: Container, dma: VfioDma) -> None:
        """``vfio_remove_dma``: the mapping is forgotten, whatever became of its pages."""
        self._unmap_unpin(container, dma)
        container.dmas.remove(dma)

    def _unmap_unpin(self, container: Container, dma: VfioDma) -> None:
        """``vfio_unmap_unpin``: all domains but the first at once, the first one by what ``iova_to_phys`` says is there."""
        core = self.user.core
        at, end = dma.start, dma.start + dma.pages
        if not dma.pages:
            return
        first, *others = container.domains
        for other in others:
            core.iommu_unmap(other.book, at << PAGE_SHIFT, dma.pages << PAGE_SHIFT)
        if container.probe and end == PAGE_END:
            return  # 6.12 compares with an end that has wrapped to 0
        unmapped: list[tuple[int, int]] = []
        while at < end:
            phys, count = read_run(core, first.book, at, at + 1 if first.fgsp else end)
            if not phys:  # the kernel WARNs, and the page stays pinned
                at += count
                continue
            gone = core.iommu_unmap(first.book, at << PAGE_SHIFT, count << PAGE_SHIFT) >> PAGE_SHIFT
            if gone:
                unmapped.append((phys >> PAGE_SHIFT, gone))
            if not gone or len(unmapped) >= SYNC_MAX:
                self._unpin(dma, unmapped)
                unmapped = []
            if not gone:  # the slow way
                gone = core.iommu_unmap(first.book, at << PAGE_SHIFT, count << PAGE_SHIFT) >> PAGE_SHIFT
                if not gone:
                    break  # the kernel WARNs, and the rest stays pinned
                self._unpin(dma, [(phys >> PAGE_SHIFT, gone)])
            at += gone
        self._unpin(dma, unmapped)

    def _unpin(self, dma: VfioDma, runs: list[Range]) -> None:
        """``vfio_unpin_pages_remote`` of runs (first frame, pages): by physical address, as the lookup said."""
        if not dma.mmio:
            self.user.unpin(runs)


__all__ = ["Container", "Type1", "VfioDma", "VfioDomain"]
