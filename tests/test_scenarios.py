"""The scenarios: ordinary life that is clean on a driver as it should be, under every profile, and of every kind."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from hvmodel import operations as ops
from hvmodel.callers.levels import BEYOND
from hvmodel.gears.sweep.subjects import of_scenario, of_trace, shipped
from hvmodel.hypervisor.policies import PROFILES
from hvmodel.jobs.compare import lives
from hvmodel.scenarios import SCENARIOS, Scenario, hosts, memory, steps, vms
from hvmodel.traces.format import Trace, from_json, to_json
from hvmodel.world import World

OWN = (*hosts.HOSTS, *vms.VMS, *memory.MEMORY)
"""The scenarios in which nothing at all is refused."""


@pytest.mark.parametrize("name", SCENARIOS)
def test_it_is_clean_on_the_repaired_driver_under_each_profile(name: str) -> None:
    """Protects the sweep: what fails there fails because something was refused, not because the scenario is no ordinary life."""
    scenario = SCENARIOS[name]
    for profile in scenario.profiles:
        config = scenario.configuration(profile)
        assert config.problems() is None
        world = World(config, "repaired")
        for operation in (*scenario.operations, ops.Recover()):
            outcome = world.apply(operation)
            assert not outcome.violations, f"{profile}: {ops.describe(operation)}"
        assert world.over


@pytest.mark.parametrize("scenario", OWN, ids=lambda scenario: str(scenario.name))
def test_every_operation_of_it_does_something_and_succeeds(scenario: Scenario) -> None:
    """Protects against scenarios that are shorter than they look: an operation that has nothing to act on or fails comes by
    none of the places that it was written for. Nor does any need a caller beyond the contract."""
    for profile in scenario.profiles:
        world = World(scenario.configuration(profile), "repaired")
        for operation in scenario.operations:
            assert not operation.faults
            outcome = world.apply(operation)
            assert outcome.applied, f"{profile}: {ops.describe(operation)}"
            assert outcome.result >= 0, f"{profile}: {ops.describe(operation)}"
            assert outcome.level < BEYOND, f"{profile}: {ops.describe(operation)}"


def test_names_and_stories_are_for_people() -> None:
    """Protects the list: names that can be typed and are not files, stories of one line that do not end in a dot."""
    for name, scenario in SCENARIOS.items():
        assert name == scenario.name
        assert re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", name)
        assert 10 < len(scenario.story) <= 160
        assert scenario.story.splitlines() == [scenario.story.rstrip(".")]
        assert isinstance(scenario.operations[0], ops.Boot)
        assert not any(isinstance(operation, ops.Recover) for operation in scenario.operations)


def test_together_they_do_everything_that_callers_do() -> None:
    """Protects the reach of the sweep: every profile has scenarios, and every kind of operation is in one, but the two that no
    caller makes."""
    assert {profile for scenario in SCENARIOS.values() for profile in scenario.profiles} == set(PROFILES)
    kinds = {operation.kind for scenario in SCENARIOS.values() for operation in scenario.operations}
    assert set(ops.KINDS) - kinds <= {"driver-map", "driver-unmap", "recover"}


def test_no_two_are_the_same() -> None:
    """Protects against a scenario that adds nothing but time."""
    seen: dict[object, str] = {}
    for scenario in SCENARIOS.values():
        key = (tuple(scenario.operations), scenario.configuration(scenario.profiles[0]))
        assert seen.setdefault(key, scenario.name) == scenario.name


def test_each_can_be_written_as_a_trace() -> None:
    """Protects the exchange: whatever is found in a scenario can be mailed as a file."""
    for scenario in SCENARIOS.values():
        trace = Trace(scenario.configuration(scenario.profiles[0]), list(scenario.operations), "repaired")
        back = from_json(to_json(trace))
        assert (back.config, back.operations) == (trace.config, trace.operations)


def test_profiles_that_are_the_same_hypervisor_are_swept_once() -> None:
    """Protects time and figures: what differs in its name only is not counted twice."""
    for name in SCENARIOS:
        configs = [replace(subject.config, profile="") for subject in of_scenario(name)]
        assert len(set(configs)) == len(configs) > 0
    assert [subject.config.profile for subject in of_scenario("boot")] == ["default", "old-root", "l1vh", "strict", "stress"]
    assert [subject.config.profile for subject in of_scenario("boot", "new-root")] == ["new-root"]


def test_a_beginning_that_two_share_is_swept_in_the_first() -> None:
    """Protects the figures, too: the same place in the same state counts once, and every other place does."""
    seen: set[object] = set()
    for subject in shipped():
        heads = [(subject.config, subject.operations[: end + 1]) for end in range(len(subject.operations))]
        assert [head in seen for head in heads] == [at < subject.shared for at in range(len(heads))]
        seen.update(heads)
    assert [subject.config.profile for subject in shipped(["strict"])] == ["strict"] * len(shipped(["strict"]))


def test_a_trace_is_swept_without_what_it_refuses() -> None:
    """Protects sweeps of findings: the trace is made clean first, and recovers once."""
    trace = of_trace("x", SCENARIOS["t13-map-refused"].configuration("default"), [ops.Boot(faults=()), ops.Recover()])
    assert trace.operations == (ops.Boot(),)
    faulty = SCENARIOS["t13-map-refused"]
    assert any(operation.faults for operation in faulty.operations)
    swept = of_trace("y", faulty.configuration("default"), faulty.operations)
    assert not any(operation.faults for operation in swept.operations)
    assert [operation.kind for operation in swept.operations] == [operation.kind for operation in faulty.operations]


def test_what_a_driver_costs_is_measured_in_the_same_lives() -> None:
    """Protects against two ideas of ordinary life: the lives of ``hvmodel compare`` begin and end as the scenarios do."""
    assert lives.LIFE[: len(steps.BEGINNING)] == steps.BEGINNING
    assert lives.LIFE[-len(steps.END) :] == steps.END
