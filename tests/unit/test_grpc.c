// SPDX-License-Identifier: Apache-2.0
/* Calls over gRPC, both sides being ours. Limits and failures: test_grpc_limits.c. */
#include "grpc_fixture.h"

#include "base/banned.h"

static may_suspend int sizes(struct fixture *f)
{
	static const size_t lens[] = {0,     1,     255,    16379,      16384,
				      65530, 65536, 300000, MiB(1) - 1, MiB(1)};
	auto_buf struct buf resp = BUF_INIT;
	auto_free uint8_t *req = malloc(MiB(1));
	struct err err = ERR_INIT;

	for (size_t i = 0; i < MiB(1); i++)
		req[i] = (uint8_t)(i * 31 >> 3);
	for (size_t i = 0; i < array_size(lens); i++) {
		check(unary(f, "Echo", req, lens[i], &resp, &err) == GRPC_OK);
		check(resp.len == lens[i]);
		check(!resp.len || memcmp(resp.data, req, resp.len) == 0);
	}
	return 0;
}

static void test_unary(void **state)
{
	(void)state;
	fixture_run(sizes);
}

/* Reads count messages of size bytes; the status comes back. */
static may_suspend enum grpc_code read_stream(struct fixture *f, uint32_t count, uint32_t size,
					      uint32_t *ret_n, struct err *err)
{
	auto_buf struct buf msg = BUF_INIT;
	uint32_t req[2] = {htonl(count), htonl(size)};
	struct grpc_call *call;

	*ret_n = 0;
	check(grpc_call_start(f->client, "/t.T/Stream", NULL, 0, 0, &call, err) == 0);
	check(grpc_send(call, req, sizeof(req)) == 0);
	check(grpc_close_send(call) == 0);
	while (grpc_recv(call, &msg) == 1) {
		check(msg.len == size && (size < 4 || number(&msg, 0) == *ret_n));
		(*ret_n)++;
	}
	return grpc_finish(call, err);
}

static may_suspend int server_streams(struct fixture *f)
{
	static const uint32_t cases[][2] = {{0, 0},        {1, 0},       {50000, 4}, {20000, 100},
					    {300, 100000}, {1, MiB(16)}, {3, MiB(8)}};
	struct err err = ERR_INIT;
	uint32_t n;

	for (size_t i = 0; i < array_size(cases); i++) {
		check(read_stream(f, cases[i][0], cases[i][1], &n, &err) == GRPC_OK);
		check(n == cases[i][0]);
	}
	check(read_stream(f, 1, MiB(16) + 1, &n, &err) == GRPC_RESOURCE_EXHAUSTED);
	check(n == 0);
	check(read_stream(f, 1, 4, &n, &err) == GRPC_OK); /* the connection goes on */
	return 0;
}

static void test_server_stream(void **state)
{
	(void)state;
	fixture_run(server_streams);
}

static may_suspend int client_streams(struct fixture *f)
{
	auto_free uint8_t *req = calloc(1, 100000);
	auto_buf struct buf msg = BUF_INIT;
	struct grpc_call *call;

	check(grpc_call_start(f->client, "/t.T/Swallow", NULL, 0, 0, &call, NULL) == 0);
	for (int i = 0; i < 200; i++)
		check(grpc_send(call, req, 100000) == 0);
	for (int i = 0; i < 20000; i++)
		check(grpc_send(call, req, 7) == 0);
	check(grpc_close_send(call) == 0);
	check(grpc_recv(call, &msg) == 0);
	check(grpc_finish(call, NULL) == GRPC_OK);
	check(f->bytes == 200u * 100000 + 20000 * 7);
	return 0;
}

static void test_client_stream(void **state)
{
	(void)state;
	fixture_run(client_streams);
}

static may_suspend int bidi_sender(void *arg)
{
	struct grpc_call *call = arg;
	auto_free uint8_t *req = calloc(1, 100000);

	for (size_t i = 0; i < 300; i++)
		check(grpc_send(call, req, i * 331) == 0);
	check(grpc_close_send(call) == 0);
	return 0;
}

