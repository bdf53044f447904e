"""What of a failing trace matters and what does not: each value, refusal and order is changed, and the world is run again.

A trace that says "iova 0x100000, 257 pages, status 0x71" says too much: mostly any aligned address does, any number from 257 on,
any status. What is tried is a sample, so "any" means "any of those tried"; what does not fail is exact.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import combinations

from hvmodel import operations as ops
from hvmodel.configuration import DEVICES, Configuration
from hvmodel.faults import KERNEL_SITES, Fault
from hvmodel.gears.minimise.layout import MIB_PAGES, gaps_of, laid_out, moved, points
from hvmodel.gears.minimise.trial import Case, Hit, Target, Trials
from hvmodel.hypervisor.abi import SHORTAGE_STATUSES, status_name
from hvmodel.hypervisor.policies import QUESTIONS
from hvmodel.properties.verdicts import Violation
from hvmodel.rules.refusals import ANSWERS
from hvmodel.world import run

LIMIT = 600
"""Worlds that may be run for one trace."""

SUBSETS = 10
"""Operations that a trace may have for all selections of them to be tried."""

_PLACES = (1, 5, 77, MIB_PAGES, 3 * MIB_PAGES, 1 << 18)
"""Pages by which the whole address space is moved: some that are no multiple of 1 MiB, some that are."""

_FRAMES = (0x40001000, 0x5007F000, 0x123456000, 0x7FF00000, 0x2000_0000_0000)
"""Frames that are tried in place of a map's own, in bytes."""

_SIZES = (1, 3, 64, 255, 1000, 5000)
"""Pages by which a range is made larger."""

_LEAST = {"map_pages": 3, "unmap_pages": 3, "iova_to_phys": 3, "domain_alloc_paging": 2, "free": 2, "recover": 2}
"""Operations that it takes at least until a call of this kind: a map needs a domain, a domain an allocation, both a boot."""


@dataclass(frozen=True, slots=True)
class Generality:
    """What a trace says beyond itself, in lines: what may be otherwise, what may not, and how short it is."""

    free: tuple[str, ...]
    bound: tuple[str, ...]
    shortness: str


def generalise(
    config: Configuration, operations: Sequence[ops.Operation], driver: str, target: Target, limit: int = LIMIT
) -> Generality:
    """Try what else fails. Where the shape of a failure depends on values (as that of a map does, on its size) the target should
    say nothing of shapes, or what has another one counts as different (:func:`target_of`). A trace that does not fail gives an
    empty answer. Raises KeyError for an unknown driver."""
    trials = Trials(driver, target, limit)
    hit = trials.run(Case(config, tuple(operations)))
    if hit is None:
        return Generality((), (), "the trace does not fail")
    ask = _Asker(trials, hit)
    try:
        for question in (_place, _sizes, _words, _devices, _refusals, _orders, _answers):
            question(ask)
        shortness = _shortness(ask)
    except _Spent:
        shortness = f"{len(hit.case.operations)} operations; not all was tried, each run of it takes long"
    return Generality(tuple(ask.free), tuple(ask.bound), shortness)


class _Spent(Exception):
    """No more worlds may be run: what is not known is not said."""


class _Asker:
    """One trace under question: what was tried, and the lines of what came of it."""

    def __init__(self, trials: Trials, hit: Hit) -> None:
        self.trials, self.case = trials, hit.case
        self.operations = hit.case.operations
        self.call = hit.violation.call
        self.free: list[str] = []
        self.bound: list[str] = []

    def fails(self, operations: Sequence[ops.Operation], config: Configuration | None = None) -> bool:
        """Whether the same finding comes of these operations. Raises :class:`_Spent` when the limit is reached."""
        if self.trials.left <= 0:
            raise _Spent
        return self.trials.run(Case(config or self.case.config, tuple(operations))) is not None

    def with_(self, index: int, operation: ops.Operation) -> bool:
        """Whether it fails with another operation in the place of one."""
        return self.fails((*self.operations[:index], operation, *self.operations[index + 1 :]))


def _steps(indexes: Sequence[int]) -> str:
    names = [str(index + 1) for index in indexes]
    return f"step {names[0]}" if len(names) == 1 else f"steps {', '.join(names[:-1])} and {names[-1]}"


