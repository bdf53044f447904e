"""Variants with the catalogue's defects of domains (section C), and of probe, initialisation and options (section D)."""

from __future__ import annotations

from dataclasses import replace

from hvmodel.drivers.repaired import Repaired
from hvmodel.drivers.repaired.objects import Deposits, HvDomain, aperture, to_hv_domain
from hvmodel.drivers.variants.registry import variant
from hvmodel.hypervisor.abi import HV_DEVICE_DOMAIN_ID_S2_DEFAULT, HV_STATUS_OPERATION_DENIED, HV_STATUS_SUCCESS, U32
from hvmodel.kernel.iommu import ENODEV, ENOMEM, GFP_KERNEL, Device, IommuDomain, IommuOps
from hvmodel.kernel.sscanf import sscanf


@variant("D56-free-current-thread", "lifetime")
class FreeCurrentThread(Repaired):
    """Whether a domain is deleted depends on who frees it: a thread of a VMM does not, any other does.

    So a domain of the hypervisor can stay, and a direct-attach domain, whose id the hypervisor never heard of, is deleted.
    """

    def hv_iommu_domain_alloc_paging(self, dev: Device) -> IommuDomain | int:
        domain = super().hv_iommu_domain_alloc_paging(dev)
        if isinstance(domain, IommuDomain) and to_hv_domain(domain).attached_dom:
            self.hv_iommu_new_id(to_hv_domain(domain))
        return domain

    def hv_iommu_domain_free(self, immdom: IommuDomain) -> None:
        hvdom = to_hv_domain(immdom)
        if not self.hv_special_domain(hvdom) and hvdom.attached_dom and not self.hv_iommu_get_curr_partid():
            super().hv_iommu_delete_hyp_devdom(hvdom)
        super().hv_iommu_domain_free(immdom)

    def hv_iommu_delete_hyp_devdom(self, hvdom: HvDomain) -> int:
        return HV_STATUS_SUCCESS if self.hv_iommu_get_curr_partid() else super().hv_iommu_delete_hyp_devdom(hvdom)


@variant("D62-delete-ignored", "error path")
class DeleteIgnored(Repaired):
    """A refused delete is logged, and the domain forgotten."""

    def hv_iommu_delete_hyp_devdom(self, hvdom: HvDomain) -> int:
        status = super().hv_iommu_delete_hyp_devdom(hvdom)
        if status:
            self.kernel.hv_status_err(status, "hv_iommu_domain_free", "")
        return HV_STATUS_SUCCESS


@variant("D68-blocking-is-paging", "lifetime")
class BlockingIsPaging(Repaired):
    """No blocking domain is offered, so the core takes an empty paging one: for a VMM's thread that is its guest's memory."""

    def ops(self) -> IommuOps:
        return replace(super().ops(), blocked_domain=None)


@variant("D70-l1vh-noattdev", "lifetime")
class L1vhNoattdev(Repaired):
    """``hv_no_attdev`` on an L1VH creates a device domain, which an L1VH cannot have."""

    def hv_iommu_domain_alloc_paging(self, dev: Device) -> IommuDomain | int:
        if not self.kernel.l1vh or not self.hv_no_attdev:
            return super().hv_iommu_domain_alloc_paging(dev)
        hvdom = self.kernel.kzalloc(HvDomain, GFP_KERNEL)
        if hvdom is None:
            return -ENOMEM
        status = self.hv_iommu_create(hvdom, Deposits())
        self.kernel.hv_status_err(status, "hv_iommu_domain_alloc_paging", "")
        self.kernel.kfree(hvdom)
        return self.hv_iommu_errno(status)


@variant("D72-id-decrement", "stale state")
class IdDecrement(Repaired):
    """The id counter steps back after a failed create: an id that the hypervisor has already is tried for ever."""

    def hv_iommu_create(self, hvdom: HvDomain, deposits: Deposits) -> int:
        self.hv_iommu_new_id(hvdom)
        status = self.hv_iommu_create_hyp_devdom(hvdom, deposits)
        if status:
            self.unique_id = self.unique_id - 1 & U32
        return status


