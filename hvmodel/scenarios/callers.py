"""What user space makes the kernel do: VFIO containers, iommufd, the DMA API, as ordinary life has it.

Names begin with t and a number, as parts of one list. ``by`` 1 is the process of VM 1, whose devices get the guest's own page table
where the driver offers that; a host application (0) gets device domains, and so does a VM whose VMM opens its devices first.
Refusals within a scenario are what the story is about (a replay that fails, a replace that is undone); the sweep adds others.
"""

from __future__ import annotations

from hvmodel import operations as ops
from hvmodel.faults import Fault
from hvmodel.hypervisor.policies import PROFILES
from hvmodel.scenarios.scenario import PAIR, ROOTS, TWO, Scenario, under
from hvmodel.scenarios.steps import FRAME, MIB, Operations

GIB = 1 << 30
PAGE = 0x1000

REFUSED = 0x71
MAP = "MAP_DEVICE_GPA_PAGES"
ATTACH = "ATTACH_DEVICE_DOMAIN"

BAR = 0x3800000000
"""A device's registers, far from any memory."""

ROOMY = tuple(name for name in ROOTS if PROFILES[name].domain_limit == 0)
"""Root profiles in which there may be more than two domains at once."""

MOVING = tuple(name for name in ROOMY if PROFILES[name].policies.attach_elsewhere == "move")
"""Of these, the ones in which an attach is one hypercall, so that the n-th one can be refused."""

DRY = tuple(name for name in ROOTS if PROFILES[name].root_pool)
"""Root profiles in which a map needs no memory first, which an atomic one could not ask for."""

WIDE = tuple(name for name in ROOTS if PROFILES[name].capabilities)
"""Root profiles in which a driver can learn how wide addresses are."""


def _boot(*steps: ops.Operation) -> Operations:
    return (ops.Boot(), *steps)


def _ram(container: int = 1) -> Operations:
    """The guest's memory as a VMM maps it: below 640 KiB, from 1 MiB up, the rest above 4 GiB; 16 MiB in all."""
    return (
        ops.VfioMap(container, 0, FRAME, 160),
        ops.VfioMap(container, MIB, FRAME + MIB, 1792, 512, 512),
        ops.VfioMap(container, 4 * GIB, FRAME + 64 * MIB, 2144),
    )


def _firmware(container: int = 1) -> Operations:
    """The firmware moves its shadow: the piece below 1 MiB is mapped, unmapped, and mapped again elsewhere."""
    shadow = ops.VfioMap(container, 0xC0000, FRAME + 0xC0000, 64)
    return (shadow, ops.VfioUnmap(container, 0xC0000, 64), ops.VfioMap(container, 0xC0000, FRAME + 0x20C0000, 64, prot="r"))


def _areas(ioas: int = 1, by: int = 0) -> Operations:
    """The same in an address space of iommufd; the second area is not congruent to its memory modulo 1 MiB."""
    return (
        ops.IoasMap(ioas, 0, FRAME, 160, by=by),
        ops.IoasMap(ioas, MIB, FRAME + MIB + 5 * PAGE, 768, 100, 3, by=by),
    )


_GUEST = _boot(ops.VfioJoin(), *_ram(), *_firmware())
_PROBED = _boot(ops.VfioJoin(probe=True), *_ram(), *_firmware())
_OPEN = (ops.Boot(), ops.VmCreate(1), ops.VfioJoin(by=1), *_ram())
_REFUSES_JOINING = (Fault(ATTACH, 4, REFUSED),)
"""Of a second group that joins a container: claimed (1), in a domain of its own (2), blocked (3), then into the container's: no."""

