"""Every operation that the rules allow in a state, within a scope: an enumerator answers the rules' questions.

A rule asks a chooser. This one gives each answer in turn, so that a rule is asked until it has no more to say. Most of what a rule
says depends on little of the state; what was said is kept under that little.
"""

from __future__ import annotations

import marshal
from collections.abc import Sequence
from typing import Any, TypeVar

from hvmodel.callers.books import PAGE_END, DomainBook
from hvmodel.callers.levels import BEYOND, level_of
from hvmodel.gears.exhaustive.canonical import region
from hvmodel.gears.exhaustive.scope import Scope
from hvmodel.gears.exhaustive.user_state import user_state
from hvmodel.operations import Map, Operation, Unmap
from hvmodel.ranges import Run
from hvmodel.rules.chooser import Chooser
from hvmodel.rules.rules import Rule, Scene
from hvmodel.rules.values import Pools
from hvmodel.world import World

T = TypeVar("T")

MOST = 100_000
"""Answers that one rule may be given in one state; a scope that needs more is too wide."""


class TooWide(Exception):
    """A scope lets a rule choose between more than anyone can try."""


class Enumerator:
    """Answers with given digits, then with zeros; notes how many answers there would have been."""

    __slots__ = ("_at", "digits", "limits", "rare")

    def __init__(self, rare: bool = True) -> None:
        self.rare = rare
        """Whether what is asked for as one case in many is tried."""
        self.digits: list[int] = []
        self.limits: list[int] = []
        self._at = 0

    def again(self) -> None:
        """The next question is the first one again."""
        self._at = 0

    def advance(self) -> bool:
        """Go on to the next answers; False if all were given. What was not asked for this time is forgotten."""
        del self.digits[self._at :], self.limits[self._at :]
        while self.digits:
            self.digits[-1] += 1
            if self.digits[-1] < self.limits[-1]:
                return True
            self.digits.pop()
            self.limits.pop()
        return False

    def below(self, limit: int) -> int:
        at = self._at
        self._at = at + 1
        if at < len(self.digits):
            return self.digits[at]
        self.digits.append(0)
        self.limits.append(limit)
        return 0

    def pick(self, options: Sequence[T]) -> T:
        distinct = list(dict.fromkeys(options))
        return distinct[self.below(len(distinct))]

    def chance(self, percent: int) -> bool:
        return percent > 0 and (percent >= 100 or self.below(2) == 1)

    def one_in(self, cases: int) -> bool:
        return cases == 1 or (self.rare and self.below(2) == 1)


class ScopedPools(Pools):
    """The values of a scope."""

    def __init__(self, scope: Scope) -> None:
        self.scope = scope
        self._regions = tuple(region(number, shift) for number, shift in scope.regions)

    def page_count(self, choose: Chooser, scale: int) -> int:
        return choose.pick(self.scope.pages)

    def existing_run(self, choose: Chooser, book: DomainBook) -> Run | None:
        runs = list(book.pages)
        return choose.pick(runs) if runs else None

    def fresh_iova(self, choose: Chooser, book: DomainBook, pages: int) -> int:
        return choose.pick(self.scope.iovas)

    def free_iova(self, choose: Chooser, book: DomainBook, pages: int) -> int | None:
        free = [
            iova
            for iova in self.scope.iovas
            if (iova >> 12) + pages <= PAGE_END and not book.pages.meets(iova >> 12, (iova >> 12) + pages)
        ]
        return choose.pick(free) if free else None

    def physical(self, choose: Chooser, iova: int) -> int:
        return choose.pick(self._regions) + (iova & 0xFFFF_FFFF)

    def near(self, choose: Chooser, run: Run) -> int:
        middle = (run.start + run.end) // 2
        return choose.pick((run.start, run.end - 1, max(run.start - 1, 0), min(run.end, PAGE_END - 1), middle))

    def anywhere(self, choose: Chooser, limit: int) -> int:
        return choose.pick(self.scope.iovas) >> 12 if self.scope.iovas else 0

    def prot(self, choose: Chooser) -> str:
        return choose.pick(self.scope.prots)

    def gfp(self, choose: Chooser) -> str:
        return choose.pick(self.scope.gfps)

    def scatter(self, choose: Chooser, scale: int) -> tuple[int, int]:
        return choose.pick(self.scope.scattered)

    def gap(self, choose: Chooser, run_pages: int) -> int:
        return 256 if run_pages % 256 == 0 else 1

    def pieces(self, choose: Chooser, pages: int) -> tuple[int, int]:
        parts = [(piece, self.gap(choose, piece)) for count, piece in self.scope.scattered if 0 < piece < pages <= count * piece]
        return choose.pick([(0, 0), *parts])

    def round_iova(self, choose: Chooser) -> int:
        return choose.pick(self.scope.iovas)

    def offset(self, choose: Chooser) -> int:
        return choose.pick((0, 0xFFF))


