"""The vocabulary: what a caller can ask of the driver, and what can happen around it, as plain frozen data.

Every gear, replay, the tests and the traces speak it. Addresses are in bytes, ranges in 4 KiB pages, devices and groups are
their numbers in the configuration, domains are handles that the allocating operation chose, and ``by`` is the thread that acts:
the number of the VM that its process manages, or 0 for a host thread. An operation whose handle is gone does nothing, so that
any subset of a trace is a trace.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from hvmodel.ioctls import (
    AccessPin,
    DmaMap,
    DmaUnmap,
    Exit,
    HwptAlloc,
    HwptFree,
    IoasMap,
    IoasRevoke,
    IoasUnmap,
    IommufdAttach,
    IommufdClose,
    IommufdDetach,
    MsiMap,
    VfioJoin,
    VfioLeave,
    VfioMap,
    VfioUnmap,
)
from hvmodel.operation import Operation


@dataclass(frozen=True, slots=True)
class Boot(Operation):
    """hv_iommu_detect, hv_iommu_init, and the bus probe of all devices that are present."""

    kind: ClassVar[str] = "boot"


@dataclass(frozen=True, slots=True)
class Kexec(Operation):
    """A new kernel starts; the old one cleaned nothing up. Hypervisor state stays, Linux state is gone. Boots again."""

    kind: ClassVar[str] = "kexec"


@dataclass(frozen=True, slots=True)
class Probe(Operation):
    """Hot-plug a device that is absent."""

    kind: ClassVar[str] = "probe"
    device: int = 0


@dataclass(frozen=True, slots=True)
class Release(Operation):
    """Hot-unplug a device: ``release_device`` runs."""

    kind: ClassVar[str] = "release"
    device: int = 0


@dataclass(frozen=True, slots=True)
class Unplug(Operation):
    """The device's bus dies: the device is gone and ``release_device`` never ran."""

    kind: ClassVar[str] = "unplug"
    device: int = 0


@dataclass(frozen=True, slots=True)
class VmCreate(Operation):
    """The VMM process creates its VM's partition."""

    kind: ClassVar[str] = "vm-create"
    vm: int = 1


@dataclass(frozen=True, slots=True)
class VmFinalise(Operation):
    """The partition is finalised; its process can still be looked up."""

    kind: ClassVar[str] = "vm-finalise"
    vm: int = 1


@dataclass(frozen=True, slots=True)
class VmDelete(Operation):
    """The partition is finalised if need be, withdrawn and deleted; its process owns no VM any more."""

    kind: ClassVar[str] = "vm-delete"
    vm: int = 1


@dataclass(frozen=True, slots=True)
class Claim(Operation):
    """``iommu_group_claim_dma_owner``: all devices of the group go to its blocking domain."""

    kind: ClassVar[str] = "claim"
    group: int = 0
    by: int = 0


@dataclass(frozen=True, slots=True)
class Disown(Operation):
    """``iommu_group_release_dma_owner``: all devices of the group go back to the default domain."""

    kind: ClassVar[str] = "disown"
    group: int = 0
    by: int = 0


@dataclass(frozen=True, slots=True)
class Alloc(Operation):
    """``iommu_paging_domain_alloc`` for a device; the domain is called ``domain`` from now on."""

    kind: ClassVar[str] = "alloc"
    domain: int = 1
    device: int = 0
    by: int = 0


@dataclass(frozen=True, slots=True)
class Free(Operation):
    """``iommu_domain_free`` of a domain that no group uses."""

    kind: ClassVar[str] = "free"
    domain: int = 1
    by: int = 0


@dataclass(frozen=True, slots=True)
class Attach(Operation):
    """``iommu_attach_group``: refused by the core unless the group is in its default or blocking domain."""

    kind: ClassVar[str] = "attach"
    domain: int = 1
    group: int = 0
    by: int = 0


@dataclass(frozen=True, slots=True)
class Replace(Operation):
    """``iommu_replace_group_handle``: from whatever domain the group is in, without a stop in between."""

    kind: ClassVar[str] = "replace"
    domain: int = 1
    group: int = 0
    by: int = 0


@dataclass(frozen=True, slots=True)
class Detach(Operation):
    """``iommu_detach_group``: to the blocking domain if the group is owned, else to the default domain. Must succeed."""

    kind: ClassVar[str] = "detach"
    group: int = 0
    by: int = 0


@dataclass(frozen=True, slots=True)
class Reset(Operation):
    """``pci_dev_reset_iommu_prepare`` and ``_done``: the device is blocked, reset, and attached to the same domain again."""

    kind: ClassVar[str] = "reset"
    device: int = 0
    by: int = 0


@dataclass(frozen=True, slots=True)
class Map(Operation):
    """``iommu_map`` of ``pages`` pages from ``iova`` to ``paddr``; ``prot`` is a subset of "rw", ``gfp`` kernel or atomic."""

    kind: ClassVar[str] = "map"
    domain: int = 1
    iova: int = 0
    paddr: int = 0
    pages: int = 1
    prot: str = "rw"
    gfp: str = "kernel"


@dataclass(frozen=True, slots=True)
class MapScattered(Operation):
    """One caller's request over memory in ``runs`` pieces of ``run_pages`` pages, physically ``stride`` pages apart.

    One ``iommu_map`` for each piece, at consecutive IOVAs, as VFIO and iommufd do it; if one fails, those before it are unmapped.
    """

    kind: ClassVar[str] = "map-scattered"
    domain: int = 1
    iova: int = 0
    paddr: int = 0
    runs: int = 2
    run_pages: int = 1
    stride: int = 2


