"""What a world starts from: hardware, hypervisor, boot options, and what a previous kernel left behind."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from hvmodel.hypervisor.policies import DEFAULT, PROFILES, Policies


@dataclass(frozen=True, slots=True)
class PciFunction:
    """One PCI function. ``alias`` is the number of the device whose requester id it uses; ``reserved`` ranges are page numbers."""

    segment: int = 0
    bus: int = 0
    slot: int = 0
    function: int = 0
    group: int = 0
    alias: int | None = None
    owned: bool = False
    reserved: tuple[tuple[int, int], ...] = ()

    @property
    def name(self) -> str:
        """``0000:00:01.0``, as Linux writes it."""
        return f"{self.segment:04x}:{self.bus:02x}:{self.slot:02x}.{self.function}"

    @property
    def requester(self) -> int:
        """segment << 16 | bus << 8 | devfn of the function itself; more than an id holds if it is behind a VMD."""
        return self.segment << 16 | self.bus << 8 | self.slot << 3 | self.function


DEVICES = (
    PciFunction(slot=1, group=0),
    PciFunction(slot=2, group=1),
    PciFunction(slot=3, function=0, group=2),
    PciFunction(slot=3, function=1, group=2),
)
"""Two devices in groups of their own and two functions that share one."""


@dataclass(frozen=True, slots=True)
class Configuration:
    """One world's start.

    ``skip`` and ``no_attdev`` are the boot options ``hv_iommu_skip=`` and ``hv_no_attdev``. ``unique_id`` presets the driver's
    id counter. ``left_domains`` are ids of domains that a previous kernel left in the hypervisor, ``left_devices`` pairs
    (device, domain id) that are still attached there, ``left_deposit`` pages that it deposited. ``iova_width`` is in bits.
    """

    profile: str = "default"
    policies: Policies = DEFAULT
    devices: tuple[PciFunction, ...] = DEVICES
    l1vh: bool = False
    capabilities: bool = True
    iova_width: int = 48
    root_pool: int = 1 << 20
    domain_limit: int = 0
    skip: str = ""
    no_attdev: bool = False
    mshv: bool = True
    unique_id: int = 0
    left_domains: tuple[int, ...] = ()
    left_devices: tuple[tuple[int, int], ...] = field(default=())
    left_deposit: int = 0

    @classmethod
    def of_profile(cls, name: str, **changes: object) -> Configuration:
        """The configuration of a named profile. Raises KeyError for an unknown name."""
        profile = PROFILES[name]
        config = cls(
            profile=name,
            policies=profile.policies,
            l1vh=profile.l1vh,
            capabilities=profile.capabilities,
            root_pool=profile.root_pool,
            domain_limit=profile.domain_limit,
        )
        return replace(config, **changes) if changes else config  # type: ignore[arg-type]

    def speaks_for(self, number: int) -> PciFunction:
        """The function whose requester id the DMA of a device carries: its own or, for an alias, that of the device it names."""
        function = self.devices[number]
        while function.alias is not None:
            function = self.devices[function.alias]
        return function

    def problems(self) -> str | None:
        """Why no world can start from this, in one line, or None."""
        if not 1 <= len(self.devices) <= 64:
            return f"devices: 1 to 64 are possible, not {len(self.devices)}"
        for number, device in enumerate(self.devices):
            if device.alias is not None and not 0 <= device.alias < number:
                return f"devices[{number}].alias: must name an earlier device, not {device.alias}"
            if device.alias is not None and device.group != self.devices[device.alias].group:
                return f"devices[{number}].group: aliases share a group"
            limits = (("segment", 0xFFFFFFFF), ("bus", 0xFF), ("slot", 0x1F), ("function", 7), ("group", 63))
            for name, top in limits:
                if not 0 <= getattr(device, name) <= top:
                    return f"devices[{number}].{name}: 0 to {top}, not {getattr(device, name)}"
        if len({device.name for device in self.devices}) != len(self.devices):
            return "devices: two have the same address"
        if not self.skip.isprintable():
            return f"skip: no boot option has such characters: {self.skip!a}"
        if not 13 <= self.iova_width <= 64:
            return f"iova_width: 13 to 64 bits, not {self.iova_width}"
        if self.l1vh and (self.left_domains or self.left_devices):
            return "left_domains: an L1VH has no device domains"
        for ident in self.left_domains:
            if not 0 < ident < 0xFFFFFFFF:
                return f"left_domains: {ident:#x} is no id of a created domain"
        for number, ident in self.left_devices:
            if not 0 <= number < len(self.devices) or ident not in self.left_domains:
                return f"left_devices: ({number}, {ident}) names no device and domain that exist"
        if not 0 <= self.unique_id <= 0xFFFFFFFF or not 0 <= self.root_pool <= 1 << 30 or self.domain_limit < 0:
            return "unique_id, root_pool or domain_limit is out of range"
        if not 0 <= self.left_deposit <= 1 << 20:
            return f"left_deposit: 0 to {1 << 20} pages, not {self.left_deposit}"
        return None
