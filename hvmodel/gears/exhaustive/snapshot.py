"""Save a world and put it back, in place.

A world is a graph of Python objects that know each other. Copying it costs a millisecond; putting back what an operation changed
costs microseconds. So every object that can change is listed once, with what it holds, and objects of one type are compared with
what they held in one go. An object keeps its identity: what is put back are its contents. What an operation made is forgotten
with it.

What is saved is found by following references from the world, so nothing of a driver, of the hypervisor or of the books can be
overlooked, whatever its class. Exceptions are named here: constants, and counts that decide nothing (:data:`NOT_FOLLOWED`).
"""

from __future__ import annotations

import types
import weakref
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import is_dataclass
from itertools import chain, compress
from operator import attrgetter, is_, methodcaller, ne
from struct import Struct
from typing import Any, NamedTuple

from hvmodel.configuration import Configuration
from hvmodel.drivers.interface import DriverEntry
from hvmodel.faults import Fault
from hvmodel.hypervisor.policies import Policies
from hvmodel.kernel.interval_tree import IntervalTree
from hvmodel.kernel.iommu import IommuOps
from hvmodel.kernel.slab import SlabObject
from hvmodel.ranges import PageSet, RangeMap
from hvmodel.world import World

NOT_FOLLOWED: dict[str, str] = {
    "World.applied": "counts, for reports",
    "World.levels": "counts, for reports",
    "World._handlers": "constant",
    "World.driver_entry": "constant",
    "Judge.judged": "counts how often each property was asked; nothing reads them but reports",
    "World.lengths": "emptied before each operation",
    "FaultPlan.order": "emptied before each operation",
    "FaultPlan.reached": "counts arrivals over the whole run; a fault counts from where its operation began",
    "Hypervisor._simple": "constant",
    "Hypervisor._rep": "constant",
    "Hypervisor._list_header": "constant",
    "NativeDriver.image": "the image is saved as bytes",
    "NativeDriver.shadow": "the second image is saved as bytes",
    "NativeDriver.build": "constant",
    "NativeDriver.traits": "constant",
    "NativeDriver._said": "texts that were made once",
}
"""Fields whose values are not followed, and why."""

NOT_KEPT: dict[str, str] = {
    "NativeDriver.saved": "where its image is while another world is in it",
    "NativeDriver.raised": "on its way through C",
}
"""Fields that are not put back, and why."""

_CONSTANT = (
    type(None),
    bool,
    int,
    float,
    complex,
    str,
    bytes,
    range,
    frozenset,
    type,
    types.ModuleType,
    types.FunctionType,
    types.BuiltinFunctionType,
    types.MethodType,
    types.MethodWrapperType,
    types.GetSetDescriptorType,
    memoryview,
    weakref.ref,
    Struct,
    Configuration,
    Policies,
    DriverEntry,
    IommuOps,
    Fault,
)
"""What does not change, or is not the world's."""

_UNSET = object()
"""A slot that nobody has set."""

Values = list[Any]


class Form:
    """How objects of one type are read, compared and written. The basic form is that of a list."""

    slab = False
    """Whether its objects are the slab's, which change their class when they are freed."""
    cls: type = object
    getter: Callable[[Any], Any] | None = None
    """Reads all that an object of slots holds, if none of it can be unset."""

    def read(self, objects: list[Any]) -> Values:
        """What each of the objects holds, as values that stay as they are when the object changes."""
        return [list(found) for found in objects]

    def changed(self, objects: list[Any], values: Values) -> Sequence[int]:
        """The places of the objects that hold something else than they held: other objects, not only unequal ones. Another list
        with the same in it is another list."""
        if _all_same(objects, values):
            return ()
        pairs = enumerate(zip(objects, values, strict=True))
        return [at for at, (now, was) in pairs if len(now) != len(was) or not all(map(is_, now, was))]

    def write(self, found: Any, value: Any) -> None:
        """Put back what an object held."""
        found[:] = value

    def inside(self, value: Any) -> Iterable[Any]:
        """The objects to follow in what is held."""
        return value  # type: ignore[no-any-return]


class _ByValue(Form):
    """What is the same if it is equal: in it nothing is equal to another thing that can change."""

    def held(self, objects: list[Any]) -> Values:
        """What is compared with what was read."""
        return objects

    def changed(self, objects: list[Any], values: Values) -> Sequence[int]:
        now = self.held(objects)
        return () if now == values else _differ(now, values)


class _Bytes(_ByValue):
    def read(self, objects: list[Any]) -> Values:
        return [bytes(found) for found in objects]

    def inside(self, value: Any) -> Iterable[Any]:
        return ()


