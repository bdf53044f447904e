"""Fewer operations: short scenes of what the failing operation needs first, then one operation after another taken out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import combinations

from hvmodel import operations as ops
from hvmodel.configuration import Configuration
from hvmodel.faults import KERNEL_SITES, Fault
from hvmodel.gears.minimise.account import closed, handles, localised, ranked, span
from hvmodel.gears.minimise.arguments import renumbered
from hvmodel.gears.minimise.devices import lowest
from hvmodel.gears.minimise.layout import plainest
from hvmodel.gears.minimise.trial import Case, Hit, Trials
from hvmodel.gears.minimise.weight import FAILED

SINGLES = 8
"""How many operations are tried as the only one beside the failing one and what it needs."""

TWO_OF = 5
"""Of how many of the most relevant operations two are tried together."""

GROWTH = (3, 4, 6, 8, 12, 16, 24)
"""How many of the most relevant operations are tried together: short candidates are cheap, so that doubling costs little."""

ALIKE = 10
"""Operations from which on those that are alike are taken out together before anything else is."""

PAIRS = 8
"""Operations that a trace may have for pairs of them to be taken out."""

Moves = Callable[[Case], Iterator[Case]]
"""What may be tried next, given the best so far."""


def plain_start(config: Configuration) -> Configuration:
    """The plain configuration of the same kind of partition, with the same devices."""
    return Configuration.of_profile("l1vh" if config.l1vh else "default", devices=config.devices)


def scenes(hit: Hit) -> Iterator[Case]:
    """Short traces that may fail in the same way: the failing operation with what it cannot do without; one relevant operation
    more;
    then ever more of them. Each from the plain start on the lowest devices with the refusals that it met, then from the start as it
    is with the refusals as they are."""
    config, given = hit.case.config, hit.case.operations
    operations = localised(hit)
    plain = plain_start(config)
    order = ranked(operations, hit)
    seen: set[tuple[ops.Operation, ...]] = set()
    for chosen in _choices(order, len(operations)):
        kept = closed(operations, chosen)
        if kept in seen or len(kept) > len(operations):
            continue
        seen.add(kept)
        scene = next(renumbered(lowest(Case(plain, kept))))
        yield _bare(scene)
        yield scene
        if config != plain or given != operations:
            yield Case(config, closed(given, chosen))


def _choices(order: list[int], length: int) -> Iterator[set[int]]:
    yield set()
    for index in order[:SINGLES]:
        yield {index}
    for pair in combinations(order[:TWO_OF], 2):
        yield set(pair)
    for count in GROWTH:
        if count >= length - 1:
            break
        yield set(order[:count])
    yield set(order)


def _bare(case: Case) -> Case:
    """The case with small ranges and refusals that do not last: it runs in a fraction of the time, and most findings need no
    more."""

    def bare(fault: Fault) -> Fault:
        return Fault(fault.site) if fault.site in KERNEL_SITES else Fault(fault.site, 1, FAILED, min(fault.done, 1))

    operations = tuple(
        replace(operation, faults=tuple(dict.fromkeys(map(bare, operation.faults)))) if operation.faults else operation
        for operation in case.operations
    )
    changed = Case(case.config, operations)
    return next(plainest(changed), changed)


def without(case: Case, *indexes: int) -> Case:
    """The case without some of its operations."""
    return Case(case.config, tuple(op for index, op in enumerate(case.operations) if index not in indexes))


def _needed(case: Case, index: int) -> bool:
    """Whether the last operation names what this one makes: without it nothing would happen."""
    operation, last = case.operations[index], case.operations[-1]
    if isinstance(operation, ops.Boot):
        return sum(isinstance(other, ops.Boot | ops.Kexec) for other in case.operations) == 1
    return isinstance(operation, ops.Alloc) and operation.domain == getattr(last, "domain", 0)


def pairs(case: Case) -> Iterator[Case]:
    """The case without two operations."""
    count = len(case.operations) - 1
    if count < PAIRS:
        for first, second in combinations([index for index in range(count) if not _needed(case, index)], 2):
            yield without(case, first, second)


def merged(case: Case) -> Iterator[Case]:
    """The case with one VM less (its threads are the host's, or another VM's), or one domain less (another one serves for it)."""
    made = [op.vm for op in case.operations if isinstance(op, ops.VmCreate)]
    for gone in reversed(made):
        for instead in (0, *(vm for vm in made if vm != gone)):
            yield Case(
                case.config,
                tuple(
                    replace(op, by=instead) if getattr(op, "by", 0) == gone else op  # type: ignore[call-arg]
                    for op in case.operations
                    if getattr(op, "vm", 0) != gone
                ),
            )
    domains = [op.domain for op in case.operations if isinstance(op, ops.Alloc)]
    for gone, instead in ((b, a) for a, b in combinations(domains, 2)):
        yield Case(
            case.config,
            tuple(
                replace(op, domain=instead) if getattr(op, "domain", 0) == gone else op  # type: ignore[call-arg]
                for op in case.operations
                if not (isinstance(op, ops.Alloc) and op.domain == gone)
            ),
        )


def fewer_faults(case: Case) -> Iterator[Case]:
    """The case without one refusal."""
    for index, operation in enumerate(case.operations):
        for fault in operation.faults:
            plainer = replace(operation, faults=tuple(other for other in operation.faults if other is not fault))
            yield Case(case.config, (*case.operations[:index], plainer, *case.operations[index + 1 :]))


def fewer(trials: Trials, best: Hit) -> Hit:
    """Scenes; then chunks, large ones first, down to single operations, until none of them can go; then refusals."""
    best = trials.first(best, scenes(best)) or best
    if len(best.case.operations) > ALIKE:
        best = _without_alike(trials, best)
    size = len(best.case.operations) // 2
    while size > 1:
        best = _without_chunks(trials, best, size)
        size = min(size // 2, len(best.case.operations) // 2)
    before: Hit | None = None
    while best is not before and trials.left > 0:
        before = best
        best = _without_chunks(trials, best, 1)
    for moves in (merged, pairs, fewer_faults):
        best = descend(trials, best, moves)
    return best


def _without_alike(trials: Trials, best: Hit) -> Hit:
    """All that has to do with pages taken out together, then all operations of a kind, then all on one domain, group or VM, those
    of which there are many first."""

    def attempt(best: Hit, alike: Callable[[ops.Operation], bool]) -> Hit:
        given = best.case.operations
        fewer = (*(op for op in given[:-1] if not alike(op)), given[-1])
        if len(fewer) == len(given) or trials.left <= 0:
            return best
        return trials.first(best, (Case(best.case.config, fewer),)) or best

    best = attempt(best, lambda op: span(op) is not None)
    for kind, _ in Counter(op.kind for op in best.case.operations[:-1] if not isinstance(op, ops.Boot)).most_common():
        best = attempt(best, lambda op, kind=kind: op.kind == kind)  # type: ignore[misc]
    count = Counter(handle for op in best.case.operations[:-1] for handle in handles(op, best.case))
    for handle, _ in count.most_common():
        if len(best.case.operations) <= ALIKE:
            break
        best = attempt(best, lambda op, handle=handle, case=best.case: handle in handles(op, case))  # type: ignore[misc]
    return best


def _without_chunks(trials: Trials, best: Hit, size: int) -> Hit:
    """One pass from the end to the start: each chunk of ``size`` operations that can go goes (ddmin); the last operation stays."""
    end = len(best.case.operations) - 1
    while end > 0 and trials.left > 0:
        start = max(end - size, 0)
        if size > 1 or not _needed(best.case, start):
            hit = trials.first(best, (without(best.case, *range(start, end)),))
            if hit is not None:
                best = hit
                start = min(start, len(best.case.operations) - 1)
        end = start
    return best


def descend(trials: Trials, best: Hit, moves: Moves) -> Hit:
    """Take the first of the moves that makes the trace lighter, as long as there is one."""
    while trials.left > 0:
        better = trials.first(best, moves(best.case))
        if better is None:
            break
        best = better
    return best


__all__ = ["descend", "fewer", "fewer_faults", "merged", "pairs", "plain_start", "scenes"]
