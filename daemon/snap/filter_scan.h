/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The tokens of a filter (containerd pkg/filters, scanner.go and quote.go), for filter.c. The
 * functions read at the position and move it; 0, -ENOMEM, or -EINVAL with the cause in fault. Pure.
 */
#ifndef FIRSTLIGHT_SNAP_FILTER_SCAN_H
#define FIRSTLIGHT_SNAP_FILTER_SCAN_H

#include <stdint.h>

#include "base/buf.h"
#include "base/str.h"

/* What is no code point: the end, and what containerd refuses anywhere (NUL, bad UTF-8, U+FFFD). */
enum { SCAN_END = -1, SCAN_BAD = -2 };

struct scan {
	struct str s;
	size_t pos;
	struct buf text; /* the field or value that was read; the owner calls buf_fini */
	const char *fault;
};

/* The code point at the position, or one of the above. */
int32_t scan_peek(const struct scan *s);

/* Appends one part of a field path to text. White space before it is skipped. */
int scan_field(struct scan *s);

/*
 * The characters of an operator, any run of = ! ~, at the position, where it stays. White space
 * before it is skipped.
 */
struct str scan_operator(struct scan *s);

/*
 * Puts a value into text. White space before it is skipped. alt: may it be quoted with / or |? A
 * value without quotes ends at a comma or white space; *ret_bare tells that it is one. containerd
 * wants its characters but the first to be graphic: that is left to the caller.
 */
int scan_value(struct scan *s, bool alt, bool *ret_bare);

#endif
