// SPDX-License-Identifier: GPL-2.0-only
/*
 * Python's way in and out, without ctypes in between: functions of the interpreter come by address (its headers are not needed), and
 * what is called often is a built-in function of Python's. All of them are of CPython's stable ABI.
 */
#include "hvm.h"

typedef struct hvm_py PyObject;

struct hvm_method { /* PyMethodDef */
	const char *name;
	PyObject *(*run)(PyObject *self, PyObject *const *args, long n);
	int flags;
	const char *doc;
};

#define METH_FASTCALL 0x80

static const struct hvm_python *python(void)
{
	return &hvm_image->python;
}

static u64 hvm_number(PyObject *object)
{
	return python()->as_number(object);
}

/* Call Python; 0 with `unwind` set if an exception comes out of it, which goes on when the call has ended. */
static u64 hvm_python_call(PyObject *function, PyObject **args, u64 n)
{
	PyObject *answer = python()->vectorcall(function, args, n, NULL);
	u64 value = 0, i;

	for (i = 0; i < n; i++)
		python()->decref(args[i]);
	if (!answer) {
		hvm_image->shared.unwind = 1;
		return 0;
	}
	value = hvm_number(answer);
	python()->decref(answer);
	if (value == ~0ULL && python()->occurred()) /* no number */
		hvm_image->shared.unwind = 1;
	return value;
}

u64 hvm_python_door(u64 control, u64 round, u64 where)
{
	PyObject *args[] = { python()->number(control), python()->number(round), python()->number(where) };

	return hvm_python_call(python()->door, args, 3);
}

u64 hvm_python_service(u64 service, u64 a, u64 b, u64 where, const char *text)
{
	PyObject *args[] = { python()->number(service), python()->number(a), python()->number(b), python()->number(where),
			     python()->text(text ? text : "", text ? (long)__builtin_strlen(text) : 0, "replace") };

	return hvm_python_call(python()->service, args, 5);
}

/* call(op, context, ...): what hvm_call() returns */
static PyObject *hvm_py_call(PyObject *self, PyObject *const *args, long n)
{
	u64 a[8] = { 0 }, value;
	long i;

	(void)self;
	for (i = 0; i < n && i < 8; i++)
		a[i] = hvm_number(args[i]);
	value = hvm_call(a[0], a[1], a[2], a[3], a[4], a[5], a[6], a[7]);
	if ((hvm_image->shared.ended & 0x7f) == HVM_UNWOUND && python()->occurred())
		return NULL;
	return python()->number(value);
}

/* The function of the runtime whose address `self` is; numbers in, a number out. */
static PyObject *hvm_py_plain(PyObject *self, PyObject *const *args, long n)
{
	u64 a[8] = { 0 };
	long i;

	for (i = 0; i < n && i < 8; i++)
		a[i] = hvm_number(args[i]);
	return python()->number(
		((u64 (*)(u64, u64, u64, u64, u64, u64, u64, u64))hvm_number(self))(a[0], a[1], a[2], a[3], a[4], a[5], a[6], a[7]));
}

/* A function of the runtime as a built-in one. */
PyObject *hvm_plain(PyObject *address)
{
	static struct hvm_method method = { "plain", hvm_py_plain, METH_FASTCALL, NULL };

	return python()->builtin(&method, address, NULL);
}

static PyObject *hvm_py_numbers(const u64 *numbers, u64 n)
{
	PyObject *tuple = python()->tuple((long)n);
	u64 i;

	for (i = 0; tuple && i < n; i++)
		python()->put(tuple, (long)i, python()->number(numbers[i]));
	return tuple;
}

/* search(root, start, last, after, more): up to HVM_FOUND nodes, four numbers each, in one tuple */
static PyObject *hvm_py_search(PyObject *self, PyObject *const *args, long n)
{
	static u64 rows[HVM_FOUND][4];
	u64 found;

	(void)self, (void)n;
	found = hvm_tree_list((struct rb_root_cached *)hvm_number(args[0]), hvm_number(args[1]), hvm_number(args[2]),
			      (struct interval_tree_node *)hvm_number(args[3]), hvm_number(args[4]), HVM_FOUND, rows);
	return hvm_py_numbers(rows[0], 4 * found);
}

/* domain(address): what the core reads of a struct iommu_domain */
static PyObject *hvm_py_domain(PyObject *self, PyObject *const *args, long n)
{
	u64 row[4];

	(void)self, (void)n;
	hvm_domain(hvm_number(args[0]), row);
	return hvm_py_numbers(row, 4);
}

/* holds(address): start, size in bytes and state (hvm_holds()) of the object that holds an address; zeros if there is none */
static PyObject *hvm_py_holds(PyObject *self, PyObject *const *args, long n)
{
	u64 row[3] = { 0 };

	(void)self, (void)n;
	row[0] = hvm_holds(hvm_number(args[0]), &row[1], &row[2]);
	return hvm_py_numbers(row, 3);
}

/* save(): the state below the driver */
static PyObject *hvm_py_save(PyObject *self, PyObject *const *args, long n)
{
	PyObject *bytes = python()->bytes(NULL, (long)hvm_state_size());

	(void)self, (void)args, (void)n;
	if (bytes)
		hvm_save(python()->inside(bytes));
	return bytes;
}

/* form(roots...): what the driver keeps, without addresses (canon.c); nothing if there is no room for it */
static PyObject *hvm_py_form(PyObject *self, PyObject *const *args, long n)
{
	u64 roots[64], words;
	PyObject *bytes;
	long i;

	(void)self;
	for (i = 0; i < n && i < 64; i++)
		roots[i] = hvm_number(args[i]);
	words = hvm_canon(roots, i, hvm_image->form, HVM_CANON_ROOM);
	bytes = python()->bytes(NULL, (long)(8 * words));
	if (bytes)
		memcpy(python()->inside(bytes), hvm_image->form, 8 * words);
	return bytes;
}

/* Built-in function `which`, a new reference. */
PyObject *hvm_builtin(u64 which)
{
	static struct hvm_method methods[] = {
		{ "call", hvm_py_call, METH_FASTCALL, NULL },
		{ "search", hvm_py_search, METH_FASTCALL, NULL },
		{ "domain", hvm_py_domain, METH_FASTCALL, NULL },
		{ "save", hvm_py_save, METH_FASTCALL, NULL },
		{ "holds", hvm_py_holds, METH_FASTCALL, NULL },
		{ "form", hvm_py_form, METH_FASTCALL, NULL },
	};

	return python()->builtin(&methods[which], NULL, NULL);
}
