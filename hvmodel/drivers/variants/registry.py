"""How a variant gets its name: ``repaired`` with exactly one defect."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import TypeVar

from hvmodel.drivers.repaired import Repaired

KINDS = ("error path", "ordering", "stale state", "count", "range arithmetic", "encoding", "lifetime", "context")

VARIANTS: dict[str, type[Repaired]] = {}
"""All variants by name, in the order of their definition."""

V = TypeVar("V", bound=type[Repaired])


def variant(defect: str, kind: str, beside: str = "") -> Callable[[V], V]:
    """Make a class of ``repaired`` with one defect a variant.

    ``defect`` is an id of the catalogue (D05-iova0-wipe) or of our own (O05-...); the driver is called ``repaired+D05``. Its story
    is the docstring, whose first line is the summary. ``beside`` names what else it needs to show, if it does not show alone.
    Raises ValueError for a kind that :data:`KINDS` does not have, or a name that is taken.
    """

    def name(cls: V) -> V:
        number = defect.split("-", 1)[0]
        story = inspect.cleandoc(cls.__doc__ or "")
        if kind not in KINDS or f"repaired+{number}" in VARIANTS or not story:
            raise ValueError(f"{defect}: unknown kind {kind!r}, a name that is taken, or no story")
        cls.name, cls.defect, cls.kind = f"repaired+{number}", defect, kind
        cls.summary = story.splitlines()[0].rstrip(".")
        cls.story = story if not beside else f"{story}\n\nShows only beside: {beside}."
        VARIANTS[cls.name] = cls
        return cls

    return name
