"""What a driver costs in an ordinary life: hypercalls, reps, how long interrupts are off, deposits, allocations."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from hvmodel import operations as ops
from hvmodel.configuration import Configuration
from hvmodel.faults import KZALLOC
from hvmodel.hypervisor.abi import HVCALL_DEPOSIT_MEMORY, call_name
from hvmodel.jobs.compare.lives import BEGINNING, DIRECT, GIB, LIFE, MEMORIES, START, TO_SPARE, Memory
from hvmodel.kernel.services import Cpu
from hvmodel.properties.catalogue import PROPERTIES
from hvmodel.properties.verdicts import HypercallRecord
from hvmodel.traces.story import answer
from hvmodel.world import Outcome, World

FIGURES = ("hypercalls", "reps", "longest", "deposits", "deposited", "allocations")
"""What is measured of each part of a life: hypercalls; list elements done by rep hypercalls; the most of those done in one go
without interrupts going on; deposits; pages deposited; slab allocations."""


@dataclass(slots=True)
class Cost:
    """What one part of a life cost. ``failed`` is the first answer that was not what was wished for, or the property that a map or
    unmap failed: the figures are of what was done up to there and compare with nothing. ``share`` is the part of 1 GiB that was
    mapped (0: not measured by size)."""

    name: str
    share: float = 0.0
    hypercalls: int = 0
    reps: int = 0
    longest: int = 0
    deposits: int = 0
    deposited: int = 0
    allocations: int = 0
    by_name: Counter[str] = field(default_factory=Counter)
    failed: str = ""

    def figure(self, name: str) -> int:
        """One figure of :data:`FIGURES`, per GiB where the part is measured by size; the longest stretch is what it is."""
        value: int = getattr(self, name)
        return value if name == "longest" or not self.share else round(value / self.share)

    @property
    def figures(self) -> tuple[int, ...]:
        """All of them, in order."""
        return tuple(map(self.figure, FIGURES))


class _MeteredCpu(Cpu):
    """A CPU that counts how often interrupts go on."""

    __slots__ = ("_off", "opened")

    def __init__(self, like: Cpu) -> None:
        self._off, self.opened = False, 0
        super().__init__()
        self.input_page, self.output_page, self.tgid = like.input_page, like.output_page, like.tgid

    @property
    def irqs_off(self) -> bool:
        return self._off

    @irqs_off.setter
    def irqs_off(self, value: bool) -> None:
        self.opened += self._off and not value
        self._off = value


class Meter:
    """Counts what happens in a world between two readings."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._cpu = _MeteredCpu(world.kernel.cpu)
        world.kernel.cpu = self._cpu
        world.judge.story = self._hear
        self._cost = Cost("")
        self._stretch, self._opened, self._allocated = 0, 0, 0

    def _hear(self, what: str, data: object) -> None:
        if what == "hypercall":
            assert isinstance(data, HypercallRecord)
            self._count(data)
        elif what == "call":
            self._opened = -1  # whatever the driver does, its caller had interrupts on

    def _count(self, record: HypercallRecord) -> None:
        cost = self._cost
        cost.hypercalls += 1
        cost.by_name[call_name(record.code)] += 1
        cost.reps += record.completed
        if record.code == HVCALL_DEPOSIT_MEMORY:
            cost.deposits += 1
            cost.deposited += record.completed
        opened = self._cpu.opened + getattr(self._world.driver, "interrupts_on", 0)  # a driver in C does it in its image
        self._stretch = record.completed + (self._stretch if self._opened == opened else 0)
        self._opened = opened
        cost.longest = max(cost.longest, self._stretch)

    def part(self, name: str, operations: Iterable[ops.Operation], share: float = 0.0) -> Cost:
        """Apply operations and return what they cost; stops at the first that is not answered as wished."""
        self._cost = cost = Cost(name, share)
        before = self._world.faults.reached.get(KZALLOC, 0)
        for operation in operations:
            outcome = self._world.apply(operation)
            cost.failed = self._failure(operation, outcome)
            if cost.failed:
                break
        cost.allocations = self._world.faults.reached.get(KZALLOC, 0) - before
        return cost

    def _failure(self, operation: ops.Operation, outcome: Outcome) -> str:
        """Why an operation has not done what it is there for; empty if it has. An unmap that leaves pages mapped is cheap."""
        if self._world.over:
            return f"{operation.kind} does not end"
        wished = operation.pages << 12 if isinstance(operation, ops.Unmap) else 0
        if not outcome.applied or outcome.result != wished:
            return f"{operation.kind}: {answer(operation, outcome)}"
        if isinstance(operation, ops.Map | ops.Unmap):
            worst = min((PROPERTIES[one.property] for one in outcome.violations), key=lambda prop: prop.rank, default=None)
            if worst is not None and worst.severity in ("isolation", "memory", "availability"):
                return f"{operation.kind} fails {worst.id}"
        return ""


