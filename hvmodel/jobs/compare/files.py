"""What a comparison leaves behind: a trace file for each row and each difference, and the report as JSON."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from hvmodel.callers.levels import LEVELS
from hvmodel.jobs.compare.cost import FIGURES, Cost
from hvmodel.jobs.compare.job import Comparison, Difference
from hvmodel.jobs.compare.parting import ASPECTS
from hvmodel.jobs.compare.sorting import KINDS
from hvmodel.jobs.compare.words import verdict
from hvmodel.traces.format import Trace, write
from hvmodel.traces.record import recorded


def written(directory: Path) -> Iterator[Path]:
    """The traces of an earlier comparison in a directory, told by their names."""
    for path in directory.glob("*.json"):
        stem, _dash, number = path.stem.rpartition("-")
        if stem in (*KINDS, *ASPECTS) and number.isdigit():
            yield path


def save(result: Comparison, directory: Path) -> None:
    """One file for each row, recorded on the driver on which it fails, and for each difference, recorded on A. Files of an earlier
    comparison are replaced. Raises OSError."""
    directory.mkdir(parents=True, exist_ok=True)
    for old in list(written(directory)):
        old.unlink()
    for row in result.findings.rows:
        write(row.best.as_trace(), directory / f"{row.name}.json")
    for one in result.differences:
        write(_as_trace(one, result), directory / f"{one.name}.json")


def _as_trace(one: Difference, result: Comparison) -> Trace:
    origin = {"gear": "compare", "note": f"against {result.options.b}: {'; '.join(kind.text for kind in one.kinds)}"[:4000]}
    return recorded(Trace(one.witness.config, list(one.witness.operations), result.options.a, None, {}, origin))


def as_json(result: Comparison) -> dict[str, Any]:
    """The comparison for other programs."""
    options, found = result.options, result.findings
    return {
        "a": options.a,
        "b": options.b,
        "seed": options.seed,
        "status": result.status,
        "verdict": verdict(result),
        "operations": {"search of A": result.searched[0], "search of B": result.searched[1], "in step": result.walked},
        "known_traces": len(options.given),
        "seconds": round(result.seconds, 2),
        "findings": {
            kind: [
                {
                    **row.best.as_json(),
                    "trace": f"{row.name}.json",
                    "note": row.note,
                    "sources": row.sources,
                    "alike": len(row.findings),
                }
                for row in found.of(kind)
            ]
            for kind in KINDS
        },
        "fails_on_neither": found.neither,
        "untested": found.untested,
        "differences": [
            {
                "kinds": [
                    {"aspect": kind.aspect, "place": kind.place, "a": kind.a, "b": kind.b, "refused": list(kind.refused)}
                    for kind in one.kinds
                ],
                "runs": one.runs,
                "operations": len(one.witness.operations),
                "level": LEVELS[one.witness.level],
                "profile": one.witness.config.profile,
                "trace": f"{one.name}.json",
            }
            for one in result.differences
        ],
        "cost": [
            {"part": pair.name, "same": pair.same, "memory_to_spare": pair.to_spare, "a": _cost(pair.a), "b": _cost(pair.b)}
            for pair in result.costs
        ],
    }


def _cost(cost: Cost) -> dict[str, Any]:
    if cost.failed:
        return {"failed": cost.failed}
    figures: dict[str, Any] = dict(zip(FIGURES, cost.figures, strict=True))
    return {
        **figures,
        "measured_gib": cost.share,
        "by_name": dict(sorted(cost.by_name.items())),
    }


def save_json(result: Comparison, path: Path) -> None:
    """Write the comparison as JSON. Raises OSError."""
    path.write_text(json.dumps(as_json(result), indent=1) + "\n", encoding="utf-8")


__all__ = ["as_json", "save", "save_json", "written"]
