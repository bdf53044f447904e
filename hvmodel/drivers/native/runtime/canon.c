// SPDX-License-Identifier: GPL-2.0-only
/*
 * One form for equal states: what the driver keeps, without the addresses at which its objects happen to lie.
 *
 * From the driver's variables, the devices and the domains that the core knows, every object that is pointed at gets a number in the
 * order in which it is met, and a pointer into it becomes that number and an offset (Iosif, "Symmetry Reduction Criteria for Software
 * Model Checking", SPIN 2002). A freed object that is still pointed at counts with what is in it. An object that is alive and that
 * nothing points at is only counted: it is missed in the end. The hypercall page does not count.
 */
#include "hvm.h"
#undef memset
#include <string.h>

#define HVM_CANON_POINTER (0xc0ULL << 56)

u64 hvm_canon_variable(u64 address, u64 size)
{
	if (hvm_image->nvariables == HVM_VARIABLES)
		return 0;
	hvm_image->variable[hvm_image->nvariables++] = (struct hvm_range){ address, size, 0 };
	return 1;
}

struct canon {
	u64 *out, room, n;
	u64 met; /* objects that have a number */
};

static void canon_put(struct canon *c, u64 word)
{
	if (c->n < c->room)
		c->out[c->n++] = word;
}

static u32 *canon_number(const struct hvm_object *object)
{
	return &hvm_image->numbers[((char *)(object + 1) - hvm_image->arena) / HVM_GRAIN];
}

static void canon_word(struct canon *c, u64 word)
{
	u64 at = word - (u64)hvm_image->arena;
	struct hvm_object *object = at < hvm->used ? hvm_object_of((void *)word) : NULL;
	u32 *number;

	if (!object) {
		canon_put(c, word);
		return;
	}
	number = canon_number(object);
	if (!*number) {
		if (c->met == HVM_CANON_OBJECTS) { /* not by number, then: states that are equal may look different */
			canon_put(c, word);
			return;
		}
		hvm_image->met[c->met] = object;
		*number = ++c->met;
	}
	canon_put(c, HVM_CANON_POINTER | (u64)*number << 32 | (u32)(word - (u64)(object + 1)));
}

static void canon_bytes(struct canon *c, const char *from, u64 size)
{
	u64 word;

	for (; size >= 8 && !((u64)from & 7); from += 8, size -= 8) {
		memcpy(&word, from, 8);
		canon_word(c, word);
	}
	for (; size; from++, size--)
		canon_put(c, (u8)*from);
}

/* Fills `out` with the form, returns its words. `roots` are addresses that the core knows, in an order that means something. The first word
   counts the last ones, which say of each object whom it belongs to (by its number in Python's list). */
u64 hvm_canon(const u64 *roots, u64 nroots, u64 *out, u64 room)
{
	struct canon c = { .out = out, .room = room };
	struct hvm_object *object;
	u64 i, lost = 0;
	char *at;

	canon_put(&c, 0);
	for (i = 0; i < nroots; i++)
		canon_word(&c, roots[i]);
	for (i = 0; i < hvm_image->nvariables; i++)
		canon_bytes(&c, (char *)hvm_image->variable[i].from, hvm_image->variable[i].size);
	canon_bytes(&c, (char *)hvm->devices, hvm->ndevices * sizeof(*hvm->devices));
	canon_put(&c, (u64)hvm->irqs_off << 32 | hvm->nlocks);
	for (i = 0; i < hvm->ntold && i < ARRAY_SIZE(hvm->told); i++)
		canon_put(&c, hvm->told[i]);
	for (i = 0; i < c.met; i++) {
		object = hvm_image->met[i];
		canon_put(&c, object->size << 1 | !!object->freed);
		canon_bytes(&c, (char *)(object + 1), object->size);
	}
	for (i = 0; i < c.met; i++)
		canon_put(&c, hvm_image->met[i]->freed ? 0 : hvm_image->met[i]->owner);
	for (at = hvm_image->arena; at < hvm_image->arena + hvm->used; at += sizeof(*object) + ((object->size + HVM_GRAIN - 1) / HVM_GRAIN + 2) * HVM_GRAIN) {
		object = (struct hvm_object *)at;
		if (object->freed || *canon_number(object))
			continue;
		canon_put(&c, object->owner);
		lost++;
	}
	for (i = 0; i < c.met; i++)
		*canon_number(hvm_image->met[i]) = 0;
	if (c.n == room)
		return 0;
	out[0] = c.met + lost;
	return c.n;
}
