"""The search for a life of user space in which the driver fails in the wanted manner: a seeded walk that is allowed nothing else.

It begins with nothing, or in the middle of ordinary life: after a part of a scenario of the callers. Then come rules of user space
and of VMs, and, where the host may have a hand in it, of devices. Ranges are often those of the trace that is to be lifted, and
refusals are that trace's, tried at other operations and arrivals.
"""

from __future__ import annotations

from bisect import bisect
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import accumulate
from random import Random
from typing import TYPE_CHECKING, Any

from hvmodel import operations as ops
from hvmodel.callers.levels import KERNEL
from hvmodel.callers.means import HOST, Account
from hvmodel.configuration import Configuration
from hvmodel.faults import Fault
from hvmodel.gears.lift.translate import roomy
from hvmodel.gears.minimise.trial import Case
from hvmodel.rules.chooser import RandomChooser
from hvmodel.rules.refusals import ANSWERS, DONE
from hvmodel.rules.rules import RULES, Scene, propose
from hvmodel.scenarios.callers import CALLERS
from hvmodel.world import World

if TYPE_CHECKING:
    from hvmodel.gears.lift import Goal

STEPS = 40
"""Operations in one life, before recovery."""

SHORT = 12
"""In half of the lives there are so many: most of what is found is found early."""

_USER = tuple(name for name, rule in RULES.items() if rule.subject == "user" and rule.level == KERNEL)
_VMS = ("create_vm", "finalise_vm", "delete_vm")
_DEVICES = ("release_device", "probe_device", "reset_device", "kexec")


class Life:
    """One walk. ``found`` is the case at whose end the driver fails in the goal's manner, if it does."""

    def __init__(self, goal: Goal, caller: int, seed: str) -> None:
        generator = Random(seed)
        self.goal, self.caller = goal, caller
        self.choose = RandomChooser(generator)
        self.random = generator.random
        self.config = roomy(goal.case.config)
        self.world = World(self.config, goal.driver)
        self.account = Account(self.config)
        self.allowed = goal.allows(caller)
        self.done: list[ops.Operation] = []
        self.found: Case | None = None
        self.over = False
        self._faults = [fault for operation in goal.case.operations for fault in operation.faults]
        self._ranges = [op for op in goal.case.operations if isinstance(op, ops.Map | ops.MapScattered | ops.VfioMap | ops.IoasMap)]

    def live(self) -> Case | None:
        """Do it all."""
        choose = self.choose
        scene = Scene(self.world, KERNEL, choose.pick((0, 0, 1, 2)), choose.pick((0, 1, 2)), 0)
        for first in self._beginning():
            self._apply(self._refused(first))
        names = (*_USER, *_VMS, "reset_device", *(_DEVICES if self.caller >= HOST else ()))
        weights = list(accumulate(RULES[name].weight * choose.pick((0, 1, 2, 4)) for name in names))
        steps = len(self.done) + (SHORT if choose.below(2) else STEPS)
        idle = 0
        while weights[-1] and not self.over and len(self.done) < steps and idle < 2 * STEPS:
            operation = propose(scene, RULES[names[bisect(weights, self.random() * weights[-1])]], choose)
            if operation is None or not self._apply(self._refused(self._ranged(operation))):
                idle += 1
        if not self.over:
            self._apply(ops.Recover())
        return self.found

    def _beginning(self) -> list[ops.Operation]:
        """A boot; or part of a scenario, without what is refused in it."""
        story = list(self.choose.pick(_stories(self.config))) if self.choose.below(2) else []
        if story:
            story = story[: 1 + self.choose.below(len(story))]
        lives = [replace(operation, faults=()) if operation.faults else operation for operation in story]
        return lives or [ops.Boot()]

    def _ranged(self, operation: ops.Operation) -> ops.Operation:
        """A map that is now and then as large as one of the goal's, and lies as that does."""
        if not self._ranges or not isinstance(operation, ops.VfioMap | ops.IoasMap) or self.choose.below(2):
            return operation
        like: Any = self.choose.pick(self._ranges)
        changes: dict[str, Any] = {"paddr": like.paddr, "piece": 0, "gap": 0}
        if isinstance(like, ops.MapScattered):
            changes |= {"pages": like.runs * like.run_pages, "piece": like.run_pages, "gap": max(like.stride - like.run_pages, 0)}
        else:
            changes |= {"pages": max(like.pages, 1), "prot": like.prot}
        if self.choose.below(2):
            changes["iova"] = like.iova & ~0xFFF
        return replace(operation, **changes)

    def _refused(self, operation: ops.Operation) -> ops.Operation:
        """The operation with one of the goal's refusals, or all of them, now and then."""
        if not self._faults or self.choose.below(4) or isinstance(operation, ops.Recover):
            return operation
        faults = self._faults if len(self._faults) < 3 and self.choose.below(3) == 0 else [self.choose.pick(self._faults)]
        return replace(operation, faults=tuple(map(self._varied, faults)))

    def _varied(self, fault: Fault) -> Fault:
        choose = self.choose
        site = fault.site
        if "TACH_DEVICE" in site and choose.below(3) == 0:  # the same place
            site = site.removesuffix("_DOMAIN") if site.endswith("_DOMAIN") else site + "_DOMAIN"
        done = choose.pick(DONE) if fault.done and choose.below(2) else fault.done
        status = choose.pick(ANSWERS) if fault.status in ANSWERS and choose.below(8) == 0 else fault.status
        return Fault(site, 1 + choose.below(6) if choose.below(2) else fault.nth, status, done, fault.times)

    def _apply(self, operation: ops.Operation) -> bool:
        outcome = self.world.apply(operation)
        if not outcome.applied:
            return False
        self.done.append(operation)
        self.over = self.world.over
        self.account.hear(operation, outcome)
        if not self.allowed(self.account):
            self.over = True
        elif any(self.goal.target.matches(violation, outcome.fired) for violation in outcome.violations):
            self.found, self.over = Case(self.config, tuple(self.done)), True  # whether it may is judged with the whole case
        return True


def _stories(config: Configuration) -> list[tuple[ops.Operation, ...]]:
    """The scenarios of the callers that there are devices for."""
    count = len(config.devices)
    return [tuple(each.operations) for each in CALLERS if len(each.configuration("default").devices) <= count] or [(ops.Boot(),)]


def lives(goal: Goal, seed: str, stopped: Callable[[], bool]) -> Iterator[Case]:
    """Cases that fail in the goal's manner, from a seed, until ``stopped``; callers take turns, the one with the least power is
    asked more often."""
    number = 0
    while not stopped():
        caller = goal.callers[0] if number % 3 else goal.callers[-1]
        case = Life(goal, caller, f"{seed}/{number}").live()
        if case is not None:
            yield case
        number += 1


__all__ = ["Life", "lives"]
