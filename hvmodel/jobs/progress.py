"""The line that says where a job is: on stderr, so that the report can be piped."""

from __future__ import annotations

import sys
import time


class Line:
    """Renews itself on a terminal, twice a second at most; elsewhere it is a line ``every`` so many seconds, the ``first`` after so
    many."""

    def __init__(self, every: float = 10.0, first: float = 5.0) -> None:
        self._terminal = sys.stderr.isatty()
        self._every = 0.5 if self._terminal else every
        self._last = time.monotonic() - (0.0 if self._terminal else every - first)

    def due(self, at_once: bool = False) -> bool:
        """Whether it is time for the next line, which then is to be shown; ``at_once`` says that it is."""
        now = time.monotonic()
        if not at_once and now - self._last < self._every:
            return False
        self._last = now
        return True

    def show(self, text: str) -> None:
        """Show a line."""
        print(f"\r{text}\033[K" if self._terminal else text, end="" if self._terminal else "\n", file=sys.stderr, flush=True)


def erase() -> None:
    """Take the line off a terminal: the report comes."""
    if sys.stderr.isatty():
        print("\r\033[K", end="", file=sys.stderr, flush=True)


__all__ = ["Line", "erase"]
