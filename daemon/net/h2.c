// SPDX-License-Identifier: Apache-2.0
/*
 * HTTP/2 sessions: the only file that knows nghttp2. Owns the session; its tasks are in h2_io.c.
 * Connection-level credit is given at once, so that a stream that is not read holds up no other.
 */
#include "net/h2.h"

#include <nghttp2/nghttp2.h>
#include <string.h>

#include "net/h2_io.h"

#include "base/banned.h"

#define OUT_FRAMES_MAX                                                                             \
	8192               /* frames waiting to be written; more is a flood of requests for them   \
			    */
#define DRAIN_PING_MS 1000 /* for the answer to the PING between the two GOAWAYs */

static const uint8_t drain_ping[8] = "flight-1";

static int door(ssize_t r)
{
	switch (r) {
	case NGHTTP2_ERR_NOMEM:
		return -ENOMEM;
	case NGHTTP2_ERR_FLOODED:
		return -ENOBUFS;
	default:
		return -EPROTO;
	}
}

/* --- streams --------------------------------------------------------------------------------- */

static void stream_join(struct h2 *h2, struct h2_stream *s, int32_t id)
{
	s->h2 = h2;
	s->id = id;
	list_push(&h2->streams, &s->link);
	h2->count++;
}

static struct h2_stream *stream_of(nghttp2_session *session, int32_t id)
{
	return nghttp2_session_get_stream_user_data(session, id);
}

/* --- what nghttp2 calls ---------------------------------------------------------------------- */

static int on_begin_headers(nghttp2_session *session, const nghttp2_frame *frame, void *arg)
{
	struct h2 *h2 = arg;
	struct h2_stream *s = stream_of(session, frame->hd.stream_id);

	if (s) { /* the answer, or trailers */
		s->header_bytes = 0;
		return 0;
	}
	if (!h2->server || frame->headers.cat != NGHTTP2_HCAT_REQUEST)
		return 0;
	s = h2->events->stream(h2->arg);
	if (!s)
		return nghttp2_submit_rst_stream(session, NGHTTP2_FLAG_NONE, frame->hd.stream_id,
						 NGHTTP2_REFUSED_STREAM);
	stream_join(h2, s, frame->hd.stream_id);
	return nghttp2_session_set_stream_user_data(session, s->id, s);
}

static int on_header(nghttp2_session *session, const nghttp2_frame *frame, const uint8_t *name,
		     size_t name_len, const uint8_t *value, size_t value_len, uint8_t flags,
		     void *arg)
{
	struct h2 *h2 = arg;
	struct h2_stream *s = stream_of(session, frame->hd.stream_id);

	(void)flags;
	if (!s || (h2->server && frame->headers.cat != NGHTTP2_HCAT_REQUEST))
		return 0;
	s->header_bytes += name_len + value_len;
	if (s->header_bytes > HEADER_LIST_MAX)
		s->header_over = true;
	else
		h2->events->field(s, (struct str){(const char *)name, name_len},
				  (struct str){(const char *)value, value_len});
	return 0;
}

static int on_data(nghttp2_session *session, uint8_t flags, int32_t id, const uint8_t *data,
		   size_t len, void *arg)
{
	struct h2 *h2 = arg;
	struct h2_stream *s = stream_of(session, id);

	(void)flags;
	if (s)
		h2->events->data(s, data, len);
	else if (nghttp2_session_consume_stream(session, id, len) == NGHTTP2_ERR_NOMEM)
		return NGHTTP2_ERR_CALLBACK_FAILURE;
	return nghttp2_session_consume_connection(session, len) == 0 ? 0
								     : NGHTTP2_ERR_CALLBACK_FAILURE;
}

static void on_goaway(struct h2 *h2)
{
	h2->going_away = true;
	waitq_wake_all(&h2->changed);
}

/* The second GOAWAY, which names the last stream that is served. */
static void drain_finally(struct h2 *h2)
{
	timer_stop(h2->loop, &h2->drain_timer);
	if (h2->over)
		return;
	if (nghttp2_submit_goaway(h2->session, NGHTTP2_FLAG_NONE,
				  nghttp2_session_get_last_proc_stream_id(h2->session),
				  NGHTTP2_NO_ERROR, NULL, 0) < 0)
		h2_cut(h2, -ENOMEM);
	h2_schedule(h2);
}

