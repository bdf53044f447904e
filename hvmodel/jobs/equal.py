"""Equal: whether two drivers do the same, operation by operation: answers, hypercalls byte by byte, views, log, findings.

A walk on one of them gives the operations; both run them in worlds of their own, side by side, and are compared after each.
The first difference is minimised as a failure is, with "the two part" in place of a property.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

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

_WORDED = ("nothing-is-left", "context-is-balanced", "no-use-after-free", "no-out-of-bounds", "no-sleep-in-atomic")
"""Properties whose failures are told in names of the driver's own: structures, locks, what was accessed."""


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
    """Where two drivers part: ``what`` (answer, hypercalls, findings, refusals, reached, log, books, pointers, trees), and what
    each has there, in words."""

    what: str
    first: str
    second: str


Parts = list[tuple[str, Any]]


class Twin(Watched):
    """A world with another driver's world beside it, to which the same is done. ``parting`` is the first difference.

    Made by :func:`twin_of`, so that a walk can be walked in it. It is over once the two have parted.
    """

    other: ClassVar[str]
    wording: ClassVar[bool]
    """Whether log lines must be the same in their text, too."""
    thorough: ClassVar[bool]
    """Whether whole trees are compared after each operation."""

    def __init__(self, config: Configuration, driver: str) -> None:
        super().__init__(config, driver)
        self.twin = Watched(config, self.other)
        self.tried: list[ops.Operation] = []
        self.hypercalls = 0
        self.parting: Difference | None = None

    def apply(self, operation: ops.Operation) -> Outcome:
        """Do one operation in both worlds; the first one's outcome."""
        last = isinstance(operation, ops.Recover)
        if last and self.parting is None:
            self._compare([("trees", trees_of(self))], [("trees", trees_of(self.twin))])
        self.seen.clear()
        self.twin.seen.clear()
        outcome = super().apply(operation)
        beside = self.twin.apply(operation)
        self.tried.append(operation)
        trees = self.thorough or len(self.tried) % TREES_EVERY == 0
        if self.parting is None:
            self._compare(self._parts(self, outcome, trees), self._parts(self.twin, beside, trees))
        self.hypercalls += len(self.seen)
        self.over = self.over or self.parting is not None
        return outcome

    def _compare(self, mine: Parts, its: Parts) -> None:
        for one, other in zip(mine, its, strict=True):
            if one[1] != other[1]:
                self.parting = Difference(one[0], *_spelled(one[0], one[1], other[1]))
                return

    def _parts(self, world: Watched, outcome: Outcome, trees: bool) -> Parts:
        log = world.kernel.log if self.wording else [level for level, _ in world.kernel.log]
        found: Parts = [
            ("answer", (outcome.applied, outcome.result, outcome.level)),
            ("hypercalls", world.seen),
            ("refusals", [str(fault) for fault in outcome.fired]),
            ("reached", world.faults.reached),
            ("books", books_of(world)),
            ("pointers", pointers_of(world)),
        ]
        if trees:
            found.append(("trees", trees_of(world)))
        told = sorted((v.property, v.call, "" if v.property in _WORDED else repr(v.shape)) for v in outcome.violations)
        return [*found, ("log", log), ("findings", told)]


def twin_of(other: str, wording: bool, thorough: bool) -> type[Twin]:
    """A kind of world that has one with the driver ``other`` beside it."""
    return type("Twin", (Twin,), {"other": other, "wording": wording, "thorough": thorough})


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

    def __init__(self, first: str, kind: type[Twin], what: str, limit: int) -> None:
        super().__init__(first, Target("parting"), limit)
        self.kind, self.what = kind, what

    def _run(self, case: Case) -> tuple[Hit | None, set[int]]:
        self.runs += 1
        self.left -= 2
        world = self.kind(case.config, self.driver)
        idle, met, level = set[int](), list[Sequence[Any]](), 0
        for index, operation in enumerate(case.operations):
            outcome = world.apply(operation)
            met.append(outcome.fired)
            level = max(level, outcome.level)
            difference = world.parting
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
    """The first difference of two drivers: the walk that met it, what it is, and the smallest trace that ends in it."""

    seed: str
    difference: Difference
    config: Configuration
    operations: list[ops.Operation]


def difference(config: Configuration, operations: Sequence[ops.Operation], first: str, kind: type[Twin]) -> Difference | None:
    """How two drivers differ on a trace, at the first place where they do."""
    world = kind(config, first)
    for operation in operations:
        world.apply(operation)
        if world.parting is not None:
            break
    return world.parting


def minimised(
    config: Configuration, operations: Sequence[ops.Operation], first: str, second: str, wording: bool = True, limit: int = 1500
) -> Parting | None:
    """The smallest trace found within ``limit`` runs on which two drivers part as they do on this one; None if they do not."""
    kind = twin_of(second, wording, True)
    found = difference(config, operations, first, kind)
    if found is None:
        return None
    trials = _Partings(first, kind, found.what, limit)
    hit = start(trials, config, operations)
    assert hit is not None
    small = settle(trials, hit).case
    return Parting("", difference(small.config, small.operations, first, kind) or found, small.config, list(small.operations))


# --- the search -----------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class Comparison:
    """What came of it: operations, runs and hypercalls that were compared, and the first difference."""

    operations: int = 0
    runs: int = 0
    hypercalls: int = 0
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
    ``limit`` runs. Raises KeyError for an unknown driver."""
    done = Comparison()
    kind = twin_of(second, wording, False)
    for text, profile, level, steps in runs(seed, 0, list(PROFILE_NAMES), list(range(len(LEVELS))), STEPS):
        if done.operations >= operations:
            break
        run = walk(text, first, profile, level, steps, make=kind)
        world = run.world
        assert isinstance(world, Twin)
        done.operations += len(run.operations)
        done.hypercalls += world.hypercalls
        done.runs += 1
        if world.parting is not None:
            done.parting = minimised(run.config, world.tried, first, second, wording, limit)
            if done.parting is None:
                raise AssertionError(f"a comparison does not repeat: seed {text}, {world.parting}")
            done.parting.seed = text
            return done
        if progress is not None:
            progress(done)
    return done


__all__ = ["Comparison", "Difference", "Parting", "Twin", "equal", "minimised", "twin_of"]
