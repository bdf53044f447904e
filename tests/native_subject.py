"""The small C driver and its variants, for the tests of the shim."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from hvmodel import operations as ops
from hvmodel.configuration import Configuration
from hvmodel.drivers.native.errors import NativeError
from hvmodel.drivers.native.toolchain import find_compiler
from hvmodel.world import Outcome, World

SMALL = Path(__file__).parent / "native" / "small.c"
SMALL_NAME = f"native:{SMALL}"


def _why_not() -> str:
    try:
        find_compiler()
    except NativeError as error:
        return str(error)
    return ""


needs_compiler = pytest.mark.skipif(bool(_why_not()), reason=_why_not() or "-")
"""For tests that compile; where there is no compiler they are skipped and say why."""


def planted(folder: Path, plant: str, text: str, *more: tuple[str, str]) -> str:
    """The name of a variant of the small driver: ``text`` stands where it says "plant: NAME"; ``more`` are other replacements."""
    source = SMALL.read_text(encoding="utf-8")
    for old, new in ((f"/* plant: {plant} */", text), *more):
        assert source.count(old) == 1, old
        source = source.replace(old, new)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "small.c"
    path.write_text(source, encoding="utf-8")
    return f"native:{path}"


def line_of(name: str, text: str) -> int:
    """The line of a native driver's file that has this text."""
    lines = Path(name.removeprefix("native:")).read_text(encoding="utf-8").splitlines()
    return next(number for number, line in enumerate(lines, 1) if text in line)


def play(name: str, *operations: ops.Operation) -> tuple[World, list[Outcome]]:
    """A world with the driver, booted, and what the operations gave."""
    world = World(Configuration(), name)
    outcomes = [world.apply(operation) for operation in (ops.Boot(), *operations)]
    return world, outcomes


def failed(outcome: Outcome) -> dict[str, str]:
    """The properties that an operation violated, with what they say."""
    return {violation.property: violation.detail for violation in outcome.violations}


MAP_4 = (ops.Alloc(1, 0), ops.Map(1, 0x100000, 0x200000, 4))


def without_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a machine that has none."""
    monkeypatch.setattr(shutil, "which", lambda *_args, **_more: None)
