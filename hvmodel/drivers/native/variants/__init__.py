"""Variants of ``repaired-c``: one small change of its text each, with the ids of the Python ones where they are the same defect."""

from __future__ import annotations

from hvmodel.drivers.native.variants.registry import VARIANTS_C, VariantC

__all__ = ["VARIANTS_C", "VariantC"]
