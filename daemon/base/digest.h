/* SPDX-License-Identifier: Apache-2.0 */
/* SHA-256 and the text of digests (OCI image-spec, descriptor.md "Digests"). Any thread. */
#ifndef FIRSTLIGHT_BASE_DIGEST_H
#define FIRSTLIGHT_BASE_DIGEST_H

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "base/str.h"

#define DIGEST_SIZE      32
#define DIGEST_HEX_SIZE  (2 * DIGEST_SIZE + 1)
#define DIGEST_TEXT_SIZE (sizeof("sha256:") - 1 + DIGEST_HEX_SIZE)

struct digest {
	uint8_t bytes[DIGEST_SIZE];
};

static inline bool digest_eq(const struct digest *a, const struct digest *b)
{
	return memcmp(a->bytes, b->bytes, DIGEST_SIZE) == 0;
}

/* "sha256:" and 64 lower-case hex digits; -EINVAL. */
int digest_parse(struct str text, struct digest *ret);
/* 64 lower-case hex digits; -EINVAL. */
int digest_parse_hex(struct str hex, struct digest *ret);

void digest_hex(const struct digest *d, char ret[DIGEST_HEX_SIZE]);
/* With "sha256:". */
void digest_text(const struct digest *d, char ret[DIGEST_TEXT_SIZE]);

void sha256(const void *data, size_t n, struct digest *ret);

/* In pieces. A zeroed struct needs sha256_init(); sha256_fini() is always allowed after it. */
struct sha256 {
	void *ctx;
};
#define auto_sha256 cleanup(sha256_fini)
int sha256_init(struct sha256 *s) must_check; /* -ENOMEM */
void sha256_add(struct sha256 *s, const void *data, size_t n);
void sha256_done(struct sha256 *s, struct digest *ret); /* init again before the next use */
void sha256_fini(struct sha256 *s);

#endif
