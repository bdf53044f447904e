"""The minimiser: fewer operations, then a plainer start, fewer refusals, simpler arguments; the world is run again each time.

Operations carry handles and do nothing when a handle is gone, so that any subset of a trace is a trace. What is kept is the
property that fails, in the same kind of call and in the same manner (the violation's shape), so that one defect does not turn
into another on the way.

All steps go down in one order of traces (``weight.py``), and they are repeated until none goes further down. So a result that is
minimised again comes out as it went in.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from hvmodel import operations as ops
from hvmodel.callers.means import Account
from hvmodel.configuration import Configuration
from hvmodel.gears.minimise.arguments import (
    brief_faults,
    fewer_done,
    plainer_addresses,
    plainer_faults,
    plainer_kinds,
    plainer_words,
    renumbered,
    smaller_counts,
)
from hvmodel.gears.minimise.devices import plainer_devices
from hvmodel.gears.minimise.earlier import refused_earlier
from hvmodel.gears.minimise.layout import plainest, shifted, smaller_gaps
from hvmodel.gears.minimise.order import reordered
from hvmodel.gears.minimise.removal import descend, fewer
from hvmodel.gears.minimise.start import fresh_start, plainer_start
from hvmodel.gears.minimise.trial import Case, Hit, Minimised, Target, Trials

LIMIT = 1500
"""Worlds that one search may run if nothing else is said."""


def minimise(
    config: Configuration,
    operations: Sequence[ops.Operation],
    driver: str,
    target: Target,
    limit: int = LIMIT,
    allows: Callable[[Account], bool] | None = None,
) -> Minimised | None:
    """The smallest trace found within about ``limit`` runs, or None if the given one does not fail the target. What comes out
    within the limit comes out again when it is given; no operation of it can be left out. ``allows`` says what a trace may take:
    who asks for its operations, what is refused in it. Raises KeyError for an unknown driver."""
    trials = Trials(driver, target, limit)
    trials.allows = allows
    hit = start(trials, config, operations)
    return None if hit is None else result(trials, settle(trials, hit))


def start(trials: Trials, config: Configuration, operations: Sequence[ops.Operation]) -> Hit | None:
    """The given trace up to its failure, or None; from here on no trace may need a higher level than this one."""
    hit = trials.run(Case(config, tuple(operations)))
    if hit is not None:
        trials.most = hit.level
    return hit


def settle(trials: Trials, best: Hit) -> Hit:
    """All steps again and again until none makes the trace lighter."""
    before: Hit | None = None
    while best is not before and trials.left > 0:
        before = best
        best = fewer(trials, trials.first(best, fresh_start(best.case, trials.driver)) or best)
        best = simpler(trials, trials.first(best, refused_earlier(best.case)) or best)
    return best


def simpler(trials: Trials, best: Hit) -> Hit:
    """A plainer start and simpler arguments; the number of operations stays, if it does not fall by the way."""
    for moves in (renumbered, brief_faults, plainer_devices, plainer_start, plainest, plainer_kinds, plainer_words, shifted):
        best = descend(trials, best, moves)
    best = smaller_counts(trials, smaller_gaps(trials, best))
    for moves in (plainer_addresses, plainer_faults, reordered):
        best = descend(trials, best, moves)
    return fewer_done(trials, best)


def result(trials: Trials, hit: Hit) -> Minimised:
    """What a search gives to its caller."""
    return Minimised(hit.case.config, list(hit.case.operations), hit.violation, hit.level, trials.runs, list(hit.met[-1]))


__all__ = ["LIMIT", "Minimised", "Target", "minimise", "result", "settle", "simpler", "start"]
