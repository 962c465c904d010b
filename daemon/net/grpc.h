/* SPDX-License-Identifier: Apache-2.0 */
/*
 * gRPC over HTTP/2 (github.com/grpc/grpc, doc/PROTOCOL-HTTP2.md) on unix sockets: a server, whose
 * handlers are tasks, and a client. Messages are bytes here. Loop thread only.
 */
#ifndef FIRSTLIGHT_NET_GRPC_H
#define FIRSTLIGHT_NET_GRPC_H

#include <stdbool.h>

#include "base/buf.h"
#include "base/err.h"
#include "net/conn.h"

enum grpc_code {
	GRPC_OK = 0,
	GRPC_CANCELLED = 1,
	GRPC_UNKNOWN = 2,
	GRPC_INVALID_ARGUMENT = 3,
	GRPC_DEADLINE_EXCEEDED = 4,
	GRPC_NOT_FOUND = 5,
	GRPC_ALREADY_EXISTS = 6,
	GRPC_PERMISSION_DENIED = 7,
	GRPC_RESOURCE_EXHAUSTED = 8,
	GRPC_FAILED_PRECONDITION = 9,
	GRPC_ABORTED = 10,
	GRPC_OUT_OF_RANGE = 11,
	GRPC_UNIMPLEMENTED = 12,
	GRPC_INTERNAL = 13,
	GRPC_UNAVAILABLE = 14,
	GRPC_DATA_LOSS = 15,
	GRPC_UNAUTHENTICATED = 16,
};
#define GRPC_CODES            17

#define GRPC_NO_DEADLINE      UINT32_MAX /* as timeout_ms of a client's call: a subscription */
#define GRPC_METADATA_MAX     16         /* pairs that a client sends with a call */
#define GRPC_DEFAULT_DEADLINE 0          /* as timeout_ms: RPC_TIMEOUT_MAX_MS */

struct loop;
struct grpc_call;
struct grpc_server;
struct grpc_client;

/* "NotFound" and so on, as Go's library writes them; "Code(99)" is "Unknown". */
const char *grpc_code_name(enum grpc_code code);

/* The errno that a caller sees for an answer; 0 for GRPC_OK. */
int grpc_code_errno(enum grpc_code code);

/* --- both sides ------------------------------------------------------------------------------ */

/*
 * The next message, which replaces what msg holds. 1 = here it is, 0 = the peer sends no more,
 * -ECANCELED, -ETIMEDOUT (deadline), -ECONNRESET (call or connection gone), -EMSGSIZE, -EBADMSG,
 * -ENOMEM. On a client grpc_finish() says more.
 */
may_suspend int grpc_recv(struct grpc_call *call, struct buf *msg) must_check;

/* Queues a copy. Suspends while GRPC_STREAM_OUT_MAX bytes wait. Errors as above. */
may_suspend int grpc_send(struct grpc_call *call, const void *msg, size_t len) must_check;

/* On the loop's clock; UINT64_MAX = none. */
uint64_t grpc_call_deadline_ns(const struct grpc_call *call);

/* --- server ---------------------------------------------------------------------------------- */

/*
 * A handler runs as a task and may suspend. Answers the status; err carries its text when it is not
 * GRPC_OK (a text alone is enough). When the client is gone or the deadline has passed its task is
 * cancelled and its answer goes nowhere; call stays valid until it returns.
 */
typedef enum grpc_code grpc_handler(struct grpc_call *call, void *arg, struct err *err);

struct grpc_method {
	const char *path; /* "/package.Service/Method" */
	grpc_handler *serve;
	bool follows; /* a stream that may last: RPC_FOLLOW_MAX_MS, not RPC_TIMEOUT_MAX_MS */
};

/* For log lines. */
const char *grpc_call_path(const struct grpc_call *call);
const struct peer *grpc_call_peer(const struct grpc_call *call);

/* methods stay the caller's and live as long as the server; arg goes to the handlers. */
int grpc_server_new(struct loop *loop, const struct grpc_method *methods, size_t n, void *arg,
		    struct grpc_server **ret_server, struct err *err) must_check;

/*
 * Accepts connections until the calling task is cancelled (-ECANCELED) or listen_fd, which stays
 * the caller's, is of no use. Connections live on until grpc_server_drain(). May run for several
 * sockets.
 */
may_suspend int grpc_server_run(struct grpc_server *server, int listen_fd);

/* Serves one connected socket, which is taken over. -ENOMEM, -EAGAIN, -EBUSY (CONNECTIONS_MAX). */
int grpc_server_serve(struct grpc_server *server, int fd) must_check;

/*
 * GOAWAY to all; waits for the running calls, for timeout_ms at most (or until the caller's task is
 * cancelled); then cancels them. All connections are closed and all handlers have returned
 * afterwards. New connections are refused from now on.
 */
may_suspend void grpc_server_drain(struct grpc_server *server, unsigned timeout_ms);

/* After grpc_server_drain() and the end of grpc_server_run(). NULL is allowed. */
void grpc_server_free(struct grpc_server *server);

struct grpc_server_stats {
	size_t connections; /* open now */
	uint64_t accepted, refused;
	size_t calls; /* running now */
};
void grpc_server_stats(const struct grpc_server *server, struct grpc_server_stats *ret);

/* Calls of methods[method] that have ended, by code; method n: of all that nobody serves. */
const uint64_t *grpc_server_calls(const struct grpc_server *server, size_t method);
/* Those that were given to grpc_server_new(). */
const struct grpc_method *grpc_server_methods(const struct grpc_server *server, size_t *ret_n);

/* --- client ---------------------------------------------------------------------------------- */

struct grpc_metadata {
	const char *name, *value; /* name in lower case; a value of "…-bin" is base64 already */
};

/* Connects and waits for the server's first words. -ETIMEDOUT, -EPROTO, those of connect(2). */
may_suspend int grpc_dial(struct loop *loop, const char *path, unsigned timeout_ms,
			  struct grpc_client **ret_client, struct err *err) must_check;

/* Can calls still be made? If not, close it and dial again. */
bool grpc_client_usable(const struct grpc_client *client);

/* Open calls end with GRPC_UNAVAILABLE; they still have to be finished. NULL is allowed. */
may_suspend void grpc_client_close(struct grpc_client *client);

/*
 * Opens a call; waits while the connection has as many as it can. -ETIMEDOUT, -ECANCELED, -E2BIG
 * (metadata), -ENOMEM, -ESHUTDOWN and others: the connection is of no use any more.
 */
may_suspend int grpc_call_start(struct grpc_client *client, const char *method,
				const struct grpc_metadata *md, size_t n, unsigned timeout_ms,
				struct grpc_call **ret_call, struct err *err) must_check;

/* No more messages from us. */
may_suspend int grpc_close_send(struct grpc_call *call);

/*
 * Waits for the status, drops unread messages, frees the call. When the calling task is cancelled
 * the server is told, and it is GRPC_CANCELLED at once. To abandon a call: grpc_cancel() before.
 */
may_suspend enum grpc_code grpc_finish(struct grpc_call *call, struct err *err);

/* Tells the server to stop; the status is GRPC_CANCELLED unless one has arrived. */
void grpc_cancel(struct grpc_call *call);

/* One message there, one back. resp is replaced; it is empty when the answer is not GRPC_OK. */
may_suspend enum grpc_code grpc_unary(struct grpc_client *client, const char *method,
				      const struct grpc_metadata *md, size_t n, unsigned timeout_ms,
				      const void *req, size_t len, struct buf *resp,
				      struct err *err);

#endif
