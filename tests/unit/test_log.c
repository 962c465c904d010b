// SPDX-License-Identifier: Apache-2.0
/* Log lines: levels, head, journal, and that no text from outside forges, hides or breaks a line.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "base/log.h"
#include "base/str.h"

#define LINE_BYTES 2048

static char out[1 << 20]; /* what was written to stderr */
static int saved = -1, file = -1;

static void catch_start(void)
{
	fflush(stderr);
	saved = dup(STDERR_FILENO);
	file = memfd_create("log", MFD_CLOEXEC);
	assert_true(saved >= 0 && file >= 0);
	dup2(file, STDERR_FILENO);
	assert_true(fcntl(STDERR_FILENO, F_SETFL, O_APPEND) == 0);
}

static const char *catch_end(void)
{
	ssize_t n;

	dup2(saved, STDERR_FILENO);
	close(saved);
	n = pread(file, out, sizeof(out) - 1, 0);
	close(file);
	assert_true(n >= 0);
	out[n] = 0;
	return out;
}

/* The line that a value gives, behind the head. */
static const char *logged(const char *value)
{
	catch_start();
	log_info("a key=\"%s\" end=1", value);
	return strstr(catch_end(), ": ") + 2;
}

static int setup(void **state)
{
	(void)state;
	unsetenv("JOURNAL_STREAM");
	log_init(LOG_LEVEL_INFO, "worker");
	return 0;
}

static void test_level_names(void **state)
{
	static const char *const names[] = {"error", "warn", "info", "debug"};
	static const char *const bad[] = {"", "Error", "warning", "info ", "0"};
	enum log_level level = LOG_LEVEL_ERROR;

	(void)state;
	for (size_t i = 0; i < array_size(names); i++) {
		assert_int_equal(log_level_parse(names[i], &level), 0);
		assert_int_equal(level, i);
	}
	for (size_t i = 0; i < array_size(bad); i++)
		assert_int_equal(log_level_parse(bad[i], &level), -EINVAL);
	assert_int_equal(level, LOG_LEVEL_DEBUG);
}

static void test_levels_above_are_dropped(void **state)
{
	(void)state;
	for (int max = LOG_LEVEL_ERROR; max <= LOG_LEVEL_DEBUG; max++) {
		log_init((enum log_level)max, "worker");
		catch_start();
		log_error("one");
		log_warn("two");
		log_info("three");
		log_debug("four");
		catch_end();
		assert_non_null(strstr(out, " error worker: one\n"));
		assert_int_equal(!!strstr(out, " warn worker: two\n"), max >= LOG_LEVEL_WARN);
		assert_int_equal(!!strstr(out, " info worker: three\n"), max >= LOG_LEVEL_INFO);
		assert_int_equal(!!strstr(out, " debug worker: four\n"), max >= LOG_LEVEL_DEBUG);
	}
}

static void test_head(void **state)
{
	int n = 0, y, mo, d, h, mi, s, ms;

	(void)state;
	catch_start();
	log_warn("x");
	catch_end();
	assert_int_equal(sscanf(out, "%4d-%2d-%2dT%2d:%2d:%2d.%3dZ warn worker: x\n%n", &y, &mo, &d,
				&h, &mi, &s, &ms, &n),
			 7);
	assert_int_equal(n, strlen(out));
	assert_int_equal(n, strlen("2024-01-02T03:04:05.678Z warn worker: x\n"));
}

static void test_journal(void **state)
{
	static const int priorities[] = {3, 4, 6, 7};
	char want[64];

	(void)state;
	setenv("JOURNAL_STREAM", "8:1", 1);
	log_init(LOG_LEVEL_DEBUG, "keeper");
	for (int level = LOG_LEVEL_ERROR; level <= LOG_LEVEL_DEBUG; level++) {
		catch_start();
		log_line((enum log_level)level, "x y=%d", 1);
		snprintf(want, sizeof(want), "<%d>keeper: x y=1\n", priorities[level]);
		assert_string_equal(catch_end(), want);
	}
	unsetenv("JOURNAL_STREAM");
}

static void test_values_do_no_harm(void **state)
{
	(void)state;
	assert_string_equal(logged("default/1/x"), "a key=\"default/1/x\" end=1\n");
	assert_string_equal(logged("é日😀"), "a key=\"é日😀\" end=1\n");
	assert_string_equal(logged("x\n2024 error worker: forged"),
			    "a key=\"x?2024 error worker: forged\" end=1\n");
	assert_string_equal(logged("\r\t\x01\x1f\x7f"), "a key=\"?????\" end=1\n");
	assert_string_equal(logged("\x1b[2J"), "a key=\"?[2J\" end=1\n");
	assert_string_equal(logged("\xc2\x9b"
				   "2J"),
			    "a key=\"??2J\" end=1\n");                        /* CSI in one */
	assert_string_equal(logged("\xe2\x80\xa8"), "a key=\"???\" end=1\n"); /* line separator */
	assert_string_equal(logged("\xff\xc3"), "a key=\"??\" end=1\n");
	assert_string_equal(logged("\xed\xa0\x80"), "a key=\"???\" end=1\n");
	assert_string_equal(logged("%s%n"), "a key=\"%s%n\" end=1\n");
}

/* One line, one end of line, whatever the length; no half character before the cut. */
static void test_long_lines(void **state)
{
	char value[3 * LINE_BYTES];

	(void)state;
	for (size_t n = LINE_BYTES - 100; n < LINE_BYTES + 100; n++) {
		memset(value, 'x', n);
		value[n] = 0;
		logged(value);
		assert_true(strlen(out) < LINE_BYTES);
		assert_ptr_equal(strchr(out, '\n'), out + strlen(out) - 1);
	}
	for (size_t i = 0; i + 3 < sizeof(value); i += 3)
		memcpy(value + i, "日", 3);
	value[sizeof(value) / 3 * 3 - 3] = 0;
	for (size_t shift = 0; shift < 3; shift++) {
		catch_start();
		log_info("%.*s%s", (int)shift, "xx", value);
		catch_end();
		assert_int_equal(strlen(out), LINE_BYTES - 1);
		assert_true(str_utf8(str_of(out)));
	}
}

static void *write_lines(void *arg)
{
	for (int i = 0; i < 1000; i++)
		log_info("thread=%s %080d", (char *)arg, i);
	return NULL;
}

/* Lines of two threads do not mix. */
static void test_threads(void **state)
{
	pthread_t a, b;
	size_t lines = 0, width = 0;

	(void)state;
	catch_start();
	assert_int_equal(pthread_create(&a, NULL, write_lines, "a"), 0);
	assert_int_equal(pthread_create(&b, NULL, write_lines, "b"), 0);
	pthread_join(a, NULL);
	pthread_join(b, NULL);
	catch_end();
	for (char *p = out, *end; (end = strchr(p, '\n')); p = end + 1, lines++) {
		if (lines == 0)
			width = (size_t)(end - p);
		assert_int_equal(end - p, width);
	}
	assert_int_equal(lines, 2000);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(test_level_names, setup),
		cmocka_unit_test_setup(test_levels_above_are_dropped, setup),
		cmocka_unit_test_setup(test_head, setup),
		cmocka_unit_test_setup(test_journal, setup),
		cmocka_unit_test_setup(test_values_do_no_harm, setup),
		cmocka_unit_test_setup(test_long_lines, setup),
		cmocka_unit_test_setup(test_threads, setup),
	};

	return cmocka_run_group_tests_name("log", tests, NULL, NULL);
}
