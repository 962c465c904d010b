// SPDX-License-Identifier: Apache-2.0
/*
 * The steps of a pull up to the moment when a container can start. The manifest is given to the
 * resolver as soon as it is here, which asks for the config and for the ends of all layers at once;
 * what containerd has to know is written meanwhile, under a lease. Loop thread.
 */
#include "operator/pull.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "base/event.h"
#include "base/limits.h"
#include "base/log.h"
#include "image/ref.h"
#include "image/registry.h"
#include "image/resolve.h"
#include "loop/loop.h"
#include "operator/scan.h"

#include "base/banned.h"

#define NS_PER_MS 1000000ull
#define IMAGES    "images.v1.Images"
#define LEASES    "leases.v1.Leases"

/* --- labels ----------------------------------------------------------------------------------- */

Fl__Label *pull_label(struct pull *p, const char *key, const char *value)
{
	Fl__Label *l = arena_alloc(&p->arena, sizeof(*l));

	if (!l || !key || !value)
		return NULL;
	fl__label__init(l);
	l->key = arena_strndup(&p->arena, key, strlen(key));
	l->value = arena_strndup(&p->arena, value, strlen(value));
	return l->key && l->value ? l : NULL;
}

Fl__Label *pull_source_label(struct pull *p)
{
	return pull_label(p,
			  arena_printf(&p->arena, "containerd.io/distribution.source.%s", p->host),
			  p->repository);
}

static Fl__Label *digest_label(struct pull *p, const char *key, const struct digest *d)
{
	char text[DIGEST_TEXT_SIZE];

	digest_text(d, text);
	return pull_label(p, key, text);
}

/* --- the documents ---------------------------------------------------------------------------- */

/* From containerd's store if it is there, which saves a round trip. */
may_suspend static int get_manifest(struct pull *p, const struct descriptor *d, struct buf *ret,
				    struct err *err)
{
	if (containerd_content_read(p->op->containerd, &p->at, &d->digest, MANIFEST_MAX, ret,
				    NULL) == 0)
		return 0;
	buf_fini(ret);
	return registry_manifest(p->registry, str_of(p->name), &d->digest, FETCH_DEMAND, ret, err);
}

may_suspend static int resolve_index(struct pull *p, struct err *err)
{
	struct str body = {(char *)p->manifest_body.data, p->manifest_body.len};
	int r;

	p->index_body = p->manifest_body;
	p->manifest_body = BUF_INIT;
	r = manifest_index(body, &p->platform, &p->arena, &p->index, err);
	if (r < 0)
		return r;
	p->manifest_at = p->index.list[p->index.best];
	return get_manifest(p, &p->manifest_at, &p->manifest_body, err);
}

/* It gave no answer: what it would say is not known. */
static bool is_away(int r)
{
	return r == -ECONNREFUSED || r == -ECONNRESET || r == -EHOSTUNREACH || r == -ENETUNREACH ||
	       r == -EHOSTDOWN || r == -ETIMEDOUT || r == -EIO;
}

/* What the registry says of the reference. */
struct asking {
	struct pull *p;
	struct waitq changed;
	bool answered;
	struct buf body;
	struct digest digest;
	struct str type;
	int result;
	struct err err;
};

may_suspend static int ask_task(void *arg)
{
	struct asking *q = arg;

	q->result = registry_resolve(q->p->registry, str_of(q->p->name), &q->p->arena, &q->body,
				     &q->digest, &q->type, &q->err);
	q->answered = true;
	waitq_wake_all(&q->changed);
	return 0;
}

/* The image as an earlier pull has left it: its record; its document is read when need be. */
may_suspend static int known_target(struct pull *p, struct digest *ret, struct str *ret_type)
{
	Ctrd__ImageNameRequest q = CTRD__IMAGE_NAME_REQUEST__INIT;
	Ctrd__ImageMessage *m;
	int r;

	q.name = (char *)(uintptr_t)p->name;
	r = containerd_call(p->op->containerd, &p->at, IMAGES, "Get", &q.base,
			    &ctrd__image_message__descriptor, 0, &p->arena, &m, NULL);
	if (r < 0)
		return r;
	if (!m->image || !m->image->target)
		return -EBADMSG;
	*ret_type = str_of(m->image->target->media_type);
	return digest_parse(str_of(m->image->target->digest), ret);
}

