// SPDX-License-Identifier: Apache-2.0
/*
 * HTTP by libcurl. Owns the multi handle, what is polled for it, and the handles of running
 * requests; a request lives in the frame of the task that runs it. libcurl runs on the loop's
 * stack, but for the start and the end of a request. Loop thread only.
 */
#include "net/http.h"

#include <curl/curl.h>
#include <limits.h>
#include <linux/io_uring.h>
#include <linux/socket.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <strings.h>
#include <sys/socket.h>

#include "base/buf.h"
#include "base/limits.h"
#include "base/list.h"
#include "loop/loop.h"
#include "loop/sync.h"
#include "net/url.h"

#include "base/banned.h"

#define NS_PER_MS 1000000ull

struct http {
	struct loop *loop;
	CURLM *multi;
	struct timer timer;  /* libcurl's */
	struct list running; /* run.link */
	size_t watches;
	struct waitq no_watches;
	struct defer pause, urgent;
	bool paused, paused_now; /* wanted; in effect */
	const char *capath;
};

/* A socket of libcurl's. Freed when libcurl has let it go and the kernel too. */
struct watch {
	struct op op;
	struct http *http;
	curl_socket_t fd;
	short events, armed;          /* wanted; asked of the kernel */
	bool in_flight, busy, unused; /* busy: libcurl is being told about it */
};

struct run {
	struct list link;
	struct http *http;
	const struct http_request *q;
	struct task *task;
	CURL *easy;
	struct curl_slist *headers;
	struct arena *arena;
	struct buf raw; /* the lines of the head so far */
	size_t head_bytes;
	struct http_head head;
	struct timer idle, whole;
	uint64_t idle_ns, last_ns, paused_ns; /* time-out; last byte; when a pause began */
	curl_socket_t fd;                     /* the last that served it; -1 = none */
	bool head_done, sent, held, hurried, done;
	int result;
	CURLcode code;
	char text[CURL_ERROR_SIZE];
};

static void run_end(struct run *r, int result)
{
	if (r->done)
		return;
	r->done = true;
	r->result = result;
	task_wake(r->task);
}

/* --- sockets and timers ---------------------------------------------------------------------- */

static void check_done(struct http *h)
{
	struct CURLMsg *m;
	struct run *r;
	int left;

	while ((m = curl_multi_info_read(h->multi, &left))) {
		if (m->msg != CURLMSG_DONE)
			continue;
		curl_easy_getinfo(m->easy_handle, CURLINFO_PRIVATE, (char **)&r);
		r->code = m->data.result;
		run_end(r, 0);
	}
}

static void watch_arm(struct watch *w)
{
	struct io_uring_sqe sqe = {.opcode = IORING_OP_POLL_ADD, .fd = w->fd};

	if (w->in_flight || !w->events)
		return;
	w->armed = w->events;
	sqe.poll32_events = (uint16_t)w->armed;
#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
	sqe.poll32_events = sqe.poll32_events << 16;
#endif
	w->in_flight = true;
	loop_submit(w->http->loop, &w->op, &sqe);
}

static void watch_put(struct watch *w)
{
	struct http *h = w->http;

	if (!w->unused || w->in_flight || w->busy)
		return;
	free(w);
	if (--h->watches == 0)
		waitq_wake_all(&h->no_watches);
}

static void watch_done(struct op *op, int res, uint32_t flags)
{
	struct watch *w = container_of(op, struct watch, op);
	int mask = 0, n;

	(void)flags;
	w->in_flight = false;
	if (!w->unused && res != -ECANCELED) {
		if (res < 0 || res & (POLLERR | POLLNVAL))
			mask |= CURL_CSELECT_ERR;
		if (res > 0 && res & (POLLIN | POLLHUP | POLLERR))
			mask |= CURL_CSELECT_IN;
		if (res > 0 && res & (POLLOUT | POLLERR))
			mask |= CURL_CSELECT_OUT;
		w->busy = true;
		curl_multi_socket_action(w->http->multi, w->fd, mask, &n);
		w->busy = false;
		check_done(w->http);
	}
	if (!w->unused)
		watch_arm(w);
	watch_put(w);
}

