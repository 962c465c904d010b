/* SPDX-License-Identifier: Apache-2.0 */
/* The words of a hosts.toml, before they become hosts. For hosts.c. Pure. */
#ifndef FIRSTLIGHT_IMAGE_HOSTS_TOML_H
#define FIRSTLIGHT_IMAGE_HOSTS_TOML_H

#include "base/arena.h"
#include "base/err.h"
#include "base/limits.h"
#include "base/str.h"

#define HOST_FILES_MAX   32
#define HOST_HEADERS_MAX 64

/* The root, or one [host."…"] table. Strings end in NUL. */
struct host_entry {
	const char *url; /* NULL: root without server */
	unsigned can;    /* 0 = not said */
	const char *ca[HOST_FILES_MAX];
	size_t ca_n;
	const char *cert, *key; /* the first client pair; key NULL: in cert */
	bool tls;               /* any key of TLS */
	bool skip_verify, override_path;
	const char *headers[HOST_HEADERS_MAX];
	size_t headers_n;
	unsigned dial_timeout_ms;
};

struct hosts_toml {
	struct host_entry root;
	struct host_entry *hosts[REGISTRY_HOSTS_MAX - 1];
	size_t hosts_n;
	struct arena *arena;
};

/* -EINVAL, -ENOMEM. t->arena is the caller's. */
int hosts_toml_parse(struct hosts_toml *t, struct str text, struct err *err);

/* Go's time.ParseDuration; -EINVAL: none, negative or over an hour. */
int duration_parse(struct str text, unsigned *ret_ms);

#endif
