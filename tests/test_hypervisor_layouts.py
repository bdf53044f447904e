"""The ABI against literal tables: offsets, sizes, list capacities, control and status words, lists of frame numbers.

The tables are copied from the public headers by hand (Linux ``include/hyperv/hvgdk_mini.h``, ``hvhdk_mini.h`` and the
device passthru header mail), not computed from the code.
"""

from __future__ import annotations

import struct
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hvmodel.hypervisor import DEFAULT, Device, Hypervisor, Policies, abi

PREFIX = {"partition_id": (0, 8), "owner_vtl": (8, 1), "type": (16, 4), "id": (20, 4)}

# call: (code, header size, most list entries in one page or None, {field: (offset, size)})
TABLE: dict[str, tuple[int, int, int | None, dict[str, tuple[int, int]]]] = {
    "CREATE_DEVICE_DOMAIN": (0xB1, 28, None, PREFIX | {"flags": (24, 4)}),
    "DELETE_DEVICE_DOMAIN": (0xC5, 24, None, PREFIX),
    "ATTACH_DEVICE_DOMAIN": (0xB2, 32, None, PREFIX | {"device_id": (24, 8)}),
    "DETACH_DEVICE_DOMAIN": (0xC4, 16, None, {"partition_id": (0, 8), "device_id": (8, 8)}),
    "MAP_DEVICE_GPA_PAGES": (
        0xB3,
        40,
        507,
        PREFIX | {"target_vtl": (24, 1), "map_flags": (28, 4), "target_device_va_base": (32, 8)},
    ),
    "UNMAP_DEVICE_GPA_PAGES": (0xB4, 32, None, PREFIX | {"target_device_va_base": (24, 8)}),
    "ATTACH_DEVICE": (
        0x82,
        40,
        None,
        {
            "partition_id": (0, 8),
            "device_id": (8, 8),
            "flags": (16, 4),
            "vtl": (20, 1),
            "rsvd0": (21, 1),
            "rsvd1": (22, 2),
            "logical_devid": (24, 8),
            "caps": (32, 4),
            "pf_pci_rid": (36, 2),
            "rsvd2": (38, 2),
        },
    ),
    "DETACH_DEVICE": (0x83, 16, None, {"partition_id": (0, 8), "logical_devid": (8, 8)}),
    "DEPOSIT_MEMORY": (0x48, 8, 511, {"partition_id": (0, 8)}),
    "WITHDRAW_MEMORY": (0x49, 16, 512, {"partition_id": (0, 8), "proximity_domain_info": (8, 8)}),
    "GET_IOMMU_CAPABILITIES": (0x125, 16, None, {"partition_id": (0, 8), "reserved": (8, 8)}),
}

STATUSES = {
    0x00: "SUCCESS",
    0x02: "INVALID_HYPERCALL_CODE",
    0x03: "INVALID_HYPERCALL_INPUT",
    0x04: "INVALID_ALIGNMENT",
    0x05: "INVALID_PARAMETER",
    0x06: "ACCESS_DENIED",
    0x07: "INVALID_PARTITION_STATE",
    0x08: "OPERATION_DENIED",
    0x0B: "INSUFFICIENT_MEMORY",
    0x0D: "INVALID_PARTITION_ID",
    0x10: "NOT_FOUND",
    0x19: "OBJECT_IN_USE",
    0x1D: "NO_RESOURCES",
    0x1E: "FEATURE_UNAVAILABLE",
    0x38: "INSUFFICIENT_DEVICE_DOMAINS",
    0x57: "INVALID_DEVICE_ID",
    0x58: "INVALID_DEVICE_STATE",
    0x65: "KEY_ALREADY_EXISTS",
    0x66: "DEVICE_ALREADY_IN_DOMAIN",
    0x71: "OPERATION_FAILED",
    0x73: "INSUFFICIENT_ROOT_MEMORY",
    0x75: "INSUFFICIENT_CONTIGUOUS_MEMORY",
    0x78: "TIME_OUT",
    0x83: "INSUFFICIENT_CONTIGUOUS_ROOT_MEMORY",
}

U64 = st.one_of(st.integers(0, abi.U64), st.integers(abi.U64 - 600, abi.U64), st.integers(0, 600))


def test_every_call_is_in_the_table() -> None:
    """A call that is added without a row here fails."""
    assert {name: row[0] for name, row in TABLE.items()} == abi.CALL_CODES
    assert set(abi.LAYOUTS) == {row[0] for row in TABLE.values()}


@pytest.mark.parametrize("name", TABLE)
def test_offsets_and_sizes(name: str) -> None:
    """Each field lies where the header says: filling it alone sets exactly its bytes, and padding stays zero."""
    code, size, _, fields = TABLE[name]
    layout, names = abi.LAYOUTS[code]
    assert layout.size == size
    assert set(names) == set(fields)
    for i, field in enumerate(names):
        offset, width = fields[field]
        ones = (1 << 8 * width) - 1
        raw = layout.pack(*(ones if j == i else 0 for j in range(len(names))))
        assert raw == bytes(offset) + b"\xff" * width + bytes(size - offset - width), field


