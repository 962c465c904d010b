// SPDX-License-Identifier: Apache-2.0
/* Asks token servers. Owns nothing. */
#include "image/token.h"

#include "base/base64.h"
#include "base/json.h"
#include "base/limits.h"
#include "image/answer.h"
#include "net/url.h"

#include "base/banned.h"

#define TOKEN_REDIRECTS   3
#define TOKEN_HEADERS_MAX 80

bool token_valid(struct str s)
{
	for (size_t i = 0; i < s.len; i++) {
		if (s.p[i] <= ' ' || s.p[i] >= 0x7f)
			return false;
	}
	return s.len > 0;
}

int basic_header(struct str user, struct str secret, struct buf *b)
{
	auto_buf struct buf plain = BUF_INIT;
	int r = buf_append(&plain, user.p, user.len);

	if (r == 0)
		r = buf_append(&plain, ":", 1);
	if (r == 0 && secret.len)
		r = buf_append(&plain, secret.p, secret.len);
	if (r == 0)
		r = buf_printf(b, "Authorization: Basic ");
	if (r == 0)
		r = base64_encode((struct str){(char *)plain.data, plain.len}, b);
	if (plain.len)
		explicit_bzero(plain.data, plain.len);
	return r;
}

int token_parse(struct str body, struct arena *a, struct token_answer *ret, struct err *err)
{
	const struct json *expires;
	struct json *root;
	struct str value;
	uint64_t seconds = REGISTRY_TOKEN_MIN_S;

	if (json_tree(body, a, &root, NULL) < 0)
		return err_set(err, -EBADMSG, "the token server's answer is no JSON");
	value = json_text(root, "access_token");
	if (value.len == 0)
		value = json_text(root, "token");
	if (!token_valid(value))
		return err_set(err, -EBADMSG, "the token server's answer holds no token");
	expires = json_get(root, "expires_in");
	if (expires && expires->type == JSON_INT && expires->integer > REGISTRY_TOKEN_MIN_S)
		seconds = (uint64_t)expires->integer;
	if (seconds > REGISTRY_TOKEN_MAX_S)
		seconds = REGISTRY_TOKEN_MAX_S;
	*ret = (struct token_answer){value, (unsigned)seconds - REGISTRY_TOKEN_SKEW_S};
	return 0;
}

/* --- the question ---------------------------------------------------------------------------- */

static int put_field(struct buf *b, char *sep, const char *name, struct str value)
{
	int r = *sep ? buf_append(b, sep, 1) : 0;

	*sep = '&';
	if (r == 0)
		r = buf_printf(b, "%s=", name);
	return r < 0 ? r : url_escape(b, value);
}

/* Each scope but ours, which comes first. */
static int put_scopes(const struct token_request *q, bool post, struct str own, struct buf *b,
		      char *sep)
{
	const char *p = q->scope ? q->scope : "";
	int r = put_field(b, sep, "scope", own);

	while (r == 0 && *(p += strspn(p, " "))) {
		struct str s = {p, strcspn(p, " ")};

		p += s.len;
		if (str_eq(s, own))
			continue;
		if (!post) {
			r = put_field(b, sep, "scope", s);
			continue;
		}
		r = buf_printf(b, "%%20");
		if (r == 0)
			r = url_escape(b, s);
	}
	return r;
}

/* "?service=…&scope=…" (by GET, '?' or '&' first) or the body of a POST. */
static int token_query(const struct token_request *q, bool post, struct buf *b)
{
	auto_buf struct buf own = BUF_INIT;
	char sep = post ? 0 : strchr(q->realm, '?') ? '&' : '?';
	int r = buf_printf(&own, "repository:%s:pull", q->repository);

	if (r == 0 && post) {
		r = put_field(b, &sep, "grant_type", STR("refresh_token"));
		if (r == 0)
			r = put_field(b, &sep, "client_id", STR("firstlight"));
		if (r == 0)
			r = put_field(b, &sep, "refresh_token", q->creds.identity);
	}
	if (r == 0 && q->service && *q->service)
		r = put_field(b, &sep, "service", str_of(q->service));
	if (r == 0)
		r = put_scopes(q, post, (struct str){(char *)own.data, own.len}, b, &sep);
	if (r == 0 && !post && q->creds.user.len)
		r = put_field(b, &sep, "account", q->creds.user);
	return r;
}

/* --- the request ----------------------------------------------------------------------------- */

static int take_body(void *arg, const void *data, size_t n)
{
	struct buf *b = arg;

	return b->len + n > REGISTRY_TOKEN_BODY_MAX ? -EFBIG : buf_append(b, data, n);
}

