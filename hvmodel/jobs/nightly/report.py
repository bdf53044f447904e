"""A night and a merge as the command line runs them: progress, what is printed at the end, the summary files."""

from __future__ import annotations

import sys
import time
from pathlib import Path

from rich.console import Console
from rich.text import Text

from hvmodel import document
from hvmodel.jobs.nightly.join import Books, join
from hvmodel.jobs.nightly.journal import write_whole
from hvmodel.jobs.nightly.night import DISK, Night, Options, Progress, closed, night, status_of
from hvmodel.jobs.nightly.state import BadState, load, locked, save, unfinished
from hvmodel.jobs.nightly.summary import page
from hvmodel.jobs.nightly.takings import Takings


def progress_printer() -> Progress:
    """Shows where the night is: one line that renews itself on a terminal, a line a minute elsewhere. On stderr."""
    terminal = sys.stderr.isatty()
    last = time.monotonic() - (0 if terminal else 55)

    def show(step: str, takings: Takings, left: float) -> None:
        nonlocal last
        now = time.monotonic()
        if now - last < (0.5 if terminal else 60):
            return
        last = now
        text = f"night: {step}, {takings.tally.operations:,} operations, {len(takings.entries)} signatures, {left:,.0f} s left"
        print(f"\r{text}\033[K" if terminal else text, end="" if terminal else "\n", file=sys.stderr, flush=True)

    return show


def _say(text: str) -> None:
    start = "\r\033[K" if sys.stderr.isatty() else ""
    print(f"{start}hvmodel nightly: {text}", file=sys.stderr, flush=True)


def do_night(options: Options, console: Console) -> int:
    """Do a night, write its summary, print its outcome; returns the exit status. Raises BadState; KeyboardInterrupt when
    an interrupted night has been written down."""
    came = night(options, progress_printer(), _say)
    if sys.stderr.isatty():
        print("\r\033[K", end="", file=sys.stderr, flush=True)
    record, status = came.record, came.status
    if came.done_before:
        console.print(Text(f"night {record.name} is over already; its summary is {options.state / 'summary.md'}"), soft_wrap=True)
        return status
    shown = page(came.books, record.date, _notes(came))
    problem = _write(options.state, shown)
    if problem:
        _say(problem)
        status = status if status == status_of(record, came.unkept) and status not in (0, 1, 3) else DISK
        console.print(Text(document.markdown(shown)), soft_wrap=True)
    console.print(Text(f"{shown.title}: {shown.verdict}"), soft_wrap=True)
    for name in record.new:
        entry = came.books.ledger.entries[name]
        console.print(Text(f"  new: {name}: {entry.summary}"), soft_wrap=True)
        console.print(Text(f"       {options.state / 'traces' / entry.file}"), soft_wrap=True)
    if not problem:
        console.print(Text(f"summary: {options.state / 'summary.md'}, {options.state / 'summary.html'}"), soft_wrap=True)
    if came.interrupted:
        raise KeyboardInterrupt
    return status


def _notes(came: Night) -> list[str]:
    return [f"The disk did not take all of this night ({came.unkept}): the ledger is that of before."] if came.unkept else []


def _write(state: Path, shown: document.Page) -> str:
    try:
        write_whole(state / "summary.md", document.markdown(shown))
        write_whole(state / "summary.html", document.html(shown))
    except OSError as error:
        return f"cannot write the summary to {error.filename or state}: {error.strerror}"
    return ""


def merge(states: list[Path], into: Path, console: Console) -> None:
    """Join state directories into one, which may be new, and write its summary. Raises BadState, OtherDriver, OSError."""
    books = [_whole(path) for path in states]
    with locked(into):
        if (into / "ledger.json").exists():
            books.append(_whole(into))
        joined = join(books)
        save(into, joined, with_excuses=True)
        when = joined.ledger.last_date
        shown = page(joined, when) if when else None
        if shown is not None:
            write_whole(into / "summary.md", document.markdown(shown))
            write_whole(into / "summary.html", document.html(shown))
    nights = len(joined.ledger.nights)
    console.print(
        Text(f"{len(states)} states joined into {into}: {nights} nights, {len(joined.ledger.entries)} findings"), soft_wrap=True
    )
    if shown is not None:
        console.print(Text(f"{shown.title}: {shown.verdict}"), soft_wrap=True)


def _whole(state: Path) -> Books:
    """What a state directory knows, with what is still in the journals of nights that did not end."""
    left = unfinished(state)
    books = load(state, left[0][0].driver if left and not (state / "ledger.json").exists() else None)
    for plan, directory in left:
        if plan.driver != books.ledger.driver:
            continue
        try:
            books = closed(books, plan, directory)
        except OSError as error:
            raise BadState(f"{error.filename or directory}: {error.strerror}") from None
    return books
