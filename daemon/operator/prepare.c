// SPDX-License-Identifier: Apache-2.0
/* Images from the content store. Owns nothing. Loop thread. */
#include "operator/prepare.h"

#include <string.h>

#include "base/limits.h"
#include "base/log.h"
#include "image/layer.h"
#include "image/ref.h"
#include "image/resolve.h"
#include "operator/pull.h"
#include "snap/snap.h"

#include "base/banned.h"

#define SOURCE "containerd.io/distribution.source."
#define CONFIG "containerd.io/gc.ref.content.config"

/* --- other manifests -------------------------------------------------------------------------- */

struct candidate {
	struct digest manifest;
	size_t shared; /* layers that it has in common with the first; 0: it is out */
};

struct candidates {
	struct candidate *list; /* PREPARE_MANIFESTS_MAX */
	size_t n;
};

/* Whatever names a config is a manifest. */
static int take_manifest(void *arg, const ProtobufCMessage *answer)
{
	const Ctrd__ListContentResponse *m = (const void *)answer;
	struct candidates *c = arg;

	for (size_t i = 0; i < m->n_info && c->n < PREPARE_MANIFESTS_MAX; i++) {
		if (digest_parse(str_of(m->info[i]->digest), &c->list[c->n].manifest) == 0)
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

static size_t shared_layers(const struct operator_image *one, const struct operator_image *other)
{
	size_t n = 0;

	for (size_t i = 0; i < one->blobs_n; i++) {
		for (size_t j = 0; j < other->blobs_n; j++) {
			if (digest_eq(&one->blobs[i].digest, &other->blobs[j].digest)) {
				n++;
				break;
			}
		}
	}
	return n;
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

/* What the content store says of a blob, in a. Is it there? */
may_suspend static bool content_stat(struct operator* op, const char *ns,
				     const struct digest *digest, struct arena *a,
				     Ctrd__ContentInfo **ret)
{
	const struct containerd_at at = {.ns = ns};
	Ctrd__DigestRequest q = CTRD__DIGEST_REQUEST__INIT;
	char text[DIGEST_TEXT_SIZE];
	Ctrd__ContentInfoMessage *m;

	digest_text(digest, text);
	q.digest = text;
	if (containerd_call(op->containerd, &at, "content.v1.Content", "Info", &q.base,
			    &ctrd__content_info_message__descriptor, 0, a, &m, NULL) < 0 ||
	    !m->info)
		return false;
	*ret = m->info;
	return true;
}

struct naming {
	const struct operator_image *of;
	struct arena *a;
	const char *name;
};

may_suspend static int same_image(void *arg, struct arena *a, const struct operator_image *im)
{
	struct naming *n = arg;

	(void)a;
	if (!n->name && im->layers && digest_eq(&im->manifest, &n->of->manifest))
		n->name = arena_strndup(n->a, im->name, strlen(im->name));
	return 0;
}

/* Where the manifest came from, by its label, else by the name of an image; NULL: nobody knows. */
may_suspend static const char *source_of(struct operator* op, const struct operator_image *of,
					 struct arena *a)
{
	Ctrd__ContentInfo *info = NULL;
	struct naming naming = {of, a, NULL};
	char text[DIGEST_TEXT_SIZE];

	digest_text(&of->manifest, text);
	content_stat(op, of->ns, &of->manifest, a, &info);
	for (size_t i = 0; info && i < info->n_labels; i++) {
		const Fl__Label *l = info->labels[i];

		if (strncmp(l->key, SOURCE, sizeof(SOURCE) - 1) == 0)
			return arena_printf(a, "%s/%.*s@%s", l->key + sizeof(SOURCE) - 1,
					    (int)strcspn(l->value, ","), l->value, text);
	}
	operator_images(op, of->ns, same_image, &naming, NULL);
	return naming.name;
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

/* Is the index of the layer here, and in order? */
static bool has_index(struct operator* op, const struct digest *blob)
{
	struct layer *l = layers_find_blob(op->options.layers, blob);

	return l && !l->lost && layer_fd(op->options.layers, l, NULL) >= 0;
}

/* In any namespace: containerd shares blobs between them. */
may_suspend static bool has_blob(struct operator* op, const char *ns, const struct digest *blob,
				 struct arena *a)
{
	char **namespaces = NULL;
	Ctrd__ContentInfo *info;
	size_t n = 0;

	if (content_stat(op, ns, blob, a, &info))
		return true;
	if (operator_namespaces(op, a, &namespaces, &n, NULL) < 0)
		return false;
	for (size_t i = 0; i < n && i < DOCUMENT_NAMESPACES_MAX; i++) {
		if (content_stat(op, namespaces[i], blob, a, &info))
			return true;
	}
	return false;
}

/* Which part is missing? A layer is here by its index, as a snapshot, or by its blob. */
may_suspend static int check_layers(struct operator* op, const struct operator_image *im,
				    struct err *err)
{
	auto_arena struct arena a;
	struct str *names;

	arena_init(&a, CONTAINERD_MESSAGE_MEMORY);
	names = arena_alloc(&a, (im->layers_n + 1) * sizeof(*names));
	if (!names || operator_snapshots(op, im, &a, names) < 0)
		return err_set(err, -ENOMEM, "out of memory");
	for (size_t i = 0; i < im->layers_n; i++) {
		const struct digest *blob = &im->layers[i].digest;
		char text[DIGEST_TEXT_SIZE];

		if (has_index(op, blob) || names[i].len || has_blob(op, im->ns, blob, &a))
			continue;
		digest_text(blob, text);
		return err_set(err, -ENOENT,
			       "layer %zu (%s): neither its index nor its blob is on this host", i,
			       text);
	}
	return 0;
}

/* As a pull does, with documents that are there. */
may_suspend static int register_all(struct pull *p, const struct operator_image *im,
				    struct err *err)
{
	struct ref ref;
	int r;

	p->manifest_at.digest = im->manifest;
	p->manifest.config.digest = im->config;
	p->name = source_of(p->op, im, &p->arena);
	if (!p->name)
		return err_set(err, -ENOENT,
			       "nothing says where the manifest is from: its content has no label "
			       "for that, and no image has it");
	r = ref_parse(str_of(p->name), &p->arena, &ref, err);
	if (r < 0)
		return r;
	p->host = ref.host;
	p->repository = ref.repository;
	r = layers_of(p, im, err);
	if (r == 0)
		r = begin(p->op, im, p->name, err);
	if (r == 0)
		r = pull_lease_take(p, err);
	if (r == 0)
		r = pull_layers(p, err);
	return r == 0 ? pull_references(p, err) : r;
}

may_suspend static int register_layers(struct operator* op, const struct operator_image *im,
				       struct prepared *ret, struct err *err)
{
	struct pull p = {
		.op = op, .registry = op->options.registry, .offline = true, .at = {.ns = im->ns}};
	int r = check_layers(op, im, err);

	if (r < 0)
		return r;
	arena_init(&p.arena, CONTAINERD_MESSAGE_MEMORY);
	waitq_init(&p.changed);
	scope_init(&p.blobs, op->loop);
	r = register_all(&p, im, err);
	scope_cancel(&p.blobs);
	scope_wait(&p.blobs);
	scope_fini(&p.blobs);
	if (!task_cancelled()) /* else it expires */
		pull_lease_give(&p);
	*ret = (struct prepared){.manifest = im->manifest, .layers = im->layers_n};
	for (size_t i = 0; r == 0 && i < p.layers_n; i++)
		ret->lazy += p.layers[i].state == PULL_LAZY;
	arena_fini(&p.arena);
	return r;
}

/* --- the call --------------------------------------------------------------------------------- */

/* How near each comes to the first. */
may_suspend static void compare(struct operator* op, const struct operator_image *first,
				struct candidates *c)
{
	for (size_t i = 0; i < c->n; i++) {
		struct candidate *k = &c->list[i];
		struct operator_image im = {.ns = first->ns, .target = k->manifest};
		auto_arena struct arena a;

		k->shared = 0;
		arena_init(&a, CONTAINERD_MESSAGE_MEMORY);
		if (digest_eq(&k->manifest, &first->target) ||
		    digest_eq(&k->manifest, &first->manifest) ||
		    operator_image_load(op, &a, &im, NULL) < 0)
			continue;
		k->shared = first->blobs ? shared_layers(first, &im)
					 : had_layer(op, &first->target, &im);
	}
}

static struct candidate *nearest(struct candidates *c)
{
	struct candidate *best = NULL;

	for (size_t i = 0; i < c->n; i++) {
		if (c->list[i].shared && (!best || c->list[i].shared > best->shared))
			best = &c->list[i];
	}
	return best;
}

/* The nearest that can be had. */
may_suspend static int try_others(struct operator* op, const char *ns, struct candidates *c,
				  struct prepared *ret)
{
	struct candidate *k;

	while ((k = nearest(c))) {
		struct operator_image im = {.ns = ns, .target = k->manifest};
		auto_arena struct arena a;

		k->shared = 0;
		arena_init(&a, CONTAINERD_MESSAGE_MEMORY);
		if (operator_image_load(op, &a, &im, NULL) == 0 &&
		    register_layers(op, &im, ret, NULL) == 0)
			return 0;
	}
	return -ENOENT;
}

may_suspend int operator_prepare(struct operator* op, const char *ns, const struct digest *manifest,
				 struct prepared *ret, struct err *err)
{
	struct operator_image im = {.ns = ns, .target = *manifest};
	struct candidates c = {.n = 0};
	char text[DIGEST_TEXT_SIZE];
	auto_arena struct arena a;
	int r;

	arena_init(&a, CONTAINERD_MESSAGE_MEMORY);
	if (!op->options.registry)
		return err_set(err, -EOPNOTSUPP, "lazy layers are off: see firstlight doctor");
	r = operator_image_load(op, &a, &im, err);
	if (r == 0)
		r = register_layers(op, &im, ret, err);
	if (r == 0 || r == -ECANCELED || r == -ENOTCONN)
		return r;
	digest_text(manifest, text);
	log_info("prepare manifest=%s namespace=%s, others are tried error=\"%s\"", text, ns,
		 err_text(err, r));
	c.list = arena_alloc(&a, PREPARE_MANIFESTS_MAX * sizeof(*c.list));
	if (!c.list || find_manifests(op, ns, &c, NULL) < 0)
		return r;
	compare(op, &im, &c);
	return try_others(op, ns, &c, ret) == 0 ? 0 : r;
}
