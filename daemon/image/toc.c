// SPDX-License-Identifier: Apache-2.0
/* Finds, verifies and reads tables of contents. Threads only; owns nothing that outlives a call. */
#include "image/toc.h"

#include <endian.h>

#include "base/limits.h"
#include "image/toc_parse.h"

#include "base/banned.h"

#define SKIP_HEAD    8 /* of a skippable frame; all offsets lead behind it */
#define FOOT_ESTARGZ 51
#define FOOT_LEGACY  47
#define FOOT_OUTSIDE 46
#define FOOT_OLD     40
#define FOOT_NEW     64

static bool ends(struct str s, struct str end)
{
	return s.len >= end.len && memcmp(s.p + s.len - end.len, end.p, end.len) == 0;
}

static bool is_gzip(const struct toc_hint *h)
{
	return ends(h->media_type, STR("+gzip")) || ends(h->media_type, STR(".gzip"));
}

static bool is_zstd(const struct toc_hint *h)
{
	return ends(h->media_type, STR("+zstd")) || ends(h->media_type, STR(".zstd"));
}

int toc_hint_check(const struct toc_hint *h, struct err *err)
{
	if (h->media_type.len && !is_gzip(h) && !is_zstd(h)) /* labels do not name it */
		return err_set(err, -EOPNOTSUPP, "not lazy: media type");
	if (h->has_toc_digest && h->has_checksum)
		return err_set(err, -EOPNOTSUPP, "not lazy: two digests of two formats");
	if (!h->has_toc_digest && !h->has_checksum)
		return err_set(err, -EOPNOTSUPP, "not lazy: no digest of a table of contents");
	if (h->has_checksum && h->media_type.len && !is_zstd(h))
		return err_set(err, -EOPNOTSUPP, "not lazy: zstd:chunked, but not zstd");
	return 0;
}

/* The table lies in [start, limit) of the blob. */
static int check_place(const struct toc_place *p, uint64_t start, uint64_t limit, struct err *err,
		       int code)
{
	if (p->off < start || p->len == 0 || p->off > limit || p->len > limit - p->off)
		return err_set(err, code, "table of contents: impossible place");
	if (p->len > TOC_COMPRESSED_MAX || p->size > TOC_SIZE_MAX)
		return err_set(err, -EFBIG, "table of contents: too large");
	return 0;
}

/* --- annotations ------------------------------------------------------------------------------ */

static int read_position(struct str s, uint64_t *v, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		const char *colon = i + 1 < n ? memchr(s.p, ':', s.len) : s.p + s.len;
		size_t len;

		if (!colon)
			return -EINVAL;
		len = (size_t)(colon - s.p);
		if (str_u64((struct str){s.p, len}, &v[i]) < 0)
			return -EINVAL;
		len += i + 1 < n;
		s = (struct str){s.p + len, s.len - len};
	}
	return 0;
}

int toc_place_from_hint(const struct toc_hint *h, struct toc_place *ret, struct err *err)
{
	struct toc_place p = {
		.kind = h->has_checksum ? TOC_CHUNKED_CONTAINERS : TOC_CHUNKED_STARGZ,
	};
	uint64_t v[4];
	int r;

	if (!is_zstd(h) || h->position.len == 0)
		return err_set(err, -ENOENT, "the footer must be read");
	if (read_position(h->position, v, array_size(v)) < 0 || v[3] != 1 || v[2] == 0)
		return err_set(err, -EINVAL, "table of contents: wrong position annotation");
	p.off = v[0];
	p.len = v[1];
	p.size = v[2];
	r = check_place(&p, SKIP_HEAD, h->blob_size ? h->blob_size : INT64_MAX, err, -EINVAL);
	if (r < 0)
		return r;
	p.payload_end = p.off - SKIP_HEAD;
	*ret = p;
	return 0;
}

/* --- footers ---------------------------------------------------------------------------------- */

static const uint8_t *last(struct str tail, size_t n)
{
	return tail.len < n ? NULL : (const uint8_t *)tail.p + tail.len - n;
}

static bool hex_u64(const uint8_t *p, uint64_t *ret)
{
	uint64_t v = 0;

	for (int i = 0; i < 16; i++) {
		uint8_t c = p[i], digit;

		if (c >= '0' && c <= '9')
			digit = c - '0';
		else if (c >= 'a' && c <= 'f')
			digit = c - 'a' + 10;
		else
			return false;
		v = v << 4 | digit;
	}
	*ret = v;
	return true;
}

