"""A native driver's state for a gear that puts worlds back: its images as bytes, and one form for equal states."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hvmodel.drivers.native import image as at

if TYPE_CHECKING:
    from hvmodel.drivers.native.image import Image
    from hvmodel.drivers.native.memory import NativeSlab
    from hvmodel.drivers.native.shadow import Shadow
    from hvmodel.kernel.iommu import IommuDomain


class Kept:
    """Mixed into ``NativeDriver``, which has the images."""

    image: Image
    shadow: Shadow | None
    slab: NativeSlab
    _addresses: dict[IommuDomain, int]

    if TYPE_CHECKING:

        def here(self) -> Image: ...
        def take_changes(self) -> None: ...
        def follow(self) -> None: ...

    def settle(self) -> None:
        """Give the trees what changed in them: in Python a driver's state is whole then."""
        if self.here().shared[at.CHANGES]:
            self.take_changes()

    def save_images(self) -> tuple[bytes, bytes]:
        """All that is below the driver, in both images."""
        first = self.here().save()
        return first, self.shadow.image.save() if self.shadow is not None else b""

    def restore_images(self, state: tuple[bytes, bytes]) -> None:
        """What :meth:`save_images` gave is the state again. The Python side is not touched."""
        first, second = state
        self.here().restore(first)
        if self.shadow is not None and second:
            self.shadow.image.restore(second)
        self.follow()

    def canonical_memory(self, labels: dict[int, Any], domains: list[IommuDomain]) -> tuple[bytes, list[Any]]:
        """What the driver keeps as bytes that do not depend on where its objects lie, beginning at these domains; and for each
        object the label of whom it belongs to."""
        addresses = self._addresses
        form = self.here().form(*[addresses.get(domain, 0) for domain in domains])
        if not form:
            return self.here().save(), []
        words = memoryview(form).cast("Q")
        owners = self.slab.owners
        end = len(words) - words[0]
        return form[: 8 * end], [labels.get(id(owners[number])) if number < len(owners) else None for number in words[end:]]


__all__ = ["Kept"]
