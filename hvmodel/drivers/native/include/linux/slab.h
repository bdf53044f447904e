/* SPDX-License-Identifier: GPL-2.0-only */
/* Stand-in for include/linux/slab.h and gfp_types.h, with kzalloc_obj and its kin of the 7.0 cycle (gfp optional). */
#ifndef HVM_LINUX_SLAB_H
#define HVM_LINUX_SLAB_H

#include <linux/kernel.h>

#define __GFP_DIRECT_RECLAIM 0x400u
#define __GFP_KSWAPD_RECLAIM 0x800u
#define __GFP_HIGH 0x20u
#define __GFP_IO 0x40u
#define __GFP_FS 0x80u
#define __GFP_ZERO 0x100u
#define __GFP_NOWARN 0x2000u
#define __GFP_NOFAIL 0x8000u
#define GFP_KERNEL (__GFP_DIRECT_RECLAIM | __GFP_KSWAPD_RECLAIM | __GFP_IO | __GFP_FS)
#define GFP_ATOMIC (__GFP_HIGH | __GFP_KSWAPD_RECLAIM)
#define GFP_NOWAIT (__GFP_KSWAPD_RECLAIM | __GFP_NOWARN)
#define GFP_KERNEL_ACCOUNT GFP_KERNEL
#define gfpflags_allow_blocking(gfp) (!!((gfp)&__GFP_DIRECT_RECLAIM))

void *hvm_kmalloc(size_t size, gfp_t gfp, bool zeroed);
void hvm_kfree(const void *object);

#define kmalloc(size, gfp) hvm_kmalloc(size, gfp, false)
#define kzalloc(size, gfp) hvm_kmalloc(size, gfp, true)
#define kcalloc(n, size, gfp) hvm_kmalloc((n) * (size), gfp, true)
#define kmalloc_array(n, size, gfp) hvm_kmalloc((n) * (size), gfp, false)
#define kzalloc_node(size, gfp, node) kzalloc(size, gfp)
#define kvzalloc(size, gfp) kzalloc(size, gfp)
#define kvfree(object) kfree(object)
#define kfree(object) hvm_kfree(object)
#define kfree_sensitive(object) hvm_kfree(object)

#define hvm_gfp_of(unused, gfp, ...) gfp
#define hvm_gfp(...) hvm_gfp_of(0, ##__VA_ARGS__, GFP_KERNEL)
#define hvm_alloc_obj(zeroed, what, ...) ((__typeof__(what) *)hvm_kmalloc(sizeof(what), hvm_gfp(__VA_ARGS__), zeroed))
#define kzalloc_obj(what, ...) hvm_alloc_obj(true, what, ##__VA_ARGS__)
#define kmalloc_obj(what, ...) hvm_alloc_obj(false, what, ##__VA_ARGS__)

#endif
