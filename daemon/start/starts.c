// SPDX-License-Identifier: Apache-2.0
/*
 * The life of a start: a task each. Owns the starts, and the devices and the tracing that they
 * need. Loop thread.
 */
#include "start/starts.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "image/fetch.h"
#include "start/impl.h"

#include "base/banned.h"

_Static_assert(PROFILE_UNIT == ACCESS_UNIT, "what is told is what is learnt");

struct device {
	struct list link;
	dev_t dev;
	unsigned users;
};

/* --- events ------------------------------------------------------------------------------------
 */

struct start *start_by_snapshot(struct starts *s, uint64_t snapshot)
{
	for (struct list *l = s->alive.next; l != &s->alive; l = l->next) {
		struct start *st = container_of(l, struct start, link);

		if (st->snapshot == snapshot && !st->gone) /* ids are used again */
			return st;
	}
	return NULL;
}

static void on_exec(struct starts *s, const struct access_event *e)
{
	char program[ACCESS_PATH_MAX + ACCESS_ARGS_MAX + 1];
	size_t n = strlen(e->path) + 1;

	if (n + e->args.len > sizeof(program))
		return;
	memcpy(program, e->path, n);
	memcpy(program + n, e->args.p, e->args.len);
	space_event(s, e->mnt_ns, e->pid, NULL, (struct str){program, n + e->args.len}, e->time_ns);
}

static void on_access(void *arg, const struct access_event *e)
{
	struct starts *s = arg;
	struct touch t = {.time_ns = e->time_ns,
			  .dev = e->dev,
			  .unit = (uint32_t)e->unit,
			  .units = (uint32_t)e->units};

	if (list_empty(&s->alive) || e->unit + e->units > UINT32_MAX)
		return;
	switch (e->kind) {
	case ACCESS_OBJECT:
		t.number = object_number(&e->key);
		break;
	case ACCESS_FILE:
		t.file = true;
		t.number = e->ino;
		break;
	case ACCESS_EXEC:
		on_exec(s, e);
		return;
	}
	space_event(s, e->mnt_ns, e->pid, &t, (struct str){0}, e->time_ns);
}

static bool bpf_sees(const struct starts *s, enum access_program p)
{
	struct access_stats st;

	if (!s->access)
		return false;
	access_stats(s->access, &st);
	return st.programs[p].attached;
}

/* Would any program tell of reads? */
static bool sees_anything(const struct starts *s)
{
	struct access_stats st;

	if (!s->access)
		return false;
	access_stats(s->access, &st);
	return !st.programs[PROGRAM_GET_PAGES].reason || !st.programs[PROGRAM_ADD_PAGE].reason;
}

bool starts_see_all(const struct starts *s)
{
	return bpf_sees(s, PROGRAM_GET_PAGES) && bpf_sees(s, PROGRAM_FAULT) &&
	       bpf_sees(s, PROGRAM_MAP_PAGES);
}

uint64_t starts_lost(const struct starts *s)
{
	struct access_stats st;

	if (!s->access)
		return 0;
	access_stats(s->access, &st);
	return st.lost;
}

void starts_fuse_read(struct starts *s, uint64_t object, uint64_t off, uint64_t len, pid_t pid)
{
	struct touch t = {.number = object, .fuse = true, .time_ns = loop_now_ns(s->o.loop)};

	if (!s->blind || list_empty(&s->alive) || !len)
		return;
	t.unit = (uint32_t)(off / PROFILE_UNIT);
	t.units = (uint32_t)((off + len - 1) / PROFILE_UNIT - off / PROFILE_UNIT) + 1;
	space_event(s, SPACE_OF_PROCESS | (uint64_t)pid, pid, &t, (struct str){0}, t.time_ns);
}

/* The same again, a moment later: what FUSE sees is not without repeats. */
static bool is_repeat(const struct start *st, const struct touch *t)
{
	for (size_t i = st->touches_n; i-- > 0 && st->touches_n - i <= START_REPEATS;) {
		const struct touch *o = &st->touches[i];

		if (o->number == t->number && o->unit <= t->unit &&
		    o->unit + o->units >= t->unit + t->units)
			return true;
	}
	return false;
}

static void keep_touch(struct start *st, const struct touch *t)
{
	size_t cap = st->touches_cap ? 2 * st->touches_cap : 256;
	struct touch *grown;

	if (st->touches_n == START_TOUCHES_MAX) {
		st->cut = true;
		return;
	}
	if (st->touches_n == st->touches_cap) {
		grown = reallocarray(st->touches, cap, sizeof(*grown));
		if (!grown) {
			st->cut = true;
			return;
		}
		st->touches = grown;
		st->touches_cap = cap;
	}
	st->touches[st->touches_n++] = *t;
}

