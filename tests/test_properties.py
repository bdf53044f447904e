"""Every property has a case in which it fails, and keeps quiet on honest drivers for the same operations.

A check that cannot fail is worse than none. The driver as posted shows most of them; for the others there is a copy of an
honest driver with one thing broken. A property without a case here fails the suite.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from struct import Struct

import pytest
from toy_drivers import HONEST, ExactToy, Toy, ToyDomain, failed, stage

import hvmodel
from hvmodel import operations as ops
from hvmodel.configuration import Configuration
from hvmodel.drivers.interface import Driver
from hvmodel.drivers.posted_v0 import PostedV0
from hvmodel.faults import KZALLOC, Fault
from hvmodel.hypervisor import abi
from hvmodel.hypervisor.policies import Policies
from hvmodel.kernel.iommu import EIO, Device
from hvmodel.properties.catalogue import PROPERTIES, SEVERITIES
from hvmodel.properties.judge import Judge
from hvmodel.world import Outcome

MIB = 1 << 20
MAP, UNMAP = "MAP_DEVICE_GPA_PAGES", "UNMAP_DEVICE_GPA_PAGES"
ATTACH, DETACH, DELETE, CREATE = (f"{verb}_DEVICE_DOMAIN" for verb in ("ATTACH", "DETACH", "DELETE", "CREATE"))


def refused(site: str, status: int = 0x71, done: int = 0, nth: int = 1, times: int | None = 1) -> tuple[Fault, ...]:
    """One fault, as an operation takes it."""
    return (Fault(site, nth, status, done, times),)


# --- honest drivers with one thing broken ------------------------------------------------------------------------------


class RefusesAll(ExactToy):
    """Answers every map with an error, and does nothing else wrong."""

    name = "refuses-all"

    def map_pages(self, *_request: object) -> int:
        return -EIO


class WrongDomain(ExactToy):
    """Maps everything in the domain that was created first."""

    name = "wrong-domain"

    def map_hypercalls(
        self, domain: ToyDomain, iova: int, paddr: int, pages: int, prot: int, gfp: str
    ) -> tuple[int, int]:
        first = ToyDomain(ident=1)
        return super().map_hypercalls(first, iova, paddr, pages, prot, gfp)


class OneTooFar(ExactToy):
    """Writes behind an object, as only a driver in C can; what such a driver's runtime reports of it."""

    name = "one-too-far"

    def map_hypercalls(
        self, domain: ToyDomain, iova: int, paddr: int, pages: int, prot: int, gfp: str
    ) -> tuple[int, int]:
        self.kernel.report("out-of-bounds", "write of 8 byte(s) at 96 of the object of 96 bytes")
        return super().map_hypercalls(domain, iova, paddr, pages, prot, gfp)


class SameName(ExactToy):
    """Calls every device by the same id."""

    name = "same-name"

    def device_id(self, device: Device, kind: int = abi.HV_DEVICE_TYPE_PCI) -> int:
        return abi.device_id(kind, 8)


class Silent(ExactToy):
    """Prints nothing."""

    name = "silent"

    def call(self, code: int, layout: Struct, *values: int, payer: int = 0) -> int:
        printed = len(self.kernel.log)
        status = super().call(code, layout, *values, payer=payer)
        del self.kernel.log[printed:]
        return status


class AlwaysWritable(ExactToy):
    """Gives every mapping all rights."""

    name = "always-writable"

    def map_hypercalls(
        self, domain: ToyDomain, iova: int, paddr: int, pages: int, prot: int, gfp: str
    ) -> tuple[int, int]:
        return super().map_hypercalls(domain, iova, paddr, pages, 3, gfp)


# --- the cases -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Case:
    """Operations after boot on which a driver breaks a property, and the property's name in ``CASES``."""

    operations: Sequence[ops.Operation] = ()
    driver: type[Driver] = PostedV0
    config: Configuration = field(default_factory=Configuration)


