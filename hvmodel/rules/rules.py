"""Which operation may come next: one function a rule, each given the world as it is and a chooser.

A rule returns an operation, or None if the world offers it nothing. It knows no driver, no property and no defect.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from hvmodel import operations as ops
from hvmodel.callers.books import PAGE_END, DomainBook
from hvmodel.callers.levels import BEYOND, CONTRACT, KERNEL, level_of
from hvmodel.kernel.iommu import Group
from hvmodel.rules import refusals
from hvmodel.rules.chooser import Chooser
from hvmodel.rules.values import POOLS, SMALL_COUNTS, Pools
from hvmodel.world import World


@dataclass(slots=True)
class Scene:
    """What a rule sees: the world, how far its callers go, and this run's taste.

    ``level`` is an index into ``callers.levels.LEVELS``; ``scale`` how large mappings get (values.page_count); ``vms`` how many
    VMs there may be; ``faults`` the percentage of operations that meet a fault; ``room`` how many domains may live at once;
    ``values`` where addresses and counts come from.
    """

    world: World
    level: int = CONTRACT
    scale: int = 1
    vms: int = 2
    faults: int = 20
    room: int = 4
    values: Pools = POOLS


RuleFunction = Callable[[Scene, Chooser], "ops.Operation | None"]


@dataclass(frozen=True, slots=True)
class Rule:
    """A rule with its subject (attachment, mapping, probing, lifetime, user), usual weight and the level that it needs."""

    name: str
    subject: str
    weight: int
    level: int
    make: RuleFunction


RULES: dict[str, Rule] = {}


def rule(subject: str, weight: int, level: int = KERNEL) -> Callable[[RuleFunction], RuleFunction]:
    """Register a rule under its function's name."""

    def register(function: RuleFunction) -> RuleFunction:
        RULES[function.__name__] = Rule(function.__name__, subject, weight, level, function)
        return function

    return register


def propose(scene: Scene, chosen: Rule, choose: Chooser) -> ops.Operation | None:
    """Ask a rule for an operation within the scene's level, and draw its faults."""
    operation = chosen.make(scene, choose)
    if operation is None:
        return None
    if scene.level < BEYOND and level_of(operation, scene.world.books) > scene.level:
        return None
    if scene.faults and choose.chance(scene.faults):
        faults = refusals.draw(choose, operation)
        if faults:
            return replace(operation, faults=faults)
    return operation


# --- who and what -------------------------------------------------------------------------------------------------------


def _group(scene: Scene, choose: Chooser, held: bool = False) -> Group | None:
    """A group whose devices no process has open; or, with ``held``, any."""
    taken = scene.world.user.held
    groups = [group for group in scene.world.books.groups.values() if held or group.number not in taken]
    return choose.pick(groups) if groups else None


def _domain(scene: Scene, choose: Chooser) -> DomainBook | None:
    domains = list(scene.world.books.domains.values())
    return choose.pick(domains) if domains else None


def _thread(scene: Scene, choose: Chooser) -> int:
    return choose.below(scene.vms + 1)


def _like(scene: Scene, choose: Chooser, usual: int) -> int:
    """The usual thread, or now and then, beyond the kernel level, another one; host workers tear down at any level."""
    roll = choose.below(8)
    if roll == 7:
        return 0
    if roll == 6 and scene.level >= CONTRACT:
        return _thread(scene, choose)
    return usual


# --- probe and lifetime -------------------------------------------------------------------------------------------------


@rule("lifetime", 8)
def create_vm(scene: Scene, choose: Chooser) -> ops.Operation | None:
    """A VMM creates its partition."""
    world = scene.world
    vm = 1 + choose.below(max(scene.vms, 1))
    return ops.VmCreate(vm) if vm not in world.vms and vm not in world.ended_vms else None


@rule("lifetime", 4)
def finalise_vm(scene: Scene, choose: Chooser) -> ops.Operation | None:
    """A partition is finalised while its process lives."""
    vms = list(scene.world.vms)
    return ops.VmFinalise(choose.pick(vms)) if vms else None


