"""Small pieces of kernel C: comments and literals in which nothing that a trace says can do harm."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable

from hvmodel.hypervisor.objects import IN_DEFAULT, IN_NULL, Place
from hvmodel.kernel.iommu import IOMMU_READ, IOMMU_WRITE
from hvmodel.traces.export.case import visible

WIDTH = 100
TAB = 8


def plain(text: str) -> str:
    """One line of printable ASCII; what is not becomes an escape such as ``\\xe9``."""
    return "".join(c if " " <= c <= "~" else ascii(c)[1:-1] for c in visible(text))


def in_comment(text: str) -> str:
    """Text that neither ends a comment nor begins another."""
    return plain(text).replace("*/", "* /").replace("/*", "/ *")


def string(text: str) -> str:
    """A string literal."""
    escaped = plain(text).replace("\\", "\\\\").replace('"', '\\"').replace("?", "\\?")
    return f'"{escaped}"'


def fmt(text: str) -> str:
    """A string literal that is a format without conversions."""
    return string(text.replace("%", "%%"))


def comment(lines: Iterable[str], tabs: int = 0) -> str:
    """A comment of several lines, wrapped; an empty line stays one, a line that begins with a tab is kept as it is."""
    width = WIDTH - 3 - TAB * tabs
    indent = "\t" * tabs
    found: list[str] = []
    for line in lines:
        if line.startswith("\t"):
            found.append(f"{indent} *\t{in_comment(line[1:].expandtabs())}")
        else:
            found += [f"{indent} * {part}" for part in wrapped(in_comment(line), width)] or [f"{indent} *"]
    return "\n".join([f"{indent}/*", *found, f"{indent} */"])


def remark(text: str, tabs: int = 1) -> str:
    """A comment on one line if it fits, else on several."""
    indent = "\t" * tabs
    one = f"{indent}/* {in_comment(text)} */"
    return one if len(one.expandtabs(TAB)) <= WIDTH else comment([text], tabs)


def wrapped(text: str, width: int) -> list[str]:
    """The lines of a text; a word longer than a line is broken."""
    return textwrap.wrap(text, width)


def call(name: str, *arguments: object, tabs: int = 1) -> str:
    """A call as a statement, continued under its first argument where it is too long."""
    line = f"{name}({', '.join(map(str, arguments))});"
    indent = "\t" * tabs
    if len((indent + line).expandtabs(TAB)) <= WIDTH:
        return indent + line
    column = TAB * tabs + len(name) + 1
    pad = "\t" * (column // TAB) + " " * (column % TAB)
    lines, row = [], f"{indent}{name}("
    for number, argument in enumerate(arguments):
        piece = f"{argument}{',' if number < len(arguments) - 1 else ');'}"
        if row.strip() and len((row + " " + piece).expandtabs(TAB)) > WIDTH and not row.endswith("("):
            lines.append(row.rstrip())
            row = pad
        row += piece if row.endswith("(") or not row.strip() else " " + piece
    return "\n".join([*lines, row])


def number(value: int) -> str:
    """An unsigned constant, hex from 10 on."""
    return f"{value}" if value < 10 else f"{value:#x}" + ("ULL" if value >> 31 else "")


def place(where: Place) -> str:
    """A place as the test writes it."""
    if where.kind == "guest":
        return f"HVM_GUEST | {where.id:#x}"
    if where.kind == "none":
        return "HVM_NOWHERE"
    return {IN_DEFAULT.id: "HVM_IN_DEFAULT", IN_NULL.id: "HVM_IN_NULL"}.get(where.id, number(where.id))


def prot(bits: int) -> str:
    """IOMMU_READ | IOMMU_WRITE."""
    names = [name for bit, name in ((IOMMU_READ, "IOMMU_READ"), (IOMMU_WRITE, "IOMMU_WRITE")) if bits & bit]
    return " | ".join(names) or "0"


__all__ = ["WIDTH", "call", "comment", "fmt", "in_comment", "number", "place", "plain", "prot", "remark", "string"]
