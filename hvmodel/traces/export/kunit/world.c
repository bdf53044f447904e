/* --- what was recorded: the world of each trace, and what the hypervisor answered ------------- */

/* Where a device is: in a domain (its id), with a guest (its partition id), or in no domain. */
#define HVM_IN_DEFAULT 0ULL
#define HVM_IN_NULL    0xffffffffULL
#define HVM_GUEST      BIT_ULL(62)
#define HVM_NOWHERE    BIT_ULL(63)

enum { HVM_IDENTITY, HVM_BLOCKED, HVM_FIRST }; /* domains; the trace's own come next */

struct hvm_answer {
	u64 control;  /* call code, rep count, rep start */
	u64 status;   /* status, reps completed */
	u64 place;    /* of the device that it names, afterwards */
	u64 input[6]; /* the first bytes of the input page */
	u8 bytes;     /* how many of these count */
	bool refused; /* a fault of the trace decided */
	u16 step;
};

/* The nth arrival at a site within a step is refused, and the next ones until times are. */
struct hvm_fault {
	u16 step, site, nth, status, done;
	u32 times;
};

#define HVM_SITE_KZALLOC     0xfffe /* other sites are call codes */
#define HVM_SITE_ALLOC_PAGES 0xffff

struct hvm_function {
	const char *name;
	u64 pci_id, logical_id; /* union hv_device_id by type */
	u64 place;
	u16 segment;
	u8 bus, devfn;
};

struct hvm_trace {
	const struct hvm_property *property;
	const struct hvm_answer *answers;
	const struct hvm_fault *faults;
	const struct hvm_function *functions;
	const u32 *left; /* domains that an earlier kernel left */
	u16 num_answers, num_faults, num_functions, num_left, num_domains;
	bool l1vh, no_attdev;
	bool write_only;   /* the hypervisor can map what is not readable */
	bool idle_reaches; /* on an L1VH a device that no guest has reaches memory */
	u8 iova_width;	   /* bits */
	u64 skipped;	   /* bit n: function n is on the skip list */
	char *skip;
	u32 newest_id;
	u64 detach_leaves, guest_leaves; /* places */
	u16 attach_elsewhere;		 /* status, 0: the device moves */
	size_t slack;			 /* bytes of room behind the input page */
};

/* One successful map_pages, or what a failed one admits. */
struct hvm_extent {
	u64 start, end, pfn;
	int prot;
	unsigned int number;
};

/* The caller's book of a domain. */
struct hvm_dom {
	struct iommu_domain *domain;
	const struct iommu_domain_ops *ops;
	struct xarray held; /* page -> extent; XA_MARK_0: asked to be gone, not told so */
	u64 place;	    /* where a device attached to it belongs */
	u32 id;
	bool direct, alive, blocking;
};

struct hvm_dev {
	struct pci_dev pdev;
	struct pci_bus bus;
	struct pci_sysdata sysdata;
	struct dev_iommu iommu;
	const struct hvm_function *function;
	u64 place; /* where the hypervisor has it */
};

enum hvm_op {
	HVM_PROBE,
	HVM_ALLOC,
	HVM_ATTACH,
	HVM_MAP,
	HVM_UNMAP,
	HVM_LOOKUP,
	HVM_FREE,
	HVM_RELEASE
};

/* A call into the driver: what it is about, what it answered, what it did. */
struct hvm_call {
	enum hvm_op op;
	struct hvm_dom *dom, *old;
	struct hvm_dev *dev;
	unsigned long iova;
	phys_addr_t paddr;
	size_t size, mapped;
	int prot;
	bool atomic, must, no_gap, irqs_off;
	long ret;
	u64 start, end, last;  /* pages asked for; last counts one that is not whole */
	u64 low, high;	       /* pages that anything changed or may have changed */
	u64 met_low, met_high; /* pages of the extents that an unmap meets */
	u64 before;	       /* pages of the answer that were held, or the device's place */
	u32 count;	       /* attached devices of old, before */
	void *priv;
	unsigned int calls, deposits, idle, leave;
	u64 decided; /* status of the call that decides, if it failed */
	bool tried, short_of_memory, deposit_refused;
	u64 created; /* id + 1 */
};

/* What a property looks at; each may be NULL. The first two must not sleep. */
struct hvm_property {
	const char *name;
	void (*before_hypercall)(u64 control, const u64 *input);
	void (*after_hypercall)(u64 control, const u64 *input, u64 status);
	void (*after_call)(const struct hvm_call *call);
	void (*after_map)(struct hvm_dom *dom, u64 start, u64 end, int ret);
	void (*after_unmap)(struct hvm_dom *dom, u64 start, u64 end, size_t total, bool legal);
};

