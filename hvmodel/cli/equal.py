"""``hvmodel equal``: whether two drivers do the same, operation by operation."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

from rich.console import Console

from hvmodel.cli.arguments import Verbs, cannot_write, number, unknown_driver, usage


def add(verbs: Verbs) -> None:
    """The verb ``equal``."""
    equal = verbs.add_parser(
        "equal",
        help="whether two drivers do the same: answers, hypercalls byte by byte, views, log",
        description="Both drivers run the same walk side by side; the first difference is minimised. Exit status: 0 no difference, "
        "1 they differ, 2 wrong use.",
    )
    equal.add_argument("first", help="a driver, such as repaired")
    equal.add_argument("second", help="another one, such as repaired-c")
    equal.add_argument("--operations", type=number(1, 1e12), default=20_000, help="how many to compare (default: 20,000)")
    equal.add_argument("--seed", type=number(0, 1 << 64), default=0, help="number that decides the walk (default: 0)")
    equal.add_argument("--wording", action="store_true", help="log lines must be the same in their text, not only in their level")
    equal.add_argument("--out", type=Path, metavar="FILE", help="write the trace that ends in the difference to this file")
    equal.set_defaults(run=_equal)


def _equal(args: argparse.Namespace, _console: Console) -> int:
    from hvmodel.gears.walk import settle
    from hvmodel.jobs.equal import Comparison, equal
    from hvmodel.traces.format import Trace, write

    problem = unknown_driver(args.first) or unknown_driver(args.second) or cannot_write(args.out)
    if problem:
        return usage(problem)
    started = last = time.monotonic()

    def progress(done: Comparison) -> None:
        nonlocal last
        if time.monotonic() - last >= 10:
            last = time.monotonic()
            print(f"hvmodel equal: {done.operations:,} operations, {last - started:.0f} s", file=sys.stderr)

    settle()
    done = equal(args.first, args.second, args.operations, args.seed, wording=args.wording, progress=progress)
    compared = f"{done.operations:,} operations in {done.runs:,} runs, {done.hypercalls:,} hypercalls"
    if done.parting is None:
        print(f"{args.first} and {args.second} do the same: {compared}")
        return 0
    found = done.parting
    print(f"{args.first} and {args.second} differ after {compared}, in their {found.difference.what}:")
    print(f"  {args.first}: {found.difference.first}")
    print(f"  {args.second}: {found.difference.second}")
    for operation in found.operations:
        print(f"    {operation}")
    if args.out is not None:
        write(Trace(found.config, found.operations, args.first), args.out)
    return 1
