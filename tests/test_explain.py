"""``hvmodel explain``: one told story and its three renderings, for readers who have never seen this project."""

from __future__ import annotations

import io
import re
import xml.etree.ElementTree as ElementTree
from dataclasses import dataclass, replace
from html.parser import HTMLParser
from pathlib import Path

import pytest
from catalogue import ENTRIES, Entry
from hypothesis import given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from rich.console import Console

from hvmodel import document
from hvmodel import operations as ops
from hvmodel.cli import main
from hvmodel.configuration import Configuration
from hvmodel.document import Branch, Code, Page, Picture, Section, Table, Text, Tree
from hvmodel.faults import Fault
from hvmodel.gears.minimise import Target
from hvmodel.gears.walk import walk
from hvmodel.hypervisor.policies import DEFAULT
from hvmodel.properties.catalogue import PROPERTIES, SEVERITIES
from hvmodel.traces import explain as explaining
from hvmodel.traces.explain import as_html, as_markdown, explain, html, markdown, on_paper, story
from hvmodel.traces.explain.acts import MAX_ACTS, Act, Gap
from hvmodel.traces.explain.calls import folded
from hvmodel.traces.explain.changes import changes
from hvmodel.traces.explain.meaning import HARM, SEVERITY
from hvmodel.traces.explain.plain import code, plain
from hvmodel.traces.explain.requests import request
from hvmodel.traces.explain.told import Story
from hvmodel.traces.format import Trace, write
from hvmodel.traces.replay import replay
from hvmodel.traces.story import tell
from hvmodel.traces.views import Views

A, P = 0x100000, 0x40000000
REFUSED = (Fault("UNMAP_DEVICE_GPA_PAGES", 1, 0x71, 4),)
STALE = Trace(
    Configuration(devices=Configuration().devices[:1]),
    [ops.Boot(), ops.Alloc(), ops.Map(1, A, P, 16), ops.Unmap(1, A, 16, faults=REFUSED)],
    "posted-v0",
    "no-stale-mapping",
    {"defects": ["D20-unmap-ignores-status", "D02-unmap-rep-field"]},
    {"seed": "0/1/34"},
)
"""A refused unmap that the posted driver reports as done."""

EVIL = '<script>alert(1)</script>\x1b[2J\x07\u202e[a](http://b) `c` **d** | e\n\n# f\n```\n"onload=" & \ud800 ' + "x" * 2000


def acts(one: Story) -> list[Act]:
    """The operations that are told one by one."""
    return [act for act in one.acts if isinstance(act, Act)]


def branches(tree: tuple[Branch, ...]) -> list[Branch]:
    """All lines of a tree."""
    return [line for branch in tree for line in (branch, *branches(branch.below))]


# --- the told story -------------------------------------------------------------------------------------------------------


def test_the_story_of_a_stale_mapping() -> None:
    """Protects what a stranger is told: the request in words, the refusal, the answer, the calls with their hypercalls and log,
    what changed, where the views part, what was expected and what it means."""
    one = story(STALE, "posted-v0", False)
    assert (one.status, one.title) == (1, "no-stale-mapping fails on posted-v0")
    act = acts(one)[3]
    assert act.request == "iommu_unmap of 16 pages (64 KiB) in domain 1: iova 0x100000"
    assert act.refusals == ("the 1st UNMAP_DEVICE_GPA_PAGES answers OPERATION_FAILED (0x71) after 4 elements",)
    assert act.answer == "0x10000 bytes: all of it is gone"
    assert act.calls[0].text == "unmap_pages(0x100000, 0x1000 x 16) = 0x10000"
    hypercall, log = act.calls[0].below
    assert hypercall.text.endswith("reps 16 -> OPERATION_FAILED, 4 done (refused)")
    assert (hypercall.look, log.look) == ("refused", "log")
    assert log.text.startswith("log err: hv_iommu_unmap_pages")
    assert [(change.who, change.what) for change in act.changes] == [
        ("caller, driver", "- [0x100000, 0x10ffff]: 16 pages (64 KiB)"),
        ("hypervisor", "- [0x100000, 0x103fff]: 4 pages (16 KiB)"),
    ]
    assert act.rulers[0].parted == (("stale", 12),)
    assert act.failures == ("domain 1: 12 pages from 0x104000: still mapped to 0x40004000",)
    ending = one.ending
    assert ending is not None
    assert ending.expected == PROPERTIES["no-stale-mapping"].claim
    assert ending.there == act.failures
    assert [change.who for change in ending.parting] == ["caller", "driver", "hypervisor"]
    assert ending.severity.startswith("isolation: a device reaches memory")
    assert "DMA" in ending.matters
    assert ending.needs == ("step 4: the 1st UNMAP_DEVICE_GPA_PAGES answers OPERATION_FAILED (0x71) after 4 elements",)
    assert ending.assumed == ()
    assert "if the hypervisor refuses UNMAP_DEVICE_GPA_PAGES; level kernel: " in ending.callers
    assert ending.defects[1] == ("D02-unmap-rep-field", "An unmap of 4096 to 65535 pages goes into one hypercall")
    assert "tree-matches-hypervisor (step 4)" in ending.also


