"""The driver as it should be: initialisation, options, probe, and what the harness may look at."""

from __future__ import annotations

from typing import Any

from hvmodel.drivers.repaired.domains import Domains
from hvmodel.drivers.repaired.objects import (
    HV_DEFAULT_IOVA_WIDTH,
    HV_MSI_WINDOW,
    HvDevice,
    HvDomain,
    aperture,
    to_hv_domain,
)
from hvmodel.hypervisor import abi
from hvmodel.hypervisor.abi import (
    HV_DEVICE_DOMAIN_ID_S2_DEFAULT,
    HV_DEVICE_DOMAIN_ID_S2_NULL,
    HV_PARTITION_ID_SELF,
    STATUS_MASK,
)
from hvmodel.kernel.interval_tree import IntervalTree
from hvmodel.kernel.iommu import ENODEV, ENOMEM, GFP_KERNEL, IOMMU_DOMAIN_IDENTITY, Device, IommuDomain, IommuOps
from hvmodel.kernel.services import Kernel, SpinLock
from hvmodel.kernel.sscanf import sscanf


class Repaired(Domains):
    """The file's static state and functions."""

    name = "repaired"
    summary = "the driver as it should be: every known defect repaired, for comparison and as a proposal"

    def __init__(self, kernel: Kernel) -> None:
        super().__init__(kernel)
        self.pci_devs_to_skip = ""
        self.hv_no_attdev = False
        self.unique_id = 0
        self.hv_lock = SpinLock("hv_lock")
        self.hv_domains = []
        self.hv_dead_doms = []
        self.hv_devs = []
        self.hv_def_identity_dom = HvDomain()
        self.hv_blocked_dom = HvDomain()
        self.hv_geometry = aperture(HV_DEFAULT_IOVA_WIDTH)
        self.hv_iommu_ops = self.ops()

    def ops(self) -> IommuOps:
        """What is offered. Static identity and blocked domains: the core need not make up a blocking one. (D68)"""
        return IommuOps(
            capable=self.hv_iommu_capable,
            identity_domain=self.hv_def_identity_dom.iommu_dom,
            blocked_domain=self.hv_blocked_dom.iommu_dom,
            domain_alloc_paging=self.hv_iommu_domain_alloc_paging,
            probe_device=self.hv_iommu_probe_device,
            release_device=self.hv_iommu_release_device,
            def_domain_type=self.hv_iommu_def_domain_type,
            get_resv_regions=self.hv_iommu_get_resv_regions,
            attach_dev=self.hv_iommu_attach_dev,
            map_pages=self.hv_iommu_map_pages,
            unmap_pages=self.hv_iommu_unmap_pages,
            iova_to_phys=self.hv_iommu_iova_to_phys,
            free=self.hv_iommu_domain_free,
        )

    def hv_special_domain(self, hvdom: HvDomain) -> bool:
        return hvdom is self.hv_def_identity_dom or hvdom is self.hv_blocked_dom

    # --- options and initialisation -----------------------------------------------------------------------------------------

    def setup(self, option: str, value: str) -> int:
        """The handlers of ``hv_iommu_skip=`` and ``hv_no_attdev``: 1, handled. (D92)"""
        if option == "hv_iommu_skip":
            self.pci_devs_to_skip = value
        else:
            self.hv_no_attdev = True
        return 1

    def hv_iommu_capable(self, _dev: Device, cap: str) -> bool:
        """Cache coherency, nothing else."""
        return cap == "IOMMU_CAP_CACHE_COHERENCY"

    def hv_iommu_get_width(self) -> int:
        """How many bits of address a device domain takes: GET_IOMMU_CAPABILITIES, or 48 where that does not exist. (D100)"""
        kernel = self.kernel
        flags = kernel.local_irq_save()
        abi.GET_IOMMU_CAPABILITIES.pack_into(kernel.hyperv_pcpu_input_arg(), 0, HV_PARTITION_ID_SELF, 0)
        status = kernel.hv_do_hypercall(abi.HVCALL_GET_IOMMU_CAPABILITIES) & STATUS_MASK
        width: int = abi.IOMMU_CAPABILITIES_OUTPUT.unpack_from(kernel.cpu.output_page)[2]
        kernel.local_irq_restore(flags)
        return HV_DEFAULT_IOVA_WIDTH if status else width

    def hv_initialize_special_domains(self) -> None:
        """Set up the static domains."""
        for hvdom, ident in (
            (self.hv_def_identity_dom, HV_DEVICE_DOMAIN_ID_S2_DEFAULT),
            (self.hv_blocked_dom, HV_DEVICE_DOMAIN_ID_S2_NULL),
        ):
            hvdom.domid_num = ident
            hvdom.iommu_dom.geometry = self.hv_geometry

    def hv_iommu_init(self) -> int:
        """Everything is ready before anything is visible; 0 or a negative errno. (D93)"""
        kernel = self.kernel
        if not kernel.hyperv:
            return -ENODEV
        self.hv_geometry = aperture(self.hv_iommu_get_width())
        self.hv_initialize_special_domains()
        ret = kernel.iommu_device_sysfs_add("hyperv-iommu")
        if ret:
            kernel.pr_err(f"Hyper-V: iommu_device_sysfs_add failed: {ret}")
            return ret
        ret = kernel.iommu_device_register(self.hv_iommu_ops)
        if ret:
            kernel.pr_err(f"Hyper-V: iommu_device_register failed: {ret}")
            kernel.iommu_device_sysfs_remove()
        return ret

    def hv_iommu_detect(self) -> None:
        kernel = self.kernel
        if kernel.iommu_detected or not (kernel.l1vh or kernel.device_domains):
            return
        kernel.iommu_detected = True
        kernel.iommu_init = self.hv_iommu_init

    # --- probe --------------------------------------------------------------------------------------------------------------

    def hv_iommu_skipped(self, dev: Device) -> bool:
        """Whether the option names a device. What is no entry is passed over, with a warning. (D90, D91)"""
        at = self.pci_devs_to_skip.find("(")
        while at >= 0:
            count, values = sscanf(self.pci_devs_to_skip[at:], "(%x:%x:%x.%x)%n")
            if count < 4 or len(values) < 5:
                self.kernel.pr_warn(f"Hyper-V: hv_iommu_skip: no device at {self.pci_devs_to_skip[at : at + 16]!r}")
            elif tuple(values[:4]) == (dev.segment, dev.bus, dev.slot, dev.function):
                return True
            at = self.pci_devs_to_skip.find("(", at + 1)
        return False

    def hv_iommu_nameable(self, dev: Device) -> bool:
        """Whether the hypervisor has a name for a device: its ids have 16 bits for the PCI segment, those of devices behind a VMD
        have more, and cut to 16 they are those of other devices. (D83)"""
        return not dev.segment >> 16

    def hv_iommu_probe_device(self, dev: Device) -> int:
        """The op: 0 or a negative errno. Allocates the device's object; the private pointer is set here only, where the core holds
        its lock. (D81)"""
        kernel = self.kernel
        if not dev.is_pci or self.hv_iommu_skipped(dev) or not self.hv_iommu_nameable(dev):
            return -ENODEV
        for other in self.hv_devs[:]:
            if other.pdev is dev and not other.released:  # it vanished without a word, and is back
                self.hv_iommu_lose(other, shared=False)
        hvdev = kernel.kzalloc(HvDevice, GFP_KERNEL)
        if hvdev is None:
            return -ENOMEM
        hvdev.pdev = dev
        self.hv_devs.append(hvdev)
        kernel.dev_iommu_priv_set(dev, hvdev)
        return 0

    def hv_iommu_def_domain_type(self, _dev: Device) -> str:
        """Identity: the hypervisor made it at boot."""
        return IOMMU_DOMAIN_IDENTITY

    def hv_iommu_get_resv_regions(self, _dev: Device) -> list[tuple[int, int]]:
        """The interrupt window. (D98)"""
        return [HV_MSI_WINDOW]

    # --- what the harness asks: not part of a driver --------------------------------------------------------------------------

    def preset_unique_id(self, value: int) -> None:
        self.unique_id = value

    def domain_id(self, domain: IommuDomain) -> int | None:
        hvdom = to_hv_domain(domain)
        return None if hvdom.attached_dom else hvdom.domid_num

    def attach_count(self, domain: IommuDomain) -> int:
        return 0 if self.kernel.l1vh and self.hv_special_domain(to_hv_domain(domain)) else to_hv_domain(domain).num_attchd

    def tree(self, domain: IommuDomain) -> IntervalTree:
        return to_hv_domain(domain).mappings_tree

    def node_paddr(self, node: Any) -> int:
        paddr: int = node.container.paddr
        return paddr

    def pointer_domain(self, device: Device) -> IommuDomain | None:
        hvdev = device.priv
        if hvdev is None or object.__getattribute__(hvdev, "released"):
            return None
        domain = object.__getattribute__(hvdev, "domain")
        return None if domain is None else object.__getattribute__(domain, "iommu_dom")

    def static_state(self) -> tuple[object, ...]:
        static = (self.hv_def_identity_dom, self.hv_blocked_dom)
        return tuple((hvdom.domid_num, hvdom.iommu_dom.geometry) for hvdom in static)
