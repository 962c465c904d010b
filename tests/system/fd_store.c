// SPDX-License-Identifier: Apache-2.0
/*
 * fd_store NOTIFY_SOCKET PROGRAM ARGUMENT…: what systemd does for a service with Restart=always and
 * FileDescriptorStoreMax. Prints "start PID", each notification on one line, and "end STATUS".
 * SIGHUP: SIGTERM to the program, which is started again. SIGTERM: the same, then it ends.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#define STORE_MAX 16
#define FD_FIRST  3 /* as sd_listen_fds(3) says */

static struct {
	char name[64];
	int fd;
} store[STORE_MAX];
static int stored;
static volatile sig_atomic_t ending;
static pid_t child;

static void on_signal(int n)
{
	if (n == SIGTERM)
		ending = 1;
	if (n != SIGCHLD)
		kill(child, SIGTERM);
}

static void run(const char *socket_path, char **argv)
{
	char names[STORE_MAX * 64] = "", text[32];

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	for (int i = 0; i < stored; i++) {
		dup2(store[i].fd, FD_FIRST + i); /* drops close-on-exec */
		strcat(names, i ? ":" : "");
		strcat(names, store[i].name);
	}
	snprintf(text, sizeof(text), "%d", getpid());
	setenv("LISTEN_PID", text, 1);
	snprintf(text, sizeof(text), "%d", stored);
	setenv("LISTEN_FDS", text, 1);
	setenv("LISTEN_FDNAMES", names, 1);
	setenv("NOTIFY_SOCKET", socket_path, 1);
	execv(argv[0], argv);
	_exit(127);
}

static void start(const char *socket_path, char **argv)
{
	fflush(stdout);
	child = fork();
	if (child == 0)
		run(socket_path, argv);
	printf("start %d\n", child);
	fflush(stdout);
}

static void changed(const char *text, int fd)
{
	const char *name = strstr(text, "FDNAME=");
	char word[64] = "stored";

	if (name)
		sscanf(name, "FDNAME=%63[^\n]", word);
	if (strstr(text, "FDSTOREREMOVE=1")) {
		for (int i = 0; i < stored; i++) {
			if (strcmp(store[i].name, word) != 0)
				continue;
			close(store[i].fd);
			store[i--] = store[--stored];
		}
	} else if (strstr(text, "FDSTORE=1") && fd >= 0 && stored < STORE_MAX) {
		snprintf(store[stored].name, sizeof(store[0].name), "%s", word);
		store[stored++].fd = fcntl(fd, F_DUPFD_CLOEXEC, 100);
	}
}

static void notified(int socket_fd)
{
	char text[4096], control[CMSG_SPACE(sizeof(int))];
	struct iovec iov = {text, sizeof(text) - 1};
	struct msghdr m = {.msg_iov = &iov,
			   .msg_iovlen = 1,
			   .msg_control = control,
			   .msg_controllen = sizeof(control)};
	ssize_t n = recvmsg(socket_fd, &m, MSG_CMSG_CLOEXEC);
	struct cmsghdr *c = n < 0 ? NULL : CMSG_FIRSTHDR(&m);
	int fd = -1;

	if (n < 0)
		return;
	text[n] = 0;
	if (c && c->cmsg_type == SCM_RIGHTS)
		memcpy(&fd, CMSG_DATA(c), sizeof(fd));
	changed(text, fd);
	if (fd >= 0)
		close(fd);
	for (char *p = text; *p; p++)
		*p = *p == '\n' ? ' ' : *p;
	puts(text);
	fflush(stdout);
}

int main(int argc, char **argv)
{
	struct sockaddr_un addr = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0), status;

	if (argc < 3)
		return 2;
	snprintf(addr.sun_path, sizeof(addr.sun_path), "%s", argv[1]);
	if (bind(fd, (struct sockaddr *)&addr, sizeof(addr)) < 0) {
		perror(argv[1]);
		return 1;
	}
	signal(SIGHUP, on_signal);
	signal(SIGTERM, on_signal);
	signal(SIGCHLD, on_signal);
	start(argv[1], argv + 2);
	for (;;) {
		struct pollfd p = {.fd = fd, .events = POLLIN};

		if (poll(&p, 1, 100) > 0)
			notified(fd);
		if (waitpid(child, &status, WNOHANG) != child)
			continue;
		while (poll(&p, 1, 0) > 0)
			notified(fd);
		printf("end %d\n", status);
		fflush(stdout);
		if (ending)
			return 0;
		start(argv[1], argv + 2);
	}
}
