"""The reference model of the hypervisor: control word, input page and status word in, state changes inside.

One door: :meth:`Hypervisor.hypercall`. What it does is described, with its evidence, in ``hypervisor/README.md``; where
the evidence leaves a question open it asks :mod:`hvmodel.hypervisor.policies`. Nothing here knows Linux or any driver.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from hvmodel.hypervisor import abi
from hvmodel.hypervisor.abi import (
    CONTROL_RESERVED,
    HV_PARTITION_ID_SELF,
    HV_STATUS_ACCESS_DENIED,
    HV_STATUS_INVALID_ALIGNMENT,
    HV_STATUS_INVALID_HYPERCALL_CODE,
    HV_STATUS_INVALID_HYPERCALL_INPUT,
    HV_STATUS_INVALID_PARAMETER,
    HV_STATUS_INVALID_PARTITION_ID,
    HV_STATUS_INVALID_PARTITION_STATE,
    HV_STATUS_SUCCESS,
    PAGE_SIZE,
    REP_COUNT_SHIFT,
    REP_MASK,
    REP_START_SHIFT,
)
from hvmodel.hypervisor.attachment import AttachmentCalls
from hvmodel.hypervisor.memory import BOOT_FRAMES, MemoryCalls
from hvmodel.hypervisor.objects import IN_DEFAULT, IN_NULL, NOWHERE, Device, Domain, Partition, Place, Refusal
from hvmodel.hypervisor.paging import PagingCalls
from hvmodel.hypervisor.policies import DEFAULT, Policies, status_of

GARBAGE = 0xA5A5_A000_5A5A_0000
"""What fills ignored status bits under G8."""


VARHEAD_OR_FAST = abi.VARHEAD_MASK << abi.VARHEAD_SHIFT | abi.FAST
"""Bits that no call here has a use for: none takes a variable header, and none has parameters that fit registers."""


class Hypervisor(AttachmentCalls, PagingCalls, MemoryCalls):
    """One hypervisor with one Linux partition that talks to it.

    ``devices`` are keyed by the hypervisor's device ids (u64; PCI type on a root, LOGICAL on an L1VH). ``iova_width``
    is in bits, ``root_pool`` in pages, ``domain_limit`` counts created domains (0: no limit).

    ``effects`` collects what each call changed, for whoever watches: ``("pages", domain, start, end)`` in pages,
    ``("place", device, 0, 0)``, ``("domain", id, 0, 0)``, ``("pool", partition, 0, 0)``.
    """

    ROOT_ID = 1
    FIRST_GUEST_ID = 0x10

    def __init__(
        self,
        policies: Policies = DEFAULT,
        *,
        devices: Iterable[Device] = (),
        l1vh: bool = False,
        capabilities: bool = True,
        iova_width: int = 48,
        root_pool: int = 1 << 20,
        domain_limit: int = 0,
    ) -> None:
        self.policies = policies
        self.l1vh = l1vh
        self.iova_width = iova_width
        self.width_pages = 1 << (iova_width - abi.PAGE_SHIFT)
        self.domain_limit = domain_limit
        self.caller = Partition(self.ROOT_ID, "l1vh" if l1vh else "root")
        if root_pool:
            self.caller.pool.deposit(BOOT_FRAMES, BOOT_FRAMES + root_pool)
        self.partitions: dict[int, Partition] = {self.ROOT_ID: self.caller}
        self._next_guest = self.FIRST_GUEST_ID
        self.domains: dict[int, Domain] = {}
        if not l1vh:
            for place in (IN_DEFAULT, IN_NULL):
                self.domains[place.id] = Domain(place.id)
        self.effects: list[tuple[str, int, int, int]] = []
        self.devices: dict[int, Device] = {}
        self.logical: dict[int, Device] = {}
        for device in devices:
            self.devices[device.key] = device
            self._put(device, NOWHERE if l1vh else IN_DEFAULT)
        self.effects.clear()
        self.refused = False
        """Whether the last call ended in the :class:`Refusal` it was given (not in an error of its own)."""
        self._short = 0 if policies.short_success == "never" else int(policies.short_success.removeprefix("every-"))
        self._garbage = GARBAGE if policies.status_garbage == "garbage" else 0
        self._simple_reps = 0x5A5 << REP_COUNT_SHIFT if policies.simple_reps == "garbage" else 0
        self._prepare_paging()
        self._simple: dict[int, Callable[[bytearray, bytearray | None, Refusal | None], int]] = {
            abi.HVCALL_CREATE_DEVICE_DOMAIN: self._create,
            abi.HVCALL_DELETE_DEVICE_DOMAIN: self._delete,
            abi.HVCALL_ATTACH_DEVICE_DOMAIN: self._attach_domain,
            abi.HVCALL_DETACH_DEVICE_DOMAIN: self._detach_domain,
            abi.HVCALL_ATTACH_DEVICE: self._attach_device,
            abi.HVCALL_DETACH_DEVICE: self._detach_device,
        }
        if capabilities:
            self._simple[abi.HVCALL_GET_IOMMU_CAPABILITIES] = self._capabilities
        self._rep: dict[int, Callable[[bytearray, bytearray | None, int, int, Refusal | None], tuple[int, int]]] = {
            abi.HVCALL_MAP_DEVICE_GPA_PAGES: self._map,
            abi.HVCALL_UNMAP_DEVICE_GPA_PAGES: self._unmap,
            abi.HVCALL_DEPOSIT_MEMORY: self._deposit,
            abi.HVCALL_WITHDRAW_MEMORY: self._withdraw,
        }
        self._list_header = {
            abi.HVCALL_MAP_DEVICE_GPA_PAGES: abi.MAP_DEVICE_GPA_PAGES.size,
            abi.HVCALL_DEPOSIT_MEMORY: abi.DEPOSIT_MEMORY.size,
            abi.HVCALL_WITHDRAW_MEMORY: 0,  # its list is the output: it fills the page from the start
        }

    # --- the door ---------------------------------------------------------------------------------------------------

    def hypercall(
        self, control: int, input_page: bytearray, output_page: bytearray | None = None, refusal: Refusal | None = None
    ) -> int:
        """Do one hypercall; returns the 64-bit status word: result in bits 0-15, reps completed in bits 32-43.

        ``control`` is the 64-bit input value of TLFS "Hypercall Interface"; ``input_page`` has 4096 bytes. A
        ``refusal`` is answered instead of success where the call would otherwise have gone on.
        """
        self.refused = False
        code = control & 0xFFFF
        rep = self._rep.get(code)
        simple = self._simple.get(code) if rep is None else None
        if rep is None and simple is None:
            answer = self.policies.feature_missing if code in abi.CALL_NAMES else "0x2"
            return self._garbage | (status_of(answer) or HV_STATUS_INVALID_HYPERCALL_CODE)
        if self.l1vh and code in abi.DEVICE_DOMAIN_CALLS:
            return self._garbage | (status_of(self.policies.l1vh_domain_calls) or HV_STATUS_ACCESS_DENIED)
        count = control >> REP_COUNT_SHIFT & REP_MASK
        start = control >> REP_START_SHIFT & REP_MASK
        if control & CONTROL_RESERVED and self.policies.reserved_control_bits != "ignored":
            return self._garbage | HV_STATUS_INVALID_HYPERCALL_INPUT
        if control & VARHEAD_OR_FAST:
            return self._garbage | HV_STATUS_INVALID_HYPERCALL_INPUT
        if simple is not None:
            if count or start:
                return self._garbage | HV_STATUS_INVALID_HYPERCALL_INPUT
            status = simple(input_page, output_page, refusal)
            if status and output_page is not None and self.policies.output_after_failure == "scribbled":
                output_page[:64] = b"\xa5" * 64
            return self._garbage | self._simple_reps | status
        assert rep is not None
        if start >= count:
            return self._garbage | HV_STATUS_INVALID_HYPERCALL_INPUT
        header = self._list_header.get(code)
        if header is not None and header + 8 * count > PAGE_SIZE:
            return self._garbage | (status_of(self.policies.list_crosses_page) or HV_STATUS_INVALID_ALIGNMENT)
        if self.policies.zero_progress == "always":
            return self._garbage | start << REP_COUNT_SHIFT
        limit = count
        if self._short and refusal is None:
            limit = min(count, start + self._short)
        status, completed = rep(input_page, output_page, start, limit, refusal)
        assert start <= completed <= limit, "a rep call lost count"
        assert completed < count if status else completed == limit, "TLFS: success means all, an error means fewer"
        return self._garbage | completed << REP_COUNT_SHIFT | status

    def _refuse(self, refusal: Refusal) -> int:
        self.refused = True
        return refusal.status

    # --- who may name what ------------------------------------------------------------------------------------------

    def _owner(self, partition_id: int) -> int:
        """The status for the owner named in a domain call: the caller may only name itself."""
        if partition_id == HV_PARTITION_ID_SELF:
            return HV_STATUS_SUCCESS
        if partition_id == self.caller.id:
            return status_of(self.policies.own_number_for_self) or HV_STATUS_SUCCESS
        if partition_id == abi.HV_PARTITION_ID_INVALID:
            return status_of(self.policies.partition_zero) or HV_STATUS_INVALID_PARTITION_ID
        if partition_id in self.partitions:
            return status_of(self.policies.child_in_domain_calls) or HV_STATUS_ACCESS_DENIED
        return HV_STATUS_INVALID_PARTITION_ID

    def _prefix(self, partition_id: int, vtl: int, kind: int) -> int:
        """The status for ``struct hv_input_device_domain`` as a whole."""
        status = self._owner(partition_id)
        if status:
            return status
        if vtl and self.policies.owner_vtl != "ignored":
            return HV_STATUS_INVALID_PARAMETER
        if kind & ~0xF and self.policies.reserved_fields != "ignored":
            return HV_STATUS_INVALID_PARAMETER
        return HV_STATUS_SUCCESS

    def _domain(self, partition_id: int, vtl: int, kind: int, ident: int) -> tuple[int, Domain | None]:
        """The domain that a call names, or the status that says why there is none."""
        if partition_id != HV_PARTITION_ID_SELF or vtl or kind & ~0xF:
            status = self._prefix(partition_id, vtl, kind)
            if status:
                return status, None
        if kind & 0xF != abi.HV_DEVICE_DOMAIN_TYPE_S2:
            return status_of(self.policies.no_such_domain) or HV_STATUS_INVALID_PARAMETER, None
        domain = self.domains.get(ident)
        if domain is None:
            return status_of(self.policies.no_such_domain) or HV_STATUS_INVALID_PARAMETER, None
        return HV_STATUS_SUCCESS, domain

    def _guest(self, partition_id: int) -> tuple[int, Partition | None]:
        """The live guest that a direct-attach call names, or the status that says why there is none (X5)."""
        guest = self.partitions.get(partition_id)
        if guest is None or guest.kind != "guest":
            return HV_STATUS_INVALID_PARTITION_ID, None
        if guest.state != "active":
            return HV_STATUS_INVALID_PARTITION_STATE, None
        return HV_STATUS_SUCCESS, guest

    # --- guests: a life of their own (TLFS HvCallCreatePartition, HvCallFinalizePartition and so on) ----------------

    def create_partition(self, initialized: bool = True) -> int:
        """A new guest; returns its partition id. Before it is initialised nothing can be attached to it (X5)."""
        ident = self._next_guest
        self._next_guest += 1
        self.partitions[ident] = Partition(ident, "guest", "active" if initialized else "created")
        return ident

    def initialize_partition(self, ident: int) -> int:
        """Make a created guest active; returns a status."""
        guest = self.partitions.get(ident)
        if guest is None or guest.kind != "guest":
            return HV_STATUS_INVALID_PARTITION_ID
        if guest.state != "created":
            return HV_STATUS_INVALID_PARTITION_STATE
        guest.state = "active"
        return HV_STATUS_SUCCESS

    def finalize_partition(self, ident: int) -> int:
        """End a guest; returns a status. What becomes of devices that it has is policy X8."""
        guest = self.partitions.get(ident)
        if guest is None or guest.kind != "guest":
            return HV_STATUS_INVALID_PARTITION_ID
        if guest.state == "finalized":
            return HV_STATUS_INVALID_PARTITION_STATE
        here = Place("guest", ident)
        held = [device for device in self.devices.values() if device.place == here]
        answer = self.policies.guest_ends_attached
        refused = status_of(answer)
        if held and refused is not None:
            return refused
        for device in held:
            self._leave_guest(device, self._after_guest(answer))
        guest.state = "finalized"
        return HV_STATUS_SUCCESS

    def delete_partition(self, ident: int) -> int:
        """Remove a guest that is not active; returns a status. What was not withdrawn from its pool is forgotten."""
        guest = self.partitions.get(ident)
        if guest is None or guest.kind != "guest":
            return HV_STATUS_INVALID_PARTITION_ID
        if guest.state == "active":
            return HV_STATUS_INVALID_PARTITION_STATE
        del self.partitions[ident]
        return HV_STATUS_SUCCESS

    def _after_guest(self, answer: str) -> Place:
        if self.l1vh or answer == "none":
            return NOWHERE
        return IN_NULL if answer == "null" else IN_DEFAULT

    # --- what a watcher may ask ---------------------------------------------------------------------------------------

    def place(self, key: int) -> Place:
        """Where the device with this id is."""
        return self.devices[key].place

    def translate(self, key: int, page: int) -> int | None:
        """The frame that a DMA of this device to IOVA page ``page`` reaches, or None if it faults.

        For a device that a guest has, the page is the guest's own business: raises LookupError.
        """
        device = self.devices[key]
        if device.place.kind == "guest":
            raise LookupError("the guest's own page table decides")
        if device.place == IN_DEFAULT:
            frame = self.domains[IN_DEFAULT.id].table.frame(page)
            return page if frame is None else frame
        reserved = any(start <= page < end for start, end in device.reserved)
        if device.place == IN_NULL:
            return page if reserved and self.policies.reserved_regions != "none" else None
        if device.place.kind == "none":
            if device.stale is not None:
                return device.stale.frame(page)
            return page if self.l1vh and self.policies.l1vh_idle_reach != "nothing" else None
        frame = self.domains[device.place.id].table.frame(page)
        if frame is None and reserved and self.policies.reserved_regions == "null-and-created":
            return page
        return frame

    def reaches_nothing(self, key: int) -> bool:
        """Whether the device can reach no memory but its reserved regions."""
        device = self.devices[key]
        if device.place == IN_NULL:
            return True
        if device.place.kind == "none":
            if device.stale is not None:
                return not device.stale.pages
            return not self.l1vh or self.policies.l1vh_idle_reach == "nothing"
        if device.place.kind == "guest" or device.place == IN_DEFAULT:
            return False
        return not self.domains[device.place.id].table.pages

    def check(self) -> None:
        """Raise AssertionError if an invariant is broken: one place per device, page conservation, complete tables."""
        self._check_places()
        self._check_tables()
        for partition in self.partitions.values():
            partition.pool.check()
        owed: dict[int, int] = {self.caller.id: sum(domain.pages_used for domain in self.domains.values())}
        for device in self.devices.values():
            payer = device.place.id if device.place.kind == "guest" else self.caller.id
            owed[payer] = owed.get(payer, 0) + device.pages_used
        for partition in self.partitions.values():
            assert partition.pool.used == owed.get(partition.id, 0), "a pool and the objects that it paid for disagree"

    def _check_places(self) -> None:
        for key, device in self.devices.items():
            kind, ident = device.place
            assert device.key == key, "a device changed its id"
            assert kind in ("domain", "guest", "none"), "a device is in no known kind of place"
            if kind == "domain":
                assert ident in self.domains, "a device is in a domain that does not exist"
                assert key in self.domains[ident].devices, "a domain forgot its device"
            if kind == "guest":
                assert ident in self.partitions, "a device is with a guest that does not exist"
                assert self.partitions[ident].state == "active", "a device is with a guest that has ended"
            assert kind == "none" or device.stale is None, "a device has a place and a stale translation"
            assert kind != "none" or not device.pages_used, "a device is nowhere and still uses pages"
            assert (kind == "guest") == (device.logical is not None), "a logical id without a guest, or none with one"
            if device.logical is not None:
                assert self.logical.get(device.logical) is device, "the index of logical ids is stale"
        for ident, domain in self.domains.items():
            assert domain.id == ident, "a domain changed its id"
            for key in domain.devices:
                assert self.devices[key].place == Place("domain", ident), "a device is in two places"
        held = sum(device.logical is not None for device in self.devices.values())
        assert len(self.logical) == held, "a stale logical id"

    def _check_tables(self) -> None:
        special = (IN_DEFAULT.id, IN_NULL.id)
        pools = [partition.pool.frames for partition in self.partitions.values()]
        for domain in self.domains.values():
            domain.table.check()
            first, second, third = domain.tables
            created = self.policies.create_needs_memory == "yes" and domain.id not in special
            cost = created + self._table_cost * (len(first) + len(second) + len(third))
            assert domain.pages_used == cost, "a domain and its page tables disagree"
            assert second == {index >> 9 for index in first}, "a page table hangs in the air (level 2)"
            assert third == {index >> 9 for index in second}, "a page table hangs in the air (level 3)"
            for run in domain.table:
                assert run.end <= self.width_pages, "a page is mapped beyond the IOVA width"
                if self._tables_cost:
                    level1 = range(run.start >> 9, ((run.end - 1) >> 9) + 1)
                    assert all(index in first for index in level1), "a page is mapped without a page table"
                end = run.frame + run.end - run.start
                assert not any(pool.meets(run.frame, end) for pool in pools), "a deposited frame is mapped"
