"""The sweep's turn in a hunt: between runs of the walk, runs of the scenarios and of what the walk itself did, with refusals."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from random import Random

from hvmodel.gears.sweep import Played, Subject, Sweep
from hvmodel.gears.sweep.subjects import of_trace, shipped
from hvmodel.gears.walk import Heard, Run
from hvmodel.world import Outcome

SAMPLES = 12
"""Runs of one subject before the next one has its turn."""

OFFERS = 16
"""Of so many runs of the walk in which nothing failed one is swept."""

EVERY = 2
"""There is a turn behind one of so many runs of the walk, and none behind the first one."""

LONGEST = 60
"""So many operations of it."""


class Rota:
    """An endless row of sweep runs; which ones is decided by ``seed`` and by what the walk offers. ``listener`` gives each subject
    the one who hears its violations."""

    def __init__(self, seed: str, driver: str, profiles: Sequence[str], highest: int, listener: Callable[[str], Heard]) -> None:
        self._seed, self._random = seed, Random(seed)
        self._driver, self._highest, self._listener = driver, highest, listener
        self._subjects = shipped(profiles)
        self._offered: list[Subject] = []
        self._offers = self._walked = 0
        self._own = True
        self._runs: Iterator[Played] = iter(())

    def _offer(self, run: Run, seed: str) -> None:
        self._offers += 1
        if self._offers % OFFERS == 1:
            self._offered = [of_trace(f"walk {seed}", run.config, run.operations[:LONGEST])]

    def turn(self, run: Run, seed: str) -> Played | None:
        """Do one run behind a run of the walk, which may be swept itself if nothing failed there; None if it has no turn."""
        self._walked += 1
        if not run.world.judge.muted:
            self._offer(run, seed)
        if self._walked % EVERY:
            return None
        played = next(self._runs, None)
        if played is None:
            subject = self._next()
            if subject is None:
                return None
            name = f"{self._seed}/{subject.name}/{subject.config.profile}"
            sweep = Sweep(subject, self._driver, self._within(self._listener(name)), random=self._random)
            self._runs = islice(sweep.samples(), SAMPLES)
            played = next(self._runs)
            if max(played.levels, default=0) > self._highest:
                self._runs = iter(())
        return played

    def _next(self) -> Subject | None:
        """What the walk offered and a scenario take turns."""
        self._own = not self._own
        if self._offered and (self._own or not self._subjects):
            return self._offered.pop()
        return self._random.choice(self._subjects) if self._subjects else None

    def _within(self, heard: Heard) -> Heard:
        """Of a caller that is worse than wanted nothing is heard: what was refused may have left a scenario in another state."""

        def hear(run: Run, outcome: Outcome) -> bool:
            return heard(run, outcome) if outcome.level <= self._highest else False

        return hear


__all__ = ["Rota"]
