// SPDX-License-Identifier: GPL-2.0-only
/*
 * The way in and out: Python calls hvm_call(); what the driver needs comes back through one of two callbacks. A call ends by returning,
 * by a callback that asks for it (a world that is over), or by a crash: a signal, a bad access, BUG(), too many edges. All but the first
 * jump back to the entry; what they leave behind is for the world to judge, which ends there.
 */
#define _GNU_SOURCE
#include "hvm.h"
#include <dlfcn.h>
#include <link.h>
#undef memcpy
#undef memset
#undef memcmp
#undef abort
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

struct hvm *hvm;
struct hvm_image *hvm_image;

#define HVM_LOG_ROOM (1ULL << 20)

extern const struct hvm_option __start_hvm_options[] __attribute__((weak)), __stop_hvm_options[] __attribute__((weak));

/* --- crashes --------------------------------------------------------------------------------------------------------------- */

static const int hvm_signals[] = { SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP, SIGABRT };

__attribute__((noreturn)) void hvm_crash(u64 kind, u64 address, u64 where)
{
	struct hvm_shared *shared = &hvm_image->shared;

	shared->crash_kind = kind;
	shared->crash_address = address;
	shared->crash_where = where;
	siglongjmp(*hvm_image->entry, HVM_CRASHED);
}

void hvm_caught(int number, siginfo_t *info, void *context)
{
	u64 where = 0, address = (u64)info->si_addr;

	if (!hvm_image->entry) { /* not in this driver: whoever was there before us decides */
		struct sigaction *before = &hvm_image->before[number];

		if (before->sa_flags & SA_SIGINFO) {
			before->sa_sigaction(number, info, context);
		} else if (before->sa_handler != SIG_IGN && before->sa_handler != SIG_DFL) {
			before->sa_handler(number);
		} else {
			signal(number, SIG_DFL);
			raise(number);
		}
		return;
	}
#if defined(__x86_64__)
	where = ((ucontext_t *)context)->uc_mcontext.gregs[REG_RIP] + 1;
#elif defined(__aarch64__)
	where = ((ucontext_t *)context)->uc_mcontext.pc + 4;
#endif
	if (number == SIGABRT)
		hvm_crash(HVM_BUG, 0, where);
	if (number == SIGILL || number == SIGTRAP)
		hvm_crash(HVM_BUG, 0, where);
	if (number == SIGFPE)
		hvm_crash(HVM_ILLEGAL, 0, where);
	if (address < (u64)hvm_image->stack && address > (u64)hvm_image->stack - (16ULL << 20))
		hvm_crash(HVM_STACK, address, where);
	hvm_crash(address < PAGE_SIZE ? HVM_NULL : HVM_FAULT, address, where);
}

/* The second line behind the budget of blocks: code of ours and of a kernel tree counts no blocks. Three looks of the timer, which are
 * seconds, at one call in which it has come to no other block: it goes round and round there. The timer says whose it is. */
void hvm_ticked(int number, siginfo_t *info, void *context)
{
	struct hvm_image *image = info->si_value.sival_ptr;

	(void)number, (void)context;
	if (info->si_code != SI_TIMER || !pthread_equal(pthread_self(), image->thread))
		return;
	if (!image->entry || image->ticked_call != image->calls || image->ticked_edges != image->edges) {
		image->ticks = 0;
		image->ticked_call = image->calls;
		image->ticked_edges = image->edges;
		return;
	}
	if (++image->ticks < 3)
		return;
	image->ticks = 0;
	image->shared.crash_kind = HVM_ENDLESS;
	image->shared.crash_address = image->shared.crash_where = 0;
	siglongjmp(*image->entry, HVM_CRASHED);
}

/* How often the timer looks, in milliseconds of processor time. */
u64 hvm_tick_every(u64 milliseconds)
{
	struct timespec span = { (time_t)(milliseconds / 1000), (long)(milliseconds % 1000) * 1000000 };
	struct itimerspec both = { span, span };

	return timer_settime(hvm_image->timer, 0, &both, NULL) == 0;
}

static void hvm_take_time(void)
{
	struct sigaction action = { .sa_sigaction = hvm_ticked, .sa_flags = SA_SIGINFO | SA_RESTART | SA_ONSTACK | SA_NODEFER };
	struct sigevent event = { .sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGVTALRM, .sigev_value.sival_ptr = hvm_image };

	hvm_image->ticking = getpid();
	if (sigaction(SIGVTALRM, &action, NULL) == 0 && timer_create(CLOCK_PROCESS_CPUTIME_ID, &event, &hvm_image->timer) == 0)
		hvm_tick_every(1000);
}

