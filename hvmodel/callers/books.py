"""The caller's books: what is held and believed after each answer of the driver.

The books change by what the driver *answered*, never by what it was asked. ``callers/README.md`` gives the rules event by event
(M1 to M10, U1 to U12, A1 to A17, C1 to C8); the labels in the code are its rows.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from hvmodel.hypervisor.objects import Place
from hvmodel.kernel.iommu import Device, Group, IommuDomain
from hvmodel.ranges import PageSet, RangeMap

LIMBO = 1
"""Tag bit of a page that the caller asked to give up without being told that it is gone."""

PAGE_END = 1 << 52
"""One past the last 4 KiB page of a 64-bit address space."""


def tag(extent: int, prot: int, limbo: bool = False) -> int:
    """The tag of a run in a page book: extent number, IOMMU_READ/WRITE bits, limbo."""
    return extent << 3 | (prot & 3) << 1 | limbo


@dataclass(eq=False, slots=True)
class DomainBook:
    """What the caller knows of one domain.

    ``kind`` is identity, device (the hypervisor has a domain of its own for it), direct (a guest's page table) or blocked.
    ``place`` is where a device attached to it belongs; for a direct domain the partition of the thread that allocated it.
    ``pages`` holds held and limbo pages (page -> frame), ``aside`` pages that a finding has set aside. ``hv_id`` is the id of
    the domain that its allocation created in the hypervisor.
    """

    handle: int
    domain: IommuDomain
    kind: str
    place: Place
    by: int = 0
    hv_id: int | None = None
    name: str = ""
    pages: RangeMap = field(default_factory=RangeMap)
    aside: PageSet = field(default_factory=PageSet)
    extents: dict[int, tuple[int, int]] = field(default_factory=dict)
    requests: dict[int, int] = field(default_factory=dict)
    """First page -> end page of each map request that succeeded and is still whole."""
    next_extent: int = 0
    lenient: bool = False
    """Its count may be what the hypervisor has or what the core believes (A6, A8 to A10, A14)."""
    haunted: bool = False
    """A device that was in it vanished without a word to the driver (A15): what it counts is not judged."""
    pgsize_bitmap: int = 0
    alive: bool = True
    pinned: bool = False
    """Whoever maps memory in it has pinned that memory, and gives it back when it is unmapped (``memory.py``)."""
    forgiven: PageSet = field(default_factory=PageSet)
    """Pages that may be given back while they are mapped: their unmap was refused, and the driver said that it is not done."""
    request_from: int = 0
    """The last extent before the map request that runs: limbo of older ones is not its doing (M7, M8)."""

    def hold(self, start: int, end: int, frame: int, prot: int) -> None:
        """One successful answer: an extent of held pages."""
        self.next_extent += 1
        self.extents[self.next_extent] = (start, end)
        self.pages.set(start, end, frame, tag(self.next_extent, prot))
        if self.aside:
            self.aside.discard(start, end)
        if self.forgiven:
            self.forgiven.discard(start, end)

    def limbo(self, start: int, end: int) -> None:
        """Held pages of the range become limbo."""
        for run in self.pages.slice(start, end):
            if not run.tag & LIMBO:
                self.pages.set(run.start, run.end, run.frame, run.tag | LIMBO)

    def maybe(self, start: int, end: int, frame: int, prot: int) -> None:
        """The caller was told that these may be mapped after an error (M3)."""
        self.next_extent += 1
        self.pages.set(start, end, frame, tag(self.next_extent, prot, limbo=True))

    def gone(self, start: int, end: int) -> int:
        """The caller was told that the range is gone; returns how many pages were held or limbo."""
        removed = self.pages.clear(start, end)
        return removed

    def met_extents(self, start: int, end: int) -> list[tuple[int, int]]:
        """The whole extents that the range meets, as page ranges."""
        return [self.extents.get(run.tag >> 3, (run.start, run.end)) for run in self.pages.whole(start, end)]

    def whole_extents(self, start: int, end: int) -> bool:
        """Whether the range is a legal unmap: whole extents, all pages held, no hole."""
        runs = self.pages.whole(start, end)
        if not runs or runs[0].start != start or runs[-1].end != end:
            return False
        at = start
        for run in runs:
            if run.start != at or run.tag & LIMBO:
                return False
            at = run.end
        first, last = runs[0].tag >> 3, runs[-1].tag >> 3
        return self.extents.get(first, (start, 0))[0] == start and self.extents.get(last, (0, end))[1] == end


@dataclass(eq=False, slots=True)
class DeviceBook:
    """Where the hypervisor may have a device without anybody having lied. ``excused`` marks A6, A8 to A10 and A14."""

    device: Device
    key: int
    places: set[Place] = field(default_factory=set)
    excused: bool = False
    fallen: bool = False
    """A guest's end put it where it is, and the driver was not told (A14): until the next attach no count need know of it."""
    known: bool = False
    """Whether the device was attached since it was probed; before, nothing is promised (A1)."""
    vanished: bool = False
    """It was pulled out without a word to the driver (A15): what the driver holds for it cannot be given back before it returns."""


@dataclass(eq=False, slots=True)
class Books:
    """All that the callers hold."""

    domains: dict[int, DomainBook] = field(default_factory=dict)
    """Live domains that an operation allocated, by handle."""
    of_domain: dict[IommuDomain, DomainBook] = field(default_factory=dict)
    """All live domains, also identity and blocking ones, by the driver's object."""
    devices: list[DeviceBook] = field(default_factory=list)
    groups: dict[int, Group] = field(default_factory=dict)
    zombies: dict[int, str] = field(default_factory=dict)
    """Hypervisor ids of domains that outlived their free and may be alive -> why (refused, stuck, kept)."""
    guests: set[Place] = field(default_factory=set)
    """The guests that direct domains were ever made for."""
    foreign: set[int] = field(default_factory=set)
    """Hypervisor ids of domains that an earlier kernel left."""
    freed: set[int] = field(default_factory=set)
    """Handles that were used and are gone."""
    left_runs: int = 0
    """Runs of pages in domains that outlived their free: one hypercall for each is fair, some hypervisors delete empty domains only
    (D7 of the policies)."""
    failed_allocs: int = 0
    """How many allocations in a row failed without a cause of their own."""
    failed_ids: set[int] = field(default_factory=set)
    """Ids that the allocations since the last success tried in vain."""

    def current(self, group: Group) -> DomainBook | None:
        """The book of the domain that the core believes the group to be in."""
        return self.of_domain.get(group.domain) if group.domain is not None else None

    def users(self, book: DomainBook) -> list[Group]:
        """The groups that the core believes to be in a domain."""
        return [group for group in self.groups.values() if group.domain is book.domain]
