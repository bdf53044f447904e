"""Abstract states: a world boiled down to what may matter, so that states seen for the first time can be counted.

Two worlds are one state if the domains that callers allocated are in the same situations (their kind, whether a group uses them,
whether pages are held, whether pages are in limbo), the devices are in the same kinds of place, and both or neither have domains
that outlived their free; how many domains or devices share a situation does not matter. Finer states than these do not come to an
end: with counts and sizes a run in ten thousand still met dozens that nobody had seen.
"""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import blake2b

from hvmodel.callers.books import LIMBO, DomainBook
from hvmodel.properties.verdicts import kind_of
from hvmodel.world import World


def abstract(world: World) -> tuple[object, ...]:
    """The abstract state of a world: O(domains + devices + runs of pages)."""
    books = world.books
    domains = {_domain(world, book) for book in books.domains.values()}
    devices = {tuple(sorted({kind_of(place) for place in book.places})) for book in books.devices}
    return (world.config.l1vh, bool(books.zombies), tuple(sorted(domains)), tuple(sorted(devices)))


def name_of(state: tuple[object, ...]) -> str:
    """A state's name in counters: ten hex digits, the same in every process."""
    return blake2b(repr(state).encode(), digest_size=5).hexdigest()


def _domain(world: World, book: DomainBook) -> tuple[str, bool, bool, bool]:
    limbo = any(run.tag & LIMBO for run in book.pages)
    return (book.kind, bool(world.books.users(book)), bool(book.pages), limbo)


def count(into: dict[str, int], names: Iterable[str]) -> None:
    """Count each name once more."""
    for name in names:
        into[name] = into.get(name, 0) + 1
