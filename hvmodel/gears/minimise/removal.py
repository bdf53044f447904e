"""Fewer operations: short scenes of what the failing operation needs first, then one operation after another taken out."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import combinations

from hvmodel import operations as ops
from hvmodel.configuration import Configuration
from hvmodel.gears.minimise.account import closed, localised, ranked
from hvmodel.gears.minimise.devices import lowest
from hvmodel.gears.minimise.trial import Case, Hit, Trials

SINGLES = 8
"""How many operations are tried as the only one beside the failing one and what it needs."""

GROWTH = (2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192)
"""How many of the most relevant operations are tried together: short candidates are cheap, so that doubling costs little."""

PAIRS = 8
"""Operations that a trace may have for pairs of them to be taken out."""

Moves = Callable[[Case], Iterator[Case]]
"""What may be tried next, given the best so far."""

CHUNKS = 10
"""Operations from which on they are taken out in chunks before one by one."""


def plain_start(config: Configuration) -> Configuration:
    """The plain configuration of the same kind of partition, with the same devices."""
    return Configuration.of_profile("l1vh" if config.l1vh else "default", devices=config.devices)


def scenes(hit: Hit, driver: str) -> Iterator[Case]:
    """Short traces that may fail in the same way: the failing operation with what it cannot do without; one relevant operation more;
    then ever more of them. Each from the plain start on the lowest devices, then from the start as it is."""
    config = hit.case.config
    operations = localised(hit, driver)
    plain = plain_start(config)
    order = ranked(operations, hit)
    seen: set[tuple[ops.Operation, ...]] = set()
    for chosen in _choices(order, len(operations)):
        kept = closed(operations, chosen)
        if kept in seen or len(kept) > len(operations):
            continue
        seen.add(kept)
        yield lowest(Case(plain, kept))
        if config != plain:
            yield Case(config, kept)


def _choices(order: list[int], length: int) -> Iterator[set[int]]:
    yield set()
    for index in order[:SINGLES]:
        yield {index}
    for count in GROWTH:
        if count >= length - 1:
            break
        yield set(order[:count])
    yield set(order)


def without(case: Case, *indexes: int) -> Case:
    """The case without some of its operations."""
    return Case(case.config, tuple(op for index, op in enumerate(case.operations) if index not in indexes))


def chunks(case: Case, size: int) -> Iterator[Case]:
    """The case without one chunk of ``size`` operations, the latest first; the last operation stays."""
    end = len(case.operations) - 1
    while end > 0:
        start = max(end - size, 0)
        yield without(case, *range(start, end))
        end = start


def _needed(case: Case, index: int) -> bool:
    """Whether the last operation names what this one makes: without it nothing would happen."""
    operation, last = case.operations[index], case.operations[-1]
    if isinstance(operation, ops.Boot):
        return sum(isinstance(other, ops.Boot | ops.Kexec) for other in case.operations) == 1
    return isinstance(operation, ops.Alloc) and operation.domain == getattr(last, "domain", 0)


def singles(case: Case) -> Iterator[Case]:
    """The case without one operation, the latest first."""
    for index in range(len(case.operations) - 2, -1, -1):
        if not _needed(case, index):
            yield without(case, index)


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
    """Scenes, then chunks if there are many operations, then single ones, until none of them can go; then refusals."""
    best = trials.first(best, scenes(best, trials.driver)) or best
    size = len(best.case.operations) // 2
    while size > 1 and len(best.case.operations) > CHUNKS:
        best = trials.first(best, chunks(best.case, size)) or best
        size = min(size // 2, len(best.case.operations) // 2)
    for moves in (singles, merged, pairs, fewer_faults):
        best = descend(trials, best, moves)
    return best


def descend(trials: Trials, best: Hit, moves: Moves) -> Hit:
    """Take the first of the moves that makes the trace lighter, as long as there is one."""
    while trials.left > 0:
        better = trials.first(best, moves(best.case))
        if better is None:
            break
        best = better
    return best


__all__ = ["descend", "fewer", "fewer_faults", "merged", "pairs", "plain_start", "scenes", "singles"]
