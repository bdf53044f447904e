"""What a night writes while it works: journals that only grow, and files that are whole or not there at all.

Each process has a journal of its own, so that nothing needs a lock; each line is a JSON object and is on the disk when ``append``
returns. A line that was cut off by a kill or a full disk is skipped when the journal is read.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

Record = dict[str, Any]
"""One line of a journal; ``r`` says what it is."""


class Journal:
    """One process's journal in a directory, with a number that no other journal there has. Made at the first append."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._file = -1
        self._size = 0

    def append(self, record: Record) -> None:
        """Write a record and wait until the disk has it. Raises OSError, and then the journal is as it was."""
        line = (json.dumps(record, separators=(",", ":")) + "\n").encode()
        if self._file < 0:
            self._file = _fresh(self.directory)
        try:
            done = 0
            while done < len(line):
                done += os.write(self._file, line[done:])
            os.fsync(self._file)
            self._size += len(line)
        except OSError:
            with contextlib.suppress(OSError):
                os.ftruncate(self._file, self._size)
                os.lseek(self._file, self._size, os.SEEK_SET)
            raise

    def close(self) -> None:
        """No more records."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1


def _fresh(directory: Path) -> int:
    directory.mkdir(parents=True, exist_ok=True)
    number = 1 + max((int(path.stem.rpartition("-")[2]) for path in journals(directory)), default=0)
    while True:
        try:
            return os.open(directory / f"journal-{number:05d}.jsonl", os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
        except FileExistsError:
            number += 1


def journals(directory: Path) -> list[Path]:
    """The journals in a directory, the oldest first."""
    return sorted(path for path in directory.glob("journal-*.jsonl") if path.stem.rpartition("-")[2].isdecimal())


def records(directory: Path) -> Iterator[Record]:
    """All records of all journals in a directory; lines that are no record are skipped. Raises OSError."""
    for path in journals(directory):
        with path.open("rb") as file:
            for line in file:
                record = parse(line)
                if record is not None:
                    yield record


def parse(line: bytes) -> Record | None:
    """The record in a line, or None if the line is none (cut off, or not ours)."""
    if not line.endswith(b"\n"):
        return None
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return record if isinstance(record, dict) and isinstance(record.get("r"), str) else None


def write_whole(path: Path, text: str) -> None:
    """Replace a file so that at every moment it is the old one or the new one, and on the disk when this returns. Raises OSError,
    and then the old one is there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    try:
        with part.open("w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    except OSError:
        with contextlib.suppress(OSError):
            part.unlink()
        raise
    with contextlib.suppress(OSError):
        directory = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)
