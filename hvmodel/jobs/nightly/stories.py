"""The story of a finding for the summary: the shortest text from which a reader sees what happens."""

from __future__ import annotations

from hvmodel.drivers import REGISTRY
from hvmodel.jobs.nightly.ledger import Entry
from hvmodel.traces.format import TraceError, from_json
from hvmodel.traces.story import tell
from hvmodel.traces.words import call_lines, is_routine, parted_lines


def story(entry: Entry, driver: str) -> str:
    """What the operations of a finding's trace do to a driver, one line each, and at the last one the driver's calls, the
    hypercalls and where the views part. A trace or driver that this version does not have is said to be so."""
    try:
        trace = from_json(entry.text)
    except TraceError as error:
        return f"this version cannot read the trace: {error}"
    if driver not in REGISTRY:
        return f"driver {driver} is not here; replay the trace where it is"
    steps, _world = tell(trace, driver)
    lines: list[str] = []
    for step in steps:
        lines.append(f"{step.number:>3}. {step.headline}")
        failed = [f"     !! {violation.property}: {violation.detail}" for violation in step.outcome.violations]
        last = step is steps[-1]
        if last and not is_routine(step):
            lines += [f"       {line}" for line in call_lines(step.calls)]
            lines += [f"       | {line}" for line in parted_lines(step.views)]
        lines += [line for line in failed if last or entry.property_id in line]
    return "\n".join(lines)
