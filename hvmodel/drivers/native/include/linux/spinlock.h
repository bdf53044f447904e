/* SPDX-License-Identifier: GPL-2.0-only */
/* Stand-in: spinlocks, mutexes, interrupts, atomics, per-CPU pointers. There is one CPU; the runtime keeps the context. */
#ifndef HVM_LINUX_SPINLOCK_H
#define HVM_LINUX_SPINLOCK_H

#include <linux/kernel.h>

typedef struct spinlock {
	u32 held;
	u32 saved;
} spinlock_t;
typedef spinlock_t raw_spinlock_t;
struct mutex {
	spinlock_t lock;
};

unsigned long hvm_irq_save(void);
void hvm_irq_restore(unsigned long flags);
unsigned long hvm_lock(spinlock_t *lock, const char *name, bool irq);
void hvm_unlock(spinlock_t *lock, const char *name, bool irq, unsigned long flags);
void hvm_mutex_lock(struct mutex *mutex, const char *name);
void hvm_mutex_unlock(struct mutex *mutex, const char *name);
void *hvm_this_cpu(void *pointer);

#define __SPIN_LOCK_UNLOCKED(name) { 0, 0 }
#define DEFINE_SPINLOCK(name) spinlock_t name = __SPIN_LOCK_UNLOCKED(name)
#define spin_lock_init(l) (*(l) = (spinlock_t){ 0, 0 })
#define spin_lock_irqsave(l, flags) ((flags) = hvm_lock(l, #l, true))
#define spin_unlock_irqrestore(l, flags) hvm_unlock(l, #l, true, flags)
#define spin_lock(l) ((void)hvm_lock(l, #l, false))
#define spin_unlock(l) hvm_unlock(l, #l, false, 0)
#define spin_lock_irq(l) ((l)->saved = (u32)hvm_lock(l, #l, true))
#define spin_unlock_irq(l) hvm_unlock(l, #l, true, (l)->saved)
#define spin_lock_bh spin_lock
#define spin_unlock_bh spin_unlock
#define raw_spin_lock_init spin_lock_init
#define raw_spin_lock_irqsave spin_lock_irqsave
#define raw_spin_unlock_irqrestore spin_unlock_irqrestore
#define DEFINE_MUTEX(name) struct mutex name = { { 0, 0 } }
#define mutex_init(m) spin_lock_init(&(m)->lock)
#define mutex_lock(m) hvm_mutex_lock(m, #m)
#define mutex_unlock(m) hvm_mutex_unlock(m, #m)
#define mutex_destroy(m) ((void)(m))

#define local_irq_save(flags) ((flags) = hvm_irq_save())
#define local_irq_restore(flags) hvm_irq_restore(flags)
#define local_irq_disable() ((void)hvm_irq_save())
#define local_irq_enable() hvm_irq_restore(0)
#define irqs_disabled() hvm_irqs_disabled()
bool hvm_irqs_disabled(void);
#define preempt_disable() ((void)0)
#define preempt_enable() ((void)0)
#define this_cpu_ptr(p) ((__typeof__(p))hvm_this_cpu(p))
#define raw_cpu_ptr(p) ((__typeof__(p))hvm_this_cpu(p))

/* include/linux/cleanup.h, for the guards that a driver of this kind can use */
struct hvm_guard {
	spinlock_t *lock;
	struct mutex *mutex;
	unsigned long flags;
};
static inline struct hvm_guard hvm_guard_spinlock_irqsave(spinlock_t *lock)
{
	return (struct hvm_guard){ lock, NULL, hvm_lock(lock, "lock", true) };
}
static inline struct hvm_guard hvm_guard_mutex(struct mutex *mutex)
{
	hvm_mutex_lock(mutex, "mutex");
	return (struct hvm_guard){ NULL, mutex, 0 };
}
static inline struct hvm_guard hvm_guard_irqsave(void)
{
	return (struct hvm_guard){ NULL, NULL, hvm_irq_save() };
}
static inline void hvm_guard_end(struct hvm_guard *guard)
{
	if (guard->lock)
		hvm_unlock(guard->lock, "lock", true, guard->flags);
	else if (guard->mutex)
		hvm_mutex_unlock(guard->mutex, "mutex");
	else
		hvm_irq_restore(guard->flags);
}
#define hvm_paste2(a, b) a##b
#define hvm_paste(a, b) hvm_paste2(a, b)
#define guard(kind) struct hvm_guard __attribute__((cleanup(hvm_guard_end), unused)) hvm_paste(hvm_guard_, __COUNTER__) = hvm_guard_##kind
#define scoped_guard(kind, ...)                                                                                              \
	for (struct hvm_guard hvm_scope __attribute__((cleanup(hvm_guard_end))) = hvm_guard_##kind(__VA_ARGS__), *hvm_once = &hvm_scope; \
	     hvm_once; hvm_once = NULL)

#define ATOMIC_INIT(v) { (v) }
#define atomic_read(v) ((v)->counter)
#define atomic_set(v, n) ((void)((v)->counter = (n)))
#define atomic_inc(v) ((void)++(v)->counter)
#define atomic_dec(v) ((void)--(v)->counter)
#define atomic_inc_return(v) (++(v)->counter)
#define atomic_dec_return(v) (--(v)->counter)
#define atomic_add_return(n, v) ((v)->counter += (n))
#define atomic_fetch_inc(v) ((v)->counter++)
#define atomic_fetch_add(n, v) (((v)->counter += (n)) - (n))
#define atomic_dec_and_test(v) (--(v)->counter == 0)
#define atomic64_read atomic_read
#define atomic64_set atomic_set
#define atomic64_inc atomic_inc
#define atomic64_dec atomic_dec
#define atomic64_inc_return atomic_inc_return
#define REFCOUNT_INIT(n) { { (n) } }
#define refcount_set(r, n) atomic_set(&(r)->refs, n)
#define refcount_read(r) atomic_read(&(r)->refs)
#define refcount_inc(r) atomic_inc(&(r)->refs)
#define refcount_dec(r) atomic_dec(&(r)->refs)
#define refcount_dec_and_test(r) atomic_dec_and_test(&(r)->refs)

#endif
