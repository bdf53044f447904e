"""A native driver behind the interface of every other: Python's questions go into the image, those of C come out to ``Kernel``."""

from __future__ import annotations

import ctypes
import re
import struct
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hvmodel.drivers.interface import Driver
from hvmodel.drivers.native import image as at
from hvmodel.drivers.native.build import Build
from hvmodel.drivers.native.image import Image, image_of
from hvmodel.drivers.native.kept import Kept
from hvmodel.drivers.native.memory import NativeObject, NativeSlab
from hvmodel.drivers.native.shadow import Shadow, pair
from hvmodel.drivers.native.traits import (
    ALLOC,
    ASK_ALLOC,
    ATTACH,
    C_ATOMIC,
    C_FAULTS,
    C_GFP_ATOMIC,
    C_GFP_KERNEL,
    C_PROBE,
    CAPABLE,
    DEPOSIT,
    DETECT,
    DOMAIN_OF,
    FINALIZE,
    FREE,
    IDENTITY,
    INIT,
    LOG,
    LOOKUP,
    MAP,
    OPTION,
    PARTITION,
    PROBE,
    REGISTER,
    RELEASE,
    REPORT,
    RESERVED,
    STATUS,
    SYSFS_ADD,
    SYSFS_REMOVE,
    TYPE,
    UNMAP,
    Traits,
    find_traits,
)
from hvmodel.drivers.native.tree import NativeTree, Node
from hvmodel.faults import KZALLOC
from hvmodel.kernel.iommu import (
    GFP_ATOMIC,
    GFP_KERNEL,
    IOMMU_DOMAIN_BLOCKED,
    IOMMU_DOMAIN_DMA,
    IOMMU_DOMAIN_IDENTITY,
    Device,
    IommuDomain,
    IommuOps,
)
from hvmodel.kernel.services import Kernel, Oops, SpinLock

_GFP = {GFP_KERNEL: C_GFP_KERNEL, GFP_ATOMIC: C_GFP_ATOMIC}
_LEVELS = ("err", "warn", "info", "debug")
_TYPES = {0: IOMMU_DOMAIN_BLOCKED, 4: IOMMU_DOMAIN_IDENTITY, 3: IOMMU_DOMAIN_DMA}
_CHANGE = struct.Struct("<QQQ")
_HEX = re.compile(r"@([0-9a-f]+)")

_CRASHES = {
    1: ("out-of-bounds", "an address that is nothing of the driver's is accessed"),
    2: ("null-write", "a NULL pointer is followed"),
    3: ("out-of-bounds", "an address that is nothing is accessed"),
    4: ("bug", "an arithmetic error, such as a division by zero"),
    5: ("bug", "BUG"),
    6: ("endless", "the call goes round and round"),
    7: ("bug", "the stack is used up"),
}
"""Rule and words for each ``enum hvm_crash_kind``."""


def signed(number: int) -> int:
    """C's ``s64`` of a ``u64``."""
    return number if number < 1 << 63 else number - (1 << 64)


