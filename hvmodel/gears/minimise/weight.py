"""Which of two traces is the simpler one: a total order without infinite descent.

Every step of the minimiser and of the normaliser goes strictly down in this order. So they end, and what they end with they give
back unchanged when they get it again. The order is, first to last: operations, what is unusual about the start, refusals, kinds of
operation, unusual words (threads, protections, flags), sizes, the order of kinds, details of refusals, devices, addresses, values.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from functools import lru_cache
from typing import Any

from hvmodel import operations as ops
from hvmodel.configuration import DEVICES, Configuration
from hvmodel.faults import CALL_SITES, KERNEL_SITES, Fault
from hvmodel.hypervisor.policies import QUESTIONS, differences

FAILED, SHORT = 0x71, 0x0B
"""OPERATION_FAILED and INSUFFICIENT_MEMORY: the two statuses that stand for all others of their class."""

FIRST, SECOND = 0x100000, 0x200000
"""Where a mapping is if nothing says otherwise, and where its neighbour is: both 1 MiB aligned, neither at an end."""

FRAME = 0x40000000
"""The frame of a mapping if nothing says otherwise, 1 MiB aligned; FRAME + 0x1000 is the plainest that is not congruent."""

PLAIN = Configuration()

KINDS = (
    "boot", "vm-create", "recover", "alloc", "claim", "map", "unmap", "attach", "detach", "disown", "free", "release", "probe",
    "vfio-join", "vfio-map", "vfio-unmap", "vfio-leave", "iommufd-attach", "ioas-map", "ioas-unmap", "iommufd-detach",
    "iommufd-close", "hwpt-alloc", "hwpt-free", "exit", "dma-map", "dma-unmap", "msi-map", "access-pin", "ioas-revoke",
    "reset", "lookup", "vm-delete", "replace", "map-scattered", "driver-map", "driver-unmap", "vm-finalise", "unplug", "kexec",
)  # fmt: skip
KIND_RANK = {kind: KINDS.index(kind) if kind in KINDS else len(KINDS) for kind in ops.KINDS}
"""Kinds of operation, the most ordinary first."""

_SIZES = ("pages", "runs", "run_pages", "stride", "pgcount", "pgsize", "gap")


def lighter(
    config: Configuration, operations: Sequence[ops.Operation], than: Configuration, those: Sequence[ops.Operation]
) -> bool:
    """Whether the first trace is strictly simpler than the second."""
    if len(operations) != len(those):
        return len(operations) < len(those)
    if config is not than and config != than:
        mine, theirs = start_weight(config), start_weight(than)
        if mine != theirs:
            return mine < theirs
    return operations_weight(operations) < operations_weight(those)


@lru_cache(maxsize=256)
def start_weight(config: Configuration) -> tuple[Any, ...]:
    """What is unusual about a start: answers, other fields, and how many devices there are."""
    unusual = [
        item.name
        for item in fields(Configuration)
        if item.name not in ("policies", "devices", "profile") and getattr(config, item.name) != getattr(PLAIN, item.name)
    ]
    answers = differences(config.policies)
    natural = "l1vh" if config.l1vh else "default"
    return (
        len(answers),
        len(unusual),
        config.devices[:4] != DEVICES[: len(config.devices)],
        len(config.devices),
        config.profile != natural,
        len(config.left_domains) + len(config.left_devices),
        len(config.skip),
        abs(config.iova_width - PLAIN.iova_width),
        abs(config.root_pool - PLAIN.root_pool),
        config.domain_limit,
        min(config.unique_id, (1 << 32) - config.unique_id),
        config.left_domains,
        config.left_devices,
        config.left_deposit,
        tuple(QUESTIONS[name].alternatives.index(answer) for name, answer in answers.items()),
        tuple(repr(device) for device in config.devices),
        config.skip,
    )


def operations_weight(operations: Sequence[ops.Operation]) -> tuple[Any, ...]:
    """What is unusual about operations, all taken together; for traces of equal length."""
    each = [operation_weight(operation) for operation in operations]
    return (
        sum(weight[0] for weight in each),
        sum(weight[1] for weight in each),
        sum(weight[2] for weight in each),
        sum(weight[3] for weight in each),
        *(tuple(weight[place] for weight in each) for place in (1, 4, 5, 6, 7)),
    )


@lru_cache(maxsize=4096)
def operation_weight(operation: ops.Operation) -> tuple[Any, ...]:
    """One operation: refusals, kind, unusual words, sizes, details of refusals, device, addresses, bare values."""
    words = sum(getattr(operation, name, plain) != plain for name, plain in (("prot", "rw"), ("gfp", "kernel"), ("mapped", True)))
    words += sum(bool(getattr(operation, name, False)) for name in ("probe", "mmio", "small", "short", "piece"))
    words += 2 * (getattr(operation, "by", 0) != 0)
    sizes = sum(getattr(operation, name, 0) for name in _SIZES)
    place = getattr(operation, "device", 0) + getattr(operation, "group", 0)
    values = tuple(getattr(operation, name) for name in ops.field_names(type(operation)))
    return (
        sum(1 if fault.times == 1 else 2 for fault in operation.faults),
        KIND_RANK[operation.kind],
        words,
        sizes,
        tuple(fault_weight(fault) for fault in operation.faults),
        place,
        (_iova_rank(getattr(operation, "iova", FIRST)), _paddr_rank(getattr(operation, "paddr", FRAME))),
        values,
    )


def fault_weight(fault: Fault) -> tuple[int, ...]:
    """One refusal: status class, arrival, elements done, how long, site."""
    status = (FAILED, SHORT).index(fault.status) if fault.status in (FAILED, SHORT) else 2 + fault.status
    if fault.site in KERNEL_SITES:
        status = 0
    site = CALL_SITES.index(fault.site) if fault.site in CALL_SITES else len(CALL_SITES)
    return (fault.nth, fault.done, (fault.times or 1 << 20) - 1, status, site if site >= len(KERNEL_SITES) else site + 100)


def _iova_rank(iova: int) -> tuple[int, int]:
    if iova in (FIRST, SECOND, 0):
        return (FIRST, SECOND, 0).index(iova), 0
    return (3 if not iova % FIRST else 4 if not iova % 0x1000 else 5), iova


def _paddr_rank(paddr: int) -> tuple[int, int]:
    if paddr in (FRAME, FRAME + 0x1000):
        return (FRAME, FRAME + 0x1000).index(paddr), 0
    return (2 if FRAME <= paddr < FRAME + FIRST else 3), paddr


__all__ = [
    "FAILED",
    "FIRST",
    "FRAME",
    "KIND_RANK",
    "SECOND",
    "SHORT",
    "fault_weight",
    "lighter",
    "operation_weight",
    "operations_weight",
    "start_weight",
]
