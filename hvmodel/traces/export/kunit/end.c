/* --- before and after ------------------------------------------------------------------------- */

static void hvm_exit(struct kunit *test)
{
	struct xarray *table;
	unsigned long id;
	unsigned int i;
	int cpu;

	if (!hyperv_pcpu_input_arg || hvm.test != test)
		return;
	HVM_NEWEST_ID = hvm.old_id;
	HVM_NO_ATTDEV = false;
	HVM_SKIP = NULL;
	hv_curr_partition_type = hvm.old_type;
	hv_current_partition_id = hvm.old_partition;
	for (i = 0; i < HVM_FIRST; i++)
		if (hvm.doms[i].domain)
			HVM_ATTACHED(hvm.doms[i].domain) = hvm.old_count[i];
	for_each_possible_cpu(cpu)
		*per_cpu_ptr(hyperv_pcpu_input_arg, cpu) = NULL;
	free_percpu(hyperv_pcpu_input_arg);
	hyperv_pcpu_input_arg = NULL;
	for (i = 0; i < hvm.trace->num_domains; i++)
		xa_destroy(&hvm.doms[i].held);
	xa_for_each(&hvm.tables, id, table) {
		xa_destroy(table);
		kfree(table);
	}
	xa_destroy(&hvm.tables);
	kvfree(hvm.page);
	hvm.test = NULL;
}

static void hvm_add_domain(u32 id)
{
	const u64 input[6] = { HV_PARTITION_ID_SELF, 0, (u64)id << 32 };

	hvm_effect(HVCALL_CREATE_DEVICE_DOMAIN, input, HV_STATUS_SUCCESS);
}

static void hvm_add_device(struct hvm_dev *dev, const struct hvm_function *function)
{
	dev->function = function;
	dev->place = function->place;
	dev->sysdata.domain = function->segment;
	dev->bus.number = function->bus;
	dev->bus.sysdata = &dev->sysdata;
	device_initialize(&dev->pdev.dev);
	dev->pdev.bus = &dev->bus;
	dev->pdev.devfn = function->devfn;
	dev->pdev.dev.bus = (void *)&pci_bus_type;
	dev->pdev.dev.init_name = function->name;
	dev->pdev.dev.iommu = &dev->iommu;
	mutex_init(&dev->iommu.lock);
}

static void hvm_check_stub(unsigned int checked, const char *function)
{
	if (hvm.checked != checked)
		hvm_skip("%s() is not redirected: see the head of this file", function);
}

/* Without its stubs a test would be talking to the real hypervisor, or to nobody. */
static void hvm_activate_stubs(struct kunit *test)
{
	kunit_activate_static_stub(test, hv_do_hypercall, hvm_hypercall);
	kunit_activate_static_stub(test, hv_call_deposit_pages, hvm_deposit);
	kunit_activate_static_stub(test, hv_build_devid_oftype, hvm_devid);
	kunit_activate_static_stub(test, hv_iommu_get_curr_partid, hvm_partid);
	hvm.checking = true;
	hv_do_hypercall(0, NULL, NULL);
	hvm_check_stub(1, "hv_do_hypercall");
	hv_call_deposit_pages(NUMA_NO_NODE, hv_current_partition_id, 1);
	hvm_check_stub(2, "hv_call_deposit_pages");
	hv_build_devid_oftype(&hvm.devs[0].pdev, HV_DEVICE_TYPE_PCI);
	hvm_check_stub(3, "hv_build_devid_oftype");
	hv_iommu_get_curr_partid();
	hvm_check_stub(4, "hv_iommu_get_curr_partid");
	hvm.checking = false;
}

/* The world as it was when the trace was recorded, before boot. */
static void hvm_begin(struct kunit *test, const struct hvm_trace *trace)
{
	unsigned int i;
	int cpu;

	if (hyperv_pcpu_input_arg)
		kunit_skip(test,
			   "runs on Hyper-V, where it would get in the way: use another machine");
	memset(&hvm, 0, sizeof(hvm));
	hvm.test = test;
	hvm.trace = trace;
	xa_init(&hvm.tables);
	hvm.doms = kunit_kcalloc(test, trace->num_domains, sizeof(*hvm.doms), GFP_KERNEL);
	hvm.devs = kunit_kcalloc(test, trace->num_functions, sizeof(*hvm.devs), GFP_KERNEL);
	hvm.arrived = kunit_kcalloc(test, trace->num_faults + 1, sizeof(*hvm.arrived), GFP_KERNEL);
	hvm.fired = kunit_kcalloc(test, trace->num_faults + 1, sizeof(*hvm.fired), GFP_KERNEL);
	KUNIT_ASSERT_TRUE(test, hvm.doms && hvm.devs && hvm.arrived && hvm.fired);
	hyperv_pcpu_input_arg = alloc_percpu(void *);
	KUNIT_ASSERT_NOT_NULL(test, hyperv_pcpu_input_arg);
	hvm.old_id = HVM_NEWEST_ID;
	hvm.old_type = hv_curr_partition_type;
	hvm.old_partition = hv_current_partition_id;
	hvm.page = kvmalloc(HV_HYP_PAGE_SIZE + trace->slack, GFP_KERNEL);
	KUNIT_ASSERT_NOT_NULL(test, hvm.page);
	memset(hvm.page, 0xa5, HV_HYP_PAGE_SIZE + trace->slack);
	for_each_possible_cpu(cpu)
		*per_cpu_ptr(hyperv_pcpu_input_arg, cpu) = hvm.page;
	for (i = 0; i < trace->num_domains; i++)
		xa_init(&hvm.doms[i].held);
	for (i = 0; i < trace->num_functions; i++)
		hvm_add_device(&hvm.devs[i], &trace->functions[i]);
	hvm_add_domain(HVM_IN_DEFAULT);
	hvm_add_domain(HVM_IN_NULL);
	for (i = 0; i < trace->num_left; i++)
		hvm_add_domain(trace->left[i]);
	HVM_RESET();
	HVM_NEWEST_ID = trace->newest_id;
	HVM_NO_ATTDEV = trace->no_attdev;
	HVM_SKIP = trace->skip;
	hv_curr_partition_type = trace->l1vh ? HV_PARTITION_TYPE_L1VH : HV_PARTITION_TYPE_ROOT;
	hv_current_partition_id = 1;
	hvm.partition = HV_PARTITION_ID_INVALID;
	for (i = 0; i < HVM_FIRST; i++) {
		if (i == HVM_BLOCKED && !HVM_OPS.blocked_domain)
			continue;
		hvm.old_count[i] = HVM_ATTACHED(hvm_dom(i)->domain);
		HVM_ATTACHED(hvm_dom(i)->domain) = 0;
	}
	hvm_activate_stubs(test);
}

static void hvm_end(struct kunit *test)
{
	hvm_report();
	if (hvm.reported)
		return;
	if (hvm.lost)
		hvm_skip("out of memory in the test's own books");
	hvm_check_kzalloc();
	if (!hvm.reached)
		hvm_skip("%s was not put to the test", hvm.trace->property->name);
	if (hvm.off_record)
		kunit_info(
			test,
			"off the record: from some hypercall on the answers were the test's own");
}
