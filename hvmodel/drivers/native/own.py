"""``repaired-c`` and its variants by name: our own driver in C (``repaired/hyperv-iommu.c``), and the file with one change each."""

from __future__ import annotations

import os
import shlex
import shutil
from functools import lru_cache
from pathlib import Path

from hvmodel.drivers.interface import Driver, DriverEntry
from hvmodel.drivers.native.errors import NativeError
from hvmodel.kernel.services import Kernel

NAME = "repaired-c"
SUMMARY = "the repaired driver in C, as a fix proposal in the language of its readers"
SOURCE = Path(__file__).parent / "repaired" / "hyperv-iommu.c"


def is_own(name: str) -> bool:
    """Whether a name is that of our own driver in C, or would be one of its variants."""
    return name == NAME or name.startswith(NAME + "+")


def has_compiler() -> bool:
    """Whether there seems to be a C compiler; costs no process."""
    chosen = shlex.split(os.environ.get("CC", ""))
    return any(shutil.which(command) for command in (chosen[:1] or ["gcc", "clang", "cc"]))


def own_entry(name: str) -> DriverEntry:
    """The registry's entry for our own driver in C or a variant of it; built unless a build is kept.

    Raises KeyError for another name, NativeError in one line if it cannot be built, for one because there is no compiler.
    """
    return _entry(name, *(os.environ.get(key, "") for key in ("CC", "PATH")))


@lru_cache(maxsize=512)
def _entry(name: str, _cc: str, _search: str) -> DriverEntry:
    from hvmodel.drivers.native.own_driver import loader
    from hvmodel.drivers.native.toolchain import find_compiler
    from hvmodel.drivers.native.variants import VARIANTS_C

    try:
        find_compiler()
    except NativeError as error:
        raise NativeError(f"{name}: {error}") from None
    if name == NAME:
        return DriverEntry(NAME, SUMMARY, loader(()))
    variant = VARIANTS_C[name]
    return DriverEntry(name, variant.summary, loader(variant.changes), variant.defect, variant.kind, variant.story)


def own_problem(name: str) -> str | None:
    """Why our own driver in C or a variant of it cannot be had, in one line; None if it can."""
    try:
        own_entry(name)
    except NativeError as error:
        return str(error)
    except KeyError:
        return f"no driver is called {name!r} (repaired-c has the variants of repaired, such as repaired-c+D20, and X01 to X06)"
    return None


def own_variants() -> list[str]:
    """The names of the variants in C; none where there is no compiler."""
    from hvmodel.drivers.native.variants import VARIANTS_C

    return list(VARIANTS_C) if has_compiler() else []


def listed() -> list[DriverEntry]:
    """What a list of drivers shows: the driver, and not its variants; nothing where there is no compiler."""
    return [DriverEntry(NAME, SUMMARY, _load)] if has_compiler() else []


def _load(kernel: Kernel) -> Driver:
    return own_entry(NAME).load(kernel)


__all__ = ["NAME", "SOURCE", "has_compiler", "is_own", "listed", "own_entry", "own_problem", "own_variants"]
