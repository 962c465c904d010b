// SPDX-License-Identifier: Apache-2.0
/*
 * HTTP by libmicrohttpd. Owns its daemon and what is noted of each connection. libmicrohttpd has no
 * thread: it works when its epoll descriptor is ready, when one of its time-outs is over, or when
 * it has said that there is more to do. Loop thread.
 */
#include "api/metrics_http.h"

#include <linux/io_uring.h>
#include <microhttpd.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>

#include "api/metrics_address.h"
#include "base/limits.h"
#include "base/list.h"
#include "base/log.h"
#include "loop/loop.h"
#include "loop/sync.h"

#include "base/banned.h"

#define NS_PER_MS 1000000ull

struct metrics_http {
	struct loop *loop;
	char *name; /* the address, for the log */
	union metrics_address address;
	metrics_fn *fn;
	void *arg;
	struct MHD_Daemon *mhd;      /* NULL: it does not listen yet */
	struct MHD_Response *answer; /* the last that was made, */
	uint64_t answer_ns;          /* and when */
	struct op ready;             /* the poll of mhd's descriptor */
	bool armed, rests, stopping;
	struct waitq disarmed;
	struct timer timer; /* of a rest, or mhd's; while it does not listen, of the next try */
	struct list conns;  /* conn.link, the oldest first */
	size_t conns_n;
	int failure; /* that was logged last */
};

struct conn {
	struct list link;
	int fd; /* libmicrohttpd's */
};

/* --- answers ---------------------------------------------------------------------------------- */

static struct MHD_Response *text_response(const char *text)
{
	return MHD_create_response_from_buffer(strlen(text), (void *)(uintptr_t)text,
					       MHD_RESPMEM_PERSISTENT);
}

static enum MHD_Result say(struct MHD_Connection *c, unsigned status, const char *text,
			   const char *header, const char *value)
{
	struct MHD_Response *r = text_response(text);
	enum MHD_Result done = MHD_NO;

	if (r && (!header || MHD_add_response_header(r, header, value) == MHD_YES))
		done = MHD_queue_response(c, status, r);
	if (r)
		MHD_destroy_response(r);
	return done;
}

static struct MHD_Response *metrics_response(struct metrics_http *h)
{
	struct metrics_text t = {.code = 0};
	struct MHD_Response *r;

	h->fn(h->arg, &t);
	if (t.code < 0 || !t.text.data) {
		buf_fini(&t.text);
		return NULL;
	}
	r = MHD_create_response_from_buffer(t.text.len, t.text.data, MHD_RESPMEM_MUST_FREE);
	if (!r)
		buf_fini(&t.text);
	else if (MHD_add_response_header(r, MHD_HTTP_HEADER_CONTENT_TYPE, METRICS_CONTENT_TYPE) !=
		 MHD_YES) {
		MHD_destroy_response(r);
		r = NULL;
	}
	return r;
}

/* Whoever asks all the time gets the same again. */
static struct MHD_Response *fresh_response(struct metrics_http *h)
{
	uint64_t now = loop_now_ns(h->loop);

	if (h->answer && now - h->answer_ns < METRICS_FRESH_MS * NS_PER_MS)
		return h->answer;
	if (h->answer)
		MHD_destroy_response(h->answer);
	h->answer = metrics_response(h);
	h->answer_ns = now;
	return h->answer;
}

/* At the end of a request's head. What follows it is not read: libmicrohttpd closes the connection
 * behind an answer that is given so early. */
static enum MHD_Result on_request(void *arg, struct MHD_Connection *c, const char *url,
				  const char *method, const char *version, const char *data,
				  size_t *data_size, void **request)
{
	struct metrics_http *h = arg;
	struct MHD_Response *r;

	(void)version, (void)data, (void)data_size, (void)request;
	if (strcmp(method, MHD_HTTP_METHOD_GET) != 0 && strcmp(method, MHD_HTTP_METHOD_HEAD) != 0)
		return say(c, MHD_HTTP_METHOD_NOT_ALLOWED, "only GET and HEAD\n",
			   MHD_HTTP_HEADER_ALLOW, "GET, HEAD");
	if (strcmp(url, "/metrics") != 0)
		return say(c, MHD_HTTP_NOT_FOUND, "only /metrics is here\n", NULL, NULL);
	r = fresh_response(h);
	if (!r)
		return say(c, MHD_HTTP_INTERNAL_SERVER_ERROR, "out of memory\n", NULL, NULL);
	return MHD_queue_response(c, MHD_HTTP_OK, r);
}

/* --- connections ------------------------------------------------------------------------------ */

static void conn_started(struct metrics_http *h, struct MHD_Connection *c, void **context)
{
	const union MHD_ConnectionInfo *info =
		MHD_get_connection_info(c, MHD_CONNECTION_INFO_CONNECTION_FD);
	struct conn *conn = calloc(1, sizeof(*conn));

	if (!info || !conn) {
		if (info)
			shutdown(info->connect_fd, SHUT_RDWR);
		free(conn);
		return;
	}
	conn->fd = info->connect_fd;
	*context = conn;
	if (h->conns_n >= METRICS_CONNECTIONS_MAX) { /* libmicrohttpd sees that, and closes it */
		struct list *first = h->conns.next;

		shutdown(container_of(first, struct conn, link)->fd, SHUT_RDWR);
		list_del(first); /* not again */
	} else {
		h->conns_n++;
	}
	list_push(&h->conns, &conn->link);
}

