"""How the IOMMU core cuts ranges: against a plain restatement, and the calls of known maps and unmaps, literally."""

from __future__ import annotations

import re
from typing import NamedTuple

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from hvmodel.callers.pgsize import PgsizeBug, iommu_pgsize

KIB, MIB, GIB = 2**10, 2**20, 2**30
U64 = 2**64
ONLY_4K = 4 * KIB
HYPERV = 4 * KIB | MIB
X86 = 4 * KIB | 2 * MIB | GIB
ALL = U64 - 4 * KIB


def pgsize_in_words(bitmap: int, iova: int, paddr: int, size: int) -> tuple[int, int] | None:
    """What the comments in ``iommu_pgsize`` say, with division and lists instead of masks. None where it would BUG."""
    sizes = [1 << bit for bit in range(64) if bitmap >> bit & 1]
    fitting = [page for page in sizes if page <= size and iova % page == 0 and paddr % page == 0]
    if not fitting:
        return None
    page = max(fitting)
    larger = [other for other in sizes if other > page]
    if larger and iova % larger[0] == paddr % larger[0]:
        to_boundary = larger[0] - iova % larger[0]
        behind_one = to_boundary + larger[0]
        if behind_one < U64 and behind_one <= size:
            return page, to_boundary // page
    return page, size // page


def chunks(bitmap: int, iova: int, paddr: int, size: int) -> list[tuple[int, int]]:
    """The (page size, count) of the driver calls of one ``iommu_map``, every one answered in full."""
    calls = []
    while size:
        page, count = iommu_pgsize(bitmap, iova, paddr, size)
        assert 0 < page * count <= size
        calls.append((page, count))
        iova = (iova + page * count) % U64
        paddr = (paddr + page * count) % U64
        size -= page * count
    return calls


bitmaps = st.sampled_from([ONLY_4K, HYPERV, X86, 4 * KIB | 64 * KIB | 2 * MIB, ALL, 4 * KIB | 2**63]) | st.sets(
    st.integers(12, 63), min_size=1
).map(lambda bits: sum(1 << bit for bit in bits))


@st.composite
def addresses(draw: st.DrawFn) -> int:
    """A u64 of any alignment: an odd number shifted, or near a large boundary."""
    place = draw(st.integers(0, 2**22)) << draw(st.integers(0, 63))
    return (place + draw(st.integers(-3, 3)) * 4 * KIB) % U64


@st.composite
def requests(draw: st.DrawFn) -> tuple[int, int, int, int]:
    """Bitmap, iova, paddr, size; often with both addresses at the same offset in a large page."""
    iova = draw(addresses())
    paddr = draw(st.one_of(addresses(), st.just(iova), st.integers(12, 40).map(lambda bit: iova ^ 1 << bit)))
    size = draw(st.one_of(addresses(), st.integers(1, 2000).map(lambda pages: pages * 4 * KIB)))
    return draw(bitmaps), iova, paddr, size


@settings(max_examples=1500, deadline=None)
@given(requests())
def test_it_does_what_the_words_say(request: tuple[int, int, int, int]) -> None:
    """Protects: the bit tricks, over the whole u64 range, the BUG_ON included."""
    expected = pgsize_in_words(*request)
    if expected is None:
        with pytest.raises(PgsizeBug, match=re.escape("BUG_ON")):
            iommu_pgsize(*request)
    else:
        assert iommu_pgsize(*request) == expected


def test_it_does_what_the_words_say_in_a_small_space_exhaustively() -> None:
    """Protects: the rule at every boundary: page sizes 1, 2 and 8, all addresses and sizes below 20."""
    for bitmap in (0b0001, 0b0011, 0b1001, 0b1011, 0b1010):
        for iova in range(20):
            for paddr in range(20):
                for size in range(1, 20):
                    try:
                        answer = iommu_pgsize(bitmap, iova, paddr, size)
                    except PgsizeBug:
                        answer = None
                    assert answer == pgsize_in_words(bitmap, iova, paddr, size), (bitmap, iova, paddr, size)


