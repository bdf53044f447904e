/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * As much of the kernel as an exported KUnit file and toy.c use, for a program in user space: names and
 * meanings are the kernel's, nothing else is. One CPU, one thread, a skip and a failed assertion leave
 * the test by longjmp(). What is not here, an exported file must not use.
 */
#ifndef KERNEL_H
#define KERNEL_H

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef uint8_t u8;
typedef uint16_t u16;
typedef uint32_t u32;
typedef unsigned long long u64; /* %llu, as in the kernel */
typedef u64 phys_addr_t, dma_addr_t;
typedef unsigned int gfp_t;

#define GFP_KERNEL 1
#define GFP_ATOMIC 0
#define gfpflags_allow_blocking(gfp) ((gfp) & GFP_KERNEL)
#define U32_MAX UINT32_MAX
#define U64_MAX (~0ULL)
#define SZ_4M 0x400000
#define BIT(n) (1UL << (n))
#define BIT_ULL(n) (1ULL << (n))
#define ARRAY_SIZE(a) (sizeof(a) / sizeof(*(a)))
#define DIV_ROUND_UP(n, d) (((n) + (d) - 1) / (d))
#define min(a, b) ((a) < (b) ? (a) : (b))
#define max(a, b) ((a) > (b) ? (a) : (b))
#define min_t(type, a, b) min((type)(a), (type)(b))
#define fallthrough __attribute__((fallthrough))
#define __maybe_unused __attribute__((unused))
#define __printf(a, b) __attribute__((format(printf, a, b)))
#define __init
#define __refdata
#define READ_ONCE(x) (x)
#define IS_ENABLED(option) CONCAT(ENABLED_, option)
#define CONCAT(a, b) a##b
#define ENABLED_CONFIG_FAILSLAB 0
#define ENABLED_CONFIG_KASAN 0
#define container_of(pointer, type, member) ((type *)((char *)(pointer) - offsetof(type, member)))
#define ENOTSUPP 524

static inline void *ERR_PTR(long error) { return (void *)error; }
static inline bool IS_ERR(const void *p) { return (unsigned long)p >= -4095UL; }
static inline bool IS_ERR_OR_NULL(const void *p) { return !p || IS_ERR(p); }
static inline long PTR_ERR_OR_ZERO(const void *p) { return IS_ERR(p) ? (long)p : 0; }

#define kzalloc(size, gfp) calloc(1, size)
#define kfree(p) free(p)
#define kvmalloc(size, gfp) malloc(size)
#define kvfree(p) free(p)
#define vscnprintf vsnprintf

#define TAINT_BAD_PAGE 5
#define test_taint(flag) false

static inline void *memchr_inv(const void *start, int c, size_t n)
{
	const u8 *p = start;

	while (n && *p == (u8)c)
		p++, n--;
	return n ? (void *)p : NULL;
}

static bool irqs_off;
#define irqs_disabled() irqs_off
#define local_irq_enable() (irqs_off = false)
#define local_irq_save(flags) ((flags) = irqs_off, irqs_off = true)
#define local_irq_restore(flags) (irqs_off = (flags))

/* --- xarray: a sorted array ------------------------------------------------------------------ */

struct xa_slot {
	unsigned long index;
	void *entry;
	bool mark;
};

struct xarray {
	struct xa_slot *slots;
	size_t used, room;
};

#define XA_PRESENT 8
#define XA_MARK_0 0

static inline void xa_init(struct xarray *xa) { *xa = (struct xarray) { 0 }; }
static inline bool xa_empty(const struct xarray *xa) { return !xa->used; }
static inline void *xa_mk_value(unsigned long v) { return (void *)(v << 1 | 1); }
static inline unsigned long xa_to_value(const void *entry) { return (unsigned long)entry >> 1; }
static inline int xa_err(const void *entry) { return IS_ERR(entry) ? (long)entry : 0; }

