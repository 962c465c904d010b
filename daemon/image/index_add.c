// SPDX-License-Identifier: Apache-2.0
/* The builder's gathering: one entry or chunk at a time, checked for itself. Owns the builder. */
#include <limits.h>

#include "base/limits.h"
#include "image/index_build.h"

#include "base/banned.h"

#define WH            STR(".wh.")
#define WH_META       STR(".wh..wh.")
#define WH_OPQ        STR(".wh..wh..opq")

#define DEV_MAJOR_MAX 0xfffu /* what the kernel's dev_t holds */
#define DEV_MINOR_MAX 0xfffffu

int build_error(struct err *err, int code, struct str path, const char *text)
{
	int n = path.len < 200 ? (int)path.len : 200;

	return err_set(err, code, "%s: %.*s", text, n, path.p);
}

int index_builder_new(enum codec codec, uint64_t blob_size, struct index_builder **ret)
{
	struct index_builder *b = calloc(1, sizeof(*b));

	if (!b)
		return -ENOMEM;
	b->codec = codec;
	b->blob_size = b->payload_end = blob_size;
	*ret = b;
	return 0;
}

void index_builder_free(struct index_builder *b)
{
	if (!b)
		return;
	buf_fini(&b->strings);
	buf_fini(&b->entries);
	buf_fini(&b->xattrs);
	buf_fini(&b->files);
	buf_fini(&b->chunks);
	buf_fini(&b->starts);
	free(b->order);
	free(b);
}

void index_builder_payload(struct index_builder *b, uint64_t end)
{
	b->payload_end = end < b->blob_size ? end : b->blob_size;
}

/* A piece of the strings. */
struct span {
	uint32_t off, len;
};

static int add_string(struct index_builder *b, struct str s, struct span *ret)
{
	if (s.len > INDEX_STRINGS_MAX - b->strings.len)
		return -EFBIG;
	*ret = (struct span){(uint32_t)b->strings.len, (uint32_t)s.len};
	return buf_append(&b->strings, s.p, s.len);
}

/* A clean path into the strings. */
static int add_path(struct index_builder *b, struct str name, struct span *ret)
{
	size_t len = 0;
	int r;

	if (name.len > JSON_TOKEN_MAX || b->strings.len > INDEX_STRINGS_MAX - JSON_TOKEN_MAX)
		return -EFBIG;
	r = buf_reserve(&b->strings, name.len + 1);
	if (r == 0)
		r = index_path_clean(name, (char *)b->strings.data + b->strings.len, &len);
	if (r < 0)
		return r;
	*ret = (struct span){(uint32_t)b->strings.len, (uint32_t)len};
	b->strings.len += len;
	return 0;
}

/* --- names that mean something ---------------------------------------------------------------- */

enum name { NAME_PLAIN, NAME_SKIP, NAME_LANDMARK, NAME_NO_PREFETCH };

/* Turns .wh. names into what they mean: e's path and type change. */
static int read_whiteout(struct index_builder *b, struct rec_entry *e, enum name *ret)
{
	struct str path = build_path(b, e);
	size_t base = path.len;
	struct str name;

	while (base > 0 && path.p[base - 1] != '/')
		base--;
	for (size_t at = 0; at < base;) {
		struct str rest = {path.p + at, path.len - at};
		const char *slash = memchr(rest.p, '/', rest.len);

		if (str_starts(rest, WH_META))
			*ret = NAME_SKIP;
		else if (str_starts(rest, WH))
			return -EINVAL;
		at = (size_t)(slash - path.p) + 1;
	}
	name = (struct str){path.p + base, path.len - base};
	if (*ret == NAME_SKIP || !str_starts(name, WH))
		return 0;
	if (str_eq(name, WH_OPQ)) {
		e->path_len = (uint32_t)(base > 0 ? base - 1 : 0);
		e->type = TYPE_OPAQUE;
		return 0;
	}
	if (str_starts(name, WH_META)) {
		*ret = NAME_SKIP;
		return 0;
	}
	name = (struct str){name.p + WH.len, name.len - WH.len};
	if (name.len == 0 || str_eq(name, STR(".")) || str_eq(name, STR("..")))
		return -EINVAL;
	memmove(b->strings.data + e->path_off + base, name.p, name.len);
	e->path_len -= (uint32_t)WH.len;
	e->type = INDEX_WHITEOUT;
	return 0;
}

