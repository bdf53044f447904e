"""The trace file: JSON, versioned, meant to be read, edited and mailed. ``FORMAT.md`` is its one page.

A trace is a start, operations, and, if it has them, what was observed, the finding and where it came from. Reading checks
everything; whatever is wrong becomes one :class:`TraceError` whose text names the place. What is written reads back equal.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from hvmodel import __version__
from hvmodel import operations as ops
from hvmodel.callers.levels import LEVELS
from hvmodel.configuration import Configuration, PciFunction
from hvmodel.faults import KERNEL_SITES, Fault
from hvmodel.hypervisor.abi import CALL_CODES
from hvmodel.hypervisor.policies import DEFAULT, PROFILES, QUESTIONS, Policies, differences
from hvmodel.properties.catalogue import PROPERTIES, SEVERITIES
from hvmodel.traces.checks import TraceError, array, boolean, choice, fail, integer, obj, shown, text
from hvmodel.traces.observed import Observed, observed_in, observed_out
from hvmodel.world import GFPS, PROTS

VERSION = 2
"""Version 2 added ``observed`` and more fields to ``finding``; a file of version 1 is one of version 2 without them."""

MAX_BYTES = 16 << 20
MAX_OPERATIONS = 100_000

_HEX_FIELDS = ops.ADDRESS_FIELDS
_LIMITS = {
    "pages": 1 << 52,
    "runs": 1 << 12,
    "run_pages": 1 << 20,
    "stride": 1 << 30,
    "pgcount": 1 << 64,
    "piece": 1 << 20,
    "gap": 1 << 30,
    "by": 1 << 16,
    "vm": 1 << 16,
}


@dataclass(slots=True)
class Trace:
    """A start and what was done, with what was observed, the finding that it shows and where it came from (if it has them).

    ``finding`` holds the fields of the file's finding but its ``property``; ``observed`` is empty or has one entry an operation.
    """

    config: Configuration
    operations: list[ops.Operation]
    driver: str = "posted-v0"
    property: str | None = None
    finding: dict[str, Any] = field(default_factory=dict)
    origin: dict[str, Any] = field(default_factory=dict)
    harness: str = __version__
    observed: list[Observed] = field(default_factory=list)


# --- writing --------------------------------------------------------------------------------------------------------------


def _fault_out(fault: Fault) -> dict[str, Any]:
    result: dict[str, Any] = {"site": fault.site}
    if fault.nth != 1:
        result["nth"] = fault.nth
    if fault.site not in KERNEL_SITES:
        result["status"] = hex(fault.status)
    if fault.done:
        result["done"] = fault.done
    if fault.times != 1:
        result["times"] = "until lifted" if fault.times is None else fault.times
    return result


def operation_out(operation: ops.Operation) -> dict[str, Any]:
    """One operation as JSON data. Fields of the operation are always written; ``by``, ``prot`` and the like only if unusual."""
    result: dict[str, Any] = {"op": operation.kind}
    for name, value in ops.arguments(operation).items():
        if name in ops.WORDS and value == type(operation).__dataclass_fields__[name].default:
            continue
        result[name] = hex(value) if name in _HEX_FIELDS and isinstance(value, int) else value
    if operation.faults:
        result["faults"] = [_fault_out(fault) for fault in operation.faults]
    return result


def _config_out(config: Configuration) -> dict[str, Any]:
    plain = Configuration()
    result: dict[str, Any] = {"profile": config.profile}
    changed = differences(config.policies)
    if changed:
        result["policies"] = changed
    for item in fields(Configuration):
        value = getattr(config, item.name)
        if item.name in ("profile", "policies") or value == getattr(plain, item.name):
            continue
        if item.name == "devices":
            value = [
                {f.name: getattr(device, f.name) for f in fields(PciFunction) if getattr(device, f.name) != f.default}
                for device in config.devices
            ]
        result[item.name] = value
    return result


def to_json(trace: Trace) -> str:
    """The text of a trace file: one operation a line."""
    head = {
        "hvmodel-trace": VERSION,
        "harness": trace.harness,
        "driver": trace.driver,
        "configuration": _config_out(trace.config),
    }
    lines = [f"  {json.dumps(name)}: {json.dumps(value)}," for name, value in head.items()]
    body = ",\n".join("    " + json.dumps(operation_out(operation)) for operation in trace.operations)
    lines.append('  "operations": [\n' + body + "\n  ]")
    if trace.observed:
        seen = ",\n".join("    " + json.dumps(observed_out(entry)) for entry in trace.observed)
        lines[-1] += ","
        lines.append('  "observed": [\n' + seen + "\n  ]")
    finding = {"property": trace.property, **trace.finding} if trace.property is not None else None
    for name, value in (("finding", finding), ("origin", trace.origin)):
        if value:
            lines[-1] += ","
            lines.append(f"  {json.dumps(name)}: {json.dumps(value)}")
    return "{\n" + "\n".join(lines) + "\n}\n"


def write(trace: Trace, path: Path) -> None:
    """Write a trace file; an interrupted write leaves the old file."""
    part = path.with_name(path.name + ".part")
    part.write_text(to_json(trace), encoding="utf-8")
    part.replace(path)


# --- reading --------------------------------------------------------------------------------------------------------------


def _fault_in(value: Any, where: str) -> Fault:
    data = obj(value, where, {"site", "nth", "status", "done", "times"}, "a fault")
    sites = (*KERNEL_SITES, *CALL_CODES)
    if "site" not in data:
        raise fail(where, "a fault needs a site")
    site = choice(data["site"], f"{where}.site", sites)
    if site not in KERNEL_SITES and "status" not in data:
        raise fail(where, "a refused hypercall needs a status")
    times = data.get("times", 1)
    status = integer(data.get("status", 0), f"{where}.status", 0 if site in KERNEL_SITES else 1, 0xFFFF)
    return Fault(
        site,
        integer(data.get("nth", 1), f"{where}.nth", 1, 1 << 20),
        0 if site in KERNEL_SITES else status,  # a kernel service has no status to fail with
        integer(data.get("done", 0), f"{where}.done", 0, 4095),
        None if times == "until lifted" else integer(times, f"{where}.times", 1, 1 << 20),
    )


def operation_in(value: Any, where: str, config: Configuration) -> ops.Operation:
    """One operation from JSON data; ``where`` says where it stands. Raises :class:`TraceError`."""
    if not isinstance(value, dict):
        raise fail(where, f"must be an operation, not {shown(value)}")
    kind = choice(value.get("op"), f"{where}.op", tuple(ops.KINDS))
    cls = ops.KINDS[kind]
    names = ops.field_names(cls)
    obj(value, where, {"op", "faults", *names})
    arguments: dict[str, Any] = {}
    for name in names:
        if name not in value:
            continue
        place, given = f"{where}.{name}", value[name]
        if name == "prot":
            arguments[name] = choice(given, place, tuple(PROTS))
        elif name == "gfp":
            arguments[name] = choice(given, place, tuple(GFPS))
        elif name in ops.FLAGS:
            arguments[name] = boolean(given, place)
        elif name in _HEX_FIELDS:
            arguments[name] = integer(given, place, 0, (1 << 64) - 1)
        elif name == "device":
            arguments[name] = integer(given, place, 0, len(config.devices) - 1)
        elif name == "group":
            arguments[name] = integer(given, place, 0, 63)
            if arguments[name] not in {device.group for device in config.devices}:
                raise fail(place, f"no device is in group {arguments[name]}")
        else:
            low = 1 if name in ("domain", "vm", "runs", "run_pages", "container", "ioas") else 0
            arguments[name] = integer(given, place, low, _LIMITS.get(name, 1 << 31))
    faults = tuple(
        _fault_in(f, f"{where}.faults[{i}]") for i, f in enumerate(array(value.get("faults", []), f"{where}.faults", 64))
    )
    return cls(faults=faults, **arguments)


def _config_in(value: Any) -> Configuration:
    where = "configuration"
    data = obj(value, where, {item.name for item in fields(Configuration)})
    profile = data.get("profile", "default")
    known = (*PROFILES, "variations")
    choice(profile, f"{where}.profile", known)
    changes: dict[str, Any] = {"profile": profile}
    policies: Policies = DEFAULT
    for name, answer in obj(data.get("policies", {}), f"{where}.policies", set(QUESTIONS)).items():
        choice(answer, f"{where}.policies.{name}", QUESTIONS[name].alternatives)
        policies = replace(policies, **{name: answer})
    changes["policies"] = policies
    for name in ("l1vh", "capabilities", "no_attdev", "mshv"):
        if name in data:
            changes[name] = boolean(data[name], f"{where}.{name}")
    for name, high in (
        ("iova_width", 64),
        ("root_pool", 1 << 30),
        ("domain_limit", 1 << 31),
        ("unique_id", 0xFFFFFFFF),
        ("left_deposit", 1 << 20),
    ):
        if name in data:
            changes[name] = integer(data[name], f"{where}.{name}", 0, high)
    if "skip" in data:
        changes["skip"] = text(data["skip"], f"{where}.skip")
    if "devices" in data:
        changes["devices"] = tuple(
            _device_in(d, f"{where}.devices[{i}]") for i, d in enumerate(array(data["devices"], f"{where}.devices", 64))
        )
    if "left_domains" in data:
        entries = array(data["left_domains"], f"{where}.left_domains", 4096)
        changes["left_domains"] = tuple(integer(v, f"{where}.left_domains[{i}]", 1, 0xFFFFFFFE) for i, v in enumerate(entries))
    if "left_devices" in data:
        pairs = []
        for i, pair in enumerate(array(data["left_devices"], f"{where}.left_devices", 64)):
            place = f"{where}.left_devices[{i}]"
            if len(array(pair, place, 2)) != 2:
                raise fail(place, "must be a pair of device and domain id")
            pairs.append((integer(pair[0], place, 0, 63), integer(pair[1], place, 1, 0xFFFFFFFE)))
        changes["left_devices"] = tuple(pairs)
    config = Configuration(**changes)
    problem = config.problems()
    if problem is not None:
        raise fail(where, problem)
    return config


def _device_in(value: Any, where: str) -> PciFunction:
    data = obj(value, where, {f.name for f in fields(PciFunction)}, "a device")
    changes: dict[str, Any] = {}
    for name, given in data.items():
        place = f"{where}.{name}"
        if name == "owned":
            changes[name] = boolean(given, place)
        elif name == "reserved":
            ranges = []
            for i, pair in enumerate(array(given, place, 16)):
                if len(array(pair, f"{place}[{i}]", 2)) != 2:
                    raise fail(f"{place}[{i}]", "must be a pair of page numbers")
                ranges.append((integer(pair[0], place, 0, 1 << 52), integer(pair[1], place, 0, 1 << 52)))
            changes[name] = tuple(ranges)
        elif name == "alias" and given is None:
            changes[name] = None
        else:
            changes[name] = integer(given, place, 0, 0xFFFFFFFF if name == "segment" else 0xFFFF)
    return PciFunction(**changes)


def _impossible(operations: list[ops.Operation]) -> str | None:
    """The first operation that names what none before it makes, and what that is; None if there is none."""
    domains: set[int] = set()
    vms: set[int] = set()
    for index, operation in enumerate(operations):
        if isinstance(operation, ops.Alloc):
            domains.add(operation.domain)
        elif isinstance(operation, ops.VmCreate):
            vms.add(operation.vm)
        else:
            for name, known, maker in (("domain", domains, "alloc"), ("vm", vms, "vm-create")):
                value = getattr(operation, name, None)
                if value is not None and value not in known:
                    return f"operations[{index}].{name}: no {maker} before it makes {name} {value}"
    return None


_FINDING = {"property", "severity", "summary", "step", "call", "level", "means", "assumptions", "views", "defects"}
_ORIGIN = {"gear", "seed", "date", "shard", "minimised-from", "note"}


def _finding_in(value: Any, operations: int) -> dict[str, Any]:
    data = obj(value, "finding", _FINDING)
    for name, options in (("property", PROPERTIES), ("severity", SEVERITIES), ("level", LEVELS)):
        if name in data:
            choice(data[name], f"finding.{name}", tuple(options))
    for name in ("summary", "call", "means"):
        if name in data:
            text(data[name], f"finding.{name}")
    if "step" in data and not 1 <= integer(data["step"], "finding.step", 1, MAX_OPERATIONS) <= operations:
        raise fail("finding.step", f"there is no operation {data['step']}, the trace has {operations}")
    for name in ("assumptions", "defects"):
        for i, entry in enumerate(array(data.get(name, []), f"finding.{name}", 64)):
            text(entry, f"finding.{name}[{i}]")
    for i, entry in enumerate(array(data.get("views", []), "finding.views", 64)):
        for name, said in obj(entry, f"finding.views[{i}]", {"of", "caller", "limbo", "driver", "hypervisor"}).items():
            text(said, f"finding.views[{i}].{name}")
    return data


def _origin_in(value: Any) -> dict[str, Any]:
    for name, given in obj(value, "origin", _ORIGIN).items():
        entries = given if isinstance(given, list) else [given]
        for entry in array(entries, f"origin.{name}", 64):
            text(entry, f"origin.{name}")
    return dict(value)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object; a field that is given twice is an error, since one of the two would be lost."""
    result = dict(pairs)
    if len(result) != len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise TraceError(f"the field {shown(twice)} is given twice in one object")
    return result


