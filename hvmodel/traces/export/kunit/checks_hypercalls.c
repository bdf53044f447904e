/* property: control-word-valid */
static void hvm_check_control_word_valid(u64 control, const u64 *input)
{
	hvm.reached++;
	if (control & 0xf000f000f8000000ULL || hvm_is_rep(control & 0xffff) != !!hvm_reps(control))
		hvm_broken("call %#llx: rep count %llu, control word %#llx", control & 0xffff,
			   control >> 32 & 0xffff, control);
}

static const struct hvm_property hvm_control_word_valid = {
	.name = "control-word-valid",
	.before_hypercall = hvm_check_control_word_valid,
};

/* property: names-existing-things */
static bool hvm_names_domain(u16 code)
{
	return code == HVCALL_DELETE_DEVICE_DOMAIN || code == HVCALL_ATTACH_DEVICE_DOMAIN ||
	       code == HVCALL_MAP_DEVICE_GPA_PAGES || code == HVCALL_UNMAP_DEVICE_GPA_PAGES;
}

/* Attach names the guest of the new or the old domain, detach the one that the device is with. */
static bool hvm_is_wanted_guest(u16 code, u64 place)
{
	const struct hvm_call *call = &hvm.call;

	if (call->dev && call->dev->place == place)
		return true;
	if (code == HVCALL_DETACH_DEVICE && call->dev)
		return !(call->dev->place & HVM_GUEST) && call->old && call->old->place == place;
	return (call->dom && call->dom->place == place) || (call->old && call->old->place == place);
}

static void hvm_check_names_existing_things(u64 control, const u64 *input)
{
	u16 code = control & 0xffff;
	u64 id;

	if (!hvm.deciding || code == HVCALL_DEPOSIT_MEMORY)
		return;
	hvm.reached++;
	if (hvm.trace->l1vh && code != HVCALL_ATTACH_DEVICE && code != HVCALL_DETACH_DEVICE)
		hvm_broken("call %#x: an L1VH makes no device-domain calls", code);
	else if (hvm_names_domain(code) && !hvm_table(hvm_domain_of(input)))
		hvm_broken("call %#x: domain %#llx does not exist", code, hvm_domain_of(input));
	else if (code != HVCALL_DETACH_DEVICE && hvm_named(code, input, &id) && !hvm_device(id))
		hvm_broken("call %#x: device id %#llx does not exist", code, id);
	else if ((code == HVCALL_ATTACH_DEVICE || code == HVCALL_DETACH_DEVICE) &&
		 !hvm_is_wanted_guest(code, HVM_GUEST | input[0]))
		hvm_broken("call %#x: partition %#llx is not that of the domain or of the device",
			   code, input[0]);
}

static const struct hvm_property hvm_names_existing_things = {
	.name = "names-existing-things",
	.before_hypercall = hvm_check_names_existing_things,
};

/* property: touches-only-its-own */
static void hvm_check_touches_only_its_own(u64 control, const u64 *input, u64 status)
{
	const struct hvm_call *call = &hvm.call;
	u16 code = control & 0xffff;
	u64 id;

	if (!hvm.deciding)
		return;
	hvm.reached++;
	if (code == HVCALL_DEPOSIT_MEMORY) {
		id = HVM_GUEST | input[0];
		if (hv_result_success(status) && input[0] != HV_PARTITION_ID_SELF &&
		    input[0] != hv_current_partition_id && !(call->dom && call->dom->place == id) &&
		    !(call->old && call->old->place == id))
			hvm_broken("a deposit changed the memory pool of partition %#llx",
				   input[0]);
	} else if (code == HVCALL_ATTACH_DEVICE && hv_result_success(status)) {
		id = HVM_GUEST | input[0];
		if (!(call->dom && call->dom->place == id) &&
		    !(call->old && call->old->place == id))
			hvm_broken("an attach changed the memory pool of partition %#llx",
				   input[0]);
	} else if (hvm_named(code, input, &id) && hv_result_success(status)) {
		if (!call->dev || hvm_device(id) != call->dev)
			hvm_broken("a call that is not about device %#llx moved it", id);
	} else if (code == HVCALL_CREATE_DEVICE_DOMAIN && hv_result_success(status)) {
		if (call->op != HVM_ALLOC)
			hvm_broken("domain %#llx was created by a call that is no allocation",
				   hvm_domain_of(input));
	} else if (code == HVCALL_DELETE_DEVICE_DOMAIN && hv_result_success(status)) {
		if (call->op != HVM_FREE || call->dom->direct ||
		    call->dom->id != hvm_domain_of(input))
			hvm_broken("a call that is not about domain %#llx deleted it",
				   hvm_domain_of(input));
	} else if (hvm_is_rep(code) && hv_repcomp(status) > hvm_rep_start(control)) {
		if (!call->dom || call->dom->direct || call->dom->id != hvm_domain_of(input))
			hvm_broken("a call that is not about domain %#llx changed its pages",
				   hvm_domain_of(input));
	}
}

