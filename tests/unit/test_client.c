// SPDX-License-Identifier: Apache-2.0
/*
 * The connection of a command to a daemon that is not one: it closes at once, says nonsense, sends
 * too much, stops in the middle, or is late. Each is one line and an exit code, soon enough, and
 * takes little memory. The daemon's side writes HTTP/2 by hand.
 */
#include "tool_fixture.h"

#include "base/limits.h"
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>

#include "proto/control.pb-c.h"

// NOLINTBEGIN: the tools are no library
#include "../../tools/firstlight/client.c"
#include "../../tools/firstlight/out.c"
// NOLINTEND

#define CALL_MS    1000  /* what the command allows its call */
#define SOON_MS    20000 /* generous: the machine may be busy */
#define MEMORY_KIB (64 << 10)
#define BOMB_KIB   (320 << 10)

static char dir[] = "/tmp/firstlight-client.XXXXXX";
static char path[64];

/* --- the daemon's side ------------------------------------------------------------------------ */

enum {
	DATA = 0,
	HEADERS = 1,
	RST_STREAM = 3,
	SETTINGS = 4,
	PING = 6,
	GOAWAY = 7,
	CONTINUATION = 9
};
enum { ACK = 1, END_STREAM = 1, END_HEADERS = 4 };

static void put(int fd, const void *data, size_t n)
{
	if (send(fd, data, n, MSG_NOSIGNAL) < 0)
		_exit(0); /* the command has gone */
}

static void frame(int fd, unsigned type, unsigned flags, unsigned stream, const void *data,
		  size_t n)
{
	uint8_t head[9] = {(uint8_t)(n >> 16),
			   (uint8_t)(n >> 8),
			   (uint8_t)n,
			   (uint8_t)type,
			   (uint8_t)flags,
			   0,
			   0,
			   0,
			   (uint8_t)stream};

	put(fd, head, sizeof(head));
	if (n)
		put(fd, data, n);
}

/* A literal field without index and without Huffman's code (RFC 7541, 6.2.2). */
static size_t field(uint8_t *at, const char *name, const char *value)
{
	size_t a = strlen(name), b = strlen(value);

	at[0] = 0;
	at[1] = (uint8_t)a;
	memcpy(at + 2, name, a);
	at[2 + a] = (uint8_t)b;
	memcpy(at + 3 + a, value, b);
	return 3 + a + b;
}

static void headers(int fd, const char *status, const char *type)
{
	uint8_t b[300];
	size_t n = field(b, ":status", status);

	n += field(b + n, "content-type", type);
	frame(fd, HEADERS, END_HEADERS, 1, b, n);
}

static void trailers(int fd, const char *code, const char *text)
{
	uint8_t b[300];
	size_t n = field(b, "grpc-status", code);

	if (text)
		n += field(b + n, "grpc-message", text);
	frame(fd, HEADERS, END_HEADERS | END_STREAM, 1, b, n);
}

/* The head of a gRPC message, and as much of it as there is. */
static void message(int fd, int compressed, uint32_t len, const void *data, size_t n)
{
	uint8_t b[16384] = {(uint8_t)compressed, (uint8_t)(len >> 24), (uint8_t)(len >> 16),
			    (uint8_t)(len >> 8), (uint8_t)len};

	if (n)
		memcpy(b + 5, data, n);
	frame(fd, DATA, 0, 1, b, n + 5);
}

static void silence(int fd)
{
	char b[4096];

	while (read(fd, b, sizeof(b)) > 0)
		;
}

static void get(int fd, void *data, size_t n)
{
	if (recv(fd, data, n, MSG_WAITALL) != (ssize_t)n)
		_exit(0);
}

/* The handshake, up to the head of the request. */
static void greet(int fd)
{
	uint8_t b[16384];

	frame(fd, SETTINGS, 0, 0, NULL, 0);
	frame(fd, SETTINGS, ACK, 0, NULL, 0);
	get(fd, b, 24); /* "PRI * HTTP/2.0" and so on */
	do {
		get(fd, b, 9);
		get(fd, b + 9, (size_t)b[1] << 8 | b[2]);
	} while (b[3] != HEADERS);
}

static void says_nothing(int fd)
{
	silence(fd);
}

static void closes_at_once(int fd)
{
	(void)fd;
}

static void speaks_http1(int fd)
{
	const char text[] = "HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n<html>";

	put(fd, text, sizeof(text));
	silence(fd);
}

