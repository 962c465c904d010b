// SPDX-License-Identifier: Apache-2.0
/*
 * The gRPC server. Owns connections and their calls; each connection is a task, each running
 * handler another one. A call lives until its handler has returned and its stream is closed. Loop
 * thread only.
 */
#include <poll.h>
#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "loop/io.h"
#include "loop/scope.h"
#include "net/grpc_call.h"
#include "net/grpc_text.h"

#include "base/banned.h"

#define ACCEPT_PAUSE_MS 100                          /* when descriptors or memory are out */
#define CANCEL_GRACE_MS 1000                         /* drain: to bring out the last answers */
#define CALLS_MAX       (2 * CONNECTION_STREAMS_MAX) /* with those whose stream is closed */
#define PATH_TEXT_MAX   256                          /* of an unknown method, in the answer */
#define NS_PER_MS       1000000ull

struct grpc_server {
	struct loop *loop;
	const struct grpc_method *methods;
	struct str *paths; /* of methods */
	size_t n;
	void *arg;
	struct list conns; /* grpc_conn.link */
	size_t conn_count;
	struct scope scope;            /* the connections' tasks */
	size_t buffered;               /* bytes of requests that wait to be read */
	uint64_t (*ended)[GRPC_CODES]; /* of each method; then of all others */
	uint64_t accepted, refused;    /* connections */
	bool draining;
};

struct grpc_conn {
	struct grpc_server *server;
	struct list link;
	struct h2 *h2;
	struct peer peer;
	struct scope handlers;
	struct list calls; /* grpc_call.link */
	size_t call_count;
};

const char *grpc_call_path(const struct grpc_call *call)
{
	return call->method ? call->method->path : call->path ? call->path : "?";
}

const struct peer *grpc_call_peer(const struct grpc_call *call)
{
	return &call->conn->peer;
}

/* --- answers --------------------------------------------------------------------------------- */

#define FIXED(n, v) ((struct h2_field){STR(n), STR(v), true})

static size_t status_fields(const struct grpc_call *call, struct h2_field *f)
{
	size_t n = 0;

	f[n++] = (struct h2_field){STR("grpc-status"), grpc_code_text(call->code), true};
	if (call->text.len)
		f[n++] = (struct h2_field){
			STR("grpc-message"), {(char *)call->text.data, call->text.len}, false};
	if (call->encoding_hint)
		f[n++] = FIXED("grpc-accept-encoding", "identity");
	return n;
}

static size_t on_trailers(struct h2_stream *s, struct h2_field *f)
{
	return status_fields(grpc_call_of(s), f);
}

static int open_answer(struct grpc_call *call)
{
	const struct h2_field f[] = {FIXED(":status", "200"),
				     FIXED("content-type", "application/grpc")};

	return h2_respond(&call->s, f, array_size(f), false);
}

static void count(const struct grpc_call *call)
{
	const struct grpc_server *server = call->conn->server;
	size_t method = call->method ? (size_t)(call->method - server->methods) : server->n;

	server->ended[method][call->code]++;
}

static void decide(struct grpc_call *call, enum grpc_code code, const char *text)
{
	call->ended = true;
	call->code = code <= GRPC_UNAUTHENTICATED ? code : GRPC_UNKNOWN;
	count(call);
	timer_stop(call->loop, &call->deadline);
	if (code != GRPC_OK && grpc_percent_encode(str_of(text), &call->text) < 0)
		call->text.len = 0; /* the code must do */
}

/* The status, with what was sent before it; http is for an answer that has nothing before it. */
static void answer(struct grpc_call *call, struct str http, enum grpc_code code, const char *text)
{
	struct h2_field f[H2_FIELDS_MAX] = {{STR(":status"), http, true},
					    FIXED("content-type", "application/grpc")};

	if (call->ended)
		return;
	decide(call, code, text);
	if (call->s.started)
		h2_end(&call->s);
	else if (h2_respond(&call->s, f, 2 + status_fields(call, f + 2), true) == -ENOMEM)
		h2_reset(&call->s, H2_CANCEL);
}

