"""Single hypercalls: are they well formed, do they name what exists, touch only what they are about, and do they end."""

from __future__ import annotations

from hvmodel.callers.books import DomainBook
from hvmodel.hypervisor import abi
from hvmodel.hypervisor.abi import (
    CONTROL_RESERVED,
    REP_CALLS,
    REP_COUNT_SHIFT,
    REP_MASK,
    SHORTAGE_STATUSES,
)
from hvmodel.hypervisor.objects import Place
from hvmodel.kernel.iommu import Device
from hvmodel.kernel.services import Runaway
from hvmodel.properties.verdicts import Bench, HypercallRecord, target_of

_RULES = {
    "use-after-free": "no-use-after-free",
    "input-page-overrun": "input-page-bounds",
    "uninitialised-read": "no-uninitialised-read",
    "null-write": "no-null-dereference",
    "out-of-bounds": "no-out-of-bounds",
    "sleep-in-atomic": "no-sleep-in-atomic",
    "gfp": "gfp-is-used",
    "lock": "context-is-balanced",
    "irqs": "context-is-balanced",
    "probe-lock": "context-is-balanced",
    "bug": "every-call-ends",
    "endless": "every-call-ends",
}

_PAGING = ("map_pages", "unmap_pages")

MAX_ROUNDS = 5_000
"""Rounds of the kernel's own rep helper in one driver call, beyond which the helper counts as endless."""

_DECIDING = {
    "domain_alloc_paging": (abi.HVCALL_CREATE_DEVICE_DOMAIN,),
    "map_pages": (abi.HVCALL_MAP_DEVICE_GPA_PAGES,),
}
"""The hypercalls whose shortage makes a driver call fail; attach for all others."""

MAX_CALLS = 50_000
"""Hypercalls in one driver call, however large it is: three times what 4 GiB of single pages need."""

MAX_DEPOSITS = 64
MAX_IDLE_DEPOSITS = 16


