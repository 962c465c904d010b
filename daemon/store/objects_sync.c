// SPDX-License-Identifier: Apache-2.0
/*
 * Durability of complete objects: one syncfs for many, then mode 0444 says that the bytes are on
 * the disk. What has another mode when another boot finds it was not, and is hashed before it is
 * used.
 */
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/limits.h"
#include "base/log.h"
#include "loop/work.h"
#include "store/objects_impl.h"

#include "base/banned.h"

void undurable_add(struct objects *o, const struct digest *key)
{
	/* Without memory it keeps 0400, and the next start sees to it. */
	if (buf_append(&o->undurable, key, sizeof(*key)) == 0)
		chore_kick(&o->sync);
}

/* --- syncfs ----------------------------------------------------------------------------------- */

struct sync {
	struct objects *o;
	struct digest *keys;
	size_t n, at;
	mode_t mode;           /* what they get */
	struct timespec begun; /* by the clock of file times */
	struct buf again;      /* written since */
};

static int sync_job(void *arg)
{
	struct sync *s = arg;

	clock_gettime(CLOCK_REALTIME_COARSE, &s->begun);
	s->mode = MODE_DURABLE;
	if (syncfs(s->o->objects_fd) < 0) {
		/* An error is told once: the next success, of another process too, says nothing
		 * about these. */
		log_warn("objects=%zu are not durable error=\"%s\"", s->n, strerror(errno));
		s->mode = MODE_LOST;
	}
	return 0;
}

static bool before(const struct timespec *a, const struct timespec *b)
{
	return a->tv_sec < b->tv_sec || (a->tv_sec == b->tv_sec && a->tv_nsec < b->tv_nsec);
}

static int chmod_job(void *arg)
{
	struct sync *s = arg;
	char path[OBJECT_PATH_SIZE];
	struct stat st;

	for (size_t i = 0; i < OBJECTS_CHMOD_BATCH && s->at < s->n; i++, s->at++) {
		object_path(&s->keys[s->at], path);
		if (fstatat(s->o->objects_fd, path, &st, AT_SYMLINK_NOFOLLOW) < 0)
			continue;
		/* Another file of that name may have come meanwhile. */
		if (before(&st.st_mtim, &s->begun))
			fchmodat(s->o->objects_fd, path, s->mode, 0);
		else if (buf_append(&s->again, &s->keys[s->at], sizeof(s->keys[0])) < 0)
			return -ENOMEM;
	}
	return 0;
}

may_suspend static void sync_once(struct objects *o)
{
	auto_buf struct buf taken = o->undurable;
	struct sync s = {.o = o,
			 .keys = (struct digest *)(void *)taken.data,
			 .n = taken.len / sizeof(struct digest)};
	int r;

	o->undurable = BUF_INIT;
	r = work_run(o->threads, sync_job, &s);
	while (r == 0 && s.at < s.n)
		r = work_run(o->threads, chmod_job, &s);
	if (r < 0 && s.at < s.n) /* no thread or no memory: later */
		(void)!buf_append(&s.again, &s.keys[s.at], (s.n - s.at) * sizeof(s.keys[0]));
	if (s.again.len)
		(void)!buf_append(&o->undurable, s.again.data, s.again.len);
	buf_fini(&s.again);
}

may_suspend int sync_task(void *arg)
{
	struct objects *o = arg;

	while (o->undurable.len && task_sleep_ms(OBJECTS_SYNC_MS) == 0)
		sync_once(o);
	o->sync.running = false;
	return 0;
}

/* --- after another boot ----------------------------------------------------------------------- */

struct aside {
	struct objects *o;
	size_t n;
};

static int aside_one(void *arg, int dir_fd, const struct digest *key)
{
	struct aside *a = arg;
	char name[DIGEST_HEX_SIZE];
	struct stat st;

	digest_hex(key, name);
	if (fstatat(dir_fd, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return errno == ENOENT ? 0 : -errno;
	if (S_ISREG(st.st_mode) && (st.st_mode & 07777) == MODE_DURABLE)
		return 0;
	if (renameat(dir_fd, name, a->o->verify_fd, name) < 0)
		return -errno;
	a->n++;
	return 0;
}

static int drop_one(void *arg, int dir_fd, const struct digest *key)
{
	char name[DIGEST_HEX_SIZE];

	(void)arg;
	digest_hex(key, name);
	return unlinkat(dir_fd, name, 0) < 0 && errno != ENOENT ? -errno : 0;
}

int recovery_set_aside(struct objects *o, struct err *err)
{
	struct aside a = {.o = o};
	char name[4];
	int r = dir_walk(o->partial_fd, ".", drop_one, NULL);

	for (unsigned i = 0; i < 256 && r == 0; i++) {
		snprintf(name, sizeof(name), "%02x", i);
		r = dir_walk(o->objects_fd, name, aside_one, &a);
	}
	if (a.n)
		log_info("objects=%zu were not durable when the machine went down: checked again",
			 a.n);
	return r < 0 ? err_errno(err, r, "put objects aside that were not durable") : 0;
}

struct verify {
	struct objects *o;
	struct digest key;
	bool found, good;
};

/* -ECANCELED ends the walk: one is enough. */
static int verify_find(void *arg, int dir_fd, const struct digest *key)
{
	struct verify *v = arg;

	(void)dir_fd;
	v->key = *key;
	v->found = true;
	return -ECANCELED;
}

/* By its record, or by its own name if that is of one chunk. */
static bool hash_right(struct verify *v, struct kv *kv, int fd)
{
	auto_buf struct buf bytes = BUF_INIT;
	struct object_record rec;
	struct digest is, canonical;
	struct stat st;
	int r = record_read(kv, &v->key, &bytes, &rec, NULL);

	if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode) ||
	    file_hash(fd, (uint64_t)st.st_size, &is) < 0)
		return false;
	if (r == 0)
		return (uint64_t)st.st_size == rec.size && digest_eq(&is, &rec.digest);
	object_canonical_key(&is, (uint64_t)st.st_size, &canonical);
	return digest_eq(&canonical, &v->key);
}

static int verify_job(void *arg)
{
	struct verify *v = arg;
	struct objects *o = v->o;
	char path[OBJECT_PATH_SIZE];
	auto_close int fd = -1;
	int r;

	v->found = v->good = false;
	r = dir_walk(o->verify_fd, ".", verify_find, v);
	if (!v->found)
		return r;
	object_path(&v->key, path);
	fd = openat(o->verify_fd, path + 3, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
	v->good = fd >= 0 && hash_right(v, meta_kv(o->meta), fd);
	/* It may have come again meanwhile. */
	if (v->good &&
	    renameat2(o->verify_fd, path + 3, o->objects_fd, path, RENAME_NOREPLACE) == 0) {
		count_add(o, &v->key, file_disk_bytes(fd), 1);
		return 0;
	}
	if (!v->good)
		log_warn("object=%s error=\"lost in a power cut\" dropped", path + 3);
	return unlinkat(o->verify_fd, path + 3, 0) < 0 ? -errno : 0;
}

may_suspend void recovery_verify(struct objects *o)
{
	struct verify v = {.o = o};
	int r = 0;

	while (r == 0 && !task_cancelled()) {
		r = work_run(o->threads, verify_job, &v);
		if (r == 0 && !v.found)
			return;
		if (r == 0 && v.good)
			objects_wrote(o, &v.key);
	}
	if (r < 0)
		log_warn("objects check error=\"%s\"", strerror(-r));
}
