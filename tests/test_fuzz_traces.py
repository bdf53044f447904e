"""Mutated trace files in small, and that the fuzzer sees what it is there to see."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from hvmodel.cli import main
from hvmodel.jobs import fuzz_traces
from hvmodel.traces.format import Trace, TraceError, from_json, to_json


def test_mutated_files_end_in_a_trace_or_a_line() -> None:
    """Protects everything that reads a trace file: no traceback, no hang; and the files are worth it: some read, most do not."""
    tally = fuzz_traces.portion(("suite", 400))
    assert tally.problems == []
    assert tally.files == 400
    assert tally.refused > 100
    assert min(tally.replayed[status] for status in (0, 1, 2)) > 0
    assert tally.explained
    assert fuzz_traces.portion(("suite", 40)).refused == fuzz_traces.portion(("suite", 40)).refused


@pytest.mark.parametrize(
    ("what", "problem"),
    [
        (KeyError("op"), "KeyError: 'op'"),
        (TraceError("no file named"), "not one printable line"),
        (RecursionError("deep"), "RecursionError: deep"),
    ],
)
def test_a_traceback_is_a_problem(monkeypatch: pytest.MonkeyPatch, what: Exception, problem: str) -> None:
    """Protects against a fuzzer that cannot fail: any other exception, and a line without the file's name, is reported."""

    def broken(_path: Path) -> Trace:
        raise what

    monkeypatch.setattr(fuzz_traces, "read", broken)
    tally = fuzz_traces.portion(("x", 3))
    assert len(tally.problems) == 3
    assert all(problem in line for line in tally.problems)


def test_a_hang_is_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    """Protects against waiting for ever: a file that takes too long is reported and the next one is taken."""

    def endless(_path: Path) -> Trace:
        while True:
            time.sleep(0.01)

    monkeypatch.setattr(fuzz_traces, "HANG", 0.05)
    monkeypatch.setattr(fuzz_traces, "read", endless)
    assert fuzz_traces.portion(("x", 2)).problems == [f"seed x, file {n}: more than 0.05 s" for n in (0, 1)]


def test_the_verb(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Protects the verb: figures on the screen, 0 without problems and 1 with one."""
    assert main(["fuzz-traces", "--files", "60", "--jobs", "2"]) == 0
    out = capsys.readouterr().out
    assert "60 files in " in out
    assert "0 problems" in out
    monkeypatch.setattr(fuzz_traces, "replay", lambda *_arguments: 1 / 0)
    assert main(["fuzz-traces", "--files", "60", "--jobs", "1"]) == 1
    assert "ZeroDivisionError" in capsys.readouterr().out


def test_a_kernel_service_has_no_status() -> None:
    """Protects reading back what was written: a status that a file gives a kernel service means nothing and is not kept."""
    operation = '{"op": "boot", "faults": [{"site": "kzalloc", "status": "0x83"}]}'
    trace = from_json(f'{{"hvmodel-trace": 2, "operations": [{operation}]}}')
    assert trace.operations[0].faults[0].status == 0
    assert from_json(to_json(trace)) == trace
