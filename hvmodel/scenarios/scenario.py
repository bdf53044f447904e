"""A scenario: a piece of ordinary life in which nothing is refused, as data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType

from hvmodel.configuration import DEVICES, Configuration
from hvmodel.hypervisor.policies import PROFILES
from hvmodel.operations import Operation

ROOTS = tuple(name for name, profile in PROFILES.items() if not profile.l1vh)
"""The profiles in which Linux is the root: it has device domains."""

L1VHS = tuple(name for name, profile in PROFILES.items() if profile.l1vh)
EVERYWHERE = tuple(PROFILES)

ONE, TWO, PAIR = DEVICES[:1], DEVICES[:2], DEVICES[2:]
"""One device; two in groups of their own; two functions that share group 2."""


@dataclass(frozen=True, slots=True)
class Scenario:
    """``story`` is one line. ``changes`` are the fields of the configuration that differ from those of the profile it runs under,
    ``profiles`` the profiles that it makes sense for. The operations begin with boot and are followed by recovery."""

    name: str
    story: str
    operations: Sequence[Operation]
    profiles: tuple[str, ...] = EVERYWHERE
    changes: Mapping[str, object] = field(default_factory=lambda: MappingProxyType({"devices": ONE}))

    def configuration(self, profile: str) -> Configuration:
        """Where it starts under a profile. Raises KeyError for an unknown one."""
        return Configuration.of_profile(profile, **self.changes)


def under(devices: Sequence[object] = ONE, **changes: object) -> Mapping[str, object]:
    """Changes of a configuration: the devices, and what else differs."""
    return MappingProxyType({"devices": tuple(devices), **changes})


__all__ = ["EVERYWHERE", "L1VHS", "ONE", "PAIR", "ROOTS", "TWO", "Scenario", "under"]
