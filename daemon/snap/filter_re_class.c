// SPDX-License-Identifier: Apache-2.0
/* Escapes and classes of RE2 in PCRE2's dialect. Owns nothing. */
#include "snap/filter_re_class.h"

#include <stdio.h>

#include "base/utf8.h"

#include "base/banned.h"

#define PROPERTY_MAX 40 /* bytes of a name */

static const struct class_name {
	char perl;         /* \d; 0: none */
	struct str posix;  /* [:digit:] */
	struct str ranges; /* pairs: first and last */
} classes[] = {
	{'d', {"digit", 5}, {"09", 2}},      {'s', {NULL, 0}, {"\t\n\f\r  ", 6}},
	{'w', {"word", 4}, {"09AZ__az", 8}}, {0, {"alnum", 5}, {"09AZaz", 6}},
	{0, {"alpha", 5}, {"AZaz", 4}},      {0, {"ascii", 5}, {"\0\x7f", 2}},
	{0, {"blank", 5}, {"\t\t  ", 4}},    {0, {"cntrl", 5}, {"\0\x1f\x7f\x7f", 4}},
	{0, {"graph", 5}, {"!~", 2}},        {0, {"lower", 5}, {"az", 2}},
	{0, {"print", 5}, {" ~", 2}},        {0, {"punct", 5}, {"!/:@[`{~", 8}},
	{0, {"space", 5}, {"\t\r  ", 4}},    {0, {"upper", 5}, {"AZ", 2}},
	{0, {"xdigit", 6}, {"09AFaf", 6}},
};

static struct str rest(const struct re_text *t)
{
	return (struct str){t->s.p + t->pos, t->s.len - t->pos};
}

static int hex_digit(int c)
{
	return re_digit(c)            ? c - '0'
	       : c >= 'a' && c <= 'f' ? c - 'a' + 10
	       : c >= 'A' && c <= 'F' ? c - 'A' + 10
				      : -1;
}

int32_t re_rune(struct re_text *t)
{
	size_t width;
	int32_t c = utf8_get(t->s, t->pos, &width);

	t->pos += width;
	return c;
}

static void emit_range(struct re_text *t, unsigned lo, unsigned hi)
{
	if (t->fold)
		t->folded += hi - lo + 1;
	RE_EMIT(t, "\\x{%x}-\\x{%x}", lo, hi);
}

/*
 * Ranges of a class, inside [ ]. The complement is written out, so that it can stand beside other
 * items; with folding it leaves out what the class takes in: U+017F folds to s, U+212A to k.
 */
static void emit_class(struct re_text *t, const struct class_name *class, bool negate)
{
	bool in[128] = {0}, fold = t->fold;

	for (size_t i = 0; i < class->ranges.len; i += 2) {
		for (int c = (unsigned char)class->ranges.p[i];
		     c <= (unsigned char)class->ranges.p[i + 1]; c++) {
			in[c] = true;
			if (fold && re_alpha(c))
				in[c ^ 0x20] = true;
		}
	}
	for (unsigned c = 0, first; c < 128; c++) {
		if (in[c] == negate)
			continue;
		for (first = c; c + 1 < 128 && in[c + 1] != negate; c++)
			;
		emit_range(t, first, c);
	}
	if (!negate)
		return;
	emit_range(t, 0x80, 0x17e);
	emit_range(t, 0x180, 0x2129);
	emit_range(t, 0x212b, 0x10ffff);
	if (!fold || !in['s'])
		RE_EMIT(t, "\\x{17f}");
	if (!fold || !in['k'])
		RE_EMIT(t, "\\x{212a}");
}

static const struct class_name *perl_class(int c)
{
	for (size_t i = 0; i < array_size(classes); i++) {
		if (c > 0 && classes[i].perl == (c | 0x20))
			return &classes[i];
	}
	return NULL;
}

/*
 * A category or a script, of letters and '_'. PCRE2 takes no notice of folding here; with it,
 * letters of one case are letters of all, which is Go's answer but for the few that have no other
 * case.
 */
static void emit_property(struct re_text *t, struct str name, bool negate)
{
	static const char categories[] = " L Lu Ll Lt Lm Lo M Mn Mc Me N Nd Nl No P Pc Pd Ps Pe Pi "
					 "Pf Po S Sm Sc Sk So Z Zs Zl Zp Cc Cf Co Cs Any ";
	char word[PROPERTY_MAX + 3];

	snprintf(word, sizeof(word), " " STR_FMT " ", STR_ARG(name));
	if (str_eq(name, STR("C"))) /* Go's has no unassigned code points */
		RE_EMIT(t, negate ? "\\p{L}\\p{M}\\p{N}\\p{P}\\p{S}\\p{Z}\\p{Cn}"
				  : "\\p{Cc}\\p{Cf}\\p{Co}\\p{Cs}");
	else if (t->fold && strstr(" Lu Ll Lt ", word))
		RE_EMIT(t, "\\%c{L&}", negate ? 'P' : 'p');
	else
		RE_EMIT(t, "\\%c{%s" STR_FMT "}", negate ? 'P' : 'p',
			strstr(categories, word) ? "" : "sc:", STR_ARG(name));
}