def test_a_driver_that_does_it_right_has_another_story() -> None:
    """Protects against a story that shows what it wants to see: where the property holds there is no mark, no harm and status 0."""
    one = story(STALE, "repaired", False)
    assert (one.status, one.mood) == (0, "good")
    assert not any(ruler.parted for ruler in one.rulers)
    assert not any(act.failures for act in acts(one))
    assert one.ending is not None
    assert (one.ending.matters, one.ending.defects, one.ending.parting) == ("", (), ())
    assert "fails" not in on_paper(one).replace("also fails", "")


def test_what_was_never_asked_is_not_told_as_good() -> None:
    """Protects against a false all-clear: a trace in which nothing happens is neither good nor bad, and has status 2."""
    one = story(replace(STALE, operations=STALE.operations[1:]), "posted-v0", False)
    assert (one.status, one.mood) == (2, "odd")
    assert one.title == "no-stale-mapping not put to the test on posted-v0"
    assert all(act.answer == "none: there was nothing to act on" for act in acts(one))


def test_without_a_property_the_worst_failure_is_told() -> None:
    """Protects the reader of a hand-written trace: of all that fails the worst is in focus, as long as anything fails."""
    one = story(replace(STALE, property=None), "posted-v0", False)
    assert one.title == "no-stale-mapping fails on posted-v0"
    clean = story(Trace(STALE.config, STALE.operations[:3], "repaired"), "repaired", False)
    assert (clean.title, clean.status, clean.ending) == ("All properties hold on repaired", 0, None)


def test_the_failure_that_the_finding_names_is_in_focus() -> None:
    """Protects findings whose property fails twice: told is the failure that the finding is about, if it still occurs."""
    again = [ops.Alloc(2), ops.Map(2, A, P, 16), ops.Unmap(2, A, 16, faults=REFUSED)]
    trace = replace(STALE, operations=[*STALE.operations, *again])
    first, second = (act for act in acts(story(trace, "posted-v0", False)) if act.failures)
    assert story(trace, "posted-v0", False).headline.startswith(f"Step {first.number}: ")
    named = replace(trace, finding={"summary": second.failures[0]})
    assert story(named, "posted-v0", False).headline.startswith(f"Step {second.number}: ")


def test_only_what_changed_is_told() -> None:
    """Protects the reader's time: an operation that changes nothing has no change and no ruler, and a second look at the same
    views has none either."""
    trace = replace(STALE, operations=[*STALE.operations[:3], ops.Lookup(1, A)])
    look = acts(story(trace, "posted-v0", False))[3]
    assert (look.changes, look.rulers, look.answer) == ((), (), "0x40000000")
    steps, _world = tell(STALE, "posted-v0")
    assert changes(steps[3].views, steps[3].views) == ()
    assert changes(Views(), steps[3].views)


