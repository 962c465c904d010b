/* SPDX-License-Identifier: Apache-2.0 */
/*
 * HTTP/2 (RFC 9113) over a conn, server or client. Frames are written once a turn, many in one
 * send. One task reads (h2_run), a second one waits when the peer does not take what is written.
 * Streams lie in memory of the caller. No function suspends but those that are marked. Loop thread
 * only.
 */
#ifndef FIRSTLIGHT_NET_H2_H
#define FIRSTLIGHT_NET_H2_H

#include "base/buf.h"
#include "base/str.h"
#include "loop/sync.h"
#include "net/conn.h"

#define H2_FIELDS_MAX 32 /* header fields that we send in one block */

/* Error codes of RFC 9113, section 7, as far as they are used by name. */
#define H2_NO_ERROR          0u
#define H2_REFUSED_STREAM    7u
#define H2_CANCEL            8u
#define H2_ENHANCE_YOUR_CALM 11u
#define H2_LOST              UINT32_MAX /* not of the RFC: the connection is gone */

struct loop;
struct h2;

struct h2_stream {
	struct h2 *h2;    /* NULL: not, or no longer, in a session */
	struct list link; /* h2's streams */
	int32_t id;
	size_t header_bytes; /* of the block that is arriving */
	bool header_over;    /* it was larger than HEADER_LIST_MAX, its rest was dropped */
	bool in_end;         /* the peer will send no more */
	bool started;        /* our headers are on their way */
	bool out_end;        /* nothing is put into out any more */
	bool reset;          /* RST_STREAM is queued */
	bool parked;         /* nghttp2 waits until out has something */
	struct buf out;
	size_t out_off; /* bytes of out that are sent */
	struct waitq writable;
};

struct h2_field {
	struct str name, value;
	bool fixed; /* both live for ever */
};

/* What happens to a connection. No function here may suspend, or free the h2. */
struct h2_events {
	/* Server: memory for a new stream, or NULL to refuse it. h2_stream_init() is done here. */
	struct h2_stream *(*stream)(void *arg);
	/* A field; the strings live until it returns. The block is complete. */
	void (*field)(struct h2_stream *s, struct str name, struct str value);
	void (*fields_end)(struct h2_stream *s);
	/* Body. Credit for it is given by h2_credit(). */
	void (*data)(struct h2_stream *s, const uint8_t *data, size_t len);
	/* in_end has become true. */
	void (*end)(struct h2_stream *s);
	/* Server: fields after the body; how many (≤ H2_FIELDS_MAX). Called once, at its end. */
	size_t (*trailers)(struct h2_stream *s, struct h2_field *fields);
	/* The stream has left the session (s->h2 is NULL); its memory is the caller's again. */
	void (*closed)(struct h2_stream *s, uint32_t code);
};

enum h2_side { H2_SERVER, H2_CLIENT };

/* Takes conn over, also on failure. arg goes to events->stream. -ENOMEM. */
int h2_new(struct loop *loop, struct conn *conn, enum h2_side side, const struct h2_events *events,
	   void *arg, struct h2 **ret_h2) must_check;

/*
 * Reads until the connection is over; then all streams are closed with H2_LOST. Answers why:
 * -ESHUTDOWN the peer has closed or both sides are done, -EPROTO, -ETIMEDOUT (handshake, silence,
 * a peer that takes nothing), -ENOBUFS (a flood), -ECANCELED, or what the socket said.
 */
may_suspend int h2_run(struct h2 *h2);

/* After h2_run. */
void h2_free(struct h2 *h2);

/* Ends the connection; h2_run returns soon. */
void h2_cut(struct h2 *h2, int why);

/* Server: no new streams; the connection ends when the running ones have. */
void h2_drain(struct h2 *h2);

/* Client: until the peer's SETTINGS are here. -ETIMEDOUT, -ECANCELED, or why the connection ended.
 */
may_suspend int h2_wait_settled(struct h2 *h2, unsigned timeout_ms);

/* Client: until one more stream may be opened. Errors as above, -ESHUTDOWN after a GOAWAY. */
may_suspend int h2_wait_slot(struct h2 *h2, unsigned timeout_ms);

/* Can streams still be opened? */
bool h2_usable(const struct h2 *h2);

void h2_stream_init(struct h2_stream *s);
void h2_stream_fini(struct h2_stream *s);

/* Client: opens s; its body is what h2_write() brings, until h2_end(). -ENOMEM, -ESHUTDOWN. */
int h2_request(struct h2 *h2, struct h2_stream *s, const struct h2_field *fields, size_t n);

/* Server: headers; the body and the trailers follow, or nothing with `last`. */
int h2_respond(struct h2_stream *s, const struct h2_field *fields, size_t n, bool last);

/* Queues bytes of the body. -ENOMEM, -ECONNRESET when the stream is gone. */
int h2_write(struct h2_stream *s, const void *head, size_t head_len, const void *data, size_t len);

/* Bytes of the body that are queued and not yet framed. */
static inline size_t h2_pending(const struct h2_stream *s)
{
	return s->out.len - s->out_off;
}

/* The body is complete. */
void h2_end(struct h2_stream *s);

/* RST_STREAM; closed follows. */
void h2_reset(struct h2_stream *s, uint32_t code);

/* RST_STREAM, and the session forgets s at once, without closed. */
void h2_forget(struct h2_stream *s, uint32_t code);

/* The peer may send n more bytes on this stream. */
void h2_credit(struct h2_stream *s, size_t n);

#endif
