"""Small honest drivers, for tests: proof that the oracle does not cry wolf, and a body for one-line-broken copies.

They are written against ``hvmodel.drivers.interface.Driver`` and the kernel's services only, the way a driver would be
written by somebody who has read the hypervisor's and the IOMMU core's rules: every answer is true, every hypercall is
bounded, memory is deposited where the hypervisor asks for it, static domains survive a refusal, and what could not be
deleted is deleted later. They are for a root partition; an L1VH is not for them.

:class:`ExactToy` unmaps pages as asked, splitting its nodes. :class:`NodeToy` has one node for each ``map_pages`` call,
deletes whole nodes only and answers what it deleted, which may be more than was asked.
"""

from __future__ import annotations

import re
from struct import Struct
from typing import Any

from hvmodel import operations as ops
from hvmodel.configuration import Configuration
from hvmodel.drivers import REGISTRY, register
from hvmodel.drivers.interface import Driver
from hvmodel.hypervisor import abi
from hvmodel.hypervisor.abi import HV_PARTITION_ID_SELF, PAGE_SHIFT, REP_COUNT_SHIFT, REP_MASK, STATUS_MASK, U64
from hvmodel.kernel.interval_tree import IntervalTree, IntervalTreeNode
from hvmodel.kernel.iommu import (
    EINVAL,
    EIO,
    ENODEV,
    ENOMEM,
    ENOSPC,
    GFP_ATOMIC,
    GFP_KERNEL,
    IOMMU_DOMAIN_IDENTITY,
    IOMMU_WRITE,
    Device,
    Geometry,
    IommuDomain,
    IommuOps,
)
from hvmodel.kernel.services import Kernel, SpinLock
from hvmodel.kernel.slab import SlabObject
from hvmodel.world import Outcome, World

ROUNDS = 16
"""How often a call answers a shortage with a deposit before it gives up."""
TRIES = 3
"""How often a move that must not fail is tried."""
STATE_ERRORS = (abi.HV_STATUS_OBJECT_IN_USE, abi.HV_STATUS_INVALID_DEVICE_STATE)
MSI_WINDOW = (0xFEE00000, 0xFEEFFFFF)
_ENTRY = re.compile(r"\(([0-9a-fA-F]+):([0-9a-fA-F]+):([0-9a-fA-F]+)\.([0-9a-fA-F]+)\)")


class ToyDomain(SlabObject):
    """A domain: static (identity or blocked), created in the hypervisor (``ident``), or a guest's own (``guest``)."""

    EMBEDDED = frozenset({"iommu_dom"})
    __slots__ = ("guest", "ident", "iommu_dom", "lock", "static", "tree")

    def __init__(self, ident: int = 0, static: bool = False) -> None:
        self.iommu_dom = IommuDomain(self)
        self.ident = ident
        self.static = static
        self.guest = 0
        self.tree = IntervalTree()
        self.lock = SpinLock("tree")


class ToyMapping(SlabObject):
    """One run of mapped pages."""

    __slots__ = ("node", "paddr")

    def __init__(self) -> None:
        self.paddr = 0
        self.node = IntervalTreeNode(container=self)


def result(status: int) -> int:
    """The result code in a status word."""
    return status & STATUS_MASK


def reps(status: int) -> int:
    """The reps completed in a status word."""
    return status >> REP_COUNT_SHIFT & REP_MASK


