/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One layer into a lazy format. zstd:chunked is written in stargz-snapshotter's dialect, which
 * firstlight and stargz read; containers/storage takes such a layer whole, and refuses one with
 * annotations of both dialects, so that one blob cannot serve both lazily. The tar stays what it
 * is, and so does the diff id, unless it has sparse files: their holes become zeros. eStargz adds a
 * landmark and its table of contents to the tar. Sources: stargz-snapshotter docs/estargz.md,
 * estargz/zstdchunked. Blocking; makes threads of its own.
 */
#ifndef FIRSTLIGHT_TOOLS_CONVERT_LAYER_H
#define FIRSTLIGHT_TOOLS_CONVERT_LAYER_H

#include <stdatomic.h>
#include <stdbool.h>

#include "base/digest.h"
#include "base/err.h"

struct convert_options {
	bool zstd;
	int level;
	unsigned threads;
	uint64_t tar_max, free_min; /* CONVERT_TAR_MAX, CONVERT_FREE_MIN */
	const atomic_bool *stop;    /* may be NULL; set by another thread: end soon */
};

static inline bool convert_stopped(const struct convert_options *o)
{
	return o->stop && atomic_load_explicit(o->stop, memory_order_relaxed);
}

/* 4 MiB is what eStargz's writers take; of zstd a read fetches less at once. */
#define CONVERT_CHUNK_GZIP (4u << 20)
#define CONVERT_CHUNK_ZSTD (1u << 20)

#define CONVERT_TAR_MAX    (128ull << 30) /* bytes that one layer may unpack to */
#define CONVERT_SPARSE_MAX (8ull << 30)   /* of its sparse files, with their holes */
#define CONVERT_FREE_MIN   (256ull << 20) /* that stay free where it is unpacked */

struct convert_result {
	struct digest digest; /* of the blob */
	uint64_t size;
	struct digest diff_id;
	struct digest toc;        /* of its JSON */
	uint64_t tar_size;        /* uncompressed */
	struct digest toc_packed; /* zstd: of the compressed one, and where it is */
	uint64_t toc_off, toc_len, toc_size;
};

/*
 * Reads the blob of in_fd (tar, gzip or zstd), which must be of diff id `want`, and writes the new
 * one to out_fd, through a file without a name in dir. -EOPNOTSUPP: it cannot be, err says why;
 * -EBADMSG: damaged, or not of that diff id; -EFBIG, -ENOSPC: more than the options allow;
 * -ECANCELED; -EIO, -ENOMEM.
 */
int convert_layer(int in_fd, const struct digest *want, const char *dir,
		  const struct convert_options *o, int out_fd, struct convert_result *ret,
		  struct err *err);

#endif
