"""The same refusal earlier: what an operation late in a trace meets, booting may meet as well."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from hvmodel.gears.minimise.trial import Case

ARRIVALS = 3
"""Arrivals at the place, from the first one, at which an earlier operation is refused."""


def refused_earlier(case: Case) -> Iterator[Case]:
    """Cases that end at an earlier operation, which is refused where a later one was: the shortest first."""
    operations = case.operations
    for index, operation in enumerate(operations[:-1]):
        later = dict.fromkeys(fault for other in operations[index + 1 :] for fault in other.faults)
        for fault in later:
            for nth in range(1, ARRIVALS + 1):
                refused = replace(operation, faults=(*operation.faults, replace(fault, nth=nth)))
                yield replace(case, operations=(*operations[:index], refused))


__all__ = ["ARRIVALS", "refused_earlier"]
