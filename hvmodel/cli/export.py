"""``hvmodel export``: traces for other tools."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

from rich.console import Console

from hvmodel.cli.arguments import Verbs, trace_for, usage
from hvmodel.cli.output import same_file, write
from hvmodel.traces.format import Trace, TraceError


def add(verbs: Verbs) -> None:
    """The verb ``export``."""
    from hvmodel.traces.export import FORMATS

    export = verbs.add_parser("export", help="turn traces into tests and reports of other tools")
    export.add_argument("trace", type=Path, nargs="+", help="a trace file; several for " + _several())
    export.add_argument("--to", required=True, choices=tuple(FORMATS), metavar="FORMAT", help=", ".join(FORMATS))
    export.add_argument("--driver", help="another driver than the traces name")
    export.add_argument("--out", type=Path, metavar="FILE", help="write to this file instead of standard output")
    export.set_defaults(run=_export)


def _several() -> str:
    from hvmodel.traces.export import FORMATS

    return ", ".join(name for name, entry in FORMATS.items() if entry.several)


def _export(args: argparse.Namespace, _console: Console) -> int:
    from hvmodel.traces.export import FORMATS, Case, run_case

    entry = FORMATS[args.to]
    if len(args.trace) > 1 and not entry.several:
        return usage(f"{args.to} takes one trace, {len(args.trace)} are given (several: {_several()})")
    if args.out is not None and any(same_file(args.out, path) for path in args.trace):
        return usage(f"--out would overwrite the trace {args.out}")
    cases: list[Case] = []
    last = time.monotonic()
    for number, path in enumerate(args.trace, 1):
        try:
            trace, driver = trace_for(path, args.driver)
        except TraceError as error:
            return usage(str(error))
        how = _ends_its_process(trace, driver)
        if how is not None:
            return usage(f"{path}: the driver ends its process in this trace, which no export can tell of: {how}")
        alone = sum(other.stem == path.stem for other in args.trace) == 1
        cases.append(run_case(trace, args.driver, path.stem if alone else str(path), path.as_posix()))
        if time.monotonic() - last > 2:
            last = time.monotonic()
            print(f"exporting: {number} of {len(args.trace)} traces", file=sys.stderr, flush=True)
    return write(entry.render(cases), args.out)


def _ends_its_process(trace: Trace, driver: str) -> str | None:
    """How a native driver ends its process in this trace, tried in a child; None if it does not."""
    from hvmodel.drivers import is_native

    if not is_native(driver):
        return None
    from hvmodel.jobs.fatal import how_it_ends

    return how_it_ends(trace.config, list(trace.operations), driver)
