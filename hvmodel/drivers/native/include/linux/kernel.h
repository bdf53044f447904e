/* SPDX-License-Identifier: GPL-2.0-only */
/* Stand-in: log, scanning, boot options, arithmetic, the current task. Names are the kernel's; hvm_ names are the runtime's. */
#ifndef HVM_LINUX_KERNEL_H
#define HVM_LINUX_KERNEL_H

#include <stdarg.h>

#include <linux/errno.h>
#include <linux/types.h>

#define container_of(ptr, type, member) ((type *)((char *)(ptr)-offsetof(type, member)))
#define ARRAY_SIZE(a) (sizeof(a) / sizeof((a)[0]))
#define sizeof_field(type, member) sizeof(((type *)0)->member)
#define struct_size(p, member, n) (sizeof(*(p)) + sizeof(*(p)->member) * (n))

#define hvm_pick(a, op, b)                    \
	({                                    \
		__typeof__(a) hvm_a = (a);    \
		__typeof__(b) hvm_b = (b);    \
		hvm_a op hvm_b ? hvm_a : hvm_b; \
	})
#define min(a, b) hvm_pick(a, <, b)
#define max(a, b) hvm_pick(a, >, b)
#define min_t(type, a, b) min((type)(a), (type)(b))
#define max_t(type, a, b) max((type)(a), (type)(b))
#define min3(a, b, c) min(min(a, b), c)
#define umin(a, b) min((u64)(a), (u64)(b))
#define umax(a, b) max((u64)(a), (u64)(b))
#define clamp(v, low, high) min(max(v, low), high)
#define swap(a, b)                      \
	do {                            \
		__typeof__(a) hvm_s = (a); \
		(a) = (b);              \
		(b) = hvm_s;            \
	} while (0)
#define DIV_ROUND_UP(n, d) (((n) + (d)-1) / (d))
#define ALIGN(x, a) (((x) + (__typeof__(x))(a)-1) & ~((__typeof__(x))(a)-1))
#define ALIGN_DOWN(x, a) ((x) & ~((__typeof__(x))(a)-1))
#define IS_ALIGNED(x, a) (((x) & ((__typeof__(x))(a)-1)) == 0)
#define PFN_DOWN(x) ((x) >> PAGE_SHIFT)
#define PFN_UP(x) (((x) + PAGE_SIZE - 1) >> PAGE_SHIFT)
#define lower_32_bits(n) ((u32)((n) & 0xffffffff))
#define upper_32_bits(n) ((u32)(((n) >> 16) >> 16))
#define is_power_of_2(n) ((n) != 0 && (((n) & ((n)-1)) == 0))
#define __ffs(x) ((unsigned long)__builtin_ctzl(x))
#define __fls(x) ((unsigned long)(63 - __builtin_clzl(x)))
#define ilog2(x) ((int)__fls(x))
#define check_add_overflow(a, b, d) __builtin_add_overflow(a, b, d)
#define check_sub_overflow(a, b, d) __builtin_sub_overflow(a, b, d)
#define check_mul_overflow(a, b, d) __builtin_mul_overflow(a, b, d)
#define BUILD_BUG_ON(condition) _Static_assert(!(condition), "BUILD_BUG_ON")
#define static_assert(expression, ...) _Static_assert(expression, #expression)

enum hvm_level { HVM_ERR, HVM_WARN, HVM_INFO, HVM_DEBUG };
__printf(2, 3) void hvm_printk(enum hvm_level level, const char *format, ...);
__printf(3, 4) void hvm_dev_printk(enum hvm_level level, const void *device, const char *format, ...);
__printf(2, 3) bool hvm_warn(bool condition, const char *format, ...);
__attribute__((noreturn)) void hvm_bug(void);
void hvm_might_sleep(const char *what);
int hvm_sscanf(const char *text, const char *format, ...);
int hvm_snprintf(char *buffer, size_t size, const char *format, ...);

