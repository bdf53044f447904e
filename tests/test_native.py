"""A C file as a driver: what the build finds out about it, worlds side by side, its tree, its layouts."""

from __future__ import annotations

import ctypes
import random
from pathlib import Path

import pytest
from native_subject import MAP_4, SMALL, SMALL_NAME, failed, line_of, needs_compiler, planted, play

from hvmodel import operations as ops
from hvmodel.configuration import Configuration
from hvmodel.drivers import REGISTRY
from hvmodel.drivers.native.driver import NativeDriver, NativeLoader
from hvmodel.hypervisor import abi
from hvmodel.kernel.interval_tree import IntervalTree, IntervalTreeNode
from hvmodel.traces.format import Trace
from hvmodel.traces.story import tell
from hvmodel.world import World

pytestmark = needs_compiler


def loader(name: str = SMALL_NAME) -> NativeLoader:
    """What loads a native driver."""
    load = REGISTRY[name].load
    assert isinstance(load, NativeLoader)
    return load


def native(world: World) -> NativeDriver:
    """A world's driver, which is a native one."""
    assert isinstance(world.driver, NativeDriver)
    return world.driver


def test_traits_go_by_meaning() -> None:
    """The build recognises id, count, tree, physical address and counter of a file whose names are its own."""
    traits = loader().traits
    assert traits.missing() == []
    assert traits.ident is not None
    assert traits.ident.name == "hv_number"
    assert traits.count is not None
    assert traits.count.name == "users"
    assert (traits.domain, traits.node) == ("small_domain", "small_range")
    assert set(traits.statics) == {"standing", "nothing"}


def test_what_a_revision_lacks_is_not_judged(tmp_path: Path) -> None:
    """A file without a count, with the two-argument attach of older trees: both are found out, and no count is judged."""
    source = SMALL.read_text(encoding="utf-8")
    source = source.replace(", struct device *dev, struct iommu_domain *old)", ", struct device *dev)")
    for text in ("	atomic_t users;\n", "	atomic_inc(&domain->users);\n"):
        source = source.replace(text, "")
    for text in ("	if (device->sits_in)\n		atomic_dec(&device->sits_in->users);\n",):
        source = source.replace(text, "")
    (tmp_path / "older.c").write_text(source, encoding="utf-8")
    name = f"native:{tmp_path / 'older.c'}"
    load = loader(name)
    assert not load.build.attach_old
    assert load.traits.missing() == ["attach count"]
    world, outcomes = play(name, *MAP_4, ops.Claim(0, 0), ops.Replace(1, 0))
    assert [outcome.result for outcome in outcomes] == [0] * 5
    assert not world.judge.judged["count-matches"]


def test_views_come_from_the_file() -> None:
    """Tree, id, count and pointer are what the C structures say, at any moment."""
    world, _ = play(SMALL_NAME, *MAP_4, ops.Claim(0, 0), ops.Replace(1, 0))
    driver, domain = native(world), world.books.domains[1].domain
    assert [(node.start, node.last, driver.node_paddr(node)) for node in driver.tree(domain)] == [(0x100000, 0x103FFF, 0x200000)]
    assert (driver.domain_id(domain), driver.attach_count(domain)) == (1, 1)
    device = world.books.devices[0].device
    assert driver.pointer_domain(device) is domain
    assert world.kernel.slab.owned_by(world.books.domains[1]) == 2
    world.apply(ops.Recover())
    assert not driver.kernel.slab.is_live(domain.container)


def test_worlds_side_by_side() -> None:
    """Two worlds of one driver that take turns are as they would be alone."""
    steps = [*MAP_4, ops.Map(1, 0x200000, 0x400000, 507), ops.Unmap(1, 0x100000, 4), ops.Lookup(1, 0x201000), ops.Alloc(2, 1)]
    alone, _ = play(SMALL_NAME, *steps)
    state = native(alone).here().save()
    worlds = [World(Configuration(), SMALL_NAME) for _ in range(3)]
    for operation in (ops.Boot(), *steps):
        results = {world.apply(operation).result for world in worlds}
        assert len(results) == 1
    for world in worlds:
        driver = native(world)
        assert driver.here().save() == state
        assert len(driver.tree(world.books.domains[1].domain)) == 1


