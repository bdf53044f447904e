"""Compare: what is fixed, broken, in both and undecided is told apart; differences are real and short; costs are what was done."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import pytest
from native_subject import needs_compiler
from rich.console import Console

from hvmodel import operations as ops
from hvmodel.cli import main
from hvmodel.configuration import DEVICES, Configuration
from hvmodel.document import markdown
from hvmodel.drivers import REGISTRY, DriverEntry, register
from hvmodel.drivers.repaired import Repaired
from hvmodel.gears.minimise import Minimised
from hvmodel.gears.walk import runs, walk
from hvmodel.jobs.compare import cost, lives
from hvmodel.jobs.compare.cost import Cost, CostPair, Meter, measure, paired
from hvmodel.jobs.compare.job import Comparison, Difference, Options
from hvmodel.jobs.compare.judging import State, state_on
from hvmodel.jobs.compare.lives import BEGINNING, START, Memory
from hvmodel.jobs.compare.narrow import Witness, differences, narrow
from hvmodel.jobs.compare.page import WIDTH, page
from hvmodel.jobs.compare.parting import ANSWER, CALLS, HYPERCALLS, Kind, folded, in_step, pair
from hvmodel.jobs.compare.screen import print_comparison
from hvmodel.jobs.compare.sides import Line, laid_out, told
from hvmodel.jobs.compare.sorting import Judged, Row, sort
from hvmodel.jobs.compare.subjects import Given, Subject, corpus, from_files, subjects_of
from hvmodel.jobs.compare.words import verdict
from hvmodel.jobs.findings import Finding, sites_of
from hvmodel.kernel.iommu import EIO, Device, IommuDomain, IommuOps
from hvmodel.kernel.services import Kernel
from hvmodel.properties.verdicts import Violation
from hvmodel.rules.worlds import PROFILE_NAMES
from hvmodel.traces.format import TraceError, read
from hvmodel.traces.verdict import verdict_of
from hvmodel.world import World

CORPUS = Path(__file__).parent / "traces"
MAP = ops.Map(1, 0x100000, 0x40000000, 1)
Does = Literal["fails", "holds", "undetermined"]


def given(name: str) -> Given:
    """A trace of the corpus."""
    return next(one for one in corpus(CORPUS) if one.name == f"corpus: {name}")


def kept(name: str) -> Finding:
    """What a trace of the corpus is about, as it fails on the driver that it was recorded on."""
    return subjects_of(given(name), ("repaired", "repaired"))[0].finding


def made(operations: list[ops.Operation], violation: Violation) -> Finding:
    """A finding that nobody has found."""
    return Finding(Minimised(Configuration(), operations, violation, 0), "somebody", "test", "")


# --- is it there on the other one? --------------------------------------------------------------------------------------------


def test_a_finding_fails_where_its_defect_is_and_holds_where_it_is_not() -> None:
    """Protects the ground of every verdict of a comparison: the trace itself, run on the other driver."""
    finding = kept("unmap-forgets-the-last-page")
    assert state_on(finding, "repaired+D20") == State("fails", True, state_on(finding, "repaired+D20").violation)
    assert state_on(finding, "repaired").state == "holds"


def test_what_was_not_put_to_the_test_is_no_repair() -> None:
    """Protects against fixes that are none: where the situation cannot even be set up, it is said so, with the step."""
    finding = made([ops.Boot(), ops.Lookup(1, 0x1000)], Violation("lookup-matches-caller", "domain 1", "", "iova_to_phys", ()))
    state = state_on(finding, "repaired")
    assert state.state == "undetermined"
    assert "step 2" in state.why


def test_a_refusal_is_put_where_the_other_driver_meets_it() -> None:
    """Protects against drivers that look repaired because they ask in another order: the refusal follows."""
    finding = kept("unmap-that-fails-says-gone")
    assert sites_of(finding.operations) == {"UNMAP_DEVICE_GPA_PAGES"}
    late = [replace(op, faults=tuple(replace(fault, nth=9) for fault in op.faults)) for op in finding.operations]
    moved = Finding(replace(finding.minimised, operations=late), finding.driver, finding.gear, finding.seed)
    state = state_on(moved, "posted-v0")
    assert (state.state, state.same) == ("fails", False)
    assert state.why


def test_a_refusal_that_is_never_met_is_told() -> None:
    """Protects the reader of a repair that consists in not making the call at all."""
    state = state_on(kept("count-goes-down-though-detach-failed"), "repaired")
    assert state.state == "holds"
    assert "never makes the call that was refused" in state.why


def test_another_failure_of_the_same_property_hides_nothing() -> None:
    """Protects regressions beside known failures: a driver that breaks a locking rule at boot does not thereby have every finding
    about locking rules."""
    finding = made([ops.Boot()], Violation("context-is-balanced", "sleep-in-atomic map_pages", "", "map_pages", ("sleep", "x")))
    state = state_on(finding, "posted-v0")
    assert state.state == "holds"
    assert "another manner" in state.why


class Breaks(Repaired):
    """A driver in the middle of a change."""

    name, summary = "test-breaks", "raises"

    def hv_iommu_detect(self) -> None:
        raise RuntimeError("half a line")


@pytest.fixture
def breaks() -> Iterator[str]:
    """Its name, known while a test runs."""
    register(Breaks)
    yield Breaks.name
    del REGISTRY[Breaks.name]


def test_a_driver_that_breaks_is_undecided(breaks: str) -> None:
    """Protects a comparison from the first exception of a driver: that trace says nothing, and why."""
    state = state_on(kept("unmap-forgets-the-last-page"), breaks)
    assert (state.state, state.why) == ("undetermined", "RuntimeError: half a line")


# --- sorting ------------------------------------------------------------------------------------------------------------------


def judged(name: str, a: Does, b: Does, why: str = "") -> Judged:
    """A corpus finding that does this on A and that on B."""
    finding = kept(name)
    told = finding.minimised.violation
    on_a, on_b = (State(state, True, told if state == "fails" else None, why) for state in (a, b))
    return Judged(Subject(finding, f"corpus: {name}"), on_a, on_b)


def test_each_finding_is_of_one_kind() -> None:
    """Protects the four words of the report, and that the worst of them comes first."""
    found = sort(
        [
            judged("free-forgets-its-nodes", "fails", "fails"),
            judged("unmap-forgets-the-last-page", "fails", "holds"),
            judged("blocked-reaches-memory", "holds", "fails"),
            judged("create-never-deposits", "fails", "undetermined", why="step 3 did nothing"),
            judged("count-wraps", "holds", "holds"),
        ]
    )
    assert [(row.kind, row.fails_on) for row in found.rows] == [("broken", "B"), ("open", "A"), ("fixed", "A"), ("both", "both")]
    assert [row.name for row in found.rows] == ["broken-01", "open-01", "fixed-01", "both-01"]
    assert "step 3 did nothing" in found.rows[1].note
    assert found.neither == 1


def test_the_same_cause_in_another_form_is_not_fixed() -> None:
    """Protects against a fix of one trace only: if the other driver fails for the same cause elsewhere, both have it, and it is
    said where."""
    one = judged("unmap-forgets-the-last-page", "fails", "holds")
    other = judged("unmap-forgets-the-last-page", "holds", "fails")
    other = replace(other, subject=Subject(other.subject.finding, "search of B"))
    (row,) = sort([one, other]).rows
    assert row.kind == "both"
    assert "search of B" in row.note


def test_a_trace_that_names_no_property_is_about_all_that_fails() -> None:
    """Protects traces that were edited or made by hand: each property that fails in them on either driver is compared."""
    trace = replace(given("unmap-forgets-the-last-page").trace, property=None, finding={})
    names = {one.finding.property_id for one in subjects_of(Given(trace, "mine"), ("repaired", "repaired+D20"))}
    assert "no-stale-mapping" in names
    assert len(names) > 1


def test_traces_come_from_files_and_directories(tmp_path: Path) -> None:
    """Protects what may be named on the command line: files, directories of files, corpora; an empty directory is a mistake."""
    path = CORPUS / "unmap-forgets-the-last-page" / "trace.json"
    assert [one.name for one in from_files([path])] == [str(path)]
    assert len(from_files([path.parent, CORPUS])) == 1 + len(corpus(CORPUS))
    with pytest.raises(TraceError, match="no trace is in this directory"):
        from_files([tmp_path])


# --- in step ------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("driver", ["posted-v0", "repaired"])
def test_a_driver_does_not_differ_from_itself(driver: str) -> None:
    """Protects against differences that are none, over walks of all profiles and levels."""
    schedule = runs(5, 0, list(PROFILE_NAMES), [0, 1, 2], 40)
    for _turn, (seed, profile, level, steps) in zip(range(24), schedule, strict=False):
        run = walk(seed, driver, profile, level, steps)
        assert differences(driver, driver, run.config, run.operations) == {}


def kinds(*operations: ops.Operation, a: str = "posted-v0", b: str = "repaired") -> list[Kind]:
    """The kinds of the last operation after a boot."""
    *_, last = pair(Configuration(), [ops.Boot(), *operations], a, b)
    return last.kinds


def test_what_differs_is_told_by_aspect() -> None:
    """Protects the three sorts of differences, each in a case that is known: a map that the posted driver cannot do, a blocking
    domain that it does not offer, a detach that it makes in between."""
    assert kinds(ops.Alloc(1), replace(MAP, pages=512)) == [Kind(ANSWER, "map", "-EIO", "ok")]
    assert kinds(ops.Claim(0)) == [Kind(CALLS, "claim", "also calls domain_alloc_paging", "")]
    (found,) = kinds(ops.Claim(0), ops.Disown(0))
    assert (found.aspect, found.place, found.a) == (HYPERCALLS, "attach_dev", "also makes DETACH_DEVICE_DOMAIN")


class Parks(Repaired):
    """Released devices go to a domain of the driver's, of which the core asks without looking at the answer."""

    name, summary, refuses = "test-parks", "releases to the blocked domain", False

    def __init__(self, kernel: Kernel) -> None:
        super().__init__(kernel)
        registered = kernel.iommu_device_register

        def register_otherwise(ops: IommuOps) -> int:
            return registered(replace(ops, release_domain=ops.blocked_domain, release_device=None))

        kernel.iommu_device_register = register_otherwise  # type: ignore[method-assign]

    def hv_iommu_attach_dev(self, immdom: IommuDomain, dev: Device, old: IommuDomain | None) -> int:
        return super().hv_iommu_attach_dev(immdom, dev, old) or (-EIO if self.refuses and immdom.type == "blocked" else 0)