@rule("lifetime", 4)
def delete_vm(scene: Scene, choose: Chooser) -> ops.Operation | None:
    """A VM ends."""
    vms = list(scene.world.vms)
    return ops.VmDelete(choose.pick(vms)) if vms else None


@rule("probing", 12)
def release_device(scene: Scene, choose: Chooser) -> ops.Operation | None:
    """Hot-unplug of a device that nobody owns."""
    group = _group(scene, choose)
    if group is None or group.owner is not None or group.domain is not group.default_domain:
        return None
    return ops.Release(choose.pick(group.devices).number)


@rule("probing", 16)
def probe_device(scene: Scene, choose: Chooser) -> ops.Operation | None:
    """Hot-plug of an absent device; rather into a group that is in use than into one that is idle."""
    absent = [book.device.number for book in scene.world.books.devices if not book.device.present]
    if not absent:
        return None
    number = choose.pick(absent)
    group = scene.world.books.groups.get(scene.world.config.devices[number].group)
    idle = group is not None and group.domain is group.default_domain
    return None if idle and choose.below(8) else ops.Probe(number)


@rule("probing", 8, CONTRACT)
def unplug_device(scene: Scene, choose: Chooser) -> ops.Operation | None:
    """A device vanishes without release."""
    group = _group(scene, choose)
    return ops.Unplug(group.devices[0].number) if group is not None and len(group.devices) == 1 and group.owner is None else None


@rule("probing", 1)
def kexec(_scene: Scene, _choose: Chooser) -> ops.Operation | None:
    """The next kernel starts."""
    return ops.Kexec()


# --- domains ------------------------------------------------------------------------------------------------------------


@rule("attachment", 32)
def alloc_domain(scene: Scene, choose: Chooser) -> ops.Operation | None:
    """A paging domain for some device, mostly by the thread that owns the device's group."""
    world = scene.world
    group = _group(scene, choose)
    if group is None or len(world.books.domains) >= scene.room:
        return None
    if world.books.failed_allocs > 2 and choose.below(8):
        return None  # it fails and fails: leave the room to others
    by = _like(scene, choose, group.owner if group.owner is not None else _thread(scene, choose))
    return ops.Alloc(world.next_handle, choose.pick(group.devices).number, by)


@rule("attachment", 16)
def free_domain(scene: Scene, choose: Chooser) -> ops.Operation | None:
    """Free a domain that no group is in, mapped or not."""
    idle = [book for book in scene.world.books.domains.values() if not scene.world.books.users(book)]
    if not idle:
        return None
    book = choose.pick(idle)
    return ops.Free(book.handle, _like(scene, choose, book.by))


@rule("attachment", 20)
def claim_group(scene: Scene, choose: Chooser) -> ops.Operation | None:
    """Some thread claims the DMA ownership of a group."""
    group = _group(scene, choose)
    if group is None or group.owner is not None or group.domain is not group.default_domain:
        return None
    return ops.Claim(group.number, _thread(scene, choose))


@rule("attachment", 12)
def disown_group(scene: Scene, choose: Chooser) -> ops.Operation | None:
    """The ownership is released."""
    group = _group(scene, choose)
    if group is None or group.owner is None:
        return None
    return ops.Disown(group.number, _like(scene, choose, group.owner))


@rule("attachment", 32)
def attach_domain(scene: Scene, choose: Chooser) -> ops.Operation | None:
    """Attach a group that is in its default or blocking domain."""
    group = _group(scene, choose)
    if group is None or group.domain not in (group.default_domain, group.blocking_domain):
        return None
    domains = list(scene.world.books.domains.values())
    if scene.level == KERNEL:
        if group.owner is None:
            return ops.Claim(group.number, _thread(scene, choose))
        domains = [book for book in domains if book.by == group.owner]
    if not domains:
        return alloc_domain(scene, choose)
    book = choose.pick(domains)
    return ops.Attach(book.handle, group.number, _like(scene, choose, book.by) if scene.level > KERNEL else book.by)


