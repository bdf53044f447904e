"""Which of the driver's branches a short sample of runs takes, or of its lines for a driver in C. For one in Python this needs
coverage.py (the extra ``coverage``); without it nothing is measured, and the summary says so."""

from __future__ import annotations

import inspect
import json
import tempfile
from dataclasses import replace
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import hvmodel
from hvmodel.drivers import REGISTRY
from hvmodel.drivers.native.coverage import coverage_of
from hvmodel.drivers.native.driver import NativeLoader
from hvmodel.jobs.nightly.gears import Catch, walk_portion
from hvmodel.jobs.nightly.plan import Plan

SAMPLE = 60
"""Runs in the sample: the first ones of the night's walk. Measuring makes them some three times slower, twenty seconds in all."""

_SHARED = ("hvmodel.drivers", "hvmodel.drivers.variants")
"""Packages of which a driver's modules are listed one by one; a driver with a package of its own is all of it."""


def driver_files(driver: str) -> list[str]:
    """The source files of a driver written in Python: of its class and all its ancestors, and of the packages that are theirs."""
    load = REGISTRY[driver].load
    if not inspect.isclass(load):
        return []
    files: set[str] = set()
    for cls in load.__mro__:
        if cls is object or cls.__module__ == "hvmodel.drivers.interface":
            continue
        try:
            path = Path(inspect.getfile(cls)).resolve()
        except (TypeError, OSError):
            continue
        package = cls.__module__.rpartition(".")[0]
        own = package.startswith("hvmodel.drivers.") and package not in _SHARED
        files |= {str(item) for item in path.parent.glob("*.py")} if own else {str(path)}
    return sorted(files)


def measure(plan: Plan) -> dict[str, Any]:
    """How many branches of the driver there are, how many were taken, and those never taken as ``file:line to line``; for a driver
    in C its lines; or ``said``, why nothing could be measured."""
    load = REGISTRY[plan.driver].load
    if isinstance(load, NativeLoader):
        _sample(plan)
        return _native(load)
    if find_spec("coverage") is None:
        return {"said": "coverage.py is not installed"}
    files = driver_files(plan.driver)
    if not files:
        return {"said": "the driver is not in Python"}

    watch = import_module("coverage").Coverage(branch=True, include=files, data_file=None, config_file=False)
    watch.start()
    try:
        _sample(plan)
    finally:
        watch.stop()
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "coverage.json"
        try:
            watch.json_report(outfile=str(path))
        except Exception as error:  # coverage.py has a class of its own for "no data"
            return {"said": str(error)[:200]}
        return _boiled_down(json.loads(path.read_text()))


def _sample(plan: Plan) -> None:
    walk_portion(replace(plan, portion=SAMPLE), 0, plan.driver, Catch(), False)


def _native(load: NativeLoader) -> dict[str, Any]:
    found = coverage_of(load.image)
    if found is None:
        return {"said": "the code of this machine cannot be read"}
    never = [f"{load.build.name}:{line}" for line in found.never]
    return {"unit": "lines", "branches": len(found.lines), "taken": len(found.lines) - len(never), "never": never, "runs": SAMPLE}


def _boiled_down(report: dict[str, Any]) -> dict[str, Any]:
    never: list[str] = []
    branches = taken = 0
    root = str(Path(hvmodel.__file__).resolve().parent.parent)
    for name, entry in sorted(report["files"].items()):
        branches += entry["summary"]["num_branches"]
        taken += entry["summary"]["covered_branches"]
        short = str(Path(name).resolve()).removeprefix(root).lstrip("/")
        for start, end in entry["missing_branches"]:
            never.append(f"{short}:{abs(start)} to {'the end' if end < 0 else end}")
    return {"unit": "branches", "branches": branches, "taken": taken, "never": never, "runs": SAMPLE}
