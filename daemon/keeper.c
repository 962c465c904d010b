// SPDX-License-Identifier: Apache-2.0
/*
 * The keeper. Owns the root's lock, the listening socket, the FUSE mount and the worker process;
 * parses nothing from outside. When the keeper dies the kernel kills the worker (PR_SET_PDEATHSIG);
 * the lock is free when both are gone. What belongs to the FUSE mount is also left in systemd's
 * store of descriptors, so that the next keeper can go on with it. One thread.
 */
#include "keeper.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <systemd/sd-daemon.h>
#include <time.h>
#include <unistd.h>

#include "base/limits.h"
#include "base/log.h"
#include "fs/fill.h"
#include "fs/fill_mount.h"
#include "fs/fill_refuse.h"
#include "image/logins.h"

#include "base/banned.h"

#define LISTEN_BACKLOG 1024
#define BACKOFF_MS_MIN 50
#define NAME_FUSE      "fuse" /* in systemd's store */
#define NAME_STATE     "fill-state"
#define NAME_LOGINS    "logins"

struct keeper {
	const struct config *config;
	int (*worker)(const struct config *config, const struct worker_fds *fds);
	int lock_fd, listen_fd, signal_fd, ready_fd; /* ready_fd: read end */
	int fuse_fd, fill_state_fd;                  /* both -1: no FUSE */
	int logins_fd;                               /* -1: none */
	char fill_path[4096];
	pid_t pid; /* 0 = none */
	bool stopping, own_socket;
	bool was_ready, ever_ready;               /* this worker, any worker */
	uint64_t started_ms, restart_ms, kill_ms; /* 0 = not set */
	uint64_t served_ms;                       /* the last worker that was good ended */
	unsigned failures;                        /* workers in a row that did not last */
	unsigned starts;                          /* of workers so far */
	int64_t start_s;                          /* ours */
	int exit_code;
};

static uint64_t now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000 + (uint64_t)ts.tv_nsec / 1000000;
}

/* --- what is held ----------------------------------------------------------------------------- */

static int make_dirs(const char *path, mode_t mode, struct err *err)
{
	char copy[4096];

	if (snprintf(copy, sizeof(copy), "%s", path) >= (int)sizeof(copy))
		return err_set(err, -ENAMETOOLONG, "%s: too long", path);
	for (char *p = copy + 1; *p; p++) {
		if (*p != '/')
			continue;
		*p = 0;
		if (mkdir(copy, 0755) < 0 && errno != EEXIST)
			return err_errno(err, -errno, "mkdir %s", copy);
		*p = '/';
	}
	if (mkdir(copy, mode) < 0 && errno != EEXIST)
		return err_errno(err, -errno, "mkdir %s", copy);
	return 0;
}

/* A predecessor that was killed may still be dying, so wait a little. */
static int lock_root(struct keeper *k, struct err *err)
{
	struct timespec pause = {.tv_nsec = 20000000};
	uint64_t until = now_ms() + ROOT_LOCK_WAIT_MS;
	char path[4096], pid[32] = "";

	snprintf(path, sizeof(path), "%s/lock", k->config->root);
	k->lock_fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	if (k->lock_fd < 0)
		return err_errno(err, -errno, "open %s", path);
	while (flock(k->lock_fd, LOCK_EX | LOCK_NB) < 0) {
		if (errno != EWOULDBLOCK && errno != EINTR)
			return err_errno(err, -errno, "lock %s", path);
		if (now_ms() >= until) {
			if (pread(k->lock_fd, pid, sizeof(pid) - 1, 0) < 0)
				pid[0] = 0;
			pid[strcspn(pid, "\n")] = 0;
			return err_set(err, -EBUSY, "another firstlightd (pid %s) runs on %s",
				       pid[0] ? pid : "unknown", k->config->root);
		}
		nanosleep(&pause, NULL);
	}
	snprintf(pid, sizeof(pid), "%d\n", getpid());
	if (ftruncate(k->lock_fd, 0) < 0 || pwrite(k->lock_fd, pid, strlen(pid), 0) < 0)
		return err_errno(err, -errno, "write %s", path);
	return 0;
}

/* Does somebody answer there? A socket file that nobody serves is left over. */
static bool address_served(const struct sockaddr_un *addr)
{
	auto_close int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	return fd >= 0 &&
	       (connect(fd, (const struct sockaddr *)addr, sizeof(*addr)) == 0 || errno == EAGAIN);
}

/* A predecessor that is just dying may have given up the lock and not yet the socket. */
static bool address_stays_served(const struct sockaddr_un *addr)
{
	struct timespec pause = {.tv_nsec = 20000000};
	uint64_t until = now_ms() + ROOT_LOCK_WAIT_MS;

	while (address_served(addr)) {
		if (now_ms() >= until)
			return true;
		nanosleep(&pause, NULL);
	}
	return false;
}

