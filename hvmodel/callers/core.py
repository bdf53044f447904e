"""The IOMMU core, as the kernel's ``drivers/iommu/iommu.c`` calls a driver: probe, groups, attach, free, release.

Mapping is in :mod:`hvmodel.callers.mapping`. Function names are those of the kernel where it has one (the 7.0 cycle, in which
``attach_dev`` carries the old domain). Requests that the core itself refuses raise :class:`Refused`; the driver is not called.
"""

from __future__ import annotations

from collections.abc import Callable

from hvmodel.callers.books import Books, DeviceBook, DomainBook
from hvmodel.callers.mapping import Mapping
from hvmodel.callers.watch import AttachCall, Watch
from hvmodel.configuration import Configuration
from hvmodel.drivers.interface import Driver
from hvmodel.hypervisor import Hypervisor
from hvmodel.hypervisor.abi import HV_PARTITION_ID_INVALID
from hvmodel.hypervisor.objects import IN_DEFAULT, IN_NULL, NOWHERE, Place
from hvmodel.kernel.iommu import (
    EBUSY,
    EINVAL,
    ENODEV,
    ENOMEM,
    IOMMU_DOMAIN_BLOCKED,
    IOMMU_DOMAIN_IDENTITY,
    IOMMU_DOMAIN_PAGING,
    Device,
    Group,
    IommuDomain,
    IommuOps,
)
from hvmodel.kernel.services import Kernel


class Refused(Exception):
    """The core refuses a request before the driver is called; ``args[0]`` is the negative errno."""


