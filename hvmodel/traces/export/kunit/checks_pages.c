/* shared: hvm_pages */
/* The next page from *page on that the call is about, the caller has or the hypervisor maps. */
static __maybe_unused bool hvm_next_page(struct hvm_dom *dom, struct xarray *table, u64 *page)
{
	unsigned long held = *page, mapped = *page;
	const struct hvm_call *call = &hvm.call;
	u64 next = U64_MAX;

	if (*page >= call->high)
		return false;
	if (xa_find(&dom->held, &held, call->high - 1, XA_PRESENT))
		next = held;
	if (table && xa_find(table, &mapped, call->high - 1, XA_PRESENT))
		next = min_t(u64, next, mapped);
	if (call->last > *page)
		next = min(next, max(*page, call->start));
	*page = next;
	return next < call->high;
}

static u64 hvm_mapped(struct xarray *table, u64 page)
{
	void *entry = table ? xa_load(table, page) : NULL;

	return entry ? xa_to_value(entry) >> 2 : U64_MAX;
}

static bool hvm_is_page_call(const struct hvm_call *call)
{
	return call->op == HVM_MAP || call->op == HVM_UNMAP;
}

/* property: no-stale-mapping (hvm_pages) */
static void hvm_check_no_stale_mapping(const struct hvm_call *call)
{
	struct xarray *table =
		hvm_is_page_call(call) && !call->dom->direct ? hvm_table(call->dom->id) : NULL;
	u64 page, stale = 0, first = 0;

	if (!table)
		return;
	hvm.reached++;
	for (page = call->low; hvm_next_page(call->dom, table, &page); page++)
		if (hvm_mapped(table, page) != U64_MAX && !xa_load(&call->dom->held, page) &&
		    !stale++)
			first = page;
	if (stale)
		hvm_broken("%llu page(s) from %#llx are still mapped to %#llx", stale,
			   first << HV_HYP_PAGE_SHIFT,
			   hvm_mapped(table, first) << HV_HYP_PAGE_SHIFT);
}

static const struct hvm_property hvm_no_stale_mapping = {
	.name = "no-stale-mapping",
	.after_call = hvm_check_no_stale_mapping,
};

/* property: no-lost-mapping (hvm_pages) */
static void hvm_check_no_lost_mapping(const struct hvm_call *call)
{
	struct xarray *table = hvm_is_page_call(call) ? hvm_table(call->dom->id) : NULL;
	struct hvm_extent *extent;
	u64 page, pfn, wanted;

	if (!hvm_is_page_call(call) || call->dom->direct)
		return;
	for (page = call->low; hvm_next_page(call->dom, table, &page); page++) {
		extent = xa_load(&call->dom->held, page);
		if (!extent)
			continue;
		hvm.reached++;
		pfn = hvm_mapped(table, page);
		wanted = hvm_pfn(extent, page);
		if (pfn != wanted && !(pfn == U64_MAX && hvm_is_limbo(call->dom, page)))
			hvm_broken("%#llx is %s, the caller holds it at %#llx",
				   page << HV_HYP_PAGE_SHIFT,
				   pfn == U64_MAX ? "not mapped" : "mapped elsewhere",
				   wanted << HV_HYP_PAGE_SHIFT);
	}
}

static const struct hvm_property hvm_no_lost_mapping = {
	.name = "no-lost-mapping",
	.after_call = hvm_check_no_lost_mapping,
};

/* property: tree-matches-hypervisor (hvm_pages) */
static void hvm_check_tree_matches_hypervisor(const struct hvm_call *call)
{
	struct xarray *table =
		hvm_is_page_call(call) && !call->dom->direct ? hvm_table(call->dom->id) : NULL;
	u64 page, tree, pfn;

	if (!table)
		return;
	for (page = call->low; hvm_next_page(call->dom, table, &page); page++) {
		hvm.reached++;
		tree = call->dom->ops->iova_to_phys(call->dom->domain, page << HV_HYP_PAGE_SHIFT);
		pfn = hvm_mapped(table, page);
		if (tree >> HV_HYP_PAGE_SHIFT != (pfn == U64_MAX ? 0 : pfn))
			hvm_broken("at %#llx the tree says %#llx, the hypervisor %#llx",
				   page << HV_HYP_PAGE_SHIFT, tree,
				   pfn == U64_MAX ? 0 : pfn << HV_HYP_PAGE_SHIFT);
	}
}

