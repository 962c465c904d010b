// SPDX-License-Identifier: Apache-2.0
/*
 * Metrics: the text format and what it says when it is read back, steps of time, addresses, and the
 * HTTP server against clients that are slow, wrong, greedy or many.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <time.h>

#include "api/metrics_address.h"
#include "api/metrics_http.h"
#include "api/metrics_text.h"
#include "base/limits.h"
#include "base/log.h"
#include "loop/io.h"
#include "loop/loop.h"
#include "loop/scope.h"

/* Aborts: a longjmp out of a task's stack would leave the loop in pieces. */
#define check(cond)                                                                                \
	do {                                                                                       \
		if (!(cond)) {                                                                     \
			fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #cond);                 \
			abort();                                                                   \
		}                                                                                  \
	} while (0)

/* --- the format ------------------------------------------------------------------------------- */

static const char *text_of(struct metrics_text *t)
{
	assert_int_equal(t->code, 0);
	assert_int_equal(buf_append(&t->text, "", 1), 0);
	t->text.len--;
	return (const char *)t->text.data;
}

static void test_text(void **state)
{
	struct metrics_text t = {.code = 0};
	const struct metric_label two[] = {{"a", STR("x")}, {"b", STR("")}};

	(void)state;
	metric_one(&t, "fl_a_bytes", METRIC_GAUGE, "Some bytes.", UINT64_MAX);
	metric_family(&t, "fl_b_total", METRIC_COUNTER, "Things.");
	metric_number(&t, METRIC_LABEL("class", "demand"), 7);
	metric_number(&t, two, 2, 0);
	metric_family(&t, "fl_c_seconds", METRIC_GAUGE, "Time.");
	metric_seconds(&t, NULL, 0, 12000000034);
	assert_string_equal(text_of(&t), "# HELP fl_a_bytes Some bytes.\n"
					 "# TYPE fl_a_bytes gauge\n"
					 "fl_a_bytes 18446744073709551615\n"
					 "# HELP fl_b_total Things.\n"
					 "# TYPE fl_b_total counter\n"
					 "fl_b_total{class=\"demand\"} 7\n"
					 "fl_b_total{a=\"x\",b=\"\"} 0\n"
					 "# HELP fl_c_seconds Time.\n"
					 "# TYPE fl_c_seconds gauge\n"
					 "fl_c_seconds 12.000000034\n");
	buf_fini(&t.text);
}

/* Reads a label's value as Prometheus does. */
static size_t unescape(const char *p, char *ret)
{
	size_t n = 0;

	for (assert_int_equal(*p++, '"'); *p != '"'; p++) {
		bool escaped = *p == '\\';

		p += escaped;
		assert_true(*p && *p != '\n');
		ret[n++] = (char)(escaped && *p == 'n' ? '\n' : *p);
	}
	return n;
}

static void escapes(struct str value, struct str want)
{
	struct metrics_text t = {.name = "x"};
	const struct metric_label label = {"l", value};
	char back[600];
	size_t n;

	metric_number(&t, &label, 1, 1);
	n = unescape(strchr(text_of(&t), '=') + 1, back);
	assert_int_equal(n, want.len);
	assert_memory_equal(back, want.p, n);
	buf_fini(&t.text);
}

static void test_escaping(void **state)
{
	char all[255];

	(void)state;
	escapes(STR("plain"), STR("plain"));
	escapes(STR("a\"b\\c\nd\\"), STR("a\"b\\c\nd\\"));
	escapes(STR("\\\\n\"\""), STR("\\\\n\"\""));
	escapes(STR("\xc3\xa4\xe2\x82\xac"), STR("\xc3\xa4\xe2\x82\xac"));
	escapes(STR("\xc3\xa4\xff"), STR("???"));
	escapes(STR("a\0b"), STR("a?b"));
	escapes((struct str){NULL, 0}, STR(""));
	for (int i = 0; i < 255; i++)
		all[i] = (char)(i + 1);
	for (size_t n = 0; n < sizeof(all); n++) { /* none of them ends the line */
		struct metrics_text t = {.name = "x"};
		const struct metric_label label = {"l", {all + n, sizeof(all) - n}};
		char back[600];

		metric_number(&t, &label, 1, 1);
		assert_int_equal(unescape(strchr(text_of(&t), '=') + 1, back), sizeof(all) - n);
		assert_ptr_equal(strchr((char *)t.text.data, '\n'), t.text.data + t.text.len - 1);
		assert_true(str_utf8((struct str){(char *)t.text.data, t.text.len}));
		buf_fini(&t.text);
	}
}

