"""Breadth first: level by level, each state once, whoever computes what follows it.

A state is a number. Kept of it are its name (16 bytes), the state before it and the operation that led to it: that is how it is
found again, and it makes a trace. What workers answer is taken in the order of the states that they were asked about, so the
search is the same with any number of them.
"""

from __future__ import annotations

import sys
import time
from array import array
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from hvmodel.gears.exhaustive.canonical import DIGEST
from hvmodel.gears.exhaustive.crew import Answer, Chunk, Crew
from hvmodel.gears.exhaustive.reach import add_counts
from hvmodel.gears.exhaustive.scope import Scope
from hvmodel.operations import Operation
from hvmodel.properties.verdicts import Violation

CHUNK = 48
"""States that a worker is asked about at once, at most."""

HOLDS, FAILS, UNDETERMINED = "holds", "fails", "undetermined"


@dataclass(slots=True)
class Found:
    """A property that failed, and a shortest trace to it within the scope."""

    operations: list[Operation]
    violation: Violation


@dataclass(slots=True)
class Level:
    """What came of the states at one distance from the start."""

    depth: int
    states: int
    transitions: int = 0


Progress = Callable[["Search", int, int], None]
"""Told how many of how many states of the present level are done."""


class Search:
    """One part of a scope under one profile, on one driver. State 0 is the start, before boot."""

    def __init__(self, driver: str, scope: Scope, profile: str, symmetry: bool = True) -> None:
        self.driver, self.scope, self.profile, self.symmetry = driver, scope, profile, symmetry
        self.names = bytearray(DIGEST)
        self.parents = array("I", [0])
        self.codes = array("I", [0])
        self.spent = array("B", [0])
        self.operations: list[Operation] = []
        """Every operation that led to a new state, by its code."""
        self._codes: dict[Operation, int] = {}
        self._seen: set[bytes] = set()
        self.levels: list[Level] = [Level(0, 1)]
        self.done = 0
        """States whose successors are known."""
        self.transitions = 0
        self.tried = 0
        self.found: dict[tuple[str, str], Found] = {}
        """The first failure of each property in each driver call."""
        self.reach: dict[str, dict[str, int]] = {}
        """What was exercised, for ``--never``: kind of thing, name, how often."""
        self.seconds = 0.0
        self.cpu = 0.0

    # --- what is known ------------------------------------------------------------------------------------------------------

    @property
    def states(self) -> int:
        """Different states, the start included."""
        return len(self.parents)

    @property
    def depth(self) -> int:
        """Operations to the farthest state."""
        return self.levels[-1].depth

    @property
    def complete(self) -> bool:
        """Whether everything within the scope was tried."""
        return self.done == self.states

    @property
    def verdict(self) -> str:
        """holds, fails, or undetermined."""
        return FAILS if self.found else HOLDS if self.complete else UNDETERMINED

    def path(self, state: int) -> list[int]:
        """The codes of the operations that lead to a state."""
        codes = []
        while state:
            codes.append(self.codes[state])
            state = self.parents[state]
        return codes[::-1]

    def bytes_per_state(self) -> float:
        """Bytes that are kept of a state: its name in the table and the arrays."""
        table = sys.getsizeof(self._seen) + len(self._seen) * sys.getsizeof(bytes(DIGEST))
        return (table + len(self.names) + (4 + 4 + 1) * self.states) / self.states

    # --- the search ---------------------------------------------------------------------------------------------------------

    def run(
        self,
        crew: Crew,
        deadline: float | None = None,
        progress: Progress | None = None,
        everything: bool = False,
        stopped: Callable[[], bool] = lambda: False,
    ) -> None:
        """Go on until the scope is done, the deadline (``time.perf_counter``) has passed or ``stopped`` says so. Unless
        ``everything`` is wanted it ends with the level in which the first property fails. May raise what the crew raises."""
        started, before = time.perf_counter(), crew.cpu
        try:
            while not self.complete:
                level = self.levels[-1]
                if self.found and not everything and self.done == self.states - level.states:
                    return
                if not self.next_level(crew, deadline, progress, stopped):
                    return
        finally:
            self.seconds += time.perf_counter() - started
            self.cpu += crew.cpu - before

    def next_level(
        self,
        crew: Crew,
        deadline: float | None = None,
        progress: Progress | None = None,
        stopped: Callable[[], bool] = lambda: False,
    ) -> bool:
        """What follows the states of the last level, which then is the last but one; False if it was broken off."""
        level = self.levels[-1]
        first, end = self._bounds()
        last = level.depth >= self.scope.depth
        told = time.perf_counter()
        for chunk, answer in crew.ask(self._chunks(self.done, end, last), self.operations):
            self._take(chunk, answer, level)
            self.done = chunk.first + len(chunk.paths)
            now = time.perf_counter()
            if progress is not None and now - told > 0.2:
                told = now
                progress(self, self.done - first, end - first)
            if self.done < end and ((deadline is not None and now >= deadline) or stopped()):
                crew.drop()
                return False
        if self.states > end:
            self.levels.append(Level(level.depth + 1, self.states - end))
        return True

    def _bounds(self) -> tuple[int, int]:
        end = sum(level.states for level in self.levels)
        return end - self.levels[-1].states, end

    def _chunks(self, first: int, end: int, last: bool) -> Iterator[Chunk]:
        size = max(1, min(CHUNK, (end - first) // 8))
        for start in range(first, end, size):
            states = range(start, min(start + size, end))
            yield Chunk(start, [self.path(state) for state in states], [self.spent[state] for state in states], last)

    def _take(self, chunk: Chunk, answer: Answer, level: Level) -> None:
        self.transitions += answer.transitions
        self.tried += answer.tried
        level.transitions += answer.transitions
        for offset, steps in enumerate(answer.steps):
            state = chunk.first + offset
            for operation, name, spent in steps:
                if name not in self._seen:
                    self._seen.add(name)
                    self.names += name
                    self.parents.append(state)
                    self.codes.append(self._code(operation))
                    self.spent.append(spent)
        for offset, operation, violations in answer.failures:
            for violation in violations:
                key = (violation.property, violation.call)
                if key not in self.found:
                    path = [self.operations[code] for code in self.path(chunk.first + offset)]
                    self.found[key] = Found([*path, operation], violation)
        add_counts(self.reach, answer.reach)

    def _code(self, operation: Operation | int) -> int:
        if isinstance(operation, int):
            return operation
        code = self._codes.get(operation)
        if code is None:
            code = self._codes[operation] = len(self.operations)
            self.operations.append(operation)
        return code

    # --- taking it up again -------------------------------------------------------------------------------------------------

    def remember(self) -> None:
        """Rebuild what is not stored: the table of names, the codes."""
        names = self.names
        self._seen = {bytes(names[at : at + DIGEST]) for at in range(DIGEST, len(names), DIGEST)}
        self._codes = {operation: code for code, operation in enumerate(self.operations)}


__all__ = ["FAILS", "HOLDS", "UNDETERMINED", "Found", "Level", "Search"]
