// SPDX-License-Identifier: Apache-2.0
/*
 * The layers of a pull become snapshots through containerd, bottom to top. Its Prepare comes back
 * to us: a layer that can be lazy is committed then, and containerd is told that it exists. What
 * cannot is unpacked by containerd, and so is all that lies above. Loop thread.
 */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "base/clock.h"
#include "base/limits.h"
#include "image/layer.h"
#include "operator/pull.h"
#include "snap/snap.h"

#include "base/banned.h"

#define SNAPSHOTS "snapshots.v1.Snapshots"
#define LABELS_N  5
#define CRI       "containerd.io/snapshot/cri."

struct step {
	struct pull *p;
	size_t i;
	struct pull_layer *layer;
	char chain[DIGEST_TEXT_SIZE], parent[DIGEST_TEXT_SIZE];
	const char *key;
	Fl__Label *labels[LABELS_N];
	struct arena arena; /* of this layer */
};

static char *z(const char *s)
{
	return (char *)(uintptr_t)s;
}

/* This layer's digest and those above it, as many as a label holds. */
static const char *upper_digests(struct step *s)
{
	size_t room = LABEL_MAX - (sizeof(CRI "image-layers") - 1), at = 0;
	char *text = arena_alloc(&s->arena, LABEL_MAX + 1);

	if (!text)
		return NULL;
	for (size_t i = s->i; i < s->p->layers_n; i++) {
		char one[DIGEST_TEXT_SIZE];

		digest_text(&s->p->layers[i].digest, one);
		if (at + DIGEST_TEXT_SIZE > room)
			break;
		at += (size_t)snprintf(text + at, room - at + 1, "%s%s", at ? "," : "", one);
	}
	return text;
}

static int make_labels(struct step *s, struct err *err)
{
	char digest[DIGEST_TEXT_SIZE], manifest[DIGEST_TEXT_SIZE];
	struct pull *p = s->p;

	digest_text(&s->layer->digest, digest);
	digest_text(&p->manifest_at.digest, manifest);
	s->labels[0] = pull_label(p, "containerd.io/snapshot.ref", s->chain);
	s->labels[1] = pull_label(p, CRI "image-ref", p->name);
	s->labels[2] = pull_label(p, CRI "layer-digest", digest);
	s->labels[3] = pull_label(p, CRI "manifest-digest", manifest);
	s->labels[4] = pull_label(p, CRI "image-layers", upper_digests(s));
	for (size_t i = 0; i < LABELS_N; i++) {
		if (!s->labels[i])
			return err_set(err, -ENOMEM, "out of memory");
	}
	return 0;
}

/* --- containerd's calls ----------------------------------------------------------------------- */

may_suspend static int call(struct step *s, const char *method, const ProtobufCMessage *q,
			    const ProtobufCMessageDescriptor *type, void *ret, struct err *err)
{
	unsigned waited_ms = 0;
	int r;

	do {
		r = containerd_call(s->p->op->containerd, &s->p->at, SNAPSHOTS, method, q, type,
				    CONTAINERD_PREPARE_MS, &s->arena, ret, err);
	} while (r < 0 && containerd_finds_us(r, err, &waited_ms));
	return r;
}

may_suspend static int stat(struct step *s, Fl__Info **ret, struct err *err)
{
	Fl__KeyRequest q = FL__KEY_REQUEST__INIT;
	Fl__InfoResponse *m;
	int r;

	q.snapshotter = z(s->p->op->options.snapshotter);
	q.key = s->chain;
	r = call(s, "Stat", &q.base, &fl__info_response__descriptor, &m, err);
	if (r == 0 && !m->info)
		return err_set(err, -EBADMSG, "containerd: a snapshot without facts");
	if (r == 0)
		*ret = m->info;
	return r;
}

may_suspend static int prepare(struct step *s, Fl__MountsResponse **ret, struct err *err)
{
	Fl__PrepareRequest q = FL__PREPARE_REQUEST__INIT;

	q.snapshotter = z(s->p->op->options.snapshotter);
	q.key = z(s->key);
	q.parent = s->parent;
	q.labels = s->labels;
	q.n_labels = LABELS_N;
	return call(s, "Prepare", &q.base, &fl__mounts_response__descriptor, ret, err);
}

may_suspend static int commit(struct step *s, struct err *err)
{
	Fl__CommitRequest q = FL__COMMIT_REQUEST__INIT;

	q.snapshotter = z(s->p->op->options.snapshotter);
	q.name = s->chain;
	q.key = z(s->key);
	q.labels = s->labels;
	q.n_labels = LABELS_N;
	return call(s, "Commit", &q.base, NULL, NULL, err);
}