/* The first slot from index on. */
static inline size_t xa_at(struct xarray *xa, unsigned long index)
{
	size_t low = 0, high = xa->used, middle;

	while (low < high) {
		middle = (low + high) / 2;
		if (xa->slots[middle].index < index)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

static inline struct xa_slot *xa_slot(struct xarray *xa, unsigned long index)
{
	size_t at = xa_at(xa, index);

	return at < xa->used && xa->slots[at].index == index ? &xa->slots[at] : NULL;
}

static inline void *xa_find(struct xarray *xa, unsigned long *index, unsigned long last, int filter)
{
	size_t at = xa_at(xa, *index);

	(void)filter;
	if (at == xa->used || xa->slots[at].index > last)
		return NULL;
	*index = xa->slots[at].index;
	return xa->slots[at].entry;
}

static inline void *xa_load(struct xarray *xa, unsigned long index)
{
	struct xa_slot *slot = xa_slot(xa, index);

	return slot ? slot->entry : NULL;
}

static inline void xa_erase(struct xarray *xa, unsigned long index)
{
	struct xa_slot *slot = xa_slot(xa, index);

	if (slot)
		memmove(slot, slot + 1, (char *)(xa->slots + xa->used--) - (char *)(slot + 1));
}

static inline void *xa_store(struct xarray *xa, unsigned long index, void *entry, gfp_t gfp)
{
	size_t at = xa_at(xa, index);

	(void)gfp;
	if (at == xa->used || xa->slots[at].index != index) {
		if (xa->used == xa->room) {
			xa->room = 2 * xa->room + 16;
			xa->slots = realloc(xa->slots, xa->room * sizeof(*xa->slots));
		}
		memmove(xa->slots + at + 1, xa->slots + at, (xa->used++ - at) * sizeof(*xa->slots));
		xa->slots[at] = (struct xa_slot) { .index = index };
	}
	xa->slots[at].entry = entry;
	return NULL;
}

static inline void xa_mark(struct xarray *xa, unsigned long index, bool mark)
{
	struct xa_slot *slot = xa_slot(xa, index);

	if (slot)
		slot->mark = mark;
}

#define xa_set_mark(xa, index, mark) xa_mark(xa, index, true)
#define xa_clear_mark(xa, index, mark) xa_mark(xa, index, false)

static inline bool xa_get_mark(struct xarray *xa, unsigned long index, int mark)
{
	struct xa_slot *slot = xa_slot(xa, index);

	(void)mark;
	return slot && slot->mark;
}

static inline void xa_destroy(struct xarray *xa)
{
	free(xa->slots);
	xa_init(xa);
}

#define xa_for_each_range(xa, i, entry, start, last)                                               \
	for (i = (start); (entry = xa_find(xa, &i, last, XA_PRESENT)); i++)
#define xa_for_each(xa, i, entry) xa_for_each_range(xa, i, entry, 0, ~0UL - 1)

/* --- devices, PCI ---------------------------------------------------------------------------- */

struct mutex {
	int held;
};
#define mutex_init(m) ((m)->held = 0)

struct list_head {
	struct list_head *next;
};
#define LIST_HEAD(name) struct list_head name = { &name }
#define list_del(entry) ((void)(entry))
#define list_for_each_entry_safe(p, n, head, member)                                               \
	for (p = container_of((head)->next, typeof(*p), member),                                   \
	    n = container_of(p->member.next, typeof(*p), member);                                  \
	     &p->member != (head); p = n, n = container_of(n->member.next, typeof(*n), member))

struct bus_type {
	const char *name;
};
static const struct bus_type pci_bus_type = { "pci" };

struct dev_iommu {
	struct mutex lock;
	void *priv;
};

struct device {
	const struct bus_type *bus;
	const char *init_name;
	struct dev_iommu *iommu;
};

#define device_initialize(dev) ((void)(dev))

struct pci_sysdata {
	int domain;
};
struct pci_bus {
	unsigned char number;
	void *sysdata;
};
struct pci_dev {
	struct pci_bus *bus;
	unsigned int devfn;
	struct device dev;
};
#define PCI_DEVFN(slot, func) ((slot) << 3 | (func))

static inline void *dev_iommu_priv_get(struct device *dev) { return dev->iommu->priv; }
static inline void dev_iommu_priv_set(struct device *dev, void *priv) { dev->iommu->priv = priv; }

/* --- IOMMU ----------------------------------------------------------------------------------- */

#define IOMMU_READ 1
#define IOMMU_WRITE 2
#define IOMMU_DOMAIN_UNMANAGED 1

struct iommu_iotlb_gather;
struct iommu_device {
	int dummy;
};
struct iommu_domain_ops;
struct iommu_domain {
	unsigned int type;
	const struct iommu_domain_ops *ops;
	unsigned long pgsize_bitmap;
	struct {
		dma_addr_t aperture_start, aperture_end;
		bool force_aperture;
	} geometry;
};
struct iommu_resv_region {
	struct list_head list;
	phys_addr_t start;
	size_t length;
	void (*free)(struct device *dev, struct iommu_resv_region *region);
};
struct iommu_domain_ops {
	int (*attach_dev)(struct iommu_domain *domain, struct device *dev, struct iommu_domain *old);
	int (*map_pages)(struct iommu_domain *domain, unsigned long iova, phys_addr_t paddr, size_t pgsize,
			 size_t pgcount, int prot, gfp_t gfp, size_t *mapped);
	size_t (*unmap_pages)(struct iommu_domain *domain, unsigned long iova, size_t pgsize, size_t pgcount,
			      struct iommu_iotlb_gather *gather);
	phys_addr_t (*iova_to_phys)(struct iommu_domain *domain, dma_addr_t iova);
	void (*free)(struct iommu_domain *domain);
};
struct iommu_ops {
	struct iommu_domain *(*domain_alloc_identity)(struct device *dev);
	struct iommu_domain *(*domain_alloc_paging)(struct device *dev);
	struct iommu_device *(*probe_device)(struct device *dev);
	void (*release_device)(struct device *dev);
	void (*get_resv_regions)(struct device *dev, struct list_head *list);
	struct iommu_domain *identity_domain, *blocked_domain;
	const struct iommu_domain_ops *default_domain_ops;
};

/* The core's choice of page size: 1 MiB where all is aligned, else 4 KiB up to there. */
static inline size_t iommu_pgsize(u64 iova, u64 paddr, size_t size, size_t *count)
{
	u64 next = 0x100000 - (iova & 0xfffff);

	if (!((iova | paddr) & 0xfffff) && size >= 0x100000) {
		*count = size >> 20;
		return 0x100000;
	}
	if (!((iova ^ paddr) & 0xfffff) && size > next && size - next >= 0x100000)
		size = next;
	*count = size >> 12;
	return 0x1000;
}

static inline size_t iommu_unmap(struct iommu_domain *domain, unsigned long iova, size_t size)
{
	size_t done = 0, count, pgsize, answer;

	while (done < size) {
		pgsize = iommu_pgsize(iova + done, iova + done, size - done, &count);
		answer = domain->ops->unmap_pages(domain, iova + done, pgsize, count, NULL);
		if (!answer)
			break;
		done += answer;
	}
	return done;
}

static inline int iommu_map(struct iommu_domain *domain, unsigned long iova, phys_addr_t paddr, size_t size,
			    int prot, gfp_t gfp)
{
	size_t done = 0, count, pgsize, mapped;
	int ret = 0;

	if ((iova | paddr | size) & 0xfff)
		return -EINVAL;
	while (done < size && !ret) {
		mapped = 0;
		pgsize = iommu_pgsize(iova + done, paddr + done, size - done, &count);
		ret = domain->ops->map_pages(domain, iova + done, paddr + done, pgsize, count, prot, gfp, &mapped);
		done += mapped;
		if (!mapped)
			break;
	}
	if (ret)
		iommu_unmap(domain, iova, done);
	return ret;
}

static inline phys_addr_t iommu_iova_to_phys(struct iommu_domain *domain, dma_addr_t iova)
{
	return domain->ops->iova_to_phys(domain, iova);
}

/* --- KUnit ----------------------------------------------------------------------------------- */

#define KUNIT_SUCCESS 0
#define KUNIT_FAILURE 1
#define KUNIT_SKIPPED 2

struct kunit;
struct kunit_case {
	const char *name;
	void (*run_case)(struct kunit *test);
};
struct kunit_suite {
	const char *name;
	struct kunit_case *test_cases;
	void (*exit)(struct kunit *test);
};
struct kunit {
	int status, try_catch;
};
static jmp_buf kunit_leave;

#define KUNIT_CASE(function) { #function, function }
#define kunit_try_catch_throw(unused) longjmp(kunit_leave, 1)
#define kunit_log(test, ...) (printf("    # " __VA_ARGS__), puts(""))
#define kunit_info(test, ...) kunit_log(test, __VA_ARGS__)
#define KUNIT_FAIL(test, ...) ((test)->status = KUNIT_FAILURE, kunit_log(test, __VA_ARGS__))
#define kunit_skip(test, ...)                                                                      \
	do {                                                                                       \
		(test)->status = KUNIT_SKIPPED;                                                    \
		kunit_log(test, __VA_ARGS__);                                                      \
		kunit_try_catch_throw(0);                                                          \
	} while (0)
#define KUNIT_ASSERT_TRUE(test, condition)                                                         \
	do {                                                                                       \
		if (!(condition)) {                                                                \
			KUNIT_FAIL(test, "%s", #condition);                                        \
			kunit_try_catch_throw(0);                                                  \
		}                                                                                  \
	} while (0)
#define KUNIT_ASSERT_NOT_NULL(test, p) KUNIT_ASSERT_TRUE(test, (p) != NULL)
#define kunit_kzalloc(test, size, gfp) calloc(1, size)
#define kunit_kcalloc(test, n, size, gfp) calloc(n, size)

static inline void kunit_run_case(struct kunit_suite *suite, struct kunit_case *one, int number)
{
	static struct kunit test;

	test = (struct kunit) { 0 };
	if (!setjmp(kunit_leave))
		one->run_case(&test);
	if (suite->exit)
		suite->exit(&test);
	printf("%sok %d %s%s\n", test.status == KUNIT_FAILURE ? "not " : "", number, one->name,
	       test.status == KUNIT_SKIPPED ? " # SKIP" : "");
}

static inline int kunit_run(struct kunit_suite *suite)
{
	int number;

	for (number = 0; suite->test_cases[number].run_case; number++)
		kunit_run_case(suite, &suite->test_cases[number], number + 1);
	return 0;
}
#define kunit_test_suite(suite) int main(void) { return kunit_run(&(suite)); }
#define kunit_test_init_section_suite(suite) kunit_test_suite(suite)

struct obs_kernel_param {
	const char *str;
	int (*setup_func)(char *value);
};
extern const struct obs_kernel_param __setup_start[], __setup_end[];

/* A stub for each of the four functions that are redirected. */
static void *stub_of_hv_do_hypercall, *stub_of_hv_call_deposit_pages, *stub_of_hv_build_devid_oftype,
	*stub_of_hv_iommu_get_curr_partid;
#define kunit_activate_static_stub(test, function, stub) (stub_of_##function = (stub))
#ifndef NO_REDIRECT
#define KUNIT_STATIC_STUB_REDIRECT(function, ...)                                                  \
	do {                                                                                       \
		if (stub_of_##function)                                                            \
			return ((typeof(&function))stub_of_##function)(__VA_ARGS__);               \
	} while (0)
#else
#define KUNIT_STATIC_STUB_REDIRECT(function, ...) ((void)stub_of_##function)
#endif

/* --- Hyper-V --------------------------------------------------------------------------------- */

#define HV_HYP_PAGE_SHIFT 12
#define NUMA_NO_NODE (-1)
#define HV_HYP_PAGE_SIZE 4096UL
#define HV_HYP_PAGE_MASK (~(HV_HYP_PAGE_SIZE - 1))
#define HVCALL_DEPOSIT_MEMORY 0x48
#define HVCALL_ATTACH_DEVICE 0x82
#define HVCALL_DETACH_DEVICE 0x83
#define HVCALL_CREATE_DEVICE_DOMAIN 0xb1
#define HVCALL_ATTACH_DEVICE_DOMAIN 0xb2
#define HVCALL_MAP_DEVICE_GPA_PAGES 0xb3
#define HVCALL_UNMAP_DEVICE_GPA_PAGES 0xb4
#define HVCALL_DETACH_DEVICE_DOMAIN 0xc4
#define HVCALL_DELETE_DEVICE_DOMAIN 0xc5
#define HV_STATUS_SUCCESS 0
#define HV_STATUS_INVALID_HYPERCALL_CODE 2
#define HV_STATUS_INVALID_HYPERCALL_INPUT 3
#define HV_STATUS_INVALID_PARAMETER 5
#define HV_MAP_GPA_READABLE 1
#define HV_MAP_GPA_WRITABLE 2
#define HV_PARTITION_ID_INVALID 0ULL
#define HV_PARTITION_ID_SELF (~0ULL)

enum hv_device_type { HV_DEVICE_TYPE_LOGICAL, HV_DEVICE_TYPE_PCI };
enum hv_partition_type { HV_PARTITION_TYPE_GUEST, HV_PARTITION_TYPE_ROOT, HV_PARTITION_TYPE_L1VH };

static enum hv_partition_type hv_curr_partition_type;
static u64 hv_current_partition_id;
static void **hyperv_pcpu_input_arg;
#define alloc_percpu(type) calloc(1, sizeof(type))
#define free_percpu(p) free(p)
#define for_each_possible_cpu(cpu) for (cpu = 0; cpu < 1; cpu++)
#define per_cpu_ptr(p, cpu) ((void)(cpu), (p))

static inline int hv_result(u64 status) { return status & 0xffff; }
static inline bool hv_result_success(u64 status) { return !hv_result(status); }
static inline unsigned int hv_repcomp(u64 status) { return status >> 32 & 0xfff; }
static inline int hv_result_to_errno(u64 status)
{
	return !hv_result(status) ? 0 : hv_result(status) == 0xb ? -ENOMEM : hv_result(status) == 5 ? -EINVAL : -EIO;
}

static inline u64 hv_do_hypercall(u64 control, void *input, void *output)
{
	KUNIT_STATIC_STUB_REDIRECT(hv_do_hypercall, control, input, output);
	return U64_MAX;
}

static inline u64 hv_do_rep_hypercall(u16 code, u16 reps, u16 varhead, void *input, void *output)
{
	u64 control = code | (u64)varhead << 17 | (u64)reps << 32, status;

	do {
		status = hv_do_hypercall(control, input, output);
		control = (control & ~(0xfffULL << 48)) | (u64)hv_repcomp(status) << 48;
	} while (hv_result_success(status) && hv_repcomp(status) < reps);
	return status;
}

static inline int hv_call_deposit_pages(int node, u64 partition_id, u32 num_pages)
{
	KUNIT_STATIC_STUB_REDIRECT(hv_call_deposit_pages, node, partition_id, num_pages);
	return -ENOMEM;
}

static inline u64 hv_build_devid_oftype(struct pci_dev *pdev, enum hv_device_type type)
{
	KUNIT_STATIC_STUB_REDIRECT(hv_build_devid_oftype, pdev, type);
	return 0;
}

#endif
