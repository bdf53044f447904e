"""A run told operation by operation, as data: what was asked, what the driver did and was answered, what each view says.

``words.py`` turns it into lines, ``explain`` into pages, ``export`` into what other tools read.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from hvmodel.callers.books import DomainBook
from hvmodel.callers.watch import AttachCall, MapCall, UnmapCall
from hvmodel.hypervisor import abi
from hvmodel.hypervisor.abi import REP_CALLS, REP_COUNT_SHIFT, STATUS_MASK
from hvmodel.kernel.iommu import ERRNO_NAMES, Device
from hvmodel.operations import Lookup, Operation, Recover, Unmap, describe
from hvmodel.properties.verdicts import HypercallRecord, Violation
from hvmodel.traces.format import Trace
from hvmodel.traces.views import Views, views_of
from hvmodel.world import Outcome, World


@dataclass(frozen=True, slots=True)
class Hypercall:
    """One hypercall. ``fields`` are the decoded inputs that say something (no owner VTL, nothing reserved), ``reps`` the count of
    list elements asked for (None: not a rep call), ``start`` the element it begins at, ``done`` how many completed."""

    record: HypercallRecord
    name: str
    fields: tuple[tuple[str, int], ...]
    reps: int | None
    start: int
    status: int
    done: int | None

    @property
    def refused(self) -> bool:
        """Whether an injected fault decided the answer."""
        return self.record.refused

    @property
    def line(self) -> str:
        """``UNMAP_DEVICE_GPA_PAGES id 0x1, va_base 0x100000, reps 256 -> SUCCESS, 256 done``, and where a driver in C issued it."""
        parts = [f"{name} {value:#x}" for name, value in self.fields]
        if self.reps is not None:
            parts.append(f"reps {self.reps}")
            if self.start:
                parts.append(f"from {self.start}")
        at = f"  [{self.record.where}]" if self.record.where else ""
        return f"{self.name} {', '.join(parts)} -> {self.answer}{at}"

    @property
    def answer(self) -> str:
        """``SUCCESS, 256 done``, ``INVALID_PARAMETER (refused)``."""
        text = abi.status_name(self.status)
        if self.done is not None and (self.done or not self.status):
            text += f", {self.done} done"
        return text + (" (refused)" if self.refused else "")


@dataclass(slots=True)
class Call:
    """One call into the driver and what came of it. ``name`` is the op (``init`` for what runs outside of all ops), ``data`` what
    ``callers/watch.py`` tells of it, with raw values; ``result`` an errno or 0, bytes for unmap and lookup, None if it returns
    nothing."""

    name: str
    arguments: str
    answer: str
    result: int | None
    data: object = None
    hypercalls: list[Hypercall] = field(default_factory=list)
    log: list[tuple[str, str]] = field(default_factory=list)

    @property
    def line(self) -> str:
        """``unmap_pages(0x100000, 0x1000 x 16) = 0x10000``."""
        return f"{self.name}({self.arguments})" + (f" = {self.answer}" if self.answer else "")


@dataclass(slots=True)
class Step:
    """One operation as it went. ``number`` counts from 1; ``views`` is what each party says after it."""

    number: int
    operation: Operation
    outcome: Outcome
    calls: list[Call] = field(default_factory=list)
    views: Views = field(default_factory=Views)

    @property
    def headline(self) -> str:
        """What was asked and what was answered, in one line."""
        return f"{describe(self.operation)}  ->  {self.answer}"

    @property
    def answer(self) -> str:
        """What the caller was told: ``ok``, an errno, bytes."""
        return answer(self.operation, self.outcome)

    @property
    def log(self) -> list[tuple[str, str]]:
        """What the driver wrote to the kernel's log: (level, text)."""
        return [line for call in self.calls for line in call.log]

    def violation(self, name: str) -> Violation | None:
        """The first violation of a property at this step."""
        return next((v for v in self.outcome.violations if v.property == name), None)


def errno(value: int) -> str:
    """``-EIO`` for -5, ``0`` for 0."""
    return f"-{ERRNO_NAMES.get(-value, str(-value))}" if value < 0 else str(value)


def answer(operation: Operation, outcome: Outcome) -> str:
    """What the caller was told."""
    if not outcome.applied:
        return "does not apply" if outcome.result == 0 else f"the core refuses it ({errno(outcome.result)})"
    if isinstance(operation, Unmap):
        return f"{outcome.result:#x} bytes gone"
    if isinstance(operation, Lookup):
        return f"{outcome.result:#x}"
    if isinstance(operation, Recover):
        return "done"
    return "ok" if outcome.result == 0 else errno(outcome.result)


_SILENT = ("owner_vtl", "type", "target_vtl", "vtl", "caps", "pf_pci_rid")
"""Fields that are the same in every call that a driver of this kind makes."""


