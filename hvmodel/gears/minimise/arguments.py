"""Simpler arguments: kinds of operation, words, numbers, refusals, and names from 1."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from hvmodel import operations as ops
from hvmodel.faults import KERNEL_SITES, Fault
from hvmodel.gears.minimise.layout import smaller_number
from hvmodel.gears.minimise.trial import Case, Hit, Trials
from hvmodel.gears.minimise.weight import FAILED, FIRST, FRAME, SECOND, SHORT
from hvmodel.rules.refusals import ANSWERS, SHORTAGES

_STATUSES = (FAILED, SHORT, *sorted({*ANSWERS, *SHORTAGES} - {FAILED, SHORT}))
_COUNTS = (("runs", 1), ("run_pages", 1), ("stride", 0), ("pgcount", 0), ("gap", 0))
_WORDS = (
    ("prot", "rw"), ("gfp", "kernel"), ("mapped", True), ("pgsize", 0x1000), ("by", 0), ("by", 1), ("probe", False),
    ("mmio", False), ("small", False), ("short", False), ("hwpt", 0), ("piece", 0),
)  # fmt: skip
_NAMES = (("domain", "domain"), ("vm", "vm"), ("by", "vm"), ("container", "container"), ("ioas", "ioas"), ("hwpt", "hwpt"))


def changed(case: Case, index: int, operation: ops.Operation) -> Case:
    """The case with another operation in place of one."""
    return Case(case.config, (*case.operations[:index], operation, *case.operations[index + 1 :]))


def plainer_kinds(case: Case) -> Iterator[Case]:
    """An operation as a more ordinary one that does about the same."""
    for index, operation in enumerate(case.operations):
        for other in _ordinary(operation):
            yield changed(case, index, replace(other, faults=operation.faults))


def _ordinary(operation: ops.Operation) -> Iterator[ops.Operation]:
    match operation:
        case ops.MapScattered(domain=domain, iova=iova, paddr=paddr, runs=runs, run_pages=size):
            yield ops.Map(domain, iova, paddr, runs * size)
            yield ops.Map(domain, iova, paddr, size)
        case ops.Replace(domain=domain, group=group, by=by):
            yield ops.Attach(domain, group, by)
        case ops.DriverMap(domain=domain, iova=iova, paddr=paddr, pgsize=size, pgcount=count):
            yield ops.Map(domain, iova, paddr, min(max(size * count >> 12, 1), 512))
        case ops.DriverUnmap(domain=domain, iova=iova, pgsize=size, pgcount=count):
            yield ops.Unmap(domain, iova, min(max(size * count >> 12, 1), 512))
        case ops.Unplug(device=device):
            yield ops.Release(device)
        case ops.VmFinalise(vm=vm):
            yield ops.VmDelete(vm)
        case ops.Disown(group=group, by=by):
            yield ops.Detach(group, by)


def plainer_words(case: Case) -> Iterator[Case]:
    """Protections, flags and threads as usual, one after another."""
    for index, operation in enumerate(case.operations):
        for name, plain in _WORDS:
            value = getattr(operation, name, plain)
            if value != plain and not (name == "by" and not value):
                yield changed(case, index, _with(operation, **{name: plain}))


def plainer_addresses(case: Case) -> Iterator[Case]:
    """Frames and addresses, one after another: the usual ones, whole pages, as the address is aligned."""
    for index, operation in enumerate(case.operations):
        iova, paddr = getattr(operation, "iova", None), getattr(operation, "paddr", None)
        if iova is not None:
            for value in (FIRST, SECOND, 0, iova & ~0xFFF, iova % FIRST + FIRST):
                yield changed(case, index, _with(operation, iova=value))
        if paddr is not None and iova is not None:
            low, top = iova % FIRST, 1 << max(paddr.bit_length() - 1, 0)
            for value in (base + rest for base in (FRAME, top) for rest in (0, 0x1000, low, paddr % FIRST)):
                yield changed(case, index, _with(operation, paddr=value))


def smaller_counts(trials: Trials, best: Hit) -> Hit:
    """Counts that are no part of the layout, each as small as it gets; for scattered memory the unmaps of the same range follow."""
    count = len(best.case.operations)
    for index, operation in enumerate(best.case.operations):
        for name, least in _COUNTS:
            if len(best.case.operations) != count:
                return best
            value = getattr(best.case.operations[index], name, None)
            if value is None or value <= least:
                continue

            def make(case: Case, number: int, index: int = index, name: str = name) -> Case | None:
                return _counted(case, index, name, number)

            best = smaller_number(trials, best, value, least, make)
        if len(best.case.operations) == count and isinstance(operation, ops.RANGES) and operation.pages > 1:

            def resize(case: Case, number: int, index: int = index) -> Case | None:
                return changed(case, index, _with(case.operations[index], pages=number))

            best = smaller_number(trials, best, operation.pages, 1, resize)
    return best


def _counted(case: Case, index: int, name: str, number: int) -> Case:
    operation = case.operations[index]
    smaller = _with(operation, **{name: number})
    if not isinstance(operation, ops.MapScattered) or name == "stride":
        return changed(case, index, smaller)
    before, after = operation.runs * operation.run_pages, smaller.runs * smaller.run_pages
    if name == "run_pages":  # the distance between the pieces stays
        smaller = _with(smaller, stride=max(operation.stride - operation.run_pages + number, 0))
    follow = [
        _with(other, pages=after)
        if isinstance(other, ops.Unmap) and (other.domain, other.iova, other.pages) == (operation.domain, operation.iova, before)
        else other
        for other in case.operations
    ]
    return changed(Case(case.config, tuple(follow)), index, smaller)


def _with(operation: ops.Operation, **changes: Any) -> Any:
    return replace(operation, **changes)


def _refused(case: Case, index: int, place: int, fault: Fault) -> Case:
    """The case with another refusal in place of one."""
    faults = case.operations[index].faults
    return changed(case, index, replace(case.operations[index], faults=(*faults[:place], fault, *faults[place + 1 :])))


def plainer_faults(case: Case) -> Iterator[Case]:
    """Refusals one after another: plain at once, then arrival, duration, status, elements done."""
    for index, operation in enumerate(case.operations):
        for place, fault in enumerate(operation.faults):
            for other in _plainer(fault):
                if other != fault:
                    yield _refused(case, index, place, other)


def brief_faults(case: Case) -> Iterator[Case]:
    """All refusals once only, then one after another: a refusal that lasts makes every further trial long."""
    if any(fault.times != 1 for operation in case.operations for fault in operation.faults):
        once = (replace(op, faults=tuple(replace(fault, times=1) for fault in op.faults)) for op in case.operations)
        yield Case(case.config, tuple(once))
    for index, operation in enumerate(case.operations):
        for place, fault in enumerate(operation.faults):
            if fault.times != 1:
                yield _refused(case, index, place, replace(fault, times=1))


def _plainer(fault: Fault) -> Iterator[Fault]:
    kernel = fault.site in KERNEL_SITES
    if kernel:
        yield Fault(fault.site)
    else:
        yield Fault(fault.site, 1, FAILED)
        yield Fault(fault.site, 1, SHORT)
    if fault.times != 1:
        yield replace(fault, times=1)
        yield replace(fault, times=2)
        yield replace(fault, times=3)
    for nth in range(1, min(fault.nth, 4)):
        yield replace(fault, nth=nth)
    if fault.nth > 1:
        yield replace(fault, nth=fault.nth // 2)
        yield replace(fault, nth=fault.nth - 1)
    if not kernel and fault.status != FAILED:
        for status in _STATUSES:
            if status == fault.status:
                break
            yield replace(fault, status=status)


def fewer_done(trials: Trials, best: Hit) -> Hit:
    """How many elements of a refused call take effect, as few as will do."""
    count = len(best.case.operations)
    for index, operation in enumerate(best.case.operations):
        for place in range(len(operation.faults)):
            if len(best.case.operations) != count:
                return best  # an operation that does nothing any more is gone; the next round goes on with what is left

            def make(case: Case, number: int, index: int = index, place: int = place) -> Case | None:
                return _refused(case, index, place, replace(case.operations[index].faults[place], done=number))

            best = smaller_number(trials, best, best.case.operations[index].faults[place].done, 0, make)
    return best


def renumbered(case: Case) -> Iterator[Case]:
    """Domains, VMs, containers and the like numbered from 1, in order of appearance."""
    names: dict[str, dict[int, int]] = {"domain": {}, "vm": {0: 0}, "container": {}, "ioas": {}, "hwpt": {0: 0}}
    result = []
    for operation in case.operations:
        changes: dict[str, int] = {}
        for name, kind in _NAMES:
            value = getattr(operation, name, None)
            if value is not None:
                known = names[kind]
                changes[name] = known.setdefault(value, len(known) + (0 not in known))
        result.append(_with(operation, **changes) if changes else operation)
    yield Case(case.config, tuple(result))


__all__ = [
    "brief_faults",
    "changed",
    "fewer_done",
    "plainer_addresses",
    "plainer_faults",
    "plainer_kinds",
    "plainer_words",
    "renumbered",
    "smaller_counts",
]
