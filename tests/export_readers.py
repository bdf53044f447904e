"""Strict readers of the formats that traces are exported to, written from their specifications and not from the exporters."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from typing import Any
from xml.etree import ElementTree

# --- KTAP (Documentation/dev-tools/ktap.rst) --------------------------------------------------------------------------------

_RESULT = re.compile(r"(ok|not ok) ([0-9]+)(?: (?:- )?([^#]*?))?(?: # ([A-Z]+)(?: (.*))?)?")
_DIRECTIVES = {"SKIP", "TODO", "XFAIL", "TIMEOUT", "ERROR"}


@dataclass
class Result:
    """One test: whether it is ok, its name, its directive (or nothing) and its subtests."""

    ok: bool
    name: str
    directive: str
    subtests: list[Result] = field(default_factory=list)


def read_ktap(text: str) -> list[Result]:
    """The results of a report; AssertionError for what the specification does not allow."""
    assert text.endswith("\n")
    lines = text.split("\n")[:-1]
    results, rest = _block(lines, "")
    assert not rest, rest[0]
    return results


def _block(lines: list[str], indent: str) -> tuple[list[Result], list[str]]:
    """Version, plan, as many results as it says; diagnostics anywhere after the plan."""
    assert lines, "a block ends before it begins"
    assert lines[0] == f"{indent}KTAP version 1", lines[0]
    lines = lines[1:]
    while lines[0].startswith(f"{indent}# "):
        lines = lines[1:]
    plan = re.fullmatch(rf"{indent}1\.\.([0-9]+)", lines[0])
    assert plan, lines[0]
    lines = lines[1:]
    results: list[Result] = []
    subtests: list[Result] = []
    while len(results) < int(plan.group(1)):
        assert lines, "fewer results than planned"
        line = lines[0]
        if line == f"{indent}  KTAP version 1":
            subtests, lines = _block(lines, indent + "  ")
        elif re.match(rf"{indent}(  )?# ", line):
            lines = lines[1:]
        else:
            found = _RESULT.fullmatch(line.removeprefix(indent))
            assert found, line
            assert line.startswith(indent)
            assert int(found.group(2)) == len(results) + 1, line
            directive = found.group(4) or ""
            assert directive in _DIRECTIVES | {""}, line
            results.append(Result(found.group(1) == "ok", found.group(3) or "", directive, subtests))
            subtests, lines = [], lines[1:]
    return results, lines


# --- SARIF 2.1.0 (OASIS, errata 01) -------------------------------------------------------------------------------------------


def read_sarif(text: str) -> list[dict[str, Any]]:
    """All results of a log; AssertionError where sections 3.13 to 3.38 are not kept to."""
    log = json.loads(text)
    assert log["version"] == "2.1.0"
    results = []
    for run in log["runs"]:
        driver = run["tool"]["driver"]
        assert driver["name"]
        ids = [rule["id"] for rule in driver["rules"]]
        assert len(set(ids)) == len(ids)
        for rule in driver["rules"]:
            assert rule["shortDescription"]["text"].endswith("."), "3.49.9, 3.12.4: a message ends with a period"
        for result in run["results"]:
            _check_result(result, ids)
            results.append(result)
    return results


def _check_result(result: dict[str, Any], rules: list[str]) -> None:
    assert rules[result["ruleIndex"]] == result["ruleId"]
    assert result["kind"] in {"notApplicable", "pass", "fail", "review", "open", "informational"}
    assert result["level"] in {"none", "note", "warning", "error"}
    if result["kind"] != "fail":
        assert result["level"] == "none", "3.27.10"
    assert result["message"]["text"]
    for location in result["locations"]:
        uri = location["physicalLocation"]["artifactLocation"]["uri"]
        assert re.fullmatch(r"[A-Za-z0-9\-._~:/%+@]+", uri), uri
        assert location["physicalLocation"].get("region", {"startLine": 1})["startLine"] >= 1
    for flow in result.get("codeFlows", []):
        for thread in flow["threadFlows"]:
            orders = [step["executionOrder"] for step in thread["locations"]]
            assert orders == sorted(orders)
            assert {step["importance"] for step in thread["locations"]} <= {"important", "essential", "unimportant"}


# --- JUnit (the xunit2 of pytest, Jenkins' junit-10.xsd) ------------------------------------------------------------------------


def read_junit(text: str) -> list[tuple[str, str]]:
    """(name, outcome) of every test case, where the outcome is pass, failure, error or skipped; counts must be true."""
    root = ElementTree.fromstring(text.encode())
    assert root.tag == "testsuites"
    found = []
    for suite in root:
        assert suite.tag == "testsuite"
        outcomes = []
        for case in suite:
            assert case.tag == "testcase"
            assert set(case.attrib) >= {"name", "classname", "time"}
            kinds = [child.tag for child in case]
            assert set(kinds) <= {"failure", "error", "skipped", "system-out"}
            assert len(kinds) == len(set(kinds))
            outcome = next((kind for kind in kinds if kind != "system-out"), "pass")
            outcomes.append(outcome)
            found.append((case.attrib["name"], outcome))
        assert int(suite.attrib["tests"]) == len(outcomes)
        for name, what in (("failures", "failure"), ("errors", "error"), ("skipped", "skipped")):
            assert int(suite.attrib[name]) == outcomes.count(what), name
    return found


# --- ITF (Apalache, ADR-015) ----------------------------------------------------------------------------------------------------


def read_itf(text: str) -> list[dict[str, Any]]:
    """The states as Python values: sets are frozensets, maps dictionaries, tuples tuples; each has every variable."""
    trace = json.loads(text)
    assert set(trace) <= {"#meta", "params", "vars", "states", "loop"}
    states = []
    for state in trace["states"]:
        assert set(state) == {"#meta", *trace["vars"]}
        states.append({name: _value(state[name]) for name in trace["vars"]})
    return states


def _value(data: Any) -> Any:
    if isinstance(data, bool | str):
        return data
    assert isinstance(data, dict | list), f"{data!r}: numbers are written as #bigint"
    if isinstance(data, list):
        return tuple(_value(element) for element in data)
    special = [key for key in data if key.startswith("#")]
    if not special:
        return _Record({name: _value(element) for name, element in data.items()})
    assert len(data) == 1, data
    inner = data[special[0]]
    if special == ["#bigint"]:
        assert re.fullmatch(r"-?[0-9]+", inner)
        return int(inner)
    if special == ["#map"]:
        pairs = [(_value(key), _value(value)) for key, value in inner]
        assert len(dict(pairs)) == len(pairs)
        return _Record(dict(pairs))
    assert special[0] in ("#set", "#tup")
    elements = [_value(element) for element in inner]
    if special == ["#set"]:
        assert len(set(elements)) == len(elements)
        return frozenset(elements)
    return tuple(elements)


class _Record(dict[str, Any]):
    """A record that can be an element of a set."""

    def __hash__(self) -> int:  # type: ignore[override]
        return hash(tuple(sorted((name, hash(value)) for name, value in self.items())))


# --- C --------------------------------------------------------------------------------------------------------------------------

_TOKEN = re.compile(r'/\*.*?\*/|//[^\n]*|"(?:[^"\\\n]|\\.)*"|\'(?:[^\'\\\n]|\\.)+\'|[A-Za-z_]\w*|[^\s]', re.DOTALL)


def read_c(text: str) -> tuple[list[str], list[str]]:
    """The tokens of a C file without comments, and its comments. AssertionError for brackets that do not pair, and for bytes
    that are not in the kernel's sources."""
    assert re.fullmatch(r"[\t\n -~]*", text)
    tokens, comments, open_ = [], [], []
    pairs = {")": "(", "]": "[", "}": "{"}
    for token in _TOKEN.findall(text):
        if token.startswith(("/*", "//")):
            comments.append(token)
            assert "/*" not in token[2:], "a comment in a comment"
            continue
        tokens.append(token)
        if token in "([{":
            open_.append(token)
        elif token in ")]}":
            assert open_, token
            assert open_.pop() == pairs[token], token
        assert token not in "\"'", "a string without an end"
    assert not open_
    return tokens, comments


__all__ = ["Result", "read_c", "read_itf", "read_junit", "read_ktap", "read_sarif"]
