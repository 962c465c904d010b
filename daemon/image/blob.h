/* SPDX-License-Identifier: Apache-2.0 */
/* A part of a blob that is put together from the answers of registries. Pure; for registry.c. */
#ifndef FIRSTLIGHT_IMAGE_BLOB_H
#define FIRSTLIGHT_IMAGE_BLOB_H

#include "image/registry.h"

struct blob_part {
	const struct blob_request *q;
	bool known;        /* pos and end are; not yet for BLOB_TAIL */
	uint64_t pos, end; /* the next byte to give, and the one behind the last */
	uint64_t total;    /* size of the blob; 0 = not known */
	bool probe;        /* this request only asks for the size */
	bool no_suffix;    /* "bytes=-N" was not understood */
	/* of the answer that is being read */
	uint64_t at, until; /* its next byte; the byte behind its last, UINT64_MAX = not known */
	int given;          /* what on_data answered, if negative */
	bool whole;         /* Range is ignored: all before the part comes too */
	bool wrong;         /* it is not what was asked for */
	const char *why;
};

void blob_start(struct blob_part *p, const struct blob_request *q);
/* "Range: …" for what is missing. */
int blob_range(struct blob_part *p, char *ret, size_t n);
bool blob_complete(const struct blob_part *p);
/* For struct exchange; arg is the part. -EALREADY: enough; -EBADMSG: wrong. */
int blob_on_head(void *arg, const struct http_head *head);
int blob_on_body(void *arg, const void *data, size_t n);

#endif
