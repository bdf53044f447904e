// SPDX-License-Identifier: GPL-2.0-only
/*
 * Hyper-V root virtual IOMMU driver, repaired.
 *
 * A proposal to the authors and reviewers of "[PATCH v0 12/15] x86/hyperv:
 * Implement hyperv virtual iommu". It offers what that driver offers, with its
 * names and in its order, and was written anew: it is the C of hvmodel's
 * reference driver "repaired", and the two are held against each other call by
 * call. A comment that ends in ids such as (D57) says why a repair is as it is;
 * the ids are those of hvmodel's list of defects.
 *
 * In short:
 *  - The tree of mappings says what the hypervisor has, at any time: it follows
 *    a hypercall and never precedes one.
 *  - Answers say what the hypervisor did. What it refused to map or unmap is
 *    never reported as done.
 *  - A device is moved by one hypercall. It is made to leave its place first
 *    only after the hypervisor has answered that it must.
 *  - Whose guest a domain stands for is noted when it is allocated. Who attaches
 *    or frees later does not matter.
 *  - What the hypervisor refuses to give back is kept and tried again.
 *
 * Left as it is, because it is the design of the series or needs others: a domain
 * that ignores map and unmap for the sake of direct attach (D69), which guest a
 * process with several has or will have (D75, D76, D77), firmware's 1:1 regions
 * (D99), a batch with interrupts off (D19), and what an untrusted device gets (D97).
 */

#define pr_fmt(fmt) "Hyper-V: " fmt

#include <linux/pci.h>
#include <linux/dma-map-ops.h>
#include <linux/interval_tree.h>
#include <linux/iommu.h>
#include <linux/list.h>
#include <linux/mutex.h>
#include <linux/overflow.h>
#include <linux/slab.h>
#include <linux/string.h>
#include <linux/hyperv.h>
#include <asm/iommu.h>
#include <asm/mshyperv.h>

/*
 * Statuses and a hypercall that the headers of the series do not have yet; their
 * place is hvgdk_mini.h. The capabilities call is that of the mail "hyperv:
 * Introduce new hypercall interfaces used by Hyper-V guest IOMMU".
 */
#ifndef HV_STATUS_INVALID_PARTITION_ID
#define HV_STATUS_INVALID_PARTITION_ID		0x0d
#endif
#ifndef HV_STATUS_OBJECT_IN_USE
#define HV_STATUS_OBJECT_IN_USE			0x19
#endif
#ifndef HV_STATUS_INSUFFICIENT_DEVICE_DOMAINS
#define HV_STATUS_INSUFFICIENT_DEVICE_DOMAINS	0x38
#endif
#ifndef HV_STATUS_INVALID_DEVICE_ID
#define HV_STATUS_INVALID_DEVICE_ID		0x57
#endif
#ifndef HV_STATUS_INVALID_DEVICE_STATE
#define HV_STATUS_INVALID_DEVICE_STATE		0x58
#endif
#ifndef HV_STATUS_KEY_ALREADY_EXISTS
#define HV_STATUS_KEY_ALREADY_EXISTS		0x65
#endif
#ifndef HV_STATUS_DEVICE_ALREADY_IN_DOMAIN
#define HV_STATUS_DEVICE_ALREADY_IN_DOMAIN	0x66
#endif
#ifndef HV_STATUS_INSUFFICIENT_ROOT_MEMORY
#define HV_STATUS_INSUFFICIENT_ROOT_MEMORY	0x73
#endif
#ifndef HV_STATUS_INSUFFICIENT_CONTIGUOUS_MEMORY
#define HV_STATUS_INSUFFICIENT_CONTIGUOUS_MEMORY	0x75
#endif
#ifndef HV_STATUS_INSUFFICIENT_CONTIGUOUS_ROOT_MEMORY
#define HV_STATUS_INSUFFICIENT_CONTIGUOUS_ROOT_MEMORY	0x83
#endif
#ifndef HV_DEVICE_DOMAIN_ID_S2_NULL
#define HV_DEVICE_DOMAIN_ID_S2_NULL		0xFFFFFFFFULL	/* blocks all DMA */
#endif
#ifndef HVCALL_GET_IOMMU_CAPABILITIES
#define HVCALL_GET_IOMMU_CAPABILITIES		0x0125
#endif

struct hv_iommu_caps_input {
	u64 partition_id;
	u64 reserved;
} __packed;

struct hv_iommu_caps_output {
	u32 size;
	u16 reserved;
	u8  max_iova_width;
	u8  max_pasid_width;
	u64 iommu_cap;
	u64 pgsize_bitmap;
} __packed;

#define HV_IOMMU_PGSIZES	(SZ_4K | SZ_1M)

/* Announced where the hypervisor does not say: a 4-level second-stage table. */
#define HV_DEFAULT_IOVA_WIDTH	48

/* Writes to it are interrupts, whatever is mapped there. (D98) */
#define HV_MSI_WINDOW_START	0xfee00000UL
#define HV_MSI_WINDOW_SIZE	0x00100000UL

/*
 * Pages in one hypercall: of a map what the input page holds, of an unmap what
 * the 12 bits of the rep count can say. Beyond, a map writes past the page and an
 * unmap is cut to another count by the helper's u16. (D01-D04)
 */
#define HV_MAP_BATCH \
	((HV_HYP_PAGE_SIZE - sizeof(struct hv_input_map_device_gpa_pages)) / sizeof(u64))
#define HV_UNMAP_BATCH		4095UL

#define HV_DEPOSIT_PAGES		1
#define HV_DEPOSIT_PAGES_MAP		256
#define HV_DEPOSIT_PAGES_CONTIGUOUS	8

/*
 * Deposits in a row that change nothing, and deposits in all, after which a call
 * gives up; a map may make one more for each 256 pages. (D11)
 */
#define HV_IDLE_DEPOSITS	16
#define HV_MAX_DEPOSITS		28
#define HV_MAX_MAP_DEPOSITS	64

#define HV_ID_TRIES		8	/* ids that one allocation tries */
#define HV_STATIC_TRIES		3	/* of a move that must not fail (D61) */
#define HV_DEAD_AT_ONCE		24	/* dead domains that one call tries again */

static char *pci_devs_to_skip;
static int __init hv_iommu_setup_skip(char *str)
{
	pci_devs_to_skip = str;

	return 1;	/* handled; 0 passes the option on to init (D92) */
}

/* hv_iommu_skip=(SSSS:BB:DD.F)(SSSS:BB:DD.F) */
__setup("hv_iommu_skip=", hv_iommu_setup_skip);

bool hv_no_attdev;	/* disable direct device attach for passthru */
EXPORT_SYMBOL_GPL(hv_no_attdev);
static int __init setup_hv_no_attdev(char *str)
{
	hv_no_attdev = true;

	return 1;
}
__setup("hv_no_attdev", setup_hv_no_attdev);

/* Iommu device that we export to the world. HyperV supports max of one */
static struct iommu_device hv_virt_iommu;

struct hv_domain {
	struct iommu_domain iommu_dom;
	u32 domid_num;			/* as the hypervisor knows it */
	u32 num_attchd;			/* devices of Linux that are in it */
	u64 partid;			/* guest of a direct-attach domain */
	bool dead;			/* freed by the core, kept by us */
	struct list_head list;		/* in hv_domains, if it has an id */
	struct list_head dead_list;	/* in hv_dead_doms, if it is dead */
	spinlock_t mappings_lock;	/* protects mappings_tree */
	struct rb_root_cached mappings_tree;
};

#define to_hv_domain(d) container_of(d, struct hv_domain, iommu_dom)

struct hv_iommu_mapping {
	phys_addr_t paddr;
	struct interval_tree_node iova;
};

