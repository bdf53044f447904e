"""The KUnit export: what it says it cannot do is skipped, and what it does, it does, compiled against a stand-in kernel."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from catalogue import ENTRIES
from export_cases import STALE, entry, fails, undetermined
from export_readers import read_c

from hvmodel import operations as ops
from hvmodel.configuration import Configuration
from hvmodel.faults import Fault
from hvmodel.properties.catalogue import PROPERTIES
from hvmodel.traces.export import Case, run_case
from hvmodel.traces.export.kunit import render
from hvmodel.traces.export.kunit.expressible import CHECKS, NEVER, why_not
from hvmodel.traces.export.kunit.script import CannotPlay, script
from hvmodel.traces.export.kunit.sections import CHECK_FILES, checks, text
from hvmodel.traces.format import Trace

HERE = Path(__file__).parent / "export_kunit"
HEADERS = ("kunit/static_stub.h", "kunit/test.h", "linux/init.h", "linux/iommu.h", "linux/pci.h", "linux/xarray.h")
WARNINGS = ("-Wall", "-Wextra", "-Werror", "-Wno-unused-parameter", "-Wno-sign-compare")


def body_of(content: str, test: str) -> str:
    """The statements of one test."""
    found = re.search(rf"^static void (?:__init )?{test}\(struct kunit \*test\)\n{{\n(.*?)^}}", content, re.DOTALL | re.MULTILINE)
    assert found is not None
    return found.group(1)


# --- what can be expressed --------------------------------------------------------------------------------------------------


def test_every_property_is_checked_or_said_to_be_beyond_a_test() -> None:
    """Protects new properties: each has a check in C or a reason why there is none, and no check is without a property."""
    assert set(CHECKS) | set(NEVER) == set(PROPERTIES)
    assert not set(CHECKS) & set(NEVER)
    assert set(CHECKS) <= set(checks())
    for name, symbol in CHECKS.items():
        assert f"static const struct hvm_property {symbol} = {{" in checks()[name][0]


def test_undetermined_is_skipped_with_its_reason() -> None:
    """Protects against a pass that is none: the test does nothing but say why it says nothing."""
    content = body_of(render([undetermined()]), "hvm_test_cut")
    assert content.startswith('\tkunit_skip(test, "no-stale-mapping is undetermined: step 3, 4 did nothing')
    assert content.count(";") == 1


@pytest.mark.parametrize(
    ("case", "says"),
    [
        (entry("D81"), "lockdep"),
        (entry("D14"), "only KMSAN sees it"),
        (entry("D93"), "hv_iommu_init() registers with the real IOMMU core"),
        (run_case(replace(STALE, property=None), "repaired"), "the trace names no property"),
        (run_case(replace(STALE, property="no-foreign-attach"), "repaired"), "knows only how to look where it failed"),
        (run_case(replace(STALE, property="no-sleep-in-atomic"), "repaired"), "sees only a part of it"),
    ],
    ids=lambda value: value.name if isinstance(value, Case) else "",
)
def test_what_cannot_be_expressed_says_why(case: Case, says: str) -> None:
    """Protects honesty: each kind of thing that KUnit does not see is skipped with a reason of its own."""
    assert says in why_not(case)
    tokens, _comments = read_c(render([case]))
    assert "hvm_begin" not in tokens
    assert any(says in token for token in tokens)


def test_refusals_that_no_test_can_bring_about() -> None:
    """Protects traces with kernel services that fail: only what a test can make fail is played."""
    boot = ops.Boot(faults=(Fault("iommu_device_sysfs_add"),))
    held = Trace(Configuration(), [boot], "repaired", "input-page-bounds")
    assert why_not(run_case(held)) == "a test cannot make iommu_device_sysfs_add() fail like that"
    maps = [*STALE.operations[:2], ops.Map(1, 0x100000, 0x40000000, 1, faults=(Fault("kzalloc"),))]
    case = run_case(Trace(STALE.config, maps, "posted-v0", "no-stale-mapping"))
    assert why_not(case) == ""
    assert ".site = HVM_SITE_KZALLOC" in render([case])
    twice = replace(maps[2], faults=(Fault("kzalloc", times=2),))
    assert "kzalloc() fail like that" in why_not(run_case(Trace(STALE.config, [*maps[:2], twice], "posted-v0", "no-stale-mapping")))


def test_another_kernel_cannot_be_started() -> None:
    """Protects the limits of a script: what cannot be played is a reason, not half a test."""
    case = run_case(Trace(Configuration(), [ops.Boot(), ops.Kexec(), ops.Alloc()], "repaired", "ids-are-unique"))
    with pytest.raises(CannotPlay, match="another kernel"):
        script(case)
    assert "another kernel" in body_of(render([case]), "hvm_test_trace")


@pytest.mark.parametrize(
    "last",
    [
        ops.Unmap(1, 0, 1 << 40),
        ops.Map(1, 0, 0, (1 << 20) + 1, faults=(Fault("kzalloc"),)),
        ops.MapScattered(1, 0, 0, 1, (1 << 20) + 1, 1),
        ops.DriverMap(1, 0, 0, 1 << 12, (1 << 20) + 1, faults=(Fault("kzalloc"),)),
        ops.DriverUnmap(1, 0, 1 << 20, (1 << 64) - 1),
    ],
)
def test_more_pages_than_a_test_can_hold(last: ops.Operation) -> None:
    """Protects the kernel that runs it: no loop over a terabyte, no room behind the input page as large as that."""
    case = run_case(Trace(STALE.config, [*STALE.operations[:2], last], "honest-whole", "no-stale-mapping"))
    tokens, _comments = read_c(render([case]))
    assert '"step 3 asks for more than 1048576 pages"' in tokens


# --- what is played ---------------------------------------------------------------------------------------------------------


def test_the_test_is_the_trace() -> None:
    """Protects the reader: the operations in order, with the numbers of the trace, and the hypercalls in words and bytes."""
    content = render([fails()])
    calls = re.findall(r"^\t(hvm_\w+)\((.*?)\);", body_of(content, "hvm_test_stale"), re.MULTILINE | re.DOTALL)
    played = [name for name, _arguments in calls if name not in ("hvm_probe", "hvm_attach")]  # of every device, at boot
    assert played == [
        *("hvm_begin", "hvm_step", "hvm_step", "hvm_alloc", "hvm_step", "hvm_map"),
        *("hvm_step", "hvm_decides", "hvm_unmap", "hvm_end"),
    ]
    assert dict(calls)["hvm_unmap"] == "HVM_DOMAIN_1, 0x100000, 0x101"
    assert "/* 4: UNMAP_DEVICE_GPA_PAGES id 0x1, va_base 0x100000, reps 256 -> SUCCESS, 256 done */" in content
    assert ".input = { 0xffffffffffffffffULL, 0, 0x100000000ULL, 0x100000 }" in content
    assert "VERSION" not in content


def test_the_script_ends_where_it_failed() -> None:
    """Protects the verdict: what the callers did after the failure is not played, and the failing call is marked."""
    told = script(entry("D50"))
    assert told.decided
    assert [play.decides for play in told.plays] == [False] * (len(told.plays) - 1) + [True]


def test_the_head_says_what_the_tree_needs() -> None:
    """Protects whoever puts the file into a tree: the Kconfig symbol, where it is included, and what is redirected."""
    head = render([fails()])[:4000]
    for needed in ("CONFIG_HYPERV_IOMMU_KUNIT_TEST", '#include "hyperv-iommu-test.c"', "config HYPERV_IOMMU_KUNIT_TEST"):
        assert needed in head
    stubs = set(re.findall(r"kunit_activate_static_stub\(test, (\w+),", text("end.c")))
    assert set(re.findall(r"KUNIT_STATIC_STUB_REDIRECT\((\w+)", head)) == stubs


def test_only_what_is_needed_is_in_the_file() -> None:
    """Protects the length of a file: books of pages only where pages are mapped, checks only of the properties that are named."""
    places, pages = render([entry("D50")]), render([fails()])
    assert "hvm_map_pages" not in places
    assert "hvm_map_pages" in pages
    assert pages.count("static const struct hvm_property hvm_") == 1


@pytest.mark.parametrize("name", ["world.c", "frame.c", "pages.c", "calls.c", "requests.c", "end.c", *CHECK_FILES])
def test_the_style_is_the_kernels(name: str) -> None:
    """Protects the C files against what checkpatch complains of: tabs, 100 columns, no spaces at ends of lines."""
    for line in text(name).splitlines():
        assert len(line.expandtabs(8)) <= 100, line
        assert line == line.rstrip()
        assert not re.match(r" {8}|\t* +\t", line), line
    read_c(text(name))


LEFT = {
    *("hvm_map_result", "hvm_legal_requests_work", "hvm_no_out_of_bounds", "hvm_context_is_balanced"),
    *("hvm_touches_only_its_own", "hvm_unmap_total"),
}
"""Checks that no trace of the catalogue asks for, or whose traces fail in a way that a test does not see."""

# --- compiled and run -------------------------------------------------------------------------------------------------------


def compiler() -> str:
    found = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if found is None:
        pytest.skip("no C compiler here")
    return found


def built(directory: Path, content: str, *options: str) -> Path:
    """The toy driver with an exported file at its end, as a program."""
    for header in HEADERS:
        path = directory / header
        path.parent.mkdir(exist_ok=True)
        path.write_text('#include "kernel.h"\n')
    (directory / "exported.c").write_text(content)
    program = directory / "program"
    command = [compiler(), "-std=gnu11", *WARNINGS, *options, f"-I{directory}", f"-I{HERE}"]
    done = subprocess.run([*command, str(HERE / "toy.c"), "-o", str(program)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return program


def results(program: Path) -> tuple[dict[str, str], str]:
    """pass, fail or skip by the name of the test, and everything that was printed."""
    done = subprocess.run([program], capture_output=True, text=True, check=True, timeout=20)
    found = re.findall(r"^(not ok|ok) \d+ hvm_test_(\w+)( # SKIP)?$", done.stdout, re.MULTILINE)
    return {name: "skip" if skip else "pass" if ok == "ok" else "fail" for ok, name, skip in found}, done.stdout


@pytest.fixture(scope="module")
def two() -> str:
    """One test of pages, one of places."""
    return render([fails(), entry("D51-contract")])


def test_a_right_driver_passes(two: str, tmp_path: Path) -> None:
    """Protects fixes: the calls that a right driver makes are not those of the record, and the test passes all the same."""
    found, said = results(built(tmp_path, two))
    assert found == {"stale": "pass", "d51_contract": "pass"}
    assert "off the record" in said


def test_a_wrong_driver_fails_in_the_step_and_the_property(two: str, tmp_path: Path) -> None:
    """Protects the point of it all: each defect fails its test and no other, where and in what it failed in the trace."""
    found, said = results(built(tmp_path, two, "-DSHORT_UNMAP"))
    assert found == {"stale": "fail", "d51_contract": "pass"}
    assert "step 4: no-stale-mapping: 1 page(s) from 0x200000 are still mapped to 0x40101000" in said
    found, said = results(built(tmp_path, two, "-DLOSES_COUNT"))
    assert found == {"stale": "pass", "d51_contract": "fail"}


def test_without_its_stubs_nothing_is_said(two: str, tmp_path: Path) -> None:
    """Protects against a tree in which a line was forgotten: the test is skipped and names the function."""
    found, said = results(built(tmp_path, two, "-DNO_REDIRECT"))
    assert set(found.values()) == {"skip"}
    assert "hv_do_hypercall() is not redirected" in said


def _as(name: str) -> Case:
    """A trace in which a property holds."""
    return run_case(replace(STALE, property=name), "repaired", name)


def test_everything_compiles(tmp_path: Path) -> None:
    """Protects all checks and all kinds of calls: every defect of the catalogue in one file, without a warning."""
    cases = [entry(key) for key in ENTRIES]
    content = render(cases)
    built(tmp_path, content, "-fsyntax-only")
    built(tmp_path, render([_as(name) for name in ("map-result", "no-out-of-bounds", "no-stale-mapping")]), "-fsyntax-only")
    played = Counter("hvm_begin(test" in body_of(content, f"hvm_test_{key.lower().replace('-', '_')}") for key in ENTRIES)
    assert played[True] > 2 * played[False]
    assert set(re.findall(r"\.property = &(\w+)", content)) | LEFT >= set(CHECKS.values())
