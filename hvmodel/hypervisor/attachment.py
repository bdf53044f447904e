"""Create, delete, attach, detach: the simple calls on domains and devices (README "The calls")."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hvmodel.hypervisor import abi
from hvmodel.hypervisor.abi import (
    HV_STATUS_DEVICE_ALREADY_IN_DOMAIN,
    HV_STATUS_INSUFFICIENT_DEVICE_DOMAINS,
    HV_STATUS_INSUFFICIENT_MEMORY,
    HV_STATUS_INVALID_DEVICE_ID,
    HV_STATUS_INVALID_DEVICE_STATE,
    HV_STATUS_INVALID_PARAMETER,
    HV_STATUS_INVALID_PARTITION_ID,
    HV_STATUS_KEY_ALREADY_EXISTS,
    HV_STATUS_OBJECT_IN_USE,
    HV_STATUS_SUCCESS,
)
from hvmodel.hypervisor.objects import IN_DEFAULT, IN_NULL, NOWHERE, Device, Domain, Partition, Place, Refusal
from hvmodel.hypervisor.policies import Policies, status_of


class AttachmentCalls:
    """The half of the hypervisor that knows domains and places; mixed into ``Hypervisor``, which holds the state."""

    policies: Policies
    l1vh: bool
    iova_width: int
    domain_limit: int
    caller: Partition
    partitions: dict[int, Partition]
    domains: dict[int, Domain]
    devices: dict[int, Device]
    logical: dict[int, Device]
    effects: list[tuple[str, int, int, int]]

    if TYPE_CHECKING:

        def _prefix(self, partition_id: int, vtl: int, kind: int) -> int: ...
        def _domain(self, partition_id: int, vtl: int, kind: int, ident: int) -> tuple[int, Domain | None]: ...
        def _owner(self, partition_id: int) -> int: ...
        def _guest(self, partition_id: int) -> tuple[int, Partition | None]: ...
        def _refuse(self, refusal: Refusal) -> int: ...
        def _after_guest(self, answer: str) -> Place: ...

    # --- domains ----------------------------------------------------------------------------------------------------

    def _create(self, page: bytearray, _output: bytearray | None, refusal: Refusal | None) -> int:
        """CREATE_DEVICE_DOMAIN: an empty domain under an id that the caller chose."""
        policies = self.policies
        partition_id, vtl, kind, ident, flags = abi.CREATE_DEVICE_DOMAIN.unpack_from(page)
        status = self._prefix(partition_id, vtl, kind)
        if status:
            return status
        if kind & 0xF != abi.HV_DEVICE_DOMAIN_TYPE_S2:
            return status_of(policies.create_other_type) or HV_STATUS_INVALID_PARAMETER
        if flags & ~0x3 and policies.reserved_fields != "ignored":
            return HV_STATUS_INVALID_PARAMETER
        if not flags & abi.CREATE_FLAG_FORWARD_PROGRESS_REQUIRED and policies.create_without_progress != "accepted":
            return HV_STATUS_INVALID_PARAMETER
        if ident in (IN_DEFAULT.id, IN_NULL.id):
            return status_of(policies.create_reserved) or HV_STATUS_INVALID_PARAMETER
        alias = ident in self.domains
        if alias and policies.create_duplicate != "alias":
            return status_of(policies.create_duplicate) or HV_STATUS_KEY_ALREADY_EXISTS
        if not alias and self.domain_limit and len(self.domains) - 2 >= self.domain_limit:
            return HV_STATUS_INSUFFICIENT_DEVICE_DOMAINS
        cost = 1 if policies.create_needs_memory == "yes" and not alias else 0
        if cost > self.caller.pool.free:
            return HV_STATUS_INSUFFICIENT_MEMORY
        if refusal is not None:
            return self._refuse(refusal)
        if not alias:
            self.caller.pool.take(cost)
            self.domains[ident] = Domain(ident, pages_used=cost)
        self.effects.append(("domain", ident, 0, 0))
        return HV_STATUS_SUCCESS

    def _delete(self, page: bytearray, _output: bytearray | None, refusal: Refusal | None) -> int:
        """DELETE_DEVICE_DOMAIN: mappings go with it (D7); what devices in it mean is D8."""
        policies = self.policies
        partition_id, vtl, kind, ident = abi.DELETE_DEVICE_DOMAIN.unpack_from(page)
        status, domain = self._domain(partition_id, vtl, kind, ident)
        if domain is None:
            return status
        if ident in (IN_DEFAULT.id, IN_NULL.id):
            return status_of(policies.delete_reserved) or HV_STATUS_INVALID_PARAMETER
        if domain.table.pages and policies.delete_with_mappings != "drop":
            return HV_STATUS_OBJECT_IN_USE
        refused = status_of(policies.delete_with_devices)
        if domain.devices and refused is not None:
            return refused
        if refusal is not None:
            return self._refuse(refusal)
        where = {"to-null": IN_NULL, "dangling": NOWHERE}.get(policies.delete_with_devices, IN_DEFAULT)
        for key in sorted(domain.devices):
            device = self.devices[key]
            self._put(device, where)
            if policies.delete_with_devices == "dangling":
                device.stale = domain.table
        self.caller.pool.give(domain.pages_used)
        del self.domains[ident]
        self.effects.append(("domain", ident, 0, 0))
        if domain.table.pages:
            runs = list(domain.table)
            self.effects.append(("pages", ident, runs[0].start, runs[-1].end))
        return HV_STATUS_SUCCESS

    # --- devices in domains -----------------------------------------------------------------------------------------

    def _find(self, device_id: int) -> tuple[int, Device | None]:
        """The device that a domain call names; ids of the wrong type are A9, unknown ones A8."""
        device = self.devices.get(device_id)
        if device is not None and device.present:
            return HV_STATUS_SUCCESS, device
        wanted = abi.HV_DEVICE_TYPE_LOGICAL if self.l1vh else abi.HV_DEVICE_TYPE_PCI
        right_type = device_id >> abi.DEVICE_TYPE_SHIFT == wanted
        answer = self.policies.unknown_device if right_type else self.policies.wrong_id_type
        return status_of(answer) or HV_STATUS_INVALID_DEVICE_ID, None

    def _attach_domain(self, page: bytearray, _output: bytearray | None, refusal: Refusal | None) -> int:
        """ATTACH_DEVICE_DOMAIN: move the device into the domain (A1 to A3, X10)."""
        policies = self.policies
        partition_id, vtl, kind, ident, device_id = abi.ATTACH_DEVICE_DOMAIN.unpack_from(page)
        status, domain = self._domain(partition_id, vtl, kind, ident)
        if domain is None:
            return status
        status, device = self._find(device_id)
        if device is None:
            return status
        if device.owned:
            return status_of(policies.hypervisor_owned) or HV_STATUS_INVALID_DEVICE_STATE
        target = Place("domain", ident)
        if device.place == target:
            again = policies.attach_same_again
            if target == IN_DEFAULT:
                again = policies.attach_default_again
            elif target == IN_NULL:
                again = policies.attach_null_again
            if again != "success":
                return HV_STATUS_DEVICE_ALREADY_IN_DOMAIN
        elif device.place.kind == "guest":
            if policies.domain_from_guest != "move":
                return status_of(policies.domain_from_guest) or HV_STATUS_INVALID_DEVICE_STATE
        elif device.place.kind == "domain" and device.place not in (IN_DEFAULT, IN_NULL):
            if policies.attach_elsewhere != "move":
                return status_of(policies.attach_elsewhere) or HV_STATUS_INVALID_DEVICE_STATE
        special = target in (IN_DEFAULT, IN_NULL)
        cost = 1 if policies.attach_needs_memory == "yes" and not special and device.place != target else 0
        if cost > self.caller.pool.free:
            return HV_STATUS_INSUFFICIENT_MEMORY
        if refusal is not None:
            if policies.failed_attach == "detached" and device.place.kind == "domain":
                self._put(device, NOWHERE)
            return self._refuse(refusal)
        if device.place != target:
            if device.place.kind == "guest":
                self._leave_guest(device, target)
            else:
                self._put(device, target)
            if cost:
                self.caller.pool.take(cost)
                device.pages_used = cost
        return HV_STATUS_SUCCESS

    def _detach_domain(self, page: bytearray, _output: bytearray | None, refusal: Refusal | None) -> int:
        """DETACH_DEVICE_DOMAIN: the domain is not named; where the device is afterwards is A4, A6, A7."""
        policies = self.policies
        partition_id, device_id = abi.DETACH_DEVICE_DOMAIN.unpack_from(page)
        status = self._owner(partition_id)
        if status:
            return status
        status, device = self._find(device_id)
        if device is None:
            return status
        if device.owned:
            return status_of(policies.hypervisor_owned) or HV_STATUS_INVALID_DEVICE_STATE
        if device.place.kind != "domain":
            return HV_STATUS_INVALID_DEVICE_STATE
        words = {"default": IN_DEFAULT, "success": IN_DEFAULT, "null": IN_NULL, "stays": device.place, "none": NOWHERE}
        if device.place == IN_DEFAULT:
            answer = policies.detach_from_default
        elif device.place == IN_NULL:
            answer = policies.detach_from_null
        else:
            answer = policies.detach_leaves
        refused = status_of(answer)
        if refused is not None:
            return refused
        if refusal is not None:
            return self._refuse(refusal)
        self._put(device, words[answer])
        return HV_STATUS_SUCCESS

    def _put(self, device: Device, place: Place) -> None:
        """Move a device between domains; what it used of the owner's pool is given back."""
        if device.place.kind == "domain" and device.place.id in self.domains:
            self.domains[device.place.id].devices.discard(device.key)
        if device.pages_used:
            self.caller.pool.give(device.pages_used)
            device.pages_used = 0
        device.place = place
        device.stale = None
        if place.kind == "domain":
            self.domains[place.id].devices.add(device.key)
        self.effects.append(("place", device.key, 0, 0))

    # --- direct attach ----------------------------------------------------------------------------------------------

    def _attach_device(self, page: bytearray, _output: bytearray | None, refusal: Refusal | None) -> int:
        """ATTACH_DEVICE: give the device to a guest; from now on it is known by its logical id (X1 to X5, X9)."""
        policies = self.policies
        partition_id, device_id, flags, vtl, r0, r1, logical, _caps, _rid, r2 = abi.ATTACH_DEVICE.unpack_from(page)
        status, guest = self._guest(partition_id)
        if guest is None:
            return status
        status, device = self._find(device_id)
        if device is None:
            return status
        if vtl and policies.owner_vtl != "ignored":
            return HV_STATUS_INVALID_PARAMETER
        if (flags & ~abi.ATTDEV_FLAGS_KNOWN or r0 or r1 or r2) and policies.reserved_fields != "ignored":
            return HV_STATUS_INVALID_PARAMETER
        if not flags & abi.ATTDEV_FLAG_LOGICAL_ID and policies.logical_id_missing != "accepted":
            return HV_STATUS_INVALID_PARAMETER
        if device.owned:
            return status_of(policies.hypervisor_owned) or HV_STATUS_INVALID_DEVICE_STATE
        if device.place.kind == "guest":
            if policies.direct_from_guest != "move":
                return status_of(policies.direct_from_guest) or HV_STATUS_OBJECT_IN_USE
        elif device.place.kind == "domain" and device.place not in (IN_DEFAULT, IN_NULL):
            if policies.direct_from_created != "move":
                return status_of(policies.direct_from_created) or HV_STATUS_INVALID_DEVICE_STATE
        user = self.logical.get(logical)
        if user is not None and user is not device:
            return status_of(policies.logical_id_used) or HV_STATUS_KEY_ALREADY_EXISTS
        cost = int(policies.direct_needs_memory)
        if cost > guest.pool.free:
            return HV_STATUS_INSUFFICIENT_MEMORY
        if refusal is not None:
            return self._refuse(refusal)
        if device.place.kind == "guest":
            self._leave_guest(device, NOWHERE)
        else:
            self._put(device, NOWHERE)
        guest.pool.take(cost)
        device.pages_used = cost
        device.place = Place("guest", partition_id)
        device.logical = logical
        self.logical[logical] = device
        return HV_STATUS_SUCCESS

    def _detach_device(self, page: bytearray, _output: bytearray | None, refusal: Refusal | None) -> int:
        """DETACH_DEVICE: take the device back from a guest (X6, X7)."""
        policies = self.policies
        partition_id, logical = abi.DETACH_DEVICE.unpack_from(page)
        device = self.logical.get(logical)
        unique = policies.detach_wrong_partition == "unique-id"
        if partition_id not in self.partitions and not (unique and device is not None):
            return HV_STATUS_INVALID_PARTITION_ID
        if device is None:
            return status_of(policies.unknown_device) or HV_STATUS_INVALID_DEVICE_ID
        if device.place != Place("guest", partition_id) and not unique:
            return status_of(policies.detach_wrong_partition) or HV_STATUS_INVALID_PARTITION_ID
        if refusal is not None:
            return self._refuse(refusal)
        self._leave_guest(device, self._after_guest(policies.direct_detach_leaves))
        return HV_STATUS_SUCCESS

    def _leave_guest(self, device: Device, place: Place) -> None:
        guest = self.partitions.get(device.place.id)
        if guest is not None:
            guest.pool.give(device.pages_used)
        device.pages_used = 0
        if device.logical is not None:
            del self.logical[device.logical]
            device.logical = None
        self._put(device, place)

    def unplug(self, key: int) -> None:
        """The device vanished without being detached: policy A18."""
        device = self.devices[key]
        if self.policies.unplugged == "dropped":
            where = NOWHERE if self.l1vh else IN_DEFAULT
            if device.place.kind == "guest":
                self._leave_guest(device, where)
            else:
                self._put(device, where)

    def _capabilities(self, page: bytearray, output: bytearray | None, refusal: Refusal | None) -> int:
        """GET_IOMMU_CAPABILITIES: width in bits, stage-2 present, 4 KiB pages."""
        partition_id, reserved = abi.GET_IOMMU_CAPABILITIES.unpack_from(page)
        status = self._owner(partition_id)
        if status:
            return status
        if reserved and self.policies.reserved_fields != "ignored":
            return HV_STATUS_INVALID_PARAMETER
        if refusal is not None:
            return self._refuse(refusal)
        if output is not None:
            abi.IOMMU_CAPABILITIES_OUTPUT.pack_into(
                output, 0, abi.IOMMU_CAPABILITIES_OUTPUT.size, 0, self.iova_width, 0, 0x3, 1 << abi.PAGE_SHIFT
            )
        return HV_STATUS_SUCCESS
