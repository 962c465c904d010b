// SPDX-License-Identifier: Apache-2.0
/*
 * Manifests anew: layers are converted or copied, then the config gets their diff ids, the manifest
 * their descriptors, the index the manifests'. Nothing names what is not at the destination yet;
 * the tag comes last.
 */
#include "convert_image.h"

#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "base/limits.h"
#include "convert_json.h"
#include "convert_unpack.h"
#include "image/toc.h"
#include "loop/scope.h"
#include "loop/work.h"

#include "base/banned.h"

#define OCI_INDEX          "application/vnd.oci.image.index.v1+json"
#define OCI_MANIFEST       "application/vnd.oci.image.manifest.v1+json"
#define OCI_CONFIG         "application/vnd.oci.image.config.v1+json"
#define LAYER_TAR          "application/vnd.oci.image.layer.v1.tar"
#define DOCKER_LAYER       "application/vnd.docker.image.rootfs.diff.tar"
#define TOC_DIGEST         "containerd.io/snapshot/stargz/toc.digest"
#define TAR_SIZE           "io.containers.estargz.uncompressed-size"
#define CHUNKED            "io.containers.zstd-chunked."
#define CHUNKED_CONTAINERS "io.github.containers.zstd-chunked."

/* One layer of a manifest. */
struct layer {
	struct conversion *c;
	struct json *descriptor; /* in the manifest's tree */
	struct digest digest, diff_id;
	uint64_t size;
	bool is_tar;
	struct convert_result result;
	struct convert_report report;
	int done; /* 0, or what went wrong */
	bool over;
	struct err err;
};

/* --- one layer -------------------------------------------------------------------------------- */

static bool is_type(struct str type, const char *base)
{
	size_t n = strlen(base);

	return str_starts(type, str_of(base)) &&
	       (type.len == n || type.p[n] == '+' || type.p[n] == '.');
}

static int temp_file(const struct conversion *c, struct err *err)
{
	int fd = open(c->tmp, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);

	return fd < 0 ? err_errno(err, -errno, "make a file in %s", c->tmp) : fd;
}

/* Reads a blob's table of contents as the daemon does. */
static int read_table(const struct conversion *c, const struct toc_hint *h, int fd, struct err *err)
{
	auto_close int index = temp_file(c, err);
	struct toc_place place;
	struct str all;
	int r;

	if (index < 0)
		return index;
	all = (struct str){mmap(NULL, h->blob_size, PROT_READ, MAP_PRIVATE, fd, 0), h->blob_size};
	if (all.p == MAP_FAILED)
		return err_errno(err, -errno, "read a layer");
	r = toc_place_from_footer(h, all, all.len, &place, err);
	if (r == 0 && (place.off > all.len || place.len > all.len - place.off))
		r = err_set(err, -EBADMSG, "the table is not in the blob");
	if (r == 0)
		r = toc_to_index(h, &place, (struct str){all.p + place.off, place.len}, all.len,
				 index, err);
	munmap((void *)(uintptr_t)all.p, all.len);
	return r;
}

/* Does its own table of contents prove that it is in the wanted format? */
static bool is_right(const struct layer *l, int fd)
{
	const struct json *notes = json_get(l->descriptor, "annotations");
	struct str type = json_text(l->descriptor, "mediaType");
	bool zstd = type.len > 5 && memcmp(type.p + type.len - 5, "+zstd", 5) == 0;
	struct toc_hint h = {.media_type = type, .blob_size = l->size, .has_toc_digest = true};

	return zstd == l->c->options.zstd && l->size &&
	       digest_parse(json_text(notes, TOC_DIGEST), &h.toc_digest) == 0 &&
	       read_table(l->c, &h, fd, NULL) == 0;
}

struct job {
	struct layer *l;
	int in_fd, out_fd;
	bool right;
};

/* A layer whose new table no reader would take stays as it is: names with "..", say. */
static int run_job(void *arg)
{
	struct job *j = arg;
	struct layer *l = j->l;
	const struct convert_options *o = &l->c->options;
	struct toc_hint h = {.has_toc_digest = true};
	int r;

	j->right = is_right(l, j->in_fd);
	if (j->right)
		return 0;
	r = convert_layer(j->in_fd, &l->diff_id, l->c->tmp, o, j->out_fd, &l->result, &l->err);
	if (r < 0)
		return r;
	h.media_type = o->zstd ? STR(LAYER_TAR "+zstd") : STR(LAYER_TAR "+gzip");
	h.blob_size = l->result.size;
	h.toc_digest = l->result.toc;
	r = read_table(l->c, &h, j->out_fd, &l->err);
	return r == -EINVAL || r == -EBADMSG || r == -EFBIG ? -EOPNOTSUPP : r;
}