static int read_name(struct index_builder *b, struct rec_entry *e, enum name *ret)
{
	struct str path = build_path(b, e);

	*ret = NAME_PLAIN;
	if (str_eq(path, STR(".prefetch.landmark")))
		*ret = NAME_LANDMARK;
	else if (str_eq(path, STR(".no.prefetch.landmark")))
		*ret = NAME_NO_PREFETCH;
	else if (str_eq(path, STR("stargz.index.json")))
		*ret = NAME_SKIP;
	else if (e->type != INDEX_WHITEOUT)
		return read_whiteout(b, e, ret);
	return 0;
}

/* --- xattrs ----------------------------------------------------------------------------------- */

/* Would containerd set it, and the kernel take it? */
static bool xattr_wanted(struct str name, enum index_type type)
{
	if (str_starts(name, STR("user.")))
		return type == INDEX_REG || type == INDEX_DIR;
	return str_starts(name, STR("security.")) || str_eq(name, STR("system.posix_acl_access")) ||
	       str_eq(name, STR("system.posix_acl_default"));
}

static int cmp_xattrs(const void *a, const void *b)
{
	const struct index_xattr *x = *(const struct index_xattr *const *)a;
	const struct index_xattr *y = *(const struct index_xattr *const *)b;
	int c = str_cmp(x->name, y->name);

	return c ? c : (x > y) - (x < y); /* the last of equal names comes last */
}

static int add_xattr(struct index_builder *b, const struct index_xattr *x)
{
	struct rec_xattr rec;
	struct span name, value = {0};
	int r;

	if (build_count(b->xattrs, rec) >= INDEX_XATTRS_MAX)
		return -EFBIG;
	r = add_string(b, x->name, &name);
	if (r == 0)
		r = add_string(b, x->value, &value);
	if (r < 0)
		return r;
	rec = (struct rec_xattr){name.off, name.len, value.off, value.len};
	return buf_append(&b->xattrs, &rec, sizeof(rec));
}

static int add_xattrs(struct index_builder *b, struct rec_entry *e,
		      const struct index_xattr *xattrs, size_t n)
{
	const struct index_xattr *wanted[XATTRS_MAX];
	size_t wanted_n = 0, bytes = 0;
	int r = 0;

	e->xattrs = build_count(b->xattrs, struct rec_xattr);
	for (size_t i = 0; i < n; i++) {
		struct str name = xattrs[i].name;

		if (name.len == 0 || name.len > XATTR_NAME_MAX || memchr(name.p, 0, name.len) ||
		    name.p[name.len - 1] == '.')
			return -EINVAL;
		if (!xattr_wanted(name, e->type))
			continue;
		if (wanted_n == XATTRS_MAX || xattrs[i].value.len > XATTRS_BYTES_MAX)
			return -EFBIG;
		wanted[wanted_n++] = &xattrs[i];
	}
	qsort(wanted, wanted_n, sizeof(wanted[0]), cmp_xattrs);
	for (size_t i = 0; r == 0 && i < wanted_n; i++) {
		if (i + 1 < wanted_n && str_eq(wanted[i]->name, wanted[i + 1]->name))
			continue;
		bytes += wanted[i]->name.len + wanted[i]->value.len;
		r = bytes > XATTRS_BYTES_MAX ? -EFBIG : add_xattr(b, wanted[i]);
	}
	e->xattrs_n = build_count(b->xattrs, struct rec_xattr) - e->xattrs;
	return r;
}

/* --- entries ---------------------------------------------------------------------------------- */

static int add_link(struct index_builder *b, struct str link, struct rec_entry *e)
{
	struct span span;
	int r;

	if (e->type == INDEX_LINK) {
		r = add_path(b, link, &span);
		if (r == 0 && span.len == 0)
			r = -EINVAL;
	} else if (link.len > INDEX_PATH_MAX) {
		return -EFBIG;
	} else if (link.len == 0 || memchr(link.p, 0, link.len)) {
		return -EINVAL;
	} else {
		e->mode = 0777; /* as the kernel has it */
		r = add_string(b, link, &span);
	}
	if (r < 0)
		return r;
	e->link_off = span.off;
	e->link_len = span.len;
	return 0;
}

