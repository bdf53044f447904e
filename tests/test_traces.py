"""The trace format: what is written reads back, whatever else is read ends in one line that names the place, replay answers truly.

Traces are edited by hand and mailed, so reading meets everything: nothing that a file contains may end in a traceback.
"""

from __future__ import annotations

import io
import json
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from catalogue import ENTRIES, Entry
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console
from toy_drivers import HONEST

from hvmodel import operations as ops
from hvmodel.callers.levels import LEVELS
from hvmodel.configuration import Configuration, PciFunction
from hvmodel.drivers import REGISTRY, register
from hvmodel.faults import KERNEL_SITES, Fault
from hvmodel.gears.walk import walk
from hvmodel.hypervisor.abi import CALL_CODES
from hvmodel.hypervisor.policies import DEFAULT, PROFILES, QUESTIONS
from hvmodel.properties.catalogue import PROPERTIES, SEVERITIES
from hvmodel.rules.worlds import PROFILE_NAMES
from hvmodel.traces.format import MAX_BYTES, VERSION, Trace, TraceError, from_json, read, to_json, write
from hvmodel.traces.observed import Observed, ObservedCall, ObservedHypercall
from hvmodel.traces.replay import replay, replay_file
from hvmodel.world import GFPS, PROTS

DRIVER = "posted-v0"
U64 = (1 << 64) - 1
CI = settings.get_profile("ci")
SOME, MANY = settings(CI, max_examples=120), settings(CI, max_examples=250)

HOSTILE = st.text()
"""Names as a file may hold them: control characters and half surrogates too."""

# --- any trace --------------------------------------------------------------------------------------------------------

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(1 << 70), 1 << 70) | st.floats() | HOSTILE,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(HOSTILE, inner, max_size=4),
    max_leaves=12,
)
WORDS = st.text(max_size=8)
HYPERCALLS = st.builds(
    ObservedHypercall,
    WORDS,
    WORDS,
    done=st.none() | st.integers(0, 0xFFF),
    refused=st.booleans(),
    times=st.integers(1, 50_000),
)
CALLS = st.builds(ObservedCall, WORDS, WORDS, st.lists(HYPERCALLS, max_size=3).map(tuple), st.integers(0, 9))
OBSERVED = st.builds(Observed, WORDS, st.lists(CALLS, max_size=3).map(tuple), st.integers(0, 9))
TEXTS = st.lists(WORDS, max_size=3)
ORIGINS = st.fixed_dictionaries(
    {}, optional=dict.fromkeys(("gear", "seed", "date", "shard", "minimised-from", "note"), WORDS | TEXTS)
)
VIEWS = st.fixed_dictionaries({}, optional=dict.fromkeys(("of", "caller", "limbo", "driver", "hypervisor"), WORDS))


def findings(operations: int) -> st.SearchStrategy[dict[str, Any]]:
    """What a finding may hold besides its property."""
    optional: dict[str, st.SearchStrategy[Any]] = {
        "severity": st.sampled_from(SEVERITIES),
        "summary": WORDS,
        "call": WORDS,
        "level": st.sampled_from(LEVELS),
        "assumptions": TEXTS,
        "defects": TEXTS,
        "views": st.lists(VIEWS, max_size=2),
    }
    if operations:
        optional["step"] = st.integers(1, operations)
    return st.fixed_dictionaries({}, optional=optional)


KERNEL_FAULTS = st.builds(
    Fault,
    st.sampled_from(KERNEL_SITES),
    nth=st.integers(1, 9),
    times=st.none() | st.integers(1, 9),
)
CALL_FAULTS = st.builds(
    Fault,
    st.sampled_from(tuple(CALL_CODES)),
    nth=st.integers(1, 9),
    status=st.integers(1, 0xFFFF),
    done=st.sampled_from((0, 1, 255, 4095)),
    times=st.none() | st.integers(1, 9),
)
FAULTS = st.lists(KERNEL_FAULTS | CALL_FAULTS, max_size=3).map(tuple)
ADDRESSES = st.integers(0, 64).map(lambda page: page << 12) | st.integers(0, U64)
COUNTS = {"pages": 1 << 52, "runs": 1 << 12, "run_pages": 1 << 20, "stride": 1 << 30, "pgcount": 1 << 64, "piece": 1 << 20}
COUNTS["gap"] = 1 << 30


