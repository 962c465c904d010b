// SPDX-License-Identifier: Apache-2.0
/*
 * The tasks of an HTTP/2 connection: reading, writing, waiting. Owns nothing but the running of
 * them.
 *
 * Whatever is submitted in a turn is gathered at the end of the turn and written at once. Only when
 * the socket is full the writer task takes the buffer over, until the socket has it.
 */
#include "net/h2_io.h"

#include <string.h>

#include "base/banned.h"

#define OUT_KEEP        KiB(16) /* memory of the output buffer that an idle connection keeps */
#define FLUSH_ROUNDS    4       /* buffers written in one turn before others get theirs */
#define CLIENT_SLACK_MS 10000   /* servers punish a client that pings early */

void h2_schedule(struct h2 *h2)
{
	if (!h2->over)
		loop_defer(h2->loop, &h2->flush);
}

void h2_cut(struct h2 *h2, int why)
{
	if (h2->why)
		return;
	h2->why = why;
	conn_cut(&h2->conn);
}

/* --- writing --------------------------------------------------------------------------------- */

static void out_empty(struct h2 *h2)
{
	h2->out.len = h2->out_off = 0;
	if (h2->out.cap > OUT_KEEP)
		buf_fini(&h2->out);
}

/* One buffer: 1 = written, 0 = there was nothing, -EAGAIN = the writer has to wait. */
static int flush_once(struct h2 *h2)
{
	ssize_t n;
	int r = h2_gather(h2);

	if (r < 0)
		return r;
	if (h2->out.len == 0)
		return 0;
	n = conn_write_now(&h2->conn, h2->out.data, h2->out.len);
	if (n < 0 && n != -EAGAIN)
		return (int)n;
	if (n == (ssize_t)h2->out.len) {
		h2->out.len = 0;
		return 1;
	}
	h2->out_off = n < 0 ? 0 : (size_t)n;
	return -EAGAIN;
}

void h2_flush(struct defer *d)
{
	struct h2 *h2 = container_of(d, struct h2, flush);
	int r = 1;

	if (h2->over || h2->blocked)
		return;
	for (int i = 0; r == 1 && i < FLUSH_ROUNDS; i++)
		r = flush_once(h2);
	if (r == -EAGAIN) {
		h2->blocked = true;
		waitq_wake_one(&h2->blocked_wait);
	} else if (r < 0) {
		h2_cut(h2, r);
	} else if (r == 1) {
		loop_defer(h2->loop, &h2->flush);
	} else {
		out_empty(h2);
		if (h2_done(h2))
			h2_cut(h2, -ESHUTDOWN);
	}
}

/* Task: brings out what did not fit into the socket. */
static may_suspend int writer(void *arg)
{
	struct h2 *h2 = arg;
	int r = 0;

	while (r == 0) {
		while (r == 0 && !h2->blocked)
			r = waitq_wait(&h2->blocked_wait);
		if (r < 0)
			break;
		r = conn_write(&h2->conn, h2->out.data + h2->out_off, h2->out.len - h2->out_off);
		if (r < 0) {
			h2_cut(h2, r);
			break;
		}
		out_empty(h2);
		h2->blocked = false;
		h2_schedule(h2);
	}
	return r;
}

/* --- reading --------------------------------------------------------------------------------- */

static uint64_t idle_ns(const struct h2 *h2)
{
	return (KEEPALIVE_IDLE_MS + (h2->server ? 0 : CLIENT_SLACK_MS)) * NS_PER_MS;
}

static unsigned read_timeout_ms(const struct h2 *h2)
{
	uint64_t now = loop_now_ns(h2->loop);
	uint64_t due = h2->ping_due_ns ? h2->ping_due_ns : now + idle_ns(h2);

	if (!h2->settled)
		due = h2->handshake_due_ns;
	return due <= now ? 1 : (unsigned)((due - now + NS_PER_MS - 1) / NS_PER_MS);
}

/* Nothing came for as long as read_timeout_ms() said. */
static int silence(struct h2 *h2)
{
	uint64_t now = loop_now_ns(h2->loop);

	if (!h2->settled || h2->ping_due_ns)
		return now >= (h2->settled ? h2->ping_due_ns : h2->handshake_due_ns) ? -ETIMEDOUT
										     : 0;
	if (!h2->server && list_empty(&h2->streams))
		return 0;
	if (h2_ping(h2) < 0)
		return -ENOMEM;
	h2->ping_due_ns = now + KEEPALIVE_TIMEOUT_MS * NS_PER_MS;
	h2_schedule(h2);
	return 0;
}

