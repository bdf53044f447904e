"""How a variant in C is written down: what it is called, and what stands in the file instead of what."""

from __future__ import annotations

from dataclasses import dataclass

from hvmodel.drivers.variants import KINDS, VARIANTS

C_ONLY = "C"
"""The kind of mistakes that only C can make."""


@dataclass(frozen=True, slots=True)
class VariantC:
    """``repaired-c`` with one defect. ``changes`` are pairs of text that stands in the file exactly once, and text that stands
    there instead. ``parts`` says where it does not behave as the Python variant with the same id, or is empty."""

    name: str
    defect: str
    kind: str
    story: str
    changes: tuple[tuple[str, str], ...]
    parts: str = ""

    @property
    def summary(self) -> str:
        """The story's first line."""
        return self.story.splitlines()[0].rstrip(".")

    @property
    def twin(self) -> str | None:
        """The Python variant with the same defect."""
        twin = self.name.replace("repaired-c", "repaired", 1)
        return twin if twin in VARIANTS else None


VARIANTS_C: dict[str, VariantC] = {}
"""All variants by name, in the order of their definition."""


def variant_c(ident: str, *changes: tuple[str, str], parts: str = "") -> None:
    """The C form of a Python variant, such as ``D20``, whose defect, kind and story it shares."""
    twin = VARIANTS[f"repaired+{ident}"]
    _add(VariantC(f"repaired-c+{ident}", twin.defect, twin.kind, twin.story, changes, parts))


def only_c(defect: str, story: str, *changes: tuple[str, str]) -> None:
    """A defect that only C can have, such as ``X01-null``."""
    _add(VariantC(f"repaired-c+{defect.split('-', 1)[0]}", defect, C_ONLY, story, changes))


def _add(variant: VariantC) -> None:
    if variant.name in VARIANTS_C or variant.kind not in (*KINDS, C_ONLY) or not variant.changes:
        raise ValueError(f"{variant.name}: a name that is taken, an unknown kind, or nothing that is changed")
    VARIANTS_C[variant.name] = variant


__all__ = ["C_ONLY", "VARIANTS_C", "VariantC", "only_c", "variant_c"]
