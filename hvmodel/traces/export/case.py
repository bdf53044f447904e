"""One trace as it went on one driver: what every export starts from, and what an exported Python test asks for."""

from __future__ import annotations

from dataclasses import dataclass

from hvmodel.properties.catalogue import PROPERTIES
from hvmodel.traces.format import Trace
from hvmodel.traces.story import Step, tell
from hvmodel.traces.verdict import UNDETERMINED, Verdict, verdict
from hvmodel.world import World


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

    @property
    def severity(self) -> str:
        """The severity of the property that was judged, or nothing."""
        return PROPERTIES[self.verdict.property].severity if self.verdict.property else ""

    @property
    def idle(self) -> list[int]:
        """Numbers of the operations that did nothing."""
        return [step.number for step in self.steps if not step.outcome.applied]

    @property
    def headline(self) -> str:
        """One line: ``no-stale-mapping fails on posted-v0 at step 4: domain 1: 1 page ...``."""
        found = self.verdict
        name = found.property or "every property"
        if found.violation is not None:
            return visible(f"{name} fails on {self.driver} at step {found.step}: {found.violation.detail}")
        if found.state == UNDETERMINED:
            return visible(f"{name} is undetermined on {self.driver}: {found.reason}")
        return visible(f"{name} holds on {self.driver}" + (f" ({found.reason})" if found.reason else ""))

    @property
    def message(self) -> str:
        """A few lines for whoever sees a test fail: what is claimed, what happened, where."""
        found = self.verdict
        lines = [self.headline]
        if found.violation is not None:
            lines.append(f"claim: {PROPERTIES[found.violation.property].claim} [{self.severity}]")
            lines.append(f"step {found.step}: {visible(self.steps[found.step - 1].headline)}")
            if found.also:
                lines.append(f"also failing: {', '.join(found.also)}")
        return "\n".join(lines)


def visible(text: str) -> str:
    """One line of free text without anything that a terminal, a parser or a reader's eye takes for something else: control
    characters, line ends, directional marks and lone surrogates become escapes such as ``\\x1b``."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def run_case(trace: Trace, driver: str | None = None, name: str = "trace", path: str = "") -> Case:
    """Run a trace on a driver (None: the one that it names) and judge the property that it names, all if it names none. Raises
    KeyError for an unknown driver."""
    chosen = driver or trace.driver
    steps, world = tell(trace, chosen)
    found = verdict(steps, trace.property, world.judge.judged)
    return Case(visible(name), path, trace, chosen, steps, world, found)


__all__ = ["Case", "run_case", "visible"]
