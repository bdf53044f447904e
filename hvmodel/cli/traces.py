"""The verbs that take a trace: ``hvmodel replay``."""

from __future__ import annotations

import argparse
from pathlib import Path

from rich.console import Console

from hvmodel.cli.arguments import Verbs


def add(verbs: Verbs) -> None:
    """The verb ``replay``."""
    replay = verbs.add_parser("replay", help="replay a trace and judge the property that it names")
    replay.add_argument("trace", type=Path, help="a trace file")
    replay.add_argument("--driver", help="another driver than the trace names")
    how = replay.add_mutually_exclusive_group()
    how.add_argument("--all", action="store_true", help="judge all properties")
    how.add_argument("--bisect", action="store_true", help="one line, and the exit status that 'git bisect run' wants: 0, 1, 125")
    replay.set_defaults(run=_replay)


def _replay(args: argparse.Namespace, console: Console) -> int:
    from hvmodel.traces.replay import bisect_file, replay_file

    if args.bisect:
        return bisect_file(args.trace, args.driver, console)
    return replay_file(args.trace, args.driver, args.all, console)
