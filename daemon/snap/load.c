// SPDX-License-Identifier: Apache-2.0
/*
 * The start: records into memory, then the directories made to agree with them. What was
 * acknowledged is in the records; a directory without one is trash, and an active snapshot's or a
 * view's directory that a power cut took was empty on disk, so it is made again.
 */
#include <dirent.h>
#include <endian.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/limits.h"
#include "base/log.h"
#include "image/layer.h"
#include "snap/tree.h"

#include "base/banned.h"

struct load {
	struct snaps *s;
	uint64_t *ids; /* of directories, sorted */
	size_t ids_n, ids_size;
	size_t trashed, made, lost;
	uint64_t stored_next_id; /* ids from here on were never acknowledged, says the database */
	struct err *err;
};

static int load_record(struct load *l, struct str name, struct str value)
{
	auto_arena struct arena a;
	struct record rec;
	struct snap *sn;
	int r;

	arena_init(&a, LABELS_BYTES_MAX + KiB(64));
	r = record_decode(value, &a, &rec, l->err);
	if (r < 0)
		return err_wrap(l->err, r, "snapshot \"" STR_FMT "\"", STR_ARG(name));
	sn = snap_new(name, rec.kind, rec.id);
	if (!sn)
		return err_set(l->err, -ENOMEM, "out of memory");
	sn->size = rec.size;
	sn->inodes = rec.inodes;
	sn->boot = rec.boot;
	sn->lower = true; /* who knows */
	sn->idmapped = has_idmap(rec.labels, rec.labels_n);
	sn->layer = rec.layer;
	sn->unpacking =
		rec.kind == SNAPSHOT_ACTIVE && label_find(rec.labels, rec.labels_n, LABEL_REF);
	if (ref_set(l->s, sn, rec.labels, rec.labels_n) < 0)
		return err_set(l->err, -ENOMEM, "out of memory");
	if (rec.id >= l->s->next_id)
		l->s->next_id = rec.id + 1;
	map_put(&l->s->map, &sn->node);
	snap_count(l->s, sn, 1);
	return 0;
}

static int load_next_id(struct load *l)
{
	auto_buf struct buf b = BUF_INIT;
	uint64_t v;
	int r = kv_get(meta_kv(l->s->meta), KV_DEFAULT, STR(FORMAT_KEY_NEXT_ID), &b, l->err);

	if (r == -ENOENT)
		return 0;
	if (r < 0)
		return r;
	if (b.len != sizeof(v))
		return err_set(l->err, -EBADMSG, "damaged record of the next id");
	__builtin_memcpy(&v, b.data, sizeof(v));
	v = le64toh(v);
	l->stored_next_id = v;
	if (v > l->s->next_id)
		l->s->next_id = v;
	return 0;
}

/* Parents by name, once all records are in the map. */
static int load_parents(struct load *l)
{
	struct str name, value;
	struct kv_iter *it = NULL;
	int r = kv_iter_new(meta_kv(l->s->meta), KV_SNAPSHOTS, &it, l->err);

	while (r >= 0 && (r = kv_iter_next(it, &name, &value, l->err)) > 0) {
		auto_arena struct arena a;
		struct snap *sn = snap_find(l->s, name);
		struct record rec;

		arena_init(&a, LABELS_BYTES_MAX + KiB(64));
		r = record_decode(value, &a, &rec, l->err);
		if (r < 0 || rec.parent.len == 0)
			continue;
		sn->parent = snap_find(l->s, rec.parent);
		if (sn->parent && sn->parent->kind == SNAPSHOT_COMMITTED) {
			sn->parent->children++;
			continue;
		}
		sn->parent = NULL;
		sn->broken = true;
		l->lost++;
		log_error("no parent snapshot=\"" STR_FMT "\" parent=\"" STR_FMT "\"",
			  STR_ARG(name), STR_ARG(rec.parent));
	}
	kv_iter_free(it);
	return r;
}

