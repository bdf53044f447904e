"""What every driver under test offers: the ops it registers, and a view of its own books.

A driver is written against :class:`hvmodel.kernel.services.Kernel` and nothing else. The view methods change nothing and are
called by the judges only; a driver that keeps no such book answers None and is not judged by it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

from hvmodel.kernel.interval_tree import IntervalTree
from hvmodel.kernel.iommu import Device, IommuDomain
from hvmodel.kernel.services import Kernel


class Driver:
    """One driver, loaded into one kernel."""

    name: ClassVar[str] = ""
    summary: ClassVar[str] = ""
    defect: ClassVar[str] = ""
    kind: ClassVar[str] = ""
    story: ClassVar[str] = ""

    def __init__(self, kernel: Kernel) -> None:
        self.kernel = kernel

    def setup(self, option: str, value: str) -> int:
        """A boot option's ``__setup`` handler; returns what the handler returns (1: handled)."""
        raise NotImplementedError

    def hv_iommu_detect(self) -> None:
        """The detect hook; on a machine that is for this driver it sets ``kernel.iommu_init``."""
        raise NotImplementedError

    def preset_unique_id(self, value: int) -> None:
        """Start the domain id counter elsewhere than at boot (u32), to reach its end."""
        raise NotImplementedError

    # --- the driver's view --------------------------------------------------------------------------------------------

    def domain_id(self, domain: IommuDomain) -> int | None:
        """The hypervisor id that the driver gave this domain (u32)."""
        return None

    def attach_count(self, domain: IommuDomain) -> int | None:
        """How many devices the driver believes to be attached, or None if it keeps no count."""
        return None

    def tree(self, domain: IommuDomain) -> IntervalTree | None:
        """The driver's tree of mappings (bytes, last address included), or None if it keeps none."""
        return None

    def node_paddr(self, node: Any) -> int:
        """The physical address (bytes) at the start of one of the tree's nodes."""
        raise NotImplementedError

    def pointer_domain(self, device: Device) -> IommuDomain | None:
        """The domain that the driver's private pointer of this device names, or None."""
        return None

    def static_state(self) -> tuple[object, ...]:
        """The state of the driver's static domains that others can see; compared before and after initialisation."""
        return ()


@dataclass(frozen=True, slots=True)
class DriverEntry:
    """A driver in the registry. A variant also says which ``defect`` it has (a catalogue id, or an own one that begins with O), of
    which ``kind`` that is, and its ``story``; all are empty for a driver that is no variant."""

    name: str
    summary: str
    load: Callable[[Kernel], Driver]
    defect: str = ""
    kind: str = ""
    story: str = ""
