// SPDX-License-Identifier: Apache-2.0
/*
 * The rules of snapshots. Owns the tree in memory and the order of things: a name is reserved in
 * memory, then directories are made, then the store is written; an answer is given only after that.
 * A verb checks all its conditions without suspending and then marks what it works on as unstable;
 * others that need the same snapshot wait until it is settled. Loop thread.
 */
#include "snap/snap.h"

#include <endian.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/limits.h"
#include "base/log.h"
#include "loop/loop.h"
#include "snap/tree.h"

#include "base/banned.h"

/* --- mounts ----------------------------------------------------------------------------------- */

static int mounts(struct snaps *s, const struct snap *sn, struct str uidmap, struct str gidmap,
		  struct arena *a, struct mount_answer *ret, struct err *err)
{
	uint64_t *parents = arena_alloc(a, (sn->depth + 1) * sizeof(*parents));
	bool *runs = arena_alloc(a, sn->depth + 1);
	struct overlay_spec spec = {
		.snapshots = s->dir,
		.id = sn->id,
		.active = sn->kind == SNAPSHOT_ACTIVE,
		.parents = parents,
		.root = s->options.root,
		.runs = runs,
		.data = !sn->unpacking,
		.index_off = s->options.features.index_off,
		.userxattr = s->options.features.userxattr,
		.volatile_upper = s->options.volatile_upper && s->options.features.volatile_upper,
		.uidmap = uidmap,
		.gidmap = gidmap,
	};

	if (!parents || !runs)
		return err_set(err, -ENOMEM, "out of memory");
	for (const struct snap *p = sn, *above = NULL; p; above = p, p = p->parent) {
		if (p->broken)
			return err_set(err, -EBADMSG,
				       "the directory of snapshot " STR_FMT " is gone",
				       STR_ARG(snap_name(p)));
		if (p == sn || (p->layer && !run_top(above, p)))
			continue;
		runs[spec.parents_n] = p->layer != 0;
		parents[spec.parents_n++] = p->id;
	}
	return overlay_mount(&spec, a, ret, err);
}

/* Labels of a snapshot that has id mappings. */
may_suspend static int idmap_of(struct snaps *s, struct str key, struct arena *a,
				struct str *ret_uid, struct str *ret_gid, struct err *err)
{
	struct snap_info info;
	const struct label *l;
	int r = snaps_stat(s, key, a, &info, err);

	if (r < 0)
		return r;
	l = label_find(info.record.labels, info.record.labels_n, LABEL_UIDMAP);
	*ret_uid = l ? l->value : (struct str){0};
	l = label_find(info.record.labels, info.record.labels_n, LABEL_GIDMAP);
	*ret_gid = l ? l->value : (struct str){0};
	return 0;
}

may_suspend int snaps_mounts(struct snaps *s, struct str key, struct arena *a,
			     struct mount_answer *ret, struct err *err)
{
	struct str uid = {0}, gid = {0};
	struct snap *sn;
	int r = snap_settled(s, key, &sn, err);

	if (r < 0)
		return r;
	if (!sn)
		return snap_not_found(key, err);
	if (sn->kind == SNAPSHOT_COMMITTED)
		return err_set(err, -EBUSY, "snapshot " STR_FMT " is committed", STR_ARG(key));
	if (s->options.volatile_upper && sn->kind == SNAPSHOT_ACTIVE && sn->parent) {
		if (sn->boot != s->boot)
			return err_set(err, -EBUSY,
				       "snapshot " STR_FMT
				       " was mounted volatile before a reboot: its "
				       "content cannot be trusted",
				       STR_ARG(key));
		r = dirs_clear_volatile(s, sn->id, err);
		if (r < 0)
			return r;
	}
	if (sn->idmapped) {
		r = idmap_of(s, key, a, &uid, &gid, err);
		if (r < 0)
			return r;
	}
	r = snap_settled(s, key, &sn, err); /* it may have gone meanwhile */
	if (r == 0 && sn) {
		sn->state = SNAP_CHANGING;
		r = runs_acquire(s, sn, err);
		snap_settle(s, sn);
	}
	if (r < 0)
		return r;
	return sn ? mounts(s, sn, uid, gid, a, ret, err) : snap_not_found(key, err);
}

