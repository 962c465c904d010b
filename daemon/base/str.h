/* SPDX-License-Identifier: Apache-2.0 */
/* Runs of characters with a length, and the parsing of numbers. Pure. */
#ifndef FIRSTLIGHT_BASE_STR_H
#define FIRSTLIGHT_BASE_STR_H

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "base/clean.h"

/* Not owned; need not end in NUL. */
struct str {
	const char *p;
	size_t len;
};

#define STR(lit)   ((struct str){(lit), sizeof(lit) - 1})
#define STR_FMT    "%.*s"
#define STR_ARG(s) (int)(s).len, (s).p

static inline struct str str_of(const char *z)
{
	return (struct str){z, z ? strlen(z) : 0};
}

static inline bool str_eq(struct str a, struct str b)
{
	return a.len == b.len && (a.len == 0 || memcmp(a.p, b.p, a.len) == 0);
}

static inline bool str_starts(struct str s, struct str prefix)
{
	return s.len >= prefix.len && (prefix.len == 0 || memcmp(s.p, prefix.p, prefix.len) == 0);
}

/* Takes what stands before the next `end` off *rest, and that; all of it where there is none. */
static inline struct str str_cut(struct str *rest, char end)
{
	const char *at = rest->len ? memchr(rest->p, end, rest->len) : NULL;
	struct str one = {rest->p, at ? (size_t)(at - rest->p) : rest->len};
	size_t n = one.len + (at != NULL);

	*rest = (struct str){rest->p + n, rest->len - n};
	return one;
}

/* Order by bytes, shorter first when one is the start of the other. */
int str_cmp(struct str a, struct str b);

/* Decimal digits only, whole string; -EINVAL, -ERANGE. */
int str_u64(struct str s, uint64_t *ret_v);

/* Valid UTF-8 (RFC 3629: shortest form, no surrogates, ≤ U+10FFFF)? */
bool str_utf8(struct str s);

/* s in double quotes, a backslash before each " and \ of it; cut where out is full (size >= 3, with
 * the NUL). For words of log lines. Answers out. */
const char *str_quoted(struct str s, char *out, size_t size);

#endif
