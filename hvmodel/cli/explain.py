"""``hvmodel explain``: the story of a trace, for somebody who has never seen this project."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from rich.console import Console

from hvmodel.cli.arguments import Verbs, trace_for, usage
from hvmodel.cli.output import same_file, write
from hvmodel.traces.format import TraceError


def add(verbs: Verbs) -> None:
    """The verb ``explain``."""
    explain = verbs.add_parser(
        "explain",
        help="tell the story of a trace",
        description="Exit status: 0 the property of the trace holds, 1 it fails, 2 wrong use or nothing was put to the test.",
    )
    explain.add_argument("trace", type=Path, help="a trace file")
    explain.add_argument("--driver", help="another driver than the trace names")
    explain.add_argument(
        "--format", choices=("terminal", "markdown", "html"), default="terminal", help="terminal (default), markdown, html"
    )
    explain.add_argument("--out", type=Path, metavar="FILE", help="write to this file instead of standard output")
    explain.add_argument(
        "--no-generalise", action="store_true", help="do not find out what else fails the same way, which takes many runs"
    )
    explain.set_defaults(run=_explain)


def _explain(args: argparse.Namespace, console: Console) -> int:
    from hvmodel.traces.explain import as_html, as_markdown, on_paper, show, story

    if args.out is not None and same_file(args.out, args.trace):
        return usage(f"--out would overwrite the trace {args.out}")
    try:
        trace, driver = trace_for(args.trace, args.driver)
    except TraceError as error:
        return usage(str(error))
    shown = sys.stderr.isatty() and not args.no_generalise
    if shown:
        print("finding out what else fails the same way ...", end="\r", file=sys.stderr, flush=True)
    one = story(trace, driver, not args.no_generalise)
    if shown:
        print("\033[K", end="", file=sys.stderr, flush=True)
    if args.format == "terminal" and args.out is None:
        show(one, console)
        return one.status
    text = {"terminal": on_paper, "markdown": as_markdown, "html": as_html}[args.format](one)
    return write(text, args.out) or one.status
