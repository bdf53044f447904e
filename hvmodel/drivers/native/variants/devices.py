"""Variants in C: where devices are, and how they get there."""

# ruff: noqa: E101 (C is indented by tabs)
from __future__ import annotations

from hvmodel.drivers.native.variants.registry import variant_c

MOVE = "	lockdep_assert_held(&hv_iommu_mutex);\n"
SET_BACK = "				hv_iommu_moved(hvdev, places[i]);\n				return;\n"
LOSE = "	bool parked = last ? hv_special_domain(last) : !hvdev->adrift;\n"
NAME_OF_GUEST = "	u64 guest_devid = hv_iommu_guest_devid(hvdev, hvdom);\n"
PARK = """	if (!shared)
		hv_iommu_move(hvdev, &hv_blocked_dom, HV_STATIC_TRIES, &deposits);
"""
ATTACH = "	status = hv_iommu_move(hvdev, hvdom, special ? HV_STATIC_TRIES : 1, &deposits);\n"
ANSWER = "	return status == HV_STATUS_SUCCESS ? 0 : hv_iommu_errno(status);\n"
RELEASED = "	hv_iommu_lose(hvdev, shared);\n	hv_iommu_bury_left();\n	mutex_unlock(&hv_iommu_mutex);\n"
DIRECT = """	struct hv_input_attach_device *input;
	u64 partid = hvdom->partid;
	unsigned long flags;
	int status;
"""
FREE = "	hvdom->dead = true;\n"

RESTORE_NO_COUNT = (
    SET_BACK,
    """				hv_iommu_moved(hvdev, places[i]);
				if (!i)
					where->num_attchd--;
				return;
""",
)
BUSY_FREE = (
    FREE,
    """	if (hvdom->num_attchd) {
		mutex_unlock(&hv_iommu_mutex);
		pr_err("can't free busy iommu domain\\n");
		return;
	}
"""
    + FREE,
)
STATIC = "its static domains have no free op that could find them busy"


def uncount(which: str) -> str:
    """Every function that a refused detach was about is no longer counted."""
    return f"""	if (status != HV_STATUS_SUCCESS) {{
		struct hv_iommu_dev *other;

		list_for_each_entry(other, &hv_devs, list)
			if (other->domain && {which})
				other->domain->num_attchd--;
	}}

	return status;
}}
"""


variant_c("D13", ("	if (!hv_iommu_shortage(status))\n", "	if (!hv_iommu_shortage(status) || pages == HV_DEPOSIT_PAGES)\n"))

# --- counts ---------------------------------------------------------------------------------------------------------------

variant_c(
    "D50",
    (
        "	return status;\n}\n\n/* The last resort",
        uncount("other->domain == hvdom && other->guest_devid == guest_devid") + "\n/* The last resort",
    ),
    (
        "	return status;\n}\n\n/* ---- where devices are ---- */\n",
        uncount("other->logical_devid == hvdev->logical_devid") + "\n/* ---- where devices are ---- */\n",
    ),
)
variant_c("D51", RESTORE_NO_COUNT)
variant_c("D53", BUSY_FREE, parts=STATIC)
variant_c("D52", RESTORE_NO_COUNT, BUSY_FREE, parts=STATIC)
variant_c("O29", ("	if (!hvdev->released) {\n		if (hvdev->domain && ", "	if (true) {\n		if (hvdev->domain && "))
variant_c("O32", (SET_BACK, RESTORE_NO_COUNT[1].replace("--", "++")))
variant_c(
    "O25",
    (
        LOSE,
        LOSE
        + """
	if (shared) {
		hvdev->released = true;
		hv_iommu_forget(hvdev);
		return;
	}
""",
    ),
)

# --- guests ---------------------------------------------------------------------------------------------------------------

