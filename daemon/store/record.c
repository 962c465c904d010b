// SPDX-License-Identifier: Apache-2.0
/* Encoding of stored records. Pure; any thread. */
#include "store/record.h"

#include <endian.h>
#include <stddef.h>
#include <string.h>

#include "base/limits.h"

#include "base/banned.h"

/* What comes before the strings; include/format.h. */
struct head {
	uint8_t version, kind;
	uint16_t zero;
	uint64_t id;
	int64_t created, updated, size, inodes;
	uint64_t boot;
	uint32_t layer;
} __attribute__((packed));
#define HEAD_SIZE_V1 offsetof(struct head, layer)

static int put_str(struct buf *b, struct str s)
{
	uint32_t n = htole32((uint32_t)s.len);
	int r = buf_append(b, &n, sizeof(n));

	return r < 0 ? r : buf_append(b, s.p, s.len);
}

int record_encode(const struct record *r, struct buf *b)
{
	struct head h = {
		.version = SNAPSHOT_RECORD_VERSION,
		.kind = (uint8_t)r->kind,
		.id = htole64(r->id),
		.created = (int64_t)htole64((uint64_t)r->created_ns),
		.updated = (int64_t)htole64((uint64_t)r->updated_ns),
		.size = (int64_t)htole64((uint64_t)r->size),
		.inodes = (int64_t)htole64((uint64_t)r->inodes),
		.boot = htole64(r->boot),
		.layer = htole32(r->layer),
	};
	uint32_t n = htole32((uint32_t)r->labels_n);

	if (buf_append(b, &h, sizeof(h)) < 0 || put_str(b, r->parent) < 0 ||
	    buf_append(b, &n, sizeof(n)) < 0)
		return -ENOMEM;
	for (size_t i = 0; i < r->labels_n; i++) {
		if (put_str(b, r->labels[i].key) < 0 || put_str(b, r->labels[i].value) < 0)
			return -ENOMEM;
	}
	return 0;
}

static int get_u32(struct str *in, uint32_t *ret)
{
	if (in->len < sizeof(*ret))
		return -EBADMSG;
	memcpy(ret, in->p, sizeof(*ret));
	*ret = le32toh(*ret);
	in->p += sizeof(*ret);
	in->len -= sizeof(*ret);
	return 0;
}

static int get_str(struct str *in, struct str *ret)
{
	uint32_t n;

	if (get_u32(in, &n) < 0 || n > in->len)
		return -EBADMSG;
	*ret = (struct str){in->p, n};
	in->p += n;
	in->len -= n;
	return 0;
}

static int get_labels(struct str *in, struct arena *a, struct record *ret)
{
	struct label *labels;
	uint32_t n;

	if (get_u32(in, &n) < 0 || n > LABELS_MAX)
		return -EBADMSG;
	labels = arena_alloc(a, n * sizeof(*labels));
	if (!labels)
		return -ENOMEM;
	for (uint32_t i = 0; i < n; i++) {
		if (get_str(in, &labels[i].key) < 0 || get_str(in, &labels[i].value) < 0)
			return -EBADMSG;
		if (i > 0 && str_cmp(labels[i - 1].key, labels[i].key) >= 0)
			return -EBADMSG;
	}
	ret->labels = labels;
	ret->labels_n = n;
	return in->len == 0 ? 0 : -EBADMSG;
}

int record_decode(struct str in, struct arena *a, struct record *ret, struct err *err)
{
	struct record out = {0};
	struct head h = {0};
	size_t size = sizeof(h);
	int r;

	if (in.len < 1)
		return err_set(err, -EBADMSG, "empty record");
	if ((uint8_t)in.p[0] > SNAPSHOT_RECORD_VERSION)
		return err_set(err, -ENOTSUP, "record of version %u; this program knows %u",
			       (uint8_t)in.p[0], SNAPSHOT_RECORD_VERSION);
	if (in.p[0] == 1)
		size = HEAD_SIZE_V1;
	if (in.len < size)
		return err_set(err, -EBADMSG, "record of %zu bytes is too short", in.len);
	memcpy(&h, in.p, size);
	in.p += size;
	in.len -= size;
	if (!h.version || h.zero || h.kind < SNAPSHOT_VIEW || h.kind > SNAPSHOT_COMMITTED ||
	    (h.layer && h.kind != SNAPSHOT_COMMITTED))
		return err_set(err, -EBADMSG, "damaged record (version %u, kind %u)", h.version,
			       h.kind);
	out.kind = h.kind;
	out.id = le64toh(h.id);
	out.created_ns = (int64_t)le64toh((uint64_t)h.created);
	out.updated_ns = (int64_t)le64toh((uint64_t)h.updated);
	out.size = (int64_t)le64toh((uint64_t)h.size);
	out.inodes = (int64_t)le64toh((uint64_t)h.inodes);
	out.boot = le64toh(h.boot);
	out.layer = le32toh(h.layer);
	r = get_str(&in, &out.parent);
	if (r == 0)
		r = get_labels(&in, a, &out);
	if (r < 0)
		return err_set(err, r, "damaged record");
	*ret = out;
	return 0;
}
