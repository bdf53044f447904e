"""The hypercall ABI: call codes, control and status words, input layouts.

Sources: TLFS "Hypercall Interface" (control and status words, rep rules), TLFS 5.0 appendix A and B (codes,
statuses), Linux ``include/hyperv/hvgdk_mini.h`` and ``hvhdk_mini.h``, and the mail "[PATCH V1 09/13] mshv: Import
data structs around device passthru from hyperv headers" (device-domain layouts). ``hypervisor/README.md`` keeps the
facts and open questions. All layouts are little-endian and packed; offsets and sizes are in bytes from the start of
the 4096-byte input page.
"""

from __future__ import annotations

from struct import Struct

PAGE_SHIFT = 12
PAGE_SIZE = 1 << PAGE_SHIFT
U64 = (1 << 64) - 1
U32 = (1 << 32) - 1

# --- call codes -------------------------------------------------------------------------------------------------------
HVCALL_DEPOSIT_MEMORY = 0x48
HVCALL_WITHDRAW_MEMORY = 0x49
HVCALL_ATTACH_DEVICE = 0x82
HVCALL_DETACH_DEVICE = 0x83
HVCALL_CREATE_DEVICE_DOMAIN = 0xB1
HVCALL_ATTACH_DEVICE_DOMAIN = 0xB2
HVCALL_MAP_DEVICE_GPA_PAGES = 0xB3
HVCALL_UNMAP_DEVICE_GPA_PAGES = 0xB4
HVCALL_DETACH_DEVICE_DOMAIN = 0xC4
HVCALL_DELETE_DEVICE_DOMAIN = 0xC5
HVCALL_GET_IOMMU_CAPABILITIES = 0x125

CALL_NAMES: dict[int, str] = {
    HVCALL_DEPOSIT_MEMORY: "DEPOSIT_MEMORY",
    HVCALL_WITHDRAW_MEMORY: "WITHDRAW_MEMORY",
    HVCALL_ATTACH_DEVICE: "ATTACH_DEVICE",
    HVCALL_DETACH_DEVICE: "DETACH_DEVICE",
    HVCALL_CREATE_DEVICE_DOMAIN: "CREATE_DEVICE_DOMAIN",
    HVCALL_ATTACH_DEVICE_DOMAIN: "ATTACH_DEVICE_DOMAIN",
    HVCALL_MAP_DEVICE_GPA_PAGES: "MAP_DEVICE_GPA_PAGES",
    HVCALL_UNMAP_DEVICE_GPA_PAGES: "UNMAP_DEVICE_GPA_PAGES",
    HVCALL_DETACH_DEVICE_DOMAIN: "DETACH_DEVICE_DOMAIN",
    HVCALL_DELETE_DEVICE_DOMAIN: "DELETE_DEVICE_DOMAIN",
    HVCALL_GET_IOMMU_CAPABILITIES: "GET_IOMMU_CAPABILITIES",
}
CALL_CODES: dict[str, int] = {name: code for code, name in CALL_NAMES.items()}

REP_CALLS = frozenset({HVCALL_DEPOSIT_MEMORY, HVCALL_WITHDRAW_MEMORY, HVCALL_MAP_DEVICE_GPA_PAGES, HVCALL_UNMAP_DEVICE_GPA_PAGES})
DEVICE_DOMAIN_CALLS = frozenset(
    {
        HVCALL_CREATE_DEVICE_DOMAIN,
        HVCALL_DELETE_DEVICE_DOMAIN,
        HVCALL_ATTACH_DEVICE_DOMAIN,
        HVCALL_DETACH_DEVICE_DOMAIN,
        HVCALL_MAP_DEVICE_GPA_PAGES,
        HVCALL_UNMAP_DEVICE_GPA_PAGES,
    }
)

