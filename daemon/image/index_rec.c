// SPDX-License-Identifier: Apache-2.0
/* Records of index files and the rules of paths. Pure; any thread. */
#include "image/index_rec.h"

#include <limits.h>

#include "base/limits.h"

#include "base/banned.h"

#define swap32(v) ((v) = le32toh(v))
#define swap64(v) ((v) = (typeof(v))le64toh((uint64_t)(v)))

void index_head_swap(struct index_head *h)
{
	swap32(h->version);
	swap32(h->codec);
	swap64(h->blob_size);
	swap64(h->prefetch_end);
	swap64(h->content_bytes);
	swap64(h->inodes);
	swap64(h->strings_len);
	swap32(h->entries_n);
	swap32(h->xattrs_n);
	swap32(h->objects_n);
	swap32(h->chunks_n);
}

void rec_entry_swap(struct rec_entry *e)
{
	swap32(e->path_off);
	swap32(e->path_len);
	swap32(e->link_off);
	swap32(e->link_len);
	swap64(e->mtime);
	swap32(e->mtime_nsec);
	swap32(e->uid);
	swap32(e->gid);
	swap32(e->dev_major);
	swap32(e->dev_minor);
	swap32(e->target);
	swap32(e->names);
	swap32(e->object);
	swap32(e->xattrs);
	swap32(e->xattrs_n);
	e->mode = le16toh(e->mode);
}

void rec_xattr_swap(struct rec_xattr *x)
{
	swap32(x->name_off);
	swap32(x->name_len);
	swap32(x->value_off);
	swap32(x->value_len);
}

/* FNV-1a: finds a damaged record that is read without the rest of the file. */
uint32_t index_check(const void *rec, size_t n)
{
	const uint8_t *p = rec;
	uint32_t h = 2166136261u;

	for (size_t i = 0; i < n; i++)
		h = (h ^ p[i]) * 16777619u;
	return h;
}

void index_pack_object(const struct index_object *o, struct rec_object *ret)
{
	*ret = (struct rec_object){
		.key = o->key,
		.digest = o->digest,
		.size = htole64(o->size),
		.chunk = htole32(o->chunk),
		.chunks_n = htole32(o->chunks_n),
	};
	ret->check = htole32(index_check(ret, offsetof(struct rec_object, check)));
}

void index_pack_chunk(const struct index_chunk *c, struct rec_chunk *ret)
{
	*ret = (struct rec_chunk){
		.blob_off = htole64(c->blob_off),
		.blob_len = htole64(c->blob_len),
		.inner_off = htole64(c->inner_off),
		.file_off = htole64(c->file_off),
		.size = htole32(c->size),
		.object = htole32(c->object),
		.flags = htole32(c->zeros ? INDEX_CHUNK_ZEROS : 0),
		.digest = c->digest,
	};
	ret->check = htole32(index_check(ret, offsetof(struct rec_chunk, check)));
}

bool index_object_sound(const struct rec_object *r)
{
	return le32toh(r->check) == index_check(r, offsetof(struct rec_object, check));
}

bool index_chunk_sound(const struct rec_chunk *r)
{
	return le32toh(r->check) == index_check(r, offsetof(struct rec_chunk, check)) &&
	       !(le32toh(r->flags) & ~INDEX_CHUNK_ZEROS);
}

void index_unpack_object(const struct rec_object *r, struct index_object *ret)
{
	*ret = (struct index_object){
		.key = r->key,
		.digest = r->digest,
		.size = le64toh(r->size),
		.chunk = le32toh(r->chunk),
		.chunks_n = le32toh(r->chunks_n),
	};
}

void index_unpack_chunk(const struct rec_chunk *r, struct index_chunk *ret)
{
	*ret = (struct index_chunk){
		.blob_off = le64toh(r->blob_off),
		.blob_len = le64toh(r->blob_len),
		.inner_off = le64toh(r->inner_off),
		.file_off = le64toh(r->file_off),
		.size = le32toh(r->size),
		.object = le32toh(r->object),
		.digest = r->digest,
		.zeros = le32toh(r->flags) & INDEX_CHUNK_ZEROS,
	};
}

void index_head_digest(const struct index_head *h, struct digest *ret)
{
	sha256(h, offsetof(struct index_head, head), ret);
}

struct index_layout index_layout(const struct index_head *h)
{
	struct index_layout l = {.entries = sizeof(*h)};

	l.xattrs = l.entries + (uint64_t)h->entries_n * sizeof(struct rec_entry);
	l.objects = l.xattrs + (uint64_t)h->xattrs_n * sizeof(struct rec_xattr);
	l.chunks = l.objects + (uint64_t)h->objects_n * sizeof(struct rec_object);
	l.strings = l.chunks + (uint64_t)h->chunks_n * sizeof(struct rec_chunk);
	l.end = l.strings + h->strings_len;
	return l;
}

