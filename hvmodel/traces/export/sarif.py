"""SARIF 2.1.0: one run a driver, a rule a property, a result a trace, a step of its thread flow an operation.

``kind`` says what came of it: ``fail``, ``pass``, or ``open`` for a trace of which nothing can be said. The location is the file of
the driver and the function in which the property failed. Of the posted driver only the text of the mail is known: no line is
given.
"""

from __future__ import annotations

import hashlib
import inspect
import json
import re
from itertools import groupby
from pathlib import Path
from typing import Any
from urllib.parse import quote

from hvmodel import __version__
from hvmodel.callers.levels import LEVELS
from hvmodel.drivers import REGISTRY, is_native
from hvmodel.drivers.native import PREFIX
from hvmodel.drivers.native.own import is_own
from hvmodel.faults import place_of
from hvmodel.hypervisor.policies import assumed
from hvmodel.properties.catalogue import PROPERTIES, Property
from hvmodel.traces.export.case import Case, visible
from hvmodel.traces.story import Step
from hvmodel.traces.verdict import FAILS, HOLDS, UNDETERMINED, means_shown

Json = Any

SCHEMA = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"

LEVEL = {
    "isolation": "error",
    "memory": "error",
    "availability": "error",
    "leak": "warning",
    "bookkeeping": "warning",
    "contract": "note",
}
"""SARIF's level by severity."""

KIND = {FAILS: "fail", HOLDS: "pass", UNDETERMINED: "open"}

C_FILES = {"posted-v0": "drivers/iommu/hyperv-iommu.c"}
"""The file that a port follows, as the mail that posted it names it; what is not here is a Python file of this package."""


def render(cases: list[Case]) -> str:
    """The log of some cases."""
    ordered = sorted(cases, key=lambda case: case.driver)
    runs = [_run(driver, list(group)) for driver, group in groupby(ordered, key=lambda case: case.driver)]
    return json.dumps({"$schema": SCHEMA, "version": "2.1.0", "runs": runs}, indent=1) + "\n"


def _run(driver: str, cases: list[Case]) -> Json:
    names = sorted({name for case in cases for name in _rules_of(case)})
    return {
        "tool": {
            "driver": {
                "name": "hvmodel",
                "semanticVersion": __version__ if __version__.count(".") == 2 else f"{__version__}.0",
                "shortDescription": {"text": "Stateful model-checking harness for the Hyper-V root virtual IOMMU driver."},
                "rules": [_rule(PROPERTIES[name]) if name in PROPERTIES else _every() for name in names],
            }
        },
        "automationDetails": {"id": f"hvmodel/{visible(driver)}/"},
        "columnKind": "unicodeCodePoints",
        "results": [_result(case, names) for case in cases],
    }


EVERY = "every-property"
"""The rule of a trace that names no property and in which none fails."""


def _rules_of(case: Case) -> list[str]:
    return [case.verdict.property or EVERY]


def _every() -> Json:
    text = "no property fails"
    return {"id": EVERY, "shortDescription": {"text": text}, "help": {"text": "The trace names no property: all are judged."}}


def _rule(prop: Property) -> Json:
    source = f"Severity: {prop.severity}. Source of the claim: {prop.source}."
    return {
        "id": prop.id,
        "shortDescription": {"text": f"{prop.claim}."},
        "help": {"text": f"What must hold: {prop.claim}. {source}"},
        "defaultConfiguration": {"level": LEVEL[prop.severity]},
        "properties": {"severity": prop.severity, "tags": [prop.severity]},
    }


def _result(case: Case, rules: list[str]) -> Json:
    verdict = case.verdict
    rule = verdict.property or EVERY
    result: dict[str, Json] = {
        "ruleId": rule,
        "ruleIndex": rules.index(rule),
        "kind": KIND[verdict.state],
        "level": LEVEL[case.severity] if verdict.state == FAILS else "none",
        "message": {"text": case.message},
        "locations": [_location(case, verdict.violation.call if verdict.violation is not None else "")],
        "partialFingerprints": {"hvmodelFinding/v1": fingerprint(case)},
        "properties": {
            "trace": visible(case.path or case.name),
            "level": LEVELS[max((step.outcome.level for step in case.steps), default=0)],
            "means": str(means_shown(case.trace.config, case.steps, case.verdict)),
            "profile": case.trace.config.profile,
            "assumptions": assumed(case.trace.config.policies),
            "also": list(verdict.also),
        },
    }
    if case.steps:
        steps = [_flow(case, step) for step in case.steps]
        result["codeFlows"] = [{"threadFlows": [{"locations": steps}]}]
    return result