class IommuCore(Mapping):
    """The core for one booted kernel. ``hypervisor`` is asked only where devices are, for the record of each call."""

    def __init__(self, config: Configuration, kernel: Kernel, hypervisor: Hypervisor, driver: Driver, watch: Watch) -> None:
        self.config = config
        self.kernel = kernel
        self.hypervisor = hypervisor
        self.driver = driver
        self.watch = watch
        self.books = Books()
        self.ops: IommuOps | None = None
        self.refusals: Callable[[], int] = lambda: kernel.faults.refusals()
        self.next_special = -1
        for number, function in enumerate(config.devices):
            requester = config.speaks_for(number).requester
            device = Device(number, function.name, function.segment, function.bus, function.slot, function.function, requester)
            self.books.devices.append(DeviceBook(device, kernel.hv_build_devid_oftype(device, 0 if config.l1vh else 1)))
        kernel.domain_of = lambda device: device.group.domain if device.group is not None else None

    # --- boot and probe -------------------------------------------------------------------------------------------------

    def boot(self) -> int:
        """pci_iommu_init for this driver: detect, init, register, probe the bus; returns the init function's errno."""
        kernel = self.kernel
        if self.config.skip:
            self.watch.option("hv_iommu_skip=", self.driver.setup("hv_iommu_skip", self.config.skip))
        if self.config.no_attdev:
            self.watch.option("hv_no_attdev", self.driver.setup("hv_no_attdev", ""))
        self.driver.hv_iommu_detect()
        if kernel.iommu_init is None:
            return -ENODEV
        ret = kernel.iommu_init()
        self.watch.initialised(ret)
        return ret

    def bus_iommu_probe(self, ops: IommuOps) -> None:
        """Registration: probe every device, then set up each group's default domain (``bus_iommu_probe``)."""
        self.ops = ops
        if ops.blocked_domain is not None:  # static domains are alive before they are used
            self._special(ops.blocked_domain, IOMMU_DOMAIN_BLOCKED)
        for book in self.books.devices:
            if book.device.present:
                self._probe_device(book.device)
        for group in list(self.books.groups.values()):
            if group.default_domain is None:
                self._setup_default_domain(group)

    def _probe_device(self, device: Device) -> bool:
        """``iommu_init_device``: probe_device and device_group under the probe lock."""
        assert self.ops is not None
        self.kernel.probe_lock_held = True
        book = self.books.devices[device.number]
        self.watch.begin_call("probe_device", None, device)
        self.kernel.slab.owner = book
        ret = self.ops.probe_device(device)
        self.kernel.slab.owner = None
        book.vanished = book.vanished and ret != 0
        self.kernel.probe_lock_held = False
        device.claimed = ret == 0
        self.watch.end_call()
        self.watch.probed(device, ret)
        if ret:
            return False
        number = self.config.devices[device.number].group
        group = self.books.groups.get(number)
        if group is None:
            group = self.books.groups[number] = Group(number)
        group.devices.append(device)
        device.group = group
        return True

    def _setup_default_domain(self, group: Group) -> None:
        """``iommu_setup_default_domain``: allocate and attach with MUST_SUCCEED, old = NULL."""
        assert self.ops is not None
        device = group.devices[0]
        wanted = self.ops.def_domain_type(device) if self.ops.def_domain_type is not None else IOMMU_DOMAIN_PAGING
        domain: IommuDomain | None = None
        if wanted == IOMMU_DOMAIN_IDENTITY:
            domain = self.ops.identity_domain
            if domain is None and self.ops.domain_alloc_identity is not None:
                domain = self.ops.domain_alloc_identity(device)
        if domain is not None:
            book = self._special(domain, IOMMU_DOMAIN_IDENTITY)
        else:
            found = self._alloc_paging(device, 0)
            if isinstance(found, int):
                return
            book = found
        group.default_domain = book.domain
        failed = False
        for member in group.devices:
            failed |= bool(self._device_set_domain(group, member, book, None, must=True))
        group.domain = book.domain
        for member in list(group.devices):
            if failed and not self.books.devices[member.number].known:
                self._deinit_device(member)
            elif self.ops.probe_finalize is not None:
                self.ops.probe_finalize(member)

    def probe(self, device: Device) -> int:
        """Hot-plug: ``iommu_probe_device`` for one device; returns 0 or a negative errno."""
        if self.ops is None:
            raise Refused(-ENODEV)
        device.present = True
        if not self._probe_device(device):
            return -ENODEV
        group = device.group
        assert group is not None
        if group.domain is None:
            self.kernel.probe_lock_held = True
            self._setup_default_domain(group)
            self.kernel.probe_lock_held = False
        else:
            book = self.books.of_domain[group.domain]
            self.kernel.probe_lock_held = True
            ret = self._device_set_domain(group, device, book, None, must=False)
            self.kernel.probe_lock_held = False
            if ret:
                self._deinit_device(device)
                return ret
            if self.ops.probe_finalize is not None:
                self.ops.probe_finalize(device)
        return 0 if device.group is not None else -ENODEV

    def release(self, device: Device) -> None:
        """Hot-unplug: ``iommu_release_device``."""
        self._deinit_device(device)
        device.present = False

    def unplug(self, book: DeviceBook) -> None:
        """A15: the only device of its group is gone, and ``release_device`` never ran."""
        device, group = book.device, book.device.group
        assert group is not None
        before = self.hypervisor.place(book.key)
        pointer = self.driver.pointer_domain(device)
        for domain in self.books.of_domain.values():
            if domain.domain is group.domain or domain.domain is pointer or domain.place == before or domain.place in book.places:
                domain.haunted = True
        self.hypervisor.unplug(book.key)
        self.hypervisor.effects.clear()
        device.group, device.priv, device.present, device.claimed = None, None, False, False
        book.known, book.excused, book.vanished = False, False, True
        book.places = {self.hypervisor.place(book.key)}
        group.devices.remove(device)
        del self.books.groups[group.number]
        for default in (group.default_domain, group.blocking_domain):
            if default is not None and self.books.of_domain[default].kind != IOMMU_DOMAIN_IDENTITY:
                self.free(self.books.of_domain[default])

    def _deinit_device(self, device: Device) -> None:
        """``iommu_deinit_device``: release domain or op, then the group's domains if it is empty."""
        group, ops = device.group, self.ops
        assert group is not None
        assert ops is not None
        group.devices.remove(device)
        book = self.books.devices[device.number]
        if ops.release_domain is not None:
            self._attach_dev(device, self._special(ops.release_domain, IOMMU_DOMAIN_BLOCKED), self.books.current(group), True)
        if ops.release_device is not None:
            self.watch.begin_call("release_device", None, device)
            ops.release_device(device)
            self.watch.end_call()
        for other in self.books.devices:  # A16: what was answered for one of them holds for the others, also when it is gone
            if book.known and other is not book and other.key == book.key and other.known:
                other.places = {*other.places, *book.places}
        if book.known:  # A12; a device that this kernel never attached is where an earlier one left it
            book.places = {IN_DEFAULT, IN_NULL} if not self.config.l1vh else {NOWHERE, IN_DEFAULT, IN_NULL}
        book.excused = False
        book.known = False
        device.claimed = False
        device.group = None
        self.watch.released(device)
        if not group.devices:
            del self.books.groups[group.number]
            for domain in (group.default_domain, group.blocking_domain):
                if domain is not None:
                    self.free(self.books.of_domain[domain])

    # --- domains --------------------------------------------------------------------------------------------------------

    def _special(self, domain: IommuDomain, kind: str) -> DomainBook:
        book = self.books.of_domain.get(domain)
        if book is None:
            place = NOWHERE if self.config.l1vh else IN_DEFAULT if kind == IOMMU_DOMAIN_IDENTITY else IN_NULL
            book = DomainBook(self.next_special, domain, kind, place, name=kind)
            self.next_special -= 1
            self.books.of_domain[domain] = book
            domain.type = kind
        return book

    def domain_for(self, device: Device, by: int, name: str) -> DomainBook | int:
        """``iommu_paging_domain_alloc`` for a caller that keeps the domain itself, under a name of its own and a number that makes
        it the only one; or a negative errno."""
        return self._alloc_paging(device, by, name=name)

    def _alloc_paging(self, device: Device, by: int, handle: int | None = None, name: str = "") -> DomainBook | int:
        """``iommu_paging_domain_alloc``: a domain or a negative errno (C1, C2); NULL counts as -ENOMEM."""
        assert self.ops is not None
        if handle is None:
            handle = self.next_special
            self.next_special -= 1
        book = DomainBook(handle, IommuDomain(), "device", NOWHERE, by=by)
        kernel, hypervisor = self.kernel, self.hypervisor
        kernel.slab.owner = book
        existing = set(hypervisor.domains)
        self.watch.begin_call("domain_alloc_paging", book, device, 64 * self.books.left_runs)
        answer = self.ops.domain_alloc_paging(device)
        kernel.slab.owner = None
        if isinstance(answer, IommuDomain):
            book.domain = answer
            book.pgsize_bitmap = answer.pgsize_bitmap
            answer.type = IOMMU_DOMAIN_PAGING
            created = set(hypervisor.domains) - existing
            group = device.group
            book.name = f"domain {handle}" if handle > 0 or group is None else f"blocking domain of group {group.number}"
            if name:
                book.name, book.pinned = f"{name} ({-handle})", True
            if created:
                book.hv_id = created.pop()
                book.place = Place("domain", book.hv_id)
            else:
                book.kind = "direct"
                book.place = Place("guest", kernel.mshv_pid_to_partid(kernel.cpu.tgid) if kernel.mshv else HV_PARTITION_ID_INVALID)
                self.books.guests.add(book.place)
            self.books.of_domain[answer] = book
            self.watch.end_call()
            self.watch.allocated(book, 0, device, by)
            return book
        errno = answer if isinstance(answer, int) and answer < 0 else -ENOMEM
        self.watch.end_call()
        self.watch.allocated(None, errno, device, by)
        return errno

    def alloc(self, handle: int, device: Device, by: int) -> int:
        """Allocate a paging domain under a handle; returns 0 or a negative errno."""
        if self.ops is None or not device.claimed:
            raise Refused(-ENODEV)
        book = self._alloc_paging(device, by, handle)
        if isinstance(book, int):
            return book
        self.books.domains[handle] = book
        return 0

    def free(self, book: DomainBook) -> None:
        """``iommu_domain_free``: the op returns void, the core drops the domain whatever the driver did (C4 to C8)."""
        assert self.ops is not None
        if book.kind in (IOMMU_DOMAIN_IDENTITY, IOMMU_DOMAIN_BLOCKED):
            self.watch.begin_call("free", book, None)
            self.ops.free(book.domain)
            self.watch.end_call()
            return
        self.watch.begin_call("free", book, None, book.pages.pages + 64 * (len(book.pages) + self.books.left_runs))
        self.ops.free(book.domain)
        if book.hv_id in self.hypervisor.domains:
            self.books.left_runs += len(book.pages)
        book.alive = False
        if book.haunted:  # the driver may have moved the ghost there
            for other in self.books.of_domain.values():
                other.haunted |= other.kind in (IOMMU_DOMAIN_IDENTITY, IOMMU_DOMAIN_BLOCKED)
        shared = any(other is not book and other.place == book.place for other in self.books.of_domain.values())
        for device_book in self.books.devices:  # A13
            if device_book.excused and book.kind == "device" and not shared and not self.refusals():
                device_book.places = device_book.places - {book.place} or {IN_NULL}
        self.books.of_domain.pop(book.domain, None)
        if self.books.domains.get(book.handle) is book:
            del self.books.domains[book.handle]
            self.books.freed.add(book.handle)
        self.watch.end_call()
        self.watch.freed(book)

    # --- attach ---------------------------------------------------------------------------------------------------------

    def _attach_dev(self, device: Device, new: DomainBook, old: DomainBook | None, must: bool) -> int:
        """One ``attach_dev`` call."""
        assert self.ops is not None
        book = self.books.devices[device.number]
        before = self.hypervisor.place(book.key)
        count = self.driver.attach_count(old.domain) if old is not None and old.alive else None
        pointer = self.driver.pointer_domain(device)
        self.watch.begin_call("attach_dev", new, device)
        ret = self.ops.attach_dev(new.domain, device, old.domain if old is not None else None)
        if ret == 0:  # A2, A4, A9
            book.places = {new.place}
            book.excused = book.fallen = False
            book.known = True
        elif must and old is not None:  # A8, A10
            book.places = {*book.places, new.place, old.place, IN_NULL}
            book.excused = True
            new.lenient = old.lenient = True
        elif old is not None and self._way_back_refused(old):  # A6
            book.places = {old.place, IN_NULL} | ({before} & book.places)
            book.excused = True
            new.lenient = old.lenient = True
        if ret and book.excused:
            forced = self._forced_out(before)
            if forced is not None:  # taken out as it had to be, then refused everywhere: a forced state
                book.places = {*book.places, forced}
                book.fallen = True
                for special in self.books.of_domain.values():
                    special.lenient |= special.kind in (IOMMU_DOMAIN_IDENTITY, IOMMU_DOMAIN_BLOCKED)
            for other in self.books.devices:  # A16: functions with one id share the place
                if other is not book and other.key == book.key and other.known:
                    other.places, other.excused = {*other.places, *book.places}, True
                    other.fallen |= book.fallen
        self.watch.end_call()
        self.watch.attached(AttachCall(device, new, old, ret, must, before, count, pointer))
        return ret

    def _forced_out(self, before: Place) -> Place | None:
        """Where a detach leads, if the device had to be detached before it could move: always with a guest, and with a created
        domain where attach does not move or an attach answered that the device has to leave first."""
        policies = self.hypervisor.policies
        if self.config.l1vh:
            return NOWHERE
        leads = {"default": IN_DEFAULT, "null": IN_NULL, "none": NOWHERE}
        if before.kind == "guest":
            return leads[policies.direct_detach_leaves]
        if before.kind != "domain" or before in (IN_DEFAULT, IN_NULL):
            return None
        must_leave = policies.attach_elsewhere != "move" or self.watch.told_to_leave()
        return leads[policies.detach_leaves] if must_leave else None

    def _way_back_refused(self, old: DomainBook) -> bool:
        """A6: the hypervisor refused more than the attach itself, or the old guest cannot take the device back."""
        if old.place.kind == "guest":
            guest = self.hypervisor.partitions.get(old.place.id)
            if guest is None or guest.state != "active":
                return True
        return self.refusals() >= 2

    def _device_set_domain(self, group: Group, device: Device, new: DomainBook, old: DomainBook | None, must: bool) -> int:
        """``__iommu_device_set_domain``: with MUST_SUCCEED a failure tries the blocking domain."""
        ret = self._attach_dev(device, new, old, must)
        if ret and must and group.blocking_domain is not None and group.blocking_domain is not new.domain:
            self._attach_dev(device, self.books.of_domain[group.blocking_domain], old, True)
        return ret

    def _group_set_domain(self, group: Group, new: DomainBook, must: bool) -> int:
        """``__iommu_group_set_domain_internal``."""
        if group.domain is new.domain:
            return 0
        old = self.books.current(group)
        result = 0
        for index, device in enumerate(group.devices):
            ret = self._device_set_domain(group, device, new, old, must)
            if ret == 0:
                continue
            result = ret
            if must:
                continue
            if old is not None:
                for moved in group.devices[:index]:
                    self._device_set_domain(group, moved, old, new, True)
            return ret
        group.domain = new.domain
        return result

    def attach_group(self, group: Group, book: DomainBook) -> int:
        """``iommu_attach_group``; raises :class:`Refused` with -EBUSY if the group is in a third domain (A11)."""
        if group.domain is not None and group.domain not in (group.default_domain, group.blocking_domain):
            raise Refused(-EBUSY)
        ret = self._group_set_domain(group, book, False)
        self.watch.attach_request("attach")
        return ret

    def replace_group(self, group: Group, book: DomainBook) -> int:
        """``iommu_replace_group_handle``: needs an owned group."""
        if group.owner is None:
            raise Refused(-EINVAL)
        ret = self._group_set_domain(group, book, False)
        self.watch.attach_request("replace")
        return ret

    def detach_group(self, group: Group) -> int:
        """``iommu_detach_group``: must succeed."""
        target = group.blocking_domain if group.owner is not None else group.default_domain
        if target is None:
            raise Refused(-EINVAL)
        ret = self._group_set_domain(group, self.books.of_domain[target], True)
        self.watch.attach_request("detach")
        return ret

    def _blocking(self, group: Group, device: Device, by: int) -> DomainBook | int:
        """``__iommu_group_alloc_blocking_domain``: the static one, or an empty paging domain that is kept; or a negative errno."""
        assert self.ops is not None
        if group.blocking_domain is not None:
            return self.books.of_domain[group.blocking_domain]
        if self.ops.blocked_domain is not None:
            book: DomainBook | int = self._special(self.ops.blocked_domain, IOMMU_DOMAIN_BLOCKED)
        else:
            book = self._alloc_paging(device, by)
        if isinstance(book, DomainBook):
            group.blocking_domain = book.domain
        return book

    def claim(self, group: Group, by: int) -> int:
        """``iommu_group_claim_dma_owner`` by a thread; allocates the blocking domain if there is none."""
        if group.owner is not None or group.domain is not group.default_domain:
            raise Refused(-EBUSY)
        blocking = self._blocking(group, group.devices[0], by)
        if isinstance(blocking, int):
            return blocking
        ret = self._group_set_domain(group, blocking, False)
        if ret == 0:
            group.owner = by
        self.watch.attach_request("claim")
        return ret

    def disown(self, group: Group) -> int:
        """``iommu_group_release_dma_owner``: back to the default domain, must succeed."""
        if group.owner is None or group.default_domain is None:
            raise Refused(-EINVAL)
        group.owner = None
        ret = self._group_set_domain(group, self.books.of_domain[group.default_domain], True)
        self.watch.attach_request("disown")
        return ret

    def reset(self, device: Device, by: int) -> int:
        """``pci_dev_reset_iommu_prepare`` and ``_done``: blocking domain and back, this device only (A17)."""
        group = device.group
        if group is None or group.domain is None:
            raise Refused(-ENODEV)
        blocking = self._blocking(group, device, by)
        if isinstance(blocking, int):
            return blocking
        current = self.books.of_domain[group.domain]
        if current is blocking:
            return 0
        ret = self._attach_dev(device, blocking, current, False)
        if ret == 0:
            ret = self._attach_dev(device, current, blocking, True)
        self.watch.attach_request("reset")
        return ret
