// SPDX-License-Identifier: Apache-2.0
/* Images from the content store. Owns nothing. Loop thread. */
#include "operator/prepare.h"

#include <string.h>

#include "base/limits.h"
#include "image/layer.h"
#include "image/resolve.h"
#include "operator/pull.h"
#include "snap/snap.h"

#include "base/banned.h"

#define SOURCE "containerd.io/distribution.source."
#define CONFIG "containerd.io/gc.ref.content.config"

/* --- other manifests -------------------------------------------------------------------------- */

struct candidates {
	struct digest list[PREPARE_MANIFESTS_MAX];
	size_t n;
};

/* Whatever names a config is a manifest. */
static int take_manifest(void *arg, const ProtobufCMessage *answer)
{
	const Ctrd__ListContentResponse *m = (const void *)answer;
	struct candidates *c = arg;

	for (size_t i = 0; i < m->n_info && c->n < PREPARE_MANIFESTS_MAX; i++) {
		if (digest_parse(str_of(m->info[i]->digest), &c->list[c->n]) == 0)
			c->n++;
	}
	return 0;
}

may_suspend static int find_manifests(struct operator* op, const char *ns, struct candidates *c,
				      struct err *err)
{
	const struct containerd_at at = {.ns = ns};
	Ctrd__FiltersRequest q = CTRD__FILTERS_REQUEST__INIT;
	char filter[] = "labels.\"" CONFIG "\"", *filters = filter;

	q.filters = &filters;
	q.n_filters = 1;
	return containerd_stream(op->containerd, &at, "content.v1.Content", "List", &q.base,
				 &ctrd__list_content_response__descriptor, take_manifest, c, err);
}

static bool shares_layer(const struct operator_image *one, const struct operator_image *other)
{
	for (size_t i = 0; i < one->layers_n; i++) {
		for (size_t j = 0; j < other->layers_n; j++) {
			if (digest_eq(&one->layers[i].digest, &other->layers[j].digest))
				return true;
		}
	}
	return false;
}

/* Is the layer one that was registered for that manifest? */
may_suspend static bool had_layer(struct operator* op, const struct digest *manifest,
				  const struct operator_image *im)
{
	struct str *names;
	char text[DIGEST_TEXT_SIZE];
	auto_arena struct arena a;

	arena_init(&a, MiB(16));
	digest_text(manifest, text);
	names = arena_alloc(&a, (im->layers_n + 1) * sizeof(*names));
	if (!names || operator_snapshots(op, im, &a, names) < 0)
		return false;
	for (size_t i = 0; i < im->layers_n && names[i].len; i++) {
		struct snap_info info;
		const struct label *l;

		if (snaps_stat(op->options.snaps, names[i], &a, &info, NULL) < 0)
			continue;
		l = label_find(info.record.labels, info.record.labels_n,
			       STR("containerd.io/snapshot/cri.manifest-digest"));
		if (l && str_eq(l->value, str_of(text)))
			return true;
	}
	return false;
}

/* --- registering ------------------------------------------------------------------------------ */

/* Where the content says that it came from; NULL: it does not. */
may_suspend static const char *source_of(struct operator* op, const char *ns,
					 const struct digest *manifest, struct arena *a)
{
	const struct containerd_at at = {.ns = ns};
	Ctrd__DigestRequest q = CTRD__DIGEST_REQUEST__INIT;
	char text[DIGEST_TEXT_SIZE];
	Ctrd__ContentInfoMessage *m;

	digest_text(manifest, text);
	q.digest = text;
	if (containerd_call(op->containerd, &at, "content.v1.Content", "Info", &q.base,
			    &ctrd__content_info_message__descriptor, 0, a, &m, NULL) < 0 ||
	    !m->info)
		return NULL;
	for (size_t i = 0; i < m->info->n_labels; i++) {
		const Fl__Label *l = m->info->labels[i];

		if (strncmp(l->key, SOURCE, sizeof(SOURCE) - 1) == 0)
			return arena_printf(a, "%s/%.*s@%s", l->key + sizeof(SOURCE) - 1,
					    (int)strcspn(l->value, ","), l->value, text);
	}
	return NULL;
}

