// SPDX-License-Identifier: Apache-2.0
/* Whose a namespace is, and what runs in it. */
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "start/impl.h"

#define OURS  "36 35 0:32 / / rw,noatime master:1 - overlay overlay rw,lowerdir=/a:/b,upperdir="
#define OTHER SPACE_OTHERS

static uint64_t of(const char *text)
{
	return space_snapshot(str_of(text), "/var/lib/fl");
}

static void test_ours(void **state)
{
	(void)state;
	assert_int_equal(of(OURS "/var/lib/fl/snapshots/12/fs,workdir=/w\n"), 12);
	assert_int_equal(of(OURS "/var/lib/fl/snapshots/18446744073709551614/fs"),
			 18446744073709551614ull);
	/* Optional fields: none, several. */
	assert_int_equal(of("1 2 0:3 / / rw - overlay x upperdir=/var/lib/fl/snapshots/7/fs\n"), 7);
	assert_int_equal(of("1 2 0:3 / / rw shared:1 master:2 propagate_from:3 - overlay x "
			    "rw,upperdir=/var/lib/fl/snapshots/7/fs\n"),
			 7);
}

static void test_not_yet(void **state)
{
	(void)state;
	assert_int_equal(of(""), 0);
	assert_int_equal(of("\n\n"), 0);
	assert_int_equal(of("21 1 254:0 / / rw - ext4 /dev/vda rw\n"), 0);
	/* The host's table has the container's root too, at another place. */
	assert_int_equal(of("21 1 254:0 / / rw - ext4 /dev/vda rw\n"
			    "22 21 0:3 / /run/rootfs rw - overlay x "
			    "rw,upperdir=/var/lib/fl/snapshots/7/fs\n"),
			 0);
}

static void test_others(void **state)
{
	static const char *const upper[] = {
		"/var/lib/docker/overlay2/abc/diff",
		"/var/lib/fl/snapshots/12/work",
		"/var/lib/fl/snapshots/fs",
		"/var/lib/fl/snapshots//fs",
		"/var/lib/fl/snapshots/12x/fs",
		"/var/lib/fl/snapshots/-1/fs",
		"/var/lib/flx/snapshots/12/fs",
		"/var/lib/fl/snapshots/1/2/fs",
		"/var/lib/fl",
		"",
	};
	char line[256];

	(void)state;
	for (size_t i = 0; i < array_size(upper); i++) {
		snprintf(line, sizeof(line), OURS "%s\n", upper[i]);
		assert_true(of(line) == OTHER);
	}
	/* A read-only overlay has no upper directory. */
	assert_true(of("1 2 0:3 / / ro - overlay x ro,lowerdir=/a:/b\n") == OTHER);
}

/* The mount on top is what the container sees. */
static void test_last(void **state)
{
	(void)state;
	assert_int_equal(of(OURS "/else\n" OURS "/var/lib/fl/snapshots/3/fs\n"), 3);
	assert_true(of(OURS "/var/lib/fl/snapshots/3/fs\n" OURS "/else\n") == OTHER);
}

static void test_escaped(void **state)
{
	(void)state;
	assert_int_equal(space_snapshot(STR("1 2 0:3 / / rw - overlay x "
					    "rw,upperdir=/a\\040b\\134c/snapshots/5/fs\n"),
					"/a b\\c"),
			 5);
}

/* --- what runs ---------------------------------------------------------------------------------
 */

static char tree[] = "/tmp/test_space.XXXXXX";
static int root_fd;

static int setup(void **state)
{
	char path[128];
	FILE *f;

	(void)state;
	if (!mkdtemp(tree))
		return -1;
	snprintf(path, sizeof(path), "%s/app", tree);
	if (mkdir(path, 0755) < 0)
		return -1;
	snprintf(path, sizeof(path), "%s/app/main.py", tree);
	f = fopen(path, "w");
	if (!f || fclose(f) != 0)
		return -1;
	root_fd = open(tree, O_RDONLY | O_DIRECTORY);
	return root_fd < 0 ? -1 : 0;
}

static int teardown(void **state)
{
	char path[128];

	(void)state;
	close(root_fd);
	snprintf(path, sizeof(path), "%s/app/main.py", tree);
	unlink(path);
	snprintf(path, sizeof(path), "%s/app", tree);
	rmdir(path);
	return rmdir(tree);
}

