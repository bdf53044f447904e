"""Devices: one way to move them, which leaves a device where it was or where it should be, and knows which."""

from __future__ import annotations

from hvmodel.drivers.repaired.hypercalls import Hypercalls
from hvmodel.drivers.repaired.objects import (
    HV_MUST_LEAVE,
    HV_NOT_THERE,
    HV_STATIC_TRIES,
    Deposits,
    HvDevice,
    HvDomain,
    to_hv_domain,
)
from hvmodel.hypervisor.abi import HV_STATUS_DEVICE_ALREADY_IN_DOMAIN, HV_STATUS_SUCCESS, U32
from hvmodel.kernel.iommu import EINVAL, Device, IommuDomain


class Devices(Hypercalls):
    """``attach_dev`` and ``release_device``, and what they stand on.

    The posted driver detaches first and attaches then; if the attach fails, the device is in neither domain. Here a device is moved
    in one hypercall. It is made to leave only after the hypervisor has answered that it must, by way of the blocking domain if
    that is possible, and if the new place still refuses it, it goes back. (D57, D58)
    """

    hv_devs: list[HvDevice]
    """Probed functions, and released ones that are stuck in a domain."""
    hv_dead_doms: list[HvDomain]
    """Domains that the core has freed and the hypervisor, or a device in them, has not let go."""
    hv_blocked_dom: HvDomain

    # --- the books --------------------------------------------------------------------------------------------------------

    def hv_special_domain(self, hvdom: HvDomain) -> bool:
        """Whether this is one of the two static domains."""
        raise NotImplementedError

    def hv_iommu_aliases(self, hvdev: HvDevice) -> list[HvDevice]:
        """The other functions that the hypervisor cannot tell from this one, and what is left of released ones."""
        devid = self.hv_iommu_host_devid
        return [other for other in self.hv_devs if other is not hvdev and devid(other.pdev) == devid(hvdev.pdev)]

    def hv_iommu_where(self, hvdev: HvDevice) -> HvDomain | None:
        """The domain that the hypervisor has the device in, by its last answer for it or an alias; None if that is not known."""
        if hvdev.domain is None:
            for other in self.hv_iommu_aliases(hvdev):
                if other.domain is not None and not other.released:
                    return other.domain
        return hvdev.domain

    def hv_iommu_last_seen(self, hvdev: HvDevice) -> HvDomain | None:
        """The domain that a function was in when Linux lost it; it may be there still, when it is back."""
        return next((old.domain for old in self.hv_iommu_aliases(hvdev) if old.released and old.domain is not None), None)

    def hv_iommu_set_domain(self, hvdev: HvDevice, hvdom: HvDomain | None) -> None:
        """Note where one function is. Counts change here and nowhere else. (D50, D51, D52)"""
        if not hvdev.released:
            if hvdev.domain is not None:
                hvdev.domain.num_attchd = hvdev.domain.num_attchd - 1 & U32
            if hvdom is not None:
                hvdom.num_attchd = hvdom.num_attchd + 1 & U32
        hvdev.domain = hvdom

    def hv_iommu_moved(self, hvdev: HvDevice, hvdom: HvDomain | None) -> None:
        """The hypervisor has moved the device, and with it all functions behind the same id."""
        logical = self.hv_iommu_logical_devid(hvdev.pdev)
        for other in [*self.hv_iommu_aliases(hvdev), hvdev]:
            if other.domain is not None or other is hvdev:
                self.hv_iommu_set_domain(other, hvdom)
                other.logical, other.by_alias, other.adrift = logical, other is not hvdev, hvdom is None
            if other.released and (other is not hvdev or (hvdom is not None and self.hv_special_domain(hvdom))):
                self.hv_iommu_forget(other)

    def hv_iommu_note_alias(self, hvdev: HvDevice, hvdom: HvDomain) -> None:
        """The device is there already; from now on this function has been asked about, too."""
        if hvdev.domain is None:
            hvdev.logical = next(dev.logical for dev in self.hv_iommu_aliases(hvdev) if dev.domain is hvdom)
            self.hv_iommu_set_domain(hvdev, hvdom)
        hvdev.by_alias = False

    def hv_iommu_lose(self, hvdev: HvDevice, shared: bool) -> None:
        """Linux is done with the function. The object stays if the device could not be parked, so that it is tried again."""
        last = hvdev.domain
        self.hv_iommu_set_domain(hvdev, None)
        hvdev.released, hvdev.domain = True, last
        if shared or (not hvdev.adrift if last is None else self.hv_special_domain(last)):
            self.hv_iommu_forget(hvdev)

    def hv_iommu_forget(self, hvdev: HvDevice) -> None:
        """Free what is left of a released function."""
        self.hv_devs.remove(hvdev)
        self.kernel.kfree(hvdev)

    # --- moving -----------------------------------------------------------------------------------------------------------

    def hv_iommu_enter(self, hvdev: HvDevice, hvdom: HvDomain, where: HvDomain | None, deposits: Deposits) -> int:
        """Ask for the device to be put into a domain or given to its guest; ``where`` is where it is. Returns the result code.

        An L1VH has no device domains: there both static domains mean "with no guest". What a device with no guest can reach
        there is up to the hypervisor above. (D65, D66)
        """
        if hvdom.attached_dom:
            return self.hv_iommu_direct_attach_device(hvdom, hvdev.pdev, deposits)
        if not self.kernel.l1vh:
            return self.hv_iommu_att_dev2dom(hvdom, hvdev.pdev, deposits)
        if where is not None and where.attached_dom:
            return self.hv_iommu_take_back(hvdev, where)
        return HV_STATUS_SUCCESS

    def hv_iommu_take_back(self, hvdev: HvDevice, hvdom: HvDomain) -> int:
        """Take the device out of its guest; a guest that is gone has let go of it. Returns the result code."""
        logical = next((dev.logical for dev in (hvdev, *self.hv_iommu_aliases(hvdev)) if dev.domain is hvdom), 0)
        status = self.hv_iommu_det_dev_from_guest(hvdom, logical)
        if status in HV_NOT_THERE:
            self.kernel.pr_info(f"Hyper-V: {hvdev.pdev.name}: its guest is gone")
            return HV_STATUS_SUCCESS
        if status:
            self.kernel.hv_status_err(status, "hv_iommu_take_back", "")
        return status

    def hv_iommu_may_leave(self, hvdev: HvDevice, where: HvDomain | None) -> bool:
        """Whether a device can be in the way of an attach: it is not in a static domain, and not adrift."""
        return not hvdev.adrift if where is None else not self.hv_special_domain(where)

    def hv_iommu_leave(self, hvdev: HvDevice, where: HvDomain | None, deposits: Deposits) -> bool:
        """Get the device out of where it is: into the blocking domain, or, if the hypervisor has it no other way, detached. Returns
        whether it is out. (D60)"""
        guest = where is not None and where.attached_dom
        for _ in range(0 if self.kernel.l1vh else 1 if guest else 2):  # a detach may lead anywhere: make sure that it is needed
            status = self.hv_iommu_att_dev2dom(self.hv_blocked_dom, hvdev.pdev, deposits)
            if status not in HV_MUST_LEAVE:
                return status == HV_STATUS_SUCCESS
        self.kernel.pr_info(f"Hyper-V: {hvdev.pdev.name} has to be detached before it can move")
        if where is not None and where.attached_dom:
            return self.hv_iommu_take_back(hvdev, where) == HV_STATUS_SUCCESS
        if self.kernel.l1vh:
            return False
        status = self.hv_iommu_det_dev_from_dom(hvdev.pdev)
        if status:
            self.kernel.hv_status_err(status, "hv_iommu_leave", "")
        return status == HV_STATUS_SUCCESS

    def hv_iommu_go_back(self, hvdev: HvDevice, where: HvDomain | None, deposits: Deposits) -> None:
        """The device left and could not go on: back to where it was, unless that is being freed, or else blocked."""
        for hvdom in (None if where in self.hv_dead_doms else where, self.hv_blocked_dom):
            for _ in range(HV_STATIC_TRIES if hvdom is not None else 0):
                assert hvdom is not None
                status = self.hv_iommu_enter(hvdev, hvdom, None, deposits)
                if status in (HV_STATUS_SUCCESS, HV_STATUS_DEVICE_ALREADY_IN_DOMAIN):
                    self.hv_iommu_moved(hvdev, hvdom)
                    return
        self.kernel.pr_err("Hyper-V: a device could neither move nor go back")
        self.hv_iommu_moved(hvdev, None)

    def hv_iommu_move(self, hvdev: HvDevice, hvdom: HvDomain, tries: int, deposits: Deposits) -> int:
        """Move a device; returns the result code. After a failure it is where it was; if the hypervisor refused that, too, it is in
        the blocking domain; if it refused even that, it is where the detach left it and ``domain`` is None.

        No hypercall is needed for a device that is there already, except with a guest: that may have ended unnoticed.
        """
        where, left = self.hv_iommu_where(hvdev), False
        perhaps = where or self.hv_iommu_last_seen(hvdev)
        status = HV_STATUS_SUCCESS
        alias = where is hvdom and (hvdev.domain is None or hvdev.by_alias)
        if where is hvdom and not hvdom.attached_dom:
            self.hv_iommu_note_alias(hvdev, hvdom)
            return status
        for _ in range(tries):
            status = self.hv_iommu_enter(hvdev, hvdom, perhaps, deposits)
            if alias and status in HV_MUST_LEAVE:
                self.kernel.pr_info(f"Hyper-V: {hvdev.pdev.name} is with its guest by another name")
                self.hv_iommu_note_alias(hvdev, hvdom)
                return HV_STATUS_SUCCESS
            if status in HV_MUST_LEAVE and not left and self.hv_iommu_may_leave(hvdev, where):
                left = self.hv_iommu_leave(hvdev, perhaps, deposits)
                if left:
                    status = self.hv_iommu_enter(hvdev, hvdom, None, deposits)
            if left and status == HV_STATUS_DEVICE_ALREADY_IN_DOMAIN:
                self.kernel.pr_info(f"Hyper-V: {hvdev.pdev.name} was there already")
                status = HV_STATUS_SUCCESS
            if status == HV_STATUS_SUCCESS:
                self.hv_iommu_moved(hvdev, hvdom)
                return HV_STATUS_SUCCESS
        if left:
            self.hv_iommu_go_back(hvdev, where, deposits)
        self.kernel.hv_status_err(status, "hv_iommu_move", "")
        return status

    # --- the ops ------------------------------------------------------------------------------------------------------------

    def hv_iommu_attach_dev(self, immdom: IommuDomain, dev: Device, _old: IommuDomain | None) -> int:
        """The op: 0 or a negative errno. The core's ``old`` is what it believes; where the device is, this driver knows better.

        A static domain is tried again, because the core goes on as if it had worked and frees the old one. (D59, D61)
        """
        hvdev: HvDevice = self.kernel.dev_iommu_priv_get(dev)
        hvdom = to_hv_domain(immdom)
        special = self.hv_special_domain(hvdom)
        if self.kernel.l1vh and not special and not hvdom.attached_dom:
            return -EINVAL
        status = self.hv_iommu_move(hvdev, hvdom, HV_STATIC_TRIES if special else 1, Deposits())
        return self.hv_iommu_errno(status) if status else 0

    def hv_iommu_release_device(self, dev: Device) -> None:
        """The op: the device ends in the blocking domain, unless another function behind its id still works. (D64, D65)

        If the hypervisor refuses for ever, the object stays and names the domain that the device may still be in, so that this
        is not deleted before the device is out of it; whenever a domain is made or freed, it is tried again.
        """
        hvdev: HvDevice = self.kernel.dev_iommu_priv_get(dev)
        shared = any(not other.released and other.domain is not None for other in self.hv_iommu_aliases(hvdev))
        if not shared:
            self.hv_iommu_move(hvdev, self.hv_blocked_dom, HV_STATIC_TRIES, Deposits())
        self.hv_iommu_lose(hvdev, shared)
