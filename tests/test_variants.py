"""The variants: that each is what it says, and that findings are named by them."""

from __future__ import annotations

import pytest

from hvmodel import operations as ops
from hvmodel.configuration import Configuration
from hvmodel.drivers import REGISTRY
from hvmodel.drivers.repaired import Repaired
from hvmodel.drivers.variants import KINDS, VARIANTS, variant
from hvmodel.faults import Fault
from hvmodel.gears.minimise import Target, minimise
from hvmodel.jobs.findings import Finding
from hvmodel.jobs.naming import defects_of, short, steadfast, together
from hvmodel.world import World

MIB = 1 << 20
MAP, UNMAP = "MAP_DEVICE_GPA_PAGES", "UNMAP_DEVICE_GPA_PAGES"

NAMED: list[tuple[str, str, tuple[ops.Operation, ...]]] = [
    ("D20", "no-stale-mapping", (ops.Alloc(1), ops.Map(1, MIB, 0x40001000, 384), ops.Unmap(1, MIB, 384))),
    (
        "D29",
        "no-stale-mapping",
        (ops.Alloc(1), ops.Map(1, MIB, 0x40000000, 4), ops.Unmap(1, MIB, 4, faults=(Fault(UNMAP, 1, 0x71, 1),))),
    ),
    ("D32", "free-frees-all", (ops.Alloc(1), ops.Map(1, MIB, 0x40000000, 4), ops.Free(1))),
    ("D37", "gfp-is-used", (ops.Alloc(1), ops.Map(1, MIB, 0x40000000, 4))),
    ("D68", "blocked-is-blocked", (ops.VmCreate(1), ops.Claim(0, 1))),
    ("D58", "replace-has-no-gap", (ops.Alloc(1), ops.Alloc(2), ops.Claim(), ops.Attach(1), ops.Replace(2))),
    ("N01", "no-foreign-attach", (ops.VmCreate(1), ops.VmCreate(2), ops.Alloc(1, 0, 1), ops.Attach(1, 0, 2))),
]


def finding(driver: str, name: str, operations: tuple[ops.Operation, ...]) -> Finding:
    """The finding that these operations give on a driver."""
    world = World(Configuration(), driver)
    for violation in (v for operation in (ops.Boot(), *operations) for v in world.apply(operation).violations):
        if violation.property == name:
            target = Target(name, violation.call, violation.shape)
            small = minimise(Configuration(), [ops.Boot(), *operations], driver, target)
            assert small is not None
            return Finding(small, driver, "test", "")
    raise AssertionError(f"{driver} does not fail {name}")


@pytest.mark.parametrize("name", VARIANTS)
def test_a_variant_says_what_it_is(name: str) -> None:
    """Name, kind, story; and it overrides little: a difference that fits on a screen."""
    entry = REGISTRY[name]
    assert name == f"repaired+{entry.defect.split('-')[0]}"
    assert entry.kind in KINDS
    assert entry.summary
    assert not entry.summary.endswith(".")
    assert len(entry.summary) <= 140
    assert issubclass(VARIANTS[name], Repaired)


def test_every_kind_of_mistake_is_tried() -> None:
    """Our own variants are of every kind, and there are at least twenty."""
    own = [cls for cls in VARIANTS.values() if cls.defect.startswith("O")]
    assert len(own) >= 20
    assert {cls.kind for cls in own} == set(KINDS)


def test_a_variant_needs_a_kind_a_story_and_a_name_of_its_own() -> None:
    """The decorator refuses what would be listed wrongly."""

    class WithStory(Repaired):
        """Does something wrong."""

    for defect, kind in (("D01-again", "encoding"), ("O99-new", "weather")):
        with pytest.raises(ValueError, match=defect):
            variant(defect, kind)(WithStory)


@pytest.mark.parametrize(("number", "name", "operations"), NAMED, ids=[row[0] for row in NAMED])
def test_the_posted_driver_s_findings_are_named(number: str, name: str, operations: tuple[ops.Operation, ...]) -> None:
    """A finding of the driver as posted names the catalogue entry that it is an instance of."""
    assert number in short(defects_of(finding("posted-v0", name, operations))).split()


@pytest.mark.parametrize(("number", "name", "operations"), NAMED, ids=[row[0] for row in NAMED])
def test_a_variant_is_named_by_itself(number: str, name: str, operations: tuple[ops.Operation, ...]) -> None:
    """A name is never made up: where the variant does not fail the property, it is not named."""
    found = defects_of(finding("posted-v0", name, operations))
    assert "D90-skip-inverted" not in found
    assert "D93-sysfs-first" not in found


def test_a_driver_with_two_defects() -> None:
    """What shows only beside another is looked for beside it."""
    both = together(("repaired+D34", "repaired+D20"))
    world = World(Configuration(), both)
    assert world.driver.name == "repaired+D34+repaired+D20"
    assert together(()).name == "repaired"


def test_lasting_faults_keep_what_already_lasts() -> None:
    """``steadfast`` makes a refusal sooner and longer, never shorter."""
    faults = (Fault(MAP, 2, 0x71, 1), Fault(UNMAP, 1, 0x71, 0, None))
    (changed,) = steadfast([ops.Map(1, 0, 0, 2, faults=faults)])
    assert changed.faults == (Fault(MAP, 1, 0x71, 1, 3), Fault(UNMAP, 1, 0x71, 0, None))
