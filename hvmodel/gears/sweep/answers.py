"""What each place can answer instead of success, and why that is worth a run of its own.

A driver treats refusals in classes, so one of each class is enough. What the classes are is what the statuses mean, not
what any driver does with them:

* a refusal that says nothing (0x71, OPERATION_FAILED), once: is the failure seen, undone, told? Until lifted: does what is tried
  again end, and what becomes of that which cannot be undone?
* INVALID_PARAMETER, which ``drivers/hv/hv_common.c:hv_result_to_errno`` makes -EINVAL of, and to the core that means "try another
  domain" (``include/linux/iommu.h:iommu_domain_ops.attach_dev``);
* the answers that mean something at this call: an attach can say that the device has to leave first (0x58), a create that the id is
  taken (0x65) or that there are no more domains (0x38), a delete that the domain is in use (0x19);
* each of the four shortages once, because each asks for another kind of memory, and one of them until lifted, because a hypervisor
  that is never content must not drain the host;
* for a call of many elements: before the first one, after one, in the middle, before the last one. What was done before has to be
  undone or told, and 0, 1 and n - 1 are where counting goes wrong.

A status that would be a lie (a device is "already there" and is not) is no answer of an honest hypervisor and is not tried.
"""

from __future__ import annotations

from collections.abc import Iterator

from hvmodel.faults import KERNEL_SITES, Fault
from hvmodel.gears.sweep.record import Arrival
from hvmodel.hypervisor import abi

FAILED = abi.HV_STATUS_OPERATION_FAILED
SHORT = abi.HV_STATUS_INSUFFICIENT_MEMORY
SHORTAGES = (SHORT, *sorted(abi.SHORTAGE_STATUSES - {SHORT}))

_ATTACHES = ("ATTACH_DEVICE_DOMAIN", "ATTACH_DEVICE")
_MEANT: dict[str, tuple[int, ...]] = {
    **dict.fromkeys(_ATTACHES, (abi.HV_STATUS_INVALID_DEVICE_STATE,)),
    "CREATE_DEVICE_DOMAIN": (abi.HV_STATUS_KEY_ALREADY_EXISTS, abi.HV_STATUS_INSUFFICIENT_DEVICE_DOMAINS),
    "DELETE_DEVICE_DOMAIN": (abi.HV_STATUS_OBJECT_IN_USE,),
}
"""What a call can be told that is about just this call."""

_LASTING = (*_ATTACHES, "DETACH_DEVICE_DOMAIN", "DETACH_DEVICE", "DELETE_DEVICE_DOMAIN")
"""Where a meaning that lasts is a state of its own: the device can never enter, the domain never goes."""

_TAKES_MEMORY = (*_ATTACHES, "CREATE_DEVICE_DOMAIN", "MAP_DEVICE_GPA_PAGES")


def answers(arrival: Arrival) -> Iterator[Fault]:
    """All answers worth trying at an arrival."""
    site, nth, start, elements, _failed = arrival
    if site in KERNEL_SITES:
        yield Fault(site, nth)
        yield Fault(site, nth, times=None)
        return
    if site == "DEPOSIT_MEMORY":
        yield Fault(site, nth, FAILED)
        yield Fault(site, nth, FAILED, times=None)
        yield Fault(site, nth, SHORT, done=max(elements - 1, 0))
        return
    yield Fault(site, nth, FAILED)
    yield Fault(site, nth, FAILED, times=None)
    yield Fault(site, nth, abi.HV_STATUS_INVALID_PARAMETER)
    for status in _MEANT.get(site, ()):
        yield Fault(site, nth, status)
        if site in _LASTING:
            yield Fault(site, nth, status, times=None)
    for status in SHORTAGES if site in _TAKES_MEMORY else (SHORT,):
        yield Fault(site, nth, status)
    if site in _TAKES_MEMORY:
        yield Fault(site, nth, SHORT, times=None)
    yield from _later(site, nth, start, elements)


def _later(site: str, nth: int, start: int, elements: int) -> Iterator[Fault]:
    """The refusals after some elements."""
    middle = (start + elements) // 2
    for done in dict.fromkeys((start + 1, middle, elements - 1)):
        if start < done < elements:
            yield Fault(site, nth, FAILED, done)
    if start < middle < elements:
        yield Fault(site, nth, FAILED, middle, times=None)
        if site in _TAKES_MEMORY:
            yield Fault(site, nth, SHORT, middle)
            yield Fault(site, nth, SHORT, middle, times=None)


def brief(arrival: Arrival) -> Iterator[Fault]:
    """The answers worth trying as one of two: a refusal that says nothing, at once, in the middle, and for good."""
    site, nth, start, elements, _failed = arrival
    if site in KERNEL_SITES:
        yield Fault(site, nth)
        return
    yield Fault(site, nth, FAILED)
    yield Fault(site, nth, FAILED, times=None)
    middle = (start + elements) // 2
    if start < middle < elements:
        yield Fault(site, nth, FAILED, middle)


__all__ = ["answers", "brief"]
