"""What a night does besides searching, a portion each: the regression corpus, what is known, canaries, the rota, coverage."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path

from hvmodel.drivers.variants import VARIANTS
from hvmodel.jobs.nightly import plan as plans
from hvmodel.jobs.nightly.coverage_sample import measure
from hvmodel.jobs.nightly.ledger import Entry
from hvmodel.jobs.nightly.plan import Plan
from hvmodel.jobs.nightly.portions import Done
from hvmodel.jobs.nightly.signature import plain_shape
from hvmodel.jobs.trials import Limit, Task, run_trial
from hvmodel.traces.corpus import kept
from hvmodel.traces.format import TraceError, from_json
from hvmodel.traces.story import tell
from hvmodel.traces.verdict import UNDETERMINED, verdict


@dataclass(slots=True)
class Setup:
    """What the steps know: ``known`` are the findings to replay, ``corpus`` is where kept traces are."""

    plan: Plan
    known: dict[str, Entry] = field(default_factory=dict)
    corpus: Path | None = None


def corpus(setup: Setup, _number: int) -> Done:
    """Replay the kept traces; ``data`` says how many there are, and one line for each that does not do what it says."""
    try:
        findings = kept(setup.corpus) if setup.corpus is not None else []
    except TraceError as error:
        return Done("corpus/0", data={"traces": 0, "problems": [str(error)], "said": ""})
    problems = [line for finding in findings for line in finding.verdicts()]
    return Done("corpus/0", data={"traces": len(findings), "problems": problems, "said": "" if findings else "none is kept"})


def known(setup: Setup, _number: int) -> Done:
    """Replay the trace of each finding that the ledger has; ``data`` has their signatures by what came of it."""
    came: dict[str, list[str]] = {"failing": [], "passing": [], "untested": []}
    for signature, entry in setup.known.items():
        came[_replayed(entry, setup.plan.driver)].append(signature)
    return Done("known/0", data=came)


def _replayed(entry: Entry, driver: str) -> str:
    """Whether a finding's trace still fails in the same call and manner. A trace that cannot be read any more, or that no longer
    comes to where its property is judged, says nothing."""
    try:
        trace = from_json(entry.text)
    except TraceError:
        return "untested"
    steps, world = tell(trace, driver)
    wanted = (entry.property_id, entry.call, plain_shape(entry.shape))
    violations = [violation for step in steps for violation in step.outcome.violations]
    if any((violation.property, violation.call, plain_shape(violation.shape)) == wanted for violation in violations):
        return "failing"
    return "untested" if verdict(steps, trace.property, world.judge.judged).state == UNDETERMINED else "passing"


def canary(setup: Setup, number: int) -> Done:
    """Search for the canary with this number; ``data`` is the trial."""
    bird = plans.CANARIES[number]
    return _trial(setup.plan, "canary", number, bird.driver, bird.operations)


def rota_tasks(plan: Plan) -> list[tuple[str, int]]:
    """The trials of the night's rota: (variant, number of the trial), each variant once before any comes twice."""
    turn = plans.rota(plan, list(VARIANTS))
    return [(name, number) for number in range(plans.ROTA_TRIALS) for name in turn]


def rota(setup: Setup, number: int) -> Done:
    """One trial of the rota; ``data`` is the trial."""
    driver, trial = rota_tasks(setup.plan)[number]
    return _trial(setup.plan, "rota", number, driver, plans.ROTA_OPERATIONS, trial)


def _trial(plan: Plan, step: str, number: int, driver: str, operations: int, trial: int = 0) -> Done:
    task = Task(driver, "walk", trial, plans.trial_seed(plan, step, driver, trial))
    came = run_trial(task, Limit(operations=operations), minimised=0)
    return Done(f"{step}/{number}", data={**asdict(came), "properties": list(came.properties), "limit": operations})


def coverage(setup: Setup, _number: int) -> Done:
    """The driver's branches that a short sample of runs takes; ``data`` says why if they cannot be measured."""
    try:
        return Done("coverage/0", data=measure(setup.plan))
    except Exception as error:  # whatever another library raises: a figure is missing, no night fails for it
        return Done("coverage/0", data={"said": f"{type(error).__name__}: {error}"[:200]})


STEPS: dict[str, Callable[[Setup, int], Done]] = {
    "corpus": corpus,
    "known": known,
    "canary": canary,
    "rota": rota,
    "coverage": coverage,
}
"""What does a portion of each step."""