class NativeDriver(Kept, Driver):
    """The file's functions and statics, in an image of their own."""

    name = "native"
    follows = False

    def __init__(self, kernel: Kernel, build: Build, traits: Traits, image: Image, second: Image | None = None) -> None:
        super().__init__(kernel)
        self.build, self.traits, self.image = build, traits, image
        self.ref = weakref.ref(self)
        self.saved: bytes | None = None
        self.raised: BaseException | None = None
        self._domains: dict[int, IommuDomain] = {}
        self._addresses: dict[IommuDomain, int] = {}
        self._trees: dict[int, NativeTree] = {}
        self._devices: dict[Device, int] = {}
        self._by_number: list[Device] = []
        self._said: dict[tuple[str, int], tuple[str, str]] = {}
        self.paddr_at = (traits.paddr_at or 0) & 0xFFFFFFFFFFFFFFFF
        known = traits.tree_at is not None and traits.paddr_at is not None
        self._tree_offset = (traits.tree_at or 0) - traits.domain_at if known else None
        image.begin(self)
        self.slab = NativeSlab(self)
        kernel.slab = self.slab
        kernel.cpu.input_page, kernel.cpu.output_page = image.input, image.output
        self.shadow = Shadow(self, second) if second is not None else None
        self.follow()

    def follow(self) -> None:
        """The second image follows the first one if this world still has one."""
        if self.shadow is not None:
            self.shadow.lead(self.image, True)
        else:
            self.image.lead(0, 0, 0)

    # --- into the image ---------------------------------------------------------------------------------------------------

    def here(self) -> Image:
        """The image with this driver's world in it."""
        image = self.image
        if image.owner_ref is not self.ref:
            image.enter(self)
        return image

    def _call(self, op: int, a: int = 0, b: int = 0, c: int = 0, d: int = 0, e: int = 0, f: int = 0) -> int:
        image, kernel = self.image, self.kernel
        if image.owner_ref is not self.ref:
            image.enter(self)
        faults, cpu = kernel.faults, kernel.cpu
        context = cpu.tgid << 32
        if kernel.gfp_allowed is not None:
            context |= _GFP[kernel.gfp_allowed]
        if self.slab.owner is not None:
            context |= self.slab.owner_number() << 8
        if cpu.atomic_caller:
            context |= C_ATOMIC
        if kernel.probe_lock_held:
            context |= C_PROBE
        if faults.pending and faults.awaits(KZALLOC):
            context |= C_FAULTS
        value = image.call(op, context, a, b, c, d, e, f)
        ended: int = image.shared[at.ENDED]
        if ended:
            if ended >> 32:
                faults.reached[KZALLOC] = faults.reached.get(KZALLOC, 0) + (ended >> 32)
            if ended & 0xFFFFFFFF:
                if ended & 0x80:
                    self._parted()
                    ended &= ~0x80
                if ended & 0xFFFFFFFF:
                    self._ended_badly(image, ended)
        return value

    def _parted(self) -> None:
        """The second image did not do the same."""
        self.shadow = None
        place = self.image.where(self.image.shared[at.PARTED])
        what = f"whether {place} is reached" if place else "what the call answers"
        self.kernel.report("uninitialised-read", f"a value that was never set decides {what}")

    def _ended_badly(self, image: Image, ended: int) -> None:
        kernel, shared = self.kernel, image.shared
        kernel.cpu.irqs_off = bool(ended >> 8 & 1)
        kernel.cpu.locks = [SpinLock("a lock") for _ in range(ended >> 16 & 0xFFFF)]
        image.library.hvm_balance()
        outcome = ended & 0xFF
        if outcome == 1:
            raised, self.raised = self.raised, None
            assert raised is not None
            raise raised
        if outcome == 2:
            rule, words = _CRASHES[shared[at.CRASH_KIND]]
            kernel.report(rule, self._placed(words, shared[at.CRASH_WHERE]))
            kernel.cpu.irqs_off, kernel.cpu.locks = False, []
            raise Oops(words)

    def _placed(self, text: str, where: int) -> str:
        text = _HEX.sub(lambda found: f"in {self.image.where(int(found[1], 16)) or 'the kernel'}", text)
        place = self.image.where(where)
        return f"{text} in {place}" if place else text

    # --- out of the image -------------------------------------------------------------------------------------------------

    def service(self, service: int, a: int, b: int, where: int, text: str) -> int:
        """A service that C asks for; ``enum hvm_service``."""
        kernel = self.kernel
        if service == STATUS:
            function, _, rest = text.partition("|")
            kernel.hv_status_err(b, function, rest.strip("\n"))
            if a:
                level = _LEVELS[a]
                kernel.log.append((level, kernel.log.pop()[1]))
        elif service == PARTITION:
            return kernel.mshv_pid_to_partid(a)
        elif service == LOG:
            if a < 3:
                kernel.log.append((_LEVELS[a], text.rstrip("\n")))
        elif service == REPORT:
            report = self._said.get((text, where))
            if report is None:
                rule, _, detail = text.partition("|")
                report = self._said[text, where] = (rule, self._placed(detail, where))
            kernel.report(*report)
        elif service == ASK_ALLOC:
            fault = kernel.faults.arrive(KZALLOC)
            if fault is not None:
                kernel.faults.fire(fault)
            return fault is not None
        elif service == DEPOSIT:
            return self._deposit(a, b, where)
        elif service == DOMAIN_OF:
            domain = kernel.domain_of(self._by_number[a])
            return self._addresses.get(domain, 0) if domain is not None else 0
        elif service == SYSFS_ADD:
            return kernel.iommu_device_sysfs_add("hyperv-iommu")
        elif service == SYSFS_REMOVE:
            kernel.iommu_device_sysfs_remove()
        elif service == REGISTER:
            return self._register()
        return 0

    def _deposit(self, partition: int, pages: int, where: int) -> int:
        kernel, ended = self.kernel, self.image.shared[at.ENDED]
        cpu = kernel.cpu
        kernel.where = self.image.where(where)
        cpu.irqs_off = bool(ended >> 8 & 1)
        if ended >> 16 & 0xFFFF:
            cpu.locks = [SpinLock("a lock") for _ in range(ended >> 16 & 0xFFFF)]
        ret = kernel.hv_call_deposit_pages(partition, pages)
        cpu.irqs_off, cpu.locks = False, []
        return ret

    def _register(self) -> int:
        """``iommu_device_register``: the core probes the bus within it."""
        kernel, image = self.kernel, self.image
        allocs = image.shared[at.ENDED] >> 32
        if allocs:
            kernel.faults.reached[KZALLOC] = kernel.faults.reached.get(KZALLOC, 0) + allocs
        if self.shadow is None:
            return kernel.iommu_device_register(self._offered())
        answers: list[int] = []

        def once() -> int:
            answers.append(kernel.iommu_device_register(self._offered()))
            return answers[0]

        self.shadow.registering = once
        self.shadow.init(kernel.cpu.tgid << 32)
        if not answers:  # it did not come that far: what decided in its init function was never set
            image.shared[at.PARTED] = self.shadow.image.library.hvm_left(0)
            self._parted()
            self.follow()
            return once()
        return answers[0]

    def _offered(self) -> IommuOps:
        static = (ctypes.c_uint64 * 3)()
        mask: int = self.image.library.hvm_offers(static)
        identity, blocked, release = (self._domain(address) if address else None for address in static)

        def offered(op: int, function: Callable[..., Any]) -> Any:
            return function if mask >> op & 1 else None

        return IommuOps(
            attach_dev=self._attach_dev,
            map_pages=self._map_pages,
            unmap_pages=self._unmap_pages,
            iova_to_phys=self._iova_to_phys,
            free=self._free,
            probe_device=self._probe_device,
            domain_alloc_paging=self._domain_alloc_paging,
            release_device=offered(RELEASE, self._release_device),
            probe_finalize=offered(FINALIZE, self._probe_finalize),
            def_domain_type=offered(TYPE, self._def_domain_type),
            capable=offered(CAPABLE, self._capable),
            domain_alloc_identity=offered(IDENTITY, self._domain_alloc_identity),
            identity_domain=identity,
            blocked_domain=blocked,
            release_domain=release,
            get_resv_regions=offered(RESERVED, self._get_resv_regions),
        )

    # --- handles ----------------------------------------------------------------------------------------------------------

    def _domain(self, address: int) -> IommuDomain:
        """Python's name for a ``struct iommu_domain``; what the core reads of it is read again."""
        domain = self._domains.get(address)
        if domain is None:
            domain = self._domains[address] = IommuDomain(NativeObject.at(address - self.traits.domain_at, self.traits.domain))
            self._addresses[domain] = address
        image = self.image
        domain.pgsize_bitmap, first, last, forced = image.domain(address)
        domain.geometry = image.geometry(first, last, forced)
        return domain

    def _device(self, device: Device) -> int:
        """C's name for a device. An unplugged one has lost its private pointer without the driver's doing."""
        address = self._devices.get(device)
        if address is None:
            address = self.here().add_device(device)
            self._devices[device] = address
            if self.shadow is not None:
                self.shadow.image.add_device(device)
            self._by_number.append(device)
        elif device.priv is None and self.here().read(address + _PRIV, 8):
            self._write(address + _PRIV, 8, 0)
        return address

    def _write(self, address: int, size: int, value: int) -> None:
        """Write a number into both images."""
        image = self.here()
        image.write(address, size, value)
        if self.shadow is not None:
            self.shadow.image.write(image.library.hvm_there(address), size, value)

    # --- the ops ----------------------------------------------------------------------------------------------------------

    def setup(self, option: str, value: str) -> int:
        text = (f"{option}={value}" if value else option).encode()[:1000]
        for image in (self.here(), self.shadow.image) if self.shadow is not None else (self.here(),):
            ctypes.memmove(image.place(12), text + b"\0", len(text) + 1)
        answer = self._call(OPTION)
        return 1 if answer >> 63 else ctypes.c_int(answer & 0xFFFFFFFF).value  # a revision without the option cannot mishandle it

    def hv_iommu_detect(self) -> None:
        if self._call(DETECT):
            self.kernel.iommu_detected = True
            self.kernel.iommu_init = self._init

    def _init(self) -> int:
        return signed(self._call(INIT))

    def _probe_device(self, device: Device) -> int:
        address = self._device(device)
        answer = signed(self._call(PROBE, address))
        device.priv = self.image.read(address + _PRIV, 8) or None
        return answer

    def _release_device(self, device: Device) -> None:
        address = self._device(device)
        self._call(RELEASE, address)
        device.priv = self.image.read(address + _PRIV, 8) or None

    def _probe_finalize(self, device: Device) -> None:
        self._call(FINALIZE, self._device(device))

    def _def_domain_type(self, device: Device) -> str:
        return _TYPES.get(self._call(TYPE, self._device(device)), "")

    def _capable(self, device: Device, cap: str) -> bool:
        return bool(self._call(CAPABLE, self._device(device), 0 if cap == "IOMMU_CAP_CACHE_COHERENCY" else 1))

    def _get_resv_regions(self, device: Device) -> list[tuple[int, int]]:
        """It is the judge who asks: nothing is refused meanwhile, and nothing counts."""
        with self.kernel.faults.aside():
            return self._reserved(device)

    def _reserved(self, device: Device) -> list[tuple[int, int]]:
        count = min(self._call(RESERVED, self._device(device)), 64)
        rows = (ctypes.c_uint64 * (3 * 64)).from_address(self.image.log_address + ((1 << 20) - 64) * 24)
        return [(rows[3 * index], rows[3 * index + 1]) for index in range(count)]

    def _domain_alloc_identity(self, device: Device) -> IommuDomain:
        return self._domain(self._call(IDENTITY, self._device(device)))

    def _domain_alloc_paging(self, device: Device) -> IommuDomain | int | None:
        answer = self._call(ALLOC, self._device(device))
        if not answer:
            return None
        if answer >= (1 << 64) - 4095:
            return answer - (1 << 64)
        return self._domain(answer)

    def _free(self, domain: IommuDomain) -> None:
        self._call(FREE, self._addresses[domain])

    def _attach_dev(self, domain: IommuDomain, device: Device, old: IommuDomain | None) -> int:
        address = self._device(device)
        answer = signed(self._call(ATTACH, self._addresses[domain], address, self._addresses[old] if old is not None else 0))
        device.priv = self.image.read(address + _PRIV, 8) or None
        return answer

    def _map_pages(
        self, domain: IommuDomain, iova: int, paddr: int, pgsize: int, pgcount: int, prot: int, _gfp: str, mapped: list[int] | None
    ) -> int:
        flags = prot | (mapped is not None) << 16
        answer = signed(self._call(MAP, self._addresses[domain], iova, paddr, pgsize, pgcount, flags))
        if mapped is not None:
            mapped[0] = self.image.shared[at.MAPPED]
        return answer

    def _unmap_pages(self, domain: IommuDomain, iova: int, pgsize: int, pgcount: int) -> int:
        return self._call(UNMAP, self._addresses[domain], iova, pgsize, pgcount)

    def _iova_to_phys(self, domain: IommuDomain, iova: int) -> int:
        return self._call(LOOKUP, self._addresses[domain], iova)

    # --- the driver's view ------------------------------------------------------------------------------------------------

    def preset_unique_id(self, value: int) -> None:
        counter = self.traits.counter
        if counter is not None:
            address, size, ahead = counter
            self._write(self.here().base + address, size, value + ahead & 0xFFFFFFFF)

    def domain_id(self, domain: IommuDomain) -> int | None:
        member = self.traits.ident
        if member is None:
            return None
        address = self._addresses[domain]
        ident = self.here().read(address - self.traits.domain_at + member.offset, member.size) & 0xFFFFFFFF
        # Revisions that number device domains only leave 0 in those of a guest; 0 is the id of a static domain.
        return ident if ident or address - self.image.base in self.traits.statics.values() else None

    def attach_count(self, domain: IommuDomain) -> int | None:
        member = self.traits.count
        if member is None:
            return None
        image = self.image
        if image.owner_ref is not self.ref:
            image.enter(self)
        return image.read(self._addresses[domain] - self.traits.domain_at + member.offset, member.size)

    def take_changes(self) -> None:
        """Give each tree the changes that C has noted since the last time."""
        shared = self.image.shared
        count = shared[at.CHANGES]
        if not count:
            return
        shared[at.CHANGES] = 0
        trees = self._trees
        for root, start, last in _CHANGE.iter_unpack(ctypes.string_at(self.image.log_address, 24 * count)):
            tree = trees.get(root)
            if tree is None:
                tree = trees[root] = NativeTree(self, root)
            tree.changes.append((start, last))

    def tree(self, domain: IommuDomain) -> Any:
        offset = self._tree_offset
        if offset is None:
            return None
        image = self.image
        if image.owner_ref is not self.ref:
            image.enter(self)
        if image.shared[at.CHANGES]:
            self.take_changes()
        root = self._addresses[domain] + offset
        tree = self._trees.get(root)
        if tree is None:
            tree = self._trees[root] = NativeTree(self, root)
        return tree

    def node_paddr(self, node: Any) -> int:
        assert isinstance(node, Node)
        return node.paddr

    def pointer_domain(self, device: Device) -> IommuDomain | None:
        address = self._devices.get(device)
        if address is None or device.priv is None:
            return None
        image, traits = self.here(), self.traits
        pointer = image.read(address + _PRIV, 8)
        if not pointer:
            return None
        known = self._domains.get(pointer + traits.domain_at) or self._domains.get(pointer)
        if known is not None:
            return known
        for offset, more in traits.pointers.get(self.slab.size_of(pointer), ()):
            target = image.read(pointer + offset, 8)
            if target:
                return self._domains.get(target + more)
        return None

    @property
    def interrupts_on(self) -> int:
        """How often interrupts went on again since the image was loaded."""
        return self.image.shared[at.OPENED]

    def static_state(self) -> tuple[object, ...]:
        """Id and geometry of each static domain."""
        image, traits = self.here(), self.traits
        state: list[object] = []
        for address in traits.statics.values():
            place = image.base + address
            member = traits.ident
            ident = image.read(place - traits.domain_at + member.offset, member.size) if member is not None else None
            state.append((ident, *image.domain(place)[1:]))
        return tuple(state)


class NativeLoader:
    """Builds and loads a driver's C file; called with a kernel it gives the driver. ``image`` chooses one of the build's images."""

    def __init__(self, build: Build, path: Path, second: Path | None = None) -> None:
        self.build = build
        self.image = image_of(build, path)
        self.traits = find_traits(self.image)
        self.second = image_of(build, second) if second is not None else None
        if self.second is not None and self.second.owner_ref is None:
            pair(self.image, self.second)

    def __call__(self, kernel: Kernel) -> NativeDriver:
        return NativeDriver(kernel, self.build, self.traits, self.image, self.second)


_PRIV = 8
"""``struct device.iommu_priv`` of the shim."""
