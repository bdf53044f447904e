"""The comparison: search both, put what is known and what was found to both, walk in step, minimise what differs, measure."""

from __future__ import annotations

import multiprocessing
import os
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import TypeVar

from hvmodel.callers.levels import LEVELS
from hvmodel.gears.minimise.weight import start_weight
from hvmodel.gears.walk import runs, walk
from hvmodel.jobs.compare.cost import LIVES, CostPair, failing, measure, paired
from hvmodel.jobs.compare.judging import state_on
from hvmodel.jobs.compare.narrow import Witness, differences, narrow
from hvmodel.jobs.compare.parting import ASPECTS, Kind, folded, pair
from hvmodel.jobs.compare.sorting import Judged, Sorted, sort
from hvmodel.jobs.compare.subjects import Given, Subject, subjects_of
from hvmodel.jobs.findings import Finding
from hvmodel.jobs.hunt import Options as HuntOptions
from hvmodel.jobs.hunt import Tally, hunt
from hvmodel.rules.worlds import PROFILE_NAMES
from hvmodel.traces.verdict import UNDETERMINED, verdict_of

STEPS = 60
"""Operations in one walk in step: it ends where the callers are told something else, so many short ones see more."""

SHARES = (0.4, 0.4, 0.2)
"""How the budget is divided: the search of A, that of B, walks in step."""

T = TypeVar("T")
R = TypeVar("R")

Progress = Callable[[str], None]
"""Told in a few words where the comparison is."""


@dataclass(slots=True)
class Options:
    """What to compare. ``budget`` is in seconds and for the searches and walks together, ``operations`` how many each search does
    at least (0: as many as the budget allows); a tenth of that is walked in step."""

    a: str
    b: str
    given: Sequence[Given] = ()
    budget: float = 60.0
    operations: int = 0
    seed: int = 0
    jobs: int = 0
    """Processes; 0: one a core."""

    @property
    def processes(self) -> int:
        """How many processes work."""
        return self.jobs or os.cpu_count() or 1


@dataclass(slots=True)
class Difference:
    """One or several ways of differing that one shortest trace shows. ``runs`` is in how many runs each was seen."""

    kinds: list[Kind]
    witness: Witness
    runs: int
    name: str = ""

    @property
    def aspect(self) -> str:
        """What differs, the worst of it."""
        return self.kinds[0].aspect

    @property
    def rank(self) -> tuple[object, ...]:
        """Sorts them for a reader: what callers are told first, what ordinary callers meet, what needs no refusal and
        nothing unusual at the start, what is often."""
        best = self.kinds[0]
        unusual = sum(start_weight(self.witness.config)[:2])
        return (ASPECTS.index(best.aspect), self.witness.level, len(best.refused), unusual, -self.runs, best.text)


@dataclass(slots=True)
class Comparison:
    """All that was found out."""

    options: Options
    findings: Sorted = field(default_factory=Sorted)
    differences: list[Difference] = field(default_factory=list)
    costs: list[CostPair] = field(default_factory=list)
    searched: tuple[int, int] = (0, 0)
    """Operations that the searches of A and B did."""
    walked: int = 0
    """Operations done in step."""
    seconds: float = 0.0

    @property
    def status(self) -> int:
        """The exit status: 1 if anything fails on B that does not fail on A, else 0."""
        return 1 if self.findings.of("broken") else 0


def compare(options: Options, progress: Progress = lambda text: None) -> Comparison:
    """Compare two drivers. Raises RuntimeError if a search fails, KeyError for an unknown driver."""
    started = time.monotonic()
    result = Comparison(options)
    with _pool(options) as pool:
        found: list[Subject] = []
        tallies = []
        for share, driver, name in zip(SHARES, (options.a, options.b), "AB", strict=False):
            tally, findings = _search(options, driver, share, partial(_searching, progress, name))
            tallies.append(tally.operations)
            found += [Subject(finding, f"search of {name}") for finding in findings]
        result.searched = tallies[0], tallies[1]
        progress(f"judging on both: {len(found)} found, {len(options.given)} known")
        result.findings = _judge(options, found, pool)
        result.differences, result.walked = _differences(options, found, pool, progress)
        progress("measuring what they cost")
        result.costs = _costs(options, pool)
    result.seconds = time.monotonic() - started
    return result