static struct watch *watch_new(struct http *h, curl_socket_t fd)
{
	struct watch *w = calloc(1, sizeof(*w));

	if (!w)
		return NULL;
	*w = (struct watch){.op = {watch_done}, .http = h, .fd = fd};
	h->watches++;
	curl_multi_assign(h->multi, fd, w);
	return w;
}

static bool is_pausable(const struct run *r)
{
	return r->q->pausable && !(r->q->urgent && *r->q->urgent);
}

/* What a paused request has under way arrives all the same, in front of what is waited for. A
 * window that is only clamped grows with the buffer: that is held too, with room for packets that
 * are half empty. */
static void set_window(struct run *r, curl_socket_t fd)
{
	int window = is_pausable(r) ? (int)HTTP_BACKGROUND_WINDOW : INT_MAX / 2;
	int lock = is_pausable(r) ? SOCK_RCVBUF_LOCK : 0, space = 2 * (int)HTTP_BACKGROUND_WINDOW;

	r->fd = fd;
	if (is_pausable(r))
		setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &space, sizeof(space));
	setsockopt(fd, SOL_SOCKET, SO_BUF_LOCK, &lock, sizeof(lock));
	setsockopt(fd, IPPROTO_TCP, TCP_WINDOW_CLAMP, &window, sizeof(window));
}

static int on_socket(CURL *easy, curl_socket_t fd, int what, void *arg, void *socket_arg)
{
	struct http *h = arg;
	struct watch *w = socket_arg;
	struct run *r = NULL;

	if (!w && what == CURL_POLL_REMOVE)
		return 0;
	if (!w) { /* new, or idle until now: it may have served another class */
		if (curl_easy_getinfo(easy, CURLINFO_PRIVATE, (char **)&r) == CURLE_OK && r)
			set_window(r, fd);
		w = watch_new(h, fd);
	}
	if (!w)
		return -1;
	w->events =
		(short)((what & CURL_POLL_IN ? POLLIN : 0) | (what & CURL_POLL_OUT ? POLLOUT : 0));
	if (what == CURL_POLL_REMOVE) {
		w->events = 0;
		w->unused = true;
		curl_multi_assign(h->multi, fd, NULL);
	}
	if (w->in_flight && w->events != w->armed)
		loop_cancel(h->loop, &w->op); /* armed anew when that has ended */
	else if (!w->busy && !w->unused)
		watch_arm(w);
	watch_put(w);
	return 0;
}

static void timer_fired(struct timer *t)
{
	struct http *h = container_of(t, struct http, timer);
	int n;

	curl_multi_socket_action(h->multi, CURL_SOCKET_TIMEOUT, 0, &n);
	check_done(h);
}

static int on_timer(CURLM *multi, long timeout_ms, void *arg)
{
	struct http *h = arg;

	(void)multi;
	if (timeout_ms < 0)
		timer_stop(h->loop, &h->timer);
	else
		timer_set(h->loop, &h->timer,
			  loop_now_ns(h->loop) + (uint64_t)timeout_ms * NS_PER_MS);
	return 0;
}

/* --- the answer ------------------------------------------------------------------------------ */

struct str http_header(const struct http_head *h, const char *name)
{
	for (size_t i = 0; i < h->headers_n; i++) {
		if (str_eq(h->headers[i].name, str_of(name)))
			return h->headers[i].value;
	}
	return (struct str){"", 0};
}

static struct str trim(struct str s)
{
	while (s.len && strchr(" \t\r\n", s.p[0]) && s.p[0])
		s.p++, s.len--;
	while (s.len && strchr(" \t\r\n", s.p[s.len - 1]) && s.p[s.len - 1])
		s.len--;
	return s;
}

