"""Our own driver in C: it does what the Python one does, its variants have their defects, what only C can break is found."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import pytest
from native_subject import needs_compiler

from hvmodel import operations as ops
from hvmodel.cli import main
from hvmodel.configuration import Configuration
from hvmodel.drivers import REGISTRY, no_such_driver
from hvmodel.drivers.native import own
from hvmodel.drivers.native.build import INCLUDE
from hvmodel.drivers.native.own_driver import changed
from hvmodel.drivers.native.toolchain import PLAIN, find_compiler
from hvmodel.drivers.native.variants import C_ONLY, VARIANTS_C
from hvmodel.drivers.variants import VARIANTS
from hvmodel.faults import Fault
from hvmodel.jobs.detect import matching
from hvmodel.jobs.equal import Comparison, difference, equal, minimised, twin_of
from hvmodel.jobs.findings import Finding
from hvmodel.jobs.hunt import Hunter, Options
from hvmodel.jobs.trials import Limit, Task, run_trial
from hvmodel.traces.format import read
from hvmodel.world import World

# --- the texts ------------------------------------------------------------------------------------------------------------


def test_every_change_has_its_place() -> None:
    """Each variant changes text that stands in the file exactly once, so none of them is silently the repaired driver."""
    text = own.SOURCE.read_text(encoding="ascii")
    texts = {name: changed(text, variant.changes) for name, variant in VARIANTS_C.items()}
    assert len({text, *texts.values()}) == len(texts) + 1
    with pytest.raises(ValueError, match="stands 0 times"):
        changed(text, (("no such text", ""),))
    with pytest.raises(ValueError, match=r"stands \d+ times"):
        changed(text, (("unsigned long flags;", ""),))


def test_variants_are_the_same_as_in_python() -> None:
    """Whoever reads of D20 in one language finds it in the other: same ids, defects, kinds and stories; the rest is C's own."""
    twins = [variant.twin for variant in VARIANTS_C.values()]
    assert set(VARIANTS) <= {twin for twin in twins if twin}
    for variant in VARIANTS_C.values():
        if variant.twin is None:
            assert variant.kind == C_ONLY
            assert variant.defect.startswith("X")
        else:
            python = VARIANTS[variant.twin]
            assert (variant.defect, variant.kind, variant.story) == (python.defect, python.kind, python.story)


@needs_compiler
def test_the_file_compiles_without_a_warning() -> None:
    """A proposal to kernel people has no unused variable and no unset one."""
    asked = ["-Wall", "-Wextra", "-Werror", "-Wno-unused-parameter", "-Wno-sign-compare", "-DHVM_ATTACH_OLD=1"]
    shim = ["-I", str(INCLUDE), "-Wno-comment", "-Wno-missing-field-initializers"]
    done = find_compiler().run([*PLAIN, "-O2", *asked, *shim, "-fsyntax-only", own.SOURCE.name], own.SOURCE.parent)
    assert done.returncode == 0, done.stderr[:2000]


# --- the registry ---------------------------------------------------------------------------------------------------------


@needs_compiler
def test_the_registry_has_it() -> None:
    """The driver is listed, its variants can be named and measured, and patterns for the Python ones mean those only."""
    assert "repaired-c" in list(REGISTRY)
    entry = REGISTRY["repaired-c+D20"]
    assert (entry.defect, entry.kind) == ("D20-chunk-mismatch", "range arithmetic")
    assert "repaired-c+D20" in REGISTRY
    assert "repaired-c+D20" not in list(REGISTRY)
    assert matching("repaired-c+D2?") == [f"repaired-c+D2{digit}" for digit in "0134789"]
    assert not [name for name in matching("*") if name.startswith("repaired-c")]
    assert "repaired-c+D999" not in REGISTRY
    assert "no driver is called 'repaired-c+D999'" in no_such_driver("repaired-c+D999")


