"""Which places an operation comes by: a world that notes every arrival at a fault site, in order."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

from hvmodel.faults import KERNEL_SITES, Fault, FaultPlan
from hvmodel.hypervisor.abi import CALL_CODES, REP_COUNT_SHIFT, REP_MASK, REP_START_SHIFT, STATUS_MASK
from hvmodel.world import World


class Arrival(NamedTuple):
    """One arrival at a site within an operation: the ``nth`` at this site, from 1. A hypercall of many elements begins with element
    ``start`` of ``elements``; other places have 0 of 0. ``failed``: without a refusal it succeeds in ``elements`` only."""

    site: str
    nth: int
    start: int
    elements: int
    failed: bool = False

    @property
    def refusable(self) -> bool:
        """Whether a refusal would change the answer, and a rule knows the site."""
        return not (self.failed and self.start >= self.elements) and (self.site in CALL_CODES or self.site in KERNEL_SITES)

    @property
    def place(self) -> tuple[str, int, int]:
        """The arrival without its number, which says nothing if an earlier call was repeated."""
        return (self.site, self.start, self.elements)


class RecordingPlan(FaultPlan):
    """A plan of faults that notes what arrives."""

    __slots__ = ("_numbers", "arrivals", "control")

    def __init__(self) -> None:
        super().__init__()
        self.arrivals: list[Arrival] = []
        """Those of the running operation."""
        self.control = 0
        """The control word of the hypercall that is about to arrive; 0 for everything else."""
        self._numbers: dict[str, int] = {}

    def begin(self, faults: tuple[Fault, ...]) -> None:
        self.arrivals, self._numbers = [], {}
        super().begin(faults)

    def arrive(self, site: str) -> Fault | None:
        nth = self._numbers[site] = self._numbers.get(site, 0) + 1
        control, self.control = self.control, 0
        found = super().arrive(site)
        failed = found is not None and site in KERNEL_SITES
        start, elements = control >> REP_START_SHIFT & REP_MASK, control >> REP_COUNT_SHIFT & REP_MASK
        self.arrivals.append(Arrival(site, nth, start, elements, failed))
        return found

    @contextmanager
    def aside(self) -> Iterator[None]:
        arrivals, numbers = self.arrivals, self._numbers
        self.arrivals, self._numbers = [], dict(numbers)
        try:
            with super().aside():
                yield
        finally:
            self.arrivals, self._numbers = arrivals, numbers


class RecordingWorld(World):
    """A world that says where its operations could have been refused."""

    plan = RecordingPlan
    faults: RecordingPlan

    def _door(self, control: int, page: bytearray, output: bytearray) -> int:
        faults = self.faults
        faults.control = control
        fired = len(faults.fired)
        word = super()._door(control, page, output)
        if word & STATUS_MASK:  # refused anyhow: only what it did before could be refused earlier
            arrival = faults.arrivals[-1]
            own = arrival.elements and len(faults.fired) == fired  # not by a fault, whose place is taken
            done = word >> REP_COUNT_SHIFT & REP_MASK if own else 0
            faults.arrivals[-1] = arrival._replace(elements=done, failed=True)
        return word


__all__ = ["Arrival", "RecordingPlan", "RecordingWorld"]