#define MS 1000000ull

static void test_steps(void **state)
{
	struct histogram h = {.sum_ns = 0};
	uint64_t sum = 0;

	(void)state;
	for (unsigned i = 1; i < HISTOGRAM_STEPS; i++)
		assert_true(histogram_bounds_ms[i] > histogram_bounds_ms[i - 1]);
	histogram_add(&h, 0);
	for (unsigned i = 0; i < HISTOGRAM_STEPS; i++) {
		histogram_add(&h, histogram_bounds_ms[i] * MS); /* in its own step */
		histogram_add(&h, histogram_bounds_ms[i] * MS + 1);
		sum += 2 * histogram_bounds_ms[i] * MS + 1;
	}
	assert_int_equal(h.counts[0], 2);
	for (unsigned i = 1; i < HISTOGRAM_STEPS; i++)
		assert_int_equal(h.counts[i], 2);
	assert_int_equal(h.counts[HISTOGRAM_STEPS], 1);
	assert_int_equal(h.sum_ns, sum);
}

static void test_histogram(void **state)
{
	struct metrics_text t = {.code = 0};
	struct histogram h = {.sum_ns = 0};
	unsigned long long seen = 0, last = 0, n = 0;
	double bound, before = 0;
	char *line, *rest;

	(void)state;
	for (unsigned i = 0; i < 1000; i++) /* 1 ms, 2 ms, … 1 s, and one that was too long */
		histogram_add(&h, (i + 1) * MS);
	histogram_add(&h, 100000 * MS);
	metric_family(&t, "fl_wait_seconds", METRIC_HISTOGRAM, "Waits.");
	metric_histogram(&t, &h);
	rest = (char *)(uintptr_t)text_of(&t);
	assert_non_null(strstr(rest, "{le=\"0.001\"} 1\n"));
	assert_non_null(strstr(rest, "{le=\"0.05\"} 50\n"));
	assert_non_null(strstr(rest, "{le=\"0.5\"} 500\n"));
	assert_non_null(strstr(rest, "{le=\"60\"} 1000\n"));
	assert_non_null(strstr(rest, "{le=\"+Inf\"} 1001\n"));
	assert_non_null(strstr(rest, "\nfl_wait_seconds_sum 600.500000000\n"));
	assert_non_null(strstr(rest, "\nfl_wait_seconds_count 1001\n"));
	while ((line = strsep(&rest, "\n")) && *line) {
		if (sscanf(line, "fl_wait_seconds_bucket{le=\"%lf\"} %llu", &bound, &seen) != 2)
			continue;
		assert_true(bound > before && seen >= last); /* "+Inf" is one too */
		before = bound;
		last = seen;
		n++;
	}
	assert_int_equal(n, HISTOGRAM_STEPS + 1);
	assert_int_equal(last, 1001);
	buf_fini(&t.text);
}

/* --- addresses -------------------------------------------------------------------------------- */

static void refuses(const char *text, const char *says)
{
	union metrics_address a;
	struct err err = ERR_INIT;

	if (metrics_address_parse(text, &a, &err) != -EINVAL)
		fail_msg("taken: %s", text);
	if (!strstr(err.text, says))
		fail_msg("%s: said %s", text, err.text);
}

