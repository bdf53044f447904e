"""One trial: one gear searches one driver until the first violation of any property, or until its limit."""

from __future__ import annotations

import gc
import hashlib
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from heapq import heapify, heappop, heappush
from itertools import chain, islice
from random import Random
from typing import Any

from hypothesis import HealthCheck, Phase, Verbosity, settings
from hypothesis import seed as seeded
from hypothesis.stateful import run_state_machine_as_test

from hvmodel.callers.levels import BEYOND, LEVELS
from hvmodel.configuration import Configuration
from hvmodel.gears.exhaustive.crew import Crew
from hvmodel.gears.exhaustive.scopes import SMALL
from hvmodel.gears.exhaustive.search import Search
from hvmodel.gears.minimise import Target, minimise
from hvmodel.gears.sweep import Sweep
from hvmodel.gears.sweep.play import Subject
from hvmodel.gears.sweep.subjects import shipped
from hvmodel.gears.uniform import uniform
from hvmodel.gears.walk import Run, runs, walk
from hvmodel.hypervisor.policies import PROFILES
from hvmodel.jobs.hunt import STEPS
from hvmodel.operations import Operation
from hvmodel.properties.verdicts import Violation
from hvmodel.rules.worlds import PROFILE_NAMES
from hvmodel.world import Outcome, run
from machines import MACHINES, Machine

GEARS = ("walk", "hypothesis", "uniform", "sweep", "exhaustive")

EXAMPLES = 200
"""Examples in one run of the Hypothesis engine, which keeps them all in memory: 200 take 60 MB, 5,000 take 1.6 GB."""


@dataclass(frozen=True, slots=True)
class Limit:
    """Where a trial that found nothing ends: at so many operations, or after so many seconds of processor time. None: no limit."""

    operations: int | None = None
    seconds: float | None = None


@dataclass(frozen=True, slots=True)
class Task:
    """One trial to do. ``number`` counts from 0; ``seed`` decides all that the limit does not; ``level`` is how far callers go, an
    index into ``callers.levels.LEVELS``."""

    driver: str
    gear: str
    number: int
    seed: int
    level: int = BEYOND


@dataclass(frozen=True, slots=True)
class Trial:
    """What came of it: applied operations and seconds of processor time up to the finding or to the end; the properties that failed
    at the first violation, the first one first; and the operations of the minimal trace that fails it."""

    driver: str
    gear: str
    number: int
    seed: int
    found: bool
    operations: int
    seconds: float
    properties: tuple[str, ...] = ()
    minimised: int | None = None
    level: str = LEVELS[BEYOND]


MINIMISED = 2
"""In how many trials of a driver and gear the trace is minimised: that takes longer than most searches."""


def seed_of(seed: int, driver: str, gear: str, number: int) -> int:
    """The seed of a trial: 48 bits, the same in every process and on every machine."""
    return int.from_bytes(hashlib.sha256(f"{seed}/{driver}/{gear}/{number}".encode()).digest()[:6])


def run_trial(task: Task, limit: Limit, minimised: int = MINIMISED) -> Trial:
    """Do one trial; minimise what it found if it is one of the first ``minimised``. With a limit of operations a walk or uniform
    trial does the same on every machine."""
    search = _Search(task, limit)
    _SEARCHES[task.gear](search)
    found, hit = search.found, search.hit
    names: tuple[str, ...] = ()
    length = None
    if found and hit is not None:
        names = tuple(dict.fromkeys(violation.property for violation in hit.violations))
        length = _minimised(task, hit) if task.number < minimised else None
    operations, seconds = search.operations, round(search.seconds, 4)
    if not found:
        # The last run, or its recovery, may go a little beyond.
        operations = min(operations, limit.operations or operations)
        seconds = min(seconds, limit.seconds or seconds)
    level = LEVELS[task.level]
    return Trial(task.driver, task.gear, task.number, task.seed, found, operations, seconds, names, length, level)


@dataclass(slots=True)
class _Hit:
    """The first violation: where it started, all operations of its world, and what failed at the last one."""

    config: Configuration
    operations: list[Operation]
    violations: list[Violation]


