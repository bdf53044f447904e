"""Own variants: pages. One mistake each in what is mapped, unmapped, looked up, or deposited for it."""

from __future__ import annotations

from hvmodel.drivers.repaired import Repaired
from hvmodel.drivers.repaired.objects import (
    HV_DEFAULT_IOVA_WIDTH,
    HV_DEPOSIT_PAGES_MAP,
    HV_IDLE_DEPOSITS,
    HV_MAX_DEPOSITS,
    Deposits,
    HvDomain,
    HvIommuMapping,
    aperture,
    to_hv_domain,
)
from hvmodel.drivers.variants.registry import variant
from hvmodel.hypervisor import abi
from hvmodel.hypervisor.abi import PAGE_SHIFT, REP_COUNT_SHIFT, REP_MASK, STATUS_MASK, U32, U64
from hvmodel.kernel.interval_tree import IntervalTreeNode
from hvmodel.kernel.iommu import GFP_ATOMIC, IommuDomain
from hvmodel.kernel.services import Kernel

READ_WRITE = abi.HV_MAP_GPA_READABLE | abi.HV_MAP_GPA_WRITABLE


@variant("O01-flags-after-deposit", "error path")
class FlagsAfterDeposit(Repaired):
    """What is mapped after a deposit may be written whatever the caller asked.

    The retry was written when all mappings were read-write, and the flags that came later were threaded through the first call
    only. Needs a read-only or write-only map that runs short of memory. A device writes into memory that it should only read.
    """

    def __init__(self, kernel: Kernel) -> None:
        super().__init__(kernel)
        self.again = False

    def hv_iommu_deposit(self, status: int, deposits: Deposits, payer: int, pages: int = 1) -> bool:
        self.again = super().hv_iommu_deposit(status, deposits, payer, pages)
        return self.again

    def hv_iommu_map_pgs(self, hvdom: HvDomain, iova: int, paddr: int, npages: int, map_flags: int) -> int:
        flags, self.again = READ_WRITE if self.again else map_flags, False
        return super().hv_iommu_map_pgs(hvdom, iova, paddr, npages, flags)


@variant("O02-frames-by-batch", "range arithmetic")
class FramesByBatch(Repaired):
    """After a partly done batch the physical address is ahead of the IOVA.

    The IOVA goes on by what was done, the physical address by what was asked: the same until a batch stops halfway and a deposit
    lets the map go on. Needs a shortage inside a batch. The rest of the mapping shows other people's memory to the device.
    """

    def hv_iommu_map_range(self, hvdom: HvDomain, iova: int, paddr: int, npages: int, map_flags: int, gfp: str) -> tuple[int, int]:
        deposits, done = Deposits(npages), 0
        while done < npages:
            count = min(npages - done, self.map_batch)
            word = self.hv_iommu_map_pgs(hvdom, iova + (done << PAGE_SHIFT), paddr, count, map_flags)
            completed, status = word >> REP_COUNT_SHIFT & REP_MASK, word & STATUS_MASK
            done += completed
            paddr += count << PAGE_SHIFT if completed else 0
            if completed:
                deposits.progress()
            if not status or done == npages:
                continue
            if status == abi.HV_STATUS_INVALID_PARAMETER and not done and not map_flags & abi.HV_MAP_GPA_READABLE:
                map_flags |= abi.HV_MAP_GPA_READABLE
                continue
            payer = self.kernel.hv_current_partition_id
            if gfp == GFP_ATOMIC or not self.hv_iommu_deposit(status, deposits, payer, HV_DEPOSIT_PAGES_MAP):
                self.kernel.hv_status_err(status, "hv_iommu_map_range", f"pgs:{done:x}/{npages:x} iova:{iova:x}")
                return done, status
        return done, 0


