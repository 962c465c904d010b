/* SPDX-License-Identifier: Apache-2.0 */
/*
 * containerd's filter language for snapshots (containerd pkg/filters, documented in its filter.go):
 *
 *   list     = OR of filters; an empty list and an empty filter match all
 *   filter   = selector {"," selector}, AND
 *   selector = field {"." field} [("==" | "!=" | "~=") value]
 *
 * The fields of a snapshot are kind, name, parent and labels.<key>; any other is absent. A selector
 * without an operator asks for presence; != holds and ~= sees "" when the field is absent.
 *
 * ~= takes an RE2 expression. It runs on PCRE2, which backtracks: an expression that would take
 * more than REGEX_MATCH_STEPS_MAX steps on a value does not match it. One that Go would refuse
 * never matches, nor does one that nests deeper or compiles to more than filter_re.h and PCRE2 (64
 * KiB) allow.
 *
 * Approximated: which code points are graphic, letters or a script follows the Unicode version of
 * PCRE2 (14 in 10.42; Go 1.19 has 13, Go 1.21 has 15). Values that are not UTF-8 match no
 * expression.
 */
#ifndef FIRSTLIGHT_SNAP_FILTER_H
#define FIRSTLIGHT_SNAP_FILTER_H

#include <stdbool.h>

#include "base/err.h"
#include "base/limits.h"
#include "base/str.h"
#include "store/label.h"

#define FILTER_STACK_MAX KiB(36) /* a task has 64 KiB */

struct filter;

/* What is matched. kind: "active", "view", "committed". */
struct filter_subject {
	struct str name, parent, kind;
	const struct label *labels;
	size_t labels_n;
};

/*
 * Compiles n filters; nothing of exprs is kept. -EINVAL with "filter N, byte M: cause" for a filter
 * that is not valid and for what exceeds FILTERS_MAX, FILTER_MAX and FILTER_RE_FOLD_MAX; -ENOMEM.
 * Needs up to FILTER_STACK_MAX bytes of stack when there are expressions.
 */
int filter_parse(struct filter **ret, const struct str *exprs, size_t n, struct err *err);

/* One thread at a time for one filter: expressions share scratch memory. */
bool filter_match(const struct filter *f, const struct filter_subject *s);

/* Does all that matches have the label key == *ret? The value lives as long as f. */
bool filter_wants_label(const struct filter *f, struct str key, struct str *ret);

void filter_free(struct filter *f);

#define auto_filter cleanup(filter_freep_)

static inline void filter_freep_(struct filter **f)
{
	filter_free(*f);
}

#endif
