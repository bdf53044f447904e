"""The told story: one structure with all that an explanation says, of which terminal, Markdown and HTML are three renderings.

It is bounded whatever the trace holds: operations that do not matter become gaps, repeated calls are folded, long lists are
counted.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Protocol

from hvmodel.callers.levels import LEVELS
from hvmodel.document import Branch
from hvmodel.drivers.variants import VARIANTS
from hvmodel.operations import Recover
from hvmodel.properties.catalogue import PROPERTIES, Property
from hvmodel.traces.explain.calls import call_tree
from hvmodel.traces.explain.changes import Change, changes, parting
from hvmodel.traces.explain.meaning import HARM, SEVERITY, assumptions, beginning, callers
from hvmodel.traces.explain.plain import counted, plain
from hvmodel.traces.explain.requests import answer, refusal, request
from hvmodel.traces.explain.ruler import Ruler, ruler_of
from hvmodel.traces.format import Trace
from hvmodel.traces.replay import notes
from hvmodel.traces.story import Step, telling
from hvmodel.traces.verdict import FAILS, HOLDS, Verdict, verdict
from hvmodel.traces.views import Views, views_of
from hvmodel.world import World

MAX_ACTS = 30
"""Operations that are told one by one; of a longer trace those that matter most."""

MAX_RULERS = 3
"""Domains drawn for one operation, those first whose views part."""

MAX_LINES = 8
"""Entries of one list of the ending, and failures of one operation; the rest is counted."""

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
class Act:
    """One operation told. ``applied`` is False if it had nothing to act on. ``failures`` are those of what is judged,
    ``environment`` is what no driver could have avoided; ``parting`` is told of the failing one only: what each view says of
    that on which they do not agree."""

    number: int
    request: str
    refusals: tuple[str, ...]
    answer: str
    applied: bool
    calls: tuple[Branch, ...]
    changes: tuple[Change, ...]
    rulers: tuple[Ruler, ...]
    failures: tuple[str, ...]
    environment: tuple[str, ...]
    parting: tuple[Change, ...] = ()


@dataclass(frozen=True, slots=True)
class Gap:
    """Operations ``first`` to ``last`` that are not told, and what they were in all."""

    first: int
    last: int
    text: str

    @property
    def title(self) -> str:
        """``Steps 4 to 7``."""
        return f"Step {self.first}" if self.first == self.last else f"Steps {self.first:,} to {self.last:,}"


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
    world = World(trace.config, driver)
    steps: list[Step] = []
    over = 0
    for step in telling(world, trace.operations):
        steps.append(step)
        if world.over and not over and not isinstance(step.operation, Recover):
            over = step.number
    found = _judged(steps, trace, world.judge.judged)
    chosen = choose(steps, found)
    acts = tuple(_acts(trace, driver, steps, found, chosen, over))
    prop = PROPERTIES[found.property] if found.property is not None else None
    return Story(
        title=_title(prop, found, driver),
        headline=_headline(found),
        mood={FAILS: "bad", HOLDS: "good"}.get(found.state, "odd"),
        status=STATUS.get(found.state, 2),
        work=sum(1 + len(call.hypercalls) for step in steps for call in step.calls),
        driver=driver,
        severity=prop.severity if prop is not None and found.state == FAILS else "",
        beginning=beginning(trace.config),
        acts=acts,
        notes=tuple(plain(text) for text in notes(trace, driver, steps)),
        ending=None if prop is None else _ending(trace, steps, found, prop, acts),
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


# --- which operations are told ------------------------------------------------------------------------------------------------


def choose(steps: list[Step], found: Verdict) -> list[int]:
    """The numbers of the operations to tell, at most :data:`MAX_ACTS`: all, or the failing one and what leads to it, those with a
    refusal or a failure, the first and the last."""
    if len(steps) <= MAX_ACTS:
        return [step.number for step in steps]
    focus = found.step or len(steps)
    near = [focus, *range(focus - 1, focus - 6, -1)]
    eventful = [step.number for step in steps if step.outcome.fired or step.outcome.violations]
    applied = [step.number for step in steps if step.outcome.applied]
    before = [number for number in eventful if number <= focus]
    wanted = (*near, *range(1, 5), *applied[-1:], *reversed(before), *eventful)
    kept = list(dict.fromkeys(number for number in wanted if 1 <= number <= len(steps)))
    return sorted(kept[:MAX_ACTS])


def _gap(steps: list[Step]) -> Gap:
    kinds = Counter(step.operation.kind for step in steps)
    shown = [f"{count:,} {kind}" for kind, count in kinds.most_common(6)]
    parts = [f"{counted(len(steps), 'operation')} not shown here ({', '.join(shown)}{', ...' if len(kinds) > 6 else ''})"]
    parts.append(counted(sum(len(call.hypercalls) for step in steps for call in step.calls), "hypercall"))
    fired = sum(len(step.outcome.fired) for step in steps)
    failing = sum(bool(step.outcome.violations) for step in steps)
    idle = sum(not step.outcome.applied for step in steps)
    if fired:
        parts.append(f"{counted(fired, 'answer')} refused")
    if failing:
        parts.append(f"a property fails in {failing:,} of them")
    if idle:
        parts.append(f"{idle:,} had nothing to act on")
    return Gap(steps[0].number, steps[-1].number, ", ".join(parts))


def _acts(trace: Trace, driver: str, steps: list[Step], found: Verdict, chosen: list[int], over: int) -> Iterator[Act | Gap]:
    """The run once more, this time with views, which are taken where they are needed: they can be large."""
    world = World(trace.config, driver)
    wanted = set(chosen)
    needed = wanted | {number - 1 for number in chosen}
    before, last = Views(), 0
    for again in telling(world, trace.operations[: chosen[-1] if chosen else 0]):
        number = again.number
        after = views_of(world) if number in needed else Views()
        if number in wanted:
            if number > last + 1:
                yield _gap(steps[last : number - 1])
            yield _act(steps[number - 1], trace, found, before, after, number == over)
            last = number
        before = after
    if last < len(steps):
        yield _gap(steps[last:])


def _act(step: Step, trace: Trace, found: Verdict, before: Views, after: Views, over: bool) -> Act:
    violations = step.outcome.violations
    fired = Counter(step.outcome.fired)
    return Act(
        number=step.number,
        request=request(step.operation, trace.config),
        refusals=tuple(_most([refusal(fault, fired[fault]) for fault in step.operation.faults])),
        answer=answer(step, over),
        applied=step.outcome.applied,
        calls=call_tree(step, over, step.number == found.step),
        changes=changes(before, after) if step.outcome.applied else (),
        rulers=tuple(_rulers(before, after, step.number == found.step)),
        failures=tuple(_most([plain(v.detail) for v in violations if v.property == found.property])),
        environment=tuple(_most([plain(text) for text in step.outcome.environment])),
        parting=parting(after) if step.number == found.step else (),
    )


def _rulers(before: Views, after: Views, focus: bool) -> list[Ruler]:
    """The domains whose pages this operation changed; at the failing one also those whose views part."""
    old = {domain.name: (domain.pages, domain.limbo) for domain in before.domains}
    drawn = []
    for domain in after.domains:
        pages, limbo = old.get(domain.name, ({}, ()))
        changed = limbo != domain.limbo or any(runs != pages.get(who, ()) for who, runs in domain.pages.items())
        if changed or (focus and not domain.pages_agree):
            drawn.append(ruler_of(domain))
    return sorted(drawn, key=lambda ruler: not ruler.parted)[:MAX_RULERS]


def _most(lines: list[str]) -> list[str]:
    return lines if len(lines) <= MAX_LINES else [*lines[:MAX_LINES], f"... and {len(lines) - MAX_LINES:,} more"]


# --- the ending ---------------------------------------------------------------------------------------------------------------


def _ending(trace: Trace, steps: list[Step], found: Verdict, prop: Property, acts: tuple[Act | Gap, ...]) -> Ending:
    fails = found.violation is not None
    run = steps[: found.step] if fails else steps
    act = next((act for act in acts if isinstance(act, Act) and act.number == found.step), None)
    level = max((step.outcome.level for step in run), default=0)
    return Ending(
        expected=prop.claim,
        source=prop.source,
        there=act.failures if act is not None else (plain(found.reason) or "just that",),
        parting=act.parting if act is not None else (),
        severity=f"{prop.severity}: {SEVERITY[prop.severity]}" if fails else "",
        matters=HARM.get(prop.id, "") if fails else "",
        callers=f"{LEVELS[level]}: {callers(level)}",
        needs=tuple(_most(list(_needs(run)))),
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


def _origin(trace: Trace) -> Iterator[tuple[str, str]]:
    if trace.driver:
        yield "recorded on", plain(trace.driver)
    for name, value in trace.origin.items():
        values = value if isinstance(value, list) else [value]
        more = f" and {len(values) - 4} more" if len(values) > 4 else ""
        yield plain(name), ", ".join(plain(str(one), 120) for one in values[:4]) + more


__all__ = ["Act", "Ending", "Gap", "Generality", "Story", "choose", "told"]
