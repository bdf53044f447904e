"""The scopes that come with hvmodel.

A part is about one subject, so that it can be gone through to its end: what one subject does to another is what the walk is for,
and the parts in which pages are mapped and devices moved. The sizes are measured (``README.md``).
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from hvmodel.callers.levels import CONTRACT, KERNEL
from hvmodel.configuration import DEVICES, PciFunction
from hvmodel.gears.exhaustive.scope import Scope
from hvmodel.rules.rules import RULES
from hvmodel.rules.worlds import ALIASES, BEHIND_VMD, FAR, OWNED

K, M = 1 << 12, 1 << 20
"""A page and the larger page of the driver, in bytes."""

_PLUG = frozenset({"unplug_device", "release_device", "probe_device"})
_STAY = _PLUG | {"kexec"}
_ODD = frozenset({"driver_map", "driver_unmap"})
_STILL = _STAY | _ODD | {"claim_group", "reset_device"}
"""Only mapping: no device moves, comes or goes, and no driver call that the core would not make."""

_BY_USER = frozenset(rule.name for rule in RULES.values() if rule.subject == "user")


def _by_user(*first: str, level: int = KERNEL) -> dict[str, Any]:
    """A part in which user space acts, by rules whose names begin so, and VMs live and end beside it."""
    others = frozenset(name for name in _BY_USER if not name.startswith((*first, "exit")))
    subjects = {"lifetime", "user"} | ({"attachment"} if level else set())
    return {"level": level, "subjects": frozenset(subjects), "without": others | {"kexec"}}


_VFIO = _by_user("vfio")
_VFIO_ONLY = _by_user("vfio_join", "vfio_leave")
_VFIO_PLUG = _VFIO_ONLY | {
    "subjects": _VFIO_ONLY["subjects"] | {"probing"},
    "without": _VFIO_ONLY["without"] | {"unplug_device"},
}
_SPACES = _by_user("iommufd", "ioas_map", "ioas_unmap")
_TABLES = _by_user("iommufd", "ioas", "hwpt", "access")
_STREAMS = _by_user("dma", level=CONTRACT)

_PAIR = (PciFunction(bus=0x41, slot=1, group=0), PciFunction(bus=0x42, slot=1, group=1))
"""Two devices whose numbers are like nothing else in a state."""
_SHARED = DEVICES[2:4]
_ALIASES = (ALIASES[1], replace(ALIASES[2], alias=0))
_WIDE = {"iova_width": 64}
LAST = (1 << 64) - K
"""The last page of the address space, in bytes."""
_HIGH = 1 << 48

TINY = (
    Scope("maps", iovas=(0, K), pages=(1, 2), depth=6, without=_STILL),
    Scope("moves", vms=1, depth=6, without=_STAY),
)

SMALL = (
    *TINY,
    Scope("small maps", iovas=(0, K, 2 * K), pages=(1, 2), regions=((0, 0), (1, 0)), depth=5, without=_STILL),
    Scope("large maps", iovas=(0, M), pages=(1, 256), depth=5, without=_STILL),
    Scope("across large pages", iovas=(M - K, M), pages=(1, 257), regions=((0, 0), (1, 1)), depth=5, without=_STILL),
    Scope("long maps", iovas=(0, 256 * M), pages=(1, 512, 4097), regions=((0, 0), (1, 1)), depth=4, without=_STILL),
    Scope("longest maps", iovas=(M,), pages=(65536,), depth=4, without=_STILL),
    Scope("large and one way", iovas=(M,), pages=(512,), prots=("r", "w"), depth=4, without=_STILL),
    Scope("last pages", vms=1, iovas=(LAST - K, LAST), pages=(1, 2), depth=4, without=_STILL, options=_WIDE),
    Scope("high addresses", iovas=(_HIGH, LAST + K - M), pages=(1, 256), depth=4, without=_STILL, options=_WIDE),
    Scope("odd calls", iovas=(0, K), pages=(1, 2), depth=5, without=_STAY | {"claim_group", "reset_device"}),
    Scope("odd calls on a guest", vms=1, iovas=(0,), pages=(1,), depth=4, without=_STAY | {"claim_group", "reset_device"}),
    Scope("permissions", iovas=(0, K), pages=(1,), prots=("rw", "r", "w"), gfps=("kernel", "atomic"), depth=5, without=_STILL),
    Scope("in atomic context", iovas=(0, K), pages=(2,), gfps=("kernel", "atomic"), depth=4, without=_STILL),
    Scope("two tables", domains=2, room=2, vms=1, depth=5, without=_STILL),
    Scope("scattered", iovas=(0, M), pages=(1,), scattered=((2, 1), (3, 256)), depth=5, without=_STILL),
    Scope("mapped and moved", vms=1, iovas=(0,), pages=(1,), depth=7, without=_STAY | _ODD),
    Scope("two VMs", vms=2, depth=6, without=_STAY),
    Scope("two domains", vms=1, domains=2, room=2, depth=6, without=_STAY),
    Scope("two devices", _PAIR, vms=1, domains=2, room=2, depth=5, without=_STAY),
    Scope("one group", _SHARED, vms=1, depth=6, without=_STAY),
    Scope("aliases", _ALIASES, vms=1, depth=5, without=frozenset({"kexec"})),
    Scope("plugging", _PAIR, depth=6, without=frozenset({"kexec"})),
    Scope("plugging a group", _SHARED, depth=6, without=frozenset({"kexec"})),
    Scope("next kernel", vms=1, depth=5, without=frozenset()),
    Scope("left over", domains=2, room=2, depth=5, without=frozenset(), options={"left_domains": (1,), "left_devices": ((0, 1),)}),
    Scope("no direct attach", _PAIR, vms=1, depth=5, without=_STAY, options={"no_attdev": True}),
    Scope("no VM module", vms=1, depth=6, without=_STAY, options={"mshv": False}),
    Scope("last ids", domains=3, room=2, depth=6, without=_STAY, options={"unique_id": 0xFFFFFFFD}),
    Scope("skip list", _PAIR, depth=4, without=_STAY, options={"skip": "(0:41:1.0)"}),
    Scope("odd skip list", depth=2, without=_STAY, options={"skip": "(none)(0000:00:01.0)"}),
    Scope("cut skip list", _PAIR, depth=2, without=_STAY, options={"skip": "(0:1:2.3 (0:41:1.0) (0:42:1.0)"}),
    Scope("far addresses", FAR, depth=3, without=_STAY, options={"skip": "(0:10:10.0)"}),
    Scope("behind a VMD", BEHIND_VMD, depth=3, without=_STAY),
    Scope("owned", OWNED, depth=4, without=_STAY),
    Scope("VFIO", vms=1, iovas=(M, M + K), pages=(1,), rare=False, depth=7, **_VFIO),
    Scope("VFIO, odd requests", vms=1, iovas=(M, M + K), pages=(1, 2), scattered=((2, 1),), depth=4, **_VFIO),
    Scope("VFIO, large pages", iovas=(M,), pages=(257, 512), regions=((0, 0), (1, 1)), rare=False, depth=6, **_VFIO),
    Scope("VFIO, two groups", _PAIR, vms=1, iovas=(M,), pages=(1,), rare=False, depth=5, **_VFIO),
    Scope("VFIO, plugging", _PAIR, iovas=(M,), pages=(1,), rare=False, depth=5, **_VFIO_PLUG),
    Scope("VFIO, aliases", _ALIASES, vms=1, iovas=(M,), pages=(1,), rare=False, depth=5, **_VFIO_PLUG),
    Scope("VFIO, a group of two", (_PAIR[0], *_SHARED), vms=1, iovas=(M,), pages=(1,), rare=False, depth=5, **_VFIO_ONLY),
    Scope("iommufd", vms=1, iovas=(M, M + K), pages=(1,), rare=False, depth=5, **_SPACES),
    Scope("iommufd, odd requests", iovas=(M, M + K), pages=(1,), depth=4, **_SPACES),
    Scope("page tables", vms=1, iovas=(M,), pages=(1,), rare=False, depth=5, **_TABLES),
    Scope("streams", iovas=(M, M + K), pages=(1, 2), depth=6, **_STREAMS),
)

MEDIUM = (
    Scope("maps", iovas=(0, K, M - K, M), pages=(1, 2, 256), regions=((0, 0), (1, 1)), faults=2, depth=7, without=_STILL),
    Scope("both", _PAIR, vms=1, domains=2, room=2, iovas=(0, M), pages=(1, 256), faults=2, depth=8, without=_STAY | _ODD),
    Scope("moves", _PAIR, vms=2, domains=2, room=2, faults=2, depth=8, without=_STAY),
    Scope("plugging", (*_PAIR, *_SHARED), vms=1, domains=1, faults=2, depth=8, without=frozenset()),
)

SCOPES: dict[str, tuple[Scope, ...]] = {"tiny": TINY, "small": SMALL, "medium": MEDIUM}
