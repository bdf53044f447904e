"""What the judges write down, and the state that they share."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from typing import NamedTuple

from hvmodel.callers.core import IommuCore
from hvmodel.drivers.interface import Driver
from hvmodel.hypervisor import Hypervisor, abi
from hvmodel.hypervisor.objects import Place
from hvmodel.kernel.iommu import Device
from hvmodel.kernel.services import Kernel


class Violation(NamedTuple):
    """A property failed. ``subject`` is what disagrees; ``shape`` describes the failing call without its values, so that hits
    of one kind can be told from hits of another."""

    property: str
    subject: str
    detail: str
    call: str
    shape: tuple[object, ...]


class HypercallRecord(NamedTuple):
    """One hypercall of a driver call. ``header`` is the start of the input page, up to the first list entry;
    ``refused`` says that a fault decided; ``where`` is the function and line that issued it, where a driver has lines."""

    code: int
    control: int
    header: bytes | bytearray
    status: int
    completed: int
    refused: bool
    where: str = ""


class Bench:
    """What every judge sees: the parties, the running call, and the place to write verdicts."""

    core: IommuCore
    kernel: Kernel
    hypervisor: Hypervisor
    driver: Driver

    def __init__(self) -> None:
        self.violations: list[Violation] = []
        """Violations of this operation."""
        self.environment: list[str] = []
        """What no driver could have avoided in this operation."""
        self.judged: defaultdict[str, int] = defaultdict(int)
        """How often each property's precondition was reached in this run."""
        self.muted: set[tuple[str, str]] = set()
        """(property, subject) pairs that have failed in this run and are not judged again."""
        self.call = ""
        self.calls: list[HypercallRecord] = []
        """Hypercalls of the running driver call."""
        self.refusals: Callable[..., int] = lambda *sites: 0

    def fail(self, name: str, subject: str, detail: str, *shape: object) -> None:
        """Write a violation down, once per run for each property and subject."""
        key = (name, subject)
        if key in self.muted:
            return
        self.muted.add(key)
        self.violations.append(Violation(name, subject, detail, self.call, shape))

    def place_of(self, device: Device) -> Place:
        """Where the hypervisor has a Linux device."""
        return self.hypervisor.place(self.core.books.devices[device.number].key)


def kind_of(place: Place) -> str:
    """default, NULL, created, guest or none."""
    if place.kind == "domain":
        return {0: "default", 0xFFFFFFFF: "NULL"}.get(place.id, "created")
    return place.kind


def target_of(record: HypercallRecord) -> Place | None:
    """The place that an attach hypercall asks for."""
    if record.code == abi.HVCALL_ATTACH_DEVICE_DOMAIN:
        return Place("domain", int.from_bytes(record.header[20:24], "little"))
    if record.code == abi.HVCALL_ATTACH_DEVICE:
        return Place("guest", int.from_bytes(record.header[0:8], "little"))
    return None