@rule("attachment", 24)
def replace_domain(scene: Scene, choose: Chooser) -> ops.Operation | None:
    """Move an owned group from whatever domain it is in."""
    group = _group(scene, choose)
    if group is None:
        return None
    if group.owner is None:
        return claim_group(scene, choose)
    domains = [book for book in scene.world.books.domains.values() if book.domain is not group.domain]
    if scene.level == KERNEL:
        domains = [book for book in domains if book.by == group.owner]
    if not domains:
        return None
    book = choose.pick(domains)
    return ops.Replace(book.handle, group.number, _like(scene, choose, book.by) if scene.level > KERNEL else book.by)


@rule("attachment", 20)
def detach_group(scene: Scene, choose: Chooser) -> ops.Operation | None:
    """Leave a domain."""
    group = _group(scene, choose)
    if group is None or group.domain in (group.default_domain, group.blocking_domain):
        return None
    return ops.Detach(group.number, _like(scene, choose, group.owner or 0))


@rule("attachment", 8)
def reset_device(scene: Scene, choose: Chooser) -> ops.Operation | None:
    """Reset one device: any, or the one that joined its group last."""
    group = _group(scene, choose, held=True)
    if group is None:
        return None
    device = choose.pick(group.devices) if choose.below(2) == 0 else group.devices[-1]
    return ops.Reset(device.number, group.owner or 0)


# --- mappings -----------------------------------------------------------------------------------------------------------


@rule("mapping", 80)
def map_fresh(scene: Scene, choose: Chooser) -> ops.Operation | None:
    """Map where nothing is mapped."""
    book = _domain(scene, choose)
    if book is None:
        return alloc_domain(scene, choose)
    pages = scene.values.page_count(choose, scene.scale)
    iova = scene.values.free_iova(choose, book, pages)
    if iova is None:
        return None
    prot = scene.values.prot(choose)
    gfp = scene.values.gfp(choose) if scene.level >= CONTRACT else "kernel"
    return ops.Map(book.handle, iova, scene.values.physical(choose, iova), pages, prot, gfp)


@rule("mapping", 4)
def map_scattered(scene: Scene, choose: Chooser) -> ops.Operation | None:
    """Many physically separate runs in one request."""
    book = _domain(scene, choose)
    if book is None:
        return None
    runs, run_pages = scene.values.scatter(choose, scene.scale)
    iova = scene.values.free_iova(choose, book, runs * run_pages)
    if iova is None:
        return None
    paddr = scene.values.physical(choose, iova)
    return ops.MapScattered(book.handle, iova, paddr, runs, run_pages, run_pages + scene.values.gap(choose, run_pages))


@rule("mapping", 40)
def unmap_request(scene: Scene, choose: Chooser) -> ops.Operation | None:
    """What a map request mapped, unmapped as one."""
    book = _domain(scene, choose)
    if book is None or not book.requests:
        return map_fresh(scene, choose)
    starts = list(book.requests) if len(book.requests) <= 64 else list(book.requests)[:64]
    start = choose.pick(starts)
    return ops.Unmap(book.handle, start << 12, max(book.requests[start] - start, 1))


@rule("mapping", 24, CONTRACT)
def unmap_aggregate(scene: Scene, choose: Chooser) -> ops.Operation | None:
    """Several whole extents that follow each other."""
    book = _domain(scene, choose)
    first = scene.values.existing_run(choose, book) if book is not None else None
    if book is None or first is None:
        return map_fresh(scene, choose)
    end, budget = first.end, 1 + choose.below(4) if choose.below(3) else 1 << 20
    for run in book.pages.whole(first.start, PAGE_END)[1:]:
        if run.start != end or budget <= 1:
            break
        end, budget = run.end, budget - 1
    return ops.Unmap(book.handle, first.start << 12, end - first.start)


