"""State tables of devices, what a DMA reaches, lives of guests, L1VH, who pays, and what check() notices."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hvmodel.hypervisor import (
    IN_DEFAULT,
    IN_NULL,
    NOWHERE,
    QUESTIONS,
    Device,
    Hypervisor,
    Place,
    Policies,
    Refusal,
    abi,
)
from hvmodel.hypervisor.console import Answer, Console

A = abi.device_id(abi.HV_DEVICE_TYPE_PCI, 8)
B = abi.device_id(abi.HV_DEVICE_TYPE_PCI, 16)
NULL_ID = 0xFFFFFFFF
GUEST, OTHER = 0x10, 0x11
IN_ONE, IN_TWO, WITH_GUEST = Place("domain", 1), Place("domain", 2), Place("guest", GUEST)
PLACES = {"default": IN_DEFAULT, "NULL": IN_NULL, "one": IN_ONE, "two": IN_TWO, "none": NOWHERE, "guest": WITH_GUEST}


def world(policies: Policies | None = None, root_pool: int = 1 << 20) -> Console:
    """A root with devices A and B, created domains 1 and 2 and two guests."""
    hv = Hypervisor(policies or Policies(), devices=[Device(A), Device(B)], root_pool=root_pool)
    console = Console(hv)
    for ident in (1, 2):
        assert console.create(ident).status == 0
    assert (hv.create_partition(), hv.create_partition()) == (GUEST, OTHER)
    return console


def bring(console: Console, place: Place) -> None:
    """Bring device A to a place by legal calls."""
    if place == WITH_GUEST:
        assert console.direct_attach(GUEST, A, 7).status == 0
    elif place == NOWHERE:
        console.hypervisor._put(console.hypervisor.devices[A], NOWHERE)
    else:
        assert console.attach(A, place.id).status == 0
    assert console.hypervisor.place(A) == place


def snapshot(hv: Hypervisor) -> object:
    """All state that outlives a call."""
    return (
        {
            d.id: (list(d.table), sorted(d.devices), d.pages_used, [sorted(level) for level in d.tables])
            for d in hv.domains.values()
        },
        {d.key: (d.place, d.logical, d.pages_used, d.stale and list(d.stale)) for d in hv.devices.values()},
        {key: device.key for key, device in hv.logical.items()},
        {
            p.id: (p.state, p.pool.free, p.pool.used, p.pool.blocks, list(p.pool.frames.ranges()))
            for p in hv.partitions.values()
        },
    )


# --- attach and detach: place before, call, status, place after -----------------------------------------------------

CALLS: dict[str, Callable[[Console], Answer]] = {
    "attach default": lambda console: console.attach(A, 0),
    "attach NULL": lambda console: console.attach(A, NULL_ID),
    "attach one": lambda console: console.attach(A, 1),
    "detach": lambda console: console.detach(A),
    "direct attach": lambda console: console.direct_attach(GUEST, A, 7),
    "direct attach other": lambda console: console.direct_attach(OTHER, A, 7),
    "direct detach": lambda console: console.direct_detach(GUEST, 7),
    "direct detach other": lambda console: console.direct_detach(OTHER, 7),
}

TABLE = """
             attach default  attach NULL  attach one  detach      direct attach  direct attach other  direct detach
default      ok default      ok NULL      ok one      ok default  ok guest       ok other             57 default
NULL         ok default      ok NULL      ok one      ok default  ok guest       ok other             57 NULL
one          ok default      ok NULL      66 one      ok default  58 one         58 one               57 one
two          ok default      ok NULL      ok one      ok default  58 two         58 two               57 two
none         ok default      ok NULL      ok one      58 none     ok guest       ok other             57 none
guest        58 guest        58 guest     58 guest    58 guest    19 guest       19 guest             ok default
"""
OLD_ROOT = """
             attach default  attach NULL  attach one  detach
