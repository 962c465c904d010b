// SPDX-License-Identifier: Apache-2.0
/*
 * The gRPC client. Owns one connection; its calls belong to the tasks that started them, until they
 * are finished. Loop thread only.
 */
#include <string.h>

#include "loop/scope.h"
#include "net/grpc_call.h"
#include "net/grpc_text.h"

#include "base/banned.h"

#define NS_PER_MS 1000000ull

struct grpc_client {
	struct loop *loop;
	struct h2 *h2;
	struct scope scope; /* the connection's task */
	size_t users;       /* tasks that wait for a stream */
	struct waitq idle;  /* no users */
};

/* --- the status ------------------------------------------------------------------------------ */

static void decide(struct grpc_call *call, enum grpc_code code, const char *text)
{
	if (call->ended)
		return;
	call->ended = true;
	timer_stop(call->loop, &call->deadline);
	call->code = code;
	if (text) {
		call->text.len = 0;
		if (buf_append(&call->text, text, strlen(text) + 1) < 0)
			buf_fini(&call->text); /* the code must do */
	}
	waitq_wake_all(&call->wait);
	waitq_wake_all(&call->s.writable);
}

static void call_fail(struct grpc_call *call, enum grpc_code code, const char *text)
{
	if (call->ended)
		return;
	if (!call->gone)
		call->gone = -ECONNRESET;
	decide(call, code, text);
	h2_reset(&call->s, H2_CANCEL);
	grpc_call_drop_input(call);
}

static const struct grpc_side client_side = {.fail = call_fail};

/* --- what arrives ---------------------------------------------------------------------------- */

static void set_text(struct grpc_call *call, struct str value)
{
	call->text.len = 0;
	if (buf_reserve(&call->text, value.len + 1) < 0)
		return;
	grpc_percent_decode(value, (char *)call->text.data, value.len + 1);
	call->text.len = strlen((char *)call->text.data) + 1;
}

static void on_field(struct h2_stream *s, struct str name, struct str value)
{
	struct grpc_call *call = grpc_call_of(s);

	if (call->ended)
		return;
	if (str_eq(name, STR(":status"))) {
		call->http_code = str_eq(value, STR("200")) ? GRPC_OK : grpc_code_of_http(value);
		call->headers_seen = value.len > 0 && value.p[0] != '1';
	} else if (str_eq(name, STR("content-type"))) {
		call->grpc_type = grpc_content_type(value);
	} else if (str_eq(name, STR("grpc-status"))) {
		call->status_seen = true;
		call->code = grpc_code_parse(value);
	} else if (str_eq(name, STR("grpc-message"))) {
		set_text(call, value);
	}
}

static void on_fields_end(struct h2_stream *s)
{
	struct grpc_call *call = grpc_call_of(s);

	if (s->header_over)
		call_fail(call, GRPC_RESOURCE_EXHAUSTED, "header list is too large");
	else if (call->headers_seen && !call->status_seen && call->http_code != GRPC_OK)
		call_fail(call, call->http_code, "the answer's HTTP status is not 200");
	else if (call->headers_seen && !call->status_seen && !call->grpc_type)
		call_fail(call, GRPC_UNKNOWN, "the answer is not gRPC");
}

static void on_data(struct h2_stream *s, const uint8_t *data, size_t len)
{
	grpc_call_data(grpc_call_of(s), data, len);
}

static void on_end(struct h2_stream *s)
{
	struct grpc_call *call = grpc_call_of(s);

	if (!call->status_seen)
		call_fail(call, GRPC_INTERNAL, "the server has sent no status");
	else if (call->code == GRPC_OK && grpc_call_truncated(call))
		call_fail(call, GRPC_INTERNAL, "the answer is cut off in a message");
	else
		decide(call, call->code, NULL);
}

static void on_closed(struct h2_stream *s, uint32_t code)
{
	struct grpc_call *call = grpc_call_of(s);

	if (call->ended)
		return;
	if (code == H2_LOST)
		call_fail(call, GRPC_UNAVAILABLE, "the connection was lost");
	else if (code == H2_REFUSED_STREAM)
		call_fail(call, GRPC_UNAVAILABLE, "the server has refused the call");
	else if (code == H2_CANCEL && call->deadline_ns <= loop_now_ns(call->loop))
		call_fail(call, GRPC_DEADLINE_EXCEEDED, "deadline exceeded");
	else
		call_fail(call, grpc_code_of_reset(code), "the server has reset the call");
}

