"""What VFIO, iommufd and the DMA API ask of a driver, and what becomes of the memory that they pin."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from toy_drivers import NodeToy, failed

from hvmodel import operations as ops
from hvmodel.callers.books import DomainBook
from hvmodel.callers.watch import AttachCall, MapCall, UnmapCall
from hvmodel.configuration import Configuration
from hvmodel.drivers import DriverEntry
from hvmodel.faults import Fault
from hvmodel.hypervisor.policies import PROFILES
from hvmodel.kernel.iommu import GFP_ATOMIC, IOMMU_CACHE, IOMMU_MMIO
from hvmodel.operations import Operation
from hvmodel.scenarios.callers import CALLERS
from hvmodel.scenarios.scenario import Scenario
from hvmodel.world import Outcome, World

MIB = 1 << 20
PAGE = 0x1000
RAM = 0x40000000
MAP, UNMAP, ATTACH = "MAP_DEVICE_GPA_PAGES", "UNMAP_DEVICE_GPA_PAGES", "ATTACH_DEVICE_DOMAIN"


class Told:
    """A world that writes down each call of the driver in a few words, look-ups left out. Domains are called by the order in which
    they were allocated: D1, D2; the identity and the blocking domain dflt and blk."""

    def __init__(self, driver: str | DriverEntry = "repaired", config: Configuration | None = None) -> None:
        self.world = World(config or Configuration(), driver)
        self.names: dict[DomainBook, str] = {}
        self.calls: list[str] = []
        self.looked_up = 0
        self.world.judge.story = self.hear
        self.do(ops.Boot())

    def do(self, *operations: Operation) -> list[Outcome]:
        """Apply operations; ``calls`` is what the last one did."""
        outcomes = []
        for operation in operations:
            self.calls, self.looked_up = [], 0
            outcomes.append(self.world.apply(operation))
        return outcomes

    def name(self, book: DomainBook | None) -> str:
        if book is None:
            return "none"
        if book.kind in ("identity", "blocked"):
            return "dflt" if book.kind == "identity" else "blk"
        return self.names.setdefault(book, f"D{len(self.names) + 1}")

    def hear(self, what: str, data: Any) -> None:
        if isinstance(data, MapCall):
            prot = "".join(name for bit, name in ((1, "r"), (2, "w"), (IOMMU_CACHE, "c"), (IOMMU_MMIO, "m")) if data.prot & bit)
            text = f"M {self.name(data.book)} {data.iova:#x} {data.paddr:#x} {data.size >> 12} {prot}"
            self.calls.append(text + (" atomic" if data.gfp == GFP_ATOMIC else "") + (f" -> {data.ret}" if data.ret else ""))
        elif isinstance(data, UnmapCall):
            self.calls.append(f"U {self.name(data.book)} {data.iova:#x} {data.size >> 12}")
        elif isinstance(data, AttachCall):
            text = f"A {self.name(data.new)} {data.device.number} {self.name(data.old)}"
            self.calls.append(text + (f" -> {data.ret}" if data.ret else ""))
        elif what == "allocated" and data[0] is not None:
            self.calls.append(f"NEW {self.name(data[0])}")
        elif what == "freed":
            self.calls.append(f"F {self.name(data)}")
        elif what == "looked up":
            self.looked_up += 1


def refused(site: str, nth: int = 1, done: int = 0) -> tuple[Fault, ...]:
    """One refusal."""
    return (Fault(site, nth, 0x71, done),)


# --- ordinary lives ---------------------------------------------------------------------------------------------------


def play(scenario: Scenario, profile: str, driver: str) -> tuple[World, list[Operation], list[Outcome]]:
    """A scenario and its recovery."""
    world = World(scenario.configuration(profile), driver)
    operations = [*scenario.operations, ops.Recover()]
    return world, operations, [world.apply(operation) for operation in operations]


@pytest.mark.parametrize("scenario", CALLERS, ids=lambda scenario: scenario.name)
def test_ordinary_life_is_clean_on_a_good_driver(scenario: Scenario) -> None:
    """Protects against crying wolf, and against stories that are not told: under each of its profiles every operation of a
    scenario applies, each of its refusals is met, nothing is found or excused, and no memory stays pinned but by 6.12's doing."""
    for profile in scenario.profiles:
        world, operations, outcomes = play(scenario, profile, "repaired")
        for operation, outcome in zip(operations, outcomes, strict=True):
            assert outcome.applied, (profile, operation)
            assert len(outcome.fired) == len(operation.faults), (profile, operation)
            assert outcome.result == 0 or operation.faults, (profile, operation, outcome.result)
            assert not outcome.violations, (profile, operation, outcome.violations)
            assert not outcome.environment, (profile, operation)
        assert world.user.memory.pins.pages == (scenario.name == "t24-last-page")
        assert world.user.memory.never_pinned == 0


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("t07-killed-vm-first", {"blocked-is-blocked", "names-existing-things", "no-use-after-free"}),
        ("t07-killed-vm-last", {"free-frees-all", "nothing-is-left"}),
        ("t11-replace", {"failed-attach-keeps-old", "count-matches", "free-frees-all"}),
        ("t13-map-refused", {"input-page-bounds"}),
        ("t18-large-page-probe", {"page-given-back", "no-stale-mapping"}),
    ],
)
def test_ordinary_life_finds_what_the_posted_driver_does(name: str, wanted: set[str]) -> None:
    """Protects the reach of the kernel level: what a VMM's life alone brings out of the driver as posted."""
    scenario = next(scenario for scenario in CALLERS if scenario.name == name)
    _world, _operations, outcomes = play(scenario, "default", "posted-v0")
    assert wanted <= failed(*outcomes)
    assert {outcome.level for outcome in outcomes} == {0}


