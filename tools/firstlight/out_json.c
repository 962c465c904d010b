// SPDX-License-Identifier: Apache-2.0
/* JSON on stdout. Owns nothing; what follows what is the caller's to get right. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "base/err.h"
#include "base/str.h"
#include "base/utf8.h"
#include "out.h"

#include "base/banned.h"

static void put_string(const char *z)
{
	struct str s = str_of(z);
	size_t width;
	int32_t c;

	putchar('"');
	for (size_t i = 0; i < s.len; i += width) {
		c = utf8_get(s, i, &width);
		if (c < 0)
			fputs("\\ufffd", stdout);
		else if (c == '"' || c == '\\')
			printf("\\%c", (char)c);
		else if (c < 0x20 || (c >= 0x7f && c < 0xa0))
			printf("\\u%04x", (unsigned)c);
		else
			fwrite(s.p + i, 1, width, stdout);
	}
	putchar('"');
}

/* What stands before a value. */
static void begin(struct out_json *j, const char *name)
{
	if (j->depth > 0 && j->more[j->depth])
		putchar(',');
	j->more[j->depth] = true;
	if (name) {
		put_string(name);
		putchar(':');
	}
}

void out_json_open(struct out_json *j, const char *name, char bracket)
{
	begin(j, name);
	putchar(bracket);
	require(j->depth < OUT_JSON_DEPTH);
	j->more[++j->depth] = false;
	j->ends[j->depth] = bracket == '{' ? '}' : ']';
}

void out_json_close(struct out_json *j, char bracket)
{
	putchar(bracket);
	require(j->depth > 0);
	if (--j->depth == 0)
		putchar('\n');
}

void out_json_end(struct out_json *j)
{
	while (j->depth > 0)
		out_json_close(j, j->ends[j->depth]);
}

void out_json_text(struct out_json *j, const char *name, const char *s)
{
	begin(j, name);
	if (s)
		put_string(s);
	else
		fputs("null", stdout);
}

void out_json_uint(struct out_json *j, const char *name, uint64_t v)
{
	begin(j, name);
	printf("%" PRIu64, v);
}

void out_json_int(struct out_json *j, const char *name, int64_t v)
{
	begin(j, name);
	printf("%" PRId64, v);
}

void out_json_bool(struct out_json *j, const char *name, bool v)
{
	begin(j, name);
	fputs(v ? "true" : "false", stdout);
}

void out_json_time(struct out_json *j, const char *name, int64_t seconds, int32_t nanos)
{
	char date[OUT_NUMBER_MAX], text[OUT_NUMBER_MAX + 16];

	out_time(seconds, date);
	if (date[0] == '-') {
		out_json_text(j, name, NULL);
		return;
	}
	if (nanos < 0 || nanos > 999999999)
		nanos = 0;
	snprintf(text, sizeof(text), "%.*s.%09dZ", (int)strlen(date) - 1, date, (int)nanos);
	out_json_text(j, name, text);
}
