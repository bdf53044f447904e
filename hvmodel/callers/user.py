"""User space: processes with their files, and what they hold through them.

The operations of ``hvmodel/ioctls.py`` are done here: each finds what its handles name, checks what the kernel's ioctl checks, and
asks VFIO, iommufd or the DMA API. A process is the number of the VM that it manages; 0 stands for all host applications.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from hvmodel import ioctls
from hvmodel.callers.books import PAGE_END, DomainBook
from hvmodel.callers.core import IommuCore, Refused
from hvmodel.callers.dma import DmaApi
from hvmodel.callers.iommufd import Area, Ioas, Iommufd
from hvmodel.callers.memory import Memory, Range, pieces
from hvmodel.callers.vfio import Container, Type1
from hvmodel.hypervisor.abi import PAGE_SHIFT
from hvmodel.kernel.iommu import EINVAL, ENOENT, IOMMU_READ, IOMMU_WRITE, Device, Group
from hvmodel.operation import Operation
from hvmodel.ranges import PageSet

MOST_PIECES = 1024
"""Pieces that the memory of one mapping may have: more of them take too long where a trace is run thousands of times."""

_PROT = {"": 0, "r": IOMMU_READ, "w": IOMMU_WRITE, "rw": IOMMU_READ | IOMMU_WRITE}


class UserSpace:
    """All processes of one booted kernel.

    ``as_thread`` makes the thread of a VM's process (0: a host application) the one that acts.
    """

    def __init__(self, core: IommuCore, as_thread: Callable[[int], None]) -> None:
        self.core = core
        self.as_thread = as_thread
        self.memory = Memory()
        self.vfio = Type1(self)
        self.iommufd = Iommufd(self)
        self.dma = DmaApi(self)
        self.windows = PageSet()
        """Pages of IOVA space that are kept for interrupts."""
        self.files: dict[int, list[tuple[str, int]]] = {}
        """What each process has opened, in the order of its file numbers: ("vm", 1), ("group", 0)."""
        self.held: set[int] = set()
        """Groups whose devices are open: nobody else moves them."""

    # --- files ------------------------------------------------------------------------------------------------------------

    def opened(self, by: int, kind: str, number: int) -> None:
        """A process opened something."""
        self.files.setdefault(by, []).append((kind, number))

    def closed(self, by: int, kind: str, number: int) -> None:
        """It is closed."""
        files = self.files.get(by, [])
        if (kind, number) in files:
            files.remove((kind, number))

    def hold(self, group: Group, by: int, kind: str) -> None:
        """The devices of a group are opened."""
        self.held.add(group.number)
        self.opened(by, kind, group.number)

    def let_go(self, group: Group, by: int, kind: str) -> None:
        """The devices of a group are closed."""
        self.held.discard(group.number)
        self.closed(by, kind, group.number)

    def exit(self, by: int, delete_vm: Callable[[int], int | None]) -> int | None:
        """``exit_files``: the files of a process are closed in the order of their numbers, by its own thread; None if it has none.

        A device's file holds its group, so that closing the one closes the other.
        """
        files = list(self.files.get(by, []))
        if not files:
            return None
        self.as_thread(by)
        for kind, number in files:
            if kind == "vm":
                delete_vm(number)
            elif kind == "group":
                container = self._container_of(number)
                assert container is not None
                self.vfio.leave(container, self.core.books.groups[number])
            elif kind == "device":
                self.iommufd.close(self.core.books.groups[number])
        self.iommufd.end(by)  # the device files hold the iommufd
        return 0

    def close_all(self, delete_vm: Callable[[int], int | None]) -> None:
        """All processes end, VMs last."""
        for files in self.files.values():
            files.sort(key=lambda file: file[0] == "vm")
        for by in list(self.files):
            self.exit(by, delete_vm)

    # --- memory and addresses -----------------------------------------------------------------------------------------------

    def unpin(self, runs: list[Range]) -> None:
        """Unpin runs (first frame, pages) and say which of them were the last pins."""
        gone: list[Range] = []
        for frame, count in runs:
            gone += self.memory.unpin(frame, frame + count)
        if gone:
            self.core.watch.given_back(gone)

    def _closed_ranges(self) -> list[Range]:
        """Page ranges that the driver's reserved regions cover, ascending."""
        ops = self.core.ops
        if ops is None or ops.get_resv_regions is None:
            return []
        found = set()
        for group in self.core.books.groups.values():
            for first, last in ops.get_resv_regions(group.devices[0]):
                found.add((first >> PAGE_SHIFT, (last >> PAGE_SHIFT) + 1))
        return sorted(found)

    def allowed(self, book: DomainBook, start: int, end: int) -> bool:
        """Whether a page range is inside the domain's aperture and meets no reserved region."""
        geometry = book.domain.geometry
        if geometry is not None and (
            end > (geometry.aperture_end >> PAGE_SHIFT) + 1 or start < geometry.aperture_start >> PAGE_SHIFT
        ):
            return False
        return not self.windows.meets(start, end) and not any(low < end and start < high for low, high in self._closed_ranges())

    def first_allowed(self, book: DomainBook) -> int | None:
        """The first two free pages that begin at an even page, as 6.12's probe looks for them; None if there are none."""
        geometry = book.domain.geometry
        at = (geometry.aperture_start >> PAGE_SHIFT) + 1 & ~1 if geometry is not None else 0
        for low, high in self._closed_ranges():
            if low < at + 2 and at < high:
                at = high + 1 & ~1
        return at if self.allowed(book, at, at + 2) else None

    # --- what user space asks -----------------------------------------------------------------------------------------------

    def do(self, operation: Operation) -> int | None:
        """One operation: what its caller is told (0 or a negative errno), or None if it had nothing to act on.

        Raises :class:`hvmodel.callers.core.Refused` for what is refused before the driver is called.
        """
        return _DOES[type(operation)](self, operation)

    def _container_of(self, group: int) -> Container | None:
        for container in self.vfio.containers.values():
            if any(group in domain.groups for domain in container.domains):
                return container
        return None

    def vfio_join(self, op: ioctls.VfioJoin) -> int | None:
        group = self.core.books.groups.get(op.group)
        if group is None or not group.devices or op.group in self.held or op.container < 1:
            return None
        return self.vfio.join(op.container, group, op.by, op.probe)

    def vfio_leave(self, op: ioctls.VfioLeave) -> int | None:
        container = self._container_of(op.group)
        if container is None:
            return None
        self.as_thread(container.by)
        self.vfio.leave(container, self.core.books.groups[op.group])
        return 0

    def vfio_map(self, op: ioctls.VfioMap) -> int | None:
        container = self.vfio.containers.get(op.container)
        runs = _runs(op)
        if container is None or runs is None or not self.memory.possible(runs, op.mmio):
            return None
        self.as_thread(container.by)
        return self.vfio.map(container, op.iova >> PAGE_SHIFT, runs, _PROT[op.prot], op.mmio)

    def vfio_unmap(self, op: ioctls.VfioUnmap) -> int | None:
        container = self.vfio.containers.get(op.container)
        if container is None or op.iova & 0xFFF or op.iova >> 64:
            return None
        self.as_thread(container.by)
        start = op.iova >> PAGE_SHIFT
        return self.vfio.unmap(container, start, start + op.pages) if op.pages else self.vfio.unmap(container, 0, PAGE_END)

    # --- iommufd --------------------------------------------------------------------------------------------------------------

    def iommufd_attach(self, op: ioctls.IommufdAttach) -> int | None:
        iommufd, group = self.iommufd, self.core.books.groups.get(op.group)
        hwpt = iommufd.hwpt(op.hwpt) if op.hwpt else None
        if group is None or not group.devices or (op.group in self.held) != (op.group in iommufd.bound):
            return None
        ioas = iommufd.find(op.ioas, op.by)
        if op.hwpt and (hwpt is None or hwpt.ioas != ioas.number):
            return None
        by = iommufd.bound.get(op.group, op.by)
        if ioas.by != by or (op.group in iommufd.attached and iommufd.attached[op.group] is hwpt):
            raise Refused(-ENOENT if ioas.by != by else -EINVAL)
        self.as_thread(by)
        if op.group not in iommufd.bound:
            ret = iommufd.bind(group, by)
            if ret:
                return ret
        iommufd.keep(ioas)
        return iommufd.attach(ioas, group, hwpt)

    def iommufd_detach(self, op: ioctls.IommufdDetach) -> int | None:
        if op.group not in self.iommufd.attached:
            return None
        self.as_thread(self.iommufd.bound[op.group])
        self.iommufd.detach(self.core.books.groups[op.group])
        return 0

    def iommufd_close(self, op: ioctls.IommufdClose) -> int | None:
        if op.group not in self.iommufd.bound:
            return None
        self.as_thread(self.iommufd.bound[op.group])
        self.iommufd.close(self.core.books.groups[op.group])
        return 0

    def hwpt_alloc(self, op: ioctls.HwptAlloc) -> int | None:
        ioas = self.iommufd.ioases.get(op.ioas)
        taken = op.hwpt < 1 or self.iommufd.hwpt(op.hwpt) is not None
        if ioas is None or taken or not 0 <= op.device < len(self.core.books.devices):
            return None
        group = self.core.books.devices[op.device].device.group
        if group is None or self.iommufd.bound.get(group.number) != ioas.by:
            return None
        self.as_thread(ioas.by)
        return self.iommufd.alloc(op.hwpt, ioas, group)

    def hwpt_free(self, op: ioctls.HwptFree) -> int | None:
        hwpt = self.iommufd.hwpt(op.hwpt) if op.hwpt else None
        if hwpt is None:
            return None
        self.as_thread(self.iommufd.ioases[hwpt.ioas].by)
        self.iommufd.free(hwpt)
        return 0

    def ioas_map(self, op: ioctls.IoasMap) -> int | None:
        runs = _runs(op)
        if runs is None or op.ioas < 1 or not self.memory.possible(runs, op.mmio) or (op.small and op.pages > MOST_PIECES):
            return None
        ioas = self.iommufd.find(op.ioas, op.by)
        self.as_thread(ioas.by)
        start = op.iova >> PAGE_SHIFT
        return self.iommufd.map(ioas, Area(start, _PROT[op.prot], runs, ioas.by, op.mmio, op.small and not op.mmio, op.short))

    def ioas_unmap(self, op: ioctls.IoasUnmap) -> int | None:
        ioas = self._ioas(op)
        if ioas is None:
            return None
        start = op.iova >> PAGE_SHIFT
        return self.iommufd.unmap(ioas, start, start + op.pages) if op.pages else self.iommufd.unmap(ioas, 0, PAGE_END)

    def ioas_revoke(self, op: ioctls.IoasRevoke) -> int | None:
        ioas = self._ioas(op)
        areas = [area for area in ioas.areas if area.mmio and area.start == op.iova >> PAGE_SHIFT] if ioas is not None else []
        if ioas is None or not areas or areas[0].revoked:
            return None
        self.as_thread(0)
        self.iommufd.revoke(ioas, areas[0])
        return 0

    def access_pin(self, op: ioctls.AccessPin) -> int | None:
        ioas = self._ioas(op)
        start = op.iova >> PAGE_SHIFT
        return None if ioas is None or op.pages < 1 else self.iommufd.pin(ioas, start, start + op.pages)

    def _ioas(self, op: Any) -> Ioas | None:
        """The address space that an operation names, with its process's thread acting."""
        ioas = self.iommufd.ioases.get(op.ioas)
        if ioas is None or op.iova & 0xFFF or op.iova >> 64:
            return None
        self.as_thread(ioas.by)
        return ioas

    # --- host drivers -----------------------------------------------------------------------------------------------------------

    def _host_device(self, number: int) -> Device | None:
        """A device that no process has open."""
        if not 0 <= number < len(self.core.books.devices):
            return None
        device = self.core.books.devices[number].device
        return device if device.group is not None and device.group.number not in self.held else None

    def dma_map(self, op: ioctls.DmaMap) -> int | None:
        device, runs = self._host_device(op.device), _runs(op)
        if device is None or runs is None or not op.prot or not self.memory.possible(runs, False):
            return None
        return self.dma.map(device, op.iova >> PAGE_SHIFT, runs[0][0], op.pages, _PROT[op.prot])

    def dma_unmap(self, op: ioctls.DmaUnmap) -> int | None:
        device = self._host_device(op.device)
        return None if device is None or op.iova & 0xFFF else self.dma.unmap(device, op.iova >> PAGE_SHIFT)

    def msi_map(self, op: ioctls.MsiMap) -> int | None:
        if not 0 <= op.device < len(self.core.books.devices) or (op.iova | op.paddr) & 0xFFF or (op.iova | op.paddr) >> 64:
            return None
        return self.dma.map_msi(self.core.books.devices[op.device].device, op.iova >> PAGE_SHIFT, op.paddr >> PAGE_SHIFT)


