"""Memory that callers pin and give back: how it is counted, and what the properties of it allow."""

from __future__ import annotations

import pytest
from test_user_space import MIB, PAGE, RAM, UNMAP, Told, told_of_vfio
from toy_drivers import NodeToy, failed

from hvmodel import operations as ops
from hvmodel.callers.memory import Memory, pieces
from hvmodel.drivers import DriverEntry
from hvmodel.faults import Fault
from hvmodel.kernel.iommu import IommuDomain


def test_pins_are_counted_page_by_page() -> None:
    """Protects the property: a page is given back with its last pin and not before, and only by what was pinned."""
    memory = Memory()
    memory.pin(0, 100, by=2)
    memory.pin(50, 150, by=3)
    assert (memory.owner(75), memory.owner(120), memory.owner(200)) == (2, 3, None)
    assert memory.unpin(40, 120) == [(40, 50), (100, 120)]
    assert memory.unpin(0, 200) == [(0, 40), (50, 100), (120, 150)]
    assert memory.never_pinned == 10 + 20 + 50
    assert memory.pins.pages == memory.owners.pages == 0


@pytest.mark.parametrize(
    ("arguments", "runs"),
    [
        ((0, 1, 0, 0), [(0, 1)]),
        ((RAM, 10, 4, 2), [(RAM >> 12, 4), ((RAM >> 12) + 6, 4), ((RAM >> 12) + 12, 2)]),
        ((RAM, 10, 10, 2), [(RAM >> 12, 10)]),
        ((RAM, 10, 3, 0), [(RAM >> 12, 10)]),
    ],
)
def test_pieces_are_maximal_runs(arguments: tuple[int, int, int, int], runs: list[tuple[int, int]]) -> None:
    """What VFIO and iommufd find in the memory that an operation describes."""
    assert pieces(*arguments) == runs


class Wanders(NodeToy):
    """Answers look-ups a page too far, and nothing else wrong."""

    name = "wanders"

    def iova_to_phys(self, iommu_dom: IommuDomain, iova: int) -> int:
        found = super().iova_to_phys(iommu_dom, iova)
        return found + PAGE if found else 0


def test_a_wrong_lookup_gives_a_wrong_page_back() -> None:
    """page-given-back: the caller unpins what the look-up says, here the next mapping's page, which the device still writes."""
    told = Told(DriverEntry("wanders", "", Wanders))
    told.do(ops.VfioJoin(), ops.VfioMap(1, MIB, RAM, 1), ops.VfioMap(1, 2 * MIB, RAM + PAGE, 1))
    (outcome,) = told.do(ops.VfioUnmap(1, MIB, 1))
    assert [v.shape for v in outcome.violations if v.property == "page-given-back"] == [("writes", "held")]


def test_memory_that_is_mapped_twice_is_given_back_once() -> None:
    """page-given-back counts pins, not mappings: the first unmap gives nothing back, and nobody is accused."""
    told = told_of_vfio(ops.VfioMap(1, MIB, RAM, 4), ops.VfioMap(1, 2 * MIB, RAM, 4))
    assert not told.do(ops.VfioUnmap(1, MIB, 4))[0].violations
    assert told.world.user.memory.pins.pages == 4
    assert not told.do(ops.VfioUnmap(1, 2 * MIB, 4))[0].violations
    assert told.world.user.memory.pins.pages == 0


def test_a_refused_unmap_excuses_who_says_so() -> None:
    """page-given-back: iommufd unpins all the same (iommu_unmap_nofail); a driver that said that it is not done is not accused,
    then or later, and one that hid it is."""
    lasting = (Fault(UNMAP, 1, 0x71, 1, None),)
    for driver, accused in (("repaired", False), ("posted-v0", True)):
        told = Told(driver)
        told.do(ops.IommufdAttach(), ops.IoasMap(1, MIB, RAM, 4))
        outcomes = told.do(ops.IoasUnmap(1, MIB, 4, faults=lasting), ops.IoasMap(1, 2 * MIB, RAM, 4), ops.IoasUnmap(1, 2 * MIB, 4))
        assert ("page-given-back" in failed(*outcomes)) == accused
        assert bool(outcomes[0].environment) == (not accused)


def test_no_device_but_a_mapping_is_the_milder_form() -> None:
    """mapping-ends-with-its-page: the device was blocked before its memory was unmapped, as when a VMM is killed."""
    told = Told("posted-v0")
    told.do(ops.VfioJoin(), ops.VfioMap(1, MIB, RAM + PAGE, 384))
    assert "mapping-ends-with-its-page" in failed(told.do(ops.VfioLeave())[0])
    assert "page-given-back" not in {name for name, _subject in told.world.judge.muted}
