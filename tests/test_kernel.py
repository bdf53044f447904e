"""What the kernel's services promise a driver, and what they report when a driver breaks a rule."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from hvmodel.faults import ALLOC_PAGES, KZALLOC, REGISTER, SYSFS_ADD, Fault, FaultPlan
from hvmodel.hypervisor import abi
from hvmodel.hypervisor.abi import PAGE_SIZE, REP_COUNT_SHIFT, REP_MASK, REP_START_SHIFT, U64
from hvmodel.kernel.iommu import E2BIG, EINVAL, EIO, ENOMEM, EOPNOTSUPP, GFP_ATOMIC, GFP_KERNEL, Device, IommuOps
from hvmodel.kernel.services import ERRNO_OF_STATUS, Kernel, Runaway, SpinLock
from hvmodel.kernel.slab import SlabObject

Answer = Callable[[int, bytes], int]


class Thing(SlabObject):
    """An object with a field, and a structure embedded in it."""

    EMBEDDED = frozenset({"inner"})
    __slots__ = ("inner", "value")

    def __init__(self) -> None:
        self.value = 0
        self.inner = [0]


class Door:
    """The hypercall instruction: writes down each call, answers what it is told to, full success otherwise."""

    def __init__(self) -> None:
        self.calls: list[int] = []
        self.pages: list[bytes] = []
        self.answers: list[int] = []

    def __call__(self, control: int, page: bytearray, _output: bytearray) -> int:
        self.calls.append(control)
        self.pages.append(bytes(page))
        if self.answers:
            return self.answers.pop(0)
        return (control >> REP_COUNT_SHIFT & REP_MASK) << REP_COUNT_SHIFT


def word(status: int, reps: int = 0) -> int:
    """A status word."""
    return reps << REP_COUNT_SHIFT | status


@pytest.fixture
def door() -> Door:
    return Door()


@pytest.fixture
def kernel(door: Door) -> Kernel:
    return Kernel(FaultPlan(), door)


def rules(kernel: Kernel) -> list[str]:
    """The rules that were broken so far."""
    return [rule for rule, _detail in kernel.reports]


def new(kernel: Kernel) -> Thing:
    """An allocated thing."""
    thing = kernel.kzalloc(Thing, GFP_KERNEL)
    assert thing is not None
    return thing


# --- slab ------------------------------------------------------------------------------------------------------------


def test_what_is_allocated_is_accounted_to_its_owner(kernel: Kernel) -> None:
    """Leaks are seen per domain: an allocation belongs to whom the world named."""
    kernel.slab.owner = "domain 1"
    mine = [new(kernel), new(kernel)]
    kernel.slab.owner = None
    other = new(kernel)
    assert (kernel.slab.owned_by("domain 1"), kernel.slab.owned_by(None)) == (2, 1)
    kernel.kfree(mine[0])
    assert kernel.slab.owned_by("domain 1") == 1
    assert not kernel.slab.is_live(mine[0])
    assert kernel.slab.is_live(mine[1])
    assert kernel.slab.is_live(other)
    assert not kernel.reports


def test_a_freed_object_keeps_its_values_and_tells_of_each_use(kernel: Kernel) -> None:
    """Freed memory mostly still holds what it held; each read and write is reported."""
    thing = new(kernel)
    thing.value = 7
    kernel.kfree(thing)
    assert thing.value == 7
    thing.value = 8
    assert thing.value == 8
    assert kernel.reports == [
        ("use-after-free", "read of Thing.value"),
        ("use-after-free", "write of Thing.value"),
        ("use-after-free", "read of Thing.value"),
    ]


def test_the_address_of_an_embedded_structure_reads_nothing(kernel: Kernel) -> None:
    """``&hvdom->iommu_dom`` of a freed object is arithmetic, not a read."""
    thing = new(kernel)
    kernel.kfree(thing)
    assert thing.inner == [0]
    assert not kernel.reports


def test_a_second_free_is_reported(kernel: Kernel) -> None:
    """Double free; the object's type stays what it was."""
    thing = new(kernel)
    kernel.kfree(thing)
    kernel.kfree(thing)
    assert len(kernel.reports) == 1
    assert "second kfree" in kernel.reports[0][1]
    assert isinstance(thing, Thing)


def test_null_may_be_freed(kernel: Kernel) -> None:
    """``kfree(NULL)`` does nothing."""
    kernel.kfree(None)
    assert not kernel.reports


def test_one_poisoned_object_leaves_the_others_alone(kernel: Kernel) -> None:
    """Poison is per object, not per class."""
    dead, alive = new(kernel), new(kernel)
    kernel.kfree(dead)
    alive.value = 1
    assert alive.value == 1
    assert not kernel.reports


