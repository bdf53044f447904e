"""What a night writes down: torn lines, a full disk, files that are whole or not there."""

from __future__ import annotations

import errno
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from small_nights import files_of_at_most

from hvmodel.jobs.nightly import journal as journals
from hvmodel.jobs.nightly.journal import Journal, Record, records, write_whole
from hvmodel.jobs.nightly.notes import Notes
from hvmodel.jobs.nightly.plan import make_plan, shard
from hvmodel.jobs.nightly.portions import Done, done_of
from hvmodel.jobs.nightly.state import BadState, locked, plan_in, unfinished, work_directory
from hvmodel.jobs.nightly.takings import Takings

PLAN = make_plan("repaired", "2026-11-24", shard("1/1"), 0, 300)


def done(number: int) -> Record:
    """The record of a portion."""
    return {**Done(f"walk/{number}", operations=number, runs=1, kinds={"é": 1}).as_record(), "found": {}}


def written(directory: Path, count: int) -> list[Record]:
    """A journal with so many portions; all its records."""
    journal = Journal(directory, PLAN.as_record())
    for number in range(count):
        journal.append(done(number))
    journal.close()
    return [PLAN.as_record(), *map(done, range(count))]


def test_a_torn_journal_loses_nothing_before_the_tear(tmp_path: Path) -> None:
    """Protects what was found: a journal that ends at any byte, as after a kill or a full disk, gives all whole records before that
    byte, no other, and no traceback; the night counts just these."""
    wanted = written(tmp_path, 2)
    path = journals.journals(tmp_path)[0]
    whole = path.read_bytes()
    ends = [place + 1 for place, byte in enumerate(whole) if byte == 10]
    assert len(ends) == len(wanted)
    for size in range(len(whole) + 1):
        path.write_bytes(whole[:size])
        kept = sum(end <= size for end in ends)
        assert list(records(tmp_path)) == json.loads(json.dumps(wanted[:kept])), size
        assert plan_in(tmp_path) == (PLAN if kept else None)
        takings = Takings()
        for record in records(tmp_path):
            takings.take(record)
        assert takings.tally.operations == 0
        assert takings.done == {f"walk/{number}" for number in range(kept - 1)}


def test_a_damaged_line_costs_itself_only(tmp_path: Path) -> None:
    """Protects against a disk that hands back something else: a line that is no record is skipped, what follows it is read."""
    written(tmp_path, 3)
    path = journals.journals(tmp_path)[0]
    lines = path.read_bytes().splitlines(keepends=True)
    zeros, deep = b"\x00" * 20 + b"\n", b"[" * 99_999 + b"\n"
    for junk in (zeros, b'{"r": 3}\n', b"[]\n", b"\xff\xfe\n", b"\n", b'{"r": "done", "portion": {}}\n', deep):
        path.write_bytes(b"".join([*lines[:2], junk, *lines[2:]]))
        takings = Takings()
        for record in records(tmp_path):
            takings.take(record)
        assert takings.done == {"walk/0", "walk/1", "walk/2"}


def test_each_process_has_a_journal_of_its_own(tmp_path: Path) -> None:
    """Protects against two writers in one file: each takes the next number, begins with the night's plan, and is made only when
    there is something to say."""
    some = [Journal(tmp_path / "work", PLAN.as_record()) for _ in range(3)]
    assert not (tmp_path / "work").exists()
    for number, journal in enumerate(some):
        journal.append(done(number))
    names = [path.name for path in journals.journals(tmp_path / "work")]
    assert names == ["journal-00001.jsonl", "journal-00002.jsonl", "journal-00003.jsonl"]
    assert [record["r"] for record in records(tmp_path / "work")] == ["plan", "done"] * 3
    for journal in some:
        journal.close()


def test_a_full_disk_leaves_no_half_line(tmp_path: Path) -> None:
    """Protects the journal itself: a record that does not fit is refused whole, what was there stays, and the next one that fits
    follows it."""
    journal = Journal(tmp_path, PLAN.as_record())
    journal.append(done(0))
    path = journals.journals(tmp_path)[0]
    before = path.read_bytes()
    with files_of_at_most(len(before) + 40), pytest.raises(OSError, match="too large"):
        journal.append(done(1))
    assert path.read_bytes() == before
    journal.append(done(2))
    journal.close()
    assert [record.get("portion") for record in records(tmp_path)] == [PLAN.portion, "walk/0", "walk/2"]


