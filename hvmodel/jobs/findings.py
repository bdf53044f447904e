"""Findings: a property that failed, its minimal trace, what it assumes; and which findings are one and the same."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from hvmodel.callers.levels import BEYOND, LEVELS
from hvmodel.callers.means import NEEDS, Means, means_of
from hvmodel.configuration import Configuration
from hvmodel.faults import place_of
from hvmodel.gears.minimise import Minimised
from hvmodel.hypervisor.policies import assumed
from hvmodel.operations import Operation
from hvmodel.properties.catalogue import PROPERTIES
from hvmodel.properties.verdicts import Violation
from hvmodel.traces.format import Trace, write
from hvmodel.traces.record import recorded
from hvmodel.world import Outcome, run

UNOBSERVED = "process"
"""The gear of a finding whose run ends its process, so that it cannot be observed from within."""

Mark = tuple[str, str, tuple[object, ...]]
"""Property, driver call, shape: what one violation looks like without its values."""


def mark_of(violation: Violation) -> Mark:
    """The mark of a violation."""
    return (violation.property, violation.call, violation.shape)


_PLAIN = Configuration()


def sites_of(operations: list[Operation]) -> frozenset[str]:
    """The places where a trace is refused."""
    return frozenset(place_of(fault.site) for operation in operations for fault in operation.faults)


Key = tuple[Mark, frozenset[str], bool, bool]
"""Mark, sites, beyond the contract, on an L1VH."""


def key_of(mark: Mark, sites: frozenset[str], beyond: bool, l1vh: bool) -> Key:
    """Findings with equal keys are the same finding. Beyond the contract, where an odd range starts and ends and how
    large it is tells nothing."""
    name, call, shape = mark
    if beyond and call == "unmap_pages" and shape[:1] == ("unmap",):
        shape = (shape[0], shape[3], shape[5])
    return ((name, call, shape), sites, beyond, l1vh)


@dataclass(slots=True)
class Finding:
    """One finding. ``group`` numbers findings of one cause; ``trace`` is its file, ``defects`` are the known defects that it
    is an instance of (``naming.py``). ``caller`` is a second trace of it that somebody with less power can cause, and that one's
    file; ``sought`` are the seconds that a search for one took (None: there was none)."""

    minimised: Minimised
    driver: str
    gear: str
    seed: str
    group: int = 0
    trace: str = ""
    defects: tuple[str, ...] = ()
    caller: Minimised | None = None
    caller_trace: str = ""
    sought: float | None = None
    _own: Means | None = field(default=None, repr=False, compare=False)
    _callers: Means | None = field(default=None, repr=False, compare=False)

    @property
    def property_id(self) -> str:
        """The property that failed."""
        return self.minimised.violation.property

    @property
    def severity(self) -> str:
        """The property's severity."""
        return PROPERTIES[self.property_id].severity

    @property
    def config(self) -> Configuration:
        """Where the trace starts."""
        return self.minimised.config

    @property
    def operations(self) -> list[Operation]:
        """The trace."""
        return self.minimised.operations

    @property
    def level(self) -> str:
        """The level of caller that the trace needs."""
        return LEVELS[self.minimised.level]

    @property
    def own_means(self) -> Means:
        """What it takes to cause the finding by its own trace."""
        if self._own is None:
            self._own = self._taken(self.minimised)
        return self._own

    @property
    def means(self) -> Means:
        """The least that is known to cause the finding."""
        if self.caller is None:
            return self.own_means
        if self._callers is None:
            self._callers = self._taken(self.caller)
        return self._callers

    def lifted_to(self, found: Minimised) -> None:
        """A trace of somebody with less power is known; it is kept if it takes less than what was known before."""
        means = self._taken(found)
        if means.rank < self.means.rank:
            self.caller, self._callers = found, means

    def _taken(self, found: Minimised) -> Means:
        if self.gear == UNOBSERVED:
            outcomes = [Outcome(True, 0, found.level, fired=operation.faults) for operation in found.operations]
        else:
            outcomes = run(found.config, found.operations, self.driver)[1]
        return means_of(found.config, zip(found.operations, outcomes, strict=True), found.violation.call)

    @property
    def assumptions(self) -> list[str]:
        """The answers to open questions that the trace needs, in words."""
        return assumed(self.config.policies)

    @property
    def faults(self) -> int:
        """How many faults the trace has."""
        return sum(len(operation.faults) for operation in self.operations)

    @property
    def mark(self) -> Mark:
        """The mark of the violation that the finding is about."""
        return mark_of(self.minimised.violation)

    @property
    def key(self) -> Key:
        """Two findings with equal keys are the same (``properties/README.md``, "Different or the same")."""
        return key_of(self.mark, self.sites, self.minimised.level == BEYOND, self.config.l1vh)

    @property
    def sites(self) -> frozenset[str]:
        """Where the trace is refused."""
        return sites_of(self.operations)

    @property
    def rank(self) -> tuple[object, ...]:
        """Sorts findings for a reader: those that need no assumption first, worst first, lowest level, shortest."""
        return (
            len(self.assumptions),
            PROPERTIES[self.property_id].rank,
            self.minimised.level,
            len(self.operations),
            self.faults,
            self.config.l1vh,
            sum(getattr(self.config, item.name) != getattr(_PLAIN, item.name) for item in fields(Configuration)),
            self.property_id,
            str(self.key),
        )

    def as_trace(self) -> Trace:
        """The finding as a trace file, with what is observed when it runs."""
        return self._written(self.minimised, self.own_means)

    def as_caller_trace(self) -> Trace | None:
        """The trace of a caller with less power, if one is known."""
        return None if self.caller is None else self._written(self.caller, self.means)

    def _written(self, found: Minimised, means: Means) -> Trace:
        about: dict[str, Any] = {"summary": found.violation.detail, "level": LEVELS[found.level], "means": str(means)}
        about["assumptions"] = assumed(found.config.policies)
        if self.defects:
            about["defects"] = list(self.defects)
        origin = {"gear": self.gear, "seed": self.seed}
        trace = Trace(found.config, found.operations, self.driver, self.property_id, about, origin)
        return trace if self.gear == UNOBSERVED else recorded(trace)

    def as_json(self) -> dict[str, object]:
        """The finding in a report."""
        return {
            "property": self.property_id,
            "severity": self.severity,
            "summary": self.minimised.violation.detail,
            "operations": len(self.operations),
            "faults": self.faults,
            "level": self.level,
            "caller": self.means.word,
            "needs": NEEDS[self.means.needs],
            "means": str(self.means),
            "caller_trace": self.caller_trace,
            "profile": self.config.profile,
            "assumptions": self.assumptions,
            "gear": self.gear,
            "trace": self.trace,
            "group": self.group,
            "defects": list(self.defects),
        }


