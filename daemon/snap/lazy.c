// SPDX-License-Identifier: Apache-2.0
/*
 * Layers that need not be unpacked. A Prepare that names an image's layer (containerd's cri labels,
 * or stargz's) commits it at once under its reference when its table of contents can be had. Loop
 * thread.
 */
#include <endian.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/event.h"
#include "base/log.h"
#include "image/fetch.h"
#include "image/layer.h"
#include "image/resolve.h"
#include "snap/tree.h"
#include "start/starts.h"

#include "base/banned.h"

#define CRI    "containerd.io/snapshot/cri."
#define STARGZ "containerd.io/snapshot/remote/stargz."
#define TOC    "containerd.io/snapshot/stargz/toc.digest"

/* The label of either family; empty if there is none. */
static struct str label_of(const struct label *labels, size_t n, struct str cri, struct str stargz)
{
	const struct label *l = label_find(labels, n, cri);

	if (!l)
		l = label_find(labels, n, stargz);
	return l ? l->value : (struct str){0};
}

static int query_from(const struct label *labels, size_t n, struct resolve_query *q,
		      struct err *err)
{
	const struct label *l = label_find(labels, n, STR(CRI "manifest-digest"));
	struct str digest = label_of(labels, n, STR(CRI "layer-digest"), STR(STARGZ "digest"));

	*q = (struct resolve_query){0};
	q->ref = label_of(labels, n, STR(CRI "image-ref"), STR(STARGZ "reference"));
	q->layers = label_of(labels, n, STR(CRI "image-layers"), STR(STARGZ "layers"));
	if (!q->ref.len || digest_parse(digest, &q->blob) < 0)
		return err_set(err, -EOPNOTSUPP, "no labels name image and layer");
	q->has_manifest = l && digest_parse(l->value, &q->manifest) == 0;
	l = label_find(labels, n, STR(TOC));
	q->has_toc = l && digest_parse(l->value, &q->toc) == 0;
	return 0;
}

/* --- the record ------------------------------------------------------------------------------- */

may_suspend static int lazy_write(struct snaps *s, struct snap *sn, const struct layer *layer,
				  const struct label *labels, size_t labels_n, struct err *err)
{
	auto_buf struct buf value = BUF_INIT;
	struct record rec = {.kind = SNAPSHOT_COMMITTED,
			     .id = sn->id,
			     .layer = sn->layer,
			     .labels = labels,
			     .labels_n = labels_n};
	struct meta_change c = {0};
	uint64_t next = htole64(s->next_id);

	rec.size = sn->size = (int64_t)layer->info.content_bytes;
	rec.inodes = sn->inodes = (int64_t)layer->info.inodes;
	rec.created_ns = rec.updated_ns = wall_now_ns();
	if (sn->parent)
		rec.parent = snap_name(sn->parent);
	if (record_encode(&rec, &value) < 0)
		return err_set(err, -ENOMEM, "out of memory");
	change_put(&c, snap_name(sn), &value);
	c.changes[c.n++] = (struct kv_change){.key = STR(FORMAT_KEY_NEXT_ID),
					      .value = {(char *)&next, sizeof(next)}};
	return meta_commit(s->meta, &c, err);
}

/* A free name that starts with ref; settled, with the parent at the same moment. */
may_suspend static int free_name(struct snaps *s, struct str ref, struct str parent,
				 struct arena *a, struct str *ret, struct snap **ret_p,
				 struct err *err)
{
	struct snap *there = NULL;
	struct str name = ref;
	int r;

	while (true) {
		r = snap_settled2(s, parent, ret_p, name, &there, err);
		if (r < 0)
			return r;
		if (parent.len && (!*ret_p || (*ret_p)->kind != SNAPSHOT_COMMITTED))
			return err_set(err, -EINVAL, "the parent is not committed");
		if (ref_find(s, ref, *ret_p))
			return err_set(err, -EEXIST, "layer " STR_FMT " is there", STR_ARG(ref));
		if (!there) {
			*ret = name;
			return 0;
		}
		name = str_of(arena_printf(a, STR_FMT "@%" PRIu64, STR_ARG(ref), s->next_id++));
		if (!name.p)
			return err_set(err, -ENOMEM, "out of memory");
	}
}

/* Takes the use of layer. -EEXIST: it is committed now. */
may_suspend static int lazy_commit(struct snaps *s, struct str ref, struct str parent,
				   struct layer *layer, const struct label *labels, size_t labels_n,
				   struct err *err)
{
	auto_arena struct arena a;
	struct snap *p = NULL, *sn = NULL;
	struct str name;
	int r;

