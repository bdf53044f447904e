"""What the exhaustive gear goes through: a scope is a bound on everything, and a sentence that says so.

A scope has parts, and each :class:`Scope` is one: it bounds devices, groups, VMs, domains, addresses, pages, physical regions,
faults and the length of a trace, and says which boot options hold. Within it everything that the rules allow is tried.
``scopes.py`` has the scopes that come with hvmodel, ``scope_file.py`` reads others.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from hvmodel.callers.levels import BEYOND, LEVELS
from hvmodel.configuration import DEVICES, Configuration, PciFunction
from hvmodel.faults import ALLOC_PAGES, KZALLOC, REGISTER, SYSFS_ADD
from hvmodel.rules.rules import RULES, Rule


@dataclass(frozen=True, slots=True)
class Answer:
    """How a site may answer: with a status (hypercalls only), ``last`` times in a row (None: until lifted), after ``done`` elements
    of a rep call (``"all but one"``: as many as that)."""

    status: int = 0
    times: int | None = 1
    done: int | str = 0


_GENERIC, _LEAVE, _SHORT, _ROOT, _TAKEN, _USED, _STATE = 0x71, 0x58, 0x0B, 0x73, 0x65, 0x19, 0x07
_MOVE = (Answer(_GENERIC), Answer(_LEAVE), Answer(_SHORT), Answer(_ROOT), Answer(_GENERIC, None), Answer(_SHORT, None))
_SERVICE = (Answer(), Answer(times=None))

ANSWERS: dict[str, tuple[Answer, ...]] = {
    "CREATE_DEVICE_DOMAIN": (
        Answer(_GENERIC),
        Answer(_TAKEN),
        Answer(_SHORT),
        Answer(_ROOT),
        Answer(_SHORT, None),
        Answer(_GENERIC, None),
    ),
    "DELETE_DEVICE_DOMAIN": (Answer(_GENERIC), Answer(_USED), Answer(_GENERIC, None)),
    "ATTACH_DEVICE_DOMAIN": _MOVE,
    "DETACH_DEVICE_DOMAIN": (Answer(_GENERIC), Answer(_LEAVE), Answer(_GENERIC, None)),
    "ATTACH_DEVICE": _MOVE,
    "DETACH_DEVICE": (Answer(_GENERIC), Answer(_LEAVE), Answer(_GENERIC, None)),
    "MAP_DEVICE_GPA_PAGES": (
        Answer(_GENERIC),
        Answer(_GENERIC, done=1),
        Answer(_GENERIC, done="all but one"),
        Answer(_SHORT),
        Answer(_SHORT, done=1),
        Answer(_ROOT),
        Answer(_SHORT, None),
        Answer(_SHORT, None, 1),
        Answer(_GENERIC, None),
    ),
    "UNMAP_DEVICE_GPA_PAGES": (
        Answer(_GENERIC),
        Answer(_GENERIC, done=1),
        Answer(_GENERIC, done="all but one"),
        Answer(_GENERIC, None),
        Answer(_STATE),
    ),
    "DEPOSIT_MEMORY": (Answer(_GENERIC), Answer(_SHORT), Answer(_GENERIC, None)),
    KZALLOC: _SERVICE,
    ALLOC_PAGES: _SERVICE,
    SYSFS_ADD: (Answer(),),
    REGISTER: (Answer(),),
}
"""The answers that are tried at each site: a failure that asks for nothing, one that asks the device to leave first, one that asks
for memory, the caller's or the root's, an id that is taken; once, and until lifted; and of a call with a list after none, one and
all but one of its elements. Other statuses are taken by these drivers as one of these
(``drivers/hv/hv_common.c:hv_result_to_errno``)."""

OTHER = (Answer(_GENERIC),)
"""For a site that has no line of its own."""


@dataclass(frozen=True, slots=True)
class Scope:
    """One part of a scope. ``domains`` counts those that are allocated in a trace, ``room`` those alive at once; ``iovas`` are in
    bytes, ``pages`` are lengths of mappings; ``regions`` are physical memory as (number, pages off alignment); ``depth`` is the
    longest trace in operations, boot included and recovery not."""

    name: str
    devices: tuple[PciFunction, ...] = DEVICES[:1]
    vms: int = 0
    domains: int = 1
    room: int = 1
    level: int = BEYOND
    iovas: tuple[int, ...] = ()
    pages: tuple[int, ...] = ()
    regions: tuple[tuple[int, int], ...] = ((0, 0),)
    prots: tuple[str, ...] = ("rw",)
    gfps: tuple[str, ...] = ("kernel",)
    scattered: tuple[tuple[int, int], ...] = ()
    faults: int = 1
    depth: int = 6
    subjects: frozenset[str] = frozenset({"attachment", "lifetime", "mapping", "probing"})
    """The subjects of the rules that it asks."""
    rare: bool = True
    """Whether what the rules of user space choose now and then is tried: registers of devices, memory that is mapped page by page
    or while memory is short, Linux 6.12's probe, what the kernel refuses."""
    without: frozenset[str] = frozenset({"kexec"})
    options: dict[str, Any] = field(default_factory=dict, hash=False)
    """Fields of Configuration that differ from the profile's."""

    def configuration(self, profile: str) -> Configuration:
        """What its worlds start from under a profile. Raises KeyError for an unknown profile."""
        return Configuration.of_profile(profile, devices=self.devices, **self.options)

    def rules(self) -> list[Rule]:
        """The rules that it asks."""
        return [
            rule
            for rule in RULES.values()
            if rule.level <= self.level
            and rule.subject in self.subjects
            and rule.name not in self.without
            and (rule.name != "map_scattered" or self.scattered)
            and (rule.subject != "mapping" or self.pages)
        ]

    def windows(self) -> list[tuple[int, int]]:
        """The ranges of pages that mappings can cover: what lies outside is not mapped and not unmapped."""
        found: list[tuple[int, int]] = []
        for start in sorted(iova >> 12 for iova in self.iovas):
            end = start + max(self.pages)
            if found and start <= found[-1][1]:
                found[-1] = (found[-1][0], max(end, found[-1][1]))
            else:
                found.append((start, end))
        return found

    def possible(self, profile: str) -> bool:
        """Whether a world can start from it under a profile: an L1VH has no domains that an earlier kernel could have left."""
        return self.configuration(profile).problems() is None

    def sentence(self) -> str:
        """What is within it, in words."""
        groups = len({function.group for function in self.devices})
        parts = [
            f"{_count(len(self.devices), 'device')} in {_count(groups, 'group')}",
            _count(self.vms, "VM"),
        ]
        if "attachment" in self.subjects:
            at_once = f", {self.room} at once" if self.room < self.domains else ""
            parts.append(f"{_count(self.domains, 'domain')} allocated{at_once}")
        if "user" in self.subjects:
            asked = sorted({rule.name.split("_")[0] for rule in self.rules() if rule.subject == "user"})
            parts.append(f"user space: {', '.join(asked)}" + ("" if self.rare else ", nothing odd"))
        if self.pages and any("map" in rule.name for rule in self.rules()):
            sizes = ", ".join(map(str, self.pages)) + (" page" if self.pages == (1,) else " pages")
            places = _count(len(self.iovas), "address", "addresses")
            parts.append(f"mappings of {sizes} at {places} ({_hex(self.iovas)})")
            parts.append(f"from {_count(len(self.regions), 'physical region')}")
        parts.append(f"{_count(self.faults, 'fault')} a trace" if self.faults else "no fault")
        parts.append(f"level {LEVELS[self.level]}")
        parts.append(f"up to {self.depth} operations, then recovery")
        text = "; ".join(parts)
        if self.options:
            text += "; " + ", ".join(f"{name}={value!r}" for name, value in self.options.items())
        return text


def _count(number: int, noun: str, plural: str = "") -> str:
    return f"{number or 'no'} {noun if number == 1 else plural or noun + 's'}"


def _hex(values: tuple[int, ...]) -> str:
    return ", ".join(map(hex, values))