@dataclass(slots=True)
class Group:
    """Findings of one cause, the best one first."""

    findings: list[Finding] = field(default_factory=list)

    @property
    def best(self) -> Finding:
        """The one to show."""
        return self.findings[0]

    @property
    def defects(self) -> tuple[str, ...]:
        """The known defects that its best trace shows, or, if that has none, any of its traces."""
        return self.best.defects or tuple(dict.fromkeys(name for finding in self.findings for name in finding.defects))

    @property
    def also(self) -> list[str]:
        """Other properties that fail through the same cause."""
        names = dict.fromkeys(finding.property_id for finding in self.findings)
        return [name for name in names if name != self.best.property_id]


def prune(findings: list[Finding]) -> list[Finding]:
    """Drop what a simpler finding of the same kind covers: fewer sites refused, a lower level, fewer assumptions."""
    kept: dict[Mark, list[Finding]] = defaultdict(list)
    for finding in sorted(findings, key=lambda item: (len(item.sites), item.rank)):
        if not any(_covers(simple, finding) for simple in kept[finding.mark]):
            kept[finding.mark].append(finding)
    return [finding for alike in kept.values() for finding in alike]


def _covers(simple: Finding, finding: Finding) -> bool:
    if simple.minimised.level > finding.minimised.level or not set(simple.assumptions) <= set(finding.assumptions):
        return False
    if simple.config.l1vh != finding.config.l1vh:
        return False
    if simple.sites == finding.sites:
        return True
    return simple.sites < finding.sites and (bool(simple.sites) or len(finding.sites) > 1)


