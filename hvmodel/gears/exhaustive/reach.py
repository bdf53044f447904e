"""What a search exercised, so that "holds" is not hollow: rules, fault sites and answers, properties, policies, driver branches.

Driver branches are those of a Python driver: for each ``if``, ``while`` and ``for`` whether its body was entered, and whether it
was passed by. Of a C driver the blocks are known to its image (``drivers/native/coverage.py``).
"""

from __future__ import annotations

import ast
import inspect
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from types import FrameType
from typing import Any

from hvmodel.faults import CALL_SITES, KERNEL_SITES
from hvmodel.gears.exhaustive.scope import ANSWERS, Scope
from hvmodel.hypervisor import Hypervisor
from hvmodel.hypervisor.abi import status_name
from hvmodel.hypervisor.policies import QUESTIONS, Policies
from hvmodel.properties.catalogue import ALWAYS_JUDGED, PROPERTIES
from hvmodel.rules.rules import RULES
from hvmodel.world import Outcome, World

Counts = dict[str, dict[str, int]]
"""Kind of thing -> name -> how often."""


def add_counts(mine: Counts, more: Counts) -> None:
    """Add what another one counted."""
    for kind, names in more.items():
        total = mine.setdefault(kind, {})
        for name, count in names.items():
            total[name] = total.get(name, 0) + count


class Asked:
    """Policies that note which questions are put to them."""

    def __init__(self, policies: Policies, counter: Counter[str]) -> None:
        self._policies = policies
        self._counter = counter

    def __getattr__(self, name: str) -> Any:
        self._counter[name] += 1
        return getattr(self._policies, name)


@cache
def asked_at_the_start() -> frozenset[str]:
    """Questions that a hypervisor answers itself when it is made; how often they decide is not seen."""
    counter: Counter[str] = Counter()
    Hypervisor(Asked(Policies(), counter))  # type: ignore[arg-type]
    return frozenset(counter)


class Reach:
    """Counts what one engine exercises. Slower than a search alone: every line of the driver is heard."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.rules: Counter[str] = Counter()
        self.refused: Counter[str] = Counter()
        self.policies: Counter[str] = Counter()
        self.arcs: Counter[str] = Counter()
        self._arcs: set[tuple[str, int, int]] = set()
        self._files = driver_files(world)
        self._before: dict[str, dict[str, int]] = {"properties": {}, "sites": {}}
        with self.listening():  # what a driver does when it is loaded counts
            World(world.config, world.driver_entry)
        world.hypervisor.policies = Asked(world.hypervisor.policies, self.policies)  # type: ignore[assignment]

    @contextmanager
    def listening(self) -> Iterator[None]:
        """While the driver's lines are heard."""
        sys.settrace(self._call)
        try:
            yield
        finally:
            sys.settrace(None)

    def _call(self, frame: FrameType, _event: str, _arg: Any) -> Any:
        file = frame.f_code.co_filename
        if file not in self._files:
            return None
        arcs = self._arcs
        last = frame.f_lineno

        def line(inner: FrameType, event: str, _arg: Any) -> Any:
            nonlocal last
            now = -1 if event == "return" else inner.f_lineno
            arcs.add((file, last, now))
            last = now
            return line

        return line

    def note(self, rules: tuple[str, ...], outcome: Outcome) -> None:
        """An operation that these rules offer was done."""
        if outcome.applied:
            self.rules.update(rules)
        for fault in outcome.fired:
            answer = "" if fault.site in KERNEL_SITES else f" {status_name(fault.status)}"
            lasts = " until lifted" if fault.times is None else ""
            self.refused[f"{fault.site}{answer}{lasts}"] += 1

    def take(self) -> Counts:
        """What was counted since the last time."""
        now = {"properties": dict(self.world.judge.judged), "sites": dict(self.world.faults.reached)}
        found: Counts = {
            kind: {name: count - self._before[kind].get(name, 0) for name, count in counts.items()} for kind, counts in now.items()
        }
        self._before = now
        found |= {"rules": dict(self.rules), "refusals": dict(self.refused), "policies": dict(self.policies)}
        found["arcs"] = {f"{file}:{start}:{end}": 1 for file, start, end in self._arcs}
        for counter in (self.rules, self.refused, self.policies):
            counter.clear()
        self._arcs.clear()
        return found