static struct str program(const char *path)
{
	return (struct str){path, strlen(path) + 1};
}

/* The entry of a process with these arguments. */
static void entry_of(const char *cwd, const char *const *argv, char ret[ENTRY_SIZE])
{
	int ready[2], status;
	char byte;
	pid_t pid;

	assert_int_equal(pipe2(ready, O_CLOEXEC), 0);
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		if (chdir(cwd) == 0)
			execv("/proc/self/exe", (char *const *)(uintptr_t)argv);
		_exit(1);
	}
	close(ready[1]);
	assert_int_equal(read(ready[0], &byte, 1), 0); /* closed by execv() */
	close(ready[0]);
	assert_int_equal(space_entry(root_fd, pid, program("/usr/bin/python3"), ret), 0);
	kill(pid, SIGKILL);
	waitpid(pid, &status, 0);
}

static void test_entry(void **state)
{
	static const struct {
		const char *cwd, *argv[12], *entry;
	} of[] = {
		{"/", {"python3", "x"}, "/usr/bin/python3"},
		{"/", {"python3", "/app/main.py"}, "/app/main.py"},
		{"/", {"python3", "-u", "-X", "dev", "/app/main.py", "/app"}, "/app/main.py"},
		{"/", {"python3", "", "app/main.py"}, "/app/main.py"},
		{"/", {"python3", "./app/main.py"}, "/app/main.py"},
		{"/", {"sh", "-c", "exec /app/main.py"}, "/usr/bin/python3"},
		{"/", {"python3", "/app", "/app/../app/main.py"}, "/usr/bin/python3"},
		{"/usr", {"python3", "app/main.py"}, "/usr/bin/python3"},
		{"/",
		 {"python3", "1", "2", "3", "4", "5", "6", "7", "/app/main.py"},
		 "/app/main.py"},
		{"/",
		 {"a", "1", "2", "3", "4", "5", "6", "7", "8", "/app/main.py"},
		 "/usr/bin/python3"},
	};
	char ret[ENTRY_SIZE];

	(void)state;
	for (size_t i = 0; i < array_size(of); i++) {
		entry_of(of[i].cwd, of[i].argv, ret);
		assert_string_equal(ret, of[i].entry);
	}
}

/* A process that has ended: what was executed is known all the same. */
static void test_entry_gone(void **state)
{
	char ret[ENTRY_SIZE];

	(void)state;
	assert_int_equal(space_entry(root_fd, 0x7ffffff0, program("/usr/bin/python3"), ret), 0);
	assert_string_equal(ret, "/usr/bin/python3");
	assert_int_equal(space_entry(root_fd, 0x7ffffff0, program("relative"), ret), 0);
	assert_string_equal(ret, "");
	assert_int_equal(space_entry(root_fd, 0x7ffffff0, program("/a/../b"), ret), 0);
	assert_string_equal(ret, "");
	assert_int_equal(space_entry(root_fd, 0x7ffffff0, (struct str){0}, ret), -EAGAIN);
	/* This one runs, and is no program of the image: as a runtime before it executes one. */
	assert_int_equal(space_entry(root_fd, getpid(), (struct str){0}, ret), -EAGAIN);
}

/* The arguments at the time of the execution count, not what the process has executed since. */
static void test_entry_args(void **state)
{
	static const char at_exec[] = "/bin/sh\0sh\0-c\0exec python3 /app/main.py",
			  script[] = "/usr/bin/python3\0python3\0/app/main.py";
	char ret[ENTRY_SIZE];

	(void)state;
	assert_int_equal(
		space_entry(root_fd, getpid(), (struct str){at_exec, sizeof(at_exec)}, ret), 0);
	assert_string_equal(ret, "/bin/sh");
	assert_int_equal(space_entry(root_fd, getpid(), (struct str){script, sizeof(script)}, ret),
			 0);
	assert_string_equal(ret, "/app/main.py");
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_ours),       cmocka_unit_test(test_not_yet),
		cmocka_unit_test(test_others),     cmocka_unit_test(test_last),
		cmocka_unit_test(test_escaped),    cmocka_unit_test(test_entry),
		cmocka_unit_test(test_entry_gone), cmocka_unit_test(test_entry_args),
	};

	(void)argv;
	if (argc > 1) /* one whose arguments are looked at */
		return pause();
	return cmocka_run_group_tests(tests, setup, teardown);
}
