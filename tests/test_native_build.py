"""Building a C driver: what is wrong is said in one line, with the right exit status; builds are kept by content."""

from __future__ import annotations

import multiprocessing
import os
from pathlib import Path

import pytest
from native_subject import SMALL, SMALL_NAME, needs_compiler, planted, play, without_compiler

from hvmodel import operations as ops
from hvmodel.cli import main
from hvmodel.configuration import Configuration
from hvmodel.drivers import REGISTRY, folder_name, no_such_driver
from hvmodel.drivers.native import NativeError, native_entry
from hvmodel.drivers.native.build import build, cache_root
from hvmodel.drivers.native.toolchain import find_compiler
from hvmodel.traces.format import Trace, write


def problem(name: str) -> str:
    """What is said about a driver's name; it is one line."""
    assert name not in REGISTRY
    text = no_such_driver(name)
    assert "\n" not in text
    return text


def test_paths_that_are_no_driver(tmp_path: Path) -> None:
    """A directory, a missing file and a file that is no C source are told apart before a compiler is asked for."""
    (tmp_path / "binary.c").write_bytes(b"\0\1")
    (tmp_path / "notes.txt").write_text("no C", encoding="ascii")
    assert "is a directory" in problem(f"native:{tmp_path}")
    assert "No such file" in problem(f"native:{tmp_path / 'absent.c'}")
    assert "is no C source file" in problem(f"native:{tmp_path / 'binary.c'}")
    assert "is no C source file" in problem(f"native:{tmp_path / 'notes.txt'}")


@pytest.mark.skipif(os.geteuid() == 0, reason="root can read everything")
def test_an_unreadable_file(tmp_path: Path) -> None:
    """A file that may not be read says so."""
    path = tmp_path / "shut.c"
    path.write_text("int x;", encoding="ascii")
    path.chmod(0)
    assert "Permission denied" in problem(f"native:{path}")


