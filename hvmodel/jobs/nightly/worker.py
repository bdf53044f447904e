"""A worker process: does one portion after the other, minimises what they met, writes it down, hands it over.

Everything that a worker has found or done is in its own journal before it is sent on; what the disk did not take is sent all the
same, and said to be unkept. When the job that started it is gone, a worker ends with the portion that it is at.
"""

from __future__ import annotations

import gc
import json
import os
import resource
import signal
import time
import traceback
from collections.abc import Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path

from hvmodel.callers.levels import LEVELS
from hvmodel.drivers import REGISTRY, Driver, register
from hvmodel.gears.minimise import Target, minimise
from hvmodel.gears.walk import settle
from hvmodel.jobs.findings import Finding, mark_of
from hvmodel.jobs.hunt import HITS_PER_KIND, Hit
from hvmodel.jobs.nightly import gears
from hvmodel.jobs.nightly.gears import Catch
from hvmodel.jobs.nightly.journal import Journal, Record
from hvmodel.jobs.nightly.plan import is_checked
from hvmodel.jobs.nightly.portions import Done, Portion
from hvmodel.jobs.nightly.signature import plain_shape, signature_of
from hvmodel.jobs.nightly.steps import STEPS, Setup
from hvmodel.traces.format import to_json
from hvmodel.world import World

FRESH_SHARE, FRESH_LEAST = 3.0, 5.0
"""Minimising hits of kinds that no earlier night minimised may take so many times what their portion took, or so many seconds."""

OLD_SHARE = 0.5
"""The same for the other kinds, which are minimised once a night because one kind can hide two defects."""


@dataclass(slots=True)
class Start:
    """What a worker knows from its start: what its steps need, the directory for its journal, the number of the night's session,
    how often hits of a kind have been minimised this night (``found``), which kinds earlier nights minimised (``old``), and the
    class of the driver, for a process that was not forked and may have to register it."""

    setup: Setup
    directory: Path
    session: int
    found: dict[str, int] = field(default_factory=dict)
    old: frozenset[str] = frozenset()
    driver_class: type[Driver] | None = None


def rss_now() -> int:
    """Memory of this process in KiB, as it is now."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except (OSError, ValueError, IndexError):
        return rss_peak()
    return pages * (os.sysconf("SC_PAGE_SIZE") // 1024)


def rss_peak() -> int:
    """The most memory that this process ever had, in KiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def work(start: Start, channel: Connection, inherited: Sequence[Connection] = ()) -> None:
    """The life of a worker: portions come in through the channel, records go out. Ends on None, or when the job is gone.

    ``inherited`` are the job's ends of all channels, which a forked process has as well: were they open here, no channel would
    break when the job dies.
    """
    for other in inherited:
        other.close()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    settle()
    if start.driver_class is not None and start.setup.plan.driver not in REGISTRY:
        register(start.driver_class)
    worker = Worker(start, channel)
    try:
        while True:
            message = channel.recv()
            if message is None:
                worker.tell({"r": "life", "rss": rss_peak()})
                return
            portion, found = message
            start.found.update(found)
            worker.do(portion)
    except (EOFError, BrokenPipeError, ConnectionResetError):
        return  # the job is gone; what was done is in the journal
    finally:
        worker.journal.close()