def test_each_part_of_the_list_is_told() -> None:
    """Protects the list: every one of its 24 parts has a scenario."""
    assert {scenario.name[:3] for scenario in CALLERS} == {f"t{number:02}" for number in range(1, 25)}
    assert len({scenario.name for scenario in CALLERS}) == len(CALLERS)
    assert all(profile in PROFILES for scenario in CALLERS for profile in scenario.profiles)


# --- VFIO -------------------------------------------------------------------------------------------------------------

JOINS = ["A blk 0 dflt", "NEW D1", "A D1 0 blk"]
SCATTERED = ops.VfioMap(1, 2 * MIB, RAM, 8, 3, 2)
"""Eight pages in runs of 3, 3 and 2."""


def told_of_vfio(*operations: Operation) -> Told:
    """A container with one device and what is done then."""
    told = Told()
    told.do(ops.VfioJoin(), *operations)
    return told


def test_a_group_joins_and_leaves() -> None:
    """vfio_container_attach_group, vfio_iommu_type1_attach_group and back: blocked first, and the owner's last word."""
    told = told_of_vfio()
    assert told.calls == JOINS
    told.do(ops.VfioLeave())
    assert told.calls == ["A blk 0 D1", "F D1", "A dflt 0 blk"]


def test_runs_of_memory_are_mapped_one_by_one() -> None:
    """vfio_pin_map_dma: maximal runs of consecutive frames; the user's rights and cacheable; every domain, the newest first."""
    told = told_of_vfio(SCATTERED)
    assert told.calls == ["M D1 0x200000 0x40000000 3 rwc", "M D1 0x203000 0x40005000 3 rwc", "M D1 0x206000 0x4000a000 2 rwc"]
    told.do(ops.VfioJoin(group=1, faults=refused(ATTACH, 4)), ops.VfioMap(1, 4 * MIB, RAM + MIB, 2, prot="r"))
    assert told.calls == ["M D2 0x400000 0x40100000 2 rc", "M D1 0x400000 0x40100000 2 rc"]


def test_a_second_group_takes_the_domain_that_there_is() -> None:
    """vfio_iommu_type1_attach_group: its own domain is allocated, attached, left and freed; nothing is mapped."""
    told = told_of_vfio(SCATTERED, ops.VfioJoin(group=1))
    assert told.calls == ["A blk 1 dflt", "NEW D2", "A D2 1 blk", "A blk 1 D2", "A D1 1 blk", "F D2"]
    told.do(ops.VfioLeave(1))
    assert told.calls == ["A blk 1 D1", "A dflt 1 blk"]


REFUSED_THERE = ["A blk 1 dflt", "NEW D2", "A D2 1 blk", "A blk 1 D2", "A D1 1 blk -> -5", "A D2 1 blk"]


def test_a_second_domain_is_replayed_into() -> None:
    """vfio_iommu_replay: what the first domain answers, run by run."""
    told = told_of_vfio(SCATTERED, ops.VfioJoin(group=1, faults=refused(ATTACH, 4)))
    maps = ["M D2 0x200000 0x40000000 3 rwc", "M D2 0x203000 0x40005000 3 rwc", "M D2 0x206000 0x4000a000 2 rwc"]
    assert told.calls == REFUSED_THERE + maps