static struct {
	struct kunit *test;
	const struct hvm_trace *trace;
	struct hvm_dom *doms;
	struct hvm_dev *devs;
	unsigned int *arrived, *fired; /* per fault */
	struct xarray tables;	       /* domain id -> xarray: page -> pfn << 2 | map flags */
	struct hvm_call call;
	u64 partition; /* of the VM whose thread acts, or HV_PARTITION_ID_INVALID */
	u64 old_partition;
	u16 step, next;
	unsigned int fail_nth; /* kzalloc() that is to fail, from 1 */
	unsigned int checked, refused, refused_unmaps, reached, extents, request_extent;
	bool checking, deciding, off_record, reported, lost, stop;
	char broken[192];
	u8 *page;
	u32 old_id, old_count[HVM_FIRST];
	int old_type;
} hvm;

/* --- the hypervisor --------------------------------------------------------------------------- */

static __printf(1, 2) void hvm_broken(const char *fmt, ...)
{
	va_list args;

	if (hvm.broken[0])
		return;
	va_start(args, fmt);
	vscnprintf(hvm.broken, sizeof(hvm.broken), fmt, args);
	va_end(args);
}

static struct xarray *hvm_table(u32 id)
{
	return xa_load(&hvm.tables, id);
}

static __maybe_unused u64 hvm_domain_of(const u64 *input)
{
	return input[2] >> 32;
}

static u16 hvm_reps(u64 control)
{
	return control >> 32 & 0xfff;
}

static u16 hvm_rep_start(u64 control)
{
	return control >> 48 & 0xfff;
}

static bool hvm_is_rep(u16 code)
{
	return code == HVCALL_MAP_DEVICE_GPA_PAGES || code == HVCALL_UNMAP_DEVICE_GPA_PAGES ||
	       code == HVCALL_DEPOSIT_MEMORY;
}

static bool hvm_is_attach(u16 code)
{
	return code == HVCALL_ATTACH_DEVICE || code == HVCALL_ATTACH_DEVICE_DOMAIN;
}

/* The id by which a call names a device; 0 if it names none. */
static bool hvm_named(u16 code, const u64 *input, u64 *id)
{
	if (code == HVCALL_ATTACH_DEVICE_DOMAIN)
		*id = input[3];
	else if (hvm_is_attach(code) || code == HVCALL_DETACH_DEVICE_DOMAIN ||
		 code == HVCALL_DETACH_DEVICE)
		*id = input[1];
	else
		return false;
	return true;
}

static u64 hvm_first_page(u16 code, const u64 *input)
{
	return input[code == HVCALL_MAP_DEVICE_GPA_PAGES ? 4 : 3] >> HV_HYP_PAGE_SHIFT;
}

static bool hvm_is(const struct hvm_dev *dev, u64 id)
{
	return dev->function->pci_id == id || dev->function->logical_id == id;
}

static struct hvm_dev *hvm_device(u64 id)
{
	unsigned int i;

	for (i = 0; i < hvm.trace->num_functions; i++)
		if (hvm_is(&hvm.devs[i], id))
			return &hvm.devs[i];
	return NULL;
}

/* Functions that share an id share a place. */
static void hvm_moves(struct hvm_dev *dev, u64 place)
{
	const struct hvm_function *own = dev->function, *other;
	unsigned int i;

	for (i = 0; i < hvm.trace->num_functions; i++) {
		other = hvm.devs[i].function;
		if (hvm.trace->l1vh ? other->logical_id == own->logical_id :
				      other->pci_id == own->pci_id)
			hvm.devs[i].place = place;
	}
}

/* What a call does that was answered with status. */
static void hvm_effect(u64 control, const u64 *input, u64 status)
{
	u16 code = control & 0xffff, i, done = hv_repcomp(status);
	struct xarray *table = hvm_table(hvm_domain_of(input));
	u64 page;

	switch (code) {
	case HVCALL_CREATE_DEVICE_DOMAIN:
		if (!hv_result_success(status) || table)
			break;
		table = kzalloc(sizeof(*table), GFP_ATOMIC);
		hvm.lost |= !table;
		if (!table)
			break;
		xa_init(table);
		xa_store(&hvm.tables, hvm_domain_of(input), table, GFP_ATOMIC);
		hvm.call.created = hvm_domain_of(input) + 1;
		break;
	case HVCALL_DELETE_DEVICE_DOMAIN:
		if (!hv_result_success(status) || !table)
			break;
		xa_erase(&hvm.tables, hvm_domain_of(input));
		xa_destroy(table);
		kfree(table);
		break;
	case HVCALL_MAP_DEVICE_GPA_PAGES:
	case HVCALL_UNMAP_DEVICE_GPA_PAGES:
		if (!table)
			break;
		page = hvm_first_page(code, input);
		for (i = hvm_rep_start(control); i < done; i++) {
			if (code == HVCALL_UNMAP_DEVICE_GPA_PAGES)
				xa_erase(table, page + i);
			else if (xa_err(xa_store(table, page + i,
						 xa_mk_value(input[5 + i] << 2 |
							     (input[3] >> 32 & 3)),
						 GFP_ATOMIC)))
				hvm.lost = true;
		}
		hvm.call.low = min(hvm.call.low, page + hvm_rep_start(control));
		hvm.call.high = max(hvm.call.high, page + done);
		break;
	}
}

