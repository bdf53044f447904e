"""One universe: configuration, hypervisor, kernel, driver, callers and judge, wired together.

``world.apply(operation)`` is the only way to make something happen. All that an operation does not decide is deterministic: no
clock, no randomness, no state outside the world.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from hvmodel import operations as ops
from hvmodel.callers.books import PAGE_END, DomainBook
from hvmodel.callers.core import IommuCore, Refused
from hvmodel.callers.levels import level_of
from hvmodel.callers.recovery import recover
from hvmodel.callers.user import UserSpace
from hvmodel.configuration import Configuration
from hvmodel.drivers import REGISTRY, DriverEntry
from hvmodel.faults import Fault, FaultPlan
from hvmodel.hypervisor import Device as HvDevice
from hvmodel.hypervisor import Hypervisor, Refusal, abi
from hvmodel.hypervisor.abi import PAGE_SHIFT, REP_COUNT_SHIFT, REP_MASK
from hvmodel.kernel.iommu import GFP_ATOMIC, GFP_KERNEL, IOMMU_READ, IOMMU_WRITE, Group
from hvmodel.kernel.services import Kernel, Oops, Runaway
from hvmodel.properties.judge import Judge
from hvmodel.properties.verdicts import HypercallRecord, Violation

_CALL_NAMES = abi.CALL_NAMES

VMM_TGID = 100
"""Thread group of the process that manages VM 0; VM n is managed by VMM_TGID + n."""

PROTS = {"": 0, "r": IOMMU_READ, "w": IOMMU_WRITE, "rw": IOMMU_READ | IOMMU_WRITE}
GFPS = {"kernel": GFP_KERNEL, "atomic": GFP_ATOMIC}


@dataclass(slots=True)
class Outcome:
    """What came of an operation.

    ``applied`` is False if it had nothing to act on. ``result`` is what its caller was told: an errno or 0, bytes for unmap and
    lookup. ``level`` is an index into ``callers.levels.LEVELS``. ``fired`` are the faults that decided an answer.
    """

    applied: bool
    result: int = 0
    level: int = 0
    violations: Sequence[Violation] = ()
    environment: Sequence[str] = ()
    fired: Sequence[Fault] = ()


NOT_APPLIED = Outcome(False)


class World:
    """One run of one driver. ``driver`` is a name of ``hvmodel.drivers.REGISTRY`` or an entry that is not in it; raises KeyError
    for an unknown name."""

    plan: type[FaultPlan] = FaultPlan
    """What decides about refusals; a kind of world can have one that also takes notes."""

    def __init__(self, config: Configuration, driver: str | DriverEntry = "posted-v0") -> None:
        self.config = config
        self.driver_entry = REGISTRY[driver] if isinstance(driver, str) else driver
        self.faults = self.plan()
        self.judge = Judge()
        self.judge.refusals = self.faults.refusals
        self.hypervisor = self.judge.hypervisor = self._hypervisor()
        self.booted = False
        self.over = False
        """Whether nothing more can happen: the run was recovered, or a call did not end."""
        self.vms: dict[int, int] = {}
        """Partition id of each VM that its process still owns."""
        self.ended_vms: set[int] = set()
        self.next_handle = 1
        """The lowest domain handle that no operation has used."""
        self.applied: dict[str, list[int]] = {}
        """Per kind of operation: how often it was tried, how often it applied."""
        self.levels: set[int] = set()
        self._new_kernel()
        self._handlers: dict[type[ops.Operation], Callable[..., int | None]] = {
            cls: getattr(self, f"_{kind.replace('-', '_')}", self._by_user) for kind, cls in ops.KINDS.items()
        }
        """The method of each operation, called like its kind: ``vm-create`` is done by ``_vm_create``. What has none is asked by
        user space."""

    # --- construction -----------------------------------------------------------------------------------------------------

    def _hypervisor(self) -> Hypervisor:
        config = self.config
        keys: dict[int, HvDevice] = {}
        key_of: list[int] = []
        for own, function in enumerate(config.devices):
            chosen = function if config.l1vh else config.speaks_for(own)
            key = abi.device_id(abi.HV_DEVICE_TYPE_LOGICAL if config.l1vh else abi.HV_DEVICE_TYPE_PCI, chosen.requester & abi.U32)
            key_of.append(key)
            keys.setdefault(key, HvDevice(key, owned=chosen.owned, reserved=chosen.reserved))
        hypervisor = Hypervisor(
            config.policies,
            devices=keys.values(),
            l1vh=config.l1vh,
            capabilities=config.capabilities,
            iova_width=config.iova_width,
            root_pool=config.root_pool,
            domain_limit=config.domain_limit,
        )
        page = bytearray(abi.PAGE_SIZE)
        for ident in config.left_domains:
            abi.CREATE_DEVICE_DOMAIN.pack_into(page, 0, abi.HV_PARTITION_ID_SELF, 0, 0, ident, 1)
            hypervisor.hypercall(abi.HVCALL_CREATE_DEVICE_DOMAIN, page)
        for number, ident in config.left_devices:
            abi.ATTACH_DEVICE_DOMAIN.pack_into(page, 0, abi.HV_PARTITION_ID_SELF, 0, 0, ident, key_of[number])
            hypervisor.hypercall(abi.HVCALL_ATTACH_DEVICE_DOMAIN, page)
        if config.left_deposit:
            hypervisor.caller.pool.deposit(1 << 36, (1 << 36) + config.left_deposit)
        hypervisor.effects.clear()
        return hypervisor

    def _new_kernel(self) -> None:
        """A kernel with the driver built in, not booted yet."""
        config, judge = self.config, self.judge
        self.kernel = judge.kernel = Kernel(
            self.faults, self._door, l1vh=config.l1vh, mshv=config.mshv, partition_id=self.hypervisor.caller.id
        )
        self.driver = judge.driver = self.driver_entry.load(self.kernel)
        if config.unique_id and not self.booted:
            self.driver.preset_unique_id(config.unique_id)
        self.core = judge.core = IommuCore(config, self.kernel, self.hypervisor, self.driver, judge)
        self.books = self.core.books
        self.user = UserSpace(self.core, self.as_thread)
        self.books.foreign = set(self.hypervisor.domains) - {0, 0xFFFFFFFF}
        judge.used_at_boot = self.hypervisor.caller.pool.used
        judge.static_when_visible = None
        self.kernel.on_visible = self._visible

    def _visible(self, what: str) -> None:
        self.judge.became_visible(what)
        if what == "core" and self.kernel.registered is not None:
            self.core.bus_iommu_probe(self.kernel.registered)

    def _door(self, control: int, page: bytearray, output: bytearray) -> int:
        """The hypercall instruction: the judge looks, a fault may decide, the hypervisor acts, the judge looks again."""
        hypervisor, judge, faults = self.hypervisor, self.judge, self.faults
        code = control & 0xFFFF
        judge.judge_names(code, page)
        fault = faults.arrive(_CALL_NAMES.get(code, "unknown call"))
        refusal = None
        if fault is not None:
            done = fault.done
            if code == abi.HVCALL_DEPOSIT_MEMORY and hypervisor.policies.deposit_partial != "yes":
                done = 0
            refusal = Refusal(fault.status, done)
        status = hypervisor.hypercall(control, page, output, refusal)
        refused = hypervisor.refused
        if fault is not None and refused:
            faults.fire(fault)
        effects = hypervisor.effects
        if effects:
            hypervisor.effects = []
        completed = status >> REP_COUNT_SHIFT & REP_MASK if code in abi.REP_CALLS else 0
        judge.after_hypercall(HypercallRecord(code, control, page[:48], status, completed, refused, self.kernel.where), effects)
        return status

    # --- operations -------------------------------------------------------------------------------------------------------

    def apply(self, operation: ops.Operation) -> Outcome:
        """Do one operation; never raises for anything that an operation can contain."""
        tried = self.applied.get(operation.kind)
        if tried is None:
            tried = self.applied[operation.kind] = [0, 0]
        tried[0] += 1
        if self.over or (not self.booted and type(operation) not in (ops.Boot, ops.VmCreate)):
            return NOT_APPLIED
        judge, kernel = self.judge, self.kernel
        if kernel.log:
            kernel.log = []
        self.faults.begin(operation.faults)
        self.as_thread(getattr(operation, "by", 0))
        level = level_of(operation, self.books)
        try:
            result = self._handlers[type(operation)](operation)
        except Refused as refusal:
            return Outcome(False, int(refusal.args[0]))
        except Oops:
            judge.judge_context()
            self._kill()
            result = 0
        except Runaway:
            self._kill()
            result = 0
        if result is None:
            return NOT_APPLIED
        tried[1] += 1
        outcome = Outcome(True, result, level)
        if judge.violations:
            outcome.violations, judge.violations = judge.violations, []
        if judge.environment:
            outcome.environment, judge.environment = judge.environment, []
        if self.faults.fired:
            outcome.fired = self.faults.fired
        return outcome

    def as_thread(self, by: int) -> None:
        """The thread that acts from now on: of the process that manages VM ``by``, or a host thread (0)."""
        self.kernel.cpu.tgid = VMM_TGID + by if by else Kernel.HOST_TGID

    def _kill(self) -> None:
        """A call did not end: the watchdog ends the world."""
        self.over = True
        self.kernel.reports.clear()

    def _group(self, number: int) -> Group | None:
        """A group that no process holds by its files: those are moved by what user space asks only."""
        return None if number in self.user.held else self.books.groups.get(number)

    def _by_user(self, op: ops.Operation) -> int | None:
        return self.user.do(op)

    def _exit(self, op: ops.Exit) -> int | None:
        return self.user.exit(op.by, self.delete_vm)

    def _boot(self, _op: ops.Boot) -> int | None:
        if self.booted:
            return None
        self.booted = True
        return self.core.boot()

    def _kexec(self, _op: ops.Kexec) -> int | None:
        for vm in list(self.vms):
            if self.config.l1vh:
                # Orderly: its processes have ended. After a crash an L1VH can neither ask which guest has a device nor take it back
                # without naming that guest, so there is nothing to judge.
                self.delete_vm(vm)
                continue
            self.ended_vms.add(vm)
            del self.vms[vm]
        freed = self.books.freed | set(self.books.domains)
        self._new_kernel()
        self.books.freed = freed
        return self.core.boot()

    def _probe(self, op: ops.Probe) -> int | None:
        if not 0 <= op.device < len(self.books.devices):
            return None
        device = self.books.devices[op.device].device
        if device.group is not None or device.present:
            return None
        return self.core.probe(device)

    def _release(self, op: ops.Release) -> int | None:
        if not 0 <= op.device < len(self.books.devices):
            return None
        device = self.books.devices[op.device].device
        group = device.group
        if group is None or group.owner is not None or group.domain is not group.default_domain:
            return None
        self.core.release(device)
        return 0

    def _unplug(self, op: ops.Unplug) -> int | None:
        if not 0 <= op.device < len(self.books.devices):
            return None
        book = self.books.devices[op.device]
        group = book.device.group
        if group is None or group.owner is not None or len(group.devices) != 1:
            return None
        if any(other.key == book.key and other is not book for other in self.books.devices):
            return None
        self.core.unplug(book)
        return 0

    def _vm_create(self, op: ops.VmCreate) -> int | None:
        if op.vm < 1 or op.vm in self.vms or op.vm in self.ended_vms:
            return None
        self.vms[op.vm] = self.hypervisor.create_partition()
        self.kernel.partitions_of.setdefault(VMM_TGID + op.vm, []).append(self.vms[op.vm])
        self.user.opened(op.vm, "vm", op.vm)
        return 0

    def _vm_finalise(self, op: ops.VmFinalise) -> int | None:
        partition = self.vms.get(op.vm)
        if partition is None or self.hypervisor.partitions[partition].state != "active":
            return None
        status = self.hypervisor.finalize_partition(partition)
        self.hypervisor.effects.clear()
        if status == 0:
            self._guest_ended(partition)
        return status

    def _vm_delete(self, op: ops.VmDelete) -> int | None:
        return self.delete_vm(op.vm)

    def delete_vm(self, vm: int) -> int | None:
        """Finalise a VM's partition if need be, withdraw its pool and delete it; None if there is no such VM."""
        partition = self.vms.get(vm)
        if partition is None:
            return None
        if self.hypervisor.partitions[partition].state == "active":
            status = self.hypervisor.finalize_partition(partition)
            self.hypervisor.effects.clear()
            if status:
                return status
            self._guest_ended(partition)
        self.hypervisor.delete_partition(partition)
        del self.vms[vm]
        self.ended_vms.add(vm)
        self.kernel.partitions_of.pop(VMM_TGID + vm, None)
        self.user.closed(vm, "vm", vm)
        return 0

    def _end_vms(self) -> None:
        for vm in list(self.vms):
            self.delete_vm(vm)

    def _guest_ended(self, partition: int) -> None:
        """A14: devices that the guest had are where policy X8 puts them; nobody told the driver."""
        for book in self.books.devices:
            place = self.hypervisor.place(book.key)
            if any(p.kind == "guest" and p.id == partition for p in book.places):
                book.places = {*book.places, place}
                book.fallen = True
        for domain_book in self.books.of_domain.values():
            if domain_book.place.kind == "guest" and domain_book.place.id == partition:
                domain_book.lenient = True
            elif domain_book.kind == "identity" or domain_book.kind == "blocked":
                domain_book.lenient = True  # where its devices fell

    def _claim(self, op: ops.Claim) -> int | None:
        group = self._group(op.group)
        return None if group is None else self.core.claim(group, op.by)

    def _disown(self, op: ops.Disown) -> int | None:
        group = self._group(op.group)
        return None if group is None else self.core.disown(group)

    def _alloc(self, op: ops.Alloc) -> int | None:
        taken = op.domain < 1 or op.domain in self.books.domains or op.domain in self.books.freed
        if taken or not 0 <= op.device < len(self.books.devices):
            return None
        self.next_handle = max(self.next_handle, op.domain + 1)
        return self.core.alloc(op.domain, self.books.devices[op.device].device, op.by)

    def _free(self, op: ops.Free) -> int | None:
        book = self.books.domains.get(op.domain)
        if book is None or self.books.users(book):
            return None
        self.core.free(book)
        return 0

    def _attach(self, op: ops.Attach) -> int | None:
        group, book = self._group(op.group), self.books.domains.get(op.domain)
        if group is None or book is None or group.domain is book.domain:
            return None
        return self.core.attach_group(group, book)

    def _replace(self, op: ops.Replace) -> int | None:
        group, book = self._group(op.group), self.books.domains.get(op.domain)
        if group is None or book is None or group.domain is book.domain:
            return None
        return self.core.replace_group(group, book)

    def _detach(self, op: ops.Detach) -> int | None:
        group = self._group(op.group)
        if group is None or group.domain in (group.default_domain, group.blocking_domain):
            return None
        return self.core.detach_group(group)

    def _reset(self, op: ops.Reset) -> int | None:
        if not 0 <= op.device < len(self.books.devices):
            return None
        device = self.books.devices[op.device].device
        return None if device.group is None else self.core.reset(device, op.by)

    def _map(self, op: ops.Map) -> int | None:
        book = self._mappable(op.domain)
        if book is None or op.pages < 0 or op.iova >> 64 or op.paddr >> 64 or op.pages > PAGE_END:
            return None
        return self.core.iommu_map(book, op.iova, op.paddr, op.pages << PAGE_SHIFT, PROTS[op.prot], GFPS[op.gfp])

    def _map_scattered(self, op: ops.MapScattered) -> int | None:
        book = self._mappable(op.domain)
        if book is None or op.runs < 1 or op.run_pages < 1 or op.iova + (op.runs * op.run_pages << PAGE_SHIFT) > 1 << 64:
            return None
        step, jump = op.run_pages << PAGE_SHIFT, op.stride << PAGE_SHIFT
        for run in range(op.runs):
            iova = op.iova + run * step
            ret = self.core.iommu_map(book, iova, op.paddr + run * jump, step, PROTS["rw"], GFP_KERNEL)
            if self.over:
                return ret
            if ret:
                if run:
                    self.core.iommu_unmap(book, op.iova, run * step)
                return ret
            book.requests.pop(iova >> PAGE_SHIFT, None)
        book.requests[op.iova >> PAGE_SHIFT] = (op.iova + op.runs * step) >> PAGE_SHIFT
        return 0

    def _mappable(self, handle: int) -> DomainBook | None:
        return self.books.domains.get(handle)

    def _unmap(self, op: ops.Unmap) -> int | None:
        book = self._mappable(op.domain)
        if book is None or op.pages < 1 or op.iova >> 64 or op.pages > PAGE_END:
            return None
        return self.core.iommu_unmap(book, op.iova, op.pages << PAGE_SHIFT)

    def _lookup(self, op: ops.Lookup) -> int | None:
        book = self._mappable(op.domain)
        if book is None or op.iova >> 64:
            return None
        return self.core.iommu_iova_to_phys(book, op.iova)

    def _driver_map(self, op: ops.DriverMap) -> int | None:
        book = self._mappable(op.domain)
        if book is None or op.iova >> 64 or op.paddr >> 64 or op.pgsize >> 64 or op.pgcount >> 64:
            return None
        ret, _mapped = self.core.map_pages(
            book, op.iova, op.paddr, op.pgsize, op.pgcount, PROTS[op.prot], GFPS[op.gfp], with_mapped=op.mapped
        )
        return ret

    def _driver_unmap(self, op: ops.DriverUnmap) -> int | None:
        book = self._mappable(op.domain)
        if book is None or op.iova >> 64 or op.pgsize >> 64 or op.pgcount >> 64:
            return None
        return self.core.unmap_pages(book, op.iova, op.pgsize, op.pgcount)

    def _recover(self, _op: ops.Recover) -> int:
        self.faults.lift()
        self.user.close_all(self.delete_vm)
        recover(self.core, self.as_thread, self._end_vms)
        self.judge.judge_leftovers()
        self.over = True
        return 0


def run(config: Configuration, operations: list[ops.Operation], driver: str = "posted-v0") -> tuple[World, list[Outcome]]:
    """A world and the outcomes of all operations."""
    world = World(config, driver)
    return world, [world.apply(operation) for operation in operations]


__all__ = ["GFPS", "NOT_APPLIED", "PROTS", "VMM_TGID", "Outcome", "World", "run"]