static void on_session_frame(struct h2 *h2, const nghttp2_frame *frame)
{
	bool ack = frame->hd.flags & NGHTTP2_FLAG_ACK;

	if (frame->hd.type == NGHTTP2_SETTINGS && !ack) {
		h2->settled = true;
		waitq_wake_all(&h2->changed);
	} else if (frame->hd.type == NGHTTP2_GOAWAY) {
		on_goaway(h2);
	} else if (frame->hd.type == NGHTTP2_PING && ack && h2->drain_timer.slot &&
		   memcmp(frame->ping.opaque_data, drain_ping, sizeof(drain_ping)) == 0) {
		drain_finally(h2);
	}
}

static int on_frame(nghttp2_session *session, const nghttp2_frame *frame, void *arg)
{
	struct h2 *h2 = arg;
	struct h2_stream *s;
	uint8_t type = frame->hd.type;

	if (type != NGHTTP2_HEADERS && type != NGHTTP2_DATA) {
		on_session_frame(h2, frame);
		return 0;
	}
	s = stream_of(session, frame->hd.stream_id);
	if (s && type == NGHTTP2_HEADERS &&
	    (!h2->server || frame->headers.cat == NGHTTP2_HCAT_REQUEST))
		h2->events->fields_end(s);
	if (s && frame->hd.flags & NGHTTP2_FLAG_END_STREAM) {
		s->in_end = true;
		h2->events->end(s);
	}
	return 0;
}

/* A server that has answered before the request was complete does not want the rest. */
static int on_sent(nghttp2_session *session, const nghttp2_frame *frame, void *arg)
{
	struct h2 *h2 = arg;
	struct h2_stream *s;

	if (!h2->server || frame->hd.type != NGHTTP2_HEADERS ||
	    !(frame->hd.flags & NGHTTP2_FLAG_END_STREAM))
		return 0;
	s = stream_of(session, frame->hd.stream_id);
	if (!s || s->in_end)
		return 0;
	return nghttp2_submit_rst_stream(session, NGHTTP2_FLAG_NONE, s->id, NGHTTP2_NO_ERROR);
}

static int on_close(nghttp2_session *session, int32_t id, uint32_t code, void *arg)
{
	struct h2 *h2 = arg;
	struct h2_stream *s = stream_of(session, id);

	if (s) {
		h2_leave(s);
		h2->events->closed(s, code);
	}
	return 0;
}

static size_t to_nv(nghttp2_nv *nv, const struct h2_field *f, size_t n)
{
	require(n <= H2_FIELDS_MAX);
	for (size_t i = 0; i < n; i++)
		nv[i] = (nghttp2_nv){
			.name = (uint8_t *)(uintptr_t)f[i].name.p,
			.namelen = f[i].name.len,
			.value = (uint8_t *)(uintptr_t)f[i].value.p,
			.valuelen = f[i].value.len,
			.flags = f[i].fixed ? NGHTTP2_NV_FLAG_NO_COPY_NAME |
						      NGHTTP2_NV_FLAG_NO_COPY_VALUE
					    : NGHTTP2_NV_FLAG_NONE,
		};
	return n;
}

/* How much body goes into the next frame; the bytes themselves are fetched by on_send_body. */
static ssize_t on_body(nghttp2_session *session, int32_t id, uint8_t *buf, size_t len,
		       uint32_t *flags, nghttp2_data_source *source, void *arg)
{
	struct h2 *h2 = arg;
	struct h2_stream *s = stream_of(session, id);
	struct h2_field fields[H2_FIELDS_MAX];
	nghttp2_nv nv[H2_FIELDS_MAX];
	size_t n;

	(void)buf, (void)source;
	if (!s)
		return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
	n = h2_pending(s) < len ? h2_pending(s) : len;
	if (n == 0 && !s->out_end) {
		s->parked = true;
		return NGHTTP2_ERR_DEFERRED;
	}
	if (n)
		*flags |= NGHTTP2_DATA_FLAG_NO_COPY;
	if (n < h2_pending(s) || !s->out_end)
		return (ssize_t)n;
	*flags |= NGHTTP2_DATA_FLAG_EOF;
	if (!h2->server)
		return (ssize_t)n;
	*flags |= NGHTTP2_DATA_FLAG_NO_END_STREAM;
	if (nghttp2_submit_trailer(session, id, nv,
				   to_nv(nv, fields, h2->events->trailers(s, fields))) < 0)
		return NGHTTP2_ERR_CALLBACK_FAILURE;
	return (ssize_t)n;
}

