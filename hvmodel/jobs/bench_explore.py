"""The bench of the exhaustive gear, beside two model checkers for models: minicheck (Python) and SPIN (C).

Ours runs a driver under test, the kernel's services and all properties in every transition. Theirs run an abstract model of the
same scope (``bench_models``): callers and hypervisor, and no driver. So the figures say what the driver and its surroundings cost,
not which checker is better. Nothing of theirs is needed: what is not installed is named with the command that installs it.
"""

from __future__ import annotations

import importlib
import importlib.util
import re
import resource
import shutil
import subprocess
import tempfile
import time
import tracemalloc
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import median
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from hvmodel.drivers.native.errors import NativeError
from hvmodel.drivers.native.toolchain import find_compiler
from hvmodel.gears.exhaustive.crew import Crew
from hvmodel.gears.exhaustive.scope import Scope
from hvmodel.gears.exhaustive.scopes import TINY
from hvmodel.gears.exhaustive.search import Search
from hvmodel.gears.walk import settle
from hvmodel.jobs.bench_models import domains

TARGET = 20_000
"""Transitions a second that the gear should do on one core through a driver in Python."""

ROUNDS = 5
DEPTH = 5
WIDE = 10
"""Pages of the abstract model that is timed: that of the scope itself is done before a clock notices."""

PYTHON, NATIVE = "repaired", "repaired-c"
_TICK = 1e-6
"""Seconds of processor time below which nothing is told apart; some clocks stand still for longer."""
_INSTALL = {"minicheck": "pip install minicheck", "SPIN": "apt-get install spin gcc"}
_MODEL = Path(domains.__file__).with_name("domains.pml")


class Missing(Exception):
    """Something that would be measured is not there; ``args[0]`` says what, and what to do."""


@dataclass(frozen=True, slots=True)
class Turn:
    """One search: different states, transitions, processor seconds, bytes kept of a state."""

    states: int
    transitions: int
    seconds: float
    bytes_per_state: float


Subject = Callable[[], Turn]


@dataclass(slots=True)
class Row:
    """All turns of one subject."""

    name: str
    driver: str
    run: Subject
    turns: list[Turn] = field(default_factory=list)

    def rates(self) -> list[float]:
        """Transitions a second, turn by turn."""
        return [turn.transitions / turn.seconds for turn in self.turns]


def fixed_part(depth: int = DEPTH) -> Scope:
    """The part of a scope that is measured: one device, one domain, three pages, one fault a trace."""
    return replace(next(scope for scope in TINY if scope.name == "maps"), faults=1, depth=depth)


def reached(pages: int, broken: bool = False) -> tuple[int, int, int | None]:
    """The abstract model gone through breadth first by a few lines of our own: states, transitions, and after how many operations
    its property fails first (None: it holds)."""
    follow = domains.transitions(pages, broken)
    depth = {domains.INITIAL: 0}
    ahead, transitions = [domains.INITIAL], 0
    fails: int | None = None
    for state in ahead:
        if fails is None and not domains.holds(dict(zip(domains.FIELDS, state, strict=True))):
            fails = depth[state]
        for _name, after in follow(state):
            transitions += 1
            if after not in depth:
                depth[after] = depth[state] + 1
                ahead.append(after)
    return len(ahead), transitions, fails


# --- what is measured -------------------------------------------------------------------------------------------------------------


def gear(driver: str, depth: int) -> Subject:
    """The exhaustive gear in this process. Raises Missing."""
    scope = fixed_part(depth)
    if driver == NATIVE:
        try:
            find_compiler()
            with Crew(1, driver, scope, "default"):
                pass  # it is built now
        except NativeError as problem:
            raise Missing(f"{driver}: {problem}") from None

    def run() -> Turn:
        search = Search(driver, scope, "default")
        with Crew(1, driver, scope, "default") as crew:
            started = time.process_time()
            search.run(crew)
            seconds = max(time.process_time() - started, _TICK)
        return Turn(search.states, search.transitions, seconds, search.bytes_per_state())

    return run


def minicheck(pages: int) -> Subject:
    """minicheck on the abstract model. Raises Missing."""
    if importlib.util.find_spec("minicheck") is None:
        raise Missing(f"minicheck is not installed: {_INSTALL['minicheck']}")
    checker: Any = importlib.import_module("minicheck")
    states, transitions, _fails = reached(pages)
    model = domains.protocol(checker, pages)
    tracemalloc.start()
    checker.check_safety(model, max_states=states)
    size = tracemalloc.get_traced_memory()[1] / states
    tracemalloc.stop()

    def run() -> Turn:
        started = time.process_time()
        said = checker.check_safety(model, max_states=states)
        seconds = max(time.process_time() - started, _TICK)
        return Turn(said["reachable_states"], transitions, seconds, size)

    return run


