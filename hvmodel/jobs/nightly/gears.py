"""The gears of a night, as a list: for one more, write what does a portion of it and add a line to :data:`GEARS`."""

from __future__ import annotations

import gc
import hashlib
import time
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from itertools import islice
from random import Random
from typing import Any

from hypothesis import HealthCheck, Phase, Verbosity, settings
from hypothesis import seed as seeded
from hypothesis.stateful import run_state_machine_as_test

from hvmodel.callers.levels import LEVELS
from hvmodel.configuration import Configuration
from hvmodel.gears.sweep import Sweep
from hvmodel.gears.sweep.subjects import shipped
from hvmodel.gears.walk import Run, runs, walk
from hvmodel.jobs.hunt import HITS_PER_KIND, STEPS, Hit
from hvmodel.jobs.nightly import species
from hvmodel.jobs.nightly.plan import Plan
from hvmodel.jobs.nightly.portions import Done, Portion
from hvmodel.jobs.nightly.signature import kind_of
from hvmodel.jobs.trials import seed_of
from hvmodel.operations import Operation
from hvmodel.rules.worlds import PROFILE_NAMES
from hvmodel.world import Outcome, World
from machines import MACHINES, Machine

SAMPLED_ONE_IN = 8
"""In one of so many runs of the walk the abstract states are counted, which takes as long again as the run."""

SAMPLED_MOST = 6
"""So many runs of a portion at most, so that its record stays small."""

EXAMPLES_PER_RUN = 0.2
"""Hypothesis examples in a portion for each run that a portion of the walk has: an example costs about five runs."""

_PROFILES = list(PROFILE_NAMES)
_LEVELS = list(range(len(LEVELS)))


class Catch:
    """What the runs of one portion meet: the first hits of each kind, and in how many runs each kind was met.

    What it answers depends on the portion alone, so that a portion does the same operations whoever does it.
    """

    def __init__(self) -> None:
        self.hits: dict[str, list[Hit]] = {}
        self.kinds: dict[str, int] = {}
        self._run: set[str] = set()

    def hear(
        self, config: Configuration, operations: list[Operation], outcome: Outcome, refused: bool, seed: str, gear: str = "walk"
    ) -> bool:
        """Told of an operation that violated properties; answers whether one of them is of a kind that the portion had not met."""
        sites = frozenset(fault.site for fault in outcome.fired)
        done: list[Operation] | None = None
        fresh = False
        for violation in outcome.violations:
            hit = Hit(config, operations, violation, sites, outcome.level, refused, seed, gear)
            kind = kind_of(hit)
            self._run.add(kind)
            kept = self.hits.setdefault(kind, [])
            fresh = fresh or not kept
            if len(kept) < HITS_PER_KIND:
                done = done or list(operations)
                hit.operations = done
                kept.append(hit)
        return fresh

    def ended(self) -> None:
        """A run has ended."""
        species.count(self.kinds, self._run)
        self._run = set()


def walk_portion(plan: Plan, number: int, driver: str, catch: Catch, digest: bool) -> Done:
    """``plan.portion`` runs of the walk. Half of the runs end at the first hit of a kind that the portion had not met."""
    done = Done(Portion("walk", number).id)
    heard_all = hashlib.sha256() if digest else None
    first = number * plan.portion
    for seed, profile, level, steps in islice(runs(plan.seed, 0, _PROFILES, _LEVELS, STEPS, first), plan.portion):
        coin = zlib.crc32(seed.encode())

        def heard(run: Run, outcome: Outcome, seed: str = seed, stops: bool = bool(coin & 1)) -> bool:
            return catch.hear(run.config, run.operations, outcome, run.refused, seed) and stops

        run = walk(seed, driver, profile, level, steps, heard)
        catch.ended()
        done.tally.add(run)
        sampled = done.sampled < SAMPLED_MOST and (coin >> 1) % SAMPLED_ONE_IN == 0
        if sampled or heard_all is not None:
            states: set[str] = set()
            for operation, outcome, world in again(run, driver):
                if sampled:
                    states.add(species.name_of(species.abstract(world)))
                if heard_all is not None:
                    heard_all.update(repr((operation, outcome)).encode())
            if sampled:
                done.sampled += 1
                species.count(done.states, states)
        if heard_all is not None:
            heard_all.update(repr(_sums(run)).encode())
    done.digest = heard_all.hexdigest() if heard_all is not None else ""
    done.operations, done.runs = done.tally.operations, done.tally.runs
    return done


def again(run: Run, driver: str) -> Iterator[tuple[Operation, Outcome, World]]:
    """Do the operations of a run in a new world: each operation, its outcome, and the world after it."""
    world = World(run.config, driver)
    for operation in run.operations:
        yield operation, world.apply(operation), world


