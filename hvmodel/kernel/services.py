"""The kernel as a driver sees it: context, hypercalls, deposit, log, current thread, PCI names, registration.

Method names are those of Linux. Each rule that the real kernel checks (lockdep, might_sleep, KASAN) is checked here; what is
broken goes to ``reports``. Everything that can fail in the real kernel is a fault site. State of a running thread is in
:class:`Cpu`, and ``preempt`` is called wherever another thread could run, so that a scheduler can be put underneath.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NoReturn, TypeVar

from hvmodel.faults import ALLOC_PAGES, REGISTER, SYSFS_ADD, FaultPlan
from hvmodel.hypervisor import abi
from hvmodel.hypervisor.abi import (
    HV_PARTITION_ID_INVALID,
    PAGE_SIZE,
    REP_COUNT_SHIFT,
    REP_MASK,
    REP_START_SHIFT,
    STATUS_MASK,
    U32,
    U64,
)
from hvmodel.kernel.iommu import (
    E2BIG,
    EINVAL,
    EIO,
    ENOMEM,
    EOPNOTSUPP,
    GFP_ATOMIC,
    GFP_KERNEL,
    Device,
    IommuDomain,
    IommuOps,
)
from hvmodel.kernel.slab import Slab, SlabObject

T = TypeVar("T", bound=SlabObject)

ERRNO_OF_STATUS: dict[int, int] = dict.fromkeys((0x02, 0x03, 0x05, 0x0D, 0x0E, 0x11, 0x12, 0x41, 0x50), EINVAL)
ERRNO_OF_STATUS |= dict.fromkeys(abi.SHORTAGE_STATUSES, ENOMEM)
"""``drivers/hv/hv_common.c:hv_result_to_errno``; every status that is not listed is -EIO."""


_WRONG_GFP = {
    (used, passed): f"kzalloc with {used} inside a map whose caller passed {passed}"
    for used in (GFP_KERNEL, GFP_ATOMIC)
    for passed in (GFP_KERNEL, GFP_ATOMIC)
}


class Runaway(Exception):
    """An operation went on beyond every bound; it is unwound like a thread that the watchdog kills."""


class Oops(Runaway):
    """The driver crashed; what it broke is in the reports, and the world ends."""


class SpinLock:
    """``spinlock_t``."""

    __slots__ = ("holder", "name")

    def __init__(self, name: str = "lock") -> None:
        self.name = name
        self.holder: Cpu | None = None


class Cpu:
    """The context of the running thread: locks held, interrupts, whether its caller may sleep."""

    __slots__ = ("atomic_caller", "input_page", "irqs_off", "locks", "output_page", "tgid")

    def __init__(self) -> None:
        self.irqs_off = False
        self.locks: list[SpinLock] = []
        self.atomic_caller = False
        self.tgid = 1
        self.input_page = bytearray(PAGE_SIZE)
        self.output_page = bytearray(PAGE_SIZE)


class Kernel:
    """All services, for one world.

    ``door`` is the hypercall instruction: control word, input page, output page -> status word.
    """

    HOST_TGID = 1
    FIRST_FRAME = 1 << 34
    """Frames that the page allocator hands out for deposits, far from the memory that callers map."""

    def __init__(
        self,
        faults: FaultPlan,
        door: Callable[[int, bytearray, bytearray], int],
        *,
        l1vh: bool = False,
        device_domains: bool = True,
        mshv: bool = True,
        hyperv: bool = True,
        partition_id: int = 1,
    ) -> None:
        self.faults = faults
        self.door = door
        self.l1vh = l1vh
        self.device_domains = device_domains
        self.mshv = mshv
        self.hyperv = hyperv
        self.hv_current_partition_id = partition_id
        self.reports: list[tuple[str, str]] = []
        """(rule, detail) of each kernel rule that was broken in this operation."""
        self.log: list[tuple[str, str]] = []
        """(level, text) of what was printed in this operation."""
        self.cpu = Cpu()
        self.slab = Slab(faults, self.report)
        self.preempt: Callable[[str], None] | None = None
        self.probe_lock_held = False
        self.partitions_of: dict[int, list[int]] = {}
        """Partition ids by the thread group that created them, oldest first (mshv's partition table)."""
        self.domain_of: Callable[[Device], IommuDomain | None] = lambda device: None
        """What ``iommu_get_domain_for_dev`` answers; the core sets it."""
        self.iommu_detected = False
        self.iommu_init: Callable[[], int] | None = None
        self.sysfs_visible = False
        self.registered: IommuOps | None = None
        self.on_visible: Callable[[str], None] = lambda what: None
        """Called when something of the driver becomes visible: "sysfs" or "core"."""
        self.next_frame = self.FIRST_FRAME
        self.deposited = 0
        """Pages deposited since boot."""
        self.deposit_calls = 0
        """Deposits in this driver call; the world resets it."""
        self.rep_round = 0
        """Which round of ``hv_do_rep_hypercall`` runs; 0 is the call itself, the others are the helper's own."""
        self.where = ""
        """Function and line that issues the running hypercall, where a driver has lines."""
        self.gfp_allowed: str | None = None
        """The gfp of the map that is running, or None outside a map."""

    def report(self, rule: str, detail: str) -> None:
        """A kernel rule was broken."""
        self.reports.append((rule, detail))

    # --- memory -----------------------------------------------------------------------------------------------------

    def kzalloc(self, cls: type[T], gfp: str) -> T | None:
        """A zeroed object or None. ``GFP_KERNEL`` may sleep."""
        if gfp == GFP_KERNEL:
            self.might_sleep("kzalloc(GFP_KERNEL)")
        if self.gfp_allowed is not None and gfp != self.gfp_allowed:
            self.report("gfp", _WRONG_GFP[gfp, self.gfp_allowed])
        return self.slab.kzalloc(cls)

    def kfree(self, obj: SlabObject | None) -> None:
        """Free what kzalloc gave."""
        self.slab.kfree(obj)

    def uninitialised_read(self, what: str) -> int:
        """A variable that was never set is read. The value is rubbish: all ones."""
        self.report("uninitialised-read", what)
        return U64

    def null_write(self, what: str) -> None:
        """A write through a NULL pointer."""
        self.report("null-write", what)

    # --- context ----------------------------------------------------------------------------------------------------

    def might_sleep(self, what: str) -> None:
        """Report if the running context may not sleep."""
        cpu = self.cpu
        if cpu.irqs_off or cpu.locks or cpu.atomic_caller:
            why = "interrupts off" if cpu.irqs_off else "a spinlock held" if cpu.locks else "an atomic caller"
            self.report("sleep-in-atomic", f"{what} with {why}")
        if self.preempt is not None:
            self.preempt(what)

    def local_irq_save(self) -> bool:
        """Interrupts off; returns whether they were off before."""
        was = self.cpu.irqs_off
        self.cpu.irqs_off = True
        return was

    def local_irq_restore(self, flags: bool) -> None:
        """Interrupts as ``flags`` says."""
        self.cpu.irqs_off = flags

    def spin_lock_irqsave(self, lock: SpinLock) -> bool:
        """Take a lock with interrupts off."""
        if self.preempt is not None:
            self.preempt("spin_lock")
        cpu = self.cpu
        was = cpu.irqs_off
        cpu.irqs_off = True
        if lock.holder is not None:
            self.report("lock", f"{lock.name} is taken twice")
        lock.holder = cpu
        cpu.locks.append(lock)
        return was

    def spin_unlock_irqrestore(self, lock: SpinLock, flags: bool) -> None:
        """Release a lock."""
        cpu = self.cpu
        if lock.holder is not cpu:
            self.report("lock", f"{lock.name} is released but not held")
        else:
            cpu.locks.remove(lock)
        lock.holder = None
        cpu.irqs_off = flags
        if self.preempt is not None:
            self.preempt("spin_unlock")

    # --- hypercalls (include/asm-generic/mshyperv.h) -------------------------------------------------------------------

    def hyperv_pcpu_input_arg(self) -> bytearray:
        """``*this_cpu_ptr(hyperv_pcpu_input_arg)``: the CPU's input page, to be used with interrupts off."""
        if not self.cpu.irqs_off:
            self.report("irqs", "the per-CPU hypercall page is used with interrupts on")
        return self.cpu.input_page

    def write_u64_list(self, page: bytearray, offset: int, first: int, count: int) -> None:
        """Write ``count`` consecutive u64 values from ``first`` at byte ``offset``; what goes beyond the page is reported."""
        room = (PAGE_SIZE - offset) // 8
        if count > room:
            self.report("input-page-overrun", f"{8 * (count - room)} bytes written past the hypercall input page")
            count = room
        if count > 0:
            page[offset : offset + 8 * count] = abi.encode_consecutive(first & U64, count)

    def hv_do_hypercall(self, control: int) -> int:
        """Issue one hypercall with this CPU's pages; returns the status word."""
        if self.preempt is not None:
            self.preempt("hypercall")
        return self.door(control, self.cpu.input_page, self.cpu.output_page)

    def hv_do_rep_hypercall(self, code: int, rep_count: int, varhead_size: int = 0) -> int:
        """A rep hypercall, re-issued while it succeeds with reps left. Parameters are u16, the count is not masked to 12 bits."""
        rep_count &= 0xFFFF
        control = code & 0xFFFF | (varhead_size & 0xFFFF) << abi.VARHEAD_SHIFT | rep_count << REP_COUNT_SHIFT
        self.rep_round = 0
        while True:
            status = self.hv_do_hypercall(control)
            if status & STATUS_MASK:
                break
            completed = status >> REP_COUNT_SHIFT & REP_MASK
            if completed >= rep_count:
                break
            control = control & ~(REP_MASK << REP_START_SHIFT) | completed << REP_START_SHIFT
            self.rep_round += 1
        self.rep_round = 0
        return status

    @staticmethod
    def hv_result_to_errno(status: int) -> int:
        """0 or a negative errno (``drivers/hv/hv_common.c``)."""
        if status == U64:
            return -EOPNOTSUPP
        result = status & STATUS_MASK
        return -ERRNO_OF_STATUS.get(result, EIO) if result else 0

    def hv_call_deposit_pages(self, partition_id: int, num_pages: int) -> int:
        """Give pages to a partition's pool (``drivers/hv/hv_proc.c``). Sleeps. On any failure it frees all pages, also those
        that the hypervisor has already taken: that is the helper's own flaw and is reported as the helper's."""
        if num_pages == 0:
            return 0
        if num_pages > abi.DEPOSIT_LIST_MAX:
            return -E2BIG
        self.deposit_calls += 1
        self.might_sleep("hv_call_deposit_pages")
        fault = self.faults.arrive(ALLOC_PAGES)
        if fault is not None:
            self.faults.fire(fault)
            return -ENOMEM
        frame = self.next_frame
        self.next_frame += num_pages
        flags = self.local_irq_save()
        page = self.hyperv_pcpu_input_arg()
        abi.DEPOSIT_MEMORY.pack_into(page, 0, partition_id)
        self.write_u64_list(page, abi.DEPOSIT_MEMORY.size, frame, num_pages)
        status = self.hv_do_rep_hypercall(abi.HVCALL_DEPOSIT_MEMORY, num_pages)
        self.local_irq_restore(flags)
        if status & STATUS_MASK:
            self.hv_status_err(status, "hv_call_deposit_pages", "")
            if status >> REP_COUNT_SHIFT & REP_MASK:
                self.report("deposit-helper", "pages that the hypervisor has taken were freed after a partly failed deposit")
        else:
            self.deposited += num_pages
        return self.hv_result_to_errno(status)

    # --- log --------------------------------------------------------------------------------------------------------

    def pr_err(self, text: str) -> None:
        """Print at error level."""
        self.log.append(("err", text))

    def pr_warn(self, text: str) -> None:
        """Print at warning level."""
        self.log.append(("warn", text))

    def pr_info(self, text: str) -> None:
        """Print at info level."""
        self.log.append(("info", text))

    def hv_status_err(self, status: int, function: str, text: str) -> None:
        """Print the name of a failing status."""
        self.log.append(("err", f"{function}: Hypercall {abi.status_name(status)} ({status & STATUS_MASK:#x}) {text}".rstrip()))

    # --- threads and partitions ---------------------------------------------------------------------------------------

    def current_tgid(self) -> int:
        """``current->tgid``."""
        return self.cpu.tgid

    def symbol_get(self, name: str) -> Callable[[int], int] | None:
        """A symbol of another module, or None when the module is not loaded."""
        return self.mshv_pid_to_partid if self.mshv and name == "mshv_pid_to_partid" else None

    def mshv_pid_to_partid(self, tgid: int) -> int:
        """The first partition that this thread group created, or HV_PARTITION_ID_INVALID."""
        owned = self.partitions_of.get(tgid)
        return owned[0] if owned else HV_PARTITION_ID_INVALID

    # --- devices and the core -----------------------------------------------------------------------------------------

    def dev_iommu_priv_get(self, device: Device) -> Any:
        """The driver's private pointer."""
        return device.priv

    def dev_iommu_priv_set(self, device: Device, value: Any) -> None:
        """Set the private pointer; the real one asserts ``iommu_probe_device_lock`` (``drivers/iommu/iommu.c``)."""
        if not self.probe_lock_held:
            self.report("probe-lock", "dev_iommu_priv_set without iommu_probe_device_lock")
        device.priv = value

    def hv_build_devid_oftype(self, device: Device, kind: int) -> int:
        """``union hv_device_id``: for PCI the requester id that DMA carries, for LOGICAL the own number. Both keep 16 bits
        of the segment."""
        if kind == abi.HV_DEVICE_TYPE_PCI:
            return abi.device_id(abi.HV_DEVICE_TYPE_PCI, device.requester & U32)
        return abi.device_id(abi.HV_DEVICE_TYPE_LOGICAL, device.requester_own & U32)

    def iommu_get_domain_for_dev(self, device: Device) -> IommuDomain | None:
        """The domain that the core believes the device is in."""
        return self.domain_of(device)

    def iommu_device_sysfs_add(self, name: str) -> int:
        """Make the IOMMU visible to user space; 0 or a negative errno."""
        fault = self.faults.arrive(SYSFS_ADD)
        if fault is not None:
            self.faults.fire(fault)
            return -ENOMEM
        self.sysfs_visible = True
        self.on_visible("sysfs")
        return 0

    def iommu_device_sysfs_remove(self) -> None:
        """Take the sysfs entry away."""
        self.sysfs_visible = False

    def iommu_device_register(self, ops: IommuOps) -> int:
        """Hand the ops to the core, which probes the bus before this returns; 0 or a negative errno."""
        fault = self.faults.arrive(REGISTER)
        if fault is not None:
            self.faults.fire(fault)
            return -ENOMEM
        self.registered = ops
        self.on_visible("core")
        return 0

    def panic(self, why: str) -> NoReturn:
        """The kernel would BUG here; the world ends."""
        self.report("bug", why)
        raise Runaway(why)
