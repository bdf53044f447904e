"""The regression corpus: findings worth keeping, one directory each, and what each must do on which driver.

A directory holds ``trace.json`` and ``finding.toml``::

    property = "no-stale-mapping"
    fails = ["posted-v0", "repaired+D20"]
    holds = ["repaired"]
    story = '''
    An unmap of 257 pages in two calls ...
    '''
"""

from __future__ import annotations

import json
import os
import re
import tempfile
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hvmodel.drivers import REGISTRY, no_such_driver
from hvmodel.drivers.variants import VARIANTS
from hvmodel.properties.catalogue import PROPERTIES
from hvmodel.traces.checks import TraceError, array, choice, fail, obj, text
from hvmodel.traces.format import Trace, read, write
from hvmodel.traces.record import recorded
from hvmodel.traces.story import judged, tell
from hvmodel.traces.verdict import verdict_of

TRACE, ABOUT = "trace.json", "finding.toml"


@dataclass(frozen=True, slots=True)
class Kept:
    """One kept finding. On the drivers of ``fails`` its property must fail, on those of ``holds`` it must hold."""

    name: str
    trace: Trace
    story: str
    fails: tuple[str, ...]
    holds: tuple[str, ...]

    def verdicts(self) -> list[str]:
        """One line for each driver on which the trace does not do what it must; none if all is well."""
        wrong = []
        for wanted, drivers in (("fails", self.fails), ("holds", self.holds)):
            for driver in drivers:
                found = verdict_of(self.trace, driver)
                if found.state != wanted:
                    why = found.violation.detail if found.violation is not None else found.reason
                    line = f"{self.name}: {self.trace.property} {found.state} on {driver}, expected: {wanted}"
                    wrong.append(f"{line} ({why})" if why else line)
        return wrong


def kept(directory: Path) -> list[Kept]:
    """All findings of a corpus in the order of their names; none if there is no such directory. Raises :class:`TraceError` with the
    place of whatever is wrong."""
    if not directory.is_dir():
        return []
    return [_read(path) for path in sorted(directory.iterdir()) if path.is_dir() and not path.name.startswith(".")]


def _read(path: Path) -> Kept:
    trace, about = read(path / TRACE), path / ABOUT
    try:
        data = tomllib.loads(about.read_text(encoding="utf-8"))
    except OSError as error:
        raise TraceError(f"{about}: {error.strerror or error}") from None
    except ValueError as error:  # not TOML, not UTF-8
        raise TraceError(f"{about}: {error}") from None
    try:
        return _checked(path.name, trace, data)
    except TraceError as error:
        raise TraceError(f"{about}: {error}") from None


def _checked(name: str, trace: Trace, data: dict[str, Any]) -> Kept:
    obj(data, "", {"property", "fails", "holds", "story"})
    claim = choice(data.get("property"), "property", tuple(PROPERTIES))
    if claim != trace.property:
        raise fail("property", f"is {claim}, but the trace's is {trace.property}")
    drivers: dict[str, tuple[str, ...]] = {}
    for field in ("fails", "holds"):
        names = [text(entry, f"{field}[{i}]") for i, entry in enumerate(array(data.get(field, []), field, 4096))]
        unknown = next((driver for driver in names if driver not in REGISTRY), None)
        if unknown is not None:
            raise fail(field, no_such_driver(unknown))
        drivers[field] = tuple(names)
    if not drivers["fails"]:
        raise fail("fails", "names no driver: what fails nowhere protects nothing")
    return Kept(name, trace, text(data.get("story", ""), "story").strip(), drivers["fails"], drivers["holds"])


# --- keeping --------------------------------------------------------------------------------------------------------------

_NAME = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")


def where_it_fails(trace: Trace) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The drivers on which a trace's property fails and those on which it holds, out of its own, the variants and the ones that
    have no known defect. Raises KeyError for an unknown driver."""
    fails: list[str] = []
    holds: list[str] = []
    for driver in dict.fromkeys((trace.driver, *VARIANTS, "repaired", "honest-splits", "honest-whole")):
        state = verdict_of(trace, driver).state
        if state == "fails":
            fails.append(driver)
        elif state == "holds" and driver not in VARIANTS:
            holds.append(driver)
    return tuple(fails), tuple(holds)


def told_in_short(trace: Trace) -> str:
    """A story to begin with: the operations, one a line, and what fails."""
    steps, _world = tell(trace)
    lines = [f"{step.number}. {step.headline}" for step in steps]
    hit = judged(steps, trace.property) if trace.property is not None else None
    if trace.property is not None and hit is not None:
        lines.append(f"{trace.property} fails at step {hit[0]} ({PROPERTIES[trace.property].claim}):")
        lines.append(hit[1].detail)
    return "\n".join(lines)


def keep(trace: Trace, name: str, directory: Path, story: str, fails: tuple[str, ...], holds: tuple[str, ...]) -> Kept:
    """Add a finding to a corpus, recorded anew. Raises :class:`TraceError` if its name is no plain one or taken, if the same trace
    is kept already, or if it does not do what it must; OSError if it cannot be written. Nothing is left of what was not kept."""
    if not _NAME.fullmatch(name) or len(name) > 80:
        raise TraceError(f"--name: {name!r}: only a-z, 0-9 and single dashes between them, at most 80 characters")
    if trace.property is None:
        raise TraceError("the trace names no property, so there is nothing that it could show again")
    for other in kept(directory):
        if other.name == name:
            raise TraceError(f"{directory / name} is there already")
        if (other.trace.config, other.trace.operations, other.trace.property) == (trace.config, trace.operations, trace.property):
            raise TraceError(f"the same trace is kept as {directory / other.name}")
    made = _checked(name, recorded(trace), {"property": trace.property, "fails": [*fails], "holds": [*holds], "story": story})
    wrong = made.verdicts()
    if wrong:
        raise TraceError(wrong[0])
    directory.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=directory, prefix=".") as scratch:
        part = Path(scratch) / name
        part.mkdir()
        write(made.trace, part / TRACE)
        (part / ABOUT).write_text(_toml(made), encoding="utf-8")
        os.replace(part, directory / name)
    return made


def _toml(finding: Kept) -> str:
    """The text of ``finding.toml``. JSON strings and lists of them are TOML as well; a story goes over several lines."""
    lines = [f"property = {json.dumps(finding.trace.property)}"]
    for field, drivers in (("fails", finding.fails), ("holds", finding.holds)):
        lines.append(f"{field} = {json.dumps(list(drivers))}")
    plain = finding.story.encode(errors="replace").decode()
    story = "\n".join(json.dumps(line, ensure_ascii=False)[1:-1].replace("\x7f", "\\u007f") for line in plain.split("\n"))
    lines.append(f'story = """\n{story}\n"""')
    return "\n".join(lines) + "\n"


__all__ = ["Kept", "keep", "kept", "told_in_short", "where_it_fails"]
