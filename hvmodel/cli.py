"""The command line: ``hvmodel hunt``, ``replay``, ``drivers``, ``detect``, ``bench``, ``fuzz-hypervisor``.

Exit status everywhere: 0 nothing found or the property holds, 1 findings or the property fails, 2 wrong use or input. ``detect`` is
there to find: 0 everything found in all trials and no power lost, else 1.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

from rich.console import Console
from rich.text import Text

from hvmodel import __version__
from hvmodel.callers.levels import LEVELS
from hvmodel.drivers import REGISTRY, no_such_driver
from hvmodel.rules.worlds import PROFILE_NAMES


class _Parser(argparse.ArgumentParser):
    """Wrong use is one line and status 2."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message} (see {self.prog} --help)\n")


def _number(low: float, high: float, whole: bool = True) -> Callable[[str], float | int]:
    def parse(text: str) -> float | int:
        try:
            value = int(text, 0) if whole else float(text)
        except ValueError:
            raise argparse.ArgumentTypeError(f"{text!r} is no number") from None
        if not low <= value <= high:
            raise argparse.ArgumentTypeError(f"{text} is not in {low:g} to {high:g}")
        return value

    return parse


def _parser() -> _Parser:
    parser = _Parser(prog="hvmodel", description="Stateful model-checking harness for the Hyper-V root virtual IOMMU driver.")
    parser.add_argument("--version", action="version", version=f"hvmodel {__version__}")
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB", parser_class=_Parser)

    hunt = verbs.add_parser("hunt", help="search a driver for findings until the budget is spent")
    hunt.add_argument("--driver", default="posted-v0", help="which driver (default: posted-v0; see 'hvmodel drivers')")
    hunt.add_argument(
        "--profile", default="all", help=f"hypervisor profile: all (half of the budget for default) or {', '.join(PROFILE_NAMES)}"
    )
    hunt.add_argument("--level", default="all", choices=(*LEVELS, "all"), help="how far callers go (default: all)")
    hunt.add_argument("--budget", type=_number(0.1, 1e7, whole=False), help="seconds (default: 90, with --operations no end)")
    hunt.add_argument("--operations", type=_number(1, 1e15), default=0, help="stop after this many operations")
    hunt.add_argument("--seed", type=_number(0, 1 << 64), default=0, help="number that decides the operations (default: 0)")
    hunt.add_argument("--jobs", type=_number(1, 1024), default=0, help="processes (default: one per core)")
    hunt.add_argument("--out", type=Path, help="where traces go, instead of an earlier hunt's (default: findings/DRIVER)")
    hunt.add_argument("--json", type=Path, help="write the report to this file")

    replay = verbs.add_parser("replay", help="replay a trace and judge the property that it names")
    replay.add_argument("trace", type=Path, help="a trace file")
    replay.add_argument("--driver", help="another driver than the trace names")
    replay.add_argument("--all", action="store_true", help="judge all properties")

    verbs.add_parser("drivers", help="list the drivers")

    _detect_options(verbs.add_parser("detect", help="measure how soon the gears find the defect of each variant"))

    bench = verbs.add_parser("bench", help="measure speed, memory and how often each operation applies")
    bench.add_argument("--driver", default="posted-v0", help="which driver (default: posted-v0)")
    bench.add_argument(
        "--seconds", type=_number(1, 600, whole=False), default=5.0, help="seconds for each measurement (default: 5)"
    )

    fuzz = verbs.add_parser("fuzz-hypervisor", help="random hypercalls against the hypervisor model's invariants")
    fuzz.add_argument("--calls", type=_number(1, 1e12), default=2_000_000, help="hypercalls (default: 2,000,000)")
    fuzz.add_argument("--seed", type=_number(0, 1 << 64), default=0, help="number that decides the calls (default: 0)")
    return parser


def _detect_options(detect: argparse.ArgumentParser) -> None:
    detect.add_argument("--driver", default="*", metavar="PATTERN", help="variants, as 'repaired+D*' (default: all), or one driver")
    detect.add_argument("--gear", default="walk", choices=("walk", "hypothesis", "uniform", "all"), help="default: walk")
    detect.add_argument("--trials", type=_number(1, 1e6), default=10, help="trials of each variant and gear (default: 10)")
    limit = detect.add_mutually_exclusive_group()
    limit.add_argument("--limit", type=_number(0.01, 1e7, whole=False), help="processor seconds for each trial (default: 60)")
    limit.add_argument("--operations", type=_number(1, 1e12), help="operations for each trial instead, which repeats exactly")
    detect.add_argument("--jobs", type=_number(1, 1024), default=0, help="processes (default: one per core)")
    detect.add_argument("--seed", type=_number(0, 1 << 64), default=0, help="number that decides the trials (default: 0)")
    detect.add_argument("--json", type=Path, help="write all trials to this file")
    detect.add_argument("--svg", type=Path, help="write the survival picture to this file")
    detect.add_argument("--against", type=Path, metavar="FILE", help="compare with a run that --json wrote; a loss is status 1")


