// SPDX-License-Identifier: Apache-2.0
/*
 * The file system of the daemon's root: its kind, its space, and what files on it can be. Owns a
 * directory beside the root, which the mounts are tried in too; doctor_root_end() removes it.
 */
#include <dirent.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/statvfs.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "base/err.h"
#include "base/limits.h"
#include "doctor.h"
#include "fs/tree.h"
#include "out.h"

#include "base/banned.h"

#define FREE_WANTED   (2ull << 30)
#define INODES_WANTED 100000

/* --- its kind and its space ------------------------------------------------------------------- */

#define FS_TMPFS 0x01021994u
#define FS_NFS   0x6969u

static const struct fs_kind {
	unsigned type; /* f_type (statfs(2)) */
	const char *name;
} kinds[] = {
	{0xEF53, "ext4"},         {0x58465342, "xfs"},       {0x9123683E, "btrfs"},
	{FS_TMPFS, "tmpfs"},      {0x794c7630, "overlayfs"}, {FS_NFS, "nfs"},
	{0xF2F52010, "f2fs"},     {0x2fc12fc1, "zfs"},       {0xca451a4e, "bcachefs"},
	{0xFF534D42, "cifs"},     {0xfe534d42, "smb"},       {0x01021997, "9p"},
	{0x65735546, "fuse"},     {0xe0f5e1e2, "erofs"},     {0x73717368, "squashfs"},
	{0x858458f6, "ramfs"},    {0x00c36400, "ceph"},      {0x52654973, "reiserfs"},
	{0x6a656a63, "virtiofs"},
};

static const char *kind_name(unsigned type)
{
	for (size_t i = 0; i < array_size(kinds); i++) {
		if (kinds[i].type == type)
			return kinds[i].name;
	}
	return "a file system of another kind";
}

static void tell_space(struct doctor *d, const struct statvfs *v)
{
	char free_text[OUT_NUMBER_MAX];
	uint64_t bytes = (uint64_t)v->f_bavail * v->f_frsize;
	bool none = bytes < KV_OPEN_FREE_MIN || (v->f_files && !v->f_favail);
	bool low = bytes < FREE_WANTED || (v->f_files && v->f_favail < INODES_WANTED);
	struct finding *f;

	out_size(bytes, free_text);
	f = finding(d, "space",
		    none  ? FINDING_FAIL
		    : low ? FINDING_OFF
			  : FINDING_OK,
		    NEED_RUN, v->f_files ? "%s and %llu files free" : "%s free", free_text,
		    (unsigned long long)v->f_favail);
	if (none || low)
		finding_advice(f,
			       none ? "the daemon cannot open its database" : "images fill it soon",
			       "free space there, or --root on another disk");
}

static void tell_kind(struct doctor *d, const char *at, const struct statvfs *v)
{
	struct finding *f;
	struct statfs s;

	if (statfs(at, &s) < 0)
		s.f_type = 0;
	if (v->f_flag & ST_RDONLY) {
		f = finding(d, "root", FINDING_FAIL, NEED_RUN, "%s is on %s, mounted read-only",
			    d->root, kind_name((unsigned)s.f_type));
		finding_advice(f, "the daemon cannot start",
			       "--root on a disk that can be written");
		return;
	}
	f = finding(d, "root", (unsigned)s.f_type == FS_TMPFS ? FINDING_OFF : FINDING_OK,
		    NEED_NOTHING, "%s%s is on %s", d->root,
		    access(d->root, F_OK) == 0 ? "" : " (not there yet)",
		    kind_name((unsigned)s.f_type));
	if ((unsigned)s.f_type == FS_TMPFS)
		finding_advice(f, "what is pulled takes memory, and is gone after a boot",
			       "--root on a disk");
}

/* --- what files can be ------------------------------------------------------------------------ */

/* All answer 0 or -errno, in the directory dir. */

