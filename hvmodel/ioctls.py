"""What user space asks of the kernel, and what host drivers ask of the DMA API: the part of the vocabulary above the IOMMU core.

``callers/vfio.py``, ``iommufd.py`` and ``dma.py`` make requests of the core from it, and those become calls of the driver. Handles
are numbers that the operation chose: a container, an IOAS, a page table (hwpt). Addresses are in bytes, counts in 4 KiB pages,
groups and devices are their numbers in the configuration, ``by`` is the VM whose process acts (0: host applications).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from hvmodel.operation import Operation


@dataclass(frozen=True, slots=True)
class VfioJoin(Operation):
    """A process adds a group to a VFIO type1 container: VFIO_GROUP_SET_CONTAINER, and VFIO_SET_IOMMU for the first group.

    The container is new if no group is in it, and is the process's from then on. ``probe``: as Linux 6.12 does it, which tries out
    whether the driver unmaps large pages whole (``vfio_test_domain_fgsp``).
    """

    kind: ClassVar[str] = "vfio-join"
    container: int = 1
    group: int = 0
    by: int = 0
    probe: bool = False


@dataclass(frozen=True, slots=True)
class VfioLeave(Operation):
    """The last file of a group is closed: it leaves its container; the last group's leaving ends the container."""

    kind: ClassVar[str] = "vfio-leave"
    group: int = 0


@dataclass(frozen=True, slots=True)
class VfioMap(Operation):
    """VFIO_IOMMU_MAP_DMA of ``pages`` pages of the process's memory at ``iova``.

    The memory begins at ``paddr`` and is physically contiguous, or in pieces of ``piece`` pages with ``gap`` pages between them.
    ``mmio``: it is another device's BAR, which is mapped and not pinned.
    """

    kind: ClassVar[str] = "vfio-map"
    container: int = 1
    iova: int = 0
    paddr: int = 0
    pages: int = 1
    piece: int = 0
    gap: int = 0
    prot: str = "rw"
    mmio: bool = False


@dataclass(frozen=True, slots=True)
class VfioUnmap(Operation):
    """VFIO_IOMMU_UNMAP_DMA: what was mapped in the range, whole mappings only; no pages: everything."""

    kind: ClassVar[str] = "vfio-unmap"
    container: int = 1
    iova: int = 0
    pages: int = 1


@dataclass(frozen=True, slots=True)
class IommufdAttach(Operation):
    """A process opens the devices of a group with its iommufd if it has not (VFIO_DEVICE_BIND_IOMMUFD), and attaches them to an
    IOAS, or to a page table of it (VFIO_DEVICE_ATTACH_IOMMUFD_PT); if they are attached elsewhere, that is replaced.

    ``hwpt`` 0: a page table that the kernel chooses or makes. An IOAS that is new is the process's.
    """

    kind: ClassVar[str] = "iommufd-attach"
    ioas: int = 1
    group: int = 0
    hwpt: int = 0
    by: int = 0


@dataclass(frozen=True, slots=True)
class IommufdDetach(Operation):
    """VFIO_DEVICE_DETACH_IOMMUFD_PT for the devices of a group."""

    kind: ClassVar[str] = "iommufd-detach"
    group: int = 0


@dataclass(frozen=True, slots=True)
class IommufdClose(Operation):
    """The device files of a group are closed: detached if need be, and its ownership is released."""

    kind: ClassVar[str] = "iommufd-close"
    group: int = 0


@dataclass(frozen=True, slots=True)
class HwptAlloc(Operation):
    """IOMMU_HWPT_ALLOC: a page table for a device, filled with what its IOAS holds; nothing is attached."""

    kind: ClassVar[str] = "hwpt-alloc"
    hwpt: int = 1
    ioas: int = 1
    device: int = 0


@dataclass(frozen=True, slots=True)
class HwptFree(Operation):
    """IOMMU_DESTROY of a page table that nothing is attached to."""

    kind: ClassVar[str] = "hwpt-free"
    hwpt: int = 1


@dataclass(frozen=True, slots=True)
class IoasMap(Operation):
    """IOMMU_IOAS_MAP; memory as for :class:`VfioMap`, ``mmio`` is a dma-buf. An IOAS that is new is the process's.

    ``small``: as VFIO's v1 interface wants it, page by page. ``short``: the kernel is short of memory, so that it maps in batches
    of 21 pieces.
    """

    kind: ClassVar[str] = "ioas-map"
    ioas: int = 1
    iova: int = 0
    paddr: int = 0
    pages: int = 1
    piece: int = 0
    gap: int = 0
    prot: str = "rw"
    mmio: bool = False
    small: bool = False
    short: bool = False
    by: int = 0


@dataclass(frozen=True, slots=True)
class IoasUnmap(Operation):
    """IOMMU_IOAS_UNMAP: whole areas in the range; no pages: everything. An area that was mapped page by page may be cut."""

    kind: ClassVar[str] = "ioas-unmap"
    ioas: int = 1
    iova: int = 0
    pages: int = 1


@dataclass(frozen=True, slots=True)
class IoasRevoke(Operation):
    """The exporter of the dma-buf that is mapped at ``iova`` takes it back (``iopt_revoke_notify``)."""

    kind: ClassVar[str] = "ioas-revoke"
    ioas: int = 1
    iova: int = 0


@dataclass(frozen=True, slots=True)
class AccessPin(Operation):
    """A kernel user of an IOAS (an emulated device) pins pages (``iommufd_access_pin_pages``), until they are unmapped."""

    kind: ClassVar[str] = "access-pin"
    ioas: int = 1
    iova: int = 0
    pages: int = 1


@dataclass(frozen=True, slots=True)
class DmaMap(Operation):
    """A host driver's streaming map through the paging domain that its device is in (``__iommu_dma_map``), in atomic context."""

    kind: ClassVar[str] = "dma-map"
    device: int = 0
    iova: int = 0
    paddr: int = 0
    pages: int = 1
    prot: str = "rw"


@dataclass(frozen=True, slots=True)
class DmaUnmap(Operation):
    """The unmap of what :class:`DmaMap` mapped at ``iova``; its memory is given back at once."""

    kind: ClassVar[str] = "dma-unmap"
    device: int = 0
    iova: int = 0


@dataclass(frozen=True, slots=True)
class MsiMap(Operation):
    """A page of the interrupt controller is mapped for a device (``iommu_dma_get_msi_page``); nobody unmaps it."""

    kind: ClassVar[str] = "msi-map"
    device: int = 0
    iova: int = 0
    paddr: int = 0


@dataclass(frozen=True, slots=True)
class Exit(Operation):
    """The process that manages VM ``by`` (0: all host applications) dies: its files are closed in the order of their numbers."""

    kind: ClassVar[str] = "exit"
    by: int = 0
