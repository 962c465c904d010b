/* SPDX-License-Identifier: Apache-2.0 */
/* What the kernel can mount here, found out by trying. */
#ifndef FIRSTLIGHT_FS_MOUNT_H
#define FIRSTLIGHT_FS_MOUNT_H

#include <stdbool.h>

#include "base/err.h"

struct mount_features {
	bool overlay;        /* overlays with an upper directory below root work at all */
	bool index_off;      /* the option index=off exists */
	bool userxattr;      /* we are in a user namespace and the option is needed and works */
	bool volatile_upper; /* the option volatile exists (Linux 5.10) */
	bool idmap;    /* idmapped mounts of root's file system below an overlay (Linux 5.19) */
	char why[256]; /* the first thing that is off, for the log */
};

/* Tries in a child with a mount namespace of its own, below the directory root; nothing stays
 * mounted, also after SIGKILL. Call it before there are threads. */
int mount_probe(const char *root, struct mount_features *ret, struct err *err) must_check;

#endif
