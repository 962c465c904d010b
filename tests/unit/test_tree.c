// SPDX-License-Identifier: Apache-2.0
/* Walks over trees: what they count, and that everything goes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>

#include "base/limits.h"
#include "fs/tree.h"

#define DEEP 10000

static char root[64];
static int dir; /* root's descriptor */

static int setup(void **state)
{
	(void)state;
	snprintf(root, sizeof(root), "/var/tmp/firstlight-tree-XXXXXX");
	if (!mkdtemp(root))
		return -1;
	dir = open(root, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	return dir < 0 ? -1 : mkdirat(dir, "t", 0755);
}

static int teardown(void **state)
{
	struct err err = ERR_INIT;

	(void)state;
	close(dir);
	if (tree_remove(AT_FDCWD, root, &err) < 0) {
		print_error("%s\n", err.text);
		return -1;
	}
	return 0;
}

/* Allocated at once: what is written may get its blocks later. */
static void make_file(const char *path, off_t bytes)
{
	auto_close int fd = openat(dir, path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);

	assert_true(fd >= 0);
	if (bytes)
		assert_int_equal(posix_fallocate(fd, 0, bytes), 0);
}

static int make_longer(const char *path, off_t size)
{
	auto_close int fd = openat(dir, path, O_WRONLY | O_CLOEXEC);

	return ftruncate(fd, size);
}

static int64_t blocks(const char *path)
{
	struct stat st;

	assert_int_equal(fstatat(dir, path, &st, AT_SYMLINK_NOFOLLOW), 0);
	return st.st_blocks * 512;
}

static struct tree_usage usage_of(const char *path)
{
	struct tree_usage u = {0};
	struct err err = ERR_INIT;

	if (tree_usage(dir, path, NULL, &u, &err) < 0)
		fail_msg("%s", err.text);
	return u;
}

static void check_usage(int64_t size, int64_t inodes)
{
	struct tree_usage u = usage_of("t");

	assert_int_equal(u.size, size);
	assert_int_equal(u.inodes, inodes);
}

static bool there(const char *path)
{
	struct stat st;

	return fstatat(dir, path, &st, AT_SYMLINK_NOFOLLOW) == 0;
}

static void remove_t(void)
{
	struct err err = ERR_INIT;

	if (tree_remove(dir, "t", &err) < 0)
		fail_msg("%s", err.text);
	assert_false(there("t"));
}

static void test_empty(void **state)
{
	struct tree_usage u = {-1, -1};
	struct err err = ERR_INIT;

	(void)state;
	check_usage(blocks("t"), 1);
	assert_int_equal(tree_usage(dir, "none", NULL, &u, &err), -ENOENT);
	assert_int_equal(u.inodes, -1);
	assert_int_equal(tree_remove(dir, "none", NULL), 0);
	make_file("t/file", 1);
	assert_int_equal(tree_usage(dir, "t/file", NULL, &u, &err), -ENOENT); /* no directory */
	assert_int_equal(tree_remove(dir, "t/file", NULL), 0);
	assert_false(there("t/file"));
	remove_t();
	assert_int_equal(tree_remove(dir, "t", NULL), 0);
}

/* Blocks, not lengths; names of one inode once, also across directories. */
static void test_links_and_holes(void **state)
{
	int64_t size;

	(void)state;
	make_file("t/full", KiB(64));
	make_file("t/hole", 0);
	assert_int_equal(make_longer("t/hole", 1 << 30), 0);
	assert_int_equal(mkdirat(dir, "t/sub", 0755), 0);
	size = blocks("t") + blocks("t/sub") + blocks("t/full") + blocks("t/hole");
	assert_true(blocks("t/hole") < 65536);
	check_usage(size, 4);
	assert_int_equal(linkat(dir, "t/full", dir, "t/again", 0), 0);
	assert_int_equal(linkat(dir, "t/full", dir, "t/sub/again", 0), 0);
	check_usage(size, 4);
	assert_int_equal(linkat(dir, "t/full", dir, "outside", 0),
			 0); /* counts here all the same */
	assert_int_equal(unlinkat(dir, "t/again", 0) + unlinkat(dir, "t/sub/again", 0), 0);
	check_usage(size, 4);
	remove_t();
	assert_true(there("outside"));
}

/* More inodes of two names than the first table holds. */
static void test_many_links(void **state)
{
	char a[64], b[64];
	int64_t size;

	(void)state;
	for (int i = 0; i < 3000; i++) {
		snprintf(a, sizeof(a), "t/a%d", i);
		snprintf(b, sizeof(b), "t/b%d", i);
		assert_int_equal(mknodat(dir, a, S_IFREG | 0644, 0), 0);
		assert_int_equal(linkat(dir, a, dir, b, 0), 0);
	}
	size = blocks("t");
	check_usage(size, 3001);
	remove_t();
}

/* Symbolic links are never followed: neither counted through nor removed through. */
static void test_all_types(void **state)
{
	struct sockaddr_un addr = {.sun_family = AF_UNIX};
	auto_close int s = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	int64_t inodes = 6;

	(void)state;
	assert_int_equal(mkdirat(dir, "kept", 0755), 0);
	make_file("kept/file", KiB(16));
	assert_int_equal(symlinkat("../kept", dir, "t/link"), 0);
	assert_int_equal(symlinkat("nowhere", dir, "t/dangling"), 0);
	assert_int_equal(mkfifoat(dir, "t/fifo", 0644), 0);
	snprintf(addr.sun_path, sizeof(addr.sun_path), "%s/t/socket", root);
	assert_int_equal(bind(s, (struct sockaddr *)&addr, sizeof(addr)), 0);
	make_file("t/secret", 0);
	assert_int_equal(fchmodat(dir, "t/secret", 0, 0), 0);
	if (geteuid() == 0) {
		assert_int_equal(mknodat(dir, "t/whiteout", S_IFCHR, 0), 0);
		inodes++;
	}
	check_usage(blocks("t") + blocks("t/link") + blocks("t/dangling"), inodes);
	remove_t();
	assert_true(there("kept/file"));
	assert_int_equal(symlinkat("kept", dir, "t"), 0);
	assert_int_equal(tree_usage(dir, "t", NULL, &(struct tree_usage){0}, NULL), -ENOENT);
	remove_t();
	assert_true(there("kept/file"));
}

static void test_long_names(void **state)
{
	char name[256 + 2] = "t/";
	int64_t size;

	(void)state;
	memset(name + 2, 'n', 255);
	assert_int_equal(mkdirat(dir, name, 0755), 0);
	size = blocks(name);
	name[2] = '\n';
	assert_int_equal(mkdirat(dir, name, 0755), 0);
	memset(name + 2, 'f', 255);
	make_file(name, 0);
	check_usage(blocks("t") + 2 * size + blocks(name), 4);
	remove_t();
}

/* One path of 510,000 bytes; no descriptor and no stack a level. */
static void test_deep(void **state)
{
	int fd = openat(dir, "t", O_RDONLY | O_DIRECTORY | O_CLOEXEC), next;
	struct tree_usage u;

	(void)state;
	for (int i = 0; i < DEEP; i++) {
		if (mkdirat(fd, "0123456789012345678901234567890123456789012345678", 0755) < 0)
			fail_msg("level %d: %s", i, strerror(errno));
		next = openat(fd, "0123456789012345678901234567890123456789012345678",
			      O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		assert_true(next >= 0);
		close(fd);
		fd = next;
	}
	close(fd);
	u = usage_of("t");
	assert_int_equal(u.inodes, DEEP + 1);
	assert_int_equal(u.size, (DEEP + 1) * blocks("t"));
	remove_t();
}

static void test_wide(void **state)
{
	char path[64];

	(void)state;
	for (int i = 0; i < 1000; i++) {
		snprintf(path, sizeof(path), "t/d%d", i);
		assert_int_equal(mkdirat(dir, path, 0755), 0);
		snprintf(path, sizeof(path), "t/d%d/f", i);
		assert_int_equal(mknodat(dir, path, S_IFREG | 0644, 0), 0);
	}
	assert_int_equal(usage_of("t").inodes, 2001);
	remove_t();
}

static void test_stop(void **state)
{
	struct tree_usage u = {-1, -1};
	bool stop = true;
	struct err err = ERR_INIT;

	(void)state;
	make_file("t/file", 0);
	assert_int_equal(tree_usage(dir, "t", &stop, &u, &err), -ECANCELED);
	assert_int_equal(u.size, -1);
	stop = false;
	assert_int_equal(tree_usage(dir, "t", &stop, &u, &err), 0);
}

static bool set_immutable(const char *path, bool on)
{
	auto_close int fd = openat(dir, path, O_RDONLY | O_CLOEXEC);
	int flags;

	if (fd < 0 || ioctl(fd, FS_IOC_GETFLAGS, &flags) < 0)
		return false;
	flags = on ? flags | FS_IMMUTABLE_FL : flags & ~FS_IMMUTABLE_FL;
	return ioctl(fd, FS_IOC_SETFLAGS, &flags) == 0;
}

/* What cannot be removed is named, and a later try succeeds. */
static void check_immutable(const char *path, const char *named)
{
	struct err err = ERR_INIT;
	int r;

	assert_true(set_immutable(path, true));
	r = tree_remove(dir, "t", &err);
	assert_true(set_immutable(path, false));
	assert_int_equal(r, -EPERM);
	assert_non_null(strstr(err.text, named));
	assert_true(there(path));
}

static void test_immutable(void **state)
{
	(void)state;
	make_file("t/file", 0);
	if (!set_immutable("t/file", true)) {
		print_message("needs root and a file system with immutable files\n");
		skip();
	}
	check_immutable("t/file", "file");
	assert_int_equal(mkdirat(dir, "t/full", 0755), 0);
	make_file("t/full/held", 0);
	check_immutable("t/full", "held");
	assert_int_equal(unlinkat(dir, "t/full/held", 0), 0);
	check_immutable("t/full", "full");
	remove_t();
}

/* In a mount namespace of its own: 0 as it should be, 1 not, 2 cannot be tried. */
static int remove_below_mount(void)
{
	struct err err = ERR_INIT;

	if (unshare(CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 ||
	    chdir(root) < 0 || mount("kept", "t/sub/m", NULL, MS_BIND, NULL) < 0)
		return 2;
	dir = open(".", O_RDONLY | O_DIRECTORY | O_CLOEXEC); /* as this namespace sees it */
	if (tree_remove(dir, "t", &err) != -EXDEV || !strstr(err.text, "open m"))
		return 1;
	return there("kept/file") && there("t/sub/m/file") ? 0 : 1;
}

/* Also a mount of the same file system, which st_dev does not tell. */
static void test_remove_stops_at_mounts(void **state)
{
	int status;
	pid_t pid;

	(void)state;
	assert_int_equal(mkdirat(dir, "kept", 0755) + mkdirat(dir, "t/sub", 0755), 0);
	assert_int_equal(mkdirat(dir, "t/sub/m", 0755), 0);
	make_file("kept/file", 1);
	pid = fork();
	if (pid == 0)
		_exit(remove_below_mount());
	assert_int_equal(waitpid(pid, &status, 0), pid);
	if (WEXITSTATUS(status) == 2) {
		print_message("needs root: it mounts\n");
		skip();
	}
	assert_int_equal(status, 0);
	remove_t();
	assert_true(there("kept/file"));
}

/* --- under our feet --------------------------------------------------------------------------- */

struct mover {
	pthread_t thread;
	bool stop;
};

/* Moves a directory with contents up and down between two places. */
static void *move(void *arg)
{
	struct mover *m = arg;

	while (!__atomic_load_n(&m->stop, __ATOMIC_RELAXED)) {
		renameat(dir, "t/a/x", dir, "t/b/c/x");
		renameat(dir, "t/b/c/x", dir, "t/a/x");
		mkdirat(dir, "t/a/new", 0755);
		unlinkat(dir, "t/a/new", AT_REMOVEDIR);
	}
	return NULL;
}

static void make_moving(void)
{
	char path[64];
	static const char *const dirs[] = {"t/a", "t/b", "t/b/c", "t/a/x"};

	for (size_t i = 0; i < array_size(dirs); i++)
		assert_int_equal(mkdirat(dir, dirs[i], 0755), 0);
	for (int i = 0; i < 50; i++) {
		snprintf(path, sizeof(path), "t/a/x/%d", i);
		assert_int_equal(mkdirat(dir, path, 0755), 0);
	}
}

/* The answer is a count or -EAGAIN, and -EAGAIN comes: the way up is checked. */
static void test_usage_while_moved(void **state)
{
	struct mover m = {0};
	struct tree_usage u;
	int r, again = 0;

	(void)state;
	make_moving();
	assert_int_equal(pthread_create(&m.thread, NULL, move, &m), 0);
	for (int i = 0; i < 200000 && !again; i++) {
		r = tree_usage(dir, "t", NULL, &u, NULL);
		assert_true(r == 0 || r == -EAGAIN);
		again += r == -EAGAIN;
		if (r == 0)
			assert_in_range(u.inodes, 4, 5 + 3 * 51);
	}
	__atomic_store_n(&m.stop, true, __ATOMIC_RELAXED);
	pthread_join(m.thread, NULL);
	assert_int_equal(again, 1);
}

/* Moving a directory out of the tree cannot lead the removal out of it. */
static void *move_out(void *arg)
{
	struct mover *m = arg;

	while (!__atomic_load_n(&m->stop, __ATOMIC_RELAXED)) {
		renameat(dir, "t/a/x", dir, "out/x");
		renameat(dir, "out/x", dir, "t/a/x");
	}
	return NULL;
}

static void test_remove_while_moved_out(void **state)
{
	struct mover m = {0};
	int r;

	(void)state;
	assert_int_equal(mkdirat(dir, "out", 0755), 0);
	make_file("out/kept", 0);
	make_file("kept", 0);
	make_moving();
	assert_int_equal(pthread_create(&m.thread, NULL, move_out, &m), 0);
	for (int i = 0; i < 300; i++) {
		r = tree_remove(dir, "t", NULL);
		assert_true(r == 0 || r == -EAGAIN || r == -ENOTEMPTY);
		if (mkdirat(dir, "t", 0755) == 0 || there("t")) {
			mkdirat(dir, "t/a", 0755);
			mkdirat(dir, "t/a/x", 0755);
			mkdirat(dir, "t/a/x/y", 0755);
		}
	}
	__atomic_store_n(&m.stop, true, __ATOMIC_RELAXED);
	pthread_join(m.thread, NULL);
	assert_true(there("out/kept"));
	assert_true(there("kept"));
}

int main(void)
{
#define TEST(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(test_empty),
		TEST(test_links_and_holes),
		TEST(test_many_links),
		TEST(test_all_types),
		TEST(test_long_names),
		TEST(test_deep),
		TEST(test_wide),
		TEST(test_stop),
		TEST(test_immutable),
		TEST(test_remove_stops_at_mounts),
		TEST(test_usage_while_moved),
		TEST(test_remove_while_moved_out),
	};

	return cmocka_run_group_tests_name("tree", tests, NULL, NULL);
}
