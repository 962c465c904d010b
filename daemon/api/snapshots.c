// SPDX-License-Identifier: Apache-2.0
/*
 * The snapshots service: request bytes to calls of snap/, results to response bytes. Every request
 * is decoded into an arena with a cap, so that no message can cost more than that. Loop thread;
 * each call is a task.
 */
#include "api/snapshots.h"

#include <stdlib.h>
#include <string.h>

#include "base/limits.h"
#include "net/grpc.h"
#include "proto/snapshots.pb-c.h"
#include "snap/snap.h"

#include "base/banned.h"

#define REQUEST_MEMORY_MAX (4 * GRPC_MESSAGE_IN_MAX)
#define SERVICE            "/containerd.services.snapshots.v1.Snapshots/"

/* One call: its memory and the answer. */
struct request {
	struct grpc_call *call;
	struct snaps *snaps;
	struct arena arena;
	ProtobufCAllocator allocator;
	struct buf bytes;
	struct err *err;
};

static enum grpc_code code_of(int r)
{
	switch (r) {
	case 0:
		return GRPC_OK;
	case -EINVAL:
	case -E2BIG:
		return GRPC_INVALID_ARGUMENT;
	case -ENOENT:
		return GRPC_NOT_FOUND;
	case -EEXIST:
		return GRPC_ALREADY_EXISTS;
	case -EBUSY:
		return GRPC_FAILED_PRECONDITION;
	case -EPERM:
	case -EACCES:
		return GRPC_PERMISSION_DENIED;
	case -ENOSPC:
	case -EDQUOT:
	case -ENOMEM:
	case -EAGAIN:
	case -EMFILE:
	case -ENFILE:
	case -EMSGSIZE:
		return GRPC_RESOURCE_EXHAUSTED;
	case -EBADMSG:
		return GRPC_DATA_LOSS;
	case -ECANCELED:
		return GRPC_CANCELLED;
	case -ETIMEDOUT:
		return GRPC_DEADLINE_EXCEEDED;
	case -EIO:
	case -ECONNRESET:
		return GRPC_UNAVAILABLE;
	default:
		return GRPC_INTERNAL;
	}
}

static void *request_alloc(void *arg, size_t n)
{
	return arena_alloc(arg, n);
}

static void request_free(void *arg, void *p)
{
	(void)arg, (void)p; /* all at once, with the arena */
}

static void request_init(struct request *q, struct grpc_call *call, void *arg, struct err *err)
{
	*q = (struct request){.call = call, .snaps = arg, .err = err};
	arena_init(&q->arena, REQUEST_MEMORY_MAX);
	q->allocator = (ProtobufCAllocator){request_alloc, request_free, &q->arena};
}

static void request_fini(struct request *q)
{
	buf_fini(&q->bytes);
	arena_fini(&q->arena);
}
#define auto_request cleanup(request_fini)

/* The call's one message as type; strings live in the arena. */
may_suspend static int request_read(struct request *q, const ProtobufCMessageDescriptor *type,
				    void *ret_message)
{
	int r = grpc_recv(q->call, &q->bytes);

	if (r == 0)
		return err_set(q->err, -EINVAL, "the call has no message");
	if (r < 0)
		return err_errno(q->err, r, "receive the request");
	*(void **)ret_message =
		protobuf_c_message_unpack(type, &q->allocator, q->bytes.len, q->bytes.data);
	if (!*(void **)ret_message)
		return err_set(q->err, q->arena.used > q->arena.max / 2 ? -ENOMEM : -EINVAL,
			       "the request is not a valid %s", type->short_name);
	return 0;
}

may_suspend static int answer(struct request *q, const ProtobufCMessage *message)
{
	size_t len = protobuf_c_message_get_packed_size(message);
	uint8_t *bytes = arena_alloc(&q->arena, len + 1);
	int r;

	if (!bytes)
		return err_set(q->err, -ENOMEM, "out of memory");
	protobuf_c_message_pack(message, bytes);
	r = grpc_send(q->call, bytes, len);
	return r < 0 ? err_errno(q->err, r, "send the answer") : 0;
}

may_suspend static int answer_empty(struct request *q)
{
	int r = grpc_send(q->call, "", 0);

	return r < 0 ? err_errno(q->err, r, "send the answer") : 0;
}

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

static Fl__Timestamp *time_out(struct request *q, int64_t ns)
{
	Fl__Timestamp *t = arena_alloc(&q->arena, sizeof(*t));

	if (!t)
		return NULL;
	fl__timestamp__init(t);
	t->seconds = ns / 1000000000;
	t->nanos = (int32_t)(ns % 1000000000);
	if (t->nanos < 0) {
		t->nanos += 1000000000;
		t->seconds--;
	}
	return t;
}

static char *text(struct request *q, struct str s)
{
	return arena_strndup(&q->arena, s.p, s.len);
}

