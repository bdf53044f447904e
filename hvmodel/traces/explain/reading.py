"""How to read an explanation: the words that occur in it, and no others."""

from __future__ import annotations

from collections.abc import Iterator

from hvmodel.document import Branch
from hvmodel.traces.explain.acts import Act
from hvmodel.traces.explain.ending import Ending
from hvmodel.traces.explain.ruler import LIMBO, MEANINGS
from hvmodel.traces.explain.told import Story


def lines(story: Story) -> Iterator[str]:
    """One line for each thing that has to be said."""
    yield (
        "Three views are compared. The caller's: what the IOMMU core, VFIO and iommufd were promised. The driver's: its tree of "
        "mappings, its counts, its pointers. The hypervisor's: what the device really reaches."
    )
    acts = [act for act in story.acts if isinstance(act, Act)]
    if any(branch.look == "refused" for act in acts for branch in _all(act.calls)) or any(act.refusals for act in acts):
        yield "(refused) marks an answer that was injected: the harness let the hypervisor, or the allocator, say no."
    said = " ".join(f"{change.what} {change.of}" for act in acts for change in (*act.changes, *act.parting))
    for words, meaning in _PLACES:
        if any(word in said for word in words):
            yield meaning
    rulers = story.rulers
    if rulers:
        yield (
            "Rulers show a domain's I/O addresses, a line for each view; not to scale, but a column is one address in all of them. "
            "Addresses below are where something begins or ends."
        )
    if any(state & LIMBO for ruler in rulers for piece in ruler.pieces for state in piece.states):
        yield "limbo, lightly shaded (or ?): what the caller asked to unmap and was not told is gone; it may be mapped or not."
    if any(ruler.merged for ruler in rulers):
        yield "Where there are too many ranges a column stands for several; shaded (or %) is one in which not all pages are alike."
    for kind in MEANINGS:
        if any(kind == name for ruler in rulers for name, _ in ruler.parted):
            yield f"{kind}: {MEANINGS[kind]}."


_PLACES = (
    (
        ("default", "identity"),
        "default: the hypervisor's own domain 0, in which a device reaches all memory at its physical address. identity: the "
        "kernel's name for being there.",
    ),
    (
        ("NULL",),
        "NULL: the hypervisor's own domain 0xffffffff, in which a device reaches nothing. As the driver's pointer: none.",
    ),
    (
        ("(domain 0x", "id 0x"),
        "domain 1 is a domain as the caller calls it, domain 0x1 is one by the hypervisor's id.",
    ),
    (
        ("guest",),
        "guest: the partition of a VM. A device there reaches that VM's memory, through the VM's own page table; a domain that "
        "stands for this has none of its own (direct).",
    ),
    (
        ("blocking domain",),
        "blocking domain: where the core puts a device that nobody may use; it must reach nothing.",
    ),
    (("no domain",), "no domain: the hypervisor has the device in none, and it reaches nothing."),
)
"""Words for places: if one of the first occurs, the second is said."""


def _all(branches: tuple[Branch, ...]) -> Iterator[Branch]:
    for branch in branches:
        yield branch
        yield from _all(branch.below)


def takes(ending: Ending) -> Iterator[tuple[str, str]]:
    """What the finding takes, and what is known of it, each with a word in front: callers, refusals, assumptions, defects."""
    yield "Callers", ending.callers
    yield "Injected", "; ".join(ending.needs) or "nothing: no hypercall and no allocation was refused"
    yield "Assumed", "; ".join(ending.assumed) or "nothing: the hypervisor answers as today's most likely does"
    for name, summary in ending.defects:
        yield "Known as", name + (f": {summary}" if summary else "")


__all__ = ["lines", "takes"]