class ParksNot(Parks):
    """The same, and says that it has not."""

    name, refuses = "test-parks-not", True


def test_an_answer_that_only_the_core_hears_is_a_difference() -> None:
    """Protects return values that no caller sees: the core goes on as if nothing had happened."""
    a, b = (World(Configuration(), DriverEntry(cls.name, "", cls)) for cls in (Parks, ParksNot))
    *_, last = in_step(a, b, [ops.Boot(), ops.Release(0)])
    assert last.kinds == [Kind(ANSWER, "attach_dev", "0", "-EIO")]


def test_recovery_is_not_compared() -> None:
    """Protects from noise: what is given back at the end follows from all that was before."""
    assert kinds(ops.Claim(0), ops.Recover()) == []


def test_ids_are_compared_by_what_they_stand_for() -> None:
    """Protects from noise: after a claim the same domain has another id on each driver, and to map into it is no difference."""
    assert kinds(ops.Claim(0), ops.Alloc(1), MAP) == []
    steps = list(pair(Configuration(), [ops.Boot(), ops.Claim(0), ops.Alloc(1)], "posted-v0", "repaired"))
    ids = [dict(step.calls[0].hypercalls[0].fields)["id"] for step in (steps[-1].a, steps[-1].b)]
    assert ids[0] != ids[1]


