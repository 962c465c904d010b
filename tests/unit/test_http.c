// SPDX-License-Identifier: Apache-2.0
/* HTTP requests: answers of all kinds, errors, time-outs, pauses, cancellation, reuse. */
#include "http_server.h"

#include <dlfcn.h>

#include "base/buf.h"
#include "base/limits.h"
#include "loop/loop.h"
#include "loop/scope.h"
#include "loop/work.h"
#include "net/http.h"
#include "net/url.h"

struct fixture {
	struct http *http;
	struct server server;
	int (*fn)(struct fixture *f);
	bool open; /* /gate sends what follows the first MiB */
};

/* One request and what came of it. */
struct get {
	struct fixture *f;
	struct http_request q;
	char url[128];
	struct buf body;
	struct http_head head;
	struct err err;
	int heads, result, stop_at_head, stop_at_body;
};

static int take_head(void *arg, const struct http_head *head)
{
	struct get *g = arg;

	check(head->status >= 200);
	g->heads++;
	return g->stop_at_head;
}

static int take_body(void *arg, const void *data, size_t n)
{
	struct get *g = arg;

	return g->stop_at_body ? g->stop_at_body : buf_append(&g->body, data, n);
}

static may_suspend int get(struct fixture *f, struct get *g, const char *path)
{
	struct arena a;

	arena_init(&a, MiB(1));
	snprintf(g->url, sizeof(g->url), "http://127.0.0.1:%u%s", f->server.port, path);
	g->f = f;
	g->err = ERR_INIT;
	g->q.method = g->q.method ? g->q.method : "GET";
	g->q.url = g->url;
	g->q.on_head = take_head;
	g->q.on_body = take_body;
	g->q.arg = g;
	g->result = http_run(f->http, &g->q, &a, &g->head, &g->err);
	check(g->result <= 0 && (g->result == 0 || g->err.text[0]));
	arena_fini(&a);
	return g->result;
}

static int body_is(struct get *g, const char *text)
{
	bool r = g->body.len == strlen(text) &&
		 (g->body.len == 0 || memcmp(g->body.data, text, g->body.len) == 0);

	buf_fini(&g->body);
	return r;
}

