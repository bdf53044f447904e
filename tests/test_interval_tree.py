"""The interval tree against a plain list that restates the kernel's search, and its cost."""

from __future__ import annotations

import copy
import pickle

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hvmodel.kernel.interval_tree import IntervalTree, IntervalTreeNode

TOP = 2**64 - 1


class Twin:
    """The same tree as a list in order. A search is what the comments in ``interval_tree_generic.h`` say in words."""

    def __init__(self) -> None:
        self.nodes: list[IntervalTreeNode] = []
        self.changes: list[tuple[int, int]] = []

    def insert(self, node: IntervalTreeNode) -> None:
        place = sum(1 for other in self.nodes if other.start <= node.start)
        self.nodes.insert(place, node)
        self.changes.append((node.start, node.last))

    def remove(self, node: IntervalTreeNode) -> None:
        self.nodes = [other for other in self.nodes if other is not node]
        self.changes.append((node.start, node.last))

    def iter_first(self, start: int, last: int) -> IntervalTreeNode | None:
        return self._leftmost(self.nodes, start, last)

    def iter_next(self, node: IntervalTreeNode, start: int, last: int) -> IntervalTreeNode | None:
        place = next(index for index, other in enumerate(self.nodes) if other is node)
        return self._leftmost(self.nodes[place + 1 :], start, last)

    @staticmethod
    def _leftmost(nodes: list[IntervalTreeNode], start: int, last: int) -> IntervalTreeNode | None:
        reaching = [node for node in nodes if node.last >= start]
        return reaching[0] if reaching and reaching[0].start <= last else None


def check_every_search(tree: IntervalTree, twin: Twin, ends: list[int]) -> None:
    """Both searches with all pairs of ``ends``, inverted ones too, from every node."""
    assert list(tree) == twin.nodes
    assert len(tree) == len(twin.nodes)
    for start in ends:
        for last in ends:
            assert tree.iter_first(start, last) is twin.iter_first(start, last), (start, last)
            for node in twin.nodes:
                assert tree.iter_next(node, start, last) is twin.iter_next(node, start, last), (node, start, last)


# Few ends, so that intervals meet; some of them at the top of the address space.
ENDS = [0, 1, 2, 3, 4, 5, 6, 7, TOP - 1, TOP]
end = st.sampled_from(ENDS)


@settings(max_examples=150, deadline=None)
@given(st.lists(st.one_of(st.tuples(end, end), st.integers(0, 5)), max_size=12))
def test_any_nodes_give_what_the_list_gives(steps: list[tuple[int, int] | int]) -> None:
    """Protects: exactness with overlapping, equal and inverted nodes, in which a driver's defects show."""
    tree, twin = IntervalTree(), Twin()
    for step in steps:
        if isinstance(step, tuple):
            node = IntervalTreeNode(*step)
            tree.insert(node)
            twin.insert(node)
        elif step < len(twin.nodes):
            node = twin.nodes[step]
            tree.remove(node)
            twin.remove(node)
    check_every_search(tree, twin, ENDS)
    assert tree.changes == twin.changes


@settings(max_examples=100, deadline=None)
@given(st.permutations(range(6)), st.sets(st.integers(0, 5)), st.sampled_from([0, TOP - 23]))
def test_disjoint_nodes_give_what_the_list_gives(order: list[int], removed: set[int], base: int) -> None:
    """Protects: the fast search, which is used only as long as nothing overlaps, with touching nodes and gaps."""
    tree, twin = IntervalTree(), Twin()
    for index in order:  # four addresses each; every other node fills its four, so that it touches the next one
        node = IntervalTreeNode(base + 4 * index, base + 4 * index + 3 - 2 * (index % 2))
        tree.insert(node)
        twin.insert(node)
    for node in [node for node in twin.nodes if (node.start - base) // 4 in removed]:
        tree.remove(node)
        twin.remove(node)
    check_every_search(tree, twin, list(range(base, base + 24)))
    assert tree.changes == twin.changes


def test_equal_starts_stay_in_the_order_of_insertion() -> None:
    """Protects: which of two mappings at one address a lookup or an unmap meets first."""
    long, short = IntervalTreeNode(0x1000, 0x8FFF), IntervalTreeNode(0x1000, 0x1FFF)
    tree = IntervalTree()
    tree.insert(long)
    tree.insert(short)
    assert tree.iter_first(0x1000, 0x1000) is long
    assert tree.iter_next(long, 0x1000, 0x1000) is short
    tree.remove(long)
    tree.insert(long)
    assert list(tree) == [short, long]


def test_a_node_far_to_the_left_that_reaches_over_others_is_found() -> None:
    """Protects: the overlap that a search among neighbours alone would miss."""
    tree = IntervalTree()
    small = IntervalTreeNode(0x2000, 0x2FFF)
    wide = IntervalTreeNode(0x0, 0xFFFF)
    tree.insert(small)
    tree.insert(wide)
    assert tree.iter_first(0x5000, 0x5FFF) is wide


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ((0x1000, 0x0FFF), False),  # size zero at the start of the node: the driver's last is below it
        ((0x1800, 0x17FF), True),  # size zero inside the node
        ((0x2000, 0x1FFF), False),  # size zero just behind it
        ((0x0, TOP), True),  # size zero at zero: last wraps to all ones
    ],
)
def test_the_query_of_a_zero_size_unmap(query: tuple[int, int], found: bool) -> None:
    """Protects: what an unmap of size zero meets: its query is inverted, but at address 0 it is everything."""
    tree = IntervalTree()
    node = IntervalTreeNode(0x1000, 0x1FFF)
    tree.insert(node)
    assert tree.iter_first(*query) is (node if found else None)