static const struct h2_events client_events = {
	.field = on_field,
	.fields_end = on_fields_end,
	.data = on_data,
	.end = on_end,
	.closed = on_closed,
};

/* --- the connection -------------------------------------------------------------------------- */

/* Task: the connection. */
static may_suspend int client_run(void *arg)
{
	struct grpc_client *client = arg;

	return h2_run(client->h2);
}

may_suspend void grpc_client_close(struct grpc_client *client)
{
	if (!client)
		return;
	h2_cut(client->h2, -ESHUTDOWN);
	scope_cancel(&client->scope);
	scope_wait(&client->scope);
	while (client->users)
		waitq_wait_always(&client->idle);
	scope_fini(&client->scope);
	h2_free(client->h2);
	free(client);
}

may_suspend int grpc_dial(struct loop *loop, const char *path, unsigned timeout_ms,
			  struct grpc_client **ret_client, struct err *err)
{
	struct grpc_client *client;
	struct conn conn;
	int r = conn_dial(path, timeout_ms, &conn, err);

	if (r < 0)
		return r;
	client = calloc(1, sizeof(*client));
	if (!client) {
		conn_close(&conn);
		return err_set(err, -ENOMEM, "out of memory");
	}
	client->loop = loop;
	scope_init(&client->scope, loop);
	waitq_init(&client->idle);
	r = h2_new(loop, &conn, H2_CLIENT, &client_events, client, &client->h2);
	if (r < 0) {
		free(client);
		return err_set(err, r, "out of memory");
	}
	r = scope_spawn(&client->scope, client_run, client, NULL);
	if (r == 0)
		r = h2_wait_settled(client->h2, timeout_ms);
	if (r < 0) {
		grpc_client_close(client);
		return err_errno(err, r, "HTTP/2 handshake on %s", path);
	}
	*ret_client = client;
	return 0;
}

bool grpc_client_usable(const struct grpc_client *client)
{
	return h2_usable(client->h2);
}

/* --- a call ---------------------------------------------------------------------------------- */

#define FIXED(n, v) ((struct h2_field){STR(n), STR(v), true})

static size_t request_fields(struct h2_field *f, const char *method, const char *timeout,
			     const struct grpc_metadata *md, size_t n)
{
	size_t count = 0;

	f[count++] = FIXED(":method", "POST");
	f[count++] = FIXED(":scheme", "http");
	f[count++] = (struct h2_field){STR(":path"), str_of(method), false};
	f[count++] = FIXED(":authority", "localhost");
	f[count++] = FIXED("content-type", "application/grpc");
	f[count++] = FIXED("user-agent", "firstlight");
	f[count++] = FIXED("te", "trailers");
	if (timeout)
		f[count++] = (struct h2_field){STR("grpc-timeout"), str_of(timeout), false};
	for (size_t i = 0; i < n; i++)
		f[count++] = (struct h2_field){str_of(md[i].name), str_of(md[i].value), false};
	return count;
}

static may_suspend int wait_slot(struct grpc_client *client, unsigned timeout_ms)
{
	int r;

	client->users++;
	r = h2_wait_slot(client->h2, timeout_ms);
	if (--client->users == 0)
		waitq_wake_all(&client->idle);
	return r;
}

static int open_call(struct grpc_client *client, const char *method, const struct grpc_metadata *md,
		     size_t n, uint64_t due_ns, struct grpc_call **ret_call)
{
	struct h2_field f[H2_FIELDS_MAX];
	char timeout[GRPC_TIMEOUT_TEXT_MAX];
	struct grpc_call *call = malloc(sizeof(*call));
	bool timed = due_ns != UINT64_MAX;
	int r;

	if (!call)
		return -ENOMEM;
	grpc_call_init(call, client->loop);
	call->side = &client_side;
	call->gone = 0;
	call->message_max = GRPC_MESSAGE_CLIENT_MAX;
	call->buffered = &call->own_buffered;
	if (timed)
		grpc_timeout_print(due_ns - loop_now_ns(client->loop), timeout);
	r = h2_request(client->h2, &call->s, f,
		       request_fields(f, method, timed ? timeout : NULL, md, n));
	if (r < 0) {
		grpc_call_fini(call);
		free(call);
		return r;
	}
	if (timed)
		grpc_call_deadline(call, due_ns);
	*ret_call = call;
	return 0;
}

