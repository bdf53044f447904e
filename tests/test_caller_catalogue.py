"""Known defects of the posted driver, each brought out by what user space asks: VFIO, iommufd and a process's end, nothing else.

The traces of ``catalogue.py`` are the shortest ones of any caller. These are what a kernel does. Whoever can run a VMM can do those
in which nothing is refused; for the others the hypervisor has to refuse something as well.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest

from hvmodel import operations as ops
from hvmodel.callers.levels import KERNEL
from hvmodel.configuration import Configuration
from hvmodel.faults import Fault
from hvmodel.world import World

MIB, PAGE, RAM = 1 << 20, 0x1000, 0x40000000
MAP, UNMAP, ATTACH, DETACH_GUEST = "MAP_DEVICE_GPA_PAGES", "UNMAP_DEVICE_GPA_PAGES", "ATTACH_DEVICE_DOMAIN", "DETACH_DEVICE"


@dataclass(frozen=True)
class Seen:
    """A property that fails at the last operation after boot, and part of what is said of it."""

    property: str
    detail: str
    operations: Sequence[ops.Operation]
    config: Configuration = field(default_factory=Configuration)


def refused(site: str, nth: int = 1, done: int = 0, times: int | None = 1) -> tuple[Fault, ...]:
    """One refusal."""
    return (Fault(site, nth, 0x71, done, times),)


JOIN = ops.VfioJoin()
SIXTEEN = ops.VfioMap(1, MIB, RAM, 16)
HALF_UNMAPPED = ops.VfioUnmap(1, MIB, 16, faults=refused(UNMAP, done=4))
NOT_TAKEN = ops.VfioJoin(group=1, faults=refused(ATTACH, 4))
"""A second device cannot join the container's domain: its attach is refused, and the driver goes back."""
VMM = (ops.VmCreate(1), ops.VfioJoin(by=1))

CASES: dict[str, Seen] = {
    "D01": Seen("input-page-bounds", "8 bytes", (JOIN, ops.VfioMap(1, MIB, RAM + PAGE, 508))),
    "D02": Seen(
        "page-given-back",
        "0000:00:01.0 still writes there",
        (ops.IommufdAttach(), ops.IoasMap(1, MIB, RAM, 4096, 256, 256), ops.IoasUnmap(1, MIB, 4096)),
    ),
    "D05": Seen(
        "lookup-matches-caller",
        "iova_to_phys says 0x0, promised 0x40000000",
        (JOIN, SIXTEEN, ops.VfioMap(1, 0, RAM + MIB, 1, faults=refused(MAP))),
    ),
    "D20": Seen("page-given-back", "128 pages", (JOIN, ops.VfioMap(1, MIB, RAM + PAGE, 384), ops.VfioUnmap(1, MIB, 384))),
    "D21": Seen("page-given-back", "1 page", (ops.VfioJoin(probe=True),)),
    "D29": Seen("page-given-back", "12 pages", (JOIN, SIXTEEN, HALF_UNMAPPED)),
    "D30": Seen("tree-matches-hypervisor", "12 pages", (JOIN, SIXTEEN, HALF_UNMAPPED)),
    "D50": Seen(
        "count-matches", "the driver counts 0, the hypervisor has 1", (VMM[0], ops.VfioJoin(by=1, faults=refused(DETACH_GUEST)))
    ),
    "D51": Seen("failed-attach-keeps-old", "the count of blocking domain of group 1 is 0, was 1", (JOIN, NOT_TAKEN)),
    "D52": Seen(
        "free-frees-all", "blocking domain of group 1 is freed, domain", (JOIN, NOT_TAKEN, ops.VfioLeave(1), ops.Release(1))
    ),
    "D53": Seen(
        "free-frees-all",
        "IOAS 1's domain (3) is freed, domain",
        (ops.IommufdAttach(), ops.IommufdAttach(2, 0, faults=refused(ATTACH)), ops.IommufdAttach(2, 0)),
    ),
    "D55": Seen("names-existing-things", "DETACH_DEVICE: partition 0x0 does not have the device", (*VMM, ops.Exit(1))),
    "D56": Seen("free-frees-all", "is still in the hypervisor", (ops.VfioJoin(by=1), ops.VmCreate(1), ops.VfioLeave())),
    "D56-exit": Seen("names-existing-things", "DELETE_DEVICE_DOMAIN: domain", (*VMM, ops.Exit(1))),
    "D58": Seen("replace-has-no-gap", "it is in default", (JOIN,)),
    "D59": Seen("no-use-after-free", "attach_dev", (*VMM, ops.Exit(1))),
    "D59-refused": Seen("pointer-matches", "names a freed domain", (JOIN, ops.VfioLeave(faults=refused(ATTACH, times=3)))),
    "D61": Seen("static-domains-always-attach", "identity answers -EIO", (JOIN, ops.VfioLeave(faults=refused(ATTACH, 2)))),
    "D68": Seen("blocked-is-blocked", "in guest 0x10 and reaches memory", VMM),
    "D72": Seen("allocation-recovers", "again with id 0x1", (JOIN, JOIN), Configuration(left_domains=(1,))),
}
"""By the defect's id, with a suffix where it has several faces."""