@st.composite
def configurations(draw: st.DrawFn) -> Configuration:
    """Any start that a world can have."""
    l1vh = draw(st.booleans())
    places = draw(
        st.lists(
            st.tuples(st.integers(0, 0xFFFF), st.integers(0, 0xFF), st.integers(0, 0x1F), st.integers(0, 7)),
            min_size=1,
            max_size=5,
            unique=True,
        )
    )
    devices: list[PciFunction] = []
    for place in places:
        alias = draw(st.none() | st.integers(0, len(devices) - 1)) if devices else None
        group = devices[alias].group if alias is not None else draw(st.integers(0, 3) | st.just(63))
        reserved = draw(st.lists(st.tuples(st.integers(0, 1 << 52), st.integers(0, 1 << 52)), max_size=2))
        devices.append(PciFunction(*place, group=group, alias=alias, owned=draw(st.booleans()), reserved=tuple(reserved)))
    left = [] if l1vh else draw(st.lists(st.integers(1, 4) | st.integers(1, 0xFFFFFFFE), max_size=3))
    inside = draw(st.lists(st.tuples(st.integers(0, len(devices) - 1), st.sampled_from(left)), max_size=2)) if left else []
    answers = draw(st.lists(st.sampled_from(tuple(QUESTIONS)), max_size=4, unique=True))
    policies = replace(DEFAULT, **{name: draw(st.sampled_from(QUESTIONS[name].alternatives)) for name in answers})
    return Configuration(
        profile=draw(st.sampled_from(PROFILE_NAMES)),
        policies=policies,
        devices=tuple(devices),
        l1vh=l1vh,
        capabilities=draw(st.booleans()),
        iova_width=draw(st.integers(13, 64)),
        root_pool=draw(st.sampled_from((0, 1, 300, 1 << 20, 1 << 30))),
        domain_limit=draw(st.integers(0, 5)),
        skip=draw(st.sampled_from(("", "(0000:00:01.0)", "(0:0:1.0)(bad)")) | st.text("(0:1.)\\\" é", max_size=12)),
        no_attdev=draw(st.booleans()),
        mshv=draw(st.booleans()),
        unique_id=draw(st.sampled_from((0, 1, 0xFFFFFFFE, 0xFFFFFFFF))),
        left_domains=tuple(left),
        left_devices=tuple(inside),
        left_deposit=draw(st.sampled_from((0, 1, 256, 1 << 20))),
    )


def field_values(name: str, config: Configuration) -> st.SearchStrategy[Any]:
    """What a field of an operation can hold."""
    if name in ("prot", "gfp"):
        return st.sampled_from(tuple(PROTS if name == "prot" else GFPS))
    if name in ops.FLAGS:
        return st.booleans()
    if name in ops.ADDRESS_FIELDS:
        return ADDRESSES
    if name == "device":
        return st.integers(0, len(config.devices) - 1)
    if name == "group":
        return st.sampled_from([device.group for device in config.devices])
    low = 1 if name in ("domain", "vm", "runs", "run_pages", "container", "ioas") else 0
    if name in COUNTS:
        return st.integers(low, 600) | st.integers(low, COUNTS[name])
    return st.integers(low, 3)


def made_before(operations: list[ops.Operation], given: dict[str, Any], cls: type[ops.Operation]) -> list[ops.Operation]:
    """What has to be made first so that an operation of these fields names only what exists."""
    missing: list[ops.Operation] = []
    for name, maker in (("domain", ops.Alloc), ("vm", ops.VmCreate)):
        if name in given and cls is not maker:
            made: ops.Operation = ops.Alloc(given[name]) if maker is ops.Alloc else ops.VmCreate(given[name])
            if not any(isinstance(op, maker) and getattr(op, name) == given[name] for op in operations):
                missing.append(made)
    return missing


