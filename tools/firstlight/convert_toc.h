/* SPDX-License-Identifier: Apache-2.0 */
/* The table of contents as JSON (stargz-snapshotter docs/estargz.md, "TOC"). Pure. */
#ifndef FIRSTLIGHT_TOOLS_CONVERT_TOC_H
#define FIRSTLIGHT_TOOLS_CONVERT_TOC_H

#include "base/buf.h"
#include "convert_tar.h"

/* A piece of the tar that is compressed by itself. */
struct piece {
	uint64_t off, len; /* in the tar */
	uint64_t blob_off; /* where its stream begins */
	int64_t entry;     /* whose payload it begins with; -1 = none */
	uint64_t chunk_off, chunk_len;
	struct digest digest; /* of the payload */
};

/* -ENOMEM. */
int toc_write(const struct tar_list *tar, const struct piece *pieces, size_t n, struct buf *ret);

/* A string with its quotes. */
int toc_string(struct buf *b, const char *s, size_t n);

#endif
