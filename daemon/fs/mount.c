// SPDX-License-Identifier: Apache-2.0
/* Mounts, and probes of the kernel's mounting abilities. Owns nothing between calls. */
#include "fs/mount.h"

#include <fcntl.h>
#include <linux/loop.h>
#include <linux/mount.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/digest.h"
#include "fs/erofs.h"
#include "fs/tree.h"

#include "base/banned.h"

#define PROBE_DIR     "probe"
#define PROBE_SECONDS 20
#define LOOP_TRIES    64 /* somebody else may take the free device first */
#define EROFS_FLAGS   (MS_RDONLY | MS_NODEV | MS_NOSUID)

/* --- metadata images -------------------------------------------------------------------------- */

/* A loop device with the image in it, open; it goes with its last user. */
static int loop_attach(const char *image, char *path, size_t size, struct err *err)
{
	auto_close int control = open("/dev/loop-control", O_RDWR | O_CLOEXEC);
	auto_close int file = open(image, O_RDONLY | O_CLOEXEC);
	struct loop_config config = {.fd = (__u32)file};

	if (file < 0)
		return err_errno(err, -errno, "open %s", image);
	if (control < 0)
		return err_errno(err, -errno, "open /dev/loop-control");
	config.info.lo_flags = LO_FLAGS_READ_ONLY | LO_FLAGS_AUTOCLEAR;
	snprintf((char *)config.info.lo_file_name, sizeof(config.info.lo_file_name), "%s", image);
	for (int i = 0; i < LOOP_TRIES; i++) {
		int number = ioctl(control, LOOP_CTL_GET_FREE);
		auto_close int device = -1;

		if (number < 0)
			return err_errno(err, -errno, "ask for a free loop device");
		snprintf(path, size, "/dev/loop%d", number);
		device = open(path, O_RDONLY | O_CLOEXEC);
		if (device < 0)
			return err_errno(err, -errno, "open %s", path);
		if (ioctl(device, LOOP_CONFIGURE, &config) == 0)
			return take_fd(&device);
		if (errno != EBUSY)
			return err_errno(err, -errno, "%s: set up for %s", path, image);
	}
	return err_set(err, -EBUSY, "no loop device stays free");
}

static int mount_loop(const char *image, const char *dir, struct err *err)
{
	char path[32];
	auto_close int device = loop_attach(image, path, sizeof(path), err);

	if (device < 0)
		return device;
	if (mount(path, dir, "erofs", EROFS_FLAGS, NULL) < 0)
		return err_errno(err, -errno, "mount %s (%s) on %s", path, image, dir);
	return 0;
}

static int mount_file(const char *image, const char *dir, struct err *err)
{
	if (mount(image, dir, "erofs", EROFS_FLAGS, NULL) < 0)
		return err_errno(err, -errno, "mount %s on %s", image, dir);
	return 0;
}

int mount_erofs(const char *image, const char *dir, bool file_backed_ok, struct err *err)
{
	struct err first = ERR_INIT;
	int r = -ENOTBLK;

	if (file_backed_ok)
		r = mount_file(image, dir, &first);
	if (r == 0)
		return 0;
	r = mount_loop(image, dir, err);
	return r < 0 && first.code ? err_wrap(err, r, "%s", first.text) : r;
}

int mount_detach(const char *dir, struct err *err)
{
	if (umount2(dir, MNT_DETACH | UMOUNT_NOFOLLOW) == 0 || errno == EINVAL || errno == ENOENT)
		return 0;
	return err_errno(err, -errno, "unmount %s", dir);
}

int mount_is_mounted(const char *dir)
{
	struct statx st;

	if (statx(AT_FDCWD, dir, AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT, 0, &st) < 0)
		return -errno;
	return (st.stx_attributes & STATX_ATTR_MOUNT_ROOT) != 0;
}

/* --- probes ----------------------------------------------------------------------------------- */

static void note(struct mount_features *f, const char *what)
{
	if (!f->why[0])
		snprintf(f->why, sizeof(f->why), "%s: %s", what, strerror(errno));
}

