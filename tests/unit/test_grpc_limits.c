// SPDX-License-Identifier: Apache-2.0
/* gRPC at its limits, while shutting down, and over sockets that fail. */
#include "raw_h2.h"

#include <sys/resource.h>
#include <time.h>

#include "base/banned.h"

static may_suspend void still_serves(struct fixture *f)
{
	auto_buf struct buf resp = BUF_INIT;
	struct err err = ERR_INIT;

	if (unary(f, "Echo", "x", 1, &resp, &err) != GRPC_OK) {
		fprintf(stderr, "%s\n", err.text);
		abort();
	}
}

/* A call to a handler that does not read yet. */
static may_suspend struct grpc_call *blind_call(struct fixture *f)
{
	struct grpc_call *call;

	check(grpc_call_start(f->client, "/t.T/Stubborn", NULL, 0, 0, &call, NULL) == 0);
	return call;
}

static void open_gate(struct fixture *f)
{
	f->open = true;
	waitq_wake_all(&f->gate);
}

/* --- limits ----------------------------------------------------------------------------------- */

static may_suspend int messages(struct fixture *f)
{
	auto_buf struct buf resp = BUF_INIT;
	auto_free uint8_t *req = calloc(1, MiB(1) + 1);
	struct err err = ERR_INIT;

	check(unary(f, "Echo", req, MiB(1) + 1, &resp, &err) == GRPC_RESOURCE_EXHAUSTED);
	check(unary(f, "Echo", req, MiB(1), &resp, &err) == GRPC_OK);
	return 0;
}

static void test_message_size(void **state)
{
	(void)state;
	fixture_run(messages);
}

static may_suspend int header_list(struct fixture *f)
{
	auto_buf struct buf resp = BUF_INIT;
	struct err err = ERR_INIT;
	struct grpc_metadata md[GRPC_METADATA_MAX + 1];
	char value[2001];

	memset(value, 'v', sizeof(value));
	value[2000] = '\0';
	for (size_t i = 0; i < array_size(md); i++)
		md[i] = (struct grpc_metadata){"name", value};
	check(grpc_unary(f->client, "/t.T/Echo", md, 7, 0, "x", 1, &resp, &err) == GRPC_OK);
	check(grpc_unary(f->client, "/t.T/Echo", md, 9, 0, "x", 1, &resp, &err) ==
	      GRPC_RESOURCE_EXHAUSTED);
	check(strstr(err.text, "header list"));
	check(grpc_unary(f->client, "/t.T/Echo", md, 17, 0, "x", 1, &resp, &err) ==
	      GRPC_RESOURCE_EXHAUSTED);
	still_serves(f);
	return 0;
}

static void test_header_list(void **state)
{
	(void)state;
	fixture_run(header_list);
}

static may_suspend int fill_call(void *arg)
{
	struct grpc_call *call = arg;
	auto_free uint8_t *req = calloc(1, KiB(600));

	return grpc_send(call, req, KiB(600)) == 0 && grpc_send(call, req, KiB(600)) == 0 ? 0 : 1;
}

static may_suspend int buffered(struct fixture *f)
{
	enum { CALLS = 90 };
	struct grpc_call *calls[CALLS];
	struct scope scope;
	unsigned refused = 0;
	struct err err = ERR_INIT;
	enum grpc_code code;

	scope_init(&scope, loop_self());
	for (size_t i = 0; i < CALLS; i++) {
		calls[i] = blind_call(f);
		check(scope_spawn(&scope, fill_call, calls[i], NULL) == 0);
	}
	task_sleep_ms(1000);
	open_gate(f);
	task_sleep_ms(1000);
	scope_cancel(&scope);
	scope_wait(&scope);
	for (size_t i = 0; i < CALLS; i++) {
		code = grpc_finish(calls[i], &err);
		refused += code == GRPC_RESOURCE_EXHAUSTED;
		check(code == GRPC_RESOURCE_EXHAUSTED || code == GRPC_OK);
	}
	check(refused > 10 && refused < 40);
	still_serves(f);
	return 0;
}

static void test_buffered_bytes(void **state)
{
	(void)state;
	fixture_run(buffered);
}

static may_suspend int filler(void *arg)
{
	struct waitq *q = arg;

	return waitq_wait(q);
}

