"""Exports: each format says what the run says, in the words that its readers know, and never a pass for what was not judged."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from catalogue import ENTRIES
from export_cases import CUT, STALE, entry, fails, holds, undetermined
from export_readers import read_c, read_itf, read_junit, read_ktap, read_sarif

from hvmodel.configuration import Configuration
from hvmodel.drivers import REGISTRY
from hvmodel.properties.catalogue import PROPERTIES
from hvmodel.traces.export import FORMATS, Case, run_case
from hvmodel.traces.export.sarif import LEVEL, fingerprint
from hvmodel.traces.format import Trace, from_json
from hvmodel.traces.verdict import verdict_of
from hvmodel.world import run

STEPS = ["boot", "alloc", "map", "unmap"]


def text(name: str, *cases: Case) -> str:
    return FORMATS[name].render(list(cases))


# --- the verdict ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [fails, holds, undetermined])
def test_exports_ask_the_one_rule(make: Callable[[], Case]) -> None:
    """Protects against two notions of a verdict: what an export says is what replay, bisection and the corpus say."""
    case = make()
    assert case.verdict == verdict_of(case.trace, case.driver)


def test_a_trace_that_names_no_property_is_judged_by_all() -> None:
    """Protects traces without a finding: the first property that fails is named, the others beside it."""
    case = run_case(replace(STALE, property=None))
    assert case.verdict.state == "fails"
    assert case.verdict.property is not None
    assert "no-stale-mapping" in (case.verdict.property, *case.verdict.also)
    assert run_case(replace(STALE, property=None), "repaired").headline == "every property holds on repaired"


def test_the_headline_says_why_it_holds() -> None:
    """Protects readers of a pass: where the property was never asked and every step did something, it says so."""
    case = run_case(Trace(Configuration(), STALE.operations[:1], "repaired", "no-stale-mapping"))
    assert case.headline == "no-stale-mapping holds on repaired (the run never came to where it could fail)"


# --- every format ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", FORMATS)
def test_the_same_trace_gives_the_same_bytes(name: str) -> None:
    """Protects diffs of exported files: two runs of one trace are exported alike, without a time or an address."""
    assert text(name, fails()) == text(name, fails())
    assert text(name, undetermined()) == text(name, undetermined())


@pytest.mark.parametrize("name", [name for name, known in FORMATS.items() if known.several])
def test_several_traces_are_one_file(name: str) -> None:
    """Protects reports of a night: a file of several traces has each of them, in a form that its reader takes."""
    cases = [fails(), holds(), undetermined(), entry("D01")]
    content = text(name, *cases)
    if name == "sarif":
        assert len(read_sarif(content)) == 4
    elif name == "junit":
        assert [outcome for _name, outcome in read_junit(content)] == ["failure", "failure", "pass", "error"]  # by driver
    elif name == "ktap":
        assert [result.ok for result in read_ktap(content)] == [False, True, False, False]
    else:
        tokens, _comments = read_c(content)
        assert tokens.count("KUNIT_CASE") == 4


@pytest.mark.parametrize("key", list(ENTRIES)[::7])
def test_unusual_findings_are_exported(key: str) -> None:
    """Protects formats against what only some findings have: refusals, guests, an earlier kernel, properties of init."""
    case = entry(key)
    read_sarif(text("sarif", case))
    read_junit(text("junit", case))
    read_ktap(text("ktap", case))
    read_itf(text("itf", case))
    read_c(text("kunit", case))
    compile(text("pytest", case), "test_file.py", "exec")


def test_the_page_knows_every_format() -> None:
    """Protects the page: a row and a command for each format, and whether it takes several traces."""
    page = (Path(__file__).parents[1] / "hvmodel" / "traces" / "export" / "README.md").read_text(encoding="utf-8")
    for name, known in FORMATS.items():
        row = next(line for line in page.splitlines() if line.startswith(f"| `{name}` |"))
        assert row.endswith(f" {'yes' if known.several else 'no'} |"), row
        assert f"--to {name}" in page


# --- SARIF ----------------------------------------------------------------------------------------------------------------


def test_sarif_says_fail_pass_and_open() -> None:
    """Protects dashboards: only a failing property is a problem, only a judged one a pass, the rest is open."""
    kinds = {result["kind"]: result for result in read_sarif(text("sarif", fails(), holds(), undetermined()))}
    assert set(kinds) == {"fail", "pass", "open"}
    failing = kinds["fail"]
    assert (failing["ruleId"], failing["level"]) == ("no-stale-mapping", "error")
    assert "still mapped to 0x40101000" in failing["message"]["text"]
    place = failing["locations"][0]
    assert place["physicalLocation"]["artifactLocation"]["uri"] == "drivers/iommu/hyperv-iommu.c"
    assert place["logicalLocations"][0]["name"] == "hv_iommu_unmap_pages"
    steps = failing["codeFlows"][0]["threadFlows"][0]["locations"]
    assert [step["location"]["message"]["text"].split()[1] for step in steps] == STEPS
    assert [step["importance"] for step in steps] == ["important"] * 3 + ["essential"]
    assert "undetermined" in kinds["open"]["message"]["text"]


def test_sarif_levels_cover_the_severities() -> None:
    """Protects new severities: each has a level."""
    assert {prop.severity for prop in PROPERTIES.values()} <= set(LEVEL)


def test_a_python_driver_has_lines() -> None:
    """Protects the way from a finding to its code: the file is there and the line is that of the function."""
    (result,) = read_sarif(text("sarif", run_case(STALE, "honest-whole")))
    place = result["codeFlows"][0]["threadFlows"][0]["locations"][3]["location"]
    path = Path(__file__).parents[1] / place["physicalLocation"]["artifactLocation"]["uri"]
    line = path.read_text(encoding="utf-8").splitlines()[place["physicalLocation"]["region"]["startLine"] - 1]
    assert place["logicalLocations"][0]["name"] in line


def test_the_fingerprint_knows_the_finding_not_its_values() -> None:
    """Protects code scanning, which tells old results from new ones by it: other addresses, devices and names are the same finding,
    another way of failing is not."""
    moved = from_json(json.dumps(_shifted(0x100000)))
    assert fingerprint(run_case(moved, None, "other")) == fingerprint(fails())
    assert fingerprint(entry("D05")) != fingerprint(fails())
    assert fingerprint(holds()) != fingerprint(fails())


def _shifted(by: int) -> object:
    from hvmodel.traces.format import to_json

    data = json.loads(to_json(STALE))
    for operation in data["operations"]:
        if "iova" in operation:
            operation["iova"] = hex(int(operation["iova"], 16) + by)
    return data


# --- JUnit, KTAP ------------------------------------------------------------------------------------------------------------


def test_junit_has_an_error_for_what_was_not_judged() -> None:
    """Protects CI: undetermined turns a build red, it is neither passed nor skipped."""
    content = text("junit", fails(), holds(), undetermined())
    assert dict(read_junit(content)) == {"stale": "failure", "stale again": "pass", "cut": "error"}
    assert "4. unmap domain 1, iova 0x100000, pages 257 -&gt; 0x101000 bytes gone" in content


def test_ktap_shows_the_step_that_fails() -> None:
    """Protects kernel CI: the line that is not ok is the operation at which it failed."""
    stale, again, cut = read_ktap(text("ktap", fails(), holds(), undetermined()))
    assert [step.ok for step in stale.subtests] == [True, True, True, False]
    assert stale.subtests[3].name.startswith("step 4: unmap domain 1")
    assert again.ok
    assert all(step.ok for step in again.subtests)
    assert not cut.ok
    assert cut.directive == "ERROR"
    assert any(not step.ok and step.directive == "ERROR" for step in cut.subtests)


def test_ktap_of_no_operations() -> None:
    """Protects the empty trace, in which kunit.py would find no result: it is one that is not ok."""
    only = read_ktap(text("ktap", run_case(Trace(Configuration(), [], "repaired", "no-stale-mapping"), None, "nothing")))
    assert [(result.ok, result.directive) for result in only] == [(False, "ERROR")]


# --- ITF ----------------------------------------------------------------------------------------------------------------------


def test_itf_has_the_three_views_after_every_operation() -> None:
    """Protects viewers of traces: a state before everything, one after each operation, and in the last one the views part."""
    states = read_itf(text("itf", fails()))
    assert [state["mbt::actionTaken"] for state in states] == ["init", *STEPS]
    domain = states[-1]["domains"]["domain 1"]
    assert domain["caller"] == frozenset()
    assert domain["driver"] == frozenset({frozenset()})
    assert domain["hypervisor"] == frozenset({frozenset({(0x200, 0x201, 0x40101)})})
    assert ("property", "no-stale-mapping") in {pair for failed in states[-1]["failed"] for pair in failed.items()}
    assert states[3]["mbt::nondetPicks"]["pages"] == 257


def test_itf_says_that_nothing_was_judged() -> None:
    """Protects whoever reads only the head of the file: the verdict stands there."""
    meta = json.loads(text("itf", undetermined()))["#meta"]
    assert meta["hvmodel"]["verdict"] == "undetermined"
    assert "undetermined" in meta["description"]


# --- the Python test ------------------------------------------------------------------------------------------------------------


def outcome(case: Case, monkeypatch: pytest.MonkeyPatch, driver: str = "") -> str:
    """What an exported test comes to: passed, failed or skipped, with its words."""
    space: dict[str, object] = {"__name__": "exported", "__file__": "test_exported.py"}
    exec(compile(text("pytest", case), "test_exported.py", "exec", dont_inherit=True), space)
    monkeypatch.setenv("HVMODEL_DRIVER", driver)
    tests = [value for name, value in space.items() if name.startswith("test_")]
    assert len(tests) == 1
    assert callable(tests[0])
    try:
        tests[0]()
    except pytest.fail.Exception as error:
        return f"failed: {error}"
    except pytest.skip.Exception as error:
        return f"skipped: {error}"
    return "passed"


def test_the_python_test_fails_and_passes_where_it_should(monkeypatch: pytest.MonkeyPatch) -> None:
    """Protects the fix: it fails on the driver of the finding, passes on the repaired one, is skipped where nothing is said."""
    failed = outcome(fails(), monkeypatch)
    assert failed.startswith("failed: no-stale-mapping fails on posted-v0 at step 4")
    assert "hvmodel explain trace.json --driver posted-v0" in failed
    assert outcome(fails(), monkeypatch, "repaired") == "passed"
    assert outcome(holds(), monkeypatch) == "passed"  # the driver that was exported for, not the one that the file named
    assert outcome(undetermined(), monkeypatch).startswith("skipped: no-stale-mapping is undetermined on repaired")
    assert "no driver is called 'posted-v'" in outcome(fails(), monkeypatch, "posted-v")


def test_the_python_test_has_the_trace_in_it() -> None:
    """Protects the way back: the text between the quotes is the trace file, whatever was folded."""
    long = replace(CUT, config=Configuration(skip="(0000:00:01.0)" * 20), driver="posted-v0")
    for trace in (STALE, CUT, long):
        content = text("pytest", run_case(trace))
        inside = content.split('r"""')[1].split('"""')[0]
        assert from_json(inside) == replace(trace, finding={}, origin={}, observed=[])


def test_exporting_changes_nothing() -> None:
    """Protects drivers from being judged by what an export did: a trace runs the same before and after."""
    first = run(STALE.config, STALE.operations)[1]
    for name in FORMATS:
        text(name, fails())
    assert run(STALE.config, STALE.operations)[1] == first
    assert STALE.driver in REGISTRY
