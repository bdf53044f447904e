"""Portions of work: what a worker does in one go, and what it hands back. A portion counts when it is done, and once."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, fields
from typing import Any, NamedTuple

from hvmodel.jobs.hunt import Tally
from hvmodel.jobs.nightly.journal import Record


class Portion(NamedTuple):
    """A piece of a night: ``step`` is a gear's name or one of ``corpus``, ``known``, ``canary``, ``rota``, ``coverage``, or
    ``again`` for the walk's portion of that number done a second time."""

    step: str
    number: int

    @property
    def id(self) -> str:
        """``walk/12``."""
        return f"{self.step}/{self.number}"


@dataclass(slots=True)
class Done:
    """What came of a portion.

    ``kinds`` says in how many runs each kind of hit was met, ``states`` in how many of the ``sampled`` runs each abstract state;
    ``digest`` is a hash over all operations and outcomes (where the portion is done twice); ``data`` is what the step has to say
    besides, and ``rss`` the worker's peak memory in KiB so far.
    """

    portion: str
    operations: int = 0
    runs: int = 0
    seconds: float = 0.0
    tally: Tally = field(default_factory=Tally)
    kinds: dict[str, int] = field(default_factory=dict)
    states: dict[str, int] = field(default_factory=dict)
    sampled: int = 0
    skipped: int = 0
    digest: str = ""
    data: dict[str, Any] = field(default_factory=dict)
    rss: int = 0

    @property
    def step(self) -> str:
        """The step of the portion."""
        return self.portion.partition("/")[0]

    @property
    def number(self) -> int:
        """The number of the portion within its step."""
        return int(self.portion.partition("/")[2])

    def as_record(self) -> Record:
        """The line for a journal."""
        return {"r": "done", **{item.name: getattr(self, item.name) for item in fields(self)}, "tally": asdict(self.tally)}


def done_of(record: Record) -> Done:
    """The other way round. Raises KeyError, TypeError or ValueError for a record that no worker wrote."""
    known = {item.name for item in fields(Done)}
    values = {name: value for name, value in record.items() if name in known}
    done = Done(**{**values, "tally": Tally(**record["tally"])})
    if not isinstance(done.portion, str) or not done.portion.partition("/")[2].isdecimal():
        raise ValueError("no portion")
    return done
