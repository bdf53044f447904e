// SPDX-License-Identifier: GPL-2.0-only
/*
 * What an exported C program has below the driver besides services.c and tree.c of the shim: memory from malloc(), so that
 * -fsanitize=address watches it, and the program's own functions where the shim asks Python.
 */
#include "hvm.h"
#include <stdarg.h>
#undef sscanf
#undef snprintf
#undef abort
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

/* Hypercalls go to the program, not through Python's door. */
#define hv_do_hypercall services_do_hypercall
#define hv_do_rep_hypercall services_do_rep_hypercall
#include "services.c"
#undef hv_do_hypercall
#undef hv_do_rep_hypercall
#include "tree.c"
#undef memset
#undef memcpy
#undef memmove
#undef memcmp

#define ALONE_RUNTIME
#include "alone.h"

#define OBJECTS 65536

static struct hvm state;
static struct hvm_image image;
static char input_copy[PAGE_SIZE], output_page[PAGE_SIZE];
static struct {
	char *at;
	size_t size;
} objects[OBJECTS];
static unsigned int num_objects;

struct hvm *hvm = &state;
struct hvm_image *hvm_image = &image;
struct alone alone;
struct alone_task alone_task;

/* --- memory ---------------------------------------------------------------------------------------------------------------- */

void *hvm_allocate(size_t size, u32 owner, u64 where)
{
	char *at = calloc(1, size ? size : 1);

	(void)owner, (void)where;
	if (at && num_objects < OBJECTS) {
		objects[num_objects].at = at;
		objects[num_objects++].size = size;
	}
	return at;
}

/* kzalloc(), which fault injection makes fail as fault-injection.rst has it for fail-nth. */
void *hvm_kmalloc(size_t size, gfp_t gfp, bool zeroed)
{
	bool sleeps = gfpflags_allow_blocking(gfp);
	u32 allowed = hvm->context & (HVM_C_GFP_KERNEL | HVM_C_GFP_ATOMIC);
	char *at;

	if (sleeps)
		hvm_might_sleep("kzalloc(GFP_KERNEL)");
	if (allowed && sleeps != (allowed == HVM_C_GFP_KERNEL))
		hvm_report(HVM_HERE, "gfp", "kzalloc with %s inside a map whose caller passed %s", sleeps ? "GFP_KERNEL" : "GFP_ATOMIC",
			   sleeps ? "GFP_ATOMIC" : "GFP_KERNEL");
	if (alone_task.fail_nth && !--alone_task.fail_nth)
		return NULL;
	at = hvm_allocate(size, 0, 0);
	if (at && !zeroed && !(gfp & __GFP_ZERO))
		memset(at, 0xa5, size);
	return at;
}

void hvm_free_now(void *object, u64 where)
{
	unsigned int i;

	(void)where;
	for (i = num_objects; i-- > 0;)
		if (objects[i].at == object) {
			objects[i] = objects[--num_objects];
			break;
		}
	free(object); /* a second time as well: who watches memory says so */
}

void hvm_kfree(const void *object)
{
	if (object && !IS_ERR_VALUE(object))
		hvm_free_now((void *)object, 0);
}

size_t alone_size(const void *object)
{
	unsigned int i;

	for (i = num_objects; i-- > 0;)
		if (objects[i].at == object)
			return objects[i].size;
	return 0;
}

void *hvm_memset(void *to, int value, size_t size)
{
	return memset(to, value, size);
}

void *hvm_memcpy(void *to, const void *from, size_t size)
{
	return memmove(to, from, size);
}

void *hvm_memmove(void *to, const void *from, size_t size)
{
	return memmove(to, from, size);
}

int hvm_memcmp(const void *a, const void *b, size_t size)
{
	return memcmp(a, b, size);
}

void hvm_check(const void *address, size_t size, bool write, u64 where)
{
	(void)address, (void)size, (void)write, (void)where;
}

/* --- what the shim would ask Python ---------------------------------------------------------------------------------------- */

u64 hv_do_hypercall(u64 control, void *input, void *output)
{
	return alone.hypercall(control, input, output);
}

u64 hv_do_rep_hypercall(u16 code, u16 rep_count, u16 varhead_size, void *input, void *output)
{
	u64 control = code, status;

	control |= (u64)varhead_size << HV_HYPERCALL_VARHEAD_OFFSET;
	control |= (u64)rep_count << HV_HYPERCALL_REP_COMP_OFFSET;
	do {
		status = hv_do_hypercall(control, input, output);
		if (!hv_result_success(status))
			return status;
		control &= ~HV_HYPERCALL_REP_START_MASK;
		control |= (u64)hv_repcomp(status) << HV_HYPERCALL_REP_START_OFFSET;
	} while (hv_repcomp(status) < rep_count);
	return status;
}

u64 hvm_python_door(u64 control, u64 round, u64 where)
{
	(void)control, (void)round, (void)where;
	return 0;
}