def test_a_replay_that_fails_is_unmapped_whole() -> None:
    """vfio_iommu_replay, unwind: from the failing entry backwards, all of each, also what was not mapped; then it is freed."""
    told = told_of_vfio(ops.VfioMap(1, MIB, RAM + MIB, 4), SCATTERED)
    (outcome,) = told.do(ops.VfioJoin(group=1, faults=(*refused(ATTACH, 4), *refused(MAP, 3))))
    assert told.calls == [
        *REFUSED_THERE,
        "M D2 0x100000 0x40100000 4 rwc",
        "M D2 0x200000 0x40000000 3 rwc",
        "M D2 0x203000 0x40005000 3 rwc -> -5",
        "U D2 0x200000 8",
        "U D2 0x203000 5",
        "U D2 0x100000 4",
        "A blk 1 D2",
        "F D2",
        "A dflt 1 blk",
    ]
    assert outcome.result == -5
    assert not outcome.violations


def test_an_unmap_reads_back_what_it_unpins() -> None:
    """vfio_unmap_unpin: other domains at once, the first one run by run as its look-ups say; a look-up for each page and one for
    each break between runs."""
    told = told_of_vfio(SCATTERED)
    told.do(ops.VfioUnmap(1, 2 * MIB, 8))
    assert told.calls == ["U D1 0x200000 3", "U D1 0x203000 3", "U D1 0x206000 2"]
    assert told.looked_up == 8 + 3 - 1
    told = told_of_vfio(SCATTERED, ops.VfioJoin(group=1, faults=refused(ATTACH, 4)), ops.VfioUnmap(1, 0, 0))
    assert told.calls == ["U D1 0x200000 8", "U D2 0x200000 3", "U D2 0x203000 3", "U D2 0x206000 2"]


def test_the_last_group_takes_its_mappings_along() -> None:
    """vfio_iommu_type1_detach_group: detached first, unmapped in a domain without devices, freed; one of two domains is freed with
    all its mappings."""
    told = told_of_vfio(SCATTERED, ops.VfioJoin(group=1, faults=refused(ATTACH, 4)), ops.VfioLeave(1))
    assert told.calls == ["A blk 1 D2", "F D2", "A dflt 1 blk"]
    told.do(ops.VfioLeave())
    assert told.calls == [
        "A blk 0 D1", "U D1 0x200000 3", "U D1 0x203000 3", "U D1 0x206000 2", "F D1", "A dflt 0 blk"
    ]  # fmt: skip


def test_a_map_that_fails_gives_all_its_memory_back() -> None:
    """vfio_pin_map_dma: the failing run is unpinned, the runs before it are unmapped and unpinned; the mapping is forgotten."""
    told = told_of_vfio()
    (outcome,) = told.do(ops.VfioMap(1, 8 * MIB, RAM, 9, 3, 1, faults=refused(MAP, 3, 1)))
    assert told.calls[2:] == ["M D1 0x806000 0x40008000 3 rwc -> -5", "U D1 0x806000 1", "U D1 0x800000 3", "U D1 0x803000 3"]
    assert outcome.result == -5
    assert told.world.user.memory.pins.pages == 0
    assert told.do(ops.VfioMap(1, 8 * MIB, RAM, 9))[0].result == 0


def test_a_short_unmap_is_asked_for_again_and_then_given_up() -> None:
    """vfio_unmap_unpin, the fast and the slow path: one refusal is survived, one that lasts leaves the rest pinned for ever."""
    told = told_of_vfio(ops.VfioMap(1, MIB, RAM, 16))
    told.do(ops.VfioUnmap(1, MIB, 16, faults=refused(UNMAP)))
    assert told.world.user.memory.pins.pages == 0
    told.do(ops.VfioMap(1, MIB, RAM, 16), ops.VfioUnmap(1, MIB, 16, faults=(Fault(UNMAP, 1, 0x71, 0, None),)))
    assert told.world.user.memory.pins.pages == 16
    assert not told.world.user.vfio.containers[1].dmas


def test_a_second_device_of_a_group_that_is_refused_takes_the_first_one_back() -> None:
    """iommu_attach_group, then iommu_group_release_dma_owner: nobody stays in the domain that is freed."""
    told = Told()
    told.do(ops.VfioJoin(group=2, faults=refused(ATTACH, 4)))
    assert told.calls == [
        "A blk 2 dflt", "A blk 3 dflt", "NEW D1", "A D1 2 blk", "A D1 3 blk -> -5", "A blk 2 D1", "F D1",
        "A dflt 2 blk", "A dflt 3 blk",
    ]  # fmt: skip


