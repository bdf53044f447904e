"""The sweep: a trace once clean, then once for each place where it could have been refused and for each answer of that place.

It is what ``tools/testing/selftests/iommu/iommufd_fail_nth.c`` does in the kernel, with all properties on, with the answers of a
hypervisor beside allocations that fail, and with recovery at the end of every run.

A refusal leads to places that the clean run never came by: the undo of a map, the way back of a device, the deposit for a shortage.
They are swept as well, with the first refusal in force. With ``pairs`` every two refusals are tried together.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from random import Random

from hvmodel.gears.sweep.answers import answers, brief
from hvmodel.gears.sweep.play import AGAIN, Combination, Played, Refusal, Subject, play, without_repeats
from hvmodel.gears.sweep.record import Arrival
from hvmodel.gears.walk import Heard

MOST = 12
"""Of so many arrivals of one operation at one site each is swept; of more the first ones, one in the middle and the last ones."""

MOST_BEYOND = 3
"""The same for arrivals that only a refusal leads to, which mostly are repetitions."""


@dataclass(slots=True)
class Count:
    """What a sweep did. ``sites`` are the places reached by the clean run, each arrival of each operation; ``left_out`` is how many
    of those were passed over (:data:`MOST`); ``beyond`` are the places that only a refusal led to; ``pairs`` are runs with two
    refusals in different places of the clean run, ``again`` runs in which the caller asked again."""

    operations: int = 0
    sites: int = 0
    left_out: int = 0
    beyond: int = 0
    runs: int = 0
    fired: int = 0
    unfired: int = 0
    pairs: int = 0
    again: int = 0
    failing: int = 0
    """Runs in which a property failed."""

    def add(self, other: Count) -> None:
        """Add what another sweep did."""
        for name in self.__dataclass_fields__:
            setattr(self, name, getattr(self, name) + getattr(other, name))


@dataclass(slots=True)
class Sweep:
    """The sweep of one subject on one driver. ``heard`` is told of violations; a ``random`` orders what is tried, which changes
    nothing else."""

    subject: Subject
    driver: str
    heard: Heard
    pairs: bool = False
    random: Random | None = None
    count: Count = field(default_factory=Count)
    unfired: list[str] = field(default_factory=list)
    """What was to be refused and was not, in words."""
    at: Callable[[Combination], None] = lambda combination: None
    """Told of each run before it begins."""

    _clean: Played | None = None
    _ahead: list[Combination] = field(default_factory=list)
    """Combinations with places that only a refusal led to."""

    def runs(self) -> Iterator[Played]:
        """Do it, run by run."""
        yield from self.first_round()
        yield from self.second_round()

    def first_round(self) -> Iterator[Played]:
        """The clean run, then each place and each answer alone."""
        clean = self._clean = self._play(Combination())
        self.count.operations = sum(result is not None for result in clean.results)
        yield clean
        singles = list(self._singles(clean))
        if self.random is not None:
            self.random.shuffle(singles)
        known: set[object] = set()
        for single in singles:
            played = self._play(single, clean)
            yield played
            if not played.unfired:
                self._ahead += self._beyond(played, clean, known)
                yield from self._once_more(played, clean)

    def second_round(self) -> Iterator[Played]:
        """The places that only a refusal led to, then, if they are wanted, the pairs. The first round is done."""
        clean = self._clean
        assert clean is not None
        for beyond in self._ahead:
            played = self._play(beyond, clean)
            yield played
            yield from self._once_more(played, clean)
        if self.pairs:
            yield from self._in_pairs(clean)

    def samples(self) -> Iterator[Played]:
        """Without end, for who has only so much time: the clean run, then one refusal at random, one with another behind it, and so
        on. Needs ``random``."""
        random = self.random
        assert random is not None
        clean = self._play(Combination())
        yield clean
        singles = list(self._singles(clean))
        while singles:
            single = random.choice(singles)
            played = self._play(single, clean)
            yield played
            if played.unfired:
                continue
            behind = [*self._beyond(played, clean, set())]
            if not behind or not random.randrange(4):
                behind = [Combination((*single.refusals, second)) for second in self._seconds(single.refusals[0], played)]
            if behind:
                played = self._play(random.choice(behind), clean)
                yield played
            yield from self._once_more(played, clean)

    def _play(self, combination: Combination, clean: Played | None = None) -> Played:
        self.at(combination)
        played = play(self.subject, combination, self.driver, self.heard, clean)
        count = self.count
        count.runs += 1
        count.failing += played.found
        count.fired += len(combination.refusals) - len(played.unfired)
        count.unfired += len(played.unfired)
        self.unfired += [f"{refusal}" for refusal in played.unfired]
        return played

    def _singles(self, clean: Played) -> Iterator[Combination]:
        for index, arrivals in enumerate(clean.arrivals):
            if index < self.subject.shared:
                continue
            chosen = _chosen(arrivals, MOST)
            self.count.sites += len(chosen)
            self.count.left_out += sum(arrival.refusable for arrival in arrivals) - len(chosen)
            for arrival in chosen:
                for fault in answers(arrival):
                    yield Combination((Refusal(index, fault),))

    def _once_more(self, played: Played, clean: Played) -> Iterator[Played]:
        """The same with a caller that asks again, if something failed that can be asked for again."""
        last = played.combination.refusals[-1]
        result = played.results[last.index]
        failed = result is not None and result < 0 and all(refusal.fault.times for refusal in played.combination.refusals)
        if failed and self.subject.operations[last.index].kind in AGAIN:
            self.count.again += 1
            yield self._play(Combination(played.combination.refusals, again=True), clean)

    def _beyond(self, played: Played, clean: Played, known: set[object]) -> Iterator[Combination]:
        """A second refusal at each place of the operation that only the first one led to; not if another refusal of an operation of
        this kind at this site led to such places before. (``pairs`` has no such exception.)"""
        (first,) = played.combination.refusals
        index, fault = first.index, first.fault
        here, before = played.arrivals[index], clean.arrivals[index]
        at = _position(here, fault.site, fault.nth)
        new = _new(here[at + 1 :], before[at + 1 :])
        which = 0 if at < len(before) and before[at].elements else fault.nth
        kind = self.subject.operations[index].kind
        key = (kind, fault.site, which, fault.times, frozenset(arrival.site for arrival in new))
        if not new or key in known:
            return
        known.add(key)
        for arrival in _chosen(new, MOST_BEYOND):
            if arrival.site == fault.site and fault.times is None:
                continue  # refused already
            self.count.beyond += 1
            for second in brief(arrival):
                yield Combination((first, Refusal(index, second)))

    def _in_pairs(self, clean: Played) -> Iterator[Played]:
        """Each two refusals at places of which the second one is reached after the first."""
        for index, arrivals in enumerate(clean.arrivals):
            for arrival in _chosen(arrivals, MOST):
                for fault in brief(arrival):
                    first = Refusal(index, fault)
                    played = play(self.subject, Combination((first,)), self.driver, lambda run, outcome: False, clean)
                    for second in self._seconds(first, played):
                        self.count.pairs += 1
                        yield self._play(Combination((first, second)), clean)

    def _seconds(self, first: Refusal, played: Played) -> Iterator[Refusal]:
        fault = first.fault
        for index in range(first.index, len(played.arrivals)):
            arrivals = played.arrivals[index]
            if index == first.index:
                arrivals = arrivals[_position(arrivals, fault.site, fault.nth) + 1 :]
            for arrival in _chosen(arrivals, MOST):
                if arrival.site == fault.site and fault.times is None:
                    continue
                for second in brief(arrival):
                    yield Refusal(index, second)


def _position(arrivals: Sequence[Arrival], site: str, nth: int) -> int:
    return next((at for at, arrival in enumerate(arrivals) if (arrival.site, arrival.nth) == (site, nth)), len(arrivals))


def _new(after: Sequence[Arrival], before: Sequence[Arrival]) -> Sequence[Arrival]:
    """What comes after a refusal, without the end that came without it as well."""
    same = 0
    while same < min(len(after), len(before)) and after[-1 - same].place == before[-1 - same].place:
        same += 1
    return after[: len(after) - same]


def _chosen(arrivals: Sequence[Arrival], most: int) -> list[Arrival]:
    """The arrivals at sites that can be refused; of many at one site the first ones, the middle one and the last ones."""
    at_site: dict[str, list[Arrival]] = {}
    for arrival in arrivals:
        if arrival.refusable:
            at_site.setdefault(arrival.site, []).append(arrival)
    chosen: set[Arrival] = set()
    for alike in at_site.values():
        few = len(alike) <= most
        chosen.update(alike if few else (*alike[: most // 2], alike[len(alike) // 2], *alike[len(alike) - most // 2 + 1 :]))
    return [arrival for arrival in arrivals if arrival in chosen]


__all__ = ["MOST", "MOST_BEYOND", "Combination", "Count", "Played", "Refusal", "Subject", "Sweep", "play", "without_repeats"]