def _console() -> Console:
    width = None if sys.stdout.isatty() or "COLUMNS" in os.environ else 140
    return Console(width=width, highlight=False, emoji=False, markup=False)


def _usage(text: str) -> int:
    print(f"hvmodel: {text}", file=sys.stderr)
    return 2


def _known_driver(name: str) -> str | None:
    return None if name in REGISTRY else no_such_driver(name)


def _hunt(args: argparse.Namespace, console: Console) -> int:
    from hvmodel.jobs.hunt import Options, hunt, save, save_json, written
    from hvmodel.jobs.report import print_report, progress_printer

    problem = _known_driver(args.driver)
    if problem:
        return _usage(problem)
    if args.profile not in (*PROFILE_NAMES, "all"):
        return _usage(f"no profile is called {args.profile!r} (known: all, {', '.join(PROFILE_NAMES)})")
    if args.out is None:
        args.out = Path("findings") / args.driver
    try:
        args.out.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=args.out).close()
        if args.json is not None:
            args.json.parent.mkdir(parents=True, exist_ok=True)
            args.json.open("a").close()
    except OSError as error:
        return _usage(f"cannot write to {error.filename or args.out}: {error.strerror}")
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
    old = len(written(args.out))
    if old:
        print(f"replacing {old} traces of an earlier hunt in {args.out}", file=sys.stderr)
    save(report, args.out)
    if args.json is not None:
        save_json(report, args.json)
    print_report(report, console)
    return 1 if report.groups else 0


def _cannot_write(*paths: Path | None) -> str | None:
    """Why one of the files cannot be written, found out before the work is done, or None."""
    for path in paths:
        if path is not None:
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
                path.open("a").close()
            except OSError as error:
                return f"cannot write to {error.filename or path}: {error.strerror}"
    return None


def _detect(args: argparse.Namespace, console: Console) -> int:
    from hvmodel.jobs import detect_file
    from hvmodel.jobs.detect import Options, detect, matching
    from hvmodel.jobs.detect_report import caption, print_changes, print_detection, progress_printer
    from hvmodel.jobs.power import comparable, compare
    from hvmodel.jobs.survival_picture import curves
    from hvmodel.jobs.survival_svg import save_svg
    from hvmodel.jobs.trials import GEARS, Limit

    drivers = matching(args.driver)
    if not drivers:
        return _usage(f"no variant fits {args.driver!r} and no driver is called so (see 'hvmodel drivers')")
    limit = Limit(operations=args.operations) if args.operations else Limit(seconds=args.limit or 60.0)
    gears = list(GEARS) if args.gear == "all" else [args.gear]
    options = Options(drivers, gears, args.trials, limit, args.seed, args.jobs)
    earlier = []
    if args.against is not None:
        try:
            earlier = comparable(detect_file.read(args.against), drivers, gears)
        except detect_file.BadFile as bad:
            return _usage(str(bad))
        if not earlier:
            return _usage(f"{args.against}: nothing to compare with: no trial of {', '.join(gears)} on {args.driver!r}")
    problem = _cannot_write(args.json, args.svg)
    if problem:
        return _usage(problem)
    detection = detect(options, progress_printer(), earlier)
    print_detection(detection, console)
    if args.json is not None:
        detect_file.save(detection, args.json)
    if args.svg is not None:
        save_svg(curves(detection), caption(detection), args.svg)
    changes = compare(detection.trials, earlier)
    print_changes(changes, args.against, console)
    return 0 if detection.everything and not any(change.is_loss for change in changes) else 1


def _replay(args: argparse.Namespace, console: Console) -> int:
    from hvmodel.traces.replay import replay_file

    return replay_file(args.trace, args.driver, args.all, console)


def _drivers(console: Console) -> int:
    for entry in REGISTRY.values():
        console.print(Text(f"{entry.name:<16} {entry.summary}"), soft_wrap=True)
    return 0


def _bench(args: argparse.Namespace, console: Console) -> int:
    from hvmodel.jobs.bench import bench

    problem = _known_driver(args.driver)
    return _usage(problem) if problem else bench(args.driver, args.seconds, console)


def _fuzz(args: argparse.Namespace) -> int:
    from hvmodel.jobs.fuzz_hypervisor import run

    return run(calls=args.calls, seed=args.seed)


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    args = _parser().parse_args(arguments)
    console = _console()
    try:
        if args.verb == "hunt":
            return _hunt(args, console)
        if args.verb == "replay":
            return _replay(args, console)
        if args.verb == "drivers":
            return _drivers(console)
        if args.verb == "detect":
            return _detect(args, console)
        if args.verb == "bench":
            return _bench(args, console)
        return _fuzz(args)
    except KeyboardInterrupt:
        print("hvmodel: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:
        sys.stderr.close()
        return 2


if __name__ == "__main__":
    sys.exit(main())
