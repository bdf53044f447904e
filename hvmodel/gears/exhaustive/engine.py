"""From a state to all that follow it: one world, put back after each operation.

A state is reached by its path, the operations from the start. Going from one path to the next does what differs between them; the
snapshots along the path are kept. Each operation that the rules allow is done without a fault, then, while the scope has faults
left, once for each arrival at a site and each of that site's answers, then with a second fault behind the first, and so on.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from hvmodel.configuration import Configuration
from hvmodel.drivers import DriverEntry
from hvmodel.faults import KERNEL_SITES, KZALLOC, Fault
from hvmodel.gears.exhaustive.canonical import DIGEST, Canonical
from hvmodel.gears.exhaustive.menu import Menu
from hvmodel.gears.exhaustive.reach import Reach
from hvmodel.gears.exhaustive.scope import ANSWERS, OTHER, Answer, Scope
from hvmodel.gears.exhaustive.snapshot import Change, Keeper, Snapshot
from hvmodel.hypervisor.abi import REP_CALLS, REP_COUNT_SHIFT, REP_MASK
from hvmodel.operations import Boot, Operation, Recover
from hvmodel.properties.verdicts import Violation
from hvmodel.world import Outcome, World


class ExploredWorld(World):
    """A world that notes, for each hypercall of an operation, how many elements it named."""

    def __init__(self, config: Configuration, driver: str | DriverEntry) -> None:
        self.lengths: list[int] = []
        super().__init__(config, driver)

    def _door(self, control: int, page: bytearray, output: bytearray) -> int:
        self.lengths.append(control >> REP_COUNT_SHIFT & REP_MASK if control & 0xFFFF in REP_CALLS else 0)
        return super()._door(control, page, output)


@dataclass(slots=True)
class Step:
    """An operation that leads somewhere: the name of the state behind it, and how many faults of the trace are spent there."""

    operation: Operation
    name: bytes
    spent: int


@dataclass(slots=True)
class Failure:
    """An operation in which properties failed."""

    operation: Operation
    violations: list[Violation]


@dataclass(slots=True)
class Expansion:
    """All that follows one state. ``transitions`` counts operations that applied, also those that led back or failed."""

    steps: list[Step] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)
    transitions: int = 0
    tried: int = 0


@dataclass(frozen=True, slots=True)
class Manner:
    """How a search is done: whether states that differ in names only are one; whether it goes on behind an operation in which a
    property failed, with that property set aside for what it failed of, as the walk does; whether what is exercised is counted."""

    symmetry: bool = True
    past: bool = False
    reach: bool = False


PLAIN = Manner()
"""The usual manner."""


class Engine:
    """Explores the worlds of one part of a scope under one profile."""

    def __init__(self, driver: str | DriverEntry, scope: Scope, profile: str, manner: Manner = PLAIN) -> None:
        self.scope = scope
        self.past = manner.past
        self.world = ExploredWorld(scope.configuration(profile), driver)
        self._order: list[str] = []
        self.world.faults.order = self._order
        self.canonical = Canonical(self.world, manner.symmetry, "user" in scope.subjects)
        self.keeper = Keeper(self.world)
        self.menu = Menu(self.world, scope)
        self.reach = Reach(self.world) if manner.reach else None
        self._path: list[Operation] = []
        self._stack: list[tuple[Snapshot, list[Change], Any]] = []
        """For each operation of the path: the snapshot before it, what it changed, and what was remembered of the state's name."""
        self.canonical.take()
        self._faulted: dict[tuple[int, Fault], Operation] = {}
        self._recover = Recover()
        self._boot = Boot()

    # --- going there --------------------------------------------------------------------------------------------------------

    def go_to(self, path: Sequence[Operation]) -> None:
        """Bring the world to the state at the end of a path."""
        same = 0
        mine = self._path
        while same < len(mine) and same < len(path) and mine[same] == path[same]:
            same += 1
        while len(mine) > same:
            mine.pop()
            snapshot, changes, remembered = self._stack.pop()
            self.keeper.retreat(snapshot, changes)
            self.canonical.retreat(remembered)
        for operation in path[same:]:
            self._apply(operation)
            changes = self.keeper.changes()
            self._stack.append((self.keeper.advance(changes), changes, self.canonical.advance(changes)))
            mine.append(operation)

    def take_reach(self) -> dict[str, dict[str, int]]:
        """What was exercised since the last time: kind of thing, name, how often; nothing if that is not counted."""
        return self.reach.take() if self.reach is not None else {}

    def _apply(self, operation: Operation) -> Outcome:
        self._order.clear()
        self.world.lengths.clear()
        return self.world.apply(operation)

    # --- what follows -------------------------------------------------------------------------------------------------------

    def expand(self, path: Sequence[Operation], spent: int, last: bool = False) -> Expansion:
        """Try everything in the state at the end of a path, in which so many faults of the scope are spent; with ``last`` only
        recovery."""
        self.go_to(path)
        found = Expansion()
        operations: list[Operation] = [self._boot] if not path else [] if last else self.menu.offers()
        if path:
            operations = [*operations, self._recover]
        for operation in operations:
            self._try(operation, operation, spent, 0, found)
        return found

    def _try(self, base: Operation, operation: Operation, spent: int, after: int, found: Expansion) -> None:
        """Do an operation and undo it; then with one more fault at each arrival behind the first ``after`` ones."""
        found.tried += 1
        world = self.world
        allocations = world.faults.reached.get(KZALLOC, 0)
        if self.reach is None:
            outcome = self._apply(operation)
        else:
            with self.reach.listening():
                outcome = self._apply(operation)
            self.reach.note(self.menu.made.get(base, ()), outcome)
        changes = self.keeper.changes()
        fired = not operation.faults or operation.faults[-1] in outcome.fired
        if outcome.applied and fired:
            found.transitions += 1
            if outcome.violations:
                found.failures.append(Failure(operation, list(outcome.violations)))
            if not world.over and (self.past or not outcome.violations):
                found.steps.append(Step(operation, self._name(changes, spent), spent))
        silent = world.faults.reached.get(KZALLOC, 0) - allocations - self._order.count(KZALLOC)
        if silent > 0:  # a native driver's allocations are counted, not heard one by one: they are put behind what was
            self._order += [KZALLOC] * silent
        order = list(self._order) if spent < self.scope.faults and outcome.applied and fired else []
        lengths = list(world.lengths)
        self.keeper.back(changes)
        if order and operation is not self._recover:
            for fault in self._faults(order, lengths, after):
                self._try(base, self._with(operation, fault[1]), spent + 1, fault[0], found)

    def _name(self, changes: list[Change], spent: int) -> bytes:
        return self.canonical.after(changes)[: DIGEST - 1] + bytes([spent])

    def _with(self, operation: Operation, fault: Fault) -> Operation:
        key = (id(operation), fault)
        found = self._faulted.get(key)
        if found is None:
            found = self._faulted[key] = replace(operation, faults=(*operation.faults, fault))
        return found

    def _faults(self, order: list[str], lengths: list[int], after: int) -> Iterator[tuple[int, Fault]]:
        """Each fault that the arrivals allow behind the first ``after`` ones, with the number of its arrival."""
        arrivals: dict[str, int] = {}
        calls = iter(lengths)
        for number, site in enumerate(order, 1):
            nth = arrivals[site] = arrivals.get(site, 0) + 1
            length = 0 if site in KERNEL_SITES else next(calls, 0)
            if number <= after:
                continue
            seen: set[Fault] = set()
            for answer in ANSWERS.get(site, OTHER):
                if answer.times is None and nth > 1:
                    continue  # what lasts begins at the first arrival
                fault = _fault(site, nth, answer, length)
                if fault is not None and fault not in seen:
                    seen.add(fault)
                    yield number, fault


def _fault(site: str, nth: int, answer: Answer, length: int) -> Fault | None:
    if isinstance(answer.done, str):
        done = length - 1
        if done < 2:
            return None
    else:
        done = answer.done
        if done and done >= length:
            return None
    return Fault(site, nth, answer.status, done, answer.times)


__all__ = ["Engine", "Expansion", "ExploredWorld", "Failure", "Step"]
