// SPDX-License-Identifier: Apache-2.0
/* The operator's life, and who waits for which pull. Loop thread. */
#include "operator/operator.h"

#include <stdlib.h>
#include <string.h>

#include "base/limits.h"
#include "image/layer.h"
#include "image/local.h"
#include "image/ref.h"
#include "image/registry.h"
#include "image/resolve.h"
#include "loop/loop.h"
#include "operator/image.h"
#include "operator/pull.h"
#include "snap/snap.h"

#include "base/banned.h"

#define NS_PER_MS   1000000ull
#define PULL_MEMORY MiB(64)

may_suspend static int document(void *arg, const struct digest *digest, size_t max, struct buf *ret)
{
	return operator_document(arg, digest, max, ret);
}

int operator_new(struct loop *loop, const struct operator_options *options, struct operator** ret,
		 struct err *err)
{
	struct operator* op = calloc(1, sizeof(*op));
	int r;

	if (!op)
		return err_set(err, -ENOMEM, "out of memory");
	r = containerd_new(loop, options->address, &op->containerd, err);
	if (r < 0) {
		free(op);
		return r;
	}
	op->loop = loop;
	op->options = *options;
	scope_init(&op->scope, loop);
	list_init(&op->pulls);
	mutex_init(&op->scanning);
	if (options->resolver)
		resolver_documents(options->resolver, document, op);
	*ret = op;
	return 0;
}

may_suspend void operator_free(struct operator* op)
{
	if (!op)
		return;
	scope_cancel(&op->scope);
	scope_wait(&op->scope);
	scope_fini(&op->scope);
	if (op->options.resolver)
		resolver_stop(op->options.resolver); /* it asks us */
	containerd_free(op->containerd);
	free(op);
}

struct containerd *operator_containerd(struct operator* op)
{
	return op->containerd;
}

const char *operator_snapshotter(const struct operator* op)
{
	return op->options.snapshotter;
}

size_t operator_pulls(const struct operator* op)
{
	return op->pulls_n;
}

/* The end of a lease, waited for, is the collection that everybody may ask for. */
may_suspend int operator_collect(struct operator* op, struct err *err)
{
	const struct containerd_at at = {.ns = "default"};
	Ctrd__CreateLeaseRequest create = CTRD__CREATE_LEASE_REQUEST__INIT;
	Ctrd__DeleteLeaseRequest end = CTRD__DELETE_LEASE_REQUEST__INIT;
	Ctrd__LeaseMessage *m;
	auto_arena struct arena a;
	int r;

	arena_init(&a, KiB(64));
	r = containerd_call(op->containerd, &at, "leases.v1.Leases", "Create", &create.base,
			    &ctrd__lease_message__descriptor, 0, &a, &m, err);
	if (r < 0)
		return r;
	if (!m->lease)
		return err_set(err, -EBADMSG, "containerd: the lease has no id");
	end.id = m->lease->id;
	end.sync = true;
	return containerd_call(op->containerd, &at, "leases.v1.Leases", "Delete", &end.base, NULL,
			       CONTAINERD_COLLECT_MS, NULL, NULL, err);
}

/* --- a pull's life ---------------------------------------------------------------------------- */

void pull_changed(struct pull *p)
{
	waitq_wake_all(&p->changed);
}

static void pull_free(struct pull *p)
{
	list_del(&p->link);
	p->op->pulls_n--;
	if (!p->task)
		scope_fini(&p->blobs);
	buf_fini(&p->index_body);
	buf_fini(&p->manifest_body);
	buf_fini(&p->config_body);
	arena_fini(&p->arena);
	free(p);
}

static const char *full_name(const struct ref *ref, struct arena *a)
{
	return arena_printf(a, "%s/%s%s" STR_FMT "%s" STR_FMT, ref->host, ref->repository,
			    ref->tag.len ? ":" : "", STR_ARG(ref->tag), ref->digest.len ? "@" : "",
			    STR_ARG(ref->digest));
}

const char *operator_full_name(struct str text, struct arena *a)
{
	struct ref ref;

	return ref_parse(text, a, &ref, NULL) == 0 ? full_name(&ref, a) : NULL;
}

/* The name as containerd has it. */
static int names(struct pull *p, const struct pull_request *q, struct err *err)
{
	struct ref ref;
	int r = ref_parse(str_of(q->ref), &p->arena, &ref, err);

	if (r == 0)
		r = platform_parse(str_of(q->platform), &p->arena, &p->platform, err);
	if (r < 0)
		return r;
	p->host = ref.host;
	p->repository = ref.repository;
	p->name = full_name(&ref, &p->arena);
	p->at.ns = arena_strndup(&p->arena, q->ns, strlen(q->ns));
	return p->name && p->at.ns ? 0 : err_set(err, -ENOMEM, "out of memory");
}

static struct pull *pull_new(struct operator* op)
{
	struct pull *p = calloc(1, sizeof(*p));

	if (!p)
		return NULL;
	p->op = op;
	p->registry = op->options.registry;
	arena_init(&p->arena, PULL_MEMORY);
	waitq_init(&p->changed);
	scope_init(&p->blobs, op->loop);
	p->start_ns = loop_now_ns(op->loop);
	list_push(&op->pulls, &p->link);
	op->pulls_n++;
	return p;
}

static struct pull *find_same(struct operator* op, const struct pull *as)
{
	for (struct list *l = op->pulls.next; l != &op->pulls; l = l->next) {
		struct pull *p = container_of(l, struct pull, link);

		if (p != as && p->task && !p->ended && !p->left && strcmp(p->name, as->name) == 0 &&
		    strcmp(p->at.ns, as->at.ns) == 0 &&
		    platform_fit(&p->platform, &as->platform) == 100)
			return p;
	}
	return NULL;
}

