"""Traces for other tools: one module a format. ``README.md`` says what each is for, and what it cannot say."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from hvmodel.traces.export import c, itf, junit, ktap, kunit, pytest_file, sarif
from hvmodel.traces.export.case import Case, run_case
from hvmodel.traces.verdict import FAILS, HOLDS, UNDETERMINED


@dataclass(frozen=True, slots=True)
class Format:
    """One format: its name on the command line, what it is, whether one file can hold several traces, and the function that makes
    the text of a file from cases (at least one; exactly one if not ``several``)."""

    name: str
    what: str
    several: bool
    render: Callable[[list[Case]], str]


FORMATS = {
    entry.name: entry
    for entry in (
        Format("pytest", "a Python test that stands alone", False, pytest_file.render),
        Format("kunit", "a KUnit suite in C for the driver's own tree", True, kunit.render),
        Format("c", "a C program that needs a compiler and the driver's file", False, c.render),
        Format("itf", "the Informal Trace Format of Apalache and Quint", False, itf.render),
        Format("sarif", "SARIF 2.1.0 for code scanning", True, sarif.render),
        Format("junit", "JUnit XML for CI systems", True, junit.render),
        Format("ktap", "KTAP version 1 for kernel CI", True, ktap.render),
    )
}
"""The formats by name."""


__all__ = ["FAILS", "FORMATS", "HOLDS", "UNDETERMINED", "Case", "Format", "run_case"]