/* same: the source has it too, and may give it to the destination itself. */
static may_suspend int send(struct conversion *c, const struct digest *digest, int fd,
			    uint64_t size, bool same, struct err *err)
{
	int r = end_has(&c->dst, digest, err);

	if (r == 0 && same)
		r = end_mount(&c->dst, digest, &c->src, err);
	return r ? (r < 0 ? r : 0) : end_put(&c->dst, c->work, digest, fd, size, err);
}

static void keep(struct layer *l, const char *why)
{
	l->report.action = LAYER_KEPT;
	l->report.to = l->digest;
	l->report.to_size = l->size;
	l->result.diff_id = l->diff_id;
	snprintf(l->report.why, sizeof(l->report.why), "%.150s", why);
}

static may_suspend int convert_one(struct layer *l)
{
	struct conversion *c = l->c;
	auto_close int in = -1, out = -1;
	struct job j = {.l = l};
	int r = end_fetch(&c->src, c->work, &l->digest, l->size, c->tmp, &in, &l->err);

	if (r < 0)
		return r;
	j.in_fd = in;
	j.out_fd = out = end_temp(&c->dst, c->tmp, &l->err);
	if (out < 0)
		return l->err.code;
	r = work_run(c->work, run_job, &j);
	if (r == 0 && j.right)
		keep(l, "it is in that format already");
	else if (r == -EOPNOTSUPP)
		keep(l, l->err.text);
	else if (r < 0)
		return r;
	if (l->report.action == LAYER_KEPT)
		return send(c, &l->digest, in, l->size, true, &l->err);
	l->report.to = l->result.digest;
	l->report.to_size = l->result.size;
	return send(c, &l->result.digest, out, l->result.size, false, &l->err);
}

/* A blob as it is. */
static may_suspend int copy_blob(struct conversion *c, const struct digest *digest, uint64_t size,
				 struct err *err)
{
	auto_close int fd = -1;
	int r = end_has(&c->dst, digest, err);

	if (r == 0)
		r = end_mount(&c->dst, digest, &c->src, err);
	if (r)
		return r < 0 ? r : 0;
	r = end_fetch(&c->src, c->work, digest, size, c->tmp, &fd, err);
	return r == 0 ? end_put(&c->dst, c->work, digest, fd, size, err) : r;
}

static may_suspend void layer_task(struct layer *l)
{
	l->err = ERR_INIT;
	if (l->is_tar) {
		l->done = convert_one(l);
	} else {
		keep(l, "");
		l->report.action = LAYER_COPIED;
		l->done = copy_blob(l->c, &l->digest, l->size, &l->err);
	}
}

static void tell(struct layer *l)
{
	struct conversion *c = l->c;

	l->report.from = l->digest;
	l->report.from_size = l->size;
	c->done += l->size;
	if (c->layers_n < CONVERT_LAYERS_MAX)
		c->layers[c->layers_n++] = l->report;
	c->on_layer(c->arg, &l->report);
	c->on_bytes(c->arg, c->done, c->total);
}

/* Layers that wait for a task, some of which run. */
struct queue {
	struct conversion *c;
	struct layer *layers;
	size_t n, next, told;
	struct layer *failed; /* the first */
};

static may_suspend int queue_task(void *arg)
{
	struct queue *q = arg;

	while (!q->c->stop && q->next < q->n) {
		struct layer *l = &q->layers[q->next++];

		layer_task(l);
		l->over = true;
		if (l->done < 0) {
			if (!q->failed)
				q->failed = l;
			convert_cancel(q->c);
		}
		while (!q->failed && q->told < q->n && q->layers[q->told].over)
			tell(&q->layers[q->told++]);
	}
	return 0;
}

void convert_cancel(struct conversion *c)
{
	c->stop = true;
	if (c->running)
		scope_cancel(c->running);
}

/* Some at a time, told in order. One that fails ends the others. */
static may_suspend int run_layers(struct conversion *c, struct layer *layers, size_t n,
				  struct err *err)
{
	struct queue q = {.c = c, .layers = layers, .n = n};
	struct scope scope;
	int r = 0;