static bool serve(struct request *q)
{
	struct fixture *f = q->server->arg;

	if (asks(q, " /ok ")) {
		outf(q,
		     "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nX-A:  b c \r\nX-A: d\r\n\r\nhello");
	} else if (asks(q, " /continue ")) {
		outf(q, "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early\r\nX: y\r\n\r\n");
		outf(q, "HTTP/1.1 404 No\r\nContent-Length: 2\r\n\r\nno");
	} else if (asks(q, " /chunked ")) {
		outf(q, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n");
		stall(q, 20);
		outf(q, "2\r\nde\r\n0\r\nX-Trailer: t\r\n\r\n");
	} else if (asks(q, " /slow ")) {
		for (const char *p = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"; *p; p++) {
			out(q, p, 1);
			stall(q, 2);
		}
	} else if (asks(q, " /post ")) {
		outf(q, "HTTP/1.1 201 Made\r\nContent-Length: %zu\r\n\r\n%s", strlen(q->body),
		     q->body);
	} else if (asks(q, " /cut ")) {
		outf(q, "HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\nhello");
		return false;
	} else if (asks(q, " /nothing ")) {
		return false;
	} else if (asks(q, " /garbage ")) {
		outf(q, "SSH-2.0-OpenSSH\r\n\r\n");
		return false;
	} else if (asks(q, " /badchunk ")) {
		outf(q, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nabc\r\n");
		return false;
	} else if (asks(q, " /stall ")) {
		outf(q, "HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\nhello");
		stall(q, 5000);
		return false;
	} else if (asks(q, " /silent ")) {
		stall(q, 5000);
		return false;
	} else if (asks(q, " /giant ")) {
		outf(q, "HTTP/1.1 200 OK\r\n");
		for (int i = 0; i < 3000; i++)
			outf(q, "X-Header-%d: some more text that fills the head\r\n", i);
		outf(q, "\r\n");
		return false;
	} else if (asks(q, " /redirect ")) {
		outf(q, "HTTP/1.1 307 There\r\nLocation: /ok\r\nContent-Length: 0\r\n\r\n");
	} else if (asks(q, " /large ") || asks(q, " /gate ")) {
		static char zeros[MiB(8)];

		outf(q, "HTTP/1.1 200 OK\r\nContent-Length: %zu\r\n\r\n", sizeof(zeros));
		for (size_t i = 0; i < 8; i++) {
			out(q, zeros, MiB(1));
			while (asks(q, " /gate ") && !__atomic_load_n(&f->open, __ATOMIC_ACQUIRE))
				stall(q, 2);
		}
	}
	return true;
}

static int main_answers(struct fixture *f)
{
	struct get g = {0};

	check(get(f, &g, "/ok") == 0 && g.head.status == 200 && g.heads == 1);
	check(body_is(&g, "hello"));
	check(get(f, &g, "/continue") == 0 && g.head.status == 404 && g.heads == 2);
	check(body_is(&g, "no"));
	check(get(f, &g, "/chunked") == 0 && body_is(&g, "abcde"));
	check(get(f, &g, "/slow") == 0 && body_is(&g, "ok"));
	check(get(f, &g, "/redirect") == 0 && g.head.status == 307 && body_is(&g, ""));
	g.q.method = "POST";
	g.q.body = STR("a=b");
	check(get(f, &g, "/post") == 0 && g.head.status == 201 && body_is(&g, "a=b"));
	check(f->server.connections == 1); /* one for all */
	return 0;
}

static int main_headers(struct fixture *f)
{
	struct get g = {0};
	struct arena a;

	arena_init(&a, MiB(1));
	snprintf(g.url, sizeof(g.url), "http://127.0.0.1:%u/ok", f->server.port);
	g.q = (struct http_request){.method = "GET",
				    .url = g.url,
				    .on_head = take_head,
				    .on_body = take_body,
				    .arg = &g};
	check(http_run(f->http, &g.q, &a, &g.head, NULL) == 0);
	check(str_eq(http_header(&g.head, "x-a"), STR("b c")));
	check(str_eq(http_header(&g.head, "content-length"), STR("5")));
	check(http_header(&g.head, "nothing").len == 0);
	check(g.head.headers_n == 3);
	arena_fini(&a);
	buf_fini(&g.body);
	g.q.url = "ftp://x/";
	check(http_run(f->http, &g.q, &a, NULL, &g.err) == -EINVAL);
	g.q.url = "http://user@x/";
	check(http_run(f->http, &g.q, &a, NULL, &g.err) == -EINVAL);
	return 0;
}

static int main_errors(struct fixture *f)
{
	struct get g = {0};

	check(get(f, &g, "/cut") == -ECONNRESET && body_is(&g, "hello"));
	check(get(f, &g, "/nothing") == -ECONNRESET);
	check(get(f, &g, "/garbage") == -EPROTO);
	check(get(f, &g, "/badchunk") == -ECONNRESET); /* so says libcurl */
	check(get(f, &g, "/giant") == -EMSGSIZE);
	g.stop_at_head = -EXFULL;
	check(get(f, &g, "/ok") == -EXFULL);
	g.stop_at_head = 0;
	g.stop_at_body = -EDOM;
	check(get(f, &g, "/large") == -EDOM);
	g.stop_at_body = 0;
	f->server.port = 1;
	check(get(f, &g, "/") == -ECONNREFUSED);
	buf_fini(&g.body);
	return 0;
}

static int main_timeouts(struct fixture *f)
{
	struct get g = {.q = {.idle_timeout_ms = 60}};

	check(get(f, &g, "/stall") == -ETIMEDOUT && body_is(&g, "hello"));
	check(get(f, &g, "/silent") == -ETIMEDOUT);
	g.q.idle_timeout_ms = 0;
	g.q.timeout_ms = 50;
	check(get(f, &g, "/silent") == -ETIMEDOUT);
	return 0;
}

static int run_get(void *arg)
{
	struct get *g = arg;

	return get(g->f, g, "/large");
}

static int run_gate(void *arg)
{
	struct get *g = arg;

	return get(g->f, g, "/gate");
}

static int run_silent(void *arg)
{
	struct get *g = arg;

	return get(g->f, g, "/silent");
}

static int main_pause(struct fixture *f)
{
	struct get held = {.f = f, .q = {.pausable = true, .idle_timeout_ms = 100}};
	struct get late = {.f = f, .q = {.pausable = true, .timeout_ms = 150}};
	struct get other = {0};
	struct scope s;
	size_t len;

	scope_init(&s, loop_self());
	check(scope_spawn(&s, run_gate, &held, NULL) == 0);
	while (held.body.len == 0)
		task_sleep_ms(1);
	http_pause(f->http, true);
	check(scope_spawn(&s, run_get, &late, NULL) == 0);
	task_sleep_ms(10);
	__atomic_store_n(&f->open, true, __ATOMIC_RELEASE);
	len = held.body.len;
	check(len < MiB(8));
	check(get(f, &other, "/ok") == 0 && body_is(&other, "hello"));
	task_sleep_ms(300);
	check(held.body.len == len && held.heads == 1 && late.body.len == 0);
	http_pause(f->http, false);
	scope_wait(&s);
	check(held.result == 0 && held.body.len == MiB(8));
	check(late.result == 0 && late.body.len == MiB(8));
	buf_fini(&held.body);
	buf_fini(&late.body);
	scope_fini(&s);
	return 0;
}

static int main_cancel(struct fixture *f)
{
	enum { ALL = HTTP_HOST_CONNECTIONS_MAX + 4 };
	struct get g[ALL] = {0};
	struct scope s;

	scope_init(&s, loop_self());
	for (int i = 0; i < ALL; i++) { /* some wait for a connection */
		g[i].f = f;
		check(scope_spawn(&s, run_silent, &g[i], NULL) == 0);
	}
	for (int i = 0; i < 500 && f->server.connections < HTTP_HOST_CONNECTIONS_MAX; i++)
		task_sleep_ms(10);
	task_sleep_ms(50);
	check(f->server.connections == HTTP_HOST_CONNECTIONS_MAX);
	scope_cancel(&s);
	scope_wait(&s);
	for (int i = 0; i < ALL; i++)
		check(g[i].result == -ECANCELED);
	scope_fini(&s);
	return 0;
}

static int main_parallel(struct fixture *f)
{
	struct get g[32] = {0};
	struct scope s;

	scope_init(&s, loop_self());
	for (int i = 0; i < 32; i++) {
		g[i].f = f;
		check(scope_spawn(&s, run_get, &g[i], NULL) == 0);
	}
	scope_wait(&s);
	for (int i = 0; i < 32; i++) {
		check(g[i].result == 0 && g[i].body.len == MiB(8));
		buf_fini(&g[i].body);
	}
	check(f->server.connections <= HTTP_HOST_CONNECTIONS_MAX);
	scope_fini(&s);
	return 0;
}

/* libcurl has no memory for one more request. */
static bool no_memory;

int curl_multi_add_handle(void *multi, void *easy);
int curl_multi_add_handle(void *multi, void *easy)
{
	int (*real)(void *, void *);

	*(void **)&real = dlsym(RTLD_NEXT, "curl_multi_add_handle");
	return no_memory ? 3 : real(multi, easy);
}

static int main_no_memory(struct fixture *f)
{
	struct get g = {0};

	no_memory = true;
	check(get(f, &g, "/ok") == -ENOMEM);
	no_memory = false;
	check(get(f, &g, "/ok") == 0 && body_is(&g, "hello"));
	return 0;
}

static int main_tls(struct fixture *f)
{
	struct get g = {0};
	struct arena a;

	arena_init(&a, MiB(1));
	snprintf(g.url, sizeof(g.url), "https://127.0.0.1:%u/ok", f->server.port);
	g.q = (struct http_request){.method = "GET", .url = g.url, .on_body = take_body, .arg = &g};
	check(http_run(f->http, &g.q, &a, &g.head, &g.err) == -EPROTONOSUPPORT);
	arena_fini(&a);
	return 0;
}

static int in_loop(void *arg)
{
	struct fixture *f = arg;
	struct err err = ERR_INIT;
	int r;

	check(http_new(loop_self(), &f->http, &err) == 0);
	r = f->fn(f);
	http_free(f->http);
	return r;
}

static void run(int (*fn)(struct fixture *f))
{
	struct fixture f = {.fn = fn};
	struct loop *loop;

	server_start(&f.server, serve, &f);
	assert_int_equal(loop_new(&loop, NULL), 0);
	assert_int_equal(loop_run(loop, in_loop, &f), 0);
	loop_free(loop);
	server_stop(&f.server);
}

#define in_task(name)                                                                              \
	static void test_##name(void **state)                                                      \
	{                                                                                          \
		(void)state;                                                                       \
		run(main_##name);                                                                  \
	}

/* clang-format off */
in_task(answers)
in_task(headers)
in_task(errors)
in_task(timeouts)
in_task(pause)
in_task(cancel)
in_task(parallel)
in_task(no_memory)
in_task(tls)
	/* clang-format on */

	static void test_urls(void **state)
{
	static const struct {
		const char *base, *location, *is;
	} cases[] = {
		{"http://h/v2/a?b", "/c?d", "http://h/c?d"},
		{"http://h/v2/a", "c", "http://h/v2/c"},
		{"https://h:1/v2/a", "//other/x", "https://other/x"},
		{"https://h", "x", "https://h/x"},
		{"http://h/a", "HTTPS://o:2/b#f", "HTTPS://o:2/b"},
		{"http://h/a", "http://u@o/b", NULL},
		{"http://h/a", "mailto:x", NULL},
		{"http://h/a", "", NULL},
		{"http://h/a", "/a b", NULL},
		{"http://h/a", "http://o:99999/", NULL},
	};
	struct url a, b;
	struct arena arena;

	(void)state;
	arena_init(&arena, KiB(64));
	for (size_t i = 0; i < array_size(cases); i++) {
		const char *r = url_resolve(cases[i].base, str_of(cases[i].location), &arena);

		if (cases[i].is)
			assert_string_equal(r, cases[i].is);
		else
			assert_null(r);
	}
	arena_fini(&arena);
	assert_int_equal(url_parse(STR("http://H:80/x"), &a), 0);
	assert_int_equal(url_parse(STR("http://h/y?z"), &b), 0);
	assert_true(url_same_origin(&a, &b));
	assert_int_equal(url_parse(STR("https://h:80/y"), &b), 0);
	assert_false(url_same_origin(&a, &b));
	assert_int_equal(url_parse(STR("http://[::1]:5/"), &a), 0);
	assert_true(url_is_loopback(&a) && a.port == 5);
	assert_int_equal(url_parse(STR("http://127.0.0.1.evil/"), &a), 0);
	assert_false(url_is_loopback(&a));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_urls),     cmocka_unit_test(test_answers),
		cmocka_unit_test(test_headers),  cmocka_unit_test(test_errors),
		cmocka_unit_test(test_timeouts), cmocka_unit_test(test_pause),
		cmocka_unit_test(test_cancel),   cmocka_unit_test(test_parallel),
		cmocka_unit_test(test_tls),      cmocka_unit_test(test_no_memory),
	};

	return cmocka_run_group_tests_name("http", tests, NULL, NULL);
}
