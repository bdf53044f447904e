"""``hvmodel lift``: who in the kernel could do what a trace does."""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from pathlib import Path

from rich.console import Console

from hvmodel.cli.arguments import Verbs, number, trace_for, usage
from hvmodel.cli.output import write
from hvmodel.traces.format import TraceError


def add(verbs: Verbs) -> None:
    """The verb ``lift``."""
    lift = verbs.add_parser(
        "lift",
        help="look for ioctls that fail a trace's property in the same manner",
        description="The property, the driver call and the manner of the failure stay the same, and no more is refused. Best are "
        "ioctls alone, second best ioctls and the host's own work (hot plug, reset, kexec). Exit status: 0 a trace was found, or "
        "this one is by ioctls already; 1 none was found, which does not mean that there is none; 2 wrong use or a trace that does "
        "not fail.",
    )
    lift.add_argument("trace", type=Path, help="a trace file")
    lift.add_argument("--driver", help="another driver than the trace names")
    lift.add_argument("--budget", type=number(0.1, 1e7, whole=False), default=10.0, help="seconds to look for it (default: 10)")
    lift.add_argument("--seed", type=number(0, 1 << 64), default=0, help="number that decides what is tried (default: 0)")
    lift.add_argument("--out", type=Path, metavar="FILE", help="write to this file instead of standard output")
    lift.set_defaults(run=_lift)


def _lift(args: argparse.Namespace, _console: Console) -> int:
    from hvmodel.callers.means import USER
    from hvmodel.jobs.findings import Group
    from hvmodel.jobs.lift import finding_of, lift_findings
    from hvmodel.jobs.report import lift_printer
    from hvmodel.traces.format import to_json
    from hvmodel.traces.replay import ends_its_process
    from hvmodel.traces.shrink import NothingFails

    try:
        trace, driver = trace_for(args.trace, args.driver)
    except TraceError as error:
        return usage(str(error))
    ending = ends_its_process(trace, driver)
    if ending is not None:
        return usage(f"{args.trace}: the process that runs {driver} {ending} in it, which no other trace can be held against")
    try:
        finding = finding_of(replace(trace, driver=driver))
    except NothingFails as error:
        return usage(f"{args.trace}: {error}")
    if finding.means.caller <= USER:
        print(f"hvmodel lift: caused by {finding.means}: nobody has less power", file=sys.stderr)
        return write(to_json(finding.as_trace()), args.out)
    done = lift_findings([Group([finding])], args.budget, args.seed, 1, lift_printer())
    died = f", {done.deaths} attempts ended with their process" if done.deaths else ""
    if finding.caller is None:
        print(f"hvmodel lift: no caller found in {done.seconds:.0f} s for {finding.own_means}{died}", file=sys.stderr)
        return 1
    print(f"hvmodel lift: before: {finding.own_means}", file=sys.stderr)
    print(f"hvmodel lift: now: {finding.means}, {len(finding.caller.operations)} operations{died}", file=sys.stderr)
    second = finding.as_caller_trace()
    assert second is not None
    return write(to_json(second), args.out)


__all__ = ["add"]
