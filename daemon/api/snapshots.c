// SPDX-License-Identifier: Apache-2.0
/*
 * The snapshots service: request bytes to calls of snap/, results to response bytes. Every request
 * is decoded into an arena with a cap, so that no message can cost more than that. Loop thread;
 * each call is a task.
 */
#include "api/snapshots.h"

#include <stdlib.h>
#include <string.h>

#include "api/request.h"
#include "base/limits.h"
#include "proto/snapshots.pb-c.h"

#include "base/banned.h"

#define SERVICE "/containerd.services.snapshots.v1.Snapshots/"

/* --- labels ----------------------------------------------------------------------------------- */

static int by_key(const void *a, const void *b)
{
	return str_cmp(((const struct label *)a)->key, ((const struct label *)b)->key);
}

/* Ordered; of a key that comes twice the last value counts, as in every protobuf map. */
static int labels_in(struct request *q, Fl__Label **in, size_t n, bool keep_empty,
		     struct label **ret, size_t *ret_n)
{
	struct label *out = arena_alloc(&q->arena, (n + 1) * sizeof(*out));
	size_t m = 0;

	if (!out)
		return err_set(q->err, -ENOMEM, "out of memory");
	if (n > LABELS_MAX)
		return err_set(q->err, -EINVAL, "%zu labels; at most %d are allowed", n,
			       LABELS_MAX);
	for (size_t i = 0; i < n; i++) {
		struct label l = {str_of(in[i]->key), str_of(in[i]->value)};
		size_t j = 0;

		while (j < m && !str_eq(out[j].key, l.key))
			j++;
		out[j] = l;
		m += j == m;
	}
	if (m)
		qsort(out, m, sizeof(*out), by_key);
	*ret_n = 0;
	for (size_t i = 0; i < m; i++) {
		if (keep_empty || out[i].value.len) /* an empty value is not stored */
			out[(*ret_n)++] = out[i];
	}
	*ret = out;
	return 0;
}

/* --- answers ---------------------------------------------------------------------------------- */

may_suspend static int answer_info(struct request *q, const struct snap_info *in)
{
	Fl__InfoResponse o = FL__INFO_RESPONSE__INIT;

	o.info = request_info(q, in);
	if (!o.info)
		return err_set(q->err, -ENOMEM, "out of memory");
	return request_answer(q, &o.base);
}

may_suspend static int answer_mount(struct request *q, const struct mount_answer *m)
{
	Fl__MountsResponse o = FL__MOUNTS_RESPONSE__INIT;
	Fl__Mount mount = FL__MOUNT__INIT, *list = &mount;

	request_mount(m, &mount);
	o.mounts = &list;
	o.n_mounts = 1;
	return request_answer(q, &o.base);
}

/* --- the methods ------------------------------------------------------------------------------ */

may_suspend static enum grpc_code create(struct grpc_call *call, void *arg, enum snapshot_kind kind,
					 struct err *err)
{
	auto_request struct request q;
	Fl__PrepareRequest *in;
	struct mount_answer m;
	struct label *labels;
	size_t n;
	int r;

	request_init(&q, call, arg, err);
	r = request_read(&q, &fl__prepare_request__descriptor, &in);
	if (r == 0)
		r = labels_in(&q, in->labels, in->n_labels, false, &labels, &n);
	if (r == 0)
		r = snaps_prepare(q.svc->snaps, kind, str_of(in->key), str_of(in->parent), labels,
				  n, &q.arena, &m, err);
	if (r == 0)
		r = answer_mount(&q, &m);
	return request_code(r);
}

may_suspend static enum grpc_code serve_prepare(struct grpc_call *call, void *arg, struct err *err)
{
	return create(call, arg, SNAPSHOT_ACTIVE, err);
}

may_suspend static enum grpc_code serve_view(struct grpc_call *call, void *arg, struct err *err)
{
	return create(call, arg, SNAPSHOT_VIEW, err);
}

