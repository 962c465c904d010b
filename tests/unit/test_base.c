// SPDX-License-Identifier: Apache-2.0
/* base/: growing bytes, arenas with a cap, strings, UTF-8, lists, errors. Map and log: own files.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <fcntl.h>
#include <stdalign.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>

#include "base/arena.h"
#include "base/buf.h"
#include "base/err.h"
#include "base/limits.h"
#include "base/list.h"
#include "base/str.h"
#include "base/utf8.h"

/* Does fn end the process with an abort? */
static bool aborts(void (*fn)(void))
{
	pid_t pid = fork();
	int status;

	assert_true(pid >= 0);
	if (pid == 0) {
		struct rlimit none = {0, 0};
		int null = open("/dev/null", O_WRONLY);

		setrlimit(RLIMIT_CORE, &none);
		signal(SIGABRT, SIG_DFL);
		dup2(null, STDERR_FILENO);
		fn();
		_exit(0);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	return WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT;
}

static void test_buf_grows(void **state)
{
	struct buf b = BUF_INIT;

	(void)state;
	assert_int_equal(buf_append(&b, NULL, 0), 0);
	assert_int_equal(b.len, 0);
	for (int i = 0; i < 10000; i++) {
		assert_int_equal(buf_append(&b, &(uint8_t){(uint8_t)i}, 1), 0);
		assert_true(b.len <= b.cap && b.cap <= 2 * b.len + 256);
	}
	assert_int_equal(b.len, 10000);
	for (int i = 0; i < 10000; i++)
		assert_int_equal(b.data[i], i & 0xff);
	assert_int_equal(buf_reserve(&b, 100000), 0);
	assert_int_equal(b.len, 10000);
	assert_true(b.cap >= 110000);
	assert_int_equal(b.data[9999], 9999 & 0xff);
	buf_fini(&b);
	assert_null(b.data);
	assert_int_equal(b.len + b.cap, 0);
	buf_fini(&b);
}

static void test_buf_printf(void **state)
{
	auto_buf struct buf b = BUF_INIT;

	(void)state;
	assert_int_equal(buf_printf(&b, "%s", ""), 0);
	assert_int_equal(b.len, 0);
	assert_int_equal(buf_printf(&b, "%d-%s", 7, "x"), 0);
	assert_int_equal(buf_printf(&b, "%0500d", 1), 0);
	assert_int_equal(b.len, 503);
	assert_memory_equal(b.data, "7-x0000", 7);
	assert_int_equal(b.data[502], '1');
}

static void test_buf_too_large(void **state)
{
	auto_buf struct buf b = BUF_INIT;

	(void)state;
	assert_int_equal(buf_append(&b, "abc", 3), 0);
	assert_int_equal(buf_reserve(&b, SIZE_MAX), -ENOMEM);
	assert_int_equal(buf_reserve(&b, SIZE_MAX - 2), -ENOMEM);
	assert_int_equal(buf_reserve(&b, SIZE_MAX / 2 + 1), -ENOMEM);
	assert_int_equal(b.len, 3);
	assert_memory_equal(b.data, "abc", 3);
}

static void consume_too_much(void)
{
	struct buf b = BUF_INIT;

	if (buf_append(&b, "abc", 3) == 0)
		buf_consume(&b, 4);
}

static void test_buf_consume(void **state)
{
	auto_buf struct buf b = BUF_INIT;

	(void)state;
	buf_consume(&b, 0);
	assert_int_equal(buf_append(&b, "abcdef", 6), 0);
	buf_consume(&b, 2);
	assert_int_equal(b.len, 4);
	assert_memory_equal(b.data, "cdef", 4);
	buf_consume(&b, 4);
	assert_int_equal(b.len, 0);
	assert_true(aborts(consume_too_much));
}

static void test_arena_reset(void **state)
{
	auto_arena struct arena a;
	char *first;

	(void)state;
	arena_init(&a, KiB(64));
	arena_reset(&a);
	for (int round = 0; round < 100; round++) { /* the cap counts anew each time */
		for (int i = 0; i < 7; i++)
			assert_non_null(arena_alloc(&a, KiB(9)));
		assert_null(arena_alloc(&a, KiB(9)));
		arena_reset(&a);
	}
	first = arena_alloc(&a, 16);
	arena_reset(&a);
	assert_ptr_equal(arena_alloc(&a, 16), first); /* the same memory */
}

static void test_arena_is_aligned_and_apart(void **state)
{
	auto_arena struct arena a;
	unsigned char *p[300];

	(void)state;
	arena_init(&a, MiB(4));
	for (size_t i = 0; i < array_size(p); i++) {
		p[i] = arena_alloc(&a, i * 37);
		assert_non_null(p[i]);
		assert_int_equal((uintptr_t)p[i] % alignof(max_align_t), 0);
		memset(p[i], (int)i & 0xff, i * 37);
	}
	for (size_t i = 0; i < array_size(p); i++) {
		for (size_t j = 0; j < i * 37; j++)
			assert_int_equal(p[i][j], i & 0xff);
	}
}

static void test_arena_cap(void **state)
{
	auto_arena struct arena a;
	size_t n = 0;

	(void)state;
	arena_init(&a, 1000);
	assert_null(arena_alloc(&a, 1001));
	assert_null(arena_alloc(&a, SIZE_MAX));
	assert_null(arena_alloc(&a, SIZE_MAX - 7));
	assert_int_equal(a.used, 0);
	while (arena_alloc(&a, 1))
		n++;
	assert_true(n > 0 && n <= 1000);
	assert_true(a.used <= a.max);
	assert_null(arena_strndup(&a, "x", 1));
	assert_null(arena_printf(&a, "%d", 1));
	arena_fini(&a);
	assert_int_equal(a.used, 0);
	assert_non_null(arena_alloc(&a, 900)); /* the cap is there again */
	assert_null(arena_alloc(&a, 900));
}

/* All of the cap can be had, in one piece and in many. */
static void test_arena_up_to_the_cap(void **state)
{
	auto_arena struct arena a;

	(void)state;
	arena_init(&a, 8000);
	assert_non_null(arena_alloc(&a, 8000));
	assert_null(arena_alloc(&a, 1));
	arena_fini(&a);
	for (int i = 0; i < 8000 / 16; i++)
		assert_non_null(arena_alloc(&a, 16));
	assert_int_equal(a.used, 8000);
	assert_null(arena_alloc(&a, 1));
}

static void test_arena_none(void **state)
{
	auto_arena struct arena a;

	(void)state;
	arena_init(&a, 0);
	assert_null(arena_alloc(&a, 1));
	assert_null(arena_strndup(&a, "", 0));
	arena_fini(&a);
	arena_fini(&a);
}

/* Rounding a size up does not wrap around to a small one. */
static void test_arena_without_a_cap(void **state)
{
	auto_arena struct arena a;

	(void)state;
	arena_init(&a, SIZE_MAX);
	assert_null(arena_alloc(&a, SIZE_MAX));
	assert_null(arena_alloc(&a, SIZE_MAX - 20));
	assert_null(arena_strndup(&a, "x", SIZE_MAX));
	assert_non_null(arena_alloc(&a, 10));
}

static void test_arena_text(void **state)
{
	auto_arena struct arena a;
	char long_text[9001], *text;

	(void)state;
	arena_init(&a, MiB(1));
	memset(long_text, 'x', sizeof(long_text));
	long_text[9000] = 0;
	assert_string_equal(arena_strndup(&a, "abc", 2), "ab");
	assert_string_equal(arena_strndup(&a, NULL, 0), "");
	assert_memory_equal(arena_strndup(&a, "a\0b", 3), "a\0b", 4);
	assert_string_equal(arena_printf(&a, "%s-%d", "a", 5), "a-5");
	assert_string_equal(arena_printf(&a, "%s", ""), "");
	text = arena_printf(&a, "%016d", 1); /* its NUL has a place of its own */
	memset(arena_alloc(&a, 16), 'x', 16);
	assert_string_equal(text, "0000000000000001");
	assert_string_equal(arena_printf(&a, "%s", long_text), long_text);
}

static void test_str(void **state)
{
	struct str none = {NULL, 0};

	(void)state;
	assert_true(str_eq(STR(""), none));
	assert_true(str_eq(none, none));
	assert_true(str_eq(STR("a\0b"), STR("a\0b")));
	assert_false(str_eq(STR("a\0b"), STR("a\0c")));
	assert_false(str_eq(STR("ab"), STR("abc")));
	assert_true(str_starts(STR("abc"), STR("ab")));
	assert_true(str_starts(STR("abc"), none));
	assert_true(str_starts(none, none));
	assert_false(str_starts(STR("ab"), STR("abc")));
	assert_false(str_starts(STR("ab"), STR("b")));
	assert_int_equal(str_of(NULL).len, 0);
	assert_int_equal(str_of("abc").len, 3);
}

static void test_str_order(void **state)
{
	static const struct str sorted[] = {{"", 0},     {"\0", 1},   {"\0\0", 2}, {"a", 1},
					    {"a\0", 2},  {"aa", 2},   {"ab", 2},   {"b", 1},
					    {"\x7f", 1}, {"\x80", 1}, {"\xff", 1}};

	(void)state;
	for (size_t i = 0; i < array_size(sorted); i++) {
		for (size_t j = 0; j < array_size(sorted); j++) {
			int r = str_cmp(sorted[i], sorted[j]);

			assert_int_equal((r > 0) - (r < 0), (i > j) - (i < j));
		}
	}
	assert_int_equal(str_cmp((struct str){NULL, 0}, STR("")), 0);
}

static void test_str_u64(void **state)
{
	static const char *const bad[] = {"",   " 1", "1 ", "+1",  "-1",      "0x1",
					  "1a", "a1", ".",  "1_0", "\xd9\xa1"};
	uint64_t v = 77;

	(void)state;
	assert_int_equal(str_u64(STR("0"), &v), 0);
	assert_true(v == 0);
	assert_int_equal(str_u64(STR("000018446744073709551615"), &v), 0);
	assert_true(v == UINT64_MAX);
	assert_int_equal(str_u64((struct str){"1234", 2}, &v), 0);
	assert_true(v == 12);
	assert_int_equal(str_u64(STR("18446744073709551616"), &v), -ERANGE);
	assert_int_equal(str_u64(STR("99999999999999999999999"), &v), -ERANGE);
	for (size_t i = 0; i < array_size(bad); i++)
		assert_int_equal(str_u64(str_of(bad[i]), &v), -EINVAL);
	assert_int_equal(str_u64(STR("1\0"), &v), -EINVAL);
	assert_true(v == 12);
}

/* Every code point is written and read back; surrogates are refused. */
static void test_utf8_all(void **state)
{
	char out[UTF8_MAX];
	size_t n, width;

	(void)state;
	for (uint32_t c = 0; c <= 0x10ffff; c++) {
		bool surrogate = c >= 0xd800 && c <= 0xdfff;
		int32_t back;

		n = utf8_put(out, c);
		back = utf8_get((struct str){out, n}, 0, &width);
		if (back != (surrogate ? -1 : (int32_t)c) || width != (surrogate ? 1 : n) ||
		    str_utf8((struct str){out, n}) == surrogate)
			fail_msg("U+%04X", c);
		if (n > 1 && (utf8_get((struct str){out, n - 1}, 0, &width) != -1 || width != 1))
			fail_msg("U+%04X without its last byte", c);
	}
}

/* All sequences of up to three bytes: valid ones are those that utf8_put makes. */
static void test_utf8_short(void **state)
{
	char s[3], again[UTF8_MAX];
	size_t width;

	(void)state;
	for (uint32_t v = 0; v < 1u << 24; v++) {
		int32_t c;

		s[0] = (char)(v >> 16), s[1] = (char)(v >> 8), s[2] = (char)v;
		c = utf8_get((struct str){s, 3}, 0, &width);
		if (c < 0 ? width != 1
			  : utf8_put(again, (uint32_t)c) != width || memcmp(s, again, width) != 0)
			fail_msg("%06x", v);
		if (c < 0 && (unsigned char)s[0] < 0x80)
			fail_msg("%06x", v);
	}
}

static void test_utf8_bad(void **state)
{
	static const char *const bad[] = {
		"\x80",
		"\xbf",
		"\xc0\x80",
		"\xc1\xbf",
		"\xc2",
		"\xc2\x41",
		"\xe0\x80\x80",
		"\xe0\x9f\xbf",
		"\xed\xa0\x80",
		"\xef\xbf",
		"\xf0\x80\x80\x80",
		"\xf0\x8f\xbf\xbf",
		"\xf4\x90\x80\x80",
		"\xf5\x80\x80\x80",
		"\xf8\x88\x80\x80\x80",
		"\xfe",
		"\xff",
	};
	char text[16];

	(void)state;
	for (size_t i = 0; i < array_size(bad); i++) {
		assert_false(str_utf8(str_of(bad[i])));
		snprintf(text, sizeof(text), "a%sb", bad[i]);
		assert_false(str_utf8(str_of(text)));
	}
	assert_true(str_utf8((struct str){NULL, 0}));
	assert_true(str_utf8(STR("a\0é日😀\0a")));
	assert_false(str_utf8((struct str){"é", 1}));
}

static void test_str_quoted(void **state)
{
	char out[8];

	(void)state;
	assert_string_equal(str_quoted(STR("abc"), out, sizeof(out)), "\"abc\"");
	assert_string_equal(str_quoted(STR(""), out, 3), "\"\"");
	assert_string_equal(str_quoted(STR("a"), out, 3), "\"\"");
	assert_string_equal(str_quoted(STR("a\"\\"), out, sizeof(out)), "\"a\\\"\\\\\"");
	assert_string_equal(str_quoted(STR("abcde"), out, sizeof(out)), "\"abcde\"");
	assert_string_equal(str_quoted(STR("abcdef"), out, sizeof(out)), "\"abcde\"");
	/* never half of a pair */
	assert_string_equal(str_quoted(STR("abcd\""), out, sizeof(out)), "\"abcd\"");
}

struct item {
	int n;
	struct list link;
};

static void expect_list(struct list *head, const char *names)
{
	struct list *l, *tmp;
	char have[16] = "";
	size_t n = 0;

	list_for_each_safe (l, tmp, head)
		have[n++] = (char)container_of(l, struct item, link)->n;
	assert_string_equal(have, names);
	n = strlen(names);
	for (l = head->prev; l != head; l = l->prev)
		assert_int_equal(container_of(l, struct item, link)->n, names[--n]);
	assert_int_equal(n, 0);
}

static void test_list(void **state)
{
	struct item items[] = {{.n = 'a'}, {.n = 'b'}, {.n = 'c'}, {.n = 'd'}};
	struct list head, other; /* item.link */

	(void)state;
	list_init(&head);
	list_init(&other);
	assert_true(list_empty(&head));
	assert_null(list_pop(&head));
	for (int i = 0; i < 3; i++)
		list_push(&head, &items[i].link);
	expect_list(&head, "abc");
	list_del(&items[1].link);
	list_del(&items[1].link); /* does no harm */
	expect_list(&head, "ac");
	list_push(&other, &items[1].link);
	list_push(&other, &items[3].link);
	list_splice(&head, &other);
	expect_list(&head, "acbd");
	assert_true(list_empty(&other));
	list_splice(&head, &other);
	expect_list(&head, "acbd");
	list_splice(&other, &head);
	expect_list(&other, "acbd");
	assert_ptr_equal(list_pop(&other), &items[0].link);
	assert_true(list_empty(&items[0].link));
	expect_list(&other, "cbd");
}

static void test_list_loses_elements_on_the_way(void **state)
{
	struct item items[] = {{.n = 'a'}, {.n = 'b'}, {.n = 'c'}};
	struct list head, *l, *tmp; /* item.link */

	(void)state;
	list_init(&head);
	for (int i = 0; i < 3; i++)
		list_push(&head, &items[i].link);
	list_for_each_safe (l, tmp, &head) {
		if (container_of(l, struct item, link)->n != 'b')
			list_del(l);
	}
	expect_list(&head, "b");
}

static void set_no_code(void)
{
	err_set(NULL, 0, "x");
}

static void set_positive(void)
{
	struct err err = ERR_INIT;

	err_errno(&err, 5, "x");
}

static void test_err(void **state)
{
	struct err err = ERR_INIT;

	(void)state;
	assert_string_equal(err_text(&err, -ENOENT), "No such file or directory");
	assert_string_equal(err_text(NULL, -ENOENT), "No such file or directory");
	assert_string_equal(err_text(NULL, -9999), "unknown error");
	assert_int_equal(err_set(&err, -EEXIST, "%s %d", "key", 1), -EEXIST);
	assert_int_equal(err.code, -EEXIST);
	assert_string_equal(err_text(&err, -EEXIST), "key 1");
	assert_int_equal(err_wrap(&err, -EIO, "prepare %s", "x"), -EIO);
	assert_int_equal(err.code, -EIO);
	assert_string_equal(err.text, "prepare x: key 1");
	assert_int_equal(err_errno(&err, -ENOSPC, "write"), -ENOSPC);
	assert_string_equal(err.text, "write: No space left on device");
	err_errno(&err, -9999, "write");
	assert_string_equal(err.text, "write: unknown error");
	err = ERR_INIT;
	err_wrap(&err, -EPERM, "open");
	assert_string_equal(err.text, "open: Operation not permitted");
	assert_int_equal(err_set(NULL, -EIO, "x"), -EIO);
	assert_int_equal(err_errno(NULL, -EIO, "x"), -EIO);
	assert_int_equal(err_wrap(NULL, -EIO, "x"), -EIO);
	assert_true(aborts(set_no_code));
	assert_true(aborts(set_positive));
}

/* However long a text gets, it ends inside of struct err. */
static void test_err_is_cut(void **state)
{
	struct err err = ERR_INIT;
	char text[2 * ERR_TEXT_MAX];

	(void)state;
	memset(text, 'x', sizeof(text));
	text[sizeof(text) - 1] = 0;
	err_set(&err, -EIO, "%s", text);
	assert_int_equal(strlen(err.text), ERR_TEXT_MAX - 1);
	err_wrap(&err, -EIO, "head");
	assert_int_equal(strlen(err.text), ERR_TEXT_MAX - 1);
	assert_int_equal(strncmp(err.text, "head: xxx", 9), 0);
	err_wrap(&err, -EIO, "%s", text);
	assert_int_equal(strlen(err.text), ERR_TEXT_MAX - 1);
	err_errno(&err, -EIO, "%s", text);
	assert_int_equal(strlen(err.text), ERR_TEXT_MAX - 1);
	for (int i = 0; i < 300; i++)
		err_wrap(&err, -EIO, "%d", i);
	assert_int_equal(strncmp(err.text, "299: 298: ", 10), 0);
}

static void test_moves(void **state)
{
	char *p = strdup("x");
	auto_free char *q = take_ptr(p);
	int fd = 7;

	(void)state;
	assert_null(p);
	assert_string_equal(q, "x");
	assert_int_equal(take_fd(&fd), 7);
	assert_int_equal(fd, -1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_buf_grows),
		cmocka_unit_test(test_buf_printf),
		cmocka_unit_test(test_buf_too_large),
		cmocka_unit_test(test_buf_consume),
		cmocka_unit_test(test_arena_is_aligned_and_apart),
		cmocka_unit_test(test_arena_reset),
		cmocka_unit_test(test_arena_cap),
		cmocka_unit_test(test_arena_up_to_the_cap),
		cmocka_unit_test(test_arena_none),
		cmocka_unit_test(test_arena_without_a_cap),
		cmocka_unit_test(test_arena_text),
		cmocka_unit_test(test_str),
		cmocka_unit_test(test_str_order),
		cmocka_unit_test(test_str_u64),
		cmocka_unit_test(test_str_quoted),
		cmocka_unit_test(test_utf8_all),
		cmocka_unit_test(test_utf8_short),
		cmocka_unit_test(test_utf8_bad),
		cmocka_unit_test(test_list),
		cmocka_unit_test(test_list_loses_elements_on_the_way),
		cmocka_unit_test(test_err),
		cmocka_unit_test(test_err_is_cut),
		cmocka_unit_test(test_moves),
	};

	return cmocka_run_group_tests_name("base", tests, NULL, NULL);
}
