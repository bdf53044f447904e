"""Every alternative of every open question does something that a caller can observe: no alternative is dead.

One row per alternative: a probe makes a few hypercalls under it and the row says what is seen. A question or
alternative without a row fails, and so do two alternatives of one question that look the same.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from hvmodel.hypervisor import DEFAULT, QUESTIONS, Device, Hypervisor, Policies, Refusal, abi
from hvmodel.hypervisor.console import Console

A = abi.device_id(abi.HV_DEVICE_TYPE_PCI, 8)
B = abi.device_id(abi.HV_DEVICE_TYPE_PCI, 16)
OWNED = abi.device_id(abi.HV_DEVICE_TYPE_PCI, 24)
DEFAULT_ID, NULL_ID = 0, 0xFFFFFFFF
GUEST, OTHER_GUEST = 0x10, 0x11
RESERVED_PAGE = 77


def world(policies: Policies, l1vh: bool = False, capabilities: bool = True, root_pool: int = 1 << 20) -> Console:
    """A root with devices A (with a reserved page), B and OWNED, created domains 1 and 2, and two guests."""
    devices = [Device(A, reserved=((RESERVED_PAGE, RESERVED_PAGE + 1),)), Device(B), Device(OWNED, owned=True)]
    hv = Hypervisor(policies, devices=devices, l1vh=l1vh, capabilities=capabilities, root_pool=root_pool)
    console = Console(hv)
    for ident in (1, 2):
        console.create(ident)
    assert (hv.create_partition(), hv.create_partition()) == (GUEST, OTHER_GUEST)
    console.deposit(range(5000, 5010), GUEST)
    return console


def after(console: Console, status: int, key: int = A) -> tuple[int, str]:
    """A status and where the device is then."""
    console.hypervisor.check()
    return status, str(console.hypervisor.place(key))


def reserved_control_bits(policies: Policies) -> object:
    return world(policies).unmap(1, 0, 5000)


def list_crosses_page(policies: Policies) -> object:
    return world(policies).call("MAP_DEVICE_GPA_PAGES", abi.U64, 0, 0, 1, 0, 3, 0, count=508)


def short_success(policies: Policies) -> object:
    return world(policies).map(1, 0, range(250))


def zero_progress(policies: Policies) -> object:
    return world(policies).map(1, 0, range(5))


def simple_reps(policies: Policies) -> object:
    return world(policies).create(3).completed != 0


def status_garbage(policies: Policies) -> object:
    page = abi.input_page(0xB1, abi.U64, 0, 0, 3, 1)
    return world(policies).hypervisor.hypercall(0xB1, page)


def reserved_fields(policies: Policies) -> object:
    console = world(policies)
    create = console.create(3, flags=0x80000001).status
    prefix = console.call("DELETE_DEVICE_DOMAIN", abi.U64, 0, 0x10, 1).status
    direct = console.call("ATTACH_DEVICE", GUEST, A, 0x101, 0, 0, 0, 7, 0, 0, 0).status
    capabilities = console.call("GET_IOMMU_CAPABILITIES", abi.U64, 1).status
    return create, prefix, direct, capabilities


def own_number_for_self(policies: Policies) -> object:
    return Console(world(policies).hypervisor, owner=1).create(3).status


def partition_zero(policies: Policies) -> object:
    return Console(world(policies).hypervisor, owner=0).create(3).status


def child_in_domain_calls(policies: Policies) -> object:
    return Console(world(policies).hypervisor, owner=GUEST).create(3).status


def feature_missing(policies: Policies) -> object:
    return world(policies, capabilities=False).call("GET_IOMMU_CAPABILITIES", abi.U64, 0).status


def output_after_failure(policies: Policies) -> object:
    output = bytearray(4096)
    world(policies).call("GET_IOMMU_CAPABILITIES", 0, 0, output=output)
    return any(output)


def create_duplicate(policies: Policies) -> object:
    console = world(policies)
    console.map(1, 0, [9])
    return console.create(1).status, console.hypervisor.domains[1].table.frame(0)


def create_reserved(policies: Policies) -> object:
    return world(policies).create(NULL_ID).status


def create_other_type(policies: Policies) -> object:
    return world(policies).create(3, kind=1).status


def create_without_progress(policies: Policies) -> object:
    return world(policies).create(3, flags=0).status


def create_needs_memory(policies: Policies) -> object:
    console = world(policies, root_pool=2)
    return console.create(3).status


def delete_with_mappings(policies: Policies) -> object:
    console = world(policies)
    console.map(1, 0, [9])
    return console.delete(1).status, 1 in console.hypervisor.domains


def delete_with_devices(policies: Policies) -> object:
    console = world(policies)
    console.map(1, 0, [9])
    console.attach(A, 1)
    status = console.delete(1).status
    return (*after(console, status), console.hypervisor.translate(A, 0), console.hypervisor.reaches_nothing(A))


def delete_reserved(policies: Policies) -> object:
    return world(policies).delete(DEFAULT_ID).status


def no_such_domain(policies: Policies) -> object:
    console = world(policies)
    return {console.delete(9).status, console.attach(A, 9).status, console.map(9, 0, [1]).status}


def owner_vtl(policies: Policies) -> object:
    return world(policies).call("CREATE_DEVICE_DOMAIN", abi.U64, 1, 0, 3, 1).status


def attach_elsewhere(policies: Policies) -> object:
    console = world(policies)
    console.attach(A, 1)
    return after(console, console.attach(A, 2).status)


def attach_default_again(policies: Policies) -> object:
    console = world(policies)
    return after(console, console.attach(A, DEFAULT_ID).status)


def attach_null_again(policies: Policies) -> object:
    console = world(policies)
    console.attach(A, NULL_ID)
    return after(console, console.attach(A, NULL_ID).status)


def attach_same_again(policies: Policies) -> object:
    console = world(policies)
    console.attach(A, 1)
    return after(console, console.attach(A, 1).status)


def detach_leaves(policies: Policies) -> object:
    console = world(policies)
    console.attach(A, 1)
    return after(console, console.detach(A).status)


def detach_from_default(policies: Policies) -> object:
    console = world(policies)
    return after(console, console.detach(A).status)


def detach_from_null(policies: Policies) -> object:
    console = world(policies)
    console.attach(A, NULL_ID)
    return after(console, console.detach(A).status)


def unknown_device(policies: Policies) -> object:
    return world(policies).attach(A + 1, 1).status


def wrong_id_type(policies: Policies) -> object:
    return world(policies).attach(8, 1).status


def hypervisor_owned(policies: Policies) -> object:
    console = world(policies)
    direct = console.direct_attach(GUEST, OWNED, 7).status
    return {console.attach(OWNED, 1).status, direct, console.detach(OWNED).status}


def attach_needs_memory(policies: Policies) -> object:
    console = world(policies, root_pool=1)
    return console.attach(A, 1).status, console.attach(B, 1).status, console.attach(B, NULL_ID).status


def failed_attach(policies: Policies) -> object:
    console = world(policies)
    console.attach(A, 1)
    return after(console, console.attach(A, 2, Refusal(0x71)).status)


def reserved_regions(policies: Policies) -> object:
    console = world(policies)
    console.attach(A, NULL_ID)
    in_null = console.hypervisor.translate(A, RESERVED_PAGE)
    console.attach(A, 1)
    return in_null, console.hypervisor.translate(A, RESERVED_PAGE)


def unplugged(policies: Policies) -> object:
    console = world(policies)
    console.attach(A, 1)
    console.direct_attach(GUEST, B, 7)
    for key in (A, B):
        console.hypervisor.unplug(key)
    return after(console, 0, A), after(console, 0, B)


def remap_same(policies: Policies) -> object:
    console = world(policies)
    console.map(1, 4, [9])
    return console.map(1, 3, [8, 9, 10])


def remap_other(policies: Policies) -> object:
    console = world(policies)
    console.map(1, 4, [9])
    return console.map(1, 3, [8, 5, 10]), console.map(1, 4, [9], flags=1), console.hypervisor.domains[1].table.frame(4)


def unmap_unmapped(policies: Policies) -> object:
    console = world(policies)
    console.map(1, 4, [9])
    return console.unmap(1, 4, 3)


def unaligned_base(policies: Policies) -> object:
    console = world(policies)
    return console.map(1, 4, [9], offset=5), console.unmap(1, 4, 1, offset=5)


def beyond_width(policies: Policies) -> object:
    console = world(policies)
    return console.map(1, console.hypervisor.width_pages - 2, range(5))


def flags_not_readable(policies: Policies) -> object:
    console = world(policies)
    return {console.map(1, 4, [9], flags=flags).status for flags in (2, 0x10001, 0x41)}


def frame_not_owned(policies: Policies) -> object:
    return world(policies).map(1, 4, [1, 5000])


def map_default(policies: Policies) -> object:
    console = world(policies)
    answers = console.map(DEFAULT_ID, 4, [9]), console.hypervisor.translate(A, 4), console.unmap(DEFAULT_ID, 4, 1)
    return (*answers, console.hypervisor.translate(A, 4))


def map_null(policies: Policies) -> object:
    console = world(policies)
    return {console.map(NULL_ID, 4, [9]), console.unmap(NULL_ID, 4, 1)}


def page_table_cost(policies: Policies) -> object:
    return world(policies, root_pool=0).map(1, 4, [9])


def shortage_at(policies: Policies) -> object:
    return world(policies, root_pool=3).map(1, 510, range(5))


def shortage_status(policies: Policies) -> object:
    console = world(policies, root_pool=0)
    short = console.map(1, 0, [1]).status
    console.deposit(range(0, 60, 3))
    scattered = console.map(1, 0, [1]).status
    console.deposit(range(100, 124))
    enough = console.map(1, 0, [1]).status
    console.delete(1)
    return short, scattered, enough, console.map(2, 0, [1]).status


def deposit_suffices(policies: Policies) -> object:
    console = world(policies, root_pool=0)
    answers = []
    for i in range(4):
        answers.append(console.map(1, 0, [9]).status)
        console.deposit(range(1000 * i + 100, 1000 * i + 356))
    return answers, console.map(1, 0, [9]).status


def unmap_frees(policies: Policies) -> object:
    console = world(policies)
    pool = console.hypervisor.caller.pool
    console.map(1, 500, range(20))
    used = pool.used
    console.unmap(1, 500, 12)
    half = pool.used
    console.unmap(1, 512, 8)
    rest = pool.used
    console.delete(1)
    return used, half, rest, pool.used


def deposit_partial(policies: Policies) -> object:
    return world(policies).deposit(range(10), refusal=Refusal(0x71, 4))


def deposit_twice(policies: Policies) -> object:
    console = world(policies)
    console.map(1, 4, [9])
    return {console.deposit([8, 9]), console.deposit([7, 5000])}


def logical_id_missing(policies: Policies) -> object:
    return world(policies).direct_attach(GUEST, A, 7, flags=0).status


def logical_id_used(policies: Policies) -> object:
    console = world(policies)
    console.direct_attach(GUEST, A, 7)
    return console.direct_attach(OTHER_GUEST, B, 7).status


def direct_from_created(policies: Policies) -> object:
    console = world(policies)
    console.attach(A, 1)
    return after(console, console.direct_attach(GUEST, A, 7).status)


def direct_from_guest(policies: Policies) -> object:
    console = world(policies)
    console.direct_attach(GUEST, A, 7)
    console.deposit(range(6000, 6010), OTHER_GUEST)
    return after(console, console.direct_attach(OTHER_GUEST, A, 7).status)


def direct_detach_leaves(policies: Policies) -> object:
    console = world(policies)
    console.direct_attach(GUEST, A, 7)
    return after(console, console.direct_detach(GUEST, 7).status)


def detach_wrong_partition(policies: Policies) -> object:
    console = world(policies)
    console.direct_attach(GUEST, A, 7)
    return after(console, console.direct_detach(0, 7).status)


def guest_ends_attached(policies: Policies) -> object:
    console = world(policies)
    console.direct_attach(GUEST, A, 7)
    return after(console, console.hypervisor.finalize_partition(GUEST))


def direct_needs_memory(policies: Policies) -> object:
    console = world(policies)
    short = console.direct_attach(OTHER_GUEST, A, 7).status
    console.direct_attach(GUEST, B, 8)
    return short, console.hypervisor.partitions[GUEST].pool.used


def domain_from_guest(policies: Policies) -> object:
    console = world(policies)
    console.direct_attach(GUEST, A, 7)
    return after(console, console.attach(A, 1).status)


def l1vh_domain_calls(policies: Policies) -> object:
    console = world(policies, l1vh=True)
    return {console.create(3).status, console.attach(A, 0).status, console.map(0, 0, [1]).status}


def l1vh_idle_reach(policies: Policies) -> object:
    console = world(policies, l1vh=True)
    return console.hypervisor.translate(A, 4), console.hypervisor.reaches_nothing(A)


ROWS: dict[Callable[[Policies], object], dict[str, object]] = {
    reserved_control_bits: {"0x3": (3, 0), "ignored": (0, 904)},
    list_crosses_page: {"0x4": (4, 0), "0x3": (3, 0)},
    short_success: {"never": (0, 250), "every-1": (0, 1), "every-100": (0, 100)},
    zero_progress: {"never": (0, 5), "always": (0, 0)},
    simple_reps: {"zero": False, "garbage": True},
    status_garbage: {"zero": 0, "garbage": 0xA5A5_A000_5A5A_0000},
    reserved_fields: {"0x5": (5, 5, 5, 5), "ignored": (0, 0, 0, 0)},
    own_number_for_self: {"same": 0, "0xd": 0xD},
    partition_zero: {"0xd": 0xD, "0x6": 6},
    child_in_domain_calls: {"0x6": 6, "0xd": 0xD},
    feature_missing: {"0x2": 2, "0x1e": 0x1E, "0x6": 6},
    output_after_failure: {"untouched": False, "scribbled": True},
    create_duplicate: {"0x65": (0x65, 9), "0x19": (0x19, 9), "0x5": (5, 9), "alias": (0, 9)},
    create_reserved: {"0x5": 5, "0x65": 0x65},
    create_other_type: {"0x5": 5, "0x1e": 0x1E, "0x2": 2},
    create_without_progress: {"accepted": 0, "0x5": 5},
    create_needs_memory: {"no": 0, "yes": 0xB},
    delete_with_mappings: {"drop": (0, False), "0x19": (0x19, True)},
    delete_with_devices: {
        "0x19": (0x19, "domain 0x1", 9, False),
        "0x58": (0x58, "domain 0x1", 9, False),
        "to-default": (0, "default", 0, False),
        "to-null": (0, "NULL", None, True),
        "dangling": (0, "no domain", 9, False),
    },
    delete_reserved: {"0x5": 5, "0x6": 6, "0x8": 8},
    no_such_domain: {"0x5": {5}, "0x10": {0x10}},
    owner_vtl: {"0x5": 5, "ignored": 0},
    attach_elsewhere: {
        "move": (0, "domain 0x2"),
        "0x66": (0x66, "domain 0x1"),
        "0x58": (0x58, "domain 0x1"),
        "0x19": (0x19, "domain 0x1"),
    },
    attach_default_again: {"success": (0, "default"), "0x66": (0x66, "default")},
    attach_null_again: {"success": (0, "NULL"), "0x66": (0x66, "NULL")},
    attach_same_again: {"0x66": (0x66, "domain 0x1"), "success": (0, "domain 0x1")},
    detach_leaves: {"default": (0, "default"), "null": (0, "NULL"), "none": (0, "no domain")},
    detach_from_default: {"success": (0, "default"), "0x58": (0x58, "default"), "none": (0, "no domain")},
    detach_from_null: {"default": (0, "default"), "0x58": (0x58, "NULL"), "stays": (0, "NULL")},
    unknown_device: {"0x57": 0x57, "0x5": 5, "0x10": 0x10},
    wrong_id_type: {"0x57": 0x57, "0x5": 5},
    hypervisor_owned: {"0x6": {6}, "0x58": {0x58}, "0x8": {8}},
    attach_needs_memory: {"no": (0, 0, 0), "yes": (0, 0xB, 0)},
    failed_attach: {"unchanged": (0x71, "domain 0x1"), "detached": (0x71, "no domain")},
    reserved_regions: {"null": (77, None), "null-and-created": (77, 77), "none": (None, None)},
    unplugged: {
        "stays": ((0, "domain 0x1"), (0, "guest 0x10")),
        "dropped": ((0, "default"), (0, "default")),
    },
    remap_same: {"success": (0, 3), "0x65": (0x65, 1), "0x19": (0x19, 1)},
    remap_other: {
        "supersede": ((0, 3), (0, 1), 9),
        "0x65": ((0x65, 1), (0x65, 0), 9),
        "0x19": ((0x19, 1), (0x19, 0), 9),
    },
    unmap_unmapped: {"success": (0, 3), "0x5": (5, 1), "0x10": (0x10, 1)},
    unaligned_base: {"0x5": ((5, 0), (5, 0)), "0x4": ((4, 0), (4, 0)), "truncated": ((0, 1), (0, 1))},
    beyond_width: {"at-element": (5, 2), "whole-call": (5, 0)},
    flags_not_readable: {"0x5": {5}, "accepted": {0}},
    frame_not_owned: {"0x8": (8, 1), "0x5": (5, 1), "0x6": (6, 1)},
    map_default: {
        "0x6": ((6, 0), 4, (6, 0), 4),
        "allowed": ((0, 1), 9, (0, 1), 4),
        "0x5": ((5, 0), 4, (5, 0), 4),
    },
    map_null: {"0x5": {(5, 0)}, "0x6": {(6, 0)}},
    page_table_cost: {"exact": (0xB, 0), "none": (0, 1)},
    shortage_at: {"element": (0xB, 2), "call": (0xB, 0)},
    shortage_status: {
        "0xb": (0xB, 0, 0, 0),
        "0x75": (0x75, 0x75, 0, 0),
        "0x73": (0x73, 0, 0, 0),
        "0x83": (0x83, 0x83, 0, 0),
    },
    deposit_suffices: {"yes": ([0xB, 0, 0, 0], 0), "several": ([0xB, 0xB, 0xB, 0xB], 0)},
    unmap_frees: {"delete": (4, 4, 4, 0), "at-once": (4, 3, 0, 0)},
    deposit_partial: {"no": (0x71, 0), "yes": (0x71, 4)},
    deposit_twice: {"0x8": {(8, 1)}, "0x19": {(0x19, 1)}},
    logical_id_missing: {"0x5": 5, "accepted": 0},
    logical_id_used: {"0x65": 0x65, "0x5": 5},
    direct_from_created: {
        "0x58": (0x58, "domain 0x1"),
        "move": (0, "guest 0x10"),
        "0x19": (0x19, "domain 0x1"),
    },
    direct_from_guest: {"0x19": (0x19, "guest 0x10"), "0x58": (0x58, "guest 0x10"), "move": (0, "guest 0x11")},
    direct_detach_leaves: {"default": (0, "default"), "null": (0, "NULL"), "none": (0, "no domain")},
    detach_wrong_partition: {"0xd": (0xD, "guest 0x10"), "unique-id": (0, "default")},
    guest_ends_attached: {"default": (0, "default"), "0x19": (0x19, "guest 0x10"), "null": (0, "NULL")},
    direct_needs_memory: {"0": (0, 0), "2": (0xB, 2)},
    domain_from_guest: {"0x58": (0x58, "guest 0x10"), "move": (0, "domain 0x1")},
    l1vh_domain_calls: {"0x6": {6}, "0x2": {2}, "0x8": {8}, "0x1e": {0x1E}},
    l1vh_idle_reach: {"nothing": (None, True), "l1vh-memory": (4, False)},
}
PROBES = {probe.__name__: probe for probe in ROWS}


def test_every_alternative_has_a_row_and_none_is_dead() -> None:
    """All questions and alternatives of policies.py are here, and alternatives of one question look different."""
    rows = {probe.__name__: set(expected) for probe, expected in ROWS.items()}
    assert rows == {name: set(question.alternatives) for name, question in QUESTIONS.items()}
    for probe, expected in ROWS.items():
        seen = [repr(value) for value in expected.values()]
        assert len(set(seen)) == len(seen), probe.__name__


@pytest.mark.parametrize(
    ("name", "alternative"), [(probe.__name__, answer) for probe, row in ROWS.items() for answer in row]
)
def test_alternative(name: str, alternative: str) -> None:
    """Under this answer a caller sees what the row says."""
    probe = PROBES[name]
    assert probe(replace(DEFAULT, **{name: alternative})) == ROWS[probe][alternative]