def _minimised(task: Task, hit: _Hit) -> int:
    first = hit.violations[0]
    small = minimise(hit.config, hit.operations, task.driver, Target(first.property, first.call, first.shape))
    if small is None:
        raise AssertionError(f"a trial does not repeat: {task}, {first.property}")
    return len(small.operations)


class _Search:
    """A trial under way: what was done so far, and the first violation."""

    def __init__(self, task: Task, limit: Limit) -> None:
        self.task, self.limit = task, limit
        self.operations = 0
        """Operations applied, over all worlds."""
        self.hit: _Hit | None = None
        self._before = 0
        self._seconds: float | None = None
        self._started = time.process_time()

    def start(self) -> None:
        """The search begins now; what was prepared until here does not count."""
        self._started = time.process_time()

    @property
    def seconds(self) -> float:
        """Processor time until the violation, or until now."""
        return time.process_time() - self._started if self._seconds is None else self._seconds

    @property
    def left(self) -> int:
        """Operations that may still be done."""
        return STEPS if self.limit.operations is None else self.limit.operations - self.operations

    @property
    def found(self) -> bool:
        """Whether there is a violation within the limit."""
        return self.hit is not None and self.left >= 0 and (self.limit.seconds is None or self.seconds <= self.limit.seconds)

    @property
    def over(self) -> bool:
        """Whether the trial has come to its end."""
        return self.hit is not None or self.left <= 0 or (self.limit.seconds is not None and self.seconds >= self.limit.seconds)

    def catch(self, config: Configuration, operations: list[Operation], outcome: Outcome) -> None:
        """Remember the first violation and when it was."""
        if self.hit is None:
            self._seconds = self.seconds
            self.hit = _Hit(config, list(operations), list(outcome.violations))

    def heard(self, run: Run, outcome: Outcome) -> bool:
        """Told of a violation by a run of a seeded gear; the run shall stop."""
        if self.hit is None:
            self.operations = self._before + len(run.operations)
            self.catch(run.config, run.operations, outcome)
        return True

    def ran(self, run: Run) -> None:
        """Count a run of a seeded gear that has ended."""
        if self.hit is None:
            self.operations = self._before = self._before + len(run.operations)


def _levels(highest: int) -> list[int]:
    return list(range(highest + 1))


def _seeded(gear: Callable[..., Run], search: _Search) -> None:
    """A gear that a seed drives, with the schedule of the hunt."""
    task = search.task
    for seed, profile, level, steps in runs(task.seed, 0, list(PROFILE_NAMES), _levels(task.level), STEPS):
        search.ran(gear(seed, task.driver, profile, level, min(steps, search.left), search.heard))
        if search.over:
            return


class _Over(KeyboardInterrupt):
    """Ends a Hypothesis run from within: an interrupt is the only thing that the engine neither keeps nor repeats."""


@cache
def _starts(highest: int = BEYOND) -> tuple[tuple[str, int], ...]:
    """Profiles and levels as often as the hunt schedules them: one round of its schedule."""
    levels = _levels(highest)
    count = 2 * len(PROFILE_NAMES) * len(levels)
    return tuple((profile, level) for _, profile, level, _ in islice(runs(0, 0, list(PROFILE_NAMES), levels, STEPS), count))


_QUIET: dict[str, Any] = {
    "max_examples": EXAMPLES,
    "stateful_step_count": 80,
    "derandomize": False,
    "database": None,
    "deadline": None,
    "phases": (Phase.generate,),
    "verbosity": Verbosity.quiet,
    "suppress_health_check": list(HealthCheck),
    "print_blob": False,
}


def _machine(search: _Search) -> type[Machine]:
    """The machine of everything, which counts and stops instead of reporting."""

    def heard(self: Machine, outcome: Outcome) -> None:
        if not search.over:
            search.operations += 1
            if outcome.violations and self.config is not None:
                search.catch(self.config, self.operations, outcome)
        if search.over:
            raise _Over

    body = {"heard": heard, "driver": search.task.driver, "starts": _starts(search.task.level), "__module__": __name__}
    return type("CountingMachine", (MACHINES["everything"],), body)