static may_suspend int read_some(struct h2 *h2)
{
	ssize_t n;
	int r;

	if (!h2->settled && loop_now_ns(h2->loop) >= h2->handshake_due_ns)
		return -ETIMEDOUT;
	n = conn_read(&h2->conn, h2->in, sizeof(h2->in), read_timeout_ms(h2));
	if (n == -ETIMEDOUT)
		return silence(h2);
	if (n == -EAGAIN || n == -EINTR)
		return 0;
	if (n <= 0)
		return n == 0 ? -ESHUTDOWN : (int)n;
	h2->ping_due_ns = 0;
	r = h2_feed(h2, h2->in, (size_t)n);
	return r < 0 ? r : h2->why;
}

may_suspend int h2_run(struct h2 *h2)
{
	int r = scope_spawn(&h2->scope, writer, h2, NULL);
	struct list *l;

	h2_schedule(h2);
	while (r == 0)
		r = read_some(h2);
	if (!h2->why) {
		if (!h2->blocked && h2_gather(h2) == 0) /* a last word, such as GOAWAY */
			conn_write_now(&h2->conn, h2->out.data, h2->out.len);
		h2_cut(h2, r);
	}
	h2->over = true;
	loop_defer_cancel(&h2->flush);
	timer_stop(h2->loop, &h2->drain_timer);
	scope_cancel(&h2->scope);
	scope_wait(&h2->scope);
	while ((l = list_pop(&h2->streams))) {
		struct h2_stream *s = container_of(l, struct h2_stream, link);

		h2_leave(s);
		h2->events->closed(s, H2_LOST);
	}
	waitq_wake_all(&h2->changed);
	return h2->why;
}

/* --- streams and waiting
 * --------------------------------------------------------------------------------- */

void h2_stream_init(struct h2_stream *s)
{
	*s = (struct h2_stream){0};
	list_init(&s->link);
	waitq_init(&s->writable);
}

void h2_stream_fini(struct h2_stream *s)
{
	require(!s->h2);
	buf_fini(&s->out);
}

void h2_leave(struct h2_stream *s)
{
	struct h2 *h2 = s->h2;

	list_del(&s->link);
	h2->count--;
	s->h2 = NULL;
	s->out.len = s->out_off = 0;
	waitq_wake_all(&s->writable);
	waitq_wake_one(&h2->changed);
}

bool h2_usable(const struct h2 *h2)
{
	return h2->settled && !h2->going_away && !h2->over && !h2->why;
}

static may_suspend int wait_changed(struct h2 *h2, uint64_t due_ns)
{
	uint64_t now = loop_now_ns(h2->loop);

	if (h2->over || h2->why)
		return h2->why ? h2->why : -ESHUTDOWN;
	if (now >= due_ns)
		return -ETIMEDOUT;
	return waitq_wait_ms(&h2->changed, (unsigned)((due_ns - now + NS_PER_MS - 1) / NS_PER_MS));
}

may_suspend int h2_wait_settled(struct h2 *h2, unsigned timeout_ms)
{
	uint64_t due_ns = loop_now_ns(h2->loop) + timeout_ms * NS_PER_MS;
	int r = 0;

	while (r == 0 && !h2->settled)
		r = wait_changed(h2, due_ns);
	return r;
}

may_suspend int h2_wait_slot(struct h2 *h2, unsigned timeout_ms)
{
	uint64_t due_ns = loop_now_ns(h2->loop) + timeout_ms * NS_PER_MS;
	int r = 0;

	while (r == 0 && h2_usable(h2) && h2->count >= h2_slots(h2))
		r = wait_changed(h2, due_ns);
	if (r == 0 && !h2_usable(h2))
		r = h2->why ? h2->why : -ESHUTDOWN;
	return r;
}

/* --- life ------------------------------------------------------------------------------------ */

int h2_new(struct loop *loop, struct conn *conn, enum h2_side side, const struct h2_events *events,
	   void *arg, struct h2 **ret_h2)
{
	struct h2 *h2 = malloc(sizeof(*h2));

	if (!h2) {
		conn_close(conn);
		return -ENOMEM;
	}
	memset(h2, 0, offsetof(struct h2, in));
	h2->loop = loop;
	h2->conn = *conn;
	conn->fd = -1;
	h2->server = side == H2_SERVER;
	h2->events = events;
	h2->arg = arg;
	h2->handshake_due_ns = loop_now_ns(loop) + HANDSHAKE_TIMEOUT_MS * NS_PER_MS;
	h2->flush.fn = h2_flush;
	list_init(&h2->flush.link);
	list_init(&h2->streams);
	scope_init(&h2->scope, loop);
	waitq_init(&h2->blocked_wait);
	waitq_init(&h2->changed);
	if (h2_session_new(h2) < 0) {
		h2_free(h2);
		return -ENOMEM;
	}
	*ret_h2 = h2;
	return 0;
}

void h2_free(struct h2 *h2)
{
	if (!h2)
		return;
	require(list_empty(&h2->streams));
	scope_fini(&h2->scope);
	h2_session_free(h2);
	conn_close(&h2->conn);
	buf_fini(&h2->out);
	free(h2);
}
