"""Rep calls: count, start, completed, errors at an element, continuation, refusals (TLFS "Hypercall Interface")."""

from __future__ import annotations

import doctest

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import hvmodel.hypervisor.console
from hvmodel.hypervisor import Device, Hypervisor, Policies, Refusal, abi
from hvmodel.hypervisor.console import Answer, Console
from hvmodel.ranges import Run

KEY = abi.device_id(abi.HV_DEVICE_TYPE_PCI, 8)
PINNED = 900
"""A frame that was deposited: mapping it is an error at its element."""
ODD = Refusal(abi.HV_STATUS_OPERATION_FAILED)

REP_CALLS = {
    "MAP_DEVICE_GPA_PAGES": (abi.U64, 0, 0, 1, 0, 3, 0x10000),
    "UNMAP_DEVICE_GPA_PAGES": (abi.U64, 0, 0, 1, 0x10000),
    "DEPOSIT_MEMORY": (abi.U64,),
    "WITHDRAW_MEMORY": (abi.U64, 0),
}
SIMPLE_CALLS = {
    "CREATE_DEVICE_DOMAIN": (abi.U64, 0, 0, 2, 1),
    "DELETE_DEVICE_DOMAIN": (abi.U64, 0, 0, 1),
    "ATTACH_DEVICE_DOMAIN": (abi.U64, 0, 0, 1, KEY),
    "DETACH_DEVICE_DOMAIN": (abi.U64, KEY),
    "ATTACH_DEVICE": (0x10, KEY, 1, 0, 0, 0, 7, 0, 0, 0),
    "DETACH_DEVICE": (0x10, 7),
    "GET_IOMMU_CAPABILITIES": (abi.U64, 0),
}
LIST = abi.encode_consecutive(100, 10)


def world(**answers: str) -> Console:
    """A root with one device, domain 1 and a guest 0x10, and frame 900 deposited."""
    console = Console(Hypervisor(Policies(**answers), devices=[Device(KEY)]))
    assert console.create(1).status == 0
    assert console.hypervisor.create_partition() == 0x10
    assert console.deposit([PINNED]) == (0, 1)
    return console


def table(console: Console) -> list[Run]:
    return list(console.hypervisor.domains[1].table)


def frames(console: Console, first: int, count: int) -> list[int | None]:
    return [console.hypervisor.domains[1].table.frame(page) for page in range(first, first + count)]


def snapshot(console: Console) -> object:
    hv = console.hypervisor
    pools = [(p.id, p.state, p.pool.free, p.pool.used, list(p.pool.frames.ranges())) for p in hv.partitions.values()]
    return pools, {d.id: (list(d.table), sorted(d.devices)) for d in hv.domains.values()}, hv.place(KEY)


# --- the control word -----------------------------------------------------------------------------------------------

BROKEN_BITS = [1 << bit for bit in (16, *range(17, 27), *range(27, 31), *range(44, 48), *range(60, 64))]


@pytest.mark.parametrize("name", REP_CALLS | SIMPLE_CALLS)
@pytest.mark.parametrize("bits", BROKEN_BITS)
def test_bits_that_must_be_zero(name: str, bits: int) -> None:
    """Fast, variable header and reserved bits: INVALID_HYPERCALL_INPUT with 0 completed, and nothing happens."""
    console = world()
    before = snapshot(console)
    count = 10 if name in REP_CALLS else 0
    page = abi.input_page(abi.CALL_CODES[name], *(REP_CALLS | SIMPLE_CALLS)[name], tail=LIST if count else b"")
    control = abi.control_word(abi.CALL_CODES[name], count) | bits
    assert console.hypervisor.hypercall(control, page, bytearray(4096)) == 3
    assert snapshot(console) == before


@pytest.mark.parametrize("name", REP_CALLS)
@pytest.mark.parametrize(("count", "start"), [(0, 0), (0, 1), (1, 1), (10, 10), (10, 11), (5, 4095)])
def test_rep_start_must_lie_below_count(name: str, count: int, start: int) -> None:
    """A rep call without elements, or whose start is at or past the count: error 3, completed 0."""
    console = world()
    before = snapshot(console)
    assert console.call(name, *REP_CALLS[name], count=count, start=start, tail=LIST) == (3, 0)
    assert snapshot(console) == before


