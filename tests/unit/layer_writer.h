/* SPDX-License-Identifier: Apache-2.0 */
/* Writes lazy layers in memory, for tests: streams, tables, footers. */
#ifndef FIRSTLIGHT_TESTS_LAYER_WRITER_H
#define FIRSTLIGHT_TESTS_LAYER_WRITER_H

#include <endian.h>
#include <stdio.h>
#include <string.h>
#include <zlib.h>
#include <zstd.h>

#include "base/buf.h"
#include "base/digest.h"
#include "base/err.h"
#include "image/toc.h"

/* Appends one gzip member. */
static inline void write_gzip(struct buf *b, const void *data, size_t n)
{
	z_stream z = {.next_in = (Bytef *)(uintptr_t)data, .avail_in = (uInt)n};

	require(deflateInit2(&z, 6, Z_DEFLATED, 16 + MAX_WBITS, 8, Z_DEFAULT_STRATEGY) == Z_OK);
	require(buf_reserve(b, deflateBound(&z, n) + 64) == 0);
	z.next_out = b->data + b->len;
	z.avail_out = (uInt)(b->cap - b->len);
	require(deflate(&z, Z_FINISH) == Z_STREAM_END);
	b->len += z.total_out;
	deflateEnd(&z);
}

/* Appends one frame, with a checksum. */
static inline void write_zstd(struct buf *b, const void *data, size_t n)
{
	ZSTD_CCtx *c = ZSTD_createCCtx();
	size_t r;

	require(c && buf_reserve(b, ZSTD_compressBound(n)) == 0);
	require(!ZSTD_isError(ZSTD_CCtx_setParameter(c, ZSTD_c_checksumFlag, 1)));
	r = ZSTD_compress2(c, b->data + b->len, b->cap - b->len, data, n);
	require(!ZSTD_isError(r));
	b->len += r;
	ZSTD_freeCCtx(c);
}

static inline void write_skippable(struct buf *b, const void *data, size_t n)
{
	uint32_t head[2] = {htole32(0x184D2A50), htole32((uint32_t)n)};

	require(buf_append(b, head, sizeof(head)) == 0 && buf_append(b, data, n) == 0);
}

/* A layer that is being written: its blob, and what its manifest and reader must know. */
struct written {
	struct buf blob;
	struct toc_place place;
	struct digest json_digest, toc_digest; /* of the JSON; of its compressed bytes */
};

static inline struct str written_toc(const struct written *w)
{
	return (struct str){(const char *)w->blob.data + w->place.off, w->place.len};
}

static inline void write_u64s(struct buf *b, const uint64_t *v, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		uint64_t le = htole64(v[i]);

		require(buf_append(b, &le, sizeof(le)) == 0);
	}
}

/* Closes w->blob with the JSON as a table of that kind, and its footer. */
static inline void write_toc(struct written *w, enum toc_kind kind, struct str json)
{
	struct buf body = BUF_INIT, foot = BUF_INIT;
	char head[512] = "stargz.index.json";

	sha256(json.p, json.len, &w->json_digest);
	w->place = (struct toc_place){.kind = kind, .payload_end = w->blob.len, .size = json.len};
	if (kind == TOC_ESTARGZ) {
		size_t pad = (512 - json.len % 512) % 512 + 1024;

		w->place.off = w->blob.len;
		w->place.size = 0;
		require(snprintf(head + 124, 12, "%011zo", json.len) == 11);
		head[156] = '0';
		memcpy(head + 257, "ustar\00000", 8);
		require(buf_append(&body, head, 512) == 0);
		require(buf_append(&body, json.p, json.len) == 0);
		require(buf_reserve(&body, pad) == 0);
		memset(body.data + body.len, 0, pad);
		body.len += pad;
		write_gzip(&w->blob, body.data, body.len);
		w->place.len = w->blob.len - w->place.off;
		require(buf_append(&foot, "\x1f\x8b\x08\x04\0\0\0\0\0\xff\x1a\0SG\x16\0", 16) == 0);
		require(buf_printf(&foot, "%016llxSTARGZ", (unsigned long long)w->place.off) == 0);
		require(buf_append(&foot, "\1\0\0\xff\xff\0\0\0\0\0\0\0\0", 13) == 0);
		require(buf_append(&w->blob, foot.data, foot.len) == 0);
	} else {
		write_zstd(&body, json.p, json.len);
		w->place.off = w->blob.len + 8;
		w->place.len = body.len;
		write_skippable(&w->blob, body.data, body.len);
		write_u64s(&foot, (uint64_t[]){w->place.off, body.len, json.len, 1}, 4);
		if (kind == TOC_CHUNKED_CONTAINERS) {
			write_u64s(&foot, (uint64_t[]){0, 0, 0}, 3);
			require(buf_append(&foot, "GNUlInUx", 8) == 0);
		} else {
			require(buf_append(&foot, "GnUlInUx", 8) == 0);
		}
		write_skippable(&w->blob, foot.data, foot.len);
	}
	sha256(w->blob.data + w->place.off, w->place.len, &w->toc_digest);
	buf_fini(&body);
	buf_fini(&foot);
}

static inline struct toc_hint written_hint(const struct written *w)
{
	struct toc_hint h = {.blob_size = w->blob.len};

	h.media_type = w->place.kind == TOC_ESTARGZ
			       ? STR("application/vnd.oci.image.layer.v1.tar+gzip")
			       : STR("application/vnd.oci.image.layer.v1.tar+zstd");
	if (w->place.kind == TOC_CHUNKED_CONTAINERS) {
		h.has_checksum = true;
		h.checksum = w->toc_digest;
	} else {
		h.has_toc_digest = true;
		h.toc_digest = w->json_digest;
	}
	return h;
}

#endif
