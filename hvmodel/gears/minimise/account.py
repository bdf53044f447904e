"""What a failing run says about its own operations: which refusals each of them really met, and which of them matter most."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from hvmodel import operations as ops
from hvmodel.faults import Fault
from hvmodel.gears.minimise.trial import Case, Hit

_HANDLES = (
    ("domain", "domain"), ("group", "group"), ("vm", "vm"), ("by", "vm"), ("container", "container"), ("ioas", "ioas"),
    ("hwpt", "hwpt"),
)  # fmt: skip

Handle = tuple[str, int]
"""A domain, a group or a VM: ("domain", 3). A device counts as its group."""


def handles(operation: ops.Operation, case: Case) -> set[Handle]:
    """What an operation names."""
    found = {(kind, value) for name, kind in _HANDLES if (value := getattr(operation, name, None)) is not None}
    device = getattr(operation, "device", None)
    if device is not None and device < len(case.config.devices):
        found.add(("group", case.config.devices[device].group))
    found.discard(("vm", 0))
    return found


def localised(hit: Hit) -> tuple[ops.Operation, ...]:
    """The operations, each with the refusals that it met and no others: a refusal that lasts becomes one of each operation in which
    it decided an answer, one that was never reached is gone."""
    result = []
    for operation, fired in zip(hit.case.operations, hit.met, strict=True):
        faults: tuple[Fault, ...] = ()
        for fault, count in Counter(fired).items():
            own = fault in operation.faults
            faults += (replace(fault, nth=fault.nth if own else 1, times=count if count <= 3 else None),)
        result.append(operation if faults == operation.faults else replace(operation, faults=faults))
    return tuple(result)


def span(operation: ops.Operation) -> tuple[int, int] | None:
    """The pages that an operation names, as first and end; None if it names none."""
    iova: int | None = getattr(operation, "iova", None)
    if iova is None:
        return None
    pages = getattr(operation, "pages", 1)
    if isinstance(operation, ops.MapScattered):
        pages = operation.runs * operation.run_pages
    elif isinstance(operation, ops.DriverMap | ops.DriverUnmap):
        pages = operation.pgsize * operation.pgcount >> 12
    return iova >> 12, (iova >> 12) + max(pages, 1)


NEAR = 512
"""Pages between two ranges that may still have to do with each other: 2 MiB."""


def ranked(operations: Sequence[ops.Operation], hit: Hit) -> list[int]:
    """The numbers of the operations before the last one, the most relevant first: what overlaps the failing operation's pages, was
    refused, moves its groups, is near its pages, shares a handle with it; the later the better."""
    case, last = hit.case, operations[-1]
    wanted = handles(last, case)
    wanted |= {("domain", int(number)) for number in re.findall(r"domain (\d+)", hit.violation.subject)}
    for number, function in enumerate(case.config.devices):
        if function.name in hit.violation.subject:
            wanted |= handles(ops.Reset(number), case)
    for operation in operations if last.kind != "recover" else ():  # who made a domain or owns a group acts for it
        if operation.kind in ("alloc", "claim", "attach", "replace") and handles(operation, case) & wanted:
            wanted |= {handle for handle in handles(operation, case) if handle[0] != "domain" or operation.kind != "alloc"}
    target = span(last)
    scores: list[tuple[float, int]] = []
    for index, operation in enumerate(operations[:-1]):
        if isinstance(operation, ops.Boot) and not operation.faults:
            continue
        shared = handles(operation, case) & wanted
        pages, refused = span(operation), bool(operation.faults)
        if pages is None:
            score = 2.0 * refused + (0 if not shared else 2 if any(kind in ("domain", "group") for kind, _ in shared) else 1)
        elif target is None:  # a move or an end: what is mapped matters less than where things are
            score = 0.5 * refused + bool(shared)
        elif shared and ("domain", getattr(operation, "domain", 0)) in wanted:
            apart = max(pages[0] - target[1], target[0] - pages[1])
            score = 2.0 * refused + (3 if apart < 0 else 2 if apart == 0 else 1.5 if apart < NEAR else 1)
        else:
            score = 2.0 * refused + bool(shared)
        scores.append((-score, -index))
    return [-index for _, index in sorted(scores)]


def closed(operations: Sequence[ops.Operation], chosen: set[int]) -> tuple[ops.Operation, ...]:
    """The chosen operations and the last one, with what they cannot do without: a boot, the allocation of each domain and the VM of
    each thread that they name; in order."""
    kept = {*chosen, len(operations) - 1}
    booted = False
    needed: set[Handle] = set()
    for index in range(len(operations) - 1, -1, -1):
        operation = operations[index]
        if index not in kept:
            makes = (
                (isinstance(operation, ops.Alloc) and ("domain", operation.domain) in needed)
                or (isinstance(operation, ops.VmCreate) and ("vm", operation.vm) in needed)
                or isinstance(operation, ops.Boot)
            )
            if not makes:
                continue
            kept.add(index)
        booted = booted or isinstance(operation, ops.Boot)
        for name, kind in _HANDLES:
            value = getattr(operation, name, 0)
            if value and kind in ("domain", "vm"):
                needed.add((kind, value))
    return tuple(operations[index] for index in sorted(kept))


__all__ = ["Handle", "closed", "handles", "localised", "ranked", "span"]
