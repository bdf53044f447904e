"""``hvmodel compare``: what a new revision of a driver fixes, breaks and changes."""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from rich.console import Console

from hvmodel.cli.arguments import Verbs, cannot_write, number, unknown_driver, usage
from hvmodel.drivers import folder_name


def add(verbs: Verbs) -> None:
    """The verb ``compare``."""
    compare = verbs.add_parser(
        "compare",
        help="what a new revision of a driver fixes, breaks and changes, and what it costs",
        description="The first --driver is A, the old one; the second is B, the new one. "
        "Exit status: 0 B breaks nothing, 1 B breaks something that works on A, 2 wrong use.",
    )
    compare.add_argument("--driver", action="append", default=[], metavar="DRIVER", help="twice: A, then B (see 'hvmodel drivers')")
    compare.add_argument("traces", nargs="*", type=Path, help="trace files or directories (default: the corpus in tests/traces)")
    compare.add_argument(
        "--budget", type=number(0.1, 1e7, whole=False), help="seconds of search (default: 60, with --operations no end)"
    )
    compare.add_argument("--operations", type=number(1, 1e15), default=0, help="operations after which each search stops")
    compare.add_argument("--seed", type=number(0, 1 << 64), default=0, help="number that decides the operations (default: 0)")
    compare.add_argument("--jobs", type=number(1, 1024), default=0, help="processes (default: one per core)")
    compare.add_argument("--json", type=Path, metavar="FILE", help="write the comparison to this file")
    compare.add_argument("--markdown", type=Path, metavar="FILE", help="write it as Markdown, all of it, for a review mail")
    compare.add_argument(
        "--out", type=Path, metavar="DIR", help="where traces go, instead of earlier ones (default: findings/A-to-B)"
    )
    compare.set_defaults(run=_compare)


def _compare(args: argparse.Namespace, console: Console) -> int:
    from hvmodel.document import markdown
    from hvmodel.jobs.compare.files import save, save_json
    from hvmodel.jobs.compare.job import Options, compare
    from hvmodel.jobs.compare.page import page
    from hvmodel.jobs.compare.screen import print_comparison, progress_printer
    from hvmodel.jobs.compare.subjects import corpus, from_files
    from hvmodel.traces.format import TraceError

    if len(args.driver) != 2:
        return usage(f"compare needs --driver twice, the old one and the new one, not {len(args.driver)} times")
    problem = next(filter(None, map(unknown_driver, args.driver)), None)
    if problem:
        return usage(problem)
    a, b = args.driver
    try:
        given = from_files(args.traces) if args.traces else corpus()
    except TraceError as error:
        return usage(str(error))
    out = args.out or Path("findings") / f"{folder_name(a)}-to-{folder_name(b)}"
    try:
        out.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=out).close()
    except OSError as error:
        return usage(f"cannot write to {error.filename or out}: {error.strerror}")
    problem = cannot_write(args.json, args.markdown)
    if problem:
        return usage(problem)
    options = Options(a, b, given, args.budget or (1e7 if args.operations else 60.0), args.operations, args.seed, args.jobs)
    result = compare(options, progress_printer())
    save(result, out)
    if args.json is not None:
        save_json(result, args.json)
    if args.markdown is not None:
        args.markdown.write_text(markdown(page(result)), encoding="utf-8")
    print_comparison(result, out, console)
    return result.status
