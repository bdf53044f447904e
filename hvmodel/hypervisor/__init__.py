"""The reference model of the hypervisor. It knows nothing of Linux."""

from hvmodel.hypervisor.model import Hypervisor
from hvmodel.hypervisor.objects import IN_DEFAULT, IN_NULL, NOWHERE, Device, Place, Refusal
from hvmodel.hypervisor.policies import DEFAULT, PROFILES, QUESTIONS, Policies, Profile

__all__ = [
    "DEFAULT",
    "IN_DEFAULT",
    "IN_NULL",
    "NOWHERE",
    "PROFILES",
    "QUESTIONS",
    "Device",
    "Hypervisor",
    "Place",
    "Policies",
    "Profile",
    "Refusal",
]
