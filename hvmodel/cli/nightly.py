"""``hvmodel nightly``, ``hvmodel merge`` and ``hvmodel excuse``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import TypeVar

from rich.console import Console
from rich.text import Text

from hvmodel.cli.arguments import Verbs, number, unknown_driver, usage
from hvmodel.jobs.nightly import plan as plans

T = TypeVar("T")


def _read(parse: Callable[[str], T]) -> Callable[[str], T]:
    """A type for argparse from a function that raises ValueError with a line."""

    def convert(text: str) -> T:
        try:
            return parse(text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(str(error)) from None

    return convert


def add(verbs: Verbs) -> None:
    """The verbs ``nightly``, ``merge`` and ``excuse``."""
    nightly = verbs.add_parser(
        "nightly",
        help="search a driver for a night and say what is new",
        description="Exit status: 0 nothing new, 1 new findings, 2 wrong use, 3 void (a canary was not found, or nothing was "
        "searched), 4 the harness erred, 5 the disk did not take all of it, 130 interrupted.",
    )
    nightly.add_argument("--driver", default="posted-v0", help="which driver (default: posted-v0; see 'hvmodel drivers')")
    nightly.add_argument("--budget", type=_read(plans.budget), default=8 * 3600.0, help="300s, 5m, 8h (default: 8h)")
    nightly.add_argument("--state", type=Path, required=True, metavar="DIR", help="what is known from night to night")
    nightly.add_argument("--shard", type=_read(plans.shard), default=plans.ALONE, metavar="I/N", help="one of N jobs of this night")
    nightly.add_argument("--jobs", type=number(1, 1024), default=0, help="processes (default: one per core)")
    nightly.add_argument("--date", type=_read(plans.day), metavar="YYYY-MM-DD", help="which night (default: today)")
    nightly.add_argument("--seed", type=number(0, 1 << 64), default=0, help="other seeds for the same date and shard (default: 0)")
    nightly.add_argument("--corpus", type=Path, metavar="DIR", help="kept traces (default: tests/traces of the checkout)")
    nightly.add_argument("--portion", type=number(1, 100_000), default=0, help="runs in a portion of work (default: by the budget)")
    nightly.set_defaults(run=_nightly)

    merge = verbs.add_parser(
        "merge",
        help="join what several shards of a night know",
        description="In any order with the same result. Exit status: that of the newest night, over all its shards.",
    )
    merge.add_argument("states", type=Path, nargs="+", metavar="DIR", help="state directories of one driver")
    merge.add_argument(
        "--into", type=Path, required=True, metavar="DIR", help="where the joined state goes; what is there is joined, too"
    )
    merge.set_defaults(run=_merge)

    excuse = verbs.add_parser("excuse", help="do not report a finding as new until a date")
    excuse.add_argument("signature", help="as the summary has it")
    excuse.add_argument("--reason", required=True)
    excuse.add_argument("--until", required=True, metavar="YYYY-MM-DD", help="the last day on which the excuse holds")
    excuse.add_argument("--state", type=Path, required=True, metavar="DIR")
    excuse.set_defaults(run=_excuse)


def _nightly(args: argparse.Namespace, console: Console) -> int:
    from hvmodel.jobs.nightly.night import WRONG_USE, Options
    from hvmodel.jobs.nightly.report import do_night
    from hvmodel.jobs.nightly.state import BadState

    problem = unknown_driver(args.driver)
    if problem:
        return usage(problem)
    if args.corpus is not None and not args.corpus.is_dir():
        return usage(f"{args.corpus}: no directory")
    options = Options(
        driver=args.driver,
        state=args.state,
        budget=args.budget,
        date=args.date or date.today().isoformat(),
        shard=args.shard,
        number=args.seed,
        jobs=args.jobs,
        portion=args.portion,
        corpus=args.corpus or _kept_traces(),
    )
    try:
        return do_night(options, console)
    except BadState as bad:
        usage(str(bad))
        return WRONG_USE


def _kept_traces() -> Path:
    return Path(__file__).resolve().parent.parent.parent / "tests" / "traces"


def _merge(args: argparse.Namespace, console: Console) -> int:
    from hvmodel.jobs.nightly.join import OtherDriver
    from hvmodel.jobs.nightly.report import merge
    from hvmodel.jobs.nightly.state import BadState

    try:
        return merge(args.states, args.into, console)
    except (BadState, OtherDriver) as bad:
        return usage(str(bad))
    except OSError as error:
        return usage(f"cannot write to {error.filename or args.into}: {error.strerror}")


def _excuse(args: argparse.Namespace, console: Console) -> int:
    from hvmodel.jobs.nightly.excuses import BadExcuse, excuse
    from hvmodel.jobs.nightly.state import BadState, add_excuse, load

    try:
        item = excuse(args.signature, args.until, args.reason)
        books = load(args.state, None)
        add_excuse(args.state, item)
    except (BadExcuse, BadState) as bad:
        return usage(str(bad))
    except OSError as error:
        return usage(f"cannot write to {error.filename or args.state}: {error.strerror}")
    if item.signature not in books.ledger.entries:
        print(f"hvmodel: no finding of the ledger is called {item.signature}; the excuse is kept for when one is", file=sys.stderr)
    console.print(Text(f"{item.signature} is excused until {item.until}"), soft_wrap=True)
    return 0
