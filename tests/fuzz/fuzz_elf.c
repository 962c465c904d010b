// SPDX-License-Identifier: Apache-2.0
/* ELF files and the loader's cache: any bytes are read or refused, and all names end. */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "image/elf.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct bytes {
	const char *p;
	size_t n;
};

static int read_bytes(void *arg, uint64_t off, void *buf, size_t n)
{
	const struct bytes *b = arg;

	if (off > b->n || n > b->n - off)
		return -ENOEXEC;
	memcpy(buf, b->p + off, n);
	return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct elf e;
	char *copy = malloc(size + 1); /* its own memory, so that a byte too far is seen */
	struct bytes b = {copy, size};
	const struct elf_file file = {read_bytes, &b};
	const char *path;
	uint32_t at = 0;

	require(copy);
	if (size)
		memcpy(copy, data, size);
	if (elf_read(&file, &e) == 0) {
		require(memchr(e.interpreter, '\0', sizeof(e.interpreter)));
		require(memchr(e.runpath, '\0', sizeof(e.runpath)));
		for (size_t i = 0; i < e.needed_n; i++)
			require(memchr(e.needed[i], '\0', sizeof(e.needed[i])));
	}
	copy = realloc(copy, size ? size : 1);
	require(copy);
	while ((path = ld_cache_find(copy, size, "a", &at)))
		require(path >= copy && memchr(path, '\0', size - (size_t)(path - copy)));
	free(copy);
	return 0;
}