def test_what_vfio_refuses_reaches_no_driver() -> None:
    """vfio_dma_do_map, vfio_dma_do_unmap: overlap, no rights, a range that cuts a mapping, an address outside the aperture."""
    told = told_of_vfio(SCATTERED)
    for operation, errno in (
        (ops.VfioMap(1, 2 * MIB + 7 * PAGE, RAM, 1), -17),
        (ops.VfioMap(1, 0, RAM, 1, prot=""), -22),
        (ops.VfioMap(1, 1 << 60, RAM, 1), -22),
        (ops.VfioUnmap(1, 2 * MIB, 7), -22),
        (ops.VfioUnmap(1, 2 * MIB + PAGE, 7), -22),
        (ops.VfioJoin(2, 0), 0),
        (ops.VfioJoin(1, 1, by=3), -22),
    ):
        (outcome,) = told.do(operation)
        assert (outcome.applied, outcome.result, told.calls) == (False, errno, []), operation


def test_nobody_else_moves_the_devices_of_a_process() -> None:
    """Protects the books: a group whose files are open is claimed, attached, detached and released by its process only."""
    told = told_of_vfio()
    told.do(ops.Alloc(1, 1))
    moves = (ops.Claim(0), ops.Attach(1, 0), ops.Replace(1, 0), ops.Detach(0), ops.Disown(0), ops.Release(0), ops.Unplug(0))
    for operation in moves:
        assert not told.do(operation)[0].applied, operation
    assert told.do(ops.Reset(0))[0].applied
    assert told.calls == ["A blk 0 D1", "A D1 0 blk"]


@pytest.mark.parametrize("driver", ["repaired", NodeToy.name])
def test_the_large_page_probe(driver: str) -> None:
    """vfio_test_domain_fgsp of 6.12: a driver that unmaps as asked is asked for both pages, one that unmaps whole nodes is taken
    for one with large pages, and asked page by page from then on."""
    told = Told(driver if driver == "repaired" else DriverEntry(NodeToy.name, "", NodeToy))
    told.do(ops.VfioJoin(probe=True))
    assert told.calls[3].startswith("M D1 0x0 ")
    assert told.calls[4:] == ["U D1 0x0 1"] + ["U D1 0x1000 1"] * (driver == "repaired")
    told.do(ops.VfioMap(1, MIB, RAM, 16), ops.VfioUnmap(1, MIB, 16))
    assert told.calls == [f"U D1 0x100000 {16 if driver == 'repaired' else 1}"]


# --- iommufd ----------------------------------------------------------------------------------------------------------


def test_an_address_space_by_attach() -> None:
    """Attached to the empty domain, filled run by run, read back, unmapped as one range; gone with its last device."""
    told = Told()
    told.do(ops.IommufdAttach())
    assert told.calls == JOINS
    told.do(ops.IoasMap(1, MIB, RAM, 8, 3, 2))
    assert told.calls == ["M D1 0x100000 0x40000000 3 rwc", "M D1 0x103000 0x40005000 3 rwc", "M D1 0x106000 0x4000a000 2 rwc"]
    told.do(ops.IommufdDetach())
    assert told.calls == ["A blk 0 D1", "U D1 0x100000 8", "F D1"]
    assert told.looked_up == 8 + 3 - 1
    assert told.world.user.memory.pins.pages == 0
    told.do(ops.IommufdClose())
    assert told.calls == ["A dflt 0 blk"]


def test_an_address_space_by_hand() -> None:
    """IOMMU_HWPT_ALLOC fills a domain with nothing attached; a device that is attached elsewhere moves to it without a stop."""
    told = Told()
    told.do(ops.IoasMap(1, MIB, RAM, 8, 3, 2))
    assert told.calls == []
    told.do(ops.IommufdAttach(2, 0), ops.HwptAlloc(1, 1, 0))
    assert told.calls[0] == "NEW D2"
    assert [call[:4] for call in told.calls[1:]] == ["M D2"] * 3
    told.do(ops.IommufdAttach(1, 0, 1))
    assert told.calls == ["A D2 0 D1", "F D1"]
    assert told.do(ops.HwptFree(1))[0].result == -16
    told.do(ops.IommufdDetach(), ops.HwptFree(1))
    assert told.calls == ["U D2 0x100000 8", "F D2"]


