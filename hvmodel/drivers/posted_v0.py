"""The driver as posted, bug for bug: "[PATCH v0 12/15] x86/hyperv: Implement hyperv virtual iommu".

Mail of 2026-01-19, Message-Id 20260120064230.3602565-13-mrathor@linux.microsoft.com. Functions stand in the order of the C file
and keep their names; lay the two side by side. C integers wrap where the C code's do. Nothing is repaired here.
"""

from __future__ import annotations

from typing import Any

from hvmodel.drivers.interface import Driver
from hvmodel.hypervisor import abi
from hvmodel.hypervisor.abi import (
    HV_DEVICE_DOMAIN_ID_S2_DEFAULT,
    HV_DEVICE_DOMAIN_TYPE_S2,
    HV_DEVICE_TYPE_LOGICAL,
    HV_DEVICE_TYPE_PCI,
    HV_MAP_GPA_READABLE,
    HV_MAP_GPA_WRITABLE,
    HV_PARTITION_ID_INVALID,
    HV_PARTITION_ID_SELF,
    HV_STATUS_INSUFFICIENT_MEMORY,
    PAGE_SHIFT,
    REP_COUNT_SHIFT,
    REP_MASK,
    STATUS_MASK,
    U32,
    U64,
)
from hvmodel.kernel.interval_tree import IntervalTree, IntervalTreeNode
from hvmodel.kernel.iommu import (
    EINVAL,
    ENODEV,
    ENOMEM,
    GFP_ATOMIC,
    GFP_KERNEL,
    IOMMU_DOMAIN_DMA,
    IOMMU_DOMAIN_IDENTITY,
    IOMMU_WRITE,
    Device,
    Geometry,
    IommuDomain,
    IommuOps,
)
from hvmodel.kernel.services import Kernel, SpinLock
from hvmodel.kernel.slab import SlabObject
from hvmodel.kernel.sscanf import sscanf

SZ_4K = 0x1000
SZ_1M = 0x100000
HV_IOMMU_PGSIZES = SZ_4K | SZ_1M

default_geometry = Geometry(aperture_start=0, aperture_end=U64, force_aperture=True)


class HvDomain(SlabObject):
    """``struct hv_domain``."""

    EMBEDDED = frozenset({"iommu_dom"})
    __slots__ = ("attached_dom", "domid_num", "iommu_dom", "mappings_lock", "mappings_tree", "num_attchd")

    def __init__(self) -> None:
        self.iommu_dom = IommuDomain(self)
        self.domid_num = 0
        self.num_attchd = 0
        self.attached_dom = False
        self.mappings_lock = SpinLock("mappings_lock")
        self.mappings_tree = IntervalTree()


class HvIommuMapping(SlabObject):
    """``struct hv_iommu_mapping``."""

    __slots__ = ("flags", "iova", "paddr")

    def __init__(self) -> None:
        self.paddr = 0
        self.iova = IntervalTreeNode()
        self.flags = 0


def to_hv_domain(domain: IommuDomain) -> HvDomain:
    """``container_of(d, struct hv_domain, iommu_dom)``."""
    container: HvDomain = domain.container
    return container


