"""Reading JSON that people have edited: each check answers the value or one line that names the place."""

from __future__ import annotations

import json
from typing import Any


class TraceError(ValueError):
    """A trace that cannot be used; the text says what is wrong and where, in one line that any console can print."""

    def __init__(self, text: str) -> None:
        super().__init__("".join(c if c.isprintable() else ascii(c)[1:-1] for c in text))


def fail(where: str, what: str) -> TraceError:
    """What is wrong, with its place in front."""
    return TraceError(f"{where}: {what}" if where else what)


def obj(value: Any, where: str, known: set[str], what: str = "an object") -> dict[str, Any]:
    """A JSON object whose fields are all known; raises :class:`TraceError`."""
    if not isinstance(value, dict):
        raise fail(where, f"must be {what}, not {shown(value)}")
    for name in value:
        if name not in known:
            raise fail(f"{where}.{name}" if where else str(name)[:40], f"unknown field (known: {', '.join(sorted(known))})")
    return value


def shown(value: Any) -> str:
    """A value as an error message shows it: at most 40 characters."""
    try:
        text = json.dumps(value, default=str)
    except RecursionError:
        return "something nested that deeply"
    return text if len(text) <= 40 else text[:37] + "..."


def integer(value: Any, where: str, low: int, high: int) -> int:
    """A JSON number, or a string with a hex number."""
    if isinstance(value, str):
        text = value.strip()
        try:
            if len(text) > 20:
                raise ValueError
            value = int(text, 16) if text.lower().startswith("0x") else int(text)
        except ValueError:
            raise fail(where, f'must be a number such as 4096 or "0x1000", not {shown(value)}') from None
    if not isinstance(value, int) or isinstance(value, bool):
        raise fail(where, f"must be a number, not {shown(value)}")
    if not low <= value <= high:
        raise fail(where, f"must be {low} to {high:#x}, not {shown(value)}")
    return value


def choice(value: Any, where: str, options: Any) -> str:
    """One of some words."""
    if not isinstance(value, str) or value not in options:
        raise fail(where, f"must be one of {', '.join(map(repr, options))}, not {shown(value)}")
    return value


def boolean(value: Any, where: str) -> bool:
    """true or false."""
    if not isinstance(value, bool):
        raise fail(where, f"must be true or false, not {shown(value)}")
    return value


def array(value: Any, where: str, most: int) -> list[Any]:
    """A list with at most ``most`` entries."""
    if not isinstance(value, list):
        raise fail(where, f"must be a list, not {shown(value)}")
    if len(value) > most:
        raise fail(where, f"has {len(value)} entries, at most {most} are possible")
    return value


def text(value: Any, where: str, most: int = 4096) -> str:
    """A text of at most ``most`` characters."""
    if not isinstance(value, str):
        raise fail(where, f"must be a text, not {shown(value)}")
    if len(value) > most:
        raise fail(where, f"has {len(value)} characters, at most {most} are possible")
    return value
