"""DEPOSIT_MEMORY and WITHDRAW_MEMORY (TLFS HvCallDepositMemory, HvCallWithdrawMemory; README "Memory")."""

from __future__ import annotations

from hvmodel.hypervisor import abi
from hvmodel.hypervisor.abi import (
    HV_PARTITION_ID_SELF,
    HV_STATUS_INVALID_PARTITION_ID,
    HV_STATUS_INVALID_PARTITION_STATE,
    HV_STATUS_NO_RESOURCES,
    HV_STATUS_OPERATION_DENIED,
    HV_STATUS_SUCCESS,
)
from hvmodel.hypervisor.objects import Domain, Partition, Refusal
from hvmodel.hypervisor.policies import Policies, status_of

BOOT_FRAMES = 1 << 40
"""The root's pool at boot lies from this frame upwards, out of the way of Linux's memory."""


class MemoryCalls:
    """The half of the hypervisor that takes and gives pages; mixed into ``Hypervisor``, which holds the state."""

    policies: Policies
    caller: Partition
    partitions: dict[int, Partition]
    domains: dict[int, Domain]
    effects: list[tuple[str, int, int, int]]
    refused: bool
    _deposited: bool

    def _account(self, partition_id: int) -> Partition | None:
        return self.caller if partition_id == HV_PARTITION_ID_SELF else self.partitions.get(partition_id)

    def _not_owned(self, frame: int, end: int) -> int:
        """The first frame of ``[frame, end)`` that lies in a pool, or ``end``: it is no longer the caller's."""
        if self._deposited or end > BOOT_FRAMES:
            for partition in self.partitions.values():
                taken = partition.pool.frames.slice(frame, end)
                if taken:
                    end = taken[0][0]
        return end

    def _mapped(self, frame: int, end: int) -> int:
        """The first frame of ``[frame, end)`` that a domain maps, or ``end``."""
        for domain in self.domains.values():
            for run in domain.table:
                if run.frame < end and frame < run.frame + run.end - run.start:
                    end = max(frame, run.frame)
        return end

    def _deposit(
        self, page: bytearray, _output: bytearray | None, start: int, limit: int, refusal: Refusal | None
    ) -> tuple[int, int]:
        """Element i takes frame list[i] from the caller into the partition's pool (P1, P2)."""
        (partition_id,) = abi.DEPOSIT_MEMORY.unpack_from(page)
        partition = self._account(partition_id)
        if partition is None:
            return HV_STATUS_INVALID_PARTITION_ID, start
        if partition.state == "finalized":
            return HV_STATUS_INVALID_PARTITION_STATE, start
        stop, status, refused = limit, HV_STATUS_SUCCESS, False
        if refusal is not None:
            taken = refusal.done if self.policies.deposit_partial == "yes" else start
            stop, status, refused = min(max(start, taken), limit - 1), refusal.status, True
        done = start
        raw = bytes(page[abi.DEPOSIT_MEMORY.size + 8 * start : abi.DEPOSIT_MEMORY.size + 8 * limit])
        for frame, length in abi.decode_runs(raw, limit - start):
            wanted = min(length, stop - done)
            if wanted <= 0:
                break
            end = self._mapped(frame, self._not_owned(frame, frame + wanted))
            if end > frame:
                partition.pool.deposit(frame, end)
                self._deposited = True
                done += end - frame
            if end < frame + wanted:
                status, refused = status_of(self.policies.deposit_twice) or HV_STATUS_OPERATION_DENIED, False
                break
        if done > start:
            self.effects.append(("pool", partition.id, 0, 0))
        self.refused = refused
        return status, done

    def _withdraw(
        self, page: bytearray, output: bytearray | None, start: int, limit: int, refusal: Refusal | None
    ) -> tuple[int, int]:
        """Give up to ``limit`` free pages back, their PFNs in the output page; NO_RESOURCES when none is left (P3)."""
        partition_id, _proximity = abi.WITHDRAW_MEMORY.unpack_from(page)
        partition = self._account(partition_id)
        if partition is None:
            return HV_STATUS_INVALID_PARTITION_ID, start
        stop, status = limit, HV_STATUS_NO_RESOURCES
        if refusal is not None:
            stop, status = min(max(start, refusal.done), limit - 1), refusal.status
        done = start
        for first, end in partition.pool.withdraw(stop - start):
            if output is not None:
                output[8 * done : 8 * (done + end - first)] = abi.encode_consecutive(first, end - first)
            done += end - first
        if done > start:
            self.effects.append(("pool", partition.id, 0, 0))
        if done == limit:
            return HV_STATUS_SUCCESS, done
        if refusal is not None and done < stop:
            return HV_STATUS_NO_RESOURCES, done
        self.refused = refusal is not None
        return status, done
