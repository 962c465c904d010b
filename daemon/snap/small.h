/* SPDX-License-Identifier: Apache-2.0 */
/* The contents of small files, for a metadata image that holds them. */
#ifndef FIRSTLIGHT_SNAP_SMALL_H
#define FIRSTLIGHT_SNAP_SMALL_H

#include "base/arena.h"
#include "image/merge.h"

/* Gives the tree's files of at most SMALL_FILE_MAX bytes their contents, up to SMALL_FILES_MAX of
 * them, as far as they are complete below objects_fd and fit into a. Thread. -ENOMEM. */
int small_contents(struct merge_inode *root, int objects_fd, struct arena *a) must_check;

#endif
