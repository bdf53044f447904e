"""A C program of one trace: the driver's C file as it is, the recorded answers below it, the failing check at its end.

The text is the KUnit export's (``../kunit``): the calls, the small hypervisor, the checks. Here it stands on the shim for drivers
that are C files (``hvmodel/drivers/native``) instead of on a kernel, so that a compiler is all that it needs.
"""

from __future__ import annotations

import re
from dataclasses import replace
from functools import cache
from importlib.resources import files

from hvmodel import __version__
from hvmodel import operations as ops
from hvmodel.properties.catalogue import PROPERTIES
from hvmodel.traces.export.c.internals import Internals, internals
from hvmodel.traces.export.case import Case
from hvmodel.traces.export.kunit.body import Names, body
from hvmodel.traces.export.kunit.c_text import comment, number, remark, string
from hvmodel.traces.export.kunit.data import room, tables
from hvmodel.traces.export.kunit.expressible import CHECKS, NEVER, why_not
from hvmodel.traces.export.kunit.script import CannotPlay, Script, script
from hvmodel.traces.export.kunit.sections import checks
from hvmodel.traces.export.kunit.sections import text as shared
from hvmodel.traces.verdict import FAILS

COMMAND = """cc $(python -m hvmodel.traces.export.c) -DDRIVER='"drivers/iommu/hyperv-iommu.c"' THIS.c -o this && ./this"""

_SETUP = (
    "",
    "Made from a trace by hvmodel {version}. Build and run it where DRIVER is found from:",
    "",
    "\t{command}",
    "",
    "The flags name the headers and the runtime of hvmodel/drivers/native and watch memory (-fsanitize=address,undefined); without "
    "that (--plain) a use after free is not put to the test. Nothing but the C library is needed when it runs.",
    "",
    "Exit status: 1 the check fails, 0 it holds, 77 it was not put to the test or is undetermined, 2 the driver crashed otherwise.",
    "",
    "Hypercalls are answered as they were answered when the trace was recorded, as long as the driver asks for the same things in "
    "the same order. From the first that it asks otherwise the program's own small hypervisor answers. A failure is a failure "
    "then, too; if the check holds the result is undetermined (77), not a pass: what the recorded hypervisor would have said is "
    "not known.",
)

_UNSEEN = {
    "device-names-are-unique": "the program's devices have the ids that the trace's have",
    "no-uninitialised-read": "only two builds of the driver side by side show it",
    "ready-before-visible": "the program's IOMMU core probes nothing while the driver registers",
    "failure-is-visible": "the program does not judge the log",
}


@cache
def text(name: str) -> str:
    """One C file of this folder."""
    return (files(__package__) / name).read_text(encoding="utf-8").strip("\n")


def render(cases: list[Case]) -> str:
    """The C file of one case."""
    (case,) = cases
    known = internals(case)
    found, why = _made(case, known)
    head = ["// SPDX-License-Identifier: GPL-2.0", _head(case, known, why)]
    if found is None:
        lines = [f"\tputs({string('TAP version 13')});", f"\tputs({string(f'1..0 # SKIP {why}')});", "\treturn 77;"]
        return "\n\n".join([*head, "#include <stdio.h>", "\n".join(["int main(void)", "{", *lines, "}"])]) + "\n"
    return "\n\n".join([*head, *_program(case, found, known)]) + "\n"


_RULES = ("context-is-balanced", "no-sleep-in-atomic", "gfp-is-used")
"""Properties that the shim's locks and allocator judge, which no KUnit test sees whole."""

_BY_RULE = """static const struct hvm_property hvm_by_rule = {{
\t.name = "{name}",
\t.after_call = hvm_count_calls,
}};"""


def _by_rule(case: Case) -> bool:
    """Whether a case failed by a rule of the kernel that the shim judges and the KUnit checks do not."""
    found = case.verdict
    return found.state == FAILS and found.property in _RULES and bool(why_not(case)) and not why_not(_as_plain(case))


def _as_plain(case: Case) -> Case:
    """The case as if it had failed a property that can always be seen: what else is in the way of it?"""
    return replace(case, verdict=replace(case.verdict, property=_PLAIN, violation=None))


_WATCHED = ("no-use-after-free", "no-out-of-bounds")
"""Properties that nobody sees unless memory is watched."""

_PLAIN = "control-word-valid"


def _made(case: Case, known: Internals) -> tuple[Script | None, str]:
    name = case.verdict.property or ""
    why = f"{name} cannot be seen here: {_UNSEEN[name]}" if name in NEVER and name in _UNSEEN else why_not(case)
    why = "" if _by_rule(case) else why
    why = why or next((reason for other, reason in known.without if other in (name, "*")), "")
    if why:
        return None, why.replace("KUnit test", "program").replace("KUnit", "this program").replace("a test ", "the program ")
    try:
        return script(case), ""
    except CannotPlay as error:
        return None, str(error)