	scope_init(&scope, c->loop);
	c->running = &scope;
	for (size_t i = 0; i < CONVERT_LAYERS_AT_ONCE && r == 0; i++)
		r = scope_spawn(&scope, queue_task, &q, NULL);
	if (r < 0)
		convert_cancel(c);
	scope_wait(&scope);
	c->running = NULL;
	scope_fini(&scope);
	if (r < 0)
		return err_errno(err, r, "start a task");
	if (q.failed)
		return err_set(err, q.failed->done, "layer %zu: %s", (size_t)(q.failed - layers),
			       err_text(&q.failed->err, q.failed->done));
	return c->stop ? err_set(err, -ECANCELED, "cancelled") : 0;
}

/* --- documents -------------------------------------------------------------------------------- */

/* What the old blob's writer said of it. Left there, it would name a table that is gone, and
 * readers refuse a layer that has the digests of two formats. */
static void drop_notes(struct json *notes)
{
	struct json **at = &notes->first;

	while (*at) {
		struct str key = (*at)->key;

		if (str_eq(key, STR(TOC_DIGEST)) || str_eq(key, STR(TAR_SIZE)) ||
		    str_starts(key, STR(CHUNKED)) || str_starts(key, STR(CHUNKED_CONTAINERS)))
			*at = (*at)->next;
		else
			at = &(*at)->next;
	}
}

static int set_layer(struct layer *l, struct arena *a)
{
	struct str type = json_text(l->descriptor, "mediaType");
	const struct convert_result *r = &l->result;
	struct json *notes;
	int e = 0;

	if (l->report.action != LAYER_CONVERTED) {
		if (is_type(type, DOCKER_LAYER ".gzip"))
			e = json_set_text(l->descriptor, a, "mediaType", LAYER_TAR "+gzip");
		return e;
	}
	e = json_set_text(l->descriptor, a, "mediaType",
			  l->c->options.zstd ? LAYER_TAR "+zstd" : LAYER_TAR "+gzip");
	notes = json_map_in(l->descriptor, a, "annotations");
	if (notes)
		drop_notes(notes);
	if (e < 0 || !notes || json_set_digest(l->descriptor, a, "digest", &r->digest) < 0 ||
	    json_set_int(l->descriptor, a, "size", r->size) < 0 ||
	    json_set_digest(notes, a, TOC_DIGEST, &r->toc) < 0 ||
	    json_set_text(notes, a, TAR_SIZE, arena_printf(a, "%" PRIu64, r->tar_size)) < 0)
		return -ENOMEM;
	if (!l->c->options.zstd)
		return 0;
	e = json_set_digest(notes, a, CHUNKED "manifest-checksum", &r->toc_packed);
	return e < 0 ? e
		     : json_set_text(notes, a, CHUNKED "manifest-position",
				     arena_printf(a, "%" PRIu64 ":%" PRIu64 ":%" PRIu64 ":1",
						  r->toc_off, r->toc_len, r->toc_size));
}

static int read_tree(struct str body, struct arena *a, struct json **ret, struct err *err)
{
	int r = json_tree(body, a, ret, err);

	return r < 0 ? err_wrap(err, -EBADMSG, "a document of the image") : 0;
}

static may_suspend int put_bytes(struct conversion *c, const struct buf *b, bool same,
				 struct digest *ret, struct err *err)
{
	auto_close int fd = end_temp(&c->dst, c->tmp, err);
	int r;

	if (fd < 0)
		return fd;
	sha256(b->data, b->len, ret);
	r = file_write_all(fd, b->data, b->len);
	return r < 0 ? err_errno(err, r, "write a file") : send(c, ret, fd, b->len, same, err);
}

/* The config with the layers' diff ids; as it is if they stay. */
static may_suspend int put_config(struct conversion *c, struct str body, struct json *doc,
				  const struct layer *layers, size_t n, struct arena *a,
				  struct digest *ret, uint64_t *ret_size, struct err *err)
{
	struct json *id = (struct json *)(uintptr_t)json_get(json_get(doc, "rootfs"), "diff_ids");
	auto_buf struct buf out = BUF_INIT;
	bool same = true;
	int r = 0;

	id = id ? id->first : NULL;
	for (size_t i = 0; i < n && id; i++, id = id->next) {
		char text[DIGEST_TEXT_SIZE];

		same = same && digest_eq(&layers[i].result.diff_id, &layers[i].diff_id);
		digest_text(&layers[i].result.diff_id, text);
		id->text = str_of(arena_strndup(a, text, strlen(text)));
	}
	r = same ? buf_append(&out, body.p, body.len) : json_put(&out, doc);
	if (r < 0)
		return err_set(err, -ENOMEM, "out of memory");
	*ret_size = out.len;
	return put_bytes(c, &out, same, ret, err);
}

