"""What a failing property means for those who run the machine, and what a finding takes, in words."""

from __future__ import annotations

from collections.abc import Iterator

from hvmodel.callers.levels import LEVELS
from hvmodel.configuration import Configuration
from hvmodel.hypervisor import abi
from hvmodel.hypervisor.policies import DEFAULT, PROFILES, QUESTIONS, describe, differences, status_of
from hvmodel.traces.explain.plain import code, counted, span

SEVERITY = {
    "isolation": "a device reaches memory that it must not, or a guest gets at a device that is not its own",
    "memory": "the kernel's own memory is overwritten, or read after it was freed",
    "availability": "something that should work does not, or does not end",
    "leak": "something is never given back before the host is started again",
    "bookkeeping": "the books of the parties differ: nothing is reached yet that must not be, but what comes next builds on them",
    "contract": "a rule of the kernel or the hypervisor is broken, and no harm is seen yet",
}
"""Each severity in words."""

HARM = {
    "no-stale-mapping": "The kernel unpins these pages and gives them to somebody else. The device can still read and write them "
    "by DMA, and so can the guest that drives the device.",
    "no-foreign-attach": "The DMA of the device goes through page tables that nobody chose for it: whoever drives the device "
    "reaches the memory behind them, which can be that of another guest or of the host.",
    "touches-only-its-own": "Mappings or attachments of somebody who has nothing to do with this call vanish or move under its "
    "feet.",
    "blocked-is-blocked": "The kernel relies on this when a device changes hands or is reset. It still reaches memory, and "
    "whoever drove it last can use that.",
    "replace-has-no-gap": "A device that does DMA meanwhile, by itself or because a guest makes it, does it in a place that "
    "neither the old nor the new owner chose; in the default domain that is all of the host's memory.",
    "ids-are-unique": "Two domains with one id are one domain to the hypervisor: devices of one reach the memory of the other. "
    "The reserved ids name the domains in which a device reaches everything, or nothing.",
    "device-names-are-unique": "What is asked for one device happens to another: who is given the one gets the DMA of the other.",
    "input-page-bounds": "Whatever the kernel has behind this CPU's hypercall page is overwritten with frame numbers, which a "
    "user of VFIO has a say in.",
    "no-use-after-free": "That memory can belong to something else by now: the kernel acts on what others wrote there, or crashes.",
    "no-null-dereference": "The kernel oopses.",
    "no-uninitialised-read": "What is answered depends on what happened to be in a register or on the stack.",
    "no-lost-mapping": "DMA that the device is told to do faults or goes to other memory: data is lost, and a guest's device "
    "stops working.",
    "shortage-is-survivable": "A VM does not start or a device cannot be attached, although a few pages of memory would have done.",
    "legal-requests-work": "A VM does not start, or its device does not work, for no reason.",
    "every-call-ends": "A CPU does not come back from the driver, with locks held: a soft lockup, and the host hangs sooner or "
    "later.",
    "allocation-recovers": "After one failure no domain can be allocated again: no device can be passed through until the host "
    "restarts.",
    "options-are-honoured": "Who started this kernel asked for a device to be left alone, or to be taken, and it is not.",
    "free-frees-all": "Each time costs the host memory, or the hypervisor a domain, of which there are not many. A domain that "
    "stays keeps its mappings.",
    "nothing-is-left": "Each time costs the host memory, or the hypervisor a domain, until the host restarts.",
    "tree-matches-hypervisor": "The driver works by its tree: what it does not have there it will never unmap, and what is only "
    "there it reports as mapped.",
    "lookup-matches-caller": "VFIO unpins the pages that iova_to_phys names: a wrong answer unpins the wrong ones, or none.",
    "count-matches": "The driver decides by this count whether a domain is in use: too high and it is never freed, too low and it "
    "is freed while a device is in it.",
    "pointer-matches": "The driver decides by this pointer where a device has to be taken from: it goes to the wrong place, or "
    "follows it into memory that is free.",
    "map-result": "The caller acts on the answer: after an error it gives the memory to others, after a success it lets the "
    "device use it.",
    "unmap-honest": "The caller acts on the number: it gives memory away that the device still reaches, or forgets mappings that "
    "are there.",
    "unmap-total": "The callers count on it: iommufd warns, VFIO's account of pinned pages goes wrong.",
    "failed-attach-keeps-old": "The core believes the device to be where it was before, and puts nothing right: it is somewhere "
    "else.",
    "static-domains-always-attach": "The core has no other way out: it ignores the failure and frees the domain in which the "
    "device still is.",
    "release-parks": "Nobody is responsible for the device any more, and its DMA still goes to where it was last.",
    "failure-is-visible": "Nobody learns that the hypervisor refused: neither the caller nor whoever reads the log.",
    "control-word-valid": "The hypervisor refuses such a call, or does something else than was meant.",
    "names-existing-things": "The hypercall does nothing, or it hits what bears that name by now.",
    "no-sleep-in-atomic": "Sleeping there can dead-lock the CPU, or lets others in where the lock was to keep them out.",
    "gfp-is-used": "An allocation that is stricter than its caller fails without need; one that is laxer sleeps where it must not.",
    "context-is-balanced": "Lockdep warns, and what the lock or the disabled interrupts were to protect is not protected.",
    "permissions-match": "The device can write where it may only read, or cannot do what it was allowed to.",
    "advertised-is-true": "The core hands out addresses that do not work: DMA to them is refused or never arrives.",
    "errors-say-what": "The caller draws the wrong conclusion: it gives up where it could go on, or tries again without end.",
    "ready-before-visible": "Others can use it before it is set up, or after its setup has failed.",
}
"""What a device, a guest or the host gets from a failure, by property. Of one that is not here only the severity is told."""

