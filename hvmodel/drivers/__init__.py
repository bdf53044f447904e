"""The drivers by name."""

from __future__ import annotations

from hvmodel.drivers.interface import Driver, DriverEntry
from hvmodel.drivers.posted_v0 import PostedV0
from hvmodel.drivers.repaired import Repaired
from hvmodel.drivers.variants import VARIANTS

REGISTRY: dict[str, DriverEntry] = {}


def register(cls: type[Driver]) -> type[Driver]:
    """Make a driver class known by its name; usable as a decorator."""
    REGISTRY[cls.name] = DriverEntry(cls.name, cls.summary, cls, cls.defect, cls.kind, cls.story)
    return cls


register(Repaired)
register(PostedV0)
for _variant in VARIANTS.values():
    register(_variant)

__all__ = ["REGISTRY", "Driver", "DriverEntry", "register"]
