// SPDX-License-Identifier: Apache-2.0
/* What the kernel can mount: right answers, and nothing left behind. Needs root: exits with 77
 * otherwise. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <fcntl.h>
#include <grp.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/utsname.h>
#include <sys/wait.h>

#include "fs/erofs.h"
#include "fs/mount.h"
#include "fs/tree.h"

static char root[64];

static int setup(void **state)
{
	(void)state;
	snprintf(root, sizeof(root), "/var/tmp/firstlight-mount-XXXXXX");
	return mkdtemp(root) ? 0 : -1;
}

static int teardown(void **state)
{
	(void)state;
	return tree_remove(AT_FDCWD, root, NULL);
}

static struct mount_features probe(void)
{
	struct mount_features f = {0};
	struct err err = ERR_INIT;

	if (mount_probe(root, &f, &err) < 0)
		fail_msg("%s", err.text);
	return f;
}

static bool empty(const char *path)
{
	return rmdir(path) == 0 && mkdir(path, 0700) == 0;
}

static size_t mounts_here(void)
{
	auto_close int fd = open("/proc/self/mountinfo", O_RDONLY | O_CLOEXEC);
	char text[4096];
	size_t lines = 0;
	ssize_t n;

	while ((n = read(fd, text, sizeof(text))) > 0) {
		for (ssize_t i = 0; i < n; i++)
			lines += text[i] == '\n';
	}
	return lines;
}

static int linux_version(void)
{
	struct utsname u;
	int major, minor;

	assert_int_equal(uname(&u), 0);
	assert_int_equal(sscanf(u.release, "%d.%d", &major, &minor), 2);
	return major * 100 + minor;
}

/* Runs fn in a child, in a mount namespace of its own; answers its exit status. */
static int in_child(int (*fn)(void))
{
	pid_t pid = fork();
	int status = -1;

	if (pid == 0) {
		if (unshare(CLONE_NEWNS) < 0 ||
		    mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
			_exit(100);
		_exit(fn());
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	return WIFEXITED(status) ? WEXITSTATUS(status) : 200;
}

static void test_here(void **state)
{
	size_t before = mounts_here();
	struct mount_features f = probe();

	(void)state;
	assert_true(f.overlay);
	assert_false(f.userxattr);
	assert_int_equal(f.index_off, access("/sys/module/overlay/parameters/index", F_OK) == 0);
	assert_int_equal(f.volatile_upper, linux_version() >= 510);
	if (linux_version() < 519)
		assert_false(f.idmap);
	assert_int_equal(f.why[0] == 0, f.overlay && f.idmap);
	assert_int_equal(f.why_erofs_file[0] == 0, f.erofs_file);
	assert_int_equal(f.why_erofs_loop[0] == 0, f.erofs_loop);
	assert_int_equal(f.why_data_only[0] == 0, f.data_only);
	if (linux_version() < 612)
		assert_false(f.erofs_file);
	assert_int_equal(f.data_only, linux_version() >= 605 && (f.erofs_file || f.erofs_loop));
	assert_int_equal(mounts_here(), before);
	assert_true(empty(root));
}

/* On tmpfs the kernel does not mount an image from its file; a loop device serves. */
static int image_on_tmpfs(void)
{
	static const uint8_t uuid[16] = {1};
	struct merge_inode top = {.mode = S_IFDIR | 0711, .nlink = 2};
	struct erofs_stat written;
	struct err err = ERR_INIT;
	auto_close int fd = -1;
	struct stat st;

	if (mount("tmpfs", root, "tmpfs", 0, NULL) < 0 || chdir(root) < 0 || mkdir("m", 0700) < 0)
		return 101;
	fd = open("image", O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	if (mount_is_mounted("m") != 0 || mount_is_mounted("none") != -ENOENT)
		return 1;
	if (erofs_write_root(&top, uuid, fd, &written, &err) < 0)
		return 2;
	if (mount_erofs("image", "m", true, &err) < 0)
		return err.code == -ENODEV || strstr(err.text, "loop") ? 77 : 3;
	if (mount_is_mounted("m") != 1 || stat("m", &st) < 0 || st.st_mode != (S_IFDIR | 0711))
		return 4;
	if (mount_detach("m", &err) < 0 || mount_is_mounted("m") != 0)
		return 5;
	/* both again, and what was the reason of a failure */
	if (mount_detach("m", &err) < 0 || mount_detach("none", &err) < 0)
		return 6;
	if (mount_erofs("none", "m", true, &err) != -ENOENT || !strstr(err.text, "none"))
		return 7;
	if (ftruncate(fd, 512) < 0 || mount_erofs("image", "m", true, &err) >= 0 || !err.text[0])
		return 8;
	return 0;
}

static void test_images(void **state)
{
	int r = in_child(image_on_tmpfs);

	(void)state;
	if (r == 77)
		skip();
	assert_int_equal(r, 0);
}

/* A probe that was killed half-way leaves a directory, with volatile's mark perhaps. */
static void test_leftovers(void **state)
{
	char path[128];
	static const char *const dirs[] = {"probe", "probe/work", "probe/work/work",
					   "probe/work/work/incompat",
					   "probe/work/work/incompat/volatile"};

	(void)state;
	for (size_t i = 0; i < array_size(dirs); i++) {
		snprintf(path, sizeof(path), "%s/%s", root, dirs[i]);
		assert_int_equal(mkdir(path, 0700), 0);
	}
	assert_true(probe().volatile_upper == (linux_version() >= 510));
	assert_true(empty(root));
}

static void test_no_root(void **state)
{
	struct mount_features f = {.why = "untouched"};
	struct err err = ERR_INIT;

	(void)state;
	assert_int_equal(mount_probe("/nonexistent/root", &f, &err), -ENOENT);
	assert_non_null(strstr(err.text, "/nonexistent/root"));
	assert_string_equal(f.why, "untouched");
}

static int read_only(void)
{
	struct mount_features f = {.overlay = true};

	if (mount(root, root, NULL, MS_BIND, NULL) < 0 ||
	    mount(NULL, root, NULL, MS_BIND | MS_REMOUNT | MS_RDONLY, NULL) < 0)
		return 101;
	if (mount_probe(root, &f, NULL) < 0)
		return 1;
	return f.overlay || f.volatile_upper || f.idmap || !strstr(f.why, "Read-only") ? 2 : 0;
}

static void test_read_only(void **state)
{
	(void)state;
	assert_int_equal(in_child(read_only), 0);
}

/* An upper directory cannot lie on an overlay without its own extended attributes in the way. */
static int on_overlay(void)
{
	struct mount_features f;
	char options[512];

	if (chdir(root) < 0 ||
	    mkdir("l", 0700) + mkdir("u", 0700) + mkdir("w", 0700) + mkdir("m", 0700) != 0)
		return 101;
	snprintf(options, sizeof(options), "lowerdir=l,upperdir=u,workdir=w");
	if (mount("overlay", "m", "overlay", 0, options) < 0)
		return 102;
	if (mount_probe("m", &f, NULL) < 0)
		return 1;
	return f.overlay || !strstr(f.why, "overlay mount") ? 2 : 0;
}

static void test_on_overlay(void **state)
{
	(void)state;
	assert_int_equal(in_child(on_overlay), 0);
}

static int without_rights(void)
{
	struct mount_features f = {.overlay = true};

	if (chown(root, 65534, 65534) < 0 || setgroups(0, NULL) < 0 || setgid(65534) < 0 ||
	    setuid(65534) < 0)
		return 101;
	if (mount_probe(root, &f, NULL) < 0)
		return 1;
	return f.overlay || f.idmap || !strstr(f.why, "CAP_SYS_ADMIN") ? 2 : 0;
}

static void test_without_rights(void **state)
{
	(void)state;
	assert_int_equal(in_child(without_rights), 0);
	assert_true(empty(root));
}

/* --- in a user namespace ---------------------------------------------------------------------- */

static int write_map(pid_t pid, const char *name)
{
	auto_close int fd = -1;
	char path[64];

	snprintf(path, sizeof(path), "/proc/%d/%s", pid, name);
	fd = open(path, O_WRONLY | O_CLOEXEC);
	return fd >= 0 && write(fd, "0 100000 65536", 14) == 14 ? 0 : -1;
}

/* The maps come when something can be read from fd. */
static int as_mapped_root(int fd)
{
	struct mount_features f;
	char c;

	if (read(fd, &c, 1) != 1 || setgid(0) < 0 || setuid(0) < 0)
		return 101;
	if (mount_probe(root, &f, NULL) < 0)
		return 1;
	return f.overlay && f.userxattr ? 0 : 2;
}

static void test_user_namespace(void **state)
{
	int ready[2], go[2], status;
	char c = 0;
	pid_t pid;

	(void)state;
	if (linux_version() < 511)
		skip();
	assert_int_equal(chown(root, 100000, 100000), 0);
	assert_int_equal(pipe2(ready, O_CLOEXEC) + pipe2(go, O_CLOEXEC), 0);
	pid = fork();
	if (pid == 0) {
		if (unshare(CLONE_NEWUSER) < 0 || write(ready[1], &c, 1) != 1)
			_exit(100);
		_exit(as_mapped_root(go[0]));
	}
	close(ready[1]);
	if (read(ready[0], &c, 1) != 1) {
		waitpid(pid, &status, 0);
		print_message("user namespaces are not allowed here\n");
		skip();
	}
	assert_int_equal(write_map(pid, "uid_map") + write_map(pid, "gid_map"), 0);
	assert_int_equal(write(go[1], &c, 1), 1);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
	close(ready[0]);
	close(go[0]);
	close(go[1]);
	assert_true(empty(root));
}

int main(void)
{
#define TEST(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(test_here),           TEST(test_images),         TEST(test_leftovers),
		TEST(test_no_root),        TEST(test_read_only),      TEST(test_on_overlay),
		TEST(test_without_rights), TEST(test_user_namespace),
	};

	if (geteuid() != 0) {
		puts("needs root: it mounts");
		return 77;
	}
	return cmocka_run_group_tests_name("mount", tests, NULL, NULL);
}
