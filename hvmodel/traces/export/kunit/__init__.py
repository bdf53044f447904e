"""A KUnit suite: one C file that the driver's C file includes at its end, with a test a trace.

The driver's functions are static, and so is ``hv_do_hypercall()``, an inline function: a static stub of it works only in the unit
that contains the call. So the test is included by the driver (``Documentation/dev-tools/kunit/usage.rst``, "Testing Static
Functions") and calls it through its ``struct iommu_ops``, whatever its functions are called. Above it is the kernel's own
``iommu_map()`` and ``iommu_unmap()``, below it the answers that were recorded.
"""

from __future__ import annotations

import re

from hvmodel import __version__
from hvmodel.properties.catalogue import PROPERTIES
from hvmodel.traces.export.case import Case
from hvmodel.traces.export.kunit.body import Names, body
from hvmodel.traces.export.kunit.c_text import comment, fmt, remark
from hvmodel.traces.export.kunit.data import room, tables
from hvmodel.traces.export.kunit.expressible import CHECKS, KASAN, why_not
from hvmodel.traces.export.kunit.script import CannotPlay, Script, script
from hvmodel.traces.export.kunit.sections import checks, text

_SETUP = """
A KUnit suite made from traces by hvmodel {version}.

The driver's C file includes it at its end:

\t#if IS_ENABLED(CONFIG_HYPERV_IOMMU_KUNIT_TEST)
\t#include "hyperv-iommu-test.c"
\t#endif

What else the tree needs (v6.19 or later, with the driver):

drivers/iommu/Kconfig:
\tconfig HYPERV_IOMMU_KUNIT_TEST
\t        bool "KUnit tests for the Hyper-V IOMMU driver" if !KUNIT_ALL_TESTS
\t        depends on HYPERV_IOMMU && KUNIT=y
\t        default KUNIT_ALL_TESTS

arch/x86/include/asm/mshyperv.h, the second line at the head of hv_do_hypercall():
\t#include <kunit/static_stub.h>
\tKUNIT_STATIC_STUB_REDIRECT(hv_do_hypercall, control, input, output);

at the head of hv_call_deposit_pages() in drivers/hv/hv_proc.c:
\tKUNIT_STATIC_STUB_REDIRECT(hv_call_deposit_pages, node, partition_id, num_pages);

at the head of hv_build_devid_oftype() in arch/x86/hyperv/irqdomain.c:
\tKUNIT_STATIC_STUB_REDIRECT(hv_build_devid_oftype, pdev, type);

at the head of hv_iommu_get_curr_partid() in the driver:
\tKUNIT_STATIC_STUB_REDIRECT(hv_iommu_get_curr_partid);

It runs in any x86 virtual machine that is not on Hyper-V:
\ttools/testing/kunit/kunit.py run --arch=x86_64 \\
\t        --kconfig_add CONFIG_PCI=y --kconfig_add CONFIG_HYPERVISOR_GUEST=y \\
\t        --kconfig_add CONFIG_HYPERV=y --kconfig_add CONFIG_HYPERV_IOMMU_KUNIT_TEST=y \\
\t        'hyperv-iommu*'

A test answers hypercalls as in its record, as long as the driver asks for the same things, and from
then on as its own small hypervisor does. It fails where its property fails.
What it cannot put to the test it skips.
"""

_INTERNALS = """/* What the tests know of the driver besides struct iommu_ops. */
#define HVM_OPS\t\t\thv_iommu_ops
#define HVM_NEWEST_ID\t\tunique_id
#define HVM_NO_ATTDEV\t\thv_no_attdev
#define HVM_SKIP\t\tpci_devs_to_skip
#define HVM_ATTACHED(d)\t\t(to_hv_domain(d)->num_attchd)
#define HVM_DOMAIN_ID(d)\t(to_hv_domain(d)->domid_num)
#define HVM_DOMAIN_OF(priv)\t(&((struct hv_domain *)(priv))->iommu_dom)
#define HVM_RESET()\t\tdo { } while (0)\t/* static state back to what init leaves */"""

_INCLUDES = ("kunit/static_stub.h", "kunit/test.h", "linux/init.h", "linux/iommu.h", "linux/pci.h", "linux/xarray.h")

_CHECKS = "/* --- what must hold --------------------------------------------------------------------------- */"
_TRACES = "/* --- the traces ------------------------------------------------------------------------------- */"

_NO_PAGES = """static const struct iommu_domain_ops *hvm_above(const struct iommu_domain_ops *ops)
{
\treturn ops;
}"""

_PAGE_PLAYS = ("request", "map", "unmap", "lookup")


