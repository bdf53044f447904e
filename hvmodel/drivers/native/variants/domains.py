"""Variants in C: domains and their end, options, initialisation."""

# ruff: noqa: E101 (C is indented by tabs)
from __future__ import annotations

from hvmodel.drivers.native.variants.registry import variant_c

EVICT = """	if (!hv_iommu_evict(hvdom, deposits))
		return false;

	WARN_ON_ONCE(hvdom->num_attchd);
"""
DELETE = """		status = hv_iommu_delete_hyp_devdom(hvdom);
		if (status == HV_STATUS_OBJECT_IN_USE && hv_iommu_unmap_all(hvdom))
			status = hv_iommu_delete_hyp_devdom(hvdom);
		if (status != HV_STATUS_SUCCESS) {
			hv_status_err(status, "\\n");
			return false;
		}
"""
LISTED = "		list_add_tail(&hvdom->list, &hv_domains);\n	}\n"
NEW_ID = """	do {
		unique_id++;
	} while (hv_iommu_id_taken(unique_id));

	hvdom->domid_num = unique_id;
"""
CREATED = "	return status;\n}\n\n/*\n * Delete a domain that the core has freed."
TRIES = "#define HV_ID_TRIES		8"
CREATE = """	int tries, status;

	for (tries = 0; tries < HV_ID_TRIES; tries++) {
		hv_iommu_new_id(hvdom);
"""
MALFORMED = "			pr_warn(\"hv_iommu_skip: no device at '%.16s'\\n\", at);\n			continue;\n"
SKIP_LOOP = "	for (at = at ? strchr(at, '(') : NULL; at; at = strchr(at + 1, '(')) {\n"
STUCK = """		if (hv_iommu_stuck(hvdev, hvdom))
			return false;
		goto again;	/* the move may have freed any of them */
"""
FILL = """	do {
		local_irq_save(flags);
		input = *this_cpu_ptr(hyperv_pcpu_input_arg);
		memset(input, 0, sizeof(*input));

"""

variant_c(
    "D56",
    (
        "	struct hv_input_delete_device_domain *input;\n	unsigned long flags;\n	int status;\n\n",
        """	struct hv_input_delete_device_domain *input;
	unsigned long flags;
	int status;

	if (hv_iommu_get_curr_partid() != HV_PARTITION_ID_INVALID)
		return HV_STATUS_SUCCESS;

""",
    ),
    (LISTED, LISTED.replace("	}\n", "	} else {\n		hv_iommu_new_id(hvdom);\n	}\n")),
    (
        "	hvdom->dead = true;\n",
        "	if (hv_attached_dom(hvdom))\n		hv_iommu_delete_hyp_devdom(hvdom);\n	hvdom->dead = true;\n",
    ),
    parts="the ids of its direct-attach domains are seen",
)
variant_c("D59", (EVICT, ""), (DELETE, "		hv_iommu_delete_hyp_devdom(hvdom);\n"))
variant_c(
    "D62",
    (
        DELETE,
        """		status = hv_iommu_delete_hyp_devdom(hvdom);
		if (status != HV_STATUS_SUCCESS)
			hv_status_err(status, "\\n");
""",
    ),
)
variant_c(
    "D68",
    ("	.blocked_domain		= &hv_blocked_dom.iommu_dom,\n", ""),
    parts="a pointer to the static domain that is not offered is not seen",
)
variant_c(
    "D70",
    ("	if (hv_l1vh_partition() || !hv_no_attdev)\n", "	if (!hv_no_attdev)\n"),
    (
        "	if (hv_l1vh_partition() && partid == HV_PARTITION_ID_INVALID) {\n",
        "	if (hv_l1vh_partition() && !hv_no_attdev && partid == HV_PARTITION_ID_INVALID) {\n",
    ),
    parts="it tries dead domains again before it allocates",
)
variant_c(
    "D72",
    (TRIES, TRIES.replace("8", "1")),
    (CREATED, "	if (status != HV_STATUS_SUCCESS)\n		unique_id--;\n\n" + CREATED),
)
variant_c(
    "D73",
    (NEW_ID, "	hvdom->domid_num = ++unique_id;\n"),
    (TRIES, TRIES.replace("8", "1")),
    (
        CREATE,
        CREATE
        + "		if (hvdom->domid_num == HV_DEVICE_DOMAIN_ID_S2_DEFAULT)\n			return HV_STATUS_OPERATION_DENIED;\n",
    ),
    (LISTED, LISTED.replace("	}\n", "	} else {\n		hv_iommu_new_id(hvdom);\n	}\n")),
    parts="an id 0 of a direct-attach domain is not seen",
)
variant_c(
    "D79",
    ("			return ERR_PTR(hv_iommu_errno(status));	/* (D79) */\n", "			return NULL;\n"),
    ('host\\n");\n		return ERR_PTR(-ENODEV);\n', 'host\\n");\n		return NULL;\n'),
)
variant_c(
    "D90",
    (
        SKIP_LOOP,
        """	parsed = at ? sscanf(at, " (%x:%x:%x.%x) %n", &segment, &bus, &slot, &func, &parsed) : 0;
	if (parsed)
		return false;
"""
        + SKIP_LOOP,
    ),
)
variant_c("D91", (MALFORMED, "			return false;\n"), parts="what stands in front of the first parenthesis is passed over")
variant_c(
    "D92",
    ("	return 1;	/* handled;", "	return 0;	/* handled;"),
    ("	hv_no_attdev = true;\n\n	return 1;\n", "	hv_no_attdev = true;\n\n	return 0;\n"),
)
variant_c(
    "D93",
    ("	hv_initialize_special_domains();\n\n	ret = iommu_device_sysfs_add(", "	ret = iommu_device_sysfs_add("),
    (
        "	/* This probes the bus before it returns. */\n",
        "	hv_initialize_special_domains();\n\n	/* This probes the bus before it returns. */\n",
    ),
)
variant_c("D98", ("	.get_resv_regions	= hv_iommu_get_resv_regions,\n", ""))
variant_c("D100", ("	u8 width = hv_iommu_get_width();\n", "	u8 width = 64;\n"))

