"""The bench: how fast the gears are beside Hypothesis alone, whether memory stays flat, how often each operation applies.

Everything is measured side by side in one run, in turns, and given as medians and ratios: the machine under it is shared.
"""

from __future__ import annotations

import resource
import time
from collections.abc import Callable
from statistics import median
from typing import Any

from hypothesis import HealthCheck, Phase, Verbosity, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule, run_state_machine_as_test
from rich.console import Console
from rich.table import Table
from rich.text import Text

from hvmodel.callers.levels import LEVELS
from hvmodel.drivers import REGISTRY, is_native
from hvmodel.gears.walk import runs, settle, walk
from hvmodel.jobs.bench_explore import bench_explore
from hvmodel.jobs.hunt import STEPS, Tally
from hvmodel.properties.catalogue import PROPERTIES
from hvmodel.rules.rules import RULES
from hvmodel.rules.worlds import PROFILE_NAMES

TARGET_WALK = 20_000
"""Operations a second that the walk should apply on one core."""

ROUNDS = 5

_IN_TURN = 10
"""Runs that one driver walks before the other one walks them."""

BESIDE = "walk, posted-v0 in Python"
"""What a driver in C is measured beside."""

_QUIET: dict[str, Any] = {
    "derandomize": False,
    "database": None,
    "deadline": None,
    "stateful_step_count": 50,
    "phases": (Phase.generate,),
    "verbosity": Verbosity.quiet,
    "suppress_health_check": list(HealthCheck),
}


def _empty_machine(drawing: bool) -> type[RuleBasedStateMachine]:
    """A machine with as many rules as ours that do nothing; with or without drawing what ours draws."""
    entropy = st.integers(min_value=0, max_value=(1 << 96) - 1)

    def method(name: str) -> Callable[..., None]:
        def drawn(self: Any, entropy: int) -> None:
            type(self).steps += 1

        def plain(self: Any) -> None:
            type(self).steps += 1

        run: Callable[..., None] = drawn if drawing else plain
        run.__name__ = name
        return run

    body: dict[str, Any] = {"steps": 0, "__module__": __name__}
    for name in RULES:
        body[name] = rule(entropy=entropy)(method(name)) if drawing else rule()(method(name))
    return type("EmptyMachine", (RuleBasedStateMachine,), body)


def _machine(driver: str) -> type[RuleBasedStateMachine]:
    from machines import MACHINES

    base = MACHINES["everything"]

    def step(self: Any, chosen: Any, entropy: int) -> None:
        type(self).steps += 1
        base.step(self, chosen, entropy)

    body = {"steps": 0, "step": step, "driver": driver, "muted": frozenset(PROPERTIES), "__module__": __name__}
    return type("CountedMachine", (base,), body)


def _hypothesis_rate(cls: type[RuleBasedStateMachine], seconds: float) -> float:
    """Steps a second of a machine, over at least ``seconds``."""
    started, before = time.perf_counter(), cls.steps  # type: ignore[attr-defined]
    while time.perf_counter() - started < seconds:
        run_state_machine_as_test(cls, settings=settings(max_examples=30, **_QUIET))
    return float(cls.steps - before) / (time.perf_counter() - started)  # type: ignore[attr-defined]


class _Walker:
    """A walk that can be continued and that counts."""

    def __init__(self, driver: str, profiles: list[str]) -> None:
        self.driver = driver
        self.tally = Tally()
        self._schedule = runs(0, 0, profiles, list(range(len(LEVELS))), STEPS)

    def rate(self, seconds: float) -> float:
        """Operations applied a second."""
        started, before = time.perf_counter(), self.tally.operations
        while time.perf_counter() - started < seconds:
            seed, profile, level, steps = next(self._schedule)
            self.tally.add(walk(seed, self.driver, profile, level, steps))
        return (self.tally.operations - before) / (time.perf_counter() - started)

    def cost(self, number: int) -> float:
        """Seconds of processor time that one operation of the next so many runs takes."""
        started, before = time.process_time(), self.tally.operations
        for _ in range(number):
            seed, profile, level, steps = next(self._schedule)
            self.tally.add(walk(seed, self.driver, profile, level, steps))
        return (time.process_time() - started) / (self.tally.operations - before)


def _ratios(one: _Walker, other: _Walker, seconds: float) -> list[float]:
    """How fast one walks beside the other, in processor time: the same runs of both in turns, at least once."""
    started, found = time.perf_counter(), list[float]()
    while not found or time.perf_counter() - started < 2 * seconds:
        mine = one.cost(_IN_TURN)
        found.append(other.cost(_IN_TURN) / mine)
    return found


