"""Plainer order: neighbours change places where that makes no difference to the failure."""

from __future__ import annotations

from collections.abc import Iterator

from hvmodel.gears.minimise.arguments import renumbered
from hvmodel.gears.minimise.trial import Case


def reordered(case: Case) -> Iterator[Case]:
    """The case with two neighbouring operations in the other order, as they are and with new names; the last one stays the last."""
    operations = case.operations
    for index in range(len(operations) - 2):
        if operations[index] != operations[index + 1]:
            swapped = Case(case.config, (*operations[:index], operations[index + 1], operations[index], *operations[index + 2 :]))
            yield swapped
            yield from renumbered(swapped)


__all__ = ["reordered"]
