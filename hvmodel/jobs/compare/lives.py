"""Ordinary lives in which nothing is refused, as data: what a driver costs is measured in them.

A device is claimed for a VM, gets a domain, memory is mapped as VFIO and iommufd map it (one request for each run of physically
contiguous pages) and unmapped in one request or run by run (``drivers/vfio/vfio_iommu_type1.c:vfio_unmap_unpin`` asks for what is
contiguous), and everything is given back.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from hvmodel import operations as ops
from hvmodel.configuration import DEVICES, Configuration
from hvmodel.scenarios.steps import BEGINNING, END, FRAME, IOVA

GIB = 1 << 18
"""Pages in 1 GiB."""

DIRECT = Configuration(devices=DEVICES[:1], root_pool=0)
"""One device, and a hypervisor that has no memory to spare: page tables come from what the driver deposits. A VM's own pages serve
its devices (direct attach)."""

START = replace(DIRECT, no_attdev=True)
"""The same without direct attach: every VM has a device domain, into which its memory is mapped."""

TO_SPARE = Configuration().root_pool
"""Pages of a pool in which there is room for all page tables: no deposit is ever needed."""


@dataclass(frozen=True, slots=True)
class Memory:
    """How memory lies: ``runs`` runs of ``run_pages`` pages, ``shift`` pages off from where iova and paddr are congruent."""

    name: str
    runs: int
    run_pages: int
    shift: int = 0

    @property
    def pages(self) -> int:
        """All of it."""
        return self.runs * self.run_pages

    def maps(self) -> Iterator[ops.Operation]:
        """One request a run; the iova goes on, the paddr jumps over as much as the run is long."""
        for run in range(self.runs):
            at = run * self.run_pages
            yield ops.Map(1, IOVA + (at << 12), FRAME + (2 * at + self.shift << 12), self.run_pages)

    def unmaps(self, pieces: bool) -> Iterator[ops.Operation]:
        """All in one request, or run by run."""
        if not pieces:
            yield ops.Unmap(1, IOVA, self.pages)
            return
        for run in range(self.runs):
            yield ops.Unmap(1, IOVA + (run * self.run_pages << 12), self.run_pages)


MEMORIES: tuple[Memory, ...] = (
    Memory("4 KiB runs", GIB // 32, 1),
    Memory("2 MiB runs", 512, 512),
    Memory("2 MiB runs, shifted", 512, 512, shift=1),
    Memory("1 GiB run", 1, GIB),
    Memory("1 GiB run, shifted", 1, GIB, shift=1),
)
"""1 GiB in each way, but 32 MiB in runs of 4 KiB, which are so many; counts are given per GiB all the same. Shifted by one page, no
page larger than 4 KiB fits."""

LIFE: tuple[ops.Operation, ...] = (
    *BEGINNING,
    ops.Map(1, 0, FRAME, 160),
    ops.Map(1, 0x100000, FRAME + 0x100000, 2 * GIB - 256),
    ops.Map(1, 0x800000000, 0xC0000000, 4, "rw"),
    ops.Map(1, 0x800010000, 0xD0000000, 4096, "rw"),
    ops.Unmap(1, 0x800010000, 4096),
    ops.Unmap(1, 0x800000000, 4),
    ops.Unmap(1, 0x100000, 2 * GIB - 256),
    ops.Unmap(1, 0, 160),
    *END,
)
"""A VM with 2 GiB of memory and two BARs, from its creation to its deletion, from the boot of the host."""

__all__ = ["BEGINNING", "DIRECT", "END", "GIB", "LIFE", "MEMORIES", "START", "TO_SPARE", "Memory"]