def test_a_call_that_never_returns_has_no_answer() -> None:
    """Protects against "ok" where the watchdog had to step in: the answer is none, and the tree shows the endless call, folded."""
    entry = ENTRIES["D11"]
    act = acts(story(Trace(entry.config, list(entry.operations), "posted-v0", entry.property), "posted-v0", False))[-1]
    assert act.answer == "none: a call never came back, and the run ends here"
    assert (act.calls[-1].text, act.calls[-1].look) == ("a call that never comes back", "failed")
    assert any(re.fullmatch(r"\.\.\. [\d,]+ more of these 2, in turn \.\.\.", branch.text) for branch in branches(act.calls))


def test_assumptions_are_spelled_out() -> None:
    """Protects against findings that look worse than they are: an answer that is not the likely one is named beside the likely one,
    a refusal that was never reached is said to be so, and so is what is unusual about the start."""
    config = replace(
        STALE.config, policies=replace(DEFAULT, remap_other="0x65", detach_leaves="none"), left_domains=(7,), no_attdev=True
    )
    one = story(
        replace(STALE, config=config, operations=[*STALE.operations[:3], ops.Lookup(1, A, faults=REFUSED)]), "repaired", False
    )
    assert one.ending is not None
    assert any("0x65 KEY_ALREADY_EXISTS, where supersede is most likely" in line for line in one.ending.assumed)
    assert any(
        "detach_leaves=none (A4: where a detached device is), where default is most likely" in line for line in one.ending.assumed
    )
    assert acts(one)[3].refusals[0].endswith("(never reached)")
    assert "an earlier kernel left the domains 0x7" in one.beginning
    assert "boot option hv_no_attdev" in one.beginning
    assert "remap_other=0x65" in on_paper(one)
    assert "**Assumed:** detach_leaves=none" in as_markdown(one)


# --- every kind of finding ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("entry", [pytest.param(entry, id=key) for key, entry in ENTRIES.items()])
def test_every_known_defect_can_be_explained(entry: Entry) -> None:
    """Protects everybody who explains a finding: all are told, with the verdict of the catalogue; 80 columns are kept; the page is
    whole; and no rendering leaves the failure out."""
    one = story(Trace(entry.config, list(entry.operations), "posted-v0", entry.property), "posted-v0", False)
    assert one.status == 1
    assert one.ending is not None
    detail = one.ending.there[0]
    paper = on_paper(one, 80)
    assert max(map(len, paper.splitlines())) <= 80
    assert " ".join(detail.split()) in " ".join(paper.split())
    assert f"There is:** {detail}".replace("[", r"\[") in as_markdown(one)
    assert whole(as_html(one)) == []


def test_every_operation_has_words() -> None:
    """Protects the vocabulary: a kind of operation without a sentence fails here, and its numbers are in the sentence."""
    for cls in ops.KINDS.values():
        assert len(request(cls(), Configuration())) > 15
    assert "0x1234000" in request(ops.Map(iova=0x1234000), Configuration())
    assert "read only, GFP_ATOMIC" in request(ops.Map(prot="r", gfp="atomic"), Configuration())


@pytest.mark.parametrize(
    ("operation", "answer"),
    [
        (ops.Unmap(1, A, 16), "0x10000 bytes: all of it is gone"),
        (ops.Unmap(1, 3 * A, 1), "0 bytes: nothing is gone"),
        (ops.DriverUnmap(1, A, 0x1000, 8), "0x8000 bytes: all of it is gone"),
        (ops.Lookup(1, A + 1), "0x40000001"),
        (ops.Lookup(1, 3 * A), "0: not mapped"),
        (ops.Map(1, 2 * A, P, 1), "0: it is mapped"),
        (ops.Map(1, 2 * A + 1, P, 1), "-EINVAL: nothing of it is mapped"),
        (ops.Replace(1, 0), "the core refuses it (-EINVAL)"),
        (ops.Free(1), "done"),
        (ops.Claim(0), "0, success"),
    ],
)
def test_answers_say_what_the_caller_may_believe(operation: ops.Operation, answer: str) -> None:
    """Protects the sentence on which everything turns: what the caller was told, by a driver that does it right."""
    trace = replace(STALE, operations=[*STALE.operations[:3], operation])
    assert acts(story(trace, "repaired", False))[3].answer == answer


def test_words_of_harm_name_properties_that_exist() -> None:
    """Protects against words that nobody reads any more: harms are those of properties, and all severities are explained."""
    assert set(HARM) <= set(PROPERTIES)
    assert set(SEVERITY) == set(SEVERITIES)


