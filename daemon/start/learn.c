// SPDX-License-Identifier: Apache-2.0
/*
 * From what was touched to a profile. Contents have no path: the indexes of the image's layers say
 * which files are that content, and the mounted tree which of them is seen. Loop thread; the work
 * runs on a thread, one start at a time.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/log.h"
#include "image/index.h"
#include "image/lookup.h"
#include "loop/work.h"
#include "predict/recording.h"
#include "start/impl.h"

#include "base/banned.h"

/* What was touched, once. */
struct place {
	uint64_t number;
	bool file;
	struct str path; /* empty: not found */
	uint64_t size;
	struct place *same; /* the other name of this content */
	uint32_t nth;       /* of those that were found, in a recording */
};

struct learning {
	struct start *st;
	int *fds;             /* of the layers' indexes, top first */
	struct place *places; /* ordered by file, number */
	size_t places_n, found, missing_files;
	struct arena arena;
};

static int place_cmp(const void *a, const void *b)
{
	const struct place *x = a, *y = b;

	if (x->file != y->file)
		return x->file ? 1 : -1;
	return x->number < y->number ? -1 : x->number > y->number;
}

static struct place *place_of(const struct learning *l, bool file, uint64_t number)
{
	const struct place key = {.number = number, .file = file};

	return bsearch(&key, l->places, l->places_n, sizeof(key), place_cmp);
}

static int collect(struct learning *l)
{
	size_t n = 0;

	l->places = calloc(l->st->touches_n, sizeof(*l->places));
	if (!l->places)
		return -ENOMEM;
	for (size_t i = 0; i < l->st->touches_n; i++)
		l->places[i] = (struct place){.number = l->st->touches[i].number,
					      .file = l->st->touches[i].file};
	qsort(l->places, l->st->touches_n, sizeof(*l->places), place_cmp);
	for (size_t i = 0; i < l->st->touches_n; i++) {
		if (n == 0 || place_cmp(&l->places[n - 1], &l->places[i]) != 0)
			l->places[n++] = l->places[i];
	}
	l->places_n = n;
	for (size_t i = 0; i < n; i++)
		l->missing_files += l->places[i].file;
	return 0;
}

/* --- contents ----------------------------------------------------------------------------------
 */

/* Is the file of that entry the one that the container sees at its path? */
static void try_path(struct learning *l, struct place *p, const struct digest *key, struct str path)
{
	char *absolute = arena_printf(&l->arena, "/" STR_FMT, STR_ARG(path));
	struct lookup_file file;

	if (!absolute || lookup_file(l->st->root_fd, absolute, &file) < 0 || file.embedded ||
	    !digest_eq(&file.key, key))
		return;
	p->path = str_of(absolute);
	p->size = file.size;
	l->found++;
}

/* An object may have been opened by its own name, by that of its content as one chunk, which equal
 * contents with other chunks share (store/objects.h), and by one after the other. */
struct named {
	struct place *places[2]; /* NULL: not touched by that name */
};

static struct named named_of(const struct learning *l, const struct index_object *o)
{
	struct named n = {{place_of(l, false, object_number(&o->key)), NULL}};
	struct digest whole;

	if (o->chunks_n == 1)
		return n;
	object_canonical_key(&o->digest, o->size, &whole);
	n.places[1] = place_of(l, false, object_number(&whole));
	return n;
}

static void name_both(struct learning *l, const struct named *n, const struct digest *key,
		      struct str path)
{
	struct place *own = n->places[0], *whole = n->places[1];

	if (own && !own->path.len)
		try_path(l, own, key, path);
	if (!whole || whole->path.len)
		return;
	if (!own) {
		try_path(l, whole, key, path);
	} else if (own->path.len) {
		whole->path = own->path;
		whole->size = own->size;
		whole->same = own;
		l->found++;
	}
}

