/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Between an exported C program and the shim: its hooks (alone.c), and as much of KUnit, the xarray and the IOMMU core as the
 * program's text uses. Names and meanings are the kernel's; one CPU, one thread, and who skips leaves by longjmp().
 */
#ifndef ALONE_H
#define ALONE_H

#define ALONE_HOLDS 0
#define ALONE_FAILS 1
#define ALONE_UNDETERMINED 2
#define ALONE_NOT_TESTED 77

#if defined(__SANITIZE_ADDRESS__)
#define ALONE_WATCHED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define ALONE_WATCHED 1
#endif
#endif
#ifndef ALONE_WATCHED
#define ALONE_WATCHED 0
#endif

struct alone { /* what the shim asks the program */
	u64 (*hypercall)(u64 control, void *input, void *output);
	int (*deposit)(int node, u64 partition_id, u32 num_pages);
	u64 (*partition)(void);
	struct iommu_domain *(*domain_of)(u32 device);
	void (*hears)(const char *rule, const char *detail);
	void (*died)(const char *how, bool memory); /* may return */
};
extern struct alone alone;
extern struct alone_task { /* of struct task_struct */
	unsigned int fail_nth;
} alone_task;

void alone_begin(bool l1vh, bool mshv);
int alone_option(const char *name, const char *value);
size_t alone_size(const void *object);
void **alone_page(void);
const struct iommu_ops *alone_ops(void);
void alone_context(bool probe, bool atomic, gfp_t gfp);
void alone_forget_thread(void);

#ifndef ALONE_RUNTIME
#undef hvm_option
#undef sscanf
#undef snprintf
#undef abort
#undef current
#undef IS_ENABLED
#undef pr_fmt
#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static bool alone_other_pointer; /* the private pointer is not what it was when the trace was recorded */

#define current (&alone_task)
#define ALONE_JOIN(a, b) a##b
#define IS_ENABLED(option) ALONE_JOIN(ALONE_, option)
#define ALONE_CONFIG_FAILSLAB 1
#define ALONE_CONFIG_KASAN ALONE_WATCHED
#ifndef SZ_4M
#define SZ_4M 0x00400000
#endif
#define vscnprintf vsnprintf
#define kvmalloc(size, gfp) kmalloc(size, gfp)
#define alloc_percpu(type) alone_page()
#define free_percpu(p) ((void)(p))
#define for_each_possible_cpu(cpu) for (cpu = 0; cpu < 1; cpu++)
#define per_cpu_ptr(p, cpu) ((void)(cpu), (p))
#define TAINT_BAD_PAGE 5
#define test_taint(flag) false

enum hv_partition_type { HV_PARTITION_TYPE_GUEST, HV_PARTITION_TYPE_ROOT, HV_PARTITION_TYPE_L1VH };
static enum hv_partition_type hv_curr_partition_type;
struct pci_sysdata {
	int domain;
};
struct dev_iommu {
	void *priv;
};

static inline void *memchr_inv(const void *start, int c, size_t n)
{
	const u8 *p = start;

	while (n && *p == (u8)c)
		p++, n--;
	return n ? (void *)p : NULL;
}

/* --- xarray: a sorted array ------------------------------------------------------------------------------------------------ */

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
#define xa_init(xa) (*(xa) = (struct xarray){ NULL, 0, 0 })
#define xa_empty(xa) (!(xa)->used)
#define xa_mk_value(v) ((void *)((unsigned long)(v) << 1 | 1))
#define xa_to_value(entry) ((unsigned long)(entry) >> 1)
#define xa_err(entry) (IS_ERR(entry) ? (int)PTR_ERR(entry) : 0)

