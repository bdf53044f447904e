/* SPDX-License-Identifier: GPL-2.0-only */
/* For a kernel tree's own rbtree.h: there is one thread, so that publishing a pointer is storing it. */
#ifndef HVM_LINUX_RCUPDATE_H
#define HVM_LINUX_RCUPDATE_H

#include <linux/kernel.h>

#define rcu_assign_pointer(p, v) ((p) = (v))
#define rcu_dereference(p) (p)
#define rcu_dereference_raw(p) (p)
#define rcu_read_lock() ((void)0)
#define rcu_read_unlock() ((void)0)

#endif