/* --- prepare ---------------------------------------------------------------------------------- */

/* "container:host:size[,…]": the host's id of container id 0. */
static int map_root(struct str map, uint32_t *ret, struct err *err)
{
	struct str part[3] = {0};
	uint64_t v[3];
	size_t n = 0;

	part[0].p = map.p;
	for (size_t i = 0; i < map.len && map.p[i] != ','; i++) {
		if (map.p[i] == ':' && n < 2)
			part[++n].p = map.p + i + 1;
		else
			part[n].len++;
	}
	for (size_t i = 0; i < 3; i++) {
		if (n != 2 || str_u64(part[i], &v[i]) < 0 || v[i] > UINT32_MAX)
			return err_set(err, -EINVAL,
				       "id mapping \"" STR_FMT "\" is not container:host:size",
				       STR_ARG(map));
	}
	if (v[0] != 0 || v[2] == 0)
		return err_set(err, -EINVAL, "id mapping \"" STR_FMT "\" has no id 0",
			       STR_ARG(map));
	*ret = (uint32_t)v[1];
	return 0;
}

static int owner_from_labels(struct snaps *s, const struct label *labels, size_t n,
			     struct dirs_make *m, struct err *err)
{
	int r;

	if (!has_idmap(labels, n))
		return 0;
	if (!s->options.features.idmap)
		return err_set(err, -EBUSY,
			       "this kernel cannot map ids of layers: take remap-ids out of "
			       "the capabilities in containerd's configuration");
	r = map_root(label_find(labels, n, LABEL_UIDMAP)->value, &m->uid, err);
	if (r == 0)
		r = map_root(label_find(labels, n, LABEL_GIDMAP)->value, &m->gid, err);
	m->owned = true;
	return r;
}

/* Directories, then the record. sn is reserved. */
may_suspend static int prepare_make(struct snaps *s, struct snap *sn, const struct label *labels,
				    size_t labels_n, struct dirs_make *m, struct err *err)
{
	auto_buf struct buf value = BUF_INIT;
	struct record rec = {.kind = sn->kind,
			     .id = sn->id,
			     .boot = sn->boot,
			     .labels = labels,
			     .labels_n = labels_n};
	struct meta_change c = {0};
	uint64_t next;
	int r;

	r = m->reused || !snap_has_dir(sn) ? 0 : work_run(s->fs, dirs_make_job, m);
	if (r < 0)
		return r;
	if (m->reused) { /* short: as part of the write */
		c.before = dirs_make_job;
		c.arg = m;
	}
	rec.created_ns = rec.updated_ns = wall_now_ns();
	if (sn->parent)
		rec.parent = snap_name(sn->parent);
	if (record_encode(&rec, &value) < 0)
		r = err_set(err, -ENOMEM, "out of memory");
	next = htole64(s->next_id);
	change_put(&c, snap_name(sn), &value);
	if (!m->reused)
		c.changes[c.n++] = (struct kv_change){.key = STR(FORMAT_KEY_NEXT_ID),
						      .value = {(char *)&next, sizeof(next)}};
	if (r == 0)
		r = meta_commit(s->meta, &c, err);
	if (r < 0 && snap_has_dir(sn))
		dirs_trash(s, sn->id, NULL);
	return r;
}

/* A directory's number, and what is known for making it. */
static void prepare_id(struct snaps *s, struct snap *sn, struct dirs_make *m)
{
	const struct snap *p = sn->parent;

	sn->id = snap_has_dir(sn) ? pool_take(s) : 0;
	m->reused = sn->id != 0;
	if (!m->reused)
		sn->id = s->next_id++;
	m->id = sn->id;
	m->parent_id = p ? p->id : 0;
	if (!m->owned && p && (p->owner_known || p->layer)) {
		m->owned = true;
		m->uid = p->uid;
		m->gid = p->gid;
	}
}