ALLOC = ops.Alloc(1)
STUCK = (ALLOC, ops.Attach(1), ops.Detach(faults=refused(ATTACH)), ops.Free(1))
RESTORED = (ALLOC, ops.Alloc(2), ops.Claim(), ops.Attach(1), ops.Replace(2, faults=refused(ATTACH)))
FELL_TO_ANOTHER = (
    ops.VmCreate(1),
    ops.VmCreate(2),
    ops.Claim(),
    ops.Alloc(1, 0, 1),
    ops.Attach(1, 0, 1),
    ops.VmDelete(1),
    ops.Alloc(2, 0, 2),
    ops.Replace(2, 0, 2, faults=refused("ATTACH_DEVICE")),
)
GUEST = (ops.VmCreate(1), ops.Alloc(1, 0, 1))
HEAD_AT_ZERO = (
    ALLOC,
    ops.Map(1, 4 * MIB, 0x40000000, 16),
    ops.Map(1, 0, 0x50000000, 1, faults=refused(MAP)),
    ops.Unmap(1, 4 * MIB, 16),
)
SECOND_HALF = (ALLOC, ops.Map(1, MIB, 0x40000000, 16), ops.Unmap(1, MIB + 0x8000, 8))
ROLLBACK = (ALLOC, ops.Map(1, MIB, 0x40000000, 256, faults=refused(MAP, done=20)))

CASES: dict[str, Case] = {
    "no-stale-mapping": Case((ALLOC, ops.Map(1, MIB, 0x40001000, 384), ops.Unmap(1, MIB, 384))),
    "page-given-back": Case((ops.VfioJoin(), ops.VfioMap(1, MIB, 0x40001000, 384), ops.VfioUnmap(1, MIB, 384))),
    "mapping-ends-with-its-page": Case((ops.VfioJoin(), ops.VfioMap(1, MIB, 0x40001000, 384), ops.VfioLeave())),
    "no-foreign-attach": Case(FELL_TO_ANOTHER),
    "touches-only-its-own": Case((ALLOC, ops.Alloc(2), ops.Map(2, 0, 0x40000000, 1)), WrongDomain),
    "blocked-is-blocked": Case((ops.VmCreate(1), ops.Claim(0, 1))),
    "replace-has-no-gap": Case((ALLOC, ops.Alloc(2), ops.Claim(), ops.Attach(1), ops.Replace(2))),
    "ids-are-unique": Case(GUEST, config=Configuration(unique_id=0xFFFFFFFE)),
    "device-names-are-unique": Case((), SameName),
    "input-page-bounds": Case((ALLOC, ops.Map(1, 0, 0x40001000, 508))),
    "no-use-after-free": Case((*STUCK, ops.Claim())),
    "no-out-of-bounds": Case((ALLOC, ops.Map(1, 0, 0x40000000, 1)), OneTooFar),
    "no-null-dereference": Case((*GUEST, ops.DriverMap(1, mapped=False))),
    "no-uninitialised-read": Case((ALLOC, ops.DriverMap(1, pgcount=0))),
    "no-lost-mapping": Case(
        (ALLOC, ops.Map(1, 2 * MIB, 0x40200000, 16), ops.Map(1, MIB, 0x50000000, 256, faults=refused(MAP, done=3)))
    ),
    "shortage-is-survivable": Case((ALLOC, ops.Map(1, 0, 0x40000000, 16, faults=refused(MAP, 0x0B)))),
    "legal-requests-work": Case((ALLOC, ops.Map(1, 0, 0x40000000, 2)), RefusesAll),
    "every-call-ends": Case((*GUEST, ops.Attach(1, 0, 1, faults=refused("ATTACH_DEVICE", 0x0B, times=None)))),
    "allocation-recovers": Case((ALLOC, ops.Alloc(2)), config=Configuration(left_domains=(1,))),
    "options-are-honoured": Case((), config=Configuration(skip="(0:0:1.0)")),
    "free-frees-all": Case((ALLOC, ops.Map(1, 0, 0x40000000, 1), ops.Free(1))),
    "nothing-is-left": Case((ALLOC, ops.Free(1, faults=refused(DELETE)), ops.Recover())),
    "tree-matches-hypervisor": Case(SECOND_HALF),
    "lookup-matches-caller": Case(SECOND_HALF),
    "count-matches": Case(RESTORED),
    "pointer-matches": Case(STUCK),
    "map-result": Case(ROLLBACK),
    "unmap-honest": Case((*GUEST, ops.Unmap(1, 0, 1))),
    "unmap-total": Case(HEAD_AT_ZERO),
    "failed-attach-keeps-old": Case(RESTORED),
    "static-domains-always-attach": Case(STUCK),
    "release-parks": Case(
        (ops.Release(0),), config=Configuration(policies=replace(Policies(), detach_from_default="none"))
    ),
    "failure-is-visible": Case((ALLOC, ops.Free(1, faults=refused(DELETE))), Silent),
    "control-word-valid": Case((ALLOC, ops.MapScattered(1, 0, 0x40000000, 16, 256, 257), ops.Unmap(1, 0, 4096))),
    "names-existing-things": Case(FELL_TO_ANOTHER),
    "no-sleep-in-atomic": Case((ALLOC, ops.Map(1, 0, 0x40000000, 1, "rw", "atomic", faults=refused(MAP, 0x0B)))),
    "gfp-is-used": Case((ALLOC, ops.Map(1, 0, 0x40000000, 1))),
    "context-is-balanced": Case((ALLOC, ops.Attach(1))),
    "permissions-match": Case((ALLOC, ops.Map(1, 0, 0x40000000, 1, "r")), AlwaysWritable),
    "advertised-is-true": Case((ALLOC,)),
    "errors-say-what": Case((ops.Alloc(1, faults=refused(CREATE)),)),
    "ready-before-visible": Case(()),
}


