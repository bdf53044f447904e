"""What of a trace matters: the answers are those of a person who knows the defect, and each kind of answer can be otherwise."""

from __future__ import annotations

import pytest
from catalogue import ENTRIES

from hvmodel import operations as ops
from hvmodel.configuration import Configuration
from hvmodel.faults import Fault
from hvmodel.gears.generalise import Generality, generalise
from hvmodel.gears.minimise import Target

BOOT = (ops.Boot(), ops.Alloc(1))


def asked(key: str) -> Generality:
    """What is said of a trace of the catalogue."""
    entry = ENTRIES[key]
    return generalise(entry.config, entry.operations, "posted-v0", Target(entry.property))


@pytest.mark.parametrize(
    ("key", "free", "bound"),
    [
        ("D01", "step 3: any iova", "step 3: paddr and iova have different offsets within 1 MiB"),
        ("D01", "step 3, from 0x100000: any number of pages from 508 on", ""),
        ("D20", "steps 3 and 4: any iova that is 1 MiB aligned (all addresses moved together)", ""),
        ("D20", "", "steps 3 and 4, from 0x100000: no fewer than 257 pages"),
        ("D05", "step 4, MAP_DEVICE_GPA_PAGES: any status but success", "steps 3 and 4: the iova 0x0"),
        ("D09", "step 3: any paddr, prot, gfp", "step 3, MAP_DEVICE_GPA_PAGES: 1 element done before the refusal"),
        ("D12", "any device", "step 3, MAP_DEVICE_GPA_PAGES: any status that is a shortage of memory"),
        ("D36", "step 3: any paddr, gfp", "step 3: prot w"),
        ("D38", "", "step 3: gfp atomic"),
        ("D50", "the order of 1 and 2", "step 3: by a thread of VM 1, not of the host"),
        ("D58", "the order of 2 and 3", "A4, where a detached device is: default (it does not fail with null or none)"),
        ("D11", "", "step 3, ATTACH_DEVICE: refused more than once"),
    ],
)
def test_what_matters(key: str, free: str, bound: str) -> None:
    """Protects the reader's conclusion: what may be otherwise, and what may not, for defects of which that is known."""
    said = asked(key)
    assert not free or free in said.free, said.free
    assert not bound or bound in said.bound, said.bound


def test_shortness() -> None:
    """Protects 'shortest': it is said only of what cannot be shorter, and a trace that could be is said to be so."""
    assert asked("D01").shortness.startswith("3 operations: known to be shortest")
    assert asked("D61").shortness.startswith("1 operation: known to be shortest")
    assert asked("D20").shortness.startswith("4 operations: no selection of them fails")
    stale = ENTRIES["D20"].operations
    longer = (*stale[:2], ops.Map(1, 0x900000, 0x40000000, 1), *stale[2:])
    target = Target("no-stale-mapping")
    assert "not minimal" in generalise(Configuration(), longer, "posted-v0", target).shortness
    many = (*BOOT, *(ops.Map(1, 0x900000 + number * 0x10000, 0x40000000, 1) for number in range(9)), *stale[2:])
    assert "one of them can be left out" in generalise(Configuration(), many, "posted-v0", target).shortness


def test_what_does_not_fail_says_nothing() -> None:
    """Protects against statements about a trace in which nothing is wrong."""
    said = generalise(Configuration(), BOOT, "repaired", Target("no-stale-mapping"))
    assert said == Generality((), (), "the trace does not fail")


def test_the_limit_is_kept() -> None:
    """Protects explain from a trace that makes each run long: worlds and hypercalls are counted, and of what was not tried
    nothing is said."""
    entry = ENTRIES["D20"]
    said = generalise(entry.config, entry.operations, "posted-v0", Target(entry.property), limit=3)
    assert (said.free, said.bound) == ((), ())
    assert "not all was tried" in said.shortness


def test_a_status_that_alone_does_it() -> None:
    """Protects the statement about a status: with one that no other replaces it is named."""
    operations = (*BOOT, ops.Map(1, 0x100000, 0x40000000, 1, faults=(Fault("MAP_DEVICE_GPA_PAGES", 1, 0x0B),)))
    said = generalise(Configuration(), operations, "posted-v0", Target("shortage-is-survivable"))
    assert any("shortage of memory" in line or "no other status" in line for line in said.bound), said
