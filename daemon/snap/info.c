// SPDX-License-Identifier: Apache-2.0
/*
 * What is told of snapshots, and the change of their labels: stat, update, walk. Owns nothing;
 * labels and times are read from the store each time. Loop thread.
 */
#include "snap/snap.h"

#include <stdlib.h>
#include <string.h>

#include "base/limits.h"
#include "snap/tree.h"

#include "base/banned.h"

#define LABEL_UPPERDIR STR("containerd.io/snapshot/overlay.upperdir")

/* The answer points into name and value. */
static int info_decode(struct snaps *s, struct str name, struct str value, struct arena *a,
		       struct snap_info *ret, struct err *err)
{
	struct label *labels;
	size_t at = 0;
	char *upper;
	int r;

	ret->name = name;
	r = record_decode(value, a, &ret->record, err);
	if (r < 0 || !s->options.upperdir_label)
		return r;
	upper = arena_printf(a, "%s/%" PRIu64 "/fs", s->dir, ret->record.id);
	labels = arena_alloc(a, (ret->record.labels_n + 1) * sizeof(*labels));
	if (!upper || !labels)
		return err_set(err, -ENOMEM, "out of memory");
	for (size_t i = 0; i < ret->record.labels_n; i++) {
		if (str_eq(ret->record.labels[i].key, LABEL_UPPERDIR))
			continue;
		if (at == i && str_cmp(ret->record.labels[i].key, LABEL_UPPERDIR) > 0)
			labels[at++] = (struct label){LABEL_UPPERDIR, str_of(upper)};
		labels[at++] = ret->record.labels[i];
	}
	if (at == ret->record.labels_n && !label_find(labels, at, LABEL_UPPERDIR))
		labels[at++] = (struct label){LABEL_UPPERDIR, str_of(upper)};
	ret->record.labels = labels;
	ret->record.labels_n = at;
	return 0;
}

/* The answer lives in a. */
static int info_copy(struct snaps *s, struct str name, struct str value, struct arena *a,
		     struct snap_info *ret, struct err *err)
{
	const char *n = arena_strndup(a, name.p, name.len);
	const char *v = arena_strndup(a, value.p, value.len);

	if (!n || !v)
		return err_set(err, -ENOMEM, "out of memory");
	return info_decode(s, (struct str){n, name.len}, (struct str){v, value.len}, a, ret, err);
}

may_suspend int snaps_stat(struct snaps *s, struct str key, struct arena *a, struct snap_info *ret,
			   struct err *err)
{
	auto_buf struct buf value = BUF_INIT;
	int r = meta_get(s->meta, key, &value, err);

	if (r == -ENOENT)
		return snap_not_found(key, err);
	if (r < 0)
		return r;
	return info_copy(s, key, (struct str){(char *)value.data, value.len}, a, ret, err);
}

static int by_key(const void *a, const void *b)
{
	return str_cmp(((const struct label *)a)->key, ((const struct label *)b)->key);
}

/* One label set, replaced or (empty value) taken out. */
static void label_set(struct label *labels, size_t *n, struct str key, struct str value)
{
	const struct label *there = label_find(labels, *n, key);
	size_t i = there ? (size_t)(there - labels) : *n;

	if (!value.len) {
		if (there)
			memmove(&labels[i], &labels[i + 1], (--*n - i) * sizeof(*labels));
		return;
	}
	labels[i] = (struct label){key, value};
	if (!there) {
		++*n;
		qsort(labels, *n, sizeof(*labels), by_key);
	}
}

/* Applies an update mask (containerd core/snapshots/storage/bolt.go, UpdateInfo). */
static int update_labels(const struct record *old, const struct label *labels, size_t labels_n,
			 const struct str *paths, size_t paths_n, struct arena *a,
			 struct record *ret, struct err *err)
{
	const struct str prefix = STR("labels.");
	struct label *out = arena_alloc(a, (old->labels_n + labels_n + paths_n + 1) * sizeof(*out));
	const struct label *l;
	size_t n = 0;

