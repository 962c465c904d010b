// SPDX-License-Identifier: Apache-2.0
/* The server before peers that speak HTTP/2 badly, slowly, or not at all. */
#include "raw_h2.h"

#include "base/banned.h"

static may_suspend void raw_open(struct fixture *f, struct raw *r)
{
	raw_init(r, fixture_raw(f));
	raw_preface(r);
	raw_flush(r);
}

static may_suspend void still_serves(struct fixture *f)
{
	auto_buf struct buf resp = BUF_INIT;

	check(unary(f, "Echo", "x", 1, &resp, NULL) == GRPC_OK);
}

static may_suspend int first_frames(struct fixture *f)
{
	struct raw r;
	bool found = false;

	raw_open(f, &r);
	check(raw_next(&r, 5000) == SETTINGS && !(r.flags & ACK));
	for (size_t i = 0; i + 6 <= r.payload.len; i += 6) {
		const uint8_t *p = r.payload.data + i;

		if (p[0] == 0 && p[1] == 3)
			found = p[4] == CONNECTION_STREAMS_MAX >> 8 && p[5] == 0;
	}
	check(found);
	raw_frame(&r, PING, 0, 0, "12345678", 8);
	raw_flush(&r);
	check(raw_until(&r, PING, 5000) == PING && r.flags & ACK);
	check(memcmp(r.payload.data, "12345678", 8) == 0);
	raw_close(&r);
	return 0;
}

static void test_first_frames(void **state)
{
	(void)state;
	fixture_run(first_frames);
}

/* --- one request ------------------------------------------------------------------------------ */

static may_suspend void expect(struct fixture *f, const char **pairs, const char *status,
			       const char *grpc_status)
{
	struct raw r;

	raw_open(f, &r);
	raw_headers(&r, 1, END_STREAM, pairs);
	raw_flush(&r);
	check(raw_end(&r, 1));
	check(strcmp(r.status, status) == 0 && strcmp(r.grpc_status, grpc_status) == 0);
	raw_close(&r);
}

#define COMMON ":scheme", "http", ":authority", "localhost", "te", "trailers"

static may_suspend int http_statuses(struct fixture *f)
{
	const char *get[] = {":method",          "GET",  ":path",
			     "/t.T/Echo",        COMMON, "content-type",
			     "application/grpc", NULL};
	const char *json[] = {":method",          "POST", ":path",
			      "/t.T/Echo",        COMMON, "content-type",
			      "application/json", NULL};
	const char *none[] = {":method", "POST", ":path", "/t.T/Echo", COMMON, NULL};
	const char *timeout[] = {
		":method",          "POST",         ":path", "/t.T/Echo", COMMON, "content-type",
		"application/grpc", "grpc-timeout", "1x",    NULL};
	const char *zero[] = {
		":method",          "POST",         ":path", "/t.T/Sleep", COMMON, "content-type",
		"application/grpc", "grpc-timeout", "0m",    NULL};
	const char *method[] = {":method",
				"POST",
				":path",
				"/t.T/No%pe",
				COMMON,
				"content-type",
				"application/grpc+proto",
				NULL};

	expect(f, get, "405", "13");
	expect(f, json, "415", "3");
	expect(f, none, "415", "3");
	expect(f, timeout, "400", "13");
	expect(f, zero, "200", "4");
	expect(f, method, "200", "12");
	check(f->running == 0);
	return 0;
}

static void test_http_statuses(void **state)
{
	(void)state;
	fixture_run(http_statuses);
}

static may_suspend int request_deadline(struct fixture *f)
{
	const char *pairs[] = {
		":method",          "POST",         ":path", "/t.T/Echo", COMMON, "content-type",
		"application/grpc", "grpc-timeout", "300m",  NULL};
	uint64_t start = loop_now_ns(loop_self());
	struct raw r;

	raw_open(f, &r);
	raw_headers(&r, 1, 0, pairs); /* and no message */
	raw_flush(&r);
	check(raw_end(&r, 1));
	check(strcmp(r.grpc_status, "4") == 0);
	check(loop_now_ns(loop_self()) - start < 400 * 1000000ull);
	check(raw_next(&r, 5000) == RST && r.payload.data[3] == 0); /* the request was not over */
	task_yield();
	check(f->running == 0);
	raw_close(&r);
	return 0;
}

static void test_server_deadline(void **state)
{
	(void)state;
	fixture_run(request_deadline);
}

