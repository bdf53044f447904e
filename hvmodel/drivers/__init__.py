"""The drivers by name."""

from __future__ import annotations

import difflib

from hvmodel.drivers.honest import HONEST, SaysLess
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
for _other in (*HONEST, SaysLess):
    register(_other)
for _variant in VARIANTS.values():
    register(_variant)


def no_such_driver(name: str) -> str:
    """What to say about a name that no driver has."""
    near = difflib.get_close_matches(name, REGISTRY, n=3, cutoff=0.5)
    return f"no driver is called {name!r} ({'did you mean ' + ' or '.join(near) if near else 'see hvmodel drivers'})"


__all__ = ["REGISTRY", "Driver", "DriverEntry", "no_such_driver", "register"]