# --- long traces ----------------------------------------------------------------------------------------------------------


def test_a_long_trace_stays_short_and_says_what_it_left_out() -> None:
    """Protects the reader of a raw walk: a bounded number of operations is told, the failing one among them, and told and counted
    operations together are all, in order."""
    runs = (walk(f"explain/{number}", "posted-v0", "default", 2, 900) for number in range(99))
    done = next(run for run in runs if len(run.operations) > 300)
    one = story(Trace(done.config, done.operations, "posted-v0", "no-stale-mapping"), "posted-v0", False)
    told = [act.number for act in acts(one)]
    assert len(told) <= MAX_ACTS
    covered = [n for act in one.acts for n in (range(act.first, act.last + 1) if isinstance(act, Gap) else [act.number])]
    assert covered == list(range(1, len(done.operations) + 1))
    assert len(on_paper(one, 80).splitlines()) < 1500
    failing = [
        step.number for step in tell(Trace(done.config, done.operations), "posted-v0")[0] if step.violation("no-stale-mapping")
    ]
    if failing:
        assert failing[0] in told
    gaps = " ".join(act.text for act in one.acts if isinstance(act, Gap))
    assert re.search(r"\d+ operations not shown here \(\d+ \w+", gaps)
    assert "hypercalls" in gaps
    idle = story(replace(STALE, operations=[*STALE.operations, *[ops.Lookup(7)] * 60]), "posted-v0", False)
    assert idle.acts[-1] == Gap(5, 64, "60 operations not shown here (60 lookup), 0 hypercalls, 60 had nothing to act on")


def test_behind_a_gap_only_the_own_change_is_told() -> None:
    """Protects against changes of operations that are not told being laid at the door of the next one that is."""
    maps = [ops.Map(1, A + 0x2000 * i, P + 0x2000 * i, 1) for i in range(60)]
    trace = replace(STALE, operations=[*STALE.operations[:2], *maps, ops.Unmap(1, A, 1, faults=REFUSED)])
    told = [act for act in acts(story(trace, "posted-v0", False)) if act.request.startswith("iommu_map")]
    assert 3 < len(told) < 60
    for act in told:
        assert [change.who for change in act.changes] == ["all views"]
        assert act.changes[0].what.endswith(": 1 page (4 KiB)")


def test_thousands_of_calls_are_a_few_lines() -> None:
    """Protects big requests: two thousand pieces and their hypercalls are told in a handful of lines that name the first and the
    last, and the drawing stays a drawing."""
    trace = replace(STALE, operations=[*STALE.operations[:2], ops.MapScattered(1, A, P, 2000, 1, 2), ops.Unmap(1, A, 2000)])
    one = story(trace, "repaired", False)
    lines = [branch.text for branch in branches(acts(one)[2].calls)]
    assert len(lines) == 5
    assert "map_pages(0x100000" in lines[0]
    assert lines[2] == "... 1,998 more like this ..."
    assert f"map_pages({A + 1999 * 0x1000:#x}" in lines[3]
    assert len(as_html(one)) < 200_000


@given(st.lists(st.integers(0, 2), max_size=60), st.integers(1, 4), st.integers(1, 30))
@settings(max_examples=60, deadline=None)
def test_folding_loses_nothing(items: list[int], period: int, times: int) -> None:
    """Protects the count of what is folded: shown and counted items are all items, the first and the last are shown, in order."""
    whole_list = [*items, *(list(range(10, 10 + period)) * times), *items]
    tree = folded(whole_list, lambda item: item, lambda item: Branch(str(item)))
    shown, at = 0, iter(range(len(whole_list)))
    for branch in tree:
        match = re.fullmatch(r"\.\.\. ([\d,]+) more (?:like this|of these (\d+), in turn) \.\.\.", branch.text)
        count = int(match[1].replace(",", "")) * int(match[2] or 1) if match else 1
        places = [next(at) for _ in range(count)]
        assert match or whole_list[places[0]] == int(branch.text)
        shown += count
    assert shown == len(whole_list)
    assert len(tree) <= 2 * len(items) + max(3 * period, 3) + 1