@pytest.mark.parametrize(
    ("bitmap", "iova", "paddr", "size", "expected"),
    [
        (4 * KIB | 2**63, 0, 0, 2**62, (4 * KIB, 2**50)),  # boundary + page = 2^64: overflows, so it is no cut
        (4 * KIB | 2**63, 4 * KIB, 4 * KIB, U64 - 4 * KIB, (4 * KIB, 2**51 - 1)),  # the largest sum without overflow
        (ONLY_4K, 0, 0, U64 - 4 * KIB, (4 * KIB, 2**52 - 1)),
        (HYPERV, 0, 0, 4 * KIB, (4 * KIB, 1)),  # address 0 is aligned to every size
        (X86, 4 * KIB, 4 * KIB, 4 * GIB, (4 * KIB, 511)),  # only the immediately larger size is looked at
        (HYPERV, U64 - 4 * KIB, U64 - 4 * KIB, 4 * MIB, (4 * KIB, 1)),  # the boundary is 2^64 itself
        (HYPERV, 4 * KIB, 4 * KIB, 2 * MIB - 8 * KIB, (4 * KIB, 510)),  # one page too few behind the boundary: no cut
        (HYPERV, 4 * KIB, 4 * KIB, 2 * MIB - 4 * KIB, (4 * KIB, 255)),
        (HYPERV, 0, 0, MIB + 2 * KIB, (MIB, 1)),  # the rest that is no whole page is left for the next call
    ],
)
def test_edges(bitmap: int, iova: int, paddr: int, size: int, expected: tuple[int, int]) -> None:
    """Protects: the cases at the ends of the u64 range and on both sides of a cut."""
    assert iommu_pgsize(bitmap, iova, paddr, size) == expected


@pytest.mark.parametrize(
    ("bitmap", "iova", "paddr", "size"),
    [
        (ONLY_4K, 0x1800, 0, 0x1000),
        (ONLY_4K, 0, 0x800, 0x1000),
        (ONLY_4K, 0, 0, 0x800),
        (ONLY_4K, 0, 0, 0),
        (0, 0, 0, 0x1000),
    ],
)
def test_no_page_size_that_fits_is_the_kernels_bug(bitmap: int, iova: int, paddr: int, size: int) -> None:
    """Protects: a driver whose answer leaves the core misaligned ends in a message that names the numbers."""
    with pytest.raises(PgsizeBug, match=f"iova {iova:#x}, paddr {paddr:#x}, size {size:#x}"):
        iommu_pgsize(bitmap, iova, paddr, size)


@given(requests(), st.integers(-2, 2), st.integers(-2, 2))
def test_addresses_need_no_mask(request: tuple[int, int, int, int], iova_wraps: int, paddr_wraps: int) -> None:
    """Protects: the promise that callers may pass an address that has run past 2^64."""
    bitmap, iova, paddr, size = request
    assume(pgsize_in_words(*request) is not None)
    assert iommu_pgsize(bitmap, iova + iova_wraps * U64, paddr + paddr_wraps * U64, size) == iommu_pgsize(*request)


Calls = list[tuple[int, int]]


class Vector(NamedTuple):
    """Maps (iova, paddr, size), the ``map_pages`` calls of each, and the ``unmap_pages`` calls of one unmap."""

    name: str
    bitmap: int
    maps: list[tuple[int, int, int]]
    map_calls: list[Calls]
    unmap: tuple[int, int]
    unmap_calls: Calls


K4, K8, M1, M2, G1 = 4 * KIB, 8 * KIB, MIB, 2 * MIB, GIB
TOP_2M = U64 - 2 * MIB