static may_suspend int bidi(struct fixture *f)
{
	auto_buf struct buf msg = BUF_INIT;
	struct grpc_call *call;
	struct scope scope;

	scope_init(&scope, loop_self());
	check(grpc_call_start(f->client, "/t.T/Bidi", NULL, 0, 0, &call, NULL) == 0);
	check(scope_spawn(&scope, bidi_sender, call, NULL) == 0);
	for (size_t i = 0; i < 300; i++) {
		check(grpc_recv(call, &msg) == 1);
		check(msg.len == i * 331);
	}
	check(grpc_recv(call, &msg) == 0);
	scope_wait(&scope);
	scope_fini(&scope);
	check(grpc_finish(call, NULL) == GRPC_OK);
	return 0;
}

static void test_bidi(void **state)
{
	(void)state;
	fixture_run(bidi);
}

/* --- many ------------------------------------------------------------------------------------- */

struct crowd {
	struct fixture *f;
	unsigned done;
};

static may_suspend int one_of_many(void *arg)
{
	struct crowd *c = arg;
	auto_buf struct buf resp = BUF_INIT;
	uint32_t ms = htonl(50);

	check(unary(c->f, "Sleep", &ms, 4, &resp, NULL) == GRPC_OK);
	check(resp.len == 4);
	c->done++;
	return 0;
}

static may_suspend int thousand(struct fixture *f)
{
	struct crowd c = {f, 0};
	struct scope scope;

	scope_init(&scope, loop_self());
	for (int i = 0; i < 1000; i++)
		check(scope_spawn(&scope, one_of_many, &c, NULL) == 0);
	task_sleep_ms(20);
	check(f->running == CONNECTION_STREAMS_MAX);
	scope_wait(&scope);
	check(c.done == 1000);
	return 0;
}

static void test_thousand_calls(void **state)
{
	(void)state;
	fixture_run(thousand);
}

static may_suspend int hundred(struct fixture *f)
{
	struct grpc_client *first = f->client, *clients[100];
	auto_buf struct buf resp = BUF_INIT;

	for (size_t i = 0; i < array_size(clients); i++)
		clients[i] = fixture_dial(f);
	for (size_t round = 0; round < 3; round++) {
		for (size_t i = 0; i < array_size(clients); i++) {
			f->client = clients[i];
			check(unary(f, "Echo", "x", 1, &resp, NULL) == GRPC_OK);
		}
	}
	for (size_t i = 0; i < array_size(clients); i++)
		grpc_client_close(clients[i]);
	f->client = first;
	return 0;
}

static void test_hundred_connections(void **state)
{
	(void)state;
	fixture_run(hundred);
}

/* --- errors ----------------------------------------------------------------------------------- */

static may_suspend void fail_with(struct fixture *f, uint32_t code, const char *text,
				  struct err *err, enum grpc_code want)
{
	auto_buf struct buf req = BUF_INIT, resp = BUF_INIT;
	uint32_t net = htonl(code);

	check(buf_append(&req, &net, 4) == 0 && buf_append(&req, text, strlen(text)) == 0);
	check(unary(f, "Fail", req.data, req.len, &resp, err) == want);
	check(resp.len == 0);
}

static may_suspend int errors(struct fixture *f)
{
	char longer[ERR_TEXT_MAX + 100];
	struct err err = ERR_INIT;

	for (uint32_t c = 1; c <= 16; c++) {
		fail_with(f, c, "100 % sch\xc3\xb6n \xe2\x82\xac\n", &err, (enum grpc_code)c);
		check(strcmp(err.text, "100 % sch\xc3\xb6n \xe2\x82\xac\n") == 0);
		check(err.code == grpc_code_errno((enum grpc_code)c));
	}
	fail_with(f, GRPC_NOT_FOUND, "", &err, GRPC_NOT_FOUND);
	check(strcmp(err.text, "NotFound") == 0);
	fail_with(f, 77, "what", &err, GRPC_UNKNOWN);
	memset(longer, '%', sizeof(longer));
	longer[sizeof(longer) - 1] = '\0';
	fail_with(f, GRPC_ABORTED, longer, &err, GRPC_ABORTED);
	check(strlen(err.text) == ERR_TEXT_MAX - 1);
	for (uint32_t c = 0; c < GRPC_CODES; c++) /* Fail is number 3 */
		check(grpc_server_calls(f->server, 3)[c] ==
		      (c == 0 ? 0
			      : 1u + (c == GRPC_NOT_FOUND || c == GRPC_UNKNOWN ||
				      c == GRPC_ABORTED)));
	return 0;
}

