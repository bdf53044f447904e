// SPDX-License-Identifier: GPL-2.0-only
/* The kernel's services, as hvmodel/kernel/services.py has them: what can fail asks Python, what is a rule is checked here. */
#include "hvm.h"
#include <stdarg.h>
#undef sscanf
#undef snprintf
#include <stdio.h>
#undef memcpy
#include <string.h>

int no_iommu, iommu_detected;
struct x86_init_ops x86_init;
struct ms_hyperv_info ms_hyperv;
u64 hv_current_partition_id;
void **hyperv_pcpu_input_arg, **hyperv_pcpu_output_arg;

/* --- text ------------------------------------------------------------------------------------------------------------------ */

/* Kernel formats: a pointer prints as one word, whatever it is, as before the kernel has hashed its first. */
static void hvm_format(char *out, size_t room, const char *format, va_list list)
{
	char plain[1024];
	size_t at = 0;

	for (; *format && at + 16 < sizeof(plain); format++) {
		plain[at++] = *format;
		if (*format != '%')
			continue;
		for (format++; *format && strchr("-+ #0123456789.*hlLzjt", *format); format++)
			plain[at++] = *format;
		if (*format == 'p') {
			while (plain[at - 1] != '%')
				at--;
			memcpy(plain + at - 1, "(ptr)%.0s", 9);
			at += 8;
			while ((format[1] >= 'a' && format[1] <= 'z') || (format[1] >= 'A' && format[1] <= 'Z'))
				format++;
			continue;
		}
		if (!*format)
			break;
		plain[at++] = *format;
	}
	plain[at] = 0;
	vsnprintf(out, room, plain, list);
}

#define hvm_text(name, format)                                \
	char name[1024];                                      \
	do {                                                  \
		va_list list;                                 \
		va_start(list, format);                       \
		hvm_format(name, sizeof(name), format, list); \
		va_end(list);                                 \
	} while (0)

void hvm_printk(enum hvm_level level, const char *format, ...)
{
	hvm_text(text, format);
	hvm_ask(HVM_S_LOG, level, 0, HVM_HERE, text);
}

void hvm_dev_printk(enum hvm_level level, const void *device, const char *format, ...)
{
	char whole[1200];

	hvm_text(text, format);
	snprintf(whole, sizeof(whole), "%s: %s", dev_name((const struct device *)device), text);
	hvm_ask(HVM_S_LOG, level, 0, HVM_HERE, whole);
}

void hvm_status(enum hvm_level level, u64 status, const char *function, const char *format, ...)
{
	char whole[1200];

	hvm_text(text, format);
	snprintf(whole, sizeof(whole), "%s|%s", function, text);
	hvm_ask(HVM_S_STATUS, level, status, HVM_HERE, whole);
}

bool hvm_warn(bool condition, const char *format, ...)
{
	if (condition) {
		hvm_text(text, format);
		hvm_ask(HVM_S_LOG, HVM_WARN, 0, HVM_HERE, text);
	}
	return condition;
}

void hvm_bug(void)
{
	hvm_crash(HVM_BUG, 0, HVM_HERE);
}

/* Once for each place and rule in a call: a loop that breaks a rule breaks it again and again. */
void hvm_report(u64 where, const char *rule, const char *format, ...)
{
	struct hvm_image *image = hvm_image;
	u64 key = where * 31 + (u64)rule;
	char whole[1200];
	u32 i;

	for (i = 0; i < image->nsaid; i++)
		if (image->said[i] == key)
			return;
	if (rule[0] != 'i' || rule[1] != 'n') { /* of an overrun each call is told: it decides what else is judged of it */
		key += image->op << 56;
		for (i = 0; i < hvm->ntold; i++)
			if (hvm->told[i] == key)
				return;
		if (hvm->ntold < sizeof(hvm->told) / sizeof(hvm->told[0]))
			hvm->told[hvm->ntold++] = key;
		key -= image->op << 56;
	}
	if (image->nsaid < sizeof(image->said) / sizeof(image->said[0]))
		image->said[image->nsaid++] = key;

	hvm_text(text, format);
	snprintf(whole, sizeof(whole), "%s|%s", rule, text);
	hvm_ask(HVM_S_REPORT, 0, 0, where, whole);
}

int hvm_sscanf(const char *text, const char *format, ...)
{
	va_list list;
	int found;

	va_start(list, format);
	found = vsscanf(text, format, list);
	va_end(list);
	return found < 0 ? 0 : found; /* lib/vsprintf.c:vsscanf has no EOF */
}