@variant("O03-frame-u32", "encoding")
class FrameU32(Repaired):
    """A frame number is kept in 32 bits.

    ``u32 pfn`` holds every page of a machine with up to 16 TiB. Needs a physical address beyond that, as the windows of large
    devices have. The device reaches the page with the same low bits instead, which is anybody's.
    """

    def hv_iommu_map_pgs(self, hvdom: HvDomain, iova: int, paddr: int, npages: int, map_flags: int) -> int:
        pfn = paddr >> PAGE_SHIFT & U32
        return super().hv_iommu_map_pgs(hvdom, iova, pfn << PAGE_SHIFT, npages, map_flags)


@variant("O04-end-wraps", "range arithmetic")
class EndWraps(Repaired):
    """An unmap that ends with the last page of a 64-bit address space finds nothing.

    The end is one past the last byte; at the top of the address space it is 0, and the walk is over before it begins. Needs 64
    bits of address and the very last page. Its memory stays pinned and mapped for as long as the domain lives.
    """

    def hv_iommu_covered(self, hvdom: HvDomain, iova: int, size: int) -> tuple[int, bool]:
        end, at, inside = iova + size & U64, iova, False
        flags = self.kernel.spin_lock_irqsave(hvdom.mappings_lock)
        node = hvdom.mappings_tree.iter_first(iova, end - 1 & U64)
        while node is not None and node.start <= at < end:
            inside = inside or node.start < iova
            at = min(node.last + 1, end)
            node = hvdom.mappings_tree.iter_next(node, iova, end - 1 & U64)
        self.kernel.spin_unlock_irqrestore(hvdom.mappings_lock, flags)
        return at - iova, inside


@variant("O05-tail-by-size", "range arithmetic")
class TailBySize(Repaired):
    """What is left of the last mapping of a range is moved on by the size of the whole range.

    Right while the range begins in that mapping, which is what one thinks of. Needs an unmap over two mappings that stops inside
    the second. The translation of the rest is wrong from then on, and VFIO unpins other pages than it had pinned.
    """

    def hv_iommu_cut(self, hvdom: HvDomain, iova: int, size: int, spare: HvIommuMapping | None) -> None:
        last = hvdom.mappings_tree.iter_first(iova + size - 1, iova + size - 1) if size else None
        wrong = last is not None and last.start > iova and last.last >= iova + size
        mapping: HvIommuMapping | None = last.container if last is not None and wrong else None
        paddr = mapping.paddr if mapping is not None else 0
        super().hv_iommu_cut(hvdom, iova, size, spare)
        if mapping is not None:
            mapping.paddr = paddr + size


@variant("O06-spare-freed-twice", "lifetime")
class SpareFreedTwice(Repaired):
    """The spare for a cut is freed twice if the unmap did nothing.

    The early way out frees what it did not need, and so does the cleanup that it jumps to. Needs an unmap inside a mapping whose
    first page the hypervisor refuses. The allocator hands one object to two owners.
    """

    def hv_iommu_cut(self, hvdom: HvDomain, iova: int, size: int, spare: HvIommuMapping | None) -> None:
        if not size:
            self.kernel.kfree(spare)
        super().hv_iommu_cut(hvdom, iova, size, spare)


@variant("O07-lock-kept", "context")
class LockKept(Repaired):
    """The lock of the mappings stays taken when there is nothing to cut.

    A shortcut was put behind the lock instead of before it. Needs an unmap that the hypervisor refuses at its first page. The
    next map, unmap or look-up of the domain spins for ever with interrupts off.
    """

    def hv_iommu_cut(self, hvdom: HvDomain, iova: int, size: int, spare: HvIommuMapping | None) -> None:
        if not size:
            self.kernel.spin_lock_irqsave(hvdom.mappings_lock)
            self.kernel.kfree(spare)
            return
        super().hv_iommu_cut(hvdom, iova, size, spare)


