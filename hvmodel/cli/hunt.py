"""``hvmodel hunt``."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from rich.console import Console

from hvmodel.callers.levels import LEVELS
from hvmodel.cli.arguments import Verbs, cannot_fill, cannot_write, number, unknown_driver, usage
from hvmodel.drivers import folder_name
from hvmodel.rules.worlds import PROFILE_NAMES


def add(verbs: Verbs) -> None:
    """The verb ``hunt``."""
    hunt = verbs.add_parser("hunt", help="search a driver for findings until the budget is spent")
    hunt.add_argument("--driver", default="posted-v0", help="which driver (default: posted-v0; see 'hvmodel drivers')")
    hunt.add_argument(
        "--profile", default="all", help=f"hypervisor profile: all (half of the budget for default) or {', '.join(PROFILE_NAMES)}"
    )
    hunt.add_argument("--level", default="all", choices=(*LEVELS, "all"), help="how far callers go (default: all)")
    hunt.add_argument("--budget", type=number(0.1, 1e7, whole=False), help="seconds (default: 90, with --operations no end)")
    hunt.add_argument("--operations", type=number(1, 1e15), default=0, help="stop after this many operations")
    hunt.add_argument(
        "--lift",
        type=number(0, 1e7, whole=False),
        metavar="SECONDS",
        help="then look for real callers of what takes more than ioctls (default: a sixth of the search, 60 s at most; 0: no)",
    )
    hunt.add_argument("--seed", type=number(0, 1 << 64), default=0, help="number that decides the operations (default: 0)")
    hunt.add_argument("--jobs", type=number(1, 1024), default=0, help="processes (default: one per core)")
    hunt.add_argument("--out", type=Path, help="where traces go, instead of an earlier hunt's (default: findings/DRIVER)")
    hunt.add_argument("--json", type=Path, help="write the report to this file")
    hunt.set_defaults(run=_hunt)


def _hunt(args: argparse.Namespace, console: Console) -> int:
    from hvmodel.jobs.findings import written
    from hvmodel.jobs.hunt import Options, hunt, lift_report, save, save_json
    from hvmodel.jobs.report import lift_printer, print_report, progress_printer

    problem = unknown_driver(args.driver)
    if problem:
        return usage(problem)
    if args.profile not in (*PROFILE_NAMES, "all"):
        return usage(f"no profile is called {args.profile!r} (known: all, {', '.join(PROFILE_NAMES)})")
    if args.out is None:
        args.out = Path("findings") / folder_name(args.driver)
    problem = cannot_fill(args.out) or cannot_write(args.json)
    if problem:
        return usage(problem)
    options = Options(
        driver=args.driver,
        profiles=list(PROFILE_NAMES) if args.profile == "all" else [args.profile],
        levels=list(range(len(LEVELS))) if args.level == "all" else [LEVELS.index(args.level)],
        budget=args.budget or (1e7 if args.operations else 90.0),
        operations=args.operations,
        seed=args.seed,
        jobs=args.jobs,
    )
    report = hunt(options, progress_printer(options.budget, options.operations))
    lift_report(report, args.lift, lift_printer())
    old = len(written(args.out))
    if old:
        print(f"replacing {old} traces of an earlier hunt in {args.out}", file=sys.stderr)
    save(report, args.out)
    if args.json is not None:
        save_json(report, args.json)
    print_report(report, console)
    return 1 if report.groups else 0
