"""Memory: maps and unmaps of device domains in all sizes, at all places, with all flags, and with no memory to spare."""

from __future__ import annotations

from hvmodel import operations as ops
from hvmodel.scenarios.scenario import ROOTS, Scenario, under
from hvmodel.scenarios.steps import BEGINNING, END, FRAME, MIB, Operations, given_back, mapped, taken, there_and_back

DOMAINS = under(no_attdev=True)
"""Every VM has device domains: its memory is mapped by the driver."""

SHORT = under(no_attdev=True, root_pool=0)
"""A hypervisor that has no memory of its own to spare: page tables come from what the driver deposits."""

_ROW = tuple(mapped(MIB + 0x1000 * page, 1) for page in range(3))
_FILLED: tuple[ops.Map, ...] = (mapped(2 * MIB, 1), mapped(3 * MIB + 0x5000, 3), mapped(4 * MIB, 256), mapped(MIB, 256))


def _memory(name: str, story: str, *operations: ops.Operation, short: bool = False) -> Scenario:
    return Scenario(name, story, (*BEGINNING, *operations, *END), ROOTS, SHORT if short else DOMAINS)


_READ_ONLY_LIFE: Operations = there_and_back(
    mapped(0, 16, prot="r"), mapped(MIB, 256, prot="r"), mapped(4 * MIB, 600, prot="w"), mapped(16 * MIB, 2, prot="w")
)

MEMORY: tuple[Scenario, ...] = (
    _memory(
        "map-4k",
        "three pages that follow each other, the middle one goes first and comes back",
        *_ROW,
        ops.Unmap(1, MIB + 0x1000, 1),
        mapped(MIB + 0x1000, 1),
        ops.Lookup(1, MIB + 0x1234),
        *(ops.Unmap(1, each.iova, 1) for each in _ROW),
    ),
    _memory(
        "map-at-zero", "the first pages of the address space, with others above", *there_and_back(mapped(4 * MIB, 4), mapped(0, 4))
    ),
    _memory("map-1m", "pages of 1 MiB: one, then three", *there_and_back(mapped(MIB, 256), mapped(4 * MIB, 768))),
    _memory(
        "map-mixed",
        "a range with pages of 4 KiB at both ends and of 1 MiB between, at equal places in both address spaces",
        *there_and_back(mapped(MIB - 0x3000, 518)),
    ),
    _memory(
        "map-shifted",
        "a range of 2 MiB at unequal places, so that it takes pages of 4 KiB across 1 MiB edges",
        *there_and_back(mapped(MIB, 512, shift=1)),
    ),
    _memory("map-long", "5 MiB in pages of 4 KiB: several hypercalls, which go on", *there_and_back(mapped(MIB, 1300, shift=1))),
    _memory(
        "map-20m",
        "20 MiB in pages of 1 MiB: more than one hypercall can unmap",
        *there_and_back(mapped(MIB, 2), mapped(2 * MIB, 5120)),
    ),
    _memory(
        "map-scattered",
        "guest memory in four pieces, as hugetlb gives it, and in single pages",
        ops.MapScattered(1, 2 * MIB, FRAME, 4, 256, 512),
        ops.MapScattered(1, 8 * MIB, FRAME + 64 * MIB, 3, 1, 2),
        ops.Unmap(1, 2 * MIB, 4 * 256),
        ops.Unmap(1, 8 * MIB, 3),
    ),
    _memory(
        "holes-filled",
        "firmware shadows its ROM: what lies below, between and right before other mappings is mapped last",
        *there_and_back(*_FILLED),
    ),
    _memory(
        "balloon",
        "memory goes to the host and comes back as other memory, at the same addresses",
        mapped(MIB, 256),
        mapped(2 * MIB, 16),
        ops.Unmap(1, 2 * MIB, 16),
        ops.Unmap(1, MIB, 256),
        mapped(MIB, 256, shift=256),
        mapped(2 * MIB, 16, shift=16),
        ops.Unmap(1, MIB, 256),
        ops.Unmap(1, 2 * MIB, 16),
    ),
    _memory(
        "ram-and-bars",
        "a VM with low and high memory and two BARs, whose BARs move when the guest programs them",
        mapped(0, 160),
        mapped(MIB, 1024),
        ops.Map(1, 0x800000000, 0xC0000000, 4),
        ops.Map(1, 0x800010000, 0xD0000000, 512),
        ops.Unmap(1, 0x800010000, 512),
        ops.Map(1, 0x900000000, 0xD0000000, 512),
        *(ops.Unmap(1, iova, pages) for iova, pages in ((0x900000000, 512), (0x800000000, 4), (MIB, 1024), (0, 160))),
    ),
    _memory("read-and-write-only", "memory that a device may only read, or only write", *_READ_ONLY_LIFE),
    Scenario(
        "in-interrupts",
        "the DMA API maps where nothing may sleep",
        (*BEGINNING, *there_and_back(mapped(MIB, 3, gfp="atomic"), mapped(4 * MIB, 600, shift=1, gfp="atomic")), *END),
        ("default", "new-root", "old-root", "strict"),
        DOMAINS,
    ),
    Scenario(
        "last-page",
        "a domain with all the addresses that there are, used at both ends",
        (*BEGINNING, *there_and_back(mapped(0, 2), ops.Map(1, (1 << 64) - 2 * MIB, FRAME, 512)), *END),
        ("default", "new-root", "strict", "stress"),
        under(no_attdev=True, iova_width=64),
    ),
    _memory(
        "memory-short", "a hypervisor without memory to spare: a map has to deposit", *there_and_back(mapped(MIB, 300)), short=True
    ),
    _memory(
        "memory-short-atomic",
        "the same where nothing may sleep: first there is enough, then not",
        *there_and_back(mapped(MIB, 2), mapped(2 * MIB, 2, gfp="atomic"), mapped(1 << 32, 2, gfp="atomic")),
        short=True,
    ),
    _memory(
        "memory-short-flags",
        "the same with memory that may only be read",
        *there_and_back(mapped(MIB, 600, prot="r"), mapped(1 << 32, 2, prot="w")),
        short=True,
    ),
    Scenario(
        "memory-short-twice",
        "the same with a second life after the first, which finds the memory that the first one gave",
        (
            *BEGINNING,
            *there_and_back(mapped(MIB, 2)),
            *given_back(),
            *taken(domain=2),
            mapped(MIB, 2, domain=2),
            *given_back(domain=2),
        ),
        ROOTS,
        SHORT,
    ),
)

__all__ = ["DOMAINS", "MEMORY", "SHORT"]