def group(findings: list[Finding]) -> list[Group]:
    """Put findings of one cause together, so that one defect does not fill the table; best groups first.

    Findings that fail the same property in the same call and manner are one cause. So are causes whose best traces are one and the
    same, in the same call, if they are two views of one thing: a stale page is also a page that the tree does not have.
    """
    causes: dict[tuple[object, ...], Group] = {}
    for finding in sorted(findings, key=lambda item: item.rank):
        causes.setdefault(cause_of(finding), Group()).findings.append(finding)
    by_trace: dict[object, Group] = {}
    for item in sorted(causes.values(), key=lambda item: item.best.rank):
        best = item.best
        family = next((number for number, names in enumerate(_FAMILIES) if best.property_id in names), best.property_id)
        trace = (tuple(best.operations), best.config, family)
        if trace in by_trace:
            by_trace[trace].findings += item.findings
        else:
            by_trace[trace] = item
    ordered = sorted(by_trace.values(), key=lambda item: item.best.rank)
    for number, item in enumerate(ordered, 1):
        for finding in item.findings:
            finding.group = number
    return ordered


_FAMILIES = (
    frozenset(
        {
            "no-stale-mapping",
            "no-lost-mapping",
            "tree-matches-hypervisor",
            "lookup-matches-caller",
            "map-result",
            "unmap-honest",
            "unmap-total",
        }
    ),
    frozenset({"no-foreign-attach", "count-matches", "pointer-matches", "failed-attach-keeps-old"}),
    frozenset({"free-frees-all", "nothing-is-left"}),
)
"""Properties that look at one thing from several sides."""


def cause_of(finding: Finding) -> tuple[object, ...]:
    """What tells causes apart in a table, and from night to night; coarser than :attr:`Finding.key`."""
    return cause_by(finding.mark, finding.sites, finding.minimised.level == BEYOND)


def cause_by(mark: Mark, sites: frozenset[str], beyond: bool) -> tuple[object, ...]:
    """The same from a mark, the sites that are refused, and whether it takes a caller beyond the contract."""
    name, call, shape = mark
    if beyond:
        return (name, call, BEYOND)
    if name in ("tree-matches-hypervisor", "lookup-matches-caller", "no-lost-mapping", "unmap-total"):
        return (name, call, bool(sites))
    if call == "unmap_pages" and shape[:1] == ("unmap",):
        return (name, call, "refused" if sites else shape[3:5])
    if call == "map_pages" and shape[:1] == ("map",):
        return (name, call, "UNMAP_DEVICE_GPA_PAGES" in sites, bool(sites), shape[5:] == ("over",))
    if name == "no-foreign-attach":
        return (name, shape[1:] if shape[1:] == ("alias",) else shape)
    if name == "count-matches":
        return (name, shape[:1] == ("wrapped",), any("DETACH" in site for site in sites))
    if name == "shortage-is-survivable":
        return (name, shape[:2])
    if name == "names-existing-things":
        return (name, shape[1] if shape[1] == "l1vh" else shape[:2])
    if name == "context-is-balanced":
        return (name, call, shape)
    if name in _ONE_MANNER:
        return (name, shape[:1])
    return (name, shape)


_ONE_MANNER = frozenset(
    {
        "errors-say-what",
        "every-call-ends",
        "static-domains-always-attach",
        "nothing-is-left",
        "free-frees-all",
        "failure-is-visible",
    }
)
"""Properties of which the first word of the shape says all that matters for a table."""


# --- files ------------------------------------------------------------------------------------------------------------------

CALLER = "-caller"
"""What the name of a second trace ends with: the one of a caller with less power."""


def written(directory: Path) -> list[Path]:
    """The traces of an earlier hunt in a directory, told by their names."""
    found = []
    for path in directory.glob("*.json"):
        stem, _dash, suffix = path.stem.removesuffix(CALLER).rpartition("-")
        if stem in PROPERTIES and suffix.isdigit():
            found.append(path)
    return found


def save_findings(findings: list[Finding], directory: Path) -> None:
    """One trace file for each finding, named after property and number, and one of its caller if it has one. Files of an earlier
    hunt are replaced."""
    directory.mkdir(parents=True, exist_ok=True)
    for old in written(directory):
        old.unlink()
    numbers: dict[str, int] = {}
    for finding in findings:
        number = numbers[finding.property_id] = numbers.get(finding.property_id, 0) + 1
        path = directory / f"{finding.property_id}-{number:02d}.json"
        write(finding.as_trace(), path)
        finding.trace = str(path)
        second = finding.as_caller_trace()
        if second is not None:
            path = path.with_stem(path.stem + CALLER)
            write(second, path)
            finding.caller_trace = str(path)