def test_a_run_ends_where_the_callers_part() -> None:
    """Protects from consequences told as causes: after callers have been told different things, nothing is compared."""
    operations = [ops.Boot(), ops.Alloc(1), replace(MAP, pages=512), ops.Unmap(1, 0x100000, 512)]
    assert len(list(pair(Configuration(), operations, "posted-v0", "repaired"))) == 3


def test_kinds_with_more_refusals_are_folded() -> None:
    """Protects the counts: a difference that shows without a refusal is not another one with one."""
    plain, one = Kind(ANSWER, "map", "ok", "-EIO"), Kind(ANSWER, "map", "ok", "-EIO", ("kzalloc",))
    other = Kind(ANSWER, "map", "-EIO", "ok", ("kzalloc",))
    assert folded([one, plain, other]) == {plain: plain, one: plain, other: other}


def test_a_difference_is_minimised() -> None:
    """Protects the reader's time: of a long run that ends in a difference only what it needs is left, and the difference stays."""
    operations = (
        ops.VmCreate(1),
        ops.Boot(),
        ops.Alloc(3, 1),
        ops.Map(3, 0x700000, 0x50000000, 3),
        ops.Alloc(2, 0, by=1),
        ops.Lookup(3, 0x700000),
        ops.Claim(1),
        ops.Map(3, 0x900000, 0x60000000, 700),
    )
    (kind, witness), *_ = [
        item for item in differences("posted-v0", "repaired", Configuration(), operations).items() if item[0].aspect == ANSWER
    ]
    small = narrow(witness, "posted-v0", "repaired", kind)
    assert [op.kind for op in small.operations] == ["boot", "alloc", "map"]
    assert kind in kinds(*small.operations[1:])


