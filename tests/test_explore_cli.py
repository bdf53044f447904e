"""``hvmodel explore`` from the outside: exit status, report, files, bad input."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from hvmodel.cli import main
from hvmodel.traces.format import read
from hvmodel.traces.verdict import FAILS, verdict_of

QUICK = ["explore", "--part", "moves", "--jobs", "1"]


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_what_holds_is_status_0_and_says_within_what(capsys: pytest.CaptureFixture[str]) -> None:
    """The verdict names the scope in words, with states, transitions and depth."""
    assert main([*QUICK, "--driver", "repaired", "--depth", "3", "--json", "out.json"]) == 0
    text = capsys.readouterr().out
    assert "holds within the scope: every property on repaired, profile default" in text
    assert "1 device in 1 group; 1 VM; 1 domain allocated" in " ".join(text.split())
    report = json.loads(Path("out.json").read_text())
    assert report["verdict"] == "holds"
    (part,) = report["parts"]
    assert part["complete"]
    assert part["states"] == sum(part["levels"])
    assert part["transitions"] > part["states"]
    assert not list(Path("findings/repaired/explore").iterdir())


def test_what_fails_is_status_1_with_traces_that_fail(capsys: pytest.CaptureFixture[str]) -> None:
    """Each finding is a trace file that fails on its driver, and the shortest is told in full."""
    assert main([*QUICK, "--driver", "repaired+D68", "--depth", "3"]) == 1
    text = capsys.readouterr().out
    assert "blocked-is-blocked, a shortest trace within the scope:" in text
    assert "  1  boot" in text
    traces = list(Path("findings/repaired+D68/explore").glob("*.json"))
    assert traces
    for path in traces:
        assert verdict_of(read(path)).state == FAILS
        assert str(path.stem) in text


def test_what_was_broken_off_is_status_3_and_no_pass(capsys: pytest.CaptureFixture[str]) -> None:
    """A spent budget is said, with how much was not looked at; with a file to go on from the same command ends it."""
    command = [*QUICK, "--driver", "repaired", "--depth", "3", "--keep", "search"]
    assert main([*command, "--budget", "0.1"]) in (0, 3)
    first = capsys.readouterr().out
    assert ("undetermined: the budget is spent" in first and "That is no pass" in first) or "holds" in first
    assert main(command) == 0
    assert "holds within the scope" in capsys.readouterr().out
    assert main([*command, "--no-symmetry"]) == 2
    assert "keeps another search (symmetry True, not False)" in capsys.readouterr().err


def test_never_and_list(capsys: pytest.CaptureFixture[str]) -> None:
    """What was not exercised is listed; what a scope is can be read without a search."""
    assert main([*QUICK, "--driver", "repaired", "--depth", "2", "--never"]) == 0
    assert "fault sites never reached" in capsys.readouterr().out
    assert main(["explore", "--scope", "small", "--list"]) == 0
    assert capsys.readouterr().out.count("then recovery") > 10


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--scope", "huge"], "no scope is called 'huge', and there is no such file (known: tiny"),
        (["--scope", "smal"], "did you mean small"),
        (["--part", "none"], "the scope tiny has no part 'none' (it has maps, moves)"),
        (["--profile", "odd"], "no profile is called 'odd'"),
        (["--driver", "repairde"], "did you mean repaired"),
        (["--json", "/dev/null/x"], "cannot write to"),
        (["--out", "/dev/null/x"], "cannot write to"),
        (["--keep", "/dev/null/x"], "cannot"),
        (["--scope", "."], "cannot be read"),
    ],
)
def test_bad_input_is_one_line(arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Wrong use is told in one line, status 2."""
    assert main(["explore", "--driver", "repaired", "--depth", "1", *arguments]) == 2
    err = capsys.readouterr().err
    assert said in err
    assert err.count("\n") == 1


def test_a_file_that_is_no_search_is_left_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    """Somebody else's file is not overwritten."""
    Path("mine").write_text("precious")
    assert main([*QUICK, "--driver", "repaired", "--depth", "1", "--keep", "mine"]) == 2
    assert "mine: cannot be read as a kept search" in capsys.readouterr().err
    assert Path("mine").read_text() == "precious"
