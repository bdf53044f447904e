"""KTAP, version 1: a test a trace, a subtest an operation, so that the line that is ``not ok`` is the step at which it failed.

A trace of which nothing can be said is ``not ok ... # ERROR``, and so is the operation that did nothing: ``kunit.py`` counts the
innermost results. Names must not have a ``#`` in them, which begins a directive.
"""

from __future__ import annotations

from hvmodel.operations import describe
from hvmodel.traces.export.case import Case, visible
from hvmodel.traces.story import Step
from hvmodel.traces.verdict import FAILS, UNDETERMINED


def render(cases: list[Case]) -> str:
    """The report of some cases."""
    lines = ["KTAP version 1", f"1..{len(cases)}"]
    for number, case in enumerate(cases, 1):
        lines += _case(number, case)
    return "\n".join(lines) + "\n"


def _case(number: int, case: Case) -> list[str]:
    verdict = case.verdict
    name = _name(f"{case.name} on {case.driver}")
    name = f"trace {name}" if name.startswith("step ") else name  # a test is never called like one of its subtests
    lines = ["  KTAP version 1", f"  # Subtest: {name}", f"  1..{len(case.steps)}"]
    for step in case.steps:
        lines += _step(step, case)
    lines += [f"# {visible(line)}" for line in case.message.splitlines()]
    if not case.steps:  # an empty list of subtests is no result to kunit.py
        lines = lines[3:]
    result = "ok" if verdict.state not in (FAILS, UNDETERMINED) else "not ok"
    directive = " # ERROR undetermined" if verdict.state == UNDETERMINED else ""
    return [*lines, f"{result} {number} {name}{directive}"]


def _step(step: Step, case: Case) -> list[str]:
    verdict = case.verdict
    name = _name(f"step {step.number}: {describe(step.operation)}")
    if verdict.state == FAILS and verdict.step == step.number and verdict.violation is not None:
        return [f"  # {visible(verdict.violation.detail)}", f"  not ok {step.number} {name}"]
    if verdict.state == UNDETERMINED and not step.outcome.applied:
        return [f"  not ok {step.number} {name} # ERROR {visible(step.answer)}"]
    note = [] if step.outcome.applied else [f"  # step {step.number}: {visible(step.answer)}"]
    return [*note, f"  ok {step.number} {name}"]


def _name(text: str) -> str:
    return " ".join(visible(text).replace("#", ":").split())


__all__ = ["render"]