static void test_addresses(void **state)
{
	union metrics_address a;
	char path[200] = "unix:/";

	(void)state;
	assert_int_equal(metrics_address_parse("unix:/run/x y.sock", &a, NULL), 0);
	assert_int_equal(a.any.sa_family, AF_UNIX);
	assert_string_equal(a.local.sun_path, "/run/x y.sock");
	assert_int_equal(metrics_address_parse("127.0.0.1:9477", &a, NULL), 0);
	assert_int_equal(a.v4.sin_port, htons(9477));
	assert_int_equal(a.v4.sin_addr.s_addr, htonl(INADDR_LOOPBACK));
	assert_int_equal(metrics_address_parse("127.8.9.10:65535", &a, NULL), 0);
	assert_int_equal(metrics_address_parse("[::1]:1", &a, NULL), 0);
	assert_int_equal(a.v6.sin6_port, htons(1));
	assert_true(IN6_IS_ADDR_LOOPBACK(&a.v6.sin6_addr));

	refuses("0.0.0.0:9477", "0.0.0.0 is none");
	refuses("10.0.0.1:9477", "10.0.0.1 is none");
	refuses("128.0.0.1:9477", "loopback");
	refuses("[::]:9477", "loopback");
	refuses("[::ffff:127.0.0.1]:9477", "loopback");
	refuses("[fe80::1]:9477", "loopback");
	for (const char *const *p = (const char *const[]){"",
							  ":",
							  "9477",
							  ":9477",
							  "localhost:9477",
							  "127.0.0.1",
							  "127.0.0.1:",
							  "127.0.0.1:0",
							  "127.0.0.1:65536",
							  "127.0.0.1:-1",
							  "127.0.0.1:9477 ",
							  "127.1:9477",
							  "::1:9477",
							  "[::1]",
							  "[::1]9477",
							  "[::1]:",
							  "[127.0.0.1]:9477",
							  "[::1:9477",
							  "unix:",
							  "unix:x.sock",
							  "unix:/",
							  "http://127.0.0.1:9477",
							  NULL};
	     *p; p++)
		refuses(*p, "must be \"unix:/PATH\"");
	memset(path + 6, 'x', 107);
	refuses(path, "longer than");
	path[6 + 106] = 0;
	assert_int_equal(metrics_address_parse(path, &a, NULL), 0);
	memset(path, '1', sizeof(path) - 1);
	refuses(path, "must be");
}

/* --- the server ------------------------------------------------------------------------------- */

struct fixture {
	struct metrics_http *http;
	char dir[40], path[64], address[80];
	size_t size;    /* of the text */
	unsigned asked; /* how often it was wanted */
	bool fails;
	int (*fn)(struct fixture *f);
};

static void write_metrics(void *arg, struct metrics_text *t)
{
	struct fixture *f = arg;

	f->asked++;
	metric_one(t, "fl_asked_total", METRIC_COUNTER, "Asked.", f->asked);
	while (t->text.len < f->size)
		metric_one(t, "fl_more", METRIC_GAUGE, "More and more.", t->text.len);
	if (f->fails)
		t->code = -ENOMEM;
}

static may_suspend void connect_to(struct fixture *f, int fd)
{
	struct sockaddr_un a = {.sun_family = AF_UNIX};

	memcpy(a.sun_path, f->path, strlen(f->path) + 1);
	check(io_connect(fd, (struct sockaddr *)&a, sizeof(a), 5000) == 0);
}

static may_suspend int dial(struct fixture *f)
{
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	check(fd >= 0);
	connect_to(f, fd);
	return fd;
}

static may_suspend void put(int fd, const char *text)
{
	check(io_send(fd, text, strlen(text), 5000) == (ssize_t)strlen(text));
}

/* All until it ends, with NUL behind. */
static may_suspend void get_all(int fd, struct buf *b)
{
	ssize_t n;

	b->len = 0;
	do {
		check(buf_reserve(b, KiB(64)) == 0);
		n = io_recv(fd, b->data + b->len, b->cap - b->len - 1, 15000);
		check(n >= 0 || n == -ECONNRESET);
		b->len += n > 0 ? (size_t)n : 0;
	} while (n > 0);
	b->data[b->len] = 0;
}

/* The answer to a request that is sent whole. */
static may_suspend const char *ask(struct fixture *f, const char *request, struct buf *b)
{
	int fd = dial(f);

	put(fd, request);
	get_all(fd, b);
	close(fd);
	return (const char *)b->data;
}

#define GET "GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n"