def test_what_the_disk_did_not_take_is_tried_again(tmp_path: Path) -> None:
    """Protects findings of a night on a full disk: they wait in memory, the trouble is said once, and they are written down in
    their order as soon as there is room; that is said, too."""
    said: list[str] = []
    notes = Notes(Journal(tmp_path / "work", PLAN.as_record()), said.append)
    with files_of_at_most(20):
        notes.write(done(0))
        notes.take_over(done(1))
        assert not notes.write_if_possible({"r": "clock"})
        notes.retry()
        assert [record["portion"] for record in notes.unkept] == ["walk/0", "walk/1"]
        assert len(said) == 1
        assert said[0].endswith("File too large; the night goes on in memory")
    notes.retry()
    assert notes.unkept == []
    assert said[1:] == ["the disk takes records again; all that was found is written down"]
    assert [record["r"] for record in records(tmp_path / "work")] == ["plan", "done", "done"]
    notes.retry()
    assert len(said) == 2
    notes.journal.close()


def test_a_file_is_the_old_one_or_the_new_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Protects the ledger: a write that fails, whether for want of room or at the last step, leaves the old file and no litter."""
    path = tmp_path / "ledger.json"
    write_whole(path, "old")
    with files_of_at_most(2), pytest.raises(OSError, match="too large"):
        write_whole(path, "new one")
    assert [item.read_text() for item in tmp_path.iterdir()] == ["old"]

    def fail(*_: Any) -> None:
        raise OSError(errno.EIO, "broken")

    monkeypatch.setattr(Path, "replace", fail)
    with pytest.raises(OSError, match="broken"):
        write_whole(path, "new one")
    assert [item.read_text() for item in tmp_path.iterdir()] == ["old"]
    monkeypatch.undo()
    write_whole(path, "new one")
    assert [item.read_text() for item in tmp_path.iterdir()] == ["new one"]


def test_nights_that_are_not_over_are_found(tmp_path: Path) -> None:
    """Protects what a killed night left: its journals are found by themselves; what is no night is left alone."""
    later = make_plan("repaired", "2026-11-25", shard("1/2"), 0, 300)
    for plan in (later, PLAN):
        journal = Journal(work_directory(tmp_path, plan.name), plan.as_record())
        journal.append(done(0))
        journal.close()
    odd = work_directory(tmp_path, "2026-11-26.1of1")
    odd.mkdir()
    (odd / "journal-00001.jsonl").write_text(json.dumps(PLAN.as_record()) + "\n")
    (tmp_path / "work" / "note.txt").write_text("x")
    assert [plan for plan, _path in unfinished(tmp_path)] == [PLAN, later]
    assert unfinished(tmp_path / "elsewhere") == []


def test_one_job_at_a_time(tmp_path: Path) -> None:
    """Protects the state from two jobs: the second one is turned away in one line, and the lock goes with the process that held it,
    however that ended."""
    code = "import pathlib, sys, hvmodel.jobs.nightly.state as s\nwith s.locked(pathlib.Path(sys.argv[1])): print(); input()"
    with subprocess.Popen([sys.executable, "-uc", code, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        other.stdout.readline()
        with pytest.raises(BadState, match="another night or merge is at work"), locked(tmp_path):
            pass
        other.kill()
        other.wait()
    with locked(tmp_path):
        pass
    (tmp_path / "file").write_text("")
    with pytest.raises(BadState, match="cannot write to"), locked(tmp_path / "file" / "state"):
        pass


def test_records_read_back_equal() -> None:
    """Protects resuming: what a worker says of a portion is the same after it has been on the disk; what another program wrote
    under that name is refused."""
    record = done(3)
    assert done_of(json.loads(json.dumps(record))).as_record() == {key: value for key, value in record.items() if key != "found"}
    for field, value in (("portion", "walk"), ("portion", 3), ("tally", {"odd": 1}), ("tally", None)):
        with pytest.raises((ValueError, TypeError, AttributeError)):
            done_of({**record, field: value})
