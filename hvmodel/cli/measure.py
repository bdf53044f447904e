"""``hvmodel drivers``, ``bench``, ``fuzz-hypervisor`` and ``fuzz-traces``."""

from __future__ import annotations

import argparse
import os

from rich.console import Console
from rich.text import Text

from hvmodel.cli.arguments import Verbs, number, unknown_driver, usage
from hvmodel.drivers import REGISTRY


def add(verbs: Verbs) -> None:
    """The verbs ``drivers``, ``bench``, ``fuzz-hypervisor`` and ``fuzz-traces``."""
    verbs.add_parser("drivers", help="list the drivers").set_defaults(run=_drivers)

    bench = verbs.add_parser("bench", help="measure speed, memory and how often each operation applies")
    bench.add_argument("--driver", default="posted-v0", help="which driver (default: posted-v0)")
    bench.add_argument("--seconds", type=number(1, 600, whole=False), default=5.0, help="seconds for each measurement (default: 5)")
    bench.set_defaults(run=_bench)

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

    problem = unknown_driver(args.driver)
    return usage(problem) if problem else bench(args.driver, args.seconds, console)


def _fuzz(args: argparse.Namespace, _console: Console) -> int:
    from hvmodel.jobs.fuzz_hypervisor import run

    return run(calls=args.calls, seed=args.seed)


def _fuzz_traces(args: argparse.Namespace, console: Console) -> int:
    from hvmodel.jobs.fuzz_traces import run

    return run(args.files, args.seed, args.jobs or os.cpu_count() or 1, console)
