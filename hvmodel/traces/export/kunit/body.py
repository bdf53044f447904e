"""The function of one trace in the C test: its operations, one after the other, and what must hold at the end."""

from __future__ import annotations

import re
from collections.abc import Iterator

from hvmodel import operations as ops
from hvmodel.callers.books import DomainBook
from hvmodel.callers.watch import AttachCall, MapCall, UnmapCall
from hvmodel.hypervisor.objects import IN_DEFAULT, IN_NULL, Place
from hvmodel.properties.verdicts import Violation
from hvmodel.traces.export.case import Case
from hvmodel.traces.export.kunit.c_text import call, number, place, prot, remark
from hvmodel.traces.export.kunit.script import Play, Script
from hvmodel.world import GFPS, PROTS

EXPLICIT = ("no-foreign-attach", "release-parks", "count-matches", "pointer-matches", "nothing-is-left")
"""Properties that are asked for by a statement at the end, not by a look at every call."""


class Names:
    """The domains of all traces in a file, as enumerators."""

    def __init__(self) -> None:
        self.known: list[str] = []
        self._of: dict[int, str] = {}
        self._taken: set[str] = set()

    def begin(self) -> None:
        """Another trace: its domains may have the names of an earlier one's."""
        self._of.clear()
        self._taken = set()

    def of(self, book: DomainBook) -> str:
        """The enumerator of a domain."""
        if book.kind in ("identity", "blocked"):
            return f"HVM_{book.kind.upper()}"
        name = self._of.get(id(book))
        if name is None:
            words = re.sub(r"[^A-Z0-9]+", "_", (book.name or "not made").upper()).strip("_")
            base = f"HVM_{words.replace('DOMAIN_OF_GROUP_', '')}"
            name, count = base, 1
            while name in self._taken:
                count += 1
                name = f"{base}_{count}"
            self._taken.add(name)
            self._of[id(book)] = name
            if name not in self.known:
                self.known.append(name)
        return name


def body(case: Case, script: Script, names: Names, trace: str) -> list[str]:
    """The statements of a case's function; ``trace`` is the name of its tables."""
    names.begin()
    lines = [f"\thvm_begin(test, &{trace});"]
    violation = case.verdict.violation
    if violation is not None and violation.call == "setup":
        lines += ["", remark(f"1. {case.steps[0].headline}"), "\thvm_step(1);", "\thvm_decides();", *_options(case)]
    else:
        for step in case.steps:
            plays = [play for play in script.plays if play.step == step.number]
            last = step.number == (case.verdict.step or len(case.steps))
            lines += ["", remark(f"{step.number}. {step.headline}"), f"\thvm_step({step.number});"]
            known = any(play.decides for play in plays)
            for play in plays:
                if play.decides or (last and not known and play is plays[0 if violation is None else -1]):
                    lines.append("\thvm_decides();")
                lines += _play(case, script, names, play)
            if last:
                break
    if violation is not None and violation.property in EXPLICIT:
        lines += ["", *_final(case, script, names, violation)]
    return [*lines, "", "\thvm_end(test);"]


def _options(case: Case) -> Iterator[str]:
    if case.trace.config.skip:
        yield call("hvm_option", '"hv_iommu_skip="', "hvm.trace->skip")
    if case.trace.config.no_attdev:
        yield call("hvm_option", '"hv_no_attdev"', '""')


def _play(case: Case, script: Script, names: Names, play: Play) -> Iterator[str]:
    at_request = case.verdict.violation is not None and case.verdict.violation.call in ("request", "recover")
    answer = "HVM_DECIDES" if play.decides and not at_request else "HVM_OK" if play.ok else "HVM_FAILED"
    device = play.device.number if play.device is not None else 0
    match play.name:
        case "by":
            yield call("hvm_by", number(int(str(play.data))))
        case "moved":
            keys = [book.key for book in script.world.books.devices]
            yield call("hvm_moved", keys.index(int(str(play.data))), place(play.places[0]))
        case "unplugged":
            yield call("hvm_unplugged", play.data)
        case "probe":
            yield call("hvm_probe", device, answer)
        case "release":
            yield call("hvm_release", device)
        case _:
            assert play.book is not None
            yield from _about_domain(names, play, names.of(play.book), answer, device, case)


