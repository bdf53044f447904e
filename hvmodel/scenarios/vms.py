"""VMs: their devices come, move, are reset and go, with the guest's own page table and with device domains."""

from __future__ import annotations

from hvmodel import operations as ops
from hvmodel.configuration import DEVICES
from hvmodel.rules.worlds import ALIASES
from hvmodel.scenarios.scenario import EVERYWHERE, L1VHS, ONE, PAIR, ROOTS, TWO, Scenario, under
from hvmodel.scenarios.steps import BEGINNING, END, FRAME, MIB, Operations, given_back, mapped, taken, there_and_back

_MEMORY = there_and_back(mapped(0, 160), mapped(MIB, 768))
_MOVES: Operations = (
    *BEGINNING,
    mapped(MIB, 256),
    ops.Alloc(2, 0, by=1),
    mapped(MIB, 256, domain=2),
    ops.Replace(2, 0, by=1),
    ops.Unmap(1, MIB, 256),
    ops.Replace(1, 0, by=1),
    ops.Free(2, by=1),
    *END,
)
_CRASH: Operations = (*BEGINNING, mapped(MIB, 300), ops.VmDelete(1), ops.Unmap(1, MIB, 300), *given_back(vm=0))
_KILLED_LATE: Operations = (*BEGINNING, mapped(MIB, 300), ops.VmFinalise(1), ops.Detach(0, by=1), ops.Free(1), ops.Disown(0))
_TWO_VMS: Operations = (
    *BEGINNING,
    mapped(MIB, 256),
    ops.VmCreate(2),
    *taken(vm=2, group=1, device=1, domain=2),
    mapped(MIB, 256, domain=2),
    *given_back(),
    ops.Unmap(2, MIB, 256),
    *given_back(vm=2, group=1, domain=2),
)
_NEXT_VM: Operations = (*BEGINNING, *END, ops.VmCreate(2), *taken(vm=2, domain=2), *given_back(vm=2, domain=2), ops.VmDelete(2))
_TWO_DEVICES: Operations = (
    *BEGINNING,
    ops.Claim(1, by=1),
    ops.Attach(1, 1, by=1),
    mapped(MIB, 256),
    ops.Detach(0, by=1),
    ops.Unmap(1, MIB, 256),
    *given_back(group=1),
    ops.Disown(0, by=1),
)
_GROUP: Operations = (
    ops.Boot(),
    ops.VmCreate(1),
    *taken(group=2),
    ops.Reset(1, by=1),
    ops.Alloc(2, 1, by=1),
    ops.Replace(2, 2, by=1),
    *given_back(group=2, domain=2),
    ops.Free(1, by=1),
)
_ALIASES: Operations = (
    ops.Boot(),
    ops.VmCreate(1),
    *taken(group=1, device=1),
    ops.Reset(2, by=1),
    ops.Alloc(2, 2, by=1),
    ops.Replace(2, 1, by=1),
    *given_back(group=1, domain=2),
    ops.Free(1, by=1),
    ops.Release(1),
)
_RESET: Operations = (
    ops.Boot(),
    ops.Reset(0),
    ops.VmCreate(1),
    ops.Claim(0, by=1),
    ops.Reset(0, by=1),
    ops.Alloc(1, 0, by=1),
    ops.Attach(1, 0, by=1),
    ops.Reset(0, by=1),
    *END,
)


def _both(name: str, story: str, operations: Operations, devices: tuple[object, ...] = ONE) -> tuple[Scenario, Scenario]:
    """A life with devices that use their guest's page table, and the same with device domains, which an L1VH does not have."""
    return (
        Scenario(f"{name}-direct", f"{story}; its devices use its own page table", operations, EVERYWHERE, under(devices)),
        Scenario(f"{name}-domain", f"{story}; its devices have domains", operations, ROOTS, under(devices, no_attdev=True)),
    )


VMS: tuple[Scenario, ...] = (
    *_both("vm-life", "a VM starts, maps and unmaps, and ends", (*BEGINNING, *_MEMORY, *END)),
    *_both("vm-crash", "a VM is killed; a worker of the host tears down what it had", _CRASH),
    *_both("vm-finalised", "a VM's partition ends before its process has given its device back", _KILLED_LATE),
    *_both("vm-after-vm", "a VM ends, and the next one takes its device", _NEXT_VM),
    *_both("vm-moves", "a VM moves its device to another domain and back", _MOVES),
    *_both("two-vms", "two VMs with a device each; the first one gives its up", _TWO_VMS, TWO),
    *_both("two-devices", "a VM with two devices in one domain", _TWO_DEVICES, TWO),
    *_both("group-of-two", "a VM gets a group of two devices", _GROUP, PAIR),
    *_both("aliases", "a VM gets two functions behind one requester id", _ALIASES, ALIASES),
    *_both("reset", "a device is reset while it is idle, claimed and used by a VM", _RESET),
    Scenario(
        "surprise-in-guest",
        "on an L1VH the bus of a device dies, and a guest gets it when it is back",
        (ops.Boot(), ops.Unplug(0), ops.Probe(0), ops.VmCreate(1), *taken(), ops.VmDelete(1), *given_back(vm=0)),
        L1VHS,
    ),
    Scenario(
        "host-and-vm",
        "a device serves a VM, then a process without one",
        (*BEGINNING, *END, *taken(vm=0, domain=2), mapped(MIB, 256, domain=2), *given_back(vm=0, domain=2)),
        ROOTS,
    ),
    Scenario(
        "crash-with-mappings",
        "a VMM is killed with memory mapped; its domain is freed as it is",
        (*BEGINNING, mapped(0, 3), mapped(MIB, 512), ops.Detach(0), ops.Free(1), ops.Disown(0), ops.VmDelete(1)),
        ROOTS,
        under(no_attdev=True),
    ),
    Scenario(
        "all-at-once",
        "a VM has four devices in three groups, and memory in two pieces",
        (
            ops.Boot(),
            ops.VmCreate(1),
            *taken(),
            ops.Map(1, 0, FRAME, 160),
            *(step for group in (1, 2) for step in (ops.Claim(group, by=1), ops.Attach(1, group, by=1))),
            ops.Map(1, MIB, FRAME + MIB, 512),
            *(ops.Detach(group, by=1) for group in (2, 1, 0)),
            ops.Free(1, by=1),
            *(ops.Disown(group, by=1) for group in (2, 1, 0)),
            ops.VmDelete(1),
        ),
        ROOTS,
        under(DEVICES, no_attdev=True),
    ),
)
