"""Mutated and random trace files: whatever a file holds, reading it ends in a trace or in one line, and using it ends.

Files are made from recorded walks: bytes flipped, cut and spliced, JSON values replaced, dropped, doubled and moved between traces,
numbers set to where fields turn. What still reads is written and read again, replayed, and now and then explained and minimised.
"""

from __future__ import annotations

import contextlib
import io
import json
import multiprocessing
import resource
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from types import FrameType
from typing import Any

from rich.console import Console

from hvmodel.drivers import REGISTRY
from hvmodel.gears.minimise import Target, minimise
from hvmodel.gears.walk import walk
from hvmodel.operations import KINDS
from hvmodel.rules.worlds import PROFILE_NAMES
from hvmodel.traces.format import Trace, TraceError, from_json, read, to_json
from hvmodel.traces.record import recorded
from hvmodel.traces.replay import replay
from hvmodel.world import run as run_trace

HANG = 60
"""Seconds after which a file counts as a hang; the slowest honest ones take about two on a machine of their own."""

PORTION = 500
"""Files that one seed makes, in one process."""

EXPLAINED, MINIMISED = 8, 40
"""One in so many of the files that read is explained, is minimised."""

_EDGES = (0, 1, 2, 255, 256, 4095, 4096, 65535, 65536, (1 << 31) - 1, 1 << 32, (1 << 52) - 1, 1 << 52, (1 << 64) - 1, 1 << 64)
_HOSTILE: tuple[Any, ...] = (
    None, True, False, -1, 1.5, 1e308, "", "x", "0x", "\x00", "\x1b[2J", "\ud800", "é", "until lifted", [], {}, [[]], {"": 0},
    *_EDGES, *map(hex, _EDGES), *KINDS, "A" * 5000,
)  # fmt: skip
_BITS = (b"", b"\x00", b"\xff\xfe", b"\xef\xbb\xbf", b'"', b"{", b"[", b"}", b",", b"\\", b"\\ud800", b"NaN", b"1e999", b"9" * 5000)


@dataclass(slots=True)
class Tally:
    """What came of the files: ``read`` were traces, ``refused`` answered one line; ``problems`` must stay empty."""

    files: int = 0
    read: int = 0
    refused: int = 0
    replayed: Counter[int] = field(default_factory=Counter)
    explained: int = 0
    minimised: int = 0
    slowest: float = 0.0
    memory: int = 0
    problems: list[str] = field(default_factory=list)

    def merge(self, other: Tally) -> None:
        """Add what another process did."""
        self.files += other.files
        self.read += other.read
        self.refused += other.refused
        self.replayed += other.replayed
        self.explained += other.explained
        self.minimised += other.minimised
        self.slowest = max(self.slowest, other.slowest)
        self.memory = max(self.memory, other.memory)
        self.problems += other.problems


# --- files ----------------------------------------------------------------------------------------------------------------


def _samples(rng: Random) -> list[str]:
    """Recorded traces of walks to begin with."""
    found = []
    for number in range(12):
        profile = rng.choice(PROFILE_NAMES)
        done = walk(f"files/{rng.random()}/{number}", "posted-v0", profile, 2, rng.choice((3, 8, 30)))
        driver, claim = rng.choice(("posted-v0", "repaired")), rng.choice((None, "no-stale-mapping", "map-result"))
        trace = recorded(Trace(done.config, done.operations, driver, claim))
        found.append(to_json(trace))
    return found


def _bytes(rng: Random, samples: list[str]) -> bytes:
    """A sample with a few places changed as bytes."""
    raw = bytearray(rng.choice(samples).encode())
    for _ in range(rng.choice((1, 1, 2, 5, 40))):
        at = rng.randrange(len(raw) + 1)
        end = min(at + rng.choice((0, 1, 1, 3, 40, 400)), len(raw))
        how = rng.randrange(5)
        if how == 0:
            raw[at:end] = rng.randbytes(end - at)
        elif how == 1:
            del raw[at:end]
        elif how == 2:
            raw[at:at] = rng.choice(_BITS)
        elif how == 3:
            raw[at:at] = raw[at:end]
        else:
            other = rng.choice(samples).encode()
            start = rng.randrange(len(other))
            raw[at:end] = other[start : start + end - at]
    return bytes(raw[: rng.randrange(len(raw) + 1)] if rng.randrange(10) == 0 else raw)