class PostedV0(Driver):
    """The file's static state and functions."""

    name = "posted-v0"
    summary = "the driver as posted in January 2026 (v0), bug for bug"

    def __init__(self, kernel: Kernel) -> None:
        super().__init__(kernel)
        self.pci_devs_to_skip: str | None = None
        self.hv_no_attdev = False
        self.hv_def_identity_dom = HvDomain()
        self.unique_id = 0
        self.hv_iommu_ops = IommuOps(
            capable=self.hv_iommu_capable,
            domain_alloc_identity=self.hv_iommu_domain_alloc_identity,
            domain_alloc_paging=self.hv_iommu_domain_alloc_paging,
            probe_device=self.hv_iommu_probe_device,
            probe_finalize=self.hv_iommu_probe_finalize,
            release_device=self.hv_iommu_release_device,
            def_domain_type=self.hv_iommu_def_domain_type,
            attach_dev=self.hv_iommu_attach_dev,
            map_pages=self.hv_iommu_map_pages,
            unmap_pages=self.hv_iommu_unmap_pages,
            iova_to_phys=self.hv_iommu_iova_to_phys,
            free=self.hv_iommu_domain_free,
        )

    def hv_iommu_setup_skip(self, text: str) -> int:
        """``hv_iommu_skip=``: keep the list of devices to leave alone. Returns 0, "not handled"."""
        self.pci_devs_to_skip = text
        return 0

    def setup_hv_no_attdev(self, _text: str) -> int:
        """``hv_no_attdev``: no direct attach. Returns 0, "not handled"."""
        self.hv_no_attdev = True
        return 0

    def hv_special_domain(self, hvdom: HvDomain) -> bool:
        """Whether this is the static identity domain."""
        return hvdom is self.hv_def_identity_dom

    def hv_iommu_get_curr_partid(self) -> int:
        """The partition of the VM that the current process manages, or HV_PARTITION_ID_INVALID."""
        fn = self.kernel.symbol_get("mshv_pid_to_partid")
        if fn is None:
            return HV_PARTITION_ID_INVALID
        return fn(self.kernel.current_tgid())

    def hv_curr_thread_is_vmm(self) -> bool:
        """Whether the current process manages a VM."""
        return self.hv_iommu_get_curr_partid() != HV_PARTITION_ID_INVALID

    def hv_iommu_capable(self, _dev: Device, cap: str) -> bool:
        """Cache coherency, nothing else."""
        return cap == "IOMMU_CAP_CACHE_COHERENCY"

    def hv_pcidev_is_attached_dev(self, pdev: Device) -> bool:
        """Whether the domain that the core believes a device in is a direct-attach domain."""
        iommu_domain = self.kernel.iommu_get_domain_for_dev(pdev)
        if iommu_domain is not None:
            return to_hv_domain(iommu_domain).attached_dom
        return False

    def hv_iommu_create_hyp_devdom(self, hvdom: HvDomain) -> int:
        """CREATE_DEVICE_DOMAIN; 0 or a negative errno."""
        kernel = self.kernel
        flags = kernel.local_irq_save()
        page = kernel.hyperv_pcpu_input_arg()
        abi.CREATE_DEVICE_DOMAIN.pack_into(
            page,
            0,
            HV_PARTITION_ID_SELF,
            0,
            HV_DEVICE_DOMAIN_TYPE_S2,
            hvdom.domid_num,
            abi.CREATE_FLAG_FORWARD_PROGRESS_REQUIRED,
        )
        status = kernel.hv_do_hypercall(abi.HVCALL_CREATE_DEVICE_DOMAIN)
        kernel.local_irq_restore(flags)
        if status & STATUS_MASK:
            kernel.hv_status_err(status, "hv_iommu_create_hyp_devdom", "")
        return kernel.hv_result_to_errno(status)

    def hv_iommu_domain_alloc_identity(self, _dev: Device) -> IommuDomain:
        """The static identity domain."""
        return self.hv_def_identity_dom.iommu_dom

    def hv_iommu_domain_alloc_paging(self, _dev: Device) -> IommuDomain | None:
        """A new domain: of a guest for a VMM thread, of the hypervisor otherwise. None for every failure."""
        kernel = self.kernel
        if kernel.l1vh and not self.hv_curr_thread_is_vmm() and not self.hv_no_attdev:
            kernel.pr_err("Hyper-V: l1vh iommu does not support host devices")
            return None

        hvdom = kernel.kzalloc(HvDomain, GFP_KERNEL)
        if hvdom is None:
            return None

        self.unique_id = self.unique_id + 1 & U32
        if self.unique_id == HV_DEVICE_DOMAIN_ID_S2_DEFAULT:
            kernel.kfree(hvdom)
            return None

        hvdom.domid_num = self.unique_id
        hvdom.iommu_dom.geometry = default_geometry
        hvdom.iommu_dom.pgsize_bitmap = HV_IOMMU_PGSIZES

        if self.hv_curr_thread_is_vmm() and not self.hv_no_attdev:
            hvdom.attached_dom = True
        else:
            rc = self.hv_iommu_create_hyp_devdom(hvdom)
            if rc:
                self.unique_id = self.unique_id - 1 & U32
                kernel.kfree(hvdom)
                return None

        return hvdom.iommu_dom

    def hv_iommu_domain_free(self, immdom: IommuDomain) -> None:
        """Free a domain unless it counts devices; who frees decides whether DELETE_DEVICE_DOMAIN is sent."""
        kernel = self.kernel
        hvdom = to_hv_domain(immdom)

        if self.hv_special_domain(hvdom):
            return

        if hvdom.num_attchd:
            kernel.pr_err("Hyper-V: can't free busy iommu domain")
            return

        if not self.hv_curr_thread_is_vmm() or self.hv_no_attdev:
            flags = kernel.local_irq_save()
            page = kernel.hyperv_pcpu_input_arg()
            abi.DELETE_DEVICE_DOMAIN.pack_into(page, 0, HV_PARTITION_ID_SELF, 0, HV_DEVICE_DOMAIN_TYPE_S2, hvdom.domid_num)
            status = kernel.hv_do_hypercall(abi.HVCALL_DELETE_DEVICE_DOMAIN)
            kernel.local_irq_restore(flags)
            if status & STATUS_MASK:
                kernel.hv_status_err(status, "hv_iommu_domain_free", "")

        kernel.kfree(hvdom)

    def hv_iommu_att_dev2dom(self, hvdom: HvDomain, pdev: Device) -> int:
        """ATTACH_DEVICE_DOMAIN; 0 or a negative errno."""
        kernel = self.kernel
        flags = kernel.local_irq_save()
        page = kernel.hyperv_pcpu_input_arg()
        dev_type = HV_DEVICE_TYPE_LOGICAL if kernel.l1vh else HV_DEVICE_TYPE_PCI
        abi.ATTACH_DEVICE_DOMAIN.pack_into(
            page,
            0,
            HV_PARTITION_ID_SELF,
            0,
            HV_DEVICE_DOMAIN_TYPE_S2,
            hvdom.domid_num,
            kernel.hv_build_devid_oftype(pdev, dev_type),
        )
        status = kernel.hv_do_hypercall(abi.HVCALL_ATTACH_DEVICE_DOMAIN)
        kernel.local_irq_restore(flags)
        if status & STATUS_MASK:
            kernel.hv_status_err(status, "hv_iommu_att_dev2dom", "")
        return kernel.hv_result_to_errno(status)

    def hv_iommu_direct_attach_device(self, pdev: Device) -> int:
        """ATTACH_DEVICE to the current partition, depositing one page a turn; 0 or a negative errno."""
        kernel = self.kernel
        ptid = self.hv_iommu_get_curr_partid()
        if ptid == HV_PARTITION_ID_INVALID:
            kernel.pr_err("Hyper-V: Invalid partition id in direct attach")
            return -EINVAL

        dev_type = HV_DEVICE_TYPE_LOGICAL if kernel.l1vh else HV_DEVICE_TYPE_PCI
        host_devid = kernel.hv_build_devid_oftype(pdev, dev_type)

        while True:
            flags = kernel.local_irq_save()
            page = kernel.hyperv_pcpu_input_arg()
            logical_devid = kernel.hv_build_devid_oftype(pdev, HV_DEVICE_TYPE_LOGICAL)
            abi.ATTACH_DEVICE.pack_into(page, 0, ptid, host_devid, abi.ATTDEV_FLAG_LOGICAL_ID, 0, 0, 0, logical_devid, 0, 0, 0)
            status = kernel.hv_do_hypercall(abi.HVCALL_ATTACH_DEVICE)
            kernel.local_irq_restore(flags)

            if status & STATUS_MASK == HV_STATUS_INSUFFICIENT_MEMORY:
                rc = kernel.hv_call_deposit_pages(ptid, 1)
                if rc:
                    break
            if status & STATUS_MASK != HV_STATUS_INSUFFICIENT_MEMORY:
                break

        if status & STATUS_MASK:
            kernel.hv_status_err(status, "hv_iommu_direct_attach_device", "")
        return kernel.hv_result_to_errno(status)

    def hv_iommu_attach_dev(self, immdom: IommuDomain, dev: Device, _old: IommuDomain | None) -> int:
        """Detach from the previous domain, attach to the new one, try to go back on failure; 0 or a negative errno."""
        kernel = self.kernel
        hvdom_new = to_hv_domain(immdom)
        hvdom_prev: HvDomain | None = kernel.dev_iommu_priv_get(dev)

        if not dev.is_pci:
            return -EINVAL

        if kernel.l1vh and not self.hv_special_domain(hvdom_new) and not hvdom_new.attached_dom:
            return -EINVAL

        if hvdom_prev is not None:
            if not kernel.l1vh or not self.hv_special_domain(hvdom_prev):
                self.hv_iommu_detach_dev(hvdom_prev.iommu_dom, dev)

        if kernel.l1vh and self.hv_special_domain(hvdom_new):
            kernel.dev_iommu_priv_set(dev, hvdom_new)
            return 0

        if hvdom_new.attached_dom:
            rc = self.hv_iommu_direct_attach_device(dev)
        else:
            rc = self.hv_iommu_att_dev2dom(hvdom_new, dev)

        if rc and hvdom_prev is not None:
            if hvdom_prev.attached_dom:
                rc1 = self.hv_iommu_direct_attach_device(dev)
            else:
                rc1 = self.hv_iommu_att_dev2dom(hvdom_prev, dev)
            if rc1:
                kernel.pr_err(f"Hyper-V: iommu could not restore orig device state.. dev:{dev.name}")

        if rc == 0:
            kernel.dev_iommu_priv_set(dev, hvdom_new)
            hvdom_new.num_attchd = hvdom_new.num_attchd + 1 & U32

        return rc

    def hv_iommu_det_dev_from_guest(self, _hvdom: HvDomain, pdev: Device) -> None:
        """DETACH_DEVICE from the current partition; a failure is logged."""
        kernel = self.kernel
        log_devid = kernel.hv_build_devid_oftype(pdev, HV_DEVICE_TYPE_LOGICAL)
        flags = kernel.local_irq_save()
        page = kernel.hyperv_pcpu_input_arg()
        abi.DETACH_DEVICE.pack_into(page, 0, self.hv_iommu_get_curr_partid(), log_devid)
        status = kernel.hv_do_hypercall(abi.HVCALL_DETACH_DEVICE)
        kernel.local_irq_restore(flags)
        if status & STATUS_MASK:
            kernel.hv_status_err(status, "hv_iommu_det_dev_from_guest", "")

    def hv_iommu_det_dev_from_dom(self, _hvdom: HvDomain, pdev: Device) -> None:
        """DETACH_DEVICE_DOMAIN; a failure is logged."""
        kernel = self.kernel
        devid = kernel.hv_build_devid_oftype(pdev, HV_DEVICE_TYPE_PCI)
        flags = kernel.local_irq_save()
        page = kernel.hyperv_pcpu_input_arg()
        abi.DETACH_DEVICE_DOMAIN.pack_into(page, 0, HV_PARTITION_ID_SELF, devid)
        status = kernel.hv_do_hypercall(abi.HVCALL_DETACH_DEVICE_DOMAIN)
        kernel.local_irq_restore(flags)
        if status & STATUS_MASK:
            kernel.hv_status_err(status, "hv_iommu_det_dev_from_dom", "")

    def hv_iommu_detach_dev(self, immdom: IommuDomain, dev: Device) -> None:
        """Detach, and count one down whatever came of it."""
        hvdom = to_hv_domain(immdom)

        if not dev.is_pci:
            return

        if hvdom.num_attchd == 0:
            self.kernel.pr_warn(f"Hyper-V: num_attchd is zero ({dev.name})")

        if hvdom.attached_dom:
            self.hv_iommu_det_dev_from_guest(hvdom, dev)
        else:
            self.hv_iommu_det_dev_from_dom(hvdom, dev)

        hvdom.num_attchd = hvdom.num_attchd - 1 & U32

    def hv_iommu_add_tree_mapping(self, hvdom: HvDomain, iova: int, paddr: int, size: int, flags: int) -> int:
        """A node for ``size`` bytes at ``iova``; 0 or -ENOMEM."""
        kernel = self.kernel
        mapping = kernel.kzalloc(HvIommuMapping, GFP_ATOMIC)
        if mapping is None:
            return -ENOMEM

        mapping.paddr = paddr
        mapping.iova.start = iova
        mapping.iova.last = iova + size - 1 & U64
        mapping.iova.container = mapping
        mapping.flags = flags

        irqflags = kernel.spin_lock_irqsave(hvdom.mappings_lock)
        hvdom.mappings_tree.insert(mapping.iova)
        kernel.spin_unlock_irqrestore(hvdom.mappings_lock, irqflags)
        return 0

    def hv_iommu_del_tree_mappings(self, hvdom: HvDomain, iova: int, size: int) -> int:
        """Remove the nodes that begin in ``[iova, iova + size)``; returns their bytes."""
        kernel = self.kernel
        unmapped = 0
        last = iova + size - 1 & U64
        tree = hvdom.mappings_tree

        flags = kernel.spin_lock_irqsave(hvdom.mappings_lock)
        following = tree.iter_first(iova, last)
        while following is not None:
            node = following
            mapping: HvIommuMapping = node.container
            following = tree.iter_next(node, iova, last)

            if mapping.iova.start < iova:
                break

            unmapped = unmapped + mapping.iova.last - mapping.iova.start + 1 & U64

            tree.remove(node)
            kernel.kfree(mapping)
        kernel.spin_unlock_irqrestore(hvdom.mappings_lock, flags)

        return unmapped

    def hv_iommu_map_pgs(self, hvdom: HvDomain, iova: int, paddr: int, npages: int, map_flags: int) -> int:
        """MAP_DEVICE_GPA_PAGES of ``npages`` pages in one call; returns the raw status word."""
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

    def hv_iommu_map_pages(
        self,
        immdom: IommuDomain,
        iova: int,
        paddr: int,
        pgsize: int,
        pgcount: int,
        prot: int,
        _gfp: str,
        mapped: list[int] | None,
    ) -> int:
        """The op: 0 or a negative errno; ``mapped[0]`` is in bytes."""
        kernel = self.kernel
        hvdom = to_hv_domain(immdom)
        size = pgsize * pgcount & U64
        done = 0

        map_flags = HV_MAP_GPA_READABLE
        map_flags |= HV_MAP_GPA_WRITABLE if prot & IOMMU_WRITE else 0

        ret = self.hv_iommu_add_tree_mapping(hvdom, iova, paddr, size, map_flags)
        if ret:
            return ret

        if hvdom.attached_dom:
            if mapped is None:
                kernel.null_write("hv_iommu_map_pages: *mapped")
            else:
                mapped[0] = size
            return 0

        npages = size >> PAGE_SHIFT
        status: int | None = None
        while done < npages:
            remain = npages - done

            status = self.hv_iommu_map_pgs(hvdom, iova, paddr, remain, map_flags)

            completed = status >> REP_COUNT_SHIFT & REP_MASK
            done = done + completed
            iova = iova + (completed << PAGE_SHIFT) & U64
            paddr = paddr + (completed << PAGE_SHIFT) & U64

            if status & STATUS_MASK == HV_STATUS_INSUFFICIENT_MEMORY:
                ret = kernel.hv_call_deposit_pages(kernel.hv_current_partition_id, 256)
                if ret:
                    break
            if status & STATUS_MASK:
                break

        if status is None:
            status = kernel.uninitialised_read("hv_iommu_map_pages: status with no pages to map")

        if status & STATUS_MASK:
            done_size = done << PAGE_SHIFT

            kernel.hv_status_err(status, "hv_iommu_map_pages", f"pgs:{done:x}/{npages:x} iova:{iova:x}")
            self.hv_iommu_del_tree_mappings(hvdom, iova, size - done_size & U64)
            self.hv_iommu_unmap_pages(immdom, iova - done_size & U64, pgsize, done)
            if mapped is not None:
                mapped[0] = 0
        elif mapped is not None:
            mapped[0] = size

        return kernel.hv_result_to_errno(status)

    def hv_iommu_unmap_pages(self, immdom: IommuDomain, iova: int, pgsize: int, pgcount: int) -> int:
        """The op: the bytes that the tree held."""
        kernel = self.kernel
        hvdom = to_hv_domain(immdom)
        size = pgsize * pgcount & U64

        unmapped = self.hv_iommu_del_tree_mappings(hvdom, iova, size)
        if unmapped < size:
            kernel.pr_err(f"hv_iommu_unmap_pages: could not delete all mappings ({iova:x}:{unmapped:x}/{size:x})")

        if hvdom.attached_dom:
            return size

        npages = size >> PAGE_SHIFT

        flags = kernel.local_irq_save()
        page = kernel.hyperv_pcpu_input_arg()
        abi.UNMAP_DEVICE_GPA_PAGES.pack_into(page, 0, HV_PARTITION_ID_SELF, 0, HV_DEVICE_DOMAIN_TYPE_S2, hvdom.domid_num, iova)
        status = kernel.hv_do_rep_hypercall(abi.HVCALL_UNMAP_DEVICE_GPA_PAGES, npages)
        kernel.local_irq_restore(flags)

        if status & STATUS_MASK:
            kernel.hv_status_err(status, "hv_iommu_unmap_pages", "")

        return unmapped

    def hv_iommu_iova_to_phys(self, immdom: IommuDomain, iova: int) -> int:
        """The op: a physical byte address from the tree, or 0."""
        kernel = self.kernel
        hvdom = to_hv_domain(immdom)
        paddr = 0

        flags = kernel.spin_lock_irqsave(hvdom.mappings_lock)
        node = hvdom.mappings_tree.iter_first(iova, iova)
        if node is not None:
            mapping: HvIommuMapping = node.container
            paddr = mapping.paddr + (iova - mapping.iova.start) & U64
        kernel.spin_unlock_irqrestore(hvdom.mappings_lock, flags)

        return paddr

    def hv_iommu_probe_device(self, dev: Device) -> int:
        """0, or -ENODEV for a device on the skip list."""
        kernel = self.kernel
        if not dev.is_pci:
            return -ENODEV

        if self.pci_devs_to_skip:
            pos = 0
            while True:
                rc, values = sscanf(self.pci_devs_to_skip[pos:], " (%x:%x:%x.%x) %n")
                parsed = values[4] if len(values) > 4 else 0
                if rc:
                    break
                if parsed <= 0:
                    break

                segment, bus, slot, func = values[:4]
                if dev.segment == segment and dev.bus == bus and dev.slot == slot and dev.function == func:
                    kernel.pr_info(f"{dev.name}: skipped by Hyper-V IOMMU")
                    return -ENODEV
                pos += parsed

                if pos >= len(self.pci_devs_to_skip):
                    break

        return 0

    def hv_iommu_probe_finalize(self, dev: Device) -> None:
        """DMA ops for a DMA domain, none otherwise; neither is modelled."""
        immdom = self.kernel.iommu_get_domain_for_dev(dev)
        if immdom is not None and immdom.type == IOMMU_DOMAIN_DMA:
            return  # iommu_setup_dma_ops(dev)
        # set_dma_ops(dev, NULL)

    def hv_iommu_release_device(self, dev: Device) -> None:
        """Detach from what the private pointer names, forget the pointer."""
        kernel = self.kernel
        hvdom: HvDomain | None = kernel.dev_iommu_priv_get(dev)

        if hvdom is not None:
            self.hv_iommu_detach_dev(hvdom.iommu_dom, dev)

        kernel.dev_iommu_priv_set(dev, None)

    def hv_iommu_def_domain_type(self, _dev: Device) -> str:
        """Identity: the hypervisor made it at boot."""
        return IOMMU_DOMAIN_IDENTITY

    def hv_initialize_special_domains(self) -> None:
        """Set up the static identity domain."""
        self.hv_def_identity_dom.iommu_dom.geometry = default_geometry
        self.hv_def_identity_dom.domid_num = HV_DEVICE_DOMAIN_ID_S2_DEFAULT

    def hv_iommu_init(self) -> int:
        """Sysfs entry, special domains, registration; 0 or a negative errno."""
        kernel = self.kernel
        if not kernel.hyperv:
            return -ENODEV

        ret = kernel.iommu_device_sysfs_add("hyperv-iommu")
        if ret:
            kernel.pr_err(f"Hyper-V: iommu_device_sysfs_add failed: {ret}")
            return ret

        self.hv_initialize_special_domains()

        ret = kernel.iommu_device_register(self.hv_iommu_ops)
        if ret:
            kernel.pr_err(f"Hyper-V: iommu_device_register failed: {ret}")
            kernel.iommu_device_sysfs_remove()
            return ret

        kernel.pr_info("Hyper-V IOMMU initialized")
        return 0

    def hv_iommu_detect(self) -> None:
        kernel = self.kernel
        if kernel.iommu_detected:
            return
        if not kernel.l1vh and not kernel.device_domains:
            return
        kernel.iommu_detected = True
        kernel.iommu_init = self.hv_iommu_init

    # --- what the harness asks: not in the C file -----------------------------------------------------------------------

    def setup(self, option: str, value: str) -> int:
        return self.hv_iommu_setup_skip(value) if option == "hv_iommu_skip" else self.setup_hv_no_attdev(value)

    def preset_unique_id(self, value: int) -> None:
        self.unique_id = value

    def domain_id(self, domain: IommuDomain) -> int:
        return to_hv_domain(domain).domid_num

    def attach_count(self, domain: IommuDomain) -> int:
        return to_hv_domain(domain).num_attchd

    def tree(self, domain: IommuDomain) -> IntervalTree:
        return to_hv_domain(domain).mappings_tree

    def node_paddr(self, node: Any) -> int:
        paddr: int = node.container.paddr
        return paddr

    def pointer_domain(self, device: Device) -> IommuDomain | None:
        if device.priv is None:
            return None
        domain: IommuDomain = object.__getattribute__(device.priv, "iommu_dom")
        return domain

    def static_state(self) -> tuple[object, ...]:
        identity = self.hv_def_identity_dom
        return (identity.domid_num, identity.iommu_dom.geometry)