static size_t put_headers(const struct token_request *q, const char *authorization, bool own,
			  const char *headers[TOKEN_HEADERS_MAX])
{
	size_t n = 0;

	headers[n++] = q->user_agent;
	headers[n++] = "Accept: application/json";
	if (authorization)
		headers[n++] = authorization;
	for (size_t i = 0; own && i < q->headers_n && n < TOKEN_HEADERS_MAX; i++)
		headers[n++] = q->headers[i];
	return n;
}

static may_suspend int ask(const struct token_request *q, const char *url,
			   const char *authorization, struct str body, struct arena *a,
			   struct http_head *head, struct buf *answer, struct err *err)
{
	const char *headers[TOKEN_HEADERS_MAX];
	struct url start, now;
	int r = 0;

	for (int i = 0; i <= TOKEN_REDIRECTS; i++) {
		bool own = url_parse(str_of(url), &now) == 0 &&
			   url_parse(str_of(q->realm), &start) == 0 &&
			   url_same_origin(&start, &now);
		struct http_request h = {.method = body.len ? "POST" : "GET",
					 .url = url,
					 .headers = headers,
					 .body = body,
					 .tls = q->tls,
					 .timeout_ms = REGISTRY_TOKEN_TIMEOUT_MS,
					 .on_body = take_body,
					 .arg = answer};

		h.headers_n = put_headers(q, own ? authorization : NULL, own, headers);
		answer->len = 0;
		r = http_run(q->http, &h, a, head, err);
		if (r < 0 || head->status / 100 != 3 || body.len)
			return r;
		url = url_resolve(url, http_header(head, "location"), a);
		if (!url)
			return 0;
	}
	return r;
}

static int refusal(const struct http_head *head, const struct buf *body, struct arena *a,
		   struct err *err)
{
	const char *says =
		error_message((struct str){body->len ? (char *)body->data : "", body->len}, a);
	int code = head->status == 401 || head->status == 403 || head->status == 400 ? -EACCES
		   : head->status == 429                                             ? -EAGAIN
		   : head->status >= 500                                             ? -EIO
										     : -EBADMSG;

	return err_set(err, code, "the token server answers %d%s%s", head->status,
		       *says ? ": " : "", says);
}

static may_suspend int by_post(const struct token_request *q, struct arena *a,
			       struct http_head *head, struct buf *answer, struct err *err)
{
	auto_buf struct buf body = BUF_INIT;
	int r = token_query(q, true, &body);

	if (r == 0)
		r = ask(q, q->realm, NULL, (struct str){(char *)body.data, body.len}, a, head,
			answer, err);
	else
		err_set(err, r, "out of memory");
	if (body.len)
		explicit_bzero(body.data, body.len);
	return r;
}

static may_suspend int by_get(const struct token_request *q, struct arena *a,
			      struct http_head *head, struct buf *answer, struct err *err)
{
	auto_buf struct buf query = BUF_INIT, header = BUF_INIT;
	const char *url, *authorization = NULL;
	int r = token_query(q, false, &query);

	if (r == 0 && q->creds.user.len) {
		r = basic_header(q->creds.user, q->creds.secret, &header);
		if (r == 0)
			r = buf_append(&header, "", 1);
		authorization = (char *)header.data;
	}
	url = r == 0 ? arena_printf(a, "%s%.*s", q->realm, (int)query.len, (char *)query.data)
		     : NULL;
	r = url ? ask(q, url, authorization, (struct str){"", 0}, a, head, answer, err)
		: err_set(err, -ENOMEM, "out of memory");
	if (header.len)
		explicit_bzero(header.data, header.len);
	return r;
}

static bool try_get(int status)
{
	return status == 400 || status == 401 || status == 404 || status == 405;
}

int token_fetch(const struct token_request *q, struct arena *a, struct token_answer *ret,
		struct err *err)
{
	auto_buf struct buf body = BUF_INIT;
	bool secret = q->creds.user.len || q->creds.identity.len;
	struct http_head head = {0};
	struct url u;
	int r = 0;

	if (url_parse(str_of(q->realm), &u) < 0)
		return err_set(err, -EBADMSG, "the token server's address is none");
	if (secret && !u.https && !q->plain_allowed)
		return err_set(err, -EACCES, "no password goes to a token server without TLS");
	if (q->creds.identity.len)
		r = by_post(q, a, &head, &body, err);
	if (!q->creds.identity.len || (r == 0 && q->creds.user.len && try_get(head.status)))
		r = by_get(q, a, &head, &body, err);
	if (r < 0)
		return err_wrap(err, r, "token");
	if (head.status / 100 != 2)
		return refusal(&head, &body, a, err);
	r = token_parse((struct str){body.len ? (char *)body.data : "", body.len}, a, ret, err);
	if (body.len)
		explicit_bzero(body.data, body.len);
	return r;
}
