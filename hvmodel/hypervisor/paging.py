"""MAP_DEVICE_GPA_PAGES and UNMAP_DEVICE_GPA_PAGES (README "Map", "Unmap"), and the page tables that maps take."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hvmodel.hypervisor import abi
from hvmodel.hypervisor.abi import (
    HV_PARTITION_ID_SELF,
    HV_STATUS_INSUFFICIENT_MEMORY,
    HV_STATUS_INVALID_PARAMETER,
    HV_STATUS_OPERATION_DENIED,
    HV_STATUS_SUCCESS,
    PAGE_SHIFT,
)
from hvmodel.hypervisor.objects import CONTIGUOUS_PAGES, IN_DEFAULT, IN_NULL, Domain, Partition, Refusal
from hvmodel.hypervisor.policies import Policies, status_of

_LIST = abi.MAP_DEVICE_GPA_PAGES.size


class PagingCalls:
    """The half of the hypervisor that maps and unmaps; mixed into ``Hypervisor``, which holds the state."""

    policies: Policies
    width_pages: int
    caller: Partition
    partitions: dict[int, Partition]
    domains: dict[int, Domain]
    effects: list[tuple[str, int, int, int]]
    refused: bool

    if TYPE_CHECKING:

        def _domain(self, partition_id: int, vtl: int, kind: int, ident: int) -> tuple[int, Domain | None]: ...
        def _not_owned(self, frame: int, end: int) -> int: ...

    def _prepare_paging(self) -> None:
        policies = self.policies
        self._remap_checked = policies.remap_same != "success" or policies.remap_other != "supersede"
        self._unmap_checked = policies.unmap_unmapped != "success"
        self._tables_cost = policies.page_table_cost == "exact"
        self._table_pages = 300 if policies.deposit_suffices == "several" else 1
        self._table_cost = self._table_pages * (CONTIGUOUS_PAGES if policies.shortage_status in ("0x75", "0x83") else 1)
        self._shortage = status_of(policies.shortage_status) or HV_STATUS_INSUFFICIENT_MEMORY
        self._contiguous = policies.shortage_status in ("0x75", "0x83")
        self._deposited = False
        """Whether Linux ever deposited a frame; until then M9 needs no look-up."""

    def _target(self, domain: Domain, base: int) -> int:
        """The status for mapping or unmapping in this domain at this base address (M4, M10, M11)."""
        if domain.id == IN_NULL.id:
            return status_of(self.policies.map_null) or HV_STATUS_INVALID_PARAMETER
        if domain.id == IN_DEFAULT.id and self.policies.map_default != "allowed":
            return status_of(self.policies.map_default) or HV_STATUS_INVALID_PARAMETER
        if base & 0xFFF and self.policies.unaligned_base != "truncated":
            return status_of(self.policies.unaligned_base) or HV_STATUS_INVALID_PARAMETER
        return HV_STATUS_SUCCESS

    def _bounds(self, first: int, start: int, limit: int, refusal: Refusal | None) -> tuple[int, int, bool]:
        """Where a rep call that starts at page ``first`` has to stop: element, status, and whether by the refusal."""
        stop, status, refused = limit, HV_STATUS_SUCCESS, False
        if first + stop > self.width_pages:
            stop = max(start, self.width_pages - first)
            if self.policies.beyond_width == "whole-call":
                stop = start
            status = HV_STATUS_INVALID_PARAMETER
        if refusal is not None:
            done = min(max(start, refusal.done), limit - 1)
            if done < stop:
                stop, status, refused = done, refusal.status, True
        return stop, status, refused

    def _map(self, page: bytearray, _output: bytearray | None, start: int, limit: int, refusal: Refusal | None) -> tuple[int, int]:
        """Element i maps byte address base + i * 4096 to frame list[i]; the same flags for all."""
        partition_id, vtl, kind, ident, target_vtl, flags, base = abi.MAP_DEVICE_GPA_PAGES.unpack_from(page)
        domain: Domain | None
        if partition_id == HV_PARTITION_ID_SELF and not vtl and not kind and not target_vtl and ident in self.domains:
            domain = self.domains[ident]
        else:
            status, domain = self._domain(partition_id, vtl or target_vtl, kind, ident)
            if domain is None:
                return status, start
        if ident in (IN_DEFAULT.id, IN_NULL.id) or base & 0xFFF:
            status = self._target(domain, base)
            if status:
                return status, start
        if self.policies.flags_not_readable != "accepted" and (
            not flags & abi.HV_MAP_GPA_READABLE or flags & ~abi.MAP_FLAGS_KNOWN or flags & abi.MAP_FLAG_NO_ACCESS
        ):
            return HV_STATUS_INVALID_PARAMETER, start
        first = base >> PAGE_SHIFT
        stop, status, refused = self._bounds(first, start, limit, refusal)
        if self._tables_cost and self.policies.shortage_at == "call" and start < stop:
            missing = self._tables_missing(domain, first + start, first + stop)
            if not self.caller.pool.holds(missing, self._contiguous):
                return self._shortage, start
        done = start
        if start < stop:
            raw = bytes(page[_LIST + 8 * start : _LIST + 8 * limit])
            for frame, length in abi.decode_runs(raw, limit - start):
                wanted = min(length, stop - done)
                if wanted <= 0:
                    break
                able, why = self._map_run(domain, first + done, wanted, frame, flags)
                done += able
                if able < wanted:
                    stop, status, refused = done, why, False
                    break
        if done > start:
            self.effects.append(("pages", ident, first + start, first + done))
        self.refused = refused
        return status, done

    def _map_run(self, domain: Domain, page: int, count: int, frame: int, flags: int) -> tuple[int, int]:
        """Map one contiguous run; returns how many pages took effect and the status that stopped it, if any did."""
        able, status = self._not_owned(frame, frame + count) - frame, HV_STATUS_SUCCESS
        if able < count:
            status = status_of(self.policies.frame_not_owned) or HV_STATUS_OPERATION_DENIED
        if self._remap_checked:
            for run in domain.table.slice(page, page + able):
                same = run.frame == frame + run.start - page and run.tag == flags
                answer = self.policies.remap_same if same else self.policies.remap_other
                refused = status_of(answer)
                if refused is not None:
                    able, status = run.start - page, refused
                    break
        if self._tables_cost and able:
            level1 = page >> 9
            if (page + able - 1) >> 9 != level1 or level1 not in domain.tables[0]:
                reached = self._grow(domain, page, page + able)
                if reached < page + able:
                    able, status = reached - page, self._shortage
        domain.table.set(page, page + able, frame, flags)
        return able, status

    def _tables_missing(self, domain: Domain, start: int, end: int) -> int:
        """How many pool pages the page tables of ``[start, end)`` still need in a 4-level tree (M13)."""
        missing = sum(level1 not in domain.tables[0] for level1 in range(start >> 9, ((end - 1) >> 9) + 1))
        missing += sum(level2 not in domain.tables[1] for level2 in range(start >> 18, ((end - 1) >> 18) + 1))
        missing += sum(level3 not in domain.tables[2] for level3 in range(start >> 27, ((end - 1) >> 27) + 1))
        return missing * self._table_pages

    def _grow(self, domain: Domain, start: int, end: int) -> int:
        """Take pool pages for page tables, lowest page first; returns the page that it got to (``end`` if all)."""
        first, second, third = domain.tables
        pool = self.caller.pool
        for level1 in range(start >> 9, ((end - 1) >> 9) + 1):
            if level1 in first:
                continue
            level2, level3 = level1 >> 9, level1 >> 18
            need = (1 + (level2 not in second) + (level3 not in third)) * self._table_pages
            before = pool.used
            if not pool.take(need, self._contiguous):
                return max(start, level1 << 9)
            domain.pages_used += pool.used - before
            first.add(level1)
            second.add(level2)
            third.add(level3)
        return end

    def _unmap(
        self, page: bytearray, _output: bytearray | None, start: int, limit: int, refusal: Refusal | None
    ) -> tuple[int, int]:
        """Unmap ``limit`` pages from the base address; a page that is not mapped is M3."""
        partition_id, vtl, kind, ident, base = abi.UNMAP_DEVICE_GPA_PAGES.unpack_from(page)
        domain: Domain | None
        if partition_id == HV_PARTITION_ID_SELF and not vtl and not kind and ident in self.domains:
            domain = self.domains[ident]
        else:
            status, domain = self._domain(partition_id, vtl, kind, ident)
            if domain is None:
                return status, start
        if ident in (IN_DEFAULT.id, IN_NULL.id) or base & 0xFFF:
            status = self._target(domain, base)
            if status:
                return status, start
        first = base >> PAGE_SHIFT
        stop, status, refused = self._bounds(first, start, limit, refusal)
        if self._unmap_checked:
            hole = first + start
            for run in domain.table.slice(first + start, first + stop):
                if run.start > hole:
                    break
                hole = run.end
            if hole < first + stop:
                stop, refused = hole - first, False
                status = status_of(self.policies.unmap_unmapped) or HV_STATUS_INVALID_PARAMETER
        if stop > start:
            domain.table.clear(first + start, first + stop)
            self.effects.append(("pages", ident, first + start, first + stop))
            if self._tables_cost and self.policies.unmap_frees == "at-once":
                self._shrink(domain, first + start, first + stop)
        self.refused = refused
        return status, stop

    def _shrink(self, domain: Domain, start: int, end: int) -> None:
        """Give page tables that became empty back to the pool (M17)."""
        freed = 0
        for shift, level in zip((9, 18, 27), domain.tables, strict=True):
            for index in range(start >> shift, ((end - 1) >> shift) + 1):
                if index in level and not domain.table.meets(index << shift, (index + 1) << shift):
                    level.discard(index)
                    freed += self._table_cost
        domain.pages_used -= freed
        self.caller.pool.give(freed)