def test_an_allocation_fails_where_a_fault_says_so(kernel: Kernel) -> None:
    """The n-th of the operation, once; nothing is accounted for it."""
    kernel.faults.begin((Fault(KZALLOC, 2),))
    answers = [kernel.kzalloc(Thing, GFP_KERNEL) for _ in range(3)]
    assert [answer is None for answer in answers] == [False, True, False]
    assert len(kernel.slab.live) == 2
    assert len(kernel.faults.fired) == 1


@pytest.mark.parametrize(("passed", "used", "broken"), [
    (GFP_KERNEL, GFP_ATOMIC, ["gfp"]),
    (GFP_ATOMIC, GFP_ATOMIC, []),
    (GFP_KERNEL, GFP_KERNEL, []),
    (None, GFP_ATOMIC, []),
])
def test_a_map_allocates_with_its_callers_gfp(kernel: Kernel, passed: str | None, used: str, broken: list[str]) -> None:
    """Neither stricter nor laxer; outside a map any gfp is the driver's own business."""
    kernel.gfp_allowed = passed
    kernel.kzalloc(Thing, used)
    assert rules(kernel) == broken


# --- context ---------------------------------------------------------------------------------------------------------


def test_sleeping_is_allowed_in_process_context(kernel: Kernel) -> None:
    """No lock, interrupts on."""
    kernel.might_sleep("test")
    assert not kernel.reports


def test_sleeping_with_interrupts_off(kernel: Kernel) -> None:
    """``might_sleep`` reports why, and is quiet again afterwards."""
    flags = kernel.local_irq_save()
    kernel.might_sleep("test")
    assert kernel.reports == [("sleep-in-atomic", "test with interrupts off")]
    kernel.local_irq_restore(flags)
    kernel.might_sleep("test")
    assert len(kernel.reports) == 1


def test_sleeping_under_a_spinlock_and_for_an_atomic_caller(kernel: Kernel) -> None:
    """A spinlock held, or a caller that forbids it; GFP_KERNEL sleeps, GFP_ATOMIC does not."""
    lock = SpinLock("lock")
    flags = kernel.spin_lock_irqsave(lock)
    kernel.kzalloc(Thing, GFP_KERNEL)
    kernel.kzalloc(Thing, GFP_ATOMIC)
    kernel.spin_unlock_irqrestore(lock, flags)
    assert rules(kernel) == ["sleep-in-atomic"]
    kernel.cpu.atomic_caller = True
    kernel.kzalloc(Thing, GFP_KERNEL)
    assert kernel.reports[-1] == ("sleep-in-atomic", "kzalloc(GFP_KERNEL) with an atomic caller")


def test_interrupt_state_nests(kernel: Kernel) -> None:
    """The inner restore leaves interrupts off, the outer one turns them on."""
    outer = kernel.local_irq_save()
    inner = kernel.local_irq_save()
    assert (outer, inner) == (False, True)
    kernel.local_irq_restore(inner)
    assert kernel.cpu.irqs_off
    kernel.local_irq_restore(outer)
    assert not kernel.cpu.irqs_off


def test_a_lock_is_not_taken_twice(kernel: Kernel) -> None:
    """A real one would hang."""
    lock = SpinLock("tree")
    kernel.spin_lock_irqsave(lock)
    kernel.spin_lock_irqsave(lock)
    assert kernel.reports == [("lock", "tree is taken twice")]


def test_only_a_held_lock_is_released(kernel: Kernel) -> None:
    """Lock balance, and the interrupt state that goes with it."""
    lock = SpinLock("tree")
    kernel.spin_unlock_irqrestore(lock, False)
    assert kernel.reports == [("lock", "tree is released but not held")]
    flags = kernel.spin_lock_irqsave(lock)
    assert kernel.cpu.irqs_off
    assert kernel.cpu.locks == [lock]
    kernel.spin_unlock_irqrestore(lock, flags)
    assert not kernel.cpu.irqs_off
    assert not kernel.cpu.locks
    assert lock.holder is None


def test_the_input_page_belongs_to_a_cpu(kernel: Kernel) -> None:
    """With interrupts on, the thread could move to another CPU between writing and calling."""
    kernel.hyperv_pcpu_input_arg()
    assert rules(kernel) == ["irqs"]