	arena_init(&a, KiB(64));
	r = free_name(s, ref, parent, &a, &name, &p, err);
	if (r == 0 && p && p->depth + 1 >= SNAPSHOT_DEPTH_MAX)
		r = err_set(err, -EINVAL, "more than %d layers", SNAPSHOT_DEPTH_MAX);
	if (r == 0) {
		sn = snap_new(name, SNAPSHOT_COMMITTED, s->next_id++);
		if (!sn || ref_set(s, sn, labels, labels_n) < 0) {
			free(sn);
			r = err_set(err, -ENOMEM, "out of memory");
		}
	}
	if (r < 0) {
		layer_unuse(s->options.lazy.layers, layer);
		return r;
	}
	require(sn);
	sn->layer = layer->id;
	sn->state = SNAP_CREATING;
	snap_link(s, sn, p);
	r = lazy_write(s, sn, layer, labels, labels_n, err);
	if (r < 0) {
		snap_drop(s, sn);
		layer_unuse(s->options.lazy.layers, layer);
		return r;
	}
	snap_settle(s, sn);
	return err_set(err, -EEXIST, "layer " STR_FMT " is lazy", STR_ARG(ref));
}

/* --- background ------------------------------------------------------------------------------- */

static void layer_event(const char *kind, const struct layer *l)
{
	char digest[DIGEST_TEXT_SIZE];

	digest_text(&l->blob, digest);
	event_emit(kind,
		   (struct event_field[]){{"image", str_of(l->refs_n ? l->refs[0] : "")},
					  {"layer", str_of(digest)}},
		   2);
}

struct done {
	struct snaps *s;
	uint32_t layer;
};

may_suspend static int done_task(void *arg)
{
	struct done *d = arg;
	struct layers *layers = d->s->options.lazy.layers;
	struct layer *l = layers_get(layers, d->layer);
	struct err err = ERR_INIT;
	int r = 0;

	if (l && l->users) {
		layer_use(l);
		r = layers_set_complete(layers, l, &err);
		layer_unuse(layers, l);
		log_info("layer complete layer=%" PRIu32, d->layer);
		layer_event("layer-complete", l);
		runs_complete(d->s, d->layer);
	}
	if (r < 0)
		log_warn("note a complete layer layer=%" PRIu32 " error=\"%s\"", d->layer,
			 err_text(&err, r));
	free(d);
	return 0;
}

static void fill_done(void *arg, uint32_t layer)
{
	struct done *d = malloc(sizeof(*d));

	if (!d)
		return;
	*d = (struct done){arg, layer};
	if (scope_spawn(&d->s->scope, done_task, d, NULL) < 0)
		free(d);
}

static void fill_layer(struct snaps *s, const struct layer *l)
{
	struct err err = ERR_INIT;
	int r;

	if (l->complete || !s->options.lazy.fetcher)
		return;
	r = fetch_fill(s->options.lazy.fetcher, l->id, fill_done, s, &err);
	if (r < 0)
		log_warn("background layer=%" PRIu32 " error=\"%s\"", l->id, err_text(&err, r));
}

may_suspend static void on_remove(void *arg, uint32_t layer)
{
	struct snaps *s = arg;

	const struct layer *l = layers_get(s->options.lazy.layers, layer);

	if (l)
		layer_event("layer-removed", l);
	if (s->options.lazy.fetcher)
		fetch_fill_stop(s->options.lazy.fetcher, layer);
}

int lazy_start(struct snaps *s, struct err *err)
{
	struct layers *layers = s->options.lazy.layers;
	int r = layers_start(layers, on_remove, s, err);

	for (uint32_t id = 0; r == 0 && (id = layers_next(layers, id));)
		fill_layer(s, layers_get(layers, id));
	return r;
}

void lazy_unuse(struct snaps *s, uint32_t id)
{
	struct layer *l = layers_get(s->options.lazy.layers, id);

	if (l)
		layer_unuse(s->options.lazy.layers, l);
}

/* --- starts ----------------------------------------------------------------------------------- */

struct starting {
	struct snaps *s;
	struct start_of of;
	struct str name; /* of the run's top */
	char dir[4096];
	uint32_t layers[];
};

