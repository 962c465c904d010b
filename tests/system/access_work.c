// SPDX-License-Identifier: Apache-2.0
/*
 * access_work STEP...: touches files in known ways, one step after the other; the first that fails
 * ends it.
 *
 *   read FILE OFF LEN      pread(2) in one call
 *   direct FILE OFF LEN    with O_DIRECT
 *   sendfile FILE OFF LEN  to /dev/null, through a pipe
 *   splice FILE OFF LEN    into a pipe
 *   map FILE OFF           one byte of a memory map
 *   cold FILE OFF          the same, out of the cache first
 *   write FILE OFF         the same, of a private map
 *   advise FILE OFF LEN    POSIX_FADV_WILLNEED
 *   ahead FILE OFF LEN     readahead(2)
 *   words FILE N           4 KiB of each 8 MiB
 *   random FILE N          N times 4 KiB at random
 *   open FILE              later steps use it for "-"
 *   run FILE               fork and execve
 *   await FILE             until it exists
 *   programs               prints the ids of loaded raw tracepoint programs, in one line
 */
#include <fcntl.h>
#include <linux/bpf.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

static int kept = -1; /* what "open" has opened */

static void die(const char *what)
{
	perror(what);
	exit(1);
}

static int file_open(const char *path, int flags)
{
	int fd = strcmp(path, "-") == 0 ? dup(kept) : open(path, flags | O_CLOEXEC);

	if (fd < 0)
		die(path);
	return fd;
}

static uint64_t number(const char *s)
{
	return strtoull(s, NULL, 0);
}

static void do_read(char **a)
{
	int fd = file_open(a[0], O_RDONLY);
	char *buf = malloc(number(a[2]) + 1);

	if (!buf || pread(fd, buf, number(a[2]), (off_t)number(a[1])) < 0)
		die(a[0]);
	free(buf);
	close(fd);
}

static void do_direct(char **a)
{
	int fd = file_open(a[0], O_RDONLY | O_DIRECT);
	void *buf;

	if (posix_memalign(&buf, 4096, number(a[2])) ||
	    pread(fd, buf, number(a[2]), (off_t)number(a[1])) < 0)
		die(a[0]);
	free(buf);
	close(fd);
}

static void drain(int fd, size_t n)
{
	char buf[4096];
	ssize_t r;

	for (; n; n -= (size_t)r) {
		r = read(fd, buf, n < sizeof(buf) ? n : sizeof(buf));
		if (r <= 0)
			die("pipe");
	}
}

static void do_sendfile(char **a)
{
	int fd = file_open(a[0], O_RDONLY), out[2];
	off_t off = (off_t)number(a[1]);
	ssize_t n;

	if (pipe(out) < 0)
		die("pipe");
	n = sendfile(out[1], fd, &off, number(a[2]));
	if (n < 0)
		die(a[0]);
	drain(out[0], (size_t)n);
	close(out[0]);
	close(out[1]);
	close(fd);
}

static void do_splice(char **a)
{
	int fd = file_open(a[0], O_RDONLY), out[2];
	loff_t off = (loff_t)number(a[1]);
	ssize_t n;

	if (pipe(out) < 0)
		die("pipe");
	n = splice(fd, &off, out[1], NULL, number(a[2]), 0);
	if (n < 0)
		die(a[0]);
	drain(out[0], (size_t)n);
	close(out[0]);
	close(out[1]);
	close(fd);
}

static void touch(const char *path, uint64_t off, int write)
{
	int fd = file_open(path, O_RDONLY);
	struct stat st;
	volatile char *p;

	if (fstat(fd, &st) < 0)
		die(path);
	p = mmap(NULL, (size_t)st.st_size, PROT_READ | (write ? PROT_WRITE : 0), MAP_PRIVATE, fd,
		 0);
	if (p == MAP_FAILED)
		die(path);
	if (write)
		p[off] = 1;
	else
		(void)p[off];
	munmap((void *)p, (size_t)st.st_size);
	close(fd);
}

static void do_map(char **a)
{
	touch(a[0], number(a[1]), 0);
}

static void do_write(char **a)
{
	touch(a[0], number(a[1]), 1);
}

static void do_cold(char **a)
{
	int fd = file_open(a[0], O_RDONLY);

	if (fsync(fd) < 0 || posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED))
		die(a[0]);
	close(fd);
	touch(a[0], number(a[1]), 0);
}

