"""Findings: a property that failed, its minimal trace, what it assumes; and which findings are one and the same."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field

from hvmodel.callers.levels import BEYOND, LEVELS
from hvmodel.configuration import Configuration
from hvmodel.gears.minimise import Minimised
from hvmodel.hypervisor.policies import describe, differences
from hvmodel.operations import Operation
from hvmodel.properties.catalogue import PROPERTIES
from hvmodel.properties.verdicts import Violation
from hvmodel.traces.format import Trace
from hvmodel.world import World

Mark = tuple[str, str, tuple[object, ...]]
"""Property, driver call, shape: what one violation looks like without its values."""


def mark_of(violation: Violation) -> Mark:
    """The mark of a violation."""
    return (violation.property, violation.call, violation.shape)


@dataclass(slots=True)
class Finding:
    """One finding. ``marks`` are all violations that its trace shows; ``group`` numbers findings that come from one cause."""

    minimised: Minimised
    driver: str
    gear: str
    seed: str
    marks: frozenset[Mark] = frozenset()
    group: int = 0
    trace: str = ""

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
    def assumptions(self) -> list[str]:
        """The answers to open questions that the trace needs, in words."""
        return [describe(name, answer) for name, answer in differences(self.config.policies).items()]

    @property
    def faults(self) -> int:
        """How many faults the trace has."""
        return sum(len(operation.faults) for operation in self.operations)

    @property
    def mark(self) -> Mark:
        """The mark of the violation that the finding is about."""
        return mark_of(self.minimised.violation)

    @property
    def key(self) -> tuple[object, ...]:
        """Two findings with equal keys are the same (``properties/README.md``, "Different or the same")."""
        return (self.mark, self.sites, self.minimised.level == BEYOND)

    @property
    def sites(self) -> tuple[str, ...]:
        """Where the trace is refused."""
        return tuple(sorted({fault.site for operation in self.operations for fault in operation.faults}))

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
            self.property_id,
            str(self.key),
        )

    def as_trace(self) -> Trace:
        """The finding as a trace file."""
        about = {
            "severity": self.severity,
            "summary": self.minimised.violation.detail,
            "level": self.level,
            "assumptions": self.assumptions,
        }
        origin = {"gear": self.gear, "seed": self.seed}
        return Trace(self.config, self.operations, self.driver, self.property_id, about, origin)

    def as_json(self) -> dict[str, object]:
        """The finding in a report."""
        return {
            "property": self.property_id,
            "severity": self.severity,
            "summary": self.minimised.violation.detail,
            "operations": len(self.operations),
            "faults": self.faults,
            "level": self.level,
            "profile": self.config.profile,
            "assumptions": self.assumptions,
            "gear": self.gear,
            "trace": self.trace,
            "group": self.group,
        }


def all_marks(config: Configuration, operations: list[Operation], driver: str) -> frozenset[Mark]:
    """Every violation that a trace shows."""
    world = World(config, driver)
    return frozenset(mark_of(violation) for op in operations for violation in world.apply(op).violations)


@dataclass(slots=True)
class Group:
    """Findings of one cause, the best one first."""

    findings: list[Finding] = field(default_factory=list)

    @property
    def best(self) -> Finding:
        """The one to show."""
        return self.findings[0]

    @property
    def also(self) -> list[str]:
        """Other properties that fail through the same cause."""
        names = dict.fromkeys(finding.property_id for finding in self.findings)
        return [name for name in names if name != self.best.property_id]


def group(findings: list[Finding]) -> list[Group]:
    """Put findings of one cause together, so that one defect does not fill the table; best groups first.

    One cause have findings with the same trace (one call that fails several properties), and findings that fail the same property
    in the same call and manner after the same kind of refusals.
    """
    findings = sorted(findings, key=lambda finding: finding.rank)
    parent = list(range(len(findings)))

    def find(index: int) -> int:
        while parent[index] != index:
            parent[index] = parent[parent[index]]
            index = parent[index]
        return index

    alike: dict[object, int] = {}
    for index, finding in enumerate(findings):
        trace = ("trace", tuple(finding.operations), finding.config)
        for key in (trace, _cause(finding)):
            if key in alike:
                parent[find(index)] = find(alike[key])
            else:
                alike[key] = index
    groups: dict[int, Group] = defaultdict(Group)
    for index, finding in enumerate(findings):
        groups[find(index)].findings.append(finding)
    ordered = sorted(groups.values(), key=lambda item: item.best.rank)
    for number, item in enumerate(ordered, 1):
        for finding in item.findings:
            finding.group = number
    return ordered


def _cause(finding: Finding) -> tuple[object, ...]:
    """What tells causes apart in a table; coarser than :attr:`Finding.key`."""
    name, call, shape = finding.mark
    if finding.minimised.level == BEYOND:
        return (name, call, BEYOND, shape[3:4] if call == "unmap_pages" else shape[:1])
    if name == "shortage-is-survivable":
        return (name, shape[:2])
    if call == "unmap_pages" and len(shape) >= 6:
        refused = "UNMAP_DEVICE_GPA_PAGES" in finding.sites
        return (name, call, "refused" if refused else shape[3:5])
    if call == "map_pages" and shape[:1] == ("map",):
        undone = "UNMAP_DEVICE_GPA_PAGES" in finding.sites
        return (name, call, undone, shape[2:4] if not undone and not finding.sites else "", shape[5:])
    if name == "count-matches":
        return (name, call, shape, any("DETACH" in site for site in finding.sites))
    if name in ("errors-say-what", "names-existing-things", "every-call-ends", "static-domains-always-attach"):
        return (name, shape[:1])
    return (name, call, shape)