def test_no_compiler(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Without a compiler every verb says what is needed: status 2, and 125 under bisection."""
    trace = tmp_path / "trace.json"
    write(Trace(Configuration(), [ops.Boot()], driver="repaired"), trace)
    path = tmp_path / "x.c"
    path.write_text("int x;", encoding="ascii")
    without_compiler(monkeypatch)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CC", raising=False)
    assert "needs a C compiler and none was found" in problem(f"native:{path}")
    for arguments, status in (
        (["hunt", "--driver", f"native:{path}", "--budget", "1"], 2),
        (["replay", str(trace), "--driver", f"native:{path}"], 2),
        (["replay", "--bisect", str(trace), "--driver", f"native:{path}"], 125),
    ):
        assert main(arguments) == status
        said = capsys.readouterr()
        assert "needs a C compiler" in (said.out + said.err).replace("\n", " ")
    monkeypatch.setenv("CC", "no-such-compiler")
    assert "CC names 'no-such-compiler'" in problem(f"native:{path}")


@needs_compiler
def test_files_that_do_not_compile(tmp_path: Path) -> None:
    """An error in the file, a name that the shim does not know, another program: each with its file and line."""
    assert "small.c:79: does not compile" in problem(planted(tmp_path / "a", "alloc", "allocations = = 1;"))
    text = problem(planted(tmp_path / "b", "alloc", "iommu_of_tomorrow(dev);"))
    assert "small.c:" in text
    assert "the shim has no iommu_of_tomorrow" in text
    assert "the shim has no SZ_OF_TOMORROW" in problem(planted(tmp_path / "c", "alloc", "allocations = SZ_OF_TOMORROW;"))
    extern = ("static u32 allocations;", "static u32 allocations; void elsewhere(void);")
    assert "the shim has no elsewhere()" in problem(planted(tmp_path / "d", "alloc", "elsewhere();", extern))
    (tmp_path / "hello.c").write_text('#include <stdio.h>\nint hello(void) { return puts(""); }\n', encoding="ascii")
    assert "is not this driver: it has no hv_iommu_detect()" in problem(f"native:{tmp_path / 'hello.c'}")
    (tmp_path / "other.c").write_text("#include <asm/mshyperv.h>\nvoid hv_iommu_detect(void) { }\n", encoding="ascii")
    assert "is not this driver: no structure of it embeds struct iommu_domain" in problem(f"native:{tmp_path / 'other.c'}")
    without = ("	x86_init.iommu.iommu_init = small_init;", "	(void)small_init;")
    idle = planted(tmp_path / "e", "alloc", "", without)
    assert "hv_iommu_detect() sets no iommu_init" in problem(idle)


@needs_compiler
def test_headers(tmp_path: Path) -> None:
    """A header that the shim lacks is stood in for; one of the driver's own beside it is used, and a change of it is seen."""
    more = ("#include <linux/slab.h>\n", '#include <linux/of_tomorrow.h>\n#include "own.h"\n#include <linux/slab.h>\n')
    name = planted(tmp_path, "alloc", "if (OWN) return ERR_PTR(-EBUSY);", more)
    (tmp_path / "own.h").write_text("#define OWN 0\n", encoding="ascii")
    (tmp_path / "dma-iommu.h").write_text("#error the kernel's own must not be seen\n", encoding="ascii")
    assert native_entry(name)
    first = build(tmp_path / "small.c")
    assert "linux/of_tomorrow.h" in first.stood_in
    (tmp_path / "own.h").write_text("#define OWN 1\n", encoding="ascii")
    assert build(tmp_path / "small.c").image != first.image


def _build(queue: object, path: Path) -> None:
    queue.put(str(build(path).image))  # type: ignore[attr-defined]


@needs_compiler
def test_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A build is made once for the same content, wherever the file is, also when two processes ask at the same time; nothing else
    is left where builds are kept."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "small.c").write_bytes(SMALL.read_bytes())
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    workers = [context.Process(target=_build, args=(queue, tmp_path / folder / "small.c")) for folder in ("a", "b")]
    for worker in workers:
        worker.start()
    images = {queue.get(timeout=60) for _ in workers}
    for worker in workers:
        worker.join()
    assert images == {str(build(SMALL).image)}
    kept = [path.name for path in cache_root().iterdir()]
    assert len(kept) == 2, "the build and the runtime"
    assert not [name for name in kept if name.startswith("build-")]


@needs_compiler
def test_a_cache_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Said in one line with what to set."""
    (tmp_path / "file").write_text("", encoding="ascii")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    with pytest.raises(NativeError, match="set XDG_CACHE_HOME"):
        build(SMALL)


@needs_compiler
def test_a_kernel_tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A kernel tree that is none is said to be none."""
    monkeypatch.setenv("HVMODEL_KERNEL_TREE", str(tmp_path))
    assert "is no kernel tree" in problem(SMALL_NAME)


@needs_compiler
def test_hunt_replay_and_bisect(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The verbs take a C file where they take a driver: a trace found on a broken one fails there and holds on a sound one."""
    broken = planted(tmp_path, "map", "BUG();")
    short = ["--operations", "300", "--jobs", "1", "--profile", "default"]
    assert main(["hunt", "--driver", broken, *short, "--out", str(tmp_path)]) == 1
    traces = sorted(tmp_path.glob("every-call-ends-*.json"))
    assert traces
    capsys.readouterr()
    assert main(["replay", str(traces[0])]) == 1
    assert "small_map, small.c:" in capsys.readouterr().out
    assert main(["replay", "--bisect", str(traces[0]), "--driver", SMALL_NAME]) == 0
    assert main(["explain", str(traces[0])]) in (0, 1)


def test_folder_names() -> None:
    """A hunt on a C file leaves its traces in one folder."""
    assert folder_name("native:/tree/drivers/iommu/hyperv-iommu.c") == "native-iommu-hyperv-iommu"
    assert folder_name("repaired") == "repaired"


@needs_compiler
def test_the_compiler_can_be_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    """CC with arguments is taken as it is."""
    command = find_compiler().command
    monkeypatch.setenv("CC", " ".join([*command, "-DCHOSEN=1"]))
    assert find_compiler().command == (*command, "-DCHOSEN=1")
    assert play(SMALL_NAME)[1][0].result == 0
