"""Which open questions decide how many findings of a driver: what its authors should ask the hypervisor's.

The scope is searched once under the default answers, then once under each other answer to one question, failures and all. A
question decides the findings that come or go with one of its answers.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from hvmodel.gears.exhaustive.crew import Crew
from hvmodel.gears.exhaustive.engine import Manner
from hvmodel.gears.exhaustive.scope import Scope
from hvmodel.gears.exhaustive.search import Search
from hvmodel.hypervisor.policies import DEFAULT, QUESTIONS, Question
from hvmodel.rules.worlds import OTHER_ANSWERS

Key = tuple[str, str]
"""A property and the driver call in which it failed."""

ADMITS = 6
"""So many findings are named."""


@dataclass(slots=True)
class Decision:
    """What one other answer changes: the findings that only it has, and those that only the default answer has."""

    name: str
    answer: str
    come: set[Key] = field(default_factory=set)
    go: set[Key] = field(default_factory=set)
    complete: bool = True

    def as_json(self) -> dict[str, Any]:
        """For other programs."""
        come, go = sorted(map(list, self.come)), sorted(map(list, self.go))
        return {"answer": self.answer, "come": come, "go": go, "complete": self.complete}


@dataclass(slots=True)
class Asking:
    """What came of asking: the findings under the default answers, and each other answer's."""

    driver: str
    parts: tuple[Scope, ...]
    before: set[Key] = field(default_factory=set)
    decisions: list[Decision] = field(default_factory=list)
    unasked: list[str] = field(default_factory=list)
    """Fields of the policies for which no time was left."""
    seconds: float = 0.0

    def ranked(self) -> list[tuple[Question, list[Decision], int]]:
        """Each question that decides something, with its answers and how many findings it decides, most first."""
        rows = []
        for name, question in QUESTIONS.items():
            mine = [one for one in self.decisions if one.name == name]
            decided = {key for one in mine for key in one.come | one.go}
            if decided:
                rows.append((question, [one for one in mine if one.come or one.go], len(decided)))
        return sorted(rows, key=lambda row: (-row[2], row[0].id))

    def as_json(self) -> dict[str, Any]:
        """For other programs."""
        return {
            "driver": self.driver,
            "findings": len(self.before),
            "seconds": round(self.seconds, 2),
            "questions": [
                {
                    "id": question.id,
                    "question": question.text,
                    "decides": count,
                    "answers": [one.as_json() for one in mine],
                }
                for question, mine, count in self.ranked()
            ],
            "unasked": self.unasked,
        }


def ask(
    driver: str, parts: tuple[Scope, ...], jobs: int, budget: float = 0.0, progress: Callable[[int, int], None] | None = None
) -> Asking:
    """Search the scope under each other answer. ``progress`` is told how many of how many answers are done. May raise what a
    :class:`Crew` raises."""
    started = time.perf_counter()
    deadline = started + budget if budget else None
    asking = Asking(driver, parts)
    asking.before = _found(driver, parts, jobs, None)[0]
    for number, (name, answer) in enumerate(OTHER_ANSWERS):
        if deadline is not None and time.perf_counter() >= deadline:
            asking.unasked += sorted({name for name, _answer in OTHER_ANSWERS[number:]} - {one.name for one in asking.decisions})
            break
        policies = {"policies": replace(DEFAULT, **{name: answer})}
        there = tuple(replace(part, options=part.options | policies) for part in parts)
        after, complete = _found(driver, there, jobs, deadline)
        decision = Decision(name, answer, after - asking.before, asking.before - after if complete else set(), complete)
        asking.decisions.append(decision)
        if progress is not None:
            progress(number + 1, len(OTHER_ANSWERS))
    asking.seconds = time.perf_counter() - started
    return asking


def _found(driver: str, parts: tuple[Scope, ...], jobs: int, deadline: float | None) -> tuple[set[Key], bool]:
    found: set[Key] = set()
    complete = True
    for part in parts:
        search = Search(driver, part, "default")
        with Crew(jobs, driver, part, "default", Manner(past=True)) as crew:
            search.run(crew, deadline, everything=True)
        found |= set(search.found)
        complete &= search.complete
    return found, complete


def print_questions(asking: Asking, console: Console) -> None:
    """The questions, most decisive first."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("decides", justify="right", no_wrap=True)
    table.add_column("id", no_wrap=True)
    table.add_column("question", ratio=2, overflow="fold")
    table.add_column("answer", ratio=1, overflow="fold")
    table.add_column("findings", ratio=4, overflow="fold")
    for question, mine, count in asking.ranked():
        for place, one in enumerate(mine):
            table.add_row(
                str(count) if not place else "",
                question.id if not place else "",
                Text(question.text if not place else ""),
                Text(f"{one.answer} (not {question.alternatives[0]})"),
                _said(one),
            )
    if table.row_count:
        console.print(table)
        console.print()
    decided = len(asking.ranked())
    text = f"{decided} of {len(QUESTIONS)} open questions decide findings of {asking.driver} within the scope; "
    text += f"{len(asking.before)} findings (property and driver call) under the default answers, {asking.seconds:.0f} s"
    console.print(Text(text), soft_wrap=True)
    for part in asking.parts:
        console.print(Text(f"scope {part.name}: {part.sentence()}", style="dim"), soft_wrap=True)
    if asking.unasked:
        names = ", ".join(QUESTIONS[name].id for name in asking.unasked)
        console.print(Text(f"not asked, the budget is spent: {names}", style="yellow"), soft_wrap=True)


def _said(one: Decision) -> Text:
    text = Text()
    for sign, keys, style in (("+", one.come, "red"), ("-", one.go, "green")):
        for number, (name, call) in enumerate(sorted(keys)):
            if number == ADMITS:
                text.append(f" {sign}{len(keys) - ADMITS} more", style=style)
                break
            text.append((", " if text.plain else "") + f"{sign}{name} in {call}", style=style)
    if not one.complete:
        text.append(" (broken off)", style="yellow")
    return text


__all__ = ["Asking", "Decision", "ask", "print_questions"]
