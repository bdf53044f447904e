"""Variants with the catalogue's defects of mappings, sizes and memory (sections A and B)."""

from __future__ import annotations

from hvmodel.drivers.repaired import Repaired
from hvmodel.drivers.repaired.objects import (
    HV_DEPOSIT_PAGES_MAP,
    SZ_1M,
    SZ_4K,
    Deposits,
    HvDomain,
    HvIommuMapping,
    to_hv_domain,
)
from hvmodel.drivers.variants.registry import variant
from hvmodel.hypervisor import abi
from hvmodel.hypervisor.abi import HV_MAP_GPA_READABLE, PAGE_SHIFT, U64
from hvmodel.kernel.iommu import GFP_ATOMIC, GFP_KERNEL, IommuDomain

ALL_AT_ONCE = 1 << 64


def delete_nodes(driver: Repaired, hvdom: HvDomain, iova: int, size: int) -> int:
    """The posted ``hv_iommu_del_tree_mappings``: whole nodes that begin in a range, up to one that begins before it; returns their
    bytes. The end wraps."""
    unmapped, last, tree = 0, iova + size - 1 & U64, hvdom.mappings_tree
    following = tree.iter_first(iova, last)
    while following is not None:
        node, following = following, tree.iter_next(following, iova, last)
        if node.start < iova:
            break
        unmapped += node.last - node.start + 1
        tree.remove(node)
        driver.kernel.kfree(node.container)
    return unmapped


class RollsBack(Repaired):
    """No variant: a driver that undoes a failed map itself, as the posted one does. What the rollback defects stand on."""

    def hv_iommu_undo(self, immdom: IommuDomain, iova: int, size: int, _pgsize: int) -> int:
        """Undo ``size`` mapped bytes; returns how many the caller has to be told of."""
        return size if size and self.hv_iommu_unmap_pages(immdom, iova, SZ_4K, size >> PAGE_SHIFT) < size else 0

    def hv_iommu_map_pages(
        self,
        immdom: IommuDomain,
        iova: int,
        paddr: int,
        pgsize: int,
        pgcount: int,
        prot: int,
        gfp: str,
        mapped: list[int] | None,
    ) -> int:
        ret = super().hv_iommu_map_pages(immdom, iova, paddr, pgsize, pgcount, prot, gfp, mapped)
        valid = self.hv_iommu_map_size(to_hv_domain(immdom), iova, paddr, pgsize, pgcount)
        if ret and mapped is not None and valid:
            mapped[0] = self.hv_iommu_undo(immdom, iova, mapped[0], pgsize)
        return ret


# --- A: sizes, encoding, memory -----------------------------------------------------------------------------------------


@variant("D01-input-page-overflow", "encoding")
class InputPageOverflow(Repaired):
    """A map puts all its PFNs into the one-page input area.

    From 508 pages on it writes past the page, which on a root is silent for small overruns.
    """

    map_batch = ALL_AT_ONCE


@variant("D02-unmap-rep-field", "encoding")
class UnmapRepField(Repaired):
    """An unmap of 4096 to 65535 pages goes into one hypercall.

    The rep count has 12 bits; the bits above must be zero, and the call is rejected.
    """

    unmap_batch = 0xFFFF


@variant("D03-unmap-u16-wrap", "encoding")
class UnmapU16Wrap(Repaired):
    """An unmap of 65536 pages or more passes its count through a u16.

    What is left of the count is unmapped, and the call succeeds.
    """

    def hv_iommu_unmap_range(self, hvdom: HvDomain, iova: int, npages: int) -> int:
        if npages > 0xFFFF:
            self.hv_iommu_unmap_pgs(hvdom, iova, npages)
            return npages
        return super().hv_iommu_unmap_range(hvdom, iova, npages)


@variant("D04-map-u16-wrap", "encoding", beside="D01, without which no count is that large")
class MapU16Wrap(Repaired):
    """A map of 65536 pages or more passes its count through a u16.

    A few pages are mapped, then the count is 0.
    """

    def hv_iommu_map_range(self, hvdom: HvDomain, iova: int, paddr: int, npages: int, map_flags: int, gfp: str) -> tuple[int, int]:
        self.map_batch = ALL_AT_ONCE if npages > 0xFFFF else abi.MAP_LIST_MAX
        return super().hv_iommu_map_range(hvdom, iova, paddr, npages, map_flags, gfp)


@variant("D05-iova0-wipe", "range arithmetic", beside="a rollback of its own")
class Iova0Wipe(RollsBack):
    """The rollback of a map that did nothing deletes size 0: at address 0 that ends at 2^64 - 1, and the whole tree goes.

    The hypervisor still has all of it.
    """

    def hv_iommu_undo(self, immdom: IommuDomain, iova: int, size: int, pgsize: int) -> int:
        if not size:
            delete_nodes(self, to_hv_domain(immdom), iova, size)
        return super().hv_iommu_undo(immdom, iova, size, pgsize)