/* Queued messages that are not taken do not hold up the end of a call. */
static may_suspend int deadline_behind_data(struct fixture *f)
{
	const char *pairs[] = {
		":method",          "POST",         ":path", "/t.T/Stream", COMMON, "content-type",
		"application/grpc", "grpc-timeout", "300m",  NULL};
	uint32_t req[2] = {htonl(1000), htonl(10000)};
	struct raw r;

	raw_open(f, &r);
	raw_headers(&r, 1, 0, pairs);
	raw_message(&r, 1, END_STREAM, req, sizeof(req));
	raw_flush(&r);
	check(raw_until(&r, RST, 5000) == RST); /* no credit was given */
	check(r.payload.data[3] == 8);
	task_yield();
	check(f->running == 0);
	raw_close(&r);
	return 0;
}

static void test_deadline_behind_data(void **state)
{
	(void)state;
	fixture_run(deadline_behind_data);
}

static may_suspend int framing(struct fixture *f)
{
	static const uint8_t three[] = {0, 0, 0, 0, 1, 'a', 0, 0, 0, 0, 0, 0, 0, 0, 0, 2, 'b', 'c'};
	struct raw r;

	raw_open(f, &r);
	raw_request(&r, 1, 0, "/t.T/Bidi");
	for (size_t i = 0; i < sizeof(three); i++)
		raw_frame(&r, DATA, 0, 1, three + i, 1);
	raw_frame(&r, DATA, 0, 1, three, sizeof(three)); /* several in one */
	raw_frame(&r, DATA, END_STREAM, 1, "", 0);
	raw_flush(&r);
	check(raw_until(&r, HEADERS, 5000) == HEADERS);
	for (size_t n = 0; n < 2 * sizeof(three); n += r.payload.len)
		check(raw_until(&r, DATA, 5000) == DATA);
	check(raw_end(&r, 1) && strcmp(r.grpc_status, "0") == 0);
	raw_close(&r);
	return 0;
}

static void test_framing(void **state)
{
	(void)state;
	fixture_run(framing);
}

static may_suspend void bad_message(struct fixture *f, const char *head, const char *grpc_status)
{
	struct raw r;

	raw_open(f, &r);
	raw_request(&r, 1, 0, "/t.T/Echo");
	raw_frame(&r, DATA, 0, 1, head, 5); /* the head alone is enough */
	raw_flush(&r);
	check(raw_end(&r, 1));
	check(strcmp(r.grpc_status, grpc_status) == 0);
	check(raw_until(&r, RST, 5000) == RST);
	raw_frame(&r, DATA, 0, 1, "more of it", 10);
	raw_request(&r, 3, 0, "/t.T/Echo");
	raw_message(&r, 3, END_STREAM, "x", 1);
	raw_flush(&r);
	check(raw_end(&r, 3) && strcmp(r.grpc_status, "0") == 0);
	raw_close(&r);
}

static may_suspend int bad_messages(struct fixture *f)
{
	bad_message(f, "\1\0\0\0\1", "12");
	bad_message(f, "\0\0\x10\0\1", "8");
	bad_message(f, "\0\xff\xff\xff\xff", "8");
	task_sleep_ms(1);
	check(f->running == 0);
	return 0;
}

static void test_bad_messages(void **state)
{
	(void)state;
	fixture_run(bad_messages);
}

static may_suspend int truncated(struct fixture *f)
{
	struct raw r;

	raw_open(f, &r);
	raw_request(&r, 1, 0, "/t.T/Echo");
	raw_frame(&r, DATA, END_STREAM, 1, "\0\0\0\0\5abc", 8);
	raw_flush(&r);
	check(raw_end(&r, 1) && strcmp(r.grpc_status, "1") == 0); /* the handler's own answer */
	raw_close(&r);
	return 0;
}

static void test_truncated_message(void **state)
{
	(void)state;
	fixture_run(truncated);
}

static may_suspend int reset(struct fixture *f)
{
	uint32_t ms = htonl(60000);
	struct raw r;

	raw_open(f, &r);
	raw_request(&r, 1, 0, "/t.T/Sleep");
	raw_message(&r, 1, END_STREAM, &ms, 4);
	raw_flush(&r);
	task_sleep_ms(1);
	check(f->running == 1);
	raw_frame(&r, RST, 0, 1, "\0\0\0\10", 4);
	raw_frame(&r, PING, 0, 0, "12345678", 8);
	raw_flush(&r);
	check(raw_until(&r, PING, 5000) == PING);
	while (raw_next(&r, 10) != CLOSED)
		check(r.stream != 1); /* nothing is said about it any more */
	check(f->running == 0 && f->cancelled == 1);
	raw_close(&r);
	return 0;
}

