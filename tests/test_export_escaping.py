"""Hostile text in exports: whatever a file is called, it ends no comment, no string and no line, and turns no result."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from export_cases import CUT, NASTY, STALE, hostile
from export_readers import read_c, read_itf, read_junit, read_ktap, read_sarif
from hypothesis import given, settings
from hypothesis import strategies as st

from hvmodel.configuration import Configuration
from hvmodel.traces.export import FORMATS, Case, run_case
from hvmodel.traces.export.case import visible
from hvmodel.traces.export.kunit.c_text import call, comment, fmt, string
from hvmodel.traces.format import from_json


def named(text: str, cut: bool = False) -> Case:
    """A case that is called like this, and whose driver is as well."""
    case = run_case(CUT if cut else STALE, "repaired" if cut else None, text, text)
    return replace(case, driver=text) if text else case


def render(name: str, *cases: Case) -> str:
    content = FORMATS[name].render(list(cases))
    content.encode()  # no lone surrogate
    assert "\r" not in content
    return content


@given(hostile, st.booleans())
def test_ktap(text: str, cut: bool) -> None:
    """Protects the count of kernel CI: neither names nor diagnostics are results, directives or plans."""
    results = read_ktap(render("ktap", named(text, cut), named("plain", cut)))
    assert [(result.ok, result.directive) for result in results] == [(False, "ERROR" if cut else "")] * 2
    assert sum(not step.ok for step in results[0].subtests) == (2 if cut else 1)  # map and unmap did nothing; the unmap failed
    assert len(results[0].subtests) == 4


@given(hostile, st.booleans())
def test_junit(text: str, cut: bool) -> None:
    """Protects XML parsers: what XML has no characters for is escaped, the rest comes back as it was."""
    found = read_junit(render("junit", named(text, cut)))
    assert [outcome for _name, outcome in found] == ["error" if cut else "failure"]
    assert found[0][0] == " ".join(visible(text).split(" "))


@given(hostile, st.booleans())
def test_itf_and_pytest(text: str, cut: bool) -> None:
    """Protects what is data and code at once: JSON comes back equal, Python compiles and has the trace in it."""
    case = run_case(CUT if cut else STALE, "repaired" if cut else None, text, text)
    content = render("itf", case)
    assert len(read_itf(content)) == 5
    assert json.loads(content)["#meta"]["source"] == visible(text or case.name)
    content = render("pytest", case)
    space: dict[str, object] = {"__name__": "exported"}
    exec(compile(content, "exported.py", "exec", dont_inherit=True), space)
    assert from_json(str(space["TRACE"])).operations == case.trace.operations
    assert sum(name.startswith("test_") for name in space) == 1


@given(hostile, st.booleans())
def test_sarif(text: str, cut: bool) -> None:
    """Protects code scanning: one result of the kind that it is, whatever stands in its texts."""
    case = run_case(CUT if cut else STALE, "repaired" if cut else None, text, text)
    assert [result["kind"] for result in read_sarif(render("sarif", case))] == ["open" if cut else "fail"]


@given(hostile, st.booleans())
@settings(max_examples=25)
def test_kunit(text: str, cut: bool) -> None:
    """Protects the kernel tree: ASCII, brackets that pair, no comment that ends early, and functions with names of C."""
    case = run_case(CUT if cut else STALE, "repaired" if cut else None, text, text)
    tokens, _comments = read_c(render("kunit", case, case))
    assert tokens.count("KUNIT_CASE") == 2
    names = [tokens[at + 2] for at, token in enumerate(tokens) if token == "KUNIT_CASE"]
    assert len(set(names)) == 2
    assert all(tokens.count(name) == 2 for name in names)  # the definition and the list


@given(hostile)
def test_small_pieces_of_c(text: str) -> None:
    """Protects literals and comments one by one: each is a single token, a format has no conversions, no trigraph is made."""
    for literal in (string(text), fmt(text)):
        assert read_c(literal) == ([literal], [])
        assert "??" not in literal
    assert fmt(text).replace("%%", "").count("%") == 0
    told = comment([text, f"\t{text}", ""])
    assert read_c(told) == ([], [told])
    statement = call("f", *[string(text)] * 3)
    assert read_c(statement)[0][:2] == ["f", "("]


@pytest.mark.parametrize("text", NASTY)
def test_each_nasty_piece_in_the_skip_list(text: str) -> None:
    """Protects the one free text of a trace that a driver sees: every format can write whatever the boot option may be."""
    if not text.isprintable():
        with pytest.raises(ValueError, match="no boot option has such characters"):
            from_json(json.dumps({"hvmodel-trace": 2, "configuration": {"skip": text}, "operations": []}))
        return
    trace = replace(STALE, config=Configuration(skip=text), property="options-are-honoured")
    case = run_case(trace)
    assert case.verdict.state == "fails"
    read_c(render("kunit", case))
    read_sarif(render("sarif", case))
    read_junit(render("junit", case))
    read_ktap(render("ktap", case))
    inside = render("pytest", case).split('r"""')[1].split('"""')[0]
    assert from_json(inside).config.skip == text
