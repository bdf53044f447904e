"""What a revision of the driver is made of, found out from the compiled file and one short trial run.

Structures and file-scope variables come from the debugging information. What they mean is seen in a trial with a hypervisor that
grants everything: the member that holds the id which CREATE_DEVICE_DOMAIN named is the id, the one that goes 0, 1, 2 while two
devices are attached is the count, and so on. Nothing goes by name. What is not found is not judged.
"""

from __future__ import annotations

import ctypes
import weakref
from dataclasses import dataclass, field
from typing import Any

from hvmodel.drivers.native import image as at
from hvmodel.drivers.native.dwarf import Member, Variable
from hvmodel.drivers.native.errors import NativeError
from hvmodel.drivers.native.image import Image
from hvmodel.hypervisor import abi
from hvmodel.kernel.iommu import Device

DETECT, INIT, OPTION, PROBE, FINALIZE, RELEASE, ALLOC, IDENTITY = range(8)
FREE, ATTACH, MAP, UNMAP, LOOKUP, TYPE, CAPABLE, RESERVED = range(8, 16)
"""``enum hvm_op`` of the runtime."""

REPORT, LOG, STATUS, ASK_ALLOC, DEPOSIT, PARTITION, SLEEP, SYSFS_ADD, SYSFS_REMOVE, REGISTER, DOMAIN_OF = range(1, 12)
"""``enum hvm_service``."""

C_ATOMIC, C_GFP_KERNEL, C_GFP_ATOMIC, C_PROBE, C_FAULTS = 1, 2, 4, 8, 16

_LONG = ("long unsigned int", "long int", "long long unsigned int", "long long int")  # as gcc has them
_COUNTS = ("unsigned int", "int", *_LONG, "unsigned long", "long", "unsigned long long", "long long", "atomic_t", "refcount_t")


@dataclass(slots=True)
class Traits:
    """Offsets and addresses in bytes; None is what this revision does not have, or what was not recognised."""

    domain: str
    """The structure that embeds ``struct iommu_domain``."""
    domain_at: int
    tree_at: int | None = None
    """``struct rb_root_cached`` in it."""
    ident: Member | None = None
    count: Member | None = None
    node: str | None = None
    """The structure that embeds ``struct interval_tree_node``."""
    node_at: int = 0
    paddr_at: int | None = None
    counter: tuple[int, int, int] | None = None
    """Where the id counter is in the image, its size, and what it is ahead of the last id (0 or 1)."""
    statics: dict[str, int] = field(default_factory=dict)
    """The file's static domains: where their ``struct iommu_domain`` is in the image."""
    pointers: dict[int, list[tuple[int, int]]] = field(default_factory=dict)
    """By size of a structure of the file: where it has a pointer to a domain, and what to add for the ``struct iommu_domain``."""
    names: dict[int, str] = field(default_factory=dict)
    """The file's structures by size, where that is unique."""

    def missing(self) -> list[str]:
        """What is not judged on this revision, in words."""
        books = (("domain id", self.ident), ("attach count", self.count), ("id counter", self.counter))
        found = [name for name, trait in books if trait is None]
        return found + (["tree of mappings"] if self.tree_at is None or self.paddr_at is None else [])


def find_traits(image: Image) -> Traits:
    """The traits of an image's driver. Raises NativeError if it is not this driver."""
    dwarf, source = image.dwarf, image.build.source
    domains = dwarf.holding("iommu_domain")
    if not domains:
        raise NativeError(f"{source} is not this driver: no structure of it embeds struct iommu_domain")
    name, member = domains[0]
    traits = Traits(name, member.offset)
    traits.tree_at = next((m.offset for m in dwarf.structures[name] if m.type == "rb_root_cached" and not m.pointer), None)
    for node, inside in dwarf.holding("interval_tree_node"):
        traits.node, traits.node_at = node, inside.offset
    sizes: dict[int, list[str]] = {}
    for struct, members in dwarf.structures.items():
        sizes.setdefault(dwarf.sizes[struct], []).append(struct)
        to = [(m.offset, member.offset) for m in members if m.pointer and m.type == name]
        to += [(m.offset, 0) for m in members if m.pointer and m.type == "iommu_domain"]
        if to:
            traits.pointers.setdefault(dwarf.sizes[struct], to)
    traits.names = {size: names[0] for size, names in sizes.items() if len(names) == 1}
    if traits.node is not None:
        traits.names[dwarf.sizes[traits.node]] = traits.node
    traits.names[dwarf.sizes[name]] = name
    traits.statics = {v.name: v.address + member.offset for v in dwarf.variables if v.type == name}
    _Trial(image, traits).run()
    return traits


class _TrialKernel:
    """What :meth:`Image.begin` asks of a kernel."""

    l1vh, hyperv, device_domains, mshv, hv_current_partition_id = False, True, True, False, 1
    rep_round, where = 0, ""

    def __init__(self, image: Image) -> None:
        self.image = image
        self.created: list[int] = []

    def door(self, control: int, page: bytearray, output: bytearray) -> int:
        """Every hypercall succeeds."""
        code = control & 0xFFFF
        if code == abi.HVCALL_CREATE_DEVICE_DOMAIN:
            self.created.append(int.from_bytes(page[20:24], "little"))
        elif code == abi.HVCALL_GET_IOMMU_CAPABILITIES:
            abi.IOMMU_CAPABILITIES_OUTPUT.pack_into(output, 0, 24, 0, 48, 0, 0, 0x1000)
        return (control >> 32 & 0xFFF) << 32 if code in abi.REP_CALLS else 0


