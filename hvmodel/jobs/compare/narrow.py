"""The shortest trace of a difference: the minimiser of findings, with a run of both drivers as its trial."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from hvmodel import operations as ops
from hvmodel.configuration import Configuration
from hvmodel.faults import Fault
from hvmodel.gears.minimise import settle, start
from hvmodel.gears.minimise.trial import Case, Hit, Target, Trials
from hvmodel.jobs.compare.parting import Kind, in_step
from hvmodel.properties.verdicts import Violation
from hvmodel.world import World

LIMIT = 300
"""Pairs of worlds that may be run for one difference."""


@dataclass(frozen=True, slots=True)
class Witness:
    """A trace at the end of which two drivers differ; ``level`` is an index into ``callers.levels.LEVELS``."""

    config: Configuration
    operations: tuple[ops.Operation, ...]
    level: int

    @property
    def size(self) -> tuple[int, int]:
        """Sorts witnesses, the best to start from first."""
        return self.level, len(self.operations)


class PairTrials(Trials):
    """Trials of which each is a run of both drivers; what is kept is the difference, in the last operation."""

    def __init__(self, a: str, b: str, kind: Kind, limit: int) -> None:
        super().__init__(a, Target(kind.aspect), limit)
        self._other, self._kind = b, kind

    def _applied(self, case: Case, world: World) -> tuple[Hit | None, set[int]]:
        level, idle, met = 0, set[int](), list[Sequence[Fault]]()
        for index, both in enumerate(in_step(world, World(case.config, self._other), case.operations)):
            met.append(both.a.outcome.fired or both.b.outcome.fired)
            if not both.applied:
                idle.add(index)
                continue
            level = max(level, both.level)
            if level > self.most:
                break
            if self._kind in both.kinds:
                done = case.operations if index == len(case.operations) - 1 else case.operations[: index + 1]
                said = Violation(self._kind.aspect, "", self._kind.text, self._kind.place, ())
                return Hit(Case(case.config, done), said, level, tuple(met)), idle
        return None, idle


def narrow(witness: Witness, a: str, b: str, kind: Kind, limit: int = LIMIT) -> Witness:
    """The smallest trace found within the limit at whose end the drivers differ in this way; the witness itself if it does not show
    the difference again."""
    trials = PairTrials(a, b, kind, limit)
    hit = start(trials, witness.config, witness.operations)
    if hit is None:
        return witness
    best = settle(trials, hit)
    return Witness(best.case.config, best.case.operations, best.level)


def differences(a: str, b: str, config: Configuration, operations: Sequence[ops.Operation]) -> dict[Kind, Witness]:
    """Every kind of difference that a run shows, each with the run up to where it shows first. Raises KeyError for an unknown
    driver."""
    found: dict[Kind, Witness] = {}
    level = 0
    for number, both in enumerate(in_step(World(config, a), World(config, b), operations), 1):
        level = max(level, both.level)
        for kind in both.kinds:
            if kind not in found:
                found[kind] = Witness(config, tuple(operations[:number]), level)
    return found


__all__ = ["LIMIT", "PairTrials", "Witness", "differences", "narrow"]
