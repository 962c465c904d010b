/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Writes the metadata image of a run: EROFS (Linux fs/erofs/erofs_fs.h) that holds directories,
 * inodes, symlinks and xattrs. A regular file has its size, no blocks, and trusted.overlay.metacopy
 * and trusted.overlay.redirect=/<2 hex>/<key>, which overlayfs follows into the data-only layers;
 * or, if it is small and the tree says so, its bytes. Blocking: threads only.
 */
#ifndef FIRSTLIGHT_FS_EROFS_H
#define FIRSTLIGHT_FS_EROFS_H

#include "base/err.h"
#include "image/merge.h"

struct erofs_stat {
	uint64_t bytes, inodes;
	uint32_t root_mode, root_uid, root_gid;
};

/* The file fd gets the image, from its start; not synced. uuid: not all zero. The same tree and
 * uuid give the same bytes. -EFBIG: a limit of the format or EROFS_IMAGE_MAX; -EINVAL: an inode
 * that no file system has; -ENOMEM, -ENOSPC, -EIO. */
int erofs_write(struct merge_tree *t, const uint8_t uuid[16], int fd, struct erofs_stat *ret,
		struct err *err) must_check;

/* The same for a tree that no merge has made. Its marks are overwritten. */
int erofs_write_root(struct merge_inode *root, const uint8_t uuid[16], int fd,
		     struct erofs_stat *ret, struct err *err) must_check;

/* Is all of an image that was written there? -EBADMSG: it is none, or cut short. */
int erofs_whole(const char *path, struct err *err) must_check;

#endif