def test_the_private_pointer_needs_the_probe_lock(kernel: Kernel) -> None:
    """``dev_iommu_priv_set`` asserts ``iommu_probe_device_lock``; the pointer is set all the same."""
    device = Device(0, "0000:00:01.0", 0, 0, 1, 0, 8)
    kernel.dev_iommu_priv_set(device, "one")
    assert rules(kernel) == ["probe-lock"]
    kernel.probe_lock_held = True
    kernel.dev_iommu_priv_set(device, "two")
    assert len(kernel.reports) == 1
    assert kernel.dev_iommu_priv_get(device) == "two"


def test_threads_are_preempted_where_they_could_be(kernel: Kernel) -> None:
    """A scheduler put underneath is called before a lock, after it, at a hypercall and where one may sleep."""
    seen: list[str] = []
    kernel.preempt = seen.append
    lock = SpinLock()
    flags = kernel.spin_lock_irqsave(lock)
    kernel.spin_unlock_irqrestore(lock, flags)
    kernel.hv_do_hypercall(0)
    kernel.might_sleep("sleep")
    assert seen == ["spin_lock", "spin_unlock", "hypercall", "sleep"]


# --- hypercalls ------------------------------------------------------------------------------------------------------


def fields(control: int) -> tuple[int, int, int]:
    """Code, rep count (with the reserved bits above it), rep start."""
    return control & 0xFFFF, control >> REP_COUNT_SHIFT & 0xFFFF, control >> REP_START_SHIFT & REP_MASK


def test_a_rep_call_is_issued_again_until_it_is_done(kernel: Kernel, door: Door) -> None:
    """Success with reps left: again, from where it stopped, with the same count."""
    door.answers = [word(0, 100), word(0, 250), word(0, 300)]
    assert kernel.hv_do_rep_hypercall(0xB4, 300) == word(0, 300)
    assert [fields(control) for control in door.calls] == [(0xB4, 300, 0), (0xB4, 300, 100), (0xB4, 300, 250)]


def test_a_rep_call_ends_at_the_first_error(kernel: Kernel, door: Door) -> None:
    """The last status is returned, with what was completed."""
    door.answers = [word(0, 100), word(0x71, 120)]
    assert kernel.hv_do_rep_hypercall(0xB4, 300) == word(0x71, 120)
    assert len(door.calls) == 2


@pytest.mark.parametrize(
    ("asked", "sent"), [(1, 1), (4095, 4095), (4096, 4096), (65535, 65535), (65536, 0), (65537, 1), (65536 + 300, 300)]
)
def test_the_rep_count_is_a_u16(kernel: Kernel, door: Door, asked: int, sent: int) -> None:
    """The parameter is cut to 16 bits and not masked to the 12 bits of the field: above 4095 reserved bits are set."""
    door.answers = [word(0x3)]
    kernel.hv_do_rep_hypercall(0xB4, asked)
    assert fields(door.calls[0])[1] == sent
    assert bool(door.calls[0] & abi.CONTROL_RESERVED) == (sent > 4095)


def test_no_reps_are_still_one_call(kernel: Kernel, door: Door) -> None:
    """``do {} while``: count 0 issues one call, without a rep count."""
    assert kernel.hv_do_rep_hypercall(0xB4, 0) == 0
    assert [fields(control) for control in door.calls] == [(0xB4, 0, 0)]


def test_a_list_that_leaves_the_page_is_reported(kernel: Kernel) -> None:
    """What fits is written, the rest is counted in bytes: 507 PFNs fit behind the map header, 508 do not."""
    page, offset = bytearray(PAGE_SIZE), abi.MAP_DEVICE_GPA_PAGES.size
    kernel.write_u64_list(page, offset, 0x1000, 507)
    assert not kernel.reports
    assert page[offset : offset + 16] == (0x1000).to_bytes(8, "little") + (0x1001).to_bytes(8, "little")
    assert page[-8:] == (0x1000 + 506).to_bytes(8, "little")
    kernel.write_u64_list(page, offset, 0x2000, 512)
    assert kernel.reports == [("input-page-overrun", "40 bytes written past the hypercall input page")]
    assert len(page) == PAGE_SIZE
    assert page[-8:] == (0x2000 + 506).to_bytes(8, "little")


def test_no_list_is_no_write(kernel: Kernel) -> None:
    """Nothing to write changes nothing, even at the end of the page."""
    page = bytearray(PAGE_SIZE)
    kernel.write_u64_list(page, PAGE_SIZE, 1, 0)
    assert page == bytearray(PAGE_SIZE)
    assert not kernel.reports


