"""Requests to the IOMMU core as user space would have the kernel make them: through VFIO, or through iommufd.

A claim, an allocation and an attach become one joining of a container or one attach to an address space; maps and unmaps become
those of the container; whatever takes a group or a domain away becomes a leaving. It is a guess, made in several styles; whether it
shows the same failure only a run tells. What stays as it is: booting, the lives of VMs, what user space asks, the host's own work.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

from hvmodel import operations as ops
from hvmodel.configuration import DEVICES, Configuration
from hvmodel.faults import Fault
from hvmodel.gears.minimise.trial import Case

ARRIVALS = (1, 2, 3, 4, 5, 6)
"""Arrivals that a refusal is tried at: a joining attaches the group several times where a request to the core does it once."""

PLACED = 3
"""A trace with so many refusals keeps each at its operation and has all of them at the same arrival."""


@dataclass(frozen=True, slots=True)
class Style:
    """``iommufd`` or VFIO; ``early``: a group is opened with the first request that has to do with it, else when it is attached;
    ``second``: another group joins at the end; ``probe``: VFIO of Linux 6.12; ``small``: iommufd maps page by page, as for VFIO's
    first interface; ``dies``: its process ends where a group would be left."""

    iommufd: bool = False
    early: bool = True
    second: bool = False
    probe: bool = False
    small: bool = False
    dies: bool = False


STYLES = (
    *(Style(iommufd, early, second) for second in (False, True) for iommufd in (False, True) for early in (True, False)),
    *(Style(iommufd, dies=True) for iommufd in (False, True)),
    Style(probe=True),
    Style(True, small=True),
)


class _Teller:
    """One translation in one style."""

    def __init__(self, config: Configuration, style: Style) -> None:
        self.config, self.style = config, style
        self.told: list[ops.Operation] = []
        self._carried: tuple[Fault, ...] = ()
        self._open: dict[int, tuple[int, int]] = {}
        """Group -> container or address space, and the process that has it open."""
        self._wanted: dict[int, tuple[int, int]] = {}
        """Domain -> the group that it was allocated for, and the process."""
        self._claimed: dict[int, int] = {}
        """Group -> the process that claimed it and has not opened it."""
        self._tables: set[int] = set()
        """Domains that are page tables which user space has made."""

    def tell(self, operations: Sequence[ops.Operation]) -> list[ops.Operation]:
        """All of them, and what may follow in an ordinary life."""
        for operation in operations:
            before = len(self.told)
            self._carried += operation.faults
            self._one(operation)
            if len(self.told) > before and self._carried:
                self.told[-1] = replace(self.told[-1], faults=self._carried)
                self._carried = ()
        self._rest()
        return self.told

    def _one(self, op: Any) -> None:
        act = _ACTS.get(type(op))
        if act is not None:
            act(self, op)
            return
        self.told.append(replace(op, faults=()))
        match op:
            case ops.Kexec():
                self._open, self._wanted, self._claimed, self._tables = {}, {}, {}, set()
            case ops.VfioJoin(container=number) | ops.IommufdAttach(ioas=number):
                self._open[op.group] = (number, op.by)
            case ops.VfioLeave() | ops.IommufdClose():
                self._open.pop(op.group, None)

    # --- groups and domains -------------------------------------------------------------------------------------------------

    def _opened(self, group: int, number: int, by: int) -> None:
        """A process opens a group and puts it into a container or address space."""
        self._open[group] = (number, by)
        self._claimed.pop(group, None)
        if self.style.iommufd:
            self.told.append(ops.IommufdAttach(number, group, 0, by))
        else:
            self.told.append(ops.VfioJoin(number, group, by, self.style.probe))

    def claim(self, op: ops.Claim) -> None:
        if op.group in self._open:  # then that failed: nobody claims what is owned
            self._opened(op.group, self._open[op.group][0], op.by)
        elif self.style.early:
            self._opened(op.group, 1, op.by)
        else:
            self._claimed[op.group] = op.by

    def alloc(self, op: ops.Alloc) -> None:
        group = self.config.devices[op.device].group
        self._wanted[op.domain] = (group, op.by)
        if not self.style.early:
            return
        if group not in self._open:
            self._opened(group, op.domain, op.by)
        elif self.style.iommufd and self._open[group][0] != op.domain:
            self._tables.add(op.domain)
            self.told.append(ops.HwptAlloc(op.domain, self._open[group][0], op.device))
        else:
            other = next((device.group for device in self.config.devices if device.group not in self._open), None)
            if other is not None:
                self._opened(other, op.domain, op.by)

    def attach(self, op: ops.Attach | ops.Replace) -> None:
        if op.group not in self._open:
            self._opened(op.group, op.domain, self._claimed.get(op.group, op.by))
        elif self._open[op.group][0] != op.domain:
            number, by = self._open[op.group]
            if self.style.iommufd and op.domain in self._tables:
                self.told.append(ops.IommufdAttach(number, op.group, op.domain, by))
                return
            if not self.style.iommufd:
                self.told.append(ops.VfioLeave(op.group))
            self._opened(op.group, op.domain, by)

    def leave(self, op: ops.Detach | ops.Disown) -> None:
        """The group is left: by a file's closing, or its process's end."""
        if op.group in self._claimed and op.group not in self._open:
            self._opened(op.group, 1, self._claimed[op.group])
        if op.group in self._open:
            self._left(op.group, isinstance(op, ops.Detach))

    def _left(self, group: int, detached: bool) -> None:
        _number, by = self._open[group]
        if self.style.dies:
            self.told.append(ops.Exit(by))
            self._open = {other: held for other, held in self._open.items() if held[1] != by}
        elif self.style.iommufd and detached:
            self.told.append(ops.IommufdDetach(group))
        else:
            del self._open[group]
            self.told.append(ops.IommufdClose(group) if self.style.iommufd else ops.VfioLeave(group))

    def free(self, op: ops.Free) -> None:
        if op.domain in self._tables:
            self._tables.discard(op.domain)
            self.told.append(ops.HwptFree(op.domain))
            return
        self._reach(op.domain)
        for group, (number, _by) in list(self._open.items()):
            if number == op.domain and group in self._open:
                self._left(group, False)

    # --- mappings -----------------------------------------------------------------------------------------------------------

    def _reach(self, domain: int) -> int:
        """The container or address space that stands for a domain; one is opened if there is none."""
        group, by = self._wanted.get(domain, (self.config.devices[0].group, 0))
        if not any(number == domain for number, _by in self._open.values()):
            if group in self._open:
                return self._open[group][0]
            self._opened(group, domain, self._claimed.get(group, by))
        return domain

    def map(self, op: ops.Map) -> None:
        self._mapped(op.domain, op.iova, op.paddr, op.pages, 0, 0, op.prot)

    def map_scattered(self, op: ops.MapScattered) -> None:
        self._mapped(op.domain, op.iova, op.paddr, op.runs * op.run_pages, op.run_pages, max(op.stride - op.run_pages, 0), "rw")

    def driver_map(self, op: ops.DriverMap) -> None:
        self._mapped(op.domain, op.iova & ~0xFFF, op.paddr, _pages(op), 0, 0, op.prot)

    def _mapped(self, domain: int, iova: int, paddr: int, pages: int, piece: int, gap: int, prot: str) -> None:
        number, pages = self._reach(domain), max(pages, 1)
        if self.style.iommufd:
            by = next((by for other, by in self._open.values() if other == number), 0)
            self.told.append(ops.IoasMap(number, iova, paddr, pages, piece, gap, prot, False, self.style.small, False, by))
        else:
            self.told.append(ops.VfioMap(number, iova, paddr, pages, piece, gap, prot))

    def unmap(self, op: ops.Unmap) -> None:
        self._unmapped(op.domain, op.iova, op.pages)

    def driver_unmap(self, op: ops.DriverUnmap) -> None:
        self._unmapped(op.domain, op.iova & ~0xFFF, _pages(op))

    def lookup(self, op: ops.Lookup) -> None:
        """Callers look up what they are about to unmap."""
        self._unmapped(op.domain, 0, 0)

    def _unmapped(self, domain: int, iova: int, pages: int) -> None:
        number = self._reach(domain)
        self.told.append(ops.IoasUnmap(number, iova, pages) if self.style.iommufd else ops.VfioUnmap(number, iova, pages))

    def dma_map(self, op: ops.DmaMap) -> None:
        """A stream through a domain that is not the device's own by default: what nobody but the process that made it can map."""
        number, _by = self._open.get(self.config.devices[op.device].group, (0, 0))
        if number:
            self._mapped(number, op.iova, op.paddr, op.pages, 0, 0, op.prot)

    def dma_unmap(self, op: ops.DmaUnmap) -> None:
        """Its end."""
        number, _by = self._open.get(self.config.devices[op.device].group, (0, 0))
        if number:
            self._unmapped(number, 0, 0)

    def msi_map(self, op: ops.MsiMap) -> None:
        """No driver of this kind announces a window for it, so no kernel maps one."""

    def unplug(self, op: ops.Unplug) -> None:
        self.told.append(ops.Release(op.device))

    # --- the end ------------------------------------------------------------------------------------------------------------

    def _rest(self) -> None:
        """What an ordinary life goes on with: another group joins, everything is unmapped, all is closed."""
        if self.told and isinstance(self.told[-1], ops.Recover):
            return
        before = len(self.told)
        for domain in self._wanted:
            self._reach(domain)
        held = dict(self._open)
        other = next((device.group for device in self.config.devices if device.group not in held), None)
        if self.style.second and held and other is not None:
            self._opened(other, *next(iter(held.values())))
            self._left(other, False)
        for number in dict.fromkeys(number for number, _by in held.values()):
            self.told.append(ops.IoasUnmap(number, 0, 0) if self.style.iommufd else ops.VfioUnmap(number, 0, 0))
        for group in held:
            if group in self._open:
                self._left(group, False)
        self.told.append(ops.Recover())
        if self._carried:
            self.told[before] = replace(self.told[before], faults=self._carried)


