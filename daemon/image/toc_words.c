// SPDX-License-Identifier: Apache-2.0
/* Words of a table of contents: times and base64. Pure. */
#include "image/toc_parse.h"

#include "base/banned.h"

/* n digits at *at, within [min, max]. */
static bool digits(struct str s, size_t *at, size_t n, unsigned min, unsigned max, unsigned *ret)
{
	unsigned v = 0;

	if (s.len - *at < n)
		return false;
	for (size_t i = 0; i < n; i++) {
		char c = s.p[*at + i];

		if (c < '0' || c > '9')
			return false;
		v = v * 10 + (unsigned)(c - '0');
	}
	*at += n;
	*ret = v;
	return v >= min && v <= max;
}

static bool letter(struct str s, size_t *at, char c)
{
	if (*at >= s.len || s.p[*at] != c)
		return false;
	++*at;
	return true;
}

/* Days since 1970-01-01 in the Gregorian calendar; the year starts in March here. */
static int64_t days(unsigned year, unsigned month, unsigned day)
{
	int64_t y = (int64_t)year - (month <= 2);
	int64_t m = month > 2 ? month - 3 : month + 9;

	return y * 365 + (y + 400) / 4 - (y + 400) / 100 + (y + 400) / 400 - (100 - 4 + 1) +
	       (153 * m + 2) / 5 + day - 1 - 719468;
}

static unsigned month_length(unsigned year, unsigned month)
{
	static const uint8_t length[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
	bool leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);

	return length[month - 1] + (month == 2 && leap);
}

static bool fraction(struct str s, size_t *at, uint32_t *ret)
{
	uint32_t ns = 0;
	size_t n = 0;
	unsigned d;

	for (; *at < s.len && s.p[*at] >= '0' && s.p[*at] <= '9'; n++) {
		if (n == 9 || !digits(s, at, 1, 0, 9, &d))
			return false;
		ns = ns * 10 + d;
	}
	for (size_t i = n; i < 9; i++)
		ns *= 10;
	*ret = ns;
	return n > 0;
}

static bool zone(struct str s, size_t *at, int64_t *ret)
{
	unsigned h, m;
	int sign = 1;

	*ret = 0;
	if (letter(s, at, 'Z'))
		return true;
	if (letter(s, at, '-'))
		sign = -1;
	else if (!letter(s, at, '+'))
		return false;
	if (!digits(s, at, 2, 0, 23, &h) || !letter(s, at, ':') || !digits(s, at, 2, 0, 59, &m))
		return false;
	*ret = sign * (int64_t)(h * 3600 + m * 60);
	return true;
}

int toc_time(struct str s, int64_t *ret_s, uint32_t *ret_ns)
{
	unsigned year, month, day, h, m, sec;
	uint32_t ns = 0;
	size_t at = 0;
	int64_t off;

	if (!digits(s, &at, 4, 0, 9999, &year) || !letter(s, &at, '-') ||
	    !digits(s, &at, 2, 1, 12, &month) || !letter(s, &at, '-') ||
	    !digits(s, &at, 2, 1, month_length(year, month), &day) || !letter(s, &at, 'T') ||
	    !digits(s, &at, 2, 0, 23, &h) || !letter(s, &at, ':') ||
	    !digits(s, &at, 2, 0, 59, &m) || !letter(s, &at, ':') ||
	    !digits(s, &at, 2, 0, 59, &sec))
		return -EINVAL;
	if (letter(s, &at, '.') && !fraction(s, &at, &ns))
		return -EINVAL;
	if (!zone(s, &at, &off) || at != s.len)
		return -EINVAL;
	*ret_s = days(year, month, day) * 86400 + (int64_t)(h * 3600 + m * 60 + sec) - off;
	*ret_ns = ns;
	return 0;
}