@st.composite
def traces(draw: st.DrawFn) -> Trace:
    """Any trace."""
    config = draw(configurations())
    operations: list[ops.Operation] = []
    for kind in draw(st.lists(st.sampled_from(tuple(ops.KINDS)), max_size=6)):
        cls = ops.KINDS[kind]
        given_fields = {name: draw(field_values(name, config)) for name in ops.field_names(cls)}
        operations += made_before(operations, given_fields, cls)
        operations.append(cls(faults=draw(FAULTS), **given_fields))
    name = draw(st.none() | st.sampled_from(tuple(PROPERTIES)))
    return Trace(
        config,
        operations,
        driver=draw(st.sampled_from((DRIVER, "repaired")) | st.text(max_size=8)),
        property=name,
        finding=draw(findings(len(operations))) if name is not None else {},
        origin=draw(ORIGINS),
        harness=draw(st.text(max_size=8)),
        observed=draw(st.just([]) | st.lists(OBSERVED, min_size=len(operations), max_size=len(operations))),
    )


def refusal(text: str) -> str:
    """What reading a text answers; it must be one line that any console can print."""
    with pytest.raises(TraceError) as caught:
        from_json(text)
    return printable(caught.value)


def printable(error: TraceError) -> str:
    line = str(error)
    assert line, "an empty message"
    assert line.isprintable(), ascii(line)
    return line


def read_or_refused(source: str | Path) -> str:
    """Read what may be a trace; an error must be one printable line, which is the answer."""
    try:
        from_json(source) if isinstance(source, str) else read(source)
    except TraceError as error:
        return printable(error)
    return ""


def silent() -> Console:
    return Console(file=io.StringIO(), width=140, highlight=False, emoji=False, markup=False)


def said(console: Console) -> str:
    file = console.file
    assert isinstance(file, io.StringIO)
    return file.getvalue()


@given(traces())
@MANY
def test_what_is_written_reads_back_equal(trace: Trace) -> None:
    """Protects the exchange of traces: nothing is lost or changed on the way through a file, whatever the trace holds."""
    assert trace.config.problems() is None
    text = to_json(trace)
    assert from_json(text) == trace
    assert to_json(from_json(text)) == text


@pytest.mark.parametrize("profile", PROFILE_NAMES)
def test_what_a_walk_does_reads_back_equal(profile: str) -> None:
    """Protects the claim that a finding's file is the finding: faults that rules draw survive the file to the last field."""
    for number in range(30):
        run = walk(f"trace/{number}", DRIVER, profile, 2, 60)
        again = from_json(to_json(Trace(run.config, run.operations)))
        assert (again.config, again.operations) == (run.config, run.operations)


@given(traces())
@MANY
def test_any_trace_can_be_replayed(trace: Trace) -> None:
    """Protects the person who replays an edited trace: a trace that reads is told to the end, never a traceback or a hang."""
    console = silent()
    status = replay(trace, DRIVER, True, console)
    assert status in (0, 1, 2)
    assert (status == 2) == ("nothing was judged" in said(console))
    said(console).encode()


# --- what is no trace -------------------------------------------------------------------------------------------------

