"""Who can cause a finding, and what has to fail besides."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from hvmodel import operations as ops
from hvmodel.callers.means import BEYOND, CORE, HOST, NOBODY, NOTHING, REFUSAL, REFUSALS, SHORTAGE, USER, Means, means_of
from hvmodel.cli import main
from hvmodel.configuration import DEVICES, Configuration
from hvmodel.faults import KZALLOC, Fault
from hvmodel.jobs.nightly.ledger import Entry
from hvmodel.traces.format import Trace, to_json, write
from hvmodel.traces.record import recorded
from hvmodel.world import run

MIB, RAM = 1 << 20, 0x40000000
MAP, UNMAP, ATTACH = "MAP_DEVICE_GPA_PAGES", "UNMAP_DEVICE_GPA_PAGES", "ATTACH_DEVICE_DOMAIN"
ONE = Configuration(devices=DEVICES[:1])
BOOT, JOIN, SIXTEEN = ops.Boot(), ops.VfioJoin(), ops.VfioMap(1, MIB, RAM, 16)


def means(operations: Sequence[ops.Operation], call: str = "", driver: str = "posted-v0") -> Means:
    """What operations take when they are run."""
    return means_of(ONE, zip(operations, run(ONE, list(operations), driver)[1], strict=True), call)


CASES: dict[str, tuple[tuple[ops.Operation, ...], int, int, str]] = {
    "boot": ((BOOT,), NOBODY, NOTHING, "every host that boots"),
    "boot refused": (
        (ops.Boot(faults=(Fault(ATTACH, 1, 0x71),)),),
        NOBODY,
        REFUSAL,
        f"every host that boots, if the hypervisor refuses {ATTACH}",
    ),
    "ioctls": ((BOOT, JOIN, SIXTEEN), USER, NOTHING, "any VMM user, by ioctls alone"),
    "a VM's life": ((ops.VmCreate(1), BOOT, ops.VmDelete(1)), USER, NOTHING, "any VMM user, by ioctls alone"),
    "a reset by ioctl": ((BOOT, JOIN, ops.Reset(0)), USER, NOTHING, "any VMM user, by ioctls alone"),
    "a reset by the host": ((BOOT, JOIN, ops.VfioLeave(), ops.Reset(0)), HOST, NOTHING, "the host by a reset"),
    "hot plug": ((BOOT, ops.Release(0), ops.Probe(0)), HOST, NOTHING, "the host by hot unplug and hot plug"),
    "an allocation fails": (
        (BOOT, JOIN, ops.VfioMap(1, MIB, RAM, 16, faults=(Fault(KZALLOC),))),
        USER,
        SHORTAGE,
        "a VMM user, if memory is short (kzalloc)",
    ),
    "the hypervisor wants memory": (
        (BOOT, JOIN, ops.VfioMap(1, MIB, RAM, 16, faults=(Fault(MAP, 1, 0x0B),))),
        USER,
        SHORTAGE,
        f"a VMM user, if memory is short ({MAP})",
    ),
    "one refusal": (
        (BOOT, JOIN, SIXTEEN, ops.VfioUnmap(1, MIB, 16, faults=(Fault(UNMAP, 1, 0x71),))),
        USER,
        REFUSAL,
        f"a VMM user, if the hypervisor refuses {UNMAP}",
    ),
    "the same twice": (
        (BOOT, JOIN, ops.VfioLeave(faults=(Fault(ATTACH, 1, 0x71, times=2),))),
        USER,
        REFUSALS,
        f"a VMM user, if the hypervisor refuses {ATTACH} twice",
    ),
    "two of two kinds": (
        (BOOT, JOIN, ops.VfioMap(1, MIB, RAM, 16, faults=(Fault(MAP, 1, 0x71, 4), Fault(UNMAP, 1, 0x71)))),
        USER,
        REFUSALS,
        f"a VMM user, if the hypervisor refuses {MAP} and {UNMAP}",
    ),
    "a refusal and a shortage": (
        (BOOT, ops.VfioJoin(faults=(Fault(KZALLOC),)), JOIN, ops.VfioLeave(faults=(Fault(ATTACH, 1, 0x71),))),
        USER,
        REFUSALS,
        f"a VMM user, if the hypervisor refuses {ATTACH} and memory is short (kzalloc)",
    ),
    "the core": (
        (BOOT, ops.Alloc(), ops.Map(1, MIB, RAM, 2)),
        CORE,
        NOTHING,
        "a request to the IOMMU core (no ioctl for it is known)",
    ),
    "the contract": (
        (BOOT, ops.Unplug(0)),
        CORE,
        NOTHING,
        "a request to the IOMMU core (no ioctl for it is known)",
    ),
    "beyond": (
        (BOOT, ops.Alloc(), ops.Map(1, MIB, RAM, 2), ops.Unmap(1, MIB, 1)),
        BEYOND,
        NOTHING,
        "a caller that the kernel does not have",
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_each_kind_of_means_is_told(name: str) -> None:
    """Protects the one line that says who can cause a finding: caller, what fails, and the words for them."""
    operations, caller, needs, words = CASES[name]
    found = means(operations)
    assert (found.caller, found.needs, str(found)) == (caller, needs, words)


def test_a_refusal_that_is_never_met_is_not_needed() -> None:
    """Protects against findings that look harder than they are: only answers count, not what was planned."""
    assert means((BOOT, JOIN, ops.VfioMap(1, MIB, RAM, 16, faults=(Fault(MAP, 9, 0x71),)))).needs == NOTHING


def test_what_devices_do_at_the_end_is_the_hosts_doing() -> None:
    """Protects against a process that is said to unplug a device: when all is given back, its files close, which is its doing, and
    devices go, which is not."""
    life = (BOOT, JOIN, ops.Recover())
    assert means(life, "free").caller == USER
    assert means(life, "release_device").caller == HOST
    assert means((BOOT, ops.Recover()), "recover").caller == HOST


def test_order_is_by_power() -> None:
    """Protects the order: what somebody who is there can do comes before what only a request to the core shows, whatever has to
    fail for it; and among those who are there fewer failures come first, then the weaker caller."""
    ordered = [
        Means(NOBODY, NOTHING), Means(USER, NOTHING), Means(HOST, NOTHING), Means(USER, SHORTAGE), Means(HOST, SHORTAGE),
        Means(USER, REFUSAL), Means(USER, REFUSALS), Means(HOST, REFUSALS), Means(CORE, NOTHING), Means(CORE, REFUSAL),
        Means(BEYOND, NOTHING),
    ]  # fmt: skip
    shuffled = ordered[5:] + ordered[:5]
    assert sorted(shuffled, key=lambda each: each.rank) == ordered


def test_a_group_that_could_not_be_opened_is_not_open() -> None:
    """Protects the claim that a reset is an ioctl: only who has a device open can reset it so."""
    refused = ops.VfioJoin(faults=(Fault(ATTACH, 1, 0x71, times=None),))
    assert means((BOOT, refused, ops.Reset(0)), driver="repaired").caller == HOST


def test_the_nightly_page_and_sarif_say_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Protects those who read reports and not traces: the ledger's entry takes the words from the trace, one without them has none,
    and SARIF has them for each result."""
    trace = recorded(Trace(ONE, [BOOT, JOIN], "posted-v0", "replace-has-no-gap", {"means": "any VMM user, by ioctls alone"}))
    entry = Entry("a-0", "replace-has-no-gap", "attach_dev", (), "kernel", "", json.loads(to_json(trace)))
    assert entry.means == "any VMM user, by ioctls alone"
    assert replace(entry, trace={"operations": []}).means == ""
    path = tmp_path / "gap.json"
    write(trace, path)
    assert main(["export", "--to", "sarif", str(path)]) == 0
    result = json.loads(capsys.readouterr().out)["runs"][0]["results"][0]
    assert result["properties"]["means"] == "any VMM user, by ioctls alone"


def test_explain_says_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Protects the reader of a story: text and page say who can cause it, of the trace as it is told and not as it says itself."""
    path, page = tmp_path / "gap.json", tmp_path / "gap.html"
    write(Trace(ONE, [BOOT, JOIN], "posted-v0", "replace-has-no-gap", {"means": "nobody"}), path)
    assert main(["explain", str(path), "--no-generalise"]) == 1
    assert "Callers     any VMM user, by ioctls alone; level kernel: " in capsys.readouterr().out
    assert main(["explain", str(path), "--no-generalise", "--format", "html", "--out", str(page)]) == 1
    assert "any VMM user, by ioctls alone" in page.read_text()