int index_head_check(struct index_head *h, uint64_t file_size, struct err *err)
{
	struct digest d;

	if (memcmp(h->magic, INDEX_MAGIC, sizeof(h->magic)) != 0)
		return err_set(err, -EBADMSG, "no layer index");
	if (le32toh(h->version) > INDEX_VERSION)
		return err_set(err, -ENOTSUP, "layer index of version %u; this program knows %u",
			       le32toh(h->version), INDEX_VERSION);
	index_head_digest(h, &d);
	if (!digest_eq(&d, &h->head))
		return err_set(err, -EBADMSG, "layer index: damaged header");
	index_head_swap(h);
	if (h->version != INDEX_VERSION || h->codec > CODEC_ZSTD ||
	    h->prefetch_end > h->blob_size || h->blob_size > INT64_MAX)
		return err_set(err, -EBADMSG, "layer index: wrong header");
	if (h->entries_n > INDEX_ENTRIES_MAX || h->chunks_n > INDEX_CHUNKS_MAX ||
	    h->strings_len > INDEX_STRINGS_MAX || h->objects_n > h->chunks_n ||
	    h->xattrs_n > INDEX_XATTRS_MAX || index_layout(h).end > INDEX_FILE_MAX)
		return err_set(err, -EFBIG, "layer index: larger than the limits");
	if (index_layout(h).end != file_size)
		return err_set(err, -EBADMSG, "layer index: file cut or too long");
	return 0;
}

static inline unsigned rank(char c)
{
	return c == '/' ? 0 : (unsigned char)c;
}

int index_path_cmp(struct str a, struct str b)
{
	size_t n = a.len < b.len ? a.len : b.len, i = 0;
	uint64_t x, y;

	for (; i + 8 <= n; i += 8) {
		memcpy(&x, a.p + i, 8);
		memcpy(&y, b.p + i, 8);
		if (x != y)
			break;
	}
	while (i < n && a.p[i] == b.p[i])
		i++;
	if (i < n)
		return rank(a.p[i]) < rank(b.p[i]) ? -1 : 1;
	return a.len < b.len ? -1 : a.len > b.len;
}

bool index_path_below(struct str path, struct str dir)
{
	if (dir.len == 0)
		return path.len > 0;
	return path.len > dir.len && path.p[dir.len] == '/' && str_starts(path, dir);
}

void index_key(const struct digest *digest, uint64_t size, const struct index_chunk *chunks,
	       uint32_t chunks_n, struct digest *ret)
{
	struct {
		struct digest digest;
		uint64_t size;
	} __attribute__((packed)) part = {*digest, htole64(size)};
	auto_sha256 struct sha256 sum = {0};

	if (chunks_n <= 1) {
		sha256(&part, sizeof(part), ret);
		return;
	}
	require(sha256_init(&sum) == 0);
	sha256_add(&sum, &part, sizeof(part));
	for (uint32_t i = 0; i < chunks_n; i++) {
		part.digest = chunks[i].digest;
		part.size = htole64(chunks[i].size);
		sha256_add(&sum, &part, sizeof(part));
	}
	sha256_done(&sum, ret);
}

/* The part of s at `at`, without its slash. */
static struct str part_at(struct str s, size_t at)
{
	const char *slash = memchr(s.p + at, '/', s.len - at);

	return (struct str){s.p + at, slash ? (size_t)(slash - s.p) - at : s.len - at};
}

int index_path_check(struct str path)
{
	size_t depth = 0;

	if (path.len > INDEX_PATH_MAX)
		return -EFBIG;
	if (path.len == 0)
		return 0;
	if (memchr(path.p, 0, path.len))
		return -EINVAL;
	for (size_t at = 0; at <= path.len; depth++) {
		struct str part = part_at(path, at);

		if (part.len == 0 || part.len > NAME_MAX || str_eq(part, STR(".")) ||
		    str_eq(part, STR("..")))
			return -EINVAL;
		at += part.len + 1;
	}
	return depth > INDEX_DEPTH_MAX ? -EFBIG : 0;
}

int index_path_clean(struct str name, char *out, size_t *ret_len)
{
	size_t len = 0;
	int r;

	for (size_t at = 0; at < name.len;) {
		struct str part = part_at(name, at);

		at += part.len + 1;
		if (part.len == 0 || str_eq(part, STR(".")))
			continue;
		if (str_eq(part, STR(".."))) {
			while (len > 0 && out[--len] != '/')
				;
			continue;
		}
		if (len > 0)
			out[len++] = '/';
		memcpy(out + len, part.p, part.len);
		len += part.len;
	}
	r = index_path_check((struct str){out, len});
	if (r == 0)
		*ret_len = len;
	return r;
}
