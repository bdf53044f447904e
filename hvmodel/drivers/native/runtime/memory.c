// SPDX-License-Identifier: GPL-2.0-only
/*
 * Memory: the arena with its shadow, and every access of the driver file.
 *
 * The driver is compiled with -fsanitize=thread, which calls a __tsan_ function before each access, as the kernel's KCSAN has it
 * (kernel/kcsan/core.c). An address is its stack, its image, the hypercall page, an object, or wrong. A freed object keeps its bytes
 * and is never given out again in the same world. Nothing here is instrumented.
 */
#include "hvm.h"
#undef memset
#undef memcpy
#undef memmove
#undef memcmp
#include <string.h>

struct hvm_object *hvm_object_of(const void *address)
{
	u64 at = (u64)address - (u64)hvm_image->arena;

	if (at >= hvm->used || !hvm_image->shadow[at / HVM_GRAIN])
		return NULL;
	for (at /= HVM_GRAIN; at && hvm_image->shadow[at - 1]; at--)
		;
	return (struct hvm_object *)(hvm_image->arena + at * HVM_GRAIN) - 1;
}

void *hvm_allocate(size_t size, u32 owner, u64 where)
{
	size_t grains = (size + HVM_GRAIN - 1) / HVM_GRAIN, first;
	struct hvm_object *object;

	/* a grain of nobody's between any two objects; the header in front is nobody's, too */
	if (size > HVM_ARENA / 2 || hvm->used + sizeof(*object) + (grains + 2) * HVM_GRAIN > HVM_ARENA)
		return NULL;
	object = (struct hvm_object *)(hvm_image->arena + hvm->used);
	*object = (struct hvm_object){ size, owner, ++hvm->serial, where, 0 };
	first = (hvm->used + sizeof(*object)) / HVM_GRAIN;
	if (grains)
		memset(hvm_image->shadow + first, HVM_LIVE | HVM_GRAIN, grains);
	if (size % HVM_GRAIN)
		hvm_image->shadow[first + grains - 1] = HVM_LIVE | size % HVM_GRAIN;
	memset(object + 1, 0, (grains + 2) * HVM_GRAIN);
	hvm->used += sizeof(*object) + (grains + 2) * HVM_GRAIN;
	hvm->live++;
	return object + 1;
}

void hvm_free_now(void *pointer, u64 where)
{
	struct hvm_object *object = hvm_object_of(pointer);
	size_t first, grains, i;

	if (!object || (void *)(object + 1) != pointer) {
		hvm_report(where, "out-of-bounds", "kfree of an address that no allocation gave");
		return;
	}
	if (object->freed) {
		hvm_report(where, "use-after-free", "second kfree of the object of %llu bytes allocated @%llx and freed @%llx", object->size,
			   object->allocated, object->freed);
		return;
	}
	object->freed = where;
	hvm->live--;
	first = ((char *)pointer - hvm_image->arena) / HVM_GRAIN;
	grains = (object->size + HVM_GRAIN - 1) / HVM_GRAIN;
	for (i = first; i < first + grains; i++)
		hvm_image->shadow[i] = (hvm_image->shadow[i] & HVM_BYTES) | HVM_FREED;
}

void *hvm_kmalloc(size_t size, gfp_t gfp, bool zeroed)
{
	u64 where = HVM_HERE;
	bool sleeps = gfpflags_allow_blocking(gfp);
	u32 allowed = hvm->context & (HVM_C_GFP_KERNEL | HVM_C_GFP_ATOMIC);
	void *object;

	if (sleeps)
		hvm_might_sleep("kzalloc(GFP_KERNEL)");
	if (allowed && (sleeps != (allowed == HVM_C_GFP_KERNEL)))
		hvm_report(where, "gfp", "kzalloc with %s inside a map whose caller passed %s", sleeps ? "GFP_KERNEL" : "GFP_ATOMIC",
			   sleeps ? "GFP_ATOMIC" : "GFP_KERNEL");
	if ((hvm->context & HVM_C_FAULTS) || hvm_image->replaying) {
		if (hvm_ask(HVM_S_ALLOC, size, 0, where, NULL))
			return NULL;
	} else {
		hvm_image->allocs++;
		hvm_note(HVM_S_ALLOC, size, 0, 0, NULL, where);
	}
	object = hvm_allocate(size, hvm->owner, where);
	if (object && !zeroed && !(gfp & __GFP_ZERO))
		memset(object, hvm_image->replaying ? 0 : 0xa5, size); /* memory that was never set, too */
	return object;
}

