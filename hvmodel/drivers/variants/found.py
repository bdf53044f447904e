"""Variants with defects of the posted driver that the harness found and the catalogue does not have (N..)."""

from __future__ import annotations

from hvmodel.drivers.repaired import Repaired
from hvmodel.drivers.repaired.objects import SZ_4K, Deposits, HvDevice, HvDomain, to_hv_domain
from hvmodel.drivers.variants.catalogue_pages import delete_nodes
from hvmodel.drivers.variants.registry import variant
from hvmodel.hypervisor.abi import (
    HV_PARTITION_ID_INVALID,
    HV_STATUS_DEVICE_ALREADY_IN_DOMAIN,
    HV_STATUS_INVALID_PARTITION_ID,
    HV_STATUS_OBJECT_IN_USE,
    PAGE_SHIFT,
)
from hvmodel.kernel.iommu import IommuDomain


@variant("N01-attach-current-partition", "stale state")
class AttachCurrentPartition(Repaired):
    """A device attached to a direct domain goes to the guest of whoever attaches it, not to the one it was made for.

    A worker without a VM cannot attach it at all. The catalogue has the same of the way back (D54), detach (D55) and free (D56).
    """

    def hv_iommu_direct_attach_device(self, hvdom: HvDomain, pdev: object, deposits: Deposits) -> int:
        right, hvdom.partid = hvdom.partid, self.hv_iommu_get_curr_partid()
        if hvdom.partid == HV_PARTITION_ID_INVALID:
            self.kernel.pr_err("Hyper-V: Invalid partition id in direct attach")
            status = HV_STATUS_INVALID_PARTITION_ID
        else:
            status = super().hv_iommu_direct_attach_device(hvdom, pdev, deposits)  # type: ignore[arg-type]
        hvdom.partid = right
        return status


@variant("N02-second-alias-refused", "error path")
class SecondAliasRefused(Repaired):
    """The second of two functions behind one id cannot be attached: "already there" is taken for a failure.

    The hypervisor sees one device; the first attach has moved both.
    """

    def hv_iommu_note_alias(self, hvdev: HvDevice, hvdom: HvDomain) -> None:
        if hvdev.domain is not hvdom:
            super().hv_iommu_note_alias(hvdev, hvdom)

    def hv_iommu_move(self, hvdev: HvDevice, hvdom: HvDomain, tries: int, deposits: Deposits) -> int:
        if self.hv_iommu_where(hvdev) is hvdom and not self.hv_special_domain(hvdom):
            return HV_STATUS_OBJECT_IN_USE if hvdom.attached_dom else HV_STATUS_DEVICE_ALREADY_IN_DOMAIN
        return super().hv_iommu_move(hvdev, hvdom, tries, deposits)


@variant("N03-unmap-counts-hole", "range arithmetic")
class UnmapCountsHole(Repaired):
    """An unmap that begins in a hole deletes the mappings behind it, and its answer is taken for bytes from the hole on.

    The core goes on behind what it was told, and believes the end of the mapping to be there still.
    """

    def hv_iommu_unmap_pages(self, immdom: IommuDomain, iova: int, pgsize: int, pgcount: int) -> int:
        hvdom, size = to_hv_domain(immdom), pgsize * pgcount
        odd = not size or (iova | size) & (SZ_4K - 1) or iova + size > 1 << 64
        if odd or hvdom.mappings_tree.iter_first(iova, iova) is not None or not self.hv_iommu_meets(hvdom, iova, size):
            return super().hv_iommu_unmap_pages(immdom, iova, pgsize, pgcount)
        if not hvdom.attached_dom:
            self.hv_iommu_unmap_range(hvdom, iova, size >> PAGE_SHIFT)
        return delete_nodes(self, hvdom, iova, size)


@variant("N04-attach-einval", "error path")
class AttachEinval(Repaired):
    """An attach that the hypervisor refuses with "invalid parameter" answers -EINVAL: "try another domain"."""

    def hv_iommu_errno(self, status: int) -> int:
        return self.kernel.hv_result_to_errno(status)
