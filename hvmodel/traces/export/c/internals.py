"""What an exported C program knows of the driver besides its ``iommu_ops``: names of members and variables, as macros.

For a driver that is a C file the compiler and the trial run say them (``drivers/native/traits.py``); for a trace of a Python driver
they are those of the posted series. What a driver does not have is not asked for, and its properties are not put to the test.
"""

from __future__ import annotations

from dataclasses import dataclass

from hvmodel.drivers.native.driver import NativeDriver
from hvmodel.drivers.native.dwarf import Member
from hvmodel.traces.export.case import Case

POSTED = """#define HVM_NEWEST_ID\t\tunique_id
#define HVM_AHEAD\t\t0
#define HVM_ATTACHED(d)\t\t(to_hv_domain(d)->num_attchd)
#define HVM_DOMAIN_ID(d)\t(to_hv_domain(d)->domid_num)
"""


@dataclass(frozen=True, slots=True)
class Internals:
    """The macros; whether attach_dev takes the old domain; headers that the shim does not have; which properties cannot be asked
    for, and why."""

    macros: str
    attach_old: bool = True
    stood_in: tuple[str, ...] = ()
    without: tuple[tuple[str, str], ...] = ()


def internals(case: Case) -> Internals:
    """What is known of a case's driver."""
    driver = case.world.driver
    if not isinstance(driver, NativeDriver):
        return Internals("\n".join([POSTED, *_pointer({}, {}, {}, "struct hv_domain", "iommu_dom", "hv_domain")]))
    traits, dwarf, build = driver.traits, driver.image.dwarf, driver.image.build
    domain = f"struct {traits.domain}"
    inside = next(m.name for m in dwarf.structures[traits.domain] if m.offset == traits.domain_at and m.type == "iommu_domain")
    cast = f"container_of(d, {domain}, {inside})"
    lines = ["static u32 hvm_nothing; /* for what the driver does not have */"]
    without: list[tuple[str, str]] = []

    def member(macro: str, there: Member | None, names: str, what: str) -> None:
        where = "hvm_nothing" if there is None else f"*(u{8 * there.size} *)&{cast}->{there.name}"
        lines.append(f"#define {macro}(d) ({where})")
        if there is None:
            without.extend((name, f"the driver has no {what} that could be read") for name in names.split())

    member("HVM_ATTACHED", traits.count, "count-matches", "attach count")
    member("HVM_DOMAIN_ID", traits.ident, "ids-are-unique", "domain id")
    counter = traits.counter
    newest = next((v for v in dwarf.variables if counter is not None and v.address == counter[0]), None)
    if newest is None or counter is None:
        lines += ["#define HVM_NEWEST_ID hvm_nothing", "#define HVM_AHEAD 0"]
        if case.trace.config.unique_id:
            without.append(("*", "the driver has no id counter that could be set"))
    else:
        lines.append(f"#define HVM_NEWEST_ID {newest.name}")
        lines.append(f"#define HVM_AHEAD {counter[2]}")
    lines += _pointer(traits.pointers, dwarf.structures, dwarf.sizes, domain, inside, traits.domain)
    return Internals("\n".join(lines), build.attach_old, build.stood_in, tuple(without))


def _pointer(
    pointers: dict[int, list[tuple[int, int]]],
    structures: dict[str, list[Member]],
    sizes: dict[str, int],
    domain: str,
    inside: str,
    name: str,
) -> list[str]:
    """A function from the private pointer to the domain that it names: it points to the domain, or to an object that does."""
    lines = ["", "static struct iommu_domain *hvm_domain_of_priv(void *priv)", "{", "\tsize_t size = alone_size(priv);", ""]
    seen = set()
    for struct, members in structures.items():
        if struct == name or sizes[struct] not in pointers:
            continue
        for there in members:
            if not there.pointer or there.type not in (name, "iommu_domain") or struct in seen:
                continue
            seen.add(struct)
            field = f"((struct {struct} *)priv)->{there.name}"
            found = f"&{field}->{inside}" if there.type == name else field
            lines.append(f"\tif (size == sizeof(struct {struct}) && size != sizeof({domain}))")
            lines.append(f"\t\treturn {field} ? {found} : NULL;")
    return [
        *lines,
        f"\tif (size && size != sizeof({domain}))",
        "\t\talone_other_pointer = true; /* to something that the recorded driver does not point to */",
        f"\treturn &(({domain} *)priv)->{inside};",
        "}",
        "#define HVM_DOMAIN_OF(priv) hvm_domain_of_priv(priv)",
    ]


__all__ = ["Internals", "internals"]