/* An empty gzip member whose extra field says where the table is; 47 bytes without the field's own
 * head were written by eStargz's ancestor. */
static bool gzip_footer(struct str tail, size_t n, uint64_t *ret)
{
	static const uint8_t head[] = {0x1f, 0x8b, 8, 4};
	const uint8_t *p = last(tail, n);
	const uint8_t *field =
		n == FOOT_ESTARGZ ? (const uint8_t *)"\x1a\0SG\x16\0" : (const uint8_t *)"\x16";
	size_t field_n = n == FOOT_ESTARGZ ? 6 : 2;

	return p && memcmp(p, head, sizeof(head)) == 0 && memcmp(p + 10, field, field_n) == 0 &&
	       memcmp(p + 10 + field_n + 16, "STARGZ", 6) == 0 && hex_u64(p + 10 + field_n, ret);
}

static int estargz_footer(struct str tail, uint64_t blob_size, struct toc_place *ret,
			  struct err *err)
{
	struct toc_place p = {.kind = TOC_ESTARGZ};
	size_t foot = FOOT_ESTARGZ;
	const uint8_t *outside = last(tail, FOOT_OUTSIDE);
	int r;

	if (!gzip_footer(tail, foot, &p.off)) {
		foot = FOOT_LEGACY;
		if (!gzip_footer(tail, foot, &p.off))
			return err_set(err, -EOPNOTSUPP,
				       outside && memcmp(outside + 16, "STARGZEXTERNALTOC", 17) == 0
					       ? "not lazy: eStargz with its table elsewhere"
					       : "not lazy: no footer of eStargz");
	}
	if (blob_size < foot || p.off >= blob_size - foot)
		return err_set(err, -EOPNOTSUPP, "not lazy: footer with an impossible place");
	p.len = blob_size - foot - p.off;
	p.payload_end = p.off;
	r = check_place(&p, 0, blob_size - foot, err, -EOPNOTSUPP);
	if (r == 0)
		*ret = p;
	return r;
}

static uint64_t u64_at(const uint8_t *p)
{
	uint64_t v;

	memcpy(&v, p, sizeof(v));
	return le64toh(v);
}

/* A footer of n bytes in a skippable frame of its own; its body. */
static const uint8_t *zstd_footer(struct str tail, size_t n, const char *magic)
{
	const uint8_t head[SKIP_HEAD] = {0x50, 0x2a, 0x4d, 0x18, (uint8_t)n};
	const uint8_t *p = last(tail, n + SKIP_HEAD);

	return p && memcmp(p, head, sizeof(head)) == 0 && memcmp(p + n, magic, 8) == 0
		       ? p + SKIP_HEAD
		       : NULL;
}

static int chunked_footer(const struct toc_hint *h, struct str tail, uint64_t blob_size,
			  struct toc_place *ret, struct err *err)
{
	struct toc_place p = {
		.kind = h->has_checksum ? TOC_CHUNKED_CONTAINERS : TOC_CHUNKED_STARGZ,
	};
	size_t foot = FOOT_OLD;
	const uint8_t *body = zstd_footer(tail, foot, "GnUlInUx");
	int r;

	if (!body && h->has_checksum) {
		foot = FOOT_NEW;
		body = zstd_footer(tail, foot, "GNUlInUx");
	}
	if (!body || u64_at(body + 24) != 1 || u64_at(body + 16) == 0 ||
	    blob_size < foot + SKIP_HEAD)
		return err_set(err, -EOPNOTSUPP, "not lazy: no footer of zstd:chunked");
	p.off = u64_at(body);
	p.len = u64_at(body + 8);
	p.size = u64_at(body + 16);
	r = check_place(&p, SKIP_HEAD, blob_size - foot - SKIP_HEAD, err, -EOPNOTSUPP);
	if (r < 0)
		return r;
	p.payload_end = p.off - SKIP_HEAD;
	*ret = p;
	return 0;
}

int toc_place_from_footer(const struct toc_hint *h, struct str tail, uint64_t blob_size,
			  struct toc_place *ret, struct err *err)
{
	int r = toc_hint_check(h, err);

	if (r < 0)
		return r;
	if (tail.len > blob_size)
		return err_set(err, -EOPNOTSUPP, "not lazy: a blob smaller than its end");
	if (!h->media_type.len) {
		r = estargz_footer(tail, blob_size, ret, err);
		if (r != -EOPNOTSUPP)
			return r;
	}
	return is_gzip(h) ? estargz_footer(tail, blob_size, ret, err)
			  : chunked_footer(h, tail, blob_size, ret, err);
}

