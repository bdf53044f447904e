"""``python -m hvmodel.traces.export.c``: the compiler flags for an exported C program, on one line; ``--plain``: unwatched."""

from __future__ import annotations

import shlex
import sys
import tempfile
from pathlib import Path

from hvmodel.drivers.native.build import HERE, INCLUDE
from hvmodel.drivers.native.errors import NativeError
from hvmodel.drivers.native.toolchain import find_compiler

KERNEL = ("-std=gnu11", "-g", "-O1", "-w", "-fno-strict-aliasing", "-fwrapv", "-funsigned-char", "-fno-delete-null-pointer-checks")
WATCHED = ("-fsanitize=address,undefined", "-fno-omit-frame-pointer")


def flags(plain: bool = False) -> list[str]:
    """Flags, folders and the runtime's file. What watches memory is left out where the compiler cannot link it."""
    here = Path(__file__).parent
    watched = () if plain or not _links() else WATCHED
    return [*KERNEL, *watched, "-I.", f"-I{INCLUDE}", f"-I{HERE / 'runtime'}", f"-I{here}", str(here / "alone.c")]


def _links() -> bool:
    try:
        compiler = find_compiler()
    except NativeError:
        return False
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "t.c").write_text("int main(void) { return 0; }\n", encoding="ascii")
        return compiler.run([*WATCHED, "t.c", "-o", "t"], Path(folder)).returncode == 0


if __name__ == "__main__":
    print(shlex.join(flags("--plain" in sys.argv[1:])))
