"""Places: where each device is, where the caller believes it to be, and what the driver counts and remembers."""

from __future__ import annotations

from hvmodel.callers.books import DeviceBook, DomainBook
from hvmodel.callers.watch import AttachCall
from hvmodel.hypervisor import abi
from hvmodel.hypervisor.abi import SHORTAGE_STATUSES
from hvmodel.hypervisor.objects import IN_DEFAULT, IN_NULL, NOWHERE, Place
from hvmodel.kernel.iommu import EINVAL, ENOMEM, ERRNO_NAMES, Device, IommuDomain
from hvmodel.properties.verdicts import Bench, HypercallRecord, kind_of, target_of


class PlaceJudge(Bench):
    """The attach properties."""

    moving: tuple[DomainBook, DomainBook | None, Device] | None
    """The attach that runs: new, old, device; the gap is judged after each of its hypercalls."""

    # --- during an attach -------------------------------------------------------------------------------------------------

    def offers_way(self, old: Place, new: Place) -> bool:
        """Whether the policies in force let a device go from one place to the other through old, new or blocked places only."""
        policies = self.hypervisor.policies
        if self.hypervisor.l1vh or new == old:
            return False
        if old in (IN_DEFAULT, IN_NULL) or old == NOWHERE:
            return True
        if old.kind == "guest":
            freely = policies.domain_from_guest == "move" if new.kind == "domain" else policies.direct_from_guest == "move"
            parked = policies.direct_detach_leaves in ("null", "none")
            return freely or parked or (new == IN_DEFAULT and policies.direct_detach_leaves == "default")
        if policies.attach_elsewhere == "move" or policies.detach_leaves in ("null", "none"):
            return True
        return new == IN_DEFAULT and policies.detach_leaves == "default"

    def judge_gap(self) -> None:
        """After each hypercall of an attach: the device is in the old place, the new one, or blocked."""
        assert self.moving is not None
        new, old, device = self.moving
        if old is None or self._before_attach != old.place or not self.offers_way(old.place, new.place):
            return  # a move that does not start where everybody believes the device to be proves nothing
        self.judged["replace-has-no-gap"] += 1
        place = self.place_of(device)
        if place in (old.place, new.place, IN_NULL, NOWHERE) or self.core.books.devices[device.number].excused:
            return
        if sum(record.refused and _must_leave(record) for record in self.calls) >= 2:
            return  # it was told twice that there is no such way
        self.fail(
            "replace-has-no-gap",
            f"{kind_of(old.place)} to {kind_of(new.place)}",
            f"{device.name}: on its way from {old.place} to {new.place} it is in {place}",
            kind_of(place),
        )

    _before_attach: Place | None = None

    def told_to_leave(self) -> bool:
        return any(_must_leave(record) for record in self.calls)

    # --- after an attach --------------------------------------------------------------------------------------------------

    def judge_attach(self, call: AttachCall) -> None:
        """A2 to A10 at the driver call."""
        device, new, old, ret = call.device, call.new, call.old, call.ret
        book = self.core.books.devices[device.number]
        place = self.place_of(device)
        refused = self.refusals()
        owned = self.hypervisor.devices[book.key].owned
        lost = old is None and call.before.kind == "guest" and self.hypervisor.policies.domain_from_guest != "move"
        if new.kind in ("identity", "blocked") and not owned and not lost and refused <= 1:
            self.judged["static-domains-always-attach"] += 1
            if ret:
                self.fail(
                    "static-domains-always-attach",
                    f"{new.kind} {device.name}",
                    f"{device.name}: attaching {new.kind} answers -{ERRNO_NAMES.get(-ret, str(-ret))} after {refused} refusal(s)",
                    new.kind,
                )
        if not self._alias_pending(device):
            self._judge_place(call, place)
        if ret and old is not None and not call.must:
            self._judge_failed(call, place)
        if ret == 0 and self._is_blocking(new, device):
            self.judged["blocked-is-blocked"] += 1
            if not self.hypervisor.reaches_nothing(book.key):
                self.fail(
                    "blocked-is-blocked",
                    device.name,
                    f"{device.name}: attached to the blocking domain, it is in {place} and reaches memory",
                    kind_of(place),
                )
        if ret:
            self._judge_errno(call)
            self._judge_refused_attach(call)

    def _judge_refused_attach(self, call: AttachCall) -> None:
        """An attach fails only if something was refused, memory is short, or the guest is gone. The static ones have a property of
        their own; a device that the hypervisor owns, or that an earlier kernel left with a guest, cannot be moved by anybody."""
        device, new = call.device, call.new
        short = any(record.status & 0xFFFF in SHORTAGE_STATUSES for record in self.calls)
        stuck = call.old is None and call.before.kind == "guest" and self.hypervisor.policies.domain_from_guest != "move"
        owned = self.hypervisor.devices[self.core.books.devices[device.number].key].owned
        if new.kind not in ("device", "direct") or self.refusals() or short or stuck or owned or self._guest_ended(new):
            return
        self.judged["legal-requests-work"] += 1
        name = ERRNO_NAMES.get(-call.ret, str(-call.ret))
        text = f"{device.name}: attaching {new.name} answers -{name}, though nothing is refused"
        self.fail("legal-requests-work", f"attach {new.kind}", text, "attach", new.kind, kind_of(call.before))

    def _judge_place(self, call: AttachCall, place: Place) -> None:
        device = call.device
        book = self.core.books.devices[device.number]
        if call.old is None and call.ret:
            return
        self.judged["no-foreign-attach"] += 1
        if place in book.places:
            return
        asked = ", ".join(sorted(str(allowed) for allowed in book.places))
        self.fail(
            "no-foreign-attach",
            device.name,
            f"{device.name} is in {place}; by what it answered it can only be in {asked}",
            kind_of(place),
            "ok" if call.ret == 0 else "failed",
        )
        book.places = {*book.places, place}

    def _judge_failed(self, call: AttachCall, place: Place) -> None:
        """A5: hypervisor, count and pointer as before the call; A6 is the only exception."""
        device, old = call.device, call.old
        book = self.core.books.devices[device.number]
        assert old is not None
        if book.excused:
            self.environment.append(f"{device.name}: the way back to {old.place} was refused as well; it is in {place}")
            return
        self.judged["failed-attach-keeps-old"] += 1
        if place != call.before:
            what = f"is in {place}, was in {call.before}"
            self.fail("failed-attach-keeps-old", f"{device.name} place", f"{device.name}: {what}", "place")
        count = self.driver.attach_count(old.domain) if old.alive else None
        if count != call.count_before:
            what = f"the count of {old.name} is {count}, was {call.count_before}"
            self.fail("failed-attach-keeps-old", f"{old.name} count", f"{device.name}: {what}", "count")
        if self.driver.pointer_domain(device) is not call.pointer_before:
            what = "the private pointer changed"
            self.fail("failed-attach-keeps-old", f"{device.name} pointer", f"{device.name}: {what}", "pointer")

    def _judge_errno(self, call: AttachCall) -> None:
        """-EINVAL says "try another domain", -ENOMEM "no memory"; a refusal of another kind must not come out as either."""
        new = call.new.place
        failing = [record for record in self.calls if record.status & 0xFFFF and target_of(record) == new]
        if not failing or not failing[-1].refused:
            return
        self.judged["errors-say-what"] += 1
        status = failing[-1].status & 0xFFFF
        # Where old and new are one guest, what came last may have been asked for on the way back.
        causes = failing if call.old is not None and call.old.place == new else failing[-1:]
        shortage = any(record.status & 0xFFFF in (0x0B, 0x73, 0x75, 0x83) for record in causes)
        if (call.ret == -EINVAL) or (call.ret == -ENOMEM and not shortage):
            self.fail(
                "errors-say-what",
                "attach",
                f"{call.device.name}: refused with {status:#x}, attach answers -{ERRNO_NAMES.get(-call.ret, str(-call.ret))}",
                "attach",
                ERRNO_NAMES.get(-call.ret, ""),
            )

    def _is_blocking(self, new: DomainBook, device: Device) -> bool:
        group = device.group
        return new.kind == "blocked" or (group is not None and group.blocking_domain is new.domain)

    def _alias_pending(self, device: Device) -> bool:
        """A16: between the calls for two functions with one id, either domain is fine for both."""
        group = device.group
        return group is not None and any(other is not device and other.requester == device.requester for other in group.devices)

    # --- when a request is over -------------------------------------------------------------------------------------------

    def judge_books(self) -> None:
        """Counts and pointers when a request that attaches, releases or frees is over."""
        call, self.call = self.call, "request"
        books = self.core.books
        place = self.hypervisor.place
        here = [(book, place(book.key)) for book in books.devices if book.device.group is not None and book.known]
        pointers = {}
        for book, at in here:
            device = book.device
            pointers[device] = self.driver.pointer_domain(device)
            self._judge_shared(book, at)
            if self._alias_pending(device):
                if any(at in other.places for other, _ in here if other.key == book.key):
                    continue  # A16: the last answered call for one of them moved all of them
            self._judge_pointer(book, at, pointers[device])
        for domain in list(books.of_domain.values()):
            self._judge_count(domain, here, pointers)
        self.call = call

    def _judge_shared(self, book: DeviceBook, place: Place) -> None:
        """A device is still where the last answer for it allows; A16: functions with one hypervisor id share one place, which must
        be one that was answered for one of them."""
        if place in book.places:
            return
        sharers = [other for other in self.core.books.devices if other.key == book.key and other.known]
        self.judged["no-foreign-attach"] += 1
        if any(place in other.places or other.excused for other in sharers):
            return
        allowed = ", ".join(sorted({str(place) for other in sharers for place in other.places}))
        text = f"{book.device.name} is in {place}; by what was answered it can only be in {allowed}"
        self.fail("no-foreign-attach", book.device.name, text, kind_of(place), "alias" if len(sharers) > 1 else "moved")

    def _judge_pointer(self, device: DeviceBook, place: Place, pointer: IommuDomain | None) -> None:
        if pointer is None:
            return
        self.judged["pointer-matches"] += 1
        name = device.device.name
        book = self.core.books.of_domain.get(pointer)
        if book is None and device.excused and self.kernel.slab.is_live(pointer.container):
            return  # A13: the core has freed the domain, the driver could not
        if book is None:
            self.fail("pointer-matches", name, f"{name}: the private pointer names a freed domain", "freed")
            return
        if place == book.place or device.excused or ("pointer-matches", name) in self.muted or self._guest_ended(book):
            return
        self.fail(
            "pointer-matches",
            name,
            f"{name}: the driver believes {book.name} ({book.place}), the hypervisor has it in {place}",
            "elsewhere",
        )

    def _judge_count(
        self, book: DomainBook, here: list[tuple[DeviceBook, Place]], pointers: dict[Device, IommuDomain | None]
    ) -> None:
        count = self.driver.attach_count(book.domain)
        if count is None or book.haunted:
            return
        self.judged["count-matches"] += 1
        has, believes = 0, 0
        direct = book.kind == "direct"
        nowhere = self.hypervisor.l1vh and book.kind in ("identity", "blocked")
        for device_book, place in here:
            device = device_book.device
            if place == book.place and not nowhere and (not direct or pointers[device] is book.domain):
                has += 1
            if device.group is not None and device.group.domain is book.domain and not nowhere:
                believes += 1
        low = high = has
        if book.lenient or self._guest_ended(book):
            low, high = min(has, believes), max(has, believes)
            fallen = sum(device_book.fallen for device_book, _place in here)
            low, high = low - fallen, high + fallen
        if low <= count <= high or ("count-matches", book.name) in self.muted:
            return
        self.fail(
            "count-matches",
            book.name,
            f"{book.name}: the driver counts {count}, the hypervisor has {has}",
            "wrapped" if count >> 31 else "above" if count > has else "below",
        )

    def _guest_ended(self, book: DomainBook) -> bool:
        """A14: the guest of a direct domain is gone; the driver was not told."""
        guest = self.hypervisor.partitions.get(book.place.id)
        return book.kind == "direct" and (guest is None or guest.state != "active")

    # --- release ----------------------------------------------------------------------------------------------------------

    def judge_release(self, device: Device) -> None:
        """A12: parked, no pointer left."""
        book = self.core.books.devices[device.number]
        state = self.hypervisor.devices[book.key]
        if not book.places:
            return
        if self.refusals() >= 2 or state.owned:
            book.places = {*book.places, state.place}
            return
        shared = any(
            other.device is not device and other.key == book.key and other.device.group is not None
            for other in self.core.books.devices
        )
        self.judged["release-parks"] += 1
        if state.place not in {*book.places, IN_DEFAULT, IN_NULL} and not shared:
            self.fail("release-parks", device.name, f"{device.name}: after release it is in {state.place}", kind_of(state.place))
        if self.driver.pointer_domain(device) is not None:
            self.fail("release-parks", f"{device.name} pointer", f"{device.name}: the private pointer survives release", "pointer")


def _must_leave(record: HypercallRecord) -> bool:
    """Whether an attach answered that the device has to leave its place first."""
    attach = record.code in (abi.HVCALL_ATTACH_DEVICE_DOMAIN, abi.HVCALL_ATTACH_DEVICE)
    return attach and record.status & 0xFFFF in (
        abi.HV_STATUS_DEVICE_ALREADY_IN_DOMAIN,
        abi.HV_STATUS_INVALID_DEVICE_STATE,
        abi.HV_STATUS_OBJECT_IN_USE,
    )


__all__ = ["PlaceJudge"]
