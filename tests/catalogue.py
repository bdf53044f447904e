"""What is known to be wrong in the driver as posted (v0): for each defect the shortest trace that shows it.

The key is the defect's id, with a suffix where it has several faces. A trace has the fewest operations, then the plainest
arguments; the property fails at its last operation and not before. Unless ``config`` says otherwise the hypervisor gives
its default answers: what only another answer shows has that answer as its assumption.

What v0 has and no trace here shows:

===========  ===========================================================================================================
D18          only an adversarial hypervisor (success without progress, G4); it is the kernel's rep helper that loops
D19          latency: a trace has no clock
D33 D71 D74  need two threads
D66          v0 offers no blocked domain, and on an L1VH "no guest" is all that identity promises
D69 D75      facts of the posted design, which no property of a run can judge
D82          the exported queries are for other modules; nothing in a run calls them
D92 D97 D99  only by reading
D101 - D109  only by reading: configuration, build, names, style
===========  ===========================================================================================================

D08 D17 D57 D76 D77 D80 D83 D84 are of later revisions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from hvmodel.configuration import Configuration
from hvmodel.faults import Fault
from hvmodel.hypervisor.policies import DEFAULT
from hvmodel.operations import (
    Alloc,
    Attach,
    Boot,
    Claim,
    Detach,
    Disown,
    DriverMap,
    DriverUnmap,
    Free,
    Map,
    MapScattered,
    Operation,
    Recover,
    Release,
    Reset,
    Unmap,
    VmCreate,
    VmDelete,
)


@dataclass(frozen=True)
class Entry:
    """One face of one defect. ``level`` is how far its caller goes (``callers.levels``).

    ``calls`` are the hypercalls of the last operation without repeats (of a Recover only the first): they tell this defect
    from others that end in the same property. A number after MAP and UNMAP is the rep count; CREATE, DELETE, ATTACH and
    DETACH are calls on device domains, ATTACH_DEVICE and DETACH_DEVICE those on guests. ``detail`` is part of the
    violation's text, where one of several is meant.
    """

    title: str
    property: str
    operations: Sequence[Operation]
    calls: str
    level: str = "kernel"
    config: Configuration = field(default_factory=Configuration)
    detail: str = ""
    note: str = ""


CREATE, DELETE = "CREATE_DEVICE_DOMAIN", "DELETE_DEVICE_DOMAIN"
ATTACH, DETACH = "ATTACH_DEVICE_DOMAIN", "DETACH_DEVICE_DOMAIN"
MAP, UNMAP = "MAP_DEVICE_GPA_PAGES", "UNMAP_DEVICE_GPA_PAGES"
ATTACH_GUEST, DETACH_GUEST = "ATTACH_DEVICE", "DETACH_DEVICE"

FAILED, SHORT, SHORT_CONTIGUOUS = 0x71, 0x0B, 0x75
"""OPERATION_FAILED, INSUFFICIENT_MEMORY, INSUFFICIENT_CONTIGUOUS_MEMORY."""

A, B = 0x100000, 0x200000
"""Where most mappings are: at 1 MiB, with the neighbour at 2 MiB."""
P, Q = 0x40000000, 0x40001000
"""Physical addresses that are congruent to them modulo 1 MiB, and not."""
TOP = (1 << 64) - 0x1000
"""The last page of the address space."""

L1VH = Configuration.of_profile("l1vh")


def refuse(site: str, status: int = FAILED, done: int = 0, times: int | None = 1) -> tuple[Fault, ...]:
    """The first such call of the operation is refused, after ``done`` elements."""
    return (Fault(site, 1, status, done, times),)


def assume(**answers: str) -> Configuration:
    """A hypervisor that answers some open questions otherwise than by default."""
    return Configuration(policies=replace(DEFAULT, **answers))


ENTRIES: dict[str, Entry] = {
    # --- counts, sizes, hypercall encoding, memory deposit ----------------------------------------------------------
    "D01": Entry(
        "map writes one PFN per page into the one-page hypercall input, without bound: 507 fit",
        "input-page-bounds",
        [Boot(), Alloc(), Map(1, A, Q, pages=508)],
        "MAP 508: INVALID_ALIGNMENT; UNMAP 0: INVALID_HYPERCALL_INPUT",
    ),
    "D02": Entry(
        "unmap of 4096 pages in one call: the rep count spills into reserved bits, nothing is unmapped, all is said to be",
        "no-stale-mapping",
        [Boot(), Alloc(), MapScattered(1, A, P, runs=16, run_pages=256, stride=257), Unmap(1, A, pages=4096)],
        "UNMAP 4096: INVALID_HYPERCALL_INPUT",
    ),
    "D03": Entry(
        "unmap of 257 MiB in one call: the count is cut to 256, the call succeeds, 65536 pages stay mapped",
        "no-stale-mapping",
        [Boot(), Alloc(), MapScattered(1, A, P, runs=257, run_pages=256, stride=257), Unmap(1, A, pages=257 * 256)],
        "UNMAP 256",
    ),
    "D03-zero": Entry(
        "unmap of exactly 256 MiB in one call: the count is cut to 0",
        "no-stale-mapping",
        [Boot(), Alloc(), MapScattered(1, A, P, runs=256, run_pages=256, stride=257), Unmap(1, A, pages=256 * 256)],
        "UNMAP 0: INVALID_HYPERCALL_INPUT",
    ),
    "D04": Entry(
        "map of 256 MiB in one call: the count is cut to 0",
        "control-word-valid",
        [Boot(), Alloc(), Map(1, A, P, pages=65536)],
        "MAP 0: INVALID_HYPERCALL_INPUT; UNMAP 0: INVALID_HYPERCALL_INPUT",
        note="the list overruns the input page as well (D01), long before",
    ),
    "D05": Entry(
        "rollback with nothing done at iova 0: size 0 makes the range all ones, and the whole tree is deleted",
        "tree-matches-hypervisor",
        [Boot(), Alloc(), Map(1, A, P), Map(1, 0, P, faults=refuse(MAP))],
        "MAP 1: refused; UNMAP 0: INVALID_HYPERCALL_INPUT",
    ),
    "D07": Entry(
        "rollback takes 16 pages done for 16 times 1 MiB: too many reps, rejected, the 16 stay mapped",
        "no-stale-mapping",
        [Boot(), Alloc(), Map(1, A, P, pages=256, faults=refuse(MAP, done=16))],
        "MAP 256: refused after 16; UNMAP 4096: INVALID_HYPERCALL_INPUT",
    ),
    "D07-neighbour": Entry(
        "the same with 2 pages done: 2 MiB are unmapped, and a neighbour's page with them",
        "no-lost-mapping",
        [Boot(), Alloc(), Map(1, B, P), Map(1, A, P, pages=256, faults=refuse(MAP, done=2))],
        "MAP 256: refused after 2; UNMAP 512",
    ),
    "D09": Entry(
        "the rollback's own unmap fails, and nobody looks: told 'nothing mapped', one page is",
        "no-stale-mapping",
        [Boot(), Alloc(), Map(1, A, P, pages=2, faults=refuse(MAP, done=1) + refuse(UNMAP))],
        "MAP 2: refused after 1; UNMAP 1: refused",
    ),
    "D10": Entry(
        "memory shortage in a map: the driver deposits 256 pages and gives up all the same",
        "shortage-is-survivable",
        [Boot(), Alloc(), Map(1, A, P, faults=refuse(MAP, SHORT))],
        "MAP 1: refused; DEPOSIT_MEMORY 256; UNMAP 0: INVALID_HYPERCALL_INPUT",
    ),
    "D11": Entry(
        "direct attach deposits one page after another for as long as the hypervisor asks",
        "every-call-ends",
        [Boot(), VmCreate(1), Claim(0, by=1, faults=refuse(ATTACH_GUEST, SHORT, times=None))],
        "DETACH; ATTACH_DEVICE partition 0x10: refused; DEPOSIT_MEMORY 1",
    ),
    "D12": Entry(
        "only one of the shortage codes is known: a map that asks for contiguous memory just fails",
        "shortage-is-survivable",
        [Boot(), Alloc(), Map(1, A, P, faults=refuse(MAP, SHORT_CONTIGUOUS))],
        "MAP 1: refused; UNMAP 0: INVALID_HYPERCALL_INPUT",
    ),
    "D12-attach": Entry(
        "the same in direct attach",
        "shortage-is-survivable",
        [Boot(), VmCreate(1), Claim(0, by=1, faults=refuse(ATTACH_GUEST, SHORT_CONTIGUOUS))],
        "DETACH; ATTACH_DEVICE partition 0x10: refused; ATTACH domain 0",
    ),
    "D13-create": Entry(
        "creating a domain never deposits",
        "shortage-is-survivable",
        [Boot(), Alloc(faults=refuse(CREATE, SHORT))],
        "CREATE domain 1: refused",
    ),
    "D13-attach": Entry(
        "attaching to a domain never deposits",
        "shortage-is-survivable",
        [Boot(faults=refuse(ATTACH, SHORT))],
        "ATTACH domain 0: refused; ATTACH domain 0",
    ),
    "D13-unmap": Entry(
        "unmapping never deposits: what needed memory to be split stays mapped",
        "no-stale-mapping",
        [Boot(), Alloc(), Map(1, A, P), Unmap(1, A, faults=refuse(UNMAP, SHORT))],
        "UNMAP 1: refused",
        note="by way of D29: the answer does not depend on the status",
    ),
    "D14": Entry(
        "a map of no pages decides by a status that was never set",
        "no-uninitialised-read",
        [Boot(), Alloc(), DriverMap(1, A, P, pgcount=0)],
        "UNMAP 0: INVALID_HYPERCALL_INPUT",
        level="beyond",
    ),
    "D15": Entry(
        "pgsize * pgcount wraps to 0 in an unmap at iova 0: the range is all ones and the tree is emptied",
        "tree-matches-hypervisor",
        [Boot(), Alloc(), Map(1, A, P), DriverUnmap(1, 0, 1 << 63, 2)],
        "UNMAP 0: INVALID_HYPERCALL_INPUT",
        level="beyond",
    ),
    "D15-node": Entry(
        "iova + size wraps in a map: the node ends before it starts, nothing finds it again, and it is lost",
        "free-frees-all",
        [Boot(), Alloc(), Map(1, TOP, P, pages=2), Free()],
        "DELETE domain 1",
        level="beyond",
    ),
    "D16": Entry(
        "a map that fails at once is rolled back by a rep call of no reps",
        "control-word-valid",
        [Boot(), Alloc(), Map(1, A, P, faults=refuse(MAP))],
        "MAP 1: refused; UNMAP 0: INVALID_HYPERCALL_INPUT",
    ),
    # --- tree versus hypervisor -------------------------------------------------------------------------------------
    "D20": Entry(
        "the core cuts maps by iova and paddr, unmaps by iova: the first chunk deletes the node, the rest stays mapped",
        "no-stale-mapping",
        [Boot(), Alloc(), Map(1, A, Q, pages=257), Unmap(1, A, pages=257)],
        "UNMAP 256",
    ),
    "D21": Entry(
        "unmapping the head of a node deletes the node: the tail stays mapped and is said to be gone",
        "no-stale-mapping",
        [Boot(), Alloc(), Map(1, A, P, pages=2), Unmap(1, A)],
        "UNMAP 1",
        level="beyond",
    ),
    "D23": Entry(
        "unmapping the tail of a node: the hypervisor does, the tree stops at once, the answer is 0",
        "tree-matches-hypervisor",
        [Boot(), Alloc(), Map(1, A, P, pages=2), Unmap(1, A + 0x1000)],
        "UNMAP 1",
        level="beyond",
    ),
    "D24": Entry(
        "unmapping from inside one node to the end of the next: the tree keeps the second as well, all of it unmapped",
        "tree-matches-hypervisor",
        [Boot(), Alloc(), MapScattered(1, A, P, runs=2, run_pages=2, stride=3), Unmap(1, A + 0x1000, pages=3)],
        "UNMAP 3",
        level="beyond",
        detail="3 pages",
    ),
    "D27": Entry(
        "a second map at the same place is refused, and its rollback deletes the first one's node",
        "tree-matches-hypervisor",
        [Boot(), Alloc(), Map(1, A, P), Map(1, A, P, faults=refuse(MAP))],
        "MAP 1: refused; UNMAP 0: INVALID_HYPERCALL_INPUT",
        level="beyond",
    ),
    "D28": Entry(
        "a second map at the same place gets a node of its own: lookups go on answering with the first",
        "lookup-matches-caller",
        [Boot(), Alloc(), Map(1, A, P), Map(1, A, Q)],
        "MAP 1",
        level="beyond",
    ),
    "D29": Entry(
        "an unmap that fails answers the full size: the caller reuses a page that the device can reach",
        "no-stale-mapping",
        [Boot(), Alloc(), Map(1, A, P), Unmap(1, A, faults=refuse(UNMAP))],
        "UNMAP 1: refused",
    ),
    "D30": Entry(
        "nodes are deleted before the unmap and not put back when it fails",
        "tree-matches-hypervisor",
        [Boot(), Alloc(), Map(1, A, P), Unmap(1, A, faults=refuse(UNMAP))],
        "UNMAP 1: refused",
    ),
    "D32": Entry(
        "free forgets the nodes that are left in the tree",
        "free-frees-all",
        [Boot(), Alloc(), Map(1, A, P), Free()],
        "DELETE domain 1",
    ),
    "D34": Entry(
        "a direct domain says of any unmap that all of it is gone, though nothing was there",
        "unmap-honest",
        [Boot(), VmCreate(1), Alloc(1, by=1), Unmap(1, A)],
        "",
        level="beyond",
    ),
    "D35": Entry(
        "a map of a direct domain writes through a NULL mapped pointer",
        "no-null-dereference",
        [Boot(), VmCreate(1), Alloc(1, by=1), DriverMap(1, A, P, mapped=False)],
        "",
        level="beyond",
    ),
    "D36": Entry(
        "a write-only mapping is readable",
        "permissions-match",
        [Boot(), Alloc(), Map(1, A, P, prot="w")],
        "MAP 1",
        config=assume(flags_not_readable="accepted"),
        note="by default the hypervisor takes no mapping that is not readable, and nobody could do better",
    ),
    "D37": Entry(
        "nodes are always allocated atomically, whatever the caller's gfp",
        "gfp-is-used",
        [Boot(), Alloc(), Map(1, A, P)],
        "MAP 1",
    ),
    "D38": Entry(
        "a map of an atomic caller sleeps in the deposit",
        "no-sleep-in-atomic",
        [Boot(), Alloc(), Map(1, A, P, gfp="atomic", faults=refuse(MAP, SHORT))],
        "MAP 1: refused; DEPOSIT_MEMORY 256; UNMAP 0: INVALID_HYPERCALL_INPUT",
        level="contract",
    ),
    # --- attach, detach, domain identity and lifetime ---------------------------------------------------------------
    "D50": Entry(
        "a failing detach is counted: from then on the count is one short, here 0 with the device in the domain",
        "count-matches",
        [Boot(), VmCreate(1), Reset(0, by=1, faults=refuse(DETACH_GUEST)), Claim(0, by=1)],
        "DETACH_DEVICE partition 0x10; ATTACH_DEVICE partition 0x10",
    ),
    "D50-attach": Entry(
        "the same at once, in an attach that fails for it: the device is still with the guest, the count is 0",
        "count-matches",
        [Boot(), VmCreate(1), Claim(0, by=1), Alloc(1, by=1), Attach(1, by=1, faults=refuse(DETACH_GUEST))],
        "DETACH_DEVICE partition 0x10: refused; ATTACH_DEVICE partition 0x10: OBJECT_IN_USE",
    ),
    "D50-domain": Entry(
        "the same with a device domain, if the hypervisor moves no device that is not detached",
        "count-matches",
        [Boot(), Claim(), Alloc(), Attach(faults=refuse(DETACH))],
        "DETACH: refused; ATTACH domain 2: INVALID_DEVICE_STATE; ATTACH domain 1: DEVICE_ALREADY_IN_DOMAIN",
        config=assume(attach_elsewhere="0x58"),
    ),
    "D51": Entry(
        "a refused attach goes back to the old domain and does not count it: identity lacks one",
        "count-matches",
        [Boot(), Claim(faults=refuse(ATTACH))],
        "CREATE domain 1; DETACH; ATTACH domain 1: refused; ATTACH domain 0",
    ),
    "D51-contract": Entry(
        "the same as the caller sees it: a failed attach has changed something",
        "failed-attach-keeps-old",
        [Boot(), Claim(faults=refuse(ATTACH))],
        "CREATE domain 1; DETACH; ATTACH domain 1: refused; ATTACH domain 0",
    ),
    "D52": Entry(
        "after a restore without a count (D51) the next detach wraps it to 4294967295",
        "count-matches",
        [Boot(), Claim(), Disown(faults=refuse(ATTACH)), Release()],
        "DETACH",
    ),
    "D53": Entry(
        "a domain with a count is 'busy': free keeps it and the core cannot know; here the count is D52's",
        "free-frees-all",
        [Boot(), Claim(), Disown(faults=refuse(ATTACH)), Release()],
        "DETACH",
        detail="object(s)",
    ),
    "D54": Entry(
        "the way back into a direct domain is by the current thread: a device that VM 1 had goes to VM 2",
        "no-foreign-attach",
        [Boot(), VmCreate(1), Claim(0, by=1), VmDelete(1), VmCreate(2), Disown(0, by=2, faults=refuse(ATTACH))],
        "DETACH_DEVICE partition 0x11: INVALID_DEVICE_ID; ATTACH domain 0: refused; "
        "ATTACH_DEVICE partition 0x11; DETACH_DEVICE partition 0x11",
        level="contract",
    ),
    "D55": Entry(
        "a host thread takes the device back from a guest: the detach names partition 0, the device stays",
        "names-existing-things",
        [Boot(), VmCreate(1), Claim(0, by=1), Disown()],
        "DETACH_DEVICE partition 0x0: INVALID_PARTITION_ID; ATTACH domain 0: INVALID_DEVICE_STATE",
    ),
    "D55-l1vh": Entry(
        "on an L1VH that was the whole attach to identity: it answers 0, the guest keeps the device",
        "no-foreign-attach",
        [Boot(), VmCreate(1), Claim(0, by=1), Disown()],
        "DETACH_DEVICE partition 0x0: INVALID_PARTITION_ID",
        config=L1VH,
    ),
    "D56": Entry(
        "a host thread frees a direct domain: a domain that the hypervisor never had is deleted",
        "names-existing-things",
        [Boot(), VmCreate(1), Alloc(1, by=1), Free()],
        "DELETE domain 1: INVALID_PARAMETER",
    ),
    "D56-leak": Entry(
        "a device domain allocated before the VM, freed after: a VMM thread deletes nothing",
        "free-frees-all",
        [Boot(), Alloc(1, by=1), VmCreate(1), Free(1, by=1)],
        "",
    ),
    "D58": Entry(
        "a replace detaches first: in between the device is in the default domain, with all memory in reach",
        "replace-has-no-gap",
        [Boot(), Claim(), Alloc(), Attach()],
        "DETACH; ATTACH domain 2",
    ),
    "D59": Entry(
        "after a failed attach the private pointer names the old domain; free it, and the next detach reads it",
        "no-use-after-free",
        [Boot(), Alloc(), Attach(), Detach(faults=refuse(ATTACH)), Recover()],
        "DELETE domain 1: OBJECT_IN_USE; DETACH",
        level="contract",
        note="one more operation without Recover: Free, Release",
    ),
    "D59-pointer": Entry(
        "the same one step before: the pointer names a freed domain",
        "pointer-matches",
        [Boot(), Alloc(), Attach(), Detach(faults=refuse(ATTACH)), Free()],
        "DELETE domain 1: OBJECT_IN_USE",
        level="contract",
    ),
    "D60": Entry(
        "a failing detach is only logged: on an L1VH that was the whole attach to identity, the guest keeps the device",
        "no-foreign-attach",
        [Boot(), VmCreate(1), Claim(0, by=1), Disown(0, by=1, faults=refuse(DETACH_GUEST))],
        "DETACH_DEVICE partition 0x10: refused",
        config=L1VH,
    ),
    "D60-root": Entry(
        "a failing detach is only logged: the attach to identity that follows is refused",
        "static-domains-always-attach",
        [Boot(), VmCreate(1), Claim(0, by=1), Disown(0, by=1, faults=refuse(DETACH_GUEST))],
        "DETACH_DEVICE partition 0x10: refused; ATTACH domain 0: INVALID_DEVICE_STATE; "
        "ATTACH_DEVICE partition 0x10: OBJECT_IN_USE; DETACH_DEVICE partition 0x10; ATTACH_DEVICE partition 0x10",
    ),
    "D60-release": Entry(
        "a failing detach is only logged: the device is released and still in a paging domain",
        "release-parks",
        [Boot(), Claim(), Disown(faults=refuse(ATTACH)), Release(faults=refuse(DETACH))],
        "DETACH: refused",
    ),
    "D61": Entry(
        "attaching identity can fail: one refusal is enough",
        "static-domains-always-attach",
        [Boot(faults=refuse(ATTACH))],
        "ATTACH domain 0: refused; ATTACH domain 0",
    ),
    "D62": Entry(
        "a refused delete is only logged: nobody ever tries again",
        "nothing-is-left",
        [Boot(), Alloc(), Free(faults=refuse(DELETE)), Recover()],
        "DETACH; ATTACH domain 0; CREATE domain 2",
    ),
    "D64": Entry(
        "release detaches and does not park: where the device is then is up to the hypervisor",
        "release-parks",
        [Boot(), Release()],
        "DETACH",
        config=assume(detach_from_default="none"),
    ),
    "D65": Entry(
        "release on an L1VH makes a device-domain call for a device that was never in one",
        "names-existing-things",
        [Boot(), Release()],
        "DETACH: ACCESS_DENIED",
        config=L1VH,
    ),
    "D65-count": Entry(
        "and wraps the count of identity",
        "count-matches",
        [Boot(), Release()],
        "DETACH: ACCESS_DENIED",
        config=L1VH,
    ),
    "D68": Entry(
        "the core's blocking domain is a paging domain, and one that a VMM thread allocates is the guest's memory",
        "blocked-is-blocked",
        [Boot(), VmCreate(1), Claim(0, by=1)],
        "DETACH; ATTACH_DEVICE partition 0x10",
    ),
    "D70": Entry(
        "hv_no_attdev on an L1VH creates a device domain, which an L1VH cannot have",
        "names-existing-things",
        [Boot(), Alloc()],
        "CREATE domain 1: ACCESS_DENIED",
        config=replace(L1VH, no_attdev=True),
    ),
    "D72": Entry(
        "the id counter is stepped back after a failed create: an id that an earlier kernel left is tried for ever",
        "allocation-recovers",
        [Boot(), Alloc(1), Alloc(2)],
        "CREATE domain 1: KEY_ALREADY_EXISTS",
        config=Configuration(left_domains=(1,)),
    ),
    "D73-a": Entry(
        "the last id of all, that of the NULL domain, is handed out",
        "ids-are-unique",
        [Boot(), VmCreate(1), Alloc(1, by=1)],
        "",
        config=Configuration(unique_id=0xFFFFFFFE),
        note="that ids of live domains come again after 0 would take 2^32 allocations",
    ),
    "D73-b": Entry(
        "for a device domain it is tried, refused, stepped back from and tried again",
        "allocation-recovers",
        [Boot(), Alloc(1), Alloc(2)],
        "CREATE domain 0xffffffff: INVALID_PARAMETER",
        config=Configuration(unique_id=0xFFFFFFFE),
    ),
    "D79": Entry(
        "whatever a create fails for, the allocation says out of memory",
        "errors-say-what",
        [Boot(), Alloc(faults=refuse(CREATE))],
        "CREATE domain 1: refused",
    ),
    "D81": Entry(
        "dev_iommu_priv_set is called in attach, without the probe lock that it asserts",
        "context-is-balanced",
        [Boot()],
        "ATTACH domain 0",
    ),
    # --- probe, init, configuration ---------------------------------------------------------------------------------
    "D90": Entry(
        "the skip list is given up as soon as an entry can be read",
        "options-are-honoured",
        [Boot()],
        "ATTACH domain 0",
        config=Configuration(skip="(0000:00:01.0)"),
    ),
    "D91": Entry(
        "an entry that cannot be read ends the skip list without a word",
        "options-are-honoured",
        [Boot()],
        "ATTACH domain 0",
        config=Configuration(skip="(none)(0000:00:01.0)"),
    ),
    "D93": Entry(
        "the sysfs entry is there before the identity domain is set up",
        "ready-before-visible",
        [Boot()],
        "ATTACH domain 0",
    ),
    "D98": Entry(
        "no reserved region for the interrupt window",
        "advertised-is-true",
        [Boot(), Alloc()],
        "CREATE domain 1",
        detail="interrupt window",
    ),
    "D100": Entry(
        "the aperture is all 64 bits, whatever the hardware",
        "advertised-is-true",
        [Boot(), Alloc()],
        "CREATE domain 1",
        detail="aperture",
    ),
    # --- in no catalogue yet ----------------------------------------------------------------------------------------
    "new-attach-partition": Entry(
        "direct attach takes the current thread's partition: a domain of VM 1, attached by VM 2, gives VM 2 the device",
        "no-foreign-attach",
        [Boot(), VmCreate(1), VmCreate(2), Alloc(1, by=1), Attach(1, by=2)],
        "DETACH; ATTACH_DEVICE partition 0x11",
        level="contract",
    ),
    "new-attach-claim": Entry(
        "the same as the kernel does it: the blocking domain outlives VM 1's ownership and serves VM 2's",
        "no-foreign-attach",
        [Boot(), VmCreate(1), VmCreate(2), Claim(0, by=1), Disown(0, by=1), Claim(0, by=2)],
        "DETACH; ATTACH_DEVICE partition 0x11",
    ),
    "new-l1vh-restore": Entry(
        "an L1VH's failed direct attach goes back to identity by a device-domain call, though it detached nothing",
        "names-existing-things",
        [Boot(), VmCreate(1), Claim(0, by=1, faults=refuse(ATTACH_GUEST))],
        "ATTACH_DEVICE partition 0x10: refused; ATTACH domain 0: ACCESS_DENIED",
        config=L1VH,
    ),
}
