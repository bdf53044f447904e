"""What the IOMMU core and a driver both touch: devices, groups, domains, ops (``include/linux/iommu.h``, ``pci.h``)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

from hvmodel.kernel.slab import SlabObject

IOMMU_READ = 1
IOMMU_WRITE = 2
IOMMU_CACHE = 4
IOMMU_NOEXEC = 8
IOMMU_MMIO = 16

IOMMU_DOMAIN_BLOCKED = "blocked"
IOMMU_DOMAIN_IDENTITY = "identity"
IOMMU_DOMAIN_PAGING = "paging"
IOMMU_DOMAIN_DMA = "dma"

GFP_KERNEL = "GFP_KERNEL"
GFP_ATOMIC = "GFP_ATOMIC"

EIO = 5
ENOMEM = 12
ENOENT = 2
EBUSY = 16
EEXIST = 17
ENODEV = 19
EINVAL = 22
ENOSPC = 28
E2BIG = 7
EOPNOTSUPP = 95

ERRNO_NAMES = {EIO: "EIO", ENOMEM: "ENOMEM", EBUSY: "EBUSY", ENODEV: "ENODEV", EINVAL: "EINVAL", ENOSPC: "ENOSPC"}
ERRNO_NAMES |= {E2BIG: "E2BIG", EOPNOTSUPP: "EOPNOTSUPP", EEXIST: "EEXIST", ENOENT: "ENOENT"}


class Geometry(NamedTuple):
    """``struct iommu_domain_geometry``: the aperture in bytes, last address included."""

    aperture_start: int
    aperture_end: int
    force_aperture: bool


class IommuDomain(SlabObject):
    """``struct iommu_domain``, embedded in a driver's own domain structure (``container``)."""

    __slots__ = ("container", "geometry", "pgsize_bitmap", "type")

    def __init__(self, container: Any = None) -> None:
        self.container = container
        self.type = ""
        self.pgsize_bitmap = 0
        self.geometry: Geometry | None = None


class Device:
    """``struct pci_dev`` with the device's IOMMU state. ``number`` is its place in the configuration."""

    __slots__ = (
        "bus",
        "claimed",
        "function",
        "group",
        "is_pci",
        "name",
        "number",
        "present",
        "priv",
        "requester",
        "segment",
        "slot",
    )

    def __init__(self, number: int, name: str, segment: int, bus: int, slot: int, function: int, requester: int) -> None:
        self.number = number
        self.name = name
        self.segment = segment
        self.bus = bus
        self.slot = slot
        self.function = function
        self.requester = requester
        """segment << 16 | bus << 8 | devfn that its DMA carries (its own, or that of its alias)."""
        self.is_pci = True
        self.present = True
        self.claimed = False
        self.priv: Any = None
        self.group: Group | None = None

    @property
    def requester_own(self) -> int:
        """segment << 16 | bus << 8 | devfn of the function itself."""
        return self.segment << 16 | self.bus << 8 | self.slot << 3 | self.function


class Group:
    """``struct iommu_group``: the devices that cannot be told apart, and the domains the core keeps for them."""

    __slots__ = ("blocking_domain", "default_domain", "devices", "domain", "number", "owner")

    def __init__(self, number: int) -> None:
        self.number = number
        self.devices: list[Device] = []
        self.default_domain: IommuDomain | None = None
        self.blocking_domain: IommuDomain | None = None
        self.domain: IommuDomain | None = None
        self.owner: int | None = None
        """The VM number of the thread that claimed DMA ownership (0 for a host thread), or None."""


@dataclass(slots=True)
class IommuOps:
    """``struct iommu_ops`` and ``default_domain_ops``: what a driver offers. None is a NULL pointer.

    ``map_pages`` returns 0 or a negative errno and writes the bytes mapped to ``mapped[0]`` (None: a NULL pointer); ``unmap_pages``
    returns bytes; ``iova_to_phys`` bytes or 0. ``attach_dev(domain, device, old)`` returns 0 or a negative errno.
    """

    attach_dev: Callable[[IommuDomain, Device, IommuDomain | None], int]
    map_pages: Callable[[IommuDomain, int, int, int, int, int, str, list[int] | None], int]
    unmap_pages: Callable[[IommuDomain, int, int, int], int]
    iova_to_phys: Callable[[IommuDomain, int], int]
    free: Callable[[IommuDomain], None]
    probe_device: Callable[[Device], int]
    domain_alloc_paging: Callable[[Device], IommuDomain | int | None]
    release_device: Callable[[Device], None] | None = None
    probe_finalize: Callable[[Device], None] | None = None
    def_domain_type: Callable[[Device], str] | None = None
    capable: Callable[[Device, str], bool] | None = None
    domain_alloc_identity: Callable[[Device], IommuDomain] | None = None
    identity_domain: IommuDomain | None = None
    blocked_domain: IommuDomain | None = None
    release_domain: IommuDomain | None = None
    get_resv_regions: Callable[[Device], list[tuple[int, int]]] | None = None
    """Reserved regions as (first byte, last byte)."""
