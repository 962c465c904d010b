// SPDX-License-Identifier: Apache-2.0
/* Probes of the kernel's mounting abilities: the only mount calls of the daemon. */
#include "fs/mount.h"

#include <fcntl.h>
#include <linux/mount.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "fs/tree.h"

#include "base/banned.h"

#define PROBE_DIR     "probe"
#define PROBE_SECONDS 20

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

static void probe_child(int root_fd, struct mount_features *f)
{
	static const char *const dirs[] = {"lower1", "lower2", "upper", "work", "merged", "mapped"};

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
