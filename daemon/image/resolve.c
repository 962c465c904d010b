// SPDX-License-Identifier: Apache-2.0
/*
 * Images in question and their manifests: an image has a look-up for each of its layers. Where the
 * labels of a layer name its table of contents, the ends of all layers' blobs are asked for in the
 * first round trip and each is trusted only once its own labels have come; otherwise the manifest,
 * verified by its digest, says what to trust. Loop thread.
 */
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "base/log.h"
#include "image/resolve_impl.h"
#include "loop/loop.h"
#include "loop/work.h"

#include "base/banned.h"

#define ANNOTATION_TOC      "containerd.io/snapshot/stargz/toc.digest"
#define ANNOTATION_CHECKSUM "io.github.containers.zstd-chunked.manifest-checksum"
#define ANNOTATION_POSITION "io.github.containers.zstd-chunked.manifest-position"
#define JANITOR_MS          5000

/* --- images and look-ups in memory ------------------------------------------------------------ */

static struct lookup *lookup_find(struct image *im, const struct digest *blob)
{
	for (struct list *it = im->lookups.next; it != &im->lookups; it = it->next) {
		struct lookup *l = container_of(it, struct lookup, link);

		if (digest_eq(&l->blob, blob))
			return l;
	}
	return NULL;
}

static struct lookup *lookup_get(struct image *im, const struct digest *blob)
{
	struct lookup *l = lookup_find(im, blob);

	if (l || im->lookups_n >= RESOLVE_LAYERS_MAX)
		return l;
	l = calloc(1, sizeof(*l));
	if (!l)
		return NULL;
	l->image = im;
	l->blob = *blob;
	list_init(&l->adding_link);
	list_push(&im->lookups, &l->link);
	im->lookups_n++;
	return l;
}

static void image_free(struct image *im)
{
	struct list *it, *tmp;

	list_for_each_safe (it, tmp, &im->lookups) {
		struct lookup *l = container_of(it, struct lookup, link);

		if (l->layer)
			layer_unuse(im->r->layers, l->layer);
		buf_fini(&l->tail);
		free(l->media_type);
		free(l->position);
		free(l);
	}
	map_del(&im->r->images, &im->node);
	buf_fini(&im->config);
	buf_fini(&im->given);
	free(im->ref);
	free(im);
}

/* The image that was idle for the longest time, if for min_ms at least. */
static struct image *oldest_idle(struct resolver *r, uint64_t min_ms)
{
	uint64_t now = loop_now_ns(r->loop);
	struct image *oldest = NULL;

	for (size_t i = 0; i < r->images.size; i++) {
		for (struct map_node *n = r->images.slots[i]; n; n = n->next) {
			struct image *im = container_of(n, struct image, node);

			if (!im->busy && im->used_ns + min_ms * NS_PER_MS <= now &&
			    (!oldest || im->used_ns < oldest->used_ns))
				oldest = im;
		}
	}
	return oldest;
}

may_suspend static int janitor(void *arg)
{
	struct resolver *r = arg;
	struct image *im;

	while (r->images.count && task_sleep_ms(JANITOR_MS) == 0) {
		while ((im = oldest_idle(r, RESOLVE_KEEP_MS)))
			image_free(im);
	}
	r->janitor = false;
	return 0;
}

static int image_get(struct resolver *r, const struct resolve_query *q, struct image **ret,
		     struct err *err)
{
	auto_buf struct buf key = BUF_INIT;
	struct map_node *n;
	struct image *im;

	if (buf_append(&key, q->ref.p, q->ref.len) < 0 || buf_append(&key, "", 1) < 0 ||
	    (q->has_manifest && buf_append(&key, q->manifest.bytes, DIGEST_SIZE) < 0))
		return err_set(err, -ENOMEM, "out of memory");
	n = map_get(&r->images, (struct str){(char *)key.data, key.len});
	if (n) {
		*ret = container_of(n, struct image, node);
		return 0;
	}
	im = r->images.count >= RESOLVE_IMAGES_MAX ? oldest_idle(r, 0) : NULL;
	if (im)
		image_free(im);
	if (r->images.count >= RESOLVE_IMAGES_MAX)
		return err_set(err, -EAGAIN, "too many images are being looked for");
	im = calloc(1, sizeof(*im) + key.len);
	if (!im)
		return err_set(err, -ENOMEM, "out of memory");
	im->r = r;
	list_init(&im->lookups);
	memcpy(im + 1, key.data, key.len);
	im->node.key = (struct str){(char *)(im + 1), key.len};
	im->manifest = q->manifest;
	im->ref = strndup(q->ref.p, q->ref.len);
	map_put(&r->images, &im->node);
	if (!im->ref) {
		image_free(im);
		return err_set(err, -ENOMEM, "out of memory");
	}
	if (!r->janitor)
		r->janitor = scope_spawn(&r->scope, janitor, r, NULL) == 0;
	*ret = im;
	return 0;
}