@variant("D07-rollback-unit", "error path", beside="a rollback of its own")
class RollbackUnit(RollsBack):
    """The rollback takes pages done for pages of the caller's size.

    A 1 MiB page that fails after d pages takes d MiB of its neighbours with it.
    """

    def hv_iommu_undo(self, immdom: IommuDomain, iova: int, size: int, pgsize: int) -> int:
        hvdom, last = to_hv_domain(immdom), iova + pgsize * (size >> PAGE_SHIFT) - 1
        for node in [node for node in hvdom.mappings_tree if iova <= node.start <= last]:
            self.hv_iommu_unmap_pages(immdom, node.start, SZ_4K, node.last + 1 - node.start >> PAGE_SHIFT)
        return size if size and self.hv_iommu_meets(hvdom, iova, size) else 0


@variant("D08-rollback-over-4095", "error path", beside="a rollback of its own")
class RollbackOver4095(RollsBack):
    """A rollback of more than 4095 pages goes into one hypercall.

    It is rejected, and the pages stay mapped though the caller is told that nothing is.
    """

    def hv_iommu_undo(self, immdom: IommuDomain, iova: int, size: int, pgsize: int) -> int:
        hvdom = to_hv_domain(immdom)
        if size >> PAGE_SHIFT <= abi.REP_COUNT_MAX or hvdom.attached_dom:
            return super().hv_iommu_undo(immdom, iova, size, pgsize)
        self.hv_iommu_unmap_pgs(hvdom, iova, size >> PAGE_SHIFT)
        self.hv_iommu_cut(hvdom, iova, size, None)
        return 0


@variant("D09-rollback-status-ignored", "error path", beside="a rollback of its own")
class RollbackStatusIgnored(RollsBack):
    """Whether the rollback worked is not looked at.

    Needs a second failure: the map fails after some pages, and so does unmapping them.
    """

    def hv_iommu_undo(self, immdom: IommuDomain, iova: int, size: int, pgsize: int) -> int:
        hvdom = to_hv_domain(immdom)
        if not hvdom.attached_dom:
            self.hv_iommu_unmap_range(hvdom, iova, size >> PAGE_SHIFT)
        self.hv_iommu_cut(hvdom, iova, size, None)
        return 0


@variant("D10-deposit-no-retry", "error path")
class DepositNoRetry(Repaired):
    """After a deposit the map is given up all the same."""

    def hv_iommu_deposit(self, status: int, deposits: Deposits, payer: int, pages: int = 1) -> bool:
        given = super().hv_iommu_deposit(status, deposits, payer, pages)
        return given and pages != HV_DEPOSIT_PAGES_MAP


@variant("D11-deposit-unbounded", "error path")
class DepositUnbounded(Repaired):
    """Nothing bounds the rounds of shortage and deposit.

    A hypervisor that is never content drains the host.
    """

    def hv_iommu_deposit(self, status: int, deposits: Deposits, payer: int, pages: int = 1) -> bool:
        return super().hv_iommu_deposit(status, Deposits(), payer, pages)


@variant("D12-other-shortage-codes", "error path")
class OtherShortageCodes(Repaired):
    """Only one of the four shortage codes is known."""

    def hv_iommu_deposit(self, status: int, deposits: Deposits, payer: int, pages: int = 1) -> bool:
        known = status == abi.HV_STATUS_INSUFFICIENT_MEMORY
        return known and super().hv_iommu_deposit(status, deposits, payer, pages)


@variant("D14-status-uninit", "range arithmetic")
class StatusUninit(Repaired):
    """A map of no pages reads a status that was never set."""

    def hv_iommu_map_pages(
        self,
        immdom: IommuDomain,
        iova: int,
        paddr: int,
        pgsize: int,
        pgcount: int,
        prot: int,
        gfp: str,
        mapped: list[int] | None,
    ) -> int:
        if not pgsize * pgcount >> PAGE_SHIFT:
            return self.kernel.hv_result_to_errno(self.kernel.uninitialised_read("hv_iommu_map_pages: status with no pages"))
        return super().hv_iommu_map_pages(immdom, iova, paddr, pgsize, pgcount, prot, gfp, mapped)


