"""One run of a sweep: a trace with refusals at chosen places, by callers that stay as well-behaved as they were, and recovery."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from hvmodel import operations as ops
from hvmodel.callers.levels import level_of
from hvmodel.configuration import Configuration
from hvmodel.faults import Fault
from hvmodel.gears.sweep.record import Arrival, RecordingWorld
from hvmodel.gears.walk import Heard, Run
from hvmodel.world import Outcome

AGAIN = frozenset(
    {"alloc", "claim", "attach", "replace", "map", "map-scattered", "probe"}
    | {"vfio-join", "vfio-map", "iommufd-attach", "ioas-map", "hwpt-alloc"}
)
"""What can fail and then be asked for again, by a VMM or an administrator whose ioctl or write to sysfs answered an error. What has
to succeed or answers nothing (detach, disown, free, release, unmap) is asked for once."""


@dataclass(frozen=True, slots=True)
class Subject:
    """A trace to sweep: a name, where it starts, and its operations without recovery. Refusals that it has are part of its story,
    the sweep adds others. The first ``shared`` operations are not swept: another trace that is begins with the same ones."""

    name: str
    config: Configuration
    operations: tuple[ops.Operation, ...]
    shared: int = 0


def without_repeats(subjects: Sequence[Subject]) -> list[Subject]:
    """The same subjects, each of which leaves out the operations at its beginning that an earlier one sweeps from the same start:
    the same places in the same states. What follows a refusal there is the earlier one's life, then."""
    seen: set[tuple[Configuration, tuple[ops.Operation, ...]]] = set()
    result = []
    for subject in subjects:
        heads = [(subject.config, subject.operations[: end + 1]) for end in range(len(subject.operations))]
        result.append(replace(subject, shared=sum(head in seen for head in heads)))
        seen.update(heads)
    return result


@dataclass(frozen=True, slots=True)
class Refusal:
    """A fault in the operation with this index."""

    index: int
    fault: Fault

    def __str__(self) -> str:
        return f"operation {self.index + 1}: {self.fault}"


@dataclass(frozen=True, slots=True)
class Combination:
    """What is refused in one run, in order, and whether the caller asks again for what failed."""

    refusals: tuple[Refusal, ...] = ()
    again: bool = False

    def __str__(self) -> str:
        text = "; ".join(map(str, self.refusals)) or "nothing refused"
        return f"{text}, and asked for again" if self.again else text

    def faults(self, index: int) -> tuple[Fault, ...]:
        """Those of one operation."""
        return tuple(refusal.fault for refusal in self.refusals if refusal.index == index)


@dataclass(slots=True)
class Played:
    """A run that was played. By the index of the operation: ``arrivals``, ``results`` and ``levels`` (None: it did not apply)."""

    combination: Combination
    run: Run
    arrivals: list[Sequence[Arrival]] = field(default_factory=list)
    results: list[int | None] = field(default_factory=list)
    levels: list[int] = field(default_factory=list)
    unfired: tuple[Refusal, ...] = ()
    """What was to be refused and was not: nothing was put to the test there."""
    found: bool = False
    """Whether a property failed."""


def play(
    subject: Subject,
    combination: Combination,
    driver: str,
    heard: Heard,
    clean: Played | None = None,
    make: Callable[[Configuration, str], RecordingWorld] = RecordingWorld,
) -> Played:
    """Run a subject with some refusals, then recovery.

    After a refusal the callers know what they were told: an operation that would now need a worse caller than it needed in the
    ``clean`` run (the unmap of what could not be mapped) is left out. ``heard`` is told of each operation that violated a property.
    """
    world = make(subject.config, driver)
    played = Played(combination, Run(subject.config, world, 0))
    fired: set[Fault] = set()
    first = min((refusal.index for refusal in combination.refusals), default=len(subject.operations))
    last = max((refusal.index for refusal in combination.refusals), default=-1)

    def apply(operation: ops.Operation) -> Outcome:
        outcome = world.apply(operation)
        _note(played, operation, outcome, heard)
        fired.update(outcome.fired)
        return outcome

    for index, operation in enumerate(subject.operations):
        faults = combination.faults(index)
        if index > first and clean is not None and level_of(operation, world.books) > clean.levels[index]:
            played.arrivals.append(())
            played.results.append(None)
            played.levels.append(clean.levels[index])
            continue
        outcome = apply(replace(operation, faults=(*operation.faults, *faults)) if faults else operation)
        played.arrivals.append(world.faults.arrivals if outcome.applied else ())
        played.results.append(outcome.result if outcome.applied else None)
        played.levels.append(outcome.level)
        if combination.again and index == last and outcome.applied and outcome.result < 0 and operation.kind in AGAIN:
            apply(replace(operation, faults=()))
    apply(ops.Recover())
    played.unfired = tuple(refusal for refusal in combination.refusals if refusal.fault not in fired)
    return played


def _note(played: Played, operation: ops.Operation, outcome: Outcome, heard: Heard) -> None:
    if not outcome.applied:
        return
    run = played.run
    run.operations.append(operation)
    if outcome.violations:
        played.found = True
        heard(run, outcome)
    run.environment += len(outcome.environment)
    for fault in outcome.fired:
        run.fired[fault.site] = run.fired.get(fault.site, 0) + 1
        run.refused = run.refused or "TACH_DEVICE" in fault.site


__all__ = ["AGAIN", "Combination", "Played", "Refusal", "Subject", "play", "without_repeats"]