void image_leave(struct image *im)
{
	im->busy--;
	im->used_ns = loop_now_ns(im->r->loop);
	waitq_wake_all(&im->r->changed);
}

/* --- the manifest ----------------------------------------------------------------------------- */

static char *copy(struct str s)
{
	return strndup(s.p ? s.p : "", s.len);
}

/* 0: it does not say. */
static uint64_t size_of(const struct json *descriptor)
{
	const struct json *size = json_get(descriptor, "size");

	return size && size->type == JSON_INT && size->integer > 0 ? (uint64_t)size->integer : 0;
}

/* What the manifest says of one layer. */
static void hint_from(const struct json *descriptor, struct lookup *l)
{
	const struct json *notes = json_get(descriptor, "annotations");
	struct toc_hint h = {0};

	h.has_toc_digest = digest_parse(json_text(notes, ANNOTATION_TOC), &h.toc_digest) == 0;
	h.has_checksum = digest_parse(json_text(notes, ANNOTATION_CHECKSUM), &h.checksum) == 0;
	h.blob_size = size_of(descriptor);
	free(l->media_type);
	free(l->position);
	l->media_type = copy(json_text(descriptor, "mediaType"));
	l->position = copy(json_text(notes, ANNOTATION_POSITION));
	h.media_type = str_of(l->media_type);
	h.position = str_of(l->position);
	l->hint = h;
	l->hinted = l->media_type && l->position;
}

/* Which blob the config is; size 0: none that can be had. */
static void note_config(struct image *im, const struct json *descriptor)
{
	uint64_t size = size_of(descriptor);

	im->config_size = 0;
	if (digest_parse(json_text(descriptor, "digest"), &im->config_digest) == 0 &&
	    size <= IMAGE_CONFIG_MAX)
		im->config_size = size;
}

/* Who watches is told what has begun. */
static void tell_begun(struct image *im)
{
	struct resolver *r = im->r;
	auto_free struct digest *blobs =
		r->watch ? reallocarray(NULL, im->lookups_n + 1, sizeof(*blobs)) : NULL;
	size_t n = 0;

	for (struct list *it = im->lookups.next; it != &im->lookups; it = it->next) {
		struct lookup *l = container_of(it, struct lookup, link);

		if (blobs && l->begun && !layers_find_blob(r->layers, &l->blob))
			blobs[n++] = l->blob;
		l->begun = false;
	}
	if (n)
		r->watch(r->watch_arg, str_of(im->ref), blobs, n);
}

struct manifest_job {
	struct str body;
	struct arena *arena;
	struct json *doc;
	struct err *err;
};

static int manifest_job(void *arg)
{
	struct manifest_job *j = arg;

	return json_tree(j->body, j->arena, &j->doc, j->err);
}

may_suspend static int manifest_layers(struct image *im, struct str body)
{
	auto_arena struct arena a;
	struct manifest_job job = {.body = body, .arena = &a, .err = &im->err};
	const struct json *layers, *d;
	struct digest blob;
	int r;

	arena_init(&a, JSON_TREE_MAX);
	r = body.len > KiB(64) ? work_run(im->r->threads, manifest_job, &job) : manifest_job(&job);
	if (r < 0)
		return err_wrap(&im->err, r, "manifest");
	note_config(im, json_get(job.doc, "config"));
	layers = json_get(job.doc, "layers");
	if (!layers || layers->type != JSON_LIST)
		return err_set(&im->err, -EOPNOTSUPP, "the manifest has no layers");
	for (d = layers->first; d && im->lookups_n < RESOLVE_LAYERS_MAX; d = d->next) {
		struct lookup *l = digest_parse(json_text(d, "digest"), &blob) == 0
					   ? lookup_get(im, &blob)
					   : NULL;

		if (!l || l->hinted)
			continue;
		hint_from(d, l);
		if (l->hinted && toc_hint_check(&l->hint, NULL) == 0)
			lookup_start(l);
	}
	tell_begun(im);
	return 0;
}

static int config_data(void *arg, uint64_t off, const void *data, size_t n)
{
	struct image *im = arg;

	if (off != im->config.len || n > im->config_size - off)
		return -EPROTO;
	return buf_append(&im->config, data, n);
}

