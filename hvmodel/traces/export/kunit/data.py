"""The tables of one trace in the C test: its world, its faults, and what the hypervisor answered."""

from __future__ import annotations

from hvmodel.faults import ALLOC_PAGES, KERNEL_SITES, KZALLOC
from hvmodel.hypervisor import abi
from hvmodel.hypervisor.objects import IN_DEFAULT, IN_NULL, NOWHERE
from hvmodel.hypervisor.policies import status_of
from hvmodel.properties.lifetime import skipped_devices
from hvmodel.traces.export.case import Case
from hvmodel.traces.export.kunit.c_text import number, place, remark, string
from hvmodel.traces.export.kunit.expressible import CHECKS
from hvmodel.traces.export.kunit.script import Answer, Script
from hvmodel.traces.story import hypercall

LEADS = {"default": IN_DEFAULT, "null": IN_NULL, "none": NOWHERE}
_SITES = {KZALLOC: "HVM_SITE_KZALLOC", ALLOC_PAGES: "HVM_SITE_ALLOC_PAGES"}


def tables(case: Case, script: Script, name: str, domains: int, slack: int) -> list[str]:
    """The C objects of a case, the last of which is ``hvm_trace_NAME``."""
    answers = [line for answer in script.answers for line in _answer(answer)]
    faults = _faults(case)
    functions = _functions(case, script)
    left = case.trace.config.left_domains
    found = [f"static const struct hvm_function hvm_functions_{name}[] = {{", *functions, "};", ""]
    if answers:
        found += [f"static const struct hvm_answer hvm_answers_{name}[] = {{", *answers, "};", ""]
    if faults:
        found += [f"static const struct hvm_fault hvm_faults_{name}[] = {{", *faults, "};", ""]
    if left:
        found += [f"static const u32 hvm_left_{name}[] = {{ {', '.join(map(number, left))} }};", ""]
    found += [f"static const struct hvm_trace hvm_trace_{name} = {{"]
    found.append(f"\t.property = &{CHECKS[case.verdict.property or '']},")
    for field, there in (("answers", answers), ("faults", faults), ("functions", functions), ("left", left)):
        if there:
            found += [f"\t.{field} = hvm_{field}_{name},", f"\t.num_{field} = ARRAY_SIZE(hvm_{field}_{name}),"]
    found += [f"\t.num_domains = {domains},", *(f"\t.{line}," for line in _world(case, slack)), "};", ""]
    return found


def _world(case: Case, slack: int) -> list[str]:
    config, policies = case.trace.config, case.trace.config.policies
    lines = []
    if config.l1vh:
        lines += ["l1vh = true"] + (["idle_reaches = true"] if policies.l1vh_idle_reach != "nothing" else [])
    if config.no_attdev:
        lines.append("no_attdev = true")
    if policies.flags_not_readable == "accepted":
        lines.append("write_only = true")
    if config.skip:
        lines.append(f"skip = {string(config.skip)}")
        listed = skipped_devices(config.skip)
        mask = sum(1 << n for n, d in enumerate(config.devices) if (d.segment, d.bus, d.slot, d.function) in listed)
        lines += [f"skipped = {number(mask)}"] if mask else []
    if config.unique_id:
        lines.append(f"newest_id = {number(config.unique_id)}")
    leads = LEADS[policies.direct_detach_leaves] if not config.l1vh else NOWHERE
    elsewhere = status_of(policies.attach_elsewhere)
    lines += [f"detach_leaves = {place(LEADS[policies.detach_leaves])}", f"guest_leaves = {place(leads)}"]
    lines += [f"attach_elsewhere = {elsewhere:#x}"] if elsewhere is not None else []
    return [*lines, f"iova_width = {config.iova_width}", f"slack = {number(slack)}"]


def _functions(case: Case, script: Script) -> list[str]:
    found = []
    for number_, function in enumerate(case.trace.config.devices):
        device = script.world.books.devices[number_].device
        where = script.places[script.world.books.devices[number_].key]
        fields = [f".name = {string(function.name)}"]
        fields.append(f".pci_id = {number(abi.device_id(abi.HV_DEVICE_TYPE_PCI, device.requester & abi.U32))}")
        fields.append(f".logical_id = {number(abi.device_id(abi.HV_DEVICE_TYPE_LOGICAL, device.requester_own & abi.U32))}")
        fields.append(f".place = {place(where)}")
        rest = [f".segment = {number(function.segment & 0xFFFF)}"] if function.segment else []
        rest += [f".bus = {number(function.bus)}", f".devfn = PCI_DEVFN({function.slot}, {function.function})"]
        found.append(f"\t{{ {', '.join(fields)},\n\t  {', '.join(rest)} }},")
    return found


def _faults(case: Case) -> list[str]:
    found = []
    for step in case.steps:
        for fault in step.operation.faults:
            if fault.site in KERNEL_SITES and (fault.site not in _SITES or fault not in step.outcome.fired):
                continue  # nothing failed there in the record
            site = _SITES.get(fault.site) or f"HVCALL_{fault.site}"
            fields = [f".step = {step.number}", f".site = {site}", f".nth = {fault.nth}"]
            fields += [f".status = {fault.status:#x}"] if fault.status else []
            fields += [f".done = {fault.done}"] if fault.done else []
            fields.append(f".times = {'U32_MAX' if fault.times is None else fault.times}")
            found.append(f"\t{{ {', '.join(fields)} }},")
    return found


def _answer(answer: Answer) -> list[str]:
    """What was asked and answered in words, then in bytes."""
    record = hypercall(answer.record)
    words = [answer.record.header[at : at + 8] for at in range(0, len(answer.header), 8)]
    values = [number(int.from_bytes(word[: max(0, len(answer.header) - 8 * at)], "little")) for at, word in enumerate(words)]
    fields = [f".step = {answer.step}", f".control = {number(answer.control)}", f".status = {number(answer.status)}"]
    if answer.place is not None:
        fields.append(f".place = {place(answer.place)}")
    fields += [".refused = true"] if answer.refused else []
    fields += [f".bytes = {len(answer.header)}"]
    return [remark(f"{answer.step}: {record.line}"), f"\t{{ {', '.join(fields)},\n\t  .input = {{ {', '.join(values)} }} }},"]


def room(script: Script) -> int:
    """Bytes that a driver may write behind the input page: for the longest list of pages that a call of the trace asks for."""
    most = max((_pages(play.data) for play in script.plays), default=0)
    return max(0x1000, 8 * most)


def _pages(data: object) -> int:
    size = getattr(data, "size", 0)
    pages = getattr(data, "pages", 0) or getattr(data, "run_pages", 0)
    return int(size >> abi.PAGE_SHIFT if size else pages)


__all__ = ["LEADS", "room", "tables"]
