"""The minimiser measured: failing traces of the walk on the variants, each minimised twice; time, lengths, files that they fall
into.

A variant has one defect, so the minimal traces that its walks end in ought to be few. Seconds are processor time. A second lap
fills up what rare variants leave of the number of traces that was asked for.
"""

from __future__ import annotations

import multiprocessing
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import islice
from statistics import median

from rich.console import Console
from rich.table import Table

from hvmodel.callers.levels import LEVELS
from hvmodel.gears.minimise import Minimised, Target, minimise
from hvmodel.gears.walk import Run, runs, settle, walk
from hvmodel.jobs.hunt import STEPS
from hvmodel.jobs.trials import seed_of
from hvmodel.rules.worlds import PROFILE_NAMES
from hvmodel.world import Outcome

SEARCH_SECONDS = 10.0
"""So long one lap searches a variant for failing traces."""

MEDIAN_TARGET, P99_TARGET, LENGTH_TARGET, SHORT_TARGET = 0.010, 0.100, 4, 0.9
"""Seconds, seconds, operations, and the share of traces that come out no longer than the shortest known of their manner."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One failing trace: its variant, property, what had to go on failing (``manner``: driver call, shape, refused sites, level of
    caller), operations before and after, seconds, worlds that were run, whether the property stayed, whether minimising again gave
    the same, and what came out (equal texts are equal files)."""

    driver: str
    property_id: str
    manner: tuple[object, ...]
    seed: str
    before: int
    after: int
    seconds: float
    runs: int
    same_property: bool
    stable: bool
    file: str


@dataclass(frozen=True, slots=True)
class Task:
    """Failing traces to look for: at most ``traces``, from run number ``first`` of the variant's schedule on."""

    driver: str
    traces: int
    seed: int
    first: int


@dataclass(slots=True)
class Came:
    """What came of a task: samples, and the number of the run to go on with."""

    task: Task
    samples: list[Sample] = field(default_factory=list)
    next: int = 0


def text_of(small: Minimised) -> str:
    """What a trace file would say of the start and the operations."""
    return f"{small.config!r} {small.operations!r}"


def sample(run: Run, outcome: Outcome, driver: str, seed: str) -> Sample:
    """Minimise the first violation of a run, twice. Raises AssertionError if the run does not repeat."""
    violation = outcome.violations[0]
    sites = frozenset(fault.site for fault in outcome.fired)
    target = Target(violation.property, violation.call, violation.shape, sites)
    started = time.process_time()
    small = minimise(run.config, run.operations, driver, target)
    seconds = time.process_time() - started
    if small is None:
        raise AssertionError(f"a run does not repeat: {driver}, seed {seed}, {violation.property}")
    again = minimise(small.config, small.operations, driver, target)
    stable = again is not None and (again.config, again.operations) == (small.config, small.operations)
    return Sample(
        driver,
        violation.property,
        (violation.call, violation.shape, sites, small.level),
        seed,
        len(run.operations),
        len(small.operations),
        seconds,
        small.runs,
        small.violation.property == violation.property,
        stable,
        text_of(small),
    )


def search(task: Task) -> Came:
    """Walk a variant and minimise the first violation of each run that has one."""
    settle()
    came = Came(task, next=task.first)
    until = time.process_time() + SEARCH_SECONDS
    schedule = runs(seed_of(task.seed, task.driver, "walk", 0), 0, list(PROFILE_NAMES), list(range(len(LEVELS))), STEPS, task.first)
    for seed, profile, level, steps in schedule:
        if len(came.samples) >= task.traces or time.process_time() > until:
            break
        came.next += 1
        heard: list[Outcome] = []

        def hear(_run: Run, outcome: Outcome, heard: list[Outcome] = heard) -> bool:
            heard.append(outcome)
            return True

        run = walk(seed, task.driver, profile, level, steps, hear)
        if heard:
            came.samples.append(sample(run, heard[0], task.driver, seed))
    return came


