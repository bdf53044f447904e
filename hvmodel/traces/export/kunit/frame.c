/* --- around every call ------------------------------------------------------------------------ */

/* What the driver answered, against the record: the trace goes on only where it did. */
enum hvm_recorded { HVM_FAILED, HVM_OK, HVM_DECIDES };

#define HVM_MUST   BIT(0) /* the core ignores a failure */
#define HVM_NO_GAP BIT(1) /* the hypervisor offers a way without a gap */

/* What cannot be put to the test is skipped: it is no pass. What has failed stays failed. */
#define hvm_skip(fmt, ...)                                           \
	do {                                                         \
		if (READ_ONCE(hvm.test->status) == KUNIT_FAILURE)    \
			kunit_try_catch_throw(&hvm.test->try_catch); \
		kunit_skip(hvm.test, fmt, ##__VA_ARGS__);            \
	} while (0)

static void hvm_report(void)
{
	if (!hvm.broken[0] || hvm.reported)
		return;
	hvm.reported = true;
	KUNIT_FAIL(hvm.test, "step %u: %s: %s", hvm.step, hvm.trace->property->name, hvm.broken);
}

static void hvm_enter(enum hvm_op op, struct hvm_dom *dom, struct hvm_dev *dev)
{
	hvm.call = (struct hvm_call){ .op = op, .dom = dom, .dev = dev, .low = U64_MAX };
	hvm_arm();
}

/* Right after the driver's function; the call is written down between this and hvm_leave(). */
static void hvm_back(void)
{
	hvm_disarm();
	hvm.call.irqs_off = irqs_disabled();
	if (hvm.call.irqs_off)
		local_irq_enable();
}

static void hvm_leave(long ret)
{
	hvm.call.ret = ret;
	if (hvm.deciding) { /* whatever the call may have done elsewhere */
		hvm.call.low = 0;
		hvm.call.high = BIT_ULL(52);
	}
	if (hvm.trace->property->after_call)
		hvm.trace->property->after_call(&hvm.call);
	hvm_report();
}

static void hvm_check_kzalloc(void)
{
	if (hvm.fail_nth)
		hvm_skip("step %u: a kzalloc() was to fail and did not (CONFIG_FAILSLAB)",
			 hvm.step);
}

static void hvm_answered(enum hvm_recorded recorded, bool ok)
{
	if (recorded != (ok ? HVM_FAILED : HVM_OK))
		return;
	hvm_check_kzalloc();
	hvm_skip("step %u: a call %s, unlike in the record: what its callers do is unknown",
		 hvm.step, ok ? "succeeds" : "fails");
}

/* The next calls are the one in which the property failed when the trace was recorded. */
static __maybe_unused void hvm_decides(void)
{
	hvm.deciding = true;
}

static void hvm_step(u16 step)
{
	unsigned int i;

	hvm_check_kzalloc();
	if (hvm.next < hvm.trace->num_answers && hvm.trace->answers[hvm.next].step < step)
		hvm.off_record = true;
	hvm.step = step;
	hvm.refused = 0;
	hvm.refused_unmaps = 0;
	for (i = 0; i < hvm.trace->num_faults; i++)
		if (hvm.trace->faults[i].site == HVM_SITE_KZALLOC &&
		    hvm.trace->faults[i].step == step)
			hvm.fail_nth = hvm.trace->faults[i].nth;
}

/* A thread of the process that manages this partition acts from now on; 0: a host thread. */
static __maybe_unused void hvm_by(u64 partition)
{
	hvm.partition = partition;
}

/* The hypervisor moves a device of itself. */
static __maybe_unused void hvm_moved(unsigned int dev, u64 place)
{
	hvm_moves(&hvm.devs[dev], place);
}

/* The device is gone, and nobody told the driver. */
static __maybe_unused void hvm_unplugged(unsigned int dev)
{
	dev_iommu_priv_set(&hvm.devs[dev].pdev.dev, NULL);
}
