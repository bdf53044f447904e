"""What user space holds, as the part of a state that says it: containers, address spaces, streams, pins, files.

It is said with the numbers that the operations chose and with physical frames as they are. So within a scope in which user space
acts, neither devices nor physical regions are taken for one another.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hvmodel.world import World


def user_state(world: World, labels: Mapping[int, Any]) -> Any:
    """Numbers, strings and tuples. ``labels`` says which domain a book is, by the book's id."""
    user = world.user
    vfio, iommufd, memory = user.vfio, user.iommufd, user.memory
    return (
        [
            (
                one.number,
                one.by,
                one.probe,
                [(dma.start, dma.pages, dma.prot, dma.mmio) for dma in one.dmas],
                [(labels.get(id(domain.book)), list(domain.groups), domain.fgsp) for domain in one.domains],
            )
            for one in vfio.containers.values()
        ],
        [
            (
                ioas.number,
                ioas.by,
                [
                    (
                        (area.start, area.prot, list(area.runs), area.by),
                        (area.mmio, area.small, area.short, area.revoked),
                        labels.get(id(area.stored)),
                    )
                    for area in ioas.areas
                ],
                [labels.get(id(book)) for book in ioas.domains],
                [(hwpt.number, labels.get(id(hwpt.book)), list(hwpt.groups)) for hwpt in ioas.hwpts],
                list(ioas.accesses),
            )
            for ioas in iommufd.ioases.values()
        ],
        list(iommufd.bound.items()),
        [(group, hwpt.ioas, labels.get(id(hwpt.book))) for group, hwpt in iommufd.attached.items()],
        [(key, labels.get(id(one.book)), one.start, one.frame, one.pages) for key, one in user.dma.streams.items()],
        [(run.start, run.end, run.tag) for run in memory.pins],
        [(run.start, run.end, run.tag) for run in memory.owners],
        (list(memory.memory.ranges()), list(memory.bars.ranges())),
        list(user.windows.ranges()),
        [(by, list(files)) for by, files in user.files.items()],
        sorted(user.held),
        [(book.pinned, list(book.forgiven.ranges())) for book in world.books.of_domain.values()],
    )


__all__ = ["user_state"]
