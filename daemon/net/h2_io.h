/* SPDX-License-Identifier: Apache-2.0 */
/* The inside of struct h2, shared by h2.c (the session) and h2_io.c (its tasks). Not for others. */
#ifndef FIRSTLIGHT_NET_H2_IO_H
#define FIRSTLIGHT_NET_H2_IO_H

#include "base/limits.h"
#include "loop/loop.h"
#include "loop/scope.h"
#include "net/h2.h"

#define H2_READ_BYTES KiB(32)
#define NS_PER_MS     1000000ull

struct nghttp2_session;

struct h2 {
	struct loop *loop;
	struct conn conn;
	struct nghttp2_session *session;
	const struct h2_events *events;
	void *arg;
	struct list streams; /* h2_stream.link */
	size_t count;
	struct scope scope; /* the writer */
	bool server, settled, going_away, over;
	int why; /* the connection ended; 0 = it has not */
	uint64_t handshake_due_ns, ping_due_ns;
	struct buf out;
	size_t out_off;
	bool blocked; /* out belongs to the writer */
	struct defer flush;
	struct timer drain_timer;
	struct waitq blocked_wait; /* the writer */
	struct waitq changed;      /* settled, a free slot, the end */
	uint8_t in[H2_READ_BYTES];
};

/* --- h2.c --- */

/* The session, with our SETTINGS queued. -ENOMEM; free it in any case. */
int h2_session_new(struct h2 *h2);
void h2_session_free(struct h2 *h2);

/* Moves frames into out, up to its limit. -ENOMEM, -EPROTO. */
int h2_gather(struct h2 *h2);
/* Hands received bytes to the session. -EPROTO, -ENOMEM, -ENOBUFS. */
int h2_feed(struct h2 *h2, const uint8_t *data, size_t len);
/* Nothing is to be read or written any more. */
bool h2_done(struct h2 *h2);
int h2_ping(struct h2 *h2);
/* Client: streams that may be open at once. */
size_t h2_slots(struct h2 *h2);

/* --- h2_io.c --- */

/* Something may have to be written at the end of this turn. */
void h2_schedule(struct h2 *h2);
void h2_flush(struct defer *d);
/* The stream is out of the session; closed is not called. */
void h2_leave(struct h2_stream *s);

#endif
