"""What goes wrong in C is a finding: memory, crashes, loops, values never set; each with its line, and never the end of the job."""

from __future__ import annotations

import itertools
import platform
from pathlib import Path

import pytest
from native_subject import MAP_4, SMALL_NAME, failed, line_of, needs_compiler, planted, play

from hvmodel import operations as ops
from hvmodel.callers.levels import LEVELS
from hvmodel.cli import main
from hvmodel.drivers import REGISTRY
from hvmodel.drivers.native.driver import NativeLoader
from hvmodel.faults import Fault
from hvmodel.gears.walk import Run, runs, walk
from hvmodel.jobs import hunt as hunt_module
from hvmodel.jobs.hunt import Hunter, Options, hunt, save
from hvmodel.kernel.iommu import ENOMEM
from hvmodel.world import Outcome

pytestmark = needs_compiler

CRASHES = [
    ("*(volatile u64 *)(iova - iova + 16) = 1;", "no-null-dereference", "a NULL pointer is followed"),
    ("*(volatile u64 *)0x123456789000ULL = 1;", "no-out-of-bounds", "nothing of the driver's"),
    ("((void (*)(void))(iova - iova))();", "no-null-dereference", "a NULL pointer is followed"),
    ("for (;;) barrier();", "every-call-ends", "round and round"),
    ("BUG();", "every-call-ends", "BUG"),
    ("{ volatile int zero = 0; status = 7 / zero; }", "every-call-ends", "division by zero"),
]


@pytest.fixture(scope="module")
def crashing(tmp_path_factory: pytest.TempPathFactory) -> str:
    """One driver with all crashes: a map at (n + 1) MiB does the n-th."""
    cases = "".join(f"case {number}: {code} break;\n" for number, (code, _, _) in enumerate(CRASHES, 1))
    return planted(tmp_path_factory.mktemp("crashing"), "map", f"switch (iova >> 20) {{\n{cases}}}")


@pytest.mark.parametrize("number", range(1, len(CRASHES) + 1), ids=["null", "wild", "jump", "loop", "abort", "division"])
def test_a_crash_is_a_finding(crashing: str, number: int) -> None:
    """Whatever ends a call in C is reported once, in the right property and with its line; the world ends, the process does not."""
    code, prop, words = CRASHES[number - 1]
    steps = (ops.Alloc(1, 0), ops.Map(1, number << 20, 0x200000, 4))
    world, outcomes = play(crashing, *steps)
    assert world.over
    text = failed(outcomes[-1])[prop]
    assert words in text
    if "(void (*)" not in code:
        assert f"small_map, small.c:{line_of(crashing, code)}" in text
    _world, again = play(crashing, *steps)
    assert [failed(outcome) for outcome in again] == [failed(outcome) for outcome in outcomes]
    assert not failed(play(crashing, ops.Alloc(1, 0), ops.Map(1, 0, 0x200000, 4))[1][-1])


def test_a_crash_is_minimised_and_the_hunt_goes_on(tmp_path: Path) -> None:
    """A crash that needs two operations is brought down to them, and runs after it find other things."""
    name = planted(tmp_path, "map", "if (atomic_read(&domain->users) > 1) BUG();")
    hunter = Hunter(Options(driver=name, profiles=["default"]), 0)
    wanted = 0

    def enough() -> bool:
        nonlocal wanted
        found = {finding.property_id for finding in hunter.findings.values()}
        wanted += "every-call-ends" in found
        return (wanted > 3 and len(found) > 1) or hunter.tally.runs > 60

    hunter.search(enough)
    crash = next(f for f in hunter.findings.values() if f.property_id == "every-call-ends")
    assert len(crash.minimised.operations) <= 7
    assert {f.property_id for f in hunter.findings.values()} != {"every-call-ends"}


