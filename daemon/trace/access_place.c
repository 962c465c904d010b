// SPDX-License-Identifier: Apache-2.0
/* Where files are: statx(2) tells the mount, /proc/self/mountinfo the mount's device. */
#include "trace/access_place.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>

#include "base/file.h"
#include "base/limits.h"

#include "base/banned.h"

/* "MAJOR:MINOR" */
static int dev_parse(struct str s, uint32_t *ret)
{
	uint64_t high, low;

	if (str_u64(str_cut(&s, ':'), &high) < 0 || str_u64(s, &low) < 0 || high >> 12 || low >> 20)
		return -EPROTO;
	*ret = (uint32_t)(high << 20 | low);
	return 0;
}

int access_mount_dev(struct str text, uint64_t id, uint32_t *ret_s_dev)
{
	uint64_t this;

	while (text.len) {
		struct str line = str_cut(&text, '\n');

		if (str_u64(str_cut(&line, ' '), &this) == 0 && this == id) {
			str_cut(&line, ' '); /* the parent */
			return dev_parse(str_cut(&line, ' '), ret_s_dev);
		}
	}
	return -ENOENT;
}

int access_place(const char *path, struct access_place *ret)
{
	auto_buf struct buf text = BUF_INIT;
	struct access_place place;
	struct statx st;
	int r;

	if (statx(AT_FDCWD, path, AT_STATX_DONT_SYNC, STATX_INO | STATX_MNT_ID, &st) < 0)
		return -errno;
	if (!(st.stx_mask & STATX_MNT_ID))
		return -EPROTO;
	place.ino = st.stx_ino;
	place.mount_root = st.stx_attributes & STATX_ATTR_MOUNT_ROOT;
	r = file_read_all("/proc/self/mountinfo", ACCESS_MOUNTINFO_MAX, &text, NULL);
	if (r == 0)
		r = access_mount_dev((struct str){(const char *)text.data, text.len}, st.stx_mnt_id,
				     &place.s_dev);
	if (r == 0)
		*ret = place;
	return r;
}