static void head_line(struct http_header *h, char *line, size_t n)
{
	char *colon = memchr(line, ':', n);
	size_t name = colon ? (size_t)(colon - line) : n;

	for (size_t i = 0; i < name; i++) {
		if (line[i] >= 'A' && line[i] <= 'Z')
			line[i] = (char)(line[i] + 'a' - 'A');
	}
	h->name = trim((struct str){line, name});
	h->value = colon ? trim((struct str){colon + 1, n - name - 1}) : (struct str){"", 0};
}

/* Sorts the lines that were gathered. */
static int head_parse(struct run *r)
{
	char *text = arena_strndup(r->arena, (char *)r->raw.data, r->raw.len), *p = text, *lf;
	struct http_header *headers;
	size_t n = 0;
	long status = 0;

	if (!text)
		return -ENOMEM;
	for (size_t i = 0; i < r->raw.len; i++)
		n += text[i] == '\n';
	headers = arena_alloc(r->arena, (n + 1) * sizeof(headers[0]));
	if (!headers)
		return -ENOMEM;
	for (n = 0; (lf = memchr(p, '\n', r->raw.len - (size_t)(p - text))); p = lf + 1)
		head_line(&headers[n++], p, (size_t)(lf - p));
	curl_easy_getinfo(r->easy, CURLINFO_RESPONSE_CODE, &status);
	r->head = (struct http_head){(int)status, headers, n};
	return 0;
}

static int head_end(struct run *r)
{
	int e = head_parse(r);

	if (e < 0)
		return e;
	if (r->head.status < 200) {
		r->raw.len = 0; /* 100 Continue and the like: the real one follows */
		return 0;
	}
	r->head_done = true;
	return r->q->on_head ? r->q->on_head(r->q->arg, &r->head) : 0;
}

static bool stands_still(const struct run *r)
{
	return is_pausable(r) && r->http->paused_now;
}

static size_t on_header(char *data, size_t size, size_t n, void *arg)
{
	struct run *r = arg;
	size_t len = size * n;
	int e = 0;

	r->last_ns = loop_now_ns(r->http->loop);
	r->head_bytes += len;
	if (r->head_bytes > HTTP_HEAD_MAX)
		e = -EMSGSIZE;
	else if (r->head_done)
		return len; /* a trailer */
	else if (len > 5 && strncasecmp(data, "HTTP/", 5) == 0)
		r->raw.len = 0;
	else if (len == 0 || data[0] == '\n' || (len == 2 && data[0] == '\r'))
		e = head_end(r);
	else
		e = buf_append(&r->raw, data, len);
	if (e == 0 && r->raw.len && r->raw.data[r->raw.len - 1] != '\n')
		e = buf_append(&r->raw, "\n", 1);
	if (e < 0) {
		run_end(r, e);
		return 0;
	}
	return len;
}

static size_t on_body(char *data, size_t size, size_t n, void *arg)
{
	struct run *r = arg;
	size_t len = size * n;
	int e;

	r->last_ns = loop_now_ns(r->http->loop);
	if (r->done)
		return 0;
	if (stands_still(r)) {
		r->held = true;
		return CURL_WRITEFUNC_PAUSE;
	}
	e = len ? r->q->on_body(r->q->arg, data, len) : 0;
	if (e < 0) {
		run_end(r, e);
		return 0;
	}
	return len;
}

/* A connection is there, the request goes out now. */
static int on_sent(void *arg, char *to, char *from, int to_port, int from_port)
{
	struct run *r = arg;

	(void)to, (void)from, (void)to_port, (void)from_port;
	r->sent = true;
	r->last_ns = loop_now_ns(r->http->loop);
	return CURL_PREREQFUNC_OK;
}

/* --- one request ----------------------------------------------------------------------------- */

