// SPDX-License-Identifier: GPL-2.0-only
/*
 * The interval tree of lib/interval_tree.c (include/linux/interval_tree_generic.h), with its exact answers: nodes in order of start, equal
 * starts in order of insertion, searches that follow __subtree_last. Only the balancing is another one: a treap whose priorities come
 * from the nodes' places in the arena. Built with HVM_KERNEL_TREE the kernel's own files do the work.
 *
 * struct rb_node is used as parent, right, left.
 */
#include "hvm.h"

#if HVM_KERNEL_TREE
#undef interval_tree_insert
#undef interval_tree_remove
#undef interval_tree_iter_first
#undef interval_tree_iter_next
void interval_tree_insert(struct interval_tree_node *node, struct rb_root_cached *root);
void interval_tree_remove(struct interval_tree_node *node, struct rb_root_cached *root);
struct interval_tree_node *interval_tree_iter_first(struct rb_root_cached *root, unsigned long start, unsigned long last);
struct interval_tree_node *interval_tree_iter_next(struct interval_tree_node *node, unsigned long start, unsigned long last);
#define tree_insert interval_tree_insert
#define tree_remove interval_tree_remove
#define tree_iter_first interval_tree_iter_first
#define tree_iter_next interval_tree_iter_next
#else

typedef struct interval_tree_node node_t;

#define parent_of(n) (*(node_t **)&(n)->rb.__rb_parent_color)
#define left_of(n) (*(node_t **)&(n)->rb.rb_left)
#define right_of(n) (*(node_t **)&(n)->rb.rb_right)
#define top_of(root) (*(node_t **)&(root)->rb_root.rb_node)

static u64 priority(const node_t *n)
{
	u64 x = ((u64)n - (u64)hvm_image->arena) * 0x9e3779b97f4a7c15ULL;

	return (x ^ x >> 29) * 0xbf58476d1ce4e5b9ULL;
}

/* A node that the driver has freed is no longer its to keep in a tree. */
static node_t *seen(node_t *n)
{
	if (n) {
		hvm_check(n, sizeof(*n), false, 0);
		if (hvm_image->entry && ++hvm_image->edges > hvm_image->shared.budget) /* a tree that was broken into a ring */
			hvm_crash(HVM_ENDLESS, 0, 0);
	}
	return n;
}

static void update(node_t *n)
{
	unsigned long last = n->last;

	if (left_of(n) && left_of(n)->__subtree_last > last)
		last = left_of(n)->__subtree_last;
	if (right_of(n) && right_of(n)->__subtree_last > last)
		last = right_of(n)->__subtree_last;
	n->__subtree_last = last;
}

static void put_in_place_of(node_t *n, node_t *old, struct rb_root_cached *root)
{
	node_t *parent = parent_of(old);

	if (!parent)
		top_of(root) = n;
	else if (left_of(parent) == old)
		left_of(parent) = n;
	else
		right_of(parent) = n;
	if (n)
		parent_of(n) = parent;
}

/* `n` moves above its parent. */
static void rotate(node_t *n, struct rb_root_cached *root)
{
	node_t *parent = parent_of(n), *inner;

	put_in_place_of(n, parent, root);
	if (left_of(parent) == n) {
		inner = right_of(n);
		left_of(parent) = inner;
		right_of(n) = parent;
	} else {
		inner = left_of(n);
		right_of(parent) = inner;
		left_of(n) = parent;
	}
	if (inner)
		parent_of(inner) = parent;
	parent_of(parent) = n;
	update(parent);
	update(n);
}

static node_t *leftmost(node_t *n)
{
	while (n && seen(left_of(n)))
		n = left_of(n);
	return n;
}

static void tree_insert(node_t *n, struct rb_root_cached *root)
{
	node_t *parent = NULL, **link = &top_of(root);

	left_of(n) = right_of(n) = NULL;
	while (seen(*link)) {
		parent = *link;
		if (parent->__subtree_last < n->last)
			parent->__subtree_last = n->last;
		link = n->start < parent->start ? &left_of(parent) : &right_of(parent);
	}
	parent_of(n) = parent;
	n->__subtree_last = n->last;
	*link = n;
	while (parent_of(n) && priority(parent_of(n)) < priority(n))
		rotate(n, root);
	root->rb_leftmost = &leftmost(top_of(root))->rb;
}