static may_suspend bool works(struct fixture *f)
{
	auto_buf struct buf b = BUF_INIT;

	return strstr(ask(f, GET, &b), "\nfl_asked_total ") != NULL;
}

static int main_answers(struct fixture *f)
{
	auto_buf struct buf b = BUF_INIT;
	const char *s = ask(f, GET, &b);
	struct stat st;
	unsigned n;

	check(str_starts(str_of(s), STR("HTTP/1.1 200 OK\r\n")));
	check(strstr(s, "\r\nContent-Type: " METRICS_CONTENT_TYPE "\r\n"));
	check(strstr(s, "\r\n\r\n# HELP fl_asked_total Asked.\n# TYPE fl_asked_total counter\n"
			"fl_asked_total 1\n"));
	for (n = 2; n < 1000 && f->asked < 20; n++) { /* some get what the one before has got */
		s = ask(f, "GET /metrics?a=b HTTP/1.0\r\n\r\n", &b);
		check(strstr(s, " 200 OK\r\n"));
	}
	check(f->asked < n - 1 && f->asked > 1);
	n = f->asked;
	task_sleep_ms(METRICS_FRESH_MS + 50);
	check(works(f) && f->asked == n + 1);
	s = ask(f, "HEAD /metrics HTTP/1.1\r\nHost: x\r\n\r\n", &b);
	check(strstr(s, " 200 OK\r\n") && strcmp(strstr(s, "\r\n\r\n"), "\r\n\r\n") == 0);
	check(!strstr(s, "Content-Length: 0"));
	s = ask(f, "GET / HTTP/1.1\r\nHost: x\r\n\r\n", &b);
	check(strstr(s, " 404 ") && strstr(s, "only /metrics"));
	s = ask(f, "GET /metrics/../metrics HTTP/1.1\r\nHost: x\r\n\r\n", &b);
	check(strstr(s, " 404 "));
	s = ask(f, "POST /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc", &b);
	check(strstr(s, " 405 ") && strstr(s, "\r\nAllow: GET, HEAD\r\n"));
	s = ask(f, "DELETE / HTTP/1.1\r\nHost: x\r\n\r\n", &b);
	check(strstr(s, " 405 "));
	check(stat(f->path, &st) == 0 && S_ISSOCK(st.st_mode) && (st.st_mode & 0777) == 0600);
	f->fails = true;
	task_sleep_ms(METRICS_FRESH_MS + 50);
	check(strstr(ask(f, GET, &b), " 500 "));
	f->fails = false;
	check(works(f));
	return 0;
}

/* What is no request is answered by 400 and the like, or by nothing; then the connection ends. */
static int main_garbage(struct fixture *f)
{
	static const char *const bad[] = {
		"\r\n\r\n\r\n\r\n",
		"\x16\x03\x01\x02\x01\x01 TLS\r\n\r\n",
		"PRI * HTTP/2.0\r\n\r\n",
		"GET\r\n\r\n",
		"GET /metrics\r\n\r\n",
		"GET  /metrics  HTTP/9.9\r\n\r\n",
		"GET /metrics HTTP/1.1\r\nno colon\r\n\r\n",
		"GET /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
		"GET /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999999999999\r\n\r\n",
		"GET /metrics HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
		"\xff\xff\xff\xff \xff\xff\r\n\r\n",
		"GET /%00%ff%zz HTTP/1.1\r\nHost: x\r\n\r\n"};
	auto_buf struct buf b = BUF_INIT;

	for (size_t i = 0; i < array_size(bad); i++) {
		int fd = dial(f);

		put(fd, bad[i]);
		task_sleep_ms(5); /* libmicrohttpd overlooks an end that comes with bytes */
		shutdown(fd, SHUT_WR);
		get_all(fd, &b);
		close(fd);
	}
	check(works(f));
	return 0;
}

