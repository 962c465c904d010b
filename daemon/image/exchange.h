/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One try at one host: address, credentials, redirects, plain http where TLS is not spoken, the
 * circuit breaker. Loop thread.
 */
#ifndef FIRSTLIGHT_IMAGE_EXCHANGE_H
#define FIRSTLIGHT_IMAGE_EXCHANGE_H

#include "image/auth.h"
#include "image/hosts.h"
#include "image/location.h"
#include "image/peer.h"
#include "image/registry.h"

#define EXCHANGE_HEADERS_MAX 8

/* What all exchanges share. */
struct exchanger {
	struct loop *loop;
	struct http *http;
	struct auth *auth;
	struct peers peers;
	struct locations locations;
	const char *user_agent; /* "User-Agent: …" */
	struct registry_stats stats;
};

struct exchange {
	struct exchanger *all;
	const struct host *host;
	const char *ns, *repository;
	const char *what;   /* "blobs/sha256:…" */
	const char *method; /* NULL = "GET" */
	const char *url;    /* instead of the address that host, repository and what make; NULL */
	struct str body;    /* of POST and PUT */
	bool push;          /* any 2xx is an answer, and takes no body */
	const char *headers[EXCHANGE_HEADERS_MAX]; /* "Name: value" */
	size_t headers_n;
	bool blob; /* remember where it is */
	enum fetch_class class;
	const bool *urgent;  /* as in struct blob_request */
	unsigned timeout_ms; /* of all hops together */
	/* Of an answer with 200 or 206; as in http.h. -EALREADY: there is no need of more. */
	int (*on_head)(void *arg, const struct http_head *head);
	int (*on_body)(void *arg, const void *data, size_t n);
	void *arg;
	struct arena *arena;
	/* its result */
	int status;       /* the last one; 0 = none */
	unsigned wait_ms; /* by Retry-After, or until the breaker lets one through; 0 = not said */
};

/*
 * 0: a 200 or 206 has been taken. -EACCES (401, 403), -ENOENT (404), -ERANGE (416), -EAGAIN (429),
 * -EIO (5xx, 408), -EBADMSG (anything else), -EHOSTDOWN (breaker), what on_head and on_body
 * answered, and what http_run() answers.
 */
may_suspend int exchange_run(struct exchange *x, struct err *err);

#endif
