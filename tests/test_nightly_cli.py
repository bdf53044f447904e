"""The verbs ``nightly``, ``merge`` and ``excuse``: exit statuses, what is printed, and one line for wrong use."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from small_nights import NAME, RUNS, Once, Planted, files_of_at_most, interrupt, settled, small

from hvmodel.cli import main
from hvmodel.drivers import register
from hvmodel.jobs.nightly import report
from hvmodel.jobs.nightly.state import load

SIGNATURE = "no-stale-mapping/unmap_pages/3f9a2c1d"


@pytest.fixture(scope="module", autouse=True)
def rested() -> Iterator[None]:
    """Workers start light."""
    with settled():
        yield


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Nights of a second."""
    with small(monkeypatch):
        yield


def nightly(state: Path, day: int, *more: str) -> int:
    """The exit status of a small night."""
    kept = state.parent / "kept"
    kept.mkdir(exist_ok=True)
    arguments = ["--budget", "10m", "--jobs", "1", "--portion", str(RUNS), "--corpus", str(kept), "--date", f"2026-11-{day}"]
    return main(["nightly", "--driver", NAME, "--state", str(state), *arguments, *more])


def test_a_defect_from_night_to_night(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Protects the way people use it: a new finding is printed with its trace and its summary and the status is 1; under an excuse
    it is 0; the same night again does nothing and says so."""
    register(Planted)
    state = tmp_path / "state"
    assert nightly(state, 20) == 1
    out = capsys.readouterr().out
    (signature,) = load(state, NAME).ledger.entries
    assert out.startswith(f"{NAME}, night of 2026-11-20: 1 new, 0 known, 0 fixed, 0 excused.\n  new: memory: map_pages: ")
    assert signature in out
    assert str(state / "traces") in out
    for name in ("summary.md", "summary.html"):
        assert str(state / name) in out
        assert signature in (state / name).read_text()
    assert nightly(state, 20) == 1
    assert "is over already" in capsys.readouterr().out
    assert main(["excuse", signature, "--until", "2026-11-30", "--reason", "waits for v2", "--state", str(state)]) == 0
    assert capsys.readouterr().out == f"{signature} is excused until 2026-11-30\n"
    assert nightly(state, 21) == 0
    assert "0 new, 0 known, 0 fixed, 1 excused." in capsys.readouterr().out


def test_an_interrupt_is_no_failure(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Protects Ctrl-C: status 130, a summary of what there is, and the word how to go on."""
    monkeypatch.setattr(report, "progress_printer", lambda: Once(1, interrupt))
    assert nightly(tmp_path / "state", 20) == 130
    said = capsys.readouterr()
    assert "Shard 1/1 was interrupted." in said.out
    assert "interrupted; the same command resumes the night with" in said.err
    assert (tmp_path / "state" / "summary.md").exists()


def test_shards_are_merged_in_any_order(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Protects the sharded night: merged in one order or the other, once or twice, the state is the same down to its bytes, the
    summary is of both shards, and the status is the night's."""
    register(Planted)
    states = [tmp_path / str(index) for index in (1, 2)]
    for index, state in enumerate(states, 1):
        assert nightly(state, 20, "--shard", f"{index}/2") in (0, 1)
    (tmp_path / "1" / "excuses").write_text(f"{SIGNATURE} 2026-12-01 not now\n")
    capsys.readouterr()
    assert main(["merge", *map(str, states), "--into", str(tmp_path / "one")]) == 1
    out = capsys.readouterr().out
    assert f"2 states joined into {tmp_path / 'one'}: 2 nights, 1 findings\n{NAME}, night of 2026-11-20: 1 new" in out
    assert main(["merge", *map(str, states[::-1]), "--into", str(tmp_path / "two")]) == 1
    assert main(["merge", str(states[0]), "--into", str(tmp_path / "two")]) == 1

    def files(state: Path) -> dict[str, bytes]:
        return {str(path.relative_to(state)): path.read_bytes() for path in state.rglob("*") if path.is_file()}

    assert files(tmp_path / "one") == files(tmp_path / "two")
    assert {"ledger.json", "excuses", "summary.md", "summary.html"} <= set(files(tmp_path / "one"))
    assert "| 2/2 | `walk` |" in (tmp_path / "one" / "summary.md").read_text()


def test_a_full_disk_prints_what_it_did_not_take(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Protects findings on a disk that takes nothing: the status is 5, the summary and the findings go to stdout, with the word
    where to put them."""
    register(Planted)
    (tmp_path / "state").mkdir()
    with files_of_at_most(30):
        assert nightly(tmp_path / "state", 20) == 5
    said = capsys.readouterr()
    assert "cannot write the summary" in said.err
    assert "journal-99999.jsonl" in said.err
    assert f"# {NAME}, night of 2026-11-20" in said.out
    kept = [json.loads(line) for line in said.out.splitlines() if line.startswith('{"r":')]
    assert [record["r"] for record in kept] == ["plan", "finding"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["nightly"], "--state"),
        (["nightly", "--state", "S", "--driver", "none"], "no driver is called 'none'"),
        (["nightly", "--state", "S", "--budget", "soon"], "'soon' is no time such as 300s, 5m or 8h"),
        (["nightly", "--state", "S", "--budget", "0"], "a night takes 1 second to 7 days"),
        (["nightly", "--state", "S", "--shard", "5/4"], "shard 5/4: must be from 1/N to N/N"),
        (["nightly", "--state", "S", "--date", "tomorrow"], "'tomorrow' is no date"),
        (["nightly", "--state", "S", "--jobs", "0"], "0 is not in 1 to 1024"),
        (["nightly", "--state", "S", "--corpus", "S/none"], "none: no directory"),
        (["nightly", "--state", "S/bad", "--budget", "1s"], "ledger.json: not JSON"),
        (["nightly", "--state", "S/file", "--budget", "1s"], "cannot write to"),
        (["nightly", "--state", "S/excused", "--budget", "1s"], "excuses, line 1: needs a signature, a date and a reason"),
        (["merge", "--into", "S/new"], "DIR"),
        (["merge", "S/none", "--into", "S/new"], "none: no ledger.json"),
        (["merge", "S/bad", "--into", "S/new"], "ledger.json: not JSON"),
        (["excuse", "x", "--until", "2026-11-30", "--reason", "y", "--state", "S"], "'x' is no signature"),
        (["excuse", SIGNATURE, "--until", "soon", "--reason", "y", "--state", "S"], "'soon' is no date"),
        (["excuse", SIGNATURE, "--until", "2026-11-30", "--reason", " ", "--state", "S"], "an excuse needs a reason"),
        (["excuse", SIGNATURE, "--until", "2026-11-30", "--reason", "y", "--state", "S/none"], "no ledger.json"),
    ],
)
def test_wrong_use_is_one_line(arguments: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Protects the person at the keyboard: what was wrong in one line, status 2, nothing begun."""
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "ledger.json").write_text("{")
    (tmp_path / "file").write_text("")
    (tmp_path / "excused").mkdir()
    (tmp_path / "excused" / "excuses").write_text("hm\n")
    given = [str(tmp_path / text[2:]) if text.startswith("S/") else str(tmp_path) if text == "S" else text for text in arguments]
    status: int | str | None
    try:
        status = main(given)
    except SystemExit as stop:
        status = stop.code
    shown = capsys.readouterr()
    assert status == 2
    assert said in shown.err
    assert shown.err.count("\n") == 1
    assert shown.out == ""
    assert not (tmp_path / "work").exists()


def test_other_drivers_are_kept_apart(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Protects a state from another driver's findings: a directory belongs to one driver, and states of two are not merged."""
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    (tmp_path / "one" / "ledger.json").write_text('{"hvmodel-ledger": 1, "driver": "repaired"}')
    (tmp_path / "two" / "ledger.json").write_text('{"hvmodel-ledger": 1, "driver": "posted-v0"}')
    assert nightly(tmp_path / "one", 20) == 2
    assert "is the state of driver repaired; each driver needs a directory of its own" in capsys.readouterr().err
    assert main(["merge", str(tmp_path / "one"), str(tmp_path / "two"), "--into", str(tmp_path / "both")]) == 2
    assert "the ledgers are of different drivers: posted-v0, repaired" in capsys.readouterr().err
    assert main(["merge", str(tmp_path / "one"), "--into", str(tmp_path / "both")]) == 0, "no night yet"