def run(driver: type[Driver], case: Case) -> list[Outcome]:
    """Boot and the case's operations on a driver."""
    world = stage(driver, case.config, booted=False)
    return [world.apply(operation) for operation in (ops.Boot(), *case.operations)]


@pytest.mark.parametrize("name", PROPERTIES)
def test_every_property_can_fail(name: str) -> None:
    """Blind properties: each must fail on the case that is made for it."""
    assert name in CASES, f"property {name} has no case in which it fails; add one to CASES"
    assert name in failed(*run(CASES[name].driver, CASES[name]))


@pytest.mark.parametrize("toy", HONEST)
@pytest.mark.parametrize("name", CASES)
def test_every_property_is_quiet_on_an_honest_driver(name: str, toy: type[Toy]) -> None:
    """Properties that cry wolf: the same operations on an honest driver break nothing of that name."""
    assert name not in failed(*run(toy, CASES[name]))


def test_no_case_is_for_a_property_that_is_gone() -> None:
    """A property that is renamed takes its case along."""
    assert set(CASES) == set(PROPERTIES)


@pytest.mark.parametrize("name", PROPERTIES)
def test_the_catalogue_is_complete(name: str) -> None:
    """Each property says what it claims, how bad it is, and where that comes from."""
    entry = PROPERTIES[name]
    assert entry.id == name
    assert entry.severity in SEVERITIES
    assert SEVERITIES[entry.rank] == entry.severity
    assert entry.claim
    assert entry.source
    assert entry.claim[0].islower() or entry.claim.startswith("iova_to_phys")
    assert not entry.claim.endswith(".")


def test_a_property_reports_once_for_each_subject() -> None:
    """Section 9: what disagreed is set aside and is not judged again; other domains are judged as before."""
    case = Case(
        (
            ALLOC,
            ops.Alloc(2),
            ops.Map(1, MIB, 0x40000000, 16),
            ops.Unmap(1, MIB, 8),
            ops.Lookup(1, MIB + 0x8000),
            ops.Map(2, MIB, 0x40000000, 16),
            ops.Unmap(2, MIB, 8),
        )
    )
    outcomes = run(PostedV0, case)
    stale = [v.subject for outcome in outcomes for v in outcome.violations if v.property == "no-stale-mapping"]
    assert stale == ["domain 1", "domain 2"]
    assert not failed(outcomes[5]) & {"lookup-matches-caller"}


def test_what_is_reported_is_in_the_catalogue(monkeypatch: pytest.MonkeyPatch) -> None:
    """No judge writes down, or counts, a property that the catalogue does not know."""
    names: set[str] = set()
    fail = Judge.fail

    def fail_too(self: Judge, name: str, subject: str, detail: str, *shape: object) -> None:
        names.add(name)
        fail(self, name, subject, detail, *shape)

    monkeypatch.setattr(Judge, "fail", fail_too)
    for case in CASES.values():
        run(case.driver, case)
        names.update(stage(case.driver, case.config).judge.judged)
    assert names == set(PROPERTIES)


