"""The summary of a night: it says what happened, and nothing that comes from elsewhere becomes markup."""

from __future__ import annotations

import re
from dataclasses import asdict, replace
from html.parser import HTMLParser
from itertools import pairwise
from typing import Any
from xml.etree import ElementTree

import pytest
from catalogue import ENTRIES
from markdown_it import MarkdownIt

from hvmodel import document
from hvmodel.gears.minimise import Target, minimise
from hvmodel.jobs.findings import Finding
from hvmodel.jobs.hunt import Tally
from hvmodel.jobs.nightly import charts
from hvmodel.jobs.nightly.excuses import Excuse
from hvmodel.jobs.nightly.join import Books
from hvmodel.jobs.nightly.ledger import CUT_SHORT, INTERRUPTED, VOID, WHOLE, Entry, Ledger, NightRecord
from hvmodel.jobs.nightly.ledger_file import FINDING, entry_of
from hvmodel.jobs.nightly.night import DISK, HARNESS, NEW, NOTHING_NEW, VOID_NIGHT, status_of
from hvmodel.jobs.nightly.portions import Portion
from hvmodel.jobs.nightly.summary import page
from hvmodel.jobs.nightly.worker import finding_record
from hvmodel.jobs.survival import Observation, kaplan_meier
from hvmodel.properties.catalogue import SEVERITIES

DRIVER = "posted-v0"
FIRST, LAST = "2026-11-23", "2026-11-24"


def found(key: str, property_id: str, *seen: str) -> Entry:
    """A finding of the posted driver, with the trace that the catalogue has of it."""
    known = ENTRIES[key]
    small = minimise(known.config, list(known.operations), DRIVER, Target(property_id), limit=60)
    assert small is not None
    record = finding_record(Finding(small, DRIVER, "walk", "1/0/7"), "", Portion("walk", 0))
    return replace(entry_of({name: record[name] for name in FINDING}), seen=seen)


@pytest.fixture(scope="module")
def stale() -> Entry:
    """A page that can still be reached."""
    return found("D20", "no-stale-mapping", LAST)


@pytest.fixture(scope="module")
def bounds() -> Entry:
    """An overrun of the input page."""
    return found("D04", "input-page-bounds", FIRST, LAST)


def record(ended: str = WHOLE, **fields: Any) -> NightRecord:
    """One shard's night; a canary was found."""
    trial = {"driver": "repaired+D84", "found": True, "operations": 12, "limit": 5000}
    tally = asdict(Tally(operations=5000, runs=60, rules={"map": 3}))
    made = NightRecord(LAST, "1/1", seed=77, ended=ended, budget=300, seconds=301, tally=tally, canaries=[trial])
    usual = {"operations": 5000, "runs": 60, "gears": {"walk": [3, 60, 5000, 2.5]}, "peaks": [40_000, 60_000, 51_200]}
    return replace(made, **{**usual, **fields})


def books(*entries: Entry, nights: tuple[NightRecord, ...] = (), excuses: tuple[Excuse, ...] = (), **fields: Any) -> Books:
    """Books with these."""
    made = Ledger(DRIVER, {item.signature: item for item in entries}, {}, {night.name: night for night in nights or (record(),)})
    return Books(replace(made, **fields), {}, {item.signature: item for item in excuses})


def both(known: Books, notes: tuple[str, ...] = ()) -> tuple[str, str]:
    """The page of the last night as Markdown and as HTML."""
    shown = page(known, LAST, notes)
    return document.markdown(shown), document.html(shown)


# --- what it says -------------------------------------------------------------------------------------------------------------


