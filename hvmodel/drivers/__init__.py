"""The drivers by name."""

from __future__ import annotations

from hvmodel.drivers.interface import Driver, DriverEntry
from hvmodel.drivers.posted_v0 import PostedV0

REGISTRY: dict[str, DriverEntry] = {cls.name: DriverEntry(cls.name, cls.summary, cls) for cls in (PostedV0,)}


def register(cls: type[Driver]) -> type[Driver]:
    """Make a driver class known by its name; usable as a decorator."""
    REGISTRY[cls.name] = DriverEntry(cls.name, cls.summary, cls)
    return cls


__all__ = ["REGISTRY", "Driver", "DriverEntry", "register"]
