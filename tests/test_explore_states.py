"""Saving, putting back and naming the states of a world: what the exhaustive gear stands on."""

from __future__ import annotations

from dataclasses import replace
from itertools import islice
from typing import Any

import pytest

from hvmodel import operations as ops
from hvmodel.configuration import Configuration
from hvmodel.gears.exhaustive.canonical import LEFT_OUT, TAKEN, Canonical, region
from hvmodel.gears.exhaustive.engine import Engine, Manner
from hvmodel.gears.exhaustive.scope import Scope
from hvmodel.gears.exhaustive.scopes import SMALL, TINY
from hvmodel.gears.exhaustive.search import Search
from hvmodel.gears.exhaustive.snapshot import Keeper
from hvmodel.gears.walk import runs, walk
from hvmodel.jobs.detect import matching
from hvmodel.world import World

DRIVERS = ["repaired", "posted-v0", "repaired-c"]


def _available(driver: str) -> str:
    if driver == "repaired-c":
        pytest.importorskip("hvmodel.drivers.native")
        from hvmodel.drivers import REGISTRY

        if driver not in REGISTRY:
            pytest.skip("no C compiler")
    return driver


def _ran(number: int, profile: str = "default") -> Any:
    seed, _profile, level, _steps = next(islice(runs(5, 0, [profile], [0, 1, 2], 40), number, None))
    return walk(seed, "repaired", profile, level, 40)


@pytest.mark.parametrize("driver", DRIVERS)
@pytest.mark.parametrize("number", range(6))
def test_a_world_is_put_back_as_it_was(driver: str, number: int) -> None:
    """An operation that was undone leaves nothing behind: the run goes on as if it had never been, on every kind of driver."""
    run = _ran(number)
    alone, disturbed = World(run.config, _available(driver)), World(run.config, driver)
    keeper = Keeper(disturbed)
    operations = run.operations
    for at, operation in enumerate(operations):
        for other in (operations[(at + 3) % len(operations)], ops.Detach(0), ops.Recover()):
            disturbed.apply(other)
            keeper.back(keeper.changes())
            assert keeper.changes() == []
        expected, got = alone.apply(operation), disturbed.apply(operation)
        assert (got.applied, got.result, got.fired, got.violations) == (
            expected.applied,
            expected.result,
            expected.fired,
            expected.violations,
        )
        keeper.advance(keeper.changes())
        assert Canonical(disturbed, user=True).take() == Canonical(alone, user=True).take()


@pytest.mark.parametrize("driver", DRIVERS)
def test_a_snapshot_brings_a_world_back_from_anywhere(driver: str) -> None:
    """A path can be left at any point and taken up again: each earlier state has its name after what came later was undone."""
    run = _ran(2)
    world = World(run.config, _available(driver))
    keeper = Keeper(world)
    kept = []
    for operation in run.operations:
        before = Canonical(world, user=True).take()
        world.apply(operation)
        changes = keeper.changes()
        kept.append((keeper.advance(changes), changes, before))
    for snapshot, changes, name in reversed(kept):
        keeper.retreat(snapshot, changes)
        assert keeper.changes() == []
        assert Canonical(world, user=True).take() == name


@pytest.mark.parametrize("driver", ["repaired", "posted-v0"])
@pytest.mark.parametrize(("symmetry", "user"), [(True, False), (False, False), (True, True)])
def test_only_what_changed_is_read_again(driver: str, symmetry: bool, user: bool) -> None:
    """The name that is made from what an operation changed is the one that reading everything gives."""
    for number in range(4):
        run = _ran(number)
        world = World(run.config, driver)
        keeper, canonical = Keeper(world), Canonical(world, symmetry, user)
        canonical.take()
        for operation in run.operations:
            world.apply(operation)
            changes = keeper.changes()
            assert canonical.after(changes) == Canonical(world, symmetry, user).take(), operation
            remembered = canonical.advance(changes)
            canonical.retreat(remembered)
            canonical.advance(changes)
            keeper.advance(changes)


