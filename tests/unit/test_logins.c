// SPDX-License-Identifier: Apache-2.0
/* Credentials in memory that outlives a worker: read as written, whatever is there. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

#include "base/err.h"
#include "image/logins.h"

static char seen[1 << 16];

static int collect(void *arg, const struct login_text *l)
{
	size_t n = strlen(seen);

	assert_null(arg);
	snprintf(seen + n, sizeof(seen) - n, "%s|%s|%s\n", l->ns.p, l->user.p, l->secret.p);
	return 0;
}

static int memory(off_t size)
{
	int fd = memfd_create("logins", MFD_CLOEXEC);

	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, size), 0);
	return fd;
}

static const char *read_back(int fd, int want)
{
	seen[0] = 0;
	assert_int_equal(logins_read(fd, collect, NULL), want);
	return seen;
}

/* Is the text anywhere in the file? */
static bool holds(int fd, const char *text)
{
	void *p = mmap(NULL, LOGINS_STATE_SIZE, PROT_READ, MAP_SHARED, fd, 0);
	bool found;

	assert_true(p != MAP_FAILED);
	found = memmem(p, LOGINS_STATE_SIZE, text, strlen(text)) != NULL;
	munmap(p, LOGINS_STATE_SIZE);
	return found;
}

static const struct login_text two[] = {{{"docker.io", 9}, {"me", 2}, {"sesame", 6}},
					{{"host:5000", 9}, {"", 0}, {"p:q", 3}}};

static void test_list(void **state)
{
	int fd = memory(LOGINS_STATE_SIZE);

	(void)state;
	assert_string_equal(read_back(fd, 0), "");
	for (int i = 0; i < 3; i++) {
		assert_int_equal(logins_write(fd, two, 2), 0);
		assert_string_equal(read_back(fd, 0), "docker.io|me|sesame\nhost:5000||p:q\n");
		assert_int_equal(logins_write(fd, two + 1, 1), 0);
		assert_string_equal(read_back(fd, 0), "host:5000||p:q\n");
		assert_false(holds(fd, "sesame"));
	}
	assert_int_equal(logins_write(fd, NULL, 0), 0);
	assert_string_equal(read_back(fd, 0), "");
	assert_false(holds(fd, "p:q"));
	close(fd);
}

static int stops(void *arg, const struct login_text *l)
{
	(void)l;
	return ++*(int *)arg == 1 ? -EDOM : 0;
}

static void test_stop(void **state)
{
	int fd = memory(LOGINS_STATE_SIZE), n = 0;

	(void)state;
	assert_int_equal(logins_write(fd, two, 2), 0);
	assert_int_equal(logins_read(fd, stops, &n), -EDOM);
	assert_int_equal(n, 1);
	close(fd);
}

static void test_full(void **state)
{
	static char secret[REGISTRY_LOGIN_BYTES_MAX];
	struct login_text list[REGISTRY_LOGINS_MAX + 1];
	int fd = memory(LOGINS_STATE_SIZE);

	(void)state;
	memset(secret, 's', sizeof(secret));
	for (size_t i = 0; i < array_size(list); i++)
		list[i] = (struct login_text){
			{"h", 1}, {"u", 1}, {secret, REGISTRY_LOGIN_BYTES_MAX - 5}};
	assert_int_equal(logins_write(fd, list, REGISTRY_LOGINS_MAX), 0);
	assert_int_equal(strlen(read_back(fd, 0)), sizeof(seen) - 1);
	assert_int_equal(logins_write(fd, list, REGISTRY_LOGINS_MAX + 1), -EINVAL);
	close(fd);
}

/* A worker that ends before the head is written leaves the list that was. */
static void test_torn(void **state)
{
	int fd = memory(LOGINS_STATE_SIZE);
	uint32_t head[2];

	(void)state;
	assert_int_equal(logins_write(fd, two, 2), 0);
	assert_int_equal(pread(fd, head, sizeof(head), 0), sizeof(head));
	assert_int_equal(logins_write(fd, two + 1, 1), 0);
	assert_int_equal(logins_write(fd, two, 2), 0);
	assert_int_equal(pwrite(fd, "half of som", 11,
				LOGINS_HEAD_BYTES + (head[1] & 1 ? 0 : LOGINS_HALF_BYTES)),
			 11);
	assert_string_equal(read_back(fd, 0), "docker.io|me|sesame\nhost:5000||p:q\n");
	close(fd);
}

static void test_damage(void **state)
{
	static const uint32_t heads[][2] = {
		{1, 0}, {0, 2}, {0x4c474e31, UINT32_MAX}, {0x4c474e31, LOGINS_HALF_BYTES * 2 + 2}};
	int fd = memory(LOGINS_STATE_SIZE), small = memory(4096);

	(void)state;
	for (size_t i = 0; i < array_size(heads); i++) {
		assert_int_equal(pwrite(fd, heads[i], 8, 0), 8);
		assert_string_equal(read_back(fd, -EBADMSG), "");
	}
	assert_int_equal(logins_write(fd, two, 2), 0); /* begins anew */
	assert_string_equal(read_back(fd, 0), "docker.io|me|sesame\nhost:5000||p:q\n");
	for (uint32_t n = 1; n < 34; n++) { /* cut anywhere but between two */
		uint32_t head[2] = {0x4c474e31, n << 1 | 1};

		assert_int_equal(pwrite(fd, head, 8, 0), 8);
		read_back(fd, n == 20 ? 0 : -EBADMSG);
	}
	assert_string_equal(read_back(small, -EINVAL), "");
	assert_int_equal(logins_write(small, two, 2), -EINVAL);
	assert_int_equal(logins_read(-1, collect, NULL), -EINVAL);
	close(small);
	close(fd);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_list),   cmocka_unit_test(test_stop),
		cmocka_unit_test(test_full),   cmocka_unit_test(test_torn),
		cmocka_unit_test(test_damage),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