/* Documents of this host; ret is empty if there is none. */
may_suspend static int read_document(struct image *im, const struct digest *digest, size_t max,
				     struct buf *ret)
{
	struct resolver *r = im->r;
	int e = r->documents ? r->documents(r->documents_arg, digest, max, ret) : -ENOENT;

	if (e < 0)
		buf_fini(ret);
	return e;
}

may_suspend static int fetch_config(struct image *im)
{
	struct blob_request q = {.ref = str_of(im->ref),
				 .digest = im->config_digest,
				 .len = im->config_size,
				 .class = FETCH_PREDICTED,
				 .on_data = config_data,
				 .arg = im};
	struct blob_answer answer = {0};
	struct digest d;
	int r;

	if (!im->config_size)
		return -ENOENT;
	if (!im->was_given &&
	    read_document(im, &im->config_digest, im->config_size, &im->config) == 0)
		return 0;
	r = registry_blob(im->r->registry, &q, &answer, NULL);
	if (r < 0)
		return r;
	sha256(im->config.data, im->config.len, &d);
	return digest_eq(&d, &im->config_digest) ? 0 : -EBADMSG;
}

may_suspend static void config_get(struct image *im)
{
	int r = im->state == MANIFEST_HERE ? fetch_config(im) : -ENOENT;

	im->config_state = r < 0 ? CONFIG_FAILED : CONFIG_HERE;
	if (r < 0)
		buf_fini(&im->config);
}

may_suspend static int fetch_manifest(struct image *im, struct buf *ret)
{
	im->was_given = im->given.len > 0;
	if (im->was_given) {
		*ret = im->given;
		im->given = BUF_INIT;
		return 0;
	}
	if (read_document(im, &im->manifest, MANIFEST_MAX, ret) == 0)
		return 0;
	return registry_manifest(im->r->registry, str_of(im->ref), &im->manifest, FETCH_DEMAND, ret,
				 &im->err);
}

may_suspend static int manifest_task(void *arg)
{
	struct image *im = arg;
	auto_buf struct buf body = BUF_INIT;
	int r;

	im->err = ERR_INIT;
	im->config_state = CONFIG_COMING;
	r = fetch_manifest(im, &body);
	if (r == 0)
		r = manifest_layers(im, (struct str){(char *)body.data, body.len});
	im->result = r;
	im->state = r < 0 ? MANIFEST_FAILED : MANIFEST_HERE;
	waitq_wake_all(&im->r->changed);
	buf_fini(&body);
	task_yield(); /* the layers ask first: theirs is the connection that is open already */
	config_get(im);
	image_leave(im);
	return 0;
}

static void sizes_from(struct image *im, const struct json *layers)
{
	struct digest blob;

	for (const struct json *d = layers->first; d; d = d->next) {
		struct lookup *l = digest_parse(json_text(d, "digest"), &blob) == 0
					   ? lookup_find(im, &blob)
					   : NULL;

		if (l && !l->hint.blob_size)
			l->hint.blob_size = size_of(d);
	}
}

may_suspend static int sizes_task(void *arg)
{
	struct image *im = arg;
	auto_buf struct buf body = BUF_INIT;
	auto_arena struct arena a;
	struct manifest_job job = {.arena = &a};
	const struct json *layers = NULL;

	arena_init(&a, JSON_TREE_MAX);
	if (read_document(im, &im->manifest, KiB(64), &body) == 0) {
		job.body = (struct str){(char *)body.data, body.len};
		if (manifest_job(&job) == 0)
			layers = json_get(job.doc, "layers");
	}
	if (layers && layers->type == JSON_LIST)
		sizes_from(im, layers);
	im->sizes = SIZES_KNOWN;
	image_leave(im);
	return 0;
}

may_suspend int image_sizes(struct image *im)
{
	static const struct digest none;
	struct resolver *r = im->r;
	uint64_t until = loop_now_ns(r->loop) + RESOLVE_SIZES_MS * NS_PER_MS;
	int e = 0;

	if (!r->documents || digest_eq(&im->manifest, &none))
		return 0;
	if (im->sizes == SIZES_UNASKED && scope_spawn(&r->scope, sizes_task, im, NULL) == 0) {
		im->sizes = SIZES_COMING;
		im->busy++;
	}
	while (im->sizes == SIZES_COMING && e == 0)
		e = resolve_wait(r, until);
	return e == -ECANCELED ? e : 0;
}