/* As answer, while the handler may still run. Queued messages that the peer does not take would
 * hold the status up: then the stream is reset. */
static void call_fail(struct grpc_call *call, enum grpc_code code, const char *text)
{
	if (call->ended)
		return;
	if (call->s.started && h2_pending(&call->s)) {
		decide(call, code, text);
		h2_reset(&call->s,
			 code == GRPC_RESOURCE_EXHAUSTED ? H2_ENHANCE_YOUR_CALM : H2_CANCEL);
	} else {
		answer(call, STR("200"), code, text);
	}
	grpc_call_drop_input(call);
	if (call->task)
		task_cancel(call->task);
}

static const struct grpc_side server_side = {.fail = call_fail, .open = open_answer};

/* --- a call ---------------------------------------------------------------------------------- */

static void call_free(struct grpc_call *call)
{
	list_del(&call->link);
	call->conn->call_count--;
	grpc_call_fini(call);
	free(call);
}

/* Task: a handler. */
static may_suspend int call_run(void *arg)
{
	struct grpc_call *call = arg;
	struct err err;
	enum grpc_code code;

	err.code = 0;
	err.text[0] = '\0';
	if (!call->ended) {
		code = call->method->serve(call, call->conn->server->arg, &err);
		answer(call, STR("200"), code, err.text[0] ? err.text : grpc_code_name(code));
	}
	log_debug("grpc method=%s pid=%d code=%s", grpc_call_path(call), (int)call->conn->peer.pid,
		  grpc_code_name(call->code));
	call->task = NULL;
	if (!call->s.h2)
		call_free(call);
	return 0;
}

static struct h2_stream *on_stream(void *arg)
{
	struct grpc_conn *conn = arg;
	struct grpc_call *call;

	if (conn->call_count >= CALLS_MAX)
		return NULL;
	call = malloc(sizeof(*call));
	if (!call)
		return NULL;
	grpc_call_init(call, conn->server->loop);
	call->side = &server_side;
	call->conn = conn;
	call->message_max = GRPC_MESSAGE_IN_MAX;
	call->buffered = &conn->server->buffered;
	call->timeout_ns = UINT64_MAX;
	list_push(&conn->calls, &call->link);
	conn->call_count++;
	return &call->s;
}

static void set_path(struct grpc_call *call, struct str path)
{
	struct grpc_server *server = call->conn->server;

	for (size_t i = 0; i < server->n; i++) {
		if (str_eq(server->paths[i], path)) {
			call->method = &server->methods[i];
			return;
		}
	}
	free(call->path);
	call->path = strndup(path.p, path.len < PATH_TEXT_MAX ? path.len : PATH_TEXT_MAX);
}

static void on_field(struct h2_stream *s, struct str name, struct str value)
{
	struct grpc_call *call = grpc_call_of(s);

	if (str_eq(name, STR(":path")))
		set_path(call, value);
	else if (str_eq(name, STR(":method")))
		call->post = str_eq(value, STR("POST"));
	else if (str_eq(name, STR("content-type")))
		call->grpc_type = grpc_content_type(value);
	else if (str_eq(name, STR("grpc-timeout")))
		call->bad_timeout = grpc_timeout_parse(value, &call->timeout_ns) < 0;
}

/* Is the request one that we serve? If not, it is answered. */
static bool acceptable(struct grpc_call *call)
{
	char text[PATH_TEXT_MAX + 64];

	if (call->s.header_over) {
		answer(call, STR("200"), GRPC_RESOURCE_EXHAUSTED, "header list is too large");
	} else if (!call->post) {
		answer(call, STR("405"), GRPC_INTERNAL, "the method must be POST");
	} else if (!call->grpc_type) {
		answer(call, STR("415"), GRPC_INVALID_ARGUMENT,
		       "the content-type must be application/grpc");
	} else if (call->bad_timeout) {
		answer(call, STR("400"), GRPC_INTERNAL, "malformed grpc-timeout");
	} else if (!call->method) {
		snprintf(text, sizeof(text), "unknown method %s", grpc_call_path(call));
		answer(call, STR("200"), GRPC_UNIMPLEMENTED, text);
	} else if (call->timeout_ns == 0) {
		answer(call, STR("200"), GRPC_DEADLINE_EXCEEDED, "deadline exceeded");
	}
	return !call->ended;
}

