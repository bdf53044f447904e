"""Variants in C: mappings, sizes, encodings, memory."""

# ruff: noqa: E101 (C is indented by tabs)
from __future__ import annotations

from hvmodel.drivers.native.variants.registry import variant_c

PAGES = "/* ---- pages ---- */\n"
LOOKUP = "static phys_addr_t hv_iommu_iova_to_phys(struct iommu_domain *immdom, dma_addr_t iova)\n"
BEFORE_COVERED = "	covered = hv_iommu_covered(hvdom, iova, size, &inside);\n"
BEFORE_MAP_CHECK = "	if (!mapped || !size || hv_iommu_meets(hvdom, iova, size))\n"
MAP_HEAD = "static int hv_iommu_map_pages(struct iommu_domain *immdom, unsigned long iova, phys_addr_t paddr,\n"
UNMAP_HEAD = "static size_t hv_iommu_unmap_pages(struct iommu_domain *immdom, unsigned long iova, size_t pgsize,\n"
UNMAP_RANGE = """	size_t done = 0, count;
	u64 status;

	while (done < npages) {
"""
UNMAPPED = "	return done;\n}\n\n/* Unmap all that is left"
BATCH = "		count = min_t(size_t, npages - *done, HV_MAP_BATCH);\n"
DEPOSITED = "				      HV_DEPOSIT_PAGES_MAP)) {\n"
DONE = """		*done += hv_repcomp(status);
		if (hv_repcomp(status))
			deposits.idle = HV_IDLE_DEPOSITS;
"""
ONE_MAP = "		status = hv_iommu_map_pgs(hvdom, iova + offset, paddr + offset, count, map_flags);\n"
BUDGET = """	if (!deposits->idle || !deposits->left)
		return false;
"""
GIVEN = """	return !hv_call_deposit_pages(NUMA_NO_NODE, root ? hv_current_partition_id : payer,
				      pages);
"""

# the posted tree code: whole nodes that begin in a range, up to one that begins before it
DELETE_NODES = (
    PAGES,
    """static size_t hv_iommu_delete_nodes(struct hv_domain *hvdom, unsigned long iova, size_t size)
{
	unsigned long last = iova + size - 1;
	struct interval_tree_node *node, *next;
	size_t unmapped = 0;

	node = interval_tree_iter_first(&hvdom->mappings_tree, iova, last);
	for (; node && node->start >= iova; node = next) {
		next = interval_tree_iter_next(node, iova, last);
		unmapped += node->last - node->start + 1;
		interval_tree_remove(node, &hvdom->mappings_tree);
		kfree(container_of(node, struct hv_iommu_mapping, iova));
	}

	return unmapped;
}

"""
    + PAGES,
)


def rolls_back(undo: str) -> tuple[tuple[str, str], ...]:
    """A driver that undoes a failed map itself; ``undo`` is how, and answers how many bytes the caller has to be told of."""
    wrapper = f"""static size_t hv_iommu_undo(struct iommu_domain *immdom, unsigned long iova, size_t size,
			    size_t pgsize)
{{
	struct hv_domain *hvdom = to_hv_domain(immdom);

{undo}
	if (size && hv_iommu_unmap_pages(immdom, iova, SZ_4K, size / SZ_4K, NULL) < size)
		return size;

	return 0;
}}

static int hv_iommu_map_pages(struct iommu_domain *immdom, unsigned long iova, phys_addr_t paddr,
			      size_t pgsize, size_t pgcount, int prot, gfp_t gfp, size_t *mapped)
{{
	int ret = hv_iommu_map_no_undo(immdom, iova, paddr, pgsize, pgcount, prot, gfp, mapped);

	if (ret && mapped && hv_iommu_map_size(to_hv_domain(immdom), iova, paddr, pgsize, pgcount))
		*mapped = hv_iommu_undo(immdom, iova, *mapped, pgsize);

	return ret;
}}

"""
    return ((MAP_HEAD, MAP_HEAD.replace("map_pages", "map_no_undo")), (LOOKUP, wrapper + LOOKUP), DELETE_NODES)


def put_before(place: str, text: str) -> tuple[str, str]:
    """A change that puts text in front of what stands there."""
    return place, text + place


# --- A: sizes, encoding, memory -------------------------------------------------------------------------------------------

