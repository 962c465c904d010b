// SPDX-License-Identifier: Apache-2.0
/* Images from containerd's records and content. Owns nothing. Loop thread. */
#include "operator/image.h"

#include <string.h>

#include "base/limits.h"
#include "image/ref.h"
#include "operator/pull.h"
#include "snap/snap.h"

#include "base/banned.h"

#define IMAGES "images.v1.Images"

may_suspend int operator_namespaces(struct operator* op, struct arena *a, char ***ret,
				    size_t *ret_n, struct err *err)
{
	Ctrd__NamespacesRequest q = CTRD__NAMESPACES_REQUEST__INIT;
	Ctrd__NamespacesResponse *m;
	int r = containerd_call(op->containerd, NULL, "namespaces.v1.Namespaces", "List", &q.base,
				&ctrd__namespaces_response__descriptor, 0, a, &m, err);

	if (r < 0)
		return r;
	if (m->n_namespaces > OPERATOR_NAMESPACES_MAX)
		return err_set(err, -EFBIG, "containerd has %zu namespaces", m->n_namespaces);
	*ret = arena_alloc(a, (m->n_namespaces + 1) * sizeof(**ret));
	if (!*ret)
		return err_set(err, -ENOMEM, "out of memory");
	for (size_t i = 0; i < m->n_namespaces; i++)
		(*ret)[i] = m->namespaces[i]->name;
	*ret_n = m->n_namespaces;
	return 0;
}

/* --- documents -------------------------------------------------------------------------------- */

may_suspend static int read_part(struct operator* op, const char *ns, const char *what,
				 const struct digest *digest, size_t max, struct arena *a,
				 struct str *ret, struct err *err)
{
	const struct containerd_at at = {.ns = ns};
	auto_buf struct buf body = BUF_INIT;
	char text[DIGEST_TEXT_SIZE];
	struct err why = ERR_INIT;
	int r = containerd_content_read(op->containerd, &at, digest, max, &body, &why);

	digest_text(digest, text);
	if (r == -ENOENT)
		return err_set(err, r, "the %s %s is not in containerd's content store", what,
			       text);
	if (r < 0)
		return err_set(err, r, "the %s: %s", what, err_text(&why, r));
	*ret = (struct str){arena_strndup(a, (char *)body.data, body.len), body.len};
	return ret->p ? 0 : err_set(err, -ENOMEM, "out of memory");
}

may_suspend static int load_manifest(struct operator* op, struct arena *a,
				     struct operator_image *im, struct manifest *ret,
				     struct err *err)
{
	struct platform host;
	struct index_list list;
	struct str body;
	int r = read_part(op, im->ns, "manifest", &im->target, MANIFEST_MAX, a, &body, err);

	im->manifest = im->target;
	if (r == 0 && manifest_is_index((struct str){0}, body)) {
		r = platform_parse((struct str){0}, a, &host, err);
		if (r == 0)
			r = manifest_index(body, &host, a, &list, err);
		if (r)
			return r;
		im->manifest = list.list[list.best].digest;
		r = read_part(op, im->ns, "manifest", &im->manifest, MANIFEST_MAX, a, &body, err);
	}
	return r < 0 ? r : manifest_parse(body, a, ret, err);
}

may_suspend int operator_image_load(struct operator* op, struct arena *a, struct operator_image *im,
				    struct err *err)
{
	struct manifest m;
	struct digest *ids;
	struct str config;
	int r = load_manifest(op, a, im, &m, err);

	if (r == 0) {
		im->blobs = m.layers;
		im->blobs_n = m.layers_n;
	}
	if (r == 0)
		r = read_part(op, im->ns, "config", &m.config.digest, IMAGE_CONFIG_MAX, a, &config,
			      err);
	if (r == 0)
		r = config_diff_ids(config, m.layers_n, a, &ids, err);
	if (r)
		return r;
	im->layers = arena_alloc(a, (m.layers_n + 1) * sizeof(*im->layers));
	if (!im->layers)
		return err_set(err, -ENOMEM, "out of memory");
	for (size_t i = 0; i < m.layers_n; i++)
		im->layers[i] = (struct image_layer){.digest = m.layers[i].digest,
						     .diff_id = ids[i],
						     .size = m.layers[i].size,
						     .media_type = m.layers[i].media_type};
	im->config = m.config.digest;
	chain_ids(ids, m.layers_n);
	for (size_t i = 0; i < m.layers_n; i++)
		im->layers[i].chain = ids[i];
	im->layers_n = m.layers_n;
	return 0;
}

