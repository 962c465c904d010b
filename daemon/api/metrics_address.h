/* SPDX-License-Identifier: Apache-2.0 */
/* Where metrics are served: a unix socket, or a loopback address and a port. */
#ifndef FIRSTLIGHT_API_METRICS_ADDRESS_H
#define FIRSTLIGHT_API_METRICS_ADDRESS_H

#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "base/err.h"

union metrics_address {
	struct sockaddr any;
	struct sockaddr_un local;
	struct sockaddr_in v4;
	struct sockaddr_in6 v6;
};

/* "unix:/PATH", "127.0.0.1:9477" (of 127.0.0.0/8), "[::1]:9477". -EINVAL, with a text that begins
 * with "must be" or names the address. */
int metrics_address_parse(const char *text, union metrics_address *ret, struct err *err);

socklen_t metrics_address_size(const union metrics_address *a);

/* A socket that listens there, with mode 0600 if it is a file; does not wait. A file of a socket
 * that nobody serves any more is taken away. -EADDRINUSE, -EEXIST (not a socket), and those of
 * bind(2). */
int metrics_address_listen(const union metrics_address *a, int *ret_fd, struct err *err);

#endif
