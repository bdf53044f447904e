"""A driver that ends its process: which operations did it, found out in children that may end.

The runtime of a native driver stops what is wrong before it harms the process, so this is rare: a call of the C library that writes
where it must not, memory of the interpreter that was overwritten. The run is done again in a child that says what it is about to
do; then operations are taken away as long as the child still ends.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from dataclasses import dataclass
from typing import Any

from hvmodel.configuration import Configuration
from hvmodel.gears.minimise import Minimised
from hvmodel.gears.walk import walk
from hvmodel.jobs.findings import UNOBSERVED, Finding
from hvmodel.operations import Operation
from hvmodel.properties.verdicts import Violation
from hvmodel.world import World

PATIENCE = 10.0
"""Seconds after which a child counts as one that does not end."""

EFFORT = 10.0
"""Seconds for taking operations away."""


@dataclass(frozen=True, slots=True)
class Place:
    """A run of a walk, as :func:`hvmodel.gears.walk.walk` takes it, with its number in the schedule."""

    seed: str
    profile: str
    level: int
    steps: int

    @property
    def number(self) -> int:
        """Its number in the schedule of its job."""
        return int(self.seed.rsplit("/", 1)[-1])

    def __str__(self) -> str:
        return f"{self.seed} {self.profile} {self.level} {self.steps}"

    @staticmethod
    def read(text: str) -> Place | None:
        """What :meth:`__str__` wrote; None for nothing."""
        parts = text.split()
        return Place(parts[0], parts[1], int(parts[2]), int(parts[3])) if len(parts) == 4 else None


def _said(code: int | None) -> str:
    if code is None:
        return "does not end"
    if code < 0:
        return f"ends with {signal.Signals(-code).name}"
    return f"ends with status {code}"


def _child(target: Any, *arguments: Any) -> Any:
    context = multiprocessing.get_context("fork")
    process = context.Process(target=target, args=arguments, daemon=True)
    process.start()
    return process


def _end(process: Any, patience: float) -> int | None:
    """How a child ended; None if it had to be ended."""
    process.join(patience)
    if process.exitcode is None:
        process.kill()
        process.join()
        return None
    code: int = process.exitcode
    return code


def _play(config: Configuration, operations: list[Operation], driver: str) -> None:
    world = World(config, driver)
    for operation in operations:
        world.apply(operation)
    os._exit(0)


def how_it_ends(config: Configuration, operations: list[Operation], driver: str) -> str | None:
    """Do operations in a child: None if it goes well, else how the child ended, in words."""
    code = _end(_child(_play, config, operations, driver), PATIENCE)
    return None if code == 0 else _said(code)


def _retell(place: Place, driver: str, pipe: Any) -> None:
    """Do a run again and say each operation before it is done, the configuration first."""
    apply = World.apply
    told: list[World] = []

    def telling(world: World, operation: Operation) -> Any:
        if not told:
            told.append(world)
            pipe.send(world.config)
        if world is told[0]:
            pipe.send(operation)
        return apply(world, operation)

    World.apply = telling  # type: ignore[method-assign, assignment]
    walk(place.seed, driver, place.profile, place.level, place.steps)
    os._exit(0)


def reproduce(driver: str, place: Place, known: set[tuple[str, str]]) -> Finding | None:
    """The finding that a driver ends its process in a run; None if the run goes well when it is done again, or if the kind of its
    last operation and how the process ended are ``known``, to which they are added."""
    mine, theirs = multiprocessing.get_context("fork").Pipe(duplex=False)
    process = _child(_retell, place, driver, theirs)
    theirs.close()
    told: list[Any] = []
    try:
        while mine.poll(PATIENCE):
            told.append(mine.recv())
    except EOFError:
        pass
    code = _end(process, 0.5)
    if code == 0 or len(told) < 2:
        return None
    return _finding(driver, told[0], told[1:], _said(code), known, place.level, place.seed)


def ending(
    driver: str, config: Configuration, operations: list[Operation], known: set[tuple[str, str]], level: int, seed: str
) -> Finding | None:
    """The finding that a driver ends its process in these operations; None if it does not, or if it is ``known``, as above."""
    for end in range(1, len(operations) + 1):
        how = how_it_ends(config, operations[:end], driver)
        if how is not None:
            return _finding(driver, config, operations[:end], how, known, level, seed)
    return None


def _finding(
    driver: str, config: Configuration, operations: list[Operation], how: str, known: set[tuple[str, str]], level: int, seed: str
) -> Finding | None:
    if (operations[-1].kind, how) in known:
        return None
    known.add((operations[-1].kind, how))
    operations, how = _shorter(config, operations, driver, how)
    kind = operations[-1].kind
    detail = f"the process that runs the driver {how} in a {kind}"
    violation = Violation("every-call-ends", "process", detail, kind, ("process", how))
    return Finding(Minimised(config, operations, violation, level), driver, UNOBSERVED, seed)


def _shorter(config: Configuration, operations: list[Operation], driver: str, how: str) -> tuple[list[Operation], str]:
    """Take operations away, in large pieces first, as long as the child still ends; how the last one did."""
    until = time.monotonic() + EFFORT
    size = max((len(operations) - 1) // 2, 1)
    while size and time.monotonic() < until:
        at = 0
        while at < len(operations) - 1 and time.monotonic() < until:
            fewer = operations[:at] + operations[min(at + size, len(operations) - 1) :]
            ended = how_it_ends(config, fewer, driver)
            if ended is not None:
                operations, how = fewer, ended
            else:
                at += size
        size //= 2
    return operations, how
