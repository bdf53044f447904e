// SPDX-License-Identifier: GPL-2.0-only
/*
 * A small driver of our own for the tests of the shim: device domains only, no direct attach, names unlike any posted revision's. Tests
 * make variants of it by replacing the lines that are marked "plant".
 */
#include <linux/pci.h>
#include <linux/interval_tree.h>
#include <linux/iommu.h>
#include <linux/slab.h>
#include <asm/mshyperv.h>
#include "../dma-iommu.h"

#define PAGES_AT_ONCE ((HV_HYP_PAGE_SIZE - sizeof(struct hv_input_map_device_gpa_pages)) / sizeof(u64))

struct small_domain {
	spinlock_t guard;
	struct rb_root_cached ranges;
	atomic_t users;
	u32 hv_number;
	struct iommu_domain core;
};

struct small_range {
	struct interval_tree_node node;
	phys_addr_t where;
};

struct small_device {
	struct small_domain *sits_in;
	u32 probes;
};

static struct small_domain standing, nothing;
static struct iommu_device the_iommu;
static atomic_t last_number = ATOMIC_INIT(0);
static u32 allocations;

#define small_of(d) container_of(d, struct small_domain, core)

static struct small_domain *always_there(struct small_domain *domain)
{
	return domain == &standing || domain == &nothing ? domain : NULL;
}

static u64 small_domain_call(u16 code, struct small_domain *domain)
{
	struct hv_input_device_domain *input;
	unsigned long flags;
	u64 status;

	local_irq_save(flags);
	input = *this_cpu_ptr(hyperv_pcpu_input_arg);
	memset(input, 0, 64);
	input->partition_id = HV_PARTITION_ID_SELF;
	input->domain_id.type = HV_DEVICE_DOMAIN_TYPE_S2;
	input->domain_id.id = domain->hv_number;
	if (code == HVCALL_CREATE_DEVICE_DOMAIN)
		((struct hv_input_create_device_domain *)input)->create_device_domain_flags.forward_progress_required = 1;
	status = hv_do_hypercall(code, input, NULL);
	local_irq_restore(flags);
	if (!hv_result_success(status))
		hv_status_err(status, "domain %u\n", domain->hv_number);
	return status;
}

static struct iommu_domain *small_alloc(struct device *dev)
{
	struct small_domain *domain = kzalloc_obj(*domain);

	if (!domain)
		return ERR_PTR(-ENOMEM);
	spin_lock_init(&domain->guard);
	domain->ranges = RB_ROOT_CACHED;
	domain->hv_number = atomic_inc_return(&last_number);
	domain->core.pgsize_bitmap = SZ_4K;
	domain->core.geometry.aperture_end = DMA_BIT_MASK(48);
	domain->core.geometry.force_aperture = true;
	allocations++;
	/* plant: alloc */
	if (!hv_result_success(small_domain_call(HVCALL_CREATE_DEVICE_DOMAIN, domain))) {
		kfree(domain);
		return ERR_PTR(-EIO);
	}
	return &domain->core;
}

static size_t small_forget(struct small_domain *domain, unsigned long iova, unsigned long last)
{
	struct interval_tree_node *node, *next;
	unsigned long flags;
	size_t gone = 0;

	spin_lock_irqsave(&domain->guard, flags);
	for (node = interval_tree_iter_first(&domain->ranges, iova, last); node; node = next) {
		struct small_range *range = container_of(node, struct small_range, node);

		next = interval_tree_iter_next(node, iova, last);
		gone += node->last - node->start + 1;
		interval_tree_remove(node, &domain->ranges);
		kfree(range);
		/* plant: forget */
	}
	spin_unlock_irqrestore(&domain->guard, flags);
	return gone;
}

static void small_free(struct iommu_domain *core)
{
	struct small_domain *domain = small_of(core);

	if (always_there(domain))
		return;
	small_forget(domain, 0, -1UL);
	small_domain_call(HVCALL_DELETE_DEVICE_DOMAIN, domain);
	kfree(domain);
	/* plant: free */
}

