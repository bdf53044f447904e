"""The survival picture in characters: which share of the trials has found nothing yet, against operations, one line a gear.

The gears differ in the kind of line, not only in colour. :mod:`hvmodel.jobs.survival_svg` draws the same as SVG.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from math import floor, log10

from rich.text import Text

from hvmodel.jobs.detect import Detection
from hvmodel.jobs.power import by_operations
from hvmodel.jobs.survival import Quantile, Step, kaplan_meier, quantile

HEIGHT = 17
"""Rows of the plot: one for each 1/16, so that the quarters have a row of their own."""

WIDEST = 110
"""Columns that the picture takes at most."""

_MARGIN = 7


@dataclass(frozen=True, slots=True)
class Curve:
    """One gear's line. ``end`` is how far the trials went, in operations; ``median`` of all its trials together."""

    gear: str
    trials: int
    found: int
    median: Quantile
    end: float
    steps: list[Step]

    def at(self, operations: float) -> float:
        """The share of trials that has found nothing after so many operations."""
        index = bisect_right(self.steps, operations, key=lambda step: step.value)
        return self.steps[index - 1].survival if index else 1.0

    @property
    def legend(self) -> str:
        """The gear, what it found and how soon: ``walk: found in 95 % of 570 trials, median 812 operations``."""
        share = 100 * self.found // self.trials
        sign = "" if self.median.exact else ">"
        return f"{self.gear}: found in {share} % of {self.trials:,} trials, median {sign}{self.median.value:,.0f} operations"


def curves(detection: Detection) -> list[Curve]:
    """A curve for each gear that has trials."""
    found = []
    for gear in detection.options.gears:
        trials = detection.of(gear=gear)
        if trials:
            observations = by_operations(trials)
            end = max(observation.value for observation in observations)
            hits = sum(trial.found for trial in trials)
            found.append(Curve(gear, len(trials), hits, quantile(observations, 50), end, kaplan_meier(observations)))
    return found


def decades(top: float) -> list[int]:
    """The ticks of the axis of operations: 1, 10, 100 and so on, up to ``top``."""
    return [10**power for power in range(floor(log10(max(top, 1))) + 1)]


def short(number: int) -> str:
    """10000 as ``10k``."""
    for size, unit in ((10**9, "G"), (10**6, "M"), (10**3, "k")):
        if number >= size:
            return f"{number // size}{unit}"
    return str(number)


@dataclass(frozen=True, slots=True)
class Pen:
    """The characters of a line: along, down, from along to down, from down to along; and a style of rich."""

    along: str
    down: str
    turn: str
    back: str
    style: str


PENS = {
    "walk": Pen("━", "┃", "┓", "┗", "bold blue"),
    "exhaustive": Pen("┅", "┇", "┐", "└", "cyan"),
    "hypothesis": Pen("═", "║", "╗", "╚", "yellow"),
    "uniform": Pen("┄", "┆", "┐", "└", "green"),
    "sweep": Pen("╌", "╎", "┐", "└", "magenta"),
}

ASCII_PENS = {
    "walk": Pen("#", "#", "#", "#", "bold blue"),
    "exhaustive": Pen("-", "!", "-", "-", "cyan"),
    "hypothesis": Pen("=", "H", "=", "=", "yellow"),
    "uniform": Pen(".", ":", ".", ".", "green"),
    "sweep": Pen("~", "S", "~", "~", "magenta"),
}


def draw(lines: Sequence[Curve], width: int, ascii_only: bool = False) -> list[Text]:
    """The picture for a terminal of ``width`` columns, in lines; nothing without curves."""
    if not lines:
        return []
    pens = ASCII_PENS if ascii_only else PENS
    columns = max(min(width, WIDEST) - _MARGIN, 20)
    top = max(max(curve.end for curve in lines), 10.0)
    grid: list[list[tuple[str, str]]] = [[(" ", "")] * columns for _ in range(HEIGHT)]
    for curve in reversed(lines):
        _trace(grid, curve, pens[curve.gear], columns, top)
    bar, corner, floor_ = ("|", "+", "-") if ascii_only else ("┤", "└", "─")
    shown = [Text("trials that have found nothing yet, against the number of operations", style="bold")]
    for number, row in enumerate(grid):
        quarter = number % (HEIGHT // 4) == 0
        share = f"{100 - 100 * number // (HEIGHT - 1)} %" if quarter else ""
        text = Text(f"{share:>{_MARGIN - 2}} {bar if quarter or ascii_only else '│'}")
        for character, style in row:
            text.append(character, style=style)
        text.rstrip()
        shown.append(text)
    shown.append(Text(" " * (_MARGIN - 1) + corner + floor_ * columns))
    shown.append(Text(_axis(columns, top)))
    for curve in lines:
        pen = pens[curve.gear]
        shown.append(Text.assemble(" " * _MARGIN, (pen.along * 4, pen.style), f" {curve.legend}"))
    return shown


def _column(operations: float, columns: int, top: float) -> int:
    return round(log10(max(operations, 1)) / log10(top) * (columns - 1))


def _trace(grid: list[list[tuple[str, str]]], curve: Curve, pen: Pen, columns: int, top: float) -> None:
    """Draw one line: in each column from where it comes to where it has fallen by the column's end."""
    before = 0
    for column in range(_column(curve.end, columns, top) + 1):
        row = round((1 - curve.at(top ** ((column + 0.5) / (columns - 1)))) * (HEIGHT - 1))
        if row == before:
            grid[row][column] = (pen.along, pen.style)
        else:
            grid[before][column] = (pen.turn, pen.style)
            for between in range(before + 1, row):
                grid[between][column] = (pen.down, pen.style)
            grid[row][column] = (pen.back, pen.style)
        before = row


def _axis(columns: int, top: float) -> str:
    """The labels below the axis, each one at its column; one that would reach beyond the axis ends with it."""
    text = ""
    for tick in decades(top):
        label = short(tick)
        at = _MARGIN + min(_column(tick, columns, top), columns - len(label))
        if at > len(text):
            text = f"{text:<{at}}{label}"
    return text
