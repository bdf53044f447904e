"""Record a trace: run it and write down what was observed and how its property fails."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from hvmodel import __version__
from hvmodel.properties.catalogue import PROPERTIES
from hvmodel.properties.verdicts import Violation
from hvmodel.traces.format import Trace
from hvmodel.traces.observed import observe
from hvmodel.traces.story import Step, judged, tell
from hvmodel.traces.views import DeviceView, DomainView, Views
from hvmodel.traces.words import ranges


def recorded(trace: Trace) -> Trace:
    """The same trace with what is observed now. If its property fails, the finding says at which step (from 1), in which
    driver call, and what the views say there that they did not before; what else the finding has stays."""
    steps, _world = tell(trace)
    finding = dict(trace.finding)
    hit = _failure(steps, trace.property, finding.get("summary")) if trace.property is not None else None
    if trace.property is not None and hit is not None:
        number, violation = hit
        before = steps[number - 2].views if number > 1 else Views()
        finding |= {"severity": PROPERTIES[trace.property].severity, "summary": violation.detail}
        finding |= {"step": number, "call": violation.call, "views": _apart(before, steps[number - 1])}
    return replace(trace, harness=__version__, finding=finding, observed=observe(steps))


def _failure(steps: list[Step], name: str, summary: str | None) -> tuple[int, Violation] | None:
    """The failure that a finding speaks of, if it still occurs, else the property's first."""
    for step in steps:
        for violation in step.outcome.violations:
            if violation.property == name and violation.detail == summary:
                return step.number, violation
    return judged(steps, name)


def _apart(before: Views, step: Step) -> list[dict[str, Any]]:
    """What came apart at a step, in words."""
    known, now = before.parted, step.views.parted
    found = [_domain(view) for view in now.domains if view not in known.domains]
    return found[:32] + [_device(view) for view in now.devices if view not in known.devices][:32]


def _domain(view: DomainView) -> dict[str, Any]:
    said: dict[str, Any] = {"of": view.name}
    if view.pages_agree:
        return said | {"driver": f"counts {view.counted} attached", "hypervisor": f"has {view.attached} attached"}
    said |= {name: ranges(pages) for name, pages in view.pages.items()}
    return said | ({"limbo": ranges(view.limbo)} if view.limbo else {})


def _device(view: DeviceView) -> dict[str, Any]:
    return {"of": view.name, "caller": view.caller, "driver": view.driver, "hypervisor": view.hypervisor}


__all__ = ["recorded"]