# --- what is easily overlooked -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("toy", HONEST)
@pytest.mark.parametrize("site", [MAP, ATTACH, CREATE])
@pytest.mark.parametrize("status", [0x0B, 0x73, 0x75, 0x83])
def test_a_shortage_with_its_deposit_is_survived(toy: type[Toy], site: str, status: int) -> None:
    """The driver deposits what the code calls for and goes on: all succeed and nothing is to be said."""
    world = stage(toy)
    for operation in (ALLOC, ops.Attach(1), ops.Map(1, 0, 0x40000000, 16)):
        outcome = world.apply(replace(operation, faults=refused(site, status)))
        assert outcome.result == 0
        assert not outcome.violations


@pytest.mark.parametrize("toy", HONEST)
def test_a_deposit_that_is_refused_excuses_the_failure(toy: type[Toy]) -> None:
    """shortage-is-survivable asks for the try, not for success."""
    world = stage(toy)
    world.apply(ALLOC)
    faults = (*refused(MAP, 0x0B), *refused("DEPOSIT_MEMORY", 0x08))
    outcome = world.apply(ops.Map(1, 0, 0x40000000, 16, faults=faults))
    assert outcome.result == -12
    assert not outcome.violations


@pytest.mark.parametrize("toy", HONEST)
def test_giving_up_at_the_bound_is_no_fault(toy: type[Toy]) -> None:
    """A shortage that no deposit ends must not be answered for ever; section 8 excuses who reached the bound."""
    world = stage(toy)
    world.apply(ALLOC)
    outcome = world.apply(ops.Map(1, 0, 0x40000000, 16, faults=refused(MAP, 0x0B, times=None)))
    assert outcome.result == -12
    assert not outcome.violations


def test_a_shortage_in_a_rollback_is_not_judged() -> None:
    """Section 8: not judged for unmap."""
    world = stage(HONEST[1])
    world.apply(ALLOC)
    faults = (*refused(MAP, 0x71, 3), *refused(UNMAP, 0x0B))
    assert not world.apply(ops.Map(1, 0, 0x40000000, 16, faults=faults)).violations


def test_a_line_before_a_recovered_failure_counts() -> None:
    """failure-is-visible: DELETE of a zombie fails and is logged, then CREATE is refused once and succeeds."""
    world = stage(ExactToy)
    world.apply(ALLOC)
    world.apply(ops.Free(1, faults=refused(DELETE)))
    faults = (*refused(DELETE), *refused(CREATE, 0x0B))
    assert "failure-is-visible" not in failed(world.apply(ops.Alloc(2, faults=faults)))


@pytest.mark.parametrize("toy", HONEST)
def test_a_refused_map_over_limbo_left_nothing_behind(toy: type[Toy]) -> None:
    """M8: nothing changes for the old pages, whatever their state."""
    world = stage(toy)
    world.apply(ALLOC)
    world.apply(ops.Map(1, 0, 0x40000000, 16))
    world.apply(ops.Unmap(1, 0, 16, faults=refused(UNMAP)))
    assert not world.apply(ops.Map(1, 0x4000, 0x50000000, 4)).violations


@pytest.mark.parametrize("toy", HONEST)
def test_limbo_at_physical_zero(toy: type[Toy]) -> None:
    """L1: iova_to_phys answers what the hypervisor has, offset included."""
    world = stage(toy)
    world.apply(ALLOC)
    world.apply(ops.Map(1, 0, 0, 1))
    world.apply(ops.Unmap(1, 0, 1, faults=refused(UNMAP)))
    assert not world.apply(ops.Lookup(1, 0xFFF)).violations


@pytest.mark.parametrize("toy", HONEST)
def test_an_unplugged_device_may_still_be_counted(toy: type[Toy]) -> None:
    """A15: release_device never ran, so the driver's count cannot have changed."""
    world = stage(toy)
    assert not failed(world.apply(ALLOC), world.apply(ops.Unplug(1)), world.apply(ops.Attach(1)))


@pytest.mark.parametrize("toy", HONEST)
def test_nobody_counts_devices_that_fell_out_of_a_guest(toy: type[Toy]) -> None:
    """A14: the driver is not told that the devices are in default now, and identity's count cannot know."""
    world = stage(toy)
    for operation in (*GUEST, ops.Attach(1, 0, 1), ops.VmDelete(1), ops.Alloc(2, 1), ops.Attach(2, 1)):
        assert not world.apply(operation).violations


