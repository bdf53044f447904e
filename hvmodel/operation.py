"""What every operation has."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from hvmodel.faults import Fault


@dataclass(frozen=True, slots=True)
class Operation:
    """What every operation has: a kind, and the faults to inject while it runs."""

    kind: ClassVar[str] = ""
    faults: tuple[Fault, ...] = field(default=(), kw_only=True)
