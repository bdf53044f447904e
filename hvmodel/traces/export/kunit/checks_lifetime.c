/* property: ids-are-unique */
static void hvm_check_ids_are_unique(const struct hvm_call *call)
{
	unsigned int i;
	u32 id;

	if (call->op != HVM_ALLOC)
		return;
	hvm.reached++;
	if (call->ret)
		return;
	id = HVM_DOMAIN_ID(call->dom->domain);
	if (!id && call->dom->direct)
		return; /* it has none */
	if (id == HVM_IN_DEFAULT || id == HVM_IN_NULL)
		hvm_broken("a new domain got id %#x, which is reserved", id);
	for (i = HVM_FIRST; i < hvm.trace->num_domains; i++)
		if (hvm.doms[i].alive && &hvm.doms[i] != call->dom &&
		    HVM_DOMAIN_ID(hvm.doms[i].domain) == id)
			hvm_broken("a new domain got id %#x, which another one has", id);
}

static const struct hvm_property hvm_ids_are_unique = {
	.name = "ids-are-unique",
	.after_call = hvm_check_ids_are_unique,
};

/* property: legal-requests-work */
static void hvm_check_legal_requests_work(const struct hvm_call *call)
{
	if (!hvm.deciding)
		return;
	hvm.reached++;
	if (call->ret && !hvm.refused)
		hvm_broken("a legal request answers %ld, though nothing is refused", call->ret);
}

static const struct hvm_property hvm_legal_requests_work = {
	.name = "legal-requests-work",
	.after_call = hvm_check_legal_requests_work,
};

/* property: errors-say-what (hvm_shortage) */
static void hvm_note_status(u64 control, const u64 *input, u64 status)
{
	if (!hv_result_success(status) && (control & 0xffff) != HVCALL_DEPOSIT_MEMORY)
		hvm.call.decided = hv_result(status);
}

static void hvm_check_errors_say_what(const struct hvm_call *call)
{
	if (!hvm.deciding)
		return;
	hvm.reached++;
	if (call->decided && ((call->ret == -EINVAL && call->op == HVM_ATTACH) ||
			      (call->ret == -ENOMEM && !hvm_is_shortage(call->decided))))
		hvm_broken("refused with status %#llx, the call answers %ld", call->decided,
			   call->ret);
}

static const struct hvm_property hvm_errors_say_what = {
	.name = "errors-say-what",
	.after_hypercall = hvm_note_status,
	.after_call = hvm_check_errors_say_what,
};

/* property: allocation-recovers */
static u64 hvm_tried_id;

static void hvm_check_id_tried(u64 control, const u64 *input)
{
	if ((control & 0xffff) != HVCALL_CREATE_DEVICE_DOMAIN)
		return;
	if (hvm.deciding)
		hvm.call.decided |= hvm_tried_id != hvm_domain_of(input) + 1;
	hvm_tried_id = hvm_domain_of(input) + 1;
}

static void hvm_check_allocation_recovers(const struct hvm_call *call)
{
	if (!hvm.deciding || call->op != HVM_ALLOC)
		return;
	hvm.reached++;
	if (call->ret && !hvm.refused && !call->decided)
		hvm_broken("an allocation fails again with the same id, though nothing is refused");
}

static const struct hvm_property hvm_allocation_recovers = {
	.name = "allocation-recovers",
	.before_hypercall = hvm_check_id_tried,
	.after_call = hvm_check_allocation_recovers,
};

/* property: free-frees-all */
static void hvm_check_free_frees_all(const struct hvm_call *call)
{
	if (!hvm.deciding || call->op != HVM_FREE)
		return;
	hvm.reached++;
	if (!call->dom->direct && hvm_table(call->dom->id))
		hvm_broken("a domain is freed, domain %#x is still in the hypervisor",
			   call->dom->id);
}

static const struct hvm_property hvm_free_frees_all = {
	.name = "free-frees-all",
	.after_call = hvm_check_free_frees_all,
};

/* property: nothing-is-left */
static void hvm_nothing_is_left(void)
{
	struct xarray *table;
	unsigned long id;
	unsigned int i;

	hvm.reached++;
	xa_for_each(&hvm.tables, id, table) {
		for (i = 0; i < hvm.trace->num_left && hvm.trace->left[i] != id; i++)
			;
		if (id != HVM_IN_DEFAULT && id != HVM_IN_NULL && i == hvm.trace->num_left)
			hvm_broken("domain %#lx is left in the hypervisor", id);
	}
	for (i = 0; i < hvm.trace->num_functions; i++)
		if (hvm.devs[i].place != HVM_IN_DEFAULT && hvm.devs[i].place != HVM_IN_NULL &&
		    !(hvm.trace->l1vh && hvm.devs[i].place == HVM_NOWHERE))
			hvm_broken("%s is left in %#llx", hvm.devs[i].function->name,
				   hvm.devs[i].place);
	hvm_report();
}

