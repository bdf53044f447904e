"""The callers: the calls that a driver sees are those that the kernel's IOMMU core makes (``drivers/iommu/iommu.c``)."""

from __future__ import annotations

from typing import Any

import pytest
from toy_drivers import ExactToy, NodeToy, Toy, play, stage

from hvmodel import operations as ops
from hvmodel.callers.books import LIMBO
from hvmodel.callers.core import Refused
from hvmodel.callers.levels import BEYOND, CONTRACT, KERNEL, LEVELS, level_of
from hvmodel.configuration import Configuration, PciFunction
from hvmodel.faults import Fault
from hvmodel.hypervisor.objects import IN_DEFAULT, IN_NULL
from hvmodel.kernel.iommu import EBUSY, EINVAL, EIO, ENODEV, ENOMEM, GFP_KERNEL, Device, IommuDomain
from hvmodel.kernel.services import Kernel
from hvmodel.world import World

K, M, G = 1 << 12, 1 << 20, 1 << 30
TWO_M = 2 * M
ALL_SIZES = (1 << 64) - K
MAP = "MAP_DEVICE_GPA_PAGES"
RW = 3


def size_name(size: int) -> str:
    """4K, 1M, 1G."""
    for unit, letter in ((G, "G"), (M, "M"), (1 << 10, "K")):
        if size % unit == 0:
            return f"{size // unit}{letter}"
    return str(size)