may_suspend int grpc_call_start(struct grpc_client *client, const char *method,
				const struct grpc_metadata *md, size_t n, unsigned timeout_ms,
				struct grpc_call **ret_call, struct err *err)
{
	uint64_t due_ns = UINT64_MAX;
	int r;

	if (n > GRPC_METADATA_MAX)
		return err_set(err, -E2BIG, "%s: too much metadata", method);
	if (timeout_ms == GRPC_DEFAULT_DEADLINE)
		timeout_ms = RPC_TIMEOUT_MAX_MS;
	if (timeout_ms != GRPC_NO_DEADLINE)
		due_ns = loop_now_ns(client->loop) + timeout_ms * NS_PER_MS;
	r = wait_slot(client, timeout_ms);
	if (r == 0 && due_ns <= loop_now_ns(client->loop))
		r = -ETIMEDOUT;
	if (r == 0)
		r = open_call(client, method, md, n, due_ns, ret_call);
	if (r != 0)
		err_errno(err, r, "%s: no call on this connection", method);
	return r;
}

may_suspend int grpc_close_send(struct grpc_call *call)
{
	h2_end(&call->s);
	return 0;
}

void grpc_cancel(struct grpc_call *call)
{
	if (!call->gone)
		call->gone = -ECANCELED;
	call_fail(call, GRPC_CANCELLED, "the call was cancelled");
}

may_suspend enum grpc_code grpc_finish(struct grpc_call *call, struct err *err)
{
	enum grpc_code code;

	call->discard = true;
	grpc_call_drop_input(call);
	while (!call->ended) {
		if (waitq_wait(&call->wait) < 0)
			grpc_cancel(call);
	}
	code = call->code;
	if (code != GRPC_OK)
		err_set(err, grpc_code_errno(code), "%s",
			call->text.len > 1 ? (char *)call->text.data : grpc_code_name(code));
	h2_forget(&call->s, H2_CANCEL);
	grpc_call_fini(call);
	free(call);
	return code;
}

/* One message and the end of the stream. 1, or what grpc_recv() answers. */
static may_suspend int exchange(struct grpc_call *call, const void *req, size_t len,
				struct buf *resp)
{
	int r = grpc_send(call, req, len);

	grpc_close_send(call);
	return r < 0 ? r : grpc_recv(call, resp);
}

static enum grpc_code code_of_start(int r)
{
	switch (r) {
	case -ETIMEDOUT:
		return GRPC_DEADLINE_EXCEEDED;
	case -ECANCELED:
		return GRPC_CANCELLED;
	case -ENOMEM:
	case -E2BIG:
		return GRPC_RESOURCE_EXHAUSTED;
	default:
		return GRPC_UNAVAILABLE;
	}
}

may_suspend enum grpc_code grpc_unary(struct grpc_client *client, const char *method,
				      const struct grpc_metadata *md, size_t n, unsigned timeout_ms,
				      const void *req, size_t len, struct buf *resp,
				      struct err *err)
{
	struct grpc_call *call;
	enum grpc_code code;
	int r;

	resp->len = 0;
	r = grpc_call_start(client, method, md, n, timeout_ms, &call, err);
	if (r != 0)
		return code_of_start(r);
	r = exchange(call, req, len, resp);
	if (r == -ENOMEM || r == -ECANCELED)
		grpc_cancel(call);
	code = grpc_finish(call, err);
	if (code == GRPC_OK && r != 1) {
		code = GRPC_INTERNAL;
		err_set(err, grpc_code_errno(code), "%s: no message in the answer", method);
	}
	if (code != GRPC_OK)
		resp->len = 0;
	return code;
}
