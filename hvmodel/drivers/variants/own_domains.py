"""Own variants: domains and the driver as a whole. One mistake each in ids, allocation, free, options and initialisation."""

from __future__ import annotations

from struct import Struct

from hvmodel.drivers.repaired import Repaired
from hvmodel.drivers.repaired.objects import (
    HV_DEFAULT_IOVA_WIDTH,
    HV_STATIC_TRIES,
    Deposits,
    HvDomain,
)
from hvmodel.drivers.variants.registry import variant
from hvmodel.hypervisor import abi
from hvmodel.hypervisor.abi import (
    HV_DEVICE_DOMAIN_ID_S2_DEFAULT,
    HV_DEVICE_DOMAIN_ID_S2_NULL,
    HV_PARTITION_ID_INVALID,
    HV_PARTITION_ID_SELF,
    STATUS_MASK,
    U32,
)
from hvmodel.kernel.iommu import Device
from hvmodel.kernel.services import Kernel
from hvmodel.kernel.sscanf import sscanf


@variant("O35-count-says-empty", "count")
class CountSaysEmpty(Repaired):
    """Whether a dead domain may be given back is read from its count.

    The count leaves out released functions, of which Linux knows nothing any more. Needs one that the hypervisor keeps in the
    domain. The domain is freed, and what is left of the function names freed memory.
    """

    def hv_iommu_evict(self, hvdom: HvDomain | None, deposits: Deposits) -> bool:
        out = super().hv_iommu_evict(hvdom, deposits)
        return out if hvdom is None else not hvdom.num_attchd


@variant("O36-list-shrinks", "ordering")
class ListShrinks(Repaired):
    """The list of dead domains is walked while it shrinks.

    What follows a domain that could be deleted is passed over. Needs a second dead domain: one whose delete was refused before.
    The domain that is freed now stays in the hypervisor with its mappings.
    """

    def hv_iommu_bury_dead(self, deposits: Deposits) -> None:
        for hvdom in self.hv_dead_doms:
            if self.hv_iommu_bury(hvdom, deposits):
                self.hv_dead_doms.remove(hvdom)
        self.hv_iommu_evict(None, deposits)


@variant("O37-one-is-evicted", "lifetime")
class OneIsEvicted(Repaired):
    """Only the first of the devices that are stuck in a freed domain is taken out.

    Found and done, the walk returns. Needs a group of two and a hypervisor that let neither leave. The domain is never deleted,
    and the second device works on in it.
    """

    def hv_iommu_evict(self, hvdom: HvDomain | None, deposits: Deposits) -> bool:
        for hvdev in self.hv_devs[:]:
            if hvdev.domain is hvdom and (hvdom is not None or (hvdev.released and hvdev.adrift)):
                self.hv_iommu_move(hvdev, self.hv_blocked_dom, HV_STATIC_TRIES, deposits)
                return hvdev not in self.hv_devs or hvdev.domain is not hvdom
        return True


@variant("O38-partition-remembered", "stale state")
class PartitionRemembered(Repaired):
    """The partition of a process is looked up once.

    The look-up takes a lock of another module, and a process has one VM. Needs a process that outlives its VM and allocates
    again. The new domain stands for a guest that is dead, or for one that got its number.
    """

    def __init__(self, kernel: Kernel) -> None:
        super().__init__(kernel)
        self.partids: dict[int, int] = {}

    def hv_iommu_get_curr_partid(self) -> int:
        tgid = self.kernel.current_tgid()
        partid = self.partids.get(tgid) or super().hv_iommu_get_curr_partid()
        if partid != HV_PARTITION_ID_INVALID:
            self.partids[tgid] = partid
        return partid


@variant("O39-input-written-once", "ordering")
class InputWrittenOnce(Repaired):
    """A hypercall is issued again after a deposit without writing its input again.

    The deposit is a hypercall as well and uses the same page. Needs a shortage outside a map. What the hypervisor reads the second
    time are the frames of the deposit: a domain with any id, a device that does not exist.
    """

    def hv_iommu_hypercall(self, code: int, layout: Struct, *values: int, deposits: Deposits | None, payer: int = 0) -> int:
        kernel = self.kernel
        flags = kernel.local_irq_save()
        layout.pack_into(kernel.hyperv_pcpu_input_arg(), 0, *values)
        kernel.local_irq_restore(flags)
        while True:
            flags = kernel.local_irq_save()
            status = kernel.hv_do_hypercall(code) & STATUS_MASK
            kernel.local_irq_restore(flags)
            if deposits is None or not self.hv_iommu_deposit(status, deposits, payer or kernel.hv_current_partition_id):
                return status


