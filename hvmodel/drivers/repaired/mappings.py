"""Mappings: the hypervisor first, the tree after it, and every answer is what the hypervisor did."""

from __future__ import annotations

from hvmodel.drivers.repaired.hypercalls import Hypercalls
from hvmodel.drivers.repaired.objects import SZ_4K, HvDomain, HvIommuMapping, to_hv_domain
from hvmodel.hypervisor.abi import HV_MAP_GPA_READABLE, HV_MAP_GPA_WRITABLE, PAGE_SHIFT, U64
from hvmodel.kernel.iommu import EINVAL, ENOMEM, GFP_ATOMIC, IOMMU_READ, IOMMU_WRITE, IommuDomain


class Mappings(Hypercalls):
    """``map_pages``, ``unmap_pages``, ``iova_to_phys``. All addresses and sizes are in bytes.

    The tree says at any time what the hypervisor has: a node is inserted when the hypervisor has mapped, and cut when it has
    unmapped, by as much. (D30, D33)
    """

    # --- the tree -------------------------------------------------------------------------------------------------------

    def hv_iommu_insert(self, hvdom: HvDomain, mapping: HvIommuMapping, iova: int, paddr: int, size: int) -> None:
        """Put a mapping of ``size`` bytes into the tree."""
        mapping.paddr = paddr
        mapping.iova.start, mapping.iova.last = iova, iova + size - 1
        flags = self.kernel.spin_lock_irqsave(hvdom.mappings_lock)
        hvdom.mappings_tree.insert(mapping.iova)
        self.kernel.spin_unlock_irqrestore(hvdom.mappings_lock, flags)

    def hv_iommu_meets(self, hvdom: HvDomain, iova: int, size: int) -> bool:
        """Whether anything is mapped in a range."""
        flags = self.kernel.spin_lock_irqsave(hvdom.mappings_lock)
        node = hvdom.mappings_tree.iter_first(iova, iova + size - 1)
        self.kernel.spin_unlock_irqrestore(hvdom.mappings_lock, flags)
        return node is not None

    def hv_iommu_covered(self, hvdom: HvDomain, iova: int, size: int) -> tuple[int, bool]:
        """How many bytes from ``iova`` on are mapped without a hole, up to ``size``; and whether ``iova`` is inside a mapping."""
        end, at, inside = iova + size, iova, False
        flags = self.kernel.spin_lock_irqsave(hvdom.mappings_lock)
        node = hvdom.mappings_tree.iter_first(iova, end - 1)
        while node is not None and node.start <= at < end:
            inside = inside or node.start < iova
            at = min(node.last + 1, end)
            node = hvdom.mappings_tree.iter_next(node, iova, end - 1)
        self.kernel.spin_unlock_irqrestore(hvdom.mappings_lock, flags)
        return at - iova, inside

    def hv_iommu_cut(self, hvdom: HvDomain, iova: int, size: int, spare: HvIommuMapping | None) -> None:
        """Take ``size`` mapped bytes from ``iova`` on out of the tree. What is left of the first and of the last mapping stays; if
        they are one, its end becomes ``spare``, which is freed if it is not needed. (D21, D23, D24)"""
        kernel, tree, end = self.kernel, hvdom.mappings_tree, iova + size
        flags = kernel.spin_lock_irqsave(hvdom.mappings_lock)
        node = tree.iter_first(iova, end - 1) if size else None
        while node is not None:
            mapping: HvIommuMapping = node.container
            following = tree.iter_next(node, iova, end - 1)
            start, last = node.start, node.last
            tree.remove(node)
            if last >= end:
                tail = mapping if start >= iova else spare
                assert tail is not None
                tail.paddr = mapping.paddr + end - start
                tail.iova.start, tail.iova.last = end, last
                tree.insert(tail.iova)
                spare = None if tail is spare else spare
            if start < iova:
                node.last = iova - 1
                tree.insert(node)
            elif last < end:
                kernel.kfree(mapping)
            node = following
        kernel.spin_unlock_irqrestore(hvdom.mappings_lock, flags)
        kernel.kfree(spare)

    def hv_iommu_unmap_all(self, hvdom: HvDomain) -> bool:
        """Unmap what is left in a domain that is being freed; returns whether there was something and all of it is gone."""
        nodes = list(hvdom.mappings_tree)
        for node in nodes:
            size = node.last + 1 - node.start
            done = self.hv_iommu_unmap_range(hvdom, node.start, size >> PAGE_SHIFT) << PAGE_SHIFT
            self.hv_iommu_cut(hvdom, node.start, done, None)
            if done < size:
                return False
        return bool(nodes)

    def hv_iommu_drop_mappings(self, hvdom: HvDomain) -> None:
        """Free the nodes of a domain that is gone. (D32)"""
        for node in list(hvdom.mappings_tree):
            hvdom.mappings_tree.remove(node)
            self.kernel.kfree(node.container)

    def hv_iommu_alloc_mapping(self, gfp: str) -> HvIommuMapping | None:
        """A node, waiting for memory as the caller may. (D37)"""
        return self.kernel.kzalloc(HvIommuMapping, gfp)

    # --- the ops --------------------------------------------------------------------------------------------------------

    def hv_iommu_map_size(self, hvdom: HvDomain, iova: int, paddr: int, pgsize: int, pgcount: int) -> int:
        """The size of a request that can be served, or 0: whole pages, inside the aperture, no wrap. (D14, D15, D100)"""
        size = pgsize * pgcount
        geometry = hvdom.iommu_dom.geometry
        if not size or size > U64 or (iova | paddr | size) & (SZ_4K - 1):
            return 0
        if geometry is None or iova + size - 1 > geometry.aperture_end or paddr + size - 1 > U64:
            return 0
        return size

    def hv_iommu_map_flags(self, prot: int) -> int:
        """What may be done through a mapping, no more. (D36)"""
        return (HV_MAP_GPA_READABLE if prot & IOMMU_READ else 0) | (HV_MAP_GPA_WRITABLE if prot & IOMMU_WRITE else 0)

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
        """The op: 0 or a negative errno; ``mapped[0]`` is how many bytes are mapped, also after an error, and the core then
        unmaps them. There is no rollback that could fail unseen. (D05, D07, D08, D09, D16, D27)

        A range that meets a mapping is refused with nothing changed. (D28)
        """
        kernel = self.kernel
        hvdom = to_hv_domain(immdom)
        size = self.hv_iommu_map_size(hvdom, iova, paddr, pgsize, pgcount)
        if mapped is None or not size or self.hv_iommu_meets(hvdom, iova, size):
            return -EINVAL  # without `mapped` a failure could not be told (D35)

        mapping = self.hv_iommu_alloc_mapping(gfp)  # before anything is mapped
        if mapping is None:
            return -ENOMEM

        done, status = size, 0
        if not hvdom.attached_dom:
            npages, status = self.hv_iommu_map_range(hvdom, iova, paddr, size >> PAGE_SHIFT, self.hv_iommu_map_flags(prot), gfp)
            done = npages << PAGE_SHIFT
        if done:
            self.hv_iommu_insert(hvdom, mapping, iova, paddr, done)
        else:
            kernel.kfree(mapping)
        mapped[0] = done
        return kernel.hv_result_to_errno(status)

    def hv_iommu_unmap_pages(self, immdom: IommuDomain, iova: int, pgsize: int, pgcount: int) -> int:
        """The op: the bytes from ``iova`` on that are gone now, up to the first hole. (D20, D34)

        Needs memory only to cut a mapping in its middle, which no legal request does; without it nothing is done. If UNMAP is
        refused for ever the rest stays in the tree, and no answer ever says that it is gone.
        """
        kernel = self.kernel
        hvdom = to_hv_domain(immdom)
        size = pgsize * pgcount
        if not 0 < size <= U64 or (iova | size) & (SZ_4K - 1) or iova + size - 1 > U64:
            return 0

        covered, inside = self.hv_iommu_covered(hvdom, iova, size)
        if covered < size:
            kernel.pr_err(f"Hyper-V: hv_iommu_unmap_pages: only {covered:x} of {size:x} bytes are mapped at {iova:x}")
        spare = self.hv_iommu_alloc_mapping(GFP_ATOMIC) if inside else None
        if not covered or (inside and spare is None):
            return 0

        done = covered
        if not hvdom.attached_dom:
            done = self.hv_iommu_unmap_range(hvdom, iova, covered >> PAGE_SHIFT) << PAGE_SHIFT
        self.hv_iommu_cut(hvdom, iova, done, spare)
        return done

    def hv_iommu_iova_to_phys(self, immdom: IommuDomain, iova: int) -> int:
        """The op: a physical byte address, or 0 where nothing is mapped."""
        kernel = self.kernel
        hvdom = to_hv_domain(immdom)
        paddr = 0
        flags = kernel.spin_lock_irqsave(hvdom.mappings_lock)
        node = hvdom.mappings_tree.iter_first(iova, iova)
        if node is not None:
            mapping: HvIommuMapping = node.container
            paddr = mapping.paddr + iova - node.start
        kernel.spin_unlock_irqrestore(hvdom.mappings_lock, flags)
        return paddr