RICH = {
    "hvmodel-trace": 2,
    "harness": "0.1.0",
    "driver": "posted-v0",
    "configuration": {
        "profile": "stress",
        "policies": {"attach_elsewhere": "0x58", "detach_leaves": "none"},
        "devices": [{"slot": 1}, {"bus": 4, "slot": 2, "function": 3, "group": 1, "reserved": [[16, 32]], "owned": True}],
        "capabilities": False,
        "iova_width": 39,
        "root_pool": 77,
        "domain_limit": 3,
        "skip": "(0000:00:01.0)",
        "no_attdev": True,
        "mshv": False,
        "unique_id": 9,
        "left_domains": [1, 2],
        "left_devices": [[0, 1]],
        "left_deposit": 256,
    },
    "operations": [
        {"op": "vm-create", "vm": 1},
        {"op": "boot", "faults": [{"site": "iommu_device_register"}]},
        {"op": "alloc", "domain": 1, "device": 1, "by": 1},
        {"op": "attach", "domain": 1, "group": 1, "by": 1},
        {"op": "map", "domain": 1, "iova": "0x100000", "paddr": "0x40000000", "pages": 16, "prot": "r", "gfp": "atomic",
         "faults": [{"site": "MAP_DEVICE_GPA_PAGES", "nth": 2, "status": "0x71", "done": 3, "times": "until lifted"}]},
        {"op": "map-scattered", "domain": 1, "iova": "0x200000", "paddr": "0x0", "runs": 2, "run_pages": 1, "stride": 2},
        {"op": "driver-map", "domain": 1, "iova": "0x0", "paddr": "0x0", "pgsize": "0x1000", "pgcount": 1, "mapped": False},
        {"op": "unmap", "domain": 1, "iova": "0x100000", "pages": 16},
        {"op": "vfio-join", "container": 1, "group": 0, "probe": True},
        {"op": "vfio-map", "container": 1, "iova": "0x300000", "paddr": "0x0", "pages": 5, "piece": 2, "gap": 1, "mmio": True},
        {"op": "ioas-map", "ioas": 1, "iova": "0x300000", "paddr": "0x0", "pages": 5, "small": True, "short": True},
        {"op": "iommufd-attach", "ioas": 1, "group": 1, "hwpt": 2},
        {"op": "recover"},
    ],
    "observed": [
        {}, {}, {}, {}, {}, {}, {"answer": "ok"}, {}, {}, {}, {}, {},
        {"answer": "done", "more": 3, "calls": [{"call": "free", "answer": "", "more": 1, "hypercalls": [
            {"call": "DELETE_DEVICE_DOMAIN", "status": "SUCCESS", "done": 1, "refused": True, "times": 2}]}]},
    ],
    "finding": {
        "property": "no-stale-mapping", "severity": "isolation", "summary": "one page", "step": 8, "call": "unmap_pages",
        "level": "kernel", "assumptions": ["X1"], "defects": ["D1"],
        "views": [{"of": "domain 1", "caller": "nothing", "limbo": "nothing", "driver": "nothing", "hypervisor": "a page"}],
    },
    "origin": {"gear": "walk", "seed": "0/0/0", "date": "2026-11-24", "shard": "1/2", "minimised-from": ["0/0/1"], "note": ""},
}  # fmt: skip

Path_ = tuple[str | int, ...]


def paths(value: Any, at: Path_ = ()) -> Iterator[Path_]:
    """Every place in a JSON value."""
    items: Any = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, inner in items:
        yield (*at, name)
        yield from paths(inner, (*at, name))


def changed(at: Path_, value: Any = None, remove: bool = False) -> str:
    """The rich trace with one place changed or removed."""
    data = json.loads(json.dumps(RICH))
    inner = data
    for step in at[:-1]:
        inner = inner[step]
    if remove:
        del inner[at[-1]]
    else:
        inner[at[-1]] = value
    return json.dumps(data)


def spelled(at: Path_) -> str:
    """A place as an error names it: ``operations[3].faults[0].site``."""
    text = ""
    for step in at:
        text += f"[{step}]" if isinstance(step, int) else f".{step}" if text else step
    return text


def names_the_place(line: str, at: Path_) -> bool:
    """Whether a line starts with a place, with something in it or with what it is part of."""
    inside = line.startswith((spelled(at) + ".", spelled(at) + "["))
    return inside or any(line.startswith(spelled(at[:length]) + ":") for length in range(len(at), 0, -1))


PLACES = list(paths(RICH))


def test_the_rich_trace_is_one() -> None:
    """Protects the tests below: what they change one place of is a trace, and every field of the format occurs in it."""
    trace = from_json(json.dumps(RICH))
    assert from_json(to_json(trace)) == trace
    operations = [value for value in RICH["operations"] if isinstance(value, dict)]  # type: ignore[attr-defined]
    names = {name for operation in operations for name in operation}
    assert {name for cls in ops.KINDS.values() for name in ops.field_names(cls)} <= names