@variant("O08-room-of-unmap", "encoding")
class RoomOfUnmap(Repaired):
    """A full batch is one frame longer than the page.

    The room for the list is computed from the header of the unmap, which is eight bytes shorter: 508 frames instead of 507. Needs
    508 pages in one call. The last frame is written behind the page, into the output page or whatever is there.
    """

    map_batch = (abi.PAGE_SIZE - abi.UNMAP_DEVICE_GPA_PAGES.size) // 8


@variant("O09-deposit-is-progress", "count")
class DepositIsProgress(Repaired):
    """A deposit counts as progress.

    The patience of the loop begins anew after each deposit, since something has happened. Needs a hypervisor that is never
    satisfied. The call gives it nearly twice what was meant before it gives up.
    """

    def hv_iommu_deposit(self, status: int, deposits: Deposits, payer: int, pages: int = 1) -> bool:
        done = super().hv_iommu_deposit(status, deposits, payer, pages)
        if done:
            deposits.progress()
        return done


@variant("O10-atomic-once", "context")
class AtomicOnce(Repaired):
    """A map that may not sleep deposits, and sleeps, once the first pages are in.

    What the caller allows was checked where a map begins to fail; that it can go on failing later was not thought of. Needs an
    atomic map that runs short after some pages. The kernel sleeps in an interrupt.
    """

    def hv_iommu_map_range(self, hvdom: HvDomain, iova: int, paddr: int, npages: int, map_flags: int, gfp: str) -> tuple[int, int]:
        done, status = super().hv_iommu_map_range(hvdom, iova, paddr, npages, map_flags, gfp)
        if gfp != GFP_ATOMIC or status not in abi.SHORTAGE_STATUSES or not done:
            return done, status
        payer = self.kernel.hv_current_partition_id
        if not self.hv_iommu_deposit(status, Deposits(npages), payer, HV_DEPOSIT_PAGES_MAP):
            return done, status
        offset = done << PAGE_SHIFT
        more, status = super().hv_iommu_map_range(hvdom, iova + offset, paddr + offset, npages - done, map_flags, gfp)
        return done + more, status


@variant("O11-batch-again", "error path")
class BatchAgain(Repaired):
    """After a deposit the whole batch is mapped again.

    Harmless where mapping a page twice to the same frame is accepted. Needs a shortage inside a batch and a hypervisor that
    refuses the second time. The map fails, and the pages of that batch stay mapped behind the back of its caller.
    """

    def hv_iommu_map_range(self, hvdom: HvDomain, iova: int, paddr: int, npages: int, map_flags: int, gfp: str) -> tuple[int, int]:
        deposits, done = Deposits(npages), 0
        while done < npages:
            offset, count = done << PAGE_SHIFT, min(npages - done, self.map_batch)
            word = self.hv_iommu_map_pgs(hvdom, iova + offset, paddr + offset, count, map_flags)
            completed, status = word >> REP_COUNT_SHIFT & REP_MASK, word & STATUS_MASK
            if not status:
                done += completed
                deposits.progress()
                continue
            if status == abi.HV_STATUS_INVALID_PARAMETER and not done and not map_flags & abi.HV_MAP_GPA_READABLE:
                map_flags |= abi.HV_MAP_GPA_READABLE
                continue
            payer = self.kernel.hv_current_partition_id
            if gfp == GFP_ATOMIC or not self.hv_iommu_deposit(status, deposits, payer, HV_DEPOSIT_PAGES_MAP):
                self.kernel.hv_status_err(status, "hv_iommu_map_range", f"pgs:{done:x}/{npages:x} iova:{iova:x}")
                return done + completed, status
        return done, 0


