"""Rules for user space: what processes ask of VFIO and iommufd, and host drivers of the DMA API, with good and bad arguments.

They are the kernel level at its fullest: whatever the driver is called with here, the kernel's own code has made of an ioctl.
"""

from __future__ import annotations

from hvmodel import operations as ops
from hvmodel.callers.vfio import Container
from hvmodel.kernel.iommu import Group
from hvmodel.rules.chooser import Chooser
from hvmodel.rules.rules import Scene, rule

MOST_CONTAINERS = 2


def _idle_group(scene: Scene, choose: Chooser) -> Group | None:
    """A group that nobody owns, in its default domain."""
    groups = [group for group in scene.world.books.groups.values() if group.owner is None and group.domain is group.default_domain]
    return choose.pick(groups) if groups else None


def _process(scene: Scene, choose: Chooser) -> int:
    return choose.below(scene.vms + 1)


def _pieces(scene: Scene, choose: Chooser, pages: int) -> tuple[int, int]:
    """How memory of so many pages lies: mostly in one piece, else in pieces of so many pages with so many between them."""
    if pages == 1 or choose.below(10) < 6:
        return 0, 0
    piece = choose.pick((1, 2, 3, 16, 100, 255, 256, 257))
    return (piece, scene.values.gap(choose, piece)) if piece < pages <= 512 * piece else (0, 0)


def _container(scene: Scene, choose: Chooser) -> Container | None:
    containers = list(scene.world.user.vfio.containers.values())
    return choose.pick(containers) if containers else None


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
    return ops.VfioJoin(number, group.number, _process(scene, choose), choose.below(5) == 4)


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
    if container.dmas and choose.below(16) == 15:  # where something is mapped: VFIO refuses
        iova: int | None = choose.pick(container.dmas).start << 12
    else:
        iova = scene.values.free_iova(choose, container.domains[0].book, pages)
    if iova is None:
        return None
    piece, gap = _pieces(scene, choose, pages)
    prot, mmio = scene.values.prot(choose), choose.below(16) == 15
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


@rule("user", 4)
def exit_process(scene: Scene, choose: Chooser) -> ops.Operation | None:
    """A process dies with all that it has open."""
    processes = [by for by, files in scene.world.user.files.items() if any(kind != "vm" for kind, _number in files)]
    return ops.Exit(choose.pick(processes)) if processes else None


__all__ = ["MOST_CONTAINERS"]
