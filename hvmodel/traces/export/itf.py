"""The Informal Trace Format of Apalache and Quint (ADR-015): one state before everything, then one after each operation.

A state has the three views of every domain and device. Integers are written as ``#bigint``, whatever their size, so that a reader
need not tell kinds of numbers apart. What may be missing is a set of at most one element: readers differ over variants, and the
Python one (itf-py 0.5) does not take ``None`` or a number inside of one. For the same reason picks stand bare in
``mbt::nondetPicks``, only those that the operation has.
"""

from __future__ import annotations

import json
from typing import Any

from hvmodel import __version__
from hvmodel.operations import arguments, describe
from hvmodel.traces.export.case import Case, visible
from hvmodel.traces.story import Step
from hvmodel.traces.views import DeviceView, DomainView, Pages, Views

Json = Any

VARIABLES = ("step", "answer", "domains", "devices", "failed", "mbt::actionTaken", "mbt::nondetPicks")
"""The variables of a state. The last two are those by which tools for model-based testing know what led to it."""

_PAGES = "Set(<<Int, Int, Int>>)"
_DOMAIN = (
    f"{{ kind: Str, hv_id: Set(Int), caller: {_PAGES}, limbo: {_PAGES}, driver: Set({_PAGES}), "
    f"hypervisor: Set({_PAGES}), counted: Set(Int), attached: Int }}"
)
TYPES = {
    "step": "Int",
    "answer": "Str",
    "domains": f"Str -> {_DOMAIN}",
    "devices": "Str -> { caller: Str, driver: Str, hypervisor: Str, agrees: Bool }",
    "failed": "Set({ property: Str, detail: Str })",
}
"""The variables' types in Apalache's notation."""


def render(cases: list[Case]) -> str:
    """The trace of one case (the first)."""
    case = cases[0]
    trace = {
        "#meta": {
            "format": "ITF",
            "format-description": "https://apalache-mc.org/docs/adr/015adr-trace.html",
            "source": visible(case.path or case.name),
            "description": case.headline,
            "varTypes": TYPES,
            "hvmodel": {
                "version": __version__,
                "driver": visible(case.driver),
                "profile": case.trace.config.profile,
                "property": case.verdict.property or "",
                "verdict": case.verdict.state,
                "units": "pages are runs <<first, one past the last, first frame>> of 4 KiB pages",
                "operations": [visible(describe(step.operation)) for step in case.steps],
            },
        },
        "vars": list(VARIABLES),
        "states": [_state(0, None), *(_state(step.number, step) for step in case.steps)],
    }
    return json.dumps(trace, indent=1) + "\n"


def _state(index: int, step: Step | None) -> Json:
    views = step.views if step is not None else Views()
    violations = step.outcome.violations if step is not None else ()
    given = arguments(step.operation) if step is not None else {}
    return {
        "#meta": {"index": index},
        "step": _int(index),
        "answer": visible(step.answer) if step is not None else "",
        "domains": _map([(visible(domain.name), _domain(domain)) for domain in views.domains]),
        "devices": _map([(visible(device.name), _device(device)) for device in views.devices]),
        "failed": _set([{"property": v.property, "detail": visible(v.detail)} for v in violations]),
        "mbt::actionTaken": step.operation.kind if step is not None else "init",
        "mbt::nondetPicks": {name: _value(value) for name, value in given.items()},
    }


def _domain(domain: DomainView) -> Json:
    return {
        "kind": domain.kind,
        "hv_id": _option(None if domain.hv_id is None else _int(domain.hv_id)),
        "caller": _pages(domain.caller),
        "limbo": _pages(domain.limbo),
        "driver": _option(None if domain.driver is None else _pages(domain.driver)),
        "hypervisor": _option(None if domain.hypervisor is None else _pages(domain.hypervisor)),
        "counted": _option(None if domain.counted is None else _int(domain.counted)),
        "attached": _int(domain.attached),
    }


def _device(device: DeviceView) -> Json:
    return {
        "caller": visible(device.caller),
        "driver": visible(device.driver),
        "hypervisor": visible(device.hypervisor),
        "agrees": device.agrees,
    }


def _value(value: object) -> Json:
    if isinstance(value, bool):
        return value
    return _int(value) if isinstance(value, int) else visible(str(value))


def _int(value: int) -> Json:
    return {"#bigint": str(value)}


def _set(elements: list[Json]) -> Json:
    """A set; equal elements are one."""
    return {"#set": [element for index, element in enumerate(elements) if element not in elements[:index]]}


def _map(pairs: list[tuple[str, Json]]) -> Json:
    """A map; the last of equal keys counts."""
    return {"#map": [[key, value] for key, value in dict(pairs).items()]}


def _pages(pages: Pages) -> Json:
    return _set([{"#tup": [_int(number) for number in run]} for run in pages])


def _option(value: Json | None) -> Json:
    """What may be missing: a set of one element, or of none."""
    return {"#set": [] if value is None else [value]}


__all__ = ["TYPES", "VARIABLES", "render"]
