// SPDX-License-Identifier: Apache-2.0
/* Base64, both ways. Owns nothing. */
#include "base/base64.h"

#include <errno.h>

#include "base/banned.h"

static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

int base64_encode(struct str data, struct buf *b)
{
	const uint8_t *p = (const uint8_t *)data.p;

	if (buf_reserve(b, (data.len + 2) / 3 * 4) < 0)
		return -ENOMEM;
	for (size_t i = 0; i < data.len; i += 3) {
		size_t n = data.len - i < 3 ? data.len - i : 3;
		uint32_t v = (uint32_t)p[i] << 16;

		if (n > 1)
			v |= (uint32_t)p[i + 1] << 8;
		if (n > 2)
			v |= p[i + 2];
		for (size_t k = 0; k < 4; k++)
			b->data[b->len++] =
				k <= n ? (uint8_t)digits[v >> (18 - 6 * k) & 63] : (uint8_t)'=';
	}
	return 0;
}

static int value_of(char c)
{
	if (c >= 'A' && c <= 'Z')
		return c - 'A';
	if (c >= 'a' && c <= 'z')
		return c - 'a' + 26;
	if (c >= '0' && c <= '9')
		return c - '0' + 52;
	return c == '+' ? 62 : c == '/' ? 63 : -1;
}

int base64_decode(struct str text, struct buf *b)
{
	uint32_t v = 0;
	unsigned bits = 0;

	for (int i = 0; i < 2 && text.len && text.p[text.len - 1] == '='; i++)
		text.len--;
	if (text.len % 4 == 1)
		return -EINVAL;
	if (buf_reserve(b, text.len / 4 * 3 + 3) < 0)
		return -ENOMEM;
	for (size_t i = 0; i < text.len; i++) {
		int d = value_of(text.p[i]);

		if (d < 0)
			return -EINVAL;
		v = v << 6 | (uint32_t)d;
		bits += 6;
		if (bits >= 8) {
			bits -= 8;
			b->data[b->len++] = (uint8_t)(v >> bits);
		}
	}
	return 0;
}
