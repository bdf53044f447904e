"""Exploring as a job: each part of a scope under each profile, on all cores, until it is done or the budget is spent.

The verdict is one of three. *holds*: everything within the scope was tried and no property failed. *fails*: a property failed,
with a shortest trace. *undetermined*: the search was broken off; how far it got is told, and it never counts as a pass.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hvmodel.gears.exhaustive.crew import Crew
from hvmodel.gears.exhaustive.engine import Manner
from hvmodel.gears.exhaustive.scope import Scope
from hvmodel.gears.exhaustive.search import FAILS, HOLDS, UNDETERMINED, Found, Search
from hvmodel.gears.minimise.trial import Minimised
from hvmodel.jobs import explore_file
from hvmodel.jobs.findings import Finding, Group, group, prune
from hvmodel.jobs.naming import name_findings
from hvmodel.operations import describe
from hvmodel.world import World

GEAR = "explore"


class DoesNotRepeat(Exception):
    """A failure of the search that its trace alone does not show; the text is one line."""


@dataclass(slots=True)
class Options:
    """What to explore. ``budget`` is in seconds (0: until all is done); ``everything`` goes on behind failures to the end of the
    scope; ``reach`` counts what is exercised; ``kept`` is a file in which the search is kept, to go on with."""

    driver: str
    parts: tuple[Scope, ...]
    profiles: list[str]
    budget: float = 0.0
    jobs: int = 0
    symmetry: bool = True
    everything: bool = False
    reach: bool = False
    kept: Path | None = None


@dataclass(slots=True)
class Report:
    """What came of it: a search for each profile and part, and the findings in groups, the best first."""

    options: Options
    searches: list[Search]
    groups: list[Group] = field(default_factory=list)
    unrepeated: list[str] = field(default_factory=list)
    """Failures that a world of its own does not show, in words: of a driver that reads what an earlier call left behind, or a bug
    here."""
    interrupted: bool = False
    resumed: bool = False

    @property
    def verdict(self) -> str:
        """holds, fails or undetermined, of all together."""
        verdicts = {search.verdict for search in self.searches}
        return FAILS if FAILS in verdicts else UNDETERMINED if UNDETERMINED in verdicts else HOLDS

    @property
    def findings(self) -> list[Finding]:
        """All findings, best first."""
        return [finding for item in self.groups for finding in item.findings]

    @property
    def states(self) -> int:
        """States of all searches."""
        return sum(search.states for search in self.searches)

    @property
    def transitions(self) -> int:
        """Transitions of all searches."""
        return sum(search.transitions for search in self.searches)

    @property
    def seconds(self) -> float:
        """Seconds of all searches."""
        return sum(search.seconds for search in self.searches)

    def as_json(self) -> dict[str, Any]:
        """The report for other programs."""
        return {
            "driver": self.options.driver,
            "verdict": self.verdict,
            "symmetry": self.options.symmetry,
            "states": self.states,
            "transitions": self.transitions,
            "seconds": round(self.seconds, 2),
            "parts": [_as_json(search) for search in self.searches],
            "findings": [finding.as_json() for finding in self.findings],
        }


def _as_json(search: Search) -> dict[str, Any]:
    return {
        "part": search.scope.name,
        "scope": search.scope.sentence(),
        "profile": search.profile,
        "verdict": search.verdict,
        "complete": search.complete,
        "states": search.states,
        "frontier": search.states - search.done,
        "transitions": search.transitions,
        "depth": search.depth,
        "levels": [level.states for level in search.levels],
        "seconds": round(search.seconds, 2),
        "processor_seconds": round(search.cpu, 2),
        "bytes_per_state": round(search.bytes_per_state()),
    }


Progress = Callable[[Report, Search, int, int], None]
"""Told of the running search and how many of how many states of its level are done."""


def explore(options: Options, progress: Progress | None = None) -> Report:
    """Explore. An interrupt ends the search, not the report. Raises :class:`hvmodel.jobs.explore_file.BadFile` for a kept
    search that is not this one's, :class:`hvmodel.gears.exhaustive.menu.TooWide` and
    :class:`hvmodel.gears.exhaustive.crew.WorkerDied`."""
    searches = [
        Search(options.driver, part, profile, options.symmetry)
        for profile in options.profiles
        for part in options.parts
        if part.possible(profile)
    ]
    report = Report(options, searches)
    if options.kept is not None and options.kept.exists():
        explore_file.load(options.kept, searches)
        report.resumed = True
    jobs = options.jobs or os.cpu_count() or 1
    deadline = time.perf_counter() + options.budget if options.budget else None
    with _until_interrupted(report) as stopped:
        left = [search for search in searches if not search.complete and (options.everything or not search.found)]
        for number, search in enumerate(left):
            if stopped() or (deadline is not None and time.perf_counter() >= deadline):
                break
            tell = (lambda one, done, of: progress(report, one, done, of)) if progress is not None else None
            manner = Manner(options.symmetry, options.everything, options.reach)
            with Crew(jobs, search.driver, search.scope, search.profile, manner) as crew:
                search.run(crew, _share(deadline, len(left) - number), tell, options.everything, stopped)
    if options.kept is not None:
        explore_file.save(options.kept, searches)
    report.groups = _groups(report)
    name_findings(report.groups, jobs)
    return report


def _share(deadline: float | None, parts: int) -> float | None:
    """When the next of so many parts has had its share of the time: what it leaves is the others'."""
    if deadline is None:
        return None
    now = time.perf_counter()
    return now + (deadline - now) / parts


@contextmanager
def _until_interrupted(report: Report) -> Iterator[Callable[[], bool]]:
    """The first interrupt is noted, a second one goes through."""

    def note(_number: int, _frame: Any) -> None:
        if report.interrupted:
            raise KeyboardInterrupt
        report.interrupted = True

    before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: report.interrupted
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _groups(report: Report) -> list[Group]:
    """The failures of all searches as findings; of those that are the same the best."""
    best: dict[object, Finding] = {}
    for search in report.searches:
        for found in search.found.values():
            try:
                finding = finding_of(search, found)
            except DoesNotRepeat as error:
                report.unrepeated.append(str(error))
                continue
            known = best.get(finding.key)
            if known is None or finding.rank < known.rank:
                best[finding.key] = finding
    return group(prune(list(best.values())))


def finding_of(search: Search, found: Found) -> Finding:
    """A failure as a finding. It is replayed in a world of its own first; :class:`DoesNotRepeat` if it does not fail there."""
    config = search.scope.configuration(search.profile)
    world = World(config, search.driver)
    level = 0
    violations = []
    for operation in found.operations:
        outcome = world.apply(operation)
        level = max(level, outcome.level)
        violations = list(outcome.violations)
    again = next((one for one in violations if (one.property, one.call) == (found.violation.property, found.violation.call)), None)
    if again is None:
        said = "; ".join(describe(operation) for operation in found.operations)
        raise DoesNotRepeat(f"{found.violation.property} failed in {search.scope.name}, but not in a world of its own: {said}")
    small = Minimised(config, list(found.operations), again, level)
    return Finding(small, search.driver, GEAR, f"{search.scope.name}/{search.profile}")


__all__ = ["Options", "Report", "explore", "finding_of"]
