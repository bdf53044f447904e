"""The command line as people and scripts meet it: statuses, one line for wrong use, pipes, and pytest's own options."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from hvmodel import __version__
from hvmodel import operations as ops
from hvmodel.cli import main
from hvmodel.configuration import Configuration
from hvmodel.traces.format import VERSION, Trace, write

DRIVER = "posted-v0"
ROOT = Path(__file__).parent.parent
ENVIRONMENT = {name: value for name, value in os.environ.items() if not name.startswith(("HVMODEL", "PYTEST"))}


@pytest.fixture
def fails(tmp_path: Path) -> Path:
    """A trace whose property fails."""
    return saved(tmp_path / "fails.json", "advertised-is-true")


@pytest.fixture
def holds(tmp_path: Path) -> Path:
    """The same trace, naming a property that holds; others fail."""
    return saved(tmp_path / "holds.json", "no-stale-mapping")


def saved(path: Path, name: str | None) -> Path:
    write(Trace(Configuration(), [ops.Boot(), ops.Alloc()], DRIVER, name), path)
    return path


def status(arguments: list[str]) -> int:
    """The exit status of a command, run in this process."""
    try:
        return main(arguments)
    except SystemExit as ended:
        return ended.code if isinstance(ended.code, int) else -1


def shell(command: str, **more: str) -> subprocess.CompletedProcess[str]:
    """A command in a shell, with ``$PYTHON`` and the project's root as the working directory."""
    environment = {**ENVIRONMENT, "PYTHON": sys.executable, "PYTHONPATH": str(ROOT), **more}
    return subprocess.run(["bash", "-c", command], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60)