def _runs(op: Any) -> list[Range] | None:
    """The memory of an operation as runs (first frame, pages); None if no process could have it."""
    if op.pages < 1 or (op.iova | op.paddr) & 0xFFF or op.iova >> 64 or op.pages >= PAGE_END:
        return None
    piece, gap = getattr(op, "piece", 0), getattr(op, "gap", 0)
    if piece > 0 and gap > 0 and op.pages > MOST_PIECES * piece:
        return None
    runs = pieces(op.paddr, op.pages, piece, gap)
    return runs if runs[-1][0] + runs[-1][1] <= PAGE_END else None


_DOES: dict[type[Operation], Callable[[UserSpace, Any], int | None]] = {
    ioctls.VfioJoin: UserSpace.vfio_join,
    ioctls.VfioLeave: UserSpace.vfio_leave,
    ioctls.VfioMap: UserSpace.vfio_map,
    ioctls.VfioUnmap: UserSpace.vfio_unmap,
    ioctls.IommufdAttach: UserSpace.iommufd_attach,
    ioctls.IommufdDetach: UserSpace.iommufd_detach,
    ioctls.IommufdClose: UserSpace.iommufd_close,
    ioctls.HwptAlloc: UserSpace.hwpt_alloc,
    ioctls.HwptFree: UserSpace.hwpt_free,
    ioctls.IoasMap: UserSpace.ioas_map,
    ioctls.IoasUnmap: UserSpace.ioas_unmap,
    ioctls.IoasRevoke: UserSpace.ioas_revoke,
    ioctls.AccessPin: UserSpace.access_pin,
    ioctls.DmaMap: UserSpace.dma_map,
    ioctls.DmaUnmap: UserSpace.dma_unmap,
    ioctls.MsiMap: UserSpace.msi_map,
}
"""How each operation of user space is done."""


__all__ = ["MOST_PIECES", "UserSpace"]
