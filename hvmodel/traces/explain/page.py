"""The story as a page, for Markdown and HTML."""

from __future__ import annotations

from collections.abc import Iterator
from html import escape

from hvmodel import __version__
from hvmodel.document import Block, Folded, Page, Picture, Section, Table, Text, Tree
from hvmodel.traces.explain import reading
from hvmodel.traces.explain.changes import Change
from hvmodel.traces.explain.plain import code
from hvmodel.traces.explain.ruler import Ruler, Scale, scales
from hvmodel.traces.explain.ruler_svg import COLUMNS, svg
from hvmodel.traces.explain.ruler_text import ASCII, draw, gutter_of
from hvmodel.traces.explain.told import Act, Ending, Gap, Story

WIDTH = 76
"""Columns of a ruler in Markdown, which mails carry as well."""


def page(story: Story) -> Page:
    """The whole explanation."""
    sections = [Section("How it begins", list(_beginning(story)))]
    sections += _steps(story)
    if story.ending is not None:
        sections.append(Section(_ENDS[story.mood], list(_ending(story.ending))))
    if story.generality is not None:
        sections.append(Section("What of it matters", list(_generality(story))))
    sections.append(Section("About this trace", list(_about(story))))
    verdict = f"{story.headline} ({story.severity})" if story.severity else story.headline
    return Page(story.title, verdict, story.mood, sections)


_ENDS = {"bad": "What is wrong", "good": "What holds", "odd": "What was not put to the test"}


def _beginning(story: Story) -> Iterator[Block]:
    yield Text(f"The driver is {code(story.driver)}. " + ". ".join(line[:1].upper() + line[1:] for line in story.beginning) + ".")
    yield Folded("How to read this", [Text(line) for line in reading.lines(story)])


# --- operations ---------------------------------------------------------------------------------------------------------------


def _steps(story: Story) -> Iterator[Section]:
    rulers = story.rulers
    text = iter(scales(rulers, WIDTH - gutter_of(WIDTH)))
    drawing = iter(scales(rulers, COLUMNS))
    for act in story.acts:
        if isinstance(act, Gap):
            yield Section(f"Steps {act.first} to {act.last}", [Text(f"{act.text}.")])
        else:
            blocks = list(_act(act))
            blocks += [_ruler(ruler, next(text), next(drawing)) for ruler in act.rulers]
            blocks += [Text(f"Fails here: {line}", warning=True) for line in act.failures]
            blocks += [Text(f"No driver could have avoided this: {line}") for line in act.environment]
            yield Section(f"Step {act.number}", blocks)


def _act(act: Act) -> Iterator[Block]:
    yield Text(f"{act.request}.")
    for line in act.refusals:
        yield Text(f"Injected: {line}.")
    yield Text(f"Answer: {act.answer}.")
    if act.calls:
        yield Tree(act.calls)
    if act.changes:
        yield _table("changed", act.changes)


def _table(head: str, changes: tuple[Change, ...]) -> Table:
    rows, last = [], ""
    for change in changes:
        rows.append((change.of if change.of != last else "", change.who, code(change.what) if change.of else change.what))
        last = change.of
    return Table((head, "view", ""), rows)


def _ruler(ruler: Ruler, text: Scale, drawing: Scale) -> Block:
    lines = [f"{ruler.domain}:", *(line.text for line in draw(ruler, text, WIDTH, ASCII))]
    figure = f"<figure><figcaption>{escape(ruler.domain)}</figcaption>{svg(ruler, drawing)}</figure>"
    return Picture(figure, "\n".join(lines))


# --- the ending ---------------------------------------------------------------------------------------------------------------


def _ending(ending: Ending) -> Iterator[Block]:
    yield Text(f"Expected: {ending.expected}. (Source: {code(ending.source)})")
    for line in ending.there:
        yield Text(f"There is: {line}.")
    if ending.parting:
        yield _table("where views part", ending.parting)
    if ending.matters:
        yield Text(f"Why it matters: {ending.matters}")
    if ending.severity:
        yield Text(f"Severity: {ending.severity}.")
    for label, text in reading.takes(ending):
        yield Text(f"{label}: {text}.")
    if ending.also:
        names = ", ".join(code(name) for name in ending.also)
        yield Text(f"Other properties that fail in this run: {names}.")


def _generality(story: Story) -> Iterator[Block]:
    assert story.generality is not None
    for head, lines in (("Does not matter", story.generality.free), ("Matters", story.generality.bound)):
        if lines:
            yield Table((head,), [(line,) for line in lines])
    yield Text(f"Length: {story.generality.shortness}.")


def _about(story: Story) -> Iterator[Block]:
    for line in story.notes:
        yield Text(f"Note: {line}.")
    if story.origin:
        yield Table(("", ""), [(code(name), code(value)) for name, value in story.origin])
    yield Text(f"Told by hvmodel {__version__}. To see it yourself: `hvmodel replay TRACE`, with this trace's file.")


__all__ = ["page"]
