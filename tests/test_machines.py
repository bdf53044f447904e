"""The machines, run as tests.

On the repaired driver they must find nothing; on the driver as posted they must find: each row names the property that a machine
must see fail. With ``--driver NAME`` they drive that driver instead, and whatever they find fails the test.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import settings

from hvmodel.callers.levels import LEVELS
from hvmodel.hypervisor.policies import PROFILES
from machines import MACHINES, drive

MUST_FIND = [
    ("attachment", "count-matches"),
    ("attachment", "failed-attach-keeps-old"),
    ("attachment", "static-domains-always-attach"),
    ("attachment", "blocked-is-blocked"),
    ("attachment", "replace-has-no-gap"),
    ("attachment", "free-frees-all"),
    ("attachment", "errors-say-what"),
    ("mapping", "no-stale-mapping"),
    ("mapping", "tree-matches-hypervisor"),
    ("mapping", "lookup-matches-caller"),
    ("mapping", "input-page-bounds"),
    ("mapping", "control-word-valid"),
    ("mapping", "map-result"),
    ("mapping", "shortage-is-survivable"),
    ("probing", "options-are-honoured"),
    ("probing", "ready-before-visible"),
    ("probing", "context-is-balanced"),
    ("everything", "nothing-is-left"),
    ("everything", "no-lost-mapping"),
    ("everything", "names-existing-things"),
]

GATE = settings(settings.get_profile("ci"), max_examples=2000, stateful_step_count=40)


@pytest.mark.parametrize(("name", "wanted"), MUST_FIND)
def test_machine_finds(name: str, wanted: str, tmp_path: Path) -> None:
    """The machine sees the property fail on the posted driver, and the person reads a minimal trace that replays."""
    finding = drive(MACHINES[name], driver="posted-v0", wanted=wanted, base=GATE, out=tmp_path)
    assert finding is not None, f"the {name} machine never saw {wanted} fail"
    assert finding.property_id == wanted
    assert len(finding.operations) <= 12, finding.trace
    assert "1. boot" in finding.trace
    assert (tmp_path / f"{wanted}.json").exists()


@pytest.mark.parametrize("name", MACHINES)
@pytest.mark.parametrize("profile", PROFILES)
def test_machine_passes(name: str, profile: str) -> None:
    """The repaired driver breaks no property under any profile."""
    finding = drive(MACHINES[name], driver="repaired", profile=profile)
    if finding is not None:
        pytest.fail(finding.trace, pytrace=False)


@pytest.mark.chosen_driver
@pytest.mark.parametrize("name", MACHINES)
@pytest.mark.parametrize("level", range(len(LEVELS)))
def test_machine_on_chosen_driver(name: str, level: int, request: pytest.FixtureRequest) -> None:
    """A driver chosen with ``--driver`` breaks no property at any level of caller."""
    driver = request.config.getoption("--driver")
    out = Path(request.config.getoption("--findings"))
    finding = drive(MACHINES[name], driver=driver, profile=request.config.getoption("--profile"), level=level, out=out)
    if finding is not None:
        pytest.fail(finding.trace, pytrace=False)
