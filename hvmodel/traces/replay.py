"""Replay a trace file: print it step by step, judge the property that it names."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console
from rich.text import Text

from hvmodel.drivers import REGISTRY
from hvmodel.hypervisor.policies import describe as describe_policy
from hvmodel.hypervisor.policies import differences
from hvmodel.properties.catalogue import PROPERTIES
from hvmodel.traces.format import Trace, TraceError, read
from hvmodel.traces.story import Step, judged, tell


def replay_file(path: Path, driver: str | None, judge_all: bool, console: Console) -> int:
    """Replay one file; returns the exit status: 0 the property holds, 1 it fails, 2 bad input (one line on the console)."""
    try:
        trace = read(path)
    except TraceError as error:
        console.print(Text(f"hvmodel replay: {error}"), soft_wrap=True)
        return 2
    chosen = driver or trace.driver
    if chosen not in REGISTRY:
        console.print(Text(f"hvmodel replay: no driver is called {chosen!r} (known: {', '.join(REGISTRY)})"), soft_wrap=True)
        return 2
    return replay(trace, chosen, judge_all, console)


def replay(trace: Trace, driver: str, judge_all: bool, console: Console) -> int:
    """Run a trace, print it, and return 1 if what is judged fails. A trace that names no property judges all."""
    print_start(trace, driver, console)
    steps, _world = tell(trace, driver)
    wanted = None if judge_all else trace.property
    for step in steps:
        print_step(step, wanted, console)
    unfired = _unfired(steps)
    if unfired:
        console.print(Text(f"note: never reached: {unfired}", style="yellow"), soft_wrap=True)
    return _verdict(trace, steps, wanted, console)


def print_start(trace: Trace, driver: str, console: Console) -> None:
    """The driver, and what is unusual about the start."""
    config = trace.config
    unusual = [describe_policy(name, answer) for name, answer in differences(config.policies).items()]
    if config.l1vh:
        unusual.append("Linux is an L1VH")
    if config.no_attdev:
        unusual.append("hv_no_attdev")
    if config.skip:
        unusual.append(f"hv_iommu_skip={config.skip}")
    if config.unique_id:
        unusual.append(f"id counter starts at {config.unique_id:#x}")
    if config.left_domains:
        unusual.append(f"an earlier kernel left domain {', '.join(map(hex, config.left_domains))}")
    console.print(Text(f"driver {driver}; " + ("; ".join(unusual) or "default hypervisor, no options")), soft_wrap=True)


def print_step(step: Step, wanted: str | None, console: Console) -> None:
    """One operation with the calls that it made, what came apart, and which properties failed."""
    style = "bold" if step.outcome.applied else "dim"
    console.print(Text(f"{step.number:>3}. {step.headline}", style=style), soft_wrap=True)
    for line in step.calls:
        console.print(Text(f"     {line}", style="yellow" if "(refused)" in line else "dim"), soft_wrap=True)
    for line in step.log:
        console.print(Text(f"       log {line}", style="dim"), soft_wrap=True)
    for line in step.views:
        console.print(Text(f"       | {line}", style="cyan"), soft_wrap=True)
    for text in step.outcome.environment:
        console.print(Text(f"       environment: {text}", style="dim"), soft_wrap=True)
    for violation in step.outcome.violations:
        judged_here = wanted is None or violation.property == wanted
        mark, style = ("!!", "bold red") if judged_here else ("also", "red")
        console.print(Text(f"     {mark} {violation.property}: {violation.detail}", style=style), soft_wrap=True)


def _unfired(steps: list[Step]) -> str:
    missing = []
    for step in steps:
        for fault in step.operation.faults:
            if step.outcome.applied and fault.nth and not any(f.site == fault.site for f in step.outcome.fired):
                missing.append(f"step {step.number}: {fault}")
    return "; ".join(missing)


def _verdict(trace: Trace, steps: list[Step], wanted: str | None, console: Console) -> int:
    if wanted is not None:
        found = judged(steps, wanted)
        if found is None:
            console.print(Text(f"{wanted} holds", style="bold green"))
            return 0
        number, violation = found
        prop = PROPERTIES[wanted]
        console.print(Text(f"{wanted} FAILS at step {number} [{prop.severity}]: {prop.claim}", style="bold red"), soft_wrap=True)
        console.print(Text(f"  {violation.detail}"), soft_wrap=True)
        return 1
    names = list(dict.fromkeys(v.property for step in steps for v in step.outcome.violations))
    if not names:
        console.print(Text("all properties hold", style="bold green"))
        return 0
    console.print(Text(f"{len(names)} properties fail: {', '.join(names)}", style="bold red"), soft_wrap=True)
    return 1
