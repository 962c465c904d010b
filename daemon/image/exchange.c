// SPDX-License-Identifier: Apache-2.0
/* Tries. Owns nothing that outlives one, but for what struct exchanger remembers. */
#include "image/exchange.h"

#include <stdio.h>
#include <strings.h>
#include <time.h>

#include "base/buf.h"
#include "base/limits.h"
#include "base/log.h"
#include "image/answer.h"
#include "loop/loop.h"
#include "net/url.h"

#include "base/banned.h"

#define NS_PER_MS 1000000ull

/* A hop: one request and its answer. */
struct hop {
	struct exchange *x;
	const char *url;
	struct url parts;
	struct peer *peer;
	struct auth_use use;
	struct http_head head;
	struct buf body; /* of an error */
	bool own;        /* at the host itself, not where it has sent us */
	bool trusted;    /* may know who asks, and may ask who does */
	bool got;        /* bytes of a 200 or 206 */
	bool unasked;    /* no credentials could be had */
	bool enough;     /* the request ended because no more was needed */
	int taken;       /* what on_head or on_body answered */
};

static bool is_data(const struct exchange *x, int status)
{
	return x->push ? status / 100 == 2 : status == 200 || status == 206;
}

static int on_head(void *arg, const struct http_head *head)
{
	struct hop *h = arg;
	int r = 0;

	h->x->status = head->status;
	if (is_data(h->x, head->status))
		r = h->taken = h->x->on_head ? h->x->on_head(h->x->arg, head) : 0;
	else if (head->status == 416) /* some announce the whole blob and send a line */
		r = -EALREADY;
	h->enough = r == -EALREADY;
	return r;
}

static int on_body(void *arg, const void *data, size_t n)
{
	struct hop *h = arg;
	int r;

	if (is_data(h->x, h->x->status)) {
		h->got = true;
		h->x->all->stats.bytes[h->x->class] += n;
		h->x->all->stats.bytes_mirror += h->x->host->ns ? n : 0;
		r = h->taken = h->x->on_body ? h->x->on_body(h->x->arg, data, n) : 0;
	} else if (h->body.len + n > REGISTRY_ERROR_BODY_MAX) {
		size_t room = REGISTRY_ERROR_BODY_MAX - h->body.len;

		r = buf_append(&h->body, data, room);
		r = r < 0 ? r : -EALREADY;
	} else {
		r = buf_append(&h->body, data, n);
	}
	h->enough = r == -EALREADY;
	return r;
}

static int no_memory(struct err *err)
{
	return err_set(err, -ENOMEM, "out of memory");
}

/* --- one hop --------------------------------------------------------------------------------- */

static bool is_failure(int r, int status)
{
	return r == -ETIMEDOUT || r == -ECONNREFUSED || r == -EHOSTUNREACH || r == -ECONNRESET ||
	       r == -EPROTO || r == -EKEYREJECTED || (r == 0 && status >= 500);
}

static bool wants_plain(const struct hop *h, int r)
{
	const struct host *host = h->x->host;

	if (!h->own || !h->parts.https || !host->fallback || h->peer->tls_seen || h->x->status)
		return false;
	return r == -EPROTONOSUPPORT || r == -ETIMEDOUT || (r == -ECONNREFUSED && host->no_port);
}

/* What is said of a host while it is not asked. */
static void note_failure(struct hop *h, int r, struct err *err)
{
	struct peer *p = h->peer;

	if (r < 0)
		snprintf(p->failure, sizeof(p->failure), "%s", err_text(err, r));
	else
		snprintf(p->failure, sizeof(p->failure), "it answers %d", h->x->status);
}

/* late: it may be our own time that was out. */
static void tell_breaker(struct hop *h, int r, bool late, struct err *err)
{
	uint64_t now = loop_now_ns(h->x->all->loop);

	bool answered = h->got || (h->taken < 0 && h->taken != -EALREADY);

	if (!answered &&
	    (late || h->unasked || wants_plain(h, r) || r == -ECANCELED || r == -ENOMEM))
		breaker_unknown(h->peer);
	else if (answered || !is_failure(r, h->x->status))
		breaker_worked(h->peer);
	else {
		note_failure(h, r, err);
		if (!breaker_failed(h->peer, now))
			return;
		h->x->all->stats.breaker_open++;
		log_warn("host is not asked for a while host=%s ms=%u", h->peer->authority,
			 h->peer->open_ms);
	}
}

static void note_outcome(const struct hop *h, int r)
{
	int status = h->x->status;
	enum request_outcome o = REQUEST_OK;

	if (!h->got && (r == -ECANCELED || h->taken == -ECANCELED))
		o = REQUEST_CANCELLED;
	else if (status >= 400)
		o = status >= 500 ? REQUEST_FAILED : REQUEST_REFUSED;
	else if (status == 0 || (r < 0 && h->taken == 0))
		o = REQUEST_NETWORK; /* none, or it has broken off */
	h->peer->told->requests[o]++;
}

