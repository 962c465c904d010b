// SPDX-License-Identifier: Apache-2.0
/*
 * The reaper: empties ROOT/trash on threads of its own. The directory itself is the queue, so a
 * crash loses nothing and a backlog takes no memory. Before that it looks which of the directories
 * that seem unused are, for the pool; the others become trash.
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

#define NAMES_MAX    256
#define NAME_BYTES   32
#define RETRY_MS_MIN 1000
#define RETRY_MS_MAX 60000

struct pass {
	struct snaps *s;
	char names[NAMES_MAX][NAME_BYTES]; /* in ROOT/trash */
	uint64_t ids[NAMES_MAX];           /* or ids to look at; 0 = it was not fit */
	bool drop;                         /* the ids become trash in any case */
	size_t n, next;                    /* next: taken by the threads */
	size_t failed;
};

static int list_job(void *arg)
{
	struct pass *p = arg;
	auto_closedir DIR *d = NULL;
	struct dirent *e;
	int fd = openat(p->s->trash_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);

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

static size_t take(struct pass *p)
{
	return __atomic_fetch_add(&p->next, 1, __ATOMIC_RELAXED);
}

static int remove_job(void *arg)
{
	struct pass *p = arg;
	size_t i;

	while ((i = take(p)) < p->n) {
		struct err err = ERR_INIT;

		if (tree_remove(p->s->trash_fd, p->names[i], &err) < 0) {
			__atomic_fetch_add(&p->failed, 1, __ATOMIC_RELAXED);
			log_warn("trash name=%s error=\"%s\"", p->names[i], err.text);
		}
	}
	return 0;
}

static int look_job(void *arg)
{
	struct pass *p = arg;
	size_t i;

	while ((i = take(p)) < p->n) {
		struct err err = ERR_INIT;

		if (!p->drop && pool_fit(p->s, p->ids[i]))
			continue;
		if (dirs_trash_now(p->s, p->ids[i], &err) < 0)
			log_warn("trash id=%" PRIu64 " error=\"%s\"", p->ids[i], err.text);
		p->ids[i] = 0;
	}
	return 0;
}

struct share {
	struct pass *pass;
	int (*job)(void *arg);
};

may_suspend static int share_task(void *arg)
{
	struct share *h = arg;

	return work_run(h->pass->s->reapers, h->job, h->pass);
}

/* One pass over what is listed, on all threads. */
may_suspend static void pass_run(struct pass *p, int (*job)(void *arg))
{
	struct share share = {p, job};
	struct scope scope;

	scope_init(&scope, p->s->loop);
	for (size_t i = 0; i < p->n && i < WORK_THREADS_REAPER; i++) {
		if (scope_spawn(&scope, share_task, &share, NULL) < 0)
			break;
	}
	scope_wait(&scope);
	scope_fini(&scope);
}

static void pass_init(struct pass *p, struct snaps *s)
{
	p->s = s;
	p->n = p->next = p->failed = 0;
}

may_suspend static void look_pass(struct snaps *s, struct pass *p)
{
	size_t room = DIR_POOL_MAX - s->pool.ready.n;

	pass_init(p, s);
	p->drop = s->pool.drop;
	while (p->n < NAMES_MAX && (p->ids[p->n] = pool_next(s)))
		p->n++;
	s->pool.drop = p->n == NAMES_MAX && p->drop;
	pass_run(p, look_job);
	for (size_t i = 0; i < p->n; i++) {
		bool fit = i < p->next; /* else no thread has come to look */

		if (p->ids[i] && fit && room) {
			pool_put(s, p->ids[i]);
			room--;
		} else if (p->ids[i]) {
			dirs_trash(s, p->ids[i], NULL);
		}
	}
}

/* Empties the trash; answers whether something stays. */
may_suspend static bool trash_pass(struct snaps *s, struct pass *p)
{
	do {
		look_pass(s, p);
		pass_init(p, s);
		if (work_run(s->reapers, list_job, p) < 0)
			return true;
		pass_run(p, remove_job);
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
