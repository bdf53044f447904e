"""The ledger as a file: canonical JSON, a line for each finding and each night, checked field by field when it is read."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, fields
from typing import Any

from hvmodel.jobs.nightly.ledger import CUT_SHORT, INTERRUPTED, VOID, WHOLE, Entry, Ledger, NightRecord
from hvmodel.jobs.nightly.plan import day, shard
from hvmodel.jobs.nightly.signature import SIGNATURE
from hvmodel.traces.checks import TraceError, array, boolean, choice, fail, integer, obj, text

VERSION = 1

MOST = 1_000_000
"""Entries in a list at most."""


class BadLedger(ValueError):
    """A ledger that cannot be used; the text says what is wrong and where, in one line."""


def ledger_text(ledger: Ledger) -> str:
    """The ledger as canonical JSON: equal ledgers give equal bytes."""
    parts = [f'"hvmodel-ledger": {VERSION}', f'"driver": {json.dumps(ledger.driver)}']
    entries = {name: {item.name: getattr(entry, item.name) for item in fields(Entry)} for name, entry in ledger.entries.items()}
    nights = {name: asdict(night) for name, night in ledger.nights.items()}
    tables: dict[str, dict[str, Any]] = {"findings": entries, "nights": nights, "kinds": ledger.kinds}
    for title, table in tables.items():
        lines = [f"  {json.dumps(key)}: {json.dumps(table[key], sort_keys=True)}" for key in sorted(table)]
        parts.append(f'"{title}": {{\n' + ",\n".join(lines) + "\n}" if lines else f'"{title}": {{}}')
    return "{\n" + ",\n".join(parts) + "\n}\n"


def read_ledger(source: str, name: str = "ledger.json") -> Ledger:
    """The ledger in a text. Raises BadLedger."""
    try:
        data = json.loads(source)
    except (ValueError, RecursionError) as error:
        raise BadLedger(f"{name}: not JSON ({str(error).splitlines()[0][:80]})") from None
    if not isinstance(data, dict) or data.get("hvmodel-ledger") != VERSION:
        raise BadLedger(f"{name}: no ledger of version {VERSION}")
    try:
        obj(data, "", {"hvmodel-ledger", "driver", "findings", "nights", "kinds"})
        driver = text(data.get("driver"), "driver")
        entries = {key: entry_of(value, f"findings.{key}") for key, value in _table(data.get("findings", {}), "findings").items()}
        nights = {key: _night(value, f"nights.{key}") for key, value in _table(data.get("nights", {}), "nights").items()}
        kinds = _table(data.get("kinds", {}), "kinds", _signature)
        for key, entry in entries.items():
            choice(entry.signature, f"findings.{key}.signature", (key,))
        for key, night in nights.items():
            choice(night.name, f"nights.{key}: date and shard", (key,))
    except TraceError as error:
        raise BadLedger(f"{name}: {error}") from None
    return Ledger(driver, entries, kinds, nights)


# --- findings -----------------------------------------------------------------------------------------------------------------

Check = Callable[[Any, str], Any]
"""Answers a value or raises TraceError with the place."""

FINDING = ("signature", "property_id", "call", "shape", "level", "summary", "trace")
"""The fields of an entry that say what was found; the others say when."""


def entry_of(value: Any, where: str = "finding") -> Entry:
    """A finding from JSON data. Raises :class:`TraceError`."""
    return Entry(**_fields(value, where, _ENTRY, FINDING))


def _night(value: Any, where: str) -> NightRecord:
    return NightRecord(**_fields(value, where, _NIGHT, ("date", "shard")))


def _fields(value: Any, where: str, checks: dict[str, Check], needed: tuple[str, ...]) -> dict[str, Any]:
    data = obj(value, where, set(checks))
    for name in needed:
        if name not in data:
            raise fail(where, f"{name} is missing")
    return {name: checks[name](given, f"{where}.{name}") for name, given in data.items()}


def _table(value: Any, where: str, check: Check = lambda value, where: value) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise fail(where, "must be an object")
    return {key: check(given, f"{where}.{key}") for key, given in value.items()}


def _said(value: Any, where: str) -> str:
    return text(value, where, 100_000)


def _signature(value: Any, where: str) -> str:
    if not SIGNATURE.fullmatch(text(value, where)):
        raise fail(where, "must be a signature such as no-stale-mapping/unmap_pages/3f9a2c1d")
    return str(value)


def _plain(value: Any, where: str, depth: int = 8) -> Any:
    """What a violation's shape is made of."""
    if isinstance(value, list) and depth:
        return [_plain(item, where, depth - 1) for item in value]
    if not isinstance(value, str | int | float | None):
        raise fail(where, "must be words, numbers and lists of them")
    return value


def _day(value: Any, where: str) -> str:
    try:
        return day(text(value, where))
    except ValueError as error:
        raise fail(where, str(error)) from None


def _shard(value: Any, where: str) -> str:
    try:
        if str(shard(text(value, where))) == value:
            return str(value)
    except ValueError:
        pass
    raise fail(where, "must be a shard such as 1/4")


def _count(value: Any, where: str) -> int:
    return integer(value, where, 0, 1 << 63)


def _number(value: Any, where: str) -> float:
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 <= value < 1e18:
        raise fail(where, "must be a number, 0 or more")
    return value


def _listed(check: Check) -> Check:
    return lambda value, where: [check(item, f"{where}[{place}]") for place, item in enumerate(array(value, where, MOST))]


def _tuple_of(check: Check) -> Check:
    return lambda value, where: tuple(_listed(check)(value, where))


def _gear(value: Any, where: str) -> list[float]:
    if len(array(value, where, 4)) != 4:
        raise fail(where, "must be four numbers: portions, runs, operations, seconds")
    return [_number(item, where) for item in value]


def _object(**checks: Check) -> Check:
    """An object in which fields of these names are checked; others may be there and are kept as they are."""
    return lambda value, where: {
        name: checks[name](given, f"{where}.{name}") if name in checks else given for name, given in _table(value, where).items()
    }


_TRIAL = _object(driver=_said, found=boolean, operations=_number, limit=_number)

_ENTRY: dict[str, Check] = {
    "signature": _signature,
    "property_id": text,
    "call": text,
    "shape": _tuple_of(_plain),
    "level": text,
    "summary": _said,
    "trace": _table,
    "seen": _tuple_of(_day),
    "fixed": _tuple_of(_day),
}

_NIGHT: dict[str, Check] = {
    **dict.fromkeys(("seed", "number", "sessions", "jobs", "portions", "operations", "runs", "sampled"), _count),
    **dict.fromkeys(("killed", "skipped", "checks"), _count),
    **dict.fromkeys(("failures", "different"), _listed(_said)),
    **dict.fromkeys(("new", "known", "excused", "fixed", "untested"), _listed(_signature)),
    **dict.fromkeys(("canaries", "rota"), _listed(_TRIAL)),
    "date": _day,
    "shard": _shard,
    "harness": text,
    "ended": lambda value, where: choice(value, where, (WHOLE, VOID, INTERRUPTED, CUT_SHORT)),
    "budget": _number,
    "seconds": _number,
    "gears": lambda value, where: _table(value, where, _gear),
    "tally": _table,
    "kinds": lambda value, where: _table(value, where, _count),
    "peaks": _listed(_count),
    "corpus": _object(traces=_count, problems=_listed(_said), said=_said),
    "coverage": _object(branches=_count, taken=_count, runs=_count, never=_listed(_said), said=_said, unit=_said),
}