u64 hvm_ask(enum hvm_service service, u64 a, u64 b, u64 where, const char *text)
{
	char rule[32];
	int ret;

	(void)where;
	switch (service) {
	case HVM_S_REPORT:
		snprintf(rule, sizeof(rule), "%.*s", (int)strcspn(text, "|"), text);
		text += strcspn(text, "|");
		printf("# the kernel would say: %s%s\n", rule, text);
		alone.hears(rule, text + (*text == '|'));
		break;
	case HVM_S_LOG:
		printf("# log: %s%s", text, strchr(text, '\n') ? "" : "\n");
		break;
	case HVM_S_STATUS:
		printf("# log: status %#llx in %s%s", b, text, strchr(text, '\n') ? "" : "\n");
		break;
	case HVM_S_DEPOSIT: /* the helper's own call uses the same page */
		hvm_might_sleep("hv_call_deposit_pages");
		ret = alone.deposit(NUMA_NO_NODE, a, (u32)b);
		memset(input_copy, 0, sizeof(input_copy));
		memcpy(input_copy, &a, sizeof(a));
		return (u64)(s64)ret;
	case HVM_S_PARTITION:
		return alone.partition();
	case HVM_S_DOMAIN_OF:
		return (u64)alone.domain_of((u32)a);
	default:
		break;
	}
	return 0;
}

void hvm_crash(u64 kind, u64 address, u64 where)
{
	(void)kind, (void)address, (void)where;
	alone.died("BUG()", false);
	_exit(ALONE_UNDETERMINED);
}

void hvm_note(u64 kind, u64 a, u64 hash, u64 answer, const void *page, u64 where)
{
	(void)kind, (void)a, (void)hash, (void)answer, (void)page, (void)where;
}

u64 hvm_replay(u64 kind, u64 a, u64 hash, void *page, u64 where)
{
	(void)kind, (void)a, (void)hash, (void)page, (void)where;
	return 0;
}

u64 hvm_hash_page(const void *page, u64 control)
{
	(void)page;
	return control;
}

u64 hvm_hash_text(const char *text)
{
	return (u64)text;
}

void hvm_changed(struct rb_root_cached *root, struct interval_tree_node *node)
{
	(void)root, (void)node;
}

/* --- the program ----------------------------------------------------------------------------------------------------------- */

void **alone_page(void)
{
	return &hvm->page;
}

const struct iommu_ops *alone_ops(void)
{
	return hvm->ops;
}

/* Of the call that comes: the probe lock is held, the caller may not sleep, the gfp flags that it passes or 0. */
void alone_context(bool probe, bool atomic, gfp_t gfp)
{
	bool sleeps = gfpflags_allow_blocking(gfp);

	hvm->context = (probe ? HVM_C_PROBE : 0) | (atomic || (gfp && !sleeps) ? HVM_C_ATOMIC : 0) |
		       (!gfp ? 0 : sleeps ? HVM_C_GFP_KERNEL : HVM_C_GFP_ATOMIC);
	image.nsaid = hvm->ntold = hvm->nlocks = 0;
}

void alone_forget_thread(void)
{
	image.partition_known = false;
}

static void on_signal(int number, siginfo_t *said, void *context)
{
	bool null = (number == SIGSEGV || number == SIGBUS) && (u64)said->si_addr < PAGE_SIZE;

	(void)context;
	alone.died(null ? "follows a NULL pointer" : number == SIGALRM ? "a call that does not return" : strsignal(number), null);
	_exit(ALONE_UNDETERMINED);
}

static void take_signals(void)
{
	static const int numbers[] = { SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT, SIGALRM };
	struct sigaction action = { .sa_sigaction = on_signal, .sa_flags = SA_SIGINFO };
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(numbers); i++)
		sigaction(numbers[i], &action, NULL);
	alarm(20);
}

#if ALONE_WATCHED
const char *__asan_default_options(void);
const char *__asan_default_options(void)
{
	return "exitcode=2:detect_leaks=0:handle_segv=0:handle_sigbus=0:handle_sigfpe=0:handle_abort=0:handle_sigill=0";
}

const char *__asan_get_report_description(void);
void __sanitizer_set_death_callback(void (*callback)(void));

static void on_report(void)
{
	alone.died(__asan_get_report_description(), true);
}
#endif

/* Once, before the driver is told of anything. */
void alone_begin(bool l1vh, bool mshv)
{
	image.python_input = input_copy;
	hvm->l1vh = l1vh;
	hvm->hyperv = 1;
	hvm->mshv = mshv;
	hvm->context = HVM_C_PROBE;
	hvm->output = output_page;
	hvm->task.tgid = hvm->task.pid = 1;
	hyperv_pcpu_output_arg = &hvm->output;
	ms_hyperv.misc_features = HV_DEVICE_DOMAIN_AVAILABLE;
	take_signals();
#if ALONE_WATCHED
	__sanitizer_set_death_callback(on_report);
#endif
}

struct option {
	const char *name;
	int (*handler)(char *value);
	unsigned long early;
};
extern const struct option __start_hvm_options[] __attribute__((weak)), __stop_hvm_options[] __attribute__((weak));

static size_t bare(const char *name)
{
	size_t length = strlen(name);

	return length && name[length - 1] == '=' ? length - 1 : length;
}

/* The answer of a boot option's handler as 1 for handled; -1: the driver has no such option. It may keep the text. */
int alone_option(const char *name, const char *value)
{
	const struct option *option;
	int ret;

	for (option = __start_hvm_options; option && option < __stop_hvm_options; option++) {
		if (bare(option->name) != bare(name) || strncmp(option->name, name, bare(name)))
			continue;
		ret = option->handler(strdup(value));
		return option->early ? !ret : ret;
	}
	return -1;
}
