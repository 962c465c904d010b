// SPDX-License-Identifier: Apache-2.0
/* What commands print: words from outside, numbers, tables, JSON. */
#include "tool_fixture.h"

#include "base/json.h"
#include "base/limits.h"

// NOLINTBEGIN: the tools are no library
#include "../../tools/firstlight/out.c"
#include "../../tools/firstlight/out_json.c"
#undef DIGEST_HEX
#define measure table_measure
#define flush   table_flush
#include "../../tools/firstlight/out_table.c"
#undef measure
#undef flush
// NOLINTEND

#define HEX64 "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

/* --- words ------------------------------------------------------------------------------------ */

static void test_words(void **state)
{
	static const struct {
		const char *in, *out;
		bool cut;
	} cases[] = {
		{"", "", false},
		{"redis:7", "redis:7", false},
		{"a\033[2Jb\a\r\n\t\x7f", "a\\x1b[2Jb\\x07\\x0d\\x0a\\x09\\x7f", false},
		{"\xc2\x9b"
		 "31m",
		 "\\u{9b}31m", false}, /* CSI in one byte of Latin-1 */
		{"\xff\xc0\xaf\xed\xa0\x80", "\\xff\\xc0\\xaf\\xed\\xa0\\x80", false},
		{"caf\xc3", "caf\\xc3", false},
		{"caf\xc3\xa9", "caf\xc3\xa9", false},
		{"\xe2\x80\xaegnp.exe", "\\u{202e}gnp.exe", false}, /* right to left */
		{"\xe2\x80\xa8", "\\u{2028}", false},
		{"sha256:" HEX64, "sha256:0123456789ab", true},
		{"sha256:" HEX64, "sha256:" HEX64, false},
		{HEX64 "0", HEX64 "0", true}, /* no digest */
		{HEX64 "-" HEX64, "0123456789ab-0123456789ab", true},
	};

	(void)state;
	for (size_t i = 0; i < array_size(cases); i++) {
		auto_free char *word = out_word(cases[i].in, cases[i].cut);

		assert_string_equal(word, cases[i].out);
	}
}

static void test_columns(void **state)
{
	(void)state;
	assert_int_equal(out_columns("", 0), 0);
	assert_int_equal(out_columns("abc", 3), 3);
	assert_int_equal(out_columns("\xc3\xa9", 2), 1);
	assert_int_equal(out_columns("\xe6\x97\xa5\xe6\x9c\xac", 6), 4); /* two wide ones */
	assert_int_equal(out_columns("e\xcc\x81", 3), 1);                /* an accent on its own */
}

static void test_numbers(void **state)
{
	char b[OUT_NUMBER_MAX];

	(void)state;
	assert_string_equal(out_size(0, b), "0 B");
	assert_string_equal(out_size(1023, b), "1023 B");
	assert_string_equal(out_size(1024, b), "1.0 KiB");
	assert_string_equal(out_size(1024 * 1024 - 1, b), "1023 KiB");
	assert_string_equal(out_size(UINT64_MAX, b), "15 EiB");
	assert_string_equal(out_duration(999, b), "999 ms");
	assert_string_equal(out_duration(59999, b), "59.9 s");
	assert_string_equal(out_duration(60000, b), "1 m 00 s");
	assert_string_equal(out_duration(86399999, b), "23 h 59 m");
	assert_true(strlen(out_duration(UINT64_MAX, b)) < OUT_NUMBER_MAX - 1);
	assert_string_equal(out_percent(999, 1000, b), "99 %");
	assert_string_equal(out_percent(7, 0, b), "-");
	assert_string_equal(out_percent(9, 3, b), "100 %");
	assert_string_equal(out_percent(UINT64_MAX - 1, UINT64_MAX, b), "99 %");
	assert_string_equal(out_time(0, b), "1970-01-01T00:00:00Z");
	assert_string_equal(out_time(253402300799, b), "9999-12-31T23:59:59Z");
	assert_string_equal(out_time(253402300800, b), "-");
	assert_string_equal(out_time(INT64_MIN, b), "-");
	assert_string_equal(out_time(INT64_MAX, b), "-");
}