def test_the_same_operations_give_the_same_bytes() -> None:
    """A world's state below the driver is bytes that depend on nothing but what was done; restored, it is that state again."""
    world, _ = play(SMALL_NAME, *MAP_4)
    other, _ = play(SMALL_NAME, *MAP_4)
    image = native(world).here()
    state = image.save()
    assert native(other).here().save() == state
    assert native(world).here().save() == state
    before = world.apply(ops.Map(1, 0x300000, 0x300000, 1)).result
    changed = native(world).here().save()
    assert changed != state
    image.restore(state)
    assert image.save() == state
    assert before == 0


def test_the_id_counter_can_be_preset() -> None:
    """A world that asks for it starts the file's own counter elsewhere."""
    world = World(Configuration(unique_id=41), SMALL_NAME)
    world.apply(ops.Boot())
    world.apply(ops.Alloc(1, 0))
    assert native(world).domain_id(world.books.domains[1].domain) == 42


def test_a_story_names_lines() -> None:
    """Each hypercall of a C driver is told with the function and line that issued it."""
    trace = Trace(Configuration(), [ops.Boot(), *MAP_4], driver=SMALL_NAME)
    steps, _world = tell(trace)
    line = next(h.line for call in steps[-1].calls for h in call.hypercalls)
    assert f"[small_map, small.c:{line_of(SMALL_NAME, 'HVCALL_MAP_DEVICE_GPA_PAGES')}]" in line


@pytest.mark.parametrize("seed", range(4))
def test_the_tree_is_the_kernels(seed: int) -> None:
    """The tree in C answers as ``hvmodel.kernel.interval_tree`` does, for overlaps, equal starts, inverted nodes and queries."""
    draw = random.Random(seed)
    image = loader().image
    library = image.library
    for name, arguments in (("insert", 2), ("remove", 2), ("iter_first", 3), ("iter_next", 3)):
        function = getattr(library, f"hvm_tree_{name}")
        function.restype, function.argtypes = ctypes.c_uint64, [ctypes.c_uint64] * arguments
    library.hvm_allocate.restype, library.hvm_allocate.argtypes = ctypes.c_uint64, [ctypes.c_uint64] * 3
    root = library.hvm_allocate(16, 0, 0)
    ours, kept = IntervalTree(), dict[int, IntervalTreeNode]()
    edges = [0, 1, 5, 0x1000, 0x1FFF, 0x2000, (1 << 64) - 1, *(draw.randrange(64) for _ in range(6))]
    for _ in range(600):
        start, last = draw.choice(edges), draw.choice(edges)
        if kept and draw.random() < 0.45:
            address = draw.choice(list(kept))
            library.hvm_tree_remove(address, root)
            ours.remove(kept.pop(address))
        else:
            address = library.hvm_allocate(48, 0, 0)
            library.hvm_write(address + 24, 8, start)
            library.hvm_write(address + 32, 8, last)
            library.hvm_tree_insert(address, root)
            kept[address] = IntervalTreeNode(start, last)
            ours.insert(kept[address])
        query = (draw.choice(edges), draw.choice(edges))
        found: list[IntervalTreeNode] = []
        address = library.hvm_tree_iter_first(root, *query)
        while address:
            found.append(kept[address])
            address = library.hvm_tree_iter_next(address, *query)
        expected: list[IntervalTreeNode] = []
        node = ours.iter_first(*query)
        while node is not None:
            expected.append(node)
            node = ours.iter_next(node, *query)
        assert found == expected
    image.shared[2] = 0  # nobody's changes