@pytest.mark.parametrize(("name", "most"), [(name, row[2]) for name, row in TABLE.items() if row[2] is not None])
def test_list_capacity(name: str, most: int) -> None:
    """The list that just fits is looked at; one element more crosses the page (status 4, nothing done)."""
    hv = Hypervisor(DEFAULT, root_pool=1024)
    page = abi.input_page(TABLE[name][0], abi.HV_PARTITION_ID_SELF, *[0] * (len(TABLE[name][3]) - 1))
    fits = hv.hypercall(abi.control_word(TABLE[name][0], most), page, bytearray(4096))
    assert fits & abi.STATUS_MASK != abi.HV_STATUS_INVALID_ALIGNMENT
    assert hv.hypercall(abi.control_word(TABLE[name][0], most + 1), page, bytearray(4096)) == 0x4


def test_capacities_that_drivers_use() -> None:
    """The batch sizes of the root driver (507 PFNs a map, 511 a deposit, 12-bit rep counts)."""
    assert (abi.MAP_LIST_MAX, abi.DEPOSIT_LIST_MAX, abi.REP_COUNT_MAX) == (507, 511, 4095)


def test_status_codes() -> None:
    """TLFS 5.0 appendix B and the public headers: number and name."""
    assert {value: abi.status_name(value) for value in STATUSES} == STATUSES
    constants = {value for name, value in vars(abi).items() if name.startswith("HV_STATUS_")}
    assert constants == set(STATUSES)
    assert (abi.status_name(0xFFF0), abi.call_name(0x999)) == ("status 0xfff0", "call 0x999")


@given(st.integers(0, 0xFFFF), st.integers(0, 0xFFF), st.integers(0, 0xFFF), st.integers(0, 0x3FF))
@settings(deadline=None)
def test_control_word_fields(code: int, count: int, start: int, varhead: int) -> None:
    """TLFS: code 0-15, fast 16, varhead 17-26, count 32-43, start 48-59; nested 31; the rest is reserved."""
    word = abi.control_word(code, count, start, varhead)
    assert word == code + (varhead << 17) + (count << 32) + (start << 48)
    assert word & (abi.CONTROL_RESERVED | abi.FAST | 1 << 31) == 0
    used = 0xFFFF | abi.FAST | 0x3FF << 17 | 1 << 31 | 0xFFF << 32 | 0xFFF << 48
    assert abi.U64 ^ used == abi.CONTROL_RESERVED


def test_rep_count_spills_into_reserved_bits() -> None:
    """A count of 4096 sets bit 44, as Linux's unmasked shift does."""
    assert abi.control_word(0xB4, 4096) & abi.CONTROL_RESERVED == 1 << 44


@pytest.mark.parametrize("garbage", ["zero", "garbage"])
def test_status_word_fields(garbage: str) -> None:
    """The result is in bits 0-15 and completed in 32-43, whatever the ignored bits hold (G8); on parse errors too."""
    hv = Hypervisor(Policies(status_garbage=garbage, map_default="allowed"), root_pool=1024)
    page = abi.input_page(0xB3, abi.U64, 0, 0, 0, 0, 1, 0, tail=abi.encode_consecutive(5, 9))
    cases = [
        (abi.control_word(0xB3, 9), 0, 9),
        (abi.control_word(0xB3, 0), 3, 0),
        (abi.control_word(0xB3, 508), 4, 0),
        (0x999, 2, 0),
    ]
    for control, status, completed in cases:
        word = hv.hypercall(control, page)
        assert (word & 0xFFFF, word >> 32 & 0xFFF) == (status, completed)
        assert (word & ~(0xFFF << 32 | 0xFFFF) != 0) == (garbage == "garbage")


def test_device_id_type_is_in_bits_62_and_63() -> None:
    """``union hv_device_id``: PCI 1, LOGICAL 0."""
    assert abi.device_id(abi.HV_DEVICE_TYPE_PCI, 0x12345) == 0x4000_0000_0001_2345
    assert abi.device_id(abi.HV_DEVICE_TYPE_LOGICAL, 7) == 7


def test_capabilities_output() -> None:
    """GET_IOMMU_CAPABILITIES: size, width in bits, no PASID, present and stage 2, 4 KiB pages."""
    hv, output = Hypervisor(iova_width=39, devices=[Device(abi.device_id(1, 8))]), bytearray(4096)
    assert hv.hypercall(abi.control_word(0x125), abi.input_page(0x125, abi.U64, 0), output) == 0
    assert struct.unpack_from("<IHBBQQ", output) == (24, 0, 39, 0, 0x3, 0x1000)


@given(U64, st.integers(0, 512))
@settings(deadline=None)
def test_encode_consecutive_equals_struct(first: int, count: int) -> None:
    """The big-integer trick writes what struct writes, wrap at 2^64 included."""
    expected = struct.pack(f"<{count}Q", *((first + i) & abi.U64 for i in range(count)))
    assert abi.encode_consecutive(first, count) == expected


@given(st.lists(st.tuples(U64, st.integers(1, 40)), min_size=1, max_size=12))
@settings(deadline=None)
def test_decode_runs_equals_struct(pieces: list[tuple[int, int]]) -> None:
    """Runs give back the list that struct reads, each as long as it can be, none going past 2^64."""
    values = [(first + i) & abi.U64 for first, length in pieces for i in range(length)]
    runs = abi.decode_runs(struct.pack(f"<{len(values)}Q", *values), len(values))
    assert [first + i for first, length in runs for i in range(length)] == values
    assert all(length > 0 and first + length <= 1 << 64 for first, length in runs)
    for (first, length), (following, _) in pairwise(runs):
        assert first + length != following
