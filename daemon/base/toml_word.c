// SPDX-License-Identifier: Apache-2.0
/* TOML values without quotes: booleans, numbers, dates. Owns nothing. */
#include "base/toml_word.h"

#include "base/banned.h"

int toml_hex(int c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	if (c >= 'A' && c <= 'F')
		return c - 'A' + 10;
	return -1;
}

static struct str rest(struct str s, size_t n)
{
	return (struct str){s.p + n, s.len - n};
}

/* Bytes at the start of s that are digits of a base, with single underscores between them. */
static size_t digits_len(struct str s, int base)
{
	size_t i = 0;

	while (i < s.len) {
		int d = toml_hex(s.p[i]);

		if (s.p[i] == '_' && i > 0 && s.p[i - 1] != '_' && i + 1 < s.len)
			d = toml_hex(s.p[i + 1]);
		if (d < 0 || d >= base)
			break;
		i++;
	}
	return i;
}

static const char *integer(struct str s, int base, bool minus, int64_t *ret_v)
{
	int64_t v = 0;

	for (size_t i = 0; i < s.len; i++) {
		int64_t d = toml_hex(s.p[i]);

		if (s.p[i] == '_')
			continue;
		if (__builtin_mul_overflow(v, (int64_t)base, &v) ||
		    __builtin_add_overflow(v, minus ? -d : d, &v))
			return "integer out of range";
	}
	*ret_v = v;
	return NULL;
}

/* What follows the integer part of a float: [.digits][e[+-]digits], not empty. */
static bool is_fraction(struct str s)
{
	size_t n = s.len;

	if (s.len && s.p[0] == '.') {
		n = digits_len(rest(s, 1), 10);
		s = rest(s, 1 + n);
	}
	if (s.len && (s.p[0] == 'e' || s.p[0] == 'E')) {
		s = rest(s, 1);
		if (s.len && (s.p[0] == '+' || s.p[0] == '-'))
			s = rest(s, 1);
		n = n ? digits_len(s, 10) : 0;
		s = rest(s, n);
	}
	return n > 0 && s.len == 0;
}

static const char *number(struct str s, struct toml_value *v)
{
	static const struct {
		struct str prefix;
		int base;
	} bases[] = {{{"0x", 2}, 16}, {{"0o", 2}, 8}, {{"0b", 2}, 2}};
	bool sign = s.len && (s.p[0] == '+' || s.p[0] == '-'), minus = sign && s.p[0] == '-';
	size_t n;

	for (size_t i = 0; i < array_size(bases); i++) {
		if (!str_starts(s, bases[i].prefix))
			continue;
		s = rest(s, 2);
		n = digits_len(s, bases[i].base);
		return n && n == s.len ? integer(s, bases[i].base, false, &v->integer)
				       : "bad integer";
	}
	s = rest(s, sign);
	n = digits_len(s, 10);
	if (n > 1 && s.p[0] == '0')
		return "number with a leading zero";
	if (n && n == s.len)
		return integer(s, 10, minus, &v->integer);
	v->type = TOML_FLOAT;
	if (str_eq(s, STR("inf")) || str_eq(s, STR("nan")))
		return NULL;
	if (n == 0)
		return "expected a value";
	return is_fraction(rest(s, n)) ? NULL : "bad number";
}

/* Has s the shape at its start? In the shape 0 stands for a digit. */
static bool has_shape(struct str s, const char *shape)
{
	size_t n = strlen(shape);

	if (s.len < n)
		return false;
	for (size_t i = 0; i < n; i++) {
		if (shape[i] == '0' ? s.p[i] < '0' || s.p[i] > '9' : s.p[i] != shape[i])
			return false;
	}
	return true;
}

const char *toml_word(struct str s, struct toml_value *ret_v)
{
	struct toml_value v = {.type = TOML_INTEGER};
	const char *cause = NULL;

	if (str_eq(s, STR("true")) || str_eq(s, STR("false"))) {
		v.type = TOML_BOOLEAN;
		v.boolean = s.len == 4;
	} else if (has_shape(s, "0000-00-00") || has_shape(s, "00:00:00")) {
		v.type = TOML_DATE;
	} else {
		cause = number(s, &v);
	}
	if (!cause)
		*ret_v = v;
	return cause;
}

const char *toml_type_name(enum toml_type type)
{
	static const char *const names[] = {"a string", "an integer", "a boolean",
					    "a float",  "a date",     "an array"};

	return names[type];
}