static int try_tmpfile(int dir)
{
	auto_close int fd = openat(dir, ".", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
	char path[64];

	if (fd < 0)
		return -errno;
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	return linkat(AT_FDCWD, path, dir, "linked", AT_SYMLINK_FOLLOW) < 0 ? -errno : 0;
}

static int try_hardlink(int dir)
{
	return linkat(dir, "file", dir, "again", 0) < 0 ? -errno : 0;
}

static int try_type(int dir)
{
	auto_closedir DIR *list = NULL;
	int fd = openat(dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC), r = -ENOENT;
	struct dirent *e;

	list = fd < 0 ? NULL : fdopendir(fd);
	if (!list)
		return -errno;
	while (r == -ENOENT && (e = readdir(list))) {
		if (strcmp(e->d_name, "file") == 0)
			r = e->d_type == DT_REG ? 0 : -EOPNOTSUPP;
	}
	return r;
}

static int set_xattr(int dir, const char *name)
{
	auto_close int fd = openat(dir, "file", O_RDWR | O_CLOEXEC);

	if (fd < 0)
		return -errno;
	return fsetxattr(fd, name, "1", 1, 0) < 0 ? -errno : 0;
}

static int try_trusted(int dir)
{
	return set_xattr(dir, "trusted.firstlight");
}

static int try_user(int dir)
{
	return set_xattr(dir, "user.firstlight");
}

static int try_owner(int dir)
{
	return fchownat(dir, "file", 12345, 12345, 0) < 0 ? -errno : 0;
}

/* As overlayfs marks what a layer deletes. */
static int try_whiteout(int dir)
{
	return mknodat(dir, "whiteout", S_IFCHR, makedev(0, 0)) < 0 ? -errno : 0;
}

static int try_device(int dir)
{
	return mknodat(dir, "null", S_IFCHR | 0600, makedev(1, 3)) < 0 ? -errno : 0;
}

static int try_reflink(int dir)
{
	auto_close int from = openat(dir, "file", O_RDONLY | O_CLOEXEC);
	auto_close int to = openat(dir, "clone", O_RDWR | O_CREAT | O_CLOEXEC, 0600);

	if (from < 0 || to < 0)
		return -errno;
	return ioctl(to, FICLONE, from) < 0 ? -errno : 0;
}

static const struct trial {
	const char *name;
	int (*fn)(int dir);
	enum finding_state bad;
	enum finding_need need;
	const char *on, *costs, *fix;
} trials[] = {
	{"unnamed-file", try_tmpfile, FINDING_FAIL, NEED_RUN, "files without a name (O_TMPFILE)",
	 "the daemon cannot start", "--root on ext4, xfs or btrfs; /proc must be mounted"},
	{"hard-link", try_hardlink, FINDING_FAIL, NEED_RUN, "files of several names",
	 "the daemon cannot start", "--root on ext4, xfs or btrfs"},
	{"dir-type", try_type, FINDING_FAIL, NEED_RUN, "directories tell the types of files",
	 "overlayfs refuses it", "xfs: made with ftype=1"},
	{"xattr", try_trusted, FINDING_FAIL, NEED_RUN, "trusted.* attributes",
	 "overlayfs needs them", "--root on ext4, xfs or btrfs; CAP_SYS_ADMIN"},
	{"user-xattr", try_user, FINDING_OFF, NEED_NOTHING, "user.* attributes",
	 "images that have such attributes are not unpacked right", "mount option user_xattr"},
	{"owner", try_owner, FINDING_FAIL, NEED_RUN, "files may be given to any user",
	 "images cannot be unpacked", "CAP_CHOWN; no user mapping on the way (NFS root_squash)"},
	{"whiteout", try_whiteout, FINDING_FAIL, NEED_RUN, "overlayfs can mark what is deleted",
	 "layers that delete files cannot be unpacked", "--root on ext4, xfs or btrfs"},
	{"device", try_device, FINDING_OFF, NEED_NOTHING, "device files",
	 "images with device files cannot be unpacked", "CAP_MKNOD"},
	{"reflink", try_reflink, FINDING_OFF, NEED_NOTHING, "files can share blocks",
	 "nothing: firstlight shares whole files, by hard links", "xfs or btrfs"},
};

static void try_files(struct doctor *d)
{
	auto_close int dir = open(d->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	auto_close int file =
		dir < 0 ? -1 : openat(dir, "file", O_RDWR | O_CREAT | O_CLOEXEC, 0600);

	if (file < 0 || write(file, "text", 4) != 4) {
		finding(d, "files", FINDING_FAIL, NEED_RUN, "%s: %s", d->dir, strerror(errno));
		return;
	}
	for (size_t i = 0; i < array_size(trials); i++) {
		const struct trial *t = &trials[i];
		int r = t->fn(dir);
		struct finding *f = finding(d, t->name, r < 0 ? t->bad : FINDING_OK, t->need, "%s",
					    r < 0 ? strerror(-r) : t->on);

		if (r < 0)
			finding_advice(f, t->costs, t->fix);
	}
}

/* --- the directory ---------------------------------------------------------------------------- */

/* The root, or the nearest directory above it that exists. */
static int existing(const char *path, char ret[PATH_MAX])
{
	struct stat st;

	if (snprintf(ret, PATH_MAX, "%s", path) >= PATH_MAX)
		return -ENAMETOOLONG;
	while (stat(ret, &st) < 0) {
		char *slash = strrchr(ret, '/');

		if (errno != ENOENT || !slash || !ret[1])
			return -errno;
		slash[slash == ret] = 0;
	}
	return S_ISDIR(st.st_mode) ? 0 : -ENOTDIR;
}

static int make_dir(struct doctor *d, const char *parent)
{
	snprintf(d->dir, sizeof(d->dir), "%s/.firstlight-doctor.XXXXXX",
		 strcmp(parent, "/") == 0 ? "" : parent);
	if (!mkdtemp(d->dir)) {
		int r = -errno;

		d->dir[0] = 0;
		return r;
	}
	return 0;
}

void doctor_root(void *arg)
{
	struct doctor *d = arg;
	char parent[PATH_MAX];
	struct statvfs v = {.f_flag = 0};
	struct finding *f;
	int r = d->root[0] == '/' ? existing(d->root, parent) : -EINVAL;

	if (r == 0)
		r = statvfs(parent, &v) < 0 ? -errno : 0;
	if (r < 0) {
		f = finding(d, "root", d->root_user ? FINDING_FAIL : FINDING_SKIP, NEED_RUN,
			    "%s: %s", d->root, strerror(-r));
		finding_advice(f, "", "--root names the directory, from /");
		return;
	}
	tell_kind(d, parent, &v);
	tell_space(d, &v);
	if (!d->root_user || v.f_flag & ST_RDONLY)
		return;
	r = make_dir(d, parent);
	if (r < 0)
		finding(d, "files", FINDING_FAIL, NEED_RUN, "nothing can be written below %s: %s",
			parent, strerror(-r));
	else
		try_files(d);
}

void doctor_root_end(void *arg)
{
	struct doctor *d = arg;
	char *slash = strrchr(d->dir, '/');
	auto_close int parent = -1;
	struct err err = ERR_INIT;

	*slash = 0;
	parent = open(slash == d->dir ? "/" : d->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (parent < 0 || tree_remove(parent, slash + 1, &err) < 0)
		_exit(1);
}
