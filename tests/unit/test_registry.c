// SPDX-License-Identifier: Apache-2.0
/* Registries against scripted servers: tokens, redirects, ranges, resume, mirrors, the budget. */
#include "http_server.h"

#include <sys/stat.h>

#include "base/buf.h"
#include "base/limits.h"
#include "image/registry.h"
#include "loop/loop.h"
#include "loop/scope.h"
#include "loop/work.h"

#define BLOB_SIZE 100000

enum mode { PLAIN, TOKEN, BASIC, REDIRECT, NO_RANGE, CUT, BUSY, BROKEN, LIES, GONE, SLOW, SHORT };

struct fixture {
	struct server a, b; /* the registry; a mirror, a storage or a token server */
	enum mode mode, mode_b;
	unsigned failures; /* that BROKEN and BUSY give before they work */
	unsigned tokens, leaks, age;
	struct http *http;
	struct work *threads;
	struct registry *r;
	struct scope scope;
	char dir[64], config[96];
	void (*fn)(struct fixture *f);
	bool hosts;
};

static unsigned char blob[BLOB_SIZE];
static const char manifest[] = "{\"schemaVersion\":2}";

static void send_range(struct request *q, enum mode mode)
{
	unsigned long first = 0, last = BLOB_SIZE - 1;
	char *range = strstr(q->head, "Range: bytes=");

	if (mode == NO_RANGE || !range) {
		outf(q, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n", BLOB_SIZE);
		out(q, blob, BLOB_SIZE);
		return;
	}
	if (range[13] == '-')
		first = BLOB_SIZE - strtoul(range + 14, NULL, 10);
	else
		check(sscanf(range + 13, "%lu-%lu", &first, &last) == 2);
	if (first >= BLOB_SIZE) {
		outf(q, "HTTP/1.1 416 No\r\nContent-Length: %d\r\n\r\ninvalid range", BLOB_SIZE);
		return;
	}
	if (last >= BLOB_SIZE)
		last = BLOB_SIZE - 1;
	outf(q,
	     "HTTP/1.1 206 Part\r\nContent-Length: %lu\r\nContent-Range: bytes %lu-%lu/%d\r\n\r\n",
	     last - first + 1, mode == LIES ? first + 1 : first, mode == LIES ? last + 1 : last,
	     BLOB_SIZE);
	if (mode == CUT && last - first > 20000) {
		out(q, blob + first, 20000);
		shutdown(q->fd, SHUT_RDWR);
		return;
	}
	if (mode == SLOW)
		stall(q, 100);
	out(q, blob + first, last - first + 1);
}

static bool answer(struct request *q, enum mode mode, struct fixture *f)
{
	unsigned n = mode == BROKEN || mode == BUSY
			     ? __atomic_fetch_add(&f->age, 1, __ATOMIC_RELAXED)
			     : 0;

	if (mode == GONE) {
		outf(q, "HTTP/1.1 404 No\r\nContent-Length: 50\r\n\r\n"
			"{\"errors\":[{\"code\":\"BLOB_UNKNOWN\",\"message\":\"m\"}]}");
		return false;
	}
	if (mode == BROKEN && n < f->failures) {
		outf(q, "HTTP/1.1 503 No\r\nContent-Length: 0\r\n\r\n");
		return true;
	}
	if (mode == BUSY && n < f->failures) {
		outf(q, "HTTP/1.1 429 No\r\nRetry-After: 1\r\nContent-Length: 0\r\n\r\n");
		return true;
	}
	if (asks(q, "/manifests/")) {
		outf(q, "HTTP/1.1 200 OK\r\nContent-Length: %zu\r\n\r\n%s", sizeof(manifest) - 1,
		     mode == LIES ? "{\"schemaVersion\":3}" : manifest);
		return true;
	}
	send_range(q, mode);
	return mode != CUT;
}

static bool serve_a(struct request *q)
{
	struct fixture *f = q->server->arg;
	const char *token = f->tokens == 1 ? "Bearer T1\r" : "Bearer T2\r";

	if (f->mode == TOKEN && !asks(q, token)) {
		outf(q,
		     "HTTP/1.1 401 No\r\nContent-Length: 0\r\nWWW-Authenticate: Bearer "
		     "realm=\"http://127.0.0.1:%u/token\",service=\"s\",scope=\"repository:a/"
		     "b:pull\""
		     "\r\n\r\n",
		     f->b.port);
		return true;
	}
	if (f->mode == BASIC && !asks(q, "Authorization: Basic dTpw\r")) {
		outf(q, "HTTP/1.1 401 No\r\nContent-Length: 0\r\nWWW-Authenticate: Basic "
			"realm=\"x\"\r\n\r\n");
		return true;
	}
	if (f->mode == REDIRECT && asks(q, "/blobs/")) {
		check(asks(q, "X-Secret: s\r"));
		outf(q,
		     "HTTP/1.1 307 There\r\nContent-Length: 0\r\nLocation: "
		     "http://127.0.0.1:%u/storage?sig=%u\r\n\r\n",
		     f->b.port, q->number);
		return true;
	}
	return answer(q, f->mode, f);
}

static bool serve_b(struct request *q)
{
	struct fixture *f = q->server->arg;

	if (asks(q, "GET /token") || asks(q, "POST /token")) {
		if (asks(q, "POST")) {
			check(strstr(q->body, "grant_type=refresh_token"));
			check(strstr(q->body, "refresh_token=id%2Btoken"));
		} else {
			check(asks(q, "service=s") && asks(q, "scope=repository%3Aa%2Fb%3Apull"));
		}
		stall(q, 30);
		if (f->mode_b == GONE) {
			stall(q, 100);
			outf(q, "HTTP/1.1 403 No\r\nContent-Length: 0\r\n\r\n");
			return true;
		}
		f->tokens++;
		outf(q, "HTTP/1.1 200 OK\r\nContent-Length: 14\r\n\r\n{\"token\":\"T%u\"}",
		     f->tokens == 1 ? 1 : 2);
		return true;
	}
	if (asks(q, "Authorization:") || asks(q, "X-Secret"))
		f->leaks++;
	if (f->mode_b == BASIC) {
		outf(q, "HTTP/1.1 401 No\r\nContent-Length: 0\r\nWWW-Authenticate: Basic "
			"realm=\"x\"\r\n\r\n");
		return true;
	}
	if (f->mode_b == SHORT && !asks(q, "sig=1")) {
		outf(q, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nsorry");
		return true;
	}
	if (asks(q, "/storage") && f->failures && !asks(q, "sig=1")) {
		outf(q, "HTTP/1.1 403 Old\r\nContent-Length: 0\r\n\r\n");
		return true;
	}
	return answer(q, f->mode_b, f);
}

static void put_file(struct fixture *f, const char *name, const char *text)
{
	char path[128];
	FILE *file;

	snprintf(path, sizeof(path), "%s/%s", f->dir, name);
	file = fopen(path, "w");
	check(file);
	fputs(text, file);
	fclose(file);
}

/* --- requests -------------------------------------------------------------------------------- */

struct want {
	struct fixture *f;
	uint64_t off, len, next;
	enum fetch_class class;
	uint32_t skip;
	int result, stop;
	bool bad;
	struct blob_answer answer;
	struct err err;
};

static int on_data(void *arg, uint64_t off, const void *data, size_t n)
{
	struct want *w = arg;

	if (w->next == BLOB_TAIL)
		w->next = off;
	if (off != w->next || off + n > BLOB_SIZE || memcmp(blob + off, data, n) != 0)
		w->bad = true;
	w->next = off + n;
	return w->stop;
}

static int fetch(void *arg)
{
	struct want *w = arg;
	struct fixture *f = w->f;
	char ref[64];
	struct blob_request q = {.off = w->off,
				 .len = w->len,
				 .class = w->class,
				 .skip_hosts = w->skip,
				 .on_data = on_data,
				 .arg = w};

	snprintf(ref, sizeof(ref), "127.0.0.1:%u/a/b:tag", f->a.port);
	q.ref = str_of(ref);
	sha256(blob, BLOB_SIZE, &q.digest);
	w->next = w->off;
	w->bad = false;
	w->err = ERR_INIT;
	w->result = registry_blob(f->r, &q, &w->answer, &w->err);
	check(!w->bad);
	check(w->result <= 0 && (w->result == 0 || w->err.text[0]));
	return w->result;
}

/* A part, and all of it came. */
static may_suspend void good(struct fixture *f, uint64_t off, uint64_t len)
{
	struct want w = {.f = f, .off = off, .len = len};
	int r = fetch(&w);

	if (r < 0)
		fprintf(stderr, "%s\n", w.err.text);
	check(r == 0);
	check(w.next == (off == BLOB_TAIL ? BLOB_SIZE : off + len));
	check(w.answer.blob_size == BLOB_SIZE && w.answer.host_name[0]);
}

static may_suspend int bad(struct fixture *f, uint64_t off, uint64_t len)
{
	struct want w = {.f = f, .off = off, .len = len};

	return fetch(&w);
}

static may_suspend int get_manifest(struct fixture *f, const char *content)
{
	struct buf body = BUF_INIT;
	struct digest d;
	char ref[64];
	int r;

	snprintf(ref, sizeof(ref), "127.0.0.1:%u/a/b", f->a.port);
	sha256(content, strlen(content), &d);
	r = registry_manifest(f->r, str_of(ref), &d, FETCH_DEMAND, &body, NULL);
	check(r < 0 || (body.len == strlen(content) && memcmp(body.data, content, body.len) == 0));
	buf_fini(&body);
	return r;
}

static void main_plain(struct fixture *f)
{
	good(f, 0, 10);
	good(f, 99990, 10);
	good(f, 0, BLOB_SIZE);
	good(f, BLOB_TAIL, 51);
	check(f->a.connections <= 2 && f->b.requests == 0);
	check(bad(f, 99990, 11) == -EBADMSG);
	check(bad(f, BLOB_SIZE, 1) == -EBADMSG);
	check(bad(f, 5, 0) == -EINVAL);
	check(get_manifest(f, manifest) == 0);
	check(get_manifest(f, "something else") == -EBADMSG);
}

static void main_no_range(struct fixture *f)
{
	f->mode = NO_RANGE;
	good(f, 5000, 10);
	good(f, BLOB_TAIL, 51);
	good(f, 99000, 1000);
}

/* So many requests at this server had that outcome. */
static bool outcome(struct fixture *f, const struct server *s, enum request_outcome o,
		    uint64_t want)
{
	char authority[32];
	size_t n;
	const struct registry_host *hosts = registry_hosts(f->r, &n);

	snprintf(authority, sizeof(authority), "127.0.0.1:%u", s->port);
	for (size_t i = 0; i < n; i++) {
		if (hosts[i].authority && strcmp(hosts[i].authority, authority) == 0)
			return hosts[i].requests[o] == want;
	}
	return want == 0;
}

static void main_cut(struct fixture *f)
{
	struct registry_stats s;

	f->mode = CUT;
	good(f, 7, 90000); /* 20000 bytes a time */
	registry_stats(f->r, &s);
	check(s.retries == 4 && s.requests[FETCH_DEMAND] == 6); /* one for https, which is not */
	check(outcome(f, &f->a, REQUEST_OK, 1) && outcome(f, &f->a, REQUEST_NETWORK, 5));
	check(s.bytes_mirror == 0 && s.bytes[FETCH_DEMAND] >= 90000);
}

static void main_lies(struct fixture *f)
{
	f->mode = LIES;
	check(bad(f, 10, 10) == -EBADMSG);
	check(get_manifest(f, manifest) == -EBADMSG);
}

static void main_gone(struct fixture *f)
{
	struct want w = {.f = f, .off = 0, .len = 10};

	f->mode = GONE;
	check(fetch(&w) == -ENOENT && w.answer.status == 404 && w.answer.hosts_n == 1);
	check(strstr(w.err.text, "BLOB_UNKNOWN: m"));
}

static void main_tokens(struct fixture *f)
{
	struct want w[8];

	f->mode = TOKEN;
	for (int i = 0; i < 8; i++) {
		w[i] = (struct want){.f = f, .off = 10u * (unsigned)i, .len = 100};
		check(scope_spawn(&f->scope, fetch, &w[i], NULL) == 0);
	}
	scope_wait(&f->scope);
	for (int i = 0; i < 8; i++)
		check(w[i].result == 0);
	check(f->tokens == 1 && f->b.requests == 1);
	good(f, 0, 10);
	check(f->tokens == 1);
	f->tokens = 5; /* the registry does not take T1 any more */
	good(f, 0, 10);
	check(f->tokens == 6);
	check(get_manifest(f, manifest) == 0);
	check(f->tokens == 6);
}

/* Those who wait for a token that cannot be had are told so together. */
static void main_no_token(struct fixture *f)
{
	struct want w[8];

	f->mode = TOKEN;
	f->mode_b = GONE;
	for (int i = 0; i < 8; i++) {
		w[i] = (struct want){.f = f, .off = 10u * (unsigned)i, .len = 100};
		check(scope_spawn(&f->scope, fetch, &w[i], NULL) == 0);
	}
	scope_wait(&f->scope);
	for (int i = 0; i < 8; i++)
		check(w[i].result == -EACCES && strstr(w[i].err.text, "answers 403"));
	check(f->b.requests <= 2);
	f->mode_b = PLAIN;
	good(f, 0, 10);
}

static void main_identity(struct fixture *f)
{
	char text[128];

	f->mode = TOKEN;
	snprintf(text, sizeof(text),
		 "{\"auths\":{\"127.0.0.1:%u\":{\"identitytoken\":\"id+token\"}}}", f->a.port);
	put_file(f, "config.json", text);
	good(f, 0, 10);
	check(strstr(f->b.log, "POST /token;"));
}

static void main_basic(struct fixture *f)
{
	char text[128];

	f->mode = BASIC;
	check(bad(f, 0, 10) == -EACCES);
	snprintf(text, sizeof(text), "{\"auths\":{\"127.0.0.1:%u\":{\"auth\":\"dTpw\"}}}",
		 f->a.port);
	put_file(f, "config.json", text); /* read anew */
	good(f, 0, 10);
	good(f, 20, 10);
	put_file(f, "config.json", "{}");
	good(f, 30, 10);
}

static void main_redirect(struct fixture *f)
{
	unsigned before;

	f->mode = REDIRECT;
	good(f, 0, 10);
	before = f->a.requests;
	good(f, 10, 10); /* the place is remembered */
	check(f->a.requests == before && f->leaks == 0);
	f->failures = 1; /* it is too old: asked again */
	good(f, 20, 10);
	check(f->a.requests > before && f->leaks == 0);
}

/* A remembered place that answers something else is asked for again too. */
static void main_redirect_wrong(struct fixture *f)
{
	f->mode = REDIRECT;
	good(f, 0, 10);
	f->mode_b = SHORT;
	good(f, 10, 10);
	check(f->a.requests == 2);
	good(f, 20, 10);
	check(f->a.requests == 2);
}

/* Where a redirect leads without TLS the password of that host is not for it. */
static void main_redirect_secret(struct fixture *f)
{
	char text[128];

	f->mode = REDIRECT;
	f->mode_b = BASIC;
	snprintf(text, sizeof(text), "{\"auths\":{\"127.0.0.1:%u\":{\"auth\":\"dTpw\"}}}",
		 f->b.port);
	put_file(f, "config.json", text);
	check(bad(f, 0, 10) == -EACCES);
	check(f->b.requests == 1 && f->leaks == 0);
}

static void main_broken(struct fixture *f)
{
	struct registry_stats s;
	struct want w = {.f = f, .off = 0, .len = 10};

	f->mode = BROKEN;
	f->failures = 2;
	good(f, 0, 10);
	f->age = 0;
	f->failures = 1000;
	check(fetch(&w) == -EIO && w.answer.status == 503);
	registry_stats(f->r, &s);
	check(s.breaker_open == 1 && s.retries >= 5 && s.breakers == 1);
	check(!outcome(f, &f->a, REQUEST_FAILED, 0) && outcome(f, &f->a, REQUEST_REFUSED, 0));
	f->failures = 0; /* the probe closes it */
	good(f, 0, 10);
	registry_stats(f->r, &s);
	check(s.breakers == 0);
}

static void main_busy(struct fixture *f)
{
	uint64_t start = loop_now_ns(loop_self());
	struct registry_stats s;

	f->mode = BUSY;
	f->failures = 1;
	good(f, 0, 10);
	check(loop_now_ns(loop_self()) - start >= 1000000000ull);
	registry_stats(f->r, &s);
	check(s.throttled == 1);
}

static void main_mirror(struct fixture *f)
{
	struct want w = {.f = f, .off = 0, .len = 10};
	struct registry_stats s;
	char text[32];

	good(f, 0, 10);
	registry_stats(f->r, &s);
	check(s.bytes_mirror == 10 && s.bytes[FETCH_DEMAND] == 10);
	check(outcome(f, &f->b, REQUEST_OK, 1) && outcome(f, &f->a, REQUEST_OK, 0));
	snprintf(text, sizeof(text), "?ns=127.0.0.1%%3A%u;", f->a.port);
	check(strstr(f->b.log, text) && f->a.requests == 0);
	f->mode_b = CUT; /* resumed there */
	good(f, 0, 50000);
	check(f->a.requests == 0);
	f->mode_b = LIES;
	good(f, 0, 10);
	check(f->a.requests >= 1);
	f->mode_b = SHORT; /* what it says of the size does not count for the next */
	good(f, 0, 10);
	f->mode_b = BROKEN;
	f->failures = 1000;
	check(fetch(&w) == 0 && w.answer.host == 1 && w.answer.hosts_n == 2);
	f->mode_b = PLAIN;
	check(fetch(&w) == 0 && w.answer.host == 0);
	w.skip = 1;
	check(fetch(&w) == 0 && w.answer.host == 1);
	w.skip = 3;
	check(fetch(&w) == -EBADMSG);
	w.skip = 0;
	server_stop(&f->b);
	check(fetch(&w) == 0 && w.answer.host == 1);
	put_file(f, "root/_default/hosts.toml", "capabilities = ['push']\nserver='http://x'\n");
	task_sleep_ms(REGISTRY_HOSTS_FRESH_MS + 50);
	check(fetch(&w) == -EBADMSG); /* nobody to pull from */
	server_start(&f->b, serve_b, f);
}

static void main_budget(struct fixture *f)
{
	enum { EACH = 20 };
	struct want w[3 * EACH];
	struct registry_stats s;
	static const enum fetch_class classes[] = {FETCH_BACKGROUND, FETCH_PREDICTED, FETCH_DEMAND};

	f->mode = SLOW;
	good(f, 0, 10);
	f->a.running_max = 0;
	for (int i = 0; i < 3 * EACH; i++) {
		w[i] = (struct want){.f = f, .off = 0, .len = 10, .class = classes[i / EACH]};
		check(scope_spawn(&f->scope, fetch, &w[i], NULL) == 0);
	}
	task_sleep_ms(50);
	registry_stats(f->r, &s);
	check(s.running[FETCH_BACKGROUND] == REGISTRY_BACKGROUND_MAX);
	check(s.running[FETCH_PREDICTED] == REGISTRY_PREDICTED_MAX);
	check(s.running[FETCH_DEMAND] ==
	      REGISTRY_REQUESTS_MAX - REGISTRY_BACKGROUND_MAX - REGISTRY_PREDICTED_MAX);
	check(s.waiting[FETCH_PREDICTED] == EACH - REGISTRY_PREDICTED_MAX);
	scope_wait(&f->scope);
	for (int i = 0; i < 3 * EACH; i++)
		check(w[i].result == 0);
	registry_stats(f->r, &s);
	check(s.waiting[0] + s.waiting[1] + s.waiting[2] == 0);
	check(f->a.running_max <= HTTP_HOST_CONNECTIONS_MAX);
}

static void main_cancel(struct fixture *f)
{
	struct want w[60];

	f->mode = SLOW;
	for (int i = 0; i < 60; i++) {
		w[i] = (struct want){
			.f = f, .off = 0, .len = 10, .class = (enum fetch_class)(i % 3)};
		check(scope_spawn(&f->scope, fetch, &w[i], NULL) == 0);
	}
	task_sleep_ms(20);
	scope_cancel(&f->scope);
	scope_wait(&f->scope);
	for (int i = 0; i < 60; i++)
		check(w[i].result == -ECANCELED || w[i].result == 0);
}

/* By tag: what comes says which digest the tag means. */
static void main_resolve(struct fixture *f)
{
	struct digest digest, want;
	struct buf body = BUF_INIT;
	struct err err = ERR_INIT;
	char ref[256], text[DIGEST_TEXT_SIZE];
	struct str type;
	struct arena a;

	arena_init(&a, KiB(64));
	snprintf(ref, sizeof(ref), "127.0.0.1:%u/a/b:tag", f->a.port);
	check(registry_resolve(f->r, str_of(ref), &a, &body, &digest, &type, &err) == 0);
	check(strstr(f->a.log, "GET /v2/a/b/manifests/tag;"));
	sha256(manifest, sizeof(manifest) - 1, &want);
	check(digest_eq(&digest, &want) && body.len == sizeof(manifest) - 1 && type.len == 0);
	buf_fini(&body);
	digest_text(&want, text);
	snprintf(ref, sizeof(ref), "127.0.0.1:%u/a/b@%s", f->a.port, text);
	check(registry_resolve(f->r, str_of(ref), &a, &body, &digest, &type, &err) == 0);
	buf_fini(&body);
	f->mode = LIES; /* not what the digest wants */
	check(registry_resolve(f->r, str_of(ref), &a, &body, &digest, &type, &err) == -EBADMSG);
	f->mode = GONE;
	check(registry_resolve(f->r, str_of(ref), &a, &body, &digest, &type, &err) == -ENOENT);
	check(registry_resolve(f->r, STR("//"), &a, &body, &digest, &type, &err) == -EINVAL);
	arena_fini(&a);
}

static void main_login(struct fixture *f)
{
	struct want w = {.f = f, .off = 0, .len = 10};
	struct err err = ERR_INIT;
	char ref[64];

	f->mode = BASIC;
	check(fetch(&w) == -EACCES); /* nobody has said who asks */
	snprintf(ref, sizeof(ref), "127.0.0.1:%u/a/b", f->b.port);
	check(registry_login(f->r, str_of(ref), STR("u"), STR("p"), &err) == 0);
	check(fetch(&w) == -EACCES); /* they are for another host */
	snprintf(ref, sizeof(ref), "127.0.0.1:%u/a/b", f->a.port);
	check(registry_login(f->r, str_of(ref), STR("u"), STR("wrong"), &err) == 0);
	check(fetch(&w) == -EACCES);
	check(registry_login(f->r, str_of(ref), STR("u"), STR("p"), &err) == 0);
	good(f, 0, 10);
	for (int i = 0; i < 2 * REGISTRY_LOGINS_MAX; i++) {
		snprintf(ref, sizeof(ref), "host%d.test/a", i);
		check(registry_login(f->r, str_of(ref), STR("u"), STR("p"), &err) == 0);
	}
}

/* Nobody there: told soon. One who is there and says that it is busy is asked as often as ever. */
static void main_ask(struct fixture *f)
{
	struct buf body = BUF_INIT;
	struct err err = ERR_INIT;
	struct registry_stats s, t;
	struct digest digest;
	struct arena a;
	struct str type;

	arena_init(&a, KiB(64));
	check(registry_resolve(f->r, STR("127.0.0.1:1/a/b:c"), &a, &body, &digest, &type, &err) ==
	      -ECONNREFUSED);
	registry_stats(f->r, &s);
	check(s.retries == REGISTRY_ASK_TRIES - 1);
	digest = (struct digest){{1}};
	check(registry_manifest(f->r, STR("127.0.0.1:1/a/b"), &digest, FETCH_DEMAND, &body, &err) ==
	      -ECONNREFUSED);
	registry_stats(f->r, &t);
	check(t.retries - s.retries == REGISTRY_TRIES - 1);
	arena_fini(&a);
}

static void main_plain_http(struct fixture *f)
{
	struct err err = ERR_INIT;
	char path[96], text[256] = "";
	FILE *file;

	check(registry_plain(f->r, STR("one.test:5000/a/b:c"), &err) == 0);
	check(registry_plain(f->r, STR("two.test/a"), &err) == 0);
	check(registry_plain(f->r, STR("one.test:5000/x"), &err) == 0);
	check(registry_plain(f->r, STR("//"), &err) == -EINVAL);
	snprintf(path, sizeof(path), "%s/plain", f->dir);
	file = fopen(path, "r");
	check(file && fread(text, 1, sizeof(text) - 1, file) > 0);
	fclose(file);
	check(strcmp(text, "one.test:5000\ntwo.test\n") == 0);
}

static void main_stop(struct fixture *f)
{
	struct want w = {.f = f, .off = 0, .len = BLOB_SIZE, .stop = -EDOM};

	check(fetch(&w) == -EDOM);
	w.stop = -EALREADY;
	check(fetch(&w) == -EALREADY);
	good(f, 0, 10);
}

static void set_up(struct fixture *f)
{
	struct registry_options o = {.docker_config = f->config, .user_agent = "test"};
	char text[256], path[96], plain[96];

	snprintf(f->dir, sizeof(f->dir), "/tmp/test_registry.XXXXXX");
	check(mkdtemp(f->dir));
	snprintf(f->config, sizeof(f->config), "%s/config.json", f->dir);
	snprintf(plain, sizeof(plain), "%s/plain", f->dir);
	o.plain_file = plain;
	snprintf(path, sizeof(path), "%s/root", f->dir);
	check(mkdir(path, 0755) == 0);
	snprintf(path, sizeof(path), "%s/root/_default", f->dir);
	check(mkdir(path, 0755) == 0);
	snprintf(path, sizeof(path), "%s/root", f->dir);
	snprintf(text, sizeof(text),
		 "%s\nserver = \"http://127.0.0.1:%u\"\n[header]\nX-Secret = \"s\"\n"
		 "[host.\"http://127.0.0.1:%u\"]\n",
		 "", f->a.port, f->b.port);
	if (f->hosts) {
		put_file(f, "root/_default/hosts.toml", text);
		o.hosts_dirs = path;
	} else if (f->fn == main_redirect || f->fn == main_redirect_wrong ||
		   f->fn == main_redirect_secret) {
		*strstr(text, "[host") = 0;
		put_file(f, "root/_default/hosts.toml", text);
		o.hosts_dirs = path;
	}
	check(work_new(loop_self(), "test", 2, &f->threads, NULL) == 0);
	check(http_new(loop_self(), &f->http, NULL) == 0);
	check(registry_new(loop_self(), f->http, f->threads, &o, &f->r, NULL) == 0);
	scope_init(&f->scope, loop_self());
}

static int in_loop(void *arg)
{
	struct fixture *f = arg;
	char command[128];

	set_up(f);
	f->fn(f);
	scope_fini(&f->scope);
	registry_free(f->r);
	http_free(f->http);
	work_free(f->threads);
	snprintf(command, sizeof(command), "rm -rf %s", f->dir);
	return system(command);
}

static void run(void (*fn)(struct fixture *f), bool hosts)
{
	struct fixture *f = calloc(1, sizeof(*f));
	struct loop *loop;

	f->fn = fn;
	f->hosts = hosts;
	for (size_t i = 0; i < BLOB_SIZE; i++)
		blob[i] = (unsigned char)(i * 7 + i / 251);
	server_start(&f->a, serve_a, f);
	server_start(&f->b, serve_b, f);
	assert_int_equal(loop_new(&loop, NULL), 0);
	assert_int_equal(loop_run(loop, in_loop, f), 0);
	loop_free(loop);
	server_stop(&f->a);
	server_stop(&f->b);
	free(f);
}

#define in_task(name, hosts)                                                                       \
	static void test_##name(void **state)                                                      \
	{                                                                                          \
		(void)state;                                                                       \
		run(main_##name, hosts);                                                           \
	}

/* clang-format off */
in_task(plain, false)
in_task(no_range, false)
in_task(cut, false)
in_task(lies, false)
in_task(gone, false)
in_task(tokens, false)
in_task(no_token, false)
in_task(identity, false)
in_task(basic, false)
in_task(redirect, false)
in_task(redirect_wrong, false)
in_task(redirect_secret, false)
in_task(broken, false)
in_task(busy, false)
in_task(mirror, true)
in_task(budget, false)
in_task(cancel, false)
in_task(stop, false)
in_task(resolve, false)
in_task(login, false)
in_task(ask, false)
in_task(plain_http, false)
	/* clang-format on */

	int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_plain),
		cmocka_unit_test(test_no_range),
		cmocka_unit_test(test_cut),
		cmocka_unit_test(test_lies),
		cmocka_unit_test(test_gone),
		cmocka_unit_test(test_tokens),
		cmocka_unit_test(test_no_token),
		cmocka_unit_test(test_identity),
		cmocka_unit_test(test_basic),
		cmocka_unit_test(test_redirect),
		cmocka_unit_test(test_redirect_wrong),
		cmocka_unit_test(test_redirect_secret),
		cmocka_unit_test(test_broken),
		cmocka_unit_test(test_busy),
		cmocka_unit_test(test_mirror),
		cmocka_unit_test(test_budget),
		cmocka_unit_test(test_cancel),
		cmocka_unit_test(test_stop),
		cmocka_unit_test(test_resolve),
		cmocka_unit_test(test_login),
		cmocka_unit_test(test_ask),
		cmocka_unit_test(test_plain_http),
	};

	return cmocka_run_group_tests_name("registry", tests, NULL, NULL);
}
