// SPDX-License-Identifier: Apache-2.0
/*
 * What a start will read is fetched before it does, and read from the disk. Owns the predictor of
 * each start, and what its files are. Loop thread, but for what looks into trees.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "image/fetch.h"
#include "image/lookup.h"
#include "loop/work.h"
#include "start/impl.h"

#include "base/banned.h"

#define RANGES 64 /* asked for in one go */

/* A file of the profiles. */
struct known {
	char *path;
	bool found, embedded, here; /* here: complete on the disk */
	struct digest key;
	uint64_t number, size;
};

/* Another number that the same content is touched by: that of its key as one chunk, which is the
 * name of the inode that all chunkings of it share (store/objects.h). */
struct alias {
	uint64_t as, number;
};

struct foresight {
	struct start *st;
	struct predictor *p;
	struct known *files;
	struct known **by_number; /* those that were found and are no small files */
	size_t files_n, by_number_n;
	struct alias *aliases; /* files_n of them at most */
	size_t aliases_n;
	unsigned wishes;  /* ranges that are being fetched */
	bool holds;       /* the background waits */
	bool paging;      /* a thread reads ahead */
	struct buf pages; /* struct predict_range: what it is to read next */
};

static int known_cmp(const void *a, const void *b)
{
	const struct known *x = *(struct known *const *)a, *y = *(struct known *const *)b;

	return x->number < y->number ? -1 : x->number > y->number;
}

static struct known *known_of(const struct foresight *f, uint64_t number)
{
	struct known key = {.number = number}, *k = &key, **found;

	found = f->by_number_n ? bsearch(&k, f->by_number, f->by_number_n, sizeof(k), known_cmp)
			       : NULL;
	return found ? *found : NULL;
}

static void note_alias(struct foresight *f, const struct object *obj)
{
	struct digest whole;
	uint64_t as;

	if (obj->chunks_n == 1 || f->aliases_n == f->files_n)
		return;
	object_canonical_key(&obj->digest, obj->size, &whole);
	as = object_number(&whole);
	for (size_t i = 0; i < f->aliases_n; i++) {
		if (f->aliases[i].as == as)
			return;
	}
	f->aliases[f->aliases_n++] = (struct alias){as, obj->number};
}

static uint64_t number_of(const struct foresight *f, uint64_t touched)
{
	for (size_t i = 0; i < f->aliases_n; i++) {
		if (f->aliases[i].as == touched)
			return f->aliases[i].number;
	}
	return touched;
}

/* --- what the files are, on a thread -----------------------------------------------------------
 */

static int find_job(void *arg)
{
	struct foresight *f = arg;

	for (size_t i = 0; i < f->files_n; i++) {
		struct known *k = &f->files[i];
		char path[OBJECT_PATH_SIZE];
		struct lookup_file file;

		if (lookup_file(f->st->root_fd, k->path, &file) < 0)
			continue;
		k->found = true;
		k->size = file.size;
		k->embedded = file.embedded;
		k->key = file.key;
		if (k->embedded)
			continue;
		k->number = object_number(&k->key);
		object_path(&k->key, path);
		k->here = faccessat(f->st->s->objects_fd, path, F_OK, AT_SYMLINK_NOFOLLOW) == 0;
	}
	return 0;
}

/* Small files are in the image itself: all of them at once, in their order. */
static int small_job(void *arg)
{
	struct foresight *f = arg;

	for (size_t i = 0; i < f->files_n; i++) {
		const struct known *k = &f->files[i];

		if (!k->found || !k->embedded)
			continue;
		auto_close int fd = lookup_open(f->st->root_fd, k->path);
		if (fd >= 0)
			posix_fadvise(fd, 0, 0, POSIX_FADV_WILLNEED);
	}
	return 0;
}

struct page_job {
	struct foresight *f;
	struct predict_range *ranges;
	size_t n;
};

