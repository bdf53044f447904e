/* --- in which context the driver is called, and what lockdep and might_sleep() would say -------- */

static struct iommu_domain *hvm_now[64]; /* of each device, as the core has it */

static struct iommu_domain *hvm_domain_now(u32 dev)
{
	return dev < ARRAY_SIZE(hvm_now) ? hvm_now[dev] : NULL;
}

/* The core holds the probe lock while it probes, and on hotplug for the first attach, too. */
static void hvm_enter_known(enum hvm_op op, struct hvm_dom *dom, struct hvm_dev *dev)
{
	bool first = op == HVM_ATTACH && hvm.step != HVM_BOOT_STEP && dev &&
		     !hvm_domain_now(dev - hvm.devs);

	hvm_enter(op, dom, dev);
	alone_context(op == HVM_PROBE || first, op == HVM_UNMAP, 0);
}

#define hvm_enter hvm_enter_known

/* A rule of the kernel is broken, and the property is about such rules. */
static void hvm_hears(const char *rule, const char *detail)
{
	static const char *const about[][2] = {
		{ "sleep-in-atomic", "no-sleep-in-atomic" },
		{ "gfp", "gfp-is-used" },
		{ "lock", "context-is-balanced" },
		{ "irqs", "context-is-balanced" },
		{ "probe-lock", "context-is-balanced" },
	};
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(about); i++)
		if (!strcmp(rule, about[i][0]) &&
		    !strcmp(hvm.trace->property->name, about[i][1]))
			hvm_broken("%s", detail);
}

static __maybe_unused void hvm_count_calls(const struct hvm_call *call)
{
	hvm.reached++;
}