/* known: there is something else to take, so the registry is not waited for until all retries
 * have failed. */
may_suspend static int wait_answer(struct asking *q, bool known)
{
	int r = 0;

	while (r == 0 && !q->answered)
		r = known ? waitq_wait_ms(&q->changed, PULL_AWAY_MS) : waitq_wait(&q->changed);
	if (r == -ETIMEDOUT)
		err_set(&q->err, r, "no answer within %d ms", PULL_AWAY_MS);
	return r < 0 ? r : q->result;
}

/* A registry that gives no answer is no hindrance to have again what was pulled before. */
may_suspend static int get_target(struct pull *p, struct str *ret_type, struct err *err)
{
	struct asking q = {.p = p, .err = ERR_INIT};
	struct err why = ERR_INIT;
	struct digest known_digest;
	struct str known_type;
	struct scope scope;
	bool known;
	int r;

	waitq_init(&q.changed);
	scope_init(&scope, p->op->loop);
	r = scope_spawn(&scope, ask_task, &q, NULL);
	known = r == 0 && known_target(p, &known_digest, &known_type) == 0;
	if (r == 0)
		r = wait_answer(&q, known);
	if (r < 0)
		err_set(&why, r, "%s", err_text(&q.err, r));
	scope_cancel(&scope);
	scope_wait(&scope);
	scope_fini(&scope);
	p->manifest_body = q.body;
	p->target.digest = q.digest;
	*ret_type = q.type;
	if (r == 0)
		return 0;
	buf_fini(&p->manifest_body);
	if (known && is_away(r) &&
	    containerd_content_read(p->op->containerd, &p->at, &known_digest, MANIFEST_MAX,
				    &p->manifest_body, NULL) == 0) {
		p->target.digest = known_digest;
		*ret_type = known_type;
		p->away = arena_strndup(&p->arena, why.text, strlen(why.text));
		log_warn("registry is away, taken as it was image=%s error=\"%s\"", p->name,
			 why.text);
		return 0;
	}
	return err_set(err, r, "%s", why.text);
}

may_suspend static int resolve_target(struct pull *p, struct err *err)
{
	struct str type, body;
	int r = get_target(p, &type, err);

	if (r < 0)
		return r;
	body = (struct str){(char *)p->manifest_body.data, p->manifest_body.len};
	p->target.size = body.len;
	p->target.media_type = manifest_type(type, body, &p->arena);
	if (!p->target.media_type.p)
		return err_set(err, -ENOMEM, "out of memory");
	p->manifest_at = p->target;
	if (manifest_is_index(type, body))
		r = resolve_index(p, err);
	if (r < 0)
		return r;
	body = (struct str){(char *)p->manifest_body.data, p->manifest_body.len};
	p->manifest_at.size = body.len;
	p->manifest_at.media_type = manifest_type(p->manifest_at.media_type, body, &p->arena);
	if (!p->manifest_at.media_type.p)
		return err_set(err, -ENOMEM, "out of memory");
	return manifest_parse(body, &p->arena, &p->manifest, err);
}

static int layers_from_manifest(struct pull *p, struct err *err)
{
	size_t n = p->manifest.layers_n;

	p->layers = arena_alloc(&p->arena, (n + 1) * sizeof(*p->layers));
	if (!p->layers)
		return err_set(err, -ENOMEM, "out of memory");
	for (size_t i = 0; i < n; i++) {
		const struct descriptor *d = &p->manifest.layers[i];

		p->layers[i] = (struct pull_layer){.digest = d->digest, .size = d->size};
		p->layers[i].media_type =
			arena_strndup(&p->arena, d->media_type.p, d->media_type.len);
		if (!p->layers[i].media_type)
			return err_set(err, -ENOMEM, "out of memory");
	}
	p->layers_n = p->ordinary = n;
	return 0;
}