static size_t put_headers(struct hop *h, const char *authorization, const char **headers)
{
	const struct exchange *x = h->x;
	bool given = false;
	size_t n = 0;

	headers[n++] = x->all->user_agent;
	headers[n++] = "Accept-Encoding: identity";
	for (size_t i = 0; i < x->headers_n; i++)
		headers[n++] = x->headers[i];
	for (size_t i = 0; h->own && h->trusted && i < x->host->headers_n; i++) {
		given = given || strncasecmp(x->host->headers[i], "authorization:", 14) == 0;
		headers[n++] = x->host->headers[i];
	}
	if (authorization && !given)
		headers[n++] = authorization;
	return n;
}

static may_suspend int send(struct hop *h, unsigned timeout_ms, struct err *err)
{
	struct exchange *x = h->x;
	const char *authorization = NULL;
	struct http_request q = {.method = x->method ? x->method : "GET",
				 .body = x->body,
				 .url = h->url,
				 .tls = &x->host->tls,
				 .connect_timeout_ms = x->host->dial_timeout_ms,
				 .timeout_ms = timeout_ms,
				 .on_head = on_head,
				 .on_body = on_body,
				 .arg = h,
				 .pausable = x->class == FETCH_BACKGROUND,
				 .urgent = x->urgent};
	const char **headers;
	int r = h->trusted ? auth_header(&h->use, &authorization, err) : 0;

	h->unasked = r < 0;
	if (r < 0)
		return r;
	headers = arena_alloc(x->arena,
			      (EXCHANGE_HEADERS_MAX + 3 + x->host->headers_n) * sizeof(headers[0]));
	if (!headers)
		return no_memory(err);
	q.headers = headers;
	q.headers_n = put_headers(h, authorization, headers);
	x->status = 0;
	h->enough = h->got = false;
	h->taken = 0;
	h->body.len = 0;
	x->all->stats.requests[x->class]++;
	r = http_run(x->all->http, &q, x->arena, &h->head, err);
	note_outcome(h, r);
	if (r < 0 && h->taken < 0 && !h->enough)
		return err_set(err, h->taken, "not wanted any more");
	return r < 0 && h->enough ? 0 : r;
}

static void hop_end(struct hop *h)
{
	auth_done(&h->use);
	if (h->peer)
		peer_put(h->peer);
	h->peer = NULL;
	buf_fini(&h->body);
}

/*
 * A redirect must not lead past TLS: what is known of a host (token, password, realm) is for its
 * side that the system's authorities vouch for, unless its own configuration says otherwise.
 */
static bool is_trusted(const struct hop *h)
{
	const struct host *host = h->x->host;

	if (h->parts.https)
		return h->own || (!host->tls.skip_verify && !host->tls.ca.len);
	return h->own && (!host->https || (host->fallback && !h->peer->tls_seen));
}

static int hop_start(struct hop *h, struct exchange *x, const char *url, struct err *err)
{
	*h = (struct hop){.x = x, .url = url};
	if (!url || url_parse(str_of(url), &h->parts) < 0)
		return no_memory(err);
	h->peer = peer_get(&x->all->peers, h->parts.authority);
	if (!h->peer)
		return no_memory(err);
	h->use = (struct auth_use){.auth = x->all->auth,
				   .peer = h->peer,
				   .https = h->parts.https,
				   .tls = &x->host->tls,
				   .ns = x->ns,
				   .repository = x->repository,
				   .arena = x->arena};
	h->own = str_eq(h->parts.authority, str_of(x->host->authority));
	h->trusted = is_trusted(h);
	if (h->own && h->trusted) {
		h->use.headers = x->host->headers;
		h->use.headers_n = x->host->headers_n;
	}
	return 0;
}

/* Sends, and once more when the host has said how it wants to be asked. */
static may_suspend int hop_run(struct hop *h, uint64_t due_ns, struct err *err)
{
	struct exchange *x = h->x;
	int r = 0;

	for (int i = 0; i < 3; i++) {
		uint64_t now = loop_now_ns(x->all->loop);

		if (now >= due_ns)
			return err_set(err, -ETIMEDOUT, "%s: no time left", h->peer->authority);
		x->wait_ms = breaker_enter(h->peer, now);
		if (x->wait_ms > 0)
			return err_set(err, -EHOSTDOWN, "%s: it has failed too often lately: %s",
				       h->peer->authority, h->peer->failure);
		r = send(h, (unsigned)((due_ns - now) / NS_PER_MS) + 1, err);
		tell_breaker(h, r, loop_now_ns(x->all->loop) >= due_ns, err);
		if (r == 0 && h->parts.https)
			h->peer->tls_seen = true;
		if (r < 0 || !h->trusted || (x->status != 401 && x->status != 403))
			return r;
		r = auth_refused(&h->use, &h->head, err);
		if (r == -EACCES)
			return 0; /* the answer stands */
		if (r < 0)
			return r;
	}
	return r;
}

