"""The parts of the C test that do not depend on a trace: the ``.c`` files of this folder."""

from __future__ import annotations

import re
from functools import cache
from importlib.resources import files

CHECK_FILES = ("checks_pages.c", "checks_places.c", "checks_hypercalls.c", "checks_lifetime.c")

_MARK = re.compile(r"^/\* (property|shared): ([a-z_-]+)(?: \(([a-z_]+)\))? \*/$", re.MULTILINE)


@cache
def text(name: str) -> str:
    """One file."""
    return (files(__package__) / name).read_text(encoding="utf-8").strip("\n")


@cache
def checks() -> dict[str, tuple[str, str]]:
    """For each property, and each part that several share: the C text, and the shared part that it needs or nothing."""
    found: dict[str, tuple[str, str]] = {}
    for name in CHECK_FILES:
        content = text(name)
        marks = list(_MARK.finditer(content))
        for mark, following in zip(marks, [*marks[1:], None], strict=True):
            body = content[mark.end() : following.start() if following is not None else None].strip("\n")
            found[mark.group(2)] = (body, mark.group(3) or "")
    return found


__all__ = ["CHECK_FILES", "checks", "text"]
