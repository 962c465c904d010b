// SPDX-License-Identifier: Apache-2.0
/* Commands of images: which words are taken from a config, and what is not one. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <string.h>

#include "base/buf.h"
#include "image/command.h"

static struct command c;
static struct arena a;

static int setup(void **state)
{
	(void)state;
	arena_init(&a, KiB(256));
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	arena_fini(&a);
	return 0;
}

/* The words, ' ' between. */
static void assert_words(const char *config, const char *words)
{
	auto_buf struct buf all = BUF_INIT;
	struct err err = ERR_INIT;

	assert_int_equal(command_parse(str_of(config), &a, &c, &err), 0);
	for (size_t i = 0; i < c.words_n; i++)
		assert_int_equal(buf_printf(&all, "%s" STR_FMT, i ? " " : "", STR_ARG(c.words[i])),
				 0);
	assert_int_equal(buf_append(&all, "", 1), 0);
	assert_string_equal((char *)all.data, words);
}

static void test_words(void **state)
{
	(void)state;
	assert_words(
		"{\"config\":{\"Entrypoint\":[\"/entry.sh\"],\"Cmd\":[\"redis-server\",\"--port\","
		"\"0\"]}}",
		"/entry.sh redis-server 0");
	assert_words("{\"config\":{\"Cmd\":[\"/bin/sh\",\"-c\",\"exec a -x | grep \\\"$HOME/b\\\" "
		     ">c;/d/e&&a\"]}}",
		     "/bin/sh exec a grep HOME/b c /d/e");
	assert_words("{\"config\":{\"Entrypoint\":null,\"Cmd\":[1,{},\"x\"]}}", "x");
	assert_words("{\"config\":{\"Cmd\":\"no list\"}}", "");
	assert_words("{\"config\":[]}", "");
	assert_words("{}", "");
}

static void test_path(void **state)
{
	(void)state;
	assert_words("{\"config\":{\"Env\":[\"A=b\",\"PATH=/x:/y\",7]}}", "");
	assert_true(str_eq(c.path, STR("/x:/y")));
	assert_words("{\"config\":{\"Env\":{}}}", "");
	assert_true(str_starts(c.path, STR("/usr/local/sbin:")));
}

static void test_many(void **state)
{
	auto_buf struct buf config = BUF_INIT;
	struct err err = ERR_INIT;

	(void)state;
	assert_int_equal(buf_printf(&config, "{\"config\":{\"Cmd\":[\"w\""), 0);
	for (int i = 0; i < 1000; i++)
		assert_int_equal(buf_printf(&config, ",\"w%d v%d\"", i, i), 0);
	assert_int_equal(buf_printf(&config, "]}}"), 0);
	assert_int_equal(command_parse((struct str){(char *)config.data, config.len}, &a, &c, &err),
			 0);
	assert_int_equal(c.words_n, COMMAND_WORDS_MAX);
}

static void test_damage(void **state)
{
	static const char *const bad[] = {"", "{", "nonsense", "{\"config\":{\"Cmd\":[\"x\"}}"};
	struct err err;

	(void)state;
	for (size_t i = 0; i < array_size(bad); i++) {
		err = ERR_INIT;
		assert_int_equal(command_parse(str_of(bad[i]), &a, &c, &err), -EINVAL);
		assert_non_null(strstr(err.text, "image config"));
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_words, setup, teardown),
		cmocka_unit_test_setup_teardown(test_path, setup, teardown),
		cmocka_unit_test_setup_teardown(test_many, setup, teardown),
		cmocka_unit_test_setup_teardown(test_damage, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