/*
 * One for each probed function. The private pointer names it from probe to
 * release, so that it need not be set anywhere else: the core holds the lock
 * which dev_iommu_priv_set() asserts in probe only. (D81)
 *
 * It is not a domain because that would go stale: after a failed attach the core
 * may free the domain that the device is still in. (D59)
 *
 * The ids are kept because they are needed when the function may be gone: an
 * object outlives its function while the hypervisor refuses to take the device
 * out of a domain.
 */
struct hv_iommu_dev {
	struct list_head list;		/* in hv_devs */
	struct pci_dev *pdev;		/* referenced, for its name */
	u64 host_devid;			/* what this partition calls it */
	u64 logical_devid;		/* what a guest would call it */
	struct hv_domain *domain;	/* by the last answer; NULL: not known */
	u64 guest_devid;		/* what the guest that has it calls it */
	bool by_alias;			/* that answer was for an alias */
	bool adrift;			/* detached, then refused everywhere */
	bool released;			/* Linux is done with it */
};

/* Deposits that the running call may still make, for the call as a whole. */
struct hv_iommu_deposits {
	unsigned int idle;
	unsigned int left;
};

/*
 * The lists, the ids, and where devices are. The core's mutexes are per group,
 * and domains are allocated and freed under none of them. Sleeps are allowed in
 * all that takes it; map and unmap do not. (D71, D74)
 */
static DEFINE_MUTEX(hv_iommu_mutex);

static LIST_HEAD(hv_devs);	/* probed functions, and released ones that are stuck */
static LIST_HEAD(hv_domains);	/* domains with an id, live and dead */
static LIST_HEAD(hv_dead_doms);	/* freed by the core and not let go, newest first */

static struct hv_domain hv_def_identity_dom;
static struct hv_domain hv_blocked_dom;

static bool hv_special_domain(struct hv_domain *hvdom)
{
	return hvdom == &hv_def_identity_dom || hvdom == &hv_blocked_dom;
}

/* Whether devices in it use the guest's own page table. */
static bool hv_attached_dom(struct hv_domain *hvdom)
{
	return hvdom->partid != HV_PARTITION_ID_INVALID;
}

static struct iommu_domain_geometry hv_geometry;

static u32 unique_id;		/* of the newest domain */

static const struct iommu_ops hv_iommu_ops;

static bool hv_iommu_evict(struct hv_domain *hvdom, struct hv_iommu_deposits *deposits);
static bool hv_iommu_unmap_all(struct hv_domain *hvdom);
static void hv_iommu_drop_mappings(struct hv_domain *hvdom);

/*
 * If the current process manages a VM, return the partition of that VM, else
 * HV_PARTITION_ID_INVALID.
 */
u64 hv_iommu_get_curr_partid(void)
{
	u64 (*fn)(pid_t pid);
	u64 partid;

	fn = symbol_get(mshv_pid_to_partid);
	if (!fn)
		return HV_PARTITION_ID_INVALID;

	partid = fn(current->tgid);
	symbol_put(mshv_pid_to_partid);

	return partid;
}

static bool hv_iommu_capable(struct device *dev, enum iommu_cap cap)
{
	return cap == IOMMU_CAP_CACHE_COHERENCY;
}

/*
 * Whether a device is with a guest. A device that another IOMMU driver manages
 * has a domain, too, and that is no hv_domain. (D82)
 */
bool hv_pcidev_is_attached_dev(struct pci_dev *pdev)
{
	struct iommu_domain *domain = iommu_get_domain_for_dev(&pdev->dev);

	if (!domain || domain->owner != &hv_iommu_ops)
		return false;

	return hv_attached_dom(to_hv_domain(domain));
}
EXPORT_SYMBOL_GPL(hv_pcidev_is_attached_dev);

/* ---- memory that the hypervisor asks for ---- */

static void hv_iommu_init_deposits(struct hv_iommu_deposits *deposits, size_t npages)
{
	deposits->idle = HV_IDLE_DEPOSITS;
	deposits->left = min_t(size_t, HV_MAX_DEPOSITS + npages / 256, HV_MAX_MAP_DEPOSITS);
}

static bool hv_iommu_shortage(int status)
{
	return status == HV_STATUS_INSUFFICIENT_MEMORY ||
	       status == HV_STATUS_INSUFFICIENT_CONTIGUOUS_MEMORY ||
	       status == HV_STATUS_INSUFFICIENT_ROOT_MEMORY ||
	       status == HV_STATUS_INSUFFICIENT_CONTIGUOUS_ROOT_MEMORY;
}

/*
 * Whether a status reports a shortage and what it asks for was given, so that the
 * hypercall is worth another try. Any hypercall that takes memory can run short,
 * and there are four codes for it. (D10, D12, D13)
 *
 * Sleeps.
 */
static bool hv_iommu_deposit(int status, struct hv_iommu_deposits *deposits, u64 payer,
			     u32 pages)
{
	bool root = status == HV_STATUS_INSUFFICIENT_ROOT_MEMORY ||
		    status == HV_STATUS_INSUFFICIENT_CONTIGUOUS_ROOT_MEMORY;
	bool contiguous = status == HV_STATUS_INSUFFICIENT_CONTIGUOUS_MEMORY ||
			  status == HV_STATUS_INSUFFICIENT_CONTIGUOUS_ROOT_MEMORY;

	if (!hv_iommu_shortage(status))
		return false;

	/* An L1VH cannot pay for the root. */
	if (root && hv_l1vh_partition())
		return false;

	if (!deposits->idle || !deposits->left)
		return false;
	deposits->idle--;
	deposits->left--;

	if (contiguous)
		pages = max_t(u32, pages, HV_DEPOSIT_PAGES_CONTIGUOUS);

	return !hv_call_deposit_pages(NUMA_NO_NODE, root ? hv_current_partition_id : payer,
				      pages);
}

/*
 * The errno of a refused allocation or attach. To the core -EINVAL means "try
 * another domain", so what the hypervisor refuses is never that. (D79)
 */
static int hv_iommu_errno(int status)
{
	int ret = hv_result_to_errno(status);

	if (status == HV_STATUS_INSUFFICIENT_DEVICE_DOMAINS)
		return -ENOSPC;

	return ret == -EINVAL ? -EIO : ret;
}

/* ---- domains ---- */

/* Create a device domain in the hypervisor. Returns the result code. */
static int hv_iommu_create_hyp_devdom(struct hv_domain *hvdom,
				      struct hv_iommu_deposits *deposits)
{
	struct hv_input_create_device_domain *input;
	unsigned long flags;
	int status;

	do {
		local_irq_save(flags);
		input = *this_cpu_ptr(hyperv_pcpu_input_arg);
		memset(input, 0, sizeof(*input));

		input->device_domain.partition_id = HV_PARTITION_ID_SELF;
		input->device_domain.domain_id.type = HV_DEVICE_DOMAIN_TYPE_S2;
		input->device_domain.domain_id.id = hvdom->domid_num;
		input->create_device_domain_flags.forward_progress_required = 1;

		status = hv_result(hv_do_hypercall(HVCALL_CREATE_DEVICE_DOMAIN, input, NULL));
		local_irq_restore(flags);
	} while (hv_iommu_deposit(status, deposits, hv_current_partition_id, HV_DEPOSIT_PAGES));

	return status;
}

/* Delete it. Mappings go with it, or have to be unmapped before. */
static int hv_iommu_delete_hyp_devdom(struct hv_domain *hvdom)
{
	struct hv_input_delete_device_domain *input;
	unsigned long flags;
	int status;

	local_irq_save(flags);
	input = *this_cpu_ptr(hyperv_pcpu_input_arg);
	memset(input, 0, sizeof(*input));

	input->device_domain.partition_id = HV_PARTITION_ID_SELF;
	input->device_domain.domain_id.type = HV_DEVICE_DOMAIN_TYPE_S2;
	input->device_domain.domain_id.id = hvdom->domid_num;

	status = hv_result(hv_do_hypercall(HVCALL_DELETE_DEVICE_DOMAIN, input, NULL));
	local_irq_restore(flags);

	return status;
}