@pytest.mark.parametrize("name", SIMPLE_CALLS)
@pytest.mark.parametrize(("count", "start"), [(1, 0), (0, 1), (4095, 0)])
def test_simple_calls_take_no_reps(name: str, count: int, start: int) -> None:
    """A rep count or start on a simple call: error 3."""
    console = world()
    before = snapshot(console)
    assert console.call(name, *SIMPLE_CALLS[name], count=count, start=start) == (3, 0)
    assert snapshot(console) == before


def test_unknown_code() -> None:
    """INVALID_HYPERCALL_CODE, before anything else is looked at."""
    assert world().hypervisor.hypercall(0xDEAD | 1 << 60, bytearray(4096)) == 2


def test_ignored_reserved_bits_lose_elements() -> None:
    """G1 ignored: 5000 elements are 904; Linux goes on at 904 and gets error 3 with 0 completed though 904 applied."""
    console = world(reserved_control_bits="ignored")
    assert console.unmap(1, 16, 4096) == (3, 0)
    assert console.unmap(1, 16, 5000) == (0, 904)
    assert console.unmap(1, 16, 5000, start=904) == (3, 0)


@pytest.mark.parametrize("start", [0, 507])
def test_a_list_is_measured_by_its_full_count(start: int) -> None:
    """508 PFNs cross the page whatever the start is; 507 fill it exactly."""
    console = world()
    values = REP_CALLS["MAP_DEVICE_GPA_PAGES"]
    assert console.call("MAP_DEVICE_GPA_PAGES", *values, count=508, start=start) == (4, 0)
    assert console.map(1, 16, range(507)) == (0, 507)
    assert table(console) == [Run(16, 523, 0, 3)]


def test_unmap_is_not_bound_by_the_page() -> None:
    """UNMAP has no list: 4095 elements in one call."""
    console = world()
    for i in range(9):
        assert console.map(1, i * 507, range(507)).status == 0
    assert console.unmap(1, 1, 4095) == (0, 4095)
    assert console.hypervisor.domains[1].table.pages == 9 * 507 - 4095


# --- completed ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", REP_CALLS)
@pytest.mark.parametrize(("count", "start"), [(10, 0), (10, 5), (10, 9), (1, 0)])
def test_success_reports_the_total(name: str, count: int, start: int) -> None:
    """Completed counts from element 0, not from rep start (the documented example: start 5, count 10 gives 10)."""
    console = world()
    tail = abi.encode_consecutive(100, count)
    answer = console.call(name, *REP_CALLS[name], count=count, start=start, tail=tail, output=bytearray(4096))
    assert answer == (0, count)


def test_elements_before_rep_start_are_left_alone() -> None:
    """Map and unmap from rep start: element i still belongs to page base + i and list[i]."""
    console = world()
    assert console.map(1, 16, range(100, 110), start=7) == (0, 10)
    assert table(console) == [Run(23, 26, 107, 3)]
    assert console.unmap(1, 16, 9, start=8) == (0, 9)
    assert table(console) == [Run(23, 24, 107, 3), Run(25, 26, 109, 3)]
    assert console.deposit(range(500, 510), start=8) == (0, 10)
    assert list(console.hypervisor.caller.pool.frames.ranges())[:1] == [(508, 510)]


def test_withdraw_writes_from_its_rep_start() -> None:
    """The output list is indexed like the elements: continuing does not overwrite what the first round returned."""
    console, output = world(), bytearray(4096)
    console.deposit(range(10, 16))
    assert console.call("WITHDRAW_MEMORY", abi.U64, 0, count=2, output=output) == (0, 2)
    assert console.call("WITHDRAW_MEMORY", abi.U64, 0, count=4, start=2, output=output) == (0, 4)
    assert output[:32] == abi.encode_consecutive(10, 4)