@rule("mapping", 16)
def lookup(scene: Scene, choose: Chooser) -> ops.Operation | None:
    """Translate at or next to a mapping."""
    book = _domain(scene, choose)
    if book is None:
        return None
    run = scene.values.existing_run(choose, book)
    page = scene.values.near(choose, run) if run is not None else scene.values.anywhere(choose, 1 << 20)
    return ops.Lookup(book.handle, (page << 12) + scene.values.offset(choose))


@rule("mapping", 16, BEYOND)
def map_over(scene: Scene, choose: Chooser) -> ops.Operation | None:
    """A map that meets what is mapped."""
    book = _domain(scene, choose)
    run = scene.values.existing_run(choose, book) if book is not None else None
    if book is None or run is None:
        return None
    start = scene.values.near(choose, run)
    pages = run.end - run.start if choose.below(2) == 0 else scene.values.page_count(choose, min(scene.scale, 1))
    pages = max(1, min(pages, PAGE_END - start))
    paddr = (
        (run.frame + start - run.start << 12)
        if choose.below(3) == 0 and start >= run.start
        else scene.values.physical(choose, start << 12)
    )
    return ops.Map(book.handle, start << 12, paddr, pages)


@rule("mapping", 24, BEYOND)
def unmap_piece(scene: Scene, choose: Chooser) -> ops.Operation | None:
    """A range that cuts mappings, straddles them, covers holes or nothing."""
    book = _domain(scene, choose)
    run = scene.values.existing_run(choose, book) if book is not None else None
    if book is None or run is None:
        return None
    length = run.end - run.start
    roll = choose.below(5)
    if roll == 0:
        start, pages = run.start, max(1, length // 2)
    elif roll == 1:
        start, pages = run.start + length // 2, max(1, length - length // 2)
    elif roll == 2:
        start, pages = run.start + length // 3, max(1, length // 3)
    elif roll == 3:
        start, pages = run.start + length // 2, length + choose.pick(SMALL_COUNTS)
    else:
        start, pages = scene.values.near(choose, run), scene.values.page_count(choose, scene.scale)
    return ops.Unmap(book.handle, start << 12, max(1, min(pages, PAGE_END - start)))


@rule("mapping", 4, BEYOND)
def driver_map(scene: Scene, choose: Chooser) -> ops.Operation | None:
    """A direct ``map_pages``: no pages, a NULL pointer, sizes that wrap, pieces of pages."""
    book = _domain(scene, choose)
    if book is None:
        return None
    run = scene.values.existing_run(choose, book) if choose.below(2) else None
    iova = scene.values.fresh_iova(choose, book, 1) if run is None else scene.values.near(choose, run) << 12
    pgsize, pgcount = choose.pick(((4096, 0), (4096, 1), (4096, 2), (2048, 1), (1 << 20, 0), (4096, 1 << 52), (1 << 63, 2)))
    if choose.below(4) == 3:  # across the end of the address space
        before = choose.pick((1, 2, 256))
        iova, pgsize, pgcount = (PAGE_END - before) << 12, 4096, before + choose.pick((1, 2, 256))
    return ops.DriverMap(book.handle, iova, scene.values.physical(choose, iova), pgsize, pgcount, mapped=choose.below(2) == 0)


@rule("mapping", 4, BEYOND)
def driver_unmap(scene: Scene, choose: Chooser) -> ops.Operation | None:
    """A direct ``unmap_pages`` with the same oddities."""
    book = _domain(scene, choose)
    if book is None:
        return None
    run = scene.values.existing_run(choose, book)
    iova = (scene.values.near(choose, run) if run is not None else scene.values.anywhere(choose, 1 << 12)) << 12
    pgsize, pgcount = choose.pick(((4096, 0), (4096, 1), (2048, 1), (1 << 20, 1), (1 << 63, 2)))
    return ops.DriverUnmap(book.handle, iova, pgsize, pgcount)


from hvmodel.rules import user as _user  # noqa: E402 - its rules are registered with these, whoever asks for them

assert _user
