"""Save a world and put it back, in place.

A world is a graph of Python objects that know each other. Copying it costs a millisecond; putting back what an operation changed
costs microseconds. So every object that can change is listed once, with what it holds, and objects of one type are compared with
what they held in one go. An object keeps its identity: what is put back are its contents. What an operation made is forgotten with it.

What is saved is found by following references from the world, so nothing of a driver, of the hypervisor or of the books can be
overlooked, whatever its class. Exceptions are named here: constants, and counts that decide nothing (:data:`NOT_FOLLOWED`).
"""

from __future__ import annotations

import types
import weakref
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import is_dataclass
from operator import attrgetter
from struct import Struct
from typing import Any

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

    def read(self, objects: list[Any]) -> Values:
        """What each of the objects holds, as values that stay as they are when the object changes."""
        return [list(found) for found in objects]

    def changed(self, objects: list[Any], values: Values) -> Sequence[int]:
        """The places of the objects that hold something else than they held."""
        return () if objects == values else _differ(objects, values)

    def write(self, found: Any, value: Any) -> None:
        """Put back what an object held."""
        found[:] = value

    def inside(self, value: Any) -> Iterable[Any]:
        """The objects to follow in what is held."""
        return value  # type: ignore[no-any-return]


class _Bytes(Form):
    def read(self, objects: list[Any]) -> Values:
        return [bytes(found) for found in objects]

    def inside(self, value: Any) -> Iterable[Any]:
        return ()


class _Set(Form):
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
        if objects == values and list(map(list, objects)) == list(map(list, values)):
            return ()
        return [at for at, (now, was) in enumerate(zip(objects, values, strict=True)) if now != was or list(now) != list(was)]

    def write(self, found: Any, value: Any) -> None:
        found.clear()
        found.update(value)

    def inside(self, value: Any) -> Iterable[Any]:
        return [*value, *value.values()]


class _Fields(Form):
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
        now = self.read(objects) if self.left else objects
        return () if now == values else _differ(now, values)

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
        plain = cls.__getattribute__ is object.__getattribute__
        self.getter: Callable[[Any], Any] | None = attrgetter(*names) if plain and len(names) > 1 else None
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
        now = self.read(objects)
        return () if now == values else _differ(now, values)

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


class _Ranges(Form):
    """A RangeMap is its runs; where they start and how many pages they have follows from them."""

    _runs = staticmethod(attrgetter("_runs"))

    def read(self, objects: list[Any]) -> Values:
        return [list(found._runs) for found in objects]

    def changed(self, objects: list[Any], values: Values) -> Sequence[int]:
        now = list(map(self._runs, objects))
        return () if now == values else _differ(now, values)

    def write(self, found: Any, value: Any) -> None:
        found._runs[:] = value
        found._starts[:] = [run.start for run in value]
        found.pages = sum(run.end - run.start for run in value)

    def inside(self, value: Any) -> Iterable[Any]:
        return ()


class _Tree(Form):
    """An interval tree is its entries; that they are sorted follows from them."""

    _parts = staticmethod(attrgetter("_entries", "_inserted", "_scan", "changes"))

    def read(self, objects: list[Any]) -> Values:
        return [(dict(found._entries), found._inserted, found._scan, list(found.changes)) for found in objects]

    def changed(self, objects: list[Any], values: Values) -> Sequence[int]:
        now = list(map(self._parts, objects))
        return () if now == values else _differ(now, values)

    def write(self, found: Any, value: Any) -> None:
        entries, found._inserted, found._scan, changes = value
        found._entries.clear()
        found._entries.update(entries)
        found._sorted.clear()
        found._sorted.update(entries.values())
        found.changes[:] = changes

    def inside(self, value: Any) -> Iterable[Any]:
        return value[0]  # type: ignore[no-any-return]


class _Image(Form):
    """A native driver: its images as bytes. Its Python side is in its ``__dict__``."""

    def read(self, objects: list[Any]) -> Values:
        return [found.save_images() for found in objects]

    def changed(self, objects: list[Any], values: Values) -> Sequence[int]:
        now = self.read(objects)
        return () if now == values else _differ(now, values)

    def write(self, found: Any, value: Any) -> None:
        found.restore_images(value)

    def inside(self, value: Any) -> Iterable[Any]:
        return ()


_FORMS: dict[Any, Form] = {
    list: Form(),
    bytearray: _Bytes(),
    set: _Set(),
    dict: _Dict(),
    defaultdict: _Dict(),
    RangeMap: _Ranges(),
    IntervalTree: _Tree(),
    "image": _Image(),
}


def _differ(now: Values, was: Values) -> list[int]:
    return [at for at, (one, other) in enumerate(zip(now, was, strict=True)) if one != other]


def _slot_names(cls: type) -> tuple[str, ...]:
    names: list[str] = []
    for base in reversed(cls.__mro__):
        slots = base.__dict__.get("__slots__", ())
        names += [slots] if isinstance(slots, str) else list(slots)
    return tuple(name for name in names if name not in ("_slab", "__weakref__", "__dict__"))


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
    """What every object of a world held at one moment. Values are shared between snapshots as far as they are the same."""

    __slots__ = ("known", "parts")

    def __init__(self) -> None:
        self.parts: dict[Any, tuple[list[Any], Values]] = {}
        """Form -> objects and what they held."""
        self.known: set[int] = set()
        """The ids of all objects that are listed or need not be; the lists keep them alive."""