@variant("D15-size-wrap", "range arithmetic")
class SizeWrap(Repaired):
    """The end of a range at the top of the address space wraps unseen."""

    def hv_iommu_map_size(self, hvdom: HvDomain, iova: int, paddr: int, pgsize: int, pgcount: int) -> int:
        size = pgsize * pgcount & U64
        geometry = hvdom.iommu_dom.geometry
        if not size or (iova | paddr | size) & (SZ_4K - 1) or geometry is None:
            return 0
        return 0 if (iova + size - 1 & U64) > geometry.aperture_end else size

    def hv_iommu_insert(self, hvdom: HvDomain, mapping: HvIommuMapping, iova: int, paddr: int, size: int) -> None:
        super().hv_iommu_insert(hvdom, mapping, iova, paddr, (iova + size - 1 & U64) + 1 - iova)


@variant("D16-zero-rep-call", "encoding", beside="a rollback of its own")
class ZeroRepCall(RollsBack):
    """The rollback of a map that did nothing issues an unmap of no pages."""

    def hv_iommu_undo(self, immdom: IommuDomain, iova: int, size: int, pgsize: int) -> int:
        hvdom = to_hv_domain(immdom)
        if not size and not hvdom.attached_dom:
            self.hv_iommu_unmap_pgs(hvdom, iova, 0)
        return super().hv_iommu_undo(immdom, iova, size, pgsize)


# --- B: tree and hypervisor -----------------------------------------------------------------------------------------------


class _WholeNodes(Repaired):
    """What D20 and D21 share: the hypervisor unmaps what was asked, the tree loses whole nodes, and the answer is the tree's."""

    page = 0

    def hv_iommu_unmap_pages(self, immdom: IommuDomain, iova: int, pgsize: int, pgcount: int) -> int:
        hvdom, size = to_hv_domain(immdom), pgsize * pgcount
        node = hvdom.mappings_tree.iter_first(iova, iova)
        if pgsize != self.page or node is None or node.start != iova or not size or iova + size > 1 << 64:
            return super().hv_iommu_unmap_pages(immdom, iova, pgsize, pgcount)
        if hvdom.mappings_tree.iter_first(iova + size - 1, iova + size - 1) is None:
            return super().hv_iommu_unmap_pages(immdom, iova, pgsize, pgcount)
        if not hvdom.attached_dom and self.hv_iommu_unmap_range(hvdom, iova, size >> PAGE_SHIFT) << PAGE_SHIFT < size:
            return 0
        return delete_nodes(self, hvdom, iova, size)


@variant("D20-chunk-mismatch", "range arithmetic")
class ChunkMismatch(_WholeNodes):
    """A node that one map of small pages made is deleted whole by the first 1 MiB of its unmap.

    The core cuts maps by both addresses and unmaps by one. The answer says that all is gone, and the core stops.
    """

    page = SZ_1M


@variant("D21-head-unmap-tail-stale", "range arithmetic")
class HeadUnmap(_WholeNodes):
    """Unmapping the first pages of a mapping deletes its node, and the answer is the node's size."""

    page = SZ_4K


class _StopsInside(Repaired):
    """What D23 and D24 share: pages are unmapped, and the tree keeps a node that begins before them."""

    def inner(self, _beyond: bool) -> bool:
        raise NotImplementedError

    def hv_iommu_unmap_pages(self, immdom: IommuDomain, iova: int, pgsize: int, pgcount: int) -> int:
        hvdom, size = to_hv_domain(immdom), pgsize * pgcount
        node = hvdom.mappings_tree.iter_first(iova, iova)
        if node is None or node.start == iova or not size or (iova | size) & (SZ_4K - 1) or hvdom.attached_dom:
            return super().hv_iommu_unmap_pages(immdom, iova, pgsize, pgcount)
        if not self.inner(iova + size - 1 > node.last):
            return super().hv_iommu_unmap_pages(immdom, iova, pgsize, pgcount)
        self.hv_iommu_unmap_range(hvdom, iova, size >> PAGE_SHIFT)
        return 0


@variant("D23-inner-unmap", "range arithmetic")
class InnerUnmap(_StopsInside):
    """An unmap that begins inside a mapping and ends in it is done, and answers 0 with the tree as it was."""

    def inner(self, beyond: bool) -> bool:
        return not beyond


@variant("D24-straddle-stops", "range arithmetic")
class StraddleStops(_StopsInside):
    """An unmap from inside one mapping to the end of another is done, and the tree keeps both."""

    def inner(self, beyond: bool) -> bool:
        return beyond


