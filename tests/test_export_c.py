"""The exported C program: a compiler and the driver's file are enough, and it fails where the trace fails, nowhere else."""

from __future__ import annotations

import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest
from catalogue import ENTRIES
from export_cases import CUT, STALE
from native_subject import needs_compiler

from hvmodel import operations as ops
from hvmodel.drivers.native.own import SOURCE
from hvmodel.drivers.native.own_driver import changed_path
from hvmodel.drivers.native.toolchain import find_compiler
from hvmodel.drivers.native.variants import VARIANTS_C
from hvmodel.traces.export import Case, run_case
from hvmodel.traces.export.c import _replaced, render
from hvmodel.traces.export.c.__main__ import flags
from hvmodel.traces.format import Trace

FAILS, HOLDS, NOT_TESTED = 1, 0, 77


@dataclass(frozen=True, slots=True)
class Built:
    """How a program ended, and what it said."""

    status: int
    said: str


@pytest.fixture(scope="module")
def runtime(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The runtime's object, which all programs share here."""
    folder = tmp_path_factory.mktemp("runtime")
    *options, source = flags(plain=True)
    done = find_compiler().run([*options, "-c", source, "-o", "alone.o"], folder)
    assert done.returncode == 0, done.stderr
    return folder / "alone.o"


def built(case: Case, driver: Path, runtime: Path, folder: Path) -> Built:
    """A case's program with a driver's file: built and run without Python."""
    options = flags(plain=True)[:-1]
    (folder / "t.c").write_text(render([case]), encoding="ascii")
    arguments = [*options, "-O0", f'-DDRIVER="{driver}"', "t.c", str(runtime), "-o", "t"]
    done = find_compiler().run(arguments, folder)
    assert done.returncode == 0, done.stderr
    ran = subprocess.run([folder / "t"], capture_output=True, text=True, timeout=30, check=False, env={})
    return Built(ran.returncode, ran.stdout)


def variant(key: str) -> Path:
    """The file of a variant of our own driver in C."""
    return changed_path(VARIANTS_C[f"repaired-c+{key}"].changes)


def recorded(key: str, driver: str) -> Case:
    """A defect of the catalogue on a driver."""
    found = ENTRIES[key]
    return run_case(Trace(found.config, list(found.operations), driver, found.property), None, key)


@needs_compiler
def test_it_fails_on_the_driver_that_it_was_recorded_on(runtime: Path, tmp_path: Path) -> None:
    """The recorded answers lead the same driver to the same step, and the check there fails."""
    case = recorded("D20", "repaired-c+D20")
    found = built(case, variant("D20"), runtime, tmp_path)
    assert found.status == FAILS
    assert f"not ok 1 - D20: no-stale-mapping: step {case.verdict.step}:" in found.said
    assert [f"# step {step.number}: {step.headline}" in found.said for step in case.steps] == [True] * len(case.steps)


@needs_compiler
def test_a_repaired_driver_does_not_fail(runtime: Path, tmp_path: Path) -> None:
    """The same file with the repaired driver: it asks for other things, so the check holds by the program's own answers only, and
    that is no pass."""
    found = built(recorded("D20", "repaired-c+D20"), SOURCE, runtime, tmp_path)
    assert found.status == NOT_TESTED
    assert "# SKIP undetermined: the driver asks for other things" in found.said


@needs_compiler
def test_it_holds_where_the_trace_holds(runtime: Path, tmp_path: Path) -> None:
    """Recorded on the repaired driver and run on it, every answer is from the record: a pass. The defect fails it."""
    case = recorded("D20", "repaired-c")
    assert built(case, SOURCE, runtime, tmp_path).status == HOLDS
    assert built(case, variant("D20"), runtime, tmp_path).status == FAILS


@needs_compiler
@pytest.mark.parametrize("key", ["D37"])
def test_what_the_shim_sees_is_put_to_the_test(key: str, runtime: Path, tmp_path: Path) -> None:
    """Gfp flags and locks, of which KUnit is not told: the shim's allocator and locks say it."""
    case = recorded(key, f"repaired-c+{key}")
    assert built(case, variant(key), runtime, tmp_path).status == FAILS
    assert built(case, SOURCE, runtime, tmp_path).status in (HOLDS, NOT_TESTED)


@needs_compiler
def test_a_use_after_free_is_seen_where_memory_is_watched(runtime: Path, tmp_path: Path) -> None:
    """With the flags as they are printed the sanitizer's report is the failure; without it nobody sees it, and that is no pass."""
    options = flags()
    if not any("sanitize" in option for option in options):
        pytest.skip("the compiler links no address sanitizer")
    front, last, back = SOURCE.read_text(encoding="ascii").partition("\n\tkfree(hvdom);\n")
    driver = tmp_path / "hyperv-iommu.c"
    driver.write_text(f"{front}{last}\thvdom->num_attchd++;\n{back}", encoding="ascii")
    operations = [ops.Boot(), ops.Alloc(1, 0), ops.Free(1)]
    case = run_case(Trace(STALE.config, operations, f"native:{driver}", "no-use-after-free"), None, "planted")
    (tmp_path / "t.c").write_text(render([case]), encoding="ascii")
    done = find_compiler().run([*options, "-O0", '-DDRIVER="hyperv-iommu.c"', "t.c", "-o", "t"], tmp_path)
    assert done.returncode == 0, done.stderr
    ran = subprocess.run([tmp_path / "t"], capture_output=True, text=True, timeout=30, check=False)
    assert (ran.returncode, "step 3: heap-use-after-free" in ran.stdout) == (FAILS, True), ran.stdout
    assert built(case, driver, runtime, tmp_path).status == NOT_TESTED


@needs_compiler
def test_a_trace_of_a_python_driver_runs_on_c(runtime: Path, tmp_path: Path) -> None:
    """Without a C file at hand the names are the posted series', which our own driver in C has, too."""
    found = built(run_case(STALE, None, "stale"), variant("D20"), runtime, tmp_path)
    assert found.status == FAILS, found.said


@needs_compiler
def test_what_cannot_be_asked_is_no_pass(runtime: Path, tmp_path: Path) -> None:
    """A property that was never asked gives a program that says so and does not pass."""
    found = built(run_case(CUT, "repaired-c", "cut"), SOURCE, runtime, tmp_path)
    assert (found.status, found.said.splitlines()[1][:20]) == (NOT_TESTED, "1..0 # SKIP no-stale")


def test_the_page_has_the_command() -> None:
    """The head of the file has the one command that builds and runs it, and what an answer in another order means."""
    head = render([run_case(STALE, None, "stale")]).split("#ifndef DRIVER")[0]
    words = re.sub(r"\s+\*?\s*", " ", head)
    assert "cc $(python -m hvmodel.traces.export.c) -DDRIVER=" in words
    assert "the result is undetermined (77), not a pass" in words


@needs_compiler
def test_the_flags_are_one_line_of_what_is_there() -> None:
    """``$(python -m hvmodel.traces.export.c)`` names folders and a file that exist."""
    options = flags()
    assert all(Path(option[2:]).is_dir() for option in options if option.startswith("-I"))
    assert Path(options[-1]).is_file()


def test_a_function_that_is_not_there_is_noticed() -> None:
    """Parts of the KUnit text are exchanged by name: one that was renamed is an error here, not a program that does not compile."""
    text = "/* old */\nstatic void one(void)\n{\n\treturn;\n}\n"
    assert _replaced(text, {"one": "new"}) == "new\n"
    with pytest.raises(ValueError, match="no function two"):
        _replaced(text, {"two": ""})
