"""The command line. Each module of this package adds its verbs: ``hunt``, ``traces``, ``explain``, ``export`` ...

Exit status everywhere: 0 nothing found or the property holds, 1 findings or the property fails, 2 wrong use or input. ``detect`` is
there to find: 0 everything found in all trials and no power lost, else 1.
"""

from __future__ import annotations

import os
import sys

from rich.console import Console

from hvmodel import __version__
from hvmodel.cli import (
    compare,
    detect,
    equal,
    explain,
    explore,
    export,
    hunt,
    keep,
    lift,
    measure,
    minimise,
    nightly,
    sweep,
    traces,
)
from hvmodel.cli.arguments import Parser, Run
from hvmodel.drivers.native import TREE_VARIABLE


def _parser() -> Parser:
    parser = Parser(prog="hvmodel", description="Stateful model-checking harness for the Hyper-V root virtual IOMMU driver.")
    parser.add_argument("--version", action="version", version=f"hvmodel {__version__}")
    parser.add_argument("--kernel-tree", metavar="DIR", help="native drivers use this kernel tree's own interval tree")
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB", parser_class=Parser)
    for module in (hunt, sweep, explore, compare, equal, nightly, traces, explain, minimise, lift, export, keep, detect, measure):
        module.add(verbs)
    return parser


def _console() -> Console:
    width = None if sys.stdout.isatty() or "COLUMNS" in os.environ else 140
    return Console(width=width, highlight=False, emoji=False, markup=False)


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    args = _parser().parse_args(arguments)
    if args.kernel_tree is not None:
        os.environ[TREE_VARIABLE] = os.path.abspath(args.kernel_tree)
    run: Run = args.run
    try:
        return run(args, _console())
    except KeyboardInterrupt:
        print("hvmodel: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:
        sys.stderr.close()
        return 2
