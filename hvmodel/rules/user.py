"""Rules for user space: what processes ask of VFIO and iommufd, and host drivers of the DMA API, with good and bad arguments.

They are the kernel level at its fullest: whatever the driver is called with here, the kernel's own code has made of an ioctl.
"""

from __future__ import annotations

from dataclasses import replace

from hvmodel import operations as ops
from hvmodel.callers.iommufd import Ioas
from hvmodel.callers.levels import CONTRACT
from hvmodel.callers.vfio import Container
from hvmodel.kernel.iommu import Group
from hvmodel.rules.chooser import Chooser
from hvmodel.rules.rules import Scene, rule
from hvmodel.rules.values import GIB, MIB

MOST_CONTAINERS = 2
MOST_IOASES = 2
MOST_HWPTS = 3

MSI_BASE = 0x8000000
"""Where Linux maps interrupt pages (``MSI_IOVA_BASE``)."""

DOORBELL = 0xFEDC0000


def _idle_group(scene: Scene, choose: Chooser) -> Group | None:
    """A group that nobody owns, in its default domain."""
    groups = [group for group in scene.world.books.groups.values() if group.owner is None and group.domain is group.default_domain]
    return choose.pick(groups) if groups else None


def _process(scene: Scene, choose: Chooser) -> int:
    return choose.below(scene.vms + 1)


def _container(scene: Scene, choose: Chooser) -> Container | None:
    containers = list(scene.world.user.vfio.containers.values())
    return choose.pick(containers) if containers else None


# --- VFIO -----------------------------------------------------------------------------------------------------------------


@rule("user", 32)
def vfio_join(scene: Scene, choose: Chooser) -> ops.Operation | None:
    """A group joins a container that there is, or a new one."""
    group = _idle_group(scene, choose)
    if group is None:
        return None
    containers = scene.world.user.vfio.containers
    if containers and (len(containers) >= MOST_CONTAINERS or choose.below(3) < 2):
        container = choose.pick(list(containers.values()))
        return ops.VfioJoin(container.number, group.number, container.by, container.probe)
    number = next(number for number in range(1, MOST_CONTAINERS + 2) if number not in containers)
    return ops.VfioJoin(number, group.number, _process(scene, choose), choose.one_in(5))


@rule("user", 20)
def vfio_leave(scene: Scene, choose: Chooser) -> ops.Operation | None:
    """A group's files are closed."""
    container = _container(scene, choose)
    if container is None:
        return None
    return ops.VfioLeave(choose.pick([number for domain in container.domains for number in domain.groups]))


@rule("user", 80)
def vfio_map(scene: Scene, choose: Chooser) -> ops.Operation | None:
    """Memory of a process, or another device's BAR."""
    container = _container(scene, choose)
    if container is None:
        return vfio_join(scene, choose)
    pages = scene.values.page_count(choose, scene.scale)
    if container.dmas and choose.one_in(16):  # where something is mapped: VFIO refuses
        iova: int | None = choose.pick(container.dmas).start << 12
    else:
        iova = scene.values.free_iova(choose, container.domains[0].book, pages)
    if iova is None:
        return None
    piece, gap = scene.values.pieces(choose, pages)
    prot, mmio = scene.values.prot(choose), choose.one_in(16)
    return ops.VfioMap(container.number, iova, scene.values.physical(choose, iova), pages, piece, gap, prot, mmio)


@rule("user", 48)
def vfio_unmap(scene: Scene, choose: Chooser) -> ops.Operation | None:
    """One mapping, several in a row, all of them, or a range that cuts one, which VFIO refuses."""
    container = _container(scene, choose)
    if container is None or not container.dmas:
        return vfio_map(scene, choose)
    roll = choose.below(10)
    if roll == 9:
        return ops.VfioUnmap(container.number, 0, 0)
    first = choose.below(len(container.dmas))
    last = min(first + (choose.below(4) if roll > 5 else 0), len(container.dmas) - 1)
    start, end = container.dmas[first].start, container.dmas[last].start + container.dmas[last].pages
    if roll == 8 and choose.below(4) == 0:
        end -= 1
    return ops.VfioUnmap(container.number, start << 12, max(end - start, 1))


# --- iommufd --------------------------------------------------------------------------------------------------------------


