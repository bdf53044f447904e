"""A trace minimised: the same finding, as short and plain as it gets."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from hvmodel.callers.levels import LEVELS
from hvmodel.gears.minimise import Target, minimise
from hvmodel.hypervisor.policies import assumed
from hvmodel.properties.catalogue import PROPERTIES
from hvmodel.properties.verdicts import Violation
from hvmodel.traces.format import Trace
from hvmodel.traces.record import recorded
from hvmodel.world import run


class NothingFails(ValueError):
    """A trace in which nothing fails that could go on failing; the text says what does not."""


def shrink(trace: Trace, limit: int) -> tuple[Trace, bool]:
    """The minimal trace of the same finding on the trace's driver, recorded anew, and whether the limit (in worlds that are run)
    ended the search. A trace that names no property is about the worst that fails. Raises :class:`NothingFails`, KeyError for an
    unknown driver."""
    violation = subject(trace)
    if violation is None:
        what = f"{trace.property} holds" if trace.property else "no property fails"
        raise NothingFails(f"{what} on {trace.driver}, so there is nothing to minimise")
    target = Target(violation.property, violation.call, violation.shape)
    small = minimise(trace.config, trace.operations, trace.driver, target, limit)
    assert small is not None, "it failed a moment ago"
    finding: dict[str, Any] = {name: value for name, value in trace.finding.items() if name == "defects"}
    finding |= {"summary": small.violation.detail, "level": LEVELS[small.level]}
    finding["assumptions"] = assumed(small.config.policies)
    bare = replace(trace, config=small.config, operations=small.operations, property=violation.property, finding=finding)
    return recorded(bare), small.runs >= limit


def subject(trace: Trace) -> Violation | None:
    """The failure that a trace is about: of those of its property, or of the worst that fails if it names none, the one that its
    summary tells of, else the first. None if there is none. Raises KeyError for an unknown driver."""
    outcomes = run(trace.config, trace.operations, trace.driver)[1]
    about = [v for outcome in outcomes for v in outcome.violations if trace.property in (None, v.property)]
    if trace.property is None:
        about.sort(key=lambda violation: PROPERTIES[violation.property].rank)
    return next((violation for violation in about if violation.detail == trace.finding.get("summary")), next(iter(about), None))


__all__ = ["NothingFails", "shrink", "subject"]
