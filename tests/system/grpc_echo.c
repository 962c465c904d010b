// SPDX-License-Identifier: Apache-2.0
/*
 * A gRPC peer for test_grpc_go.sh: `serve SOCKET` answers tests/go/grpcprobe, `call SOCKET` calls
 * it, `callzip SOCKET` does so when its answers are compressed, `drain SOCKET PID` ends it in the
 * middle of a call. Messages are raw bytes; numbers in them are 32 bits, big-endian.
 */
#include <arpa/inet.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>

#include "base/limits.h"
#include "base/log.h"
#include "base/str.h"
#include "loop/io.h"
#include "loop/loop.h"
#include "loop/scope.h"
#include "net/grpc.h"

#include "base/banned.h"

static unsigned cancelled; /* handlers that were */

static uint32_t number(const struct buf *b, size_t i)
{
	uint32_t v = 0;

	if (b->len >= i * 4 + 4)
		memcpy(&v, b->data + i * 4, 4);
	return ntohl(v);
}

static uint64_t cpu_us(void)
{
	struct rusage ru;

	getrusage(RUSAGE_SELF, &ru);
	return (uint64_t)(ru.ru_utime.tv_sec + ru.ru_stime.tv_sec) * 1000000u +
	       (uint64_t)(ru.ru_utime.tv_usec + ru.ru_stime.tv_usec);
}

static enum grpc_code answer_of(int r)
{
	return r < 0 ? GRPC_CANCELLED : GRPC_OK;
}

static may_suspend enum grpc_code serve_unary(struct grpc_call *call, void *arg, struct err *err)
{
	auto_buf struct buf msg = BUF_INIT;
	int r = grpc_recv(call, &msg);

	(void)arg, (void)err;
	return answer_of(r == 1 ? grpc_send(call, msg.data, msg.len) : r);
}

/* count messages of size bytes, numbered in their first four. */
static may_suspend enum grpc_code serve_stream(struct grpc_call *call, void *arg, struct err *err)
{
	auto_buf struct buf msg = BUF_INIT;
	auto_free uint8_t *out = NULL;
	int r = grpc_recv(call, &msg);
	uint32_t count = number(&msg, 0), size = number(&msg, 1), net;

	(void)arg, (void)err;
	out = calloc(1, size + 4);
	for (uint32_t i = 0; r >= 0 && i < count; i++) {
		net = htonl(i);
		memcpy(out, &net, 4);
		r = grpc_send(call, out, size);
	}
	return answer_of(r);
}

static may_suspend enum grpc_code serve_bidi(struct grpc_call *call, void *arg, struct err *err)
{
	auto_buf struct buf msg = BUF_INIT;
	int r;

	(void)arg, (void)err;
	while ((r = grpc_recv(call, &msg)) == 1) {
		r = grpc_send(call, msg.data, msg.len);
		if (r < 0)
			break;
	}
	return answer_of(r);
}

/* Fails with the code and the text that it is given. */
static may_suspend enum grpc_code serve_fail(struct grpc_call *call, void *arg, struct err *err)
{
	auto_buf struct buf msg = BUF_INIT;
	int r = grpc_recv(call, &msg);

	(void)arg;
	if (r < 1 || msg.len < 4)
		return GRPC_INTERNAL;
	err_set(err, -EINVAL, "%.*s", (int)msg.len - 4, (char *)msg.data + 4);
	return (enum grpc_code)number(&msg, 0);
}

static may_suspend enum grpc_code serve_sleep(struct grpc_call *call, void *arg, struct err *err)
{
	auto_buf struct buf msg = BUF_INIT;
	int r = grpc_recv(call, &msg);

	(void)arg, (void)err;
	if (r == 1)
		r = task_sleep_ms(number(&msg, 0));
	if (r < 0)
		cancelled++;
	return r < 0 ? GRPC_CANCELLED : answer_of(grpc_send(call, "", 0));
}

/* How many handlers were cancelled, and the processor time so far. */
static may_suspend enum grpc_code serve_stat(struct grpc_call *call, void *arg, struct err *err)
{
	uint32_t out[2] = {htonl(cancelled), htonl((uint32_t)cpu_us())};

	(void)arg, (void)err;
	return answer_of(grpc_send(call, out, sizeof(out)));
}