/* The fault that applies to an arrival at a site, if any. */
static const struct hvm_fault *hvm_refusal(u16 site)
{
	const struct hvm_fault *fault, *found = NULL;
	unsigned int i;

	for (i = 0; i < hvm.trace->num_faults; i++) {
		fault = &hvm.trace->faults[i];
		if (fault->site != site)
			continue;
		if (fault->step == hvm.step)
			hvm.arrived[i]++;
		if (found || hvm.fired[i] >= fault->times ||
		    (!hvm.fired[i] && (fault->step != hvm.step || hvm.arrived[i] < fault->nth)))
			continue;
		hvm.fired[i]++;
		found = fault;
	}
	return found;
}

/* The test's own answer to a call that is not in the record: what works, works; a fault applies. */
static u64 hvm_decide(u64 control, const u64 *input, const struct hvm_fault *fault)
{
	u16 code = control & 0xffff, reps = hvm_reps(control), done;
	struct hvm_dev *dev = NULL;
	u64 id, first, width, i;

	if (hvm.stop || control & 0xf000f000f8000000ULL || hvm_is_rep(code) != !!reps)
		return HV_STATUS_INVALID_HYPERCALL_INPUT;
	if (hvm_named(code, input, &id)) {
		dev = hvm_device(id);
		if (!dev)
			return 0x57; /* HV_STATUS_INVALID_DEVICE_ID */
	}
	switch (code) {
	case HVCALL_CREATE_DEVICE_DOMAIN:
		if (hvm_table(hvm_domain_of(input)))
			return 0x65; /* HV_STATUS_KEY_ALREADY_EXISTS */
		break;
	case HVCALL_ATTACH_DEVICE_DOMAIN:
		if (dev->place & HVM_GUEST)
			return 0x58; /* HV_STATUS_INVALID_DEVICE_STATE */
		if (dev->place != HVM_IN_DEFAULT && dev->place != HVM_IN_NULL &&
		    dev->place != HVM_NOWHERE && dev->place != hvm_domain_of(input) &&
		    hvm.trace->attach_elsewhere)
			return hvm.trace->attach_elsewhere;
		fallthrough;
	case HVCALL_DELETE_DEVICE_DOMAIN:
		for (i = 0; code == HVCALL_DELETE_DEVICE_DOMAIN && i < hvm.trace->num_functions;
		     i++)
			if (hvm.devs[i].place == hvm_domain_of(input))
				return 0x19; /* HV_STATUS_OBJECT_IN_USE */
		fallthrough;
	case HVCALL_MAP_DEVICE_GPA_PAGES:
	case HVCALL_UNMAP_DEVICE_GPA_PAGES:
		if (!hvm_table(hvm_domain_of(input)))
			return HV_STATUS_INVALID_PARAMETER;
		break;
	case HVCALL_DETACH_DEVICE_DOMAIN:
		if (dev->place & (HVM_GUEST | HVM_NOWHERE))
			return 0x58;
		break;
	case HVCALL_DETACH_DEVICE:
		if (dev->place != (HVM_GUEST | input[0]))
			return 0x0d; /* HV_STATUS_INVALID_PARTITION_ID */
		break;
	case HVCALL_ATTACH_DEVICE:
		if (dev->place & HVM_GUEST)
			return 0x19;
		break;
	case HVCALL_DEPOSIT_MEMORY:
		break;
	default:
		return HV_STATUS_INVALID_HYPERCALL_CODE;
	}
	if (code == HVCALL_MAP_DEVICE_GPA_PAGES || code == HVCALL_UNMAP_DEVICE_GPA_PAGES) {
		first = hvm_first_page(code, input);
		width = BIT_ULL(hvm.trace->iova_width - HV_HYP_PAGE_SHIFT);
		done = first < width ? min_t(u64, reps, width - first) : 0;
		if (done < reps)
			return (u64)max(done, hvm_rep_start(control)) << 32 |
			       HV_STATUS_INVALID_PARAMETER;
	}
	if (!fault)
		return (u64)reps << 32;
	hvm.refused++;
	done = reps ? min_t(u16, max(hvm_rep_start(control), fault->done), reps - 1) : 0;
	return (u64)done << 32 | fault->status;
}

