/* SPDX-License-Identifier: Apache-2.0 */
/*
 * HTTP requests (1.1 and 2, TLS) by libcurl's multi interface, driven by the loop. Connections are
 * kept and reused. Redirects are not followed and nothing is retried here: registry.h decides.
 */
#ifndef FIRSTLIGHT_NET_HTTP_H
#define FIRSTLIGHT_NET_HTTP_H

#include <stdbool.h>
#include <stdint.h>

#include "base/arena.h"
#include "base/err.h"
#include "base/str.h"
#include "loop/task.h"

struct http;
struct loop;

int http_new(struct loop *loop, struct http **ret, struct err *err) must_check;
/* No request may be running. */
may_suspend void http_free(struct http *h);

/* Of a host; must outlive the request. Two requests share connections only when all is equal. */
struct http_tls {
	struct str ca;        /* PEM text beside the system's; empty = none */
	struct str cert, key; /* PEM text; empty = none */
	bool skip_verify;
};

struct http_header {
	struct str name, value; /* name in lower case */
};

/* The head of the answer; valid until the request returns. */
struct http_head {
	int status;
	const struct http_header *headers;
	size_t headers_n;
};

/* The first header of that (lower-case) name; empty if there is none. */
struct str http_header(const struct http_head *h, const char *name);

struct http_request {
	const char *method;         /* "GET", "HEAD", "POST", "PUT" */
	const char *url;            /* http:// or https:// only */
	const char *const *headers; /* "Name: value" */
	size_t headers_n;
	struct str body; /* of a POST or PUT; sent from where it is, so it may be a mapped file */
	const struct http_tls *tls;  /* NULL = the system's */
	unsigned connect_timeout_ms; /* 0 = HTTP_CONNECT_TIMEOUT_MS; TLS included */
	unsigned idle_timeout_ms;    /* no byte for so long; 0 = HTTP_IDLE_TIMEOUT_MS */
	unsigned timeout_ms;         /* of the whole request; 0 = none */
	/*
	 * Called on the loop's stack: must not suspend, nor call http_run(). A negative answer ends
	 * the request, is its result, and closes the connection if the body has not ended. on_head
	 * may be NULL.
	 */
	int (*on_head)(void *arg, const struct http_head *head);
	int (*on_body)(void *arg, const void *data, size_t n);
	void *arg;
	bool pausable; /* http_pause() holds it, and little of it is under way; speaks HTTP/1.1 */
	const bool *urgent; /* may become true: not pausable from the next http_urgent() on */
};

/*
 * Runs it to its end; 0 when the answer is complete, whatever its status. The head lives in a.
 * -ECANCELED, -ETIMEDOUT, -ECONNREFUSED, -EHOSTUNREACH (name or route), -ECONNRESET (connection
 * lost, body shorter than announced), -EPROTO (no HTTP), -EKEYREJECTED (TLS does not verify),
 * -EPROTONOSUPPORT (the peer speaks no TLS), -EMSGSIZE (head larger than HTTP_HEAD_MAX), -EINVAL,
 * -ENOMEM.
 */
may_suspend int http_run(struct http *h, const struct http_request *q, struct arena *a,
			 struct http_head *ret_head, struct err *err);

/* While paused, pausable requests take no bytes from their sockets; their time-outs stand still.
 * May be called anywhere on the loop's thread; takes effect at the end of the turn. */
void http_pause(struct http *h, bool paused);

/* Some request's urgent may have become true. As http_pause(). */
void http_urgent(struct http *h);

#endif
