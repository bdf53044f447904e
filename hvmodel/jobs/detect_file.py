"""Stored detect runs: written as JSON with one trial a line, read back for comparison."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from hvmodel import __version__
from hvmodel.callers.levels import BEYOND, LEVELS
from hvmodel.jobs.detect import Detection
from hvmodel.jobs.trials import GEARS, Trial

FORMAT = 1

USUAL = LEVELS[BEYOND]
"""How far callers go in a trial that does not say."""

_KEY = "hvmodel-detect"

_TOO_LARGE = 1 << 63


class BadFile(ValueError):
    """A file that holds no complete detect run; the text says why, in one line."""


def save(detection: Detection, path: Path) -> None:
    """Write a detect run; its settings are there for a person. Raises OSError."""
    options = detection.options
    settings = {
        "trials": options.trials,
        "seed": options.seed,
        "gears": options.gears,
        "limit_operations": options.limit.operations,
        "limit_seconds": options.limit.seconds,
        "level": LEVELS[options.level],
        "hvmodel": __version__,
    }
    head = json.dumps({_KEY: FORMAT, "settings": settings, "complete": detection.complete}, indent=1)
    lines = ",\n".join("  " + json.dumps(_as_json(trial)) for trial in detection.trials)
    path.write_text(f'{head[:-2]},\n "trials": [\n{lines}\n ]\n}}\n', encoding="utf-8")


def _as_json(trial: Trial) -> dict[str, Any]:
    record = asdict(trial)
    record["trial"] = record.pop("number")
    if record["level"] == USUAL:  # as it was before there were others
        del record["level"]
    return record


def read(path: Path) -> list[Trial]:
    """The trials of a stored run. Raises BadFile for anything else, whatever is wrong with it, and for a run that was interrupted,
    of which the slow trials are missing."""
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise BadFile(f"{path}: {error.strerror}") from None
    except ValueError:  # no JSON, or no text
        raise BadFile(f"{path}: no JSON, or cut off") from None
    except RecursionError:
        raise BadFile(f"{path}: nested too deeply") from None
    if not isinstance(data, dict) or _KEY not in data:
        raise BadFile(f"{path}: not written by 'hvmodel detect --json'")
    if data[_KEY] != FORMAT:
        raise BadFile(f"{path}: {_KEY}: version {data[_KEY]!r} is not the one that this harness reads ({FORMAT})")
    if data.get("complete") is not True:
        raise BadFile(f"{path}: that run was interrupted")
    records = data.get("trials")
    if not isinstance(records, list) or not records:
        raise BadFile(f"{path}: no trials in it")
    trials = []
    for number, record in enumerate(records):
        problem = _problem(record)
        if problem:
            raise BadFile(f"{path}: trials[{number}]: {problem}")
        trials.append(Trial(number=record.pop("trial"), properties=tuple(record.pop("properties")), **record))
    return trials


_TYPES: dict[str, tuple[type, ...]] = {
    "driver": (str,),
    "gear": (str,),
    "trial": (int,),
    "seed": (int,),
    "found": (bool,),
    "operations": (int,),
    "seconds": (int, float),
    "properties": (list,),
    "minimised": (int, type(None)),
}


def _problem(record: object) -> str | None:
    """What is wrong with a trial in a file, or None."""
    if not isinstance(record, dict) or set(record) | {"level"} != {*_TYPES, "level"}:
        return f"must have exactly {', '.join(_TYPES)}, and may have level"
    if record.get("level", USUAL) not in LEVELS:
        return f"level: {record['level']!r} is none of {', '.join(LEVELS)}"
    for name, types in _TYPES.items():
        value = record[name]
        if not isinstance(value, types) or (isinstance(value, bool) and bool not in types):
            return f"{name}: {value!r} will not do"
        if isinstance(value, int | float) and not 0 <= value < _TOO_LARGE:
            return f"{name}: {value!r} will not do"
    if record["gear"] not in GEARS:
        return f"gear: {record['gear']!r} is none of {', '.join(GEARS)}"
    strange = [name for name in record["properties"] if not isinstance(name, str)]
    return f"properties: {strange[0]!r} will not do" if strange else None