may_suspend static int get_config(struct pull *p, struct err *err)
{
	struct digest *ids;
	struct str body;
	int r = containerd_content_read(p->op->containerd, &p->at, &p->manifest.config.digest,
					IMAGE_CONFIG_MAX, &p->config_body, NULL);

	if (r < 0) {
		buf_fini(&p->config_body);
		r = resolve_config(p->op->options.resolver, str_of(p->name), &p->manifest_at.digest,
				   &p->config_body, err);
	}
	body = (struct str){(char *)p->config_body.data, p->config_body.len};
	if (r == 0 && !p->index.n)
		r = config_fits(body, &p->platform, &p->arena, err);
	if (r == 0)
		r = config_diff_ids(body, p->layers_n, &p->arena, &ids, err);
	if (r)
		return r;
	for (size_t i = 0; i < p->layers_n; i++)
		p->layers[i].diff_id = ids[i];
	chain_ids(ids, p->layers_n);
	for (size_t i = 0; i < p->layers_n; i++)
		p->layers[i].chain = ids[i];
	return 0;
}

/* --- what containerd has to know -------------------------------------------------------------- */

may_suspend static int put(struct pull *p, const char *kind, const struct descriptor *d,
			   const struct buf *body, Fl__Label **labels, size_t n, struct err *err)
{
	char text[DIGEST_TEXT_SIZE];
	const char *ref;

	digest_text(&d->digest, text);
	ref = arena_printf(&p->arena, "%s-%s", kind, text);
	for (size_t i = 0; i < n; i++) {
		if (!labels[i])
			ref = NULL;
	}
	if (!ref)
		return err_set(err, -ENOMEM, "out of memory");
	return containerd_content_put(p->op->containerd, &p->at, ref, &d->digest,
				      (struct str){(char *)body->data, body->len}, labels, n, err);
}

may_suspend static int put_index(struct pull *p, struct err *err)
{
	Fl__Label **labels = arena_alloc(&p->arena, (p->index.n + 1) * sizeof(*labels));
	char key[64];

	if (!labels)
		return err_set(err, -ENOMEM, "out of memory");
	for (size_t i = 0; i < p->index.n; i++) {
		snprintf(key, sizeof(key), "containerd.io/gc.ref.content.m.%zu", i);
		labels[i] = digest_label(p, key, &p->index.list[i].digest);
	}
	labels[p->index.n] = pull_source_label(p);
	return put(p, "index", &p->target, &p->index_body, labels, p->index.n + 1, err);
}

/* Children before parents: what is in the store never names what is not. */
may_suspend static int put_documents(struct pull *p, struct err *err)
{
	Fl__Label *labels[2] = {pull_source_label(p)};
	int r = put(p, "config", &p->manifest.config, &p->config_body, labels, 1, err);

	labels[1] =
		digest_label(p, "containerd.io/gc.ref.content.config", &p->manifest.config.digest);
	if (r == 0)
		r = put(p, "manifest", &p->manifest_at, &p->manifest_body, labels, 2, err);
	return r == 0 && p->index.n ? put_index(p, err) : r;
}

may_suspend int pull_references(struct pull *p, struct err *err)
{
	Fl__Label **labels = arena_alloc(&p->arena, (p->layers_n + 1) * sizeof(*labels));
	Fl__Label *top;
	char key[128];
	size_t n = 0;
	int r = 0;

	if (!labels)
		return err_set(err, -ENOMEM, "out of memory");
	for (size_t i = 0; i < p->layers_n; i++) {
		if (p->layers[i].state != PULL_UNPACKED)
			continue;
		snprintf(key, sizeof(key), "containerd.io/gc.ref.content.l.%zu", i);
		labels[n] = digest_label(p, key, &p->layers[i].digest);
		if (!labels[n++])
			return err_set(err, -ENOMEM, "out of memory");
	}
	if (n)
		r = containerd_content_label(p->op->containerd, &p->at, &p->manifest_at.digest,
					     labels, n, err);
	if (r < 0 || !p->layers_n)
		return r;
	snprintf(key, sizeof(key), "containerd.io/gc.ref.snapshot.%s", p->op->options.snapshotter);
	top = digest_label(p, key, &p->layers[p->layers_n - 1].chain);
	if (!top)
		return err_set(err, -ENOMEM, "out of memory");
	return containerd_content_label(p->op->containerd, &p->at, &p->manifest.config.digest, &top,
					1, err);
}