/* Also when the pull is being ended: a cancelled task cannot, containerd's collection does then. */
may_suspend static void remove_key(struct step *s)
{
	Fl__KeyRequest q = FL__KEY_REQUEST__INIT;

	q.snapshotter = z(s->p->op->options.snapshotter);
	q.key = z(s->key);
	call(s, "Remove", &q.base, NULL, NULL, NULL);
}

/* --- layers that are there -------------------------------------------------------------------- */

/* Our own record of a chain id; 0 = an ordinary one, -ENOENT. */
static int lazy_id(struct step *s, uint32_t *ret)
{
	struct snaps *snaps = s->p->op->options.snaps;
	struct str name = {0};
	struct snaps_link link = {.layer = 0};
	int r = 0;

	for (size_t i = 0; i <= s->i && r == 0; i++) {
		char chain[DIGEST_TEXT_SIZE];

		digest_text(&s->p->layers[i].chain, chain);
		r = snaps_find_ref(snaps, str_of(chain), name, &s->arena, &name);
	}
	if (r == 0)
		r = snaps_chain(snaps, name, &s->arena, &link, 1, NULL);
	if (r < 0)
		return r;
	*ret = link.layer;
	return 0;
}

/* A newer image has the layer too: it can be fetched from there, and its labels name it. */
may_suspend static int keep_current(struct step *s, uint32_t id, struct err *err)
{
	Fl__UpdateRequest q = FL__UPDATE_REQUEST__INIT;
	Fl__FieldMask mask = FL__FIELD_MASK__INIT;
	Fl__Info info = FL__INFO__INIT;
	struct layers *layers = s->p->op->options.layers;
	struct layer *l = layers_get(layers, id);
	char *paths[LABELS_N];
	Fl__InfoResponse *m;
	int r = 0;

	if (l) {
		layer_use(l);
		r = layers_note_ref(layers, l, str_of(s->p->name), err);
		layer_unuse(layers, l);
	}
	info.name = s->chain;
	info.labels = s->labels;
	info.n_labels = LABELS_N;
	for (size_t i = 0; i < LABELS_N; i++) {
		paths[i] = arena_printf(&s->arena, "labels.%s", s->labels[i]->key);
		if (!paths[i])
			return err_set(err, -ENOMEM, "out of memory");
	}
	mask.paths = paths;
	mask.n_paths = LABELS_N;
	q.snapshotter = z(s->p->op->options.snapshotter);
	q.info = &info;
	q.update_mask = &mask;
	return r < 0 ? r : call(s, "Update", &q.base, &fl__info_response__descriptor, &m, err);
}

static bool has_label(const Fl__Info *info, const Fl__Label *l)
{
	for (size_t i = 0; i < info->n_labels; i++) {
		if (strcmp(info->labels[i]->key, l->key) == 0)
			return strcmp(info->labels[i]->value, l->value) == 0;
	}
	return false;
}

/* containerd knows it, and so do we? */
may_suspend static int found(struct step *s, const Fl__Info *info, bool existed, struct err *err)
{
	uint32_t id = 0;
	int r = lazy_id(s, &id);

	if (r == -ENOENT)
		id = 0; /* unpacked by somebody who said no reference */
	else if (r < 0)
		return err_errno(err, r, "look for layer %zu", s->i);
	s->layer->state = id ? PULL_LAZY : PULL_UNPACKED;
	s->layer->existed = existed;
	s->layer->bytes = id ? 0 : s->layer->size;
	pull_changed(s->p);
	if (id && existed && !has_label(info, s->labels[3]))
		return keep_current(s, id, err);
	return 0;
}

/* --- layers that are not lazy ----------------------------------------------------------------- */

may_suspend static int apply(struct step *s, const Fl__MountsResponse *mounts, struct err *err)
{
	Ctrd__ApplyRequest q = CTRD__APPLY_REQUEST__INIT;
	Ctrd__Descriptor diff = CTRD__DESCRIPTOR__INIT;
	char digest[DIGEST_TEXT_SIZE], want[DIGEST_TEXT_SIZE];
	Ctrd__ApplyResponse *m;
	int r;

	digest_text(&s->layer->digest, digest);
	digest_text(&s->layer->diff_id, want);
	diff.digest = digest;
	diff.media_type = z(s->layer->media_type);
	diff.size = (int64_t)s->layer->size;
	q.diff = &diff;
	q.mounts = mounts->mounts;
	q.n_mounts = mounts->n_mounts;
	r = containerd_call(s->p->op->containerd, &s->p->at, "diff.v1.Diff", "Apply", &q.base,
			    &ctrd__apply_response__descriptor, CONTAINERD_APPLY_MS, &s->arena, &m,
			    err);
	if (r == 0 && (!m->applied || strcmp(m->applied->digest, want) != 0))
		r = err_set(err, -EBADMSG, "layer %zu unpacks to %s, its config says %s", s->i,
			    m->applied ? m->applied->digest : "nothing", want);
	return r;
}