def _twins(driver: str, scope: Scope, profile: str, most: int) -> list[tuple[list[ops.Operation], list[ops.Operation]]]:
    """Pairs of different paths to states of one name."""
    engine = Engine(driver, scope, profile)
    first: dict[bytes, list[ops.Operation]] = {}
    pairs: list[tuple[list[ops.Operation], list[ops.Operation]]] = []
    frontier: list[tuple[list[ops.Operation], int]] = [([], 0)]
    for _ in range(4):
        ahead = []
        for path, spent in frontier:
            for step in engine.expand(path, spent).steps:
                there = [*path, step.operation]
                known = first.get(step.name)
                if known is None:
                    first[step.name] = there
                    ahead.append((there, step.spent))
                elif known != there and len(pairs) < most:
                    pairs.append((known, there))
        frontier = ahead
    return pairs


def _behaviour(driver: str, scope: Scope, profile: str, path: list[ops.Operation]) -> list[Any]:
    """What every operation does at the end of a path: a name for the state behind it, or what fails."""
    engine = Engine(driver, scope, profile)
    spent = sum(len(operation.faults) for operation in path)
    expansion = engine.expand(path, spent)
    return [
        sorted((step.name, step.spent) for step in expansion.steps),
        sorted((violation.property, violation.call) for failure in expansion.failures for violation in failure.violations),
    ]


@pytest.mark.parametrize("part", ["two devices", "small maps", "next kernel", "VFIO", "VFIO, two groups", "page tables", "streams"])
def test_states_of_one_name_behave_the_same(part: str) -> None:
    """A name stands for all that decides what comes next: from two paths to one name the same follows, operation by operation."""
    scope = next(scope for scope in SMALL if scope.name == part)
    pairs = _twins("repaired", scope, "default", 400)[::9]
    assert len(pairs) > 20
    for one, other in pairs:
        assert _behaviour("repaired", scope, "default", one) == _behaviour("repaired", scope, "default", other)


def test_devices_and_regions_are_exchangeable_and_nothing_else() -> None:
    """Symmetry takes out which of two equal devices or physical regions it was, and tells apart what is not equal."""
    config = Configuration(devices=next(scope for scope in SMALL if scope.name == "two devices").devices)

    def name(*operations: ops.Operation, symmetry: bool = True, start: Configuration = config) -> bytes:
        world = World(start, "repaired")
        for operation in (ops.Boot(), *operations):
            assert world.apply(operation).applied
        return Canonical(world, symmetry).take()

    assert name(ops.Claim(0)) == name(ops.Claim(1))
    assert name(ops.Claim(0), symmetry=False) != name(ops.Claim(1), symmetry=False)
    assert name(ops.Claim(0)) != name(ops.Claim(0), ops.Claim(1))
    one, two = ops.Map(1, 0, region(0), 1), ops.Map(1, 0x1000, region(0) + 0x1000, 1)
    far = ops.Map(1, 0x1000, region(1) + 0x1000, 1)
    assert name(ops.Alloc(1), one, two) != name(ops.Alloc(1), one, far)
    assert name(ops.Alloc(1), ops.Map(1, 0, region(1), 1), ops.Map(1, 0x1000, region(0) + 0x1000, 1)) == name(
        ops.Alloc(1), one, far
    )
    skipped = replace(config, skip="(0:0:5.0)")
    assert name(ops.Claim(0), start=skipped) != name(ops.Claim(1), start=skipped)


