"""One name for each state: what of a world decides what comes next, in a form in which equal states are equal bytes.

A state is all three views and what the world still remembers: the hypervisor's domains, places and pools; the callers' books; the
driver's own memory, whatever it is made of; faults that still last; and what the judge has to know of the past. What is left out
is in :data:`LEFT_OUT` with the reason; a test holds the lists against every field of every object of a world.

With ``symmetry`` names that mean nothing are taken out: handles become the order of allocation, extents the order of addresses,
physical regions the order in which they appear, and devices with equal configuration in groups of their own are sorted by what is
known of them. What a driver keeps in a list for each device counts without its order then. Ids of domains and partitions stay as
they are: a driver may compute with them.

The state is made of pieces (one for each device, domain and page table), each with the objects that it was read from. After an
operation only the pieces whose objects changed are read again.
"""

from __future__ import annotations

import marshal
from collections.abc import Callable, Iterable
from hashlib import blake2b
from types import BuiltinFunctionType, FunctionType, MethodType
from typing import Any

from hvmodel.callers.books import DeviceBook, DomainBook
from hvmodel.configuration import Configuration
from hvmodel.gears.exhaustive.snapshot import Change
from hvmodel.gears.exhaustive.user_state import user_state
from hvmodel.hypervisor.abi import PAGE_SHIFT
from hvmodel.hypervisor.objects import Domain
from hvmodel.kernel.interval_tree import IntervalTree
from hvmodel.kernel.iommu import IommuDomain, IommuOps
from hvmodel.kernel.services import Cpu, Kernel, SpinLock
from hvmodel.world import World

REGION_SHIFT = 32
"""Each physical region of a scope has 4 GiB for itself, so that an address tells its region."""

_FRAME_SHIFT = REGION_SHIFT - PAGE_SHIFT

FIRST_REGION = 16
FAR_REGION = 1 << 13
MOST_REGIONS = 16
"""Region 0 lies at 64 GiB, the others from 32 TiB on, where the numbers of frames have more than 32 bits: no IOVA of a scope lies
in any of them."""

AMPLE = 1 << 16
"""Free pages in a pool from which on a scope cannot meet its end: how much exactly is there decides nothing then."""

DIGEST = 16
"""Bytes of a state's name."""

_DEVICE = 64
"""Names of devices in a piece begin here; smaller numbers are regions."""

_BOOK, _DOMAIN, _DRIVERS, _DEV, _PRIV, _BOOKOF = "book", "domain", "hvdom", "dev", "priv", "bookof"


def region(number: int, shift: int = 0) -> int:
    """The physical address, in bytes, at which a scope's region begins, ``shift`` pages off 4 GiB alignment."""
    return (FIRST_REGION if number == 0 else FAR_REGION + number) * (1 << REGION_SHIFT) + (shift << PAGE_SHIFT)


def region_of(place: int) -> int | None:
    """The number of the region in which an address lies, by its bits above 4 GiB; None if it lies in none."""
    if FAR_REGION < place < FAR_REGION + MOST_REGIONS:
        return place - FAR_REGION
    return 0 if place == FIRST_REGION else None


def exchangeable(config: Configuration) -> list[int]:
    """The numbers of devices that differ in nothing but their address and are alone in their groups; none if there is only one."""
    groups = [function.group for function in config.devices]
    named = {number for number, _ident in config.left_devices}
    named |= {function.alias for function in config.devices if function.alias is not None}
    found = [
        number
        for number, function in enumerate(config.devices)
        if groups.count(function.group) == 1
        and function.alias is None
        and not function.owned
        and not function.reserved
        and function.segment < 1 << 16
        and number not in named
    ]
    return found if not config.skip and len(found) > 1 else []


_PLUMBED = "how the parts of a world know each other; it does not change"
_FIXED = "from the configuration or the driver's build; it does not change"
_CALL = "of the running call; the next one sets it anew"