@variant("D27-dup-map-rollback", "error path")
class DupMapRollback(Repaired):
    """The rollback of a rejected second map at the same address deletes the node of the first.

    Needs a hypervisor that rejects a remap, or a refusal.
    """

    def hv_iommu_map_pages(
        self,
        immdom: IommuDomain,
        iova: int,
        paddr: int,
        pgsize: int,
        pgcount: int,
        prot: int,
        gfp: str,
        mapped: list[int] | None,
    ) -> int:
        hvdom = to_hv_domain(immdom)
        size = self.hv_iommu_map_size(hvdom, iova, paddr, pgsize, pgcount)
        if not size or mapped is None or hvdom.attached_dom or not self.hv_iommu_meets(hvdom, iova, size):
            return super().hv_iommu_map_pages(immdom, iova, paddr, pgsize, pgcount, prot, gfp, mapped)
        flags = self.hv_iommu_map_flags(prot)
        done, status = self.hv_iommu_map_range(hvdom, iova, paddr, size >> PAGE_SHIFT, flags, gfp)
        delete_nodes(self, hvdom, iova, size)
        if status:
            self.hv_iommu_unmap_range(hvdom, iova, done)
        elif mapping := self.hv_iommu_alloc_mapping(gfp):
            self.hv_iommu_insert(hvdom, mapping, iova, paddr, size)
            mapped[0] = size
        return self.kernel.hv_result_to_errno(status)


@variant("D28-no-overlap-check", "range arithmetic")
class NoOverlapCheck(Repaired):
    """A map over an existing one is not refused: the tree then has two nodes for a page."""

    def hv_iommu_meets(self, hvdom: HvDomain, iova: int, size: int) -> bool:
        return False


@variant("D29-unmap-status-ignored", "error path")
class UnmapStatusIgnored(Repaired):
    """What the hypervisor did not unmap is answered as unmapped.

    VFIO unpins pages that the device can still write.
    """

    def hv_iommu_unmap_range(self, hvdom: HvDomain, iova: int, npages: int) -> int:
        super().hv_iommu_unmap_range(hvdom, iova, npages)
        return npages


@variant("D30-tree-first", "ordering")
class TreeFirst(Repaired):
    """Nodes are deleted before the hypercall and not put back when it fails."""

    def hv_iommu_unmap_range(self, hvdom: HvDomain, iova: int, npages: int) -> int:
        delete_nodes(self, hvdom, iova, npages << PAGE_SHIFT)
        return super().hv_iommu_unmap_range(hvdom, iova, npages)


@variant("D32-free-leaks-nodes", "lifetime")
class FreeLeaksNodes(Repaired):
    """Mappings that are left when a domain is freed are not."""

    def hv_iommu_drop_mappings(self, hvdom: HvDomain) -> None:
        """Nothing."""


@variant("D34-attached-unmap-lies", "range arithmetic")
class AttachedUnmapLies(Repaired):
    """In a direct-attach domain an unmap claims the full size whatever was mapped."""

    def hv_iommu_unmap_pages(self, immdom: IommuDomain, iova: int, pgsize: int, pgcount: int) -> int:
        done = super().hv_iommu_unmap_pages(immdom, iova, pgsize, pgcount)
        return pgsize * pgcount if to_hv_domain(immdom).attached_dom else done


@variant("D35-mapped-null", "context")
class MappedNull(Repaired):
    """In a direct-attach domain a map writes through ``mapped`` without looking whether there is one."""

    def hv_iommu_map_pages(
        self,
        immdom: IommuDomain,
        iova: int,
        paddr: int,
        pgsize: int,
        pgcount: int,
        prot: int,
        gfp: str,
        mapped: list[int] | None,
    ) -> int:
        if mapped is None and to_hv_domain(immdom).attached_dom:
            self.kernel.null_write("hv_iommu_map_pages: *mapped")
        return super().hv_iommu_map_pages(immdom, iova, paddr, pgsize, pgcount, prot, gfp, mapped)


@variant("D36-read-always", "encoding")
class ReadAlways(Repaired):
    """Every mapping can be read, also where the hypervisor can map for writing only."""

    def hv_iommu_map_flags(self, prot: int) -> int:
        return super().hv_iommu_map_flags(prot) | HV_MAP_GPA_READABLE


@variant("D37-gfp-ignored", "context")
class GfpIgnored(Repaired):
    """Nodes are always allocated atomically, also for a caller that could wait."""

    def hv_iommu_alloc_mapping(self, _gfp: str) -> HvIommuMapping | None:
        return self.kernel.kzalloc(HvIommuMapping, GFP_ATOMIC)


@variant("D38-sleep-in-atomic", "context")
class SleepInAtomic(Repaired):
    """A map deposits memory, which sleeps, whatever the caller allows."""

    def hv_iommu_map_range(self, hvdom: HvDomain, iova: int, paddr: int, npages: int, map_flags: int, _gfp: str) -> tuple[int, int]:
        return super().hv_iommu_map_range(hvdom, iova, paddr, npages, map_flags, GFP_KERNEL)
