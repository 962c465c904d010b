/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Layers of a run merged into one tree, as overlayfs over containerd's unpacked layers would show
 * it (image-spec layer.md, kernel overlayfs.rst): upper entries win, whiteouts and opaque
 * directories applied. As there, the root is 0755 of 0:0, and an opaque mark of it hides nothing.
 * Blocking and pure: threads only.
 */
#ifndef FIRSTLIGHT_IMAGE_MERGE_H
#define FIRSTLIGHT_IMAGE_MERGE_H

#include <sys/types.h>

#include "base/err.h"
#include "image/index.h"

struct merge_inode {
	mode_t mode; /* with the type; a whiteout that stays is S_IFCHR with device 0:0 */
	uint32_t uid, gid;
	int64_t mtime;
	uint32_t mtime_nsec;
	uint32_t dev_major, dev_minor;
	/* As overlayfs shows it: names in its layer; of a directory 2 + its subdirectories, or 1
	 * when several layers have made it. */
	uint32_t nlink;
	struct str target; /* of a symlink; of a regular file, set by others: its bytes */
	uint64_t size;     /* of a regular file */
	struct digest key; /* of its content; size 0: none */
	const struct index_xattr *xattrs; /* without trusted.* of the layers, ordered by name */
	uint32_t xattrs_n;
	bool opaque;  /* a directory that hides what lies below the run */
	bool implied; /* a directory that no layer of the run has an entry of, and that may lie
			 below it: 0755 of 0:0 is a guess, the directory below knows better */
	/* directories: */
	struct merge_name *names; /* ordered by bytes */
	uint32_t names_n;
	struct merge_inode *parent;
	/* for whoever walks the tree */
	uint64_t mark;
};

struct merge_name {
	struct str name;
	struct merge_inode *inode; /* several names may lead to one inode that is no directory */
};

struct merge_tree;

/*
 * layers: bottom first, 1..SNAPSHOT_DEPTH_MAX; they must outlive the tree. below: something lies
 * below the run, so whiteouts and opaque marks that may concern it stay. -EINVAL: a hard link to
 * what no lower layer has as a file; -EFBIG (MERGE_INODES_MAX), -ENOMEM.
 */
int merge_layers(struct index *const *layers, size_t n, bool below, struct merge_tree **ret,
		 struct err *err) must_check;
void merge_free(struct merge_tree *t);
#define auto_merge cleanup(merge_free_)
static inline void merge_free_(struct merge_tree **t)
{
	merge_free(*t);
}
struct merge_inode *merge_root(const struct merge_tree *t);

#endif
