/* property: failed-attach-keeps-old */
static void hvm_check_failed_attach_keeps_old(const struct hvm_call *call)
{
	u32 count;

	if (!hvm.deciding || call->op != HVM_ATTACH || !call->ret || !call->old || call->must ||
	    hvm.refused >= 2)
		return;
	hvm.reached++;
	if (call->dev->place != call->before)
		hvm_broken("%s: after a failed attach it is in %#llx, was in %#llx",
			   call->dev->function->name, call->dev->place, call->before);
	count = call->old->alive ? HVM_ATTACHED(call->old->domain) : call->count;
	if (count != call->count)
		hvm_broken("%s: a failed attach made the count of its domain %u, was %u",
			   call->dev->function->name, count, call->count);
	if (dev_iommu_priv_get(&call->dev->pdev.dev) != call->priv)
		hvm_broken("%s: a failed attach changed the private pointer",
			   call->dev->function->name);
}

static const struct hvm_property hvm_failed_attach_keeps_old = {
	.name = "failed-attach-keeps-old",
	.after_call = hvm_check_failed_attach_keeps_old,
};

/* property: static-domains-always-attach */
static void hvm_check_static_domains_always_attach(const struct hvm_call *call)
{
	if (!hvm.deciding || call->op != HVM_ATTACH || call->dom >= &hvm.doms[HVM_FIRST] ||
	    hvm.refused > 1)
		return;
	hvm.reached++;
	if (call->ret)
		hvm_broken("%s: attaching a static domain answers %ld after %u refusal(s)",
			   call->dev->function->name, call->ret, hvm.refused);
}

static const struct hvm_property hvm_static_domains_always_attach = {
	.name = "static-domains-always-attach",
	.after_call = hvm_check_static_domains_always_attach,
};

/* property: blocked-is-blocked */
static void hvm_check_blocked_is_blocked(const struct hvm_call *call)
{
	struct xarray *table;
	u64 place;

	if (call->op != HVM_ATTACH || call->ret || !call->dom->blocking)
		return;
	hvm.reached++;
	place = call->dev->place;
	table = place & (HVM_GUEST | HVM_NOWHERE) ? NULL : hvm_table(place);
	if (place & HVM_GUEST || place == HVM_IN_DEFAULT || (table && !xa_empty(table)) ||
	    (place == HVM_NOWHERE && hvm.trace->idle_reaches))
		hvm_broken("%s: attached to the blocking domain, it is in %#llx and reaches memory",
			   call->dev->function->name, place);
}

static const struct hvm_property hvm_blocked_is_blocked = {
	.name = "blocked-is-blocked",
	.after_call = hvm_check_blocked_is_blocked,
};

/* property: replace-has-no-gap */
static void hvm_check_replace_has_no_gap(u64 control, const u64 *input, u64 status)
{
	const struct hvm_call *call = &hvm.call;
	u64 place;

	if (call->op != HVM_ATTACH || !call->old || !call->no_gap ||
	    call->before != call->old->place || call->leave >= 2 ||
	    (control & 0xffff) == HVCALL_DEPOSIT_MEMORY)
		return;
	hvm.reached++;
	place = call->dev->place;
	if (place != call->before && place != call->dom->place && place != HVM_IN_NULL &&
	    place != HVM_NOWHERE)
		hvm_broken("%s: on its way from %#llx to %#llx it is in %#llx",
			   call->dev->function->name, call->before, call->dom->place, place);
}

static const struct hvm_property hvm_replace_has_no_gap = {
	.name = "replace-has-no-gap",
	.after_hypercall = hvm_check_replace_has_no_gap,
};

/* property: no-foreign-attach */
/*
 * By what was answered when the trace was recorded, the device can only be in one of these places.
 * Where the answer to the last call is another one now, it is where it was or where it was to go.
 */
static void hvm_can_be_in(unsigned int dev, bool ok, unsigned int num, const u64 *places)
{
	struct hvm_dev *device = &hvm.devs[dev];
	u64 instead = hvm.call.ret ? hvm.call.before :
		      hvm.call.dom ? hvm.call.dom->place :
				     device->place;
	unsigned int i = 0;

	hvm.reached++;
	if (ok == !hvm.call.ret)
		while (i < num && device->place != places[i])
			i++;
	if (ok == !hvm.call.ret ? i == num : device->place != instead)
		hvm_broken("%s is in %#llx, which nothing that was answered allows",
			   device->function->name, device->place);
	hvm_report();
}

static const struct hvm_property hvm_no_foreign_attach = {
	.name = "no-foreign-attach",
};

/* property: release-parks */
/* After release a device is parked, here or where it may be by what was answered. */
static void hvm_is_parked(unsigned int dev, unsigned int num, const u64 *places)
{
	struct hvm_dev *device = &hvm.devs[dev];
	unsigned int i;

	hvm.reached++;
	for (i = 0; i < num && device->place != places[i]; i++)
		;
	if (i == num)
		hvm_broken("%s: after release it is in %#llx", device->function->name,
			   device->place);
	hvm_report();
}

static const struct hvm_property hvm_release_parks = {
	.name = "release-parks",
};

/* property: count-matches */
/*
 * What the driver counts, against the devices that are there, or so many below or above where a
 * refusal excuses it. Devices of a guest count where their pointer names the domain.
 */
static void hvm_counts(unsigned int dom, u64 devices, unsigned int below, unsigned int above)
{
	struct hvm_dom *book = hvm_dom(dom);
	unsigned int i, has = 0, count;

	hvm.reached++;
	for (i = 0; i < hvm.trace->num_functions; i++)
		has += devices & BIT_ULL(i) && hvm.devs[i].place == book->place &&
		       (!book->direct || hvm_pointer(i) == book->domain);
	if (hvm.trace->l1vh && book->place == HVM_NOWHERE)
		has = 0;
	count = HVM_ATTACHED(book->domain);
	if ((u64)count + below < has || count > (u64)has + above)
		hvm_broken("the driver counts %u devices in %#llx, the hypervisor has %u", count,
			   book->place, has);
	hvm_report();
}

static const struct hvm_property hvm_count_matches = {
	.name = "count-matches",
};

/* property: pointer-matches */
static void hvm_points_well(unsigned int dev)
{
	struct iommu_domain *domain = hvm_pointer(dev);
	struct hvm_dev *device = &hvm.devs[dev];
	unsigned int i;

	hvm.reached++;
	for (i = 0; domain && i < hvm.trace->num_domains; i++)
		if (hvm.doms[i].alive && hvm.doms[i].domain == domain)
			break;
	if (domain && i == hvm.trace->num_domains)
		hvm_broken("%s: the private pointer names no domain that is alive",
			   device->function->name);
	else if (domain && hvm.doms[i].place != device->place)
		hvm_broken("%s: the driver believes it in %#llx, it is in %#llx",
			   device->function->name, hvm.doms[i].place, device->place);
	hvm_report();
}

static const struct hvm_property hvm_pointer_matches = {
	.name = "pointer-matches",
};