static void idle_fired(struct timer *t)
{
	struct run *r = container_of(t, struct run, idle);
	uint64_t now = loop_now_ns(r->http->loop), due = r->last_ns + r->idle_ns;

	if (r->done)
		return;
	if (r->sent && !stands_still(r) && due <= now) {
		snprintf(r->text, sizeof(r->text), "no byte for %llu ms",
			 (unsigned long long)(r->idle_ns / NS_PER_MS));
		run_end(r, -ETIMEDOUT);
		return;
	}
	timer_set(r->http->loop, t, r->sent && due > now ? due : now + r->idle_ns);
}

static void whole_fired(struct timer *t)
{
	struct run *r = container_of(t, struct run, whole);

	if (!r->done && !stands_still(r)) { /* else it is set anew at the end of the pause */
		snprintf(r->text, sizeof(r->text), "not complete after %u ms", r->q->timeout_ms);
		run_end(r, -ETIMEDOUT);
	}
}

static void hold(struct run *r)
{
	r->paused_ns = loop_now_ns(r->http->loop);
	if (r->head_done && !r->held) {
		r->held = true;
		curl_easy_pause(r->easy, CURLPAUSE_RECV);
	}
}

static void release(struct run *r)
{
	uint64_t now = loop_now_ns(r->http->loop);

	r->last_ns = now;
	if (r->q->timeout_ms)
		timer_set(r->http->loop, &r->whole, r->whole.due_ns + (now - r->paused_ns));
	if (r->held) {
		r->held = false;
		curl_easy_pause(r->easy, CURLPAUSE_CONT);
	}
}

static void apply_pause(struct defer *d)
{
	struct http *h = container_of(d, struct http, pause);
	struct list *l, *tmp;

	if (h->paused == h->paused_now)
		return;
	h->paused_now = h->paused;
	list_for_each_safe (l, tmp, &h->running) {
		struct run *r = container_of(l, struct run, link);

		if (!r->q->pausable || r->hurried || r->done)
			continue;
		if (h->paused_now)
			hold(r);
		else
			release(r);
	}
	check_done(h);
}

/* Those that are urgent by now run again, with all of the window. */
static void apply_urgent(struct defer *d)
{
	struct http *h = container_of(d, struct http, urgent);
	struct list *l, *tmp;

	list_for_each_safe (l, tmp, &h->running) {
		struct run *r = container_of(l, struct run, link);

		if (!r->q->pausable || is_pausable(r) || r->hurried || r->done)
			continue;
		r->hurried = true;
		if (r->fd >= 0)
			set_window(r, r->fd);
		if (h->paused_now)
			release(r);
	}
	check_done(h);
}

void http_urgent(struct http *h)
{
	loop_defer(h->loop, &h->urgent);
}

void http_pause(struct http *h, bool paused)
{
	h->paused = paused;
	loop_defer(h->loop, &h->pause);
}

static struct curl_blob blob_of(struct str s)
{
	return (struct curl_blob){.data = (void *)s.p, .len = s.len, .flags = CURL_BLOB_COPY};
}

static void set_tls(struct run *r, const struct http_tls *t)
{
	CURL *c = r->easy;
	struct curl_blob b;

	if (!t || !t->ca.len)
		curl_easy_setopt(c, CURLOPT_CAPATH, NULL); /* else libcurl reads the bundle again
							      for each connection */
	if (!t)
		return;
	if (t->ca.len) {
		b = blob_of(t->ca);
		curl_easy_setopt(c, CURLOPT_CAINFO_BLOB, &b);
		curl_easy_setopt(c, CURLOPT_CAPATH, r->http->capath);
	}
	if (t->cert.len) {
		b = blob_of(t->cert);
		curl_easy_setopt(c, CURLOPT_SSLCERT_BLOB, &b);
		b = blob_of(t->key.len ? t->key : t->cert);
		curl_easy_setopt(c, CURLOPT_SSLKEY_BLOB, &b);
	}
	if (t->skip_verify) {
		curl_easy_setopt(c, CURLOPT_SSL_VERIFYPEER, 0L);
		curl_easy_setopt(c, CURLOPT_SSL_VERIFYHOST, 0L);
	}
}

