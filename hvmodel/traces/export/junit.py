"""JUnit XML in the form that pytest calls xunit2: one test case a trace, one suite a driver.

What a property's failing is, is a ``failure``; a trace of which nothing can be said is an ``error``. It is never ``skipped``, which
dashboards count among what is well. There is no time in it: equal runs give equal files.
"""

from __future__ import annotations

from itertools import groupby
from xml.etree import ElementTree

from hvmodel.operations import describe
from hvmodel.properties.catalogue import PROPERTIES
from hvmodel.traces.export.case import Case, visible
from hvmodel.traces.verdict import FAILS, UNDETERMINED


def render(cases: list[Case]) -> str:
    """The XML document of some cases."""
    root = ElementTree.Element("testsuites", name="hvmodel")
    ordered = sorted(cases, key=lambda case: case.driver)
    for driver, group in groupby(ordered, key=lambda case: case.driver):
        root.append(_suite(driver, list(group)))
    ElementTree.indent(root)
    return '<?xml version="1.0" encoding="utf-8"?>\n' + ElementTree.tostring(root, encoding="unicode") + "\n"


def _suite(driver: str, cases: list[Case]) -> ElementTree.Element:
    counts = {"tests": len(cases), "failures": 0, "errors": 0, "skipped": 0}
    counts["failures"] = sum(case.verdict.state == FAILS for case in cases)
    counts["errors"] = sum(case.verdict.state == UNDETERMINED for case in cases)
    attributes = {name: str(count) for name, count in counts.items()}
    suite = ElementTree.Element("testsuite", {"name": visible(f"hvmodel.{driver}"), **attributes, "time": "0"})
    for case in cases:
        suite.append(_testcase(case))
    return suite


def _testcase(case: Case) -> ElementTree.Element:
    verdict = case.verdict
    element = ElementTree.Element("testcase", classname=visible(f"hvmodel.{case.driver}"), name=case.name, time="0")
    if verdict.state == FAILS:
        failure = ElementTree.SubElement(element, "failure", type=verdict.property or "", message=case.headline)
        failure.text = _text(case)
    elif verdict.state == UNDETERMINED:
        error = ElementTree.SubElement(element, "error", type="undetermined", message=case.headline)
        error.text = _text(case)
    about = {"property": verdict.property or "all", "severity": case.severity, "trace": case.path}
    lines = [f"{name}: {visible(value)}" for name, value in about.items() if value]  # xunit2 has no properties in a test case
    ElementTree.SubElement(element, "system-out").text = "\n".join(lines)
    return element


def _text(case: Case) -> str:
    """The message and the operations, one a line."""
    lines = [case.message]
    lines += [f"{step.number:>3}. {visible(describe(step.operation))} -> {visible(step.answer)}" for step in case.steps]
    if case.verdict.property:
        lines.append(f"source of the claim: {PROPERTIES[case.verdict.property].source}")
    return "\n".join(lines)


__all__ = ["render"]
