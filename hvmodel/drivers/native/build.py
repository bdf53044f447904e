"""From a driver's C file to an image that can be loaded: one shared object of the unmodified file and the runtime.

The file is compiled as it is, from a copy with the same name, so that the headers beside it in a kernel tree do not get in front of
the stand-ins. What differs between revisions is tried out: a file that does not compile with ``attach_dev(domain, dev, old)`` is
compiled with two arguments; a header that the shim does not have becomes an empty stand-in. Results are kept by content.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

from hvmodel.drivers.native.errors import NativeError
from hvmodel.drivers.native.toolchain import DRIVER, EVERY_BLOCK, PLAIN, QUIET, WATCHED, Compiler, find_compiler

HERE = Path(__file__).parent
INCLUDE = HERE / "include"
RUNTIME = ("memory", "services", "shadow", "entry", "tree", "canon", "python")

TREE_SOURCES = ("lib/rbtree.c", "lib/interval_tree.c")
TREE_HEADERS = (
    "include/linux/rbtree.h",
    "include/linux/rbtree_types.h",
    "include/linux/rbtree_augmented.h",
    "include/linux/interval_tree.h",
    "include/linux/interval_tree_generic.h",
)

STAND_IN = "/* not in the shim: what it declares is missed where it is used */\n#include <asm/mshyperv.h>\n"


@dataclass(frozen=True, slots=True)
class Build:
    """A built driver. ``shadow`` is the same file with zeroed locals, None where the compiler cannot do that."""

    source: Path
    image: Path
    shadow: Path | None
    attach_old: bool
    stood_in: tuple[str, ...]
    compiler: str

    @property
    def name(self) -> str:
        """The C file's name without directories."""
        return self.source.name


def cache_root() -> Path:
    """Where builds are kept."""
    base = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    return Path(base) / "hvmodel" / "native"


def read_source(path: Path) -> bytes:
    """A C file's bytes; raises NativeError for what cannot be one."""
    if path.is_dir():
        raise NativeError(f"{path} is a directory; name the driver's C file in it, such as {path / 'hyperv-iommu.c'}")
    try:
        data = path.read_bytes()
    except OSError as error:
        raise NativeError(f"cannot read {path}: {error.strerror}") from None
    if path.suffix != ".c" or b"\0" in data:
        raise NativeError(f"{path} is no C source file")
    return data


def build(path: Path, kernel_tree: Path | None = None) -> Build:
    """Build a driver, or take it from the cache. Raises NativeError in one line for whatever goes wrong."""
    source = read_source(path)
    compiler = find_compiler()
    local = _local_headers(path, source)
    tree = _tree_files(kernel_tree) if kernel_tree is not None else {}
    key = _key(path.name, source, local, tree, compiler)
    kept = cache_root() / key
    if not (kept / "build.json").exists():
        _make(kept, path, source, local, tree, compiler)
    said = json.loads((kept / "build.json").read_text(encoding="utf-8"))
    shadow = kept / "zeroed.so"
    return Build(
        path, kept / "image.so", shadow if shadow.exists() else None, said["attach_old"], tuple(said["stood_in"]), compiler.version
    )


def _local_headers(path: Path, source: bytes) -> dict[str, bytes]:
    """Headers beside the file that it names in quotes and that are its own: not those that the shim stands in for."""
    found: dict[str, bytes] = {}
    waiting = [source]
    while waiting:
        for raw in re.findall(rb'^[ \t]*#[ \t]*include[ \t]*"([^"\n]+)"', waiting.pop(), re.MULTILINE):
            name = raw.decode(errors="replace")
            header = path.parent / name
            if name in found or (INCLUDE / Path(name).name).exists() or ".." in Path(name).parts or not header.is_file():
                continue
            found[name] = header.read_bytes()
            waiting.append(found[name])
    return found


def _tree_files(tree: Path) -> dict[str, bytes]:
    """The interval tree of a kernel tree."""
    try:
        return {name: (tree / name).read_bytes() for name in (*TREE_SOURCES, *TREE_HEADERS)}
    except OSError as error:
        raise NativeError(f"{tree} is no kernel tree: cannot read {error.filename}: {error.strerror}") from None


