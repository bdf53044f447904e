"""Lifetime: allocation, free, probe, initialisation, and what is left when everything was given back."""

from __future__ import annotations

import re

from hvmodel.callers.books import DomainBook
from hvmodel.hypervisor import abi
from hvmodel.hypervisor.abi import HV_DEVICE_DOMAIN_ID_S2_DEFAULT, HV_DEVICE_DOMAIN_ID_S2_NULL, SHORTAGE_STATUSES
from hvmodel.hypervisor.objects import IN_DEFAULT, IN_NULL, NOWHERE
from hvmodel.kernel.iommu import ENOMEM, ERRNO_NAMES, Device
from hvmodel.properties.verdicts import Bench, kind_of

_SKIP_ENTRY = re.compile(r"\(([0-9a-fA-F]+):([0-9a-fA-F]+):([0-9a-fA-F]+)\.([0-9a-fA-F]+)\)")
MSI_WINDOW = (0xFEE00000, 0xFEEFFFFF)
"""DMA writes to this range are interrupts (Intel SDM volume 3, "Message Signalled Interrupts")."""


def skipped_devices(option: str) -> set[tuple[int, int, int, int]]:
    """The devices that a well-formed part of ``hv_iommu_skip=(SSSS:BB:DD.F)...`` names."""
    return {tuple(int(part, 16) for part in match) for match in _SKIP_ENTRY.findall(option)}  # type: ignore[misc]