def test_the_verdict_says_how_the_night_went(stale: Entry) -> None:
    """Protects the first line, which is all that most people read: what is new, and whether the night is worth anything."""

    def verdict(*nights: NightRecord, entries: tuple[Entry, ...] = ()) -> tuple[str, str]:
        shown = page(books(*entries, nights=nights), LAST)
        return shown.verdict, shown.mood

    nothing = "0 new, 0 known, 0 fixed, 0 excused."
    assert verdict(record()) == (nothing, "good")
    assert verdict(record(), entries=(stale,)) == ("1 new, 0 known, 0 fixed, 0 excused.", "bad")
    assert verdict(record(INTERRUPTED)) == (f"{nothing} Shard 1/1 was interrupted.", "odd")
    assert verdict(record(CUT_SHORT)) == (f"{nothing} Shard 1/1 was cut short.", "odd")
    bird = {"driver": "repaired+D05", "found": False, "operations": 9, "limit": 9}
    void = verdict(record(VOID, canaries=[bird]), entries=(stale,))
    assert void == ("Void: a canary was not found, so that finding nothing else would say nothing.", "odd")
    late = verdict(record(VOID), entries=(stale,))
    assert late == ("Void: the time was over before the search began, so that finding nothing else would say nothing.", "odd")
    half = verdict(record(VOID, canaries=[bird]), record(shard="2/2"))
    assert half == (f"{nothing} Shard 1/1 was void: a canary was not found.", "odd")
    wrong = record(different=["walk/3"], failures=["walk/4: x"], corpus={"traces": 2, "problems": ["y"]})
    said, mood = verdict(wrong, entries=(stale,))
    assert said.startswith("The harness erred: 1 x portion of work came out different when done again; 1 x portion of work failed;")
    assert said.endswith("1 new, 0 known, 0 fixed, 0 excused.")
    assert mood == "bad"


def test_the_exit_status_says_the_same() -> None:
    """Protects scripts: 1 only for new findings; a harness that errs, a full disk and a void night have statuses of their own, in
    this order; one shard that is void does not hide what another found."""
    assert status_of([record()], False) == NOTHING_NEW == 0
    assert status_of([record()], True) == NEW == 1
    assert status_of([record(VOID)], True) == VOID_NIGHT == 3
    assert status_of([record(VOID), record(shard="2/2")], True) == NEW
    assert status_of([record(VOID), record(VOID, shard="2/2")], False) == VOID_NIGHT
    assert status_of([record(VOID)], False, "no space") == DISK == 5
    for fields in ({"different": ["walk/0"]}, {"failures": ["walk/0: x"]}, {"corpus": {"problems": ["x"]}}):
        assert status_of([record(), record(VOID, shard="2/2", **fields)], True, "no space") == HARNESS == 4


def test_a_new_finding_is_told_in_full(stale: Entry, bounds: Entry) -> None:
    """Protects the reader of a new finding: the operations, where the views part, the signature for an excuse and the trace for a
    replay are all on the page; a known one is a row on request."""
    markdown, html = both(books(stale, bounds))
    new, old = markdown.partition("## Not new")[::2]
    for text in (stale.summary, stale.signature, "1. boot", "| domain 1:", "!! no-stale-mapping"):
        assert text in new, text
    assert f"`hvmodel replay traces/{stale.file}`" in new
    assert f"`hvmodel explain traces/{stale.file}`" in new
    assert bounds.signature not in new
    assert "1 known finding, 1 cause" in old
    assert bounds.signature in old
    assert "its excuse ran out" not in markdown
    assert stale.signature in html


def test_many_new_ones_are_a_table_of_causes(stale: Entry, bounds: Entry) -> None:
    """Protects the first night of a driver: one row for each cause, the worst first, further signatures of a cause counted in its
    row, stories on request."""
    form = replace(stale, signature="no-stale-mapping/unmap_pages/00000001", shape=("unmap", 1, 2, *stale.shape[3:]))
    others = [found(key, ENTRIES[key].property, LAST) for key in ("D01", "D05", "D15", "D54")]
    markdown, _html = both(books(stale, form, *others))
    assert "6 new (5 causes)" in markdown
    new = markdown.partition("## Not new")[0]
    rows = [line for line in new.splitlines() if re.match(r"\| \d", line)]
    severities = [line.split("|")[2].strip() for line in rows]
    assert len(rows) == 5
    assert severities == sorted(severities, key=SEVERITIES.index)
    assert "(+1)" in next(line for line in rows if stale.signature in line or form.signature in line)
    assert new.count("<details>") == 5
    assert "Of the same cause: `no-stale-mapping" in new


