// SPDX-License-Identifier: Apache-2.0
/*
 * A disk that fails: while the file $EIO_FLAG exists, write, pwrite, fsync, fdatasync and
 * sync_file_range on regular files below $EIO_ROOT answer EIO, and so does syncfs. For
 * test_daemon_disk.sh.
 */
#include <dlfcn.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <unistd.h>

#define REAL(name) ((typeof(&name))dlsym(RTLD_NEXT, #name))

int sync_file_range(int fd, off_t off, off_t n, unsigned flags);
int syncfs(int fd);

static int below_root(int fd)
{
	const char *root = getenv("EIO_ROOT");
	char link[64], path[4096];
	ssize_t n;

	snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
	n = readlink(link, path, sizeof(path) - 1);
	if (!root || n < 0)
		return 0;
	path[n] = '\0';
	return strncmp(path, root, strlen(root)) == 0;
}

static int fails(int fd)
{
	const char *flag = getenv("EIO_FLAG");
	int saved = errno, r = flag && access(flag, F_OK) == 0 && below_root(fd);

	errno = r ? EIO : saved;
	return r;
}

ssize_t write(int fd, const void *buf, size_t n)
{
	return fails(fd) ? -1 : REAL(write)(fd, buf, n);
}

ssize_t pwrite(int fd, const void *buf, size_t n, off_t off)
{
	return fails(fd) ? -1 : REAL(pwrite)(fd, buf, n, off);
}

ssize_t pwrite64(int fd, const void *buf, size_t n, off_t off)
{
	return fails(fd) ? -1 : REAL(pwrite64)(fd, buf, n, off);
}

int fsync(int fd)
{
	return fails(fd) ? -1 : REAL(fsync)(fd);
}

int fdatasync(int fd)
{
	return fails(fd) ? -1 : REAL(fdatasync)(fd);
}

int sync_file_range(int fd, off_t off, off_t n, unsigned flags)
{
	return fails(fd) ? -1 : REAL(sync_file_range)(fd, off, n, flags);
}

int syncfs(int fd)
{
	return fails(fd) ? -1 : REAL(syncfs)(fd);
}
