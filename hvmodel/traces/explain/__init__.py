"""Explaining a trace to somebody who knows kernels and has never seen this project: on a terminal, as Markdown, as an HTML page.

``told.py`` makes one structure of a trace, the told story, from ``acts.py`` and ``ending.py``; ``terminal.py`` and ``page.py``
render it. ``requests.py``, ``calls.py``, ``changes.py`` and ``meaning.py`` put its parts in words; ``ruler*.py`` draw address
spaces.
"""

from __future__ import annotations

import io
from dataclasses import replace

from rich.console import Console

from hvmodel import document
from hvmodel.gears.generalise import generalise as ask_what_matters
from hvmodel.gears.generalise import target_of
from hvmodel.traces.explain.page import page
from hvmodel.traces.explain.plain import counted
from hvmodel.traces.explain.terminal import show
from hvmodel.traces.explain.told import STATUS, Generality, Story, told
from hvmodel.traces.format import Trace
from hvmodel.traces.shrink import subject
from hvmodel.traces.verdict import FAILS

FAILING = STATUS[FAILS]
LONGEST, MOST = 40, 1000
"""Operations of a trace, and calls and hypercalls in its run, up to which it is asked what else fails the same way: that takes
hundreds of runs."""


def story(trace: Trace, driver: str, generalise: bool = True) -> Story:
    """The told story; with ``generalise`` also what else fails the same way, or a note that the trace is too long to ask. Raises
    KeyError for an unknown driver."""
    one = told(trace, driver)
    if not generalise or one.status != FAILING:
        return one
    if len(trace.operations) > LONGEST or one.work > MOST:
        size = f"{counted(len(trace.operations), 'operation')}, {counted(one.work, 'call')} and hypercalls"
        return replace(one, notes=(*one.notes, f"what else fails the same way was not asked of {size}; minimise the trace first"))
    return replace(one, generality=_general(trace, driver))


def _general(trace: Trace, driver: str) -> Generality | None:
    violation = subject(replace(trace, driver=driver))
    if violation is None:
        return None
    return ask_what_matters(trace.config, trace.operations, driver, target_of(violation))


def explain(trace: Trace, driver: str, console: Console, generalise: bool = True) -> int:
    """Print the explanation; returns the exit status that replay has: 1 if what the trace is about fails, 0 if it holds, 2 if it
    was not put to the test. Raises KeyError for an unknown driver."""
    one = story(trace, driver, generalise)
    show(one, console)
    return one.status


def on_paper(one: Story, width: int = 100) -> str:
    """What a terminal of ``width`` columns would show, without colours."""
    out = io.StringIO()
    show(one, Console(file=out, width=width, force_terminal=False, color_system=None))
    return out.getvalue()


def as_markdown(one: Story) -> str:
    """A told story as Markdown."""
    return document.markdown(page(one))


def as_html(one: Story) -> str:
    """A told story as an HTML page that needs nothing else."""
    return document.html(page(one))


def markdown(trace: Trace, driver: str, generalise: bool = True) -> str:
    """The explanation as Markdown, for mails and reviews. Raises KeyError for an unknown driver."""
    return as_markdown(story(trace, driver, generalise))


def html(trace: Trace, driver: str, generalise: bool = True) -> str:
    """The explanation as an HTML page. Raises KeyError for an unknown driver."""
    return as_html(story(trace, driver, generalise))


__all__ = ["Story", "as_html", "as_markdown", "explain", "html", "markdown", "on_paper", "show", "story"]
