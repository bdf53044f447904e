"""Own variants: devices. One mistake each in where a device is, how it gets there, and who is counted."""

from __future__ import annotations

from hvmodel.drivers.repaired import Repaired
from hvmodel.drivers.repaired.objects import (
    HV_MUST_LEAVE,
    HV_NOT_THERE,
    HV_STATIC_TRIES,
    Deposits,
    HvDevice,
    HvDomain,
    to_hv_domain,
)
from hvmodel.drivers.variants.registry import variant
from hvmodel.hypervisor import abi
from hvmodel.hypervisor.abi import HV_STATUS_INVALID_DEVICE_ID, HV_STATUS_SUCCESS, U32
from hvmodel.kernel.iommu import Device, IommuDomain


@variant("O19-name-of-other-function", "encoding")
class NameOfOtherFunction(Repaired):
    """A device is taken back from its guest by the name of the function that asks, not of the one that was given.

    They are one function, but behind a bridge. Needs two functions with one requester id, the first one given to a guest and the
    second one asking for it. The hypervisor knows no such device, which reads as "the guest is gone", and the guest keeps it.
    """

    def hv_iommu_take_back(self, hvdev: HvDevice, hvdom: HvDomain) -> int:
        status = self.hv_iommu_det_dev_from_guest(hvdom, self.hv_iommu_logical_devid(hvdev.pdev))
        if status in HV_NOT_THERE:
            self.kernel.pr_info(f"Hyper-V: {hvdev.pdev.name}: its guest is gone")
            return HV_STATUS_SUCCESS
        if status:
            self.kernel.hv_status_err(status, "hv_iommu_take_back", "")
        return status


@variant("O20-lost-from-sight", "stale state")
class LostFromSight(Repaired):
    """Where a device was when its bus died is forgotten when it is probed again.

    What is left of a released function looks like garbage that only free needs. Needs an L1VH, a device that vanishes while a
    guest has it, and its return. The driver thinks that nobody has it, and the guest still does.
    """

    def hv_iommu_last_seen(self, hvdev: HvDevice) -> HvDomain | None:
        return None


@variant("O21-way-back-is-success", "error path")
class WayBackIsSuccess(Repaired):
    """An attach that failed answers what the way back answered.

    One ``status`` for both, and the way back succeeded. Needs a device that has to leave first, a new place that then refuses it,
    and an old one that takes it back. The core believes the device in a domain where it is not.
    """

    went_back = False

    def hv_iommu_go_back(self, hvdev: HvDevice, where: HvDomain | None, deposits: Deposits) -> None:
        super().hv_iommu_go_back(hvdev, where, deposits)
        self.went_back = hvdev.domain is not None

    def hv_iommu_move(self, hvdev: HvDevice, hvdom: HvDomain, tries: int, deposits: Deposits) -> int:
        self.went_back = False
        status = super().hv_iommu_move(hvdev, hvdom, tries, deposits)
        return HV_STATUS_SUCCESS if self.went_back else status


@variant("O22-refused-is-out", "error path")
class RefusedIsOut(Repaired):
    """A device counts as out although the blocking domain refused it for another reason.

    The test for "it has to be detached" has two ways out, and both say yes. Needs "leave first", and then a refusal that lasts: one
    that does not is healed by the way back. The driver loses sight of a device that never left.
    """

    def hv_iommu_leave(self, hvdev: HvDevice, where: HvDomain | None, deposits: Deposits) -> bool:
        guest = where is not None and where.attached_dom
        for _ in range(0 if self.kernel.l1vh else 1 if guest else 2):
            status = self.hv_iommu_att_dev2dom(self.hv_blocked_dom, hvdev.pdev, deposits)
            if status not in HV_MUST_LEAVE:
                return True
        self.kernel.pr_info(f"Hyper-V: {hvdev.pdev.name} has to be detached before it can move")
        if where is not None and where.attached_dom:
            return self.hv_iommu_take_back(hvdev, where) == HV_STATUS_SUCCESS
        if self.kernel.l1vh:
            return False
        status = self.hv_iommu_det_dev_from_dom(hvdev.pdev)
        if status:
            self.kernel.hv_status_err(status, "hv_iommu_leave", "")
        return status == HV_STATUS_SUCCESS


@variant("O23-static-says-yes", "error path")
class StaticSaysYes(Repaired):
    """Attaching a static domain answers 0 even if every try was refused.

    The core allows no error there, so none is given; the log has it. Needs a hypervisor that refuses three times. The core
    believes the device blocked, gives its memory to others, and the device still reaches it.
    """

    def hv_iommu_attach_dev(self, immdom: IommuDomain, dev: Device, _old: IommuDomain | None) -> int:
        ret = super().hv_iommu_attach_dev(immdom, dev, _old)
        return 0 if self.hv_special_domain(to_hv_domain(immdom)) else ret


