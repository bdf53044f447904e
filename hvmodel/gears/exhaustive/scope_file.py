"""A scope as a TOML file, and the choice of a scope on the command line.

A file has one or more parts; what a part does not say is as in :class:`hvmodel.gears.exhaustive.scope.Scope`::

    [[part]]
    name = "two pages"
    devices = 1            # in groups of their own; or "pair" (two), "shared" (two in one group), "aliases"
    vms = 1
    domains = 2            # allocated in a trace
    room = 2               # alive at once
    level = "contract"     # kernel, contract or beyond
    iovas = ["0x0", "0x1000"]
    pages = [1, 2]
    regions = [[0, 0], [1, 1]]   # number, pages off alignment
    prots = ["rw", "r"]
    gfps = ["kernel"]
    scattered = [[2, 1]]   # runs, pages in each
    faults = 1
    depth = 6
    subjects = ["attachment", "mapping"]   # of the rules that are asked: these, lifetime, probing (the usual four), user
    without = ["kexec"]    # rules that are not asked
    rare = true            # what user space rarely does is tried, too
    options = { no_attdev = true }
"""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from hvmodel.callers.levels import LEVELS
from hvmodel.configuration import DEVICES, Configuration, PciFunction
from hvmodel.gears.exhaustive.canonical import REGION_SHIFT, region_of
from hvmodel.gears.exhaustive.scope import Scope
from hvmodel.gears.exhaustive.scopes import SCOPES
from hvmodel.rules.rules import RULES
from hvmodel.rules.worlds import ALIASES
from hvmodel.world import GFPS, PROTS

DEVICE_SETS: dict[str, tuple[PciFunction, ...]] = {"pair": DEVICES[:2], "shared": DEVICES[2:4], "aliases": ALIASES}


class BadScope(ValueError):
    """A scope that is none; the text is one line."""


def chosen(name: str, parts: list[str] | None = None, faults: int | None = None, depth: int | None = None) -> tuple[Scope, ...]:
    """A scope by its name or file, or some parts of it, with other bounds if they are given. Raises :class:`BadScope`."""
    found = SCOPES.get(name)
    if found is None:
        path = Path(name)
        if not path.exists():
            near = difflib.get_close_matches(name, SCOPES, n=1)
            hint = f"did you mean {near[0]}" if near else f"known: {', '.join(SCOPES)}"
            raise BadScope(f"no scope is called {name!r}, and there is no such file ({hint})")
        found = read_scope(path)
    for part in parts or ():
        if part not in {one.name for one in found}:
            raise BadScope(f"the scope {name} has no part {part!r} (it has {', '.join(one.name for one in found)})")
    if parts:
        found = tuple(one for one in found if one.name in parts)
    if faults is not None:
        found = tuple(replace(one, faults=faults) for one in found)
    if depth is not None:
        found = tuple(replace(one, depth=depth) for one in found)
    return found


def read_scope(path: Path) -> tuple[Scope, ...]:
    """The parts of a scope file. Raises :class:`BadScope`."""
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise BadScope(f"{path}: cannot be read: {getattr(error, 'strerror', None) or error}") from None
    except tomllib.TOMLDecodeError as error:
        raise BadScope(f"{path}: no TOML: {error}") from None
    parts = data.pop("part", None)
    if data or not isinstance(parts, list) or not parts or not all(isinstance(part, dict) for part in parts):
        raise BadScope(f"{path}: must have [[part]] tables and nothing else")
    found = tuple(_part(part, f"{path}: part {number}") for number, part in enumerate(parts, 1))
    names = [part.name for part in found]
    if len(set(names)) != len(names):
        raise BadScope(f"{path}: two parts have the same name")
    return found


