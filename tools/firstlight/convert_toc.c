// SPDX-License-Identifier: Apache-2.0
/* TOC JSON. */
#include "convert_toc.h"

#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "base/base64.h"

#include "base/banned.h"

int toc_string(struct buf *b, const char *s, size_t n)
{
	int r = buf_append(b, "\"", 1);

	for (size_t i = 0; i < n && r == 0; i++) {
		unsigned char c = (unsigned char)s[i];

		if (c == '"' || c == '\\')
			r = buf_printf(b, "\\%c", c);
		else if (c < 0x20 || c == 0x7f)
			r = buf_printf(b, "\\u%04x", c);
		else
			r = buf_append(b, &s[i], 1);
	}
	return r == 0 ? buf_append(b, "\"", 1) : r;
}

static int put_text(struct buf *b, const char *key, const char *s)
{
	int r = buf_printf(b, ",\"%s\":", key);

	return r == 0 ? toc_string(b, s, strlen(s)) : r;
}

/* Nothing for 0, as the format wants. */
static int put_number(struct buf *b, const char *key, uint64_t v)
{
	return v ? buf_printf(b, ",\"%s\":%" PRIu64, key, v) : 0;
}

static int put_digest(struct buf *b, const char *key, const struct digest *d)
{
	char text[DIGEST_TEXT_SIZE];

	digest_text(d, text);
	return buf_printf(b, ",\"%s\":\"%s\"", key, text);
}

/* With the fraction, which most writers drop and readers take. */
static int put_time(struct buf *b, int64_t t, uint32_t nsec)
{
	time_t when = (time_t)t;
	char text[40], fraction[16];
	struct tm tm;
	size_t n;

	if ((!t && !nsec) || !gmtime_r(&when, &tm) || tm.tm_year < -1900 || tm.tm_year > 8099)
		return 0;
	strftime(text, sizeof(text), "%Y-%m-%dT%H:%M:%S", &tm);
	n = (size_t)snprintf(fraction, sizeof(fraction), ".%09u", nsec);
	while (n && (fraction[n - 1] == '0' || fraction[n - 1] == '.'))
		fraction[--n] = 0;
	return buf_printf(b, ",\"modtime\":\"%s%sZ\"", text, fraction);
}

static int put_xattrs(struct buf *b, const struct tar_entry *e)
{
	int r = e->xattrs_n ? buf_printf(b, ",\"xattrs\":{") : 0;

	for (size_t i = 0; i < e->xattrs_n && r == 0; i++) {
		const struct tar_xattr *x = &e->xattrs[i];
		auto_buf struct buf value = BUF_INIT;

		r = i ? buf_append(b, ",", 1) : 0;
		if (r == 0)
			r = toc_string(b, x->name, strlen(x->name));
		if (r == 0)
			r = base64_encode((struct str){x->value, x->size}, &value);
		if (r == 0)
			r = buf_printf(b, ":\"%.*s\"", (int)value.len,
				       value.data ? (char *)value.data : "");
	}
	return r == 0 && e->xattrs_n ? buf_append(b, "}", 1) : r;
}

static int put_chunk(struct buf *b, const struct tar_entry *e, const struct piece *p)
{
	bool rest = p->chunk_off + p->chunk_len == e->size;
	int r = put_number(b, "offset", p->blob_off);

	if (r == 0)
		r = put_number(b, "chunkOffset", p->chunk_off);
	if (r == 0 && !(rest && p->chunk_off == 0))
		r = put_number(b, "chunkSize", p->chunk_len);
	return r == 0 ? put_digest(b, "chunkDigest", &p->digest) : r;
}

static int put_entry(struct buf *b, const struct tar_entry *e, const struct piece *first)
{
	int r = buf_printf(b, "{\"name\":");

	if (r == 0)
		r = toc_string(b, e->name, strlen(e->name));
	if (r == 0)
		r = put_text(b, "type", e->type);
	if (r == 0)
		r = put_number(b, "size", e->size);
	if (r == 0)
		r = put_time(b, e->mtime, e->mtime_nsec);
	if (r == 0 && e->link)
		r = put_text(b, "linkName", e->link);
	if (r == 0)
		r = put_number(b, "mode", e->mode);
	if (r == 0)
		r = put_number(b, "uid", e->uid);
	if (r == 0)
		r = put_number(b, "gid", e->gid);
	if (r == 0 && (strcmp(e->type, "char") == 0 || strcmp(e->type, "block") == 0)) {
		r = put_number(b, "devMajor", e->major);
		if (r == 0)
			r = put_number(b, "devMinor", e->minor);
	}
	if (r == 0)
		r = put_xattrs(b, e);
	if (r == 0 && strcmp(e->type, "reg") == 0)
		r = put_digest(b, "digest", &e->digest);
	if (r == 0 && first)
		r = put_chunk(b, e, first);
	return r == 0 ? buf_append(b, "}", 1) : r;
}

static int put_more(struct buf *b, const struct tar_entry *e, const struct piece *p)
{
	int r = buf_printf(b, ",\n{\"name\":");

	if (r == 0)
		r = toc_string(b, e->name, strlen(e->name));
	if (r == 0)
		r = put_text(b, "type", "chunk");
	if (r == 0)
		r = put_chunk(b, e, p);
	return r == 0 ? buf_append(b, "}", 1) : r;
}

int toc_write(const struct tar_list *tar, const struct piece *pieces, size_t n, struct buf *ret)
{
	int r = buf_printf(ret, "{\"version\":1,\"entries\":[");
	bool more = false;
	size_t at = 0;

	for (size_t i = 0; i < tar->n && r == 0; i++) {
		const struct tar_entry *e = &tar->list[i];

		while (at < n && pieces[at].entry < (int64_t)i)
			at++;
		if (strcmp(e->name, "stargz.index.json") == 0)
			continue;
		r = buf_printf(ret, "%s\n", more ? "," : "");
		more = true;
		if (r == 0)
			r = put_entry(ret, e, e->size ? &pieces[at] : NULL);
		for (size_t k = at + 1; e->size && k < n && r == 0; k++) {
			if (pieces[k].entry < 0)
				continue;
			if (pieces[k].entry != (int64_t)i)
				break;
			r = put_more(ret, e, &pieces[k]);
		}
	}
	return r == 0 ? buf_printf(ret, "\n]}") : r;
}