/* --- failures --------------------------------------------------------------------------------- */

static int fails(void *arg)
{
	out_fail("pull", "%s", (char *)arg);
	out_hint("%s", (char *)arg);
	return out_misuse(NULL, "%s", (char *)arg);
}

static void test_failures(void **state)
{
	char *huge = calloc(1, 100000);
	const char *line;
	struct printed p = printed_by(fails, "two\nlines\033[H");

	(void)state;
	assert_int_equal(p.status, 2);
	assert_string_equal(p.out, "");
	assert_string_equal(p.err, "firstlight: pull: two\\x0alines\\x1b[H\n"
				   "hint: two\\x0alines\\x1b[H\n"
				   "firstlight: two\\x0alines\\x1b[H\n"
				   "hint: see firstlight --help\n");
	printed_free(&p);
	memset(huge, 'x', 99999);
	p = printed_by(fails, huge);
	line = strchr(p.err, '\n');
	assert_true(line && line - p.err <= LINE_MAX_BYTES + 20);
	printed_free(&p);
	free(huge);
}

static int fills_the_disk(void *arg)
{
	int full = open("/dev/full", O_WRONLY);

	dup2(full, STDOUT_FILENO);
	for (int i = 0; i < 3000; i++)
		puts((char *)arg);
	return out_done("images");
}

static void test_output_is_lost(void **state)
{
	auto_printed struct printed p = printed_by(fills_the_disk, "a line");

	(void)state;
	assert_int_equal(p.status, 1);
	assert_non_null(strstr(p.err, "firstlight: images: write the output: "));
	assert_int_equal(strcspn(p.err, "\n"), strlen(p.err) - 1);
}

/* --- tables ----------------------------------------------------------------------------------- */

static const struct out_column columns[] = {
	{"IMAGE", OUT_GIVES}, {"SIZE", OUT_RIGHT}, {"STATE", 0}};

struct table {
	const char *width; /* $COLUMNS */
	bool cut;
	const char *name;
	size_t rows;
};

static int tells(void *arg)
{
	const struct table *t = arg;
	struct out_table *table;

	setenv("COLUMNS", t->width, 1);
	table = out_table_new(columns, array_size(columns), t->cut);
	for (size_t i = 0; i < t->rows; i++) {
		out_cell(table, t->name);
		out_cellf(table, "%zu", i);
		out_cell(table, "ok");
	}
	out_table_end(table);
	return out_done(NULL);
}

/* The widest line; *ret_n: how many. */
static size_t widest(const char *s, size_t *ret_n)
{
	size_t most = 0, len, w;

	for (*ret_n = 0; *s; s += len + 1, ++*ret_n) {
		len = strcspn(s, "\n");
		assert_int_equal(s[len], '\n');
		w = out_columns(s, len);
		most = w > most ? w : most;
	}
	return most;
}

static void test_tables_fit(void **state)
{
	static const char *const names[] = {
		"short",
		"registry.example.org/a/very/long/path/of/an/image/that/no/terminal/can/show:1.2.3",
		"\xe6\x97\xa5\xe6\x9c\xac\xe6\x97\xa5\xe6\x9c\xac\xe6\x97\xa5\xe6\x9c\xac\xe6\x97"
		"\xa5\xe6\x9c\xac\xe6\x97\xa5\xe6\x9c\xac\xe6\x97\xa5\xe6\x9c\xac\xe6\x97\xa5\xe6"
		"\x9c\xac\xe6\x97\xa5\xe6\x9c\xac\xe6\x97\xa5\xe6\x9c\xac\xe6\x97\xa5\xe6\x9c\xac"
		"\xe6\x97\xa5\xe6\x9c\xac\xe6\x97\xa5\xe6\x9c\xac\xe6\x97\xa5\xe6\x9c\xac\xe6\x97",
		"\033[31m\033[31m\033[31m\033[31m\033[31m\033[31m\033[31m\033[31m\033[31m\033[31m",
		"",
	};
	static const char *const widths[] = {"80", "40", "27", "132"};

	(void)state;
	for (size_t i = 0; i < array_size(names); i++) {
		for (size_t w = 0; w < array_size(widths); w++) {
			struct table t = {widths[w], true, names[i], 3};
			auto_printed struct printed p = printed_by(tells, &t);
			size_t n;

			assert_true(widest(p.out, &n) <= strtoul(widths[w], NULL, 10));
			assert_int_equal(n, 4);
			assert_null(strchr(p.out, '\033'));
		}
	}
}

