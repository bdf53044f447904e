"""A night and a merge as the command line runs them: progress, what is printed at the end, the summary files."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.text import Text

from hvmodel import document
from hvmodel.jobs.nightly import figures
from hvmodel.jobs.nightly.join import Books, join
from hvmodel.jobs.nightly.journal import write_whole
from hvmodel.jobs.nightly.ledger import INTERRUPTED, NEW
from hvmodel.jobs.nightly.night import DISK, HARNESS, Night, Options, Progress, closed, night, status_of
from hvmodel.jobs.nightly.state import BadState, load, locked, save, unfinished, work_directory
from hvmodel.jobs.nightly.summary import page
from hvmodel.jobs.nightly.takings import Takings
from hvmodel.jobs.progress import Line, erase

PRINTED = 10
"""So many causes of new findings are printed; the summary has all."""


def progress_printer() -> Progress:
    """Shows where the night is: one line that renews itself on a terminal, a line a minute elsewhere. On stderr."""
    line = Line(every=60)

    def show(step: str, takings: Takings, left: float) -> None:
        if not line.due():
            return
        text = f"night: {step}, {takings.tally.operations:,} operations, {len(takings.entries)} signatures, {left:,.0f} s left"
        line.show(text)

    return show


def _say(text: str) -> None:
    start = "\r\033[K" if sys.stderr.isatty() else ""
    print(f"{start}hvmodel nightly: {text}", file=sys.stderr, flush=True)


def do_night(options: Options, console: Console) -> int:
    """Do a night, write its summary, print its outcome; returns the exit status. Raises BadState; KeyboardInterrupt when
    an interrupted night has been written down."""
    came = night(options, progress_printer(), _say)
    erase()
    record, status = came.record, came.status
    if came.done_before:
        _print(console, f"night {record.name} is over already; its summary is {options.state / 'summary.md'}")
        return status
    notes = [f"The disk did not take all of this night ({came.problem})."] if came.problem else []
    shown = page(came.books, record.date, notes)
    try:
        _write(options.state, shown)
        _print_outcome(console, came.books, record.date, shown, options.state)
    except OSError as error:
        _say(f"cannot write the summary to {error.filename or options.state}: {error.strerror}")
        status = status if status == HARNESS else DISK
        _print(console, document.markdown(shown))
    _print_unkept(came, options.state)
    if record.ended == INTERRUPTED:
        raise KeyboardInterrupt
    return status


def merge(states: Sequence[Path], into: Path, console: Console) -> int:
    """Join state directories into one, which may be new, write the summary of the newest night, and return its exit status. Raises
    BadState, OtherDriver, OSError."""
    books = [_whole(path) for path in states]
    with locked(into):
        if (into / "ledger.json").exists():
            books.append(_whole(into))
        joined = join(books)
        save(into, joined, with_excuses=True)
        nights, when = joined.ledger.nights, joined.ledger.last_date
        shown = page(joined, when)
        _write(into, shown)
    _print(console, f"{len(states)} states joined into {into}: {len(nights)} nights, {len(joined.ledger.entries)} findings")
    _print_outcome(console, joined, when, shown, into)
    return status_of(joined.ledger.of_date(when), bool(figures.tonight(joined, when).get(NEW)))


def _whole(state: Path) -> Books:
    """What a state directory knows, with what is still in the journals of nights that did not end."""
    left = unfinished(state)
    books = load(state, left[0][0].driver if left and not (state / "ledger.json").exists() else None)
    for plan, directory in left:
        if plan.driver != books.ledger.driver:
            continue
        try:
            books = closed(books, plan, directory, INTERRUPTED)
        except OSError as error:
            raise BadState(f"{error.filename or directory}: {error.strerror}") from None
    return books


def _write(state: Path, shown: document.Page) -> None:
    write_whole(state / "summary.md", document.markdown(shown))
    write_whole(state / "summary.html", document.html(shown))


def _print(console: Console, text: str) -> None:
    console.print(Text(text), soft_wrap=True)


def _print_outcome(console: Console, books: Books, when: str, shown: document.Page, state: Path) -> None:
    """The verdict, the new findings, the worst first, and where to read on."""
    _print(console, f"{shown.title}: {shown.verdict}")
    new = figures.tonight(books, when).get(NEW, [])
    causes = figures.causes([books.ledger.entries[name] for name in new])
    for best, *others in causes[:PRINTED]:
        more = f" (+{len(others)})" if others else ""
        _print(console, f"  new: {best.severity}: {best.summary}\n       {best.signature}{more}: {state / 'traces' / best.file}")
    if len(causes) > PRINTED:
        _print(console, f"  and {len(causes) - PRINTED} more causes")
    _print(console, f"summary: {state / 'summary.md'}, {state / 'summary.html'}")


def _print_unkept(came: Night, state: Path) -> None:
    """Findings that are in memory only leave the house on stdout, in a form that can be put back."""
    if not came.unkept:
        return
    _say(f"the last {len(came.unkept)} lines on stdout are findings that the disk did not take; put back as the file")
    _say(f"{work_directory(state, came.record.name)}/journal-99999.jsonl they are known to the night when it is resumed")
    for record in came.unkept:
        print(json.dumps(record, separators=(",", ":")))