#ifndef pr_fmt
#define pr_fmt(fmt) fmt
#endif
#define pr_emerg(fmt, ...) hvm_printk(HVM_ERR, pr_fmt(fmt), ##__VA_ARGS__)
#define pr_crit(fmt, ...) hvm_printk(HVM_ERR, pr_fmt(fmt), ##__VA_ARGS__)
#define pr_err(fmt, ...) hvm_printk(HVM_ERR, pr_fmt(fmt), ##__VA_ARGS__)
#define pr_warn(fmt, ...) hvm_printk(HVM_WARN, pr_fmt(fmt), ##__VA_ARGS__)
#define pr_notice(fmt, ...) hvm_printk(HVM_INFO, pr_fmt(fmt), ##__VA_ARGS__)
#define pr_info(fmt, ...) hvm_printk(HVM_INFO, pr_fmt(fmt), ##__VA_ARGS__)
#define pr_debug(fmt, ...) hvm_printk(HVM_DEBUG, pr_fmt(fmt), ##__VA_ARGS__)
#define pr_err_once pr_err
#define pr_warn_once pr_warn
#define pr_info_once pr_info
#define pr_err_ratelimited pr_err
#define pr_warn_ratelimited pr_warn
#define dev_err(dev, fmt, ...) hvm_dev_printk(HVM_ERR, dev, fmt, ##__VA_ARGS__)
#define dev_warn(dev, fmt, ...) hvm_dev_printk(HVM_WARN, dev, fmt, ##__VA_ARGS__)
#define dev_notice(dev, fmt, ...) hvm_dev_printk(HVM_INFO, dev, fmt, ##__VA_ARGS__)
#define dev_info(dev, fmt, ...) hvm_dev_printk(HVM_INFO, dev, fmt, ##__VA_ARGS__)
#define dev_dbg(dev, fmt, ...) hvm_dev_printk(HVM_DEBUG, dev, fmt, ##__VA_ARGS__)
#define dev_err_ratelimited dev_err
#define dev_warn_ratelimited dev_warn
#define pci_err(pdev, fmt, ...) dev_err(&(pdev)->dev, fmt, ##__VA_ARGS__)
#define pci_warn(pdev, fmt, ...) dev_warn(&(pdev)->dev, fmt, ##__VA_ARGS__)
#define pci_info(pdev, fmt, ...) dev_info(&(pdev)->dev, fmt, ##__VA_ARGS__)

#define WARN(condition, ...) hvm_warn(!!(condition), __VA_ARGS__)
#define WARN_ON(condition) hvm_warn(!!(condition), "WARN_ON(%s)", #condition)
#define WARN_ONCE WARN
#define WARN_ON_ONCE WARN_ON
#define BUG() hvm_bug()
#define BUG_ON(condition)       \
	do {                    \
		if (condition)  \
			BUG();  \
	} while (0)
#define panic(...) hvm_bug()
#define abort() hvm_bug()
#define might_sleep() hvm_might_sleep("might_sleep()")
#define cond_resched() hvm_might_sleep("cond_resched()")
#define lockdep_assert_held(lock) ((void)(lock))
#define sscanf hvm_sscanf
#define snprintf hvm_snprintf
#define scnprintf hvm_snprintf

/* Boot options. The kernel's table (include/linux/init.h: struct obs_kernel_param) in a section of ours. */
struct hvm_option {
	const char *name;
	int (*handler)(char *value);
	unsigned long early;
};
#define hvm_option(text, fn, is_early)                                                                            \
	static const struct hvm_option hvm_option_##fn __attribute__((used, section("hvm_options"), aligned(8))) = \
		{ text, fn, is_early }
#define __setup(text, fn) hvm_option(text, fn, 0)
#define early_param(text, fn) hvm_option(text, fn, 1)

#define EXPORT_SYMBOL(name) struct hvm_unused
#define EXPORT_SYMBOL_GPL(name) struct hvm_unused
#define MODULE_LICENSE(text) struct hvm_unused
#define MODULE_AUTHOR(text) struct hvm_unused
#define MODULE_DESCRIPTION(text) struct hvm_unused
#define module_param(name, type, perm) struct hvm_unused
#define MODULE_PARM_DESC(name, text) struct hvm_unused
struct module;
#define THIS_MODULE ((struct module *)0)
#define IS_ENABLED(option) 0

struct task_struct {
	pid_t pid, tgid;
};
struct task_struct *hvm_current(void);
#define current hvm_current()

#endif
