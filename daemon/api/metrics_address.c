// SPDX-License-Identifier: Apache-2.0
/* Where metrics are served. Owns nothing; the worker listens itself, so that a dead worker's port
 * is free for the next. */
#include "api/metrics_address.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <sys/stat.h>

#include "base/limits.h"
#include "base/str.h"

#include "base/banned.h"

#define UNIX         "unix:"
#define HOST_MAX     64
#define LOOPBACK_NET 127u

static int no_form(struct err *err)
{
	return err_set(err, -EINVAL,
		       "must be \"unix:/PATH\", \"127.0.0.1:PORT\" or \"[::1]:PORT\"");
}

static int parse_unix(const char *path, union metrics_address *ret, struct err *err)
{
	size_t len = strlen(path);

	if (path[0] != '/' || path[len - 1] == '/')
		return no_form(err);
	if (len >= sizeof(ret->local.sun_path))
		return err_set(err, -EINVAL, "is longer than a socket's name can be (%zu bytes)",
			       sizeof(ret->local.sun_path) - 1);
	*ret = (union metrics_address){.local = {.sun_family = AF_UNIX}};
	memcpy(ret->local.sun_path, path, len + 1);
	return 0;
}

static int not_loopback(const char *host, struct err *err)
{
	return err_set(
		err, -EINVAL,
		"must be a loopback address, and %s is none: metrics are not for the network",
		host);
}

static int parse_inet(const char *host, bool v6, uint64_t port, union metrics_address *ret,
		      struct err *err)
{
	union metrics_address a = {.v4 = {.sin_family = AF_INET, .sin_port = htons(port)}};

	if (!v6 && inet_pton(AF_INET, host, &a.v4.sin_addr) == 1) {
		if (ntohl(a.v4.sin_addr.s_addr) >> 24 != LOOPBACK_NET)
			return not_loopback(host, err);
		*ret = a;
		return 0;
	}
	a = (union metrics_address){.v6 = {.sin6_family = AF_INET6, .sin6_port = htons(port)}};
	if (!v6 || inet_pton(AF_INET6, host, &a.v6.sin6_addr) != 1)
		return no_form(err);
	if (!IN6_IS_ADDR_LOOPBACK(&a.v6.sin6_addr))
		return not_loopback(host, err);
	*ret = a;
	return 0;
}

int metrics_address_parse(const char *text, union metrics_address *ret, struct err *err)
{
	bool v6 = text[0] == '[';
	const char *from = v6 ? text + 1 : text, *end = strrchr(text, v6 ? ']' : ':');
	char host[HOST_MAX];
	uint64_t port;

	if (str_starts(str_of(text), STR(UNIX)))
		return parse_unix(text + strlen(UNIX), ret, err);
	if (!end || end - from >= HOST_MAX || (v6 && end[1] != ':') ||
	    str_u64(str_of(end + 1 + v6), &port) < 0 || port == 0 || port > UINT16_MAX)
		return no_form(err);
	snprintf(host, sizeof(host), "%.*s", (int)(end - from), from);
	return parse_inet(host, v6, port, ret, err);
}

socklen_t metrics_address_size(const union metrics_address *a)
{
	return a->any.sa_family == AF_UNIX   ? sizeof(a->local)
	       : a->any.sa_family == AF_INET ? sizeof(a->v4)
					     : sizeof(a->v6);
}

/* --- listening -------------------------------------------------------------------------------- */

static int open_socket(const union metrics_address *a)
{
	return socket(a->any.sa_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
}

/* Whoever is there already. */
static int make_way(const union metrics_address *a, struct err *err)
{
	const char *path = a->local.sun_path;
	auto_close int fd = -1;
	struct stat st;

	if (lstat(path, &st) < 0)
		return errno == ENOENT ? 0 : err_errno(err, -errno, "look at %s", path);
	if (!S_ISSOCK(st.st_mode))
		return err_set(err, -EEXIST, "%s is there and is not a socket", path);
	fd = open_socket(a);
	if (fd < 0)
		return err_errno(err, -errno, "socket");
	if (connect(fd, &a->any, sizeof(a->local)) == 0 || errno == EAGAIN)
		return err_set(err, -EADDRINUSE, "another server answers at %s", path);
	return unlink(path) < 0 ? err_errno(err, -errno, "unlink %s", path) : 0;
}

/* A file's mode is that of the socket before bind(2): umask(2) is the whole process's. */
static int settle(int fd, sa_family_t family)
{
	int on = 1;

	if (family == AF_UNIX)
		return fchmod(fd, 0600);
	return setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
}

int metrics_address_listen(const union metrics_address *a, int *ret_fd, struct err *err)
{
	auto_close int fd = -1;
	int r = a->any.sa_family == AF_UNIX ? make_way(a, err) : 0;

	if (r < 0)
		return r;
	fd = open_socket(a);
	if (fd < 0 || settle(fd, a->any.sa_family) < 0)
		return err_errno(err, -errno, "socket");
	if (bind(fd, &a->any, metrics_address_size(a)) < 0)
		return err_errno(err, -errno, "bind");
	if (listen(fd, METRICS_BACKLOG) < 0)
		return err_errno(err, -errno, "listen");
	*ret_fd = take_fd(&fd);
	return 0;
}
