"""A trace as a KUnit test can play it: the calls into the driver in order, and what the hypervisor answered to each hypercall.

The run is listened to, not interpreted. A small mirror of the hypervisor follows it by the rules of the C test (``world.c``); where
it does not end with what the hypervisor model has, the test could not be trusted, and :class:`CannotPlay` says so.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from hvmodel import operations as ops
from hvmodel.callers.books import DomainBook
from hvmodel.callers.watch import AttachCall, MapCall, UnmapCall
from hvmodel.hypervisor import abi
from hvmodel.hypervisor.objects import Place
from hvmodel.kernel.iommu import Device
from hvmodel.properties.verdicts import HypercallRecord
from hvmodel.ranges import RangeMap, merged
from hvmodel.traces.export.case import Case
from hvmodel.world import VMM_TGID, World

MOST_ANSWERS = 1000
MOST_PAGES = 1 << 20
"""Hypercalls, and pages mapped, that a test can hold."""


class CannotPlay(Exception):
    """Why a trace cannot be played in a KUnit test, in one line."""


class _DecidedError(Exception):
    """The property has failed: what the callers do next is not played."""


@dataclass(frozen=True, slots=True)
class Answer:
    """One hypercall: words, the first bytes of the input page that count, and where the device that it names is afterwards."""

    step: int
    control: int
    status: int
    header: bytes
    record: HypercallRecord
    place: Place | None

    @property
    def refused(self) -> bool:
        """Whether a fault of the trace decided."""
        return self.record.refused


@dataclass(slots=True)
class Play:
    """One call or event of a step. ``name`` is probe, alloc, attach, free, release, lookup, map or unmap (calls of the driver),
    request (the operation itself goes through the IOMMU core), by (another thread acts), moved (the hypervisor moves a device) or
    unplugged. ``decides``: the property failed in it. ``places``: where the device may be after it, by what was answered."""

    step: int
    name: str
    data: object = None
    book: DomainBook | None = None
    device: Device | None = None
    ok: bool = True
    decides: bool = False
    no_gap: bool = False
    places: tuple[Place, ...] = ()


@dataclass(slots=True)
class Script:
    """All of a trace up to where its property failed (``decided``), or to its end. ``world`` is as it was there,
    ``places`` is where each device was at the start."""

    world: World
    plays: list[Play] = field(default_factory=list)
    answers: list[Answer] = field(default_factory=list)
    places: dict[int, Place] = field(default_factory=dict)
    decided: bool = False


_REQUESTS = (ops.Map, ops.MapScattered, ops.Unmap)


class Listener:
    """Hears a world: its driver calls (``Judge.story``) and its hypercalls (the door)."""

    def __init__(self, world: World, wanted: str | None) -> None:
        self.world, self.wanted = world, wanted
        self.script = Script(world)
        self.step = 0
        self.operation: ops.Operation = ops.Boot()
        self._begun: tuple[str, DomainBook | None, Device | None] = ("", None, None)
        self._open = False
        self._record: HypercallRecord | None = None
        self._partition = 0
        self._places = {key: device.place for key, device in world.hypervisor.devices.items()}
        self.script.places = dict(self._places)
        self._excused = False
        self.mirror = {ident: _copy(domain.table) for ident, domain in world.hypervisor.domains.items()}
        self.mapped = 0
        self._door: Callable[[int, bytearray, bytearray], int] = world.kernel.door
        world.kernel.door = self._listen
        world.judge.story = self._hear

    # --- hypercalls -------------------------------------------------------------------------------------------------------

    def _listen(self, control: int, page: bytearray, output: bytearray) -> int:
        before = bytes(page)
        self._record = None
        try:
            return self._door(control, page, output)
        finally:
            if self._record is not None:
                self._answer(control, before, self._record)

    def _answer(self, control: int, page: bytes, record: HypercallRecord) -> None:
        if len(self.script.answers) >= MOST_ANSWERS:
            raise CannotPlay(f"more than {MOST_ANSWERS} hypercalls")
        code = record.code
        size = abi.LAYOUTS[code][0].size + (8 if code == abi.HVCALL_MAP_DEVICE_GPA_PAGES else 0) if code in abi.LAYOUTS else 0
        key = self._moved(code, page)
        place = self._places.get(key) if key is not None else None
        self.script.answers.append(Answer(self.step, control, record.status, page[:size], record, place))
        self._reflect(control, page, record)

    def _moved(self, code: int, page: bytes) -> int | None:
        """The device that a call names; afterwards all devices are where they are."""
        named = None
        hypervisor = self.world.hypervisor
        for key, device in hypervisor.devices.items():
            if self._places[key] != device.place:
                if named is not None or code not in _NAMING:
                    raise CannotPlay("the hypervisor moves a device that the hypercall does not name")
                named = key
                self._places[key] = device.place
        if named is None and code in _NAMING:
            named = self._key(code, page)
        return named

    def _key(self, code: int, page: bytes) -> int | None:
        ident = int.from_bytes(page[_NAMING[code] : _NAMING[code] + 8], "little")
        for book in self.world.books.devices:
            own = abi.device_id(abi.HV_DEVICE_TYPE_LOGICAL, book.device.requester_own & abi.U32)
            if ident in (own, abi.device_id(abi.HV_DEVICE_TYPE_PCI, book.device.requester & abi.U32)):
                return book.key
        return None

    def _reflect(self, control: int, page: bytes, record: HypercallRecord) -> None:
        """What the C test's own hypervisor makes of it."""
        ident = int.from_bytes(page[20:24], "little")
        start, done = control >> abi.REP_START_SHIFT & abi.REP_MASK, record.completed
        table = self.mirror.get(ident)
        if record.code == abi.HVCALL_CREATE_DEVICE_DOMAIN and not record.status & abi.STATUS_MASK:
            self.mirror.setdefault(ident, RangeMap())
        elif record.code == abi.HVCALL_DELETE_DEVICE_DOMAIN and not record.status & abi.STATUS_MASK:
            self.mirror.pop(ident, None)
        elif record.code == abi.HVCALL_MAP_DEVICE_GPA_PAGES and table is not None and done > start:
            at = (int.from_bytes(page[32:40], "little") >> abi.PAGE_SHIFT) + start
            flags = int.from_bytes(page[28:32], "little") & 3
            for frame, length in abi.decode_runs(page[40 + 8 * start : 40 + 8 * done], done - start):
                table.set(at, at + length, frame, flags)
                at += length
            self.mapped += done - start
        elif record.code == abi.HVCALL_UNMAP_DEVICE_GPA_PAGES and table is not None and done > start:
            at = int.from_bytes(page[24:32], "little") >> abi.PAGE_SHIFT
            table.clear(at + start, at + done)
        if self.mapped > MOST_PAGES:
            raise CannotPlay(f"more than {MOST_PAGES} pages are mapped")

    # --- calls ------------------------------------------------------------------------------------------------------------

    def _hear(self, what: str, data: object) -> None:
        if what == "hypercall":
            assert isinstance(data, HypercallRecord)
            self._record = data
            return
        if what == "call":
            assert isinstance(data, tuple)
            if self._failed():  # since the last call returned
                self._decide()
            self._begin(data)
            return
        play = self._play(what, data)
        self._open = False
        if play is not None:
            self.script.plays.append(play)
        if play is not None and play.name != "request" and self._failed():
            self._decide()

    def _decide(self) -> None:
        """The last play is where it failed. A request of the IOMMU core goes on by itself."""
        self.script.decided = True
        if self.script.plays and self.script.plays[-1].step == self.step:
            self.script.plays[-1].decides = True
            if self.script.plays[-1].name == "request":
                return
        raise _DecidedError

    def _failed(self) -> bool:
        return any(violation.property == self.wanted for violation in self.world.judge.violations)

    def _begin(self, data: tuple[str, DomainBook | None, Device | None]) -> None:
        """A call is about to be made: by whom, and where do the devices stand?"""
        self._begun, self._open = data, True
        device = data[2]
        self._excused = device is not None and self.world.books.devices[device.number].excused
        partition = self.partition(self.world.kernel.cpu.tgid)
        if partition != self._partition:
            self._partition = partition
            self.script.plays.append(Play(self.step, "by", partition))
        self._by_itself()

    def _by_itself(self) -> None:
        """What the hypervisor has moved without being asked by a hypercall: a guest ended, a device was pulled out."""
        if isinstance(self.operation, ops.Unplug) and not self._of_step():
            self.script.plays.append(Play(self.step, "unplugged", self.operation.device))
        for key, device in self.world.hypervisor.devices.items():
            if self._places[key] != device.place:
                self._places[key] = device.place
                self.script.plays.append(Play(self.step, "moved", key, places=(device.place,)))

    def partition(self, tgid: int) -> int:
        """The partition that a thread's process manages, or 0."""
        kernel = self.world.kernel
        return kernel.mshv_pid_to_partid(tgid) if kernel.mshv and tgid >= VMM_TGID else 0

    def _play(self, what: str, data: object) -> Play | None:
        _name, book, device = self._begun
        if isinstance(data, MapCall | UnmapCall):
            if isinstance(self.operation, _REQUESTS):
                return self._request(data.book)
            return Play(self.step, "map" if isinstance(data, MapCall) else "unmap", data, data.book)
        if isinstance(data, AttachCall):
            gap = data.old is not None and self.world.judge.offers_way(data.old.place, data.new.place) and not self._excused
            places = tuple(sorted(self.world.books.devices[data.device.number].places))
            return Play(self.step, "attach", data, data.new, data.device, data.ret == 0, no_gap=gap, places=places)
        if what == "freed":
            assert isinstance(data, DomainBook)
            return Play(self.step, "free", None, data)
        if what == "released":
            assert isinstance(data, Device)
            places = tuple(sorted(self.world.books.devices[data.number].places))
            return Play(self.step, "release", None, None, data, places=places)
        if not isinstance(data, tuple):
            return None
        if what == "allocated":
            return Play(self.step, "alloc", None, data[0] or book, device, data[0] is not None)
        if what == "probed":
            return Play(self.step, "probe", None, None, data[0], data[1] == 0)
        if what == "looked up":
            return Play(self.step, "lookup", data[1], data[0])
        return None

    def _endless(self) -> Play:
        """The call that did not return."""
        name, book, device = self._begun
        if name == "attach_dev" and book is not None and device is not None and device.group is not None:
            old = self.world.books.current(device.group)
            call = AttachCall(device, book, old, 0, False, book.place, None, None)
            return Play(self.step, "attach", call, book, device)
        names = {"domain_alloc_paging": "alloc", "free": "free", "release_device": "release", "probe_device": "probe"}
        if name not in names:
            raise CannotPlay(f"{name} does not end, and is not called by the test itself")
        return Play(self.step, names[name], None, book, device)

    def _request(self, book: DomainBook) -> Play | None:
        """The operation as one play, however many calls it takes."""
        last = self.script.plays[-1] if self.script.plays else None
        if last is not None and last.step == self.step and last.name == "request":
            return None
        return Play(self.step, "request", self.operation, book)

    # --- steps ------------------------------------------------------------------------------------------------------------

    def run(self, step: int, operation: ops.Operation) -> None:
        """One operation, and what it did besides driver calls."""
        self.step, self.operation = step, operation
        if isinstance(operation, ops.Kexec):
            raise CannotPlay("a test cannot start another kernel")
        if asked_for(operation) > MOST_PAGES:
            raise CannotPlay(f"step {step} asks for more than {MOST_PAGES} pages")
        try:
            outcome = self.world.apply(operation)
            if isinstance(operation, _REQUESTS) and outcome.applied and not self._of_step("request"):
                self.script.plays.append(Play(step, "request", operation, self.world.books.domains.get(operation.domain)))
            if outcome.applied:
                self._by_itself()
            if any(violation.property == self.wanted for violation in outcome.violations):
                if self._open and not isinstance(operation, _REQUESTS):
                    self.script.plays.append(self._endless())
                self._decide()
        except _DecidedError:
            pass

    def _of_step(self, name: str | None = None) -> list[Play]:
        return [play for play in self.script.plays if play.step == self.step and name in (None, play.name)]

    def check(self) -> None:
        """Raise :class:`CannotPlay` unless the mirror has what the hypervisor has."""
        domains = self.world.hypervisor.domains
        for ident in {*domains, *self.mirror}:
            there = merged([(r.start, r.end, r.frame) for r in domains[ident].table]) if ident in domains else None
            here = merged([(r.start, r.end, r.frame) for r in self.mirror[ident]]) if ident in self.mirror else None
            if there != here:
                raise CannotPlay(f"domain {ident:#x} does not end as the hypercalls and their answers say")


