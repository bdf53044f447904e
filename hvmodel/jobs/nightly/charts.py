"""Small pictures for the page: numbers over nights, and the survival of variants. SVG that takes its colours from the page."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from math import log10

from hvmodel.jobs.survival import Step
from hvmodel.jobs.survival_picture import decades, short

WIDTH, HEIGHT = 680, 190
LEFT, RIGHT, TOP, BOTTOM = 66, 20, 34, 30


def over_nights(title: str, dates: Sequence[str], values: Sequence[float], hot: bool = False) -> str:
    """One number for each night, as bars from 0, which are red if ``hot``. Below are the first and the last date."""
    top = _nice(max([1.0, *values]))
    room = WIDTH - LEFT - RIGHT
    step = room / max(len(values), 12)
    parts = _frame(title, top)
    look = "hot" if hot else "bar"
    for number, (date, value) in enumerate(zip(dates, values, strict=True)):
        tall = value / top * (HEIGHT - TOP - BOTTOM)
        x, y = LEFT + number * step + step * 0.15, HEIGHT - BOTTOM - tall
        parts.append(
            f'<rect class="{look}" x="{x:.1f}" y="{y:.1f}" width="{step * 0.7:.1f}" height="{max(tall, 0.8 if value else 0):.1f}">'
            f"<title>{escape(date)}: {value:,.0f}</title></rect>"
        )
    if dates:
        parts.append(f'<text x="{LEFT}" y="{HEIGHT - 10}">{escape(dates[0])}</text>')
    if len(dates) > 1:
        end = LEFT + (len(dates) - 0.5) * step
        near = end < LEFT + 190
        parts.append(
            f'<text x="{max(end, LEFT + 100) if near else end:.1f}" y="{HEIGHT - 10}" '
            f'text-anchor="{"start" if near else "end"}">{escape(dates[-1])}</text>'
        )
    return "\n".join([*parts, "</svg>"])


def survival(title: str, steps: Sequence[Step], end: float) -> str:
    """The share of trials that have found nothing yet, against operations on a logarithmic axis; ``end`` is how far it goes."""
    top = max(10.0, end)

    def x(value: float) -> float:
        return LEFT + log10(max(value, 1)) / log10(top) * (WIDTH - LEFT - RIGHT)

    def y(share: float) -> float:
        return TOP + (1 - share) * (HEIGHT - TOP - BOTTOM)

    parts = _frame(title, 100, " %")
    for tick in decades(top):
        parts.append(f'<text x="{x(tick):.1f}" y="{HEIGHT - 10}" text-anchor="middle">{short(tick)}</text>')
    path = [f"M{LEFT} {y(1):.1f}", *(f"H{x(step.value):.1f}V{y(step.survival):.1f}" for step in steps), f"H{x(top):.1f}"]
    parts.append(f'<path class="a" d="{"".join(path)}"/>')
    return "\n".join([*parts, "</svg>"])


def _frame(title: str, top: float, unit: str = "") -> list[str]:
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}" role="img">',
        f"<title>{escape(title)}</title>",
        f'<text class="ink" x="{LEFT}" y="16">{escape(title)}</text>',
    ]
    for share in (0, 0.5, 1):
        y = TOP + (1 - share) * (HEIGHT - TOP - BOTTOM)
        parts.append(f'<path class="{"grid" if share else "axis"}" d="M{LEFT} {y:.1f}H{WIDTH - RIGHT}"/>')
        parts.append(f'<text x="{LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{_number(top * share)}{unit}</text>')
    return parts


def _number(value: float) -> str:
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= size:
            return f"{value / size:g}{letter}"
    return f"{value:g}"


def _nice(value: float) -> float:
    """The next 1, 2, 4 or 10 times a power of ten: its half is a round number, too."""
    size = 10.0 ** int(log10(value)) if value >= 1 else 1.0
    return next((factor * size for factor in (1, 2, 4, 10) if factor * size >= value), 10 * size)
