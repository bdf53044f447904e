"""What ordinary lives are put together from."""

from __future__ import annotations

from hvmodel import operations as ops

IOVA = 0x100000000
FRAME = 0x400000000
"""Where memory is mapped from and to: both 1 GiB aligned, so at the same place in every larger page (congruent)."""

MIB = 1 << 20

Operations = tuple[ops.Operation, ...]


def taken(vm: int = 1, group: int = 0, device: int = 0, domain: int = 1) -> Operations:
    """A VMM takes a group: claims it, makes a domain for the device, attaches. ``vm`` 0 is a process without a VM."""
    return (ops.Claim(group, by=vm), ops.Alloc(domain, device, by=vm), ops.Attach(domain, group, by=vm))


def given_back(vm: int = 1, group: int = 0, domain: int = 1) -> Operations:
    """The opposite of :func:`taken`, as ``vfio_iommu_type1.c:vfio_iommu_type1_detach_group`` and the group's release do it."""
    return (ops.Detach(group, by=vm), ops.Free(domain, by=vm), ops.Disown(group, by=vm))


BEGINNING: Operations = (ops.Boot(), ops.VmCreate(1), *taken())
"""The host boots, a VM is created, and takes device 0."""

END: Operations = (*given_back(), ops.VmDelete(1))
"""The device is given back, and the VM deleted."""


def mapped(iova: int, pages: int, domain: int = 1, shift: int = 0, prot: str = "rw", gfp: str = "kernel") -> ops.Map:
    """A map to the same place above :data:`FRAME`, or ``shift`` pages off it: then no page larger than 4 KiB fits."""
    return ops.Map(domain, iova, FRAME + iova % (1 << 30) + (shift << 12), pages, prot, gfp)


def there_and_back(*maps: ops.Map) -> Operations:
    """Maps, and the unmaps of them in the order in which they were mapped."""
    return (*maps, *(ops.Unmap(each.domain, each.iova, each.pages) for each in maps))


__all__ = ["BEGINNING", "END", "FRAME", "IOVA", "MIB", "Operations", "given_back", "mapped", "taken", "there_and_back"]
