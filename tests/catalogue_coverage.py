"""Hold a hunt's findings against the hand-written catalogue: ``python tests/catalogue_coverage.py REPORT.json``.

A finding covers an entry when it fails the same property in the same driver call and manner (the violation's shape) after no
other refusals than the entry's, and its trace file fails that property when replayed on its own. Exit status 1 if a required
entry is not covered.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from catalogue import ENTRIES, Entry
from test_catalogue import REQUIRED, shown

from hvmodel.callers.levels import BEYOND
from hvmodel.configuration import Configuration
from hvmodel.faults import KERNEL_SITES
from hvmodel.jobs.findings import Key, key_of, mark_of, sites_of
from hvmodel.operations import Operation
from hvmodel.properties.verdicts import Violation
from hvmodel.traces.format import read
from hvmodel.world import World


def _key(config: Configuration, operations: list[Operation], level: int, violation: Violation) -> Key:
    """The finding's key, with its sites apart; memory that the kernel could not give counts as no refusal of the hypervisor."""
    mark, sites, beyond, l1vh = key_of(mark_of(violation), sites_of(operations), level == BEYOND, config.l1vh)
    return mark, frozenset(sites) - set(KERNEL_SITES), beyond, l1vh


def _same(found: Key, wanted: Key) -> bool:
    """The same kind of failure, needing no other refusals than the entry's, and some if the entry needs some."""
    return found[0] == wanted[0] and found[2:] == wanted[2:] and found[1] <= wanted[1] and bool(found[1]) == bool(wanted[1])


def _wanted(entry: Entry) -> set[Key]:
    """The keys of the violations that an entry shows."""
    world = World(entry.config)
    outcomes = [world.apply(operation) for operation in entry.operations]
    level = max(outcome.level for outcome in outcomes)
    return {_key(entry.config, list(entry.operations), level, violation) for violation in shown(entry, outcomes[-1])}


def _findings(report: Path) -> list[tuple[str, int, set[Key]]]:
    """(trace file, operations, keys of the property that the trace names), each replayed from its file."""
    found = []
    for item in json.loads(report.read_text(encoding="utf-8"))["findings"]:
        trace = read(Path(item["trace"]))
        world = World(trace.config, trace.driver)
        outcomes = [world.apply(operation) for operation in trace.operations]
        level = max(outcome.level for outcome in outcomes)
        failing = [v for outcome in outcomes for v in outcome.violations if v.property == trace.property]
        if not failing:
            raise SystemExit(f"{item['trace']} does not fail {trace.property} when replayed")
        keys = {_key(trace.config, trace.operations, level, violation) for violation in failing}
        found.append((item["trace"], len(trace.operations), keys))
    return found


def main(report: Path) -> int:
    """Print the table; returns the exit status."""
    findings = _findings(report)
    long, covered = 0, set[str]()
    for key, entry in ENTRIES.items():
        wanted = _wanted(entry)
        hits = sorted((length, path) for path, length, keys in findings if any(_same(k, w) for k in keys for w in wanted))
        if not hits:
            print(f"{key:<22} {'not found':<10} {entry.property}")
            continue
        covered.add(key)
        length, path = hits[0]
        extra = length - len(entry.operations)
        long += extra > 1
        print(f"{key:<22} {'found':<10} {entry.property:<30} {length} ops ({extra:+d})  {Path(path).name}")
    missing = [ident for ident in REQUIRED if not any(key == ident or key.startswith(f"{ident}-") for key in covered)]
    print(f"{len(covered)} of {len(ENTRIES)} entries covered; required and missing: {', '.join(missing) or 'none'}")
    print(f"traces more than one operation longer than the hand-written one: {long} of {len(covered)}")
    return 1 if missing else 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