static void set_connection(struct run *r, const struct url *u)
{
	unsigned timeout = r->q->connect_timeout_ms;
	CURL *c = r->easy;

	curl_easy_setopt(c, CURLOPT_CONNECTTIMEOUT_MS,
			 (long)(timeout ? timeout : HTTP_CONNECT_TIMEOUT_MS));
	curl_easy_setopt(c, CURLOPT_TCP_KEEPALIVE, 1L);
	curl_easy_setopt(c, CURLOPT_TCP_NODELAY, 1L);
	curl_easy_setopt(c, CURLOPT_NOSIGNAL, 1L);
	curl_easy_setopt(c, CURLOPT_QUICK_EXIT, 1L); /* nobody waits for a resolver's thread */
	curl_easy_setopt(c, CURLOPT_PROTOCOLS_STR, "http,https");
	curl_easy_setopt(c, CURLOPT_SUPPRESS_CONNECT_HEADERS, 1L);
	/* A held stream of HTTP/2 would hold its neighbours. */
	curl_easy_setopt(c, CURLOPT_HTTP_VERSION,
			 (long)(r->q->pausable ? CURL_HTTP_VERSION_1_1 : CURL_HTTP_VERSION_2TLS));
	if (url_is_loopback(u))
		curl_easy_setopt(c, CURLOPT_PROXY, "");
	set_tls(r, r->q->tls);
}

static int set_request(struct run *r)
{
	const struct http_request *q = r->q;
	CURL *c = r->easy;
	struct curl_slist *l;

	for (size_t i = 0; i <= q->headers_n; i++) {
		l = curl_slist_append(r->headers, i < q->headers_n ? q->headers[i] : "Expect:");
		if (!l)
			return -ENOMEM;
		r->headers = l;
	}
	if (curl_easy_setopt(c, CURLOPT_URL, q->url) != CURLE_OK)
		return -ENOMEM;
	if (strcmp(q->method, "PUT") == 0)
		curl_easy_setopt(c, CURLOPT_CUSTOMREQUEST, "PUT");
	if (strcmp(q->method, "POST") == 0 || strcmp(q->method, "PUT") == 0) {
		curl_easy_setopt(c, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)q->body.len);
		curl_easy_setopt(c, CURLOPT_POSTFIELDS, q->body.len ? q->body.p : "");
	} else if (strcmp(q->method, "HEAD") == 0) {
		curl_easy_setopt(c, CURLOPT_NOBODY, 1L);
	}
	curl_easy_setopt(c, CURLOPT_HTTPHEADER, r->headers);
	curl_easy_setopt(c, CURLOPT_PATH_AS_IS, 1L);
	curl_easy_setopt(c, CURLOPT_BUFFERSIZE, (long)HTTP_READ_BUFFER);
	curl_easy_setopt(c, CURLOPT_HEADERFUNCTION, on_header);
	curl_easy_setopt(c, CURLOPT_HEADERDATA, r);
	curl_easy_setopt(c, CURLOPT_WRITEFUNCTION, on_body);
	curl_easy_setopt(c, CURLOPT_WRITEDATA, r);
	curl_easy_setopt(c, CURLOPT_PREREQFUNCTION, on_sent);
	curl_easy_setopt(c, CURLOPT_PREREQDATA, r);
	curl_easy_setopt(c, CURLOPT_PRIVATE, r);
	curl_easy_setopt(c, CURLOPT_ERRORBUFFER, r->text);
	return 0;
}