def every(rule: Rule, scene: Scene, rare: bool = True) -> list[Operation]:
    """Each operation that a rule can propose here, once. Raises :class:`TooWide`."""
    found: dict[Operation, None] = {}
    choose = Enumerator(rare)
    for _ in range(MOST):
        choose.again()
        operation = rule.make(scene, choose)
        if operation is not None:
            found[operation] = None
        if not choose.advance():
            return list(found)
    raise TooWide(f"the rule {rule.name} has more than {MOST:,} answers in one state: the scope is too wide")


class Menu:
    """What may come next in a world within a scope."""

    def __init__(self, world: World, scope: Scope) -> None:
        self.world = world
        self.scope = scope
        self.scene = Scene(world, level=scope.level, vms=scope.vms, faults=0, room=scope.room, values=ScopedPools(scope))
        rules = scope.rules()
        self._who = [rule for rule in rules if rule.subject not in ("mapping", "user")]
        self._where = [rule for rule in rules if rule.subject == "mapping"]
        self._user = [rule for rule in rules if rule.subject == "user"]
        self._windows = scope.windows()
        self._known: dict[Any, list[Operation]] = {}
        self._one: dict[Operation, Operation] = {}
        self.made: dict[Operation, tuple[str, ...]] = {}
        """The rules that have proposed each operation."""

    def _who_sees(self) -> Any:
        """All that the rules of attachment, probing and lifetime look at."""
        world = self.world
        books = world.books
        of = books.of_domain
        groups = []
        for group in books.groups.values():
            roles = [
                None if domain is None or domain not in of else of[domain].handle
                for domain in (group.domain, group.default_domain, group.blocking_domain)
            ]
            groups.append((group.number, group.owner, *roles, tuple([one.number for one in group.devices])))
        return (
            tuple(groups),
            tuple([(handle, book.by) for handle, book in books.domains.items()]),
            tuple(world.vms),
            tuple(world.ended_vms),
            tuple([book.device.present for book in books.devices]),
            world.next_handle,
            books.failed_allocs > 2,
        )

    def _where_sees(self) -> Any:
        """All that the rules of mapping look at while there is a domain."""
        return tuple([(book.handle, tuple(book.pages), tuple(book.requests.items())) for book in self.world.books.domains.values()])

    def offers(self) -> list[Operation]:
        """Every operation of the rules in the state that the world is in, in a fixed order."""
        scope, books = self.scope, self.world.books
        who = self._who_sees()
        found = self._asked(self._who, who)
        if self._where:
            where = self._where_sees()
            more = self._asked(self._where, where if where else who)
            found = list(dict.fromkeys([*found, *more]))
        if self._user:
            handles = {id(book): number for number, book in enumerate(books.of_domain.values())}
            pages = [[(run.start, run.end) for run in book.pages] for book in books.of_domain.values()]
            seen = (who, pages, user_state(self.world, handles))
            found = list(dict.fromkeys([*found, *self._asked(self._user, marshal.dumps(seen, 2))]))
        if scope.domains <= len(books.freed) + len(books.domains):
            found = [operation for operation in found if operation.kind != "alloc"]
        if scope.pages:
            found = [operation for operation in found if self._within(operation)]
        if scope.level < BEYOND:
            found = [operation for operation in found if level_of(operation, books) <= scope.level]
        return found

    def _within(self, operation: Operation) -> bool:
        """Whether a range of pages lies in the window of the scope: what its mappings can reach."""
        if not isinstance(operation, Map | Unmap):
            return True
        start = operation.iova >> 12
        return any(low <= start and start + operation.pages <= high for low, high in self._windows)

    def _asked(self, rules: list[Rule], sees: Any) -> list[Operation]:
        key = (rules[0].subject if rules else "", sees)
        found = self._known.get(key)
        if found is None:
            one = self._one
            seen: dict[Operation, None] = {}
            for rule in rules:
                for operation in every(rule, self.scene, self.scope.rare):
                    operation = one.setdefault(operation, operation)
                    seen[operation] = None
                    made = self.made.get(operation, ())
                    if rule.name not in made:
                        self.made[operation] = (*made, rule.name)
            found = self._known[key] = list(seen)
        return found


__all__ = ["Enumerator", "Menu", "ScopedPools", "TooWide", "every"]