class Toy(Driver):
    """What both toys share: everything but how ``unmap_pages`` and a failed ``map_pages`` treat nodes."""

    PGSIZES = 0x101000
    UNDOES = False
    """Whether a failed map undoes itself and answers 0 mapped; else it says what is done and the core undoes it."""

    def __init__(self, kernel: Kernel) -> None:
        super().__init__(kernel)
        self.identity = ToyDomain(abi.HV_DEVICE_DOMAIN_ID_S2_DEFAULT, static=True)
        self.null = ToyDomain(abi.HV_DEVICE_DOMAIN_ID_S2_NULL, static=True)
        self.where: dict[Device, ToyDomain] = {}
        """The domain that each claimed device was last put into."""
        self.strays: set[Device] = set()
        """Devices that nobody uses and that could not be moved out of a domain; moved out before the next delete."""
        self.names: dict[int, int] = {}
        """By which id a guest knows each device that was last given to one."""
        self.live: set[int] = set()
        self.zombies: list[int] = []
        """Ids of domains that are freed and whose delete was refused; deleted at the next occasion."""
        self.skip: set[tuple[int, ...]] = set()
        self.direct_allowed = True
        self.last_id = 0
        self.rounds = ROUNDS
        """Deposits that the running call may still make."""
        self.geometry = Geometry(0, (1 << 39) - 1, True)
        self.ops = IommuOps(
            attach_dev=self.attach_dev,
            map_pages=self.map_pages,
            unmap_pages=self.unmap_pages,
            iova_to_phys=self.iova_to_phys,
            free=self.free,
            probe_device=self.probe_device,
            release_device=self.release_device,
            domain_alloc_paging=self.domain_alloc_paging,
            def_domain_type=lambda _device: IOMMU_DOMAIN_IDENTITY,
            identity_domain=self.identity.iommu_dom,
            blocked_domain=self.null.iommu_dom,
            get_resv_regions=lambda _device: [MSI_WINDOW],
        )

    # --- boot -------------------------------------------------------------------------------------------------------

    def setup(self, option: str, value: str) -> int:
        if option == "hv_iommu_skip":
            self.skip = {tuple(int(part, 16) for part in match) for match in _ENTRY.findall(value)}
        else:
            self.direct_allowed = False
        return 1

    def hv_iommu_detect(self) -> None:
        kernel = self.kernel
        if not kernel.iommu_detected and not kernel.l1vh and kernel.device_domains:
            kernel.iommu_detected = True
            kernel.iommu_init = self.init

    def init(self) -> int:
        kernel = self.kernel
        flags = kernel.local_irq_save()
        abi.GET_IOMMU_CAPABILITIES.pack_into(kernel.hyperv_pcpu_input_arg(), 0, HV_PARTITION_ID_SELF, 0)
        width = 48
        if not result(kernel.hv_do_hypercall(abi.HVCALL_GET_IOMMU_CAPABILITIES)):
            width = abi.IOMMU_CAPABILITIES_OUTPUT.unpack_from(kernel.cpu.output_page)[2]
        kernel.local_irq_restore(flags)
        self.geometry = Geometry(0, (1 << width) - 1, True)
        for domain in (self.identity, self.null):
            domain.iommu_dom.geometry = self.geometry
        ret = kernel.iommu_device_sysfs_add("toy-iommu")
        if ret:
            return ret
        ret = kernel.iommu_device_register(self.ops)
        if ret:
            kernel.iommu_device_sysfs_remove()
        return ret

    def preset_unique_id(self, value: int) -> None:
        self.last_id = value

    # --- hypercalls -------------------------------------------------------------------------------------------------

    def call(self, code: int, layout: Struct, *values: int, payer: int = 0) -> int:
        """A simple hypercall; answers the result code. A shortage is answered with deposits."""
        kernel = self.kernel
        while True:
            flags = kernel.local_irq_save()
            layout.pack_into(kernel.hyperv_pcpu_input_arg(), 0, *values)
            status = kernel.hv_do_hypercall(code)
            kernel.local_irq_restore(flags)
            if not self.deposit(status, payer):
                break
        if result(status):
            kernel.hv_status_err(status, "toy", "")
        return result(status)

    def deposit(self, status: int, payer: int = 0) -> bool:
        """Whether the status reports a shortage and the memory that it calls for could be given."""
        kernel = self.kernel
        if result(status) not in abi.SHORTAGE_STATUSES or not self.rounds:
            return False
        self.rounds -= 1
        if not payer or result(status) in (0x73, 0x83):
            payer = kernel.hv_current_partition_id
        return kernel.hv_call_deposit_pages(payer, 256) == 0

    def device_id(self, device: Device, kind: int = abi.HV_DEVICE_TYPE_PCI) -> int:
        return self.kernel.hv_build_devid_oftype(device, kind)

    def enter(self, device: Device, domain: ToyDomain) -> int:
        """Put a device into a domain, or with a guest; answers the result code. Being there already is success."""
        pci = self.device_id(device)
        if domain.guest:
            logical = self.device_id(device, abi.HV_DEVICE_TYPE_LOGICAL)
            guest = (domain.guest, pci, abi.ATTDEV_FLAG_LOGICAL_ID, 0, 0, 0, logical, 0, 0, 0)
            status = self.call(abi.HVCALL_ATTACH_DEVICE, abi.ATTACH_DEVICE, *guest, payer=domain.guest)
            if status == 0:
                self.names[pci] = logical
            return status
        values = (HV_PARTITION_ID_SELF, 0, abi.HV_DEVICE_DOMAIN_TYPE_S2, domain.ident, pci)
        status = self.call(abi.HVCALL_ATTACH_DEVICE_DOMAIN, abi.ATTACH_DEVICE_DOMAIN, *values)
        return 0 if status == abi.HV_STATUS_DEVICE_ALREADY_IN_DOMAIN else status

    def take_back(self, device: Device, domain: ToyDomain) -> int:
        """Take a device back from a guest; answers the result code."""
        logical = self.names.get(self.device_id(device), 0)
        return self.call(abi.HVCALL_DETACH_DEVICE, abi.DETACH_DEVICE, domain.guest, logical)

    # --- domains ----------------------------------------------------------------------------------------------------

    def domain_alloc_paging(self, _device: Device) -> IommuDomain | int:
        kernel = self.kernel
        self.rounds = ROUNDS
        self.reap()
        domain = kernel.kzalloc(ToyDomain, GFP_KERNEL)
        if domain is None:
            return -ENOMEM
        find = kernel.symbol_get("mshv_pid_to_partid") if self.direct_allowed else None
        domain.guest = find(kernel.current_tgid()) if find is not None else 0
        if not domain.guest:
            errno = self.create(domain)
            if errno:
                kernel.kfree(domain)
                return errno
        domain.iommu_dom.geometry = self.geometry
        domain.iommu_dom.pgsize_bitmap = self.PGSIZES
        return domain.iommu_dom

    def create(self, domain: ToyDomain) -> int:
        """Find an id that nobody has: not 0 or all ones, none that may be alive, none that the hypervisor knows."""
        taken = {0, 0xFFFFFFFF, *self.live, *self.zombies}
        for _ in range(ROUNDS):
            while True:
                self.last_id = self.last_id + 1 & 0xFFFFFFFF
                if self.last_id not in taken:
                    break
            values = (HV_PARTITION_ID_SELF, 0, abi.HV_DEVICE_DOMAIN_TYPE_S2, self.last_id)
            flags = abi.CREATE_FLAG_FORWARD_PROGRESS_REQUIRED
            status = self.call(abi.HVCALL_CREATE_DEVICE_DOMAIN, abi.CREATE_DEVICE_DOMAIN, *values, flags)
            if status == 0:
                domain.ident = self.last_id
                self.live.add(self.last_id)
                return 0
            if status not in (abi.HV_STATUS_KEY_ALREADY_EXISTS, abi.HV_STATUS_OBJECT_IN_USE):
                return self.kernel.hv_result_to_errno(status)
        return -ENOSPC

    def free(self, iommu_dom: IommuDomain) -> None:
        domain: ToyDomain = iommu_dom.container
        if domain.static:
            return
        self.rounds = ROUNDS
        for device, place in list(self.where.items()):
            if place is domain:  # the core went on after a failed attach: get the device out first
                if self.move(device, domain, self.null, TRIES) == 0:
                    self.where[device] = self.null
                else:
                    del self.where[device]
                    self.strays.add(device)
        for device in sorted(self.strays, key=lambda stray: stray.number):
            if self.enter(device, self.null) == 0:
                self.strays.discard(device)
        for node in list(domain.tree):
            domain.tree.remove(node)
            self.kernel.kfree(node.container)
        if not domain.guest:
            self.live.discard(domain.ident)
            self.zombies.append(domain.ident)
        self.kernel.kfree(domain)
        self.reap()

    def reap(self) -> None:
        """Delete what is freed and still in the hypervisor."""
        for ident in list(self.zombies):
            values = (HV_PARTITION_ID_SELF, 0, abi.HV_DEVICE_DOMAIN_TYPE_S2, ident)
            if self.call(abi.HVCALL_DELETE_DEVICE_DOMAIN, abi.DELETE_DEVICE_DOMAIN, *values) == 0:
                self.zombies.remove(ident)

    # --- devices ----------------------------------------------------------------------------------------------------

    def probe_device(self, device: Device) -> int:
        listed = (device.segment, device.bus, device.slot, device.function) in self.skip
        return -ENODEV if listed or not device.is_pci or device.segment >> 16 else 0

    def release_device(self, device: Device) -> None:
        prev = self.where.pop(device, None)
        if any(other.requester == device.requester for other in self.where):
            return  # another function with the same id still works
        self.rounds = ROUNDS
        if self.move(device, prev, self.null, TRIES):
            self.strays.add(device)
        self.reap()

    def move(self, device: Device, prev: ToyDomain | None, new: ToyDomain, tries: int) -> int:
        """Put a device into ``new``; failing that, back where it was, or, as a last resort, into NULL.

        Answers a result code. Where the device is refused because of where it is, it has to leave that place first.
        """
        left = False
        status = 0
        for _ in range(tries):
            status = self.enter(device, new)
            if status in STATE_ERRORS and prev is not None and not prev.static and not left:
                left = (self.take_back(device, prev) if prev.guest else self.enter(device, self.null)) == 0
                status = self.enter(device, new)
            if status == 0:
                return 0
        if left and prev is not None and all(self.enter(device, prev) for _ in range(2)):
            self.enter(device, self.null)
        return status

    def attach_dev(self, iommu_dom: IommuDomain, device: Device, _old: IommuDomain | None) -> int:
        new: ToyDomain = iommu_dom.container
        if new.guest and any(place is new and other.requester == device.requester for other, place in self.where.items()):
            self.where[device] = new  # by another name
            return 0
        self.rounds = ROUNDS
        status = self.move(device, self.where.get(device), new, TRIES if new.static else 1)
        if status:
            errno = self.kernel.hv_result_to_errno(status)
            return -EIO if errno == -EINVAL else errno
        self.where[device] = new
        for other in self.where:
            if other.requester == device.requester:
                self.where[other] = new  # the hypervisor has moved them all
        self.strays.discard(device)
        self.reap()
        return 0

    # --- pages ------------------------------------------------------------------------------------------------------

    def map_pages(
        self,
        iommu_dom: IommuDomain,
        iova: int,
        paddr: int,
        pgsize: int,
        pgcount: int,
        prot: int,
        gfp: str,
        mapped: list[int] | None,
    ) -> int:
        domain: ToyDomain = iommu_dom.container
        size = pgsize * pgcount
        if not size or size & 0xFFF or iova + size > 1 << 64 or paddr + size > 1 << 64:
            return -EINVAL
        flags = self.kernel.spin_lock_irqsave(domain.lock)
        taken = domain.tree.iter_first(iova, iova + size - 1)
        self.kernel.spin_unlock_irqrestore(domain.lock, flags)
        if taken is not None:
            return -EINVAL
        mapping = self.kernel.kzalloc(ToyMapping, gfp)
        if mapping is None:
            return -ENOMEM
        done, status = size, 0
        if not domain.guest:
            pages, status = self.map_hypercalls(domain, iova, paddr, size >> PAGE_SHIFT, prot, gfp)
            done = pages << PAGE_SHIFT
        first = 0
        if done < size and (self.UNDOES or mapped is None):
            first = self.unmap_hypercalls(domain, iova, done)
            done = 0 if first == done else done
        if first < done:
            mapping.paddr = paddr + first
            mapping.node.start, mapping.node.last = iova + first, iova + done - 1
            self.insert(domain, mapping)
        else:
            self.kernel.kfree(mapping)
        if mapped is not None:
            mapped[0] = done
        return self.kernel.hv_result_to_errno(status)

    def map_hypercalls(
        self, domain: ToyDomain, iova: int, paddr: int, pages: int, prot: int, gfp: str
    ) -> tuple[int, int]:
        """Map in the hypervisor; answers how many pages it has and the status that stopped it."""
        kernel = self.kernel
        map_flags = abi.HV_MAP_GPA_READABLE | (abi.HV_MAP_GPA_WRITABLE if prot & IOMMU_WRITE else 0)
        done, self.rounds = 0, ROUNDS
        while done < pages:
            count = min(pages - done, abi.MAP_LIST_MAX)
            flags = kernel.local_irq_save()
            page = kernel.hyperv_pcpu_input_arg()
            values = (HV_PARTITION_ID_SELF, 0, abi.HV_DEVICE_DOMAIN_TYPE_S2, domain.ident, 0, map_flags)
            abi.MAP_DEVICE_GPA_PAGES.pack_into(page, 0, *values, iova + (done << PAGE_SHIFT))
            kernel.write_u64_list(page, abi.MAP_DEVICE_GPA_PAGES.size, (paddr >> PAGE_SHIFT) + done, count)
            status = kernel.hv_do_rep_hypercall(abi.HVCALL_MAP_DEVICE_GPA_PAGES, count)
            kernel.local_irq_restore(flags)
            done += reps(status)
            if not result(status):
                continue
            if gfp == GFP_ATOMIC or not self.deposit(status):
                kernel.hv_status_err(status, "toy map", "")
                return done, status
        return done, 0

    def unmap_hypercalls(self, domain: ToyDomain, iova: int, size: int) -> int:
        """Unmap in the hypervisor; answers how many bytes are gone."""
        kernel = self.kernel
        done, pages = 0, size >> PAGE_SHIFT
        while done < pages and not domain.guest:
            count = min(pages - done, abi.REP_COUNT_MAX)
            flags = kernel.local_irq_save()
            values = (HV_PARTITION_ID_SELF, 0, abi.HV_DEVICE_DOMAIN_TYPE_S2, domain.ident, iova + (done << PAGE_SHIFT))
            abi.UNMAP_DEVICE_GPA_PAGES.pack_into(kernel.hyperv_pcpu_input_arg(), 0, *values)
            status = kernel.hv_do_rep_hypercall(abi.HVCALL_UNMAP_DEVICE_GPA_PAGES, count)
            kernel.local_irq_restore(flags)
            done += reps(status)
            if result(status):
                kernel.hv_status_err(status, "toy unmap", "")
                return done << PAGE_SHIFT
        return size

    def unmap_pages(self, iommu_dom: IommuDomain, iova: int, pgsize: int, pgcount: int) -> int:
        raise NotImplementedError

    def insert(self, domain: ToyDomain, mapping: ToyMapping) -> None:
        flags = self.kernel.spin_lock_irqsave(domain.lock)
        domain.tree.insert(mapping.node)
        self.kernel.spin_unlock_irqrestore(domain.lock, flags)

    def remove(self, domain: ToyDomain, mapping: ToyMapping) -> None:
        flags = self.kernel.spin_lock_irqsave(domain.lock)
        domain.tree.remove(mapping.node)
        self.kernel.spin_unlock_irqrestore(domain.lock, flags)

    def run(self, domain: ToyDomain, iova: int, size: int) -> int:
        """How many bytes the nodes that follow each other from ``iova`` cover, until ``size`` or a hole is reached."""
        at = iova
        while at < iova + size:
            node = domain.tree.iter_first(at, at)
            if node is None:
                break
            at = node.last + 1
        return at - iova

    def forget(self, domain: ToyDomain, iova: int, size: int) -> int:
        """The ``size`` bytes from the start of a mapping are gone; the rest of the last one stays. Answers ``size``."""
        end = iova + size
        while iova < end and (node := domain.tree.iter_first(iova, iova)) is not None:
            mapping: ToyMapping = node.container
            length = min(end, node.last + 1) - iova
            self.remove(domain, mapping)
            if iova + length > node.last:
                self.kernel.kfree(mapping)
            else:
                node.start += length
                mapping.paddr += length
                self.insert(domain, mapping)
            iova += length
        return size

    def iova_to_phys(self, iommu_dom: IommuDomain, iova: int) -> int:
        domain: ToyDomain = iommu_dom.container
        flags = self.kernel.spin_lock_irqsave(domain.lock)
        node = domain.tree.iter_first(iova, iova)
        paddr = 0 if node is None else int(node.container.paddr) + iova - node.start
        self.kernel.spin_unlock_irqrestore(domain.lock, flags)
        return paddr

    # --- the driver's view ------------------------------------------------------------------------------------------

    def domain_id(self, domain: IommuDomain) -> int | None:
        toy: ToyDomain = domain.container
        return None if toy.guest else toy.ident

    def attach_count(self, domain: IommuDomain) -> int | None:
        return sum(place is domain.container for place in self.where.values())

    def tree(self, domain: IommuDomain) -> IntervalTree | None:
        toy: ToyDomain = domain.container
        return toy.tree

    def node_paddr(self, node: Any) -> int:
        paddr: int = node.container.paddr
        return paddr

    def pointer_domain(self, device: Device) -> IommuDomain | None:
        domain = self.where.get(device)
        return None if domain is None else domain.iommu_dom

    def static_state(self) -> tuple[object, ...]:
        return (self.identity.ident, self.identity.iommu_dom.geometry, self.null.ident, self.null.iommu_dom.geometry)


