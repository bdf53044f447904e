"""``hvmodel drivers``, ``bench``, ``bench-minimiser``, ``fuzz-hypervisor`` and ``fuzz-traces``."""

from __future__ import annotations

import argparse
import os

from rich.console import Console
from rich.text import Text

from hvmodel.cli.arguments import Verbs, number, unknown_driver, usage
from hvmodel.drivers import REGISTRY


def add(verbs: Verbs) -> None:
    """The verbs of this module."""
    verbs.add_parser("drivers", help="list the drivers").set_defaults(run=_drivers)

    bench = verbs.add_parser("bench", help="measure speed, memory and how often each operation applies")
    bench.add_argument("--driver", default="posted-v0", help="which driver (default: posted-v0)")
    bench.add_argument("--seconds", type=number(1, 600, whole=False), default=5.0, help="seconds for each measurement (default: 5)")
    bench.add_argument("--exhaustive", action="store_true", help="only the exhaustive gear, beside other model checkers")
    bench.set_defaults(run=_bench)

    small = verbs.add_parser("bench-minimiser", help="minimise failing traces of the walk on the variants, and measure that")
    small.add_argument("--driver", default="*", metavar="PATTERN", help="variants, as 'repaired+D*' (default: all), or one driver")
    small.add_argument("--traces", type=number(1, 1e7), default=10_000, help="how many (default: 10,000)")
    small.add_argument("--seed", type=number(0, 1 << 64), default=0, help="number that decides the walks (default: 0)")
    small.add_argument("--jobs", type=number(1, 1024), default=0, help="processes (default: one per core)")
    small.set_defaults(run=_bench_minimiser)

    fuzz = verbs.add_parser("fuzz-hypervisor", help="random hypercalls against the hypervisor model's invariants")
    fuzz.add_argument("--calls", type=number(1, 1e12), default=2_000_000, help="hypercalls (default: 2,000,000)")
    fuzz.add_argument("--seed", type=number(0, 1 << 64), default=0, help="number that decides the calls (default: 0)")
    fuzz.set_defaults(run=_fuzz)

    files = verbs.add_parser("fuzz-traces", help="mutated and random trace files against everything that reads them")
    files.add_argument("--files", type=number(1, 1e9), default=100_000, help="how many (default: 100,000)")
    files.add_argument("--seed", type=number(0, 1 << 64), default=0, help="number that decides the files (default: 0)")
    files.add_argument("--jobs", type=number(1, 1024), default=0, help="processes (default: one per core)")
    files.set_defaults(run=_fuzz_traces)


def _drivers(_args: argparse.Namespace, console: Console) -> int:
    for entry in REGISTRY.values():
        console.print(Text(f"{entry.name:<16} {entry.summary}"), soft_wrap=True)
    return 0


def _bench(args: argparse.Namespace, console: Console) -> int:
    from hvmodel.jobs.bench import bench
    from hvmodel.jobs.bench_explore import bench_explore

    problem = unknown_driver(args.driver)
    if args.exhaustive and not problem:
        bench_explore(console)
        return 0
    return usage(problem) if problem else bench(args.driver, args.seconds, console)


def _bench_minimiser(args: argparse.Namespace, console: Console) -> int:
    from hvmodel.jobs.detect import matching
    from hvmodel.jobs.minimiser_bench import run

    drivers = matching(args.driver)
    if not drivers:
        return usage(f"no variant fits {args.driver!r} and no driver is called so (see 'hvmodel drivers')")
    return run(args.traces, args.seed, args.jobs or os.cpu_count() or 1, drivers, console)


def _fuzz(args: argparse.Namespace, _console: Console) -> int:
    from hvmodel.jobs.fuzz_hypervisor import run

    return run(calls=args.calls, seed=args.seed)


def _fuzz_traces(args: argparse.Namespace, console: Console) -> int:
    from hvmodel.jobs.fuzz_traces import run

    return run(args.files, args.seed, args.jobs or os.cpu_count() or 1, console)
