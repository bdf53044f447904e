"""What one operation changed: for each domain and device, in which view, and what. What it left as it was is not told, but for a
view that stayed behind where the others went on."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from hvmodel.traces.explain.plain import counted, span
from hvmodel.traces.views import DeviceView, DomainView, Pages, Views

VIEWS = ("caller", "driver", "hypervisor")

MAX_RANGES = 3
"""Ranges shown of one change; the rest is counted."""

MAX_CHANGES = 12
"""Changes shown of one operation; the rest is counted."""


@dataclass(frozen=True, slots=True)
class Change:
    """What became of one thing in some views: ``who`` names them, ``of`` the thing."""

    of: str
    who: str
    what: str


def changes(before: Views, after: Views) -> tuple[Change, ...]:
    """All changes, domains first, at most :data:`MAX_CHANGES`. O(runs of the domains)."""
    old_domains = {domain.name: domain for domain in before.domains}
    new_domains = {domain.name: domain for domain in after.domains}
    found: list[Change] = []
    for name in dict.fromkeys((*old_domains, *new_domains)):
        found += _domain(old_domains.get(name), new_domains.get(name))
    old_devices = {device.number: device for device in before.devices}
    for device in after.devices:
        found += _device(old_devices.get(device.number), device)
    if len(found) > MAX_CHANGES:
        left = len(found) - MAX_CHANGES
        found = [*found[:MAX_CHANGES], Change("", "", f"... and {counted(left, 'more change')}")]
    return tuple(found)


# --- domains ------------------------------------------------------------------------------------------------------------------


def _domain(old: DomainView | None, new: DomainView | None) -> Iterator[Change]:
    if new is None:
        assert old is not None
        if old.kind in ("device", "direct"):
            yield Change(old.name, "caller", "freed")
        return
    if old is None and new.kind in ("device", "direct"):
        where = (
            f"a page table of its own, id {new.hv_id:#x}" if new.hv_id is not None else "no page table of its own: that of a guest"
        )
        yield Change(new.name, "caller", "new")
        yield Change(new.name, "hypervisor", where)
    empty: dict[str, Pages] = dict.fromkeys(new.pages, ())
    moved = {who: _pages((old.pages if old else empty).get(who, ()), new.pages[who]) for who in new.pages}
    limbo = _ranges(_difference(new.limbo, old.limbo if old else ()))
    if limbo:
        moved["caller"] = f"{moved['caller']}; in limbo now: {limbo}" if moved["caller"] else f"in limbo now: {limbo}"
    yield from _together(new.name, moved)
    yield from _counts(old, new)


def _counts(old: DomainView | None, new: DomainView) -> Iterator[Change]:
    """Devices in a domain, by the driver's count and for the hypervisor."""
    if old is not None and (old.counted, old.attached) == (new.counted, new.attached):
        return
    if old is None and new.kind in ("device", "direct") and not new.counted and not new.attached:
        return
    said = {"driver": new.counted, "hypervisor": new.attached}
    was = {"driver": old.counted if old else None, "hypervisor": old.attached if old else None}
    texts = {}
    for who, count in said.items():
        if count is not None:
            earlier = f", was {was[who]}" if was[who] not in (None, count) else ""
            texts[who] = f"{'counts' if who == 'driver' else 'has'} {counted(count, 'device')} in it{earlier}"
    for who, text in texts.items():
        yield Change(new.name, who, text)


def _together(of: str, by_view: dict[str, str]) -> Iterator[Change]:
    """Views with the same change in one line; the one that did nothing is named if others did."""
    if not any(by_view.values()):
        return
    for text in dict.fromkeys(by_view.values()):
        names = [who for who, what in by_view.items() if what == text]
        who = "all views" if len(names) == len(by_view) > 1 else ", ".join(names)
        yield Change(of, who, text or "unchanged")


def _pages(old: Pages, new: Pages) -> str:
    """``+ [0x1000, 0x1fff] -> 0x40000000, 1 page (4 KiB)``; gone pages with a minus. Empty if nothing changed."""
    if old == new:
        return ""
    parts = []
    for sign, pages in (("-", _difference(old, new)), ("+", _difference(new, old))):
        if pages:
            parts.append(f"{sign} {_ranges(pages, sign == '+')}")
    return "; ".join(parts)


