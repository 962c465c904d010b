/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where a namespace's images are: containerd's hosts.toml (docs/hosts.md) and docker's certificate
 * directories. Reads files: for worker threads.
 */
#ifndef FIRSTLIGHT_IMAGE_HOSTS_H
#define FIRSTLIGHT_IMAGE_HOSTS_H

#include "base/arena.h"
#include "base/err.h"
#include "base/str.h"
#include "net/http.h"

enum { HOST_PULL = 1, HOST_RESOLVE = 2, HOST_PUSH = 4, HOST_REFERRERS = 8, HOST_ALL = 15 };

struct host {
	const char *authority; /* host[:port] */
	const char *path;      /* before "/NAME/blobs/…": "/v2", "" */
	bool https;
	bool fallback; /* https first; plain http when it speaks no TLS */
	bool no_port;  /* the fallback also when nobody listens */
	bool ns;       /* wants the ns parameter */
	unsigned can;  /* HOST_… */
	struct http_tls tls;
	const char *const *headers; /* "Name: value" */
	size_t headers_n;
	unsigned dial_timeout_ms; /* 0 = the default */
};

struct hosts {
	unsigned refs; /* for the owner's use */
	struct arena arena;
	const char *ns;
	struct host *list; /* in the order to ask */
	size_t n;
};

/* ns: "docker.io", "host:5000". dirs: roots, ':' between them; may be NULL. -EINVAL (bad files),
 * -ENOMEM, or what reading failed with. A hosts.toml that cannot be parsed is passed over with a
 * line in the log. */
int hosts_load(const char *dirs, const char *ns, struct hosts **ret, struct err *err);
void hosts_free(struct hosts *h);

/* The namespace's own host speaks plain HTTP. */
void hosts_make_plain(struct hosts *h);

/* A hosts.toml without its files, for tests: certificates are not read. */
int hosts_parse(struct str text, const char *ns, struct hosts **ret, struct err *err);

#endif
