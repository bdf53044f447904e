"""The second image of a driver, in which every local is born as zero (``runtime/shadow.c``).

It follows the first one call by call, is answered what the first one was answered, and ends where it asks or answers anything else:
there a value that was never set has decided something. That is found in the run itself, so that it replays and is minimised like
every other finding. The calls are made from C; here is what both images of a world have in common.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import TYPE_CHECKING

from hvmodel.drivers.native.image import Image
from hvmodel.kernel.services import Kernel

if TYPE_CHECKING:
    from hvmodel.drivers.native.driver import NativeDriver

_ARENA = 1 << 30
_STATE = 1 << 20


def pair(first: Image, second: Image) -> None:
    """Once after loading: ``second`` follows ``first``, which learns what lies where in it."""
    lies = first.library.hvm_lies
    for what, size in ((0, _ARENA), (1, _STATE)):
        lies(first.place(what), size, second.place(what))
    own = {variable.name: variable.address for variable in second.dwarf.variables}
    for variable in first.dwarf.variables:
        if variable.name in own and variable.size and variable.name != "__func__":
            lies(first.base + variable.address, variable.size, second.base + own[variable.name])
    second.library.hvm_follow(first.library.hvm_record_of())


class Shadow:
    """One world's second image; it is in the image whenever the first one is."""

    follows = True

    def __init__(self, driver: NativeDriver, image: Image) -> None:
        self.ref = weakref.ref(self)
        self.image = image
        self.kernel: Kernel = driver.kernel
        self.shadow = None
        self.saved: bytes | None = None
        self.raised: BaseException | None = None
        self.registering: Callable[[], int] = lambda: 0
        image.begin(self)

    def lead(self, first: Image, on: bool) -> None:
        """Whether the first image has this one follow it from now on."""
        call, shared, left = self.image.leads
        first.lead(call if on else 0, shared, left)

    def take_changes(self) -> None:
        """Nobody looks at its trees."""

    def service(self, _service: int, _a: int, _b: int, _where: int, _text: str) -> int:
        """The one thing that the second image asks itself: to be registered, which happens once for both."""
        return self.registering()

    def init(self, context: int) -> None:
        """Its init function, while that of the first image registers: raises what comes up in it."""
        self.image.call(1, context, 0, 0, 0, 0, 0, 0)
        if self.raised is not None:
            raised, self.raised = self.raised, None
            raise raised
