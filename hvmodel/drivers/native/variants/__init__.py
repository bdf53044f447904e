"""Variants of ``repaired-c``: one small change of its text each, with the ids of the Python ones where they are the same defect."""

from __future__ import annotations

from hvmodel.drivers.native.variants import crashes, devices, domains, pages, pages_own
from hvmodel.drivers.native.variants.registry import C_ONLY, VARIANTS_C, VariantC

__all__ = ["C_ONLY", "VARIANTS_C", "VariantC", "crashes", "devices", "domains", "pages", "pages_own"]
