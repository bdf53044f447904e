"""What the hypervisor keeps: partitions with their memory pools, device domains, devices and where they are."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

from hvmodel.hypervisor.abi import HV_DEVICE_DOMAIN_ID_S2_DEFAULT, HV_DEVICE_DOMAIN_ID_S2_NULL
from hvmodel.ranges import PageSet, RangeMap


class Place(NamedTuple):
    """Where a device is: in a domain of the caller, with a guest, or nowhere (detached, DMA blocked)."""

    kind: str
    id: int

    def __str__(self) -> str:
        if self.kind == "guest":
            return f"guest {self.id:#x}"
        if self.kind == "none":
            return "no domain"
        return {HV_DEVICE_DOMAIN_ID_S2_DEFAULT: "default", HV_DEVICE_DOMAIN_ID_S2_NULL: "NULL"}.get(self.id, f"domain {self.id:#x}")


IN_DEFAULT = Place("domain", HV_DEVICE_DOMAIN_ID_S2_DEFAULT)
IN_NULL = Place("domain", HV_DEVICE_DOMAIN_ID_S2_NULL)
NOWHERE = Place("none", 0)

CONTIGUOUS_PAGES = 8
"""Pages in the block that a contiguous shortage asks for (mail "hv_deposit_memory_node", Feb 2026)."""


@dataclass(slots=True)
class Pool:
    """The memory of one partition, "like a bank account" (TLFS 2.0, 7.1.1). Counts are 4 KiB pages.

    Every page that was ever deposited and not withdrawn is in ``frames`` and is either free or used by an object; which
    one is used is not kept. ``blocks`` counts how many contiguous blocks are among the free pages.
    """

    free: int = 0
    used: int = 0
    blocks: int = 0
    frames: PageSet = field(default_factory=PageSet)

    def deposit(self, start: int, end: int) -> None:
        """Take the frames ``[start, end)`` from Linux."""
        self.frames.add(start, end)
        self.free += end - start
        self.blocks += (end - start) // CONTIGUOUS_PAGES

    def withdraw(self, count: int) -> list[tuple[int, int]]:
        """Give up to ``count`` free frames back; returns the ranges given."""
        count = min(count, self.free)
        self.free -= count
        self.blocks = min(self.blocks, self.free // CONTIGUOUS_PAGES)
        return self.frames.take(count)

    def holds(self, count: int, contiguous: bool = False) -> bool:
        """Whether :meth:`take` would succeed."""
        return count <= (self.blocks if contiguous else self.free)

    def take(self, count: int, contiguous: bool = False) -> bool:
        """Use ``count`` free pages (blocks of 8 if ``contiguous``) for an object; False if there are not enough."""
        if contiguous:
            if self.blocks < count:
                return False
            self.blocks -= count
            count *= CONTIGUOUS_PAGES
        if self.free < count:
            return False
        self.free -= count
        self.used += count
        if self.blocks * CONTIGUOUS_PAGES > self.free:
            self.blocks = self.free // CONTIGUOUS_PAGES
        return True

    def give(self, count: int) -> None:
        """An object went away: its pages are free again, blocks as blocks."""
        self.used -= count
        self.free += count
        self.blocks = min(self.blocks + count // CONTIGUOUS_PAGES, self.free // CONTIGUOUS_PAGES)

    def check(self) -> None:
        """Raise AssertionError unless every page is exactly once free or used."""
        assert min(self.free, self.used, self.blocks) >= 0, "a pool went below zero"
        assert self.blocks * CONTIGUOUS_PAGES <= self.free, "more contiguous blocks than free pages"
        assert self.free + self.used == len(self.frames), "pages of a pool appeared or vanished"


@dataclass(slots=True)
class Partition:
    """The root, an L1VH, or a guest. ``state`` is created, active, finalized or deleted."""

    id: int
    kind: str
    state: str = "active"
    pool: Pool = field(default_factory=Pool)


@dataclass(slots=True)
class Domain:
    """A stage-2 device domain: its page table (page -> frame, tag = map flags) and the pool pages that it uses.

    ``tables`` holds the page-table pages that exist, per level: bits 9, 18 and 27 upwards of the page number.
    """

    id: int
    table: RangeMap = field(default_factory=RangeMap)
    tables: tuple[set[int], set[int], set[int]] = field(default_factory=lambda: (set(), set(), set()))
    pages_used: int = 0
    devices: set[int] = field(default_factory=set)


@dataclass(slots=True)
class Device:
    """A device as the hypervisor knows it: its id, where it is, and under which logical id a guest has it.

    ``owned`` devices are the hypervisor's own (a debugger's NIC). ``reserved`` are page ranges that firmware reserved
    for the device. ``stale`` is the table of a deleted domain that its translation still points to (D8, adversarial).
    """

    key: int
    place: Place = IN_DEFAULT
    owned: bool = False
    reserved: tuple[tuple[int, int], ...] = ()
    logical: int | None = None
    pages_used: int = 0
    present: bool = True
    stale: RangeMap | None = None


class Refusal(NamedTuple):
    """An answer that the model's state does not explain (an injected fault).

    ``done`` is how many elements of a rep call take effect before it, counted from element 0 of the call.
    """

    status: int
    done: int = 0
