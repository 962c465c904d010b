// SPDX-License-Identifier: Apache-2.0
/*
 * Accesses: owns the loaded programs, who watches, and the task that reads the ring. Loading,
 * attaching and detaching run on a thread, one at a time.
 */
#include "trace/access.h"

#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include "base/limits.h"
#include "base/log.h"
#include "loop/io.h"
#include "loop/scope.h"
#include "trace/access_place.h"

#include "base/banned.h"

struct access {
	struct loop *loop;
	struct work *work;
	struct access_options options;
	struct access_bpf *bpf;
	struct scope scope; /* the reader */
	uint64_t read, events, lost_logged;
	unsigned watches;
	bool attached, busy; /* busy: a thread changes what is attached */
	struct waitq changed;
	/* As the last blocking call has left them: threads change the originals. */
	struct {
		bool attached, logged;
		char reason[ACCESS_REASON_MAX]; /* empty: none */
	} programs[ACCESS_PROGRAMS];
};

/* --- from records to events ------------------------------------------------------------------ */

static void event(struct access *a, const struct access_event *e)
{
	a->events++;
	a->options.event(a->options.arg, e);
}

/* A run of bits is an event. */
static void on_touch(struct access *a, const struct access_touch *t, struct access_event *e)
{
	uint64_t mask = t->mask, base = (uint64_t)t->word * ACCESS_WORD_UNITS;
	unsigned first, n;

	e->kind = t->head.kind == ACCESS_RECORD_OBJECT ? ACCESS_OBJECT : ACCESS_FILE;
	if (e->kind == ACCESS_OBJECT)
		memcpy(e->key.bytes, t->key, DIGEST_SIZE);
	else
		e->ino = t->ino;
	while (mask) {
		first = (unsigned)__builtin_ctzll(mask);
		n = ~(mask >> first) ? (unsigned)__builtin_ctzll(~(mask >> first)) : 64;
		e->unit = base + first;
		e->units = n;
		event(a, e);
		mask = first + n < 64 ? mask & ~0ull << (first + n) : 0;
	}
}

static void on_exec(struct access *a, const struct access_exec *x, struct access_event *e)
{
	char path[ACCESS_PATH_MAX], args[ACCESS_ARGS_MAX + 1];
	size_t n = x->args_n < ACCESS_ARGS_MAX ? x->args_n : ACCESS_ARGS_MAX;

	memcpy(path, x->path, sizeof(path));
	path[sizeof(path) - 1] = '\0';
	memcpy(args, x->args, n);
	if (n && args[n - 1])
		args[n++] = '\0';
	e->kind = ACCESS_EXEC;
	e->cgroup = x->cgroup;
	e->path = path;
	e->args = (struct str){args, n};
	event(a, e);
}

static void on_record(void *arg, const struct access_record *r, size_t size)
{
	struct access_event e = {
		.time_ns = r->time_ns,
		.mnt_ns = r->mnt_ns,
		.inum = r->inum,
		.pid = (pid_t)r->pid,
		.dev = access_dev(r->dev),
	};
	struct access *a = arg;

	a->read++;
	if (r->kind == ACCESS_RECORD_EXEC && size >= sizeof(struct access_exec))
		on_exec(a, (const struct access_exec *)r, &e);
	else if (size >= sizeof(struct access_touch))
		on_touch(a, (const struct access_touch *)r, &e);
}

/* Reads the ring as long as there is one. */
may_suspend static int read_task(void *arg)
{
	struct access *a = arg;
	int r;

	while ((r = io_poll(access_bpf_fd(a->bpf), POLLIN, 0)) >= 0) {
		while (access_bpf_read(a->bpf, ACCESS_BURST, on_record, a) == ACCESS_BURST &&
		       !task_cancelled())
			task_yield();
	}
	if (r != -ECANCELED)
		log_error("accesses are not read any more: %s", strerror(-r));
	return 0;
}

/* --- who watches ----------------------------------------------------------------------------- */

static int attach_job(void *arg)
{
	access_bpf_attach(arg);
	return 0;
}

static int detach_job(void *arg)
{
	access_bpf_detach(arg);
	return 0;
}

/* Each reason is logged once. */
static void reason_log(struct access *a, enum access_program p)
{
	if (!a->programs[p].reason[0] || a->programs[p].logged)
		return;
	a->programs[p].logged = true;
	if (p == PROGRAM_ADD_PAGE)
		log_debug("accesses: %s: %s", access_bpf_tracepoint(a->bpf, p),
			  a->programs[p].reason);
	else
		log_warn("accesses: %s is not watched: %s", access_bpf_tracepoint(a->bpf, p),
			 a->programs[p].reason);
}

static void programs_look(struct access *a)
{
	const char *reason;

	for (enum access_program p = 0; p < ACCESS_PROGRAMS; p++) {
		reason = access_bpf_reason(a->bpf, p);
		snprintf(a->programs[p].reason, sizeof(a->programs[p].reason), "%s",
			 reason ? reason : "");
		a->programs[p].attached = access_bpf_attached(a->bpf, p);
		reason_log(a, p);
	}
}

static void lost_log(struct access *a)
{
	uint64_t n[ACCESS_COUNTERS];

	access_bpf_counters(a->bpf, n);
	if (n[ACCESS_LOST] != a->lost_logged)
		log_warn("accesses: the ring was full lost=%llu",
			 (unsigned long long)(n[ACCESS_LOST] - a->lost_logged));
	a->lost_logged = n[ACCESS_LOST];
}