/* --- a try ----------------------------------------------------------------------------------- */

static const char *api_url(const struct exchange *x, bool https)
{
	auto_buf struct buf ns = BUF_INIT;

	if (!x->host->ns)
		return arena_printf(x->arena, "%s://%s%s/%s/%s", https ? "https" : "http",
				    x->host->authority, x->host->path, x->repository, x->what);
	if (url_escape(&ns, str_of(x->ns)) < 0)
		return NULL;
	return arena_printf(x->arena, "%s://%s%s/%s/%s?ns=%.*s", https ? "https" : "http",
			    x->host->authority, x->host->path, x->repository, x->what, (int)ns.len,
			    (char *)ns.data);
}

static int status_error(struct hop *h, struct err *err)
{
	struct exchange *x = h->x;
	int s = x->status, code = -EBADMSG;
	struct str body = {h->body.len ? (char *)h->body.data : "", h->body.len};
	const char *says = error_message(body, x->arena);

	if (s == 401 || s == 403)
		code = -EACCES;
	else if (s == 404)
		code = -ENOENT;
	else if (s == 416)
		code = -ERANGE;
	else if (s == 429)
		code = -EAGAIN;
	else if (s == 408 || s >= 500)
		code = -EIO;
	if (s == 429 || s == 503)
		x->wait_ms = retry_after_ms(http_header(&h->head, "retry-after"), time(NULL));
	x->all->stats.throttled += s == 429;
	return err_set(err, code, "%s answers %d%s%s", h->peer->authority, s, *says ? ": " : "",
		       says);
}

static bool is_redirect(int status)
{
	return status == 301 || status == 302 || status == 303 || status == 307 || status == 308;
}

/* Of a place that was right once. Nothing of its answer has been taken. */
static bool is_useless(const struct hop *h, int r)
{
	if (is_data(h->x, h->x->status))
		return r == -EBADMSG && h->taken == r && !h->got;
	return r != -ECANCELED && (r < 0 || h->x->status >= 400);
}

struct way {
	const char *first; /* the address at the host */
	const char *url;   /* the one to ask now */
	bool remembered;   /* from an earlier answer */
	bool plain;        /* plain http has been tried */
};

/* The next address; NULL: this answer is the last one. */
static const char *next_url(struct hop *h, struct way *w, int r)
{
	struct exchange *x = h->x;
	const char *url;

	if (h->unasked)
		return NULL;
	if (wants_plain(h, r) && !w->plain) {
		w->plain = true;
		w->first = api_url(x, false);
		log_debug("plain http host=%s", x->host->authority);
		return w->first;
	}
	if (w->remembered && is_useless(h, r)) {
		location_drop(&x->all->locations, w->first); /* it may be old */
		w->remembered = false;
		return w->first;
	}
	if (r < 0 || !is_redirect(x->status))
		return NULL;
	url = url_resolve(h->url, http_header(&h->head, "location"), x->arena);
	if (url && x->blob && h->url == w->first)
		location_put(&x->all->locations, w->first, url);
	return url;
}

/* plain: the host answers it, and does not speak TLS. */
static void learn_plain(struct hop *h, const struct way *w)
{
	if (w->plain && h->own && !h->parts.https && h->x->status)
		h->peer->plain = true;
}

static may_suspend int follow(struct exchange *x, struct way *w, uint64_t due_ns, struct err *err)
{
	struct hop h;
	int r = 0;

	for (int i = 0; i <= REGISTRY_REDIRECTS_MAX; i++) {
		const char *next;

		r = hop_start(&h, x, w->url, err);
		if (r == 0)
			r = hop_run(&h, due_ns, err);
		next = h.peer ? next_url(&h, w, r) : NULL;
		if (h.peer)
			learn_plain(&h, w);
		if (!next && r == 0 && !is_data(x, x->status))
			r = status_error(&h, err);
		hop_end(&h);
		if (!next)
			return r;
		w->url = next;
	}
	location_drop(&x->all->locations, w->first);
	return err_set(err, -EPROTO, "%s: more than %d redirects", x->host->authority,
		       REGISTRY_REDIRECTS_MAX);
}

int exchange_run(struct exchange *x, struct err *err)
{
	struct peer *p = peer_get(&x->all->peers, str_of(x->host->authority));
	bool https = x->host->https && !(x->host->fallback && p && p->plain);
	struct way w = {.first = x->url ? x->url : api_url(x, https)};
	uint64_t due_ns = loop_now_ns(x->all->loop) + x->timeout_ms * NS_PER_MS;
	int r;

	if (p)
		peer_put(p);
	if (!w.first)
		return no_memory(err);
	x->status = 0;
	x->wait_ms = 0;
	w.url = x->blob ? location_get(&x->all->locations, w.first, x->arena) : NULL;
	w.remembered = w.url != NULL;
	if (!w.url)
		w.url = w.first;
	r = follow(x, &w, due_ns, err);
	return r;
}
