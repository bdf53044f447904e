"""The hunt: walk until the budget is spent, set known findings aside, minimise the first hits of each kind, group, write."""

from __future__ import annotations

import json
import multiprocessing
import os
import time
import traceback
import zlib
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from functools import partial
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any

from hvmodel.callers.levels import LEVELS
from hvmodel.configuration import Configuration
from hvmodel.drivers import is_native
from hvmodel.faults import CALL_SITES
from hvmodel.gears.minimise import Target, minimise
from hvmodel.gears.walk import Run, runs, settle, walk
from hvmodel.jobs.fatal import Place, reproduce
from hvmodel.jobs.findings import Finding, Group, Mark, group, mark_of, prune, save_findings
from hvmodel.jobs.lift import MOST, PART, Lifting, lift_findings
from hvmodel.jobs.lift import Progress as LiftProgress
from hvmodel.jobs.naming import name_findings
from hvmodel.jobs.rota import Rota
from hvmodel.operations import KINDS, Operation
from hvmodel.properties.catalogue import ALWAYS_JUDGED, PROPERTIES
from hvmodel.properties.verdicts import Violation
from hvmodel.rules.rules import RULES
from hvmodel.rules.worlds import PROFILE_NAMES
from hvmodel.world import Outcome, World

HITS_PER_KIND = 2
"""How many hits of one signature are minimised: one signature can hide two defects."""

SHARE = 0.7
"""At most this share of the time goes into minimising while the walk goes on."""

STEPS = 200
"""Operations in one run, before recovery."""


@dataclass(slots=True)
class Options:
    """What to hunt. ``budget`` is in seconds, ``operations`` is how many to do at least (0: as many as the budget allows);
    ``profiles`` and ``levels`` are what to search, the first profile gets half."""

    driver: str = "posted-v0"
    profiles: list[str] = field(default_factory=lambda: list(PROFILE_NAMES))
    levels: list[int] = field(default_factory=lambda: list(range(len(LEVELS))))
    budget: float = 90.0
    operations: int = 0
    seed: int = 0
    jobs: int = 0


@dataclass(slots=True)
class Tally:
    """What a search did: operations, runs, time, and how often each thing was reached."""

    operations: int = 0
    runs: int = 0
    seconds: float = 0.0
    hits: int = 0
    skipped: int = 0
    applied: dict[str, list[int]] = field(default_factory=dict)
    rules: dict[str, int] = field(default_factory=dict)
    judged: dict[str, int] = field(default_factory=dict)
    sites: dict[str, int] = field(default_factory=dict)
    fired: dict[str, int] = field(default_factory=dict)
    environment: int = 0

    def add(self, run: Run) -> None:
        """Count one finished run."""
        world = run.world
        self.operations += len(run.operations)
        self.runs += 1
        for kind, (tried, applied) in world.applied.items():
            entry = self.applied.setdefault(kind, [0, 0])
            entry[0] += tried
            entry[1] += applied
        self.environment += run.environment
        for mine, theirs in ((self.judged, world.judge.judged), (self.rules, run.proposed), (self.fired, run.fired)):
            for name, count in theirs.items():
                mine[name] = mine.get(name, 0) + count
        for site, count in world.faults.reached.items():
            self.sites[site] = self.sites.get(site, 0) + count

    def merge(self, other: Tally) -> None:
        """Add what another search did."""
        self.operations += other.operations
        self.runs += other.runs
        self.seconds = max(self.seconds, other.seconds)
        self.hits += other.hits
        self.skipped += other.skipped
        for kind, (tried, applied) in other.applied.items():
            entry = self.applied.setdefault(kind, [0, 0])
            entry[0] += tried
            entry[1] += applied
        self.environment += other.environment
        pairs = ((self.judged, other.judged), (self.sites, other.sites), (self.rules, other.rules), (self.fired, other.fired))
        for mine, theirs in pairs:
            for name, count in theirs.items():
                mine[name] = mine.get(name, 0) + count

    def never(self) -> dict[str, list[str]]:
        """What was never reached: kinds of operation that never applied, properties never judged, fault sites never passed, and
        those of them where nothing was ever refused."""
        return {
            "rules": [name for name in RULES if not self.rules.get(name)],
            "operations": [kind for kind in KINDS if not self.applied.get(kind, [0, 0])[1]],
            "properties": [name for name in PROPERTIES if not self.judged.get(name) and name not in ALWAYS_JUDGED],
            "fault sites": [site for site in CALL_SITES if not self.sites.get(site)],
            "refusals": [site for site in CALL_SITES if self.sites.get(site) and not self.fired.get(site)],
        }


