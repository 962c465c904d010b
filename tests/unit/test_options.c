// SPDX-License-Identifier: Apache-2.0
/* Options of a command: right ones, wrong ones, and what --help says. */
#include "tool_fixture.h"

#include "base/limits.h"

// NOLINTBEGIN: the tools are no library
#include "../../tools/firstlight/out.c"
#undef environment
#include "../../tools/firstlight/options.c"
// NOLINTEND

#define ARGS_MAX 80

static bool json;
static const char *user;
static uint64_t count;
static struct option_list kinds;

static const struct option_spec specs[] = {
	{"user", 'u', OPTION_TEXT, &user, "USER[:SECRET]", "who asks"},
	{"count", 'c', OPTION_NUMBER, &count, "N", "end after N"},
	{"kind", 0, OPTION_LIST, &kinds, "KIND", "only such"},
	{"plain-http", 0, OPTION_FLAG, &json, NULL, "no TLS"},
	{"password-stdin", 0, OPTION_FLAG, &json, NULL, "from there"},
	OPTION_JSON(&json),
};

static const struct options options = {
	.command = "pull",
	.arguments = "REF",
	.text = "Pulls an image.",
	.specs = specs,
	.n = array_size(specs),
	.args_min = 1,
	.args_max = 1,
};

/* Splits at blanks; ~ is an empty word. GO becomes 0. */
static int parses(void *arg)
{
	auto_free char *line = strdup(arg);
	char *argv[ARGS_MAX + 2], *rest = line;
	int argc = 0, r;

	while (argc < ARGS_MAX && (argv[argc] = strsep(&rest, " ")))
		argc++;
	argv[argc] = NULL;
	for (int i = 0; i < argc; i++)
		argv[i][strcspn(argv[i], "~")] = 0;
	json = false;
	user = NULL;
	count = 0;
	kinds.n = 0;
	r = options_parse(&options, argc, argv);
	if (r != OPTIONS_GO)
		return r;
	printf("%d %s %llu %zu %s\n", json, user ? user : "-", (unsigned long long)count, kinds.n,
	       argv[optind]);
	return 0;
}

static void test_right(void **state)
{
	static const char *const cases[][2] = {
		{"pull a", "0 - 0 0 a\n"},
		{"pull -u me a", "0 me 0 0 a\n"},
		{"pull -ume a", "0 me 0 0 a\n"},
		{"pull a --user=me --json", "1 me 0 0 a\n"},
		{"pull --count 18446744073709551615 a", "0 - 18446744073709551615 0 a\n"},
		{"pull --kind x --kind y a", "0 - 0 2 a\n"},
		{"pull -- --user", "0 - 0 0 --user\n"},
		{"pull -u a -u b c", "0 b 0 0 c\n"}, /* the last one */
	};

	(void)state;
	for (size_t i = 0; i < array_size(cases); i++) {
		auto_printed struct printed p = printed_by(parses, (void *)(uintptr_t)cases[i][0]);

		assert_int_equal(p.status, 0);
		assert_string_equal(p.out, cases[i][1]);
		assert_string_equal(p.err, "");
	}
}

