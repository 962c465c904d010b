// SPDX-License-Identifier: Apache-2.0
/* The tree in memory, waiting for its elements, and what the verbs check first. Loop thread. */
#include "snap/tree.h"

#include <stdlib.h>
#include <string.h>

#include "base/limits.h"
#include "start/starts.h"

#include "base/banned.h"

struct snap *snap_new(struct str name, enum snapshot_kind kind, uint64_t id)
{
	struct snap *sn = calloc(1, sizeof(*sn) + name.len);

	if (!sn)
		return NULL;
	memcpy(sn + 1, name.p, name.len);
	sn->node.key = (struct str){(char *)(sn + 1), name.len};
	sn->kind = (uint8_t)kind;
	sn->id = id;
	return sn;
}

void snap_link(struct snaps *s, struct snap *sn, struct snap *parent)
{
	sn->parent = parent;
	sn->depth = parent ? parent->depth + 1 : 0;
	if (parent) {
		parent->children++;
		parent->lower = true;
	}
	map_put(&s->map, &sn->node);
	snap_count(s, sn, 1);
}

void snap_count(struct snaps *s, const struct snap *sn, int n)
{
	s->kinds[sn->kind & 3] += (uint64_t)(int64_t)n;
	if (sn->layer)
		s->lazy_n += (uint64_t)(int64_t)n;
}

void snap_free(struct snaps *s, struct snap *sn)
{
	ref_clear(s, sn);
	free(sn->run);
	free(sn);
}

void snap_drop(struct snaps *s, struct snap *sn)
{
	runs_release(s, sn);
	if (s->options.lazy.starts && sn->kind == SNAPSHOT_ACTIVE)
		starts_end(s->options.lazy.starts, sn->id);
	if (sn->parent)
		sn->parent->children--;
	map_del(&s->map, &sn->node);
	snap_count(s, sn, -1);
	s->runs_n -= sn->run && sn->run->state == RUN_MOUNTED;
	snap_free(s, sn);
	waitq_wake_all(&s->settled);
}

struct snap *snap_find(struct snaps *s, struct str name)
{
	struct map_node *n = map_get(&s->map, name);

	return n ? container_of(n, struct snap, node) : NULL;
}

void snap_settle(struct snaps *s, struct snap *sn)
{
	sn->state = SNAP_STABLE;
	waitq_wake_all(&s->settled);
}

/* The snapshot of that name once nothing is under way with it; *ret NULL = there is none. */
may_suspend int snap_settled(struct snaps *s, struct str name, struct snap **ret, struct err *err)
{
	struct snap *sn;

	while ((sn = snap_find(s, name)) && sn->state != SNAP_STABLE) {
		if (waitq_wait(&s->settled) < 0)
			return err_set(err, -ECANCELED, "cancelled");
	}
	*ret = sn;
	return 0;
}

/* Several names settled at the same moment. */
may_suspend int snap_settled2(struct snaps *s, struct str a, struct snap **ret_a, struct str b,
			      struct snap **ret_b, struct err *err)
{
	int r;

	do {
		r = snap_settled(s, a, ret_a, err);
		if (r == 0)
			r = snap_settled(s, b, ret_b, err);
		if (r < 0)
			return r;
	} while (snap_find(s, a) != *ret_a || (*ret_a && (*ret_a)->state != SNAP_STABLE));
	return 0;
}

int snap_name_check(struct str name, const char *what, struct err *err)
{
	if (name.len == 0 || name.len > SNAPSHOT_NAME_MAX)
		return err_set(err, -EINVAL, "%s of %zu bytes; 1 to %d are allowed", what, name.len,
			       SNAPSHOT_NAME_MAX);
	return 0;
}

int labels_check(const struct label *labels, size_t n, struct err *err)
{
	size_t bytes = 0;

	if (n > LABELS_MAX)
		return err_set(err, -EINVAL, "%zu labels; at most %d are allowed", n, LABELS_MAX);
	for (size_t i = 0; i < n; i++) {
		size_t one = labels[i].key.len + labels[i].value.len;

		if (one > LABEL_MAX)
			return err_set(err, -EINVAL,
				       "label key and value of %zu bytes (max %d bytes): " STR_FMT,
				       one, LABEL_MAX,
				       (int)(labels[i].key.len > 64 ? 64 : labels[i].key.len),
				       labels[i].key.p);
		bytes += one;
	}
	if (bytes > LABELS_BYTES_MAX)
		return err_set(err, -EINVAL, "labels of %zu bytes; at most %zu are allowed", bytes,
			       LABELS_BYTES_MAX);
	return 0;
}

bool has_idmap(const struct label *labels, size_t n)
{
	return label_find(labels, n, LABEL_UIDMAP) && label_find(labels, n, LABEL_GIDMAP);
}

void change_put(struct meta_change *c, struct str name, const struct buf *value)
{
	c->changes[c->n++] = (struct kv_change){
		.space = KV_SNAPSHOTS, .key = name, .value = {(char *)value->data, value->len}};
}

void change_del(struct meta_change *c, struct str name)
{
	c->changes[c->n++] = (struct kv_change){.space = KV_SNAPSHOTS, .key = name, .del = true};
}