@dataclass(frozen=True, slots=True)
class Unmap(Operation):
    """``iommu_unmap`` of ``pages`` pages from ``iova``."""

    kind: ClassVar[str] = "unmap"
    domain: int = 1
    iova: int = 0
    pages: int = 1


@dataclass(frozen=True, slots=True)
class Lookup(Operation):
    """``iommu_iova_to_phys``."""

    kind: ClassVar[str] = "lookup"
    domain: int = 1
    iova: int = 0


@dataclass(frozen=True, slots=True)
class DriverMap(Operation):
    """A direct ``map_pages`` call that the core would not make; ``mapped`` False passes a NULL pointer."""

    kind: ClassVar[str] = "driver-map"
    domain: int = 1
    iova: int = 0
    paddr: int = 0
    pgsize: int = 4096
    pgcount: int = 1
    prot: str = "rw"
    gfp: str = "kernel"
    mapped: bool = True


@dataclass(frozen=True, slots=True)
class DriverUnmap(Operation):
    """A direct ``unmap_pages`` call that the core would not make."""

    kind: ClassVar[str] = "driver-unmap"
    domain: int = 1
    iova: int = 0
    pgsize: int = 4096
    pgcount: int = 1


@dataclass(frozen=True, slots=True)
class Recover(Operation):
    """Faults are lifted and everything is given back; what is left then is a leak or a lie. Ends a run."""

    kind: ClassVar[str] = "recover"


KINDS: dict[str, type[Operation]] = {
    cls.kind: cls
    for cls in (
        Boot,
        Kexec,
        Probe,
        Release,
        Unplug,
        VmCreate,
        VmFinalise,
        VmDelete,
        Claim,
        Disown,
        Alloc,
        Free,
        Attach,
        Replace,
        Detach,
        Reset,
        Map,
        MapScattered,
        Unmap,
        Lookup,
        DriverMap,
        DriverUnmap,
        VfioJoin,
        VfioLeave,
        VfioMap,
        VfioUnmap,
        IommufdAttach,
        IommufdDetach,
        IommufdClose,
        HwptAlloc,
        HwptFree,
        IoasMap,
        IoasUnmap,
        IoasRevoke,
        AccessPin,
        DmaMap,
        DmaUnmap,
        MsiMap,
        Exit,
        Recover,
    )
}
"""Every kind of operation by its name in a trace."""

IOCTLS = frozenset(kind for kind, cls in KINDS.items() if cls.__module__ == VfioJoin.__module__)
"""Kinds that user space or a host driver asks for, and not the caller of the core itself."""

ADDRESS_FIELDS = frozenset({"iova", "paddr", "pgsize"})
"""Fields that hold bytes and are written in hex."""

FLAGS = ("mapped", "probe", "mmio", "small", "short")
"""Fields that are true or false."""

WORDS = ("by", "prot", "gfp", "piece", "gap", "hwpt", *FLAGS)
"""Fields that are left out where they are as usual."""

RANGES = (Map, Unmap, VfioMap, VfioUnmap, IoasMap, IoasUnmap, AccessPin, DmaMap)
"""Kinds whose ``pages`` begin at their ``iova``."""


def arguments(operation: Operation) -> dict[str, object]:
    """The operation's own fields, without faults, in order."""
    return {name: getattr(operation, name) for name in field_names(type(operation))}


_FIELDS: dict[type[Operation], tuple[str, ...]] = {}


def field_names(cls: type[Operation]) -> tuple[str, ...]:
    """The names of an operation's own fields, in order."""
    names = _FIELDS.get(cls)
    if names is None:
        names = tuple(name for name in cls.__dataclass_fields__ if name not in ("faults", "kind"))
        _FIELDS[cls] = names
    return names


def describe(operation: Operation) -> str:
    """One line for a person: ``map domain 1, iova 0x100000, paddr 0x40001000, pages 384``."""
    parts = []
    for name, value in arguments(operation).items():
        default = type(operation).__dataclass_fields__[name].default
        if value == default and name in WORDS:
            continue
        text = hex(value) if name in ADDRESS_FIELDS and isinstance(value, int) else str(value)
        if name == "by":
            text = f"VM {value}"
        parts.append(f"{name} {text}")
    text = f"{operation.kind} {', '.join(parts)}" if parts else operation.kind
    if operation.faults:
        text += f"  [refused: {'; '.join(str(fault) for fault in operation.faults)}]"
    return text


__all__ = [
    "ADDRESS_FIELDS",
    "FLAGS",
    "IOCTLS",
    "KINDS",
    "RANGES",
    "WORDS",
    "AccessPin",
    "Alloc",
    "Attach",
    "Boot",
    "Claim",
    "Detach",
    "Disown",
    "DmaMap",
    "DmaUnmap",
    "DriverMap",
    "DriverUnmap",
    "Exit",
    "Free",
    "HwptAlloc",
    "HwptFree",
    "IoasMap",
    "IoasRevoke",
    "IoasUnmap",
    "IommufdAttach",
    "IommufdClose",
    "IommufdDetach",
    "Kexec",
    "Lookup",
    "Map",
    "MapScattered",
    "MsiMap",
    "Operation",
    "Probe",
    "Recover",
    "Release",
    "Replace",
    "Reset",
    "Unmap",
    "Unplug",
    "VfioJoin",
    "VfioLeave",
    "VfioMap",
    "VfioUnmap",
    "VmCreate",
    "VmDelete",
    "VmFinalise",
    "arguments",
    "describe",
    "field_names",
]
