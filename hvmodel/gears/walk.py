"""The walk: a seeded generator answers the rules. The nightly gear, fast because nothing stands between rule and world."""

from __future__ import annotations

import gc
from bisect import bisect
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from random import Random

from hvmodel import operations as ops
from hvmodel.configuration import Configuration
from hvmodel.rules import refusals
from hvmodel.rules.chooser import RandomChooser
from hvmodel.rules.rules import propose
from hvmodel.rules.worlds import VARIATIONS, draw_configuration, draw_scene
from hvmodel.world import Outcome, World


@dataclass(slots=True)
class Run:
    """One run: where it started, what was done, and the world as it stands."""

    config: Configuration
    world: World
    level: int
    operations: list[ops.Operation] = field(default_factory=list)
    proposed: dict[str, int] = field(default_factory=dict)
    """How often an operation of each rule applied."""
    environment: int = 0
    """How often something came about that no driver could have avoided."""
    refused: bool = False
    """Whether an attach or detach was refused in an earlier operation."""
    fired: dict[str, int] = field(default_factory=dict)
    """How often an answer was decided by a fault, by site."""


Heard = Callable[[Run, Outcome], bool]
"""Told of each operation that violated a property; answers whether the run shall stop."""


def walk(
    seed: str, driver: str, profile: str, level: int, steps: int, heard: Heard | None = None, make: type[World] = World
) -> Run:
    """One run of up to ``steps`` operations from a seed, then recovery. Stops early when ``heard`` says so.

    The same arguments give the same operations. ``make`` is the kind of world that is walked in.
    """
    generator = Random(seed)
    choose = RandomChooser(generator)
    number = seed.rsplit("/", 1)[-1]
    config = draw_configuration(choose, profile, int(number) // 2 if number.isdigit() else None)
    world = make(config, driver)
    run = Run(config, world, level)
    scene, rules, weights = draw_scene(choose, world, level)
    total = weights[-1]
    random = generator.random
    done = run.operations

    def apply(operation: ops.Operation) -> bool:
        outcome = world.apply(operation)
        if outcome.applied:
            done.append(operation)
            stop = heard(run, outcome) if outcome.violations and heard is not None else False
            if outcome.environment:
                run.environment += len(outcome.environment)
            for fault in outcome.fired:
                run.fired[fault.site] = run.fired.get(fault.site, 0) + 1
                run.refused = run.refused or "TACH_DEVICE" in fault.site
            return stop
        return False

    boot: ops.Operation = ops.Boot()
    if scene.faults and choose.chance(10):
        boot = replace(boot, faults=refusals.draw(choose, boot))
    if apply(boot):
        return run
    for vm in range(1, scene.vms + 1):
        if random() < 0.7:
            apply(ops.VmCreate(vm))
    idle = 0
    while len(done) < steps and idle < 60 and not world.over:
        rule = rules[bisect(weights, random() * total)]
        operation = propose(scene, rule, choose)
        if operation is None:
            idle += 1
            continue
        idle = 0
        run.proposed[rule.name] = run.proposed.get(rule.name, 0) + 1
        if apply(operation):
            return run
    apply(ops.Recover())
    return run


def runs(
    seed: int, job: int, profiles: list[str], levels: list[int], steps: int, first: int = 0
) -> Iterator[tuple[str, str, int, int]]:
    """The endless schedule of a walk: (seed of the run, profile, level, steps), half of it under the first profile. ``first`` is
    the number of the run that it begins with."""
    others = profiles[1:] + [VARIATIONS] * 2 * (VARIATIONS in profiles[1:])
    number = first
    while True:
        turn = number // 2
        profile = others[turn % len(others)] if others and number % 2 else profiles[0]
        lap, place = divmod(turn, max(len(others), 1))
        level = levels[(lap + place) % len(levels)]
        yield f"{seed}/{job}/{number}", profile, level, steps
        number += 1


def settle() -> None:
    """Spare the collector: what is loaded now stays for good, and runs are collected in larger portions. For a walking process."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)


__all__ = ["Heard", "Run", "runs", "settle", "walk"]