/* Depths need parents first; chains are short, so each walks up. */
static void load_depths(struct load *l)
{
	for (size_t i = 0; i < l->s->map.size; i++) {
		for (struct map_node *n = l->s->map.slots[i]; n; n = n->next) {
			struct snap *sn = container_of(n, struct snap, node);

			sn->depth = 0;
			for (struct snap *p = sn->parent; p && sn->depth <= SNAPSHOT_DEPTH_MAX;
			     p = p->parent)
				sn->depth++;
			if (sn->depth > SNAPSHOT_DEPTH_MAX)
				sn->broken = true; /* a cycle, or records of someone else */
		}
	}
}

static int by_id(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return x < y ? -1 : x > y;
}

static int list_dirs(struct load *l)
{
	auto_closedir DIR *d = NULL;
	struct dirent *e;
	uint64_t id, *grown;
	int fd = openat(l->s->dir_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	if (fd < 0)
		return err_errno(l->err, -errno, "open %s", l->s->dir);
	d = fdopendir(fd);
	if (!d) {
		close(fd);
		return err_set(l->err, -ENOMEM, "out of memory");
	}
	while ((e = readdir(d))) {
		if (e->d_name[0] == '.' || str_u64(str_of(e->d_name), &id) < 0)
			continue;
		if (l->ids_n == l->ids_size) {
			l->ids_size = l->ids_size ? l->ids_size * 2 : 1024;
			grown = reallocarray(l->ids, l->ids_size, sizeof(id));
			if (!grown)
				return err_set(l->err, -ENOMEM, "out of memory");
			l->ids = grown;
		}
		l->ids[l->ids_n++] = id;
	}
	if (l->ids_n)
		qsort(l->ids, l->ids_n, sizeof(id), by_id);
	return 0;
}

/* Its layer is used by it. */
static void check_layer(struct load *l, struct snap *sn)
{
	struct layers *layers = l->s->options.lazy.layers;
	struct layer *layer = layers ? layers_get(layers, sn->layer) : NULL;

	if (layer) {
		layer_use(layer);
		return;
	}
	sn->broken = true;
	l->lost++;
	log_error("lazy layer is gone snapshot=\"" STR_FMT "\" layer=%" PRIu32,
		  STR_ARG(snap_name(sn)), sn->layer);
}

static int check_dir(struct load *l, struct snap *sn, bool found)
{
	struct dirs_make m = {.s = l->s,
			      .id = sn->id,
			      .active = sn->kind == SNAPSHOT_ACTIVE,
			      .parent_id = sn->parent ? sn->parent->id : 0,
			      .owned = sn->parent && sn->parent->layer,
			      .err = l->err};
	int r;

	if (sn->layer) {
		check_layer(l, sn);
		return 0;
	}
	if (sn->kind == SNAPSHOT_COMMITTED || sn->broken) {
		if (!found && sn->kind == SNAPSHOT_COMMITTED) {
			sn->broken = true;
			l->lost++;
			log_error("directory is gone snapshot=\"" STR_FMT "\" id=%" PRIu64,
				  STR_ARG(snap_name(sn)), sn->id);
		}
		return 0;
	}
	if (!snap_has_dir(sn))
		return 0;
	r = dirs_repair(&m);
	if (!found && r == 0) {
		l->made++;
		log_warn("directory made again snapshot=\"" STR_FMT "\" id=%" PRIu64,
			 STR_ARG(snap_name(sn)), sn->id);
	}
	return r;
}

static int agree(struct load *l)
{
	int r = list_dirs(l);

	for (size_t i = 0; r == 0 && i < l->s->map.size; i++) {
		for (struct map_node *n = l->s->map.slots[i]; r == 0 && n; n = n->next) {
			struct snap *sn = container_of(n, struct snap, node);
			bool found = l->ids_n &&
				     bsearch(&sn->id, l->ids, l->ids_n, sizeof(sn->id), by_id);

			r = check_dir(l, sn, found);
		}
	}
	return r;
}

/*
 * Nobody can have written into the directory of a prepare that was not acknowledged. One with files
 * and an id that the database has never given away says that the database has lost records: the end
 * of its log was damaged in a way that looks like a torn write.
 */
static int check_orphan(struct load *l, uint64_t id)
{
	auto_closedir DIR *d = NULL;
	struct dirent *e;
	char path[32];
	int fd;

	if (id < l->stored_next_id)
		return 0;
	snprintf(path, sizeof(path), "%" PRIu64 "/fs", id);
	fd = openat(l->s->dir_fd, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return 0;
	d = fdopendir(fd);
	if (!d) {
		close(fd);
		return err_set(l->err, -ENOMEM, "out of memory");
	}
	while ((e = readdir(d))) {
		if (strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0)
			return err_set(l->err, -EBADMSG,
				       "%s/%" PRIu64 " has files but no record, which the database "
				       "has lost: nothing is deleted",
				       l->s->dir, id);
	}
	return 0;
}

/* Directories that no record names. */
static int trash_orphans(struct load *l)
{
	size_t n = 0;
	uint64_t *ids = calloc(l->s->map.count + 1, sizeof(*ids));
	int r = 0;

	if (!ids)
		return err_set(l->err, -ENOMEM, "out of memory");
	for (size_t i = 0; i < l->s->map.size; i++) {
		for (struct map_node *m = l->s->map.slots[i]; m; m = m->next)
			ids[n++] = container_of(m, struct snap, node)->id;
	}
	qsort(ids, n, sizeof(*ids), by_id);
	for (size_t i = 0; r == 0 && i < l->ids_n; i++) {
		if (n && bsearch(&l->ids[i], ids, n, sizeof(*ids), by_id))
			l->ids[i] = 0; /* has a record */
		else
			r = check_orphan(l, l->ids[i]);
	}
	for (size_t i = 0; r == 0 && i < l->ids_n; i++) {
		if (!l->ids[i])
			continue;
		if (l->ids[i] >= l->s->next_id)
			l->s->next_id = l->ids[i] + 1;
		r = dirs_trash_now(l->s, l->ids[i], l->err);
		l->trashed++;
	}
	free(ids);
	return r;
}

/* Every active snapshot and view may be mounted. */
static void recount_runs(struct load *l)
{
	for (size_t i = 0; i < l->s->map.size; i++) {
		for (struct map_node *n = l->s->map.slots[i]; n; n = n->next) {
			struct snap *sn = container_of(n, struct snap, node);

			if (sn->kind != SNAPSHOT_COMMITTED && !sn->broken)
				runs_recount(l->s, sn);
		}
	}
	runs_clean(l->s);
}

static int load_job(void *arg)
{
	struct load *l = arg;
	struct str name, value;
	struct kv_iter *it;
	int r = kv_iter_new(meta_kv(l->s->meta), KV_SNAPSHOTS, &it, l->err);

	if (r < 0)
		return r;
	while ((r = kv_iter_next(it, &name, &value, l->err)) > 0) {
		r = load_record(l, name, value);
		if (r < 0)
			break;
	}
	kv_iter_free(it);
	if (r == 0)
		r = load_next_id(l);
	if (r == 0)
		r = load_parents(l);
	if (r < 0)
		return r;
	load_depths(l);
	r = agree(l);
	if (r == 0)
		r = trash_orphans(l);
	if (r == 0 && l->s->options.lazy.layers)
		recount_runs(l);
	return r;
}

may_suspend int snaps_load(struct snaps *s, struct err *err)
{
	struct load l = {.s = s, .err = err};
	int r = work_run(s->fs, load_job, &l);

	free(l.ids);
	if (r == 0)
		log_info("loaded snapshots=%zu trashed=%zu made_again=%zu lost=%zu", s->map.count,
			 l.trashed, l.made, l.lost);
	return r;
}
