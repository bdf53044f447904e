"""What the driver allocates, and its constants."""

from __future__ import annotations

from hvmodel.hypervisor import abi
from hvmodel.hypervisor.abi import HV_PARTITION_ID_INVALID, HV_STATUS_DEVICE_ALREADY_IN_DOMAIN
from hvmodel.kernel.interval_tree import IntervalTree, IntervalTreeNode
from hvmodel.kernel.iommu import Device, Geometry, IommuDomain
from hvmodel.kernel.services import SpinLock
from hvmodel.kernel.slab import SlabObject

SZ_4K = 0x1000
SZ_1M = 0x100000
HV_IOMMU_PGSIZES = SZ_4K | SZ_1M

HV_DEFAULT_IOVA_WIDTH = 48
"""Bits that are announced where the hypervisor does not say: a 4-level second-stage table."""

HV_MSI_WINDOW = (0xFEE00000, 0xFEEFFFFF)
"""Writes to it are interrupts, whatever is mapped there. (D98)"""

HV_DEPOSIT_PAGES_MAP = 256
HV_DEPOSIT_PAGES_CONTIGUOUS = 8
"""What a contiguous shortage asks for (mail "hv_deposit_memory_node", Feb 2026)."""

HV_IDLE_DEPOSITS = 16
HV_MAX_DEPOSITS = 28
"""Deposits in a row that change nothing, and deposits in all, after which a call gives up with -ENOMEM; a map may make one more
for each 256 pages. (D11)"""

HV_ID_TRIES = 8
"""Ids that one allocation tries; the next one goes on behind them."""

HV_DEAD_AT_ONCE = 24
"""How many domains that could not be deleted one call tries again."""

HV_STATIC_TRIES = 3
"""How often a move that must not fail is tried. (D61)"""

HV_MUST_LEAVE = (
    HV_STATUS_DEVICE_ALREADY_IN_DOMAIN,
    abi.HV_STATUS_INVALID_DEVICE_STATE,
    abi.HV_STATUS_OBJECT_IN_USE,
)
"""How an attach says that the device has to leave the place where it is first."""

HV_NOT_THERE = (abi.HV_STATUS_INVALID_PARTITION_ID, abi.HV_STATUS_INVALID_DEVICE_ID)
"""How a detach from a guest says that the guest, or the device in it, is gone."""

HV_ID_TAKEN = (abi.HV_STATUS_KEY_ALREADY_EXISTS, abi.HV_STATUS_OBJECT_IN_USE)


class HvDomain(SlabObject):
    """``struct hv_domain``. ``partid`` is the guest of a direct-attach domain, noted when it is allocated: who attaches, detaches
    or frees later does not matter. (D54, D55, D56)"""

    EMBEDDED = frozenset({"iommu_dom"})
    __slots__ = ("domid_num", "iommu_dom", "mappings_lock", "mappings_tree", "num_attchd", "partid")

    def __init__(self) -> None:
        self.iommu_dom = IommuDomain(self)
        self.domid_num = 0
        self.num_attchd = 0
        self.partid = HV_PARTITION_ID_INVALID
        self.mappings_lock = SpinLock("mappings_lock")
        self.mappings_tree = IntervalTree()

    @property
    def attached_dom(self) -> bool:
        """Whether devices in it use the guest's own page table."""
        return bool(self.partid != HV_PARTITION_ID_INVALID)


class HvIommuMapping(SlabObject):
    """``struct hv_iommu_mapping``: one run of pages that the hypervisor has."""

    __slots__ = ("iova", "paddr")

    def __init__(self) -> None:
        self.paddr = 0
        self.iova = IntervalTreeNode(container=self)


class HvDevice(SlabObject):
    """``struct hv_iommu_dev``, one for each probed function: what the private pointer names from probe to release, so that it need
    not be set anywhere else. (D81)

    ``domain`` is where the hypervisor has the device by its last answer, None if that is not known; ``adrift`` says that it was
    detached and then refused everywhere, ``by_alias`` that the answer was for another function with the same id, ``logical`` by
    which id the guest knows the device if a guest has it. ``released`` is set when Linux is done with the function; such an object
    lives on only while the hypervisor refuses to take the device out of a domain.
    """

    __slots__ = ("adrift", "by_alias", "domain", "logical", "pdev", "released")
    pdev: Device

    def __init__(self) -> None:
        self.domain: HvDomain | None = None
        self.adrift = False
        self.by_alias = False
        self.logical = 0
        self.released = False


class Deposits:
    """How many deposits the running call may still make, for the call as a whole."""

    __slots__ = ("idle", "left")

    def __init__(self, npages: int = 0) -> None:
        self.idle = HV_IDLE_DEPOSITS
        self.left = min(HV_MAX_DEPOSITS + npages // 256, 64)

    def progress(self) -> None:
        """Something was done since the last deposit."""
        self.idle = HV_IDLE_DEPOSITS

    def take(self) -> bool:
        """Whether one more may be made."""
        if not self.idle or not self.left:
            return False
        self.idle -= 1
        self.left -= 1
        return True


def to_hv_domain(domain: IommuDomain) -> HvDomain:
    """``container_of(d, struct hv_domain, iommu_dom)``."""
    container: HvDomain = domain.container
    return container


def aperture(width: int) -> Geometry:
    """The geometry of an address width in bits. (D100)"""
    return Geometry(aperture_start=0, aperture_end=(1 << width) - 1, force_aperture=True)
