/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The suspending verbs on file descriptors. All answer the kernel's result or -errno; -ECANCELED
 * when the task was cancelled, -ETIMEDOUT after timeout_ms (0 = no limit). Buffers belong to the
 * kernel until the verb returns.
 */
#ifndef FIRSTLIGHT_LOOP_IO_H
#define FIRSTLIGHT_LOOP_IO_H

#include <stdint.h>
#include <sys/socket.h>
#include <sys/types.h>

#include "loop/task.h"

may_suspend ssize_t io_read(int fd, void *buf, size_t len, uint64_t off, unsigned timeout_ms);
may_suspend ssize_t io_write(int fd, const void *buf, size_t len, uint64_t off,
			     unsigned timeout_ms);
may_suspend ssize_t io_recv(int fd, void *buf, size_t len, unsigned timeout_ms);
may_suspend ssize_t io_send(int fd, const void *buf, size_t len, unsigned timeout_ms);
/* A new close-on-exec descriptor. */
may_suspend int io_accept(int fd);
may_suspend int io_connect(int fd, const struct sockaddr *addr, socklen_t len, unsigned timeout_ms);
/* poll(2) events; answers revents. */
may_suspend int io_poll(int fd, short events, unsigned timeout_ms);

/* Faults for tests, drawn from a seed: shares in 1/1000. */
struct io_faults {
	uint64_t seed;           /* 0 = off */
	unsigned short_permille; /* reads and writes move fewer bytes */
	unsigned fail_permille;  /* -ECONNRESET instead of the operation */
};
extern struct io_faults io_faults;

#endif