# --- wrong use --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "hvmodel: the following arguments are required: VERB"),
        (["hnut"], "hvmodel: argument VERB: invalid choice: 'hnut' (choose from "),
        (["hunt", "--driver", "v9"], "hvmodel: no driver is called 'v9' (see hvmodel drivers)"),
        (["hunt", "--profile", "azure"], "hvmodel: no profile is called 'azure' (known: all, default, "),
        (["hunt", "--level", "high"], "hvmodel hunt: argument --level: invalid choice: 'high'"),
        (["hunt", "--budget", "soon"], "hvmodel hunt: argument --budget: 'soon' is no number"),
        (["hunt", "--budget", "0"], "hvmodel hunt: argument --budget: 0 is not in 0.1 to "),
        (["hunt", "--budget", "-1"], "hvmodel hunt: argument --budget: "),
        (["hunt", "--budget", "nan"], "hvmodel hunt: argument --budget: nan is not in "),
        (["hunt", "--budget", "inf"], "hvmodel hunt: argument --budget: inf is not in "),
        (["hunt", "--seed", "1.5"], "hvmodel hunt: argument --seed: '1.5' is no number"),
        (["hunt", "--seed", "-1"], "hvmodel hunt: argument --seed: "),
        (["hunt", "--seed", "9" * 30], "hvmodel hunt: argument --seed: "),
        (["hunt", "--jobs", "0"], "hvmodel hunt: argument --jobs: 0 is not in 1 to 1024"),
        (["hunt", "--jobs", ""], "hvmodel hunt: argument --jobs: '' is no number"),
        (["hunt", "--color"], "hvmodel: unrecognized arguments: --color"),
        (["replay"], "hvmodel replay: the following arguments are required: trace"),
        (["bench", "--driver", "v9"], "hvmodel: no driver is called 'v9'"),
        (["bench", "--seconds", "0"], "hvmodel bench: argument --seconds: 0 is not in 1 to 600"),
        (["fuzz-hypervisor", "--calls", "many"], "hvmodel fuzz-hypervisor: argument --calls: 'many' is no number"),
    ],
    ids=lambda value: " ".join(value) or "nothing" if isinstance(value, list) else "",
)
def test_wrong_use_is_one_line_and_status_2(arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Protects the person who mistypes: one line on stderr that says what is wrong, nothing on stdout, nothing is started."""
    assert status(arguments) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(said)
    assert err.count("\n") == 1
    assert err.endswith("\n")


def test_a_place_that_cannot_be_written_is_said_before_the_hunt(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Protects an hour of hunting: where results cannot be written is found out before, not after; one line, status 2."""
    file = tmp_path / "file"
    file.touch()
    for option in (["--out", str(file)], ["--out", str(file / "below")], ["--json", str(file / "report.json")]):
        where = [] if option[0] == "--out" else ["--out", str(tmp_path / "out")]
        assert status(["hunt", "--budget", "30", *where, *option]) == 2
        out, err = capsys.readouterr()
        assert (out, err.count("\n")) == ("", 1)
        assert err.startswith(f"hvmodel: cannot write to {file}"), err


def test_a_directory_for_the_report_is_said_before_the_hunt(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Protects the report: ``--json`` with a directory is refused at once, not with a traceback when the budget is spent."""
    assert status(["hunt", "--budget", "0.1", "--jobs", "1", "--out", str(tmp_path / "out"), "--json", str(tmp_path)]) == 2
    assert capsys.readouterr().err == f"hvmodel: cannot write to {tmp_path}: Is a directory\n"


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs a directory that nobody can write to")
def test_a_directory_that_takes_no_files_is_said_before_the_hunt(capsys: pytest.CaptureFixture[str]) -> None:
    """Protects the traces: a directory that exists and takes no files is refused at once, not when the budget is spent."""
    assert status(["hunt", "--budget", "0.1", "--jobs", "1", "--out", "/proc/self"]) == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert err.startswith("hvmodel: cannot write to /proc/self"), err


# --- what works -------------------------------------------------------------------------------------------------------


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    """Protects bug reports: the version can be asked for."""
    assert status(["--version"]) == 0
    assert capsys.readouterr().out == f"hvmodel {__version__}\n"


@pytest.mark.parametrize("verb", ["", "hunt", "replay", "drivers", "bench", "fuzz-hypervisor"])
def test_help(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Protects the first thing anybody does: every verb explains itself."""
    assert status([*([verb] if verb else []), "--help"]) == 0
    out, err = capsys.readouterr()
    assert out.startswith(f"usage: hvmodel {verb}".rstrip())
    assert err == ""


def test_drivers(capsys: pytest.CaptureFixture[str]) -> None:
    """Protects the list that the error messages refer to: every driver with one line about it."""
    from hvmodel.drivers import REGISTRY

    assert status(["drivers"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == list(REGISTRY)
    assert all(entry.summary in line for entry, line in zip(REGISTRY.values(), lines, strict=True))


def test_replay_statuses(fails: Path, holds: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Protects scripts: 1 if the named property fails, 0 if it holds, 1 with --all if any fails."""
    assert status(["replay", str(fails)]) == 1
    assert "advertised-is-true FAILS at step 2" in capsys.readouterr().out
    assert status(["replay", str(holds)]) == 0
    assert "no-stale-mapping holds" in capsys.readouterr().out
    assert status(["replay", "--all", str(holds)]) == 1
    assert "properties fail: " in capsys.readouterr().out


def test_replay_of_what_is_no_trace(tmp_path: Path, fails: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Protects against tracebacks for bad input: one line that names the file, and status 2."""
    future, bad = tmp_path / "future.json", tmp_path / "bad.json"
    future.write_text(fails.read_text().replace(f'"hvmodel-trace": {VERSION}', '"hvmodel-trace": 99'))
    bad.write_text(fails.read_text()[:-20])
    wrong = {
        tmp_path / "none.json": "No such file or directory",
        tmp_path: "Is a directory",
        future: f"hvmodel-trace: version 99 is newer than this harness reads ({VERSION}); update hvmodel",
        bad: "the file is cut off",
    }
    for path, why in wrong.items():
        assert status(["replay", str(path)]) == 2
        out, err = capsys.readouterr()
        assert (out + err).startswith(f"hvmodel replay: {path}: ")
        assert why in out + err
        assert (out + err).count("\n") == 1
    assert status(["replay", str(fails), "--driver", "v9"]) == 2
    out, err = capsys.readouterr()
    assert (out + err).startswith("hvmodel replay: no driver is called 'v9' (")
    assert (out + err).count("\n") == 1


def test_hunt_and_replay_what_it_found(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Protects the main road: hunt, look at the table, replay the line that it prints, read the report with a program."""
    out, report = tmp_path / "deep" / "out", tmp_path / "report" / "report.json"
    options = ["--driver", DRIVER, "--profile", "default", "--level", "kernel", "--budget", "1", "--seed", "0x7", "--jobs", "1"]
    assert status(["hunt", *options, "--out", str(out), "--json", str(report)]) == 1
    printed, _err = capsys.readouterr()
    assert "\x1b" not in printed
    data = json.loads(report.read_text())
    assert (data["driver"], data["seed"], data["profiles"]) == (DRIVER, 7, ["default"])
    hint = re.search(r"^For instance: .*(replay \S+)$", printed, re.M)
    assert hint is not None
    assert hint[1].split()[1] == data["findings"][0]["trace"]
    for finding in data["findings"][:5]:
        assert status(["replay", finding["trace"]]) == 1
        assert f"{finding['property']} FAILS at step {finding['operations']} " in capsys.readouterr().out


# --- as a process -----------------------------------------------------------------------------------------------------


def test_as_a_module(fails: Path, tmp_path: Path) -> None:
    """Protects ``python -m hvmodel``: the status of the process is the status of the verb."""
    assert shell("$PYTHON -m hvmodel --version").stdout == f"hvmodel {__version__}\n"
    replayed = shell(f"$PYTHON -m hvmodel replay {fails}")
    assert (replayed.returncode, replayed.stderr) == (1, "")
    missing = shell(f"$PYTHON -m hvmodel replay {tmp_path}/none.json")
    assert missing.returncode == 2
    assert (missing.stdout + missing.stderr).count("\n") == 1
    nothing = shell("$PYTHON -m hvmodel")
    assert (nothing.returncode, nothing.stderr.count("\n")) == (2, 1)


@pytest.mark.parametrize("verb", ["replay", "replay-long", "drivers"])
def test_a_reader_that_leaves_early(verb: str, fails: Path, tmp_path: Path) -> None:
    """Protects ``hvmodel replay ... | head -1``: no traceback when the pipe closes."""
    long = tmp_path / "long.json"
    write(Trace(Configuration(), [ops.Boot(), ops.Alloc()] + [ops.Lookup(1, page << 12) for page in range(3000)], DRIVER), long)
    command = {"replay": f"replay {fails}", "replay-long": f"replay {long}", "drivers": "drivers"}[verb]
    for reader in ("head -1", "true"):
        piped = shell(f"$PYTHON -m hvmodel {command} | {reader}")
        assert piped.stderr == ""
        assert piped.stdout.count("\n") <= 1


def test_no_escape_codes_where_no_terminal_is(fails: Path) -> None:
    """Protects logs and files: without a terminal, or with NO_COLOR, output holds no escape codes."""
    command = f"$PYTHON -m hvmodel replay {fails}"
    plain = shell(command, TERM="xterm-256color")
    assert "\x1b" not in plain.stdout + plain.stderr
    assert "advertised-is-true FAILS" in plain.stdout
    if shell("command -v script").returncode == 0:
        terminal = f"script -qec '{command}' /dev/null </dev/null"
        assert "\x1b[" in shell(terminal, TERM="xterm-256color").stdout, "on a terminal there is colour"
        colours = re.findall(r"\x1b\[[0-9;]*m", shell(terminal, TERM="xterm-256color", NO_COLOR="1").stdout)
        assert not [code for code in colours if re.search(r"[\[;](3|4|9)[0-9]", code)]


def test_a_name_that_is_no_text(tmp_path: Path) -> None:
    """Protects against a traceback for a file name that is not UTF-8."""
    replayed = shell(f"cd {tmp_path}; $PYTHON -m hvmodel replay $'\\xff.json'", PYTHONIOENCODING="utf-8:strict")
    assert replayed.returncode == 2
    assert "Traceback" not in replayed.stderr
    assert (replayed.stdout + replayed.stderr).count("\n") == 1


# --- pytest's options -------------------------------------------------------------------------------------------------


def test_pytest_replays_traces(fails: Path, holds: Path, tmp_path: Path) -> None:
    """Protects ``pytest --replay``: each trace is one test, and nothing else runs."""
    command = "$PYTHON -m pytest -q -p no:cacheprovider tests/test_replay_option.py tests/test_ranges.py"
    good = shell(f"{command} --replay {holds}")
    assert (good.returncode, "1 passed" in good.stdout) == (0, True), good.stdout
    bad = shell(f"{command} --replay {holds} --replay {fails} --replay {tmp_path}/none.json")
    assert bad.returncode == 1
    assert "2 failed, 1 passed" in bad.stdout
    assert "advertised-is-true fails at step 2: " in bad.stdout
    assert f"{tmp_path}/none.json: No such file or directory" in bad.stdout
    assert "Traceback" not in bad.stdout + bad.stderr


def test_pytest_refuses_unknown_names() -> None:
    """Protects ``pytest --driver`` and ``--profile``: a name that nobody has is wrong use, not a test run."""
    for what in ("driver", "profile"):
        option, said = f"--{what} v9", f"--{what}: no {what} is called 'v9'"
        refused = shell(f"$PYTHON -m pytest -q {option}")
        assert refused.returncode == 4
        assert said in refused.stderr
        assert "Traceback" not in refused.stderr
