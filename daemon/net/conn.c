// SPDX-License-Identifier: Apache-2.0
/* Byte streams over unix sockets. Owns the descriptors. Loop thread only. */
#include "net/conn.h"

#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "base/limits.h"
#include "loop/io.h"

#include "base/banned.h"

#define DIRECT_READS_MAX 4 /* full buffers in a row from one peer before others get their turn */

int conn_init(struct conn *c, int fd)
{
	struct ucred cred;
	socklen_t len = sizeof(cred);
	int r;

	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &cred, &len) < 0) {
		r = -errno;
		close(fd);
		return r;
	}
	*c = (struct conn){.fd = fd, .peer = {cred.pid, cred.uid, cred.gid}};
	return 0;
}

may_suspend int conn_accept(int listen_fd, struct conn *ret_conn)
{
	int fd = io_accept(listen_fd);

	return fd < 0 ? fd : conn_init(ret_conn, fd);
}

may_suspend int conn_dial(const char *path, unsigned timeout_ms, struct conn *ret_conn,
			  struct err *err)
{
	struct sockaddr_un sun = {.sun_family = AF_UNIX};
	size_t len = strlen(path);
	auto_close int fd = -1;
	int r;

	if (len >= sizeof(sun.sun_path))
		return err_set(err, -ENAMETOOLONG, "socket path %s is longer than %zu bytes", path,
			       sizeof(sun.sun_path) - 1);
	memcpy(sun.sun_path, path, len);
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return err_errno(err, -errno, "socket");
	r = io_connect(fd, (struct sockaddr *)&sun, sizeof(sun), timeout_ms);
	if (r == 0)
		r = conn_init(ret_conn, take_fd(&fd));
	return r < 0 ? err_errno(err, r, "connect to %s", path) : 0;
}

/*
 * A buffer that was filled means that more is there: then the ring is passed by. Otherwise its own
 * first try is as good as ours. Injected faults come through the ring only.
 */
may_suspend ssize_t conn_read(struct conn *c, void *buf, size_t len, unsigned timeout_ms)
{
	ssize_t n;

	if (c->direct_reads && !io_faults.seed && !task_cancelled()) {
		c->direct_reads--;
		n = recv(c->fd, buf, len, MSG_DONTWAIT);
		if (n >= 0 && (size_t)n < len)
			c->direct_reads = 0;
		if (n >= 0)
			return n;
		if (errno != EAGAIN && errno != EINTR)
			return -errno;
	}
	n = io_recv(c->fd, buf, len, timeout_ms);
	c->direct_reads = n == (ssize_t)len ? DIRECT_READS_MAX : 0;
	return n;
}

ssize_t conn_write_now(struct conn *c, const void *buf, size_t len)
{
	ssize_t n;

	if (io_faults.seed)
		return -EAGAIN;
	n = send(c->fd, buf, len, MSG_DONTWAIT | MSG_NOSIGNAL);
	if (n >= 0)
		return n;
	return errno == EINTR ? -EAGAIN : -errno;
}

may_suspend int conn_write(struct conn *c, const void *buf, size_t len)
{
	const uint8_t *p = buf;
	ssize_t n;

	while (len) {
		n = io_send(c->fd, p, len, WRITE_TIMEOUT_MS);
		if (n < 0 && n != -EAGAIN && n != -EINTR)
			return (int)n;
		if (n > 0) {
			p += n;
			len -= (size_t)n;
		}
	}
	return 0;
}

void conn_cut(struct conn *c)
{
	shutdown(c->fd, SHUT_RDWR);
}

void conn_close(struct conn *c)
{
	close(take_fd(&c->fd));
}