int hvm_snprintf(char *buffer, size_t size, const char *format, ...)
{
	hvm_text(text, format);
	return snprintf(buffer, size, "%s", text);
}

/* --- context --------------------------------------------------------------------------------------------------------------- */

void hvm_might_sleep(const char *what)
{
	if (hvm->irqs_off || hvm->nlocks || (hvm->context & HVM_C_ATOMIC))
		hvm_report(HVM_HERE, "sleep-in-atomic", "%s with %s", what,
			   hvm->irqs_off ? "interrupts off" :
			   hvm->nlocks	 ? "a spinlock held" :
					   "an atomic caller");
}

static void hvm_irqs(bool off)
{
	hvm_image->shared.opened += hvm->irqs_off && !off;
	hvm->irqs_off = off;
}

unsigned long hvm_irq_save(void)
{
	unsigned long was = hvm->irqs_off;

	hvm->irqs_off = 1;
	return was;
}

void hvm_irq_restore(unsigned long flags)
{
	hvm_irqs(flags & 1);
}

bool hvm_irqs_disabled(void)
{
	return hvm->irqs_off;
}

static const char *hvm_lock_name(const char *expression)
{
	const char *name = expression;

	for (; *expression; expression++)
		if (*expression == '>' || *expression == '.' || *expression == '&')
			name = expression + 1;
	return name;
}

unsigned long hvm_lock(spinlock_t *lock, const char *name, bool irq)
{
	unsigned long was = hvm->irqs_off;

	hvm_check(lock, sizeof(*lock), true, HVM_HERE);
	if (irq)
		hvm->irqs_off = 1;
	if (lock->held)
		hvm_report(HVM_HERE, "lock", "%s is taken twice", hvm_lock_name(name));
	lock->held = 1;
	if (hvm->nlocks < 16)
		hvm->locks[hvm->nlocks] = lock;
	hvm->nlocks++;
	return was;
}

void hvm_unlock(spinlock_t *lock, const char *name, bool irq, unsigned long flags)
{
	u32 i, n = hvm->nlocks < 16 ? hvm->nlocks : 16;

	hvm_check(lock, sizeof(*lock), true, HVM_HERE);
	for (i = 0; i < n && hvm->locks[i] != lock; i++)
		;
	if (!lock->held || i == n) {
		hvm_report(HVM_HERE, "lock", "%s is released but not held", hvm_lock_name(name));
	} else {
		for (; i + 1 < n; i++)
			hvm->locks[i] = hvm->locks[i + 1];
		hvm->nlocks--;
	}
	lock->held = 0;
	if (irq)
		hvm_irqs(flags & 1);
}

void hvm_mutex_lock(struct mutex *mutex, const char *name)
{
	hvm_check(mutex, sizeof(*mutex), true, HVM_HERE);
	hvm_might_sleep("mutex_lock");
	if (mutex->lock.held)
		hvm_report(HVM_HERE, "lock", "%s is taken twice", hvm_lock_name(name));
	mutex->lock.held = 1;
}

void hvm_mutex_unlock(struct mutex *mutex, const char *name)
{
	hvm_check(mutex, sizeof(*mutex), true, HVM_HERE);
	if (!mutex->lock.held)
		hvm_report(HVM_HERE, "lock", "%s is released but not held", hvm_lock_name(name));
	mutex->lock.held = 0;
}

void *hvm_this_cpu(void *pointer)
{
	if ((pointer == &hvm->page || pointer == &hvm->output) && !hvm->irqs_off)
		hvm_report(HVM_HERE, "irqs", "the per-CPU hypercall page is used with interrupts on");
	return pointer;
}

struct task_struct *hvm_current(void)
{
	return &hvm->task;
}

/* --- hypercalls ------------------------------------------------------------------------------------------------------------ */

