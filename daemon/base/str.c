// SPDX-License-Identifier: Apache-2.0
/* Strings with a length. Pure; any thread. */
#include "base/str.h"

#include <errno.h>

#include "base/utf8.h"

#include "base/banned.h"

int str_cmp(struct str a, struct str b)
{
	size_t n = a.len < b.len ? a.len : b.len;
	int r = n ? memcmp(a.p, b.p, n) : 0;

	if (r)
		return r;
	return a.len < b.len ? -1 : a.len > b.len;
}

int str_u64(struct str s, uint64_t *ret_v)
{
	uint64_t v = 0;

	if (s.len == 0)
		return -EINVAL;
	for (size_t i = 0; i < s.len; i++) {
		if (s.p[i] < '0' || s.p[i] > '9')
			return -EINVAL;
		if (__builtin_mul_overflow(v, (uint64_t)10, &v) ||
		    __builtin_add_overflow(v, (uint64_t)(s.p[i] - '0'), &v))
			return -ERANGE;
	}
	*ret_v = v;
	return 0;
}

bool str_utf8(struct str s)
{
	size_t width;

	for (size_t i = 0; i < s.len; i += width) {
		width = 1;
		if ((signed char)s.p[i] < 0 && utf8_get(s, i, &width) < 0)
			return false;
	}
	return true;
}

const char *str_quoted(struct str s, char *out, size_t size)
{
	size_t n = 0;

	out[n++] = '"';
	for (size_t i = 0; i < s.len; i++) {
		bool special = s.p[i] == '"' || s.p[i] == '\\';

		if (n + special + 3 > size)
			break;
		if (special)
			out[n++] = '\\';
		out[n++] = s.p[i];
	}
	out[n++] = '"';
	out[n] = 0;
	return out;
}
