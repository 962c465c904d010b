// SPDX-License-Identifier: Apache-2.0
/* Small contents. Owns nothing; runs on a thread. */
#include "snap/small.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/file.h"
#include "base/limits.h"
#include "store/objects.h"

#include "base/banned.h"

static bool read_all(int fd, char *to, size_t n)
{
	struct stat st;

	if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode) || (uint64_t)st.st_size != n)
		return false;
	return file_pread_all(fd, to, n, 0) == 0;
}

/* What is not here, or cannot be read, is left to the objects. False: a is full. */
static bool small_file(struct merge_inode *in, int objects_fd, struct arena *a)
{
	char path[OBJECT_PATH_SIZE], bytes[SMALL_FILE_MAX];
	char *copy;

	object_path(&in->key, path);
	auto_close int fd = openat(objects_fd, path, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0 || !read_all(fd, bytes, in->size))
		return true;
	copy = arena_alloc(a, in->size);
	if (!copy)
		return false;
	memcpy(copy, bytes, in->size);
	in->target = (struct str){copy, in->size};
	return true;
}

int small_contents(struct merge_inode *root, int objects_fd, struct arena *a)
{
	auto_buf struct buf dirs = BUF_INIT; /* struct merge_inode * */
	struct merge_inode *dir;
	unsigned left = SMALL_FILES_MAX;
	int r = buf_append(&dirs, &root, sizeof(dir));

	while (r == 0 && dirs.len) {
		dirs.len -= sizeof(dir);
		memcpy(&dir, dirs.data + dirs.len, sizeof(dir));
		for (uint32_t i = 0; r == 0 && i < dir->names_n; i++) {
			struct merge_inode *in = dir->names[i].inode;

			if (S_ISDIR(in->mode))
				r = buf_append(&dirs, &in, sizeof(in));
			else if (S_ISREG(in->mode) && in->size && in->size <= SMALL_FILE_MAX &&
				 !in->target.p && (left-- == 0 || !small_file(in, objects_fd, a)))
				return 0;
		}
	}
	return r;
}