may_suspend static int put_image(struct pull *p, struct err *err)
{
	Ctrd__ImageMessage q = CTRD__IMAGE_MESSAGE__INIT, *m;
	Ctrd__Image image = CTRD__IMAGE__INIT;
	Ctrd__Descriptor target = CTRD__DESCRIPTOR__INIT;
	Fl__FieldMask mask = FL__FIELD_MASK__INIT;
	char text[DIGEST_TEXT_SIZE], path[] = "target", *paths = path;
	struct err why = ERR_INIT;
	int r;

	digest_text(&p->target.digest, text);
	target.digest = text;
	target.media_type = (char *)(uintptr_t)p->target.media_type.p;
	target.size = (int64_t)p->target.size;
	image.name = (char *)(uintptr_t)p->name;
	image.target = &target;
	q.image = &image;
	r = containerd_call(p->op->containerd, &p->at, IMAGES, "Create", &q.base,
			    &ctrd__image_message__descriptor, 0, &p->arena, &m, &why);
	if (r != -EEXIST)
		return r < 0 ? err_set(err, r, "%s", why.text) : 0;
	mask.paths = &paths;
	mask.n_paths = 1;
	q.update_mask = &mask;
	return containerd_call(p->op->containerd, &p->at, IMAGES, "Update", &q.base,
			       &ctrd__image_message__descriptor, 0, &p->arena, &m, err);
}

/* --- the lease -------------------------------------------------------------------------------- */

may_suspend int pull_lease_take(struct pull *p, struct err *err)
{
	Ctrd__CreateLeaseRequest q = CTRD__CREATE_LEASE_REQUEST__INIT;
	Ctrd__LeaseMessage *m;
	time_t until = time(NULL) + PULL_LEASE_S;
	Fl__Label *expire;
	char when[32];
	struct tm tm;
	int r;

	gmtime_r(&until, &tm);
	strftime(when, sizeof(when), "%Y-%m-%dT%H:%M:%SZ", &tm);
	expire = pull_label(p, "containerd.io/gc.expire", when);
	if (!expire)
		return err_set(err, -ENOMEM, "out of memory");
	q.labels = &expire;
	q.n_labels = 1;
	r = containerd_call(p->op->containerd, &p->at, LEASES, "Create", &q.base,
			    &ctrd__lease_message__descriptor, 0, &p->arena, &m, err);
	if (r == 0 && (!m->lease || !m->lease->id[0]))
		r = err_set(err, -EBADMSG, "containerd: the lease has no id");
	if (r == 0)
		p->at.lease = m->lease->id;
	return r;
}

/* Left behind it expires. */
may_suspend void pull_lease_give(struct pull *p)
{
	Ctrd__DeleteLeaseRequest q = CTRD__DELETE_LEASE_REQUEST__INIT;
	const struct containerd_at at = {.ns = p->at.ns};

	if (!p->at.lease)
		return;
	q.id = (char *)(uintptr_t)p->at.lease;
	p->at.lease = NULL;
	containerd_call(p->op->containerd, &at, LEASES, "Delete", &q.base, NULL, 0, NULL, NULL,
			NULL);
}

/* --- all of it -------------------------------------------------------------------------------- */

struct side {
	struct pull *p;
	int result;
	struct err err;
};

may_suspend static int documents_task(void *arg)
{
	struct side *s = arg;

	s->result = put_documents(s->p, &s->err);
	return 0;
}

/* containerd may have records of layers that we have lost: by now they are out. */
may_suspend static bool records_checked(struct pull *p)
{
	struct scan_report report;
	auto_arena struct arena a;

	arena_init(&a, CONTAINERD_MESSAGE_MEMORY);
	return operator_scan(p->op, &a, &report, NULL) == 0;
}

