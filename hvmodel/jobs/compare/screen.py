"""The comparison on the screen: the verdict, what is broken in full, the rest in a line each, one difference of each sort told."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from hvmodel.jobs.compare import words
from hvmodel.jobs.compare.job import Comparison, Difference, Progress
from hvmodel.jobs.compare.sides import laid_out, told
from hvmodel.jobs.compare.sorting import Row
from hvmodel.jobs.progress import Line, erase
from hvmodel.jobs.report import STYLES, command
from hvmodel.operations import describe

FULL = 8
"""Broken rows, and rows of which it cannot be said, that are shown in full."""

BRIEF = 10
"""Other rows of one kind, and differences of one sort, in a line each."""

MARKS = {"|": "yellow", "<": "red", ">": "green", " ": "dim"}


def progress_printer() -> Progress:
    """Shows where the comparison is: one line that renews itself on a terminal, a line every ten seconds elsewhere. On stderr."""
    line, kind = Line(), ""

    def show(text: str) -> None:
        nonlocal kind
        new = text.split(",")[0]
        if line.due(new != kind):
            kind = new
            line.show(text)

    return show


def print_comparison(result: Comparison, out: Path, console: Console) -> None:
    """Everything, the worst first."""
    erase()
    options = result.options
    console.print(Text(f"A {options.a}\nB {options.b}"), soft_wrap=True)
    style = "bold red" if result.status else "bold green"
    console.print(Text(words.verdict(result), style=style))
    console.print(Text(words.done(result), style="dim"))
    for kind, title, means in words.FINDINGS:
        _print_findings(result.findings.of(kind), title, means, kind in ("broken", "open"), console)
    for text in result.findings.untested[:3]:
        console.print(Text(f"says nothing: {text}", style="yellow"), soft_wrap=True)
    for aspect, title, means in words.DIFFERENCES:
        _print_differences(result, [one for one in result.differences if one.aspect == aspect], title, means, console)
    _print_cost(result, console)
    if result.findings.rows or result.differences:
        name = (result.findings.rows[0].name if result.findings.rows else result.differences[0].name) + ".json"
        console.print()
        console.print(Text(f"Traces: {out}/NAME.json, for instance"), soft_wrap=True)
        for driver in (options.a, options.b):
            console.print(Text(f"  {command()} replay {out / name} --driver {driver}"), soft_wrap=True)


def _heading(title: str, count: int, means: str, console: Console) -> None:
    console.print()
    console.print(Text.assemble((f"{title}: {count}", "bold"), (f"  {means}", "dim")))


# --- findings -----------------------------------------------------------------------------------------------------------------


def _print_findings(rows: list[Row], title: str, means: str, full: bool, console: Console) -> None:
    if not rows:
        return
    _heading(title, len(rows), f"{means}; {words.by_severity(rows)}", console)
    if full:
        for row in rows[:FULL]:
            _print_full(row, console)
    brief = rows[FULL:] if full else rows
    names, severities, properties = ([name(row) for row in brief[:BRIEF]] for name in (_name, _severity, _property))
    widths = [max((len(text) for text in column), default=0) for column in (names, severities, properties)]
    for row, *cells in zip(brief, names, severities, properties, strict=False):
        line = Text()
        for cell, width in zip(cells, widths, strict=True):
            line.append_text(cell).append(" " * (width - len(cell) + 2))
        line.append(_what(row))
        line.truncate(console.width, overflow="ellipsis")
        console.print(line)
    if len(brief) > BRIEF:
        console.print(Text(f"... and {len(brief) - BRIEF} more", style="dim"))


def _name(row: Row) -> Text:
    return Text(row.name)


def _severity(row: Row) -> Text:
    return Text(row.severity, style=STYLES.get(row.severity, ""))


def _property(row: Row) -> Text:
    name = Text(row.best.property_id)
    if len(row.findings) > 1:
        name.append(f" (+{len(row.findings) - 1})", style="dim")
    return name


def _what(row: Row) -> str:
    return row.note if row.kind == "both" and row.note else row.best.minimised.violation.detail


def _print_full(row: Row, console: Console) -> None:
    best = row.best
    head = Text(f"{row.name}  ")
    head.append_text(_severity(row)).append("  ").append_text(_property(row))
    fails = f", fails on {row.fails_on}" if row.kind == "open" else ""
    head.append(f"  {len(best.operations)} ops, {best.level} callers{fails}", style="dim")
    console.print(head)
    console.print(Padding(Text(best.minimised.violation.detail), (0, 0, 0, 4)))
    for line in words.details(row):
        console.print(Padding(Text(line, style="dim"), (0, 0, 0, 4)))


# --- differences --------------------------------------------------------------------------------------------------------------


def _print_differences(result: Comparison, found: list[Difference], title: str, means: str, console: Console) -> None:
    if not found:
        return
    kinds = sum(len(one.kinds) for one in found)
    _heading(title, kinds, f"{'way' if kinds == 1 else 'ways'} of differing: {means}", console)
    for one in found[:BRIEF]:
        _print_line(one, console)
    if len(found) > BRIEF:
        console.print(Text(f"... and {len(found) - BRIEF} more", style="dim"))
    first = found[0]
    console.print(Text(f"{first.name} in full, A left, B right:", style="dim"))
    for text, mark in laid_out(told(first.witness, result.options.a, result.options.b), console.width - 2):
        console.print(Text(f"  {text}", style=MARKS[mark]), soft_wrap=True)


def _print_line(one: Difference, console: Console) -> None:
    text = Text(f"{one.name}  ")
    text.append("; ".join(kind.text for kind in one.kinds[:3]))
    text.append(f"  ({words.counted(one.runs, 'run')}; {'; '.join(map(describe, one.witness.operations))})", style="dim")
    text.truncate(console.width * 2 - 4, overflow="ellipsis")
    console.print(text)


# --- cost ---------------------------------------------------------------------------------------------------------------------


def _print_cost(result: Comparison, console: Console) -> None:
    console.print()
    console.print(Text("Cost", style="bold"))
    parted = [pair for pair in result.costs if not pair.same]
    if parted:
        table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 1, 0, 0))
        for number, name in enumerate(words.COST_HEAD):
            table.add_column(name, justify="left" if number < 2 else "right", no_wrap=True)
        for cells in words.cost_rows(parted):
            table.add_row(*cells)
        console.print(table)
        for pair in parted:
            if words.by_name(pair):
                console.print(Text(words.by_name(pair)))
        console.print(Text(words.COST_MEANS, style="dim"))
    for line in words.cost_failures(result.costs):
        console.print(Text(line, style="yellow"))
    if words.same_cost(result.costs):
        console.print(Text(words.same_cost(result.costs)))


__all__ = ["print_comparison", "progress_printer"]