def _ioas(scene: Scene, choose: Chooser) -> Ioas | None:
    ioases = list(scene.world.user.iommufd.ioases.values())
    return choose.pick(ioases) if ioases else None


@rule("user", 32)
def iommufd_attach(scene: Scene, choose: Chooser) -> ops.Operation | None:
    """The devices of a group are opened, attached to an address space, or moved to another one or another page table of it."""
    iommufd = scene.world.user.iommufd
    ioases = list(iommufd.ioases.values())
    bound = list(iommufd.bound)
    if bound and choose.below(2):
        group = choose.pick(bound)
        ioases = [ioas for ioas in ioases if ioas.by == iommufd.bound[group]]
    else:
        idle = _idle_group(scene, choose)
        if idle is None:
            return None
        group = idle.number
    by = iommufd.bound.get(group, ioases[0].by if ioases and choose.below(4) else _process(scene, choose))
    ioases = [ioas for ioas in ioases if ioas.by == by]
    if ioases and (len(iommufd.ioases) >= MOST_IOASES or choose.below(4)):
        ioas = choose.pick(ioases)
        numbers = [hwpt.number for hwpt in ioas.hwpts if hwpt.number]
        return ops.IommufdAttach(ioas.number, group, choose.pick(numbers) if numbers and choose.below(2) else 0, by)
    if len(iommufd.ioases) > MOST_IOASES:
        return None
    return ops.IommufdAttach(next(number for number in range(1, 9) if number not in iommufd.ioases), group, 0, by)


@rule("user", 12)
def iommufd_detach(scene: Scene, choose: Chooser) -> ops.Operation | None:
    """The devices of a group leave their page table."""
    attached = list(scene.world.user.iommufd.attached)
    return ops.IommufdDetach(choose.pick(attached)) if attached else iommufd_attach(scene, choose)


@rule("user", 12)
def iommufd_close(scene: Scene, choose: Chooser) -> ops.Operation | None:
    """The devices of a group are closed, attached or not."""
    bound = list(scene.world.user.iommufd.bound)
    return ops.IommufdClose(choose.pick(bound)) if bound else None


@rule("user", 16)
def hwpt_alloc(scene: Scene, choose: Chooser) -> ops.Operation | None:
    """A page table that nothing is attached to."""
    iommufd, ioas = scene.world.user.iommufd, _ioas(scene, choose)
    if ioas is None:
        return None
    groups = [group for group, by in iommufd.bound.items() if by == ioas.by]
    number = next(number for number in range(1, 9) if iommufd.hwpt(number) is None)
    if not groups or number > MOST_HWPTS:
        return None
    devices = scene.world.books.groups[choose.pick(groups)].devices
    return ops.HwptAlloc(number, ioas.number, choose.pick(devices).number)


@rule("user", 12)
def hwpt_free(scene: Scene, choose: Chooser) -> ops.Operation | None:
    """A page table goes that nothing is attached to."""
    idle = [
        hwpt.number for ioas in scene.world.user.iommufd.ioases.values() for hwpt in ioas.hwpts if hwpt.number and not hwpt.groups
    ]
    return ops.HwptFree(choose.pick(idle)) if idle else None


@rule("user", 72)
def ioas_map(scene: Scene, choose: Chooser) -> ops.Operation | None:
    """Memory of a process, or a dma-buf; now and then before anything is attached."""
    ioas = _ioas(scene, choose)
    if ioas is None:
        early = choose.one_in(4)
        return ops.IoasMap(1, MIB, 2 * GIB, 4, by=_process(scene, choose)) if early else iommufd_attach(scene, choose)
    pages = scene.values.page_count(choose, scene.scale)
    book = ioas.domains[0] if ioas.domains else None
    if book is not None:
        iova = scene.values.free_iova(choose, book, pages)
    else:
        iova = ioas.areas[-1].end << 12 if ioas.areas else scene.values.round_iova(choose)
    if iova is None:
        return None
    piece, gap = scene.values.pieces(choose, pages)
    prot, mmio, small = scene.values.prot(choose), choose.one_in(12), pages <= 64 and choose.one_in(8)
    paddr = scene.values.physical(choose, iova)
    return ops.IoasMap(ioas.number, iova, paddr, pages, piece, gap, prot, mmio, small, choose.one_in(8), ioas.by)


