"""The drivers by name."""

from __future__ import annotations

import difflib
from pathlib import Path

from hvmodel.drivers.honest import HONEST, SaysLess
from hvmodel.drivers.interface import Driver, DriverEntry
from hvmodel.drivers.native import PREFIX, NativeError, is_native, native_entry
from hvmodel.drivers.native.own import is_own, listed, own_entry, own_problem
from hvmodel.drivers.posted_v0 import PostedV0
from hvmodel.drivers.repaired import Repaired
from hvmodel.drivers.variants import VARIANTS


class Registry(dict[str, DriverEntry]):
    """The drivers by name. A name ``native:PATH`` is looked up by building that C file; such drivers are not listed. Nor are the
    variants of ``repaired-c``."""

    def __getitem__(self, name: str) -> DriverEntry:
        return own_entry(name) if is_own(name) else super().__getitem__(name)

    def __missing__(self, name: str) -> DriverEntry:
        if not is_native(name):
            raise KeyError(name)
        return native_entry(name)

    def __contains__(self, name: object) -> bool:
        if isinstance(name, str) and is_native(name):
            return native_problem(name) is None
        if isinstance(name, str) and is_own(name):
            return own_problem(name) is None
        return super().__contains__(name)


def native_problem(name: str) -> str | None:
    """Why a native driver cannot be had, in one line; None if it can."""
    try:
        native_entry(name)
    except NativeError as error:
        return str(error)
    return None


REGISTRY = Registry()


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
for _entry in listed():
    REGISTRY[_entry.name] = _entry


def folder_name(name: str) -> str:
    """A driver's name as that of one folder: for a C file its own name and that of the folder it is in."""
    if not is_native(name):
        return name
    path = Path(name.removeprefix(PREFIX)).absolute()
    return f"native-{path.parent.name}-{path.stem}"


def no_such_driver(name: str) -> str:
    """What to say about a name that no driver has, or about a C file that is no driver."""
    if is_native(name):
        return native_problem(name) or f"{name} can be had after all"
    if is_own(name):
        return own_problem(name) or f"{name} can be had after all"
    near = difflib.get_close_matches(name, REGISTRY, n=3, cutoff=0.5)
    return f"no driver is called {name!r} ({'did you mean ' + ' or '.join(near) if near else 'see hvmodel drivers'})"


__all__ = ["REGISTRY", "Driver", "DriverEntry", "folder_name", "is_native", "no_such_driver", "register"]