	if (!out)
		return err_set(err, -ENOMEM, "out of memory");
	for (; paths_n && n < old->labels_n; n++)
		out[n] = old->labels[n];
	for (size_t i = 0; i < paths_n || (i == 0 && !paths_n); i++) {
		if (!paths_n || str_eq(paths[i], STR("labels"))) {
			n = 0;
			for (size_t j = 0; j < labels_n; j++)
				label_set(out, &n, labels[j].key, labels[j].value);
		} else if (str_starts(paths[i], prefix) && paths[i].len > prefix.len) {
			struct str key = {paths[i].p + prefix.len, paths[i].len - prefix.len};

			l = label_find(labels, labels_n, key);
			label_set(out, &n, key, l ? l->value : (struct str){0});
		} else {
			return err_set(err, -EINVAL, "cannot update " STR_FMT, STR_ARG(paths[i]));
		}
	}
	ret->labels = out;
	ret->labels_n = n;
	return labels_check(out, n, err);
}

may_suspend static int update_write(struct snaps *s, struct str key, struct snap_info *info,
				    struct err *err)
{
	auto_buf struct buf value = BUF_INIT;
	struct meta_change c = {0};

	info->record.updated_ns = wall_now_ns();
	if (record_encode(&info->record, &value) < 0)
		return err_set(err, -ENOMEM, "out of memory");
	change_put(&c, key, &value);
	return meta_commit(s->meta, &c, err);
}

may_suspend int snaps_update(struct snaps *s, struct str key, const struct label *labels,
			     size_t labels_n, const struct str *paths, size_t paths_n,
			     struct arena *a, struct snap_info *ret, struct err *err)
{
	struct snap_info info = {0};
	struct snap *sn = NULL;
	int r = labels_check(labels, labels_n, err);

	if (r == 0 && paths_n > LABELS_MAX)
		r = err_set(err, -EINVAL, "%zu mask paths; at most %d are allowed", paths_n,
			    LABELS_MAX);
	if (r == 0)
		r = snap_settled(s, key, &sn, err);
	if (r < 0)
		return r;
	if (!sn)
		return snap_not_found(key, err);
	sn->state = SNAP_CHANGING;
	r = snaps_stat(s, key, a, &info, err);
	if (r == 0)
		r = update_labels(&info.record, labels, labels_n, paths, paths_n, a, &info.record,
				  err);
	if (r == 0)
		r = update_write(s, key, &info, err);
	if (r == 0)
		sn->idmapped = has_idmap(info.record.labels, info.record.labels_n);
	if (r == 0 && ref_set(s, sn, info.record.labels, info.record.labels_n) < 0)
		r = err_set(err, -ENOMEM, "out of memory");
	snap_settle(s, sn);
	if (r == 0)
		*ret = info;
	return r;
}

static struct str kind_name(enum snapshot_kind kind)
{
	return kind == SNAPSHOT_ACTIVE ? STR("active")
	       : kind == SNAPSHOT_VIEW ? STR("view")
				       : STR("committed");
}

/* 1 = the filter takes it, 0 = it does not. */
static int is_listed(struct snaps *s, struct str name, struct str value, const struct filter *f,
		     struct arena *scratch, struct err *err)
{
	struct snap_info info;
	int r;

	if (!f)
		return 1;
	arena_reset(scratch);
	r = info_decode(s, name, value, scratch, &info, err);
	if (r < 0)
		return r;
	struct filter_subject subject = {info.name, info.record.parent, kind_name(info.record.kind),
					 info.record.labels, info.record.labels_n};

	return filter_match(f, &subject);
}

/* All records, or those of the names that can match. */
struct snaps_walk {
	const struct filter *filter;
	struct meta_walk *all;
	struct arena names_memory;
	struct str *names;
	size_t names_n, next;
};

