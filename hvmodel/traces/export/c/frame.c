/* --- the driver's own kernel is started, and the program hears of everything below it --------- */

static __maybe_unused void hvm_attach_known(unsigned int dev, unsigned int new, unsigned int old,
					    unsigned int flags, enum hvm_recorded recorded)
{
	struct iommu_domain *before = dev < ARRAY_SIZE(hvm_now) ? hvm_now[dev] : NULL;

	hvm_attach(dev, new, old, flags, recorded);
	if (dev < ARRAY_SIZE(hvm_now))
		hvm_now[dev] = hvm.call.ret && !(flags & HVM_MUST) ? before : hvm_dom(new)->domain;
}

#define hvm_attach hvm_attach_known

/* Capabilities are not in the tables: they are what the world's hypervisor has. */
static u64 hvm_answer_call(u64 control, void *page, void *output)
{
	struct hv_output_get_iommu_capabilities *found = output;
	const struct hvm_answer *next = &hvm.trace->answers[hvm.next];
	u64 status = HV_STATUS_SUCCESS;

	if ((control & 0xffff) != HVCALL_GET_IOMMU_CAPABILITIES)
		return hvm_hypercall(control, page, output);
	if (!hvm.off_record && hvm.next < hvm.trace->num_answers && next->control == control &&
	    next->step == hvm.step)
		status = hvm_hypercall(control, page, output);
	if (found && hv_result_success(status)) {
		memset(found, 0, sizeof(*found));
		found->size = sizeof(*found);
		found->max_iova_width = hvm.trace->iova_width;
		found->iommu_cap = 3;
		found->pgsize_bitmap = HV_HYP_PAGE_SIZE;
	}
	return status;
}

static void hvm_result(const char *what, const char *why)
{
	printf("%s 1 - %s%s%s\n", what, hvm_name, *why ? ": " : "", why);
	fflush(stdout);
}

/* The driver crashed, or memory is used as it must not be: a failure where that is what must not be. */
static void hvm_died(const char *how, bool memory)
{
	const char *name = hvm.trace->property->name;
	bool null = !strncmp(how, "follows", 7);
	bool freed = strstr(how, "free"); /* heap-use-after-free, double-free */
	bool wanted = memory && !strcmp(name, null  ? "no-null-dereference" :
					      freed ? "no-use-after-free" :
						      "no-out-of-bounds");
	char why[256];

	if (hvm.reported) {
		hvm_result("not ok", hvm.test->why);
		_exit(ALONE_FAILS);
	}
	snprintf(why, sizeof(why), "step %u: %s%s", hvm.step, how,
		 wanted ? "" : ", which is not what this program is about: undetermined");
	hvm_result("not ok", why);
	_exit(wanted ? ALONE_FAILS : ALONE_UNDETERMINED);
}

static void hvm_boot(void)
{
	int ret = -ENODEV;

	alone = (struct alone){ hvm_answer_call, hvm_deposit, hvm_partid, hvm_domain_now, hvm_hears, hvm_died };
	alone_begin(hvm.trace->l1vh, HVM_MSHV);
	hv_current_partition_id = 1;
	hvm.partition = HV_PARTITION_ID_INVALID;
	hvm.step = HVM_BOOT_STEP;
	hvm_enter(HVM_PROBE, NULL, NULL);
	if (hvm.trace->skip)
		alone_option("hv_iommu_skip", hvm.trace->skip);
	if (hvm.trace->no_attdev)
		alone_option("hv_no_attdev", "");
	hv_iommu_detect();
	if (x86_init.iommu.iommu_init)
		ret = x86_init.iommu.iommu_init();
	hvm_back();
	if (ret || !alone_ops())
		hvm_skip("the driver does not come up: %d", ret);
	hvm.step = 0;
}

static void hvm_activate_stubs(struct kunit *test)
{
	(void)test;
	HVM_NEWEST_ID = hvm.trace->newest_id ? hvm.trace->newest_id + HVM_AHEAD : hvm.old_id;
}

static void hvm_add_device(struct hvm_dev *dev, const struct hvm_function *function)
{
	dev->function = function;
	dev->place = function->place;
	dev->bus.domain_nr = hvm_segments[dev - hvm.devs]; /* may have more than 16 bits */
	dev->bus.number = function->bus;
	dev->pdev.bus = &dev->bus;
	dev->pdev.own_bus = dev->bus;
	dev->pdev.devfn = function->devfn;
	dev->pdev.requester = function->pci_id;
	dev->pdev.requester_own = function->logical_id;
	dev->pdev.dev.init_name = function->name;
	dev->pdev.dev.is_pci = true;
	dev->pdev.dev.number = dev - hvm.devs;
}
