/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The runtime below a driver file: what the kernel is to it. One image is one shared object that holds a driver and this runtime.
 *
 * All that changes while a driver runs is in three pieces: the image's own .data and .bss, the state (struct hvm), and the arena of
 * allocated objects. Saving them is saving the world below the driver; see image.c.
 */
#ifndef HVM_H
#define HVM_H

#include <asm/mshyperv.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <time.h>

#define HVM_DEVICES 64
#define HVM_ARENA (1ULL << 30)
#define HVM_GUARD (64ULL << 20) /* behind the input page: eight million frame numbers */
#define HVM_GRAIN 16

enum hvm_service { /* what Python is asked */
	HVM_S_REPORT = 1, /* a = address in the driver, text = "rule|detail" */
	HVM_S_LOG,	  /* a = level */
	HVM_S_STATUS,	  /* a = level, b = status, text = "function|text" */
	HVM_S_ALLOC,	  /* an allocation while a fault may be pending: 1 if it fails */
	HVM_S_DEPOSIT,	  /* a = partition, b = pages: errno */
	HVM_S_PARTITION,  /* a = thread group: partition id */
	HVM_S_SLEEP,	  /* text = what may sleep */
	HVM_S_SYSFS_ADD,
	HVM_S_SYSFS_REMOVE,
	HVM_S_REGISTER,
	HVM_S_DOMAIN_OF, /* a = number of the device: address of its domain */
};

enum hvm_outcome { HVM_OK, HVM_UNWOUND, HVM_CRASHED };
#define HVM_PARTED 0x80 /* beside an outcome: the second image did not do the same */

struct hvm_py;

struct hvm_python { /* functions of the interpreter, and the two of ours that it is called by; in this order, as Python fills it */
	struct hvm_py *(*vectorcall)(struct hvm_py *function, struct hvm_py *const *args, u64 n, struct hvm_py *names);
	struct hvm_py *(*number)(unsigned long long value);
	unsigned long long (*as_number)(struct hvm_py *object);
	struct hvm_py *(*text)(const char *bytes, long size, const char *errors);
	struct hvm_py *(*tuple)(long size);
	int (*put)(struct hvm_py *tuple, long at, struct hvm_py *object);
	struct hvm_py *(*builtin)(const void *method, struct hvm_py *self, struct hvm_py *module);
	struct hvm_py *(*occurred)(void);
	void (*decref)(struct hvm_py *object);
	struct hvm_py *(*bytes)(const char *from, long size);
	char *(*inside)(struct hvm_py *bytes);
	struct hvm_py *door, *service;
};

/* What Python writes before a call and reads after it; an array of u64 to it, in this order. */
struct hvm_shared {
	u64 ended;   /* how a call ended: enum hvm_outcome, irqs off << 8, locks held << 16, allocations that nobody was asked about << 32 */
	u64 mapped;
	u64 changes; /* of trees since they were last taken */
	u64 unwind;  /* set by a callback that wants the call to end */
	u64 crash_kind, crash_address, crash_where;
	u64 budget;  /* edges that one call may take */
	u64 parted;  /* where the first image asked what the second one did not; 0: they answer differently */
	u64 opened;  /* how often interrupts went on again since the image was loaded */
};

struct hvm { /* the state: saved, restored, zeroed */
	u64 used; /* bytes of the arena */
	u32 irqs_off, nlocks;
	spinlock_t *locks[16];
	u32 context, owner; /* of the running call: HVM_C_*, whom its allocations belong to */
	u32 live, serial;
	struct task_struct task;
	const struct iommu_ops *ops;
	u32 l1vh, hyperv, mshv, ndevices;
	u64 told[48]; /* reports of this world; the judges take each once for a place and an op */
	u32 ntold;
	void *page, *output;
	char option[1024];
	struct pci_dev devices[HVM_DEVICES];
};

enum { HVM_C_ATOMIC = 1, HVM_C_GFP_KERNEL = 2, HVM_C_GFP_ATOMIC = 4, HVM_C_PROBE = 8, HVM_C_FAULTS = 16 };

struct hvm_object { /* in front of each allocated object, in the arena */
	u64 size;
	u32 owner, serial;
	u64 allocated, freed; /* where, as addresses in the driver; freed = 0: alive */
};

#define HVM_DEPTH 16 /* calls within calls: init registers, which probes */
#define HVM_ROWS 16384
#define HVM_VARIABLES 1024
#define HVM_CANON_OBJECTS 65536
#define HVM_CANON_ROOM (1ULL << 20)
#define HVM_PAGES 64
#define HVM_FOUND 256 /* nodes that one search tells */
#define HVM_DOOR 0x100 /* the kind of a row for a hypercall; the others are services */

struct hvm_row { /* one question and its answer, see shadow.c */
	u64 kind, a, hash, answer, where;
};

struct hvm_range {
	u64 from, size, to;
};

