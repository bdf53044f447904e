"""Equal: whether two drivers do the same, operation by operation: answers, hypercalls byte by byte, views, log, findings.

A walk on one of them gives the operations; both run them in worlds of their own, side by side, and are compared after each.
The first difference is minimised as a failure is, with "the two part" in place of a property.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from hvmodel import operations as ops
from hvmodel.callers.levels import LEVELS
from hvmodel.configuration import Configuration
from hvmodel.gears.minimise import settle, start
from hvmodel.gears.minimise.trial import Case, Hit, Target, Trials
from hvmodel.gears.walk import runs, walk
from hvmodel.hypervisor import abi
from hvmodel.jobs.hunt import STEPS
from hvmodel.properties.verdicts import Violation
from hvmodel.rules.worlds import PROFILE_NAMES
from hvmodel.world import Outcome, World

TREES_EVERY = 16
"""Whole trees are compared so often while searching, and before a run's end; after each operation while minimising."""


class Watched(World):
    """A world that keeps what passes between driver and hypervisor."""

    def __init__(self, config: Configuration, driver: str) -> None:
        self.seen: list[tuple[int, bytes, bytes, int]] = []
        """Control word, input page, output page (of calls that have one), status word."""
        super().__init__(config, driver)

    def _door(self, control: int, page: bytearray, output: bytearray) -> int:
        before = bytes(page)
        status = super()._door(control, page, output)
        answer = bytes(output) if control & 0xFFFF == abi.HVCALL_GET_IOMMU_CAPABILITIES else b""
        self.seen.append((control, before, answer, status))
        return status


@dataclass(frozen=True, slots=True)
class Difference:
    """Where two drivers part: ``what`` (answer, hypercalls, findings, refusals, reached, log, books, pointers, trees), and what each has
    there, in words."""

    what: str
    first: str
    second: str


Parts = tuple[tuple[str, Any], ...]


class Pair:
    """Two worlds with one configuration and a driver each. ``wording`` says whether log lines must be the same in their text, too."""

    def __init__(self, config: Configuration, first: str, second: str, wording: bool = True) -> None:
        self.worlds = (Watched(config, first), Watched(config, second))
        self.wording = wording

    def apply(self, operation: ops.Operation, trees: bool) -> tuple[Outcome, Difference | None]:
        """Do one operation in both worlds; the first one's outcome, and the first difference."""
        found = []
        for world in self.worlds:
            world.seen.clear()
            found.append(world.apply(operation))
        for one, other in zip(self._parts(0, found[0], trees), self._parts(1, found[1], trees), strict=True):
            if one[1] != other[1]:
                return found[0], Difference(one[0], *_spelled(one[0], one[1], other[1]))
        return found[0], None

    def _parts(self, number: int, outcome: Outcome, trees: bool) -> Parts:
        world = self.worlds[number]
        log = world.kernel.log if self.wording else [level for level, _ in world.kernel.log]
        found: list[tuple[str, Any]] = [
            ("answer", (outcome.applied, outcome.result, outcome.level)),
            ("hypercalls", world.seen),
            ("findings", sorted((v.property, v.call, repr(v.shape)) for v in outcome.violations)),
            ("refusals", [str(fault) for fault in outcome.fired]),
            ("log", log),
            ("reached", world.faults.reached),
            ("books", books_of(world)),
            ("pointers", pointers_of(world)),
        ]
        return (*found, ("trees", trees_of(world))) if trees else tuple(found)


def books_of(world: World) -> list[tuple[object, ...]]:
    """What the driver says of each domain but its tree: id and count."""
    driver = world.driver
    found: list[tuple[object, ...]] = []
    for book in world.books.of_domain.values():
        found.append((book.name, book.kind, driver.domain_id(book.domain), driver.attach_count(book.domain), book.domain.geometry))
    return found


def pointers_of(world: World) -> list[str | None]:
    """What the private pointer of each device names."""
    known = world.books.of_domain
    pointers = (world.driver.pointer_domain(book.device) for book in world.books.devices)
    return [None if domain is None else known[domain].name if domain in known else "a freed domain" for domain in pointers]


def trees_of(world: World) -> list[tuple[str, list[tuple[int, int, int]]]]:
    """All nodes of all trees: first and last byte, physical address."""
    driver = world.driver
    found: list[tuple[str, list[tuple[int, int, int]]]] = []
    for book in world.books.of_domain.values():
        tree = driver.tree(book.domain) if book.kind in ("device", "direct") else None
        nodes: list[tuple[int, int, int]] = []
        node: Any = tree.iter_first(0, abi.U64) if tree is not None else None
        while node is not None and tree is not None:
            nodes.append((node.start, node.last, driver.node_paddr(node)))
            node = tree.iter_next(node, 0, abi.U64)
        found.append((book.name, nodes))
    return found