static void on_connection(void *arg, struct MHD_Connection *c, void **context,
			  enum MHD_ConnectionNotificationCode code)
{
	struct metrics_http *h = arg;
	struct conn *conn = *context;

	if (code == MHD_CONNECTION_NOTIFY_STARTED) {
		conn_started(h, c, context);
	} else if (conn) {
		h->conns_n -= !list_empty(&conn->link);
		list_del(&conn->link);
		free(conn);
		*context = NULL;
	}
}

/* --- the loop --------------------------------------------------------------------------------- */

static void arm(struct metrics_http *h)
{
	struct io_uring_sqe sqe = {.opcode = IORING_OP_POLL_ADD, .poll32_events = POLLIN};

	if (h->armed)
		return;
	sqe.fd = MHD_get_daemon_info(h->mhd, MHD_DAEMON_INFO_EPOLL_FD)->epoll_fd;
#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
	sqe.poll32_events = sqe.poll32_events << 16;
#endif
	h->armed = true;
	loop_submit(h->loop, &h->ready, &sqe);
}

/* Then it rests, so that the loop has time for others whatever clients do, and whatever does not go
 * away by working: a connection that waits while there are no descriptors. */
static void work(struct metrics_http *h)
{
	MHD_run(h->mhd);
	h->rests = true;
	timer_set(h->loop, &h->timer, loop_now_ns(h->loop) + METRICS_REST_MS * NS_PER_MS);
}

static void rested(struct metrics_http *h)
{
	MHD_UNSIGNED_LONG_LONG ms;
	bool timed = MHD_get_timeout(h->mhd, &ms) == MHD_YES;

	h->rests = false;
	if (timed && ms == 0) {
		work(h);
		return;
	}
	arm(h);
	if (timed)
		timer_set(h->loop, &h->timer, loop_now_ns(h->loop) + ms * NS_PER_MS);
}

static void on_ready(struct op *op, int res, uint32_t flags)
{
	struct metrics_http *h = container_of(op, struct metrics_http, ready);

	(void)res, (void)flags;
	h->armed = false;
	if (h->stopping)
		waitq_wake_all(&h->disarmed);
	else if (!h->rests)
		work(h);
}

/* --- life ------------------------------------------------------------------------------------- */

/* Takes fd. */
static int start(struct metrics_http *h, int fd, struct err *err)
{
	/* Connections that were cut are counted until they are closed. */
	h->mhd = MHD_start_daemon(MHD_USE_EPOLL, 0, NULL, NULL, on_request, h,
				  MHD_OPTION_LISTEN_SOCKET, fd, MHD_OPTION_CONNECTION_LIMIT,
				  (unsigned)(2 * METRICS_CONNECTIONS_MAX),
				  MHD_OPTION_CONNECTION_MEMORY_LIMIT, (size_t)METRICS_MEMORY,
				  MHD_OPTION_CONNECTION_TIMEOUT, (unsigned)METRICS_IDLE_S,
				  MHD_OPTION_NOTIFY_CONNECTION, on_connection, h, MHD_OPTION_END);
	if (h->mhd)
		return 0;
	close(fd);
	return err_set(err, -ENOMEM, "libmicrohttpd does not start");
}

static void try_listen(struct metrics_http *h)
{
	struct err err = ERR_INIT;
	int fd, r = metrics_address_listen(&h->address, &fd, &err);

	if (r == 0)
		r = start(h, fd, &err);
	if (r == 0) {
		log_info("metrics address=%s", h->name);
		work(h);
		return;
	}
	if (r != h->failure)
		log_error("no metrics, tried again and again address=%s retry_ms=%d error=\"%s\"",
			  h->name, METRICS_RETRY_MS, err_text(&err, r));
	h->failure = r;
	timer_set(h->loop, &h->timer, loop_now_ns(h->loop) + METRICS_RETRY_MS * NS_PER_MS);
}

static void on_timer(struct timer *t)
{
	struct metrics_http *h = container_of(t, struct metrics_http, timer);

	if (!h->mhd)
		try_listen(h);
	else if (h->rests)
		rested(h);
	else
		work(h);
}

int metrics_http_new(struct loop *loop, const char *address, metrics_fn *fn, void *arg,
		     struct metrics_http **ret, struct err *err)
{
	struct metrics_http *h = calloc(1, sizeof(*h));
	int r;

	if (h)
		h->name = strdup(address);
	if (!h || !h->name) {
		free(h);
		return err_set(err, -ENOMEM, "out of memory");
	}
	r = metrics_address_parse(address, &h->address, err);
	if (r < 0) {
		free(h->name);
		free(h);
		return r;
	}
	h->loop = loop;
	h->fn = fn;
	h->arg = arg;
	h->ready.done = on_ready;
	h->timer.fn = on_timer;
	list_init(&h->conns);
	waitq_init(&h->disarmed);
	try_listen(h);
	*ret = h;
	return 0;
}

may_suspend void metrics_http_free(struct metrics_http *h)
{
	if (!h)
		return;
	h->stopping = true;
	timer_stop(h->loop, &h->timer);
	if (h->armed)
		loop_cancel(h->loop, &h->ready);
	while (h->armed)
		waitq_wait_always(&h->disarmed);
	if (h->mhd && h->address.any.sa_family == AF_UNIX)
		unlink(h->address.local.sun_path);
	if (h->mhd)
		MHD_stop_daemon(h->mhd); /* closes the listening socket too */
	if (h->answer)
		MHD_destroy_response(h->answer);
	free(h->name);
	free(h);
}

bool metrics_http_serves(const struct metrics_http *h)
{
	return h->mhd != NULL;
}