static const struct grpc_method methods[] = {
	{"/echo.Echo/Unary", serve_unary, false}, {"/echo.Echo/Stream", serve_stream, false},
	{"/echo.Echo/Bidi", serve_bidi, false},   {"/echo.Echo/Fail", serve_fail, false},
	{"/echo.Echo/Sleep", serve_sleep, false}, {"/echo.Echo/Stat", serve_stat, false},
};

struct server {
	struct grpc_server *grpc;
	int fd;
};

static may_suspend int accept_task(void *arg)
{
	struct server *s = arg;

	return grpc_server_run(s->grpc, s->fd);
}

static may_suspend int serve(void *arg)
{
	char **args = arg;
	struct err err = ERR_INIT;
	struct server s;
	struct scope scope;
	struct signalfd_siginfo si;
	sigset_t set;
	auto_close int sig = -1;
	struct sockaddr_un sun = {.sun_family = AF_UNIX};

	snprintf(sun.sun_path, sizeof(sun.sun_path), "%s", args[0]);
	s.fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (bind(s.fd, (struct sockaddr *)&sun, sizeof(sun)) < 0 || listen(s.fd, 128) < 0) {
		perror(args[0]);
		return 1;
	}
	if (grpc_server_new(loop_self(), methods, array_size(methods), NULL, &s.grpc, &err) < 0)
		return 1;
	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigprocmask(SIG_BLOCK, &set, NULL);
	sig = signalfd(-1, &set, SFD_CLOEXEC);
	scope_init(&scope, loop_self());
	if (scope_spawn(&scope, accept_task, &s, NULL) < 0)
		return 1;
	if (io_read(sig, &si, sizeof(si), 0, 0) < 0)
		return 1;
	scope_cancel(&scope);
	scope_wait(&scope);
	close(s.fd);
	grpc_server_drain(s.grpc, 2000);
	grpc_server_free(s.grpc);
	fprintf(stderr, "stack=%zu cancelled=%u\n", task_stack_watermark(), cancelled);
	return 0;
}

/* --- client ---------------------------------------------------------------------------------- */

static uint64_t clock_us(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000u + (uint64_t)ts.tv_nsec / 1000u;
}