static void test_errors(void **state)
{
	(void)state;
	fixture_run(errors);
}

static may_suspend int unknown(struct fixture *f)
{
	auto_buf struct buf resp = BUF_INIT;
	struct grpc_server_stats st;
	struct err err = ERR_INIT;
	size_t n;

	check(unary(f, "Nothing", "x", 1, &resp, &err) == GRPC_UNIMPLEMENTED);
	check(strcmp(err.text, "unknown method /t.T/Nothing") == 0);
	check(unary(f, "Nothing else", "x", 1, &resp, &err) == GRPC_UNIMPLEMENTED);
	grpc_server_methods(f->server, &n);
	check(n == array_size(fixture_methods));
	check(grpc_server_calls(f->server, n)[GRPC_UNIMPLEMENTED] == 2);
	grpc_server_stats(f->server, &st);
	check(st.connections == 1 && st.accepted == 1 && st.refused == 0);
	/* no message in the answer is no answer to a unary call */
	check(unary(f, "Swallow", "x", 1, &resp, &err) == GRPC_INTERNAL);
	return 0;
}

static void test_unknown_method(void **state)
{
	(void)state;
	fixture_run(unknown);
}

/* --- deadlines and cancellation --------------------------------------------------------------- */

static may_suspend int deadline(struct fixture *f)
{
	auto_buf struct buf resp = BUF_INIT;
	struct err err = ERR_INIT;
	uint64_t start = loop_now_ns(loop_self());
	uint32_t ms = htonl(60000);

	check(grpc_unary(f->client, "/t.T/Sleep", NULL, 0, 500, &ms, 4, &resp, &err) ==
	      GRPC_DEADLINE_EXCEEDED);
	check(err.code == -ETIMEDOUT);
	check(loop_now_ns(loop_self()) - start < 600 * 1000000ull);
	task_sleep_ms(10);
	check(f->cancelled == 1 && f->running == 0);
	/* the longest, which the server keeps too */
	ms = htonl(RPC_TIMEOUT_MAX_MS + 1000);
	check(unary(f, "Sleep", &ms, 4, &resp, &err) == GRPC_DEADLINE_EXCEEDED);
	check(grpc_unary(f->client, "/t.T/Sleep", NULL, 0, GRPC_NO_DEADLINE, &ms, 4, &resp, &err) ==
	      GRPC_DEADLINE_EXCEEDED);
	return 0;
}

static void test_deadline(void **state)
{
	(void)state;
	fixture_run(deadline);
}

static may_suspend int stubborn(struct fixture *f)
{
	auto_buf struct buf resp = BUF_INIT;
	struct grpc_client *second = fixture_dial(f);

	check(grpc_unary(f->client, "/t.T/Stubborn", NULL, 0, 500, "", 0, &resp, NULL) ==
	      GRPC_DEADLINE_EXCEEDED);
	check(grpc_unary(second, "/t.T/Stubborn", NULL, 0, 500, "", 0, &resp, NULL) ==
	      GRPC_DEADLINE_EXCEEDED);
	check(f->running == 2);
	grpc_client_close(second); /* the handler outlives its connection */
	task_sleep_ms(10);
	f->open = true;
	waitq_wake_all(&f->gate);
	task_sleep_ms(10);
	check(f->running == 0 && f->cancelled == 2);
	check(unary(f, "Echo", "x", 1, &resp, NULL) == GRPC_OK);
	return 0;
}

static void test_stubborn_handler(void **state)
{
	(void)state;
	fixture_run(stubborn);
}