def test_what_is_not_new(stale: Entry, bounds: Entry) -> None:
    """Protects what people wait for: what was fixed, what is excused until when and why, forms of known causes that are met for the
    first time, and findings that could not be put to the test."""
    gone = replace(bounds, seen=(FIRST,), fixed=(LAST,))
    plea = Excuse(stale.signature, LAST, "waits for v2")
    markdown, _html = both(books(stale, gone, nights=(record(untested=[stale.signature]),), excuses=(plea,)))
    assert "0 new, 0 known, 1 fixed, 1 excused." in markdown
    assert "Fixed: these do not fail any more" in markdown
    assert "| `waits for v2` |" in markdown
    assert "1 finding not put to the test" in markdown
    form = replace(stale, signature="no-stale-mapping/unmap_pages/00000001", shape=("unmap", 1, 2, *stale.shape[3:]))
    markdown, _html = both(books(replace(stale, seen=(FIRST, LAST)), form))
    assert "0 new, 2 known" in markdown
    assert "1 form of known causes that no night had met before" in markdown
    late = both(books(replace(stale, seen=(FIRST, LAST)), excuses=(replace(plea, until=FIRST),)))[0]
    assert f"Its excuse ran out on {FIRST}: `waits for v2`." in late
    assert "Nothing else was found." in both(books())[0]


def test_the_figures_of_a_night(stale: Entry) -> None:
    """Protects the rest of the page: throughput, memory, canaries, what never came up, branches, the rota, the trend."""
    trial = {"driver": "repaired+D05", "found": False, "operations": 50_000, "limit": 50_000}
    never = ["hvmodel/drivers/x.py:9 to 12", "hvmodel/drivers/x.py:10 to the end"]
    cover = {"branches": 200, "taken": 198, "never": never, "runs": 60}
    night = record(coverage=cover, rota=[trial, {**trial, "found": True, "operations": 9}], checks=3, killed=2, skipped=5)
    before = record(date=FIRST, operations=100, new=[stale.signature])
    markdown, html = both(books(stale, nights=(before, night)))
    for text in (
        "| 1/1 | `walk` | 3 | 60 | 5,000 | 2 | 2,000 |",
        "| 1/1 | 77 | whole | 1 | 301 of 300 | 1 | 2 | 59, job 39 | 2 | 3 | `repaired+D84` after 12 | 0 traces |",
        "5 times a kind of hit was left for want of time.",
        "198 of 200 branches (99.0 %) came up in a sample of 60 runs.",
        "x.py:9 to 12\nhvmodel/drivers/x.py:10 to the end",
        "found in 1 of 2 trials",
        "| `repaired+D05` | not found | 50,000 |",
        f"| {FIRST} | 100 | 1 | 1 | 0 | 0 |",
        "| fault sites | `kzalloc`",
        "Another night of the same length meets about 0.0 new causes",
    ):
        assert text in markdown, text
    assert html.count("<svg") == 3
    without = record(coverage={"said": "coverage.py is not installed"})
    assert "Not measured: `coverage.py is not installed`." in both(books(nights=(without,)))[0]


def test_trouble_is_named() -> None:
    """Protects whoever has to repair a night: which canary, which portion, which kept trace, and what the disk did not take."""
    bird = {"driver": "repaired+D05", "found": False, "operations": 60_000, "limit": 60_000}
    corpus = {"traces": 1, "problems": ["D05: holds"]}
    night = record(VOID, canaries=[bird], different=["walk/25"], failures=["rota/1: OSError: x"], corpus=corpus)
    markdown, html = both(books(nights=(night,)), notes=("The disk did not take all of this night (x: full).",))
    for text in (
        "canary `repaired+D05` not found in 60,000 operations",
        "portion `walk/25` came out different when done again",
        "failed: `rota/1: OSError: x`",
        "kept trace: `D05: holds`",
        "The disk did not take all of this night (x: full).",
    ):
        assert text in markdown, text
    assert html.count('class="warning"') == 5


# --- that it is safe ----------------------------------------------------------------------------------------------------------

EVIL = "</td></details><script>alert(1)</script> [x](javascript:alert(1)) ![y](http://e.vil/z) `\"' | # <img src=x onerror=e()>"