static const struct hvm_property hvm_tree_matches_hypervisor = {
	.name = "tree-matches-hypervisor",
	.after_call = hvm_check_tree_matches_hypervisor,
};

/* property: lookup-matches-caller (hvm_pages) */
static void hvm_check_answer(struct hvm_dom *dom, struct xarray *table, u64 page, u64 answer,
			     u64 offset)
{
	struct hvm_extent *extent = xa_load(&dom->held, page);
	u64 pfn = extent ? hvm_pfn(extent, page) : U64_MAX, wanted;

	if (hvm_is_limbo(dom, page)) {
		if (dom->direct)
			return;
		pfn = hvm_mapped(table, page);
	}
	hvm.reached++;
	wanted = pfn == U64_MAX ? 0 : (pfn << HV_HYP_PAGE_SHIFT) + offset;
	if (answer != wanted)
		hvm_broken("iova_to_phys(%#llx) is %#llx, promised %#llx",
			   (page << HV_HYP_PAGE_SHIFT) + offset, answer, wanted);
}

static void hvm_check_lookup_matches_caller(const struct hvm_call *call)
{
	struct hvm_dom *dom = call->dom;
	struct xarray *table;
	u64 page;

	if (call->op == HVM_LOOKUP && dom >= &hvm.doms[HVM_FIRST])
		hvm_check_answer(dom, hvm_table(dom->id), call->iova >> HV_HYP_PAGE_SHIFT,
				 call->paddr, call->iova & ~HV_HYP_PAGE_MASK);
	if (!hvm_is_page_call(call))
		return;
	table = dom->direct ? NULL : hvm_table(dom->id);
	for (page = call->low; hvm_next_page(dom, table, &page); page++)
		hvm_check_answer(dom, table, page,
				 dom->ops->iova_to_phys(dom->domain, page << HV_HYP_PAGE_SHIFT), 0);
}

static const struct hvm_property hvm_lookup_matches_caller = {
	.name = "lookup-matches-caller",
	.after_call = hvm_check_lookup_matches_caller,
};

/* property: map-result (hvm_pages) */
static void hvm_check_map_result(const struct hvm_call *call)
{
	struct xarray *table;
	u64 page;

	if (call->op != HVM_MAP)
		return;
	hvm.reached++;
	if (call->size && !(call->size & ~HV_HYP_PAGE_MASK) &&
	    (call->mapped > call->size || call->mapped & ~HV_HYP_PAGE_MASK ||
	     (!call->ret && !call->mapped)))
		hvm_broken("a map of %#zx bytes answers %ld, mapped %#zx", call->size, call->ret,
			   call->mapped);
	table = call->ret && !call->dom->direct ? hvm_table(call->dom->id) : NULL;
	page = call->start + (call->mapped >> HV_HYP_PAGE_SHIFT);
	for (; table && page < call->end; page++)
		if (hvm_mapped(table, page) != U64_MAX && !xa_load(&call->dom->held, page))
			hvm_broken("%#llx is mapped after a map that failed",
				   page << HV_HYP_PAGE_SHIFT);
}

/* A request is all or nothing. */
static void hvm_check_map_request(struct hvm_dom *dom, u64 start, u64 end, int ret)
{
	struct hvm_extent *extent;
	unsigned long page;

	if (!ret || hvm.refused_unmaps || start >= end)
		return;
	xa_for_each_range(&dom->held, page, extent, start, end - 1)
		if (hvm_is_limbo(dom, page) && extent->number > hvm.request_extent)
			hvm_broken("undoing a failed map left %#lx in limbo",
				   page << HV_HYP_PAGE_SHIFT);
}