def _part(data: dict[str, Any], where: str) -> Scope:
    values: dict[str, Any] = {}
    for name, value in data.items():
        read = _READERS.get(name)
        if read is None:
            near = difflib.get_close_matches(name, _READERS, n=1)
            raise BadScope(f"{where}: nothing is called {name!r}" + (f" (did you mean {near[0]})" if near else ""))
        try:
            values[name] = read(value)
        except (ValueError, TypeError, KeyError) as error:
            raise BadScope(f"{where}: {name}: {error or 'cannot be used'}") from None
    if not isinstance(values.get("name"), str) or not values["name"]:
        raise BadScope(f"{where}: needs a name")
    try:
        part = Scope(**values)
        problem = part.configuration("default").problems()
    except TypeError as error:
        raise BadScope(f"{where}: options: {error}") from None
    if problem is None and bool(part.iovas) != bool(part.pages):
        problem = "iovas and pages go together"
    if problem is None and "user" in part.subjects and not part.pages:
        problem = "user space maps: it needs iovas and pages"
    if problem:
        raise BadScope(f"{where}: {problem}")
    return part


def _number(low: int, high: int) -> Callable[[Any], int]:
    def read(value: Any) -> int:
        if isinstance(value, str):
            value = int(value, 0)
        if type(value) is not int or not low <= value <= high:
            raise ValueError(f"must be {low} to {high:#x}, not {value!r}")
        return value

    return read


def _list(read: Callable[[Any], Any]) -> Callable[[Any], tuple[Any, ...]]:
    def many(value: Any) -> tuple[Any, ...]:
        if not isinstance(value, list) or len(value) > 64:
            raise ValueError("must be a list of at most 64")
        return tuple(read(item) for item in value)

    return many


def _pair(first: Callable[[Any], int], second: Callable[[Any], int]) -> Callable[[Any], tuple[int, int]]:
    def both(value: Any) -> tuple[int, int]:
        if not isinstance(value, list) or len(value) != 2:
            raise ValueError(f"must be a pair, not {value!r}")
        return first(value[0]), second(value[1])

    return both


def _one_of(known: Any) -> Callable[[Any], str]:
    def read(value: Any) -> str:
        if value not in known:
            raise ValueError(f"must be one of {', '.join(map(repr, known))}, not {value!r}")
        return str(value)

    return read


def _iova(value: Any) -> int:
    iova = _number(0, (1 << 64) - 0x1000)(value)
    if iova & 0xFFF:
        raise ValueError(f"{iova:#x} is not page-aligned")
    if region_of(iova >> REGION_SHIFT) is not None:
        raise ValueError(f"{iova:#x} lies where the physical regions are")
    return iova


def _devices(value: Any) -> tuple[PciFunction, ...]:
    if isinstance(value, str):
        return DEVICE_SETS[_one_of(DEVICE_SETS)(value)]
    return tuple(PciFunction(slot=slot, group=slot - 1) for slot in range(1, 1 + _number(1, 8)(value)))


def _boolean(value: Any) -> bool:
    if not isinstance(value, bool):
        raise ValueError("must be true or false")
    return value


def _options(value: Any) -> dict[str, Any]:
    known = {item.name for item in fields(Configuration)} - {"profile", "policies", "devices", "l1vh"}
    if not isinstance(value, dict):
        raise ValueError("must be a table")
    for name in value:
        _one_of(sorted(known))(name)
    return {name: tuple(map(_frozen, held)) if isinstance(held, list) else held for name, held in value.items()}


def _frozen(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


_READERS: dict[str, Callable[[Any], Any]] = {
    "name": str,
    "devices": _devices,
    "vms": _number(0, 8),
    "domains": _number(0, 16),
    "room": _number(0, 16),
    "level": lambda value: LEVELS.index(_one_of(LEVELS)(value)),
    "iovas": _list(_iova),
    "pages": _list(_number(1, 1 << 20)),
    "regions": _list(_pair(_number(0, 15), _number(0, 255))),
    "prots": _list(_one_of([prot for prot in PROTS if prot])),
    "gfps": _list(_one_of(GFPS)),
    "scattered": _list(_pair(_number(1, 64), _number(1, 4096))),
    "faults": _number(0, 8),
    "depth": _number(1, 64),
    "subjects": lambda value: frozenset(_list(_one_of(sorted({rule.subject for rule in RULES.values()})))(value)),
    "without": lambda value: frozenset(_list(_one_of(RULES))(value)),
    "rare": _boolean,
    "options": _options,
}


__all__ = ["BadScope", "chosen", "read_scope"]
