"""Detect on the screen: progress while it runs; then a row for each driver and gear, what they say together, and the picture."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from hvmodel.callers.levels import BEYOND, LEVELS
from hvmodel.jobs.detect import Detection, Progress
from hvmodel.jobs.power import (
    BASELINE,
    MEASURED,
    Change,
    Overall,
    Ratio,
    Row,
    incomplete,
    is_catalogued,
    never_shown,
    overall,
    ratios,
    rows,
)
from hvmodel.jobs.progress import Line, erase
from hvmodel.jobs.report import NARROW
from hvmodel.jobs.survival import Quantile
from hvmodel.jobs.survival_picture import curves, draw

SEEN_BY = 3
"""How many properties a row names."""


def progress_printer() -> Progress:
    """Shows where the job is: one line that renews itself on a terminal, a line every ten seconds elsewhere. On stderr."""
    line = Line(first=2)

    def show(done: int, planned: int, found: int, seconds: float) -> None:
        if not line.due():
            return
        text = f"detecting: {done:,} of {planned:,} trials done, {found:,} found something, {seconds:.0f} s"
        line.show(text)

    return show


def caption(detection: Detection) -> str:
    """What was measured, in one line."""
    options = detection.options
    limit = options.limit
    until = f"{limit.operations:,} operations" if limit.operations is not None else f"{limit.seconds:g} s"
    drivers = f"{len(options.drivers)} drivers" if len(options.drivers) > 1 else options.drivers[0]
    level = f", callers of level {LEVELS[options.level]} at most" if options.level != BEYOND else ""
    return f"{drivers}, {options.trials} trials each, until the first violation or {until}, seed {options.seed}{level}"


def print_detection(detection: Detection, console: Console) -> None:
    """The table, the summary, the picture, and what was not found."""
    erase()
    table = rows(detection)
    found = ratios(table)
    if table:
        console.print(_table(table, found, console.width >= NARROW))
        console.print()
        text = "median and 90th percentile of what it took to the first violation; trace: length of the shortest and the median one"
        console.print(Text(text, style="dim"), soft_wrap=True)
        console.print(Text(f"{caption(detection)}; {len(detection.trials):,} trials in {detection.seconds:.0f} s"), soft_wrap=True)
        _print_gears(table, console)
        _print_ratios("operations", found, console)
        _print_ratios("processor time", ratios(table, seconds=True), console)
        console.print()
        for line in draw(curves(detection), console.width, console.options.ascii_only):
            console.print(line, soft_wrap=True)
        console.print()
    _print_missing(detection, table, console)


def _table(table: Sequence[Row], found: dict[str, Ratio], wide: bool) -> Table:
    """One row a driver and gear; seconds and properties only where there is room."""
    view = Table(box=None, pad_edge=False, header_style="bold")
    view.add_column("driver", no_wrap=True)
    view.add_column("gear", no_wrap=True)
    view.add_column("found", justify="right", no_wrap=True)
    ratio = (f"{BASELINE}/{MEASURED}",) if found else ()
    for name in ("operations", "90 %", *(("seconds", "90 %") if wide else ()), "trace", *ratio):
        view.add_column(name, justify="right", no_wrap=True)
    if wide:
        view.add_column("seen by", ratio=1, overflow="fold")
    before = ""
    for row in table:
        cells = [
            Text("" if row.driver == before else row.driver),
            Text(row.gear),
            Text(f"{row.found}/{row.trials}", style="" if row.found == row.trials else "bold red"),
            *(Text(_operations(value)) for value in row.operations),
            *(Text(_seconds(value)) for value in row.seconds if wide),
            Text(_length(row.lengths)),
            *(Text(_ratio(found.get(row.driver)) if row.gear == MEASURED else "") for _ in ratio),
        ]
        before = row.driver
        view.add_row(*cells, *([Text(_seen_by(row), style="dim")] if wide else []))
    return view


def _operations(value: Quantile) -> str:
    return f"{'' if value.exact else '>'}{value.value:,.0f}"


def _seconds(value: Quantile) -> str:
    if value.value < 0.001:
        return "<0.001" if value.exact else ">0"
    digits = 0 if value.value >= 100 else 1 if value.value >= 10 else 2 if value.value >= 0.1 else 3
    return f"{'' if value.exact else '>'}{value.value:.{digits}f}"


def _length(lengths: Sequence[int]) -> str:
    """Shortest and median length of the minimised traces."""
    return f"{lengths[0]}/{lengths[len(lengths) // 2]}" if lengths else ""


def _ratio(ratio: Ratio | None) -> str:
    if ratio is None or ratio.relation == "?":
        return "" if ratio is None else "?"
    return f"{'' if ratio.relation == '=' else ratio.relation}{_times(ratio.value)}"


def _times(value: float) -> str:
    return f"{value:,.0f}" if value >= 10 else f"{value:.1f}"


def _seen_by(row: Row) -> str:
    parts = [f"{name} {count}" for name, count in row.properties.most_common(SEEN_BY)]
    more = len(row.properties) - SEEN_BY
    return ", ".join(parts) + (f" (+{more})" if more > 0 else "")


def _print_gears(table: Sequence[Row], console: Console) -> None:
    """Each gear over all drivers."""
    for gear in dict.fromkeys(row.gear for row in table):
        mine = [row for row in table if row.gear == gear]
        trials, hits = sum(row.trials for row in mine), sum(row.found for row in mine)
        always = sum(row.found == row.trials for row in mine)
        text = f"{gear}: {hits:,} of {trials:,} trials found something; {always} of {len(mine)} drivers in all trials"
        console.print(Text(text), soft_wrap=True)


def _print_ratios(measure: str, found: dict[str, Ratio], console: Console) -> None:
    """How many times as much the baseline needs as the walk."""
    every = list(found.values())
    catalogued = [ratio for ratio in every if is_catalogued(ratio.driver)]
    for what, group in (("the catalogue variants", catalogued), ("all drivers", every)):
        total = overall(group)
        if total is not None and (group is catalogued or len(catalogued) < len(every)):
            text = f"{measure} to detection, {BASELINE} / {MEASURED}: median of the ratios over {what} {_overall(total)}"
            console.print(Text(text, style="bold" if group is catalogued and measure == "operations" else ""), soft_wrap=True)


def _overall(total: Overall) -> str:
    notes = [f"{total.count} ratios"]
    if total.bounds:
        notes.append(f"{total.bounds} lower bounds")
    if total.unknown:
        notes.append(f"{total.unknown} counted as 0 as {MEASURED} has no median")
    return f"{'>=' if total.bounds or total.unknown else ''}{_times(total.value)} ({', '.join(notes)})"


def _print_missing(detection: Detection, table: Sequence[Row], console: Console) -> None:
    """What was not found, what no driver showed, what was not done."""
    missing = incomplete(table)
    for gear in dict.fromkeys(row.gear for row in missing):
        names = ", ".join(f"{row.driver} {row.found}/{row.trials}" for row in missing if row.gear == gear)
        console.print(Text(f"not found in all trials by {gear}: {names}", style="bold red"), soft_wrap=True)
    if table and not missing:
        console.print(Text("everything was found in all trials", style="green"))
    silent = never_shown(detection)
    if silent:
        console.print(Text(f"properties that no variant shows: {', '.join(silent)}", style="dim"), soft_wrap=True)
    if not detection.complete:
        text = f"interrupted: {len(detection.trials):,} of {detection.planned:,} trials were done"
        console.print(Text(text, style="bold red"), soft_wrap=True)


def print_changes(changes: Sequence[Change], path: Path, console: Console) -> None:
    """How the power compares with a stored run: each gear, then the single drivers that differ."""
    for change in changes:
        if change.driver and not (change.is_loss or change.is_gain):
            continue
        word, p, style = "no loss", change.p_later, ""
        if change.is_loss:
            word, style = "LOSS", "bold red"
        elif change.is_gain:
            word, p, style = "gain", change.p_sooner, "green"
        who = change.driver or f"over {change.drivers} drivers"
        text = f"against {path}: {change.gear}: {word} of power {'on ' if change.driver else ''}{who} (p = {p:.2g})"
        console.print(Text(text, style=style), soft_wrap=True)