/* Of a failed handshake: is there no TLS at the other side at all? */
static int tls_failure(const char *text)
{
	static const char *const plain[] = {"wrong version number", "http request",
					    "unknown protocol", "packet length too long",
					    "record layer failure"};
	static const char *const lost[] = {"SYSCALL", "reset", "unexpected eof", "Broken pipe"};

	for (size_t i = 0; i < array_size(plain); i++) {
		if (strstr(text, plain[i]))
			return -EPROTONOSUPPORT;
	}
	for (size_t i = 0; i < array_size(lost); i++) {
		if (strstr(text, lost[i]))
			return -ECONNRESET;
	}
	return -EPROTO;
}

static int connect_failure(const struct run *r)
{
	long e = 0;

	curl_easy_getinfo(r->easy, CURLINFO_OS_ERRNO, &e);
	if (e == ETIMEDOUT)
		return -ETIMEDOUT;
	return e == ENETUNREACH || e == EHOSTUNREACH || e == EADDRNOTAVAIL ? -EHOSTUNREACH
									   : -ECONNREFUSED;
}

static int code_failure(const struct run *r)
{
	switch (r->code) {
	case CURLE_OK:
		return r->head_done ? 0 : -EPROTO;
	case CURLE_OPERATION_TIMEDOUT:
		return -ETIMEDOUT;
	case CURLE_COULDNT_CONNECT:
		return connect_failure(r);
	case CURLE_COULDNT_RESOLVE_HOST:
	case CURLE_COULDNT_RESOLVE_PROXY:
		return -EHOSTUNREACH;
	case CURLE_PARTIAL_FILE:
	case CURLE_RECV_ERROR:
	case CURLE_SEND_ERROR:
	case CURLE_GOT_NOTHING:
	case CURLE_HTTP2_STREAM:
	case CURLE_SSL_SHUTDOWN_FAILED:
		return -ECONNRESET;
	case CURLE_SSL_CONNECT_ERROR:
		return tls_failure(r->text);
	case CURLE_PEER_FAILED_VERIFICATION:
	case CURLE_SSL_ISSUER_ERROR:
	case CURLE_SSL_INVALIDCERTSTATUS:
		return -EKEYREJECTED;
	case CURLE_URL_MALFORMAT:
	case CURLE_SSL_CERTPROBLEM:
	case CURLE_SSL_CACERT_BADFILE:
		return -EINVAL;
	case CURLE_OUT_OF_MEMORY:
		return -ENOMEM;
	default: /* among them: HTTP/0.9, bad heads, bad chunks, errors of HTTP/2 */
		return -EPROTO;
	}
}

static void interrupted(void *arg)
{
	run_end(arg, -ECANCELED);
}

static may_suspend int run_wait(struct run *r)
{
	struct http *h = r->http;
	unsigned idle = r->q->idle_timeout_ms;

	r->last_ns = r->paused_ns = loop_now_ns(h->loop);
	r->idle_ns = (idle ? idle : HTTP_IDLE_TIMEOUT_MS) * NS_PER_MS;
	r->idle.fn = idle_fired;
	r->whole.fn = whole_fired;
	timer_set(h->loop, &r->idle, r->last_ns + r->idle_ns);
	if (r->q->timeout_ms)
		timer_set(h->loop, &r->whole, r->last_ns + r->q->timeout_ms * NS_PER_MS);
	list_push(&h->running, &r->link);
	if (curl_multi_add_handle(h->multi, r->easy) != CURLM_OK) {
		r->done = true; /* nobody waits yet who could be woken */
		r->result = -ENOMEM;
	}
	while (!r->done)
		task_suspend(interrupted, r);
	list_del(&r->link);
	timer_stop(h->loop, &r->idle);
	timer_stop(h->loop, &r->whole);
	if (r->result == 0)
		r->result = code_failure(r);
	curl_multi_remove_handle(h->multi, r->easy);
	check_done(h);
	return r->result;
}

