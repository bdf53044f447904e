"""Lifting what a hunt found: for each finding that takes more than ioctls, a trace of somebody with less power is looked for.

Cheap ways come first: the best finding of every cause is translated, then looked for in a share of the time; then the others. It is
done in processes of its own, each with one finding at a time, so that a native driver that ends its process ends that attempt only.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import time
import traceback
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing.connection import wait
from typing import Any

from hvmodel.callers.levels import BEYOND as BEYOND_LEVEL
from hvmodel.callers.means import BEYOND, USER
from hvmodel.gears.lift import Goal, by_search, by_translation
from hvmodel.gears.minimise import Minimised, Target
from hvmodel.gears.minimise.trial import Case, Trials
from hvmodel.gears.walk import settle
from hvmodel.jobs.findings import UNOBSERVED, Finding, Group, key_of, mark_of
from hvmodel.properties.verdicts import Violation
from hvmodel.traces.format import Trace
from hvmodel.traces.shrink import NothingFails, subject

PART = 6
"""A hunt lifts for one part in so many of the time that it searched."""

MOST = 60.0
"""Seconds that it lifts at most, if nothing else is said."""

TRANSLATING = 5.0
"""Seconds after which a translation is given up: that of a trace in which ranges are very large."""

BEST = 0.7
"""So much of what is left after translating goes into looking for callers of the best findings, and the rest to the others."""

UNLIKELY = 0.2
"""The share of a finding beyond the contract, where 1 is that of another one."""

PATIENCE = 20.0
"""Seconds beyond its time after which an attempt counts as one that does not end; minimising is done in them, too."""

Progress = Callable[[int, int, int, float], None]
"""Told of attempts made, findings lifted, findings to lift, seconds left."""


@dataclass(frozen=True, slots=True)
class AnyRange(Target):
    """A target beyond the contract, where an odd range starts and ends and how large it is tells nothing of the manner."""

    def matches(self, violation: Violation, fired: Any) -> bool:
        """Whether this violation is alike."""
        if (violation.property, violation.call) != (self.property, self.call):
            return False
        wanted = (self.property, self.call or "", self.shape or ())
        return key_of(mark_of(violation), frozenset(), True, False) == key_of(wanted, frozenset(), True, False)


@dataclass(slots=True)
class Lifting:
    """What came of it: findings that took more than ioctls, how many were lifted, seconds, attempts in which a process ended."""

    wanted: int = 0
    lifted: int = 0
    seconds: float = 0.0
    deaths: int = 0


@dataclass(frozen=True, slots=True)
class _Task:
    number: int
    search: bool
    seconds: float


def goal_of(finding: Finding) -> Goal:
    """What is to be lifted of a finding."""
    violation = finding.minimised.violation
    manner = AnyRange if finding.minimised.level == BEYOND_LEVEL else Target
    target = manner(violation.property, violation.call, violation.shape)
    return Goal(Case(finding.config, tuple(finding.operations)), finding.driver, target, finding.sites, finding.own_means)


def finding_of(trace: Trace) -> Finding:
    """What a trace shows on its driver, up to where it fails. Raises :class:`hvmodel.traces.shrink.NothingFails` if nothing does,
    KeyError for an unknown driver."""
    violation = subject(trace)
    if violation is None:
        raise NothingFails(f"{trace.property or 'every property'} holds on {trace.driver}, so there is nothing to lift")
    target = Target(violation.property, violation.call, violation.shape)
    hit = Trials(trace.driver, target, 1).run(Case(trace.config, tuple(trace.operations)))
    assert hit is not None, "it failed a moment ago"
    shown = Minimised(trace.config, list(hit.case.operations), hit.violation, hit.level)
    defects = tuple(trace.finding.get("defects", ()))
    return Finding(shown, trace.driver, trace.origin.get("gear", ""), str(trace.origin.get("seed", "")), defects=defects)


def can_lift(finding: Finding) -> bool:
    """Whether somebody with less power is worth looking for."""
    return finding.gear != UNOBSERVED and finding.own_means.caller > USER


def _work(findings: Sequence[Finding], seed: str, channel: Any) -> None:
    """A worker: one attempt after another, as it is told."""
    settle()
    try:
        while True:
            task = channel.recv()
            begun = time.monotonic()
            goal = goal_of(findings[task.number])

            def stopped(until: float = begun + task.seconds) -> bool:
                return time.monotonic() > until

            if task.search:
                found = by_search(goal, f"{seed}/{task.number}", stopped)
            else:
                found = by_translation(goal, stopped)
            channel.send((found, time.monotonic() - begun))
    except (KeyboardInterrupt, EOFError, OSError):
        return
    except BaseException:
        channel.send((traceback.format_exc(), 0.0))


class _Crew:
    """The workers, each with a channel and at most one attempt."""

    def __init__(self, findings: Sequence[Finding], seed: str, jobs: int) -> None:
        self.findings, self.seed = findings, seed
        methods = multiprocessing.get_all_start_methods()
        self.context: Any = multiprocessing.get_context("fork" if "fork" in methods else "spawn")
        self.idle: list[tuple[Any, Any]] = []
        self.busy: dict[Any, tuple[Any, _Task, float]] = {}
        """By channel: process, attempt, when it has to be over."""
        for _ in range(jobs):
            self.start()

    def start(self) -> None:
        """One more worker."""
        mine, theirs = self.context.Pipe()
        process = self.context.Process(target=_work, args=(self.findings, self.seed, theirs), daemon=True)
        process.start()
        theirs.close()
        self.idle.append((mine, process))

    def give(self, task: _Task) -> None:
        """An attempt for an idle worker."""
        channel, process = self.idle.pop()
        with contextlib.suppress(OSError):  # it has died meanwhile: the answer will not come
            channel.send(task)
        self.busy[channel] = (process, task, time.monotonic() + task.seconds + PATIENCE)

    def hear(self) -> list[tuple[_Task, Minimised | None, float | None]]:
        """Attempts that are over: what was found, and the seconds, None if the process ended. Raises RuntimeError if a worker
        fails."""
        over: list[tuple[_Task, Minimised | None, float | None]] = []
        ready: list[Any] = wait(list(self.busy), timeout=0.2)
        for channel in ready:
            process, task, _until = self.busy.pop(channel)
            try:
                found, seconds = channel.recv()
            except (EOFError, OSError):
                over.append((task, None, None))
                self.start()
                continue
            if isinstance(found, str):
                raise RuntimeError(f"a worker failed, which is a bug in hvmodel\n{found}")
            self.idle.append((channel, process))
            over.append((task, found, seconds))
        for channel, (process, task, until) in list(self.busy.items()):
            if time.monotonic() > until:
                del self.busy[channel]
                process.kill()
                over.append((task, None, None))
                self.start()
        return over

    def end(self) -> None:
        """All workers end."""
        for process in [process for _, process in self.idle] + [process for process, _, _ in self.busy.values()]:
            process.kill()
            process.join(5)


def lift_findings(groups: Sequence[Group], budget: float, seed: int, jobs: int = 0, progress: Progress | None = None) -> Lifting:
    """Lift the findings of a hunt within about ``budget`` seconds, with ``jobs`` processes (0: one per core); what is found is put
    down at the findings. An interrupt ends it with what there is. Raises RuntimeError if a worker fails."""
    best = [item.best for item in groups if can_lift(item.best)]
    others = [finding for item in groups for finding in item.findings[1:] if can_lift(finding)]
    result = Lifting(len(best) + len(others))
    if budget <= 0 or not result.wanted:
        return result
    started = time.monotonic()
    job = _Job([*best, *others], len(best), started + budget, jobs or os.cpu_count() or 1)
    crew = _Crew(job.findings, str(seed), min(job.jobs, result.wanted))
    try:
        while True:
            while crew.idle and (task := job.next()) is not None:
                crew.give(task)
            if not crew.busy:
                break
            for task, found, seconds in crew.hear():
                result.deaths += seconds is None
                job.done(task, found, seconds)
            if progress is not None:
                progress(job.attempts, job.lifted, result.wanted, max(job.deadline - time.monotonic(), 0))
    except KeyboardInterrupt:
        pass
    finally:
        crew.end()
    result.lifted, result.seconds = job.lifted, time.monotonic() - started
    return result


class _Job:
    """What is to be tried next. ``count`` findings at the beginning are the best ones of their causes."""

    def __init__(self, findings: Sequence[Finding], count: int, deadline: float, jobs: int) -> None:
        self.findings, self.deadline, self.jobs = findings, deadline, jobs
        self.attempts = 0
        numbers = range(len(findings))
        best, others = numbers[:count], numbers[count:]
        self._phases = deque([(False, self._cheap(best)), (True, self._promising(best))])
        self._phases += [(False, self._cheap(others)), (True, self._promising(others))]

    def _cheap(self, numbers: Sequence[int]) -> deque[int]:
        """What is translated soonest first: each refusal has to be placed."""
        return deque(sorted(numbers, key=lambda number: self.findings[number].faults))

    def _promising(self, numbers: Sequence[int]) -> deque[int]:
        """What is worth most first: a request that the contract allows is likelier to have a caller than one that it does not."""
        return deque(sorted(numbers, key=self._weight, reverse=True))

    def _weight(self, number: int) -> float:
        return UNLIKELY if self.findings[number].own_means.caller == BEYOND else 1.0

    @property
    def lifted(self) -> int:
        """How many findings have a trace of somebody with less power."""
        return sum(finding.caller is not None for finding in self.findings)

    def next(self) -> _Task | None:
        """The next attempt; None if there is none or the time is over."""
        while self._phases:
            search, numbers = self._phases[0]
            while numbers and self._settled(numbers[0]):
                numbers.popleft()
            left = self.deadline - time.monotonic()
            if left <= 0:
                return None
            if not numbers:
                self._phases.popleft()
                continue
            share = BEST if len(self._phases) > 2 else 1.0
            waiting = sum(self._weight(number) for number in numbers if not self._settled(number))
            part = self._weight(numbers[0]) / waiting
            seconds = max(left * share * self.jobs * part, 0.1) if search else TRANSLATING
            return _Task(numbers.popleft(), search, min(seconds, left))
        return None

    def _settled(self, number: int) -> bool:
        return self.findings[number].means.caller <= USER

    def done(self, task: _Task, found: Minimised | None, seconds: float | None) -> None:
        """What came of an attempt."""
        self.attempts += 1
        finding = self.findings[task.number]
        finding.sought = (finding.sought or 0.0) + (seconds or 0.0)
        if found is not None:
            finding.lifted_to(found)


__all__ = ["MOST", "PART", "Lifting", "can_lift", "finding_of", "goal_of", "lift_findings"]
