"""Where a verb's text goes: to standard output, or to a file that is there only when it is whole."""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path

from hvmodel.cli.arguments import usage


def same_file(one: Path, other: Path) -> bool:
    """Whether two paths are one file that exists."""
    try:
        return one.samefile(other)
    except (OSError, ValueError):
        return False


def write(text: str, out: Path | None) -> int:
    """Write a text as UTF-8; returns 0, or the exit status of wrong use after one line that says why it cannot be written."""
    data = text.encode()
    if out is None:
        sys.stdout.flush()
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()
        return 0
    part = out.with_name(out.name + ".part")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        part.write_bytes(data)
        part.replace(out)
    except (OSError, ValueError) as error:
        with contextlib.suppress(OSError, ValueError):
            part.unlink(missing_ok=True)
        return usage(f"cannot write to {out}: {getattr(error, 'strerror', None) or error}")
    return 0
