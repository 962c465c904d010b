// SPDX-License-Identifier: Apache-2.0
/*
 * Complete contents are read again and hashed, from the disk and not from the page cache, which
 * stays as it is. Finds what is not what its name says, and takes such a file away. Loop thread;
 * hashing on threads.
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/limits.h"
#include "loop/work.h"
#include "store/objects_impl.h"

#include "base/banned.h"

#define ALIGN 4096u

struct verify {
	struct objects *o;
	struct object_checked *found;
	size_t n, next; /* next: taken by the threads */
};

/* Direct reads where the file system has them. */
static int open_for_check(const struct objects *o, const char *path)
{
	int fd = openat(o->objects_fd, path, O_RDONLY | O_DIRECT | O_NOFOLLOW | O_CLOEXEC);

	if (fd < 0 && errno == EINVAL)
		fd = openat(o->objects_fd, path, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
	return fd < 0 ? -errno : fd;
}

static int hash_all(int fd, uint64_t *ret_size, struct digest *ret)
{
	auto_free void *buf = aligned_alloc(ALIGN, OBJECTS_VERIFY_BLOCK);
	auto_sha256 struct sha256 s = {0};
	int r = buf ? sha256_init(&s) : -ENOMEM;
	ssize_t n = 1;

	*ret_size = 0;
	while (r == 0 && n > 0) {
		n = pread(fd, buf, OBJECTS_VERIFY_BLOCK, (off_t)*ret_size);
		if (n < 0)
			r = errno == EINTR ? 0 : -errno;
		else
			sha256_add(&s, buf, (size_t)n);
		*ret_size += n > 0 ? (uint64_t)n : 0;
		n = n < 0 && r == 0 ? 1 : n;
		if (n > 0 && (size_t)n % ALIGN) /* the end; a direct read there may fail */
			break;
	}
	if (r == 0)
		sha256_done(&s, ret);
	return r;
}

/* A content of one chunk proves itself; what another key stands for its record says. */
static bool is_right(struct objects *o, const struct digest *key, const struct digest *is,
		     uint64_t size)
{
	auto_buf struct buf bytes = BUF_INIT;
	struct object_record rec;
	struct digest canonical;

	object_canonical_key(is, size, &canonical);
	if (digest_eq(&canonical, key))
		return true;
	return record_read(meta_kv(o->meta), key, &bytes, &rec, NULL) == 0 && rec.size == size &&
	       digest_eq(&rec.digest, is);
}

static void check_one(struct objects *o, struct object_checked *c)
{
	char path[OBJECT_PATH_SIZE];
	struct digest is;
	auto_close int fd = -1;
	int r;

	object_path(&c->key, path);
	fd = open_for_check(o, path);
	r = fd < 0 ? fd : hash_all(fd, &c->bytes, &is);
	if (r == -ENOENT) /* gone meanwhile */
		c->state = OBJECT_CHECK_GONE;
	else if (r < 0)
		c->state = OBJECT_CHECK_UNREADABLE;
	else
		c->state =
			is_right(o, &c->key, &is, c->bytes) ? OBJECT_CHECK_GOOD : OBJECT_CHECK_BAD;
	c->error = r;
}

static int check_job(void *arg)
{
	struct verify *v = arg;
	size_t i;

	while ((i = __atomic_fetch_add(&v->next, 1, __ATOMIC_RELAXED)) < v->n)
		check_one(v->o, &v->found[i]);
	return 0;
}

may_suspend static int check_task(void *arg)
{
	struct verify *v = arg;

	return work_run(v->o->threads, check_job, v);
}

may_suspend int objects_check(struct objects *o, struct object_checked *list, size_t n,
			      struct err *err)
{
	struct verify v = {.o = o, .found = list, .n = n};
	struct scope scope;
	int r = 0;

	scope_init(&scope, o->loop);
	for (size_t i = 0; i < n && i < OBJECTS_VERIFY_THREADS && r == 0; i++)
		r = scope_spawn(&scope, check_task, &v, NULL);
	scope_wait(&scope);
	scope_fini(&scope);
	if (r == 0 && v.next < n)
		r = -EAGAIN; /* no thread had time */
	return r < 0 ? err_errno(err, r, "check objects") : 0;
}

/* --- listing ---------------------------------------------------------------------------------- */

struct listing {
	const struct objects *o;
	unsigned dir;
	struct buf *keys;
};

static int list_one(void *arg, int dir_fd, const struct digest *key)
{
	struct listing *l = arg;

	(void)dir_fd;
	return buf_append(l->keys, key, sizeof(*key));
}

static int list_job(void *arg)
{
	struct listing *l = arg;
	char name[3];

	snprintf(name, sizeof(name), "%02x", l->dir);
	return dir_walk(l->o->objects_fd, name, list_one, l);
}

may_suspend int objects_list(struct objects *o, unsigned dir, struct buf *ret_keys, struct err *err)
{
	struct listing l = {o, dir, ret_keys};
	int r = work_run(o->threads, list_job, &l);

	return r < 0 ? err_errno(err, r, "list objects/%02x", dir) : 0;
}

/* --- what is wrong goes ----------------------------------------------------------------------- */

struct discard {
	struct objects *o;
	const struct digest *key;
};

static int discard_job(void *arg)
{
	struct discard *d = arg;
	char path[OBJECT_PATH_SIZE];
	struct stat st;

	object_path(d->key, path);
	if (fstatat(d->o->objects_fd, path, &st, AT_SYMLINK_NOFOLLOW) < 0 ||
	    unlinkat(d->o->objects_fd, path, 0) < 0)
		return errno == ENOENT ? 0 : -errno;
	count_add(d->o, d->key, st.st_nlink > 1 ? 0 : -(int64_t)st.st_blocks * 512, -1);
	return 0;
}

may_suspend int objects_discard(struct objects *o, const struct digest *key, struct err *err)
{
	struct discard d = {o, key};
	struct entry *e;
	int r = mutex_lock(&o->changing);

	if (r < 0)
		return err_errno(err, r, "remove an object");
	r = work_run(o->threads, discard_job, &d);
	e = r == 0 ? entry_by_key(o, key) : NULL;
	if (e) /* who has it open keeps that; others open anew */
		entry_gone(o, e);
	mutex_unlock(&o->changing);
	return r < 0 ? err_errno(err, r, "remove an object") : 0;
}