one          58 one          58 one       66 one      ok default
two          58 two          58 two       58 two      ok default
default      ok default      ok NULL      ok one      ok default
"""


def rows(table: str) -> list[tuple[str, str, int, str]]:
    """(place, call, status, place after) from a table with columns two or more spaces apart."""
    head, *lines = [re.split(r"  +", line.strip()) for line in table.strip().splitlines()]
    result = []
    for place, *cells in lines:
        for call, cell in zip(head, cells, strict=True):
            status, after = cell.split()
            result.append((place, call, 0 if status == "ok" else int(status, 16), after))
    return result


@pytest.mark.parametrize(("before", "call", "status", "after"), rows(TABLE))
def test_default_policies(before: str, call: str, status: int, after: str) -> None:
    """Today's hypervisor: attach moves, detach goes to default, a guest's device answers to the guest only."""
    console = world()
    bring(console, PLACES[before])
    assert CALLS[call](console) == (status, 0)
    assert console.hypervisor.place(A) == (PLACES | {"other": Place("guest", OTHER)})[after]
    console.hypervisor.check()


@pytest.mark.parametrize(("before", "call", "status", "after"), rows(OLD_ROOT))
def test_old_root(before: str, call: str, status: int, after: str) -> None:
    """An older hypervisor: out of a created domain only by detach."""
    console = world(Policies(attach_elsewhere="0x58"))
    bring(console, PLACES[before])
    assert (CALLS[call](console).status, console.hypervisor.place(A)) == (status, PLACES[after])


def test_many_devices_share_a_domain() -> None:
    """One domain, two devices: both translate through it, and delete is refused until both left."""
    console = world()
    console.map(1, 5, [50])
    for key in (A, B):
        assert console.attach(key, 1).status == 0
        assert console.hypervisor.translate(key, 5) == 50
    assert console.delete(1).status == 0x19
    assert console.attach(A, 0).status == console.detach(B).status == 0
    assert console.delete(1).status == 0
    assert 1 not in console.hypervisor.domains


def test_ids_can_be_used_again_at_once_and_start_empty() -> None:
    """Create after delete with the same id: nothing of the old table is left, and its pages are back in the pool."""
    console = world()
    assert (console.map(1, 5, [50]).status, console.delete(1).status, console.create(1).status) == (0, 0, 0)
    assert console.hypervisor.domains[1].table.pages == console.hypervisor.caller.pool.used == 0
    console.attach(A, 1)
    assert console.hypervisor.reaches_nothing(A)


def test_domain_limit_counts_created_domains() -> None:
    """INSUFFICIENT_DEVICE_DOMAINS at the limit; default and NULL do not count; delete makes room."""
    console = Console(Hypervisor(domain_limit=2))
    assert [console.create(ident).status for ident in (1, 2, 3)] == [0, 0, 0x38]
    assert (console.delete(1).status, console.create(3).status) == (0, 0)


# --- what a DMA reaches ---------------------------------------------------------------------------------------------


def test_translate_and_reaches_nothing() -> None:
    """default: identity; NULL: reserved pages; created: its table; nowhere: nothing; a guest's: not ours to say."""
    console = world()
    hv = console.hypervisor
    hv.devices[A].reserved = ((40, 42),)
    console.map(1, 5, [50])
    seen = {}
    for name, place in PLACES.items():
        if name == "guest":
            bring(console, IN_DEFAULT)
        bring(console, place)
        if name == "guest":
            with pytest.raises(LookupError, match="guest"):
                hv.translate(A, 5)
            assert not hv.reaches_nothing(A)
        else:
            seen[name] = (hv.translate(A, 5), hv.translate(A, 41), hv.translate(A, 42), hv.reaches_nothing(A))
    assert seen == {
        "default": (5, 41, 42, False),
        "NULL": (None, 41, None, True),
        "one": (50, None, None, False),
        "two": (None, None, None, True),
        "none": (None, None, None, True),
    }