static const struct hvm_property hvm_nothing_left = {
	.name = "nothing-is-left",
};

/* property: advertised-is-true */
static bool hvm_window_is_reserved(struct device *dev)
{
	struct iommu_resv_region *region, *next;
	bool covered = false;
	LIST_HEAD(regions);

	if (!HVM_OPS.get_resv_regions)
		return false;
	HVM_OPS.get_resv_regions(dev, &regions);
	list_for_each_entry_safe(region, next, &regions, list) {
		covered |= region->start <= 0xfee00000 &&
			   region->start + region->length > 0xfeefffff;
		list_del(&region->list);
		if (region->free)
			region->free(dev, region);
		else
			kfree(region);
	}
	return covered;
}

static void hvm_check_advertised_is_true(const struct hvm_call *call)
{
	const struct iommu_domain *domain;

	if (call->op != HVM_ALLOC || call->ret)
		return;
	hvm.reached++;
	domain = call->dom->domain;
	if (!call->dom->direct && hvm.trace->iova_width < 64 &&
	    domain->geometry.aperture_end >> hvm.trace->iova_width)
		hvm_broken("the aperture ends at %#llx, the hypervisor takes %u bits",
			   (u64)domain->geometry.aperture_end, hvm.trace->iova_width);
	if (domain->pgsize_bitmap & ~HV_HYP_PAGE_MASK ||
	    !(domain->pgsize_bitmap & HV_HYP_PAGE_SIZE))
		hvm_broken("page sizes %#lx without 4 KiB", domain->pgsize_bitmap);
	if (domain->geometry.aperture_end >= 0xfeefffff &&
	    !hvm_window_is_reserved(&call->dev->pdev.dev))
		hvm_broken("no reserved region covers the interrupt window 0xfee00000");
}

static const struct hvm_property hvm_advertised_is_true = {
	.name = "advertised-is-true",
	.after_call = hvm_check_advertised_is_true,
};

/* property: options-are-honoured */
static void hvm_probes(const struct hvm_call *call)
{
	if (!hvm.deciding || call->op != HVM_PROBE)
		return;
	hvm.reached++;
	if (call->ret != (hvm.trace->skipped & BIT_ULL(call->dev - hvm.devs) ? -ENODEV : 0))
		hvm_broken("%s: probe answers %ld, the skip list is %s", call->dev->function->name,
			   call->ret, hvm.trace->skip);
}

/* The handler of a boot option says that it is handled, or the kernel passes it on to init. */
static __maybe_unused void __init hvm_option(const char *name, char *value)
{
	const struct obs_kernel_param *param;

	for (param = __setup_start; param < __setup_end; param++) {
		if (strcmp(param->str, name))
			continue;
		hvm.reached++;
		if (!param->setup_func(value))
			hvm_broken("the handler of the boot option %s answers 0, not handled",
				   name);
	}
	hvm_report();
}

static const struct hvm_property hvm_options_are_honoured = {
	.name = "options-are-honoured",
	.after_call = hvm_probes,
};

/* shared: hvm_kasan */
/*
 * KASAN makes a test fail in which it reports something. Unless the kernel was booted with
 * kasan_multi_shot it reports once, and who comes later has not been put to the test.
 */
static void hvm_check_kasan(const struct hvm_call *call)
{
	hvm.reached += !test_taint(TAINT_BAD_PAGE);
}

/* property: no-use-after-free (hvm_kasan) */
static const struct hvm_property hvm_no_use_after_free = {
	.name = "no-use-after-free",
	.after_call = hvm_check_kasan,
};

/* property: no-out-of-bounds (hvm_kasan) */
static const struct hvm_property hvm_no_out_of_bounds = {
	.name = "no-out-of-bounds",
	.after_call = hvm_check_kasan,
};

/* property: no-null-dereference */
/* KUnit makes a test fail whose thread ends in an oops. */
static void hvm_check_no_null_dereference(const struct hvm_call *call)
{
	hvm.reached++;
}

static const struct hvm_property hvm_no_null_dereference = {
	.name = "no-null-dereference",
	.after_call = hvm_check_no_null_dereference,
};
