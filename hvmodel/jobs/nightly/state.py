"""The state directory: where things are, how they are read and written, and what an earlier night left unfinished.

::

    DIR/ledger.json            findings by signature, a record of each night (``ledger_file.py``)
    DIR/excuses                findings that are excused, to be edited by hand
    DIR/states/NIGHT.json      in how many sampled runs each abstract state was met
    DIR/traces/SIGNATURE.json  the best trace of each finding, for people; made from the ledger
    DIR/work/NIGHT/            journals of a night that is not over
    DIR/summary.md, .html      what the last night says

A directory belongs to one driver.
"""

from __future__ import annotations

import errno
import fcntl
import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from hvmodel.jobs.nightly.excuses import BadExcuse, Excuse, read_excuses, write_excuses
from hvmodel.jobs.nightly.join import Books
from hvmodel.jobs.nightly.journal import records, write_whole
from hvmodel.jobs.nightly.ledger import Ledger
from hvmodel.jobs.nightly.ledger_file import BadLedger, ledger_text, read_ledger
from hvmodel.jobs.nightly.plan import Plan, plan_of


class BadState(ValueError):
    """A state directory that cannot be used; the text says why in one line."""


def work_directory(state: Path, night: str) -> Path:
    """Where a night keeps its journals."""
    return state / "work" / night


@contextmanager
def locked(state: Path) -> Iterator[None]:
    """Nobody else works in this directory meanwhile. Raises BadState if somebody does, or if it cannot be written at all; a full
    disk is no reason. The lock ends with the process, however that ends."""
    try:
        state.mkdir(parents=True, exist_ok=True)
        file = (state / "lock").open("a")
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            yield
            return
        raise BadState(f"cannot write to {error.filename or state}: {error.strerror}") from None
    with file:
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise BadState(f"another night or merge is at work in {state}") from None
        yield


def load(state: Path, driver: str | None) -> Books:
    """What a state directory knows; without a ledger there, nothing of ``driver``. Raises BadState."""
    text = _text(state / "ledger.json")
    try:
        if text is not None:
            ledger = read_ledger(text, str(state / "ledger.json"))
        elif driver is not None:
            ledger = Ledger(driver)
        else:
            raise BadState(f"{state}: no ledger.json, so no state of a night")
        excuses = read_excuses(_text(state / "excuses") or "", str(state / "excuses"))
    except (BadLedger, BadExcuse) as bad:
        raise BadState(str(bad)) from None
    if driver is not None and ledger.driver != driver:
        raise BadState(f"{state} is the state of driver {ledger.driver}; each driver needs a directory of its own")
    states = {name: counts for name in ledger.nights if (counts := _states(state / "states" / f"{name}.json")) is not None}
    return Books(ledger, states, excuses)


def _text(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        raise BadState(f"{path}: {getattr(error, 'strerror', None) or 'not a text file'}") from None


def _states(path: Path) -> dict[str, int] | None:
    text = _text(path)
    if text is None:
        return None
    try:
        data = json.loads(text)
    except (ValueError, RecursionError):
        raise BadState(f"{path}: not JSON") from None
    if not isinstance(data, dict) or not all(isinstance(count, int) and count > 0 for count in data.values()):
        raise BadState(f"{path}: must be states and how often they were met")
    return data


def save(state: Path, books: Books, with_excuses: bool = False) -> None:
    """Write all of it; each file is the old one or the new one at any time. Raises OSError. The traces, which are made from the
    ledger, come last: a disk may fill up. Excuses are a person's file and are written only if asked."""
    for name, counts in books.states.items():
        _write(state / "states" / f"{name}.json", json.dumps(counts, sort_keys=True, separators=(",", ":")) + "\n")
    if with_excuses and books.excuses:
        write_whole(state / "excuses", write_excuses(books.excuses.values()))
    write_whole(state / "ledger.json", ledger_text(books.ledger))
    for entry in books.ledger.entries.values():
        _write(state / "traces" / entry.file, entry.text + "\n")
    for path in (state / "states").glob("*.json"):
        if path.stem not in books.states:
            path.unlink(missing_ok=True)


def _write(path: Path, text: str) -> None:
    """Write a file if that changes it."""
    if not path.exists() or path.read_bytes() != text.encode():
        write_whole(path, text)


def add_excuse(state: Path, excuse: Excuse) -> None:
    """Add a line to the file of excuses; what a person wrote there stays. Raises OSError, BadState."""
    path = state / "excuses"
    text = _text(path)
    if text is None:
        write_whole(path, write_excuses([excuse]))
        return
    line = f"{excuse.signature}  {excuse.until}  {excuse.reason}\n"
    others = [old for old in text.splitlines() if old.split(None, 1)[:1] != [excuse.signature]]
    write_whole(path, "".join(f"{old}\n" for old in others) + line)


# --- nights that are not over ---------------------------------------------------------------------------------------------------


def plan_in(directory: Path) -> Plan | None:
    """The plan of the night that has its journals in a directory, or None if there are none. Raises OSError."""
    for record in records(directory):
        if record["r"] == "plan":
            with suppress(KeyError, TypeError, ValueError):
                return plan_of(record)
    return None


def unfinished(state: Path) -> list[tuple[Plan, Path]]:
    """The nights whose journals are still there, the oldest first. Raises BadState."""
    try:
        found = [(plan_in(path), path) for path in sorted((state / "work").glob("*")) if path.is_dir()]
    except OSError as error:
        raise BadState(f"{error.filename or state}: {error.strerror}") from None
    return [(plan, path) for plan, path in found if plan is not None and plan.name == path.name]


def forget(state: Path, night: str) -> None:
    """Remove the journals of a night, once the ledger has it."""
    shutil.rmtree(work_directory(state, night), ignore_errors=True)
    with suppress(OSError):
        (state / "work").rmdir()