static int prepare_check(struct snaps *s, struct str key, struct snap *there, struct str parent,
			 struct snap *p, struct err *err)
{
	if (parent.len && !p)
		return err_set(err, -ENOENT, "parent snapshot " STR_FMT " does not exist",
			       STR_ARG(parent));
	if (p && p->kind != SNAPSHOT_COMMITTED)
		return err_set(err, -EINVAL, "parent snapshot " STR_FMT " is not committed",
			       STR_ARG(parent));
	if (there)
		return err_set(err, -EEXIST, "snapshot " STR_FMT " already exists", STR_ARG(key));
	if (p && p->depth + 1 >= SNAPSHOT_DEPTH_MAX)
		return err_set(err, -EINVAL, "more than %d layers", SNAPSHOT_DEPTH_MAX);
	if (s->map.count >= SNAPSHOTS_MAX)
		return err_set(err, -ENOSPC, "%zu snapshots: no more are allowed", s->map.count);
	return 0;
}

may_suspend int snaps_prepare(struct snaps *s, enum snapshot_kind kind, struct str key,
			      struct str parent, const struct label *labels, size_t labels_n,
			      struct arena *a, struct mount_answer *ret, struct err *err)
{
	struct dirs_make m = {.s = s, .active = kind == SNAPSHOT_ACTIVE, .err = err};
	struct str uid = {0}, gid = {0};
	struct snap *sn, *p = NULL, *there = NULL;
	int r = snap_name_check(key, "key", err);

	if (r == 0)
		r = labels_check(labels, labels_n, err);
	if (r == 0)
		r = owner_from_labels(s, labels, labels_n, &m, err);
	if (r == 0 && kind == SNAPSHOT_ACTIVE) {
		r = lazy_prepare(s, parent, labels, labels_n, err);
		if (r == -EEXIST || r == -ECANCELED)
			return r;
		r = 0;
	}
	if (r == 0)
		r = snap_settled2(s, parent, &p, key, &there, err);
	if (r == 0)
		r = prepare_check(s, key, there, parent, p, err);
	if (r < 0)
		return r;
	sn = snap_new(key, kind, 0);
	if (!sn)
		return err_set(err, -ENOMEM, "out of memory");
	if (m.owned) {
		sn->idmapped = true;
		uid = label_find(labels, labels_n, LABEL_UIDMAP)->value;
		gid = label_find(labels, labels_n, LABEL_GIDMAP)->value;
	}
	if (ref_set(s, sn, labels, labels_n) < 0) {
		free(sn);
		return err_set(err, -ENOMEM, "out of memory");
	}
	sn->boot = kind == SNAPSHOT_ACTIVE ? s->boot : 0;
	sn->unpacking = kind == SNAPSHOT_ACTIVE && label_find(labels, labels_n, LABEL_REF);
	sn->state = SNAP_CREATING;
	snap_link(s, sn, p);
	prepare_id(s, sn, &m);
	r = runs_acquire(s, sn, err);
	if (r == 0)
		r = mounts(s, sn, uid, gid, a, ret, err); /* before anything is made */
	if (r == 0 && kind == SNAPSHOT_ACTIVE && !sn->unpacking)
		lazy_starting(s, sn);
	if (r == 0)
		r = prepare_make(s, sn, labels, labels_n, &m, err);
	else if (m.reused)
		dirs_trash(s, sn->id, NULL);
	if (r < 0) {
		snap_drop(s, sn);
		return r;
	}
	snap_settle(s, sn);
	return 0;
}

/* --- usage and commit ------------------------------------------------------------------------- */

struct usage_job {
	struct snaps *s;
	uint64_t id;
	struct tree_usage usage;
	struct stat root;
	struct err *err;
};