@variant("O12-last-found", "stale state")
class LastFound(Repaired):
    """The last mapping that was looked up is remembered, and forgotten only when it is gone as a whole.

    VFIO asks page by page, so this pays. Needs an unmap that takes the head of the remembered mapping and not the rest: one that
    the hypervisor refuses halfway, or an odd caller. The caller is told a translation that no longer exists.
    """

    hot: tuple[HvDomain, IntervalTreeNode, int, int, int] | None = None

    def hv_iommu_iova_to_phys(self, immdom: IommuDomain, iova: int) -> int:
        hvdom = to_hv_domain(immdom)
        flags = self.kernel.spin_lock_irqsave(hvdom.mappings_lock)
        if self.hot is None or self.hot[0] is not hvdom or not self.hot[2] <= iova <= self.hot[3]:
            node = hvdom.mappings_tree.iter_first(iova, iova)
            self.hot = (hvdom, node, node.start, node.last, node.container.paddr) if node is not None else None
        self.kernel.spin_unlock_irqrestore(hvdom.mappings_lock, flags)
        return self.hot[4] + iova - self.hot[2] if self.hot is not None else 0

    def hv_iommu_cut(self, hvdom: HvDomain, iova: int, size: int, spare: HvIommuMapping | None) -> None:
        super().hv_iommu_cut(hvdom, iova, size, spare)
        if self.hot is not None and self.hot[0] is hvdom and self.hot[1] not in hvdom.mappings_tree:
            self.hot = None


@variant("O13-last-page-refused", "range arithmetic")
class LastPageRefused(Repaired):
    """A range that ends with the aperture is refused.

    The end of the range is one past its last byte, the end of the aperture is its last byte. Needs a map of the last page. A
    guest whose memory reaches that far cannot have the device.
    """

    def hv_iommu_map_size(self, hvdom: HvDomain, iova: int, paddr: int, pgsize: int, pgcount: int) -> int:
        size = super().hv_iommu_map_size(hvdom, iova, paddr, pgsize, pgcount)
        geometry = hvdom.iommu_dom.geometry
        return 0 if geometry is None or iova + size > geometry.aperture_end else size


@variant("O14-unmap-deposits", "context")
class UnmapDeposits(Repaired):
    """An unmap deposits memory when the hypervisor runs short, as a map does.

    The two loops look alike and were made alike. Needs a shortage in an unmap, which the DMA API calls in an interrupt. The
    kernel sleeps there.
    """

    def hv_iommu_unmap_range(self, hvdom: HvDomain, iova: int, npages: int) -> int:
        deposits, done = Deposits(npages), 0
        while done < npages:
            word = self.hv_iommu_unmap_pgs(hvdom, iova + (done << PAGE_SHIFT), min(npages - done, self.unmap_batch))
            done += word >> REP_COUNT_SHIFT & REP_MASK
            if word & STATUS_MASK and done < npages:
                payer = self.kernel.hv_current_partition_id
                if not self.hv_iommu_deposit(word & STATUS_MASK, deposits, payer, HV_DEPOSIT_PAGES_MAP):
                    self.kernel.hv_status_err(word, "hv_iommu_unmap_range", f"pgs:{done:x}/{npages:x} iova:{iova:x}")
                    break
        return done


@variant("O15-merged", "error path")
class Merged(Repaired):
    """Mappings that continue each other are merged, so that an unmap of one needs memory.

    Saves nodes, and no caller sees it while there is memory. Needs three mappings in a row, an unmap of the middle one, and an
    allocation that fails. The unmap answers 0 for what is mapped; VFIO and iommufd have no way to try again.
    """

    def hv_iommu_insert(self, hvdom: HvDomain, mapping: HvIommuMapping, iova: int, paddr: int, size: int) -> None:
        tree, kernel = hvdom.mappings_tree, self.kernel
        flags = kernel.spin_lock_irqsave(hvdom.mappings_lock)
        node = tree.iter_first(iova - 1, iova - 1) if iova else None
        follows = node is not None and node.container.paddr + iova - node.start == paddr
        if node is not None and follows:
            tree.remove(node)
            node.last = iova + size - 1
            tree.insert(node)
        kernel.spin_unlock_irqrestore(hvdom.mappings_lock, flags)
        if follows:
            kernel.kfree(mapping)
        else:
            super().hv_iommu_insert(hvdom, mapping, iova, paddr, size)


