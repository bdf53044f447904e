/* --- calls into the driver, as the callers make them ------------------------------------------ */

static struct device *hvm_dev(unsigned int dev)
{
	return &hvm.devs[dev].pdev.dev;
}

/* Where the driver believes a device. */
static struct iommu_domain *hvm_pointer(unsigned int dev)
{
	void *priv = dev_iommu_priv_get(hvm_dev(dev));

	return priv ? HVM_DOMAIN_OF(priv) : NULL;
}

static void hvm_probe(unsigned int dev, enum hvm_recorded recorded)
{
	struct iommu_device *iommu;

	hvm_enter(HVM_PROBE, NULL, &hvm.devs[dev]);
	iommu = HVM_OPS.probe_device(hvm_dev(dev));
	hvm_back();
	hvm_leave(PTR_ERR_OR_ZERO(iommu));
	hvm_answered(recorded, !IS_ERR(iommu));
}

/* The static domains, which the driver has from the start. */
static struct hvm_dom *hvm_dom(unsigned int dom)
{
	struct hvm_dom *book = &hvm.doms[dom];

	if (dom < HVM_FIRST && !book->domain) {
		book->place = hvm.trace->l1vh	 ? HVM_NOWHERE :
			      dom == HVM_BLOCKED ? HVM_IN_NULL :
						   HVM_IN_DEFAULT;
		book->domain = dom == HVM_BLOCKED ? HVM_OPS.blocked_domain :
						    HVM_OPS.identity_domain;
		if (!book->domain && dom == HVM_IDENTITY && HVM_OPS.domain_alloc_identity)
			book->domain = HVM_OPS.domain_alloc_identity(hvm_dev(0));
		if (IS_ERR_OR_NULL(book->domain))
			hvm_skip("the driver has no %s domain", dom ? "blocked" : "identity");
		book->blocking = dom == HVM_BLOCKED;
		book->alive = true;
		book->ops = book->domain->ops ? book->domain->ops : HVM_OPS.default_domain_ops;
	}
	return book;
}

static __maybe_unused u64 hvm_place(unsigned int dom)
{
	return hvm_dom(dom)->place;
}

/* iommu_paging_domain_alloc(); a blocking domain is the driver's own if it has one. */
static __maybe_unused void hvm_alloc(unsigned int dom, unsigned int dev, bool blocking,
				     enum hvm_recorded recorded)
{
	struct hvm_dom *book = &hvm.doms[dom];
	struct iommu_domain *domain;
	long ret;

	if (blocking && HVM_OPS.blocked_domain) {
		*book = *hvm_dom(HVM_BLOCKED);
		return;
	}
	hvm_enter(HVM_ALLOC, book, &hvm.devs[dev]);
	domain = HVM_OPS.domain_alloc_paging(hvm_dev(dev));
	hvm_back();
	ret = domain ? PTR_ERR_OR_ZERO(domain) : -ENOMEM;
	if (!ret) {
		book->domain = domain;
		book->ops = domain->ops ? domain->ops : HVM_OPS.default_domain_ops;
		domain->ops = hvm_above(book->ops);
		domain->type = IOMMU_DOMAIN_UNMANAGED;
		book->direct = !hvm.call.created;
		book->id = hvm.call.created - 1;
		book->place = book->direct ? HVM_GUEST | hvm.partition : book->id;
		book->blocking = blocking;
		book->alive = true;
	}
	hvm_leave(ret);
	hvm_answered(recorded, !ret);
}

#define HVM_NONE U32_MAX /* no old domain */

static __maybe_unused void hvm_attach(unsigned int dev, unsigned int new, unsigned int old,
				      unsigned int flags, enum hvm_recorded recorded)
{
	struct hvm_dom *to = hvm_dom(new), *from = old == HVM_NONE ? NULL : hvm_dom(old);
	int ret;

	hvm_enter(HVM_ATTACH, to, &hvm.devs[dev]);
	hvm.call.old = from;
	hvm.call.must = flags & HVM_MUST;
	hvm.call.no_gap = flags & HVM_NO_GAP;
	hvm.call.before = hvm.devs[dev].place;
	hvm.call.count = from && from->alive ? HVM_ATTACHED(from->domain) : 0;
	hvm.call.priv = dev_iommu_priv_get(hvm_dev(dev));
	ret = to->ops->attach_dev(to->domain, hvm_dev(dev), from ? from->domain : NULL);
	hvm_back();
	hvm_leave(ret);
	hvm_answered(recorded, !ret);
}

/* iommu_domain_free() */
static __maybe_unused void hvm_free(unsigned int dom)
{
	struct hvm_dom *book = hvm_dom(dom);

	hvm_enter(HVM_FREE, book, NULL);
	if (book->ops->free)
		book->ops->free(book->domain);
	hvm_back();
	book->alive = false;
	hvm_leave(0);
}

static __maybe_unused void hvm_release(unsigned int dev)
{
	struct iommu_domain *domain = hvm_pointer(dev);
	unsigned int i;

	hvm_enter(HVM_RELEASE, NULL, &hvm.devs[dev]);
	for (i = 0; domain && i < hvm.trace->num_domains; i++)
		if (hvm.doms[i].alive && hvm.doms[i].domain == domain)
			hvm.call.old = &hvm.doms[i];
	if (HVM_OPS.release_device)
		HVM_OPS.release_device(hvm_dev(dev));
	hvm_back();
	dev_iommu_priv_set(hvm_dev(dev), NULL); /* as dev_iommu_free() does */
	hvm_leave(0);
}

static __maybe_unused void hvm_lookup(unsigned int dom, unsigned long iova)
{
	struct hvm_dom *book = hvm_dom(dom);
	phys_addr_t paddr;

	hvm_enter(HVM_LOOKUP, book, NULL);
	hvm.call.iova = iova;
	paddr = iommu_iova_to_phys(book->domain, iova);
	hvm_back();
	hvm.call.paddr = paddr;
	hvm_leave(0);
}