static const struct hvm_property hvm_map_result = {
	.name = "map-result",
	.after_call = hvm_check_map_result,
	.after_map = hvm_check_map_request,
};

/* property: unmap-honest (hvm_pages) */
static void hvm_check_unmap_honest(const struct hvm_call *call)
{
	u64 told = call->ret >> HV_HYP_PAGE_SHIFT, page;
	struct xarray *table;

	if (call->op != HVM_UNMAP)
		return;
	hvm.reached++;
	if (call->ret & ~HV_HYP_PAGE_MASK || call->before < told)
		hvm_broken("an unmap at %#lx says %#lx bytes are gone, %#llx were mapped there",
			   call->iova, call->ret, call->before << HV_HYP_PAGE_SHIFT);
	table = call->dom->direct ? NULL : hvm_table(call->dom->id);
	for (page = call->low; table && hvm_next_page(call->dom, table, &page); page++)
		if (hvm_is_held(call->dom, page) && hvm_mapped(table, page) == U64_MAX &&
		    !(page >= min(call->start, call->met_low) &&
		      page < max(call->end, call->met_high)))
			hvm_broken("%#llx is lost, though the unmap did not meet it",
				   page << HV_HYP_PAGE_SHIFT);
}

static const struct hvm_property hvm_unmap_honest = {
	.name = "unmap-honest",
	.after_call = hvm_check_unmap_honest,
};

/* property: unmap-total (hvm_pages) */
static void hvm_check_unmap_total(struct hvm_dom *dom, u64 start, u64 end, size_t total, bool legal)
{
	if (!legal || hvm.refused_unmaps)
		return;
	hvm.reached++;
	if (total != (end - start) << HV_HYP_PAGE_SHIFT)
		hvm_broken("unmapping %#llx mapped bytes at %#llx gives back %#zx",
			   (end - start) << HV_HYP_PAGE_SHIFT, start << HV_HYP_PAGE_SHIFT, total);
}

static const struct hvm_property hvm_unmap_total = {
	.name = "unmap-total",
	.after_unmap = hvm_check_unmap_total,
};

/* property: permissions-match (hvm_pages) */
static void hvm_check_permissions_match(const struct hvm_call *call)
{
	struct xarray *table = call->op == HVM_MAP && !call->ret && !call->dom->direct ?
				       hvm_table(call->dom->id) :
				       NULL;
	bool wants_write = call->prot & IOMMU_WRITE, wants_read = call->prot & IOMMU_READ;
	unsigned long page;
	void *entry;

	if (!table || call->start >= call->end)
		return;
	hvm.reached++;
	xa_for_each_range(table, page, entry, call->start, call->end - 1) {
		bool writes = xa_to_value(entry) & HV_MAP_GPA_WRITABLE,
		     reads = xa_to_value(entry) & HV_MAP_GPA_READABLE;

		if (writes != wants_write || (wants_read && !reads) ||
		    (reads && !wants_read && hvm.trace->write_only && !hvm.refused))
			hvm_broken("%#lx was asked as %s%s, is %s%s", page << HV_HYP_PAGE_SHIFT,
				   wants_read ? "r" : "", wants_write ? "w" : "", reads ? "r" : "",
				   writes ? "w" : "");
	}
}

static const struct hvm_property hvm_permissions_match = {
	.name = "permissions-match",
	.after_call = hvm_check_permissions_match,
};

/* property: input-page-bounds */
static void hvm_check_input_page_bounds(const struct hvm_call *call)
{
	u8 *end = memchr_inv(hvm.page + HV_HYP_PAGE_SIZE, 0xa5, hvm.trace->slack);

	hvm.reached++;
	if (!end)
		return;
	hvm_broken("bytes were written beyond the hypercall input page");
	memset(hvm.page + HV_HYP_PAGE_SIZE, 0xa5, hvm.trace->slack);
}

static const struct hvm_property hvm_input_page_bounds = {
	.name = "input-page-bounds",
	.after_call = hvm_check_input_page_bounds,
};
