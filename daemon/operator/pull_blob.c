// SPDX-License-Identifier: Apache-2.0
/*
 * Layers that are unpacked: their bytes go from the registry into containerd's content store,
 * several layers at once, piece by piece, so that memory is bounded: while one piece is written the
 * next is on its way. What an earlier try has brought is not fetched again. Loop thread.
 */
#include <stdlib.h>

#include "base/limits.h"
#include "image/registry.h"
#include "operator/pull.h"

#include "base/banned.h"

struct piece {
	struct blob *blob;
	struct buf bytes;
	uint64_t off, len;
	bool running, here;
	int result;
	struct err err;
};

struct blob {
	struct pull *p;
	struct pull_layer *layer;
	size_t i;
	struct scope scope; /* of pieces */
	struct piece pieces[PULL_PIECES];
	struct waitq changed;
};

static int piece_data(void *arg, uint64_t off, const void *data, size_t n)
{
	struct piece *pc = arg;

	if (off != pc->off + pc->bytes.len || n > pc->len - pc->bytes.len)
		return -EPROTO;
	pc->blob->layer->bytes += n;
	pull_changed(pc->blob->p);
	return buf_append(&pc->bytes, data, n);
}

may_suspend static int piece_task(void *arg)
{
	struct piece *pc = arg;
	struct blob *b = pc->blob;
	struct blob_request q = {.ref = str_of(b->p->name),
				 .digest = b->layer->digest,
				 .off = pc->off,
				 .len = pc->len,
				 .class = FETCH_DEMAND,
				 .on_data = piece_data,
				 .arg = pc};
	struct blob_answer answer;

	pc->err = ERR_INIT;
	pc->result = buf_reserve(&pc->bytes, pc->len);
	if (pc->result == 0)
		pc->result = registry_blob(b->p->registry, &q, &answer, &pc->err);
	pc->running = false;
	pc->here = true;
	waitq_wake_all(&b->changed);
	return 0;
}

static int piece_start(struct blob *b, struct piece *pc, uint64_t off)
{
	uint64_t left = b->layer->size - off;

	pc->blob = b;
	pc->off = off;
	pc->len = left < PULL_PIECE ? left : PULL_PIECE;
	pc->bytes.len = 0;
	pc->here = false;
	pc->running = true;
	return scope_spawn(&b->scope, piece_task, pc, NULL);
}

may_suspend static int piece_put(struct containerd_writer *w, const struct piece *pc,
				 struct err *err)
{
	size_t at = 0;
	int r = 0;

	while (r == 0 && at < pc->bytes.len) {
		size_t n = pc->bytes.len - at;

		n = n < CONTAINERD_WRITE_MAX ? n : CONTAINERD_WRITE_MAX;
		r = containerd_writer_put(w, pc->bytes.data + at, n, err);
		at += n;
	}
	return r;
}

/* In order; the pieces take turns. */
may_suspend static int copy_all(struct blob *b, struct containerd_writer *w, struct err *err)
{
	uint64_t next = w->offset, size = b->layer->size;
	int r = 0;

	for (size_t i = 0; i < PULL_PIECES && next < size && r == 0; i++) {
		r = piece_start(b, &b->pieces[i], next);
		next += b->pieces[i].len;
	}
	if (r < 0)
		return err_errno(err, r, "start a download");
	for (size_t i = 0; w->offset < size && r == 0; i = (i + 1) % PULL_PIECES) {
		struct piece *pc = &b->pieces[i];

		while (!pc->here && r == 0)
			r = waitq_wait(&b->changed);
		if (r < 0)
			return err_set(err, r, "cancelled");
		if (pc->result < 0)
			return err_set(err, pc->result, "%s", err_text(&pc->err, pc->result));
		r = piece_put(w, pc, err);
		if (r == 0 && next < size) {
			r = piece_start(b, pc, next);
			next += pc->len;
			if (r < 0)
				err_errno(err, r, "start a download");
		}
	}
	return r;
}

