"""What is put to both drivers: findings of a search, kept ones, traces from files; each with the manner in which it fails."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from hvmodel.drivers import REGISTRY
from hvmodel.gears.minimise import Minimised
from hvmodel.jobs.findings import Finding
from hvmodel.properties.catalogue import PROPERTIES
from hvmodel.properties.verdicts import Violation
from hvmodel.traces.corpus import kept
from hvmodel.traces.format import Trace, TraceError, read
from hvmodel.world import Outcome, run

CORPUS = Path("tests/traces")
"""Where the regression corpus is, from the root of a checkout."""


@dataclass(frozen=True, slots=True)
class Subject:
    """A trace and how it fails on one of the drivers, or on the one that it was recorded on. ``source`` says where it comes from,
    for a reader: ``corpus: unmap-forgets-the-last-page``, a file, ``search of A``."""

    finding: Finding
    source: str


@dataclass(frozen=True, slots=True)
class Given:
    """A trace from a file or the corpus. ``name`` is its path, or its name in the corpus."""

    trace: Trace
    name: str


def corpus(directory: Path = CORPUS) -> list[Given]:
    """All traces of the corpus; none if there is no such directory. Raises ``TraceError`` for one that cannot be read."""
    return [Given(one.trace, f"corpus: {one.name}") for one in kept(directory)]


def from_files(paths: Sequence[Path]) -> list[Given]:
    """Traces from files; of a directory, its trace files, or all that it keeps if it is a corpus. Raises ``TraceError``."""
    found: list[Given] = []
    for path in paths:
        if not path.is_dir():
            found.append(Given(read(path), str(path)))
        elif any(path.glob("*/finding.toml")):
            found += corpus(path)
        else:
            inside = sorted(path.glob("*.json"))
            if not inside:
                raise TraceError(f"{path}: no trace is in this directory")
            found += [Given(read(inner), str(inner)) for inner in inside]
    return found


def subjects_of(given: Given, drivers: Sequence[str]) -> list[Subject]:
    """What a trace is about: its property, as it fails on the driver that it was recorded on, else on the first of ``drivers`` on
    which it fails; if it names none, each property that fails. Nothing if nothing fails anywhere."""
    trace = given.trace
    own = [trace.driver] if trace.driver in REGISTRY and trace.driver not in drivers else []
    found: dict[str, Subject] = {}
    for driver in (*own, *drivers):
        for finding in _failures(trace, driver):
            found.setdefault(finding.property_id, Subject(finding, given.name))
        if trace.property is not None and found:
            break
    return list(found.values())


def _failures(trace: Trace, driver: str) -> Iterator[Finding]:
    """The failures of a trace's property, or of all, on a driver; the one that the trace's finding tells of first."""
    _world, outcomes = run(trace.config, trace.operations, driver)
    summary = trace.finding.get("summary")
    hits = [
        (violation, number)
        for number, outcome in enumerate(outcomes, 1)
        for violation in outcome.violations
        if trace.property in (None, violation.property) and violation.property in PROPERTIES
    ]
    hits.sort(key=lambda hit: hit[0].detail != summary)
    for violation, number in hits:
        yield finding_of(trace, violation, outcomes[:number], driver)


def finding_of(trace: Trace, violation: Violation, outcomes: Sequence[Outcome], driver: str) -> Finding:
    """A failure as a finding: the trace up to the operation in which it fails."""
    level = max((outcome.level for outcome in outcomes), default=0)
    finding = Finding(
        Minimised(trace.config, trace.operations[: len(outcomes)], violation, level),
        driver,
        str(trace.origin.get("gear", "trace")),
        str(trace.origin.get("seed", "")),
    )
    defects = trace.finding.get("defects", ())
    finding.defects = tuple(map(str, defects)) if isinstance(defects, list | tuple) else ()
    return finding


__all__ = ["CORPUS", "Given", "Subject", "corpus", "finding_of", "from_files", "subjects_of"]
