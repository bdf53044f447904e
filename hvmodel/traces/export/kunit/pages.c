/* --- the caller's books of pages: between the IOMMU core above and the driver below ----------- */

static struct hvm_dom *hvm_dom_of(struct iommu_domain *domain)
{
	unsigned int i;

	for (i = HVM_FIRST; i < hvm.trace->num_domains; i++)
		if (hvm.doms[i].alive && hvm.doms[i].domain == domain)
			return &hvm.doms[i];
	return NULL;
}

static bool hvm_is_limbo(struct hvm_dom *dom, u64 page)
{
	return xa_get_mark(&dom->held, page, XA_MARK_0);
}

/* Whether the whole page is the caller's, and whatever else may be there is not its doing. */
static __maybe_unused bool hvm_is_held(struct hvm_dom *dom, u64 page)
{
	return xa_load(&dom->held, page) && !hvm_is_limbo(dom, page);
}

static __maybe_unused u64 hvm_pfn(const struct hvm_extent *extent, u64 page)
{
	return extent->pfn + page - extent->start;
}

/* An answered map_pages: the pages are held, or after an error they may be there. */
static void hvm_hold(struct hvm_dom *dom, u64 start, u64 end, u64 pfn, int prot, bool limbo)
{
	struct hvm_extent *extent = kunit_kzalloc(hvm.test, sizeof(*extent), GFP_KERNEL);
	u64 page;

	KUNIT_ASSERT_NOT_NULL(hvm.test, extent);
	*extent = (struct hvm_extent){ start, end, pfn, prot, ++hvm.extents };
	for (page = start; page < end; page++) {
		hvm.lost |= !!xa_err(xa_store(&dom->held, page, extent, GFP_KERNEL));
		if (limbo)
			xa_set_mark(&dom->held, page, XA_MARK_0);
		else
			xa_clear_mark(&dom->held, page, XA_MARK_0);
	}
}

/* An answered unmap_pages: told gone, or with an answer of nothing asked to go and not told so. */
static void hvm_let_go(struct hvm_dom *dom, u64 start, u64 end, bool limbo)
{
	unsigned long page;
	void *extent;

	if (start >= end)
		return;
	xa_for_each_range(&dom->held, page, extent, start, end - 1) {
		if (limbo)
			xa_set_mark(&dom->held, page, XA_MARK_0);
		else
			xa_erase(&dom->held, page);
	}
}

/* The pages of the call, and those of every extent that they meet. */
static void hvm_touch(struct hvm_dom *dom, u64 start, u64 end)
{
	struct hvm_extent *extent;
	unsigned long page;

	if (start >= end)
		return;
	hvm.call.low = min(hvm.call.low, start);
	hvm.call.high = max(hvm.call.high, end);
	xa_for_each_range(&dom->held, page, extent, start, end - 1) {
		hvm.call.low = min(hvm.call.low, extent->start);
		hvm.call.high = max(hvm.call.high, extent->end);
	}
}

/* The pages [start, end) of size bytes at iova; none if there are more than a test can look at. */
static void hvm_asked_for(struct hvm_dom *dom, unsigned long iova, size_t size)
{
	hvm.call.iova = iova;
	hvm.call.size = size;
	hvm.call.start = iova >> HV_HYP_PAGE_SHIFT;
	hvm.call.end = hvm.call.start + (size >> HV_HYP_PAGE_SHIFT);
	hvm.call.last = hvm.call.start + DIV_ROUND_UP(size, HV_HYP_PAGE_SIZE);
	if (hvm.call.end - hvm.call.start > SZ_4M)
		hvm_skip("step %u: more pages than a test can look at", hvm.step);
	hvm_touch(dom, hvm.call.start, hvm.call.last);
}

static int hvm_map_pages(struct iommu_domain *domain, unsigned long iova, phys_addr_t paddr,
			 size_t pgsize, size_t pgcount, int prot, gfp_t gfp, size_t *mapped)
{
	struct hvm_dom *dom = hvm_dom_of(domain);
	size_t size = pgsize * pgcount, told;
	int ret;

	hvm_enter(HVM_MAP, dom, NULL);
	hvm_asked_for(dom, iova, size);
	hvm.call.paddr = paddr;
	hvm.call.prot = prot;
	hvm.call.atomic = !gfpflags_allow_blocking(gfp);
	ret = dom->ops->map_pages(domain, iova, paddr, pgsize, pgcount, prot, gfp, mapped);
	hvm_back();
	told = mapped ? *mapped : ret ? 0 : size;
	hvm.call.mapped = told;
	told = min(told, size) >> HV_HYP_PAGE_SHIFT;
	if (told)
		hvm_hold(dom, hvm.call.start, hvm.call.start + told, paddr >> HV_HYP_PAGE_SHIFT,
			 prot, ret);
	hvm_leave(ret);
	return ret;
}

static size_t hvm_unmap_pages(struct iommu_domain *domain, unsigned long iova, size_t pgsize,
			      size_t pgcount, struct iommu_iotlb_gather *gather)
{
	struct hvm_dom *dom = hvm_dom_of(domain);
	unsigned long page;
	void *extent;
	size_t answer;
	u64 gone;

	hvm_enter(HVM_UNMAP, dom, NULL);
	hvm_asked_for(dom, iova, pgsize * pgcount);
	hvm.call.atomic = true;
	hvm.call.met_low = hvm.call.low;
	hvm.call.met_high = hvm.call.high;
	answer = dom->ops->unmap_pages(domain, iova, pgsize, pgcount, gather);
	hvm_back();
	gone = hvm.call.start + (answer >> HV_HYP_PAGE_SHIFT);
	if (gone > hvm.call.start) {
		hvm_touch(dom, hvm.call.start, gone);
		xa_for_each_range(&dom->held, page, extent, hvm.call.start, gone - 1)
			hvm.call.before++;
		hvm_let_go(dom, hvm.call.start, gone, false);
	} else {
		hvm_let_go(dom, hvm.call.start, hvm.call.end, true);
	}
	hvm_leave(answer);
	return answer;
}

static phys_addr_t hvm_iova_to_phys(struct iommu_domain *domain, dma_addr_t iova)
{
	return hvm_dom_of(domain)->ops->iova_to_phys(domain, iova);
}

static const struct iommu_domain_ops hvm_domain_ops = {
	.map_pages = hvm_map_pages,
	.unmap_pages = hvm_unmap_pages,
	.iova_to_phys = hvm_iova_to_phys,
};

/* What the core calls in place of the driver's own. */
static const struct iommu_domain_ops *hvm_above(const struct iommu_domain_ops *ops)
{
	return &hvm_domain_ops;
}