def _megabytes() -> float:
    with open("/proc/self/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * resource.getpagesize() / 1e6


def bench(driver: str, seconds: float, console: Console) -> int:
    """Measure and print; returns 1 if a kind of operation never applied, else 0. ``seconds`` is for each measurement."""
    settle()
    every = list(PROFILE_NAMES)
    walkers = {"walk, profile default": _Walker(driver, ["default"]), "walk, all profiles": _Walker(driver, every)}
    machines = {
        "Hypothesis, empty machine": _empty_machine(False),
        "Hypothesis, empty machine that draws": _empty_machine(True),
        "Hypothesis, everything machine": _machine(driver),
    }
    if is_native(driver):
        walkers[BESIDE] = _Walker("posted-v0", ["default"])
        pairs = (_Walker(driver, ["default"]), _Walker("posted-v0", ["default"]))
    beside: list[float] = []
    rates: dict[str, list[float]] = {name: [] for name in (*walkers, *machines)}
    memory: list[float] = []
    slot = seconds / ROUNDS
    for number in range(ROUNDS):
        for name, walker in walkers.items():
            rates[name].append(walker.rate(slot))
        if is_native(driver):
            beside += _ratios(*pairs, slot)
        memory.append(_megabytes())
        for name, cls in machines.items():
            rates[name].append(_hypothesis_rate(cls, slot))
        console.print(Text(f"round {number + 1} of {ROUNDS} done", style="dim"))
    _print_speed(rates, console)
    if is_native(driver):
        _print_native(driver, median(beside), console)
    bench_explore(console)
    _print_memory(driver, max(seconds, 5.0), console)
    return _print_applied(walkers["walk, all profiles"].tally, console)


def _print_speed(rates: dict[str, list[float]], console: Console) -> None:
    empty = median(rates["Hypothesis, empty machine"])
    table = Table(title="speed on one core", title_justify="left", pad_edge=False)
    table.add_column("what")
    table.add_column("median /s", justify="right")
    table.add_column("lowest", justify="right")
    table.add_column("highest", justify="right")
    table.add_column("x empty machine", justify="right")
    for name, values in rates.items():
        row = [f"{median(values):,.0f}", f"{min(values):,.0f}", f"{max(values):,.0f}", f"{median(values) / empty:.2f}"]
        table.add_row(name, *row)
    console.print(table)
    walk_rate, machine = median(rates["walk, profile default"]), median(rates["Hypothesis, everything machine"])
    drawing = median(rates["Hypothesis, empty machine that draws"])
    for text, good in (
        (f"walk: {walk_rate:,.0f} operations/s, target {TARGET_WALK:,}", walk_rate >= TARGET_WALK),
        (f"everything machine: {machine / empty:.2f} of an empty machine's steps, target 0.50", machine / empty >= 0.5),
        (f"everything machine: {machine / drawing:.2f} of an empty machine that draws the same integer", machine / drawing >= 0.5),
    ):
        console.print(Text(("reached  " if good else "missed   ") + text, style="green" if good else "yellow"))


def _print_native(driver: str, beside: float, console: Console) -> None:
    """What a driver in C costs beside the port of the posted one, how long a fresh image takes, how much of the file has run."""
    from hvmodel.drivers.native.coverage import coverage_of
    from hvmodel.drivers.native.driver import NativeLoader

    load = REGISTRY[driver].load
    assert isinstance(load, NativeLoader)
    reset = load.image.reset_time()
    for text, good in (
        (f"walk: {beside:.2f} of the posted driver's in Python over the same runs, in processor time, target 1.00", beside >= 1.0),
        (f"a fresh image of the C file: {reset * 1e6:.1f} us, target 50", reset <= 50e-6),
    ):
        console.print(Text(("reached  " if good else "missed   ") + text, style="green" if good else "yellow"))
    coverage = coverage_of(load.image)
    if coverage is not None:
        never = ", ".join(map(str, coverage.never)) or "none"
        console.print(Text(f"of {load.build.name} ran {coverage}; lines that never did: {never}"), soft_wrap=True)


def _print_memory(driver: str, seconds: float, console: Console) -> None:
    """Resident memory while a search as in the hunt goes on."""
    from hvmodel.jobs.hunt import Hunter, Options

    hunter = Hunter(Options(driver=driver), 0)
    started = time.perf_counter()
    samples: list[float] = []

    def sample(_hunter: Hunter) -> None:
        samples.append(_megabytes())

    hunter.search(lambda: time.perf_counter() - started > 2 * seconds, sample)
    quarter = max(len(samples) // 4, 1)
    parts = [median(samples[i : i + quarter]) for i in range(0, len(samples) - quarter + 1, quarter)]
    text = " -> ".join(f"{part:.0f}" for part in parts)
    console.print(Text(f"memory of a hunt by quarter of {2 * seconds:.0f} s, MB: {text} ({hunter.tally.operations:,} operations)"))


def _print_applied(tally: Tally, console: Console) -> int:
    table = Table(title="how often each kind of operation applied", title_justify="left", pad_edge=False)
    table.add_column("operation")
    table.add_column("tries", justify="right")
    table.add_column("applied", justify="right")
    table.add_column("share", justify="right")
    from hvmodel.operations import KINDS

    never = []
    for kind in KINDS:
        tried, applied = tally.applied.get(kind, [0, 0])
        if not applied:
            never.append(kind)
        table.add_row(kind, f"{tried:,}", f"{applied:,}", f"{applied / tried:.0%}" if tried else "-")
    console.print(table)
    if never:
        console.print(Text(f"never applied: {', '.join(never)}", style="bold red"))
        return 1
    return 0