static void test_table_text(void **state)
{
	struct table t = {"30", true, "registry.example.org/some/image:1", 1};
	struct printed p = printed_by(tells, &t);

	(void)state;
	assert_string_equal(p.out, "IMAGE              SIZE  STATE\n"
				   "registry\xe2\x80\xa6"
				   "/image:1     0  ok\n");
	printed_free(&p);
	t.cut = false;
	p = printed_by(tells, &t);
	assert_non_null(strstr(p.out, "registry.example.org/some/image:1     0  ok\n"));
	printed_free(&p);
	t.rows = 0;
	p = printed_by(tells, &t);
	assert_string_equal(p.out, "IMAGE  SIZE  STATE\n");
	printed_free(&p);
}

static void test_table_memory(void **state)
{
	struct table few = {"80", true, "x", 1}, many = {"80", true, "x", 300000};
	auto_printed struct printed a = printed_by(tells, &few), b = printed_by(tells, &many);

	(void)state;
	assert_int_equal(b.status, 0);
#ifndef __SANITIZE_ADDRESS__                        /* which takes memory of its own */
	assert_true(b.rss_kib - a.rss_kib < 50000); /* what is printed lies in memory, too */
#endif
	assert_int_equal(strncmp(b.out, "IMAGE  SIZE  STATE\n", 19), 0);
	assert_null(strstr(b.out + 1, "IMAGE"));
}

static int tells_facts(void *arg)
{
	struct out_table *t = out_facts_new(true);

	setenv("COLUMNS", "40", 1);
	out_fact(t, "root", "%s", (char *)arg);
	out_fact(t, "uptime", "%d s", 7);
	out_table_end(t);
	return 0;
}

static void test_facts(void **state)
{
	auto_printed struct printed p =
		printed_by(tells_facts, "/var/lib/a/directory/with/a/long/name/indeed/very/long");
	size_t n;

	(void)state;
	assert_true(widest(p.out, &n) <= 40);
	assert_non_null(strstr(p.out, "\nuptime  7 s\n"));
}

/* --- JSON ------------------------------------------------------------------------------------- */

static int writes_text(void *arg)
{
	struct out_json j = OUT_JSON_INIT;

	out_json_open(&j, NULL, '[');
	out_json_text(&j, NULL, arg);
	out_json_close(&j, ']');
	return 0;
}

static void test_json_text(void **state)
{
	static const struct {
		const char *in, *out;
	} cases[] = {
		{"", "[\"\"]\n"},
		{NULL, "[null]\n"},
		{"a\"b\\c/", "[\"a\\\"b\\\\c/\"]\n"},
		{"\x01\x1f\n\x7f\xc2\x9b", "[\"\\u0001\\u001f\\u000a\\u007f\\u009b\"]\n"},
		{"\xff"
		 "a\xc3",
		 "[\"\\ufffda\\ufffd\"]\n"},
		{"\xed\xa0\x80", "[\"\\ufffd\\ufffd\\ufffd\"]\n"}, /* half a surrogate pair */
		{"\xf0\x9f\x98\x80", "[\"\xf0\x9f\x98\x80\"]\n"},
	};

	(void)state;
	for (size_t i = 0; i < array_size(cases); i++) {
		auto_printed struct printed p =
			printed_by(writes_text, (void *)(uintptr_t)cases[i].in);

		assert_string_equal(p.out, cases[i].out);
	}
}

