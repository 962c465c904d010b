// SPDX-License-Identifier: Apache-2.0
/*
 * eStargz's table (stargz-snapshotter docs/estargz.md) and what all formats share. In zstd:chunked
 * as stargz-snapshotter writes it the JSON is the same, without the tar.
 */
#include "base/limits.h"
#include "image/toc_parse.h"

#include "base/banned.h"

/* --- the tar around it ------------------------------------------------------------------------ */

/* A number of a tar header: octal, spaces or a NUL behind it. */
static bool octal(const uint8_t *p, size_t n, uint64_t *ret)
{
	uint64_t v = 0;
	size_t i = 0;

	while (i < n && p[i] == ' ')
		i++;
	for (; i < n && p[i] >= '0' && p[i] <= '7'; i++) {
		if (v >> 60)
			return false;
		v = v << 3 | (uint64_t)(p[i] - '0');
	}
	*ret = v;
	return i == n || p[i] == 0 || p[i] == ' ';
}

static int read_head(struct toc_tar *t, struct err *err)
{
	static const char name[100] = "stargz.index.json";

	if (memcmp(t->head, name, sizeof(name)) != 0 || (t->head[156] != '0' && t->head[156]) ||
	    !octal(t->head + 124, 12, &t->left))
		return err_set(err, -EBADMSG, "eStargz: the table's tar is damaged");
	if (t->left > TOC_SIZE_MAX)
		return err_set(err, -EFBIG, "eStargz: table too large");
	t->open = true;
	return 0;
}

int toc_tar_feed(struct toc_tar *t, const uint8_t *data, size_t n, struct str *ret_table,
		 struct err *err)
{
	size_t take = sizeof(t->head) - t->head_n;
	int r = 0;

	*ret_table = (struct str){(const char *)data, 0};
	take = n < take ? n : take;
	memcpy(t->head + t->head_n, data, take);
	t->head_n += take;
	if (!t->open && t->head_n == sizeof(t->head))
		r = read_head(t, err);
	if (r < 0 || !t->open)
		return r;
	ret_table->p += take;
	ret_table->len = n - take < t->left ? n - take : (size_t)t->left;
	t->left -= ret_table->len;
	return 0;
}

/* --- entries ---------------------------------------------------------------------------------- */

static int fail(struct toc_target *t, const struct toc_entry *e, int code, const char *what)
{
	int n = e->name.len < 200 ? (int)e->name.len : 200;

	return err_set(t->err, code, "table of contents: %s: %.*s", what, n, e->name.p);
}

static int digest_of(struct toc_target *t, const struct toc_entry *e, struct str text,
		     struct digest *ret)
{
	if (!str_starts(text, STR("sha256:")))
		return fail(t, e, memchr(text.p, ':', text.len) ? -EOPNOTSUPP : -EINVAL,
			    "digest of an unknown kind");
	return digest_parse(text, ret) < 0 ? fail(t, e, -EINVAL, "digest that is none") : 0;
}

int toc_add(struct toc_target *t, const struct toc_entry *e, bool strict_time)
{
	static const enum index_type types[] = {0,          INDEX_DIR,  INDEX_REG,   INDEX_SYMLINK,
						INDEX_LINK, INDEX_CHAR, INDEX_BLOCK, INDEX_FIFO};
	struct index_entry out = {
		.path = e->name,
		.mode = e->mode & 07777,
		.uid = (uint32_t)e->uid,
		.gid = (uint32_t)e->gid,
		.dev_major = (uint32_t)e->dev_major,
		.dev_minor = (uint32_t)e->dev_minor,
		.link = e->link_name,
	};
	struct digest digest;
	int r;

	if (e->type == TOC_TYPE_UNKNOWN || e->type >= array_size(types))
		return fail(t, e, -EINVAL, "unknown type");
	out.type = types[e->type];
	if (e->uid > UINT32_MAX || e->gid > UINT32_MAX || e->dev_major > UINT32_MAX ||
	    e->dev_minor > UINT32_MAX)
		return fail(t, e, -EINVAL, "owner or device that cannot be");
	/* Go's reader of eStargz takes a time that is none for no time. */
	if (e->modtime.len && toc_time(e->modtime, &out.mtime, &out.mtime_nsec) < 0 && strict_time)
		return fail(t, e, -EINVAL, "time that is none");
	if (e->digest.len && e->type == TOC_TYPE_REG) {
		r = digest_of(t, e, e->digest, &digest);
		if (r < 0)
			return r;
	}
	t->in_file = e->type == TOC_TYPE_REG && e->size > 0;
	return index_builder_add(t->builder, &out, e->type == TOC_TYPE_REG ? e->size : 0,
				 e->digest.len && e->type == TOC_TYPE_REG ? &digest : NULL,
				 e->xattrs, e->xattrs_n, t->err);
}

int toc_chunk(struct toc_target *t, const struct toc_entry *e, struct index_chunk *ret)
{
	struct index_chunk c = {
		.blob_off = e->offset,
		.inner_off = e->inner_offset,
		.file_off = e->chunk_offset,
	};
	int r = 0;

	if (!t->in_file)
		return fail(t, e, -EINVAL, "chunk of no file");
	if (e->chunk_size > CHUNK_SIZE_MAX)
		return fail(t, e, -EFBIG, "chunk too large");
	c.size = (uint32_t)e->chunk_size;
	if (e->chunk_digest.len)
		r = digest_of(t, e, e->chunk_digest, &c.digest);
	if (r < 0)
		return r;
	*ret = c;
	return 0;
}

int toc_estargz_entry(struct toc_target *t, const struct toc_entry *e)
{
	struct index_chunk c;
	int r = 0;

	if (e->type != TOC_TYPE_CHUNK) {
		r = toc_add(t, e, false);
		if (r < 0 || !t->in_file)
			return r;
	}
	r = toc_chunk(t, e, &c);
	if (r < 0)
		return r;
	if (c.blob_off == 0)
		return fail(t, e, -EINVAL, "chunk without a place");
	return index_builder_chunk(t->builder, &c, t->err);
}