def driver_files(world: World) -> frozenset[str]:
    """The Python files that the world's driver is made of; none for a native one."""
    if hasattr(world.driver, "save_images"):
        return frozenset()
    files = set()
    for cls in type(world.driver).__mro__:
        if cls.__module__.startswith("hvmodel.drivers.") and not cls.__module__.endswith(("interface", "variants.registry")):
            files.add(inspect.getfile(cls))
    return frozenset(files)


def never(counts: Counts, scopes: list[Scope], world: World) -> dict[str, list[str]]:
    """What no state within the scopes exercised, by kind of thing. ``world`` is one of the driver's."""
    asked = {rule.name for scope in scopes for rule in scope.rules()}
    offered = [name for name in RULES if name in asked]
    refused = counts.get("refusals", {})
    reached = counts.get("sites", {})
    heard = {name.split()[0] for name in refused}
    silent = [site for site in CALL_SITES if reached.get(site) and site in ANSWERS and site not in heard]
    put = counts.get("policies", {})
    questions = [
        f"{question.id} ({question.text})"
        for name, question in QUESTIONS.items()
        if not put.get(name) and name not in asked_at_the_start()
    ]
    found = {
        "rules that never applied": [name for name in offered if not counts.get("rules", {}).get(name)],
        "rules that no part asks": [name for name in RULES if name not in offered],
        "fault sites never reached": [site for site in CALL_SITES if not reached.get(site)],
        "fault sites never refused": silent if any(scope.faults for scope in scopes) else [],
        "properties never asked": [
            name for name in PROPERTIES if not counts.get("properties", {}).get(name) and name not in ALWAYS_JUDGED
        ],
        "questions never put to the hypervisor": questions,
        "branches of the driver never taken": _branches(counts.get("arcs", {}), world),
    }
    return {kind: names for kind, names in found.items() if names}


def _branches(arcs: dict[str, int], world: World) -> list[str]:
    files = driver_files(world)
    taken: dict[str, set[tuple[int, int]]] = {file: set() for file in files}
    for arc in arcs:
        file, start, end = arc.rsplit(":", 2)
        if file in taken:
            taken[file].add((int(start), int(end)))
    found = []
    for file in sorted(files):
        found += _of_file(file, taken[file])
    return found


def _of_file(file: str, arcs: set[tuple[int, int]]) -> list[str]:
    """The branches of a file that were not taken, of those functions that ran at all; functions that never ran as one."""
    source = Path(file).read_text(encoding="utf-8")
    lines = source.splitlines()
    ran = {line for arc in arcs for line in arc}
    found: list[str] = []
    for function in ast.walk(ast.parse(source)):
        if not isinstance(function, ast.FunctionDef):
            continue
        body = [node for node in function.body if not (isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant))]
        if not body:
            continue
        if not any(node.lineno <= line <= (node.end_lineno or node.lineno) for node in body for line in ran):
            if not function.name.startswith("__"):
                found.append(f"{Path(file).name}:{function.lineno}: {function.name}() never ran")
            continue
        for node in ast.walk(function):
            if isinstance(node, ast.If | ast.While | ast.For):
                place = f"{Path(file).name}:{node.lineno}: {lines[node.lineno - 1].strip()}"
                found += [f"{place}  {what}" for what in _missed(node, arcs)]
    return found


def _missed(node: ast.If | ast.While | ast.For, arcs: set[tuple[int, int]]) -> list[str]:
    """What of a branch never happened; nothing if it was never come by, which the branch around it says."""
    head = node.test if isinstance(node, ast.If | ast.While) else node.iter
    own = set(range(node.lineno, (head.end_lineno or node.lineno) + 1))
    leaving = {(start, end) for start, end in arcs if start in own and end not in own}
    if not leaving:
        return []
    body = node.body[0].lineno
    if body in own:  # on one line: not seen
        return []
    missed = []
    if isinstance(node, ast.While) and isinstance(node.test, ast.Constant):
        return []
    if not any(end == body for _start, end in leaving):
        missed.append("(never true)" if not isinstance(node, ast.For) else "(never with anything)")
    if not any(end != body for _start, end in leaving):
        missed.append("(always true)")
    return missed


__all__ = ["Counts", "Reach", "add_counts", "asked_at_the_start", "driver_files", "never"]