static int usage_job(void *arg)
{
	struct usage_job *u = arg;
	char path[64];
	int r = -EAGAIN;

	snprintf(path, sizeof(path), "%" PRIu64 "/fs", u->id);
	for (int i = 0; i < USAGE_RETRIES && r == -EAGAIN; i++)
		r = tree_usage(u->s->dir_fd, path, NULL, &u->usage, u->err);
	if (r == 0 && fstatat(u->s->dir_fd, path, &u->root, AT_SYMLINK_NOFOLLOW) < 0)
		r = err_errno(u->err, -errno, "stat %s", path);
	return r;
}

may_suspend int snaps_usage(struct snaps *s, struct str key, struct tree_usage *ret,
			    struct err *err)
{
	struct usage_job u = {.s = s, .err = err};
	struct snap *sn;
	int r = snap_settled(s, key, &sn, err);

	if (r < 0)
		return r;
	if (!sn)
		return snap_not_found(key, err);
	*ret = (struct tree_usage){sn->size, sn->inodes};
	if (sn->kind != SNAPSHOT_ACTIVE)
		return 0;
	u.id = sn->id;
	r = work_run(s->fs, usage_job, &u);
	if (r < 0)
		return snap_find(s, key) ? err_wrap(err, r, "usage") : snap_not_found(key, err);
	*ret = u.usage;
	return 0;
}

static int commit_check(struct str name, struct snap *there, struct str key, struct snap *sn,
			struct str parent, struct snap *p, struct err *err)
{
	if (there)
		return err_set(err, -EEXIST, "snapshot " STR_FMT " already exists", STR_ARG(name));
	if (!sn)
		return snap_not_found(key, err);
	if (sn->kind != SNAPSHOT_ACTIVE)
		return err_set(err, -EBUSY, "snapshot " STR_FMT " is not active", STR_ARG(key));
	if (!parent.len)
		return 0;
	if (sn->parent && !str_eq(snap_name(sn->parent), parent))
		return err_set(err, -EINVAL, "snapshot " STR_FMT " has another parent",
			       STR_ARG(key));
	if (!p)
		return err_set(err, -ENOENT, "parent snapshot " STR_FMT " does not exist",
			       STR_ARG(parent));
	if (p->kind != SNAPSHOT_COMMITTED)
		return err_set(err, -EBUSY, "parent snapshot " STR_FMT " is not committed",
			       STR_ARG(parent));
	if (p->depth + 1 >= SNAPSHOT_DEPTH_MAX)
		return err_set(err, -EINVAL, "more than %d layers", SNAPSHOT_DEPTH_MAX);
	return 0;
}

/* The record of `to` in place of that of `from`. */
may_suspend static int commit_write(struct snaps *s, struct snap *to, struct snap *from,
				    const struct label *labels, size_t labels_n, struct err *err)
{
	struct usage_job u = {.s = s, .id = to->id, .err = err};
	auto_buf struct buf value = BUF_INIT;
	struct record rec = {
		.kind = SNAPSHOT_COMMITTED, .id = to->id, .labels = labels, .labels_n = labels_n};
	struct meta_change c = {0};
	int r = work_run(s->fs, usage_job, &u);

	if (r < 0)
		return err_wrap(err, r, "usage");
	rec.size = to->size = u.usage.size;
	rec.inodes = to->inodes = u.usage.inodes;
	to->uid = u.root.st_uid;
	to->gid = u.root.st_gid;
	to->owner_known = true;
	r = s->options.sync ? syncfs_run(&s->sync, err) : 0; /* files first, then the record */
	if (r < 0)
		return r;
	rec.created_ns = rec.updated_ns = wall_now_ns();
	if (to->parent)
		rec.parent = snap_name(to->parent);
	if (record_encode(&rec, &value) < 0)
		return err_set(err, -ENOMEM, "out of memory");
	change_del(&c, snap_name(from));
	change_put(&c, snap_name(to), &value);
	return meta_commit(s->meta, &c, err);
}