def test_a_replace_that_fails_changes_nothing() -> None:
    """iommufd_device_auto_get_domain: the new domain is filled, refused, emptied and freed; the device gets no further call."""
    told = Told()
    told.do(ops.IommufdAttach(), ops.IoasMap(1, MIB, RAM, 2), ops.IoasMap(2, 0, RAM + MIB, 2))
    (outcome,) = told.do(ops.IommufdAttach(2, 0, faults=refused(ATTACH)))
    assert told.calls == ["NEW D2", "M D2 0x0 0x40100000 2 rwc", "A D2 0 D1 -> -5", "U D2 0x0 2", "F D2"]
    assert outcome.result == -5
    told.do(ops.IommufdAttach(2, 0))
    assert told.calls == ["NEW D3", "M D3 0x0 0x40100000 2 rwc", "A D3 0 D1", "U D1 0x100000 2", "F D1"]


def test_a_fill_of_two_domains_is_unwound_batch_by_batch() -> None:
    """iopt_area_fill_domains: the failing domain undoes its batch, the one before it is unmapped up to the end of it, the last one
    up to its beginning, as it says what it maps."""
    told = Told()
    told.do(ops.IommufdAttach(), ops.HwptAlloc(1, 1, 0), ops.IommufdAttach(1, 1, 1))
    (outcome,) = told.do(ops.IoasMap(1, MIB, RAM, 88, 2, 2, short=True, faults=refused(MAP, 64, 1)))
    assert told.calls[:42] == sorted(told.calls[:42])  # the first batch: 21 runs in the first domain, 21 in the second
    assert told.calls[-4:] == ["M D2 0x12a000 0x40054000 2 rwc -> -5", "U D2 0x12a000 1", "U D1 0x100000 84", "U D2 0x100000 42"]
    assert outcome.result == -5
    assert not outcome.violations
    assert told.world.user.memory.pins.pages == 0


def test_a_domain_that_goes_while_another_stays_is_not_read() -> None:
    """iopt_unfill_domain: the pages are held by the storage, so that one unmap an area is enough; the last one is read back."""
    told = Told()
    told.do(ops.IommufdAttach(), ops.IoasMap(1, MIB, RAM, 8, 3, 2), ops.HwptAlloc(1, 1, 0), ops.HwptFree(1))
    assert (told.calls, told.looked_up) == (["U D2 0x100000 8", "F D2"], 0)
    told.do(ops.HwptAlloc(1, 1, 0), ops.IommufdClose())
    assert (told.calls, told.looked_up) == (["A blk 0 D1", "U D1 0x100000 8", "F D1", "A dflt 0 blk"], 0)
    told.do(ops.Exit())
    assert (told.calls, told.looked_up) == (["U D3 0x100000 8", "F D3"], 10)


def test_page_by_page_and_cut() -> None:
    """batch_iommu_map_small and iopt_cut_iova: VFIO's v1 interface maps single pages and unmaps any of them."""
    told = Told()
    told.do(ops.IommufdAttach(), ops.IoasMap(1, MIB, RAM, 4, small=True))
    assert told.calls == [f"M D1 {MIB + n * PAGE:#x} {RAM + n * PAGE:#x} 1 rwc" for n in range(4)]
    told.do(ops.IoasUnmap(1, MIB + PAGE, 2))
    assert told.calls == ["U D1 0x101000 2"]
    assert [(area.start, area.end) for area in told.world.user.iommufd.ioases[1].areas] == [(256, 257), (259, 260)]
    told.do(ops.IoasMap(1, 2 * MIB, RAM, 4))
    assert told.do(ops.IoasUnmap(1, 2 * MIB, 2))[0].result == -2


def test_a_dma_buf_is_not_read_and_taken_back_once() -> None:
    """iopt_revoke_notify: unmapped in every domain, and by nobody again; registers are mapped as such and never pinned."""
    told = Told()
    told.do(ops.IommufdAttach(), ops.IoasMap(1, MIB, 0x3800000000, 16, mmio=True))
    assert told.calls == ["M D1 0x100000 0x3800000000 16 rwm"]
    told.do(ops.IoasRevoke(1, MIB))
    assert (told.calls, told.looked_up) == (["U D1 0x100000 16"], 0)
    told.do(ops.HwptAlloc(1, 1, 0))
    assert told.calls == ["NEW D2"]
    told.do(ops.IoasUnmap(1, MIB, 16))
    assert told.calls == []


