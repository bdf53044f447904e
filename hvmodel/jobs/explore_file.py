"""A search that was broken off, in a file: what is needed to go on, and nothing else.

The file is a zip archive: ``search.json`` says what was searched and what was found, and for each search there are its names,
parents, codes and spent faults as little-endian arrays.
"""

from __future__ import annotations

import json
import sys
import zipfile
from array import array
from dataclasses import fields
from pathlib import Path
from typing import Any

from hvmodel.gears.exhaustive.canonical import DIGEST
from hvmodel.gears.exhaustive.scope import Scope
from hvmodel.gears.exhaustive.search import Found, Level, Search
from hvmodel.properties.verdicts import Violation
from hvmodel.traces.format import operation_in, operation_out

VERSION = 1

MOST = 1 << 32
"""Bytes of one part of a file, at most."""


class BadFile(ValueError):
    """A file that is no kept search, or not this one; the text is one line."""


def _of(search: Search) -> dict[str, Any]:
    """What must be the same for a search to be gone on with."""
    return {
        "driver": search.driver,
        "part": search.scope.name,
        "scope": _said(search.scope),
        "profile": search.profile,
        "symmetry": search.symmetry,
    }


def _said(scope: Scope) -> str:
    """A scope as a text that is the same in every process: sets in order."""
    held = {item.name: getattr(scope, item.name) for item in fields(scope)}
    return repr({name: sorted(value) if isinstance(value, frozenset) else value for name, value in held.items()})


def save(path: Path, searches: list[Search]) -> None:
    """Write the searches; an interrupted write leaves the old file. Raises OSError."""
    part = path.with_name(path.name + ".part")
    with zipfile.ZipFile(part, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        rows = []
        for number, search in enumerate(searches):
            rows.append(
                _of(search)
                | {
                    "operations": [operation_out(operation) for operation in search.operations],
                    "levels": [[level.depth, level.states, level.transitions] for level in search.levels],
                    "done": search.done,
                    "transitions": search.transitions,
                    "tried": search.tried,
                    "seconds": search.seconds,
                    "cpu": search.cpu,
                    "found": [
                        {"operations": [operation_out(operation) for operation in found.operations], **_violation(found.violation)}
                        for found in search.found.values()
                    ],
                }
            )
            archive.writestr(f"{number}.names", bytes(search.names))
            for name in ("parents", "codes", "spent"):
                numbers = array(getattr(search, name).typecode, getattr(search, name))
                if sys.byteorder == "big":
                    numbers.byteswap()
                archive.writestr(f"{number}.{name}", numbers.tobytes())
        archive.writestr("search.json", json.dumps({"hvmodel-search": VERSION, "searches": rows}))
    part.replace(path)


def _violation(violation: Violation) -> dict[str, str]:
    return {"property": violation.property, "subject": violation.subject, "detail": violation.detail, "call": violation.call}


def load(path: Path, searches: list[Search]) -> None:
    """Fill the searches with what the file has of them. Raises :class:`BadFile`."""
    try:
        with zipfile.ZipFile(path) as archive:
            head = json.loads(_read(archive, "search.json"))
            if not isinstance(head, dict) or head.get("hvmodel-search") != VERSION:
                raise BadFile(f"{path}: no search that this version of hvmodel kept")
            rows = head["searches"]
            if [{name: row[name] for name in _of(search)} for row, search in zip(rows, searches, strict=False)] != [
                _of(search) for search in searches
            ] or len(rows) != len(searches):
                raise BadFile(f"{path}: keeps another search ({_difference(rows, searches)}); choose another file, or remove it")
            for number, (row, search) in enumerate(zip(rows, searches, strict=True)):
                _fill(archive, number, row, search)
    except BadFile:
        raise
    except (OSError, ValueError, KeyError, TypeError, IndexError, zipfile.BadZipFile) as error:
        raise BadFile(f"{path}: cannot be read as a kept search: {error or type(error).__name__}") from None


def _difference(rows: list[dict[str, Any]], searches: list[Search]) -> str:
    for row, search in zip(rows, searches, strict=False):
        for name, value in _of(search).items():
            if row.get(name) != value:
                return f"{name} {row.get(name)}, not {value}" if name != "scope" else f"another scope of part {search.scope.name}"
    return f"{len(rows)} parts and profiles, not {len(searches)}"


def _read(archive: zipfile.ZipFile, name: str) -> bytes:
    if archive.getinfo(name).file_size > MOST:
        raise BadFile(f"{name} is too large")
    return archive.read(name)


def _fill(archive: zipfile.ZipFile, number: int, row: dict[str, Any], search: Search) -> None:
    config = search.scope.configuration(search.profile)
    search.operations = [operation_in(item, "operation", config) for item in row["operations"]]
    search.names = bytearray(_read(archive, f"{number}.names"))
    for name in ("parents", "codes", "spent"):
        numbers = array(getattr(search, name).typecode)
        numbers.frombytes(_read(archive, f"{number}.{name}"))
        if sys.byteorder == "big":
            numbers.byteswap()
        setattr(search, name, numbers)
    search.levels = [Level(int(depth), int(states), int(transitions)) for depth, states, transitions in row["levels"]]
    search.done, search.transitions, search.tried = int(row["done"]), int(row["transitions"]), int(row["tried"])
    search.seconds, search.cpu = float(row["seconds"]), float(row["cpu"])
    for item in row["found"]:
        operations = [operation_in(one, "operation", config) for one in item["operations"]]
        violation = Violation(item["property"], item["subject"], item["detail"], item["call"], ())
        search.found[violation.property, violation.call] = Found(operations, violation)
    _check(search)
    search.remember()


def _check(search: Search) -> None:
    """Raise ValueError unless the parts of a search fit together."""
    states = len(search.parents)
    if not states == len(search.codes) == len(search.spent) == len(search.names) // DIGEST:
        raise ValueError("its parts do not have the same length")
    if sum(level.states for level in search.levels) > states or not 0 <= search.done <= states:
        raise ValueError("its levels do not fit its states")
    if any(parent >= max(state, 1) for state, parent in enumerate(search.parents)):
        raise ValueError("a state comes before the one that it follows")
    if states > 1 and max(search.codes[1:]) >= len(search.operations):
        raise ValueError("a state follows an operation that is not there")


__all__ = ["BadFile", "load", "save"]