def _pages(op: ops.DriverMap | ops.DriverUnmap) -> int:
    return min(max(op.pgsize * op.pgcount >> 12, 1), 512)


_ACTS: dict[type[ops.Operation], Callable[[_Teller, Any], None]] = {
    ops.Claim: _Teller.claim,
    ops.Alloc: _Teller.alloc,
    ops.Attach: _Teller.attach,
    ops.Replace: _Teller.attach,
    ops.Detach: _Teller.leave,
    ops.Disown: _Teller.leave,
    ops.Free: _Teller.free,
    ops.Map: _Teller.map,
    ops.MapScattered: _Teller.map_scattered,
    ops.DriverMap: _Teller.driver_map,
    ops.Unmap: _Teller.unmap,
    ops.DriverUnmap: _Teller.driver_unmap,
    ops.Lookup: _Teller.lookup,
    ops.Unplug: _Teller.unplug,
    ops.DmaMap: _Teller.dma_map,
    ops.DmaUnmap: _Teller.dma_unmap,
    ops.MsiMap: _Teller.msi_map,
}
"""How each request to the core is told."""


def roomy(config: Configuration) -> Configuration:
    """The same start with all the usual devices, if it has some of them: a life can need another one."""
    usual = config.devices == DEVICES[: len(config.devices)]
    return replace(config, devices=DEVICES) if usual else config