static bool hv_iommu_id_taken(u32 id)
{
	struct hv_domain *other;

	if (id == HV_DEVICE_DOMAIN_ID_S2_DEFAULT || id == HV_DEVICE_DOMAIN_ID_S2_NULL)
		return true;

	list_for_each_entry(other, &hv_domains, list)
		if (other->domid_num == id)
			return true;

	return false;
}

/*
 * The next id that is not reserved and that no domain has which may be alive. It
 * never steps back: after a create of unclear outcome the id may be in use, and
 * another allocation may have taken the next one. (D71, D72, D73)
 */
static void hv_iommu_new_id(struct hv_domain *hvdom)
{
	do {
		unique_id++;
	} while (hv_iommu_id_taken(unique_id));

	hvdom->domid_num = unique_id;
}

/*
 * Create a domain under an id that the hypervisor does not know: a kernel before
 * this one may have left some. (D72)
 */
static int hv_iommu_create(struct hv_domain *hvdom, struct hv_iommu_deposits *deposits)
{
	int tries, status;

	for (tries = 0; tries < HV_ID_TRIES; tries++) {
		hv_iommu_new_id(hvdom);
		status = hv_iommu_create_hyp_devdom(hvdom, deposits);
		if (status != HV_STATUS_KEY_ALREADY_EXISTS && status != HV_STATUS_OBJECT_IN_USE)
			break;
	}

	return status;
}

/*
 * Delete a domain that the core has freed. Returns whether it is gone for good.
 *
 * Mappings that are left are legal: they go with the domain, or before it if the
 * hypervisor wants that. (D32)
 */
static bool hv_iommu_bury(struct hv_domain *hvdom, struct hv_iommu_deposits *deposits)
{
	int status;

	if (!hv_iommu_evict(hvdom, deposits))
		return false;

	WARN_ON_ONCE(hvdom->num_attchd);

	if (!hv_attached_dom(hvdom)) {
		status = hv_iommu_delete_hyp_devdom(hvdom);
		if (status == HV_STATUS_OBJECT_IN_USE && hv_iommu_unmap_all(hvdom))
			status = hv_iommu_delete_hyp_devdom(hvdom);
		if (status != HV_STATUS_SUCCESS) {
			hv_status_err(status, "\n");
			return false;
		}
		list_del(&hvdom->list);
	}

	list_del(&hvdom->dead_list);
	hv_iommu_drop_mappings(hvdom);
	kfree(hvdom);

	return true;
}

/*
 * Try the newest dead domain first, then others, until one is refused again; and
 * block what is adrift.
 */
static void hv_iommu_bury_dead(struct hv_iommu_deposits *deposits)
{
	struct hv_domain *hvdom, *next;
	int count = 0;

	list_for_each_entry_safe(hvdom, next, &hv_dead_doms, dead_list) {
		if (count++ == HV_DEAD_AT_ONCE || !hv_iommu_bury(hvdom, deposits))
			break;
	}

	hv_iommu_evict(NULL, deposits);
}

static struct iommu_domain *hv_iommu_domain_alloc_paging(struct device *dev)
{
	struct hv_iommu_deposits deposits;
	u64 partid = HV_PARTITION_ID_INVALID;
	struct hv_domain *hvdom;
	int status;

	hv_iommu_init_deposits(&deposits, 0);

	mutex_lock(&hv_iommu_mutex);
	hv_iommu_bury_dead(&deposits);

	/*
	 * For a thread of a VMM the domain stands for its guest. An L1VH can do
	 * nothing else, so hv_no_attdev does not apply there. (D70)
	 */
	if (hv_l1vh_partition() || !hv_no_attdev)
		partid = hv_iommu_get_curr_partid();
	if (hv_l1vh_partition() && partid == HV_PARTITION_ID_INVALID) {
		mutex_unlock(&hv_iommu_mutex);
		pr_err("an L1VH has no IOMMU domains for the host\n");
		return ERR_PTR(-ENODEV);
	}

	hvdom = kzalloc(sizeof(*hvdom), GFP_KERNEL);
	if (!hvdom) {
		mutex_unlock(&hv_iommu_mutex);
		return ERR_PTR(-ENOMEM);
	}

	spin_lock_init(&hvdom->mappings_lock);
	hvdom->mappings_tree = RB_ROOT_CACHED;
	hvdom->partid = partid;
	hvdom->iommu_dom.geometry = hv_geometry;
	hvdom->iommu_dom.pgsize_bitmap = HV_IOMMU_PGSIZES;

	if (!hv_attached_dom(hvdom)) {
		status = hv_iommu_create(hvdom, &deposits);
		if (status != HV_STATUS_SUCCESS) {
			mutex_unlock(&hv_iommu_mutex);
			hv_status_err(status, "\n");
			kfree(hvdom);
			return ERR_PTR(hv_iommu_errno(status));	/* (D79) */
		}
		list_add_tail(&hvdom->list, &hv_domains);
	}
	mutex_unlock(&hv_iommu_mutex);

	return &hvdom->iommu_dom;
}

/*
 * The core has dropped the domain whatever happens here, so there is no "busy": a
 * device that is stuck in it is taken out first. If the hypervisor refuses that,
 * or the delete, object and id are kept and both are tried again later. (D53,
 * D56, D61, D62)
 */
static void hv_iommu_domain_free(struct iommu_domain *immdom)
{
	struct hv_domain *hvdom = to_hv_domain(immdom);
	struct hv_iommu_deposits deposits;

	hv_iommu_init_deposits(&deposits, 0);

	mutex_lock(&hv_iommu_mutex);
	hvdom->dead = true;
	list_add(&hvdom->dead_list, &hv_dead_doms);
	hv_iommu_bury_dead(&deposits);
	mutex_unlock(&hv_iommu_mutex);
}

/* Free the dead direct-attach domains that devices have left: that takes no hypercall. */
static void hv_iommu_bury_left(void)
{
	struct hv_domain *hvdom, *next;
	struct hv_iommu_dev *hvdev;
	bool used;

	list_for_each_entry_safe(hvdom, next, &hv_dead_doms, dead_list) {
		used = false;
		list_for_each_entry(hvdev, &hv_devs, list)
			used |= hvdev->domain == hvdom;
		if (used || !hv_attached_dom(hvdom))
			continue;
		list_del(&hvdom->dead_list);
		hv_iommu_drop_mappings(hvdom);
		kfree(hvdom);
	}
}

/* ---- hypercalls of devices; all return the result code ---- */

/* Attach a device to a domain: in one move out of whatever domain it is in. (D57, D58) */
static int hv_iommu_att_dev2dom(struct hv_domain *hvdom, struct hv_iommu_dev *hvdev,
				struct hv_iommu_deposits *deposits)
{
	struct hv_input_attach_device_domain *input;
	unsigned long flags;
	int status;

	do {
		local_irq_save(flags);
		input = *this_cpu_ptr(hyperv_pcpu_input_arg);
		memset(input, 0, sizeof(*input));

		input->device_domain.partition_id = HV_PARTITION_ID_SELF;
		input->device_domain.domain_id.type = HV_DEVICE_DOMAIN_TYPE_S2;
		input->device_domain.domain_id.id = hvdom->domid_num;
		input->device_id.as_uint64 = hvdev->host_devid;

		status = hv_result(hv_do_hypercall(HVCALL_ATTACH_DEVICE_DOMAIN, input, NULL));
		local_irq_restore(flags);
	} while (hv_iommu_deposit(status, deposits, hv_current_partition_id, HV_DEPOSIT_PAGES));

	return status;
}

/* Give a device to the guest that the domain was made for, who also pays. (D54) */
static int hv_iommu_direct_attach_device(struct hv_domain *hvdom, struct hv_iommu_dev *hvdev,
					 struct hv_iommu_deposits *deposits)
{
	struct hv_input_attach_device *input;
	u64 partid = hvdom->partid;
	unsigned long flags;
	int status;

