"""Variants with the catalogue's defects of attach, detach and release (section C), and of names."""

from __future__ import annotations

from hvmodel.drivers.repaired import Repaired
from hvmodel.drivers.repaired.objects import Deposits, HvDevice, HvDomain, to_hv_domain
from hvmodel.drivers.variants.registry import variant
from hvmodel.hypervisor import abi
from hvmodel.hypervisor.abi import HV_STATUS_SUCCESS, U32
from hvmodel.kernel.iommu import Device, IommuDomain


@variant("D13-no-deposit-elsewhere", "error path")
class NoDepositElsewhere(Repaired):
    """Creating a domain and attaching a device never deposit the memory that they are asked for."""

    def hv_iommu_deposit(self, status: int, deposits: Deposits, payer: int, pages: int = 1) -> bool:
        return pages > 1 and super().hv_iommu_deposit(status, deposits, payer, pages)


# --- counts -----------------------------------------------------------------------------------------------------------------


@variant("D50-detach-count", "count")
class DetachCount(Repaired):
    """The count goes down although the device could not be detached."""

    def uncount(self, status: int, hvdevs: list[HvDevice]) -> int:
        for hvdev in hvdevs:
            if status and hvdev.domain is not None:
                hvdev.domain.num_attchd = hvdev.domain.num_attchd - 1 & U32
        return status

    def hv_iommu_det_dev_from_dom(self, pdev: Device) -> int:
        status = super().hv_iommu_det_dev_from_dom(pdev)
        return self.uncount(status, [hvdev for hvdev in self.hv_devs if hvdev.pdev is pdev])

    def hv_iommu_det_dev_from_guest(self, hvdom: HvDomain, logical: int) -> int:
        status = super().hv_iommu_det_dev_from_guest(hvdom, logical)
        return self.uncount(status, [hvdev for hvdev in self.hv_devs if hvdev.domain is hvdom and hvdev.logical == logical])


@variant("D51-restore-no-count", "count")
class RestoreNoCount(Repaired):
    """A device that goes back to its old domain after a failed attach is not counted there again."""

    def hv_iommu_go_back(self, hvdev: HvDevice, where: HvDomain | None, deposits: Deposits) -> None:
        super().hv_iommu_go_back(hvdev, where, deposits)
        if where is not None and hvdev.domain is where:
            where.num_attchd = where.num_attchd - 1 & U32


@variant("D53-busy-free-silent", "lifetime")
class BusyFreeSilent(Repaired):
    """A free of a domain that counts devices does nothing, and the core cannot know.

    Needs a device that the core has given up: its last attach was refused too often.
    """

    def hv_iommu_domain_free(self, immdom: IommuDomain) -> None:
        if to_hv_domain(immdom).num_attchd:
            self.kernel.pr_err("Hyper-V: can't free busy iommu domain")
            return
        super().hv_iommu_domain_free(immdom)


@variant("D52-count-underflow-leak", "count", beside="D51 and D53")
class CountUnderflowLeak(RestoreNoCount, BusyFreeSilent):
    """A count that is one too low wraps at the next detach, and the domain is busy for ever."""


# --- guests -----------------------------------------------------------------------------------------------------------------


@variant("D54-restore-wrong-partition", "stale state")
class RestoreWrongPartition(Repaired):
    """On the way back a device goes to the guest of the running thread, not to the one it came from."""

    def hv_iommu_go_back(self, hvdev: HvDevice, where: HvDomain | None, deposits: Deposits) -> None:
        if where is None or not where.attached_dom:
            super().hv_iommu_go_back(hvdev, where, deposits)
            return
        right, where.partid = where.partid, self.hv_iommu_get_curr_partid() or where.partid
        super().hv_iommu_go_back(hvdev, where, deposits)
        where.partid = right


@variant("D55-detach-current-partition", "stale state")
class DetachCurrentPartition(Repaired):
    """A device is taken from the guest of the running thread, whoever has it."""

    def hv_iommu_det_dev_from_guest(self, _hvdom: HvDomain, logical: int) -> int:
        return self.hv_iommu_hypercall(
            abi.HVCALL_DETACH_DEVICE, abi.DETACH_DEVICE, self.hv_iommu_get_curr_partid(), logical, deposits=None
        )


# --- moving -----------------------------------------------------------------------------------------------------------------


@variant("D57-destructive-detach", "ordering")
class DestructiveDetach(Repaired):
    """The device leaves its old domain before an attach that can fail, and there is no way back."""

    def hv_iommu_move(self, hvdev: HvDevice, hvdom: HvDomain, tries: int, deposits: Deposits) -> int:
        where = self.hv_iommu_where(hvdev)
        if where is None or where is hvdom or self.hv_special_domain(where) or where.attached_dom:
            return super().hv_iommu_move(hvdev, hvdom, tries, deposits)
        self.hv_iommu_att_dev2dom(self.hv_blocked_dom, hvdev.pdev, deposits)
        self.hv_iommu_moved(hvdev, self.hv_blocked_dom)
        return super().hv_iommu_move(hvdev, hvdom, tries, deposits)