# --- the measurements ---------------------------------------------------------------------------------------------------------

Measured = dict[str, list[Cost]]
"""By the name of a life, the cost of its parts. A life that fails ends with the part that does."""

LIVES: dict[str, Memory | None] = {**{memory.name: memory for memory in MEMORIES}, "VM life": None, "VM life, direct attach": None}
"""The lives that are measured, and what each of them maps (None: a whole life of a VM)."""


def measure(driver: str, names: Iterable[str] = LIVES, to_spare: bool = False) -> Measured:
    """What a driver costs in lives of :data:`LIVES`. ``to_spare``: the hypervisor has memory for everything. Raises KeyError for an
    unknown driver."""
    pool = TO_SPARE if to_spare else 0
    found: Measured = {}
    for name in names:
        memory = LIVES[name]
        if memory is not None:
            found[name] = _mapping(driver, memory, replace(START, root_pool=pool))
        else:
            config = replace(DIRECT if "direct" in name else START, root_pool=pool)
            found[name] = [Meter(World(config, driver)).part(name, LIFE)]
    return found


def _mapping(driver: str, memory: Memory, config: Configuration) -> list[Cost]:
    """Map, unmap in one; where there are several runs, map again and unmap run by run."""
    share = memory.pages / GIB
    meter = Meter(World(config, driver))
    begun = meter.part("", BEGINNING)
    if begun.failed:
        return [Cost(f"map {memory.name}", share, failed=begun.failed)]
    mapped = meter.part(f"map {memory.name}", memory.maps(), share)
    if mapped.failed:
        return [mapped]
    several = memory.runs > 1
    found = [mapped, meter.part(f"unmap {memory.name}{', at once' if several else ''}", memory.unmaps(False), share)]
    if several:
        meter = Meter(World(config, driver))
        for operations in (BEGINNING, memory.maps()):
            meter.part("", operations)
        found.append(meter.part(f"unmap {memory.name}, each", memory.unmaps(True), share))
    return found


@dataclass(frozen=True, slots=True)
class CostPair:
    """One part of a life on both drivers. ``to_spare``: measured where the hypervisor has memory for everything, because one of
    them fails where it has none."""

    a: Cost
    b: Cost
    to_spare: bool = False

    @property
    def name(self) -> str:
        """The part's name."""
        return self.a.name

    @property
    def comparable(self) -> bool:
        """Whether both did it all."""
        return not (self.a.failed or self.b.failed)

    @property
    def same(self) -> bool:
        """Whether both cost the same, or fail in the same way."""
        return self.a.figures == self.b.figures and self.a.by_name == self.b.by_name and self.a.failed == self.b.failed

    @property
    def growth(self) -> float:
        """How much more B costs in the figure that grows most: 2.0 for twice as much."""
        if not self.comparable:
            return 0.0
        return max((mine + 1) / (theirs + 1) for theirs, mine in zip(self.a.figures, self.b.figures, strict=True))


def failing(measured: Measured) -> set[str]:
    """The lives that a driver does not get through."""
    return {name for name, parts in measured.items() if any(part.failed for part in parts)}


def paired(a: Measured, b: Measured, to_spare: bool = False) -> list[CostPair]:
    """The parts of each life that both have; where one failed, the part in which it did."""
    found = []
    for name, parts in a.items():
        for mine, theirs in zip(parts, b[name], strict=False):
            found.append(CostPair(mine, theirs, to_spare))
    return found


__all__ = ["FIGURES", "LIVES", "Cost", "CostPair", "Measured", "Meter", "failing", "measure", "paired"]
