// SPDX-License-Identifier: Apache-2.0
/* The FUSE mount. Owns nothing. The keeper's only thread. */
#include "fs/fill_mount.h"

#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>

#include "base/limits.h"

#include "base/banned.h"

void fill_unmount(const char *dir)
{
	for (int i = 0; i < FILL_STALE_MOUNTS; i++) {
		if (umount2(dir, MNT_DETACH | UMOUNT_NOFOLLOW) < 0)
			break;
	}
}

/* The kernel takes the smaller of this and what the INIT reply says; a host without sysfs reads
 * ahead less. */
static void readahead_set(const char *dir)
{
	struct statx st;
	char path[64], text[16];
	int n = snprintf(text, sizeof(text), "%zu", FILL_READAHEAD_MAX >> 10);

	/* any other stat would wait for a server */
	if (statx(AT_FDCWD, dir, AT_STATX_DONT_SYNC | AT_SYMLINK_NOFOLLOW, 0, &st) < 0)
		return;
	snprintf(path, sizeof(path), "/sys/class/bdi/%u:%u/read_ahead_kb", st.stx_dev_major,
		 st.stx_dev_minor);
	auto_close int fd = open(path, O_WRONLY | O_CLOEXEC);
	if (fd >= 0 && write(fd, text, (size_t)n) < 0)
		return;
}

int fill_mount(const char *dir, int *ret_fuse_fd, struct err *err)
{
	auto_close int fd = -1;
	char options[128];

	fill_unmount(dir);
	if (mkdir(dir, 0555) < 0 && errno != EEXIST)
		return err_errno(err, -errno, "mkdir %s", dir);
	fd = open("/dev/fuse", O_RDWR | O_NONBLOCK | O_CLOEXEC);
	if (fd < 0)
		return err_errno(err, -errno, "open /dev/fuse");
	/* default_permissions: the kernel looks at modes and does not ask */
	snprintf(options, sizeof(options),
		 "fd=%d,rootmode=40555,user_id=0,group_id=0,allow_other,default_permissions", fd);
	if (mount("firstlight", dir, "fuse", MS_RDONLY | MS_NOSUID | MS_NODEV, options) < 0)
		return err_errno(err, -errno, "mount %s", dir);
	readahead_set(dir);
	*ret_fuse_fd = take_fd(&fd);
	return 0;
}

bool fill_mounted(int fuse_fd)
{
	struct pollfd p = {.fd = fuse_fd, .events = POLLIN};

	return poll(&p, 1, 0) >= 0 && !(p.revents & (POLLERR | POLLNVAL));
}

int fill_memory(size_t size, int *ret_fd, struct err *err)
{
	auto_close int fd = memfd_create("firstlight-fill", MFD_CLOEXEC | MFD_ALLOW_SEALING);

	if (fd < 0 || ftruncate(fd, (off_t)size) < 0 ||
	    fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) < 0)
		return err_errno(err, -errno, "memory for open objects");
	*ret_fd = take_fd(&fd);
	return 0;
}