static int layers_of(struct pull *p, const struct operator_image *im, struct err *err)
{
	p->layers = arena_alloc(&p->arena, (im->layers_n + 1) * sizeof(*p->layers));
	if (!p->layers)
		return err_set(err, -ENOMEM, "out of memory");
	for (size_t i = 0; i < im->layers_n; i++)
		p->layers[i] = (struct pull_layer){
			.digest = im->layers[i].digest,
			.diff_id = im->layers[i].diff_id,
			.chain = im->layers[i].chain,
			.size = im->layers[i].size,
			.media_type = arena_strndup(&p->arena, im->layers[i].media_type.p,
						    im->layers[i].media_type.len)};
	p->layers_n = p->ordinary = im->layers_n;
	return 0;
}

may_suspend static int begin(struct operator* op, const struct operator_image *im, const char *name,
			     struct err *err)
{
	const struct containerd_at at = {.ns = im->ns};
	auto_buf struct buf body = BUF_INIT;
	int r = containerd_content_read(op->containerd, &at, &im->manifest, MANIFEST_MAX, &body,
					err);

	if (r < 0)
		return r;
	return resolve_begin(op->options.resolver, str_of(name), &im->manifest,
			     (struct str){(char *)body.data, body.len}, err);
}

/* As a pull does, without its documents. */
may_suspend static int register_layers(struct operator* op, const struct operator_image *im,
				       struct prepared *ret, struct err *err)
{
	struct pull p = {.op = op, .registry = op->options.registry, .at = {.ns = im->ns}};
	int r;

	for (size_t i = 0; i < im->layers_n; i++) {
		if (!layers_find_blob(op->options.layers, &im->layers[i].digest))
			return err_set(err, -ENOENT, "no index of layer %zu is on this host", i);
	}
	arena_init(&p.arena, MiB(16));
	waitq_init(&p.changed);
	scope_init(&p.blobs, op->loop);
	p.manifest_at.digest = im->manifest;
	p.name = source_of(op, im->ns, &im->manifest, &p.arena);
	r = p.name ? layers_of(&p, im, err)
		   : err_set(err, -ENOENT,
			     "the manifest's content has no label that says where it is from");
	if (r == 0)
		r = begin(op, im, p.name, err);
	if (r == 0)
		r = pull_layers(&p, err);
	scope_cancel(&p.blobs);
	scope_wait(&p.blobs);
	scope_fini(&p.blobs);
	*ret = (struct prepared){.manifest = im->manifest, .layers = im->layers_n};
	for (size_t i = 0; r == 0 && i < p.layers_n; i++)
		ret->lazy += p.layers[i].state == PULL_LAZY;
	arena_fini(&p.arena);
	return r;
}

/* --- the call --------------------------------------------------------------------------------- */

may_suspend static int try_other(struct operator* op, const char *ns,
				 const struct operator_image *first, const struct digest *other,
				 struct prepared *ret)
{
	struct operator_image im = {.ns = ns, .target = *other};
	auto_arena struct arena a;

	arena_init(&a, CONTAINERD_MESSAGE_MEMORY);
	if (digest_eq(other, &first->target) || operator_image_load(op, &a, &im, NULL) < 0)
		return -ENOENT;
	if (first->layers ? !shares_layer(first, &im) : !had_layer(op, &first->target, &im))
		return -ENOENT;
	return register_layers(op, &im, ret, NULL);
}

may_suspend int operator_prepare(struct operator* op, const char *ns, const struct digest *manifest,
				 struct prepared *ret, struct err *err)
{
	struct operator_image im = {.ns = ns, .target = *manifest};
	struct candidates c = {.n = 0};
	auto_arena struct arena a;
	int r;

	if (!op->options.registry)
		return err_set(err, -EOPNOTSUPP, "lazy layers are off: see firstlight doctor");
	arena_init(&a, CONTAINERD_MESSAGE_MEMORY);
	r = operator_image_load(op, &a, &im, err);
	if (r == 0)
		r = register_layers(op, &im, ret, err);
	if (r == 0 || r == -ECANCELED || r == -ENOTCONN)
		return r;
	if (find_manifests(op, ns, &c, NULL) < 0)
		return r;
	for (size_t i = 0; i < c.n; i++) {
		if (try_other(op, ns, &im, &c.list[i], ret) == 0)
			return 0;
	}
	return r;
}