# --- control and status words -----------------------------------------------------------------------------------------
REP_COUNT_SHIFT = 32
REP_START_SHIFT = 48
REP_MASK = 0xFFF
REP_COUNT_MAX = 0xFFF
FAST = 1 << 16
VARHEAD_SHIFT = 17
VARHEAD_MASK = 0x3FF
CONTROL_RESERVED = (0xF << 27) | (0xF << 44) | (0xF << 60)
STATUS_MASK = 0xFFFF

HV_STATUS_SUCCESS = 0x00
HV_STATUS_INVALID_HYPERCALL_CODE = 0x02
HV_STATUS_INVALID_HYPERCALL_INPUT = 0x03
HV_STATUS_INVALID_ALIGNMENT = 0x04
HV_STATUS_INVALID_PARAMETER = 0x05
HV_STATUS_ACCESS_DENIED = 0x06
HV_STATUS_INVALID_PARTITION_STATE = 0x07
HV_STATUS_OPERATION_DENIED = 0x08
HV_STATUS_INSUFFICIENT_MEMORY = 0x0B
HV_STATUS_INVALID_PARTITION_ID = 0x0D
HV_STATUS_NOT_FOUND = 0x10
HV_STATUS_OBJECT_IN_USE = 0x19
HV_STATUS_NO_RESOURCES = 0x1D
HV_STATUS_FEATURE_UNAVAILABLE = 0x1E
HV_STATUS_INSUFFICIENT_DEVICE_DOMAINS = 0x38
HV_STATUS_INVALID_DEVICE_ID = 0x57
HV_STATUS_INVALID_DEVICE_STATE = 0x58
HV_STATUS_KEY_ALREADY_EXISTS = 0x65
HV_STATUS_DEVICE_ALREADY_IN_DOMAIN = 0x66
HV_STATUS_OPERATION_FAILED = 0x71
HV_STATUS_INSUFFICIENT_ROOT_MEMORY = 0x73
HV_STATUS_INSUFFICIENT_CONTIGUOUS_MEMORY = 0x75
HV_STATUS_TIME_OUT = 0x78
HV_STATUS_INSUFFICIENT_CONTIGUOUS_ROOT_MEMORY = 0x83

STATUS_NAMES: dict[int, str] = {
    value: name.removeprefix("HV_STATUS_") for name, value in list(globals().items()) if name.startswith("HV_STATUS_")
}
STATUS_NAMES |= {
    0x09: "UNKNOWN_PROPERTY",
    0x0A: "PROPERTY_VALUE_OUT_OF_RANGE",
    0x0E: "INVALID_VP_INDEX",
    0x11: "INVALID_PORT_ID",
    0x12: "INVALID_CONNECTION_ID",
    0x13: "INSUFFICIENT_BUFFERS",
    0x14: "NOT_ACKNOWLEDGED",
    0x15: "INVALID_VP_STATE",
    0x20: "PROCESSOR_FEATURE_NOT_SUPPORTED",
    0x41: "INVALID_LP_INDEX",
    0x50: "INVALID_REGISTER_VALUE",
    0x59: "PENDING_PAGE_REQUESTS",
    0x79: "CALL_PENDING",
    0x86: "VTL_ALREADY_ENABLED",
}
SHORTAGE_STATUSES = frozenset(
    {
        HV_STATUS_INSUFFICIENT_MEMORY,
        HV_STATUS_INSUFFICIENT_ROOT_MEMORY,
        HV_STATUS_INSUFFICIENT_CONTIGUOUS_MEMORY,
        HV_STATUS_INSUFFICIENT_CONTIGUOUS_ROOT_MEMORY,
    }
)
"""The codes that ask for memory (mail "mshv: Introduce hv_deposit_memory helper functions", Feb 2026)."""

# --- identities -------------------------------------------------------------------------------------------------------
HV_PARTITION_ID_INVALID = 0
HV_PARTITION_ID_SELF = U64
HV_DEVICE_DOMAIN_TYPE_S2 = 0
HV_DEVICE_DOMAIN_ID_S2_DEFAULT = 0
HV_DEVICE_DOMAIN_ID_S2_NULL = 0xFFFFFFFF
HV_DEVICE_TYPE_LOGICAL = 0
HV_DEVICE_TYPE_PCI = 1
DEVICE_TYPE_SHIFT = 62