def _place(ask: _Asker) -> None:
    """Where in the address space it happens."""
    marks = points(ask.operations)
    if not marks:
        return
    where = [index for index, operation in enumerate(ask.operations) if hasattr(operation, "iova")]

    def holds(shift: int) -> bool:
        changed = moved(ask.operations, lambda page: page + shift)
        return changed is not None and ask.fails(changed)

    aligned = [holds(shift) for shift in _PLACES if not shift % MIB_PAGES]
    other = [holds(shift) for shift in _PLACES if shift % MIB_PAGES]
    together = " (all addresses moved together)" if len(where) > 1 else ""
    if all(aligned) and all(other):
        ask.free.append(f"{_steps(where)}: any iova{together}")
    elif all(aligned):
        offset = marks[0] % MIB_PAGES << 12
        how = "that is 1 MiB aligned" if not offset else f"that is {offset:#x} above a 1 MiB boundary"
        ask.free.append(f"{_steps(where)}: any iova {how}{together}")
    elif not any(aligned) and not any(other):
        ask.bound.append(f"{_steps(where)}: the iova {marks[0] << 12:#x}")


def _sizes(ask: _Asker) -> None:
    """How large the ranges are; a distance that several operations share is changed in all of them."""
    marks = points(ask.operations)
    gaps = gaps_of(marks)
    for place, gap in enumerate(gaps):
        users = [index for index, operation in enumerate(ask.operations) if _covers(operation, marks[place])]
        if not users:
            continue

        def holds(size: int, place: int = place) -> bool:
            changed = laid_out(ask.operations, marks, [*gaps[:place], size, *gaps[place + 1 :]], marks[0])
            return changed is not None and ask.fails(changed)

        larger = [holds(gap + more) for more in _SIZES]
        least = gap == 1 or not holds(gap - 1)
        where = f"{_steps(users)}, from {marks[place] << 12:#x}"
        if all(larger):
            ask.free.append(f"{where}: any number of pages" + (f" from {gap} on" if gap > 1 and least else ""))
        elif not any(larger):
            ask.bound.append(f"{where}: {_pages(gap)}, " + ("no more and no less" if gap > 1 and least else "no more"))
        elif gap > 1 and least:
            ask.bound.append(f"{where}: no fewer than {_pages(gap)}")


def _pages(count: int) -> str:
    return f"{count} page" + ("s" if count != 1 else "")


def _covers(operation: ops.Operation, page: int) -> bool:
    if not isinstance(operation, ops.Map | ops.Unmap):
        return False
    return operation.iova >> 12 <= page < (operation.iova >> 12) + operation.pages


def _frames(ask: _Asker, index: int, operation: ops.Map) -> bool:
    """Whether any memory will do; if not, what it must be is said."""
    low = operation.iova % 0x100000
    alike = [ask.with_(index, replace(operation, paddr=(frame & ~0xFFFFF) + low)) for frame in _FRAMES]
    other = [ask.with_(index, replace(operation, paddr=frame)) for frame in _FRAMES if frame % 0x100000 != low]
    if all(alike) and not all(other):
        ask.bound.append(f"step {index + 1}: paddr and iova have the same offset within 1 MiB")
    elif all(other) and not any(alike):
        ask.bound.append(f"step {index + 1}: paddr and iova have different offsets within 1 MiB")
    elif not all(alike):
        ask.bound.append(f"step {index + 1}: the paddr {operation.paddr:#x}")
    return all(alike) and all(other)


def _words(ask: _Asker) -> None:
    """Frames, protections, allocation flags, threads."""
    for index, operation in enumerate(ask.operations):
        any_of = ["paddr"] if isinstance(operation, ops.Map) and _frames(ask, index, operation) else []
        for name, others in (("prot", ("rw", "r", "w")), ("gfp", ("kernel", "atomic"))):
            value = getattr(operation, name, None)
            if value is None:
                continue
            tried = [ask.with_(index, replace(operation, **{name: other})) for other in others if other != value]  # type: ignore[arg-type]
            if all(tried):
                any_of.append(name)
            elif not any(tried):
                ask.bound.append(f"step {index + 1}: {name} {value}")
        if any_of:
            ask.free.append(f"step {index + 1}: any {', '.join(any_of)}")
        by = getattr(operation, "by", 0)
        if by and not ask.with_(index, replace(operation, by=0)):  # type: ignore[call-arg]
            ask.bound.append(f"step {index + 1}: by a thread of VM {by}, not of the host")


def _devices(ask: _Asker) -> None:
    """Which device it happens to, if it is one."""
    named = {value for op in ask.operations for name in ("device", "group") if (value := getattr(op, name, None)) is not None}
    config = ask.case.config
    if len(named) != 1 or config.left_devices or config.skip or config.devices != DEVICES[: len(config.devices)]:
        return
    start = replace(config, devices=DEVICES)

    def on(device: int) -> tuple[ops.Operation, ...]:
        changes = [{name: device for name in ("device", "group") if hasattr(op, name)} for op in ask.operations]
        return tuple(replace(op, **change) if change else op for op, change in zip(ask.operations, changes, strict=True))  # type: ignore[arg-type]

    single = [ask.fails(on(device), start) for device in (0, 1)]
    shared = ask.fails(on(2), start)
    if all(single):
        ask.free.append("any device" if shared else "any device that is alone in its group")


