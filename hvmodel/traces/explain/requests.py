"""Operations in words, for somebody who knows the kernel's functions and not our vocabulary."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from hvmodel import operations as ops
from hvmodel.configuration import Configuration
from hvmodel.faults import KERNEL_SITES, Fault
from hvmodel.hypervisor import abi
from hvmodel.traces.explain.plain import counted, ordinal, size, span
from hvmodel.traces.story import Step, errno

_PROTS = {"": "no access", "r": "read only", "w": "write only", "rw": "read and write"}


def request(operation: ops.Operation, config: Configuration) -> str:
    """What is asked for, in one line, without the refusals that come with it."""
    return _WORDS[type(operation)](operation, config)


def _device(number: int, config: Configuration) -> str:
    return config.devices[number].name if number < len(config.devices) else f"device {number}"


def _group(number: int, config: Configuration) -> str:
    names = [device.name for device in config.devices if device.group == number]
    shown = ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")
    return f"group {number} ({shown or 'no device'})"


def _by(operation: Any) -> str:
    return f", by the process of VM {operation.by}" if operation.by else ""


def _process(by: int) -> str:
    return f"The process of VM {by}" if by else "Every host application"


def _memory(operation: Any) -> str:
    how = _PROTS.get(operation.prot, operation.prot) + (", GFP_ATOMIC" if operation.gfp == "atomic" else "")
    return f"iova {operation.iova:#x} to {operation.paddr:#x}, {how}"


def _boot(_op: ops.Boot, config: Configuration) -> str:
    return f"The kernel boots: the driver initialises, registers, and gets {counted(len(config.devices), 'device')} to probe"


def _map(op: ops.Map, _config: Configuration) -> str:
    return f"iommu_map of {span(op.pages)} in domain {op.domain}: {_memory(op)}"


def _map_scattered(op: ops.MapScattered, _config: Configuration) -> str:
    what = f"iommu_map of {counted(op.runs, 'piece')} of {span(op.run_pages)} in domain {op.domain}, one call for each"
    where = f"memory from {op.paddr:#x} on, one every {size(op.stride)}" if op.stride else f"the same memory at {op.paddr:#x}"
    return f"{what}: from iova {op.iova:#x} on without gaps, to {where}"


def _driver_map(op: ops.DriverMap, _config: Configuration) -> str:
    pointer = "" if op.mapped else ", mapped = NULL"
    return f"map_pages called directly, in domain {op.domain}: {op.pgcount} x {op.pgsize:#x} bytes, {_memory(op)}{pointer}"


def _driver_unmap(op: ops.DriverUnmap, _config: Configuration) -> str:
    return f"unmap_pages called directly, in domain {op.domain}: {op.pgcount} x {op.pgsize:#x} bytes from iova {op.iova:#x}"


def _claim(op: ops.Claim, config: Configuration) -> str:
    return f"iommu_group_claim_dma_owner of {_group(op.group, config)}{_by(op)}: its devices go to the blocking domain"


def _disown(op: ops.Disown, config: Configuration) -> str:
    return f"iommu_group_release_dma_owner of {_group(op.group, config)}{_by(op)}: its devices go back to the default domain"


def _attach(op: ops.Attach, config: Configuration) -> str:
    return f"iommu_attach_group: {_group(op.group, config)} to domain {op.domain}{_by(op)}"


def _replace(op: ops.Replace, config: Configuration) -> str:
    return f"iommu_replace_group_handle: {_group(op.group, config)} to domain {op.domain}, from wherever it is{_by(op)}"


def _detach(op: ops.Detach, config: Configuration) -> str:
    where = "to the blocking domain if it has an owner, else to the default one"
    return f"iommu_detach_group of {_group(op.group, config)}{_by(op)}: {where}"


def _reset(op: ops.Reset, config: Configuration) -> str:
    return f"PCI reset of {_device(op.device, config)} (pci_dev_reset_iommu_prepare, _done): blocked, then attached again{_by(op)}"


def _user_memory(op: Any) -> str:
    """Of a map that user space asks for: how much, where, and how it lies."""
    lies = f" in pieces of {counted(op.piece, 'page')}, {counted(op.gap, 'page')} apart" if op.piece and op.gap else ""
    what = "of another device's BAR" if op.mmio else "of memory"
    return f"{span(op.pages)} {what}{lies}: iova {op.iova:#x} to {op.paddr:#x}, {_PROTS.get(op.prot, op.prot)}"


def _vfio_join(op: ops.VfioJoin, config: Configuration) -> str:
    how = ", as Linux 6.12 does it, with its probe for large pages" if op.probe else ""
    return f"VFIO_GROUP_SET_CONTAINER: {_group(op.group, config)} joins VFIO container {op.container}{how}{_by(op)}"


def _iommufd_attach(op: ops.IommufdAttach, config: Configuration) -> str:
    where = f"page table {op.hwpt} of IOAS {op.ioas}" if op.hwpt else f"IOAS {op.ioas}"
    return f"VFIO_DEVICE_ATTACH_IOMMUFD_PT: {_group(op.group, config)} to {where}, bound first if it is not{_by(op)}"


def _ioas_map(op: ops.IoasMap, _config: Configuration) -> str:
    how = ", page by page" if op.small else ""
    how += ", while the kernel is short of memory" if op.short else ""
    return f"IOMMU_IOAS_MAP in IOAS {op.ioas}: {_user_memory(op)}{how}{_by(op)}"


def _ioas_unmap(op: ops.IoasUnmap, _config: Configuration) -> str:
    what = f"{span(op.pages)} from iova {op.iova:#x}" if op.pages else "everything"
    return f"IOMMU_IOAS_UNMAP in IOAS {op.ioas}: {what}"


def _dma_map(op: ops.DmaMap, config: Configuration) -> str:
    who, what = _device(op.device, config), span(op.pages)
    return f"A host driver maps {what} for {who} (dma_map_page): iova {op.iova:#x} to {op.paddr:#x}, {_PROTS.get(op.prot, op.prot)}"


def _msi_map(op: ops.MsiMap, config: Configuration) -> str:
    return f"iommu_dma_prepare_msi for {_device(op.device, config)}: iova {op.iova:#x} to the doorbell at {op.paddr:#x}"


def _vfio_unmap(op: ops.VfioUnmap, _config: Configuration) -> str:
    what = f"{span(op.pages)} from iova {op.iova:#x}" if op.pages else "everything"
    return f"VFIO_IOMMU_UNMAP_DMA in container {op.container}: {what}"


_WORDS: dict[type[ops.Operation], Callable[[Any, Configuration], str]] = {
    ops.Boot: _boot,
    ops.Kexec: lambda op, config: "kexec: a new kernel boots; the old one cleaned nothing up, the hypervisor's state stays",
    ops.Probe: lambda op, config: f"{_device(op.device, config)} is plugged in (iommu_probe_device)",
    ops.Release: lambda op, config: f"{_device(op.device, config)} is unplugged (iommu_release_device)",
    ops.Unplug: lambda op, config: f"The bus of {_device(op.device, config)} dies: the device is gone, release_device never runs",
    ops.VmCreate: lambda op, config: f"VM {op.vm} is created: its VMM process gets a partition",
    ops.VmFinalise: lambda op, config: f"The partition of VM {op.vm} is finalised; its process is still there",
    ops.VmDelete: lambda op, config: f"VM {op.vm} ends: its partition is deleted",
    ops.Claim: _claim,
    ops.Disown: _disown,
    ops.Alloc: lambda op, config: f"iommu_paging_domain_alloc for {_device(op.device, config)}: domain {op.domain}{_by(op)}",
    ops.Free: lambda op, config: f"iommu_domain_free of domain {op.domain}{_by(op)}",
    ops.Attach: _attach,
    ops.Replace: _replace,
    ops.Detach: _detach,
    ops.Reset: _reset,
    ops.Map: _map,
    ops.MapScattered: _map_scattered,
    ops.Unmap: lambda op, config: f"iommu_unmap of {span(op.pages)} in domain {op.domain}: iova {op.iova:#x}",
    ops.Lookup: lambda op, config: f"iommu_iova_to_phys in domain {op.domain}: iova {op.iova:#x}",
    ops.DriverMap: _driver_map,
    ops.DriverUnmap: _driver_unmap,
    ops.VfioJoin: _vfio_join,
    ops.VfioLeave: lambda op, config: f"The last file of {_group(op.group, config)} is closed: it leaves its VFIO container",
    ops.VfioMap: lambda op, config: f"VFIO_IOMMU_MAP_DMA in container {op.container}: {_user_memory(op)}",
    ops.VfioUnmap: _vfio_unmap,
    ops.IommufdAttach: _iommufd_attach,
    ops.IommufdDetach: lambda op, config: f"VFIO_DEVICE_DETACH_IOMMUFD_PT for {_group(op.group, config)}",
    ops.IommufdClose: lambda op, config: f"The device files of {_group(op.group, config)} are closed: iommufd lets go of it",
    ops.HwptAlloc: lambda op, config: f"IOMMU_HWPT_ALLOC for {_device(op.device, config)}: page table {op.hwpt} of IOAS {op.ioas}",
    ops.HwptFree: lambda op, config: f"IOMMU_DESTROY of page table {op.hwpt}",
    ops.IoasMap: _ioas_map,
    ops.IoasUnmap: _ioas_unmap,
    ops.IoasRevoke: lambda op, config: f"The exporter of the dma-buf in IOAS {op.ioas} at iova {op.iova:#x} takes it back",
    ops.AccessPin: lambda op, config: f"A kernel user of IOAS {op.ioas} pins {span(op.pages)} from iova {op.iova:#x}",
    ops.DmaMap: _dma_map,
    ops.DmaUnmap: lambda op, config: f"A host driver unmaps for {_device(op.device, config)} (dma_unmap_page): iova {op.iova:#x}",
    ops.MsiMap: _msi_map,
    ops.Exit: lambda op, config: f"{_process(op.by)} dies: its files are closed in the order of their numbers",
    ops.Recover: lambda op, config: "The end: nothing is refused any more, everything is given back, then all is done once more",
}


def refusal(fault: Fault, fired: int) -> str:
    """``the 1st MAP_DEVICE_GPA_PAGES answers OPERATION_FAILED (0x71) after 16 elements``; ``fired`` is how many answers it
    decided."""
    if fault.times is None:
        which = f"every {fault.site}" if fault.nth == 1 else f"every {fault.site} from the {ordinal(fault.nth)} on"
        which += ", until recovery,"
    elif fault.times > 1:
        which = f"{fault.site}, {fault.times} times from the {ordinal(fault.nth)} on,"
    else:
        which = f"the {ordinal(fault.nth)} {fault.site}"
    what = (
        "fails for want of memory" if fault.site in KERNEL_SITES else f"answers {abi.status_name(fault.status)} ({fault.status:#x})"
    )
    after = f" after {counted(fault.done, 'element')}" if fault.done else ""
    return f"{which} {what}{after}" + ("" if fired else " (never reached)")


def answer(step: Step, over: bool) -> str:
    """What the caller was told and what it may take from that. ``over``: a call of this step never came back."""
    operation, outcome = step.operation, step.outcome
    if over:
        return "none: a call never came back, and the run ends here"
    if not outcome.applied:
        return step.answer if outcome.result else "none: there was nothing to act on"
    told = errno(outcome.result)
    if isinstance(operation, ops.Unmap):
        return _unmapped(outcome.result, operation.pages << 12)
    if isinstance(operation, ops.DriverUnmap):
        return _unmapped(outcome.result, operation.pgsize * operation.pgcount)
    if isinstance(operation, ops.Lookup):
        return f"{outcome.result:#x}" if outcome.result else "0: not mapped"
    if isinstance(operation, ops.Map | ops.MapScattered):
        return f"{told}: it is mapped" if outcome.result == 0 else f"{told}: nothing of it is mapped"
    if isinstance(operation, ops.Detach | ops.Disown) and outcome.result:
        return f"{told}; this must not fail, and the core goes on as if it had not"
    if isinstance(operation, ops.Recover | ops.VmCreate | ops.VmFinalise | ops.VmDelete | ops.Release | ops.Unplug | ops.Free):
        return "done" if outcome.result == 0 else told
    return "0, success" if outcome.result == 0 else told


def _unmapped(told: int, asked: int) -> str:
    if told == 0:
        return "0 bytes: nothing is gone"
    if told == asked:
        return f"{told:#x} bytes: all of it is gone"
    return f"{told:#x} bytes are gone, {'more' if told > asked else 'less'} than the {asked:#x} asked for"


__all__ = ["answer", "refusal", "request"]