static int add_file(struct index_builder *b, struct rec_entry *e, uint64_t size,
		    const struct digest *digest)
{
	struct build_file f = {
		.size = size,
		.chunk = build_count(b->chunks, struct index_chunk),
		.object = INDEX_NONE,
		.has_digest = digest != NULL,
	};

	if (size == 0)
		return 0;
	if (size > INT64_MAX)
		return -EINVAL;
	if (digest)
		f.digest = *digest;
	e->object = build_count(b->files, struct build_file);
	b->last = LAST_FILE;
	b->file_at = 0;
	return buf_append(&b->files, &f, sizeof(f));
}

/* What belongs to a type. */
static int add_type(struct index_builder *b, const struct index_entry *in, struct rec_entry *e,
		    uint64_t size, const struct digest *digest)
{
	switch (e->type) {
	case INDEX_REG:
		return add_file(b, e, size, digest);
	case INDEX_SYMLINK:
	case INDEX_LINK:
		return add_link(b, in->link, e);
	case INDEX_CHAR:
	case INDEX_BLOCK:
		e->dev_major = in->dev_major;
		e->dev_minor = in->dev_minor;
		return in->dev_major > DEV_MAJOR_MAX || in->dev_minor > DEV_MINOR_MAX ? -EINVAL : 0;
	case INDEX_DIR:
		e->opaque = in->opaque;
		return 0;
	default:
		return 0;
	}
}

static int add_entry(struct index_builder *b, const struct index_entry *in, struct rec_entry *e,
		     uint64_t size, const struct digest *digest, const struct index_xattr *xattrs,
		     size_t n)
{
	enum name name;
	struct span path;
	int r;

	if (build_count(b->entries, *e) >= INDEX_ENTRIES_MAX)
		return -EFBIG;
	r = add_path(b, in->path, &path);
	if (r < 0)
		return r;
	e->path_off = path.off;
	e->path_len = path.len;
	r = read_name(b, e, &name);
	if (r < 0)
		return r;
	if (name == NAME_NO_PREFETCH)
		b->no_prefetch = true;
	b->last = name == NAME_LANDMARK ? LAST_LANDMARK : LAST_DROPPED;
	if (name != NAME_PLAIN)
		return 0;
	r = add_type(b, in, e, size, digest);
	if (r == 0 && e->type <= INDEX_FIFO && e->type != INDEX_LINK)
		r = add_xattrs(b, e, xattrs, n);
	return r < 0 ? r : buf_append(&b->entries, e, sizeof(*e));
}

int index_builder_add(struct index_builder *b, const struct index_entry *in, uint64_t size,
		      const struct digest *digest, const struct index_xattr *xattrs,
		      size_t xattrs_n, struct err *err)
{
	struct rec_entry e = {
		.type = (uint8_t)in->type,
		.mode = in->mode & 07777,
		.uid = in->uid,
		.gid = in->gid,
		.mtime = in->mtime < 0 ? 0 : in->mtime,
		.mtime_nsec = in->mtime < 0 ? 0 : in->mtime_nsec,
		.object = INDEX_NONE,
		.target = INDEX_NONE,
	};
	int r = index_file_done(b, err);

	if (r < 0)
		return r;
	if (in->type < INDEX_DIR || in->type > INDEX_WHITEOUT || in->type == INDEX_LINK_BELOW)
		return build_error(err, -EINVAL, in->path, "entry of an unknown type");
	if (in->uid == UINT32_MAX || in->gid == UINT32_MAX || in->mtime_nsec >= 1000000000)
		return build_error(err, -EINVAL, in->path, "owner or time that cannot be");
	r = add_entry(b, in, &e, size, digest, xattrs, xattrs_n);
	if (r == -EFBIG)
		return build_error(err, r, in->path, "entry beyond a limit");
	return r < 0 ? build_error(err, r, in->path, "entry that cannot be") : 0;
}

/* --- chunks ----------------------------------------------------------------------------------- */

static int chunk_error(const struct index_builder *b, struct err *err, int code, const char *text)
{
	uint32_t n = build_count(b->entries, struct rec_entry);

	return build_error(err, code, n ? build_path(b, build_entry(b, n - 1)) : STR(""), text);
}