class ExactToy(Toy):
    """Unmaps exactly the pages asked for, up to the first hole, and leaves the undoing of a failed map to the core."""

    name = "exact-toy"
    summary = "honest, page-exact, for tests"

    def unmap_pages(self, iommu_dom: IommuDomain, iova: int, pgsize: int, pgcount: int) -> int:
        domain: ToyDomain = iommu_dom.container
        size = min(pgsize * pgcount & U64, (1 << 64) - iova) & ~0xFFF
        node = domain.tree.iter_first(iova, iova) if size else None
        if iova & 0xFFF or node is None or self.split(domain, node.container, iova) is None:
            return 0
        return self.forget(domain, iova, self.unmap_hypercalls(domain, iova, min(self.run(domain, iova, size), size)))

    def split(self, domain: ToyDomain, mapping: ToyMapping, iova: int) -> ToyMapping | None:
        """The mapping that begins at ``iova``, cut from an earlier one if need be; None without memory for that."""
        if mapping.node.start == iova:
            return mapping
        tail = self.kernel.kzalloc(ToyMapping, GFP_ATOMIC)
        if tail is None:
            return None
        self.remove(domain, mapping)
        tail.node.start, tail.node.last = iova, mapping.node.last
        tail.paddr = mapping.paddr + iova - mapping.node.start
        mapping.node.last = iova - 1
        self.insert(domain, mapping)
        self.insert(domain, tail)
        return tail