/* More than METRICS_MEMORY of a head, or a body that never ends. */
static int main_huge(struct fixture *f)
{
	auto_buf struct buf b = BUF_INIT;
	static char filler[MiB(1)];
	ssize_t n = 1;
	int fd = dial(f);

	memset(filler, 'a', sizeof(filler));
	put(fd, "GET /");
	for (int i = 0; i < 64 && n > 0; i++)
		n = io_send(fd, filler, sizeof(filler), 5000);
	check(n < 0); /* it has been closed long ago */
	get_all(fd, &b);
	check(!strstr((char *)b.data, " 200 "));
	close(fd);
	fd = dial(f);
	put(fd, "POST /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999\r\n\r\n");
	for (n = 1; n > 0;)
		n = io_send(fd, filler, sizeof(filler), 5000);
	close(fd);
	check(works(f));
	return 0;
}

/* A client that says nothing, or half of it, goes in the end; so does one that reads nothing. */
static int main_slow(struct fixture *f)
{
	int silent = dial(f), half = dial(f), deaf;
	auto_buf struct buf b = BUF_INIT;
	uint64_t before = loop_now_ns(loop_self());

	f->size = MiB(4);
	deaf = dial(f);
	put(half, "GET /metrics HTTP/1.1\r\nHo");
	put(deaf, GET);
	check(works(f));
	get_all(silent, &b);
	get_all(half, &b);
	check(loop_now_ns(loop_self()) - before >= (METRICS_IDLE_S - 1) * 1000 * MS);
	task_sleep_ms(1500);
	get_all(deaf, &b); /* what was under way, and no more */
	check(b.len < MiB(4));
	close(silent);
	close(half);
	close(deaf);
	check(works(f));
	return 0;
}

/* One byte at a time is a request too. */
static int main_bytes(struct fixture *f)
{
	auto_buf struct buf b = BUF_INIT;
	int fd = dial(f);

	for (const char *p = GET; *p; p++) {
		check(io_send(fd, p, 1, 1000) == 1);
		task_yield();
	}
	get_all(fd, &b);
	check(strstr((char *)b.data, " 200 OK"));
	close(fd);
	return 0;
}

/* 1000 connections that stay: the last ones are served, the first are cut. */
static int main_many(struct fixture *f)
{
	static int fds[1000];
	auto_buf struct buf b = BUF_INIT;
	unsigned open = 0;
	char c;

	for (size_t i = 0; i < array_size(fds); i++) {
		fds[i] = dial(f);
		if (i % 100 == 50)
			check(works(f));
	}
	check(works(f));
	for (size_t i = 0; i < array_size(fds); i++) {
		open += recv(fds[i], &c, 1, MSG_DONTWAIT) < 0 && errno == EAGAIN;
		if (i == array_size(fds) - 1)
			put(fds[i], GET);
	}
	check(open > 0 && open <= METRICS_CONNECTIONS_MAX);
	get_all(fds[array_size(fds) - 1], &b);
	check(strstr((char *)b.data, " 200 OK"));
	for (size_t i = 0; i < array_size(fds); i++)
		close(fds[i]);
	check(works(f));
	return 0;
}

static uint64_t cpu_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &ts);
	return (uint64_t)ts.tv_sec * 1000 * MS + (uint64_t)ts.tv_nsec;
}

/* A connection that cannot be accepted waits, and costs next to nothing. */
static int main_descriptors(struct fixture *f)
{
	auto_buf struct buf b = BUF_INIT;
	struct rlimit before, none;
	uint64_t used;
	int fd = dial(f);

	task_sleep_ms(50);
	close(fd);
	check(getrlimit(RLIMIT_NOFILE, &before) == 0);
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	check(fd >= 0);
	none = (struct rlimit){0, before.rlim_max};
	check(setrlimit(RLIMIT_NOFILE, &none) == 0);
	connect_to(f, fd);
	put(fd, GET);
	used = cpu_ns();
	task_sleep_ms(500);
	used = cpu_ns() - used;
	check(recv(fd, &(char){0}, 1, MSG_DONTWAIT) < 0 && errno == EAGAIN);
	check(used < 200 * MS);
	check(setrlimit(RLIMIT_NOFILE, &before) == 0);
	get_all(fd, &b);
	check(strstr((char *)b.data, " 200 OK"));
	close(fd);
	return 0;
}

/* Ends with connections of every kind. */
static int main_end(struct fixture *f)
{
	int fd;

	for (int i = 0; i < 10; i++) {
		fd = dial(f);
		if (i > 3)
			put(fd, "GET /metrics HT");
	}
	return 0;
}

