"""The bench of the exhaustive gear: what it measures is measured, what is not there is told, the abstract model is sound."""

from __future__ import annotations

import importlib.util
import io
import shutil
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from hvmodel.jobs import bench_explore
from hvmodel.jobs.bench_explore import Missing, minicheck, reached, spin
from hvmodel.jobs.bench_models import domains


@pytest.fixture
def console() -> Console:
    return Console(width=200, record=True, file=io.StringIO())


def test_the_section_measures_what_is_there(console: Console) -> None:
    """With tiny settings every row has positive figures, the targets are judged, and it is said that the others have no driver."""
    rows = bench_explore.bench_explore(console, rounds=1, depth=2, pages=3)
    text = console.export_text()
    assert rows[0].name == "exhaustive gear, repaired"
    for row in rows:
        (turn,) = row.turns
        assert min(turn.states, turn.transitions, turn.seconds, turn.bytes_per_state) > 0, row.name
    assert "no driver in them" in text
    assert "transitions/s with repaired, target 20,000" in text
    skipped = [line for line in text.splitlines() if line.startswith("skipped")]
    assert len(rows) + len(skipped) == 4


def test_what_is_not_installed_is_told(console: Console, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without minicheck, SPIN and a compiler the section still measures ours, and says in a line each what to do."""
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: None if name == "minicheck" else find(name, *rest))
    monkeypatch.setattr(shutil, "which", lambda *_args, **_named: None)
    with pytest.raises(Missing, match="minicheck is not installed: pip install minicheck"):
        minicheck(3)
    monkeypatch.setenv("CC", "no-such-compiler")
    rows = bench_explore.bench_explore(console, rounds=1, depth=1, pages=3)
    assert [row.name for row in rows] == ["exhaustive gear, repaired"]
    lines = [line for line in console.export_text().splitlines() if line.startswith("skipped")]
    assert len(lines) == 3
    assert all("no-such-compiler" in line for line in lines if "minicheck" not in line)


def test_spin_alone_missing_names_its_package(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """With a compiler and without SPIN the package is named."""
    monkeypatch.setattr(bench_explore, "find_compiler", lambda: type("C", (), {"command": ("cc",)}))
    monkeypatch.setattr(shutil, "which", lambda *_args, **_named: None)
    with pytest.raises(Missing, match="SPIN is not installed: apt-get install spin"):
        spin(3, tmp_path)


def test_the_abstract_model_holds_and_a_broken_one_fails() -> None:
    """The model is no empty one: its states are known by number, and a lie about a refused unmap takes three operations."""
    assert reached(domains.PAGES) == (52, 451, None)
    assert reached(8) == (2820, 58_499, None)
    assert reached(domains.PAGES, broken=True)[2] == 3


def test_minicheck_agrees() -> None:
    """minicheck finds the states that ours finds, that the property holds, and the same shortest failure of the broken model."""
    checker: Any = pytest.importorskip("minicheck")
    said = checker.check_safety(domains.protocol(checker, 5))
    (verdict,) = said["properties"].values()
    assert (said["reachable_states"], verdict["holds"]) == (reached(5)[0], True)
    (verdict,) = checker.check_safety(domains.protocol(checker, 3, broken=True))["properties"].values()
    assert verdict["holds"] is False
    assert len(verdict["counterexample"]) - 1 == reached(3, broken=True)[2]


def test_spin_agrees(tmp_path: Path) -> None:
    """The model for SPIN is the one for minicheck, state for state and transition for transition, also where it fails."""
    try:
        turn = spin(5, tmp_path)()
    except Missing as reason:
        pytest.skip(str(reason))
    assert (turn.states, turn.transitions) == reached(5)[:2]
    with pytest.raises(Missing, match="the property of the abstract model fails"):
        spin(5, tmp_path, broken=True)()