/* \p{Name}, \P{^Name}, \pL, inside or outside of [ ]; the position is behind \p. */
static bool read_property(struct re_text *t, bool negate)
{
	struct str left, name;
	const char *end;

	if (re_peek(t, 0) < 0)
		return false;
	left = rest(t);
	if (left.p[0] == '{') {
		end = memchr(left.p, '}', left.len);
		if (!end)
			return false;
		name = (struct str){left.p + 1, (size_t)(end - left.p) - 1};
		t->pos += name.len + 2;
	} else {
		name = (struct str){left.p, 1};
		t->pos++;
	}
	if (name.len && name.p[0] == '^') {
		negate = !negate;
		name = (struct str){name.p + 1, name.len - 1};
	}
	if (name.len == 0 || name.len > PROPERTY_MAX)
		return false;
	for (size_t i = 0; i < name.len; i++) {
		if (!re_alpha(name.p[i]) && name.p[i] != '_')
			return false;
	}
	emit_property(t, name, negate);
	return true;
}

/* Behind \x. */
static bool read_hex(struct re_text *t, int32_t *ret_c)
{
	int32_t c = 0;
	bool any = false;

	if (re_peek(t, 0) != '{') {
		if (hex_digit(re_peek(t, 0)) < 0 || hex_digit(re_peek(t, 1)) < 0)
			return false;
		*ret_c = hex_digit(re_peek(t, 0)) << 4 | hex_digit(re_peek(t, 1));
		t->pos += 2;
		return true;
	}
	for (t->pos++; hex_digit(re_peek(t, 0)) >= 0; t->pos++, any = true) {
		c = c << 4 | hex_digit(re_peek(t, 0));
		if (c > 0x10ffff)
			return false;
	}
	if (!any || re_peek(t, 0) != '}')
		return false;
	t->pos++;
	*ret_c = c;
	return true;
}

/* An escape that is one character; the position is behind the backslash. */
bool re_escape(struct re_text *t, int32_t *ret_c)
{
	static const char from[] = "afnrtv", to[] = "\a\f\n\r\t\v";
	int c = re_peek(t, 0);
	const char *at;

	if (c < 0 || c >= 0x80)
		return false;
	t->pos++;
	if (c == 'x')
		return read_hex(t, ret_c);
	if (c == '0' || (c > '0' && c < '8' && re_peek(t, 0) >= '0' && re_peek(t, 0) < '8')) {
		*ret_c = c - '0';
		for (int i = 0; i < 2 && re_peek(t, 0) >= '0' && re_peek(t, 0) < '8'; i++)
			*ret_c = *ret_c << 3 | (t->s.p[t->pos++] - '0');
		return true;
	}
	at = c ? strchr(from, c) : NULL;
	if (!at && (re_digit(c) || re_alpha(c)))
		return false;
	*ret_c = at ? to[at - from] : c;
	return true;
}

/* One character of [ ]. */
static bool read_class_char(struct re_text *t, int32_t *ret_c)
{
	if (re_peek(t, 0) < 0)
		return false;
	if (re_peek(t, 0) == '\\') {
		t->pos++;
		return re_escape(t, ret_c);
	}
	*ret_c = re_rune(t);
	return true;
}

/* [:name:] if the position is at one; false if it is none. */
static bool read_posix(struct re_text *t, bool *ret_ok)
{
	struct str s = rest(t), name;
	bool negate;
	const char *end;

	if (s.len < 3 || s.p[0] != '[' || s.p[1] != ':')
		return false;
	end = memmem(s.p + 2, s.len - 2, ":]", 2);
	if (!end)
		return false;
	negate = s.p[2] == '^';
	name = (struct str){s.p + 2 + negate, (size_t)(end - s.p) - 2 - negate};
	t->pos += (size_t)(end - s.p) + 2;
	for (size_t i = 0; i < array_size(classes); i++) {
		if (name.len && str_eq(name, classes[i].posix)) {
			emit_class(t, &classes[i], negate);
			return *ret_ok = true;
		}
	}
	*ret_ok = false;
	return true;
}

bool re_is_set(int c)
{
	return c == 'p' || c == 'P' || perl_class(c);
}

bool re_set(struct re_text *t)
{
	int c = re_peek(t, 0);
	const struct class_name *class = perl_class(c);

	t->pos++;
	if (!class)
		return read_property(t, c == 'P');
	emit_class(t, class, c < 'a');
	return true;
}

/* One item of [ ]: a class, a character or a range. */
static bool read_class_item(struct re_text *t)
{
	int32_t lo, hi;
	bool ok;

	if (read_posix(t, &ok))
		return ok;
	if (re_peek(t, 0) == '\\' && re_is_set(re_peek(t, 1))) {
		t->pos++;
		return re_set(t);
	}
	if (!read_class_char(t, &lo))
		return false;
	hi = lo;
	if (re_peek(t, 0) == '-' && re_peek(t, 1) >= 0 && re_peek(t, 1) != ']') {
		t->pos++;
		if (!read_class_char(t, &hi) || hi < lo)
			return false;
	}
	emit_range(t, (unsigned)lo, (unsigned)hi);
	return true;
}

bool re_class(struct re_text *t)
{
	RE_EMIT(t, "[");
	if (re_peek(t, 0) == '^') {
		t->pos++;
		RE_EMIT(t, "^");
	}
	do {
		if (!read_class_item(t))
			return false;
	} while (re_peek(t, 0) != ']');
	t->pos++;
	RE_EMIT(t, "]");
	return true;
}