class _Set(_ByValue):
    def read(self, objects: list[Any]) -> Values:
        return [set(found) for found in objects]

    def write(self, found: Any, value: Any) -> None:
        found.clear()
        found.update(value)


class _Dict(Form):
    """The order of a dict is part of it: it is the order in which callers go through what they have."""

    def read(self, objects: list[Any]) -> Values:
        return [dict(found) for found in objects]

    def changed(self, objects: list[Any], values: Values) -> Sequence[int]:
        if len(objects) == 1:
            return (0,) if _other(objects[0], values[0]) else ()
        if _all_same(objects, values) and all(map(is_, _held(objects), _held(values))):
            return ()
        return [at for at, now in enumerate(objects) if _other(now, values[at])]

    def write(self, found: Any, value: Any) -> None:
        found.clear()
        found.update(value)

    def inside(self, value: Any) -> Iterable[Any]:
        return [*value, *value.values()]


class _Fields(_Dict):
    """An object's ``__dict__``."""

    def __init__(self, owner: str) -> None:
        self.left = frozenset(name.split(".")[1] for name in NOT_KEPT if name.split(".")[0] == owner)
        self.skipped = {name.split(".")[1] for name in NOT_FOLLOWED if name.split(".")[0] == owner}

    def read(self, objects: list[Any]) -> Values:
        left = self.left
        if left:
            return [{name: held for name, held in found.items() if name not in left} for found in objects]
        return [dict(found) for found in objects]

    def changed(self, objects: list[Any], values: Values) -> Sequence[int]:
        return super().changed(self.read(objects) if self.left else objects, values)

    def write(self, found: Any, value: Any) -> None:
        for name in [name for name in found if name not in value and name not in self.left]:
            del found[name]
        found.update(value)

    def inside(self, value: Any) -> Iterable[Any]:
        return [held for name, held in value.items() if name not in self.skipped]


class _Slots(Form):
    """An object with slots, read and written through the slots themselves: a freed object reports every other access."""

    def __init__(self, cls: type) -> None:
        names = _slot_names(cls)
        self.cls = cls
        self.slab = issubclass(cls, SlabObject)
        plain = "__getattribute__" not in cls.__dict__  # a freed object has one that reports
        self.getter = attrgetter(*names) if plain and len(names) > 1 else None
        places = [_slot(cls, name) for name in names]
        self.gets = [place.__get__ for place in places]
        self.sets = [place.__set__ for place in places]
        self.deletes = [place.__delete__ for place in places]
        owner = cls.__name__.removeprefix("freed ")
        self.followed = [index for index, name in enumerate(names) if f"{owner}.{name}" not in NOT_FOLLOWED]

    def _one(self, found: Any) -> tuple[Any, ...]:
        held = []
        for get in self.gets:
            try:
                held.append(get(found))
            except AttributeError:
                held.append(_UNSET)
        return tuple(held)

    def read(self, objects: list[Any]) -> Values:
        if self.getter is not None:
            try:
                return list(map(self.getter, objects))
            except AttributeError:
                pass
        return [self._one(found) for found in objects]

    def changed(self, objects: list[Any], values: Values) -> Sequence[int]:
        if self.slab:
            kinds = list(map(type, objects))
            if kinds.count(self.cls) != len(kinds):  # some were freed: their slots are asked, not they
                now = [self._one(found) for found in objects]
                return [at for at, kind in enumerate(kinds) if kind is not self.cls or not all(map(is_, now[at], values[at]))]
        return _others(self.read(objects), values)

    def write(self, found: Any, value: Any) -> None:
        if type(found) is not self.cls:
            object.__setattr__(found, "__class__", self.cls)
        for put, delete, held in zip(self.sets, self.deletes, value, strict=True):
            if held is not _UNSET:
                put(found, held)
            else:
                try:
                    delete(found)
                except AttributeError:
                    continue

    def inside(self, value: Any) -> Iterable[Any]:
        return [value[index] for index in self.followed]


class _Ranges(_ByValue):
    """A RangeMap is its runs; where they start and how many pages they have follows from them."""

    _runs = staticmethod(attrgetter("_runs"))

    def read(self, objects: list[Any]) -> Values:
        return [list(found._runs) for found in objects]

    def held(self, objects: list[Any]) -> Values:
        return list(map(self._runs, objects))

    def write(self, found: Any, value: Any) -> None:
        found._runs[:] = value
        found._starts[:] = [run.start for run in value]
        found.pages = sum(run.end - run.start for run in value)

    def inside(self, value: Any) -> Iterable[Any]:
        return ()


