"""Who may know whom: the oracle and the model below it know no driver, and nothing below knows what stands above it.

Read from the import statements, so that an import inside a function counts as well. Imports for type checking only are
imports all the same.
"""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

import hvmodel

ROOT = Path(hvmodel.__file__).parent
CATALOGUE_ID = re.compile(r"\bD\d\d\d?\b")
"""Entries of the catalogue of defects."""

FORBIDDEN = {
    "hypervisor": ("drivers", "kernel", "callers", "properties", "rules", "gears", "jobs", "traces", "world", "operations"),
    "kernel": ("drivers", "callers", "properties", "rules", "gears", "jobs", "traces", "world", "operations"),
    "properties": ("drivers", "rules", "gears", "jobs", "traces", "world", "operations"),
    "callers": ("drivers", "properties", "rules", "gears", "jobs", "traces"),
    "drivers": ("callers", "properties", "rules", "gears", "jobs", "traces", "world", "operations"),
    "rules": ("drivers", "properties"),
}
"""What a room must not import; ``drivers.interface`` is allowed to callers and properties, see ``ALLOWED``."""

ALLOWED = {
    ("properties", "hvmodel.drivers.interface"),
    ("callers", "hvmodel.drivers.interface"),
    # for type checking only: recovery drives a world
    ("callers", "hvmodel.world"),
    # levels are levels of operations, and operations are plain data
    ("callers", "hvmodel.operations"),
}


def sources(room: str) -> list[Path]:
    """The Python files of a room."""
    found = sorted((ROOT / room).rglob("*.py"))
    assert found, f"hvmodel/{room} is gone; this test protects nothing any more"
    return found


def imports(path: Path) -> set[str]:
    """Every module of hvmodel that a file imports, anywhere in it."""
    names: set[str] = set()
    package = ["hvmodel", *path.relative_to(ROOT).parent.parts]
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join([*base, *([node.module] if node.module else [])])
            names.add(module)
            names.update(f"{module}.{alias.name}" for alias in node.names)
    return {name for name in names if name.split(".")[0] == "hvmodel"}


def known(path: Path, room: str) -> set[str]:
    """The forbidden modules that a file imports."""
    found = set()
    for name in imports(path):
        allowed = any(room == who and (name == what or name.startswith(f"{what}.")) for who, what in ALLOWED)
        parent = any(room == who and what.startswith(f"{name}.") for who, what in ALLOWED)
        if name.split(".")[1:2] and name.split(".")[1] in FORBIDDEN[room] and not allowed:
            if not (parent and name == "hvmodel.drivers" and f"{name}.interface" in imports(path)):
                found.add(name)
    return found


@pytest.mark.parametrize(
    ("room", "path"),
    [(room, path) for room in FORBIDDEN for path in sources(room)],
    ids=lambda value: str(value.relative_to(ROOT)) if isinstance(value, Path) else value,
)
def test_nobody_looks_up(room: str, path: Path) -> None:
    """Calls go down and answers come up; a property that knows a driver, or a model that knows its caller, proves nothing."""
    assert not known(path, room)


def test_the_reader_of_imports_sees_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A check that cannot fail is worse than none: imports in every form are seen."""
    monkeypatch.setattr("test_independence.ROOT", tmp_path)
    (tmp_path / "properties").mkdir()
    path = tmp_path / "properties" / "bad.py"
    path.write_text(
        "import hvmodel.drivers.posted_v0\n"
        "from hvmodel.drivers.interface import Driver\n"
        "def f():\n    from hvmodel import drivers\n    from ..rules import rules\n"
    )
    assert {name for name in imports(path) if "interface" not in name} >= {
        "hvmodel.drivers.posted_v0",
        "hvmodel.drivers",
        "hvmodel.rules.rules",
    }
    assert known(path, "properties") >= {"hvmodel.drivers.posted_v0", "hvmodel.rules.rules"}
    assert "hvmodel.drivers.interface" not in known(path, "properties")


WORDS = [path for room in ("rules", "properties", "callers", "hypervisor", "kernel") for path in sources(room)]


@pytest.mark.parametrize("path", WORDS, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_defect_is_named(path: Path) -> None:
    """Rules and properties are written for no defect: no catalogue id stands in them, not even in a comment.

    The open questions of the hypervisor model have ids of one letter and number as well (D1 to D13); those may stand in its
    own files and where a policy is named.
    """
    text = path.read_text()
    if path.parts[-2] == "hypervisor":
        text = re.sub(r"\bD1[0-3]\b", "", text)
    assert not CATALOGUE_ID.findall(text)


@pytest.mark.parametrize("path", [path for room in ("rules", "properties") for path in sources(room)], ids=lambda p: p.name)
def test_no_variant_is_named(path: Path) -> None:
    """Rules and properties know no driver by name."""
    named = {"posted_v0", "posted-v0", "PostedV0", "repaired", "variant"}
    text = path.read_text()
    assert not {name for name in named if name in text}
