// SPDX-License-Identifier: Apache-2.0
/* Puts parts of blobs together. Owns nothing. */
#include "image/blob.h"

#include <inttypes.h>
#include <stdio.h>
#include <strings.h>

#include "image/answer.h"

#include "base/banned.h"

void blob_start(struct blob_part *p, const struct blob_request *q)
{
	*p = (struct blob_part){.q = q};
	if (q->off == BLOB_TAIL)
		return;
	p->known = true;
	p->pos = q->off;
	p->end = q->off + q->len;
}

int blob_range(struct blob_part *p, char *ret, size_t n)
{
	p->given = 0;
	p->wrong = false;
	p->probe = !p->known && p->no_suffix;
	if (p->probe)
		return snprintf(ret, n, "Range: bytes=0-0");
	if (!p->known)
		return snprintf(ret, n, "Range: bytes=-%" PRIu64, p->q->len);
	return snprintf(ret, n, "Range: bytes=%" PRIu64 "-%" PRIu64, p->pos, p->end - 1);
}

bool blob_complete(const struct blob_part *p)
{
	return p->known && p->pos == p->end;
}

static int wrong(struct blob_part *p, const char *why)
{
	p->wrong = true;
	p->why = why;
	return -EBADMSG;
}

/* The size is known now; it never changes. */
static int set_total(struct blob_part *p, uint64_t total)
{
	if (total == 0)
		return 0;
	if (p->total && p->total != total)
		return wrong(p, "another size of the blob than before");
	p->total = total;
	if (!p->known) {
		p->known = true;
		p->pos = total - (p->q->len < total ? p->q->len : total);
		p->end = total;
	}
	return p->end > total ? wrong(p, "the blob is shorter") : 0;
}

static int head_whole(struct blob_part *p, const struct http_head *head)
{
	struct str length = http_header(head, "content-length");
	uint64_t n = 0;
	int r;

	if (length.len && str_u64(length, &n) < 0)
		return wrong(p, "a bad Content-Length");
	r = set_total(p, n);
	if (r == 0 && !p->known)
		return wrong(p, "the end of a blob of a size that is not said");
	p->whole = true;
	p->at = 0;
	p->until = length.len ? n : UINT64_MAX;
	return r < 0 ? r : p->probe ? -EALREADY : 0;
}

static int head_part(struct blob_part *p, const struct http_head *head)
{
	struct str type = http_header(head, "content-type");
	struct str length = http_header(head, "content-length");
	struct content_range c;
	uint64_t n;
	int r;

	if (type.len >= 10 && strncasecmp(type.p, "multipart/", 10) == 0)
		return wrong(p, "several parts");
	if (content_range_parse(http_header(head, "content-range"), &c) < 0 || c.unsatisfied)
		return wrong(p, "no good Content-Range");
	if (length.len && (str_u64(length, &n) < 0 || n != c.last - c.first + 1))
		return wrong(p, "a Content-Length that does not fit Content-Range");
	if (!p->known && c.total == 0)
		return wrong(p, "a blob of a size that is not said");
	r = set_total(p, c.total);
	if (r < 0)
		return r;
	if (p->probe)
		return -EALREADY;
	if (c.first != p->pos)
		return wrong(p, "another range than was asked for");
	p->at = c.first;
	p->until = c.last + 1;
	return 0;
}

int blob_on_head(void *arg, const struct http_head *head)
{
	struct blob_part *p = arg, before;
	int r;

	p->wrong = false; /* of an answer before this one */
	before = *p;
	r = head->status == 206 ? head_part(p, head) : head_whole(p, head);
	if (p->wrong) { /* what it said of the size is not believed either */
		before.wrong = true;
		before.why = p->why;
		*p = before;
	}
	return r;
}

int blob_on_body(void *arg, const void *data, size_t n)
{
	struct blob_part *p = arg;
	uint64_t from, to;

	if (n > p->until - p->at)
		n = (size_t)(p->until - p->at); /* more than announced */
	from = p->pos > p->at ? p->pos - p->at : 0;
	to = p->end - p->at < n ? p->end - p->at : n;
	if (p->pos < p->end && from < to) {
		p->given = p->q->on_data(p->q->arg, p->pos, (const char *)data + from,
					 (size_t)(to - from));
		if (p->given < 0)
			return p->given;
		p->pos += to - from;
	}
	p->at += n;
	/* A connection whose answer was read to its end serves again. */
	return p->pos == p->end && p->at < p->until ? -EALREADY : 0;
}