/* The address is taken; then it is free. */
static int main_busy(struct fixture *f)
{
	union metrics_address a;
	struct err err = ERR_INIT;
	struct metrics_http *other;
	int fd;

	check(metrics_http_new(loop_self(), f->address, write_metrics, f, &other, &err) == 0);
	check(!metrics_http_serves(other) && metrics_http_serves(f->http));
	check(works(f));
	metrics_http_free(other);
	check(works(f)); /* it has not taken the file away */
	metrics_http_free(f->http);
	check(access(f->path, F_OK) < 0);
	check(metrics_address_parse(f->address, &a, &err) == 0);
	check(metrics_address_listen(&a, &fd, &err) == 0);
	check(metrics_http_new(loop_self(), f->address, write_metrics, f, &f->http, &err) == 0);
	check(!metrics_http_serves(f->http));
	close(fd); /* the file stays, as after a SIGKILL */
	task_sleep_ms(METRICS_RETRY_MS + 500);
	check(metrics_http_serves(f->http) && works(f));
	return 0;
}

/* What is no socket stays. */
static int main_file(struct fixture *f)
{
	auto_close int fd = -1;
	struct err err = ERR_INIT;
	struct stat st;

	metrics_http_free(f->http);
	fd = open(f->path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
	check(fd >= 0);
	check(metrics_http_new(loop_self(), f->address, write_metrics, f, &f->http, &err) == 0);
	check(!metrics_http_serves(f->http));
	check(stat(f->path, &st) == 0 && S_ISREG(st.st_mode));
	check(unlink(f->path) == 0);
	metrics_http_free(take_ptr(f->http));
	check(metrics_http_new(loop_self(), "0.0.0.0:1", write_metrics, f, &f->http, &err) ==
	      -EINVAL);
	return 0;
}

static may_suspend int in_loop(void *arg)
{
	struct fixture *f = arg;
	struct err err = ERR_INIT;
	int r;

	check(metrics_http_new(loop_self(), f->address, write_metrics, f, &f->http, &err) == 0);
	check(metrics_http_serves(f->http));
	r = f->fn(f);
	metrics_http_free(f->http);
	return r;
}

static void run(int (*fn)(struct fixture *f))
{
	struct fixture f = {.fn = fn};
	struct err err = ERR_INIT;
	struct loop *loop;

	snprintf(f.dir, sizeof(f.dir), "/tmp/fl-metrics-XXXXXX");
	assert_non_null(mkdtemp(f.dir));
	snprintf(f.path, sizeof(f.path), "%s/socket", f.dir);
	snprintf(f.address, sizeof(f.address), "unix:%s", f.path);
	assert_int_equal(loop_new(&loop, &err), 0);
	assert_int_equal(loop_run(loop, in_loop, &f), 0);
	loop_free(loop);
	assert_int_equal(rmdir(f.dir), 0); /* the socket is gone */
}

#define TEST(name)                                                                                 \
	static void test_##name(void **state)                                                      \
	{                                                                                          \
		(void)state;                                                                       \
		run(main_##name);                                                                  \
	}
TEST(answers)
TEST(garbage)
TEST(huge)
TEST(slow)
TEST(bytes)
TEST(many)
TEST(descriptors)
TEST(end)
TEST(busy)
TEST(file)

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_text),      cmocka_unit_test(test_escaping),
		cmocka_unit_test(test_steps),     cmocka_unit_test(test_histogram),
		cmocka_unit_test(test_addresses), cmocka_unit_test(test_answers),
		cmocka_unit_test(test_garbage),   cmocka_unit_test(test_huge),
		cmocka_unit_test(test_slow),      cmocka_unit_test(test_bytes),
		cmocka_unit_test(test_many),      cmocka_unit_test(test_descriptors),
		cmocka_unit_test(test_end),       cmocka_unit_test(test_busy),
		cmocka_unit_test(test_file),
	};

	log_init(LOG_LEVEL_ERROR, "test");
	return cmocka_run_group_tests_name("metrics", tests, NULL, NULL);
}
