"""The survival picture as SVG: one self-contained file that reads well on light and on dark paper, and without colour."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from math import log10
from pathlib import Path

from hvmodel.jobs.survival_picture import Curve, decades

WIDTH, HEIGHT = 860, 500
LEFT, RIGHT, TOP, BOTTOM = 76, 110, 134, 62

COLOURS = {
    "walk": ("#0b5cad", "#6cb6ff", ""),
    "exhaustive": ("#0a7d8c", "#5fd3e0", "1 3"),
    "hypothesis": ("#b34700", "#ffa657", "9 4"),
    "uniform": ("#1a7f53", "#56d39b", "2 4"),
    "sweep": ("#8250df", "#c297ff", "12 3 2 3"),
}
"""Each gear's colour on light and on dark paper, and its dashes."""

_STYLE = """
svg { color-scheme: light dark; font-family: system-ui, -apple-system, 'Segoe UI', 'DejaVu Sans', sans-serif; font-size: 14px; }
.paper { fill: #ffffff; } .ink { fill: #1f2328; } .dim { fill: #59636e; }
.grid { stroke: #d1d9e0; stroke-width: 1; } .axis { stroke: #59636e; stroke-width: 1.2; }
.title { font-size: 18px; font-weight: 600; } .line { fill: none; stroke-width: 2.4; stroke-linejoin: round; }
""".strip()

_DARK = """
.paper { fill: #0d1117; } .ink { fill: #f0f6fc; } .dim { fill: #9198a1; } .grid { stroke: #30363d; } .axis { stroke: #9198a1; }
""".strip()


def svg(lines: Sequence[Curve], caption: str) -> str:
    """The picture; ``caption`` says in one line what was measured."""
    top = max([10.0, *(curve.end for curve in lines)])
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}" role="img">',
        f"<title>Trials that have found nothing yet, against operations. {escape(caption)}</title>",
        f"<style>\n{_STYLE}\n{_colours(0)}\n@media (prefers-color-scheme: dark) {{\n{_DARK}\n{_colours(1)}\n}}\n</style>",
        f'<rect class="paper" width="{WIDTH}" height="{HEIGHT}" rx="6"/>',
        f'<text class="ink title" x="{LEFT}" y="32">Trials that have found nothing yet</text>',
        f'<text class="dim" x="{LEFT}" y="53">{escape(caption)}</text>',
        *_legend(lines),
        *_axes(top),
        *(_line(curve, top) for curve in reversed(lines)),
        *_ends(lines, top),
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


def save_svg(lines: Sequence[Curve], caption: str, path: Path) -> None:
    """Write the picture. Raises OSError."""
    path.write_text(svg(lines, caption), encoding="utf-8")


def _colours(paper: int) -> str:
    """Style rules for the gears' lines and names; ``paper`` is 0 for light, 1 for dark."""
    looks = [(gear, look[paper]) for gear, look in COLOURS.items()]
    return "\n".join(f".{gear} {{ stroke: {colour}; }} .{gear}-name {{ fill: {colour}; }}" for gear, colour in looks)


def _x(operations: float, top: float) -> float:
    return LEFT + log10(max(operations, 1)) / log10(top) * (WIDTH - LEFT - RIGHT)


def _y(share: float) -> float:
    return TOP + (1 - share) * (HEIGHT - TOP - BOTTOM)


def _dashes(gear: str) -> str:
    dash = COLOURS[gear][2]
    return f' stroke-dasharray="{dash}"' if dash else ""


def _legend(lines: Sequence[Curve]) -> list[str]:
    parts = []
    for number, curve in enumerate(lines):
        y = 76 + 18 * number
        parts.append(f'<path class="line {curve.gear}"{_dashes(curve.gear)} d="M{LEFT} {y - 5}h36"/>')
        parts.append(f'<text class="ink" x="{LEFT + 46}" y="{y}">{escape(curve.legend)}</text>')
    return parts


def _axes(top: float) -> list[str]:
    right, bottom = WIDTH - RIGHT, HEIGHT - BOTTOM
    parts = []
    for percent in (100, 75, 50, 25, 0):
        y = _y(percent / 100)
        parts.append(f'<path class="{"grid" if percent else "axis"}" d="M{LEFT} {y:.1f}H{right}"/>')
        parts.append(f'<text class="dim" x="{LEFT - 10}" y="{y + 5:.1f}" text-anchor="end">{percent} %</text>')
    for tick in decades(top):
        x = _x(tick, top)
        if tick > 1:
            parts.append(f'<path class="grid" d="M{x:.1f} {TOP}V{bottom}"/>')
        parts.append(f'<path class="axis" d="M{x:.1f} {bottom}v5"/>')
        parts.append(f'<text class="dim" x="{x:.1f}" y="{bottom + 22}" text-anchor="middle">{tick:,}</text>')
    parts.append(f'<path class="axis" d="M{LEFT} {TOP}V{bottom}"/>')
    middle = (LEFT + right) / 2
    parts.append(f'<text class="ink" x="{middle}" y="{HEIGHT - 14}" text-anchor="middle">operations (logarithmic)</text>')
    half = (TOP + bottom) / 2
    label = "share of trials"
    parts.append(f'<text class="ink" transform="translate(20 {half}) rotate(-90)" text-anchor="middle">{label}</text>')
    return parts


def _line(curve: Curve, top: float) -> str:
    path = [f"M{LEFT} {_y(1):.1f}"]
    path += [f"H{_x(step.value, top):.1f}V{_y(step.survival):.1f}" for step in curve.steps]
    path.append(f"H{_x(curve.end, top):.1f}")
    return f'<path class="line {curve.gear}"{_dashes(curve.gear)} d="{"".join(path)}"/>'


def _ends(lines: Sequence[Curve], top: float) -> list[str]:
    """The gears' names where their lines end, moved apart where they would meet."""
    parts = []
    lowest = 0.0
    for curve in sorted(lines, key=lambda curve: -curve.at(curve.end)):
        y = max(_y(curve.at(curve.end)) + 5, lowest + 17)
        lowest = y
        parts.append(f'<text class="{curve.gear}-name" x="{_x(curve.end, top) + 8:.1f}" y="{y:.1f}">{curve.gear}</text>')
    return parts