# fmt: off
VECTORS = [
    Vector("V1 offsets differ, one size", ONLY_4K,
           [(0x100000, 0x40001000, 0x400000)], [[(K4, 1024)]],
           (0x100000, 0x400000), [(K4, 1024)]),
    Vector("V2 one unmap over two maps", ONLY_4K,
           [(0, 0x40000000, 0x200000), (0x200000, 0x80000000, 0x200000)], [[(K4, 512)], [(K4, 512)]],
           (0, 0x400000), [(K4, 1024)]),
    Vector("V3 offsets differ", HYPERV,
           [(0x100000, 0x40001000, 0x400000)], [[(K4, 1024)]],
           (0x100000, 0x400000), [(M1, 4)]),
    Vector("V4 offsets differ, iova not aligned", HYPERV,
           [(0x1FF000, 0x40000000, 0x300000)], [[(K4, 768)]],
           (0x1FF000, 0x300000), [(K4, 1), (M1, 2), (K4, 255)]),
    Vector("V5 same offset", HYPERV,
           [(0x101000, 0x40101000, 0x400000)], [[(K4, 255), (M1, 3), (K4, 1)]],
           (0x101000, 0x400000), [(K4, 255), (M1, 3), (K4, 1)]),
    Vector("V6 two maps meet off a boundary", HYPERV,
           [(0x100000, 0x40000000, 0x181000), (0x281000, 0x80001000, 0x17F000)],
           [[(M1, 1), (K4, 129)], [(K4, 383)]],
           (0x100000, 0x300000), [(M1, 3)]),
    Vector("V7 a page more on both sides", HYPERV,
           [(0x1FF000, 0x40000000, 0x202000)], [[(K4, 514)]],
           (0x1FF000, 0x202000), [(K4, 1), (M1, 2), (K4, 1)]),
    Vector("V8 no large page fits behind the boundary", HYPERV,
           [(0x180000, 0x40080000, 0x100000)], [[(K4, 256)]],
           (0x180000, 0x100000), [(K4, 256)]),
    Vector("V9 exactly one fits", HYPERV,
           [(0xFF000, 0x400FF000, 0x101000)], [[(K4, 1), (M1, 1)]],
           (0xFF000, 0x101000), [(K4, 1), (M1, 1)]),
    Vector("V10 generic_pt test_pgsize_boundary", X86,
           [(0xFEF80000, 0x208B95D000, 0x20000)], [[(K4, 32)]],
           (0xFEF80000, 0x20000), [(K4, 32)]),
    Vector("V11 generic_pt test_mixed", X86,
           [(0x3FE400000, 0x3FE400000, 0xC2200000)], [[(M2, 14), (G1, 3), (M2, 3)]],
           (0x3FE400000, 0xC2200000), [(M2, 14), (G1, 3), (M2, 3)]),
    Vector("V12 every size", ALL,
           [(0x1000, 0x2000, 0x5000)], [[(K4, 5)]],
           (0x1000, 0x5000), [(K4, 1), (K8, 2)]),
    Vector("V13 up to 2^64", HYPERV,
           [(TOP_2M, 0x40000000, 0x200000)], [[(M1, 2)]],
           (TOP_2M, 0x200000), [(M1, 2)]),
    Vector("V14 a hole", HYPERV,
           [(0, 0x40000000, 0x100000), (0x200000, 0x80000000, 0x100000)], [[(M1, 1)], [(M1, 1)]],
           (0, 0x300000), [(M1, 3)]),
]
# fmt: on


@pytest.mark.parametrize("vector", VECTORS, ids=[vector.name for vector in VECTORS])
def test_the_calls_of_known_maps_and_unmaps(vector: Vector) -> None:
    """Protects: the exact driver calls of a map and of its unmap, which need not be the same."""
    assert [chunks(vector.bitmap, *one) for one in vector.maps] == vector.map_calls
    iova, size = vector.unmap
    assert chunks(vector.bitmap, iova, iova, size) == vector.unmap_calls


small_maps = st.tuples(st.integers(0, 4096), st.integers(0, 4096), st.integers(1, 4096))


@given(small_maps)
def test_with_one_page_size_map_and_unmap_are_one_identical_call(pages: tuple[int, int, int]) -> None:
    """Protects: a 4 KiB-only driver never sees the calls of one map and its unmap differ."""
    iova, paddr, size = (count * 4 * KIB for count in pages)
    assert chunks(ONLY_4K, iova, paddr, size) == chunks(ONLY_4K, iova, iova, size) == [(4 * KIB, pages[2])]


@given(st.sampled_from([HYPERV, X86]), small_maps)
def test_equal_offsets_in_the_largest_page_make_map_and_unmap_identical(
    bitmap: int, pages: tuple[int, int, int]
) -> None:
    """Protects: where the core alone decides the cuts, map and unmap agree; only the paddr's offset can part them."""
    iova, size = pages[0] * 4 * KIB, pages[2] * 4 * KIB
    paddr = iova + pages[1] * (1 << bitmap.bit_length() - 1)
    assert chunks(bitmap, iova, paddr, size) == chunks(bitmap, iova, iova, size)
