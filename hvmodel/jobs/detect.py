"""Detect: how soon each gear finds each defect. Every variant, every gear, many seeds, each until its first violation."""

from __future__ import annotations

import multiprocessing
import os
import queue
import re
import signal
import time
import traceback
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any

from hvmodel.callers.levels import BEYOND
from hvmodel.drivers import REGISTRY
from hvmodel.drivers.native.own import is_own, own_variants
from hvmodel.gears.walk import settle
from hvmodel.jobs.trials import GEARS, MINIMISED, Limit, Task, Trial, run_trial, seed_of

Progress = Callable[[int, int, int, float], None]
"""Told of trials done, trials planned, trials that found, seconds."""

_SLOWEST_FIRST = ("uniform", "exhaustive", "hypothesis", "sweep", "walk")


@dataclass(slots=True)
class Options:
    """What to measure: drivers by gears by trials. ``jobs`` is the number of processes (0: one per core). Of each driver and gear
    the first ``minimised`` trials are minimised. ``level`` is how far callers go at most, an index into ``levels.LEVELS``."""

    drivers: list[str]
    gears: list[str] = field(default_factory=lambda: list(GEARS))
    trials: int = 10
    limit: Limit = field(default_factory=lambda: Limit(seconds=60.0))
    seed: int = 0
    jobs: int = 0
    minimised: int = MINIMISED
    level: int = BEYOND


@dataclass(slots=True)
class Detection:
    """The trials that were done, by driver, gear and number; all that were planned unless it was interrupted."""

    options: Options
    trials: list[Trial]
    seconds: float = 0.0
    """Seconds that all took together, by the clock."""

    @property
    def planned(self) -> int:
        """Trials that were to be done."""
        return len(self.options.drivers) * len(self.options.gears) * self.options.trials

    @property
    def complete(self) -> bool:
        """Whether all planned trials were done."""
        return len(self.trials) == self.planned

    @property
    def everything(self) -> bool:
        """Whether all planned trials were done and found something."""
        return self.complete and all(trial.found for trial in self.trials)

    def of(self, driver: str | None = None, gear: str | None = None) -> list[Trial]:
        """The trials of a driver, of a gear, of both."""
        return [trial for trial in self.trials if driver in (None, trial.driver) and gear in (None, trial.gear)]


def matching(pattern: str) -> list[str]:
    """The variants whose name fits a pattern of the shell's kind, by the number in their name; or the driver that is called so.
    Those in C are meant only by a pattern that begins with ``repaired-c``."""
    known = own_variants() if is_own(pattern) else [name for name, entry in REGISTRY.items() if entry.defect]
    variants = [name for name in known if fnmatchcase(name, pattern)]
    variants.sort(key=lambda name: [part.zfill(8) if part.isdecimal() else part for part in re.split(r"(\d+)", name)])
    return variants or [name for name in REGISTRY if name == pattern]


def schedule(options: Options, earlier: Sequence[Trial] = ()) -> list[Task]:
    """All trials, those first that are likely to take longest: as long as in ``earlier`` trials of that driver and gear, else the
    slow gears. So a slow one does not begin when all others have ended."""
    took: dict[tuple[str, str], list[float]] = defaultdict(list)
    for trial in earlier:
        took[trial.driver, trial.gear].append(trial.seconds)

    def order(task: Task) -> tuple[float, int, int]:
        known = took.get((task.driver, task.gear))
        expected = sum(known) / len(known) if known else float("inf")
        return (-expected, _SLOWEST_FIRST.index(task.gear), task.number)

    tasks = [
        Task(driver, gear, number, seed_of(options.seed, driver, gear, number), options.level)
        for driver in options.drivers
        for gear in options.gears
        for number in range(options.trials)
    ]
    return sorted(tasks, key=order)


def _work(tasks: Sequence[Task], options: Options, counter: Any, channel: Any) -> None:
    """A worker process: take one trial after the other until none is left or the parent is gone, which alone hears interrupts."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    settle()
    parent = os.getppid()
    try:
        while os.getppid() == parent:
            with counter.get_lock():
                index, counter.value = counter.value, counter.value + 1
            if index >= len(tasks):
                break
            channel.put(("trial", run_trial(tasks[index], options.limit, options.minimised)))
        channel.put(("done", None))
    except BaseException:
        channel.put(("failed", traceback.format_exc()))


def detect(options: Options, progress: Progress | None = None, earlier: Sequence[Trial] = ()) -> Detection:
    """Do all trials. An interrupt ends it with what there is; raises RuntimeError if a worker fails."""
    tasks = schedule(options, earlier)
    context: Any = multiprocessing.get_context("fork" if "fork" in multiprocessing.get_all_start_methods() else "spawn")
    channel, counter = context.Queue(), context.Value("q", 0)
    jobs = min(options.jobs or os.cpu_count() or 1, len(tasks))
    workers = [context.Process(target=_work, args=(tasks, options, counter, channel), daemon=True) for _ in range(jobs)]
    started = time.monotonic()
    for worker in workers:
        worker.start()
    done: list[Trial] = []
    try:
        _collect(workers, channel, done, lambda found: _tell(progress, len(done), len(tasks), found, started))
    except KeyboardInterrupt:
        counter.value = len(tasks)
        _rest(channel, done)
    finally:
        counter.value = len(tasks)
        for worker in workers:
            if worker.is_alive() and len(done) < len(tasks):
                worker.terminate()
            worker.join(timeout=5)
    done.sort(key=lambda trial: (options.drivers.index(trial.driver), GEARS.index(trial.gear), trial.number))
    return Detection(options, done, time.monotonic() - started)


def _tell(progress: Progress | None, done: int, planned: int, found: int, started: float) -> None:
    if progress is not None:
        progress(done, planned, found, time.monotonic() - started)


def _collect(workers: Sequence[Any], channel: Any, done: list[Trial], tell: Callable[[int], None]) -> None:
    """Receive trials until all workers are done."""
    waiting, found = len(workers), 0
    while waiting:
        try:
            kind, what = channel.get(timeout=0.5)
        except queue.Empty:
            dead = [worker for worker in workers if worker.exitcode not in (None, 0)]
            if dead:
                raise RuntimeError(f"a worker ended with status {dead[0].exitcode}") from None
            tell(found)
            continue
        if kind == "failed":
            raise RuntimeError(f"a worker failed, which is a bug in hvmodel\n{what}")
        if kind == "done":
            waiting -= 1
            continue
        done.append(what)
        found += what.found
        tell(found)


def _rest(channel: Any, done: list[Trial]) -> None:
    """What the workers have sent and nobody has read yet."""
    while True:
        try:
            kind, what = channel.get(timeout=0.2)
        except queue.Empty:
            return
        if kind == "trial":
            done.append(what)