static u64 hvm_door(u64 control, void *input, void *output, u64 round, u64 where)
{
	struct hvm_image *image = hvm_image;
	sigjmp_buf *entry = image->entry;
	u64 status, hash = image->recording || image->replaying ? hvm_hash_page(input, control) : 0;

	if (image->replaying)
		return hvm_replay(HVM_DOOR, control, hash, output, where);
	if (input && !(hvm->irqs_off || hvm->nlocks))
		hvm_report(where, "irqs", "a hypercall with its page while interrupts are on");
	if (input)
		memcpy(image->python_input, input, PAGE_SIZE);
	else
		__builtin_memset(image->python_input, 0, PAGE_SIZE);
	if (output)
		memcpy(image->python_output, output, PAGE_SIZE);
	image->entry = NULL; /* what faults in Python is not the driver's */
	status = image->door(control, round, where);
	image->entry = entry;
	if (image->shared.unwind)
		siglongjmp(*entry, HVM_UNWOUND);
	if (output)
		memcpy(output, image->python_output, PAGE_SIZE);
	hvm_note(HVM_DOOR, control, hash, status, output, where);
	return status;
}

u64 hv_do_hypercall(u64 control, void *input, void *output)
{
	return hvm_door(control, input, output, 0, HVM_HERE);
}

u64 hv_do_rep_hypercall(u16 code, u16 rep_count, u16 varhead_size, void *input, void *output)
{
	u64 control = code, status, round = 0;
	u16 rep_comp;

	control |= (u64)varhead_size << HV_HYPERCALL_VARHEAD_OFFSET;
	control |= (u64)rep_count << HV_HYPERCALL_REP_COMP_OFFSET;
	do {
		status = hvm_door(control, input, output, round++, HVM_HERE);
		if (!hv_result_success(status))
			return status;
		rep_comp = hv_repcomp(status);
		control &= ~HV_HYPERCALL_REP_START_MASK;
		control |= (u64)rep_comp << HV_HYPERCALL_REP_START_OFFSET;
	} while (rep_comp < rep_count);
	return status;
}

int hv_call_deposit_pages(int node, u64 partition_id, u32 num_pages)
{
	int ret;

	(void)node;
	if (!num_pages)
		return 0;
	if (hvm_image->replaying)
		return (int)hvm_replay(HVM_S_DEPOSIT, partition_id, num_pages, hvm->page, HVM_HERE);
	ret = (int)hvm_ask(HVM_S_DEPOSIT, partition_id, num_pages, HVM_HERE, NULL);
	memcpy(hvm->page, hvm_image->python_input, PAGE_SIZE); /* the helper uses the same page */
	hvm_note(HVM_S_DEPOSIT, partition_id, num_pages, (u64)(s64)ret, hvm->page, HVM_HERE);
	return ret;
}

bool hv_result_needs_memory(u64 status)
{
	switch (hv_result(status)) {
	case HV_STATUS_INSUFFICIENT_MEMORY:
	case HV_STATUS_INSUFFICIENT_ROOT_MEMORY:
	case HV_STATUS_INSUFFICIENT_CONTIGUOUS_MEMORY:
	case HV_STATUS_INSUFFICIENT_CONTIGUOUS_ROOT_MEMORY:
		return true;
	}
	return false;
}

/* mail "mshv: Introduce hv_deposit_memory helper functions": contiguous shortages ask for eight pages, those of the root go to the root */
int hv_deposit_memory_node(int node, u64 partition_id, u64 status)
{
	u32 pages = 1;

	switch (hv_result(status)) {
	case HV_STATUS_INSUFFICIENT_CONTIGUOUS_ROOT_MEMORY:
		pages = 8;
		partition_id = hv_current_partition_id;
		break;
	case HV_STATUS_INSUFFICIENT_CONTIGUOUS_MEMORY:
		pages = 8;
		break;
	case HV_STATUS_INSUFFICIENT_ROOT_MEMORY:
		partition_id = hv_current_partition_id;
		break;
	case HV_STATUS_INSUFFICIENT_MEMORY:
		break;
	default:
		return -EIO;
	}
	return hv_call_deposit_pages(node, partition_id, pages);
}

/* drivers/hv/hv_common.c */
int hv_result_to_errno(u64 status)
{
	if (status == ~0ULL)
		return -EOPNOTSUPP;
	switch (hv_result(status)) {
	case HV_STATUS_SUCCESS:
		return 0;
	case HV_STATUS_INVALID_HYPERCALL_CODE:
	case HV_STATUS_INVALID_HYPERCALL_INPUT:
	case HV_STATUS_INVALID_PARAMETER:
	case HV_STATUS_INVALID_PARTITION_ID:
	case HV_STATUS_INVALID_VP_INDEX:
	case HV_STATUS_INVALID_PORT_ID:
	case HV_STATUS_INVALID_CONNECTION_ID:
	case HV_STATUS_INVALID_LP_INDEX:
	case HV_STATUS_INVALID_REGISTER_VALUE:
		return -EINVAL;
	}
	return hv_result_needs_memory(status) ? -ENOMEM : -EIO;
}