static int add_start(struct index_builder *b, uint64_t off)
{
	uint32_t n = build_count(b->starts, uint64_t);

	if (n > 0 && build_array(b->starts, uint64_t)[n - 1] == off)
		return 0;
	if (n >= INDEX_CHUNKS_MAX)
		return -EFBIG;
	return buf_append(&b->starts, &off, sizeof(off));
}

static int check_chunk(struct index_builder *b, const struct build_file *f, struct index_chunk *c,
		       struct err *err)
{
	if (c->file_off != b->file_at || c->file_off >= f->size)
		return chunk_error(b, err, -EINVAL, "chunks leave a gap or overlap");
	if (c->size == 0) {
		if (f->size - c->file_off > CHUNK_SIZE_MAX)
			return chunk_error(b, err, -EFBIG, "chunk too large");
		c->size = (uint32_t)(f->size - c->file_off);
	}
	if (c->size > f->size - c->file_off)
		return chunk_error(b, err, -EINVAL, "chunk beyond the end of its file");
	if (c->size > CHUNK_SIZE_MAX || c->inner_off > CHUNK_INNER_MAX)
		return chunk_error(b, err, -EFBIG, "chunk too large");
	if (c->blob_off >= b->payload_end || c->blob_len > b->payload_end - c->blob_off)
		return chunk_error(b, err, -EINVAL, "chunk outside of the blob");
	return 0;
}

int index_builder_chunk(struct index_builder *b, const struct index_chunk *in, struct err *err)
{
	struct index_chunk c = *in;
	struct build_file *f;
	uint32_t n;
	int r;

	if (b->last == LAST_LANDMARK && c.blob_off < b->payload_end)
		b->prefetch_end = c.blob_off;
	if (b->last == LAST_NONE)
		return chunk_error(b, err, -EINVAL, "chunk without a file");
	if (b->last == LAST_FILE) {
		n = build_count(b->files, *f) - 1;
		f = &build_array(b->files, struct build_file)[n];
		r = check_chunk(b, f, &c, err);
		if (r < 0)
			return r;
		if (build_count(b->chunks, c) >= INDEX_CHUNKS_MAX)
			return chunk_error(b, err, -EFBIG, "too many chunks");
		c.object = n;
		f->chunks_n++;
		b->file_at += c.size;
		r = buf_append(&b->chunks, &c, sizeof(c));
		if (r < 0)
			return chunk_error(b, err, r, "no memory for a chunk");
	}
	r = c.blob_off > 0 ? add_start(b, c.blob_off) : 0;
	return r < 0 ? chunk_error(b, err, r, "too many chunks") : 0;
}

static int one_chunk(struct index_builder *b, struct build_file *f, struct index_chunk *c,
		     const struct digest *none, struct err *err)
{
	if (!f->has_digest)
		f->digest = c->digest;
	/* A digest that was claimed for the file and not for its bytes would be believed. */
	if (c->zeros || digest_eq(&c->digest, none))
		c->digest = f->digest;
	c->zeros = false;
	if (!digest_eq(&c->digest, &f->digest))
		return chunk_error(b, err, -EINVAL, "two digests of one content");
	return digest_eq(&f->digest, none) ? chunk_error(b, err, -EINVAL, "file without a digest")
					   : 0;
}

int index_file_done(struct index_builder *b, struct err *err)
{
	static const struct digest none;
	struct build_file *f;
	struct index_chunk *c;

	if (b->last != LAST_FILE)
		return 0;
	f = &build_array(b->files, struct build_file)[build_count(b->files, *f) - 1];
	b->last = LAST_DROPPED;
	if (b->file_at != f->size)
		return chunk_error(b, err, -EINVAL, "chunks do not cover the file");
	c = &build_array(b->chunks, struct index_chunk)[f->chunk];
	if (f->chunks_n == 1)
		return one_chunk(b, f, c, &none, err);
	if (!f->has_digest)
		return chunk_error(b, err, -EINVAL, "file without a digest");
	for (uint32_t i = f->chunks_n; i-- > 0;) {
		if (c[i].zeros) {
			c[i].digest = none;
			c[i].blob_len = 0;
			if (c[i].blob_off == 0 && i + 1 < f->chunks_n)
				c[i].blob_off = c[i + 1].blob_off;
		} else if (digest_eq(&c[i].digest, &none)) {
			return chunk_error(b, err, -EINVAL, "chunk without a digest");
		}
	}
	return 0;
}
