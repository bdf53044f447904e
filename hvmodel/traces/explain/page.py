"""The story as a page, for Markdown and HTML."""

from __future__ import annotations

from collections.abc import Iterator
from html import escape

from hvmodel import __version__
from hvmodel.document import Block, Folded, Page, Picture, Section, Table, Text, Tree
from hvmodel.traces.explain import reading
from hvmodel.traces.explain.acts import Act, Gap
from hvmodel.traces.explain.changes import Change
from hvmodel.traces.explain.ending import Ending
from hvmodel.traces.explain.plain import code, plain
from hvmodel.traces.explain.ruler import Ruler, Scale, fitted
from hvmodel.traces.explain.ruler_svg import COLUMNS, svg
from hvmodel.traces.explain.ruler_text import ASCII, draw, gutter_of
from hvmodel.traces.explain.told import Story

WIDTH = 76
"""Columns of a ruler in Markdown, which mails carry as well."""


def page(story: Story) -> Page:
    """The whole explanation."""
    sections = [Section("How it begins", list(_beginning(story)))]
    sections += _steps(story)
    if story.ending is not None:
        sections.append(Section(_ENDS[story.mood], list(_ending(story.ending))))
    if story.generality is not None:
        sections.append(Section("What else fails the same way", list(_generality(story))))
    sections.append(Section("About this trace", list(_about(story))))
    verdict = f"{story.headline} ({story.severity})" if story.severity else story.headline
    return Page(story.title, verdict, story.mood, sections)


_ENDS = {"bad": "What is wrong", "good": "What holds", "odd": "What was not put to the test"}


def _beginning(story: Story) -> Iterator[Block]:
    yield Text(f"The driver is {code(story.driver)}. " + ". ".join(line[:1].upper() + line[1:] for line in story.beginning) + ".")
    yield Folded("How to read this", [Text(line) for line in reading.lines(story)])


# --- operations ---------------------------------------------------------------------------------------------------------------


def _steps(story: Story) -> Iterator[Section]:
    text = iter(fitted(story.rulers, WIDTH - gutter_of(WIDTH)))
    drawing = iter(fitted(story.rulers, COLUMNS))
    for act in story.acts:
        if isinstance(act, Gap):
            yield Section(act.title, [Text(f"{act.text}.")])
        else:
            blocks = list(_act(act))
            blocks += [_ruler(next(text), next(drawing)) for _ in act.rulers]
            blocks += [Text(f"Fails here: {line}", warning=True) for line in act.failures]
            blocks += [Text(f"No driver could have avoided this: {line}") for line in act.environment]
            yield Section(f"{act.number}. {act.request}", blocks)


def _act(act: Act) -> Iterator[Block]:
    for line in act.refusals:
        yield Text(f"{line}.", label="Injected")
    yield Text(f"{act.answer}.", label="Answer")
    if act.calls:
        yield Tree(act.calls)
    if act.changes:
        yield _table("changed", act.changes)


def _table(head: str, changes: tuple[Change, ...]) -> Table:
    rows, last = [], ""
    for change in changes:
        rows.append((change.of if change.of != last else "", change.who, change.what))
        last = change.of
    return Table((head, "view", ""), rows, plain=True)


def _ruler(text: tuple[Ruler, Scale], drawing: tuple[Ruler, Scale]) -> Block:
    domain = text[0].domain
    lines = [f"{domain}:", *(line.text for line in draw(*text, WIDTH, ASCII))]
    figure = f"<figure><figcaption>{escape(domain)}</figcaption>{svg(*drawing)}</figure>"
    return Picture(figure, "\n".join(lines))


# --- the ending ---------------------------------------------------------------------------------------------------------------


def _ending(ending: Ending) -> Iterator[Block]:
    yield Text(f"{ending.expected}.", label="Expected")
    for line in ending.there:
        yield Text(f"{line}.", label="There is")
    if ending.parting:
        yield _table("where views part", ending.parting)
    if ending.matters:
        yield Text(ending.matters, label="Why it matters")
    if ending.severity:
        yield Text(f"{ending.severity}.", label="Severity")
    for label, text in reading.takes(ending):
        yield Text(f"{text}.", label=label)
    yield Text(f"{code(ending.source)}.", label="Source")
    if ending.also:
        names = ", ".join(code(name) for name in ending.also)
        yield Text(f"{names}.", label="Also fails")


def _generality(story: Story) -> Iterator[Block]:
    assert story.generality is not None
    for head, lines in (("may differ", story.generality.free), ("must be so", story.generality.bound)):
        if lines:
            yield Table((head,), [(plain(line),) for line in lines], plain=True)
    yield Text(f"{story.generality.shortness}.", label="Length")


def _about(story: Story) -> Iterator[Block]:
    for line in story.notes:
        yield Text(f"{line}.", label="Note")
    if story.origin:
        yield Table(("origin", ""), story.origin, plain=True)
    yield Text(f"Told by hvmodel {__version__}. To see it yourself: `hvmodel replay TRACE`, with this trace's file.")


__all__ = ["page"]