/* Every byte, every pair of bytes, in one text: what is written can be read. */
static void test_json_is_read(void **state)
{
	auto_free char *all = malloc(256 * 256 * 2 + 1);
	auto_arena struct arena a;
	struct printed p;
	struct json *tree;
	size_t n = 0;

	(void)state;
	arena_init(&a, 64 << 20);
	assert_non_null(all);
	for (unsigned i = 1; i < 256; i++) {
		for (unsigned k = 1; k < 256; k++) {
			all[n++] = (char)i;
			all[n++] = (char)k;
		}
	}
	all[n] = 0;
	p = printed_by(writes_text, all);
	assert_int_equal(json_tree(str_of(p.out), &a, &tree, NULL), 0);
	assert_int_equal(tree->type, JSON_LIST);
	printed_free(&p);
}

static int writes_all(void *arg)
{
	struct out_json j = OUT_JSON_INIT;

	(void)arg;
	out_json_open(&j, NULL, '{');
	out_json_uint(&j, "u", UINT64_MAX);
	out_json_int(&j, "i", INT64_MIN);
	out_json_bool(&j, "b", true);
	out_json_time(&j, "t", 1, 5);
	out_json_time(&j, "odd", 1, -5);
	out_json_time(&j, "never", INT64_MAX, 0);
	out_json_open(&j, "l", '[');
	out_json_open(&j, NULL, '{');
	out_json_close(&j, '}');
	out_json_uint(&j, NULL, 1);
	out_json_close(&j, ']');
	out_json_text(&j, "a\nkey", "v");
	out_json_close(&j, '}');
	out_json_open(&j, NULL, '{');
	out_json_close(&j, '}');
	return 0;
}

static void test_json(void **state)
{
	auto_printed struct printed p = printed_by(writes_all, NULL);

	(void)state;
	assert_string_equal(p.out,
			    "{\"u\":18446744073709551615,\"i\":-9223372036854775808,\"b\":true,"
			    "\"t\":\"1970-01-01T00:00:01.000000005Z\","
			    "\"odd\":\"1970-01-01T00:00:01.000000000Z\",\"never\":null,"
			    "\"l\":[{},1],\"a\\u000akey\":\"v\"}\n{}\n");
}

static int ends(void *arg)
{
	struct out_json j = OUT_JSON_INIT;
	const char *brackets = arg;

	for (size_t i = 0; brackets[i]; i++)
		out_json_open(&j, i && brackets[i - 1] == '{' ? "k" : NULL, brackets[i]);
	out_json_end(&j);
	return 0;
}

static void test_json_end(void **state)
{
	static const char *const cases[][2] = {
		{"", ""}, {"[", "[]\n"}, {"[{[", "[{\"k\":[]}]\n"}, {"{{", "{\"k\":{}}\n"}};

	(void)state;
	for (size_t i = 0; i < array_size(cases); i++) {
		auto_printed struct printed p = printed_by(ends, (void *)(uintptr_t)cases[i][0]);

		assert_string_equal(p.out, cases[i][1]);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_words),          cmocka_unit_test(test_columns),
		cmocka_unit_test(test_numbers),        cmocka_unit_test(test_failures),
		cmocka_unit_test(test_output_is_lost), cmocka_unit_test(test_tables_fit),
		cmocka_unit_test(test_table_text),     cmocka_unit_test(test_table_memory),
		cmocka_unit_test(test_facts),          cmocka_unit_test(test_json_text),
		cmocka_unit_test(test_json_is_read),   cmocka_unit_test(test_json),
		cmocka_unit_test(test_json_end),
	};

	setlocale(LC_CTYPE, "C.UTF-8");
	unsetenv("NO_COLOR");
	return cmocka_run_group_tests(tests, NULL, NULL);
}
