"""Which known defect a finding is an instance of: the variants whose one defect fails the finding's trace in the same property."""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from functools import cache
from itertools import product
from typing import Any

from hvmodel.drivers import REGISTRY, DriverEntry
from hvmodel.drivers.variants import VARIANTS
from hvmodel.faults import Fault
from hvmodel.jobs.findings import Finding, Group
from hvmodel.operations import Operation
from hvmodel.world import World

COMPANIONS: tuple[tuple[str, ...], ...] = (
    (),
    ("repaired+D68",),
    ("repaired+D58",),
    ("repaired+D58", "repaired+D68"),
    ("repaired+D55", "repaired+D68"),
    ("repaired+D01",),
    ("repaired+D20",),
    ("repaired+D29",),
)
"""What a variant is held against a trace together with. A trace of the posted driver mostly begins with what that does in every
run: it offers no blocking domain, so the core makes one up; it detaches before it attaches; it takes devices from the guest of
the running thread; its larger maps fail; it unmaps whole nodes and does not look whether that worked. Alone comes first."""

SHOWN = 3
"""How many findings of one cause are named, the best first."""


def steadfast(operations: list[Operation]) -> list[Operation]:
    """The same operations with every fault at the first place that it can be, for three answers at least.

    A driver that tries again, or goes another way, meets the refusal all the same; so two drivers that ask in a different order can
    be held against one trace.
    """

    def lasting(fault: Fault) -> Fault:
        return replace(fault, nth=1, times=3 if fault.times == 1 else fault.times)

    return [replace(operation, faults=tuple(map(lasting, operation.faults))) for operation in operations]


@cache
def together(names: tuple[str, ...]) -> DriverEntry:
    """A driver with the defects of several variants; ``repaired`` if there are none."""
    if len(names) < 2:
        return REGISTRY[names[0] if names else "repaired"]
    bases = list(dict.fromkeys(VARIANTS[name] for name in names))
    made: Any = type("Together", tuple(bases), {"name": "+".join(names)})
    return DriverEntry(made.name, "", made)


def fails(finding: Finding, names: tuple[str, ...], operations: list[Operation]) -> int:
    """Whether ``repaired`` with the defects of these variants fails the finding's property at the end of these operations: 0 no, 1
    in the same driver call, 2 in the same manner, too."""
    world = World(finding.config, together(names))
    mine = [violation for operation in operations[:-1] for violation in world.apply(operation).violations]
    if any(violation.property == finding.property_id for violation in mine):
        return 0  # it fails that anyhow
    wanted = finding.minimised.violation
    alike = [v for v in world.apply(operations[-1]).violations if (v.property, v.call) == (wanted.property, wanted.call)]
    return 2 if any(v.shape == wanted.shape for v in alike) else 1 if alike else 0


def _attempts(finding: Finding) -> Iterator[tuple[tuple[str, ...], list[Operation]]]:
    lasting = steadfast(finding.operations)
    ways = [finding.operations] if lasting == finding.operations else [finding.operations, lasting]
    yield from product(COMPANIONS, ways)


def defects_of(finding: Finding) -> tuple[str, ...]:
    """The defects of the variants that fail the finding's trace: alone if any does, else with the companions of
    :data:`COMPANIONS` (or those, if they fail it between them), and in each case with the trace's own faults if any does, else with
    lasting ones. Of the variants that fail it those in the same manner are preferred. O(number of variants) runs of the trace."""
    for companions, operations in _attempts(finding):
        if fails(finding, companions, operations):
            if companions:
                return tuple(VARIANTS[other].defect for other in companions)
            continue
        found: dict[str, int] = {}
        for name, cls in VARIANTS.items():
            if not any(issubclass(VARIANTS[other], cls) or issubclass(cls, VARIANTS[other]) for other in companions):
                found[cls.defect] = fails(finding, (name, *companions), operations)
        best = max(found.values())
        if best:
            return tuple(sorted((defect for defect, value in found.items() if value == best), key=_order))
    return ()


def name_findings(groups: list[Group], jobs: int) -> None:
    """Name the best findings of each group, in ``jobs`` processes."""
    findings = [finding for item in groups for finding in item.findings[:SHOWN]]
    if jobs < 2 or len(findings) < 8:
        answers = list(map(defects_of, findings))
    else:
        with ProcessPoolExecutor(jobs, mp_context=multiprocessing.get_context("fork")) as pool:
            answers = list(pool.map(defects_of, findings, chunksize=4))
    for finding, answer in zip(findings, answers, strict=True):
        finding.defects = answer


def _order(defect: str) -> tuple[str, int]:
    """Catalogue first, then by number."""
    number = defect.split("-", 1)[0]
    return number[0], int(number[1:])


def short(defects: tuple[str, ...]) -> str:
    """Numbers only: ``D05 D16``."""
    return " ".join(defect.split("-", 1)[0] for defect in defects)


__all__ = ["defects_of", "name_findings", "short"]
