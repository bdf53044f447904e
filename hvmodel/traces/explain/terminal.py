"""The story on a terminal: as wide as it is, plain where it is none, in ASCII where it has no other characters."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator

from rich.console import Console
from rich.text import Text

from hvmodel.document import Branch
from hvmodel.traces.explain import reading
from hvmodel.traces.explain.acts import Act, Gap
from hvmodel.traces.explain.changes import Change
from hvmodel.traces.explain.ending import Ending
from hvmodel.traces.explain.plain import only_ascii
from hvmodel.traces.explain.ruler import Ruler, Scale, fitted
from hvmodel.traces.explain.ruler_text import ASCII, UNICODE, Line, draw, gutter_of
from hvmodel.traces.explain.told import Story

WIDEST = 140
"""Lines do not get longer than this, however wide the terminal is."""

NARROWEST = 40
"""On a narrower one lines get longer than it is."""

INDENT = 4
"""Columns before everything that belongs to a step."""

LABEL = 12
"""Columns for the words in front of the paragraphs of the ending."""

_LOOKS = {"failed": "red", "refused": "bold yellow", "dim": "dim", "log": "dim", "hypercall": "dim"}
_MOODS = {"bad": "bold red", "good": "bold green", "odd": "bold yellow"}


def show(story: Story, console: Console) -> None:
    """Print a story."""
    Printer(console).story(story)


class Printer:
    """Prints the parts of a story to one console."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.ascii = not console.encoding.lower().startswith("utf")
        self.width = max(min(console.width, WIDEST), NARROWEST)
        self.glyphs = ASCII if self.ascii else UNICODE

    # --- lines ------------------------------------------------------------------------------------------------------------

    def line(self, text: str, style: str = "") -> None:
        """One line as it is."""
        self._print(Text(text, style=style))

    def _print(self, text: Text) -> None:
        self.console.print(text, soft_wrap=True)

    def wrapped(self, text: str, indent: int = 0, hanging: int = 0, style: str = "", first: str = "") -> None:
        """A paragraph; ``first`` begins it, later lines are ``hanging`` columns further in."""
        for line in self._wrap(text, " " * indent + first, " " * (indent + hanging)):
            self.line(line, style)

    def _wrap(self, text: str, first: str, later: str) -> list[str]:
        shown = only_ascii(text) if self.ascii else text
        return textwrap.wrap(
            shown,
            max(self.width, len(later) + 14),
            initial_indent=first,
            subsequent_indent=later,
            break_on_hyphens=False,
        ) or [first.rstrip()]

    def labelled(self, label: str, text: str, style: str = "") -> None:
        """A paragraph beside its label."""
        beside = " " * LABEL
        for number, line in enumerate(self._wrap(text, beside, beside)):
            label = label if number == 0 else ""
            self._print(Text().append(label.ljust(LABEL), "bold").append(line[LABEL:], style))

    # --- the story --------------------------------------------------------------------------------------------------------

    def story(self, story: Story) -> None:
        """All of it."""
        self.wrapped(story.title, 0, 2, _MOODS[story.mood])
        self.wrapped(story.headline, 2)
        self.line("")
        self.labelled("Begins with", "; ".join(story.beginning) + ".")
        self.line("To read it", "bold")
        for line in reading.lines(story):
            self.wrapped(line, INDENT, 2, "dim", "- ")
        self._acts(story)
        for line in story.notes:
            self.wrapped(f"Note: {line}", 0, 2, "yellow")
        if story.ending is not None:
            self._ending(story.ending, story)
        if story.generality is not None:
            self._generality(story)
        if story.origin:
            self.line("")
            self.labelled("Origin", "; ".join(f"{name} {value}" for name, value in story.origin), "dim")

    def _acts(self, story: Story) -> None:
        found = iter(fitted(story.rulers, self._ruler_width() - gutter_of(self._ruler_width())))
        for act in story.acts:
            self.line("")
            if isinstance(act, Gap):
                self.wrapped(f"{act.title}: {act.text}", 0, INDENT, "dim")
            else:
                self._act(act, [next(found) for _ in act.rulers])

    def _ruler_width(self) -> int:
        return self.width - INDENT

    def _act(self, act: Act, found: list[tuple[Ruler, Scale]]) -> None:
        self.wrapped(act.request, 0, INDENT, "bold" if act.applied else "dim", f"{act.number}. ".ljust(INDENT))
        for line in act.refusals:
            self.wrapped(f"injected: {line}", INDENT, 2, "yellow")
        self.wrapped(f"answer: {act.answer}", INDENT, 2, "" if act.applied else "dim")
        for branch in self._tree(act.calls, " " * INDENT):
            self._print(branch)
        self._table(act.changes, "changed", "cyan")
        for ruler, scale in found:
            self._ruler(ruler, scale)
        for text in act.failures:
            self.wrapped(f"!! {text}", INDENT, 3, "bold red")
        for text in act.environment:
            self.wrapped(f"no driver could have avoided: {text}", INDENT, 2, "dim")

    def _tree(self, branches: tuple[Branch, ...], before: str) -> Iterator[Text]:
        tee, last, bar = ("|- ", "`- ", "|  ") if self.ascii else ("├─ ", "└─ ", "│  ")
        for number, branch in enumerate(branches):
            end = number == len(branches) - 1
            inner = before + ("   " if end else bar)
            below = inner + (bar if branch.below else "  ")
            for i, line in enumerate(self._wrap(branch.text, before + (last if end else tee), below)):
                lead = len(before) + 3 if i == 0 else len(below)
                shown = Text(line)
                shown.stylize("dim", 0, lead)
                shown.stylize(_LOOKS.get(branch.look, ""), lead)
                yield shown
            yield from self._tree(branch.below, inner)

    def _table(self, changes: tuple[Change, ...], head: str, style: str) -> None:
        if not changes:
            return
        self.line(" " * INDENT + head, "bold")
        last, wide = "", max(len(change.who) for change in changes)
        for change in changes:
            if change.of != last and change.of:
                self.wrapped(change.of, INDENT + 2, 2)
            last = change.of
            who = f"{change.who:<{wide}}  " if change.who else ""
            self.wrapped(change.what, INDENT + 4, len(who) + 2, style, who)

    def _ruler(self, ruler: Ruler, scale: Scale) -> None:
        self.line(" " * INDENT + ruler.domain, "bold")
        for line in draw(ruler, scale, self._ruler_width(), self.glyphs):
            self._print(self._styled(line))

    def _styled(self, line: Line) -> Text:
        text = Text(" " * INDENT + line.text)
        if line.role == "lane":
            text.stylize("green", INDENT + gutter_of(self._ruler_width()))
            for first, end in line.hot:
                text.stylize("bold red", INDENT + first, INDENT + end)
        else:
            text.stylize("bold red" if line.role == "mark" else "dim")
        return text

    # --- the ending -------------------------------------------------------------------------------------------------------

    def _ending(self, ending: Ending, story: Story) -> None:
        self.line("")
        title = story.title + (f" [{story.severity}]" if story.severity else "")
        self.wrapped(title, 0, 2, _MOODS[story.mood])
        self.labelled("Expected", ending.expected)
        self.labelled("There is", "; ".join(ending.there), "bold" if story.mood == "bad" else "")
        self._table(ending.parting, "where the views part", "")
        if ending.matters:
            self.labelled("It matters", ending.matters)
        if ending.severity:
            self.labelled("Severity", ending.severity)
        for label, text in reading.takes(ending):
            self.labelled(label, text)
        self.labelled("Source", ending.source, "dim")
        if ending.also:
            self.labelled("Also fails", ", ".join(ending.also), "dim")

    def _generality(self, story: Story) -> None:
        assert story.generality is not None
        self.line("")
        self.line("What else fails the same way", "bold")
        for head, lines in (("May differ", story.generality.free), ("Must be so", story.generality.bound)):
            for number, line in enumerate(lines):
                self.labelled(head if number == 0 else "", line)
        self.labelled("Length", story.generality.shortness)


__all__ = ["Printer", "show"]
