"""Domains: ids that are never used twice at a time, and a free that does not forget what the hypervisor refused to delete."""

from __future__ import annotations

from hvmodel.drivers.repaired.devices import Devices
from hvmodel.drivers.repaired.mappings import Mappings
from hvmodel.drivers.repaired.objects import (
    HV_DEAD_AT_ONCE,
    HV_ID_TAKEN,
    HV_ID_TRIES,
    HV_IOMMU_PGSIZES,
    HV_STATIC_TRIES,
    Deposits,
    HvDomain,
    to_hv_domain,
)
from hvmodel.hypervisor.abi import (
    HV_DEVICE_DOMAIN_ID_S2_DEFAULT,
    HV_DEVICE_DOMAIN_ID_S2_NULL,
    HV_PARTITION_ID_INVALID,
    HV_STATUS_OBJECT_IN_USE,
    HV_STATUS_SUCCESS,
    U32,
)
from hvmodel.kernel.iommu import ENODEV, ENOMEM, GFP_KERNEL, Device, Geometry, IommuDomain
from hvmodel.kernel.services import SpinLock


class Domains(Devices, Mappings):
    """``domain_alloc_paging`` and ``free``."""

    unique_id: int
    hv_no_attdev: bool
    hv_geometry: Geometry
    hv_lock: SpinLock
    hv_domains: list[HvDomain]
    """Domains with an id in the hypervisor: live ones, and freed ones that could not be deleted yet."""

    def hv_iommu_get_curr_partid(self) -> int:
        """The partition of the VM that the current process manages, or HV_PARTITION_ID_INVALID."""
        fn = self.kernel.symbol_get("mshv_pid_to_partid")
        return HV_PARTITION_ID_INVALID if fn is None else fn(self.kernel.current_tgid())

    # --- ids ----------------------------------------------------------------------------------------------------------------

    def hv_iommu_new_id(self, hvdom: HvDomain) -> None:
        """The next id that is not reserved and that no domain has which may be alive. It never steps back. (D71, D72, D73)"""
        flags = self.kernel.spin_lock_irqsave(self.hv_lock)
        taken = {HV_DEVICE_DOMAIN_ID_S2_DEFAULT, HV_DEVICE_DOMAIN_ID_S2_NULL, *(other.domid_num for other in self.hv_domains)}
        while True:
            self.unique_id = self.unique_id + 1 & U32
            if self.unique_id not in taken:
                break
        hvdom.domid_num = self.unique_id
        self.kernel.spin_unlock_irqrestore(self.hv_lock, flags)

    def hv_iommu_create(self, hvdom: HvDomain, deposits: Deposits) -> int:
        """Create the domain under an id that the hypervisor does not know: an earlier kernel may have left some. Returns the
        result code. (D72)"""
        status = HV_STATUS_SUCCESS
        for _ in range(HV_ID_TRIES):
            self.hv_iommu_new_id(hvdom)
            status = self.hv_iommu_create_hyp_devdom(hvdom, deposits)
            if status not in HV_ID_TAKEN:
                break
        return status

    # --- the ops ------------------------------------------------------------------------------------------------------------

    def hv_iommu_domain_alloc_paging(self, _dev: Device) -> IommuDomain | int:
        """The op: a domain or a negative errno. (D79)

        For a thread of a VMM the domain stands for its guest. An L1VH can do nothing else, so ``hv_no_attdev`` does not apply
        there. (D70)
        """
        kernel = self.kernel
        deposits = Deposits()
        self.hv_iommu_bury_dead(deposits)
        partid = HV_PARTITION_ID_INVALID
        if kernel.l1vh or not self.hv_no_attdev:
            partid = self.hv_iommu_get_curr_partid()
        if kernel.l1vh and partid == HV_PARTITION_ID_INVALID:
            kernel.pr_err("Hyper-V: an L1VH has no IOMMU domains for the host")
            return -ENODEV

        hvdom = kernel.kzalloc(HvDomain, GFP_KERNEL)
        if hvdom is None:
            return -ENOMEM
        hvdom.partid = partid
        hvdom.iommu_dom.geometry = self.hv_geometry
        hvdom.iommu_dom.pgsize_bitmap = HV_IOMMU_PGSIZES
        if not hvdom.attached_dom:
            status = self.hv_iommu_create(hvdom, deposits)
            if status:
                kernel.hv_status_err(status, "hv_iommu_domain_alloc_paging", "")
                kernel.kfree(hvdom)
                return self.hv_iommu_errno(status)
            self.hv_domains.append(hvdom)
        return hvdom.iommu_dom

    def hv_iommu_domain_free(self, immdom: IommuDomain) -> None:
        """The op. The core has dropped the domain whatever happens here, so there is no "busy": a device that is stuck in it
        is taken out first. (D53, D61)

        If the hypervisor refuses that, or the delete, object and id are kept and both are tried again later. (D62)
        """
        hvdom = to_hv_domain(immdom)
        if self.hv_special_domain(hvdom):
            return
        self.hv_dead_doms.append(hvdom)
        self.hv_iommu_bury_dead(Deposits())

    # --- after the end ------------------------------------------------------------------------------------------------------

    def hv_iommu_evict(self, hvdom: HvDomain | None, deposits: Deposits) -> bool:
        """Block the devices that are still in a domain, or (None) the released ones that are adrift; returns whether none is left.
        (D59)"""
        for hvdev in self.hv_devs[:]:
            if hvdev in self.hv_devs and hvdev.domain is hvdom and (hvdom is not None or (hvdev.released and hvdev.adrift)):
                self.hv_iommu_move(hvdev, self.hv_blocked_dom, HV_STATIC_TRIES, deposits)
                if hvdev in self.hv_devs and hvdev.domain is hvdom:
                    return False
        return True

    def hv_iommu_bury(self, hvdom: HvDomain, deposits: Deposits) -> bool:
        """Delete a domain that the core has freed; returns whether it is gone for good. Mappings that are left are legal: they go
        with the domain, or before it if the hypervisor wants that. (D32)"""
        if not self.hv_iommu_evict(hvdom, deposits):
            return False
        if not hvdom.attached_dom:
            status = self.hv_iommu_delete_hyp_devdom(hvdom)
            if status == HV_STATUS_OBJECT_IN_USE and self.hv_iommu_unmap_all(hvdom):
                status = self.hv_iommu_delete_hyp_devdom(hvdom)
            if status:
                self.kernel.hv_status_err(status, "hv_iommu_bury", "")
                return False
            self.hv_domains.remove(hvdom)
        self.hv_iommu_drop_mappings(hvdom)
        self.kernel.kfree(hvdom)
        return True

    def hv_iommu_bury_dead(self, deposits: Deposits) -> None:
        """Try the newest dead domain first, then others, until one is refused again; and park what has no place."""
        for hvdom in self.hv_dead_doms[: -HV_DEAD_AT_ONCE - 1 : -1]:
            if not self.hv_iommu_bury(hvdom, deposits):
                break
            self.hv_dead_doms.remove(hvdom)
        self.hv_iommu_evict(None, deposits)

    def hv_iommu_bury_left(self) -> None:
        """Free the dead direct-attach domains that devices have left since: that takes no hypercall."""
        for hvdom in self.hv_dead_doms[:]:
            if hvdom.attached_dom and all(hvdev.domain is not hvdom for hvdev in self.hv_devs):
                self.hv_dead_doms.remove(hvdom)
                self.hv_iommu_drop_mappings(hvdom)
                self.kernel.kfree(hvdom)

    def hv_iommu_release_device(self, dev: Device) -> None:
        super().hv_iommu_release_device(dev)
        self.hv_iommu_bury_left()
