// SPDX-License-Identifier: Apache-2.0
/* Stored records: to bytes and back; what is damaged or newer is refused. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <string.h>

#include "base/limits.h"
#include "store/record.h"

static const struct label labels[] = {
	{{"a", 1}, {"1", 1}}, {{"b", 1}, {"", 0}}, {{"containerd.io/snapshot.ref", 26}, {"x", 1}}};

static struct record sample(void)
{
	return (struct record){.kind = SNAPSHOT_COMMITTED,
			       .id = 77,
			       .created_ns = -5,
			       .updated_ns = 9,
			       .size = 1 << 20,
			       .inodes = 3,
			       .parent = STR("default/1/p"),
			       .labels = labels,
			       .labels_n = 3};
}

static void test_round(void **state)
{
	struct record in = sample(), out;
	auto_buf struct buf b = BUF_INIT;
	auto_arena struct arena a;

	(void)state;
	arena_init(&a, KiB(64));
	assert_int_equal(record_encode(&in, &b), 0);
	assert_int_equal(record_decode((struct str){(char *)b.data, b.len}, &a, &out, NULL), 0);
	assert_int_equal(out.kind, SNAPSHOT_COMMITTED);
	assert_int_equal(out.id, 77);
	assert_int_equal(out.created_ns, -5);
	assert_int_equal(out.size, 1 << 20);
	assert_true(str_eq(out.parent, in.parent));
	assert_int_equal(out.labels_n, 3);
	assert_true(str_eq(out.labels[2].key, labels[2].key));
}

static void test_every_cut_is_refused(void **state)
{
	struct record in = sample(), out;
	auto_buf struct buf b = BUF_INIT;

	(void)state;
	assert_int_equal(record_encode(&in, &b), 0);
	for (size_t n = 0; n < b.len; n++) {
		auto_arena struct arena a;

		arena_init(&a, KiB(64));
		assert_int_equal(record_decode((struct str){(char *)b.data, n}, &a, &out, NULL),
				 -EBADMSG);
	}
}

static void test_newer_is_refused(void **state)
{
	struct record in = sample(), out;
	auto_buf struct buf b = BUF_INIT;
	auto_arena struct arena a;
	struct err err = ERR_INIT;

	(void)state;
	arena_init(&a, KiB(64));
	assert_int_equal(record_encode(&in, &b), 0);
	b.data[0] = SNAPSHOT_RECORD_VERSION + 1;
	assert_int_equal(record_decode((struct str){(char *)b.data, b.len}, &a, &out, &err),
			 -ENOTSUP);
	assert_non_null(strstr(err.text, "version"));
}

static void test_label_order_is_checked(void **state)
{
	const struct label twice[] = {{{"a", 1}, {"1", 1}}, {{"a", 1}, {"2", 1}}};
	struct record in = sample(), out;
	auto_buf struct buf b = BUF_INIT;
	auto_arena struct arena a;

	(void)state;
	in.labels = twice;
	in.labels_n = 2;
	arena_init(&a, KiB(64));
	assert_int_equal(record_encode(&in, &b), 0);
	assert_int_equal(record_decode((struct str){(char *)b.data, b.len}, &a, &out, NULL),
			 -EBADMSG);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_round),
		cmocka_unit_test(test_every_cut_is_refused),
		cmocka_unit_test(test_newer_is_refused),
		cmocka_unit_test(test_label_order_is_checked),
	};

	return cmocka_run_group_tests_name("record", tests, NULL, NULL);
}