static int manifest_start(struct image *im)
{
	int r;

	if (im->state != MANIFEST_UNASKED && im->state != MANIFEST_FAILED)
		return 0;
	r = scope_spawn(&im->r->scope, manifest_task, im, NULL);
	if (r == 0) {
		im->state = MANIFEST_COMING;
		im->busy++;
	}
	return r;
}

/* --- asking ----------------------------------------------------------------------------------- */

/* The ends of this and the upper layers' blobs. */
static void look_ahead(struct image *im, struct str list)
{
	struct digest blob;

	while (list.len) {
		const char *comma = memchr(list.p, ',', list.len);
		size_t n = comma ? (size_t)(comma - list.p) : list.len;
		struct lookup *l = digest_parse((struct str){list.p, n}, &blob) == 0
					   ? lookup_get(im, &blob)
					   : NULL;

		if (l)
			lookup_start(l);
		n += comma != NULL;
		list = (struct str){list.p + n, list.len - n};
	}
}

static bool is_final(int r)
{
	return r == -EOPNOTSUPP || r == -EINVAL || r == -EBADMSG || r == -EFBIG;
}

/* Starts what is not under way; the look-up of the layer itself, NULL: the manifest has to say. */
static int start(struct image *im, const struct resolve_query *q, struct lookup **ret,
		 struct err *err)
{
	struct lookup *l = q->has_toc ? lookup_get(im, &q->blob) : lookup_find(im, &q->blob);
	int r = 0;

	if (q->has_toc && l && l->hinted && !digest_eq(trust_of(l), &q->toc))
		return err_set(err, -EBADMSG,
			       "another table of contents than the image had before");
	if (l && l->state == LOOKUP_DONE && l->result < 0 && !is_final(l->result)) {
		l->state = LOOKUP_IDLE;
		l->result = 0;
	}
	if (q->has_toc && l) {
		if (!l->hinted) {
			l->hint.has_toc_digest = true;
			l->hint.toc_digest = q->toc;
			l->hinted = true;
			waitq_wake_all(&im->r->changed);
		}
		r = lookup_start(l);
		if (r == 0)
			look_ahead(im, q->layers);
	} else if (l && l->hinted) {
		r = lookup_start(l);
	} else {
		r = manifest_start(im);
	}
	tell_begun(im);
	*ret = l;
	return r < 0 ? err_errno(err, r, "look for the layer") : 0;
}

/* Is there an answer? */
static bool answered(struct image *im, const struct resolve_query *q, struct lookup **l)
{
	if (!*l)
		*l = lookup_find(im, &q->blob);
	if (*l && (*l)->hinted)
		return (*l)->state != LOOKUP_RUNNING;
	return im->state != MANIFEST_COMING;
}

static int answer(struct image *im, struct lookup *l, struct layer **ret, struct err *err)
{
	bool found = l && l->state == LOOKUP_DONE && l->result == 0;

	if (found)
		l->state = LOOKUP_IDLE;
	if (found && l->layer) { /* from now on others find it */
		*ret = take_ptr(l->layer);
		return 0;
	}
	*ret = l && l->hinted ? layers_find(im->r->layers, &l->blob, trust_of(l)) : NULL;
	if (*ret) {
		layer_use(*ret);
		return 0;
	}
	if (found)
		return err_set(err, -EAGAIN, "the layer has just gone");
	if (l && l->state == LOOKUP_DONE)
		return err_set(err, l->result, "%s", err_text(&l->err, l->result));
	if (l && l->hinted && toc_hint_check(&l->hint, err) < 0)
		return err->code;
	if (im->state == MANIFEST_FAILED)
		return err_set(err, im->result, "%s", err_text(&im->err, im->result));
	return err_set(err, -EOPNOTSUPP, "the manifest does not name the layer");
}

/* Whoever it was found for has it now: it is not kept for him any more. */
static void asked_for(struct resolver *r, const struct layer *layer)
{
	for (size_t i = 0; i < r->images.size; i++) {
		for (struct map_node *n = r->images.slots[i]; n; n = n->next) {
			struct image *im = container_of(n, struct image, node);

			for (struct list *it = im->lookups.next; it != &im->lookups;
			     it = it->next) {
				struct lookup *l = container_of(it, struct lookup, link);

				if (l->layer != layer)
					continue;
				l->state = LOOKUP_IDLE;
				layer_unuse(r->layers, take_ptr(l->layer));
			}
		}
	}
}