def render(cases: list[Case]) -> str:
    """The C file of some cases."""
    made = [_made(case) for case in cases]
    functions = _functions(cases)
    names = Names()
    bodies = [
        body(case, found, names, f"hvm_trace_{number}") if found is not None else [f"\tkunit_skip(test, {fmt(why)});"]
        for number, (case, (found, why)) in enumerate(zip(cases, made, strict=True), 1)
    ]
    parts = ["// SPDX-License-Identifier: GPL-2.0", _head(cases)]
    played = [(case, found) for case, (found, _why) in zip(cases, made, strict=True) if found is not None]
    parts += _common(played, names) if played else ["#include <kunit/test.h>"]
    for number, (case, (found, _why), lines) in enumerate(zip(cases, made, bodies, strict=True), 1):
        if found is not None:
            parts.append("\n".join(tables(case, found, str(number), 2 + len(names.known), room(found))).rstrip("\n"))
        parts.append(_function(case, functions[number - 1], lines, _in_init(case) and found is not None))
    return "\n\n".join([*parts, _suite(cases, functions, bool(played), any(map(_in_init, cases)))]) + "\n"


def _made(case: Case) -> tuple[Script | None, str]:
    """The script of a case, or why there is none."""
    why = why_not(case)
    if why:
        return None, why
    try:
        return script(case), ""
    except CannotPlay as error:
        return None, str(error)


def _in_init(case: Case) -> bool:
    """Whether the test calls a function of the init section: the handler of a boot option."""
    return case.verdict.violation is not None and case.verdict.violation.call == "setup"


def _head(cases: list[Case]) -> str:
    lines = [case.headline for case in cases[:20]]
    lines += [f"... and {len(cases) - 20} more"] if len(cases) > 20 else []
    for paragraph in _SETUP.format(version=__version__).strip("\n").split("\n\n"):
        lines += ["", *(paragraph.split("\n") if "\t" in paragraph else [paragraph.replace("\n", " ")])]
    return comment(lines)


def _common(played: list[tuple[Case, Script]], names: Names) -> list[str]:
    """What all tests of the file share, without what none of them needs."""
    pages = any(play.name in _PAGE_PLAYS for _case, script in played for play in script.plays)
    wanted = list(dict.fromkeys(case.verdict.property or "" for case, _script in played))
    chosen = [checks()[name] for name in wanted]
    shared = list(dict.fromkeys(need for _text, need in chosen if need))
    pages = pages or "hvm_pages" in shared
    found = ["\n".join(f"#include <{name}>" for name in _INCLUDES), _INTERNALS, text("world.c")]
    if names.known:
        enumerators = ",\n\t".join([f"{names.known[0]} = HVM_FIRST", *names.known[1:]])
        found.append(f"enum {{\n\t{enumerators},\n}};")
    found += [text("frame.c"), text("pages.c") if pages else _NO_PAGES, text("calls.c")]
    found += [text("requests.c")] if pages else []
    found.append(_CHECKS)
    found += [checks()[name][0] for name in shared]
    for name, (content, _need) in zip(wanted, chosen, strict=True):
        found += [remark(f"{name}: {PROPERTIES[name].claim}", 0), content]
    return [*found, text("end.c"), _TRACES]


def _functions(cases: list[Case]) -> list[str]:
    """A C name for each case, none twice."""
    found: list[str] = []
    for case in cases:
        words = re.sub(r"[^a-z0-9]+", "_", case.name.lower()).strip("_")[:50] or "trace"
        base = name = f"hvm_test_{words}"
        count = 1
        while name in found:
            count += 1
            name = f"{base}_{count}"
        found.append(name)
    return found


def _function(case: Case, name: str, lines: list[str], init: bool) -> str:
    told = comment([f"{case.name}: {case.headline}", *_assumptions(case)])
    kasan = []
    if case.verdict.property in KASAN and len(lines) > 1:
        kasan = ["\tif (!IS_ENABLED(CONFIG_KASAN))", '\t\tkunit_skip(test, "only KASAN sees it: CONFIG_KASAN");']
    head = f"static void {'__init ' if init else ''}{name}(struct kunit *test)"
    return "\n".join([told, head, "{", *kasan, *lines, "}"])


def _assumptions(case: Case) -> list[str]:
    from hvmodel.hypervisor.policies import assumed

    found = assumed(case.trace.config.policies)
    return [f"It assumes {', '.join(found)}."] if found else []


def _suite(cases: list[Case], functions: list[str], played: bool, init: bool) -> str:
    refdata = "__refdata " if init and played else ""
    entries = [f"\tKUNIT_CASE({name})," for name in functions]
    lines = [f"static struct kunit_case {refdata}hvm_cases[] = {{", *entries, "\t{}", "};", ""]
    lines += ["static struct kunit_suite hvm_suite = {", '\t.name = "hyperv-iommu-traces",', "\t.test_cases = hvm_cases,"]
    lines += ["\t.exit = hvm_exit,"] if played else []
    register = "kunit_test_init_section_suite" if init and played else "kunit_test_suite"
    return "\n".join([*lines, "};", f"{register}(hvm_suite);"])


__all__ = ["CHECKS", "render"]