may_suspend static enum grpc_code serve_mounts(struct grpc_call *call, void *arg, struct err *err)
{
	auto_request struct request q;
	Fl__KeyRequest *in;
	struct mount_answer m;
	int r;

	request_init(&q, call, arg, err);
	r = request_read(&q, &fl__key_request__descriptor, &in);
	if (r == 0)
		r = snaps_mounts(q.svc->snaps, str_of(in->key), &q.arena, &m, err);
	if (r == 0)
		r = answer_mount(&q, &m);
	return request_code(r);
}

may_suspend static enum grpc_code serve_commit(struct grpc_call *call, void *arg, struct err *err)
{
	auto_request struct request q;
	Fl__CommitRequest *in;
	struct label *labels;
	size_t n;
	int r;

	request_init(&q, call, arg, err);
	r = request_read(&q, &fl__commit_request__descriptor, &in);
	if (r == 0)
		r = labels_in(&q, in->labels, in->n_labels, false, &labels, &n);
	if (r == 0)
		r = snaps_commit(q.svc->snaps, str_of(in->name), str_of(in->key),
				 str_of(in->parent), labels, n, err);
	if (r == 0)
		r = request_answer_empty(&q);
	return request_code(r);
}

may_suspend static enum grpc_code serve_remove(struct grpc_call *call, void *arg, struct err *err)
{
	auto_request struct request q;
	Fl__KeyRequest *in;
	int r;

	request_init(&q, call, arg, err);
	r = request_read(&q, &fl__key_request__descriptor, &in);
	if (r == 0)
		r = snaps_remove(q.svc->snaps, str_of(in->key), err);
	if (r == 0)
		r = request_answer_empty(&q);
	return request_code(r);
}

may_suspend static enum grpc_code serve_stat(struct grpc_call *call, void *arg, struct err *err)
{
	auto_request struct request q;
	Fl__KeyRequest *in;
	struct snap_info info;
	int r;

	request_init(&q, call, arg, err);
	r = request_read(&q, &fl__key_request__descriptor, &in);
	if (r == 0)
		r = snaps_stat(q.svc->snaps, str_of(in->key), &q.arena, &info, err);
	if (r == 0)
		r = answer_info(&q, &info);
	return request_code(r);
}

may_suspend static enum grpc_code serve_update(struct grpc_call *call, void *arg, struct err *err)
{
	auto_request struct request q;
	Fl__UpdateRequest *in;
	struct snap_info info;
	struct label *labels;
	struct str *paths = NULL;
	size_t n, paths_n = 0;
	int r;

	request_init(&q, call, arg, err);
	r = request_read(&q, &fl__update_request__descriptor, &in);
	if (r == 0 && !in->info)
		r = err_set(err, -EINVAL, "the request has no info");
	if (r == 0)
		r = labels_in(&q, in->info->labels, in->info->n_labels, true, &labels, &n);
	if (r == 0 && in->update_mask) {
		paths_n = in->update_mask->n_paths;
		paths = arena_alloc(&q.arena, (paths_n + 1) * sizeof(*paths));
		if (!paths)
			r = err_set(err, -ENOMEM, "out of memory");
		for (size_t i = 0; r == 0 && i < paths_n; i++)
			paths[i] = str_of(in->update_mask->paths[i]);
	}
	if (r == 0)
		r = snaps_update(q.svc->snaps, str_of(in->info->name), labels, n, paths, paths_n,
				 &q.arena, &info, err);
	if (r == 0)
		r = answer_info(&q, &info);
	return request_code(r);
}

/* The next block as a message, which replaces what out holds. How many snapshots, 0 = the end. */
may_suspend static int list_block(struct request *q, struct snaps_walk *walk,
				  struct snap_info *infos, struct buf *out)
{
	auto_request struct request block; /* memory of one block */
	Fl__ListResponse o = FL__LIST_RESPONSE__INIT;
	Fl__Info *list[LIST_BLOCK];
	size_t len;
	int n;

