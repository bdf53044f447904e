"""The judge: hears every driver call and hypercall, keeps the running call's record, and asks the properties.

It reads views and changes nothing in them; the only books that it touches are the marks that set a finding aside.
"""

from __future__ import annotations

from collections.abc import Callable

from hvmodel.callers.books import DomainBook
from hvmodel.callers.watch import AttachCall, MapCall, UnmapCall, Watch
from hvmodel.hypervisor import abi
from hvmodel.kernel.iommu import GFP_ATOMIC, Device
from hvmodel.properties.hypercalls import HypercallJudge
from hvmodel.properties.lifetime import LifetimeJudge
from hvmodel.properties.memory import MemoryJudge
from hvmodel.properties.pages import PageJudge
from hvmodel.properties.places import PlaceJudge
from hvmodel.properties.verdicts import HypercallRecord


class Judge(PageJudge, PlaceJudge, HypercallJudge, LifetimeJudge, MemoryJudge, Watch):
    """All properties of one run."""

    def __init__(self) -> None:
        super().__init__()
        self.book: DomainBook | None = None
        self.device: Device | None = None
        self.owner: DomainBook | None = None
        self.moving = None
        self.touched = []
        self.call_pages = 0
        self.idle_deposits = 0
        self.issued = 0
        self.overran = False
        self.reported = set()
        self.unrecovered = {}
        self.named = {}
        self.domains_before = set()
        self.static_when_visible = None
        self.used_at_boot = 0
        self.story: Callable[[str, object], None] | None = None
        """When set, hears every driver call and hypercall in order (for replay and explain)."""

    # --- driver calls -----------------------------------------------------------------------------------------------------

    def begin_call(self, name: str, book: DomainBook | None, device: Device | None, pages: int = 0) -> None:
        self.judged["context-is-balanced"] += 1
        self.call, self.book, self.call_pages = name, book, pages
        self.device = device if name != "domain_alloc_paging" else None  # it is about a domain; what moves was left by others
        if self.calls:
            self.calls = []
        if self.unrecovered:
            self.unrecovered = {}
        self.kernel.deposit_calls = self.idle_deposits = self.issued = 0
        self.overran = False
        if name == "attach_dev":
            assert book is not None
            assert device is not None
            old = self.core.books.current(device.group) if device.group is not None else None
            self._old_book = self.core.books.of_domain.get(old.domain) if old is not None else None
            if self._old_book is book and device.group is not None and device.group.blocking_domain is not None:
                self._old_book = self.core.books.of_domain.get(device.group.blocking_domain)
            self.moving = (book, self._old_book, device)
            self._before_attach = self.place_of(device)
        elif name == "release_device":
            pointer = self.driver.pointer_domain(device) if device is not None else None
            self._old_book = self.core.books.of_domain.get(pointer) if pointer is not None else None
        elif name == "domain_alloc_paging":
            self.owner = book
            self.domains_before = set(self.hypervisor.domains)
        if self.story is not None:
            self.story("call", (name, book, device))

    def end_call(self) -> None:
        self.moving = None
        self._context()

    def _context(self) -> None:
        kernel = self.kernel
        if kernel.reports or kernel.cpu.irqs_off or kernel.cpu.locks:
            self.judge_context()

    def mapped(self, call: MapCall) -> None:
        if self.story is not None:
            self.story("mapped", call)
        if self.unrecovered:
            self.judge_visible(call.ret == 0)
            self.judge_shortage(call.ret != 0, call.gfp != GFP_ATOMIC)
        self.judge_map(call)
        self._context()

    def unmapped(self, call: UnmapCall) -> None:
        if self.story is not None:
            self.story("unmapped", call)
        if self.unrecovered:
            self.judge_visible(call.answer >= call.size)
        self.judge_unmap(call)
        self._context()

    def attached(self, call: AttachCall) -> None:
        if self.story is not None:
            self.story("attached", call)
        if self.unrecovered:
            self.judge_visible(call.ret == 0)
            self.judge_shortage(call.ret != 0, True)
        self.judge_attach(call)

    def allocated(self, book: DomainBook | None, errno: int, device: Device, by: int) -> None:
        if self.story is not None:
            self.story("allocated", (book, errno))
        if self.unrecovered:
            self.judge_visible(book is not None)
            self.judge_shortage(book is None, True)
        assert self.owner is not None
        self.judge_alloc(book, errno, self.owner, device)

    def freed(self, book: DomainBook) -> None:
        if self.story is not None:
            self.story("freed", book)
        self.judge_visible(True)
        self.judge_free(book)
        self.judge_books()

    def released(self, device: Device) -> None:
        if self.story is not None:
            self.story("released", device)
        self.judge_visible(True)
        self.judge_release(device)
        self.judge_books()

    def option(self, name: str, ret: int) -> None:
        self.call = "setup"
        self.judge_option(name, ret)

    def probed(self, device: Device, ret: int) -> None:
        if self.story is not None:
            self.story("probed", (device, ret))
        self.judge_probe(device, ret)

    def looked_up(self, book: DomainBook, iova: int, answer: int) -> None:
        if self.story is not None:
            self.story("looked up", (book, iova, answer))
        self.judge_lookup(book, iova, answer)
        self._context()

    def map_request(self, book: DomainBook, start: int, end: int, ret: int) -> None:
        self.judge_map_request(book, start, end, ret)

    def unmap_request(self, book: DomainBook, start: int, end: int, total: int, legal: bool) -> None:
        self.judge_unmap_request(book, start, end, total, legal)

    def given_back(self, frames: list[tuple[int, int]], taken: bool = False) -> None:
        self.judge_given_back(frames, taken)

    def attach_request(self, name: str) -> None:
        self.judge_books()

    def initialised(self, ret: int) -> None:
        self.call = "init"
        self.judge_init(ret)
        self.judge_books()
        self.judge_context()

    # --- hypercalls -------------------------------------------------------------------------------------------------------

    def after_hypercall(self, record: HypercallRecord, effects: list[tuple[str, int, int, int]]) -> None:
        """The hypercall is done; ``effects`` is what it changed."""
        self.calls.append(record)
        if self.story is not None:
            self.story("hypercall", record)
        self.judged["control-word-valid"] += 1
        self.judge_hypercall(record)
        if effects:
            own = self.book.hv_id if self.book is not None else None
            for kind, ident, low, high in effects:
                if kind == "pages" and ident == own:
                    self.touched.append((low, high))
            self.judge_effects(effects)
        if self.moving is not None and record.code != abi.HVCALL_DEPOSIT_MEMORY:
            self.judge_gap()
