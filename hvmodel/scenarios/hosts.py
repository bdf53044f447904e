"""The host: boot, options, hardware, kexec, hotplug."""

from __future__ import annotations

from hvmodel import operations as ops
from hvmodel.configuration import DEVICES
from hvmodel.rules.worlds import ALIASES, BEHIND_VMD, FAR, OWNED
from hvmodel.scenarios.scenario import PAIR, ROOTS, TWO, Scenario, under
from hvmodel.scenarios.steps import BEGINNING, END, MIB, given_back, mapped, taken

_NEXT_KERNEL = (
    *BEGINNING,
    mapped(MIB, 257),
    ops.Kexec(),
    ops.VmCreate(2),
    *taken(vm=2, domain=2),
    mapped(MIB, 257, domain=2),
    *given_back(vm=2, domain=2),
)
_HOST_DOMAINS = (
    ops.Boot(),
    *taken(vm=0),
    *given_back(vm=0),
    *taken(vm=0, domain=2),
    mapped(MIB, 256, domain=2),
    ops.Alloc(3, 0),
    ops.Replace(3, 0),
    ops.Free(2),
    *given_back(vm=0, domain=3),
)

HOSTS: tuple[Scenario, ...] = (
    Scenario("boot", "the host boots with two devices and a pair that shares a group", (ops.Boot(),), changes=under(DEVICES)),
    Scenario(
        "boot-far-slots",
        "the host boots with devices in slots that decimal and hexadecimal call differently; one of them it keeps for itself",
        (ops.Boot(),),
        changes=under(FAR, skip="(0000:3a:1f.7)"),
    ),
    Scenario(
        "boot-skip-list",
        "the administrator keeps two devices for the host, with a blank between them; the third one serves a VM",
        (ops.Boot(), ops.VmCreate(1), *taken(group=1, device=1), *given_back(group=1)),
        changes=under(DEVICES[:3], skip="(0000:00:01.0) (0000:00:03.0)"),
    ),
    Scenario(
        "boot-vmd",
        "one of the devices is behind a VMD, whose PCI segment has more bits than the hypervisor's ids",
        (*BEGINNING, *END),
        changes=under(BEHIND_VMD),
    ),
    Scenario("boot-owned", "the hypervisor keeps one of the devices for itself", (*BEGINNING, *END), changes=under(OWNED)),
    Scenario(
        "long-uptime",
        "a host that has made nearly 2^32 domains makes three more",
        _HOST_DOMAINS,
        profiles=ROOTS,
        changes=under(unique_id=0xFFFFFFFD),
    ),
    Scenario(
        "host-driver", "a process without a VM, such as DPDK, uses a device, and a second domain for it", _HOST_DOMAINS, ROOTS
    ),
    Scenario(
        "kexec", "kexec while a VM runs; the next kernel gives its device to a new VM", _NEXT_KERNEL, changes=under(no_attdev=True)
    ),
    Scenario(
        "kexec-direct",
        "kexec while a VM has a device in its own page table; the hypervisor does not take it back",
        (*BEGINNING, mapped(MIB, 257), ops.Kexec()),
        ROOTS,
    ),
    Scenario(
        "crashed-before",
        "an earlier kernel crashed and left two domains, a device in one of them, and memory; a VM starts, and one more",
        (*BEGINNING, mapped(MIB, 257), *END, ops.VmCreate(2), *taken(vm=2, domain=2), *given_back(vm=2, domain=2)),
        profiles=ROOTS,
        changes=under(TWO, no_attdev=True, left_domains=(1, 2), left_devices=((0, 1),), left_deposit=256),
    ),
    Scenario(
        "hotplug",
        "a device is unplugged and plugged in again, before it serves a VM and after",
        (ops.Boot(), ops.Release(0), ops.Probe(0), ops.VmCreate(1), *taken(), *END, ops.Release(0), ops.Probe(0)),
        changes=under(TWO),
    ),
    Scenario(
        "hotplug-into-use",
        "the second function of a group is plugged in while a VM uses the first",
        (ops.Boot(), ops.Release(1), ops.VmCreate(1), *taken(group=2), ops.Probe(1), *given_back(group=2), ops.VmDelete(1)),
        changes=under(PAIR),
    ),
    Scenario(
        "hotplug-alias",
        "behind a bridge, the second of two functions with one requester id is plugged in while a VM uses the first, and unplugged",
        (
            ops.Boot(),
            ops.Release(2),
            ops.VmCreate(1),
            *taken(group=1, device=1),
            ops.Probe(2),
            ops.Reset(2, by=1),
            *given_back(group=1),
            ops.Release(2),
            ops.Release(1),
        ),
        changes=under(ALIASES),
    ),
    Scenario(
        "surprise-removal",
        "the bus of a device dies without release, and comes back; then a VM takes the device",
        (ops.Boot(), ops.Unplug(0), ops.Probe(0), ops.VmCreate(1), *taken(), *given_back()),
        changes=under(TWO),
    ),
    Scenario(
        "shutdown",
        "a VM is shut down with the host, and all devices are released",
        (*BEGINNING, mapped(MIB, 3), *END, ops.Release(1), ops.Release(0)),
        changes=under(TWO),
    ),
)