/* Those of a reference: containerd asks for them once a lazy layer. */
static int walk_by_ref(struct snaps *s, struct str ref, struct snaps_walk *w, struct err *err)
{
	struct map_node *n = map_get(&s->refs, ref);
	struct list *head = n ? &container_of(n, struct snap_ref, node)->snaps : NULL;
	size_t count = 0;

	for (struct list *it = head ? head->next : NULL; it != head; it = it->next)
		count++;
	w->names = arena_alloc(&w->names_memory, (count + 1) * sizeof(*w->names));
	for (struct list *it = head ? head->next : NULL; w->names && it != head; it = it->next) {
		struct str name = snap_name(container_of(it, struct snap, ref_link));
		char *copy = arena_strndup(&w->names_memory, name.p, name.len);

		if (!copy)
			return err_set(err, -ENOMEM, "out of memory");
		w->names[w->names_n++] = (struct str){copy, name.len};
	}
	return w->names ? 0 : err_set(err, -ENOMEM, "out of memory");
}

may_suspend int snaps_walk_new(struct snaps *s, const struct filter *f,
			       struct snaps_walk **ret_walk, struct err *err)
{
	struct snaps_walk *w = calloc(1, sizeof(*w));
	struct str ref;
	int r;

	if (!w)
		return err_set(err, -ENOMEM, "out of memory");
	w->filter = f;
	arena_init(&w->names_memory, SIZE_MAX / 2); /* no more than the names that are there */
	r = f && filter_wants_label(f, LABEL_REF, &ref) ? walk_by_ref(s, ref, w, err)
							: meta_walk_new(s->meta, &w->all, err);
	if (r < 0) {
		snaps_walk_free(w);
		return r;
	}
	*ret_walk = w;
	return 0;
}

may_suspend void snaps_walk_free(struct snaps_walk *w)
{
	if (!w)
		return;
	meta_walk_free(w->all);
	arena_fini(&w->names_memory);
	free(w);
}

/* The next records, whether they match or not. */
may_suspend static int walk_names(struct snaps *s, struct snaps_walk *w, struct arena *a,
				  struct snap_info *ret_infos, struct arena *scratch,
				  struct err *err)
{
	auto_buf struct buf value = BUF_INIT;
	int found = 0, r = 0;

	for (; found < LIST_BLOCK && w->next < w->names_n; w->next++) {
		struct str name = w->names[w->next];

		r = meta_get(s->meta, name, &value, err);
		if (r == -ENOENT) /* gone, or not durable yet */
			continue;
		if (r == 0)
			r = is_listed(s, name, (struct str){(char *)value.data, value.len},
				      w->filter, scratch, err);
		if (r > 0)
			r = info_copy(s, name, (struct str){(char *)value.data, value.len}, a,
				      &ret_infos[found++], err);
		if (r < 0)
			return r;
	}
	return found;
}

may_suspend static int walk_all(struct snaps *s, struct snaps_walk *w, struct arena *a,
				struct snap_info *ret_infos, struct arena *scratch, struct err *err)
{
	const struct meta_entry *e;
	int found = 0, n, r = 0;

	while (found == 0 && (n = meta_walk_next(w->all, &e, err)) != 0) {
		if (n < 0)
			return n;
		for (int i = 0; i < n && r >= 0; i++) {
			r = is_listed(s, e[i].name, e[i].value, w->filter, scratch, err);
			if (r > 0)
				r = info_copy(s, e[i].name, e[i].value, a, &ret_infos[found++],
					      err);
		}
		if (r < 0)
			return r;
	}
	return found;
}

may_suspend int snaps_walk_next(struct snaps *s, struct snaps_walk *w, struct arena *a,
				struct snap_info *ret_infos, struct err *err)
{
	auto_arena struct arena scratch;

	arena_init(&scratch, LABELS_BYTES_MAX);
	return w->all ? walk_all(s, w, a, ret_infos, &scratch, err)
		      : walk_names(s, w, a, ret_infos, &scratch, err);
}
