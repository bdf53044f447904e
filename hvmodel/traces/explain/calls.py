"""The driver calls of one operation as a tree: calls, below each its hypercalls and what it wrote to the log. What repeats is
folded."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import TypeVar

from hvmodel.document import Branch
from hvmodel.operations import Boot, Kexec
from hvmodel.traces.explain.plain import counted, plain
from hvmodel.traces.story import Call, Hypercall, Step

MAX_BRANCHES = 12
"""Calls of one operation, and entries below one call, that are shown after folding; the rest is counted."""

LONGEST_PERIOD = 4
"""What repeats may be a sequence of so many."""

T = TypeVar("T")


def call_tree(step: Step, over: bool, focus: bool) -> tuple[Branch, ...]:
    """The calls of an operation; those of a start in which nothing is refused are only counted, unless it is the one to look at.
    ``over``: the last call never came back. Log lines that only inform are left out."""
    start = isinstance(step.operation, Boot | Kexec)
    if start and not (over or focus or step.outcome.fired):
        hypercalls = sum(len(call.hypercalls) for call in step.calls)
        told = f"{counted(len(step.calls), 'driver call')}, {counted(hypercalls, 'hypercall')}; nothing was refused"
        return (Branch(told, "dim"),) if step.calls else ()
    heard = [call for call in step.calls if call.name not in ("init", "rest") or call.hypercalls or _log(call)]
    outside = "the driver's init function" if start else "outside of any call"

    def show(call: Call) -> Branch:
        return _call(call, outside, over and call is step.calls[-1])

    return _cut(folded(heard, _call_key, show))


def _log(call: Call) -> list[tuple[str, str]]:
    return [line for line in call.log if line[0] != "info"]


def _call(call: Call, outside: str, over: bool) -> Branch:
    inner = folded(call.hypercalls, _hypercall_key, _hypercall)
    inner += folded(_log(call), _log_key, lambda line: Branch(f"log {plain(line[0])}: {plain(line[1])}", "log"))
    if call.name in ("init", "rest"):
        return Branch("a call that never comes back" if over else outside, "failed" if over else "", _cut(inner))
    failed = call.result is not None and call.result < 0
    return Branch(plain(call.line), "failed" if failed else "", _cut(inner))


def _hypercall(hypercall: Hypercall) -> Branch:
    return Branch(plain(hypercall.line), "refused" if hypercall.refused else "failed" if hypercall.status else "hypercall")


def _hypercall_key(hypercall: Hypercall) -> Hashable:
    return hypercall.name, hypercall.status, hypercall.refused, hypercall.done == hypercall.reps


def _call_key(call: Call) -> Hashable:
    """Calls with equal keys went the same way: name, kind of answer, and what the hypercalls answered."""
    good = call.result is None or call.result >= 0
    return call.name, good or call.result, call.result == 0, tuple(map(_hypercall_key, call.hypercalls)), len(call.log)


def _log_key(line: tuple[str, str]) -> Hashable:
    return line[0], "".join(c for c in line[1] if not c.isdigit())[:80]


def folded(items: Sequence[T], key: Callable[[T], Hashable], show: Callable[[T], Branch]) -> list[Branch]:
    """A branch for each item; where a sequence of items repeats, the first and the last time are shown and the others counted."""
    keys = [key(item) for item in items]
    found: list[Branch] = []
    at = 0
    while at < len(items):
        period, times = _repeats(keys, at)
        found += [show(item) for item in items[at : at + period]]
        at += period * times
        if times == 1:
            continue
        what = "like this" if period == 1 else f"of these {period}, in turn"
        if times > 2:
            found.append(Branch(f"... {times - 2:,} more {what} ...", "dim"))
        found += [show(item) for item in items[at - period : at]]
    return found


def _repeats(keys: Sequence[Hashable], at: int) -> tuple[int, int]:
    """The length of what repeats from here and how often it comes in all; only if folding it saves lines."""
    best = (1, 1)
    for period in range(1, LONGEST_PERIOD + 1):
        if at + 2 * period > len(keys) or keys[at] != keys[at + period]:
            continue
        unit, times = keys[at : at + period], 1
        while keys[at + times * period : at + (times + 1) * period] == unit:
            times += 1
        if times > 3 and period * times > best[0] * best[1]:
            best = (period, times)
    return best


def _cut(branches: Sequence[Branch]) -> tuple[Branch, ...]:
    """The first and the last ones if there are too many."""
    if len(branches) <= MAX_BRANCHES:
        return tuple(branches)
    tail = MAX_BRANCHES // 3
    left_out = Branch(f"... {len(branches) - MAX_BRANCHES:,} lines are left out here ...", "dim")
    return (*branches[: MAX_BRANCHES - tail], left_out, *branches[-tail:])


__all__ = ["call_tree", "folded"]
