"""``pytest --replay TRACE``: a trace as a test. Deselected unless the option is given."""

from __future__ import annotations

from pathlib import Path

import pytest

from hvmodel.drivers import REGISTRY, no_such_driver
from hvmodel.traces.format import TraceError, read
from hvmodel.traces.story import tell
from hvmodel.traces.verdict import verdict


def test_replay(replayed_trace: str, request: pytest.FixtureRequest) -> None:
    """The property that the trace names holds; a trace that names none must break no property; what is not judged fails."""
    try:
        trace = read(Path(replayed_trace))
    except TraceError as error:
        pytest.fail(str(error), pytrace=False)
    driver = request.config.getoption("--driver") or trace.driver
    if driver not in REGISTRY:
        pytest.fail(f"{replayed_trace}: {no_such_driver(driver)}", pytrace=False)
    steps, world = tell(trace, driver)
    story = "\n".join(f"{step.number}. {step.headline}" for step in steps)
    found = verdict(steps, trace.property, world.judge.judged)
    if found.state == "undetermined":
        pytest.fail(f"{story}\nnothing was judged: {found.reason}", pytrace=False)
    if found.violation is not None:
        wanted = [(step, v) for step in steps for v in step.outcome.violations if trace.property in (None, v.property)]
        failing = [f"{v.property} fails at step {step.number}: {v.detail}" for step, v in wanted]
        pytest.fail("\n".join([story, *failing]), pytrace=False)