void hvm_kfree(const void *object)
{
	if (object && !IS_ERR_VALUE(object))
		hvm_free_now((void *)object, HVM_HERE);
}

/* --- accesses ------------------------------------------------------------------------------------------------------------ */

static void hvm_bad_object(u64 at, size_t size, bool write, u64 where)
{
	const char *verb = write ? "write" : "read";
	struct hvm_object *object;
	u64 back;

	for (back = at; back + 64 > at && back / HVM_GRAIN; back -= HVM_GRAIN) { /* the object in front of it */
		object = hvm_object_of(hvm_image->arena + back);
		if (!object)
			continue;
		if (object->freed && back == at)
			hvm_report(where, "use-after-free", "%s of %zu byte(s) at %llu in the object of %llu bytes allocated @%llx and freed @%llx",
				   verb, size, at - (u64)((char *)(object + 1) - hvm_image->arena), object->size, object->allocated,
				   object->freed);
		else
			hvm_report(where, "out-of-bounds", "%s of %zu byte(s) at %llu of the object of %llu bytes allocated @%llx", verb, size,
				   at - (u64)((char *)(object + 1) - hvm_image->arena), object->size, object->allocated);
		return;
	}
	hvm_report(where, "out-of-bounds", "%s of %zu byte(s) between objects", verb, size);
}

static void hvm_check_slowly(const void *address, size_t size, bool write, u64 where)
{
	char *low;
	u64 at;

	if (!hvm_image->entry)
		return;
	at = (u64)address - (u64)hvm_image->arena;
	if (at < HVM_ARENA) {
		u64 end = at + size, grain = at / HVM_GRAIN;

		for (; grain * HVM_GRAIN < end; grain++) {
			u8 state = hvm_image->shadow[grain];
			u64 last = end < (grain + 1) * HVM_GRAIN ? end - grain * HVM_GRAIN : HVM_GRAIN;

			if (!(state & HVM_LIVE) || last > (state & HVM_BYTES)) {
				hvm_bad_object(at, size, write, where);
				if (at > hvm->used + PAGE_SIZE)
					hvm_crash(HVM_WILD, (u64)address, where);
				return;
			}
		}
		return;
	}
	at = (u64)address - (u64)hvm_image->input;
	if (at < HVM_GUARD + PAGE_SIZE) {
		if (at + size > PAGE_SIZE) {
			hvm_image->overran = where;
			hvm_report(where, "input-page-overrun", "%zu bytes %s past the hypercall input page", size, write ? "written" : "read");
			if (at + size > HVM_GUARD)
				hvm_crash(HVM_WILD, (u64)address, where);
		}
		return;
	}
	low = __builtin_frame_address(0);
	if ((char *)address >= low && (char *)address < hvm_image->stack)
		return;
	if ((char *)address >= hvm_image->low && (char *)address + size <= hvm_image->high)
		return;
	if ((char *)address >= (char *)hvm && (char *)address + size <= (char *)(hvm + 1))
		return;
	at = (u64)address - (u64)hvm->output;
	if (at < PAGE_SIZE) {
		if (at + size > PAGE_SIZE)
			hvm_report(where, "out-of-bounds", "%zu bytes past the hypercall output page", size);
		return;
	}
	hvm_crash((u64)address < PAGE_SIZE ? HVM_NULL : HVM_WILD, (u64)address | (u64)write << 63, where);
}

/* What nearly every access is: the page, a local, the inside of one live grain. */
static inline __attribute__((always_inline)) void hvm_see(const void *address, size_t size, bool write, u64 where)
{
	struct hvm_image *image = hvm_image;
	u64 at = (u64)address - (u64)image->input;
	u8 state;

	if (at <= PAGE_SIZE - size || (at < HVM_GUARD && where == image->overran)) /* a list that has left it goes on and on */
		return;
	at = (u64)image->stack - (u64)address;
	if (at < 4096 && at >= size)
		return;
	at = (u64)address - (u64)image->arena;
	if (at < HVM_ARENA) {
		state = image->shadow[at / HVM_GRAIN];
		if ((state & HVM_LIVE) && at % HVM_GRAIN + size <= (state & HVM_BYTES))
			return;
	}
	hvm_check_slowly(address, size, write, where);
}

