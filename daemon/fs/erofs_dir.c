// SPDX-License-Identifier: Apache-2.0
/* Owns nothing. */
#include "fs/erofs_dir.h"

#include <limits.h>

#include "fs/erofs_format.h"

#include "base/banned.h"

bool dir_next(struct dir_iter *it, struct str *ret_name, const struct merge_inode **ret_in)
{
	const struct merge_inode *dir = it->dir;
	const struct merge_name *n = it->next < dir->names_n ? &dir->names[it->next] : NULL;
	struct str dot = it->dots ? STR("..") : STR(".");

	if (it->dots < 2 && (!n || str_cmp(dot, n->name) < 0)) {
		*ret_name = dot;
		*ret_in = it->dots && dir->parent ? dir->parent : dir;
		it->dots++;
		return true;
	}
	if (!n)
		return false;
	*ret_name = n->name;
	*ret_in = n->inode;
	it->next++;
	return true;
}

struct dir_block dir_next_block(struct dir_iter *it)
{
	struct dir_block b = {0};
	const struct merge_inode *in;
	struct dir_iter before = *it;
	struct str name;

	while (dir_next(it, &name, &in)) {
		if (b.bytes + DIRENT_SIZE + name.len > EROFS_BLOCK) {
			*it = before;
			break;
		}
		b.bytes += DIRENT_SIZE + (uint32_t)name.len;
		b.entries++;
		before = *it;
	}
	return b;
}

int dir_size(const struct merge_inode *dir, uint64_t *ret_blocks, uint32_t *ret_tail)
{
	struct dir_iter it = {.dir = dir};
	struct dir_block b = {0};
	uint64_t blocks = 0;
	uint32_t tail = 0;

	for (uint32_t i = 0; i < dir->names_n; i++) {
		struct str name = dir->names[i].name;

		if (name.len < 1 || name.len > NAME_MAX ||
		    (i && str_cmp(dir->names[i - 1].name, name) >= 0))
			return -EINVAL;
	}
	while ((b = dir_next_block(&it)).bytes) {
		blocks += tail > 0;
		tail = b.bytes;
	}
	if (tail == EROFS_BLOCK) {
		blocks++;
		tail = 0;
	}
	*ret_blocks = blocks;
	*ret_tail = tail;
	return 0;
}