Change = tuple[Form, Any, Any]
"""An object that changed: its form, itself, what it held."""


class Keeper:
    """Saves one world, again and again. ``base`` is the snapshot that the world is compared with and put back to."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.base = Snapshot()
        self._slabs: list[SlabObject] = []
        self._classes: list[type] = []
        self._discover([world], self.base)
        self._list_slabs()

    # --- finding ----------------------------------------------------------------------------------------------------------

    def _discover(self, found: Iterable[Any], into: Snapshot) -> None:
        """List what can be reached and is not listed yet."""
        known, parts = into.known, into.parts
        ahead = list(found)
        while ahead:
            item = ahead.pop()
            cls = type(item)
            if _immutable(cls) or id(item) in known:
                continue
            if cls is PageSet:
                ahead.append(item._map)
                continue
            if issubclass(cls, tuple):
                ahead += item
                continue
            known.add(id(item))
            for key, form, part in _forms_of(item, cls):
                objects, values = parts.setdefault(key, ([], []))
                (value,) = form.read([part])
                objects.append(part)
                values.append(value)
                known.add(id(part))
                ahead += form.inside(value)

    def _list_slabs(self) -> None:
        self._plan = [(_form(key), objects, values) for key, (objects, values) in self.base.parts.items()]
        self._slabs = [item for objects, _values in self.base.parts.values() for item in objects if isinstance(item, SlabObject)]
        self._classes = list(map(type, self._slabs))

    # --- comparing --------------------------------------------------------------------------------------------------------

    def changes(self) -> list[Change]:
        """What has changed since the base."""
        settle = getattr(self.world.driver, "settle", None)
        if settle is not None:
            settle()
        found: list[Change] = []
        freed: set[int] = set()
        if list(map(type, self._slabs)) != self._classes:
            freed = {id(item) for item, cls in zip(self._slabs, self._classes, strict=True) if type(item) is not cls}
        for form, objects, values in self._plan:
            if freed and form.slab:
                at: Sequence[int] = [
                    at
                    for at, (item, value) in enumerate(zip(objects, values, strict=True))
                    if id(item) in freed or form.changed([item], [value])
                ]
            else:
                at = form.changed(objects, values)
            if at:
                found += [(form, objects[index], values[index]) for index in at]
        return found

    def back(self, changes: list[Change]) -> None:
        """Undo changes: the world is at the base again."""
        for form, item, value in changes:
            form.write(item, value)

    def advance(self, changes: list[Change]) -> Snapshot:
        """Make the world as it is now the base; returns the snapshot that was the base."""
        before = self.base
        after = Snapshot()
        after.known = set(before.known)
        touched = {id(item) for _form, item, _value in changes}
        moved: list[Any] = []
        for key, (objects, values) in before.parts.items():
            if touched.isdisjoint(map(id, objects)):
                after.parts[key] = (list(objects), list(values))
                continue
            kept, held = [], []
            for item, value in zip(objects, values, strict=True):
                if id(item) not in touched:
                    kept.append(item)
                    held.append(value)
                elif isinstance(item, SlabObject) and type(item) is not _form(key).cls:  # type: ignore[attr-defined]
                    moved.append(item)  # freed: it is of another class now
                else:
                    (now,) = _form(key).read([item])
                    kept.append(item)
                    held.append(now)
            after.parts[key] = (kept, held)
        for item in moved:
            after.known.discard(id(item))
        ahead: list[Any] = [*moved]
        for form, item, _value in changes:
            if not any(item is other for other in moved):
                ahead += form.inside(form.read([item])[0])
        self._discover(ahead, after)
        self.base = after
        self._list_slabs()
        return before

    def put(self, snapshot: Snapshot) -> None:
        """Put the world back to a snapshot, wherever it is now, and make that the base."""
        for key, (objects, values) in snapshot.parts.items():
            form = _form(key)
            for item, value in zip(objects, values, strict=True):
                form.write(item, value)
        self.base = snapshot
        self._list_slabs()


_SLOTS: dict[type, _Slots] = {}
_VARS: dict[type, _Fields] = {}


def _form(key: Any) -> Form:
    if isinstance(key, tuple):
        return _VARS[key[1]]
    found = _FORMS.get(key)
    return found if found is not None else _SLOTS[key]


def _forms_of(item: Any, cls: type) -> list[tuple[Any, Form, Any]]:
    """The forms under which an object is listed, each with its key and the part of the object that it is about."""
    form = _FORMS.get(cls)
    if form is not None:
        return [(cls, form, item)]
    forms: list[tuple[Any, Form, Any]] = []
    if hasattr(cls, "save_images"):
        forms.append(("image", _FORMS["image"], item))
    if _slot_names(cls):
        slots = _SLOTS.get(cls)
        if slots is None:
            slots = _SLOTS[cls] = _Slots(cls)
        forms.append((cls, slots, item))
    held = None if isinstance(item, SlabObject) else getattr(item, "__dict__", None)
    if held is not None:
        owner = next((base.__name__ for base in cls.__mro__ if _names_of(base)), cls.__name__)
        if cls not in _VARS:
            _VARS[cls] = _Fields(owner)
        forms.append((("vars", cls), _VARS[cls], held))
    return forms


def _names_of(cls: type) -> bool:
    return any(name.split(".")[0] == cls.__name__ for name in NOT_FOLLOWED)


__all__ = ["Change", "Keeper", "Snapshot"]
