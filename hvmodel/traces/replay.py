"""Replay a trace file: print it step by step, judge the property that it names."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

from rich.console import Console
from rich.text import Text

from hvmodel.__main__ import CANNOT_TEST
from hvmodel.configuration import Configuration
from hvmodel.drivers import REGISTRY, is_native, no_such_driver
from hvmodel.hypervisor.policies import assumed
from hvmodel.operations import Boot, Kexec
from hvmodel.properties.catalogue import PROPERTIES
from hvmodel.traces.format import Trace, TraceError, read
from hvmodel.traces.observed import difference
from hvmodel.traces.story import Step, judged, tell
from hvmodel.traces.verdict import Verdict, verdict, verdict_of
from hvmodel.traces.words import call_lines, is_routine, log_lines, parted_lines


def replay_file(path: Path, driver: str | None, judge_all: bool, console: Console) -> int:
    """Replay one file; returns the exit status: 0 the property holds, 1 it fails, 2 bad input (one line on the console) or nothing
    was put to the test."""
    try:
        trace = read(path)
    except TraceError as error:
        console.print(Text(f"hvmodel replay: {error}"), soft_wrap=True)
        return 2
    chosen = driver or trace.driver
    if chosen not in REGISTRY:
        console.print(Text(f"hvmodel replay: {no_such_driver(chosen)}"), soft_wrap=True)
        return 2
    how = ends_its_process(trace, chosen)
    if how is not None:
        console.print(Text(f"every-call-ends FAILS: the process that runs the driver {how}", style="bold red"), soft_wrap=True)
        return 1
    return replay(trace, chosen, judge_all, console)


def bisect_file(path: Path, driver: str | None, console: Console) -> int:
    """Replay one file for ``git bisect run``; prints one line. Returns 0 (good: the property holds), 1 (bad: it fails) or 125 (this
    commit cannot be tested: bad input, an unknown driver, one that cannot be loaded or that breaks, nothing put to the test)."""
    try:
        trace = read(path)
        chosen = driver or trace.driver
        if chosen not in REGISTRY:
            raise TraceError(no_such_driver(chosen))
        how = ends_its_process(trace, chosen)
        if how is not None:
            console.print(Text(f"hvmodel replay: bad: the process that runs the driver {how}"), soft_wrap=True)
            return 1
        found = verdict_of(trace, chosen)
    except TraceError as error:
        state, why = CANNOT_TEST, f"cannot be tested: {error}"
    except Exception as error:  # whatever a driver in the middle of a change does
        state, why = CANNOT_TEST, f"cannot be tested: {type(error).__name__}: {error}"
    else:
        name = trace.property or "the first property that fails"
        if found.violation is not None:
            state, why = 1, f"bad: {found.violation.property} fails at step {found.step}: {found.violation.detail}"
        elif found.state == "holds":
            state, why = 0, f"good: {name} holds" if trace.property else "good: all properties hold"
        else:
            state, why = CANNOT_TEST, f"cannot be tested: {found.reason}"
    console.print(Text(f"hvmodel replay: {why}"), soft_wrap=True)
    return state


def ends_its_process(trace: Trace, driver: str) -> str | None:
    """How a native driver ends its process in this trace, tried in a child; None if it does not."""
    if not is_native(driver):
        return None
    from hvmodel.jobs.fatal import how_it_ends

    return how_it_ends(trace.config, list(trace.operations), driver)


def replay(trace: Trace, driver: str, judge_all: bool, console: Console) -> int:
    """Run a trace, print it, and return 1 if what is judged fails, 0 if it holds, 2 if it was not put to the test. A trace that
    names no property judges all."""
    print_start(trace, driver, console)
    steps, world = tell(trace, driver)
    wanted = None if judge_all else trace.property
    print_steps(steps, wanted, console)
    for text in notes(trace, driver, steps):
        console.print(Text(f"note: {text}", style="yellow"), soft_wrap=True)
    return _verdict(steps, wanted, verdict(steps, wanted, world.judge.judged), console)


def print_start(trace: Trace, driver: str, console: Console) -> None:
    """The driver, and what is unusual about the start."""
    config = trace.config
    unusual = assumed(config.policies)
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


def notes(trace: Trace, driver: str, steps: list[Step]) -> list[str]:
    """What a reader has to know of a run beside its verdict: operations that did nothing, faults that were never reached, where it
    is not what was recorded."""
    return [text for text in (_idle(steps), _unfired(steps), _drift(trace, driver, steps)) if text]


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


def _drift(trace: Trace, driver: str, steps: list[Step]) -> str:
    parted = difference(trace.observed, steps)
    if parted is None:
        return ""
    if driver == trace.driver:
        return f"no longer runs as recorded (harness {trace.harness or 'unknown'}); {parted}"
    return f"parts from {trace.driver}, on which it was recorded; {parted}"


def _verdict(steps: list[Step], wanted: str | None, found: Verdict, console: Console) -> int:
    if found.state == "undetermined":
        hint = " (does the trace begin with boot?)" if not any(step.outcome.applied for step in steps) else ""
        console.print(Text(f"nothing was judged: {found.reason}{hint}", style="bold red"), soft_wrap=True)
        return 2
    if wanted is not None and found.violation is not None:
        prop = PROPERTIES[wanted]
        claim = f"{wanted} FAILS at step {found.step} [{prop.severity}]: {prop.claim}"
        console.print(Text(claim, style="bold red"), soft_wrap=True)
        console.print(Text(f"  {found.violation.detail}"), soft_wrap=True)
        rest = dict.fromkeys(v.property for step in steps for v in step.outcome.violations if v.property != wanted)
        if rest:
            console.print(Text(f"  also failing in this trace: {', '.join(rest)}", style="dim"), soft_wrap=True)
        return 1
    names = list(dict.fromkeys(v.property for step in steps for v in step.outcome.violations)) if wanted is None else []
    if names:
        console.print(Text(f"{len(names)} properties fail: {', '.join(names)}", style="bold red"), soft_wrap=True)
        return 1
    text = f"{wanted} holds" if wanted is not None else "all properties hold"
    console.print(Text(text + (f" ({found.reason})" if found.reason else ""), style="bold green"), soft_wrap=True)
    return 0
