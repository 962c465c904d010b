/* SPDX-License-Identifier: Apache-2.0 */
/* The entries of a directory as EROFS orders and packs them: "." and ".." among the names, in
 * blocks. Part of fs/erofs.c. Pure. */
#ifndef FIRSTLIGHT_FS_EROFS_DIR_H
#define FIRSTLIGHT_FS_EROFS_DIR_H

#include "image/merge.h"

struct dir_iter {
	const struct merge_inode *dir;
	uint32_t next; /* of its names */
	uint32_t dots; /* how many of "." and ".." are done */
};

/* The next entry; false at the end. */
bool dir_next(struct dir_iter *it, struct str *ret_name, const struct merge_inode **ret_in);

/* Goes on behind what one block holds. */
struct dir_block {
	uint32_t entries, bytes; /* bytes 0: there was none left */
};
struct dir_block dir_next_block(struct dir_iter *it);

/* Of the whole: blocks that are followed by others (or full to the last byte), and the bytes of the
 * last piece (0 = none). -EINVAL: a name that is too long or out of order. */
int dir_size(const struct merge_inode *dir, uint64_t *ret_blocks, uint32_t *ret_tail);

#endif