def _ranges(pages: Pages, frames: bool = False) -> str:
    if not pages:
        return ""
    if not frames:
        pages = _touching(pages)
    shown = pages if len(pages) <= MAX_RANGES else pages[: MAX_RANGES - 1]
    texts = [f"[{s << 12:#x}, {(e << 12) - 1:#x}]" + (f" -> {frame << 12:#x}" if frames else "") for s, e, frame in shown]
    if len(pages) > len(shown):
        texts.append(f"{counted(len(pages) - len(shown), 'more range')} up to {(pages[-1][1] << 12) - 1:#x}")
    return f"{', '.join(texts)}: {span(sum(end - start for start, end, _ in pages))}"


def _touching(pages: Pages) -> Pages:
    """Runs that touch as one, whatever their frames."""
    found: list[tuple[int, int, int]] = []
    for start, end, frame in pages:
        if found and found[-1][1] == start:
            found[-1] = (found[-1][0], end, found[-1][2])
        else:
            found.append((start, end, frame))
    return tuple(found)


def _difference(these: Pages, others: Pages) -> Pages:
    """The runs of ``these`` that ``others`` does not have with the same frames. O(both)."""
    found: list[tuple[int, int, int]] = []
    at = 0
    for start, end, frame in these:
        while at < len(others) and others[at][1] <= start:
            at += 1
        here, near = start, at
        while here < end:
            if near == len(others) or others[near][0] >= end:
                cut, same = end, False
            elif others[near][0] > here:
                cut, same = others[near][0], False
            else:
                cut = min(end, others[near][1])
                same = others[near][2] + here - others[near][0] == frame + here - start
                near += others[near][1] <= end
            if not same:
                _add(found, here, cut, frame + here - start)
            here = cut
    return tuple(found)


def _add(runs: list[tuple[int, int, int]], start: int, end: int, frame: int) -> None:
    if runs and runs[-1][1] == start and runs[-1][2] + start - runs[-1][0] == frame:
        runs[-1] = (runs[-1][0], end, runs[-1][2])
    else:
        runs.append((start, end, frame))


# --- devices ------------------------------------------------------------------------------------------------------------------


def _device(old: DeviceView | None, new: DeviceView) -> Iterator[Change]:
    moved = {}
    for who in VIEWS:
        was, now = getattr(old, who) if old else "", getattr(new, who)
        if was != now:
            moved[who] = f"{was} => {now}" if was else now
    if new.agrees and len(moved) == len(VIEWS):
        yield Change(new.name, "all views", moved["caller"])
        return
    yield from (Change(new.name, who, text) for who, text in moved.items())
    if moved and old is not None:
        for who in VIEWS:
            if who not in moved and not new.agrees:
                yield Change(new.name, who, f"unchanged: {getattr(new, who)}")


# --- where they part ----------------------------------------------------------------------------------------------------------


def parting(views: Views) -> tuple[Change, ...]:
    """What each view says of everything on which they do not agree, at most :data:`MAX_CHANGES` lines."""
    parted = views.parted
    found: list[Change] = []
    for domain in parted.domains:
        if not domain.pages_agree:
            found += [Change(domain.name, who, _holds(pages)) for who, pages in domain.pages.items()]
            if domain.limbo:
                found.append(Change(domain.name, "caller", f"in limbo: {_ranges(domain.limbo)}"))
        if not domain.count_agrees:
            found.append(Change(domain.name, "driver", f"counts {counted(domain.counted or 0, 'device')} in it"))
            found.append(Change(domain.name, "hypervisor", f"has {counted(domain.attached, 'device')} in it"))
    for device in parted.devices:
        found += [Change(device.name, who, getattr(device, who)) for who in VIEWS]
    if len(found) > MAX_CHANGES:
        found = [*found[:MAX_CHANGES], Change("", "", f"... and {len(found) - MAX_CHANGES:,} more lines")]
    return tuple(found)


def _holds(pages: Pages) -> str:
    return f"maps {_ranges(pages, True)}" if pages else "nothing mapped"


__all__ = ["MAX_CHANGES", "Change", "changes", "parting"]