@pytest.mark.parametrize("wrong", [1.5, {"a": 1}, [[[]]], -1, 1 << 200], ids=repr)
def test_a_wrong_value_is_refused_where_it_stands(wrong: Any) -> None:
    """Protects the person who edits a trace: a wrong value is refused, and the line names where it is."""
    for at in PLACES:
        line = refusal(changed(at, wrong))
        assert names_the_place(line, at), (line, at)


def test_any_single_change_is_read_or_refused_where_it_stands() -> None:
    """Protects against tracebacks for edited traces: each place removed, and replaced by a value of each JSON type."""
    numbers: list[Any] = [None, True, False, 0, 1, 64, 4096, 1 << 52, 1 << 64]
    values = [*numbers, "", "x", "0x", "-0x1", "0x10", "boot", [], {}, [1], [[1, 1]]]
    missed = (
        "not a trace: the field",
        "operations: missing",
        "operations[2].device: must be 0 to 0x0",
        "operations[3].group: no",
        "operations[3].domain: no alloc before it",
        "observed: has",
        "finding.step: there is no operation",
    )
    for at in PLACES:
        for value in values:
            line = read_or_refused(changed(at, value))
            beside = len(at) > 1 and names_the_place(line, at[:-1])
            assert not line or line.startswith(missed[2:]) or names_the_place(line, at) or beside, (line, at)
        line = read_or_refused(changed(at, remove=True))
        assert not line or line.startswith(missed) or names_the_place(line, at[:-1] or at), (line, at)


def test_an_unknown_field_is_refused_where_it_stands() -> None:
    """Protects against a typing error that silently changes nothing: an unknown field is an error that says which are known."""
    for at in [(), *PLACES]:
        inner: Any = RICH
        for step in at:
            inner = inner[step]
        if not isinstance(inner, dict):
            continue
        line = refusal(changed((*at, "pagse"), 1))
        assert line.startswith(spelled((*at, "pagse")) + ": unknown field (known: "), line


@pytest.mark.parametrize("name", ["a\nb", "a\rb", "\x1b[31m", "\ud800", "\u2028", "\x00"], ids=ascii)
def test_hostile_names_stay_on_one_line(name: str) -> None:
    """Protects the console of the person who replays a mailed trace: what the file says cannot break out of the line."""
    objects: list[Path_] = [(), ("configuration",), ("configuration", "policies"), ("operations", 0)]
    for at in [*objects, ("operations", 4, "faults", 0)]:
        refusal(changed((*at, name), 1))
    texts: list[Path_] = [("operations", 0, "op"), ("operations", 0, "vm"), ("configuration", "profile"), ("configuration", "skip")]
    for at in [*texts, ("finding", "property")]:
        refusal(changed(at, name))
    with pytest.raises(TraceError) as caught:
        read(Path(f"no{name}file"))
    printable(caught.value)


def test_a_file_cut_off_anywhere_is_refused() -> None:
    """Protects against half a trace passing for a whole one (a full disk, a cut mail): each proper prefix is refused."""
    text = json.dumps(RICH, indent=1)
    whole = to_json(from_json(text)).rstrip()
    for end in range(len(whole)):
        assert re.search(r"cut off|not JSON|empty|not a trace", refusal(whole[:end]))


@given(st.text() | st.text("{}[]\",:0123456789.eE+-tfn \n\\u"))
@MANY
def test_any_text_is_refused_in_one_line(text: str) -> None:
    """Protects against tracebacks for files that are something else altogether."""
    assert read_or_refused(text)


@given(JSON)
@MANY
def test_any_json_is_refused_in_one_line(value: Any) -> None:
    """Protects against tracebacks for JSON that is something else: as the whole file, and in the place of each part."""
    if not (isinstance(value, dict) and value.get("hvmodel-trace") == 1):
        assert read_or_refused(json.dumps(value))
    for part in ("hvmodel-trace", "harness", "driver", "configuration", "operations", "finding", "origin"):
        read_or_refused(json.dumps({**RICH, part: value}))
    read_or_refused(json.dumps({**RICH, "operations": [value]}))
    read_or_refused(json.dumps({**RICH, "operations": [{"op": "map", "iova": value}]}))
    read_or_refused(json.dumps({**RICH, "operations": [{"op": "map", "faults": [value]}]}))
    read_or_refused(json.dumps({**RICH, "configuration": {"devices": [value]}}))