def spin(pages: int, folder: Path, broken: bool = False) -> Subject:
    """SPIN on the abstract model, breadth first. What it makes of the model is compiled in ``folder``, which is not timed. Raises
    Missing."""
    command = shutil.which("spin")
    try:
        compiler = find_compiler().command
    except NativeError as problem:
        raise Missing(f"SPIN: {problem}") from None
    if command is None:
        raise Missing(f"SPIN is not installed: {_INSTALL['SPIN']}")
    flags = [f"-DPAGES={pages}", *(["-DBROKEN"] if broken else [])]
    for step in ([command, *flags, "-a", str(_MODEL)], [*compiler, "-O2", "-w", "-DSAFETY", "-DBFS", "-o", "pan", "pan.c"]):
        done = subprocess.run(step, cwd=folder, capture_output=True, text=True, errors="replace", check=False)
        if done.returncode:
            said = (done.stderr or done.stdout).strip().splitlines()
            raise Missing(f"SPIN does not take the model: {said[0] if said else 'it does not say why'}")

    def run() -> Turn:
        before = _children()
        text = subprocess.run([str(folder / "pan"), "-w18"], cwd=folder, capture_output=True, text=True, check=False).stdout
        seconds = max(_children() - before, _TICK)
        if "errors: 0" not in text:
            raise Missing("SPIN: the property of the abstract model fails")
        states = int(_figure(r"(\d+) states, stored", text))
        megabytes = _figure(r"([\d.]+)\s+equivalent memory usage for states", text)
        # it counts the start as a transition
        return Turn(states, int(_figure(r"(\d+) transitions", text)) - 1, seconds, megabytes * (1 << 20) / states)

    return run


def _figure(pattern: str, text: str) -> float:
    found = re.search(pattern, text)
    if found is None:
        raise Missing("SPIN: its report has another form than that of SPIN 6")
    return float(found.group(1))


def _children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


# --- the section ------------------------------------------------------------------------------------------------------------------


def bench_explore(console: Console, rounds: int = ROUNDS, depth: int = DEPTH, pages: int = WIDE) -> list[Row]:
    """Measure everything that is there, in turns, and print it; the rows that were measured. ``rounds`` is at least 1, ``depth`` is
    the longest trace of the gear, ``pages`` (at most 12) the size of the abstract model that is timed."""
    settle()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="hvmodel-bench-")))
        wanted: list[tuple[str, str, Callable[[], Subject]]] = [
            (f"exhaustive gear, {PYTHON}", "in Python", lambda: gear(PYTHON, depth)),
            (f"exhaustive gear, {NATIVE}", "in C", lambda: gear(NATIVE, depth)),
            ("minicheck, abstract model", "none", lambda: minicheck(pages)),
            ("SPIN, abstract model", "none", lambda: spin(pages, folder)),
        ]
        rows, missing = _found(wanted)
        for number in range(rounds):
            for row in list(rows):
                try:
                    row.turns.append(row.run())
                except Missing as reason:
                    missing.append(str(reason))
                    rows.remove(row)
            console.print(Text(f"exhaustive: round {number + 1} of {rounds} done", style="dim"))
    _print(rows, missing, fixed_part(depth), pages, console)
    return rows


def _found(wanted: Iterable[tuple[str, str, Callable[[], Subject]]]) -> tuple[list[Row], list[str]]:
    rows: list[Row] = []
    missing: list[str] = []
    for name, driver, make in wanted:
        try:
            rows.append(Row(name, driver, make()))
        except Missing as reason:
            missing.append(str(reason))
    return rows, missing


def _print(rows: list[Row], missing: list[str], scope: Scope, pages: int, console: Console) -> None:
    table = Table(title="exhaustive: one core, processor time, medians", title_justify="left", pad_edge=False)
    table.add_column("what")
    table.add_column("driver")
    for title in ("states", "transitions", "transitions/s", "lowest", "highest", "states/s", "bytes a state"):
        table.add_column(title, justify="right")
    for row in rows:
        rates, turn = row.rates(), row.turns[0]
        states = median(one.states / one.seconds for one in row.turns)
        figures = (turn.states, turn.transitions, median(rates), min(rates), max(rates), states, turn.bytes_per_state)
        table.add_row(row.name, row.driver, *[f"{figure:,.0f}" for figure in figures])
    console.print(table)
    own_states, own_transitions, _fails = reached(domains.PAGES)
    console.print(
        Text(
            f"the gear's scope: {scope.sentence()}\n"
            f"minicheck and SPIN have no driver in them, and one property instead of all: a caller and a hypervisor, {pages} "
            f"pages (with the scope's own {domains.PAGES} there are {own_states} states and {own_transitions} transitions)"
        ),
        soft_wrap=True,
    )
    for reason in missing:
        console.print(Text(f"skipped  {reason}", style="yellow"), soft_wrap=True)
    for text, good in _targets({row.driver: row for row in rows}):
        console.print(Text(("reached  " if good else "missed   ") + text, style="green" if good else "yellow"), soft_wrap=True)


def _targets(rows: dict[str, Row]) -> list[tuple[str, bool]]:
    """What the gear should reach, and whether it does."""
    found = []
    python, native = rows.get("in Python"), rows.get("in C")
    if python is not None:
        rate = median(python.rates())
        found.append((f"exhaustive gear: {rate:,.0f} transitions/s with {PYTHON}, target {TARGET:,}", rate >= TARGET))
    if python is not None and native is not None:
        beside = median(mine / other for mine, other in zip(native.rates(), python.rates(), strict=True))
        text = f"exhaustive gear: with {NATIVE} {beside:.2f} of the transitions/s with {PYTHON}, target more than 1.00"
        found.append((text, beside > 1.0))
    return found


__all__ = ["TARGET", "Missing", "Row", "Turn", "bench_explore", "fixed_part", "gear", "minicheck", "reached", "spin"]
