/* --- requests for pages: the IOMMU core's own functions, with the books below them ------------ */

static __maybe_unused int hvm_map(unsigned int dom, unsigned long iova, phys_addr_t paddr,
				  u64 pages, int prot, gfp_t gfp)
{
	struct hvm_dom *book = hvm_dom(dom);
	u64 start = iova >> HV_HYP_PAGE_SHIFT;
	int ret;

	hvm.request_extent = hvm.extents;
	ret = iommu_map(book->domain, iova, paddr, pages << HV_HYP_PAGE_SHIFT, prot, gfp);
	if (hvm.trace->property->after_map)
		hvm.trace->property->after_map(book, start, start + pages, ret);
	hvm_report();
	return ret;
}

/* The range is whole extents, and all of it is held. */
static bool hvm_is_legal_unmap(struct hvm_dom *dom, u64 start, u64 end)
{
	struct hvm_extent *extent;
	u64 page;

	for (page = start; page < end; page++) {
		extent = xa_load(&dom->held, page);
		if (!extent || hvm_is_limbo(dom, page) || extent->start < start ||
		    extent->end > end)
			return false;
	}
	return end > start;
}

static __maybe_unused size_t hvm_unmap(unsigned int dom, unsigned long iova, u64 pages)
{
	struct hvm_dom *book = hvm_dom(dom);
	u64 start = iova >> HV_HYP_PAGE_SHIFT;
	bool legal = hvm_is_legal_unmap(book, start, start + pages);
	size_t total;

	total = iommu_unmap(book->domain, iova, pages << HV_HYP_PAGE_SHIFT);
	if (hvm.trace->property->after_unmap)
		hvm.trace->property->after_unmap(book, start, start + pages, total, legal);
	hvm_report();
	return total;
}

/* One caller's request over memory in pieces; if one fails, those before it are unmapped. */
static __maybe_unused void hvm_map_scattered(unsigned int dom, unsigned long iova,
					     phys_addr_t paddr, unsigned int runs, u64 run_pages,
					     u64 stride)
{
	unsigned int run;

	for (run = 0; run < runs; run++) {
		if (!hvm_map(dom, iova + run * (run_pages << HV_HYP_PAGE_SHIFT),
			     paddr + run * (stride << HV_HYP_PAGE_SHIFT), run_pages,
			     IOMMU_READ | IOMMU_WRITE, GFP_KERNEL))
			continue;
		if (run)
			hvm_unmap(dom, iova, run * run_pages);
		break;
	}
}

/* map_pages and unmap_pages as the core would not call them. */
static __maybe_unused void hvm_driver_map(unsigned int dom, unsigned long iova, phys_addr_t paddr,
					  size_t pgsize, size_t pgcount, int prot, gfp_t gfp,
					  bool with_mapped)
{
	size_t mapped = 0;

	hvm_map_pages(hvm_dom(dom)->domain, iova, paddr, pgsize, pgcount, prot, gfp,
		      with_mapped ? &mapped : NULL);
}

static __maybe_unused size_t hvm_driver_unmap(unsigned int dom, unsigned long iova, size_t pgsize,
					      size_t pgcount)
{
	return hvm_unmap_pages(hvm_dom(dom)->domain, iova, pgsize, pgcount, NULL);
}