/* Who asked for the layer named the image. */
may_suspend static int starting_task(void *arg)
{
	struct starting *m = arg;
	auto_buf struct buf value = BUF_INIT;
	auto_arena struct arena a;
	struct record rec;
	struct resolve_query q;

	arena_init(&a, LABELS_BYTES_MAX + KiB(64));
	if (meta_get(m->s->meta, m->name, &value, NULL) == 0 &&
	    record_decode((struct str){(char *)value.data, value.len}, &a, &rec, NULL) == 0 &&
	    query_from(rec.labels, rec.labels_n, &q, NULL) == 0) {
		m->of.ref = q.ref;
		m->of.manifest = q.manifest;
		m->of.has_manifest = q.has_manifest;
		starts_begin(m->s->options.lazy.starts, &m->of);
	}
	free(m);
	return 0;
}

/* The topmost of its lazy layers. */
static const struct snap *lazy_top(const struct snap *sn)
{
	const struct snap *p = sn->parent;

	while (p && !p->layer)
		p = p->parent;
	return p;
}

void lazy_starting(struct snaps *s, const struct snap *sn)
{
	const struct snap *top = lazy_top(sn);
	struct starting *m;
	size_t n = 0;

	if (!s->options.lazy.starts || !top || top->broken)
		return;
	for (const struct snap *p = top; p && p->layer; p = p->parent)
		n++;
	m = calloc(1, sizeof(*m) + n * sizeof(m->layers[0]) + snap_name(top).len);
	if (!m)
		return;
	m->s = s;
	m->name = (struct str){(char *)(m->layers + n), snap_name(top).len};
	memcpy(m->layers + n, snap_name(top).p, m->name.len);
	n = 0;
	for (const struct snap *p = top; p && p->layer; p = p->parent)
		m->layers[n++] = p->layer;
	snprintf(m->dir, sizeof(m->dir), "%s/m/%" PRIu64, s->options.root, top->id);
	m->of = (struct start_of){.snapshot = sn->id,
				  .root = m->dir,
				  .layers = m->layers,
				  .layers_n = n,
				  .complete = run_complete(s, top, 0)};
	if (scope_spawn(&s->scope, starting_task, m, NULL) < 0)
		free(m);
}

/* --- the verb --------------------------------------------------------------------------------- */

may_suspend int lazy_prepare(struct snaps *s, struct str parent, const struct label *labels,
			     size_t labels_n, struct err *err)
{
	const struct label *ref = label_find(labels, labels_n, LABEL_REF);
	struct resolve_query q;
	struct snap *p = NULL;
	struct layer *layer;
	uint32_t id;
	int r;

	if (!s->options.lazy.serve || !ref || !ref->value.len)
		return -EOPNOTSUPP;
	if (s->draining)
		return err_set(err, -EOPNOTSUPP, "draining: no layer becomes lazy");
	r = query_from(labels, labels_n, &q, err);
	if (r == 0)
		r = snap_settled(s, parent, &p, err);
	if (r < 0)
		return r;
	if (ref_find(s, ref->value, p))
		return err_set(err, -EEXIST, "layer " STR_FMT " is there", STR_ARG(ref->value));
	/* Directories that a layer only implies have the attributes of those below, which its index
	 * does not know; and containerd fetches what lies above a layer that it unpacks. */
	if (p && !p->layer)
		return err_set(err, -EOPNOTSUPP, "the layer below is not lazy");
	r = resolve_layer(s->options.lazy.resolver, &q, &layer, err);
	if (r < 0) {
		log_info("layer is not lazy ref=" STR_FMT " image=" STR_FMT " cause=\"%s\"",
			 STR_ARG(ref->value), STR_ARG(q.ref), err_text(err, r));
		event_emit("layer-ordinary",
			   (struct event_field[]){{"image", q.ref},
						  {"cause", str_of(err_text(err, r))}},
			   2);
		return r;
	}
	id = layer->id;
	r = lazy_commit(s, ref->value, parent, layer, labels, labels_n, err);
	layer = layers_get(s->options.lazy.layers, id);
	if (r == -EEXIST && layer && layer->users) {
		log_info("layer is lazy ref=" STR_FMT " image=" STR_FMT " layer=%" PRIu32,
			 STR_ARG(ref->value), STR_ARG(q.ref), id);
		layer_event("layer-lazy", layer);
		fill_layer(s, layer);
		if (s->options.lazy.starts)
			starts_layer(s->options.lazy.starts, q.ref, id);
	}
	return r;
}