static void on_fields_end(struct h2_stream *s)
{
	struct grpc_call *call = grpc_call_of(s);
	uint64_t max = RPC_TIMEOUT_MAX_MS * NS_PER_MS;
	int r;

	if (!acceptable(call))
		return;
	if (call->method->follows)
		max = RPC_FOLLOW_MAX_MS * NS_PER_MS;
	grpc_call_deadline(call, loop_now_ns(call->loop) +
					 (call->timeout_ns < max ? call->timeout_ns : max));
	r = scope_spawn(&call->conn->handlers, call_run, call, &call->task);
	if (r < 0)
		answer(call, STR("200"),
		       r == -ECANCELED ? GRPC_UNAVAILABLE : GRPC_RESOURCE_EXHAUSTED,
		       "too many calls are running");
}

static void on_data(struct h2_stream *s, const uint8_t *data, size_t len)
{
	grpc_call_data(grpc_call_of(s), data, len);
}

static void on_end(struct h2_stream *s)
{
	waitq_wake_all(&grpc_call_of(s)->wait);
}

static void on_closed(struct h2_stream *s, uint32_t code)
{
	struct grpc_call *call = grpc_call_of(s);

	(void)code;
	if (!call->ended)
		decide(call, GRPC_CANCELLED, "");
	if (!call->task) {
		call_free(call);
		return;
	}
	grpc_call_drop_input(call);
	task_cancel(call->task);
}

static const struct h2_events server_events = {
	.stream = on_stream,
	.field = on_field,
	.fields_end = on_fields_end,
	.data = on_data,
	.end = on_end,
	.trailers = on_trailers,
	.closed = on_closed,
};

/* --- connections ----------------------------------------------------------------------------- */

/* Task: a connection. */
static may_suspend int conn_run(void *arg)
{
	struct grpc_conn *conn = arg;
	struct grpc_server *server = conn->server;
	int r = h2_run(conn->h2);

	log_debug("grpc connection pid=%d ended: %s", (int)conn->peer.pid, strerrorname_np(-r));
	scope_cancel(&conn->handlers);
	scope_wait(&conn->handlers);
	require(conn->call_count == 0);
	scope_fini(&conn->handlers);
	h2_free(conn->h2);
	list_del(&conn->link);
	server->conn_count--;
	free(conn);
	return 0;
}

static int serve(struct grpc_server *server, struct conn *c)
{
	struct grpc_conn *conn;
	int r = -ENOMEM;

	if (server->conn_count >= CONNECTIONS_MAX || server->draining) {
		conn_close(c);
		return -EBUSY;
	}
	conn = calloc(1, sizeof(*conn));
	if (!conn) {
		conn_close(c);
		return -ENOMEM;
	}
	conn->server = server;
	conn->peer = c->peer;
	list_init(&conn->calls);
	scope_init(&conn->handlers, server->loop);
	r = h2_new(server->loop, c, H2_SERVER, &server_events, conn, &conn->h2);
	if (r == 0)
		r = scope_spawn(&server->scope, conn_run, conn, NULL);
	if (r < 0) {
		h2_free(conn->h2);
		free(conn);
		return r;
	}
	list_push(&server->conns, &conn->link);
	server->conn_count++;
	server->accepted++;
	return 0;
}

int grpc_server_serve(struct grpc_server *server, int fd)
{
	struct conn c;
	int r = conn_init(&c, fd);

	return r < 0 ? r : serve(server, &c);
}

/* What to do after accept(2) has failed. 0 = go on. */
static may_suspend int accept_failed(int r, int listen_fd, bool *told)
{
	switch (r) {
	case -ECANCELED:
	case -EBADF:
	case -EINVAL:
	case -ENOTSOCK:
	case -EOPNOTSUPP:
		return r;
	case -EINTR:
	case -ECONNABORTED:
	case -ECONNRESET:
		return 0;
	case -EAGAIN: /* a listener without blocking */
		r = io_poll(listen_fd, POLLIN, 0);
		return r == -ECANCELED ? r : 0;
	}
	if (!*told)
		log_warn("grpc accept failed, will be tried again: %s", strerrordesc_np(-r));
	*told = true;
	return task_sleep_ms(ACCEPT_PAUSE_MS);
}