/* Attached or not as it is wanted when this returns. Who comes while a thread is at it waits. */
may_suspend static void settle(struct access *a)
{
	bool on;

	while (a->busy || a->attached != (a->watches > 0)) {
		if (a->busy) {
			waitq_wait_always(&a->changed);
			continue;
		}
		on = a->watches > 0;
		a->busy = true;
		if (work_run(a->work, on ? attach_job : detach_job, a->bpf) < 0)
			task_yield(); /* the threads have too much to do: again */
		else
			a->attached = on;
		a->busy = false;
		waitq_wake_all(&a->changed);
		programs_look(a);
		if (!on)
			lost_log(a);
	}
}

may_suspend void access_watch(struct access *a)
{
	a->watches++;
	settle(a);
}

may_suspend void access_unwatch(struct access *a)
{
	require(a->watches > 0);
	a->watches--;
	settle(a);
}

/* --- what is told ---------------------------------------------------------------------------- */

void access_ignore(struct access *a, uint64_t mnt_ns)
{
	int r = access_bpf_ignore(a->bpf, mnt_ns);

	if (r < 0)
		log_debug("accesses: ignore %llu: %s", (unsigned long long)mnt_ns, strerror(-r));
}

int access_device(struct access *a, dev_t dev, bool on)
{
	return access_bpf_device(a->bpf, access_s_dev(dev), on);
}

void access_stats(struct access *a, struct access_stats *ret)
{
	uint64_t n[ACCESS_COUNTERS];

	access_bpf_counters(a->bpf, n);
	*ret = (struct access_stats){
		.told = n[ACCESS_TOLD],
		.lost = n[ACCESS_LOST],
		.read = a->read,
		.events = a->events,
		.watches = a->watches,
	};
	for (enum access_program p = 0; p < ACCESS_PROGRAMS; p++) {
		ret->programs[p].tracepoint = access_bpf_tracepoint(a->bpf, p);
		ret->programs[p].reason = a->programs[p].reason[0] ? a->programs[p].reason : NULL;
		ret->programs[p].attached = a->programs[p].attached;
	}
}

/* --- life ------------------------------------------------------------------------------------ */

struct load {
	const struct access_options *options;
	struct access_bpf *bpf;
};

static uint32_t ns_inum(const char *path)
{
	struct stat st;

	return stat(path, &st) == 0 ? (uint32_t)st.st_ino : 0;
}

/* Looks at places and namespaces, and loads. On a thread: the fill mount is served by the loop. */
static int load_job(void *arg)
{
	struct load *l = arg;
	const struct access_options *o = l->options;
	struct access_bpf_options b = {
		.ring_bytes = o->ring_bytes ? o->ring_bytes : ACCESS_RING_BYTES,
	};
	struct access_settings *s = &b.settings;
	struct access_place place;

	memcpy(b.tracepoints, o->tracepoints, sizeof(b.tracepoints));
	memcpy(b.refused, o->refused, sizeof(b.refused));
	if (o->objects && access_place(o->objects, &place) == 0) {
		s->objects_dev = place.s_dev;
		s->objects_ino = place.ino;
	}
	if (o->fill && access_place(o->fill, &place) == 0 && place.mount_root)
		s->fill_dev = place.s_dev;
	if (!o->own_too)
		s->own_inums[0] = ns_inum("/proc/self/ns/mnt");
	s->own_inums[1] = ns_inum("/proc/1/ns/mnt");
	if (o->own_too && s->own_inums[1] == ns_inum("/proc/self/ns/mnt"))
		s->own_inums[1] = 0;
	s->pid_ns = ns_inum("/proc/self/ns/pid");
	s->unit_shift =
		(uint32_t)__builtin_ctzl(ACCESS_UNIT / (unsigned long)sysconf(_SC_PAGESIZE));
	return access_bpf_load(&b, &l->bpf);
}

static int free_job(void *arg)
{
	access_bpf_free(arg);
	return 0;
}

may_suspend int access_new(struct loop *loop, struct work *work, const struct access_options *o,
			   struct access **ret, struct err *err)
{
	auto_free struct access *a = calloc(1, sizeof(*a));
	struct load load = {.options = o};
	int r;

	if (!a)
		return err_set(err, -ENOMEM, "out of memory");
	a->loop = loop;
	a->work = work;
	a->options = *o;
	waitq_init(&a->changed);
	scope_init(&a->scope, loop);
	r = work_run(work, load_job, &load);
	if (r < 0)
		return err_errno(err, r, "load the programs that watch accesses");
	a->bpf = load.bpf;
	programs_look(a);
	if (access_bpf_fd(a->bpf) >= 0)
		r = scope_spawn(&a->scope, read_task, a, NULL);
	if (r < 0) {
		access_bpf_free(a->bpf);
		return err_errno(err, r, "start reading accesses");
	}
	*ret = take_ptr(a);
	return 0;
}

may_suspend void access_free(struct access *a)
{
	if (!a)
		return;
	require(!a->busy);
	scope_cancel(&a->scope);
	scope_wait(&a->scope);
	scope_fini(&a->scope);
	if (work_run(a->work, free_job, a->bpf) < 0)
		access_bpf_free(a->bpf);
	free(a);
}
