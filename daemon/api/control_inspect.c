// SPDX-License-Identifier: Apache-2.0
/* One snapshot or image: its layers, where their files are, how much of them is here. Loop thread.
 */
#include <inttypes.h>
#include <stdlib.h>

#include "api/control_image.h"
#include "base/limits.h"
#include "image/layer.h"
#include "image/local.h"
#include "store/objects.h"

#include "base/banned.h"

static char *digest_out(struct request *q, const struct digest *d)
{
	char text[DIGEST_TEXT_SIZE];

	digest_text(d, text);
	return request_text(q, str_of(text));
}

/* Of a lazy one. */
may_suspend static int lazy_out(struct request *q, uint32_t id, Flc__Layer *o)
{
	const struct services *s = q->svc;
	struct layer *l = layers_get(s->layers, id);
	struct layer_local local;
	int r;

	o->lazy = true;
	o->id = id;
	o->path = arena_printf(&q->arena, "%s/layers/%" PRIu32, s->root, id);
	if (!l)
		return 0;
	o->complete = l->complete;
	o->digest = digest_out(q, &l->blob);
	o->toc = digest_out(q, &l->trust);
	o->refs = arena_alloc(&q->arena, LAYER_REFS_MAX * sizeof(*o->refs));
	if (!o->path || !o->digest || !o->toc || !o->refs)
		return err_set(q->err, -ENOMEM, "out of memory");
	for (uint32_t i = 0; i < l->refs_n; i++) {
		o->refs[i] = request_text(q, str_of(l->refs[i]));
		if (!o->refs[i])
			return err_set(q->err, -ENOMEM, "out of memory");
	}
	o->n_refs = l->refs_n;
	layer_use(l);
	r = layer_local(s->layers, s->objects, s->threads, l, &local, q->err);
	layer_unuse(s->layers, l);
	if (r < 0)
		return r;
	o->files = local.files;
	o->files_local = local.files_here;
	o->bytes = local.bytes;
	o->bytes_local = local.bytes_here;
	return 0;
}

may_suspend int control_layer(struct request *q, const struct snaps_link *link, Flc__Layer **ret)
{
	const struct services *s = q->svc;
	Flc__Layer *o = arena_alloc(&q->arena, sizeof(*o));

	if (!o)
		return err_set(q->err, -ENOMEM, "out of memory");
	flc__layer__init(o);
	*ret = o;
	o->snapshot = request_text(q, link->name);
	if (link->mounted)
		o->mount = arena_printf(&q->arena, "%s/m/%" PRIu64, s->root, link->id);
	if (!o->snapshot || !o->mount)
		return err_set(q->err, -ENOMEM, "out of memory");
	if (link->layer)
		return lazy_out(q, link->layer, o);
	o->complete = true;
	o->path = link->has_dir ? arena_printf(&q->arena, "%s/snapshots/%" PRIu64 "/fs", s->root,
					       link->id)
				: request_text(q, STR(""));
	return o->path ? 0 : err_set(q->err, -ENOMEM, "out of memory");
}

/* Bottom first. */
may_suspend static int layers_out(struct request *q, const struct snaps_link *links, size_t n,
				  Flc__InspectResponse *o)
{
	o->layers = arena_alloc(&q->arena, (n + 1) * sizeof(*o->layers));
	if (!o->layers)
		return err_set(q->err, -ENOMEM, "out of memory");
	for (size_t i = n; i-- > 0;) {
		int r = control_layer(q, &links[i], &o->layers[o->n_layers]);

		if (r < 0)
			return r;
		o->n_layers++;
	}
	return 0;
}

may_suspend static int mounts_out(struct request *q, const struct snap_info *info,
				  Flc__InspectResponse *o)
{
	struct mount_answer m;
	Fl__Mount *one = arena_alloc(&q->arena, sizeof(*one));
	int r;

	if (info->record.kind == SNAPSHOT_COMMITTED)
		return 0;
	r = snaps_mounts(q->svc->snaps, info->name, &q->arena, &m, q->err);
	if (r < 0)
		return r;
	o->mounts = arena_alloc(&q->arena, sizeof(*o->mounts));
	if (!one || !o->mounts)
		return err_set(q->err, -ENOMEM, "out of memory");
	request_mount(&m, one);
	o->mounts[0] = one;
	o->n_mounts = 1;
	return 0;
}

may_suspend static int snapshot_out(struct request *q, struct str key, Flc__InspectResponse *o)
{
	struct snaps_link *links = arena_alloc(&q->arena, CONTROL_LAYERS_MAX * sizeof(*links));
	struct tree_usage usage = {0};
	struct snap_info info;
	int n, r = snaps_stat(q->svc->snaps, key, &q->arena, &info, q->err);

	if (r < 0)
		return r;
	o->info = request_info(q, &info);
	if (!o->info || !links)
		return err_set(q->err, -ENOMEM, "out of memory");
	n = snaps_chain(q->svc->snaps, key, &q->arena, links, CONTROL_LAYERS_MAX, q->err);
	if (n < 0)
		return n;
	if (links[0].has_dir)
		o->path = arena_printf(&q->arena, "%s/snapshots/%" PRIu64 "/fs", q->svc->root,
				       links[0].id);
	r = o->path ? mounts_out(q, &info, o) : err_set(q->err, -ENOMEM, "out of memory");
	if (r == 0)
		r = layers_out(q, links, (size_t)n, o);
	if (r == 0)
		r = snaps_usage(q->svc->snaps, key, &usage, q->err);
	if (r < 0)
		return r;
	o->size = usage.size;
	o->inodes = usage.inodes;
	return 0;
}

may_suspend enum grpc_code control_inspect(struct grpc_call *call, void *arg, struct err *err)
{
	auto_request struct request q;
	Flc__InspectResponse o = FLC__INSPECT_RESPONSE__INIT;
	Flc__InspectRequest *in;
	int r, image;

	request_init(&q, call, arg, err);
	r = request_read(&q, &flc__inspect_request__descriptor, &in);
	if (r < 0)
		return request_code(r);
	image = in->snapshot ? -ENOENT : control_image(&q, in, &o);
	r = image;
	if (image == -ENOENT || image == -ENOTCONN) { /* it may be a snapshot of ours */
		struct err why = *err;

		r = snapshot_out(&q, str_of(in->name), &o);
		if (r == -ENOENT && image == -ENOTCONN)
			r = err_set(err, image, "%s", why.text);
		else if (r == -ENOENT && !in->snapshot)
			err_set(err, r, "no image and no snapshot is called %.200s", in->name);
	}
	if (r == 0)
		r = request_answer(&q, &o.base);
	return request_code(r);
}