/* Where the first slot from index on is. */
static inline size_t alone_slot(const struct xarray *xa, unsigned long index)
{
	size_t low = 0, high = xa->used;

	while (low < high) {
		size_t middle = (low + high) / 2;

		if (xa->slots[middle].index < index)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

static inline struct xa_slot *alone_found(const struct xarray *xa, unsigned long index)
{
	size_t at = alone_slot(xa, index);

	return at < xa->used && xa->slots[at].index == index ? &xa->slots[at] : NULL;
}

static inline void *xa_find(struct xarray *xa, unsigned long *index, unsigned long last, int filter)
{
	size_t at = alone_slot(xa, *index);

	(void)filter;
	if (at == xa->used || xa->slots[at].index > last)
		return NULL;
	*index = xa->slots[at].index;
	return xa->slots[at].entry;
}

static inline void *xa_load(struct xarray *xa, unsigned long index)
{
	struct xa_slot *slot = alone_found(xa, index);

	return slot ? slot->entry : NULL;
}

static inline void *xa_erase(struct xarray *xa, unsigned long index)
{
	size_t at = alone_slot(xa, index);
	void *entry = xa_load(xa, index);

	if (entry)
		memmove(xa->slots + at, xa->slots + at + 1, (--xa->used - at) * sizeof(*xa->slots));
	return entry;
}

static inline void *xa_store(struct xarray *xa, unsigned long index, void *entry, gfp_t gfp)
{
	size_t at = alone_slot(xa, index);

	(void)gfp;
	if (at == xa->used || xa->slots[at].index != index) {
		if (xa->used == xa->room) {
			size_t room = 2 * xa->room + 16;
			struct xa_slot *more = realloc(xa->slots, room * sizeof(*more));

			if (!more)
				return ERR_PTR(-ENOMEM);
			xa->slots = more;
			xa->room = room;
		}
		memmove(xa->slots + at + 1, xa->slots + at, (xa->used++ - at) * sizeof(*xa->slots));
		xa->slots[at] = (struct xa_slot){ index, NULL, false };
	}
	xa->slots[at].entry = entry;
	return NULL;
}

static inline void alone_mark(struct xarray *xa, unsigned long index, bool mark)
{
	struct xa_slot *slot = alone_found(xa, index);

	if (slot)
		slot->mark = mark;
}

#define xa_set_mark(xa, index, mark) alone_mark(xa, index, true)
#define xa_clear_mark(xa, index, mark) alone_mark(xa, index, false)

static inline bool xa_get_mark(struct xarray *xa, unsigned long index, int mark)
{
	struct xa_slot *slot = alone_found(xa, index);

	(void)mark;
	return slot && slot->mark;
}

static inline void xa_destroy(struct xarray *xa)
{
	free(xa->slots);
	xa_init(xa);
}

#define xa_for_each_range(xa, i, entry, start, last) for (i = (start); (entry = xa_find(xa, &i, last, XA_PRESENT)); i++)
#define xa_for_each(xa, i, entry) xa_for_each_range(xa, i, entry, 0, ~0UL - 1)

/* --- drivers/iommu/iommu.c --------------------------------------------------------------------------------------------------- */

static inline unsigned long alone_sizes(const struct iommu_domain *domain)
{
	return domain->pgsize_bitmap ? domain->pgsize_bitmap : alone_ops()->pgsize_bitmap;
}

/* iommu_pgsize(): the largest page that fits, and how many until the next size does or the end. */
static inline size_t alone_pgsize(unsigned long sizes, u64 iova, u64 paddr, size_t size, size_t *count)
{
	u64 both = iova | paddr, next, to_next;
	unsigned long fit = sizes;
	int index;

	while (fit && (1UL << __fls(fit) > size || (both & ((1UL << __fls(fit)) - 1))))
		fit &= ~(1UL << __fls(fit));
	if (!fit)
		return 0;
	index = __fls(fit);
	sizes &= index == 63 ? 0 : ~0UL << (index + 1);
	if (sizes) {
		next = 1ULL << __ffs(sizes);
		to_next = next - (both & (next - 1));
		if (!((iova ^ paddr) & (next - 1)) && to_next + next <= size)
			size = to_next;
	}
	*count = size >> index;
	return 1UL << index;
}

static inline size_t iommu_unmap(struct iommu_domain *domain, unsigned long iova, size_t size)
{
	unsigned long sizes = alone_sizes(domain);
	size_t done = 0, count, pgsize, answer;

	if (!sizes || ((iova | size) & ((1UL << __ffs(sizes)) - 1)))
		return 0;
	while (done < size) {
		pgsize = alone_pgsize(sizes, iova + done, iova + done, size - done, &count);
		answer = domain->ops->unmap_pages(domain, iova + done, pgsize, count, NULL);
		if (!answer)
			break;
		done += answer;
	}
	return done;
}

static inline int iommu_map(struct iommu_domain *domain, unsigned long iova, phys_addr_t paddr, size_t size, int prot, gfp_t gfp)
{
	unsigned long sizes = alone_sizes(domain);
	size_t left = size, count, pgsize, mapped;
	unsigned long at = iova;
	int ret = 0;

	if (!sizes)
		return -ENODEV;
	if ((iova | paddr | size) & ((1UL << __ffs(sizes)) - 1))
		return -EINVAL;
	while (left) {
		mapped = 0;
		pgsize = alone_pgsize(sizes, at, paddr, left, &count);
		ret = domain->ops->map_pages(domain, at, paddr, pgsize, count, prot, gfp, &mapped);
		left -= mapped; /* some pages may have been mapped even if an error occurred */
		if (ret)
			break;
		at += mapped;
		paddr += mapped;
	}
	if (ret)
		iommu_unmap(domain, iova, size - left);
	return ret;
}

static inline phys_addr_t iommu_iova_to_phys(struct iommu_domain *domain, dma_addr_t iova)
{
	return domain->ops->iova_to_phys(domain, iova);
}

/* --- KUnit ------------------------------------------------------------------------------------------------------------------- */

enum kunit_status { KUNIT_SUCCESS, KUNIT_FAILURE, KUNIT_SKIPPED };
struct kunit {
	enum kunit_status status;
	int try_catch;
	char why[256];
};
static jmp_buf alone_leave;

#define kunit_try_catch_throw(unused) longjmp(alone_leave, 1)
#define kunit_info(test, fmt, ...) printf("# " fmt "\n", ##__VA_ARGS__)
#define alone_ends(test, end, fmt, ...)                                               \
	do {                                                                          \
		(test)->status = end;                                                 \
		snprintf((test)->why, sizeof((test)->why), fmt, ##__VA_ARGS__);       \
	} while (0)
#define KUNIT_FAIL(test, fmt, ...) alone_ends(test, KUNIT_FAILURE, fmt, ##__VA_ARGS__)
#define kunit_skip(test, fmt, ...)                                                    \
	do {                                                                          \
		alone_ends(test, KUNIT_SKIPPED, fmt, ##__VA_ARGS__);                  \
		kunit_try_catch_throw(0);                                             \
	} while (0)
#define KUNIT_ASSERT_TRUE(test, condition)                                            \
	do {                                                                          \
		if (!(condition))                                                     \
			kunit_skip(test, "out of memory: %s", #condition);            \
	} while (0)
#define KUNIT_ASSERT_NOT_NULL(test, p) KUNIT_ASSERT_TRUE(test, (p) != NULL)
#define kunit_kzalloc(test, size, gfp) calloc(1, size)
#define kunit_kcalloc(test, n, size, gfp) calloc(n, size)

#endif
#endif