@given(st.binary(max_size=200), st.integers(0, 1 << 20))
@SOME
def test_any_bytes_in_a_file_are_refused_in_one_line(tmp_path_factory: pytest.TempPathFactory, data: bytes, where: int) -> None:
    """Protects against tracebacks for binary and damaged files: noise alone, and noise spliced into a good trace."""
    path = tmp_path_factory.getbasetemp() / "noise.json"
    good = json.dumps(RICH).encode()
    where %= len(good)
    for content in (data, good[:where] + data + good[where + len(data) :]):
        path.write_bytes(content)
        line = read_or_refused(path)
        assert not line or line.startswith(f"{path}: ")


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("", "the file is empty"),
        (" \n\t ", "the file is empty"),
        ("boot\n", "line 1, column 1: not JSON (Expecting value)"),
        ("[1]", 'not a trace: the field "hvmodel-trace" is missing'),
        ("{}", 'not a trace: the field "hvmodel-trace" is missing'),
        ('{"operations": []}', 'not a trace: the field "hvmodel-trace" is missing'),
        ('{"hvmodel-trace": "1"}', 'hvmodel-trace: must be a version number, not "1"'),
        ('{"hvmodel-trace": true}', "hvmodel-trace: must be a version number, not true"),
        ('{"hvmodel-trace": 0}', "hvmodel-trace: must be a version number, not 0"),
        (f'{{"hvmodel-trace": {VERSION + 1}, "stations": 3}}', f"hvmodel-trace: version {VERSION + 1} is newer than this harness"),
        ('{"hvmodel-trace": 1}', "operations: missing"),
        ('{"hvmodel-trace": 1, "operations": [{"op": "map", "faults": [{}]}]}', "operations[0].faults[0]: a fault needs a site"),
        (
            '{"hvmodel-trace": 1, "operations": [{"op": "map", "faults": [{"site": "MAP_DEVICE_GPA_PAGES"}]}]}',
            "operations[0].faults[0]: a refused hypercall needs a status",
        ),
        ('{"hvmodel-trace": 1, "operations": [{"op": "claim", "group": 7}]}', "operations[0].group: no device is in group 7"),
        ('{"hvmodel-trace": 1, "operations": [{}]}', "operations[0].op: must be one of 'boot', "),
    ],
)
def test_what_is_wrong_is_said(text: str, line: str) -> None:
    """Protects the wording that a person needs: what is missing, and that a newer harness is needed and not another file."""
    assert refusal(text).startswith(line)


def test_deep_nesting_is_refused_at_every_depth() -> None:
    """Protects against a crash at the depth where the reader still reads and the message cannot be put together any more."""
    for depth in (10, 100, *range(700, 1010, 2), 5000, 200_000):
        refusal('{"hvmodel-trace": 1, "operations": [], "configuration": ' + "[" * depth + "]" * depth + "}")
        refusal('{"hvmodel-trace": 1, "configuration": {}, "operations": ' + '{"a":' * depth + "1" + "}" * depth + "}")
    refusal("[" * 200_000)
    refusal('{"hvmodel-trace": ' + "9" * 5000 + "}")


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    """Protects the first thing that people get wrong: each line names the file and says why it cannot be read."""
    latin, large, empty = tmp_path / "latin.json", tmp_path / "large.json", tmp_path / "empty.json"
    latin.write_bytes(b'{"driver": "\xe9"}')
    empty.touch()
    with large.open("wb") as file:
        file.truncate(MAX_BYTES + 1)
    wrong = {
        tmp_path / "none.json": "No such file or directory",
        tmp_path: "Is a directory",
        latin / "x": "Not a directory",
        tmp_path / ("x" * 300): "File name too long",
        latin: "not a text file",
        large: "larger than 16 MiB, no trace is",
        empty: "the file is empty",
    }
    for path, line in wrong.items():
        with pytest.raises(TraceError) as caught:
            read(path)
        assert printable(caught.value) == f"{path}: {line}"