/* Where the device that a call names is afterwards. */
static u64 hvm_place_after(const struct hvm_dev *dev, u16 code, const u64 *input, u64 status)
{
	if (!hv_result_success(status))
		return dev->place;
	switch (code) {
	case HVCALL_ATTACH_DEVICE_DOMAIN:
		return hvm_domain_of(input);
	case HVCALL_ATTACH_DEVICE:
		return HVM_GUEST | input[0];
	case HVCALL_DETACH_DEVICE_DOMAIN:
		return dev->place == HVM_IN_DEFAULT ? dev->place : hvm.trace->detach_leaves;
	case HVCALL_DETACH_DEVICE:
		return hvm.trace->guest_leaves;
	}
	return dev->place;
}

/* The next recorded call, if this is it. From the first that is not on the record has no say. */
static const struct hvm_answer *hvm_recorded(u64 control, const u64 *input)
{
	const struct hvm_answer *answer = &hvm.trace->answers[hvm.next];

	if (hvm.off_record || hvm.stop)
		return NULL;
	if (hvm.next < hvm.trace->num_answers && answer->step == hvm.step &&
	    answer->control == control && !memcmp(answer->input, input, answer->bytes)) {
		hvm.next++;
		return answer;
	}
	hvm.off_record = true;
	return NULL;
}

/* kzalloc() can be made to fail where CONFIG_FAILSLAB is set and the allocation may not sleep. */
static void hvm_arm(void)
{
#if IS_ENABLED(CONFIG_FAILSLAB)
	current->fail_nth = hvm.fail_nth;
#endif
}

static void hvm_disarm(void)
{
#if IS_ENABLED(CONFIG_FAILSLAB)
	hvm.refused += hvm.fail_nth && !current->fail_nth;
	hvm.fail_nth = current->fail_nth;
	current->fail_nth = 0;
#endif
}

/* Replaces hv_do_hypercall(). */
static u64 hvm_hypercall(u64 control, void *page, void *output)
{
	const struct hvm_property *property = hvm.trace->property;
	const struct hvm_answer *answer;
	const struct hvm_fault *fault;
	u16 code = control & 0xffff;
	const u64 *input = page;
	struct hvm_dev *dev;
	u64 status, id;

	if (hvm.checking)
		return hvm.checked++;
	hvm_disarm();
	hvm.call.calls++;
	if (property->before_hypercall)
		property->before_hypercall(control, input);
	fault = hvm_refusal(code);
	answer = hvm_recorded(control, input);
	status = answer ? answer->status : hvm_decide(control, input, fault);
	if (answer && answer->refused)
		hvm.refused++;
	if (answer ? answer->refused : !!fault)
		hvm.refused_unmaps += code == HVCALL_UNMAP_DEVICE_GPA_PAGES;
	hvm_effect(control, input, status);
	if (hvm_named(code, input, &id)) {
		dev = hvm_device(id);
		if (dev)
			hvm_moves(dev, answer ? answer->place :
						hvm_place_after(dev, code, input, status));
		hvm.call.leave += hvm_is_attach(code) &&
				  (hv_result(status) == 0x66 || hv_result(status) == 0x58 ||
				   hv_result(status) == 0x19);
	}
	if (property->after_hypercall)
		property->after_hypercall(control, input, status);
	hvm_arm();
	return status;
}

/* Replaces hv_call_deposit_pages(): one hypercall, and no pages. */
static int hvm_deposit(int node, u64 partition_id, u32 num_pages)
{
	const u64 input[6] = { partition_id };
	int ret = -ENOMEM;

	if (hvm.checking)
		return hvm.checked++;
	hvm.call.deposits++;
	hvm.call.tried = true;
	if (hvm_refusal(HVM_SITE_ALLOC_PAGES))
		hvm.refused++;
	else
		ret = hv_result_to_errno(hvm_hypercall(HVCALL_DEPOSIT_MEMORY | (u64)num_pages << 32,
						       (void *)input, NULL));
	hvm.call.deposit_refused |= ret;
	return ret;
}

/* Replaces hv_build_devid_oftype(). */
static u64 hvm_devid(struct pci_dev *pdev, enum hv_device_type type)
{
	struct hvm_dev *dev = container_of(pdev, struct hvm_dev, pdev);

	hvm.checked += hvm.checking;
	return type == HV_DEVICE_TYPE_PCI ? dev->function->pci_id : dev->function->logical_id;
}

/* Replaces hv_iommu_get_curr_partid(): whose thread acts. */
static u64 hvm_partid(void)
{
	hvm.checked += hvm.checking;
	return hvm.partition;
}