variant_c("D01", (BATCH, "		count = npages - *done;\n"))
variant_c("D02", ("#define HV_UNMAP_BATCH		4095UL\n", "#define HV_UNMAP_BATCH		65535UL\n"))
variant_c(
    "D03",
    (
        UNMAP_RANGE,
        UNMAP_RANGE.replace(
            "	while",
            """	if (npages > U16_MAX) {
		hv_iommu_unmap_pgs(hvdom, iova, npages);
		return npages;
	}

	while""",
        ),
    ),
)
variant_c("D04", (BATCH, BATCH.replace("HV_MAP_BATCH", "npages > U16_MAX ? npages : HV_MAP_BATCH")))
variant_c("D05", *rolls_back("	if (!size)\n		hv_iommu_delete_nodes(hvdom, iova, size);\n"))
variant_c(
    "D07",
    *rolls_back("""	unsigned long last = iova + pgsize * (size / SZ_4K) - 1, at = iova, end;
	struct interval_tree_node *node;

	if (last < iova)
		last = ULONG_MAX;
	while (size && (node = interval_tree_iter_first(&hvdom->mappings_tree, at, last))) {
		end = node->last;
		hv_iommu_unmap_pages(immdom, node->start, SZ_4K, (end - node->start + 1) / SZ_4K,
				     NULL);
		at = end + 1;
		if (end >= last)
			break;
	}
	return size && hv_iommu_meets(hvdom, iova, size) ? size : 0;
"""),
)
variant_c(
    "D08",
    *rolls_back("""	if (size / SZ_4K > HV_UNMAP_BATCH && !hv_attached_dom(hvdom)) {
		hv_iommu_unmap_pgs(hvdom, iova, size / SZ_4K);
		hv_iommu_del_tree_mappings(hvdom, iova, size, NULL);
		return 0;
	}
"""),
)
variant_c(
    "D09",
    *rolls_back("""	if (!hv_attached_dom(hvdom))
		hv_iommu_unmap_range(hvdom, iova, size / SZ_4K);
	hv_iommu_del_tree_mappings(hvdom, iova, size, NULL);
	return 0;
"""),
)
variant_c("D10", (DEPOSITED, DEPOSITED.replace("MAP)", "MAP) || true")))
variant_c("D11", (BUDGET + "	deposits->idle--;\n	deposits->left--;\n", ""))
variant_c(
    "D12",
    (
        """HV_STATUS_INSUFFICIENT_MEMORY ||
	       status == HV_STATUS_INSUFFICIENT_CONTIGUOUS_MEMORY ||
	       status == HV_STATUS_INSUFFICIENT_ROOT_MEMORY ||
	       status == HV_STATUS_INSUFFICIENT_CONTIGUOUS_ROOT_MEMORY;
""",
        "HV_STATUS_INSUFFICIENT_MEMORY;\n",
    ),
)
variant_c(
    "D14",
    ("	int status = HV_STATUS_SUCCESS;\n	size_t size, npages;\n", "	size_t size, npages;\n	int status;\n"),
    put_before(
        BEFORE_MAP_CHECK,
        """	if (!(pgsize * pgcount >> HV_HYP_PAGE_SHIFT))
		return hv_result_to_errno(status);
	status = HV_STATUS_SUCCESS;
""",
    ),
    parts="the status is what the compiler has there; Python answers as if it were all ones",
)
variant_c(
    "D15",
    (
        "	if (check_mul_overflow(pgsize, pgcount, &size) || !size)\n		return 0;\n	if (!IS_ALIGNED(iova | paddr",
        "	size = pgsize * pgcount;\n	if (!size)\n		return 0;\n	if (!IS_ALIGNED(iova | paddr",
    ),
    ("	if (iova + size - 1 < iova || paddr + size - 1 < paddr)\n		return 0;\n", ""),
)
variant_c("D16", *rolls_back("	if (!size && !hv_attached_dom(hvdom))\n		hv_iommu_unmap_pgs(hvdom, iova, 0);\n"))

# --- B: tree and hypervisor -----------------------------------------------------------------------------------------------


def whole_nodes(page: str) -> tuple[tuple[str, str], ...]:
    """The hypervisor unmaps what was asked, the tree loses whole nodes, and the answer is the tree's."""
    text = f"""	if (pgsize == {page} && hv_iommu_meets(hvdom, iova + size - 1, 1)) {{
		struct interval_tree_node *node;

		node = interval_tree_iter_first(&hvdom->mappings_tree, iova, iova);
		if (node && node->start == iova) {{
			if (!hv_attached_dom(hvdom) &&
			    hv_iommu_unmap_range(hvdom, iova, size / SZ_4K) < size / SZ_4K)
				return 0;
			return hv_iommu_delete_nodes(hvdom, iova, size);
		}}
	}}
"""
    return DELETE_NODES, put_before(BEFORE_COVERED, text)


