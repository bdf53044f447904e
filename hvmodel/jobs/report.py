"""The hunt on the screen: progress while it runs, a table at the end."""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Callable

from rich.console import Console
from rich.table import Table
from rich.text import Text

from hvmodel.jobs.findings import Group
from hvmodel.jobs.hunt import Report
from hvmodel.properties.catalogue import SEVERITIES

STYLES = {
    "isolation": "bold red",
    "memory": "red",
    "availability": "yellow",
    "leak": "magenta",
    "bookkeeping": "cyan",
    "contract": "blue",
}


def progress_printer(budget: float) -> Callable[[int, int, float], None]:
    """Shows where the hunt is: one line that renews itself on a terminal, a line every ten seconds elsewhere. On stderr."""
    terminal = sys.stderr.isatty()
    last = time.monotonic() - (0 if terminal else 5)

    def show(operations: int, findings: int, seconds: float) -> None:
        nonlocal last
        now = time.monotonic()
        if now - last < (0.5 if terminal else 10):
            return
        last = now
        left = max(budget - seconds, 0)
        text = f"hunting: {operations:,} operations, {findings} kinds of findings, {left:.0f} s left"
        print(f"\r{text}\033[K" if terminal else text, end="" if terminal else "\n", file=sys.stderr, flush=True)
        if terminal and left == 0:
            print("\r\033[K", end="", file=sys.stderr, flush=True)

    return show


def print_report(report: Report, console: Console) -> None:
    """The table: one row a cause, worst first, those that need an assumption after those that need none."""
    tally = report.tally
    if sys.stderr.isatty():
        print("\r\033[K", end="", file=sys.stderr, flush=True)
    if report.groups:
        table = Table(show_lines=False, pad_edge=False, header_style="bold", expand=False)
        table.add_column("severity", no_wrap=True)
        table.add_column("property", overflow="fold", min_width=16)
        table.add_column("what happened", overflow="fold", ratio=2, min_width=30)
        table.add_column("ops", justify="right")
        table.add_column("level", no_wrap=True)
        table.add_column("hvmodel replay ...", no_wrap=True)
        shown: list[str] = []
        for item in report.groups:
            assumed = item.best.assumptions
            if assumed and not shown:
                shown = assumed
                table.add_section()
            table.add_row(*_row(item))
        console.print(table)
        console.print(
            Text(
                f"{len(report.groups)} causes, {len(report.findings)} findings in {tally.operations:,} operations and "
                f"{tally.seconds:.0f} s (driver {report.options.driver}, seed {report.options.seed}). Each row: the shortest trace."
            )
        )
        counts = Counter(item.best.severity for item in report.groups)
        console.print(Text("by severity: " + ", ".join(f"{name} {counts[name]}" for name in SEVERITIES if counts[name])))
        console.print(Text(f"Replay one: hvmodel replay {report.groups[0].best.trace}"), soft_wrap=True)
    else:
        console.print(
            Text(
                f"nothing found in {tally.operations:,} operations and {tally.seconds:.0f} s (driver {report.options.driver})",
                style="green",
            )
        )
    if tally.environment:
        text = f"{tally.environment:,} times a refusal or a forced state excused the driver; replay shows these as 'environment'"
        console.print(Text(text, style="dim"), soft_wrap=True)
    never = {what: names for what, names in tally.never().items() if names}
    for what, names in never.items():
        console.print(Text(f"never reached, {what}: {', '.join(names)}", style="dim"), soft_wrap=True)


def _row(item: Group) -> list[Text]:
    best = item.best
    happened = Text(best.minimised.violation.detail)
    if best.config.l1vh:
        happened.append("\non an L1VH", style="dim")
    if best.assumptions:
        happened.append(f"\nassumes {'; '.join(best.assumptions)}", style="dim italic")
    if item.also:
        happened.append(f"\nalso {', '.join(item.also)}", style="dim")
    count = len(item.findings)
    name = Text(best.property_id)
    if count > 1:
        name.append(f" (+{count - 1})", style="dim")
    return [
        Text(best.severity, style=STYLES.get(best.severity, "")),
        name,
        happened,
        Text(str(len(best.operations))),
        Text(best.level),
        Text(best.trace),
    ]
