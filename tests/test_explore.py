"""The exhaustive search: complete, shortest, the same however it is run, and honest about where it stopped."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import replace
from itertools import count
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hvmodel import operations as ops
from hvmodel.gears.exhaustive.crew import Crew, WorkerDied
from hvmodel.gears.exhaustive.engine import PLAIN, Engine, Manner
from hvmodel.gears.exhaustive.menu import Enumerator, Menu, TooWide, every
from hvmodel.gears.exhaustive.reach import never
from hvmodel.gears.exhaustive.scope import Scope
from hvmodel.gears.exhaustive.scope_file import BadScope, chosen, read_scope
from hvmodel.gears.exhaustive.scopes import SCOPES, SMALL, TINY
from hvmodel.gears.exhaustive.search import FAILS, HOLDS, UNDETERMINED, Search
from hvmodel.hypervisor.policies import PROFILES
from hvmodel.jobs import explore as explore_job
from hvmodel.jobs import explore_file
from hvmodel.jobs.explore import Options, explore, finding_of
from hvmodel.jobs.explore_questions import ask
from hvmodel.rules.chooser import RandomChooser
from hvmodel.rules.rules import RULES, Scene
from hvmodel.world import World, run


def part(name: str, depth: int, **changes: Any) -> Scope:
    """A part of the small scopes with another depth."""
    return replace(next(one for one in (*TINY, *SMALL) if one.name == name), depth=depth, **changes)


def searched(driver: str, scope: Scope, jobs: int = 1, manner: Manner = PLAIN, profile: str = "default", **how: Any) -> Search:
    """A search that has been run."""
    search = Search(driver, scope, profile, manner.symmetry)
    with Crew(jobs, driver, scope, profile, manner) as crew:
        search.run(crew, **how)
    return search


# --- everything is tried ----------------------------------------------------------------------------------------------------


@given(st.lists(st.integers(1, 4), min_size=1, max_size=4))
def test_the_enumerator_gives_every_answer_once(limits: list[int]) -> None:
    """Whatever a rule asks, each combination of answers comes exactly once."""
    choose, seen = Enumerator(), []
    while True:
        choose.again()
        seen.append(tuple(choose.below(limit) for limit in limits))
        if not choose.advance():
            break
    expected = 1
    for limit in limits:
        expected *= limit
    assert len(seen) == len(set(seen)) == expected


def test_questions_may_depend_on_answers() -> None:
    """A rule that asks more after one answer than after another is asked all the same."""
    choose, seen = Enumerator(), set()
    while True:
        choose.again()
        first = choose.pick("aab")
        seen.add((first, choose.below(3)) if first == "b" else (first,))
        if not choose.advance():
            break
    assert seen == {("a",), ("b", 0), ("b", 1), ("b", 2)}


@pytest.mark.parametrize("name", ["two devices", "small maps", "plugging"])
def test_nothing_that_the_rules_propose_is_missing(name: str) -> None:
    """The walk's way of asking the rules, with the scope's values, finds nothing that the menu has not."""
    scope = part(name, 5)
    engine = Engine("repaired", scope, "default")
    random = Random(3)
    path: list[ops.Operation] = [ops.Boot()]
    for _ in range(12):
        engine.go_to(path)
        offers = engine.menu.offers()
        scene, choose = engine.menu.scene, RandomChooser(random)
        for _ in range(300):
            made = random.choice(scope.rules()).make(scene, choose)
            inside = not isinstance(made, ops.Map | ops.Unmap) or engine.menu._within(made)
            more = not isinstance(made, ops.Alloc) or len(engine.world.books.domains) < scope.domains
            if made is not None and inside and more:
                assert made in offers
        path = [*path, random.choice(offers)] if len(path) < 5 else [ops.Boot()]


def test_what_is_remembered_of_the_rules_is_what_they_say() -> None:
    """A menu that has seen many states offers in each of them what a fresh one does."""
    scope = part("mapped and moved", 6)
    engine = Engine("repaired", scope, "default")
    frontier: list[list[ops.Operation]] = [[ops.Boot()]]
    for path in frontier:
        for step in engine.expand(path, 1).steps[::3]:
            if len(frontier) < 60:
                frontier.append([*path, step.operation])
    for path in frontier[::2]:
        engine.go_to(path)
        assert engine.menu.offers() == Menu(engine.world, scope).offers()


def test_a_rule_with_too_many_answers_is_told() -> None:
    """A scope that nobody could finish is refused and not begun."""
    world = World(TINY[0].configuration("default"), "repaired")
    world.apply(ops.Boot())
    world.apply(ops.Alloc(1))
    with pytest.raises(TooWide, match="lookup has more than"):
        every(RULES["lookup"], Scene(world))


# --- the same however it is run ---------------------------------------------------------------------------------------------


def same(one: Search, other: Search) -> bool:
    """Whether two searches are the same, state by state."""
    return (one.names, one.parents, one.codes, one.operations, one.transitions) == (
        other.names,
        other.parents,
        other.codes,
        other.operations,
        other.transitions,
    )


@pytest.mark.parametrize("driver", ["repaired", "repaired+D68"])
def test_one_process_or_several(driver: str) -> None:
    """States, operations and findings are the same, and in the same order, whoever computes them."""
    scope = part("moves", 3)
    one, three = searched(driver, scope), searched(driver, scope, jobs=3)
    assert same(one, three)
    assert [found.operations for found in one.found.values()] == [found.operations for found in three.found.values()]


@pytest.mark.parametrize("name", ["repaired", "repaired+D13", "repaired+D68", "repaired+D29"])
def test_symmetry_changes_no_verdict(name: str) -> None:
    """States that differ in names only are left out, findings are not: same verdict, same shortest length, fewer states."""
    for scope in (
        (part("two devices", 3, faults=0), part("small maps", 4, faults=0))
        if name == "repaired"
        else (part("two devices", 3), part("small maps", 4))
    ):
        plain, merged = searched(name, scope, manner=Manner(symmetry=False)), searched(name, scope)
        assert merged.verdict == plain.verdict
        assert merged.states <= plain.states
        assert {key: len(found.operations) for key, found in merged.found.items()} == {
            key: len(found.operations) for key, found in plain.found.items()
        }


def test_a_search_goes_on_where_it_was_stopped(tmp_path: Path) -> None:
    """Stopped anywhere, kept in a file and taken up again, it ends as one that was never stopped."""
    scope = part("moves", 3)
    whole = searched("repaired", scope)
    kept = tmp_path / "search"
    search = Search("repaired", scope, "default")
    stops = 0
    while not search.complete:
        stops += 1
        calls = count()
        with Crew(1, "repaired", scope, "default") as crew:
            search.run(crew, stopped=lambda calls=calls: next(calls) >= 2)  # type: ignore[misc]
        explore_file.save(kept, [search])
        assert search.complete or search.verdict == UNDETERMINED
        search = Search("repaired", scope, "default")
        explore_file.load(kept, [search])
    assert stops > 3
    assert same(whole, search)
    assert search.levels == whole.levels


# --- verdicts ---------------------------------------------------------------------------------------------------------------


def test_holds_fails_and_undetermined() -> None:
    """The three verdicts: everything tried and nothing failed; something failed; broken off, which is never a pass."""
    scope = part("moves", 3)
    assert searched("repaired", scope).verdict == HOLDS
    assert searched("repaired+D68", part("moves", 3)).verdict == FAILS
    broken = searched("repaired", scope, stopped=lambda: True)
    assert broken.verdict == UNDETERMINED
    assert not broken.complete


@pytest.mark.parametrize(
    ("driver", "scope", "length"),
    [
        ("repaired+D13", part("maps", 3), 1),
        ("repaired+D64", part("moves", 3), 2),
        ("repaired+D68", part("moves", 3), 3),
        ("repaired+D29", part("small maps", 4), 4),
    ],
)
def test_a_shortest_trace_comes_out_and_replays(driver: str, scope: Scope, length: int) -> None:
    """What is found is as short as it can be, and fails in a world of its own, which knows nothing of the search."""
    search = searched(driver, scope)
    first = min(search.found.values(), key=lambda found: len(found.operations))
    assert len(first.operations) == length
    finding = finding_of(search, first)
    _world, outcomes = run(finding.config, finding.operations, driver)
    assert any(violation.property == finding.property_id for violation in outcomes[-1].violations)
    assert not any(outcome.violations for outcome in outcomes[:-1])
    for left_out in range(1, len(first.operations) - 1):
        shorter = [*first.operations[:left_out], *first.operations[left_out + 1 :]]
        assert not any(
            violation.property == finding.property_id
            for outcome in run(finding.config, shorter, driver)[1]
            for violation in outcome.violations
        )


def test_what_user_space_can_do_is_within_a_scope() -> None:
    """Where processes act, the shortest trace is the one of an ioctl by which a page is given back under a device."""
    search = searched("repaired+D20", part("VFIO, large pages", 3))
    found = search.found["page-given-back", "unmap_pages"]
    assert [operation.kind for operation in found.operations] == ["boot", "vfio-join", "vfio-map"]
    assert searched("repaired", part("VFIO, large pages", 3)).verdict == HOLDS


def test_it_goes_on_behind_failures_when_asked() -> None:
    """With everything wanted, failures behind failures are found, too."""
    scope = part("moves", 2)
    first, all_of_it = searched("posted-v0", scope), searched("posted-v0", scope, manner=Manner(past=True), everything=True)
    assert set(first.found) < set(all_of_it.found)
    assert first.levels[-1].depth < all_of_it.levels[-1].depth


def test_two_faults_find_what_one_does_not() -> None:
    """Faults come in pairs where the scope has two, also within one operation, the second behind the first."""
    scope = part("moves", 3, faults=2)
    engine = Engine("repaired", scope, "default")
    steps = engine.expand([ops.Boot()], 0).steps
    pairs = [step for step in steps if len(step.operation.faults) == 2]
    assert pairs
    assert all(step.spent == 2 for step in pairs)
    assert {step.spent for step in engine.expand([ops.Boot()], 1).steps} == {1, 2}
    assert {step.spent for step in engine.expand([ops.Boot()], 2).steps} == {2}


def test_a_worker_that_dies_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """No search goes on as if nothing had happened when a process is gone."""
    monkeypatch.setattr(Engine, "expand", lambda *_: os._exit(9))
    with pytest.raises(WorkerDied, match="status 9"):
        searched("repaired", part("moves", 3), jobs=2)


def test_every_part_begins_under_every_profile() -> None:
    """A part of a shipped scope begins under every profile, but for those that speak of domains on an L1VH."""
    for scope in {one.name: one for parts in SCOPES.values() for one in parts}.values():
        for profile in PROFILES:
            if scope.possible(profile):
                assert World(scope.configuration(profile), "repaired").apply(ops.Boot()).applied
            else:
                assert (scope.name, profile) == ("left over", "l1vh")
        assert scope.sentence().count("recovery") == 1
    for parts in SCOPES.values():
        assert len({one.name for one in parts}) == len(parts)


# --- reach and questions ----------------------------------------------------------------------------------------------------


def test_what_was_never_exercised_is_said() -> None:
    """Rules, sites, properties and branches of the driver that no state exercised are named; what was exercised is not."""
    scope = part("moves", 3)
    search = searched("repaired", scope, manner=Manner(reach=True))
    said = never(search.reach, [scope], World(scope.configuration("default"), "repaired"))
    assert "MAP_DEVICE_GPA_PAGES" in said["fault sites never reached"]
    assert "ATTACH_DEVICE_DOMAIN" not in said["fault sites never reached"]
    assert "kexec" in said["rules that no part asks"]
    assert "claim_group" not in said["rules that never applied"]
    assert "map-result" in said["properties never asked"]
    assert any("hv_iommu_map_pages() never ran" in line for line in said["branches of the driver never taken"])
    assert not any("hv_iommu_attach_dev() never ran" in line for line in said["branches of the driver never taken"])


def test_questions_are_ranked_by_what_they_decide() -> None:
    """A question whose answer makes findings come or go is told with them, the most decisive first."""
    scope = part("moves", 3, faults=0)
    asking = ask("posted-v0", (scope,), 1)
    ranked = asking.ranked()
    assert ranked
    assert [row[2] for row in ranked] == sorted((row[2] for row in ranked), reverse=True)
    for question, decisions, decides in ranked:
        assert decides == len({key for one in decisions for key in one.come | one.go})
        assert question.alternatives[0] not in {one.answer for one in decisions}


# --- scopes in files --------------------------------------------------------------------------------------------------------

GOOD = """
[[part]]
name = "two pages"
devices = "pair"
vms = 1
domains = 2
room = 2
level = "contract"
iovas = ["0x0", 4096]
pages = [1, 2]
regions = [[0, 0], [1, 1]]
without = ["kexec"]
subjects = ["attachment", "user"]
rare = false
depth = 3
options = { no_attdev = true }
"""


def test_a_scope_can_be_a_file(tmp_path: Path) -> None:
    """All that a part can say is read, and what it leaves out is as usual."""
    path = tmp_path / "scope.toml"
    path.write_text(GOOD)
    (scope,) = read_scope(path)
    assert (scope.name, scope.iovas, scope.pages, scope.level, scope.depth) == ("two pages", (0, 4096), (1, 2), 1, 3)
    assert scope.subjects == {"attachment", "user"}
    assert not scope.rare
    assert scope.configuration("default").no_attdev
    assert len(scope.devices) == 2
    assert chosen(str(path), ["two pages"], 2, 4)[0] == replace(scope, faults=2, depth=4)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "must have [[part]] tables"),
        ("[[part]]\nname = 'x'\ndepht = 3", "nothing is called 'depht' (did you mean depth)"),
        ("[[part]]\ndepth = 3", "needs a name"),
        ("[[part]]\nname = 'x'\nlevel = 'far'", "level: must be one of"),
        ("[[part]]\nname = 'x'\niovas = [4097]\npages = [1]", "0x1001 is not page-aligned"),
        ("[[part]]\nname = 'x'\niovas = [0]", "iovas and pages go together"),
        ("[[part]]\nname = 'x'\nsubjects = ['user']", "user space maps: it needs iovas and pages"),
        ("[[part]]\nname = 'x'\nrare = 1", "rare: must be true or false"),
        ("[[part]]\nname = 'x'\niovas = [0x1000000000]\npages = [1]", "where the physical regions are"),
        ("[[part]]\nname = 'x'\nwithout = ['nothing']", "without: must be one of"),
        ("[[part]]\nname = 'x'\noptions = { policy = 1 }", "options: must be one of"),
        ("[[part]]\nname = 'x'\noptions = { iova_width = 3 }", "iova_width: 13 to 64 bits"),
        ("[[part]]\nname = 'x'\n[[part]]\nname = 'x'", "two parts have the same name"),
        ("[[part", "no TOML"),
    ],
)
def test_a_scope_that_is_none_is_told_in_a_line(tmp_path: Path, text: str, said: str) -> None:
    """What is wrong with a scope file is said, with where."""
    path = tmp_path / "scope.toml"
    path.write_text(text)
    with pytest.raises(BadScope) as told:
        read_scope(path)
    assert said in str(told.value)
    assert "\n" not in str(told.value)


@settings(max_examples=150)
@given(st.integers(0, len(GOOD) - 1), st.text(max_size=4), st.integers(0, 12))
def test_no_scope_file_does_more_than_be_refused(tmp_path_factory: pytest.TempPathFactory, at: int, put: str, cut: int) -> None:
    """A broken file is read or refused, never more."""
    path = tmp_path_factory.mktemp("scope") / "scope.toml"
    path.write_text(GOOD[:at] + put + GOOD[at + cut :], encoding="utf-8", errors="ignore")
    with suppress(BadScope):
        assert all(one.sentence() for one in read_scope(path))


# --- the kept search --------------------------------------------------------------------------------------------------------


def test_a_kept_search_that_is_not_this_one_is_told(tmp_path: Path) -> None:
    """Another driver, another scope, a file that is broken or something else: one line each, and the file stays as it is."""
    scope = part("moves", 2)
    kept = tmp_path / "search"
    explore_file.save(kept, [searched("repaired", scope)])
    before = kept.read_bytes()
    for other, said in (
        (Search("posted-v0", scope, "default"), "driver repaired, not posted-v0"),
        (Search("repaired", replace(scope, depth=3), "default"), "another scope of part moves"),
        (Search("repaired", scope, "strict"), "profile default, not strict"),
    ):
        with pytest.raises(explore_file.BadFile, match=said):
            explore_file.load(kept, [other])
    for content in (b"", b"no zip", before[: len(before) // 2], before[:-30] + b"x" * 30):
        kept.write_bytes(content)
        with pytest.raises(explore_file.BadFile) as told:
            explore_file.load(kept, [Search("repaired", scope, "default")])
        assert "\n" not in str(told.value)


def test_a_kept_search_is_known_again_in_another_process(tmp_path: Path) -> None:
    """What a file says of its scope does not depend on the order in which a process has its sets."""
    kept = tmp_path / "search"
    explore_file.save(kept, [searched("repaired", part("moves", 2))])
    script = (
        "import sys; from dataclasses import replace; from pathlib import Path\n"
        "from hvmodel.gears.exhaustive.scopes import TINY; from hvmodel.gears.exhaustive.search import Search\n"
        "from hvmodel.jobs import explore_file\n"
        "explore_file.load(Path(sys.argv[1]), [Search('repaired', replace(TINY[1], depth=2), 'default')])\n"
    )
    for seed in ("1", "2"):
        subprocess.run([sys.executable, "-c", script, str(kept)], check=True, env={**os.environ, "PYTHONHASHSEED": seed})


def test_every_part_has_a_share_of_the_budget(monkeypatch: pytest.MonkeyPatch) -> None:
    """A part that is too wide does not keep the others from being looked at, and what a part leaves is the others'."""
    monkeypatch.setattr(time, "perf_counter", lambda: 100.0)
    assert explore_job._share(160.0, 3) == 120.0
    assert explore_job._share(160.0, 1) == 160.0
    assert explore_job._share(None, 3) is None


def test_a_job_goes_on_from_its_file(tmp_path: Path) -> None:
    """A budget that is spent leaves a search that the same options end, with the report of one that had the time."""
    parts = (part("moves", 3), part("maps", 3))
    whole = explore(Options("repaired", parts, ["default"], jobs=1))
    kept = tmp_path / "search"
    first = explore(Options("repaired", parts, ["default"], budget=0.001, jobs=1, kept=kept))
    assert first.verdict == UNDETERMINED
    second = explore(Options("repaired", parts, ["default"], jobs=1, kept=kept))
    assert second.resumed
    assert second.verdict == HOLDS
    assert [one.levels for one in second.searches] == [one.levels for one in whole.searches]