# --- two columns --------------------------------------------------------------------------------------------------------------


def test_only_what_differs_is_set_in_columns() -> None:
    """Protects the telling: what both do goes across once, what one does stands on its side, within the width."""
    witness = Witness(Configuration(), (ops.Boot(), ops.Claim(0), ops.Disown(0)), 0)
    lines = told(witness, "posted-v0", "repaired")
    assert any(line.mark == "<" and "DETACH_DEVICE_DOMAIN" in line.left and not line.right for line in lines)
    assert [line.left for line in lines if line.mark == " "][:2] == [
        "1. boot  ->  ok on both, each in its own way",
        *[lines[1].left],
    ]
    assert not any(line.left == line.right for line in lines if line.mark == "|")
    for width in (60, 80, 120):
        assert max(len(text) for text, _ in laid_out(lines, width)) <= width


def test_columns_keep_their_place() -> None:
    """Protects the columns: the mark stands in the same place in each line, and long lines go on below, indented."""
    rows = [text for text, _ in laid_out([Line("left " * 8, "right", "|"), Line("", "only here", ">")], 43)]
    assert [row[21:22] for row in rows if row[21:22].strip()] == ["|", ">"]
    assert rows[1].startswith("    left")


# --- cost ---------------------------------------------------------------------------------------------------------------------

SMALL = Memory("small", 4, 512)


def test_counts_are_of_what_was_done() -> None:
    """Protects the figures: four runs of 512 pages take two hypercalls each (507 page numbers fit into one), each page is one
    element, and one deposit of 256 pages was enough; all per GiB, which is 128 times as much."""
    meter = Meter(World(START, "repaired"))
    meter.part("", BEGINNING)
    found = meter.part("map", SMALL.maps(), SMALL.pages / lives.GIB)
    assert found.by_name["MAP_DEVICE_GPA_PAGES"] >= 8
    assert (found.reps, found.deposits, found.deposited) == (2048 + 256, 1, 256)
    assert found.longest == 507
    assert found.allocations == 4
    assert found.figure("reps") == 128 * found.reps
    assert found.figure("longest") == found.longest


@needs_compiler
def test_a_driver_in_c_costs_what_the_same_one_in_python_does() -> None:
    """Protects the comparison of a C file with a port: all figures are counted alike, also how long interrupts are off."""
    names = ["2 MiB runs", "VM life"]
    assert measure("repaired-c", names) == measure("repaired", names)


def test_a_stretch_ends_when_interrupts_go_on() -> None:
    """Protects the figure that matters for latency: reps of several hypercalls add up while interrupts stay off, and no longer."""
    meter = Meter(world := World(Configuration(devices=DEVICES[:1]), "repaired"))
    kernel = world.kernel

    class Twice(ops.Boot):
        """Two deposits, with interrupts off all the time or not."""

    def deposit(off: bool) -> int:
        def body(_op: ops.Operation) -> int:
            flags = kernel.local_irq_save() if off else False
            kernel.hv_call_deposit_pages(1, 10)
            kernel.hv_call_deposit_pages(1, 10)
            kernel.local_irq_restore(flags)
            return 0

        world._handlers[Twice] = body
        world.booted = True
        return meter.part("", [Twice()]).longest

    assert (deposit(off=False), deposit(off=True)) == (10, 20)