class Reader(HTMLParser):
    """Notes which elements and attributes there are, and whether all that is opened is closed in order."""

    EMPTY = frozenset({"meta", "br", "path", "rect"})

    def __init__(self) -> None:
        super().__init__()
        self.stack: list[str] = []
        self.names: set[str] = set()
        self.attributes: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.names.add(tag)
        self.attributes |= {name for name, _value in attrs}
        if tag not in self.EMPTY:
            self.stack.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.names.add(tag)
        self.attributes |= {name for name, _value in attrs}

    def handle_endtag(self, tag: str) -> None:
        assert tag in self.EMPTY or self.stack.pop() == tag, f"{tag} closed"


def hostile(stale: Entry) -> Books:
    """Books in which every text that may come from elsewhere tries to be markup."""
    evil = replace(stale, summary=EVIL, level=EVIL)
    excused = replace(stale, signature="no-stale-mapping/unmap_pages/00000001", summary=EVIL)
    known = replace(stale, signature="no-stale-mapping/unmap_pages/00000002", summary=EVIL, seen=(FIRST, LAST))
    trial = {"driver": EVIL, "found": False, "operations": 10, "limit": 10}
    night = record(
        failures=[EVIL],
        different=[EVIL],
        canaries=[trial, {**trial, "found": True}],
        rota=[trial, {**trial, "found": True}],
        corpus={"traces": 1, "problems": [EVIL], "said": EVIL},
        coverage={"branches": 5, "taken": 1, "never": [EVIL, "```\n# x"], "runs": 3},
        gears={EVIL: [1, 2, 3, 4.0]},
        untested=[known.signature],
    )
    plea = Excuse(excused.signature, LAST, EVIL)
    return books(evil, excused, known, nights=(night, record(date=FIRST, coverage={"said": EVIL})), excuses=(plea,), driver=EVIL)


def test_nothing_from_elsewhere_becomes_html(stale: Entry) -> None:
    """Protects whoever opens the page: it is well-formed, has no script and loads nothing, whatever drivers, reasons, traces and
    ledgers from elsewhere say."""
    html = both(hostile(stale), notes=(EVIL,))[1]
    reader = Reader()
    reader.feed(html)
    reader.close()
    assert reader.stack == []
    assert not reader.names & {"script", "img", "iframe", "object", "link", "a", "form", "base"}
    assert not {name for name in reader.attributes if name.startswith("on") or name in ("href", "src", "style", "action")}
    assert "alert(1)" in html, "it is shown, as text"


def test_nothing_from_elsewhere_becomes_markdown(stale: Entry) -> None:
    """Protects the job page: no HTML but the folds that we make, no links, no pictures, no headings but ours."""
    markdown = both(hostile(stale), notes=(EVIL,))[0]
    tokens = [*MarkdownIt("commonmark", {"html": True}).enable("table").parse(markdown)]
    tokens += [child for token in tokens for child in token.children or ()]
    for token in tokens:
        if token.type in ("html_block", "html_inline"):
            assert re.fullmatch(r"(<details><summary>[^<>]*</summary>|</details>)\s*", token.content), token.content
    assert not {token.type for token in tokens} & {"link_open", "image"}
    reason = " ".join(EVIL.replace("`", "'").split())
    assert reason in [token.content for token in tokens if token.type == "code_inline"], "one piece of code"
    sections = [token.content for before, token in pairwise(tokens) if before.type == "heading_open"]
    assert len(sections) == 9


def test_charts_are_svg() -> None:
    """Protects the pictures: they are well-formed whatever their words and numbers are, and draw what they are given."""
    drawn = charts.over_nights(EVIL, [EVIL, "b", "c"], [0, 1.5, 3e9], hot=True)
    root = ElementTree.fromstring(drawn)
    bars = root.findall(".//{*}rect")
    assert [float(bar.get("height", "")) for bar in bars] == sorted(float(bar.get("height", "")) for bar in bars)
    assert len(bars) == 3
    ElementTree.fromstring(charts.over_nights("nothing", [], []))
    ElementTree.fromstring(charts.over_nights("one", ["a"], [0]))
    steps = kaplan_meier([Observation(10, True), Observation(1000, True), Observation(50_000, False)])
    curve = ElementTree.fromstring(charts.survival(EVIL, steps, 50_000)).find(".//{*}path[@class='a']")
    assert curve is not None
    assert curve.get("d", "").count("V") == 2
    ElementTree.fromstring(charts.survival("nothing", [], 0))
