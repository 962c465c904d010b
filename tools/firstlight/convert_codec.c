// SPDX-License-Identifier: Apache-2.0
/* The tools' door to zlib's and zstd's compression. */
#include "convert_codec.h"

#include <stdlib.h>
#include <zlib.h>
#include <zstd.h>

#include "base/banned.h"

#define GZIP_WINDOW (15 + 16) /* zlib.h: with a gzip header, which holds no time */

struct packer {
	ZSTD_CCtx *zstd; /* NULL: gzip */
	z_stream gzip;
};

int packer_new(bool zstd, int level, struct packer **ret, struct err *err)
{
	struct packer *p = calloc(1, sizeof(*p));

	if (!p)
		return err_set(err, -ENOMEM, "out of memory");
	if (zstd) {
		p->zstd = ZSTD_createCCtx();
		if (!p->zstd ||
		    ZSTD_isError(ZSTD_CCtx_setParameter(p->zstd, ZSTD_c_compressionLevel, level)) ||
		    ZSTD_isError(ZSTD_CCtx_setParameter(p->zstd, ZSTD_c_checksumFlag, 1))) {
			packer_free(p);
			return err_set(err, -ENOMEM, "no compressor of level %d", level);
		}
	} else if (deflateInit2(&p->gzip, level, Z_DEFLATED, GZIP_WINDOW, 8, Z_DEFAULT_STRATEGY) !=
		   Z_OK) {
		free(p);
		return err_set(err, -ENOMEM, "no compressor of level %d", level);
	}
	*ret = p;
	return 0;
}

void packer_free(struct packer *p)
{
	if (!p)
		return;
	if (p->zstd)
		ZSTD_freeCCtx(p->zstd);
	else
		deflateEnd(&p->gzip);
	free(p);
}

static int pack_zstd(struct packer *p, const void *data, size_t n, struct buf *out, struct err *err)
{
	size_t r;

	if (buf_reserve(out, ZSTD_compressBound(n)) < 0)
		return err_set(err, -ENOMEM, "out of memory");
	r = ZSTD_compress2(p->zstd, out->data, ZSTD_compressBound(n), data, n);
	if (ZSTD_isError(r))
		return err_set(err, -EIO, "zstd: %s", ZSTD_getErrorName(r));
	out->len = r;
	return 0;
}

static int pack_gzip(struct packer *p, const void *data, size_t n, struct buf *out, struct err *err)
{
	size_t max;

	if (deflateReset(&p->gzip) != Z_OK)
		return err_set(err, -EIO, "zlib: cannot start");
	max = deflateBound(&p->gzip, n);
	if (n > UINT32_MAX || max > UINT32_MAX || buf_reserve(out, max) < 0)
		return err_set(err, -ENOMEM, "out of memory");
	p->gzip.next_in = (Bytef *)(uintptr_t)data;
	p->gzip.avail_in = (uInt)n;
	p->gzip.next_out = out->data;
	p->gzip.avail_out = (uInt)max;
	if (deflate(&p->gzip, Z_FINISH) != Z_STREAM_END)
		return err_set(err, -EIO, "zlib: a piece does not fit");
	out->len = max - p->gzip.avail_out;
	return 0;
}

int packer_pack(struct packer *p, const void *data, size_t n, struct buf *out, struct err *err)
{
	out->len = 0;
	return p->zstd ? pack_zstd(p, data, n, out, err) : pack_gzip(p, data, n, out, err);
}
