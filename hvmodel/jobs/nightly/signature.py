"""Names for findings that stay the same: over runs, over nights, over sessions of the harness, and readable."""

from __future__ import annotations

import hashlib
import json
import re
from typing import Any

from hvmodel.callers.levels import BEYOND
from hvmodel.jobs.findings import Finding, cause_by
from hvmodel.jobs.hunt import Hit

SIGNATURE = re.compile(r"[a-z0-9-]{1,80}/[A-Za-z0-9_.-]{1,80}/[0-9a-f]{8}")
"""What a signature looks like; it becomes a file's name."""


def signature_of(finding: Finding) -> str:
    """``no-stale-mapping/unmap_pages/3f9a2c1d``: property, driver call, and a hash of what else :attr:`Finding.key` holds."""
    (name, call, shape), sites, beyond, l1vh = finding.key
    return f"{name}/{call or 'none'}/{_short([plain_shape(shape), sorted(sites), beyond, l1vh])}"


def kind_of(hit: Hit) -> str:
    """``no-stale-mapping/unmap_pages/0b73a3af-3f9a2c1d`` for a hit that is not minimised yet: what the search tells apart while it
    runs, so that each night can count how often it met which. Up to the dash it tells causes apart, as far as they show before
    minimising."""
    (name, call, shape), sites, l1vh, refused = hit.signature
    cause = cause_by((name, call, shape), sites, hit.level == BEYOND)
    rest = [plain_shape(shape), sorted(sites), l1vh, refused, hit.level]
    return f"{name}/{call or 'none'}/{_short([plain_shape(cause)])}-{_short(rest)}"


def cause_in(kind: str) -> str:
    """The part of a kind of hit that tells causes apart."""
    return kind.rpartition("-")[0]


def _short(parts: list[Any]) -> str:
    text = json.dumps(parts, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def plain_shape(shape: object) -> Any:
    """A violation's shape as JSON data: tuples as lists; what JSON does not know as text, sets in order."""
    if isinstance(shape, tuple | list):
        return [plain_shape(item) for item in shape]
    if isinstance(shape, set | frozenset):
        return sorted(str(item) for item in shape)
    return shape if isinstance(shape, str | bool | int | float | None) else str(shape)