def test_a_driver_that_ends_its_process(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker that dies for good costs the hunt one run: what it had found is kept, another one goes on behind it, and the trace
    that ends the process is brought down to what does it."""
    code = "{ int getpid(void); int kill(int, int); if (atomic_read(&domain->users) == 2) kill(getpid(), 9); }"
    name = planted(tmp_path, "map", code)
    monkeypatch.setattr(hunt_module, "name_findings", lambda *_all: None)
    report = hunt(Options(driver=name, profiles=["default"], budget=3, jobs=1))
    fatal = [finding for finding in report.findings if finding.gear == "process"]
    assert fatal
    assert "SIGKILL in a " in fatal[0].minimised.violation.detail
    assert len(fatal[0].operations) <= 7
    assert len(report.findings) > len(fatal)
    save(report, tmp_path / "found")
    trace = next((tmp_path / "found").glob("every-call-ends-*.json"))
    assert main(["replay", str(trace)]) == 1
    assert "SIGKILL" in capsys.readouterr().out
    assert main(["replay", "--bisect", str(trace)]) == 1
    assert main(["replay", str(trace), "--driver", SMALL_NAME]) == 0


def test_a_list_that_leaves_the_page(tmp_path: Path) -> None:
    """Writes beyond the hypercall input page are seen, with the line that writes, and what follows in memory is not harmed."""
    name = planted(tmp_path, "bound", "", ("i < pages ", "i < pgcount "))
    world, outcomes = play(name, ops.Alloc(1, 0), ops.Map(1, 0x100000, 0x200000, 600))
    text = failed(outcomes[-1])["input-page-bounds"]
    assert f"in small_map, small.c:{line_of(name, 'input->gpa_page_list[i]')}" in text
    assert not world.over


@pytest.mark.parametrize(
    ("plant", "code", "prop", "words"),
    [
        ("forget", "allocations += range->where == 1;", "no-use-after-free", "freed in small_forget, small.c:"),
        ("free", "kfree(domain); /* again */", "no-use-after-free", "second kfree"),
        ("alloc", "((u8 *)domain)[sizeof(*domain)] = 1;", "no-out-of-bounds", "write of 1 byte(s) at 96 of the object of 96 bytes"),
        ("alloc", "((u8 *)domain)[-8] = 1;", "no-out-of-bounds", "write of 1 byte(s)"),
        ("alloc", "memset(domain + 1, 0, 8);", "no-out-of-bounds", "write of 8 byte(s) at 96"),
    ],
    ids=["read-freed", "free-twice", "behind", "before", "memset"],
)
def test_objects(tmp_path: Path, plant: str, code: str, prop: str, words: str) -> None:
    """What KASAN would report of an object is reported, and the driver goes on as it would."""
    name = planted(tmp_path, plant, code)
    world, outcomes = play(name, *MAP_4, ops.Unmap(1, 0x100000, 4), ops.Free(1))
    texts = [text for outcome in outcomes for key, text in failed(outcome).items() if key == prop]
    assert len(texts) >= 1
    assert words in texts[0]
    assert f"small.c:{line_of(name, code)}" in texts[0]
    assert not world.over


NEVER_SET = [
    ("alloc", "{ u32 never; if (never & 0x80) allocations = 5; if (allocations == 5) return ERR_PTR(-ENOMEM); }", "whether small_"),
    ("map", "{ u64 never; if (never & 0x80) return -EIO; }", "whether small_map"),
]


@pytest.mark.parametrize(("plant", "code", "words"), NEVER_SET, ids=["alloc", "map"])
def test_a_value_that_was_never_set(tmp_path: Path, plant: str, code: str, words: str) -> None:
    """A local without a value that decides what is asked or answered is found in the very call, by the second image."""
    _world, outcomes = play(planted(tmp_path, plant, code), *MAP_4)
    found = [failed(outcome)["no-uninitialised-read"] for outcome in outcomes if "no-uninitialised-read" in failed(outcome)]
    assert len(found) == 1
    assert "a value that was never set decides" in found[0]
    assert words in found[0] or "what the call answers" in found[0]


def test_a_value_that_was_never_set_at_start(tmp_path: Path) -> None:
    """Also in the init function, before the driver is registered; the driver still comes up."""
    code = (
        "	int ret;\n\n	standing",
        '	int ret;\n	u32 never;\n\n	if (never)\n		pr_err("odd\\n");\n	standing',
    )
    world, outcomes = play(planted(tmp_path, "map", "", code), *MAP_4)
    assert "decides" in failed(outcomes[0])["no-uninitialised-read"]
    assert [outcome.result for outcome in outcomes] == [0, 0, 0]
    assert not world.over


def test_no_false_alarm() -> None:
    """A driver that sets all its values and stays within its objects is not accused in any run, whatever is refused."""
    schedule = runs(0, 0, ["default", "stress"], list(range(len(LEVELS))), 80)
    seen: set[str] = set()

    def heard(_run: Run, outcome: Outcome) -> bool:
        seen.update(failed(outcome))
        return False

    for seed, profile, level, steps in itertools.islice(schedule, 24):
        run = walk(seed, SMALL_NAME, profile, level, steps, heard)
        assert not run.world.over or len(run.operations) <= steps + 1
    assert not seen & {"no-uninitialised-read", "no-out-of-bounds", "no-null-dereference", "every-call-ends", "input-page-bounds"}
    assert "shortage-is-survivable" in seen, "the walk reached nothing"


def test_faults_reach_the_allocator() -> None:
    """An allocation in C is the same fault site as in Python, with and without a fault pending."""
    world, outcomes = play(SMALL_NAME, ops.Alloc(1, 0, faults=(Fault("kzalloc"),)), ops.Alloc(2, 0))
    assert (outcomes[1].result, outcomes[2].result) == (-ENOMEM, 0)
    assert [fault.site for fault in outcomes[1].fired] == ["kzalloc"]
    devices = len(world.config.devices)
    assert world.faults.reached["kzalloc"] == devices + 2


@pytest.mark.skipif(platform.machine() != "x86_64", reason="the loop is written in its assembler")
def test_a_loop_that_counts_no_blocks(tmp_path: Path) -> None:
    """Protects workers from code that is not instrumented, such as a kernel tree's own rbtree.c: a timer ends what the budget of
    blocks does not see."""
    name = planted(tmp_path, "map", 'asm volatile("1: jmp 1b" ::: "memory");')
    load = REGISTRY[name].load
    assert isinstance(load, NativeLoader)
    world, _ = play(name, ops.Alloc(1, 0))
    assert load.image.library.hvm_tick_every(20)
    try:
        outcomes = [world.apply(ops.Map(1, 0, 0x200000, 4))]
    finally:
        load.image.library.hvm_tick_every(1000)
    assert "round and round" in failed(outcomes[-1])["every-call-ends"], outcomes
    assert world.over
