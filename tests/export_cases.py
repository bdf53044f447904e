"""Cases that the tests of exports share: one trace that fails, one that holds, one of which nothing can be said."""

from __future__ import annotations

from dataclasses import replace

from catalogue import ENTRIES
from hypothesis import strategies as st

from hvmodel import operations as ops
from hvmodel.faults import Fault
from hvmodel.traces.export import Case, run_case
from hvmodel.traces.format import Trace

D20 = ENTRIES["D20"]
STALE = Trace(D20.config, list(D20.operations), "posted-v0", D20.property)
"""Boot, an allocation, a map of 257 pages and their unmap, after which one is still mapped."""

CUT = replace(STALE, operations=[ops.Boot(), ops.Alloc(faults=(Fault("kzalloc", times=None),)), *STALE.operations[2:]])
"""The same, but there is no domain to map in: its property is never asked."""


def fails() -> Case:
    """On the posted driver the property fails at the fourth step."""
    return run_case(STALE, None, "stale", "traces/stale.json")


def holds() -> Case:
    """On the repaired driver it holds."""
    return run_case(STALE, "repaired", "stale again", "traces/stale.json")


def undetermined() -> Case:
    """Nothing can be said."""
    return run_case(CUT, "repaired", "cut", "traces/cut.json")


def entry(key: str) -> Case:
    """A defect of the catalogue on the posted driver."""
    found = ENTRIES[key]
    return run_case(Trace(found.config, list(found.operations), "posted-v0", found.property), None, key, f"{key}.json")


NASTY = (
    *("*/", "/*", "//", "]]>", "<![CDATA[", "&amp;", "<b>", '"""', "'''", '"', "\\", "\\u0041", "%s%n", "??/", "{", "}"),
    *("# ERROR", "# SKIP", "not ok 1", "1..9", "KTAP version 1", "#bigint", "step 1:", "{{case.message}}", "$(id)"),
    *("\n", "\r\n", "\x00", "\x1b[31m", "\x7f", "\x85", "\u2028", "\u202e", "\ud800", "\udfff", "\ufffe", "\uffff"),
    *("\xe9", "\U0001f41b"),
)
"""Pieces of text that end, begin or mean something in one format or another."""

hostile = st.lists(st.sampled_from(NASTY) | st.text(st.characters(exclude_categories=()), max_size=6), max_size=6).map("".join)
"""Text as a file name may be: control characters, ends of comments, lone surrogates."""
