"""Lifting: the same failure brought about by somebody with less power, best of all by ioctls alone.

A failure that a request to the IOMMU core shows says little until it is known whether anything in the kernel makes such a request.
So the trace is told as user space would bring it about (``translate.py``), and then one is looked for among user space's own
(``search.py``), until the driver fails in the same manner. What is found is minimised with operations of that caller only.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from hvmodel.callers.levels import KERNEL
from hvmodel.callers.means import HOST, USER, Account, Means
from hvmodel.faults import place_of
from hvmodel.gears.lift.search import lives
from hvmodel.gears.lift.translate import translations
from hvmodel.gears.minimise import LIMIT, Minimised, Target, minimise
from hvmodel.gears.minimise.trial import Case, Trials


@dataclass(frozen=True, slots=True)
class Goal:
    """What to lift: a failing case, the manner of its failure, where it is refused (see :func:`place_of`), and what it takes."""

    case: Case
    driver: str
    target: Target
    sites: frozenset[str]
    means: Means

    @property
    def callers(self) -> tuple[int, ...]:
        """Who has less power than the case takes, the least first."""
        return tuple(caller for caller in (USER, HOST) if caller < self.means.caller)

    def allows(self, most: int) -> Callable[[Account], bool]:
        """Whether a run may take what it takes: a caller no more powerful than ``most``, refusals where the case has them, and no
        more of them."""

        def allowed(account: Account) -> bool:
            if account.caller > most:
                return False
            if not account.fired:
                return True
            return account.means.needs <= self.means.needs and all(place_of(fault.site) in self.sites for fault in account.fired)

        return allowed


def first_of(goal: Goal, cases: Iterable[Case], stopped: Callable[[], bool]) -> Minimised | None:
    """The first case that fails in the goal's manner and takes less, minimised; None if there is none until ``stopped``."""
    found: tuple[int, Case] | None = None
    for case in cases:
        if stopped():
            break
        for caller in goal.callers:
            if found is not None and caller >= found[0]:
                break
            trials = Trials(goal.driver, goal.target, 1)
            trials.most, trials.allows = KERNEL, goal.allows(caller)
            hit = trials.run(case)
            if hit is not None:
                found = (caller, hit.case)
                break
        if found is not None and found[0] == USER:
            break
    return None if found is None else smallest(goal, found[1], found[0])


def smallest(goal: Goal, case: Case, caller: int) -> Minimised | None:
    """A case minimised with operations of a caller only."""
    return minimise(case.config, case.operations, goal.driver, goal.target, LIMIT, goal.allows(caller))


def by_translation(goal: Goal, stopped: Callable[[], bool]) -> Minimised | None:
    """The goal's own operations as user space would bring them about, if that fails in the same manner."""
    return first_of(goal, translations(goal.case.config, goal.case.operations), stopped)


def by_search(goal: Goal, seed: str, stopped: Callable[[], bool]) -> Minimised | None:
    """A life of user space that fails in the same manner, looked for until ``stopped``."""
    return first_of(goal, lives(goal, seed, stopped), stopped)


__all__ = ["Goal", "by_search", "by_translation", "first_of", "smallest"]