class Worker:
    """One worker: its journal, its channel to the job, and what it did."""

    def __init__(self, start: Start, channel: Connection) -> None:
        self.start, self.setup, self.channel = start, start.setup, channel
        self.journal = Journal(start.directory, start.setup.plan.as_record())
        self.process = f"{start.session}/{os.getpid()}"
        self._fresh: dict[str, int] = {}
        """How many hits of which kind this portion minimised."""
        self._beside: set[object] = set()
        """What failed beside a finding and has been minimised as well."""

    def tell(self, record: Record) -> None:
        """Write a record to the journal and send it on, with the word whether the disk took it."""
        if "rss" in record:
            record["process"] = self.process
        try:
            self.journal.append(record)
            kept = True
        except OSError:
            kept = False
        self.channel.send((record, kept))

    def do(self, portion: Portion) -> None:
        """Do one portion. A failure of the harness is told, with its traceback, and ends nothing."""
        self._fresh = {}
        try:
            done = self._done(portion)
        except (KeyboardInterrupt, BrokenPipeError, ConnectionResetError):
            raise
        except BaseException:
            self.tell({"r": "failed", "portion": portion.id, "text": traceback.format_exc(limit=-12)})
            return
        done.portion, done.rss = portion.id, rss_peak()
        record = done.as_record()
        record["now"], record["found"] = rss_now(), self._fresh
        self.tell(record)

    def _done(self, portion: Portion) -> Done:
        plan = self.setup.plan
        gear = gears.of_name(portion.step)
        if gear is not None:
            digest = gear.repeats and is_checked(portion.number)
            done, catch = gears.timed(gear, plan, portion.number, plan.driver, digest)
            done.skipped = self._minimise(catch, gear.name, portion, done.seconds)
            gc.collect()
            return done
        if portion.step == "again":
            done, _catch = gears.timed(gears.GEARS[0], plan, portion.number, plan.driver, True)
            # It was counted when it was done first.
            return Done(portion.id, seconds=done.seconds, digest=done.digest)
        started = time.perf_counter()
        done = STEPS[portion.step](self.setup, portion.number)
        done.seconds = round(time.perf_counter() - started, 3)
        return done

    # --- what was met -------------------------------------------------------------------------------------------------

    def _minimise(self, catch: Catch, gear: str, portion: Portion, took: float) -> int:
        """Minimise the hits of kinds that the night has not minimised enough, the first one of each kind first; returns how many
        kinds that no night has minimised were left for want of time."""
        started, skipped = time.perf_counter(), 0
        found, old = self.start.found, self.start.old
        waiting = [
            (kind in old, times, len(hit.operations), kind, hit)
            for kind, hits in catch.hits.items()
            for times, hit in enumerate(hits, found.get(kind, 0))
        ]
        for is_old, times, _length, kind, hit in sorted(waiting, key=lambda item: item[:4]):
            enough, most = (1, OLD_SHARE * took) if is_old else (HITS_PER_KIND, max(FRESH_LEAST, FRESH_SHARE * took))
            if times >= enough:
                continue
            if time.perf_counter() - started > most:
                skipped += times == 0 and not is_old
                continue
            found[kind] = found.get(kind, 0) + 1
            self._fresh[kind] = self._fresh.get(kind, 0) + 1
            try:
                first, *others = minimised(hit, self.setup.plan.driver, gear, self._beside)
            except Exception as error:  # whatever the minimiser stumbles over, the portion and its other hits count
                text = f"{traceback.format_exc(limit=-8)}{type(error).__name__}: {error} (minimising {kind} of run {hit.seed})"
                self.tell({"r": "failed", "portion": f"{portion.id}+{kind}", "text": text})
                continue
            self.tell(finding_record(first, kind, portion))
            for finding in others:
                self.tell(finding_record(finding, "", portion))
        return skipped


def minimised(hit: Hit, driver: str, gear: str, beside: set[object]) -> list[Finding]:
    """The finding that a hit comes down to, first, and what else fails at the end of its trace, unless ``beside`` has it. Raises
    AssertionError if the hit does not repeat, which is a bug in the harness or a driver that is not deterministic."""
    violation = hit.violation
    small = minimise(hit.config, hit.operations, driver, Target(violation.property, violation.call, violation.shape, hit.sites))
    if small is None:
        raise AssertionError(f"a run does not repeat: {gear}, seed {hit.seed}, {violation.property}")
    found = [Finding(small, driver, gear, hit.seed)]
    world = World(small.config, driver)
    outcome = [world.apply(operation) for operation in small.operations][-1]
    sites = frozenset(fault.site for fault in outcome.fired)
    for other in outcome.violations:
        known = (mark_of(other), sites, small.config.l1vh, small.level)
        if mark_of(other) == mark_of(violation) or known in beside:
            continue
        beside.add(known)
        target = Target(other.property, other.call, other.shape, sites)
        smaller = minimise(small.config, small.operations, driver, target, limit=200)
        if smaller is not None:
            found.append(Finding(smaller, driver, gear, hit.seed))
    return found


def finding_record(finding: Finding, kind: str, portion: Portion) -> Record:
    """A finding as a line for a journal. ``kind`` is the kind of hit that it came from, or empty."""
    name, call, shape = finding.mark
    return {
        "r": "finding",
        "portion": portion.id,
        "kind": kind,
        "signature": signature_of(finding),
        "property_id": name,
        "call": call,
        "shape": plain_shape(shape),
        "level": LEVELS[finding.minimised.level],
        "summary": finding.minimised.violation.detail,
        "trace": json.loads(to_json(finding.as_trace())),
    }
