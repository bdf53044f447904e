"""What was seen when a trace was recorded: for each operation the answer, the driver's calls, their hypercalls.

A replay does not need it. It tells whether a trace still runs as it did, and, on another driver, where the two part.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import zip_longest
from typing import TYPE_CHECKING, Any

from hvmodel.hypervisor import abi
from hvmodel.traces.checks import array, boolean, fail, integer, obj, text

if TYPE_CHECKING:
    from hvmodel.traces.story import Call, Hypercall, Step

MAX_ENTRIES = 64
"""Calls recorded for one operation, and hypercalls for one call; the rest is counted."""


@dataclass(frozen=True, slots=True)
class ObservedHypercall:
    """A hypercall by name, its status by name (``SUCCESS``), completed reps (None: not a rep call), whether a fault decided, how
    many equal ones came in a row."""

    name: str
    status: str
    done: int | None = None
    refused: bool = False
    times: int = 1


@dataclass(frozen=True, slots=True)
class ObservedCall:
    """A call into the driver: the op's name, what it answered in words, its hypercalls, and how many more of those there were."""

    name: str
    answer: str = ""
    hypercalls: tuple[ObservedHypercall, ...] = ()
    more: int = 0


@dataclass(frozen=True, slots=True)
class Observed:
    """What came of one operation: what its caller was told, the driver calls, and how many more of those there were."""

    answer: str
    calls: tuple[ObservedCall, ...] = ()
    more: int = 0


# --- recording ------------------------------------------------------------------------------------------------------------


def observe(steps: list[Step]) -> list[Observed]:
    """The record of a run that ``story.tell`` told."""
    found = []
    for step in steps:
        told = [call for call in step.calls if call.data is not None or call.hypercalls]  # the rest has only written to the log
        calls = [_call(call) for call in told[:MAX_ENTRIES]]
        found.append(Observed(step.answer, tuple(calls), max(len(told) - MAX_ENTRIES, 0)))
    return found


def _call(call: Call) -> ObservedCall:
    seen = _folded(call.hypercalls)
    return ObservedCall(call.name, call.answer, tuple(seen[:MAX_ENTRIES]), sum(one.times for one in seen[MAX_ENTRIES:]))


def _folded(hypercalls: list[Hypercall]) -> list[ObservedHypercall]:
    """Equal ones in a row as one."""
    found: list[ObservedHypercall] = []
    for hypercall in hypercalls:
        one = ObservedHypercall(hypercall.name, abi.status_name(hypercall.status), hypercall.done, hypercall.refused)
        if found and replace(found[-1], times=1) == one:
            one = replace(one, times=found.pop().times + 1)
        found.append(one)
    return found


def difference(recorded: list[Observed], steps: list[Step]) -> str | None:
    """The first place where a run is not what was recorded, in one line; None if it is the same or nothing was recorded."""
    if not recorded:
        return None
    for number, (then, now) in enumerate(zip_longest(recorded, observe(steps)), 1):
        if then == now:
            continue
        if then is None or now is None:
            return f"step {number}: {'not recorded' if then is None else 'recorded, but not run'}"
        return f"step {number}: {_parting(then, now)}"
    return None


def _parting(then: Observed, now: Observed) -> str:
    for was, call in zip_longest(then.calls, now.calls):
        if was == call:
            continue
        if was is None or call is None or was.name != call.name:
            return f"{_named(call)}, recorded was {_named(was)}"
        for old, new in zip_longest(was.hypercalls, call.hypercalls):
            if old != new:
                return f"{call.name} makes {_spelled(new)}, recorded was {_spelled(old)}"
        return f"{call.name} answers {call.answer or 'nothing'}, recorded was {was.answer or 'nothing'}"
    return f"the answer is {now.answer}, recorded was {then.answer}"


def _named(call: ObservedCall | None) -> str:
    return "no more calls" if call is None else f"a call of {call.name}"


def _spelled(hypercall: ObservedHypercall | None) -> str:
    if hypercall is None:
        return "no more hypercalls"
    done = "" if hypercall.done is None else f", {hypercall.done} done"
    times = "" if hypercall.times == 1 else f", {hypercall.times} times"
    return f"{hypercall.name} -> {hypercall.status}{done}{times}{' (refused)' if hypercall.refused else ''}"


# --- the file -------------------------------------------------------------------------------------------------------------


def observed_out(observed: Observed) -> dict[str, Any]:
    """One record as JSON data; what is usual is left out."""
    result: dict[str, Any] = {"answer": observed.answer}
    if observed.calls:
        result["calls"] = [_call_out(call) for call in observed.calls]
    if observed.more:
        result["more"] = observed.more
    return result


def _call_out(call: ObservedCall) -> dict[str, Any]:
    result: dict[str, Any] = {"call": call.name}
    if call.answer:
        result["answer"] = call.answer
    if call.hypercalls:
        result["hypercalls"] = [dict(_hypercall_out(hypercall)) for hypercall in call.hypercalls]
    if call.more:
        result["more"] = call.more
    return result


def _hypercall_out(hypercall: ObservedHypercall) -> Iterator[tuple[str, Any]]:
    yield "call", hypercall.name
    yield "status", hypercall.status
    if hypercall.done is not None:
        yield "done", hypercall.done
    if hypercall.refused:
        yield "refused", True
    if hypercall.times != 1:
        yield "times", hypercall.times


def observed_in(value: Any, where: str, operations: int) -> list[Observed]:
    """The ``observed`` field of a file: one entry for each of its operations, or none at all. Raises ``TraceError``."""
    entries = array(value, where, operations)
    if entries and len(entries) != operations:
        raise fail(where, f"has {len(entries)} entries for {operations} operations (leave it out after editing operations)")
    return [_observed_in(entry, f"{where}[{i}]") for i, entry in enumerate(entries)]


def _observed_in(value: Any, where: str) -> Observed:
    data = obj(value, where, {"answer", "calls", "more"})
    calls = array(data.get("calls", []), f"{where}.calls", MAX_ENTRIES)
    return Observed(
        text(data.get("answer", ""), f"{where}.answer"),
        tuple(_call_in(call, f"{where}.calls[{i}]") for i, call in enumerate(calls)),
        integer(data.get("more", 0), f"{where}.more", 0, 1 << 32),
    )


def _call_in(value: Any, where: str) -> ObservedCall:
    data = obj(value, where, {"call", "answer", "hypercalls", "more"}, "a call")
    hypercalls = array(data.get("hypercalls", []), f"{where}.hypercalls", MAX_ENTRIES)
    return ObservedCall(
        text(data.get("call"), f"{where}.call"),
        text(data.get("answer", ""), f"{where}.answer"),
        tuple(_hypercall_in(one, f"{where}.hypercalls[{i}]") for i, one in enumerate(hypercalls)),
        integer(data.get("more", 0), f"{where}.more", 0, 1 << 32),
    )


def _hypercall_in(value: Any, where: str) -> ObservedHypercall:
    data = obj(value, where, {"call", "status", "done", "refused", "times"}, "a hypercall")
    return ObservedHypercall(
        text(data.get("call"), f"{where}.call"),
        text(data.get("status"), f"{where}.status"),
        integer(data["done"], f"{where}.done", 0, 0xFFF) if "done" in data else None,
        boolean(data.get("refused", False), f"{where}.refused"),
        integer(data.get("times", 1), f"{where}.times", 1, 1 << 32),
    )


__all__ = ["Observed", "ObservedCall", "ObservedHypercall", "difference", "observe", "observed_in", "observed_out"]
