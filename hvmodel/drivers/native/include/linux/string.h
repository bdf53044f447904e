/* SPDX-License-Identifier: GPL-2.0-only */
/* Stand-in: what touches memory in bulk goes through the runtime, which checks it as it does single accesses. */
#ifndef HVM_LINUX_STRING_H
#define HVM_LINUX_STRING_H

#include <linux/types.h>

void *hvm_memset(void *to, int value, size_t size);
void *hvm_memcpy(void *to, const void *from, size_t size);
void *hvm_memmove(void *to, const void *from, size_t size);
int hvm_memcmp(const void *a, const void *b, size_t size);
size_t strlen(const char *text);
int strcmp(const char *a, const char *b);
int strncmp(const char *a, const char *b, size_t size);
char *strchr(const char *text, int letter);

#define memset(to, value, size) hvm_memset(to, value, size)
#define memcpy(to, from, size) hvm_memcpy(to, from, size)
#define memmove(to, from, size) hvm_memmove(to, from, size)
#define memcmp(a, b, size) hvm_memcmp(a, b, size)

#endif