/* An overlay over lower (relative to the probe directory), mounted and unmounted. */
static bool try_overlay(const char *lower, const char *extra)
{
	char options[256];
	bool ok;

	snprintf(options, sizeof(options), "lowerdir=%s,upperdir=upper,workdir=work%s", lower,
		 extra);
	ok = mount("overlay", "merged", "overlay", 0, options) == 0;
	if (ok)
		umount2("merged", MNT_DETACH);
	return ok;
}

static bool write_file(const char *path, const char *text)
{
	auto_close int fd = open(path, O_WRONLY | O_CLOEXEC);

	return fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text);
}

/* A user namespace that maps 0 to 100000; -1. */
static int user_namespace(void)
{
	char path[64];
	int fd = -1, fds[2];
	pid_t pid;

	if (pipe2(fds, O_CLOEXEC) < 0)
		return -1;
	pid = (pid_t)syscall(SYS_clone, CLONE_NEWUSER | SIGCHLD, 0, 0, 0, 0);
	if (pid == 0) {
		char c;

		close(fds[1]);
		_exit(read(fds[0], &c, 1) == 0 ? 0 : 1);
	}
	close(fds[0]);
	if (pid > 0) {
		snprintf(path, sizeof(path), "/proc/%d/uid_map", pid);
		bool mapped = write_file(path, "0 100000 65536");

		snprintf(path, sizeof(path), "/proc/%d/gid_map", pid);
		if (mapped && write_file(path, "0 100000 65536")) {
			snprintf(path, sizeof(path), "/proc/%d/ns/user", pid);
			fd = open(path, O_RDONLY | O_CLOEXEC);
		}
	}
	close(fds[1]);
	if (pid > 0)
		waitpid(pid, NULL, 0);
	return fd;
}

static bool try_idmap(void)
{
	auto_close int ns = user_namespace();
	auto_close int tree = -1;
	struct mount_attr attr = {.attr_set = MOUNT_ATTR_IDMAP};
	bool ok;

	if (ns < 0)
		return false;
	tree = (int)syscall(SYS_open_tree, AT_FDCWD, "lower1", OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC);
	attr.userns_fd = (__u64)ns;
	if (tree < 0 ||
	    syscall(SYS_mount_setattr, tree, "", AT_EMPTY_PATH, &attr, sizeof(attr)) < 0 ||
	    syscall(SYS_move_mount, tree, "", AT_FDCWD, "mapped", MOVE_MOUNT_F_EMPTY_PATH) < 0)
		return false;
	ok = try_overlay("mapped:lower2", "");
	umount2("mapped", MNT_DETACH);
	return ok;
}

static bool in_user_namespace(void)
{
	char text[64] = "";
	unsigned inside, outside, length;
	auto_close int fd = open("/proc/self/uid_map", O_RDONLY | O_CLOEXEC);

	if (fd < 0 || read(fd, text, sizeof(text) - 1) <= 0)
		return false;
	return sscanf(text, "%u %u %u", &inside, &outside, &length) == 3 &&
	       !(inside == 0 && outside == 0 && length == 4294967295u);
}

#define PROBE_TEXT "found through the redirect"

/* An image with one file, and its content below data2. */
static int make_image(struct err *err)
{
	static const uint8_t uuid[16] = "firstlight probe";
	struct merge_inode file = {.mode = S_IFREG | 0644, .nlink = 1};
	struct merge_name name = {STR("file"), &file};
	struct merge_inode root = {
		.mode = S_IFDIR | 0755, .nlink = 2, .names = &name, .names_n = 1};
	auto_close int fd = open("image", O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	auto_close int data = -1;
	char path[80], hex[DIGEST_HEX_SIZE];
	struct erofs_stat st;

	file.size = strlen(PROBE_TEXT);
	sha256(PROBE_TEXT, file.size, &file.key);
	digest_hex(&file.key, hex);
	snprintf(path, sizeof(path), "data2/%.2s", hex);
	if (fd < 0 || mkdir(path, 0755) < 0)
		return err_errno(err, -errno, "make an image and data");
	snprintf(path, sizeof(path), "data2/%.2s/%s", hex, hex);
	data = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0644);
	if (data < 0 || write(data, PROBE_TEXT, file.size) != (ssize_t)file.size)
		return err_errno(err, -errno, "write data");
	return erofs_write_root(&root, uuid, fd, &st, err);
}