static const struct hvm_property hvm_touches_only_its_own = {
	.name = "touches-only-its-own",
	.after_hypercall = hvm_check_touches_only_its_own,
};

/* property: every-call-ends */
/* Where it does not end, hvm_decide() has been overruled: the answer is an error from there on. */
static void hvm_check_every_call_ends(u64 control, const u64 *input, u64 status)
{
	struct hvm_call *call = &hvm.call;

	hvm.reached++;
	if ((control & 0xffff) != HVCALL_DEPOSIT_MEMORY &&
	    (hv_result_success(status) || hv_repcomp(status)))
		call->idle = call->deposits;
	if (call->deposits - call->idle > 16 || call->deposits > 64)
		hvm_broken("%u deposits, %u of them without progress", call->deposits,
			   call->deposits - call->idle);
	else if (call->calls > 64 + DIV_ROUND_UP(call->size >> HV_HYP_PAGE_SHIFT, 64))
		hvm_broken("%u hypercalls in one call", call->calls);
	hvm.stop = hvm.broken[0];
}

static const struct hvm_property hvm_every_call_ends = {
	.name = "every-call-ends",
	.after_hypercall = hvm_check_every_call_ends,
};

/* property: no-sleep-in-atomic */
static void hvm_check_no_sleep_in_atomic(u64 control, const u64 *input)
{
	hvm.reached++;
	if ((control & 0xffff) == HVCALL_DEPOSIT_MEMORY && (hvm.call.atomic || irqs_disabled()))
		hvm_broken("hv_call_deposit_pages() sleeps, and the caller may not");
}

static const struct hvm_property hvm_no_sleep_in_atomic = {
	.name = "no-sleep-in-atomic",
	.before_hypercall = hvm_check_no_sleep_in_atomic,
};

/* property: context-is-balanced */
static void hvm_check_page_in_use(u64 control, const u64 *input)
{
	if ((control & 0xffff) != HVCALL_DEPOSIT_MEMORY && !irqs_disabled())
		hvm_broken("the per-CPU hypercall page is used with interrupts on");
}

static void hvm_check_context_is_balanced(const struct hvm_call *call)
{
	hvm.reached++;
	if (call->irqs_off)
		hvm_broken("a call returns while interrupts are off");
}

static const struct hvm_property hvm_context_is_balanced = {
	.name = "context-is-balanced",
	.before_hypercall = hvm_check_page_in_use,
	.after_call = hvm_check_context_is_balanced,
};

/* shared: hvm_shortage */
/* HV_STATUS_INSUFFICIENT_MEMORY and its relatives: of the root, contiguous, both */
static bool hvm_is_shortage(u64 status)
{
	u16 result = hv_result(status);

	return result == 0x0b || result == 0x73 || result == 0x75 || result == 0x83;
}

/* property: shortage-is-survivable (hvm_shortage) */
static bool hvm_decides_call(u16 code, const u64 *input)
{
	switch (hvm.call.op) {
	case HVM_ALLOC:
		return code == HVCALL_CREATE_DEVICE_DOMAIN;
	case HVM_MAP:
		return code == HVCALL_MAP_DEVICE_GPA_PAGES;
	case HVM_ATTACH: /* not what became of the way back */
		if (code == HVCALL_ATTACH_DEVICE)
			return hvm.call.dom->place == (HVM_GUEST | input[0]);
		return code == HVCALL_ATTACH_DEVICE_DOMAIN &&
		       hvm.call.dom->place == hvm_domain_of(input);
	default:
		return false;
	}
}

/* A deposit counts if it comes after the answer that asks for it. */
static void hvm_note_shortage(u64 control, const u64 *input, u64 status)
{
	if (!hvm_decides_call(control & 0xffff, input))
		return;
	hvm.call.short_of_memory = hvm_is_shortage(status);
	hvm.call.decided = control & 0xffff;
}

static void hvm_note_deposit(u64 control, const u64 *input)
{
	u64 payer = hvm.call.decided == HVCALL_ATTACH_DEVICE ? hvm.call.dom->place & ~HVM_GUEST :
							       hv_current_partition_id;

	if ((control & 0xffff) == HVCALL_DEPOSIT_MEMORY && input[0] != payer &&
	    input[0] != HV_PARTITION_ID_SELF)
		hvm.call.tried = false;
}

static void hvm_check_shortage_is_survivable(const struct hvm_call *call)
{
	if (!call->short_of_memory || call->atomic)
		return;
	hvm.reached++;
	if (call->ret && !call->deposit_refused && call->deposits < 16)
		hvm_broken("call %#llx asks for memory; the driver %s", call->decided,
			   !call->deposits ? "does not deposit" :
			   call->tried	   ? "deposits and gives up" :
					     "deposits for another partition");
}

static const struct hvm_property hvm_shortage_is_survivable = {
	.name = "shortage-is-survivable",
	.before_hypercall = hvm_note_deposit,
	.after_hypercall = hvm_note_shortage,
	.after_call = hvm_check_shortage_is_survivable,
};
