"""What a run says about a property: it fails, it holds, or it was never put to the test."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from hvmodel.properties.catalogue import ALWAYS_JUDGED
from hvmodel.properties.verdicts import Violation
from hvmodel.traces.format import Trace
from hvmodel.traces.story import Step, tell


@dataclass(frozen=True, slots=True)
class Verdict:
    """``fails`` (with the step, counted from 1, and the violation), ``holds``, or ``undetermined`` with the reason."""

    state: Literal["fails", "holds", "undetermined"]
    step: int = 0
    violation: Violation | None = None
    reason: str = ""


def verdict(steps: list[Step], name: str | None, asked: Mapping[str, int]) -> Verdict:
    """The verdict on one property, or with None on all of them together.

    ``asked`` is how often the run reached each property's precondition (``Bench.judged``). Where it was never reached and some
    operation did not apply, the property was not put to the test. Where all applied, the driver did not let the situation arise.
    """
    if not any(step.outcome.applied for step in steps):
        return Verdict("undetermined", reason="no operation did anything")
    for step in steps:
        for violation in step.outcome.violations:
            if name is None or violation.property == name:
                return Verdict("fails", step.number, violation)
    if name is None or name in ALWAYS_JUDGED or asked.get(name):
        return Verdict("holds")
    idle = [str(step.number) for step in steps if not step.outcome.applied]
    if idle:
        return Verdict("undetermined", reason=f"step {', '.join(idle)} did nothing, and {name} was never asked")
    return Verdict("holds", reason="the run never came to where it could fail")


def verdict_of(trace: Trace, driver: str | None = None) -> Verdict:
    """Run a trace and judge the property that it names, all if it names none. Raises KeyError for an unknown driver."""
    steps, world = tell(trace, driver)
    return verdict(steps, trace.property, world.judge.judged)


__all__ = ["Verdict", "verdict", "verdict_of"]
