"""Variants that only C can have: what ends a call, what reaches where nothing is, what was never set."""

from __future__ import annotations

from hvmodel.drivers.native.variants.registry import only_c

only_c(
    "X01-null-mapping",
    """A node that could not be allocated is filled in all the same.

Needs an allocation that fails. A segmentation fault: the kernel would oops in the middle of a map.""",
    ("	if (!mapping)\n		return -ENOMEM;\n", ""),
)
only_c(
    "X02-walk-stands-still",
    """The walk over the mappings of a range does not go on to the next one.

Needs an unmap that is longer than its first mapping. The loop never ends, under a spinlock and with interrupts off.""",
    ("		node = interval_tree_iter_next(node, iova, last);\n	}\n	spin_unlock", "	}\n	spin_unlock"),
)
only_c(
    "X03-bug-on-delete",
    """A delete that the hypervisor refuses is a BUG.

Needs one refused delete. The kernel ends, though nothing is lost but a domain.""",
    (
        """		if (status != HV_STATUS_SUCCESS) {
			hv_status_err(status, "\\n");
			return false;
		}
		list_del(&hvdom->list);
""",
        "		BUG_ON(status != HV_STATUS_SUCCESS);\n		list_del(&hvdom->list);\n",
    ),
)
only_c(
    "X04-one-frame-more",
    """The loop that writes the frames of a map writes one more.

Needs a batch that fills the page. The last frame is written behind it.""",
    ("	for (i = 0; i < npages; i++)\n", "	for (i = 0; i <= npages; i++)\n"),
)
only_c(
    "X05-freed-before-its-tree",
    """A domain is freed before its mappings are.

Needs nothing: the tree's root is in the domain. Freed memory is read at each free.""",
    (
        "	hv_iommu_drop_mappings(hvdom);\n	kfree(hvdom);\n\n	return true;\n",
        "	kfree(hvdom);\n	hv_iommu_drop_mappings(hvdom);\n\n	return true;\n",
    ),
)
only_c(
    "X06-hole-never-set",
    """What a look-up answers where nothing is mapped was never set.

Needs a look-up in a hole. Mostly there is 0 on the stack, and all is well.""",
    ("	phys_addr_t paddr = 0;\n", "	phys_addr_t paddr;\n"),
)
