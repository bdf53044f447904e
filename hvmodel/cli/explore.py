"""``hvmodel explore``."""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from hvmodel.cli.arguments import Verbs, cannot_fill, cannot_write, number, unknown_driver, usage
from hvmodel.drivers import folder_name
from hvmodel.hypervisor.policies import PROFILES

if TYPE_CHECKING:
    from hvmodel.gears.exhaustive.scope import Scope

UNDETERMINED = 3
"""The exit status of a search that was broken off without a finding."""


def add(verbs: Verbs) -> None:
    """The verb ``explore``."""
    explore = verbs.add_parser(
        "explore", help="try everything within a scope: what holds there, and shortest traces to what does not"
    )
    explore.add_argument("--driver", default="posted-v0", help="which driver (default: posted-v0; see 'hvmodel drivers')")
    explore.add_argument("--scope", default="tiny", help="tiny, small, medium, or a TOML file (default: tiny)")
    explore.add_argument("--part", action="append", metavar="NAME", help="only this part of the scope; may be given again")
    explore.add_argument(
        "--profile", default="default", help=f"hypervisor profile: all or {', '.join(PROFILES)} (default: default)"
    )
    explore.add_argument("--faults", type=number(0, 8), help="faults in a trace, at most (default: the scope's)")
    explore.add_argument("--depth", type=number(1, 64), help="operations in a trace, at most (default: the scope's)")
    explore.add_argument(
        "--budget",
        type=number(0.1, 1e7, whole=False),
        default=0.0,
        help="seconds, shared between the parts (default: until all is done)",
    )
    explore.add_argument("--jobs", type=number(1, 1024), default=0, help="processes (default: one per core)")
    explore.add_argument("--all", action="store_true", help="go on behind failures, to the end of the scope")
    explore.add_argument("--no-symmetry", action="store_true", help="tell states apart that differ in names only")
    explore.add_argument("--keep", type=Path, metavar="FILE", help="keep the search here; if it is there, go on with it")
    explore.add_argument("--never", action="store_true", help="also say what no state within the scope exercised (slower)")
    explore.add_argument("--questions", action="store_true", help="rank the open questions by the findings that they decide")
    explore.add_argument("--list", action="store_true", help="say what is within the scope, and end")
    explore.add_argument("--out", type=Path, help="where traces go (default: findings/DRIVER/explore)")
    explore.add_argument("--json", type=Path, help="write the report to this file")
    explore.set_defaults(run=_explore)


def _explore(args: argparse.Namespace, console: Console) -> int:
    from hvmodel.gears.exhaustive.crew import WorkerDied
    from hvmodel.gears.exhaustive.menu import TooWide
    from hvmodel.gears.exhaustive.scope_file import BadScope, chosen
    from hvmodel.jobs.explore import Options, explore
    from hvmodel.jobs.explore_file import BadFile
    from hvmodel.jobs.explore_report import print_explored, print_never, progress_printer
    from hvmodel.jobs.findings import save_findings, written

    if args.profile not in (*PROFILES, "all"):
        return usage(f"no profile is called {args.profile!r} (known: all, {', '.join(PROFILES)})")
    profiles = list(PROFILES) if args.profile == "all" else [args.profile]
    try:
        parts = chosen(args.scope, args.part, args.faults, args.depth)
    except BadScope as error:
        return usage(str(error))
    if args.list:
        for part in parts:
            console.print(f"{part.name}: {part.sentence()}", soft_wrap=True)
        return 0
    if not any(part.possible(profile) for part in parts for profile in profiles):
        return usage(f"no world can start from {parts[0].name} under profile {profiles[0]}")
    out = args.out or Path("findings") / folder_name(args.driver) / "explore"
    problem = unknown_driver(args.driver) or cannot_write(args.json) or cannot_fill(out)
    if problem is None and args.keep is not None and not args.keep.exists():
        problem = cannot_fill(args.keep.absolute().parent)
    if problem:
        return usage(problem)
    if args.questions:
        return _questions(args, parts, console)
    options = Options(args.driver, parts, profiles, args.budget, args.jobs, not args.no_symmetry, args.all, args.never, args.keep)
    try:
        report = explore(options, progress_printer())
    except (BadFile, TooWide) as error:
        return usage(str(error))
    except WorkerDied as error:
        return usage(f"{error}; --jobs 1 shows in which operation")
    old = len(written(out))
    if old:
        print(f"replacing {old} traces of an earlier search in {out}", file=sys.stderr)
    save_findings(report.findings, out)
    if args.json is not None:
        args.json.write_text(json.dumps(report.as_json(), indent=1) + "\n", encoding="utf-8")
    print_explored(report, console)
    if args.never:
        print_never(report, console)
    return {"holds": 0, "fails": 1}.get(report.verdict, UNDETERMINED)


def _questions(args: argparse.Namespace, parts: tuple[Scope, ...], console: Console) -> int:
    from hvmodel.jobs.explore_questions import ask, print_questions
    from hvmodel.jobs.explore_report import counter_printer

    asking = ask(args.driver, parts, args.jobs or os.cpu_count() or 1, args.budget, counter_printer("answers tried"))
    if args.json is not None:
        args.json.write_text(json.dumps(asking.as_json(), indent=1) + "\n", encoding="utf-8")
    print_questions(asking, console)
    return 0


__all__ = ["add"]
