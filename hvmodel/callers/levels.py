"""How far a caller goes: what the kernel's callers produce, what the ops' documentation allows, and what lies beyond it.

``kernel`` is what VFIO and iommufd do: ownership is claimed first, one thread works on its own groups and domains (a host worker
may tear down), a map request is unmapped as it was mapped. ``contract`` adds all that ``include/linux/iommu.h`` allows. ``beyond``
adds what the core accepts without looking (``drivers/iommu/iommu.c`` checks no overlap, wrap or extent) and direct op calls.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from hvmodel import operations as ops
from hvmodel.callers.books import PAGE_END, Books
from hvmodel.hypervisor.abi import PAGE_SHIFT

LEVELS = ("kernel", "contract", "beyond")

KERNEL, CONTRACT, BEYOND = range(3)


def level_of(operation: ops.Operation, books: Books) -> int:
    """The level that an operation needs in the state that the books describe: an index into :data:`LEVELS`."""
    rate = _RATES.get(type(operation))
    return KERNEL if rate is None else rate(operation, books)


def _unmap(operation: Any, books: Books) -> int:
    book = books.domains.get(operation.domain)
    if book is None:
        return KERNEL
    start = operation.iova >> PAGE_SHIFT
    end = start + operation.pages
    if end > PAGE_END or not book.whole_extents(start, end):
        return BEYOND
    return KERNEL if book.requests.get(start) == end else CONTRACT


def _attach(operation: Any, books: Books) -> int:
    group, book = books.groups.get(operation.group), books.domains.get(operation.domain)
    same = group is not None and book is not None and group.owner == operation.by == book.by
    return KERNEL if same else CONTRACT


def _leave(operation: Any, books: Books) -> int:
    group = books.groups.get(operation.group)
    owner = group.owner if group is not None else None
    if type(operation) is ops.Disown and group is not None and group.domain is not group.blocking_domain:
        return CONTRACT
    return KERNEL if owner is not None and operation.by in (0, owner) else CONTRACT


def _free(operation: Any, books: Books) -> int:
    book = books.domains.get(operation.domain)
    return KERNEL if book is not None and operation.by in (0, book.by) else CONTRACT


def _map(operation: Any, books: Books) -> int:
    level = _place(operation, books, operation.pages)
    return max(level, CONTRACT) if operation.gfp == "atomic" else level


def _map_scattered(operation: Any, books: Books) -> int:
    return _place(operation, books, operation.runs * operation.run_pages)


def _place(operation: Any, books: Books, pages: int) -> int:
    book = books.domains.get(operation.domain)
    start = operation.iova >> PAGE_SHIFT
    if book is None:
        return KERNEL
    geometry = book.domain.geometry
    outside = geometry is not None and start + pages - 1 > geometry.aperture_end >> PAGE_SHIFT
    if pages <= 0 or start + pages > PAGE_END or outside or book.pages.meets(start, start + pages):
        return BEYOND
    return KERNEL


def _host_driver(operation: Any, books: Books) -> int:
    """A host driver streams through its group's default domain; no kernel code does through another one."""
    group = books.devices[operation.device].device.group if operation.device < len(books.devices) else None
    return KERNEL if group is None or group.domain is group.default_domain else CONTRACT


_RATES: dict[type[ops.Operation], Callable[[Any, Books], int]] = {
    ops.Map: _map,
    ops.MapScattered: _map_scattered,
    ops.Unmap: _unmap,
    ops.DriverMap: lambda operation, books: BEYOND,
    ops.DriverUnmap: lambda operation, books: BEYOND,
    ops.Unplug: lambda operation, books: CONTRACT,
    ops.Attach: _attach,
    ops.Replace: _attach,
    ops.Detach: _leave,
    ops.Disown: _leave,
    ops.Free: _free,
    ops.DmaMap: _host_driver,
    ops.DmaUnmap: _host_driver,
    ops.MsiMap: lambda operation, books: CONTRACT,  # needs a driver that announces IOMMU_RESV_SW_MSI
}
