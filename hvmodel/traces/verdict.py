"""What a run says about a property: it fails, it holds, or it was never put to the test.

The one notion of it: replay, bisection, the corpus, ``pytest --replay`` and every export ask here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal

from hvmodel.callers.means import Means, means_of
from hvmodel.configuration import Configuration
from hvmodel.properties.catalogue import ALWAYS_JUDGED
from hvmodel.properties.verdicts import Violation
from hvmodel.traces.format import Trace
from hvmodel.traces.story import Step, tell

FAILS: Final = "fails"
HOLDS: Final = "holds"
UNDETERMINED: Final = "undetermined"


@dataclass(frozen=True, slots=True)
class Verdict:
    """FAILS (with the step, counted from 1, and the violation), HOLDS, or UNDETERMINED with the reason. ``property`` is what was
    judged; where all were (None), the first that failed. ``also`` are the other properties that fail in the run."""

    state: Literal["fails", "holds", "undetermined"]
    step: int = 0
    violation: Violation | None = None
    reason: str = ""
    property: str | None = None
    also: tuple[str, ...] = ()


def verdict(steps: list[Step], name: str | None, asked: Mapping[str, int]) -> Verdict:
    """The verdict on one property, or with None on all of them together.

    ``asked`` is how often the run reached each property's precondition (``Bench.judged``). Where it was never reached and some
    operation did not apply, the property was not put to the test. Where all applied, the driver did not let the situation arise.
    """
    if not any(step.outcome.applied for step in steps):
        return Verdict(UNDETERMINED, reason="no operation did anything", property=name)
    found = [(step.number, violation) for step in steps for violation in step.outcome.violations]
    for number, violation in found:
        if name is None or violation.property == name:
            also = dict.fromkeys(other.property for _, other in found if other.property != violation.property)
            return Verdict(FAILS, number, violation, property=violation.property, also=tuple(also))
    if name is None or name in ALWAYS_JUDGED or asked.get(name):
        return Verdict(HOLDS, property=name)
    idle = [str(step.number) for step in steps if not step.outcome.applied]
    if idle:
        reason = f"step {', '.join(idle)} did nothing, and {name} was never asked"
        return Verdict(UNDETERMINED, reason=reason, property=name)
    return Verdict(HOLDS, reason="the run never came to where it could fail", property=name)


def verdict_of(trace: Trace, driver: str | None = None) -> Verdict:
    """Run a trace and judge the property that it names, all if it names none. Raises KeyError for an unknown driver."""
    steps, world = tell(trace, driver)
    return verdict(steps, trace.property, world.judge.judged)


def means_shown(config: Configuration, steps: list[Step], found: Verdict) -> Means:
    """What a run takes, up to where it fails if it does."""
    shown = steps[: found.step] if found.violation is not None else steps
    call = found.violation.call if found.violation is not None else ""
    return means_of(config, ((step.operation, step.outcome) for step in shown), call)


__all__ = ["FAILS", "HOLDS", "UNDETERMINED", "Verdict", "means_shown", "verdict", "verdict_of"]
