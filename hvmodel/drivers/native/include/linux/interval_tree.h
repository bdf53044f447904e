/* SPDX-License-Identifier: GPL-2.0-only */
/* Stand-in for include/linux/interval_tree.h. A second name for each function lets the runtime see every change. */
#ifndef HVM_LINUX_INTERVAL_TREE_H
#define HVM_LINUX_INTERVAL_TREE_H

#include <linux/rbtree.h>

struct interval_tree_node {
	struct rb_node rb;
	unsigned long start;
	unsigned long last;
	unsigned long __subtree_last;
};

void hvm_tree_insert(struct interval_tree_node *node, struct rb_root_cached *root);
void hvm_tree_remove(struct interval_tree_node *node, struct rb_root_cached *root);
struct interval_tree_node *hvm_tree_iter_first(struct rb_root_cached *root, unsigned long start, unsigned long last);
struct interval_tree_node *hvm_tree_iter_next(struct interval_tree_node *node, unsigned long start, unsigned long last);

#define interval_tree_insert(node, root) hvm_tree_insert(node, root)
#define interval_tree_remove(node, root) hvm_tree_remove(node, root)
#define interval_tree_iter_first(root, start, last) hvm_tree_iter_first(root, start, last)
#define interval_tree_iter_next(node, start, last) hvm_tree_iter_next(node, start, last)

#endif