def _flow(case: Case, step: Step) -> Json:
    call = next((call.name for call in step.calls), "")
    location = _location(case, call)
    location["message"] = {"text": visible(f"{step.number}. {step.headline}")}
    essential = step.number == case.verdict.step or not step.outcome.applied
    return {
        "location": location,
        "executionOrder": step.number,
        "importance": "essential" if essential else "important" if step.outcome.applied else "unimportant",
    }


def _location(case: Case, call: str) -> dict[str, Json]:
    """The driver's file, and the function that serves ``call`` if it is one of the registered ops or the init function. Of a C file
    the function is not known, only the op."""
    if is_native(case.driver) or is_own(case.driver):
        return _in_c(case, call)
    ops = case.world.core.ops
    function = case.world.kernel.iommu_init if call == "init" else getattr(ops, call, None) if ops is not None and call else None
    name = getattr(function, "__name__", "")
    file, line = _source(case.driver, function)
    location: dict[str, Json] = {"physicalLocation": {"artifactLocation": {"uri": file, "uriBaseId": "%SRCROOT%"}}}
    if line:
        location["physicalLocation"]["region"] = {"startLine": line}
    if name:
        location["logicalLocations"] = [{"name": name, "fullyQualifiedName": name, "kind": "function"}]
    return location


def _in_c(case: Case, call: str) -> dict[str, Json]:
    """A place in a driver that is a C file; its line where a report of the runtime names one (``hyperv-iommu.c:643``)."""
    path = Path(case.driver.removeprefix(PREFIX)) if is_native(case.driver) else Path(*_OWN_C)
    artifact = {"uri": quote(path.as_posix())} if path.is_absolute() else {"uri": quote(path.as_posix()), "uriBaseId": "%SRCROOT%"}
    if path.is_absolute():
        artifact["uri"] = f"file://{artifact['uri']}"
    location: dict[str, Json] = {"physicalLocation": {"artifactLocation": artifact}}
    violation = case.verdict.violation
    said = violation.detail if violation is not None and call == violation.call else ""
    found = re.search(re.escape(path.name) + r":(\d+)", said)
    if found is not None and int(found.group(1)) > 0:
        location["physicalLocation"]["region"] = {"startLine": int(found.group(1))}
    if call:
        location["logicalLocations"] = [{"name": call, "kind": "member"}]
    return location


_OWN_C = ("hvmodel", "drivers", "native", "repaired", "hyperv-iommu.c")
"""Our own driver in C, from the root of this project."""


def _source(driver: str, function: object) -> tuple[str, int]:
    """The file of a driver, as a path in its source tree, and the line of a function (0: not known)."""
    if driver in C_FILES:
        return C_FILES[driver], 0
    module = getattr(function, "__module__", "") or getattr(REGISTRY[driver].load, "__module__", "")
    code = getattr(inspect.unwrap(function), "__code__", None) if callable(function) else None
    return module.replace(".", "/") + ".py", code.co_firstlineno if code is not None else 0


def fingerprint(case: Case) -> str:
    """What is the same for every trace of one finding: property, driver call, shape of the failing call, where something was
    refused, whether on an L1VH; no value and no name of a file. For a trace in which nothing fails: property and operations."""
    violation = case.verdict.violation
    about: tuple[object, ...]
    if violation is not None:
        sites = sorted({place_of(fault.site) for step in case.steps for fault in step.operation.faults})
        about = (violation.property, violation.call, violation.shape, sites, case.trace.config.l1vh)
    else:
        about = (case.verdict.property, [step.operation.kind for step in case.steps])
    return hashlib.sha256(repr(about).encode()).hexdigest()[:32]


__all__ = ["C_FILES", "KIND", "LEVEL", "SCHEMA", "fingerprint", "render"]
