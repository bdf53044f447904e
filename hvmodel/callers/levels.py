"""How far a caller goes: what the kernel's callers produce, what the ops' documentation allows, and what lies beyond it.

``kernel`` is what VFIO and iommufd do: ownership is claimed first, one thread works on its own groups and domains (a host worker
may tear down), a map request is unmapped as it was mapped. ``contract`` adds all that ``include/linux/iommu.h`` allows. ``beyond``
adds what the core accepts without looking (``drivers/iommu/iommu.c`` checks no overlap, wrap or extent) and direct op calls.
"""

from __future__ import annotations

from hvmodel import operations as ops
from hvmodel.callers.books import PAGE_END, Books
from hvmodel.hypervisor.abi import PAGE_SHIFT

LEVELS = ("kernel", "contract", "beyond")

KERNEL, CONTRACT, BEYOND = range(3)


def level_of(operation: ops.Operation, books: Books) -> int:
    """The level that an operation needs in the state that the books describe: an index into :data:`LEVELS`."""
    if isinstance(operation, ops.Map | ops.MapScattered):
        return _level_of_map(operation, books)
    if isinstance(operation, ops.Unmap):
        book = books.domains.get(operation.domain)
        if book is None:
            return KERNEL
        start, end = operation.iova >> PAGE_SHIFT, (operation.iova >> PAGE_SHIFT) + operation.pages
        if end > PAGE_END or not book.whole_extents(start, end):
            return BEYOND
        return KERNEL if book.requests.get(start) == end else CONTRACT
    if isinstance(operation, ops.DriverMap | ops.DriverUnmap):
        return BEYOND
    if isinstance(operation, ops.Unplug):
        return CONTRACT
    if isinstance(operation, ops.Attach | ops.Replace):
        group, book = books.groups.get(operation.group), books.domains.get(operation.domain)
        same = group is not None and book is not None and group.owner == operation.by == book.by
        return KERNEL if same else CONTRACT
    if isinstance(operation, ops.Detach | ops.Disown):
        group = books.groups.get(operation.group)
        owner = group.owner if group is not None else None
        if isinstance(operation, ops.Disown) and group is not None and group.domain is not group.blocking_domain:
            return CONTRACT
        return KERNEL if owner is not None and operation.by in (0, owner) else CONTRACT
    if isinstance(operation, ops.Free):
        book = books.domains.get(operation.domain)
        return KERNEL if book is not None and operation.by in (0, book.by) else CONTRACT
    return KERNEL


def _level_of_map(operation: ops.Map | ops.MapScattered, books: Books) -> int:
    book = books.domains.get(operation.domain)
    pages = operation.pages if isinstance(operation, ops.Map) else operation.runs * operation.run_pages
    start = operation.iova >> PAGE_SHIFT
    if book is None:
        return KERNEL
    geometry = book.domain.geometry
    outside = geometry is not None and start + pages - 1 > geometry.aperture_end >> PAGE_SHIFT
    if pages <= 0 or start + pages > PAGE_END or outside or book.pages.meets(start, start + pages):
        return BEYOND
    if isinstance(operation, ops.Map) and operation.gfp == "atomic":
        return CONTRACT
    return KERNEL
