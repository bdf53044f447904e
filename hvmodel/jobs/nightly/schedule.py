"""What a night does next: its stages in order, then the search until the time is over, and what is done a second time."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from hvmodel.jobs.nightly import gears
from hvmodel.jobs.nightly import plan as plans
from hvmodel.jobs.nightly.plan import Plan
from hvmodel.jobs.nightly.portions import Portion
from hvmodel.jobs.nightly.steps import rota_tasks
from hvmodel.jobs.nightly.takings import Takings

DEATHS = 3
"""A portion that so many workers died of is set aside."""

FAILURES = 20
"""After so many portions that failed the search ends: more of them would say nothing more."""


FIRST = ("corpus", "known", "canary")
"""Without these a night says nothing, so they are done whatever time it is."""


@dataclass(slots=True)
class Stage:
    """Portions that are done before anything later begins. What is not ``needed`` is left out once the night is over, or once its
    step has taken so many ``seconds`` of work."""

    waiting: list[Portion]
    needed: bool = True
    seconds: float = float("inf")


class Schedule:
    """The order of a night: kept traces, known findings and canaries; the rota; a sample of the driver's branches; the search.

    Everything follows from what the night has taken in, so that a night that is resumed goes on where it was. ``budget`` is in
    seconds; ``running`` in the methods are the portions that workers are at, ``left`` is how many seconds of the budget are left.
    """

    def __init__(self, plan: Plan, takings: Takings, budget: float, jobs: int) -> None:
        self.takings = takings
        first = [Portion("corpus", 0), Portion("known", 0), *(Portion("canary", number) for number in range(len(plans.CANARIES)))]
        rota = [Portion("rota", number) for number in range(len(rota_tasks(plan)))]
        self._stages = [Stage(first), Stage(rota, False, plans.ROTA_SHARE * budget * jobs), Stage([Portion("coverage", 0)], False)]
        self._back: list[Portion] = []
        self._numbers = {gear.name: 0 for gear in gears.GEARS}

    def next(self, left: float, running: Sequence[Portion]) -> Portion | None:
        """What an idle worker is to do; None if there is nothing for it, for now or for good."""
        while self._back:
            missed = self._back.pop(0)
            if not self.takings.settled(missed) and (left > 0 or missed.step in FIRST):
                return missed
        while self._stages:
            portion = self._of_stage(self._stages[0], left)
            if portion is not None:
                return portion
            if any(item.step in (*FIRST, "rota") for item in running):
                return None  # a stage begins when the one before it is over
            self._stages.pop(0)
        return None if self.takings.void or not self.time_for_more(left) else self._of_search(running)

    def _of_stage(self, stage: Stage, left: float) -> Portion | None:
        while stage.waiting:
            taken = self.takings.steps.get(stage.waiting[0].step)
            if not stage.needed and (self.takings.void or left <= 0 or (taken is not None and taken.seconds > stage.seconds)):
                stage.waiting.clear()
                break
            portion = stage.waiting.pop(0)
            if not self.takings.settled(portion):
                return portion
        return None

    def _of_search(self, running: Sequence[Portion]) -> Portion:
        """The next portion of the gear that has had the least of its share."""
        at_work = Counter(portion.step for portion in running)

        def had(gear: gears.Gear) -> float:
            sums = self.takings.search[gear.name]
            usual = sums.seconds / sums.portions if sums.portions else 1e-3
            return (sums.seconds + usual * at_work[gear.name]) / gear.share

        gear = min(gears.GEARS, key=had)
        while True:
            portion = Portion(gear.name, self._numbers[gear.name])
            self._numbers[gear.name] += 1
            if not self.takings.settled(portion):
                return portion

    def time_for_more(self, left: float) -> bool:
        """Whether there is time for one more portion of the search, with what is still to be done a second time."""
        if len(self.takings.failures) >= FAILURES:
            return False
        sums = self.takings.search.values()
        portions = sum(item.portions for item in sums)
        usual = sum(item.seconds for item in sums) / portions if portions else 0.0
        return left > usual * (1 + len(self.takings.unchecked))

    def checks(self, running: Sequence[Portion]) -> list[Portion]:
        """What is to be done a second time."""
        if self.takings.void:
            return []
        return [portion for number in self.takings.unchecked if (portion := Portion("again", number)) not in running]

    def worth_a_checker(self, checks: Sequence[Portion], left: float) -> bool:
        """Whether a process is to be started for them: for a few at a time, and for what there is when the time is over."""
        over = not self._stages and not self.time_for_more(left)
        return len(checks) >= (1 if over else plans.CHECKER_BATCH)

    def died(self, portion: Portion) -> bool:
        """A worker died at a portion, which the takings know: somebody else is to do it. Answers False if it has killed so many
        that it is to be set aside."""
        if self.takings.killed[portion.id] >= DEATHS:
            return False
        if portion.step != "again":  # what is to be done twice stays on that list
            self._back.append(portion)
        return True
