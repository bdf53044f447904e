"""The three views as plain data: what caller, driver and hypervisor say of each domain's pages and of where each device is."""

from __future__ import annotations

from dataclasses import dataclass

from hvmodel.callers.books import LIMBO, PAGE_END, DomainBook
from hvmodel.ranges import merged
from hvmodel.world import World

Pages = tuple[tuple[int, int, int], ...]
"""Ascending runs ``(first page, one past the last, first frame)``; pages and frames are numbers of 4 KiB pages."""


@dataclass(frozen=True, slots=True)
class DomainView:
    """One domain as each party has it.

    ``driver`` is None if the driver keeps no tree, ``hypervisor`` is None if the hypervisor has no page table for this domain (a
    guest's own serves, or it does not exist). ``counted`` is how many devices the driver says are attached (None: it keeps no
    count, or it is not judged), ``attached`` how many the hypervisor has there. ``limbo`` are pages that the caller asked to unmap
    and was not told are gone.
    """

    name: str
    handle: int
    kind: str
    hv_id: int | None
    caller: Pages
    limbo: Pages
    driver: Pages | None
    hypervisor: Pages | None
    counted: int | None
    attached: int

    @property
    def pages(self) -> dict[str, Pages]:
        """The views of its pages by who has them, without those that nobody keeps."""
        found = {"caller": self.caller}
        if self.driver is not None:
            found["driver"] = self.driver
        if self.hypervisor is not None:
            found["hypervisor"] = self.hypervisor
        return found

    @property
    def pages_agree(self) -> bool:
        """Whether everybody has the same pages."""
        return all(view == self.caller for view in self.pages.values())

    @property
    def count_agrees(self) -> bool:
        """Whether the driver's count is what the hypervisor has."""
        return self.counted is None or self.counted == self.attached


@dataclass(frozen=True, slots=True)
class DeviceView:
    """Where one device is: for the core (a domain and its place; ``released``), by the driver's private pointer (a domain's name,
    ``NULL``, ``a freed domain``), and for the hypervisor (a place). ``agrees``: all three mean one place."""

    number: int
    name: str
    caller: str
    driver: str
    hypervisor: str
    agrees: bool


@dataclass(frozen=True, slots=True)
class Views:
    """All views at one moment. Domains are those with pages of their own (not identity and blocked, unless their count is
    wrong)."""

    domains: tuple[DomainView, ...] = ()
    devices: tuple[DeviceView, ...] = ()

    @property
    def parted(self) -> Views:
        """Only what the views do not agree on."""
        return Views(
            tuple(domain for domain in self.domains if not (domain.pages_agree and domain.count_agrees)),
            tuple(device for device in self.devices if not device.agrees),
        )


def _runs(runs: list[tuple[int, int, int]]) -> Pages:
    return tuple(merged(runs))


def _domain(world: World, book: DomainBook) -> DomainView:
    judged = book.kind in ("device", "direct")
    tree = world.judge.driver_tree(book, 0, PAGE_END) if judged else None
    table: Pages | None = None
    if book.kind == "device":
        domain = world.hypervisor.domains.get(book.hv_id or 0)
        table = _runs([(run.start, run.end, run.frame) for run in domain.table]) if domain is not None else ()
    counted = world.driver.attach_count(book.domain) if book.kind != "direct" else None
    attached = sum(
        world.hypervisor.place(other.key) == book.place
        for other in world.books.devices
        if other.device.group is not None and other.known
    )
    if world.config.l1vh and book.kind == "identity" and counted == 0:
        counted = None
    return DomainView(
        book.name,
        book.handle,
        book.kind,
        book.hv_id,
        _runs([(run.start, run.end, run.frame) for run in book.pages if not run.tag & LIMBO]),
        _runs([(run.start, run.end, run.frame) for run in book.pages if run.tag & LIMBO]),
        None if tree is None else _runs(tree),
        table,
        counted,
        attached,
    )


def _devices(world: World) -> list[DeviceView]:
    found = []
    for number, book in enumerate(world.books.devices):
        device = book.device
        believed = world.books.current(device.group) if device.group is not None else None
        pointer = world.driver.pointer_domain(device)
        named = world.books.of_domain.get(pointer) if pointer is not None else None
        place = world.hypervisor.place(book.key)
        agrees = (believed is None or believed.place == place) and (pointer is None or (named is not None and named.place == place))
        thinks = "NULL" if pointer is None else "a freed domain" if named is None else named.name
        caller = f"{believed.name} ({believed.place})" if believed is not None else "released"
        found.append(DeviceView(number, device.name, caller, thinks, str(place), agrees))
    return found


def views_of(world: World) -> Views:
    """What the three parties say now; empty before a driver has registered."""
    if world.core.ops is None:
        return Views()
    domains = [_domain(world, book) for book in world.books.of_domain.values()]
    shown = [domain for domain in domains if domain.kind in ("device", "direct") or not domain.count_agrees]
    return Views(tuple(shown), tuple(_devices(world)))


__all__ = ["DeviceView", "DomainView", "Pages", "Views", "views_of"]