static int layers_from(struct conversion *c, struct json *doc, const struct digest *ids,
		       struct layer *layers, size_t n)
{
	struct json *d = (struct json *)(uintptr_t)json_get(doc, "layers");

	d = d ? d->first : NULL;
	for (size_t i = 0; i < n && d; i++, d = d->next) {
		struct str type = json_text(d, "mediaType");
		const struct json *size = json_get(d, "size");

		layers[i] = (struct layer){.c = c, .descriptor = d, .diff_id = ids[i]};
		layers[i].is_tar = is_type(type, LAYER_TAR) || is_type(type, DOCKER_LAYER);
		layers[i].size = (uint64_t)size->integer;
		if (digest_parse(json_text(d, "digest"), &layers[i].digest) < 0)
			return -EBADMSG;
		c->total += layers[i].size;
	}
	return 0;
}

static may_suspend int write_manifest(struct conversion *c, struct json *doc, struct layer *layers,
				      size_t n, struct arena *a, struct buf *ret, struct err *err)
{
	for (size_t i = 0; i < n; i++) {
		if (set_layer(&layers[i], a) < 0)
			return err_set(err, -ENOMEM, "out of memory");
	}
	if (json_set_text(doc, a, "mediaType", OCI_MANIFEST) < 0 || json_put(ret, doc) < 0)
		return err_set(err, -ENOMEM, "out of memory");
	(void)c;
	return 0;
}

/* The body of the new manifest; its blobs are at the destination. */
static may_suspend int convert_manifest(struct conversion *c, struct str body, struct buf *ret,
					struct err *err)
{
	auto_buf struct buf config = BUF_INIT;
	auto_arena struct arena a;
	struct json *doc, *config_doc, *descriptor;
	struct manifest m;
	struct layer *layers;
	struct digest *ids, config_digest;
	uint64_t config_size;
	struct str text;
	int r;

	arena_init(&a, 2 * JSON_TREE_MAX);
	r = manifest_parse(body, &a, &m, err);
	if (r == 0)
		r = read_tree(body, &a, &doc, err);
	if (r == 0) {
		auto_close int fd = -1;

		r = end_fetch(&c->src, c->work, &m.config.digest, m.config.size, c->tmp, &fd, err);
		if (r == 0 && (buf_reserve(&config, m.config.size) < 0 ||
			       pread(fd, config.data, m.config.size, 0) != (ssize_t)m.config.size))
			r = err_set(err, -EIO, "the config cannot be read");
		config.len = m.config.size;
	}
	text = (struct str){(char *)config.data, config.len};
	if (r == 0)
		r = config_diff_ids(text, m.layers_n, &a, &ids, err);
	if (r == 0)
		r = read_tree(text, &a, &config_doc, err);
	if (r)
		return r;
	layers = calloc(m.layers_n + 1, sizeof(*layers));
	if (!layers || layers_from(c, doc, ids, layers, m.layers_n) < 0)
		r = err_set(err, -ENOMEM, "out of memory");
	if (r == 0)
		r = run_layers(c, layers, m.layers_n, err);
	if (r == 0)
		r = put_config(c, text, config_doc, layers, m.layers_n, &a, &config_digest,
			       &config_size, err);
	descriptor = r == 0 ? json_map_in(doc, &a, "config") : NULL;
	if (r == 0 && (!descriptor || json_set_text(descriptor, &a, "mediaType", OCI_CONFIG) < 0 ||
		       json_set_digest(descriptor, &a, "digest", &config_digest) < 0 ||
		       json_set_int(descriptor, &a, "size", config_size) < 0))
		r = err_set(err, -ENOMEM, "out of memory");
	if (r == 0)
		r = write_manifest(c, doc, layers, m.layers_n, &a, ret, err);
	free(layers);
	return r;
}

/* --- indexes ---------------------------------------------------------------------------------- */

/* What is no image for a platform goes along as it is. */
static bool is_image(const struct json *d)
{
	const struct json *p = json_get(d, "platform");
	struct str type = json_text(d, "mediaType");

	return !str_eq(json_text(p, "os"), STR("unknown")) &&
	       (!type.len || str_eq(type, STR(OCI_MANIFEST)) ||
		str_eq(type, STR("application/vnd.docker.distribution.manifest.v2+json")));
}

static may_suspend int copy_manifest(struct conversion *c, struct str body, struct buf *ret,
				     struct err *err)
{
	const struct json *list, *config;
	auto_arena struct arena a;
	struct json *doc;
	int r;

