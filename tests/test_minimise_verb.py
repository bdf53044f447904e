"""``hvmodel minimise`` and the bench of the minimiser: what a person gives and gets."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from catalogue import ENTRIES

from hvmodel import operations as ops
from hvmodel.cli import main
from hvmodel.gears.walk import Run, walk
from hvmodel.jobs import minimiser_bench as bench
from hvmodel.traces.format import Trace, read, write
from hvmodel.traces.shrink import NothingFails, shrink
from hvmodel.world import Outcome

STALE = Trace(ENTRIES["D20"].config, list(ENTRIES["D20"].operations), "posted-v0", "no-stale-mapping")


def long_version(start: int) -> Trace:
    """The same finding in other words: other names, addresses, an unusual start, and operations that have nothing to do with it."""
    operations: list[ops.Operation] = [
        ops.VmCreate(2),
        ops.Boot(),
        ops.Alloc(7, device=1),
        ops.Alloc(9, device=2),
        ops.Map(9, 0x5000, 0x99000, 3),
        ops.Map(7, start, 0x12345000, 300, "r"),
        ops.Lookup(9, 0x5000),
        ops.Unmap(7, start, 300),
    ]
    return replace(STALE, operations=operations, config=replace(STALE.config, iova_width=57))


def test_one_finding_becomes_one_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Protects the canonical form: two long and different traces of one finding come out as the same file, which says where it
    fails, and comes out again when it is given."""
    files = []
    for number, start in enumerate((0x300000, 0x40000000)):
        path, out = tmp_path / f"{number}.json", tmp_path / f"{number}.min.json"
        write(long_version(start), path)
        assert main(["minimise", str(path), "--out", str(out)]) == 0
        assert "8 operations before; 4 operations: no selection of them fails" in capsys.readouterr().err
        files.append(out.read_text())
    assert files[0] == files[1]
    small = read(tmp_path / "0.min.json")
    assert small.operations == STALE.operations
    assert (small.property, small.finding["step"], small.finding["call"]) == ("no-stale-mapping", 4, "unmap_pages")
    assert len(small.observed) == 4
    assert main(["minimise", str(tmp_path / "0.min.json")]) == 0
    assert capsys.readouterr().out == files[0]


def test_what_is_wrong_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Protects against tracebacks and silence: a trace that holds, an unknown driver, no file, a place that cannot be written."""
    path = tmp_path / "stale.json"
    write(STALE, path)
    for arguments, said in (
        ([str(path), "--driver", "repaired"], "no-stale-mapping holds on repaired, so there is nothing to minimise"),
        ([str(path), "--driver", "repaird"], "did you mean repaired"),
        ([str(tmp_path / "none.json")], "No such file"),
        ([str(path), "--out", str(path / "below")], "cannot write to"),
    ):
        assert main(["minimise", *arguments]) == 2
        out, err = capsys.readouterr()
        assert out == ""
        assert err.count("\n") == 1
        assert said in err


def test_the_subject_stays(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Protects what a trace is about: the failure that its summary tells of, and without a property the worst that fails."""
    worst, _ = shrink(replace(STALE, property=None), 5000)
    assert worst.property == "no-stale-mapping"
    other = replace(STALE, property="tree-matches-hypervisor")
    assert shrink(other, 5000)[0].property == "tree-matches-hypervisor"
    with pytest.raises(NothingFails, match="no property fails on repaired"):
        shrink(replace(STALE, property=None, driver="repaired"), 5000)
    write(long_version(0x300000), tmp_path / "long.json")
    assert main(["minimise", str(tmp_path / "long.json"), "--limit", "2"]) == 0
    assert "2 worlds were not enough" in capsys.readouterr().err


def test_the_bench_counts(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Protects the figures: a sample is what it says, equal files are counted once, and a target that is missed is status 1."""
    heard: list[Outcome] = []

    def hear(_run: Run, outcome: Outcome) -> bool:
        heard.append(outcome)
        return True

    run = walk("0/0/1", "repaired+D37", "default", 0, 100, hear)
    first = bench.sample(run, heard[0], "repaired+D37", "0/0/1")
    assert (first.property_id, first.after, first.same_property, first.stable) == ("gfp-is-used", 3, True, True)
    longer = replace(first, after=5, file="another")
    came = bench.figures([first, replace(first, seconds=9.0), longer])
    assert (came.samples, came.shortest, came.shortest_of_manner, came.most) == (3, 2, 2, 9.0)
    assert came.by_variant == {"repaired+D37": (3, 2, 2, 1, 3)}
    assert not came.met
    monkeypatch.setattr(bench, "P99_TARGET", 60.0)
    monkeypatch.setattr(bench, "MEDIAN_TARGET", 60.0)
    assert main(["bench-minimiser", "--driver", "repaired+D37", "--traces", "5", "--jobs", "1"]) == 0
    assert "5 failing traces of 1 variants" in capsys.readouterr().out
    monkeypatch.setattr(bench, "MEDIAN_TARGET", 0.0)
    assert main(["bench-minimiser", "--driver", "repaired+D37", "--traces", "5", "--jobs", "1"]) == 1
    assert main(["bench-minimiser", "--driver", "nothing*"]) == 2
