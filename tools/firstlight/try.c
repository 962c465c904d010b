// SPDX-License-Identifier: Apache-2.0
/* Children with a time limit. Owns the signals that are held, and which of them has come. */
#include "try.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <time.h>

#include "base/banned.h"

#define KILLED_MS 2000 /* a killed child that is still there then hangs in the kernel */
#define NOT_FOUND 127

static sigset_t held, before;
static int signal_fd = -1, caught;

void try_hold_signals(void)
{
	if (signal_fd >= 0)
		return;
	sigemptyset(&held);
	sigaddset(&held, SIGINT);
	sigaddset(&held, SIGTERM);
	sigaddset(&held, SIGHUP);
	sigprocmask(SIG_BLOCK, &held, &before);
	signal_fd = signalfd(-1, &held, SFD_CLOEXEC | SFD_NONBLOCK);
}

int try_caught(void)
{
	struct signalfd_siginfo si;

	if (!caught && signal_fd >= 0 && read(signal_fd, &si, sizeof(si)) == sizeof(si))
		caught = (int)si.ssi_signo;
	return caught;
}

static int64_t now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

/* --- one child -------------------------------------------------------------------------------- */

struct child {
	pid_t pid;
	int fd; /* ends when the child and all that it started have ended; or what they print */
	bool stubborn; /* a signal does not end it */
};

static int child_start(struct child *c, int *ret_inner)
{
	int ends[2];

	if (pipe2(ends, O_CLOEXEC) < 0)
		return -errno;
	fflush(NULL);
	c->pid = fork();
	if (c->pid < 0) {
		int r = -errno;

		close(ends[0]);
		close(ends[1]);
		return r;
	}
	if (c->pid == 0) {
		setpgid(0, 0);
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		if (signal_fd >= 0)
			sigprocmask(SIG_SETMASK, &before, NULL);
		close(ends[0]);
		*ret_inner = ends[1];
		return 0;
	}
	setpgid(c->pid, c->pid); /* whoever is first */
	close(ends[1]);
	c->fd = ends[0];
	return 0;
}

/* 0: something to read, or the end; -ETIMEDOUT, -EINTR. */
static int child_poll(const struct child *c, int64_t end)
{
	struct pollfd fds[2] = {{.fd = c->fd, .events = POLLIN},
				{.fd = c->stubborn ? -1 : signal_fd, .events = POLLIN}};
	int64_t left;

	do {
		if (!c->stubborn && try_caught())
			return -EINTR;
		left = end - now_ms();
		if (left <= 0)
			return -ETIMEDOUT;
	} while (poll(fds, 2, (int)left) < 0 || !fds[0].revents);
	return 0;
}

/* Until the child's end; what it prints is appended to out, or dropped where that is full. */
static int child_read(const struct child *c, int64_t end, size_t max, struct buf *out)
{
	char block[4096];
	ssize_t n;
	int r;

	while ((r = child_poll(c, end)) == 0) {
		n = read(c->fd, block, sizeof(block));
		if (n == 0)
			return 0;
		if (n < 0 && errno != EINTR)
			return -errno;
		if (n > 0 && out && out->len + (size_t)n <= max &&
		    buf_append(out, block, (size_t)n) < 0)
			return -ENOMEM;
	}
	return r;
}

/* Its exit code, or r, which is why it is ended before. */
static int child_end(struct child *c, int r)
{
	int status = 0;

	if (r < 0) {
		kill(-c->pid, SIGKILL);
		c->stubborn = true;
		if (child_read(c, now_ms() + KILLED_MS, 0, NULL) < 0) {
			close(c->fd);
			return r;
		}
	}
	close(c->fd);
	while (waitpid(c->pid, &status, 0) < 0 && errno == EINTR)
		;
	if (r < 0)
		return r;
	return WIFEXITED(status) ? WEXITSTATUS(status) : -EIO;
}

/* --- functions -------------------------------------------------------------------------------- */

static int run(void (*fn)(void *shared), void *shared, size_t n, unsigned ms, bool stubborn)
{
	struct child c = {.stubborn = stubborn};
	int inner = -1, r;
	void *map = mmap(NULL, n, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	if (map == MAP_FAILED)
		return -errno;
	memcpy(map, shared, n);
	r = !stubborn && try_caught() ? -EINTR : child_start(&c, &inner);
	if (r == 0 && c.pid == 0) {
		fn(map);
		_exit(0);
	}
	if (r == 0) {
		r = child_end(&c, child_read(&c, now_ms() + ms, 0, NULL));
		memcpy(shared, map, n);
	}
	munmap(map, n);
	return r > 0 ? -EIO : r;
}

int try_run(void (*fn)(void *shared), void *shared, size_t n, unsigned ms)
{
	return run(fn, shared, n, ms, false);
}

int try_finally(void (*fn)(void *shared), void *shared, size_t n, unsigned ms)
{
	return run(fn, shared, n, ms, true);
}

/* --- programs --------------------------------------------------------------------------------- */

static _Noreturn void become(const char *const *argv, int out)
{
	int null = open("/dev/null", O_RDWR);

	if (null >= 0 && dup2(null, STDIN_FILENO) >= 0 && dup2(null, STDERR_FILENO) >= 0 &&
	    dup2(out, STDOUT_FILENO) >= 0)
		execvp(argv[0], (char *const *)(uintptr_t)argv);
	_exit(NOT_FOUND);
}

int try_program(const char *const *argv, unsigned ms, size_t max, struct buf *out)
{
	struct child c = {.stubborn = false};
	int inner = -1, r = try_caught() ? -EINTR : child_start(&c, &inner);

	if (r < 0)
		return r;
	if (c.pid == 0)
		become(argv, inner);
	r = child_end(&c, child_read(&c, now_ms() + ms, max, out));
	return r == NOT_FOUND ? -ENOENT : r > 0 ? -EIO : r;
}