TAKEN: dict[str, str] = {
    "World": "booted over vms ended_vms",
    "FaultPlan": "_active",
    "Books": "domains of_domain devices groups zombies guests foreign freed left_runs failed_allocs failed_ids",
    "DomainBook": "handle kind place by hv_id pages aside extents requests lenient haunted domain pinned forgiven",
    "DeviceBook": "device key places excused fallen known vanished",
    "Group": "number devices domain default_domain blocking_domain owner",
    "Device": "number present claimed priv group",
    "IommuDomain": "container geometry pgsize_bitmap type",
    "Kernel": "iommu_detected iommu_init sysfs_visible registered probe_lock_held partitions_of",
    "Cpu": "irqs_off locks",
    "Slab": "live",
    "Judge": "muted named reported used_at_boot",
    "Hypervisor": "devices domains partitions caller _next_guest _deposited",
    "hypervisor.Device": "key place logical pages_used present stale",
    "Domain": "id table tables pages_used devices",
    "Partition": "id state pool",
    "Pool": "free used blocks",
    "UserSpace": "dma files held iommufd memory vfio windows",
    "Type1": "containers",
    "Container": "number by probe dmas domains",
    "VfioDma": "start pages prot mmio",
    "VfioDomain": "book groups fgsp",
    "Iommufd": "ioases bound attached",
    "Ioas": "number by areas domains hwpts accesses",
    "Hwpt": "number book groups",
    "Area": "start prot runs by mmio small short stored revoked",
    "DmaApi": "streams",
    "Stream": "book start frame pages",
    "Memory": "pins owners memory bars",
}
"""What names a state, class by class; of the driver's own objects everything does. What user space holds is part of it where a rule
of user space is asked (``user_state.py``)."""

LEFT_OUT: dict[str, tuple[str, str]] = {
    "World": ("core driver driver_entry faults hypervisor judge kernel books config user _handlers", _PLUMBED),
    "World.": ("applied levels next_handle", "counts for reports; handles are names"),
    "FaultPlan": ("_before fired order reached", "of the running operation, and counts for reports"),
    "DomainBook": ("name alive next_extent request_from pgsize_bitmap", "names, and what follows from the rest"),
    "IommuCore": ("books config driver hypervisor kernel watch ops refusals", _PLUMBED),
    "IommuCore.": ("next_special", "a name for the next domain that the core makes for itself"),
    "Device": ("bus function is_pci name requester segment slot", _FIXED),
    "Kernel": ("cpu slab faults door domain_of on_visible preempt", _PLUMBED),
    "Kernel.": ("l1vh mshv hyperv device_domains hv_current_partition_id", _FIXED),
    "Kernel..": ("deposit_calls gfp_allowed log rep_round reports where", _CALL),
    "Kernel...": ("deposited next_frame", "which frames were deposited decides nothing: none is given twice"),
    "Cpu": ("atomic_caller tgid", _CALL),
    "Cpu.": ("input_page output_page", "scratch; a driver that reads what it did not write there is told apart by what follows"),
    "Slab": ("_faults report owner", _PLUMBED),
    "Judge": ("core driver hypervisor kernel refusals story", _PLUMBED),
    "Judge.": ("judged", "counts for reports"),
    "Judge..": ("static_when_visible", "compared once, when the driver is initialised"),
    "Judge...": (
        "_before_attach _old_book book call call_pages calls device domains_before environment idle_deposits issued moving overran "
        "owner touched unrecovered violations",
        _CALL,
    ),
    "Hypervisor": ("_list_header _rep _simple policies domain_limit iova_width l1vh width_pages", _FIXED),
    "Hypervisor.": (
        "_contiguous _garbage _remap_checked _short _shortage _simple_reps _table_cost _table_pages _tables_cost _unmap_checked",
        _FIXED,
    ),
    "Hypervisor..": ("effects refused", _CALL),
    "Hypervisor...": ("logical", "the devices say it"),
    "hypervisor.Device": ("owned reserved", _FIXED),
    "Partition": ("kind", _FIXED),
    "Pool": ("frames", "which frames a pool has decides nothing: none is mapped within a scope"),
    "SpinLock": ("name", "a name"),
    "Areas": ("user", _PLUMBED),
    "DmaApi": ("user", _PLUMBED),
    "Iommufd": ("areas user", _PLUMBED),
    "UserSpace": ("as_thread core", _PLUMBED),
    "Type1": ("user", _PLUMBED),
    "Memory": ("never_pinned", "a count that nothing decides by"),
    "Hwpt": ("ioas", "it is in the list of its address space"),
}
"""Class (dots only tell entries of one class apart) -> fields that do not name a state, and why."""


class Piece:
    """A part of a state. ``form`` is what it says without the names in it, ``names`` are those in order (regions, devices, and
    tuples of devices whose order means nothing), ``read`` the ids of the objects that it was read from."""

    __slots__ = ("form", "names", "read")

    def __init__(self) -> None:
        self.form = b""
        self.names: list[Any] = []
        self.read: set[int] = set()