class _Here:
    """A pool that is this process: its map is the built-in one."""

    def __enter__(self) -> _Here:
        return self

    def __exit__(self, *_error: object) -> None:
        return None

    def map(self, work: Callable[[T], R], items: Iterable[T]) -> Iterator[R]:
        """As ``Executor.map``."""
        return map(work, items)


Pool = ProcessPoolExecutor | _Here


def _pool(options: Options) -> Pool:
    if options.processes < 2:
        return _Here()
    return ProcessPoolExecutor(options.processes, mp_context=multiprocessing.get_context("fork"))


# --- findings -----------------------------------------------------------------------------------------------------------------


def _searching(progress: Progress, name: str, operations: int, findings: int, seconds: float) -> None:
    progress(f"searching {name}, {operations:,} operations, {findings} minimised traces, {seconds:.0f} s")


def _search(
    options: Options, driver: str, share: float, progress: Callable[[int, int, float], None]
) -> tuple[Tally, list[Finding]]:
    wanted = HuntOptions(driver, budget=share * options.budget, operations=options.operations, seed=options.seed)
    wanted.jobs = options.processes
    report = hunt(wanted, progress)
    return report.tally, report.findings


def _judge(options: Options, found: list[Subject], pool: Pool) -> Sorted:
    """Everything that is known or was found, put to both."""
    subjects: list[Subject] = []
    quiet: list[Given] = []
    for given, about in zip(options.given, pool.map(partial(_about, options.a, options.b), options.given), strict=True):
        subjects += about
        quiet += [] if about else [given]
    subjects += found
    result = sort(list(pool.map(partial(_put, options.a, options.b), subjects)))
    result.neither += len(quiet)
    result.untested += [text for text in pool.map(partial(_untested, options.a, options.b), quiet) if text]
    return result


def _about(a: str, b: str, given: Given) -> list[Subject]:
    return subjects_of(given, (a, b))


def _untested(a: str, b: str, given: Given) -> str:
    """Why a trace that fails nowhere says nothing; empty if it says that all is well."""
    for name, driver in (("A", a), ("B", b)):
        found = verdict_of(given.trace, driver)
        if found.state == UNDETERMINED:
            return f"{given.name}: on {name} {found.reason}"
    return ""


def _put(a: str, b: str, subject: Subject) -> Judged:
    on_a, on_b = state_on(subject.finding, a), state_on(subject.finding, b)
    return Judged(subject, on_a, on_b, "" if on_a.state == on_b.state else _parted(a, b, subject.finding))


def _parted(a: str, b: str, finding: Finding) -> str:
    """Where the callers of both are told something else, before the finding's last operation."""
    for both in pair(finding.config, finding.operations[:-1], a, b):
        if both.parted:
            step = both.a
            return f"they part before that: step {step.number}, {step.operation.kind}: A {both.a.answer}, B {both.b.answer}"
    return ""


# --- differences --------------------------------------------------------------------------------------------------------------


