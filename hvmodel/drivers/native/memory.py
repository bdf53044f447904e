"""The image's arena as the kernel's slab: what is alive, and whose it is."""

from __future__ import annotations

import ctypes
from typing import TYPE_CHECKING, Any

from hvmodel.kernel.slab import Slab, SlabObject

if TYPE_CHECKING:
    from hvmodel.drivers.native.driver import NativeDriver

_CLASSES: dict[str, type[NativeObject]] = {}


class NativeObject(SlabObject):
    """Something that the driver has allocated, by its address."""

    __slots__ = ("address",)
    address: int

    @staticmethod
    def at(address: int, structure: str) -> NativeObject:
        """The object at an address. Its class is called like its structure, ``HvDomain`` for ``hv_domain``, as in Python."""
        cls = _CLASSES.get(structure)
        if cls is None:
            name = "".join(part.capitalize() for part in structure.split("_"))
            cls = _CLASSES[structure] = type(name, (NativeObject,), {"__slots__": ()})
        found = cls()
        found.address = address
        return found

    def __eq__(self, other: object) -> bool:
        return isinstance(other, NativeObject) and other.address == self.address

    def __hash__(self) -> int:
        return hash(self.address)


class NativeSlab(Slab):
    """Answers what the judges ask of a slab from the image's own books. Allocation itself happens in C."""

    def __init__(self, driver: NativeDriver) -> None:
        self._driver = driver
        self._faults = driver.kernel.faults
        self.report = driver.kernel.report
        self.owner = None
        self._numbers: dict[int, int] = {}
        self.owners: list[Any] = [None]
        """Owners by the number that C knows them by."""

    def owner_number(self) -> int:
        """C's name for the present owner."""
        owner = self.owner
        if owner is None:
            return 0
        number = self._numbers.get(id(owner))
        if number is None:
            number = self._numbers[id(owner)] = len(self.owners)
            self.owners.append(owner)
        return number

    def size_of(self, address: int) -> int:
        """Size in bytes of the live object that begins at an address, or 0."""
        start, size, state = self._driver.here().holds(address)
        return size if start == address and state == 1 else 0

    def is_live(self, obj: object) -> bool:
        """Whether this object is allocated and not freed."""
        return isinstance(obj, NativeObject) and self._driver.here().holds(obj.address)[2] == 1

    def owned_by(self, owner: object) -> int:
        """How many live objects belong to this owner."""
        number = self._numbers.get(id(owner))
        return 0 if number is None else int(self._driver.here().library.hvm_objects(number, 0, None))

    @property
    def live(self) -> dict[SlabObject, Any]:  # type: ignore[override]
        """Each live object with its owner."""
        library = self._driver.here().library
        room: int = library.hvm_objects((1 << 64) - 1, 0, None)
        rows = (ctypes.c_uint64 * (3 * room + 3))()
        library.hvm_objects((1 << 64) - 1, room, rows)
        names = self._driver.traits.names
        found: dict[SlabObject, Any] = {}
        for at in range(0, 3 * room, 3):
            name = names.get(rows[at + 1], "object")
            found[NativeObject.at(rows[at], name)] = self.owners[rows[at + 2]] if rows[at + 2] < len(self.owners) else None
        return found
