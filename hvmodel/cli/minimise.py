"""``hvmodel minimise``: a trace as short and plain as it gets, also one that was written or edited by hand."""

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
    """The verb ``minimise``."""
    minimise = verbs.add_parser(
        "minimise",
        help="make a trace as short and plain as it gets",
        description="The property that fails stays the same, so does the driver call in which it fails. What is minimised twice "
        "comes out the same. Exit status: 0 done, 2 wrong use or a trace that does not fail.",
    )
    minimise.add_argument("trace", type=Path, help="a trace file")
    minimise.add_argument("--driver", help="another driver than the trace names")
    minimise.add_argument("--out", type=Path, metavar="FILE", help="write to this file, which may be TRACE itself")
    minimise.add_argument("--limit", type=number(1, 1e7), default=20_000, help="worlds that may be run for it (default: 20,000)")
    minimise.set_defaults(run=_minimise)


def _minimise(args: argparse.Namespace, _console: Console) -> int:
    from hvmodel.gears.generalise import generalise, target_of
    from hvmodel.traces.format import to_json
    from hvmodel.traces.shrink import NothingFails, shrink, subject

    try:
        trace, driver = trace_for(args.trace, args.driver)
    except TraceError as error:
        return usage(str(error))
    try:
        small, spent = shrink(replace(trace, driver=driver), args.limit)
    except NothingFails as error:
        return usage(f"{args.trace}: {error}")
    status = write(to_json(small), args.out)
    if status == 0:
        violation = subject(small)
        assert violation is not None, "it fails, or there would be no minimal trace"
        shortness = generalise(small.config, small.operations, driver, target_of(violation)).shortness
        print(f"hvmodel minimise: {len(trace.operations)} operations before; {shortness}", file=sys.stderr)
        if spent:
            print(f"hvmodel minimise: {args.limit:,} worlds were not enough; --limit allows more", file=sys.stderr)
    return status