static void says_noise(int fd)
{
	uint32_t v = 12345;

	for (int i = 0; i < 1 << 20; i++) {
		v = v * 1664525 + 1013904223;
		put(fd, &v, sizeof(v));
	}
}

static void huge_frame(int fd)
{
	uint8_t head[9] = {0xff, 0xff, 0xff, DATA, 0, 0, 0, 0, 1}, zeros[4096] = {0};

	greet(fd);
	headers(fd, "200", "application/grpc");
	put(fd, head, sizeof(head));
	for (int i = 0; i < 1 << 14; i++)
		put(fd, zeros, sizeof(zeros));
	silence(fd);
}

static void huge_message(int fd)
{
	greet(fd);
	headers(fd, "200", "application/grpc");
	message(fd, 0, UINT32_MAX, NULL, 0);
	silence(fd);
}

/* A small message that asks for a large structure: empty features, again and again. */
static void bomb(int fd)
{
	uint8_t some[16000];

	for (size_t i = 0; i < sizeof(some); i += 2)
		some[i] = 0x52, some[i + 1] = 0; /* VersionResponse.features, 0 bytes */
	greet(fd);
	headers(fd, "200", "application/grpc");
	message(fd, 0, 900 * sizeof(some), some, sizeof(some));
	for (int i = 1; i < 900; i++)
		frame(fd, DATA, 0, 1, some, sizeof(some));
	trailers(fd, "0", NULL);
	silence(fd);
}

static void compressed(int fd)
{
	greet(fd);
	headers(fd, "200", "application/grpc");
	message(fd, 1, 4, "abcd", 4);
	silence(fd);
}

static void no_protobuf(int fd)
{
	greet(fd);
	headers(fd, "200", "application/grpc");
	message(fd, 0, 4, "\xff\xff\xff\xff", 4);
	trailers(fd, "0", NULL);
	silence(fd);
}

static void wrong_type(int fd)
{
	greet(fd);
	headers(fd, "200", "text/html");
	silence(fd);
}

static void not_found(int fd)
{
	greet(fd);
	headers(fd, "404", "text/plain");
	silence(fd);
}

static void endless_headers(int fd)
{
	uint8_t b[8192];
	size_t n = 0;

	while (n + 200 < sizeof(b))
		n += field(b + n, "x",
			   "yyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyy");
	greet(fd);
	frame(fd, HEADERS, 0, 1, b, n);
	for (int i = 0; i < 1 << 13; i++)
		frame(fd, CONTINUATION, 0, 1, b, n);
	silence(fd);
}

static void floods(int fd)
{
	greet(fd);
	for (int i = 0; i < 1 << 20; i++)
		frame(fd, PING, 0, 0, "12345678", 8);
	silence(fd);
}

static void half_then_silence(int fd)
{
	greet(fd);
	headers(fd, "200", "application/grpc");
	message(fd, 0, 100, "\x0a\x10half", 6);
	silence(fd);
}

static void half_then_close(int fd)
{
	greet(fd);
	headers(fd, "200", "application/grpc");
	message(fd, 0, 100, "\x0a\x10half", 6);
}

static void half_then_end(int fd)
{
	greet(fd);
	headers(fd, "200", "application/grpc");
	message(fd, 0, 100, "\x0a\x10half", 6);
	trailers(fd, "0", NULL);
	silence(fd);
}

static void no_status(int fd)
{
	greet(fd);
	headers(fd, "200", "application/grpc");
	frame(fd, DATA, END_STREAM, 1, NULL, 0);
	silence(fd);
}

static void no_message(int fd)
{
	greet(fd);
	headers(fd, "200", "application/grpc");
	trailers(fd, "0", NULL);
	silence(fd);
}

static void late(int fd)
{
	greet(fd);
	poll(NULL, 0, CALL_MS + 500);
	headers(fd, "200", "application/grpc");
	message(fd, 0, 0, NULL, 0);
	trailers(fd, "0", NULL);
	silence(fd);
}

static void resets(int fd)
{
	greet(fd);
	frame(fd, RST_STREAM, 0, 1, "\0\0\0\2", 4);
	silence(fd);
}

static void goes_away(int fd)
{
	greet(fd);
	frame(fd, GOAWAY, 0, 0, "\0\0\0\0\0\0\0\1", 8);
}

