/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A server and a client in one loop, for test_grpc*.c and test_h2.c. Numbers in messages are 32
 * bits, big-endian. Checks abort: a longjmp out of a task's stack would leave the loop in pieces.
 */
#ifndef FIRSTLIGHT_TESTS_GRPC_FIXTURE_H
#define FIRSTLIGHT_TESTS_GRPC_FIXTURE_H

#include <arpa/inet.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <cmocka.h>

#include "base/limits.h"
#include "base/log.h"
#include "loop/io.h"
#include "loop/loop.h"
#include "loop/scope.h"
#include "net/grpc.h"

#define check(cond)                                                                                \
	do {                                                                                       \
		if (!(cond)) {                                                                     \
			fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #cond);                 \
			abort();                                                                   \
		}                                                                                  \
	} while (0)

struct fixture {
	struct grpc_server *server;
	struct grpc_client *client;
	struct scope scope;
	char dir[32], path[64];
	int listen_fd;
	unsigned running, cancelled; /* handlers */
	struct waitq gate;           /* where Stubborn waits */
	bool open;
	uint64_t bytes; /* that Swallow has read */
};

static inline uint32_t number(const struct buf *b, size_t i)
{
	uint32_t v = 0;

	if (b->len >= i * 4 + 4)
		memcpy(&v, b->data + i * 4, 4);
	return ntohl(v);
}

static inline enum grpc_code answer_of(struct fixture *f, int r)
{
	f->running--;
	if (r == -ECANCELED || r == -ETIMEDOUT || r == -ECONNRESET)
		f->cancelled++;
	return r < 0 ? GRPC_CANCELLED : GRPC_OK;
}

/* One message there and back. */
static inline may_suspend enum grpc_code serve_echo(struct grpc_call *call, void *arg,
						    struct err *err)
{
	struct fixture *f = arg;
	auto_buf struct buf msg = BUF_INIT;
	int r;

	(void)err;
	f->running++;
	r = grpc_recv(call, &msg);
	return answer_of(f, r == 1 ? grpc_send(call, msg.data, msg.len) : r);
}

/* {count, size}: so many messages of this size. */
static inline may_suspend enum grpc_code serve_stream(struct grpc_call *call, void *arg,
						      struct err *err)
{
	struct fixture *f = arg;
	auto_buf struct buf msg = BUF_INIT;
	auto_free uint8_t *out = NULL;
	uint32_t count, size, net;
	int r;

	(void)err;
	f->running++;
	r = grpc_recv(call, &msg);
	count = number(&msg, 0);
	size = number(&msg, 1);
	out = calloc(1, size + 4);
	for (uint32_t i = 0; r >= 0 && i < count; i++) {
		net = htonl(i);
		memcpy(out, &net, 4);
		r = grpc_send(call, out, size);
	}
	return answer_of(f, r);
}

/* Each message back. */
static inline may_suspend enum grpc_code serve_bidi(struct grpc_call *call, void *arg,
						    struct err *err)
{
	struct fixture *f = arg;
	auto_buf struct buf msg = BUF_INIT;
	int r;

	(void)err;
	f->running++;
	while ((r = grpc_recv(call, &msg)) == 1) {
		r = grpc_send(call, msg.data, msg.len);
		if (r < 0)
			break;
	}
	return answer_of(f, r);
}

/* Reads all messages, not too fast; answers nothing. */
static inline may_suspend enum grpc_code serve_swallow(struct grpc_call *call, void *arg,
						       struct err *err)
{
	struct fixture *f = arg;
	auto_buf struct buf msg = BUF_INIT;
	int r;

	(void)err;
	f->running++;
	while ((r = grpc_recv(call, &msg)) == 1) {
		f->bytes += msg.len;
		task_yield();
	}
	return answer_of(f, r);
}

/* {code} and a text. */
static inline may_suspend enum grpc_code serve_fail(struct grpc_call *call, void *arg,
						    struct err *err)
{
	auto_buf struct buf msg = BUF_INIT;

	(void)arg;
	if (grpc_recv(call, &msg) < 1 || msg.len < 4)
		return GRPC_INTERNAL;
	if (msg.len > 4)
		err_set(err, -EINVAL, "%.*s", (int)msg.len - 4, (char *)msg.data + 4);
	return (enum grpc_code)number(&msg, 0);
}