_NAMING = {
    abi.HVCALL_ATTACH_DEVICE_DOMAIN: 24,
    abi.HVCALL_DETACH_DEVICE_DOMAIN: 8,
    abi.HVCALL_ATTACH_DEVICE: 8,
    abi.HVCALL_DETACH_DEVICE: 8,
}
"""Calls that name a device, and at which byte of their input."""


def asked_for(operation: ops.Operation) -> int:
    """How many pages the longest call of an operation is about."""
    match operation:
        case ops.Map() | ops.Unmap():
            return operation.pages
        case ops.MapScattered():
            return max(operation.runs, operation.run_pages)
        case ops.DriverMap() | ops.DriverUnmap():
            return (operation.pgsize * operation.pgcount & abi.U64) >> abi.PAGE_SHIFT
    return 0


def _copy(table: RangeMap) -> RangeMap:
    copy = RangeMap()
    for run in table:
        copy.set(run.start, run.end, run.frame, run.tag)
    return copy


def script(case: Case) -> Script:
    """The script of a case. Raises :class:`CannotPlay`."""
    listener = Listener(World(case.trace.config, case.driver), case.verdict.property)
    for step in case.steps:
        listener.run(step.number, step.operation)
        if listener.script.decided:
            break
    listener.check()
    return listener.script


__all__ = ["Answer", "CannotPlay", "Play", "Script", "script"]