#define check(cond)                                                                                \
	do {                                                                                       \
		if (!(cond)) {                                                                     \
			fprintf(stderr, "%s:%d: %s (%s)\n", __FILE__, __LINE__, #cond, err.text);  \
			return 1;                                                                  \
		}                                                                                  \
	} while (0)

static may_suspend int call_simple(struct grpc_client *c)
{
	static const char text[] = "100 % sch\xc3\xb6n \xe2\x82\xac\n";
	auto_buf struct buf resp = BUF_INIT;
	struct err err = ERR_INIT;
	struct grpc_metadata md = {"containerd-namespace", "k8s.io"};
	uint8_t fail[64] = {0, 0, 0, 5};
	uint32_t ms = htonl(60000);

	check(grpc_unary(c, "/echo.Echo/Unary", NULL, 0, 5000, "hello", 5, &resp, &err) == GRPC_OK);
	check(resp.len == 5 && memcmp(resp.data, "hello", 5) == 0);
	check(grpc_unary(c, "/echo.Echo/Meta", &md, 1, 5000, "", 0, &resp, &err) == GRPC_OK);
	check(resp.len == 6 && memcmp(resp.data, "k8s.io", 6) == 0);
	memcpy(fail + 4, text, sizeof(text) - 1);
	check(grpc_unary(c, "/echo.Echo/Fail", NULL, 0, 0, fail, 4 + sizeof(text) - 1, &resp,
			 &err) == GRPC_NOT_FOUND);
	check(strcmp(err.text, text) == 0 && err.code == -ENOENT);
	check(grpc_unary(c, "/echo.Echo/None", NULL, 0, 0, "", 0, &resp, &err) ==
	      GRPC_UNIMPLEMENTED);
	check(grpc_unary(c, "/echo.Echo/Sleep", NULL, 0, 200, &ms, 4, &resp, &err) ==
	      GRPC_DEADLINE_EXCEEDED);
	return 0;
}

static may_suspend int call_stream(struct grpc_client *c, uint32_t count, uint32_t size)
{
	auto_buf struct buf msg = BUF_INIT;
	struct err err = ERR_INIT;
	struct grpc_call *call;
	uint32_t req[2] = {htonl(count), htonl(size)};
	uint32_t n = 0;

	check(grpc_call_start(c, "/echo.Echo/Stream", NULL, 0, 0, &call, &err) == 0);
	check(grpc_send(call, req, sizeof(req)) == 0);
	grpc_close_send(call);
	while (grpc_recv(call, &msg) == 1) {
		check(msg.len == size && number(&msg, 0) == n);
		n++;
	}
	check(grpc_finish(call, &err) == GRPC_OK);
	check(n == count);
	return 0;
}

/* A call is given up in the middle of its stream; the connection goes on. */
static may_suspend int call_cancel(struct grpc_client *c)
{
	auto_buf struct buf msg = BUF_INIT;
	struct err err = ERR_INIT;
	struct grpc_call *call;
	uint32_t req[2] = {htonl(50000), htonl(1000)};

	check(grpc_call_start(c, "/echo.Echo/Stream", NULL, 0, 0, &call, &err) == 0);
	check(grpc_send(call, req, sizeof(req)) == 0);
	check(grpc_recv(call, &msg) == 1);
	grpc_cancel(call);
	check(grpc_finish(call, &err) == GRPC_CANCELLED);
	return 0;
}

/* A message above our limit is refused, and the connection goes on. */
static may_suspend int call_too_large(struct grpc_client *c)
{
	auto_buf struct buf msg = BUF_INIT;
	struct err err = ERR_INIT;
	struct grpc_call *call;
	uint32_t req[2] = {htonl(1), htonl((uint32_t)GRPC_MESSAGE_CLIENT_MAX + 1)};

	check(grpc_call_start(c, "/echo.Echo/Stream", NULL, 0, 0, &call, &err) == 0);
	check(grpc_send(call, req, sizeof(req)) == 0);
	grpc_close_send(call);
	check(grpc_recv(call, &msg) == -EMSGSIZE);
	check(grpc_finish(call, &err) == GRPC_RESOURCE_EXHAUSTED);
	return 0;
}

/* Metadata both ways: much there, and trailers below and above our limit. */
static may_suspend int call_metadata(struct grpc_client *c)
{
	auto_buf struct buf resp = BUF_INIT;
	struct err err = ERR_INIT;
	struct grpc_metadata md[GRPC_METADATA_MAX];
	char value[1001];
	uint32_t size;

	memset(value, 'v', sizeof(value) - 1);
	value[sizeof(value) - 1] = '\0';
	for (size_t i = 0; i < array_size(md); i++)
		md[i] = (struct grpc_metadata){i ? "some-key" : "containerd-namespace", value};
	check(grpc_unary(c, "/echo.Echo/Meta", md, array_size(md), 5000, "", 0, &resp, &err) ==
	      GRPC_OK);
	check(resp.len == 1000 && memcmp(resp.data, value, 1000) == 0);
	size = htonl(15000);
	check(grpc_unary(c, "/echo.Echo/Trailer", NULL, 0, 5000, &size, 4, &resp, &err) == GRPC_OK);
	size = htonl(17000);
	check(grpc_unary(c, "/echo.Echo/Trailer", NULL, 0, 5000, &size, 4, &resp, &err) != GRPC_OK);
	return 0;
}

struct one_call {
	struct grpc_client *client;
	uint32_t ms;
	enum grpc_code code;
};

static may_suspend int sleep_task(void *arg)
{
	auto_buf struct buf resp = BUF_INIT;
	struct one_call *o = arg;
	struct err err = ERR_INIT;
	uint32_t ms = htonl(o->ms);

	o->code = grpc_unary(o->client, "/echo.Echo/Sleep", NULL, 0, 0, &ms, 4, &resp, &err);
	if (o->code != GRPC_OK)
		fprintf(stderr, "sleep: %s\n", err.text);
	return 0;
}

/* More calls than the server takes at once (Go: no limit; ours: CONNECTION_STREAMS_MAX). */
static may_suspend int call_parallel(struct grpc_client *c)
{
	enum { CALLS = 1000 };
	auto_free struct one_call *all = calloc(CALLS, sizeof(*all));
	struct err err = ERR_INIT;
	struct scope scope;

	scope_init(&scope, loop_self());
	for (size_t i = 0; i < CALLS; i++) {
		all[i] = (struct one_call){c, 20, GRPC_UNKNOWN};
		check(scope_spawn(&scope, sleep_task, all + i, NULL) == 0);
	}
	scope_wait(&scope);
	for (size_t i = 0; i < CALLS; i++)
		check(all[i].code == GRPC_OK);
	return 0;
}

/* The server sends a PING after a second of silence, and ends when nobody answers it. */
static may_suspend int call_keepalive(struct grpc_client *c)
{
	struct one_call one = {c, 3500, GRPC_UNKNOWN};
	struct err err = ERR_INIT;

	sleep_task(&one);
	check(one.code == GRPC_OK);
	return 0;
}

static may_suspend int drain(void *arg)
{
	char **args = arg;
	struct err err = ERR_INIT;
	struct grpc_client *c;
	struct grpc_call *call;
	struct one_call one = {.ms = 800};
	struct scope scope;
	uint64_t pid = 0;

	check(str_u64(str_of(args[1]), &pid) == 0 && pid > 1);
	check(grpc_dial(loop_self(), args[0], 5000, &c, &err) == 0);
	one.client = c;
	scope_init(&scope, loop_self());
	check(scope_spawn(&scope, sleep_task, &one, NULL) == 0);
	task_sleep_ms(200);
	check(kill((pid_t)pid, SIGTERM) == 0);
	task_sleep_ms(200);
	check(!grpc_client_usable(c));
	check(grpc_call_start(c, "/echo.Echo/Unary", NULL, 0, 0, &call, &err) == -ESHUTDOWN);
	scope_wait(&scope);
	check(one.code == GRPC_OK);
	grpc_client_close(c);
	return 0;
}

static may_suspend int callzip(void *arg)
{
	char **args = arg;
	auto_buf struct buf resp = BUF_INIT;
	struct err err = ERR_INIT;
	struct grpc_client *c;

	check(grpc_dial(loop_self(), args[0], 5000, &c, &err) == 0);
	check(grpc_unary(c, "/echo.Echo/Unary", NULL, 0, 5000, "hello", 5, &resp, &err) ==
	      GRPC_UNIMPLEMENTED);
	check(grpc_client_usable(c));
	grpc_client_close(c);
	return 0;
}

static may_suspend int measure(struct grpc_client *c)
{
	enum { CALLS = 5000 };
	auto_buf struct buf resp = BUF_INIT;
	struct err err = ERR_INIT;
	uint64_t cpu = cpu_us(), us = clock_us();

	for (int i = 0; i < CALLS; i++)
		check(grpc_unary(c, "/echo.Echo/Unary", NULL, 0, 5000, "hello", 5, &resp, &err) ==
		      GRPC_OK);
	us = clock_us() - us;
	cpu = cpu_us() - cpu;
	printf("client unary: %.1f us cpu a call, %.0f calls/s in sequence\n", (double)cpu / CALLS,
	       CALLS * 1e6 / (double)us);
	return 0;
}

static may_suspend int calls(void *arg)
{
	int (*const steps[])(struct grpc_client * c) = {
		call_simple,   call_metadata, call_too_large, call_cancel,
		call_parallel, call_simple,   measure,        call_keepalive,
	};
	char **args = arg;
	struct err err = ERR_INIT;
	struct grpc_client *c;
	int r;

	check(grpc_dial(loop_self(), args[0], 5000, &c, &err) == 0);
	r = call_stream(c, 50000, 100);
	if (r == 0)
		r = call_stream(c, 1, (uint32_t)GRPC_MESSAGE_CLIENT_MAX);
	for (size_t i = 0; r == 0 && i < array_size(steps); i++)
		r = steps[i](c);
	check(grpc_client_usable(c));
	grpc_client_close(c);
	return r;
}

int main(int argc, char **argv)
{
	static const struct {
		const char *name;
		int args;
		int (*fn)(void *arg);
	} modes[] = {{"serve", 3, serve},
		     {"call", 3, calls},
		     {"callzip", 3, callzip},
		     {"drain", 4, drain}};
	struct err err = ERR_INIT;
	struct loop *loop;
	size_t i = 0;
	int r;

	while (i < array_size(modes) &&
	       (argc != modes[i].args || strcmp(argv[1], modes[i].name) != 0))
		i++;
	if (i == array_size(modes)) {
		fprintf(stderr, "usage: grpc_echo serve|call|callzip SOCKET | drain SOCKET PID\n");
		return 2;
	}
	log_init(LOG_LEVEL_INFO, "grpc_echo");
	if (loop_new(&loop, &err) < 0) {
		fprintf(stderr, "%s\n", err.text);
		return 1;
	}
	r = loop_run(loop, modes[i].fn, argv + 2);
	loop_free(loop);
	return r;
}
