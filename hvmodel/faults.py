"""Faults: places where the world answers differently than its state would, as plain data.

A fault names a **site** (a hypercall by its name, or a kernel service), which arrival there within the operation it applies to,
the answer, and how long it lasts. The same object is what a rule draws, what a trace stores and what the minimiser removes.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

KZALLOC: Final = "kzalloc"
ALLOC_PAGES: Final = "alloc_pages"
SYSFS_ADD: Final = "iommu_device_sysfs_add"
REGISTER: Final = "iommu_device_register"

KERNEL_SITES: Final = (KZALLOC, ALLOC_PAGES, SYSFS_ADD, REGISTER)
"""Kernel services that can fail; every other site is a hypercall name of ``hypervisor.abi.CALL_NAMES``."""

CALL_SITES: Final = (
    *KERNEL_SITES,
    "CREATE_DEVICE_DOMAIN",
    "DELETE_DEVICE_DOMAIN",
    "ATTACH_DEVICE_DOMAIN",
    "DETACH_DEVICE_DOMAIN",
    "ATTACH_DEVICE",
    "DETACH_DEVICE",
    "MAP_DEVICE_GPA_PAGES",
    "UNMAP_DEVICE_GPA_PAGES",
    "DEPOSIT_MEMORY",
)
"""The sites that a driver of this interface can pass; a run counts which of them it reached."""


def place_of(site: str) -> str:
    """Where something is refused; attaching to a domain and to a guest count as one place, and so does detaching."""
    return site.removesuffix("_DOMAIN")


@dataclass(frozen=True, slots=True)
class Fault:
    """One refusal.

    ``nth`` counts arrivals at the site within the operation, from 1. ``status`` is the hypervisor's answer (unused for kernel
    services, which fail with -ENOMEM); ``done`` is how many elements of a rep call take effect before it. ``times`` is how
    many arrivals in a row are refused, beyond the operation if need be; None means until lifted, that is until recovery.
    """

    site: str
    nth: int = 1
    status: int = 0
    done: int = 0
    times: int | None = 1

    def __str__(self) -> str:
        text = f"{self.site}#{self.nth}"
        if self.site not in KERNEL_SITES:
            text += f"={self.status:#x}"
        if self.done:
            text += f" after {self.done}"
        if self.times != 1:
            text += " until lifted" if self.times is None else f" x{self.times}"
        return text


class FaultPlan:
    """Decides, arrival by arrival, which fault applies; remembers what was reached and what fired."""

    __slots__ = ("_active", "_before", "fired", "order", "reached")

    def __init__(self) -> None:
        self._active: list[list[Any]] = []
        """Fault, whether it has started, refusals left (None: no end)."""
        self._before: dict[str, int] = {}
        self.fired: list[Fault] = []
        """Faults that decided an answer in this operation, once per answer."""
        self.reached: dict[str, int] = {}
        """Arrivals per site over the whole run."""
        self.order: list[str] | None = None
        """When set, the site of each arrival is added to it."""

    def begin(self, faults: tuple[Fault, ...]) -> None:
        """A new operation with its own faults; those that still last stay in force."""
        if self.fired:
            self.fired = []
        if self._active:
            self._active = [entry for entry in self._active if entry[1] and entry[2] != 0]
        if faults:
            self._active += [[fault, False, fault.times] for fault in faults]
        if self._active:
            self._before = dict(self.reached)

    @property
    def counts(self) -> dict[str, int]:
        """Arrivals per site in this operation; known while a fault may apply."""
        return {site: count - self._before.get(site, 0) for site, count in self.reached.items()}

    def lift(self) -> None:
        """Recovery: nothing is refused any more."""
        self._active = []

    @contextmanager
    def aside(self) -> Iterator[None]:
        """While a judge asks something of the driver: nothing is refused, and no arrival counts."""
        active, reached, order = self._active, dict(self.reached), self.order
        self._active, self.order = [], None
        try:
            yield
        finally:
            self._active, self.reached, self.order = active, reached, order

    @property
    def pending(self) -> bool:
        """Whether a fault may still apply."""
        return bool(self._active)

    def awaits(self, site: str) -> bool:
        """Whether a fault may still apply to an arrival here."""
        return any(entry[0].site == site for entry in self._active)

    def arrive(self, site: str) -> Fault | None:
        """The fault that applies to this arrival, or None. A hypercall fault has fired only once :meth:`fire` is told so."""
        total = self.reached.get(site, 0) + 1
        self.reached[site] = total
        if self.order is not None:
            self.order.append(site)
        if not self._active:
            return None
        count = total - self._before.get(site, 0)
        for entry in self._active:
            fault, started, left = entry
            if fault.site != site or left == 0 or (not started and count < fault.nth):
                continue
            entry[1] = True
            if left is not None:
                entry[2] = left - 1
            found: Fault = fault
            return found
        return None

    def fire(self, fault: Fault) -> None:
        """The fault decided an answer."""
        self.fired.append(fault)

    def refusals(self, *sites: str) -> int:
        """How many answers at these sites (all sites if none is named) were decided by a fault in this operation."""
        if not sites:
            return len(self.fired)
        return sum(fault.site in sites for fault in self.fired)