/* Through the image that is mounted on meta. */
static int try_data_only(struct err *err)
{
	char text[sizeof(PROBE_TEXT)] = "";
	auto_close int fd = -1;
	ssize_t n;

	if (mount("overlay", "merged", "overlay", 0,
		  "lowerdir=meta::data1::data2,upperdir=upper,workdir=work,metacopy=on,"
		  "redirect_dir=on,index=off") < 0)
		return err_errno(err, -errno, "overlay mount with data-only layers");
	fd = open("merged/file", O_RDONLY | O_CLOEXEC);
	n = fd < 0 ? -1 : read(fd, text, sizeof(text));
	if (n < 0)
		err_errno(err, -errno, "read through data-only layers");
	umount2("merged", MNT_DETACH);
	if (n < 0)
		return -EIO;
	return strcmp(text, PROBE_TEXT) == 0 ? 0
					     : err_set(err, -EIO, "data-only layers: wrong data");
}

static bool noted(char *why, size_t size, struct err *err, int r)
{
	snprintf(why, size, "%s", r < 0 ? err_text(err, r) : "");
	*err = ERR_INIT;
	return r == 0;
}

static void probe_images(struct mount_features *f)
{
	struct err err = ERR_INIT;
	int r = make_image(&err), file = r, loop = r, data = r;

	if (r == 0) {
		file = mount_file("image", "meta", &err);
		if (file == 0)
			umount2("meta", MNT_DETACH);
	}
	f->erofs_file = noted(f->why_erofs_file, sizeof(f->why_erofs_file), &err, file);
	if (r == 0) {
		loop = mount_loop("image", "meta", &err);
		if (loop == 0)
			umount2("meta", MNT_DETACH);
	}
	f->erofs_loop = noted(f->why_erofs_loop, sizeof(f->why_erofs_loop), &err, loop);
	if (r == 0) {
		data = mount_erofs("image", "meta", f->erofs_file, &err);
		if (data == 0) {
			data = try_data_only(&err);
			umount2("meta", MNT_DETACH);
		}
	}
	f->data_only = noted(f->why_data_only, sizeof(f->why_data_only), &err, data);
}

static void probe_child(int root_fd, struct mount_features *f)
{
	static const char *const dirs[] = {"lower1", "lower2", "upper", "work", "merged",
					   "mapped", "meta",   "data1", "data2"};

	alarm(PROBE_SECONDS);
	if (fchdir(root_fd) < 0 || mkdir(PROBE_DIR, 0700) < 0 || chdir(PROBE_DIR) < 0) {
		note(f, "probe directory");
		return;
	}
	for (size_t i = 0; i < array_size(dirs); i++)
		mkdir(dirs[i], 0755);
	if (unshare(CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0) {
		note(f, "a private mount namespace (CAP_SYS_ADMIN?)");
		return;
	}
	f->overlay = try_overlay("lower1:lower2", "");
	if (!f->overlay)
		note(f, "overlay mount");
	f->userxattr = in_user_namespace() && try_overlay("lower1:lower2", ",userxattr");
	f->overlay |= f->userxattr;
	f->index_off = try_overlay("lower1:lower2", ",index=off");
	f->idmap = try_idmap();
	if (!f->idmap)
		note(f, "idmapped layers");
	probe_images(f);
	f->volatile_upper = try_overlay("lower1:lower2", ",volatile"); /* last: it leaves a mark */
}

int mount_probe(const char *root, struct mount_features *ret, struct err *err)
{
	struct mount_features *shared;
	auto_close int fd = open(root, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	int status, r;
	pid_t pid;

	if (fd < 0)
		return err_errno(err, -errno, "open %s", root);
	r = tree_remove(fd, PROBE_DIR, err);
	if (r < 0)
		return err_wrap(err, r, "remove %s/" PROBE_DIR, root);
	shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1,
		      0);
	if (shared == MAP_FAILED)
		return err_errno(err, -errno, "mmap");
	pid = fork();
	if (pid == 0) {
		probe_child(fd, shared);
		_exit(0);
	}
	if (pid < 0)
		r = err_errno(err, -errno, "fork");
	else
		waitpid(pid, &status, 0);
	*ret = *shared;
	munmap(shared, sizeof(*shared));
	if (r == 0)
		r = tree_remove(fd, PROBE_DIR, err);
	return r;
}
