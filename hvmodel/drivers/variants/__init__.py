"""The variants: drivers that differ from ``repaired`` in exactly one defect, to measure what the harness sees.

Catalogue variants (D..) put one defect of the posted revisions back; found ones (N..) are defects of the posted driver that the
harness found; own ones (O..) are mistakes that a careful author could make.
"""

from hvmodel.drivers.variants import (
    catalogue_devices,
    catalogue_domains,
    catalogue_pages,
    found,
    own_devices,
    own_domains,
    own_pages,
)
from hvmodel.drivers.variants.registry import KINDS, VARIANTS, variant

__all__ = [
    "KINDS",
    "VARIANTS",
    "catalogue_devices",
    "catalogue_domains",
    "catalogue_pages",
    "found",
    "own_devices",
    "own_domains",
    "own_pages",
    "variant",
]