static may_suspend int run_all(struct run *r, const struct url *u)
{
	int e;

	r->easy = curl_easy_init();
	if (!r->easy)
		return -ENOMEM;
	set_connection(r, u);
	e = set_request(r);
	if (e == 0)
		e = run_wait(r);
	curl_easy_cleanup(r->easy);
	return e;
}

/* The query of an address may be a secret: messages go without. */
static int url_shown(const char *url)
{
	return (int)(strcspn(url, "?") > 200 ? 200 : strcspn(url, "?"));
}

int http_run(struct http *h, const struct http_request *q, struct arena *a,
	     struct http_head *ret_head, struct err *err)
{
	struct run r = {.http = h, .q = q, .task = task_self(), .arena = a, .fd = -1};
	struct url u;
	int e;

	if (url_parse(str_of(q->url), &u) < 0)
		return err_set(err, -EINVAL, "not an address: %.*s", url_shown(q->url), q->url);
	if (task_cancelled())
		return err_set(err, -ECANCELED, "cancelled");
	e = run_all(&r, &u);
	curl_slist_free_all(r.headers);
	buf_fini(&r.raw);
	if (r.head_done && ret_head)
		*ret_head = r.head;
	if (e == -ECANCELED)
		return err_set(err, e, "cancelled");
	if (e == -EMSGSIZE)
		return err_set(err, e, "%s %.*s: the head of the answer is too large", q->method,
			       url_shown(q->url), q->url);
	if (e < 0)
		return err_set(err, e, "%s %.*s: %s", q->method, url_shown(q->url), q->url,
			       r.text[0] ? r.text : curl_easy_strerror(r.code));
	return 0;
}

/* --- life ------------------------------------------------------------------------------------ */

static CURLcode global;

static void global_init(void)
{
	global = curl_global_init(CURL_GLOBAL_DEFAULT);
}

int http_new(struct loop *loop, struct http **ret, struct err *err)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;
	struct http *h;

	pthread_once(&once, global_init);
	h = global == CURLE_OK ? calloc(1, sizeof(*h)) : NULL;
	if (!h)
		return err_set(err, -ENOMEM, "cannot start libcurl");
	h->loop = loop;
	h->timer.fn = timer_fired;
	list_init(&h->running);
	waitq_init(&h->no_watches);
	h->pause.fn = apply_pause;
	list_init(&h->pause.link);
	h->urgent.fn = apply_urgent;
	list_init(&h->urgent.link);
	h->capath = curl_version_info(CURLVERSION_NOW)->capath;
	h->multi = curl_multi_init();
	if (!h->multi) {
		free(h);
		return err_set(err, -ENOMEM, "cannot start libcurl");
	}
	curl_multi_setopt(h->multi, CURLMOPT_SOCKETFUNCTION, on_socket);
	curl_multi_setopt(h->multi, CURLMOPT_SOCKETDATA, h);
	curl_multi_setopt(h->multi, CURLMOPT_TIMERFUNCTION, on_timer);
	curl_multi_setopt(h->multi, CURLMOPT_TIMERDATA, h);
	curl_multi_setopt(h->multi, CURLMOPT_MAXCONNECTS, (long)HTTP_CONNECTIONS_MAX);
	curl_multi_setopt(h->multi, CURLMOPT_MAX_TOTAL_CONNECTIONS, (long)HTTP_CONNECTIONS_MAX);
	curl_multi_setopt(h->multi, CURLMOPT_MAX_HOST_CONNECTIONS, (long)HTTP_HOST_CONNECTIONS_MAX);
	*ret = h;
	return 0;
}

void http_free(struct http *h)
{
	if (!h)
		return;
	require(list_empty(&h->running));
	curl_multi_cleanup(h->multi);
	timer_stop(h->loop, &h->timer);
	loop_defer_cancel(&h->pause);
	loop_defer_cancel(&h->urgent);
	while (h->watches)
		waitq_wait_always(&h->no_watches);
	free(h);
}
