"""``pytest --replay TRACE``: a trace as a test. Deselected unless the option is given."""

from __future__ import annotations

from pathlib import Path

import pytest

from hvmodel.drivers import REGISTRY, no_such_driver
from hvmodel.traces.format import TraceError, read
from hvmodel.traces.story import judged, tell


def test_replay(replayed_trace: str, request: pytest.FixtureRequest) -> None:
    """The property that the trace names holds; a trace that names none must break no property."""
    try:
        trace = read(Path(replayed_trace))
    except TraceError as error:
        pytest.fail(str(error), pytrace=False)
    driver = request.config.getoption("--driver") or trace.driver
    if driver not in REGISTRY:
        pytest.fail(f"{replayed_trace}: {no_such_driver(driver)}", pytrace=False)
    steps, _world = tell(trace, driver)
    story = "\n".join(f"{step.number}. {step.headline}" for step in steps)
    if trace.property is not None:
        found = judged(steps, trace.property)
        if found is not None:
            pytest.fail(f"{story}\n{trace.property} fails at step {found[0]}: {found[1].detail}", pytrace=False)
        return
    failing = [f"{v.property} fails at step {s.number}: {v.detail}" for s in steps for v in s.outcome.violations]
    if failing:
        pytest.fail("\n".join([story, *failing]), pytrace=False)
