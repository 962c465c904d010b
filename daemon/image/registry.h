/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Registries (OCI distribution-spec): where to ask, as whom, how often. Hosts and mirrors from
 * containerd's hosts.toml, credentials from docker's config.json and its helpers, tokens,
 * redirects, retries, circuit breakers, and the node-wide budget of requests by class. Bytes are
 * not verified here. Loop thread.
 */
#ifndef FIRSTLIGHT_IMAGE_REGISTRY_H
#define FIRSTLIGHT_IMAGE_REGISTRY_H

#include <stdint.h>

#include "base/arena.h"
#include "base/buf.h"
#include "base/digest.h"
#include "base/err.h"
#include "base/str.h"
#include "loop/task.h"
#include "net/http.h"

struct loop;
struct registry;
struct work;

struct registry_options {
	/* Roots of hosts.toml trees, ':' between them (containerd's config_path); NULL = none. */
	const char *hosts_dirs;
	const char *docker_config; /* config.json; NULL = $DOCKER_CONFIG, then $HOME/.docker */
	const char *user_agent;
	const char *plain_file; /* hosts that speak plain HTTP, a line each; NULL = none */
	int logins_fd;          /* where credentials outlive us (image/logins.h); 0 = none */
};

/* options and its strings stay the caller's. threads: for files and for credential helpers. */
int registry_new(struct loop *loop, struct http *http, struct work *threads,
		 const struct registry_options *options, struct registry **ret,
		 struct err *err) must_check;
/* No request may be running. */
may_suspend void registry_free(struct registry *r);

/* Who waits for it. Demand goes before prediction before background, in the budget and on the
 * wire: background stands still while demand is under way. */
enum fetch_class { FETCH_DEMAND, FETCH_PREDICTED, FETCH_BACKGROUND, FETCH_CLASSES };

/*
 * A manifest or index by digest. ref: a reference as containerd normalises it
 * ("docker.io/library/redis:7", "host:5000/a/b@sha256:..."); only host and repository count. The
 * body is verified against digest (by each host's answer; a host that lies is passed over).
 * -ENOENT, -EACCES (401, 403), -EBADMSG, -EFBIG (MANIFEST_MAX), -EAGAIN (429 beyond the retries),
 * -EINVAL (ref), and what http_run() answers. err says host, status and the registry's message.
 */
may_suspend int registry_manifest(struct registry *r, struct str ref, const struct digest *digest,
				  enum fetch_class class, struct buf *ret_body, struct err *err);

/*
 * The manifest or index of a reference: by its digest if it has one, else by its tag; then the
 * body's own digest is what the tag means. ret_type: its media type, as the host says (empty if it
 * does not), NUL behind, in a. Errors as registry_manifest().
 */
may_suspend int registry_resolve(struct registry *r, struct str ref, struct arena *a,
				 struct buf *ret_body, struct digest *ret_digest,
				 struct str *ret_type, struct err *err);

/* The host of a reference speaks plain HTTP: noted in plain_file, so that it is so after a restart
 * too. -EINVAL, -ENOSPC (REGISTRY_PLAIN_MAX), -EIO. */
may_suspend int registry_plain(struct registry *r, struct str ref, struct err *err);
/* Credentials for the host of a reference, in memory: they go to no mirror, and after a restart
 * docker's config counts again. -EINVAL, -ENOMEM. */
int registry_login(struct registry *r, struct str ref, struct str user, struct str secret,
		   struct err *err);

/* A part of a blob. */
struct blob_request {
	struct str ref;
	struct digest digest;
	uint64_t off, len; /* len > 0. off BLOB_TAIL: the last len bytes, or all */
	enum fetch_class class;
	uint32_t skip_hosts; /* bit i: not from host number i (it sent wrong bytes before) */
	/* The bytes, in order and without gaps, also over retries and other hosts. On the loop's
	 * stack: must not suspend. off counts in the blob. Negative: the request ends with that. */
	int (*on_data)(void *arg, uint64_t off, const void *data, size_t n);
	void *arg;
	/* NULL, or of a background one what may become true while it runs: demand waits for it now,
	 * it stands still no more. Then registry_urgent(). */
	const bool *urgent;
};
#define BLOB_TAIL UINT64_MAX

struct blob_answer {
	uint64_t blob_size; /* as the registry says; 0 = it did not */
	uint32_t host;      /* number of the host that gave the (last) bytes, for skip_hosts */
	uint32_t hosts_n;   /* how many there are to try */
	int status;         /* last HTTP status; 0 = no answer at all */
	char host_name[256];
};

/*
 * All len bytes have been given to on_data when 0 is returned. Connection errors, 5xx and 429 are
 * retried with jitter, then the next host is tried; a request may take REGISTRY_REQUEST_TIMEOUT_MS
 * in all, and a second more for each REGISTRY_BYTES_A_SECOND. A registry that ignores Range is read
 * from the start, and bytes before off are dropped. Errors as registry_manifest(); ret is filled on
 * error too.
 */
may_suspend int registry_blob(struct registry *r, const struct blob_request *q,
			      struct blob_answer *ret, struct err *err);

/* Some request's urgent may have become true. */
void registry_urgent(struct registry *r);

struct registry_stats {
	uint64_t requests[FETCH_CLASSES], bytes[FETCH_CLASSES];
	uint64_t bytes_mirror; /* of all bytes, those that another host than the image's own gave */
	uint64_t retries, throttled, breaker_open;
	unsigned running[FETCH_CLASSES], waiting[FETCH_CLASSES];
	unsigned breakers; /* hosts that are not asked now */
};
void registry_stats(const struct registry *r, struct registry_stats *ret);

enum request_outcome {
	REQUEST_OK,        /* 2xx, 3xx */
	REQUEST_REFUSED,   /* 4xx: also the 401 that tells how to ask */
	REQUEST_FAILED,    /* 5xx */
	REQUEST_NETWORK,   /* no answer */
	REQUEST_CANCELLED, /* not wanted any more */
	REQUEST_OUTCOMES
};

/* What became of the requests to a host; those for tokens are not counted. */
struct registry_host {
	char *authority; /* NULL: all those that have none of their own */
	uint64_t requests[REQUEST_OUTCOMES];
};
/* The METRICS_HOSTS_MAX that were asked first, and one for the others. They only grow. */
const struct registry_host *registry_hosts(const struct registry *r, size_t *ret_n);

#endif