may_suspend int operator_document(struct operator* op, const struct digest *digest, size_t max,
				  struct buf *ret)
{
	char **namespaces = NULL;
	auto_arena struct arena a;
	size_t n = 0;
	int r;

	arena_init(&a, CONTAINERD_MESSAGE_MEMORY);
	r = operator_namespaces(op, &a, &namespaces, &n, NULL);
	if (r < 0)
		return r;
	r = -ENOENT;
	for (size_t i = 0; i < n && i < DOCUMENT_NAMESPACES_MAX && r == -ENOENT; i++) {
		const struct containerd_at at = {.ns = namespaces[i]};

		r = containerd_content_read(op->containerd, &at, digest, max, ret, NULL);
	}
	return r;
}

/* --- records ---------------------------------------------------------------------------------- */

/* What is missing is no failure of the list. */
may_suspend static int from_record(struct operator* op, const char *ns, const Ctrd__Image *rec,
				   struct arena *a, struct operator_image *ret)
{
	struct err why = ERR_INIT;
	int r;

	*ret = (struct operator_image){.ns = ns};
	ret->name = arena_strndup(a, rec->name, strlen(rec->name));
	if (rec->created_at)
		ret->created_ns = rec->created_at->seconds * 1000000000 + rec->created_at->nanos;
	if (!ret->name)
		return -ENOMEM;
	if (!rec->target || digest_parse(str_of(rec->target->digest), &ret->target) < 0) {
		ret->problem = "its record names no sha256 digest";
		return 0;
	}
	r = operator_image_load(op, a, ret, &why);
	if (r == -ECANCELED || r == -ENOTCONN)
		return r;
	if (r < 0) {
		const char *text = err_text(&why, r);

		ret->problem = arena_strndup(a, text, strlen(text));
		ret->layers = NULL;
		ret->layers_n = 0;
	}
	return r < 0 && !ret->problem ? -ENOMEM : 0;
}

may_suspend int operator_images(struct operator* op, const char *ns,
				int (*fn)(void *arg, struct arena *a,
					  const struct operator_image *image),
				void *arg, struct err *err)
{
	const struct containerd_at at = {.ns = ns};
	Ctrd__FiltersRequest q = CTRD__FILTERS_REQUEST__INIT;
	Ctrd__ImagesResponse *m;
	auto_arena struct arena list;
	int r;

	arena_init(&list, CONTAINERD_MESSAGE_MEMORY);
	r = containerd_call(op->containerd, &at, IMAGES, "List", &q.base,
			    &ctrd__images_response__descriptor, 0, &list, &m, err);
	for (size_t i = 0; r == 0 && i < m->n_images; i++) {
		struct operator_image im;
		auto_arena struct arena a;

		arena_init(&a, CONTAINERD_MESSAGE_MEMORY);
		r = from_record(op, ns, m->images[i], &a, &im);
		if (r < 0)
			err_errno(err, r, "image %.200s", m->images[i]->name);
		if (r == 0)
			r = fn(arg, &a, &im);
	}
	return r;
}

may_suspend int operator_image(struct operator* op, const char *ns, const char *name,
			       struct arena *a, struct operator_image *ret, struct err *err)
{
	const struct containerd_at at = {.ns = ns};
	Ctrd__ImageNameRequest q = CTRD__IMAGE_NAME_REQUEST__INIT;
	Ctrd__ImageMessage *m;
	int r;

	q.name = (char *)(uintptr_t)name;
	r = containerd_call(op->containerd, &at, IMAGES, "Get", &q.base,
			    &ctrd__image_message__descriptor, 0, a, &m, err);
	if (r == 0 && !m->image)
		r = err_set(err, -EBADMSG, "containerd: an image without facts");
	if (r == 0) {
		r = from_record(op, ns, m->image, a, ret);
		if (r < 0)
			err_errno(err, r, "image %.200s", name);
	}
	return r;
}

/* --- our side --------------------------------------------------------------------------------- */

int operator_snapshots(struct operator* op, const struct operator_image *im, struct arena *a,
		       struct str *names)
{
	struct str below = {0};
	size_t i = 0;
	int r = 0;

	for (; i < im->layers_n && r == 0; i++) {
		char chain[DIGEST_TEXT_SIZE];

		digest_text(&im->layers[i].chain, chain);
		r = snaps_find_ref(op->options.snaps, str_of(chain), below, a, &names[i]);
		below = names[i];
		if (r < 0)
			break;
	}
	for (; i < im->layers_n; i++)
		names[i] = (struct str){0};
	return r == -ENOENT ? 0 : r;
}
