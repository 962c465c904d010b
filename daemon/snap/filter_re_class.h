/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The parts of an RE2 expression that stand for one character: escapes, classes, properties. For
 * filter_re.c. The functions read at the position, move it, and append to the pattern; false means
 * that Go would refuse the expression. Pure.
 */
#ifndef FIRSTLIGHT_SNAP_FILTER_RE_CLASS_H
#define FIRSTLIGHT_SNAP_FILTER_RE_CLASS_H

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/str.h"

struct re_text {
	struct str s; /* the expression, valid UTF-8 */
	size_t pos;
	struct buf *out; /* the pattern */
	bool fold;       /* is caseless matching on at the end of out? */
	size_t folded;   /* code points in the ranges of caseless classes so far */
	int error;       /* of out: -ENOMEM */
};

#define RE_EMIT(t, ...)                                                                            \
	do {                                                                                       \
		if ((t)->error == 0)                                                               \
			(t)->error = buf_printf((t)->out, __VA_ARGS__);                            \
	} while (0)

/* The byte at the position + n; -1 behind the end. */
static inline int re_peek(const struct re_text *t, size_t n)
{
	return t->s.len - t->pos > n ? (unsigned char)t->s.p[t->pos + n] : -1;
}

static inline bool re_digit(int c)
{
	return c >= '0' && c <= '9';
}

static inline bool re_alpha(int c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

/* The code point at the position. */
int32_t re_rune(struct re_text *t);

/* An escape that is one character; the position is behind the backslash. Emits nothing. */
bool re_escape(struct re_text *t, int32_t *ret_c);

/* Is \c (d, D, s, S, w, W, p, P) a set of characters? */
bool re_is_set(int c);

/* Such a set, to stand inside [ ]; the position is behind the backslash. */
bool re_set(struct re_text *t);

/* A bracket expression; the position is behind its [. */
bool re_class(struct re_text *t);

#endif