def test_unmap_is_effective_when_it_returns() -> None:
    """A device that is attached sees map and unmap at once: the root driver has no flush call."""
    console = world()
    console.attach(A, 1)
    assert console.hypervisor.translate(A, 5) is None
    console.map(1, 4, [49, 50])
    assert console.hypervisor.translate(A, 5) == 50
    console.unmap(1, 5, 1)
    assert (console.hypervisor.translate(A, 4), console.hypervisor.translate(A, 5)) == (49, None)


def test_effects_name_what_changed() -> None:
    """A watcher learns pages, places, domains and pools from ``effects``, and nothing from a call that fails early."""
    console = world()
    hv = console.hypervisor
    steps: list[tuple[Callable[[], object], list[tuple[str, int, int, int]]]] = [
        (lambda: console.create(3), [("domain", 3, 0, 0)]),
        (lambda: console.map(3, 5, [1, 2]), [("pages", 3, 5, 7)]),
        (lambda: console.map(3, 0, range(10), refusal=Refusal(0x71, 4)), [("pages", 3, 0, 4)]),
        (lambda: console.unmap(3, 0, 9, start=2), [("pages", 3, 2, 9)]),
        (lambda: console.attach(A, 3), [("place", A, 0, 0)]),
        (lambda: console.delete(3), []),
        (lambda: console.detach(A), [("place", A, 0, 0)]),
        (lambda: console.delete(3), [("domain", 3, 0, 0), ("pages", 3, 0, 2)]),
        (lambda: console.direct_attach(GUEST, A, 7), [("place", A, 0, 0)]),
        (lambda: console.direct_detach(GUEST, 7), [("place", A, 0, 0)]),
        (lambda: console.deposit([9], GUEST), [("pool", GUEST, 0, 0)]),
        (lambda: console.withdraw(1, GUEST), [("pool", GUEST, 0, 0)]),
    ]
    for step, expected in steps:
        hv.effects.clear()
        step()
        assert hv.effects == expected


# --- guests ---------------------------------------------------------------------------------------------------------


def test_the_life_of_a_guest() -> None:
    """created, active, finalized, deleted: what each state allows (X5; TLFS HvCallFinalizePartition)."""
    console = world()
    hv = console.hypervisor
    guest = hv.create_partition(initialized=False)
    assert console.direct_attach(guest, A, 7).status == 7
    assert console.deposit([100, 101, 102], guest).status == 0
    assert (hv.initialize_partition(guest), hv.initialize_partition(guest)) == (0, 7)
    assert console.direct_attach(guest, A, 7).status == 0
    assert hv.delete_partition(guest) == 7
    assert (hv.finalize_partition(guest), hv.finalize_partition(guest)) == (0, 7)
    assert hv.place(A) == IN_DEFAULT
    assert console.direct_attach(guest, A, 7).status == 7
    assert console.deposit([103], guest).status == 7
    assert console.withdraw(512, guest) == (Answer(0x1D, 3), [100, 101, 102])
    assert hv.delete_partition(guest) == 0
    for answer in (console.direct_attach(guest, A, 7), console.deposit([103], guest), console.withdraw(1, guest)[0]):
        assert answer.status == 0xD
    for life in (hv.initialize_partition, hv.finalize_partition, hv.delete_partition):
        assert life(guest) == life(hv.ROOT_ID) == 0xD
    hv.check()


def test_a_guests_device_is_known_by_its_logical_id() -> None:
    """Detach names guest and logical id; a wrong guest, an unknown id or partition 0 (the VMM is gone) is refused."""
    console = world()
    assert console.direct_attach(GUEST, A, 7).status == 0
    assert console.direct_attach(OTHER, B, 7).status == 0x65
    assert console.direct_attach(OTHER, B, 8).status == 0
    tried = [(OTHER, 7), (GUEST, 9), (0, 7), (Hypervisor.ROOT_ID, 7), (abi.U64, 7)]
    assert [console.direct_detach(*args).status for args in tried] == [0xD, 0x57, 0xD, 0xD, 0xD]
    assert console.direct_detach(GUEST, 7).status == 0
    assert console.direct_attach(GUEST, A, 7).status == 0


