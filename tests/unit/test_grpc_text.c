// SPDX-License-Identifier: Apache-2.0
/* The small languages of gRPC's headers. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <string.h>

#include "base/limits.h"
#include "net/grpc_text.h"

#include "base/banned.h"

static void test_timeout_parse(void **state)
{
	static const struct {
		const char *text;
		uint64_t ns; /* 0 = refused */
	} cases[] = {
		{"1n", 1},
		{"2u", 2000},
		{"3m", 3000000},
		{"4S", 4000000000ull},
		{"5M", 300000000000ull},
		{"6H", 21600000000000ull},
		{"99999999n", 99999999},
		{"99999999H", UINT64_MAX},
		{"00000001S", 1000000000ull},
		{"000000001S", 0},
		{"", 0},
		{"S", 0},
		{"1", 0},
		{"1s", 0},
		{"-1S", 0},
		{"1.5S", 0},
		{" 1S", 0},
		{"1S ", 0},
		{"1 S", 0},
	};
	uint64_t ns;

	(void)state;
	for (size_t i = 0; i < array_size(cases); i++) {
		int r = grpc_timeout_parse(str_of(cases[i].text), &ns);

		assert_int_equal(r, cases[i].ns ? 0 : -EINVAL);
		if (r == 0)
			assert_true(ns == cases[i].ns);
	}
	assert_int_equal(grpc_timeout_parse(STR("0S"), &ns), 0);
	assert_int_equal(ns, 0);
}

static void test_timeout_print(void **state)
{
	static const struct {
		uint64_t ns;
		const char *text;
	} cases[] = {
		{0, "0n"},
		{1, "1n"},
		{1500, "1500n"},
		{2000, "2u"},
		{5000000000ull, "5S"},
		{5500000000ull, "5500m"},
		{600000000000ull, "10M"},
		{3600000000000ull, "1H"},
		{123456789, "123456u"},
		{UINT64_MAX, "5124095H"},
	};
	char text[GRPC_TIMEOUT_TEXT_MAX];
	uint64_t back;

	(void)state;
	for (size_t i = 0; i < array_size(cases); i++) {
		grpc_timeout_print(cases[i].ns, text);
		assert_string_equal(text, cases[i].text);
		assert_int_equal(grpc_timeout_parse(str_of(text), &back), 0);
		assert_true(back <= cases[i].ns);
	}
}

static void assert_encoded(const char *plain, const char *encoded)
{
	auto_buf struct buf out = BUF_INIT;
	char back[128];

	assert_int_equal(grpc_percent_encode(str_of(plain), &out), 0);
	assert_int_equal(out.len, strlen(encoded));
	assert_memory_equal(out.data, encoded, out.len);
	grpc_percent_decode(str_of(encoded), back, sizeof(back));
	assert_string_equal(back, plain);
}

static void test_percent(void **state)
{
	char out[16];

	(void)state;
	assert_encoded("plain ~text", "plain ~text");
	assert_encoded("100%", "100%25");
	assert_encoded("a\n\x7f", "a%0A%7F");
	assert_encoded("\xe2\x82\xac", "%E2%82%AC");
	grpc_percent_decode(STR("%e2%82%ac %zz %4 %"), out, sizeof(out));
	assert_string_equal(out, "\xe2\x82\xac %zz %4 %");
	grpc_percent_decode(STR("a%00b"), out, sizeof(out)); /* no NUL in a text */
	assert_string_equal(out, "a%00b");
	grpc_percent_decode(STR("0123456789abcdefgh"), out, sizeof(out));
	assert_string_equal(out, "0123456789abcde");
}

static void test_percent_long(void **state)
{
	auto_buf struct buf out = BUF_INIT;
	char text[GRPC_ERROR_TEXT_MAX + 8];

	(void)state;
	memset(text, 'x', sizeof(text));
	memcpy(text + GRPC_ERROR_TEXT_MAX - 1, "\xe2\x82\xac", 3); /* would be cut in two */
	assert_int_equal(grpc_percent_encode((struct str){text, sizeof(text)}, &out), 0);
	assert_int_equal(out.len, GRPC_ERROR_TEXT_MAX - 1);
	out.len = 0;
	memset(text, 0x80, sizeof(text)); /* no UTF-8 at all */
	assert_int_equal(grpc_percent_encode((struct str){text, sizeof(text)}, &out), 0);
	assert_in_range(out.len, 3 * (GRPC_ERROR_TEXT_MAX - 4), 3 * GRPC_ERROR_TEXT_MAX);
}

static void test_content_type(void **state)
{
	(void)state;
	assert_true(grpc_content_type(STR("application/grpc")));
	assert_true(grpc_content_type(STR("application/grpc+proto")));
	assert_true(grpc_content_type(STR("application/grpc;charset=utf-8")));
	assert_false(grpc_content_type(STR("application/grpc-web")));
	assert_false(grpc_content_type(STR("application/grp")));
	assert_false(grpc_content_type(STR("")));
}

static void test_codes(void **state)
{
	(void)state;
	for (int c = GRPC_OK; c <= GRPC_UNAUTHENTICATED; c++) {
		assert_int_equal(grpc_code_parse(grpc_code_text((enum grpc_code)c)), c);
		assert_int_equal(grpc_code_errno((enum grpc_code)c) == 0, c == GRPC_OK);
	}
	assert_int_equal(grpc_code_parse(STR("17")), GRPC_UNKNOWN);
	assert_int_equal(grpc_code_parse(STR("x")), GRPC_UNKNOWN);
	assert_string_equal(grpc_code_name((enum grpc_code)99), "Unknown");
	assert_int_equal(grpc_code_of_http(STR("503")), GRPC_UNAVAILABLE);
	assert_int_equal(grpc_code_of_http(STR("404")), GRPC_UNIMPLEMENTED);
	assert_int_equal(grpc_code_of_http(STR("418")), GRPC_UNKNOWN);
	assert_int_equal(grpc_code_of_reset(7), GRPC_UNAVAILABLE);
	assert_int_equal(grpc_code_of_reset(8), GRPC_CANCELLED);
	assert_int_equal(grpc_code_of_reset(1), GRPC_INTERNAL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_timeout_parse), cmocka_unit_test(test_timeout_print),
		cmocka_unit_test(test_percent),       cmocka_unit_test(test_percent_long),
		cmocka_unit_test(test_content_type),  cmocka_unit_test(test_codes),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
