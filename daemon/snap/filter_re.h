/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Translation of RE2 expressions (Go regexp/syntax, github.com/google/re2/wiki/Syntax) to PCRE2's
 * dialect, for filter.c. The two look alike and differ in many places (\v, \s, a++, ^*, \p{Greek},
 * …); here every construct is read as Go reads it and written in a form that means the same. What
 * Go refuses is refused, so no lookaround, back-reference, atomic group or (*VERB) gets through.
 * Pure.
 */
#ifndef FIRSTLIGHT_SNAP_FILTER_RE_H
#define FIRSTLIGHT_SNAP_FILTER_RE_H

#include "base/buf.h"
#include "base/str.h"

#define FILTER_RE_NEST_MAX   16   /* groups in groups; PCRE2 compiles them by recursion */
#define FILTER_RE_REPEAT_MAX 1000 /* {n,m}, nested ones multiplied; Go's own limit */

/* Code points in the ranges of caseless classes: PCRE2 looks at each, about 2 ms for a \W. */
#define FILTER_RE_FOLD_MAX ((size_t)16 << 20)

/*
 * Appends the PCRE2 pattern that finds re anywhere in a subject; to be compiled with PCRE2_UTF,
 * PCRE2_ANCHORED and PCRE2_ALT_CIRCUMFLEX, LF as the only new line, and
 * PCRE2_EXTRA_ALLOW_SURROGATE_ESCAPES. *folded counts the code points that FILTER_RE_FOLD_MAX
 * bounds, through many calls. -EINVAL if it is no RE2 expression, -E2BIG, -ENOMEM.
 */
int filter_re(struct str re, size_t *folded, struct buf *out);

#endif