class _Tree(_ByValue):
    """An interval tree is its entries; that they are sorted follows from them."""

    _parts = staticmethod(attrgetter("_entries", "_inserted", "_scan", "changes"))

    def read(self, objects: list[Any]) -> Values:
        return [(dict(found._entries), found._inserted, found._scan, list(found.changes)) for found in objects]

    def held(self, objects: list[Any]) -> Values:
        return list(map(self._parts, objects))

    def write(self, found: Any, value: Any) -> None:
        entries, found._inserted, found._scan, changes = value
        found._entries.clear()
        found._entries.update(entries)
        found._sorted.clear()
        found._sorted.update(entries.values())
        found.changes[:] = changes

    def inside(self, value: Any) -> Iterable[Any]:
        return value[0]  # type: ignore[no-any-return]


class _Image(_ByValue):
    """A native driver: its images as bytes. Its Python side is in its ``__dict__``."""

    def read(self, objects: list[Any]) -> Values:
        return [found.save_images() for found in objects]

    def held(self, objects: list[Any]) -> Values:
        return self.read(objects)

    def write(self, found: Any, value: Any) -> None:
        found.restore_images(value)

    def inside(self, value: Any) -> Iterable[Any]:
        return ()


_FORMS: dict[type, Form] = {
    list: Form(),
    bytearray: _Bytes(),
    set: _Set(),
    dict: _Dict(),
    defaultdict: _Dict(),
    RangeMap: _Ranges(),
    IntervalTree: _Tree(),
}
_IMAGE = _Image()


def _differ(now: Values, was: Values) -> list[int]:
    return list(compress(range(len(was)), map(ne, now, was)))


def _all_same(now: Values, was: Values) -> bool:
    """Whether every one of several lists, tuples or dicts holds what it held (of dicts: the keys)."""
    return all(map(is_, chain.from_iterable(now), chain.from_iterable(was))) and list(map(len, now)) == list(map(len, was))


def _held(dicts: Values) -> Iterator[Any]:
    """The values in several dicts, one dict after the other."""
    return chain.from_iterable(map(_VALUES, dicts))


_VALUES = methodcaller("values")


def _others(now: Values, was: Values) -> Sequence[int]:
    if all(map(is_, chain.from_iterable(now), chain.from_iterable(was))):
        return ()
    return [at for at, (one, other) in enumerate(zip(now, was, strict=True)) if not all(map(is_, one, other))]


def _other(now: dict[Any, Any], was: dict[Any, Any]) -> bool:
    """Whether a dict holds other objects, or has them in another order."""
    return len(now) != len(was) or not all(map(is_, now.values(), was.values())) or list(now) != list(was)


def _slot_names(cls: type) -> tuple[str, ...]:
    names: list[str] = []
    for base in reversed(cls.__mro__):
        slots = base.__dict__.get("__slots__", ())
        names += [slots] if isinstance(slots, str) else list(slots)
    left = ("_slab", "__weakref__", "__dict__")
    return tuple(name for name in names if name not in left and not isinstance(getattr(cls, name), property))


def _slot(cls: type, name: str) -> Any:
    return next(base.__dict__[name] for base in cls.__mro__ if name in base.__dict__ and "__slots__" in base.__dict__)


_IMMUTABLE: dict[type, bool] = {}


def _immutable(cls: type) -> bool:
    known = _IMMUTABLE.get(cls)
    if known is None:
        frozen = is_dataclass(cls) and cls.__dataclass_params__.frozen  # type: ignore[attr-defined]
        known = _IMMUTABLE[cls] = issubclass(cls, _CONSTANT) or frozen
    return known


class Snapshot:
    """What every object of a world held at one moment. What is the same is shared between snapshots."""

    __slots__ = ("known", "parts")

    def __init__(self, parts: dict[Form, tuple[list[Any], Values]], known: set[int]) -> None:
        self.parts = parts
        """Form -> objects and what they held."""
        self.known = known
        """The ids of all objects that are listed; the lists keep them alive."""


class Change(NamedTuple):
    """An object that changed: its form, its place in the form's list, itself, what it held."""

    form: Form
    place: int
    item: Any
    value: Any


