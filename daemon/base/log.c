// SPDX-License-Identifier: Apache-2.0
/* Log lines. Owns the process's level and role; any thread. */
#include "base/log.h"

#include <errno.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "base/utf8.h"

#include "base/banned.h"

#define LINE_MAX_BYTES 2048

static enum log_level log_max = LOG_LEVEL_INFO;
static const char *log_role = "firstlightd";
static bool log_journal;

static const struct {
	const char *name;
	int priority; /* syslog(3) */
} levels[] = {
	[LOG_LEVEL_ERROR] = {"error", 3},
	[LOG_LEVEL_WARN] = {"warn", 4},
	[LOG_LEVEL_INFO] = {"info", 6},
	[LOG_LEVEL_DEBUG] = {"debug", 7},
};

void log_init(enum log_level level, const char *role)
{
	log_max = level;
	log_role = role;
	log_journal = getenv("JOURNAL_STREAM") != NULL;
}

int log_level_parse(const char *s, enum log_level *ret_level)
{
	for (size_t i = 0; i < array_size(levels); i++) {
		if (strcmp(s, levels[i].name) == 0) {
			*ret_level = (enum log_level)i;
			return 0;
		}
	}
	return -EINVAL;
}

static size_t log_head(char *line, size_t size, enum log_level level)
{
	struct timespec ts;
	struct tm tm;
	size_t n;

	if (log_journal)
		return (size_t)snprintf(line, size, "<%d>%s: ", levels[level].priority, log_role);
	clock_gettime(CLOCK_REALTIME, &ts);
	gmtime_r(&ts.tv_sec, &tm);
	n = strftime(line, size, "%Y-%m-%dT%H:%M:%S", &tm);
	return n + (size_t)snprintf(line + n, size - n, ".%03ldZ %s %s: ", ts.tv_nsec / 1000000,
				    levels[level].name, log_role);
}

/* Names come from outside: no forged lines, no terminal's escapes, no bytes that journald hides. */
static void make_plain(char *s, size_t n)
{
	size_t width;

	for (size_t i = 0; i < n; i += width) {
		int32_t c = utf8_get((struct str){s, n}, i, &width);

		if (c < 0x20 || (c >= 0x7f && c < 0xa0) || c == 0x2028 || c == 0x2029)
			memset(s + i, '?', width);
	}
}

void log_line(enum log_level level, const char *fmt, ...)
{
	char line[LINE_MAX_BYTES];
	va_list ap;
	size_t head, n;
	int r;

	if (level > log_max)
		return;
	head = log_head(line, sizeof(line), level);
	va_start(ap, fmt);
	r = vsnprintf(line + head, sizeof(line) - head - 1, fmt, ap);
	va_end(ap);
	n = head + (r < 0 ? 0 : (size_t)r);
	if (n > sizeof(line) - 2)
		n = sizeof(line) - 2;
	make_plain(line + head, n - head);
	line[n++] = '\n';
	if (write(STDERR_FILENO, line, n) < 0)
		return; /* nowhere left to say it */
}