class LifetimeJudge(Bench):
    """The properties of allocation, free, probe and recovery."""

    domains_before: set[int]
    static_when_visible: tuple[object, ...] | None
    used_at_boot: int
    device: Device | None

    # --- allocation -------------------------------------------------------------------------------------------------------

    def judge_alloc(self, book: DomainBook | None, errno: int, owner: DomainBook, device: Device) -> None:
        """C1 to C3."""
        books = self.core.books
        self.judged["ids-are-unique"] += 1
        if book is not None:
            books.failed_allocs = 0
            books.failed_ids.clear()
            self._judge_id(book)
            self._judge_advertised(book, device)
            return
        left = self.kernel.slab.owned_by(owner)
        created = set(self.hypervisor.domains) - self.domains_before
        self.judged["nothing-is-left"] += 1
        if left or created:
            what = f"{left} object(s)" if left else f"domain {created.pop():#x} in the hypervisor"
            self.fail(
                "nothing-is-left", "failed alloc", f"a failed allocation leaves {what}", "alloc", "objects" if left else "domain"
            )
        self._judge_alloc_errno(errno)
        self._judge_recovers()

    def _judge_id(self, book: DomainBook) -> None:
        ident = self.driver.domain_id(book.domain)
        if ident is None:
            return
        books = self.core.books
        others = [
            other
            for other in books.of_domain.values()
            if other is not book and other.kind in ("device", "direct") and self.driver.domain_id(other.domain) == ident
        ]
        if ident in (HV_DEVICE_DOMAIN_ID_S2_DEFAULT, HV_DEVICE_DOMAIN_ID_S2_NULL):
            what, kind = "is reserved", "reserved"
        elif others:
            what, kind = f"is also that of {others[0].name}", "live"
        elif ident in books.zombies or ident in books.foreign:
            if book.kind == "direct":
                return
            what, kind = "may still be alive in the hypervisor", "zombie"
        else:
            return
        self.fail("ids-are-unique", book.name, f"{book.name} got id {ident:#x}, which {what}", kind, book.kind)

    def _judge_advertised(self, book: DomainBook, device: Device) -> None:
        self.judged["advertised-is-true"] += 1
        geometry = book.domain.geometry
        width = self.hypervisor.iova_width
        known = ("advertised-is-true", "aperture") in self.muted and ("advertised-is-true", "interrupt window") in self.muted
        if known and book.pgsize_bitmap & 0x1FFF == 0x1000:
            return
        if book.kind == "device" and geometry is not None and geometry.aperture_end >> width:
            self.fail(
                "advertised-is-true",
                "aperture",
                f"the aperture ends at {geometry.aperture_end:#x}, the hypervisor takes {width} bits",
                "aperture",
            )
        if book.pgsize_bitmap & 0xFFF or not book.pgsize_bitmap & 0x1000:
            self.fail("advertised-is-true", "page sizes", f"page sizes {book.pgsize_bitmap:#x} without 4 KiB", "sizes")
        ops = self.core.ops
        assert ops is not None
        regions = ops.get_resv_regions(device) if ops.get_resv_regions is not None else []
        covered = any(first <= MSI_WINDOW[0] and last >= MSI_WINDOW[1] for first, last in regions)
        if not covered and geometry is not None and geometry.aperture_end >= MSI_WINDOW[1]:
            self.fail("advertised-is-true", "interrupt window", "no reserved region covers the interrupt window 0xfee00000", "msi")

    def _judge_alloc_errno(self, errno: int) -> None:
        failing = [r for r in self.calls if r.status & 0xFFFF and r.code == abi.HVCALL_CREATE_DEVICE_DOMAIN]
        if not failing or ("errors-say-what", "alloc") in self.muted or self.refusals("kzalloc"):
            return
        self.judged["errors-say-what"] += 1
        status = failing[-1].status & 0xFFFF
        if status not in SHORTAGE_STATUSES and errno == -ENOMEM:
            self.fail(
                "errors-say-what",
                "alloc",
                f"{abi.call_name(failing[-1].code)} answers {abi.status_name(status)}, "
                f"the allocation -{ERRNO_NAMES.get(-errno, str(-errno))}",
                "alloc",
            )

    def _judge_recovers(self) -> None:
        """Two failures in a row, the second without a cause of its own and without trying a new id: it will never recover."""
        books = self.core.books
        tried = frozenset(
            int.from_bytes(record.header[20:24], "little")
            for record in self.calls
            if record.code == abi.HVCALL_CREATE_DEVICE_DOMAIN
        )
        limit = self.hypervisor.domain_limit
        excused = (
            self.refusals()
            or (limit and len(self.hypervisor.domains) - 2 >= limit)
            or any(record.status & 0xFFFF in SHORTAGE_STATUSES for record in self.calls)
            or (self.hypervisor.l1vh and not (self.kernel.mshv and self.kernel.mshv_pid_to_partid(self.kernel.cpu.tgid)))
        )
        failing = [r.status & 0xFFFF for r in self.calls if r.status & 0xFFFF and r.code == abi.HVCALL_CREATE_DEVICE_DOMAIN]
        taken = failing[-1:] and failing[-1] in (abi.HV_STATUS_KEY_ALREADY_EXISTS, abi.HV_STATUS_OBJECT_IN_USE)  # C3
        if not excused and not taken and not books.foreign:
            self.judged["legal-requests-work"] += 1
            what = f"{abi.status_name(failing[-1])} for id {max(tried):#x}" if failing else "the hypervisor was not asked"
            self.fail(
                "legal-requests-work", "alloc", f"an allocation fails, though nothing is refused: {what}", "alloc", bool(failing)
            )
        if not excused:
            self.judged["allocation-recovers"] += 1
            if books.failed_allocs and tried <= books.failed_ids:
                what = f"again with id {min(tried):#x}" if tried else "without asking the hypervisor"
                self.fail(
                    "allocation-recovers",
                    "alloc",
                    f"allocation fails {what}, though nothing is refused",
                    "same id" if tried else "none",
                )
            books.failed_allocs += 1
            books.failed_ids |= tried

    # --- free -------------------------------------------------------------------------------------------------------------

    def judge_free(self, book: DomainBook) -> None:
        """C4 to C8, F1."""
        books = self.core.books
        self.judged["free-frees-all"] += 1
        alive = book.hv_id is not None and book.hv_id in self.hypervisor.domains
        refused = bool(self.refusals("DELETE_DEVICE_DOMAIN"))
        if self.hypervisor.policies.delete_with_mappings != "drop":
            refused = refused or bool(self.refusals("UNMAP_DEVICE_GPA_PAGES"))
        inside = bool(self.refusals()) and any(  # A13
            (device.excused or not device.known)
            and (self.hypervisor.place(device.key) == book.place or (book.kind == "direct" and device.fallen))
            for device in books.devices
        )
        if alive and book.hv_id is not None:
            books.zombies[book.hv_id] = "refused" if refused else "stuck" if inside or book.haunted else "kept"
        if inside or (alive and (refused or book.haunted)):
            self.environment.append(f"{book.name}: the hypervisor refused to let it go")
            return
        if alive:
            devices = len(self.hypervisor.domains[book.hv_id or 0].devices)
            why = f"with {devices} device(s) in it" if devices else "with nothing in it"
            asked = any(record.code == abi.HVCALL_DELETE_DEVICE_DOMAIN for record in self.calls)
            self.fail(
                "free-frees-all",
                f"{book.name} domain",
                f"{book.name} is freed, domain {book.hv_id:#x} is still in the hypervisor {why}",
                "domain",
                "asked" if asked else "never asked",
                "devices" if devices else "empty",
            )
        objects = self.kernel.slab.owned_by(book)
        if objects and not book.haunted:
            held = self.kernel.slab.is_live(book.domain.container)
            self.fail(
                "free-frees-all",
                f"{book.name} objects",
                f"{book.name} is freed, {objects} object(s) of it are still allocated",
                "object" if held else "nodes",
            )

    # --- probe and initialisation -----------------------------------------------------------------------------------------

    def judge_option(self, name: str, ret: int) -> None:
        """A handler that answers 0 has not handled its option: the kernel warns of it and passes it to init."""
        self.judged["options-are-honoured"] += 1
        if ret != 1:
            self.fail(
                "options-are-honoured", name, f"the handler of the boot option {name} answers {ret}, not handled", "unhandled"
            )

    def judge_probe(self, device: Device, ret: int) -> None:
        """A device on the skip list is not claimed, every other one is."""
        self.judged["options-are-honoured"] += 1
        listed = (device.segment, device.bus, device.slot, device.function) in skipped_devices(self.core.config.skip)
        if listed and ret == 0:
            self.fail(
                "options-are-honoured",
                "claimed",
                f"{device.name} is on the skip list {self.core.config.skip!r} and is claimed",
                "claimed",
            )
        nameless = device.segment >> 16 or (ret == -ENOMEM and self.refusals("kzalloc"))
        if not listed and ret and device.is_pci and not nameless:
            self.fail("options-are-honoured", "refused", f"{device.name} is not on the skip list and is refused", "refused")

    def became_visible(self, what: str) -> None:
        """The driver showed something to users or to the core; remember how far its static objects were by then."""
        if self.static_when_visible is None:
            self.static_when_visible = self.driver.static_state()

    def judge_init(self, ret: int) -> None:
        """Nothing was visible before it was ready, and a failed init leaves nothing."""
        self.judged["ready-before-visible"] += 1
        if ret == 0 and self.static_when_visible is not None and self.static_when_visible != self.driver.static_state():
            self.fail("ready-before-visible", "init", "a static domain was set up after the driver was visible in sysfs", "order")
        if ret and (self.kernel.sysfs_visible or self.kernel.registered is not None):
            what = "its sysfs entry" if self.kernel.sysfs_visible else "itself registered"
            self.fail("ready-before-visible", "failed init", f"a failed init leaves {what}", "unwind")

    # --- at the end of a run ------------------------------------------------------------------------------------------------

    def judge_leftovers(self) -> None:
        """Section 10 of ``callers/README.md``: as after boot, but for the id counter and what an earlier kernel left."""
        self.judged["nothing-is-left"] += 1
        books = self.core.books
        self.call = "recover"
        own = set(self.hypervisor.domains) - {IN_DEFAULT.id, IN_NULL.id} - books.foreign
        if own:
            idents = ", ".join(f"{ident:#x}" for ident in sorted(own))
            reasons = sorted({books.zombies.get(ident, "live") for ident in own})
            self.fail("nothing-is-left", "domains", f"domain {idents} is left in the hypervisor", "domain", *reasons)
        parked = {IN_DEFAULT, IN_NULL} | ({NOWHERE} if self.hypervisor.l1vh else set())
        for book in books.devices:
            state = self.hypervisor.devices[book.key]
            if state.owned or not book.places or state.place in parked or (book.vanished and state.place == NOWHERE):
                continue
            if state.place.kind == "domain" and state.place.id in books.foreign:
                continue
            if state.place.kind != "domain" or not self._shared_finding(book.device):
                self.fail("nothing-is-left", "devices", f"{book.device.name} is left in {state.place}", kind_of(state.place))
        live = [obj for obj, owner in self.kernel.slab.live.items() if not getattr(owner, "vanished", False)]  # A15
        if live:
            names = sorted({type(obj).__name__ for obj in live})
            self.fail("nothing-is-left", "objects", f"{len(live)} object(s) are left: {', '.join(names)}", *names)
        if self.kernel.cpu.locks:
            self.fail("nothing-is-left", "locks", "a lock is still held", "lock")
        if not own and self.hypervisor.caller.pool.used > self.used_at_boot:
            more = self.hypervisor.caller.pool.used - self.used_at_boot
            self.fail("nothing-is-left", "pool", f"{more} page(s) of the root's pool are still used", "pool")

    def _shared_finding(self, device: Device) -> bool:
        return ("release-parks", device.name) in self.muted


__all__ = ["LifetimeJudge", "skipped_devices"]
