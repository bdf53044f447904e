"""What a night is to do: seeds, shards, the rota, the order of its portions, and when it stops."""

from __future__ import annotations

import copy
import random
from collections import Counter

import pytest

from hvmodel.drivers import REGISTRY
from hvmodel.drivers.variants import VARIANTS
from hvmodel.jobs.nightly import plan as plans
from hvmodel.jobs.nightly.plan import Plan, Shard, make_plan, plan_of, shard
from hvmodel.jobs.nightly.portions import Done, Portion
from hvmodel.jobs.nightly.schedule import DEATHS, FAILURES, FIRST, Schedule
from hvmodel.jobs.nightly.takings import Takings

DATE = "2026-11-24"


def plan_for(date: str = DATE, part: str = "1/1", number: int = 0) -> Plan:
    """The plan of a night."""
    return make_plan("repaired", date, shard(part), number, 300)


# --- seeds and shards ---------------------------------------------------------------------------------------------------------


def test_each_night_and_each_shard_has_its_own_seed() -> None:
    """Protects the point of a night: other operations each date and in each shard, and the same ones whenever that night is
    resumed or done again."""
    dates = [f"2026-{month:02d}-{day:02d}" for month in (10, 11) for day in range(1, 29)]
    seeds = [plan_for(date, f"{index}/4").seed for date in dates for index in range(1, 5)]
    assert len(set(seeds)) == len(seeds)
    assert plan_for().seed == 0xE84CB584E14E, "the same on every machine and in every version"
    assert plan_for(number=1).seed != plan_for().seed
    assert plan_for(part="1/2").seed != plan_for(part="1/1").seed
    kinds = [(step, number) for step in ("rota", "canary") for number in (0, 1)]
    trials = {plans.trial_seed(plan_for(date), step, "repaired+D05", number) for date in dates for step, number in kinds}
    assert len(trials) == len(kinds) * len(dates)


def test_a_plan_is_read_back_from_a_journal() -> None:
    """Protects resuming: the line that a journal begins with says all that decides the night's operations."""
    plan = plan_for(part="2/3", number=7)
    assert plan_of(plan.as_record()) == plan
    assert plan.name == "2026-11-24.2of3"
    for field, value in (("portion", 0), ("date", "x"), ("shard", "3/2"), ("seed", "x"), ("number", None)):
        with pytest.raises((ValueError, TypeError)):
            plan_of({**plan.as_record(), field: value})


@pytest.mark.parametrize(("text", "wanted"), [("1/1", Shard(1, 1)), ("4/4", Shard(4, 4)), ("12/9999", Shard(12, 9999))])
def test_a_shard_is_read(text: str, wanted: Shard) -> None:
    """Protects ``--shard``: what is written is what is meant."""
    assert shard(text) == wanted


@pytest.mark.parametrize("text", ["0/1", "2/1", "1", "1/0", "-1/2", "1/2/3", "a/b", "", "1/10000", "1 / 2"])
def test_what_is_no_shard(text: str) -> None:
    """Protects ``--shard``: wrong use is one line."""
    with pytest.raises(ValueError, match="shard"):
        shard(text)


@pytest.mark.parametrize(("text", "seconds"), [("300", 300), ("300s", 300), ("5m", 300), ("8h", 28800), ("1.5h", 5400), ("1s", 1)])
def test_a_budget_is_read(text: str, seconds: float) -> None:
    """Protects ``--budget``: the units that people write."""
    assert plans.budget(text) == seconds


@pytest.mark.parametrize("text", ["0", "0.5s", "8d", "h", "", "-5m", "169h", "1e3", "nan", "inf"])
def test_what_is_no_budget(text: str) -> None:
    """Protects ``--budget``: a night of nothing, of a month or of no number is one line."""
    with pytest.raises(ValueError, match=r"time|takes"):
        plans.budget(text)


@pytest.mark.parametrize("text", ["2026-02-30", "2026-2-3", "today", "20261124", "2026-11-24 ", "0000-00-00"])
def test_what_is_no_date(text: str) -> None:
    """Protects ``--date``: what is no day of the calendar is one line."""
    with pytest.raises(ValueError, match="is no date"):
        plans.day(text)


def test_a_portion_takes_a_second_or_ten() -> None:
    """Protects what a kill costs and how large journals grow: portions are small in a short night and larger in a long one."""
    sizes = [plans.runs_in_portion(seconds) for seconds in (1, 300, 28800, 604800)]
    assert sizes == sorted(sizes)
    assert sizes[0] >= 5
    assert sizes[-1] == 400


