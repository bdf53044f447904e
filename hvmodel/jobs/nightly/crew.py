"""The worker processes of a night: started, given work, replaced before they grow old or fat, and missed when they die.

Each has a channel of its own and nothing is shared, so that killing one at any moment harms no other.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection, wait
from typing import Any

from hvmodel.drivers import REGISTRY, Driver
from hvmodel.jobs.nightly.journal import Record
from hvmodel.jobs.nightly.portions import Portion
from hvmodel.jobs.nightly.worker import Start, work


@dataclass(frozen=True, slots=True)
class Life:
    """When a worker is replaced, whichever comes first: after so many runs, after so many seconds, or when its memory (KiB) has
    passed a bound."""

    runs: int = 20_000
    seconds: float = 900.0
    rss: int = 384 << 10


LIFE = Life()

TOO_LONG = 600.0
"""Seconds after which a worker that is at one portion is taken to hang, and killed. The longest portions take a tenth of that."""


@dataclass(eq=False, slots=True)
class Hand:
    """One worker process, as the job sees it. ``checker`` is one that does portions a second time; ``told`` is how far it has been
    told what the night has minimised; ``since`` is when it was given its portion."""

    process: Any
    channel: Connection
    checker: bool
    born: float
    told: int
    portion: Portion | None = None
    since: float = 0.0
    runs: int = 0
    rss: int = 0
    spent: bool = False
    """It has done its last portion."""


@dataclass(slots=True)
class Event:
    """What a worker has to say: a record and whether the disk took it, or, without a record, that it is dead. ``portion`` is what
    it was at."""

    hand: Hand
    record: Record | None
    kept: bool = True
    portion: Portion | None = None


class Crew:
    """All workers of a night. ``start`` is what each new one is told."""

    def __init__(self, start: Start, jobs: int, life: Life) -> None:
        self.start, self.jobs, self.life = start, jobs, life
        self.hands: list[Hand] = []
        self._minimised: list[dict[str, int]] = []
        """What portions minimised, in order, for the workers that have not heard of it yet."""

    def idle(self) -> list[Hand]:
        """Workers that wait for a portion."""
        return [hand for hand in self.hands if hand.portion is None and not hand.spent]

    @property
    def running(self) -> list[Portion]:
        """What workers are at."""
        return [hand.portion for hand in self.hands if hand.portion is not None]

    @property
    def has_checker(self) -> bool:
        """Whether a worker is there that does portions a second time."""
        return any(hand.checker for hand in self.hands)

    @property
    def busy(self) -> bool:
        """Whether a worker is at a portion, or about to end."""
        return any(hand.portion is not None or hand.spent for hand in self.hands)

    @property
    def room(self) -> int:
        """How many more workers there may be."""
        return self.jobs - len(self.hands)

    def hire(self, checker: bool = False) -> Hand:
        """Start a worker. A checker is a new interpreter with another order of hashes, if the driver can be handed to one."""
        start = replace(self.start, found=dict(self.start.found))
        process = channel = None
        if checker:
            with _other_hashes(), contextlib.suppress(Exception):  # a class that cannot be pickled fails in many ways
                process, channel = self._begin("spawn", _for_stranger(start))
        if process is None or channel is None:
            process, channel = self._begin("fork", start)
        hand = Hand(process, channel, checker, time.monotonic(), len(self._minimised))
        self.hands.append(hand)
        return hand

    def _begin(self, method: str, start: Start) -> tuple[Any, Connection]:
        context: Any = multiprocessing.get_context(method)
        ours, theirs = context.Pipe()
        try:
            inherited = [ours, *(hand.channel for hand in self.hands)] if method == "fork" else []
            process = context.Process(target=work, args=(start, theirs, inherited), daemon=True)
            process.start()
        except BaseException:
            ours.close()
            raise
        finally:
            theirs.close()
        return process, ours

    def minimised(self, found: dict[str, int]) -> None:
        """Hits of these kinds have been minimised; workers hear of it with their next portion."""
        for kind, times in found.items():
            self.start.found[kind] = self.start.found.get(kind, 0) + times
        if found:
            self._minimised.append({kind: self.start.found[kind] for kind in found})

    def give(self, hand: Hand, portion: Portion) -> None:
        """Send a worker a portion; if it died meanwhile, :meth:`events` says so."""
        news: dict[str, int] = {}
        for found in self._minimised[hand.told :]:
            news.update(found)
        hand.told = len(self._minimised)
        hand.portion, hand.since = portion, time.monotonic()
        with contextlib.suppress(OSError):
            hand.channel.send((portion, news))

    def kill_hanging(self) -> None:
        """Kill workers that are at a portion for :data:`TOO_LONG`, be it an endless loop of the driver; they are missed like others
        that die."""
        for hand in self.hands:
            if hand.portion is not None and time.monotonic() - hand.since > TOO_LONG:
                hand.process.kill()

    def events(self, timeout: float) -> Iterator[Event]:
        """What happened since the last call, or within ``timeout`` seconds if nothing has."""
        by_channel = {hand.channel: hand for hand in self.hands}
        by_sentinel = {hand.process.sentinel: hand for hand in self.hands}
        ready: Any = wait([*by_channel, *by_sentinel], timeout)
        for hand in dict.fromkeys(by_channel.get(item) or by_sentinel[item] for item in ready):
            yield from self._from(hand)

    def _from(self, hand: Hand) -> Iterator[Event]:
        try:
            while hand.channel.poll():
                record, kept = hand.channel.recv()
                yield self._heard(hand, record, kept)
        except (EOFError, OSError):
            hand.process.join(timeout=2)
        if not hand.process.is_alive():
            with contextlib.suppress(EOFError, OSError):
                while hand.channel.poll():
                    record, kept = hand.channel.recv()
                    yield self._heard(hand, record, kept)
            self.hands.remove(hand)
            hand.channel.close()
            yield Event(hand, None, portion=hand.portion)

    def _heard(self, hand: Hand, record: Record, kept: bool) -> Event:
        portion = hand.portion
        if record["r"] in ("done", "failed") and portion is not None and record.get("portion") == portion.id:
            hand.portion = None
            hand.runs += int(record.get("runs", 0))
            hand.rss = int(record.get("now", 0))
            old = time.monotonic() - hand.born > self.life.seconds
            if old or hand.runs >= self.life.runs or hand.rss > self.life.rss or portion.step == "coverage":
                self.dismiss(hand)
        return Event(hand, record, kept, portion)

    def dismiss(self, hand: Hand) -> None:
        """Let a worker end after what it is at."""
        hand.spent = True
        with contextlib.suppress(OSError):
            hand.channel.send(None)

    def stop(self, patience: float) -> Iterator[Event]:
        """Let all workers end; those that take longer than ``patience`` seconds are killed. What they still say is handed over."""
        for hand in self.hands:
            if not hand.spent:
                self.dismiss(hand)
        until = time.monotonic() + patience
        while self.hands and time.monotonic() < until:
            yield from self.events(0.2)
        for hand in self.hands:
            hand.process.kill()
        while self.hands:
            yield from self.events(1.0)


@contextlib.contextmanager
def _other_hashes() -> Iterator[None]:
    """A process that is spawned meanwhile orders its sets in another way than this one."""
    before = os.environ.get("PYTHONHASHSEED")
    os.environ["PYTHONHASHSEED"] = "20261" if before != "20261" else "20262"
    try:
        yield
    finally:
        if before is None:
            del os.environ["PYTHONHASHSEED"]
        else:
            os.environ["PYTHONHASHSEED"] = before


def _for_stranger(start: Start) -> Start:
    """What a process that was not forked needs: the driver's class, and nothing to replay."""
    load: Any = REGISTRY[start.setup.plan.driver].load
    cls = load if isinstance(load, type) and issubclass(load, Driver) else None
    return replace(start, setup=replace(start.setup, known={}), driver_class=cls)
