"""Honest drivers of another make than ``repaired``, and one that lies: what the properties must and must not allow.

What a driver does with its nodes is its own business as long as its answers are true. These differ from ``repaired`` only there.
"""

from __future__ import annotations

from typing import ClassVar

from hvmodel.drivers.repaired import Repaired
from hvmodel.drivers.repaired.objects import SZ_1M, SZ_4K, HvDomain, HvIommuMapping, to_hv_domain
from hvmodel.hypervisor.abi import PAGE_SHIFT, U64
from hvmodel.kernel.iommu import EINVAL, ENOMEM, IommuDomain


class SplitsNodes(Repaired):
    """One node for each 1 MiB of a mapping, cut where needed; keeps no count of attached devices."""

    name = "honest-splits"
    summary = "honest: splits mappings into nodes of 1 MiB, counts no devices"

    def hv_iommu_alloc_mappings(self, count: int, gfp: str) -> list[HvIommuMapping] | None:
        """All nodes of a request, or None and nothing allocated."""
        mappings: list[HvIommuMapping] = []
        for _ in range(count):
            mapping = self.hv_iommu_alloc_mapping(gfp)
            if mapping is None:
                for allocated in mappings:
                    self.kernel.kfree(allocated)
                return None
            mappings.append(mapping)
        return mappings

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
        if mapped is None or not size or self.hv_iommu_meets(hvdom, iova, size):
            return -EINVAL
        mappings = self.hv_iommu_alloc_mappings(-(-size // SZ_1M), gfp)
        if mappings is None:
            return -ENOMEM
        done, status = size >> PAGE_SHIFT, 0
        if not hvdom.attached_dom:
            done, status = self.hv_iommu_map_range(hvdom, iova, paddr, done, self.hv_iommu_map_flags(prot), gfp)
        mapped[0] = done << PAGE_SHIFT
        for number, mapping in enumerate(mappings):
            at = number * SZ_1M
            if at < mapped[0]:
                self.hv_iommu_insert(hvdom, mapping, iova + at, paddr + at, min(SZ_1M, mapped[0] - at))
            else:
                self.kernel.kfree(mapping)
        return self.kernel.hv_result_to_errno(status)

    def attach_count(self, domain: IommuDomain) -> int | None:  # type: ignore[override]
        return None


class WholeNodes(Repaired):
    """One node for each map call; an unmap takes whole nodes, and says so: its answer can be more than was asked.

    A request that does not begin at a node's start is refused. As virtio-iommu's ``viommu_del_mappings``.
    """

    name = "honest-whole"
    summary = "honest: unmaps whole nodes only, and says how much that was"
    overstates: ClassVar[bool] = True

    def hv_iommu_whole(self, hvdom: HvDomain, iova: int, size: int) -> int:
        """How many bytes the nodes have that follow each other from ``iova`` on and begin before ``iova + size``; 0 if none begins
        at ``iova``."""
        at = iova
        while at < iova + size and at <= U64:
            node = hvdom.mappings_tree.iter_first(at, at)
            if node is None or node.start != at:
                break
            at = node.last + 1
        return at - iova

    def hv_iommu_unmap_pages(self, immdom: IommuDomain, iova: int, pgsize: int, pgcount: int) -> int:
        hvdom, asked = to_hv_domain(immdom), pgsize * pgcount
        if not asked or (iova | asked) & (SZ_4K - 1) or iova + asked - 1 > U64:
            return 0
        size = self.hv_iommu_whole(hvdom, iova, asked)
        done = size
        if not hvdom.attached_dom:
            done = self.hv_iommu_unmap_range(hvdom, iova, size >> PAGE_SHIFT) << PAGE_SHIFT
        self.hv_iommu_cut(hvdom, iova, done, None)
        return done if self.overstates else min(done, asked)


class SaysLess(WholeNodes):
    """Unmaps whole nodes and answers no more than was asked: the caller believes in mappings that are gone."""

    name = "liar"
    summary = "lies: unmaps whole nodes and says only what was asked"
    overstates = False


HONEST = (SplitsNodes, WholeNodes)
