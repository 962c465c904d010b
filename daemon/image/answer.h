/* SPDX-License-Identifier: Apache-2.0 */
/* What the heads and bodies of registries' answers say. Pure. */
#ifndef FIRSTLIGHT_IMAGE_ANSWER_H
#define FIRSTLIGHT_IMAGE_ANSWER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/arena.h"
#include "base/str.h"

/* Content-Range (RFC 9110, 14.4): "bytes 0-9/100", "bytes 0-9/\*" (total 0), "bytes *\/100"
 * (unsatisfied). */
struct content_range {
	bool unsatisfied;
	uint64_t first, last, total;
};

/* -EINVAL. */
int content_range_parse(struct str text, struct content_range *ret);

/* Retry-After: seconds, or a date as seen from now (Unix time). Milliseconds, at most
 * REGISTRY_RETRY_AFTER_MAX_MS; 0 = no such thing. */
unsigned retry_after_ms(struct str text, int64_t now);

/* WWW-Authenticate (RFC 9110, 11.6.1). */
enum challenge_scheme { CHALLENGE_OTHER, CHALLENGE_BASIC, CHALLENGE_BEARER };
struct challenge {
	enum challenge_scheme scheme;
	struct str realm, service, scope; /* NUL behind each; .p NULL = not given */
};

/* The challenges of one header line, in a, at most max; how many. What follows bad syntax is
 * dropped. */
size_t challenges_parse(struct str text, struct arena *a, struct challenge *ret, size_t max);

/* What a body of an error says, for people: one line, in a; "" if nothing. */
const char *error_message(struct str body, struct arena *a);

#endif