struct hvm_record {
	u64 rows, npages, full;
	struct hvm_row row[HVM_ROWS];
	char pages[HVM_PAGES][PAGE_SIZE];
};

struct hvm_image { /* what does not change with the world */
	char *arena, *input;
	u8 *shadow; /* a byte for each grain of the arena: 0 nobody's, else HVM_LIVE or HVM_FREED | bytes of it */
	char *low, *high; /* the image in memory */
	u8 *coverage;
	char *data, *data_end, *pristine;
	struct hvm_python python;
	u64 (*door)(u64 control, u64 round, u64 where);
	struct hvm_shared shared;
	sigjmp_buf *entry; /* of the innermost running call, NULL outside of the driver */
	sigjmp_buf entries[HVM_DEPTH]; /* not on the stack, which is the driver's to break */
	u32 depth;
	char *stack; /* where that was entered: what lies below is the driver's */
	u64 edges, allocs;
	u64 calls; /* since the image was loaded */
	u64 ticks, ticked_call, ticked_edges; /* of the timer, since this call last went on to another block */
	pid_t ticking; /* the process that has the timer: a child has none */
	timer_t timer;
	pthread_t thread; /* that of this call: no other may leave it */
	u64 said[64]; /* what this call has reported */
	u32 nsaid;
	u64 op;	     /* of the innermost call */
	bool partition_known; /* of the running call's thread */
	u64 partition;
	u64 overran; /* where this call last wrote beyond the page */
	void *python_input, *python_output;
	u64 (*log)[3]; /* changes of trees that Python has not taken yet: root, start, last */
	struct sigaction before[64];
	bool has_stack;
	struct hvm_record *record;
	bool recording, replaying, free_run;
	u64 (*second)(u64 op, u64 call, u64 a, u64 b, u64 c, u64 d, u64 e, u64 f); /* hvm_call of the second image */
	struct hvm_shared *second_shared;
	u64 (*second_left)(u64 what);
	struct hvm_range range[64]; /* what lies where in it */
	u32 nranges;
	u64 replayed, replayed_pages;
	struct hvm_range variable[HVM_VARIABLES]; /* the driver's own, see canon.c */
	u64 nvariables;
	u32 *numbers; /* one for each grain of the arena, zero between two forms */
	struct hvm_object **met;
	u64 *form;
};

enum { HVM_LIVE = 0x20, HVM_FREED = 0x40, HVM_BYTES = 0x1f };

extern struct hvm *hvm;
extern struct hvm_image *hvm_image;

#define HVM_HERE ((u64)__builtin_extract_return_addr(__builtin_return_address(0)))

u64 hvm_ask(enum hvm_service service, u64 a, u64 b, u64 where, const char *text);
void hvm_report(u64 where, const char *rule, const char *format, ...);
__attribute__((noreturn)) void hvm_crash(u64 kind, u64 address, u64 where);
void hvm_check(const void *address, size_t size, bool write, u64 where);
void *hvm_allocate(size_t size, u32 owner, u64 where);
struct hvm_object *hvm_object_of(const void *address);
void hvm_free_now(void *object, u64 where);
u64 hvm_hash_page(const void *page, u64 control);
bool hvm_parts(u64 op, u64 call, u64 a, u64 b, u64 c, u64 d, u64 e, u64 f, u64 value);
enum hvm_op { OP_DETECT, OP_INIT, OP_OPTION, OP_PROBE, OP_FINALIZE, OP_RELEASE, OP_ALLOC, OP_IDENTITY, OP_FREE, OP_ATTACH, OP_MAP, OP_UNMAP,
	      OP_LOOKUP, OP_TYPE, OP_CAPABLE, OP_RESERVED };
u64 hvm_hash_text(const char *text);
void hvm_note(u64 kind, u64 a, u64 hash, u64 answer, const void *page, u64 where);
u64 hvm_replay(u64 kind, u64 a, u64 hash, void *page, u64 where);
u64 hvm_call(u64 op, u64 call, u64 a, u64 b, u64 c, u64 d, u64 e, u64 f);
u64 hvm_state_size(void);
u64 hvm_holds(u64 address, u64 *size, u64 *state);
void hvm_save(char *to);
u64 hvm_canon(const u64 *roots, u64 nroots, u64 *out, u64 room);
void hvm_domain(u64 address, u64 *out);
u64 hvm_tree_list(struct rb_root_cached *root, u64 start, u64 last, struct interval_tree_node *after, u64 more, u64 room, u64 (*out)[4]);
u64 hvm_python_door(u64 control, u64 round, u64 where);
u64 hvm_python_service(u64 service, u64 a, u64 b, u64 where, const char *text);
void hvm_changed(struct rb_root_cached *root, struct interval_tree_node *node);

enum hvm_crash_kind { HVM_WILD = 1, HVM_NULL, HVM_FAULT, HVM_ILLEGAL, HVM_BUG, HVM_ENDLESS, HVM_STACK };

#endif
