// SPDX-License-Identifier: Apache-2.0
/* Failures, words and numbers as commands print them. Owns nothing. */
#include "out.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <wchar.h>
#include <wctype.h>

#include "base/str.h"
#include "base/utf8.h"

#include "base/banned.h"

#define WIDTH_UNKNOWN  80
#define HEIGHT_UNKNOWN 24
#define WIDTH_MIN      20
#define WIDTH_MAX      1000
#define LINE_MAX_BYTES 4096 /* of a failure */
#define DIGEST_HEX     64
#define DIGEST_SHORT   12

_Noreturn void out_no_memory(void)
{
	fputs("firstlight: out of memory\n", stderr);
	exit(1);
}

/* --- words -------------------------------------------------------------------------------------
 */

/* Marks that turn the direction of a line, or end it: a name must not rearrange what stands
 * beside it. */
static bool rearranges(int32_t c)
{
	return c == 0x061c || (c >= 0x200b && c <= 0x200f) || (c >= 0x2028 && c <= 0x202e) ||
	       (c >= 0x2060 && c <= 0x206f) || c == 0xfeff;
}

int out_escape(struct buf *b, const char *s, size_t len)
{
	struct str str = {s, len};
	size_t width;
	int32_t c;
	int r = 0;

	for (size_t i = 0; i < len && r == 0; i += width) {
		c = utf8_get(str, i, &width);
		if (c < 0 || (c < 0x20 || c == 0x7f))
			r = buf_printf(b, "\\x%02x", (unsigned char)s[i]);
		else if ((c >= 0x80 && c < 0xa0) || rearranges(c))
			r = buf_printf(b, "\\u{%x}", (unsigned)c);
		else
			r = buf_append(b, s + i, width);
	}
	return r;
}

static bool is_hex(char c)
{
	return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f');
}

/* Cuts each run of exactly 64 hex digits, in place. */
static void cut_digests(char *s)
{
	char *out = s;
	size_t n;

	while (*s) {
		n = 0;
		while (is_hex(s[n]))
			n++;
		if (n == 0) {
			*out++ = *s++;
			continue;
		}
		memmove(out, s, n == DIGEST_HEX ? DIGEST_SHORT : n);
		out += n == DIGEST_HEX ? DIGEST_SHORT : n;
		s += n;
	}
	*out = 0;
}

char *out_word(const char *s, bool cut)
{
	struct buf b = BUF_INIT;

	if (out_escape(&b, s, strlen(s)) < 0 || buf_append(&b, "", 1) < 0)
		out_no_memory();
	if (cut)
		cut_digests((char *)b.data);
	return (char *)b.data;
}

size_t out_columns(const char *s, size_t len)
{
	struct str str = {s, len};
	size_t width, n = 0;

	for (size_t i = 0; i < len; i += width) {
		int32_t c = utf8_get(str, i, &width);
		int w = c < 0x80 ? 1 : wcwidth((wchar_t)c);

		n += w < 0 ? 1 : (size_t)w;
	}
	return n;
}

/* --- failures ----------------------------------------------------------------------------------
 */

static void say(const char *head, const char *command, const char *fmt, va_list ap)
{
	char text[LINE_MAX_BYTES];
	auto_free char *word = NULL;

	vsnprintf(text, sizeof(text), fmt, ap);
	word = out_word(text, false);
	fflush(stdout);
	fprintf(stderr, "%s: %s%s%s\n", head, command ? command : "", command ? ": " : "", word);
}

int out_fail(const char *command, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	say("firstlight", command, fmt, ap);
	va_end(ap);
	return 1;
}

int out_misuse(const char *command, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	say("firstlight", command, fmt, ap);
	va_end(ap);
	out_hint("see firstlight %s%s--help", command ? command : "", command ? " " : "");
	return 2;
}

void out_hint(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	say("hint", NULL, fmt, ap);
	va_end(ap);
}