static void do_advise(char **a)
{
	int fd = file_open(a[0], O_RDONLY);

	if (posix_fadvise(fd, (off_t)number(a[1]), (off_t)number(a[2]), POSIX_FADV_WILLNEED))
		die(a[0]);
	close(fd);
}

static void do_ahead(char **a)
{
	int fd = file_open(a[0], O_RDONLY);

	if (readahead(fd, (off_t)number(a[1]), number(a[2])) < 0)
		die(a[0]);
	close(fd);
}

static void do_words(char **a)
{
	int fd = file_open(a[0], O_RDONLY);
	char buf[4096];

	for (uint64_t i = 0; i < number(a[1]); i++) {
		if (pread(fd, buf, sizeof(buf), (off_t)(i << 23)) != sizeof(buf))
			die(a[0]);
	}
	close(fd);
}

static void do_random(char **a)
{
	int fd = file_open(a[0], O_RDONLY);
	uint32_t seed = 1;
	char buf[4096];
	struct stat st;

	if (fstat(fd, &st) < 0)
		die(a[0]);
	for (uint64_t i = 0; i < number(a[1]); i++) {
		seed = seed * 1103515245 + 12345;
		if (pread(fd, buf, sizeof(buf), (off_t)(seed >> 4) % st.st_size) < 0)
			die(a[0]);
	}
	close(fd);
}

static void do_open(char **a)
{
	if (kept >= 0)
		close(kept);
	kept = open(a[0], O_RDONLY | O_CLOEXEC);
	if (kept < 0)
		die(a[0]);
}

static void do_run(char **a)
{
	int status;
	pid_t pid = fork();

	if (pid == 0) {
		execl(a[0], a[0], "one", "two", (char *)NULL);
		_exit(127);
	}
	if (pid < 0 || waitpid(pid, &status, 0) < 0 || !WIFEXITED(status) ||
	    WEXITSTATUS(status) == 127)
		die(a[0]);
}

static void do_await(char **a)
{
	while (access(a[0], F_OK) < 0)
		poll(NULL, 0, 10);
}

static long bpf(int cmd, union bpf_attr *attr)
{
	return syscall(SYS_bpf, cmd, attr, sizeof(*attr));
}

static void do_programs(char **a)
{
	struct bpf_prog_info info;
	union bpf_attr attr = {.start_id = 0};
	unsigned id = 0;
	int fd;

	(void)a;
	for (; bpf(BPF_PROG_GET_NEXT_ID, &attr) == 0; attr = (union bpf_attr){.start_id = id}) {
		id = attr.next_id;
		attr = (union bpf_attr){.prog_id = id};
		fd = (int)bpf(BPF_PROG_GET_FD_BY_ID, &attr);
		memset(&info, 0, sizeof(info));
		attr = (union bpf_attr){.info = {.bpf_fd = (uint32_t)fd,
						 .info_len = sizeof(info),
						 .info = (uintptr_t)&info}};
		if (fd >= 0 && bpf(BPF_OBJ_GET_INFO_BY_FD, &attr) == 0 &&
		    info.type == BPF_PROG_TYPE_RAW_TRACEPOINT)
			printf("%u ", id);
		close(fd);
	}
	printf("\n");
}

static const struct {
	const char *name;
	int args;
	void (*fn)(char **a);
} steps[] = {
	{"read", 3, do_read},     {"direct", 3, do_direct}, {"sendfile", 3, do_sendfile},
	{"splice", 3, do_splice}, {"map", 2, do_map},       {"write", 2, do_write},
	{"cold", 2, do_cold},     {"advise", 3, do_advise}, {"ahead", 3, do_ahead},
	{"words", 2, do_words},   {"random", 2, do_random}, {"open", 1, do_open},
	{"run", 1, do_run},       {"await", 1, do_await},   {"programs", 0, do_programs},
};

int main(int argc, char **argv)
{
	size_t n = sizeof(steps) / sizeof(steps[0]), k;

	for (int i = 1; i < argc; i += steps[k].args + 1) {
		for (k = 0; k < n && strcmp(steps[k].name, argv[i]) != 0; k++)
			;
		if (k == n || i + steps[k].args >= argc) {
			fprintf(stderr, "access_work: step %s?\n", argv[i]);
			return 2;
		}
		steps[k].fn(argv + i + 1);
	}
	return 0;
}