may_suspend int snaps_commit(struct snaps *s, struct str name, struct str key, struct str parent,
			     const struct label *labels, size_t labels_n, struct err *err)
{
	struct snap *there = NULL, *sn = NULL, *p = NULL, *to;
	int r = snap_name_check(name, "name", err);

	if (r == 0)
		r = labels_check(labels, labels_n, err);
	while (r == 0) { /* all three settled at the same moment */
		r = snap_settled2(s, name, &there, key, &sn, err);
		if (r < 0 || !parent.len)
			break;
		p = snap_find(s, parent);
		if (!p || p->state == SNAP_STABLE)
			break;
		r = snap_settled(s, parent, &p, err);
	}
	if (r == 0)
		r = commit_check(name, there, key, sn, parent, p, err);
	if (r < 0)
		return r;
	require(sn); /* by commit_check */
	to = snap_new(name, SNAPSHOT_COMMITTED, sn->id);
	if (!to)
		return err_set(err, -ENOMEM, "out of memory");
	to->state = SNAP_CREATING;
	to->idmapped = has_idmap(labels, labels_n);
	if (ref_set(s, to, labels, labels_n) < 0) {
		free(to);
		return err_set(err, -ENOMEM, "out of memory");
	}
	to->lower = !sn->parent; /* it was a bind mount, which leaves no trace either */
	snap_link(s, to, p ? p : sn->parent);
	sn->state = SNAP_CHANGING;
	r = commit_write(s, to, sn, labels, labels_n, err);
	if (r < 0) {
		snap_drop(s, to);
		snap_settle(s, sn);
		return r;
	}
	snap_drop(s, sn);
	snap_settle(s, to);
	return 0;
}

/* --- remove ----------------------------------------------------------------------------------- */

struct trash_late {
	struct snaps *s;
	uint64_t id;
};

/* The record is gone by now. */
static void trash_late(void *arg)
{
	struct trash_late *t = arg;
	struct err err = ERR_INIT;
	int r = dirs_trash_now(t->s, t->id, &err);

	if (r < 0) /* the next start finds the directory */
		log_error("remove id=%" PRIu64 " error=\"%s\"", t->id, err_text(&err, r));
}

/* It was prepared to be mounted by overlay, which leaves its traces, and was nothing else since. */
static bool may_be_unused(const struct snaps *s, const struct snap *sn)
{
	return sn->parent && sn->kind != SNAPSHOT_VIEW && !sn->lower && !sn->layer &&
	       s->pool.unused.n < DIR_POOL_MAX;
}

may_suspend int snaps_remove(struct snaps *s, struct str key, struct err *err)
{
	struct trash_late late = {.s = s};
	struct meta_change c = {.arg = &late};
	struct snap *sn;
	uint32_t layer;
	bool unused;
	int r = snap_settled(s, key, &sn, err);

	if (r < 0)
		return r;
	if (!sn)
		return snap_not_found(key, err);
	if (sn->children)
		return err_set(err, -EBUSY, "cannot remove snapshot with child: " STR_FMT " has %u",
			       STR_ARG(key), sn->children);
	sn->state = SNAP_CHANGING;
	late.id = sn->id;
	unused = may_be_unused(s, sn);
	c.after = unused || !snap_has_dir(sn) ? NULL : trash_late;
	change_del(&c, key);
	r = meta_commit(s->meta, &c, err);
	if (r < 0) {
		snap_settle(s, sn);
		return r;
	}
	layer = sn->layer;
	if (layer)
		runs_forget(s, sn);
	snap_drop(s, sn);
	if (layer && s->options.lazy.layers)
		lazy_unuse(s, layer);
	if (!unused)
		trash_kick(s);
	else if (!pool_offer(s, late.id))
		dirs_trash(s, late.id, NULL);
	return 0;
}