def _head(case: Case, known: Internals, why: str) -> str:
    lines = [case.headline]
    if case.verdict.property:
        lines += ["", f"{case.verdict.property}: {PROPERTIES[case.verdict.property].claim}"]
    lines += ["", *(f"{step.number}. {step.headline}" for step in case.steps)]
    if known.stood_in:
        lines += ["", f"The shim has no {', '.join(known.stood_in)}: put an empty file in its place."]
    if why:
        lines += ["", f"Not put to the test: {why}"]
    return comment([*lines, *(line.format(version=__version__, command=COMMAND) for line in _SETUP)])


def _program(case: Case, found: Script, known: Internals) -> list[str]:
    names = Names()
    lines = body(case, found, names, "hvm_trace_1")
    name = case.verdict.property or ""
    if name in _WATCHED:
        lines.insert(1, '\tif (!ALONE_WATCHED)\n\t\tkunit_skip(test, "only -fsanitize=address sees it");')
    by_rule = _by_rule(case)
    content, need = (_BY_RULE.format(name=name), "") if by_rule else checks()[name]
    boots = next((step.number for step in case.steps if isinstance(step.operation, ops.Boot)), 0)
    parts = [_includes(case, found, known, boots), known.macros]
    parts.append("#if !HVM_ATTACH_OLD\n#define attach_dev(domain, dev, old) attach_dev(domain, dev)\n#endif")
    parts.append(shared("world.c"))
    if names.known:
        enumerators = ",\n\t".join([f"{names.known[0]} = HVM_FIRST", *names.known[1:]])
        parts.append(f"enum {{\n\t{enumerators},\n}};")
    pages = _once(
        shared("pages.c"), "\tret = dom->ops->map_pages(", "\talone_context(false, false, gfp);\n\tret = dom->ops->map_pages("
    )
    parts += [shared("frame.c"), text("reports.c"), pages, shared("calls.c"), shared("requests.c")]
    parts += [checks()[need][0]] if need else []
    parts.append(remark(f"{name}: {PROPERTIES[name].claim}", 0))
    parts.append(_replaced(content, {"hvm_option": text("options.c")}) if "hvm_option(" in content else content)
    parts.append(text("frame.c"))
    parts.append(_replaced(shared("end.c"), {"hvm_check_stub": "", "hvm_activate_stubs": "", "hvm_add_device": ""}))
    table = "\n".join(tables(_as_plain(case) if by_rule else case, found, "1", 2 + len(names.known), room(found))).rstrip("\n")
    parts.append(_once(table, f"&{CHECKS[_PLAIN]}", "&hvm_by_rule") if by_rule else table)
    told = [f"\t{string(step.headline)}," for step in case.steps]
    parts.append("\n".join(["static const char *const hvm_headlines[] = {", *told, "};"]))
    parts += [text("end.c"), "\n".join(["static void hvm_play(struct kunit *test)", "{", *lines, "}"]), text("main.c")]
    return [part for part in parts if part]


def _includes(case: Case, found: Script, known: Internals, boots: int) -> str:
    return "\n".join(
        [
            "#ifndef DRIVER",
            '#error "name the driver\'s C file: -DDRIVER=\'\\"drivers/iommu/hyperv-iommu.c\\"\'"',
            "#endif",
            "#ifndef HVM_ATTACH_OLD",
            f"#define HVM_ATTACH_OLD {int(known.attach_old)} /* attach_dev() is told of the old domain */",
            "#endif",
            "/* The shim has what matters of two headers that lie beside the driver. */",
            "#define __DMA_IOMMU_H",
            "#define __LINUX_IOMMU_PRIV_H",
            "#include DRIVER",
            "#include <asm/mshyperv.h>",
            '#include "alone.h"',
            "",
            "/* What the program knows of the driver besides its iommu_ops. */",
            "#define HVM_OPS (*alone_ops())",
            f"#define HVM_MSHV {int(found.world.kernel.mshv)}",
            f"#define HVM_BOOT_STEP {number(boots)}",
            "#define HVM_RESET() hvm_boot()",
            "static bool hvm_no_attdev;",
            "static char *hvm_skip_list;",
            "#define HVM_NO_ATTDEV hvm_no_attdev",
            "#define HVM_SKIP hvm_skip_list",
            f"static const int hvm_segments[] = {{ {', '.join(number(d.segment) for d in case.trace.config.devices)} }};",
            f"static const char hvm_name[] = {string(f'{case.name}: {case.verdict.property}')};",
        ]
    )


def _once(content: str, old: str, new: str) -> str:
    """A text with another piece in the one place of ``old``; raises ValueError if there is not one."""
    if content.count(old) != 1:
        raise ValueError(f"stands {content.count(old)} times, not once: {old!r}")
    return content.replace(old, new)


def _replaced(content: str, instead: dict[str, str]) -> str:
    """A text with some of its functions exchanged; raises ValueError for one that is not there."""
    for name, new in instead.items():
        pattern = rf"(?:^/\*(?:(?!\*/)[^\n])*\*/\n)?^static [^\n;]*\b{name}\((?:(?!^\}}).*\n)*?^\{{\n(?:.*\n)*?^\}}$"
        content, count = re.subn(pattern, lambda _found, new=new: new, content, count=1, flags=re.MULTILINE)  # type: ignore[misc]
        if not count:
            raise ValueError(f"no function {name} to exchange")
    return content


__all__ = ["COMMAND", "render"]