/* --- the table -------------------------------------------------------------------------------- */

struct reading {
	bool tar_wrapped;
	struct toc_tar tar;
	struct sha256 sum; /* of the JSON */
	uint64_t size;     /* of the JSON so far */
	struct toc_json *json;
	struct toc_target target;
	struct err *err;
	int failed; /* what the JSON is no table for: reported only if its digest is right */
};

static int on_output(void *arg, const void *data, size_t n)
{
	struct reading *g = arg;
	struct str json = {data, n};

	if (g->tar_wrapped) {
		int r = toc_tar_feed(&g->tar, data, n, &json, g->err);

		if (r < 0)
			return r;
	}
	sha256_add(&g->sum, json.p, json.len);
	g->size += json.len;
	if (g->failed == 0 && json.len > 0)
		g->failed = toc_json_feed(g->json, json.p, json.len);
	return 0;
}

static int verify(struct reading *g, const struct toc_hint *h, const struct toc_place *place)
{
	struct digest d;

	sha256_done(&g->sum, &d);
	if (h->has_toc_digest && !digest_eq(&d, &h->toc_digest))
		return err_set(g->err, -EBADMSG, "table of contents: wrong digest");
	if ((place->size && g->size != place->size) || (g->tar_wrapped && g->tar.left > 0) ||
	    (g->tar_wrapped && !g->tar.open))
		return err_set(g->err, -EBADMSG, "table of contents: wrong size");
	return 0;
}

static int read_table(struct reading *g, const struct toc_hint *h, const struct toc_place *place,
		      struct str bytes)
{
	uint64_t max = place->size ? place->size : TOC_SIZE_MAX + 8192;
	int r = codec_whole(g->tar_wrapped ? CODEC_GZIP : CODEC_ZSTD, bytes, max, g->tar_wrapped,
			    on_output, g, g->err);

	if (r == -EFBIG && place->size)
		r = err_set(g->err, -EBADMSG, "table of contents: wrong size");
	if (r == 0)
		r = verify(g, h, place);
	if (r == 0)
		r = g->failed;
	if (r == 0)
		r = toc_json_end(g->json);
	if (r == 0 && place->kind == TOC_CHUNKED_CONTAINERS)
		r = toc_chunked_end(&g->target);
	return r;
}

/* Is this the table that the manifest means? What can be known before it is decompressed. */
static int check_bytes(const struct toc_hint *h, const struct toc_place *place, struct str bytes,
		       uint64_t blob_size, struct err *err)
{
	struct digest d;
	int r = toc_hint_check(h, err);

	if (r < 0)
		return r;
	if ((h->media_type.len && (place->kind == TOC_ESTARGZ) != is_gzip(h)) ||
	    (place->kind == TOC_CHUNKED_CONTAINERS) != h->has_checksum)
		return err_set(err, -EOPNOTSUPP, "table of contents: another kind than the layer");
	if (bytes.len != place->len)
		return err_set(err, -EBADMSG, "table of contents: not all of it");
	r = check_place(place, 0, blob_size, err, -EINVAL);
	if (r < 0 || !h->has_checksum)
		return r;
	sha256(bytes.p, bytes.len, &d);
	if (!digest_eq(&d, &h->checksum))
		return err_set(err, -EBADMSG, "table of contents: wrong digest");
	return 0;
}

int toc_to_index(const struct toc_hint *h, const struct toc_place *place, struct str bytes,
		 uint64_t blob_size, int fd, struct err *err)
{
	bool estargz = place->kind == TOC_ESTARGZ;
	auto_index_builder struct index_builder *b = NULL;
	struct reading g = {.tar_wrapped = estargz, .err = err};
	int r = check_bytes(h, place, bytes, blob_size, err);

	if (r < 0)
		return r;
	r = index_builder_new(estargz ? CODEC_GZIP : CODEC_ZSTD, blob_size, &b);
	if (r == 0) {
		index_builder_payload(b, place->payload_end);
		g.target = (struct toc_target){.builder = b, .err = err};
		r = toc_json_new(place->kind == TOC_CHUNKED_CONTAINERS ? toc_chunked_entry
								       : toc_estargz_entry,
				 &g.target, &g.json);
	}
	if (r == 0)
		r = sha256_init(&g.sum);
	if (r < 0)
		err_set(err, r, "table of contents: no memory");
	else
		r = read_table(&g, h, place, bytes);
	toc_json_free(g.json);
	sha256_fini(&g.sum);
	return r < 0 ? r : index_builder_write(b, fd, err);
}