static may_suspend int start_and(struct fixture *f, bool flushed, struct grpc_call **ret_call)
{
	uint32_t ms = htonl(60000);

	check(grpc_call_start(f->client, "/t.T/Sleep", NULL, 0, 0, ret_call, NULL) == 0);
	check(grpc_send(*ret_call, &ms, 4) == 0);
	check(grpc_close_send(*ret_call) == 0);
	if (flushed)
		task_sleep_ms(10);
	return 0;
}

static may_suspend int cancels(struct fixture *f)
{
	auto_buf struct buf resp = BUF_INIT;
	struct err err = ERR_INIT;
	struct grpc_call *call;

	start_and(f, true, &call);
	check(f->running == 1);
	grpc_cancel(call);
	check(grpc_recv(call, &resp) == -ECANCELED);
	check(grpc_send(call, "x", 1) == -ECANCELED);
	check(grpc_finish(call, &err) == GRPC_CANCELLED);
	task_sleep_ms(10);
	check(f->running == 0 && f->cancelled == 1);
	start_and(f, false, &call); /* before a byte of it is sent */
	grpc_cancel(call);
	check(grpc_finish(call, &err) == GRPC_CANCELLED);
	check(unary(f, "Echo", "x", 1, &resp, &err) == GRPC_OK);
	check(f->running == 0);
	return 0;
}

static void test_cancel(void **state)
{
	(void)state;
	fixture_run(cancels);
}

static may_suspend int long_call(void *arg)
{
	struct crowd *c = arg;
	auto_buf struct buf resp = BUF_INIT;
	uint32_t ms = htonl(60000);

	check(unary(c->f, "Sleep", &ms, 4, &resp, NULL) == GRPC_CANCELLED);
	c->done++;
	return 0;
}

static may_suspend int caller_cancelled(struct fixture *f)
{
	struct crowd c = {f, 0};
	struct scope scope;

	scope_init(&scope, loop_self());
	for (size_t i = 0; i < CONNECTION_STREAMS_MAX + 20; i++) /* some wait for a stream */
		check(scope_spawn(&scope, long_call, &c, NULL) == 0);
	task_sleep_ms(100);
	check(f->running == CONNECTION_STREAMS_MAX);
	scope_cancel(&scope);
	scope_wait(&scope);
	check(c.done == CONNECTION_STREAMS_MAX + 20);
	task_sleep_ms(10);
	check(f->running == 0 && f->cancelled == CONNECTION_STREAMS_MAX);
	return 0;
}

static void test_caller_cancelled(void **state)
{
	(void)state;
	fixture_run(caller_cancelled);
}

static may_suspend int abandoned_streams(struct fixture *f)
{
	auto_buf struct buf msg = BUF_INIT;
	uint32_t req[2] = {htonl(1000), htonl(10000)};
	struct grpc_call *call;

	for (int i = 0; i < 20; i++) {
		check(grpc_call_start(f->client, "/t.T/Stream", NULL, 0, 0, &call, NULL) == 0);
		check(grpc_send(call, req, sizeof(req)) == 0);
		check(grpc_recv(call, &msg) == 1);
		if (i % 2) {
			grpc_cancel(call);
			check(grpc_finish(call, NULL) == GRPC_CANCELLED);
		} else { /* what is not read does not hold the status up */
			check(grpc_finish(call, NULL) == GRPC_OK);
		}
	}
	task_sleep_ms(10);
	check(f->running == 0);
	return 0;
}

static void test_abandoned_streams(void **state)
{
	(void)state;
	fixture_run(abandoned_streams);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_unary),
		cmocka_unit_test(test_server_stream),
		cmocka_unit_test(test_client_stream),
		cmocka_unit_test(test_bidi),
		cmocka_unit_test(test_thousand_calls),
		cmocka_unit_test(test_hundred_connections),
		cmocka_unit_test(test_errors),
		cmocka_unit_test(test_unknown_method),
		cmocka_unit_test(test_deadline),
		cmocka_unit_test(test_stubborn_handler),
		cmocka_unit_test(test_cancel),
		cmocka_unit_test(test_caller_cancelled),
		cmocka_unit_test(test_abandoned_streams),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