HV_MAP_GPA_READABLE = 0x1
HV_MAP_GPA_WRITABLE = 0x2
MAP_FLAGS_KNOWN = 0x1 | 0x2 | 0xC | 0x8000 | 0x10000 | 0x100000 | 0x200000 | 0xF000000 | 0x80000000
MAP_FLAG_NO_ACCESS = 0x10000

# --- layouts ----------------------------------------------------------------------------------------------------------
# struct hv_input_device_domain: partition_id, owner_vtl, padding[7], domain_id (type word, id)
DEVICE_DOMAIN = Struct("<QB7xII")
CREATE_DEVICE_DOMAIN = Struct("<QB7xIII")
DELETE_DEVICE_DOMAIN = DEVICE_DOMAIN
ATTACH_DEVICE_DOMAIN = Struct("<QB7xIIQ")
DETACH_DEVICE_DOMAIN = Struct("<QQ")
MAP_DEVICE_GPA_PAGES = Struct("<QB7xIIB3xIQ")
UNMAP_DEVICE_GPA_PAGES = Struct("<QB7xIIQ")
# struct hv_input_attach_device: partition_id, device_id, flags, attdev_vtl, reserved u8 and u16, logical_devid,
# dev_pcicaps, pf_pci_rid, reserved
ATTACH_DEVICE = Struct("<QQIBBHQIHH")
DETACH_DEVICE = Struct("<QQ")
DEPOSIT_MEMORY = Struct("<Q")
WITHDRAW_MEMORY = Struct("<QQ")
GET_IOMMU_CAPABILITIES = Struct("<QQ")
IOMMU_CAPABILITIES_OUTPUT = Struct("<IHBBQQ")

CREATE_FLAG_FORWARD_PROGRESS_REQUIRED = 0x1
CREATE_FLAG_INHERIT_OWNING_VTL = 0x2
ATTDEV_FLAG_LOGICAL_ID = 0x1
ATTDEV_FLAGS_KNOWN = 0xFD

LAYOUTS: dict[int, tuple[Struct, tuple[str, ...]]] = {
    HVCALL_CREATE_DEVICE_DOMAIN: (CREATE_DEVICE_DOMAIN, ("partition_id", "owner_vtl", "type", "id", "flags")),
    HVCALL_DELETE_DEVICE_DOMAIN: (DELETE_DEVICE_DOMAIN, ("partition_id", "owner_vtl", "type", "id")),
    HVCALL_ATTACH_DEVICE_DOMAIN: (ATTACH_DEVICE_DOMAIN, ("partition_id", "owner_vtl", "type", "id", "device_id")),
    HVCALL_DETACH_DEVICE_DOMAIN: (DETACH_DEVICE_DOMAIN, ("partition_id", "device_id")),
    HVCALL_MAP_DEVICE_GPA_PAGES: (
        MAP_DEVICE_GPA_PAGES,
        ("partition_id", "owner_vtl", "type", "id", "target_vtl", "map_flags", "target_device_va_base"),
    ),
    HVCALL_UNMAP_DEVICE_GPA_PAGES: (
        UNMAP_DEVICE_GPA_PAGES,
        ("partition_id", "owner_vtl", "type", "id", "target_device_va_base"),
    ),
    HVCALL_ATTACH_DEVICE: (
        ATTACH_DEVICE,
        ("partition_id", "device_id", "flags", "vtl", "rsvd0", "rsvd1", "logical_devid", "caps", "pf_pci_rid", "rsvd2"),
    ),
    HVCALL_DETACH_DEVICE: (DETACH_DEVICE, ("partition_id", "logical_devid")),
    HVCALL_DEPOSIT_MEMORY: (DEPOSIT_MEMORY, ("partition_id",)),
    HVCALL_WITHDRAW_MEMORY: (WITHDRAW_MEMORY, ("partition_id", "proximity_domain_info")),
    HVCALL_GET_IOMMU_CAPABILITIES: (GET_IOMMU_CAPABILITIES, ("partition_id", "reserved")),
}
"""Header layout and field names by call code; used to decode a header for people and for the judges."""