def test_a_lie_is_not_cheap() -> None:
    """Protects the comparison from drivers that do nothing: an unmap that leaves pages mapped has failed, whatever it answers."""
    meter = Meter(World(replace(START, root_pool=lives.TO_SPARE), "posted-v0"))
    memory = Memory("runs", 4096, 1)
    for operations in (BEGINNING, memory.maps()):
        assert not meter.part("", operations).failed
    assert meter.part("unmap", memory.unmaps(False)).failed == "unmap fails no-stale-mapping"


@pytest.fixture
def small_lives(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lives that take no time."""
    monkeypatch.setattr(cost, "LIVES", {"small": SMALL, "VM life, direct attach": None})
    monkeypatch.setattr("hvmodel.jobs.compare.job.LIVES", {"small": SMALL, "VM life, direct attach": None})
    monkeypatch.setattr(
        "hvmodel.jobs.compare.job.measure",
        lambda driver, names=("small", "VM life, direct attach"), **kw: measure(driver, names, **kw),
    )


@pytest.mark.usefixtures("small_lives")
def test_parts_that_fail_compare_with_nothing() -> None:
    """Protects from nonsense: where one driver does not get through, the pair is marked, and nothing grows or shrinks."""
    pairs = paired(measure("posted-v0", ["small"]), measure("repaired", ["small"]))
    assert [(one.comparable, one.growth) for one in pairs] == [(False, 0.0)]
    assert CostPair(Cost("x", hypercalls=9), Cost("x", hypercalls=19)).growth == 2.0


# --- the whole ----------------------------------------------------------------------------------------------------------------


def compared(tmp_path: Path, a: str, b: str, *more: str) -> tuple[int, dict[str, Any]]:
    """The exit status and the JSON of a small comparison."""
    arguments = ["compare", "--driver", a, "--driver", b, "--operations", "50", "--budget", "4", "--jobs", "1"]
    arguments += ["--json", str(tmp_path / "report.json"), "--markdown", str(tmp_path / "page.md"), "--out", str(tmp_path / "out")]
    status = main([*arguments, *(more or [str(CORPUS / "unmap-forgets-the-last-page")])])
    return status, json.loads((tmp_path / "report.json").read_text())


@pytest.mark.usefixtures("small_lives")
def test_a_driver_against_itself_is_empty(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Protects the zero of the scale: nothing fixed, broken or different, status 0, and no trace is written."""
    status, report = compared(tmp_path, "repaired", "repaired")
    assert status == 0
    assert not any(report["findings"].values())
    assert (report["differences"], report["untested"], report["fails_on_neither"]) == ([], [], 1)
    assert all(part["same"] for part in report["cost"])
    assert list((tmp_path / "out").iterdir()) == []
    assert "No difference between A and B" in capsys.readouterr().out


@pytest.mark.usefixtures("small_lives")
def test_a_revision_that_breaks_something_is_told_by_its_status(tmp_path: Path) -> None:
    """Protects scripts that ask for the status: 1, and the trace that shows it fails on B and holds on A. A file of an earlier
    comparison does not stay."""
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "broken-77.json").write_text("{}")
    status, report = compared(tmp_path, "repaired", "repaired+D20")
    assert status == report["status"] == 1
    row = next(row for row in report["findings"]["broken"] if row["property"] == "no-stale-mapping")
    trace = read(tmp_path / "out" / row["trace"])
    assert (verdict_of(trace, "repaired").state, verdict_of(trace, "repaired+D20").state) == ("holds", "fails")
    assert not (tmp_path / "out" / "broken-77.json").exists()
    assert report["differences"]
    assert all(read(tmp_path / "out" / one["trace"]).operations for one in report["differences"])
    assert "B BREAKS" in (tmp_path / "page.md").read_text()