def _with_hypothesis(search: _Search) -> None:
    _warm_up()
    machine, number = _machine(search), search.task.seed
    search.start()
    while not search.over:
        try:
            run_state_machine_as_test(seeded(number)(machine), settings=settings(**_QUIET))
        except _Over:
            return
        finally:
            gc.collect()  # what the engine leaves are cycles, 20 MB a second of them
        number += 1


@cache
def _warm_up() -> None:
    """What Hypothesis does once in a process: it reads the constants in all sources, imports parts of itself."""
    search = _Search(Task("posted-v0", "hypothesis", 0, 0), Limit(operations=20))
    try:
        run_state_machine_as_test(seeded(0)(_machine(search)), settings=settings(**_QUIET))
    except _Over:
        return


@cache
def _subjects(highest: int) -> tuple[Subject, ...]:
    """The scenarios that no caller beyond a level has a part in."""
    if highest == BEYOND:
        return tuple(shipped())
    return tuple(each for each in shipped() if _highest(each.config, list(each.operations), "repaired") <= highest)


def _highest(config: Configuration, operations: list[Operation], driver: str) -> int:
    """The level that operations need on a driver."""
    return max(outcome.level for outcome in run(config, operations, driver)[1])


def _with_sweep(search: _Search) -> None:
    """All scenarios clean, then one after the other with what is refused in them, in an order that the seed decides; it ends when
    all was tried."""
    task, random = search.task, Random(search.task.seed)
    subjects = list(_subjects(task.level))
    random.shuffle(subjects)
    search.start()

    def heard(run: Run, outcome: Outcome) -> bool:
        # After a refusal the same request can be one that no such caller makes: a map where an unmap failed.
        beyond = task.level < BEYOND and _highest(run.config, run.operations, task.driver) > task.level
        return not beyond and search.heard(run, outcome)

    runs = [Sweep(subject, task.driver, heard, random=random).runs() for subject in subjects]
    for played in chain((next(each) for each in runs), *runs):
        search.ran(played.run)
        if search.over:
            return


_OTHERS = 4
"""A profile that is not the default one waits until its frontier is so many times smaller: the walk gives the default half, too."""


def _exhaustive(search: _Search) -> None:
    """The small scope under each profile, all parts side by side: next is the one with the fewest states in front. The seed orders
    those that have equally many."""
    generator, driver = Random(search.task.seed), search.task.driver
    ahead: list[tuple[int, float, Search, Crew | None]] = []
    for profile in PROFILES:
        weight = 1 if profile == "default" else _OTHERS
        parts = [replace(part, level=min(part.level, search.task.level)) for part in SMALL if part.possible(profile)]
        ahead += [(weight, generator.random(), Search(driver, part, profile), None) for part in parts]
    heapify(ahead)
    while ahead and not search.over:
        _states, order, one, crew = heappop(ahead)
        crew = crew or Crew(1, driver, one.scope, one.profile)
        if _one_level(search, one, crew) and not one.complete:
            weight = 1 if one.profile == "default" else _OTHERS
            heappush(ahead, (weight * (one.states - one.done), order, one, crew))


def _one_level(search: _Search, one: Search, crew: Crew) -> bool:
    """Look behind the states at the next depth; False if that was broken off."""
    before = search.operations - one.transitions

    def over() -> bool:
        search.operations = before + one.transitions
        return search.over or bool(one.found)

    done = one.next_level(crew, stopped=over)
    over()
    if one.found and search.hit is None:
        first = min(one.found.values(), key=lambda found: len(found.operations))
        config = one.scope.configuration(one.profile)
        search.catch(config, first.operations, run(config, first.operations, one.driver)[1][-1])
    return done


_SEARCHES: dict[str, Callable[[_Search], None]] = {
    "walk": lambda search: _seeded(walk, search),
    "hypothesis": _with_hypothesis,
    "exhaustive": _exhaustive,
    "uniform": lambda search: _seeded(uniform, search),
    "sweep": _with_sweep,
}