def test_layouts(tmp_path: Path) -> None:
    """The shim's packed structures have the sizes that the reference model decodes."""
    names = {
        "create_device_domain": abi.CREATE_DEVICE_DOMAIN,
        "delete_device_domain": abi.DELETE_DEVICE_DOMAIN,
        "attach_device_domain": abi.ATTACH_DEVICE_DOMAIN,
        "detach_device_domain": abi.DETACH_DEVICE_DOMAIN,
        "map_device_gpa_pages": abi.MAP_DEVICE_GPA_PAGES,
        "unmap_device_gpa_pages": abi.UNMAP_DEVICE_GPA_PAGES,
        "attach_device": abi.ATTACH_DEVICE,
        "detach_device": abi.DETACH_DEVICE,
        "get_iommu_capabilities": abi.GET_IOMMU_CAPABILITIES,
    }
    checks = " ".join(f"BUILD_BUG_ON(sizeof(struct hv_input_{name}) != {layout.size});" for name, layout in names.items())
    checks += f" BUILD_BUG_ON(sizeof(struct hv_output_get_iommu_capabilities) != {abi.IOMMU_CAPABILITIES_OUTPUT.size});"
    assert REGISTRY[planted(tmp_path, "alloc", checks)].name


def test_guards_of_the_kernels_cleanup_header(tmp_path: Path) -> None:
    """``guard()`` and ``scoped_guard()`` take and give back a lock; a return within is no leak."""
    code = "{ guard(spinlock_irqsave)(&domain->guard); scoped_guard(mutex, &((struct mutex){ { 0, 0 } })) { allocations++; } }"
    _world, outcomes = play(planted(tmp_path, "alloc", code), *MAP_4)
    found = failed(outcomes[1])
    assert "context-is-balanced" not in found
    assert "mutex_lock with interrupts off" in found["no-sleep-in-atomic"]


def test_a_paging_only_revision(tmp_path: Path) -> None:
    """What later revisions do otherwise works, too: ops in each domain and no default ones, capabilities asked for through the
    output page at start."""
    source = SMALL.read_text(encoding="utf-8")
    start, end = source.index("	.default_domain_ops = &(const"), source.index("	.identity_domain")
    members = source[start:end].partition("{")[2].rpartition("}")[0]
    ask = """{
		struct hv_output_get_iommu_capabilities *output;
		unsigned long flags;

		local_irq_save(flags);
		*(u64 *)*this_cpu_ptr(hyperv_pcpu_input_arg) = HV_PARTITION_ID_SELF;
		((u64 *)*this_cpu_ptr(hyperv_pcpu_input_arg))[1] = 0;
		output = *this_cpu_ptr(hyperv_pcpu_output_arg);
		if (hv_do_hypercall(HVCALL_GET_IOMMU_CAPABILITIES, *this_cpu_ptr(hyperv_pcpu_input_arg), output))
			pr_err("no capabilities");
		width = output->max_iova_width;
		local_irq_restore(flags);
	}
"""
    source = source[:start] + source[end:]
    for old, new in (
        ("struct small_device {", "static struct iommu_domain_ops paging_ops;\nstatic u8 width;\n\nstruct small_device {"),
        ("static const struct", f"static struct iommu_domain_ops paging_ops = {{{members}}};\n\nstatic const struct"),
        ("	domain->core.geometry.aperture_end = DMA_BIT_MASK(48);", "	domain->core.ops = &paging_ops;\n"),
        (
            "	domain->core.geometry.force",
            "	domain->core.geometry.aperture_end = DMA_BIT_MASK(width);\n	domain->core.geometry.force",
        ),
        ("	standing.core.type =", ask + "	standing.core.type ="),
    ):
        source = source.replace(old, new, 1)
    (tmp_path / "later.c").write_text(source, encoding="utf-8")
    world = World(Configuration(capabilities=True), f"native:{tmp_path / 'later.c'}")
    outcomes = [world.apply(operation) for operation in (ops.Boot(), *MAP_4, ops.Unmap(1, 0x100000, 4), ops.Recover())]
    assert [outcome.result for outcome in outcomes] == [0, 0, 0, 0x4000, 0]
    assert [failed(outcome) for outcome in outcomes] == [{}] * 5
    assert native(world).traits.missing() == []
