/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Paths in the mounted tree of an image (fs/erofs.h writes it): which content a file is. Links are
 * followed inside of the tree. Blocking: threads only.
 */
#ifndef FIRSTLIGHT_IMAGE_LOOKUP_H
#define FIRSTLIGHT_IMAGE_LOOKUP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/clean.h"
#include "base/digest.h"

struct lookup_file {
	uint64_t size; /* > 0 */
	uint64_t ino;
	bool embedded;     /* its bytes are in the tree itself; else: */
	struct digest key; /* of its content */
};

/* The regular file with content at path (absolute), below root_fd. -ENOENT: there is none. */
int lookup_file(int root_fd, const char *path, struct lookup_file *ret) must_check;
/* Is it a regular file, be it empty? */
bool lookup_is_file(int root_fd, const char *path);
/* Opens it for reading. -errno. */
int lookup_open(int root_fd, const char *path) must_check;

/* Where it is without links, by an absolute path, in a tree that is mounted at root; empty: not
 * known, or longer than size. */
void lookup_real(int root_fd, const char *root, const char *path, char *ret, size_t size);

#endif
