"""The end of a story: what was expected, what is there, why it matters, and what it takes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from hvmodel.callers.levels import LEVELS
from hvmodel.drivers.variants import VARIANTS
from hvmodel.properties.catalogue import Property
from hvmodel.traces.explain.acts import Act
from hvmodel.traces.explain.changes import Change
from hvmodel.traces.explain.meaning import HARM, SEVERITY, assumptions, callers
from hvmodel.traces.explain.plain import at_most, plain
from hvmodel.traces.explain.requests import refusal
from hvmodel.traces.format import Trace
from hvmodel.traces.story import Step
from hvmodel.traces.verdict import Verdict, means_shown


@dataclass(frozen=True, slots=True)
class Ending:
    """What was expected, what is there, why it matters, what it takes. ``there`` are the violations' texts, ``parting`` what the
    views say where they part, ``needs`` the refusals, ``assumed`` answers of the hypervisor that are not the likely ones."""

    expected: str
    source: str
    there: tuple[str, ...]
    parting: tuple[Change, ...]
    severity: str
    matters: str
    callers: str
    needs: tuple[str, ...]
    assumed: tuple[str, ...]
    defects: tuple[tuple[str, str], ...]
    also: tuple[str, ...]


def ending_of(trace: Trace, steps: list[Step], found: Verdict, prop: Property, act: Act | None) -> Ending:
    """The ending of a run that was judged by a property; ``act`` is where it fails, None if it does not."""
    fails = found.violation is not None
    run = steps[: found.step] if fails else steps
    level = max((step.outcome.level for step in run), default=0)
    return Ending(
        expected=prop.claim,
        source=prop.source,
        there=act.failures if act is not None else (plain(found.reason) or "just that",),
        parting=act.parting if act is not None else (),
        severity=f"{prop.severity}: {SEVERITY[prop.severity]}" if fails else "",
        matters=HARM.get(prop.id, "") if fails else "",
        callers=f"{means_shown(trace.config, steps, found)}; level {LEVELS[level]}: {callers(level)}",
        needs=at_most(_needs(run)),
        assumed=assumptions(trace.config),
        defects=tuple(_defects(trace.finding.get("defects", ()))) if fails else (),
        also=tuple(_also(steps, found)),
    )


def _needs(steps: list[Step]) -> Iterator[str]:
    """The refusals that decided something."""
    for step in steps:
        fired = Counter(step.outcome.fired)
        for fault in step.operation.faults:
            if fired[fault]:
                yield f"step {step.number}: {refusal(fault, fired[fault])}"


def _also(steps: list[Step], found: Verdict) -> Iterator[str]:
    """The other properties that fail, each with the step in which it does first."""
    for name in found.also:
        first = next(step.number for step in steps if step.violation(name) is not None)
        yield f"{name} (step {first})"


def _defects(names: Any) -> Iterator[tuple[str, str]]:
    for name in names:
        variant = VARIANTS.get("repaired+" + name.split("-", 1)[0])
        known = variant is not None and variant.defect == name
        yield plain(name), variant.summary if known and variant is not None else ""


__all__ = ["Ending", "ending_of"]