variant_c(
    "D54",
    (
        "static void hv_iommu_go_back(struct hv_iommu_dev *hvdev, struct hv_domain *where,\n",
        "static void hv_iommu_go_back_to(struct hv_iommu_dev *hvdev, struct hv_domain *where,\n",
    ),
    (
        "/*\n * Move a device. Returns the result code. After a failure",
        """static void hv_iommu_go_back(struct hv_iommu_dev *hvdev, struct hv_domain *where,
			     struct hv_iommu_deposits *deposits)
{
	u64 right = where ? where->partid : HV_PARTITION_ID_INVALID;
	u64 partid = hv_iommu_get_curr_partid();

	if (right != HV_PARTITION_ID_INVALID && partid != HV_PARTITION_ID_INVALID)
		where->partid = partid;
	hv_iommu_go_back_to(hvdev, where, deposits);
	if (where)
		where->partid = right;
}

/*
 * Move a device. Returns the result code. After a failure""",
    ),
)
variant_c("D55", ("	input->partition_id = hvdom->partid;\n", "	input->partition_id = hv_iommu_get_curr_partid();\n"))
variant_c(
    "N01",
    (
        DIRECT,
        DIRECT.replace("hvdom->partid", "hv_iommu_get_curr_partid()")
        + """
	if (partid == HV_PARTITION_ID_INVALID) {
		pr_err("invalid partition id in direct attach\\n");
		return HV_STATUS_INVALID_PARTITION_ID;
	}
""",
    ),
)
variant_c("O19", (NAME_OF_GUEST, "	u64 guest_devid = hvdev->logical_devid;\n"))
variant_c("O24", ("(status, deposits, partid, HV_DEPOSIT_PAGES)", "(status, deposits, hv_current_partition_id, HV_DEPOSIT_PAGES)"))
variant_c(
    "O27",
    (
        "	if (status == HV_STATUS_INVALID_PARTITION_ID || status == HV_STATUS_INVALID_DEVICE_ID) {\n",
        "	if (status == HV_STATUS_INVALID_DEVICE_ID) {\n",
    ),
)
variant_c(
    "O31",
    (
        "	if (hv_attached_dom(hvdom))\n		return hv_iommu_direct_attach_device(",
        """	if (hv_attached_dom(hvdom) && where && where->partid == hvdom->partid)
		return HV_STATUS_SUCCESS;
	if (hv_attached_dom(hvdom))
		return hv_iommu_direct_attach_device(""",
    ),
)
variant_c(
    "O48",
    (
        "		hvdev->guest_devid = hv_iommu_guest_devid(hvdev, hvdom);\n		hv_iommu_set_domain(",
        "		hv_iommu_set_domain(",
    ),
)

# --- moving ---------------------------------------------------------------------------------------------------------------

variant_c(
    "D57",
    (
        MOVE,
        MOVE
        + """
	if (where && where != hvdom && !hv_special_domain(where) && !hv_attached_dom(where)) {
		hv_iommu_att_dev2dom(&hv_blocked_dom, hvdev, deposits);
		hv_iommu_moved(hvdev, &hv_blocked_dom);
		return hv_iommu_move(hvdev, hvdom, tries, deposits);
	}
""",
    ),
)
variant_c(
    "D58",
    (
        MOVE,
        MOVE
        + """
	if (where && where != hvdom && !hv_l1vh_partition()) {
		if (hv_attached_dom(where))
			left = hv_iommu_take_back(hvdev, where) == HV_STATUS_SUCCESS;
		else
			left = hv_iommu_det_dev_from_dom(hvdev) == HV_STATUS_SUCCESS;
		status = hv_iommu_enter(hvdev, hvdom, NULL, deposits);
		if (status == HV_STATUS_SUCCESS) {
			hv_iommu_moved(hvdev, hvdom);
			return status;
		}
		if (left && tries == 1) {
			hv_status_err(status, "\\n");
			hv_iommu_go_back(hvdev, where, deposits);
			return status;
		}
		left = false;
	}
""",
    ),
)
variant_c(
    "D60",
    (
        "	return status;\n}\n\n/*\n * Ask for the device to be put into",
        "	return HV_STATUS_SUCCESS;\n}\n\n/*\n * Ask for the device to be put into",
    ),
)
variant_c("D61", (ATTACH, ATTACH.replace("special ? HV_STATIC_TRIES : 1", "1")))
variant_c(
    "N02",
    (
        MOVE,
        MOVE
        + """
	if (where == hvdom && !hv_special_domain(hvdom))
		return hv_attached_dom(hvdom) ? HV_STATUS_OBJECT_IN_USE :
						HV_STATUS_DEVICE_ALREADY_IN_DOMAIN;
""",
    ),
    (
        "	if (!hvdev->domain) {\n		hvdev->guest_devid = ",
        "	if (hvdev->domain == hvdom)\n		return;\n	if (!hvdev->domain) {\n		hvdev->guest_devid = ",
    ),
)
variant_c(
    "N04",
    (
        """	if (status == HV_STATUS_INSUFFICIENT_DEVICE_DOMAINS)
		return -ENOSPC;

	return ret == -EINVAL ? -EIO : ret;
""",
        "	return ret;\n",
    ),
)
variant_c("O20", ("*perhaps = where ? where : hv_iommu_last_seen(hvdev);\n", "*perhaps = where;\n"))
variant_c(
    "O21",
    (
        '		hv_iommu_go_back(hvdev, where, deposits);\n	hv_status_err(status, "\\n");\n\n	return status;\n',
        """		hv_iommu_go_back(hvdev, where, deposits);
	hv_status_err(status, "\\n");

	return left && hvdev->domain ? HV_STATUS_SUCCESS : status;
""",
    ),
)
variant_c(
    "O22",
    (
        "			return status == HV_STATUS_SUCCESS;\n	}\n\n	pr_info(",
        "			return true;\n	}\n\n	pr_info(",
    ),
)
variant_c("O23", (ANSWER, ANSWER.replace("HV_STATUS_SUCCESS ?", "HV_STATUS_SUCCESS || special ?")))
variant_c(
    "O33",
    (
        "	while (tries--) {\n		status = hv_iommu_att_dev2dom(&hv_blocked_dom",
        """	if (!guest && !hv_l1vh_partition() &&
	    hv_iommu_det_dev_from_dom(hvdev) == HV_STATUS_SUCCESS)
		return true;

	while (tries--) {
		status = hv_iommu_att_dev2dom(&hv_blocked_dom""",
    ),
)
variant_c(
    "O34",
    (
        "	list_for_each_entry_safe(other, next, &hv_devs, list) {\n		if (!hv_iommu_aliases",
        """	if (!hvdom)
		return;

	list_for_each_entry_safe(other, next, &hv_devs, list) {
		if (!hv_iommu_aliases""",
    ),
)
variant_c(
    "O49",
    (
        ATTACH,
        "	if (old && hvdev->domain != to_hv_domain(old))\n		hv_iommu_set_domain(hvdev, to_hv_domain(old));\n" + ATTACH,
    ),
)

