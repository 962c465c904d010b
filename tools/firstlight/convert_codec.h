/* SPDX-License-Identifier: Apache-2.0 */
/* Compression of single pieces: gzip members, zstd frames. The same bytes always give the same.
 * Each thread has its own. */
#ifndef FIRSTLIGHT_TOOLS_CONVERT_CODEC_H
#define FIRSTLIGHT_TOOLS_CONVERT_CODEC_H

#include <stdbool.h>

#include "base/buf.h"
#include "base/err.h"

struct packer;

/* level as the format counts. -ENOMEM, -EINVAL. */
int packer_new(bool zstd, int level, struct packer **ret, struct err *err) must_check;
void packer_free(struct packer *p);

/* data as one member or frame, which replaces what out holds. -ENOMEM, -EIO. */
int packer_pack(struct packer *p, const void *data, size_t n, struct buf *out,
		struct err *err) must_check;

#define PACK_GZIP_LEVEL_MAX 9
#define PACK_ZSTD_LEVEL_MAX 22

#endif