static int page_job(void *arg)
{
	struct page_job *j = arg;

	for (size_t i = 0; i < j->n; i++) {
		const struct known *k = known_of(j->f, j->ranges[i].object);
		char path[OBJECT_PATH_SIZE];

		if (!k)
			continue;
		object_path(&k->key, path);
		auto_close int fd =
			openat(j->f->st->s->objects_fd, path, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
		if (fd >= 0)
			readahead(fd, (off64_t)j->ranges[i].off, j->ranges[i].len);
	}
	return 0;
}

/* --- fetching ----------------------------------------------------------------------------------
 */

struct wish {
	struct foresight *f;
	struct predict_range range;
};

may_suspend static int wish_fetch(const struct wish *w)
{
	struct starts *s = w->f->st->s;
	struct object *obj;
	int r = objects_get(s->o.objects, w->range.object, &obj, NULL);

	fetch_gather(s->o.fetcher, false);
	if (r < 0)
		return r;
	note_alias(w->f, obj);
	r = fetch_foreseen(s->o.fetcher, obj, w->range.off, w->range.len, NULL);
	object_unref(s->o.objects, obj);
	return r;
}

static void hold(struct foresight *f, bool on)
{
	if (f->holds != on) {
		fetch_hold(f->st->s->o.fetcher, on);
		fetch_know(f->st->s->o.fetcher, f->st->layers, f->st->layers_n, on);
	}
	f->holds = on;
}

may_suspend static int wish_task(void *arg)
{
	struct wish *w = arg;
	struct foresight *f = w->f;
	int r = wish_fetch(w);

	if (r == 0)
		predictor_arrived(f->p, w->range.object, w->range.off, w->range.len,
				  loop_now_ns(f->st->s->o.loop));
	else
		predictor_failed(f->p, w->range.object, w->range.off, w->range.len);
	if (--f->wishes == 0)
		hold(f, false);
	waitq_wake_all(&f->st->changed);
	free(w);
	return 0;
}

static void wish(struct foresight *f, const struct predict_range *range)
{
	struct wish *w = malloc(sizeof(*w));

	if (w)
		*w = (struct wish){f, *range};
	if (!w || scope_spawn(&f->st->scope, wish_task, w, NULL) < 0) {
		free(w);
		predictor_failed(f->p, range->object, range->off, range->len);
		return;
	}
	f->wishes++;
	fetch_gather(f->st->s->o.fetcher, true);
	hold(f, true);
}

/* What is on the disk is read by one thread, in its order. */
may_suspend static int page_task(void *arg)
{
	struct foresight *f = arg;

	while (f->pages.len) {
		struct buf pages = f->pages;
		struct page_job j = {f, (struct predict_range *)pages.data,
				     pages.len / sizeof(*j.ranges)};
		int r;

		f->pages = (struct buf)BUF_INIT;
		r = work_run(f->st->s->o.threads, page_job, &j);
		buf_fini(&pages);
		if (r < 0)
			break;
	}
	f->paging = false;
	return 0;
}

static void page(struct foresight *f, const struct predict_range *range)
{
	if (buf_append(&f->pages, range, sizeof(*range)) < 0 || f->paging)
		return;
	f->paging = scope_spawn(&f->st->scope, page_task, f, NULL) == 0;
}

void foresee_step(struct start *st)
{
	struct foresight *f = st->foresight;
	struct predict_range ranges[RANGES];
	uint64_t now = loop_now_ns(st->s->o.loop);
	size_t n = RANGES;

	if (!f)
		return;
	if (now - st->begun_ns > PREFETCH_TIMEOUT_MS * NS_PER_MS)
		hold(f, false);
	while (n == RANGES && f->wishes < FORESEE_WISHES_MAX) {
		n = predictor_next(f->p, now, ranges, RANGES);
		for (size_t i = 0; i < n; i++) {
			if (ranges[i].level == PREDICT_PAGE)
				page(f, &ranges[i]);
			else
				wish(f, &ranges[i]);
		}
	}
}

/* --- events ------------------------------------------------------------------------------------
 */

void foresee_touched(struct start *st, const struct touch *t)
{
	if (st->foresight && !t->file)
		predictor_seen(st->foresight->p, number_of(st->foresight, t->number), t->unit,
			       t->units, t->time_ns);
}

bool foresee_entry(struct start *st, uint64_t now_ns)
{
	struct foresight *f = st->foresight;

	if (!f || !st->entry[0])
		return true;
	predictor_exec(f->p, str_of(st->entry), now_ns);
	return predictor_knows(f->p, str_of(st->entry));
}

/* --- life --------------------------------------------------------------------------------------
 */

static bool is_here(void *arg, uint64_t object, uint64_t off, uint64_t len)
{
	const struct known *k = known_of(arg, object);

	(void)off;
	(void)len;
	return k && k->here;
}

static void foresight_free(struct foresight *f)
{
	for (size_t i = 0; i < f->files_n; i++)
		free(f->files[i].path);
	free(f->files);
	free(f->by_number);
	free(f->aliases);
	predictor_free(f->p);
	buf_fini(&f->pages);
	free(f);
}

static int copy_paths(struct foresight *f)
{
	size_t n = predictor_files(f->p);

	f->files = calloc(n, sizeof(*f->files));
	f->by_number = calloc(n, sizeof(struct known *));
	f->aliases = calloc(n, sizeof(*f->aliases));
	if (!f->files || !f->by_number || !f->aliases)
		return -ENOMEM;
	for (; f->files_n < n; f->files_n++) {
		struct str path = predictor_path(f->p, f->files_n);

		f->files[f->files_n].path = strndup(path.p, path.len);
		if (!f->files[f->files_n].path)
			return -ENOMEM;
	}
	return 0;
}

static void tell_files(struct foresight *f)
{
	for (size_t i = 0; i < f->files_n; i++) {
		struct known *k = &f->files[i];

		if (k->found && !k->embedded) {
			f->by_number[f->by_number_n++] = k;
			predictor_resolve(f->p, i, k->number, k->size);
		} else {
			predictor_absent(f->p, i);
		}
	}
	qsort(f->by_number, f->by_number_n, sizeof(struct known *), known_cmp);
}

/* What is here needs no wish, and is touched sooner or later. */
may_suspend static int local_task(void *arg)
{
	struct foresight *f = arg;
	struct objects *objects = f->st->s->o.objects;

	work_run(f->st->s->o.threads, small_job, f);
	for (size_t i = 0; i < f->by_number_n && !task_cancelled(); i++) {
		const struct known *k = f->by_number[i];
		struct object *obj;

		if (!k->here || k->size <= PROFILE_UNIT ||
		    objects_get(objects, k->number, &obj, NULL) < 0)
			continue;
		note_alias(f, obj);
		object_unref(objects, obj);
	}
	return 0;
}

may_suspend static int prepare(struct foresight *f, const struct profile *profiles, size_t n)
{
	const struct predict_options o = {
		.here = is_here, .arg = f, .page_ahead = PREDICT_PAGE_AHEAD};
	int r = predictor_new(&o, &f->p);

	for (size_t i = 0; r == 0 && i < n; i++)
		r = predictor_add(f->p, &profiles[i]);
	if (r == 0)
		r = copy_paths(f);
	if (r == 0)
		r = work_run(f->st->s->o.threads, find_job, f);
	if (r < 0)
		return r;
	tell_files(f);
	return scope_spawn(&f->st->scope, local_task, f, NULL);
}

/* Of an image that is all here only pages are read ahead: once for all who start at once. */
static bool is_worth(const struct start *st)
{
	const struct starts *s = st->s;

	if (s->foreseeing >= FORESEE_STARTS_MAX)
		return false;
	for (struct list *l = s->alive.next; st->complete && l != &s->alive; l = l->next) {
		const struct start *o = container_of(l, struct start, link);

		if (o != st && o->foresight && digest_eq(&o->manifest, &st->manifest))
			return false;
	}
	return true;
}

may_suspend static int begin(struct start *st)
{
	struct profile profiles[PREDICT_PROFILES_MAX];
	auto_arena struct arena a;
	struct foresight *f;
	int n, r;

	arena_init(&a, START_PROFILES_MEMORY);
	n = profiles_of(st->s->o.profiles, st->repository, &a, profiles, PREDICT_PROFILES_MAX,
			NULL);
	if (n <= 0)
		return n < 0 ? n : -ENOENT;
	f = calloc(1, sizeof(*f));
	if (!f)
		return -ENOMEM;
	f->st = st;
	r = prepare(f, profiles, (size_t)n);
	if (r < 0) {
		foresight_free(f);
		return r;
	}
	st->foresight = f;
	st->s->stats.foreseen++;
	log_info("foreseen image=%s files=%zu profiles=%d", st->ref, f->by_number_n, n);
	/* What has come meanwhile. */
	for (size_t i = 0; i < st->touches_n; i++)
		foresee_touched(st, &st->touches[i]);
	return 0;
}

may_suspend bool foresee_begin(struct start *st)
{
	if (!is_worth(st))
		return false;
	st->s->foreseeing++;
	if (begin(st) < 0) {
		st->s->foreseeing--;
		return false;
	}
	return foresee_entry(st, st->exec_ns);
}

void foresee_end(struct start *st, struct predict_stats *ret)
{
	struct foresight *f = st->foresight;

	*ret = (struct predict_stats){0};
	if (!f)
		return;
	hold(f, false);
	predictor_stats(f->p, ret);
	foresight_free(f);
	st->foresight = NULL;
	st->s->foreseeing--;
}
