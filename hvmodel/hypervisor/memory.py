"""DEPOSIT_MEMORY and WITHDRAW_MEMORY (TLFS HvCallDepositMemory, HvCallWithdrawMemory; README section 3.9)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hvmodel.hypervisor import abi
from hvmodel.hypervisor.abi import (
    HV_PARTITION_ID_SELF,
    HV_STATUS_INVALID_PARTITION_ID,
    HV_STATUS_INVALID_PARTITION_STATE,
    HV_STATUS_NO_RESOURCES,
    HV_STATUS_OPERATION_DENIED,
    HV_STATUS_SUCCESS,
)
from hvmodel.hypervisor.objects import Domain, Partition
from hvmodel.hypervisor.policies import Policies, status_of

if TYPE_CHECKING:
    from hvmodel.hypervisor.model import Refusal

WITHDRAW_LIST_MAX = abi.PAGE_SIZE // 8
"""PFNs that one withdraw can return in the output page: 512."""


class MemoryCalls:
    """The half of the hypervisor that takes and gives pages; mixed into ``Hypervisor``, which holds the state."""

    policies: Policies
    caller: Partition
    partitions: dict[int, Partition]
    domains: dict[int, Domain]
    effects: list[tuple[str, int, int, int]]
    refused: bool
    _deposits: int

    def _account(self, partition_id: int) -> Partition | None:
        return self.caller if partition_id == HV_PARTITION_ID_SELF else self.partitions.get(partition_id)

    def _mapped_anywhere(self, start: int, end: int) -> bool:
        """Whether a device can reach one of these frames through a domain's table."""
        return any(
            run.frame < end and start < run.frame + run.end - run.start
            for domain in self.domains.values()
            for run in domain.table
        )

    def _deposit(
        self, page: bytearray, _output: bytearray | None, start: int, limit: int, refusal: Refusal | None
    ) -> tuple[int, int]:
        """Element i takes frame list[i] from the caller into the partition's pool; elements are independent (P1, P2)."""
        (partition_id,) = abi.DEPOSIT_MEMORY.unpack_from(page)
        partition = self._account(partition_id)
        if partition is None:
            return HV_STATUS_INVALID_PARTITION_ID, start
        if partition.state == "finalized":
            return HV_STATUS_INVALID_PARTITION_STATE, start
        stop, status, refused = limit, HV_STATUS_SUCCESS, False
        if refusal is not None:
            stop, status, refused = min(max(start, refusal.done), limit - 1), refusal.status, True
        done = start
        raw = bytes(page[abi.DEPOSIT_MEMORY.size + 8 * start : abi.DEPOSIT_MEMORY.size + 8 * limit])
        for frame, length in abi.decode_runs(raw, limit - start):
            wanted = min(length, stop - done)
            if wanted <= 0:
                break
            able = wanted
            for owner in self.partitions.values():
                taken = owner.pool.frames.slice(frame, frame + able)
                if taken:
                    able = taken[0][0] - frame
            while able and self._mapped_anywhere(frame, frame + able):
                able -= 1
            if able:
                partition.pool.deposit(frame, frame + able)
                self._deposits += able
                done += able
            if able < wanted:
                status, refused = status_of(self.policies.deposit_twice) or HV_STATUS_OPERATION_DENIED, False
                break
        if done > start:
            self.effects.append(("pool", partition.id, 0, 0))
        self.refused = refused
        return status, done

    def _withdraw(
        self, page: bytearray, output: bytearray | None, start: int, limit: int, refusal: Refusal | None
    ) -> tuple[int, int]:
        """Give up to ``limit`` free pages back, their PFNs in the output page; NO_RESOURCES when none is left (P3).

        Of a finalised partition everything can be withdrawn.
        """
        partition_id, _proximity = abi.WITHDRAW_MEMORY.unpack_from(page)
        partition = self._account(partition_id)
        if partition is None:
            return HV_STATUS_INVALID_PARTITION_ID, start
        if refusal is not None:
            self.refused = True
            return refusal.status, start
        pool = partition.pool
        if partition.state == "finalized" and pool.used:
            pool.give(pool.used)
        room = min(limit, WITHDRAW_LIST_MAX)
        done = start
        for first, end in pool.withdraw(room - start):
            self._deposits -= min(self._deposits, end - first)
            for frame in range(first, end):
                if output is not None:
                    output[8 * done : 8 * done + 8] = frame.to_bytes(8, "little")
                done += 1
        if done > start:
            self.effects.append(("pool", partition.id, 0, 0))
        return (HV_STATUS_SUCCESS if done == limit else HV_STATUS_NO_RESOURCES), done
