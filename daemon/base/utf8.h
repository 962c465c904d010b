/* SPDX-License-Identifier: Apache-2.0 */
/* One code point in, one out (RFC 3629). Pure; any thread. */
#ifndef FIRSTLIGHT_BASE_UTF8_H
#define FIRSTLIGHT_BASE_UTF8_H

#include "base/str.h"

#define UTF8_MAX 4

/* The code point at byte at < s.len and its width in bytes; -1 and a width of 1 if it is not valid.
 */
int32_t utf8_get(struct str s, size_t at, size_t *ret_width);

/* Writes c ≤ U+10FFFF; how many bytes. Surrogates are written as they are. */
size_t utf8_put(char out[UTF8_MAX], uint32_t c);

#endif
