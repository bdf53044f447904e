"""The driver calls of whole requests, against a transcription of ``drivers/iommu/iommu.c`` that shares no line with the model.

A few thousand random requests are checked each time; ``HVMODEL_CASES=100000 pytest tests/test_chunks.py`` checks more.
"""

from __future__ import annotations

import os
from random import Random

from test_pgsize import ALL, HYPERV, ONLY_4K, U64, X86, pgsize_in_words

from hvmodel.callers.books import Books, DomainBook
from hvmodel.callers.mapping import Mapping
from hvmodel.callers.watch import Watch
from hvmodel.faults import FaultPlan
from hvmodel.hypervisor.objects import NOWHERE
from hvmodel.kernel.iommu import EIO, GFP_KERNEL, IommuDomain, IommuOps
from hvmodel.kernel.services import Kernel

CASES = int(os.environ.get("HVMODEL_CASES", "4000"))
PAGE = 1 << 12
BITMAPS = (ONLY_4K, HYPERV, X86, 0x211000, ALL, PAGE | 1 << 16, PAGE | 1 << 21, 1 << 12 | 1 << 30, 0x40201000 | 1 << 16)

Call = tuple[str, int, int, int, int]
"""map or unmap, iova, paddr (0 for unmap), page size, count."""


class Scripted:
    """Ops that answer by a script: how many of the pages of each call are done, and whether it fails then."""

    def __init__(self, answers: list[tuple[int, bool]]) -> None:
        self.answers = answers
        self.calls: list[Call] = []

    def _next(self) -> tuple[int, bool]:
        return self.answers[(len(self.calls) - 1) % len(self.answers)]

    def map_pages(self, _domain: object, iova: int, paddr: int, pgsize: int, count: int, *rest: object) -> int:
        self.calls.append(("map", iova, paddr, pgsize, count))
        part, fails = self._next()
        mapped = rest[2]
        assert isinstance(mapped, list)
        mapped[0] = pgsize * (count if not part else min(count, part))
        return -EIO if fails else 0

    def unmap_pages(self, _domain: object, iova: int, pgsize: int, count: int) -> int:
        self.calls.append(("unmap", iova, 0, pgsize, count))
        return pgsize * count


def bare(scripted: Scripted) -> Mapping:
    """The core's map and unmap with nothing below but these ops."""
    core = Mapping()
    core.kernel = Kernel(FaultPlan(), lambda *_call: 0)
    core.books, core.watch = Books(), Watch()
    core.ops = IommuOps(
        attach_dev=lambda *_: 0,
        map_pages=scripted.map_pages,
        unmap_pages=scripted.unmap_pages,
        iova_to_phys=lambda *_: 0,
        free=lambda _: None,
        probe_device=lambda _: 0,
        domain_alloc_paging=lambda _: None,
    )
    return core


# --- the transcription --------------------------------------------------------------------------------------------------------


def unmap_transcribed(bitmap: int, iova: int, size: int) -> list[Call]:
    """``__iommu_unmap`` of a driver that does what it is asked: sizes by the IOVA alone."""
    calls: list[Call] = []
    unmapped = 0
    while unmapped < size:
        chosen = pgsize_in_words(bitmap, iova, iova, size - unmapped)
        assert chosen is not None
        pgsize, count = chosen
        calls.append(("unmap", iova, 0, pgsize, count))
        iova = (iova + pgsize * count) % U64
        unmapped += pgsize * count
    return calls


def map_transcribed(bitmap: int, iova: int, paddr: int, size: int, answers: list[tuple[int, bool]]) -> tuple[int, list[Call]]:
    """``iommu_map``: what is mapped counts also when the call fails; then all of it is unmapped from the start."""
    calls: list[Call] = []
    left, at, memory = size, iova, paddr
    while left:
        chosen = pgsize_in_words(bitmap, at, memory, left)
        assert chosen is not None
        pgsize, count = chosen
        part, fails = answers[len(calls) % len(answers)]
        calls.append(("map", at, memory, pgsize, count))
        done = pgsize * (min(count, part) if part else count)
        left -= done
        if fails:
            return -EIO, calls + unmap_transcribed(bitmap, iova, size - left)
        at, memory = (at + done) % U64, (memory + done) % U64
    return 0, calls


# --- requests -----------------------------------------------------------------------------------------------------------------


def address(random: Random, top: int) -> int:
    """A page-aligned address below ``top``: near a power of two, of any alignment, or anywhere."""
    roll = random.randrange(3)
    if roll == 0:
        place = (1 << random.randrange(12, 63)) + random.randrange(-3, 4) * PAGE
    elif roll == 1:
        place = random.randrange(1, 1 << 12) << random.randrange(12, 48)
    else:
        place = random.randrange(1 << 40) << 12
    return place % top & -PAGE


def request(random: Random) -> tuple[int, int, int, int]:
    """A bitmap, an IOVA, a physical address and a size in bytes, which the address space holds."""
    bitmap = random.choice(BITMAPS) if random.random() < 0.8 else PAGE | random.getrandbits(24) << 13
    pages = random.choice((random.randrange(1, 1 << random.randrange(1, 20)), 1, 256, 257, 512, 513, 384))
    size = pages * PAGE
    iova, paddr = address(random, U64 - size), address(random, 1 << 52)
    if random.random() < 0.5:
        paddr += iova % (1 << random.choice((16, 20, 21, 30)))
    return bitmap, iova, paddr, size


def domain(bitmap: int) -> DomainBook:
    """An empty domain with these page sizes."""
    return DomainBook(1, IommuDomain(), "device", NOWHERE, pgsize_bitmap=bitmap)


def test_a_request_makes_the_kernels_calls() -> None:
    """Protects what hangs on where calls begin and end: those of a map, and of the unmap of its range, are the kernel's."""
    random = Random(20260119)
    sizes: set[int] = set()
    for number in range(CASES):
        bitmap, iova, paddr, size = request(random)
        scripted = Scripted([(0, False)])
        core, book = bare(scripted), domain(bitmap)
        assert core.iommu_map(book, iova, paddr, size, 3, GFP_KERNEL) == 0
        assert scripted.calls == map_transcribed(bitmap, iova, paddr, size, [(0, False)])[1], (number, bitmap, iova, paddr, size)
        scripted.calls = []
        assert core.iommu_unmap(book, iova, size) == size
        assert scripted.calls == unmap_transcribed(bitmap, iova, size), (number, bitmap, iova, size)
        sizes.add(len(scripted.calls))
    assert len(sizes) > 5


def test_short_and_failing_answers_are_gone_on_from_as_the_kernel_does() -> None:
    """Protects the unwind: after a short answer the rest is cut anew, after an error what is mapped by then is unmapped."""
    random = Random(20260120)
    failures = 0
    for number in range(CASES // 2):
        bitmap, iova, paddr, size = request(random)
        answers = [(random.choice((0, 0, 1, 2, 255)), random.random() < 0.2) for _ in range(random.randrange(1, 6))]
        if size > 4096 * PAGE:
            answers = [(0 if part < 255 else part, fails) for part, fails in answers]
        scripted = Scripted(answers)
        core, book = bare(scripted), domain(bitmap)
        ret = core.iommu_map(book, iova, paddr, size, 3, GFP_KERNEL)
        assert (ret, scripted.calls) == map_transcribed(bitmap, iova, paddr, size, answers), (number, bitmap, iova, paddr, size)
        assert bool(book.pages.pages) == (ret == 0)
        failures += ret != 0
    assert failures > CASES // 20