def test_little_is_not_folded() -> None:
    """Protects short stories: what is not longer than its fold is shown as it is."""
    for items, lines in (("aaa", 3), ("aaaa", 3), ("ababab", 6), ("abababab", 5), ("abcabcabcabcd", 8)):
        assert len(folded(items, str, Branch)) == lines


def test_text_is_cut_and_counted() -> None:
    """Protects against a file whose texts are longer than the rest of the page."""
    assert plain("x" * 500) == "x" * 300 + " ... and 200 more characters"
    assert plain("a\tb\u202e\ud800é") == "a\\tb\\u202e\\ud800é"
    assert code("`") == "`'`"


# --- hostile traces -------------------------------------------------------------------------------------------------------


class Reader(HTMLParser):
    """What a browser makes of a page: tags that are left open, elements and attributes that a page must not have."""

    VOID = frozenset({"meta", "br"})

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.problems: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in self.VOID:
            self.open.append(tag)
        if tag in ("script", "iframe", "object", "img", "a", "link", "base", "form"):
            self.problems.append(f"<{tag}>")
        self.problems += [f"{tag} {name}={value}" for name, value in attrs if name.startswith("on") or name in ("src", "href")]

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.problems += [f"{tag} {name}={value}" for name, value in attrs if name.startswith("on") or name in ("src", "href")]

    def handle_endtag(self, tag: str) -> None:
        if not self.open or self.open.pop() != tag:
            self.problems.append(f"</{tag}> closes nothing")


def whole(page: str) -> list[str]:
    """What is wrong with an HTML page that has to stand alone."""
    reader = Reader()
    reader.feed(page)
    reader.close()
    return reader.problems + [f"<{tag}> is left open" for tag in reader.open]


def test_the_reader_of_pages_sees_what_it_is_there_to_see() -> None:
    """Protects the next tests from a parser that is content with everything."""
    assert whole("<p>fine</p>") == []
    assert whole("<p><script>x</script></p>") == ["<script>"]
    assert whole('<p onload="x">') == ["p onload=x", "<p> is left open"]
    assert whole("</p>") == ["</p> closes nothing"]


def hostile() -> Trace:
    """A trace that holds evil text wherever a file can hold text."""
    config = replace(STALE.config, skip="(0000:00:02.0)`<script>alert(2)</script>[a](http://b)|*x*" + "y" * 3000)
    finding = {"summary": EVIL, "defects": [EVIL, "D02-" + EVIL, "D02-unmap-rep-field"], "assumptions": [EVIL], "call": EVIL}
    return replace(STALE, config=config, finding=finding, origin={"seed": EVIL, "note": [EVIL] * 50, "gear": "x" * 4000})


@pytest.mark.parametrize("name", ["no-stale-mapping", "options-are-honoured", None])
def test_hostile_text_is_harmless_everywhere(name: str | None) -> None:
    """Protects terminals, mails and browsers from a trace: no control character or lone surrogate comes out, no element or link of
    the file's making exists in HTML or in what a Markdown renderer that is not ours makes of it, and the sizes are bounded."""
    one = story(replace(hostile(), property=name), "posted-v0", False)
    paper, mail, page = on_paper(one, 80), as_markdown(one), as_html(one)
    for text in (paper, mail, page):
        text.encode()
        assert not [c for c in text if not c.isprintable() and c != "\n"]
        assert len(text) < 60_000
    assert whole(page) == []
    rendered = MarkdownIt("commonmark", {"html": True}).enable("table").render(mail)
    problems = whole(rendered)
    assert problems == []
    assert "alert(1)" in paper + rendered  # it is shown, as text


def test_hostile_text_would_be_seen() -> None:
    """Protects the test above: the same text, not made harmless, is found in both forms."""
    rendered = MarkdownIt("commonmark", {"html": True}).render(f"Seed: {EVIL[:60]} {EVIL[30:70]}")
    assert any("script" in problem for problem in whole(rendered))


# --- the terminal ---------------------------------------------------------------------------------------------------------