static may_suspend int tasks(struct fixture *f)
{
	auto_buf struct buf resp = BUF_INIT;
	struct scope scope;
	struct waitq q;
	int n = 0;

	waitq_init(&q);
	scope_init(&scope, loop_self());
	while (scope_spawn(&scope, filler, &q, NULL) == 0) {
		if (++n % 1000 == 0)
			task_yield();
	}
	check(unary(f, "Echo", "x", 1, &resp, NULL) == GRPC_RESOURCE_EXHAUSTED);
	scope_cancel(&scope);
	scope_wait(&scope);
	still_serves(f);
	return 0;
}

static void test_tasks(void **state)
{
	(void)state;
	fixture_run(tasks);
}

static may_suspend int connections(struct fixture *f)
{
	struct rlimit rl = {4096, 4096};
	struct err err = ERR_INIT;
	struct grpc_client *c;
	int fds[CONNECTIONS_MAX];

	if (setrlimit(RLIMIT_NOFILE, &rl) < 0)
		return 0;
	for (size_t i = 0; i + 1 < CONNECTIONS_MAX; i++)
		fds[i] = fixture_raw(f);
	task_sleep_ms(10);
	check(grpc_dial(loop_self(), f->path, 1000, &c, &err) < 0);
	still_serves(f);
	close(fds[0]);
	task_sleep_ms(10);
	c = fixture_dial(f);
	grpc_client_close(c);
	for (size_t i = 1; i + 1 < CONNECTIONS_MAX; i++)
		close(fds[i]);
	return 0;
}

static void test_connections(void **state)
{
	(void)state;
	fixture_run(connections);
}

static uint64_t cpu_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &ts);
	return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

static may_suspend int descriptors(struct fixture *f)
{
	struct rlimit old, none;
	struct raw r;
	uint64_t cpu;
	int fd;

	getrlimit(RLIMIT_NOFILE, &old);
	raw_init(&r, fixture_raw(f));
	task_sleep_ms(1);
	fd = fixture_raw(f);
	none = (struct rlimit){(rlim_t)fd + 1, old.rlim_max};
	check(setrlimit(RLIMIT_NOFILE, &none) == 0); /* accept finds no free one now */
	task_sleep_ms(1);
	cpu = cpu_ns();
	task_sleep_ms(10000);
	check(cpu_ns() - cpu < 1000000000u);
	check(setrlimit(RLIMIT_NOFILE, &old) == 0);
	raw_close(&r);
	raw_init(&r, fd);
	check(raw_next(&r, 5000) == SETTINGS);
	raw_close(&r);
	return 0;
}

static void test_descriptors(void **state)
{
	(void)state;
	fixture_run(descriptors);
}

/* --- the end ---------------------------------------------------------------------------------- */

struct caller {
	struct fixture *f;
	uint32_t ms;
	enum grpc_code code;
};

static may_suspend int caller(void *arg)
{
	struct caller *c = arg;
	auto_buf struct buf resp = BUF_INIT;
	uint32_t ms = htonl(c->ms);

	c->code = unary(c->f, "Sleep", &ms, 4, &resp, NULL);
	return 0;
}

static may_suspend int drain(struct fixture *f)
{
	struct caller quick = {f, 1500, GRPC_UNKNOWN}, slow = {f, 60000, GRPC_UNKNOWN};
	auto_buf struct buf resp = BUF_INIT;
	struct grpc_client *c;
	struct scope scope;
	uint64_t start = loop_now_ns(loop_self());
	struct raw r;

	raw_init(&r, fixture_raw(f));
	raw_preface(&r);
	raw_flush(&r);
	scope_init(&scope, loop_self());
	check(scope_spawn(&scope, caller, &quick, NULL) == 0);
	check(scope_spawn(&scope, caller, &slow, NULL) == 0);
	task_sleep_ms(100);
	check(f->running == 2);
	grpc_server_drain(f->server, 5000);
	check(f->running == 0);
	check(loop_now_ns(loop_self()) - start < 6500 * 1000000ull);
	scope_wait(&scope);
	check(quick.code == GRPC_OK && slow.code == GRPC_UNAVAILABLE);
	check(!grpc_client_usable(f->client));
	check(unary(f, "Echo", "x", 1, &resp, NULL) == GRPC_UNAVAILABLE);
	check(grpc_dial(loop_self(), f->path, 1000, &c, NULL) < 0);
	check(raw_until(&r, GOAWAY, 5000) == GOAWAY && r.payload.data[0] == 0x7f);
	check(raw_until(&r, GOAWAY, 5000) == GOAWAY && r.payload.data[0] == 0);
	check(raw_next(&r, 5000) == CLOSED);
	raw_close(&r);
	return 0;
}

