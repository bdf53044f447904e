"""How ``repaired-c`` and its variants are built and driven."""

from __future__ import annotations

import hashlib
from pathlib import Path

from hvmodel.drivers.native.build import build, cache_root
from hvmodel.drivers.native.driver import NativeDriver, NativeLoader
from hvmodel.drivers.native.errors import NativeError
from hvmodel.drivers.native.own import NAME, SOURCE
from hvmodel.kernel.iommu import Device, IommuDomain
from hvmodel.kernel.services import Kernel

Changes = tuple[tuple[str, str], ...]
"""Pairs of text that stands in the file exactly once, and text that stands there instead."""


class OwnDriver(NativeDriver):
    """The file in a kernel, and what a build cannot find out about it."""

    name = NAME

    def __init__(self, kernel: Kernel, loader: NativeLoader) -> None:
        super().__init__(kernel, loader.build, loader.traits, loader.image, loader.second)
        self._released: set[Device] = set()

    def pointer_domain(self, device: Device) -> IommuDomain | None:
        """From release on, what is in the object that the private pointer names is the driver's own business."""
        return None if device in self._released else super().pointer_domain(device)

    def _probe_device(self, device: Device) -> int:
        answer = super()._probe_device(device)
        if not answer:
            self._released.discard(device)
        return answer

    def _release_device(self, device: Device) -> None:
        super()._release_device(device)
        self._released.add(device)


class OwnLoader(NativeLoader):
    """Loads the file into a kernel."""

    def __call__(self, kernel: Kernel) -> NativeDriver:
        return OwnDriver(kernel, self)


def loader(changes: Changes) -> OwnLoader:
    """Builds and loads the file with these changes. Raises NativeError in one line if that fails."""
    made = build(changed_path(changes))
    return OwnLoader(made, made.image, made.shadow)


def changed(text: str, changes: Changes) -> str:
    """A text with changes. Raises ValueError if one does not stand in it exactly once."""
    for old, new in changes:
        if text.count(old) != 1:
            raise ValueError(f"stands {text.count(old)} times in the file, not once: {old!r}")
        text = text.replace(old, new)
    return text


def changed_path(changes: Changes) -> Path:
    """The file with these changes, kept by its content; the file itself if there are none."""
    if not changes:
        return SOURCE
    data = changed(SOURCE.read_text(encoding="ascii"), changes).encode("ascii")
    place = cache_root() / "variants" / hashlib.sha256(data).hexdigest()[:32] / SOURCE.name
    if place.exists():
        return place
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        part = place.with_suffix(".part")
        part.write_bytes(data)
        part.rename(place)
    except OSError as error:
        raise NativeError(f"cannot keep builds in {place.parent}: {error.strerror} (set XDG_CACHE_HOME)") from None
    return place


__all__ = ["Changes", "OwnDriver", "OwnLoader", "changed", "changed_path", "loader"]
