"""A loaded image, and whose world is in it.

There is one image of a build in a process, and one world at a time is in it. When another world's driver is used, the state below
the first one (``hvm_save``: the image's data, the arena, the page) is put away as bytes and the other's is put back, so that any
number of worlds can be alive; a new world starts from the image as it was loaded. Addresses are the same in all of them.
"""

from __future__ import annotations

import ctypes
import struct
import time
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hvmodel.drivers.native.build import Build
from hvmodel.drivers.native.dwarf import Dwarf
from hvmodel.drivers.native.elf import Elf
from hvmodel.drivers.native.errors import NativeError
from hvmodel.hypervisor.abi import PAGE_SIZE
from hvmodel.kernel.iommu import Device, Geometry

if TYPE_CHECKING:
    from hvmodel.drivers.native.driver import NativeDriver
    from hvmodel.drivers.native.shadow import Shadow

_U64 = ctypes.c_uint64
_PYTHON = (
    "PyObject_Vectorcall",
    "PyLong_FromUnsignedLongLong",
    "PyLong_AsUnsignedLongLongMask",
    "PyUnicode_DecodeUTF8",
    "PyTuple_New",
    "PyTuple_SetItem",
    "PyCFunction_NewEx",
    "PyErr_Occurred",
    "Py_DecRef",
    "PyBytes_FromStringAndSize",
    "PyBytes_AsString",
)
"""What the runtime needs of the interpreter: ``struct hvm_python``."""

# places of struct hvm_shared
ENDED, MAPPED, CHANGES, UNWIND, CRASH_KIND, CRASH_ADDRESS, CRASH_WHERE, BUDGET, PARTED, OPENED = range(10)

_NAME = struct.Struct("<4Q")

_HINTS = iter(range(0x6000_0000_0000, 0x7000_0000_0000, 1 << 33))
"""Where images reserve memory: the same places in each process, so that addresses repeat."""