class Keeper:
    """Saves one world, again and again. ``base`` is the snapshot that the world is compared with and put back to."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.base = Snapshot({}, set())
        self._discover([world], self.base, set())

    def _discover(self, found: Iterable[Any], into: Snapshot, own: set[Form]) -> None:
        """List what can be reached and is not listed yet. The lists of the forms in ``own`` are the snapshot's own already."""
        known, parts, immutable = into.known, into.parts, _IMMUTABLE
        ahead = list(found)
        while ahead:
            item = ahead.pop()
            cls = type(item)
            if id(item) in known:
                continue
            if immutable[cls] if cls in immutable else _immutable(cls):
                continue
            if cls is PageSet:
                ahead.append(item._map)
                continue
            if issubclass(cls, tuple):
                ahead += item
                continue
            known.add(id(item))
            for form, part in _forms_of(item, cls):
                if form not in own:
                    own.add(form)
                    objects, values = parts.get(form, ((), ()))
                    parts[form] = (list(objects), list(values))
                objects, values = parts[form]
                (value,) = form.read([part])
                objects.append(part)
                values.append(value)
                known.add(id(part))
                ahead += form.inside(value)

    def fields(self) -> dict[type, set[str]]:
        """The fields of every kind of object that is saved, by class; lists and the like have none."""
        found: dict[type, set[str]] = {}
        for form, (objects, _values) in self.base.parts.items():
            if isinstance(form, _Slots):
                found.setdefault(form.cls, set()).update(_slot_names(form.cls))
            elif isinstance(form, _Fields):
                cls = next(cls for cls, one in _VARS.items() if one is form)
                found.setdefault(cls, set()).update(name for held in objects for name in held)
        return found

    def changes(self) -> list[Change]:
        """What has changed since the base."""
        settle = getattr(self.world.driver, "settle", None)
        if settle is not None:
            settle()
        found: list[Change] = []
        places: Sequence[int]
        for form, (objects, values) in self.base.parts.items():
            getter = form.getter
            if getter is not None and not form.slab:  # nearly half of the forms: what ``changed`` does, without calls
                try:
                    now = list(map(getter, objects))
                except AttributeError:
                    places = form.changed(objects, values)
                else:
                    places = _others(now, values)
            else:
                places = form.changed(objects, values)
            for place in places:
                found.append(Change(form, place, objects[place], values[place]))
        return found

    def back(self, changes: list[Change]) -> None:
        """Undo changes: the world is at the base again."""
        for form, _place, item, value in changes:
            form.write(item, value)

    def advance(self, changes: list[Change]) -> Snapshot:
        """Make the world as it is now the base; returns the snapshot that was the base."""
        before = self.base
        after = Snapshot(dict(before.parts), set(before.known))
        own: set[Form] = set()
        ahead: list[Any] = []
        freed: list[Change] = []
        for change in changes:
            form, place, item, _value = change
            if form not in own:
                own.add(form)
                objects, values = after.parts[form]
                after.parts[form] = (list(objects), list(values))
            if form.slab and type(item) is not form.cls:
                freed.append(change)  # it is of another class now, and listed with that one
                continue
            (now,) = form.read([item])
            after.parts[form][1][place] = now
            ahead += form.inside(now)
        for form, place, item, _value in sorted(freed, key=lambda change: -change.place):
            objects, values = after.parts[form]
            del objects[place], values[place]
            after.known.discard(id(item))
            ahead.append(item)
        self._discover(ahead, after, own)
        self.base = after
        return before

    def retreat(self, snapshot: Snapshot, changes: list[Change]) -> None:
        """From the base back to the snapshot that :meth:`advance` left with these changes."""
        self.back(changes)
        self.base = snapshot


_SLOTS: dict[type, _Slots] = {}
_VARS: dict[type, _Fields] = {}


def _forms_of(item: Any, cls: type) -> list[tuple[Form, Any]]:
    """The forms under which an object is listed, each with the part of the object that it is about."""
    form = _FORMS.get(cls)
    if form is not None:
        return [(form, item)]
    forms: list[tuple[Form, Any]] = []
    if hasattr(cls, "save_images"):
        forms.append((_IMAGE, item))
    if _slot_names(cls):
        slots = _SLOTS.get(cls)
        if slots is None:
            slots = _SLOTS[cls] = _Slots(cls)
        forms.append((slots, item))
    held = None if isinstance(item, SlabObject) else getattr(item, "__dict__", None)
    if held is not None:
        owner = next((base.__name__ for base in cls.__mro__ if _names_of(base)), cls.__name__)
        if cls not in _VARS:
            _VARS[cls] = _Fields(owner)
        forms.append((_VARS[cls], held))
    return forms


def _names_of(cls: type) -> bool:
    return any(name.split(".")[0] == cls.__name__ for name in NOT_FOLLOWED)


__all__ = ["Change", "Keeper", "Snapshot"]