	do {
		local_irq_save(flags);
		input = *this_cpu_ptr(hyperv_pcpu_input_arg);
		memset(input, 0, sizeof(*input));

		input->partition_id = partid;
		input->device_id.as_uint64 = hvdev->host_devid;
		input->attdev_flags.logical_id = 1;
		input->logical_devid = hvdev->logical_devid;

		status = hv_result(hv_do_hypercall(HVCALL_ATTACH_DEVICE, input, NULL));
		local_irq_restore(flags);
	} while (hv_iommu_deposit(status, deposits, partid, HV_DEPOSIT_PAGES));

	return status;
}

/* Take a device from the guest that the domain was made for, by the id that it was given. (D55) */
static int hv_iommu_det_dev_from_guest(struct hv_domain *hvdom, u64 guest_devid)
{
	struct hv_input_detach_device *input;
	unsigned long flags;
	int status;

	local_irq_save(flags);
	input = *this_cpu_ptr(hyperv_pcpu_input_arg);
	memset(input, 0, sizeof(*input));

	input->partition_id = hvdom->partid;
	input->logical_devid = guest_devid;

	status = hv_result(hv_do_hypercall(HVCALL_DETACH_DEVICE, input, NULL));
	local_irq_restore(flags);

	return status;
}

/* The last resort: where a detached device can go is up to the hypervisor. (D57) */
static int hv_iommu_det_dev_from_dom(struct hv_iommu_dev *hvdev)
{
	struct hv_input_detach_device_domain *input;
	unsigned long flags;
	int status;

	local_irq_save(flags);
	input = *this_cpu_ptr(hyperv_pcpu_input_arg);
	memset(input, 0, sizeof(*input));

	input->partition_id = HV_PARTITION_ID_SELF;
	input->device_id.as_uint64 = hvdev->host_devid;

	status = hv_result(hv_do_hypercall(HVCALL_DETACH_DEVICE_DOMAIN, input, NULL));
	local_irq_restore(flags);

	return status;
}

/* ---- where devices are ---- */

/*
 * Functions behind a bridge carry its requester id, and the hypervisor cannot tell
 * them apart: it moves all of them when one is moved.
 */
static bool hv_iommu_aliases(struct hv_iommu_dev *hvdev, struct hv_iommu_dev *other)
{
	return other != hvdev && other->host_devid == hvdev->host_devid;
}

/* The domain that the device is in by the last answer for it or an alias; NULL: not known. */
static struct hv_domain *hv_iommu_where(struct hv_iommu_dev *hvdev)
{
	struct hv_iommu_dev *other;

	if (hvdev->domain)
		return hvdev->domain;

	list_for_each_entry(other, &hv_devs, list)
		if (hv_iommu_aliases(hvdev, other) && other->domain && !other->released)
			return other->domain;

	return NULL;
}

/* The domain that a function was in when Linux lost it; it may be there still. */
static struct hv_domain *hv_iommu_last_seen(struct hv_iommu_dev *hvdev)
{
	struct hv_iommu_dev *other;

	list_for_each_entry(other, &hv_devs, list)
		if (hv_iommu_aliases(hvdev, other) && other->domain && other->released)
			return other->domain;

	return NULL;
}

/*
 * Note where one function is. Counts change here and nowhere else, after an answer
 * of the hypervisor. An L1VH has no device domains, so nothing is in one there.
 * (D50, D51, D52)
 */
static void hv_iommu_set_domain(struct hv_iommu_dev *hvdev, struct hv_domain *hvdom)
{
	if (!hvdev->released) {
		if (hvdev->domain && !(hv_l1vh_partition() && hv_special_domain(hvdev->domain)))
			hvdev->domain->num_attchd--;
		if (hvdom && !(hv_l1vh_partition() && hv_special_domain(hvdom)))
			hvdom->num_attchd++;
	}
	hvdev->domain = hvdom;
}

/* Free what is left of a released function. */
static void hv_iommu_forget(struct hv_iommu_dev *hvdev)
{
	list_del(&hvdev->list);
	pci_dev_put(hvdev->pdev);
	kfree(hvdev);
}

/*
 * The hypervisor has moved the device, and with it all functions behind its id. A
 * released one whose device is out of its domain is freed: also @hvdev itself.
 */
static void hv_iommu_moved(struct hv_iommu_dev *hvdev, struct hv_domain *hvdom)
{
	struct hv_iommu_dev *other, *next;

	list_for_each_entry_safe(other, next, &hv_devs, list) {
		if (!hv_iommu_aliases(hvdev, other))
			continue;
		if (other->domain) {
			hv_iommu_set_domain(other, hvdom);
			other->guest_devid = hvdev->logical_devid;
			other->by_alias = true;
			other->adrift = !hvdom;
		}
		if (other->released)
			hv_iommu_forget(other);
	}

	hv_iommu_set_domain(hvdev, hvdom);
	hvdev->guest_devid = hvdev->logical_devid;
	hvdev->by_alias = false;
	hvdev->adrift = !hvdom;
	if (hvdev->released && hvdom && hv_special_domain(hvdom))
		hv_iommu_forget(hvdev);
}

/* The id by which a guest knows the device, whichever function it was given as. */
static u64 hv_iommu_guest_devid(struct hv_iommu_dev *hvdev, struct hv_domain *hvdom)
{
	struct hv_iommu_dev *other;

	if (hvdev->domain == hvdom)
		return hvdev->guest_devid;

	list_for_each_entry(other, &hv_devs, list)
		if (hv_iommu_aliases(hvdev, other) && other->domain == hvdom)
			return other->guest_devid;

	return 0;
}

/* The device is there already; from now on this function has been asked about, too. */
static void hv_iommu_note_alias(struct hv_iommu_dev *hvdev, struct hv_domain *hvdom)
{
	if (!hvdev->domain) {
		hvdev->guest_devid = hv_iommu_guest_devid(hvdev, hvdom);
		hv_iommu_set_domain(hvdev, hvdom);
	}
	hvdev->by_alias = false;
}

/*
 * Linux is done with a function. The object stays if the device could not be
 * blocked, and names the domain that it may still be in.
 */
static void hv_iommu_lose(struct hv_iommu_dev *hvdev, bool shared)
{
	struct hv_domain *last = hvdev->domain;
	bool parked = last ? hv_special_domain(last) : !hvdev->adrift;

	hv_iommu_set_domain(hvdev, NULL);
	hvdev->released = true;
	hvdev->domain = last;
	if (shared || parked)
		hv_iommu_forget(hvdev);
}

/* ---- moving devices ---- */

/* How an attach says that the device has to leave the place where it is first. */
static bool hv_iommu_must_leave(int status)
{
	return status == HV_STATUS_DEVICE_ALREADY_IN_DOMAIN ||
	       status == HV_STATUS_INVALID_DEVICE_STATE ||
	       status == HV_STATUS_OBJECT_IN_USE;
}

/* Take the device out of its guest; a guest that is gone has let go of it. (D60) */
static int hv_iommu_take_back(struct hv_iommu_dev *hvdev, struct hv_domain *hvdom)
{
	u64 guest_devid = hv_iommu_guest_devid(hvdev, hvdom);
	int status = hv_iommu_det_dev_from_guest(hvdom, guest_devid);

	if (status == HV_STATUS_INVALID_PARTITION_ID || status == HV_STATUS_INVALID_DEVICE_ID) {
		pr_info("%s: its guest is gone\n", pci_name(hvdev->pdev));
		return HV_STATUS_SUCCESS;
	}
	if (status != HV_STATUS_SUCCESS)
		hv_status_err(status, "\n");

	return status;
}

/*
 * Ask for the device to be put into a domain or given to its guest; @where is where
 * it is.
 *
 * An L1VH has no device domains: there both static domains mean "with no guest".
 * What a device with no guest can reach there is up to the hypervisor above. (D65,
 * D66)
 */
