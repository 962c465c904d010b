// SPDX-License-Identifier: Apache-2.0
/* What takes long: verification of the store with repair, collection, draining. Progress goes out
 * as a stream; a caller that goes away ends it. Loop thread. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "api/control.h"
#include "base/limits.h"
#include "base/log.h"
#include "image/fetch.h"
#include "image/layer.h"
#include "image/local.h"
#include "loop/loop.h"
#include "operator/operator.h"
#include "proto/control.pb-c.h"
#include "store/objects.h"

#include "base/banned.h"

#define NS_PER_MS 1000000ull

/* --- Verify ----------------------------------------------------------------------------------- */

static unsigned verifications;

struct verify {
	struct request *q;
	struct grpc_call *call;
	void *arg;
	bool repair;
	Flc__VerifyProgress sums;
	uint64_t sent_ns;
	struct object_checked batch[OBJECTS_VERIFY_BATCH];
};

/* Images that have the content. */
may_suspend static int name_images(struct request *q, const struct digest *key, Flc__BadObject *bad)
{
	struct object_info info;
	struct object *obj;
	char **list = arena_alloc(&q->arena, OBJECT_IMAGES_MAX * sizeof(*list));

	if (!list)
		return -ENOMEM;
	bad->images = list;
	if (objects_find(q->svc->objects, key, &info, NULL) < 0 ||
	    objects_get(q->svc->objects, info.number, &obj, NULL) < 0)
		return 0; /* a name that others are linked to */
	for (uint32_t i = 0; i < obj->sources_n && bad->n_images < OBJECT_IMAGES_MAX; i++) {
		const struct layer *l = layers_get(q->svc->layers, obj->sources[i].layer);

		if (l && l->refs_n)
			list[bad->n_images++] = request_text(q, str_of(l->refs[0]));
	}
	object_unref(q->svc->objects, obj);
	return 0;
}

/* Away with it, and fetched again where somebody has it. */
may_suspend static bool repair(struct request *q, const struct digest *key, struct err *err)
{
	struct objects *objects = q->svc->objects;
	struct object_info info;
	struct object *obj;
	int r = objects_discard(objects, key, err);

	if (r < 0)
		return false;
	if (objects_find(objects, key, &info, NULL) < 0)
		return true; /* nobody needs it by this name */
	if (!q->svc->fetcher) {
		err_set(err, -EOPNOTSUPP, "nothing can be fetched: lazy layers are off");
		return false;
	}
	r = objects_get(objects, info.number, &obj, err);
	if (r < 0)
		return false;
	r = fetch_need(q->svc->fetcher, obj, 0, obj->size, err);
	if (r == 0 && !fetch_present(q->svc->fetcher, obj, 0, obj->size))
		r = err_set(err, -ENOSPC, "the disk does not take it: reads get it from memory");
	object_unref(objects, obj);
	return r == 0;
}

may_suspend static int bad_object(struct verify *v, struct request *q,
				  const struct object_checked *c, Flc__BadObject *bad)
{
	char path[OBJECT_PATH_SIZE];
	struct err err = ERR_INIT;

	object_path(&c->key, path);
	flc__bad_object__init(bad);
	bad->key = request_text(q, str_of(path));
	bad->why = c->state == OBJECT_CHECK_BAD
			   ? request_text(q, STR("its bytes are not those of its name"))
			   : request_text(q, str_of(strerror(-c->error)));
	if (!bad->key || !bad->why || name_images(q, &c->key, bad) < 0)
		return err_set(q->err, -ENOMEM, "out of memory");
	if (v->repair)
		bad->repaired = repair(q, &c->key, &err);
	if (v->repair && !bad->repaired && err.text[0]) {
		bad->why = arena_printf(&q->arena, "%s; not repaired: %s", bad->why, err.text);
		if (!bad->why)
			return err_set(q->err, -ENOMEM, "out of memory");
	}
	log_error("verify object=%s error=\"%s\" repaired=%d", path, bad->why, bad->repaired);
	v->sums.repaired += (uint64_t)bad->repaired;
	return 0;
}

may_suspend static int report(struct verify *v, size_t n)
{
	auto_request struct request q; /* memory of one report */
	Flc__BadObject list[OBJECTS_VERIFY_BATCH], *refs[OBJECTS_VERIFY_BATCH];
	uint64_t now = loop_now_ns(v->q->svc->loop);
	int r = 0;

	request_init(&q, v->call, v->arg, v->q->err);
	v->sums.n_found = 0;
	for (size_t i = 0; i < n && r == 0; i++) {
		const struct object_checked *c = &v->batch[i];

		v->sums.objects += c->state != OBJECT_CHECK_GONE;
		v->sums.bytes += c->bytes;
		v->sums.bad += c->state == OBJECT_CHECK_BAD;
		v->sums.unreadable += c->state == OBJECT_CHECK_UNREADABLE;
		if (c->state != OBJECT_CHECK_BAD && c->state != OBJECT_CHECK_UNREADABLE)
			continue;
		refs[v->sums.n_found] = &list[v->sums.n_found];
		r = bad_object(v, &q, c, &list[v->sums.n_found]);
		v->sums.n_found += r == 0;
	}
	v->sums.found = refs;
	if (r < 0 || (!v->sums.n_found && !v->sums.done &&
		      now - v->sent_ns < CONTROL_PROGRESS_MS * NS_PER_MS))
		return r;
	v->sent_ns = now;
	return request_answer(&q, &v->sums.base);
}

