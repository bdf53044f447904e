"""The comparison as a page, for the mail that goes with a revision."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from textwrap import wrap

from hvmodel import __version__
from hvmodel.document import Block, Code, Page, Section, Table, Text
from hvmodel.jobs.compare import words
from hvmodel.jobs.compare.job import Comparison, Difference
from hvmodel.jobs.compare.sides import laid_out, told
from hvmodel.jobs.compare.sorting import Row

WIDTH = 76
"""Columns of what is set in columns: mails carry as much."""

TOLD = 6
"""Differences of one sort that are told in full: a mail has to be read. All of them are trace files."""


def page(result: Comparison) -> Page:
    """The whole comparison."""
    options = result.options
    sections = [Section("What was compared", [Text(f"A is `{options.a}`, B is `{options.b}`."), Text(f"{words.done(result)}.")])]
    for kind, title, means in words.FINDINGS:
        rows = result.findings.of(kind)
        if rows:
            sections.append(Section(f"{title}: {len(rows)}", list(_findings(rows, means))))
    if result.findings.untested:
        blocks: list[Block] = [Text(f"{text}.") for text in result.findings.untested]
        sections.append(Section("Traces that say nothing", blocks))
    for aspect, title, means in words.DIFFERENCES:
        found = [one for one in result.differences if one.aspect == aspect]
        if found:
            kinds = sum(len(one.kinds) for one in found)
            sections.append(Section(f"{title}: {kinds}", list(_differences(result, found, means))))
    sections.append(Section("Cost", list(_cost(result))))
    about = f"Compared by hvmodel {__version__}. What holds on B in its trace may still be there in a form that was not found."
    sections.append(Section("About this page", [Text(about)]))
    return Page("B against A", words.verdict(result), "bad" if result.status else "good", sections)


def _findings(rows: Sequence[Row], means: str) -> Iterator[Block]:
    """Those that matter most in full, the others with what happened."""
    yield Text(f"{means[:1].upper()}{means[1:]}; {words.by_severity(rows)}.")
    full = rows[0].kind in ("broken", "open")
    lines: list[str] = []
    for row in rows:
        best = row.best
        more = f" (+{len(row.findings) - 1})" if len(row.findings) > 1 else ""
        head = f"{row.name}: {row.severity}, {best.property_id}{more}, {len(best.operations)} operations, {best.level} callers"
        rest = list(words.details(row)) if full else [row.note] * bool(row.note)
        lines += laid_lines(head, [best.minimised.violation.detail, *rest])
    yield Code("\n".join(lines))


def laid_lines(head: str, lines: Sequence[str]) -> Iterator[str]:
    """A head and indented lines below it, all within :data:`WIDTH`."""
    yield from wrap(head, WIDTH, subsequent_indent="  ", break_on_hyphens=False)
    for line in lines:
        yield from wrap(line, WIDTH, initial_indent="  ", subsequent_indent="    ", break_on_hyphens=False)


def _differences(result: Comparison, found: Sequence[Difference], means: str) -> Iterator[Block]:
    """The first :data:`TOLD` in two columns, the others by their names."""
    yield Text(f"{means[:1].upper()}{means[1:]}. Shortest traces; A left, B right where they differ.")
    for one in found[:TOLD]:
        for kind in one.kinds:
            yield Text(f"{kind.text}.", label=one.name if kind is one.kinds[0] else "and")
        yield Text(f"Seen in {words.counted(one.runs, 'run')}.")
        yield Code("\n".join(text for text, _ in laid_out(told(one.witness, result.options.a, result.options.b), WIDTH)))
    lines: list[str] = []
    for one in found[TOLD:]:
        lines += laid_lines(f"{one.name}: {'; '.join(kind.text for kind in one.kinds)} ({words.counted(one.runs, 'run')})", [])
    if lines:
        yield Code("\n".join(lines))


def _cost(result: Comparison) -> Iterator[Block]:
    yield Text(words.COST_MEANS)
    yield Table(words.COST_HEAD, list(words.cost_rows(result.costs)), plain=True)
    for line in words.cost_failures(result.costs):
        yield Text(f"{line}.")
    for pair in result.costs:
        if words.by_name(pair):
            yield Text(f"{words.by_name(pair)}.")


__all__ = ["page"]
