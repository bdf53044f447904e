"""``hvmodel keep``: put a finding into the regression corpus."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

from rich.console import Console
from rich.text import Text

from hvmodel.cli.arguments import Verbs, unknown_driver, usage


def _names(argument: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in argument.split(",") if name.strip())


def add(verbs: Verbs) -> None:
    """The verb ``keep``."""
    keep = verbs.add_parser("keep", help="add a trace to the regression corpus, which the tests and every night replay")
    keep.add_argument("trace", type=Path, help="a trace file")
    keep.add_argument("--name", required=True, help="its directory in the corpus, as unmap-forgets-the-last-page")
    keep.add_argument("--driver", help="another driver than the trace names")
    keep.add_argument("--story", help="what happens, in a few lines (default: the operations and what fails)")
    keep.add_argument("--fails", type=_names, metavar="DRIVERS", help="where it must fail (default: its own, and variants)")
    keep.add_argument("--holds", type=_names, metavar="DRIVERS", help="where it must hold (default: drivers without defects)")
    keep.add_argument("--dir", type=Path, default=Path("tests/traces"), help="the corpus (default: tests/traces)")
    keep.set_defaults(run=_keep)


def _keep(args: argparse.Namespace, console: Console) -> int:
    from hvmodel.traces.corpus import keep, told_in_short, where_it_fails
    from hvmodel.traces.format import TraceError, read

    try:
        trace = read(args.trace)
        trace = replace(trace, driver=args.driver or trace.driver)
        problem = unknown_driver(trace.driver)
        if problem:
            return usage(problem)
        fails, holds = where_it_fails(trace)
        made = keep(
            trace,
            args.name,
            args.dir,
            told_in_short(trace) if args.story is None else args.story,
            fails if args.fails is None else args.fails,
            holds if args.holds is None else args.holds,
        )
    except TraceError as error:
        return usage(str(error))
    except OSError as error:
        return usage(f"cannot write to {error.filename or args.dir}: {error.strerror}")
    console.print(Text(f"kept {args.dir / made.name}: {trace.property}"), soft_wrap=True)
    console.print(Text(f"  fails on {', '.join(made.fails)}"), soft_wrap=True)
    console.print(Text(f"  holds on {', '.join(made.holds) or 'no driver'}"), soft_wrap=True)
    console.print(Text(f"  its story, to be edited: {args.dir / made.name / 'finding.toml'}"), soft_wrap=True)
    return 0
