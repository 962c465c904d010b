// SPDX-License-Identifier: Apache-2.0
/* The bar: its width, and what it leaves on a terminal. */
#include "tool_fixture.h"

#include "base/limits.h"
#include <pty.h>

// NOLINTBEGIN: the tools are no library
#include "../../tools/firstlight/out.c"
#include "../../tools/firstlight/progress.c"
// NOLINTEND

static void test_width(void **state)
{
	static const uint64_t amounts[] = {0, 1, 1023, 1 << 20, 123456789012, UINT64_MAX};
	static const char *const words[] = {"local", "resolving",
					    "a word of thirty-one letters .."};
	char line[PROGRESS_LINE_MAX];
	size_t n = 0;

	(void)state;
	for (unsigned columns = 1; columns <= WIDTH_MAX; columns += columns < 140 ? 1 : 43) {
		for (size_t i = 0; i < 6 * 6 * 6 * 3; i++) {
			progress_bar(line, columns, words[i % 3], amounts[i / 3 % 6],
				     amounts[i / 18 % 6], amounts[i / 108 % 6]);
			/* the last column stays empty: a terminal would wrap there */
			assert_true(strlen(line) < columns);
			assert_null(strpbrk(line, "\r\n\033"));
			n++;
		}
	}
	assert_true(n > 90000);
}

static void test_text(void **state)
{
	char line[PROGRESS_LINE_MAX];

	(void)state;
	assert_string_equal(progress_bar(line, 80, "layers", 50 << 20, 100 << 20, 5 << 20),
			    "layers  [########.........]  50 MiB of 100 MiB  5.0 MiB/s  "
			    "10.0 s left");
	assert_string_equal(progress_bar(line, 200, "local", 3, 3, 0),
			    "local  [##############################]  3 B of 3 B");
	assert_string_equal(progress_bar(line, 80, "resolving", 0, 0, 0), "resolving");
	assert_string_equal(progress_bar(line, 80, "layers", 7, 0, 0), "layers  7 B");
	assert_string_equal(progress_bar(line, 30, "layers", 1 << 20, 2 << 20, 0),
			    "layers  1.0 MiB of 2.0 MiB");
	assert_string_equal(progress_bar(line, 12, "layers", 1 << 20, 2 << 20, 0), "layers  1.0");
}

/* --- on a terminal ---------------------------------------------------------------------------- */

static int shows(void *arg)
{
	(void)arg;
	progress_begin("layers", false);
	for (unsigned i = 0; i < 100; i++)
		progress_set(i << 20, 100 << 20);
	progress_line("%s  lazy", "a layer");
	progress_begin("local", false);
	progress_end();
	progress_end();
	return 0;
}

static int shows_nothing(void *arg)
{
	(void)arg;
	progress_begin("layers", true);
	progress_set(1, 2);
	progress_line("a layer");
	progress_end();
	return 0;
}

struct in_terminal {
	int (*fn)(void *arg);
	unsigned short columns;
	const char *term;
	char said[1 << 16];
};

/* fn's stderr is a terminal; its stdout is not. Master and slave are in one process: small texts.
 */
static void run(struct in_terminal *t)
{
	struct winsize size = {.ws_row = 24, .ws_col = t->columns};
	int master, slave, old = dup(STDERR_FILENO);
	size_t n = 0;
	ssize_t k;

	assert_int_equal(openpty(&master, &slave, NULL, NULL, &size), 0);
	if (t->term)
		setenv("TERM", t->term, 1);
	else
		unsetenv("TERM");
	dup2(slave, STDERR_FILENO);
	bar.shown = false;
	t->fn(NULL);
	dup2(old, STDERR_FILENO);
	close(old);
	fcntl(master, F_SETFL, O_NONBLOCK);
	while ((k = read(master, t->said + n, sizeof(t->said) - 1 - n)) > 0)
		n += (size_t)k;
	t->said[n] = 0;
	close(slave);
	close(master);
}

static void test_terminal(void **state)
{
	static const unsigned short widths[] = {80, 40, 10, 2, 1};

	(void)state;
	for (size_t i = 0; i < array_size(widths); i++) {
		struct in_terminal t = {.fn = shows, .columns = widths[i], .term = "xterm"};
		const char *at;

		run(&t);
		assert_int_equal(strncmp(t.said, CLEAR_LINE, 4), 0);
		for (const char *s = t.said; (s = strstr(s, CLEAR_LINE "l")); s++)
			assert_true(strcspn(s + 4, "\r\n") < widths[i]);
		/* the line of the layer is whole, alone, and nothing is left at the end */
		at = strstr(t.said, CLEAR_LINE "a layer  lazy\r\n" CLEAR_LINE);
		assert_non_null(at);
		assert_string_equal(t.said + strlen(t.said) - 4, CLEAR_LINE);
	}
}

static void test_dumb(void **state)
{
	static const char *const terms[] = {"dumb", "", NULL};

	(void)state;
	for (size_t i = 0; i < array_size(terms); i++) {
		struct in_terminal t = {.fn = shows, .columns = 80, .term = terms[i]};

		run(&t);
		assert_string_equal(t.said, "a layer  lazy\r\n");
	}
}

static void test_quiet(void **state)
{
	struct in_terminal t = {.fn = shows_nothing, .columns = 80, .term = "xterm"};
	auto_printed struct printed p = printed_by(shows, NULL);

	(void)state;
	run(&t);
	assert_string_equal(t.said, "");
	assert_string_equal(p.err, "a layer  lazy\n"); /* a file */
	assert_string_equal(p.out, "");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_width),    cmocka_unit_test(test_text),
		cmocka_unit_test(test_terminal), cmocka_unit_test(test_dumb),
		cmocka_unit_test(test_quiet),
	};

	unsetenv("COLUMNS");
	return cmocka_run_group_tests(tests, NULL, NULL);
}