/* Take the signals, on a stack of their own. Again before each world: others (faulthandler) like them, too. Another image's handler is fine:
 * it passes on what is not its own. */
static void hvm_take_signals(void)
{
	struct sigaction action = { .sa_sigaction = hvm_caught, .sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER }, now;
	stack_t alternate;
	Dl_info who;
	unsigned i;

	if (hvm_image->ticking != getpid())
		hvm_take_time();
	if (hvm_image->has_stack && sigaction(SIGSEGV, NULL, &now) == 0 &&
	    (now.sa_sigaction == hvm_caught ||
	     (dladdr((void *)now.sa_sigaction, &who) && who.dli_sname && !strcmp(who.dli_sname, "hvm_caught"))))
		return;
	if (!hvm_image->has_stack) {
		alternate.ss_flags = 0;
		alternate.ss_size = 1 << 17;
		alternate.ss_sp = mmap(NULL, alternate.ss_size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		sigaltstack(&alternate, NULL);
		hvm_image->has_stack = true;
	}
	for (i = 0; i < sizeof(hvm_signals) / sizeof(hvm_signals[0]); i++) {
		sigaction(hvm_signals[i], &action, &now);
		if (now.sa_sigaction != hvm_caught)
			hvm_image->before[hvm_signals[i]] = now;
	}
}

/* --- images ---------------------------------------------------------------------------------------------------------------- */

static int hvm_find_self(struct dl_phdr_info *info, size_t size, void *data)
{
	struct hvm_image *image = data;
	char *low = (char *)~0ULL, *high = NULL;
	int i;

	(void)size;
	for (i = 0; i < info->dlpi_phnum; i++) {
		if (info->dlpi_phdr[i].p_type != PT_LOAD)
			continue;
		char *from = (char *)info->dlpi_addr + info->dlpi_phdr[i].p_vaddr;

		low = from < low ? from : low;
		high = from + info->dlpi_phdr[i].p_memsz > high ? from + info->dlpi_phdr[i].p_memsz : high;
	}
	if ((char *)hvm_find_self < low || (char *)hvm_find_self >= high)
		return 0;
	image->low = (char *)info->dlpi_addr;
	image->high = high;
	return 1;
}

static void *hvm_reserve(u64 hint, u64 size)
{
	void *at = mmap((void *)hint, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	return at == MAP_FAILED ? NULL : at;
}

/* Once after loading. `offset` and `size` are those of .data and .bss; returns where the image lies, 0 if there is no memory. */
u64 hvm_load(u64 hint, u64 offset, u64 size, const struct hvm_python *python, void *input, void *output)
{
	struct hvm_image *image = mmap(NULL, sizeof(*image), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	char *page;

	if (image == MAP_FAILED || !dl_iterate_phdr(hvm_find_self, image))
		return 0;
	hvm = hvm_reserve(hint, (sizeof(*hvm) + PAGE_SIZE) & PAGE_MASK);
	image->arena = hvm_reserve(hint + (1ULL << 24), HVM_ARENA);
	image->shadow = hvm_reserve(hint + (1ULL << 31), HVM_ARENA / HVM_GRAIN);
	page = hvm_reserve(hint + (3ULL << 30), HVM_GUARD + 3 * PAGE_SIZE);
	image->coverage = hvm_reserve(0, image->high - image->low);
	image->log = hvm_reserve(0, HVM_LOG_ROOM * sizeof(*image->log));
	if (!hvm || !image->arena || !image->shadow || !page || !image->coverage || !image->log)
		return 0;
	image->record = hvm_reserve(0, sizeof(*image->record));
	image->numbers = hvm_reserve(0, HVM_ARENA / HVM_GRAIN * sizeof(*image->numbers));
	image->met = hvm_reserve(0, HVM_CANON_OBJECTS * sizeof(*image->met));
	image->form = hvm_reserve(0, HVM_CANON_ROOM * sizeof(*image->form));
	if (!image->record || !image->numbers || !image->met || !image->form)
		return 0;
	image->input = page;
	mprotect(page + PAGE_SIZE + HVM_GUARD, PAGE_SIZE, PROT_NONE);
	image->python = *python;
	image->door = hvm_python_door;
	image->python_input = input;
	image->python_output = output;
	image->data = image->low + offset;
	image->data_end = image->data + size;
	image->shared.budget = 10000000;
	hvm_image = image;
	image->pristine = hvm_reserve(0, size + 1);
	if (!image->pristine)
		return 0;
	memcpy(image->pristine, image->data, size);
	return (u64)image->low;
}

struct hvm_shared *hvm_shared(void)
{
	return &hvm_image->shared;
}

u64 hvm_place(u64 what)
{
	return (u64[]){ (u64)hvm_image->arena, (u64)hvm, (u64)hvm_image->input, (u64)hvm_image->log, (u64)hvm_image->coverage,
			(u64)(hvm_image->high - hvm_image->low), (u64)hvm->devices, sizeof(struct pci_dev), offsetof(struct pci_dev, dev),
			(u64)hvm_image->data, (u64)(hvm_image->data_end - hvm_image->data), hvm->used, (u64)hvm->option }[what];
}

static void hvm_clear_arena(u64 from)
{
	u64 used = hvm->used;

	if (used > from)
		memset(hvm_image->shadow + from / HVM_GRAIN, 0, (used - from) / HVM_GRAIN + 8);
	if (used > (16 << 20))
		madvise(hvm_image->arena + (16 << 20), used - (16 << 20), MADV_DONTNEED);
}

/* A fresh image in a fresh world: after this nothing remembers the last one. Takes microseconds. */
u64 hvm_reset(u64 l1vh, u64 hyperv, u64 device_domains, u64 mshv, u64 partition)
{
	hvm_clear_arena(0);
	memset(hvm, 0, sizeof(*hvm));
	memcpy(hvm_image->data, hvm_image->pristine, hvm_image->data_end - hvm_image->data);
	hvm->page = hvm_image->input;
	hvm->output = hvm_image->input + HVM_GUARD + 2 * PAGE_SIZE;
	memset(hvm->page, 0, PAGE_SIZE);
	memset(hvm->output, 0, PAGE_SIZE);
	hvm->l1vh = l1vh;
	hvm->hyperv = hyperv;
	hvm->mshv = mshv;
	hyperv_pcpu_input_arg = &hvm->page;
	hyperv_pcpu_output_arg = &hvm->output;
	hv_current_partition_id = partition;
	ms_hyperv.misc_features = device_domains ? HV_DEVICE_DOMAIN_AVAILABLE : 0;
	hvm_image->shared.changes = 0;
	hvm_take_signals();
	return 0;
}

u64 hvm_state_size(void)
{
	return (hvm_image->data_end - hvm_image->data) + sizeof(*hvm) + hvm->used + hvm->used / HVM_GRAIN + 8 + 2 * PAGE_SIZE;
}

static char *hvm_put(char *to, const void *from, u64 size)
{
	memcpy(to, from, size);
	return to + size;
}

/* Everything that is below the driver, as bytes: the state's head says how much of the arena there is. */
void hvm_save(char *to)
{
	to = hvm_put(to, hvm, sizeof(*hvm));
	to = hvm_put(to, hvm_image->data, hvm_image->data_end - hvm_image->data);
	to = hvm_put(to, hvm->page, PAGE_SIZE);
	to = hvm_put(to, hvm->output, PAGE_SIZE);
	to = hvm_put(to, hvm_image->arena, hvm->used);
	hvm_put(to, hvm_image->shadow, hvm->used / HVM_GRAIN + 8);
}

static const char *hvm_get(void *to, const char *from, u64 size)
{
	memcpy(to, from, size);
	return from + size;
}

void hvm_restore(const char *from)
{
	hvm_clear_arena(((const struct hvm *)from)->used);
	from = hvm_get(hvm, from, sizeof(*hvm));
	from = hvm_get(hvm_image->data, from, hvm_image->data_end - hvm_image->data);
	from = hvm_get(hvm->page, from, PAGE_SIZE);
	from = hvm_get(hvm->output, from, PAGE_SIZE);
	from = hvm_get(hvm_image->arena, from, hvm->used);
	hvm_get(hvm_image->shadow, from, hvm->used / HVM_GRAIN + 8);
	hvm_image->shared.changes = 0;
	hvm_take_signals();
}

/* `place` is segment << 32 | bus << 16 | devfn, `ids` is the two requester ids, the first one above; the name comes as four words. */
u64 hvm_add_device(u64 place, u64 ids, u64 is_pci, u64 name0, u64 name1, u64 name2, u64 name3)
{
	const u64 name[] = { name0, name1, name2, name3 };
	struct pci_dev *pdev;

	if (hvm->ndevices == HVM_DEVICES)
		return 0;
	pdev = &hvm->devices[hvm->ndevices];
	pdev->own_bus = (struct pci_bus){ (int)(place >> 32), (unsigned char)(place >> 16) };
	pdev->bus = &pdev->own_bus;
	pdev->devfn = place & 0xffff;
	pdev->requester = ids >> 32;
	pdev->requester_own = (u32)ids;
	memcpy(pdev->name, name, sizeof(name) - 1);
	pdev->dev.init_name = pdev->name;
	pdev->dev.is_pci = is_pci;
	pdev->dev.number = hvm->ndevices++;
	return (u64)&pdev->dev;
}

/* --- callbacks ------------------------------------------------------------------------------------------------------------- */

static u64 hvm_ended(int outcome)
{
	return (u64)outcome | (u64)hvm->irqs_off << 8 | (u64)(hvm->nlocks & 0xffff) << 16 | hvm_image->allocs << 32;
}

u64 hvm_ask(enum hvm_service service, u64 a, u64 b, u64 where, const char *text)
{
	struct hvm_image *image = hvm_image;
	sigjmp_buf *entry = image->entry;
	char *stack = image->stack;
	u32 context = hvm->context, owner = hvm->owner;
	u64 answer;

	if (!entry)
		return 0;
	if (image->replaying && service == HVM_S_REPORT)
		return 0;
	if (image->replaying && service != HVM_S_REGISTER)
		return hvm_replay(service, a, b ^ hvm_hash_text(text), NULL, where);
	image->shared.ended = hvm_ended(HVM_OK);
	image->entry = NULL;
	answer = hvm_python_service(service, a, b, where, text);
	image->entry = entry;
	image->stack = stack;
	hvm->context = context;
	hvm->owner = owner;
	if (service == HVM_S_REGISTER) { /* Python has counted them; what was noted since are the calls within */
		image->allocs = 0;
		image->free_run = true;
	} else if (service != HVM_S_REPORT && service != HVM_S_DEPOSIT) {
		hvm_note(service, a, b ^ hvm_hash_text(text), answer, NULL, where);
	}
	if (image->shared.unwind)
		siglongjmp(*entry, HVM_UNWOUND);
	return answer;
}

void hvm_changed(struct rb_root_cached *root, struct interval_tree_node *node)
{
	u64 n = hvm_image->shared.changes;
	bool full = n == HVM_LOG_ROOM - 64; /* then the last entry stands for all that follow; get_resv_regions has the other 64 */

	n -= full;
	hvm_image->log[n][0] = (u64)root;
	hvm_image->log[n][1] = full ? 0 : node->start;
	hvm_image->log[n][2] = full ? ~0ULL : node->last;
	hvm_image->shared.changes = n + 1;
}

/* --- calls of the driver --------------------------------------------------------------------------------------------------- */

static const struct iommu_domain_ops *ops_of(struct iommu_domain *domain)
{
	return domain->ops ? domain->ops : hvm->ops->default_domain_ops;
}

static u64 hvm_boot_option(void)
{
	const struct hvm_option *option;

	for (option = __start_hvm_options; option && option < __stop_hvm_options; option++) {
		size_t length = strlen(option->name);

		if (!strncmp(hvm->option, option->name, length)) {
			int ret = option->handler(hvm->option + length + (option->early && hvm->option[length] == '='));

			return option->early ? !ret : (u64)(u32)ret;
		}
	}
	return ~0ULL; /* this revision has no such option */
}

/* drivers/iommu/iommu.c:__iommu_paging_domain_alloc_flags */
static u64 hvm_alloc(struct device *dev)
{
	struct iommu_domain *domain;

	if (hvm->ops->domain_alloc_paging)
		domain = hvm->ops->domain_alloc_paging(dev);
	else if (hvm->ops->domain_alloc_paging_flags)
		domain = hvm->ops->domain_alloc_paging_flags(dev, 0, NULL);
	else
		return -EOPNOTSUPP;
	if (IS_ERR_OR_NULL(domain))
		return (u64)domain;
	domain->type = IOMMU_DOMAIN_UNMANAGED;
	domain->owner = hvm->ops;
	if (!domain->ops)
		domain->ops = hvm->ops->default_domain_ops;
	return (u64)domain;
}

static u64 hvm_reserved(struct device *dev)
{
	struct list_head head = { &head, &head }, *at;
	u64 n = 0;

	hvm->ops->get_resv_regions(dev, &head);
	for (at = head.next; at != &head; n++) {
		struct iommu_resv_region *region = container_of(at, struct iommu_resv_region, list);

		at = at->next;
		region->list = (struct list_head){ NULL, NULL }; /* `head` is not the same next time */
		if (n < 64) {
			hvm_image->log[HVM_LOG_ROOM - 64 + n][0] = region->start;
			hvm_image->log[HVM_LOG_ROOM - 64 + n][1] = region->start + region->length - 1;
		}
		hvm_free_now(region, 1);
	}
	return n;
}

static noinline u64 hvm_do(u64 op, u64 a, u64 b, u64 c, u64 d, u64 e, u64 f)
{
	struct iommu_domain *domain = (struct iommu_domain *)a;
	struct device *dev = (struct device *)a;
	const struct iommu_ops *ops = hvm->ops;
	u64 value = 0;

	hvm_image->stack = __builtin_frame_address(0);
	switch (op) {
	case OP_DETECT:
		hv_iommu_detect();
		return x86_init.iommu.iommu_init != NULL;
	case OP_INIT:
		return (u64)(s64)x86_init.iommu.iommu_init();
	case OP_OPTION:
		return hvm_boot_option();
	case OP_PROBE: {
		struct iommu_device *iommu = ops->probe_device(dev);

		return IS_ERR(iommu) ? (u64)PTR_ERR(iommu) : 0;
	}
	case OP_FINALIZE:
		ops->probe_finalize(dev);
		break;
	case OP_RELEASE:
		ops->release_device(dev);
		break;
	case OP_ALLOC:
		return hvm_alloc(dev);
	case OP_IDENTITY:
		domain = ops->domain_alloc_identity(dev);
		return (u64)domain;
	case OP_FREE:
		if (ops_of(domain)->free)
			ops_of(domain)->free(domain);
		break;
	case OP_ATTACH:
#if HVM_ATTACH_OLD
		return (u64)(s64)ops_of(domain)->attach_dev(domain, (struct device *)b, (struct iommu_domain *)c);
#else
		return (u64)(s64)ops_of(domain)->attach_dev(domain, (struct device *)b);
#endif
	case OP_MAP: {
		size_t mapped = 0;

		value = (u64)(s64)ops_of(domain)->map_pages(domain, b, c, d, e, (int)(f & 0xffff),
							    hvm->context & HVM_C_GFP_ATOMIC ? GFP_ATOMIC : GFP_KERNEL,
							    f >> 16 & 1 ? &mapped : NULL);
		hvm_image->shared.mapped = mapped;
		if (!value && ops_of(domain)->iotlb_sync_map)
			ops_of(domain)->iotlb_sync_map(domain, b, d * e);
		break;
	}
	case OP_UNMAP:
		return ops_of(domain)->unmap_pages(domain, b, c, d, NULL);
	case OP_LOOKUP:
		return ops_of(domain)->iova_to_phys(domain, b);
	case OP_TYPE:
		return (u64)(s64)ops->def_domain_type(dev);
	case OP_CAPABLE:
		return ops->capable(dev, (enum iommu_cap)b);
	case OP_RESERVED:
		return hvm_reserved(dev);
	}
	return value;
}

/* `call` is the context in bits 0-7, the owner of allocations in 8-31, the thread group in 32-63. */
u64 hvm_call(u64 op, u64 call, u64 a, u64 b, u64 c, u64 d, u64 e, u64 f)
{
	struct hvm_image *image = hvm_image;
	struct hvm_shared *shared = &image->shared;
	sigjmp_buf *outer = image->entry;
	u32 depth = image->depth;
	char *stack = image->stack;
	u64 edges = image->edges;
	volatile u64 value = 0;
	int outcome;

	hvm->context = call & 0xff;
	hvm->owner = call >> 8 & 0xffffff;
	hvm->task.tgid = hvm->task.pid = (pid_t)(call >> 32);
	image->calls++;
	image->thread = pthread_self();
	image->allocs = 0;
	shared->mapped = 0;
	shared->unwind = 0;
	image->edges = 0;
	image->nsaid = 0;
	image->op = op;
	image->partition_known = false;
	image->overran = 0;
	image->replayed = image->replayed_pages = 0;
	image->free_run = false;
	if (image->recording)
		image->record->rows = image->record->npages = image->record->full = 0;
	if (depth == HVM_DEPTH)
		return 0;
	image->depth = depth + 1;
	outcome = sigsetjmp(image->entries[depth], 0);
	if (outcome == HVM_OK) {
		image->entry = &image->entries[depth];
		value = hvm_do(op, a, b, c, d, e, f);
	}
	image->entry = outer;
	image->depth = depth;
	image->stack = stack;
	image->edges = edges;
	hvm->context = 0;
	shared->ended = hvm_ended(outcome);
	if (image->second) {
		if (outcome != HVM_OK)
			image->second = NULL;
		else if (op != OP_INIT && hvm_parts(op, call, a, b, c, d, e, f, value))
			shared->ended |= HVM_PARTED;
	}
	return value;
}

/* After a call that left them so, as the world does it: on again, and nothing held. */
void hvm_balance(void)
{
	u32 i;

	for (i = 0; i < hvm->nlocks && i < 16; i++)
		hvm->locks[i]->held = 0;
	hvm->nlocks = 0;
	hvm->irqs_off = 0;
}

/* --- views ----------------------------------------------------------------------------------------------------------------- */

/* Up to eight bytes as a number; 0 where nothing is mapped would crash Python, so only what is the image's or the arena's. */
u64 hvm_read(u64 address, u64 size)
{
	u64 value = 0;
	bool known = (address >= (u64)hvm_image->arena && address + size <= (u64)hvm_image->arena + HVM_ARENA) ||
		     (address >= (u64)hvm_image->low && address + size <= (u64)hvm_image->high) ||
		     (address >= (u64)hvm && address + size <= (u64)(hvm + 1));

	if (known)
		memcpy(&value, (void *)address, size);
	return value;
}

u64 hvm_write(u64 address, u64 size, u64 value)
{
	memcpy((void *)address, &value, size);
	return 0;
}

/* The object that holds an address: its start, or 0; `state` says 1 alive, 2 freed. */
u64 hvm_holds(u64 address, u64 *size, u64 *state)
{
	struct hvm_object *object = hvm_object_of((void *)address);

	if (!object)
		return 0;
	*size = object->size;
	*state = object->freed ? 2 : 1;
	return (u64)(object + 1);
}

/* Live objects, of one owner or (~0) of all, as (address, size, owner); returns how many, writes at most `room`. */
u64 hvm_objects(u64 owner, u64 room, u64 (*out)[3])
{
	u64 at = 0, n = 0;

	while (at < hvm->used) {
		struct hvm_object *object = (struct hvm_object *)(hvm_image->arena + at);
		u64 grains = (object->size + HVM_GRAIN - 1) / HVM_GRAIN;

		if (!object->freed && (owner == ~0ULL || owner == object->owner)) {
			if (n < room) {
				out[n][0] = (u64)(object + 1);
				out[n][1] = object->size;
				out[n][2] = object->owner;
			}
			n++;
		}
		at += sizeof(*object) + (grains + 2) * HVM_GRAIN;
	}
	return n;
}

u64 hvm_has_ops(void)
{
	return hvm->ops != NULL;
}

/* Which ops there are, a bit for each in the order of enum hvm_op; the static domains through `domains`. */
u64 hvm_offers(u64 *domains)
{
	const struct iommu_ops *ops = hvm->ops;

	domains[0] = (u64)ops->identity_domain;
	domains[1] = (u64)ops->blocked_domain;
	domains[2] = (u64)ops->release_domain;
	return (u64)!!ops->release_device << OP_RELEASE | (u64)!!ops->probe_finalize << OP_FINALIZE |
	       (u64)!!ops->def_domain_type << OP_TYPE | (u64)!!ops->capable << OP_CAPABLE |
	       (u64)!!ops->domain_alloc_identity << OP_IDENTITY | (u64)!!ops->get_resv_regions << OP_RESERVED;
}

/* struct iommu_domain, for the core's copy: pgsize_bitmap, aperture_start, aperture_end, force_aperture */
void hvm_domain(u64 address, u64 *out)
{
	const struct iommu_domain *domain = (const struct iommu_domain *)address;

	out[0] = domain->pgsize_bitmap ? domain->pgsize_bitmap : hvm->ops ? hvm->ops->pgsize_bitmap : 0;
	out[1] = domain->geometry.aperture_start;
	out[2] = domain->geometry.aperture_end;
	out[3] = domain->geometry.force_aperture;
}