class HypercallJudge(Bench):
    """The properties of single hypercalls and of the kernel's context."""

    book: DomainBook | None
    device: Device | None
    call_pages: int
    idle_deposits: int
    issued: int
    """Hypercalls of the running call, without the rounds of the kernel's rep helper."""
    unrecovered: dict[int, int]
    """Calls that failed and did not succeed since -> lines in the log when they failed last."""
    named: dict[int, Device]
    reported: set[tuple[str, str]]
    """(rule, call) pairs that the kernel's checkers have reported in this run: one finding per rule and function."""
    overran: bool
    """Whether this call wrote beyond its input page: whatever comes of it in a model is not what comes of it in a host."""

    # --- before: what does it name? --------------------------------------------------------------------------------------

    def judge_names(self, code: int, page: bytearray) -> None:
        """The domain, device and partition named exist and are the right ones, before the hypervisor looks."""
        hypervisor = self.hypervisor
        if hypervisor.l1vh and code in abi.DEVICE_DOMAIN_CALLS:
            self._bad_name(code, "an L1VH makes no device-domain calls", "l1vh")
            return
        if code == abi.HVCALL_MAP_DEVICE_GPA_PAGES or code == abi.HVCALL_UNMAP_DEVICE_GPA_PAGES:
            ident = int.from_bytes(page[20:24], "little")
            if ident not in hypervisor.domains:
                self._bad_name(code, f"domain {ident:#x} does not exist", "domain")
        elif code == abi.HVCALL_DELETE_DEVICE_DOMAIN or code == abi.HVCALL_ATTACH_DEVICE_DOMAIN:
            ident = int.from_bytes(page[20:24], "little")
            if ident not in hypervisor.domains:
                self._bad_name(code, f"domain {ident:#x} does not exist", "domain")
            if code == abi.HVCALL_ATTACH_DEVICE_DOMAIN:
                self._judge_device(code, int.from_bytes(page[24:32], "little"))
        elif code == abi.HVCALL_DETACH_DEVICE_DOMAIN:
            self._judge_device(code, int.from_bytes(page[8:16], "little"))
        elif code == abi.HVCALL_ATTACH_DEVICE:
            self._judge_device(code, int.from_bytes(page[8:16], "little"))
            self._judge_guest(code, int.from_bytes(page[0:8], "little"))
        elif code == abi.HVCALL_DETACH_DEVICE:
            self._judge_guest(code, int.from_bytes(page[0:8], "little"))
        else:
            return
        self.judged["names-existing-things"] += 1

    def _judge_device(self, code: int, device_id: int) -> None:
        if device_id not in self.hypervisor.devices:
            self._bad_name(code, f"device id {device_id:#x} does not exist", "device")
            return
        if self.device is None:
            return
        self.judged["device-names-are-unique"] += 1
        other = self.named.setdefault(device_id, self.device)
        if other.requester != self.device.requester:
            self.fail(
                "device-names-are-unique",
                self.device.name,
                f"{self.device.name} and {other.name} have the same hypervisor id {device_id:#x}",
            )

    def _judge_guest(self, code: int, partition_id: int) -> None:
        """Attach names the partition that the domain was made for, detach the one that the device is with (A14 excepted)."""
        place = Place("guest", partition_id)
        if code == abi.HVCALL_ATTACH_DEVICE:
            wanted = {self.book.place} if self.book is not None and self.book.kind == "direct" else set()
            if self._old_book is not None and self._old_book.kind == "direct":
                wanted.add(self._old_book.place)
            if self.device is not None:  # a device that was stuck with a guest (A8) may go back there
                wanted.update(self._allowed(self.device))
            if place in wanted:
                return
            why = f"partition {partition_id:#x} is not the one that the domain was made for"
        else:
            if self.device is None:  # free takes devices out of its own guest first, and out of those where it could not (A13)
                if self.book is None or (
                    self.book.place != place and not self._stuck_in(place) and not self._was_told_nothing(place)
                ):
                    self._bad_name(code, f"partition {partition_id:#x} is not that of the domain", "partition")
                return
            here = self.place_of(self.device)
            if here == place:
                return
            if here.kind != "guest" and self._old_book is not None and self._old_book.place == place:
                return
            if here.kind != "guest" and (place in self._allowed(self.device) or self._was_told_nothing(place)):
                return  # A14 after A8 or A15: it was with that guest, who has ended
            why = f"partition {partition_id:#x} does not have the device; it is in {here}"
        self._bad_name(code, why, "partition 0" if partition_id == 0 else "partition")

    _old_book: DomainBook | None = None

    def _allowed(self, device: Device) -> set[Place]:
        """Where a device may be by what was answered for it, or for functions that share its id."""
        books = self.core.books.devices
        return {place for book in books if book.key == books[device.number].key for place in book.places}

    def _was_told_nothing(self, place: Place) -> bool:
        """Whether a device was with a guest that has ended since (A14)."""
        guest = self.hypervisor.partitions.get(place.id)
        ended = guest is None or guest.state != "active"
        return ended and place in self.core.books.guests and any(book.fallen for book in self.core.books.devices)

    def _stuck_in(self, place: Place) -> bool:
        """Whether a device is still in a place that the core has left."""
        return any(
            (book.excused or not book.known) and self.hypervisor.place(book.key) == place for book in self.core.books.devices
        )

    def _bad_name(self, code: int, why: str, kind: str) -> None:
        name = abi.call_name(code)
        self.fail("names-existing-things", f"{name} {kind}", f"{name}: {why}", name, kind, self.call)

    # --- after: what did it do? ------------------------------------------------------------------------------------------

    def judge_hypercall(self, record: HypercallRecord) -> None:
        """The control word, and the bounds."""
        code, control = record.code, record.control
        rep = code in REP_CALLS
        count = control >> REP_COUNT_SHIFT & REP_MASK
        if control & CONTROL_RESERVED or (count == 0) == rep:
            total = control >> REP_COUNT_SHIFT & 0xFFFF
            name = abi.call_name(code)
            self.fail(
                "control-word-valid",
                f"{name} {'0' if not total else 'many' if total > REP_MASK else 'simple'}",
                f"{name}: rep count {total} ({'reserved bits are set' if total > REP_MASK else 'a rep call needs one'})",
                name,
                "0" if not total else ">4095",
            )
        if self.kernel.deposit_calls and code != abi.HVCALL_DEPOSIT_MEMORY:
            self._judge_progress(record)
        result = record.status & 0xFFFF
        if result:
            self.unrecovered[code] = len(self.kernel.log)
        elif self.unrecovered:
            self.unrecovered.pop(code, None)
        if not self.kernel.rep_round:
            self.issued += 1
            if self.issued > min(64 + 4 * -(-self.call_pages // 256), MAX_CALLS):
                self._runaway(f"{self.issued} hypercalls", "hypercalls")
        elif self.kernel.rep_round > MAX_ROUNDS:
            self.environment.append(f"the kernel's rep helper goes on after {self.kernel.rep_round} rounds")
            raise Runaway("hv_do_rep_hypercall does not end")

    def _judge_progress(self, record: HypercallRecord) -> None:
        """At most 64 deposits in a call, and 16 in a row without a rep completed or a success."""
        deposits = self.kernel.deposit_calls
        if record.completed or not record.status & 0xFFFF:
            self.idle_deposits = deposits
        elif deposits - self.idle_deposits > MAX_IDLE_DEPOSITS:
            self._runaway(f"{deposits} deposits and no progress", "deposits")
        if deposits > MAX_DEPOSITS:
            self._runaway(f"{deposits} deposits", "deposits")

    def _runaway(self, why: str, kind: str) -> None:
        name = abi.call_name(self.calls[-1].code)
        self.fail("every-call-ends", self.call, f"{self.call} does not end: {why}", kind, name)
        raise Runaway(why)

    def judge_effects(self, effects: list[tuple[str, int, int, int]]) -> None:
        """A call changes nothing but the domain, device and partition that it is about."""
        self.judged["touches-only-its-own"] += 1
        call, book, device = self.call, self.book, self.device
        first = effects[0]
        if len(effects) == 1 and first[0] == "pages" and book is not None and first[1] == book.hv_id and call in _PAGING:
            return
        for kind, ident, _low, _high in effects:
            if kind in ("pages", "domain") and ident in self.core.books.zombies:
                continue  # C5: what could not be deleted is deleted by a later call
            if kind == "pages":
                own = book is not None and book.hv_id == ident and call in ("map_pages", "unmap_pages", "free")
                text = f"pages of domain {ident:#x}"
            elif kind == "place":
                keys = {self.core.books.devices[device.number].key} if device is not None else set()
                own = ident in keys and call in ("attach_dev", "release_device")
                if call in ("free", "domain_alloc_paging") and book is not None:
                    # A13: a device that got stuck in it or in one freed before, or that is not there any more for Linux
                    stuck = any(b.excused or not b.known for b in self.core.books.devices if b.key == ident)
                    own = stuck or self.hypervisor.policies.delete_with_devices not in ("0x19", "0x58")
                text = f"the place of device {ident:#x}"
            elif kind == "domain":
                own = call == "domain_alloc_paging" or (call == "free" and book is not None and book.hv_id == ident)
                own = own and ident not in self.core.books.foreign
                text = f"domain {ident:#x}"
            else:
                places = {b.place.id for b in (book, self._old_book) if b is not None and b.place.kind == "guest"}
                if device is not None:  # on its way back
                    places.update(place.id for place in self._allowed(device) if place.kind == "guest")
                own = ident == self.hypervisor.caller.id or ident in places
                text = f"the memory pool of partition {ident:#x}"
            if not own:
                self.fail("touches-only-its-own", f"{call} {kind}", f"{call} changed {text}", call, kind)

    # --- when the driver call is over -------------------------------------------------------------------------------------

    def judge_context(self) -> None:
        """What the kernel's checkers reported, and whether locks and interrupts are as before."""
        kernel = self.kernel
        if kernel.reports:
            for rule, detail in kernel.reports:
                self.overran = self.overran or rule == "input-page-overrun"
                if (rule, self.call) in self.reported:
                    continue
                name = _RULES.get(rule)
                if name is None:
                    self.environment.append(f"{rule}: {detail}")
                    continue
                self.reported.add((rule, self.call))
                first = "" if detail[0].isdigit() else detail.split(" ")[0]
                self.fail(name, f"{rule} {self.call}", f"{self.call}: {detail}", rule, first)
            kernel.reports.clear()
        cpu = kernel.cpu
        if cpu.irqs_off or cpu.locks:
            what = "interrupts are off" if cpu.irqs_off else f"{cpu.locks[0].name} is held"
            self.fail("context-is-balanced", f"exit {self.call}", f"{self.call} returns while {what}", what)
            cpu.irqs_off = False
            for lock in cpu.locks:
                lock.holder = None
            cpu.locks.clear()

    def judge_visible(self, success: bool) -> None:
        """A failing hypercall leaves an error return or a log line."""
        if not self.unrecovered:
            return
        self.judged["failure-is-visible"] += 1
        silent = [code for code, lines in self.unrecovered.items() if lines == len(self.kernel.log)]
        if success and silent:
            name = abi.call_name(silent[0])
            self.fail("failure-is-visible", f"{self.call} {name}", f"{self.call} hides that {name} failed", name)

    def judge_shortage(self, failed: bool, may_sleep: bool) -> None:
        """A call that failed for a shortage must have tried the deposit that the code calls for."""
        deciding = _DECIDING.get(self.call, (abi.HVCALL_ATTACH_DEVICE_DOMAIN, abi.HVCALL_ATTACH_DEVICE))
        asked = [r for r in self.calls if r.code in deciding]
        if self.call == "attach_dev" and self.book is not None:  # not what became of the way back
            asked = [r for r in asked if target_of(r) == self.book.place]
        short = [r for r in asked[-1:] if r.status & 0xFFFF in SHORTAGE_STATUSES]
        if not short or not failed or not may_sleep or self.call == "unmap_pages":
            return
        record = short[-1]
        status = record.status & 0xFFFF
        root_code = status in (0x73, 0x83)
        if root_code and self.hypervisor.l1vh:
            return
        self.judged["shortage-is-survivable"] += 1
        # The deposit must come after the answer and be refused, or rounds must have run out, to excuse the failure.
        after = self.calls[self.calls.index(record) + 1 :]
        refused = any(r.code == abi.HVCALL_DEPOSIT_MEMORY and r.status & 0xFFFF for r in after)
        deposits = [r for r in self.calls if r.code == abi.HVCALL_DEPOSIT_MEMORY]
        guest_pays = record.code == abi.HVCALL_ATTACH_DEVICE and not root_code
        payers = (
            {int.from_bytes(record.header[0:8], "little")} if guest_pays else {self.hypervisor.caller.id, abi.HV_PARTITION_ID_SELF}
        )
        right = [r for r in deposits if int.from_bytes(r.header[0:8], "little") in payers]
        enough = self.kernel.deposit_calls >= MAX_IDLE_DEPOSITS and (right or not deposits)
        if refused or self.refusals("alloc_pages") or enough:
            return
        tried = any(r.code == abi.HVCALL_DEPOSIT_MEMORY for r in after)
        name = abi.call_name(record.code)
        how = (
            "deposits for another partition" if deposits and not right else "deposits and gives up" if tried else "does not deposit"
        )
        self.fail(
            "shortage-is-survivable",
            f"{name} {status:#x}",
            f"{self.call}: {name} answers {abi.status_name(status)} ({status:#x}); the driver {how}",
            name,
            "tried" if tried else "not tried",
            "0xb" if status == 0x0B else "other",
        )
