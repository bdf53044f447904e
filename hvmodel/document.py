"""A page as data, and its two forms: Markdown for mails and job pages; HTML that stands alone, light or dark as the reader is."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape


@dataclass(frozen=True, slots=True)
class Text:
    """A paragraph. ``code`` in backquotes is set as code; nothing else is marked up. ``label`` stands in front, in bold."""

    text: str
    warning: bool = False
    label: str = ""


@dataclass(frozen=True, slots=True)
class Table:
    """Rows under a head; columns in ``right`` (counted from 0) hold numbers. A ``plain`` one has no markup in its cells: Markdown
    sets it as lines with columns of equal width, which a mail carries better than a table."""

    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    right: frozenset[int] = frozenset()
    plain: bool = False


@dataclass(frozen=True, slots=True)
class Code:
    """Lines as they are."""

    text: str


@dataclass(frozen=True, slots=True)
class Picture:
    """An SVG, or other markup that is safe as it is. Markdown shows ``text`` instead, lines as they are; without one it leaves the
    picture out, because what it shows is said in words or in a table beside it."""

    svg: str
    text: str = ""


@dataclass(frozen=True, slots=True)
class Branch:
    """One line of a tree and what is below it. ``look`` is a word for how it is meant (letters only; HTML makes it a class)."""

    text: str
    look: str = ""
    below: tuple[Branch, ...] = ()


@dataclass(frozen=True, slots=True)
class Tree:
    """Lines with lines below them, all as they are: nothing in them is markup."""

    branches: Sequence[Branch]


@dataclass(frozen=True, slots=True)
class Folded:
    """Blocks that are shown on request, under a title."""

    title: str
    blocks: Sequence[Block]


Block = Text | Table | Code | Picture | Tree | Folded


@dataclass(frozen=True, slots=True)
class Section:
    """A heading and what comes under it."""

    title: str
    blocks: Sequence[Block]


@dataclass(frozen=True, slots=True)
class Page:
    """A title, the verdict in one line with how it is meant (``good``, ``bad``, ``odd``), and sections."""

    title: str
    verdict: str
    mood: str
    sections: Sequence[Section]


# --- Markdown -----------------------------------------------------------------------------------------------------------------


def markdown(page: Page) -> str:
    """The page as GitHub's Markdown."""
    lines = [f"# {_harmless(page.title)}", "", f"**{_harmless(page.verdict)}**", ""]
    for section in page.sections:
        lines += [f"## {_harmless(section.title)}", ""]
        for block in section.blocks:
            lines += _markdown(block)
    return "\n".join(lines).rstrip() + "\n"


def _markdown(block: Block) -> Iterator[str]:
    if isinstance(block, Text):
        label = f"**{_harmless(block.label)}:** " if block.label else ""
        yield from (f"> **{_harmless(block.text)}**" if block.warning else label + _harmless(block.text), "")
    elif isinstance(block, Table) and block.plain:
        yield from _fenced("\n".join(_columns([block.head, *block.rows])))
    elif isinstance(block, Table):
        yield "| " + " | ".join(_cell(cell) for cell in block.head) + " |"
        yield "|" + "|".join("---:" if column in block.right else "---" for column in range(len(block.head))) + "|"
        for row in block.rows:
            yield "| " + " | ".join(_cell(cell) for cell in row) + " |"
        yield ""
    elif isinstance(block, Code):
        yield from _fenced(block.text)
    elif isinstance(block, Picture):
        if block.text:
            yield from _fenced(block.text)
    elif isinstance(block, Tree):
        yield from _fenced("\n".join(_lines(block.branches, "")))
    elif isinstance(block, Folded):
        yield from (f"<details><summary>{escape(block.title)}</summary>", "")
        for inner in block.blocks:
            yield from _markdown(inner)
        yield from ("</details>", "")


def _cell(text: str) -> str:
    return _harmless(text).replace("|", "\\|").replace("\n", " ")