static u64 small_attach_call(struct small_domain *domain, struct pci_dev *pdev)
{
	struct hv_input_attach_device_domain *input;
	unsigned long flags;
	u64 status;

	local_irq_save(flags);
	input = *this_cpu_ptr(hyperv_pcpu_input_arg);
	memset(input, 0, sizeof(*input));
	input->device_domain.partition_id = HV_PARTITION_ID_SELF;
	input->device_domain.domain_id.id = domain->hv_number;
	input->device_id.as_uint64 = hv_build_devid_type_pci(pdev);
	status = hv_do_hypercall(HVCALL_ATTACH_DEVICE_DOMAIN, input, NULL);
	local_irq_restore(flags);
	return status;
}

static int small_attach(struct iommu_domain *core, struct device *dev, struct iommu_domain *old)
{
	struct small_device *device = dev_iommu_priv_get(dev);
	struct small_domain *domain = small_of(core);
	u64 status = small_attach_call(domain, to_pci_dev(dev));

	if (!hv_result_success(status)) {
		hv_status_err(status, "attach of %s\n", dev_name(dev));
		return -EBUSY;
	}
	/* plant: attach */
	if (device->sits_in)
		atomic_dec(&device->sits_in->users);
	device->sits_in = domain;
	atomic_inc(&domain->users);
	return 0;
}

static int small_map(struct iommu_domain *core, unsigned long iova, phys_addr_t paddr, size_t pgsize, size_t pgcount, int prot,
		     gfp_t gfp, size_t *mapped)
{
	struct small_domain *domain = small_of(core);
	struct hv_input_map_device_gpa_pages *input;
	unsigned long flags, i, pages = min(pgcount, PAGES_AT_ONCE);
	struct small_range *range;
	u64 status;

	if (pgsize != SZ_4K || !mapped)
		return -EINVAL;
	range = kzalloc(sizeof(*range), gfp);
	if (!range)
		return -ENOMEM;
	range->node.start = iova;
	range->node.last = iova + pages * SZ_4K - 1;
	range->where = paddr;

	local_irq_save(flags);
	input = *this_cpu_ptr(hyperv_pcpu_input_arg);
	memset(input, 0, sizeof(*input));
	input->device_domain.partition_id = HV_PARTITION_ID_SELF;
	input->device_domain.domain_id.id = domain->hv_number;
	input->map_flags = HV_MAP_GPA_READABLE | (prot & IOMMU_WRITE ? HV_MAP_GPA_WRITABLE : 0);
	input->target_device_va_base = iova;
	for (i = 0; i < pages /* plant: bound */; i++)
		input->gpa_page_list[i] = (paddr >> HV_HYP_PAGE_SHIFT) + i;
	status = hv_do_rep_hypercall(HVCALL_MAP_DEVICE_GPA_PAGES, pages, 0, input, NULL);
	local_irq_restore(flags);
	/* plant: map */
	if (!hv_result_success(status)) {
		hv_status_err(status, "map of %lx\n", iova);
		kfree(range);
		return hv_result_to_errno(status);
	}
	spin_lock_irqsave(&domain->guard, flags);
	interval_tree_insert(&range->node, &domain->ranges);
	spin_unlock_irqrestore(&domain->guard, flags);
	*mapped = pages * SZ_4K;
	return 0;
}

static size_t small_unmap(struct iommu_domain *core, unsigned long iova, size_t pgsize, size_t pgcount, struct iommu_iotlb_gather *gather)
{
	struct small_domain *domain = small_of(core);
	struct hv_input_unmap_device_gpa_pages *input;
	size_t gone = small_forget(domain, iova, iova + pgsize * pgcount - 1);
	unsigned long done, flags;
	u64 status = 0;

	for (done = 0; done < gone && hv_result_success(status); done += min(gone - done, HV_REP_COUNT_MAX * SZ_4K)) {
		local_irq_save(flags);
		input = *this_cpu_ptr(hyperv_pcpu_input_arg);
		memset(input, 0, sizeof(*input));
		input->device_domain.partition_id = HV_PARTITION_ID_SELF;
		input->device_domain.domain_id.id = domain->hv_number;
		input->target_device_va_base = iova + done;
		status = hv_do_rep_hypercall(HVCALL_UNMAP_DEVICE_GPA_PAGES, min((gone - done) / SZ_4K, HV_REP_COUNT_MAX), 0, input, NULL);
		local_irq_restore(flags);
	}
	if (!hv_result_success(status))
		hv_status_err(status, "unmap of %lx\n", iova);
	return gone;
}