def test_a_kernel_user_keeps_its_pages_pinned() -> None:
    """iommufd_access_pin_pages: unmapped and not unpinned with the last domain; let go of before the unmap of the area."""
    told = Told()
    told.do(ops.IommufdAttach(), ops.IoasMap(1, MIB, RAM, 16), ops.AccessPin(1, MIB, 4), ops.IommufdDetach())
    assert told.world.user.memory.pins.pages == 4
    told.do(ops.IoasUnmap(1, MIB, 16))
    assert told.world.user.memory.pins.pages == 0


def test_an_error_that_is_no_mismatch_ends_the_search() -> None:
    """iommufd_device_auto_get_domain: -EINVAL means the next domain, anything else is the answer."""
    told = Told()
    told.do(ops.IommufdAttach())
    (outcome,) = told.do(ops.IommufdAttach(1, 1, faults=refused(ATTACH, 2)))
    assert told.calls == ["A blk 1 dflt", "A D1 1 blk -> -5"]
    assert outcome.result == -5


# --- host drivers, processes ------------------------------------------------------------------------------------------


def test_streaming_is_atomic_and_reuses_addresses() -> None:
    """__iommu_dma_map in any context; the memory is free when the unmap returns, whatever it was answered."""
    told = Told()
    told.do(ops.Alloc(1, 0), ops.Attach(1, 0), ops.DmaMap(0, MIB, RAM, 3, "w"))
    assert told.calls == ["M D1 0x100000 0x40000000 3 wc atomic"]
    assert not told.do(ops.DmaMap(0, MIB, RAM, 3))[0].applied
    (outcome,) = told.do(ops.DmaUnmap(0, MIB, faults=(Fault(UNMAP, 1, 0x71, 1, None),)))
    assert told.world.user.memory.pins.pages == 0
    assert not outcome.violations


def test_interrupt_pages_stay() -> None:
    """iommu_dma_get_msi_page: mapped once under a guest, never unmapped, and no memory is mapped over it."""
    told = Told()
    told.do(ops.VfioJoin(), ops.MsiMap(0, 0x8000000, 0xFEDC0000))
    assert told.calls == ["M D1 0x8000000 0xfedc0000 1 wm"]
    assert not told.do(ops.VfioMap(1, 0x8000000, RAM, 1))[0].applied
    (outcome,) = told.do(ops.VfioLeave())
    assert told.calls == ["A blk 0 D1", "F D1", "A dflt 0 blk"]
    assert not outcome.violations


@pytest.mark.parametrize("vm_first", [True, False])
def test_a_process_that_dies_closes_its_files_in_order(vm_first: bool) -> None:
    """exit_files: whoever opened the VM first loses it first, and its devices are blocked without one."""
    told = Told("posted-v0")
    opens = [ops.VmCreate(1), ops.VfioJoin(by=1)]
    told.do(*(opens if vm_first else reversed(opens)))
    seen: list[bool] = []
    leave = told.world.user.vfio.leave

    def watched(*arguments: Any) -> None:
        seen.append(1 in told.world.vms)
        leave(*arguments)

    told.world.user.vfio.leave = watched  # type: ignore[method-assign, assignment]
    assert told.do(ops.Exit(1))[0].applied
    assert seen == [not vm_first]
    assert not told.world.vms
    assert not told.world.user.held
    assert not told.do(ops.Exit(1))[0].applied


def test_everything_is_closed_at_the_end() -> None:
    """Recovery: processes end before anything is judged to be left."""
    told = Told()
    told.do(ops.VfioJoin(), SCATTERED, ops.VmCreate(1), ops.IommufdAttach(1, 1, by=1), ops.IoasMap(2, MIB, RAM, 9, by=0))
    (outcome,) = told.do(ops.Recover())
    assert not outcome.violations
    assert not told.world.user.held
    assert not any(told.world.user.files.values())
    assert told.world.user.memory.pins.pages == 0


def rest(operations: Sequence[Operation], count: int) -> list[list[Operation]]:
    """The operations without some of them, each way that leaves ``count`` out in a row."""
    return [[*operations[:at], *operations[at + count :]] for at in range(1, len(operations) - count + 1)]


@pytest.mark.parametrize("scenario", CALLERS, ids=lambda scenario: scenario.name)
def test_any_part_of_a_life_is_a_life(scenario: Scenario) -> None:
    """Protects the minimiser: operations whose handles are gone do nothing, and whatever is left is clean on a good driver."""
    config = scenario.configuration(scenario.profiles[0])
    for count in (1, 2, 4):
        for operations in rest(list(scenario.operations), count):
            world = World(config, "repaired")
            for operation in (*operations, ops.Recover()):
                assert not world.apply(operation).violations, (operations, operation)