static void test_wrong(void **state)
{
	static const char *const cases[][2] = {
		{"pull", "REF is missing"},
		{"pull a b", "unexpected argument b"},
		{"pull --nonsense a", "no option --nonsense"},
		{"pull --nonsense=1 a", "no option --nonsense=1"},
		{"pull --p a", "no option --p"}, /* of two */
		{"pull -x a", "no option -x"},
		{"pull -xu a", "no option -x"},
		{"pull a -u", "-u needs a value"},
		{"pull a --user", "--user needs a value"},
		{"pull --json=yes a", "--json=yes takes no value"},
		{"pull --help=yes", "--help=yes takes no value"},
		{"pull --user= a", "--user is empty"},
		{"pull -u ~ a", "--user is empty"},
		{"pull --kind ~ a", "--kind is empty"},
		{"pull ~", "REF is empty"},
		{"pull --count 0 a", "--count 0: not a number of at least 1"},
		{"pull --count -1 a", "--count -1: not a number"},
		{"pull --count +1 a", "--count +1: not a number"},
		{"pull --count 1s a", "--count 1s: not a number"},
		{"pull --count 0x10 a", "--count 0x10: not a number"},
		{"pull --count 18446744073709551616 a", "--count 18446744073709551616: not"},
		{"pull --\033[2J a", "no option --\\x1b[2J"},
		{"pull --user\n a", "no option --user\\x0a"},
	};

	(void)state;
	for (size_t i = 0; i < array_size(cases); i++) {
		auto_printed struct printed p = printed_by(parses, (void *)(uintptr_t)cases[i][0]);

		assert_int_equal(p.status, 2);
		assert_string_equal(p.out, "");
		assert_int_equal(strncmp(p.err, "firstlight: pull: ", 18), 0);
		if (strncmp(p.err + 18, cases[i][1], strlen(cases[i][1])) != 0)
			assert_string_equal(p.err, cases[i][1]);
		assert_string_equal(strchr(p.err, '\n'), "\nhint: see firstlight pull --help\n");
	}
}

static void test_many(void **state)
{
	struct buf line = BUF_INIT;
	struct printed p;

	(void)state;
	assert_int_equal(buf_printf(&line, "pull a"), 0);
	for (int i = 0; i <= OPTION_LIST_MAX; i++)
		assert_int_equal(buf_printf(&line, " --kind=k"), 0);
	assert_int_equal(buf_append(&line, "", 1), 0);
	p = printed_by(parses, line.data);
	assert_int_equal(p.status, 2);
	assert_non_null(strstr(p.err, "--kind: more than 64\n"));
	printed_free(&p);
	line.len = 0;
	assert_int_equal(buf_printf(&line, "pull --"), 0);
	for (int i = 0; i < 100000; i++)
		assert_int_equal(buf_append(&line, "x", 1), 0);
	assert_int_equal(buf_append(&line, "", 1), 0);
	p = printed_by(parses, line.data);
	assert_int_equal(p.status, 2);
	assert_true(strcspn(p.err, "\n") < 5000);
	printed_free(&p);
	buf_fini(&line);
}

static void test_help(void **state)
{
	auto_printed struct printed p = printed_by(parses, "pull --nonsense=x --help");
	struct printed q = printed_by(parses, "pull -h nothing else");

	(void)state;
	assert_int_equal(p.status, 2); /* in the order that they stand in */
	assert_int_equal(q.status, 0);
	assert_string_equal(q.err, "");
	assert_int_equal(strncmp(q.out, "usage: firstlight pull [OPTION\xe2\x80\xa6] REF\n", 35),
			 0);
	assert_non_null(strstr(q.out, "\n  -u, --user USER[:SECRET]    who asks\n"));
	assert_non_null(strstr(q.out, "\n      --json                  print JSON\n"));
	assert_non_null(strstr(q.out, "\n  -h, --help "));
	printed_free(&q);
}

static void test_environment(void **state)
{
	(void)state;
	unsetenv("FIRSTLIGHT_ADDRESS");
	assert_string_equal(options_address(), ADDRESS_DEFAULT);
	setenv("FIRSTLIGHT_ADDRESS", "", 1);
	assert_string_equal(options_address(), ADDRESS_DEFAULT);
	setenv("FIRSTLIGHT_ADDRESS", "/s", 1);
	assert_string_equal(options_address(), "/s");
	unsetenv("CONTAINERD_NAMESPACE");
	assert_string_equal(options_namespace(), "default");
	setenv("CONTAINERD_NAMESPACE", "k8s.io", 1);
	assert_string_equal(options_namespace(), "k8s.io");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_right),       cmocka_unit_test(test_wrong),
		cmocka_unit_test(test_many),        cmocka_unit_test(test_help),
		cmocka_unit_test(test_environment),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
