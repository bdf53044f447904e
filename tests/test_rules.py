"""The rules: who answers them, what they propose and at which level, which worlds they start in, and that a seed decides all."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import tracemalloc
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hvmodel import operations as ops
from hvmodel.callers.levels import BEYOND, CONTRACT, KERNEL, LEVELS, level_of
from hvmodel.configuration import Configuration
from hvmodel.faults import CALL_SITES, KERNEL_SITES
from hvmodel.gears.walk import Run, walk
from hvmodel.hypervisor.abi import CALL_CODES
from hvmodel.rules import refusals
from hvmodel.rules.chooser import Chooser, IntegerChooser, RandomChooser
from hvmodel.rules.rules import RULES, Scene, propose
from hvmodel.rules.worlds import PROFILE_NAMES, draw_configuration, draw_scene
from hvmodel.world import World

DRIVER = "posted-v0"
ROOT = Path(__file__).parent.parent
CI = settings.get_profile("ci")
MANY = settings(CI, max_examples=300)
NUMBERS = st.integers(0, (1 << 96) - 1)

# --- who answers ------------------------------------------------------------------------------------------------------


@given(NUMBERS, st.lists(st.integers(1, 1 << 33), max_size=12))
@MANY
def test_an_integer_answers_in_range(number: int, limits: list[int]) -> None:
    """Protects the machines: whatever Hypothesis draws, every answer is one that was offered, the same each time."""
    choose, again = IntegerChooser(number), IntegerChooser(number)
    for limit in limits:
        assert 0 <= (answer := choose.below(limit)) < limit
        assert again.pick(range(limit)) == answer
    assert choose.chance(50) == again.chance(50)


@given(st.lists(st.integers(1, 100), min_size=1, max_size=12), st.data())
@MANY
def test_an_integer_can_give_every_answer(limits: list[int], data: st.DataObject) -> None:
    """Protects the reach of the machines: for every row of answers there is a number that gives it."""
    wanted = [data.draw(st.integers(0, limit - 1)) for limit in limits]
    number = 0
    for limit, answer in zip(reversed(limits), reversed(wanted), strict=True):
        number = number * limit + answer
    choose = IntegerChooser(number)
    assert [choose.below(limit) for limit in limits] == wanted


def test_zero_is_the_simplest_answer() -> None:
    """Protects shrinking: at 0 every choice is the first, every number 0, and nothing unusual happens."""
    choose = IntegerChooser(0)
    assert [choose.below(7), choose.pick("abc"), choose.chance(0), choose.chance(99)] == [0, "a", False, False]
    assert choose.chance(100)


@given(st.integers(), st.lists(st.integers(1, 1 << 20), max_size=20))
@MANY
def test_a_seed_answers_in_range_and_the_same_again(seed: int, limits: list[int]) -> None:
    """Protects reproduction: a seeded generator's answers are in range and the same for the same seed."""
    def answers(choose: Chooser) -> list[object]:
        row: list[object] = []
        for limit in limits:
            row += [choose.below(limit), choose.pick(range(limit)), choose.chance(limit % 101)]
        return row

    first = answers(RandomChooser(Random(seed)))
    assert first == answers(RandomChooser(Random(seed)))
    for index, limit in enumerate(limits):
        assert first[3 * index] in range(limit)
        assert first[3 * index + 1] in range(limit)


def test_chances_are_what_they_say() -> None:
    """Protects the mix of the walk: 0 never, 100 always, 30 in about 30 of 100 cases, for both choosers."""
    seeded = RandomChooser(Random(1))
    drawn = [IntegerChooser(number * 7919) for number in range(5000)]
    for percent in (0, 30, 100):
        counts = [sum(seeded.chance(percent) for _ in range(5000)), sum(choose.chance(percent) for choose in drawn)]
        for count in counts:
            assert abs(count / 5000 - percent / 100) <= (0.03 if percent == 30 else 0)
        drawn = [IntegerChooser(number * 7919) for number in range(5000)]


# --- what they propose ------------------------------------------------------------------------------------------------


def scenes(level: int, count: int) -> Iterator[tuple[Scene, Chooser]]:
    """Booted worlds of all profiles, with everything in the scene allowed."""
    for number in range(count):
        choose = RandomChooser(Random(f"scene/{level}/{number}"))
        world = World(draw_configuration(choose, PROFILE_NAMES[number % len(PROFILE_NAMES)]), DRIVER)
        scene, _rules, _weights = draw_scene(choose, world, level)
        world.apply(ops.Boot())
        for vm in range(1, scene.vms + 1):
            world.apply(ops.VmCreate(vm))
        yield scene, choose