may_suspend static int unpack(struct step *s, const Fl__MountsResponse *mounts, struct err *err)
{
	char diff_id[DIGEST_TEXT_SIZE];
	Fl__Label *label;
	int r = 0;

	if (s->p->ordinary == s->p->layers_n) { /* the first: those above follow */
		s->p->ordinary = s->i;
		r = pull_blobs_start(s->p, s->i, err);
	}
	if (r == 0)
		r = pull_blob_wait(s->p, s->i, err);
	if (r < 0)
		return r;
	s->layer->state = PULL_UNPACKING;
	pull_changed(s->p);
	r = apply(s, mounts, err);
	if (r == 0)
		r = commit(s, err);
	if (r == -EEXIST) { /* somebody was faster */
		remove_key(s);
		r = 0;
	}
	digest_text(&s->layer->diff_id, diff_id);
	label = pull_label(s->p, "containerd.io/uncompressed", diff_id);
	if (r == 0 && !label)
		r = err_set(err, -ENOMEM, "out of memory");
	if (r == 0)
		r = containerd_content_label(s->p->op->containerd, &s->p->at, &s->layer->digest,
					     &label, 1, err);
	if (r < 0)
		return r;
	s->layer->state = PULL_UNPACKED;
	pull_changed(s->p);
	return 0;
}

/* --- one layer -------------------------------------------------------------------------------- */

static void note_why(struct step *s)
{
	const char *below = s->i && s->p->layers[s->i - 1].state == PULL_UNPACKED
				    ? "the layer below is not lazy"
				    : "it is in no lazy format that can be had";

	snprintf(s->layer->why, sizeof(s->layer->why), "%s", below);
}

may_suspend static int try_register(struct step *s, struct err *err)
{
	Fl__MountsResponse *mounts = NULL;
	Fl__Info *info = NULL;
	struct err why = ERR_INIT;
	int r = stat(s, &info, &why);

	if (r == 0)
		return found(s, info, true, err);
	for (int i = 0; i < PULL_PREPARES && r == -ENOENT; i++) {
		why = ERR_INIT;
		s->key = arena_printf(&s->arena, "extract-%" PRIu64 "-%04x %s",
				      (uint64_t)wall_now_ns(), (unsigned)s->i & 0xffff, s->chain);
		if (!s->key)
			return err_set(err, -ENOMEM, "out of memory");
		if (s->p->ordinary == s->p->layers_n)
			s->layer->state = PULL_FETCHING; /* its index */
		pull_changed(s->p);
		r = prepare(s, &mounts, &why);
		if (r == 0) {
			note_why(s);
			r = unpack(s, mounts, err);
			if (r < 0)
				remove_key(s);
			return r;
		}
		if (r == -EEXIST)
			r = stat(s, &info, &why);
		if (r == 0)
			return found(s, info, false, err);
	}
	return err_set(err, r, "%s", err_text(&why, r));
}

/* containerd has a record of the layer whose data we have not (one of us was killed): it says that
 * it is there, and then that it is not. The record goes, unless others hang on it. */
may_suspend static int drop_record(struct step *s)
{
	Fl__KeyRequest q = FL__KEY_REQUEST__INIT;

	q.snapshotter = z(s->p->op->options.snapshotter);
	q.key = s->chain;
	return call(s, "Remove", &q.base, NULL, NULL, NULL);
}

may_suspend static int register_layer(struct step *s, struct err *err)
{
	int r = try_register(s, err);

	return r == -ENOENT && drop_record(s) == 0 ? try_register(s, err) : r;
}

may_suspend int pull_layers(struct pull *p, struct err *err)
{
	int r = 0;

	for (size_t i = 0; i < p->layers_n && r == 0; i++) {
		struct step s = {.p = p, .i = i, .layer = &p->layers[i]};

		arena_init(&s.arena, CONTAINERD_MESSAGE_MEMORY);
		digest_text(&p->layers[i].chain, s.chain);
		if (i)
			digest_text(&p->layers[i - 1].chain, s.parent);
		r = make_labels(&s, err);
		if (r == 0)
			r = register_layer(&s, err);
		arena_fini(&s.arena);
	}
	return r;
}

may_suspend bool pull_is_whole(struct pull *p)
{
	struct step s = {.p = p, .i = p->layers_n - 1};
	Fl__Info *info;
	int r;

	if (!p->layers_n)
		return true;
	arena_init(&s.arena, CONTAINERD_MESSAGE_MEMORY);
	digest_text(&p->layers[s.i].chain, s.chain);
	r = stat(&s, &info, NULL);
	arena_fini(&s.arena);
	return r != -ENOENT;
}