# name, answers, what happens before, element that fails, status
ERRORS = [
    ("deposited frame", {}, "frame", 0x8),
    ("beyond the width", {}, "width", 0x5),
    ("remap", {"remap_other": "0x65"}, "mapped", 0x65),
    ("no table page", {}, "pool", 0xB),
]


@pytest.mark.parametrize(("answers", "cause", "status"), [row[1:] for row in ERRORS], ids=[row[0] for row in ERRORS])
@pytest.mark.parametrize("start", [0, 3])
@pytest.mark.parametrize("at", [3, 4, 9])
def test_map_error_at_an_element(answers: dict[str, str], cause: str, status: int, start: int, at: int) -> None:
    """Completed is the number of elements before the failing one; they are mapped, it and the rest are not."""
    console = world(**answers)
    hv = console.hypervisor
    wanted = list(range(100, 110))
    first = 512 - at
    if cause == "frame":
        wanted[at] = PINNED
    if cause == "width":
        first = hv.width_pages - at
    if cause == "mapped":
        console.map(1, first + at, [7])
    if cause == "pool":
        console.map(1, 511, [0]), console.unmap(1, 511, 1)  # the tables of pages 0 to 511 exist, the next one does not
        hv.caller.pool.take(hv.caller.pool.free)
    assert console.map(1, first, wanted, start=start) == (status, at)
    done: list[int | None] = [None] * start + list(wanted[start:at])
    assert frames(console, first, at) == done
    assert frames(console, first + at, 10 - at) == ([7] if cause == "mapped" else [None]) + [None] * (9 - at)


@pytest.mark.parametrize("at", [0, 1, 9])
def test_unmap_error_at_an_element(at: int) -> None:
    """Unmap of a hole under M3=0x5, and of a range that leaves the width (M5), stop in the same way."""
    console = world(unmap_unmapped="0x5")
    console.map(1, 16, range(100, 110))
    console.unmap(1, 16 + at, 1)
    assert console.unmap(1, 16, 10) == (5, at)
    assert frames(console, 16, 10) == [None] * (at + 1) + list(range(101 + at, 110))
    loose = world()
    assert loose.unmap(1, loose.hypervisor.width_pages - at, 10) == (5, at)


@pytest.mark.parametrize("page", [1 << 36, (1 << 36) + 7, (1 << 52) - 1])
def test_addresses_far_beyond_the_width(page: int) -> None:
    """A base at or past the width of 48 bits, and a range that wraps 2^64, fail at element 0."""
    console = world()
    assert console.map(1, page, [1, 2]) == (5, 0)
    assert console.unmap(1, page, 4095) == (5, 0)


@pytest.mark.parametrize("at", [0, 2, 9])
def test_deposit_stops_at_a_frame_that_is_not_free(at: int) -> None:
    """A frame that is deposited, mapped for DMA, or twice in the list: the ones before it are taken."""
    for cause in ("deposited", "mapped", "twice"):
        console = world()
        console.map(1, 16, [777])
        wanted = list(range(100, 110))
        wanted[at] = {"deposited": PINNED, "mapped": 777, "twice": 100}[cause]
        if cause == "twice" and at == 0:
            continue
        assert console.deposit(wanted) == (8, at)
        lowest = next(console.hypervisor.caller.pool.frames.ranges())
        assert lowest == ((100, 100 + at) if at else (PINNED, PINNED + 1))


def test_withdraw_ends_with_no_resources() -> None:
    """What is there comes back; the error says how many: NO_RESOURCES with completed below count (P3)."""
    console = world()
    guest = console.hypervisor.create_partition()
    console.deposit([10, 11, 20], guest)
    assert console.withdraw(512, guest) == (Answer(0x1D, 3), [10, 11, 20])
    assert console.withdraw(512, guest) == (Answer(0x1D, 0), [])


