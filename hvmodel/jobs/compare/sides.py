"""A difference told in two columns, A left and B right, as ``diff -y`` sets them: the operations, and the last one call by call."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from difflib import SequenceMatcher

from hvmodel.jobs.compare.narrow import Witness
from hvmodel.jobs.compare.parting import Both, pair
from hvmodel.operations import describe
from hvmodel.traces.explain.meaning import beginning
from hvmodel.traces.story import Call, Step
from hvmodel.traces.words import log_lines

ENDS = 2
"""Of a row of hypercalls of one name so many are told at its start, and one at its end; the others are counted."""

MOST = 14
"""Lines of one side."""


@dataclass(frozen=True, slots=True)
class Line:
    """A line on each side. ``mark`` is what ``diff -y`` puts between them: ``|`` (otherwise), ``<`` or ``>`` (only on one side). A
    blank: it is the same on both sides, or about both, and the left text goes across."""

    left: str
    right: str = ""
    mark: str = " "


def told(witness: Witness, a: str, b: str) -> list[Line]:
    """The witness on both drivers. Raises KeyError for an unknown driver."""
    lines = [Line(f"start: {text}") for text in _start(witness)]
    steps = list(pair(witness.config, witness.operations, a, b))
    for both in steps:
        last = both is steps[-1]
        lines.append(Line(f"{both.a.number}. {describe(both.a.operation)}" + ("" if last else _in_short(both))))
        lines += _sides(both) if last else ()
    return lines


def _start(witness: Witness) -> list[str]:
    """What is unusual about the start."""
    usual = "the hypervisor answers as today's most likely does"
    return [text for text in beginning(witness.config)[1:] if text != usual]


def _in_short(both: Both) -> str:
    """What came of an operation that leads up to the last one."""
    return f"  ->  {both.a.answer}{' on both, each in its own way' if both.kinds else ''}"


def _sides(both: Both) -> Iterator[Line]:
    """The last operation, call by call."""
    yield from _aligned(_lines(both.a), _lines(both.b))
    if both.parted:
        yield Line(f"-> {both.a.answer}", f"-> {both.b.answer}", "|")
    else:
        yield Line(f"-> {both.a.answer}")


def _lines(step: Step) -> list[str]:
    """The driver calls, below each its hypercalls, and what was written to the log."""
    lines: list[str] = []
    for call in step.calls:
        if call.name == "iova_to_phys":
            continue
        if call.name not in ("init", "rest"):
            lines.append(call.line)
        lines += _hypercalls(call)
    lines += [f"log {line}" for line in log_lines(step, 2)]
    return lines


def _hypercalls(call: Call) -> Iterator[str]:
    """A call's hypercalls, the middle of a long row of one name only counted."""
    at, calls = 0, call.hypercalls
    while at < len(calls):
        end = at
        while end < len(calls) and calls[end].name == calls[at].name:
            end += 1
        row = [f"  {one.line}" for one in calls[at:end]]
        hidden = len(row) - ENDS - 1
        yield from row if hidden < 2 else (*row[:ENDS], f"  ... {hidden:,} more {calls[at].name}", row[-1])
        at = end


_WHERE = re.compile(r"  \[[^\]]*\]$")


def _aligned(left: list[str], right: list[str]) -> Iterator[Line]:
    """Both sides beside each other, equal lines across; where in its source a driver does something makes no difference."""
    keys = [_WHERE.sub("", line) for line in left], [_WHERE.sub("", line) for line in right]
    shown = 0
    for tag, a, a_end, b, b_end in SequenceMatcher(None, *keys, autojunk=False).get_opcodes():
        for row in range(max(a_end - a, b_end - b)):
            mine = left[a + row] if a + row < a_end else ""
            theirs = right[b + row] if b + row < b_end else ""
            shown += 1
            if shown <= MOST:
                yield Line(mine) if tag == "equal" else Line(mine, theirs, "|" if mine and theirs else "<" if mine else ">")
    if shown > MOST:
        yield Line(f"... and {shown - MOST} more lines")


def laid_out(lines: list[Line], width: int) -> Iterator[tuple[str, str]]:
    """The lines as text of at most ``width`` columns, each with its mark; what is too long goes on in the next line."""
    column = (width - 3) // 2
    for line in lines:
        if line.mark == " ":
            for text in _wrapped(line.left, width):
                yield text, " "
            continue
        left, right = _wrapped(line.left, column), _wrapped(line.right, column)
        for row in range(max(len(left), len(right))):
            mine = left[row] if row < len(left) else ""
            theirs = right[row] if row < len(right) else ""
            yield f"{mine:<{column}} {line.mark if row == 0 else ' '} {theirs}".rstrip(), line.mark


def _wrapped(text: str, width: int) -> list[str]:
    indent = len(text) - len(text.lstrip())
    return textwrap.wrap(text, width, subsequent_indent=" " * (indent + 4), break_on_hyphens=False, drop_whitespace=True) or [""]


__all__ = ["Line", "laid_out", "told"]