VFIO = (
    Scenario("t02-guest-boot", "a VMM opens a device, maps its memory, and the firmware moves its shadow", _GUEST, ROOTS),
    Scenario(
        "t02-vm-first", "the same by a VMM whose VM is there already: the guest's own page table serves", _OPEN, changes=under()
    ),
    Scenario(
        "t03-hotplug",
        "a second device joins the container: its new domain is given up for the one that there is",
        (*_GUEST, ops.VfioJoin(group=1), ops.VfioMap(1, 8 * GIB, FRAME + 96 * MIB, 300), ops.VfioLeave(1)),
        ROOMY,
        under(TWO),
    ),
    Scenario(
        "t04-second-domain",
        "a second device cannot join that domain: everything is replayed into one of its own",
        (
            *_GUEST,
            ops.VfioJoin(group=1, faults=_REFUSES_JOINING),
            ops.VfioMap(1, 8 * GIB, FRAME + 96 * MIB, 300),
            ops.VfioUnmap(1, MIB, 1792),
            ops.VfioUnmap(1, 0, 0),
        ),
        MOVING,
        under(TWO),
    ),
    Scenario(
        "t05-replay-fails",
        "the replay is refused in its third entry: it is unmapped again, also where nothing was mapped; the first device goes on",
        (
            *_GUEST,
            ops.VfioJoin(group=1, faults=(*_REFUSES_JOINING, Fault(MAP, 4, REFUSED, 17))),
            ops.VfioUnmap(1, MIB, 1792),
            ops.VfioMap(1, MIB, FRAME + 128 * MIB, 512),
        ),
        MOVING,
        under(TWO),
    ),
    Scenario(
        "t06-shutdown",
        "everything is unmapped while the device is attached, then it leaves",
        (*_GUEST, ops.VfioUnmap(1, 0, 0), ops.VfioLeave()),
        ROOTS,
    ),
    Scenario("t07-killed", "the VMM is killed: its device is blocked, then its memory is unmapped", (*_GUEST, ops.Exit()), ROOTS),
    Scenario(
        "t07-killed-vm-first", "a VMM is killed that opened its VM first: the VM ends first", (*_OPEN, ops.Exit(1)), changes=under()
    ),
    Scenario(
        "t07-killed-vm-last",
        "a VMM is killed that opened its device first: the device leaves first",
        _boot(ops.VfioJoin(by=1), ops.VmCreate(1), *_ram(), ops.Exit(1)),
        ROOTS,
    ),
    Scenario(
        "t08-newer-leaves",
        "of two domains the newer one leaves with all its mappings, then the older one",
        (*_GUEST, ops.VfioJoin(group=1, faults=_REFUSES_JOINING), ops.VfioLeave(1), ops.VfioUnmap(1, MIB, 1792), ops.VfioLeave(0)),
        MOVING,
        under(TWO),
    ),
    Scenario(
        "t08-older-leaves",
        "of two domains the older one leaves with all its mappings, then the newer one",
        (*_GUEST, ops.VfioJoin(group=1, faults=_REFUSES_JOINING), ops.VfioLeave(0), ops.VfioUnmap(1, MIB, 1792), ops.VfioLeave(1)),
        MOVING,
        under(TWO),
    ),
    Scenario(
        "t12-group-of-two",
        "the second device of a group cannot be attached: the first one goes back, and the group is released",
        _boot(
            ops.VfioJoin(group=2, faults=(Fault(ATTACH, 4, REFUSED),)),
            ops.VfioJoin(group=2),
            ops.VfioMap(1, MIB, FRAME, 16),
            ops.VfioLeave(2),
        ),
        ROOTS,
        under((*TWO, *PAIR)),
    ),
    Scenario(
        "t13-map-refused",
        "a map is refused in the middle of its second chunk, and then its fourth run: all of it is undone",
        _boot(
            ops.VfioJoin(),
            ops.VfioMap(1, 0x101000, FRAME + 0x101000, 1024, faults=(Fault(MAP, 2, REFUSED, 100),)),
            ops.VfioMap(1, 0x101000, FRAME + 0x101000, 1024, 100, 5, faults=(Fault(MAP, 4, REFUSED, 7),)),
            ops.VfioMap(1, 0x101000, FRAME + 0x101000, 1024),
        ),
        ROOTS,
    ),
    Scenario(
        "t15-bar",
        "another device's registers are mapped beside the memory",
        (*_GUEST, ops.VfioMap(1, 0xD0000000, BAR, 4096, mmio=True)),
        ROOTS,
    ),
    Scenario(
        "t17-dirty-unmaps",
        "five mappings are unmapped by one request, as in a live migration",
        _boot(ops.VfioJoin(), *(ops.VfioMap(1, n * MIB, FRAME + 3 * n * MIB, 256) for n in range(5)), ops.VfioUnmap(1, 0, 1280)),
        ROOTS,
    ),
    Scenario(
        "t18-large-page-probe",
        "Linux 6.12: the driver is tried out for large pages, and asked page by page if it unmaps more than it was asked",
        (*_PROBED, ops.VfioUnmap(1, MIB, 1792), ops.VfioLeave()),
        ROOTS,
    ),
    Scenario(
        "t20-hot-unplug",
        "after a VMM was killed its device is unplugged and plugged in again; of a group of two only one is",
        (*_GUEST, ops.Exit(), ops.Release(0), ops.Probe(0), ops.Release(2), ops.VfioJoin(group=2), ops.VfioLeave(2), ops.Probe(2)),
        ROOTS,
        under((*TWO, *PAIR)),
    ),
    Scenario(
        "t21-reset",
        "the device is reset while the guest runs, and mapped memory changes around it",
        (
            *_GUEST,
            ops.Reset(0),
            ops.VfioUnmap(1, MIB, 1792),
            ops.Reset(0),
            ops.VfioMap(1, MIB, FRAME + 128 * MIB, 512),
            ops.VfioUnmap(1, 0, 0),
        ),
        ROOTS,
    ),
    Scenario(
        "t24-last-page",
        "the last page of the address space is mapped and unmapped; on 6.12 it stays until the domain goes",
        _boot(
            ops.VfioJoin(),
            ops.VfioMap(1, (1 << 64) - PAGE, FRAME, 1),
            ops.VfioUnmap(1, (1 << 64) - PAGE, 1),
            ops.VfioLeave(),
            ops.VfioJoin(probe=True),
            ops.VfioMap(1, (1 << 64) - PAGE, FRAME, 1),
            ops.VfioUnmap(1, (1 << 64) - PAGE, 1),
            ops.VfioLeave(),
        ),
        WIDE,
        under(iova_width=64),
    ),
)

