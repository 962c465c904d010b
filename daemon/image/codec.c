// SPDX-License-Identifier: Apache-2.0
/* Decompression by zlib and libzstd, and the only file that includes them. */
#include "image/codec.h"

#include <zlib.h>
#include <zstd.h>
#include <zstd_errors.h>

#include "base/limits.h"

#include "base/banned.h"

/* What comes out is cut to [skip, skip + len) on its way to the sink. */
struct cut {
	uint64_t skip, len;
	bool over; /* more came than skip + len */
	codec_sink *sink;
	void *arg;
};

static int give(struct cut *c, const uint8_t *data, size_t n)
{
	size_t drop = n < c->skip ? n : (size_t)c->skip, take;

	c->skip -= drop;
	data += drop;
	n -= drop;
	take = n < c->len ? n : (size_t)c->len;
	c->len -= take;
	c->over = c->over || n > take;
	return take ? c->sink(c->arg, data, take) : 0;
}

static int damaged(struct err *err, const char *what)
{
	return err_set(err, -EBADMSG, "%s", what);
}

/* --- gzip ------------------------------------------------------------------------------------- */

struct gunzip {
	z_stream z;
	uint8_t out[KiB(64)];
};

static void gunzip_free(struct gunzip **g)
{
	if (!*g)
		return;
	inflateEnd(&(*g)->z);
	free(*g);
}

static int gunzip_new(struct str in, struct gunzip **ret, struct err *err)
{
	struct gunzip *g = calloc(1, sizeof(*g));

	if (!g || inflateInit2(&g->z, 16 + MAX_WBITS) != Z_OK) {
		free(g);
		return err_set(err, -ENOMEM, "no memory for decompression");
	}
	g->z.next_in = (Bytef *)(uintptr_t)in.p;
	*ret = g;
	return 0;
}

/* One call of inflate(). 1: the member's end; 0; negative. left: input that z has not seen. */
static int gunzip_step(struct gunzip *g, size_t *left, struct cut *c, struct err *err)
{
	uInt given = *left < (1u << 30) ? (uInt)*left : 1u << 30;
	int z, r;

	g->z.avail_in = given;
	g->z.next_out = g->out;
	g->z.avail_out = sizeof(g->out);
	z = inflate(&g->z, Z_NO_FLUSH);
	*left -= given - g->z.avail_in;
	r = give(c, g->out, sizeof(g->out) - g->z.avail_out);
	if (r < 0)
		return r;
	if (z == Z_STREAM_END)
		return 1;
	if (z == Z_MEM_ERROR)
		return err_set(err, -ENOMEM, "no memory for decompression");
	if (z == Z_BUF_ERROR)
		return damaged(err, "gzip: cut short");
	return z == Z_OK ? 0 : damaged(err, "gzip: damaged");
}

/* Until c is full (and more has come, if past), or the input's or the first member's end. */
static int gunzip(struct str in, struct cut *c, bool past, bool first_member, struct err *err)
{
	cleanup(gunzip_free) struct gunzip *g = NULL;
	size_t left = in.len;
	int r = gunzip_new(in, &g, err);

	while (r == 0 && (past ? !c->over : c->len > 0)) {
		r = gunzip_step(g, &left, c, err);
		if (r <= 0)
			continue;
		if (first_member || left == 0)
			return 0;
		r = inflateReset(&g->z) == Z_OK ? 0 : damaged(err, "gzip: damaged");
	}
	return r;
}

/* --- zstd ------------------------------------------------------------------------------------- */

struct unzstd {
	ZSTD_DCtx *ctx;
	uint8_t out[KiB(128)];
};

static void unzstd_free(struct unzstd **u)
{
	if (!*u)
		return;
	ZSTD_freeDCtx((*u)->ctx);
	free(*u);
}

static int unzstd_new(struct unzstd **ret, struct err *err)
{
	struct unzstd *u = calloc(1, sizeof(*u));

	if (!u || !(u->ctx = ZSTD_createDCtx())) {
		free(u);
		return err_set(err, -ENOMEM, "no memory for decompression");
	}
	*ret = u;
	if (ZSTD_isError(ZSTD_DCtx_setParameter(u->ctx, ZSTD_d_windowLogMax, ZSTD_WINDOW_LOG_MAX)))
		return err_set(err, -ENOTSUP, "zstd: cannot limit the window");
	return 0;
}

static int unzstd(struct str in, struct cut *c, bool past, struct err *err)
{
	cleanup(unzstd_free) struct unzstd *u = NULL;
	ZSTD_inBuffer input = {in.p, in.len, 0};
	int r = unzstd_new(&u, err);
	size_t more = 1; /* 0: a frame has ended */

	while (r == 0 && (past ? !c->over : c->len > 0)) {
		ZSTD_outBuffer output = {u->out, sizeof(u->out), 0};
		size_t before = input.pos;

		if (more == 0 && input.pos == input.size)
			return 0;
		more = ZSTD_decompressStream(u->ctx, &output, &input);
		if (ZSTD_isError(more))
			return ZSTD_getErrorCode(more) == ZSTD_error_memory_allocation
				       ? err_set(err, -ENOMEM, "no memory for decompression")
				       : damaged(err, "zstd: damaged");
		r = give(c, u->out, output.pos);
		if (r == 0 && more > 0 && output.pos == 0 && input.pos == before)
			return damaged(err, "zstd: cut short");
	}
	return r;
}

/* --- both ------------------------------------------------------------------------------------- */

static int run(enum codec codec, struct str in, struct cut *c, bool past, bool first_member,
	       struct err *err)
{
	switch (codec) {
	case CODEC_GZIP:
		return gunzip(in, c, past, first_member, err);
	case CODEC_ZSTD:
		return unzstd(in, c, past, err);
	case CODEC_NONE:
		return give(c, (const uint8_t *)in.p, in.len);
	}
	return err_set(err, -EINVAL, "unknown compression");
}

int codec_range(enum codec codec, struct str in, uint64_t skip, uint64_t len, codec_sink *sink,
		void *arg, struct err *err)
{
	struct cut c = {skip, len, false, sink, arg};
	int r = len > 0 ? run(codec, in, &c, false, false, err) : 0;

	if (r == 0 && c.len > 0)
		return damaged(err, "compressed data: the output ends too early");
	return r;
}

int codec_whole(enum codec codec, struct str in, uint64_t max, bool first_member, codec_sink *sink,
		void *arg, struct err *err)
{
	struct cut c = {0, max, false, sink, arg};
	int r = run(codec, in, &c, true, first_member, err);

	if (r == 0 && c.over)
		return err_set(err, -EFBIG, "compressed data: more than %llu bytes",
			       (unsigned long long)max);
	return r;
}