static int look_in_layer(struct learning *l, int fd)
{
	auto_index struct index *ix = NULL;
	const struct index_info *info;
	struct named *wanted;
	int r = index_load(fd, &ix, NULL);

	if (r < 0)
		return r;
	info = index_info(ix);
	wanted = calloc((size_t)info->objects_n + 1, sizeof(*wanted));
	if (!wanted)
		return -ENOMEM;
	for (uint32_t i = 0; i < info->objects_n; i++) {
		struct index_object o;

		index_object(ix, i, &o);
		wanted[i] = named_of(l, &o);
	}
	for (uint32_t i = 0; i < info->entries_n; i++) {
		struct index_entry e;
		struct index_object o;

		index_entry(ix, i, &e);
		if (e.type != INDEX_REG || e.object == INDEX_NONE ||
		    (!wanted[e.object].places[0] && !wanted[e.object].places[1]))
			continue;
		index_object(ix, e.object, &o);
		name_both(l, &wanted[e.object], &o.key, e.path);
	}
	free(wanted);
	return 0;
}

/* --- small files, which are in the tree itself -------------------------------------------------
 */

struct dir {
	DIR *d;
	size_t len; /* of its path */
};

struct walk {
	struct learning *l;
	struct buf path;
	struct dir dirs[INDEX_DEPTH_MAX];
	size_t depth;
};

