"""The Hypothesis gear: a ``RuleBasedStateMachine`` over the same rules as every other gear.

Each step draws one integer and lets :class:`hvmodel.rules.chooser.IntegerChooser` take it apart: that costs Hypothesis least and
shrinks best. When a property fails, the operations so far go through our own minimiser and the person reads the minimal trace in
the harness's words; Hypothesis's shrinker is not needed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

from hypothesis import Phase, Verbosity, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test

from hvmodel import operations as ops
from hvmodel.callers.levels import BEYOND, KERNEL, LEVELS
from hvmodel.configuration import Configuration
from hvmodel.gears.minimise import Minimised, Target, minimise
from hvmodel.jobs.findings import Finding
from hvmodel.properties.catalogue import PROPERTIES
from hvmodel.properties.verdicts import Violation
from hvmodel.rules import refusals
from hvmodel.rules.chooser import IntegerChooser
from hvmodel.rules.rules import RULES, Rule, Scene, propose
from hvmodel.rules.worlds import draw_configuration
from hvmodel.traces.format import write
from hvmodel.traces.story import tell
from hvmodel.traces.words import call_lines, parted_lines
from hvmodel.world import Outcome, World

ENTROPY = st.integers(min_value=0, max_value=(1 << 96) - 1)
"""What one step draws."""


class PropertyFailed(AssertionError):
    """A property failed; the text is the minimal trace. ``finding`` is the finding itself."""

    def __init__(self, text: str, finding: Finding) -> None:
        super().__init__(text)
        self.finding = finding


class Machine(RuleBasedStateMachine):
    """One world, driven. Subclasses (made by :func:`machine`) add the rules.

    ``starts`` are pairs of hypervisor profile and level; each example starts from one of them. ``wanted`` names the only property
    that counts; None means all. ``muted`` are properties that do not count.
    """

    driver: ClassVar[str] = "repaired"
    starts: ClassVar[Sequence[tuple[str, int]]] = (("default", BEYOND),)
    wanted: ClassVar[str | None] = None
    muted: ClassVar[frozenset[str]] = frozenset()
    out: ClassVar[Path | None] = None
    rules_used: ClassVar[tuple[Rule, ...]] = ()

    def __init__(self) -> None:
        super().__init__()
        self.config: Configuration | None = None
        self.world: World | None = None
        self.scene: Scene | None = None
        self.operations: list[ops.Operation] = []

    @initialize(entropy=ENTROPY)
    def start(self, entropy: int) -> None:
        """Draw a world, boot it."""
        choose = IntegerChooser(entropy)
        profile, level = choose.pick(self.starts)
        self.config = draw_configuration(choose, profile)
        self.world = World(self.config, self.driver)
        self.scene = Scene(
            self.world,
            level=level,
            scale=choose.pick((1, 0, 2, 3)),
            vms=choose.pick((1, 2, 0, 3)),
            faults=choose.pick((15, 0, 30, 50)),
            room=choose.pick((2, 3, 1, 4)),
        )
        boot: ops.Operation = ops.Boot()
        if choose.chance(10):
            boot = replace(boot, faults=refusals.draw(choose, boot))
        self.apply(boot)
        for vm in range(1, self.scene.vms + 1):
            self.apply(ops.VmCreate(vm))

    def step(self, chosen: Rule, entropy: int) -> None:
        """Ask a rule for an operation and apply it; if the world offers it nothing, ask another one of this machine."""
        assert self.scene is not None
        choose = IntegerChooser(entropy)
        for _ in range(4):
            operation = propose(self.scene, chosen, choose)
            if operation is not None:
                self.apply(operation)
                return
            chosen = choose.pick(self.rules_used)

    def apply(self, operation: ops.Operation) -> None:
        """Apply one operation; raises :class:`PropertyFailed` if a property that counts fails."""
        assert self.world is not None
        outcome = self.world.apply(operation)
        if outcome.applied:
            self.operations.append(operation)
            self.heard(outcome)

    def heard(self, outcome: Outcome) -> None:
        """Told of each operation that applied: raises for the first property that counts and fails."""
        for violation in outcome.violations:
            if violation.property in self.muted or self.wanted not in (None, violation.property):
                continue
            self.report(violation)

    def teardown(self) -> None:
        """The second phase: faults off, everything given back."""
        if self.world is not None and not self.world.over:
            self.apply(ops.Recover())

    def report(self, violation: Violation) -> None:
        """Minimise and raise."""
        assert self.config is not None
        target = Target(violation.property, violation.call, violation.shape)
        small = minimise(self.config, self.operations, self.driver, target)
        if small is None:
            raise AssertionError(f"{violation.property} failed and does not fail again on the same operations")
        finding = Finding(small, self.driver, "hypothesis", "")
        raise PropertyFailed(describe(small, finding, self.out), finding)


def describe(small: Minimised, finding: Finding, out: Path | None) -> str:
    """A minimal trace for a person: what was done, what was answered, what failed, how to replay it."""
    claim = PROPERTIES[finding.property_id]
    trace = finding.as_trace()
    steps, _world = tell(trace)
    lines = [f"{claim.id} [{claim.severity}]: {claim.claim}", f"  {small.violation.detail}"]
    lines += [f"  assumes {assumption}" for assumption in finding.assumptions]
    for step in steps:
        lines.append(f"  {step.number}. {step.headline}")
    lines += [f"       {line}" for line in call_lines(steps[-1].calls) + [f"| {line}" for line in parted_lines(steps[-1].views)]]
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
        path = out / f"{claim.id}.json"
        write(trace, path)
        lines.append(f"  replay: hvmodel replay {path}")
    return "\n".join(lines)


def machine(name: str, doc: str, subjects: tuple[str, ...]) -> type[Machine]:
    """A machine class over all rules of some subjects."""
    used = tuple(item for item in RULES.values() if item.subject in subjects)

    def method(item: Rule) -> Callable[..., None]:
        def run(self: Machine, entropy: int) -> None:
            self.step(item, entropy)

        run.__name__ = item.name
        run.__doc__ = item.make.__doc__ or item.name
        return run

    body: dict[str, Any] = {"__doc__": doc, "rules_used": used, "__module__": __name__}
    for item in used:
        body[item.name] = rule(entropy=ENTROPY)(method(item))
    return type(name, (Machine,), body)


def drive(
    cls: type[Machine],
    *,
    driver: str,
    profile: str = "default",
    level: int = BEYOND,
    wanted: str | None = None,
    muted: frozenset[str] = frozenset(),
    base: settings | None = None,
    out: Path | None = None,
) -> Finding | None:
    """Run a machine under settings (default: the loaded Hypothesis profile); returns the finding that it stopped at, or None."""
    chosen = type(
        cls.__name__,
        (cls,),
        {"driver": driver, "starts": ((profile, level),), "wanted": wanted, "muted": muted, "out": out},
    )
    quiet = settings(
        base or settings.default,
        phases=(Phase.explicit, Phase.reuse, Phase.generate),
        verbosity=Verbosity.quiet,
        report_multiple_bugs=False,
        print_blob=False,
    )
    try:
        run_state_machine_as_test(chosen, settings=quiet)
    except PropertyFailed as failure:
        failure.finding.trace = str(failure)
        return failure.finding
    return None


__all__ = ["KERNEL", "LEVELS", "Machine", "PropertyFailed", "describe", "drive", "machine"]