class Image:
    """One image in this process. ``owner`` is the driver whose world is in it."""

    def __init__(self, build: Build, path: Path) -> None:
        self.build = build
        self.path = path
        try:
            data = path.read_bytes()
            self.elf = Elf(data)
            self.dwarf = Dwarf(self.elf, build.name)
            self.library = ctypes.PyDLL(str(path))
        except (OSError, ValueError) as error:
            raise NativeError(f"{build.source}: the image that was built cannot be loaded: {error}") from None
        self.input = bytearray(PAGE_SIZE)
        self.output = bytearray(PAGE_SIZE)
        self._buffers = [(ctypes.c_char * PAGE_SIZE).from_buffer(page) for page in (self.input, self.output)]
        self.owner_ref: weakref.ref[Any] | None = None
        self._callbacks = (self._on_door, self._on_service)
        self._prototypes()
        low, size = self.elf.writable()
        functions = [ctypes.cast(getattr(ctypes.pythonapi, name), ctypes.c_void_p).value or 0 for name in _PYTHON]
        python = (_U64 * (len(_PYTHON) + 2))(*functions, *map(id, self._callbacks))
        self.base: int = self.library.hvm_load(next(_HINTS), low, size, python, *map(ctypes.addressof, self._buffers))
        if not self.base:
            raise NativeError(f"{build.source}: no memory for its image")
        builtin = self.library.hvm_builtin
        self.call: Callable[..., int] = builtin(0)
        self.search: Callable[..., tuple[int, ...]] = builtin(1)
        self.domain: Callable[[int], tuple[int, ...]] = builtin(2)
        self.save: Callable[[], bytes] = builtin(3)
        """The state below the driver, as bytes: equal states are equal bytes."""
        self.shared = memoryview((ctypes.c_char * (8 * 10)).from_address(self.library.hvm_shared())).cast("B").cast("Q")
        self.holds: Callable[[int], tuple[int, ...]] = builtin(4)
        """Start, size in bytes, and state (0 nothing, 1 alive, 2 freed) of the object that holds an address."""
        self.form: Callable[..., bytes] = builtin(5)
        """What the driver keeps, without the addresses at which it lies (``runtime/canon.c``)."""
        variable = self._plain("hvm_canon_variable")
        for known in self.dwarf.variables:
            if known.size and known.name != "__func__":
                variable(self.base + known.address, known.size)
        self.read: Callable[[int, int], int] = self._plain("hvm_read")
        self.write: Callable[[int, int, int], int] = self._plain("hvm_write")
        self.lead: Callable[[int, int, int], int] = self._plain("hvm_lead")
        self.leads = self.address("hvm_call"), int(self.library.hvm_shared()), self.address("hvm_left")
        """What another image has to know of this one so that it follows."""
        self._reset = self._plain("hvm_reset")
        self._add_device = self._plain("hvm_add_device")
        self.log_address = self.place(3)
        self._places: dict[int, str] = {}
        self._geometries: dict[tuple[int, ...], Geometry] = {}

    def address(self, function: str) -> int:
        """Where a function of the runtime is."""
        return ctypes.cast(getattr(self.library, function), ctypes.c_void_p).value or 0

    def _plain(self, function: str) -> Callable[..., int]:
        """A function of the runtime that takes and returns numbers, as a built-in one: a call of it costs a fifth of ctypes'."""
        made: Callable[..., int] = self.library.hvm_plain(self.address(function))
        return made

    def _prototypes(self) -> None:
        library, u64 = self.library, _U64
        for name, result, arguments in (
            ("hvm_load", u64, [u64, u64, u64, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p]),
            ("hvm_builtin", ctypes.py_object, [u64]),
            ("hvm_plain", ctypes.py_object, [ctypes.py_object]),
            ("hvm_shared", u64, []),
            ("hvm_place", u64, [u64]),
            ("hvm_restore", None, [ctypes.c_char_p]),
            ("hvm_call", u64, [u64] * 8),
            ("hvm_balance", None, []),
            ("hvm_read", u64, [u64, u64]),
            ("hvm_write", None, [u64, u64, u64]),
            ("hvm_objects", u64, [u64, u64, ctypes.c_void_p]),
            ("hvm_offers", u64, [ctypes.c_void_p]),
            ("hvm_domain", None, [u64, ctypes.c_void_p]),
            ("hvm_has_ops", u64, []),
            ("hvm_there", u64, [u64]),
            ("hvm_left", u64, [u64]),
            ("hvm_follow", u64, [ctypes.c_void_p]),
            ("hvm_lies", None, [u64, u64, u64]),
            ("hvm_record_of", ctypes.c_void_p, []),
            ("hvm_tree_all", u64, [u64, u64, ctypes.c_void_p]),
        ):
            function = getattr(library, name)
            function.restype, function.argtypes = result, arguments
        self.place: Callable[[int], int] = library.hvm_place

    # --- whose world ------------------------------------------------------------------------------------------------------

    @property
    def owner(self) -> NativeDriver | None:
        """The driver whose world is in the image, if it is still alive."""
        return self.owner_ref() if self.owner_ref is not None else None

    def _put_away(self) -> None:
        owner = self.owner
        if owner is not None:
            owner.take_changes()
            owner.saved = self.save()
            if owner.shadow is not None:
                owner.shadow.saved = owner.shadow.image.save()

    def begin(self, driver: NativeDriver | Shadow) -> None:
        """A new world: the image as it was loaded. The second image's old world goes with the first one's."""
        if not driver.follows:
            self._put_away()
        self.owner_ref = driver.ref
        driver.saved = None
        kernel = driver.kernel
        self._reset(kernel.l1vh, kernel.hyperv, kernel.device_domains, kernel.mshv, kernel.hv_current_partition_id)

    def enter(self, driver: NativeDriver) -> None:
        """Put a driver's world back into the image."""
        self._put_away()
        self.owner_ref = driver.ref
        assert driver.saved is not None
        self.restore(driver.saved)
        driver.saved = None
        shadow = driver.shadow
        if shadow is not None:
            assert shadow.saved is not None
            shadow.image.owner_ref = shadow.ref
            shadow.image.restore(shadow.saved)
            shadow.saved = None
        driver.follow()

    def forget(self) -> None:
        """Nobody's world is in the image any more, and nothing of it has run."""
        self.owner_ref = None
        ctypes.memset(self.place(4), 0, self.place(5))

    def restore(self, state: bytes) -> None:
        """What :meth:`save` gave is the state again."""
        self.library.hvm_restore(state)

    def add_device(self, device: Device) -> int:
        """C's address for a device (``struct device``)."""
        place = device.segment << 32 | (device.bus & 0xFFFF) << 16 | ((device.slot << 3 | device.function) & 0xFFFF)
        ids = device.requester << 32 | device.requester_own & 0xFFFFFFFF
        return self._add_device(place, ids, device.is_pci, *_NAME.unpack(device.name.encode()[:31].ljust(32, b"\0")))

    def reset_time(self) -> float:
        """Seconds that a fresh image takes, the best of some hundred; nobody's world is in it afterwards."""
        self._put_away()
        best = 1.0
        for _ in range(300):
            started = time.perf_counter()
            self._reset(0, 1, 1, 0, 1)
            best = min(best, time.perf_counter() - started)
        self.owner_ref = None
        return best

    # --- callbacks --------------------------------------------------------------------------------------------------------

    def _on_door(self, control: int, round_: int, where: int) -> int:
        driver = self.owner_ref()  # type: ignore[misc]
        try:
            kernel = driver.kernel  # type: ignore[union-attr]
            kernel.rep_round = round_
            kernel.where = self._places.get(where) or self.where(where)
            status: int = kernel.door(control, self.input, self.output)
            kernel.rep_round = 0
            return status
        except BaseException as error:  # it must not go through C: the call is unwound, then it goes on
            driver.raised = error  # type: ignore[union-attr]
            self.shared[UNWIND] = 1
            return 0

    def _on_service(self, service: int, a: int, b: int, where: int, text: str) -> int:
        driver = self.owner_ref()  # type: ignore[misc]
        try:
            answer: int = driver.service(service, a, b, where, text)  # type: ignore[union-attr]
            return answer
        except BaseException as error:
            driver.raised = error  # type: ignore[union-attr]
            self.shared[UNWIND] = 1
            return 0

    def geometry(self, first: int, last: int, forced: int) -> Geometry:
        """The same object for the same aperture, in bytes."""
        key = (first, last, forced)
        found = self._geometries.get(key)
        if found is None:
            found = self._geometries[key] = Geometry(first, last, bool(forced))
        return found

    # --- views ------------------------------------------------------------------------------------------------------------

    def where(self, address: int) -> str:
        """Function and line of a return address in the driver, such as ``hv_iommu_map_pgs, hyperv-iommu.c:586``; empty if it is
        not the driver's."""
        text = self._places.get(address)
        if text is None:
            function, file, line = self.dwarf.at(address - 1 - self.base) if address > self.base else ("", "", 0)
            text = self._places[address] = f"{function}, {file}:{line}" if file and line else ""
        return text

    def coverage(self) -> set[int]:
        """The addresses in the image (from its start) at which blocks of code began that have run in this process."""
        size = self.place(5)
        marks = (ctypes.c_char * size).from_address(self.place(4)).raw
        return {at for at, mark in enumerate(marks) if mark}


_IMAGES: dict[Path, Image] = {}


def image_of(build: Build, path: Path) -> Image:
    """The image of a build in this process; loaded when it is asked for first."""
    image = _IMAGES.get(path)
    if image is None:
        image = _IMAGES[path] = Image(build, path)
    return image
