"""The catalogue's traces: each still shows its defect, and nothing shorter does."""

from __future__ import annotations

import pytest
from catalogue import ENTRIES, Entry

from hvmodel.callers.levels import LEVELS
from hvmodel.gears.minimise import Target, minimise
from hvmodel.hypervisor import abi
from hvmodel.operations import Recover
from hvmodel.properties.catalogue import PROPERTIES
from hvmodel.properties.verdicts import HypercallRecord, Violation
from hvmodel.traces.format import Trace, from_json, to_json
from hvmodel.world import Outcome, World, run

DRIVER = "posted-v0"

REQUIRED = [
    "D01", "D02", "D05", "D07", "D09", "D10", "D11", "D12", "D13-create", "D13-attach", "D16",
    "D20", "D21", "D23", "D24", "D27", "D28", "D29", "D30", "D32",
    "D50", "D51", "D52", "D53", "D54", "D55", "D56", "D58", "D59", "D60", "D61", "D62", "D64", "D65", "D68", "D72", "D73",
    "D90",
]

each = pytest.mark.parametrize("entry", [pytest.param(entry, id=key) for key, entry in ENTRIES.items()])


def shown(entry: Entry, outcome: Outcome) -> list[Violation]:
    """The violations of an operation that are the entry's."""
    return [v for v in outcome.violations if v.property == entry.property and entry.detail in v.detail]


def spelled(record: object) -> str:
    """A hypercall as the catalogue writes it: ``UNMAP 4096: INVALID_HYPERCALL_INPUT``, ``ATTACH domain 1``."""
    assert isinstance(record, HypercallRecord)
    code, status = record.code, record.status & abi.STATUS_MASK
    layout, names = abi.LAYOUTS[code]
    header = dict(zip(names, layout.unpack_from(record.header), strict=True))
    text = abi.call_name(code).removesuffix("_DEVICE_GPA_PAGES").removesuffix("_DEVICE_DOMAIN")
    if code in abi.REP_CALLS:
        text += f" {record.control >> abi.REP_COUNT_SHIFT & 0xFFFF}"
    elif "id" in header:
        text += f" domain {header['id']:#x}" if header["id"] > 9 else f" domain {header['id']}"
    elif code in (abi.HVCALL_ATTACH_DEVICE, abi.HVCALL_DETACH_DEVICE):
        text += f" partition {header['partition_id']:#x}"
    text += ": refused" if record.refused else f": {abi.status_name(status)}" if status else ""
    return text + (f" after {record.completed}" if status and record.completed else "")


def test_required_ids_are_present() -> None:
    """Protects against an entry that is renamed or dropped: these ids must have at least one trace."""
    assert [ident for ident in REQUIRED if not any(f"{key}-".startswith(f"{ident}-") for key in ENTRIES)] == []
    assert {entry.property for entry in ENTRIES.values()} <= set(PROPERTIES)


@each
def test_fails_at_the_last_operation_and_no_earlier(entry: Entry) -> None:
    """Protects against a property gone blind, or one that sees what is not there: it fails at the end and only there."""
    _world, outcomes = run(entry.config, list(entry.operations), DRIVER)
    assert [outcome.applied for outcome in outcomes] == [True] * len(outcomes)
    early = [v for outcome in outcomes[:-1] for v in outcome.violations if v.property == entry.property]
    assert early == []
    assert shown(entry, outcomes[-1]), outcomes[-1].violations
    fired = [fault for operation in entry.operations for fault in operation.faults]
    assert set(fired) == {fault for outcome in outcomes for fault in outcome.fired}, "a fault did not fire"


@each
def test_level(entry: Entry) -> None:
    """Protects the claim about who meets the defect: the kernel as it is, what the ops allow, or neither."""
    _world, outcomes = run(entry.config, list(entry.operations), DRIVER)
    assert LEVELS[max(outcome.level for outcome in outcomes)] == entry.level


@each
def test_hypercalls_are_those_of_the_defect(entry: Entry) -> None:
    """Protects against a trace that comes to fail its property for another reason, as its hypercalls would tell."""
    world = World(entry.config, DRIVER)
    heard: list[str] = []
    world.judge.story = lambda kind, what: heard.append(spelled(what)) if kind == "hypercall" else None
    for operation in entry.operations:
        heard.clear()
        world.apply(operation)
    made = "; ".join(dict.fromkeys(heard))
    assert made.startswith(entry.calls) if isinstance(entry.operations[-1], Recover) else made == entry.calls


@each
def test_minimiser_finds_nothing_shorter(entry: Entry) -> None:
    """Protects the catalogue's claim to be shortest, and the minimiser against losing what it was given."""
    operations = list(entry.operations)
    _world, outcomes = run(entry.config, operations, DRIVER)
    violation = shown(entry, outcomes[-1])[0]
    target = Target(property=entry.property, call=violation.call, shape=violation.shape)
    least = minimise(entry.config, operations, DRIVER, target)
    assert least is not None
    assert len(least.operations) == len(operations), least.operations


@each
def test_same_after_a_trace_file(entry: Entry) -> None:
    """Protects the exchange of traces: written, read and replayed, one is the same to the last word."""
    trace = Trace(entry.config, list(entry.operations), DRIVER, entry.property)
    again = from_json(to_json(trace))
    assert (again.config, again.operations, again.property) == (trace.config, trace.operations, trace.property)
    assert run(again.config, again.operations, again.driver)[1] == run(trace.config, trace.operations, DRIVER)[1]
