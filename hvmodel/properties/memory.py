"""Memory that callers give back to the kernel: what no device may reach any more.

The other properties compare what is mapped with what was promised. This is the harm itself, and it is exact: at the moment the last
pin of a page goes, the hypervisor's own tables are searched for it.
"""

from __future__ import annotations

from hvmodel.callers.books import LIMBO, DomainBook
from hvmodel.hypervisor.abi import HV_MAP_GPA_WRITABLE
from hvmodel.hypervisor.objects import IN_DEFAULT, IN_NULL, Domain
from hvmodel.properties.verdicts import Bench
from hvmodel.ranges import PageSet, Run


class MemoryJudge(Bench):
    """The properties of memory that is given back."""

    def judge_given_back(self, ranges: list[tuple[int, int]], taken: bool) -> None:
        """The last pins of these ranges of frames are gone; ``taken``: what others still hold of them is their own affair."""
        self.judged["page-given-back"] += 1
        self.judged["mapping-ends-with-its-page"] += 1
        frames = PageSet()
        for low, high in ranges:
            frames.add(low, high)
        books = {book.hv_id: book for book in self.core.books.of_domain.values() if book.hv_id is not None}
        for ident, domain in self.hypervisor.domains.items():
            if ident in (IN_DEFAULT.id, IN_NULL.id):
                continue
            for run in domain.table:
                for low, high in frames.slice(run.frame, run.frame + run.end - run.start):
                    at = run.start + low - run.frame
                    self._still_mapped(domain, books.get(ident), Run(at, at + high - low, low, run.tag), taken)

    def _still_mapped(self, domain: Domain, book: DomainBook | None, run: Run, taken: bool) -> None:
        """Pages ``run`` of a domain still map memory that was given back; ``book`` is None if the caller has freed the domain."""
        if book is None:
            state = self._state_of_freed(domain)
            if state is not None:
                self._accuse(domain, f"domain {domain.id:#x}, which the caller has freed,", run, state)
            return
        at = run.start
        for held in [*book.pages.slice(run.start, run.end), Run(run.end, run.end, 0, 0)]:
            if at < held.start:
                self._accuse(domain, book.name, Run(at, held.start, run.frame + at - run.start, run.tag), "gone")
            at = held.end
            if held.start == held.end or not book.pinned:  # who does not pin has memory of its own
                continue
            part = Run(held.start, held.end, run.frame + held.start - run.start, run.tag)
            if book.forgiven.meets(held.start, held.end):
                self.environment.append(f"{book.name}: memory mapped at {part.start << 12:#x} is given back, its unmap was refused")
            elif held.tag & LIMBO or not taken:  # held: a wrong page was unpinned
                self._accuse(domain, book.name, part, "limbo" if held.tag & LIMBO else "held")

    def _state_of_freed(self, domain: Domain) -> str | None:
        """``kept`` if the driver is to blame that a freed domain is there; None if it is not."""
        reason = self.core.books.zombies.get(domain.id)
        if reason in ("refused", "stuck"):
            self.environment.append(f"domain {domain.id:#x} is freed, was refused to go, and maps memory that is given back")
            return None
        return reason

    def _accuse(self, domain: Domain, name: str, run: Run, state: str) -> None:
        inside = [book for book in self.core.books.devices if book.key in domain.devices]
        pages = run.end - run.start
        what = f"{'1 page' if pages == 1 else f'{pages} pages'} from {run.frame << 12:#x} of what is given back"
        if inside:
            how = "writes" if run.tag & HV_MAP_GPA_WRITABLE else "reads"
            text = f"{what}: {inside[0].device.name} still {how} there, through {name} at {run.start << 12:#x}"
            self.fail("page-given-back", name, text, how, state)
        else:
            text = f"{what}: {name}, with no device in it, still maps it at {run.start << 12:#x}"
            self.fail("mapping-ends-with-its-page", name, text, state)


__all__ = ["MemoryJudge"]