static void test_drain(void **state)
{
	(void)state;
	fixture_run(drain);
}

static may_suspend int drain_idle(struct fixture *f)
{
	uint64_t start = loop_now_ns(loop_self());

	still_serves(f);
	grpc_server_drain(f->server, 5000);
	check(loop_now_ns(loop_self()) - start < 100 * 1000000ull);
	return 0;
}

static void test_drain_idle(void **state)
{
	(void)state;
	fixture_run(drain_idle);
}

static may_suspend int client_close(struct fixture *f)
{
	struct caller c[CONNECTION_STREAMS_MAX + 10];
	struct scope scope;

	scope_init(&scope, loop_self());
	for (size_t i = 0; i < array_size(c); i++) {
		c[i] = (struct caller){f, 60000, GRPC_UNKNOWN};
		check(scope_spawn(&scope, caller, &c[i], NULL) == 0);
	}
	task_sleep_ms(100);
	grpc_client_close(take_ptr(f->client));
	scope_wait(&scope);
	for (size_t i = 0; i < array_size(c); i++)
		check(c[i].code == GRPC_UNAVAILABLE);
	task_sleep_ms(1);
	check(f->running == 0 && f->cancelled == CONNECTION_STREAMS_MAX);
	return 0;
}

static void test_client_close(void **state)
{
	(void)state;
	fixture_run(client_close);
}

/* --- faults ----------------------------------------------------------------------------------- */

static may_suspend int faulty_round(void *arg)
{
	struct fixture *f = arg;
	auto_buf struct buf msg = BUF_INIT;
	struct grpc_client *client;
	struct grpc_call *call;
	uint32_t req[2] = {htonl(50), htonl(3000)};

	if (grpc_dial(loop_self(), f->path, 2000, &client, NULL) < 0)
		return 0;
	for (int i = 0; i < 10 && grpc_client_usable(client); i++) {
		if (grpc_unary(client, "/t.T/Echo", NULL, 0, 1000, "abc", 3, &msg, NULL) == GRPC_OK)
			check(msg.len == 3 && memcmp(msg.data, "abc", 3) == 0);
		if (grpc_call_start(client, "/t.T/Stream", NULL, 0, 1000, &call, NULL) < 0)
			break;
		if (grpc_send(call, req, sizeof(req)) == 0) {
			for (uint32_t n = 0; grpc_recv(call, &msg) == 1; n++)
				check(msg.len == 3000 && number(&msg, 0) == n);
		}
		grpc_cancel(call);
		(void)grpc_finish(call, NULL);
	}
	grpc_client_close(client);
	return 0;
}

static may_suspend int faulty(struct fixture *f)
{
	struct scope scope;

	for (uint64_t seed = 1; seed <= 40; seed++) {
		io_faults = (struct io_faults){.seed = seed * 0x9E3779B97F4A7C15ull,
					       .short_permille = seed % 4 ? 300 : 950,
					       .fail_permille = seed % 3 ? 0 : 20};
		scope_init(&scope, loop_self());
		for (int i = 0; i < 4; i++)
			check(scope_spawn(&scope, faulty_round, f, NULL) == 0);
		scope_wait(&scope);
		io_faults = (struct io_faults){0};
		task_sleep_ms(100);
		check(f->running == 0);
	}
	grpc_client_close(f->client); /* it may have been hit */
	f->client = fixture_dial(f);
	still_serves(f);
	return 0;
}

static void test_faults(void **state)
{
	(void)state;
	fixture_run(faulty);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_message_size),   cmocka_unit_test(test_header_list),
		cmocka_unit_test(test_buffered_bytes), cmocka_unit_test(test_tasks),
		cmocka_unit_test(test_connections),    cmocka_unit_test(test_descriptors),
		cmocka_unit_test(test_drain),          cmocka_unit_test(test_drain_idle),
		cmocka_unit_test(test_client_close),   cmocka_unit_test(test_faults),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