def measure(drivers: Sequence[str], traces: int, seed: int, jobs: int, progress: Callable[[int], None]) -> list[Sample]:
    """About ``traces`` samples: the same number of each variant as far as that is quickly found, then more of the easy ones."""
    share = -(-traces // len(drivers))
    samples: list[Sample] = []
    with multiprocessing.get_context("fork").Pool(jobs) as pool:

        def lap(tasks: Iterable[Task]) -> list[Came]:
            done = []
            for came in pool.imap_unordered(search, list(tasks)):
                samples.extend(came.samples)
                done.append(came)
                progress(len(samples))
            return done

        done = lap(Task(driver, share, seed, 0) for driver in drivers)
        easy = sorted((came for came in done if len(came.samples) >= share), key=lambda came: came.task.driver)
        while easy and len(samples) < traces:
            more = -(-(traces - len(samples)) // len(easy))
            easy = [came for came in lap(Task(c.task.driver, more, seed, c.next) for c in easy) if len(came.samples) >= more]
    return list(islice(samples, traces))


def quantile(values: Sequence[float], share: float) -> float:
    """The smallest value that at least this share of the values does not exceed."""
    ordered = sorted(values)
    return ordered[min(int(share * len(ordered)), len(ordered) - 1)]


@dataclass(frozen=True, slots=True)
class Figures:
    """What the samples come to: seconds (median, 99 in 100, most), lengths, shares, and by variant the shortest known length, how
    many traces reach it, files, and files by property."""

    samples: int
    median: float
    p99: float
    most: float
    length: float
    stable: int
    same_property: int
    shortest: int
    shortest_of_manner: int
    by_variant: dict[str, tuple[int, int, int, int, float]]

    @property
    def met(self) -> bool:
        """Whether all targets are met."""
        return (
            self.median <= MEDIAN_TARGET
            and self.p99 <= P99_TARGET
            and self.length <= LENGTH_TARGET
            and self.stable == self.same_property == self.samples
            and self.shortest_of_manner >= SHORT_TARGET * self.samples
        )


def figures(samples: Sequence[Sample]) -> Figures:
    """Sum up. The shortest known trace of a variant is the shortest that any of its samples with the same property came to; that of
    a manner, which is all that the minimiser was asked to keep, the shortest of any that failed in the same manner."""
    least: dict[tuple[object, ...], int] = defaultdict(lambda: 1 << 30)
    for item in samples:
        for key in ((item.driver, item.property_id), (item.driver, item.property_id, item.manner)):
            least[key] = min(least[key], item.after)
    by_variant: dict[str, tuple[int, int, int, int, float]] = {}
    for driver in dict.fromkeys(item.driver for item in samples):
        mine = [item for item in samples if item.driver == driver]
        short = sum(item.after == least[driver, item.property_id] for item in mine)
        names = len({item.property_id for item in mine})
        by_variant[driver] = (len(mine), short, len({item.file for item in mine}), names, median(item.after for item in mine))
    seconds = [item.seconds for item in samples]
    return Figures(
        len(samples),
        median(seconds),
        quantile(seconds, 0.99),
        max(seconds),
        median(item.after for item in samples),
        sum(item.stable for item in samples),
        sum(item.same_property for item in samples),
        sum(entry[1] for entry in by_variant.values()),
        sum(item.after == least[item.driver, item.property_id, item.manner] for item in samples),
        by_variant,
    )


def run(traces: int, seed: int, jobs: int, drivers: Sequence[str], console: Console) -> int:
    """``hvmodel bench-minimiser``: prints the figures; returns 0 if all targets are met, else 1."""
    last = time.monotonic()

    def progress(done: int) -> None:
        nonlocal last
        if time.monotonic() - last > 10:
            last = time.monotonic()
            print(f"minimising: {done:,} of {traces:,} traces", file=sys.stderr, flush=True)

    samples = measure(drivers, traces, seed, jobs, progress)
    if not samples:
        console.print("no walk failed: nothing to minimise")
        return 1
    came = figures(samples)
    table = Table(box=None, header_style="bold", pad_edge=False)
    for head in ("variant", "traces", "as short as known", "median length", "properties", "files"):
        table.add_column(head, justify="left" if head == "variant" else "right")
    for driver, (count, short, files, names, length) in sorted(came.by_variant.items()):
        table.add_row(driver, str(count), str(short), f"{length:g}", str(names), str(files))
    console.print(table)
    each = [entry[2] for entry in came.by_variant.values()]
    before, worlds = median(item.before for item in samples), median(item.runs for item in samples)
    ms = [f"{1000 * seconds:.1f} ms" for seconds in (came.median, came.p99, came.most)]
    shares = [f"{count:,} ({100 * count / came.samples:.1f} %)" for count in (came.shortest_of_manner, came.shortest)]
    for line in (
        f"{came.samples:,} failing traces of {len(came.by_variant)} variants (seed {seed}), median {before:g} operations before",
        f"processor time: median {ms[0]}, 99 in 100 under {ms[1]}, most {ms[2]}; median {worlds:g} worlds",
        f"operations: median {came.length:g}; as short as the shortest known that fails in the same manner: {shares[0]}, "
        f"in any manner: {shares[1]}",
        f"same property: {came.same_property:,}; minimised again the same: {came.stable:,}",
        f"files: {len({item.file for item in samples}):,} in all; by variant median {median(each):g}, most {max(each)}",
        "all targets are met" if came.met else "NOT all targets are met",
    ):
        console.print(line, soft_wrap=True)
    return 0 if came.met else 1