@dataclass(slots=True)
class Hit:
    """A violation as a gear saw it, before it is minimised. ``sites`` is where its operation was refused."""

    config: Configuration
    operations: list[Operation]
    violation: Violation
    sites: frozenset[str]
    level: int
    refused: bool
    seed: str
    gear: str = "walk"

    @property
    def signature(self) -> Signature:
        """What sets hits apart while searching: the violation's mark, where it was refused, root or L1VH, whether an attach was
        refused before."""
        return (mark_of(self.violation), self.sites, self.config.l1vh, self.refused)


Signature = tuple[Mark, frozenset[str], bool, bool]


class Pending:
    """Hits that wait for the minimiser. First comes what nothing found so far resembles; each process prefers its own share."""

    def __init__(self, job: int, jobs: int) -> None:
        self._job, self._jobs = job, jobs
        self._waiting: dict[Signature, list[Hit]] = {}
        self._mine: dict[Mark, bool] = {}

    def __len__(self) -> int:
        return sum(map(len, self._waiting.values()))

    def add(self, hit: Hit) -> None:
        """Queue a hit."""
        self._waiting.setdefault(hit.signature, []).append(hit)

    def has_fresh(self, marks: Counter[object]) -> bool:
        """Whether a hit waits whose mark has never been minimised."""
        return any(not marks[signature[0]] for signature in self._waiting)

    def pop(self, found: dict[Signature, int], marks: Counter[object]) -> Hit | None:
        """The most promising hit, or None when none is worth the time. ``found`` is the lowest level at which a signature has been
        minimised, ``marks`` how often each mark and each property has."""
        best: tuple[tuple[int, ...], Signature] | None = None
        for signature, hits in self._waiting.items():
            mark = signature[0]
            mine = self._mine.get(mark)
            if mine is None:
                mine = self._mine[mark] = zlib.crc32(repr(mark).encode()) % self._jobs == self._job
            again = found.get(signature, len(LEVELS)) <= hits[0].level
            value = (again, marks[mark] > 0, not mine, marks[mark[0]], len(hits[0].operations))
            if best is None or value < best[0]:
                best = (value, signature)
        if best is None:
            return None
        hits = self._waiting[best[1]]
        hit = hits.pop(0)
        if not hits:
            del self._waiting[best[1]]
        return hit