static int hv_iommu_enter(struct hv_iommu_dev *hvdev, struct hv_domain *hvdom,
			  struct hv_domain *where, struct hv_iommu_deposits *deposits)
{
	if (hv_attached_dom(hvdom))
		return hv_iommu_direct_attach_device(hvdom, hvdev, deposits);

	if (!hv_l1vh_partition())
		return hv_iommu_att_dev2dom(hvdom, hvdev, deposits);

	if (where && hv_attached_dom(where))
		return hv_iommu_take_back(hvdev, where);

	return HV_STATUS_SUCCESS;
}

/* Whether a device can be in the way of an attach. */
static bool hv_iommu_may_leave(struct hv_iommu_dev *hvdev, struct hv_domain *where)
{
	return where ? !hv_special_domain(where) : !hvdev->adrift;
}

/*
 * Get the device out of where it is: into the blocking domain or, if the hypervisor
 * has it no other way, detached. Returns whether it is out. A detach may lead
 * anywhere, so it is made sure that it is needed. (D57, D60)
 */
static bool hv_iommu_leave(struct hv_iommu_dev *hvdev, struct hv_domain *where,
			   struct hv_iommu_deposits *deposits)
{
	bool guest = where && hv_attached_dom(where);
	int tries = hv_l1vh_partition() ? 0 : guest ? 1 : 2;
	int status;

	while (tries--) {
		status = hv_iommu_att_dev2dom(&hv_blocked_dom, hvdev, deposits);
		if (!hv_iommu_must_leave(status))
			return status == HV_STATUS_SUCCESS;
	}

	pr_info("%s has to be detached before it can move\n", pci_name(hvdev->pdev));
	if (guest)
		return hv_iommu_take_back(hvdev, where) == HV_STATUS_SUCCESS;
	if (hv_l1vh_partition())
		return false;

	status = hv_iommu_det_dev_from_dom(hvdev);
	if (status != HV_STATUS_SUCCESS)
		hv_status_err(status, "\n");

	return status == HV_STATUS_SUCCESS;
}

/*
 * The device left and could not go on: back to where it was, unless that is being freed,
 * or into the blocking domain.
 */
static void hv_iommu_go_back(struct hv_iommu_dev *hvdev, struct hv_domain *where,
			     struct hv_iommu_deposits *deposits)
{
	struct hv_domain *places[] = { where && !where->dead ? where : NULL, &hv_blocked_dom };
	int i, tries, status;

	for (i = 0; i < ARRAY_SIZE(places); i++) {
		for (tries = 0; places[i] && tries < HV_STATIC_TRIES; tries++) {
			status = hv_iommu_enter(hvdev, places[i], NULL, deposits);
			if (status == HV_STATUS_SUCCESS ||
			    status == HV_STATUS_DEVICE_ALREADY_IN_DOMAIN) {
				hv_iommu_moved(hvdev, places[i]);
				return;
			}
		}
	}

	pr_err("a device could neither move nor go back\n");
	hv_iommu_moved(hvdev, NULL);
}

/*
 * Move a device. Returns the result code. After a failure it is where it was; if the
 * hypervisor refused that, too, it is in the blocking domain; if it refused even
 * that, it is where the detach left it. (D57, D58)
 *
 * No hypercall is needed for a device that is there already, except with a guest:
 * that may have ended unnoticed.
 *
 * May free @hvdev if that was released.
 */
static int hv_iommu_move(struct hv_iommu_dev *hvdev, struct hv_domain *hvdom, int tries,
			 struct hv_iommu_deposits *deposits)
{
	struct hv_domain *where = hv_iommu_where(hvdev);
	struct hv_domain *perhaps = where ? where : hv_iommu_last_seen(hvdev);
	bool alias = where == hvdom && (!hvdev->domain || hvdev->by_alias);
	int status = HV_STATUS_SUCCESS;
	bool left = false;

	lockdep_assert_held(&hv_iommu_mutex);

	if (where == hvdom && !hv_attached_dom(hvdom)) {
		hv_iommu_note_alias(hvdev, hvdom);
		return HV_STATUS_SUCCESS;
	}

	while (tries--) {
		status = hv_iommu_enter(hvdev, hvdom, perhaps, deposits);
		if (alias && hv_iommu_must_leave(status)) {
			pr_info("%s is with its guest by another name\n", pci_name(hvdev->pdev));
			hv_iommu_note_alias(hvdev, hvdom);
			return HV_STATUS_SUCCESS;
		}

		if (hv_iommu_must_leave(status) && !left && hv_iommu_may_leave(hvdev, where)) {
			left = hv_iommu_leave(hvdev, perhaps, deposits);
			if (left)
				status = hv_iommu_enter(hvdev, hvdom, NULL, deposits);
		}

		if (left && status == HV_STATUS_DEVICE_ALREADY_IN_DOMAIN) {
			pr_info("%s was there already\n", pci_name(hvdev->pdev));
			status = HV_STATUS_SUCCESS;
		}

		if (status == HV_STATUS_SUCCESS) {
			hv_iommu_moved(hvdev, hvdom);
			return HV_STATUS_SUCCESS;
		}
	}

	if (left)
		hv_iommu_go_back(hvdev, where, deposits);
	hv_status_err(status, "\n");

	return status;
}

/* Whether a device is one that hv_iommu_evict() has to move; it may be gone. */
static bool hv_iommu_stuck(struct hv_iommu_dev *hvdev, struct hv_domain *hvdom)
{
	struct hv_iommu_dev *other;

	list_for_each_entry(other, &hv_devs, list)
		if (other == hvdev)
			return hvdev->domain == hvdom;

	return false;
}

/*
 * Block the devices that are still in a domain, or (NULL) the released ones that are
 * adrift. Returns whether none is left. (D59)
 */
static bool hv_iommu_evict(struct hv_domain *hvdom, struct hv_iommu_deposits *deposits)
{
	struct hv_iommu_dev *hvdev;

again:
	list_for_each_entry(hvdev, &hv_devs, list) {
		if (hvdev->domain != hvdom)
			continue;
		if (!hvdom && !(hvdev->released && hvdev->adrift))
			continue;

		hv_iommu_move(hvdev, &hv_blocked_dom, HV_STATIC_TRIES, deposits);
		if (hv_iommu_stuck(hvdev, hvdom))
			return false;
		goto again;	/* the move may have freed any of them */
	}

	return true;
}

/*
 * The core's @old is what it believes; where the device is, this driver knows better.
 * A static domain is tried again, because the core goes on as if it had worked and
 * frees the old one. (D59, D61)
 */
static int hv_iommu_attach_dev(struct iommu_domain *immdom, struct device *dev,
			       struct iommu_domain *old)
{
	struct hv_iommu_dev *hvdev = dev_iommu_priv_get(dev);
	struct hv_domain *hvdom = to_hv_domain(immdom);
	bool special = hv_special_domain(hvdom);
	struct hv_iommu_deposits deposits;
	int status;

	/* L1VH does not support anything but direct attach. */
	if (hv_l1vh_partition() && !special && !hv_attached_dom(hvdom))
		return -EINVAL;

	hv_iommu_init_deposits(&deposits, 0);

	mutex_lock(&hv_iommu_mutex);
	status = hv_iommu_move(hvdev, hvdom, special ? HV_STATIC_TRIES : 1, &deposits);
	mutex_unlock(&hv_iommu_mutex);

	return status == HV_STATUS_SUCCESS ? 0 : hv_iommu_errno(status);
}

/* ---- the tree: what the hypervisor has mapped (D30, D33) ---- */