static int on_send_body(nghttp2_session *session, nghttp2_frame *frame, const uint8_t *head,
			size_t len, nghttp2_data_source *source, void *arg)
{
	struct h2 *h2 = arg;
	struct h2_stream *s = stream_of(session, frame->hd.stream_id);

	(void)source;
	if (h2->out.len >= H2_OUT_MAX)
		return NGHTTP2_ERR_WOULDBLOCK;
	if (!s)
		return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
	require(len <= h2_pending(s) && frame->data.padlen == 0);
	if (buf_reserve(&h2->out, 9 + len) < 0 || buf_append(&h2->out, head, 9) < 0 ||
	    buf_append(&h2->out, s->out.data + s->out_off, len) < 0)
		return NGHTTP2_ERR_CALLBACK_FAILURE;
	s->out_off += len;
	if (h2_pending(s) == 0)
		s->out.len = s->out_off = 0;
	if (h2_pending(s) < GRPC_STREAM_OUT_MAX / 2)
		waitq_wake_all(&s->writable);
	return 0;
}

/* --- what h2_io.c asks --- */

int h2_gather(struct h2 *h2)
{
	const uint8_t *p;
	ssize_t n;

	while (h2->out.len < H2_OUT_MAX) {
		n = nghttp2_session_mem_send(h2->session, &p);
		if (n < 0)
			return door(n);
		if (n == 0)
			break;
		if (buf_append(&h2->out, p, (size_t)n) < 0)
			return -ENOMEM;
	}
	return 0;
}

int h2_feed(struct h2 *h2, const uint8_t *data, size_t len)
{
	ssize_t n = nghttp2_session_mem_recv(h2->session, data, len);

	if (n < 0)
		return door(n);
	h2_schedule(h2);
	return nghttp2_session_get_outbound_queue_size(h2->session) > OUT_FRAMES_MAX ? -ENOBUFS : 0;
}

bool h2_done(struct h2 *h2)
{
	return !nghttp2_session_want_read(h2->session) && !nghttp2_session_want_write(h2->session);
}

int h2_ping(struct h2 *h2)
{
	return nghttp2_submit_ping(h2->session, NGHTTP2_FLAG_NONE, NULL) < 0 ? -ENOMEM : 0;
}

size_t h2_slots(struct h2 *h2)
{
	uint32_t peer = nghttp2_session_get_remote_settings(
		h2->session, NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS);

	return peer < CONNECTION_STREAMS_MAX ? peer : CONNECTION_STREAMS_MAX;
}

/* --- what the caller does -------------------------------------------------------------------- */

int h2_request(struct h2 *h2, struct h2_stream *s, const struct h2_field *fields, size_t n)
{
	nghttp2_data_provider body = {.read_callback = on_body};
	nghttp2_nv nv[H2_FIELDS_MAX];
	int32_t id;

	if (!h2_usable(h2))
		return -ESHUTDOWN;
	id = nghttp2_submit_request(h2->session, NULL, nv, to_nv(nv, fields, n), &body, s);
	if (id < 0)
		return id == NGHTTP2_ERR_NOMEM ? -ENOMEM : -ESHUTDOWN;
	stream_join(h2, s, id);
	s->started = true;
	h2_schedule(h2);
	return 0;
}

int h2_respond(struct h2_stream *s, const struct h2_field *fields, size_t n, bool last)
{
	nghttp2_data_provider body = {.read_callback = on_body};
	nghttp2_nv nv[H2_FIELDS_MAX];

	if (!s->h2)
		return -ECONNRESET;
	if (nghttp2_submit_response(s->h2->session, s->id, nv, to_nv(nv, fields, n),
				    last ? NULL : &body) < 0)
		return -ENOMEM;
	s->started = true;
	s->out_end = last;
	h2_schedule(s->h2);
	return 0;
}

static void unpark(struct h2_stream *s)
{
	if (s->parked && nghttp2_session_resume_data(s->h2->session, s->id) < 0)
		h2_cut(s->h2, -ENOMEM);
	s->parked = false;
	h2_schedule(s->h2);
}

int h2_write(struct h2_stream *s, const void *head, size_t head_len, const void *data, size_t len)
{
	if (!s->h2 || s->out_end)
		return -ECONNRESET;
	if (s->out_off > s->out.len / 2) {
		buf_consume(&s->out, s->out_off);
		s->out_off = 0;
	}
	if (buf_reserve(&s->out, head_len + len) < 0 || buf_append(&s->out, head, head_len) < 0 ||
	    buf_append(&s->out, data, len) < 0)
		return -ENOMEM;
	unpark(s);
	return 0;
}

void h2_end(struct h2_stream *s)
{
	if (!s->h2 || s->out_end)
		return;
	s->out_end = true;
	unpark(s);
}

