"""The sweep: it refuses at every place and says so, once each; what only a refusal reaches; and what it does not claim."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from random import Random
from typing import Any

import pytest

from hvmodel import operations as ops
from hvmodel.configuration import Configuration
from hvmodel.drivers import REGISTRY, register
from hvmodel.drivers.repaired import Repaired
from hvmodel.drivers.repaired.objects import HvDomain
from hvmodel.faults import Fault
from hvmodel.gears.sweep import MOST, Combination, Count, Played, Refusal, Subject, Sweep, play
from hvmodel.gears.sweep.answers import answers, brief
from hvmodel.gears.sweep.record import Arrival
from hvmodel.gears.sweep.subjects import of_scenario
from hvmodel.gears.walk import Run
from hvmodel.scenarios.steps import MIB
from hvmodel.world import Outcome, World

MAP, UNMAP = "MAP_DEVICE_GPA_PAGES", "UNMAP_DEVICE_GPA_PAGES"


def subject(name: str, profile: str = "default") -> Subject:
    """A scenario under a profile."""
    return of_scenario(name, profile)[0]


def deaf(_run: Run, _outcome: Outcome) -> bool:
    """Hears nothing."""
    return False


def swept(name: str, profile: str = "default", driver: str = "repaired", **options: Any) -> tuple[Sweep, list[Played]]:
    """A sweep that is done, and its runs."""
    sweep = Sweep(subject(name, profile), driver, deaf, **options)
    return sweep, list(sweep.runs())


def failures(name: str, driver: str, wanted: str = "", pairs: bool = False) -> dict[str, set[str]]:
    """The properties that failed in a sweep, each with what had been refused then: the sites, joined. Ends when property and sites
    are the ``wanted`` ones."""
    found: dict[str, set[str]] = {}

    def heard(run: Run, outcome: Outcome) -> bool:
        sites = "+".join(fault.site for operation in run.operations for fault in operation.faults)
        for violation in outcome.violations:
            found.setdefault(violation.property, set()).add(sites)
        return False

    for _ in Sweep(subject(name), driver, heard, pairs).runs():
        if any(f"{name} {sites}" == wanted for name, those in found.items() for sites in those):
            break
    return found


@pytest.fixture
def planted(request: pytest.FixtureRequest) -> Iterator[str]:
    """The name of a driver with a planted defect, known while the test runs."""
    register(request.param)
    yield request.param.name
    del REGISTRY[request.param.name]


# --- how much -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "profile", "sites", "beyond", "runs", "again"),
    [
        ("boot", "default", 11, 46, 131, 0),
        ("map-4k", "default", 24, 56, 259, 30),
        ("vm-life-direct", "l1vh", 9, 8, 55, 11),
        ("memory-short", "stress", 30, 77, 410, 65),
    ],
)
def test_how_many_combinations_there_are(name: str, profile: str, sites: int, beyond: int, runs: int, again: int) -> None:
    """Protects the reach: a place, an answer or an error path that is no longer tried is missed here. And on a driver as it should
    be every refusal fires and nothing fails."""
    sweep, played = swept(name, profile)
    count = sweep.count
    assert (count.sites, count.beyond, count.runs, count.again) == (sites, beyond, runs, again)
    assert (count.left_out, count.unfired, count.failing, count.pairs) == (0, 0, 0, 0)
    assert count.runs == len(played) == len({one.combination for one in played})
    assert count.fired == sum(len(one.combination.refusals) for one in played)


def test_every_place_of_the_clean_run_is_refused_with_every_answer() -> None:
    """Protects "each place, each answer": the singles are exactly the arrivals of a run in a world that takes no notes, times what
    the site can answer."""
    name = "vm-life-domain"
    world, arrived = World(subject(name).config, "repaired"), []
    for index, operation in enumerate(subject(name).operations):
        before = dict(world.faults.reached)
        world.apply(operation)
        for site, count in world.faults.reached.items():
            arrived += [(index, site, nth) for nth in range(1, count - before.get(site, 0) + 1)]
    _sweep, played = swept(name)
    singles = [one.combination.refusals[0] for one in played if len(one.combination.refusals) == 1]
    tried = {(refusal.index, refusal.fault.site, refusal.fault.nth) for refusal in singles}
    assert tried == set(arrived) - {(index, site, nth) for index, site, nth in arrived if site not in _SITES}
    for place in tried:
        statuses = {one.fault for one in singles if (one.index, one.fault.site, one.fault.nth) == place}
        assert len(statuses) >= 2
        assert {fault.times for fault in statuses} == {1, None}


_SITES = {"kzalloc", "alloc_pages", "iommu_device_sysfs_add", "iommu_device_register", "GET_IOMMU_CAPABILITIES", MAP, UNMAP} | {
    f"{verb}_DEVICE{domain}" for verb in ("ATTACH", "DETACH", "CREATE", "DELETE") for domain in ("", "_DOMAIN")
}


def test_what_a_call_of_many_elements_answers() -> None:
    """Protects the places where counting goes wrong: before the first element, after one, in the middle, before the last one; each
    of the four shortages; and nothing that does not exist in a call of one element."""
    long = list(answers(Arrival(MAP, 2, 0, 507)))
    assert {fault.nth for fault in long} == {2}
    assert {fault.done for fault in long if fault.status == 0x71} == {0, 1, 253, 506}
    assert {fault.status for fault in long} == {0x71, 0x05, 0x0B, 0x73, 0x75, 0x83}
    assert any(fault.times is None and fault.done and fault.status == 0x0B for fault in long)
    assert {fault.done for fault in answers(Arrival(MAP, 1, 0, 1))} == {0}
    assert {fault.done for fault in answers(Arrival(MAP, 1, 100, 102))} == {0, 101}, "a call that goes on has done 100 already"
    assert len(set(long)) == len(long)
    assert [fault.status for fault in answers(Arrival("kzalloc", 1, 0, 0))] == [0, 0]
    assert set(brief(Arrival(MAP, 2, 0, 507))) < set(long)


def test_of_many_arrivals_the_ends_and_the_middle_are_tried() -> None:
    """Protects time and honesty: a map of 60 calls is not refused 60 times, and what is passed over is counted."""
    operations = (*subject("map-4k").operations[:5], ops.Map(1, MIB, MIB + 0x400001000, 507 * 60))
    sweep = Sweep(Subject("long", subject("map-4k").config, operations), "repaired", deaf)
    numbers = {
        refusal.fault.nth
        for one in sweep.first_round()
        for refusal in one.combination.refusals
        if (refusal.index, refusal.fault.site) == (5, MAP)
    }
    assert numbers == {1, 2, 3, 4, 5, 6, 31, 56, 57, 58, 59, 60}
    assert len(numbers) == MOST
    assert sweep.count.left_out == 60 - MOST


def test_a_shared_beginning_is_not_swept_again() -> None:
    """Protects the figures of many traces: what an earlier one has swept is left out, the rest is swept in full."""
    whole = subject("map-4k")
    rest = Subject(whole.name, whole.config, whole.operations, shared=5)
    parts = [list(Sweep(one, "repaired", deaf).first_round()) for one in (whole, rest)]
    singles = [{one.combination for one in runs if one.combination.refusals} for runs in parts]
    assert singles[1] == {one for one in singles[0] if one.refusals[0].index >= 5}


# --- what it finds ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("variant", "name", "wrong", "sites"),
    [
        ("repaired+D13", "boot", "shortage-is-survivable", "ATTACH_DEVICE_DOMAIN"),
        ("repaired+D79", "vm-life-domain", "errors-say-what", "CREATE_DEVICE_DOMAIN"),
        ("repaired+D60", "vm-life-direct", "static-domains-always-attach", "DETACH_DEVICE"),
        ("repaired+N04", "vm-life-direct", "errors-say-what", "ATTACH_DEVICE"),
        ("repaired+D62", "vm-life-domain", "nothing-is-left", "DELETE_DEVICE_DOMAIN"),
        ("repaired+D10", "map-4k", "shortage-is-survivable", MAP),
        ("repaired+D29", "map-4k", "no-stale-mapping", UNMAP),
        ("repaired+O15", "map-4k", "unmap-total", "kzalloc"),
        ("repaired+D07", "holes-filled", "no-lost-mapping", MAP),
        ("repaired+D09", "vm-life-domain", "no-stale-mapping", f"{MAP}+{UNMAP}"),
        ("repaired+N02", "aliases-direct", "legal-requests-work", ""),
    ],
)
def test_a_defect_in_each_class_of_place_is_found(variant: str, name: str, wrong: str, sites: str) -> None:
    """Protects the purpose, place by place: hypercalls of each kind, allocations, the undo of a map, and the clean run itself."""
    assert sites in failures(name, variant, f"{wrong} {sites}")[wrong]


class SysfsStays(Repaired):
    """A failed registration leaves the sysfs entry behind."""

    name, defect = "toy-sysfs-stays", ""

    def __init__(self, kernel: Any) -> None:
        super().__init__(kernel)
        kernel.iommu_device_sysfs_remove = lambda: None


class DepositForgotten(Repaired):
    """A deposit that failed counts as made, and the call goes on for ever."""

    name, defect = "toy-deposit-forgotten", ""

    def hv_iommu_deposit(self, status: int, deposits: Any, payer: int, pages: int = 1) -> bool:
        done = super().hv_iommu_deposit(status, deposits, payer, pages)
        return done or (status == 0x0B and self.kernel.deposit_calls > 0)


@pytest.mark.parametrize(
    ("planted", "name", "wrong", "sites"),
    [
        (SysfsStays, "boot", "ready-before-visible", "iommu_device_register"),
        (DepositForgotten, "map-4k", "every-call-ends", f"{MAP}+alloc_pages"),
        (DepositForgotten, "map-4k", "every-call-ends", f"{MAP}+DEPOSIT_MEMORY"),
    ],
    indirect=["planted"],
)
def test_so_is_one_where_only_a_service_of_the_kernel_can_fail(planted: str, name: str, wrong: str, sites: str) -> None:
    """Protects the places that no variant is about: registration, and the deposit that only a shortage leads to."""
    assert sites in failures(name, planted, f"{wrong} {sites}")[wrong]


class UnmapThenMap(Repaired):
    """After an unmap that failed, a map that fails says that it did nothing. Needs two refusals, in two operations."""

    name, defect = "toy-unmap-then-map", ""
    unmap_failed = map_failed = False

    def hv_iommu_unmap_range(self, hvdom: HvDomain, iova: int, npages: int) -> int:
        done = super().hv_iommu_unmap_range(hvdom, iova, npages)
        self.unmap_failed |= done < npages and not self.map_failed
        return done

    def hv_iommu_map_range(self, hvdom: HvDomain, iova: int, paddr: int, npages: int, map_flags: int, gfp: str) -> tuple[int, int]:
        done, status = super().hv_iommu_map_range(hvdom, iova, paddr, npages, map_flags, gfp)
        self.map_failed |= status != 0
        return (0 if status and self.unmap_failed else done), status


@pytest.mark.parametrize("planted", [UnmapThenMap], indirect=True)
def test_what_needs_two_refusals_is_found_in_pairs(planted: str) -> None:
    """Protects ``--pairs``: one refusal at a time does not show it, two do, and they are at the places where it shows."""
    assert failures("balloon", planted) == {}
    both = f"{UNMAP}+{MAP}"
    assert both in failures("balloon", planted, f"no-stale-mapping {both}", pairs=True)["no-stale-mapping"]


def test_pairs_are_new_runs() -> None:
    """Protects the count: pairs come on top of all else, and each two refusals are in the order in which they are reached."""
    alone, _ = swept("vm-life-direct", "l1vh")
    sweep, played = swept("vm-life-direct", "l1vh", pairs=True)
    both = [one.combination for one in played if len(one.combination.refusals) == 2]
    assert sweep.count.pairs == sweep.count.runs - alone.count.runs > 20
    assert all(one.refusals[0].index <= one.refusals[1].index for one in both)
    assert any(one.refusals[0].index < one.refusals[1].index for one in both)


# --- what it does not claim ---------------------------------------------------------------------------------------------


def test_a_refusal_that_does_not_fire_is_said() -> None:
    """Protects against a pass that is none: a place that a run does not come by has not been put to the test."""
    one = subject("map-4k")
    clean = play(one, Combination(), "repaired", deaf)
    missed = Refusal(5, Fault(MAP, nth=9, status=0x71))
    assert play(one, Combination((missed,)), "repaired", deaf, clean).unfired == (missed,)
    fired = Refusal(5, Fault(MAP, nth=1, status=0x71))
    assert play(one, Combination((fired,)), "repaired", deaf, clean).unfired == ()
    assert play(one, Combination((fired, missed)), "repaired", deaf, clean).unfired == (missed,)


def test_the_count_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """Protects the report: what did not fire is counted and told, and what stands behind it is not tried."""

    def late(arrival: Arrival) -> Iterator[Fault]:
        yield Fault(arrival.site, arrival.nth + 100, 0x71)

    monkeypatch.setattr("hvmodel.gears.sweep.answers", late)
    sweep, played = swept("vm-life-direct", "l1vh")
    assert (sweep.count.fired, sweep.count.unfired, sweep.count.beyond) == (0, sweep.count.sites, 0)
    assert len(sweep.unfired) == len(played) - 1
    assert sweep.unfired[0].startswith("operation 1: ")


def test_callers_know_what_they_were_told() -> None:
    """Protects against findings of callers that do not exist: nobody unmaps what could not be mapped, and everything else of the
    trace is done."""
    one = subject("map-1m")
    clean = play(one, Combination(), "repaired", deaf)
    assert [operation.kind for operation in one.operations[5:9]] == ["map", "map", "unmap", "unmap"]
    refused = play(one, Combination((Refusal(5, Fault(MAP, status=0x71)),)), "repaired", deaf, clean)
    assert refused.results[7] is None
    assert [operation.kind for operation in refused.run.operations].count("unmap") == 1
    assert len(refused.run.operations) == len(clean.run.operations) - 1


def test_callers_ask_again_for_what_can_be_asked_for_again() -> None:
    """Protects what stands behind a refusal: a map that failed once is asked for again, and then all goes on as if nothing had
    been; a detach, which must succeed, is not."""
    _sweep, played = swept("map-1m")
    again = [one for one in played if one.combination.again]
    kinds = {subject("map-1m").operations[one.combination.refusals[-1].index].kind for one in again}
    assert kinds == {"alloc", "attach", "map"}, "a claim does not fail here: the blocking domain is tried three times"
    once = next(one for one in again if one.combination.refusals[0].index == 5)
    done = [operation.kind for operation in once.run.operations]
    assert done[5:7] == ["map", "map"]
    assert once.run.operations[5].faults
    assert not once.run.operations[6].faults
    assert done.count("unmap") == 2


def test_refusals_that_belong_to_the_story_stay() -> None:
    """Protects scenarios of failures: a replay that fails goes on failing while the sweep refuses something else."""
    sweep, played = swept("t12-group-of-two")
    (story,) = [operation for operation in subject("t12-group-of-two").operations if operation.faults]
    assert [operation for operation in played[0].run.operations if operation.faults] == [story]
    refused = 0
    for one in played:
        done = [operation for operation in one.run.operations if operation.kind == story.kind]
        assert not done or done[0].faults[: len(story.faults)] == story.faults
        refused += bool(done) and len(done[0].faults) > len(story.faults)
    assert refused > 100
    assert sweep.count.unfired == 0


# --- the same again -----------------------------------------------------------------------------------------------------


def test_a_sweep_repeats() -> None:
    """Protects figures and findings: the same sweep does the same in the same order; another order does the same otherwise."""

    def done(random: Random | None = None) -> list[str]:
        return [repr(one.run.operations) for one in swept("vm-moves-domain", "old-root", random=random)[1]]

    once = done()
    assert done() == once
    mixed = done(Random(3))
    assert mixed == done(Random(3)) != once
    singles = subject_singles(once), subject_singles(mixed)
    assert singles[0] == singles[1]


def subject_singles(runs: list[str]) -> set[str]:
    """The runs with one refusal."""
    return {text for text in runs if text.count("Fault(site=") == 1}


def test_samples_never_end_and_repeat() -> None:
    """Protects the hunt and the night: samples go on for as long as somebody asks, start clean, refuse once and twice, and depend
    on nothing but the seed."""

    def some(seed: int) -> list[Combination]:
        sweep = Sweep(subject("vm-life-domain"), "repaired", deaf, random=Random(seed))
        return [one.combination for one in islice(sweep.samples(), 300)]

    first = some(1)
    assert len(first) == 300
    assert first == some(1) != some(2)
    assert not first[0].refusals
    assert {len(one.refusals) for one in first[1:]} == {1, 2}
    assert any(one.again for one in first)
    assert any(len({refusal.index for refusal in one.refusals}) == 2 for one in first), "also in two operations"


def test_counts_add_up() -> None:
    """Protects totals: every figure is added."""
    total, one = Count(), Count(*range(1, len(Count.__dataclass_fields__) + 1))
    total.add(one)
    total.add(one)
    assert [getattr(total, name) for name in Count.__dataclass_fields__] == [
        2 * n for n in range(1, 1 + len(Count.__dataclass_fields__))
    ]


# --- what it has brought out --------------------------------------------------------------------------------------------


def test_a_shortage_is_the_cause_though_the_way_back_was_refused_for_another_reason() -> None:
    """Protects a driver that is right: where old and new domain are one guest, the way back asks for the same place as the attach,
    and its refusal is not the attach's. A refusal that is no shortage is still none."""
    config = Configuration.of_profile("l1vh")
    attach = "ATTACH_DEVICE"

    def replaced(*faults: Fault) -> set[str]:
        world = World(config, "repaired+N04" if faults[0].status == 0x05 else "repaired")
        begin = (
            ops.Boot(),
            ops.VmCreate(1),
            ops.Claim(0, by=1),
            ops.Alloc(1, 0, by=1),
            ops.Attach(1, 0, by=1),
            ops.Alloc(2, 0, by=1),
        )
        assert not any(world.apply(operation).violations for operation in begin)
        return {violation.property for violation in world.apply(ops.Replace(2, 0, by=1, faults=faults)).violations}

    assert replaced(Fault(attach, 2, 0x73), Fault(attach, 3, 0x71)) == set()
    assert "errors-say-what" in replaced(Fault(attach, 2, 0x05), Fault(attach, 3, 0x05))
