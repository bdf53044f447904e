"""Replay a trace file: print it step by step, judge the property that it names."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

from rich.console import Console
from rich.text import Text

from hvmodel.configuration import Configuration
from hvmodel.drivers import REGISTRY, no_such_driver
from hvmodel.hypervisor.policies import describe as describe_policy
from hvmodel.hypervisor.policies import differences
from hvmodel.operations import Boot, Kexec
from hvmodel.properties.catalogue import PROPERTIES
from hvmodel.traces.format import Trace, TraceError, read
from hvmodel.traces.story import Step, judged, tell
from hvmodel.traces.words import call_lines, is_routine, log_lines, parted_lines


def replay_file(path: Path, driver: str | None, judge_all: bool, console: Console) -> int:
    """Replay one file; returns the exit status: 0 the property holds, 1 it fails, 2 bad input (one line on the console)."""
    try:
        trace = read(path)
    except TraceError as error:
        console.print(Text(f"hvmodel replay: {error}"), soft_wrap=True)
        return 2
    chosen = driver or trace.driver
    if chosen not in REGISTRY:
        console.print(Text(f"hvmodel replay: {no_such_driver(chosen)}"), soft_wrap=True)
        return 2
    return replay(trace, chosen, judge_all, console)


def replay(trace: Trace, driver: str, judge_all: bool, console: Console) -> int:
    """Run a trace, print it, and return 1 if what is judged fails. A trace that names no property judges all."""
    print_start(trace, driver, console)
    steps, _world = tell(trace, driver)
    wanted = None if judge_all else trace.property
    print_steps(steps, wanted, console)
    for text in (_idle(steps), _unfired(steps)):
        if text:
            console.print(Text(f"note: {text}", style="yellow"), soft_wrap=True)
    return _verdict(steps, wanted, console)


def print_start(trace: Trace, driver: str, console: Console) -> None:
    """The driver, and what is unusual about the start."""
    config = trace.config
    unusual = [describe_policy(name, answer) for name, answer in differences(config.policies).items()]
    plain = Configuration()
    for item in fields(Configuration):
        value = getattr(config, item.name)
        if item.name not in ("profile", "policies", "devices") and value != getattr(plain, item.name):
            unusual.append(f"{item.name} {hex(value) if item.name == 'unique_id' else value}")
    console.print(Text(f"driver {driver}; " + ("; ".join(unusual) or "default hypervisor, no options")), soft_wrap=True)


def print_steps(steps: list[Step], wanted: str | None, console: Console) -> None:
    """All operations; a property beside the wanted one is named where that fails."""
    shown = judged(steps, wanted) if wanted is not None else None
    views: list[str] = []
    for step in steps:
        now = parted_lines(step.views)
        print_step(step, wanted, shown is None or step.number == shown[0], now if now != views else [], console)
        views = now


def print_step(step: Step, wanted: str | None, others: bool, parted: list[str], console: Console) -> None:
    """One operation with the calls that it made, what came apart, and which properties failed."""
    style = "bold" if step.outcome.applied else "dim"
    console.print(Text(f"{step.number:>3}. {step.headline}", style=style), soft_wrap=True)
    boring = is_routine(step) or (isinstance(step.operation, Boot | Kexec) and not others and not step.outcome.fired)
    for line in () if boring else call_lines(step.calls):
        console.print(Text(f"       {line}", style="yellow" if "(refused)" in line else "dim"), soft_wrap=True)
    for line in log_lines(step):
        console.print(Text(f"       log {line}", style="dim"), soft_wrap=True)
    for line in parted:
        console.print(Text(f"       | {line}", style="cyan"), soft_wrap=True)
    for text in step.outcome.environment:
        console.print(Text(f"       environment: {text}", style="dim"), soft_wrap=True)
    for violation in step.outcome.violations:
        judged_here = wanted is None or violation.property == wanted
        if not judged_here and not others:
            continue
        mark, style = ("!!", "bold red") if judged_here else ("also", "red")
        console.print(Text(f"     {mark} {violation.property}: {violation.detail}", style=style), soft_wrap=True)


def _unfired(steps: list[Step]) -> str:
    missing = []
    for step in steps:
        for fault in step.operation.faults:
            if step.outcome.applied and fault.nth and not any(f.site == fault.site for f in step.outcome.fired):
                missing.append(f"step {step.number}: {fault}")
    return f"never reached: {'; '.join(missing)}" if missing else ""


def _idle(steps: list[Step]) -> str:
    idle = [str(step.number) for step in steps if not step.outcome.applied]
    return f"step {', '.join(idle)} had nothing to act on and did nothing" if idle else ""


def _verdict(steps: list[Step], wanted: str | None, console: Console) -> int:
    if not any(step.outcome.applied for step in steps):
        console.print(Text("nothing was judged: no operation did anything (does the trace begin with boot?)", style="bold red"))
        return 2
    if wanted is not None:
        found = judged(steps, wanted)
        if found is None:
            console.print(Text(f"{wanted} holds", style="bold green"))
            return 0
        number, violation = found
        prop = PROPERTIES[wanted]
        console.print(Text(f"{wanted} FAILS at step {number} [{prop.severity}]: {prop.claim}", style="bold red"), soft_wrap=True)
        console.print(Text(f"  {violation.detail}"), soft_wrap=True)
        rest = dict.fromkeys(v.property for step in steps for v in step.outcome.violations if v.property != wanted)
        if rest:
            console.print(Text(f"  also failing in this trace: {', '.join(rest)}", style="dim"), soft_wrap=True)
        return 1
    names = list(dict.fromkeys(v.property for step in steps for v in step.outcome.violations))
    if not names:
        console.print(Text("all properties hold", style="bold green"))
        return 0
    console.print(Text(f"{len(names)} properties fail: {', '.join(names)}", style="bold red"), soft_wrap=True)
    return 1