# --- release, L1VH, names -------------------------------------------------------------------------------------------------

variant_c(
    "D64",
    (
        PARK,
        """	bool alone = !hv_l1vh_partition() && hv_iommu_where(hvdev) &&
		     !hv_attached_dom(hv_iommu_where(hvdev));

	list_for_each_entry(other, &hv_devs, list)
		if (hv_iommu_aliases(hvdev, other))
			alone = false;
	if (alone) {
		if (hv_iommu_det_dev_from_dom(hvdev) == HV_STATUS_SUCCESS)
			hv_iommu_moved(hvdev, NULL);
	} else if (!shared) {
		hv_iommu_move(hvdev, &hv_blocked_dom, HV_STATIC_TRIES, &deposits);
	}
""",
    ),
)
variant_c(
    "D65",
    (
        PARK,
        """	if (hv_l1vh_partition()) {
		hv_iommu_det_dev_from_dom(hvdev);
		hv_def_identity_dom.num_attchd--;
	}
"""
        + PARK,
    ),
)
variant_c(
    "D66",
    ("	if (where && hv_attached_dom(where))\n		return hv_iommu_take_back(hvdev, where);\n\n", ""),
)
variant_c(
    "D81",
    (ANSWER, "	dev_iommu_priv_set(dev, hvdev);\n\n" + ANSWER),
    (RELEASED, RELEASED + "\n	dev_iommu_priv_set(dev, NULL);\n"),
)
variant_c(
    "D83",
    ("	return !(pci_domain_nr(pdev->bus) >> 16);\n", "	return true;\n"),
    parts="the file knows a function by its id, so that a device with the id of another is taken for it",
)
variant_c(
    "D84",
    (
        "	host_devid = hv_build_devid_oftype(pdev, type);\n",
        "	host_devid = hv_l1vh_partition() ? hv_build_devid_oftype(pdev, type) : (u64)type << 62;\n",
    ),
    parts="all devices move as one, so that the trial run cannot tell which member is the count",
)
variant_c(
    "O26",
    (
        """		if (hv_iommu_aliases(hvdev, other) && other->domain && !other->released)
			shared = true;
	if (!shared)
""",
        """		if (other == hvdev && hvdev->by_alias)
			shared = true;
	if (!shared)
""",
    ),
)
variant_c(
    "O28",
    (
        "		if (!other->released && other->logical_devid == logical_devid)\n			hv_iommu_lose(other, false);\n",
        "		if (other->released && other->logical_devid == logical_devid && false)\n			hv_iommu_lose(other, false);\n",
    ),
)