# --- continuation ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("policy", "chunk"), [("every-1", 1), ("every-100", 100)])
def test_short_success_advances_by_chunks(policy: str, chunk: int) -> None:
    """G3: success with fewer reps; going on from completed, as hv_do_rep_hypercall does, ends with the same table."""
    console, done, rounds = world(short_success=policy), 0, 0
    while done < 250:
        answer = console.map(1, 16, range(1000, 1250), start=done)
        assert answer == (0, min(250, done + chunk))
        done, rounds = answer.completed, rounds + 1
    assert rounds == -(-250 // chunk)
    assert table(console) == [Run(16, 266, 1000, 3)]
    assert console.unmap(1, 16, 250) == (0, chunk)


def test_no_progress_is_a_success_that_does_nothing() -> None:
    """G4 (adversarial): the loop of the caller never ends; the model says so with completed == rep start."""
    console = Console(Hypervisor(Policies(zero_progress="always", map_default="allowed")))
    assert console.map(0, 16, range(10), start=4) == (0, 4)
    assert not console.hypervisor.domains[0].table.pages


STEPS = st.lists(st.integers(0, 12), min_size=1, max_size=12)


@given(STEPS, st.integers(0, 11), st.integers(1, 12))
@settings(deadline=None, max_examples=150)
def test_continuation_equals_one_call(values: list[int], hole: int, chunk: int) -> None:
    """Splitting a map or unmap at any chunk gives the table, the status and the total that one call gives."""
    answers = {"unmap_unmapped": "0x10", "remap_other": "0x19"}
    whole, parts = world(**answers), world(**answers)
    for console in (whole, parts):
        console.map(1, 16 + hole, [5])
    parts.hypervisor._short = chunk
    for operation in ("map", "unmap"):
        done, status = 0, 0
        while not status and done < len(values):
            if operation == "map":
                status, done = parts.map(1, 16, values, start=done)
            else:
                status, done = parts.unmap(1, 16, len(values), start=done)
        expected = whole.map(1, 16, values) if operation == "map" else whole.unmap(1, 16, len(values))
        assert (status, done) == expected
        assert table(parts) == table(whole)


# --- refusals -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", REP_CALLS)
@pytest.mark.parametrize(
    ("start", "done", "completed"), [(0, 0, 0), (0, 4, 4), (0, 9, 9), (0, 10, 9), (0, 999, 9), (4, 0, 4), (4, 6, 6)]
)
def test_refusal_of_a_rep_call(name: str, start: int, done: int, completed: int) -> None:
    """A refusal stops before element ``done`` of the call: never before rep start, and at least one element is left."""
    console = world(deposit_partial="yes", short_success="every-1")
    refusal = Refusal(0x71, done)
    values, output = REP_CALLS[name], bytearray(4096)
    answer = console.call(name, *values, count=10, start=start, tail=LIST, refusal=refusal, output=output)
    assert answer == (0x71, completed)
    assert console.hypervisor.refused
    if name == "MAP_DEVICE_GPA_PAGES":
        assert console.hypervisor.domains[1].table.pages == completed - start
    if name == "DEPOSIT_MEMORY":
        assert len(console.hypervisor.caller.pool.frames) == (1 << 20) + 1 + completed - start


def test_an_error_of_its_own_comes_before_a_later_refusal() -> None:
    """The model's own error at an earlier element wins, and ``refused`` says that the refusal was not the cause."""
    console = world(unmap_unmapped="0x5")
    hv = console.hypervisor
    assert console.map(1, 16, [1, 2, PINNED, 4], refusal=Refusal(0x71, 3)) == (8, 2)
    assert not hv.refused
    assert console.map(1, hv.width_pages - 2, range(4), refusal=Refusal(0x71, 2)) == (5, 2)
    assert not hv.refused
    assert console.map(1, hv.width_pages - 2, range(4), refusal=Refusal(0x71, 1)) == (0x71, 1)
    assert hv.refused
    assert console.unmap(1, 30, 4, refusal=Refusal(0x71, 3)) == (5, 0)
    assert not hv.refused
    assert console.deposit([1000, PINNED], refusal=Refusal(0x71, 1)) == (0x71, 0)
    assert console.withdraw(4, 0x10, refusal=Refusal(0x71, 2))[0] == (0x1D, 0)
    assert not hv.refused


@pytest.mark.parametrize("name", SIMPLE_CALLS)
def test_refusal_of_a_simple_call_changes_nothing(name: str) -> None:
    """A simple call is refused as a whole, where it would have succeeded."""
    console = world()
    if name == "DETACH_DEVICE":
        assert console.direct_attach(0x10, KEY, 7).status == 0
    before = snapshot(console)
    assert console.call(name, *SIMPLE_CALLS[name], refusal=ODD, output=bytearray(4096)) == (0x71, 0)
    assert console.hypervisor.refused
    assert snapshot(console) == before
    assert console.call(name, *SIMPLE_CALLS[name], output=bytearray(4096)) == (0, 0)
    assert not console.hypervisor.refused


@pytest.mark.parametrize("name", SIMPLE_CALLS)
def test_refusal_does_not_hide_a_broken_call(name: str) -> None:
    """A call that fails by itself gives its own status even if a refusal was meant for it."""
    console = world()
    assert console.call(name, *SIMPLE_CALLS[name], count=1, refusal=ODD) == (3, 0)
    assert not console.hypervisor.refused


# --- who and what a domain call names -------------------------------------------------------------------------------

DOMAIN_CALLS = {
    name: (values, 10 if name in REP_CALLS else 0)
    for name, values in (REP_CALLS | SIMPLE_CALLS).items()
    if abi.CALL_CODES[name] in abi.DEVICE_DOMAIN_CALLS
}


@pytest.mark.parametrize("name", DOMAIN_CALLS)
@pytest.mark.parametrize(("owner", "status"), [(1, 0), (0, 0xD), (0x10, 6), (0x77, 0xD)])
def test_owner_of_a_domain_call(name: str, owner: int, status: int) -> None:
    """SELF or the caller's own number; nothing, a child and a stranger are refused each in its way (G12 to G14)."""
    console = world()
    values, count = DOMAIN_CALLS[name]
    answer = console.call(name, owner, *values[1:], count=count, tail=LIST if count else b"")
    assert answer == (status, 0 if status else count)


@pytest.mark.parametrize("name", [name for name in DOMAIN_CALLS if name != "DETACH_DEVICE_DOMAIN"])
@pytest.mark.parametrize(("field", "value"), [(1, 1), (1, 0x20), (2, 0x10), (2, 1 << 31), (2, 1), (2, 2)])
def test_structural_fields_of_a_domain_call(name: str, field: int, value: int) -> None:
    """VTL, reserved bits of the domain id and types other than S2: INVALID_PARAMETER, nothing done (D13, G10, D3)."""
    console = world()
    before = snapshot(console)
    values, count = DOMAIN_CALLS[name]
    broken = (*values[:field], value, *values[field + 1 :])
    assert console.call(name, *broken, count=count, tail=LIST if count else b"") == (5, 0)
    assert snapshot(console) == before


@pytest.mark.parametrize("name", ["CREATE_DEVICE_DOMAIN", "DELETE_DEVICE_DOMAIN", "MAP_DEVICE_GPA_PAGES"])
def test_padding_is_ignored(name: str) -> None:
    """TLFS: the content of padding is not looked at (bytes 9 to 15 of the prefix, 25 to 27 of a map)."""
    console = world()
    values, count = DOMAIN_CALLS[name]
    page = abi.input_page(abi.CALL_CODES[name], *values, tail=LIST if count else b"")
    page[9:16] = b"\xff" * 7
    if name == "MAP_DEVICE_GPA_PAGES":
        page[25:28] = b"\xff" * 3
    assert console.hypervisor.hypercall(abi.control_word(abi.CALL_CODES[name], count), page) == count << 32


def test_console_examples() -> None:
    """The examples of console.py are true."""
    result = doctest.testmod(hvmodel.hypervisor.console)
    assert (result.failed, result.attempted > 0) == (0, True)
