// SPDX-License-Identifier: Apache-2.0
/*
 * Runs docker's credential helpers (docker-credential-helpers, README "Development"). Owns the
 * child and its pipes until it has ended. Worker threads.
 */
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>

#include "base/buf.h"
#include "base/limits.h"
#include "image/creds.h"

#include "base/banned.h"

#define NOT_FOUND "credentials not found in native keychain"

extern char **environ;

static int64_t now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

/* The signals as a program expects them: the daemon blocks and ignores some. */
static int spawn_attr(posix_spawnattr_t *attr)
{
	sigset_t none, defaults;

	sigemptyset(&none);
	sigfillset(&defaults);
	sigdelset(&defaults, SIGKILL);
	sigdelset(&defaults, SIGSTOP);
	posix_spawnattr_setsigmask(attr, &none);
	posix_spawnattr_setsigdefault(attr, &defaults);
	posix_spawnattr_setpgroup(attr, 0);
	return posix_spawnattr_setflags(attr, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF |
						      POSIX_SPAWN_SETPGROUP);
}

static int spawn_get(const char *program, int in, int out, pid_t *ret_pid)
{
	char *argv[] = {(char *)program, "get", NULL};
	posix_spawn_file_actions_t fa;
	posix_spawnattr_t attr;
	int r;

	if (posix_spawn_file_actions_init(&fa) != 0)
		return -ENOMEM;
	if (posix_spawnattr_init(&attr) != 0) {
		posix_spawn_file_actions_destroy(&fa);
		return -ENOMEM;
	}
	r = spawn_attr(&attr);
	if (r == 0)
		r = posix_spawn_file_actions_adddup2(&fa, in, 0);
	if (r == 0)
		r = posix_spawn_file_actions_adddup2(&fa, out, 1);
	if (r == 0)
		r = posix_spawn_file_actions_addopen(&fa, 2, "/dev/null", O_WRONLY, 0);
	if (r == 0)
		r = posix_spawn_file_actions_addclosefrom_np(&fa, 3);
	if (r == 0)
		r = posix_spawnp(ret_pid, program, &fa, &attr, argv, environ);
	posix_spawnattr_destroy(&attr);
	posix_spawn_file_actions_destroy(&fa);
	return -r;
}

/* All that the helper says, until it closes its end. */
static int read_answer(int fd, int64_t end, struct buf *out)
{
	struct pollfd p = {.fd = fd, .events = POLLIN};
	char piece[4096];

	for (;;) {
		int64_t left = end - now_ms();
		ssize_t n;
		int r = left > 0 ? poll(&p, 1, (int)left) : 0;

		if (r == 0)
			return -ETIMEDOUT;
		if (r < 0 && errno == EINTR)
			continue;
		n = read(fd, piece, sizeof(piece));
		if (n <= 0)
			return n < 0 ? -EIO : 0;
		if (out->len + (size_t)n > CREDENTIAL_HELPER_OUT_MAX)
			return -EFBIG;
		if (buf_append(out, piece, (size_t)n) < 0)
			return -ENOMEM;
		explicit_bzero(piece, (size_t)n);
	}
}

/* Ends with the child gone, by itself or killed with all that it started. */
static int wait_end(pid_t pid, int64_t end, bool kill_now, int *ret_status)
{
	auto_close int fd = (int)syscall(SYS_pidfd_open, pid, 0);
	struct pollfd p = {.fd = fd, .events = POLLIN};
	int64_t left = end - now_ms();
	bool late = kill_now;

	if (!late)
		late = fd < 0 || left <= 0 || poll(&p, 1, (int)left) <= 0;
	if (late)
		kill(-pid, SIGKILL);
	while (waitpid(pid, ret_status, 0) < 0 && errno == EINTR)
		;
	return late ? -ETIMEDOUT : 0;
}

static int talk(const char *program, const char *host, unsigned timeout_ms, struct buf *out,
		int *ret_status)
{
	int64_t end = now_ms() + timeout_ms;
	int in[2] = {-1, -1}, pipe_fds[2] = {-1, -1}, r, w;
	pid_t pid = 0;

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, in) < 0)
		return -errno;
	if (pipe2(pipe_fds, O_CLOEXEC) < 0) {
		r = -errno;
		close(in[0]);
		close(in[1]);
		return r;
	}
	r = spawn_get(program, in[1], pipe_fds[1], &pid);
	close(in[1]);
	close(pipe_fds[1]);
	if (r == 0) {
		(void)!send(in[0], host, strlen(host), MSG_NOSIGNAL | MSG_DONTWAIT);
		shutdown(in[0], SHUT_WR);
		r = read_answer(pipe_fds[0], end, out);
		w = wait_end(pid, end, r < 0, ret_status);
		r = r < 0 ? r : w;
	}
	close(in[0]);
	close(pipe_fds[0]);
	return r;
}

static bool suffix_valid(struct str s)
{
	return s.len && s.len < 128 && !memchr(s.p, '/', s.len) && !memchr(s.p, 0, s.len);
}

int creds_run_helper(struct str suffix, const char *host, unsigned timeout_ms, struct arena *a,
		     struct creds *ret, struct err *err)
{
	auto_buf struct buf out = BUF_INIT;
	const char *program;
	struct str said;
	int status = 0, r;

	*ret = (struct creds){0};
	if (!suffix_valid(suffix))
		return err_set(err, -EINVAL, "not the name of a credential helper");
	program = arena_printf(a, "docker-credential-" STR_FMT, STR_ARG(suffix));
	if (!program)
		return err_set(err, -ENOMEM, "out of memory");
	r = talk(program, host, timeout_ms, &out, &status);
	if (r < 0)
		return err_set(err, r == -ETIMEDOUT || r == -ENOMEM ? r : -EIO, "%s: %s", program,
			       strerrordesc_np(-r));
	said = (struct str){out.len ? (char *)out.data : "", out.len};
	while (said.len && strchr(" \t\r\n", said.p[said.len - 1]) && said.p[said.len - 1])
		said.len--;
	if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
		r = creds_helper_answer(said, a, ret, err);
	else if (str_eq(said, STR(NOT_FOUND)))
		r = 0;
	else
		r = err_set(err, -EIO, "it failed: %.*s", said.len > 200 ? 200 : (int)said.len,
			    said.p);
	if (out.len)
		explicit_bzero(out.data, out.len);
	return r < 0 ? err_wrap(err, r, "%s", program) : 0;
}