def _columns(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        yield "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()


def _fenced(text: str) -> Iterator[str]:
    fence = "`" * max(3, 1 + max((len(ticks) for ticks in re.findall("`+", text)), default=0))
    yield from (fence, text.rstrip("\n"), fence, "")


def _lines(branches: Sequence[Branch], indent: str) -> Iterator[str]:
    for branch in branches:
        yield indent + branch.text
        yield from _lines(branch.below, indent + "  ")


def _harmless(text: str) -> str:
    """No HTML and no links, which a text may have from anywhere; code in backquotes stays as it is."""
    parts = re.split("(`[^`]+`)", text)
    return "".join(part if odd % 2 else re.sub(r"[\\<\[]", r"\\\g<0>", part) for odd, part in enumerate(parts))


# --- HTML ---------------------------------------------------------------------------------------------------------------------

_STYLE = """
:root { color-scheme: light dark; --paper: #ffffff; --ink: #1f2328; --dim: #59636e; --line: #d1d9e0; --soft: #f6f8fa;
  --blue: #0b5cad; --red: #b3261e; --green: #1a7f37; --amber: #8a5a00; }
@media (prefers-color-scheme: dark) { :root { --paper: #0d1117; --ink: #f0f6fc; --dim: #9198a1; --line: #30363d; --soft: #151b23;
  --blue: #6cb6ff; --red: #ff7b72; --green: #56d364; --amber: #e3b341; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 66rem; padding: 1.5rem 1.25rem 4rem; background: var(--paper); color: var(--ink);
  font: 16px/1.5 system-ui, -apple-system, "Segoe UI", "DejaVu Sans", sans-serif; }
h1 { font-size: 1.6rem; margin: 0 0 .75rem; } h2 { font-size: 1.2rem; margin: 2.2rem 0 .6rem; border-bottom: 1px solid var(--line);
  padding-bottom: .25rem; }
p { margin: .5rem 0; max-width: 50rem; overflow-wrap: anywhere; }
.verdict { border-left: .35rem solid var(--amber); background: var(--soft); padding: .7rem 1rem;
  font-weight: 600; max-width: none; }
.good { border-color: var(--green); } .bad { border-color: var(--red); } .warning { color: var(--red); font-weight: 600; }
.scroll { overflow-x: auto; margin: .6rem 0; } table { border-collapse: collapse; font-size: .92rem; }
th, td { text-align: left; vertical-align: top; padding: .25rem .8rem .25rem 0; border-bottom: 1px solid var(--line); }
th { color: var(--dim); font-weight: 600; white-space: nowrap; } .n { text-align: right; font-variant-numeric: tabular-nums; }
.plain td:last-child { font: .84rem/1.5 ui-monospace, "DejaVu Sans Mono", monospace; padding-right: 0; overflow-wrap: anywhere; }
.plain td:not(:last-child) { white-space: nowrap; }
pre { background: var(--soft); border: 1px solid var(--line); border-radius: 6px; padding: .7rem .9rem; overflow-x: auto;
  font-size: .82rem; line-height: 1.4; }
code { font-family: ui-monospace, "DejaVu Sans Mono", monospace; font-size: .9em; } details { margin: .6rem 0; }
summary { cursor: pointer; color: var(--blue); } svg { max-width: 100%; height: auto; display: block; margin: .8rem 0; }
svg text { fill: var(--dim); font: 13px system-ui, "DejaVu Sans", sans-serif; } svg .ink { fill: var(--ink); font-weight: 600; }
svg .axis { stroke: var(--dim); fill: none; } svg .grid { stroke: var(--line); fill: none; }
svg .a { stroke: var(--blue); fill: none; stroke-width: 2; } svg .b { stroke: var(--amber); fill: none; stroke-width: 2; }
svg .bar { fill: var(--blue); } svg .hot { fill: var(--red); } svg .dot { fill: var(--blue); }
.tree, .tree ul { list-style: none; margin: 0; padding: 0 0 0 .9rem; }
.tree ul { border-left: 1px solid var(--line); margin-left: .2rem; color: var(--dim); }
.tree { font: .84rem/1.5 ui-monospace, "DejaVu Sans Mono", monospace; padding: .6rem .9rem; margin: .6rem 0;
  background: var(--soft); border: 1px solid var(--line); border-radius: 6px; }
.tree li { padding-left: 1.6rem; text-indent: -1.6rem; overflow-wrap: anywhere; } .tree .dim, .tree .log { color: var(--dim); }
.tree .failed { color: var(--red); } .tree .refused { color: var(--amber); font-weight: 600; }
figure { margin: 1rem 0; } figcaption { font-weight: 600; font-size: .92rem; margin-bottom: .3rem; }
svg.ruler { box-sizing: border-box; padding-left: 5.5rem; overflow: visible; } svg.ruler .at { font-size: 12px; }
svg.ruler .hole { stroke: var(--line); stroke-dasharray: 2 4; stroke-width: 2; } svg.ruler .tick { stroke: var(--dim); }
svg.ruler .held { fill: var(--blue); }
svg.ruler .limbo { fill: var(--blue); fill-opacity: .25; stroke: var(--blue); stroke-dasharray: 3 3; }
svg.ruler .several { fill: var(--blue); fill-opacity: .6; } svg.ruler .cut { stroke: var(--paper); stroke-width: 2; }
svg.ruler rect.wrong { fill: var(--red); } svg.ruler rect.missing { fill: none; stroke: var(--red); stroke-dasharray: 4 3; }
svg.ruler .mark { stroke: var(--red); stroke-width: 3; } svg.ruler text.wrong { fill: var(--red); font-weight: 600; }
svg.ruler .narrow { display: none; }
@media (max-width: 44rem) { svg.ruler .narrow { display: inline; } svg.ruler .wide { display: none; } }
@media print { body { max-width: none; padding: 0; font-size: 11pt; } h2 { break-after: avoid; }
  figure, tr, .tree li { break-inside: avoid; } }
""".strip()


def html(page: Page) -> str:
    """The page as one HTML file that needs nothing else."""
    parts = [
        "<!DOCTYPE html>",
        '<html lang="en"><head><meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<title>{escape(page.title)}</title>",
        f"<style>\n{_STYLE}\n</style></head><body>",
        f"<h1>{escape(page.title)}</h1>",
        f'<p class="verdict {page.mood}">{_inline(page.verdict)}</p>',
    ]
    for section in page.sections:
        parts.append(f"<h2>{escape(section.title)}</h2>")
        for block in section.blocks:
            parts += _html(block)
    return "\n".join([*parts, "</body></html>"]) + "\n"


def _inline(text: str) -> str:
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", escape(text))


def _html(block: Block) -> Iterator[str]:
    if isinstance(block, Text):
        label = f"<b>{escape(block.label)}:</b> " if block.label else ""
        yield f'<p class="warning">{_inline(block.text)}</p>' if block.warning else f"<p>{label}{_inline(block.text)}</p>"
    elif isinstance(block, Table):
        looks = [' class="n"' if column in block.right else "" for column in range(len(block.head))]
        yield f'<div class="scroll"><table{" class=plain" if block.plain else ""}><thead><tr>'
        yield (
            "".join(f"<th{look}>{escape(cell)}</th>" for cell, look in zip(block.head, looks, strict=True)) + "</tr></thead><tbody>"
        )
        for row in block.rows:
            cells = [escape(cell) if block.plain else _inline(cell) for cell in row]
            yield "<tr>" + "".join(f"<td{look}>{cell}</td>" for cell, look in zip(cells, looks, strict=True)) + "</tr>"
        yield "</tbody></table></div>"
    elif isinstance(block, Code):
        yield f"<pre><code>{escape(block.text)}</code></pre>"
    elif isinstance(block, Picture):
        yield block.svg
    elif isinstance(block, Tree):
        yield from _branches(block.branches, "tree")
    else:
        yield f"<details><summary>{escape(block.title)}</summary>"
        for inner in block.blocks:
            yield from _html(inner)
        yield "</details>"


def _branches(branches: Sequence[Branch], look: str) -> Iterator[str]:
    yield f'<ul class="{look}">' if look else "<ul>"
    for branch in branches:
        yield f'<li><span class="{escape(branch.look or "line")}">{escape(branch.text)}</span>'
        if branch.below:
            yield from _branches(branch.below, "")
        yield "</li>"
    yield "</ul>"
