"""``detect --level``: the power of the gears where callers go only so far."""

from __future__ import annotations

import json
from itertools import islice
from pathlib import Path

import pytest

from hvmodel.callers.levels import BEYOND, CONTRACT, KERNEL
from hvmodel.cli import main
from hvmodel.gears.walk import runs
from hvmodel.jobs import trials
from hvmodel.jobs.trials import GEARS, Limit, Task, run_trial
from hvmodel.world import Outcome, World

BAD = "repaired+D29"


@pytest.mark.parametrize("gear", GEARS)
def test_no_gear_goes_further_than_the_level(gear: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Protects the measure: in a trial at the kernel level no operation needs more, whichever gear does it."""
    trials._subjects(KERNEL)  # which lives those are is found out by living them all
    seen: list[int] = []
    apply = World.apply

    def watched(world: World, operation: object) -> Outcome:
        outcome = apply(world, operation)  # type: ignore[arg-type]
        seen.append(outcome.level)
        return outcome

    monkeypatch.setattr(World, "apply", watched)
    monkeypatch.setattr(trials, "MINIMISED", 0)
    run_trial(Task("repaired", gear, 0, 5, KERNEL), Limit(operations=400, seconds=2.0), 0)
    assert len(seen) > 20 or gear == "exhaustive"
    assert max(seen, default=0) == KERNEL


def test_the_highest_level_is_the_usual_one() -> None:
    """Protects older results: without a level a trial does what it always did, all three levels in turn."""
    task = Task("repaired", "walk", 0, 5)
    assert task.level == BEYOND
    levels = {level for _, _, level, _ in islice(runs(5, 0, ["default"], trials._levels(task.level), 10), 6)}
    assert levels == {KERNEL, CONTRACT, BEYOND}


def test_trials_of_different_levels_are_not_compared(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Protects the comparison: power at one level says nothing about power at another; that is said in one line, and a stored run
    knows its level, where it is not the usual one."""
    kernel, usual = tmp_path / "kernel.json", tmp_path / "usual.json"
    arguments = ["detect", "--driver", BAD, "--trials", "2", "--operations", "3000", "--jobs", "1"]
    assert main([*arguments, "--level", "kernel", "--json", str(kernel)]) in (0, 1)
    assert "callers of level kernel at most" in capsys.readouterr().out
    assert main([*arguments, "--json", str(usual)]) in (0, 1)
    stored = json.loads(kernel.read_text())
    assert stored["settings"]["level"] == "kernel"
    assert [trial["level"] for trial in stored["trials"]] == ["kernel", "kernel"]
    assert all("level" not in trial for trial in json.loads(usual.read_text())["trials"])
    capsys.readouterr()
    assert main([*arguments, "--against", str(kernel)]) == 2
    assert "at level beyond (its trials: kernel)" in capsys.readouterr().err
    assert main([*arguments, "--level", "kernel", "--against", str(kernel)]) in (0, 1)
    assert "no loss of power" in capsys.readouterr().out
    stored["trials"][0]["level"] = "lunar"
    kernel.write_text(json.dumps(stored))
    assert main([*arguments, "--against", str(kernel)]) == 2
    assert "'lunar' is none of kernel, contract, beyond" in capsys.readouterr().err
