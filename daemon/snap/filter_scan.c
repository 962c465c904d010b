// SPDX-License-Identifier: Apache-2.0
/* Tokens of filters. Owns nothing; any thread. */
#include "snap/filter_scan.h"

#include <errno.h>

#include "base/utf8.h"

#include "base/banned.h"

static int fail(struct scan *s, const char *fault)
{
	s->fault = fault;
	return -EINVAL;
}

/* U+FFFD is bad too: Go decodes bad bytes to it, and containerd does not tell the two apart. */
static int32_t peek(const struct scan *s, size_t *ret_width)
{
	int32_t c;

	*ret_width = 0;
	if (s->pos == s->s.len)
		return SCAN_END;
	c = utf8_get(s->s, s->pos, ret_width);
	return c <= 0 || c == 0xfffd ? SCAN_BAD : c;
}

int32_t scan_peek(const struct scan *s)
{
	size_t width;

	return peek(s, &width);
}

/* White_Space of Unicode. */
static bool is_space(int32_t c)
{
	return (c >= '\t' && c <= '\r') || c == ' ' || c == 0x85 || c == 0xa0 || c == 0x1680 ||
	       (c >= 0x2000 && c <= 0x200a) || c == 0x2028 || c == 0x2029 || c == 0x202f ||
	       c == 0x205f || c == 0x3000;
}

static bool is_one_of(int32_t c, const char *set)
{
	return c > 0 && c < 0x80 && strchr(set, c);
}

static bool is_field(int32_t c)
{
	return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
	       c == '_';
}

static void skip_space(struct scan *s)
{
	size_t width;

	while (is_space(peek(s, &width)))
		s->pos += width;
}

static int hex_digit(int32_t c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	c |= 0x20;
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : 16;
}

static int read_digits(struct scan *s, int digits, unsigned base, uint32_t *ret_c)
{
	uint32_t c = 0;

	for (int i = 0; i < digits; i++, s->pos++) {
		unsigned d = (unsigned)hex_digit(scan_peek(s));

		if (d >= base)
			return fail(s, "escape with too few digits");
		c = c * base + d;
	}
	*ret_c = c;
	return 0;
}

static int put_byte(struct scan *s, uint32_t c)
{
	char byte = (char)c;

	return buf_append(&s->text, &byte, 1);
}

/* Behind \u and \U. containerd takes a number beyond INT32_MAX for a byte, a surrogate for U+FFFD.
 */
static int put_rune(struct scan *s, uint32_t c)
{
	char out[UTF8_MAX];

	if (c > INT32_MAX)
		return put_byte(s, c);
	if (c > 0x10ffff)
		return fail(s, "escape beyond U+10FFFF");
	return buf_append(&s->text, out, utf8_put(out, c >= 0xd800 && c <= 0xdfff ? 0xfffd : c));
}

/* Behind a backslash. Escapes of Go strings; \x and octal ones are bytes. */
static int read_escape(struct scan *s, int32_t quote)
{
	static const char from[] = "abfnrtv\\", to[] = "\a\b\f\n\r\t\v\\";
	int32_t c = scan_peek(s);
	uint32_t v;
	int r;

	if (is_one_of(c, "01234567")) {
		r = read_digits(s, 3, 8, &v);
		if (r == 0 && v > 0xff)
			r = fail(s, "escape beyond \\377");
		return r < 0 ? r : put_byte(s, v);
	}
	if (c < 0 || (c != quote && !is_one_of(c, from) && !is_one_of(c, "xuU")))
		return fail(s, "unknown escape");
	s->pos++;
	if (c == quote)
		return put_byte(s, (uint32_t)c);
	if (is_one_of(c, from))
		return put_byte(s, (uint32_t)to[strchr(from, c) - from]);
	r = read_digits(s, c == 'x' ? 2 : c == 'u' ? 4 : 8, 16, &v);
	if (r < 0)
		return r;
	return c == 'x' ? put_byte(s, v) : put_rune(s, v);
}

static int read_quoted(struct scan *s)
{
	int32_t quote = (unsigned char)s->s.p[s->pos++], c;
	size_t width;
	int r = 0;

	while (r == 0 && (c = peek(s, &width)) != quote) {
		if (c < 0 || c == '\n')
			return fail(s, "quoted string without an end");
		if (c != '\\')
			r = buf_append(&s->text, s->s.p + s->pos, width);
		s->pos += width;
		if (c == '\\')
			r = read_escape(s, quote);
	}
	if (r == 0)
		s->pos++;
	return r;
}

int scan_field(struct scan *s)
{
	size_t start;

	skip_space(s);
	if (scan_peek(s) == '"')
		return read_quoted(s);
	start = s->pos;
	while (is_field(scan_peek(s)))
		s->pos++;
	if (s->pos == start)
		return fail(s, "expected the name of a field");
	return buf_append(&s->text, s->s.p + start, s->pos - start);
}

struct str scan_operator(struct scan *s)
{
	struct str op;

	skip_space(s);
	op = (struct str){s->s.p + s->pos, 0};
	while (s->pos + op.len < s->s.len && is_one_of(op.p[op.len], "=!~"))
		op.len++;
	return op;
}

/* The first character may be any that means nothing else, as in containerd. */
static int read_bare(struct scan *s)
{
	size_t start = s->pos, width;
	int32_t c = peek(s, &width);

	while (c >= 0 && c != ',' && !is_space(c)) {
		s->pos += width;
		c = peek(s, &width);
	}
	return buf_append(&s->text, s->s.p + start, s->pos - start);
}

int scan_value(struct scan *s, bool alt, bool *ret_bare)
{
	int32_t c;

	skip_space(s);
	c = scan_peek(s);
	s->text.len = 0;
	*ret_bare = false;
	if (c == '"' || (alt && is_one_of(c, "/|")))
		return read_quoted(s);
	if (c < 0 || is_one_of(c, "/|,.=!~"))
		return fail(s, "expected a value");
	*ret_bare = true;
	return read_bare(s);
}