@variant("O40-id-lock-twice", "context")
class IdLockTwice(Repaired):
    """An id that is taken is skipped without giving the lock back.

    ``continue`` jumps over the unlock. Needs a counter that meets an id in use, or the end of its range. The thread waits for
    itself with interrupts off.
    """

    def hv_iommu_new_id(self, hvdom: HvDomain) -> None:
        while True:
            flags = self.kernel.spin_lock_irqsave(self.hv_lock)
            taken = {HV_DEVICE_DOMAIN_ID_S2_DEFAULT, HV_DEVICE_DOMAIN_ID_S2_NULL, *(other.domid_num for other in self.hv_domains)}
            self.unique_id = self.unique_id + 1 & U32
            if self.unique_id in taken:
                continue
            hvdom.domid_num = self.unique_id
            self.kernel.spin_unlock_irqrestore(self.hv_lock, flags)
            return


@variant("O41-width-irqs-off", "context")
class WidthIrqsOff(Repaired):
    """Where the hypervisor has no capabilities call, interrupts stay off.

    The fallback returns early. Needs an old hypervisor, at boot. The bus is probed with interrupts off, and the first allocation
    there that may sleep does.
    """

    def hv_iommu_get_width(self) -> int:
        kernel = self.kernel
        flags = kernel.local_irq_save()
        abi.GET_IOMMU_CAPABILITIES.pack_into(kernel.hyperv_pcpu_input_arg(), 0, HV_PARTITION_ID_SELF, 0)
        if kernel.hv_do_hypercall(abi.HVCALL_GET_IOMMU_CAPABILITIES) & STATUS_MASK:
            return HV_DEFAULT_IOVA_WIDTH
        width: int = abi.IOMMU_CAPABILITIES_OUTPUT.unpack_from(kernel.cpu.output_page)[2]
        kernel.local_irq_restore(flags)
        return width


@variant("O42-slot-in-decimal", "encoding")
class SlotInDecimal(Repaired):
    """The slots of the skip list are read as decimal numbers.

    Right up to 9. Needs a device in slot 0a or beyond, where lspci writes 1f. The entry matches no device or another one, and the
    device that the administrator wanted to keep is taken.
    """

    def hv_iommu_skipped(self, dev: Device) -> bool:
        at = self.pci_devs_to_skip.find("(")
        while at >= 0:
            count, values = sscanf(self.pci_devs_to_skip[at:], "(%x:%x:%d.%d)%n")
            if count < 4 or len(values) < 5:
                self.kernel.pr_warn(f"Hyper-V: hv_iommu_skip: no device at {self.pci_devs_to_skip[at : at + 16]!r}")
            elif tuple(values[:4]) == (dev.segment, dev.bus, dev.slot, dev.function):
                return True
            at = self.pci_devs_to_skip.find("(", at + 1)
        return False


@variant("O43-blank-ends-list", "encoding")
class BlankEndsList(Repaired):
    """A blank between two entries of the skip list ends it.

    The next entry is looked for right behind the one before. Needs an option in quotes with a blank, and the device in the second
    entry. A device that the administrator wanted to keep is taken.
    """

    def hv_iommu_skipped(self, dev: Device) -> bool:
        at = self.pci_devs_to_skip.find("(")
        while at >= 0:
            count, values = sscanf(self.pci_devs_to_skip[at:], "(%x:%x:%x.%x)%n")
            if count < 4 or len(values) < 5:
                self.kernel.pr_warn(f"Hyper-V: hv_iommu_skip: no device at {self.pci_devs_to_skip[at : at + 16]!r}")
                at = self.pci_devs_to_skip.find("(", at + 1)
                continue
            if tuple(values[:4]) == (dev.segment, dev.bus, dev.slot, dev.function):
                return True
            at = at + values[4] if self.pci_devs_to_skip[at + values[4] :].startswith("(") else -1
        return False


@variant("O44-id-reserved-early", "lifetime")
class IdReservedEarly(Repaired):
    """A domain is listed before it is created, and stays listed if it could not be.

    The list keeps ids apart, so the id is entered as early as possible. Needs a create that is refused and another allocation.
    The search for a free id reads an object that was freed.
    """

    def hv_iommu_create(self, hvdom: HvDomain, deposits: Deposits) -> int:
        self.hv_domains.append(hvdom)
        status = super().hv_iommu_create(hvdom, deposits)
        if not status:
            self.hv_domains.remove(hvdom)  # the caller lists it
        return status


@variant("O45-nodes-first", "ordering")
class NodesFirst(Repaired):
    """The mappings of a freed domain are dropped from the tree before the domain is deleted.

    Most hypervisors let mappings go with the domain. Needs one that deletes only empty domains. Then nobody knows any more what to
    unmap, and the domain stays for ever, with what it maps.
    """

    def hv_iommu_delete_hyp_devdom(self, hvdom: HvDomain) -> int:
        self.hv_iommu_drop_mappings(hvdom)
        return super().hv_iommu_delete_hyp_devdom(hvdom)