def told(seen: Seen, driver: str, operations: Sequence[ops.Operation]) -> list[tuple[str, str]]:
    """What the last operation shows: properties and what is said of them."""
    world = World(seen.config, driver)
    outcome = world.apply(ops.Boot())
    for operation in operations:
        outcome = world.apply(operation)
    return [(violation.property, violation.detail) for violation in outcome.violations]


def shows(seen: Seen, driver: str, operations: Sequence[ops.Operation]) -> bool:
    """Whether it is the failure that is meant."""
    return any(name == seen.property and seen.detail in detail for name, detail in told(seen, driver, operations))


@pytest.mark.parametrize("name", CASES)
def test_user_space_brings_it_out_of_the_posted_driver(name: str) -> None:
    """Protects the reach of the kernel level: what only another kind of caller could cause would be a curiosity."""
    seen = CASES[name]
    assert shows(seen, "posted-v0", seen.operations), told(seen, "posted-v0", seen.operations)


@pytest.mark.parametrize("name", CASES)
def test_nobody_else_has_a_hand_in_it(name: str) -> None:
    """Protects the claim: every step is one of user space's, or what the host does with VMs and devices, at the kernel level."""
    seen = CASES[name]
    world = World(seen.config, "posted-v0")
    for operation in (ops.Boot(), *seen.operations):
        assert operation.kind in ops.IOCTLS | {"boot", "vm-create", "release"}
        assert world.apply(operation).level == KERNEL


@pytest.mark.parametrize("name", CASES)
def test_a_good_driver_is_clean_on_it(name: str) -> None:
    """Protects against crying wolf: the same life on the repaired driver shows nothing at all."""
    seen = CASES[name]
    for length in range(len(seen.operations) + 1):
        assert told(seen, "repaired", seen.operations[:length]) == []


@pytest.mark.parametrize("name", CASES)
def test_no_step_can_go(name: str) -> None:
    """Protects the reader of a trace: without any one of its steps it does not show what it is about."""
    seen = CASES[name]
    for index in range(len(seen.operations) - 1):
        shorter = [*seen.operations[:index], *seen.operations[index + 1 :]]
        assert not shows(seen, "posted-v0", shorter), shorter


def test_what_is_lost_stays_pinned() -> None:
    """D05 and D30 beyond the driver: VFIO finds nothing at a page that it mapped, and keeps its memory pinned for ever."""
    world = World(Configuration(), "posted-v0")
    for operation in (ops.Boot(), *CASES["D05"].operations, ops.VfioUnmap(1, 0, 0), ops.VfioLeave()):
        world.apply(operation)
    assert world.user.memory.pins.pages == 16