@variant("O24-own-pocket", "encoding")
class OwnPocket(Repaired):
    """What a direct attach needs is deposited into the own partition, not into the guest's.

    The helper pays for the caller unless it is told who, and here it is not. Needs a guest whose pool is empty. However much is
    deposited, the attach fails, and the memory stays where nobody asked for it.
    """

    def hv_iommu_direct_attach_device(self, hvdom: HvDomain, pdev: Device, deposits: Deposits) -> int:
        return self.hv_iommu_hypercall(
            abi.HVCALL_ATTACH_DEVICE,
            abi.ATTACH_DEVICE,
            *(hvdom.partid, self.hv_iommu_host_devid(pdev), abi.ATTDEV_FLAG_LOGICAL_ID, 0, 0, 0),
            *(self.hv_iommu_logical_devid(pdev), 0, 0, 0),
            deposits=deposits,
        )


@variant("O25-alias-stays-counted", "count")
class AliasStaysCounted(Repaired):
    """A released function stays counted while another one with its id works.

    The device has not moved, so it seems that no count has to. Needs two functions behind one id and the release of one. The
    count of the static domain is too high from then on, and so is what is derived from it.
    """

    def hv_iommu_lose(self, hvdev: HvDevice, shared: bool) -> None:
        if shared:
            hvdev.released = True
            self.hv_iommu_forget(hvdev)
        else:
            super().hv_iommu_lose(hvdev, shared)


@variant("O26-release-parks-alias", "lifetime")
class ReleaseParksAlias(Repaired):
    """Releasing a function parks the device though another function with its id still works.

    ``by_alias`` seems to say whether the id is shared; it says who asked last. Needs two functions behind one id and the release
    of one. The other one is blocked under the feet of its driver.
    """

    def hv_iommu_release_device(self, dev: Device) -> None:
        hvdev: HvDevice = self.kernel.dev_iommu_priv_get(dev)
        shared = hvdev.by_alias
        if not shared:
            self.hv_iommu_move(hvdev, self.hv_blocked_dom, HV_STATIC_TRIES, Deposits())
        self.hv_iommu_lose(hvdev, shared)


@variant("O27-dead-guest-keeps", "error path")
class DeadGuestKeeps(Repaired):
    """A device cannot be taken back from a guest that was deleted.

    "No such device" means that the guest is gone; that "no such partition" means it, too, was missed, because a guest that was
    only finalised answers the first. Needs an L1VH and a deleted guest. The device never gets out of a domain of the dead.
    """

    def hv_iommu_take_back(self, hvdev: HvDevice, hvdom: HvDomain) -> int:
        logical = next((dev.logical for dev in (hvdev, *self.hv_iommu_aliases(hvdev)) if dev.domain is hvdom), 0)
        status = self.hv_iommu_det_dev_from_guest(hvdom, logical)
        if status == HV_STATUS_INVALID_DEVICE_ID:
            self.kernel.pr_info(f"Hyper-V: {hvdev.pdev.name}: its guest is gone")
            return HV_STATUS_SUCCESS
        if status:
            self.kernel.hv_status_err(status, "hv_iommu_take_back", "")
        return status


@variant("O28-ghost-of-itself", "stale state")
class GhostOfItself(Repaired):
    """A device that vanished without a word keeps its old object when it is probed again.

    Release cleans up, so probe need not. Needs a bus that dies and comes back. The device is its own alias from then on: it is
    believed where it was, counted twice, and its release does nothing.
    """

    def hv_iommu_probe_device(self, dev: Device) -> int:
        old, self.hv_devs = self.hv_devs, []  # which are not looked at
        ret = super().hv_iommu_probe_device(dev)
        self.hv_devs = old + self.hv_devs
        return ret


@variant("O29-counts-the-gone", "count")
class CountsTheGone(Repaired):
    """A released function that was stuck is counted once more when it gets out.

    Its count was given back when Linux lost it. Needs a detach that is refused for ever, a release that is refused as well, and a
    later free that succeeds. Both counts are wrong; that of the blocking domain never comes down again.
    """

    def hv_iommu_set_domain(self, hvdev: HvDevice, hvdom: HvDomain | None) -> None:
        if hvdev.domain is not None:
            hvdev.domain.num_attchd = hvdev.domain.num_attchd - 1 & U32
        if hvdom is not None:
            hvdom.num_attchd = hvdom.num_attchd + 1 & U32
        hvdev.domain = hvdom


