"""``hvmodel export`` as people and scripts meet it: whole files or none, one line and status 2 for whatever is wrong."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from export_cases import CUT, STALE
from export_readers import read_c, read_junit, read_ktap, read_sarif

from hvmodel.cli import main
from hvmodel.drivers.native.own import has_compiler
from hvmodel.traces.export import FORMATS
from hvmodel.traces.format import write


@pytest.fixture
def trace(tmp_path: Path) -> Path:
    path = tmp_path / "stale.json"
    write(STALE, path)
    return path


def wrong(arguments: list[object], capfd: pytest.CaptureFixture[str]) -> str:
    """The one line of a command that is refused."""
    try:
        status = main(["export", *map(str, arguments)])
    except SystemExit as stop:
        status = int(str(stop.code))
    out, err = capfd.readouterr()
    assert status == 2
    assert out == ""
    lines = err.strip().splitlines()
    assert len(lines) == 1, err
    assert "Traceback" not in err
    return lines[0]


@pytest.mark.parametrize("name", FORMATS)
def test_a_file_is_what_is_printed(name: str, trace: Path, tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    """Protects pipes: the same bytes, status 0 though the property fails, and nothing else in either place."""
    out = tmp_path / "deep" / "file"
    assert main(["export", str(trace), "--to", name]) == 0
    printed = capfdbinary.readouterr().out
    assert main(["export", str(trace), "--to", name, "--out", str(out)]) == 0
    assert out.read_bytes() == printed
    assert sorted(path.name for path in out.parent.iterdir()) == ["file"]
    assert capfdbinary.readouterr().out == b""


def test_another_driver(trace: Path, tmp_path: Path) -> None:
    """Protects ``--driver``: what is told is the run on that driver."""
    out = tmp_path / "out"
    main(["export", str(trace), "--to", "junit", "--driver", "repaired", "--out", str(out)])
    assert read_junit(out.read_text()) == [("stale", "pass")]


def test_several_files(trace: Path, tmp_path: Path) -> None:
    """Protects reports of many traces: each by its name, or by its path where two are called the same."""
    other = tmp_path / "more" / "stale.json"
    other.parent.mkdir()
    write(CUT, other)
    out = tmp_path / "out"
    main(["export", str(trace), str(other), "--to", "ktap", "--out", str(out)])
    assert [result.name for result in read_ktap(out.read_text())] == [f"{trace} on posted-v0", f"{other} on posted-v0"]
    main(["export", str(trace), str(other), "--to", "sarif", "--out", str(out)])
    assert [result["kind"] for result in read_sarif(out.read_text())] == ["fail", "open"]
    main(["export", str(trace), str(other), "--to", "kunit", "--out", str(out)])
    tokens, _comments = read_c(out.read_text())
    assert tokens.count("KUNIT_CASE") == 2


def test_wrong_use_is_one_line(trace: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Protects scripts and people: each mistake is named, with what would be right."""
    assert "'xml'" in wrong([trace, "--to", "xml"], capfd)
    assert "--to" in wrong([trace], capfd)
    assert "takes one trace, 2 are given (several: kunit" in wrong([trace, trace, "--to", "pytest"], capfd)
    assert "no driver is called 'repared'" in wrong([trace, "--to", "itf", "--driver", "repared"], capfd)
    assert "would overwrite the trace" in wrong([trace, "--to", "itf", "--out", trace], capfd)
    assert "No such file" in wrong([tmp_path / "none.json", "--to", "itf"], capfd)
    assert "cannot write to" in wrong([trace, "--to", "itf", "--out", tmp_path], capfd)
    assert "cannot write to" in wrong([trace, "--to", "itf", "--out", trace / "below"], capfd)
    assert "cannot write to" in wrong([trace, "--to", "itf", "--out", "nul\0character"], capfd)
    assert trace.exists()


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "the file is empty"),
        (b"\xff\xfe", "not a text file"),
        (b"[1]", "not a trace"),
        (b'{"hvmodel-trace": 2, "operations": [{"op": "bot"}]}', "operations[0].op"),
        (b'{"hvmodel-trace": 2, "driver": "nobody", "operations": []}', "no driver is called 'nobody'"),
        (b'{"hvmodel-trace": 2, "driver": "native:/nowhere.c", "operations": []}', "/nowhere.c"),
    ],
)
def test_a_bad_trace_is_one_line(content: bytes, says: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Protects whoever edits traces: the file and what is wrong with it, and no part of an export."""
    bad, out = tmp_path / "bad.json", tmp_path / "out"
    bad.write_bytes(content)
    line = wrong([bad, "--to", "sarif", "--out", out], capfd)
    assert says in line
    assert str(bad) in line
    assert not out.exists()


def test_a_full_disk_leaves_the_old_file(trace: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Protects what was exported before: a file is replaced when the new one is whole."""
    if not Path("/dev/full").exists():
        pytest.skip("no /dev/full here")
    out = tmp_path / "out"
    out.write_text("old")
    Path(str(out) + ".part").symlink_to("/dev/full")
    assert "cannot write to" in wrong([trace, "--to", "itf", "--out", out], capfd)
    assert out.read_text() == "old"


def test_file_names_of_any_bytes(tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    """Protects names that are no text: they are shown, escaped, and the export is UTF-8."""
    path = os.fsdecode(os.fsencode(tmp_path) + b"/\xff]]>#*\n.json")
    write(STALE, Path(path))
    for name in FORMATS:
        assert main(["export", path, "--to", name]) == 0
        out, err = capfdbinary.readouterr()
        assert err == b""
        out.decode()


def test_a_c_file_as_driver(tmp_path: Path, trace: Path) -> None:
    """Protects findings in C files: the place is the file, as a URI, whatever its path is called."""
    if not has_compiler():
        pytest.skip("no C compiler here")
    out = tmp_path / "out"
    assert main(["export", str(trace), "--to", "sarif", "--driver", "repaired-c", "--out", str(out)]) == 0
    (result,) = read_sarif(out.read_text())
    assert result["kind"] == "pass"
    artifact = result["locations"][0]["physicalLocation"]["artifactLocation"]
    assert (Path(__file__).parents[1] / artifact["uri"]).is_file()
    copy = tmp_path / "a driver #1.c"
    copy.write_bytes((Path(__file__).parents[1] / artifact["uri"]).read_bytes())
    assert main(["export", str(trace), "--to", "sarif", "--driver", f"native:{copy}", "--out", str(out)]) == 0
    (result,) = read_sarif(out.read_text())
    assert result["locations"][0]["physicalLocation"]["artifactLocation"] == {"uri": copy.as_uri()}