class Hunter:
    """One process's search."""

    def __init__(self, options: Options, job: int) -> None:
        self.options = options
        self.job = job
        self.tally = Tally()
        self.findings: dict[tuple[object, ...], Finding] = {}
        self._seen: dict[tuple[object, ...], int] = {}
        self._pending = Pending(job, options.jobs or os.cpu_count() or 1)
        self._found: dict[Signature, int] = {}
        self._marks: Counter[object] = Counter()
        self.first = 0
        """The number of the run to begin with."""
        self.at: Callable[[Place], None] = lambda place: None
        """Told of each run before it begins."""
        self.kept: Callable[[Finding], None] = lambda finding: None
        """Told of each finding."""

    def search(self, until: Callable[[], bool], progress: Callable[[Hunter], None] | None = None) -> None:
        """Walk until ``until`` says stop, and sweep a little behind each run. Half of the runs end at their first finding of a new
        kind, half go on."""
        options = self.options
        started = time.perf_counter()
        minimising = 0.0
        heard = partial(self.listener, stop_at_first=False, gear="sweep")
        rota = Rota(f"{options.seed}/{self.job}/sweep", options.driver, options.profiles, max(options.levels), heard)
        for seed, profile, level, steps in runs(options.seed, self.job, options.profiles, options.levels, STEPS, self.first):
            if until():
                break
            self.at(Place(seed, profile, level, steps))
            stop_at_first = zlib.crc32(seed.encode()) & 1 == 1
            run = walk(seed, options.driver, profile, level, steps, self.listener(seed, stop_at_first))
            self.tally.add(run)
            swept = rota.turn(run, seed)
            if swept is not None:
                self.tally.add(swept.run)
            while minimising < SHARE * (time.perf_counter() - started):
                begun = time.perf_counter()
                if not self.minimise_next():
                    break
                minimising += time.perf_counter() - begun
            self.tally.seconds = time.perf_counter() - started
            if progress is not None:
                progress(self)
        self.tally.skipped += len(self._pending)

    def listener(self, seed: str, stop_at_first: bool, gear: str = "walk") -> Callable[[Run, Outcome], bool]:
        """Who hears the violations of a run: it sets them aside for the minimiser."""

        def heard(run: Run, outcome: Outcome) -> bool:
            fresh = False
            sites = frozenset(fault.site for fault in outcome.fired)
            operations: list[Operation] | None = None
            for violation in outcome.violations:
                self.tally.hits += 1
                signature = (mark_of(violation), sites, outcome.level, run.config.l1vh, run.refused)
                count = self._seen.get(signature, 0)
                self._seen[signature] = count + 1
                if count >= HITS_PER_KIND:
                    continue
                fresh = fresh or count == 0
                operations = operations or list(run.operations)
                self._pending.add(Hit(run.config, operations, violation, sites, outcome.level, run.refused, seed, gear))
            return fresh and stop_at_first

        return heard

    def minimise_next(self) -> bool:
        """Minimise the most promising hit that waits; False if none does."""
        hit = self._pending.pop(self._found, self._marks)
        if hit is not None:
            self._minimise(hit)
        return hit is not None

    @property
    def waiting(self) -> int:
        """How many hits wait for the minimiser."""
        return len(self._pending)

    @property
    def fresh(self) -> bool:
        """Whether one of them resembles nothing that was found."""
        return self._pending.has_fresh(self._marks)

    def _minimise(self, hit: Hit) -> None:
        violation = hit.violation
        target = Target(violation.property, violation.call, violation.shape, hit.sites)
        small = minimise(hit.config, hit.operations, self.options.driver, target)
        if small is None:
            raise AssertionError(f"a run does not repeat: seed {hit.seed}, {violation.property}")
        self._keep(Finding(small, self.options.driver, hit.gear, hit.seed))
        signature = hit.signature
        self._found[signature] = min(self._found.get(signature, len(LEVELS)), small.level)
        # What else fails at the end of the minimal trace needs no search of its own, only the last simplifications.
        world = World(small.config, self.options.driver)
        outcomes = [world.apply(operation) for operation in small.operations]
        sites = frozenset(fault.site for fault in outcomes[-1].fired)
        for violation in outcomes[-1].violations:
            known = (mark_of(violation), sites, small.config.l1vh, hit.refused)
            if self._found.get(known, len(LEVELS)) <= small.level:
                continue
            target = Target(violation.property, violation.call, violation.shape, sites)
            beside = minimise(small.config, small.operations, self.options.driver, target, limit=200)
            if beside is not None:
                self._keep(Finding(beside, self.options.driver, hit.gear, hit.seed))
            self._found[known] = small.level

    def _keep(self, finding: Finding) -> None:
        known = self.findings.get(finding.key)
        self._marks[finding.mark] += 1
        self._marks[finding.property_id] += known is None
        if known is None or finding.rank < known.rank:
            self.findings[finding.key] = finding
            self.kept(finding)


@dataclass(slots=True)
class Report:
    """What a hunt found."""

    options: Options
    tally: Tally
    groups: list[Group]
    lifting: Lifting | None = None
    """What came of looking for callers with less power, if they were looked for."""

    @property
    def findings(self) -> list[Finding]:
        """All findings, best first."""
        return [finding for item in self.groups for finding in item.findings]

    def as_json(self) -> dict[str, Any]:
        """The report for other programs."""
        return {
            "driver": self.options.driver,
            "seed": self.options.seed,
            "profiles": self.options.profiles,
            "operations": self.tally.operations,
            "seconds": round(self.tally.seconds, 2),
            "never_reached": self.tally.never(),
            "lifting": asdict(self.lifting) if self.lifting is not None else None,
            "findings": [finding.as_json() for finding in self.findings],
        }


def _work(options: Options, job: int, deadline: float, channel: Any, place: Any, first: int) -> None:
    """A worker process: search until the deadline, then send what was found. ``place`` says which run it is in, for whoever finds
    it dead."""
    settle()
    hunter = Hunter(options, job)
    hunter.first = first
    last = 0.0

    def at(run: Place) -> None:
        place.value = str(run).encode()

    def progress(current: Hunter) -> None:
        nonlocal last
        now = time.monotonic()
        if now - last >= 0.5:
            last = now
            channel.send(("progress", current.tally.operations, len(current.findings)))

    hunter.at = at
    if is_native(options.driver):  # what it has found must not die with it
        hunter.kept = lambda finding: channel.send(("kept", finding, None))
    try:
        share = options.operations / (options.jobs or os.cpu_count() or 1) or float("inf")
        hunter.search(lambda: time.monotonic() >= deadline or hunter.tally.operations >= share, progress)
        channel.send(("done", hunter.tally, list(hunter.findings.values())))
    except KeyboardInterrupt:
        channel.send(("done", hunter.tally, list(hunter.findings.values())))
    except BaseException:
        channel.send(("failed", traceback.format_exc(), None))


