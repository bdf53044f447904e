"""One trace as it went on one driver, and what is to be said of it: it fails, it holds, or nothing can be said.

Every export starts here, and an exported Python test calls :func:`judge`. A trace is **undetermined** on a driver when no operation
did anything, or when one did nothing that does something on the driver that the trace was recorded with: what would have come of
it is not known, so it is no pass.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from hvmodel.drivers import REGISTRY
from hvmodel.properties.catalogue import PROPERTIES
from hvmodel.properties.verdicts import Violation
from hvmodel.traces.format import Trace
from hvmodel.traces.story import Step, tell
from hvmodel.world import World

FAILS: Final = "fails"
HOLDS: Final = "holds"
UNDETERMINED: Final = "undetermined"


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a run says. ``state`` is FAILS, HOLDS or UNDETERMINED; ``property_id`` is what was judged (the worst that failed, if the
    trace names none; None if all hold), ``step`` and ``violation`` where it failed first, ``reason`` why nothing can be said,
    ``also`` further properties that fail."""

    state: str
    driver: str
    property_id: str | None
    step: int | None = None
    violation: Violation | None = None
    reason: str = ""
    operation: str = ""
    also: tuple[str, ...] = ()

    @property
    def severity(self) -> str:
        """The severity of the property, or nothing."""
        return PROPERTIES[self.property_id].severity if self.property_id else ""

    @property
    def headline(self) -> str:
        """One line: ``no-stale-mapping fails on posted-v0 at step 4: domain 1: 1 page ...``."""
        name = self.property_id or "every property"
        if self.violation is not None:
            return f"{name} fails on {self.driver} at step {self.step}: {self.violation.detail}"
        if self.state == UNDETERMINED:
            return f"{name} is undetermined on {self.driver}: {self.reason}"
        return f"{name} holds on {self.driver}"

    @property
    def message(self) -> str:
        """A few lines for whoever sees a test fail: what is claimed, what happened, where."""
        lines = [visible(self.headline)]
        if self.violation is not None and self.property_id is not None:
            lines.append(f"claim: {PROPERTIES[self.property_id].claim} [{self.severity}]")
            lines.append(f"step {self.step}: {visible(self.operation)}")
            if self.also:
                lines.append(f"also failing: {', '.join(self.also)}")
        return "\n".join(lines)


@dataclass(frozen=True, slots=True)
class Case:
    """A trace, how it went on ``driver``, and the verdict. ``name`` is for reports, ``path`` the file it was read from."""

    name: str
    path: str
    trace: Trace
    driver: str
    steps: list[Step]
    world: World
    verdict: Verdict
    idle: frozenset[int]
    """Numbers of the operations that did nothing here and do something where the trace was recorded."""


def visible(text: str) -> str:
    """One line of free text without anything that a terminal, a parser or a reader's eye takes for something else: control
    characters, line ends, directional marks and lone surrogates become escapes such as ``\\x1b``."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def run_case(trace: Trace, driver: str | None = None, name: str = "trace", path: str = "") -> Case:
    """Run a trace on a driver (None: the one that it names) and judge it. Raises KeyError for an unknown driver."""
    chosen = driver or trace.driver
    steps, world = tell(trace, chosen)
    idle = frozenset(_idle(steps))
    if idle:
        idle -= _idle_when_recorded(trace)
    return Case(visible(name), path, trace, chosen, steps, world, _verdict(trace.property, chosen, steps, idle), idle)


def judge(trace: Trace, driver: str | None = None) -> Verdict:
    """What a trace says of a driver (None: the one that it names). Raises KeyError for an unknown driver."""
    return run_case(trace, driver).verdict


def _idle(steps: Iterable[Step]) -> list[int]:
    return [step.number for step in steps if not step.outcome.applied]


def _idle_when_recorded(trace: Trace) -> frozenset[int]:
    """The operations that did nothing on the driver that the trace was recorded with; none if that is not known."""
    if trace.observed:
        return frozenset(n for n, seen in enumerate(trace.observed, 1) if seen.answer.startswith(_IDLE_ANSWERS))
    return frozenset(_idle(tell(trace)[0])) if trace.driver in REGISTRY else frozenset()


_IDLE_ANSWERS = ("does not apply", "the core refuses")
"""How ``story.answer`` begins for an operation that did nothing."""


def _verdict(wanted: str | None, driver: str, steps: list[Step], idle: frozenset[int]) -> Verdict:
    found = [(step, violation) for step in steps for violation in step.outcome.violations]
    if wanted is None:
        found.sort(key=lambda pair: PROPERTIES[pair[1].property].rank)
    about = [pair for pair in found if wanted in (None, pair[1].property)]
    if about:
        step, violation = about[0]
        also = dict.fromkeys(other.property for _, other in found if other.property != violation.property)
        return Verdict(FAILS, driver, violation.property, step.number, violation, operation=step.headline, also=tuple(also))
    if not any(step.outcome.applied for step in steps):
        return Verdict(UNDETERMINED, driver, wanted, reason="no operation did anything (a trace begins with boot)")
    if idle:
        first = steps[min(idle) - 1]
        return Verdict(UNDETERMINED, driver, wanted, reason=f"step {first.number} does nothing here: {first.headline}")
    return Verdict(HOLDS, driver, wanted)


__all__ = ["FAILS", "HOLDS", "UNDETERMINED", "Case", "Verdict", "judge", "run_case", "visible"]