def _key(name: str, source: bytes, local: dict[str, bytes], tree: dict[str, bytes], compiler: Compiler) -> str:
    digest = hashlib.sha256()
    ours = [file for folder in (INCLUDE, HERE / "runtime") for file in sorted(folder.rglob("*.[ch]"))]
    parts = [(str(file.relative_to(HERE)), file.read_bytes()) for file in ours]
    parts += [(file.name, file.read_bytes()) for file in (HERE / "build.py", HERE / "toolchain.py")]
    parts += [(name, source), *sorted(local.items()), *sorted(tree.items())]
    parts += [("compiler", f"{compiler.command} {compiler.version}".encode())]
    for label, data in parts:
        digest.update(f"{label} {len(data)}\n".encode())
        digest.update(data)
    return digest.hexdigest()[:32]


def _make(kept: Path, path: Path, source: bytes, local: dict[str, bytes], tree: dict[str, bytes], compiler: Compiler) -> None:
    """Build in a directory of its own and move it into place: whoever looks sees all of it or nothing."""
    try:
        kept.parent.mkdir(parents=True, exist_ok=True)
        work = Path(tempfile.mkdtemp(prefix="build-", dir=kept.parent))
    except OSError as error:
        raise NativeError(f"cannot keep builds in {kept.parent}: {error.strerror} (set XDG_CACHE_HOME)") from None
    try:
        made = _Maker(work, path, source, local, tree, compiler).make()
        (work / "build.json").write_text(json.dumps(made), encoding="utf-8")
        try:
            work.rename(kept)
        except OSError:  # someone else was faster with the same thing
            if not (kept / "build.json").exists():
                raise
    finally:
        shutil.rmtree(work, ignore_errors=True)


class _Maker:
    """One build, in a directory of its own."""

    def __init__(
        self, work: Path, path: Path, source: bytes, local: dict[str, bytes], tree: dict[str, bytes], compiler: Compiler
    ) -> None:
        self.work, self.path, self.tree, self.compiler = work, path, tree, compiler
        self.stood_in: list[str] = []
        self.objects: list[str] = []
        self.folder = work / "tree" / "drivers" / "iommu" / "here"  # deep enough for "../" in front of a header
        self.folder.mkdir(parents=True)
        (self.folder / path.name).write_bytes(source)
        for name, data in local.items():
            place = self.folder / name
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(data)

    def make(self) -> dict[str, object]:
        """Compile and link both images; returns what to remember."""
        fills = all(self.compiler.accepts(self.compiler.fill(pattern), self.work) for pattern in ("pattern", "zero"))
        watched = WATCHED + next((quiet for quiet in QUIET if self.compiler.accepts((*WATCHED, *quiet), self.work)), ())
        every = next((way for way in EVERY_BLOCK if self.compiler.accepts(way, self.work)), ())
        watched += every
        old = self._driver("first.o", watched + (self.compiler.fill("pattern") if fills else ()), None)
        self.objects = self._runtime(old)
        self._link("first.o", "image.so")
        if fills:  # else what was never set is not looked for
            self._driver("second.o", every + self.compiler.fill("zero"), old)
            self._link("second.o", "zeroed.so")
        for file in self.work.glob("*.o"):
            file.unlink()
        for folder in ("tree", "made", "runtime", "kernel"):
            shutil.rmtree(self.work / folder, ignore_errors=True)
        return {"attach_old": old, "stood_in": self.stood_in, "compiler": self.compiler.version}

    def _options(self, old: bool) -> list[str]:
        return [*PLAIN, "-I", str(INCLUDE), "-I", str(self.work / "made"), f"-DHVM_ATTACH_OLD={int(old)}"]

    def _driver(self, target: str, extra: tuple[str, ...], old: bool | None) -> bool:
        """Compile the file; returns whether its attach_dev takes the old domain."""
        failures: list[str] = []
        for choice in (True, False) if old is None else (old,):
            said = self._compile(target, extra, choice)
            if said is None:
                return choice
            failures.append(said)
        raise NativeError(_explain(failures[0], self.path))

    def _compile(self, target: str, extra: tuple[str, ...], old: bool) -> str | None:
        """None, or what the compiler said. Headers that nobody has become stand-ins on the way."""
        arguments = [*self._options(old), *DRIVER, *extra, "-c", self.path.name, "-o", str(self.work / target)]
        while True:
            done = self.compiler.run(arguments, self.folder)
            if done.returncode == 0:
                return None
            missing = re.search(r"(?:fatal )?error: '?([^:'\n]+?)'?(?:: No such file| file not found)", done.stderr)
            if missing is None or not self._stand_in(missing[1]):
                return done.stderr

    def _stand_in(self, name: str) -> bool:
        place = self.folder / name if ".." in Path(name).parts else self.work / "made" / name
        place = Path(os.path.normpath(place))
        if name in self.stood_in or not place.is_relative_to(self.work):
            return False
        self.stood_in.append(name)
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(STAND_IN, encoding="ascii")
        return True

    def _runtime(self, old: bool) -> list[str]:
        """The runtime's objects; the same for all drivers, they are kept as builds are."""
        kept = self.work.parent / f"runtime-{_key(f'{old}', b'', {}, self.tree, self.compiler)}"
        if not kept.exists():
            ready = self.work / "runtime"
            ready.mkdir()
            options = [*PLAIN, "-O2", "-I", str(INCLUDE)]
            options += [f"-DHVM_ATTACH_OLD={int(old)}", f"-DHVM_KERNEL_TREE={int(bool(self.tree))}"]
            for name in RUNTIME:
                self._ours([*options, "-c", str(HERE / "runtime" / f"{name}.c"), "-o", str(ready / f"{name}.o")])
            if self.tree:
                self._kernel_tree(ready)
            with contextlib.suppress(OSError):  # someone else was faster
                ready.rename(kept)
        return sorted(str(file) for file in kept.glob("*.o"))

    def _kernel_tree(self, ready: Path) -> None:
        """The interval tree of a kernel tree, with its own headers."""
        for name, data in self.tree.items():
            place = self.work / "kernel" / name
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(data)
        for source in TREE_SOURCES:
            target = ready / f"kernel-{Path(source).stem}.o"
            include = ["-I", "kernel/include", "-I", str(INCLUDE)]
            self._ours([*PLAIN, "-O2", "-w", *include, "-c", f"kernel/{source}", "-o", str(target)])

    def _ours(self, arguments: list[str]) -> None:
        done = self.compiler.run(arguments, self.work)
        if done.returncode:
            first = next((line for line in done.stderr.splitlines() if "error:" in line), done.stderr.strip()[:200])
            raise NativeError(f"{self.compiler.command[0]} does not compile the runtime: {first}")

    def _link(self, driver: str, target: str) -> None:
        arguments = ["-shared", "-Wl,-Bsymbolic", "-Wl,-z,defs", driver, *self.objects, "-o", target, "-ldl", "-lrt"]
        done = self.compiler.run(arguments, self.work)
        if done.returncode:
            raise NativeError(_explain(done.stderr, self.path))


