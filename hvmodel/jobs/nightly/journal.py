"""What a night writes while it works: journals that only grow, and files that are whole or not there at all.

Each process has a journal of its own, so that nothing needs a lock; each line is a JSON object and is on the disk when ``append``
returns. A line that was cut off by a kill or a full disk is skipped when the journal is read: nothing before it is lost.
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
    """One process's journal in a directory, with a number that no other journal there has. Made at the first append; ``head`` is
    its first record, so that a journal alone says which night it is of."""

    def __init__(self, directory: Path, head: Record) -> None:
        self.directory, self.head = directory, head
        self._file = -1
        self._size = 0

    def append(self, record: Record) -> None:
        """Write a record and wait until the disk has it. Raises OSError, and then the journal is as it was."""
        if self._file < 0:
            self._file = _fresh(self.directory)
        text = b"".join(map(_line, (record,) if self._size else (self.head, record)))
        try:
            done = 0
            while done < len(text):
                done += os.pwrite(self._file, text[done:], self._size + done)
            os.fsync(self._file)
        except OSError:
            with contextlib.suppress(OSError):
                os.ftruncate(self._file, self._size)
            raise
        self._size += len(text)

    def close(self) -> None:
        """No more records."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1


def _line(record: Record) -> bytes:
    return (json.dumps(record, separators=(",", ":")) + "\n").encode()


def _fresh(directory: Path) -> int:
    directory.mkdir(parents=True, exist_ok=True)
    number = 1 + max((int(path.stem.rpartition("-")[2]) for path in journals(directory)), default=0)
    while True:
        try:
            file = os.open(directory / f"journal-{number:05d}.jsonl", os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
        except FileExistsError:
            number += 1
        else:
            _sync(directory)
            return file


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
    _sync(path.parent)


def _sync(directory: Path) -> None:
    """Have the names in a directory on the disk, too, where the file system can do that."""
    with contextlib.suppress(OSError):
        file = os.open(directory, os.O_RDONLY)
        try:
            os.fsync(file)
        finally:
            os.close(file)