/* Go's words for it, which containerd has, begin with a small letter. */
void out_hint_room(const char *cause)
{
	if (strcasestr(cause, strerror(ENOSPC)) || strcasestr(cause, strerror(EDQUOT)))
		out_hint("make room on that disk, and try again; firstlight gc deletes what is not "
			 "needed");
}

int out_done(const char *command)
{
	int error = fflush(stdout) != 0 ? errno : 0;

	if (error || ferror(stdout))
		return out_fail(command, "write the output: %s",
				error ? strerror(error) : "it failed");
	return 0;
}

/* --- numbers -----------------------------------------------------------------------------------
 */

const char *out_size(uint64_t bytes, char buf[OUT_NUMBER_MAX])
{
	static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
	uint64_t v = bytes, rest = 0;
	size_t unit = 0;

	while (v >= 1024) {
		rest = v % 1024;
		v /= 1024;
		unit++;
	}
	if (unit == 0 || v >= 10)
		snprintf(buf, OUT_NUMBER_MAX, "%llu %s", (unsigned long long)v, units[unit]);
	else
		snprintf(buf, OUT_NUMBER_MAX, "%llu.%llu %s", (unsigned long long)v,
			 (unsigned long long)(rest * 10 / 1024), units[unit]);
	return buf;
}

const char *out_duration(uint64_t ms, char buf[OUT_NUMBER_MAX])
{
	unsigned long long s = ms / 1000;

	if (ms < 1000)
		snprintf(buf, OUT_NUMBER_MAX, "%llu ms", (unsigned long long)ms);
	else if (s < 60)
		snprintf(buf, OUT_NUMBER_MAX, "%llu.%llu s", s,
			 (unsigned long long)(ms % 1000 / 100));
	else if (s < 3600)
		snprintf(buf, OUT_NUMBER_MAX, "%llu m %02llu s", s / 60, s % 60);
	else if (s < 86400)
		snprintf(buf, OUT_NUMBER_MAX, "%llu h %02llu m", s / 3600, s / 60 % 60);
	else
		snprintf(buf, OUT_NUMBER_MAX, "%llu d %02llu h", s / 86400, s / 3600 % 24);
	return buf;
}

const char *out_percent(uint64_t part, uint64_t whole, char buf[OUT_NUMBER_MAX])
{
	if (part > whole)
		part = whole;
	if (whole == 0)
		snprintf(buf, OUT_NUMBER_MAX, "-");
	else
		snprintf(buf, OUT_NUMBER_MAX, "%u %%",
			 (unsigned)((unsigned __int128)part * 100 / whole));
	return buf;
}

const char *out_time(int64_t seconds, char buf[OUT_NUMBER_MAX])
{
	time_t t = (time_t)seconds;
	struct tm tm;

	if (!gmtime_r(&t, &tm) || tm.tm_year < -1900 || tm.tm_year > 9999 - 1900)
		snprintf(buf, OUT_NUMBER_MAX, "-");
	else
		strftime(buf, OUT_NUMBER_MAX, "%Y-%m-%dT%H:%M:%SZ", &tm);
	return buf;
}

unsigned out_width_of(int fd)
{
	const char *s = getenv("COLUMNS");
	struct winsize w = {0};
	uint64_t v = 0;

	if (ioctl(fd, TIOCGWINSZ, &w) == 0)
		v = w.ws_col;
	if (v == 0 && (!s || str_u64(str_of(s), &v) < 0 || v == 0))
		v = WIDTH_UNKNOWN;
	return v > WIDTH_MAX ? WIDTH_MAX : (unsigned)v;
}

unsigned out_width(void)
{
	unsigned w = out_width_of(STDOUT_FILENO);

	return w < WIDTH_MIN ? WIDTH_MIN : w;
}

unsigned out_height(void)
{
	struct winsize w = {0};

	if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &w) < 0 || w.ws_row == 0)
		return HEIGHT_UNKNOWN;
	return w.ws_row;
}

bool out_terminal(int fd)
{
	const char *term = getenv("TERM");

	return isatty(fd) && term && term[0] && strcmp(term, "dumb") != 0;
}
