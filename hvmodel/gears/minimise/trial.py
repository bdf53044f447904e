"""One trial: run a candidate trace and see whether it fails the target; and how the trials of one search are counted."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from hvmodel import operations as ops
from hvmodel.callers.levels import BEYOND
from hvmodel.callers.means import Account
from hvmodel.configuration import Configuration
from hvmodel.faults import Fault
from hvmodel.gears.minimise.weight import lighter
from hvmodel.properties.verdicts import Violation
from hvmodel.world import World


@dataclass(frozen=True, slots=True)
class Target:
    """What must go on failing: the property, and if they are given the driver call, the shape, and where the failing operation was
    refused (at some of ``sites`` and nowhere else; an empty set: nowhere)."""

    property: str
    call: str | None = None
    shape: tuple[object, ...] | None = None
    sites: frozenset[str] | None = None

    def matches(self, violation: Violation, fired: Sequence[Fault]) -> bool:
        """Whether this violation, after these refusals, is the one."""
        if violation.property != self.property:
            return False
        if self.sites is not None:
            here = {fault.site for fault in fired}
            if not here <= self.sites or (self.sites and not here):
                return False
        return (self.call is None or violation.call == self.call) and (self.shape is None or violation.shape == self.shape)


@dataclass(slots=True)
class Minimised:
    """A trace that fails the target and from which nothing more could be taken; ``runs`` is how many worlds that took."""

    config: Configuration
    operations: list[ops.Operation]
    violation: Violation
    level: int
    runs: int = 0
    fired: list[Fault] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Case:
    """A start and operations: what a trial runs."""

    config: Configuration
    operations: tuple[ops.Operation, ...]


@dataclass(frozen=True, slots=True)
class Hit:
    """A case that fails the target at its last operation; ``level`` is an index into ``callers.levels.LEVELS``, ``met`` are the
    refusals that each operation met, once for each answer that they decided."""

    case: Case
    violation: Violation
    level: int
    met: tuple[Sequence[Fault], ...]


HEAVY = 2000
"""A world that makes so many hypercalls and allocations counts as one more, so that a limit is one of work as well."""


class Trials:
    """Runs candidates for one search, none of them twice. ``left`` is how many worlds may still be run, ``runs`` how many were."""

    def __init__(self, driver: str, target: Target, limit: int) -> None:
        self.driver, self.target, self.left = driver, target, limit
        self.runs = 0
        self.most = BEYOND
        """The highest level that a trace may need."""
        self.allows: Callable[[Account], bool] | None = None
        """If there is one: whether a trace may take what it has taken so far."""
        self._known: dict[Case, Hit | None] = {}

    def run(self, case: Case) -> Hit | None:
        """The case up to its first failure, without operations that had nothing to act on; None if it does not fail the target
        within the level. A case that was tried before costs nothing."""
        if case in self._known:
            return self._known[case]
        hit, idle = self._run(case)
        if hit is not None and idle:
            hit = self.run(Case(case.config, tuple(op for index, op in enumerate(hit.case.operations) if index not in idle))) or hit
        self._known[case] = hit
        if hit is not None:
            self._known[hit.case] = hit
        return hit

    def _run(self, case: Case) -> tuple[Hit | None, set[int]]:
        self.runs += 1
        world = World(case.config, self.driver)
        try:
            return self._applied(case, world)
        finally:
            self.left -= 1 + sum(world.faults.reached.values()) // HEAVY

    def _applied(self, case: Case, world: World) -> tuple[Hit | None, set[int]]:
        matches, apply = self.target.matches, world.apply
        level, idle, met = 0, set[int](), list[Sequence[Fault]]()
        account = Account(case.config)
        for index, operation in enumerate(case.operations):
            outcome = apply(operation)
            met.append(outcome.fired)
            if not outcome.applied:
                idle.add(index)
                continue
            if outcome.level > level:
                level = outcome.level
                if level > self.most:
                    break
            if self.allows is not None:
                account.hear(operation, outcome)
                if not self.allows(account):
                    break
            for violation in outcome.violations:
                if matches(violation, outcome.fired):
                    if self.allows is not None:
                        account.failed(operation, violation.call)
                        if not self.allows(account):
                            continue
                    done = case.operations if index == len(case.operations) - 1 else case.operations[: index + 1]
                    return Hit(Case(case.config, done), violation, level, tuple(met)), idle
        return None, idle

    def first(self, best: Hit, candidates: Iterable[Case]) -> Hit | None:
        """The first candidate that is lighter than the best and fails the target, or None if there is none within the limit."""
        for case in candidates:
            if not lighter(case.config, case.operations, best.case.config, best.case.operations):
                continue
            if self.left <= 0 and case not in self._known:
                continue
            hit = self.run(case)
            if hit is not None and (
                hit.case is case or lighter(hit.case.config, hit.case.operations, best.case.config, best.case.operations)
            ):
                return hit
        return None


__all__ = ["Case", "Hit", "Minimised", "Target", "Trials"]