def test_misuse_that_would_corrupt_a_kernel_is_an_error() -> None:
    """Protects: a driver model that frees or inserts a node twice cannot go on unnoticed."""
    tree, other = IntervalTree(), IntervalTree()
    node, twin = IntervalTreeNode(1, 2), IntervalTreeNode(1, 2)
    with pytest.raises(KeyError, match="removed from a tree that does not hold it"):
        tree.remove(node)
    tree.insert(node)
    other.insert(twin)
    with pytest.raises(ValueError, match="holds it already"):
        tree.insert(node)
    with pytest.raises(KeyError):
        tree.remove(twin)  # equal bounds, but the node of another tree
    with pytest.raises(KeyError, match="not in this tree"):
        tree.iter_next(twin, 0, TOP)
    tree.remove(node)
    with pytest.raises(KeyError):
        tree.remove(node)
    assert tree.changes == [(1, 2), (1, 2)], "a refused call is not a change"
    assert node not in tree
    assert twin in other


def test_a_watcher_drains_the_changes() -> None:
    """Protects: the checks after an operation, which look only at the addresses in this list."""
    tree = IntervalTree()
    node = IntervalTreeNode(0x1000, 0x1FFF)
    tree.insert(node)
    assert tree.changes == [(0x1000, 0x1FFF)]
    tree.changes.clear()
    tree.iter_first(0, TOP)
    assert tree.changes == []
    tree.remove(node)
    assert tree.changes == [(0x1000, 0x1FFF)]


def test_embedding_and_subclassing() -> None:
    """Protects: both ways in which a driver has its mapping hold a node."""

    class Mapping(IntervalTreeNode):
        __slots__ = ("paddr",)

        def __init__(self, start: int, last: int, paddr: int) -> None:
            super().__init__(start, last)
            self.paddr = paddr

    tree = IntervalTree()
    tree.insert(Mapping(0, 0xFFF, 0x7000))
    found = tree.iter_first(0, 0)
    assert isinstance(found, Mapping)
    assert found.paddr == 0x7000
    assert found.container is None
    owner = object()
    assert IntervalTreeNode(0, 0xFFF, owner).container is owner


@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda tree: pickle.loads(pickle.dumps(tree))])
def test_a_copied_tree_lives_on_its_own(duplicate: object) -> None:
    """Protects: saving and restoring a state; the copy must find, remove and refuse its own nodes."""
    tree = IntervalTree()
    for start in (0x3000, 0x1000, 0x1000):
        tree.insert(IntervalTreeNode(start, start + 0xFFF))
    assert callable(duplicate)
    twin: IntervalTree = duplicate(tree)
    assert [(node.start, node.last) for node in twin] == [(node.start, node.last) for node in tree]
    for node in list(twin):
        assert node not in tree
        twin.remove(node)
    assert (len(twin), len(tree)) == (0, 3)


class Counted(IntervalTreeNode):
    """A node that counts how often a search looks at its end."""

    __slots__ = ("_end",)
    looks = 0

    @property
    def last(self) -> int:
        Counted.looks += 1
        return self._end

    @last.setter
    def last(self, value: int) -> None:
        self._end = value


def test_a_search_does_not_scan_unless_nodes_overlap() -> None:
    """Protects: the speed of a walk with many mappings, also after an overlap came and the tree was emptied."""

    def looks(tree: IntervalTree) -> int:
        Counted.looks = 0
        assert tree.iter_first(0x1000 * 900, 0x1000 * 900) is not None
        return Counted.looks

    tree = IntervalTree()
    for page in range(1000):
        tree.insert(Counted(0x1000 * page, 0x1000 * page + 0xFFF))
    assert looks(tree) <= 2
    overlap = Counted(0x800, 0x1800)
    tree.insert(overlap)
    assert looks(tree) > 800, "an overlap makes the search look at every node before the one it finds"
    for node in list(tree):
        tree.remove(node)
    for page in range(1000):
        tree.insert(Counted(0x1000 * page, 0x1000 * page + 0xFFF))
    assert looks(tree) <= 2