/* What was there is not what it should be: the next try starts at its beginning. */
may_suspend static void drop_ingest(struct pull *p, const char *ref)
{
	Ctrd__AbortRequest q = CTRD__ABORT_REQUEST__INIT;

	q.ref = (char *)(uintptr_t)ref;
	containerd_call(p->op->containerd, &p->at, "content.v1.Content", "Abort", &q.base, NULL, 0,
			NULL, NULL, NULL);
}

may_suspend static int write_blob(struct blob *b, const char *ref, struct err *err)
{
	Fl__Label *source = pull_source_label(b->p);
	struct containerd_writer w;
	int r;

	if (!source)
		return err_set(err, -ENOMEM, "out of memory");
	r = containerd_writer_open(b->p->op->containerd, &b->p->at, ref, &b->layer->digest,
				   b->layer->size, &w, err);
	if (r == -EEXIST)
		return containerd_content_label(b->p->op->containerd, &b->p->at, &b->layer->digest,
						&source, 1, err);
	if (r < 0)
		return r;
	b->layer->bytes = w.offset;
	if (b->p->offline && w.offset < b->layer->size)
		r = err_set(err, -ENOENT, "it is not in containerd's content store");
	else
		r = copy_all(b, &w, err);
	scope_cancel(&b->scope);
	scope_wait(&b->scope);
	if (r == 0)
		r = containerd_writer_commit(&w, &b->layer->digest, &source, 1, err);
	containerd_writer_end(&w);
	if (r == -EBUSY) /* FailedPrecondition: size or digest */
		drop_ingest(b->p, ref);
	return r;
}

may_suspend static int blob_run(struct blob *b, struct err *err)
{
	char digest[DIGEST_TEXT_SIZE];
	const char *ref;
	int r;

	digest_text(&b->layer->digest, digest);
	ref = arena_printf(&b->p->arena, "layer-%s", digest);
	if (!ref)
		return err_set(err, -ENOMEM, "out of memory");
	r = write_blob(b, ref, err);
	return r < 0 ? err_wrap(err, r, "layer %zu", b->i) : 0;
}

may_suspend static int blob_task(void *arg)
{
	struct blob *b = arg;
	struct pull *p = b->p;
	struct err err = ERR_INIT;
	int r = 0;

	while (r == 0 && p->blobs_running >= PULL_BLOBS_MAX)
		r = waitq_wait(&p->changed);
	if (r == 0) {
		p->blobs_running++;
		r = blob_run(b, &err);
		p->blobs_running--;
	}
	if (r == 0) {
		b->layer->bytes = b->layer->size;
		b->layer->stored = true;
	} else if (p->blob_result == 0) {
		p->blob_result = r;
		err_set(&p->blob_err, r, "%s", err_text(&err, r));
	}
	for (size_t i = 0; i < PULL_PIECES; i++)
		buf_fini(&b->pieces[i].bytes);
	scope_fini(&b->scope);
	free(b);
	pull_changed(p);
	return 0;
}

int pull_blobs_start(struct pull *p, size_t from, struct err *err)
{
	int r = 0;

	for (size_t i = from; i < p->layers_n && r == 0; i++) {
		struct blob *b = calloc(1, sizeof(*b));

		if (!b)
			return err_set(err, -ENOMEM, "out of memory");
		b->p = p;
		b->i = i;
		b->layer = &p->layers[i];
		scope_init(&b->scope, p->op->loop);
		waitq_init(&b->changed);
		b->layer->state = PULL_FETCHING;
		r = scope_spawn(&p->blobs, blob_task, b, NULL);
		if (r < 0) {
			scope_fini(&b->scope);
			free(b);
		}
	}
	return r < 0 ? err_errno(err, r, "start a download") : 0;
}

may_suspend int pull_blob_wait(struct pull *p, size_t i, struct err *err)
{
	int r = 0;

	while (r == 0 && p->blob_result == 0 && !p->layers[i].stored)
		r = waitq_wait(&p->changed);
	if (r < 0)
		return err_set(err, r, "cancelled");
	return p->layers[i].stored
		       ? 0
		       : err_set(err, p->blob_result, "%s", err_text(&p->blob_err, p->blob_result));
}
