// SPDX-License-Identifier: GPL-2.0-only
/*
 * A driver that is small enough to be seen through, for the exported KUnit files. It is right but where
 * it is told not to be: with SHORT_UNMAP an unmap takes away the whole of a mapping and tells the
 * hypervisor of what was asked only, with LOSES_COUNT a refused attach counts as a departure.
 */
#include "kernel.h"

struct toy_mapping {
	struct toy_mapping *next;
	u64 start, size, paddr;
};

struct hv_domain {
	struct iommu_domain iommu_dom;
	u32 domid_num, num_attchd;
	struct toy_mapping *mappings;
};

#define to_hv_domain(domain) container_of(domain, struct hv_domain, iommu_dom)

static struct hv_domain identity;
static struct iommu_device toy;
static u32 unique_id;
static bool hv_no_attdev;
static char *pci_devs_to_skip;

static u64 hv_iommu_get_curr_partid(void)
{
	KUNIT_STATIC_STUB_REDIRECT(hv_iommu_get_curr_partid);
	return HV_PARTITION_ID_INVALID;
}

/* The page of a call on a domain, with interrupts off until it is made. */
static u64 *toy_page(struct hv_domain *domain)
{
	u64 *page;

	irqs_off = true;
	page = *hyperv_pcpu_input_arg;
	memset(page, 0, 48);
	page[0] = HV_PARTITION_ID_SELF;
	page[2] = (u64)domain->domid_num << 32;
	return page;
}

static u64 toy_call(u16 code, u64 *page, u16 reps)
{
	u64 status = reps ? hv_do_rep_hypercall(code, reps, 0, page, NULL) : hv_do_hypercall(code, page, NULL);

	irqs_off = false;
	return status;
}

static struct iommu_domain *toy_alloc_identity(struct device *dev)
{
	(void)dev;
	return &identity.iommu_dom;
}

static struct iommu_domain *toy_alloc(struct device *dev)
{
	struct hv_domain *domain = kzalloc(sizeof(*domain), GFP_KERNEL);
	u64 *page;

	(void)dev;
	if (hv_iommu_get_curr_partid() != HV_PARTITION_ID_INVALID && !hv_no_attdev)
		return ERR_PTR(-EINVAL); /* no guests here */
	domain->domid_num = ++unique_id;
	domain->iommu_dom.pgsize_bitmap = 0x101000;
	domain->iommu_dom.geometry.aperture_end = U64_MAX >> 16;
	page = toy_page(domain);
	page[3] = 1;
	if (hv_result_success(toy_call(HVCALL_CREATE_DEVICE_DOMAIN, page, 0)))
		return &domain->iommu_dom;
	kfree(domain);
	return NULL;
}

static void toy_free(struct iommu_domain *domain)
{
	toy_call(HVCALL_DELETE_DEVICE_DOMAIN, toy_page(to_hv_domain(domain)), 0);
	kfree(to_hv_domain(domain));
}

static u64 toy_attach_call(struct hv_domain *domain, struct device *dev)
{
	u64 *page = toy_page(domain);

	page[3] = hv_build_devid_oftype(container_of(dev, struct pci_dev, dev), HV_DEVICE_TYPE_PCI);
	return toy_call(HVCALL_ATTACH_DEVICE_DOMAIN, page, 0);
}

static int toy_attach(struct iommu_domain *domain, struct device *dev, struct iommu_domain *old)
{
	struct hv_domain *from = dev_iommu_priv_get(dev), *to = to_hv_domain(domain);
	u64 status = toy_attach_call(to, dev);

	(void)old;
	if (hv_result_success(status)) {
		if (from)
			from->num_attchd--;
		to->num_attchd++;
		dev_iommu_priv_set(dev, to);
	}
#ifdef LOSES_COUNT
	else if (from) {
		from->num_attchd--;
	}
#endif
	return hv_result_to_errno(status);
}

static int toy_map(struct iommu_domain *domain, unsigned long iova, phys_addr_t paddr, size_t pgsize, size_t pgcount,
		   int prot, gfp_t gfp, size_t *mapped)
{
	struct toy_mapping *mapping = kzalloc(sizeof(*mapping), gfp);
	u64 *page = toy_page(to_hv_domain(domain)), i, status;

	page[3] = (u64)(prot & IOMMU_WRITE ? 3 : 1) << 32;
	page[4] = iova;
	for (i = 0; i < pgsize * pgcount >> 12; i++)
		page[5 + i] = (paddr >> 12) + i;
	status = toy_call(HVCALL_MAP_DEVICE_GPA_PAGES, page, pgsize * pgcount >> 12);
	if (!hv_result_success(status)) {
		kfree(mapping);
		return hv_result_to_errno(status);
	}
	*mapping = (struct toy_mapping) { to_hv_domain(domain)->mappings, iova, pgsize * pgcount, paddr };
	to_hv_domain(domain)->mappings = mapping;
	*mapped = pgsize * pgcount;
	return 0;
}

static size_t toy_unmap(struct iommu_domain *domain, unsigned long iova, size_t pgsize, size_t pgcount,
			struct iommu_iotlb_gather *gather)
{
	struct toy_mapping **at = &to_hv_domain(domain)->mappings, *mapping;
	u64 *page, size;

	(void)gather;
	while (*at && (*at)->start != iova)
		at = &(*at)->next;
	mapping = *at;
	if (!mapping)
		return 0;
	size = mapping->size;
	*at = mapping->next;
	kfree(mapping);
	page = toy_page(to_hv_domain(domain));
	page[3] = iova;
#ifdef SHORT_UNMAP
	toy_call(HVCALL_UNMAP_DEVICE_GPA_PAGES, page, pgsize * pgcount >> 12);
#else
	(void)pgsize, (void)pgcount;
	toy_call(HVCALL_UNMAP_DEVICE_GPA_PAGES, page, size >> 12);
#endif
	return size;
}

static phys_addr_t toy_lookup(struct iommu_domain *domain, dma_addr_t iova)
{
	struct toy_mapping *mapping = to_hv_domain(domain)->mappings;

	while (mapping && !(iova >= mapping->start && iova - mapping->start < mapping->size))
		mapping = mapping->next;
	return mapping ? mapping->paddr + iova - mapping->start : 0;
}

static struct iommu_device *toy_probe(struct device *dev)
{
	return pci_devs_to_skip && strstr(pci_devs_to_skip, dev->init_name) ? ERR_PTR(-ENODEV) : &toy;
}

static void toy_release(struct device *dev)
{
	struct hv_domain *from = dev_iommu_priv_get(dev);

	if (from)
		from->num_attchd--;
	toy_attach_call(&identity, dev);
	dev_iommu_priv_set(dev, NULL);
}

static int toy_option(char *value)
{
	return !value;
}

const struct obs_kernel_param __setup_start[] = { { "hv_no_attdev", toy_option } };
#define __setup_end (__setup_start + ARRAY_SIZE(__setup_start))

static const struct iommu_domain_ops toy_domain_ops = { toy_attach, toy_map, toy_unmap, toy_lookup, toy_free };
static struct iommu_ops hv_iommu_ops = {
	.domain_alloc_identity = toy_alloc_identity,
	.domain_alloc_paging = toy_alloc,
	.probe_device = toy_probe,
	.release_device = toy_release,
	.default_domain_ops = &toy_domain_ops,
};

#include "exported.c"
