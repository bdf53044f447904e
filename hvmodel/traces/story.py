"""A run told operation by operation: what was asked, what the driver did, what each view says where they differ."""

from __future__ import annotations

from dataclasses import dataclass, field

from hvmodel.callers.books import LIMBO, PAGE_END, DomainBook
from hvmodel.callers.levels import LEVELS
from hvmodel.callers.watch import AttachCall, MapCall, UnmapCall
from hvmodel.hypervisor import abi
from hvmodel.hypervisor.abi import REP_CALLS, REP_COUNT_SHIFT, STATUS_MASK
from hvmodel.kernel.iommu import ERRNO_NAMES, Device
from hvmodel.operations import Boot, Kexec, Lookup, Operation, Recover, Unmap, describe
from hvmodel.properties.verdicts import HypercallRecord, Violation
from hvmodel.ranges import merged
from hvmodel.traces.format import Trace
from hvmodel.world import Outcome, World

MAX_LINES = 12
"""Driver calls and hypercalls shown for one operation; the rest is counted."""


@dataclass(slots=True)
class Step:
    """One operation as it went."""

    number: int
    operation: Operation
    outcome: Outcome
    calls: list[str] = field(default_factory=list)
    log: list[str] = field(default_factory=list)
    views: list[str] = field(default_factory=list)

    @property
    def headline(self) -> str:
        """What was asked and what was answered, in one line."""
        return f"{describe(self.operation)}  ->  {answer(self.operation, self.outcome)}"


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


def hypercall_line(record: HypercallRecord) -> str:
    """``UNMAP_DEVICE_GPA_PAGES id 0x1, va 0x100000, reps 256 -> SUCCESS, 256 done``."""
    layout = abi.LAYOUTS.get(record.code)
    parts: list[str] = []
    if layout is not None:
        struct, names = layout
        for name, value in zip(names, struct.unpack_from(record.header), strict=True):
            if name in ("partition_id", "owner_vtl", "type", "target_vtl", "vtl", "caps", "pf_pci_rid") or name.startswith(
                ("rsvd", "reserved")
            ):
                if not (name == "partition_id" and value != abi.HV_PARTITION_ID_SELF):
                    continue
            parts.append(f"{name.removeprefix('target_device_')} {value:#x}")
    if record.code in REP_CALLS:
        parts.append(f"reps {record.control >> REP_COUNT_SHIFT & 0xFFFF}")
        start = record.control >> 48 & 0xFFF
        if start:
            parts.append(f"from {start}")
    result = abi.status_name(record.status)
    if record.code in REP_CALLS and (record.completed or not record.status & STATUS_MASK):
        result += f", {record.completed} done"
    if record.refused:
        result += " (refused)"
    return f"{abi.call_name(record.code)} {', '.join(parts)} -> {result}"


class _Teller:
    """Collects the driver calls of one operation as lines."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.pending: list[str] = []

    def hear(self, what: str, data: object) -> None:
        if what == "hypercall":
            assert isinstance(data, HypercallRecord)
            self.pending.append("    " + hypercall_line(data))
            return
        text: str | None = None
        if isinstance(data, MapCall):
            count = data.size // data.pgsize if data.pgsize else 0
            told = "NULL" if data.mapped is None else hex(data.mapped)
            text = f"map_pages({data.iova:#x} -> {data.paddr:#x}, {data.pgsize:#x} x {count}) = {errno(data.ret)}, mapped {told}"
        elif isinstance(data, UnmapCall):
            count = data.size // data.pgsize if data.pgsize else 0
            text = f"unmap_pages({data.iova:#x}, {data.pgsize:#x} x {count}) = {data.answer:#x}"
        elif isinstance(data, AttachCall):
            old = data.old.name if data.old is not None else "none"
            text = f"attach_dev({data.new.name}, {data.device.name}, old {old}) = {errno(data.ret)}"
        elif what == "allocated" and isinstance(data, tuple):
            book, error = data
            text = "domain_alloc_paging() = " + (f"{book.name} ({book.kind}, {book.place})" if book is not None else errno(error))
        elif what == "freed" and isinstance(data, DomainBook):
            text = f"free({data.name})"
        elif what == "released" and isinstance(data, Device):
            text = f"release_device({data.name})"
        elif what == "probed" and isinstance(data, tuple):
            text = f"probe_device({data[0].name}) = {errno(data[1])}"
        if text is not None:
            self.lines.append("  " + text)
            self.lines += self.pending
            self.pending = []


def _page_views(world: World, book: DomainBook) -> list[str]:
    """Where caller, driver and hypervisor say different things about a domain's pages."""
    held = [(run.start, run.end, run.frame) for run in book.pages if not run.tag & LIMBO]
    tree = world.judge._tree(book, 0, PAGE_END)
    table: list[tuple[int, int, int]] | None = None
    if book.kind == "device":
        domain = world.hypervisor.domains.get(book.hv_id or 0)
        table = [(run.start, run.end, run.frame) for run in domain.table] if domain is not None else []
    views = {"caller": merged(held)}
    if tree is not None:
        views["driver"] = merged(tree)
    if table is not None:
        views["hypervisor"] = merged(table)
    if all(view == views["caller"] for view in views.values()):
        return []
    lines = [f"{book.name}:"]
    for name, view in views.items():
        shown = ", ".join(f"[{s << 12:#x}, {(e << 12) - 1:#x}] -> {f << 12:#x}" for s, e, f in view[:4]) or "nothing"
        lines.append(f"  {name:<10} {shown}" + (f" and {len(view) - 4} more" if len(view) > 4 else ""))
    limbo = [run for run in book.pages if run.tag & LIMBO]
    if limbo:
        lines.append(f"  {'limbo':<10} " + ", ".join(f"[{r.start << 12:#x}, {(r.end << 12) - 1:#x}]" for r in limbo[:4]))
    return lines