static void hv_iommu_add_tree_mapping(struct hv_domain *hvdom, struct hv_iommu_mapping *mapping,
				      unsigned long iova, phys_addr_t paddr, size_t size)
{
	unsigned long flags;

	mapping->paddr = paddr;
	mapping->iova.start = iova;
	mapping->iova.last = iova + size - 1;

	spin_lock_irqsave(&hvdom->mappings_lock, flags);
	interval_tree_insert(&mapping->iova, &hvdom->mappings_tree);
	spin_unlock_irqrestore(&hvdom->mappings_lock, flags);
}

/* Whether anything is mapped in a range. */
static bool hv_iommu_meets(struct hv_domain *hvdom, unsigned long iova, size_t size)
{
	struct interval_tree_node *node;
	unsigned long flags;

	spin_lock_irqsave(&hvdom->mappings_lock, flags);
	node = interval_tree_iter_first(&hvdom->mappings_tree, iova, iova + size - 1);
	spin_unlock_irqrestore(&hvdom->mappings_lock, flags);

	return node;
}

/*
 * How many bytes from @iova on are mapped without a hole, up to @size; @inside says
 * whether @iova is in the middle of a mapping. All ends are of the last byte: one
 * past it wraps at the top of the address space. (D15)
 */
static size_t hv_iommu_covered(struct hv_domain *hvdom, unsigned long iova, size_t size,
			       bool *inside)
{
	unsigned long last = iova + size - 1, flags;
	struct interval_tree_node *node;
	size_t covered = 0;

	*inside = false;
	spin_lock_irqsave(&hvdom->mappings_lock, flags);
	node = interval_tree_iter_first(&hvdom->mappings_tree, iova, last);
	while (node && covered < size && node->start <= iova + covered) {
		if (node->start < iova)
			*inside = true;
		covered = min(node->last, last) - iova + 1;
		node = interval_tree_iter_next(node, iova, last);
	}
	spin_unlock_irqrestore(&hvdom->mappings_lock, flags);

	return covered;
}

/*
 * Take @size mapped bytes from @iova on out of the tree. What is left of the first and
 * of the last mapping stays; if they are one, its end becomes @spare, which is freed if
 * it is not needed. (D21, D23, D24)
 */
static void hv_iommu_del_tree_mappings(struct hv_domain *hvdom, unsigned long iova, size_t size,
				       struct hv_iommu_mapping *spare)
{
	unsigned long last = iova + size - 1, start, end, flags;
	struct hv_iommu_mapping *mapping, *tail;
	struct interval_tree_node *node, *next;

	spin_lock_irqsave(&hvdom->mappings_lock, flags);
	node = size ? interval_tree_iter_first(&hvdom->mappings_tree, iova, last) : NULL;
	for (; node; node = next) {
		next = interval_tree_iter_next(node, iova, last);
		mapping = container_of(node, struct hv_iommu_mapping, iova);
		start = node->start;
		end = node->last;

		interval_tree_remove(node, &hvdom->mappings_tree);
		if (end > last) {
			tail = start >= iova ? mapping : spare;
			if (tail == spare)
				spare = NULL;
			tail->paddr = mapping->paddr + (last - start) + 1;
			tail->iova.start = last + 1;
			tail->iova.last = end;
			interval_tree_insert(&tail->iova, &hvdom->mappings_tree);
		}
		if (start < iova) {
			node->last = iova - 1;
			interval_tree_insert(node, &hvdom->mappings_tree);
		} else if (end <= last) {
			kfree(mapping);
		}
	}
	spin_unlock_irqrestore(&hvdom->mappings_lock, flags);

	kfree(spare);
}

/* Free the nodes of a domain that is gone. (D32) */
static void hv_iommu_drop_mappings(struct hv_domain *hvdom)
{
	struct interval_tree_node *node;

	while ((node = interval_tree_iter_first(&hvdom->mappings_tree, 0, ULONG_MAX))) {
		interval_tree_remove(node, &hvdom->mappings_tree);
		kfree(container_of(node, struct hv_iommu_mapping, iova));
	}
}

/* ---- pages ---- */

/* One map hypercall. Returns the exact hypercall status. */
static u64 hv_iommu_map_pgs(struct hv_domain *hvdom, unsigned long iova, phys_addr_t paddr,
			    size_t npages, u32 map_flags)
{
	struct hv_input_map_device_gpa_pages *input;
	u64 pfn = paddr >> HV_HYP_PAGE_SHIFT;
	unsigned long flags;
	u64 status;
	size_t i;

	local_irq_save(flags);
	input = *this_cpu_ptr(hyperv_pcpu_input_arg);
	memset(input, 0, sizeof(*input));

	input->device_domain.partition_id = HV_PARTITION_ID_SELF;
	input->device_domain.domain_id.type = HV_DEVICE_DOMAIN_TYPE_S2;
	input->device_domain.domain_id.id = hvdom->domid_num;
	input->map_flags = map_flags;
	input->target_device_va_base = iova;

	for (i = 0; i < npages; i++)
		input->gpa_page_list[i] = pfn++;

	status = hv_do_rep_hypercall(HVCALL_MAP_DEVICE_GPA_PAGES, npages, 0, input, NULL);
	local_irq_restore(flags);

	return status;
}

/*
 * Map pages one batch at a time. Returns the result code that ended it, and in @done
 * how many pages the hypervisor has. A call that did all its reps has succeeded
 * whatever its result says. (D17)
 *
 * A caller that may not sleep gets no deposits. (D38)
 */
static int hv_iommu_map_range(struct hv_domain *hvdom, unsigned long iova, phys_addr_t paddr,
			      size_t npages, u32 map_flags, gfp_t gfp, size_t *done)
{
	struct hv_iommu_deposits deposits;
	int result = HV_STATUS_SUCCESS;
	size_t offset, count;
	u64 status;

	hv_iommu_init_deposits(&deposits, npages);

	for (*done = 0; *done < npages;) {
		offset = *done << HV_HYP_PAGE_SHIFT;
		count = min_t(size_t, npages - *done, HV_MAP_BATCH);
		status = hv_iommu_map_pgs(hvdom, iova + offset, paddr + offset, count, map_flags);
		result = hv_result(status);
		*done += hv_repcomp(status);
		if (hv_repcomp(status))
			deposits.idle = HV_IDLE_DEPOSITS;
		if (result == HV_STATUS_SUCCESS || *done == npages) {
			result = HV_STATUS_SUCCESS;
			continue;
		}

		/*
		 * Where the hypervisor refuses pages that cannot be read, they are
		 * made readable; not before. (D36)
		 */
		if (result == HV_STATUS_INVALID_PARAMETER && !*done &&
		    !(map_flags & HV_MAP_GPA_READABLE)) {
			map_flags |= HV_MAP_GPA_READABLE;
			continue;
		}

		if (!gfpflags_allow_blocking(gfp) ||
		    !hv_iommu_deposit(result, &deposits, hv_current_partition_id,
				      HV_DEPOSIT_PAGES_MAP)) {
			hv_status_err(status, "pgs:%zx/%zx iova:%lx\n", *done, npages, iova);
			break;
		}
	}

	return result;
}

/* One unmap hypercall. Returns the exact hypercall status. */
static u64 hv_iommu_unmap_pgs(struct hv_domain *hvdom, unsigned long iova, size_t npages)
{
	struct hv_input_unmap_device_gpa_pages *input;
	unsigned long flags;
	u64 status;

	local_irq_save(flags);
	input = *this_cpu_ptr(hyperv_pcpu_input_arg);
	memset(input, 0, sizeof(*input));

	input->device_domain.partition_id = HV_PARTITION_ID_SELF;
	input->device_domain.domain_id.type = HV_DEVICE_DOMAIN_TYPE_S2;
	input->device_domain.domain_id.id = hvdom->domid_num;
	input->target_device_va_base = iova;

	status = hv_do_rep_hypercall(HVCALL_UNMAP_DEVICE_GPA_PAGES, npages, 0, input, NULL);
	local_irq_restore(flags);

	return status;
}