def stops_inside(ends: str) -> tuple[str, str]:
    """Pages are unmapped, and the tree keeps a node that begins before them."""
    text = f"""	if (!hv_attached_dom(hvdom)) {{
		struct interval_tree_node *node;

		node = interval_tree_iter_first(&hvdom->mappings_tree, iova, iova);
		if (node && node->start != iova && iova + size - 1 {ends} node->last) {{
			hv_iommu_unmap_range(hvdom, iova, size / SZ_4K);
			return 0;
		}}
	}}
"""
    return put_before(BEFORE_COVERED, text)


variant_c("D20", *whole_nodes("SZ_1M"))
variant_c("D21", *whole_nodes("SZ_4K"))
variant_c("D23", stops_inside("<="))
variant_c("D24", stops_inside(">"))
variant_c(
    "D27",
    DELETE_NODES,
    put_before(
        BEFORE_MAP_CHECK,
        """	if (mapped && size && !hv_attached_dom(hvdom) && hv_iommu_meets(hvdom, iova, size)) {
		status = hv_iommu_map_range(hvdom, iova, paddr, size / SZ_4K,
					    hv_iommu_map_flags(prot), gfp, &npages);
		hv_iommu_delete_nodes(hvdom, iova, size);
		if (status != HV_STATUS_SUCCESS) {
			hv_iommu_unmap_range(hvdom, iova, npages);
			return hv_result_to_errno(status);
		}
		mapping = kzalloc(sizeof(*mapping), gfp);
		if (mapping) {
			hv_iommu_add_tree_mapping(hvdom, mapping, iova, paddr, size);
			*mapped = size;
		}
		return 0;
	}
""",
    ),
)
variant_c("D28", (BEFORE_MAP_CHECK, "	if (!mapped || !size)\n"))
variant_c("D29", (UNMAPPED, UNMAPPED.replace("done", "npages")))
variant_c(
    "D30",
    DELETE_NODES,
    (UNMAP_RANGE, UNMAP_RANGE.replace("	while", "	hv_iommu_delete_nodes(hvdom, iova, npages * SZ_4K);\n\n	while")),
)
variant_c(
    "D32",
    (
        "	while ((node = interval_tree_iter_first(&hvdom->mappings_tree, 0, ULONG_MAX))) {\n		interval_tree_remove",
        "	while (false) {\n		interval_tree_remove",
    ),
)
variant_c(
    "D34",
    (UNMAP_HEAD, UNMAP_HEAD.replace("unmap_pages", "unmap_truly")),
    put_before(
        LOOKUP,
        """static size_t hv_iommu_unmap_pages(struct iommu_domain *immdom, unsigned long iova, size_t pgsize,
				   size_t pgcount, struct iommu_iotlb_gather *gather)
{
	size_t done = hv_iommu_unmap_truly(immdom, iova, pgsize, pgcount, gather);

	return hv_attached_dom(to_hv_domain(immdom)) ? pgsize * pgcount : done;
}

""",
    ),
)
variant_c(
    "D35",
    put_before(BEFORE_MAP_CHECK, "	if (hv_attached_dom(hvdom))\n		*mapped = 0;\n"),
    parts="in C the write ends the call; Python reports it and goes on",
)
variant_c("D36", ("	u32 map_flags = 0;\n", "	u32 map_flags = HV_MAP_GPA_READABLE;\n"))
variant_c("D37", ("	mapping = kzalloc(sizeof(*mapping), gfp);\n", "	mapping = kzalloc(sizeof(*mapping), GFP_ATOMIC);\n"))
variant_c("D38", ("		if (!gfpflags_allow_blocking(gfp) ||\n		    !hv_iommu_deposit(", "		if (!hv_iommu_deposit("))
variant_c(
    "N03",
    DELETE_NODES,
    put_before(
        BEFORE_COVERED,
        """	if (!hv_iommu_meets(hvdom, iova, 1) && hv_iommu_meets(hvdom, iova, size)) {
		if (!hv_attached_dom(hvdom))
			hv_iommu_unmap_range(hvdom, iova, size / SZ_4K);
		return hv_iommu_delete_nodes(hvdom, iova, size);
	}
""",
    ),
)
