"""What a night does besides searching, a portion each: the regression corpus, what is known, canaries, the rota, coverage."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any

from hvmodel.drivers.variants import VARIANTS
from hvmodel.jobs.nightly import plan as plans
from hvmodel.jobs.nightly.coverage_sample import measure
from hvmodel.jobs.nightly.plan import Plan
from hvmodel.jobs.nightly.portions import Done
from hvmodel.jobs.trials import Limit, Task, run_trial
from hvmodel.traces.format import TraceError, from_json
from hvmodel.world import World


@dataclass(slots=True)
class Setup:
    """What the steps know. ``known`` are the findings to replay: signature -> ``{"call": ..., "trace": ...}`` as JSON data;
    ``corpus`` is where kept traces are."""

    plan: Plan
    known: dict[str, dict[str, Any]] = field(default_factory=dict)
    corpus: Path | None = None


def corpus(setup: Setup, _number: int) -> Done:
    """Replay the kept traces; ``data`` says how many there are, and one line for each that does not do what it says."""
    if setup.corpus is None or not setup.corpus.is_dir():
        return Done("corpus/0", data={"traces": 0, "problems": [], "said": "no corpus"})
    try:
        module = import_module("hvmodel.traces.corpus")
    except ModuleNotFoundError:
        return Done("corpus/0", data={"traces": 0, "problems": [], "said": "no corpus: this version cannot read one"})
    try:
        kept = list(module.kept(setup.corpus))
    except TraceError as error:
        return Done("corpus/0", data={"traces": 0, "problems": [str(error)], "said": ""})
    problems = [line for item in kept for line in item.verdicts()]
    return Done("corpus/0", data={"traces": len(kept), "problems": problems, "said": "" if kept else "no corpus"})


def known(setup: Setup, _number: int) -> Done:
    """Replay the trace of each finding that the ledger has; ``data`` says which still fail."""
    failing: list[str] = []
    passing: list[str] = []
    for signature, entry in setup.known.items():
        (failing if _fails(entry, setup.plan.driver) else passing).append(signature)
    return Done("known/0", data={"failing": failing, "passing": passing})


def _fails(entry: dict[str, Any], driver: str) -> bool:
    """Whether a trace still fails its property in its driver call. One that cannot be read any more does not."""
    try:
        trace = from_json(json.dumps(entry["trace"]))
    except TraceError:
        return False
    world = World(trace.config, driver)
    return any(
        (violation.property, violation.call) == (trace.property, entry["call"])
        for operation in trace.operations
        for violation in world.apply(operation).violations
    )


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
    return Done(f"{step}/{number}", data={**asdict(came), "limit": operations})


def coverage(setup: Setup, _number: int) -> Done:
    """The driver's branches that a short sample of runs takes; ``data`` is empty if they cannot be measured."""
    try:
        return Done("coverage/0", data=measure(setup.plan) or {})
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
