// SPDX-License-Identifier: Apache-2.0
/*
 * The reaper: empties ROOT/trash on threads of its own. The directory itself is the queue, so a
 * crash loses nothing and a backlog takes no memory.
 */
#include <dirent.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "base/limits.h"
#include "base/log.h"
#include "fs/tree.h"
#include "snap/tree.h"

#include "base/banned.h"

#define NAMES_MAX    DIR_POOL_MAX /* of one listing: the whole pool */
#define NAME_BYTES   32
#define RETRY_MS_MIN 1000
#define RETRY_MS_MAX 60000

struct pass {
	struct snaps *s;
	int fd;      /* ROOT/trash or ROOT/pool */
	size_t room; /* in the pool; taken by the threads */
	bool pooled[NAMES_MAX];
	char names[NAMES_MAX][NAME_BYTES];
	size_t n, next; /* next: taken by the threads */
	size_t failed;
	struct err err;
};

static int list_job(void *arg)
{
	struct pass *p = arg;
	auto_closedir DIR *d = NULL;
	struct dirent *e;
	int fd = openat(p->fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	if (fd < 0)
		return -errno;
	d = fdopendir(fd);
	if (!d) {
		close(fd);
		return -ENOMEM;
	}
	while (p->n < NAMES_MAX && (e = readdir(d))) {
		if (e->d_name[0] == '.' || strlen(e->d_name) >= NAME_BYTES)
			continue; /* not ours */
		memcpy(p->names[p->n++], e->d_name, strlen(e->d_name) + 1);
	}
	return 0;
}

static bool take_room(struct pass *p)
{
	size_t room = __atomic_load_n(&p->room, __ATOMIC_RELAXED);

	while (room && !__atomic_compare_exchange_n(&p->room, &room, room - 1, false,
						    __ATOMIC_RELAXED, __ATOMIC_RELAXED))
		;
	return room != 0;
}

static int remove_job(void *arg)
{
	struct pass *p = arg;
	size_t i;

	while ((i = __atomic_fetch_add(&p->next, 1, __ATOMIC_RELAXED)) < p->n) {
		struct err err = ERR_INIT;

		p->pooled[i] = take_room(p) && pool_clean(p->s, p->fd, p->names[i]);
		if (!p->pooled[i] && tree_remove(p->fd, p->names[i], &err) < 0) {
			__atomic_fetch_add(&p->failed, 1, __ATOMIC_RELAXED);
			log_warn("trash name=%s error=\"%s\"", p->names[i], err.text);
		}
	}
	return 0;
}

may_suspend static int remove_task(void *arg)
{
	struct pass *p = arg;

	return work_run(p->s->reapers, remove_job, p);
}

static void to_pool(struct pass *p)
{
	uint64_t id;

	for (size_t i = 0; i < p->n; i++) {
		if (p->pooled[i] && str_u64(str_of(p->names[i]), &id) == 0)
			pool_put(p->s, id);
	}
}

/* One listing of the directory fd. */
may_suspend static int pass_run(struct snaps *s, struct pass *p, int fd)
{
	struct scope scope;
	int r;

	memset(p, 0, sizeof(*p));
	p->s = s;
	p->fd = fd;
	p->room = DIR_POOL_MAX - s->pool.n;
	r = work_run(s->reapers, list_job, p);
	if (r < 0)
		return r;
	scope_init(&scope, s->loop);
	for (int i = 0; p->n && i < WORK_THREADS_REAPER; i++) {
		if (scope_spawn(&scope, remove_task, p, NULL) < 0)
			break;
	}
	scope_wait(&scope);
	scope_fini(&scope);
	to_pool(p);
	return 0;
}

/* Empties the trash; answers whether something stays. */
may_suspend static bool trash_pass(struct snaps *s, struct pass *p)
{
	do {
		if (pass_run(s, p, s->trash_fd) < 0)
			return true;
	} while (p->n && p->failed < p->n && !task_cancelled());
	return p->n != 0;
}

may_suspend static int reaper(void *arg)
{
	struct snaps *s = arg;
	struct pass *p = malloc(sizeof(*p));
	unsigned retry_ms = 0;
	int r = 0;

	if (!p)
		return -ENOMEM;
	/* What an earlier start has left in the pool is looked at before it is used. */
	pass_run(s, p, s->pool.fd);
	while (r != -ECANCELED) {
		s->trash_kicked = false;
		if (trash_pass(s, p))
			retry_ms = retry_ms ? retry_ms * 2 : RETRY_MS_MIN;
		else
			retry_ms = 0;
		if (retry_ms > RETRY_MS_MAX)
			retry_ms = RETRY_MS_MAX;
		if (task_cancelled())
			break;
		if (retry_ms)
			r = task_sleep_ms(retry_ms);
		else if (!s->trash_kicked)
			r = waitq_wait(&s->trash_filled);
	}
	free(p);
	return 0;
}

int trash_start(struct snaps *s, struct err *err)
{
	int r = scope_spawn(&s->scope, reaper, s, NULL);

	return r < 0 ? err_errno(err, r, "start the reaper") : 0;
}

void trash_kick(struct snaps *s)
{
	s->trash_kicked = true;
	waitq_wake_all(&s->trash_filled);
}