static int listen_on(struct keeper *k, struct err *err)
{
	struct sockaddr_un addr = {.sun_family = AF_UNIX};
	char dir[sizeof(addr.sun_path)];
	struct stat st;
	mode_t old;
	int r;

	snprintf(addr.sun_path, sizeof(addr.sun_path), "%s", k->config->address);
	snprintf(dir, sizeof(dir), "%s", k->config->address);
	*strrchr(dir, '/') = 0;
	r = dir[0] ? make_dirs(dir, 0711, err) : 0;
	if (r < 0)
		return r;
	if (lstat(addr.sun_path, &st) == 0) {
		if (!S_ISSOCK(st.st_mode))
			return err_set(err, -EEXIST, "%s is there and is not a socket",
				       addr.sun_path);
		if (address_stays_served(&addr))
			return err_set(err, -EADDRINUSE, "another server answers at %s",
				       addr.sun_path);
		if (unlink(addr.sun_path) < 0)
			return err_errno(err, -errno, "unlink %s", addr.sun_path);
	}
	k->listen_fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (k->listen_fd < 0)
		return err_errno(err, -errno, "socket");
	old = umask(0177);
	r = bind(k->listen_fd, (struct sockaddr *)&addr, sizeof(addr)) < 0 ? -errno : 0;
	umask(old);
	if (r == 0 && listen(k->listen_fd, LISTEN_BACKLOG) < 0)
		r = -errno;
	k->own_socket = r == 0;
	return r < 0 ? err_errno(err, r, "listen at %s", addr.sun_path) : 0;
}

static int signals_open(struct keeper *k, struct err *err)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGCHLD);
	sigprocmask(SIG_BLOCK, &set, NULL);
	signal(SIGPIPE, SIG_IGN);
	k->signal_fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	return k->signal_fd < 0 ? err_errno(err, -errno, "signalfd") : 0;
}

/* What systemd hands over (LISTEN_FDS): a socket, so that it stays when the keeper is replaced, and
 * what the keeper before has stored. */
static int take_fds(struct keeper *k, struct err *err)
{
	char **names = NULL;
	int n = sd_listen_fds_with_names(1, &names), sockets = 0;

	for (int i = 0; i < n; i++) {
		const char *name = names && names[i] ? names[i] : "";
		int *to = strcmp(name, NAME_FUSE) == 0     ? &k->fuse_fd
			  : strcmp(name, NAME_STATE) == 0  ? &k->fill_state_fd
			  : strcmp(name, NAME_LOGINS) == 0 ? &k->logins_fd
							   : &k->listen_fd;

		sockets += to == &k->listen_fd;
		if (*to >= 0)
			close(*to);
		*to = SD_LISTEN_FDS_START + i;
	}
	for (int i = 0; names && names[i]; i++)
		free(names[i]);
	free(names);
	if (sockets > 1)
		return err_set(err, -EINVAL, "systemd hands over %d sockets; one is served",
			       sockets);
	if (sockets && sd_is_socket_unix(k->listen_fd, SOCK_STREAM, 1, NULL, 0) <= 0)
		return err_set(err, -EINVAL,
			       "the socket of systemd is not a listening unix socket");
	return sockets ? 0 : listen_on(k, err);
}

static bool systemd_stores(void)
{
	return getenv("NOTIFY_SOCKET") != NULL;
}

static void systemd_store(int fd, const char *name)
{
	char text[64];

	if (!systemd_stores())
		return;
	/* not polled: the mount's descriptor is to be kept whatever its state */
	snprintf(text, sizeof(text), "FDSTORE=1\nFDNAME=%s\nFDPOLL=0", name);
	if (sd_pid_notify_with_fds(0, 0, text, &fd, 1) < 0)
		log_warn("systemd does not store name=%s", name);
}

static void fill_drop(struct keeper *k)
{
	if (k->fuse_fd >= 0)
		close(k->fuse_fd);
	if (k->fill_state_fd >= 0)
		close(k->fill_state_fd);
	k->fuse_fd = k->fill_state_fd = -1;
}