	arena_init(&a, JSON_TREE_MAX);
	r = read_tree(body, &a, &doc, err);
	if (r < 0)
		return r;
	config = json_get(doc, "config");
	list = json_get(doc, "layers");
	for (const struct json *d = list ? list->first : NULL; r == 0;) {
		const struct json *one = config ? config : d;
		const struct json *size = json_get(one, "size");
		struct digest digest;

		if (!one)
			break;
		if (digest_parse(json_text(one, "digest"), &digest) < 0 || !size ||
		    size->type != JSON_INT || size->integer < 0)
			return err_set(err, -EBADMSG, "a document of the image");
		r = copy_blob(c, &digest, (uint64_t)size->integer, err);
		d = config ? d : d->next;
		config = NULL;
	}
	return r == 0 && buf_append(ret, body.p, body.len) < 0
		       ? err_set(err, -ENOMEM, "out of memory")
		       : r;
}

static may_suspend int convert_member(struct conversion *c, struct json *d, struct arena *a,
				      struct err *err)
{
	auto_buf struct buf body = BUF_INIT, out = BUF_INIT;
	bool image = is_image(d);
	struct digest digest;
	struct str type;
	int r = digest_parse(json_text(d, "digest"), &digest);

	r = r < 0 ? err_set(err, -EBADMSG, "an index without digests")
		  : end_manifest(&c->src, &digest, &body, err);
	if (r < 0)
		return r;
	r = image ? convert_manifest(c, (struct str){(char *)body.data, body.len}, &out, err)
		  : copy_manifest(c, (struct str){(char *)body.data, body.len}, &out, err);
	if (r < 0)
		return r;
	type = image ? STR(OCI_MANIFEST) : json_text(d, "mediaType");
	r = end_put_manifest(&c->dst, (struct str){(char *)out.data, out.len},
			     type.len ? type.p : OCI_MANIFEST, err);
	sha256(out.data, out.len, &digest);
	if (r == 0 && (json_set_digest(d, a, "digest", &digest) < 0 ||
		       json_set_int(d, a, "size", out.len) < 0 ||
		       (image && json_set_text(d, a, "mediaType", OCI_MANIFEST) < 0)))
		r = err_set(err, -ENOMEM, "out of memory");
	return r;
}

static may_suspend int convert_index(struct conversion *c, struct str body, struct buf *ret,
				     struct err *err)
{
	auto_arena struct arena a;
	struct json *doc, *d;
	int r;

	arena_init(&a, 2 * JSON_TREE_MAX);
	r = read_tree(body, &a, &doc, err);
	if (r < 0)
		return r;
	d = (struct json *)(uintptr_t)json_get(doc, "manifests");
	for (d = d ? d->first : NULL; d && r == 0; d = d->next)
		r = convert_member(c, d, &a, err);
	if (r == 0 &&
	    (json_set_text(doc, &a, "mediaType", OCI_INDEX) < 0 || json_put(ret, doc) < 0))
		r = err_set(err, -ENOMEM, "out of memory");
	return r;
}

static may_suspend int one_platform(struct conversion *c, struct str body, struct buf *ret,
				    struct err *err)
{
	auto_buf struct buf manifest = BUF_INIT;
	auto_arena struct arena a;
	struct index_list list;
	int r;

	arena_init(&a, JSON_TREE_MAX);
	r = manifest_index(body, &c->platform, &a, &list, err);
	if (r == 0)
		r = end_manifest(&c->src, &list.list[list.best].digest, &manifest, err);
	return r == 0 ? convert_manifest(c, (struct str){(char *)manifest.data, manifest.len}, ret,
					 err)
		      : r;
}

may_suspend int convert_image(struct conversion *c, struct err *err)
{
	auto_buf struct buf body = BUF_INIT, out = BUF_INIT;
	auto_arena struct arena a;
	struct digest digest;
	struct str type, text;
	bool index;
	int r;

	arena_init(&a, JSON_TREE_MAX);
	r = end_resolve(&c->src, &a, &body, &digest, &type, err);
	if (r == 0)
		r = end_prepare(&c->dst, err);
	if (r < 0)
		return r;
	text = (struct str){(char *)body.data, body.len};
	index = manifest_is_index(type, text);
	r = !index   ? convert_manifest(c, text, &out, err)
	    : c->all ? convert_index(c, text, &out, err)
		     : one_platform(c, text, &out, err);
	if (r < 0)
		return r;
	sha256(out.data, out.len, &c->digest);
	return end_tag(&c->dst, (struct str){(char *)out.data, out.len},
		       index && c->all ? OCI_INDEX : OCI_MANIFEST, err);
}