void snaps_cleanup(struct snaps *s)
{
	pool_drop(s);
}

/* --- life ------------------------------------------------------------------------------------- */

static int open_dir(const char *root, const char *name, int *ret_fd, struct err *err)
{
	auto_close int root_fd = open(root, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	if (root_fd < 0)
		return err_errno(err, -errno, "open %s", root);
	if (mkdirat(root_fd, name, 0700) < 0 && errno != EEXIST)
		return err_errno(err, -errno, "mkdir %s/%s", root, name);
	*ret_fd = openat(root_fd, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	return *ret_fd < 0 ? err_errno(err, -errno, "open %s/%s", root, name) : 0;
}

static int snaps_init(struct snaps *s, struct loop *loop, const struct snaps_options *options,
		      struct err *err)
{
	int r;

	s->loop = loop;
	s->options = *options;
	s->dir_fd = s->trash_fd = s->meta_fd = s->m_fd = -1;
	s->next_id = 1;
	s->boot = options->boot;
	scope_init(&s->scope, loop);
	waitq_init(&s->settled);
	waitq_init(&s->trash_filled);
	waitq_init(&s->pool.filled);
	waitq_init(&s->runs_changed);
	if (map_init(&s->map) < 0 || map_init(&s->refs) < 0 ||
	    asprintf(&s->dir, "%s/snapshots", options->root) < 0)
		return err_set(err, -ENOMEM, "out of memory");
	r = open_dir(options->root, "snapshots", &s->dir_fd, err);
	if (r == 0)
		r = open_dir(options->root, "trash", &s->trash_fd, err);
	if (r == 0)
		r = syncfs_init(&s->sync, loop, s->dir_fd, err);
	if (r == 0)
		r = work_new(loop, "fs", WORK_THREADS_FS, &s->fs, err);
	if (r == 0)
		r = work_new(loop, "reaper", WORK_THREADS_REAPER, &s->reapers, err);
	if (r == 0 && s->options.lazy.layers)
		r = runs_init(s, err);
	return r;
}

may_suspend int snaps_new(struct loop *loop, const struct snaps_options *options, struct meta *meta,
			  struct snaps **ret_snaps, struct err *err)
{
	struct snaps *s = calloc(1, sizeof(*s));
	int r;

	if (!s)
		return err_set(err, -ENOMEM, "out of memory");
	s->meta = meta;
	r = snaps_init(s, loop, options, err);
	if (r == 0)
		r = snaps_load(s, err);
	if (r == 0)
		r = pool_start(s, err);
	if (r == 0)
		r = trash_start(s, err);
	if (r == 0 && s->options.lazy.layers)
		r = lazy_start(s, err);
	if (r < 0) {
		snaps_free(s);
		return r;
	}
	*ret_snaps = s;
	return 0;
}

may_suspend void snaps_free(struct snaps *s)
{
	struct map_node *n;

	if (!s)
		return;
	scope_cancel(&s->scope);
	scope_wait(&s->scope);
	scope_fini(&s->scope);
	syncfs_fini(&s->sync);
	work_free(s->fs);
	work_free(s->reapers);
	for (size_t i = 0; s->map.slots && i < s->map.size; i++) {
		while ((n = s->map.slots[i])) {
			s->map.slots[i] = n->next;
			snap_free(s, container_of(n, struct snap, node));
		}
	}
	map_fini(&s->map);
	map_fini(&s->refs);
	if (s->meta_fd >= 0)
		close(s->meta_fd);
	if (s->m_fd >= 0)
		close(s->m_fd);
	if (s->dir_fd >= 0)
		close(s->dir_fd);
	if (s->trash_fd >= 0)
		close(s->trash_fd);
	free(s->dir);
	free(s);
}

bool snaps_want_restart(const struct snaps *s)
{
	return meta_wants_restart(s->meta);
}

size_t snaps_count(const struct snaps *s)
{
	return s->map.count;
}