def test_a_call_that_does_not_end_is_accused_of_that_only() -> None:
    """The watchdog unwinds the thread in the middle of a hypercall; its context says nothing about the driver."""
    case = CASES["every-call-ends"]
    assert failed(run(case.driver, case)[-1]) == {"every-call-ends"}


@pytest.mark.parametrize("toy", HONEST)
def test_a_free_may_take_a_device_out_first(toy: type[Toy]) -> None:
    """A13: free must first get the device out of old."""
    world = stage(toy)
    world.apply(ALLOC)
    world.apply(ops.Attach(1))
    world.apply(ops.Detach(faults=refused(ATTACH, times=3)))
    assert not world.apply(ops.Free(1)).violations


@pytest.mark.parametrize("toy", HONEST)
def test_a_free_may_take_a_device_back_from_a_guest(toy: type[Toy]) -> None:
    """A13 for a direct domain: DETACH_DEVICE inside free must not end in a traceback."""
    world = stage(toy)
    for operation in (*GUEST, ops.Attach(1, 0, 1)):
        world.apply(operation)
    faults = refused("DETACH_DEVICE", times=3)
    world.apply(ops.Detach(0, 1, faults=faults))
    assert not world.apply(ops.Free(1, 1)).violations


def test_the_errno_of_an_allocation_is_that_of_its_cause() -> None:
    """A kzalloc that fails is -ENOMEM, whatever a DELETE before it was answered."""
    world = stage(ExactToy)
    world.apply(ALLOC)
    world.apply(ops.Free(1, faults=refused(DELETE)))
    outcome = world.apply(ops.Alloc(2, faults=(*refused(DELETE), Fault(KZALLOC))))
    assert outcome.result == -12
    assert "errors-say-what" not in failed(outcome)


# --- the pages that explain them -------------------------------------------------------------------------------------

PACKAGE = Path(hvmodel.__file__).parent
ROW = re.compile(r"\b(?:M(?:10|[1-9])|U(?:1[0-2]|[1-9])|A(?:1[0-7]|[1-9])|C[1-8]|L1|F1|X[12])\b")
"""Labels of rows in callers/README.md."""


def page(room: str) -> str:
    """A room's README."""
    return (PACKAGE / room / "README.md").read_text()


@pytest.mark.parametrize("name", PROPERTIES)
def test_every_property_has_its_exact_form(name: str) -> None:
    """A finding names a property; what exactly was compared can be looked up."""
    assert f"\n| {name} |" in page("properties")


def test_no_page_describes_a_property_that_is_gone() -> None:
    """The tables of properties/README.md hold nothing else."""
    table = page("properties").split("## 8.")[1].split("## 9.")[0]
    named = set(re.findall(r"^\| ([a-z-]+) \|", table, re.MULTILINE)) - {"property"}
    assert named == set(PROPERTIES)


def test_every_row_that_the_code_names_exists() -> None:
    """Comments cite rows of callers/README.md instead of repeating them."""
    rows = set(re.findall(r"^\| ([A-Z]\d+) \|", page("callers"), re.MULTILINE))
    for room in ("callers", "properties"):
        for path in sorted((PACKAGE / room).glob("*.py")):
            missing = set(ROW.findall(path.read_text())) - rows
            assert not missing, f"{path.name} cites {missing}, which callers/README.md does not have"


@pytest.mark.parametrize("room", ["callers", "properties"])
def test_properties_that_a_page_mentions_exist(room: str) -> None:
    """A renamed property does not leave its old name behind in the "judged by" columns."""
    words = set(re.findall(r"\b[a-z]+(?:-[a-z]+){2,}\b", page(room)))
    nouns = {"one-node-per-map", "not-found"}
    shaped = {word for word in words - nouns if word.split("-")[0] in {name.split("-")[0] for name in PROPERTIES}}
    assert shaped <= set(PROPERTIES)


@pytest.mark.parametrize("room", ["callers", "properties"])
def test_the_pages_stand_alone(room: str) -> None:
    """They cite the kernel and this tree, no file that only the authors have."""
    assert "/work/" not in page(room)
    assert "iommu-core" not in page(room)
    assert "oracle.md" not in page(room)