/* The documents are written while the layers are registered. */
may_suspend static int layers_and_documents(struct pull *p, struct err *err)
{
	struct side side = {.p = p, .err = ERR_INIT};
	struct scope scope;
	int r;

	scope_init(&scope, p->op->loop);
	r = scope_spawn(&scope, documents_task, &side, NULL);
	if (r < 0)
		err_errno(err, r, "start a task");
	if (r == 0)
		r = pull_layers(p, err);
	if (r == -ENOENT && records_checked(p))
		r = pull_layers(p, err);
	if (r < 0)
		scope_cancel(&scope);
	scope_wait(&scope);
	scope_fini(&scope);
	if (r == 0 && side.result < 0)
		r = err_set(err, side.result, "%s", err_text(&side.err, side.result));
	return r;
}

may_suspend static int lease_task(void *arg)
{
	struct side *s = arg;

	s->result = pull_lease_take(s->p, &s->err);
	return 0;
}

/* The lease is there before anything is written. */
may_suspend static int lease_and_target(struct pull *p, struct err *err)
{
	struct side side = {.p = p, .err = ERR_INIT};
	struct scope scope;
	int r;

	scope_init(&scope, p->op->loop);
	r = scope_spawn(&scope, lease_task, &side, NULL);
	if (r < 0)
		err_errno(err, r, "start a task");
	if (r == 0)
		r = resolve_target(p, err);
	scope_wait(&scope);
	scope_fini(&scope);
	if (r == 0 && side.result < 0)
		r = err_set(err, side.result, "%s", err_text(&side.err, side.result));
	return r;
}

may_suspend static int run(struct pull *p, struct err *err)
{
	struct str body;
	int r = lease_and_target(p, err);

	if (r == 0)
		r = layers_from_manifest(p, err);
	if (r < 0)
		return r;
	p->phase = PULL_LAYERS;
	pull_changed(p);
	body = (struct str){(char *)p->manifest_body.data, p->manifest_body.len};
	r = resolve_begin(p->op->options.resolver, str_of(p->name), &p->manifest_at.digest, body,
			  err);
	if (r == 0)
		r = get_config(p, err);
	if (r == 0)
		r = layers_and_documents(p, err);
	if (r == 0)
		r = pull_references(p, err);
	if (r == 0 && !pull_is_whole(p)) {
		r = pull_layers(p, err);
		if (r == 0)
			r = pull_references(p, err);
	}
	return r == 0 ? put_image(p, err) : r;
}

static void say(struct pull *p, int r)
{
	uint64_t ms = (loop_now_ns(p->op->loop) - p->start_ns) / NS_PER_MS;
	size_t lazy = 0;

	for (size_t i = 0; i < p->layers_n; i++)
		lazy += p->layers[i].state == PULL_LAZY;
	if (r == 0)
		log_info("pulled image=%s namespace=%s layers=%zu lazy=%zu ms=%" PRIu64, p->name,
			 p->at.ns, p->layers_n, lazy, ms);
	else
		log_warn("pull image=%s namespace=%s ms=%" PRIu64 " error=\"%s\"", p->name,
			 p->at.ns, ms, err_text(&p->err, r));
	event_emit(r == 0 ? "pull-ready" : "pull-failed",
		   (struct event_field[]){{"image", str_of(p->name)},
					  {"cause", str_of(r ? err_text(&p->err, r) : "")}},
		   r == 0 ? 1 : 2);
}

may_suspend int pull_task(void *arg)
{
	struct pull *p = arg;
	int r;

	p->err = ERR_INIT;
	r = run(p, &p->err);
	scope_cancel(&p->blobs);
	scope_wait(&p->blobs);
	scope_fini(&p->blobs);
	if (r == 0)
		p->phase = PULL_READY;
	say(p, r);
	p->result = r;
	pull_changed(p);
	if (!task_cancelled()) /* else it expires */
		pull_lease_give(p);
	p->ended = true;
	pull_changed(p);
	return 0;
}