void start_touched(struct start *st, const struct touch *t)
{
	if ((t->file && t->dev != st->dev) || (t->fuse && is_repeat(st, t)))
		return;
	st->s->stats.touches++;
	st->new_ns = t->time_ns;
	if (st->learns)
		keep_touch(st, t);
	foresee_touched(st, t);
	waitq_wake_all(&st->changed);
}

/* Without a profile. */
static void guess(struct start *st)
{
	if (st->complete || !st->has_manifest)
		return;
	prefetch_start(st->s->o.prefetcher, &(struct prefetch_tree){.ref = str_of(st->ref),
								    .manifest = st->manifest,
								    .root = st->root,
								    .layers = st->layers,
								    .layers_n = st->layers_n});
}

/* What it is that runs. */
struct entry_job {
	struct start *st;
	pid_t pid;
	uint64_t now_ns;
	char entry[ENTRY_SIZE];
	size_t program_n;
	char program[];
};

static int entry_job(void *arg)
{
	struct entry_job *j = arg;

	return space_entry(j->st->root_fd, j->pid, (struct str){j->program, j->program_n},
			   j->entry);
}

may_suspend static int entry_task(void *arg)
{
	struct entry_job *j = arg;
	struct start *st = j->st;
	int r = work_run(st->s->o.threads, entry_job, j);

	if (r == -EAGAIN) {
		st->exec_ns = 0; /* again at the next step */
	} else if (r == 0) {
		memcpy(st->entry, j->entry, sizeof(st->entry));
		if (!foresee_entry(st, j->now_ns))
			guess(st);
		waitq_wake_all(&st->changed);
	}
	free(j);
	return 0;
}

void start_executed(struct start *st, struct str program, pid_t pid, uint64_t now_ns)
{
	struct entry_job *j;

	if (st->exec_ns)
		return;
	st->exec_ns = now_ns;
	j = calloc(1, sizeof(*j) + program.len);
	if (!j)
		return;
	*j = (struct entry_job){.st = st, .pid = pid, .now_ns = now_ns};
	j->program_n = program.len;
	if (program.len)
		memcpy(j->program, program.p, program.len);
	if (scope_spawn(&st->scope, entry_task, j, NULL) < 0)
		free(j);
	waitq_wake_all(&st->changed);
}

/* --- one start ---------------------------------------------------------------------------------
 */

static struct device *device_of(struct starts *s, dev_t dev)
{
	for (struct list *l = s->devices.next; l != &s->devices; l = l->next) {
		struct device *d = container_of(l, struct device, link);

		if (d->dev == dev)
			return d;
	}
	return NULL;
}

static void device_use(struct starts *s, dev_t dev)
{
	struct device *d = device_of(s, dev);

	if (!d) {
		d = calloc(1, sizeof(*d));
		if (!d)
			return;
		d->dev = dev;
		list_push(&s->devices, &d->link);
	}
	if (d->users++ == 0 && s->access && access_device(s->access, dev, true) < 0)
		log_debug("files of an image are not watched: too many images");
}

static void device_unuse(struct starts *s, dev_t dev)
{
	struct device *d = device_of(s, dev);

	if (!d || --d->users)
		return;
	if (s->access)
		access_device(s->access, dev, false);
	list_del(&d->link);
	free(d);
}

static bool is_over(const struct start *st)
{
	const struct starts_options *o = &st->s->o;
	uint64_t now = loop_now_ns(o->loop), last = st->exec_ns;

	if (st->gone)
		return true;
	if (!st->exec_ns)
		return now - st->begun_ns > START_EXEC_MS * NS_PER_MS;
	if (st->new_ns > last)
		last = st->new_ns;
	return now > last + o->quiet_ms * NS_PER_MS || now > st->exec_ns + o->watch_ms * NS_PER_MS;
}

/* The programs may be loaded only now. */
may_suspend static void watch_on(struct start *st)
{
	struct starts *s = st->s;

	if (st->watches || !s->access)
		return;
	st->watches = true;
	device_use(s, st->dev);
	access_watch(s->access);
	st->lost_before = starts_lost(s);
}

may_suspend static void watch_off(struct start *st)
{
	if (!st->watches)
		return;
	device_unuse(st->s, st->dev);
	access_unwatch(st->s->access);
}

/* The execution was not seen: what runs now? */
static void exec_missed(struct start *st)
{
	if (!st->exec_ns && st->pid && (st->late || !bpf_sees(st->s, PROGRAM_EXEC)))
		start_executed(st, (struct str){0}, st->pid, st->pid_ns);
}

may_suspend static void follow(struct start *st)
{
	int r = 0;

	while (r != -ECANCELED && !is_over(st)) {
		watch_on(st);
		exec_missed(st);
		foresee_step(st);
		r = waitq_wait_ms(&st->changed, START_STEP_MS);
	}
}

