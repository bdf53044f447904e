"""The sweep on the screen: progress while it runs, a table of the traces and one of the findings at the end."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from hvmodel.gears.sweep import MOST, Count
from hvmodel.jobs.progress import Line, erase
from hvmodel.jobs.report import command, print_rows
from hvmodel.jobs.sweep import Progress, Report, Row
from hvmodel.properties.catalogue import SEVERITIES
from hvmodel.scenarios import SCENARIOS

SHOWN = 20
"""So many refusals that did not fire are told."""


def progress_printer() -> Progress:
    """One line that renews itself on a terminal, a line every ten seconds elsewhere. On stderr."""
    line = Line()

    def show(runs: int, done: int, traces: int, findings: int, seconds: float) -> None:
        if not line.due():
            return
        text = f"sweeping: {runs:,} runs, {done} of {traces} traces done, {findings} minimised traces, {seconds:.0f} s"
        line.show(text)

    return show


def print_list(console: Console) -> None:
    """The scenarios: name, story, profiles."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("scenario", no_wrap=True)
    table.add_column("story", ratio=1, overflow="fold")
    table.add_column("operations", justify="right", no_wrap=True)
    table.add_column("profiles", overflow="fold")
    for scenario in SCENARIOS.values():
        table.add_row(scenario.name, scenario.story, str(len(scenario.operations)), ", ".join(scenario.profiles))
    console.print(table)


def print_sweep(report: Report, console: Console) -> None:
    """A row a trace, what was not put to the test, and the findings, worst first."""
    erase()
    _print_traces(report, console)
    _print_limits(report, console)
    if report.groups:
        console.print()
        print_rows(report.groups, console)
    _print_verdict(report, console)


def _print_traces(report: Report, console: Console) -> None:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("trace", "profiles", "operations", "sites", "beyond", "runs", "fired", "not fired", "failing"):
        table.add_column(name, justify="left" if name in ("trace", "profiles") else "right", no_wrap=True)
    for name, rows in _by_name(report.rows).items():
        count = _sum(rows)
        profiles = ", ".join(row.subject.config.profile for row in rows) if len(rows) < 3 else str(len(rows))
        numbers = (
            len(rows[0].subject.operations),
            count.sites,
            count.beyond,
            count.runs,
            count.fired,
            count.unfired,
            count.failing,
        )
        table.add_row(name, profiles, *(f"{number:,}" for number in numbers))
    console.print(table)


def _by_name(rows: list[Row]) -> dict[str, list[Row]]:
    found: dict[str, list[Row]] = {}
    for row in rows:
        found.setdefault(row.subject.name, []).append(row)
    return found


def _sum(rows: list[Row]) -> Count:
    total = Count()
    for row in rows:
        total.add(row.count)
    return total


def _print_limits(report: Report, console: Console) -> None:
    """What this sweep says nothing about."""
    lines = []
    count = report.count
    unfired = [f"{row.subject.name}/{row.subject.config.profile}: {text}" for row in report.rows for text in row.unfired]
    if unfired:
        more = f"; and {len(unfired) - SHOWN} more (--json has all)" if len(unfired) > SHOWN else ""
        lines.append(f"not fired, so not put to the test: {'; '.join(unfired[:SHOWN])}{more}")
    if count.left_out:
        lines.append(f"passed over: {count.left_out} sites of operations that come by one place more than {MOST} times")
    idle = [
        f"{name} ({sum(row.idle for row in rows)})" for name, rows in _by_name(report.rows).items() if any(row.idle for row in rows)
    ]
    if idle:
        lines.append(f"operations that had nothing to act on, nothing refused: {', '.join(idle)}")
    late = [f"{row.subject.name}/{row.subject.config.profile}" for row in report.rows if row.state == "not begun"]
    cut = [f"{row.subject.name}/{row.subject.config.profile}" for row in report.rows if row.state == "cut short"]
    if cut:
        lines.append(f"cut short: {', '.join(cut)}")
    if late:
        more = f" and {len(late) - SHOWN} more" if len(late) > SHOWN else ""
        lines.append(f"not swept: {', '.join(late[:SHOWN])}{more}")
    if report.tally.skipped:
        lines.append(f"{report.tally.skipped} failing runs resemble others and were not minimised")
    for line in lines:
        console.print(Text(line, style="yellow"), soft_wrap=True)


def _print_verdict(report: Report, console: Console) -> None:
    count, driver = report.count, report.options.driver
    done = sum(row.complete for row in report.rows)
    did = (
        f"{count.runs:,} runs of {done} traces (each under its profiles), {count.sites:,} sites and {count.beyond:,} that only a "
        f"refusal leads to, {count.fired:,} refusals fired, {count.unfired:,} did not; {report.seconds:.0f} s (driver {driver})"
    )
    if not report.groups:
        text = f"nothing found in {did}" if report.complete else f"nothing found so far, and not all was done: {did}"
        console.print(Text(text, style="green" if report.complete else "yellow"), soft_wrap=True)
        return
    console.print(Text(f"{len(report.groups)} rows, {len(report.findings)} findings in {did}. Each row: the shortest trace."))
    counts = Counter(item.best.severity for item in report.groups)
    console.print(Text("by severity: " + ", ".join(f"{name} {counts[name]}" for name in SEVERITIES if counts[name])))
    first = report.groups[0].best.trace
    console.print(Text(f"Explain a row: {command()} explain {Path(first).parent}/TRACE.json"), soft_wrap=True)


__all__ = ["print_list", "print_sweep", "progress_printer"]