class _Crew:
    """The workers of a hunt, each with a channel of its own: one that dies takes nobody with it."""

    def __init__(self, options: Options, deadline: float) -> None:
        self.options, self.deadline = options, deadline
        methods = multiprocessing.get_all_start_methods()
        self.context: Any = multiprocessing.get_context("fork" if "fork" in methods else "spawn")
        self.workers: dict[Any, tuple[int, Any, Any]] = {}
        """By channel: job, process, place."""
        self.deaths = 0
        self.known: set[tuple[str, str]] = set()
        """In which operations the driver ended a process, and how."""
        for job in range(options.jobs or os.cpu_count() or 1):
            self.start(job, 0)

    def start(self, job: int, first: int) -> None:
        """A worker that begins with a run of the schedule."""
        mine, theirs = self.context.Pipe(duplex=False)
        place = self.context.Array("c", 256, lock=False)
        process = self.context.Process(target=_work, args=(self.options, job, self.deadline, theirs, place, first), daemon=True)
        process.start()
        theirs.close()
        self.workers[mine] = (job, process, place)

    def bury(self, channel: Any) -> Finding | None:
        """A worker is dead. With a native driver that is a finding, and another worker goes on behind it; raises RuntimeError if it
        is a failure of the harness, or if there is no end of it."""
        job, process, place = self.workers.pop(channel)
        process.join(5)
        self.deaths += 1
        run = Place.read(place.value.decode())
        if not is_native(self.options.driver) or run is None or self.deaths > MOST_DEATHS:
            raise RuntimeError(f"a worker ended with status {process.exitcode}")
        begun = time.monotonic()
        finding = reproduce(self.options.driver, run, self.known)
        self.deadline += time.monotonic() - begun  # the budget is for searching
        self.start(job, run.number + 1)
        return finding

    def end(self) -> None:
        """Wait a little for each, then end it."""
        for _job, worker, _place in self.workers.values():
            worker.join(timeout=5)
            if worker.is_alive():
                worker.terminate()


MOST_DEATHS = 20
"""So many workers may die of a native driver in one hunt."""


def hunt(options: Options, progress: Callable[[int, int, float], None] | None = None) -> Report:
    """Search for the budget with ``options.jobs`` processes (0: one per core); ``progress`` hears operations, findings, seconds.

    Raises RuntimeError if a worker fails.
    """
    jobs = options.jobs or os.cpu_count() or 1
    started = time.monotonic()
    crew = _Crew(options, started + options.budget)
    tally, found = Tally(), list[Finding]()
    counts: dict[int, tuple[int, int]] = {}
    waiting, interrupted = jobs, False
    try:
        while waiting:
            try:
                ready: list[Any] = wait(list(crew.workers), timeout=0.5)
            except KeyboardInterrupt:
                # The workers were interrupted as well and hand over what they have; a second interrupt ends it.
                if interrupted:
                    raise
                interrupted = True
                continue
            for channel in ready:
                try:
                    kind, first, second = channel.recv()
                except (EOFError, ConnectionError):
                    fatal = crew.bury(channel)
                    found += [fatal] if fatal is not None else []
                    continue
                if kind == "failed":
                    raise RuntimeError(f"a worker failed, which is a bug in hvmodel\n{first}")
                if kind == "kept":
                    found.append(first)
                elif kind == "progress":
                    counts[crew.workers[channel][0]] = (first, second)
                    if progress is not None:
                        progress(sum(c[0] for c in counts.values()), sum(c[1] for c in counts.values()), time.monotonic() - started)
                else:
                    waiting -= 1
                    tally.merge(first)
                    found += second
                    crew.workers.pop(channel)[1].join(5)
    finally:
        crew.end()
    tally.seconds = time.monotonic() - started
    merged: dict[tuple[object, ...], Finding] = {}
    for finding in found:
        known = merged.get(finding.key)
        if known is None or finding.rank < known.rank:
            merged[finding.key] = finding
    report = Report(options, tally, group(prune(list(merged.values()))))
    name_findings(report.groups, jobs)
    return report


def lift_report(report: Report, budget: float | None, progress: LiftProgress | None = None) -> None:
    """Look for callers with less power for what a hunt found, for ``budget`` seconds; None: a part of what the hunt took."""
    if budget is None:
        budget = min(report.tally.seconds / PART, MOST)
    report.lifting = lift_findings(report.groups, budget, report.options.seed, report.options.jobs, progress)


def save(report: Report, directory: Path) -> None:
    """One trace file for each finding, named after property and number. Files of an earlier hunt are replaced."""
    save_findings(report.findings, directory)


def save_json(report: Report, path: Path) -> None:
    """The report as JSON."""
    path.write_text(json.dumps(report.as_json(), indent=1) + "\n", encoding="utf-8")
