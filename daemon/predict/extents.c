// SPDX-License-Identifier: Apache-2.0
/* Extents as bytes, and what several have in common. Owns nothing. */
#include "predict/extents.h"

#include <endian.h>
#include <stdlib.h>
#include <string.h>

#include "base/limits.h"
#include "format.h"

#include "base/banned.h"

struct head {
	uint8_t version, zero8;
	uint16_t zero16;
	uint32_t blobs, contents, list;
} __attribute__((packed));

struct item {
	uint32_t blob, content;
	uint64_t off;
	uint32_t len;
} __attribute__((packed));

int extents_encode(const struct extents *e, struct buf *value)
{
	const struct head h = {
		.version = EXTENTS_RECORD_VERSION,
		.blobs = htole32((uint32_t)e->blobs_n),
		.contents = htole32((uint32_t)e->contents_n),
		.list = htole32((uint32_t)e->n),
	};
	int r = buf_append(value, &h, sizeof(h));

	if (r == 0)
		r = buf_append(value, e->blobs, e->blobs_n * DIGEST_SIZE);
	if (r == 0)
		r = buf_append(value, e->contents, e->contents_n * DIGEST_SIZE);
	for (size_t i = 0; r == 0 && i < e->n; i++) {
		const struct extent *x = &e->list[i];
		const struct item it = {htole32(x->blob), htole32(x->content), htole64(x->off),
					htole32((uint32_t)x->len)};

		r = buf_append(value, &it, sizeof(it));
	}
	return r;
}

static int by_place(const void *pa, const void *pb)
{
	const struct extent *a = *(const struct extent *const *)pa,
			    *b = *(const struct extent *const *)pb;

	if (a->blob != b->blob)
		return a->blob < b->blob ? -1 : 1;
	return a->off < b->off ? -1 : a->off > b->off;
}

static bool none_twice(const struct extent *list, size_t n, const struct extent **sorted)
{
	for (size_t i = 0; i < n; i++)
		sorted[i] = &list[i];
	if (n)
		qsort(sorted, n, sizeof(*sorted), by_place);
	for (size_t i = 1; i < n; i++) {
		if (by_place(&sorted[i - 1], &sorted[i]) == 0)
			return false;
	}
	return true;
}

static int take_list(const char *in, struct arena *a, struct extents *e)
{
	struct extent *list = arena_alloc(a, (e->n + 1) * sizeof(*list));
	const struct extent **sorted = arena_alloc(a, (e->n + 1) * sizeof(*sorted));
	uint64_t bytes = 0;
	struct item it;

	if (!list || !sorted)
		return -ENOMEM;
	for (size_t i = 0; i < e->n; i++, in += sizeof(it)) {
		memcpy(&it, in, sizeof(it));
		list[i] = (struct extent){le32toh(it.blob), le32toh(it.content), le64toh(it.off),
					  le32toh(it.len)};
		bytes += list[i].len;
		if (list[i].blob >= e->blobs_n || list[i].content >= e->contents_n ||
		    !list[i].len || list[i].off > INT64_MAX - list[i].len ||
		    bytes > EXTENTS_BYTES_MAX)
			return -EBADMSG;
	}
	e->list = list;
	return none_twice(list, e->n, sorted) ? 0 : -EBADMSG;
}

/* The record may lie anywhere; digests are bytes. */
static int take_all(struct str value, struct arena *a, struct extents *e)
{
	struct head h;
	const char *in;

	if (value.len < sizeof(h))
		return -EBADMSG;
	memcpy(&h, value.p, sizeof(h));
	in = value.p + sizeof(h);
	*e = (struct extents){.blobs_n = le32toh(h.blobs),
			      .contents_n = le32toh(h.contents),
			      .n = le32toh(h.list)};
	if (h.version != EXTENTS_RECORD_VERSION || h.zero8 || h.zero16 ||
	    e->blobs_n > EXTENTS_BLOBS_MAX || e->n > EXTENTS_MAX || e->contents_n > e->n ||
	    value.len - sizeof(h) !=
		    (e->blobs_n + e->contents_n) * DIGEST_SIZE + e->n * sizeof(struct item))
		return -EBADMSG;
	e->blobs = (const struct digest *)in;
	e->contents = e->blobs + e->blobs_n;
	return take_list(in + (e->blobs_n + e->contents_n) * DIGEST_SIZE, a, e);
}

_Static_assert(sizeof(struct digest) == DIGEST_SIZE && _Alignof(struct digest) == 1,
	       "digests are read where they lie");

int extents_decode(struct str value, struct arena *a, struct extents *ret, struct err *err)
{
	struct extents e;
	int r;

	if (value.len && (uint8_t)value.p[0] > EXTENTS_RECORD_VERSION)
		return err_set(err, -ENOTSUP, "extents of version %u; this program knows %u",
			       (uint8_t)value.p[0], EXTENTS_RECORD_VERSION);
	r = take_all(value, a, &e);
	if (r < 0)
		return err_set(err, r, r == -ENOMEM ? "no memory for extents" : "damaged extents");
	*ret = e;
	return 0;
}

static bool has(const struct extents *e, const struct digest *blob, uint64_t off)
{
	for (size_t i = 0; i < e->n; i++) {
		if (e->list[i].off == off && digest_eq(&e->blobs[e->list[i].blob], blob))
			return true;
	}
	return false;
}

int extents_common(const struct extents *all, size_t n, struct arena *a, struct extents *ret)
{
	struct extent *list = arena_alloc(a, (all[0].n + 1) * sizeof(*list));
	size_t found = 0;

	if (!list)
		return -ENOMEM;
	for (size_t i = 0; i < all[0].n; i++) {
		const struct extent *x = &all[0].list[i];
		size_t k = 1;

		while (k < n && has(&all[k], &all[0].blobs[x->blob], x->off))
			k++;
		if (k == n)
			list[found++] = *x;
	}
	*ret = all[0];
	ret->list = list;
	ret->n = found;
	return 0;
}