static phys_addr_t small_lookup(struct iommu_domain *core, dma_addr_t iova)
{
	struct small_domain *domain = small_of(core);
	struct interval_tree_node *node;
	phys_addr_t found = 0;
	unsigned long flags;

	spin_lock_irqsave(&domain->guard, flags);
	node = interval_tree_iter_first(&domain->ranges, iova, iova);
	if (node)
		found = container_of(node, struct small_range, node)->where + (iova - node->start);
	spin_unlock_irqrestore(&domain->guard, flags);
	return found;
}

static struct iommu_device *small_probe(struct device *dev)
{
	struct small_device *device;

	if (!dev_is_pci(dev))
		return ERR_PTR(-ENODEV);
	device = kzalloc_obj(struct small_device, GFP_KERNEL);
	if (!device)
		return ERR_PTR(-ENOMEM);
	dev_iommu_priv_set(dev, device);
	return &the_iommu;
}

static void small_release(struct device *dev)
{
	struct small_device *device = dev_iommu_priv_get(dev);

	small_attach_call(&nothing, to_pci_dev(dev));
	if (device->sits_in)
		atomic_dec(&device->sits_in->users);
	kfree(device);
}

static bool small_capable(struct device *dev, enum iommu_cap cap)
{
	return cap == IOMMU_CAP_CACHE_COHERENCY;
}

static int small_type(struct device *dev)
{
	return IOMMU_DOMAIN_IDENTITY;
}

static void small_reserved(struct device *dev, struct list_head *head)
{
	struct iommu_resv_region *region = iommu_alloc_resv_region(0xfee00000, 0x100000, 0, IOMMU_RESV_MSI, GFP_KERNEL);

	if (region)
		list_add_tail(&region->list, head);
}

static const struct iommu_domain_ops standing_ops = {
	.attach_dev = small_attach,
};

static struct iommu_ops small_ops = {
	.capable = small_capable,
	.domain_alloc_paging = small_alloc,
	.probe_device = small_probe,
	.release_device = small_release,
	.get_resv_regions = small_reserved,
	.def_domain_type = small_type,
	.default_domain_ops = &(const struct iommu_domain_ops){
		.attach_dev = small_attach,
		.map_pages = small_map,
		.unmap_pages = small_unmap,
		.iova_to_phys = small_lookup,
		.free = small_free,
	},
	.identity_domain = &standing.core,
	.blocked_domain = &nothing.core,
};

static int __init small_init(void)
{
	int ret;

	standing.core.type = IOMMU_DOMAIN_IDENTITY;
	standing.core.ops = &standing_ops;
	nothing.core.type = IOMMU_DOMAIN_BLOCKED;
	nothing.core.ops = &standing_ops;
	nothing.hv_number = HV_DEVICE_DOMAIN_ID_S2_NULL;
	ret = iommu_device_sysfs_add(&the_iommu, NULL, NULL, "%s", "small");
	if (ret)
		return ret;
	ret = iommu_device_register(&the_iommu, &small_ops, NULL);
	if (ret)
		iommu_device_sysfs_remove(&the_iommu);
	return ret;
}

void __init hv_iommu_detect(void)
{
	if (no_iommu || iommu_detected || hv_l1vh_partition() || !(ms_hyperv.misc_features & HV_DEVICE_DOMAIN_AVAILABLE))
		return;
	iommu_detected = 1;
	x86_init.iommu.iommu_init = small_init;
}