@cache
def proposals(level: int) -> tuple[dict[str, set[str]], dict[str, int], int, list[str]]:
    """What rules propose at a level: kinds of each rule, applied proposals of each rule, how many in all, and what was above."""
    kinds: dict[str, set[str]] = {}
    applied = dict.fromkeys(RULES, 0)
    above: list[str] = []
    total = 0
    allowed = [rule for rule in RULES.values() if rule.level <= level]
    for scene, choose in scenes(level, 90):
        for _ in range(80):
            if scene.world.over:
                break
            rule = choose.pick(allowed)
            operation = propose(scene, rule, choose)
            if operation is None:
                continue
            total += 1
            needed = level_of(operation, scene.world.books)
            if needed > level:
                above.append(f"{rule.name} -> {ops.describe(operation)}")
            kinds.setdefault(rule.name, set()).add(operation.kind)
            outcome = scene.world.apply(operation)
            applied[rule.name] += outcome.applied
    return kinds, applied, total, above


@pytest.mark.parametrize("level", range(len(LEVELS)), ids=LEVELS)
def test_no_rule_goes_beyond_its_scene(level: int) -> None:
    """Protects the level of a finding: a search among the kernel's callers does only what they do, in thousands of proposals."""
    _kinds, _applied, total, above = proposals(level)
    assert total > 2000
    assert above == []


@pytest.mark.parametrize("level", range(len(LEVELS)), ids=LEVELS)
def test_every_rule_proposes_what_applies(level: int) -> None:
    """Protects against rules that do nothing: each of a level, in some reachable world, gives an operation that applies."""
    _kinds, applied, _total, _above = proposals(level)
    silent = [name for name, rule in RULES.items() if rule.level <= level and not applied[name]]
    assert silent == []
    assert not [name for name, rule in RULES.items() if rule.level > level and applied[name]]


def test_every_kind_of_operation_is_proposed() -> None:
    """Protects against operations that the harness knows and no search does: each comes from a rule, or opens or ends a run."""
    kinds, _applied, _total, _above = proposals(BEYOND)
    assert set().union(*kinds.values()) | {"boot", "recover"} == set(ops.KINDS)


STEPS = st.lists(st.tuples(st.sampled_from(sorted(RULES)), NUMBERS), max_size=12)


@given(st.sampled_from(PROFILE_NAMES), st.integers(0, 2), STEPS, NUMBERS)
@MANY
def test_what_hypothesis_draws_is_proposed_and_applied(
    profile: str, level: int, steps: list[tuple[str, int]], start: int
) -> None:
    """Protects the machines: whatever integers are drawn, rules answer with an operation of the level or with nothing, and the
    world takes it."""
    world = World(draw_configuration(IntegerChooser(start), profile), DRIVER)
    world.apply(ops.Boot())
    world.apply(ops.VmCreate(1))
    scene = Scene(world, level=level)
    for name, number in steps:
        operation = propose(scene, RULES[name], IntegerChooser(number))
        if operation is None or RULES[name].level > level:
            continue
        assert level == BEYOND or level_of(operation, world.books) <= level
        world.apply(operation)


# --- refusals ---------------------------------------------------------------------------------------------------------


def test_sites_exist() -> None:
    """Protects against faults that never fire for a typing error: kinds and sites of the table are those of the vocabulary."""
    assert set(refusals.SITES) <= set(ops.KINDS)
    known = {*KERNEL_SITES, *CALL_CODES}
    assert {site for sites in refusals.SITES.values() for site in sites} <= known
    assert set(CALL_SITES) <= known
    assert all(status > 0 for status in (*refusals.SHORTAGES, *refusals.ANSWERS))


def test_every_site_can_fire() -> None:
    """Protects the table of refusals: for every kind of operation and each of its sites some walk has a fault that fires there
    or, where the posted driver never comes by, a fault that is at least drawn."""
    fired: set[tuple[str, str]] = set()
    drawn: set[tuple[str, str]] = set()
    for number, (scene, choose) in enumerate(scenes(BEYOND, 260)):
        scene.faults = 60
        rare = {"kexec"} if number % 8 else set[str]()  # it takes away all that there was
        rules = [rule for rule in RULES.values() if (rule.subject == "user") <= number % 2 and rule.name not in rare]
        for _ in range(80):
            if scene.world.over:
                break
            operation = propose(scene, choose.pick(rules), choose)
            if operation is None:
                continue
            drawn |= {(operation.kind, fault.site) for fault in operation.faults}
            outcome = scene.world.apply(operation)
            fired |= {(operation.kind, fault.site) for fault in outcome.fired}
    for number in range(60):
        choose = RandomChooser(Random(f"boot/{number}"))
        boot = ops.Boot(faults=refusals.draw(choose, ops.Boot()))
        outcome = World(Configuration(), DRIVER).apply(boot)
        drawn |= {("boot", fault.site) for fault in boot.faults}
        fired |= {("boot", fault.site) for fault in outcome.fired}
    wanted = {(kind, site) for kind, sites in refusals.SITES.items() for site in sites}
    assert sorted(wanted - drawn) == []
    sites = {site for _kind, site in fired}
    assert sorted({site for _kind, site in wanted} - sites) == []
    assert {"DEPOSIT_MEMORY", "alloc_pages"} <= sites
    assert len(wanted & fired) >= 0.7 * len(wanted), sorted(wanted - fired)