MAP_LIST_MAX = (PAGE_SIZE - MAP_DEVICE_GPA_PAGES.size) // 8
"""PFNs that fit behind a map header in one input page: 507."""

DEPOSIT_LIST_MAX = (PAGE_SIZE - DEPOSIT_MEMORY.size) // 8
"""PFNs that fit into one deposit: 511."""


def control_word(code: int, rep_count: int = 0, rep_start: int = 0, varhead: int = 0) -> int:
    """The hypercall input value. Nothing is masked: a count beyond 12 bits spills into reserved bits, as in Linux."""
    return code | varhead << VARHEAD_SHIFT | rep_count << REP_COUNT_SHIFT | rep_start << REP_START_SHIFT


def input_page(code: int, *values: int, tail: bytes = b"") -> bytearray:
    """A 4096-byte input page: the call's header fields in the order of ``LAYOUTS``, then the list; the rest is zero."""
    layout = LAYOUTS[code][0]
    page = bytearray(PAGE_SIZE)
    layout.pack_into(page, 0, *values)
    page[layout.size : layout.size + len(tail)] = tail
    return page


def device_id(kind: int, value: int) -> int:
    """``union hv_device_id``: the type in bits 62-63, the rest below (``include/hyperv/hvhdk_mini.h``)."""
    return kind << DEVICE_TYPE_SHIFT | value


# --- lists of frame numbers -------------------------------------------------------------------------------------------
# A list of n consecutive u64 values is one number: first * REPEAT[n] + RAMP[n]. Encoding and comparing it whole is
# several times faster than struct for the lists that a contiguous mapping produces.
_REPEAT: list[int] = [0]
_RAMP: list[int] = [0]
for _n in range(513):
    _REPEAT.append(_REPEAT[-1] | 1 << 64 * _n)
    _RAMP.append(_RAMP[-1] | _n << 64 * _n)
_LIST = [Struct(f"<{n}Q") for n in range(513)]


def encode_consecutive(first: int, count: int) -> bytes:
    """``count`` (at most 512) consecutive u64 values from ``first``, wrapping at 2^64, little-endian.

    >>> encode_consecutive(2**64 - 1, 2).hex()
    'ffffffffffffffff0000000000000000'
    """
    if first + count <= U64:
        return (first * _REPEAT[count] + _RAMP[count]).to_bytes(8 * count, "little")
    return _LIST[count].pack(*((first + i) & U64 for i in range(count)))


def decode_runs(raw: bytes, count: int) -> list[tuple[int, int]]:
    """A list of ``count`` u64 values as ``(first, length)`` runs of consecutive values.

    >>> decode_runs(encode_consecutive(7, 3) + encode_consecutive(1, 1), 4)
    [(7, 3), (1, 1)]
    """
    first = int.from_bytes(raw[:8], "little")
    if count == 1 or (first + count <= U64 and raw == encode_consecutive(first, count)):
        return [(first, count)]
    runs: list[tuple[int, int]] = []
    length = 0
    for value in _LIST[count].unpack(raw):
        if length and value == first + length:
            length += 1
            continue
        if length:
            runs.append((first, length))
        first, length = value, 1
    runs.append((first, length))
    return runs


def call_name(code: int) -> str:
    """The name of a call code, without its HVCALL_ prefix."""
    return CALL_NAMES.get(code, f"call {code:#x}")


def status_name(status: int) -> str:
    """The name of a status, without its HV_STATUS_ prefix."""
    return STATUS_NAMES.get(status & STATUS_MASK, f"status {status & STATUS_MASK:#x}")
