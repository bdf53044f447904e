"""What the callers tell whoever judges: each driver call before and after, and each request when it is over."""

from __future__ import annotations

from typing import NamedTuple

from hvmodel.callers.books import DomainBook
from hvmodel.hypervisor.objects import Place
from hvmodel.kernel.iommu import Device


class MapCall(NamedTuple):
    """An answered ``map_pages``: bytes, except ``prot`` (IOMMU_* bits), ``ret`` (errno) and ``mapped`` (bytes, None: NULL)."""

    book: DomainBook
    iova: int
    paddr: int
    size: int
    pgsize: int
    prot: int
    gfp: str
    ret: int
    mapped: int | None


class UnmapCall(NamedTuple):
    """An answered ``unmap_pages``: bytes. ``before`` is how many pages of the answered range were held or limbo, ``extents`` the
    page ranges of the extents that the call met."""

    book: DomainBook
    iova: int
    size: int
    pgsize: int
    answer: int
    before: int
    extents: list[tuple[int, int]]


class AttachCall(NamedTuple):
    """An answered ``attach_dev``. ``must`` says that the core ignores a failure; ``fallback`` that it is the core's own rescue."""

    device: Device
    new: DomainBook
    old: DomainBook | None
    ret: int
    must: bool
    before: Place
    count_before: int | None
    pointer_before: object


class Watch:
    """A watcher that looks away; the judge overrides what it wants to see."""

    def begin_call(self, name: str, book: DomainBook | None, device: Device | None, pages: int = 0) -> None:
        """A driver call is about to be made; it is about ``pages`` pages."""

    def end_call(self) -> None:
        """It returned, and the books have been updated."""

    def mapped(self, call: MapCall) -> None:
        """``map_pages`` answered."""

    def unmapped(self, call: UnmapCall) -> None:
        """``unmap_pages`` answered."""

    def attached(self, call: AttachCall) -> None:
        """``attach_dev`` answered."""

    def allocated(self, book: DomainBook | None, errno: int, device: Device, by: int) -> None:
        """``domain_alloc_paging`` answered a domain or an error."""

    def freed(self, book: DomainBook) -> None:
        """``free`` returned."""

    def released(self, device: Device) -> None:
        """``release_device`` returned."""

    def option(self, name: str, ret: int) -> None:
        """The handler of a boot option returned."""

    def probed(self, device: Device, ret: int) -> None:
        """``probe_device`` answered."""

    def looked_up(self, book: DomainBook, iova: int, answer: int) -> None:
        """``iova_to_phys`` answered (bytes)."""

    def map_request(self, book: DomainBook, start: int, end: int, ret: int) -> None:
        """``iommu_map`` of the pages ``[start, end)`` returned."""

    def unmap_request(self, book: DomainBook, start: int, end: int, total: int, legal: bool) -> None:
        """``iommu_unmap`` of the pages ``[start, end)`` returned ``total`` bytes."""

    def given_back(self, frames: list[tuple[int, int]], taken: bool = False) -> None:
        """The last pins of these ranges of frames went: the memory is the kernel's again, which may give it to anybody. ``taken``:
        it was no memory but registers whose owner took them back, whoever else still holds them."""

    def told_to_leave(self) -> bool:
        """Whether an attach of the running call answered that the device has to leave its place first."""
        return False

    def attach_request(self, name: str) -> None:
        """A request that attaches, releases or frees is over."""

    def initialised(self, ret: int) -> None:
        """The driver's init function returned."""
