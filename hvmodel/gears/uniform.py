"""The uniform gear: the baseline that the other gears are measured against.

It drives the same worlds as the walk (the same configurations, levels, share of faults, two phases and judges) with the same kinds
of operation, but for those of user space, in which whatever does not name a mapping exactly is refused; and draws every argument
uniformly from a range, blind: the kind of operation, numbers of domains, groups, devices, VMs and threads, page-aligned addresses
of 48 bits, page counts up to 32 MiB a request, protections, and of a fault its site, arrival, answer and duration.
What it does not have is what the rules know: which handles exist, what is mapped where, at which numbers arithmetic and encodings
turn, which rules suit a run.

It is not crippled. What had nothing to act on costs it no operation. The ranges of numbers are as small as what there can be. A
new kernel, after which all that was built up is gone, is as rare as in the walk. And statuses are those that the walk refuses with.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from random import Random
from typing import Any

from hvmodel import operations as ops
from hvmodel.callers.levels import level_of
from hvmodel.faults import CALL_SITES, KERNEL_SITES, Fault
from hvmodel.gears.walk import Heard, Run
from hvmodel.rules.chooser import Chooser, RandomChooser
from hvmodel.rules.refusals import ANSWERS, SHORTAGES
from hvmodel.rules.rules import RULES
from hvmodel.rules.worlds import draw_configuration
from hvmodel.world import World

TRIES = 100
"""Draws for each operation of a run, at most; most have nothing to act on."""

DOMAINS = 16
"""Numbers for domains. A number serves once in a run: with 6 or 10 a run ran out of them, more than 16 gained nothing."""

_KINDS = tuple(cls for kind, cls in ops.KINDS.items() if cls not in (ops.Boot, ops.Kexec, ops.Recover) and kind not in ops.IOCTLS)
_STATUSES = tuple(dict.fromkeys((*SHORTAGES, *ANSWERS)))
_REP_SITES = ("MAP_DEVICE_GPA_PAGES", "UNMAP_DEVICE_GPA_PAGES")
_KEXEC_ONE_IN = sum(rule.weight for rule in RULES.values() if rule.subject != "user") // RULES["kexec"].weight

_FIELDS: dict[str, Callable[[Chooser], Any]] = {
    "domain": lambda choose: 1 + choose.below(DOMAINS),
    "device": lambda choose: choose.below(4),
    "group": lambda choose: choose.below(4),
    "vm": lambda choose: 1 + choose.below(3),
    "by": lambda choose: choose.below(4),
    "iova": lambda choose: choose.below(1 << 36) << 12,
    "paddr": lambda choose: choose.below(1 << 36) << 12,
    "pages": lambda choose: 1 + choose.below(8192),
    "runs": lambda choose: 2 + choose.below(31),
    "run_pages": lambda choose: 1 + choose.below(256),
    "stride": lambda choose: 1 + choose.below(512),
    "pgsize": lambda choose: 1 << choose.below(23),
    "pgcount": lambda choose: choose.below(9),
    "prot": lambda choose: choose.pick(("r", "w", "rw")),
    "gfp": lambda choose: choose.pick(("kernel", "atomic")),
    "mapped": lambda choose: choose.below(2) == 0,
}
"""How each field of an operation is drawn."""


def propose(choose: Chooser, world: World, level: int, faults: int) -> ops.Operation | None:
    """Any operation, with a fault in ``faults`` of 100 cases; None if it is above the level."""
    kind = choose.pick(_KINDS)
    operation = kind(**{name: _FIELDS[name](choose) for name in ops.field_names(kind)})
    if level_of(operation, world.books) > level:
        return None
    return replace(operation, faults=(_fault(choose),)) if choose.chance(faults) else operation


def _fault(choose: Chooser) -> Fault:
    site, nth, times = choose.pick(CALL_SITES), 1 + choose.below(3), choose.pick((1, 2, 3, None))
    if site in KERNEL_SITES:
        return Fault(site, nth, times=times)
    return Fault(site, nth, choose.pick(_STATUSES), choose.below(512) if site in _REP_SITES else 0, times)


def uniform(seed: str, driver: str, profile: str, level: int, steps: int, heard: Heard | None = None) -> Run:
    """One run of up to ``steps`` operations from a seed, then recovery; as :func:`hvmodel.gears.walk.walk`, which see."""
    choose = RandomChooser(Random(seed))
    number = seed.rsplit("/", 1)[-1]
    config = draw_configuration(choose, profile, int(number) // 2 if number.isdigit() else None)
    world = World(config, driver)
    run = Run(config, world, level)
    faults = choose.pick((0, 5, 15, 30, 50))

    def apply(operation: ops.Operation) -> bool:
        outcome = world.apply(operation)
        if not outcome.applied:
            return False
        run.operations.append(operation)
        return heard(run, outcome) if outcome.violations and heard is not None else False

    boot = ops.Boot()
    if apply(replace(boot, faults=(_fault(choose),)) if faults and choose.chance(10) else boot):
        return run
    kexec = choose.below(2 * _KEXEC_ONE_IN)
    for _ in range(TRIES * steps):
        if len(run.operations) >= steps or world.over:
            break
        operation = ops.Kexec() if len(run.operations) == kexec else propose(choose, world, level, faults)
        if operation is not None and apply(operation):
            return run
    apply(ops.Recover())
    return run


__all__ = ["propose", "uniform"]