def _device_views(world: World) -> list[str]:
    lines = []
    for book in world.books.devices:
        device = book.device
        believed = world.books.current(device.group) if device.group is not None else None
        pointer = world.driver.pointer_domain(device)
        named = world.books.of_domain.get(pointer) if pointer is not None else None
        place = world.hypervisor.place(book.key)
        agree = (believed is None or believed.place == place) and (pointer is None or (named is not None and named.place == place))
        if agree:
            continue
        thinks = "NULL" if pointer is None else "a freed domain" if named is None else named.name
        caller = f"{believed.name} ({believed.place})" if believed is not None else "released"
        lines.append(f"{device.name}: caller {caller}; driver {thinks}; hypervisor {place}")
    for domain in world.books.of_domain.values():
        count = world.driver.attach_count(domain.domain)
        if count is None or domain.kind == "direct":
            continue
        has = sum(
            world.hypervisor.place(b.key) == domain.place for b in world.books.devices if b.device.group is not None and b.known
        )
        if count != has and not (world.config.l1vh and domain.kind == "identity" and count == 0):
            lines.append(f"{domain.name}: driver counts {count} attached, hypervisor {has}")
    return lines


def views(world: World) -> list[str]:
    """What the three views say where they differ; nothing where they agree."""
    if world.core.ops is None:
        return []
    lines: list[str] = []
    for book in world.books.of_domain.values():
        if book.kind in ("device", "direct"):
            lines += _page_views(world, book)
    return lines + _device_views(world)


def tell(trace: Trace, driver: str | None = None) -> tuple[list[Step], World]:
    """Run a trace and record every step. Raises KeyError for an unknown driver."""
    world = World(trace.config, driver or trace.driver)
    steps: list[Step] = []
    shown: list[str] = []
    for number, operation in enumerate(trace.operations, 1):
        teller = _Teller()
        world.judge.story = teller.hear
        outcome = world.apply(operation)
        step = Step(number, operation, outcome, teller.lines + teller.pending)
        if isinstance(operation, Boot | Kexec) and not outcome.fired and not outcome.violations:
            step.calls = []
        if len(step.calls) > MAX_LINES:
            step.calls = [*step.calls[:MAX_LINES], f"  ... and {len(step.calls) - MAX_LINES} more lines"]
        if outcome.applied:
            step.log = [f"{level}: {text}" for level, text in world.kernel.log if level != "info"][:4]
            now = views(world)
            if now != shown:
                step.views = now
                shown = now
        steps.append(step)
    return steps, world


def judged(steps: list[Step], name: str) -> tuple[int, Violation] | None:
    """The first step and violation of one property, or None."""
    for step in steps:
        for violation in step.outcome.violations:
            if violation.property == name:
                return step.number, violation
    return None


__all__ = ["LEVELS", "Step", "answer", "errno", "hypercall_line", "judged", "tell", "views"]