def test_configurations_that_no_world_has() -> None:
    """Protects against a start that reads well and then breaks the world: what is refused, and what is not."""
    def line(**configuration: Any) -> str:
        return refusal(json.dumps({"hvmodel-trace": 1, "operations": [], "configuration": configuration}))

    assert line(devices=[]) == "configuration: devices: 1 to 64 are possible, not 0"
    assert line(devices=[{}, {}]) == "configuration: devices: two have the same address"
    assert line(devices=[{"alias": 0}]).startswith("configuration: devices[0].alias: must name an earlier device")
    assert line(l1vh=True, left_domains=[1]) == "configuration: left_domains: an L1VH has no device domains"
    assert line(left_devices=[[0, 1]]).startswith("configuration: left_devices: (0, 1) names no device and domain")
    aliased = [{"slot": 1}, {"slot": 1, "function": 1, "alias": 0}]
    start = {"devices": aliased, "left_domains": [1], "left_devices": [[1, 1]]}
    trace = from_json(json.dumps({"hvmodel-trace": 1, "operations": [{"op": "boot"}], "configuration": start}))
    assert replay(trace, DRIVER, True, silent()) in (0, 1)


# --- hand-written traces ----------------------------------------------------------------------------------------------


def test_a_hand_written_trace_needs_little() -> None:
    """Protects traces written by hand: no property, driver or configuration; numbers in hex or decimal, with defaults left out."""
    spellings = ["0x100000", "1048576", 1048576, " 0x100000 ", "0X100000"]
    start = [{"op": "boot"}, {"op": "alloc"}]
    read_as = [from_json(json.dumps({"hvmodel-trace": 1, "operations": [*start, {"op": "map", "iova": s}]})) for s in spellings]
    assert [trace.operations[2:] for trace in read_as] == [[ops.Map(iova=0x100000)]] * len(spellings)
    assert {(trace.property, trace.driver, trace.config == Configuration()) for trace in read_as} == {(None, DRIVER, True)}
    maps: list[Any] = [{"op": "map", "pages": "0x180"}, {"op": "map", "pages": 384}]
    counts = from_json(json.dumps({"hvmodel-trace": 1, "operations": [*start, *maps]}))
    assert counts.operations[2:] == [ops.Map(pages=384)] * 2
    for wrong in ("100000h", "0xg", "1e6", "ten", "", "0x" + "1" * 40, "--1"):
        line = refusal(json.dumps({"hvmodel-trace": 1, "operations": [{"op": "map", "iova": wrong}]}))
        assert line.startswith("operations[0].iova: ")


def test_a_trace_without_property_judges_all(tmp_path: Path) -> None:
    """Protects the exit status of hand-written traces: everything is judged, and the names of all that fail are printed."""
    path = tmp_path / "hand.json"
    path.write_text('{"hvmodel-trace": 1, "operations": [{"op": "boot"}, {"op": "alloc"}]}')
    console = silent()
    assert replay_file(path, None, False, console) == 1
    assert "properties fail: " in said(console)
    path.write_text('{"hvmodel-trace": 1, "operations": [{"op": "alloc"}]}')
    console = silent()
    assert replay_file(path, None, False, console) == 2, "a trace that does nothing proves nothing"
    assert "1. alloc domain 1, device 0  ->  does not apply" in said(console)
    assert "nothing was judged" in said(console)


# --- writing and replaying files --------------------------------------------------------------------------------------