def hypercall(record: HypercallRecord) -> Hypercall:
    """Decode what the judge wrote down of a hypercall."""
    inputs: list[tuple[str, int]] = []
    layout = abi.LAYOUTS.get(record.code)
    if layout is not None:
        struct, names = layout
        for name, value in zip(names, struct.unpack_from(record.header), strict=True):
            own = name == "partition_id" and value == abi.HV_PARTITION_ID_SELF
            if not (own or name in _SILENT or name.startswith(("rsvd", "reserved"))):
                inputs.append((name.removeprefix("target_device_"), value))
    rep = record.code in REP_CALLS
    if record.code == abi.HVCALL_MAP_DEVICE_GPA_PAGES:
        at = abi.MAP_DEVICE_GPA_PAGES.size
        inputs.append(("gpa", int.from_bytes(record.header[at : at + 8], "little") << abi.PAGE_SHIFT))
    return Hypercall(
        record,
        abi.call_name(record.code),
        tuple(inputs),
        record.control >> REP_COUNT_SHIFT & 0xFFFF if rep else None,
        record.control >> 48 & 0xFFF if rep else 0,
        record.status & STATUS_MASK,
        record.completed if rep else None,
    )


class _Teller:
    """Collects the driver calls of one operation. A call is told of when it has returned, its hypercalls before."""

    def __init__(self, world: World) -> None:
        self.calls: list[Call] = []
        self._world = world
        self._pending: list[Hypercall] = []
        self._logged = 0

    def hear(self, what: str, data: object) -> None:
        if what == "hypercall":
            assert isinstance(data, HypercallRecord)
            self._pending.append(hypercall(data))
            return
        call = _call(what, data)
        if call is not None:
            self._add(call)

    def _add(self, call: Call) -> None:
        log = self._world.kernel.log
        call.hypercalls, self._pending = self._pending, []
        call.log, self._logged = log[self._logged :], len(log)
        self.calls.append(call)

    def end(self) -> list[Call]:
        """All calls; what belongs to none ran in the driver's init function, or in a call that did not end."""
        rest = Call("init" if not self.calls else "rest", "", "", None)
        self._add(rest)
        if not rest.hypercalls and not rest.log:
            self.calls.pop()
        return self.calls


def _call(what: str, data: object) -> Call | None:
    if isinstance(data, MapCall):
        told = "NULL" if data.mapped is None else hex(data.mapped)
        text = f"{data.iova:#x} -> {data.paddr:#x}, {data.pgsize:#x} x {_count(data)}"
        return Call("map_pages", text, f"{errno(data.ret)}, mapped {told}", data.ret, data)
    if isinstance(data, UnmapCall):
        return Call("unmap_pages", f"{data.iova:#x}, {data.pgsize:#x} x {_count(data)}", hex(data.answer), data.answer, data)
    if isinstance(data, AttachCall):
        old = data.old.name if data.old is not None else "none"
        return Call("attach_dev", f"{data.new.name}, {data.device.name}, old {old}", errno(data.ret), data.ret, data)
    if isinstance(data, DomainBook):
        return Call("free", data.name, "", None, data) if what == "freed" else None
    if isinstance(data, Device):
        return Call("release_device", data.name, "", None, data)
    if not isinstance(data, tuple):
        return None
    if what == "allocated":
        book, error = data
        text = f"{book.name} ({book.kind}, {book.place})" if book is not None else errno(error)
        return Call("domain_alloc_paging", "", text, 0 if book is not None else error, data)
    if what == "probed":
        return Call("probe_device", data[0].name, errno(data[1]), data[1], data)
    if what == "looked up":
        return Call("iova_to_phys", f"{data[1]:#x}", hex(data[2]), data[2], data)
    return None


def _count(call: MapCall | UnmapCall) -> int:
    return call.size // call.pgsize if call.pgsize else 0


def tell(trace: Trace, driver: str | None = None) -> tuple[list[Step], World]:
    """Run a trace and record every step. Raises KeyError for an unknown driver."""
    world = World(trace.config, driver or trace.driver)
    steps = []
    for step in telling(world, trace.operations):
        step.views = views_of(world)
        steps.append(step)
    return steps, world


def telling(world: World, operations: Sequence[Operation]) -> Iterator[Step]:
    """Apply operations to a world and tell each, without its views: they are large where many pages are mapped, and who needs them
    at some steps only takes ``views_of(world)`` there."""
    for number, operation in enumerate(operations, 1):
        teller = _Teller(world)
        world.judge.story = teller.hear
        outcome = world.apply(operation)
        yield Step(number, operation, outcome, teller.end())


def judged(steps: list[Step], name: str) -> tuple[int, Violation] | None:
    """The first step and violation of one property, or None."""
    for step in steps:
        violation = step.violation(name)
        if violation is not None:
            return step.number, violation
    return None


__all__ = ["Call", "Hypercall", "Step", "answer", "errno", "hypercall", "judged", "tell", "telling"]