# --- where a run starts -----------------------------------------------------------------------------------------------


@given(st.sampled_from(PROFILE_NAMES), NUMBERS, st.integers())
@MANY
def test_every_drawn_start_is_possible(profile: str, number: int, seed: int) -> None:
    """Protects every gear: no profile draws a start that no world has; a world can be made of it, and it boots."""
    for choose in (IntegerChooser(number), RandomChooser(Random(seed))):
        config = draw_configuration(choose, profile)
        assert config.problems() is None
        assert World(config, DRIVER).apply(ops.Boot()).applied


@pytest.mark.parametrize("level", range(len(LEVELS)), ids=LEVELS)
def test_every_scene_can_do_something(level: int) -> None:
    """Protects against runs that only idle: whatever rules a run drops, it can allocate, map and attach."""
    for number in range(200):
        choose = RandomChooser(Random(number))
        world = World(Configuration(), DRIVER)
        scene, rules, weights = draw_scene(choose, world, level)
        names = [rule.name for rule in rules]
        assert {"alloc_domain", "map_fresh", "attach_domain"} <= set(names)
        assert weights == sorted(set(weights))
        assert len(weights) == len(rules)
        assert all(rule.level <= level for rule in rules)
        assert scene.level == level


# --- a seed decides all -----------------------------------------------------------------------------------------------


def told(seed: str, profile: str, level: int, steps: int = 60) -> list[str]:
    """A run as text: the start, every operation, and everything that was heard of it."""
    lines: list[str] = []

    def heard(running: Run, outcome: object) -> bool:
        lines.append(f"{len(running.operations)} {outcome}")
        return False

    run = walk(seed, DRIVER, profile, level, steps, heard)
    world = World(run.config, DRIVER)
    return [repr(run.config), *lines, *(f"{operation} {world.apply(operation)}" for operation in run.operations)]


@pytest.mark.parametrize("profile", PROFILE_NAMES)
def test_a_walk_repeats(profile: str) -> None:
    """Protects reproduction: the same seed gives the same operations and outcomes, and the operations alone give them again."""
    for number in range(6):
        level = number % 3
        first = told(f"repeat/{number}", profile, level)
        assert first == told(f"repeat/{number}", profile, level)
        assert first != told(f"repeat/{number}x", profile, level)


def test_a_walk_repeats_in_another_process() -> None:
    """Protects reproduction on another machine: nothing depends on the order of sets, which differs from process to process."""
    program = (
        "import sys, hashlib; sys.path.insert(0, 'tests'); import conftest; from test_rules import told, PROFILE_NAMES; "
        "runs = [told(f'other/{n}', p, n % 3, 80) for n in range(6) for p in PROFILE_NAMES]; "
        "print(hashlib.sha256(repr(runs).encode()).hexdigest())"
    )
    answers = set()
    for seed in ("0", "1", "4242"):
        environment = {**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": str(ROOT)}
        command = [sys.executable, "-c", program]
        done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stderr
        answers.add(done.stdout)
    assert len(answers) == 1


def test_a_walk_ends_in_recovery() -> None:
    """Protects leaks from going unseen: a run that nobody stops ends with everything given back and stays within its steps."""
    for number in range(40):
        run = walk(f"end/{number}", DRIVER, PROFILE_NAMES[number % len(PROFILE_NAMES)], number % 3, 50)
        kinds = [operation.kind for operation in run.operations]
        assert kinds[0] == "boot"
        assert run.world.over
        assert kinds.count("recover") <= 1
        assert kinds[-1] == "recover" or "every-call-ends" in {name for name, _subject in run.world.judge.muted}
        assert len(kinds) <= 51 + 3


def test_a_walk_stops_when_told() -> None:
    """Protects the hunt: told to stop at the first violation, a run ends there and holds the operation that violated."""
    stopped = walk("stop/1", DRIVER, "default", KERNEL, 60, lambda _run, _outcome: True)
    assert stopped.operations[-1].kind != "recover"
    world = World(stopped.config, DRIVER)
    outcomes = [world.apply(operation) for operation in stopped.operations]
    assert outcomes[-1].violations
    assert not any(outcome.violations for outcome in outcomes[:-1])


def test_worlds_leave_nothing_behind() -> None:
    """Protects long hunts: after some hundred worlds memory is where it was after the first hundred, and no world is left."""
    def some(first: int, count: int) -> None:
        for number in range(first, first + count):
            walk(f"memory/{number % 100}", DRIVER, PROFILE_NAMES[number % len(PROFILE_NAMES)], CONTRACT, 30)
        gc.collect()

    def worlds() -> int:
        return sum(isinstance(thing, World) for thing in gc.get_objects())

    gc.collect()
    known = worlds()
    some(0, 100)
    tracemalloc.start()
    try:
        some(0, 50)
        before = tracemalloc.get_traced_memory()[0]
        some(50, 150)
        after = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    assert after - before < 200_000, f"{after - before:,} bytes more after 150 worlds"
    assert worlds() == known
