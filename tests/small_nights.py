"""Nights of a second, for tests: a driver of their own, one canary, a short rota, the walk only, and a number of portions in place
of a clock."""

from __future__ import annotations

import gc
import resource
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from hvmodel.drivers import REGISTRY, register
from hvmodel.drivers.repaired import Repaired
from hvmodel.drivers.variants.own_pages import RoomOfUnmap
from hvmodel.jobs.nightly import coverage_sample, crew, gears, schedule
from hvmodel.jobs.nightly import plan as plans
from hvmodel.jobs.nightly.night import Night, Options, night
from hvmodel.jobs.nightly.plan import Canary
from hvmodel.jobs.nightly.takings import Takings
from hvmodel.rules import worlds
from hvmodel.rules.rules import RULES

NAME = "night-toy"

CORE = ("attachment", "lifetime", "mapping", "probing")

PORTIONS = 3
"""Portions of the walk in a night."""

RUNS = 4
"""Runs in a portion."""


class Honest(Repaired):
    """Nothing is wrong with it."""

    name = NAME
    summary = "honest, for tests of the nightly job"


class Planted(RoomOfUnmap):
    """With one defect, which has one signature: the last frame of a full batch lies beyond the input page."""

    name = NAME


@contextmanager
def small(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Nights are small meanwhile, and what is done twice is done in a process that is forked, not in a new interpreter."""
    register(Honest)
    monkeypatch.setattr(plans, "CANARIES", (Canary("repaired+D84", 5_000, "easy"),))
    for name, value in (("ROTA_VARIANTS", 1), ("ROTA_TRIALS", 1), ("ROTA_OPERATIONS", 100)):
        monkeypatch.setattr(plans, name, value)
    monkeypatch.setattr(gears, "GEARS", gears.GEARS[:1])
    monkeypatch.setattr(gears, "STEPS", 40)
    # The planted defect has one signature among the core's rules; through user space it shows in several manners.
    monkeypatch.setattr(worlds, "RULES", {name: rule for name, rule in RULES.items() if rule.subject in CORE})
    monkeypatch.setattr(coverage_sample, "find_spec", lambda name: None)
    monkeypatch.setattr(schedule.Schedule, "time_for_more", lambda self, left: self.takings.search["walk"].portions < PORTIONS)
    begin = crew.Crew._begin
    monkeypatch.setattr(crew.Crew, "_begin", lambda self, method, start: begin(self, "fork", start))
    yield
    del REGISTRY[NAME]


def options(state: Path, day: int = 20, **fields: Any) -> Options:
    """A small night."""
    return Options(NAME, state, 600.0, f"2026-11-{day:02d}", **{"jobs": 1, "portion": RUNS, **fields})


def doing(state: Path, day: int = 20, progress: Callable[[str, Takings, float], None] | None = None, **fields: Any) -> Night:
    """A small night, done."""
    return night(options(state, day, **fields), progress, lambda text: None)


@contextmanager
def settled() -> Iterator[None]:
    """Spare the collectors of workers what pytest has loaded."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


class Once:
    """A progress that does something once, when the night has done so many portions of the walk."""

    def __init__(self, portions: int, what: Callable[[], None]) -> None:
        self.portions, self.what, self.did = portions, what, False

    def __call__(self, step: str, takings: Takings, left: float) -> None:
        if not self.did and takings.search["walk"].portions >= self.portions:
            self.did = True
            self.what()


def interrupt() -> None:
    """As Ctrl-C does."""
    raise KeyboardInterrupt


@contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    """No file may grow beyond so many bytes: what a full disk does, without one."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
