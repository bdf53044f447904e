"""The C compiler: which one, and what it is told."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from hvmodel.drivers.native.errors import NativeError

PLAIN = (
    "-std=gnu11",
    "-O1",
    "-g",
    "-gdwarf-4",
    "-fPIC",
    # as the kernel is compiled (its top Makefile)
    "-fno-strict-aliasing",
    "-fwrapv",
    "-fno-delete-null-pointer-checks",
    "-fno-common",
    "-funsigned-char",
    # so that a return address is where the call was
    "-fno-optimize-sibling-calls",
)

DRIVER = (
    "-Werror=implicit-function-declaration",
    "-Werror=incompatible-pointer-types",
    "-Werror=int-conversion",
    "-Werror=implicit-int",
    "-fno-inline",  # so that a line is in the function that it is written in
)

WATCHED = ("-fsanitize=thread",)
"""Every access calls the runtime; no sanitizer runtime is linked."""


EVERY_BLOCK = (("-fsanitize-coverage=trace-pc,no-prune",), ("-fsanitize-coverage=trace-pc",))
"""clang leaves out blocks whose running follows from another's, such as the body of an endless loop; gcc does not."""

QUIET = (("--param=tsan-instrument-func-entry-exit=0",), ("-mllvm", "-tsan-instrument-func-entry-exit=0"))
"""As the kernel's scripts/Makefile.kcsan: entering and leaving functions is of no interest; gcc's way and clang's."""


@dataclass(frozen=True, slots=True)
class Compiler:
    """A compiler that works: how it is called, and its own words for its version."""

    command: tuple[str, ...]
    version: str

    @property
    def is_clang(self) -> bool:
        """Whether it is clang."""
        return "clang" in self.version

    def fill(self, pattern: str) -> tuple[str, ...]:
        """The option that sets every local at its birth to ``pattern`` or ``zero``."""
        if pattern == "zero" and self.is_clang and self._major < 16:
            return ("-ftrivial-auto-var-init=zero", "-enable-trivial-auto-var-init-zero-knowing-it-will-be-removed-from-clang")
        return (f"-ftrivial-auto-var-init={pattern}",)

    def accepts(self, options: tuple[str, ...], where: Path) -> bool:
        """Whether it knows these options."""
        (where / "empty.c").write_text("", encoding="ascii")
        return self.run([*options, "-c", "empty.c", "-o", "empty.o"], where).returncode == 0

    @property
    def _major(self) -> int:
        found = re.search(r"version (\d+)", self.version)
        return int(found[1]) if found else 0

    def run(self, arguments: list[str], where: Path) -> subprocess.CompletedProcess[str]:
        """Call it in a directory; its messages are in English."""
        return subprocess.run(
            [*self.command, *arguments],
            cwd=where,
            env={**os.environ, "LC_ALL": "C"},
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
        )


def find_compiler() -> Compiler:
    """gcc or clang, or what the environment variable CC names; raises NativeError in one line if there is none."""
    return _find(os.environ.get("CC", ""), os.environ.get("PATH", ""))


@lru_cache(maxsize=8)
def _find(chosen: str, _path: str) -> Compiler:
    names = [shlex.split(chosen)] if chosen.strip() else [["gcc"], ["clang"], ["cc"]]
    for command in names:
        if shutil.which(command[0]) is None:
            continue
        said = subprocess.run([*command, "--version"], capture_output=True, text=True, errors="replace", check=False)
        if said.returncode == 0:
            return Compiler(tuple(command), said.stdout.splitlines()[0] if said.stdout else "unknown")
    if chosen.strip():
        raise NativeError(f"CC names {chosen!r}, which is no compiler that runs here; a native driver needs gcc or clang")
    raise NativeError("a native driver needs a C compiler and none was found: install gcc or clang, or name one with CC=")
