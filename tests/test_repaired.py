"""The repaired driver: that nothing is found in it, what it does where nothing can be healed, and that it answers the catalogue."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from toy_drivers import failed, play, stage

import hvmodel.drivers.repaired
from hvmodel import operations as ops
from hvmodel.configuration import Configuration
from hvmodel.drivers.honest import HONEST, SaysLess
from hvmodel.drivers.interface import Driver
from hvmodel.drivers.repaired import Repaired
from hvmodel.drivers.repaired.objects import HV_IDLE_DEPOSITS
from hvmodel.drivers.variants import VARIANTS
from hvmodel.faults import Fault
from hvmodel.gears.walk import Run, runs, walk
from hvmodel.hypervisor.objects import IN_DEFAULT, IN_NULL, Place
from hvmodel.rules.worlds import ALIASES, PROFILE_NAMES
from hvmodel.world import Outcome, World

MIB = 1 << 20
ATTACH, DETACH, DELETE, CREATE = (f"{verb}_DEVICE_DOMAIN" for verb in ("ATTACH", "DETACH", "DELETE", "CREATE"))
MAP, UNMAP = "MAP_DEVICE_GPA_PAGES", "UNMAP_DEVICE_GPA_PAGES"


def for_ever(site: str, status: int = 0x71) -> tuple[Fault, ...]:
    """A site that refuses until it is lifted."""
    return (Fault(site, 1, status, 0, None),)


def calls(world: World) -> list[str]:
    """Records the hypercalls of what comes next, by name."""
    names: list[str] = []
    world.judge.story = lambda what, about: names.append(about_name(about)) if what == "hypercall" else None
    return names


def about_name(record: object) -> str:
    """The name of a hypercall record."""
    from hvmodel.hypervisor import abi

    return abi.call_name(record.code)  # type: ignore[attr-defined]


def first_found(driver: type[Driver], operations: int, seed: int) -> tuple[int, str]:
    """Walk over all profiles and levels; answers how many operations were done, and the first violation or ''."""
    seen: list[str] = []

    def heard(run: Run, outcome: Outcome) -> bool:
        seen.append(f"{outcome.violations[0].property}: {outcome.violations[0].detail}")
        return True

    done = 0
    for name, profile, level, steps in runs(seed, 0, list(PROFILE_NAMES), [0, 1, 2], 200):
        done += len(walk(name, driver.name, profile, level, steps, heard).operations)
        if seen or done >= operations:
            break
    return done, f"{name}: {seen[0]}" if seen else ""


# --- the harness and honest drivers ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("driver", [Repaired, *HONEST])
def test_nothing_is_found_in_an_honest_driver(driver: type[Driver]) -> None:
    """Properties that cry wolf are worthless. The long form is ``make soak``."""
    done, found = first_found(driver, 25_000, seed=2026)
    assert not found
    assert done >= 25_000


def test_a_liar_is_caught() -> None:
    """The same nodes as an honest driver, one answer too small."""
    done, found = first_found(SaysLess, 25_000, seed=2026)
    assert found, f"nothing found in {done} operations"


# --- what it does where nothing can be healed -----------------------------------------------------------------------------------


def test_an_id_that_may_be_alive_is_not_given_again() -> None:
    """DELETE refused for ever, and the id counter comes round."""
    world = stage(Repaired, Configuration(unique_id=0xFFFFFFFC))
    play(world, ops.Alloc(1), ops.Free(1, faults=for_ever(DELETE)))
    assert set(world.hypervisor.domains) == {0, 0xFFFFFFFD, 0xFFFFFFFF}
    play(world, ops.Alloc(2), ops.Alloc(3))
    world.driver.preset_unique_id(0xFFFFFFFC)
    outcomes = play(world, ops.Alloc(4))
    assert outcomes[0].result == 0
    assert world.books.domains[4].hv_id not in (0, 0xFFFFFFFD, 0xFFFFFFFE, 0xFFFFFFFF)
    assert not failed(*play(world, ops.Recover()))


def test_a_device_that_cannot_leave_keeps_its_domain() -> None:
    """The way out is refused for ever: the core frees the domain all the same, and it stays until the device is out."""
    world = stage(Repaired)
    play(world, ops.Alloc(1), ops.Attach(1), ops.Map(1, MIB, 0x40000000, 16), ops.Detach(faults=for_ever(ATTACH)), ops.Free(1))
    key = world.books.devices[0].key
    assert world.hypervisor.place(key) == Place("domain", 1)
    assert 1 in world.hypervisor.domains
    assert not failed(*play(world, ops.Recover()))
    assert world.hypervisor.place(key) in (IN_DEFAULT, IN_NULL)
    assert 1 not in world.hypervisor.domains


def test_pages_that_cannot_be_unmapped_are_never_reported_gone() -> None:
    """UNMAP refused for ever: the answer is 0, and the lookup still says where they are."""
    world = stage(Repaired)
    unmap, lookup = play(
        world, ops.Alloc(1), ops.Map(1, MIB, 0x40000000, 16), ops.Unmap(1, MIB, 16, faults=for_ever(UNMAP)), ops.Lookup(1, MIB)
    )[2:]
    assert unmap.result == 0
    assert lookup.result == 0x40000000
    assert not failed(*play(world, ops.Recover()))


def test_a_hypervisor_that_is_never_content_is_given_a_bounded_number_of_pages() -> None:
    """Shortage for ever: -ENOMEM after the bound, not the host's memory."""
    world = stage(Repaired)
    play(world, ops.Alloc(1))
    before = world.kernel.deposited
    (mapped,) = play(world, ops.Map(1, MIB, 0x40000000, 16, faults=for_ever(MAP, 0x0B)))
    assert mapped.result == -12
    assert (world.kernel.deposited - before) // 256 == HV_IDLE_DEPOSITS
    assert not failed(mapped)