bool hv_l1vh_partition(void)
{
	return hvm->l1vh;
}

bool hv_root_partition(void)
{
	return !hvm->l1vh;
}

bool hv_parent_partition(void)
{
	return true;
}

bool hv_is_hyperv_initialized(void)
{
	return hvm->hyperv;
}

/* --- who runs, what is where ------------------------------------------------------------------------------------------------ */

u64 mshv_pid_to_partid(pid_t tgid)
{
	struct hvm_image *image = hvm_image;

	if (tgid != hvm->task.tgid)
		return hvm_ask(HVM_S_PARTITION, tgid, 0, HVM_HERE, NULL);
	if (!image->partition_known) { /* it does not change while a call runs */
		image->partition = hvm_ask(HVM_S_PARTITION, tgid, 0, HVM_HERE, NULL);
		image->partition_known = true;
	}
	return image->partition;
}

u64 mshv_current_partid(void)
{
	return mshv_pid_to_partid(hvm->task.tgid);
}

void *hvm_symbol_get(const char *name, void *symbol)
{
	(void)name;
	return hvm->mshv ? symbol : NULL;
}

/* A driver of its own may define the next three; then the linker takes that. */
__attribute__((weak)) u64 hv_build_devid_type_pci(struct pci_dev *pdev)
{
	return (u64)HV_DEVICE_TYPE_PCI << 62 | pdev->requester;
}

__attribute__((weak)) u64 hv_pci_vmbus_device_id(struct pci_dev *pdev)
{
	return pdev->requester_own;
}

__attribute__((weak)) u64 hv_build_devid_oftype(struct pci_dev *pdev, enum hv_device_type type)
{
	return type == HV_DEVICE_TYPE_PCI ? (u64)HV_DEVICE_TYPE_PCI << 62 | pdev->requester : pdev->requester_own;
}

void *dev_iommu_priv_get(struct device *dev)
{
	return dev->iommu_priv;
}

void dev_iommu_priv_set(struct device *dev, void *priv)
{
	if (!(hvm->context & HVM_C_PROBE))
		hvm_report(HVM_HERE, "probe-lock", "dev_iommu_priv_set without iommu_probe_device_lock");
	dev->iommu_priv = priv;
}

struct iommu_group *hvm_group(struct device *dev)
{
	return (struct iommu_group *)&dev->iommu_group_data;
}

struct iommu_domain *iommu_get_domain_for_dev(struct device *dev)
{
	return (struct iommu_domain *)hvm_ask(HVM_S_DOMAIN_OF, dev->number, 0, HVM_HERE, NULL);
}

struct iommu_resv_region *iommu_alloc_resv_region(phys_addr_t start, size_t length, int prot, enum iommu_resv_type type, gfp_t gfp)
{
	struct iommu_resv_region *region = hvm_allocate(sizeof(*region), 0, HVM_HERE); /* asked for by the judges, too: no fault site */

	(void)gfp;
	if (region) {
		region->list.next = region->list.prev = &region->list;
		region->start = start;
		region->length = length;
		region->prot = prot;
		region->type = type;
	}
	return region;
}

int iommu_device_sysfs_add(struct iommu_device *iommu, struct device *parent, const void *groups, const char *format, ...)
{
	(void)iommu, (void)parent, (void)groups, (void)format;
	return (int)hvm_ask(HVM_S_SYSFS_ADD, 0, 0, HVM_HERE, NULL);
}

void iommu_device_sysfs_remove(struct iommu_device *iommu)
{
	(void)iommu;
	hvm_ask(HVM_S_SYSFS_REMOVE, 0, 0, HVM_HERE, NULL);
}

/* drivers/iommu/iommu.c: the core probes the bus before this returns */
int hvm_iommu_device_register(struct iommu_device *iommu, const struct iommu_ops *ops)
{
	const struct iommu_ops *before = hvm->ops;
	int ret;

	iommu->ops = ops;
	hvm->ops = ops;
	ret = (int)hvm_ask(HVM_S_REGISTER, 0, 0, HVM_HERE, NULL);
	if (ret)
		hvm->ops = before;
	return ret;
}

void iommu_device_unregister(struct iommu_device *iommu)
{
	(void)iommu;
}