_ATTACHED = _boot(ops.IommufdAttach(), *_areas())
_TWO_DOMAINS: Operations = _boot(
    ops.IommufdAttach(1, 0), ops.IoasMap(1, 0, FRAME, 160), ops.HwptAlloc(1, 1, 0), ops.IommufdAttach(1, 1, 1)
)

IOMMUFD = (
    Scenario(
        "t09-attach-then-map",
        "a device is attached to an empty address space, which is filled, emptied and left",
        (*_ATTACHED, ops.IoasUnmap(1, MIB, 768), ops.IommufdDetach(), ops.IommufdClose()),
        ROOTS,
    ),
    Scenario(
        "t10-map-then-attach",
        "an address space is filled, a page table made of it by hand, and only then a device attached",
        _boot(
            *_areas(),
            ops.IommufdAttach(2, 0),
            ops.HwptAlloc(1, 1, 0),
            ops.IommufdAttach(1, 0, 1),
            ops.IoasUnmap(1, 0, 160),
            ops.IommufdDetach(),
            ops.HwptFree(1),
            ops.IommufdClose(),
        ),
        ROOMY,
    ),
    Scenario(
        "t11-replace",
        "a device moves to another address space and back; once that is refused, and the old one goes on",
        (
            *_ATTACHED,
            ops.IoasMap(2, MIB, FRAME + 64 * MIB, 300),
            ops.IommufdAttach(2, 0, faults=(Fault(ATTACH, 1, REFUSED),)),
            ops.IoasMap(1, 8 * MIB, FRAME + 32 * MIB, 64),
            ops.IoasUnmap(1, 0, 160),
            ops.IommufdAttach(2, 0),
            ops.IommufdAttach(1, 0),
            ops.IommufdClose(),
        ),
        MOVING,
    ),
    Scenario(
        "t14-fill-fails",
        "of two domains of an address space the second refuses a piece in the second batch, while memory is short",
        (
            *_TWO_DOMAINS,
            ops.IoasMap(1, MIB, FRAME + MIB, 200, 4, 4, short=True, faults=(Fault(MAP, 70, REFUSED, 2),)),
            ops.IoasMap(1, MIB, FRAME + MIB, 200, 4, 4, short=True),
            ops.IoasUnmap(1, 0, 0),
        ),
        ROOMY,
        under(TWO),
    ),
    Scenario(
        "t14-domain-refused",
        "a page table is made of a full address space, and its second area is refused",
        (*_ATTACHED, ops.HwptAlloc(1, 1, 0, faults=(Fault(MAP, 3, REFUSED, 9),)), ops.HwptAlloc(1, 1, 0), ops.IoasUnmap(1, 0, 0)),
        ROOMY,
    ),
    Scenario(
        "t15-dma-buf",
        "another device's dma-buf is mapped, taken back by its owner, and unmapped later",
        (*_ATTACHED, ops.IoasMap(1, 4 * GIB, BAR, 4096, mmio=True), ops.IoasRevoke(1, 4 * GIB), ops.IoasUnmap(1, 4 * GIB, 4096)),
        ROOTS,
    ),
    Scenario(
        "t16-interrupts",
        "pages for interrupts are mapped while the guest runs, and are there when the domain is freed",
        (*_ATTACHED, ops.MsiMap(0, 0x8000000, 0xFEDC0000), ops.IoasMap(1, 16 * MIB, FRAME + 48 * MIB, 64), ops.IommufdClose()),
        ROOTS,
    ),
    Scenario(
        "t17-kernel-user",
        "pages that a kernel user has pinned stay pinned when the device leaves",
        (*_ATTACHED, ops.AccessPin(1, MIB, 50), ops.IommufdDetach(), ops.IoasUnmap(1, 0, 0)),
        ROOTS,
    ),
    Scenario(
        "t22-v1-interface",
        "an address space is mapped page by page, and pieces of it are unmapped",
        (
            *_ATTACHED,
            ops.IoasMap(1, 4 * GIB, FRAME + MIB, 64, small=True),
            ops.IoasUnmap(1, 4 * GIB + 16 * PAGE, 16),
            ops.IoasUnmap(1, 4 * GIB, 16),
        ),
        ROOTS,
    ),
    Scenario(
        "t23-map-beside-attach",
        "a second device is attached to a page table between the map and the unmap of others",
        (
            *_TWO_DOMAINS,
            ops.IoasMap(1, MIB, FRAME + MIB, 768),
            ops.IommufdAttach(1, 0, 1),
            ops.IoasUnmap(1, 0, 160),
            ops.IommufdClose(1),
            ops.IoasUnmap(1, MIB, 768),
        ),
        ROOMY,
        under(TWO),
    ),
)

HOST = (
    Scenario(
        "t01-boot",
        "the host boots, a device is unplugged and plugged in",
        _boot(ops.Release(0), ops.Probe(0)),
        changes=under((*TWO, *PAIR)),
    ),
    Scenario(
        "t19-streaming",
        "a host driver streams through a paging domain, in atomic context; addresses are used again",
        _boot(
            ops.Alloc(1, 0),
            ops.Attach(1, 0),
            *(
                step
                for n in range(4)
                for step in (
                    ops.DmaMap(0, 0xFFF00000 - n * MIB, FRAME + 17 * n * PAGE, 1 + 5 * n, "r"),
                    ops.DmaMap(0, 0xFF000000, FRAME + 64 * MIB + n * PAGE, 16),
                    ops.DmaUnmap(0, 0xFF000000),
                )
            ),
            *(ops.DmaUnmap(0, 0xFFF00000 - n * MIB) for n in range(4)),
            ops.Detach(0),
        ),
        DRY,
    ),
)

CALLERS = (*HOST, *VFIO, *IOMMUFD)

__all__ = ["CALLERS"]