may_suspend static int tell_registry(struct pull *p, const struct pull_request *q, struct err *err)
{
	int r = 0;

	if (q->plain_http)
		r = registry_plain(p->registry, str_of(p->name), err);
	if (r == 0 && q->user[0])
		r = registry_login(p->registry, str_of(p->name), str_of(q->user), str_of(q->secret),
				   err);
	return r;
}

/* A new one that runs, or the same that somebody else has begun. */
may_suspend static int pull_get(struct operator* op, const struct pull_request *q,
				struct pull **ret, struct err *err)
{
	struct pull *p = op->pulls_n < PULLS_MAX ? pull_new(op) : NULL, *same;
	int r;

	if (!p)
		return err_set(err, -EAGAIN, "%zu pulls are under way; no more are taken",
			       op->pulls_n);
	r = names(p, q, err);
	if (r == 0)
		r = tell_registry(p, q, err);
	same = r == 0 ? find_same(op, p) : NULL;
	if (r == 0 && !same)
		r = scope_spawn(&op->scope, pull_task, p, &p->task);
	if (r < 0 || same)
		pull_free(p);
	*ret = same ? same : p;
	return r < 0 && !err->text[0] ? err_errno(err, r, "start the pull") : r;
}

/* --- waiting ---------------------------------------------------------------------------------- */

static void view_of(const struct pull *p, struct pull_view *v)
{
	*v = (struct pull_view){.phase = p->phase,
				.name = p->name,
				.away = p->away,
				.has_digest = p->phase > PULL_RESOLVING,
				.digest = p->manifest_at.digest,
				.layers = p->layers,
				.layers_n = p->layers_n};
	v->elapsed_ms = (loop_now_ns(p->op->loop) - p->start_ns) / NS_PER_MS;
	for (size_t i = p->ordinary; i < p->layers_n; i++) {
		v->bytes += p->layers[i].bytes;
		v->bytes_total += p->layers[i].size;
	}
}

may_suspend static int follow(struct pull *p, int (*report)(void *arg, const struct pull_view *v),
			      void *arg)
{
	struct pull_view v;
	uint64_t next_ns = 0;
	int r = 0;

	while (r == 0 && !p->ended && p->phase < PULL_READY) {
		uint64_t now = loop_now_ns(p->op->loop);

		if (now >= next_ns) {
			view_of(p, &v);
			r = report(arg, &v);
			next_ns = now + CONTROL_PROGRESS_MS * NS_PER_MS;
		}
		if (r == 0 && !p->ended)
			r = waitq_wait_ms(&p->changed, CONTROL_PROGRESS_MS);
		r = r == -ETIMEDOUT ? 0 : r;
	}
	return r;
}

/* Who comes last when nobody waits any more ends it. */
may_suspend static void leave(struct pull *p)
{
	p->waiters--;
	if (p->waiters)
		return;
	p->left = true; /* nobody joins it any more */
	if (!p->ended && p->phase < PULL_READY)
		task_cancel(p->task);
	while (!p->ended)
		waitq_wait_always(&p->changed);
	pull_free(p);
}

/* What of the lazy layers is here. */
may_suspend static int local_bytes(struct pull *p, struct pull_view *v, bool *ret_all,
				   struct err *err)
{
	const struct operator_options *o = &p->op->options;

	v->bytes = v->bytes_total = 0;
	*ret_all = true;
	for (size_t i = 0; i < p->layers_n; i++) {
		struct layer_local local;
		struct layer *l;
		int r;

		if (p->layers[i].state != PULL_LAZY)
			continue;
		l = layers_find_blob(o->layers, &p->layers[i].digest);
		if (!l)
			return err_set(err, -ENOENT, "a layer was removed meanwhile");
		layer_use(l);
		r = layer_local(o->layers, o->objects, o->threads, l, &local, err);
		*ret_all = *ret_all && l->complete;
		layer_unuse(o->layers, l);
		if (r < 0)
			return r;
		v->bytes += local.bytes_here;
		v->bytes_total += local.bytes;
	}
	return 0;
}

may_suspend static int wait_local(struct pull *p,
				  int (*report)(void *arg, const struct pull_view *v), void *arg,
				  struct err *err)
{
	struct pull_view v;
	bool all = false;
	int r = 0;

	while (r == 0 && !all) {
		view_of(p, &v);
		r = local_bytes(p, &v, &all, err);
		v.phase = all ? PULL_COMPLETE : PULL_READY;
		if (r == 0)
			r = report(arg, &v);
		if (r == 0 && !all)
			r = task_sleep_ms(PULL_LOCAL_MS);
	}
	return r;
}

may_suspend int operator_pull(struct operator* op, const struct pull_request *q,
			      int (*report)(void *arg, const struct pull_view *v), void *arg,
			      struct err *err)
{
	struct pull_view v;
	struct pull *p = NULL;
	int r;

	if (!op->options.registry)
		return err_set(err, -EOPNOTSUPP, "lazy layers are off: see firstlight doctor");
	r = pull_get(op, q, &p, err);
	if (r < 0)
		return r;
	p->waiters++;
	r = follow(p, report, arg);
	if (r == 0 && p->result < 0)
		r = err_set(err, p->result, "%s", err_text(&p->err, p->result));
	if (r == 0) {
		view_of(p, &v);
		r = report(arg, &v);
	}
	if (r == 0 && q->wait)
		r = wait_local(p, report, arg, err);
	leave(p);
	return r;
}