class _Trial:
    """A driver's place in the image for one short run, with a hypervisor that grants everything."""

    follows = False
    saved: bytes | None = None
    shadow = None
    raised: BaseException | None = None

    def __init__(self, image: Image, traits: Traits) -> None:
        self.ref = weakref.ref(self)
        self.image, self.traits = image, traits
        self.kernel = _TrialKernel(image)

    def take_changes(self) -> None:
        """Nobody looks at trees here."""

    def service(self, _service: int, _a: int, _b: int, _where: int, _text: str) -> int:
        """Every service succeeds."""
        return 0

    def _call(self, op: int, *arguments: int, context: int = C_PROBE) -> int:
        padded = (*arguments, 0, 0, 0, 0, 0, 0)[:6]
        value = self.image.call(op, context | 1 << 32, *padded)
        if self.image.shared[at.ENDED] & 0xFF:
            raise _Broken
        return value

    def run(self) -> None:
        """Boot, then two domains, two devices and a page."""
        image, source = self.image, self.image.build.source
        owner: Any = self
        image.begin(owner)
        devices = [image.add_device(Device(number - 1, "trial", 0, number, 0, 0, number << 8)) for number in (1, 2)]
        try:
            if not self._call(DETECT):
                why = "hv_iommu_detect() sets no iommu_init on a root with device domains"
                raise NativeError(f"{source} is not this driver: {why}")
            ret = ctypes.c_int64(self._call(INIT)).value
            if ret or not image.library.hvm_has_ops():
                raise NativeError(f"{source} is not this driver: its init function answers {ret} and registers no iommu_ops")
            self._learn(devices)
        except _Broken:
            pass  # what was learned before it broke holds; how it broke is for the hunt
        image.forget()

    def _learn(self, devices: list[int]) -> None:
        image, traits = self.image, self.traits
        static = (ctypes.c_uint64 * 3)()
        image.library.hvm_offers(static)
        for device in devices:
            self._call(PROBE, device)
        home = static[0] or self._call(IDENTITY, devices[0])
        for device in devices:
            self._call(ATTACH, home, device, 0)
        domains: list[int] = []
        counters: list[dict[int, int]] = []
        variables = [v for v in image.dwarf.variables if v.type in _COUNTS and v.size in (4, 8)]
        for _ in range(2):
            domain = self._call(ALLOC, devices[0])
            if not domain or domain >> 63:
                return
            domains.append(domain)
            counters.append({v.address: image.read(image.base + v.address, v.size) for v in variables})
        if len(self.kernel.created) >= 2:
            ids = self.kernel.created[-2:]
            traits.ident = self._member(domains, ids)
            for variable in variables:
                ahead = [seen[variable.address] - ident for seen, ident in zip(counters, ids, strict=True)]
                if ahead[0] == ahead[1] and ahead[0] in (0, 1) and self._counts(variable, ahead[0], devices[0]):
                    traits.counter = (variable.address, variable.size, ahead[0])
        self._learn_paddr(domains[0])
        self._learn_count(domains, devices, home)

    def _counts(self, variable: Variable, ahead: int, device: int) -> bool:
        """Whether the next id follows this variable."""
        place = self.image.base + variable.address
        before = self.image.read(place, variable.size)
        self.image.library.hvm_write(place, variable.size, 0x7000 + ahead)
        self._call(ALLOC, device)
        if self.kernel.created[-1] == 0x7001:
            return True
        self.image.library.hvm_write(place, variable.size, before)
        return False

    def _value(self, domain: int, member: Member) -> int:
        return self.image.read(domain - self.traits.domain_at + member.offset, member.size)

    def _plain(self) -> list[Member]:
        members = self.image.dwarf.structures[self.traits.domain]
        return [m for m in members if not m.pointer and m.size in (4, 8) and m.type in _COUNTS]

    def _member(self, domains: list[int], values: list[int]) -> Member | None:
        for member in self._plain():
            if [self._value(domain, member) for domain in domains] == values:
                return member
        return None

    def _learn_paddr(self, domain: int) -> None:
        traits, image = self.traits, self.image
        if traits.tree_at is None or traits.node is None:
            return
        self._call(MAP, domain, 0x5000, 0x7654_3000, 0x1000, 1, 3 | 1 << 16, context=0)
        root = domain - traits.domain_at + traits.tree_at
        found = image.search(root, 0x5000, 0x5FFF, 0, 0)
        if not found:
            return
        node = found[2] - traits.node_at
        for member in image.dwarf.structures[traits.node]:
            if member.size == 8 and image.read(node + member.offset, 8) == 0x7654_3000:
                traits.paddr_at = member.offset - traits.node_at

    def _learn_count(self, domains: list[int], devices: list[int], home: int) -> None:
        members = self._plain()
        seen: list[list[int]] = []

        def look() -> None:
            seen.append([self._value(domains[0], member) for member in members])

        look()
        for device in devices:
            self._call(ATTACH, domains[0], device, home)
            look()
        self._call(ATTACH, domains[1], devices[0], domains[0])
        look()
        for member, *values in zip(members, *seen, strict=True):
            if values == [0, 1, 2, 1] and member != self.traits.ident:
                self.traits.count = member


class _Broken(Exception):
    """The trial's driver crashed."""