/* Unmap pages. Returns how many are gone: the callers believe that and nothing else. (D29) */
static size_t hv_iommu_unmap_range(struct hv_domain *hvdom, unsigned long iova, size_t npages)
{
	size_t done = 0, count;
	u64 status;

	while (done < npages) {
		count = min_t(size_t, npages - done, HV_UNMAP_BATCH);
		status = hv_iommu_unmap_pgs(hvdom, iova + (done << HV_HYP_PAGE_SHIFT), count);
		done += hv_repcomp(status);
		if (!hv_result_success(status) && done < npages) {
			hv_status_err(status, "pgs:%zx/%zx iova:%lx\n", done, npages, iova);
			break;
		}
	}

	return done;
}

/* Unmap all that is left in a dead domain. Returns whether there was something and it is gone. */
static bool hv_iommu_unmap_all(struct hv_domain *hvdom)
{
	struct interval_tree_node *node;
	size_t size, done;
	bool any = false;

	while ((node = interval_tree_iter_first(&hvdom->mappings_tree, 0, ULONG_MAX))) {
		unsigned long start = node->start;

		size = node->last - start + 1;
		done = hv_iommu_unmap_range(hvdom, start, size >> HV_HYP_PAGE_SHIFT)
			<< HV_HYP_PAGE_SHIFT;
		hv_iommu_del_tree_mappings(hvdom, start, done, NULL);
		if (done < size)
			return false;
		any = true;
	}

	return any;
}

/*
 * The size of a request that can be served, or 0: whole pages, inside the aperture, no
 * wrap. (D14, D15, D100)
 */
static size_t hv_iommu_map_size(struct hv_domain *hvdom, unsigned long iova, phys_addr_t paddr,
				size_t pgsize, size_t pgcount)
{
	size_t size;

	if (check_mul_overflow(pgsize, pgcount, &size) || !size)
		return 0;
	if (!IS_ALIGNED(iova | paddr | size, SZ_4K))
		return 0;
	if (iova + size - 1 < iova || paddr + size - 1 < paddr)
		return 0;
	if (iova + size - 1 > hvdom->iommu_dom.geometry.aperture_end)
		return 0;

	return size;
}

/* What may be done through a mapping, no more. (D36) */
static u32 hv_iommu_map_flags(int prot)
{
	u32 map_flags = 0;

	if (prot & IOMMU_READ)
		map_flags |= HV_MAP_GPA_READABLE;
	if (prot & IOMMU_WRITE)
		map_flags |= HV_MAP_GPA_WRITABLE;

	return map_flags;
}

/*
 * @mapped is how many bytes are mapped, also after an error, and the core then unmaps
 * them. There is no rollback that could fail unseen. (D05, D07, D08, D09, D16, D27)
 *
 * A range that meets a mapping is refused with nothing changed. (D28)
 */
static int hv_iommu_map_pages(struct iommu_domain *immdom, unsigned long iova, phys_addr_t paddr,
			      size_t pgsize, size_t pgcount, int prot, gfp_t gfp, size_t *mapped)
{
	struct hv_domain *hvdom = to_hv_domain(immdom);
	struct hv_iommu_mapping *mapping;
	int status = HV_STATUS_SUCCESS;
	size_t size, npages;

	size = hv_iommu_map_size(hvdom, iova, paddr, pgsize, pgcount);
	if (!mapped || !size || hv_iommu_meets(hvdom, iova, size))
		return -EINVAL;	/* without @mapped a failure could not be told (D35) */

	/* Before anything is mapped, waiting for memory as the caller may. (D37) */
	mapping = kzalloc(sizeof(*mapping), gfp);
	if (!mapping)
		return -ENOMEM;

	if (!hv_attached_dom(hvdom)) {
		status = hv_iommu_map_range(hvdom, iova, paddr, size >> HV_HYP_PAGE_SHIFT,
					    hv_iommu_map_flags(prot), gfp, &npages);
		size = npages << HV_HYP_PAGE_SHIFT;
	}

	if (size)
		hv_iommu_add_tree_mapping(hvdom, mapping, iova, paddr, size);
	else
		kfree(mapping);
	*mapped = size;

	return hv_result_to_errno(status);
}

/*
 * Returns the bytes from @iova on that are gone now, up to the first hole. (D20, D34)
 *
 * Needs memory only to cut a mapping in its middle, which no legal request does;
 * without it nothing is done. If the hypervisor refuses, the rest stays in the tree,
 * and no answer ever says that it is gone. Never sleeps. (D29, D30)
 */
static size_t hv_iommu_unmap_pages(struct iommu_domain *immdom, unsigned long iova, size_t pgsize,
				   size_t pgcount, struct iommu_iotlb_gather *gather)
{
	struct hv_domain *hvdom = to_hv_domain(immdom);
	struct hv_iommu_mapping *spare = NULL;
	size_t size, covered, done;
	bool inside;

	if (check_mul_overflow(pgsize, pgcount, &size) || !size)
		return 0;
	if (!IS_ALIGNED(iova | size, SZ_4K) || iova + size - 1 < iova)
		return 0;

	covered = hv_iommu_covered(hvdom, iova, size, &inside);
	if (covered < size)
		pr_err("%s: only %zx of %zx bytes are mapped at %lx\n", __func__, covered, size,
		       iova);
	if (inside)
		spare = kzalloc(sizeof(*spare), GFP_ATOMIC);
	if (!covered || (inside && !spare))
		return 0;

	done = covered;
	if (!hv_attached_dom(hvdom))
		done = hv_iommu_unmap_range(hvdom, iova, covered >> HV_HYP_PAGE_SHIFT)
			<< HV_HYP_PAGE_SHIFT;
	hv_iommu_del_tree_mappings(hvdom, iova, done, spare);

	return done;
}

static phys_addr_t hv_iommu_iova_to_phys(struct iommu_domain *immdom, dma_addr_t iova)
{
	struct hv_domain *hvdom = to_hv_domain(immdom);
	struct hv_iommu_mapping *mapping;
	struct interval_tree_node *node;
	unsigned long flags;
	phys_addr_t paddr = 0;

	spin_lock_irqsave(&hvdom->mappings_lock, flags);
	node = interval_tree_iter_first(&hvdom->mappings_tree, iova, iova);
	if (node) {
		mapping = container_of(node, struct hv_iommu_mapping, iova);
		paddr = mapping->paddr + (iova - node->start);
	}
	spin_unlock_irqrestore(&hvdom->mappings_lock, flags);

	return paddr;
}

/* ---- probe and release ---- */

/*
 * Whether the boot option names a device. What is no entry is passed over, with a
 * warning, and what follows it still counts. (D90, D91)
 */
static bool hv_iommu_skipped(struct pci_dev *pdev)
{
	int segment, bus, slot, func, parsed;
	char *at = pci_devs_to_skip;

	for (at = at ? strchr(at, '(') : NULL; at; at = strchr(at + 1, '(')) {
		parsed = 0;
		if (sscanf(at, "(%x:%x:%x.%x)%n", &segment, &bus, &slot, &func, &parsed) != 4 ||
		    !parsed) {
			pr_warn("hv_iommu_skip: no device at '%.16s'\n", at);
			continue;
		}
		if (pci_domain_nr(pdev->bus) == segment && pdev->bus->number == bus &&
		    PCI_SLOT(pdev->devfn) == slot && PCI_FUNC(pdev->devfn) == func)
			return true;
	}

	return false;
}

/*
 * Whether the hypervisor has a name for a device: its ids have 16 bits for the PCI
 * segment. Those of devices behind a VMD have more, and cut to 16 they are those of
 * other devices. (D83)
 */
static bool hv_iommu_nameable(struct pci_dev *pdev)
{
	return !(pci_domain_nr(pdev->bus) >> 16);
}

static struct iommu_device *hv_iommu_probe_device(struct device *dev)
{
	struct hv_iommu_dev *hvdev, *other, *next;
	u64 host_devid, logical_devid;
	enum hv_device_type type;
	struct pci_dev *pdev;

