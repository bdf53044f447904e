"""One function for each hypercall. Each deposits the memory that the hypervisor asks for, within bounds, and says the truth."""

from __future__ import annotations

from struct import Struct

from hvmodel.drivers.interface import Driver
from hvmodel.drivers.repaired.objects import HV_DEPOSIT_PAGES_CONTIGUOUS, HV_DEPOSIT_PAGES_MAP, Deposits, HvDomain
from hvmodel.hypervisor import abi
from hvmodel.hypervisor.abi import (
    HV_DEVICE_DOMAIN_TYPE_S2,
    HV_DEVICE_TYPE_LOGICAL,
    HV_DEVICE_TYPE_PCI,
    HV_PARTITION_ID_SELF,
    PAGE_SHIFT,
    REP_COUNT_SHIFT,
    REP_MASK,
    STATUS_MASK,
)
from hvmodel.kernel.iommu import EINVAL, EIO, ENOSPC, GFP_ATOMIC, Device


class Hypercalls(Driver):
    """The hypercalls of the driver. Statuses are result codes (bits 0-15 of the status word)."""

    map_batch = abi.MAP_LIST_MAX
    """Pages in one MAP hypercall: what the input page holds. (D01, D04)"""
    unmap_batch = abi.REP_COUNT_MAX
    """Pages in one UNMAP hypercall: what the rep count can say. (D02, D03)"""

    # --- memory ---------------------------------------------------------------------------------------------------------

    def hv_iommu_deposit(self, status: int, deposits: Deposits, payer: int, pages: int = 1) -> bool:
        """Whether ``status`` reports a shortage and what it asks for was given: every code is known, contiguous and root memory
        too. (D10, D12, D13)"""
        kernel = self.kernel
        if status not in abi.SHORTAGE_STATUSES:
            return False
        root = status in (abi.HV_STATUS_INSUFFICIENT_ROOT_MEMORY, abi.HV_STATUS_INSUFFICIENT_CONTIGUOUS_ROOT_MEMORY)
        contiguous = status in (abi.HV_STATUS_INSUFFICIENT_CONTIGUOUS_MEMORY, abi.HV_STATUS_INSUFFICIENT_CONTIGUOUS_ROOT_MEMORY)
        if (root and kernel.l1vh) or not deposits.take():
            return False  # an L1VH cannot pay for the root
        if contiguous:
            pages = max(pages, HV_DEPOSIT_PAGES_CONTIGUOUS)
        return not kernel.hv_call_deposit_pages(kernel.hv_current_partition_id if root else payer, pages)

    def hv_iommu_hypercall(self, code: int, layout: Struct, *values: int, deposits: Deposits | None, payer: int = 0) -> int:
        """A simple hypercall, with what memory it needs from ``payer`` (0: this partition); returns its result code. What takes
        nothing (detach, delete) makes no ``deposits``: to it a shortage is a refusal like others."""
        kernel = self.kernel
        while True:
            flags = kernel.local_irq_save()
            layout.pack_into(kernel.hyperv_pcpu_input_arg(), 0, *values)
            status = kernel.hv_do_hypercall(code) & STATUS_MASK
            kernel.local_irq_restore(flags)
            if deposits is None or not self.hv_iommu_deposit(status, deposits, payer or kernel.hv_current_partition_id):
                return status

    def hv_iommu_errno(self, status: int) -> int:
        """The errno of a refused allocation or attach. To the core -EINVAL means "try another domain", so what the hypervisor
        refuses is never that. (D79)"""
        if status == abi.HV_STATUS_INSUFFICIENT_DEVICE_DOMAINS:
            return -ENOSPC
        errno = self.kernel.hv_result_to_errno(status)
        return -EIO if errno == -EINVAL else errno

    # --- domains --------------------------------------------------------------------------------------------------------

    def hv_iommu_create_hyp_devdom(self, hvdom: HvDomain, deposits: Deposits) -> int:
        """CREATE_DEVICE_DOMAIN."""
        return self.hv_iommu_hypercall(
            abi.HVCALL_CREATE_DEVICE_DOMAIN,
            abi.CREATE_DEVICE_DOMAIN,
            *(HV_PARTITION_ID_SELF, 0, HV_DEVICE_DOMAIN_TYPE_S2, hvdom.domid_num, abi.CREATE_FLAG_FORWARD_PROGRESS_REQUIRED),
            deposits=deposits,
        )

    def hv_iommu_delete_hyp_devdom(self, hvdom: HvDomain) -> int:
        """DELETE_DEVICE_DOMAIN. Mappings go with it, or have to be unmapped before."""
        return self.hv_iommu_hypercall(
            abi.HVCALL_DELETE_DEVICE_DOMAIN,
            abi.DELETE_DEVICE_DOMAIN,
            *(HV_PARTITION_ID_SELF, 0, HV_DEVICE_DOMAIN_TYPE_S2, hvdom.domid_num),
            deposits=None,
        )

    # --- devices --------------------------------------------------------------------------------------------------------

    def hv_iommu_host_devid(self, pdev: Device) -> int:
        """The id by which this partition names a device: of type LOGICAL on an L1VH, PCI on a root. (D84)"""
        return self.kernel.hv_build_devid_oftype(pdev, HV_DEVICE_TYPE_LOGICAL if self.kernel.l1vh else HV_DEVICE_TYPE_PCI)

    def hv_iommu_logical_devid(self, pdev: Device) -> int:
        """The id by which a guest will know the device."""
        return self.kernel.hv_build_devid_oftype(pdev, HV_DEVICE_TYPE_LOGICAL)

    def hv_iommu_att_dev2dom(self, hvdom: HvDomain, pdev: Device, deposits: Deposits) -> int:
        """ATTACH_DEVICE_DOMAIN: in one move out of whatever domain the device is in. (D57, D58)"""
        return self.hv_iommu_hypercall(
            abi.HVCALL_ATTACH_DEVICE_DOMAIN,
            abi.ATTACH_DEVICE_DOMAIN,
            *(HV_PARTITION_ID_SELF, 0, HV_DEVICE_DOMAIN_TYPE_S2, hvdom.domid_num, self.hv_iommu_host_devid(pdev)),
            deposits=deposits,
        )

    def hv_iommu_det_dev_from_dom(self, pdev: Device) -> int:
        """DETACH_DEVICE_DOMAIN: where the device is then is up to the hypervisor, so this is the last resort. (D57)"""
        return self.hv_iommu_hypercall(
            abi.HVCALL_DETACH_DEVICE_DOMAIN,
            abi.DETACH_DEVICE_DOMAIN,
            *(HV_PARTITION_ID_SELF, self.hv_iommu_host_devid(pdev)),
            deposits=None,
        )

    def hv_iommu_direct_attach_device(self, hvdom: HvDomain, pdev: Device, deposits: Deposits) -> int:
        """ATTACH_DEVICE to the guest that the domain was made for, who also pays. (D54)"""
        return self.hv_iommu_hypercall(
            abi.HVCALL_ATTACH_DEVICE,
            abi.ATTACH_DEVICE,
            *(hvdom.partid, self.hv_iommu_host_devid(pdev), abi.ATTDEV_FLAG_LOGICAL_ID, 0, 0, 0),
            *(self.hv_iommu_logical_devid(pdev), 0, 0, 0),
            deposits=deposits,
            payer=hvdom.partid,
        )

    def hv_iommu_det_dev_from_guest(self, hvdom: HvDomain, logical: int) -> int:
        """DETACH_DEVICE from the guest that the domain was made for, by the id that it was given. (D55)"""
        return self.hv_iommu_hypercall(abi.HVCALL_DETACH_DEVICE, abi.DETACH_DEVICE, hvdom.partid, logical, deposits=None)

    # --- pages ----------------------------------------------------------------------------------------------------------

    def hv_iommu_map_pgs(self, hvdom: HvDomain, iova: int, paddr: int, npages: int, map_flags: int) -> int:
        """One MAP_DEVICE_GPA_PAGES; returns the raw status word."""
        kernel = self.kernel
        flags = kernel.local_irq_save()
        page = kernel.hyperv_pcpu_input_arg()
        abi.MAP_DEVICE_GPA_PAGES.pack_into(
            page, 0, HV_PARTITION_ID_SELF, 0, HV_DEVICE_DOMAIN_TYPE_S2, hvdom.domid_num, 0, map_flags, iova
        )
        kernel.write_u64_list(page, abi.MAP_DEVICE_GPA_PAGES.size, paddr >> PAGE_SHIFT, npages)
        status = kernel.hv_do_rep_hypercall(abi.HVCALL_MAP_DEVICE_GPA_PAGES, npages)
        kernel.local_irq_restore(flags)
        return status

    def hv_iommu_map_range(self, hvdom: HvDomain, iova: int, paddr: int, npages: int, map_flags: int, gfp: str) -> tuple[int, int]:
        """Map pages one batch at a time. Returns how many the hypervisor has and the result code that ended it; a call that
        did all its reps has succeeded whatever its result says. A caller that may not sleep gets no deposits. Where the hypervisor
        refuses pages that cannot be read, they are made readable; not before. (D17, D36, D38)"""
        deposits = Deposits(npages)
        done = 0
        while done < npages:
            offset = done << PAGE_SHIFT
            word = self.hv_iommu_map_pgs(hvdom, iova + offset, paddr + offset, min(npages - done, self.map_batch), map_flags)
            completed, status = word >> REP_COUNT_SHIFT & REP_MASK, word & STATUS_MASK
            done += completed
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

    def hv_iommu_unmap_pgs(self, hvdom: HvDomain, iova: int, npages: int) -> int:
        """One UNMAP_DEVICE_GPA_PAGES; returns the raw status word."""
        kernel = self.kernel
        flags = kernel.local_irq_save()
        page = kernel.hyperv_pcpu_input_arg()
        abi.UNMAP_DEVICE_GPA_PAGES.pack_into(page, 0, HV_PARTITION_ID_SELF, 0, HV_DEVICE_DOMAIN_TYPE_S2, hvdom.domid_num, iova)
        status = kernel.hv_do_rep_hypercall(abi.HVCALL_UNMAP_DEVICE_GPA_PAGES, npages)
        kernel.local_irq_restore(flags)
        return status

    def hv_iommu_unmap_range(self, hvdom: HvDomain, iova: int, npages: int) -> int:
        """Unmap pages; returns how many are gone, which the callers believe and nothing else. Never sleeps. (D29)"""
        done = 0
        while done < npages:
            word = self.hv_iommu_unmap_pgs(hvdom, iova + (done << PAGE_SHIFT), min(npages - done, self.unmap_batch))
            done += word >> REP_COUNT_SHIFT & REP_MASK
            if word & STATUS_MASK and done < npages:
                self.kernel.hv_status_err(word, "hv_iommu_unmap_range", f"pgs:{done:x}/{npages:x} iova:{iova:x}")
                break
        return done
