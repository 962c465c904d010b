/* SPDX-License-Identifier: Apache-2.0 */
/* The FUSE mount of the objects and the memory of its workers, for the keeper. No thread waits for
 * an answer of the mount here: nobody serves it yet. */
#ifndef FIRSTLIGHT_FS_FILL_MOUNT_H
#define FIRSTLIGHT_FS_FILL_MOUNT_H

#include <stdbool.h>
#include <stddef.h>

#include "base/err.h"

/* Makes dir, takes away what dead keepers have left mounted there, and mounts it. The connection
 * ends with the last descriptor. -ENOENT, -ENODEV, -EPERM: not on this host. */
int fill_mount(const char *dir, int *ret_fuse_fd, struct err *err) must_check;

/* Detaches all that is mounted there. */
void fill_unmount(const char *dir);

/* Is fd still that of a mount? */
bool fill_mounted(int fuse_fd);

/* Zeroed, of this size for ever. */
int fill_memory(size_t size, int *ret_fd, struct err *err) must_check;

#endif
