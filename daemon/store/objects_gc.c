// SPDX-License-Identifier: Apache-2.0
/*
 * What goes again: files of contents that no layer has, files that a crash has left, and, above the
 * cap, what was not used for the longest time. Also counts what is there.
 */
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/limits.h"
#include "base/log.h"
#include "loop/work.h"
#include "store/objects_impl.h"

#include "base/banned.h"

#define NS_PER_S  1000000000ll
#define NS_PER_MS 1000000ll

/* --- deletion --------------------------------------------------------------------------------- */

struct reap {
	struct objects *o;
	struct doomed *doomed;
	size_t n, at;
	int *fds;
	size_t fds_n;
};

static int has_record(struct objects *o, const struct digest *key)
{
	auto_buf struct buf bytes = BUF_INIT;
	int r = kv_get(meta_kv(o->meta), KV_OBJECTS, digest_str(key), &bytes, NULL);

	return r == -ENOENT ? 0 : r == 0 ? 1 : r;
}

/* A name that is shared stays unless it is meant: it is what later ones are linked to. Answers
 * whether it has gone. */
static bool remove_complete(struct objects *o, const struct digest *key, bool always)
{
	char path[OBJECT_PATH_SIZE];
	struct stat st;

	object_path(key, path);
	if (fstatat(o->objects_fd, path, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return false;
	if ((st.st_nlink > 1 && !always) || unlinkat(o->objects_fd, path, 0) < 0)
		return false;
	count_add(o, key, st.st_nlink > 1 ? 0 : -(int64_t)st.st_blocks * 512, -1);
	return true;
}

static void reap_one(struct objects *o, const struct doomed *d)
{
	if (has_record(o, &d->key) != 0)
		return; /* it has come again */
	remove_complete(o, &d->key, d->always);
	file_remove_partial(o, &d->key, true);
	if (!digest_eq(&d->key, &d->canonical) && has_record(o, &d->canonical) == 0)
		remove_complete(o, &d->canonical, false);
}

static int reap_job(void *arg)
{
	struct reap *p = arg;

	for (size_t i = 0; i < OBJECTS_REAP_BATCH && p->at < p->n; i++, p->at++)
		reap_one(p->o, &p->doomed[p->at]);
	return 0;
}

static int close_job(void *arg)
{
	struct reap *p = arg;

	for (size_t i = 0; i < p->fds_n; i++)
		close(p->fds[i]);
	p->fds_n = 0;
	return 0;
}

may_suspend static int close_taken(struct objects *o)
{
	auto_buf struct buf taken = o->closing;
	struct reap p = {.o = o, .fds = (int *)(void *)taken.data};
	int r;

	p.fds_n = taken.len / sizeof(int);
	o->closing = BUF_INIT;
	r = p.fds_n ? work_run(o->threads, close_job, &p) : 0;
	close_job(&p); /* if there was no thread */
	return r;
}

/* The lock: no record comes between the look at it and the deletion. */
may_suspend static int reap_taken(struct objects *o)
{
	auto_buf struct buf taken = o->doomed;
	struct reap p = {.o = o, .doomed = (struct doomed *)(void *)taken.data};
	int r = 0;

	p.n = taken.len / sizeof(struct doomed);
	o->doomed = BUF_INIT;
	while (p.at < p.n && r == 0) {
		r = mutex_lock(&o->changing);
		if (r < 0)
			break;
		r = work_run(o->threads, reap_job, &p);
		mutex_unlock(&o->changing);
		task_yield();
	}
	return r; /* what is left the next start finds */
}

may_suspend int reap_task(void *arg)
{
	struct objects *o = arg;
	int r = 0;

	while ((o->doomed.len || o->closing.len) && r == 0) {
		r = close_taken(o);
		if (r == 0)
			r = reap_taken(o);
	}
	o->reap.running = false;
	return 0;
}

/* --- walks ------------------------------------------------------------------------------------ */

struct pick {
	int64_t used_ns;
	struct digest key;
	bool partial;
};

struct orphan {
	uint64_t inode, links;
	struct digest key;
};

struct walk {
	struct objects *o;
	unsigned dir;
	int64_t bytes, files;
	bool partial;         /* it is among the partial ones */
	bool records;         /* look for files without one, and for what is not durable */
	struct buf doomed;    /* struct doomed */
	struct buf shared;    /* struct orphan: with several names */
	struct buf undurable; /* struct digest */
	struct pick *picks;   /* 2 * OBJECTS_EVICT_CANDIDATES; NULL = none wanted */
	size_t picks_n;
	int64_t used_before_ns; /* of picks */
};

static int64_t time_ns(const struct timespec *t)
{
	return t->tv_sec * NS_PER_S + t->tv_nsec;
}

static int64_t used_ns(const struct stat *st)
{
	int64_t a = time_ns(&st->st_atim), m = time_ns(&st->st_mtim);

	return a > m ? a : m;
}

static int pick_cmp(const void *a, const void *b)
{
	const struct pick *p = a, *q = b;

	return p->used_ns < q->used_ns ? -1 : p->used_ns > q->used_ns;
}

/* Keeps the oldest. */
static void pick(struct walk *w, const struct digest *key, const struct stat *st)
{
	int64_t used = used_ns(st);

	if ((st->st_mode & 07777) == MODE_FRESH || used >= w->used_before_ns)
		return;
	w->picks[w->picks_n++] = (struct pick){used, *key, w->partial};
	if (w->picks_n < 2 * OBJECTS_EVICT_CANDIDATES)
		return;
	qsort(w->picks, w->picks_n, sizeof(w->picks[0]), pick_cmp);
	w->picks_n = OBJECTS_EVICT_CANDIDATES;
	w->used_before_ns = w->picks[w->picks_n - 1].used_ns;
}

/* Memory that is out: then it is found at another start. */
static void orphan_check(struct walk *w, const struct digest *key, const struct stat *st)
{
	struct doomed d = {.key = *key, .canonical = *key};
	struct orphan shared = {st->st_ino, st->st_nlink, *key};

	if ((st->st_mode & 07777) == MODE_FRESH)
		(void)!buf_append(&w->undurable, key, sizeof(*key));
	if (has_record(w->o, key) != 0)
		return;
	if (st->st_nlink == 1)
		(void)!buf_append(&w->doomed, &d, sizeof(d));
	else if (w->shared.len < OBJECTS_ORPHANS_MAX * sizeof(shared))
		(void)!buf_append(&w->shared, &shared, sizeof(shared));
}

static int walk_one(void *arg, int dir_fd, const struct digest *key)
{
	struct walk *w = arg;
	char name[DIGEST_HEX_SIZE];
	struct stat st;

	digest_hex(key, name);
	if (fstatat(dir_fd, name, &st, AT_SYMLINK_NOFOLLOW) < 0 || !S_ISREG(st.st_mode) ||
	    !st.st_nlink)
		return 0;
	w->bytes += (int64_t)st.st_blocks * 512 / (int64_t)st.st_nlink;
	w->files++;
	if (w->picks)
		pick(w, key, &st);
	if (w->records)
		orphan_check(w, key, &st);
	return 0;
}

static int walk_job(void *arg)
{
	static const char digits[] = "0123456789abcdef";
	struct walk *w = arg;
	struct objects_counts *counts = w->o->counts;
	char name[3] = {digits[w->dir >> 4], digits[w->dir & 15], 0};
	int r;

	w->bytes = w->files = 0;
	r = dir_walk(w->o->objects_fd, name, walk_one, w);
	if (r < 0)
		return r;
	__atomic_store_n(&counts->bytes[w->dir], w->bytes, __ATOMIC_RELAXED);
	__atomic_store_n(&counts->complete[w->dir], w->files, __ATOMIC_RELAXED);
	return 0;
}

static int partial_one(void *arg, int dir_fd, const struct digest *key)
{
	struct walk *w = arg;
	struct doomed d = {.key = *key, .canonical = *key};
	char name[DIGEST_HEX_SIZE];
	struct stat st;

	digest_hex(key, name);
	if (fstatat(dir_fd, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return 0;
	w->bytes += (int64_t)st.st_blocks * 512;
	w->files++;
	if (w->picks)
		pick(w, key, &st);
	if (w->records && has_record(w->o, key) == 0)
		(void)!buf_append(&w->doomed, &d, sizeof(d));
	return 0;
}

int count_partial(struct objects *o)
{
	struct walk w = {.o = o};
	int r = dir_walk(o->partial_fd, ".", partial_one, &w);

	o->counts->partial_bytes = w.bytes; /* nothing else runs at the start */
	o->counts->partial = w.files;
	return r;
}

static int orphan_cmp(const void *a, const void *b)
{
	const struct orphan *p = a, *q = b;

	return p->inode < q->inode ? -1 : p->inode > q->inode;
}

/* The last step of the walk: partial ones, and files all of whose names are without a record. */
static int orphans_job(void *arg)
{
	struct walk *w = arg;
	struct orphan *v = (struct orphan *)(void *)w->shared.data;
	size_t n = w->shared.len / sizeof(*v);

	if (n)
		qsort(v, n, sizeof(*v), orphan_cmp);
	for (size_t i = 0, end; i < n; i = end) {
		for (end = i + 1; end < n && v[end].inode == v[i].inode;)
			end++;
		for (size_t j = i; j < end && end - i == v[i].links; j++) {
			struct doomed d = {v[j].key, v[j].key, true};

			(void)!buf_append(&w->doomed, &d, sizeof(d));
		}
	}
	return dir_walk(w->o->partial_fd, ".", partial_one, w);
}

may_suspend void walk_all(struct objects *o)
{
	struct walk w = {.o = o, .records = true};
	struct digest *keys;
	int r = 0;

	for (; w.dir < 256 && r == 0; w.dir++) {
		r = work_run(o->threads, walk_job, &w);
		if (r == 0)
			r = task_sleep_ms(OBJECTS_WALK_PAUSE_MS);
	}
	if (r == 0)
		r = work_run(o->threads, orphans_job, &w);
	if (r < 0 && r != -ECANCELED)
		log_warn("objects walk error=\"%s\"", strerror(-r));
	if (r == 0 && w.doomed.len) {
		log_info("objects=%zu without a layer: deleted",
			 w.doomed.len / sizeof(struct doomed));
		(void)!buf_append(&o->doomed, w.doomed.data, w.doomed.len);
		chore_kick(&o->reap);
	}
	keys = (struct digest *)(void *)w.undurable.data;
	for (size_t i = 0; i < w.undurable.len / sizeof(*keys); i++)
		undurable_add(o, &keys[i]);
	buf_fini(&w.doomed);
	buf_fini(&w.shared);
	buf_fini(&w.undurable);
	evict_check(o);
}

/* --- eviction --------------------------------------------------------------------------------- */

static uint64_t bytes_used(const struct objects *o)
{
	struct objects_usage u;

	objects_usage(o, &u);
	return u.bytes;
}

void evict_check(struct objects *o)
{
	if (o->options.bytes_max && bytes_used(o) > o->options.bytes_max)
		chore_kick(&o->evict);
}

/* Has it gone? */
static bool evict_one(struct objects *o, const struct pick *p)
{
	char path[OBJECT_PATH_SIZE];
	const char *name = p->partial ? path + 3 : path;
	struct stat st;

	object_path(&p->key, path);
	if (fstatat(p->partial ? o->partial_fd : o->objects_fd, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return false;
	if (used_ns(&st) != p->used_ns)
		return false; /* used since */
	return p->partial ? file_remove_partial(o, &p->key, true)
			  : remove_complete(o, &p->key, true);
}

static int evict_job(void *arg)
{
	struct walk *w = arg;
	uint64_t enough = w->o->options.bytes_max / 100 * OBJECTS_EVICT_PERCENT;
	int n = 0;

	for (size_t i = 0; i < w->picks_n && bytes_used(w->o) > enough; i++)
		n += evict_one(w->o, &w->picks[i]);
	return n;
}

static int partials_job(void *arg)
{
	struct walk *w = arg;

	w->partial = true;
	return dir_walk(w->o->partial_fd, ".", partial_one, w);
}

/* Is one being opened whose key is not known yet? */
static bool some_load(const struct objects *o)
{
	return o->by_number.count != o->by_key.count;
}

/* Without those in use. */
static void unused_only(struct walk *w)
{
	size_t n = 0;

	qsort(w->picks, w->picks_n, sizeof(w->picks[0]), pick_cmp);
	for (size_t i = 0; i < w->picks_n; i++) {
		struct entry *e = entry_by_key(w->o, &w->picks[i].key);

		if ((e && e->refs) || (w->picks[i].partial && some_load(w->o)))
			continue;
		if (e)
			entry_drop(w->o, e); /* its open file keeps the bytes */
		w->picks[n++] = w->picks[i];
	}
	w->picks_n = n;
}

/* Answers how many went. */
may_suspend static int evict_some(struct objects *o, struct pick *picks)
{
	struct walk w = {.o = o, .picks = picks};
	struct timespec now;
	int r = 0;

	clock_gettime(CLOCK_REALTIME, &now);
	w.used_before_ns = time_ns(&now) - OBJECTS_EVICT_AGE_MS * NS_PER_MS;
	for (; w.dir < 256 && r == 0 && !task_cancelled(); w.dir++)
		r = work_run(o->threads, walk_job, &w);
	if (r == 0)
		r = work_run(o->threads, partials_job, &w);
	if (r < 0 || task_cancelled())
		return r;
	unused_only(&w);
	o->evicting = true; /* an entry must not open a partial file that is just going */
	r = w.picks_n ? work_run(o->threads, evict_job, &w) : 0;
	o->evicting = false;
	waitq_wake_all(&o->evicted);
	return r;
}

may_suspend int evict_task(void *arg)
{
	struct objects *o = arg;
	struct pick *picks = reallocarray(NULL, 2 * OBJECTS_EVICT_CANDIDATES, sizeof(*picks));
	unsigned retry_ms = OBJECTS_EVICT_RETRY_MS;
	int r = picks ? 0 : -ENOMEM;

	while (r >= 0 && bytes_used(o) > o->options.bytes_max) {
		r = evict_some(o, picks);
		if (r > 0) {
			log_info("objects evicted=%d bytes=%llu", r,
				 (unsigned long long)bytes_used(o));
			retry_ms = OBJECTS_EVICT_RETRY_MS;
		} else if (r == 0) { /* all in use, or too young */
			r = task_sleep_ms(retry_ms);
			retry_ms = retry_ms * 2 < OBJECTS_EVICT_RETRY_MAX_MS
					   ? retry_ms * 2
					   : OBJECTS_EVICT_RETRY_MAX_MS;
		}
	}
	if (r < 0 && r != -ECANCELED)
		log_warn("objects evict error=\"%s\"", strerror(-r));
	free(picks);
	o->evict.running = false;
	return 0;
}