static void evil_text(int fd)
{
	greet(fd);
	headers(fd, "200", "application/grpc");
	trailers(fd, "13", "no%0Afirstlight: all is well%1b[2J%ff");
	silence(fd);
}

static void unknown_method(int fd)
{
	greet(fd);
	headers(fd, "200", "application/grpc");
	trailers(fd, "12", "unknown method /x");
	silence(fd);
}

/* The first message is good, then it ends. */
static void good_then_close(int fd)
{
	greet(fd);
	headers(fd, "200", "application/grpc");
	message(fd, 0, 0, NULL, 0);
}

static void good(int fd)
{
	greet(fd);
	headers(fd, "200", "application/grpc");
	message(fd, 0, 3, "\x0a\x01v", 3);
	trailers(fd, "0", NULL);
	silence(fd);
}

/* --- the command's side ----------------------------------------------------------------------- */

static may_suspend int asks(struct client *c, void *arg)
{
	Flc__Empty req = FLC__EMPTY__INIT;
	Flc__VersionResponse *v;
	int r = client_call(c, CONTROL_METHOD("Version"), &req, &flc__version_response__descriptor,
			    CALL_MS, &v);

	(void)arg;
	if (r < 0)
		return r;
	printf("version %s\n", v->version);
	client_free(v);
	return 0;
}

static int counts(void *arg, void *msg)
{
	(void)msg;
	++*(unsigned *)arg;
	return 0;
}

static may_suspend int follows(struct client *c, void *arg)
{
	Flc__Empty req = FLC__EMPTY__INIT;
	unsigned n = 0;
	int r = client_stream(c, CONTROL_METHOD("Version"), &req,
			      &flc__version_response__descriptor, CALL_MS, counts, &n);

	(void)arg;
	printf("%u messages\n", n);
	return r;
}

static int runs_unary(void *arg)
{
	return client_run("version", arg, asks, NULL);
}

static int runs_stream(void *arg)
{
	return client_run("version", arg, follows, NULL);
}

/* A child that serves one connection. */
static pid_t serve_with(void (*fn)(int fd))
{
	struct sockaddr_un a = {.sun_family = AF_UNIX};
	int l = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0), fd;
	pid_t pid;

	snprintf(a.sun_path, sizeof(a.sun_path), "%s", path);
	unlink(path);
	assert_int_equal(bind(l, (struct sockaddr *)&a, sizeof(a)), 0);
	assert_int_equal(listen(l, 1), 0);
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		fd = accept(l, NULL, NULL);
		if (fd >= 0)
			fn(fd);
		_exit(0);
	}
	close(l);
	return pid;
}

static uint64_t now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000 + (uint64_t)ts.tv_nsec / 1000000;
}

/* One line, and maybe a hint behind it. */
static void check_failure(const struct printed *p, const char *words)
{
	const char *rest = strchr(p->err, '\n');

	assert_int_equal(p->status, 1);
	if (!strstr(p->err, words))
		assert_string_equal(p->err, words);
	assert_int_equal(strncmp(p->err, "firstlight: version: ", 21), 0);
	assert_non_null(rest);
	assert_true(!rest[1] || strncmp(rest + 1, "hint: ", 6) == 0);
	assert_true(!rest[1] || strchr(rest + 1, '\n') == p->err + strlen(p->err) - 1);
	assert_null(strpbrk(p->err, "\033\r"));
}

static struct printed talk(void (*daemon)(int fd), int (*command)(void *arg), unsigned limit_ms)
{
	pid_t pid = serve_with(daemon);
	uint64_t start = now_ms();
	struct printed p = printed_by(command, path);

	assert_true(now_ms() - start < limit_ms);
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
	return p;
}

/* ASan's own memory is another matter. */
#ifdef __SANITIZE_ADDRESS__
#define MEMORY_FACTOR 8
#else
#define MEMORY_FACTOR 1
#endif

static const struct {
	void (*daemon)(int fd);
	const char *words;
} cases[] = {
	{closes_at_once, "does not speak as firstlightd"},
	{speaks_http1, "does not speak as firstlightd"},
	{says_noise, "does not speak as firstlightd"},
	{huge_frame, ""},
	{huge_message, "larger than the receiver's limit"},
	{bomb, "the answer to Version cannot be read"},
	{compressed, "compressed messages are not supported"},
	{no_protobuf, "the answer to Version cannot be read"},
	{wrong_type, "the answer is not gRPC"},
	{not_found, "the answer's HTTP status is not 200"},
	{endless_headers, ""},
	{floods, ""},
	{half_then_silence, "the daemon did not answer Version in time"},
	{half_then_close, "the daemon has closed the connection"},
	{half_then_end, "cut off"},
	{no_status, "the server has sent no status"},
	{late, "the daemon did not answer Version in time"},
	{resets, "the server has reset the call"},
	{goes_away, "the daemon has closed the connection"},
	{evil_text, "version: no\\x0afirstlight: all is well\\x1b[2J\\xff"},
	{unknown_method, "the daemon does not know Version"},
};