def _sums(run: Run) -> tuple[object, ...]:
    """What the run's own world counted, in an order that no hash decides."""
    world = run.world
    applied = sorted((kind, count) for kind, (_tried, count) in world.applied.items())
    return (run.config, applied, sorted(world.judge.judged.items()), sorted(world.faults.reached.items()), run.environment)


@cache
def _starts() -> tuple[tuple[str, int], ...]:
    """Profiles and levels as often as the walk schedules them."""
    count = 2 * len(_PROFILES) * len(_LEVELS)
    return tuple((profile, level) for _, profile, level, _ in islice(runs(0, 0, _PROFILES, _LEVELS, STEPS), count))


def hypothesis_portion(plan: Plan, number: int, driver: str, catch: Catch, digest: bool) -> Done:
    """Some examples of the Hypothesis machine of everything. It generates only: what it meets goes through our own minimiser."""
    done = Done(Portion("hypothesis", number).id)
    seed = seed_of(plan.seed, driver, "hypothesis", number)

    def heard(self: Machine, outcome: Outcome) -> None:
        if outcome.violations and self.config is not None:
            refused = any("TACH_DEVICE" in fault.site for operation in self.operations[:-1] for fault in operation.faults)
            catch.hear(self.config, self.operations, outcome, refused, str(seed))

    def teardown(self: Machine) -> None:
        Machine.teardown(self)
        catch.ended()
        if self.world is not None and self.config is not None and self.scene is not None:
            done.tally.add(Run(self.config, self.world, self.scene.level, self.operations))

    body = {"heard": heard, "teardown": teardown, "driver": driver, "starts": _starts(), "__module__": __name__}
    machine = type("NightMachine", (MACHINES["everything"],), body)
    quiet: dict[str, Any] = {
        "max_examples": max(2, round(plan.portion * EXAMPLES_PER_RUN)),
        "stateful_step_count": 80,
        "derandomize": False,
        "database": None,
        "deadline": None,
        "phases": (Phase.generate,),
        "verbosity": Verbosity.quiet,
        "suppress_health_check": list(HealthCheck),
        "print_blob": False,
    }
    try:
        run_state_machine_as_test(seeded(seed)(machine), settings=settings(**quiet))
    finally:
        gc.collect()  # what the engine leaves are cycles
    done.operations, done.runs = done.tally.operations, done.tally.runs
    return done


SWEEP_SAMPLES = 24
"""Runs of one scenario in a portion, before the next one has its turn."""


def sweep_portion(plan: Plan, number: int, driver: str, catch: Catch, digest: bool) -> Done:
    """``plan.portion`` runs of the sweep, refusals at random, of scenarios that the portion draws."""
    done = Done(Portion("sweep", number).id)
    heard_all = hashlib.sha256() if digest else None
    random = Random(f"{plan.seed}/sweep/{number}")
    subjects = shipped()
    while done.tally.runs < plan.portion:
        subject = random.choice(subjects)
        seed = f"{plan.seed}/sweep/{number}/{subject.name}/{subject.config.profile}"

        def heard(run: Run, outcome: Outcome, seed: str = seed) -> bool:
            return catch.hear(run.config, run.operations, outcome, run.refused, seed, "sweep")

        sweep = Sweep(subject, driver, heard, random=random)
        for played in islice(sweep.samples(), min(SWEEP_SAMPLES, plan.portion - done.tally.runs)):
            catch.ended()
            done.tally.add(played.run)
            if heard_all is not None:
                heard_all.update(repr((played.run.operations, _sums(played.run))).encode())
    done.digest = heard_all.hexdigest() if heard_all is not None else ""
    done.operations, done.runs = done.tally.operations, done.tally.runs
    return done


@dataclass(frozen=True, slots=True)
class Gear:
    """A gear of the night. ``share`` is its part of the search time, relative to the others; ``repeats`` says that a portion does
    the same in any process, so that it can be done twice and compared."""

    name: str
    share: float
    portion: Callable[[Plan, int, str, Catch, bool], Done]
    repeats: bool


GEARS: tuple[Gear, ...] = (
    Gear("walk", 9.0, walk_portion, True),
    # What the engine draws depends on which modules are loaded: it takes constants out of them.
    Gear("hypothesis", 1.0, hypothesis_portion, False),
    Gear("sweep", 1.0, sweep_portion, False),  # what is done twice are portions of the walk
)


def timed(gear: Gear, plan: Plan, number: int, driver: str, digest: bool) -> tuple[Done, Catch]:
    """Do one portion; what came of it, with the seconds that it took, and what it met."""
    started, catch = time.perf_counter(), Catch()
    done = gear.portion(plan, number, driver, catch, digest)
    done.seconds, done.kinds = round(time.perf_counter() - started, 3), catch.kinds
    return done, catch


def of_name(name: str) -> Gear | None:
    """The gear of this name, if the night has it."""
    return next((gear for gear in GEARS if gear.name == name), None)
