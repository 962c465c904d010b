/* SPDX-License-Identifier: Apache-2.0 */
/* The inside of struct grpc_call, shared by grpc.c, grpc_server.c and grpc_client.c. Not for
 * others. */
#ifndef FIRSTLIGHT_NET_GRPC_CALL_H
#define FIRSTLIGHT_NET_GRPC_CALL_H

#include "base/limits.h"
#include "loop/loop.h"
#include "net/grpc.h"
#include "net/h2.h"

#define GRPC_HEAD_BYTES 5 /* before each message: compressed?, length (big-endian) */

struct grpc_call;
struct grpc_conn;

/* What the two sides do differently. */
struct grpc_side {
	/* Decides the status now, whatever is going on; input is dropped. */
	void (*fail)(struct grpc_call *call, enum grpc_code code, const char *text);
	/* Before the first message goes out; NULL = nothing to do. */
	int (*open)(struct grpc_call *call);
};

struct grpc_call {
	struct h2_stream s;
	struct loop *loop;
	const struct grpc_side *side;

	/* messages that came: in[in_off..in_parsed) are `ready` complete ones */
	struct buf in;
	size_t in_off, in_parsed, ready;
	size_t message_max;
	size_t owed;       /* bytes that the peer was given no new credit for */
	size_t *buffered;  /* sum over all calls, for GRPC_BUFFERED_MAX */
	bool discard;      /* nobody will read */
	int gone;          /* what recv and send answer when ended */
	struct waitq wait; /* something has come, or ended */

	bool ended; /* the status is decided */
	enum grpc_code code;
	struct buf text; /* server: percent-encoded; client: with its NUL */
	uint64_t deadline_ns;
	struct timer deadline;

	/* server */
	struct list link; /* grpc_conn.calls */
	struct grpc_conn *conn;
	const struct grpc_method *method;
	struct task *task;
	bool post, grpc_type, bad_timeout, encoding_hint;
	uint64_t timeout_ns;
	char *path; /* of an unknown method */

	/* client */
	size_t own_buffered; /* bounded by the window and message_max */
	bool status_seen, headers_seen;
	enum grpc_code http_code; /* what the HTTP status means; GRPC_OK = 200 */
};

/* message_max, buffered and side are set by the caller afterwards. */
void grpc_call_init(struct grpc_call *call, struct loop *loop);
void grpc_call_fini(struct grpc_call *call);

/* Sets and starts the deadline. */
void grpc_call_deadline(struct grpc_call *call, uint64_t due_ns);

/* Body bytes have come. */
void grpc_call_data(struct grpc_call *call, const uint8_t *data, size_t len);

/* Forgets what has come and is not read. */
void grpc_call_drop_input(struct grpc_call *call);

/* The start of a message is here, but not its end. */
bool grpc_call_truncated(const struct grpc_call *call);

static inline struct grpc_call *grpc_call_of(struct h2_stream *s)
{
	return container_of(s, struct grpc_call, s);
}

#endif