def test_the_rota_comes_round() -> None:
    """Protects the measure of power: over nights and shards each variant has its turn as often as any other, none is left out."""
    names = list(VARIANTS)
    for shards in (1, 4):
        turns: Counter[str] = Counter()
        nights = 28
        for day in range(1, nights + 1):
            for index in range(1, shards + 1):
                plan = plan_for(f"2026-11-{day:02d}", f"{index}/{shards}")
                turns.update(plans.rota(plan, names))
        assert sum(turns.values()) == nights * shards * plans.ROTA_VARIANTS
        assert len(turns) == len(names)
        assert max(turns.values()) - min(turns.values()) <= 1
    assert plans.rota(plan_for(), []) == []
    assert plans.rota(plan_for(), ["a", "b"]) in (["a", "b"], ["b", "a"])


def test_canaries_are_drivers() -> None:
    """Protects the canary: what is to be found is there, and differs from the repaired driver in one defect."""
    assert {bird.driver for bird in plans.CANARIES} <= set(VARIANTS) <= set(REGISTRY)
    assert len(plans.CANARIES) >= 2


# --- the order ----------------------------------------------------------------------------------------------------------------


class Played:
    """A night without processes: portions are given out and done in an order that a seed decides."""

    def __init__(self, budget: float = 100.0, jobs: int = 2, seed: int = 0, takings: Takings | None = None) -> None:
        self.takings = takings or Takings()
        self.schedule = Schedule(plan_for(), self.takings, budget, jobs)
        self.jobs, self.left = jobs, budget
        self.order: list[Portion] = []
        self.running: list[Portion] = []
        self.random = random.Random(seed)

    def give(self) -> None:
        """Give work to all that may have some."""
        while len(self.running) < self.jobs:
            portion = self.schedule.next(self.left, self.running)
            if portion is None:
                return
            assert portion not in self.running
            assert portion.step in FIRST or not any(item.step in FIRST for item in self.running), "nothing before the canaries"
            self.order.append(portion)
            self.running.append(portion)

    def finish(self, seconds: float = 1.0, **data: object) -> Portion:
        """One of the running portions is done."""
        portion = self.running.pop(self.random.randrange(len(self.running)))
        found = {"found": True} if portion.step == "canary" else {}
        done = Done(portion.id, operations=10, runs=1, seconds=seconds, data={**found, **data})
        self.takings.take({**done.as_record(), "found": {}})
        self.left -= seconds / self.jobs
        return portion

    def play(self) -> list[Portion]:
        """The whole night."""
        self.give()
        while self.running:
            self.finish()
            self.give()
        return self.order


@pytest.mark.parametrize("seed", range(5))
def test_a_night_goes_in_its_order(seed: int) -> None:
    """Protects the order: kept traces, known findings and canaries first, all of them before the rota, that before the search; the
    search goes on until the time is over, nine tenths of it in the walk; no portion comes twice."""
    order = Played(seed=seed).play()
    steps = [portion.step for portion in order]
    assert len(set(order)) == len(order)
    assert sorted(steps[:4]) == ["canary", "canary", "corpus", "known"]
    rota = steps.count("rota")
    assert rota == plans.ROTA_VARIANTS * plans.ROTA_TRIALS
    assert set(steps[4 : 4 + rota]) == {"rota"}
    assert steps[4 + rota] == "coverage"
    search = Counter(steps[5 + rota :])
    assert set(search) == {"walk", "hypothesis", "sweep"}
    assert 180 <= 4 + rota + 1 + search.total() <= 204, "two processes, a hundred seconds, a second each"
    assert search["walk"] == pytest.approx(9 * search["hypothesis"], rel=0.15)


def test_the_rota_takes_its_share_and_no_more() -> None:
    """Protects the search: trials of the rota that take longer than its share of the budget are left out, and a short night gets
    through its canaries all the same."""
    order = Played(budget=10).play()
    assert 3 <= Counter(portion.step for portion in order)["rota"] <= 4, "two seconds of work, and what was under way then"
    tiny = Counter(portion.step for portion in Played(budget=0.5).play())
    assert tiny == {"corpus": 1, "known": 1, "canary": 2}


def test_a_void_night_stops() -> None:
    """Protects against a night that proves nothing: with a canary not found, or its search failed, nothing else is begun."""
    for failed in (False, True):
        night = Played()
        night.give()
        while night.running:
            if night.running[0].step == "canary" and failed:
                night.takings.take({"r": "failed", "portion": night.running.pop(0).id, "text": "x"})
            else:
                night.finish(found=False)
            night.give()
        assert night.takings.void
        assert {portion.step for portion in night.order} == {"corpus", "known", "canary"}
        assert night.schedule.checks([]) == []


