"""Judging only what a call touched is enough: comparing everything afterwards finds nothing more."""

from __future__ import annotations

import pytest
from toy_drivers import HONEST, Toy

from hvmodel.drivers import REGISTRY, register
from hvmodel.gears.walk import walk
from hvmodel.operations import Recover
from hvmodel.world import World


def _replayed(toy: type[Toy], seed: int) -> World:
    """The world of a walk as it stands before recovery."""
    run = walk(f"audit/{seed}", toy.name, "default", 0, 120)
    world = World(run.config, toy.name)
    for operation in run.operations:
        if not isinstance(operation, Recover):
            world.apply(operation)
    return world


@pytest.mark.parametrize("toy", HONEST)
def test_what_was_not_touched_has_not_come_apart(toy: type[Toy], monkeypatch: pytest.MonkeyPatch) -> None:
    """Protects the induction: after a walk the whole of all three views is compared, and nothing new differs. Then one page is
    mapped behind everybody's back, and the same comparison sees it."""
    monkeypatch.delitem(REGISTRY, toy.name, raising=False)
    register(toy)
    planted = 0
    try:
        for seed in range(12):
            world = _replayed(toy, seed)
            if world.over or world.core.ops is None:
                continue
            world.judge.audit()
            assert not world.judge.violations, world.judge.violations
            for book in world.books.domains.values():
                if book.kind == "device" and book.hv_id is not None:
                    world.hypervisor.domains[book.hv_id].table.set(1 << 30, (1 << 30) + 1, 5, 3)
                    planted += 1
                    break
            else:
                continue
            world.judge.audit()
            assert "no-stale-mapping" in {violation.property for violation in world.judge.violations}
    finally:
        del REGISTRY[toy.name]
    assert planted >= 3
