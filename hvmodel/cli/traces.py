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
    replay.add_argument("--all", action="store_true", help="judge all properties")
    replay.set_defaults(run=_replay)


def _replay(args: argparse.Namespace, console: Console) -> int:
    from hvmodel.traces.replay import replay_file

    return replay_file(args.trace, args.driver, args.all, console)