static Fl__Info *info_out(struct request *q, const struct snap_info *in)
{
	Fl__Info *o = arena_alloc(&q->arena, sizeof(*o));
	Fl__Label *labels = arena_alloc(&q->arena, (in->record.labels_n + 1) * sizeof(*labels));
	Fl__Label **refs = arena_alloc(&q->arena, (in->record.labels_n + 1) * sizeof(*refs));

	if (!o || !labels || !refs)
		return NULL;
	fl__info__init(o);
	o->name = text(q, in->name);
	o->parent = text(q, in->record.parent);
	o->kind = (Fl__Kind)in->record.kind;
	o->created_at = time_out(q, in->record.created_ns);
	o->updated_at = time_out(q, in->record.updated_ns);
	if (!o->name || !o->parent || !o->created_at || !o->updated_at)
		return NULL;
	for (size_t i = 0; i < in->record.labels_n; i++) {
		fl__label__init(&labels[i]);
		labels[i].key = text(q, in->record.labels[i].key);
		labels[i].value = text(q, in->record.labels[i].value);
		if (!labels[i].key || !labels[i].value)
			return NULL;
		refs[i] = &labels[i];
	}
	o->labels = refs;
	o->n_labels = in->record.labels_n;
	return o;
}

may_suspend static int answer_info(struct request *q, const struct snap_info *in)
{
	Fl__InfoResponse o = FL__INFO_RESPONSE__INIT;

	o.info = info_out(q, in);
	if (!o.info)
		return err_set(q->err, -ENOMEM, "out of memory");
	return answer(q, &o.base);
}

may_suspend static int answer_mount(struct request *q, const struct mount_answer *m)
{
	Fl__MountsResponse o = FL__MOUNTS_RESPONSE__INIT;
	Fl__Mount mount = FL__MOUNT__INIT, *list = &mount;

	mount.type = m->type;
	mount.source = m->source;
	mount.options = (char **)m->options;
	mount.n_options = m->options_n;
	o.mounts = &list;
	o.n_mounts = 1;
	return answer(q, &o.base);
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
		r = snaps_prepare(q.snaps, kind, str_of(in->key), str_of(in->parent), labels, n,
				  &q.arena, &m, err);
	if (r == 0)
		r = answer_mount(&q, &m);
	return code_of(r);
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
		r = snaps_mounts(q.snaps, str_of(in->key), &q.arena, &m, err);
	if (r == 0)
		r = answer_mount(&q, &m);
	return code_of(r);
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
		r = snaps_commit(q.snaps, str_of(in->name), str_of(in->key), str_of(in->parent),
				 labels, n, err);
	if (r == 0)
		r = answer_empty(&q);
	return code_of(r);
}

may_suspend static enum grpc_code serve_remove(struct grpc_call *call, void *arg, struct err *err)
{
	auto_request struct request q;
	Fl__KeyRequest *in;
	int r;

	request_init(&q, call, arg, err);
	r = request_read(&q, &fl__key_request__descriptor, &in);
	if (r == 0)
		r = snaps_remove(q.snaps, str_of(in->key), err);
	if (r == 0)
		r = answer_empty(&q);
	return code_of(r);
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
		r = snaps_stat(q.snaps, str_of(in->key), &q.arena, &info, err);
	if (r == 0)
		r = answer_info(&q, &info);
	return code_of(r);
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
		r = snaps_update(q.snaps, str_of(in->info->name), labels, n, paths, paths_n,
				 &q.arena, &info, err);
	if (r == 0)
		r = answer_info(&q, &info);
	return code_of(r);
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

	request_init(&block, q->call, q->snaps, q->err);
	block.arena.max = SIZE_MAX / 2; /* LIST_BLOCK records, each of bounded size */
	n = snaps_walk_next(q->snaps, walk, &block.arena, infos, q->err);
	if (task_cancelled())
		return err_errno(q->err, -ECANCELED, "list");
	for (int i = 0; i < n; i++) {
		list[i] = info_out(&block, &infos[i]);
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
		return code_of(r);
	exprs = arena_alloc(&q.arena, (in->n_filters + 1) * sizeof(*exprs));
	infos = arena_alloc(&q.arena, LIST_BLOCK * sizeof(*infos));
	if (!exprs || !infos)
		return code_of(err_set(err, -ENOMEM, "out of memory"));
	for (size_t i = 0; i < in->n_filters; i++)
		exprs[i] = str_of(in->filters[i]);
	r = filter_parse(&filter, exprs, in->n_filters, err);
	if (r == 0)
		r = snaps_walk_new(q.snaps, filter, &walk, err);
	if (r == 0)
		r = list_send(&q, walk, infos);
	snaps_walk_free(walk);
	return code_of(r);
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
		r = snaps_usage(q.snaps, str_of(in->key), &usage, err);
	if (r == 0) {
		o.size = usage.size;
		o.inodes = usage.inodes;
		r = answer(&q, &o.base);
	}
	return code_of(r);
}

may_suspend static enum grpc_code serve_cleanup(struct grpc_call *call, void *arg, struct err *err)
{
	auto_request struct request q;
	Fl__KeyRequest *in;
	int r;

	request_init(&q, call, arg, err);
	r = request_read(&q, &fl__key_request__descriptor, &in);
	if (r == 0) {
		snaps_cleanup(q.snaps);
		r = answer_empty(&q);
	}
	return code_of(r);
}

const struct grpc_method *snapshots_methods(size_t *ret_n)
{
	static const struct grpc_method methods[] = {
		{SERVICE "Prepare", serve_prepare}, {SERVICE "View", serve_view},
		{SERVICE "Mounts", serve_mounts},   {SERVICE "Commit", serve_commit},
		{SERVICE "Remove", serve_remove},   {SERVICE "Stat", serve_stat},
		{SERVICE "Update", serve_update},   {SERVICE "List", serve_list},
		{SERVICE "Usage", serve_usage},     {SERVICE "Cleanup", serve_cleanup},
	};

	*ret_n = array_size(methods);
	return methods;
}
