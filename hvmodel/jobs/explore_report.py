"""Exploring on the screen: where the search is while it runs; then a row a part, the verdict in words, and shortest traces."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from hvmodel.gears.exhaustive.reach import add_counts, never
from hvmodel.gears.exhaustive.search import FAILS, HOLDS, UNDETERMINED, Search
from hvmodel.jobs.explore import Progress, Report
from hvmodel.jobs.progress import Line, erase
from hvmodel.jobs.report import command, print_rows
from hvmodel.operations import describe
from hvmodel.world import World

STYLES = {HOLDS: "green", FAILS: "bold red", UNDETERMINED: "yellow"}

TOLD = 3
"""So many traces are told in full."""


def progress_printer() -> Progress:
    """One line that renews itself on a terminal, a line every ten seconds elsewhere. On stderr."""
    line = Line()
    started = time.monotonic()

    def show(report: Report, search: Search, done: int, states: int) -> None:
        if not line.due():
            return
        number = report.searches.index(search) + 1
        text = (
            f"exploring {number} of {len(report.searches)} ({search.scope.name}, {search.profile}): depth {search.depth}, "
            f"{done:,} of {states:,} states, {search.states - search.done:,} in front, {report.transitions:,} transitions, "
            f"{time.monotonic() - started:.0f} s"
        )
        line.show(text)

    return show


def counter_printer(what: str) -> Callable[[int, int], None]:
    """Shows how many of how many are done, as above."""
    line = Line()

    def show(done: int, planned: int) -> None:
        if line.due(done >= planned):
            line.show(f"{done} of {planned} {what}")

    return show


def print_never(report: Report, console: Console) -> None:
    """What no state within the scope exercised."""
    counts: dict[str, dict[str, int]] = {}
    for search in report.searches:
        add_counts(counts, search.reach)
    first = report.searches[0]
    world = World(first.scope.configuration(first.profile), report.options.driver)
    console.print()
    for kind, found in never(counts, [search.scope for search in report.searches], world).items():
        console.print(Text(f"{kind}: {len(found)}", style="bold"))
        for name in found:
            console.print(Text(f"  {name}"), soft_wrap=True)


def print_explored(report: Report, console: Console) -> None:
    """A row a part, what holds and what that means, and a shortest trace of each failure."""
    erase()
    _print_parts(report, console)
    if report.groups:
        console.print()
        print_rows(report.groups, console)
        for item in report.groups[:TOLD]:
            console.print()
            best = item.best
            console.print(Text(f"{best.property_id}, a shortest trace within the scope:", style="bold"))
            for number, operation in enumerate(best.operations, 1):
                console.print(Text(f"  {number}  {describe(operation)}"), soft_wrap=True)
            console.print(Text(f"  {best.minimised.violation.detail}", style="red"), soft_wrap=True)
        console.print()
        console.print(Text(f"Explain one: {command()} explain {Path(report.groups[0].best.trace)}"), soft_wrap=True)
    for line in report.unrepeated:
        console.print(Text(line, style="red"), soft_wrap=True)
    console.print()
    _print_verdict(report, console)


def _print_parts(report: Report, console: Console) -> None:
    parts: dict[str, list[Search]] = {}
    for search in report.searches:
        parts.setdefault(search.scope.name, []).append(search)
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("part", no_wrap=True)
    table.add_column("scope", ratio=1, overflow="fold")
    table.add_column("states", justify="right", no_wrap=True)
    table.add_column("transitions", justify="right", no_wrap=True)
    table.add_column("depth", justify="right", no_wrap=True)
    table.add_column("s", justify="right", no_wrap=True)
    table.add_column("verdict", overflow="fold")
    for name, searches in parts.items():
        table.add_row(
            name,
            Text(searches[0].scope.sentence(), style="dim"),
            f"{sum(search.states for search in searches):,}",
            f"{sum(search.transitions for search in searches):,}",
            str(max(search.depth for search in searches)),
            f"{sum(search.seconds for search in searches):.0f}",
            _verdicts(searches),
        )
    console.print(table)


def _verdicts(searches: list[Search]) -> Text:
    """The verdict of a part; where the profiles part, which of them has which."""
    by: dict[str, list[str]] = {}
    for search in searches:
        by.setdefault(search.verdict, []).append(search.profile)
    text = Text()
    for verdict in (FAILS, UNDETERMINED, HOLDS):
        profiles = by.get(verdict)
        if profiles:
            text.append(" " if text.plain else "")
            text.append(verdict, style=STYLES[verdict])
            text.append(f" ({', '.join(profiles)})" if len(by) > 1 else "", style="dim")
    return text


def _print_verdict(report: Report, console: Console) -> None:
    searches, options = report.searches, report.options
    cpu = sum(search.cpu for search in searches)
    rate = f", {report.transitions / cpu:,.0f} transitions a second of processor time" if cpu > 0.5 else ""
    largest = max(searches, key=lambda search: search.states)
    size = f", {largest.bytes_per_state():.0f} bytes a state" if largest.states > 1000 else ""
    counted = f"{report.states:,} states, {report.transitions:,} transitions, {report.seconds:.0f} s{rate}{size}"
    profiles = f"profile {options.profiles[0]}" if len(options.profiles) == 1 else f"profiles {', '.join(options.profiles)}"
    if report.verdict == HOLDS:
        text = f"holds within the scope: every property on {options.driver}, {profiles}"
    elif report.verdict == FAILS:
        text = f"fails: {len(report.findings)} findings on {options.driver}, {profiles}"
        if not options.everything:
            text += "; each part ended with the depth of its first failure (--all goes on)"
    else:
        done = sum(search.complete for search in searches)
        left = sum(search.states - search.done for search in searches)
        why = "interrupted" if report.interrupted else "the budget is spent"
        text = (
            f"undetermined: {why}; {done} of {len(searches)} searches done, {left:,} states were not looked behind. That is no pass"
        )
        if options.kept is not None:
            text += f"; the same command goes on from {options.kept}"
    console.print(Text(text, style=STYLES[report.verdict]), soft_wrap=True)
    console.print(Text(counted, style="dim"), soft_wrap=True)


__all__ = ["print_explored", "progress_printer"]