may_suspend static int verify_dir(struct verify *v, unsigned dir)
{
	auto_buf struct buf keys = BUF_INIT;
	struct request *q = v->q;
	const struct digest *key;
	size_t n;
	int r = objects_list(q->svc->objects, dir, &keys, q->err);

	key = (const struct digest *)(const void *)keys.data;
	n = keys.len / sizeof(*key);
	for (size_t i = 0; i < n && r == 0; i += OBJECTS_VERIFY_BATCH) {
		size_t m = n - i < OBJECTS_VERIFY_BATCH ? n - i : OBJECTS_VERIFY_BATCH;

		for (size_t j = 0; j < m; j++)
			v->batch[j] = (struct object_checked){.key = key[i + j]};
		r = objects_check(q->svc->objects, v->batch, m, q->err);
		if (r == 0 && task_cancelled())
			r = err_set(q->err, -ECANCELED, "cancelled");
		if (r == 0)
			r = report(v, m);
	}
	return r;
}

may_suspend static int verify_all(struct verify *v)
{
	struct objects_usage u;
	int r = 0;

	objects_usage(v->q->svc->objects, &u);
	flc__verify_progress__init(&v->sums);
	v->sums.objects_total = u.complete;
	v->sums.bytes_total = u.bytes;
	for (unsigned dir = 0; dir < 256 && r == 0; dir++)
		r = verify_dir(v, dir);
	v->sums.done = true;
	return r < 0 ? r : report(v, 0);
}

may_suspend enum grpc_code control_verify(struct grpc_call *call, void *arg, struct err *err)
{
	auto_request struct request q;
	auto_free struct verify *v = calloc(1, sizeof(*v));
	Flc__VerifyRequest *in;
	int r;

	request_init(&q, call, arg, err);
	control_log(call);
	r = request_read(&q, &flc__verify_request__descriptor, &in);
	if (r == 0 && !v)
		r = err_set(err, -ENOMEM, "out of memory");
	if (r == 0 && verifications >= CONTROL_VERIFY_RUNNING)
		r = err_set(err, -EBUSY, "another verification is under way");
	if (r < 0)
		return request_code(r);
	require(v);
	v->q = &q;
	v->call = call;
	v->arg = arg;
	v->repair = in->repair;
	verifications++;
	r = verify_all(v);
	verifications--;
	return request_code(r);
}

/* --- Gc --------------------------------------------------------------------------------------- */

static uint64_t layers_count(const struct services *s)
{
	uint64_t n = 0;

	for (uint32_t id = 0; (id = layers_next(s->layers, id));)
		n++;
	return n;
}

may_suspend enum grpc_code control_gc(struct grpc_call *call, void *arg, struct err *err)
{
	auto_request struct request q;
	Flc__GcResponse o = FLC__GC_RESPONSE__INIT;
	struct objects_usage u;
	uint64_t start, layers, after;
	Flc__GcRequest *in;
	int r;

	request_init(&q, call, arg, err);
	control_log(call);
	start = loop_now_ns(q.svc->loop);
	r = request_read(&q, &flc__gc_request__descriptor, &in);
	if (r < 0)
		return request_code(r);
	objects_usage(q.svc->objects, &u);
	o.bytes_before = u.bytes;
	layers = layers_count(q.svc);
	if (in->containerd)
		r = operator_collect(q.svc->operator, err);
	if (r < 0)
		return request_code(r);
	r = snaps_empty_trash(q.svc->snaps, CONTROL_GC_TIMEOUT_MS, &o.trash_left);
	if (r < 0 && r != -ETIMEDOUT)
		return request_code(err_errno(err, r, "empty the trash"));
	objects_usage(q.svc->objects, &u);
	o.bytes_after = u.bytes;
	after = layers_count(q.svc);
	o.layers_removed = after < layers ? layers - after : 0;
	o.elapsed_ms = (loop_now_ns(q.svc->loop) - start) / NS_PER_MS;
	return request_code(request_answer(&q, &o.base));
}

/* --- Drain ------------------------------------------------------------------------------------ */

/* Those that are complete are not looked at. */
may_suspend static int drain_look(struct request *q, Flc__DrainProgress *o)
{
	const struct services *s = q->svc;

	flc__drain_progress__init(o);
	for (uint32_t id = 0; (id = layers_next(s->layers, id));) {
		struct layer *l = layers_get(s->layers, id);
		struct layer_local local = {.bytes = l->info.content_bytes};

		o->layers++;
		local.bytes_here = local.bytes;
		if (l->complete) {
			o->layers_complete++;
		} else {
			layer_use(l);
			int r = layer_local(s->layers, s->objects, s->threads, l, &local, q->err);
			layer_unuse(s->layers, l);
			if (r < 0)
				return r;
		}
		o->bytes += local.bytes;
		o->bytes_local += local.bytes_here;
	}
	o->done = o->layers == o->layers_complete;
	return 0;
}

may_suspend static int drain_follow(struct request *q, bool wait)
{
	Flc__DrainProgress o;
	int r;

	do {
		r = drain_look(q, &o);
		if (r == 0)
			r = request_answer(q, &o.base);
		arena_reset(&q->arena);
		if (r == 0 && wait && !o.done)
			r = task_sleep_ms(4 * CONTROL_PROGRESS_MS);
	} while (r == 0 && wait && !o.done);
	return r;
}

may_suspend enum grpc_code control_drain(struct grpc_call *call, void *arg, struct err *err)
{
	auto_request struct request q;
	Flc__DrainRequest *in;
	bool wait = false;
	int r;

	request_init(&q, call, arg, err);
	control_log(call);
	r = request_read(&q, &flc__drain_request__descriptor, &in);
	if (r == 0) {
		wait = in->wait && !in->undo;
		snaps_drain(q.svc->snaps, !in->undo);
		log_info("draining=%d", !in->undo);
		r = drain_follow(&q, wait);
	}
	return request_code(r);
}