class NodeToy(Toy):
    """Has one node for each map call, deletes whole nodes and says so; undoes a failed map by itself."""

    name = "node-toy"
    summary = "honest, whole nodes only, for tests"

    UNDOES = True

    def unmap_pages(self, iommu_dom: IommuDomain, iova: int, pgsize: int, pgcount: int) -> int:
        domain: ToyDomain = iommu_dom.container
        size = min(pgsize * pgcount & U64, (1 << 64) - iova) & ~0xFFF
        node = domain.tree.iter_first(iova, iova) if size else None
        if node is None or node.start != iova:
            return 0
        return self.forget(domain, iova, self.unmap_hypercalls(domain, iova, self.run(domain, iova, size)))


HONEST = (ExactToy, NodeToy)


# --- a stage ---------------------------------------------------------------------------------------------------------


def stage(driver: type[Driver], config: Configuration | None = None, booted: bool = True) -> World:
    """A world with this driver, which is in the registry only while the world is built; booted unless told otherwise."""
    known = driver.name in REGISTRY
    if not known:
        register(driver)
    try:
        world = World(config or Configuration(), driver.name)
    finally:
        if not known:
            del REGISTRY[driver.name]
    if booted:
        world.apply(ops.Boot())
    return world


def play(world: World, *operations: ops.Operation) -> list[Outcome]:
    """Apply operations that must all apply; answers their outcomes."""
    outcomes = []
    for operation in operations:
        outcome = world.apply(operation)
        assert outcome.applied, f"{ops.describe(operation)} did not apply"
        outcomes.append(outcome)
    return outcomes


def failed(*outcomes: Outcome) -> set[str]:
    """The ids of the properties that failed in these outcomes."""
    return {violation.property for outcome in outcomes for violation in outcome.violations}