def test_a_night_goes_on_where_it_was() -> None:
    """Protects resuming: what is done or set aside is not done again, what was under way is; the share of the rota counts over both
    sessions."""
    first = Played()
    first.give()
    for _ in range(60):
        first.finish()
        first.give()
    assert first.running, "some were under way"
    second = Played(takings=first.takings, budget=50)
    second.play()
    assert not set(second.order) & (set(first.order) - set(first.running))
    assert set(first.running) <= set(second.order)
    walks = [portion.number for portion in {*first.order, *second.order} if portion.step == "walk"]
    assert sorted(walks) == list(range(len(walks))), "no hole"


def test_a_missed_portion_is_done_again_but_not_for_ever() -> None:
    """Protects against a portion that kills whoever does it: twice it is given to somebody else, the third time it is set aside;
    one that is done meanwhile, or is to be done twice, is not given again."""
    night = Played()
    night.give()
    portion = night.running.pop()
    for death in range(1, DEATHS + 1):
        night.takings.take({"r": "killed", "portion": portion.id})
        again = night.schedule.died(portion)
        assert again == (death < DEATHS)
        if again:
            assert night.schedule.next(night.left, night.running) == portion
            assert portion.step in FIRST
    night.takings.take({"r": "failed", "portion": portion.id, "text": "x"})
    assert portion not in [night.schedule.next(night.left, night.running) for _ in range(3)]
    walk = Portion("walk", 7)
    for missed, left, again in ((Portion("again", 0), 9.0, False), (walk, 0.0, False), (walk, 9.0, True)):
        assert night.schedule.died(missed)
        assert (night.schedule.next(left, night.running) == missed) == again, "when the time is over nothing is begun again"


def test_a_search_that_only_fails_ends() -> None:
    """Protects against a driver that raises in every run: after some failures the search ends instead of failing all night."""
    night = Played()
    night.give()
    while night.running:
        if night.running[0].step in ("walk", "hypothesis", "sweep"):
            night.takings.take({"r": "failed", "portion": night.running.pop(0).id, "text": "TypeError: x"})
        else:
            night.finish()
        night.give()
    assert FAILURES <= len(night.takings.failures) <= FAILURES + night.jobs
    assert night.left > 0


def test_what_is_done_twice() -> None:
    """Protects the doublecheck: portions of the walk that have a digest wait for a checker, a few at a time, all when the time is
    over; one that failed to be done again is not tried for ever; a difference is named."""
    night = Played()
    night.play()
    for number in range(3):
        night.takings.take({**Done(f"walk/{900 + number}", digest=f"d{number}").as_record(), "found": {}})
    checks = night.schedule.checks([Portion("again", 901)])
    assert checks == [Portion("again", 900), Portion("again", 902)]
    assert night.schedule.worth_a_checker(checks, 0.0)
    assert not night.schedule.worth_a_checker(checks, 99.0)
    assert night.schedule.worth_a_checker([Portion("again", number) for number in range(plans.CHECKER_BATCH)], 99.0)
    night.takings.take(Done("again/900", digest="d0").as_record())
    night.takings.take(Done("again/901", digest="other").as_record())
    night.takings.take({"r": "failed", "portion": "again/902", "text": "x"})
    assert night.schedule.checks([]) == []
    assert night.takings.different == ["walk/901"]


def test_takings_count_a_portion_once() -> None:
    """Protects every figure: a portion that was done twice, because its worker outlived its job, counts once; records that make no
    sense are skipped."""
    takings = Takings()
    done = Done("walk/1", operations=5, runs=2, kinds={"a": 1}, states={"s": 2}, sampled=1)
    takings.take({**done.as_record(), "found": {"a": 1}, "process": "1/7", "rss": 9})
    once = copy.deepcopy(takings)
    takings.take({**done.as_record(), "portion": "walk"})
    for junk in ({"r": "done"}, {"r": "finding"}, {"r": "clock", "session": "x"}, {"r": "what"}):
        takings.take(junk)
    takings.take({**done.as_record(), "operations": 99, "found": {"a": 9}})
    assert takings == once
    assert (takings.met, takings.states, takings.found, takings.peaks) == ({"a": 1}, {"s": 2}, {"a": 1}, {"1/7": 9})
    assert takings.steps["walk"].operations == 5