def test_the_second_of_two_aliases_needs_no_hypercall() -> None:
    """Two functions behind one id are one device to the hypervisor: moving it twice would take it through another place."""
    world = stage(Repaired, Configuration(devices=ALIASES))
    play(world, ops.Alloc(1, 1), ops.Claim(1))
    names = calls(world)
    (attached,) = play(world, ops.Attach(1, 1))
    assert names == [ATTACH]
    assert attached.result == 0
    assert world.driver.attach_count(world.books.domains[1].domain) == 2


def test_what_was_answered_for_an_alias_holds_when_it_is_gone() -> None:
    """The oracle's side of it: one of two functions behind one id is moved for both, then released; nobody lied."""
    world = stage(Repaired, Configuration(devices=ALIASES))
    disown, release = play(world, ops.Claim(1), ops.Disown(1, faults=(Fault(ATTACH, 1, 0x71, 0, 3),)), ops.Release(2))[1:]
    assert disown.fired
    assert not failed(disown, release)


def test_no_legal_unmap_needs_memory() -> None:
    """iommufd's rule: an unmap of what was mapped must not fail for memory. Only a cut in the middle may."""
    world = stage(Repaired)
    play(world, ops.Alloc(1), ops.Map(1, MIB, 0x40001000, 384))
    whole = play(world, ops.Unmap(1, MIB, 384, faults=(Fault("kzalloc", 1, times=None),)))[0]
    assert whole.result == 384 << 12
    assert not whole.fired
    play(world, ops.Map(1, MIB, 0x40001000, 384))
    middle = play(world, ops.Unmap(1, MIB + 0x1000, 1, faults=(Fault("kzalloc", 1),)))[0]
    assert middle.result == 0
    assert not failed(whole, middle)


# --- the catalogue ---------------------------------------------------------------------------------------------------------------


def test_every_catalogue_entry_with_a_variant_is_answered() -> None:
    """The source of ``repaired`` names, where it differs, the entry that it answers."""
    folder = Path(hvmodel.drivers.repaired.__file__).parent
    text = "\n".join(path.read_text() for path in folder.glob("*.py"))
    answered = set(re.findall(r"\bD\d+\b", text))
    wanted = {cls.defect.split("-")[0] for cls in VARIANTS.values() if cls.defect.startswith("D")}
    assert not wanted - answered