def printed(trace: Trace, **how: object) -> str:
    """What a console of some kind gets."""
    out = io.StringIO()
    explain(trace, "posted-v0", Console(file=out, highlight=False, **how), generalise=False)  # type: ignore[arg-type]
    return out.getvalue()


def test_plain_when_not_a_terminal_and_without_colour_when_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Protects pipes and those who set NO_COLOR: no escape sequence in the one, no colour in the other, and colour on a
    terminal."""
    monkeypatch.delenv("NO_COLOR", raising=False)
    assert "\x1b" not in printed(STALE, width=80)
    terminal = printed(STALE, width=80, force_terminal=True, color_system="standard")
    assert re.search(r"\x1b\[[\d;]*31m", terminal)
    monkeypatch.setenv("NO_COLOR", "1")
    assert not re.search(r"\x1b\[[\d;]*3[1-7]m", printed(STALE, width=80, force_terminal=True, color_system="standard"))


def test_ascii_where_the_output_has_no_more() -> None:
    """Protects serial consoles and LC_ALL=C: with an ASCII encoding everything is printed, in ASCII, with the same columns."""
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding="ascii", errors="strict")
    explain(replace(STALE, origin={"seed": "ü"}), "posted-v0", Console(file=stream, width=80), generalise=False)
    stream.flush()
    text = raw.getvalue().decode("ascii")
    assert "hypervisor  ..............##############" in text
    assert "`- unmap_pages" in text
    assert "hypervisor  ··············██████████████" in printed(STALE, width=80)


@pytest.mark.parametrize("width", [40, 60, 80, 140, 300])
def test_the_width_is_kept(width: int) -> None:
    """Protects narrow terminals from broken lines and wide ones from lines that nobody can follow."""
    assert max(map(len, printed(STALE, width=width).splitlines())) <= min(width, 140)


@pytest.mark.parametrize("driver", ["posted-v0", "repaired"])
@pytest.mark.parametrize("name", ["no-stale-mapping", "count-matches", None])
def test_the_exit_status_is_that_of_replay(driver: str, name: str | None) -> None:
    """Protects scripts: explain and replay never differ in what they say of a trace."""
    for operations in (STALE.operations, STALE.operations[:3], STALE.operations[1:]):
        trace = replace(STALE, operations=operations, property=name)
        silent = Console(file=io.StringIO(), width=80)
        assert explain(trace, driver, silent, generalise=False) == replay(trace, driver, False, silent)


# --- what of it matters ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Fake:
    """An answer of the generaliser."""

    free: tuple[str, ...] = ("step 3: any iova that is 1 MiB aligned",)
    bound: tuple[str, ...] = ("step 4: any status but success",)
    shortness: str = "known to be shortest"


def test_what_matters_is_asked_and_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    """Protects the general form of a finding: it is asked for failing traces only, shown in all renderings, and left out on
    wish."""
    asked: list[object] = []

    def generalise(*arguments: object) -> Fake:
        asked.append(arguments)
        return Fake()

    monkeypatch.setattr(explaining, "ask_what_matters", generalise)
    for text in (on_paper(story(STALE, "posted-v0")), markdown(STALE, "posted-v0"), html(STALE, "posted-v0")):
        assert all(line in text for line in (*Fake().free, *Fake().bound, Fake().shortness))
    assert asked[0] == (STALE.config, STALE.operations, "posted-v0", Target("no-stale-mapping", "unmap_pages"))
    assert len(asked) == 3
    assert story(STALE, "repaired").generality is None
    assert story(STALE, "posted-v0", False).generality is None
    long = replace(STALE, operations=[*STALE.operations, *[ops.Lookup(1, A)] * 60])
    big = replace(STALE, operations=[*STALE.operations, ops.MapScattered(1, 1 << 40, P, 600, 1, 2)])
    for trace in (long, big):
        one = story(trace, "posted-v0")
        assert one.generality is None
        assert "minimise the trace first" in one.notes[-1]
    assert len(asked) == 3


# --- the page -------------------------------------------------------------------------------------------------------------


def test_the_page_stands_alone_in_light_and_dark() -> None:
    """Protects the page as an attachment: whole, no link to anything, made for both lights, for telephones and for paper, its
    drawings well-formed and with words for those who cannot see them."""
    page = html(STALE, "posted-v0", False)
    assert whole(page) == []
    assert "http" not in page
    for needed in ("prefers-color-scheme: dark", "width=device-width", "@media print", "<title>no-stale-mapping fails"):
        assert needed in page
    drawings = re.findall(r"<svg.*?</svg>", page, re.S)
    assert len(drawings) == 2
    roots = [ElementTree.fromstring(drawing) for drawing in drawings]
    assert roots[1].attrib["aria-label"] == "domain 1, caller, driver, hypervisor: stale: 12 pages (48 KiB)"
    assert [rect.attrib["class"] for rect in roots[1].findall("rect")] == ["held wrong"]


def test_markdown_carries_the_ruler_in_ascii() -> None:
    """Protects mails: the drawing is in a code block, in ASCII, no wider than a mail is."""
    mail = markdown(STALE, "posted-v0", False)
    block = next(part for part in mail.split("```") if "hypervisor  " in part and "stale" in part)
    assert block.isascii()
    assert "#" in block
    assert max(map(len, block.splitlines())) <= 76
    assert "\nchanged   view\ndomain 1  caller, driver  - [0x100000, 0x10ffff]: 16 pages (64 KiB)\n" in mail


def test_blocks_of_a_page_in_both_forms() -> None:
    """Protects documents in general: trees, pictures with words, plain tables and labels come out in both forms; text cannot become
    HTML or a link, and code in backquotes stays code."""
    blocks: list[document.Block] = [
        Text("<b>x</b> [y](z) `a<b`", label="Said"),
        Tree((Branch("one", "failed", (Branch("<two>"),)),)),
        Picture("<svg></svg>", "##"),
        Picture("<svg></svg>"),
        Table(("what", ""), [("a", "`|<i>")], plain=True),
        Code("```"),
    ]
    page = Page("t <i>", "v", "good", [Section("s", blocks)])
    text, drawn = document.markdown(page), document.html(page)
    assert r"**Said:** \<b>x\</b> \[y](z) `a<b`" in text
    assert "```\none\n  <two>\n```" in text
    assert text.count("##\n") == 1
    assert "what\na     `|<i>" in text
    assert whole(drawn) == []
    assert '<li><span class="failed">one</span>' in drawn
    assert "<b>Said:</b> &lt;b&gt;x&lt;/b&gt; [y](z) <code>a&lt;b</code>" in drawn
    assert drawn.count("<svg>") == 2


# --- the command line -----------------------------------------------------------------------------------------------------


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    """The stale mapping as a file."""
    path = tmp_path / "stale.json"
    write(STALE, path)
    return path


def test_the_verb(saved: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Protects the verb: three formats, a file or standard output, and replay's exit status in each case."""
    assert main(["explain", str(saved), "--no-generalise"]) == 1
    assert "no-stale-mapping fails on posted-v0" in capsys.readouterr().out
    assert main(["explain", str(saved), "--no-generalise", "--driver", "repaired"]) == 0
    capsys.readouterr()
    for form, start in (("terminal", "no-stale-mapping fails"), ("markdown", "# no-stale"), ("html", "<!DOCTYPE html>")):
        out = tmp_path / "new" / form
        assert main(["explain", str(saved), "--no-generalise", "--format", form, "--out", str(out)]) == 1
        assert out.read_text(encoding="utf-8").startswith(start)
        assert capsys.readouterr().out == ""


def test_wrong_use_is_one_line(saved: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Protects scripts and people: bad input, an unknown driver and a place that cannot be written answer one line and status 2,
    and the trace is never overwritten."""
    before = saved.read_bytes()
    (tmp_path / "bad.json").write_bytes(b"\xff{")
    for arguments in (
        [str(tmp_path / "none.json")],
        [str(tmp_path / "bad.json")],
        [str(saved), "--driver", "nobody"],
        [str(saved), "--out", str(saved)],
        [str(saved), "--format", "html", "--out", str(saved / "x"), "--no-generalise"],
    ):
        assert main(["explain", *arguments]) == 2
        said = capsys.readouterr()
        assert said.out == ""
        assert said.err.count("\n") == 1
    assert saved.read_bytes() == before