def test_an_interrupted_write_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Protects findings on disk: a write that fails half-way leaves what was there, one that succeeds leaves nothing else."""
    path = tmp_path / "trace.json"
    old, new = Trace(Configuration(), [ops.Boot()]), Trace(Configuration(), [ops.Boot(), ops.Alloc()])
    write(old, path)
    before = path.read_bytes()

    def full(self: Path, text: str, **_more: Any) -> int:
        with self.open("w") as file:
            file.write(text[: len(text) // 2])
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_text", full)
        with pytest.raises(OSError, match="No space left"):
            write(new, path)
    assert path.read_bytes() == before
    write(new, path)
    assert read(path) == new
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("key", ENTRIES)
def test_each_catalogue_trace_is_told_and_judged(key: str, tmp_path: Path) -> None:
    """Protects replay as people use it: every known defect is told to the end, its property FAILS, and the status is 1."""
    entry: Entry = ENTRIES[key]
    path = tmp_path / "trace.json"
    write(Trace(entry.config, list(entry.operations), DRIVER, entry.property), path)
    for judge_all in (False, True):
        console = silent()
        assert replay_file(path, None, judge_all, console) == 1
        text = said(console)
        assert "\x1b" not in text
        assert all(line.isprintable() for line in text.splitlines())
        assert f"{len(entry.operations)}. {entry.operations[-1].kind}" in text
        verdict = "properties fail" if judge_all else f"{entry.property} FAILS at step {len(entry.operations)}"
        assert verdict in text
        assert "never reached" not in text
        assert "does not apply" not in text


@pytest.mark.parametrize("toy", HONEST, ids=lambda toy: str(toy.name))
def test_each_catalogue_trace_is_told_on_an_honest_driver(toy: type[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """Protects replay on another driver than the trace names: told to the end, and an honest driver breaks nothing by default."""
    monkeypatch.setattr("hvmodel.drivers.REGISTRY", REGISTRY)
    monkeypatch.setitem(REGISTRY, toy.name, REGISTRY.get(toy.name))
    register(toy)
    for key, entry in ENTRIES.items():
        console = silent()
        status = replay(Trace(entry.config, list(entry.operations), DRIVER, entry.property), toy.name, False, console)
        assert said(console).startswith(f"driver {toy.name}; ")
        if entry.config.policies == DEFAULT and not entry.config.l1vh and entry.level != "beyond":
            assert status == 0, (key, said(console))


def test_statuses_of_replay(tmp_path: Path) -> None:
    """Protects scripts that act on the status: 0 the named property holds, 1 it fails, 2 bad input with one line."""
    path = tmp_path / "trace.json"
    fails = Trace(Configuration(), [ops.Boot(), ops.Alloc()], DRIVER, "advertised-is-true")
    cases: list[tuple[Trace, str | None, bool, int, str]] = [
        (fails, None, False, 1, "advertised-is-true FAILS at step 2 ["),
        (replace(fails, property="no-stale-mapping"), None, False, 0, "no-stale-mapping holds"),
        (replace(fails, property="no-stale-mapping"), None, True, 1, "properties fail: "),
        (fails, "nobodys", False, 2, "hvmodel replay: no driver is called 'nobodys' ("),
        (replace(fails, driver="a\nb"), None, False, 2, "hvmodel replay: no driver is called 'a\\nb'"),
        (replace(fails, driver="a\nb"), DRIVER, False, 1, "advertised-is-true FAILS"),
    ]
    for trace, driver, judge_all, status, text in cases:
        write(trace, path)
        console = silent()
        assert replay_file(path, driver, judge_all, console) == status
        assert text in said(console)
        assert status != 2 or said(console).count("\n") == 1
    for content in ("", "{", '{"hvmodel-trace": 99}', "[" * 9999):
        path.write_text(content)
        console = silent()
        assert replay_file(path, None, False, console) == 2
        assert said(console).count("\n") == 1
        assert said(console).startswith(f"hvmodel replay: {path}: ")


def test_a_fault_that_was_never_reached_is_noted() -> None:
    """Protects against trust in a refusal that did not happen: replay says which fault was never reached."""
    console = silent()
    unreached = (Fault("UNMAP_DEVICE_GPA_PAGES", 1, 0x71),)
    replay(Trace(Configuration(), [ops.Boot(), ops.Alloc(faults=unreached)]), DRIVER, True, console)
    assert "note: never reached: step 2: UNMAP_DEVICE_GPA_PAGES#1=0x71" in said(console)


def test_every_profile_can_be_named() -> None:
    """Protects traces of every profile that the rules draw: the reader knows their names."""
    for name in (*PROFILES, "variations"):
        text = json.dumps({"hvmodel-trace": 1, "operations": [], "configuration": {"profile": name}})
        assert from_json(text).config.profile == name