/* {ms} */
static inline may_suspend enum grpc_code serve_sleep(struct grpc_call *call, void *arg,
						     struct err *err)
{
	struct fixture *f = arg;
	auto_buf struct buf msg = BUF_INIT;
	int r;

	(void)err;
	f->running++;
	r = grpc_recv(call, &msg);
	if (r == 1)
		r = task_sleep_ms(number(&msg, 0));
	return answer_of(f, r < 0 ? r : grpc_send(call, "done", 4));
}

/* Cannot be cancelled, and uses its call afterwards. */
static inline may_suspend enum grpc_code serve_stubborn(struct grpc_call *call, void *arg,
							struct err *err)
{
	struct fixture *f = arg;

	(void)err;
	f->running++;
	while (!f->open)
		waitq_wait_always(&f->gate);
	return answer_of(f, grpc_send(call, "late", 4));
}

static const struct grpc_method fixture_methods[] = {
	{"/t.T/Echo", serve_echo, false},         {"/t.T/Stream", serve_stream, false},
	{"/t.T/Bidi", serve_bidi, false},         {"/t.T/Fail", serve_fail, false},
	{"/t.T/Swallow", serve_swallow, false},   {"/t.T/Sleep", serve_sleep, false},
	{"/t.T/Stubborn", serve_stubborn, false},
};

static inline may_suspend int fixture_accept(void *arg)
{
	struct fixture *f = arg;

	return grpc_server_run(f->server, f->listen_fd);
}

static inline void fixture_open(struct fixture *f)
{
	struct sockaddr_un sun = {.sun_family = AF_UNIX};

	memset(f, 0, sizeof(*f));
	waitq_init(&f->gate);
	scope_init(&f->scope, loop_self());
	snprintf(f->dir, sizeof(f->dir), "/tmp/fl-grpc-XXXXXX");
	check(mkdtemp(f->dir));
	snprintf(f->path, sizeof(f->path), "%s/s", f->dir);
	memcpy(sun.sun_path, f->path, sizeof(f->path));
	f->listen_fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	check(bind(f->listen_fd, (struct sockaddr *)&sun, sizeof(sun)) == 0);
	check(listen(f->listen_fd, 1024) == 0);
	check(grpc_server_new(loop_self(), fixture_methods, array_size(fixture_methods), f,
			      &f->server, NULL) == 0);
	check(scope_spawn(&f->scope, fixture_accept, f, NULL) == 0);
}

static inline may_suspend struct grpc_client *fixture_dial(struct fixture *f)
{
	struct grpc_client *client;
	struct err err = ERR_INIT;

	if (grpc_dial(loop_self(), f->path, 5000, &client, &err) < 0) {
		fprintf(stderr, "dial: %s\n", err.text);
		abort();
	}
	return client;
}

static inline may_suspend void fixture_close(struct fixture *f)
{
	grpc_client_close(take_ptr(f->client));
	scope_cancel(&f->scope);
	scope_wait(&f->scope);
	grpc_server_drain(f->server, 1000);
	grpc_server_free(f->server);
	check(f->running == 0);
	close(f->listen_fd);
	unlink(f->path);
	rmdir(f->dir);
}

/* A connected socket that speaks for itself. */
static inline int fixture_raw(struct fixture *f)
{
	struct sockaddr_un sun = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	memcpy(sun.sun_path, f->path, sizeof(f->path));
	check(connect(fd, (struct sockaddr *)&sun, sizeof(sun)) == 0);
	return fd;
}

struct fixture_call {
	int (*fn)(struct fixture *f);
};

static inline may_suspend int fixture_main(void *arg)
{
	struct fixture_call *c = arg;
	struct fixture f;
	int r;

	fixture_open(&f);
	f.client = fixture_dial(&f);
	r = c->fn(&f);
	fixture_close(&f);
	return r;
}

/* Runs fn as a task, with a server and a client; time is virtual. */
static inline void fixture_run(int (*fn)(struct fixture *f))
{
	struct fixture_call c = {fn};
	struct loop *loop;

	log_init(LOG_LEVEL_ERROR, "test");
	assert_int_equal(loop_new(&loop, NULL), 0);
	loop_use_virtual_time(loop, 2000);
	assert_int_equal(loop_run(loop, fixture_main, &c), 0);
	loop_free(loop);
}

#define unary(f, method, req, len, resp, err)                                                      \
	grpc_unary((f)->client, "/t.T/" method, NULL, 0, 0, req, len, resp, err)

#endif
