/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Whole trees of files: how much they take, and their removal. Any depth and any width of a
 * directory with two descriptors: one goes down by name and up by "..". Blocking: worker threads
 * only.
 */
#ifndef FIRSTLIGHT_FS_TREE_H
#define FIRSTLIGHT_FS_TREE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"

struct tree_usage {
	int64_t size;   /* bytes on disk: st_blocks × 512, every inode once */
	int64_t inodes; /* the root included */
};

/* Counts the tree name in dirfd as containerd's continuity does. Files may come and go meanwhile;
 * -EAGAIN: directories were moved under our feet. *stop (may be NULL) set by another thread:
 * -ECANCELED. */
int tree_usage(int dirfd, const char *name, const bool *stop, struct tree_usage *ret,
	       struct err *err) must_check;

/* Removes name in dirfd and all below it. Not there: 0. -EXDEV: something is mounted below it, and
 * stays; -EAGAIN as above. */
int tree_remove(int dirfd, const char *name, struct err *err) must_check;

#endif