def test_a_device_that_is_gone_is_unknown() -> None:
    """A device whose id vanished answers like an unknown one."""
    console = world()
    console.hypervisor.devices[A].present = False
    assert (console.attach(A, 1).status, console.detach(A).status) == (0x57, 0x57)


# --- L1VH -----------------------------------------------------------------------------------------------------------


def test_l1vh_has_direct_attach_only() -> None:
    """No domain objects; device-domain calls are denied and change nothing; a device is with a guest or nowhere."""
    hv = Hypervisor(devices=[Device(5), Device(6)], l1vh=True)
    console = Console(hv)
    guest = hv.create_partition()
    assert hv.domains == {}
    assert (hv.place(5), hv.reaches_nothing(5)) == (NOWHERE, True)
    before = snapshot(hv)
    denied = [console.create(1), console.delete(0), console.attach(5, 0), console.detach(5), console.map(0, 0, [1])]
    assert {answer.status for answer in [*denied, console.unmap(0, 0, 1)]} == {6}
    assert snapshot(hv) == before
    assert console.direct_attach(guest, A, 7).status == 0x57, "PCI ids are of the wrong type here"
    assert (console.direct_attach(guest, 5, 7).status, hv.place(5)) == (0, Place("guest", guest))
    assert (console.direct_detach(guest, 7).status, hv.place(5)) == (0, NOWHERE)
    console.direct_attach(guest, 6, 7)
    assert (hv.finalize_partition(guest), hv.place(6)) == (0, NOWHERE)
    hv.check()


# --- memory ---------------------------------------------------------------------------------------------------------


def tables_of(pages: list[int]) -> int:
    """Page-table pages below the root of a 4-level tree: distinct level 1, 2 and 3 tables."""
    return sum(len({page >> shift for page in pages}) for shift in (9, 18, 27))


PAGES = st.sampled_from([0, 1, 511, 512, 513, 1023, (1 << 18) - 1, 1 << 18, (1 << 27) - 1, 1 << 27, (1 << 36) - 3])


@given(st.lists(st.tuples(PAGES, st.integers(1, 3)), min_size=1, max_size=6), st.integers(0, 12))
@settings(deadline=None, max_examples=150)
def test_page_tables_cost_exactly_what_a_4_level_tree_needs(maps: list[tuple[int, int]], pool: int) -> None:
    """The pool pays for each table once; a shortage shows at the first page whose tables it cannot pay (M13)."""
    console = world(root_pool=pool)
    mapped: list[int] = []
    for first, count in maps:
        expected = count
        for i in range(count):
            if tables_of([*mapped, first + i]) > pool:
                expected = i
                break
            mapped.append(first + i)
        answer = console.map(1, first, range(count))
        assert answer == ((0, count) if expected == count else (0xB, expected))
        assert console.hypervisor.caller.pool.used == tables_of(mapped)
    console.hypervisor.check()


def test_a_map_goes_on_after_a_deposit() -> None:
    """The loop of the driver: shortage at an element, deposit to SELF, the rest succeeds with the base advanced."""
    console = world(root_pool=3)
    assert console.map(1, 510, range(100, 107)) == (0xB, 2)
    assert console.deposit(range(2000, 2256)) == (0, 256)
    assert console.map(1, 512, range(102, 107)) == (0, 5)
    assert console.hypervisor.caller.pool.used == 4


