"""Variants in C: our own mistakes with pages."""

# ruff: noqa: E101 (C is indented by tabs)
from __future__ import annotations

from hvmodel.drivers.native.variants.pages import (
    BUDGET,
    DEPOSITED,
    DONE,
    GIVEN,
    ONE_MAP,
    UNMAP_RANGE,
    UNMAPPED,
    put_before,
)
from hvmodel.drivers.native.variants.registry import variant_c

CUT = """	node = size ? interval_tree_iter_first(&hvdom->mappings_tree, iova, last) : NULL;
	for (; node; node = next) {
"""
LOCK_OF_CUT = "	spin_lock_irqsave(&hvdom->mappings_lock, flags);\n" + CUT
REFUSED = """			hv_status_err(status, "pgs:%zx/%zx iova:%lx\\n", *done, npages, iova);
			break;
"""

variant_c(
    "O01",
    (
        DEPOSITED + REFUSED + "		}\n",
        DEPOSITED + REFUSED + "		}\n		map_flags |= HV_MAP_GPA_READABLE | HV_MAP_GPA_WRITABLE;\n",
    ),
    parts="what a deposit has allowed stays allowed up to the end of the map; in Python for one batch",
)
variant_c(
    "O02",
    (ONE_MAP, ONE_MAP.replace("paddr + offset", "paddr")),
    (
        DONE,
        DONE.replace("status))\n", "status)) {\n").replace(
            "DEPOSITS;\n", "DEPOSITS;\n			paddr += count << HV_HYP_PAGE_SHIFT;\n		}\n"
        ),
    ),
)
variant_c("O03", ("	u64 pfn = paddr >> HV_HYP_PAGE_SHIFT;\n", "	u32 pfn = paddr >> HV_HYP_PAGE_SHIFT;\n"))
variant_c("O04", ("	while (node && covered < size && ", "	while (node && iova + covered < iova + size && "))
variant_c("O05", ("mapping->paddr + (last - start) + 1;", "mapping->paddr + (start < iova ? last - start + 1 : size);"))
variant_c("O06", (LOCK_OF_CUT, "	if (!size)\n		kfree(spare);\n\n" + LOCK_OF_CUT))
variant_c("O07", (CUT, "	if (!size) {\n		kfree(spare);\n		return;\n	}\n" + CUT))
variant_c("O08", ("sizeof(struct hv_input_map_device_gpa_pages)) /", "sizeof(struct hv_input_unmap_device_gpa_pages)) /"))
variant_c(
    "O09",
    (
        GIVEN,
        """	if (hv_call_deposit_pages(NUMA_NO_NODE, root ? hv_current_partition_id : payer, pages))
		return false;
	deposits->idle = HV_IDLE_DEPOSITS;

	return true;
""",
    ),
)
variant_c(
    "O10",
    ("		if (!gfpflags_allow_blocking(gfp) ||\n", "		if ((!gfpflags_allow_blocking(gfp) && !*done) ||\n"),
    parts="it deposits as often as any other map, in Python once",
)
variant_c(
    "O11",
    (
        DONE
        + """		if (result == HV_STATUS_SUCCESS || *done == npages) {
			result = HV_STATUS_SUCCESS;
			continue;
		}
""",
        """		if (result == HV_STATUS_SUCCESS) {
			*done += hv_repcomp(status);
			deposits.idle = HV_IDLE_DEPOSITS;
			continue;
		}
""",
    ),
    (REFUSED, REFUSED.replace("			break;", "			*done += hv_repcomp(status);\n			break;")),
)
variant_c(
    "O12",
    put_before(
        "/* ---- the tree: what the hypervisor has mapped (D30, D33) ---- */\n",
        """static struct hv_iommu_hot {
	struct hv_domain *hvdom;
	struct interval_tree_node *node;
	unsigned long start, last;
	phys_addr_t paddr;
} hot;

""",
    ),
    (
        "		} else if (end <= last) {\n			kfree(mapping);\n",
        """		} else if (end <= last) {
			if (hot.node == node)
				hot.node = NULL;
			kfree(mapping);
""",
    ),
    (
        """	node = interval_tree_iter_first(&hvdom->mappings_tree, iova, iova);
	if (node) {
		mapping = container_of(node, struct hv_iommu_mapping, iova);
		paddr = mapping->paddr + (iova - node->start);
	}
""",
        """	if (!hot.node || hot.hvdom != hvdom || iova < hot.start || iova > hot.last) {
		node = interval_tree_iter_first(&hvdom->mappings_tree, iova, iova);
		hot.node = node;
		if (node) {
			mapping = container_of(node, struct hv_iommu_mapping, iova);
			hot = (struct hv_iommu_hot){ hvdom, node, node->start, node->last, mapping->paddr };
		}
	}
	if (hot.node)
		paddr = hot.paddr + (iova - hot.start);
""",
    ),
)
variant_c(
    "O13",
    (
        "	if (iova + size - 1 > hvdom->iommu_dom.geometry.aperture_end)\n",
        "	if (iova + size - 1 >= hvdom->iommu_dom.geometry.aperture_end)\n",
    ),
)
variant_c(
    "O14",
    (
        UNMAP_RANGE,
        UNMAP_RANGE.replace("	u64 status;\n\n", "	struct hv_iommu_deposits deposits;\n	u64 status;\n\n").replace(
            "	while", "	hv_iommu_init_deposits(&deposits, npages);\n	while"
        ),
    ),
    (
        "		if (!hv_result_success(status) && done < npages) {\n",
        """		if (!hv_result_success(status) && done < npages &&
		    !hv_iommu_deposit(hv_result(status), &deposits, hv_current_partition_id,
				      HV_DEPOSIT_PAGES_MAP)) {
""",
    ),
)
variant_c(
    "O15",
    (
        "	interval_tree_insert(&mapping->iova, &hvdom->mappings_tree);\n",
        """	struct interval_tree_node *node = NULL;
	struct hv_iommu_mapping *before;

	if (iova)
		node = interval_tree_iter_first(&hvdom->mappings_tree, iova - 1, iova - 1);
	before = node ? container_of(node, struct hv_iommu_mapping, iova) : NULL;
	if (before && before->paddr + (iova - node->start) == paddr) {
		interval_tree_remove(node, &hvdom->mappings_tree);
		node->last = iova + size - 1;
		interval_tree_insert(node, &hvdom->mappings_tree);
		kfree(mapping);
	} else {
		interval_tree_insert(&mapping->iova, &hvdom->mappings_tree);
	}
""",
    ),
)
variant_c(
    "O16",
    (
        "(&hvdom->mappings_tree, 0, ULONG_MAX))) {\n		interval_tree_remove",
        "(&hvdom->mappings_tree, 0, DMA_BIT_MASK(HV_DEFAULT_IOVA_WIDTH)))) {\n		interval_tree_remove",
    ),
)
variant_c("O17", (DEPOSITED, "				      max_t(u32, HV_DEPOSIT_PAGES_MAP, npages >> 7))) {\n"))
variant_c(
    "O18",
    put_before(
        BUDGET,
        "	if (deposits->idle == HV_IDLE_DEPOSITS)\n		deposits->left = max_t(u32, deposits->left, HV_MAX_DEPOSITS);\n",
    ),
)
variant_c("O46", (UNMAPPED, UNMAPPED.replace("return done", "return (u32)(done << HV_HYP_PAGE_SHIFT) >> HV_HYP_PAGE_SHIFT")))
variant_c(
    "O47",
    (ONE_MAP, ONE_MAP.replace("map_flags)", "*done ? asked : map_flags)")),
    (
        "	int result = HV_STATUS_SUCCESS;\n	size_t offset, count;\n",
        "	int result = HV_STATUS_SUCCESS;\n	u32 asked = map_flags;\n	size_t offset, count;\n",
    ),
)