@variant("D58-nonatomic-replace", "ordering")
class NonatomicReplace(Repaired):
    """A device is detached before it is attached, so on its way it is wherever a detach leads: in default it reaches everything."""

    def hv_iommu_move(self, hvdev: HvDevice, hvdom: HvDomain, tries: int, deposits: Deposits) -> int:
        where = self.hv_iommu_where(hvdev)
        if where is None or where is hvdom or self.kernel.l1vh:
            return super().hv_iommu_move(hvdev, hvdom, tries, deposits)
        if where.attached_dom:
            left = not self.hv_iommu_take_back(hvdev, where)
        else:
            left = not self.hv_iommu_det_dev_from_dom(hvdev.pdev)
        status = self.hv_iommu_enter(hvdev, hvdom, None, deposits)
        if not status:
            self.hv_iommu_moved(hvdev, hvdom)
        elif left and tries == 1:
            self.kernel.hv_status_err(status, "hv_iommu_attach_dev", "")
            self.hv_iommu_go_back(hvdev, where, deposits)
        else:
            status = super().hv_iommu_move(hvdev, hvdom, tries, deposits)
        return status


@variant("D59-stale-priv-uaf", "stale state")
class StalePriv(Repaired):
    """A device that could not leave goes on naming its domain after that is freed."""

    def hv_iommu_bury(self, hvdom: HvDomain, _deposits: Deposits) -> bool:
        if not hvdom.attached_dom:
            self.hv_iommu_delete_hyp_devdom(hvdom)
            self.hv_domains.remove(hvdom)
        self.hv_iommu_drop_mappings(hvdom)
        self.kernel.kfree(hvdom)
        return True


@variant("D60-detach-failure-ignored", "error path")
class DetachFailureIgnored(Repaired):
    """That a guest did not give the device back is logged and forgotten."""

    def hv_iommu_take_back(self, hvdev: HvDevice, hvdom: HvDomain) -> int:
        super().hv_iommu_take_back(hvdev, hvdom)
        return HV_STATUS_SUCCESS


@variant("D61-special-attach-can-fail", "error path")
class SpecialAttachCanFail(Repaired):
    """An attach of a static domain gives up at the first refusal, like any other."""

    def hv_iommu_attach_dev(self, immdom: IommuDomain, dev: Device, _old: IommuDomain | None) -> int:
        hvdev: HvDevice = self.kernel.dev_iommu_priv_get(dev)
        status = self.hv_iommu_move(hvdev, to_hv_domain(immdom), 1, Deposits())
        return self.hv_iommu_errno(status) if status else 0


# --- release and L1VH ---------------------------------------------------------------------------------------------------------


@variant("D64-release-not-parked", "lifetime")
class ReleaseNotParked(Repaired):
    """Release only detaches: where the device is then is up to the hypervisor."""

    def hv_iommu_release_device(self, dev: Device) -> None:
        hvdev: HvDevice = self.kernel.dev_iommu_priv_get(dev)
        where = self.hv_iommu_where(hvdev)
        if self.kernel.l1vh or where is None or where.attached_dom or self.hv_iommu_aliases(hvdev):
            super().hv_iommu_release_device(dev)
            return
        if not self.hv_iommu_det_dev_from_dom(dev):
            self.hv_iommu_moved(hvdev, None)
        self.hv_iommu_lose(hvdev, shared=False)


@variant("D65-l1vh-release", "lifetime")
class L1vhRelease(Repaired):
    """On an L1VH release detaches from a device domain, which an L1VH does not have, and counts down what never went up."""

    l1vh_count = 0

    def hv_iommu_release_device(self, dev: Device) -> None:
        if self.kernel.l1vh:
            self.hv_iommu_det_dev_from_dom(dev)
            self.l1vh_count = self.l1vh_count - 1 & U32
        super().hv_iommu_release_device(dev)

    def attach_count(self, domain: IommuDomain) -> int:
        identity = to_hv_domain(domain) is self.hv_def_identity_dom
        return self.l1vh_count if self.kernel.l1vh and identity else super().attach_count(domain)


@variant("D66-l1vh-special-noop", "stale state")
class L1vhSpecialNoop(Repaired):
    """On an L1VH attaching a static domain does nothing: a "blocked" device stays with its guest."""

    def hv_iommu_enter(self, hvdev: HvDevice, hvdom: HvDomain, where: HvDomain | None, deposits: Deposits) -> int:
        special = self.kernel.l1vh and not hvdom.attached_dom
        return HV_STATUS_SUCCESS if special else super().hv_iommu_enter(hvdev, hvdom, where, deposits)


@variant("D81-priv-set-contract", "context")
class PrivSetContract(Repaired):
    """The private pointer is set in attach and release, where the core does not hold its lock."""

    def hv_iommu_attach_dev(self, immdom: IommuDomain, dev: Device, old: IommuDomain | None) -> int:
        ret = super().hv_iommu_attach_dev(immdom, dev, old)
        self.kernel.dev_iommu_priv_set(dev, self.kernel.dev_iommu_priv_get(dev))
        return ret

    def hv_iommu_release_device(self, dev: Device) -> None:
        super().hv_iommu_release_device(dev)
        self.kernel.dev_iommu_priv_set(dev, None)


@variant("D83-segment-16bit", "encoding")
class Segment16Bit(Repaired):
    """A device behind a VMD, whose PCI segment has more than 16 bits, gets the id of another device."""

    def hv_iommu_nameable(self, dev: Device) -> bool:
        return True


@variant("D84-pci-id-zero", "encoding")
class PciIdZero(Repaired):
    """All devices have PCI id 0, as they do off x86."""

    def hv_iommu_host_devid(self, pdev: Device) -> int:
        return super().hv_iommu_host_devid(pdev) if self.kernel.l1vh else abi.device_id(abi.HV_DEVICE_TYPE_PCI, 0)
