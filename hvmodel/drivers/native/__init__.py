"""Drivers that are C files: ``native:PATH/hyperv-iommu.c`` compiles the file as it is and drives it like every other driver."""

from __future__ import annotations

import os
from functools import lru_cache
from pathlib import Path

from hvmodel.drivers.interface import DriverEntry
from hvmodel.drivers.native.errors import NativeError

PREFIX = "native:"
TREE_VARIABLE = "HVMODEL_KERNEL_TREE"
"""Environment variable that names a kernel tree whose interval tree is used (``--kernel-tree``)."""


def is_native(name: str) -> bool:
    """Whether a driver's name says that it is a C file."""
    return name.startswith(PREFIX)


def native_entry(name: str) -> DriverEntry:
    """The registry's entry for ``native:PATH``. Builds the file unless a build of the same content is kept.

    Raises NativeError, in one line, for a path that cannot be read, a file that does not compile or is not this driver, or if there
    is no compiler.
    """
    path = os.path.expanduser(name.removeprefix(PREFIX))
    try:
        found = os.stat(path)
        stamp = (found.st_ino, found.st_size, found.st_mtime_ns)
    except OSError:
        stamp = (0, 0, 0)  # read_source says what is wrong
    return _entry(name, os.path.abspath(path), stamp, *(os.environ.get(key, "") for key in (TREE_VARIABLE, "CC", "PATH")))


@lru_cache(maxsize=64)
def _entry(name: str, path: str, _stamp: tuple[int, int, int], tree: str, _cc: str, _search: str) -> DriverEntry:
    from hvmodel.drivers.native.build import build
    from hvmodel.drivers.native.driver import NativeLoader

    made = build(Path(path), Path(tree) if tree else None)
    return DriverEntry(name, f"the C file {path}", NativeLoader(made, made.image, made.shadow))


__all__ = ["PREFIX", "TREE_VARIABLE", "NativeError", "is_native", "native_entry"]