def _parsed(content: str) -> Any:
    if not content.strip():
        raise TraceError("the file is empty")
    try:
        return json.loads(content, object_pairs_hook=_unique)
    except json.JSONDecodeError as error:
        if error.pos >= len(content.rstrip()) or "Unterminated" in error.msg:
            raise TraceError(f"line {error.lineno}: the file is cut off ({error.msg})") from None
        raise TraceError(f"line {error.lineno}, column {error.colno}: not JSON ({error.msg})") from None
    except TraceError:
        raise
    except (RecursionError, ValueError) as error:
        raise TraceError(f"not a trace ({str(error).splitlines()[0][:80] or 'nested too deeply'})") from None


def from_json(content: str) -> Trace:
    """The trace in a text. Raises :class:`TraceError` for anything that is not one."""
    data = _parsed(content)
    if not isinstance(data, dict) or "hvmodel-trace" not in data:
        raise TraceError('not a trace: the field "hvmodel-trace" is missing')
    version = data["hvmodel-trace"]
    if not isinstance(version, int) or isinstance(version, bool) or version < 1:
        raise TraceError(f"hvmodel-trace: must be a version number, not {shown(version)}")
    if version > VERSION:
        raise TraceError(f"hvmodel-trace: version {version} is newer than this harness reads ({VERSION}); update hvmodel")
    obj(data, "", {"hvmodel-trace", "harness", "driver", "configuration", "operations", "observed", "finding", "origin"})
    config = _config_in(data.get("configuration", {}))
    if "operations" not in data:
        raise TraceError("operations: missing")
    entries = array(data["operations"], "operations", MAX_OPERATIONS)
    operations = [operation_in(value, f"operations[{i}]", config) for i, value in enumerate(entries)]
    problem = _impossible(operations)
    if problem is not None:
        raise TraceError(problem)
    finding = _finding_in(data.get("finding", {}), len(operations))
    return Trace(
        config,
        operations,
        text(data.get("driver", "posted-v0"), "driver"),
        finding.get("property"),
        {name: value for name, value in finding.items() if name != "property"},
        _origin_in(data.get("origin", {})),
        text(data.get("harness", ""), "harness"),
        observed_in(data.get("observed", []), "observed", len(operations)),
    )


def read(path: Path) -> Trace:
    """The trace in a file. Raises :class:`TraceError`, with the file's name in front."""
    try:
        if path.stat().st_size > MAX_BYTES:
            raise TraceError(f"larger than {MAX_BYTES >> 20} MiB, no trace is")
        content = path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise TraceError(f"{path}: not a text file") from None
    except TraceError as error:
        raise TraceError(f"{path}: {error}") from None
    except OSError as error:
        raise TraceError(f"{path}: {error.strerror or error}") from None
    except ValueError as error:  # a name that no file can have
        raise TraceError(f"{path}: {error}") from None
    try:
        return from_json(content)
    except TraceError as error:
        raise TraceError(f"{path}: {error}") from None


__all__ = [
    "MAX_BYTES",
    "MAX_OPERATIONS",
    "VERSION",
    "Trace",
    "TraceError",
    "from_json",
    "operation_out",
    "read",
    "to_json",
    "write",
]
