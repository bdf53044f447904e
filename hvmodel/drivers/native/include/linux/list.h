/* SPDX-License-Identifier: GPL-2.0-only */
/* Stand-in for include/linux/list.h: circular doubly linked lists. */
#ifndef HVM_LINUX_LIST_H
#define HVM_LINUX_LIST_H

#include <linux/kernel.h>

#define LIST_HEAD_INIT(name) { &(name), &(name) }
#define LIST_HEAD(name) struct list_head name = LIST_HEAD_INIT(name)

static inline void INIT_LIST_HEAD(struct list_head *list)
{
	list->next = list->prev = list;
}

static inline void hvm_list_link(struct list_head *item, struct list_head *prev, struct list_head *next)
{
	next->prev = item;
	item->next = next;
	item->prev = prev;
	prev->next = item;
}

static inline void list_add(struct list_head *item, struct list_head *head)
{
	hvm_list_link(item, head, head->next);
}

static inline void list_add_tail(struct list_head *item, struct list_head *head)
{
	hvm_list_link(item, head->prev, head);
}

static inline void list_del(struct list_head *item)
{
	item->next->prev = item->prev;
	item->prev->next = item->next;
	item->next = (struct list_head *)0xdead000000000100ULL;
	item->prev = (struct list_head *)0xdead000000000122ULL;
}

static inline void list_del_init(struct list_head *item)
{
	item->next->prev = item->prev;
	item->prev->next = item->next;
	INIT_LIST_HEAD(item);
}

static inline void list_move_tail(struct list_head *item, struct list_head *head)
{
	item->next->prev = item->prev;
	item->prev->next = item->next;
	list_add_tail(item, head);
}

static inline bool list_empty(const struct list_head *head)
{
	return head->next == head;
}

#define list_entry(ptr, type, member) container_of(ptr, type, member)
#define list_first_entry(head, type, member) list_entry((head)->next, type, member)
#define list_first_entry_or_null(head, type, member) (list_empty(head) ? NULL : list_first_entry(head, type, member))
#define list_next_entry(item, member) list_entry((item)->member.next, __typeof__(*(item)), member)
#define list_for_each_entry(item, head, member)                                                \
	for (item = list_first_entry(head, __typeof__(*item), member); &item->member != (head); \
	     item = list_next_entry(item, member))
#define list_for_each_entry_safe(item, after, head, member)                                             \
	for (item = list_first_entry(head, __typeof__(*item), member), after = list_next_entry(item, member); \
	     &item->member != (head); item = after, after = list_next_entry(after, member))

#endif
