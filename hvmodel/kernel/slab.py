"""kzalloc and kfree with accounting and poison: what KASAN and kmemleak see.

An allocation belongs to whatever the world says is its owner, so that leaks are seen per domain. A freed object keeps its
values, as freed memory mostly does, and reports each access.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, TypeVar

from hvmodel.faults import KZALLOC, FaultPlan


class SlabObject:
    """Base of what a driver allocates. Subclasses name their fields in ``__slots__`` and zero them in ``__init__``.

    ``EMBEDDED`` names fields that are structures inside the object: naming one takes an address, it reads nothing.
    """

    __slots__ = ("_slab",)
    EMBEDDED: ClassVar[frozenset[str]] = frozenset()
    _slab: Slab


T = TypeVar("T", bound=SlabObject)

_POISONED: dict[type, type] = {}


def _poisoned(cls: type[SlabObject]) -> type:
    """A class of the same layout whose attributes report use after free."""
    poisoned = _POISONED.get(cls)
    if poisoned is None:

        def read(self: SlabObject, name: str) -> Any:
            if not name.startswith("__") and name not in cls.EMBEDDED:
                object.__getattribute__(self, "_slab").report("use-after-free", f"read of {cls.__name__}.{name}")
            return object.__getattribute__(self, name)

        def write(self: SlabObject, name: str, value: Any) -> None:
            object.__getattribute__(self, "_slab").report("use-after-free", f"write of {cls.__name__}.{name}")
            object.__setattr__(self, name, value)

        poisoned = type(f"freed {cls.__name__}", (cls,), {"__slots__": (), "__getattribute__": read, "__setattr__": write})
        _POISONED[cls] = poisoned
    return poisoned


class Slab:
    """The allocator. ``live`` maps each live object to its owner; ``report`` takes (rule, detail)."""

    __slots__ = ("_faults", "live", "owner", "report")

    def __init__(self, faults: FaultPlan, report: Callable[[str, str], None]) -> None:
        self._faults = faults
        self.report = report
        self.live: dict[SlabObject, Any] = {}
        self.owner: Any = None
        """Whom the next allocations belong to; set by the caller of the driver."""

    def kzalloc(self, cls: type[T]) -> T | None:
        """A zeroed object, or None when a fault says so."""
        fault = self._faults.arrive(KZALLOC)
        if fault is not None:
            self._faults.fire(fault)
            return None
        obj = cls()
        obj._slab = self
        self.live[obj] = self.owner
        return obj

    def kfree(self, obj: SlabObject | None) -> None:
        """Free an object. NULL is fine, a second time is not."""
        if obj is None:
            return
        if obj not in self.live:
            self.report("use-after-free", f"second kfree of a {type(obj).__name__}")
            return
        del self.live[obj]
        obj.__class__ = _poisoned(type(obj))

    def is_live(self, obj: object) -> bool:
        """Whether this object is allocated and not freed."""
        return obj in self.live

    def owned_by(self, owner: object) -> int:
        """How many live objects belong to this owner."""
        return sum(held is owner for held in self.live.values())
