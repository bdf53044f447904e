"""The trace file: JSON, versioned, meant to be read, edited and mailed.

A whole one, which can be written by hand::

    {
      "hvmodel-trace": 1,
      "driver": "posted-v0",
      "configuration": {"policies": {"detach_leaves": "null"}, "no_attdev": true},
      "operations": [
        {"op": "boot"},
        {"op": "alloc", "domain": 1, "device": 0},
        {"op": "map", "domain": 1, "iova": "0x100000", "paddr": "0x40000000", "pages": 16},
        {"op": "unmap", "domain": 1, "iova": "0x100000", "pages": 16,
         "faults": [{"site": "UNMAP_DEVICE_GPA_PAGES", "nth": 1, "status": "0x71", "done": 4, "times": 1}]}
      ],
      "finding": {"property": "no-stale-mapping"}
    }

Kinds of operations and their fields are those of ``hvmodel/operations.py``, fault fields those of ``hvmodel/faults.py`` (``times``
may be "until lifted"), configuration fields those of ``hvmodel/configuration.py``, policies those of
``hvmodel/hypervisor/policies.py``. Addresses and statuses are hex strings, counts are numbers; what is left out has its default.
A trace begins with ``boot``; an operation that finds nothing to act on does nothing. ``finding`` and ``origin`` may be left out.
Reading checks everything; whatever is wrong becomes one :class:`TraceError` whose text names the place.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from hvmodel import __version__
from hvmodel import operations as ops
from hvmodel.configuration import Configuration, PciFunction
from hvmodel.faults import KERNEL_SITES, Fault
from hvmodel.hypervisor.abi import CALL_CODES
from hvmodel.hypervisor.policies import DEFAULT, PROFILES, QUESTIONS, Policies, differences
from hvmodel.properties.catalogue import PROPERTIES
from hvmodel.world import GFPS, PROTS

VERSION = 1
MAX_BYTES = 16 << 20
MAX_OPERATIONS = 100_000

_HEX_FIELDS = ops.ADDRESS_FIELDS
_LIMITS = {
    "pages": 1 << 52,
    "runs": 1 << 16,
    "run_pages": 1 << 20,
    "stride": 1 << 30,
    "pgcount": 1 << 64,
    "by": 1 << 16,
    "vm": 1 << 16,
}


class TraceError(ValueError):
    """A trace that cannot be used; the text says what is wrong and where, in one line that any console can print."""

    def __init__(self, text: str) -> None:
        super().__init__("".join(c if c.isprintable() else ascii(c)[1:-1] for c in text))


@dataclass(slots=True)
class Trace:
    """A start and what was done, with the finding that it shows (if any) and where it came from."""

    config: Configuration
    operations: list[ops.Operation]
    driver: str = "posted-v0"
    property: str | None = None
    finding: dict[str, Any] = field(default_factory=dict)
    origin: dict[str, Any] = field(default_factory=dict)
    harness: str = __version__


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
        if name in ("by", "prot", "gfp", "mapped") and value == type(operation).__dataclass_fields__[name].default:
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


def _fail(where: str, what: str) -> TraceError:
    return TraceError(f"{where}: {what}" if where else what)


def _object(value: Any, where: str, known: set[str], what: str = "an object") -> dict[str, Any]:
    if not isinstance(value, dict):
        raise _fail(where, f"must be {what}, not {_shown(value)}")
    for name in value:
        if name not in known:
            raise _fail(f"{where}.{name}" if where else str(name)[:40], f"unknown field (known: {', '.join(sorted(known))})")
    return value


def _shown(value: Any) -> str:
    try:
        text = json.dumps(value, default=str)
    except RecursionError:
        return "something nested that deeply"
    return text if len(text) <= 40 else text[:37] + "..."


def _int(value: Any, where: str, low: int, high: int) -> int:
    """A JSON number, or a string with a hex number."""
    if isinstance(value, str):
        text = value.strip()
        try:
            if len(text) > 20:
                raise ValueError
            value = int(text, 16) if text.lower().startswith("0x") else int(text)
        except ValueError:
            raise _fail(where, f'must be a number such as 4096 or "0x1000", not {_shown(value)}') from None
    if not isinstance(value, int) or isinstance(value, bool):
        raise _fail(where, f"must be a number, not {_shown(value)}")
    if not low <= value <= high:
        raise _fail(where, f"must be {low} to {high:#x}, not {_shown(value)}")
    return value


def _choice(value: Any, where: str, options: Any) -> str:
    if not isinstance(value, str) or value not in options:
        raise _fail(where, f"must be one of {', '.join(map(repr, options))}, not {_shown(value)}")
    return value


def _bool(value: Any, where: str) -> bool:
    if not isinstance(value, bool):
        raise _fail(where, f"must be true or false, not {_shown(value)}")
    return value


def _list(value: Any, where: str, most: int) -> list[Any]:
    if not isinstance(value, list):
        raise _fail(where, f"must be a list, not {_shown(value)}")
    if len(value) > most:
        raise _fail(where, f"has {len(value)} entries, at most {most} are possible")
    return value


def _fault_in(value: Any, where: str) -> Fault:
    data = _object(value, where, {"site", "nth", "status", "done", "times"}, "a fault")
    sites = (*KERNEL_SITES, *CALL_CODES)
    if "site" not in data:
        raise _fail(where, "a fault needs a site")
    site = _choice(data["site"], f"{where}.site", sites)
    if site not in KERNEL_SITES and "status" not in data:
        raise _fail(where, "a refused hypercall needs a status")
    times = data.get("times", 1)
    return Fault(
        site,
        _int(data.get("nth", 1), f"{where}.nth", 1, 1 << 20),
        _int(data.get("status", 0), f"{where}.status", 0 if site in KERNEL_SITES else 1, 0xFFFF),
        _int(data.get("done", 0), f"{where}.done", 0, 4095),
        None if times == "until lifted" else _int(times, f"{where}.times", 1, 1 << 20),
    )


def _operation_in(value: Any, where: str, config: Configuration) -> ops.Operation:
    if not isinstance(value, dict):
        raise _fail(where, f"must be an operation, not {_shown(value)}")
    kind = _choice(value.get("op"), f"{where}.op", tuple(ops.KINDS))
    cls = ops.KINDS[kind]
    names = ops.field_names(cls)
    _object(value, where, {"op", "faults", "told", *names})
    arguments: dict[str, Any] = {}
    for name in names:
        if name not in value:
            continue
        place, given = f"{where}.{name}", value[name]
        if name == "prot":
            arguments[name] = _choice(given, place, tuple(PROTS))
        elif name == "gfp":
            arguments[name] = _choice(given, place, tuple(GFPS))
        elif name in ("mapped",):
            arguments[name] = _bool(given, place)
        elif name in _HEX_FIELDS:
            arguments[name] = _int(given, place, 0, (1 << 64) - 1)
        elif name == "device":
            arguments[name] = _int(given, place, 0, len(config.devices) - 1)
        elif name == "group":
            arguments[name] = _int(given, place, 0, 63)
            if arguments[name] not in {device.group for device in config.devices}:
                raise _fail(place, f"no device is in group {arguments[name]}")
        else:
            low = 1 if name in ("domain", "vm", "runs", "run_pages") else 0
            arguments[name] = _int(given, place, low, _LIMITS.get(name, 1 << 31))
    faults = tuple(
        _fault_in(f, f"{where}.faults[{i}]") for i, f in enumerate(_list(value.get("faults", []), f"{where}.faults", 64))
    )
    return cls(faults=faults, **arguments)


def _config_in(value: Any) -> Configuration:
    where = "configuration"
    data = _object(value, where, {item.name for item in fields(Configuration)})
    profile = data.get("profile", "default")
    known = (*PROFILES, "variations")
    _choice(profile, f"{where}.profile", known)
    changes: dict[str, Any] = {"profile": profile}
    policies: Policies = DEFAULT
    for name, answer in _object(data.get("policies", {}), f"{where}.policies", set(QUESTIONS)).items():
        _choice(answer, f"{where}.policies.{name}", QUESTIONS[name].alternatives)
        policies = replace(policies, **{name: answer})
    changes["policies"] = policies
    for name in ("l1vh", "capabilities", "no_attdev", "mshv"):
        if name in data:
            changes[name] = _bool(data[name], f"{where}.{name}")
    for name, high in (
        ("iova_width", 64),
        ("root_pool", 1 << 30),
        ("domain_limit", 1 << 31),
        ("unique_id", 0xFFFFFFFF),
        ("left_deposit", 1 << 20),
    ):
        if name in data:
            changes[name] = _int(data[name], f"{where}.{name}", 0, high)
    if "skip" in data:
        if not isinstance(data["skip"], str) or len(data["skip"]) > 4096:
            raise _fail(f"{where}.skip", f"must be a text, not {_shown(data['skip'])}")
        changes["skip"] = data["skip"]
    if "devices" in data:
        changes["devices"] = tuple(
            _device_in(d, f"{where}.devices[{i}]") for i, d in enumerate(_list(data["devices"], f"{where}.devices", 64))
        )
    if "left_domains" in data:
        entries = _list(data["left_domains"], f"{where}.left_domains", 4096)
        changes["left_domains"] = tuple(_int(v, f"{where}.left_domains[{i}]", 1, 0xFFFFFFFE) for i, v in enumerate(entries))
    if "left_devices" in data:
        pairs = []
        for i, pair in enumerate(_list(data["left_devices"], f"{where}.left_devices", 64)):
            place = f"{where}.left_devices[{i}]"
            if len(_list(pair, place, 2)) != 2:
                raise _fail(place, "must be a pair of device and domain id")
            pairs.append((_int(pair[0], place, 0, 63), _int(pair[1], place, 1, 0xFFFFFFFE)))
        changes["left_devices"] = tuple(pairs)
    config = Configuration(**changes)
    problem = config.problems()
    if problem is not None:
        raise _fail(where, problem)
    return config


def _device_in(value: Any, where: str) -> PciFunction:
    data = _object(value, where, {f.name for f in fields(PciFunction)}, "a device")
    changes: dict[str, Any] = {}
    for name, given in data.items():
        place = f"{where}.{name}"
        if name == "owned":
            changes[name] = _bool(given, place)
        elif name == "reserved":
            ranges = []
            for i, pair in enumerate(_list(given, place, 16)):
                if len(_list(pair, f"{place}[{i}]", 2)) != 2:
                    raise _fail(f"{place}[{i}]", "must be a pair of page numbers")
                ranges.append((_int(pair[0], place, 0, 1 << 52), _int(pair[1], place, 0, 1 << 52)))
            changes[name] = tuple(ranges)
        elif name == "alias" and given is None:
            changes[name] = None
        else:
            changes[name] = _int(given, place, 0, 0xFFFFFFFF if name == "segment" else 0xFFFF)
    return PciFunction(**changes)


def from_json(text: str) -> Trace:
    """The trace in a text. Raises :class:`TraceError` for anything that is not one."""
    if not text.strip():
        raise TraceError("the file is empty")
    try:
        data = json.loads(text)
    except json.JSONDecodeError as error:
        if error.pos >= len(text.rstrip()) or "Unterminated" in error.msg:
            raise TraceError(f"line {error.lineno}: the file is cut off ({error.msg})") from None
        raise TraceError(f"line {error.lineno}, column {error.colno}: not JSON ({error.msg})") from None
    except (RecursionError, ValueError) as error:
        raise TraceError(f"not a trace ({str(error).splitlines()[0][:80] or 'nested too deeply'})") from None
    if not isinstance(data, dict) or "hvmodel-trace" not in data:
        raise TraceError('not a trace: the field "hvmodel-trace" is missing')
    version = data["hvmodel-trace"]
    if not isinstance(version, int) or isinstance(version, bool) or version < 1:
        raise TraceError(f"hvmodel-trace: must be a version number, not {_shown(version)}")
    if version > VERSION:
        raise TraceError(f"hvmodel-trace: version {version} is newer than this harness reads ({VERSION}); update hvmodel")
    _object(data, "", {"hvmodel-trace", "harness", "driver", "configuration", "operations", "finding", "origin"})
    config = _config_in(data.get("configuration", {}))
    if "operations" not in data:
        raise TraceError("operations: missing")
    entries = _list(data["operations"], "operations", MAX_OPERATIONS)
    operations = [_operation_in(value, f"operations[{i}]", config) for i, value in enumerate(entries)]
    driver = data.get("driver", "posted-v0")
    if not isinstance(driver, str):
        raise _fail("driver", f"must be a name, not {_shown(driver)}")
    finding = data.get("finding", {})
    if not isinstance(finding, dict):
        raise _fail("finding", f"must be an object, not {_shown(finding)}")
    name = finding.get("property")
    if name is not None:
        _choice(name, "finding.property", tuple(PROPERTIES))
    origin = data.get("origin", {})
    if not isinstance(origin, dict):
        raise _fail("origin", f"must be an object, not {_shown(origin)}")
    harness = data.get("harness", "")
    rest = {key: value for key, value in finding.items() if key != "property"}
    return Trace(config, operations, driver, name, rest, origin, harness if isinstance(harness, str) else "")


def read(path: Path) -> Trace:
    """The trace in a file. Raises :class:`TraceError`, with the file's name in front."""
    try:
        if path.stat().st_size > MAX_BYTES:
            raise TraceError(f"larger than {MAX_BYTES >> 20} MiB, no trace is")
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise TraceError(f"{path}: not a text file") from None
    except TraceError as error:
        raise TraceError(f"{path}: {error}") from None
    except OSError as error:
        raise TraceError(f"{path}: {error.strerror or error}") from None
    except ValueError as error:  # a name that no file can have
        raise TraceError(f"{path}: {error}") from None
    try:
        return from_json(text)
    except TraceError as error:
        raise TraceError(f"{path}: {error}") from None
