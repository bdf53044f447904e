"""What it takes to cause a finding: who asks for its operations, and what has to fail besides.

The two are told of a run, from its operations and what came of them. Least powerful first they are in the order of
:attr:`Means.rank`: what somebody who is there can do with nothing failing; then with memory short, with one refusal of the
hypervisor, with more of them; then what only a request to the IOMMU core is known to do; last what only a caller does that the
kernel has not.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from hvmodel import operations as ops
from hvmodel.callers.levels import BEYOND as BEYOND_LEVEL
from hvmodel.callers.levels import CONTRACT
from hvmodel.configuration import Configuration
from hvmodel.faults import KERNEL_SITES, Fault
from hvmodel.hypervisor.abi import SHORTAGE_STATUSES

if TYPE_CHECKING:
    from hvmodel.world import Outcome

CALLERS = ("boot", "ioctls", "host", "core", "beyond")
"""Who asks, by increasing power: nobody, the host only boots; a user of VFIO, iommufd and VMs, by ioctls; the host's administrator
or the machine itself; a request to the IOMMU core; a caller that the kernel does not have."""

NOBODY, USER, HOST, CORE, BEYOND = range(5)

NEEDS = ("nothing", "shortage", "refusal", "refusals")
"""What fails besides: nothing; allocations, or the hypervisor wants memory; one answer of the hypervisor; more than one answer."""

NOTHING, SHORTAGE, REFUSAL, REFUSALS = range(4)

_HOST = {
    "probe": "hot plug",
    "release": "hot unplug",
    "reset": "a reset",
    "kexec": "kexec",
    "dma-map": "a driver's DMA",
    "dma-unmap": "a driver's DMA",
}
_WITH_DEVICES = frozenset({"release_device", "probe_device", "init"})
"""Calls that the end of everything makes when devices go and one comes back."""

_VM_LIFE = frozenset({"vm-create", "vm-finalise", "vm-delete"})
_ITSELF = frozenset({"boot", "recover"})


@dataclass(frozen=True, slots=True)
class Means:
    """``caller`` is an index into :data:`CALLERS`, ``needs`` one into :data:`NEEDS`; ``work`` is what of the host's own work it
    takes, ``refused`` how many answers were refused at each site, ``short`` where memory was short."""

    caller: int = NOBODY
    needs: int = NOTHING
    work: tuple[str, ...] = ()
    refused: tuple[tuple[str, int], ...] = ()
    short: tuple[str, ...] = ()

    @property
    def rank(self) -> tuple[bool, int, int]:
        """Sorts by power, the least first."""
        return (self.caller >= CORE, self.needs if self.caller < CORE else self.caller, self.caller + self.needs)

    @property
    def word(self) -> str:
        """Who asks, in a word."""
        return CALLERS[self.caller]

    def __str__(self) -> str:
        besides = " and ".join(_besides(self))
        if self.caller == USER:
            return f"a VMM user, if {besides}" if besides else "any VMM user, by ioctls alone"
        who = {
            NOBODY: "every host that boots",
            HOST: f"the host by {' and '.join(self.work)}",
            CORE: "a request to the IOMMU core (no ioctl for it is known)",
            BEYOND: "a caller that the kernel does not have",
        }[self.caller]
        return f"{who}, if {besides}" if besides else who


def _besides(means: Means) -> Iterable[str]:
    if means.refused:
        told = [site if count == 1 else f"{site} {'twice' if count == 2 else f'{count} times'}" for site, count in means.refused]
        yield f"the hypervisor refuses {' and '.join(told)}"
    if means.short:
        yield f"memory is short ({', '.join(means.short)})"


def is_shortage(fault: Fault) -> bool:
    """Whether an answer says that there is no memory: an allocation that fails, or a hypercall that wants memory first."""
    return fault.site in KERNEL_SITES or fault.status in SHORTAGE_STATUSES


@dataclass(slots=True)
class Account:
    """Follows a run and says who asked for all of it so far, and what was refused."""

    config: Configuration
    caller: int = NOBODY
    work: dict[str, None] = field(default_factory=dict)
    fired: list[Fault] = field(default_factory=list)
    _open: dict[int, int] = field(default_factory=dict)
    """Group -> the process that has its devices open."""

    def hear(self, operation: ops.Operation, outcome: Outcome) -> int:
        """An operation that applied, and what came of it; returns who asked for the run up to here."""
        caller = self._caller(operation, outcome.level)
        if caller > self.caller:
            self.caller = caller
        if caller == HOST:
            self.work[_HOST[operation.kind]] = None
        if outcome.fired:
            self.fired += outcome.fired
        if operation.kind in ops.IOCTLS:
            self._files(operation, outcome.result)
        return self.caller

    def failed(self, operation: ops.Operation, call: str) -> int:
        """The last operation fails in a driver call; returns as :meth:`hear`. When all is given back processes end, which is theirs
        to do, and devices are unplugged, which is the host's."""
        if isinstance(operation, ops.Recover) and (call in _WITH_DEVICES or self.caller == NOBODY):
            self.caller = max(self.caller, HOST)
            if self.caller == HOST:
                self.work[_HOST["release"]] = None
        return self.caller

    def _caller(self, operation: ops.Operation, level: int) -> int:
        kind = operation.kind
        if level == BEYOND_LEVEL:
            return BEYOND
        if kind in _ITSELF:
            return NOBODY
        if level == CONTRACT:
            return CORE
        if isinstance(operation, ops.Reset) and self.config.devices[operation.device].group in self._open:
            return USER  # VFIO_DEVICE_RESET
        if kind in _HOST:
            return HOST
        return USER if kind in ops.IOCTLS or kind in _VM_LIFE else CORE

    def _files(self, operation: Any, result: int) -> None:
        """Which groups are open afterwards; one that could not be attached counts as closed."""
        match operation:
            case ops.VfioJoin() | ops.IommufdAttach():
                if result == 0:
                    self._open.setdefault(operation.group, operation.by)  # who moves what is open has it open
            case ops.VfioLeave() | ops.IommufdClose():
                self._open.pop(operation.group, None)
            case ops.Exit():
                self._open = {group: by for group, by in self._open.items() if by != operation.by}

    @property
    def means(self) -> Means:
        """What the run took so far."""
        refused = Counter(fault.site for fault in self.fired if not is_shortage(fault))
        short = tuple(dict.fromkeys(fault.site for fault in self.fired if is_shortage(fault)))
        needs = NOTHING if not self.fired else SHORTAGE if not refused else REFUSAL
        if refused.total() + bool(short) > 1 and refused:
            needs = REFUSALS
        return Means(self.caller, needs, tuple(self.work), tuple(refused.items()), short)


def means_of(config: Configuration, told: Iterable[tuple[ops.Operation, Outcome]], call: str = "") -> Means:
    """What a run took: its operations, each with its outcome; ``call`` is the driver call in which the last one fails."""
    account = Account(config)
    for operation, outcome in told:
        if outcome.applied:
            account.hear(operation, outcome)
            account.failed(operation, call)
    return account.means


__all__ = [
    "BEYOND",
    "CALLERS",
    "CORE",
    "HOST",
    "NEEDS",
    "NOBODY",
    "NOTHING",
    "REFUSAL",
    "REFUSALS",
    "SHORTAGE",
    "USER",
    "Account",
    "Means",
    "is_shortage",
    "means_of",
]
