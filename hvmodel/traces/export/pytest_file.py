"""A Python test that needs only hvmodel and pytest: the trace as data, its story, and a verdict on any driver.

The data is the text of a trace file, folded to lines that code style checks accept; ``python FILE`` prints it, so that every other
verb can be used on it.
"""

from __future__ import annotations

import json
import re
import textwrap
from dataclasses import replace

from hvmodel.properties.catalogue import PROPERTIES
from hvmodel.traces.export.case import Case, visible
from hvmodel.traces.format import operation_out, to_json

WIDTH = 88
"""Columns that lines keep to where they can: what ruff, black and their readers are set up for."""

_BODY = '''
TRACE = r"""
{trace}
"""{noqa}


def {name}() -> None:
    """{claim}"""
    driver = os.environ.get("HVMODEL_DRIVER") or None
    if driver is not None and driver not in REGISTRY:
        pytest.fail(no_such_driver(driver), pytrace=False)
    case = run_case(from_json(TRACE), driver)
    if case.verdict.state == UNDETERMINED:
        pytest.skip(case.headline)
    if case.verdict.state == FAILS:
        explain = f"python {{__file__}} > trace.json; hvmodel explain trace.json"
        explain += f" --driver {{case.driver}}"
        pytest.fail(f"{{case.message}}\\nto see it: {{explain}}", pytrace=False)


if __name__ == "__main__":
    print(TRACE.strip())
'''

_IMPORTS = """
from __future__ import annotations

import os

import pytest
from hvmodel.drivers import REGISTRY, no_such_driver
from hvmodel.traces.export import FAILS, UNDETERMINED, run_case
from hvmodel.traces.format import from_json
"""


def render(cases: list[Case]) -> str:
    """The test file of one case (the first)."""
    case = cases[0]
    claim = f"{PROPERTIES[case.verdict.property].claim}." if case.verdict.property else "No property fails."
    trace = _trace(case)
    noqa = "  # noqa: E501" if any(len(line) > WIDTH for line in trace.splitlines()) else ""
    body = _BODY.format(trace=trace, noqa=noqa, name=_function(case), claim=claim[0].upper() + claim[1:])
    return f'"""{_docstring(case)}\n"""\n{_IMPORTS}{body}'


def _function(case: Case) -> str:
    """A name that pytest collects and Python accepts."""
    words = re.sub(r"[^a-z0-9]+", "_", case.name.lower()).strip("_")
    return f"test_{words or 'trace'}"[:70].rstrip("_")


def _docstring(case: Case) -> str:
    verdict = case.verdict
    head = f"{verdict.property or 'all properties'}: {_doc(case.name)}"
    lines = [*textwrap.wrap(head, WIDTH - 3), ""]
    lines += textwrap.wrap(_doc(case.headline) + ".", WIDTH)
    lines.append("")
    for step in case.steps[:_MOST]:
        lines += textwrap.wrap(f"{step.number}. {_doc(step.headline)}", WIDTH, subsequent_indent="   ")
    if len(case.steps) > _MOST:
        lines.append(f"... and {len(case.steps) - _MOST} more operations")
    lines += ["", *textwrap.wrap(_HOW, WIDTH)]
    return "\n".join(lines)


_MOST = 40
"""Operations told in the docstring."""

_HOW = (
    "Needs hvmodel and pytest. The environment variable HVMODEL_DRIVER chooses another driver "
    "than the one that the trace names; 'hvmodel drivers' lists them."
)


def _doc(text: str) -> str:
    """Free text inside a docstring: nothing that ends it or begins an escape."""
    return visible(text).replace("\\", "/").replace('"', "'")


def _trace(case: Case) -> str:
    """The trace file without what was observed, which the test does not need, and with long lines folded."""
    bare = replace(case.trace, driver=case.driver, observed=[], finding={}, origin={})
    lines: list[str] = []
    operations = {"    " + json.dumps(operation_out(step.operation)) for step in case.steps}
    for line in to_json(bare).rstrip("\n").splitlines():
        known = line.removesuffix(",") in operations
        lines += _folded(line, "      " if known else "    ")
    return "\n".join(lines)


def _folded(line: str, indent: str) -> list[str]:
    """A line of JSON as several, broken after commas that are not inside a string."""
    found: list[str] = []
    while len(line) > WIDTH:
        breaks = [at + 1 for at in _commas(line) if len(indent) < at + 1]
        at = max((at for at in breaks if at <= WIDTH), default=min(breaks, default=0))
        if at == 0 or at >= len(line):
            break
        found.append(line[:at])
        line = indent + line[at:].lstrip(" ")
    return [*found, line]


def _commas(line: str) -> list[int]:
    """Where a line of JSON has commas that are not inside a string."""
    inside, escaped, found = False, False, []
    for at, char in enumerate(line):
        if escaped:
            escaped = False
        elif char == "\\":
            escaped = inside
        elif char == '"':
            inside = not inside
        elif char == "," and not inside:
            found.append(at)
    return found


__all__ = ["render"]