@variant("O30-looked-at-once-more", "lifetime")
class LookedAtOnceMore(Repaired):
    """Whether a device is out of a dead domain is read from an object that may be gone with it.

    Moving frees what is left of a released function, and the loop asks it where it is. Needs a detach that is refused for ever, a
    release that is refused as well, and a later free that succeeds. Freed memory decides whether the domain is deleted.
    """

    def hv_iommu_evict(self, hvdom: HvDomain | None, deposits: Deposits) -> bool:
        for hvdev in self.hv_devs[:]:
            if hvdev in self.hv_devs and hvdev.domain is hvdom and (hvdom is not None or (hvdev.released and hvdev.adrift)):
                self.hv_iommu_move(hvdev, self.hv_blocked_dom, HV_STATIC_TRIES, deposits)
                if hvdev.domain is hvdom:
                    return False
        return True


@variant("O31-same-guest", "stale state")
class SameGuest(Repaired):
    """Moving between two domains of one guest asks nobody.

    The device is with that guest already. Needs a guest that ends between the two attaches: nobody told the driver. The attach
    answers 0, and the device is in the default domain, where it reaches all of the host's memory.
    """

    def hv_iommu_enter(self, hvdev: HvDevice, hvdom: HvDomain, where: HvDomain | None, deposits: Deposits) -> int:
        if hvdom.attached_dom and where is not None and where.partid == hvdom.partid:
            return HV_STATUS_SUCCESS
        return super().hv_iommu_enter(hvdev, hvdom, where, deposits)


@variant("O32-way-back-counts", "count")
class WayBackCounts(Repaired):
    """The way back counts a device that was never taken off the count.

    Leaving used to uncount. Needs a device that has to leave first, a new place that then refuses it, and an old one that takes it
    back. The old domain seems to be in use when its last device is gone.
    """

    def hv_iommu_go_back(self, hvdev: HvDevice, where: HvDomain | None, deposits: Deposits) -> None:
        super().hv_iommu_go_back(hvdev, where, deposits)
        if where is not None and hvdev.domain is where:
            where.num_attchd = where.num_attchd + 1 & U32


@variant("O33-detach-first", "ordering")
class DetachFirst(Repaired):
    """A device that has to leave is detached, and blocked only if that fails.

    The hypervisor said "detach it first", so this is done first. Needs such an answer where blocking would have done, even once.
    On its way from one domain to the other the device is in the default one and reaches everything.
    """

    def hv_iommu_leave(self, hvdev: HvDevice, where: HvDomain | None, deposits: Deposits) -> bool:
        guest = where is not None and where.attached_dom
        if not guest and not self.kernel.l1vh and not self.hv_iommu_det_dev_from_dom(hvdev.pdev):
            return True
        return super().hv_iommu_leave(hvdev, where, deposits)


@variant("O34-nowhere-is-somewhere", "stale state")
class NowhereIsSomewhere(Repaired):
    """A device that could neither move nor go back is still noted where it was.

    The note is taken when something worked, and here nothing did. Needs a device that had to be detached and is refused
    everywhere. The next attach to the old domain answers 0 and does nothing.
    """

    def hv_iommu_moved(self, hvdev: HvDevice, hvdom: HvDomain | None) -> None:
        if hvdom is not None:
            super().hv_iommu_moved(hvdev, hvdom)


@variant("O48-latecomer-has-no-name", "stale state")
class LatecomerHasNoName(Repaired):
    """A function that is probed while its alias is with a guest does not learn by which name the guest knows the device.

    Where the device is was noted, and that seemed to be all. Needs two functions behind one id, one of them plugged in while a
    guest has the other, and a call for the latecomer. The name 0 is unknown, which reads as "the guest is gone".
    """

    def hv_iommu_note_alias(self, hvdev: HvDevice, hvdom: HvDomain) -> None:
        if hvdev.domain is None:
            self.hv_iommu_set_domain(hvdev, hvdom)
        hvdev.by_alias = False


@variant("O49-old-is-believed", "stale state")
class OldIsBelieved(Repaired):
    """Where a device is, the core knows best: it hands over ``old``.

    It does not know of a static attach that failed. Needs a hypervisor that refuses that one and the next. The device is noted
    where it is not: counts are wrong, and nobody takes it out of a domain that is freed.
    """

    def hv_iommu_attach_dev(self, immdom: IommuDomain, dev: Device, _old: IommuDomain | None) -> int:
        hvdev: HvDevice = self.kernel.dev_iommu_priv_get(dev)
        if _old is not None and hvdev.domain is not to_hv_domain(_old):
            self.hv_iommu_set_domain(hvdev, to_hv_domain(_old))
        return super().hv_iommu_attach_dev(immdom, dev, _old)
