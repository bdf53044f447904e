"""The told story: one structure with all that an explanation says, of which terminal, Markdown and HTML are three renderings.

It is bounded whatever the trace holds: operations that do not matter become gaps, repeated calls are folded, long lists are
counted.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Protocol

from hvmodel.properties.catalogue import PROPERTIES, Property
from hvmodel.traces.explain.acts import Act, Gap, acts_of, watch
from hvmodel.traces.explain.ending import Ending, ending_of
from hvmodel.traces.explain.meaning import beginning
from hvmodel.traces.explain.plain import plain
from hvmodel.traces.explain.ruler import Ruler
from hvmodel.traces.format import Trace
from hvmodel.traces.replay import notes
from hvmodel.traces.story import Step
from hvmodel.traces.verdict import FAILS, HOLDS, Verdict, verdict

STATUS = {FAILS: 1, HOLDS: 0}
"""The exit status of each verdict, as replay's; 2 for the third."""


class Generality(Protocol):
    """What ``gears/generalise.py`` says of a trace: lines of what does not matter, lines of what does, how short it is."""

    @property
    def free(self) -> tuple[str, ...]: ...
    @property
    def bound(self) -> tuple[str, ...]: ...
    @property
    def shortness(self) -> str: ...


@dataclass(frozen=True, slots=True)
class Story:
    """Everything. ``mood`` is good, bad or odd; ``work`` is how many driver calls and hypercalls the run made; ``ending`` is
    None if all properties were judged and hold."""

    title: str
    headline: str
    mood: str
    status: int
    work: int
    driver: str
    severity: str
    beginning: tuple[str, ...]
    acts: tuple[Act | Gap, ...]
    notes: tuple[str, ...]
    ending: Ending | None
    origin: tuple[tuple[str, str], ...]
    generality: Generality | None = None

    @property
    def rulers(self) -> list[Ruler]:
        """All rulers in order."""
        return [ruler for act in self.acts if isinstance(act, Act) for ruler in act.rulers]


def told(trace: Trace, driver: str) -> Story:
    """Run a trace and tell it, without what else fails the same way. Raises KeyError for an unknown driver."""
    run = watch(trace, driver)
    found = _judged(run.steps, trace, run.asked)
    acts = tuple(acts_of(run, trace, driver, found))
    focus = next((act for act in acts if isinstance(act, Act) and act.number == found.step), None)
    prop = PROPERTIES[found.property] if found.property is not None else None
    return Story(
        title=_title(prop, found, driver),
        headline=_headline(found),
        mood={FAILS: "bad", HOLDS: "good"}.get(found.state, "odd"),
        status=STATUS.get(found.state, 2),
        work=sum(1 + len(call.hypercalls) for step in run.steps for call in step.calls),
        driver=driver,
        severity=prop.severity if prop is not None and found.state == FAILS else "",
        beginning=beginning(trace.config),
        acts=acts,
        notes=tuple(plain(text) for text in notes(trace, driver, run.steps)),
        ending=None if prop is None else ending_of(trace, run.steps, found, prop, focus),
        origin=tuple(_origin(trace)),
    )


def _judged(steps: list[Step], trace: Trace, asked: Mapping[str, int]) -> Verdict:
    """The verdict; of several failures of the property the one that the finding speaks of, if it still occurs. Where all properties
    are judged, the worst that fails."""
    found = verdict(steps, trace.property, asked)
    if found.state != FAILS:
        return found
    if trace.property is None:
        names = (found.property, *found.also)
        worst = min((PROPERTIES[one] for one in names if one in PROPERTIES), key=lambda prop: prop.rank)
        return verdict(steps, worst.id, asked)
    summary = trace.finding.get("summary")
    for step in steps:
        for violation in step.outcome.violations:
            if violation.property == trace.property and violation.detail == summary:
                return replace(found, step=step.number, violation=violation)
    return found


def _title(prop: Property | None, found: Verdict, driver: str) -> str:
    name = prop.id if prop is not None else "All properties"
    if found.state == FAILS:
        return f"{name} fails on {driver}"
    if found.state == HOLDS:
        return f"{name} {'holds' if prop is not None else 'hold'} on {driver}"
    return f"{name} not put to the test on {driver}"


def _headline(found: Verdict) -> str:
    if found.violation is not None:
        return f"Step {found.step}: {plain(found.violation.detail)}."
    reason = plain(found.reason)
    return f"{reason[:1].upper()}{reason[1:]}." if reason else "Nothing is wrong in this run."


def _origin(trace: Trace) -> Iterator[tuple[str, str]]:
    if trace.driver:
        yield "recorded on", plain(trace.driver)
    for name, value in trace.origin.items():
        values = value if isinstance(value, list) else [value]
        more = f" and {len(values) - 4} more" if len(values) > 4 else ""
        yield plain(name), ", ".join(plain(str(one), 120) for one in values[:4]) + more


__all__ = ["STATUS", "Generality", "Story", "told"]