def test_without_a_compiler_it_asks_for_one(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """A machine without a compiler hears so in one line, whatever it was that it asked for; nothing there is listed as usable."""
    monkeypatch.setenv("PATH", "/nonexistent")
    monkeypatch.delenv("CC", raising=False)
    assert not own.listed()
    assert not own.own_variants()
    assert "repaired-c" not in REGISTRY
    for verb, driver in (("hunt", "repaired-c"), ("detect", "repaired-c+*"), ("bench", "repaired-c+D20")):
        assert main([verb, "--driver", driver]) == 2
        said = capsys.readouterr().err
        assert said.count("\n") == 1
        assert "needs a C compiler and none was found" in said


# --- equality -------------------------------------------------------------------------------------------------------------


def told(done: Comparison) -> str:
    """A comparison's difference in words; empty if there is none."""
    return "" if done.parting is None else f"{done.parting.difference} after {done.parting.operations}"


@needs_compiler
def test_it_does_what_the_python_driver_does() -> None:
    """Answers, hypercalls byte by byte, order, views, log: the two repaired drivers cannot be told apart."""
    done = equal("repaired", "repaired-c", 2000, seed=11)
    assert not told(done)
    assert done.operations >= 2000
    assert done.hypercalls > done.operations


@needs_compiler
@pytest.mark.parametrize("name", ["D13", "D20", "D29", "D51", "D59", "O05", "O36"])
def test_a_variant_does_what_its_twin_does(name: str) -> None:
    """A defect is the same defect in both languages, so that what is measured on one holds for the other."""
    assert not told(equal(f"repaired+{name}", f"repaired-c+{name}", 400, seed=5, wording=False))


@needs_compiler
def test_a_difference_is_found_and_minimised() -> None:
    """Comparing finds what differs, or a clean comparison says nothing. The shortest trace of D29 is a refused unmap."""
    done = equal("repaired", "repaired-c+D29", 20_000, seed=1, limit=400)
    parting = done.parting
    assert parting is not None
    assert parting.difference.what in ("answer", "hypercalls", "findings", "trees")
    assert len(parting.operations) <= 5
    assert [op for op in parting.operations[-1].faults if op.site == "UNMAP_DEVICE_GPA_PAGES"]
    again = minimised(parting.config, parting.operations, "repaired", "repaired-c+D29", limit=400)
    assert again is not None
    assert again.operations == parting.operations


REFUSED = (Fault("UNMAP_DEVICE_GPA_PAGES", 1, 8),)
SENT_BACK = (Fault("ATTACH_DEVICE_DOMAIN", 1, 0x58), Fault("ATTACH_DEVICE_DOMAIN", 3, 8))
ALLOC = ops.Alloc(domain=1, device=0, by=0)
PAGE = ops.Map(domain=1, iova=0x100000, paddr=0x4000_0000, pages=1)
UNMAP = ops.Unmap(domain=1, iova=0x100000, pages=1, faults=REFUSED)


@needs_compiler
@pytest.mark.parametrize(
    ("name", "what", "operations"),
    [
        ("D36", "hypercalls", (ALLOC, ops.Map(domain=1, iova=0x100000, paddr=0x4000_0000, pages=1, prot="w"))),
        ("D29", "answer", (ALLOC, PAGE, UNMAP)),
        ("D30", "trees", (ALLOC, PAGE, UNMAP)),
        (
            "O32",
            "books",
            (
                ALLOC,
                ops.Alloc(domain=2, device=0, by=0),
                ops.Claim(group=0, by=0),
                ops.Attach(domain=1, group=0),
                ops.Replace(domain=2, group=0, faults=SENT_BACK),
            ),
        ),
    ],
)
def test_each_kind_of_difference_is_seen(name: str, what: str, operations: tuple[ops.Operation, ...]) -> None:
    """Hypercalls, answers, counts and trees are compared each in its own right."""
    found = difference(Configuration(), [ops.Boot(), *operations], "repaired", twin_of(f"repaired-c+{name}", True, True))
    assert found is not None
    assert found.what == what, found


@needs_compiler
def test_the_verb_says_what_it_found(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Whoever changes one of the drivers asks on the command line whether they still do the same, and gets the trace if not."""
    assert main(["equal", "repaired", "repaired-c", "--operations", "100", "--wording"]) == 0
    assert "do the same" in capsys.readouterr().out
    trace = tmp_path / "parts.json"
    assert main(["equal", "repaired", "repaired-c+D98", "--out", str(trace)]) == 1
    assert "differ after" in capsys.readouterr().out
    assert read(trace).operations[0] == ops.Boot()
    assert main(["equal", "repaired", "no-such-driver"]) == 2


# --- what a hunt finds ----------------------------------------------------------------------------------------------------


@needs_compiler
@pytest.mark.parametrize("name", ["D01", "D10", "D21", "D58", "D64", "D84", "D100", "N03", "O03", "O44"])
def test_a_hunt_finds_the_defect(name: str) -> None:
    """A sample of the variants in C is found within 3,000 operations, as the Python ones are."""
    trial = run_trial(Task(f"repaired-c+{name}", "walk", 0, 4), Limit(operations=3000), minimised=0)
    assert trial.found
    assert trial.properties


@lru_cache
def hunted(name: str) -> tuple[list[Finding], int]:
    """The findings of a short hunt on a variant that breaks as only C can, and how many runs it made after the first."""
    hunter = Hunter(Options(driver=f"repaired-c+{name}", seed=3, jobs=1), 0)
    first: list[int] = []

    def over() -> bool:
        if hunter.findings and not first:
            first.append(hunter.tally.runs)
        return hunter.tally.operations >= 4000 or (bool(first) and hunter.tally.runs >= first[0] + 2)

    hunter.search(over)
    return list(hunter.findings.values()), hunter.tally.runs - first[0] if first else 0


@needs_compiler
@pytest.mark.parametrize(
    ("name", "property_id", "words"),
    [
        ("X01", "no-null-dereference", "a NULL pointer is followed in hv_iommu_add_tree_mapping, hyperv-iommu.c:"),
        ("X02", "every-call-ends", "the call goes round and round in hv_iommu_covered, hyperv-iommu.c:"),
        ("X03", "every-call-ends", "BUG in hv_iommu_bury, hyperv-iommu.c:"),
        ("X04", "input-page-bounds", "8 bytes written past the hypercall input page in hv_iommu_map_pgs, hyperv-iommu.c:"),
        ("X05", "no-use-after-free", "freed in hv_iommu_bury, hyperv-iommu.c:"),
        ("X06", "no-uninitialised-read", "a value that was never set decides"),
    ],
)
def test_what_only_c_breaks_is_a_finding(name: str, property_id: str, words: str) -> None:
    """A crash, an endless loop, a BUG, a write past the page, freed memory and a value that was never set are findings like others:
    with the place in C and a minimal trace that repeats, and the hunt goes on behind them."""
    findings, runs_after = hunted(name)
    found = [finding for finding in findings if finding.property_id == property_id]
    assert found, [finding.property_id for finding in findings]
    small = min((finding.minimised for finding in found), key=lambda small: len(small.operations))
    assert any(words in finding.minimised.violation.detail for finding in found), small.violation.detail
    assert len(small.operations) <= 5
    assert runs_after >= 2
    world = World(small.config, f"repaired-c+{name}")
    outcomes = [world.apply(operation) for operation in small.operations]
    assert property_id in {violation.property for violation in outcomes[-1].violations}
    clean = World(small.config, "repaired-c")
    assert not [violation for operation in small.operations for violation in clean.apply(operation).violations]
