"""``repaired``: the driver logic as it should be, with the features of the posted one.

Read as a proposal to the driver's authors. Functions keep the names of the C file where it has one. What differs from the posted
driver says why in one line and names the catalogue entries that it answers, such as (D57); the page is ``../README.md``.
"""

from hvmodel.drivers.repaired.driver import Repaired

__all__ = ["Repaired"]
