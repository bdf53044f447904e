"""``repaired-c`` and its variants: our own driver in C (``repaired/hyperv-iommu.c``), and the same file with one small change each."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from functools import lru_cache
from pathlib import Path

from hvmodel.drivers.interface import DriverEntry
from hvmodel.drivers.native.build import build, cache_root
from hvmodel.drivers.native.driver import NativeDriver, NativeLoader
from hvmodel.drivers.native.errors import NativeError
from hvmodel.drivers.native.toolchain import find_compiler
from hvmodel.drivers.native.variants import VARIANTS_C, VariantC
from hvmodel.kernel.iommu import Device, IommuDomain
from hvmodel.kernel.services import Kernel

NAME = "repaired-c"
SUMMARY = "repaired in C: the fix proposal in the language of its readers (needs a C compiler)"
SOURCE = Path(__file__).parent / "repaired" / "hyperv-iommu.c"


class OwnDriver(NativeDriver):
    """The file, and what the build cannot find out about it."""

    def __init__(self, kernel: Kernel, loader: NativeLoader) -> None:
        super().__init__(kernel, loader.build, loader.traits, loader.image, loader.second)
        self.name = NAME  # type: ignore[misc]
        self._gone: set[Device] = set()

    def domain_id(self, domain: IommuDomain) -> int | None:
        """A direct-attach domain has no id: 0 is that of a static one."""
        ident = super().domain_id(domain)
        return None if not ident and not self._is_static(domain) else ident

    def _is_static(self, domain: IommuDomain) -> bool:
        return self._addresses[domain] - self.here().base in self.traits.statics.values()

    def pointer_domain(self, device: Device) -> IommuDomain | None:
        """From release on, what the private pointer names is the driver's own business."""
        return None if device in self._gone else super().pointer_domain(device)

    def _probe_device(self, device: Device) -> int:
        self._gone.discard(device)
        return super()._probe_device(device)

    def _release_device(self, device: Device) -> None:
        super()._release_device(device)
        self._gone.add(device)

    def _get_resv_regions(self, device: Device) -> list[tuple[int, int]]:
        """The judge asks, so nothing is refused meanwhile, and nothing counts."""
        faults = self.kernel.faults
        active, reached = faults._active, dict(faults.reached)
        faults._active = []
        try:
            return super()._get_resv_regions(device)
        finally:
            faults._active, faults.reached = active, reached


class OwnLoader(NativeLoader):
    """Loads the file into a kernel."""

    def __call__(self, kernel: Kernel) -> NativeDriver:
        return OwnDriver(kernel, self)


def is_own(name: str) -> bool:
    """Whether a name is that of our own driver in C or of one of its variants."""
    return name == NAME or name in VARIANTS_C


def has_compiler() -> bool:
    """Whether there is a C compiler."""
    try:
        find_compiler()
    except NativeError:
        return False
    return True


def own_source(changes: tuple[tuple[str, str], ...]) -> str:
    """The file with changes: pairs of what stands in it, exactly once, and what stands there instead. Raises ValueError otherwise."""
    text = SOURCE.read_text(encoding="ascii")
    for old, new in changes:
        if text.count(old) != 1:
            raise ValueError(f"stands {text.count(old)} times in {SOURCE.name}, not once: {old!r}")
        text = text.replace(old, new)
    return text


def own_path(changes: tuple[tuple[str, str], ...]) -> Path:
    """A file that holds the file with these changes; the file itself if there are none. Kept by content."""
    if not changes:
        return SOURCE
    data = own_source(changes).encode("ascii")
    place = cache_root() / "variants" / hashlib.sha256(data).hexdigest()[:32] / SOURCE.name
    if not place.exists():
        try:
            place.parent.mkdir(parents=True, exist_ok=True)
            part = place.with_suffix(".part")
            part.write_bytes(data)
            part.rename(place)
        except OSError as error:
            raise NativeError(f"cannot keep builds in {place.parent}: {error.strerror} (set XDG_CACHE_HOME)") from None
    return place


@lru_cache(maxsize=512)
def own_entry(name: str) -> DriverEntry:
    """The registry's entry for our own driver in C or a variant of it; built unless a build is kept.

    Raises KeyError for another name, NativeError in one line if it cannot be built, for one because there is no compiler.
    """
    if name == NAME:
        return DriverEntry(NAME, SUMMARY, OwnLoader(*_built(())))
    variant = VARIANTS_C[name]
    return DriverEntry(name, variant.summary, OwnLoader(*_built(variant.changes)), variant.defect, variant.kind, variant.story)


def _built(changes: tuple[tuple[str, str], ...]):  # type: ignore[no-untyped-def]
    made = build(own_path(changes))
    return made, made.image, made.shadow


def own_variants() -> Mapping[str, VariantC]:
    """The variants by name."""
    return VARIANTS_C


def own_names() -> Iterator[str]:
    """The driver and its variants by name; none where there is no compiler."""
    if has_compiler():
        yield NAME
        yield from VARIANTS_C


__all__ = ["NAME", "SOURCE", "is_own", "own_entry", "own_names", "own_path", "own_source", "own_variants"]