	request_init(&block, q->call, q->svc->snaps, q->err);
	block.arena.max = SIZE_MAX / 2; /* LIST_BLOCK records, each of bounded size */
	n = snaps_walk_next(q->svc->snaps, walk, &block.arena, infos, q->err);
	if (task_cancelled())
		return err_errno(q->err, -ECANCELED, "list");
	for (int i = 0; i < n; i++) {
		list[i] = request_info(&block, &infos[i]);
		if (!list[i])
			return err_set(q->err, -ENOMEM, "out of memory");
	}
	if (n <= 0)
		return n;
	o.info = list;
	o.n_info = (size_t)n;
	len = protobuf_c_message_get_packed_size(&o.base);
	out->len = 0;
	if (buf_reserve(out, len) < 0)
		return err_set(q->err, -ENOMEM, "out of memory");
	out->len = protobuf_c_message_pack(&o.base, out->data);
	return n;
}

/* While a client does not take the list, only its next message is kept. */
may_suspend static int list_send(struct request *q, struct snaps_walk *walk,
				 struct snap_info *infos)
{
	int n, r = 0;

	while (r == 0 && (n = list_block(q, walk, infos, &q->bytes)) != 0) {
		if (n < 0)
			return n;
		r = grpc_send(q->call, q->bytes.data, q->bytes.len);
		if (r < 0)
			err_errno(q->err, r, "send the answer");
	}
	return r;
}

may_suspend static enum grpc_code serve_list(struct grpc_call *call, void *arg, struct err *err)
{
	auto_request struct request q;
	auto_filter struct filter *filter = NULL;
	struct snaps_walk *walk = NULL;
	struct snap_info *infos = NULL;
	struct str *exprs;
	Fl__ListRequest *in;
	int r;

	request_init(&q, call, arg, err);
	r = request_read(&q, &fl__list_request__descriptor, &in);
	if (r < 0)
		return request_code(r);
	exprs = arena_alloc(&q.arena, (in->n_filters + 1) * sizeof(*exprs));
	infos = arena_alloc(&q.arena, LIST_BLOCK * sizeof(*infos));
	if (!exprs || !infos)
		return request_code(err_set(err, -ENOMEM, "out of memory"));
	for (size_t i = 0; i < in->n_filters; i++)
		exprs[i] = str_of(in->filters[i]);
	r = filter_parse(&filter, exprs, in->n_filters, err);
	if (r == 0)
		r = snaps_walk_new(q.svc->snaps, filter, &walk, err);
	if (r == 0)
		r = list_send(&q, walk, infos);
	snaps_walk_free(walk);
	return request_code(r);
}

may_suspend static enum grpc_code serve_usage(struct grpc_call *call, void *arg, struct err *err)
{
	auto_request struct request q;
	Fl__UsageResponse o = FL__USAGE_RESPONSE__INIT;
	struct tree_usage usage;
	Fl__KeyRequest *in;
	int r;

	request_init(&q, call, arg, err);
	r = request_read(&q, &fl__key_request__descriptor, &in);
	if (r == 0)
		r = snaps_usage(q.svc->snaps, str_of(in->key), &usage, err);
	if (r == 0) {
		o.size = usage.size;
		o.inodes = usage.inodes;
		r = request_answer(&q, &o.base);
	}
	return request_code(r);
}

may_suspend static enum grpc_code serve_cleanup(struct grpc_call *call, void *arg, struct err *err)
{
	auto_request struct request q;
	Fl__KeyRequest *in;
	int r;

	request_init(&q, call, arg, err);
	r = request_read(&q, &fl__key_request__descriptor, &in);
	if (r == 0) {
		snaps_cleanup(q.svc->snaps);
		r = request_answer_empty(&q);
	}
	return request_code(r);
}

const struct grpc_method *snapshots_methods(size_t *ret_n)
{
	static const struct grpc_method methods[] = {
		{SERVICE "Prepare", serve_prepare, false},
		{SERVICE "View", serve_view, false},
		{SERVICE "Mounts", serve_mounts, false},
		{SERVICE "Commit", serve_commit, false},
		{SERVICE "Remove", serve_remove, false},
		{SERVICE "Stat", serve_stat, false},
		{SERVICE "Update", serve_update, false},
		{SERVICE "List", serve_list, false},
		{SERVICE "Usage", serve_usage, false},
		{SERVICE "Cleanup", serve_cleanup, false},
	};

	*ret_n = array_size(methods);
	return methods;
}
