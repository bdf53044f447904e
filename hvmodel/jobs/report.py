"""The hunt on the screen: progress while it runs, a table at the end."""

from __future__ import annotations

import os
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from hvmodel.callers.means import CALLERS, HOST
from hvmodel.jobs.findings import CALLER, Finding, Group
from hvmodel.jobs.hunt import Report
from hvmodel.jobs.naming import short
from hvmodel.jobs.progress import Line, erase
from hvmodel.properties.catalogue import SEVERITIES

STYLES = {
    "isolation": "bold red",
    "memory": "red",
    "availability": "yellow",
    "leak": "magenta",
    "bookkeeping": "cyan",
    "contract": "blue",
}

NARROW = 118
"""Below this many columns a row of the table becomes a few lines."""


def progress_printer(budget: float, wanted: int = 0) -> Callable[[int, int, float], None]:
    """Shows where the hunt is: one line that renews itself on a terminal, a line every ten seconds elsewhere. On stderr. ``wanted``
    is how many operations end it, if not the budget."""
    line = Line()

    def show(operations: int, findings: int, seconds: float) -> None:
        if not line.due():
            return
        left = max(budget - seconds, 0)
        if wanted:
            left = min(left, seconds * max(wanted - operations, 0) / max(operations, 1))
        text = f"hunting: {operations:,} operations, {findings} minimised traces, {left:.0f} s left"
        line.show(text)

    return show


def lift_printer() -> Callable[[int, int, int, float], None]:
    """The same for the search for callers that follows."""
    line = Line()

    def show(attempts: int, lifted: int, wanted: int, left: float) -> None:
        if line.due():
            line.show(f"looking for callers: {attempts} attempts, {lifted} of {wanted} findings lifted, {left:.0f} s left")

    return show


def command() -> str:
    """How the person at the keyboard calls us."""
    called = Path(sys.argv[0])
    if called.name != "hvmodel":
        return "python -m hvmodel"
    near = os.path.relpath(called)
    return near if "/" in sys.argv[0] and len(near) < len(str(called)) else str(called)


def print_report(report: Report, console: Console) -> None:
    """The table: one row a cause, worst first, those that need an assumption after those that need none."""
    tally = report.tally
    erase()
    if report.groups:
        print_rows(report.groups, console)
        console.print(
            Text(
                f"{len(report.groups)} rows, {len(report.findings)} findings in {tally.operations:,} operations and "
                f"{tally.seconds:.0f} s (driver {report.options.driver}, seed {report.options.seed}). Each row: the shortest trace."
            )
        )
        counts = Counter(item.best.severity for item in report.groups)
        console.print(Text("by severity: " + ", ".join(f"{name} {counts[name]}" for name in SEVERITIES if counts[name])))
        for text in _callers(report):
            console.print(Text(text), soft_wrap=True)
        first = report.groups[0].best.trace
        console.print(Text(f"Explain a row: {command()} explain {Path(first).parent}/TRACE.json"), soft_wrap=True)
        console.print(Text(f"For instance: {command()} replay {first}"), soft_wrap=True)
    else:
        text = f"nothing found in {tally.operations:,} operations and {tally.seconds:.0f} s (driver {report.options.driver})"
        console.print(Text(text, style="green"))
    if tally.environment:
        text = f"{tally.environment:,} times a refusal or a forced state excused the driver; replay shows these as 'environment'"
        console.print(Text(text, style="dim"), soft_wrap=True)
    for what, names in tally.never().items():
        if names:
            console.print(Text(f"never reached, {what}: {', '.join(names)}", style="dim"), soft_wrap=True)


def _callers(report: Report) -> Iterator[str]:
    """Who can cause the rows, and what came of looking for callers with less power."""
    before = Counter(item.best.own_means.word for item in report.groups)
    counts = Counter(item.best.means.word for item in report.groups)
    told = [
        f"{name} {counts[name]}" + (f" (by their own traces {before[name]})" if before[name] != counts[name] else "")
        for name in CALLERS
        if counts[name] or before[name]
    ]
    yield "by caller: " + ", ".join(told)
    done = report.lifting
    if done is not None and done.wanted and done.seconds:
        died = f"; {done.deaths} attempts ended with their process" if done.deaths else ""
        yield (
            f"{done.wanted} findings take more than ioctls: for {done.lifted} of them a caller with less power was found in "
            f"{done.seconds:.0f} s, whose trace is NAME{CALLER}.json; none found does not mean that there is none{died}"
        )


def print_rows(groups: list[Group], console: Console) -> None:
    """One row a cause."""
    if console.width < NARROW:
        for item in groups:
            best = item.best
            head = Text(f"{best.severity}  ", style=STYLES.get(best.severity, ""))
            head.append_text(_name(item))
            head.append(f"  {len(best.operations)} ops, {best.means.word}", style="dim")
            console.print(head, soft_wrap=True)
            console.print(Padding(_happened(item), (0, 0, 0, 4)))
            console.print(Text(f"    {Path(best.trace).stem}"), soft_wrap=True)
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("severity", no_wrap=True)
    table.add_column("property", no_wrap=True)
    table.add_column("what happened", ratio=1, overflow="fold")
    table.add_column("ops", justify="right", no_wrap=True)
    table.add_column("caller", no_wrap=True)
    table.add_column("trace", no_wrap=True, min_width=max(len(Path(item.best.trace).stem) for item in groups))
    for item in groups:
        best = item.best
        severity = Text(best.severity, style=STYLES.get(best.severity, ""))
        table.add_row(severity, _name(item), _happened(item), str(len(best.operations)), best.means.word, Path(best.trace).stem)
    console.print(table)


def _name(item: Group) -> Text:
    name = Text(item.best.property_id)
    if len(item.findings) > 1:
        name.append(f" (+{len(item.findings) - 1})", style="dim")
    return name


def _happened(item: Group) -> Text:
    """What happened, where, and what it takes."""
    best = item.best
    text = Text(best.minimised.violation.detail)
    text.append(f"\n{_where(best)}; caused by {best.means}", style="dim")
    if best.caller is not None:
        text.append(f"\nshown by {Path(best.caller_trace).stem}, {len(best.caller.operations)} ops", style="dim")
    elif best.sought is not None and best.sought >= 0.05:
        text.append(f"\nno {'ioctls for it' if best.means.caller == HOST else 'caller'} found in {best.sought:.1f} s", style="dim")
    if item.defects:
        text.append(f"\nknown: {short(item.defects)}", style="dim")
    if best.assumptions:
        text.append(f"\nassumes {'; '.join(best.assumptions)}", style="italic")
    if item.also:
        text.append(f"\nalso {', '.join(item.also)}", style="dim")
    return text


def _where(best: Finding) -> str:
    """The driver call, and what has to be unusual about the start."""
    parts = [f"in {best.minimised.violation.call}" if best.minimised.violation.call not in ("request", "recover") else "afterwards"]
    if best.config.l1vh:
        parts.append("on an L1VH")
    if best.config.unique_id:
        parts.append(f"id counter at {best.config.unique_id:#x}")
    if best.config.left_domains:
        parts.append("an earlier kernel left domains")
    return ", ".join(parts)