/* The FUSE mount: that of the keeper before, or a new one. Without it there are no lazy layers. */
static void fill_take(struct keeper *k)
{
	struct err err = ERR_INIT;
	int r;

	if (k->fuse_fd >= 0 && k->fill_state_fd >= 0 && fill_mounted(k->fuse_fd)) {
		log_info("fill taken-over path=%s", k->fill_path);
		return;
	}
	fill_drop(k);
	sd_notify(0, "FDSTOREREMOVE=1\nFDNAME=" NAME_FUSE);
	sd_notify(0, "FDSTOREREMOVE=1\nFDNAME=" NAME_STATE);
	r = fill_memory(FILL_STATE_SIZE, &k->fill_state_fd, &err);
	if (r == 0)
		r = fill_mount(k->fill_path, &k->fuse_fd, &err);
	if (r < 0) {
		fill_drop(k);
		log_warn("no lazy layers error=\"%s\"", err_text(&err, r));
		return;
	}
	systemd_store(k->fuse_fd, NAME_FUSE);
	systemd_store(k->fill_state_fd, NAME_STATE);
}

/* Where workers keep credentials. Those of the keeper before, or none yet. */
static void logins_take(struct keeper *k)
{
	struct stat st;

	if (k->logins_fd >= 0 && fstat(k->logins_fd, &st) == 0 && st.st_size == LOGINS_STATE_SIZE)
		return;
	if (k->logins_fd >= 0)
		close(k->logins_fd);
	sd_notify(0, "FDSTOREREMOVE=1\nFDNAME=" NAME_LOGINS);
	k->logins_fd = memfd_create("firstlight-logins", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	if (k->logins_fd < 0 || ftruncate(k->logins_fd, LOGINS_STATE_SIZE) < 0 ||
	    fcntl(k->logins_fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) < 0) {
		log_warn("credentials are lost with each worker error=\"%s\"", strerror(errno));
		if (k->logins_fd >= 0)
			close(k->logins_fd);
		k->logins_fd = -1;
		return;
	}
	systemd_store(k->logins_fd, NAME_LOGINS);
}

/* Nobody answers; who waits there is not left waiting. */
static void fill_fail(struct keeper *k, const char *why)
{
	struct err err = ERR_INIT;
	int n = k->fuse_fd >= 0 ? fill_refuse(k->fuse_fd, k->fill_state_fd, &err) : 0;

	if (n < 0)
		log_error("reads wait reason=\"%s\" error=\"%s\"", why, err_text(&err, n));
	else if (n > 0)
		log_error("reads failed requests=%d reason=\"%s\"", n, why);
}

/* In the end: without a store nobody will serve it again. */
static void fill_leave(struct keeper *k)
{
	if (k->fuse_fd >= 0 && !systemd_stores())
		fill_unmount(k->fill_path);
}

/* --- the worker ------------------------------------------------------------------------------- */

static void worker_start(struct keeper *k)
{
	pid_t keeper = getpid();
	int fds[2];

	k->restart_ms = 0;
	k->started_ms = now_ms();
	if (pipe2(fds, O_CLOEXEC) < 0) {
		log_error("pipe error=\"%s\"", strerror(errno));
		k->restart_ms = now_ms() + WORKER_BACKOFF_MAX_MS;
		return;
	}
	k->pid = fork();
	if (k->pid == 0) {
		struct worker_fds w = {k->listen_fd,
				       fds[1],
				       k->fuse_fd,
				       k->fill_state_fd,
				       k->logins_fd > 0 ? k->logins_fd : 0,
				       k->starts,
				       k->start_s};

		prctl(PR_SET_PDEATHSIG, SIGKILL);
		prctl(PR_SET_NAME, "firstlightd-wrk");
		if (getppid() != keeper)
			_exit(1);
		close(fds[0]);
		close(k->signal_fd);
		if (k->ready_fd >= 0)
			close(k->ready_fd);
		exit(k->worker(k->config, &w));
	}
	k->starts += k->pid > 0;
	close(fds[1]);
	if (k->ready_fd >= 0)
		close(k->ready_fd);
	k->ready_fd = fds[0];
	if (k->pid < 0) {
		log_error("fork error=\"%s\"", strerror(errno));
		k->pid = 0;
		k->restart_ms = now_ms() + WORKER_BACKOFF_MAX_MS;
	}
}

/* The first failure costs nothing; one after the other is given more and more time. */
static unsigned backoff_ms(unsigned failures)
{
	unsigned ms = BACKOFF_MS_MIN;

	if (failures < 2)
		return 0;
	while (--failures > 1 && ms < WORKER_BACKOFF_MAX_MS)
		ms *= 2;
	return ms < WORKER_BACKOFF_MAX_MS ? ms : WORKER_BACKOFF_MAX_MS;
}

static void give_up(struct keeper *k, const char *why)
{
	log_error("giving up reason=\"%s\"", why);
	fill_fail(k, why);
	k->stopping = true;
	k->exit_code = 1;
}

/* Not its own fault: it might have gone on. */
static bool killed_by_others(int status)
{
	return WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL;
}

static void worker_ended(struct keeper *k, int status)
{
	uint64_t lived = now_ms() - k->started_ms;
	unsigned pause;

	k->pid = 0;
	if (k->stopping) {
		k->exit_code = WIFEXITED(status) ? WEXITSTATUS(status) : 1;
		if (k->exit_code)
			log_error("worker ended while stopping %s=%d",
				  WIFSIGNALED(status) ? "signal" : "exit",
				  WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status));
		return;
	}
	if (WIFEXITED(status) && WEXITSTATUS(status) == WORKER_REFUSED) {
		give_up(k, "the worker says that a restart would not help");
		return;
	}
	k->failures = k->was_ready && lived >= WORKER_STABLE_MS ? 0 : k->failures + 1;
	if (k->was_ready && (lived >= WORKER_STABLE_MS || killed_by_others(status)))
		k->served_ms = now_ms();
	k->was_ready = false;
	pause = backoff_ms(k->failures);
	k->restart_ms = now_ms() + pause;
	log_error("worker ended %s=%d after_ms=%llu failures=%u restart_in_ms=%u",
		  WIFSIGNALED(status) ? "signal" : "exit",
		  WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status),
		  (unsigned long long)lived, k->failures, pause);
	if (!k->ever_ready && k->failures >= WORKER_START_TRIES)
		give_up(k, "no worker has become ready");
	else if (now_ms() - k->served_ms >= FILL_UNSERVED_MS)
		fill_fail(k, "no worker lasts");
}

