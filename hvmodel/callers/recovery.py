"""Giving everything back: the second phase of a run (``README.md`` section 10)."""

from __future__ import annotations

from collections.abc import Callable

from hvmodel.callers.books import DomainBook
from hvmodel.callers.core import IommuCore
from hvmodel.hypervisor.abi import PAGE_SHIFT


def _unmap_all(core: IommuCore, book: DomainBook) -> None:
    """As VFIO does it: what ``iova_to_phys`` answers is unmapped, at most twice."""
    for _ in range(2):
        runs = list(book.pages)
        if not runs:
            return
        for run in runs:
            if book.pages.meets(run.start, run.end) and core.iommu_iova_to_phys(book, run.start << PAGE_SHIFT):
                core.iommu_unmap(book, run.start << PAGE_SHIFT, (run.end - run.start) << PAGE_SHIFT)


def recover(core: IommuCore, as_thread: Callable[[int], None], end_vms: Callable[[], None]) -> None:
    """Unmap, detach, disown, free, end the VMs, release the devices; then one more of each, so that postponed work gets done.

    ``as_thread`` makes the thread of a VM's process (0: a host thread) the one that acts, ``end_vms`` ends all VMs. Faults were
    lifted. May raise Runaway.
    """
    books = core.books
    if core.ops is None:
        return
    for book in list(books.domains.values()):
        as_thread(book.by)
        _unmap_all(core, book)
    for group in list(books.groups.values()):
        as_thread(group.owner or 0)
        if group.domain is not None and group.domain not in (group.default_domain, group.blocking_domain):
            if group.owner is not None and group.blocking_domain is None:
                core.disown(group)
            else:
                core.detach_group(group)
        if group.owner is not None:
            core.disown(group)
    for book in list(books.domains.values()):
        if not books.users(book):
            as_thread(book.by)
            core.free(book)
    end_vms()
    as_thread(0)
    for device_book in books.devices:
        if device_book.device.group is not None:
            core.release(device_book.device)
    _once_more(core)


def _once_more(core: IommuCore) -> None:
    """One more probe, allocation, free and release: a driver that kept refused work for later gets the call it waits for."""
    books = core.books
    for device_book in books.devices:
        device = device_book.device
        if core.probe(device) == 0:
            handle = max([*books.domains, *books.freed, 0]) + 1
            if core.alloc(handle, device, 0) == 0:  # an L1VH refuses it, but has been called
                core.free(books.domains[handle])
            if device.group is not None:
                core.release(device)
            return
