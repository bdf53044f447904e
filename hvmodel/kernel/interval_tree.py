"""The kernel's interval tree: nodes that cover ``[start, last]``, found by overlap, in order of ``start``.

The semantics are those of ``include/linux/interval_tree_generic.h`` (``_insert``, ``_remove``, ``_iter_first``,
``_iter_next``) over an ``rb_root_cached``, for every input that a driver can produce: nodes may overlap, have equal
starts, or be inverted (``last < start``, what a mapping of size zero gives), and a query may be inverted, too. All
addresses are bytes, u64, inclusive.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, TypeAlias

from sortedcontainers import SortedList


class IntervalTreeNode:
    """One interval, ``[start, last]`` in bytes, both inclusive (``struct interval_tree_node``).

    A driver's mapping either subclasses it (add own ``__slots__``, keep identity as equality) or embeds it; then
    ``container`` points back to the mapping, as ``container_of`` would. ``start`` and ``last`` must not change while
    the node is in a tree.
    """

    __slots__ = ("container", "last", "start")

    def __init__(self, start: int = 0, last: int = 0, container: Any = None) -> None:
        self.start = start
        self.last = last
        self.container: Any = container

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.start:#x}, {self.last:#x})"


_Entry: TypeAlias = tuple[int, int, IntervalTreeNode]
"""Start, number of the insertion, node: the order of the tree. The number is unique, so nodes are never compared."""


class IntervalTree:
    """Nodes ordered by ``start``; nodes with equal starts in the order of their insertion.

    The search methods cost O(log n) while no node overlaps another and none is inverted, the normal case, because
    then the nodes are in order of ``last`` as well. The first insertion that breaks this makes them scan, O(n), until
    the tree is empty.

    ``changes`` holds the ``(start, last)`` of every node inserted or removed, oldest first, until a watcher takes
    them out. It grows without bound if nobody does.

    >>> tree = IntervalTree()
    >>> tree.insert(IntervalTreeNode(0x2000, 0x2FFF))
    >>> tree.insert(IntervalTreeNode(0x1000, 0x1FFF))
    >>> list(tree)
    [IntervalTreeNode(0x1000, 0x1fff), IntervalTreeNode(0x2000, 0x2fff)]
    >>> tree.iter_first(0x1800, 0x2800)
    IntervalTreeNode(0x1000, 0x1fff)
    >>> tree.changes
    [(8192, 12287), (4096, 8191)]
    """

    __slots__ = ("_entries", "_inserted", "_scan", "_sorted", "changes")

    def __init__(self) -> None:
        self._sorted: Any = SortedList()  # of _Entry
        self._entries: dict[IntervalTreeNode, _Entry] = {}
        self._inserted = 0
        self._scan = False
        self.changes: list[tuple[int, int]] = []

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, node: IntervalTreeNode) -> bool:
        """Whether this very node is in the tree: O(1)."""
        return node in self._entries

    def __iter__(self) -> Iterator[IntervalTreeNode]:
        """The nodes in order. The tree must not change meanwhile."""
        entry: _Entry
        for entry in self._sorted:
            yield entry[2]

    def insert(self, node: IntervalTreeNode) -> None:
        """Add ``node`` behind those with the same start. Like the kernel's, it does not look for overlaps. O(log n).

        Raises ValueError if the node is in this tree already, where a kernel would corrupt memory.
        """
        if node in self._entries:
            raise ValueError(f"{node!r} is inserted into a tree that holds it already; a kernel would corrupt memory")
        start, last = node.start, node.last
        if not self._scan:
            self._scan = last < start or self.iter_first(start, last) is not None
        self._inserted += 1
        entry = self._entries[node] = (start, self._inserted, node)
        self._sorted.add(entry)
        self.changes.append((start, last))

    def remove(self, node: IntervalTreeNode) -> None:
        """Take this very ``node`` out. O(log n).

        Raises KeyError if it is not in this tree, where a kernel would corrupt memory.
        """
        entry = self._entries.pop(node, None)
        if entry is None:
            raise KeyError(f"{node!r} is removed from a tree that does not hold it; a kernel would corrupt memory")
        self._sorted.remove(entry)
        if not self._entries:
            self._scan = False
        self.changes.append((node.start, node.last))

    def iter_first(self, start: int, last: int) -> IntervalTreeNode | None:
        """The leftmost node with ``node.last >= start``, if its ``node.start <= last``; else None.

        That is the leftmost node that overlaps ``[start, last]``, and for an inverted query what the kernel's search
        returns: a node that contains both ends. O(log n); O(n) in a tree with overlapping or inverted nodes.
        """
        if self._scan:
            return self._first_of(0, start, last)
        entries = self._sorted
        behind: int = entries.bisect_left((start + 1,))  # the first node that starts above `start`
        node: IntervalTreeNode
        if behind:
            node = entries[behind - 1][2]
            if node.last >= start:
                return node if node.start <= last else None
        if behind == len(entries):
            return None
        node = entries[behind][2]
        return node if node.start <= last else None

    def iter_next(self, node: IntervalTreeNode, start: int, last: int) -> IntervalTreeNode | None:
        """What ``iter_first`` would return if the tree began right behind ``node``. Cost as there.

        Raises KeyError if ``node`` is not in this tree, where a kernel would follow stale pointers.
        """
        entry = self._entries.get(node)
        if entry is None:
            raise KeyError(f"a walk goes on from {node!r}, not in this tree; a kernel would follow stale pointers")
        entries = self._sorted
        behind: int = entries.bisect_right(entry)
        if self._scan:
            return self._first_of(behind, start, last)
        if behind == len(entries):
            return None
        successor: IntervalTreeNode = entries[behind][2]
        if successor.last < start:
            return self.iter_first(start, last)  # ends grow with starts: no node up to the successor reaches `start`
        return successor if successor.start <= last else None

    def _first_of(self, index: int, start: int, last: int) -> IntervalTreeNode | None:
        node: IntervalTreeNode
        for _, _, node in self._sorted.islice(index):
            if node.start > last:
                return None  # so does every node behind it
            if node.last >= start:
                return node
        return None