static void on_ready(struct keeper *k)
{
	char c;

	if (read(k->ready_fd, &c, 1) == 1) {
		log_info("ready address=%s root=%s worker=%d", k->config->address, k->config->root,
			 k->pid);
		sd_notify(0, "READY=1");
		k->was_ready = k->ever_ready = true;
	}
	close(k->ready_fd);
	k->ready_fd = -1;
}

static void on_signals(struct keeper *k)
{
	struct signalfd_siginfo si;
	int status;
	pid_t pid;

	while (read(k->signal_fd, &si, sizeof(si)) == sizeof(si)) {
		if (si.ssi_signo == SIGCHLD)
			continue;
		if (!k->stopping) {
			log_info("stopping signal=%u", si.ssi_signo);
			sd_notify(0, "STOPPING=1");
		}
		k->stopping = true;
		k->kill_ms = now_ms() + DRAIN_TIMEOUT_MS + 5000;
		if (k->pid)
			kill(k->pid, SIGTERM);
	}
	while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
		if (pid == k->pid)
			worker_ended(k, status);
	}
}

static int wait_ms(const struct keeper *k)
{
	uint64_t due = k->stopping ? k->kill_ms : k->restart_ms, now = now_ms();

	if (!due || (!k->stopping && k->pid))
		return -1;
	return due <= now ? 0 : (int)(due - now);
}

static void keep(struct keeper *k)
{
	while (!k->stopping || k->pid) {
		struct pollfd p[2] = {{.fd = k->signal_fd, .events = POLLIN},
				      {.fd = k->ready_fd, .events = POLLIN}};

		poll(p, 2, wait_ms(k));
		if (p[1].revents)
			on_ready(k);
		if (p[0].revents)
			on_signals(k);
		if (!k->stopping && !k->pid && k->restart_ms && k->restart_ms <= now_ms())
			worker_start(k);
		if (k->stopping && k->pid && k->kill_ms && k->kill_ms <= now_ms()) {
			log_error("worker does not end: killed");
			kill(k->pid, SIGKILL);
			k->kill_ms = 0;
		}
	}
}

int keeper_run(const struct config *config,
	       int (*worker)(const struct config *config, const struct worker_fds *fds))
{
	struct keeper k = {.config = config,
			   .worker = worker,
			   .lock_fd = -1,
			   .listen_fd = -1,
			   .signal_fd = -1,
			   .ready_fd = -1,
			   .fuse_fd = -1,
			   .fill_state_fd = -1,
			   .logins_fd = -1};
	struct err err = ERR_INIT;
	int r;

	log_init(config->log_level, "keeper");
	umask(022);
	snprintf(k.fill_path, sizeof(k.fill_path), "%s/fill", config->root);
	r = make_dirs(config->root, 0700, &err);
	if (r == 0)
		r = make_dirs(config->state, 0711, &err);
	if (r == 0)
		r = lock_root(&k, &err);
	if (r == 0)
		r = signals_open(&k, &err);
	if (r == 0)
		r = take_fds(&k, &err);
	if (r < 0) {
		log_error("cannot start error=\"%s\"", err_text(&err, r));
		return 1;
	}
	fill_take(&k);
	logins_take(&k);
	k.served_ms = now_ms();
	k.start_s = time(NULL);
	worker_start(&k);
	keep(&k);
	fill_leave(&k);
	if (k.own_socket)
		unlink(config->address);
	return k.exit_code;
}