static void start_free(struct start *st)
{
	if (st->root_fd >= 0)
		close(st->root_fd);
	free(st->touches);
	free(st->layers);
	free(st->ref);
	free(st->root);
	free(st);
}

/* What came of it goes to the log and into the sums. */
static void account(struct start *st)
{
	struct starts_stats *to = &st->s->stats;
	struct predict_stats ps;

	foresee_end(st, &ps);
	to->asked_bytes += ps.asked.bytes;
	to->hit_bytes += ps.hits.bytes;
	to->late_bytes += ps.late.bytes;
	to->missed_bytes += ps.missed.bytes;
	to->unforeseen_bytes += ps.unforeseen.bytes;
	to->wasted_bytes += ps.wrong.bytes + ps.unused.bytes;
	to->stopped += ps.stopped;
	log_info("start over image=%s entry=%s touches=%zu asked=%llu hits=%llu late=%llu "
		 "missed=%llu unforeseen=%llu local=%llu wasted=%llu",
		 st->ref, st->entry, st->touches_n, (unsigned long long)ps.asked.bytes,
		 (unsigned long long)ps.hits.bytes, (unsigned long long)ps.late.bytes,
		 (unsigned long long)ps.missed.bytes, (unsigned long long)ps.unforeseen.bytes,
		 (unsigned long long)ps.local.bytes,
		 (unsigned long long)(ps.wrong.bytes + ps.unused.bytes));
}

may_suspend static int start_main(void *arg)
{
	struct start *st = arg;
	struct starts *s = st->s;

	bool known;

	watch_on(st);
	st->late = !st->watches;
	known = foresee_begin(st);
	fetch_know(s->o.fetcher, st->layers, st->layers_n, false);
	if (!known)
		guess(st);
	follow(st);
	scope_cancel(&st->scope);
	scope_wait(&st->scope);
	/* From now on no event is its own: a thread reads what was touched. */
	list_del(&st->link);
	spaces_drop(s, list_empty(&s->alive) ? NULL : st);
	if (st->learns && !task_cancelled())
		start_learn(st);
	recorders_end(s, st, -ECANCELED);
	account(st);
	s->stats.watched--;
	s->learning -= st->learns;
	watch_off(st);
	scope_fini(&st->scope);
	start_free(st);
	return 0;
}

/* One of an image at a time is learnt from, and what somebody waits for. */
static bool will_learn(struct starts *s, const struct start *st)
{
	bool recorded = false;

	for (struct list *l = s->recorders.next; l != &s->recorders; l = l->next) {
		struct recorder *r = container_of(l, struct recorder, link);

		if (!r->start && str_eq(r->repository, st->repository)) {
			r->start = st;
			recorded = true;
		}
	}
	if (recorded)
		return true;
	if (s->learning >= START_LEARNING_MAX)
		return false;
	for (struct list *l = s->alive.next; l != &s->alive; l = l->next) {
		struct start *o = container_of(l, struct start, link);

		if (o->learns && digest_eq(&o->manifest, &st->manifest))
			return false;
	}
	return true;
}

static struct start *start_new(struct starts *s, const struct start_of *of)
{
	struct start *st = calloc(1, sizeof(*st));
	struct stat sb;

	if (!st)
		return NULL;
	st->s = s;
	st->snapshot = of->snapshot;
	st->manifest = of->manifest;
	st->has_manifest = of->has_manifest;
	st->complete = of->complete;
	st->begun_ns = loop_now_ns(s->o.loop);
	st->when_ns = wall_now_ns();
	st->ref = strndup(of->ref.p, of->ref.len);
	st->root = strdup(of->root);
	st->layers = calloc(of->layers_n, sizeof(*st->layers));
	st->root_fd = open(of->root, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (!st->ref || !st->root || !st->layers || st->root_fd < 0 ||
	    fstat(st->root_fd, &sb) < 0) {
		start_free(st);
		return NULL;
	}
	st->dev = sb.st_dev;
	st->repository = profile_repository_of(str_of(st->ref));
	st->layers_n = of->layers_n;
	memcpy(st->layers, of->layers, of->layers_n * sizeof(*st->layers));
	waitq_init(&st->changed);
	scope_init(&st->scope, s->o.loop);
	return st;
}

void starts_begin(struct starts *s, const struct start_of *of)
{
	struct start *st = s->stats.watched < STARTS_MAX ? start_new(s, of) : NULL;

	if (!st)
		return;
	st->learns = will_learn(s, st);
	/* Until it is clear whether it is. */
	fetch_know(s->o.fetcher, st->layers, st->layers_n, true);
	if (scope_spawn(&s->scope, start_main, st, NULL) < 0) {
		fetch_know(s->o.fetcher, st->layers, st->layers_n, false);
		recorders_end(s, st, -ECANCELED);
		scope_fini(&st->scope);
		start_free(st);
		return;
	}
	list_push(&s->alive, &st->link);
	s->stats.watched++;
	s->stats.begun++;
	s->learning += st->learns;
}

void starts_end(struct starts *s, uint64_t snapshot)
{
	struct start *st = start_by_snapshot(s, snapshot);

	if (!st)
		return;
	st->gone = true;
	waitq_wake_all(&st->changed);
}

/* --- recordings --------------------------------------------------------------------------------
 */

void recorders_end(struct starts *s, const struct start *st, int result)
{
	for (struct list *l = s->recorders.next; l != &s->recorders; l = l->next) {
		struct recorder *r = container_of(l, struct recorder, link);

		if (r->start == st && r->result == 1) {
			r->result = result;
			waitq_wake_all(&r->changed);
		}
	}
}

may_suspend int starts_record(struct starts *s, struct str ref, unsigned timeout_ms,
			      struct buf *ret, struct err *err)
{
	struct recorder rec = {.repository = profile_repository_of(ref), .ret = ret, .result = 1};
	int r = 0;

