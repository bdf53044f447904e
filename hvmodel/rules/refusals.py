"""Which faults an operation may meet: sites, answers and durations worth trying."""

from __future__ import annotations

from hvmodel.faults import ALLOC_PAGES, KERNEL_SITES, KZALLOC, REGISTER, SYSFS_ADD, Fault
from hvmodel.operations import Map, MapScattered, Operation, Unmap
from hvmodel.rules.chooser import Chooser

_MOVES = ("ATTACH_DEVICE_DOMAIN", "DETACH_DEVICE_DOMAIN", "ATTACH_DEVICE_DOMAIN", "ATTACH_DEVICE", "DETACH_DEVICE")
_GUEST_MOVES = ("ATTACH_DEVICE", "DETACH_DEVICE")
_MEMORY = ("DEPOSIT_MEMORY", ALLOC_PAGES)

SITES: dict[str, tuple[str, ...]] = {
    "boot": ("ATTACH_DEVICE_DOMAIN", SYSFS_ADD, REGISTER, KZALLOC),
    "kexec": ("ATTACH_DEVICE_DOMAIN", SYSFS_ADD, REGISTER, KZALLOC),
    "probe": ("ATTACH_DEVICE_DOMAIN", "ATTACH_DEVICE_DOMAIN", KZALLOC),
    "alloc": ("CREATE_DEVICE_DOMAIN", KZALLOC),
    "claim": (*_MOVES, "CREATE_DEVICE_DOMAIN", KZALLOC),
    "attach": _MOVES,
    "replace": _MOVES,
    "detach": _MOVES,
    "disown": _MOVES,
    "reset": (*_MOVES, "CREATE_DEVICE_DOMAIN"),
    "free": ("DELETE_DEVICE_DOMAIN",),
    "release": ("DETACH_DEVICE_DOMAIN", "DETACH_DEVICE", "ATTACH_DEVICE_DOMAIN"),
    "map": ("MAP_DEVICE_GPA_PAGES", "MAP_DEVICE_GPA_PAGES", "UNMAP_DEVICE_GPA_PAGES", KZALLOC),
    "map-scattered": ("MAP_DEVICE_GPA_PAGES", "UNMAP_DEVICE_GPA_PAGES", KZALLOC),
    "unmap": ("UNMAP_DEVICE_GPA_PAGES", "UNMAP_DEVICE_GPA_PAGES", KZALLOC),
    "driver-map": ("MAP_DEVICE_GPA_PAGES", "UNMAP_DEVICE_GPA_PAGES", KZALLOC),
    "driver-unmap": ("UNMAP_DEVICE_GPA_PAGES",),
    "vfio-join": (*_MOVES, "CREATE_DEVICE_DOMAIN", "DELETE_DEVICE_DOMAIN", "MAP_DEVICE_GPA_PAGES", KZALLOC),
    "vfio-leave": (*_MOVES, "UNMAP_DEVICE_GPA_PAGES", "DELETE_DEVICE_DOMAIN"),
    "vfio-map": ("MAP_DEVICE_GPA_PAGES", "MAP_DEVICE_GPA_PAGES", "UNMAP_DEVICE_GPA_PAGES", KZALLOC),
    "vfio-unmap": ("UNMAP_DEVICE_GPA_PAGES",),
    "iommufd-attach": (*_MOVES, "CREATE_DEVICE_DOMAIN", "DELETE_DEVICE_DOMAIN", "MAP_DEVICE_GPA_PAGES", KZALLOC),
    "iommufd-detach": (*_MOVES, "UNMAP_DEVICE_GPA_PAGES", "DELETE_DEVICE_DOMAIN"),
    "iommufd-close": (*_MOVES, "UNMAP_DEVICE_GPA_PAGES", "DELETE_DEVICE_DOMAIN"),
    "hwpt-alloc": ("CREATE_DEVICE_DOMAIN", "MAP_DEVICE_GPA_PAGES", "UNMAP_DEVICE_GPA_PAGES", KZALLOC),
    "hwpt-free": ("UNMAP_DEVICE_GPA_PAGES", "DELETE_DEVICE_DOMAIN"),
    "ioas-map": ("MAP_DEVICE_GPA_PAGES", "MAP_DEVICE_GPA_PAGES", "UNMAP_DEVICE_GPA_PAGES", KZALLOC),
    "ioas-unmap": ("UNMAP_DEVICE_GPA_PAGES",),
    "ioas-revoke": ("UNMAP_DEVICE_GPA_PAGES",),
    "dma-map": ("MAP_DEVICE_GPA_PAGES", "UNMAP_DEVICE_GPA_PAGES", KZALLOC),
    "dma-unmap": ("UNMAP_DEVICE_GPA_PAGES",),
    "msi-map": ("MAP_DEVICE_GPA_PAGES", KZALLOC),
    "exit": (*_MOVES, "UNMAP_DEVICE_GPA_PAGES", "DELETE_DEVICE_DOMAIN"),
}
"""Where an operation of each kind can be refused."""

SHORTAGES = (0x0B, 0x0B, 0x73, 0x75, 0x83)
ANSWERS = (0x71, 0x08, 0x06, 0x05, 0x58, 0x78)
LONG = 507
"""Pages that one hypercall can name at most (the list in a 4096-byte input page); more of them take several calls."""
DONE = (0, 0, 1, 3, 16, 20, 100, 255)


def draw(choose: Chooser, operation: Operation) -> tuple[Fault, ...]:
    """One fault for the operation, sometimes two or three; none for a kind that cannot be refused."""
    sites = SITES.get(operation.kind)
    if sites is None:
        return ()
    if getattr(operation, "by", 0) and sites[0] in _MOVES and choose.below(2):
        sites = _GUEST_MOVES
    first = _one(choose, operation, choose.pick(sites))
    faults = [first]
    roll = choose.below(10)
    if first.site == "MAP_DEVICE_GPA_PAGES" and roll < 3:
        faults.append(_one(choose, operation, "UNMAP_DEVICE_GPA_PAGES"))
    elif first.status in SHORTAGES and roll < 5:
        site = choose.pick(_MEMORY)
        faults.append(Fault(site) if site in KERNEL_SITES else Fault(site, 1, choose.pick(ANSWERS)))
    elif roll < 2:
        faults.append(_one(choose, operation, choose.pick(sites)))
    return tuple(faults)


def _one(choose: Chooser, operation: Operation, site: str) -> Fault:
    nth = 1 if choose.below(4) < 3 else 2 + choose.below(2)
    if site in KERNEL_SITES:
        return Fault(site, nth)
    status = choose.pick(ANSWERS) if choose.below(10) < 6 else choose.pick(SHORTAGES)
    done = 0
    if site in ("MAP_DEVICE_GPA_PAGES", "UNMAP_DEVICE_GPA_PAGES"):
        done = choose.pick(DONE)
        if isinstance(operation, Map | Unmap) and operation.pages > 1 and choose.below(4) == 0:
            done = min(operation.pages - 1, 4095)
        if isinstance(operation, MapScattered):
            nth = 1 + choose.below(operation.runs)
        elif isinstance(operation, Map | Unmap) and operation.pages > LONG and choose.below(2):
            nth = 1 + choose.below(operation.pages // LONG + 1)  # somewhere in a long sequence of calls
    roll = choose.below(20)
    times: int | None = 1
    if roll >= (15 if status in SHORTAGES else 18):
        times = None
    elif roll >= 15:
        times = 2 + choose.below(2)
    return Fault(site, nth, status, done, times)