def _refusals(ask: _Asker) -> None:
    """What is refused, how, and when."""
    for index, operation in enumerate(ask.operations):
        for place, fault in enumerate(operation.faults):

            def holds(other: Fault, index: int = index, place: int = place, operation: ops.Operation = operation) -> bool:
                faults = (*operation.faults[:place], other, *operation.faults[place + 1 :])
                return ask.with_(index, replace(operation, faults=faults))

            name = f"step {index + 1}, {fault.site}"
            if fault.site not in KERNEL_SITES:
                _status(ask, fault, name, holds)
                if fault.done and not holds(replace(fault, done=0)):
                    ask.bound.append(f"{name}: {fault.done} element{'s' if fault.done > 1 else ''} done before the refusal")
            lasting = holds(replace(fault, times=None))
            if fault.times == 1:
                (ask.free if lasting else ask.bound).append(
                    f"{name}: refused once or for good" if lasting else f"{name}: refused once, not for good"
                )
            elif not holds(replace(fault, times=1)):
                ask.bound.append(f"{name}: refused more than once")


def _status(ask: _Asker, fault: Fault, name: str, holds: Callable[[Fault], bool]) -> None:
    errors = [status for status in ANSWERS if status != fault.status]
    shortages = sorted(status for status in SHORTAGE_STATUSES if status != fault.status)
    error = [holds(replace(fault, status=status)) for status in errors]
    short = [holds(replace(fault, status=status)) for status in shortages]
    if all(error) and all(short):
        ask.free.append(f"{name}: any status but success")
    elif all(error) and not any(short):
        ask.bound.append(f"{name}: any status that is no shortage of memory")
    elif all(short) and not any(error):
        ask.bound.append(f"{name}: any status that is a shortage of memory")
    elif not any(error) and not any(short):
        ask.bound.append(f"{name}: {status_name(fault.status)} and no other status")


def _orders(ask: _Asker) -> None:
    """Which neighbours may change places."""
    operations = ask.operations
    for index in range(len(operations) - 1):
        first, second = operations[index], operations[index + 1]
        if first != second and ask.fails((*operations[:index], second, first, *operations[index + 2 :])):
            ask.free.append(f"the order of {index + 1} and {index + 2}")


def _answers(ask: _Asker) -> None:
    """Which answers of the hypervisor to open questions it takes."""
    config = ask.case.config
    for name, question in QUESTIONS.items():
        given = getattr(config.policies, name)
        others = [answer for answer in question.alternatives if answer != given and answer not in question.adversarial]
        if not others:
            continue
        starts = {answer: replace(config, policies=replace(config.policies, **{name: answer})) for answer in others}
        spared = [answer for answer, start in starts.items() if not ask.fails(ask.operations, start)]
        if spared and _comes_so_far(ask, starts[spared[0]]):
            ask.bound.append(f"{question.id}, {question.text}: {given} (it does not fail with {' or '.join(spared)})")


def _comes_so_far(ask: _Asker, start: Configuration) -> bool:
    """Whether every operation applies from another start: where one does not, that nothing fails says nothing."""
    return all(outcome.applied for outcome in run(start, list(ask.operations), ask.trials.driver)[1])


def _selections(operations: Sequence[ops.Operation]) -> Iterator[tuple[ops.Operation, ...]]:
    """All selections of the operations that keep the last one and leave out another, short ones first."""
    *before, last = operations
    for count in range(len(before)):
        for chosen in combinations(before, count):
            yield (*chosen, last)


def _shortness(ask: _Asker) -> str:
    count = len(ask.operations)
    if count <= _LEAST.get(ask.call, 1):
        return f"{count} operation{'s' if count > 1 else ''}: known to be shortest, no trace comes to {ask.call} in fewer"
    ask.trials.left = max(ask.trials.left, 1 << SUBSETS)
    if count <= SUBSETS:
        if any(ask.fails(chosen) for chosen in _selections(ask.operations)):
            return f"{count} operations: not minimal, fewer of them fail as well"
        return f"{count} operations: no selection of them fails; a shorter trace of other operations is not excluded"
    if any(ask.fails((*ask.operations[:index], *ask.operations[index + 1 :])) for index in range(count - 1)):
        return f"{count} operations: not minimal, one of them can be left out"
    return f"{count} operations: none of them can be left out (1-minimal); a shorter trace is not excluded"


def target_of(violation: Violation) -> Target:
    """What must go on failing for a finding to be the same with other values: the property, in the same driver call, and in the
    same manner unless that is told by values, as it is for maps and unmaps."""
    by_values = violation.call in ("map_pages", "unmap_pages")
    return Target(violation.property, violation.call, None if by_values else violation.shape)


__all__ = ["Generality", "generalise", "target_of"]