class Recording:
    """Mixed into a toy: writes down the calls and can be told to fail some of them."""

    kernel: Kernel

    def prepare(self) -> None:
        self.calls: list[str] = []
        self.attaches: list[tuple[int, IommuDomain, IommuDomain | None]] = []
        self.order: list[str] = []
        self.attach_answers: list[int] = []
        """Answers of the next attaches; 0 does it, anything else does nothing. Empty: all are done."""
        self.map_answers: list[tuple[int, int] | None] = []
        """(errno, bytes done) of the next maps; None does it."""

    def map_pages(self, domain: Any, iova: int, paddr: int, pgsize: int, n: int, prot: int, gfp: str, out: Any) -> int:
        self.calls.append(f"M {iova:#x} {size_name(pgsize)}x{n}")
        answer = self.map_answers.pop(0) if self.map_answers else None
        if answer is None:
            return int(super().map_pages(domain, iova, paddr, pgsize, n, prot, gfp, out))  # type: ignore[misc]
        errno, done = answer
        if done:
            super().map_pages(domain, iova, paddr, K, done // K, prot, gfp, out)  # type: ignore[misc]
        out[0] = done
        return errno

    def unmap_pages(self, domain: Any, iova: int, pgsize: int, n: int) -> int:
        self.calls.append(f"U {iova:#x} {size_name(pgsize)}x{n}")
        return int(super().unmap_pages(domain, iova, pgsize, n))  # type: ignore[misc]

    def attach_dev(self, domain: IommuDomain, device: Device, old: IommuDomain | None) -> int:
        self.attaches.append((device.number, domain, old))
        self.order.append("A")
        if self.attach_answers and (answer := self.attach_answers.pop(0)):
            return answer
        return int(super().attach_dev(domain, device, old))  # type: ignore[misc]

    def free(self, domain: IommuDomain) -> None:
        self.order.append("F identity" if domain.container.static else "F")
        super().free(domain)  # type: ignore[misc]

    def release_device(self, device: Device) -> None:
        self.order.append(f"RD {device.number}")
        super().release_device(device)  # type: ignore[misc]


class RecordingExact(Recording, ExactToy):
    """Returns exactly what was asked."""

    name = "recording-exact"

    def __init__(self, kernel: Kernel) -> None:
        self.prepare()
        super().__init__(kernel)


class RecordingNode(Recording, NodeToy):
    """One node for each call, whole nodes go."""

    name = "recording-node"

    def __init__(self, kernel: Kernel) -> None:
        self.prepare()
        super().__init__(kernel)


def recorded(world: World) -> Recording:
    """The world's driver, as the recorder that it is."""
    assert isinstance(world.driver, Recording)
    return world.driver


def chunks(world: World) -> str:
    """The page sizes and counts of the recorded map and unmap calls, and forget them."""
    driver = recorded(world)
    text = " ; ".join(call.split(" ")[2] for call in driver.calls)
    driver.calls.clear()
    return text


def with_sizes(cls: type[Toy], bitmap: int) -> World:
    """A world with domain 1 of these page sizes in an address space of 64 bits."""
    world = stage(type(cls.__name__, (cls,), {"PGSIZES": bitmap}), Configuration(iova_width=64))
    play(world, ops.Alloc())
    return world


# --- the algorithm ---------------------------------------------------------------------------------------------------

VECTORS = {
    # name: bitmap, [(iova, paddr, size)], map calls, (unmap iova, size), exact driver, node driver
    "V1": (K, [(0x100000, 0x40001000, 4 * M)], "4Kx1024", (0x100000, 4 * M), "4Kx1024", "4Kx1024"),
    "V2": (K, [(0, 0x40000000, 2 * M), (0x200000, 0x80000000, 2 * M)], "4Kx512 ; 4Kx512", (0, 4 * M), "4Kx1024", "4Kx1024"),
    "V3": (K | M, [(0x100000, 0x40001000, 4 * M)], "4Kx1024", (0x100000, 4 * M), "1Mx4", "1Mx4"),
    "V4": (K | M, [(0x1FF000, 0x40000000, 3 * M)], "4Kx768", (0x1FF000, 3 * M), "4Kx1 ; 1Mx2 ; 4Kx255", "4Kx1"),
    "V5": (
        K | M,
        [(0x101000, 0x40101000, 4 * M)],
        "4Kx255 ; 1Mx3 ; 4Kx1",
        (0x101000, 4 * M),
        "4Kx255 ; 1Mx3 ; 4Kx1",
        "4Kx255 ; 1Mx3 ; 4Kx1",
    ),
    "V6": (
        K | M,
        [(0x100000, 0x40000000, 0x181000), (0x281000, 0x80001000, 0x17F000)],
        "1Mx1 ; 4Kx129 ; 4Kx383",
        (0x100000, 3 * M),
        "1Mx3",
        "1Mx3",
    ),
    "V7": (K | M, [(0x1FF000, 0x40000000, 0x202000)], "4Kx514", (0x1FF000, 0x202000), "4Kx1 ; 1Mx2 ; 4Kx1", "4Kx1"),
    "V8": (K | M, [(0x180000, 0x40080000, M)], "4Kx256", (0x180000, M), "4Kx256", "4Kx256"),
    "V9": (K | M, [(0xFF000, 0x400FF000, 0x101000)], "4Kx1 ; 1Mx1", (0xFF000, 0x101000), "4Kx1 ; 1Mx1", "4Kx1 ; 1Mx1"),
    "V10": (K | TWO_M | G, [(0xFEF80000, 0x208B95D000, 0x20000)], "4Kx32", (0xFEF80000, 0x20000), "4Kx32", "4Kx32"),
    "V11": (
        K | TWO_M | G,
        [(0x3FE400000, 0x3FE400000, 0xC2200000)],
        "2Mx14 ; 1Gx3 ; 2Mx3",
        (0x3FE400000, 0xC2200000),
        "2Mx14 ; 1Gx3 ; 2Mx3",
        "2Mx14 ; 1Gx3 ; 2Mx3",
    ),
    "V12": (ALL_SIZES, [(0x1000, 0x2000, 0x5000)], "4Kx5", (0x1000, 0x5000), "4Kx1 ; 8Kx2", "4Kx1"),
    "V13": (K | M, [((1 << 64) - 2 * M, 0x40000000, 2 * M)], "1Mx2", ((1 << 64) - 2 * M, 2 * M), "1Mx2", "1Mx2"),
    "V14": (
        K | M,
        [(0, 0x40000000, M), (2 * M, 0x80000000, M)],
        "1Mx1 ; 1Mx1",
        (0, 3 * M),
        "1Mx3 ; 1Mx2",
        "1Mx3 ; 1Mx2",
    ),
}
"""What ``iommu_pgsize`` makes of the cases that decide: computed from the kernel's algorithm, not from this model."""


@pytest.mark.parametrize("name", VECTORS)
@pytest.mark.parametrize("exact", [True, False], ids=["exact", "node"])
def test_chunks_are_the_kernels(name: str, exact: bool) -> None:
    """The calls that map and unmap are cut like the kernel cuts them, and go on from what the driver answered."""
    bitmap, maps, mapped, (iova, size), by_page, by_node = VECTORS[name]
    world = with_sizes(RecordingExact if exact else RecordingNode, bitmap)
    book = world.books.domains[1]
    for at, paddr, length in maps:
        assert world.core.iommu_map(book, at, paddr, length, RW, GFP_KERNEL) == 0
    assert chunks(world) == mapped
    total = world.core.iommu_unmap(book, iova, size)
    assert chunks(world) == (by_page if exact else by_node)
    assert total == (M if name == "V14" else size)
    if name != "V14":
        assert not world.judge.violations
        assert not book.pages


@pytest.mark.parametrize(("iova", "paddr", "size"), [(0x800, 0, K), (0, 0x800, K), (0, 0, 0x800)])
def test_misaligned_requests_never_reach_the_driver(iova: int, paddr: int, size: int) -> None:
    """``iommu_map`` refuses with -EINVAL, ``iommu_unmap`` answers 0; the driver is not called."""
    world = with_sizes(RecordingExact, K | M)
    book = world.books.domains[1]
    assert world.core.iommu_map(book, iova, paddr, size, RW, GFP_KERNEL) == -EINVAL
    assert (iova | size) & 0xFFF == 0 or world.core.iommu_unmap(book, iova, size) == 0
    assert chunks(world) == ""


def test_no_size_means_no_call() -> None:
    """size 0 gives no ``map_pages`` call and success."""
    world = with_sizes(RecordingExact, K | M)
    assert world.core.iommu_map(world.books.domains[1], 0, 0, 0, RW, GFP_KERNEL) == 0
    assert chunks(world) == ""


def test_a_short_success_is_continued() -> None:
    """0 < mapped < size with success is legal: the core asks again from there, with a new chunk (M2)."""
    world = with_sizes(RecordingExact, K | M)
    recorded(world).map_answers = [(0, 4 * K)]
    book = world.books.domains[1]
    assert world.core.iommu_map(book, M, 0x40000000, M, RW, GFP_KERNEL) == 0
    assert recorded(world).calls == ["M 0x100000 1Mx1", "M 0x104000 4Kx252"]
    assert not world.judge.violations
    assert book.pages.covered(0x100, 0x200) == 256


def test_no_progress_ends_the_request() -> None:
    """The real core loops for ever on success with nothing mapped; the model says so and stops (M4)."""
    world = with_sizes(RecordingExact, K | M)
    recorded(world).map_answers = [(0, 0)]
    world.core.iommu_map(world.books.domains[1], M, 0x40000000, K, RW, GFP_KERNEL)
    assert recorded(world).calls == ["M 0x100000 4Kx1"]
    assert {violation.property for violation in world.judge.violations} == {"map-result"}


@pytest.mark.parametrize("done", [0, M, TWO_M])
def test_enomem_inside_one_map(done: int) -> None:
    """The unwind covers what was done before and what the failing call said is mapped; its answer is thrown away."""
    world = with_sizes(RecordingExact, K | M)
    recorded(world).map_answers = [None, (-ENOMEM, done)]
    book = world.books.domains[1]
    assert world.core.iommu_map(book, 0x101000, 0x40101000, 4 * M, RW, GFP_KERNEL) == -ENOMEM
    unwind = ["U 0x101000 4Kx255"] + ([f"U 0x200000 1Mx{done // M}"] if done else [])
    assert recorded(world).calls == ["M 0x101000 4Kx255", "M 0x200000 1Mx3", *unwind]
    assert not book.pages, "the caller holds nothing of a failed request"
    assert {violation.property for violation in world.judge.violations} == {"legal-requests-work"}, "nothing refused the map"


def test_nothing_done_nothing_to_undo() -> None:
    """A first chunk that fails with nothing mapped: no ``unmap_pages`` call at all."""
    world = with_sizes(RecordingExact, K | M)
    recorded(world).map_answers = [(-ENOMEM, 0)]
    assert world.core.iommu_map(world.books.domains[1], M, 0x40000000, M, RW, GFP_KERNEL) == -ENOMEM
    assert recorded(world).calls == ["M 0x100000 1Mx1"]


def test_an_unmap_that_stops_leaves_the_rest_in_limbo() -> None:
    """U3: from where the driver answered 0 to the end of the request."""
    world = with_sizes(RecordingExact, K)
    book = world.books.domains[1]
    assert world.core.iommu_map(book, 0, 0x40000000, 16 * K, RW, GFP_KERNEL) == 0
    world.faults.begin((Fault("UNMAP_DEVICE_GPA_PAGES", 1, 0x71, 4), Fault("UNMAP_DEVICE_GPA_PAGES", 2, 0x71)))
    assert world.core.iommu_unmap(book, 0, 16 * K) == 4 * K
    assert chunks(world).endswith("4Kx16 ; 4Kx12")
    assert [(run.start, run.end, run.tag & LIMBO) for run in book.pages] == [(4, 16, 1)]


def test_scattered_memory_is_one_request() -> None:
    """One ``iommu_map`` for each piece; if one fails, those before it are unmapped as one range."""
    world = with_sizes(RecordingExact, K)
    play(world, ops.MapScattered(1, M, 0x40000000, runs=3, run_pages=2, stride=4), ops.Unmap(1, M, 6))
    assert recorded(world).calls == ["M 0x100000 4Kx2", "M 0x102000 4Kx2", "M 0x104000 4Kx2", "U 0x100000 4Kx6"]
    recorded(world).calls.clear()
    recorded(world).map_answers = [None, None, (-ENOMEM, K)]
    (bad,) = play(world, ops.MapScattered(1, M, 0x40000000, runs=3, run_pages=2, stride=4))
    assert bad.result == -ENOMEM
    assert recorded(world).calls[3:] == ["U 0x104000 4Kx1", "U 0x100000 4Kx4"]
    assert not world.books.domains[1].pages


# --- attach ----------------------------------------------------------------------------------------------------------


def attaches(world: World) -> list[tuple[int, str, str]]:
    """(device, new, old) of the recorded attaches by name, and forget them."""
    names = {id(book.domain): book.name for book in world.books.of_domain.values()}
    names[id(None)] = "none"
    driver = recorded(world)
    result = [(number, names[id(new)], names[id(old)]) for number, new, old in driver.attaches]
    driver.attaches.clear()
    return result


def attached(*devices: PciFunction) -> World:
    """A booted world with a recording driver; boot's own attaches are forgotten."""
    world = stage(RecordingExact, Configuration(devices=devices) if devices else None)
    recorded(world).attaches.clear()
    recorded(world).order.clear()
    return world


def test_boot_attaches_every_device_with_no_old_domain() -> None:
    """The first attach has no old domain."""
    world = stage(RecordingExact)
    assert attaches(world) == [(number, "identity", "none") for number in range(4)]
    assert all(group.domain is group.default_domain for group in world.books.groups.values())


def test_old_is_what_the_core_believes() -> None:
    """Claim, attach, replace, detach, disown: each passes the domain that the group is believed to be in."""
    world = attached()
    play(world, ops.Alloc(1), ops.Alloc(2), ops.Claim(), ops.Attach(1), ops.Replace(2), ops.Detach(), ops.Disown())
    assert attaches(world) == [
        (0, "blocked", "identity"),
        (0, "domain 1", "blocked"),
        (0, "domain 2", "domain 1"),
        (0, "blocked", "domain 2"),
        (0, "identity", "blocked"),
    ]


def test_a_detach_without_an_owner_goes_to_the_default_domain() -> None:
    """``iommu_detach_group`` of a group that nobody owns."""
    world = attached()
    play(world, ops.Alloc(1), ops.Attach(1), ops.Detach())
    assert attaches(world) == [(0, "domain 1", "identity"), (0, "identity", "domain 1")]


def test_the_device_that_fails_gets_no_further_call() -> None:
    """A plain attach: the failing device keeps its domain by the driver's own doing, the core calls nothing for it."""
    world = attached()
    play(world, ops.Alloc(1))
    recorded(world).attach_answers = [-EIO]
    (bad,) = play(world, ops.Attach(1))
    assert bad.result == -EIO
    assert attaches(world) == [(0, "domain 1", "identity")]
    group = world.books.groups[0]
    assert group.domain is group.default_domain
    assert world.books.devices[0].places == {IN_DEFAULT}


def test_the_second_of_two_fails() -> None:
    """Devices that had moved go back with must-succeed, and carry the domain that they were moved to as old."""
    world = attached()
    play(world, ops.Alloc(1, 2), ops.Claim(2))
    attaches(world)
    recorded(world).attach_answers = [0, -EIO]
    (bad,) = play(world, ops.Attach(1, 2))
    assert bad.result == -EIO
    assert attaches(world) == [(2, "domain 1", "blocked"), (3, "domain 1", "blocked"), (2, "blocked", "domain 1")]
    play(world, ops.Free(1), ops.Disown(2))
    assert attaches(world) == [(2, "identity", "blocked"), (3, "identity", "blocked")]
    assert not world.judge.violations


def test_the_revert_fails_as_well() -> None:
    """The core warns and goes on: the group is still believed blocked, and the domain may be freed."""
    world = attached()
    play(world, ops.Alloc(1, 2), ops.Claim(2))
    attaches(world)
    recorded(world).attach_answers = [0, -EIO, -EIO]
    (bad,) = play(world, ops.Attach(1, 2))
    assert bad.result == -EIO
    assert attaches(world) == [(2, "domain 1", "blocked"), (3, "domain 1", "blocked"), (2, "blocked", "domain 1")]
    group = world.books.groups[2]
    assert group.domain is group.blocking_domain
    assert play(world, ops.Free(1))[0].result == 0


def test_a_must_succeed_attach_falls_back_to_blocking() -> None:
    """A9: the core believes the target, the device is blocked, and the next attach carries the target as old."""
    world = attached()
    play(world, ops.Alloc(1), ops.Claim(), ops.Attach(1))
    attaches(world)
    recorded(world).attach_answers = [-EIO]
    (disown,) = play(world, ops.Disown())
    assert disown.result == -EIO
    assert attaches(world) == [(0, "identity", "domain 1"), (0, "blocked", "domain 1")]
    group = world.books.groups[0]
    assert group.domain is group.default_domain
    assert world.books.devices[0].places == {IN_NULL}
    play(world, ops.Claim())
    assert attaches(world) == [(0, "blocked", "identity")]


def test_no_fallback_where_blocking_is_the_target() -> None:
    """A8: blocking itself failed, there is nothing to fall back to; the core goes on all the same."""
    world = attached()
    play(world, ops.Alloc(1), ops.Claim(), ops.Attach(1))
    attaches(world)
    recorded(world).attach_answers = [-EIO]
    (bad,) = play(world, ops.Detach())
    assert bad.result == -EIO
    assert attaches(world) == [(0, "blocked", "domain 1")]
    group = world.books.groups[0]
    assert group.domain is group.blocking_domain
    assert world.books.devices[0].excused
    assert {IN_NULL, world.books.domains[1].place} <= world.books.devices[0].places


@pytest.mark.parametrize(
    ("setup", "operation", "errno"),
    [
        ((ops.Attach(1),), ops.Attach(2), -EBUSY),
        ((), ops.Replace(1), -EINVAL),
        ((ops.Attach(1),), ops.Claim(), -EBUSY),
        ((ops.Claim(),), ops.Claim(), -EBUSY),
        ((), ops.Disown(), -EINVAL),
    ],
    ids=["third domain", "replace unowned", "claim while attached", "claim twice", "disown unowned"],
)
def test_what_the_core_refuses_never_reaches_the_driver(
    setup: tuple[ops.Operation, ...], operation: ops.Operation, errno: int
) -> None:
    """A11: refused before the driver is called."""
    world = attached()
    play(world, ops.Alloc(1), ops.Alloc(2), *setup)
    attaches(world)
    outcome = world.apply(operation)
    assert (outcome.applied, outcome.result) == (False, errno)
    assert attaches(world) == []


def test_the_same_domain_again_is_no_call() -> None:
    """Attaching the domain that is current does nothing."""
    world = attached()
    play(world, ops.Alloc(1), ops.Attach(1))
    attaches(world)
    assert world.core.attach_group(world.books.groups[1], world.books.of_domain[default_of(world, 1)]) == 0
    assert not world.apply(ops.Attach(1)).applied
    assert attaches(world) == []


def default_of(world: World, number: int) -> IommuDomain:
    """The default domain of a group."""
    domain = world.books.groups[number].default_domain
    assert domain is not None
    return domain


class WithProbeLock(RecordingExact):
    """Notes under which locks its ops are called."""

    name = "with-probe-lock"

    def prepare(self) -> None:
        super().prepare()
        self.held: list[bool] = []

    def attach_dev(self, domain: IommuDomain, device: Device, old: IommuDomain | None) -> int:
        self.held.append(self.kernel.probe_lock_held)
        return super().attach_dev(domain, device, old)


def test_a_hot_plugged_device_joins_its_group_under_the_probe_lock() -> None:
    """``iommu_probe_device`` holds ``iommu_probe_device_lock`` over the first attach; ``bus_iommu_probe`` does not."""
    world = stage(WithProbeLock)
    driver = world.driver
    assert isinstance(driver, WithProbeLock)
    assert driver.held == [False] * 4
    play(world, ops.Release(3), ops.Probe(3))
    assert driver.held == [False] * 4 + [True]


def test_a_hot_plugged_device_makes_its_group_under_the_probe_lock() -> None:
    """The same lock covers ``iommu_setup_default_domain`` when the device opens a group."""
    world = stage(WithProbeLock)
    driver = world.driver
    assert isinstance(driver, WithProbeLock)
    play(world, ops.Release(0), ops.Probe(0))
    assert driver.held == [False] * 4 + [True]


class WithoutBlocked(RecordingExact):
    """Offers no blocked domain, as posted."""

    name = "without-blocked"

    def __init__(self, kernel: Kernel) -> None:
        super().__init__(kernel)
        self.ops.blocked_domain = None


def test_without_a_blocked_domain_an_empty_paging_domain_blocks() -> None:
    """The core allocates one in the claiming thread, once for each group, and frees it with the group."""
    world = stage(WithoutBlocked)
    play(world, ops.Claim())
    group = world.books.groups[0]
    blocking = group.blocking_domain
    assert blocking is not None
    assert world.books.of_domain[blocking].kind == "device"
    assert group.domain is blocking
    play(world, ops.Disown(), ops.Claim(), ops.Disown())
    assert group.blocking_domain is blocking
    recorded(world).order.clear()
    play(world, ops.Release(0))
    assert recorded(world).order == ["RD 0", "F identity", "F"]
    assert not world.judge.violations


def test_release_comes_before_the_groups_domains() -> None:
    """``release_device``, then the default and the blocking domain, if it was the last device of the group."""
    world = attached()
    play(world, ops.Release(2))
    assert recorded(world).order == ["RD 2"], "the other function of the group still works"
    play(world, ops.Release(3))
    assert recorded(world).order == ["RD 2", "RD 3", "F identity"]
    assert 2 not in world.books.groups


class WithReleaseDomain(RecordingExact):
    """Offers a release domain."""

    name = "with-release-domain"

    def __init__(self, kernel: Kernel) -> None:
        super().__init__(kernel)
        self.ops.release_domain = self.null.iommu_dom


def test_the_release_domain_is_attached_first() -> None:
    """With a release domain: ``attach_dev`` of it, its result ignored, then ``release_device``."""
    world = stage(WithReleaseDomain)
    recorded(world).order.clear()
    recorded(world).attaches.clear()
    recorded(world).attach_answers = [-EIO]
    play(world, ops.Release(0))
    assert recorded(world).order == ["A", "RD 0", "F identity"]
    assert [(number, old is not None) for number, _new, old in recorded(world).attaches] == [(0, True)]


def test_a_first_attach_that_fails_undoes_the_probe() -> None:
    """A3: the device is removed and released, the empty group's domains are freed."""
    world = attached()
    play(world, ops.Release(0))
    recorded(world).order.clear()
    recorded(world).attach_answers = [-EIO]
    outcome = world.apply(ops.Probe(0))
    assert outcome.result == -ENODEV
    assert recorded(world).order == ["A", "RD 0", "F identity"]
    assert 0 not in world.books.groups
    assert not world.books.devices[0].known


def test_joining_a_live_group() -> None:
    """A device that joins a group goes to the group's domain, with no old domain, and its failure undoes its probe."""
    world = attached()
    play(world, ops.Release(3))
    attaches(world)
    recorded(world).attach_answers = [-EIO]
    assert world.apply(ops.Probe(3)).result == -EIO
    assert attaches(world) == [(3, "identity", "none")]
    assert [device.number for device in world.books.groups[2].devices] == [2]


def test_a_reset_blocks_one_device_and_comes_back() -> None:
    """A17: blocking and the same domain again, for this device only; maps made meanwhile are live."""
    world = attached()
    play(world, ops.Alloc(1, 2), ops.Claim(2), ops.Attach(1, 2), ops.Map(1, 0, 0x40000000, 4))
    attaches(world)
    (reset,) = play(world, ops.Reset(3))
    assert reset.result == 0
    assert attaches(world) == [(3, "blocked", "domain 1"), (3, "domain 1", "blocked")]
    place = world.books.domains[1].place
    assert [world.hypervisor.place(book.key) for book in world.books.devices[2:]] == [place, place]
    assert world.books.groups[2].domain is world.books.domains[1].domain


def test_a_reset_whose_way_back_fails_leaves_the_device_blocked() -> None:
    """The core warns and still believes the domain."""
    world = attached()
    play(world, ops.Alloc(1), ops.Claim(), ops.Attach(1))
    attaches(world)
    recorded(world).attach_answers = [0, -ENOMEM]
    (reset,) = play(world, ops.Reset(0))
    assert reset.result == -ENOMEM
    assert attaches(world) == [(0, "blocked", "domain 1"), (0, "domain 1", "blocked")]
    assert world.hypervisor.place(world.books.devices[0].key) == IN_NULL
    assert world.books.groups[0].domain is world.books.domains[1].domain


def test_a_free_after_a_failed_attach_gives_the_domain_up() -> None:
    """``iommu_domain_free`` returns void: the core has dropped the domain whatever the driver did."""
    world = attached()
    play(world, ops.Alloc(1), ops.Attach(1))
    recorded(world).attach_answers = [-EIO]
    play(world, ops.Detach(), ops.Free(1))
    assert 1 not in world.books.domains
    assert 1 in world.books.freed
    assert not world.apply(ops.Map(1, 0, 0, 1)).applied
    assert world.hypervisor.place(world.books.devices[0].key) == IN_NULL, "the driver got the device out first"


def test_a_domain_in_use_is_not_freed() -> None:
    """The callers free no domain that a group is believed to be in."""
    world = attached()
    play(world, ops.Alloc(1), ops.Attach(1))
    assert not world.apply(ops.Free(1)).applied


def test_an_unclaimed_device_gets_no_domain() -> None:
    """``iommu_paging_domain_alloc`` for a device without an IOMMU is refused by the core."""
    world = stage(RecordingExact, Configuration(skip="(0:0:1.0)"))
    with pytest.raises(Refused) as refusal:
        world.core.alloc(1, world.books.devices[0].device, 0)
    assert refusal.value.args[0] == -ENODEV


# --- levels ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("operation", "level"),
    [
        (ops.Map(1, 0x100000, 0, 4), KERNEL),
        (ops.Map(1, 0x100000, 0, 4, "rw", "atomic"), CONTRACT),
        (ops.Map(1, 0, 0, 4), BEYOND),
        (ops.Map(1, 0x3000, 0, 4), BEYOND),
        (ops.Map(1, 0x100000, 0, 0), BEYOND),
        (ops.Map(1, 1 << 48, 0, 1), BEYOND),
        (ops.Map(1, (1 << 48) - K, 0, 1), KERNEL),
        (ops.Map(1, (1 << 64) - K, 0, 2), BEYOND),
        (ops.MapScattered(1, 0x100000, 0, 2, 2, 4), KERNEL),
        (ops.MapScattered(1, 0, 0, 2, 2, 4), BEYOND),
        (ops.Unmap(1, 0, 4), KERNEL),
        (ops.Unmap(1, 0, 8), CONTRACT),
        (ops.Unmap(1, 0, 2), BEYOND),
        (ops.Unmap(1, 0x1000, 3), BEYOND),
        (ops.Unmap(1, 0, 9), BEYOND),
        (ops.Unmap(1, 0x200000, 1), BEYOND),
        (ops.DriverMap(1, 0x100000), BEYOND),
        (ops.DriverUnmap(1, 0), BEYOND),
        (ops.Unplug(1), CONTRACT),
        (ops.Attach(1, 0, 1), KERNEL),
        (ops.Attach(1, 0, 0), CONTRACT),
        (ops.Attach(1, 1, 1), CONTRACT),
        (ops.Replace(2, 0, 2), CONTRACT),
        (ops.Disown(0, 1), KERNEL),
        (ops.Disown(0, 0), KERNEL),
        (ops.Disown(0, 2), CONTRACT),
        (ops.Free(1, 1), KERNEL),
        (ops.Free(1, 0), KERNEL),
        (ops.Free(1, 2), CONTRACT),
        (ops.Alloc(3, 0, 1), KERNEL),
        (ops.Release(1), KERNEL),
        (ops.Lookup(1, 0x7000), KERNEL),
    ],
    ids=lambda value: ops.describe(value) if isinstance(value, ops.Operation) else LEVELS[value],
)
def test_levels(operation: ops.Operation, level: int) -> None:
    """What the kernel's callers do, what the contract allows, what lies beyond: judged differently, so told apart."""
    world = stage(ExactToy)
    play(world, ops.Claim(0, 1), ops.Alloc(1, 0, 1), ops.Alloc(2, 0, 2))
    play(world, ops.Map(1, 0, 0x40000000, 4), ops.Map(1, 0x4000, 0x50000000, 4))
    assert level_of(operation, world.books) == level


def test_the_level_of_an_operation_is_that_of_the_state_before_it() -> None:
    """An operation's outcome carries the level that it needed when it was made."""
    world = stage(ExactToy)
    outcomes = play(world, ops.Alloc(), ops.Map(1, 0, 0, 4), ops.Map(1, 0, 0, 4), ops.Unmap(1, 0, 4))
    assert [LEVELS[outcome.level] for outcome in outcomes] == ["kernel", "kernel", "beyond", "kernel"]