# --- our own --------------------------------------------------------------------------------------------------------------

variant_c("O30", (STUCK, STUCK.replace("hv_iommu_stuck(hvdev, hvdom)", "hvdev->domain == hvdom")))
variant_c("O35", (EVICT, "	hv_iommu_evict(hvdom, deposits);\n	if (hvdom->num_attchd)\n		return false;\n"))
variant_c(
    "O36",
    (
        """	struct hv_domain *hvdom, *next;
	int count = 0;

	list_for_each_entry_safe(hvdom, next, &hv_dead_doms, dead_list) {
		if (count++ == HV_DEAD_AT_ONCE || !hv_iommu_bury(hvdom, deposits))
			break;
	}
""",
        """	struct list_head *at, *after;

	for (at = hv_dead_doms.prev; at != &hv_dead_doms; at = after) {
		after = at->prev;
		if (hv_iommu_bury(list_entry(at, struct hv_domain, dead_list), deposits) &&
		    after != &hv_dead_doms)
			after = after->prev;
	}
""",
    ),
)
variant_c("O37", (STUCK, "		return !hv_iommu_stuck(hvdev, hvdom);\n"))
variant_c(
    "O38",
    (
        "	fn = symbol_get(mshv_pid_to_partid);\n",
        """	static struct { pid_t tgid; u64 partid; } seen[256];
	int i;

	for (i = 0; i < ARRAY_SIZE(seen) && seen[i].tgid; i++)
		if (seen[i].tgid == current->tgid)
			return seen[i].partid;

	fn = symbol_get(mshv_pid_to_partid);
""",
    ),
    (
        "	symbol_put(mshv_pid_to_partid);\n",
        """	symbol_put(mshv_pid_to_partid);
	if (partid != HV_PARTITION_ID_INVALID && i < ARRAY_SIZE(seen)) {
		seen[i].tgid = current->tgid;
		seen[i].partid = partid;
	}
""",
    ),
)


def written_once(fields: str) -> tuple[str, str]:
    """A hypercall whose input is written before the loop that issues it again."""
    old = FILL + fields
    lines = [line[1:] if line.startswith("\t\t") else line for line in old.split("\n")[1:]]
    return old, "\n".join(lines) + "	local_irq_restore(flags);\n\n	do {\n		local_irq_save(flags);\n"


DOMAIN = """		input->device_domain.partition_id = HV_PARTITION_ID_SELF;
		input->device_domain.domain_id.type = HV_DEVICE_DOMAIN_TYPE_S2;
		input->device_domain.domain_id.id = hvdom->domid_num;
"""
variant_c(
    "O39",
    written_once(DOMAIN + "		input->create_device_domain_flags.forward_progress_required = 1;\n\n"),
    written_once(DOMAIN + "		input->device_id.as_uint64 = hvdev->host_devid;\n\n"),
    written_once("""		input->partition_id = partid;
		input->device_id.as_uint64 = hvdev->host_devid;
		input->attdev_flags.logical_id = 1;
		input->logical_devid = hvdev->logical_devid;

"""),
)
variant_c(
    "O40",
    (
        NEW_ID,
        """	static DEFINE_SPINLOCK(id_lock);
	unsigned long flags;

	do {
		spin_lock_irqsave(&id_lock, flags);
		unique_id++;
		if (hv_iommu_id_taken(unique_id))
			continue;
		hvdom->domid_num = unique_id;
		spin_unlock_irqrestore(&id_lock, flags);
		return;
	} while (true);
""",
    ),
)
variant_c(
    "O41",
    (
        "	width = hv_result_success(status) ? output->max_iova_width : HV_DEFAULT_IOVA_WIDTH;\n",
        "	if (!hv_result_success(status))\n		return HV_DEFAULT_IOVA_WIDTH;\n	width = output->max_iova_width;\n",
    ),
)
variant_c("O42", ('"(%x:%x:%x.%x)%n"', '"(%x:%x:%d.%d)%n"'))
variant_c(
    "O43",
    (
        "			return true;\n	}\n\n	return false;\n}\n\n/*\n * Whether the hypervisor has a name",
        """			return true;
		if (at[parsed] != '(')
			break;
		at += parsed - 1;
	}

	return false;
}

/*
 * Whether the hypervisor has a name""",
    ),
)
variant_c(
    "O44",
    (CREATE, CREATE.replace("	for", "	list_add_tail(&hvdom->list, &hv_domains);\n	for")),
    (CREATED, "	if (status == HV_STATUS_SUCCESS)\n		list_del(&hvdom->list);\n\n" + CREATED),
    parts="a list in C also writes into the neighbour of what it links or takes out, which may be the freed one",
)
variant_c("O45", (DELETE, "		hv_iommu_drop_mappings(hvdom);\n" + DELETE))