@variant("O16-high-nodes-leak", "range arithmetic")
class HighNodesLeak(Repaired):
    """Mappings above the default width are not given back when their domain is freed.

    The walk ends where the default aperture ends, not that of the domain. Needs more than 48 bits of address and a domain that is
    freed with mappings in it. Memory is lost with each such domain.
    """

    def hv_iommu_drop_mappings(self, hvdom: HvDomain) -> None:
        end = aperture(HV_DEFAULT_IOVA_WIDTH).aperture_end
        while (node := hvdom.mappings_tree.iter_first(0, end)) is not None:
            hvdom.mappings_tree.remove(node)
            self.kernel.kfree(node.container)


@variant("O17-deposit-for-all", "encoding")
class DepositForAll(Repaired):
    """The deposit for a large map does not fit into its list.

    Instead of 256 pages a map deposits what it may need in all, one page for each 128. From 65536 pages on that is 512, one more
    than a deposit can name, and nothing is deposited. Needs such a map and a shortage. The map fails though there is memory.
    """

    npages = 0

    def hv_iommu_map_range(self, hvdom: HvDomain, iova: int, paddr: int, npages: int, map_flags: int, gfp: str) -> tuple[int, int]:
        self.npages = npages
        return super().hv_iommu_map_range(hvdom, iova, paddr, npages, map_flags, gfp)

    def hv_iommu_deposit(self, status: int, deposits: Deposits, payer: int, pages: int = 1) -> bool:
        if pages == HV_DEPOSIT_PAGES_MAP:
            pages = max(pages, self.npages >> 7)
        return super().hv_iommu_deposit(status, deposits, payer, pages)


@variant("O18-budget-renewed", "count")
class BudgetRenewed(Repaired):
    """Progress renews the whole budget of deposits, not only the patience.

    A helper that starts a new round resets both counters. Needs a hypervisor that takes a deposit for each page. A large map
    gives away host memory without a bound.
    """

    def hv_iommu_deposit(self, status: int, deposits: Deposits, payer: int, pages: int = 1) -> bool:
        if deposits.idle == HV_IDLE_DEPOSITS:
            deposits.left = max(deposits.left, HV_MAX_DEPOSITS)
        return super().hv_iommu_deposit(status, deposits, payer, pages)


@variant("O46-bytes-in-u32", "range arithmetic")
class BytesInU32(Repaired):
    """How many bytes an unmap did is kept in 32 bits.

    ``u32 npages`` is wide enough, ``npages << PAGE_SHIFT`` is not. Needs 4 GiB in one call, such as the window of a large GPU. The
    answer for all of it is 0, so the caller gives up on memory that is gone, and the tree keeps it.
    """

    def hv_iommu_unmap_range(self, hvdom: HvDomain, iova: int, npages: int) -> int:
        done = super().hv_iommu_unmap_range(hvdom, iova, npages)
        return (done << PAGE_SHIFT & U32) >> PAGE_SHIFT


@variant("O47-fallback-for-one-batch", "error path")
class FallbackForOneBatch(Repaired):
    """Write-only pages are made readable, where they have to be, in the first batch only.

    The flags that were accepted are not kept for the next batch, and there the refusal is final. Needs a write-only map of more
    than one batch. It fails, though nothing is wrong with it.
    """

    asked = (0, 0)

    def hv_iommu_map_range(self, hvdom: HvDomain, iova: int, paddr: int, npages: int, map_flags: int, gfp: str) -> tuple[int, int]:
        self.asked = iova, map_flags
        return super().hv_iommu_map_range(hvdom, iova, paddr, npages, map_flags, gfp)

    def hv_iommu_map_pgs(self, hvdom: HvDomain, iova: int, paddr: int, npages: int, map_flags: int) -> int:
        flags = map_flags if iova == self.asked[0] else self.asked[1]
        return super().hv_iommu_map_pgs(hvdom, iova, paddr, npages, flags)
