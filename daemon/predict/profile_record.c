// SPDX-License-Identifier: Apache-2.0
/* The bytes of profiles (include/format.h). Pure; any thread. */
#include <endian.h>

#include "format.h"
#include "predict/profile.h"

#include "base/banned.h"

struct head {
	uint8_t version, zero8;
	uint16_t zero16;
	uint32_t starts, whole;
	int64_t last;
	uint32_t span, paths, uses;
} __attribute__((packed));

struct use {
	uint32_t path, unit, units, at, weight;
};
_Static_assert(sizeof(struct use) == sizeof(struct profile_use), "bound() counts with it");

size_t profile_size(const struct profile *p)
{
	size_t n = sizeof(struct head) + p->uses_n * sizeof(struct use);

	for (size_t i = 0; i < p->paths_n; i++)
		n += sizeof(uint32_t) + p->paths[i].len;
	return n;
}

int profile_key_encode(const struct profile *p, struct buf *key)
{
	if (buf_append(key, p->repository.p, p->repository.len) < 0 || buf_append(key, "", 1) < 0 ||
	    buf_append(key, p->executable.p, p->executable.len) < 0)
		return -ENOMEM;
	return 0;
}

int profile_encode(const struct profile *p, struct buf *value)
{
	const struct head h = {
		.version = PROFILE_RECORD_VERSION,
		.starts = htole32(p->starts),
		.whole = htole32(p->whole),
		.last = (int64_t)htole64((uint64_t)p->last_ns),
		.span = htole32(p->span_us),
		.paths = htole32((uint32_t)p->paths_n),
		.uses = htole32((uint32_t)p->uses_n),
	};
	int r = buf_reserve(value, profile_size(p));

	if (r == 0)
		r = buf_append(value, &h, sizeof(h));
	for (size_t i = 0; r == 0 && i < p->paths_n; i++) {
		uint32_t n = htole32((uint32_t)p->paths[i].len);

		r = buf_append(value, &n, sizeof(n));
		if (r == 0)
			r = buf_append(value, p->paths[i].p, p->paths[i].len);
	}
	for (size_t i = 0; r == 0 && i < p->uses_n; i++) {
		const struct profile_use *in = &p->uses[i];
		const struct use u = {htole32(in->path), htole32(in->unit), htole32(in->units),
				      htole32(in->at_us), htole32(in->weight)};

		r = buf_append(value, &u, sizeof(u));
	}
	return r;
}

static int take(struct str *in, void *to, size_t n)
{
	if (in->len < n)
		return -EBADMSG;
	memcpy(to, in->p, n);
	*in = (struct str){in->p + n, in->len - n};
	return 0;
}

static int take_paths(struct str *in, struct arena *a, size_t n, struct profile *out)
{
	struct str *paths = arena_alloc(a, (n + 1) * sizeof(*paths));
	uint32_t len;

	if (!paths)
		return -ENOMEM;
	for (size_t i = 0; i < n; i++) {
		if (take(in, &len, sizeof(len)) < 0 || le32toh(len) > in->len)
			return -EBADMSG;
		len = le32toh(len);
		paths[i] = (struct str){in->p, len};
		*in = (struct str){in->p + len, in->len - len};
	}
	out->paths = paths;
	out->paths_n = n;
	return 0;
}

static int take_uses(struct str *in, struct arena *a, size_t n, struct profile *out)
{
	struct profile_use *uses = arena_alloc(a, (n + 1) * sizeof(*uses));
	struct use u;

	if (!uses)
		return -ENOMEM;
	if (in->len != n * sizeof(u))
		return -EBADMSG;
	for (size_t i = 0; i < n; i++) {
		if (take(in, &u, sizeof(u)) < 0)
			return -EBADMSG;
		uses[i] = (struct profile_use){le32toh(u.path), le32toh(u.unit), le32toh(u.units),
					       le32toh(u.at), le32toh(u.weight)};
	}
	out->uses = uses;
	out->uses_n = n;
	return 0;
}

static int take_key(struct str key, struct profile *out)
{
	const char *nul = key.len ? memchr(key.p, '\0', key.len) : NULL;

	if (!nul)
		return -EBADMSG;
	out->repository = (struct str){key.p, (size_t)(nul - key.p)};
	out->executable = (struct str){nul + 1, key.len - out->repository.len - 1};
	return 0;
}

static int take_all(struct str key, struct str in, struct arena *a, struct profile *out)
{
	struct head h;
	int r;

	if (take(&in, &h, sizeof(h)) < 0 || h.version != PROFILE_RECORD_VERSION || h.zero8 ||
	    h.zero16 || le32toh(h.uses) > PROFILE_USES_MAX || le32toh(h.paths) > le32toh(h.uses))
		return -EBADMSG;
	*out = (struct profile){
		.starts = le32toh(h.starts),
		.whole = le32toh(h.whole),
		.last_ns = (int64_t)le64toh((uint64_t)h.last),
		.span_us = le32toh(h.span),
	};
	r = take_key(key, out);
	if (r == 0)
		r = take_paths(&in, a, le32toh(h.paths), out);
	return r < 0 ? r : take_uses(&in, a, le32toh(h.uses), out);
}

int profile_decode(struct str key, struct str value, struct arena *a, struct profile *ret,
		   struct err *err)
{
	struct profile out;
	int r;

	if (value.len && (uint8_t)value.p[0] > PROFILE_RECORD_VERSION)
		return err_set(err, -ENOTSUP, "profile of version %u; this program knows %u",
			       (uint8_t)value.p[0], PROFILE_RECORD_VERSION);
	r = take_all(key, value, a, &out);
	if (r < 0)
		return err_set(err, r,
			       r == -ENOMEM ? "no memory for a profile" : "damaged profile");
	r = profile_check(&out, err);
	if (r == -EINVAL)
		return err_wrap(err, -EBADMSG, "damaged profile");
	if (r == 0)
		*ret = out;
	return r;
}
