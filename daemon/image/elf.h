/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the loader will want of a program or library: its interpreter, the libraries that it names,
 * and the parts that are read before the first instruction (ELF gABI, "Program Header", "Dynamic
 * Section"; 64 bits, this machine's byte order). Nothing is believed: a lie costs a useless fetch.
 */
#ifndef FIRSTLIGHT_IMAGE_ELF_H
#define FIRSTLIGHT_IMAGE_ELF_H

#include <stdint.h>

#include "base/err.h"
#include "base/limits.h"
#include "loop/task.h"

struct elf_range {
	uint64_t off, len;
};

struct elf {
	char interpreter[ELF_NAME_MAX]; /* empty = none */
	char runpath[ELF_NAME_MAX];     /* directories, ':' between; empty = none */
	char needed[ELF_NEEDED_MAX][ELF_NAME_MAX];
	size_t needed_n;
	struct elf_range parts[ELF_PARTS_MAX]; /* the symbols' segment and those to be relocated */
	size_t parts_n;
};

/* Reads n bytes at off: 0 or a negative code; beyond the end is an error. */
struct elf_file {
	may_suspend int (*read)(void *arg, uint64_t off, void *buf, size_t n);
	void *arg;
};

/* -ENOEXEC: not such a file, or a broken one; else what read answered. */
may_suspend int elf_read(const struct elf_file *file, struct elf *ret) must_check;

/*
 * The paths that /etc/ld.so.cache gives for a library (glibc 2.2 and later,
 * "glibc-ld.so.cache1.1"). The first is *at == 0; NULL: no more. What is answered ends in NUL
 * within cache.
 */
const char *ld_cache_find(const void *cache, size_t n, const char *name, uint32_t *at);

#endif