def test_every_field_of_a_world_names_its_state_or_is_left_out_for_a_reason() -> None:
    """A field that somebody adds cannot be forgotten: it must be said whether it decides what comes next."""
    there: dict[str, set[str]] = {}
    by_core = (ops.Claim(0, 1), ops.Alloc(1, 0, 1), ops.Attach(1, 0, 1), ops.Map(1, 0, 1 << 36, 2), ops.DmaMap(0, 1 << 20, 1 << 36))
    by_user = (
        ops.VfioJoin(1, 0, 1),
        ops.VfioMap(1, 1 << 20, 1 << 36),
        ops.IommufdAttach(1, 1, 0, 1),
        ops.HwptAlloc(1, 1, 1),
        ops.IoasMap(1, 1 << 20, 1 << 36, by=1),
    )
    scope = next(scope for scope in SMALL if scope.name == "two devices")
    for steps in ((*by_core, ops.Detach(0, 1)), by_user):
        world = World(scope.configuration("default"), "repaired")
        for operation in (ops.Boot(), ops.VmCreate(1), *steps):
            assert world.apply(operation).applied, operation
        _fields_of(world, there)
    said: dict[str, set[str]] = {name: set(taken.split()) for name, taken in TAKEN.items()}
    for name, (left, reason) in LEFT_OUT.items():
        assert reason
        mine = said.setdefault(name.rstrip("."), set())
        assert mine.isdisjoint(left.split()), name
        mine.update(left.split())
    said["SpinLock"].add("holder")
    assert there == said


def _fields_of(world: World, there: dict[str, set[str]]) -> None:
    for cls, fields in Keeper(world).fields().items():
        if cls.__module__.startswith("hvmodel.") and ".drivers." not in cls.__module__ and cls.__name__ != "IntervalTreeNode":
            inside = cls.__module__ == "hvmodel.hypervisor.objects" and cls.__name__ == "Device"
            there.setdefault(f"hypervisor.{cls.__name__}" if inside else cls.__name__, set()).update(fields)


def test_the_number_of_states_is_known() -> None:
    """What the rules reach within a scope: a change of it must be meant."""
    counts = {}
    for scope in (*TINY, next(scope for scope in SMALL if scope.name == "two devices")):
        for symmetry in (True, False):
            search = _searched("repaired", replace(scope, depth=3), symmetry)
            assert search.verdict == "holds"
            counts[scope.name, symmetry] = (search.states, search.transitions)
    for scope in (scope for scope in SMALL if "user" in scope.subjects):
        search = _searched("repaired", replace(scope, depth=3))
        counts[scope.name, True] = (search.states, search.transitions)
    assert counts == {
        ("maps", True): (130, 361),
        ("maps", False): (131, 362),
        ("moves", True): (189, 704),
        ("moves", False): (189, 704),
        ("two devices", True): (283, 1392),
        ("two devices", False): (441, 1996),
        ("VFIO", True): (144, 420),
        ("VFIO, odd requests", True): (716, 2081),
        ("VFIO, large pages", True): (118, 337),
        ("VFIO, two groups", True): (380, 1237),
        ("VFIO, plugging", True): (308, 909),
        ("VFIO, aliases", True): (212, 612),
        ("VFIO, a group of two", True): (392, 1383),
        ("iommufd", True): (275, 694),
        ("iommufd, odd requests", True): (379, 1027),
        ("page tables", True): (299, 756),
        ("streams", True): (123, 376),
    }


def _searched(driver: str, scope: Scope, symmetry: bool = True, jobs: int = 1) -> Search:
    from hvmodel.gears.exhaustive.crew import Crew

    search = Search(driver, scope, "default", symmetry)
    with Crew(jobs, driver, scope, "default", Manner(symmetry)) as crew:
        search.run(crew)
    return search


def test_another_list_with_the_same_in_it_is_put_back() -> None:
    """What is put back is the object that was there, also where a driver puts an equal one in its place."""
    driver = next(name for name in matching("repaired+O28*"))
    world = World(TINY[0].configuration("l1vh"), driver)
    world.apply(ops.Boot())
    keeper = Keeper(world)
    before = world.driver.hv_devs  # type: ignore[attr-defined]
    held = list(before)
    world.apply(ops.Recover())
    keeper.back(keeper.changes())
    assert world.driver.hv_devs is before  # type: ignore[attr-defined]
    assert before == held
    assert keeper.changes() == []