_UNKNOWN = (
    r"implicit declaration of function '([^']+)'",
    r"[Cc]all to undeclared function '([^']+)'",
    r"use of undeclared identifier '([^']+)'",
    r"'([^']+)' undeclared",
    r"unknown type name '([^']+)'",
    r"no member named '([^']+)'",
    r"invalid application of 'sizeof' to (?:an )?incomplete type '([^']+)'",
    r"incomplete (?:definition of )?type '([^']+)'",
)


def _explain(said: str, path: Path) -> str:
    """One line for what a compiler or linker said."""
    undefined = re.search(rf"(?:{re.escape(path.name)}:(\d+): )?undefined reference to [`']([^'`]+)'", said)
    if undefined is not None:
        if undefined[2] == "hv_iommu_detect":
            return f"{path} is not this driver: it has no hv_iommu_detect()"
        at = f"{path}:{undefined[1]}" if undefined[1] else str(path)
        return f"{at}: the shim has no {undefined[2]}()"
    found = re.search(r"^([^:\n]+):(\d+):(?:\d+:)? (?:fatal )?error: (.+)$", said, re.MULTILINE)
    if found is None:
        return f"{path} does not compile: {(said.strip().splitlines() or ['the compiler gave no reason'])[-1][:300]}"
    file, line, text = found.groups()
    text = re.sub(r" \[-W[^\]]*\]$", "", text)
    place = f"{path}:{line}" if file == path.name else f"{path} ({file}:{line})"
    for pattern in _UNKNOWN:
        missing = re.search(pattern, text)
        if missing is not None:
            return f"{place}: the shim has no {missing[1]} ({text})"
    return f"{place}: does not compile: {text}"
