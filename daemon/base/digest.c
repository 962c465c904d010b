// SPDX-License-Identifier: Apache-2.0
/* SHA-256 by libcrypto, and the only file that includes it. */
#include "base/digest.h"

#include <openssl/evp.h>

#include "base/err.h"

#include "base/banned.h"

#define PREFIX STR("sha256:")

static int nibble(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	return -1;
}

int digest_parse_hex(struct str hex, struct digest *ret)
{
	struct digest d;

	if (hex.len != 2 * DIGEST_SIZE)
		return -EINVAL;
	for (size_t i = 0; i < DIGEST_SIZE; i++) {
		int high = nibble(hex.p[2 * i]), low = nibble(hex.p[2 * i + 1]);

		if (high < 0 || low < 0)
			return -EINVAL;
		d.bytes[i] = (uint8_t)(high << 4 | low);
	}
	*ret = d;
	return 0;
}

int digest_parse(struct str text, struct digest *ret)
{
	if (!str_starts(text, PREFIX))
		return -EINVAL;
	return digest_parse_hex((struct str){text.p + PREFIX.len, text.len - PREFIX.len}, ret);
}

void digest_hex(const struct digest *d, char ret[DIGEST_HEX_SIZE])
{
	static const char digits[] = "0123456789abcdef";

	for (size_t i = 0; i < DIGEST_SIZE; i++) {
		ret[2 * i] = digits[d->bytes[i] >> 4];
		ret[2 * i + 1] = digits[d->bytes[i] & 15];
	}
	ret[2 * DIGEST_SIZE] = 0;
}

void digest_text(const struct digest *d, char ret[DIGEST_TEXT_SIZE])
{
	memcpy(ret, PREFIX.p, PREFIX.len);
	digest_hex(d, ret + PREFIX.len);
}

void sha256(const void *data, size_t n, struct digest *ret)
{
	unsigned len = 0;

	require(EVP_Digest(data, n, ret->bytes, &len, EVP_sha256(), NULL) == 1 &&
		len == DIGEST_SIZE);
}

int sha256_init(struct sha256 *s)
{
	if (!s->ctx)
		s->ctx = EVP_MD_CTX_new();
	return s->ctx && EVP_DigestInit_ex(s->ctx, EVP_sha256(), NULL) == 1 ? 0 : -ENOMEM;
}

void sha256_add(struct sha256 *s, const void *data, size_t n)
{
	require(EVP_DigestUpdate(s->ctx, data, n) == 1);
}

void sha256_done(struct sha256 *s, struct digest *ret)
{
	unsigned len = 0;

	require(EVP_DigestFinal_ex(s->ctx, ret->bytes, &len) == 1 && len == DIGEST_SIZE);
}

void sha256_fini(struct sha256 *s)
{
	EVP_MD_CTX_free(s->ctx);
	s->ctx = NULL;
}