void hvm_check(const void *address, size_t size, bool write, u64 where)
{
	hvm_see(address, size, write, where);
}

#define hvm_access(n)                                     \
	void __tsan_read##n(void *a)                      \
	{                                                 \
		hvm_see(a, n, false, HVM_HERE);         \
	}                                                 \
	void __tsan_write##n(void *a)                     \
	{                                                 \
		hvm_see(a, n, true, HVM_HERE);          \
	}                                                 \
	void __tsan_unaligned_read##n(void *a)            \
	{                                                 \
		hvm_see(a, n, false, HVM_HERE);         \
	}                                                 \
	void __tsan_unaligned_write##n(void *a)           \
	{                                                 \
		hvm_see(a, n, true, HVM_HERE);          \
	}                                                 \
	void __tsan_read_write##n(void *a)                \
	{                                                 \
		hvm_see(a, n, true, HVM_HERE);          \
	}                                                 \
	void __tsan_unaligned_read_write##n(void *a)      \
	{                                                 \
		hvm_see(a, n, true, HVM_HERE);          \
	}                                                 \
	void __tsan_volatile_read##n(void *a)             \
	{                                                 \
		hvm_see(a, n, false, HVM_HERE);         \
	}                                                 \
	void __tsan_volatile_write##n(void *a)            \
	{                                                 \
		hvm_see(a, n, true, HVM_HERE);          \
	}
hvm_access(1) hvm_access(2) hvm_access(4) hvm_access(8) hvm_access(16)

void __tsan_read_range(void *a, size_t size)
{
	hvm_check(a, size, false, HVM_HERE);
}

void __tsan_write_range(void *a, size_t size)
{
	hvm_check(a, size, true, HVM_HERE);
}

void __tsan_init(void)
{
}

void __tsan_func_entry(void *from)
{
	(void)from;
}

void __tsan_func_exit(void)
{
}

void __tsan_vptr_read(void **at)
{
	(void)at;
}

void __tsan_vptr_update(void **at, void *value)
{
	(void)at, (void)value;
}

static void *hvm_set(void *to, int value, size_t size, u64 where)
{
	if (size)
		hvm_check(to, size, true, where);
	return memset(to, value, size);
}

static void *hvm_copy(void *to, const void *from, size_t size, u64 where)
{
	if (size) {
		hvm_check(from, size, false, where);
		hvm_check(to, size, true, where);
	}
	return memmove(to, from, size);
}

void *hvm_memset(void *to, int value, size_t size)
{
	return hvm_set(to, value, size, HVM_HERE);
}

void *hvm_memcpy(void *to, const void *from, size_t size)
{
	return hvm_copy(to, from, size, HVM_HERE);
}

void *hvm_memmove(void *to, const void *from, size_t size)
{
	return hvm_copy(to, from, size, HVM_HERE);
}

int hvm_memcmp(const void *a, const void *b, size_t size)
{
	hvm_check(a, size, false, HVM_HERE);
	hvm_check(b, size, false, HVM_HERE);
	return memcmp(a, b, size);
}

void *__tsan_memset(void *to, int value, size_t size)
{
	return hvm_set(to, value, size, HVM_HERE);
}

void *__tsan_memcpy(void *to, const void *from, size_t size)
{
	return hvm_copy(to, from, size, HVM_HERE);
}

void *__tsan_memmove(void *to, const void *from, size_t size)
{
	return hvm_copy(to, from, size, HVM_HERE);
}

/* --- edges: coverage, and the budget that ends a call which does not end ----------------------------------------------------- */

void __sanitizer_cov_trace_pc(void)
{
	struct hvm_image *image = hvm_image;
	u64 where = HVM_HERE;

	if (!image) /* constructors */
		return;
	image->coverage[where - (u64)image->low] = 1;
	if (__builtin_expect(++image->edges > image->shared.budget, 0) && image->entry)
		hvm_crash(HVM_ENDLESS, 0, where);
}
