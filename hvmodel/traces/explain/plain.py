"""Text of a trace made harmless: a file can hold any characters, and a terminal, a mail and a browser each obey some of them."""

from __future__ import annotations

from collections.abc import Iterable

MOST = 300
"""Characters of one text of a file that are shown; the rest is counted."""


def plain(text: str, most: int = MOST) -> str:
    """One line without control characters, bidirectional overrides, line breaks or lone surrogates: these come out as escapes, as
    Python spells them. At most ``most`` characters of the text, then how many more there are."""
    shown = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text[:most])
    return shown if len(text) <= most else f"{shown} ... and {len(text) - most} more characters"


def code(text: str, most: int = MOST) -> str:
    """The same in backquotes, out of which it cannot break: in a page it is shown as it is, whatever markup it holds."""
    shown = plain(text, most).replace("`", "'").strip()
    return f"`{shown}`" if shown else "(empty)"


def only_ascii(text: str) -> str:
    """For an output that has no other characters."""
    return text if text.isascii() else text.encode("ascii", "backslashreplace").decode("ascii")


def counted(number: int, word: str, plural: str = "") -> str:
    """``1 page``, ``4,096 pages``."""
    return f"{number:,} {word if number == 1 else plural or word + 's'}"


def ordinal(number: int) -> str:
    """``1st``, ``2nd``, ``13th``."""
    ending = "th" if number % 100 in (11, 12, 13) else {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    return f"{number}{ending}"


def size(pages: int) -> str:
    """4 KiB pages as a size: ``4 KiB``, ``16 MiB``, ``4100 KiB``."""
    amount = pages << 2
    for unit in ("KiB", "MiB", "GiB", "TiB", "PiB"):
        if amount % 1024 or unit == "PiB":
            return f"{amount} {unit}"
        amount >>= 10
    raise AssertionError("the last unit returns")


def span(pages: int) -> str:
    """``16 pages (64 KiB)``."""
    return f"{counted(pages, 'page')} ({size(pages)})"


MAX_LINES = 8
"""Entries of one list that are shown; the rest is counted."""


def at_most(lines: Iterable[str]) -> tuple[str, ...]:
    """The first lines of a list, then how many more there are."""
    found = tuple(lines)
    return found if len(found) <= MAX_LINES else (*found[:MAX_LINES], f"... and {len(found) - MAX_LINES:,} more")


__all__ = ["at_most", "code", "counted", "only_ascii", "ordinal", "plain", "size", "span"]