class Canonical:
    """Names the states of one world: :meth:`take` reads all of it, :meth:`after` what an operation changed since."""

    def __init__(self, world: World, symmetry: bool = True, user: bool = False) -> None:
        """``user``: user space acts, and what it holds is part of a state; then devices and regions are what they are."""
        self.world = world
        self.symmetry = symmetry
        self._user = user
        self._alike = symmetry and not user
        """Whether devices and regions are taken for one another."""
        self._free = frozenset(exchangeable(world.config)) if self._alike else frozenset()
        self._pieces: dict[Any, Piece] = {}
        self._labels: dict[int, Any] = {}
        self._homes: dict[int, Any] = {}
        self._crossed = False
        self._guarded: set[int] = set()
        self._piece = Piece()
        self._key: Any = None
        self._memo: dict[int, int] = {}
        self._added: list[int] = []
        """What was put into the homes since they were last in order."""
        self._ids: tuple[int, ...] = ()
        """Numbers of the device that is being read, which say nothing but which one it is."""
        self._native = False
        """Whether the driver's memory is not Python's."""
        self._index: dict[int, list[Any]] = {}
        self._plain: tuple[bytes, list[Any]] = (b"", [])

    # --- the two ways to a name ---------------------------------------------------------------------------------------------

    def take(self) -> bytes:
        """Read the world as it is, and remember it; its name, 16 bytes."""
        self._pieces = self._all()
        self._added.clear()
        index: dict[int, list[Any]] = {}
        self._index = index
        for key, piece in self._pieces.items():
            for at in piece.read:
                index.setdefault(at, []).append(key)
        self._plain = self._join(self._pieces)
        return self._name(self._plain, self._rest(self._pieces))

    def after(self, changes: list[Change]) -> bytes:
        """The name of the world as it is, which differs from what :meth:`take` read by these changes."""
        index, guarded = self._index, self._guarded
        stale: dict[Any, None] = {}
        whole = self._crossed
        for _form, _place, item, _value in changes:
            at = id(item)
            if at in guarded:
                whole = True
                break
            keys = index.get(at)
            if keys is not None:
                for key in keys:
                    stale[key] = None
        if whole:
            return self._anew()
        pieces = self._pieces
        if not stale:
            return self._name(self._plain, self._rest(pieces))
        pieces = dict(pieces)
        for key in stale:
            pieces[key] = self._make(key)
        for at in self._added:
            del self._homes[at]
        self._added.clear()
        if self._crossed:
            return self._anew()
        return self._name(self._join(pieces), self._rest(pieces))

    def advance(self, changes: list[Change]) -> Any:
        """Remember the world as it is, which differs from what is remembered by these changes; what :meth:`retreat` takes."""
        before = (self._pieces, self._index, self._plain, self._labels, self._homes, self._crossed, self._guarded)
        index = self._index
        stale: dict[Any, None] = {}
        for change in changes:
            at = id(change.item)
            if at in self._guarded or self._crossed:
                self.take()
                return before
            for key in index.get(at, ()):
                stale[key] = None
        self._homes = dict(self._homes)
        self._pieces = dict(self._pieces)
        self._index = dict(index)
        for key in stale:
            piece = self._pieces[key] = self._make(key)
            for at in piece.read:
                known = index.get(at, ())
                if key not in known:
                    self._index[at] = [*known, key]
        self._added.clear()
        if self._crossed:
            self.take()
        elif stale:
            self._plain = self._join(self._pieces)
        return before

    def retreat(self, before: Any) -> None:
        """Remember again what was remembered before :meth:`advance`."""
        self._pieces, self._index, self._plain, self._labels, self._homes, self._crossed, self._guarded = before

    def _anew(self) -> bytes:
        """Read everything, and leave what is remembered as it is."""
        labels, homes, crossed, guarded = self._labels, self._homes, self._crossed, self._guarded
        pieces = self._all()
        name = self._name(self._join(pieces), self._rest(pieces))
        self._added.clear()
        self._labels, self._homes, self._crossed, self._guarded = labels, homes, crossed, guarded
        return name

    def _all(self) -> dict[Any, Piece]:
        world = self.world
        books, hypervisor, kernel = world.books, world.hypervisor, world.kernel
        labels: dict[int, Any] = {}
        self._labels = labels
        self._homes = {}
        self._crossed = False
        for rank, (domain, book) in enumerate(books.of_domain.items()):
            name = rank if self.symmetry else book.handle
            labels[id(domain)] = (_DOMAIN, name)
            labels[id(book)] = (_BOOK, name)
            if domain.container is not None:
                labels[id(domain.container)] = (_DRIVERS, name)
        for device_book in books.devices:
            device = device_book.device
            labels[id(device)] = (_DEV, device.number)
            labels[id(device_book)] = (_BOOKOF, device.number)
            if device.priv is not None and type(device.priv) not in _PLAIN and type(device.priv) is not int:
                labels.setdefault(id(device.priv), (_PRIV, device.number))
        self._guarded = {id(books.of_domain), id(hypervisor.domains), id(vars(world)), id(books.devices)}
        self._guarded |= {id(book.device) for book in books.devices}
        keys: list[Any] = [("device", number) for number in range(len(books.devices))]
        keys += [("domain", domain) for domain in books.of_domain]
        keys += [("table", domain.id) for domain in hypervisor.domains.values()]
        self._native = hasattr(world.driver, "canonical_memory")
        if not self._native:
            keys.append(("driver",))
        assert kernel is not None
        return {key: self._make(key) for key in keys}

    def _make(self, key: Any) -> Piece:
        piece = self._piece = Piece()
        self._key = key
        self._memo = {}
        kind = key[0]
        if kind == "device":
            if key[1] in self._free:
                book = self.world.books.devices[key[1]]
                self._ids = (book.key, book.device.requester)
            content = self._device(key[1])
            self._ids = ()
        elif kind == "domain":
            content = self._domain(key[1])
        elif kind == "table":
            content = self._table(self.world.hypervisor.domains[key[1]])
        else:
            own = vars(self.world.driver)
            piece.read.add(id(own))
            content = self._fields(own)
        piece.form = marshal.dumps(content, 2)
        return piece

    def _join(self, pieces: dict[Any, Piece]) -> tuple[bytes, list[Any]]:
        """The forms of all pieces, and the names in them by what they mean nothing beyond."""
        free = self._free
        places: dict[int, int] = {}
        ordered: Iterable[Piece] = pieces.values()
        if free:
            ranked = sorted([(pieces["device", number].form, number) for number in free])
            for place, (_form, number) in zip(sorted(free), ranked, strict=True):
                places[number] = place
            order = sorted(range(len(self.world.books.devices)), key=lambda number: places.get(number, number))
            devices = [pieces["device", number] for number in order]
            ordered = [*devices, *[piece for key, piece in pieces.items() if key[0] != "device"]]
        regions: dict[int, int] = {}
        said: list[Any] = []
        for piece in ordered:
            for name in piece.names:
                if type(name) is tuple:
                    said.append(sorted([places.get(number, number) for number in name]) if self._alike else list(name))
                elif name >= _DEVICE:
                    said.append(places.get(name - _DEVICE, name - _DEVICE))
                else:
                    said.append(regions.setdefault(name, len(regions)) if self._alike else name)
        return b"".join([piece.form for piece in ordered]), said

    @staticmethod
    def _name(joined: tuple[bytes, list[Any]], rest: Any) -> bytes:
        return blake2b(joined[0] + marshal.dumps((joined[1], rest), 2), digest_size=DIGEST).digest()

    # --- devices ------------------------------------------------------------------------------------------------------------

    def _device(self, number: int) -> Any:
        world = self.world
        book: DeviceBook = world.books.devices[number]
        device, group = book.device, book.device.group
        state = world.hypervisor.devices[book.key]
        read = self._piece.read
        read.update((id(book), id(book.places), id(device), id(state), id(world.judge.named)))
        grouped: Any = None
        if group is not None:
            read.update((id(group), id(group.devices)))
            labels = self._labels
            grouped = (
                len(group.devices) if self._free else [member.number for member in group.devices],
                group.owner,
                labels.get(id(group.domain)),
                labels.get(id(group.default_domain)),
                labels.get(id(group.blocking_domain)),
            )
        return (
            number if number not in self._free else None,
            tuple(state.place),
            state.logical is None,
            state.pages_used,
            state.present,
            None if state.stale is None else [tuple(run) for run in state.stale],
            sorted(map(tuple, book.places)),
            (book.excused, book.fallen, book.known, book.vanished, device.present, device.claimed),
            book.key in world.judge.named,
            grouped,
            device.priv is not None if self._native else None if device.priv is None else self._object(device.priv),
        )

    # --- domains ------------------------------------------------------------------------------------------------------------

    def _domain(self, domain: IommuDomain) -> Any:
        book: DomainBook = self.world.books.of_domain[domain]
        read, frame = self._piece.read, self.frame
        read.update((id(book), id(book.pages), id(book.extents), id(book.requests), id(book.aside._map), id(domain)))
        renamed: dict[int, int] = {}
        runs = []
        for run in book.pages:
            extent = renamed.setdefault(run.tag >> 3, len(renamed))
            runs.append((run.start, run.end, frame(run.frame), run.tag & 7, extent))
        extents = book.extents
        return (
            book.handle > 0 if self.symmetry else book.handle,
            book.kind,
            tuple(book.place),
            book.by,
            book.hv_id,
            runs,
            [extents.get(number) for number in renamed],
            [tuple(part) for part in book.aside.ranges()] if book.aside else None,
            sorted(book.requests.items()),
            book.lenient,
            book.haunted,
            None if domain.geometry is None else tuple(domain.geometry),
            domain.pgsize_bitmap,
            domain.type,
            None if domain.container is None or self._native else self._object(domain.container),
        )

    def _table(self, domain: Domain) -> Any:
        read, frame = self._piece.read, self.frame
        read.update((id(domain), id(domain.table), id(domain.devices), *map(id, domain.tables)))
        used: Any = None
        if self.world.hypervisor.caller.pool.free < AMPLE:
            used = ([sorted(level) for level in domain.tables], domain.pages_used)
        runs = [(run.start, run.end, frame(run.frame), run.tag) for run in domain.table]
        return domain.id, runs, len(domain.devices), used

    # --- the rest: small, and read anew each time -----------------------------------------------------------------------------

    def _rest(self, pieces: dict[Any, Piece]) -> Any:
        world = self.world
        books, kernel, hypervisor, judge, faults = world.books, world.kernel, world.hypervisor, world.judge, world.faults
        labels, pool = self._labels, hypervisor.caller.pool
        used = pool.used - judge.used_at_boot
        ample = pool.free >= AMPLE
        if ample:  # what is used and belongs to nothing has leaked
            for domain in hypervisor.domains.values():
                used -= domain.pages_used
            for device in hypervisor.devices.values():
                used -= device.pages_used
        partitions = [
            (one.id, one.state, None if one.pool.free >= AMPLE else (one.pool.free, one.pool.blocks))
            for one in hypervisor.partitions.values()
        ]
        lasting: Any = None
        if faults.pending:
            lasting = [
                (entry[0].site, entry[0].status, entry[0].done, entry[2]) for entry in faults._active if entry[1] and entry[2] != 0
            ]
        odd: Any = None
        if judge.reported or judge.muted or books.zombies or books.foreign or books.failed_ids or books.guests:
            odd = (
                sorted(judge.reported),
                sorted(judge.muted),
                list(books.zombies.items()),
                sorted(books.foreign),
                sorted(books.failed_ids),
                sorted(map(tuple, books.guests)),
            )
        return (
            (partitions, used, hypervisor._next_guest, hypervisor._deposited),
            [number for number in books.groups if not self._free or number not in self._free],
            [labels.get(id(book)) for book in books.domains.values()],
            len(books.freed) if self.symmetry else sorted(books.freed),
            (books.left_runs, books.failed_allocs, odd, lasting),
            (world.booted, world.over, list(world.vms.items()), sorted(world.ended_vms)),
            (kernel.cpu.irqs_off, len(kernel.cpu.locks), kernel.probe_lock_held, kernel.iommu_detected),
            (kernel.iommu_init is None, kernel.sysfs_visible, kernel.registered is None),
            [(tgid, list(owned)) for tgid, owned in kernel.partitions_of.items()],
            self._lost(pieces),
            user_state(world, labels) if self._user else None,
        )

    def _lost(self, pieces: dict[Any, Piece]) -> Any:
        """What is allocated and cannot be reached from anything: it is only missed in the end."""
        native = getattr(self.world.driver, "canonical_memory", None)
        if native is not None:
            form, owners = native(self._labels, list(self.world.books.of_domain))
            return form, [self._owner(owner) for owner in owners]
        reached = set().union(*[piece.read for piece in pieces.values()])
        labels = self._labels
        lost = [
            (type(item).__name__, self._owner(labels.get(id(owner))))
            for item, owner in self.world.kernel.slab.live.items()
            if id(item) not in reached and id(item) not in labels
        ]
        return sorted(lost, key=repr) if lost else None

    @staticmethod
    def _owner(label: Any) -> Any:
        """Of what belongs to a device it does not matter to which."""
        return _BOOKOF if label is not None and label[0] == _BOOKOF else label

    # --- the driver's memory ------------------------------------------------------------------------------------------------

    def _fields(self, held: dict[str, Any]) -> Any:
        encode = self.encode
        return [encode(value) for value in held.values() if type(value) not in _PLUMBING]

    def encode(self, value: Any) -> Any:
        """Anything of a driver's, as numbers, strings and tuples."""
        cls = type(value)
        if cls is int:
            if value in self._ids:
                return "id"
            return self._number(value) if value >> REGION_SHIFT else value
        if cls in _PLAIN:
            return value
        label = self._labels.get(id(value))
        if label is not None:
            if label[0] is _DEV or label[0] is _PRIV or label[0] is _BOOKOF:
                self._piece.names.append(_DEVICE + label[1])
                return label[0]
            return label
        if cls in _PLUMBING:
            return None
        if cls is list:
            return self._list(value)
        if isinstance(value, tuple):
            return tuple([self.encode(item) for item in value])
        if cls is IntervalTree:
            self._piece.read.add(id(value))
            return [self.encode(node) for node in value] if value._entries else None
        if cls is SpinLock:
            self._piece.read.add(id(value))
            return value.holder is not None
        if cls is dict:
            self._piece.read.add(id(value))
            return [(self.encode(key), self.encode(held)) for key, held in value.items()]
        if cls is set or cls is frozenset:
            self._piece.read.add(id(value))
            return sorted([self.encode(item) for item in value], key=repr)
        return self._object(value)

    def _list(self, items: list[Any]) -> Any:
        self._piece.read.add(id(items))
        if len(items) > 1 and self._free:
            labels = [label for item in items if (label := self._labels.get(id(item))) is not None and label[0] is _PRIV]
            if len(labels) == len(items) and all(label[1] in self._free for label in labels):
                self._piece.names.append(tuple([label[1] for label in labels]))
                return (_PRIV, len(items))
        return [self.encode(item) for item in items]

    def _object(self, value: Any) -> Any:
        """An object with its fields; named by its number where it comes again."""
        memo = self._memo
        at = id(value)
        known = memo.get(at)
        if known is not None:
            return ("seen", known)
        memo[at] = len(memo)
        home = self._homes.get(at)
        if home is None:
            self._homes[at] = self._key
            self._added.append(at)
        elif home != self._key:
            self._crossed = True
        read = self._piece.read
        read.add(at)
        cls = type(value)
        gets = _GETS.get(cls)
        if gets is None:
            gets = _GETS[cls] = _slot_getters(cls)
        if not gets:
            held = getattr(value, "__dict__", {})
            read.add(id(held))
            return (cls.__name__, self._fields(held))
        encode = self.encode
        fields: list[Any] = [cls.__name__]
        for get in gets:
            try:
                part = get(value)
            except AttributeError:
                fields.append("unset")
                continue
            kind = type(part)
            plain = kind in _PLAIN or (kind is int and not part >> REGION_SHIFT and part not in self._ids)
            fields.append(part if plain else encode(part))
        return fields

    # --- numbers ------------------------------------------------------------------------------------------------------------

    def frame(self, number: int) -> int:
        """A page frame number; of one in a region only the place in it, the region is a name."""
        place = region_of(number >> _FRAME_SHIFT)
        if place is not None:
            self._piece.names.append(place)
            return number & (1 << _FRAME_SHIFT) - 1
        return number

    def _number(self, number: int) -> int:
        place = region_of(number >> REGION_SHIFT)
        if place is not None:
            self._piece.names.append(place)
            return number & (1 << REGION_SHIFT) - 1
        return number


_PLAIN = frozenset({bool, str, bytes, float, type(None)})
_PLUMBING = frozenset({Kernel, IommuOps, Cpu, FunctionType, BuiltinFunctionType, MethodType})
_GETS: dict[type, list[Callable[[Any], Any]]] = {}


def _slot_getters(cls: type) -> list[Callable[[Any], Any]]:
    """How to read each slot, without the poison of a freed object."""
    found = []
    for base in reversed(cls.__mro__):
        slots: str | Iterable[str] = base.__dict__.get("__slots__", ())
        for name in [slots] if isinstance(slots, str) else slots:
            if name not in ("_slab", "__dict__", "__weakref__"):
                found.append(base.__dict__[name].__get__)
    return found


__all__ = ["AMPLE", "DIGEST", "Canonical", "exchangeable", "region", "region_of"]