def _places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Every (container, key) within a JSON value."""
    items = list(value.items()) if isinstance(value, dict) else list(enumerate(value)) if isinstance(value, list) else []
    for key, inner in items:
        yield value, key
        yield from _places(inner)


def _json(rng: Random, samples: list[str]) -> bytes:
    """A sample with a few values changed."""
    data = json.loads(rng.choice(samples))
    if rng.randrange(2):
        data.pop("observed", None)  # it has to fit the operations, which are changed below
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        places = list(_places(data))
        if not places:
            break
        inside, key = rng.choice(places)
        how = rng.randrange(7)
        if how < 3:
            inside[key] = rng.choice(_HOSTILE)
        elif how == 3:
            del inside[key]
        elif how == 4 and isinstance(inside, list):
            inside.insert(rng.randrange(len(inside) + 1), rng.choice(inside))
        elif how == 5 and isinstance(inside, list):
            rng.shuffle(inside)
        else:
            other, name = rng.choice(list(_places(json.loads(rng.choice(samples)))))
            inside[key] = other[name]
    return json.dumps(data).encode()


def _edited(rng: Random, samples: list[str]) -> bytes:
    """A sample as a person edits one: numbers changed, operations dropped, doubled and moved."""
    data = json.loads(rng.choice(samples))
    data.pop("observed", None)
    operations = data["operations"]
    for _ in range(rng.choice((1, 2, 4))):
        operation = rng.choice(operations)
        names = [name for name in operation if name not in ("op", "faults", "prot", "gfp", "mapped")]
        how = rng.randrange(4)
        if how < 2 and names:
            operation[rng.choice(names)] = rng.choice((*_EDGES[:3], *map(hex, _EDGES)))
        elif how == 2 and len(operations) > 1:
            del operations[rng.randrange(len(operations))]
        else:
            operations.insert(rng.randrange(len(operations) + 1), rng.choice(operations))
    return json.dumps(data).encode()


def _anything(rng: Random, _samples: list[str]) -> bytes:
    """Nothing of a trace: random bytes, random JSON, something nested or long."""
    how = rng.randrange(4)
    if how == 0:
        return rng.randbytes(rng.choice((0, 1, 10, 1000)))
    if how == 1:
        return rng.choice((b"[", b"{", b'{"a":', b"[0,")) * rng.choice((1, 100, 100_000))
    if how == 2:
        return json.dumps({"hvmodel-trace": rng.choice(_HOSTILE), "operations": rng.choice(_HOSTILE)}).encode()
    return b"".join(rng.choice((b"{", b"}", b'"op"', b":", b"1", b"[", b"]", b",", b'"boot"')) for _ in range(rng.randrange(40)))


_MAKERS: tuple[Callable[[Random, list[str]], bytes], ...] = (_edited, _edited, _json, _json, _bytes, _bytes, _anything)


# --- what is done with them -----------------------------------------------------------------------------------------------


class _Hang(BaseException):
    """Not an Exception: nothing on the way may catch it."""


def _ring(_signal: int, _frame: FrameType | None) -> None:
    raise _Hang


def portion(job: tuple[str, int]) -> Tally:
    """The files of one seed, in this process."""
    seed, files = job
    rng = Random(seed)
    tally = Tally()
    samples = _samples(rng)
    signal.signal(signal.SIGALRM, _ring)
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "trace.json"
        for number in range(files):
            path.write_bytes(rng.choice(_MAKERS)(rng, samples))
            started = time.perf_counter()
            signal.setitimer(signal.ITIMER_REAL, HANG)
            try:
                _use(path, tally, rng.randrange(EXPLAINED) == 0, rng.randrange(MINIMISED) == 0)
            except _Hang:
                tally.problems.append(f"seed {seed}, file {number}: more than {HANG} s")
            except Exception as error:
                tally.problems.append(f"seed {seed}, file {number}: {type(error).__name__}: {error}")
            finally:
                signal.setitimer(signal.ITIMER_REAL, 0)
            tally.files += 1
            tally.slowest = max(tally.slowest, time.perf_counter() - started)
    tally.memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10
    return tally


def _use(path: Path, tally: Tally, explained: bool, minimised: bool) -> None:
    try:
        trace = read(path)
    except TraceError as error:
        line = str(error)
        if not line.startswith(str(path)) or not line.isprintable():
            raise AssertionError(f"not one printable line that names the file: {line!a}") from None
        tally.refused += 1
        return
    tally.read += 1
    if from_json(to_json(trace)) != trace:
        raise AssertionError("what was written does not read back equal")
    driver = trace.driver if trace.driver in REGISTRY else "posted-v0"
    console = Console(file=io.StringIO(), width=100)
    tally.replayed[replay(trace, driver, False, console)] += 1
    if explained:
        _explain(trace, driver)
        tally.explained += 1
    if minimised:
        tally.minimised += _minimise(trace, driver)


def _explain(trace: Trace, driver: str) -> None:
    from hvmodel.traces.explain import as_html, as_markdown, story

    one = story(trace, driver)
    as_markdown(one).encode()
    as_html(one).encode()


def _minimise(trace: Trace, driver: str) -> int:
    _world, outcomes = run_trace(trace.config, trace.operations, driver)
    violation = next((v for outcome in outcomes for v in outcome.violations), None)
    if violation is None:
        return 0
    target = Target(violation.property, violation.call, violation.shape)
    if minimise(trace.config, trace.operations, driver, target) is None:
        raise AssertionError("a trace that fails cannot be minimised")
    return 1


def fuzz(files: int, seed: int, jobs: int) -> Tally:
    """Make and use ``files`` files in ``jobs`` processes; progress goes to stderr."""
    work = [(f"{seed}/{number}", min(PORTION, files - number * PORTION)) for number in range(-(-files // PORTION))]
    tally, last = Tally(), time.monotonic()
    with multiprocessing.get_context("fork").Pool(jobs, maxtasksperchild=20) as pool, contextlib.closing(pool):
        for done in pool.imap_unordered(portion, work):
            tally.merge(done)
            if time.monotonic() - last >= 10:
                last = time.monotonic()
                text = f"fuzzing traces: {tally.files:,} of {files:,} files, {len(tally.problems)} problems"
                print(text, file=sys.stderr, flush=True)
    return tally


def run(files: int, seed: int, jobs: int, console: Console) -> int:
    """``hvmodel fuzz-traces``: prints what came of the files; returns 1 if there was a problem, else 0."""
    started = time.monotonic()
    tally = fuzz(files, seed, jobs)
    seconds = time.monotonic() - started
    for problem in tally.problems[:20]:
        console.print(f"problem: {problem!a}", soft_wrap=True)
    replayed = tally.replayed
    lines = (
        f"{tally.files:,} files in {seconds:.0f} s (seed {seed}): {tally.refused:,} refused in one line, {tally.read:,} are traces",
        f"replayed: {replayed[1]:,} fail, {replayed[0]:,} hold, {replayed[2]:,} judged nothing; "
        f"{tally.explained:,} explained, {tally.minimised:,} minimised",
        f"slowest file {tally.slowest:.2f} s, largest process {tally.memory} MiB, {len(tally.problems)} problems",
    )
    for line in lines:
        console.print(line, soft_wrap=True)
    return 1 if tally.problems else 0