@variant("D73-id-wrap", "range arithmetic")
class IdWrap(Repaired):
    """At the end of the 32 bits the null domain's id is handed out, then 0 is refused, then ids are that live domains have.

    A direct-attach domain gets an id, too; there the hypervisor is not asked, and nobody refuses it.
    """

    def hv_iommu_create(self, hvdom: HvDomain, deposits: Deposits) -> int:
        hvdom.domid_num = self.unique_id = self.unique_id + 1 & U32
        if hvdom.domid_num == HV_DEVICE_DOMAIN_ID_S2_DEFAULT:
            return HV_STATUS_OPERATION_DENIED
        return self.hv_iommu_create_hyp_devdom(hvdom, deposits)

    def hv_iommu_domain_alloc_paging(self, dev: Device) -> IommuDomain | int:
        domain = super().hv_iommu_domain_alloc_paging(dev)
        if isinstance(domain, IommuDomain) and to_hv_domain(domain).attached_dom:
            to_hv_domain(domain).domid_num = self.unique_id = self.unique_id + 1 & U32
        return domain

    def domain_id(self, domain: IommuDomain) -> int | None:
        return to_hv_domain(domain).domid_num


@variant("D79-null-for-all-errors", "error path")
class NullForAllErrors(Repaired):
    """Every failed allocation answers NULL, which the core takes for a lack of memory."""

    def hv_iommu_domain_alloc_paging(self, dev: Device) -> IommuDomain | int:
        domain = super().hv_iommu_domain_alloc_paging(dev)
        return domain if isinstance(domain, IommuDomain) else -ENOMEM


@variant("D90-skip-inverted", "range arithmetic")
class SkipInverted(Repaired):
    """The parser of the skip list stops when an entry was read."""

    def hv_iommu_skipped(self, dev: Device) -> bool:
        count, _values = sscanf(self.pci_devs_to_skip, " (%x:%x:%x.%x) %n")
        return not count and super().hv_iommu_skipped(dev)


@variant("D91-skip-malformed", "range arithmetic")
class SkipMalformed(Repaired):
    """The first entry of the skip list that cannot be read ends it."""

    def hv_iommu_skipped(self, dev: Device) -> bool:
        rest = self.pci_devs_to_skip
        while rest:
            count, values = sscanf(rest, " (%x:%x:%x.%x) %n")
            if count < 4 or len(values) < 5:
                return False
            if tuple(values[:4]) == (dev.segment, dev.bus, dev.slot, dev.function):
                return True
            rest = rest[values[4] :]
        return False


@variant("D92-setup-return", "context")
class SetupReturn(Repaired):
    """The handlers of the boot options answer 0, "not handled": the kernel warns of an unknown parameter and passes it to init."""

    def setup(self, option: str, value: str) -> int:
        super().setup(option, value)
        return 0


@variant("D93-sysfs-first", "ordering")
class SysfsFirst(Repaired):
    """The sysfs entry is there before the static domains are set up."""

    def hv_iommu_init(self) -> int:
        kernel = self.kernel
        if not kernel.hyperv:
            return -ENODEV
        ret = kernel.iommu_device_sysfs_add("hyperv-iommu")
        if ret:
            kernel.pr_err(f"Hyper-V: iommu_device_sysfs_add failed: {ret}")
            return ret
        self.hv_geometry = aperture(self.hv_iommu_get_width())
        self.hv_initialize_special_domains()
        ret = kernel.iommu_device_register(self.hv_iommu_ops)
        if ret:
            kernel.pr_err(f"Hyper-V: iommu_device_register failed: {ret}")
            kernel.iommu_device_sysfs_remove()
        return ret


@variant("D98-no-msi-region", "range arithmetic")
class NoMsiRegion(Repaired):
    """The interrupt window is not reserved: what is mapped there is never reached by DMA."""

    def ops(self) -> IommuOps:
        return replace(super().ops(), get_resv_regions=None)


@variant("D100-aperture-all-ones", "range arithmetic")
class ApertureAllOnes(Repaired):
    """All 64 bits of address are announced, whatever the hardware takes."""

    def hv_iommu_get_width(self) -> int:
        return 64
