// SPDX-License-Identifier: Apache-2.0
/* Pushes. Owns nothing. Loop thread. */
#include "image/registry_push.h"

#include <stdio.h>
#include <string.h>

#include "base/limits.h"
#include "image/registry_impl.h"
#include "net/url.h"

#include "base/banned.h"

struct push {
	const char *method, *url, *type;
	struct str body;
	char location[2048]; /* of the answer */
	int status;
	unsigned wait_ms; /* before another try, as the answer says */
	bool once;
};

static int push_head(void *arg, const struct http_head *head)
{
	struct push *u = arg;
	struct str location = http_header(head, "location");

	u->status = head->status;
	u->location[0] = 0;
	if (location.len < sizeof(u->location))
		snprintf(u->location, sizeof(u->location), STR_FMT, STR_ARG(location));
	return 0;
}

static may_suspend int push_attempt(struct pull *p, struct exchange *x, struct err *err)
{
	struct push *u = p->arg;

	if (x->host->ns) /* a mirror */
		return err_set(err, -EHOSTDOWN, "%s: mirrors take no pushes", x->host->authority);
	x->method = u->method;
	x->url = u->url;
	x->body = u->body;
	x->push = true;
	x->on_head = push_head;
	x->arg = u;
	if (u->type) {
		x->headers[0] = u->type;
		x->headers_n = 1;
	}
	return exchange_run(x, err);
}

/* what: of the address, where u has no url. */
static may_suspend int push_run(struct registry *r, struct str ref, struct push *u,
				const char *what, struct err *err)
{
	const struct digest none = {{0}};
	struct pull p;
	int e;

	pull_init(&p, r, FETCH_DEMAND, "", &none);
	if (snprintf(p.what, sizeof(p.what), "%s", what) >= (int)sizeof(p.what))
		e = err_set(err, -EINVAL, "the address is too long");
	else {
		p.attempt = push_attempt;
		p.arg = u;
		p.size = u->body.len;
		p.once = u->once;
		e = pull_run(&p, ref, err);
		u->wait_ms = p.wait_ms;
	}
	pull_fini(&p);
	return e;
}

may_suspend int registry_has_blob(struct registry *r, struct str ref, const struct digest *digest,
				  struct err *err)
{
	struct push u = {.method = "HEAD"};
	char text[DIGEST_TEXT_SIZE], what[96];
	int e;

	digest_text(digest, text);
	snprintf(what, sizeof(what), "blobs/%s", text);
	e = push_run(r, ref, &u, what, err);
	return e == -ENOENT ? 0 : e < 0 ? e : 1;
}

/* Opens an upload; query may be empty. */
static may_suspend int upload_open(struct registry *r, struct str ref, const char *query,
				   struct push *u, struct err *err)
{
	char what[REGISTRY_WHAT_MAX];

	*u = (struct push){.method = "POST"};
	if (snprintf(what, sizeof(what), "blobs/uploads/%s", query) >= (int)sizeof(what))
		return err_set(err, -EINVAL, "the name is too long");
	return push_run(r, ref, u, what, err);
}

may_suspend int registry_mount_blob(struct registry *r, struct str ref, const struct digest *digest,
				    const char *from, struct err *err)
{
	char text[DIGEST_TEXT_SIZE], query[REGISTRY_WHAT_MAX];
	struct push u;
	int e;

	digest_text(digest, text);
	snprintf(query, sizeof(query), "?mount=%s&from=%s", text, from);
	e = upload_open(r, ref, query, &u, err);
	return e < 0 ? e : u.status == 201;
}

/* The address that an answer named, at the registry itself or elsewhere. */
static may_suspend const char *upload_url(struct registry *r, struct str ref, const struct push *u,
					  struct arena *a)
{
	struct ref parts;

	if (strncmp(u->location, "http", 4) == 0)
		return u->location;
	if (u->location[0] != '/' || ref_parse(ref, a, &parts, NULL) < 0)
		return NULL;
	return registry_address(r, parts.host, u->location, a);
}

/* One upload of the whole. A session that has broken may hold a part of it, so that is no address
 * to try again. */
static may_suspend int upload(struct registry *r, struct str ref, const struct digest *digest,
			      struct str body, unsigned *ret_wait_ms, struct err *err)
{
	char text[DIGEST_TEXT_SIZE];
	struct push open, put = {.method = "PUT",
				 .body = body,
				 .once = true,
				 .type = "Content-Type: application/octet-stream"};
	auto_arena struct arena a;
	const char *url;
	int e;

	arena_init(&a, KiB(64));
	digest_text(digest, text);
	e = upload_open(r, ref, "", &open, err);
	if (e < 0)
		return e;
	url = upload_url(r, ref, &open, &a);
	if (!url || !url[0])
		return err_set(err, -EPROTO, "the registry does not say where to send the blob");
	put.url = arena_printf(&a, "%s%cdigest=%s", url, strchr(url, '?') ? '&' : '?', text);
	if (!put.url)
		return err_set(err, -ENOMEM, "out of memory");
	e = push_run(r, ref, &put, "blobs/uploads/", err);
	*ret_wait_ms = put.wait_ms;
	return e;
}

/* What a new upload of the same bytes may mend: sessions get lost, and bytes on their way. */
static bool may_repeat(int e)
{
	return e != -ECANCELED && e != -ENOMEM && e != -EACCES && e != -EINVAL;
}

may_suspend int registry_put_blob(struct registry *r, struct str ref, const struct digest *digest,
				  struct str body, struct err *err)
{
	unsigned pause = REGISTRY_RETRY_MS, wait = 0;
	int e = upload(r, ref, digest, body, &wait, err);

	for (unsigned n = 1; e < 0 && may_repeat(e) && n < REGISTRY_UPLOADS_MAX; n++) {
		if (task_sleep_ms(wait > pause ? wait : pause) < 0)
			return err_set(err, -ECANCELED, "cancelled");
		pause *= 3;
		wait = 0;
		r->ex.stats.retries++;
		/* Only the answer may have been lost. */
		if (registry_has_blob(r, ref, digest, NULL) == 1)
			return 0;
		e = upload(r, ref, digest, body, &wait, err);
	}
	return e;
}

may_suspend int registry_put_manifest(struct registry *r, struct str ref, struct str body,
				      const char *type, bool tagged, struct err *err)
{
	struct push u = {.method = "PUT", .body = body};
	char text[DIGEST_TEXT_SIZE], what[160];
	auto_arena struct arena a;
	struct digest digest;
	struct ref parts;
	int e;

	arena_init(&a, KiB(64));
	e = ref_parse(ref, &a, &parts, err);
	if (e < 0)
		return e;
	sha256(body.p, body.len, &digest);
	digest_text(&digest, text);
	if (tagged && parts.tag.len)
		snprintf(what, sizeof(what), "manifests/" STR_FMT, STR_ARG(parts.tag));
	else
		snprintf(what, sizeof(what), "manifests/%s", text);
	u.type = arena_printf(&a, "Content-Type: %s", type);
	return u.type ? push_run(r, ref, &u, what, err) : err_set(err, -ENOMEM, "out of memory");
}
