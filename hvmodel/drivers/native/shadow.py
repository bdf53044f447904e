"""The second image of a driver, in which every local is born as zero (``runtime/shadow.c``).

It follows the first one call by call, is answered what the first one was answered, and ends where it asks or answers anything else:
there a value that was never set has decided something. That is found in the run itself, so that it replays and is minimised like
every other finding.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import TYPE_CHECKING

from hvmodel.drivers.native import image as at
from hvmodel.drivers.native.image import Image
from hvmodel.kernel.iommu import Device
from hvmodel.kernel.services import Kernel

if TYPE_CHECKING:
    from hvmodel.drivers.native.driver import NativeDriver

_ARENA = 1 << 30
_STATE = 1 << 20


class Shadow:
    """One world's second image."""

    def __init__(self, driver: NativeDriver, image: Image) -> None:
        self.ref = weakref.ref(self)
        self.image = image
        self.kernel: Kernel = driver.kernel
        self.saved: bytes | None = None
        self.raised: BaseException | None = None
        self.registering: Callable[[], int] = lambda: 0
        first = driver.image
        self._first = first
        self._ranges = [(first.place(what), image.place(what), size) for what, size in ((0, _ARENA), (1, _STATE))]
        own = {variable.name: variable.address for variable in image.dwarf.variables}
        self._statics = {
            first.base + variable.address: (image.base + own[variable.name], variable.size)
            for variable in first.dwarf.variables
            if variable.name in own and variable.name != "__func__"
        }
        image.begin(self)
        image.library.hvm_pair(2, first.library.hvm_record_of())

    def take_changes(self) -> None:
        """Nobody looks at its trees."""

    def here(self) -> Image:
        """The image with this world in it."""
        if self.image.owner_ref is not self.ref:
            self.image.enter(self)
        return self.image

    def add_device(self, device: Device) -> None:
        """The same device in the second image."""
        self.here().add_device(device)

    def there(self, address: int) -> int:
        """The same thing's address in the second image; 0 and what is no address stay."""
        for start, other, size in self._ranges:
            if 0 <= address - start < size:
                return other + address - start
        for start, (other, size) in self._statics.items():
            if 0 <= address - start < max(size, 1):
                return other + address - start
        return address

    def service(self, _service: int, _a: int, _b: int, _where: int, _text: str) -> int:
        """The one thing that the second image asks itself: to be registered, which happens once for both."""
        return self.registering()

    def parted(self, op: int, context: int, arguments: tuple[int, ...], value: int | None) -> str | None:
        """Do one call again; None if it is the same as in the first image, else where it parts. ``value`` is what came of it there,
        None if that is not known yet."""
        image = self.here()
        mapped = self._first.shared[at.MAPPED]
        mine = image.call(op, context, *arguments)
        outcome = image.shared[at.ENDED] & 0xFF
        if self.raised is not None:
            raised, self.raised = self.raised, None
            raise raised
        if value is None and not outcome:
            return None
        if outcome or image.library.hvm_record_state(1):
            place = self._first.where(image.library.hvm_record_state(2))
            return f"whether {place} is reached" if place else f"what {image.where(image.shared[at.CRASH_WHERE])} does"
        if mine != self.there(value or 0) or image.shared[at.MAPPED] != mapped:
            return "what the call answers"
        return None
