"""The walk's minimised traces against the shortest ones that there are."""

from __future__ import annotations

import pytest

from hvmodel.jobs.detect import matching
from hvmodel.jobs.trials import Limit, Task, run_trial, seed_of


@pytest.mark.parametrize("name", ["D11", "D13", "D58", "D61", "D64", "D68", "D72", "D79", "D90"])
def test_a_minimised_trace_is_as_short_as_the_shortest(name: str) -> None:
    """What the walk stumbles upon and the minimiser cuts down has no operation more than what breadth first finds, in one of a few
    runs: a defect can show in several manners, and the first that is met need not be the shortest."""
    driver = next(entry for entry in matching("repaired+*") if entry.split("+")[1].split("-")[0] == name)
    limit = Limit(operations=60_000)
    explored = run_trial(Task(driver, "exhaustive", 0, 1), limit, 1)
    assert explored.found
    assert explored.minimised is not None
    for number in range(24):
        walked = run_trial(Task(driver, "walk", 0, seed_of(0, driver, "walk", number)), limit, 1)
        assert walked.found
        assert walked.minimised is not None
        assert walked.minimised >= explored.minimised, "breadth first is the shortest"
        if walked.minimised == explored.minimised:
            return
    raise AssertionError(f"no run of the walk came down to {explored.minimised} operations")