@pytest.mark.usefixtures("small_lives")
def test_the_other_way_round_it_is_fixed(tmp_path: Path) -> None:
    """Protects the direction: what B breaks against A, A fixes against B, and that is status 0."""
    status, report = compared(tmp_path, "repaired+D20", "repaired")
    assert status == 0
    assert report["findings"]["fixed"]
    assert not report["findings"]["broken"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--driver", "repaired"], "--driver twice"),
        (["--driver", "repaired", "--driver", "repaird"], "did you mean"),
        (["--driver", "repaired", "--driver", "native:/nowhere/x.c"], "/nowhere/x.c"),
        (["--driver", "repaired", "--driver", "repaired", "/nowhere.json"], "/nowhere.json"),
        (["--driver", "repaired", "--driver", "repaired", "--out", "/proc/none"], "cannot write"),
        (["--driver", "repaired", "--driver", "repaired", "--json", "/proc/none"], "cannot write"),
    ],
)
def test_wrong_use_is_one_line_and_status_2(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Protects the person at the keyboard, before any search begins."""
    monkeypatch.chdir(tmp_path)
    assert main(["compare", *arguments]) == 2
    told = capsys.readouterr().err
    assert said in told
    assert told.count("\n") == 1


# --- how it is told -----------------------------------------------------------------------------------------------------------


def example() -> Comparison:
    """A comparison with something of everything."""
    found = sort(
        [
            judged("unmap-forgets-the-last-page", "holds", "fails"),
            judged("blocked-reaches-memory", "fails", "holds"),
            judged("create-never-deposits", "fails", "undetermined", why="step 3 did nothing, " * 8),
            *(judged(name, "fails", "fails") for name in ("count-wraps", "free-forgets-its-nodes")),
        ]
    )
    result = Comparison(Options("posted-v0", "repaired", [given("count-wraps")]), found)
    witness = Witness(Configuration.of_profile("stress"), (ops.Boot(), ops.Claim(0)), 0)
    result.differences = [Difference([Kind(CALLS, "claim", "also calls domain_alloc_paging", "")], witness, 12, "calls-01")]
    result.costs = [
        CostPair(Cost("map", 0.5, 100, 200, 300, 4, 5, 6), Cost("map", 0.5, 110, 200, 300, 4, 5, 6)),
        CostPair(Cost("unmap", 0.5, failed="unmap: -EIO"), Cost("unmap", 0.5), to_spare=True),
    ]
    return result


@pytest.mark.parametrize("width", [80, 120])
def test_the_screen_fits(width: int) -> None:
    """Protects narrow terminals: apart from commands, which are to be copied, no line is longer than the screen."""
    console = Console(file=io.StringIO(), width=width, color_system=None, highlight=False, markup=False)
    print_comparison(example(), Path("out"), console)
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert [line for line in text.splitlines() if len(line.rstrip()) > width and "replay" not in line] == []
    order = [
        text.index(title)
        for title in ("Broken in B: 1", "Cannot be said: 1", "Fixed in B: 1", "In both: ", "Different driver", "Cost")
    ]
    assert order == sorted(order)
    assert " 300 " in text, "the longest stretch is not per GiB"
    assert "A fails (unmap: -EIO): unmap" in text


def test_the_page_fits_into_a_mail() -> None:
    """Protects review mails: what is set in lines and columns is no wider than a mail."""
    text = markdown(page(example()))
    fenced = [part for odd, part in enumerate(text.split("```")) if odd % 2]
    lines = [line for part in fenced for line in part.splitlines() if "hypercalls  reps" not in line and "A=B" not in line]
    assert max(map(len, lines)) <= WIDTH + 4
    assert text.startswith("# B against A\n\n**B BREAKS 1 cause (1 isolation); it fixes 1 cause, ")


def test_what_cannot_be_said_is_in_the_verdict() -> None:
    """Protects from false comfort: an undecided finding is named in the one sentence that everybody reads."""
    result = example()
    result.findings.rows = [row for row in result.findings.rows if row.kind != "broken"]
    assert "no worse than A as far as was seen" in verdict(result)
    assert "of 1 it cannot be said" in verdict(result)
    assert result.status == 0
    result.findings.rows.append(Row("broken", "B", [kept("count-wraps")], ["search of B"]))
    assert result.status == 1
