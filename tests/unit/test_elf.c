// SPDX-License-Identifier: Apache-2.0
/* ELF files: this very program, and what is broken in all its bytes; the loader's cache. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <elf.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "image/elf.h"

struct bytes {
	char *p;
	size_t n;
};

static struct bytes self, cache;
static struct elf e;

static void load(const char *path, struct bytes *ret)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	struct stat st;

	if (fd < 0)
		return; /* there is no cache everywhere */
	assert_int_equal(fstat(fd, &st), 0);
	ret->n = (size_t)st.st_size;
	ret->p = malloc(ret->n);
	assert_int_equal(read(fd, ret->p, ret->n), st.st_size);
	close(fd);
}

static int setup(void **state)
{
	(void)state;
	load("/proc/self/exe", &self);
	load("/etc/ld.so.cache", &cache);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	free(self.p);
	free(cache.p);
	return 0;
}

static int read_bytes(void *arg, uint64_t off, void *buf, size_t n)
{
	const struct bytes *b = arg;

	if (off > b->n || n > b->n - off)
		return -ENOEXEC;
	memcpy(buf, b->p + off, n);
	return 0;
}

static int read_elf(struct bytes *b)
{
	const struct elf_file file = {read_bytes, b};

	return elf_read(&file, &e);
}

static bool is_needed(const char *name)
{
	for (size_t i = 0; i < e.needed_n; i++) {
		if (strcmp(e.needed[i], name) == 0)
			return true;
	}
	return false;
}

static void test_self(void **state)
{
	bool first = false;

	(void)state;
	assert_int_equal(read_elf(&self), 0);
	assert_int_equal(access(e.interpreter, X_OK), 0);
	assert_true(is_needed("libc.so.6"));
	assert_true(is_needed("libcmocka.so.0"));
	assert_true(e.parts_n >= 2);
	for (size_t i = 0; i < e.parts_n; i++) {
		first = first || e.parts[i].off == 0;
		assert_true(e.parts[i].off + e.parts[i].len <= self.n);
	}
	assert_true(first);
}

static void test_others(void **state)
{
	char other[128] = "#!/bin/sh\n";
	struct bytes b = {other, sizeof(other)};

	(void)state;
	assert_int_equal(read_elf(&b), -ENOEXEC);
	memcpy(other, self.p, sizeof(other));
	other[EI_CLASS] = ELFCLASS32;
	assert_int_equal(read_elf(&b), -ENOEXEC);
	b.n = 20;
	assert_int_equal(read_elf(&b), -ENOEXEC);
}

/* Cut anywhere, any byte of the headers changed: an answer, and names that end. */
static void test_damage(void **state)
{
	struct bytes b = {malloc(self.n), self.n};

	(void)state;
	memcpy(b.p, self.p, self.n);
	for (size_t i = 0; i < 2048; i++) {
		b.p[i] ^= (char)(1 + i % 255);
		(void)read_elf(&b);
		assert_true(e.needed_n <= ELF_NEEDED_MAX && e.parts_n <= ELF_PARTS_MAX);
		assert_true(memchr(e.interpreter, '\0', sizeof(e.interpreter)) != NULL);
		b.p[i] = self.p[i];
	}
	for (b.n = 0; b.n < self.n; b.n += 1 + self.n / 500)
		(void)read_elf(&b);
	free(b.p);
}

static void test_cache(void **state)
{
	const char *path;
	uint32_t at = 0;
	bool found = false;

	(void)state;
	if (!cache.p)
		skip();
	while ((path = ld_cache_find(cache.p, cache.n, "libc.so.6", &at)))
		found = found || access(path, R_OK) == 0;
	assert_true(found);
	at = 0;
	assert_null(ld_cache_find(cache.p, cache.n, "no such library", &at));
	for (size_t n = 0; n < 4096 && n < cache.n; n++) {
		at = 0;
		path = ld_cache_find(cache.p, n, "libc.so.6", &at);
		assert_true(!path || (path > cache.p && path < cache.p + n));
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_self),
		cmocka_unit_test(test_others),
		cmocka_unit_test(test_damage),
		cmocka_unit_test(test_cache),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
