"""Pages: what the caller holds, what the driver's tree says, what the hypervisor maps.

After each ``map_pages`` and ``unmap_pages`` the three are compared over the pages of the call and over every page that the call
changed anywhere; by induction nothing else can have come apart. The cost follows the number of runs that the call touched.
"""

from __future__ import annotations

from itertools import pairwise

from hvmodel.callers.books import LIMBO, PAGE_END, DomainBook
from hvmodel.callers.watch import MapCall, UnmapCall
from hvmodel.hypervisor.abi import HV_MAP_GPA_READABLE, HV_MAP_GPA_WRITABLE, PAGE_SHIFT, SHORTAGE_STATUSES
from hvmodel.kernel.iommu import ERRNO_NAMES, IOMMU_READ, IOMMU_WRITE
from hvmodel.properties.verdicts import Bench
from hvmodel.ranges import PageSet, Run, merged

Triples = list[tuple[int, int, int]]

_UNMAP = "UNMAP_DEVICE_GPA_PAGES"


def size_class(pages: int) -> str:
    """The encoding class of a rep count: where the 12-bit field and the u16 parameter turn."""
    if pages == 0:
        return "0"
    return "<=4095" if pages <= 4095 else "<=65535" if pages <= 65535 else ">65535"


class PageJudge(Bench):
    """The page properties."""

    overran: bool
    touched: list[tuple[int, int]]
    """Page ranges that the hypervisor changed in the domain of the running call."""

    # --- answers --------------------------------------------------------------------------------------------------------

    def judge_map(self, call: MapCall) -> None:
        """M1 to M5, M8 to M10 at the driver call."""
        book, size, ret = call.book, call.size, call.ret
        start = call.iova >> PAGE_SHIFT
        end = min(start + (size >> PAGE_SHIFT), PAGE_END)
        mapped = call.mapped if call.mapped is not None else size if ret == 0 else 0
        if self.overran:
            # The host's memory is overwritten: that is the finding, and what else the model shows of this call proves nothing.
            self.touched = []
            if start < end:
                book.aside.add(start, end)
            return
        if call.mapped is None and ret and self.refusals(_UNMAP):
            # Nobody can be told what is left: there is no pointer to say it through.
            self.environment.append(f"{book.name}: a map without a mapped pointer failed and could not be undone")
            self.touched = []
            if start < end:
                book.aside.add(start, end)
            return
        self.judged["map-result"] += 1
        self.judged["legal-requests-work"] += 1
        if size and not size & 0xFFF and (mapped > size or mapped & 0xFFF or (ret == 0 and mapped == 0)):
            text = f"{book.name}: map of {size:#x} bytes answers {ret}, mapped {mapped:#x}"
            self.fail("map-result", book.name, text, *self._shape(call))
        if ret:
            self._judge_refused_map(call, start, end)
        self._compare(book, start, end, call, failed_from=start + (mapped >> PAGE_SHIFT) if ret else end)

    def _judge_refused_map(self, call: MapCall, start: int, end: int) -> None:
        """A map inside the aperture that meets nothing fails only if something was refused or memory is short."""
        book, size, geometry = call.book, call.size, call.book.domain.geometry
        legal = size and not (call.iova | call.paddr | size) & 0xFFF and call.mapped is not None
        if not legal or geometry is None or call.iova + size - 1 > geometry.aperture_end or call.paddr + size > 1 << 64:
            return
        short = any(record.status & 0xFFFF in SHORTAGE_STATUSES for record in self.calls)
        told = start + ((call.mapped or 0) >> PAGE_SHIFT)  # limbo by now: met by nobody else
        meets = book.pages.meets(told, end) or book.aside.meets(start, end) or self._met_before(book, start, told)
        if self.refusals() or short or meets or ("advertised-is-true", "aperture") in self.muted:
            return
        text = f"{book.name}: a map of {_count(end - start)} at {call.iova:#x} answers -{ERRNO_NAMES.get(-call.ret, -call.ret)}"
        self.fail("legal-requests-work", "map", f"{text}, though nothing is refused", *self._shape(call))

    def _met_before(self, book: DomainBook, start: int, told: int) -> bool:
        """Whether the part that a failed map says to have mapped is not all of that map's own extent."""
        return any(run.tag >> 3 != book.next_extent for run in book.pages.slice(start, told))

    def judge_unmap(self, call: UnmapCall) -> None:
        """U1 to U6, U10 to U12 at the driver call."""
        book, answer = call.book, call.answer
        start, pages = call.iova >> PAGE_SHIFT, call.size >> PAGE_SHIFT
        end = min(start + pages, PAGE_END)
        told = answer >> PAGE_SHIFT
        self.judged["unmap-honest"] += 1
        if answer & 0xFFF or (told and call.before < told and not self._aside(book, start, start + told)):
            text = f"{book.name}: unmap at {call.iova:#x} says {answer:#x} bytes are gone, {call.before << 12:#x} were mapped there"
            self.fail("unmap-honest", book.name, text, *self._shape(call)[1:])
        allowed = [(start, end), *call.extents]
        self._compare(book, start, max(end, min(start + told, PAGE_END)), call, allowed=allowed)

    def judge_unmap_request(self, book: DomainBook, start: int, end: int, total: int, legal: bool) -> None:
        """U7 to U9 at the request."""
        if not legal or self.refusals(_UNMAP):
            return
        self.judged["unmap-total"] += 1
        if total != (end - start) << PAGE_SHIFT:
            self.fail(
                "unmap-total",
                book.name,
                f"{book.name}: unmapping {(end - start) << 12:#x} mapped bytes at {start << 12:#x} gives back {total:#x}",
                "0" if total == 0 else "less" if total < (end - start) << PAGE_SHIFT else "more",
                size_class(end - start),
                book.kind,
            )

    def judge_map_request(self, book: DomainBook, start: int, end: int, ret: int) -> None:
        """M6 and M7 at the request: after a failure nothing of it may be left unless an unmap was refused."""
        if ret == 0:
            return
        left = [
            run
            for run in book.pages.slice(start, end)
            if run.tag & LIMBO and run.tag >> 3 > book.request_from and not book.aside.meets(run.start, run.end)
        ]
        if not left:
            return
        if self.refusals(_UNMAP):
            self.environment.append(f"{book.name}: pages from {left[0].start << 12:#x} may be reached after a failed map")
            return
        self.fail(
            "map-result",
            f"{book.name} request",
            f"{book.name}: the map failed, and undoing it left {left[0].start << 12:#x} in limbo",
            "request",
        )

    def judge_lookup(self, book: DomainBook, iova: int, answer: int) -> None:
        """L1: one ``iova_to_phys`` answer."""
        page = iova >> PAGE_SHIFT
        self.judged["lookup-matches-caller"] += 1
        if book.aside and page in book.aside:
            return
        expected = self._promised(book, page)
        if expected is not None and (expected or self._mapped(book, page)):
            expected += iova & 0xFFF
        if expected is not None and answer != expected:
            self.fail(
                "lookup-matches-caller",
                book.name,
                f"{book.name}: iova_to_phys({iova:#x}) is {answer:#x}, promised {expected:#x}",
                "lookup",
                book.kind,
            )

    # --- the comparison -------------------------------------------------------------------------------------------------

    def _promised(self, book: DomainBook, page: int) -> int | None:
        """What ``iova_to_phys`` must answer at the start of a page (bytes); None if anything is right."""
        run = book.pages.find(page)
        if run is not None and not run.tag & LIMBO:
            return run.frame + page - run.start << PAGE_SHIFT
        if run is None:
            return 0
        if book.kind == "direct":
            return None
        domain = self.hypervisor.domains.get(book.hv_id) if book.hv_id is not None else None
        frame = domain.table.frame(page) if domain is not None else None
        return 0 if frame is None else frame << PAGE_SHIFT

    def _mapped(self, book: DomainBook, page: int) -> bool:
        """Whether a page translates, if only to physical address 0."""
        run = book.pages.find(page)
        if run is None or not run.tag & LIMBO:
            return run is not None
        domain = self.hypervisor.domains.get(book.hv_id) if book.hv_id is not None else None
        return domain is not None and domain.table.frame(page) is not None

    def driver_tree(self, book: DomainBook, start: int, end: int) -> Triples | None:
        """The driver's tree over a page range, as a lookup would see it: the first node that holds a page decides."""
        tree = self.driver.tree(book.domain)
        if tree is None:
            return None
        low, last = start << PAGE_SHIFT, (end << PAGE_SHIFT) - 1
        node = tree.iter_first(low, last)
        result: Triples = []
        at = start
        while node is not None:
            first, stop = node.start >> PAGE_SHIFT, (node.last >> PAGE_SHIFT) + 1
            begin, finish = max(first, at), min(stop, end)
            if begin < finish and node.start <= node.last:
                frame = self.driver.node_paddr(node) >> PAGE_SHIFT
                result.append((begin, finish, frame + begin - first))
                at = finish
                if at == end:
                    break
            node = tree.iter_next(node, low, last)
        return result

    def _compare(
        self,
        book: DomainBook,
        start: int,
        end: int,
        call: MapCall | UnmapCall | None,
        failed_from: int | None = None,
        allowed: list[tuple[int, int]] | None = None,
    ) -> None:
        """Compare the three views over ``[start, end)`` and over whatever else the call changed."""
        ranges = [(start, end)] if start < end else []
        extra: list[tuple[int, int]] = []
        for low, high in self.touched:
            if low < start or high > end:
                extra.append((low, high))
        self.touched = []
        tree = self.driver.tree(book.domain)
        if tree is not None and tree.changes:
            for first, last in tree.changes:
                low, high = first >> PAGE_SHIFT, (last >> PAGE_SHIFT) + 1
                if last < first and any(node.last < node.start for node in tree):  # no search is defined in such a tree
                    text = f"{book.name}: the tree holds a node from {first:#x} that ends at {last:#x}, before it begins"
                    self.fail("tree-matches-hypervisor", f"{book.name} order", text, "inverted", book.kind)
                if low < high and (low < start or high > end):
                    extra.append((low, high))
            tree.changes.clear()
        if extra:
            union = PageSet()
            for low, high in [*ranges, *extra]:
                union.add(low, high)
            ranges = list(union.ranges())
        for low, high in ranges:
            self._compare_range(book, low, high, call, failed_from, allowed)

    def _compare_range(
        self,
        book: DomainBook,
        start: int,
        end: int,
        call: MapCall | UnmapCall | None,
        failed_from: int | None,
        allowed: list[tuple[int, int]] | None,
    ) -> None:
        held = book.pages.slice(start, end)
        tree = self.driver_tree(book, start, end)
        device_domain = book.kind == "device"
        table: Triples = []
        if device_domain:
            domain = self.hypervisor.domains.get(book.hv_id) if book.hv_id is not None else None
            if domain is not None:
                runs = domain.table.slice(start, end)
                table = [(run[0], run[1], run[2]) for run in runs]
                if isinstance(call, MapCall) and call.ret == 0:
                    self._permissions(call, runs)
        self.judged["no-stale-mapping"] += 1
        if held:
            self.judged["no-lost-mapping"] += 1
        if tree is not None:
            self.judged["tree-matches-hypervisor"] += 1
        clean = not (book.aside and book.aside.meets(start, end))
        for run in held:
            if run[3] & LIMBO:
                clean = False
                break
        if clean:
            caller = [(run[0], run[1], run[2]) for run in held]
            same = caller == table or not device_domain or merged(caller) == merged(table)
            if same and (tree is None or tree == caller or merged(tree) == merged(caller)):
                self._ask(book, start, end, held, call)
                return
        self._dissect(book, start, end, table, tree, call, failed_from, allowed)

    def _ask(self, book: DomainBook, start: int, end: int, held: list[Run], call: MapCall | UnmapCall | None) -> None:
        """Ask ``iova_to_phys`` at the last page of a range that agrees otherwise; ``held`` is the caller's. There an answer needs
        the node and the offset in it; first pages and neighbours are asked by the callers' own look-ups."""
        ops = self.core.ops
        assert ops is not None
        self.judged["lookup-matches-caller"] += 1
        page = end - 1
        last = held[-1] if held else None
        expected = last.frame + page - last.start << PAGE_SHIFT if last is not None and last.end == end else 0
        answer = ops.iova_to_phys(book.domain, page << PAGE_SHIFT)
        if answer != expected:
            text = f"{book.name}: iova_to_phys({page << 12:#x}) is {answer:#x}, promised {expected:#x}"
            self.fail("lookup-matches-caller", book.name, text, *self._shape(call))

    def _dissect(
        self,
        book: DomainBook,
        start: int,
        end: int,
        table: Triples,
        tree: Triples | None,
        call: MapCall | UnmapCall | None,
        failed_from: int | None,
        allowed: list[tuple[int, int]] | None,
    ) -> None:
        """The views differ, or pages are in limbo: find out page run by page run which property says what."""
        ops = self.core.ops
        assert ops is not None
        held = book.pages.slice(start, end)
        cuts = _cuts(book, start, end, table + (tree or []), held, failed_from, allowed)
        wrong: dict[str, list[tuple[int, int, str]]] = {}
        device_domain = book.kind == "device"
        # The triples and runs are sorted: one walk with three cursors.
        i = j = k = 0
        for count, (low, high) in enumerate(pairwise(cuts)):
            while i < len(table) and table[i][1] <= low:
                i += 1
            while tree is not None and j < len(tree) and tree[j][1] <= low:
                j += 1
            while k < len(held) and held[k].end <= low:
                k += 1
            if low in book.aside:
                continue
            here = table[i][2] + low - table[i][0] if i < len(table) and table[i][0] <= low else None
            believed = None
            if tree is not None and j < len(tree) and tree[j][0] <= low:
                believed = tree[j][2] + low - tree[j][0]
            run = held[k] if k < len(held) and held[k].start <= low else None
            promised = run.frame + low - run.start if run is not None else None
            limbo = run is not None and bool(run.tag & LIMBO)

            def note(name: str, text: str, low: int = low, high: int = high) -> None:
                wrong.setdefault(name, []).append((low, high, text))

            if device_domain:
                if run is None and here is not None:
                    note("no-stale-mapping", f"still mapped to {here << 12:#x}")
                    if failed_from is not None and low >= failed_from:
                        note("map-result", f"mapped to {here << 12:#x} after a failed map")
                if run is not None and here != promised and not (limbo and here is None):
                    note("no-lost-mapping", "not mapped" if here is None else f"mapped to {here << 12:#x}")
                    if allowed is not None and not any(low < stop and first < high for first, stop in allowed):
                        note("unmap-honest", "lost, though the unmap did not meet them")
                if tree is not None and believed != here:
                    note("tree-matches-hypervisor", f"tree {_hex(believed)}, hypervisor {_hex(here)}")
            if count < 256:
                answer = ops.iova_to_phys(book.domain, low << PAGE_SHIFT)
                if limbo:
                    expected = None if not device_domain else (here or 0) << PAGE_SHIFT
                else:
                    expected = (promised or 0) << PAGE_SHIFT
                if expected is not None and answer != expected:
                    note("lookup-matches-caller", f"iova_to_phys says {answer:#x}, promised {expected:#x}")
        if wrong:
            self._write_down(book, wrong, self._shape(call))

    def _write_down(self, book: DomainBook, wrong: dict[str, list[tuple[int, int, str]]], shape: tuple[object, ...]) -> None:
        """Report each property once for this call and set the pages aside: they are not judged again."""
        for name, places in wrong.items():
            pages = sum(high - low for low, high, _ in places)
            low, _high, text = places[0]
            self.muted.discard((name, book.name))
            self.fail(name, book.name, f"{book.name}: {_count(pages)} from {low << 12:#x}: {text}", *shape)
        for places in wrong.values():
            for low, high, _ in places:
                book.aside.add(low, high)

    def _shape(self, call: MapCall | UnmapCall | None) -> tuple[object, ...]:
        """The manner of a call without its values: how its range lies, what was answered, which encodings it needs."""
        if call is None:
            return ("audit",)
        start, pages = call.iova >> PAGE_SHIFT, call.size >> PAGE_SHIFT
        end = min(start + pages, PAGE_END)
        if isinstance(call, MapCall):
            page_size = "large" if call.pgsize > 4096 else "small"
            near = self._relation(call.book, start, end) if call.ret else ""
            return ("map", "ok" if call.ret == 0 else "failed", size_class(pages), page_size, call.book.kind, near)
        first = call.extents[0] if call.extents else None
        last = call.extents[-1] if call.extents else None
        return (
            "unmap",
            "at" if first and first[0] == start else "inside" if first and first[0] < start else "outside",
            "at" if last and last[1] == end else "inside" if last and last[1] > end else "outside",
            "0" if not call.answer else "less" if call.answer < call.size else "equal" if call.answer == call.size else "more",
            size_class(pages),
            call.book.kind,
        )

    # --- small things ---------------------------------------------------------------------------------------------------

    def _aside(self, book: DomainBook, start: int, end: int) -> bool:
        return bool(book.aside) and book.aside.meets(start, end)

    def _relation(self, book: DomainBook, start: int, end: int) -> str:
        """Whether other mappings are near a failed map: over it, next to it, or not."""
        if book.pages.meets(start, end):
            return "over"
        return "alone" if not book.pages.pages else "beside"

    def _permissions(self, call: MapCall, runs: list[Run]) -> None:
        """What a successful map made may do no more than was asked, and no less."""
        self.judged["permissions-match"] += 1
        prot = call.prot
        usual = HV_MAP_GPA_READABLE | HV_MAP_GPA_WRITABLE if prot & IOMMU_WRITE else HV_MAP_GPA_READABLE
        strict_read = not prot & IOMMU_READ and self.hypervisor.policies.flags_not_readable == "accepted"
        strict_read = strict_read and not self.refusals("MAP_DEVICE_GPA_PAGES")  # a refusal cannot be told from "not possible"
        first = call.iova >> PAGE_SHIFT
        for run in runs:
            if (run.tag & 3 == usual and not strict_read) or not first <= run.start < first + (call.size >> PAGE_SHIFT):
                continue
            readable, writable = bool(run.tag & HV_MAP_GPA_READABLE), bool(run.tag & HV_MAP_GPA_WRITABLE)
            wants_read, wants_write = bool(prot & IOMMU_READ), bool(prot & IOMMU_WRITE)
            if writable != wants_write or (readable and strict_read) or (wants_read and not readable):
                asked = "".join(letter for letter, want in (("r", wants_read), ("w", wants_write)) if want) or "nothing"
                got = "".join(letter for letter, has in (("r", readable), ("w", writable)) if has)
                text = f"{call.book.name}: {run.start << 12:#x} asked as {asked}, is {got}"
                self.fail("permissions-match", call.book.name, text, asked)
                return

    def audit(self) -> None:
        """Compare everything, not only what was touched; for tests and for the end of a run."""
        for book in list(self.core.books.of_domain.values()):
            if book.kind not in ("device", "direct"):
                continue
            tree = self.driver.tree(book.domain)
            if tree is not None:
                tree.changes.clear()
            self._compare_range(book, 0, PAGE_END, None, None, None)


def _cuts(
    book: DomainBook,
    start: int,
    end: int,
    views: Triples,
    held: list[Run],
    failed_from: int | None,
    allowed: list[tuple[int, int]] | None,
) -> list[int]:
    """Where any view, or what was asked, changes within ``[start, end)``: between two cuts all pages are alike."""
    edges = {start, end}
    for triple in views:
        edges.update((triple[0], triple[1]))
    for mapped in held:
        edges.update((mapped.start, mapped.end))
    for low, high in book.aside.slice(start, end):
        edges.update((low, high))
    if failed_from is not None:
        edges.add(failed_from)
    for low, high in allowed or ():
        edges.update((low, high))
    return sorted(edge for edge in edges if start <= edge <= end)


def _hex(frame: int | None) -> str:
    return "nothing" if frame is None else f"{frame << 12:#x}"


def _count(pages: int) -> str:
    return "1 page" if pages == 1 else f"{pages} pages"


__all__ = ["PageJudge", "size_class"]