static void test_reset_cancels(void **state)
{
	(void)state;
	fixture_run(reset);
}

/* --- bad connections -------------------------------------------------------------------------- */

static may_suspend void send_garbage(struct fixture *f, const void *data, size_t len, bool preface)
{
	struct raw r;

	raw_init(&r, fixture_raw(f));
	if (preface)
		raw_preface(&r);
	raw_bytes(&r, data, len);
	raw_flush(&r);
	check(raw_until(&r, -2, 60000) == CLOSED);
	check(io_recv(r.fd, &r.type, 1, 0) <= 0);
	raw_close(&r);
}

static may_suspend int garbage(struct fixture *f)
{
	static const char http1[] = "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n";
	char noise[4096];
	uint64_t start = loop_now_ns(loop_self());

	for (size_t i = 0; i < sizeof(noise); i++)
		noise[i] = (char)(i * 7919 >> 4);
	send_garbage(f, http1, sizeof(http1) - 1, false);
	send_garbage(f, noise, sizeof(noise), false);
	send_garbage(f, noise, sizeof(noise), true);
	send_garbage(f, "\0\0\1\1\4\0\0\0\1\xff", 10, true);     /* no HPACK */
	send_garbage(f, "\0\0\4\3\0\0\0\0\7\0\0\0\0", 13, true); /* RST of an idle stream */
	check(loop_now_ns(loop_self()) - start < HANDSHAKE_TIMEOUT_MS * 1000000ull);
	still_serves(f);
	return 0;
}

static void test_garbage(void **state)
{
	(void)state;
	fixture_run(garbage);
}

static may_suspend int dies(struct fixture *f)
{
	uint32_t ms = htonl(60000);
	struct raw r;

	for (size_t cut = 1; cut < 30; cut += 7) {
		raw_open(f, &r);
		raw_request(&r, 1, 0, "/t.T/Sleep");
		raw_message(&r, 1, END_STREAM, &ms, 4);
		raw_flush(&r);
		raw_request(&r, 3, 0, "/t.T/Echo");
		r.out.len = cut;
		raw_flush(&r);
		task_sleep_ms(1);
		check(f->running == 1);
		raw_close(&r);
		task_sleep_ms(1);
		check(f->running == 0);
	}
	still_serves(f);
	return 0;
}

static void test_dies_in_frame(void **state)
{
	(void)state;
	fixture_run(dies);
}

static may_suspend int handshake(struct fixture *f)
{
	uint64_t start = loop_now_ns(loop_self());
	struct raw r;
	unsigned n = 0;

	raw_init(&r, fixture_raw(f));
	check(raw_until(&r, -2, 60000) == CLOSED);
	check(loop_now_ns(loop_self()) - start <= (HANDSHAKE_TIMEOUT_MS + 100) * 1000000ull);
	raw_close(&r);
	raw_init(&r, fixture_raw(f)); /* a byte a second does not help */
	start = loop_now_ns(loop_self());
	while (io_send(r.fd, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + n, 1, 0) == 1) {
		task_sleep_ms(1000);
		check(++n < 24);
	}
	check(loop_now_ns(loop_self()) - start <= (HANDSHAKE_TIMEOUT_MS + 2000) * 1000000ull);
	raw_close(&r);
	still_serves(f);
	return 0;
}

static void test_handshake_timeout(void **state)
{
	(void)state;
	fixture_run(handshake);
}

static may_suspend int keepalive(struct fixture *f)
{
	uint64_t start = loop_now_ns(loop_self()), s = 1000000000ull;
	struct raw r;

	raw_open(f, &r);
	for (unsigned i = 1; i <= 3; i++) { /* one that answers */
		check(raw_until(&r, PING, KEEPALIVE_IDLE_MS + 1000) == PING);
		check((loop_now_ns(loop_self()) - start) / s == i * KEEPALIVE_IDLE_MS / 1000);
		raw_frame(&r, PING, ACK, 0, r.payload.data, 8);
		raw_flush(&r);
	}
	check(raw_until(&r, PING, KEEPALIVE_IDLE_MS + 1000) == PING);
	start = loop_now_ns(loop_self());
	check(raw_until(&r, -2, KEEPALIVE_TIMEOUT_MS * 2) == CLOSED);
	check((loop_now_ns(loop_self()) - start) / s == KEEPALIVE_TIMEOUT_MS / 1000);
	raw_close(&r);
	still_serves(f); /* the client here answers by itself */
	return 0;
}

