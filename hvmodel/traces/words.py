"""Steps as lines of plain text: driver calls and hypercalls, log, and what the views say where they part."""

from __future__ import annotations

from hvmodel.operations import Boot, Kexec
from hvmodel.traces.story import Call, Step
from hvmodel.traces.views import DomainView, Pages, Views

MAX_LINES = 12
"""Driver calls and hypercalls shown for one operation; the rest is counted."""

MAX_LOG = 4
"""Lines of the kernel's log shown for one operation."""


def is_routine(step: Step) -> bool:
    """Whether a step is a start in which nothing is refused and nothing fails: its calls tell nothing."""
    return isinstance(step.operation, Boot | Kexec) and not step.outcome.fired and not step.outcome.violations


def call_lines(calls: list[Call], most: int = MAX_LINES) -> list[str]:
    """The calls and below each, indented, its hypercalls; at most ``most`` lines, then how many more there are. Lookups are left
    out: they ask no hypervisor."""
    lines: list[str] = []
    for call in calls:
        if call.name == "iova_to_phys":
            continue
        if call.name not in ("init", "rest"):
            lines.append(call.line)
        lines += ["  " + hypercall.line for hypercall in call.hypercalls]
    return lines if len(lines) <= most else [*lines[:most], f"... and {len(lines) - most} more lines"]


def log_lines(step: Step, most: int = MAX_LOG) -> list[str]:
    """``err: text``, without what is only information."""
    return [f"{level}: {text}" for level, text in step.log if level != "info"][:most]


def ranges(pages: Pages, most: int = 4) -> str:
    """``[0x1000, 0x2fff] -> 0x40000000``, ``nothing``; addresses in bytes, the last one included."""
    shown = ", ".join(f"[{start << 12:#x}, {(end << 12) - 1:#x}] -> {frame << 12:#x}" for start, end, frame in pages[:most])
    return (shown or "nothing") + (f" and {len(pages) - most} more" if len(pages) > most else "")


def _page_lines(domain: DomainView) -> list[str]:
    lines = [f"{domain.name}:"]
    lines += [f"  {name:<10} {ranges(pages)}" for name, pages in domain.pages.items()]
    if domain.limbo:
        lines.append(f"  {'limbo':<10} " + ", ".join(f"[{s << 12:#x}, {(e << 12) - 1:#x}]" for s, e, _ in domain.limbo[:4]))
    return lines


def parted_lines(views: Views) -> list[str]:
    """What the three views say where they differ; nothing where they agree."""
    parted = views.parted
    lines = [line for domain in parted.domains if not domain.pages_agree for line in _page_lines(domain)]
    lines += [f"{d.name}: caller {d.caller}; driver {d.driver}; hypervisor {d.hypervisor}" for d in parted.devices]
    lines += [
        f"{domain.name}: driver counts {domain.counted} attached, hypervisor {domain.attached}"
        for domain in parted.domains
        if not domain.count_agrees
    ]
    return lines


__all__ = ["call_lines", "is_routine", "log_lines", "parted_lines", "ranges"]