@pytest.mark.parametrize(
    ("status", "errno"),
    [
        (0x00, 0),
        (0x02, -EINVAL),
        (0x03, -EINVAL),
        (0x05, -EINVAL),
        (0x0D, -EINVAL),
        (0x0E, -EINVAL),
        (0x11, -EINVAL),
        (0x12, -EINVAL),
        (0x41, -EINVAL),
        (0x50, -EINVAL),
        (0x0B, -ENOMEM),
        (0x73, -ENOMEM),
        (0x75, -ENOMEM),
        (0x83, -ENOMEM),
        (0x04, -EIO),
        (0x06, -EIO),
        (0x08, -EIO),
        (0x19, -EIO),
        (0x57, -EIO),
        (0x58, -EIO),
        (0x65, -EIO),
        (0x66, -EIO),
        (0x71, -EIO),
        (0x78, -EIO),
    ],
)
def test_errno_of_a_status(status: int, errno: int) -> None:
    """``hv_result_to_errno`` looks at the low 16 bits only; what its table does not list is -EIO."""
    assert Kernel.hv_result_to_errno(status) == errno
    assert Kernel.hv_result_to_errno(word(status, 7) | 0xABC << 48) == errno


def test_errno_of_no_hypervisor() -> None:
    """All ones say that there is no hypercall page."""
    assert Kernel.hv_result_to_errno(U64) == -EOPNOTSUPP
    assert set(ERRNO_OF_STATUS.values()) == {EINVAL, ENOMEM}


# --- deposit ---------------------------------------------------------------------------------------------------------


def test_a_deposit_is_one_list_of_frames(kernel: Kernel, door: Door) -> None:
    """Partition, then the frames, each of them once and never again."""
    assert kernel.hv_call_deposit_pages(0x10, 3) == 0
    assert kernel.hv_call_deposit_pages(1, 2) == 0
    assert [fields(control) for control in door.calls] == [(0x48, 3, 0), (0x48, 2, 0)]
    frames = []
    for page, count in zip(door.pages, (3, 2), strict=True):
        frames += [int.from_bytes(page[8 + 8 * i : 16 + 8 * i], "little") for i in range(count)]
    assert [int.from_bytes(page[:8], "little") for page in door.pages] == [0x10, 1]
    assert frames == list(range(Kernel.FIRST_FRAME, Kernel.FIRST_FRAME + 5))
    assert kernel.deposited == 5
    assert kernel.deposit_calls == 2
    assert not kernel.reports
    assert not kernel.cpu.irqs_off


def test_no_pages_are_no_deposit(kernel: Kernel, door: Door) -> None:
    """Nothing to give is success without a call."""
    assert kernel.hv_call_deposit_pages(1, 0) == 0
    assert not door.calls


@pytest.mark.parametrize(("pages", "errno"), [(511, 0), (512, -E2BIG)])
def test_a_deposit_fits_one_page(kernel: Kernel, door: Door, pages: int, errno: int) -> None:
    """511 frames fit behind the partition id; more is -E2BIG before anything is allocated."""
    assert kernel.hv_call_deposit_pages(1, pages) == errno
    assert bool(door.calls) == (errno == 0)
    assert kernel.deposited == (0 if errno else pages)


def test_a_deposit_needs_host_memory(kernel: Kernel, door: Door) -> None:
    """``alloc_pages`` is a site of its own: -ENOMEM and no hypercall."""
    kernel.faults.begin((Fault(ALLOC_PAGES),))
    assert kernel.hv_call_deposit_pages(1, 1) == -ENOMEM
    assert not door.calls
    assert [fault.site for fault in kernel.faults.fired] == [ALLOC_PAGES]


def test_a_refused_deposit_frees_all(kernel: Kernel, door: Door) -> None:
    """Nothing was taken: nothing is lost, the errno is that of the status, a line is printed."""
    door.answers = [word(0x08)]
    assert kernel.hv_call_deposit_pages(1, 4) == -EIO
    assert kernel.deposited == 0
    assert not kernel.reports
    assert len(kernel.log) == 1


def test_a_partly_refused_deposit_is_the_helpers_flaw(kernel: Kernel, door: Door) -> None:
    """It frees pages that the hypervisor has taken; the report names the helper, not the driver."""
    door.answers = [word(0x08, 2)]
    assert kernel.hv_call_deposit_pages(1, 4) == -EIO
    assert rules(kernel) == ["deposit-helper"]


def test_a_deposit_sleeps(kernel: Kernel) -> None:
    """It must not be called with interrupts off, and says so itself."""
    flags = kernel.local_irq_save()
    kernel.hv_call_deposit_pages(1, 1)
    kernel.local_irq_restore(flags)
    assert rules(kernel) == ["sleep-in-atomic"]


# --- visibility, threads, the end ------------------------------------------------------------------------------------


