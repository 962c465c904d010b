// SPDX-License-Identifier: Apache-2.0
/* Images, as containerd and we know them. Loop thread. */
#include "api/control_image.h"

#include <string.h>

#include "base/limits.h"
#include "image/layer.h"
#include "operator/image.h"

#include "base/banned.h"

static char *digest_out(struct request *q, const struct digest *d)
{
	char text[DIGEST_TEXT_SIZE];

	digest_text(d, text);
	return request_text(q, str_of(text));
}

static int no_memory(struct request *q)
{
	return err_set(q->err, -ENOMEM, "out of memory");
}

/* A layer that is not here, or of which only the image knows more. */
static int layer_facts(struct request *q, const struct image_layer *from, Flc__Layer *o)
{
	o->digest = digest_out(q, &from->digest);
	o->diff_id = digest_out(q, &from->diff_id);
	return o->digest && o->diff_id ? 0 : no_memory(q);
}

may_suspend static int layer_out(struct request *q, const struct image_layer *from,
				 struct str snapshot, Flc__Layer **ret)
{
	struct snaps_link link;
	int r = 0;

	*ret = arena_alloc(&q->arena, sizeof(**ret));
	if (!*ret)
		return no_memory(q);
	flc__layer__init(*ret);
	if (snapshot.len) /* it may have gone meanwhile */
		r = snaps_chain(q->svc->snaps, snapshot, &q->arena, &link, 1, q->err);
	if (snapshot.len && r > 0)
		r = control_layer(q, &link, ret);
	if (r < 0 && r != -ENOENT)
		return r;
	return layer_facts(q, from, *ret);
}

static void sums(Flc__Image *o, Flc__Layer *const *layers, size_t n)
{
	o->complete = n > 0;
	for (size_t i = 0; i < n; i++) {
		o->lazy += layers[i]->lazy;
		o->unpacked += !layers[i]->lazy && layers[i]->snapshot[0];
		o->bytes += layers[i]->bytes;
		o->bytes_local += layers[i]->bytes_local;
		o->complete = o->complete && layers[i]->snapshot[0] &&
			      (!layers[i]->lazy || layers[i]->bytes_local == layers[i]->bytes);
	}
	o->ready = n > 0 && o->lazy + o->unpacked == n;
}

may_suspend static int image_out(struct request *q, const struct operator_image *im,
				 Flc__Image **ret, Flc__Layer ***ret_layers)
{
	Flc__Image *o = arena_alloc(&q->arena, sizeof(*o));
	struct str *names = arena_alloc(&q->arena, (im->layers_n + 1) * sizeof(*names));
	Flc__Layer **layers = arena_alloc(&q->arena, (im->layers_n + 1) * sizeof(*layers));
	int r;

	if (!o || !names || !layers)
		return no_memory(q);
	flc__image__init(o);
	o->namespace_ = request_text(q, str_of(im->ns));
	o->name = request_text(q, str_of(im->name));
	o->digest = digest_out(q, &im->target);
	o->manifest = im->layers ? digest_out(q, &im->manifest) : request_text(q, STR(""));
	o->problem = request_text(q, str_of(im->problem ? im->problem : ""));
	o->created_at = request_time(q, im->created_ns);
	o->layers = (uint32_t)im->layers_n;
	if (!o->namespace_ || !o->name || !o->digest || !o->manifest || !o->problem ||
	    !o->created_at)
		return no_memory(q);
	r = operator_snapshots(q->svc->operator, im, &q->arena, names);
	for (size_t i = 0; i < im->layers_n && r == 0; i++)
		r = layer_out(q, &im->layers[i], names[i], &layers[i]);
	if (r < 0)
		return r;
	sums(o, layers, im->layers_n);
	*ret = o;
	*ret_layers = layers;
	return 0;
}

/* --- Inspect ---------------------------------------------------------------------------------- */

/* In one namespace, as it is written or as containerd would write it. */
may_suspend static int find_in(struct request *q, const char *ns, const char *name,
			       struct operator_image *ret)
{
	const char *full;
	int r = operator_image(q->svc->operator, ns, name, &q->arena, ret, q->err);

	if (r != -ENOENT)
		return r;
	full = operator_full_name(str_of(name), &q->arena);
	if (!full || strcmp(full, name) == 0)
		return r;
	return operator_image(q->svc->operator, ns, full, &q->arena, ret, q->err);
}

may_suspend static int find(struct request *q, const Flc__InspectRequest *in,
			    struct operator_image *ret)
{
	char **namespaces = NULL;
	size_t n = 0;
	int r;

	if (in->namespace_[0])
		return find_in(q, in->namespace_, in->name, ret);
	r = operator_namespaces(q->svc->operator, & q->arena, &namespaces, &n, q->err);
	if (r == 0)
		r = -ENOENT;
	for (size_t i = 0; i < n && r == -ENOENT; i++)
		r = find_in(q, namespaces[i], in->name, ret);
	return r;
}

may_suspend int control_image(struct request *q, const Flc__InspectRequest *in,
			      Flc__InspectResponse *o)
{
	struct operator_image im;
	int r = find(q, in, &im);

	if (r == 0)
		r = image_out(q, &im, &o->image, &o->layers);
	if (r == 0)
		o->n_layers = im.layers_n;
	return r;
}

/* --- Images ----------------------------------------------------------------------------------- */

struct listing {
	struct grpc_call *call;
	void *arg;
	struct err *err;
};

may_suspend static int image_send(void *arg, struct arena *a, const struct operator_image *im)
{
	struct listing *l = arg;
	auto_request struct request q; /* memory of one image */
	Flc__ImagesResponse o = FLC__IMAGES_RESPONSE__INIT;
	Flc__Layer **layers;
	Flc__Image *one;
	int r;

	(void)a;
	request_init(&q, l->call, l->arg, l->err);
	r = image_out(&q, im, &one, &layers);
	o.images = &one;
	o.n_images = 1;
	return r < 0 ? r : request_answer(&q, &o.base);
}

may_suspend enum grpc_code control_images(struct grpc_call *call, void *arg, struct err *err)
{
	auto_request struct request q;
	struct listing l = {call, arg, err};
	Flc__ImagesRequest *in;
	char **namespaces = NULL;
	size_t n = 0;
	int r;

	request_init(&q, call, arg, err);
	r = request_read(&q, &flc__images_request__descriptor, &in);
	if (r < 0)
		return request_code(r);
	if (in->namespace_[0])
		return request_code(
			operator_images(q.svc->operator, in->namespace_, image_send, &l, err));
	r = operator_namespaces(q.svc->operator, & q.arena, &namespaces, &n, err);
	for (size_t i = 0; i < n && r == 0; i++)
		r = operator_images(q.svc->operator, namespaces[i], image_send, &l, err);
	return request_code(r);
}
