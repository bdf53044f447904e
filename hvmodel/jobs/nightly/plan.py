"""What a night is to do, as data: its date, shard and seed, the shares of its time, its canaries and its rota of variants."""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import date

from hvmodel.jobs.nightly.journal import Record
from hvmodel.jobs.trials import seed_of


@dataclass(frozen=True, slots=True)
class Shard:
    """One of several jobs that do a night between them; ``index`` counts from 1."""

    index: int = 1
    of: int = 1

    def __str__(self) -> str:
        return f"{self.index}/{self.of}"


ALONE = Shard()
"""A night that one job does alone."""


def shard(text: str) -> Shard:
    """The shard that ``I/N`` names. Raises ValueError with a line that says what is wrong."""
    match = re.fullmatch(r"([0-9]{1,4})/([0-9]{1,4})", text)
    if match is None:
        raise ValueError(f"{text!r} is no shard such as 1/4")
    index, of = int(match[1]), int(match[2])
    if not 1 <= index <= of:
        raise ValueError(f"shard {text}: must be from 1/N to N/N")
    return Shard(index, of)


_UNITS = {"s": 1, "m": 60, "h": 3600, "": 1}


def budget(text: str) -> float:
    """Seconds in ``300``, ``300s``, ``5m``, ``8h`` or ``1.5h``. Raises ValueError with a line that says what is wrong."""
    match = re.fullmatch(r"([0-9]{1,9}(?:\.[0-9]{1,6})?)([smh]?)", text)
    if match is None:
        raise ValueError(f"{text!r} is no time such as 300s, 5m or 8h")
    seconds = float(match[1]) * _UNITS[match[2]]
    if not 1 <= seconds <= 7 * 86400:
        raise ValueError(f"{text}: a night takes 1 second to 7 days")
    return seconds


def day(text: str) -> str:
    """A date as ``YYYY-MM-DD``. Raises ValueError with a line that says what is wrong."""
    try:
        if re.fullmatch(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", text):
            return date.fromisoformat(text).isoformat()
    except ValueError:
        pass
    raise ValueError(f"{text!r} is no date such as 2026-11-30")


def night_seed(when: str, part: Shard, number: int) -> int:
    """The seed of a night: 48 bits from date, shard and ``--seed``, the same on every machine."""
    return int.from_bytes(hashlib.sha256(f"{number}/{when}/{part}".encode()).digest()[:6])


def runs_in_portion(seconds: float) -> int:
    """How many runs make a portion of work in a night of so many seconds: a second's worth in five minutes, ten in eight hours, so
    that a killed worker loses little and a long night's journal stays small."""
    return max(5, min(400, round(2.4 * math.sqrt(seconds))))


@dataclass(frozen=True, slots=True)
class Plan:
    """One night of one shard: all that decides which operations are done, in which order portions of work are numbered.

    ``number`` is what ``--seed`` gave, ``seed`` what came of it; ``portion`` the runs in a portion of work."""

    driver: str
    date: str
    shard: Shard
    number: int
    seed: int
    portion: int

    @property
    def name(self) -> str:
        """The night's name in the ledger and on disk: ``2026-11-24.1of4``."""
        return night_name(self.date, str(self.shard))

    def as_record(self) -> Record:
        """The line that each journal of the night begins with."""
        return {"r": "plan", **asdict(self), "shard": str(self.shard)}


def plan_of(record: Record) -> Plan:
    """The other way round. Raises KeyError, TypeError or ValueError for a record that is none."""
    number, seed, portion = (int(record[name]) for name in ("number", "seed", "portion"))
    if portion < 1:
        raise ValueError("no portion")
    return Plan(str(record["driver"]), day(record["date"]), shard(record["shard"]), number, seed, portion)


def night_name(when: str, part: str) -> str:
    """The name of a night of one shard: ``2026-11-24.1of4``."""
    return f"{when}.{part.replace('/', 'of')}"


def make_plan(driver: str, when: str, part: Shard, number: int, seconds: float, portion: int = 0) -> Plan:
    """The plan of a night; ``seconds`` is its budget, ``portion`` the runs in a portion (0: as the budget suggests)."""
    return Plan(driver, when, part, number, night_seed(when, part, number), portion or runs_in_portion(seconds))


@dataclass(frozen=True, slots=True)
class Canary:
    """A variant that a night must find within so many operations of the walk, or it proves nothing."""

    driver: str
    operations: int
    why: str


CANARIES: tuple[Canary, ...] = (
    Canary("repaired+D84", 5_000, "easy: nearly every run shows it"),
    Canary("repaired+D05", 60_000, "harder: it takes some two thousand operations"),
)
"""Limits are at least thirty times the median of ``make detect``: a night that is in order misses them hardly ever."""

ROTA_VARIANTS = 5
"""Variants that come up in one night of one shard."""

ROTA_TRIALS = 2
"""Trials of each."""

ROTA_OPERATIONS = 50_000
"""Operations after which a trial of the rota gives up."""

ROTA_SHARE = 0.10
"""The share of the budget that the rota may take."""

CHECK_ONE_IN = 25
"""One of so many portions of a gear that repeats is done twice; the first one always is."""

CHECKER_BATCH = 4
"""So many wait before a process for them is started, which takes a second."""


def rota(plan: Plan, variants: Sequence[str]) -> list[str]:
    """The variants whose turn it is. Consecutive nights go on where the last one stopped, and so do shards within a night."""
    if not variants:
        return []
    count = min(ROTA_VARIANTS, len(variants))
    turn = date.fromisoformat(plan.date).toordinal() * plan.shard.of + plan.shard.index - 1
    return [variants[(turn * count + place) % len(variants)] for place in range(count)]


def trial_seed(plan: Plan, step: str, driver: str, number: int) -> int:
    """The seed of a trial of a canary or of the rota, another one each night."""
    return seed_of(plan.seed, driver, step, number)


def is_checked(number: int) -> bool:
    """Whether the portion with this number, of a gear that repeats, is done twice."""
    return number % CHECK_ONE_IN == 0
