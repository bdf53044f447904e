"""The comparison in words: what the screen and the page both say."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from hvmodel.jobs.compare.cost import Cost, CostPair
from hvmodel.jobs.compare.job import Comparison
from hvmodel.jobs.compare.parting import ANSWER, CALLS, HYPERCALLS
from hvmodel.jobs.compare.sorting import Row
from hvmodel.jobs.naming import short
from hvmodel.properties.catalogue import SEVERITIES

FINDINGS = (
    ("broken", "Broken in B", "fails on B, holds on A"),
    ("open", "Cannot be said", "fails on one, and on the other it was not put to the test"),
    ("fixed", "Fixed in B", "fails on A, holds on B"),
    ("both", "In both", "fails on A and on B"),
)
"""Kinds of rows with a title and what it means."""

DIFFERENCES = (
    (ANSWER, "Different answers", "what a caller is told"),
    (CALLS, "Different driver calls", "what the core makes of what it was offered and told before"),
    (HYPERCALLS, "Different hypercalls", "what the driver asks the hypervisor for the same call"),
)


def counted(number: int, thing: str) -> str:
    """``1 cause``, ``2 causes``."""
    return f"{number:,} {thing}{'' if number == 1 else 's'}"


def verdict(result: Comparison) -> str:
    """The whole comparison in a sentence or two."""
    broken, unsaid, fixed, both = (result.findings.of(kind) for kind, _, _ in FINDINGS)
    costs = [pair for pair in result.costs if not pair.same]
    if not (broken or unsaid or fixed or result.differences or costs):
        known = f"; {counted(len(both), 'cause')} of failing in both" if both else ""
        return f"No difference between A and B: nothing fixed, nothing broken, the same answers, hypercalls and cost{known}."
    parts = [f"fixes {counted(len(fixed), 'cause')}" if fixed else "fixes nothing"]
    if both:
        parts.append(f"{len(both):,} {'is' if len(both) == 1 else 'are'} in both")
    if unsaid:
        parts.append(f"of {len(unsaid):,} it cannot be said")
    if not broken:
        return f"B is no worse than A as far as was seen: it breaks nothing, {', '.join(parts)}."
    return f"B BREAKS {counted(len(broken), 'cause')} ({by_severity(broken)}); it {', '.join(parts)}."


def by_severity(rows: Sequence[Row]) -> str:
    """``2 isolation, 1 leak``, the worst first."""
    counts = Counter(row.severity for row in rows)
    return ", ".join(f"{counts[name]} {name}" for name in SEVERITIES if counts[name])


def done(result: Comparison) -> str:
    """What was done for it."""
    options = result.options
    parts = [
        f"{counted(len(options.given), 'known trace')}",
        f"searches of {result.searched[0]:,} (A) and {result.searched[1]:,} (B) operations",
        f"{result.walked:,} operations on both in step",
    ]
    return f"{', '.join(parts)}; {result.seconds:.0f} s, seed {options.seed}"


def details(row: Row) -> Iterator[str]:
    """What is to be known of a row beside what happened."""
    best = row.best
    refused = sorted({fault.site for operation in best.operations for fault in operation.faults})
    call = best.minimised.violation.call
    where = "afterwards" if call in ("request", "recover") else f"in {call}"
    yield f"{where}, {'needs a refused ' + ' and '.join(refused) if refused else 'nothing refused'}"
    if row.note:
        yield row.note
    if best.assumptions:
        yield f"assumes {'; '.join(best.assumptions)}"
    if row.also:
        yield f"also {', '.join(row.also)}"
    if row.defects:
        yield f"known: {short(row.defects)}"
    kept = [source for source in row.sources if not source.startswith("search")]
    if kept:
        yield f"{', '.join(kept[:3])}{f' and {len(kept) - 3} more' if len(kept) > 3 else ''}"


# --- cost ---------------------------------------------------------------------------------------------------------------------

COST_HEAD = ("", "", "hypercalls", "reps", "irqs off", "deposits", "pages", "slab")

COST_MEANS = (
    "Per GiB mapped, and per life. reps: list elements done; irqs off: the most of them without interrupts going on between; "
    "pages: deposited; slab: allocations. *: with memory to spare, as one of them fails where there is none."
)


def cost_rows(pairs: Sequence[CostPair]) -> Iterator[tuple[str, ...]]:
    """A row for A and one for B of each part that differs, the part that grows most first; one row where both are equal."""
    for pair in sorted(pairs, key=lambda pair: (not pair.comparable, -pair.growth)):
        name = pair.name + (" *" if pair.to_spare else "")
        if pair.same:
            yield (name, "A=B", *_figures(pair.a))
        else:
            yield (name, "A", *_figures(pair.a))
            yield ("", "B", *_figures(pair.b))


def _figures(cost: Cost) -> tuple[str, ...]:
    if cost.failed:
        return ("fails", "", "", "", "", "")
    hypercalls, reps, longest, *rest = (f"{figure:,}" for figure in cost.figures)
    return (hypercalls, reps, longest, *rest)


def cost_failures(pairs: Sequence[CostPair]) -> Iterator[str]:
    """``A fails (map: -EIO): map 2 MiB runs; map 1 GiB run``."""
    places: dict[tuple[str, str], list[str]] = {}
    for pair in pairs:
        if pair.a.failed == pair.b.failed and pair.a.failed:
            places.setdefault(("A and B fail", pair.a.failed), []).append(pair.name)
            continue
        for who, cost in (("A fails", pair.a), ("B fails", pair.b)):
            if cost.failed:
                places.setdefault((who, cost.failed), []).append(cost.name)
    for (who, failed), parts in places.items():
        yield f"{who} ({failed}): {'; '.join(parts)}"


def by_name(pair: CostPair) -> str:
    """The hypercalls of which one makes more: ``ATTACH_DEVICE_DOMAIN 2 -> 6``; empty if there are none or no life was whole."""
    if not pair.comparable or pair.a.share:
        return ""
    mine, theirs = pair.a.by_name, pair.b.by_name
    parts = [f"{name} {mine[name]:,} -> {theirs[name]:,}" for name in sorted({*mine, *theirs}) if mine[name] != theirs[name]]
    return f"{pair.name}: {', '.join(parts)}" if parts else ""


def same_cost(pairs: Sequence[CostPair]) -> str:
    """The parts that cost the same, in one line."""
    same = [pair.name for pair in pairs if pair.same and pair.comparable]
    if len(same) == len(pairs):
        return f"The same in all {len(pairs)} parts of ordinary lives."
    return f"The same: {'; '.join(same)}." if same else ""


__all__ = [
    "COST_HEAD",
    "COST_MEANS",
    "DIFFERENCES",
    "FINDINGS",
    "by_name",
    "by_severity",
    "cost_failures",
    "cost_rows",
    "counted",
    "details",
    "done",
    "same_cost",
    "verdict",
]
