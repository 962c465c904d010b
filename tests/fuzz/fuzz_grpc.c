// SPDX-License-Identifier: Apache-2.0
/*
 * A hostile peer of net/: any bytes on a connection of the server, or of the client. The first
 * byte chooses: bit 0 = the client is under test, bit 1 = the rest are the bytes on the wire;
 * otherwise the rest is a script, whose steps are frames (struct foe below).
 */
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/limits.h"
#include "base/log.h"
#include "loop/io.h"
#include "loop/loop.h"
#include "loop/scope.h"
#include "net/grpc.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { DATA = 0, HEADERS = 1, SETTINGS = 4, END_HEADERS = 4 };
enum { CLIENT_BIT = 1, RAW_BIT = 2 };

static struct loop *loop;
static char dir[] = "/tmp/fuzz-grpc-XXXXXX";
static struct sockaddr_un address = {.sun_family = AF_UNIX};
static int listen_fd;

/* The fuzzer's end of the connection. */
struct foe {
	int fd;
	const uint8_t *p, *end;
	bool raw, client_tested;
	struct buf out;
};

/* --- the peer --------------------------------------------------------------------------------- */

static uint8_t next(struct foe *foe)
{
	return foe->p < foe->end ? *foe->p++ : 0;
}

static void put(struct foe *foe, const void *data, size_t len)
{
	require(buf_append(&foe->out, data, len) == 0);
}

static void put_head(struct foe *foe, size_t len, uint8_t type, uint8_t flags, uint8_t stream)
{
	uint8_t head[9] = {(uint8_t)(len >> 16),
			   (uint8_t)(len >> 8),
			   (uint8_t)len,
			   type,
			   flags,
			   0,
			   0,
			   0,
			   stream};

	put(foe, head, sizeof(head));
}

/* len bytes of the input, or what is left of it. */
static void put_input(struct foe *foe, size_t len, uint8_t type, uint8_t flags, uint8_t stream)
{
	size_t left = (size_t)(foe->end - foe->p);

	len = len < left ? len : left;
	put_head(foe, len, type, flags, stream);
	put(foe, foe->p, len);
	foe->p += len;
}

static void put_field(struct buf *b, const char *name, const char *value)
{
	const char *const both[] = {name, value};
	uint8_t len;

	require(buf_append(b, "", 1) == 0);
	for (size_t i = 0; i < array_size(both); i++) {
		len = (uint8_t)strlen(both[i]);
		require(buf_append(b, &len, 1) == 0 && buf_append(b, both[i], len) == 0);
	}
}

/* Headers as a peer that means well sends them; the input may add some in HPACK. */
static void put_headers(struct foe *foe)
{
	static const char *const paths[] = {"/t.T/Bidi", "/t.T/Stream", "/t.T/Sleep", "/t.T/None"};
	uint8_t stream = next(foe), flags = next(foe), what = next(foe), more = next(foe);
	size_t left = (size_t)(foe->end - foe->p);
	struct buf b = BUF_INIT;

	if (foe->client_tested) {
		put_field(&b, ":status", what & 1 ? "503" : "200");
		put_field(&b, "content-type", "application/grpc");
		if (what & 2)
			put_field(&b, "grpc-status", what & 4 ? "0" : "5");
	} else {
		put_field(&b, ":method", "POST");
		put_field(&b, ":scheme", "http");
		put_field(&b, ":path", paths[what % 4]);
		put_field(&b, "content-type", "application/grpc");
		if (what & 4)
			put_field(&b, "grpc-timeout", "9m");
	}
	more = more < left ? more : (uint8_t)left;
	require(buf_append(&b, foe->p, more) == 0);
	foe->p += more;
	put_head(foe, b.len, HEADERS, END_HEADERS | flags, stream);
	put(foe, b.data, b.len);
	buf_fini(&b);
}

static void put_message(struct foe *foe, size_t len)
{
	uint8_t stream = next(foe), flags = next(foe);
	uint8_t head[5] = {0, (uint8_t)(len >> 24), (uint8_t)(len >> 16), (uint8_t)(len >> 8),
			   (uint8_t)len};
	size_t left = (size_t)(foe->end - foe->p), n = len < left ? len : left;
	static const uint8_t zeros[16384];

	put_head(foe, len + 5, DATA, flags, stream);
	put(foe, head, sizeof(head));
	put(foe, foe->p, n);
	put(foe, zeros, len - n);
	foe->p += n;
}

may_suspend static void flush(struct foe *foe)
{
	size_t off = 0;
	ssize_t n;

	while (off < foe->out.len) {
		n = io_send(foe->fd, foe->out.data + off, foe->out.len - off, 1000);
		if (n <= 0)
			break;
		off += (size_t)n;
	}
	foe->out.len = 0;
}

/* Takes what the other side says, and throws it away. False: the end. */
may_suspend static bool listen_a_while(struct foe *foe, unsigned ms)
{
	uint8_t buf[16384];
	ssize_t n;

	while ((n = io_recv(foe->fd, buf, sizeof(buf), ms)) > 0)
		;
	return n == -ETIMEDOUT;
}

may_suspend static void step(struct foe *foe)
{
	uint8_t op = next(foe), flags, stream;

	switch (op & 7) {
	case 4:
		put_headers(foe);
		break;
	case 5:
		put_message(foe, next(foe));
		break;
	case 6:
		flush(foe);
		listen_a_while(foe, op);
		break;
	case 7:
		put_message(foe, (size_t)next(foe) * 64);
		break;
	default:
		flags = next(foe);
		stream = next(foe);
		put_input(foe, next(foe), op >> 3 & 15, flags, stream);
	}
}