static void tree_remove(node_t *n, struct rb_root_cached *root)
{
	node_t *up;

	seen(n);
	while (seen(left_of(n)) && seen(right_of(n)))
		rotate(priority(left_of(n)) > priority(right_of(n)) ? left_of(n) : right_of(n), root);
	up = parent_of(n);
	put_in_place_of(left_of(n) ? left_of(n) : right_of(n), n, root);
	for (; up; up = parent_of(up))
		update(up);
	up = leftmost(top_of(root));
	root->rb_leftmost = up ? &up->rb : NULL;
}

/* interval_tree_generic.h: ITPREFIX_subtree_search */
static node_t *search(node_t *n, unsigned long start, unsigned long last)
{
	for (;;) {
		if (seen(left_of(n)) && start <= left_of(n)->__subtree_last) {
			n = left_of(n);
			continue;
		}
		if (n->start <= last) {
			if (start <= n->last)
				return n;
			if (seen(right_of(n)) && start <= right_of(n)->__subtree_last) {
				n = right_of(n);
				continue;
			}
		}
		return NULL;
	}
}

static node_t *tree_iter_first(struct rb_root_cached *root, unsigned long start, unsigned long last)
{
	node_t *top = seen(top_of(root));

	if (!top || top->__subtree_last < start || seen(container_of(root->rb_leftmost, node_t, rb))->start > last)
		return NULL;
	return search(top, start, last);
}

static node_t *tree_iter_next(node_t *n, unsigned long start, unsigned long last)
{
	node_t *right = seen(right_of(seen(n))), *child;

	for (;;) {
		if (right && start <= right->__subtree_last)
			return search(right, start, last);
		do {
			child = n;
			n = seen(parent_of(n));
			if (!n)
				return NULL;
		} while (right_of(n) == child);
		right = right_of(n);
		if (last < n->start)
			return NULL;
		if (start <= n->last)
			return n;
	}
}
#endif

void hvm_tree_insert(struct interval_tree_node *node, struct rb_root_cached *root)
{
	hvm_check(root, sizeof(*root), true, HVM_HERE);
	hvm_check(node, sizeof(*node), true, HVM_HERE);
	tree_insert(node, root);
	hvm_changed(root, node);
}

void hvm_tree_remove(struct interval_tree_node *node, struct rb_root_cached *root)
{
	hvm_check(root, sizeof(*root), true, HVM_HERE);
	hvm_check(node, sizeof(*node), true, HVM_HERE);
	tree_remove(node, root);
	hvm_changed(root, node);
}

struct interval_tree_node *hvm_tree_iter_first(struct rb_root_cached *root, unsigned long start, unsigned long last)
{
	hvm_check(root, sizeof(*root), false, HVM_HERE);
	return tree_iter_first(root, start, last);
}

struct interval_tree_node *hvm_tree_iter_next(struct interval_tree_node *node, unsigned long start, unsigned long last)
{
	hvm_check(node, sizeof(*node), false, HVM_HERE);
	return tree_iter_next(node, start, last);
}

/* For the view: nodes from the one that `after` names (0: the first) that meet [start, last], as (start, last, address, the number at `more`
 * from there), at most `room`. */
u64 hvm_tree_list(struct rb_root_cached *root, u64 start, u64 last, struct interval_tree_node *after, u64 more, u64 room, u64 (*out)[4])
{
	struct interval_tree_node *node = after ? tree_iter_next(after, start, last) : tree_iter_first(root, start, last);
	u64 count = 0;

	for (; node && count < room; node = tree_iter_next(node, start, last), count++) {
		out[count][0] = node->start;
		out[count][1] = node->last;
		out[count][2] = (u64)node;
		out[count][3] = *(u64 *)((char *)node + (s64)more);
	}
	return count;
}

/* All nodes in order, also those that no search finds. */
u64 hvm_tree_all(struct rb_root_cached *root, u64 room, u64 (*out)[3])
{
	struct rb_node *stack[128], *at = root->rb_root.rb_node;
	u64 count = 0;
	int depth = 0;

	while ((at || depth) && count < room) {
		if (at && depth < 128) {
			stack[depth++] = at;
			at = at->rb_left;
			continue;
		}
		at = stack[--depth];
		out[count][0] = container_of(at, struct interval_tree_node, rb)->start;
		out[count][1] = container_of(at, struct interval_tree_node, rb)->last;
		out[count++][2] = (u64)container_of(at, struct interval_tree_node, rb);
		at = at->rb_right;
	}
	return count;
}