def test_who_pays() -> None:
    """Maps: the owner. Direct attach: the guest. A deposit to the one does not help the other (M19, X9)."""
    console = world(Policies(direct_needs_memory="2", attach_needs_memory="yes"), root_pool=0)
    hv = console.hypervisor
    assert console.deposit(range(100, 140), GUEST).status == 0
    assert (console.map(1, 0, [5]).status, console.attach(A, 1).status) == (0xB, 0xB)
    assert console.direct_attach(OTHER, A, 7).status == 0xB
    assert console.direct_attach(GUEST, A, 7).status == 0
    assert console.deposit(range(200, 240)).status == 0
    assert (console.map(1, 0, [5]).status, console.attach(B, 1).status) == (0, 0)
    assert (hv.caller.pool.used, hv.partitions[GUEST].pool.used, hv.partitions[OTHER].pool.used) == (4, 2, 0)
    assert console.direct_detach(GUEST, 7).status == console.detach(B).status == 0
    assert (hv.caller.pool.used, hv.partitions[GUEST].pool.used) == (3, 0)
    hv.check()


@pytest.mark.parametrize("status", ["0xb", "0x75"])
def test_pages_are_conserved(status: str) -> None:
    """Deposit, use, free, withdraw: every frame comes back exactly once, and only what is free comes back."""
    console = world(Policies(shortage_status=status), root_pool=0)
    given_away = [*range(1000, 1256), *range(5000, 5010)]
    assert console.deposit(given_away) == (0, 266)
    assert console.map(1, 0, range(10)).status == 0
    used = 3 if status == "0xb" else 24
    answer, first = console.withdraw(512)
    assert (answer, console.hypervisor.caller.pool.used) == ((0x1D, 266 - used), used)
    assert console.delete(1).status == 0
    answer, rest = console.withdraw(512)
    assert answer == (0x1D, used)
    assert sorted(first + rest) == given_away
    assert console.deposit(given_away[:8]) == (0, 8), "what came back is Linux's again"


# --- failing simple calls -------------------------------------------------------------------------------------------

ANSWERS = st.fixed_dictionaries(
    {},
    optional={
        name: st.sampled_from([a for a in question.alternatives if a not in question.adversarial])
        for name, question in QUESTIONS.items()
    },
)
IDS = st.sampled_from([0, 1, 2, 3, NULL_ID])
KEYS = st.sampled_from([A, B, A + 1, 8])
PARTITIONS = st.sampled_from([GUEST, OTHER, 0, 1, 99])
LOGICALS = st.sampled_from([7, 8])
OWNERS = st.sampled_from([abi.U64] * 6 + [0, 1, GUEST, 99])
SIMPLE = st.one_of(
    st.tuples(st.just("CREATE_DEVICE_DOMAIN"), OWNERS, st.just(0), st.sampled_from([0, 0, 1, 16]), IDS, st.just(1)),
    st.tuples(st.just("DELETE_DEVICE_DOMAIN"), OWNERS, st.just(0), st.just(0), IDS),
    st.tuples(st.just("ATTACH_DEVICE_DOMAIN"), OWNERS, st.just(0), st.just(0), IDS, KEYS),
    st.tuples(st.just("DETACH_DEVICE_DOMAIN"), OWNERS, KEYS),
    st.tuples(st.just("ATTACH_DEVICE"), PARTITIONS, KEYS, st.just(1), *[st.just(0)] * 3, LOGICALS, *[st.just(0)] * 3),
    st.tuples(st.just("DETACH_DEVICE"), PARTITIONS, LOGICALS),
    st.tuples(st.just("GET_IOMMU_CAPABILITIES"), OWNERS, st.just(0)),
)
Step = tuple[tuple[str | int, ...], bool]
STEPS: st.SearchStrategy[list[Step]] = st.lists(st.tuples(SIMPLE, st.booleans()), max_size=25)


@given(ANSWERS, STEPS, st.integers(0, 4))
@settings(deadline=None, max_examples=150)
def test_a_simple_call_that_fails_changes_nothing(answers: dict[str, str], steps: list[Step], pool: int) -> None:
    """Under every mix of honest answers: failure, refused or of its own, leaves no trace; check() always holds."""
    console = Console(Hypervisor(Policies(**answers), devices=[Device(A), Device(B)], root_pool=pool, domain_limit=2))
    hv = console.hypervisor
    hv.create_partition(), hv.create_partition()
    console.deposit(range(100, 103), GUEST)
    console.create(1), console.map(1, 510, range(500, 504))
    for (name, *values), refuse in steps:
        before = snapshot(hv)
        hv.effects.clear()
        answer = console.call(str(name), *map(int, values), refusal=Refusal(0x71) if refuse else None)
        if answer.status:
            assert (snapshot(hv), hv.effects) == (before, [])
        assert hv.refused == (answer.status == 0x71)
        hv.check()


