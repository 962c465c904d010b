// SPDX-License-Identifier: Apache-2.0
/* Paths of a mounted tree. Owns nothing; any thread. */
#include "image/lookup.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "base/banned.h"

#define REDIRECT   "trusted.overlay.redirect"
#define FD_PATH    32   /* of /proc/self/fd/N */
#define REAL_BYTES 8192 /* of a path with that of the mount */

static int open_in(int root_fd, const char *path, int flags)
{
	const struct open_how how = {.flags = (uint64_t)(flags | O_CLOEXEC),
				     .resolve = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS};
	int fd = (int)syscall(SYS_openat2, root_fd, path, &how, sizeof(how));

	return fd < 0 ? -errno : fd;
}

int lookup_open(int root_fd, const char *path)
{
	return open_in(root_fd, path, O_RDONLY | O_NONBLOCK);
}

bool lookup_is_file(int root_fd, const char *path)
{
	auto_close int fd = open_in(root_fd, path, O_PATH);
	struct stat st;

	return fd >= 0 && fstat(fd, &st) == 0 && S_ISREG(st.st_mode);
}

int lookup_file(int root_fd, const char *path, struct lookup_file *ret)
{
	char link[FD_PATH], redirect[4 + DIGEST_HEX_SIZE];
	auto_close int fd = open_in(root_fd, path, O_PATH);
	struct stat st;
	ssize_t n;

	if (fd < 0 || fstat(fd, &st) < 0 || !S_ISREG(st.st_mode) || st.st_size == 0)
		return -ENOENT;
	*ret = (struct lookup_file){.size = (uint64_t)st.st_size, .ino = st.st_ino};
	snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
	n = getxattr(link, REDIRECT, redirect, sizeof(redirect));
	if (n < 0 && errno == ENODATA) {
		ret->embedded = true;
		return 0;
	}
	if (n < 4 || redirect[0] != '/' || redirect[3] != '/' ||
	    digest_parse_hex((struct str){redirect + 4, (size_t)n - 4}, &ret->key) < 0)
		return -ENOENT;
	return 0;
}

void lookup_real(int root_fd, const char *root, const char *path, char *ret, size_t size)
{
	auto_close int fd = open_in(root_fd, path, O_PATH);
	char link[FD_PATH], text[REAL_BYTES];
	size_t skip = strlen(root);
	ssize_t n = -1;

	if (fd >= 0) {
		snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
		n = readlink(link, text, sizeof(text) - 1);
	}
	ret[0] = '\0';
	if (n < 0 || (size_t)n <= skip || (size_t)n - skip >= size ||
	    memcmp(text, root, skip) != 0 || text[skip] != '/')
		return;
	text[n] = '\0';
	memcpy(ret, text + skip, (size_t)n - skip + 1);
}
