"""Whether a finding of one driver is there on the other one too: it fails, it holds, or it cannot be said, and why."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from hvmodel.jobs.findings import Finding, cause_of
from hvmodel.jobs.naming import steadfast
from hvmodel.operations import Operation
from hvmodel.properties.verdicts import Violation
from hvmodel.traces.story import Step, telling
from hvmodel.traces.verdict import HOLDS, UNDETERMINED, verdict
from hvmodel.world import World


@dataclass(frozen=True, slots=True)
class State:
    """What a trace does on one driver. ``same``: it fails in the very manner of the finding. ``why`` is for a reader: how it fails
    if not so, why it holds, why it cannot be said."""

    state: Literal["fails", "holds", "undetermined"]
    same: bool = True
    violation: Violation | None = None
    why: str = ""


def state_on(finding: Finding, driver: str) -> State:
    """Run a finding's trace on a driver.

    It fails there if its property fails in the same manner, for the same cause, or for the same subject. A refusal that the other
    driver never meets, because it asks in another order or tries again, is put where it meets it. Raises KeyError for an unknown
    driver.
    """
    state, missed = _run(finding, finding.operations, driver)
    if state.state == HOLDS and missed:
        lasting = steadfast(finding.operations)
        again, missed = _run(finding, lasting, driver)
        if again.state == "fails":
            return replace(again, same=False, why=again.why or "fails when the refusals are where this driver meets them")
        if missed:
            state = replace(state, why=_unmet(missed))
    return state


def _unmet(missed: list[tuple[int, str]]) -> str:
    places = ", ".join(f"{site} in step {number}" for number, site in missed)
    return f"this driver never makes the call that was refused ({places})"


def _run(finding: Finding, operations: list[Operation], driver: str) -> tuple[State, list[tuple[int, str]]]:
    """The state, and the refusals that decided nothing: (step, site)."""
    world = World(finding.config, driver)
    try:
        steps = list(telling(world, operations))
    except Exception as error:  # whatever a driver in the middle of a change does
        return State(UNDETERMINED, why=f"{type(error).__name__}: {error}"), []
    missed = [
        (step.number, fault.site)
        for step in steps
        for fault in step.operation.faults
        if not any(fired.site == fault.site for fired in step.outcome.fired)
    ]
    return _judged(finding, steps, world), missed


def _judged(finding: Finding, steps: list[Step], world: World) -> State:
    name = finding.property_id
    failures = [(step, violation) for step in steps for violation in step.outcome.violations if violation.property == name]
    for alike in (_same_manner, _same_cause, _same_subject):
        for step, violation in failures:
            if alike(finding, violation):
                same = alike is _same_manner
                return State("fails", same, violation, "" if same else f"step {step.number}: {violation.detail}")
    if failures:
        step, violation = failures[0]
        why = f"{name} fails in another manner, which is a matter of its own (step {step.number}: {violation.detail})"
        return State(HOLDS, why=why)
    found = verdict(steps, name, world.judge.judged)
    return State(UNDETERMINED if found.state == UNDETERMINED else HOLDS, why=found.reason)


def _same_manner(finding: Finding, violation: Violation) -> bool:
    wanted = finding.minimised.violation
    return (violation.call, violation.shape) == (wanted.call, wanted.shape)


def _same_cause(finding: Finding, violation: Violation) -> bool:
    return cause_of(as_failing(finding, violation)) == cause_of(finding)


def _same_subject(finding: Finding, violation: Violation) -> bool:
    return violation.subject == finding.minimised.violation.subject


def as_failing(finding: Finding, violation: Violation) -> Finding:
    """The finding with another failure of its trace in place of its own."""
    small = replace(finding.minimised, violation=violation)
    return Finding(small, finding.driver, finding.gear, finding.seed)


__all__ = ["State", "as_failing", "state_on"]
