"""The operations of a story one by one: request, refusals, answer, calls, what changed, rulers; and gaps for those that are not
told.

What there is to see at an operation is taken while the run goes by, since views are large where many pages are mapped. Of a trace
that is not told as a whole only the verdict says which operations matter, so that is run a second time.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from hvmodel.document import Branch
from hvmodel.operations import Recover
from hvmodel.traces.explain.calls import call_tree
from hvmodel.traces.explain.changes import Change, changes, parting
from hvmodel.traces.explain.plain import at_most, counted, plain
from hvmodel.traces.explain.requests import answer, refusal, request
from hvmodel.traces.explain.ruler import Ruler, ruler_of
from hvmodel.traces.format import Trace
from hvmodel.traces.story import Step, telling
from hvmodel.traces.verdict import Verdict
from hvmodel.traces.views import Views, views_of
from hvmodel.world import World

MAX_ACTS = 30
"""Operations that are told one by one; of a longer trace those that matter most."""

MAX_RULERS = 3
"""Domains drawn for one operation, those first whose views part."""


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


# --- the run --------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Sight:
    """What is to be seen at one operation: what it changed; the domains whose pages it changed, and those whose views part; and
    what the views say where they part."""

    changes: tuple[Change, ...]
    changed: tuple[Ruler, ...]
    parted: tuple[Ruler, ...]
    parting: tuple[Change, ...]


@dataclass(slots=True)
class Run:
    """A run as it went. ``sights`` are by number of the operation; ``over`` is the number of the one that never came back (0: all
    did), ``asked`` how often each property's precondition was reached."""

    steps: list[Step]
    sights: dict[int, Sight]
    over: int
    asked: dict[str, int]


def watch(trace: Trace, driver: str) -> Run:
    """Run a trace; what is to be seen is taken at all operations if they are few. Raises KeyError for an unknown driver."""
    world = World(trace.config, driver)
    wanted = range(1, len(trace.operations) + 1) if len(trace.operations) <= MAX_ACTS else ()
    run = Run([], {}, 0, {})
    for step in _seeing(world, trace, wanted, run.sights):
        run.steps.append(step)
        if world.over and not run.over and not isinstance(step.operation, Recover):
            run.over = step.number
    run.asked = dict(world.judge.judged)
    return run


def _seeing(world: World, trace: Trace, wanted: Sequence[int], sights: dict[int, Sight]) -> Iterator[Step]:
    """Run a trace up to the last operation that is wanted (all if none is) and take what is to be seen at those."""
    end = wanted[-1] if wanted else len(trace.operations)
    before, numbers = Views(), frozenset(wanted)
    for step in telling(world, trace.operations[:end]):
        if step.number in numbers or step.number + 1 in numbers:
            after = views_of(world)
            if step.number in numbers:
                sights[step.number] = _sight(before, after)
            before = after
        yield step


def _sight(before: Views, after: Views) -> Sight:
    old = {domain.name: (domain.pages, domain.limbo) for domain in before.domains}
    changed, parted = [], []
    for domain in after.domains:
        pages, limbo = old.get(domain.name, ({}, ()))
        different = limbo != domain.limbo or any(runs != pages.get(who, ()) for who, runs in domain.pages.items())
        if different or not domain.pages_agree:
            ruler = ruler_of(domain)
            if different:
                changed.append(ruler)
            if ruler.parted:
                parted.append(ruler)
    return Sight(changes(before, after), tuple(changed), tuple(parted), parting(after))


# --- what is told of it ---------------------------------------------------------------------------------------------------


def acts_of(run: Run, trace: Trace, driver: str, found: Verdict) -> Iterator[Act | Gap]:
    """The operations in order: acts for those that are told, gaps for the others."""
    chosen = choose(run.steps, found)
    sights = run.sights
    if chosen and not sights:
        for _ in _seeing(World(trace.config, driver), trace, chosen, sights):
            pass
    last = 0
    for number in chosen:
        if number > last + 1:
            yield _gap(run.steps[last : number - 1])
        yield _act(run.steps[number - 1], trace, found, sights[number], number == run.over)
        last = number
    if last < len(run.steps):
        yield _gap(run.steps[last:])


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


def _act(step: Step, trace: Trace, found: Verdict, sight: Sight, over: bool) -> Act:
    focus = step.number == found.step
    rulers = dict.fromkeys((*sight.parted, *sight.changed)) if focus else dict.fromkeys(sight.changed)
    fired = Counter(step.outcome.fired)
    return Act(
        number=step.number,
        request=request(step.operation, trace.config),
        refusals=at_most(refusal(fault, fired[fault]) for fault in step.operation.faults),
        answer=answer(step, over),
        applied=step.outcome.applied,
        calls=call_tree(step, over, focus),
        changes=sight.changes if step.outcome.applied else (),
        rulers=tuple(sorted(rulers, key=lambda ruler: not ruler.parted)[:MAX_RULERS]),
        failures=at_most(plain(v.detail) for v in step.outcome.violations if v.property == found.property),
        environment=at_most(plain(text) for text in step.outcome.environment),
        parting=sight.parting if focus else (),
    )


__all__ = ["MAX_ACTS", "Act", "Gap", "Run", "acts_of", "choose", "watch"]
