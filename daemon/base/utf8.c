// SPDX-License-Identifier: Apache-2.0
/* UTF-8, one code point at a time. Owns nothing. */
#include "base/utf8.h"

#include "base/banned.h"

int32_t utf8_get(struct str s, size_t at, size_t *ret_width)
{
	static const int32_t least[] = {0, 0, 0x80, 0x800, 0x10000};
	unsigned char b = (unsigned char)s.p[at];
	size_t n = b < 0x80 ? 1 : b < 0xc2 ? 0 : b < 0xe0 ? 2 : b < 0xf0 ? 3 : b < 0xf5 ? 4 : 0;
	int32_t c;

	*ret_width = 1;
	if (n == 1)
		return b;
	if (n == 0 || n > s.len - at)
		return -1;
	c = b & (0xff >> (n + 1));
	for (size_t i = 1; i < n; i++) {
		b = (unsigned char)s.p[at + i];
		if ((b & 0xc0) != 0x80)
			return -1;
		c = c << 6 | (b & 0x3f);
	}
	if (c < least[n] || c > 0x10ffff || (c >= 0xd800 && c <= 0xdfff))
		return -1;
	*ret_width = n;
	return c;
}

size_t utf8_put(char out[UTF8_MAX], uint32_t c)
{
	static const unsigned char head[] = {0, 0, 0xc0, 0xe0, 0xf0};
	size_t n = c < 0x80 ? 1 : c < 0x800 ? 2 : c < 0x10000 ? 3 : 4;

	for (size_t i = n - 1; i > 0; i--, c >>= 6)
		out[i] = (char)(0x80 | (c & 0x3f));
	out[0] = (char)(head[n] | c);
	return n;
}