def _spelled(what: str, one: Any, other: Any) -> tuple[str, str]:
    if not isinstance(one, list) or not isinstance(other, list):
        return str(one), str(other)
    place = next((at for at, pair in enumerate(zip(one, other, strict=False)) if pair[0] != pair[1]), min(len(one), len(other)))

    def entry(entries: list[Any]) -> str:
        if place >= len(entries):
            return f"{what}: no more after {place}"
        return f"{what}[{place}]: {_hypercall(*entries[place]) if what == 'hypercalls' else entries[place]}"

    return entry(one), entry(other)


def _hypercall(control: int, page: bytes, output: bytes, status: int) -> str:
    shown = page.rstrip(b"\0")[:96].hex(" ", 8)
    return f"{abi.call_name(control & 0xFFFF)} control {control:#x}, input {shown}, status {status:#x}"


# --- minimising -----------------------------------------------------------------------------------------------------------


class _Partings(Trials):
    """Trials that fail where two drivers part in the same way."""

    def __init__(self, first: str, second: str, what: str, wording: bool, limit: int) -> None:
        super().__init__(first, Target("parting"), limit)
        self.second, self.what, self.wording = second, what, wording

    def _run(self, case: Case) -> tuple[Hit | None, set[int]]:
        self.runs += 1
        self.left -= 2
        pair = Pair(case.config, self.driver, self.second, self.wording)
        idle, met, level = set[int](), list[Sequence[Any]](), 0
        for index, operation in enumerate(case.operations):
            outcome, difference = pair.apply(operation, True)
            met.append(outcome.fired)
            level = max(level, outcome.level)
            if difference is not None:
                if difference.what != self.what:
                    return None, idle
                seen = Violation("parting", difference.what, difference.first, "", (difference.what,))
                return Hit(Case(case.config, case.operations[: index + 1]), seen, level, tuple(met)), idle
            if not outcome.applied:
                idle.add(index)
        return None, idle


@dataclass(slots=True)
class Parting:
    """The first difference of two drivers: where a walk met it, what it is there, and the smallest trace that shows it."""

    seed: str
    number: int
    difference: Difference
    config: Configuration
    operations: list[ops.Operation]


def minimised(config: Configuration, operations: Sequence[ops.Operation], first: str, second: str, wording: bool, limit: int) -> Parting:
    """The smallest trace found on which two drivers part as they do on this one; raises ValueError if they do not part."""
    difference = compare(config, operations, first, second, wording)
    if difference is None:
        raise ValueError(f"{first} and {second} do the same")
    trials = _Partings(first, second, difference[1].what, wording, limit)
    hit = start(trials, config, operations)
    if hit is None:
        raise AssertionError("a comparison does not repeat")
    small = settle(trials, hit).case
    again = compare(small.config, small.operations, first, second, wording)
    assert again is not None
    return Parting("", again[0], again[1], small.config, list(small.operations))


def compare(
    config: Configuration, operations: Sequence[ops.Operation], first: str, second: str, wording: bool = True
) -> tuple[int, Difference] | None:
    """The number (from 0) of the first operation after which two drivers differ, and how; None if they do not."""
    pair = Pair(config, first, second, wording)
    for number, operation in enumerate(operations):
        difference = pair.apply(operation, True)[1]
        if difference is not None:
            return number, difference
    return None


# --- the search -----------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class Comparison:
    """What came of it: operations and runs that were compared, hypercalls in them, and the first difference."""

    operations: int = 0
    runs: int = 0
    hypercalls: int = 0
    kinds: dict[str, int] = field(default_factory=dict)
    parting: Parting | None = None


def equal(
    first: str,
    second: str,
    operations: int,
    seed: int = 0,
    *,
    wording: bool = True,
    limit: int = 1500,
    progress: Callable[[Comparison], None] | None = None,
) -> Comparison:
    """Compare two drivers over so many operations of the walk, or up to their first difference, which is minimised within
    ``limit`` runs. The walk of every other run goes by the second driver. Raises KeyError for an unknown driver."""
    done = Comparison()
    for text, profile, level, steps in runs(seed, 0, list(PROFILE_NAMES), list(range(len(LEVELS))), STEPS):
        if done.operations >= operations:
            break
        run = walk(text, (first, second)[done.runs % 2], profile, level, steps)
        pair = Pair(run.config, first, second, wording)
        last = len(run.operations) - 2
        for number, operation in enumerate(run.operations):
            outcome, difference = pair.apply(operation, number % TREES_EVERY == 0 or number == last)
            done.hypercalls += len(pair.worlds[0].seen)
            if difference is not None:
                done.parting = minimised(run.config, run.operations[: number + 1], first, second, wording, limit)
                done.parting.seed = text
                return done
            done.kinds[operation.kind] = done.kinds.get(operation.kind, 0) + outcome.applied
            done.operations += 1
        done.runs += 1
        if progress is not None:
            progress(done)
    return done


__all__ = ["Comparison", "Difference", "Pair", "Parting", "compare", "equal", "minimised"]
