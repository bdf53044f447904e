"""Excuses: findings that a person has looked at and does not want to hear of until a date. A file to edit by hand, one line each::

    # signature                                  until       reason
    no-stale-mapping/unmap_pages/3f9a2c1d        2026-12-31  waits for v2 of the series

Empty lines and lines that begin with # are skipped. After its date an excuse does not hold any more.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from hvmodel.jobs.nightly.plan import day
from hvmodel.jobs.nightly.signature import SIGNATURE

HEAD = "# Findings that are excused, one a line: signature, last day (YYYY-MM-DD), reason.\n"


class BadExcuse(ValueError):
    """A line that is no excuse; the text names it."""


@dataclass(frozen=True, slots=True, order=True)
class Excuse:
    """``until`` is the last day on which it holds."""

    signature: str
    until: str
    reason: str

    def holds(self, when: str) -> bool:
        """Whether it holds on a date (YYYY-MM-DD)."""
        return when <= self.until


def excuse(signature: str, until: str, reason: str) -> Excuse:
    """An excuse from what a person typed. Raises BadExcuse."""
    if not SIGNATURE.fullmatch(signature):
        raise BadExcuse(f"{signature!a} is no signature such as no-stale-mapping/unmap_pages/3f9a2c1d")
    try:
        until = day(until)
    except ValueError as error:
        raise BadExcuse(str(error)) from None
    reason = " ".join(reason.split())
    if not reason or not reason.isprintable():
        raise BadExcuse(f"{signature}: an excuse needs a reason, in printable words")
    return Excuse(signature, until, reason)


def read_excuses(text: str, name: str = "excuses") -> dict[str, Excuse]:
    """The excuses in a text, by signature; of two for one signature the one that holds longer. Raises BadExcuse with the line."""
    found: list[Excuse] = []
    for number, line in enumerate(text.splitlines(), 1):
        parts = line.split(None, 2)
        if not parts or parts[0].startswith("#"):
            continue
        if len(parts) < 3:
            raise BadExcuse(f"{name}, line {number}: needs a signature, a date and a reason")
        try:
            found.append(excuse(*parts))
        except BadExcuse as bad:
            raise BadExcuse(f"{name}, line {number}: {bad}") from None
    return longest(found)


def longest(excuses: Iterable[Excuse]) -> dict[str, Excuse]:
    """One excuse for each signature: the one that holds longest, of equal ones the one whose reason sorts last."""
    best: dict[str, Excuse] = {}
    for item in excuses:
        best[item.signature] = max(item, best.get(item.signature, item))
    return best


def write_excuses(excuses: Iterable[Excuse]) -> str:
    """The text of the file; reads back equal."""
    return HEAD + "".join(f"{item.signature}  {item.until}  {item.reason}\n" for item in sorted(excuses))
