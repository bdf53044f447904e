"""What the verbs share: how arguments are read, and how wrong use is answered."""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

from rich.console import Console

from hvmodel.drivers import REGISTRY, no_such_driver
from hvmodel.traces.format import Trace, TraceError, read

Run = Callable[[argparse.Namespace, Console], int]
"""A verb: does what the arguments say, prints to the console, returns the exit status."""


class Parser(argparse.ArgumentParser):
    """Wrong use is one line and status 2."""

    def error(self, message: str) -> NoReturn:
        """One line, status 2."""
        self.exit(2, f"{self.prog}: {message} (see {self.prog} --help)\n")


Verbs = Any
"""What ``add_subparsers`` returns; each module of this package adds its verbs to it with ``set_defaults(run=...)``."""


def number(low: float, high: float, whole: bool = True) -> Callable[[str], float | int]:
    """A type for argparse: a number (hex with 0x) from ``low`` to ``high``."""

    def parse(text: str) -> float | int:
        try:
            value = int(text, 0) if whole else float(text)
        except ValueError:
            raise argparse.ArgumentTypeError(f"{text!r} is no number") from None
        if not low <= value <= high:
            raise argparse.ArgumentTypeError(f"{text} is not in {low:g} to {high:g}")
        return value

    return parse


def usage(text: str) -> int:
    """Say what is wrong in one line on stderr; the exit status of wrong use."""
    print(f"hvmodel: {text}", file=sys.stderr)
    return 2


def unknown_driver(name: str) -> str | None:
    """What to say about a name that no driver has; None if one has."""
    return None if name in REGISTRY else no_such_driver(name)


def trace_for(path: Path, driver: str | None) -> tuple[Trace, str]:
    """The trace in a file, and the driver to use it on: the given one, else the one that it names. Raises TraceError with a line
    for the person at the keyboard."""
    trace = read(path)
    problem = unknown_driver(driver or trace.driver)
    if problem:
        raise TraceError(problem if driver else f"{path}: {problem}; --driver chooses another")
    return trace, driver or trace.driver


def cannot_write(*paths: Path | None) -> str | None:
    """Why one of the files cannot be written, found out before the work is done, or None."""
    for path in paths:
        if path is not None:
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
                path.open("a").close()
            except OSError as error:
                return f"cannot write to {error.filename or path}: {error.strerror}"
    return None


def cannot_fill(directory: Path) -> str | None:
    """Why no file can be made in a directory, or None; makes it if need be."""
    try:
        directory.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=directory).close()
    except OSError as error:
        return f"cannot write to {error.filename or directory}: {error.strerror}"
    return None