may_suspend static int foe_run(void *arg)
{
	struct foe *foe = arg;

	if (foe->raw) {
		put(foe, foe->p, (size_t)(foe->end - foe->p));
	} else {
		if (!foe->client_tested)
			put(foe, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 24);
		put_head(foe, 0, SETTINGS, 0, 0);
		flush(foe);
		listen_a_while(foe, 5);
		while (foe->p < foe->end)
			step(foe);
	}
	flush(foe);
	shutdown(foe->fd, SHUT_WR);
	listen_a_while(foe, 2000);
	close(foe->fd);
	buf_fini(&foe->out);
	return 0;
}

/* --- the server under test -------------------------------------------------------------------- */

may_suspend static enum grpc_code serve_bidi(struct grpc_call *call, void *arg, struct err *err)
{
	auto_buf struct buf msg = BUF_INIT;
	int r;

	(void)arg, (void)err;
	while ((r = grpc_recv(call, &msg)) == 1 && grpc_send(call, msg.data, msg.len) == 0)
		;
	return r < 0 ? GRPC_CANCELLED : GRPC_OK;
}

/* More than a window, so that it waits for the peer. */
may_suspend static enum grpc_code serve_stream(struct grpc_call *call, void *arg, struct err *err)
{
	static const uint8_t block[100000];
	auto_buf struct buf msg = BUF_INIT;
	int r = grpc_recv(call, &msg);

	(void)arg;
	for (int i = 0; r >= 0 && i < 6; i++)
		r = grpc_send(call, block, sizeof(block));
	return r < 0 ? err_set(err, r, "no more"), GRPC_ABORTED : GRPC_OK;
}

may_suspend static enum grpc_code serve_sleep(struct grpc_call *call, void *arg, struct err *err)
{
	(void)arg, (void)err;
	return task_sleep_ms(20) < 0 || grpc_send(call, "x", 1) < 0 ? GRPC_CANCELLED : GRPC_OK;
}

static const struct grpc_method methods[] = {{"/t.T/Bidi", serve_bidi, false},
					     {"/t.T/Stream", serve_stream, false},
					     {"/t.T/Sleep", serve_sleep, false}};

may_suspend static void test_server(struct foe *foe)
{
	struct grpc_server *server;
	struct scope scope;
	int fds[2];

	require(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) == 0);
	require(grpc_server_new(loop, methods, array_size(methods), NULL, &server, NULL) == 0);
	require(grpc_server_serve(server, fds[0]) == 0);
	foe->fd = fds[1];
	scope_init(&scope, loop);
	require(scope_spawn(&scope, foe_run, foe, NULL) == 0);
	scope_wait(&scope);
	grpc_server_drain(server, 10);
	grpc_server_free(server);
}

/* --- the client under test -------------------------------------------------------------------- */

may_suspend static int accept_peer(void *arg)
{
	struct foe *foe = arg;

	foe->fd = io_accept(listen_fd);
	return foe->fd < 0 ? 0 : foe_run(foe);
}

may_suspend static int call_unary(void *arg)
{
	auto_buf struct buf resp = BUF_INIT;
	struct err err = ERR_INIT;

	if (grpc_unary(arg, "/t.T/U", NULL, 0, 500, "hello", 5, &resp, &err) != GRPC_OK)
		require(err.text[0]);
	return 0;
}

may_suspend static int call_stream(void *arg)
{
	auto_buf struct buf msg = BUF_INIT;
	struct err err = ERR_INIT;
	struct grpc_call *call;

	if (grpc_call_start(arg, "/t.T/S", NULL, 0, 500, &call, &err) < 0)
		return 0;
	for (int i = 0; i < 4 && grpc_send(call, "hello", 5) == 0; i++) {
		if (grpc_recv(call, &msg) != 1)
			break;
	}
	grpc_close_send(call);
	if (grpc_finish(call, &err) != GRPC_OK)
		require(err.text[0]);
	return 0;
}

may_suspend static void test_client(struct foe *foe)
{
	struct grpc_client *client;
	struct err err = ERR_INIT;
	struct scope server, calls;

	scope_init(&server, loop);
	require(scope_spawn(&server, accept_peer, foe, NULL) == 0);
	if (grpc_dial(loop, address.sun_path, 1000, &client, &err) == 0) {
		scope_init(&calls, loop);
		require(scope_spawn(&calls, call_unary, client, NULL) == 0);
		require(scope_spawn(&calls, call_stream, client, NULL) == 0);
		require(scope_spawn(&calls, call_unary, client, NULL) == 0);
		scope_wait(&calls);
		grpc_client_close(client);
	} else {
		require(err.text[0]);
	}
	scope_wait(&server);
}

/* --- ------------------------------------------------------------------------------------------ */

static void leave(void)
{
	loop_free(loop);
	close(listen_fd);
	unlink(address.sun_path);
	rmdir(dir);
}

static void enter(void)
{
	log_init(LOG_LEVEL_ERROR, "fuzz");
	require(loop_new(&loop, NULL) == 0);
	loop_use_virtual_time(loop, 50);
	require(mkdtemp(dir));
	snprintf(address.sun_path, sizeof(address.sun_path), "%s/s", dir);
	listen_fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	require(bind(listen_fd, (struct sockaddr *)&address, sizeof(address)) == 0);
	require(listen(listen_fd, 8) == 0);
	atexit(leave);
}

may_suspend static int one(void *arg)
{
	struct foe *foe = arg;

	if (foe->client_tested)
		test_client(foe);
	else
		test_server(foe);
	return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct foe foe = {.p = data + 1, .end = data + size};

	if (size < 1)
		return 0;
	if (!loop)
		enter();
	foe.client_tested = data[0] & CLIENT_BIT;
	foe.raw = data[0] & RAW_BIT;
	return loop_run(loop, one, &foe);
}
