"""``hvmodel detect``: measure the harness."""

from __future__ import annotations

import argparse
from pathlib import Path

from rich.console import Console

from hvmodel.callers.levels import LEVELS
from hvmodel.cli.arguments import Verbs, cannot_write, number, usage


def add(verbs: Verbs) -> None:
    """The verb ``detect``."""
    detect = verbs.add_parser("detect", help="measure how soon the gears find the defect of each variant")
    detect.add_argument("--driver", default="*", metavar="PATTERN", help="variants, as 'repaired+D*' (default: all), or one driver")
    gears = ("walk", "exhaustive", "hypothesis", "uniform", "sweep", "all")
    detect.add_argument("--gear", default="walk", choices=gears, help="default: walk")
    detect.add_argument("--level", default="beyond", choices=LEVELS, help="how far callers go at most (default: beyond)")
    detect.add_argument("--trials", type=number(1, 1e6), default=10, help="trials of each variant and gear (default: 10)")
    limit = detect.add_mutually_exclusive_group()
    limit.add_argument("--limit", type=number(0.01, 1e7, whole=False), help="processor seconds for each trial (default: 60)")
    limit.add_argument("--operations", type=number(1, 1e12), help="operations for each trial instead, which repeats exactly")
    detect.add_argument("--jobs", type=number(1, 1024), default=0, help="processes (default: one per core)")
    detect.add_argument("--seed", type=number(0, 1 << 64), default=0, help="number that decides the trials (default: 0)")
    detect.add_argument("--json", type=Path, help="write all trials to this file")
    detect.add_argument("--svg", type=Path, help="write the survival picture to this file")
    detect.add_argument("--against", type=Path, metavar="FILE", help="compare with a run that --json wrote; a loss is status 1")
    detect.set_defaults(run=_detect)


def _detect(args: argparse.Namespace, console: Console) -> int:
    from hvmodel.drivers.native.own import is_own, own_problem
    from hvmodel.jobs import detect_file
    from hvmodel.jobs.detect import Options, detect, matching
    from hvmodel.jobs.detect_report import caption, print_changes, print_detection, progress_printer
    from hvmodel.jobs.power import comparable, compare
    from hvmodel.jobs.survival_picture import curves
    from hvmodel.jobs.survival_svg import save_svg
    from hvmodel.jobs.trials import GEARS, Limit

    drivers = matching(args.driver)
    if not drivers:
        problem = own_problem(args.driver) if is_own(args.driver) else None
        return usage(problem or f"no variant fits {args.driver!r} and no driver is called so (see 'hvmodel drivers')")
    limit = Limit(operations=args.operations) if args.operations else Limit(seconds=args.limit or 60.0)
    gears = list(GEARS) if args.gear == "all" else [args.gear]
    options = Options(drivers, gears, args.trials, limit, args.seed, args.jobs, level=LEVELS.index(args.level))
    earlier = []
    if args.against is not None:
        try:
            stored = detect_file.read(args.against)
        except detect_file.BadFile as bad:
            return usage(str(bad))
        earlier = comparable(stored, drivers, gears, args.level)
        if not earlier:
            levels = sorted({trial.level for trial in stored} - {args.level})
            other = f" at level {args.level} (its trials: {', '.join(levels)})" if levels else ""
            return usage(f"{args.against}: nothing to compare with: no trial of {', '.join(gears)} on {args.driver!r}{other}")
    problem = cannot_write(args.json, args.svg)
    if problem:
        return usage(problem)
    detection = detect(options, progress_printer(), earlier)
    print_detection(detection, console)
    if args.json is not None:
        detect_file.save(detection, args.json)
    if args.svg is not None:
        save_svg(curves(detection), caption(detection), args.svg)
    changes = compare(detection.trials, earlier)
    print_changes(changes, args.against, console)
    return 0 if detection.everything and not any(change.is_loss for change in changes) else 1