@rule("user", 48)
def ioas_unmap(scene: Scene, choose: Chooser) -> ops.Operation | None:
    """One area, several in a row, all, or a part of one, which iommufd refuses unless it was mapped page by page."""
    ioas = _ioas(scene, choose)
    if ioas is None or not ioas.areas:
        return ioas_map(scene, choose)
    roll = choose.below(10)
    if roll == 9:
        return ops.IoasUnmap(ioas.number, 0, 0)
    first = choose.below(len(ioas.areas))
    last = min(first + (choose.below(4) if roll > 5 else 0), len(ioas.areas) - 1)
    start, end = ioas.areas[first].start, ioas.areas[last].end
    if ioas.areas[first].small and end - start > 2 and choose.below(2):
        start, end = start + 1, max(end - 1, start + 2)
    elif roll == 8 and choose.below(4) == 0:
        end -= 1
    return ops.IoasUnmap(ioas.number, start << 12, max(end - start, 1))


@rule("user", 8)
def ioas_revoke(scene: Scene, choose: Chooser) -> ops.Operation | None:
    """A dma-buf is taken back; if there is none, one is mapped."""
    bufs = [
        (ioas.number, area.start)
        for ioas in scene.world.user.iommufd.ioases.values()
        for area in ioas.areas
        if area.mmio and not area.revoked
    ]
    if not bufs:
        mapped = ioas_map(scene, choose)
        return replace(mapped, mmio=True, small=False) if isinstance(mapped, ops.IoasMap) else mapped
    number, start = choose.pick(bufs)
    return ops.IoasRevoke(number, start << 12)


@rule("user", 4)
def access_pin(scene: Scene, choose: Chooser) -> ops.Operation | None:
    """A kernel user pins pages of an area."""
    ioas = _ioas(scene, choose)
    areas = [area for area in ioas.areas if not area.mmio] if ioas is not None else []
    if ioas is None or not areas:
        return None
    area = choose.pick(areas)
    pages = 1 + choose.below(min(area.end - area.start, 16))
    return ops.AccessPin(ioas.number, area.start << 12, pages)


# --- host drivers -----------------------------------------------------------------------------------------------------------


@rule("user", 24, CONTRACT)
def dma_map(scene: Scene, choose: Chooser) -> ops.Operation | None:
    """A host driver's streaming map."""
    user = scene.world.user
    devices = [
        book.device
        for book in scene.world.books.devices
        if book.device.group is not None and book.device.group.number not in user.held and user.dma.domain(book.device) is not None
    ]
    if not devices:
        return None
    device = choose.pick(devices)
    book = user.dma.domain(device)
    assert book is not None
    pages = scene.values.page_count(choose, min(scene.scale, 1))
    iova = scene.values.free_iova(choose, book, pages)
    if iova is None:
        return None
    return ops.DmaMap(device.number, iova, scene.values.physical(choose, iova), pages, choose.pick(("rw", "r", "w")))


@rule("user", 16, CONTRACT)
def dma_unmap(scene: Scene, choose: Chooser) -> ops.Operation | None:
    """Its end."""
    streams = list(scene.world.user.dma.streams)
    if not streams:
        return dma_map(scene, choose)
    device, start = choose.pick(streams)
    return ops.DmaUnmap(device, start << 12)


@rule("user", 4, CONTRACT)
def msi_map(scene: Scene, choose: Chooser) -> ops.Operation | None:
    """A page for interrupts, in whatever domain a device is in."""
    devices = [book.device.number for book in scene.world.books.devices if scene.world.user.dma.domain(book.device) is not None]
    return ops.MsiMap(choose.pick(devices), MSI_BASE + (choose.below(16) << 12), DOORBELL) if devices else None


# --- the end ----------------------------------------------------------------------------------------------------------------


@rule("user", 4)
def exit_process(scene: Scene, choose: Chooser) -> ops.Operation | None:
    """A process dies with all that it has open."""
    processes = [by for by, files in scene.world.user.files.items() if any(kind != "vm" for kind, _number in files)]
    return ops.Exit(choose.pick(processes)) if processes else None


__all__ = ["MOST_CONTAINERS", "MOST_HWPTS", "MOST_IOASES"]
