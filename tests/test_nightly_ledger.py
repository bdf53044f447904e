"""The ledger of the nightly job: what a finding is on a date, excuses, joining in any order, and a file that is checked."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hvmodel import operations as ops
from hvmodel.configuration import Configuration
from hvmodel.faults import Fault
from hvmodel.jobs.nightly import join as joining
from hvmodel.jobs.nightly.estimate import Counts
from hvmodel.jobs.nightly.excuses import BadExcuse, Excuse, excuse, read_excuses, write_excuses
from hvmodel.jobs.nightly.figures import forecasts
from hvmodel.jobs.nightly.join import WINDOW, Books, OtherDriver, join
from hvmodel.jobs.nightly.ledger import (
    CUT_SHORT,
    EXCUSED,
    FIXED,
    KNOWN,
    NEW,
    SEEN_KEPT,
    VOID,
    WHOLE,
    Entry,
    Ledger,
    NightRecord,
    covers,
    met_by,
    status,
    statuses,
    suddenly,
)
from hvmodel.jobs.nightly.ledger_file import BadLedger, ledger_text, read_ledger
from hvmodel.jobs.nightly.state import BadState, add_excuse, load, save
from hvmodel.traces.format import Trace, to_json

DRIVER = "posted-v0"


def day(number: int) -> str:
    """The date of the night with this number."""
    return f"2026-11-{number:02d}"


def entry(number: int, seen: str = "", fixed: str = "", **fields: Any) -> Entry:
    """A finding; ``seen`` and ``fixed`` are numbers of nights. Findings of different numbers have different causes."""
    sites = fields.pop("sites", ())
    faults = tuple(Fault(site, 1, 0x71) for site in sites)
    trace = Trace(Configuration(), [ops.Boot(faults=faults)], DRIVER, "no-stale-mapping")
    made = Entry(
        f"no-stale-mapping/unmap_pages/{number:08x}",
        "no-stale-mapping",
        "unmap_pages",
        fields.pop("shape", ("unmap", 0, 0, number, 0)),
        fields.pop("level", "kernel"),
        "still mapped",
        json.loads(to_json(trace)),
        tuple(map(day, map(int, seen.split()))),
        tuple(map(day, map(int, fixed.split()))),
    )
    return replace(made, **fields)


def ledger(*entries: Entry, nights: tuple[NightRecord, ...] = (), kinds: dict[str, str] | None = None) -> Ledger:
    """A ledger of these."""
    return Ledger(DRIVER, {item.signature: item for item in entries}, kinds or {}, {night.name: night for night in nights})


def record(number: int, ended: str = WHOLE, **fields: Any) -> NightRecord:
    """The record of a night that one shard did alone."""
    return NightRecord(day(number), "1/1", ended=ended, tally={"operations": 1}, **fields)


# --- what a finding is --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("seen", "fixed", "until", "wanted"),
    [
        ("5", "", 0, NEW),
        ("4 5", "", 0, KNOWN),
        ("2 5", "", 0, KNOWN),
        ("4", "", 0, None),
        ("4", "5", 0, FIXED),
        ("3", "4", 0, None),
        ("3 5", "4", 0, NEW),
        ("3 4 5", "4", 0, KNOWN),
        ("5 6", "", 0, NEW),
        ("5", "6", 0, NEW),
        ("5", "", 5, EXCUSED),
        ("4 5", "", 9, EXCUSED),
        ("3 4 5", "", 4, NEW),
        ("2 3 4 5", "", 3, KNOWN),
        ("4", "5", 9, FIXED),
        ("3", "", 9, None),
    ],
)
def test_status_by_its_dates(seen: str, fixed: str, until: int, wanted: str | None) -> None:
    """Protects the words of the report in the fifth night: new is what no night told of, or told of before it was gone, or told of
    only under an excuse that has run out; known, fixed and excused else; and later nights change nothing of it."""
    item = entry(1, seen, fixed)
    plea = Excuse(item.signature, day(until), "is looked at") if until else None
    assert status(item, day(5), plea) == wanted


def test_what_a_night_that_was_cut_short_found_is_still_news() -> None:
    """Protects findings of a night that nobody heard of: closed by a later one, it has told nobody, so they are new there, once."""
    item = entry(1, "4 5 6")
    nights = (record(4, CUT_SHORT, new=[item.signature]), record(5, new=[item.signature]), record(6, known=[item.signature]))
    known = ledger(item, nights=nights)
    assert [statuses(known, {}, day(number))[item.signature] for number in (4, 5, 6)] == [NEW, NEW, KNOWN]
    told = ledger(item, nights=(replace(nights[0], ended=WHOLE), *nights[1:]))
    assert statuses(told, {}, day(5))[item.signature] == KNOWN
    other = replace(nights[0], shard="1/2", ended=WHOLE)
    both = ledger(item, nights=(replace(nights[0], shard="2/2"), other, *nights[1:]))
    assert statuses(both, {}, day(5))[item.signature] == KNOWN, "another shard of that night told of it"


def test_a_rare_form_of_a_known_cause_is_no_news() -> None:
    """Protects against crying wolf: one defect fails in many forms, and a form of it that was not met before is known; what has
    another cause, what has come within the contract, what was fixed or excused and is back is new all the same."""
    first = entry(1, "3 4")
    form = entry(2, "5", shape=("unmap", 9, 9, 1, 0))
    cause = entry(3, "5")
    found = statuses(ledger(first, form, cause), {}, day(5))
    assert found == {form.signature: KNOWN, cause.signature: NEW}
    gone = replace(first, fixed=(day(4),), seen=(day(3),))
    assert statuses(ledger(gone, form), {}, day(5))[form.signature] == NEW, "its cause was fixed"
    back = replace(form, seen=(day(2), day(5)), fixed=(day(3),))
    assert statuses(ledger(first, back), {}, day(5))[form.signature] == NEW, "it was fixed and is back"
    plea = Excuse(form.signature, day(4), "until then")
    late = replace(form, seen=(day(2), day(5)))
    assert statuses(ledger(first, late), {plea.signature: plea}, day(5))[form.signature] == NEW, "its excuse has run out"
    beyond = replace(first, level="beyond")
    assert statuses(ledger(beyond, form), {}, day(5))[form.signature] == NEW, "nobody could do it before"


def test_a_form_that_comes_suddenly_is_news() -> None:
    """Protects against a new defect that hides behind an old one: a form of a known cause that is met so often that earlier nights
    would have met it, had the driver been the same, is new; a rare one is not, nor one that earlier nights met unminimised."""
    first, form = entry(1, "3 4"), entry(2, "5", shape=("unmap", 9, 9, 1, 0))
    kinds = {"a": form.signature}

    def of(times: int, before: dict[str, int]) -> Ledger:
        nights = (record(4, runs=100, kinds=before), record(5, runs=100, kinds={"a": times}))
        return ledger(first, form, nights=nights, kinds=kinds)

    assert suddenly(of(14, {}), day(5)) == {form.signature}
    assert suddenly(of(13, {}), day(5)) == set()
    assert suddenly(of(50, {"a": 1}), day(5)) == set()
    assert statuses(of(14, {}), {}, day(5))[form.signature] == NEW
    assert statuses(of(3, {}), {}, day(5))[form.signature] == KNOWN


def test_what_says_no_more_than_an_old_finding_is_known() -> None:
    """Protects against crying wolf over what is worse told: what needs two refusals where an old finding needs one, or a caller
    that goes further, is known; what needs less is new."""
    shape = ("unmap", 0, 0, 1, 0, 0)
    one = entry(1, "4", sites=("MAP_DEVICE_GPA_PAGES",), shape=shape)
    two = entry(2, "5", sites=("MAP_DEVICE_GPA_PAGES", "UNMAP_DEVICE_GPA_PAGES"), shape=shape)
    high = entry(3, "5", sites=("MAP_DEVICE_GPA_PAGES",), shape=shape, level="beyond")
    none = entry(4, "5", shape=shape)
    assert covers(one, two)
    assert covers(one, high)
    assert not covers(two, one)
    assert not covers(one, none)
    found = statuses(ledger(one, two, high, none), {}, day(5))
    assert found == {two.signature: KNOWN, high.signature: KNOWN, none.signature: NEW}


def test_runs_count_for_the_signature_that_they_come_down_to() -> None:
    """Protects the estimate: kinds of hit that come down to one signature count for it, one that nobody minimised for itself; for
    causes they count by their cause, which shows before minimising."""
    kinds = {"p/c/m1-a": "p/c/00000001", "p/c/m1-b": "p/c/00000001"}
    night = record(5, runs=10, kinds={"p/c/m1-a": 3, "p/c/m1-b": 1, "p/c/m1-x": 2, "p/c/m2-x": 4})
    known = ledger(nights=(night,), kinds=kinds)
    assert met_by(known, [night]) == ({"p/c/00000001": 4, "p/c/m1-x": 2, "p/c/m2-x": 4}, 10)
    estimates = forecasts(Books(known), day(5))
    assert [estimates[name].counts for name in ("causes", "findings")] == [Counts(10, 2, 0, 0), Counts(10, 3, 0, 1)]


def test_a_finding_that_this_version_cannot_read_is_still_told() -> None:
    """Protects old ledgers: a trace in a format or a property that this version does not know covers nothing, hides nothing."""
    odd = entry(1, "5", trace={"hvmodel-trace": 99})
    unknown = entry(2, "5", property_id="gone", signature="gone/unmap_pages/00000002")
    assert odd.finding is None
    assert entry(3, level="beyond", shape=("unmap",)).finding is None, "a shape of another version"
    assert unknown.finding is None
    assert unknown.severity == ""
    assert statuses(ledger(odd, unknown), {}, day(5)) == {odd.signature: NEW, unknown.signature: NEW}


# --- excuses ------------------------------------------------------------------------------------------------------------------


SIGNATURES = st.from_regex(r"[a-z0-9-]{1,8}/[A-Za-z0-9_.-]{1,8}/[0-9a-f]{8}", fullmatch=True)
EXCUSES = st.builds(
    excuse,
    SIGNATURES,
    st.dates().map(lambda date: date.isoformat()),
    st.text("ab #|<>\"'é—", min_size=1, max_size=9).filter(str.strip),
)


@settings(max_examples=30, deadline=None)
@given(st.lists(EXCUSES, max_size=6))
def test_excuses_read_back_equal(excuses: list[Excuse]) -> None:
    """Protects the file of excuses: what is written is read back, whatever the reason says."""
    found = read_excuses(write_excuses(excuses))
    assert set(found.values()) <= set(excuses)
    assert read_excuses(write_excuses(found.values())) == found
    assert set(found) == {item.signature for item in excuses}


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("no-stale-mapping/unmap_pages/3f9a2c1d 2026-12-31", "excuses, line 2: needs a signature, a date and a reason"),
        ("stale 2026-12-31 later", "excuses, line 2: 'stale' is no signature"),
        ("no-stale-mapping/unmap_pages/3f9a2c1d 2026-02-30 later", "excuses, line 2: '2026-02-30' is no date"),
        ("no-stale-mapping/unmap_pages/3f9a2c1d tomorrow later", "excuses, line 2: 'tomorrow' is no date"),
        ("../../etc/passwd 2026-12-31 later", "excuses, line 2: '../../etc/passwd' is no signature"),
        ("no-stale-mapping/unmap_pages/3f9a2c1d 2026-12-31 a\x1b[31m", "needs a reason, in printable words"),
    ],
)
def test_a_bad_line_is_named(line: str, said: str) -> None:
    """Protects whoever edits the file: one line with the number of the line and what it lacks."""
    with pytest.raises(BadExcuse) as bad:
        read_excuses(f"# head\n{line}\n")
    assert said in str(bad.value)
    assert "\n" not in str(bad.value)


def test_the_longer_of_two_excuses_holds(tmp_path: Path) -> None:
    """Protects an excuse that is given twice: in one text the longer one holds; ``hvmodel excuse`` replaces the line, and leaves
    comments and other lines as they are."""
    name = "no-stale-mapping/unmap_pages/3f9a2c1d"
    both = read_excuses(f"{name} 2026-12-01 short\n\n{name} 2026-12-31 long\n")
    assert both[name] == Excuse(name, "2026-12-31", "long")
    assert both[name].holds("2026-12-31")
    assert not both[name].holds("2027-01-01")
    path = tmp_path / "excuses"
    path.write_text(f"# by hand\nother/x/00000000 2026-12-01 stays\n{name} 2026-12-01 old\n")
    add_excuse(tmp_path, excuse(name, "2026-11-30", "  better \n reason "))
    assert path.read_text() == f"# by hand\nother/x/00000000 2026-12-01 stays\n{name}  2026-11-30  better reason\n"


# --- joining ------------------------------------------------------------------------------------------------------------------

DATES = st.integers(1, 28).map(day)
SHORT = st.sampled_from([f"p/c/0000000{number}" for number in range(3)])
COUNTS = st.dictionaries(st.sampled_from("abc"), st.integers(1, 3), max_size=2)


@st.composite
def all_books(draw: st.DrawFn) -> Books:
    """What some shard may know; few names, so that shards know different things under one name."""
    entries = {}
    for name in draw(st.lists(SHORT, max_size=3, unique=True)):
        trace = {"operations": [1] * draw(st.integers(0, 2)), "x": draw(st.integers(0, 1))}
        level, words = draw(st.sampled_from(("kernel", "beyond", "odd"))), draw(st.sampled_from("st"))
        seen, fixed = (tuple(sorted(draw(st.sets(DATES, max_size=4)))) for _ in range(2))
        entries[name] = Entry(name, "p", "c", (words,), level, words, trace, seen, fixed)
    nights, states = {}, {}
    for when, part in draw(st.lists(st.tuples(DATES, st.sampled_from(("1/2", "2/2"))), max_size=6)):
        ended, done = draw(st.sampled_from((WHOLE, VOID, CUT_SHORT))), draw(st.integers(0, 1))
        night = NightRecord(when, part, ended=ended, portions=done, kinds=draw(COUNTS), harness=draw(st.sampled_from("12")))
        nights[night.name] = night
        states[night.name] = draw(COUNTS)
    kinds = draw(st.dictionaries(st.sampled_from("ab"), SHORT))
    excuses = {name: Excuse(name, draw(DATES), draw(st.sampled_from("xy"))) for name in draw(st.lists(SHORT, max_size=2))}
    return Books(Ledger(DRIVER, entries, kinds, nights), states, excuses)


@settings(max_examples=40, deadline=None)
@given(all_books(), all_books(), all_books())
def test_joining_does_not_care_for_the_order(one: Books, two: Books, three: Books) -> None:
    """Protects shards: joining is commutative, associative and idempotent, so that any order of merges, and a merge done twice,
    gives the same state, down to the bytes of the file; old nights lose what is large in any order, too."""
    with mock.patch.object(joining, "WINDOW", 3):
        both = join([one, two])
        assert both == join([two, one])
        assert join([both, three]) == join([one, join([two, three])]) == join([three, one, two])
        assert join([one, one]) == join([one]) == join([join([one])])
        assert join([both, one]) == both
        assert ledger_text(both.ledger) == ledger_text(join([two, one]).ledger)


def test_joining_keeps_what_each_shard_found() -> None:
    """Protects what the laws do not say: all dates of both are kept, the better trace wins, the record that is over and did more
    wins, old nights lose only what is large, and drivers are not mixed."""
    long, short = entry(1, "4", "6"), entry(1, "5")
    long = replace(long, trace={**long.trace, "operations": [*long.trace["operations"], {"op": "recover"}]})
    joined = join([Books(ledger(long)), Books(ledger(short))]).ledger.entries[long.signature]
    assert (joined.seen, joined.fixed, joined.trace) == ((day(4), day(5)), (day(6),), short.trace)
    begun, over = record(5, "interrupted", portions=9), record(5, portions=5)
    assert join([Books(ledger(nights=(begun,))), Books(ledger(nights=(over,)))]).ledger.nights == {over.name: over}
    nights = [record(number, kinds={"a": 1}, new=["p/c/00000001"]) for number in range(1, WINDOW + 3)]
    states = {night.name: {"s": 1} for night in nights}
    old = join([Books(ledger(nights=tuple(nights)), states)])
    assert [bool(old.ledger.nights[night.name].kinds) for night in nights] == [False] * 2 + [True] * WINDOW
    assert all(night.new for night in old.ledger.nights.values())
    assert len(old.states) == WINDOW
    with pytest.raises(OtherDriver, match="posted-v0, repaired"):
        join([Books(ledger()), Books(Ledger("repaired"))])
    with pytest.raises(ValueError, match="nothing"):
        join([])


def test_a_finding_of_many_nights_stays_small() -> None:
    """Protects the size of the ledger: the first night and the last ones are remembered, which is all that a status needs."""
    dates = [f"2026-{month:02d}-{date:02d}" for month in (1, 2, 3) for date in range(1, 29)]
    parts = [Books(ledger(replace(entry(1), seen=(date,)))) for date in dates]
    seen = next(iter(join(parts).ledger.entries.values())).seen
    assert len(seen) == SEEN_KEPT + 1
    assert (seen[0], seen[-1]) == ("2026-01-01", "2026-03-28")


# --- the file -----------------------------------------------------------------------------------------------------------------


def full_books() -> Books:
    """Books in which everything that a file can have is there."""
    trial = {"driver": "repaired+D05", "found": True, "operations": 10, "limit": 20}
    night = record(
        5,
        gears={"walk": [1, 2, 3, 0.5]},
        kinds={"a": 2},
        peaks=[1, 2],
        canaries=[trial],
        rota=[trial],
        corpus={"traces": 1, "problems": ["x"], "said": ""},
        coverage={"branches": 2, "taken": 1, "never": ["f.py:1 to 2"], "runs": 60},
        new=[entry(1).signature],
        failures=["walk/1: x"],
    )
    item = entry(1, "4 5", "3", shape=("unmap", 1, True, None, ("a", 2)))
    name = item.signature
    return Books(ledger(item, nights=(night,), kinds={"a": name}), {night.name: {"s": 1}}, {name: Excuse(name, day(9), "why not")})


def test_a_state_reads_back_equal(tmp_path: Path) -> None:
    """Protects what is known from night to night: a directory that is written reads back as it was, traces for people included."""
    books = full_books()
    save(tmp_path, books, with_excuses=True)
    again = load(tmp_path, DRIVER)
    item = next(iter(books.ledger.entries.values()))
    assert again.states == books.states
    assert again.excuses == books.excuses
    assert ledger_text(again.ledger) == ledger_text(books.ledger)
    assert again.ledger.nights == books.ledger.nights
    assert json.loads((tmp_path / "traces" / item.file).read_text()) == item.trace
    with pytest.raises(BadState, match="state of driver posted-v0"):
        load(tmp_path, "repaired")
    with pytest.raises(BadState, match="no ledger"):
        load(tmp_path / "elsewhere", None)


BAD: list[tuple[tuple[str | int, ...], Any, str]] = [
    (("hvmodel-ledger",), 2, "no ledger of version 1"),
    (("driver",), 3, "driver: must be a text"),
    (("more",), 3, "more: unknown field"),
    (("findings",), [], "findings: must be an object"),
    (("findings", "F", "signature"), "../../x", "must be a signature such as"),
    (("findings", "F", "signature"), "no-stale-mapping/unmap_pages/00000009", "must be one of"),
    (("findings", "F", "seen"), ["yesterday"], "'yesterday' is no date"),
    (("findings", "F", "shape"), [{}], "must be words, numbers and lists of them"),
    (("findings", "F", "trace"), [], "trace: must be an object"),
    (("findings", "F", "summary"), None, "summary: must be a text"),
    (("findings", "F", "odd"), 1, "odd: unknown field"),
    (("nights", "N", "date"), "2026-11-06", "date and shard"),
    (("nights", "N", "date"), "../../../x", "is no date"),
    (("nights", "N", "shard"), "../..", "must be a shard such as 1/4"),
    (("nights", "N", "gears"), {"walk": [1, 2, 3]}, "gears.walk: must be four numbers"),
    (("nights", "N", "gears"), {"walk": [1, 2, 3, "x"]}, "gears.walk: must be a number"),
    (("nights", "N", "rota"), [{"found": 1}], "rota[0].found: must be true or false"),
    (("nights", "N", "rota"), ["x"], "rota[0]: must be an object"),
    (("nights", "N", "coverage"), {"never": [1]}, "coverage.never[0]: must be a text"),
    (("nights", "N", "ended"), "well", "ended: must be one of"),
    (("nights", "N", "new"), ["x"], "new[0]: must be a signature"),
    (("nights", "N", "seconds"), float("nan"), "seconds: must be a number, 0 or more"),
    (("nights", "N", "runs"), -1, "runs: must be 0 to"),
    (("kinds",), {"a": "b"}, "kinds.a: must be a signature"),
]


@pytest.mark.parametrize(("place", "value", "said"), BAD)
def test_a_bad_ledger_gets_one_line(place: tuple[str, ...], value: Any, said: str) -> None:
    """Protects a state that somebody edited or that came from elsewhere: nothing in it becomes a path outside the directory or a
    traceback; what is wrong is one line with the place."""
    data = json.loads(ledger_text(full_books().ledger))
    names = {"F": entry(1).signature, "N": "2026-11-05.1of1"}
    at = data
    for step in place[:-1]:
        at = at[names.get(step, step)]
    at[place[-1]] = value
    with pytest.raises(BadLedger) as bad:
        read_ledger(json.dumps(data))
    assert said in str(bad.value)
    assert str(bad.value).startswith("ledger.json: ")
    assert "\n" not in str(bad.value)


@pytest.mark.parametrize("text", ["", "[]", "{", "[" * 100_000, '{"hvmodel-ledger": 1}', "\x00"])
def test_what_is_no_ledger_at_all(text: str) -> None:
    """Protects against a file that was cut off or is something else: one line, no traceback."""
    with pytest.raises(BadLedger, match=r"^ledger.json: .*$"):
        read_ledger(text)


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_a_mutated_ledger_is_read_or_refused(data: st.DataObject) -> None:
    """Protects every field of the file: with any one value in it replaced it is read, or refused in one line, and what is read can
    be judged and written."""
    tree = json.loads(ledger_text(full_books().ledger))
    at, path = tree, []
    while isinstance(at, dict | list) and at and data.draw(st.booleans()):
        path.append(data.draw(st.sampled_from(sorted(at) if isinstance(at, dict) else range(len(at)))))
        at = at[path[-1]]
    value: Any = data.draw(st.sampled_from([None, True, -1, 1e300, "x", "2026-11-05", [], {}, [[]], {"x": [1]}, ["x"]]))
    if not path:
        tree = value
    else:
        at = tree
        for step in path[:-1]:
            at = at[step]
        at[path[-1]] = value
    said = ""
    try:
        found = read_ledger(json.dumps(tree))
    except BadLedger as bad:
        said = str(bad)
        found = ledger()
    assert "\n" not in said
    statuses(found, {}, day(5))
    assert read_ledger(ledger_text(found)) == found
