// SPDX-License-Identifier: Apache-2.0
/* Which mounts are ours or are made of what is ours: from the kernel's list and from snap/. Loop
 * thread; the list is read on a thread. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "api/control.h"
#include "base/limits.h"
#include "loop/work.h"
#include "proto/control.pb-c.h"

#include "base/banned.h"

#define MOUNTINFO "/proc/self/mountinfo"

struct table {
	const char *root;
	struct arena *arena; /* the thread's alone meanwhile */
	Flc__MountEntry **list;
	size_t n;
};

/* \ooo as the kernel writes spaces and the like (proc_pid_mountinfo(5)). */
static void unescape(char *s)
{
	char *to = s;

	for (; *s; s++) {
		if (s[0] == '\\' && s[1] >= '0' && s[1] <= '3' && s[2] >= '0' && s[2] <= '7' &&
		    s[3] >= '0' && s[3] <= '7') {
			*to++ = (char)((s[1] - '0') << 6 | (s[2] - '0') << 3 | (s[3] - '0'));
			s += 3;
		} else {
			*to++ = *s;
		}
	}
	*to = 0;
}

static const char *kind_of(const struct table *t, const char *target, const char *fstype,
			   const char *options)
{
	size_t n = strlen(t->root);
	const char *at;

	if (strncmp(target, t->root, n) == 0 && target[n] == '/') {
		if (strcmp(target + n, "/fill") == 0)
			return "fill";
		return strncmp(target + n, "/m/", 3) == 0 ? "meta" : NULL;
	}
	if (strcmp(fstype, "overlay") != 0)
		return NULL;
	at = strstr(options, t->root);
	return at && at[n] == '/' ? "container" : NULL;
}

/* "ID PARENT MAJOR:MINOR ROOT TARGET OPTIONS FIELD… - TYPE SOURCE OPTIONS" */
static int add_line(struct table *t, char *line)
{
	char *field[6], *save = NULL, *rest = strstr(line, " - "), *type, *source, *options;
	const char *kind;
	Flc__MountEntry *e;

	if (!rest)
		return 0;
	*rest = 0;
	for (int i = 0; i < 6; i++) {
		field[i] = strtok_r(i ? NULL : line, " ", &save);
		if (!field[i])
			return 0;
	}
	type = strtok_r(rest + 3, " ", &save);
	source = type ? strtok_r(NULL, " ", &save) : NULL;
	options = source ? strtok_r(NULL, "\n", &save) : NULL;
	if (!options)
		return 0;
	unescape(field[4]);
	unescape(source);
	kind = kind_of(t, field[4], type, options);
	if (!kind || t->n >= CONTROL_MOUNTS_MAX)
		return 0;
	e = arena_alloc(t->arena, sizeof(*e));
	if (!e)
		return -ENOMEM;
	flc__mount_entry__init(e);
	e->kind = (char *)(uintptr_t)kind;
	e->target = arena_strndup(t->arena, field[4], strlen(field[4]));
	e->source = arena_strndup(t->arena, source, strlen(source));
	e->fstype = arena_strndup(t->arena, type, strlen(type));
	t->list[t->n++] = e;
	return e->target && e->source && e->fstype ? 0 : -ENOMEM;
}

static int table_job(void *arg)
{
	struct table *t = arg;
	auto_free char *line = NULL;
	FILE *f = fopen(MOUNTINFO, "re");
	size_t size = 0;
	int r = 0;

	if (!f)
		return -errno;
	while (r == 0 && getline(&line, &size, f) > 0)
		r = add_line(t, line);
	fclose(f);
	return r;
}

/* What snap/ knows of a metadata image. */
static void add_run(struct table *t, const struct snaps_run *run)
{
	for (size_t i = 0; i < t->n; i++) {
		const char *slash = strrchr(t->list[i]->target, '/');

		if (strcmp(t->list[i]->kind, "meta") != 0 ||
		    strtoull(slash + 1, NULL, 10) != run->id)
			continue;
		t->list[i]->users = run->users;
		t->list[i]->snapshot = (char *)(uintptr_t)run->top.p;
		t->list[i]->layers = run->layers;
		t->list[i]->n_layers = run->layers_n;
	}
}

may_suspend static int mounts(struct request *q, struct table *t)
{
	struct snaps_stats st;
	struct snaps_run *runs;
	int n, r;

	t->list = arena_alloc(&q->arena, CONTROL_MOUNTS_MAX * sizeof(*t->list));
	if (!t->list)
		return err_set(q->err, -ENOMEM, "out of memory");
	r = work_run(q->svc->threads, table_job, t);
	if (r < 0)
		return err_errno(q->err, r, "read " MOUNTINFO);
	snaps_stats(q->svc->snaps, &st);
	runs = arena_alloc(&q->arena, (st.runs + 1) * sizeof(*runs));
	n = runs ? snaps_runs(q->svc->snaps, &q->arena, runs, st.runs) : -ENOMEM;
	if (n < 0)
		return err_set(q->err, -ENOMEM, "out of memory");
	for (int i = 0; i < n; i++)
		add_run(t, &runs[i]);
	return 0;
}

may_suspend enum grpc_code control_mounts(struct grpc_call *call, void *arg, struct err *err)
{
	auto_request struct request q;
	Flc__MountsList o = FLC__MOUNTS_LIST__INIT;
	struct table t = {.n = 0};
	Flc__Empty *in;
	int r;

	request_init(&q, call, arg, err);
	q.arena.max = MiB(64); /* of its own making, and bounded by CONTROL_MOUNTS_MAX */
	r = request_read(&q, &flc__empty__descriptor, &in);
	t.root = q.svc->root;
	t.arena = &q.arena;
	if (r == 0)
		r = mounts(&q, &t);
	if (r == 0) {
		o.mounts = t.list;
		o.n_mounts = t.n;
		r = request_answer(&q, &o.base);
	}
	return request_code(r);
}