def translated(config: Configuration, operations: Sequence[ops.Operation], style: Style) -> list[ops.Operation]:
    """Operations as user space would bring them about, in one style; each refusal is at the operation that took the refused one's
    place, and what may follow comes after them, up to recovery."""
    return _Teller(config, style).tell(operations)


def translations(config: Configuration, operations: Sequence[ops.Operation]) -> Iterator[Case]:
    """All translations: each style, with each refusal at several arrivals and, if there are one or two, at each operation."""
    start, seen = roomy(config), set[tuple[ops.Operation, ...]]()
    for style in STYLES:
        base = tuple(translated(start, operations, style))
        for told in _placed(base):
            if told not in seen:
                seen.add(told)
                yield Case(start, told)


def _placed(base: tuple[ops.Operation, ...]) -> Iterator[tuple[ops.Operation, ...]]:
    faults = [(index, fault) for index, operation in enumerate(base) for fault in operation.faults]
    yield base
    if not faults:
        return
    bare = tuple(replace(operation, faults=()) if operation.faults else operation for operation in base)
    if len(faults) == 1:
        first, fault = faults[0]
        for index in sorted(range(len(bare) - 1), key=lambda index: (index != first, index)):
            for nth in ARRIVALS:
                yield _with(bare, [(index, replace(fault, nth=nth))])
        return
    if len(faults) >= PLACED:
        for nth in ARRIVALS:
            yield _with(bare, [(index, replace(fault, nth=nth)) for index, fault in faults])
        return
    own, together = [index for index, _fault in faults], [[index] * len(faults) for index in range(len(bare) - 1)]
    for places in (own, *together):  # one closing of a file does what took the core several requests
        for nths in product(ARRIVALS, repeat=len(faults)):
            yield _with(
                bare, [(index, replace(fault, nth=nth)) for index, (_, fault), nth in zip(places, faults, nths, strict=True)]
            )


def _with(bare: tuple[ops.Operation, ...], faults: Sequence[tuple[int, Fault]]) -> tuple[ops.Operation, ...]:
    told = list(bare)
    for index, fault in faults:
        told[index] = replace(told[index], faults=(*told[index].faults, fault))
    return tuple(told)


__all__ = ["STYLES", "Style", "roomy", "translated", "translations"]
