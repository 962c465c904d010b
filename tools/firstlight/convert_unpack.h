/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A layer's tar, out of its blob into a file without a name: verified, within limits, and without
 * sparse files, which a table of contents has no words for. Blocking.
 */
#ifndef FIRSTLIGHT_TOOLS_CONVERT_UNPACK_H
#define FIRSTLIGHT_TOOLS_CONVERT_UNPACK_H

#include "base/str.h"
#include "convert_layer.h"
#include "convert_tar.h"

/* Would n more bytes leave free_min free where fd is? -ENOSPC. */
int convert_room(int fd, uint64_t n, uint64_t free_min, struct err *err);

/* The tar of a blob of diff id `want`, to the end of fd. -EBADMSG: damaged, or another diff id;
 * -EFBIG, -ENOSPC: more than the options allow; -ECANCELED: told to stop. */
int convert_unpack(int fd, struct str blob, const struct digest *want,
		   const struct convert_options *o, struct err *err);

/*
 * Replaces *fd, whose entries l has, by a tar in which sparse files have their holes as zeros, and
 * l by its entries; the digest is that of the new tar. Other entries stay byte for byte.
 * -EOPNOTSUPP: they would be larger than CONVERT_SPARSE_MAX. *fd is the caller's to close, always.
 */
int convert_unsparse(int *fd, struct tar_list *l, const char *dir, const struct convert_options *o,
		     struct digest *ret, struct err *err);

/* A ustar header of a plain file that belongs to root. */
void tar_header(const char *name, uint64_t size, char ret[TAR_BLOCK]);

#endif