void h2_reset(struct h2_stream *s, uint32_t code)
{
	if (!s->h2 || s->reset) /* twice is wrong for a stream whose HEADERS are still queued */
		return;
	s->out_end = s->reset = true;
	if (nghttp2_submit_rst_stream(s->h2->session, NGHTTP2_FLAG_NONE, s->id, code) < 0)
		h2_cut(s->h2, -ENOMEM);
	h2_schedule(s->h2);
}

void h2_forget(struct h2_stream *s, uint32_t code)
{
	if (!s->h2)
		return;
	h2_reset(s, code);
	nghttp2_session_set_stream_user_data(s->h2->session, s->id, NULL);
	h2_leave(s);
}

void h2_credit(struct h2_stream *s, size_t n)
{
	if (!s->h2 || s->in_end || n == 0)
		return;
	if (nghttp2_session_consume_stream(s->h2->session, s->id, n) < 0)
		h2_cut(s->h2, -ENOMEM);
	h2_schedule(s->h2);
}

static void drain_overdue(struct timer *t)
{
	drain_finally(container_of(t, struct h2, drain_timer));
}

void h2_drain(struct h2 *h2)
{
	if (h2->over || h2->drain_timer.fn)
		return;
	h2->drain_timer.fn = drain_overdue;
	if (!h2->settled) {
		drain_finally(h2);
		return;
	}
	if (nghttp2_submit_shutdown_notice(h2->session) < 0 ||
	    nghttp2_submit_ping(h2->session, NGHTTP2_FLAG_NONE, drain_ping) < 0)
		h2_cut(h2, -ENOMEM);
	timer_set(h2->loop, &h2->drain_timer, loop_now_ns(h2->loop) + DRAIN_PING_MS * NS_PER_MS);
	h2_schedule(h2);
}

/* --- life ------------------------------------------------------------------------------------ */

static int session_new(struct h2 *h2)
{
	nghttp2_session_callbacks *cb;
	nghttp2_option *opt;
	int r;

	if (nghttp2_session_callbacks_new(&cb) < 0)
		return -ENOMEM;
	if (nghttp2_option_new(&opt) < 0) {
		nghttp2_session_callbacks_del(cb);
		return -ENOMEM;
	}
	nghttp2_option_set_no_auto_window_update(opt, 1);
	nghttp2_option_set_no_closed_streams(opt, 1);
	/* Go programs that dial by a plain path send it as :authority, which is not one (RFC 3986).
	 * What we read of a request is checked in grpc_server.c. */
	nghttp2_option_set_no_http_messaging(opt, h2->server);
	nghttp2_session_callbacks_set_on_begin_headers_callback(cb, on_begin_headers);
	nghttp2_session_callbacks_set_on_header_callback(cb, on_header);
	nghttp2_session_callbacks_set_on_data_chunk_recv_callback(cb, on_data);
	nghttp2_session_callbacks_set_on_frame_recv_callback(cb, on_frame);
	nghttp2_session_callbacks_set_on_frame_send_callback(cb, on_sent);
	nghttp2_session_callbacks_set_on_stream_close_callback(cb, on_close);
	nghttp2_session_callbacks_set_send_data_callback(cb, on_send_body);
	r = h2->server ? nghttp2_session_server_new2(&h2->session, cb, h2, opt)
		       : nghttp2_session_client_new2(&h2->session, cb, h2, opt);
	nghttp2_session_callbacks_del(cb);
	nghttp2_option_del(opt);
	return r < 0 ? -ENOMEM : 0;
}

static int session_settle(struct h2 *h2)
{
	nghttp2_settings_entry iv[] = {
		{NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, H2_WINDOW_BYTES},
		{NGHTTP2_SETTINGS_MAX_HEADER_LIST_SIZE, HEADER_LIST_MAX},
		{NGHTTP2_SETTINGS_ENABLE_PUSH, 0}, /* a client's */
	};

	if (h2->server)
		iv[2] = (nghttp2_settings_entry){NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS,
						 CONNECTION_STREAMS_MAX};
	if (nghttp2_submit_settings(h2->session, NGHTTP2_FLAG_NONE, iv, array_size(iv)) < 0 ||
	    nghttp2_session_set_local_window_size(h2->session, NGHTTP2_FLAG_NONE, 0,
						  H2_WINDOW_BYTES) < 0)
		return -ENOMEM;
	return 0;
}

int h2_session_new(struct h2 *h2)
{
	int r = session_new(h2);

	return r < 0 ? r : session_settle(h2);
}

void h2_session_free(struct h2 *h2)
{
	nghttp2_session_del(h2->session);
}
