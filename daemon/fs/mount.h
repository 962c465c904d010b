/* SPDX-License-Identifier: Apache-2.0 */
/* The only mount calls of the daemon: what the kernel can mount here, found out by trying, and the
 * mounts of metadata images. */
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

	bool erofs_file; /* EROFS images straight from a file below root (Linux 6.12) */
	bool erofs_loop; /* EROFS images through a loop device */
	bool data_only;  /* overlays over such an image find file data in data-only layers
			    (Linux 6.5), with metacopy=on,redirect_dir=on,index=off: read through */
	char why_erofs_file[128], why_erofs_loop[128], why_data_only[128]; /* empty = it is on */
};

/* Tries in a child with a mount namespace of its own, below the directory root; nothing stays
 * mounted, also after SIGKILL. Call it before there are threads. */
int mount_probe(const char *root, struct mount_features *ret, struct err *err) must_check;

/* Mounts the EROFS image (a file) on dir: from the file itself if file_backed_ok and the kernel
 * can, else through a loop device of its own, which goes with the mount. Blocking: threads only. */
int mount_erofs(const char *image, const char *dir, bool file_backed_ok,
		struct err *err) must_check;

/* Takes the uppermost mount on dir away, also while it is used; then it lives until its last user
 * has gone. Nothing mounted there: 0. */
int mount_detach(const char *dir, struct err *err) must_check;

/* Is something mounted on dir? 1, 0, -errno. */
int mount_is_mounted(const char *dir) must_check;

#endif
