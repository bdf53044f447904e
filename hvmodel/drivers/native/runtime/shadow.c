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

u64 hvm_hash_page(const void *page)
{
	return page ? hvm_hash(page, PAGE_SIZE) : 0;
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

/* `role`: 0 alone, 1 first, 2 second; `record` is the first one's. */
void hvm_pair(u64 role, struct hvm_record *record)
{
	hvm_image->recording = role == 1;
	hvm_image->replaying = role == 2;
	if (role == 2)
		hvm_image->record = record;
}

struct hvm_record *hvm_record_of(void)
{
	return hvm_image->record;
}

u64 hvm_record_state(u64 what)
{
	struct hvm_record *record = hvm_image->record;

	if (what == 2) /* where the first one asked what the second one did not */
		return hvm_image->replayed < record->rows ? record->row[hvm_image->replayed].where : 0;
	return what == 0 ? record->full : record->rows - hvm_image->replayed;
}
