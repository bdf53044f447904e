// SPDX-License-Identifier: GPL-2.0-only
/*
 * Two images of one file run side by side: in one every local is born as a pattern, in the other as zeros
 * (-ftrivial-auto-var-init). The first one asks the world and writes down what it asked and what was answered; the second one is
 * answered from that, and where it asks anything else, a value that was never set has decided something. What instrumentation of
 * accesses cannot show, because a local that is never stored to is never loaded either, shows here.
 */
#include "hvm.h"
#undef memcpy
#include <string.h>

static u64 hvm_hash(const void *bytes, u64 size)
{
	const u8 *at = bytes;
	u64 hash = size, word;

	for (; size >= 8; at += 8, size -= 8) {
		memcpy(&word, at, 8);
		hash = (hash ^ word) * 0x9e3779b97f4a7c15ULL;
		hash ^= hash >> 32;
	}
	for (; size; at++, size--)
		hash = (hash ^ *at) * 0x9e3779b97f4a7c15ULL;
	return hash;
}

/* What a hypercall can read of its page: the header and as many list entries as it has reps. */
u64 hvm_hash_page(const void *page, u64 control)
{
	u64 size = 64 + 8 * (control >> HV_HYPERCALL_REP_COMP_OFFSET & 0xfff);

	return page ? hvm_hash(page, size < PAGE_SIZE ? size : PAGE_SIZE) : 0;
}

u64 hvm_hash_text(const char *text)
{
	return text ? hvm_hash(text, strlen(text)) : 0;
}

/* The first image: one question with its answer, and the page that came back with it. */
void hvm_note(u64 kind, u64 a, u64 hash, u64 answer, const void *page, u64 where)
{
	struct hvm_record *record = hvm_image->record;

	if (!hvm_image->recording)
		return;
	if (record->rows == HVM_ROWS || (page && record->npages == HVM_PAGES)) {
		record->full = 1;
		return;
	}
	record->row[record->rows++] = (struct hvm_row){ kind, a, hash, answer, where };
	if (page)
		memcpy(record->pages[record->npages++], page, PAGE_SIZE);
}

/* The second image: the answer to the same question, or the end of the comparison. `page` is where what came back goes. */
u64 hvm_replay(u64 kind, u64 a, u64 hash, void *page, u64 where)
{
	struct hvm_image *image = hvm_image;
	struct hvm_record *record = image->record;
	struct hvm_row *row = &record->row[image->replayed];

	if (image->free_run)
		return 0;
	if (image->replayed == record->rows || row->kind != kind || row->a != a || row->hash != hash) {
		image->shared.crash_where = where;
		siglongjmp(*image->entry, HVM_UNWOUND);
	}
	image->replayed++;
	if (page)
		memcpy(page, record->pages[image->replayed_pages++], PAGE_SIZE);
	return row->answer;
}

/* The same thing's address in the second image; what is no address stays. */
u64 hvm_there(u64 address)
{
	struct hvm_image *image = hvm_image;
	u32 i;

	for (i = 0; i < image->nranges; i++)
		if (address - image->range[i].from < image->range[i].size)
			return image->range[i].to + (address - image->range[i].from);
	return address;
}

/* Do a call again in the second image. Whether it parts; then that was the last call there. */
bool hvm_parts(u64 op, u64 call, u64 a, u64 b, u64 c, u64 d, u64 e, u64 f, u64 value)
{
	struct hvm_image *image = hvm_image;
	u64 (*second)(u64, u64, u64, u64, u64, u64, u64, u64) = image->second;
	u64 mine, left;

	if (image->record->full) {
		image->second = NULL;
		return false;
	}
	if (op == OP_ATTACH)
		b = hvm_there(b), c = hvm_there(c);
	mine = second(op, call, hvm_there(a), b, c, d, e, f);
	left = image->second_left(0);
	if (image->second_shared->ended & 0xff || left) {
		image->shared.parted = left ? left : image->second_shared->crash_where;
	} else {
		if (mine == hvm_there(value) && image->second_shared->mapped == image->shared.mapped)
			return false;
		image->shared.parted = 0;
	}
	image->second = NULL;
	return true;
}

/* This image is a second one from now on. */
u64 hvm_follow(struct hvm_record *record)
{
	hvm_image->replaying = true;
	hvm_image->record = record;
	return (u64)hvm_call;
}

/* This image is a first one in this world (or none: `second` is 0). */
u64 hvm_lead(u64 second, struct hvm_shared *shared, u64 left)
{
	hvm_image->second = (u64 (*)(u64, u64, u64, u64, u64, u64, u64, u64))second;
	hvm_image->second_shared = shared;
	hvm_image->second_left = (u64 (*)(u64))left;
	hvm_image->recording = second != 0;
	return 0;
}

void hvm_lies(u64 from, u64 size, u64 to)
{
	if (hvm_image->nranges < 64)
		hvm_image->range[hvm_image->nranges++] = (struct hvm_range){ from, size, to };
}

/* Where the first image asked what this one has not asked. */
u64 hvm_left(u64 unused)
{
	struct hvm_record *record = hvm_image->record;

	(void)unused;
	return !hvm_image->free_run && hvm_image->replayed < record->rows ? record->row[hvm_image->replayed].where : 0;
}

struct hvm_record *hvm_record_of(void)
{
	return hvm_image->record;
}