may_suspend int grpc_server_run(struct grpc_server *server, int listen_fd)
{
	struct conn c;
	bool told = false;
	size_t refused = 0; /* in a row */
	int r = 0;

	while (r == 0) {
		r = conn_accept(listen_fd, &c);
		if (r < 0) {
			r = accept_failed(r, listen_fd, &told);
			continue;
		}
		told = false;
		r = serve(server, &c);
		server->refused += r < 0;
		if (r < 0 && refused++ == 0)
			log_warn("grpc connection refused: %s connections=%zu", strerrorname_np(-r),
				 server->conn_count);
		if (r == 0 && refused)
			log_info("grpc connections are accepted again refused=%zu", refused);
		refused = r < 0 ? refused : 0;
		r = 0;
	}
	return r;
}

/* --- life ------------------------------------------------------------------------------------ */

int grpc_server_new(struct loop *loop, const struct grpc_method *methods, size_t n, void *arg,
		    struct grpc_server **ret_server, struct err *err)
{
	struct grpc_server *server = calloc(1, sizeof(*server));

	if (server) {
		server->paths = calloc(n ? n : 1, sizeof(server->paths[0]));
		server->ended = calloc(n + 1, sizeof(server->ended[0]));
	}
	if (!server || !server->paths || !server->ended) {
		if (server) {
			free(server->paths);
			free(server->ended);
		}
		free(server);
		return err_set(err, -ENOMEM, "out of memory");
	}
	server->loop = loop;
	server->methods = methods;
	for (size_t i = 0; i < n; i++)
		server->paths[i] = str_of(methods[i].path);
	server->n = n;
	server->arg = arg;
	list_init(&server->conns);
	scope_init(&server->scope, loop);
	*ret_server = server;
	return 0;
}

static void fail_all(struct grpc_conn *conn)
{
	struct list *l, *tmp;

	list_for_each_safe (l, tmp, &conn->calls)
		call_fail(container_of(l, struct grpc_call, link), GRPC_UNAVAILABLE,
			  "the server is shutting down");
}

may_suspend void grpc_server_drain(struct grpc_server *server, unsigned timeout_ms)
{
	struct list *l, *tmp;

	server->draining = true;
	list_for_each_safe (l, tmp, &server->conns)
		h2_drain(container_of(l, struct grpc_conn, link)->h2);
	if (scope_wait_ms(&server->scope, timeout_ms) < 0) {
		log_warn("grpc calls are cancelled: connections=%zu", server->conn_count);
		list_for_each_safe (l, tmp, &server->conns)
			fail_all(container_of(l, struct grpc_conn, link));
		scope_wait_ms(&server->scope, CANCEL_GRACE_MS);
	}
	scope_cancel(&server->scope);
	scope_wait(&server->scope);
}

void grpc_server_free(struct grpc_server *server)
{
	if (!server)
		return;
	require(list_empty(&server->conns) && server->buffered == 0);
	scope_fini(&server->scope);
	free(server->paths);
	free(server->ended);
	free(server);
}

void grpc_server_stats(const struct grpc_server *server, struct grpc_server_stats *ret)
{
	*ret = (struct grpc_server_stats){.connections = server->conn_count,
					  .accepted = server->accepted,
					  .refused = server->refused};
	for (const struct list *l = server->conns.next; l != &server->conns; l = l->next)
		ret->calls += container_of(l, struct grpc_conn, link)->call_count;
}

const uint64_t *grpc_server_calls(const struct grpc_server *server, size_t method)
{
	require(method <= server->n);
	return server->ended[method];
}

const struct grpc_method *grpc_server_methods(const struct grpc_server *server, size_t *ret_n)
{
	*ret_n = server->n;
	return server->methods;
}