static int walk_into(struct walk *w, int at, const char *name)
{
	int fd = openat(at, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	DIR *d = fd >= 0 ? fdopendir(fd) : NULL;

	if (!d) {
		int code = -errno;

		if (fd >= 0)
			close(fd);
		return code;
	}
	w->dirs[w->depth++] = (struct dir){d, w->path.len};
	return 0;
}

static void walk_file(struct walk *w, int at, const struct dirent *e)
{
	struct place *p = place_of(w->l, true, e->d_ino);
	struct stat st;
	char *path;

	if (!p || p->path.len || fstatat(at, e->d_name, &st, AT_SYMLINK_NOFOLLOW) < 0 ||
	    !S_ISREG(st.st_mode))
		return;
	path = arena_printf(&w->l->arena, "%.*s/%s", (int)w->path.len, (char *)w->path.data,
			    e->d_name);
	if (!path)
		return;
	p->path = str_of(path);
	p->size = (uint64_t)st.st_size;
	w->l->found++;
	w->l->missing_files--;
}

static int walk_entry(struct walk *w)
{
	struct dir *top = &w->dirs[w->depth - 1];
	struct dirent *e = readdir(top->d);
	int fd = dirfd(top->d);

	w->path.len = top->len;
	if (!e) {
		closedir(top->d);
		w->depth--;
		return 0;
	}
	if (e->d_type == DT_REG)
		walk_file(w, fd, e);
	if (e->d_type != DT_DIR || strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0 ||
	    w->depth == INDEX_DEPTH_MAX)
		return 0;
	if (buf_printf(&w->path, "/%s", e->d_name) < 0)
		return -ENOMEM;
	return walk_into(w, fd, e->d_name);
}

static int look_in_tree(struct learning *l)
{
	struct walk *w = calloc(1, sizeof(*w));
	int r;

	if (!w)
		return -ENOMEM;
	w->l = l;
	r = walk_into(w, l->st->root_fd, ".");
	while (r == 0 && w->depth && l->missing_files)
		r = walk_entry(w);
	while (w->depth)
		closedir(w->dirs[--w->depth].d);
	buf_fini(&w->path);
	free(w);
	return r;
}

/* Of the names of one content, the program has the one that it was started by. */
static void name_entry(struct learning *l)
{
	struct lookup_file file;
	struct place *p;

	if (!l->st->entry[0] || lookup_file(l->st->root_fd, l->st->entry, &file) < 0 ||
	    file.embedded)
		return;
	p = place_of(l, false, object_number(&file.key));
	if (!p)
		return;
	p->path = str_of(l->st->entry);
	p->size = file.size;
	l->found++;
}

static int learn_job(void *arg)
{
	struct learning *l = arg;
	int r = collect(l);

	if (r == 0)
		name_entry(l);
	for (size_t i = 0; r == 0 && i < l->st->layers_n && l->found < l->places_n; i++)
		r = look_in_layer(l, l->fds[i]);
	if (r == 0 && l->missing_files)
		r = look_in_tree(l);
	return r;
}

/* --- what becomes of it ------------------------------------------------------------------------
 */

static int open_indexes(struct learning *l)
{
	struct layers *layers = l->st->s->o.layers;

	l->fds = calloc(l->st->layers_n, sizeof(*l->fds));
	if (!l->fds)
		return -ENOMEM;
	for (size_t i = 0; i < l->st->layers_n; i++)
		l->fds[i] = -1;
	for (size_t i = 0; i < l->st->layers_n; i++) {
		struct layer *layer = layers_get(layers, l->st->layers[i]);
		int fd = layer ? layer_fd(layers, layer, NULL) : -ENOENT;

		if (fd < 0)
			return fd;
		l->fds[i] = fcntl(fd, F_DUPFD_CLOEXEC, 0);
		if (l->fds[i] < 0)
			return -errno;
	}
	return 0;
}

static void learning_fini(struct learning *l)
{
	for (size_t i = 0; l->fds && i < l->st->layers_n; i++) {
		if (l->fds[i] >= 0)
			close(l->fds[i]);
	}
	free(l->fds);
	free(l->places);
	arena_fini(&l->arena);
}

/* Since the first program; what came before it is of its own execution. */
static uint64_t since_start_us(const struct start *st, uint64_t at_ns)
{
	uint64_t from = st->exec_ns;

	if (st->touches_n && (!from || st->touches[0].time_ns < from))
		from = st->touches[0].time_ns;
	return at_ns > from ? (at_ns - from) / 1000 : 0;
}

static uint64_t span_us(const struct start *st)
{
	uint64_t end = st->new_ns > st->exec_ns ? st->new_ns : st->exec_ns;

	return since_start_us(st, end);
}

/* Nothing was lost, and what was local was seen too. */
static bool is_whole(const struct start *st)
{
	for (size_t i = 0; i < st->touches_n; i++) {
		if (st->touches[i].fuse)
			return false;
	}
	return st->watches && !st->cut && starts_see_all(st->s) &&
	       starts_lost(st->s) == st->lost_before;
}

may_suspend static int keep(struct learning *l, struct err *err)
{
	struct start *st = l->st;
	struct profile_event *events = calloc(st->touches_n + 1, sizeof(*events));
	struct profile_start start = {.repository = st->repository,
				      .executable = str_of(st->entry),
				      .when_ns = st->when_ns,
				      .span_us = span_us(st),
				      .whole = is_whole(st),
				      .events = events};
	struct profile p;
	int r;

	if (!events)
		return err_set(err, -ENOMEM, "out of memory");
	for (size_t i = 0; i < st->touches_n; i++) {
		const struct touch *t = &st->touches[i];
		const struct place *at = place_of(l, t->file, t->number);

		if (at && at->path.len)
			events[start.events_n++] = (struct profile_event){
				at->path, t->unit, t->units, since_start_us(st, t->time_ns)};
	}
	r = profile_build(&start, &l->arena, &p, err);
	if (r == 0)
		r = profiles_put(st->s->o.profiles, &p, err);
	if (r == 0)
		log_info("learnt image=%s entry=%s uses=%zu files=%zu unmatched=%zu whole=%d",
			 st->ref, st->entry, p.uses_n, p.paths_n, l->places_n - l->found,
			 start.whole);
	free(events);
	return r;
}

static int locate_job(void *arg)
{
	return locate(arg);
}

/* Where all that is known of the program lies in this image. */
may_suspend static int keep_extents(struct learning *l, struct err *err)
{
	struct start *st = l->st;
	struct starts *s = st->s;
	struct digest blobs[EXTENTS_BLOBS_MAX];
	struct extents found;
	struct profile p;
	struct locate job = {.profile = &p,
			     .root_fd = st->root_fd,
			     .blobs = blobs,
			     .fds = l->fds,
			     .arena = &l->arena,
			     .ret = &found};
	int r;

	for (; job.n < st->layers_n && job.n < EXTENTS_BLOBS_MAX; job.n++) {
		const struct layer *layer = layers_get(s->o.layers, st->layers[job.n]);

		if (!layer)
			return err_set(err, -ENOENT, "a layer has gone");
		blobs[job.n] = layer->blob;
	}
	r = profiles_get(s->o.profiles, st->repository, str_of(st->entry), &l->arena, &p, err);
	if (r == 0)
		r = work_run(s->o.threads, locate_job, &job);
	if (r == 0)
		r = profiles_put_extents(s->o.profiles, st->repository, str_of(st->entry), &found,
					 err);
	if (r == 0)
		log_debug("located image=%s entry=%s extents=%zu", st->ref, st->entry, found.n);
	return r;
}

/* The document of it. */
static int write_recording(struct learning *l, struct buf *ret)
{
	struct start *st = l->st;
	struct recording_file *files = calloc(l->places_n + 1, sizeof(*files));
	struct recording_event *events = calloc(st->touches_n + 1, sizeof(*events));
	struct recording r = {.image = str_of(st->ref),
			      .executable = str_of(st->entry),
			      .when_ns = st->when_ns,
			      .span_us = span_us(st),
			      .lost = starts_lost(st->s) - st->lost_before,
			      .fuse_only = st->s->blind,
			      .files = files,
			      .events = events};
	int res = files && events ? 0 : -ENOMEM;

	for (size_t i = 0; res == 0 && i < l->places_n; i++) {
		struct place *p = &l->places[i];

		if (!p->path.len || p->same)
			continue;
		p->nth = (uint32_t)r.files_n;
		files[r.files_n++] = (struct recording_file){p->path, p->size};
	}
	for (size_t i = 0; res == 0 && i < st->touches_n; i++) {
		const struct touch *t = &st->touches[i];
		const struct place *at = place_of(l, t->file, t->number);

		if (at && at->path.len)
			events[r.events_n++] = (struct recording_event){
				.t_us = since_start_us(st, t->time_ns),
				.file = at->same ? at->same->nth : at->nth,
				.unit = t->unit,
				.units = t->units,
				.kind = t->fuse ? RECORDING_FUSE : RECORDING_READ};
	}
	if (res == 0)
		res = recording_write(&r, ret);
	free(files);
	free(events);
	return res;
}

static void give_recording(struct learning *l)
{
	struct starts *s = l->st->s;

	for (struct list *i = s->recorders.next; i != &s->recorders; i = i->next) {
		struct recorder *rec = container_of(i, struct recorder, link);

		if (rec->start != l->st || rec->result != 1)
			continue;
		rec->result = write_recording(l, rec->ret);
		waitq_wake_all(&rec->changed);
	}
}

may_suspend void start_learn(struct start *st)
{
	struct learning l = {.st = st};
	struct starts *s = st->s;
	struct err err = ERR_INIT;
	int r;

	if (mutex_lock(&s->learn) < 0)
		return;
	arena_init(&l.arena, START_LEARN_MEMORY);
	r = open_indexes(&l);
	if (r == 0 && st->touches_n)
		r = work_run(s->o.threads, learn_job, &l);
	if (r == 0) {
		s->stats.unmatched += l.places_n - l.found;
		give_recording(&l);
	}
	if (r == 0 && st->touches_n && st->entry[0]) {
		r = keep(&l, &err);
		s->stats.learnt += r == 0;
		if (r == 0 && keep_extents(&l, &err) < 0)
			log_debug("not located image=%s error=\"%s\"", st->ref, err.text);
	}
	if (r < 0 && r != -ECANCELED)
		log_warn("a start is not learnt from image=%s error=\"%s\"", st->ref,
			 err_text(&err, r));
	learning_fini(&l);
	mutex_unlock(&s->learn);
}