	if (s->recorders_n >= RECORDERS_MAX)
		return err_set(err, -EBUSY, "%d starts are waited for already", RECORDERS_MAX);
	waitq_init(&rec.changed);
	list_push(&s->recorders, &rec.link);
	s->recorders_n++;
	r = waitq_wait_ms(&rec.changed, timeout_ms);
	while (r == -ETIMEDOUT && rec.start && rec.result == 1) /* it ends by itself */
		r = waitq_wait_ms(&rec.changed, s->o.watch_ms);
	list_del(&rec.link);
	s->recorders_n--;
	if (rec.result != 1)
		r = rec.result;
	if (r == -ETIMEDOUT)
		return err_set(err, r, "no container of " STR_FMT " has started", STR_ARG(ref));
	return r < 0 ? err_set(err, r, "the recording was not made") : 0;
}

/* --- life --------------------------------------------------------------------------------------
 */

may_suspend static int load_task(void *arg)
{
	struct starts *s = arg;
	char objects[4096], fill[4096];
	struct access_options o = {.objects = objects, .fill = fill, .event = on_access, .arg = s};
	struct err err = ERR_INIT;
	struct access *a = NULL;
	uint64_t begun = loop_now_ns(s->o.loop);
	int r;

	snprintf(objects, sizeof(objects), "%s/objects", s->o.root);
	snprintf(fill, sizeof(fill), "%s/fill", s->o.root);
	r = access_new(s->o.loop, s->o.threads, &o, &a, &err);
	if (r < 0)
		log_warn("starts are not watched by BPF error=\"%s\"", err_text(&err, r));
	s->access = a;
	s->blind = !sees_anything(s);
	if (!s->blind)
		log_info("starts are watched by BPF ms=%llu",
			 (unsigned long long)((loop_now_ns(s->o.loop) - begun) / NS_PER_MS));
	for (struct list *l = s->alive.next; l != &s->alive; l = l->next)
		waitq_wake_all(&container_of(l, struct start, link)->changed);
	return 0;
}

int starts_new(const struct starts_options *o, struct starts **ret, struct err *err)
{
	struct starts *s = calloc(1, sizeof(*s));
	char path[4096];
	int r;

	if (!s)
		return err_set(err, -ENOMEM, "out of memory");
	s->o = *o;
	s->blind = !o->bpf;
	list_init(&s->alive);
	list_init(&s->recorders);
	list_init(&s->devices);
	mutex_init(&s->learn);
	snprintf(path, sizeof(path), "%s/objects", o->root);
	s->objects_fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	r = s->objects_fd < 0 ? err_errno(err, -errno, "open %s", path) : map_init(&s->spaces);
	if (r < 0) {
		if (s->objects_fd >= 0)
			close(s->objects_fd);
		free(s);
		return r;
	}
	scope_init(&s->scope, o->loop);
	if (o->bpf && scope_spawn(&s->scope, load_task, s, NULL) < 0)
		log_warn("starts are not watched by BPF error=\"too many tasks\"");
	*ret = s;
	return 0;
}

may_suspend void starts_stop(struct starts *s)
{
	if (!s)
		return;
	scope_cancel(&s->scope);
	scope_wait(&s->scope);
	spaces_drop(s, NULL);
	access_free(s->access);
	s->access = NULL;
}

void starts_free(struct starts *s)
{
	if (!s)
		return;
	scope_fini(&s->scope);
	map_fini(&s->spaces);
	close(s->objects_fd);
	free(s);
}

void starts_stats(const struct starts *s, struct starts_stats *ret)
{
	*ret = s->stats;
	ret->lost = starts_lost(s);
}

struct access *starts_access(const struct starts *s)
{
	return s->access;
}
