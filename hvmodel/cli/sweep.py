"""``hvmodel sweep``."""

from __future__ import annotations

import argparse
import difflib
import json
import sys
from dataclasses import replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from hvmodel.cli.arguments import Verbs, cannot_fill, cannot_write, number, unknown_driver, usage
from hvmodel.configuration import Configuration
from hvmodel.drivers import folder_name
from hvmodel.hypervisor.policies import PROFILES
from hvmodel.traces.format import Trace, TraceError, read

if TYPE_CHECKING:
    from hvmodel.gears.sweep import Subject

DEFAULT_DRIVER = "posted-v0"


def add(verbs: Verbs) -> None:
    """The verb ``sweep``."""
    sweep = verbs.add_parser("sweep", help="run traces once for each place where something can be refused, and each answer")
    sweep.add_argument(
        "traces", nargs="*", metavar="TRACE", help="a trace file, or a scenario's name or pattern (default: all scenarios)"
    )
    sweep.add_argument("--list", action="store_true", help="list the scenarios that come with hvmodel")
    sweep.add_argument("--driver", help="which driver (default: the one that the trace files name, else posted-v0)")
    sweep.add_argument(
        "--profile",
        default="all",
        help=f"hypervisor profile: all (of a trace file: its own) or {', '.join(PROFILES)}",
    )
    sweep.add_argument("--pairs", action="store_true", help="also refuse at every two places together")
    sweep.add_argument("--budget", type=number(0.1, 1e7, whole=False), default=0.0, help="seconds (default: until all is done)")
    sweep.add_argument("--jobs", type=number(1, 1024), default=0, help="processes (default: one per core)")
    sweep.add_argument("--out", type=Path, help="where traces go, instead of an earlier sweep's (default: findings/DRIVER/sweep)")
    sweep.add_argument("--json", type=Path, help="write the report to this file")
    sweep.set_defaults(run=_sweep)


def _sweep(args: argparse.Namespace, console: Console) -> int:
    from hvmodel.jobs.findings import save_findings, written
    from hvmodel.jobs.sweep import Options, sweep
    from hvmodel.jobs.sweep_report import print_list, print_sweep, progress_printer

    if args.list:
        print_list(console)
        return 0
    if args.profile not in (*PROFILES, "all"):
        return usage(f"no profile is called {args.profile!r} (known: all, {', '.join(PROFILES)})")
    try:
        subjects, driver = chosen(args.traces, args.profile, args.driver)
    except TraceError as error:
        return usage(str(error))
    out = args.out or Path("findings") / folder_name(driver) / "sweep"
    problem = unknown_driver(driver) or cannot_write(args.json) or cannot_fill(out)
    if problem:
        return usage(problem)
    report = sweep(Options(driver, subjects, args.pairs, args.budget, args.jobs), progress_printer())
    if report.complete and not report.count.sites:
        return usage(
            "nothing was put to the test: no operation came by a place where it could be refused (do traces begin with boot?)"
        )
    old = len(written(out))
    if old:
        print(f"replacing {old} traces of an earlier sweep in {out}", file=sys.stderr)
    save_findings(report.findings, out)
    if args.json is not None:
        args.json.write_text(json.dumps(report.as_json(), indent=1) + "\n", encoding="utf-8")
    print_sweep(report, console)
    return 1 if report.groups else 0


def chosen(names: list[str], profile: str, driver: str | None) -> tuple[list[Subject], str]:
    """What the names mean, in the order in which it is swept, and the driver to sweep. Raises TraceError with one line for the
    person at the keyboard."""
    from hvmodel.gears.sweep.subjects import in_order, of_scenario, of_trace
    from hvmodel.scenarios import SCENARIOS

    subjects: list[Subject] = []
    named: dict[str, str] = {}
    only = None if profile == "all" else profile
    for name in names or ["*"]:
        matching = [scenario for scenario in SCENARIOS.values() if fnmatchcase(scenario.name, name)]
        if matching:
            subjects += [subject for scenario in matching for subject in of_scenario(scenario.name, only)]
            if profile != "all" and not any(profile in scenario.profiles for scenario in matching):
                raise TraceError(f"{name}: makes no sense under profile {profile} (only under {', '.join(matching[0].profiles)})")
        elif Path(name).exists():
            trace = read(Path(name))
            named.setdefault(trace.driver, name)
            subjects.append(of_trace(Path(name).stem, _under(name, trace, profile), trace.operations))
        else:
            near = difflib.get_close_matches(name, SCENARIOS, n=3, cutoff=0.5)
            hint = f"did you mean {' or '.join(near)}" if near else "see hvmodel sweep --list"
            raise TraceError(f"no scenario is called {name!r}, and there is no such file ({hint})")
    if driver is None and len(named) > 1:
        (one, first), (other, second) = list(named.items())[:2]
        raise TraceError(f"{first} is of driver {one}, {second} of {other}; --driver chooses one for all")
    return in_order(subjects), driver or next(iter(named), DEFAULT_DRIVER)


def _under(name: str, trace: Trace, profile: str) -> Configuration:
    """A trace's start, under its own hypervisor or that of a profile."""
    config = trace.config
    if profile != "all":
        known = PROFILES[profile]
        config = replace(
            config,
            profile=profile,
            policies=known.policies,
            l1vh=known.l1vh,
            capabilities=known.capabilities,
            root_pool=known.root_pool,
            domain_limit=known.domain_limit,
        )
        problem = config.problems()
        if problem:
            raise TraceError(f"{name}: cannot start under profile {profile}: {problem}")
    return config


__all__ = ["add", "chosen"]
