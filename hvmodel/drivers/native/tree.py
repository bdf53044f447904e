"""A driver's interval tree as the judges see every driver's (``hvmodel.kernel.interval_tree``), read from the image."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hvmodel.drivers.native.driver import NativeDriver

_ROWS = 256
"""Nodes that one search tells: ``HVM_FOUND``."""


class Node:
    """A node: ``[start, last]`` and the physical address that its mapping has at the start, in bytes, and where it is in C.
    ``ahead`` is the one that a search went on to find."""

    __slots__ = ("address", "ahead", "last", "paddr", "start")

    def __init__(self, start: int, last: int, address: int, paddr: int) -> None:
        self.start, self.last, self.address, self.paddr = start, last, address, paddr
        self.ahead: tuple[int, int, Node | None] | None = None


class NativeTree:
    """One ``struct rb_root_cached`` of the image. ``changes`` holds ``(start, last)`` of every node inserted or removed."""

    __slots__ = ("_driver", "_root", "changes")

    def __init__(self, driver: NativeDriver, root: int) -> None:
        self._driver = driver
        self._root = root
        self.changes: list[tuple[int, int]] = []

    def _search(self, start: int, last: int, after: int) -> Node | None:
        """The first node that meets ``[start, last]`` behind ``after``; the next ones are remembered in it, one in the other."""
        driver = self._driver
        rows = driver.here().search(self._root, start, last, after, driver.paddr_at)
        found: Node | None = None
        room = 4 * _ROWS
        for index in range(len(rows) - 4, -1, -4):
            node = Node(*rows[index : index + 4])
            if found is not None or len(rows) < room:
                node.ahead = (start, last, found)
            found = node
        return found

    def iter_first(self, start: int, last: int) -> Node | None:
        """The kernel's ``interval_tree_iter_first``."""
        return self._search(start, last, 0)

    def iter_next(self, node: Node, start: int, last: int) -> Node | None:
        """The kernel's ``interval_tree_iter_next``."""
        ahead = node.ahead
        if ahead is not None and ahead[0] == start and ahead[1] == last:
            return ahead[2]
        return self._search(start, last, node.address)

    def __iter__(self) -> Iterator[Node]:
        """All nodes in order, also those that no search finds."""
        room = 1 << 17
        rows = (ctypes.c_uint64 * (3 * room))()
        image = self._driver.here()
        count: int = image.library.hvm_tree_all(self._root, room, rows)
        for start, last, address in zip(rows[0 : 3 * count : 3], rows[1 : 3 * count : 3], rows[2 : 3 * count : 3], strict=True):
            yield Node(start, last, address, image.read(address + self._driver.paddr_at & 0xFFFFFFFFFFFFFFFF, 8))

    def __len__(self) -> int:
        return sum(1 for _ in self)