may_suspend int resolve_layer(struct resolver *r, const struct resolve_query *q, struct layer **ret,
			      struct err *err)
{
	uint64_t until = loop_now_ns(r->loop) + RESOLVE_TIMEOUT_MS * NS_PER_MS;
	struct lookup *l = NULL;
	struct layer *known;
	struct image *im;
	int e;

	if (!q->has_toc && !q->has_manifest)
		return err_set(err, -EOPNOTSUPP, "no label names a table of contents or manifest");
	known = q->has_toc ? layers_find(r->layers, &q->blob, &q->toc) : NULL;
	if (known) {
		e = layer_use_known(r, known, q->ref, ret, err);
		if (e == 0)
			asked_for(r, *ret);
		return e;
	}
	e = image_get(r, q, &im, err);
	if (e < 0)
		return e;
	im->busy++;
	e = start(im, q, &l, err);
	while (e == 0 && !answered(im, q, &l)) {
		e = resolve_wait(r, until);
		if (e == -ETIMEDOUT)
			err_set(err, e, "nothing was found within %d ms", RESOLVE_TIMEOUT_MS);
	}
	if (e == 0)
		e = answer(im, l, ret, err);
	image_leave(im);
	return e;
}

int resolve_begin(struct resolver *r, struct str ref, const struct digest *manifest,
		  struct str body, struct err *err)
{
	const struct resolve_query q = {.ref = ref, .has_manifest = true, .manifest = *manifest};
	struct image *im;
	int e = image_get(r, &q, &im, err);

	if (e < 0)
		return e;
	if (im->state == MANIFEST_COMING || im->state == MANIFEST_HERE)
		return 0;
	im->given.len = 0;
	if (buf_append(&im->given, body.p, body.len) < 0)
		return err_set(err, -ENOMEM, "out of memory");
	e = manifest_start(im);
	return e < 0 ? err_errno(err, e, "look for layers") : 0;
}

may_suspend int resolve_config(struct resolver *r, struct str ref, const struct digest *manifest,
			       struct buf *ret, struct err *err)
{
	const struct resolve_query q = {.ref = ref, .has_manifest = true, .manifest = *manifest};
	uint64_t until = loop_now_ns(r->loop) + RESOLVE_TIMEOUT_MS * NS_PER_MS;
	struct image *im;
	int e = image_get(r, &q, &im, err);

	if (e < 0)
		return e;
	im->busy++;
	if (im->config_state == CONFIG_FAILED && im->state == MANIFEST_HERE)
		im->state = MANIFEST_UNASKED;
	e = manifest_start(im);
	while (e == 0 && im->config_state == CONFIG_COMING)
		e = resolve_wait(r, until);
	if (e == 0 && im->config_state == CONFIG_FAILED)
		e = im->state == MANIFEST_FAILED ? im->result : -ENOENT;
	if (e == 0)
		e = buf_append(ret, im->config.data, im->config.len);
	if (e < 0)
		err_errno(err, e, "config of image " STR_FMT, STR_ARG(ref));
	image_leave(im);
	return e;
}

/* --- life ------------------------------------------------------------------------------------- */

int resolver_new(struct loop *loop, struct registry *registry, struct layers *layers,
		 struct work *threads, struct resolver **ret, struct err *err)
{
	struct resolver *r = calloc(1, sizeof(*r));

	if (!r || map_init(&r->images) < 0) {
		free(r);
		return err_set(err, -ENOMEM, "out of memory");
	}
	r->loop = loop;
	r->registry = registry;
	r->layers = layers;
	r->threads = threads;
	scope_init(&r->scope, loop);
	waitq_init(&r->changed);
	list_init(&r->adding);
	*ret = r;
	return 0;
}

void resolver_documents(struct resolver *r,
			may_suspend int (*read)(void *arg, const struct digest *digest, size_t max,
						struct buf *ret),
			void *arg)
{
	r->documents = read;
	r->documents_arg = arg;
}

void resolver_watch(struct resolver *r,
		    void (*fn)(void *arg, struct str ref, const struct digest *blobs, size_t n),
		    void *arg)
{
	r->watch = fn;
	r->watch_arg = arg;
}

may_suspend void resolver_stop(struct resolver *r)
{
	scope_cancel(&r->scope);
	scope_wait(&r->scope);
}

may_suspend void resolver_free(struct resolver *r)
{
	if (!r)
		return;
	resolver_stop(r);
	scope_fini(&r->scope);
	for (size_t i = 0; i < r->images.size; i++) {
		while (r->images.slots[i])
			image_free(container_of(r->images.slots[i], struct image, node));
	}
	map_fini(&r->images);
	free(r);
}