def _about_domain(names: Names, play: Play, domain: str, answer: str, device: int, case: Case) -> Iterator[str]:
    data = play.data
    if play.name == "alloc":
        blocking = isinstance(case.steps[play.step - 1].operation, ops.Claim | ops.Reset)
        yield call("hvm_alloc", domain, device, str(blocking).lower(), answer)
    elif isinstance(data, AttachCall):
        flags = [name for name, there in (("HVM_MUST", data.must), ("HVM_NO_GAP", play.no_gap)) if there]
        old = names.of(data.old) if data.old is not None else "HVM_NONE"
        yield call("hvm_attach", device, domain, old, " | ".join(flags) or 0, answer)
    elif play.name == "free":
        yield call("hvm_free", domain)
    elif play.name == "lookup":
        yield call("hvm_lookup", domain, number(int(str(data))))
    elif isinstance(data, MapCall | UnmapCall):
        yield _driver_call(domain, data, case.steps[play.step - 1].operation)
    else:
        assert isinstance(data, ops.Operation)
        yield _request(domain, data)


def _driver_call(domain: str, data: MapCall | UnmapCall, operation: ops.Operation) -> str:
    count = data.size // data.pgsize if data.pgsize else 0
    if isinstance(operation, ops.DriverMap | ops.DriverUnmap):
        count = operation.pgcount
    if isinstance(data, UnmapCall):
        return call("hvm_driver_unmap", domain, number(data.iova), number(data.pgsize), number(count))
    with_mapped = "true" if data.mapped is not None else "false"
    sizes = (number(data.pgsize), number(count))
    return call("hvm_driver_map", domain, number(data.iova), number(data.paddr), *sizes, prot(data.prot), data.gfp, with_mapped)


def _request(domain: str, operation: ops.Operation) -> str:
    if isinstance(operation, ops.Map):
        where = (number(operation.iova), number(operation.paddr), number(operation.pages))
        return call("hvm_map", domain, *where, prot(PROTS[operation.prot]), GFPS[operation.gfp])
    if isinstance(operation, ops.MapScattered):
        where = (number(operation.iova), number(operation.paddr), number(operation.runs))
        return call("hvm_map_scattered", domain, *where, number(operation.run_pages), number(operation.stride))
    assert isinstance(operation, ops.Unmap)
    return call("hvm_unmap", domain, number(operation.iova), number(operation.pages))


# --- what must hold at the end ----------------------------------------------------------------------------------------------


def _final(case: Case, script: Script, names: Names, violation: Violation) -> list[str]:
    books = script.world.books
    devices = {book.device.name: book for book in books.devices}
    last = script.plays[-1]
    if violation.property == "count-matches":
        return [_counts(script, names, violation)]
    if violation.property == "nothing-is-left":
        return ["\thvm_nothing_is_left();"]
    book = devices[violation.subject.removesuffix(" pointer")]
    number_ = book.device.number
    if violation.property == "pointer-matches":
        return [call("hvm_points_well", number_)]
    places = set(last.places)
    if violation.property == "release-parks":
        return [_places("hvm_is_parked", (number_,), places | {IN_DEFAULT, IN_NULL}, script, names)]
    if violation.call == "request":
        places = {where for other in books.devices if other.key == book.key and other.known for where in other.places}
    ok = "true" if last.ok else "false"
    return [_places("hvm_can_be_in", (number_, ok), places, script, names)]


def _places(name: str, first: tuple[object, ...], places: set[Place], script: Script, names: Names) -> str:
    of_domain = {play.book.place: names.of(play.book) for play in script.plays if play.book is not None}
    told = [f"hvm_place({of_domain[where]})" if where in of_domain else place(where) for where in sorted(places)]
    return call(name, *first, len(told), f"(const u64 []){{ {', '.join(told)} }}")


def _counts(script: Script, names: Names, violation: Violation) -> str:
    """By how much a count may be wrong is what the record says that refusals excuse (rows A6, A8 to A10, A14)."""
    books, hypervisor = script.world.books, script.world.hypervisor
    domain = next(book for book in books.of_domain.values() if book.name == violation.subject)
    here = [book for book in books.devices if book.device.group is not None and book.known]
    has = believes = fallen = 0
    for book in here:
        there = hypervisor.place(book.key) == domain.place
        has += there and (domain.kind != "direct" or script.world.driver.pointer_domain(book.device) is domain.domain)
        believes += book.device.group is not None and book.device.group.domain is domain.domain
        fallen += book.fallen
    below = above = 0
    if domain.lenient:
        below, above = max(has - believes, 0) + fallen, max(believes - has, 0) + fallen
    mask = sum(1 << book.device.number for book in here)
    return call("hvm_counts", names.of(domain), number(mask), below, above)


__all__ = ["EXPLICIT", "Names", "body"]