# --- check() itself -------------------------------------------------------------------------------------------------

Breakage = Callable[[Hypervisor], object]


def hang(hv: Hypervisor, level: int) -> None:
    hv.domains[1].tables[level].add(9)
    hv.domains[1].pages_used += 1


def leave(hv: Hypervisor) -> None:
    hv.domains[2].devices.clear()
    hv.devices[A].place = NOWHERE


BREAKAGES: list[tuple[str, Breakage]] = [
    ("changed its id", lambda hv: setattr(hv.devices[A], "key", 1)),
    ("no known kind of place", lambda hv: setattr(hv.devices[A], "place", Place("moon", 0))),
    ("a domain that does not exist", lambda hv: hv.domains.pop(2)),
    ("a domain forgot its device", lambda hv: hv.domains[2].devices.clear()),
    ("a guest that does not exist", lambda hv: hv.partitions.pop(GUEST)),
    ("a guest that has ended", lambda hv: setattr(hv.partitions[GUEST], "state", "finalized")),
    ("a place and a stale translation", lambda hv: setattr(hv.devices[A], "stale", hv.domains[1].table)),
    ("nowhere and still uses pages", leave),
    ("a logical id without a guest", lambda hv: setattr(hv.devices[A], "logical", 9)),
    ("the index of logical ids is stale", lambda hv: hv.logical.clear()),
    ("a domain changed its id", lambda hv: setattr(hv.domains[1], "id", 9)),
    ("in two places", lambda hv: hv.domains[1].devices.add(A)),
    ("a stale logical id", lambda hv: hv.logical.update({9: hv.devices[A]})),
    ("the page count is wrong", lambda hv: setattr(hv.domains[1].table, "pages", 2)),
    ("a domain and its page tables disagree", lambda hv: hv.domains[1].tables[0].add(1 << 20)),
    ("hangs in the air .level 2", lambda hv: hang(hv, 1)),
    ("hangs in the air .level 3", lambda hv: hang(hv, 2)),
    ("beyond the IOVA width", lambda hv: hv.domains[1].table.set(1 << 36, (1 << 36) + 1, 0)),
    ("without a page table", lambda hv: hv.domains[1].table.set(1 << 20, (1 << 20) + 1, 0)),
    ("a deposited frame is mapped", lambda hv: hv.domains[1].table.set(1, 2, 100)),
    ("below zero", lambda hv: hv.partitions[GUEST].pool.give(9)),
    ("more contiguous blocks", lambda hv: setattr(hv.partitions[GUEST].pool, "blocks", 9)),
    ("appeared or vanished", lambda hv: hv.partitions[GUEST].pool.frames.add(7, 8)),
    ("paid for disagree", lambda hv: hv.partitions[GUEST].pool.take(1)),
]


@pytest.mark.parametrize(("says", "break_it"), BREAKAGES, ids=[says for says, _ in BREAKAGES])
def test_check_notices(says: str, break_it: Breakage) -> None:
    """Each claim of check() can fail: breaking the state behind its back raises that assertion."""
    console = world(Policies(direct_needs_memory="2", attach_needs_memory="yes"))
    console.deposit(range(100, 104), GUEST)
    assert console.map(1, 0, [5]).status == console.attach(A, 2).status == 0
    assert console.direct_attach(GUEST, B, 7).status == 0
    console.hypervisor.check()
    break_it(console.hypervisor)
    with pytest.raises(AssertionError, match=says):
        console.hypervisor.check()
