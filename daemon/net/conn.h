/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Byte streams over unix sockets. A listening socket is opened by another process and inherited.
 * One task reads and one writes; closing is for when both are done. Loop thread only.
 */
#ifndef FIRSTLIGHT_NET_CONN_H
#define FIRSTLIGHT_NET_CONN_H

#include <stdint.h>
#include <sys/types.h>

#include "base/err.h"
#include "loop/task.h"

/* Who is at the other end, as the kernel recorded it at connect(2). */
struct peer {
	pid_t pid;
	uid_t uid;
	gid_t gid;
};

struct conn {
	int fd;
	unsigned direct_reads; /* so many reads may be tried without the ring */
	struct peer peer;
};

/* Wraps a connected socket; takes fd, and closes it on failure. */
int conn_init(struct conn *c, int fd) must_check;

/* Next connection of a listening socket. */
may_suspend int conn_accept(int listen_fd, struct conn *ret_conn) must_check;

/* -ETIMEDOUT, -ENAMETOOLONG, and those of connect(2). */
may_suspend int conn_dial(const char *path, unsigned timeout_ms, struct conn *ret_conn,
			  struct err *err) must_check;

/* Some bytes; 0 = the peer has closed. timeout_ms 0 = no limit. */
may_suspend ssize_t conn_read(struct conn *c, void *buf, size_t len, unsigned timeout_ms);

/* Writes what fits now, without suspending; -EAGAIN. */
ssize_t conn_write_now(struct conn *c, const void *buf, size_t len);

/* Writes all; -ETIMEDOUT when the peer has taken nothing for WRITE_TIMEOUT_MS. */
may_suspend int conn_write(struct conn *c, const void *buf, size_t len);

/* Ends both directions, so that a suspended reader and writer return. */
void conn_cut(struct conn *c);

void conn_close(struct conn *c);

#endif