_CALLERS = {
    "kernel": "each request is as VFIO and iommufd make it",
    "contract": "as include/linux/iommu.h allows it; VFIO and iommufd do not do this today",
    "beyond": "as no correct caller does it, but the IOMMU core passes it on without looking",
}


def callers(level: int) -> str:
    """Who calls like this; ``level`` is an index into ``callers.levels.LEVELS``."""
    return _CALLERS[LEVELS[level]]


def assumptions(config: Configuration) -> tuple[str, ...]:
    """The answers to open questions about the hypervisor that a start gives and that are not the likely ones."""
    found = []
    for name, answer in differences(config.policies).items():
        spelled = f", that is {_status(answer)}" if status_of(answer) is not None else ""
        odd = "; no honest hypervisor does this" if answer in QUESTIONS[name].adversarial else ""
        found.append(f"{describe(name, answer)}{spelled}, where {_status(getattr(DEFAULT, name))} is most likely{odd}")
    return tuple(found)


def _status(answer: str) -> str:
    status = status_of(answer)
    return answer if status is None else f"{answer} {abi.status_name(status)}"


def beginning(config: Configuration) -> tuple[str, ...]:
    """What the world starts from: devices, and whatever is not as usual."""
    return tuple(_beginning(config))


def _beginning(config: Configuration) -> Iterator[str]:
    shown = [f"{device.name} in group {device.group}" for device in config.devices[:8]]
    more = len(config.devices) - len(shown)
    yield f"{counted(len(config.devices), 'device')}: {', '.join(shown)}" + (f" and {more} more" if more else "")
    for device in config.devices[:8]:
        if device.alias is not None:
            yield f"{device.name} does its DMA under the name of {config.speaks_for(config.devices.index(device)).name}"
        if device.owned:
            yield f"{device.name} belongs to the hypervisor"
        if device.reserved:
            yield f"firmware reserves {counted(len(device.reserved), 'range')} for {device.name}"
    profile = PROFILES.get(config.profile)
    if config.profile == "default":
        yield "the hypervisor answers as today's most likely does"
    elif config.profile != "l1vh" or not config.l1vh:
        yield f"the hypervisor's profile is {config.profile}" + (f": {profile.summary}" if profile else "")
    plain = Configuration()
    if config.l1vh:
        yield "Linux is an L1VH, a root inside a VM: it has no device domains, only guests that devices can be attached to"
    if not config.capabilities:
        yield "the hypervisor has no GET_IOMMU_CAPABILITIES"
    if config.iova_width != plain.iova_width:
        yield f"I/O addresses have {config.iova_width} bits"
    if config.root_pool != plain.root_pool:
        yield (
            f"the hypervisor has {span(config.root_pool)} to work with"
            if config.root_pool
            else "the hypervisor has no memory to spare"
        )
    if config.domain_limit:
        yield f"at most {counted(config.domain_limit, 'domain')} can be created"
    if config.skip:
        yield f"boot option hv_iommu_skip={code(config.skip)}"
    if config.no_attdev:
        yield "boot option hv_no_attdev"
    if not config.mshv:
        yield "the mshv module, which knows the VMs, is not there"
    if config.unique_id:
        yield f"the driver's counter of domain ids stands at {config.unique_id:#x}, as after a long time"
    if config.left_domains:
        shown = [f"{ident:#x}" for ident in config.left_domains[:4]]
        more = len(config.left_domains) - len(shown)
        yield f"an earlier kernel left the domains {', '.join(shown)}" + (f" and {more} more" if more else "")
    for number, ident in config.left_devices[:4]:
        yield f"it left {config.devices[number].name} in domain {ident:#x}"
    if config.left_deposit:
        yield f"an earlier kernel left {span(config.left_deposit)} with the hypervisor"


__all__ = ["HARM", "SEVERITY", "assumptions", "beginning", "callers"]