	if (!dev_is_pci(dev))
		return ERR_PTR(-ENODEV);

	pdev = to_pci_dev(dev);
	if (hv_iommu_skipped(pdev) || !hv_iommu_nameable(pdev))
		return ERR_PTR(-ENODEV);

	type = hv_l1vh_partition() ? HV_DEVICE_TYPE_LOGICAL : HV_DEVICE_TYPE_PCI;
	host_devid = hv_build_devid_oftype(pdev, type);
	logical_devid = hv_build_devid_oftype(pdev, HV_DEVICE_TYPE_LOGICAL);

	mutex_lock(&hv_iommu_mutex);
	list_for_each_entry_safe(other, next, &hv_devs, list) {
		/* The function vanished without a word, and is back. */
		if (!other->released && other->logical_devid == logical_devid)
			hv_iommu_lose(other, false);
	}

	hvdev = kzalloc(sizeof(*hvdev), GFP_KERNEL);
	if (!hvdev) {
		mutex_unlock(&hv_iommu_mutex);
		return ERR_PTR(-ENOMEM);
	}

	hvdev->pdev = pci_dev_get(pdev);
	hvdev->host_devid = host_devid;
	hvdev->logical_devid = logical_devid;
	list_add_tail(&hvdev->list, &hv_devs);
	mutex_unlock(&hv_iommu_mutex);

	dev_iommu_priv_set(dev, hvdev);

	return &hv_virt_iommu;
}

/*
 * The device ends in the blocking domain, unless another function behind its id still
 * works: where a mere detach leads is up to the hypervisor. (D64, D65)
 *
 * If the hypervisor refuses for ever, the object stays and names the domain that the
 * device may still be in, so that this is not deleted before the device is out of it.
 * Whenever a domain is made or freed, it is tried again.
 */
static void hv_iommu_release_device(struct device *dev)
{
	struct hv_iommu_dev *hvdev = dev_iommu_priv_get(dev);
	struct hv_iommu_deposits deposits;
	struct hv_iommu_dev *other;
	bool shared = false;

	hv_iommu_init_deposits(&deposits, 0);

	mutex_lock(&hv_iommu_mutex);
	list_for_each_entry(other, &hv_devs, list)
		if (hv_iommu_aliases(hvdev, other) && other->domain && !other->released)
			shared = true;
	if (!shared)
		hv_iommu_move(hvdev, &hv_blocked_dom, HV_STATIC_TRIES, &deposits);
	hv_iommu_lose(hvdev, shared);
	hv_iommu_bury_left();
	mutex_unlock(&hv_iommu_mutex);
}

static struct iommu_group *hv_iommu_device_group(struct device *dev)
{
	return dev_is_pci(dev) ? pci_device_group(dev) : generic_device_group(dev);
}

/* Identity: the hypervisor made it at boot. */
static int hv_iommu_def_domain_type(struct device *dev)
{
	return IOMMU_DOMAIN_IDENTITY;
}

static void hv_iommu_get_resv_regions(struct device *dev, struct list_head *head)
{
	struct iommu_resv_region *region;

	region = iommu_alloc_resv_region(HV_MSI_WINDOW_START, HV_MSI_WINDOW_SIZE, 0,
					 IOMMU_RESV_MSI, GFP_KERNEL);
	if (region)
		list_add_tail(&region->list, head);
}

static const struct iommu_domain_ops hv_special_domain_ops = {
	.attach_dev = hv_iommu_attach_dev,
};

/*
 * The blocked domain is offered because the core makes up an empty paging domain
 * otherwise, which for a thread of a VMM is its guest's memory. (D68)
 */
static const struct iommu_ops hv_iommu_ops = {
	.capable		= hv_iommu_capable,
	.identity_domain	= &hv_def_identity_dom.iommu_dom,
	.blocked_domain		= &hv_blocked_dom.iommu_dom,
	.domain_alloc_paging	= hv_iommu_domain_alloc_paging,
	.probe_device		= hv_iommu_probe_device,
	.release_device		= hv_iommu_release_device,
	.def_domain_type	= hv_iommu_def_domain_type,
	.device_group		= hv_iommu_device_group,
	.get_resv_regions	= hv_iommu_get_resv_regions,
	.default_domain_ops = &(const struct iommu_domain_ops) {
		.attach_dev	= hv_iommu_attach_dev,
		.map_pages	= hv_iommu_map_pages,
		.unmap_pages	= hv_iommu_unmap_pages,
		.iova_to_phys	= hv_iommu_iova_to_phys,
		.free		= hv_iommu_domain_free,
	},
	.owner			= THIS_MODULE,
};

/*
 * How many bits of address a device domain takes. A host that does not have the call
 * refuses it. (D100)
 */
static u8 __init hv_iommu_get_width(void)
{
	struct hv_iommu_caps_output *output;
	struct hv_iommu_caps_input *input;
	unsigned long flags;
	u64 status;
	u8 width;

	local_irq_save(flags);
	input = *this_cpu_ptr(hyperv_pcpu_input_arg);
	output = *this_cpu_ptr(hyperv_pcpu_output_arg);
	memset(input, 0, sizeof(*input));
	input->partition_id = HV_PARTITION_ID_SELF;

	status = hv_do_hypercall(HVCALL_GET_IOMMU_CAPABILITIES, input, output);
	width = hv_result_success(status) ? output->max_iova_width : HV_DEFAULT_IOVA_WIDTH;
	local_irq_restore(flags);

	return width;
}

static void __init hv_init_special_domain(struct hv_domain *hvdom, unsigned int type, u32 id)
{
	hvdom->domid_num = id;
	hvdom->iommu_dom.type = type;
	hvdom->iommu_dom.ops = &hv_special_domain_ops;
	hvdom->iommu_dom.owner = &hv_iommu_ops;
	hvdom->iommu_dom.geometry = hv_geometry;
	spin_lock_init(&hvdom->mappings_lock);
	hvdom->mappings_tree = RB_ROOT_CACHED;
}

static void __init hv_initialize_special_domains(void)
{
	u8 width = hv_iommu_get_width();

	hv_geometry.aperture_start = 0;
	hv_geometry.aperture_end = DMA_BIT_MASK(width);
	hv_geometry.force_aperture = true;

	hv_init_special_domain(&hv_def_identity_dom, IOMMU_DOMAIN_IDENTITY,
			       HV_DEVICE_DOMAIN_ID_S2_DEFAULT);
	hv_init_special_domain(&hv_blocked_dom, IOMMU_DOMAIN_BLOCKED,
			       HV_DEVICE_DOMAIN_ID_S2_NULL);
}

/* Everything is ready before anything is visible. (D93) */
static int __init hv_iommu_init(void)
{
	int ret;

	if (!hv_is_hyperv_initialized())
		return -ENODEV;

	hv_initialize_special_domains();

	ret = iommu_device_sysfs_add(&hv_virt_iommu, NULL, NULL, "%s", "hyperv-iommu");
	if (ret) {
		pr_err("iommu_device_sysfs_add failed: %d\n", ret);
		return ret;
	}

	/* This probes the bus before it returns. */
	ret = iommu_device_register(&hv_virt_iommu, &hv_iommu_ops, NULL);
	if (ret) {
		pr_err("iommu_device_register failed: %d\n", ret);
		iommu_device_sysfs_remove(&hv_virt_iommu);
		return ret;
	}

	return 0;
}

void __init hv_iommu_detect(void)
{
	if (no_iommu || iommu_detected)
		return;

	/* An L1VH has no device domains and needs none. */
	if (!hv_l1vh_partition() &&
	    !(ms_hyperv.misc_features & HV_DEVICE_DOMAIN_AVAILABLE))
		return;

	iommu_detected = 1;
	x86_init.iommu.iommu_init = hv_iommu_init;

	pci_request_acs();
}