def ops_table() -> IommuOps:
    """Ops that nobody calls."""
    return IommuOps(*[lambda *_args: 0] * 7)  # type: ignore[arg-type]


def test_sysfs_and_registration_are_visible_at_once(kernel: Kernel) -> None:
    """Whoever watches hears of each when it happens, not when init returns."""
    seen: list[str] = []
    kernel.on_visible = seen.append
    assert kernel.iommu_device_sysfs_add("x") == 0
    assert seen == ["sysfs"]
    table = ops_table()
    assert kernel.iommu_device_register(table) == 0
    assert seen == ["sysfs", "core"]
    assert kernel.registered is table
    kernel.iommu_device_sysfs_remove()
    assert not kernel.sysfs_visible


@pytest.mark.parametrize("site", [SYSFS_ADD, REGISTER])
def test_sysfs_and_registration_can_fail(kernel: Kernel, site: str) -> None:
    """Both are fault sites; what fails becomes visible to nobody."""
    seen: list[str] = []
    kernel.on_visible = seen.append
    kernel.faults.begin((Fault(site),))
    add, register = kernel.iommu_device_sysfs_add("x"), kernel.iommu_device_register(ops_table())
    assert (add, register) == ((-ENOMEM, 0) if site == SYSFS_ADD else (0, -ENOMEM))
    assert seen == (["core"] if site == SYSFS_ADD else ["sysfs"])
    assert kernel.sysfs_visible == (site != SYSFS_ADD)
    assert (kernel.registered is None) == (site == REGISTER)


def test_the_partition_of_a_process(kernel: Kernel) -> None:
    """The first that its thread group created; none for others; no symbol without the module."""
    kernel.partitions_of[7] = [0x10, 0x11]
    find = kernel.symbol_get("mshv_pid_to_partid")
    assert find is not None
    assert (find(7), find(8)) == (0x10, abi.HV_PARTITION_ID_INVALID)
    assert kernel.symbol_get("something_else") is None
    kernel.mshv = False
    assert kernel.symbol_get("mshv_pid_to_partid") is None


def test_ids_of_a_device_and_of_its_alias(kernel: Kernel) -> None:
    """A PCI id is what DMA carries, a logical id the function's own number."""
    device = Device(1, "0000:04:00.1", 0, 4, 0, 1, 0x400)
    assert kernel.hv_build_devid_oftype(device, abi.HV_DEVICE_TYPE_PCI) == 1 << 62 | 0x400
    assert kernel.hv_build_devid_oftype(device, abi.HV_DEVICE_TYPE_LOGICAL) == 0x401


def test_what_was_never_set_is_rubbish(kernel: Kernel) -> None:
    """An uninitialised variable reads as all ones and is reported; so is a write through NULL."""
    assert kernel.uninitialised_read("x") == U64
    kernel.null_write("y")
    assert rules(kernel) == ["uninitialised-read", "null-write"]


def test_a_panic_ends_the_call(kernel: Kernel) -> None:
    """BUG: reported, and nothing after it runs."""
    with pytest.raises(Runaway):
        kernel.panic("why")
    assert kernel.reports == [("bug", "why")]


# --- faults ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fault", "hit"),
    [
        (Fault(KZALLOC), [1]),
        (Fault(KZALLOC, 3), [3]),
        (Fault(KZALLOC, 2, times=2), [2, 3]),
        (Fault(KZALLOC, 4, times=None), [4, 5, 6, 7, 8]),
        (Fault(KZALLOC, 3, times=4), [3, 4, 5, 6]),
    ],
    ids=str,
)
def test_how_long_a_fault_lasts(fault: Fault, hit: list[int]) -> None:
    """Once, some times in a row, or until lifted; beyond the operation if it has begun. Four arrivals an operation."""
    plan = FaultPlan()
    plan.begin((fault,))
    seen = []
    for arrival in range(1, 9):
        if arrival == 5:
            plan.begin(())
        if plan.arrive(KZALLOC) is not None:
            seen.append(arrival)
    assert seen == hit


def test_a_fault_that_was_never_reached_ends_with_its_operation() -> None:
    """Only one that has begun goes on."""
    plan = FaultPlan()
    plan.begin((Fault(KZALLOC, 5, times=None),))
    plan.arrive(KZALLOC)
    plan.begin(())
    assert [plan.arrive(KZALLOC) for _ in range(8)] == [None] * 8


def test_recovery_lifts_all() -> None:
    """What lasts until lifted is over then."""
    plan = FaultPlan()
    plan.begin((Fault(KZALLOC, times=None),))
    assert plan.arrive(KZALLOC) is not None
    plan.lift()
    assert plan.arrive(KZALLOC) is None