static void test_bad_daemons(void **state)
{
	(void)state;
	for (size_t i = 0; i < array_size(cases); i++) {
		for (int stream = 0; stream < 2; stream++) {
			auto_printed struct printed p =
				talk(cases[i].daemon, stream ? runs_stream : runs_unary, SOON_MS);

			check_failure(&p, cases[i].words);
			assert_string_equal(p.out, stream && strlen(p.out) ? "0 messages\n" : "");
			assert_true(p.rss_kib < (cases[i].daemon == bomb ? BOMB_KIB : MEMORY_KIB) *
							MEMORY_FACTOR);
		}
	}
}

static void test_no_message(void **state)
{
	auto_printed struct printed p = talk(no_message, runs_unary, SOON_MS);
	auto_printed struct printed q = talk(no_message, runs_stream, SOON_MS);

	(void)state;
	check_failure(&p, "Version: no message in the answer");
	assert_int_equal(q.status, 0);
	assert_string_equal(q.out, "0 messages\n");
}

static void test_stream_breaks(void **state)
{
	auto_printed struct printed p = talk(good_then_close, runs_stream, SOON_MS);

	(void)state;
	check_failure(&p, "the daemon has closed the connection");
	assert_string_equal(p.out, "1 messages\n");
}

static void test_good(void **state)
{
	auto_printed struct printed p = talk(good, runs_unary, SOON_MS);

	(void)state;
	assert_int_equal(p.status, 0);
	assert_string_equal(p.out, "version v\n");
	assert_string_equal(p.err, "");
}

static void test_silence(void **state)
{
	auto_printed struct printed p = talk(says_nothing, runs_unary, DIAL_TIMEOUT_MS + SOON_MS);

	(void)state;
	check_failure(&p, "does not answer");
}

static void test_no_daemon(void **state)
{
	char far[256];
	struct printed p;

	(void)state;
	unlink(path);
	p = printed_by(runs_unary, path);
	check_failure(&p, "no daemon at /tmp/");
	printed_free(&p);
	memset(far, 'x', sizeof(far) - 1);
	far[0] = '/';
	far[sizeof(far) - 1] = 0;
	p = printed_by(runs_unary, far);
	check_failure(&p, "longer than 107 bytes");
	printed_free(&p);
}

/* --- signals ---------------------------------------------------------------------------------- */

static int interrupted;

static int runs_and_is_killed(void *arg)
{
	pid_t self = getpid();

	if (fork() == 0) {
		poll(NULL, 0, 300);
		kill(self, interrupted);
		_exit(0);
	}
	return client_run("version", arg, asks, NULL);
}

/* While it dials, and while it waits for the answer. */
static void test_signals(void **state)
{
	static const int signals[] = {SIGINT, SIGTERM, SIGHUP};
	static void (*const daemons[])(int fd) = {says_nothing, half_then_silence};

	(void)state;
	for (size_t i = 0; i < array_size(signals); i++) {
		for (size_t k = 0; k < array_size(daemons); k++) {
			struct printed p;

			interrupted = signals[i];
			p = talk(daemons[k], runs_and_is_killed, SOON_MS);
			assert_int_equal(p.status, 128 + interrupted);
			assert_string_equal(p.err, "");
			assert_string_equal(p.out, "");
			printed_free(&p);
		}
	}
}

static int remove_dir(void **state)
{
	(void)state;
	unlink(path);
	return rmdir(dir);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_good),       cmocka_unit_test(test_bad_daemons),
		cmocka_unit_test(test_no_message), cmocka_unit_test(test_stream_breaks),
		cmocka_unit_test(test_signals),    cmocka_unit_test(test_silence),
		cmocka_unit_test(test_no_daemon),
	};

	if (!mkdtemp(dir))
		return 1;
	snprintf(path, sizeof(path), "%s/socket", dir);
	return cmocka_run_group_tests(tests, NULL, remove_dir);
}
