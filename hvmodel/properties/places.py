"""Places: where each device is, where the caller believes it to be, and what the driver counts and remembers."""

from __future__ import annotations

from hvmodel.callers.books import DomainBook
from hvmodel.callers.watch import AttachCall
from hvmodel.hypervisor import abi
from hvmodel.hypervisor.objects import IN_DEFAULT, IN_NULL, NOWHERE, Place
from hvmodel.kernel.iommu import EINVAL, ENOMEM, ERRNO_NAMES, Device
from hvmodel.properties.verdicts import Bench, kind_of


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
        if old is None or not self.offers_way(old.place, new.place):
            return
        self.saw("replace-has-no-gap")
        place = self.place_of(device)
        if place in (old.place, new.place, IN_NULL, NOWHERE) or self.core.books.devices[device.number].excused:
            return
        if self._before_attach == place:
            return
        self.fail(
            "replace-has-no-gap",
            f"{kind_of(old.place)} to {kind_of(new.place)}",
            f"{device.name}: on its way from {old.place} to {new.place} it is in {place}",
            kind_of(old.place),
            kind_of(new.place),
            kind_of(place),
        )

    _before_attach: Place | None = None

    # --- after an attach --------------------------------------------------------------------------------------------------

    def judge_attach(self, call: AttachCall) -> None:
        """A2 to A10 at the driver call."""
        device, new, old, ret = call.device, call.new, call.old, call.ret
        book = self.core.books.devices[device.number]
        place = self.place_of(device)
        refused = self.refusals()
        owned = self.hypervisor.devices[book.key].owned
        shape = (
            kind_of(old.place) if old is not None else "boot",
            kind_of(new.place),
            "ok" if ret == 0 else "failed",
            "must" if call.must else "plain",
        )
        lost = old is None and call.before.kind == "guest" and self.hypervisor.policies.domain_from_guest != "move"
        if new.kind in ("identity", "blocked") and not owned and not lost and refused <= 1:
            self.saw("static-domains-always-attach")
            if ret:
                self.fail(
                    "static-domains-always-attach",
                    f"{new.kind} {device.name}",
                    f"{device.name}: attaching {new.kind} answers -{ERRNO_NAMES.get(-ret, str(-ret))} after {refused} refusal(s)",
                    *shape,
                )
        if not self._alias_pending(device):
            self._judge_place(call, place, shape)
        if ret and old is not None and not call.must:
            self._judge_failed(call, place, shape)
        if ret == 0 and self._is_blocking(new, device):
            self.saw("blocked-is-blocked")
            if not self.hypervisor.reaches_nothing(book.key):
                self.fail(
                    "blocked-is-blocked",
                    device.name,
                    f"{device.name}: attached to the blocking domain, it is in {place} and reaches memory",
                    kind_of(place),
                    *shape,
                )
        if ret:
            self._judge_errno(call, shape)

    def _judge_place(self, call: AttachCall, place: Place, shape: tuple[object, ...]) -> None:
        device = call.device
        book = self.core.books.devices[device.number]
        if call.old is None and call.ret:
            return
        self.saw("no-foreign-attach")
        if place in book.places:
            return
        asked = ", ".join(sorted(str(allowed) for allowed in book.places))
        self.fail(
            "no-foreign-attach",
            device.name,
            f"{device.name} is in {place}; the answers allow {asked}",
            kind_of(place),
            *shape,
        )
        book.places = {*book.places, place}
        book.excused = True

    def _judge_failed(self, call: AttachCall, place: Place, shape: tuple[object, ...]) -> None:
        """A5: hypervisor, count and pointer as before the call; A6 is the only exception."""
        device, old = call.device, call.old
        book = self.core.books.devices[device.number]
        assert old is not None
        if book.excused:
            self.environment.append(f"{device.name}: the way back to {old.place} was refused as well; it is in {place}")
            return
        self.saw("failed-attach-keeps-old")
        if place != call.before:
            what = f"is in {place}, was in {call.before}"
            self.fail("failed-attach-keeps-old", f"{device.name} place", f"{device.name}: {what}", "place", *shape)
        count = self.driver.attach_count(old.domain) if old.alive else None
        if count != call.count_before:
            what = f"the count of {old.name} is {count}, was {call.count_before}"
            self.fail("failed-attach-keeps-old", f"{old.name} count", f"{device.name}: {what}", "count", *shape)
        if self.driver.pointer_domain(device) is not call.pointer_before:
            what = "the private pointer changed"
            self.fail("failed-attach-keeps-old", f"{device.name} pointer", f"{device.name}: {what}", "pointer", *shape)

    def _judge_errno(self, call: AttachCall, shape: tuple[object, ...]) -> None:
        """-EINVAL says "try another domain", -ENOMEM "no memory"; a refusal of another kind must not come out as either."""
        attach = (abi.HVCALL_ATTACH_DEVICE_DOMAIN, abi.HVCALL_ATTACH_DEVICE)
        failing = [record for record in self.calls if record.code in attach and record.status & 0xFFFF]
        if not failing or not failing[0].refused:
            return
        self.saw("errors-say-what")
        status = failing[0].status & 0xFFFF
        shortage = status in (0x0B, 0x73, 0x75, 0x83)
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
        return group is not None and any(
            other is not device and other.requester == device.requester for other in group.devices
        )

    # --- when a request is over -------------------------------------------------------------------------------------------

    def judge_books(self, name: str) -> None:
        """Counts and pointers when a request that attaches, releases or frees is over."""
        core = self.core
        for book in core.books.devices:
            device = book.device
            if device.group is None or not book.known:
                continue
            if self._alias_pending(device) and not book.excused:
                self.saw("no-foreign-attach")
                place = self.place_of(device)
                if place not in book.places:
                    allowed = ", ".join(sorted(str(place) for place in book.places))
                    self.fail("no-foreign-attach", device.name, f"{device.name} is in {place}; allowed: {allowed}", kind_of(place), "alias")
            self._judge_pointer(device, book.excused, name)
        for domain_book in list(core.books.of_domain.values()):
            self._judge_count(domain_book, name)

    def _judge_pointer(self, device: Device, excused: bool, name: str) -> None:
        pointer = self.driver.pointer_domain(device)
        if pointer is None:
            return
        self.saw("pointer-matches")
        book = self.core.books.of_domain.get(pointer)
        if book is None:
            self.fail("pointer-matches", device.name, f"{device.name}: the private pointer names a freed domain", "freed", name)
            return
        place = self.place_of(device)
        if excused or place == book.place or self._guest_ended(book):
            return
        self.fail(
            "pointer-matches",
            device.name,
            f"{device.name}: the driver believes {book.name} ({book.place}), the hypervisor has it in {place}",
            kind_of(book.place),
            kind_of(place),
            name,
        )

    def _judge_count(self, book: DomainBook, name: str) -> None:
        count = self.driver.attach_count(book.domain)
        if count is None:
            return
        self.saw("count-matches")
        has, believes = 0, 0
        for device_book in self.core.books.devices:
            device = device_book.device
            if device.group is None or not device_book.known:
                continue
            believes += device.group.domain is book.domain
            place = self.place_of(device)
            if book.kind == "direct":
                has += place == book.place and self.driver.pointer_domain(device) is book.domain
            elif book.kind == "device" or not self.hypervisor.l1vh:
                has += place == book.place
        if self.hypervisor.l1vh and book.kind == "identity":
            believes = 0
        if count == has or ((book.lenient or self._guest_ended(book)) and count == believes):
            return
        self.fail(
            "count-matches",
            book.name,
            f"{book.name}: the driver counts {count}, the hypervisor has {has}",
            "wrapped" if count >> 31 else "above" if count > has else "below",
            book.kind,
            name,
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
        self.saw("release-parks")
        if state.place not in book.places and not shared:
            self.fail(
                "release-parks", device.name, f"{device.name}: after release it is in {state.place}", kind_of(state.place)
            )
        if self.driver.pointer_domain(device) is not None:
            self.fail("release-parks", f"{device.name} pointer", f"{device.name}: the private pointer survives release", "pointer")


__all__ = ["PlaceJudge"]