static void test_keepalive(void **state)
{
	(void)state;
	fixture_run(keepalive);
}

static may_suspend int stops_reading(struct fixture *f)
{
	uint32_t req[2] = {htonl(100000), htonl(10000)};
	uint64_t start = loop_now_ns(loop_self());
	struct raw r;

	raw_init(&r, fixture_raw(f));
	raw_bytes(&r, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 24);
	raw_frame(&r, SETTINGS, 0, 0, "\0\4\x7f\xff\xff\xff", 6); /* all the window there is */
	raw_frame(&r, WINDOW, 0, 0, "\x7f\xff\0\0", 4);
	raw_request(&r, 1, 0, "/t.T/Stream");
	raw_message(&r, 1, END_STREAM, req, sizeof(req));
	raw_flush(&r);
	task_sleep_ms(1000);
	check(f->running == 1);
	still_serves(f);
	while (f->running)
		task_sleep_ms(1000);
	check((loop_now_ns(loop_self()) - start) / 1000000 <= WRITE_TIMEOUT_MS + 2000);
	raw_close(&r);
	return 0;
}

static void test_stops_reading(void **state)
{
	(void)state;
	fixture_run(stops_reading);
}

/* --- floods ----------------------------------------------------------------------------------- */

static may_suspend int floods(struct fixture *f)
{
	struct raw r;

	raw_open(f, &r); /* questions, with no ear for the answers */
	for (int round = 0; round < 200; round++) {
		for (int i = 0; i < 1000; i++)
			raw_frame(&r, PING, 0, 0, "12345678", 8);
		raw_flush(&r);
	}
	raw_close(&r);
	raw_open(f, &r); /* requests that are taken back at once */
	for (uint32_t i = 0; i < 20000; i++) {
		raw_request(&r, 2 * i + 1, END_STREAM, "/t.T/Sleep");
		raw_frame(&r, RST, 0, 2 * i + 1, "\0\0\0\10", 4);
	}
	raw_flush(&r);
	check(raw_until(&r, GOAWAY, 5000) == GOAWAY);
	raw_close(&r);
	task_sleep_ms(10);
	check(f->running == 0);
	still_serves(f);
	return 0;
}

static void test_floods(void **state)
{
	(void)state;
	fixture_run(floods);
}

static may_suspend int too_many_streams(struct fixture *f)
{
	uint32_t ms = htonl(60000);
	struct raw r;

	raw_open(f, &r);
	for (uint32_t i = 0; i < CONNECTION_STREAMS_MAX + 10; i++) {
		raw_request(&r, 2 * i + 1, 0, "/t.T/Sleep");
		raw_message(&r, 2 * i + 1, END_STREAM, &ms, 4);
	}
	raw_flush(&r);
	/* refused, or the end of it: the limit is kept */
	while (raw_next(&r, 1000) != CLOSED && r.type != RST && r.type != GOAWAY)
		check(f->running <= CONNECTION_STREAMS_MAX);
	check(r.type == RST || r.type == GOAWAY);
	raw_close(&r);
	task_sleep_ms(10);
	check(f->running == 0);
	return 0;
}

static void test_too_many_streams(void **state)
{
	(void)state;
	fixture_run(too_many_streams);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_first_frames),
		cmocka_unit_test(test_http_statuses),
		cmocka_unit_test(test_server_deadline),
		cmocka_unit_test(test_deadline_behind_data),
		cmocka_unit_test(test_framing),
		cmocka_unit_test(test_bad_messages),
		cmocka_unit_test(test_truncated_message),
		cmocka_unit_test(test_reset_cancels),
		cmocka_unit_test(test_garbage),
		cmocka_unit_test(test_dies_in_frame),
		cmocka_unit_test(test_handshake_timeout),
		cmocka_unit_test(test_keepalive),
		cmocka_unit_test(test_stops_reading),
		cmocka_unit_test(test_floods),
		cmocka_unit_test(test_too_many_streams),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