def _differences(options: Options, found: list[Subject], pool: Pool, progress: Progress) -> tuple[list[Difference], int]:
    """Ways of differing in known traces, findings and walks, each with its shortest trace."""
    seen: dict[Kind, Witness] = {}
    counts: Counter[Kind] = Counter()
    operations = 0

    def take(taken: Iterable[tuple[dict[Kind, Witness], int]]) -> None:
        nonlocal operations
        for kinds, done in taken:
            operations += done
            for kind, witness in kinds.items():
                counts[kind] += 1
                if kind not in seen or witness.size < seen[kind].size:
                    seen[kind] = witness

    known = [Witness(one.trace.config, tuple(one.trace.operations), 0) for one in options.given]
    known += [Witness(one.finding.config, tuple(one.finding.operations), 0) for one in found]
    take(pool.map(partial(_apart, options.a, options.b), known))
    progress("walking on both in step")
    deadline = time.monotonic() + SHARES[2] * options.budget
    share = -(-options.operations // 10 // options.processes)
    for taken in pool.map(partial(_walks, options, share, deadline), range(options.processes)):
        take(taken)
    stands = folded(seen)
    best: dict[Kind, Witness] = {}
    total: Counter[Kind] = Counter()
    for kind, plain in stands.items():
        total[plain] += counts[kind]
        best[plain] = seen[plain]
    progress(f"minimising {len(best)} differences")
    small = pool.map(partial(_small, options.a, options.b), best.items())
    return _rows(list(best), small, total), operations


def _apart(a: str, b: str, witness: Witness) -> tuple[dict[Kind, Witness], int]:
    return differences(a, b, witness.config, witness.operations), len(witness.operations)


def _walks(options: Options, share: int, deadline: float, job: int) -> list[tuple[dict[Kind, Witness], int]]:
    """Walks that one of the two drives and both do, until the time is up or ``share`` operations are done (0: no such number)."""
    found: dict[Kind, Witness] = {}
    taken: list[tuple[dict[Kind, Witness], int]] = []
    done = 0
    schedule = runs(options.seed, job, list(PROFILE_NAMES), list(range(len(LEVELS))), STEPS)
    for turn, (seed, profile, level, steps) in enumerate(schedule):
        if (time.monotonic() >= deadline and turn) or (share and done >= share):
            break
        run = walk(seed, (options.a, options.b)[turn % 2], profile, level, steps)
        done += len(run.operations)
        kinds = differences(options.a, options.b, run.config, run.operations)
        for kind, witness in kinds.items():  # one witness a kind goes back, not one a run
            if kind not in found or witness.size < found[kind].size:
                found[kind] = witness
        taken.append(({kind: found[kind] for kind in kinds}, len(run.operations)))
    return taken


def _small(a: str, b: str, item: tuple[Kind, Witness]) -> Witness:
    return narrow(item[1], a, b, item[0])


def _rows(kinds: Sequence[Kind], small: Iterable[Witness], counts: Counter[Kind]) -> list[Difference]:
    """One row a trace: kinds whose shortest traces are one and the same are one matter."""
    rows: dict[object, Difference] = {}
    order = {kind: (ASPECTS.index(kind.aspect), kind.text) for kind in kinds}
    for kind, witness in zip(kinds, small, strict=True):
        row = rows.setdefault((witness.config, witness.operations), Difference([], witness, 0))
        row.kinds.append(kind)
        row.runs = max(row.runs, counts[kind])
    for row in rows.values():
        row.kinds.sort(key=order.__getitem__)
    ordered = sorted(rows.values(), key=lambda row: row.rank)
    numbers: Counter[str] = Counter()
    for row in ordered:
        numbers[row.aspect] += 1
        row.name = f"{row.aspect}-{numbers[row.aspect]:02d}"
    return ordered


# --- costs --------------------------------------------------------------------------------------------------------------------


def _costs(options: Options, pool: Pool) -> list[CostPair]:
    """Both measured in every life; once more with memory to spare where one of them fails without."""
    a, b = pool.map(measure, (options.a, options.b))
    short = failing(a) | failing(b)
    again = [name for name in LIVES if name in short]
    plenty = pool.map(partial(measure, names=again, to_spare=True), (options.a, options.b)) if again else iter(({}, {}))
    rich_a, rich_b = plenty
    found: list[CostPair] = []
    for name in LIVES:
        mine, theirs = ({name: rich_a[name]}, {name: rich_b[name]}) if name in short else ({name: a[name]}, {name: b[name]})
        found += paired(mine, theirs, name in short)
    return found


__all__ = ["Comparison", "Difference", "Options", "compare"]
